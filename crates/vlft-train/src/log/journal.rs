//! The log of one run while it goes on: the open file, and what is known from its lines.

use std::path::Path;

use vlft_base::{Diagnostic, Result};

use super::{Line, MetricsLog};

pub(crate) struct Journal {
    metrics: MetricsLog,
    /// Every line of the run so far, those from before a resume included.
    pub(crate) lines: Vec<Line>,
    pub(crate) best_eval_loss: Option<f64>,
}

impl Journal {
    /// Of a new run: empty.
    pub(crate) fn create(run_dir: &Path) -> Result<Self> {
        Ok(Self {
            metrics: MetricsLog::create(run_dir)?,
            lines: Vec::new(),
            best_eval_loss: None,
        })
    }

    /// Cut back to `step` finished steps. A gap in it is a warning.
    pub(crate) fn resume(run_dir: &Path, step: u64) -> Result<(Self, Option<Diagnostic>)> {
        let resumed = MetricsLog::resume(run_dir, step)?;
        let evals = resumed.lines.iter().filter_map(|line| match line {
            Line::Eval(eval) => Some(eval.loss),
            _ => None,
        });
        let best_eval_loss = evals.reduce(f64::min);
        let journal = Self {
            metrics: resumed.log,
            lines: resumed.lines,
            best_eval_loss,
        };
        Ok((journal, resumed.warning))
    }

    pub(crate) fn write(&mut self, line: Line) -> Result<&Line> {
        self.metrics.write(&line)?;
        self.lines.push(line);
        Ok(self.lines.last().expect("pushed just above"))
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.metrics.sync()
    }
}
