//! The one list of tensor names and shapes of a dense Qwen3-VL, as a function of its config: what a
//! checkpoint must hold, what a random one is made of, and which linear layers LoRA can adapt.

use crate::config::Config;
use crate::layout::Module;

impl Config {
    /// Every tensor of the checkpoint with its shape, in model order.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut list = Vec::new();
        let mut add = |name: String, shape: &[usize]| list.push((name, shape.to_vec()));
        let (t, v) = (&self.text, &self.vision);

        let dv = v.hidden_size;
        let visual = "model.visual";
        let (frames, side) = (v.temporal_patch_size, v.patch_size);
        let patch_shape = [dv, v.in_channels, frames, side, side];
        add(format!("{visual}.patch_embed.proj.weight"), &patch_shape);
        add(format!("{visual}.patch_embed.proj.bias"), &[dv]);
        add(
            format!("{visual}.pos_embed.weight"),
            &[v.num_position_embeddings, dv],
        );
        for i in 0..v.depth {
            let block = format!("{visual}.blocks.{i}");
            for norm in ["norm1", "norm2"] {
                add(format!("{block}.{norm}.weight"), &[dv]);
                add(format!("{block}.{norm}.bias"), &[dv]);
            }
            for module in self.vision_block_modules(i) {
                add(
                    format!("{}.weight", module.name),
                    &[module.out_features, module.in_features],
                );
                add(format!("{}.bias", module.name), &[module.out_features]);
            }
        }
        let merged = dv * v.merge_unit();
        for (i, merger) in self.mergers().iter().enumerate() {
            // The final one normalises before the patches are joined, the others after.
            let norm_width = if i == 0 { dv } else { merged };
            add(format!("{merger}.norm.weight"), &[norm_width]);
            add(format!("{merger}.norm.bias"), &[norm_width]);
            for module in self.merger_modules(merger) {
                let shape = [module.out_features, module.in_features];
                add(format!("{}.weight", module.name), &shape);
                add(format!("{}.bias", module.name), &[module.out_features]);
            }
        }

