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
use tokenizer::Tokenizer;

/// The template of this model: Qwen's chat format in our own words.
pub const CHAT_TEMPLATE: &str = include_str!("chat_template.jinja");

/// Writes every file but the weights into the existing directory `dir`, replacing what was there.
///
/// The embedding gets [`Size::vocab_size`] rows, a few more than the tokenizer has tokens, as
/// published models have.
pub fn write_files(dir: &Path, size: &Size) -> Result<()> {
    let tokenizer = Tokenizer::train(&corpus::texts(), size.vocab_size);
    let config = config::config(size, &tokenizer);
    write(dir, &config, [size.min_pixels, size.max_pixels], &tokenizer)
}

/// The same around a `config.json` of any size, that of a published model say: its embedding is larger
/// than this tokenizer needs, and its ids of special tokens become this tokenizer's.
pub fn write_files_for(dir: &Path, config: &Value) -> Result<()> {
    let rows = config.pointer("/text_config/vocab_size");
    let rows = rows.and_then(Value::as_u64).unwrap_or(0) as usize;
    let tokenizer = Tokenizer::train(&corpus::texts(), rows.min(MOST_TOKENS));
    let config = config::with_ids_of(config.clone(), &tokenizer);
    write(dir, &config, PUBLISHED_PIXELS, &tokenizer)
}

/// The texts to learn from have no more words in them.
const MOST_TOKENS: usize = 2048;

/// Bounds of an image's area in the published `preprocessor_config.json`.
const PUBLISHED_PIXELS: [u32; 2] = [65_536, 16_777_216];

fn write(dir: &Path, config: &Value, pixels: [u32; 2], tokenizer: &Tokenizer) -> Result<()> {
    let json_files: [(&str, Value); 6] = [
        ("config.json", config.clone()),
        ("generation_config.json", config::generation(tokenizer)),
        ("preprocessor_config.json", config::preprocessor(pixels)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_of_another_size_gets_the_ids_of_this_tokenizer() {
        let dir = tempfile::tempdir().unwrap();
        let config = json!({
            "image_token_id": 151_655, "tie_word_embeddings": false,
            "text_config": { "vocab_size": 151_936, "hidden_size": 4096, "eos_token_id": 151_645 }
        });
        write_files_for(dir.path(), &config).unwrap();
        let read = |name: &str| -> Value {
            let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let (written, tokenizer) = (read("config.json"), read("tokenizer.json"));
        let id = |content: &str| {
            let added = tokenizer["added_tokens"].as_array().unwrap();
            let token = added.iter().find(|token| token["content"] == content);
            token.unwrap()["id"].clone()
        };
        assert_eq!(written["image_token_id"], id("<|image_pad|>"));
        assert_eq!(written["text_config"]["eos_token_id"], id("<|im_end|>"));
        assert_eq!(written["text_config"]["hidden_size"], 4096);
        let last = id("</think>").as_u64().unwrap();
        assert!((500..MOST_TOKENS as u64).contains(&last), "{last}");
    }
}
