//! Where the memory of a run goes. A step passes through phases that hold different things; the peak is
//! the largest of them, and is told part by part, so that the parts add up to it.
//!
//! Every number follows what the code keeps alive: `vlft-model/src/qwen3_vl` says which tensors a phase
//! has, `vlft-kernels` what an operation keeps for its backward. `tests/memory.rs` compares the sum with
//! runs on a CPU. On a GPU nothing has been measured yet: there the same tensors are counted, as if every
//! operation had a kernel that keeps no more than ours on the CPU.

use serde::Serialize;
use vlft_checkpoint::{Config as Model, Layout, Part as Quantized};
use vlft_kernels::offload::ON_THE_WAY;
use vlft_model::Checkpointing;
use vlft_processor::pixels::MAX_KEPT_BYTES;

use super::activations::{Activations, Widths};
use super::load::{Load, Pass, Passes};
use super::time::Work;
use crate::config::{Base, Compute, Config};

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    LanguageModel,
    Embeddings,
    VisionTower,
    /// A, B, their gradients and two moments each.
    Adapters,
    BlockInputs,
    Activations,
    Head,
    /// A frozen matrix made dense for its product.
    DenseWeight,
    /// Micro-batches made ahead, and images on their way.
    Data,
    /// The program itself, or the GPU's context.
    Program,
}

impl Part {
    const fn about(self) -> &'static str {
        match self {
            Part::LanguageModel => "language model",
            Part::Embeddings => "embeddings and head",
            Part::VisionTower => "vision tower",
            Part::Adapters => "adapters, gradients, AdamW",
            Part::BlockInputs => "inputs of blocks",
            Part::Activations => "activations",
            Part::Head => "head and loss",
            Part::DenseWeight => "one matrix made dense",
            Part::Data => "data loaded ahead",
            Part::Program => "program",
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.about())
    }
}

/// A stretch of a run with a peak of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Loading,
    VisionForward,
    LanguageForward,
    Loss,
    LanguageBackward,
    VisionBackward,
    Checkpoint,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Loading => "while the weights are loaded",
            Phase::VisionForward => "in the forward of the vision tower",
            Phase::LanguageForward => "in the forward of the language model",
            Phase::Loss => "in the loss",
            Phase::LanguageBackward => "in the backward of the language model",
            Phase::VisionBackward => "in the backward of the vision tower",
            Phase::Checkpoint => "while a checkpoint is written",
        })
    }
}

/// The peak, and what it is made of.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Memory {
    pub phase: Phase,
    pub total_bytes: u64,
    /// None of them 0; they add up to the total.
    pub parts: Vec<(Part, u64)>,
}

impl Memory {
    fn new(phase: Phase, parts: impl IntoIterator<Item = (Part, u64)>) -> Self {
        let parts: Vec<_> = parts.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
        Self {
            phase,
            total_bytes: parts.iter().map(|(_, bytes)| bytes).sum(),
            parts,
        }
    }
}

/// Where a run takes place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Host,
    Gpu,
}

/// All that the memory of a run depends on, but not its data.
pub(crate) struct Setup {
    place: Place,
    model: Model,
    widths: Widths,
    weights: Weights,
    /// Parameters of A and B.
    adapter_parameters: u64,
    checkpointing: Checkpointing,
    trains_images: bool,
}

/// Image tokens whose pixels are held.
#[derive(Clone, Copy, Debug, Default)]
struct Waiting {
    /// Of the micro-batch in work and those made ahead.
    ahead: u64,
    /// Of the memory kept for the next images.
    kept: u64,
}

/// Bytes of the frozen weights as they are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weights {
    language_model: u64,
    embeddings: u64,
    vision_tower: u64,
    /// Elements of the largest matrix, whatever it is held as.
    largest: u64,
}

impl Weights {
    pub(crate) fn total(&self) -> u64 {
        self.language_model + self.embeddings + self.vision_tower
    }

