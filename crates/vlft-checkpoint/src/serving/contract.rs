//! What `preprocess.lock.json` beside an adapter asks of a server: the resolution of training, and
//! the chat template. Read loosely: an adapter of another tool has none.

use std::path::Path;

use serde_json::Value;
use vlft_base::digest::sha256;
use vlft_base::input::read_text;

/// The pixel limits of training, and the hash of its chat template.
pub(crate) struct Contract {
    pub(crate) mm_processor_kwargs: Option<Value>,
    pub(crate) template_sha256: Option<String>,
    /// Whether the base was held in four bits.
    pub(crate) nf4: bool,
}

impl Contract {
    pub(crate) fn read(adapter: &Path) -> Option<Self> {
        let text = read_text(&adapter.join("preprocess.lock.json")).ok()?;
        let lock: Value = serde_json::from_str(&text).ok()?;
        let template = lock.pointer("/contract/chat_template_sha256");
        Some(Self {
            mm_processor_kwargs: lock
                .get("mm_processor_kwargs")
                .filter(|v| v.is_object())
                .cloned(),
            template_sha256: template.and_then(Value::as_str).map(String::from),
            nf4: lock.get("base").and_then(Value::as_str) == Some("nf4"),
        })
    }
}

/// The hash of the chat template of a model or adapter folder, in the order in which transformers
/// and vLLM look for it.
pub(crate) fn template_sha256(dir: &Path) -> Option<String> {
    if let Ok(text) = read_text(&dir.join("chat_template.jinja")) {
        return Some(sha256(text));
    }
    ["chat_template.json", "tokenizer_config.json"]
        .iter()
        .find_map(|name| {
            let text = read_text(&dir.join(name)).ok()?;
            let json: Value = serde_json::from_str(&text).ok()?;
            json.get("chat_template")
                .and_then(Value::as_str)
                .map(sha256)
        })
}
