//! Qwen3-VL: a vision tower, a language model, and how they meet. Read this file first.
//!
//! One forward serves evaluation, both kinds of training and the parity tests: what is trained, and
//! whether a tape runs, is decided by the [`Adapters`] passed in; whoever wants to see a stage
//! passes an observer. Frozen weights are constants to autodiff.
//!
//! Shapes: B rows, T tokens, N = B T, d text width, P patches, M merged image tokens, V vocabulary.

mod answers;
mod decode;
mod experts;
mod gradient;
mod loader;
mod pooling;
mod rope;
mod text;
mod vision;

use std::ops::Range;

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::{Checkpoint, Config, Layout};
use vlft_kernels::attention::lacks_kernel;
use vlft_kernels::random::{Key, uniform};

pub use answers::Head;
pub use decode::PromptImages;
pub use gradient::Checkpointing;
pub use vision::PositionTaps;

use crate::frozen::Frozen;
use crate::linear::{Weight, as_type};
use crate::lora::Adapters;
use loader::Loader;
use text::{Mlp, TextContext, TextModel};
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
    merger_adapters: Range<usize>,
    deepstack_adapters: Vec<Range<usize>>,
    layer_adapters: Vec<Range<usize>>,
    compute: Compute,
    /// What was noticed while loading, and did not hinder it.
    pub warnings: Vec<Diagnostic>,
}

/// The type of the activations and of the products with weights. Norms, softmax, rotation and loss
/// are in f32 either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compute {
    F32,
    Bf16,
}

impl Compute {
    fn dtype(self) -> DType {
        match self {
            Compute::F32 => DType::F32,
            Compute::Bf16 => DType::BF16,
        }
    }
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
    /// Only in training.
    pub neftune: Option<Neftune>,
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

/// Uniform noise on the token embeddings (Jain et al. 2023), `alpha / sqrt(T d)` at most for a
/// sample of T tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Neftune {
    pub alpha: f64,
    pub seed: u64,
    /// Which forward pass of the run.
    pub pass: u64,
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
    /// Rows of the `[N, d]` hidden states that are image tokens, as a tensor and as numbers.
    rows: Tensor<1, Int>,
    row_numbers: Vec<i32>,
}

/// One warning for each half of the model whose attention has no GPU kernel on a GPU.
fn slow_attention(config: &Config, device: &Device) -> Vec<Diagnostic> {
    let vision = config.vision.hidden_size / config.vision.num_heads;
    let halves = [("language", config.text.head_dim), ("vision", vision)];
    let slow = halves
        .into_iter()
        .filter(|(_, head_dim)| lacks_kernel(device, *head_dim));
    slow.map(|(half, head_dim)| {
        Diagnostic::warning(format!(
            "no GPU kernel for attention with heads of {head_dim}: the {half} model takes the plain way"
        ))
        .hint("it is slow and keeps all scores in memory; published models have heads of 64, 72 or 128")
    })
    .collect()
}

impl Qwen3Vl {
    /// Reads a checkpoint. With `layout`, its modules get their adapters from the list passed to
    /// each call; without, the model runs bare.
    pub fn load(
        config: &Config,
        checkpoint: &Checkpoint,
        layout: Option<&Layout>,
        frozen: impl Into<Frozen>,
        device: &Device,
    ) -> Result<Self> {
        let frozen = frozen.into();
        let loader = Loader::new(checkpoint, config, layout, &frozen, device)?;
        let adapters_of = |blocks: &str, count: usize| {
            (0..count)
                .map(|i| layout.map_or(0..0, |l| l.range(&format!("{blocks}.{i}."))))
                .collect()
        };
        let mut model = Self {
            visual: VisionModel::load(&config.vision, &loader)?,
            language_model: TextModel::load(&config.text, &loader)?,
            lm_head: match config.tie_word_embeddings || !config.has_head {
                true => None,
                false => Some(loader.matrix("lm_head.weight")?),
            },
            vision_block_adapters: adapters_of("model.visual.blocks", config.vision.depth),
            merger_adapters: layout.map_or(0..0, |l| l.range("model.visual.merger.")),
            deepstack_adapters: adapters_of(
                "model.visual.deepstack_merger_list",
                config.vision.deepstack_visual_indexes.len(),
            ),
            layer_adapters: adapters_of(
                "model.language_model.layers",
                config.text.num_hidden_layers,
            ),
            compute: Compute::F32,
            config: config.clone(),
            device: device.clone(),
            warnings: Vec::new(),
        };
        model.warnings = loader.finish()?;
        model.warnings.extend(slow_attention(config, device));
        Ok(model)
    }

    /// The same model computing in another type.
    pub fn computing_in(self, compute: Compute) -> Self {
        Self { compute, ..self }
    }

    /// The slow twin of a model with experts: one expert after the other, in plain tensor operations. It
    /// is there to be compared with.
    pub fn with_experts_one_by_one(mut self) -> Self {
        for layer in &mut self.language_model.layers {
            if let Mlp::Sparse(experts) = &mut layer.mlp {
                experts.one_by_one();
            }
        }
        self
    }

    /// Whether a language-model layer is held in four bits, and if so with double quantisation.
    pub fn double_quant(&self) -> Option<bool> {
        self.language_model.double_quant()
    }

    /// Hidden states before the final norm, `[N, d]`.
    pub fn hidden_states(
        &self,
        inputs: &Inputs,
        adapters: &Adapters,
        observe: Observer,
    ) -> Tensor<2> {
        let images = self.image_features(inputs, adapters, observe);
        self.text_states(inputs, images.as_ref(), adapters, observe)
    }

