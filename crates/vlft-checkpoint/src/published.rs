//! The published sizes of Qwen3-VL, as their `config.json` has them: to name a model by its sizes,
//! and to know the shapes of one that is not at hand.

use serde_json::{Value, json};
use vlft_base::{Diagnostic, Result, did_you_mean, one_of};

use crate::config::Config;

/// One published model.
pub struct Published {
    pub name: &'static str,
    d: usize,
    /// Of the dense layers; with experts there are none.
    ffn: usize,
    layers: usize,
    heads: usize,
    key_value_heads: usize,
    tied: bool,
    vision: &'static Vision,
    experts: Option<Experts>,
}

struct Vision {
    depth: usize,
    d: usize,
    ffn: usize,
    deepstack: [usize; 3],
}

struct Experts {
    count: usize,
    per_token: usize,
    width: usize,
}

static SMALL: Vision = Vision {
    depth: 24,
    d: 1024,
    ffn: 4096,
    deepstack: [5, 11, 17],
};

static LARGE: Vision = Vision {
    depth: 27,
    d: 1152,
    ffn: 4304,
    deepstack: [8, 16, 24],
};

const HEAD: usize = 128;

/// Sizes from the published configs. The dense ones come first.
pub static PUBLISHED: [Published; 6] = [
    dense("Qwen3-VL-2B", [2048, 6144, 28, 16], true, &SMALL),
    dense("Qwen3-VL-4B", [2560, 9728, 36, 32], true, &SMALL),
    dense("Qwen3-VL-8B", [4096, 12288, 36, 32], false, &LARGE),
    dense("Qwen3-VL-32B", [5120, 25600, 64, 64], false, &LARGE),
    Published {
        key_value_heads: 4,
        experts: Some(Experts {
            count: 128,
            per_token: 8,
            width: 768,
        }),
        ..dense("Qwen3-VL-30B-A3B", [2048, 6144, 48, 32], false, &LARGE)
    },
    Published {
        key_value_heads: 4,
        experts: Some(Experts {
            count: 128,
            per_token: 8,
            width: 1536,
        }),
        ..dense("Qwen3-VL-235B-A22B", [4096, 12288, 94, 64], false, &LARGE)
    },
];

/// `sizes`: width, width of the MLP, layers, heads.
const fn dense(
    name: &'static str,
    sizes: [usize; 4],
    tied: bool,
    vision: &'static Vision,
) -> Published {
    let [d, ffn, layers, heads] = sizes;
    Published {
        name,
        d,
        ffn,
        layers,
        heads,
        key_value_heads: 8,
        tied,
        vision,
        experts: None,
    }
}

/// The published model of a short name such as `8b` or `30b-a3b`.
pub fn find(name: &str) -> Result<&'static Published> {
    let wanted = name.to_ascii_lowercase();
    let found = PUBLISHED.iter().find(|p| p.short_name() == wanted);
    found.ok_or_else(|| {
        let names: Vec<String> = PUBLISHED.iter().map(Published::short_name).collect();
        let names = || names.iter().map(String::as_str);
        let unknown = Diagnostic::error(format!("unknown size `{name}`")).expected(one_of(names()));
        match did_you_mean(&wanted, names()) {
            Some(near) => unknown.hint(format!("did you mean `{near}`?")),
            None => unknown,
        }
    })
}