    fn of(model: &Model, config: &Config) -> Self {
        let held = &config.model;
        let mut weights = Self::default();
        for (name, shape) in model.tensors() {
            let elements = shape.iter().product::<usize>() as u64;
            let part = Quantized::of(&name);
            let quantized = held.base == Base::Nf4
                && shape.len() > 1
                && part.is_some_and(|part| held.quantize.contains(&part));
            let bytes = match held.base {
                _ if quantized => nf4_bytes(elements, held.double_quant),
                Base::F32 => 4 * elements,
                Base::Nf4 | Base::Bf16 => 2 * elements,
            };
            if shape.len() > 1 {
                weights.largest = weights.largest.max(elements);
            }
            *match part {
                Some(Quantized::EmbedTokens | Quantized::LmHead) => &mut weights.embeddings,
                Some(Quantized::LanguageModel) => &mut weights.language_model,
                None if name.contains(".layers.") => &mut weights.language_model,
                Some(Quantized::Visual) | None => &mut weights.vision_tower,
            } += bytes;
        }
        weights
    }
}

/// Half a byte per weight; a scale per 64 of them, in f32 or, quantised twice, as a byte with another
/// scale per 256; and the code books.
fn nf4_bytes(elements: u64, double_quant: bool) -> u64 {
    let blocks = elements.div_ceil(64);
    let codes = elements.div_ceil(2) + 16 * 4;
    match double_quant {
        false => codes + 4 * blocks,
        true => codes + blocks + 4 * blocks.div_ceil(256) + 256 * 4,
    }
}

impl Setup {
    pub(crate) fn new(config: &Config, model: &Model, layout: &Layout, place: Place) -> Self {
        let default = match place {
            Place::Host => Compute::F32,
            Place::Gpu => Compute::Bf16,
        };
        let compute = config.model.compute.unwrap_or(default);
        let adapted = |part: &str| layout.modules.iter().any(|m| m.name.contains(part));
        Self {
            place,
            model: model.clone(),
            widths: Widths::new(config, model, layout, compute, place == Place::Host),
            weights: Weights::of(model, config),
            adapter_parameters: layout.parameters() as u64,
            checkpointing: config.train.checkpointing(),
            trains_images: adapted("model.visual."),
        }
    }

    /// What decides how long `passes` take.
    pub(crate) fn work(&self, passes: &Passes) -> Work {
        Work {
            gradient_checkpointing: self.checkpointing != Checkpointing::Off,
            trains_images: self.trains_images,
            weight_bytes: self.weights.total(),
            offloaded_bytes: passes.total(|load| self.offloaded(load) as f64),
        }
    }

    /// The largest phase of the whole run.
    pub(crate) fn peak(&self, passes: &Passes, evaluated: Option<Load>) -> (Memory, Load) {
        let waiting = |image_tokens_ahead| Waiting {
            ahead: image_tokens_ahead,
            kept: passes.image_tokens_kept,
        };
        let at = |pass: Pass| {
            let phases = self.phases(&pass.load, waiting(pass.image_tokens_ahead));
            (largest(phases.into_iter()), pass.load)
        };
        let training = passes.largest().into_iter().map(at);
        let ahead = waiting(passes.image_tokens_ahead());
        let evaluation = evaluated.map(|load| {
            let phases = self.forward_phases(&load, ahead, false).into_iter();
            (largest(phases), load)
        });
        let steps = training
            .chain(evaluation)
            .max_by_key(|(memory, _)| memory.total_bytes);
        let (memory, load) = steps.unwrap_or_else(|| {
            let nothing = self.phases(&Load::default(), ahead);
            (largest(nothing.into_iter()), Load::default())
        });
        let others = [self.loading(), self.writing(ahead)];
        match largest(others.into_iter()) {
            other if other.total_bytes > memory.total_bytes => (other, load),
            _ => (memory, load),
        }
    }

    /// What is there all the time.
    fn held(&self, waiting: Waiting, per_adapter_parameter: u64) -> Vec<(Part, u64)> {
        vec![
            (Part::LanguageModel, self.weights.language_model),
            (Part::Embeddings, self.weights.embeddings),
            (Part::VisionTower, self.weights.vision_tower),
            (
                Part::Adapters,
                per_adapter_parameter * self.adapter_parameters,
            ),
            (Part::Data, self.data(waiting)),
            (Part::Program, self.program()),
        ]
    }

