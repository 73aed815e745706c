//! What the blocks of the model hold while they run, in bytes. Letters as in the model: N tokens, d width,
//! q and k the widths of queries and of keys, f that of the feed-forward; P patches, v and g the same for
//! the vision tower. Norms, rotation, softmax and the activation functions are in f32 whatever the products
//! are in; on the way there everything is one tensor after the other, so that what is alive at once can be
//! counted from the code.

use vlft_checkpoint::{Config as Model, Layout};

use crate::config::{Base, Compute, Config};

const F32: u64 = 4;

/// One block's bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Activations {
    /// The most that is alive in a forward without a tape, beyond the block's input.
    pub(super) forward: u64,
    /// What a forward with a tape leaves for the backward, beyond the block's input.
    pub(super) kept: u64,
    /// The most that the backward adds to that.
    pub(super) backward: u64,
    /// The largest matrix of the block, made dense for its product.
    pub(super) dense: u64,
}

/// Widths and element sizes.
pub(super) struct Widths {
    model: Model,
    /// Bytes of an element of the products.
    c: u64,
    /// Bytes that a dense copy has per element of a matrix of the language model, of the vision tower and
    /// of the head.
    dense_language: u64,
    dense_vision: u64,
    dense_head: u64,
    /// On a CPU the product with the head packs it once more, as a whole.
    packed_head: u64,
    /// Which linear layers are adapted, by their last names.
    adapted: Adapted,
    /// The sum of the ranks in a layer of the language model, and in a vision block.
    layer_ranks: u64,
    vision_ranks: u64,
    dropout: bool,
    /// The scales of a layer's matrices in f32, which the tape keeps.
    scales: u64,
}

#[derive(Clone, Copy, Default)]
struct Adapted {
    qkv: u64,
    o: bool,
    gate_up: u64,
    down: bool,
    vision_qkv: bool,
    vision_proj: bool,
    vision_fc1: bool,
    vision_fc2: bool,
}

impl Widths {
    pub(super) fn new(
        config: &Config,
        model: &Model,
        layout: &Layout,
        compute: Compute,
        on_host: bool,
    ) -> Self {
        let c = match compute {
            Compute::F32 => 4,
            Compute::Bf16 => 2,
        };
        let has = |part: &str| layout.modules.iter().any(|m| m.name.ends_with(part));
        let count = |parts: &[&str]| parts.iter().filter(|part| has(part)).count() as u64;
        let ranks = |prefix: &str| -> u64 {
            let inside = layout.modules.iter().filter(|m| m.name.contains(prefix));
            inside.map(|m| m.rank as u64).sum()
        };
        let nf4 = config.model.base == Base::Nf4;
        let quantizes = |part| nf4 && config.model.quantize.contains(&part);
        // A matrix held in other bits than the product wants is made dense: four bits by way of f32.
        let dense = |quantized: bool| match (config.model.base, c) {
            _ if quantized => F32 + if c == F32 { 0 } else { c },
            (Base::F32, 4) | (Base::Bf16 | Base::Nf4, 2) => 0,
            _ => c,
        };
        let (t, v) = (&model.text, &model.vision);
        let matrices = t.hidden_size
            * (2 * t.head_dim * (t.num_attention_heads + t.num_key_value_heads)
                + 3 * t.intermediate_size);
        Self {
            c,
            dense_language: dense(quantizes(vlft_checkpoint::Part::LanguageModel)),
            dense_vision: dense(quantizes(vlft_checkpoint::Part::Visual)),
            // The loss wants the head in f32.
            dense_head: match config.model.base {
                Base::F32 => 0,
                Base::Bf16 | Base::Nf4 => F32,
            },
            packed_head: if on_host { F32 } else { 0 },
            adapted: Adapted {
                qkv: count(&["q_proj", "k_proj", "v_proj"]),
                o: has("o_proj"),
                gate_up: count(&["gate_proj", "up_proj"]),
                down: has("down_proj"),
                vision_qkv: has("attn.qkv"),
                vision_proj: has("attn.proj"),
                vision_fc1: has("mlp.linear_fc1"),
                vision_fc2: has("mlp.linear_fc2"),
            },
            layer_ranks: ranks(".layers.") / t.num_hidden_layers as u64,
            vision_ranks: ranks("visual.blocks.") / v.depth as u64,
            dropout: config.lora.dropout > 0.0,
            scales: match nf4 && config.model.double_quant {
                true => F32 * matrices as u64 / 64,
                false => 0,
            },
            model: model.clone(),
        }
    }

