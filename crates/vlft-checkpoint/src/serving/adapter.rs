//! An adapter as somebody made it: opened without judging it.

use std::path::{Path, PathBuf};

use serde_json::Value;
use vlft_base::input::read_text;
use vlft_base::{Diagnostic, Result};

use super::contract::Contract;
use crate::checkpoint::Checkpoint;

/// A folder with `adapter_config.json` and `adapter_model.safetensors`, whatever is in them.
pub(crate) struct FoundAdapter {
    pub(crate) dir: PathBuf,
    pub(crate) config: Value,
    pub(crate) tensors: Checkpoint,
}

pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";
pub(crate) const CONFIG: &str = "adapter_config.json";

impl FoundAdapter {
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let config = read_config(dir)?;
        let weights = dir.join(WEIGHTS);
        if !weights.exists() {
            return Err(without_weights(dir, &weights));
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            config,
            tensors: Checkpoint::open_file(&weights)?,
        })
    }

    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.config.get(key).and_then(Value::as_str)
    }

    /// Who wrote it, as far as the files tell.
    pub(crate) fn maker(&self) -> &'static str {
        let has = |name: &str| self.dir.join(name).exists();
        let readme = read_text(&self.dir.join("README.md")).unwrap_or_default();
        let base = self.text("base_model_name_or_path").unwrap_or_default();
        let unsloth = self.config.pointer("/auto_mapping/unsloth_fixed").is_some();
        if has("preprocess.lock.json") {
            "vlft"
        } else if unsloth || base.starts_with("unsloth/") {
            "Unsloth"
        } else if readme.contains("llama-factory") {
            "LLaMA-Factory"
        } else if has("additional_config.json") || has("args.json") {
            "ms-swift"
        } else {
            "PEFT or a tool on top of it"
        }
    }
}

/// Whether an adapter says that its base was held in four bits: by its contract, or by the name of the
/// base, as Unsloth and bitsandbytes users have it.
pub(crate) fn trained_on_four_bits(dir: &Path) -> bool {
    if let Some(contract) = Contract::read(dir) {
        return contract.nf4;
    }
    let config = read_config(dir).unwrap_or_default();
    let base = config
        .get("base_model_name_or_path")
        .and_then(Value::as_str);
    base.is_some_and(|name| name.to_lowercase().contains("4bit"))
}

fn read_config(dir: &Path) -> Result<Value> {
    let path = dir.join(CONFIG);
    let text = read_text(&path).map_err(|e| {
        let error = Diagnostic::error("cannot read the adapter's config")
            .at(&path)
            .caused_by(e);
        if dir.join("adapter").join(CONFIG).exists() {
            error.hint(format!("did you mean `{}/adapter`?", dir.display()))
        } else if dir.join("config.json").exists() {
            error.hint("this is a model, not an adapter; `vlft info` says more about it")
        } else {
            error.hint(
                "an adapter is a folder with adapter_config.json and adapter_model.safetensors",
            )
        }
    })?;
    let json: Value = serde_json::from_str(&text).map_err(|e| {
        Diagnostic::error("the adapter's config is not JSON")
            .at_line(&path, e.line() as u64)
            .caused_by(e)
    })?;
    match json.is_object() {
        true => Ok(json),
        false => Err(Diagnostic::error("the adapter's config is not a JSON object").at(&path)),
    }
}

/// `.bin` and `.pt` are pickles, programs that Python runs; there is no well-kept reader for them
/// here, and converting takes one line.
fn without_weights(dir: &Path, weights: &Path) -> Diagnostic {
    let pickle = ["adapter_model.bin", "adapter_model.pt"]
        .into_iter()
        .find(|name| dir.join(name).exists());
    match pickle {
        None => Diagnostic::error("the adapter has no weights").at(weights),
        Some(name) => {
            Diagnostic::error("the adapter's weights are a pickle, which vlft does not read")
                .at(dir.join(name))
                .expected(format!("`{WEIGHTS}`"))
                .hint(format!(
                    "convert it: python -c \"import torch, safetensors.torch as s; \
                 s.save_file({{k: v.contiguous() for k, v in torch.load('{name}', \
                 map_location='cpu', weights_only=True).items()}}, '{WEIGHTS}', \
                 metadata={{'format': 'pt'}})\" in that folder"
                ))
        }
    }
}