    /// The phases of a step over one micro-batch.
    fn phases(&self, load: &Load, ahead: Waiting) -> Vec<Memory> {
        let mut phases = self.forward_phases(load, ahead, true);
        let (w, n) = (&self.widths, load.tokens);
        let layer = w.layer(n);
        let kept = self.kept_by_forward(load, true);
        let held = || self.held(ahead, TRAINED);
        // The tape of every layer, or of one that is run again.
        let tape = match self.checkpointing {
            Checkpointing::Off => 0,
            Checkpointing::On | Checkpointing::Offloaded => layer.kept,
        };
        phases.push(Memory::new(
            Phase::LanguageBackward,
            held().into_iter().chain([
                (Part::BlockInputs, kept),
                (Part::Activations, tape + layer.backward + 2 * w.hidden(n)),
                (Part::DenseWeight, layer.dense),
            ]),
        ));
        if self.trains_images && load.image_tokens > 0 {
            let block = w.vision_block(self.patches(load));
            let tape = match self.checkpointing {
                Checkpointing::Off => 0,
                Checkpointing::On | Checkpointing::Offloaded => block.kept,
            };
            phases.push(Memory::new(
                Phase::VisionBackward,
                held().into_iter().chain([
                    (Part::BlockInputs, self.vision_kept(load, true)),
                    (
                        Part::Activations,
                        tape + block.backward + w.features(load.image_tokens),
                    ),
                    (Part::DenseWeight, block.dense),
                ]),
            ));
        }
        phases
    }

    /// The phases up to the loss. Evaluation has these alone, and keeps nothing for a backward.
    fn forward_phases(&self, load: &Load, ahead: Waiting, training: bool) -> Vec<Memory> {
        let (w, n) = (&self.widths, load.tokens);
        let held = || self.held(ahead, TRAINED);
        let mut phases = Vec::new();
        let features = w.features(load.image_tokens);
        if load.image_tokens > 0 {
            let patches = self.patches(load);
            let Activations { forward, dense, .. } = w.vision_block(patches);
            // The pixels as a tensor while the first block's input is made.
            let pixels = 4 * patches * self.model.vision.patch_dim() as u64;
            let first = pixels + 2 * w.vision_hidden(patches);
            phases.push(Memory::new(
                Phase::VisionForward,
                held().into_iter().chain([
                    (Part::BlockInputs, self.vision_kept(load, training)),
                    (Part::Activations, first.max(forward + features)),
                    (Part::DenseWeight, dense),
                ]),
            ));
        }
        let Activations { forward, dense, .. } = w.layer(n);
        let kept = match training {
            true => self.kept_by_forward(load, true),
            false => w.hidden(n),
        };
        phases.push(Memory::new(
            Phase::LanguageForward,
            held().into_iter().chain([
                (Part::BlockInputs, kept),
                (Part::Activations, forward + features),
                (Part::DenseWeight, dense),
            ]),
        ));
        phases.push(Memory::new(
            Phase::Loss,
            held().into_iter().chain([
                (Part::BlockInputs, kept),
                (Part::Activations, w.hidden(n)),
                (Part::Head, w.head(load.supervised)),
            ]),
        ));
        phases
    }

    /// What the forward of the whole model leaves for the backward.
    fn kept_by_forward(&self, load: &Load, training: bool) -> u64 {
        let w = &self.widths;
        let layers = self.on_device(self.model.text.num_hidden_layers);
        let tapes = match self.checkpointing {
            Checkpointing::Off => w.kept_by_layers(load.tokens),
            Checkpointing::On | Checkpointing::Offloaded => 0,
        };
        layers * w.hidden(load.tokens) + tapes + self.vision_kept(load, training)
    }

    fn vision_kept(&self, load: &Load, training: bool) -> u64 {
        if !(training && self.trains_images) {
            return self.widths.vision_hidden(self.patches(load));
        }
        let block = match self.checkpointing {
            Checkpointing::Off => self.widths.vision_block(self.patches(load)).kept,
            Checkpointing::On | Checkpointing::Offloaded => 0,
        };
        let blocks = self.on_device(self.model.vision.depth);
        (blocks + 1) * (self.widths.vision_hidden(self.patches(load)) + block)
    }

