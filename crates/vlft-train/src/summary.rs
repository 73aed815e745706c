//! What a finished run reports: the last line of its log, and where its adapter is.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use vlft_base::format;

use crate::log::{Line, Stopped, SummaryLine, waiting};
use crate::skipped::SKIPPED_FILE;

/// What a finished run reports.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub run: PathBuf,
    /// Of the last step.
    pub adapter: PathBuf,
    /// Of the best evaluation; None without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best: Option<PathBuf>,
    /// The command that serves the better of the two with vLLM, with the flags it needs.
    pub serve: String,
    #[serde(flatten)]
    pub summary: SummaryLine,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = &self.summary;
        write!(
            f,
            "{}, loss {:.4} -> {:.4}",
            format::count(summary.steps, "step"),
            summary.first_loss,
            summary.last_loss
        )?;
        if let Some(loss) = summary.eval_loss {
            write!(f, ", eval {loss:.4}")?;
        }
        if let Some(waiting) = waiting(summary.data_seconds, summary.seconds) {
            write!(f, ", {waiting}")?;
        }
        if summary.skipped > 0 {
            let count = format::count(summary.skipped, "record");
            let list = self.run.join(SKIPPED_FILE);
            write!(f, ", {count} skipped (`{}`)", list.display())?;
        }
        if let Some(Stopped::Patience) = summary.stopped {
            write!(f, ", ended early: no improvement")?;
        }
        if let Some(memory) = &summary.memory {
            let (peak, predicted) = (memory.peak_bytes, memory.predicted_bytes);
            let (peak, predicted) = (format::bytes(peak), format::bytes(predicted));
            write!(f, ", peak memory {peak} ({predicted} predicted)")?;
        }
        write!(f, "   adapter `{}`", self.adapter.display())?;
        if let (Some(best), Some(step)) = (&self.best, summary.best_step) {
            write!(f, ", best after step {step} `{}`", best.display())?;
        }
        write!(f, "\n\nserve it with\n  {}", self.serve)
    }
}

/// The summary of all lines of a finished run. `stopped`: why it ended before its last step.
pub(crate) fn summarise(
    lines: &[Line],
    best_step: Option<u64>,
    stopped: Option<Stopped>,
) -> SummaryLine {
    let steps = || {
        lines.iter().filter_map(|line| match line {
            Line::Step(step) => Some(step),
            _ => None,
        })
    };
    let eval_losses = || {
        lines.iter().filter_map(|line| match line {
            Line::Eval(eval) => Some(eval.loss),
            _ => None,
        })
    };
    SummaryLine {
        steps: steps().count() as u64,
        first_loss: steps().next().map_or(f64::NAN, |step| step.loss),
        last_loss: steps().next_back().map_or(f64::NAN, |step| step.loss),
        eval_loss: eval_losses().next_back(),
        best_eval_loss: eval_losses().reduce(f64::min),
        best_step,
        stopped,
        tokens: steps().map(|step| step.tokens).sum(),
        supervised_tokens: steps().map(|step| step.supervised_tokens).sum(),
        seconds: steps().map(|step| step.seconds).sum(),
        skipped: steps().map(|step| step.skipped.len() as u64).sum(),
        data_seconds: steps().map(|step| step.data_seconds).sum(),
        memory: None,
    }
}
