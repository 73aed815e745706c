//! The vision tower: patches in, one row per merged token out, and the deepstack features that the
//! first language layers add. P patches, M = P / 4 merged tokens, dv vision width, d text width.

use burn::tensor::{Device, Int, Tensor, TensorData};
use vlft_base::Result;
use vlft_checkpoint::VisionConfig;
use vlft_kernels::attention::{Pattern, attention};
use vlft_kernels::{activation, norm, rotary::rotary, widened};

use super::loader::Loader;
use super::rope::{PatchPosition, RotaryTables, patch_positions};
use crate::linear::{Linear, Weight, as_type};
use crate::lora::Adapters;

/// LayerNorm's epsilon everywhere in the tower (transformers has it as a constant).
const NORM_EPS: f64 = 1e-6;

pub(super) struct VisionModel {
    config: VisionConfig,
    patch_embed: Linear,
    pos_embed: Weight,
    pub(super) blocks: Vec<VisionBlock>,
    pub(super) merger: PatchMerger,
    pub(super) deepstack_merger_list: Vec<PatchMerger>,
}

pub(super) struct VisionBlock {
    norm1: LayerNorm,
    norm2: LayerNorm,
    qkv: Linear,
    proj: Linear,
    linear_fc1: Linear,
    linear_fc2: Linear,
}

/// Joins the four patches of a token and projects them to the text width.
pub(super) struct PatchMerger {
    norm: LayerNorm,
    linear_fc1: Linear,
    linear_fc2: Linear,
    merge_unit: usize,
    /// Deepstack mergers normalise the joined patches, the final merger each patch before.
    use_postshuffle_norm: bool,
}

struct LayerNorm {
    weight: Tensor<1>,
    bias: Tensor<1>,
}

/// What every block needs besides its input.
pub(super) struct VisionContext {
    rotary: RotaryTables,
    /// Attention stays within an image (within a frame).
    pattern: Pattern,
}

/// Bilinear interpolation of the learned position table for one patch: four rows and weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PositionTaps {
    pub indices: [i32; 4],
    pub weights: [f32; 4],
}

impl VisionModel {
    pub(super) fn load(config: &VisionConfig, loader: &Loader) -> Result<Self> {
        let root = "model.visual";
        let merger = |path: &str, use_postshuffle_norm| {
            Ok(PatchMerger {
                norm: LayerNorm::load(&format!("{path}.norm"), loader)?,
                linear_fc1: loader.linear(&format!("{path}.linear_fc1"))?,
                linear_fc2: loader.linear(&format!("{path}.linear_fc2"))?,
                merge_unit: config.merge_unit(),
                use_postshuffle_norm,
            })
        };
        let block = |i| {
            let path = format!("{root}.blocks.{i}");
            Ok(VisionBlock {
                norm1: LayerNorm::load(&format!("{path}.norm1"), loader)?,
                norm2: LayerNorm::load(&format!("{path}.norm2"), loader)?,
                qkv: loader.linear(&format!("{path}.attn.qkv"))?,
                proj: loader.linear(&format!("{path}.attn.proj"))?,
                linear_fc1: loader.linear(&format!("{path}.mlp.linear_fc1"))?,
                linear_fc2: loader.linear(&format!("{path}.mlp.linear_fc2"))?,
            })
        };
        let deepstack = 0..config.deepstack_visual_indexes.len();
        Ok(Self {
            config: config.clone(),
            patch_embed: loader.linear(&format!("{root}.patch_embed.proj"))?,
            pos_embed: loader.matrix(&format!("{root}.pos_embed.weight"))?,
            blocks: (0..config.depth).map(block).collect::<Result<_>>()?,
            merger: merger(&format!("{root}.merger"), false)?,
            deepstack_merger_list: deepstack
                .map(|k| merger(&format!("{root}.deepstack_merger_list.{k}"), true))
                .collect::<Result<_>>()?,
        })
    }

    pub(super) fn context(&self, grid_thw: &[[usize; 3]], device: &Device) -> VisionContext {
        let merge = self.config.spatial_merge_size;
        let positions: Vec<PatchPosition> = grid_thw
            .iter()
            .flat_map(|grid| patch_positions(*grid, merge))
            .collect();
        VisionContext {
            rotary: RotaryTables::vision(&self.config, &positions, device),
            pattern: Pattern {
                head_dim: self.config.hidden_size / self.config.num_heads,
                segments: grid_thw
                    .iter()
                    .flat_map(|[t, h, w]| vec![h * w; *t])
                    .collect(),
                causal: false,
            },
        }
    }

    /// The patch embedding as a matrix product. `pixel_values`: `[P, C*T*y*x]` -> `[P, dv]`.
    pub(super) fn patch_embed(&self, pixel_values: Tensor<2>) -> Tensor<2> {
        self.patch_embed.forward(pixel_values, &Adapters::none())
    }

