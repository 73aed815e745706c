//! What a run is, said before its first step.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;
use vlft_base::format;
use vlft_processor::image_cache::CacheReport;

use crate::config::{Base, DataConfig, TrainConfig};
use crate::order::Order;
use crate::samples::Samples;

/// What a run is, before its first step.
#[derive(Clone, Debug, Serialize)]
pub struct Header {
    pub model: String,
    pub base: Base,
    pub trained_parameters: u64,
    /// Frozen and trained ones together.
    pub parameters: u64,
    pub samples: u64,
    pub arrangement: Arrangement,
    /// While every record was checked.
    pub cache: Option<CacheReport>,
    pub eval_samples: u64,
    pub steps: u64,
    /// 1 for a new run, more for a resumed one.
    pub first_step: u64,
    pub micro_batch: usize,
    pub accumulate: usize,
    pub seed: u64,
    pub run: PathBuf,
}

/// How the samples of the first epoch lie in rows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Arrangement {
    /// One sample in a row; the share of all computed tokens that is padding.
    Padded { padding: f64 },
    /// Several samples in a row; the share of what the rows could hold that they hold.
    Packed { rows: u64, full: f64 },
}

impl Arrangement {
    pub(crate) fn new(
        data: &DataConfig,
        train: &TrainConfig,
        order: &mut Order,
        samples: &Samples,
    ) -> Self {
        let lengths = samples.lengths();
        let real: usize = lengths.iter().sum();
        if let (true, Some(row_tokens)) = (data.packing, data.row_tokens()) {
            let rows = order.groups_in_first_epoch();
            let full = real as f64 / (rows as f64 * row_tokens as f64);
            return Self::Packed { rows, full };
        }
        let computed = |batch: Vec<usize>| {
            let longest = batch.iter().map(|sample| lengths[*sample]).max();
            batch.len() * longest.unwrap_or(0)
        };
        let computed: usize = order.first_epoch(train).into_iter().map(computed).sum();
        Self::Padded {
            padding: 1.0 - real as f64 / computed as f64,
        }
    }
}

impl fmt::Display for Arrangement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packed { rows, full } => {
                let rows = format::count(*rows, "packed row");
                write!(f, " in {rows}, {:.0} % full", 100.0 * full)
            }
            // Not worth a word.
            Self::Padded { padding } if *padding < 0.005 => Ok(()),
            Self::Padded { padding } => write!(f, " ({:.0} % padding)", 100.0 * padding),
        }
    }
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
            "data     {}{}, {} ({} x {}), eval {}",
            format::count(self.samples, "sample"),
            self.arrangement,
            format::count(self.steps, "optimizer step"),
            self.micro_batch,
            self.accumulate,
            format::grouped(self.eval_samples),
        )?;
        if let Some(cache) = &self.cache {
            writeln!(f, "cache    {cache}")?;
        }
        write!(
            f,
            "run      seed {}, resolved config in `{}/config.toml`",
            self.seed,
            self.run.display()
        )?;
        if self.first_step > self.steps {
            let steps = format::count(self.steps, "step");
            write!(f, "\nresume   after the last of {steps}")?;
        } else if self.first_step > 1 {
            write!(
                f,
                "\nresume   at step {} of {}",
                self.first_step, self.steps
            )?;
        }
        Ok(())
    }
}
