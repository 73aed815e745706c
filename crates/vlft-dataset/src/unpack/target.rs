//! Where an entry would land. Names in zips are what some program wrote: absolute, with `..`, with
//! the other system's separators.

use vlft_base::output::is_mark;

use crate::file_names::is_reserved;

/// Bytes; the limit of Linux, macOS and Windows.
const MAX_PART_BYTES: usize = 255;
const MAX_NAME_BYTES: usize = 1024;

/// By its extension.
pub(super) fn is_archive(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, e)| e);
    ["zip", "7z", "rar", "gz", "tar", "tgz"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// What systems leave in archives and nobody wants unpacked.
pub(super) fn is_junk(name: &str) -> bool {
    let mut parts = name.split(['/', '\\']);
    let is_fork = parts.clone().any(|part| part == "__MACOSX");
    let last = parts.rfind(|part| !part.is_empty()).unwrap_or("");
    let is_known =
        [".ds_store", "thumbs.db", "desktop.ini"].contains(&last.to_lowercase().as_str());
    is_fork || is_known || last.starts_with("._")
}

#[derive(Debug, PartialEq)]
pub(super) struct Safe {
    /// Relative, with `/`; no part is `..`, `.` or empty. Empty for the root itself.
    pub(super) path: String,
    /// Worth a warning.
    pub(super) odd: Option<&'static str>,
}

/// The path below the output directory, or why there is none. `\` counts as a separator: old
/// Windows programs write it, and on Windows it is one whatever the standard says.
pub(super) fn safe(name: &str) -> Result<Safe, String> {
    if name.len() > MAX_NAME_BYTES {
        return Err(format!(
            "has a name of {} bytes; {MAX_NAME_BYTES} are possible",
            name.len()
        ));
    }
    if name.starts_with(['/', '\\']) {
        return Err("would leave the output directory: its name is absolute".to_owned());
    }
    let mut odd = name
        .contains('\\')
        .then_some("has `\\` in its name, read as `/`");
    let mut parts = Vec::new();
    for part in name.split(['/', '\\']) {
        match part {
            "" | "." => continue,
            ".." => return Err("would leave the output directory: its name has `..`".to_owned()),
            _ => {}
        }
        if part.contains(':') {
            return Err("has `:` in its name, which is a drive or a stream on Windows".to_owned());
        }
        if part.chars().any(char::is_control) {
            return Err("has control characters in its name".to_owned());
        }
        if part.len() > MAX_PART_BYTES {
            let length = part.len();
            return Err(format!(
                "has a name of {length} bytes; {MAX_PART_BYTES} are possible"
            ));
        }
        if is_reserved(part) {
            return Err(format!("is named `{part}`, which is a device on Windows"));
        }
        if part.contains(['<', '>', '"', '|', '?', '*']) || part.ends_with(['.', ' ']) {
            if cfg!(windows) {
                return Err("has a name that Windows does not allow".to_owned());
            }
            odd = odd.or(Some("has a name that Windows does not allow"));
        }
        parts.push(part);
    }
    if parts.first().is_some_and(|part| is_mark(part)) {
        return Err("has a name that vlft needs while it writes the folder".to_owned());
    }
    Ok(Safe {
        path: parts.join("/"),
        odd,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_or_harm_are_refused() {
        let long = "x".repeat(300);
        let deep = "a/".repeat(600);
        for (name, expected) in [
            ("../up", "`..`"),
            ("a/../../b", "`..`"),
            ("a/..", "`..`"),
            ("..\\..\\b", "`..`"),
            ("/etc/passwd", "absolute"),
            ("\\\\server\\share", "absolute"),
            ("C:\\win\\x", "`:`"),
            ("c:x", "`:`"),
            ("a/b.png:stream", "`:`"),
            ("a\0b", "control"),
            ("a/\u{1b}[2J", "control"),
            ("CON", "device"),
            ("d/nul.txt", "device"),
            ("com1/x.png", "device"),
            (".vlft-partial", "needs"),
            ("./.vlft-replacing", "needs"),
            (&long, "255"),
            (&deep, "1024"),
        ] {
            let refused = safe(name).unwrap_err();
            assert!(refused.contains(expected), "{name}: {refused}");
        }
    }

    #[test]
    fn honest_names_stay_as_they_are() {
        for (name, path, odd) in [
            ("a.png", "a.png", false),
            ("./a//b/./c.json", "a/b/c.json", false),
            ("dir/", "dir", false),
            ("./", "", false),
            (
                "FWD_(S)SOME RICE CO.LTD.(C)A BUYER (1)_1.jpg",
                "FWD_(S)SOME RICE CO.LTD.(C)A BUYER (1)_1.jpg",
                false,
            ),
            ("a..b/...c", "a..b/...c", false),
            ("images\\a.png", "images/a.png", true),
            #[cfg(not(windows))]
            ("CO. LTD./a?.png", "CO. LTD./a?.png", true),
        ] {
            let safe = safe(name).unwrap();
            assert_eq!(
                (safe.path.as_str(), safe.odd.is_some()),
                (path, odd),
                "{name}"
            );
        }
    }

    #[test]
    fn junk_is_known() {
        for name in [
            "__MACOSX/a.png",
            "a/__MACOSX/._b",
            ".DS_Store",
            "d/Thumbs.db",
            "d/._a.png",
            "x/.DS_Store/",
        ] {
            assert!(is_junk(name), "{name}");
        }
        for name in ["a.png", "MACOSX/a", "d._a.png", "store.ds", ""] {
            assert!(!is_junk(name), "{name}");
        }
    }
}
