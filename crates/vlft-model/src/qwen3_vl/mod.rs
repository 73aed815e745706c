//! Qwen3-VL: a vision tower, a language model, and how they meet. Read this file first.
//!
//! One forward serves evaluation, both kinds of training and the parity tests: what is trained, and
//! whether a tape runs, is decided by the [`Adapters`] passed in; whoever wants to see a stage
//! passes an observer. Frozen weights are constants to autodiff.
//!
//! Shapes: B rows, T tokens, N = B T, d text width, P patches, M merged image tokens, V vocabulary.

mod config;
mod gradient;
mod loader;
mod rope;
mod tensors;
mod text;
mod vision;

use std::ops::Range;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};
use vlft_base::Result;
use vlft_kernels::cross_entropy::cross_entropy;

pub use config::{Config, TextConfig, VisionConfig};
pub use vision::PositionTaps;

use crate::checkpoint::{Checkpoint, Storage};
use crate::linear::Weight;
use crate::lora::{Adapters, Layout};
use loader::Loader;
use text::{TextContext, TextModel};
use vision::VisionModel;

pub struct Qwen3Vl {
    pub config: Config,
    pub device: Device,
    visual: VisionModel,
    language_model: TextModel,
    /// None when the head is the embedding.
    lm_head: Option<Weight>,
    /// Which of the flat list of adapters sit in each vision block and in each language layer.
    vision_block_adapters: Vec<Range<usize>>,
    layer_adapters: Vec<Range<usize>>,
}

/// A batch as plain numbers: right-padded rows of one sample each, or several samples end to end in
/// one row.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    pub rows: usize,
    pub tokens: usize,
    /// `[B, T]`
    pub input_ids: Vec<i32>,
    /// `[3, B, T]`: time, height, width.
    pub position_ids: Vec<i32>,
    /// `[P, patch_dim]`, the images of all rows in order.
    pub pixel_values: Vec<f32>,
    /// Frames, rows and columns of patches of each image.
    pub grid_thw: Vec<[usize; 3]>,
    /// Lengths of the samples that lie end to end in the one row; empty: each row is one sample.
    /// Tokens see their own sample only.
    pub segments: Vec<usize>,
}

impl Inputs {
    /// Lengths of what attention stays within; their sum is N.
    fn attention_segments(&self) -> Vec<usize> {
        if self.segments.is_empty() {
            return vec![self.tokens; self.rows];
        }
        assert_eq!(
            self.segments.iter().sum::<usize>(),
            self.rows * self.tokens,
            "segments cover the row"
        );
        self.segments.clone()
    }
}

/// Which hidden states predict a supervised token, and which token. A token at position t is
/// predicted by the hidden state at t - 1.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Rows of the `[N, d]` hidden states, rising.
    pub rows: Vec<i32>,
    /// The token each of them should predict.
    pub ids: Vec<i32>,
    /// How much each of them counts in the gradient; empty if all count 1.
    pub weights: Vec<f32>,
}

impl Targets {
    /// The sum of the weights.
    pub fn weight(&self) -> f64 {
        match self.weights.is_empty() {
            true => self.ids.len() as f64,
            false => self.weights.iter().map(|w| f64::from(*w)).sum(),
        }
    }

    /// The weighted sum of `nll`, one value per target; in f64 and in order, so that it has the same
    /// bits every time.
    pub fn weighted_sum(&self, nll: &[f32]) -> f64 {
        let nll = nll.iter().map(|x| f64::from(*x));
        match self.weights.is_empty() {
            true => nll.sum(),
            false => nll.zip(&self.weights).map(|(x, w)| x * f64::from(*w)).sum(),
        }
    }
}

/// Points of the forward that an observer sees, named as the reference dumps name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    PatchEmbed,
    PosEmbed,
    VisionBlockInput(usize),
    VisionBlock(usize),
    Merged,
    Deepstack(usize),
    LayerInput(usize),
    LayerOutput(usize),
    FinalNorm,
}

type Observer<'a> = &'a mut dyn FnMut(Stage, &Tensor<2>);

/// The image side of a batch: one row per image token, for the embedding and for each of the first
/// language layers.
struct ImageFeatures {
    merged: Tensor<2>,
    deepstack: Vec<Tensor<2>>,
    /// Rows of the `[N, d]` hidden states that are image tokens.
    rows: Tensor<1, Int>,
}

impl Qwen3Vl {
    /// Reads a checkpoint. With `layout`, its modules get their adapters from the list passed to
    /// each call; without, the model runs bare.
    pub fn load(
        config: &Config,
        checkpoint: &Checkpoint,
        layout: Option<&Layout>,
        storage: Storage,
        device: &Device,
    ) -> Result<Self> {
        let loader = Loader::new(checkpoint, config, layout, storage, device)?;
        let adapters_of = |blocks: &str, count: usize| {
            (0..count)
                .map(|i| layout.map_or(0..0, |l| l.range(&format!("{blocks}.{i}."))))
                .collect()
        };
        Ok(Self {
            visual: VisionModel::load(&config.vision, &loader)?,
            language_model: TextModel::load(&config.text, &loader)?,
            lm_head: match config.tie_word_embeddings {
                true => None,
                false => Some(loader.matrix("lm_head.weight")?),
            },
            vision_block_adapters: adapters_of("model.visual.blocks", config.vision.depth),
            layer_adapters: adapters_of(
                "model.language_model.layers",
                config.text.num_hidden_layers,
            ),
            config: config.clone(),
            device: device.clone(),
        })
    }