    /// The language model over tokens and the features of their images.
    fn text_states(
        &self,
        inputs: &Inputs,
        images: Option<&ImageFeatures>,
        adapters: &Adapters,
        observe: Observer,
    ) -> Tensor<2> {
        let context = self.text_context(inputs);
        let mut hidden = self.embed(inputs, images);
        for (i, layer) in self.language_model.layers.iter().enumerate() {
            observe(Stage::LayerInput(i), &hidden);
            hidden = layer.forward(hidden, &context, adapters);
            observe(Stage::LayerOutput(i), &hidden);
            if let Some(images) = images
                && let Some(feature) = images.deepstack.get(i)
            {
                // Deepstack: after layer i, feature i is added at the image tokens.
                let (rows, add) = (images.rows.clone(), IndexingUpdateOp::Add);
                hidden = hidden.select_assign(0, rows, feature.clone(), add);
            }
        }
        hidden
    }

    /// Logits of all positions, `[N, V]`. Memory grows with V: for tests and short texts.
    pub fn logits(&self, inputs: &Inputs, adapters: &Adapters, observe: Observer) -> Tensor<2> {
        let hidden = self.hidden_states(inputs, adapters, observe);
        let normal = self.language_model.norm.forward(hidden);
        observe(Stage::FinalNorm, &normal);
        self.head().product(normal)
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
        let dtype = self.compute.dtype();
        let pixel_values = as_type(self.pixel_values(inputs), dtype);
        let patch_embed = self.visual.patch_embed(pixel_values);
        observe(Stage::PatchEmbed, &patch_embed);
        let pos_embed = as_type(self.visual.pos_embed(&inputs.grid_thw, &self.device), dtype);
        observe(Stage::PosEmbed, &pos_embed);

        let mut x = patch_embed + pos_embed;
        let mut deepstack = Vec::new();
        for (i, block) in self.visual.blocks.iter().enumerate() {
            observe(Stage::VisionBlockInput(i), &x);
            x = block.forward(x, &context, adapters);
            observe(Stage::VisionBlock(i), &x);
            if let Some(merger) = self.visual.deepstack_merger(i) {
                let merger = &self.visual.deepstack_merger_list[merger];
                let feature = merger.forward(x.clone(), adapters);
                observe(Stage::Deepstack(deepstack.len()), &feature);
                deepstack.push(feature);
            }
        }
        let merged = self.visual.merger.forward(x, adapters);
        observe(Stage::Merged, &merged);

        let row_numbers = self.image_row_numbers(inputs);
        let rows = self.rows(&row_numbers);
        let (tokens, features) = (rows.dims()[0], merged.dims()[0]);
        assert_eq!(tokens, features, "as many image tokens as image features");
        Some(ImageFeatures {
            merged,
            deepstack,
            rows,
            row_numbers,
        })
    }

    /// Token embeddings with the image tokens replaced by the merged features, in order.
    fn embed(&self, inputs: &Inputs, images: Option<&ImageFeatures>) -> Tensor<2> {
        let mut embeddings = self
            .language_model
            .embed_tokens
            .rows(self.rows(&inputs.input_ids));
        if let Some(neftune) = inputs.neftune {
            embeddings = embeddings + self.noise(inputs, neftune);
        }
        let embeddings = as_type(embeddings, self.compute.dtype());
        let Some(images) = images else {
            return embeddings;
        };
        // A scatter that keeps the gradient of the features: clear the rows, then add.
        // By the rows, not by the ids: a model may answer with an image token, which is a word then.
        let mut keep = vec![1f32; inputs.rows * inputs.tokens];
        for row in &images.row_numbers {
            keep[*row as usize] = 0.0;
        }
        let keep = TensorData::new(keep, [inputs.rows * inputs.tokens, 1]);
        let keep = as_type(Tensor::from_data(keep, &self.device), self.compute.dtype());
        let cleared = embeddings * keep;
        let (rows, add) = (images.rows.clone(), IndexingUpdateOp::Add);
        cleared.select_assign(0, rows, images.merged.clone(), add)
    }

    /// Each token's own, `[N, d]`.
    fn noise(&self, inputs: &Inputs, Neftune { alpha, seed, pass }: Neftune) -> Tensor<2> {
        // No adapted module has this number.
        let module = u32::MAX;
        let [n, d] = [inputs.rows * inputs.tokens, self.config.text.hidden_size];
        let noise = uniform(Key { seed, pass, module }, n * d);
        let noise = Tensor::<2>::from_data(TensorData::new(noise, [n, d]), &self.device);
        let bound = |length: usize| (alpha / ((length * d) as f64).sqrt()) as f32;
        let segments = inputs.attention_segments();
        let bounds = segments
            .iter()
            .flat_map(|length| vec![bound(*length); *length]);
        let bounds = TensorData::new(bounds.collect::<Vec<f32>>(), [n, 1]);
        (noise * 2.0 - 1.0) * Tensor::<2>::from_data(bounds, &self.device)
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
        self.rows(&self.image_row_numbers(inputs))
    }

    fn image_row_numbers(&self, inputs: &Inputs) -> Vec<i32> {
        let image_token = self.config.image_token_id as i32;
        let ids = (0..).zip(&inputs.input_ids);
        ids.filter(|(_, id)| **id == image_token)
            .map(|(row, _)| row)
            .collect()
    }

    fn head(&self) -> &Weight {
        assert!(
            self.config.has_head,
            "logits are asked of a model with a head"
        );
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
