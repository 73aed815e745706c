//! Tokens at which an answer ends: what the model's own files say, and in any case `<|im_end|>`,
//! which is what training teaches it to end with.

use std::path::Path;

use serde_json::Value;
use vlft_base::{Diagnostic, Result};

use crate::model_files::read_json;

/// In which file, under which key; the first one that is there counts, as in transformers.
const PLACES: [(&str, &[&str]); 3] = [
    ("generation_config.json", &["eos_token_id"]),
    ("config.json", &["text_config", "eos_token_id"]),
    ("config.json", &["eos_token_id"]),
];

/// `im_end` and the `eos_token_id` of the model directory, which is one number or a list.
pub(crate) fn stop_tokens(dir: &Path, im_end: u32) -> Result<Vec<u32>> {
    let mut stop = vec![im_end];
    for (file, keys) in PLACES {
        let path = dir.join(file);
        let Some(json) = read_json(&path)? else {
            continue;
        };
        let value = keys.iter().try_fold(&json, |value, key| value.get(key));
        let ids = match value {
            None | Some(Value::Null) => continue,
            Some(Value::Array(ids)) => ids.clone(),
            Some(id) => vec![id.clone()],
        };
        for id in ids {
            let id = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.ok_or_else(|| {
                Diagnostic::error("a value of the wrong type")
                    .at(&path)
                    .detail(format!("`{}`", keys.join(".")))
                    .expected("a token id, or a list of them")
            })?;
            if !stop.contains(&id) {
                stop.push(id);
            }
        }
        break;
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_first_file_that_names_them_counts_and_im_end_always_does() {
        let dir = tempfile::tempdir().unwrap();
        let stop = || stop_tokens(dir.path(), 7);
        assert_eq!(stop().unwrap(), [7]);
        fs::write(dir.path().join("config.json"), r#"{"eos_token_id":3}"#).unwrap();
        assert_eq!(stop().unwrap(), [7, 3]);
        let both = r#"{"eos_token_id":3,"text_config":{"eos_token_id":4}}"#;
        fs::write(dir.path().join("config.json"), both).unwrap();
        assert_eq!(stop().unwrap(), [7, 4]);
        let generation = dir.path().join("generation_config.json");
        fs::write(&generation, r#"{"eos_token_id":[7,9,5,9]}"#).unwrap();
        assert_eq!(stop().unwrap(), [7, 9, 5]);
        fs::write(&generation, r#"{"eos_token_id":null}"#).unwrap();
        assert_eq!(stop().unwrap(), [7, 4]);
        for wrong in ["-1", "\"a\"", "[1.5]", "4294967296"] {
            fs::write(&generation, format!("{{\"eos_token_id\":{wrong}}}")).unwrap();
            let error = stop().unwrap_err();
            assert_eq!(error.message(), "a value of the wrong type", "{wrong}");
        }
    }
}
