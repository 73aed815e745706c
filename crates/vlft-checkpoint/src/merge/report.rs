//! What a merge did, for `merge-report.json` and for the terminal.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

use serde::{Deserialize, Serialize};
use vlft_base::Result;
use vlft_base::format::{count, grouped, one_line};
use vlft_base::output::write_atomic;

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
    /// Files and folders of the base that are not in the output.
    pub left_out: Vec<String>,
    /// Why each of them is not.
    #[serde(default)]
    pub left_out_why: BTreeMap<String, String>,
    /// Whether the adapter was trained on a 4-bit base.
    #[serde(default)]
    pub quantized_base: bool,
    /// What the base that the adapter was trained on is quantised by, as far as files tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantized_by: Option<String>,
    /// What the 4-bit base makes of the same records, if it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantized_difference: Option<QuantizedDifference>,
}

/// The adapter on the 4-bit base it was trained on, against the merged 16-bit model: where an answer
/// is supervised, over the whole vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizedDifference {
    pub data: String,
    pub data_sha256: String,
    pub records: u64,
    /// Supervised ones.
    pub tokens: u64,
    /// Of the language model; None if only other parts were in four bits.
    pub double_quant: Option<bool>,
    pub max_logit_difference: f32,
    pub mean_logit_difference: f64,
    /// Tokens for which the two models hold another token the likeliest.
    pub other_predictions: u64,
    /// Mean negative log-likelihood per supervised token, of base + adapter as they were trained.
    pub loss_before: f64,
    /// The same of the merged model.
    pub loss_after: f64,
}

impl MergeReport {
    /// Writes it into the merged model's folder.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain values") + "\n";
        write_atomic(&dir.join(REPORT_FILE), text.as_bytes())
    }
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
        for name in &self.left_out {
            let why = self.left_out_why.get(name).map_or("", String::as_str);
            writeln!(f, "left out  {}: {}", one_line(name), one_line(why))?;
        }
        match (&self.quantized_difference, &self.quantized_by) {
            (Some(difference), _) => difference.fmt(f),
            (None, _) if self.quantized_base => writeln!(
                f,
                "4 bits    trained on a 4-bit base; what 16 bits change is not measured, `--data F.jsonl` does it",
            ),
            (None, Some(method)) => writeln!(
                f,
                "trained   on a base quantised by {method}; what that changes is not measured",
            ),
            (None, None) => Ok(()),
        }
    }
}

impl Display for QuantizedDifference {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        writeln!(
            f,
            "4 bits    loss {:.4} on the 4-bit base, {:.4} merged ({} of {})",
            self.loss_before,
            self.loss_after,
            count(self.tokens, "token"),
            count(self.records, "record"),
        )?;
        writeln!(
            f,
            "          |delta logit| at most {:.3e}, {:.3e} on average; {} predicted otherwise",
            self.max_logit_difference,
            self.mean_logit_difference,
            count(self.other_predictions, "token"),
        )
    }
}
