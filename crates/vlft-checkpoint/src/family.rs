//! Which models there are: the one table of what is supported and what its near relatives are, by the
//! names in `config.json`.

use std::path::Path;

use serde_json::Value;
use vlft_base::input::read_text;
use vlft_base::{Diagnostic, Result};

/// A model that `config.json` may be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Family {
    /// `model_type` of `config.json`.
    pub model_type: &'static str,
    /// `architectures[0]`; empty: any.
    pub architecture: &'static str,
    /// For people.
    pub what: &'static str,
    pub supported: bool,
}

/// One line per model type. Embedding and Reranker checkpoints have the names of the models they were
/// trained from.
pub const FAMILIES: [Family; 12] = [
    Family {
        model_type: "qwen3_vl",
        architecture: "Qwen3VLForConditionalGeneration",
        what: "a dense Qwen3-VL (2B, 4B, 8B, 32B; Instruct, Thinking, Embedding, Reranker)",
        supported: true,
    },
    Family {
        model_type: "qwen3_vl_moe",
        architecture: "Qwen3VLMoeForConditionalGeneration",
        what: "a Qwen3-VL with experts (30B-A3B, 235B-A22B; Instruct, Thinking)",
        supported: true,
    },
    other("qwen2_vl", "Qwen2-VL"),
    other("qwen2_5_vl", "Qwen2.5-VL"),
    other("qwen2_5_omni", "Qwen2.5-Omni"),
    other("qwen3_omni_moe", "Qwen3-Omni"),
    other("qwen3_5", "Qwen3.5"),
    other("qwen3_5_moe", "Qwen3.5 with experts"),
    other("qwen3", "Qwen3, a language model without images"),
    other(
        "qwen3_moe",
        "Qwen3 with experts, a language model without images",
    ),
    other("qwen3_next", "Qwen3-Next, a language model without images"),
    other("qwen3_vl_text", "the language half of a Qwen3-VL by itself"),
];

const fn other(model_type: &'static str, what: &'static str) -> Family {
    Family {
        model_type,
        architecture: "",
        what,
        supported: false,
    }
}

/// What is supported, in one line.
pub const SUPPORTED: &str = "Qwen3-VL-2B, 4B, 8B, 32B, 30B-A3B or 235B-A22B, Instruct or Thinking, and Qwen3-VL-Embedding and -Reranker";

impl Family {
    /// The supported model that this `config.json` is of.
    pub fn of(config: &Value) -> Option<&'static Self> {
        let (model_type, architecture) = (model_type(config), architecture(config));
        let ours = FAMILIES.iter().filter(|family| family.supported);
        ours.into_iter().find(|family| {
            family.model_type == model_type
                && (architecture.is_empty() || architecture == family.architecture)
        })
    }

    /// [`Self::of`], or what it is instead: a near relative would load and be silently wrong. `path` is only
    /// named in errors.
    pub fn supported(config: &Value, path: &Path) -> Result<&'static Self> {
        if let Some(family) = Self::of(config) {
            return Ok(family);
        }
        let (model_type, architecture) = (model_type(config), architecture(config));
        if model_type.is_empty() && architecture.is_empty() {
            return Err(Diagnostic::error("missing key `model_type`")
                .at(path)
                .expected("`qwen3_vl` or `qwen3_vl_moe`")
                .hint("is this the config.json of a Qwen3-VL model?"));
        }
        let name = match architecture {
            "" => model_type,
            _ => architecture,
        };
        let what = Self::describe(config);
        Err(
            Diagnostic::error(format!("`{name}` is {what}, not a Qwen3-VL"))
                .at(path)
                .detail("`model_type`")
                .expected("`qwen3_vl` or `qwen3_vl_moe`")
                .found(format!("`{model_type}`"))
                .hint(format!("use {SUPPORTED}")),
        )
    }

    /// Refuses the folder of another model by its `config.json`, for commands that need its tokenizer and
    /// image settings only. A folder that has just those, and no config, passes.
    pub fn check_dir(dir: &Path) -> Result<()> {
        let path = dir.join("config.json");
        let text = read_text(&path).unwrap_or_default();
        match serde_json::from_str::<Value>(&text) {
            // Reading the rest says better what is wrong with such a file.
            Err(_) => Ok(()),
            Ok(config) => match (model_type(&config), architecture(&config)) {
                ("", "") => Ok(()),
                _ => Self::supported(&config, &path).map(|_| ()),
            },
        }
    }

    /// What a `config.json` is of, in words, whether it is supported or not.
    pub fn describe(config: &Value) -> String {
        let model_type = model_type(config);
        let known = FAMILIES
            .iter()
            .find(|family| family.model_type == model_type);
        match (known, architecture(config)) {
            (Some(family), found)
                if found.is_empty() || !family.supported || found == family.architecture =>
            {
                family.what.to_string()
            }
            (Some(_), _) => format!("another model on `{model_type}`"),
            (None, _) if model_type.is_empty() => "a model of unknown type".to_string(),
            (None, _) => model_type.to_string(),
        }
    }
}

pub(crate) fn model_type(config: &Value) -> &str {
    let found = config.get("model_type").and_then(Value::as_str);
    found.unwrap_or("")
}

pub(crate) fn architecture(config: &Value) -> &str {
    let found = config.pointer("/architectures/0").and_then(Value::as_str);
    found.unwrap_or("")
}
