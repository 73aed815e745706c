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
}

impl Journal {
    /// Of a new run: empty.
    pub(crate) fn create(run_dir: &Path, config: &EvalConfig) -> Result<Self> {
        Ok(Self {
            metrics: MetricsLog::create(run_dir)?,
            tensorboard: TensorBoard::create(run_dir, &[])?,
            best: Best::new(config),
        })
    }

    /// Cut back to `step` finished steps. A gap in it is a warning.
    pub(crate) fn resume(
        run_dir: &Path,
        config: &EvalConfig,
        step: u64,
    ) -> Result<(Self, Option<Diagnostic>)> {
        let resumed = MetricsLog::resume(run_dir, step)?;
        let mut best = Best::new(config);
        for line in &resumed.lines {
            if let Line::Eval(eval) = line {
                best.see(eval);
            }
        }
        let journal = Self {
            metrics: resumed.log,
            tensorboard: TensorBoard::create(run_dir, &resumed.lines)?,
            best,
        };
        Ok((journal, resumed.warning))
    }

    /// Lines are not kept: a long run must not grow by its log.
    pub(crate) fn write(&mut self, line: &Line) -> Result<()> {
        self.metrics.write(line)?;
        self.tensorboard.write(line)
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.metrics.sync()
    }
}
