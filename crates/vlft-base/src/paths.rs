//! Paths that a person typed: the name they meant, a folder where a file belongs, an output that is
//! an input too. And the places of this machine: the cache, Python.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Diagnostic, Result, did_you_mean};

/// The names under which Python 3 is found.
pub const PYTHONS: &[&str] = if cfg!(windows) {
    &["py", "python", "python3"]
} else {
    &["python3", "python"]
};

/// `VLFT_CACHE`, or the system's place for caches with `vlft` below it.
///
/// # Errors
/// Neither is set, and the user has no home.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    if let Some(dir) = set("VLFT_CACHE") {
        return Ok(dir);
    }
    let caches = if cfg!(windows) {
        set("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        env::home_dir().map(|home| home.join("Library/Caches"))
    } else {
        set("XDG_CACHE_HOME").or_else(|| env::home_dir().map(|home| home.join(".cache")))
    };
    caches.map(|dir| dir.join("vlft")).ok_or_else(|| {
        Diagnostic::error("this user has no cache directory")
            .hint("set `VLFT_CACHE` to a directory that you may write to")
    })
}

/// The name in the same directory that looks most like this one.
pub fn nearest_sibling(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut siblings: Vec<String> = fs::read_dir(parent)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    siblings.sort();
    did_you_mean(name, siblings.iter().map(String::as_str)).map(str::to_owned)
}

/// The first file in a folder with this extension, as an example of what could have been meant.
pub fn example_in(folder: &Path, extension: &str) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e.eq_ignore_ascii_case(extension))
        })
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files.into_iter().next()
}

/// An output must be none of the inputs, however it is spelt and through whatever links: replacing it
/// would destroy what it is made from. The temporary name that it is written under counts too.
/// `option` is what a person typed before the path, such as `--out`.
pub fn not_an_input<'a>(
    option: &str,
    out: &Path,
    inputs: impl IntoIterator<Item = &'a Path>,
) -> Result<()> {
    let written: Vec<PathBuf> = [out.to_path_buf(), crate::output::partial_name(out)]
        .iter()
        .filter_map(|path| path.canonicalize().ok())
        .collect();
    let is_written = |input: &&Path| {
        input
            .canonicalize()
            .is_ok_and(|path| written.contains(&path))
    };
    match inputs.into_iter().find(is_written) {
        Some(input) => Err(
            Diagnostic::error(format!("`{option}` would replace an input"))
                .at(out)
                .caused_by(format!("`{}` is read by this command", input.display()))
                .hint(format!("choose another name for `{option}`")),
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_known_by_any_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        for name in ["in.jsonl", "a.jsonl.partial", "other.jsonl"] {
            fs::write(at(name), "x").unwrap();
        }
        let check = |out: &str| {
            not_an_input(
                "--out",
                &at(out),
                [at("in.jsonl"), at("a.jsonl.partial")]
                    .iter()
                    .map(PathBuf::as_path),
            )
        };
        assert!(check("other.jsonl").is_ok() && check("new.jsonl").is_ok());
        // The name it would be written under first is an input.
        for out in ["in.jsonl", "sub/../in.jsonl", "a.jsonl"] {
            let error = check(out).unwrap_err();
            assert_eq!(error.message(), "`--out` would replace an input", "{out}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(at("in.jsonl"), at("link.jsonl")).unwrap();
            assert!(check("link.jsonl").is_err());
        }
    }

    #[test]
    fn near_names_and_examples_are_found_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("train.jsonl"), "").unwrap();
        fs::write(dir.path().join("test.jsonl"), "").unwrap();
        assert_eq!(
            nearest_sibling(&dir.path().join("trian.jsonl")).as_deref(),
            Some("train.jsonl")
        );
        assert_eq!(nearest_sibling(&dir.path().join("none/trian.jsonl")), None);
        assert_eq!(
            example_in(dir.path(), "jsonl"),
            Some(dir.path().join("test.jsonl"))
        );
        assert_eq!(example_in(dir.path(), "toml"), None);
    }
}
