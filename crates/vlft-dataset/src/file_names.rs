//! File names that are fit for every system we run on.

use unicode_normalization::UnicodeNormalization;

/// Windows takes these names for devices, whatever their extension and case.
pub(crate) fn is_reserved(name: &str) -> bool {
    let base = name
        .split('.')
        .next()
        .unwrap_or(name)
        .trim_end()
        .to_ascii_lowercase();
    let port = |prefix: &str| {
        base.strip_prefix(prefix).is_some_and(|rest| {
            matches!(
                rest,
                "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" | "¹" | "²" | "³"
            )
        })
    };
    matches!(
        base.as_str(),
        "con" | "prn" | "aux" | "nul" | "conin$" | "conout$"
    ) || port("com")
        || port("lpt")
}

/// What file systems that ignore case and Unicode normalisation take for the same name.
pub(crate) fn folded(name: &str) -> String {
    name.nfc()
        .collect::<String>()
        .to_lowercase()
        .nfc()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_windows_are_known() {
        for name in ["con", "NUL.txt", "Com1", "lpt9.tar.gz", "aux .x", "COM²"] {
            assert!(is_reserved(name), "{name}");
        }
        for name in ["cons", "com", "com0", "com10", "xcon", "null", ""] {
            assert!(!is_reserved(name), "{name}");
        }
    }
}
