//! What versions of vLLM do with an adapter of Qwen3-VL, as tables. Each was read in the wheel of
//! that version (`vllm/lora`, `vllm/config/lora.py`, `models/qwen3_vl.py`); a version that nobody
//! read has no table.

use vlft_base::{Diagnostic, Result, one_of};

/// One version's rules.
#[derive(Debug)]
pub struct Version {
    /// `0.33`
    pub name: &'static str,
    /// What `--max-lora-rank` may be.
    pub ranks: &'static [usize],
    pub default_rank: usize,
    /// `hf_to_vllm_mapper.orig_to_new_prefix`, applied one after the other.
    pub prefixes: &'static [(&'static str, &'static str)],
    /// Last names of modules that a tensor may belong to; any other makes the whole adapter fail.
    pub last_names: &'static [&'static str],
    /// Those that a mixture of experts has beside them.
    pub moe_last_names: &'static [&'static str],
    /// Tensors with these endings are left out without a word, rightly: copies of base weights.
    pub skipped: &'static [&'static str],
    /// Keys of `adapter_config.json` that refuse the adapter when set.
    pub refused_keys: &'static [&'static str],
    /// Values of `init_lora_weights` that may be text; None: not looked at.
    pub inits: Option<&'static [&'static str]>,
    /// Whether `rank_pattern` and `alpha_pattern` are honoured; if not, they are ignored in silence.
    pub patterns: bool,
    /// What makes the vision tower take adapters; None: it never does.
    pub tower_flag: Option<&'static str>,
}

const PREFIXES: &[(&str, &str)] = &[
    ("model.visual.", "visual."),
    ("lm_head.", "language_model.lm_head."),
    ("model.language_model.", "language_model.model."),
];

const LAST_NAMES: &[&str] = &[
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
    "qkv",
    "proj",
    "linear_fc1",
    "linear_fc2",
    "embed_tokens",
    "lm_head",
];

const BASE_COPIES: &[&str] = &[
    ".embed_tokens.base_layer.weight",
    ".lm_head.base_layer.weight",
];

/// The newest first.
pub static VERSIONS: [Version; 3] = [
    Version {
        name: "0.33",
        ranks: &[1, 8, 16, 32, 64, 128, 256, 320, 512],
        default_rank: 16,
        prefixes: PREFIXES,
        last_names: LAST_NAMES,
        moe_last_names: &["gate", "experts"],
        skipped: BASE_COPIES,
        refused_keys: &[
            "use_dora",
            "lora_bias",
            "modules_to_save",
            "alora_invocation_tokens",
            "layer_replication",
            "use_bdlora",
            "use_qalora",
        ],
        inits: Some(&["gaussian", "eva", "orthogonal", "mica", "lora_ga"]),
        patterns: true,
        tower_flag: Some("--enable-tower-connector-lora"),
    },
    Version {
        name: "0.14",
        ranks: &[1, 8, 16, 32, 64, 128, 256, 320, 512],
        default_rank: 16,
        prefixes: PREFIXES,
        last_names: LAST_NAMES,
        moe_last_names: &["gate", "experts"],
        skipped: BASE_COPIES,
        refused_keys: &["use_dora", "modules_to_save"],
        inits: None,
        patterns: false,
        tower_flag: Some("--enable-tower-connector-lora"),
    },
    Version {
        name: "0.11",
        ranks: &[8, 16, 32, 64, 128, 256, 320, 512],
        default_rank: 16,
        prefixes: PREFIXES,
        last_names: LAST_NAMES,
        moe_last_names: &["gate"],
        skipped: &[],
        refused_keys: &["use_dora", "modules_to_save"],
        inits: None,
        patterns: false,
        tower_flag: None,
    },
];

impl Version {
    /// `0.33`, `0.33.0`, `v0.33.2`: patch releases share a table.
    pub fn named(name: &str) -> Result<&'static Self> {
        let short: Vec<&str> = name.trim_start_matches('v').split('.').take(2).collect();
        let short = short.join(".");
        VERSIONS.iter().find(|v| v.name == short).ok_or_else(|| {
            Diagnostic::error("there is no table for this version of vLLM")
                .found(format!("`{name}`"))
                .expected(one_of(VERSIONS.iter().map(|v| v.name)))
                .hint("take the nearest one, and try one page with and without the adapter")
        })
    }

    /// The smallest `--max-lora-rank` that holds this rank.
    pub fn rank_flag(&self, rank: usize) -> Option<usize> {
        self.ranks.iter().copied().find(|allowed| *allowed >= rank)
    }

    /// `WeightsMapper._map_name`
    fn map(&self, name: &str) -> String {
        let mut name = name.to_string();
        for (from, to) in self.prefixes {
            if let Some(rest) = name.strip_prefix(from) {
                name = format!("{to}{rest}");
            }
        }
        name
    }

    /// `model.language_model.layers.0.mlp.up_proj` as vLLM calls it.
    pub(super) fn module_name(&self, module: &str) -> String {
        let mapped = self.map(&format!("{module}."));
        mapped.trim_end_matches('.').to_string()
    }

    /// `parse_fine_tuned_lora_name`: the module and whether it is A; None where vLLM raises
    /// "is unsupported LoRA weight".
    pub(super) fn parse(&self, tensor: &str) -> Option<(String, bool)> {
        const PREFIX: &str = "base_model.model.";
        let name = match tensor.starts_with(PREFIX) {
            true => self.map(&tensor.replace(PREFIX, "")),
            false => self.map(tensor),
        };
        let parts: Vec<&str> = name.split('.').collect();
        match parts.as_slice() {
            [module @ .., part @ ("lora_A" | "lora_B"), "weight"] => {
                Some((module.join("."), *part == "lora_A"))
            }
            [
                module @ ..,
                part @ ("lora_embedding_A" | "lora_embedding_B"),
            ] => Some((module.join("."), *part == "lora_embedding_A")),
            _ => None,
        }
    }

    pub(super) fn takes_last_name(&self, module: &str, moe: bool) -> bool {
        let last = module.rsplit('.').next().unwrap_or(module);
        self.last_names.contains(&last) || (moe && self.moe_last_names.contains(&last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_mapped_as_the_wheel_does() {
        let vllm = Version::named("v0.33.0").unwrap();
        for (tensor, module) in [
            (
                "base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight",
                Some("language_model.model.layers.0.self_attn.q_proj"),
            ),
            (
                "model.visual.blocks.0.attn.qkv.lora_B.weight",
                Some("visual.blocks.0.attn.qkv"),
            ),
            (
                "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight",
                Some("model.layers.0.mlp.up_proj"),
            ),
            (
                "base_model.model.lm_head.lora_A.weight",
                Some("language_model.lm_head"),
            ),
            ("base_model.model.lm_head.weight", None),
            (
                "base_model.model.model.visual.blocks.0.attn.qkv.lora_A.default.weight",
                None,
            ),
        ] {
            let parsed = vllm.parse(tensor).map(|(module, _)| module);
            assert_eq!(parsed.as_deref(), module, "{tensor}");
        }
        assert_eq!(vllm.module_name("lm_head"), "language_model.lm_head");
        assert_eq!(vllm.rank_flag(24), Some(32));
        assert_eq!(vllm.rank_flag(513), None);
        assert!(Version::named("0.8.1").is_err());
    }
}
