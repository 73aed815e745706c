//! `[train]`: the steps and the optimiser.

use serde::Serialize;
use vlft_model::Checkpointing;

use super::reader::{ANY, Bound, Choice, Section};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainConfig {
    pub epochs: u64,
    /// Wins over `epochs`.
    pub max_steps: Option<u64>,
    pub micro_batch: usize,
    pub accumulate: usize,
    pub learning_rate: f64,
    /// LoRA+: the learning rate of B over that of A.
    pub lr_ratio: f64,
    /// Of adapters in the vision blocks; None: `learning_rate`.
    pub vision_learning_rate: Option<f64>,
    /// Of adapters in the mergers; None: `learning_rate`.
    pub merger_learning_rate: Option<f64>,
    pub schedule: Schedule,
    pub warmup_steps: u64,
    pub weight_decay: f64,
    pub betas: [f64; 2],
    pub eps: f64,
    /// Global norm; 0 is off.
    pub max_grad_norm: f64,
    pub loss_average: LossAverage,
    /// Noise on the token embeddings; 0 is off.
    pub neftune_alpha: f64,
    pub gradient_checkpointing: bool,
    /// Where the inputs of blocks wait for the backward: in the host's memory.
    pub activation_offloading: bool,
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    Cosine,
    Linear,
    Constant,
}

/// What the loss of a step is the mean of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossAverage {
    /// All supervised tokens of the step.
    Token,
    /// The micro-batches' own means, as the HF Trainer does for this model.
    MicroBatch,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            epochs: 1,
            max_steps: None,
            micro_batch: 1,
            accumulate: 16,
            learning_rate: 1e-4,
            lr_ratio: 1.0,
            vision_learning_rate: None,
            merger_learning_rate: None,
            schedule: Schedule::Cosine,
            warmup_steps: 10,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
            max_grad_norm: 1.0,
            loss_average: LossAverage::Token,
            neftune_alpha: 0.0,
            gradient_checkpointing: true,
            activation_offloading: false,
            seed: 42,
        }
    }
}

impl TrainConfig {
    pub(super) fn read(s: &mut Section) -> Self {
        let d = Self::default();
        Self {
            epochs: s.count(
                "epochs",
                d.epochs,
                1..=ANY,
                "passes over the training records",
            ),
            max_steps: s.optional_count("max_steps", 1..=ANY, "optimizer steps; wins over epochs"),
            micro_batch: s.size(
                "micro_batch",
                d.micro_batch,
                1..=1_000_000,
                "samples in one forward",
            ),
            accumulate: s.size(
                "accumulate",
                d.accumulate,
                1..=1_000_000,
                "micro-batches in one step",
            ),
            learning_rate: s.number("learning_rate", d.learning_rate, Bound::Positive, "peak"),
            lr_ratio: s.number(
                "lr_ratio",
                d.lr_ratio,
                Bound::Positive,
                "LoRA+: of B over A",
            ),
            vision_learning_rate: s.optional_number(
                "vision_learning_rate",
                Bound::Positive,
                "of the vision blocks; absent: learning_rate",
            ),
            merger_learning_rate: s.optional_number(
                "merger_learning_rate",
                Bound::Positive,
                "of the mergers; absent: learning_rate",
            ),
            schedule: s.choice("schedule", d.schedule, "after the warm-up"),
            warmup_steps: s.count(
                "warmup_steps",
                d.warmup_steps,
                0..=ANY,
                "from 0 up to the peak",
            ),
            weight_decay: s.number(
                "weight_decay",
                d.weight_decay,
                Bound::NotNegative,
                "decoupled",
            ),
            betas: s.pair("betas", d.betas, Bound::Fraction, "AdamW"),
            eps: s.number("eps", d.eps, Bound::Positive, "AdamW"),
            max_grad_norm: s.number(
                "max_grad_norm",
                d.max_grad_norm,
                Bound::NotNegative,
                "global norm; 0 is off",
            ),
            loss_average: s.choice("loss_average", d.loss_average, "the mean of what"),
            neftune_alpha: s.number(
                "neftune_alpha",
                d.neftune_alpha,
                Bound::NotNegative,
                "noise on the token embeddings; 0 is off",
            ),
            gradient_checkpointing: s.boolean(
                "gradient_checkpointing",
                d.gradient_checkpointing,
                "keep block inputs only, recompute backwards",
            ),
            activation_offloading: s.boolean(
                "activation_offloading",
                d.activation_offloading,
                "block inputs wait in the host's memory, not in the GPU's",
            ),
            seed: s.count("seed", d.seed, 0..=ANY, "of the order and of A"),
        }
    }
}

impl TrainConfig {
    /// What a forward keeps for its backward.
    pub fn checkpointing(&self) -> Checkpointing {
        match (self.gradient_checkpointing, self.activation_offloading) {
            (false, _) => Checkpointing::Off,
            (true, false) => Checkpointing::On,
            (true, true) => Checkpointing::Offloaded,
        }
    }
}

impl Choice for Schedule {
    const ALL: &[(&str, Self)] = &[
        ("cosine", Schedule::Cosine),
        ("linear", Schedule::Linear),
        ("constant", Schedule::Constant),
    ];
}

impl Choice for LossAverage {
    const ALL: &[(&str, Self)] = &[
        ("token", LossAverage::Token),
        ("micro_batch", LossAverage::MicroBatch),
    ];
}
