//! The language model: pre-norm blocks with QK-norm, grouped-query attention, interleaved M-RoPE and
//! a SwiGLU, or experts in its place. Hidden states are `[N, d]` with N = B * T rows, batch row by batch row.

use burn::tensor::{Device, Tensor};
use vlft_base::Result;
use vlft_checkpoint::TextConfig;
use vlft_kernels::attention::{Pattern, attention};
use vlft_kernels::experts::Wanted;
use vlft_kernels::qk_norm::qk_norm;
use vlft_kernels::{activation, norm, widened};

use super::experts::SparseMlp;
use super::loader::Loader;
use super::rope::RotaryTables;
use crate::linear::{Linear, Weight, as_type, forward_together};
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
    pub(super) mlp: Mlp,
}

/// What the config says of a layer.
#[allow(clippy::large_enum_variant, reason = "there is one for each layer")]
pub(super) enum Mlp {
    Dense(DenseMlp),
    Sparse(SparseMlp),
}

struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
}

pub(super) struct DenseMlp {
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
    rotary: RotaryTables,
    /// A token sees those before it in its sample. Rows are padded on the right, so causality alone
    /// keeps padding out of real tokens.
    pattern: Pattern,
    wanted: Wanted,
}

impl TextContext {
    pub(super) fn new(
        config: &TextConfig,
        position_ids: &[i32],
        rows: usize,
        tokens: usize,
        segments: Vec<usize>,
        device: &Device,
    ) -> Self {
        Self {
            rotary: RotaryTables::text(config, position_ids, rows, tokens, device),
            pattern: Pattern {
                head_dim: config.head_dim,
                segments,
                causal: true,
            },
            wanted: Wanted::Values,
        }
    }

    /// The same for a second run, of which only the tape is wanted.
    pub(super) fn for_gradients(self) -> Self {
        Self {
            wanted: Wanted::Gradients,
            ..self
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
                },
                mlp: match config.experts_of(i) {
                    Some(experts) => {
                        Mlp::Sparse(SparseMlp::load(&format!("{path}.mlp"), experts, loader)?)
                    }
                    None => Mlp::Dense(DenseMlp {
                        gate_proj: loader.linear(&format!("{path}.mlp.gate_proj"))?,
                        up_proj: loader.linear(&format!("{path}.mlp.up_proj"))?,
                        down_proj: loader.linear(&format!("{path}.mlp.down_proj"))?,
                    }),
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

    /// See [`super::Qwen3Vl::double_quant`].
    pub(super) fn double_quant(&self) -> Option<bool> {
        self.layers
            .iter()
            .find_map(|layer| match &layer.self_attn.q_proj.weight {
                Weight::Dense(_) => None,
                Weight::Nf4(matrix) => Some(matrix.is_double()),
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
        x + match &self.mlp {
            Mlp::Dense(mlp) => mlp.forward(hidden, adapters),
            Mlp::Sparse(mlp) => mlp.forward(hidden, adapters, context.wanted),
        }
    }
}

impl Attention {
    fn forward(&self, x: Tensor<2>, context: &TextContext, adapters: &Adapters) -> Tensor<2> {
        // Norms, rotation and softmax compute in f32 whatever the products are in.
        let dtype = x.dtype();
        let (cos, sin) = (&context.rotary.cos, &context.rotary.sin);
        let projections = [&self.q_proj, &self.k_proj, &self.v_proj];
        let [q, k, v] = forward_together(projections, x, adapters).map(widened);
        // QK-norm comes before the rotation; its one weight vector is shared by the heads.
        let normal = |x, norm: &RmsNorm| {
            let weight = widened(norm.weight.clone());
            qk_norm(x, weight, norm.eps, cos, sin)
        };
        let (q, k) = (normal(q, &self.q_norm), normal(k, &self.k_norm));
        let attended = as_type(attention(q, k, v, &context.pattern), dtype);
        self.o_proj.forward(attended, adapters)
    }
}

impl DenseMlp {
    fn forward(&self, x: Tensor<2>, adapters: &Adapters) -> Tensor<2> {
        let dtype = x.dtype();
        let projections = [&self.gate_proj, &self.up_proj];
        let [gate, up] = forward_together(projections, x, adapters).map(widened);
        let hidden = as_type(activation::swiglu(gate, up), dtype);
        self.down_proj.forward(hidden, adapters)
    }
}

impl RmsNorm {
    pub(super) fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let dtype = x.dtype();
        let weight = widened(self.weight.clone());
        let normal = norm::rms_norm(widened(x), weight, self.eps);
        as_type(normal, dtype)
    }
}
