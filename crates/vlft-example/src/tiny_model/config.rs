//! `config.json` and its neighbours in the style of the published checkpoints.

use serde_json::{Value, json};

use super::tokenizer::Tokenizer;

/// The sizes of a tiny model. [`Size::default`] is the demo's.
#[derive(Clone, Debug)]
pub struct Size {
    pub text: TextSize,
    pub vision: VisionSize,
    /// Rows of the embedding; the tokenizer learns as many merges as leave 16 rows unused.
    pub vocab_size: usize,
    /// True: the head is the embedding, as in the published 2B and 4B; false as in the 8B.
    pub tied: bool,
    /// Bounds of an image's area that go into `preprocessor_config.json`.
    pub min_pixels: u32,
    pub max_pixels: u32,
}

#[derive(Clone, Debug)]
pub struct TextSize {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub key_value_heads: usize,
    pub head_dim: usize,
    /// Temporal, height, width; their sum is half of `head_dim`.
    pub mrope_section: [usize; 3],
}

#[derive(Clone, Debug)]
pub struct VisionSize {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    /// A square: the learned grid of positions.
    pub positions: usize,
    /// After which blocks features go to the language model.
    pub deepstack: Vec<usize>,
}

impl Default for Size {
    /// About one million parameters: wide enough that the frozen random head can still name every
    /// token with near certainty (its logits reach the square root of the width), small enough for two cores.
    fn default() -> Self {
        Self {
            text: TextSize {
                hidden_size: 128,
                intermediate_size: 256,
                layers: 4,
                heads: 4,
                key_value_heads: 2,
                head_dim: 32,
                mrope_section: [6, 5, 5],
            },
            vision: VisionSize {
                hidden_size: 64,
                intermediate_size: 128,
                layers: 3,
                heads: 4,
                positions: 256,
                deepstack: vec![0, 1],
            },
            vocab_size: 768,
            tied: false,
            min_pixels: 4_096,
            max_pixels: 65_536,
        }
    }
}

pub(super) fn config(size: &Size, tokenizer: &Tokenizer) -> Value {
    let Size { text, vision, .. } = size;
    json!({
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "image_token_id": tokenizer.id("<|image_pad|>"),
        "model_type": "qwen3_vl",
        "text_config": {
            "attention_bias": false,
            "attention_dropout": 0.0,
            "bos_token_id": tokenizer.id("<|endoftext|>"),
            "dtype": "float32",
            "eos_token_id": tokenizer.id("<|im_end|>"),
            "head_dim": text.head_dim,
            "hidden_act": "silu",
            "hidden_size": text.hidden_size,
            "initializer_range": 0.02,
            "intermediate_size": text.intermediate_size,
            "max_position_embeddings": 262_144,
            "model_type": "qwen3_vl_text",
            "num_attention_heads": text.heads,
            "num_hidden_layers": text.layers,
            "num_key_value_heads": text.key_value_heads,
            "rms_norm_eps": 1e-6,
            "rope_scaling": {
                "mrope_interleaved": true,
                "mrope_section": text.mrope_section,
                "rope_type": "default"
            },
            "rope_theta": 5_000_000,
            "tie_word_embeddings": size.tied,
            "use_cache": true,
            "vocab_size": size.vocab_size
        },
        "tie_word_embeddings": size.tied,
        "transformers_version": "4.57.0.dev0",
        "video_token_id": tokenizer.id("<|video_pad|>"),
        "vision_config": {
            "deepstack_visual_indexes": vision.deepstack,
            "depth": vision.layers,
            "hidden_act": "gelu_pytorch_tanh",
            "hidden_size": vision.hidden_size,
            "in_channels": 3,
            "initializer_range": 0.02,
            "intermediate_size": vision.intermediate_size,
            "model_type": "qwen3_vl",
            "num_heads": vision.heads,
            "num_position_embeddings": vision.positions,
            "out_hidden_size": text.hidden_size,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2
        },
        "vision_end_token_id": tokenizer.id("<|vision_end|>"),
        "vision_start_token_id": tokenizer.id("<|vision_start|>")
    })
}

/// A config with its ids of special tokens replaced by this tokenizer's.
pub(super) fn with_ids_of(mut config: Value, tokenizer: &Tokenizer) -> Value {
    for (key, token) in [
        ("image_token_id", "<|image_pad|>"),
        ("video_token_id", "<|video_pad|>"),
        ("vision_start_token_id", "<|vision_start|>"),
        ("vision_end_token_id", "<|vision_end|>"),
    ] {
        config[key] = json!(tokenizer.id(token));
    }
    config["text_config"]["bos_token_id"] = json!(tokenizer.id("<|endoftext|>"));
    config["text_config"]["eos_token_id"] = json!(tokenizer.id("<|im_end|>"));
    config
}

pub(super) fn generation(tokenizer: &Tokenizer) -> Value {
    json!({
        "bos_token_id": tokenizer.id("<|endoftext|>"),
        "pad_token_id": tokenizer.id("<|endoftext|>"),
        "do_sample": false,
        "eos_token_id": [tokenizer.id("<|im_end|>"), tokenizer.id("<|endoftext|>")],
        "transformers_version": "4.57.0.dev0"
    })
}

/// The two "edges" are areas in pixels: so the published files say it.
pub(super) fn preprocessor([min_pixels, max_pixels]: [u32; 2]) -> Value {
    json!({
        "size": { "longest_edge": max_pixels, "shortest_edge": min_pixels },
        "patch_size": 16,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "Qwen3VLProcessor",
        "image_processor_type": "Qwen2VLImageProcessorFast"
    })
}
