//! Reading the small JSON files of a model directory, with errors that name the file and the key.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result, input};

/// The text of `path`, `None` where there is no such file.
pub(crate) fn read_if_present(path: &Path) -> Result<Option<String>> {
    match input::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(cannot("read", path, e)),
    }
}

/// The JSON object in `path`, `None` where there is no such file.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>> {
    let Some(text) = read_if_present(path)? else {
        return Ok(None);
    };
    let value: Value = serde_json::from_str(&text).map_err(|e| {
        Diagnostic::error("not valid JSON")
            .at_line(path, e.line() as u64)
            .column(e.column() as u64)
            .caused_by(e)
            .hint("copy the file again from where the model came from")
    })?;
    if value.is_object() {
        Ok(Some(value))
    } else {
        Err(Diagnostic::error("not a JSON object").at(path))
    }
}

/// The value at `key` (dots go down), typed; `None` where it is absent or null.
pub(crate) fn get<T: DeserializeOwned>(
    object: &Value,
    key: &str,
    path: &Path,
) -> Result<Option<T>> {
    let found = key
        .split('.')
        .try_fold(object, |value, part| value.get(part));
    match found {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(value).map(Some).map_err(|e| {
            Diagnostic::error("a value of the wrong type")
                .at(path)
                .detail(format!("`{key}`"))
                .caused_by(e)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What never ends, or waits for ever, is no file of a model.
    #[test]
    #[cfg(unix)]
    fn only_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        assert_eq!(read_if_present(&path).unwrap(), None);
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let error = read_json(&path).unwrap_err();
        assert!(error.to_string().contains("no regular file"), "{error:?}");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(read_if_present(&path).unwrap().as_deref(), Some("{}"));
    }
}