/// Whether a model of this name is one of those published without experts: `Qwen3-VL-8B-Instruct`.
pub fn is_dense(name: &str) -> bool {
    let mut dense = PUBLISHED.iter().filter(|p| p.experts.is_none());
    dense.any(|p| {
        let rest = name.strip_prefix(p.name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

impl Published {
    /// `8b`, `30b-a3b`.
    pub fn short_name(&self) -> String {
        let name = self.name.strip_prefix("Qwen3-VL-").unwrap_or(self.name);
        name.to_ascii_lowercase()
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PUBLISHED.iter().find(|published| published.name == name)
    }

    /// Its `config.json`, as transformers reads it; ids of tokens are those of the published tokenizer.
    pub fn json(&self) -> Value {
        let vision = self.vision;
        let (architecture, family) = match self.experts {
            None => ("Qwen3VLForConditionalGeneration", "qwen3_vl"),
            Some(_) => ("Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe"),
        };
        let mut json = json!({
            "architectures": [architecture],
            "model_type": family,
            "image_token_id": 151_655,
            "video_token_id": 151_656,
            "vision_start_token_id": 151_652,
            "vision_end_token_id": 151_653,
            "tie_word_embeddings": self.tied,
            "text_config": {
                "model_type": format!("{family}_text"), "dtype": "bfloat16",
                "vocab_size": 151_936, "hidden_size": self.d, "intermediate_size": self.ffn,
                "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
                "num_key_value_heads": self.key_value_heads, "head_dim": HEAD,
                "hidden_act": "silu", "rope_theta": 5_000_000, "max_position_embeddings": 262_144,
                "attention_bias": false, "attention_dropout": 0.0, "initializer_range": 0.02,
                "rms_norm_eps": 1e-6, "use_cache": true, "tie_word_embeddings": self.tied,
                "bos_token_id": 151_643, "eos_token_id": 151_645,
                "rope_scaling": {
                    "mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_type": "default"
                }
            },
            "vision_config": {
                "model_type": family, "in_channels": 3, "initializer_range": 0.02,
                "depth": vision.depth, "hidden_size": vision.d, "intermediate_size": vision.ffn,
                "num_heads": 16, "patch_size": 16, "temporal_patch_size": 2,
                "spatial_merge_size": 2, "out_hidden_size": self.d,
                "num_position_embeddings": 2304, "deepstack_visual_indexes": vision.deepstack,
                "hidden_act": "gelu_pytorch_tanh"
            }
        });
        if let Some(experts) = &self.experts {
            let text = &mut json["text_config"];
            text["num_experts"] = json!(experts.count);
            text["num_experts_per_tok"] = json!(experts.per_token);
            text["moe_intermediate_size"] = json!(experts.width);
            text["decoder_sparse_step"] = json!(1);
            text["mlp_only_layers"] = json!([]);
            text["norm_topk_prob"] = json!(true);
        }
        json
    }

    pub fn config(&self) -> Config {
        Config::from_json(&self.json(), self.name.as_ref()).expect("the tests read each of them")
    }
}

/// The published model with these sizes.
pub fn by_config(config: &Config) -> Option<&'static Published> {
    PUBLISHED
        .iter()
        .find(|published| published.config().tensors() == config.tensors())
}

/// The published model that an adapter belongs to: by its number of layers, and by `(in, out)` of
/// the kinds of modules it has.
pub(crate) fn by_shapes(
    layers: usize,
    size: &dyn Fn(&str) -> Option<(usize, usize)>,
) -> Option<&'static Published> {
    let text = |module: &str| size(&format!("model.language_model.layers.{module}"));
    PUBLISHED.iter().find(|p| {
        let (queries, keys) = (p.heads * HEAD, p.key_value_heads * HEAD);
        let mlp = |width_in, width_out| p.experts.is_none().then_some((width_in, width_out));
        let kinds = [
            ("self_attn.q_proj", Some((p.d, queries))),
            ("self_attn.k_proj", Some((p.d, keys))),
            ("self_attn.v_proj", Some((p.d, keys))),
            ("self_attn.o_proj", Some((queries, p.d))),
            ("mlp.gate_proj", mlp(p.d, p.ffn)),
            ("mlp.up_proj", mlp(p.d, p.ffn)),
            ("mlp.down_proj", mlp(p.ffn, p.d)),
        ];
        let seen: Vec<bool> = kinds
            .iter()
            .filter_map(|(module, own)| text(module).map(|found| Some(found) == *own))
            .collect();
        layers == p.layers && !seen.is_empty() && seen.iter().all(|fits| *fits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Totals of the published checkpoints (8B and 30B-A3B as listed by Hugging Face, the others
    /// computed by hand from the same configs), with the numbers of tensors.
    #[test]
    fn parameters_and_tensors_are_those_of_the_published_files() {
        let found: Vec<_> = PUBLISHED
            .iter()
            .map(|published| {
                let tensors = published.config().tensors();
                let sizes = tensors.iter().map(|(_, s)| s.iter().product::<usize>());
                (published.name, sizes.sum::<usize>(), tensors.len())
            })
            .collect();
        assert_eq!(
            found,
            [
                ("Qwen3-VL-2B", 2_127_532_032, 625),
                ("Qwen3-VL-4B", 4_437_815_808, 713),
                ("Qwen3-VL-8B", 8_767_123_696, 750),
                ("Qwen3-VL-32B", 33_357_390_064, 1058),
                ("Qwen3-VL-30B-A3B", 31_070_754_032, 882),
                // The language model of Qwen3-235B-A22B, and this vision tower over 4096.
                ("Qwen3-VL-235B-A22B", 235_093_634_560 + 576_388_336, 1388),
            ]
        );
    }

    #[test]
    fn short_names_lead_to_models() {
        assert_eq!(find("8B").unwrap().name, "Qwen3-VL-8B");
        assert_eq!(find("30b-a3b").unwrap().name, "Qwen3-VL-30B-A3B");
        let error = find("30b-a3").err().expect("no such size");
        assert_eq!(error.hint_text(), Some("did you mean `30b-a3b`?"));
    }
}
