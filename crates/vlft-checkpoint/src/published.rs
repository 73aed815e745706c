//! The published sizes of Qwen3-VL, as their `config.json` has them: to name a model by its sizes,
//! and to know the shapes of one that is not at hand.

use serde_json::{Value, json};

use crate::config::Config;

/// One published model.
pub struct Published {
    pub name: &'static str,
    d: usize,
    ffn: usize,
    layers: usize,
    heads: usize,
    tied: bool,
    /// The larger of the two vision towers.
    big_vision: bool,
}

/// The dense ones; sizes from the published configs.
pub static DENSE: [Published; 4] = [
    size("Qwen3-VL-2B", 2048, 6144, 28, 16, true, false),
    size("Qwen3-VL-4B", 2560, 9728, 36, 32, true, false),
    size("Qwen3-VL-8B", 4096, 12288, 36, 32, false, true),
    size("Qwen3-VL-32B", 5120, 25600, 64, 64, false, true),
];

const fn size(
    name: &'static str,
    d: usize,
    ffn: usize,
    layers: usize,
    heads: usize,
    tied: bool,
    big_vision: bool,
) -> Published {
    Published {
        name,
        d,
        ffn,
        layers,
        heads,
        tied,
        big_vision,
    }
}

impl Published {
    /// What its `config.json` says of sizes.
    pub fn json(&self) -> Value {
        let (depth, dv, dv_ffn, deepstack) = match self.big_vision {
            true => (27, 1152, 4304, [8, 16, 24]),
            false => (24, 1024, 4096, [5, 11, 17]),
        };
        json!({
            "architectures": ["Qwen3VLForConditionalGeneration"],
            "model_type": "qwen3_vl",
            "image_token_id": 151_655,
            "tie_word_embeddings": self.tied,
            "text_config": {
                "vocab_size": 151_936, "hidden_size": self.d, "intermediate_size": self.ffn,
                "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
                "rope_theta": 5_000_000, "max_position_embeddings": 262_144,
                "rope_scaling": {
                    "mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_type": "default"
                }
            },
            "vision_config": {
                "depth": depth, "hidden_size": dv, "intermediate_size": dv_ffn, "num_heads": 16,
                "patch_size": 16, "temporal_patch_size": 2, "spatial_merge_size": 2,
                "out_hidden_size": self.d, "num_position_embeddings": 2304,
                "deepstack_visual_indexes": deepstack, "hidden_act": "gelu_pytorch_tanh"
            }
        })
    }

    pub fn config(&self) -> Config {
        Config::from_json(&self.json(), self.name.as_ref()).expect("the tests read each of them")
    }
}

/// The published model with these sizes.
pub fn by_config(config: &Config) -> Option<&'static Published> {
    DENSE.iter().find(|published| {
        let own = published.config();
        own.text.hidden_size == config.text.hidden_size
            && own.linear_modules() == config.linear_modules()
            && own.tie_word_embeddings == config.tie_word_embeddings
    })
}

/// The published model that an adapter belongs to: by its number of layers, and by `(in, out)` of
/// the kinds of modules it has.
pub(crate) fn by_shapes(
    layers: usize,
    size: &dyn Fn(&str) -> Option<(usize, usize)>,
) -> Option<&'static Published> {
    let text = |module: &str| size(&format!("model.language_model.layers.{module}"));
    DENSE.iter().find(|p| {
        let kinds = [
            ("self_attn.q_proj", (p.d, p.heads * 128)),
            ("self_attn.k_proj", (p.d, 1024)),
            ("self_attn.v_proj", (p.d, 1024)),
            ("self_attn.o_proj", (p.heads * 128, p.d)),
            ("mlp.gate_proj", (p.d, p.ffn)),
            ("mlp.up_proj", (p.d, p.ffn)),
            ("mlp.down_proj", (p.ffn, p.d)),
        ];
        let seen: Vec<bool> = kinds
            .iter()
            .filter_map(|(module, own)| text(module).map(|found| found == *own))
            .collect();
        layers == p.layers && !seen.is_empty() && seen.iter().all(|fits| *fits)
    })
}
