//! The language model: pre-norm blocks with QK-norm, grouped-query attention, interleaved M-RoPE and
//! a SwiGLU. Hidden states are `[N, d]` with N = B * T rows, batch row by batch row.

use burn::tensor::{Device, Tensor};
use vlft_base::Result;
use vlft_kernels::{activation, attention, norm, rotary::rotary};

use super::config::TextConfig;
use super::loader::Loader;
use super::rope::RotaryTables;
use crate::linear::{Linear, Weight, compute_type};
use crate::lora::Adapters;

pub(super) struct TextModel {
    pub(super) embed_tokens: Weight,
    pub(super) layers: Vec<DecoderLayer>,
    pub(super) norm: RmsNorm,
}

pub(super) struct DecoderLayer {
    input_layernorm: RmsNorm,
    post_attention_layernorm: RmsNorm,
    self_attn: Attention,
    mlp: Mlp,
}

struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    head_dim: usize,
}

struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

pub(super) struct RmsNorm {
    weight: Tensor<1>,
    eps: f64,
}

/// What every layer needs besides its input.
pub(super) struct TextContext {
    rows: usize,
    tokens: usize,
    rotary: RotaryTables,
    /// Rows are padded on the right, so causality alone keeps padding out of real tokens.
    causal_mask: Tensor<2>,
}

impl TextContext {
    pub(super) fn new(
        config: &TextConfig,
        position_ids: &[i32],
        rows: usize,
        tokens: usize,
        device: &Device,
    ) -> Self {
        Self {
            rows,
            tokens,
            rotary: RotaryTables::text(config, position_ids, rows, tokens, device),
            causal_mask: attention::causal_mask(tokens, device),
        }
    }
}

impl TextModel {
    pub(super) fn load(config: &TextConfig, loader: &Loader) -> Result<Self> {
        let root = "model.language_model";
        let norm = |path: String| {
            Ok(RmsNorm {
                weight: loader.vector(&format!("{path}.weight"))?,
                eps: config.rms_norm_eps,
            })
        };
        let layer = |i| {
            let path = format!("{root}.layers.{i}");
            Ok(DecoderLayer {
                input_layernorm: norm(format!("{path}.input_layernorm"))?,
                post_attention_layernorm: norm(format!("{path}.post_attention_layernorm"))?,
                self_attn: Attention {
                    q_proj: loader.linear(&format!("{path}.self_attn.q_proj"))?,
                    k_proj: loader.linear(&format!("{path}.self_attn.k_proj"))?,
                    v_proj: loader.linear(&format!("{path}.self_attn.v_proj"))?,
                    o_proj: loader.linear(&format!("{path}.self_attn.o_proj"))?,
                    q_norm: norm(format!("{path}.self_attn.q_norm"))?,
                    k_norm: norm(format!("{path}.self_attn.k_norm"))?,
                    head_dim: config.head_dim,
                },
                mlp: Mlp {
                    gate_proj: loader.linear(&format!("{path}.mlp.gate_proj"))?,
                    up_proj: loader.linear(&format!("{path}.mlp.up_proj"))?,
                    down_proj: loader.linear(&format!("{path}.mlp.down_proj"))?,
                },
            })
        };
        Ok(Self {
            embed_tokens: loader.matrix(&format!("{root}.embed_tokens.weight"))?,
            layers: (0..config.num_hidden_layers)
                .map(layer)
                .collect::<Result<_>>()?,
            norm: norm(format!("{root}.norm"))?,
        })
    }
}

impl DecoderLayer {
    /// `[N, d]` -> `[N, d]`.
    pub(super) fn forward(
        &self,
        x: Tensor<2>,
        context: &TextContext,
        adapters: &Adapters,
    ) -> Tensor<2> {
        let attended =
            self.self_attn
                .forward(self.input_layernorm.forward(x.clone()), context, adapters);
        let x = x + attended;
        let hidden = self.post_attention_layernorm.forward(x.clone());
        x + self.mlp.forward(hidden, adapters)
    }
}

impl Attention {
    fn forward(&self, x: Tensor<2>, context: &TextContext, adapters: &Adapters) -> Tensor<2> {
        let (rows, tokens, head_dim) = (context.rows, context.tokens, self.head_dim);
        // [N, H D] -> [B, T, H, D]
        let heads = |projection: &Linear| {
            let y = projection.forward(x.clone(), adapters);
            let heads = y.dims()[1] / head_dim;
            y.reshape([rows, tokens, heads, head_dim])
        };
        let (cos, sin) = (&context.rotary.cos, &context.rotary.sin);
        // QK-norm comes before the rotation; its one weight vector is shared by the heads.
        let q = self.q_norm.forward(heads(&self.q_proj)).swap_dims(1, 2);
        let k = self.k_norm.forward(heads(&self.k_proj)).swap_dims(1, 2);
        let v = heads(&self.v_proj).swap_dims(1, 2);
        let q = rotary(q, cos.clone(), sin.clone());
        let k = rotary(k, cos.clone(), sin.clone());

        let attended = attention::attention(q, k, v, Some(&context.causal_mask)).swap_dims(1, 2);
        let width = attended.dims()[2] * head_dim;
        self.o_proj
            .forward(attended.reshape([rows * tokens, width]), adapters)
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<2>, adapters: &Adapters) -> Tensor<2> {
        let gate = self.gate_proj.forward(x.clone(), adapters);
        let up = self.up_proj.forward(x, adapters);
        self.down_proj
            .forward(activation::swiglu(gate, up), adapters)
    }
}

impl RmsNorm {
    pub(super) fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        norm::rms_norm(x, compute_type(self.weight.clone()), self.eps)
    }
}
