//! What a run is, said before its first step.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use vlft_base::format;

use crate::config::Base;

/// What a run is, before its first step.
#[derive(Clone, Debug, Serialize)]
pub struct Header {
    pub model: String,
    pub base: Base,
    pub trained_parameters: u64,
    /// Frozen and trained ones together.
    pub parameters: u64,
    pub samples: u64,
    pub eval_samples: u64,
    pub steps: u64,
    /// 1 for a new run, more for a resumed one.
    pub first_step: u64,
    pub micro_batch: usize,
    pub accumulate: usize,
    pub seed: u64,
    pub run: PathBuf,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millions = |n: u64| match n {
            0..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
            _ => format!("{:.2} B", n as f64 / 1e9),
        };
        let share = 100.0 * self.trained_parameters as f64 / self.parameters as f64;
        let base = serde_json::to_value(self.base).expect("a plain name");
        writeln!(
            f,
            "model    {}, {} base; {} of {} parameters trained ({share:.2} %)",
            self.model,
            base.as_str().unwrap_or_default(),
            millions(self.trained_parameters),
            millions(self.parameters),
        )?;
        writeln!(
            f,
            "data     {}, {} ({} x {}), eval {}",
            format::count(self.samples, "sample"),
            format::count(self.steps, "optimizer step"),
            self.micro_batch,
            self.accumulate,
            format::grouped(self.eval_samples),
        )?;
        write!(
            f,
            "run      seed {}, resolved config in `{}/config.toml`",
            self.seed,
            self.run.display()
        )?;
        if self.first_step > 1 {
            write!(
                f,
                "\nresume   at step {} of {}",
                self.first_step, self.steps
            )?;
        }
        Ok(())
    }
}