    /// Learned positions, interpolated to each image's grid. `[P, dv]`.
    pub(super) fn pos_embed(&self, grid_thw: &[[usize; 3]], device: &Device) -> Tensor<2> {
        let taps = self.position_taps(grid_thw);
        let patches = taps.len();
        let mut sum: Option<Tensor<2>> = None;
        for tap in 0..4 {
            let indices: Vec<i32> = taps.iter().map(|t| t.indices[tap]).collect();
            let weights: Vec<f32> = taps.iter().map(|t| t.weights[tap]).collect();
            let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [patches]), device);
            let weights = Tensor::<2>::from_data(TensorData::new(weights, [patches, 1]), device);
            let term = self.pos_embed.rows(indices) * weights;
            sum = Some(match sum {
                None => term,
                Some(sum) => sum + term,
            });
        }
        sum.expect("four taps were added")
    }

    /// Table rows and weights of each patch: corners aligned, s = i (S-1) / (n-1) in f32.
    pub(super) fn position_taps(&self, grid_thw: &[[usize; 3]]) -> Vec<PositionTaps> {
        let side = self.config.position_grid_side();
        let axis = |index: usize, length: usize| {
            let s = index as f32 * (side - 1) as f32 / (length.max(2) - 1) as f32;
            let low = s.floor();
            let weight = [1.0 - (s - low).abs(), 1.0 - (low + 1.0 - s).abs()];
            let low = low as usize;
            (
                [low.min(side - 1), (low + 1).min(side - 1)],
                weight.map(|w| w.max(0.0)),
            )
        };
        let patch = |grid: [usize; 3], at: PatchPosition| {
            let (rows, row_weights) = axis(at.row, grid[1]);
            let (columns, column_weights) = axis(at.column, grid[2]);
            let mut taps = PositionTaps {
                indices: [0; 4],
                weights: [0.0; 4],
            };
            for tap in 0..4 {
                let (r, c) = (tap / 2, tap % 2);
                taps.indices[tap] = (rows[r] * side + columns[c]) as i32;
                taps.weights[tap] = row_weights[r] * column_weights[c];
            }
            taps
        };
        let merge = self.config.spatial_merge_size;
        let grids = grid_thw.iter();
        grids
            .flat_map(|g| {
                patch_positions(*g, merge)
                    .into_iter()
                    .map(move |at| patch(*g, at))
            })
            .collect()
    }

    /// Which deepstack merger reads the output of block `index`, if any. Features are numbered in
    /// block order, mergers as the config lists them.
    pub(super) fn deepstack_merger(&self, index: usize) -> Option<usize> {
        self.config
            .deepstack_visual_indexes
            .iter()
            .position(|i| *i == index)
    }
}

impl VisionBlock {
    /// `[P, dv]` -> `[P, dv]`.
    pub(super) fn forward(
        &self,
        x: Tensor<2>,
        context: &VisionContext,
        adapters: &Adapters,
    ) -> Tensor<2> {
        let attended = self.attn(self.norm1.forward(x.clone()), context, adapters);
        let x = x + attended;
        let dtype = x.dtype();
        let hidden = self
            .linear_fc1
            .forward(self.norm2.forward(x.clone()), adapters);
        let hidden = activation::gelu_tanh(widened(hidden));
        x + self.linear_fc2.forward(as_type(hidden, dtype), adapters)
    }

    /// Full attention within each image.
    fn attn(&self, x: Tensor<2>, context: &VisionContext, adapters: &Adapters) -> Tensor<2> {
        let (dv, dtype) = (x.dims()[1], x.dtype());
        // Rotation and softmax compute in f32.
        let qkv = widened(self.qkv.forward(x, adapters));
        let part = |i: usize| qkv.clone().narrow(1, i * dv, dv);
        let (cos, sin) = (&context.rotary.cos, &context.rotary.sin);
        let (q, k) = (rotary(part(0), cos, sin), rotary(part(1), cos, sin));
        let attended = attention(q, k, part(2), &context.pattern);
        self.proj.forward(as_type(attended, dtype), adapters)
    }
}

impl PatchMerger {
    /// `[P, dv]` -> `[M, d]`.
    pub(super) fn forward(&self, x: Tensor<2>, adapters: &Adapters) -> Tensor<2> {
        let ([patches, dv], dtype) = (x.dims(), x.dtype());
        let joined = [patches / self.merge_unit, dv * self.merge_unit];
        let x = if self.use_postshuffle_norm {
            self.norm.forward(x.reshape(joined))
        } else {
            self.norm.forward(x).reshape(joined)
        };
        let hidden = widened(self.linear_fc1.forward(x, adapters));
        // The exact GELU here, the tanh form in the blocks.
        let hidden = as_type(activation::gelu_erf(hidden), dtype);
        self.linear_fc2.forward(hidden, adapters)
    }
}

impl LayerNorm {
    fn load(path: &str, loader: &Loader) -> Result<Self> {
        Ok(Self {
            weight: loader.vector(&format!("{path}.weight"))?,
            bias: loader.vector(&format!("{path}.bias"))?,
        })
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let dtype = x.dtype();
        let (weight, bias) = (widened(self.weight.clone()), widened(self.bias.clone()));
        as_type(norm::layer_norm(widened(x), weight, bias, NORM_EPS), dtype)
    }
}
