//! `[eval]`: evaluations while training.

use serde::Serialize;

use super::reader::{ANY, Bound, Choice, Section};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalConfig {
    /// 0: only at the end.
    pub every_steps: u64,
    /// Records of the validation set whose answers are written down at each evaluation.
    pub samples: usize,
    /// Records that are answered for `field_accuracy`; the samples are among them.
    pub generate_records: usize,
    /// Of one answer.
    pub max_new_tokens: usize,
    /// Which evaluation is the best.
    pub best_metric: BestMetric,
    /// End the run after so many evaluations without improvement; 0 is off.
    pub patience: u64,
    /// What counts as one.
    pub min_delta: f64,
}

/// What the best checkpoint is the best in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BestMetric {
    /// The lowest loss on the validation set.
    Loss,
    /// The largest share of right fields in generated answers; among equals, the lowest loss.
    FieldAccuracy,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            every_steps: 50,
            samples: 0,
            generate_records: 0,
            max_new_tokens: 256,
            best_metric: BestMetric::Loss,
            patience: 0,
            min_delta: 0.0,
        }
    }
}

impl EvalConfig {
    pub(super) fn read(s: &mut Section) -> Self {
        let d = Self::default();
        Self {
            every_steps: s.count("every_steps", d.every_steps, 0..=ANY, "0: only at the end"),
            samples: s.size(
                "samples",
                d.samples,
                0..=1000,
                "records whose answers go into metrics.jsonl and report.html",
            ),
            generate_records: s.size(
                "generate_records",
                d.generate_records,
                0..=ANY,
                "records answered for field_accuracy, samples included; slow",
            ),
            max_new_tokens: s.size(
                "max_new_tokens",
                d.max_new_tokens,
                1..=1_000_000,
                "of one answer; each costs a forward of the text",
            ),
            best_metric: s.choice("best_metric", d.best_metric, "decides what RUN/best is"),
            patience: s.count(
                "patience",
                d.patience,
                0..=ANY,
                "evaluations without improvement that end the run; 0 is off",
            ),
            min_delta: s.number(
                "min_delta",
                d.min_delta,
                Bound::NotNegative,
                "by which best_metric must change to count as improvement",
            ),
        }
    }

    /// How many records of the validation set are answered at each evaluation.
    pub(crate) fn answers(&self) -> usize {
        self.samples.max(self.generate_records)
    }
}

impl Choice for BestMetric {
    const ALL: &[(&str, Self)] = &[
        ("loss", BestMetric::Loss),
        ("field_accuracy", BestMetric::FieldAccuracy),
    ];
}
