//! What one forward and backward pass is over, and the passes of a whole run: the same micro-batches
//! in the same order that the trainer makes.

use std::collections::BTreeMap;
use std::ops::Range;

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
    /// One for each different load.
    pub(crate) loads: Vec<Pass>,
    /// Image tokens of the images that were made side by side: their memory is kept for later ones
    /// (`vlft-processor/src/pixels.rs`).
    pub(crate) image_tokens_kept: u64,
    /// The share of all passes that was looked at; the rest is like them.
    pub(crate) seen: f64,
}

/// A load, how often it comes, and what waits beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    pub(crate) load: Load,
    pub(crate) count: u64,
    /// Most image tokens of this micro-batch and of those that are made ahead of the next steps.
    pub(crate) image_tokens_ahead: u64,
}

/// More passes than this are the same ones again, in other orders.
const MOST_PASSES: u64 = 200_000;

impl Passes {
    pub(crate) fn of(sizes: &[Size], data: &DataConfig, train: &TrainConfig) -> Self {
        let lengths = sizes.iter().map(|size| size.tokens).collect();
        let mut order = Order::new(lengths, data, train);
        let steps = order.total_steps(train);
        let looked_at = steps.min(MOST_PASSES.div_ceil(train.accumulate as u64));
        Self::of_steps(&mut order, sizes, data, train, 0..looked_at)
    }

    /// Of some of the steps only.
    pub(crate) fn of_steps(
        order: &mut Order,
        sizes: &[Size],
        data: &DataConfig,
        train: &TrainConfig,
        looked_at: Range<u64>,
    ) -> Self {
        let steps = order.total_steps(train);
        let mut loads = Vec::new();
        for step in looked_at.clone() {
            for batch in order.step(train, step) {
                let samples = batch.iter().map(|index| sizes[*index]);
                loads.push(Load::of(samples, data.packing));
            }
        }
        // Beside the one in work at most `prefetch` wait; without workers none does.
        let ahead = if data.workers == 0 { 0 } else { data.prefetch };
        let images = |loads: &[Load]| loads.iter().map(|load| load.image_tokens).sum::<u64>();
        let mut found = BTreeMap::new();
        for (at, load) in loads.iter().enumerate() {
            let key = (
                load.tokens,
                load.image_tokens,
                load.supervised,
                load.squares,
            );
            let pass = found.entry(key).or_insert(Pass {
                load: *load,
                count: 0,
                image_tokens_ahead: 0,
            });
            pass.count += 1;
            let held = images(&loads[at..(at + ahead + 1).min(loads.len())]);
            pass.image_tokens_ahead = pass.image_tokens_ahead.max(held);
        }
        // At first as many are made side by side as there are workers; later one for each that is used.
        let first = &loads[..(ahead + 1).min(loads.len())];
        let side_by_side = first.windows(data.workers.clamp(1, first.len().max(1)));
        let alone = loads.iter().map(|load| load.image_tokens).max();
        let kept = side_by_side.map(images).max().max(alone);
        Self {
            steps,
            loads: found.into_values().collect(),
            image_tokens_kept: kept.unwrap_or(0),
            seen: (looked_at.end - looked_at.start) as f64 / steps.max(1) as f64,
        }
    }

    /// The passes that no other one is as large as in every respect: the peak is one of theirs.
    pub(crate) fn largest(&self) -> Vec<Pass> {
        let mut passes = self.loads.clone();
        passes.sort_by_key(|pass| std::cmp::Reverse((pass.load.tokens, pass.load.image_tokens)));
        let mut largest: Vec<Pass> = Vec::new();
        for pass in passes {
            // All so far have at least as many tokens.
            let covers = |other: &Pass| {
                other.load.image_tokens >= pass.load.image_tokens
                    && other.load.supervised >= pass.load.supervised
                    && other.image_tokens_ahead >= pass.image_tokens_ahead
            };
            if !largest.iter().any(covers) {
                largest.push(pass);
            }
        }
        largest
    }

    /// Most image tokens that wait at once.
    pub(crate) fn image_tokens_ahead(&self) -> u64 {
        let ahead = self.loads.iter().map(|pass| pass.image_tokens_ahead);
        ahead.max().unwrap_or(0)
    }

    /// The sum of something over all passes of the run.
    pub(crate) fn total(&self, of: impl Fn(&Load) -> f64) -> f64 {
        let sum: f64 = self
            .loads
            .iter()
            .map(|pass| of(&pass.load) * pass.count as f64)
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
            loads: loads
                .iter()
                .map(|load| Pass {
                    load: *load,
                    count: 1,
                    image_tokens_ahead: 0,
                })
                .collect(),
            image_tokens_kept: 0,
            seen: 1.0,
        };
        let largest = passes.largest();
        assert!(largest.len() < 100, "{}", largest.len());
        for load in &loads {
            let covers = |other: &Pass| {
                other.load.tokens >= load.tokens
                    && other.load.image_tokens >= load.image_tokens
                    && other.load.supervised >= load.supervised
            };
            assert!(largest.iter().any(covers), "{load:?}");
        }
    }

    #[test]
    fn what_waits_is_what_comes_next() {
        let sizes: Vec<Size> = [8, 1, 2, 4, 3]
            .map(|tokens| Size {
                tokens: 10 * tokens,
                image_tokens: tokens,
                supervised: 1,
            })
            .to_vec();
        let mut data = DataConfig::new("t.jsonl");
        (data.shuffle, data.workers, data.prefetch) = (false, 2, 2);
        let train = TrainConfig {
            accumulate: 1,
            epochs: 1,
            ..TrainConfig::default()
        };
        let of = |passes: &Passes, tokens: u64| {
            let found = passes
                .loads
                .iter()
                .find(|pass| pass.load.image_tokens == tokens);
            found.unwrap().image_tokens_ahead
        };
        let passes = Passes::of(&sizes, &data, &train);
        assert_eq!(
            [8, 1, 2, 4, 3].map(|tokens| of(&passes, tokens)),
            [11, 7, 9, 7, 3]
        );
        // Two workers make 8 and 1 at once, then 1 and 2.
        assert_eq!(
            (passes.image_tokens_kept, passes.image_tokens_ahead()),
            (9, 11)
        );
        // Without workers nothing waits, and one is made at a time.
        data.workers = 0;
        let passes = Passes::of(&sizes, &data, &train);
        assert_eq!((of(&passes, 4), passes.image_tokens_kept), (4, 8));
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
        let count: u64 = passes.loads.iter().map(|pass| pass.count).sum();
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
