//! What one forward and backward pass is over, and the passes of a whole run: the same micro-batches
//! in the same order that the trainer makes.

use std::collections::BTreeMap;

use crate::config::{DataConfig, TrainConfig};
use crate::order::Order;
use crate::samples::Size;

/// What one pass is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Of all rows, padding included: N.
    pub(crate) tokens: u64,
    /// Of them, no padding.
    pub(crate) real_tokens: u64,
    pub(crate) image_tokens: u64,
    /// Those that predict something that is trained on.
    pub(crate) supervised: u64,
    /// The sum of the squares of the samples' lengths: attention stays within a sample.
    pub(crate) squares: u64,
    /// The same for the image tokens of a sample, an upper bound where it has several images.
    pub(crate) image_squares: u64,
}

impl Load {
    /// Of samples in one micro-batch. `packed`: end to end in one row, else one padded row each.
    pub(crate) fn of(samples: impl Iterator<Item = Size>, packed: bool) -> Self {
        let (mut load, mut rows, mut longest) = (Self::default(), 0, 0);
        for size in samples {
            let (tokens, image_tokens) = (size.tokens as u64, size.image_tokens as u64);
            load.real_tokens += tokens;
            load.image_tokens += image_tokens;
            load.supervised += size.supervised as u64;
            load.squares += tokens * tokens;
            load.image_squares += image_tokens * image_tokens;
            rows += 1;
            longest = longest.max(tokens);
        }
        if packed {
            load.tokens = load.real_tokens;
        } else {
            load.tokens = rows * longest;
            load.squares = rows * longest * longest;
        }
        load
    }
}

/// Every pass of a run, as far as it is worth looking.
pub(crate) struct Passes {
    pub(crate) steps: u64,
    /// One for each different load, with how often it comes.
    pub(crate) loads: Vec<(Load, u64)>,
    /// Most image tokens in so many micro-batches in a row as may be held at once.
    pub(crate) image_tokens_ahead: u64,
    /// The share of all passes that was looked at; the rest is like them.
    pub(crate) seen: f64,
}

/// More passes than this are the same ones again, in other orders.
const MOST_PASSES: u64 = 200_000;

impl Passes {
    pub(crate) fn of(sizes: &[Size], data: &DataConfig, train: &TrainConfig) -> Self {
        let lengths = sizes.iter().map(|size| size.tokens).collect();
        let mut order = Order::new(lengths, data, train);
        let steps = order.total_steps(train);
        let looked_at = steps.min(MOST_PASSES.div_ceil(train.accumulate as u64));
        let mut found = BTreeMap::new();
        let mut images = Vec::new();
        for step in 0..looked_at {
            for batch in order.step(train, step) {
                let samples = batch.iter().map(|index| sizes[*index]);
                let load = Load::of(samples, data.packing);
                images.push(load.image_tokens);
                let key = (
                    load.tokens,
                    load.image_tokens,
                    load.supervised,
                    load.squares,
                );
                found.entry(key).or_insert((load, 0)).1 += 1;
            }
        }
        // Beside the one in work at most `prefetch` wait; without workers none does.
        let ahead = if data.workers == 0 { 0 } else { data.prefetch };
        let window = (ahead + 1).min(images.len()).max(1);
        let sums = images
            .windows(window)
            .map(|window| window.iter().sum::<u64>());
        Self {
            steps,
            loads: found.into_values().collect(),
            image_tokens_ahead: sums.max().unwrap_or(0),
            seen: looked_at as f64 / steps.max(1) as f64,
        }
    }

    /// The loads that no other one is as large as in every respect: the peak is one of theirs.
    pub(crate) fn largest(&self) -> Vec<Load> {
        let mut loads: Vec<Load> = self.loads.iter().map(|(load, _)| *load).collect();
        loads.sort_by_key(|load| std::cmp::Reverse((load.tokens, load.image_tokens)));
        let mut largest: Vec<Load> = Vec::new();
        for load in loads {
            // All so far have at least as many tokens.
            let covers = |other: &Load| {
                other.image_tokens >= load.image_tokens && other.supervised >= load.supervised
            };
            if !largest.iter().any(covers) {
                largest.push(load);
            }
        }
        largest
    }

    /// The sum of something over all passes of the run.
    pub(crate) fn total(&self, of: impl Fn(&Load) -> f64) -> f64 {
        let sum: f64 = self
            .loads
            .iter()
            .map(|(load, n)| of(load) * *n as f64)
            .sum();
        sum / self.seen.max(f64::MIN_POSITIVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::permutation;

    #[test]
    fn the_largest_loads_cover_all_others() {
        let numbers = permutation(3 * 400, 7, 0);
        let loads: Vec<Load> = numbers
            .chunks(3)
            .map(|n| Load {
                tokens: n[0] / 40,
                image_tokens: n[1] / 40,
                supervised: n[2] / 40,
                ..Load::default()
            })
            .collect();
        let passes = Passes {
            steps: 1,
            loads: loads.iter().map(|load| (*load, 1)).collect(),
            image_tokens_ahead: 0,
            seen: 1.0,
        };
        let largest = passes.largest();
        assert!(largest.len() < 100, "{}", largest.len());
        for load in &loads {
            let covers = |other: &Load| {
                other.tokens >= load.tokens
                    && other.image_tokens >= load.image_tokens
                    && other.supervised >= load.supervised
            };
            assert!(largest.iter().any(covers), "{load:?}");
        }
    }

    #[test]
    fn a_run_is_the_micro_batches_of_the_trainer() {
        let size = |tokens| Size {
            tokens,
            image_tokens: tokens / 2,
            supervised: 3,
        };
        let sizes = [10, 20, 30, 40].map(size);
        let mut data = DataConfig::new("t.jsonl");
        let train = TrainConfig {
            micro_batch: 2,
            accumulate: 1,
            epochs: 3,
            ..TrainConfig::default()
        };
        let passes = Passes::of(&sizes, &data, &train);
        assert_eq!((passes.steps, passes.seen), (6, 1.0));
        let count: u64 = passes.loads.iter().map(|(_, count)| count).sum();
        assert_eq!(count, 6);
        // Each record three times, whatever the order; padding comes on top.
        assert_eq!(passes.total(|load| load.real_tokens as f64), 300.0);
        assert!(passes.total(|load| load.tokens as f64) >= 300.0);

        data.packing = true;
        data.pack_tokens = Some(60);
        let passes = Passes::of(&sizes, &data, &train);
        assert_eq!(passes.total(|load| load.real_tokens as f64), 300.0);
        assert_eq!(passes.total(|load| load.tokens as f64), 300.0);
    }
}
