//! File names that are fit for every system we run on.

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

#[cfg(test)]
mod tests {
    use super::is_reserved;

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
