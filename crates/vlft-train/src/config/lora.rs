//! `[lora]`: which modules are adapted, and how.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use serde::{Serialize, Serializer};
use vlft_checkpoint::{LoraSpec, LoraTargets, TEXT_TARGETS};

use super::reader::{Bound, Section};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoraConfig {
    pub rank: usize,
    pub alpha: f64,
    pub dropout: f64,
    /// Linear layers of the language model by their last name, or a regular expression over
    /// whole paths.
    pub targets: LoraTargets,
    /// Also adapt every linear layer of the vision blocks.
    pub vision: bool,
    /// Also adapt the mergers between vision blocks and language model.
    pub merger: bool,
    /// Other ranks by patterns that match the end of a path.
    #[serde(serialize_with = "as_table")]
    pub rank_pattern: Vec<(String, usize)>,
    #[serde(serialize_with = "as_table")]
    pub alpha_pattern: Vec<(String, f64)>,
    pub rslora: bool,
    /// An existing PEFT adapter to start from.
    pub init: Option<PathBuf>,
}

fn as_table<T: Serialize, S: Serializer>(
    entries: &[(String, T)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: LoraTargets::Names(TEXT_TARGETS.map(str::to_owned).to_vec()),
            vision: false,
            merger: false,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            rslora: false,
            init: None,
        }
    }
}

const RANKS: RangeInclusive<u64> = 1..=65_536;

impl LoraConfig {
    /// What the model crate expands over a model.
    pub(crate) fn spec(&self) -> LoraSpec {
        LoraSpec {
            targets: self.targets.clone(),
            vision: self.vision,
            merger: self.merger,
            rank: self.rank,
            alpha: self.alpha,
            rslora: self.rslora,
            rank_pattern: self.rank_pattern.clone(),
            alpha_pattern: self.alpha_pattern.clone(),
        }
    }

    pub(super) fn read(s: &mut Section) -> Self {
        let d = Self::default();
        Self {
            rank: s.size("rank", d.rank, RANKS, "r of A [r, in] and B [out, r]"),
            alpha: s.number("alpha", d.alpha, Bound::Positive, "scale is alpha / rank"),
            dropout: s.number("dropout", d.dropout, Bound::Fraction, "on the input of A"),
            targets: s.names_or_pattern(
                "targets",
                &d.targets,
                &TEXT_TARGETS,
                "in the language model; or a regular expression over whole paths",
            ),
            vision: s.boolean("vision", d.vision, "also adapt the vision blocks"),
            merger: s.boolean("merger", d.merger, "also adapt the mergers"),
            rank_pattern: s.integer_table("rank_pattern", RANKS, "by ends of paths"),
            alpha_pattern: s.number_table("alpha_pattern", Bound::Positive, "by ends of paths"),
            rslora: s.boolean("rslora", d.rslora, "scale is alpha / sqrt(rank)"),
            init: s.optional_path("init", "a PEFT adapter to start from"),
        }
    }
}
