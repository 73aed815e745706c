//! The files of a tiny Qwen3-VL beside its weights: configuration, tokenizer, chat template and
//! preprocessor, laid out as on the hub, so that transformers, vLLM and we load it like a real one. The
//! weights are `vlft-model`'s to write: this crate knows no tensors.

mod bpe;
mod config;
mod corpus;
mod tokenizer;

use std::path::Path;

use serde_json::{Value, json};
use vlft_base::Result;
use vlft_base::output::write_atomic;

pub use config::{Size, TextSize, VisionSize};

/// The template of this model: Qwen's chat format in our own words.
pub const CHAT_TEMPLATE: &str = include_str!("chat_template.jinja");

/// Writes every file but the weights into the existing directory `dir`, replacing what was there.
///
/// The embedding gets [`Size::vocab_size`] rows, a few more than the tokenizer has tokens, as
/// published models have.
pub fn write_files(dir: &Path, size: &Size) -> Result<()> {
    let tokenizer = tokenizer::Tokenizer::train(&corpus::texts(), size.vocab_size);
    let json_files: [(&str, Value); 6] = [
        ("config.json", config::config(size, &tokenizer)),
        ("generation_config.json", config::generation(&tokenizer)),
        ("preprocessor_config.json", config::preprocessor(size)),
        ("tokenizer.json", tokenizer.to_json()),
        ("tokenizer_config.json", tokenizer.to_config_json()),
        ("vocab.json", json!(tokenizer.vocabulary())),
    ];
    for (name, value) in json_files {
        let mut text = serde_json::to_string_pretty(&value).expect("plain JSON values");
        text.push('\n');
        write_atomic(&dir.join(name), text.as_bytes())?;
    }
    write_atomic(&dir.join("merges.txt"), tokenizer.merges_txt().as_bytes())?;
    write_atomic(&dir.join("chat_template.jinja"), CHAT_TEMPLATE.as_bytes())
}