    /// `[N, d]`
    pub(super) fn hidden(&self, n: u64) -> u64 {
        n * self.model.text.hidden_size as u64 * self.c
    }

    /// `[P, v]`
    pub(super) fn vision_hidden(&self, p: u64) -> u64 {
        p * self.model.vision.hidden_size as u64 * self.c
    }

    /// The merged image and the deepstack features, `[M, d]` each.
    pub(super) fn features(&self, image_tokens: u64) -> u64 {
        let levels = self.model.vision.deepstack_visual_indexes.len() as u64;
        (1 + levels) * self.hidden(image_tokens)
    }

    /// A layer of the language model over N tokens.
    pub(super) fn layer(&self, n: u64) -> Activations {
        let t = &self.model.text;
        let (d, f) = (t.hidden_size as u64, t.intermediate_size as u64);
        let q = (t.head_dim * t.num_attention_heads) as u64;
        let k = (t.head_dim * t.num_key_value_heads) as u64;
        let (h, hidden) = (n * d * self.c, n * f * self.c);
        let (nq, nk, nf) = (F32 * n * q, F32 * n * k, F32 * n * f);
        let a = self.adapted;

        // The normed input, queries, keys, values and what is attended to; gate, up and their product.
        let attention = h + 2 * nq + 2 * nk;
        let feed_forward = h + (3 * nf).max(2 * nf + h);
        // Inputs of norms, of the attention and of the adapters, gate and up.
        let inputs_of_adapters = if self.dropout {
            a.qkv * h + u64::from(a.o) * n * q * self.c + a.gate_up * h + u64::from(a.down) * hidden
        } else {
            0
        };
        let shared = h.min(a.qkv * h)
            + u64::from(a.o) * n * q * self.c
            + h.min(a.gate_up * h)
            + u64::from(a.down) * hidden;
        let norms = nq + nk + F32 * n * d + if self.c == F32 { 0 } else { F32 * n * d };
        let scores = nq + 2 * nk;
        let middles = n * self.layer_ranks * self.c;
        let kept = norms + scores + 2 * nf + shared.max(inputs_of_adapters) + middles + self.scales;
        Activations {
            forward: attention.max(feed_forward),
            kept,
            // Through the gate: its gradient and that of gate and up, while the input of the last
            // adapter is gone.
            backward: (3 * nf).max(2 * nf + hidden) + 2 * h - u64::from(a.down) * hidden,
            dense: self.dense_language * d * f.max(q),
        }
    }

    /// A vision block over P patches.
    pub(super) fn vision_block(&self, p: u64) -> Activations {
        let config = &self.model.vision;
        let (v, g) = (config.hidden_size as u64, config.intermediate_size as u64);
        let h = p * v * self.c;
        let (pv, pg) = (F32 * p * v, F32 * p * g);
        let a = self.adapted;
        let attention = 6 * pv + if self.c == F32 { 0 } else { h };
        let feed_forward = h + 2 * pg;
        let adapters = u64::from(a.vision_qkv) * h
            + u64::from(a.vision_proj) * h
            + u64::from(a.vision_fc1) * h
            + u64::from(a.vision_fc2) * p * g * self.c;
        let kept = 5 * pv + pv + pg + adapters + p * self.vision_ranks * self.c;
        let merger = {
            let joined = v * config.merge_unit() as u64;
            self.dense_vision * joined * joined
        };
        Activations {
            forward: attention.max(feed_forward),
            kept,
            backward: (9 * pv).max(2 * pg + h) + 2 * h,
            dense: (self.dense_vision * v * g).max(merger),
        }
    }

    /// Norm, logits of a chunk and their gradient, which takes their place, over S supervised tokens.
    pub(super) fn head(&self, supervised: u64) -> u64 {
        const CHUNK_ELEMENTS: u64 = 16 << 20;
        let t = &self.model.text;
        let (d, vocabulary) = (t.hidden_size as u64, t.vocab_size as u64);
        let rows = supervised.min((CHUNK_ELEMENTS / vocabulary).max(1));
        let logits = F32 * rows * vocabulary;
        (self.dense_head + self.packed_head) * d * vocabulary + logits + 6 * F32 * supervised * d
    }
}