    /// Of the inputs of `blocks`, those that are in the device's memory at once.
    fn on_device(&self, blocks: usize) -> u64 {
        let most = match (self.checkpointing, self.place) {
            (Checkpointing::Offloaded, Place::Gpu) => ON_THE_WAY,
            _ => usize::MAX,
        };
        blocks.min(most) as u64
    }

    /// Bytes that wait in the host's memory between the forward and the backward.
    fn offloaded(&self, load: &Load) -> u64 {
        if (self.checkpointing, self.place) != (Checkpointing::Offloaded, Place::Gpu) {
            return 0;
        }
        let w = &self.widths;
        let vision = match self.trains_images {
            true => self.model.vision.depth as u64 * w.vision_hidden(self.patches(load)),
            false => 0,
        };
        self.model.text.num_hidden_layers as u64 * w.hidden(load.tokens) + vision
    }

    fn patches(&self, load: &Load) -> u64 {
        load.image_tokens * self.model.vision.merge_unit() as u64
    }

    /// One matrix at a time becomes what it is held as.
    fn loading(&self) -> Memory {
        let held = self.held(Waiting::default(), TRAINED).into_iter();
        let conversion = match self.place {
            Place::Host => 4 * self.weights.largest,
            Place::Gpu => 0,
        };
        Memory::new(
            Phase::Loading,
            held.chain([(Part::DenseWeight, conversion)]),
        )
    }

    /// Moments as numbers and as the bytes of a file; the gradients are gone by then.
    fn writing(&self, ahead: Waiting) -> Memory {
        let held = match self.place {
            Place::Host => self.held(ahead, 12 + 16),
            Place::Gpu => self.held(ahead, 12),
        };
        Memory::new(Phase::Checkpoint, held)
    }

    fn data(&self, waiting: Waiting) -> u64 {
        let vision = &self.model.vision;
        let token = 4 * (vision.merge_unit() * vision.patch_dim()) as u64;
        match self.place {
            Place::Host => {
                token * waiting.ahead + (token * waiting.kept).min(MAX_KEPT_BYTES as u64)
            }
            Place::Gpu => 0,
        }
    }

    fn program(&self) -> u64 {
        match self.place {
            Place::Host => HOST_PROGRAM_BYTES,
            Place::Gpu => GPU_CONTEXT_BYTES,
        }
    }
}

/// Bytes per parameter of an adapter: itself, its gradient, two moments, all in f32.
const TRAINED: u64 = 16;

/// Code, threads, tokenizer. Measured 2026-11 on x86-64 Linux with the tiny model.
const HOST_PROGRAM_BYTES: u64 = 60 << 20;

/// The CUDA context with its kernels. An assumption until a GPU has run this.
const GPU_CONTEXT_BYTES: u64 = 700 << 20;

fn largest(phases: impl Iterator<Item = Memory>) -> Memory {
    phases
        .max_by_key(|memory| memory.total_bytes)
        .expect("there is one")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use vlft_checkpoint::Checkpoint;

    use super::*;

    #[test]
    fn four_bits_are_counted_as_a_quantised_checkpoint_has_them() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
        for (name, double) in [("bnb_double", true), ("bnb_single", false)] {
            let dir = fixtures.join(name);
            let checkpoint = Checkpoint::open(&dir).unwrap();
            let mut seen = 0;
            for (tensor, shape) in Model::from_dir(&dir).unwrap().tensors() {
                if checkpoint.quant_state(&tensor).is_none() {
                    continue;
                }
                let parts = [
                    "",
                    ".absmax",
                    ".quant_map",
                    ".nested_absmax",
                    ".nested_quant_map",
                ];
                let bytes = |part: &&str| checkpoint.bytes_of(&format!("{tensor}{part}"));
                let stored: usize = parts
                    .iter()
                    .filter_map(|p| Some(bytes(p).ok()?.len()))
                    .sum();
                let elements = shape.iter().product::<usize>() as u64;
                assert_eq!(
                    nf4_bytes(elements, double),
                    stored as u64,
                    "{name} {tensor}"
                );
                seen += 1;
            }
            assert!(seen > 10);
        }
    }
}
