//! The records of a run as far as their sizes go: text through the trainer's own tokenizer, images by
//! their headers.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use vlft_base::{Diagnostic, Result};
use vlft_dataset::image_path::base_of;
use vlft_dataset::jsonl;
use vlft_dataset::token_counter::{TokenCount, TokenCounter};
use vlft_processor::processor::Processor;

use crate::samples::Size;

/// The records of one file, in its order; those of weight 0 are left out.
pub(crate) struct Records {
    counts: Vec<TokenCount>,
}

/// What limits the size of a record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// None: as the processor has it.
    pub(crate) max_pixels: Option<u64>,
    /// None: nothing is dropped.
    pub(crate) max_tokens: Option<usize>,
}

impl Records {
    /// # Errors
    /// Everything that is wrong with any record or image header, all at once.
    pub(crate) fn read(path: &Path, processor: &Processor) -> Result<Self> {
        let records = jsonl::load_for_training(path)?;
        if records.is_empty() {
            return Err(jsonl::no_records(path));
        }
        let base = base_of(path);
        let counted: Vec<Result<Option<TokenCount>>> = records
            .par_iter()
            .map(|numbered| {
                if numbered.record.weight() <= 0.0 {
                    return Ok(None);
                }
                let count = processor.count(&numbered.record, base).map_err(|e| {
                    e.at_line(path, numbered.line)
                        .detail(format!("record `{}`", numbered.record.id))
                })?;
                Ok(Some(count))
            })
            .collect();
        let (mut counts, mut problems) = (Vec::new(), Vec::new());
        for outcome in counted {
            match outcome {
                Ok(count) => counts.extend(count),
                Err(problem) => problems.push(problem),
            }
        }
        match Diagnostic::all(problems) {
            Some(problems) => Err(problems),
            None => Ok(Self { counts }),
        }
    }

    /// The sizes of those that are within the limits, and how many are not.
    pub(crate) fn sizes(&self, processor: &Processor, limits: Limits) -> Result<(Vec<Size>, u64)> {
        let mut sizes = Vec::with_capacity(self.counts.len());
        for count in &self.counts {
            sizes.push(match limits.max_pixels {
                None => Size {
                    tokens: count.total,
                    image_tokens: count.image,
                    supervised: count.supervised,
                },
                Some(max_pixels) => {
                    let mut image_tokens = 0;
                    for image in &count.images {
                        image_tokens += processor.tokens_below(image.original, max_pixels)?;
                    }
                    Size {
                        tokens: count.total - count.image + image_tokens,
                        image_tokens,
                        supervised: count.supervised,
                    }
                }
            });
        }
        let all = sizes.len();
        if let Some(max_tokens) = limits.max_tokens {
            sizes.retain(|size| size.tokens <= max_tokens);
        }
        let dropped = (all - sizes.len()) as u64;
        Ok((sizes, dropped))
    }
}

/// A few of the values in between the smallest and the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Distribution {
    pub p5: u64,
    pub p50: u64,
    pub p95: u64,
    pub max: u64,
    pub sum: u64,
}

impl Distribution {
    /// Nearest ranks. All 0 of no values.
    pub(crate) fn of(values: impl Iterator<Item = usize>) -> Self {
        let mut values: Vec<u64> = values.map(|value| value as u64).collect();
        values.sort_unstable();
        let at = |share: usize| {
            let rank = (values.len() * share).div_ceil(100).max(1) - 1;
            values.get(rank).copied().unwrap_or(0)
        };
        Self {
            p5: at(5),
            p50: at(50),
            p95: at(95),
            max: at(100),
            sum: values.iter().sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_values_that_exist() {
        let of = |values: &[usize]| Distribution::of(values.iter().copied());
        let hundred: Vec<usize> = (1..=100).rev().collect();
        let d = of(&hundred);
        assert_eq!((d.p5, d.p50, d.p95, d.max, d.sum), (5, 50, 95, 100, 5050));
        let d = of(&[7]);
        assert_eq!((d.p5, d.p50, d.p95, d.max, d.sum), (7, 7, 7, 7, 7));
        assert_eq!(of(&[]).max, 0);
    }
}
