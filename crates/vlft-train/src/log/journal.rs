//! The log of one run while it goes on: the open files, and what is known from its lines.

use std::path::Path;

use vlft_base::{Diagnostic, Result};

use super::{Line, MetricsLog, TensorBoard};
use crate::best::Best;
use crate::config::EvalConfig;

pub(crate) struct Journal {
    metrics: MetricsLog,
    tensorboard: TensorBoard,
    pub(crate) best: Best,
    /// The step whose evaluation is the last one in the log.
    evaluated: Option<u64>,
}

impl Journal {
    /// Of a new run: empty.
    pub(crate) fn create(run_dir: &Path, config: &EvalConfig) -> Result<Self> {
        Ok(Self {
            metrics: MetricsLog::create(run_dir)?,
            tensorboard: TensorBoard::create(run_dir, &[])?,
            best: Best::new(config),
            evaluated: None,
        })
    }

    /// Cut back to `step` finished steps. A gap in it is a warning.
    pub(crate) fn resume(
        run_dir: &Path,
        config: &EvalConfig,
        step: u64,
    ) -> Result<(Self, Option<Diagnostic>)> {
        let resumed = MetricsLog::resume(run_dir, step)?;
        let (mut best, mut evaluated) = (Best::new(config), None);
        for line in &resumed.lines {
            if let Line::Eval(eval) = line {
                best.see(eval);
                evaluated = Some(eval.step);
            }
        }
        let journal = Self {
            metrics: resumed.log,
            tensorboard: TensorBoard::create(run_dir, &resumed.lines)?,
            best,
            evaluated,
        };
        Ok((journal, resumed.warning))
    }

    /// Whether the evaluation after `step` finished steps is in the log.
    pub(crate) fn has_evaluated(&self, step: u64) -> bool {
        self.evaluated == Some(step)
    }

    /// Lines are not kept: a long run must not grow by its log.
    pub(crate) fn write(&mut self, line: &Line) -> Result<()> {
        self.metrics.write(line)?;
        self.tensorboard.write(line)?;
        if let Line::Eval(eval) = line {
            self.evaluated = Some(eval.step);
        }
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.metrics.sync()
    }
}
