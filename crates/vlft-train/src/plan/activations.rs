//! What the blocks of the model hold while they run, in bytes. Letters as in the model: N tokens, d width,
//! q and k the widths of queries and of keys, f that of the feed-forward; P patches, v and g the same for
//! the vision tower. On a CPU norms, rotation, softmax and the activation functions are in f32 whatever the
//! products are in, on a GPU their kernels read and write what the products do; on the way there everything is one tensor after the other, so that what is alive at once can be
//! counted from the code. Of experts: E of them, k for each token, w the width of one.

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
    /// Bytes of an element of norms, rotation, attention, activation functions and loss.
    wide: u64,
    /// Attention keeps its output and a number for each row and head.
    keeps_attended: bool,
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
    /// The scales of a layer's matrices in f32, which the tape keeps; the same of a layer with experts.
    scales: u64,
    sparse_scales: u64,
    experts_at_once: u64,
    experts_in_f32: bool,
    on_host: bool,
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
        let wide = if on_host { F32 } else { c };
        // A matrix held in other bits than the product wants is made dense: four bits by way of f32 on a
        // CPU, at once on a GPU.
        let made = |quantized: bool, wanted: u64| match (config.model.base, wanted) {
            _ if quantized && on_host && wanted != F32 => F32 + wanted,
            _ if quantized => wanted,
            (Base::F32, 4) | (Base::Bf16 | Base::Nf4, 2) => 0,
            _ => wanted,
        };
        let dense = |quantized: bool| made(quantized, c);
        let (t, v) = (&model.text, &model.vision);
        let attention =
            2 * t.hidden_size * t.head_dim * (t.num_attention_heads + t.num_key_value_heads);
        let dense_mlp = 3 * t.hidden_size * t.intermediate_size;
        let experts = t.experts.as_ref();
        let experts = experts.map(|e| 3 * t.hidden_size * e.moe_intermediate_size * e.num_experts);
        let scales = |matrices: usize| match nf4 && config.model.double_quant {
            true => F32 * matrices as u64 / 64,
            false => 0,
        };
        Self {
            c,
            wide,
            keeps_attended: !on_host,
            dense_language: dense(quantizes(vlft_checkpoint::Part::LanguageModel)),
            dense_vision: dense(quantizes(vlft_checkpoint::Part::Visual)),
            dense_head: made(false, wide),
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
            scales: scales(attention + dense_mlp),
            sparse_scales: scales(attention + experts.unwrap_or(0)),
            // Experts side by side, each with a matrix of its own in f32.
            experts_at_once: match on_host {
                true => rayon::current_num_threads() as u64,
                false => 1,
            },
            experts_in_f32: config.model.base == Base::F32,
            on_host,
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

    /// The largest layer of the language model over N tokens, of those that there are.
    pub(super) fn layer(&self, n: u64) -> Activations {
        let (dense, sparse) = self.layers();
        let none = Activations::default();
        let dense = if dense > 0 { self.dense_layer(n) } else { none };
        let sparse = if sparse > 0 {
            self.sparse_layer(n)
        } else {
            none
        };
        Activations {
            forward: dense.forward.max(sparse.forward),
            kept: dense.kept.max(sparse.kept),
            backward: dense.backward.max(sparse.backward),
            dense: dense.dense.max(sparse.dense),
        }
    }

    /// What all layers together leave for the backward, if each is on the tape.
    pub(super) fn kept_by_layers(&self, n: u64) -> u64 {
        let (dense, sparse) = self.layers();
        let of = |count: u64, layer: &dyn Fn(u64) -> Activations| match count {
            0 => 0,
            count => count * layer(n).kept,
        };
        of(dense, &|n| self.dense_layer(n)) + of(sparse, &|n| self.sparse_layer(n))
    }

    /// How many layers are dense, and how many have experts.
    fn layers(&self) -> (u64, u64) {
        let text = &self.model.text;
        let all = text.num_hidden_layers;
        let sparse = (0..all).filter(|layer| text.experts_of(*layer).is_some());
        let sparse = sparse.count();
        ((all - sparse) as u64, sparse as u64)
    }

    /// A layer with experts over N tokens: S = N k copies of them, in f32 whatever the products are in.
    fn sparse_layer(&self, n: u64) -> Activations {
        let t = &self.model.text;
        let Some(experts) = &t.experts else {
            return Activations::default();
        };
        let (d, w) = (t.hidden_size as u64, experts.moe_intermediate_size as u64);
        let (s, e) = (
            n * experts.num_experts_per_tok as u64,
            experts.num_experts as u64,
        );
        let (q, k, h) = self.queries_keys_and_hidden(n);
        let (sd, sw, nd) = (F32 * s * d, F32 * s * w, F32 * n * d);
        let in_f32 = if self.c == F32 { 0 } else { nd };
        let attention = h + 2 * q + 2 * k;
        let (mixture, kept_mixture, back) = match self.on_host {
            // One operation: what comes out and its sums, gate and up for the tape, and the way back the
            // gradient of the copies and its sums. The rest is of one expert.
            true => (sd + nd, 2 * sw + 2 * F32 * s, sd + nd),
            false => (
                // The copies and gate with up; these and their product; that and what comes out; its sums.
                (sd + 2 * sw).max(3 * sw).max(sw + sd).max(sd + nd),
                // Gate and up, and the experts' outputs, whose weights have a gradient.
                2 * sw + sd + F32 * n * e,
                // The gradient of the copies; of gate and up, each of which is put into a whole of both.
                (2 * sd).max(sw + 6 * sw).max(2 * sw + sd),
            ),
        };
        let kept = self.kept_by_attention(n) + kept_mixture + self.sparse_scales;
        Activations {
            forward: attention.max(h + in_f32 + F32 * n * e + mixture),
            kept,
            backward: back + 2 * h + in_f32,
            dense: match self.experts_in_f32 {
                true => 0,
                false => self.experts_at_once * F32 * 2 * w * d,
            }
            .max(self.dense_language * d * (t.head_dim * t.num_attention_heads) as u64),
        }
    }

    /// `[N, q]` and `[N, k]` as norms have them, and the hidden states.
    fn queries_keys_and_hidden(&self, n: u64) -> (u64, u64, u64) {
        let t = &self.model.text;
        let q = (t.head_dim * t.num_attention_heads) as u64;
        let k = (t.head_dim * t.num_key_value_heads) as u64;
        (self.wide * n * q, self.wide * n * k, self.hidden(n))
    }

    /// What the widened copy of so many elements takes, where there is one.
    fn copy_in_f32(&self, elements: u64) -> u64 {
        match self.c == self.wide {
            true => 0,
            false => self.wide * elements,
        }
    }

    /// What attention itself keeps: its output, unless an adapter keeps that anyway (with dropout it keeps
    /// another), and its sums.
    fn by_attention(&self, adapted: bool, attended: u64, sums: u64) -> u64 {
        match self.keeps_attended {
            false => 0,
            true if adapted && !self.dropout => F32 * sums,
            true => self.c * attended + F32 * sums,
        }
    }

    /// Inputs of norms, of the attention and of its adapters.
    fn kept_by_attention(&self, n: u64) -> u64 {
        let t = &self.model.text;
        let (d, a) = (t.hidden_size as u64, self.adapted);
        let (nq, nk, h) = self.queries_keys_and_hidden(n);
        let q = n * (t.head_dim * t.num_attention_heads) as u64;
        let attended = u64::from(a.o) * q * self.c
            + self.by_attention(a.o, q, n * t.num_attention_heads as u64);
        let inputs = match self.dropout {
            true => a.qkv * h + attended,
            false => h.min(a.qkv * h) + attended,
        };
        let norms = nq + nk + self.wide * n * d + self.copy_in_f32(n * d);
        norms + nq + 2 * nk + inputs + n * self.layer_ranks * self.c
    }

    /// A dense layer of the language model over N tokens.
    fn dense_layer(&self, n: u64) -> Activations {
        let t = &self.model.text;
        let (d, f) = (t.hidden_size as u64, t.intermediate_size as u64);
        let q = (t.head_dim * t.num_attention_heads) as u64;
        let (nq, nk, h) = self.queries_keys_and_hidden(n);
        let (hidden, nf) = (n * f * self.c, self.wide * n * f);
        let a = self.adapted;

        // The normed input, queries, keys, values and what is attended to; gate, up and their product.
        let attention = h + 2 * nq + 2 * nk;
        let feed_forward = h + (3 * nf).max(2 * nf + h);
        // Gate and up, and inputs of the adapters: with dropout each has one of its own.
        let inputs = match self.dropout {
            true => a.gate_up * h,
            false => h.min(a.gate_up * h),
        } + u64::from(a.down) * hidden;
        let kept = self.kept_by_attention(n) + 2 * nf + inputs + self.scales;
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
        let (pv, pg) = (self.wide * p * v, self.wide * p * g);
        let a = self.adapted;
        let attention = 6 * pv + if self.c == self.wide { 0 } else { h };
        let feed_forward = h + 2 * pg;
        let adapters = u64::from(a.vision_qkv) * h
            + u64::from(a.vision_proj) * h
            + u64::from(a.vision_fc1) * h
            + u64::from(a.vision_fc2) * p * g * self.c;
        let kept_sums = self.by_attention(a.vision_proj, p * v, p * config.num_heads as u64);
        let kept = 5 * pv + pv + pg + adapters + kept_sums + p * self.vision_ranks * self.c;
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
        let logits = self.wide * rows * vocabulary;
        (self.dense_head + self.packed_head) * d * vocabulary
            + logits
            + 6 * self.wide * supervised * d
    }
}
