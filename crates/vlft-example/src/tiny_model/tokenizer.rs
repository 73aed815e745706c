//! A byte-level BPE tokenizer like Qwen's, with Qwen's 26 added tokens in Qwen's order, as the JSON
//! files that `tokenizers` and transformers read.

use serde_json::{Map, Value, json};

use super::bpe::{self, Merge};

/// Ids 151643 to 151656 of the published tokenizer.
const SPECIAL: [&str; 14] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
];

/// Ids 151657 to 151668: added, but part of the text for whoever skips special tokens.
const NOT_SPECIAL: [&str; 12] = [
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<tool_response>",
    "</tool_response>",
    "<think>",
    "</think>",
];

/// How Qwen2's tokenizer cuts text into words.
const SPLIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Rows of the embedding that no token uses, as published models have some.
const UNUSED_ROWS: usize = 16;

pub(super) struct Tokenizer {
    /// Token `i` is `tokens[i]`: 256 bytes, then the merges.
    tokens: Vec<String>,
    merges: Vec<Merge>,
}

impl Tokenizer {
    pub(super) fn train(texts: &[String], vocab_size: usize) -> Self {
        let fixed = 256 + SPECIAL.len() + NOT_SPECIAL.len() + UNUSED_ROWS;
        let merges = bpe::train(texts, vocab_size.saturating_sub(fixed));
        let mut symbols: Vec<char> = (0..=255).map(bpe::byte_symbol).collect();
        symbols.sort_unstable();
        let mut tokens: Vec<String> = symbols.into_iter().map(String::from).collect();
        for (left, right) in &merges {
            let token = format!("{left}{right}");
            // Two merges may lead to the same token by different ways.
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        Self { tokens, merges }
    }

    fn added() -> impl Iterator<Item = (&'static str, bool)> {
        let special = SPECIAL.into_iter().map(|token| (token, true));
        special.chain(NOT_SPECIAL.into_iter().map(|token| (token, false)))
    }

    /// The id of an added token.
    pub(super) fn id(&self, token: &str) -> usize {
        let place = Self::added().position(|(name, _)| name == token);
        self.tokens.len() + place.expect("asked for Qwen's added tokens only")
    }

    /// Tokens before the added ones, with their ids.
    pub(super) fn vocabulary(&self) -> Map<String, Value> {
        let numbered = self.tokens.iter().enumerate();
        numbered
            .map(|(id, token)| (token.clone(), json!(id)))
            .collect()
    }

    pub(super) fn merges_txt(&self) -> String {
        let lines = self.merges.iter();
        lines
            .map(|(left, right)| format!("{left} {right}\n"))
            .collect()
    }

    pub(super) fn to_json(&self) -> Value {
        let byte_level = json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false
        });
        let added: Vec<Value> = Self::added()
            .map(|(content, special)| {
                json!({
                    "id": self.id(content), "content": content, "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false, "special": special
                })
            })
            .collect();
        json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": { "type": "NFC" },
            "pre_tokenizer": {
                "type": "Sequence",
                "pretokenizers": [
                    { "type": "Split", "pattern": { "Regex": SPLIT }, "behavior": "Isolated", "invert": false },
                    byte_level
                ]
            },
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": false,
                "vocab": self.vocabulary(),
                "merges": self.merges
            }
        })
    }

    pub(super) fn to_config_json(&self) -> Value {
        let decoder: Map<String, Value> = Self::added()
            .map(|(content, special)| {
                let entry = json!({
                    "content": content, "lstrip": false, "normalized": false, "rstrip": false,
                    "single_word": false, "special": special
                });
                (self.id(content).to_string(), entry)
            })
            .collect();
        json!({
            "add_bos_token": false,
            "add_prefix_space": false,
            "added_tokens_decoder": decoder,
            "additional_special_tokens": &SPECIAL[1..],
            "bos_token": null,
            "chat_template": super::CHAT_TEMPLATE,
            "clean_up_tokenization_spaces": false,
            "eos_token": "<|im_end|>",
            "errors": "replace",
            "model_max_length": 262_144,
            "pad_token": "<|endoftext|>",
            "split_special_tokens": false,
            "tokenizer_class": "Qwen2Tokenizer",
            "unk_token": null
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_tokens_follow_the_vocabulary_and_fit_the_embedding() {
        let tokenizer = Tokenizer::train(&super::super::corpus::texts(), 768);
        assert_eq!(tokenizer.id("<|endoftext|>"), tokenizer.tokens.len());
        let last = tokenizer.id("</think>");
        assert!((700..=768 - UNUSED_ROWS - 1).contains(&last), "{last}");
        let mut distinct = tokenizer.tokens.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), tokenizer.tokens.len());
    }
}