    /// Hidden states before the final norm, `[N, d]`.
    pub fn hidden_states(
        &self,
        inputs: &Inputs,
        adapters: &Adapters,
        observe: Observer,
    ) -> Tensor<2> {
        let images = self.image_features(inputs, adapters, observe);
        let context = self.text_context(inputs);
        let mut hidden = self.embed(inputs, images.as_ref());
        for (i, layer) in self.language_model.layers.iter().enumerate() {
            observe(Stage::LayerInput(i), &hidden);
            hidden = layer.forward(hidden, &context, adapters);
            observe(Stage::LayerOutput(i), &hidden);
            if let Some(images) = &images
                && let Some(feature) = images.deepstack.get(i)
            {
                // Deepstack: after layer i, feature i is added at the image tokens.
                let (rows, add) = (images.rows.clone(), IndexingUpdateOp::Add);
                hidden = hidden.select_assign(0, rows, feature.clone(), add);
            }
        }
        hidden
    }

    /// Negative log-likelihood of each target, in nats.
    pub fn nll(&self, inputs: &Inputs, targets: &Targets, adapters: &Adapters) -> Vec<f32> {
        let hidden = self.hidden_states(inputs, adapters, &mut |_, _| {});
        let normal = self
            .language_model
            .norm
            .forward(hidden.select(0, self.rows(&targets.rows)));
        cross_entropy(normal, &self.head().matrix(), &targets.ids, false).nll
    }

    /// Logits of all positions, `[N, V]`. Memory grows with V: for tests and short texts.
    pub fn logits(&self, inputs: &Inputs, adapters: &Adapters, observe: Observer) -> Tensor<2> {
        let hidden = self.hidden_states(inputs, adapters, observe);
        let normal = self.language_model.norm.forward(hidden);
        observe(Stage::FinalNorm, &normal);
        normal.matmul(self.head().matrix().transpose())
    }

    /// The vision tower over all images of the batch.
    fn image_features(
        &self,
        inputs: &Inputs,
        adapters: &Adapters,
        observe: Observer,
    ) -> Option<ImageFeatures> {
        if inputs.grid_thw.is_empty() {
            return None;
        }
        let context = self.visual.context(&inputs.grid_thw, &self.device);
        let patch_embed = self.visual.patch_embed(self.pixel_values(inputs));
        observe(Stage::PatchEmbed, &patch_embed);
        let pos_embed = self.visual.pos_embed(&inputs.grid_thw, &self.device);
        observe(Stage::PosEmbed, &pos_embed);

        let mut x = patch_embed + pos_embed;
        let mut deepstack = Vec::new();
        for (i, block) in self.visual.blocks.iter().enumerate() {
            observe(Stage::VisionBlockInput(i), &x);
            x = block.forward(x, &context, adapters);
            observe(Stage::VisionBlock(i), &x);
            if let Some(merger) = self.visual.deepstack_merger(i) {
                let feature = self.visual.deepstack_merger_list[merger].forward(x.clone());
                observe(Stage::Deepstack(deepstack.len()), &feature);
                deepstack.push(feature);
            }
        }
        let merged = self.visual.merger.forward(x);
        observe(Stage::Merged, &merged);

        let rows = self.image_rows(inputs);
        let (tokens, features) = (rows.dims()[0], merged.dims()[0]);
        assert_eq!(tokens, features, "as many image tokens as image features");
        Some(ImageFeatures {
            merged,
            deepstack,
            rows,
        })
    }

    /// Token embeddings with the image tokens replaced by the merged features, in order.
    fn embed(&self, inputs: &Inputs, images: Option<&ImageFeatures>) -> Tensor<2> {
        let embeddings = self
            .language_model
            .embed_tokens
            .rows(self.rows(&inputs.input_ids));
        let Some(images) = images else {
            return embeddings;
        };
        // A scatter that keeps the gradient of the features: clear the rows, then add.
        let image_token = self.config.image_token_id as i32;
        let keep: Vec<f32> = inputs
            .input_ids
            .iter()
            .map(|id| f32::from(u8::from(*id != image_token)))
            .collect();
        let keep = TensorData::new(keep, [inputs.rows * inputs.tokens, 1]);
        let cleared = embeddings * Tensor::from_data(keep, &self.device);
        let (rows, add) = (images.rows.clone(), IndexingUpdateOp::Add);
        cleared.select_assign(0, rows, images.merged.clone(), add)
    }

    fn text_context(&self, inputs: &Inputs) -> TextContext {
        let Inputs {
            rows,
            tokens,
            position_ids,
            ..
        } = inputs;
        TextContext::new(
            &self.config.text,
            position_ids,
            *rows,
            *tokens,
            inputs.attention_segments(),
            &self.device,
        )
    }

    fn pixel_values(&self, inputs: &Inputs) -> Tensor<2> {
        let width = self.config.vision.patch_dim();
        let patches = inputs.pixel_values.len() / width;
        let data = TensorData::new(inputs.pixel_values.clone(), [patches, width]);
        Tensor::from_data(data, &self.device)
    }

    /// Rows of the `[N, d]` hidden states that are image tokens, rising.
    fn image_rows(&self, inputs: &Inputs) -> Tensor<1, Int> {
        let image_token = self.config.image_token_id as i32;
        let ids = (0..).zip(&inputs.input_ids);
        let rows: Vec<i32> = ids
            .filter(|(_, id)| **id == image_token)
            .map(|(row, _)| row)
            .collect();
        self.rows(&rows)
    }

    fn head(&self) -> &Weight {
        self.lm_head
            .as_ref()
            .unwrap_or(&self.language_model.embed_tokens)
    }

    fn rows(&self, rows: &[i32]) -> Tensor<1, Int> {
        Tensor::from_data(TensorData::new(rows.to_vec(), [rows.len()]), &self.device)
    }

    /// Interpolation of the learned positions, for the parity tests.
    pub fn position_taps(&self, grid_thw: &[[usize; 3]]) -> Vec<PositionTaps> {
        self.visual.position_taps(grid_thw)
    }
}