        let d = t.hidden_size;
        let language = "model.language_model";
        add(
            format!("{language}.embed_tokens.weight"),
            &[t.vocab_size, d],
        );
        for i in 0..t.num_hidden_layers {
            let layer = format!("{language}.layers.{i}");
            add(format!("{layer}.input_layernorm.weight"), &[d]);
            add(format!("{layer}.post_attention_layernorm.weight"), &[d]);
            add(format!("{layer}.self_attn.q_norm.weight"), &[t.head_dim]);
            add(format!("{layer}.self_attn.k_norm.weight"), &[t.head_dim]);
            for module in self.text_layer_modules(i) {
                add(
                    format!("{}.weight", module.name),
                    &[module.out_features, module.in_features],
                );
            }
        }
        add(format!("{language}.norm.weight"), &[d]);
        if !self.tie_word_embeddings {
            add("lm_head.weight".into(), &[t.vocab_size, d]);
        }
        list
    }

    /// All linear layers that LoRA can adapt: vision blocks, mergers, language layers, in forward
    /// order.
    pub fn linear_modules(&self) -> Vec<Module> {
        let vision = (0..self.vision.depth).flat_map(|i| self.vision_block_modules(i));
        let mergers = self
            .mergers()
            .into_iter()
            .flat_map(|m| self.merger_modules(&m));
        let text = (0..self.text.num_hidden_layers).flat_map(|i| self.text_layer_modules(i));
        vision.chain(mergers).chain(text).collect()
    }

    /// Paths of the final merger and of those of deepstack.
    fn mergers(&self) -> Vec<String> {
        let deepstack = 0..self.vision.deepstack_visual_indexes.len();
        let deepstack = deepstack.map(|k| format!("model.visual.deepstack_merger_list.{k}"));
        std::iter::once("model.visual.merger".to_string())
            .chain(deepstack)
            .collect()
    }

    fn merger_modules(&self, merger: &str) -> [Module; 2] {
        let merged = self.vision.hidden_size * self.vision.merge_unit();
        [
            ("linear_fc1", merged, merged),
            ("linear_fc2", merged, self.vision.out_hidden_size),
        ]
        .map(|(name, in_features, out_features)| Module {
            name: format!("{merger}.{name}"),
            in_features,
            out_features,
        })
    }

    fn vision_block_modules(&self, index: usize) -> Vec<Module> {
        let (dv, ffn) = (self.vision.hidden_size, self.vision.intermediate_size);
        [
            ("attn.qkv", dv, 3 * dv),
            ("attn.proj", dv, dv),
            ("mlp.linear_fc1", dv, ffn),
            ("mlp.linear_fc2", ffn, dv),
        ]
        .map(|(name, in_features, out_features)| Module {
            name: format!("model.visual.blocks.{index}.{name}"),
            in_features,
            out_features,
        })
        .to_vec()
    }

    fn text_layer_modules(&self, index: usize) -> Vec<Module> {
        let t = &self.text;
        let (d, ffn) = (t.hidden_size, t.intermediate_size);
        // nq * dh may differ from d: 4096 over 2560 in the 4B.
        let (queries, keys) = (
            t.num_attention_heads * t.head_dim,
            t.num_key_value_heads * t.head_dim,
        );
        [
            ("self_attn.q_proj", d, queries),
            ("self_attn.k_proj", d, keys),
            ("self_attn.v_proj", d, keys),
            ("self_attn.o_proj", queries, d),
            ("mlp.gate_proj", d, ffn),
            ("mlp.up_proj", d, ffn),
            ("mlp.down_proj", ffn, d),
        ]
        .map(|(name, in_features, out_features)| Module {
            name: format!("model.language_model.layers.{index}.{name}"),
            in_features,
            out_features,
        })
        .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::layout::{Layout, LoraSpec};

    fn published(
        d: usize,
        ffn: usize,
        layers: usize,
        heads: usize,
        tied: bool,
        big: bool,
    ) -> Config {
        let (depth, dv, dv_ffn, deepstack) = if big {
            (27, 1152, 4304, [8, 16, 24])
        } else {
            (24, 1024, 4096, [5, 11, 17])
        };
        let json = json!({
            "architectures": ["Qwen3VLForConditionalGeneration"],
            "model_type": "qwen3_vl",
            "image_token_id": 151655,
            "tie_word_embeddings": tied,
            "text_config": {
                "vocab_size": 151936, "hidden_size": d, "intermediate_size": ffn,
                "num_hidden_layers": layers, "num_attention_heads": heads,
                "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
                "rope_theta": 5000000,
                "rope_scaling": {"mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_type": "default"}
            },
            "vision_config": {
                "depth": depth, "hidden_size": dv, "intermediate_size": dv_ffn, "num_heads": 16,
                "patch_size": 16, "temporal_patch_size": 2, "spatial_merge_size": 2,
                "out_hidden_size": d, "num_position_embeddings": 2304,
                "deepstack_visual_indexes": deepstack, "hidden_act": "gelu_pytorch_tanh"
            }
        });
        Config::from_json(&json, "config.json".as_ref()).unwrap()
    }

    /// Totals of the published checkpoints (8B: 750 tensors), and of LoRA r = 16 on all seven
    /// language targets, as counted by transformers on the meta device.
    #[test]
    fn every_dense_size_follows_from_its_config() {
        for (name, config, total, lora, tensors) in [
            (
                "2B",
                published(2048, 6144, 28, 16, true, false),
                2_127_532_032,
                17_432_576,
                None,
            ),
            (
                "4B",
                published(2560, 9728, 36, 32, true, false),
                4_437_815_808,
                33_030_144,
                None,
            ),
            (
                "8B",
                published(4096, 12288, 36, 32, false, true),
                8_767_123_696,
                43_646_976,
                Some(750),
            ),
            (
                "32B",
                published(5120, 25600, 64, 64, false, true),
                33_357_390_064,
                134_217_728,
                None,
            ),
        ] {
            let list = config.tensors();
            let sum: usize = list
                .iter()
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum();
            assert_eq!(sum, total, "{name}");
            if let Some(tensors) = tensors {
                assert_eq!(list.len(), tensors, "{name}");
            }
            let layout = Layout::new(&config, &LoraSpec::default()).unwrap();
            assert_eq!(layout.parameters(), lora, "{name}");
        }
    }
}
