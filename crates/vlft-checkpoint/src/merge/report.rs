//! What a merge did, for `merge-report.json` and for the terminal.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use serde::{Deserialize, Serialize};
use vlft_base::format::{count, grouped};

use super::kernel::Stats;

pub const REPORT_FILE: &str = "merge-report.json";

/// `merge-report.json`. A function of the inputs only: the same merge writes the same bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MergeReport {
    pub version: u32,
    /// Of vlft.
    pub tool: String,
    pub base: String,
    /// SHA-256 of every file of the base's weights.
    pub base_files: BTreeMap<String, String>,
    pub adapter: String,
    pub adapter_files: BTreeMap<String, String>,
    /// The quantised model that the adapter was trained on, where that was another one.
    pub trained_on: Option<String>,
    pub rank: usize,
    pub alpha: f64,
    pub rslora: bool,
    pub tensors_total: usize,
    pub weights_changed: u64,
    /// Weights of adapted tensors whose bytes are those of the base: the change was less than half
    /// a step of their type.
    pub weights_unchanged: u64,
    /// Every tensor that was changed.
    pub tensors: Vec<TensorChange>,
    /// Files of the base that are not in the output.
    pub left_out: Vec<String>,
    /// What a 4-bit base would have made of the same records, if it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantized_difference: Option<serde_json::Value>,
}

/// One tensor: the change, and what rounding to its type took from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TensorChange {
    pub name: String,
    pub dtype: String,
    pub max_delta: f32,
    pub mean_delta: f64,
    pub max_lost: f32,
    pub mean_lost: f64,
    /// Share of its weights whose bytes stayed as they were.
    pub unchanged: f64,
}

impl TensorChange {
    pub(crate) fn new(name: String, dtype: String, stats: &Stats) -> Self {
        let count = stats.count.max(1) as f64;
        Self {
            name,
            dtype,
            max_delta: stats.max,
            mean_delta: stats.sum / count,
            max_lost: stats.lost_max,
            mean_lost: stats.lost_sum / count,
            unchanged: stats.unchanged as f64 / count,
        }
    }
}

impl Display for MergeReport {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        let kind = if self.rslora { ", rsLoRA" } else { "" };
        writeln!(f, "base      `{}`", self.base)?;
        writeln!(
            f,
            "adapter   `{}`, rank {}, alpha {}{kind}",
            self.adapter, self.rank, self.alpha
        )?;
        writeln!(
            f,
            "changed   {} of {}, {} weights",
            grouped(self.tensors.len() as u64),
            count(self.tensors_total as u64, "tensor"),
            grouped(self.weights_changed),
        )?;
        let largest = self
            .tensors
            .iter()
            .max_by(|a, b| a.max_delta.total_cmp(&b.max_delta));
        if let Some(largest) = largest {
            writeln!(
                f,
                "largest   {:.3e} in `{}`",
                largest.max_delta, largest.name
            )?;
        }
        let sum = |f: fn(&TensorChange) -> f64| self.tensors.iter().map(f).sum::<f64>();
        let (delta, lost) = (sum(|t| t.mean_delta), sum(|t| t.mean_lost));
        if lost > 0.0 && delta > 0.0 {
            writeln!(
                f,
                "rounding  {:.1} % of the change, on average; {:.1} % of these weights stayed as they were",
                100.0 * lost / delta,
                100.0 * self.weights_unchanged as f64
                    / (self.weights_unchanged + self.weights_changed).max(1) as f64,
            )?;
        }
        if !self.left_out.is_empty() {
            writeln!(f, "left out  {}", self.left_out.join(", "))?;
        }
        Ok(())
    }
}
