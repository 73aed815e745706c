//! The one list of tensor names and shapes of a Qwen3-VL, as a function of its config: what a
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
            if let Some(e) = t.experts_of(i) {
                let (count, width) = (e.num_experts, e.moe_intermediate_size);
                add(format!("{layer}.mlp.gate.weight"), &[count, d]);
                let experts = format!("{layer}.mlp.{EXPERTS}");
                add(format!("{experts}.gate_up_proj"), &[count, d, 2 * width]);
                add(format!("{experts}.down_proj"), &[count, width, d]);
            }
        }
        add(format!("{language}.norm.weight"), &[d]);
        if !self.tie_word_embeddings && self.has_head {
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
        let modules = [
            ("self_attn.q_proj", d, queries),
            ("self_attn.k_proj", d, keys),
            ("self_attn.v_proj", d, keys),
            ("self_attn.o_proj", queries, d),
            ("mlp.gate_proj", d, ffn),
            ("mlp.up_proj", d, ffn),
            ("mlp.down_proj", ffn, d),
        ];
        // Fused experts are no linear layers, neither here nor for PEFT.
        let here = match t.experts_of(index) {
            None => &modules[..],
            Some(_) => &modules[..4],
        };
        let module = |(name, in_features, out_features): &(&str, usize, usize)| Module {
            name: format!("model.language_model.layers.{index}.{name}"),
            in_features: *in_features,
            out_features: *out_features,
        };
        here.iter().map(module).collect()
    }

    /// What stands in place of the dense projections where a layer has experts: modules of transformers
    /// that are never adapted, the tensors of the experts among them.
    pub fn expert_modules(&self) -> Vec<String> {
        let sparse =
            (0..self.text.num_hidden_layers).filter(|i| self.text.experts_of(*i).is_some());
        let names = sparse.flat_map(|i| {
            ["", ".gate_up_proj", ".down_proj"]
                .map(|part| format!("{EXPERTS}{part}"))
                .into_iter()
                .chain(["gate".to_string()])
                .map(move |name| format!("model.language_model.layers.{i}.mlp.{name}"))
        });
        names.collect()
    }
}

const EXPERTS: &str = "experts";

/// Whether a tensor of shape `found` can stand for one of shape `expected`. Fused experts lie
/// `[experts, in, out]` as published and `[experts, out, in]` as transformers 5 saves them.
pub(crate) fn fits(name: &str, expected: &[usize], found: &[usize]) -> bool {
    if expected == found {
        return true;
    }
    let is_expert = name.contains(".mlp.experts.");
    matches!((expected, found), ([a, b, c], [x, y, z]) if is_expert && (a, c, b) == (x, y, z))
}

#[cfg(test)]
mod tests;
