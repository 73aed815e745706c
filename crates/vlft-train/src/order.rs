//! Which samples a step sees: one endless stream, epoch after epoch, each epoch a permutation that
//! depends on (seed, epoch) alone. Nothing has to be saved to resume, only the step.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::config::TrainConfig;

/// The stream of sample indices. `at` is a pure function; the last epoch's permutation is kept
/// because neighbours are asked for together.
#[derive(Clone, Debug)]
pub struct Order {
    n_samples: u64,
    seed: u64,
    shuffle: bool,
    epoch: Option<(u64, Vec<u64>)>,
}

impl Order {
    /// `n_samples` must not be 0. Without `shuffle` every epoch is in the order of the file.
    pub fn new(n_samples: usize, seed: u64, shuffle: bool) -> Self {
        assert!(
            n_samples > 0,
            "an empty data set is refused before training"
        );
        Self {
            n_samples: n_samples as u64,
            seed,
            shuffle,
            epoch: None,
        }
    }

    /// The sample at `position` of the stream, 0-based.
    pub fn at(&mut self, position: u64) -> usize {
        let (epoch, within) = (position / self.n_samples, position % self.n_samples);
        if !self.shuffle {
            return within as usize;
        }
        if self.epoch.as_ref().is_none_or(|(kept, _)| *kept != epoch) {
            self.epoch = Some((epoch, permutation(self.n_samples, self.seed, epoch)));
        }
        let (_, order) = self.epoch.as_ref().expect("set just above");
        order[within as usize] as usize
    }

    /// The micro-batches of step `step0` (0-based): `accumulate` of them with `micro_batch` samples
    /// each, taken from the stream one after the other, across an epoch's border if need be. With
    /// `epochs` the very last step ends where the data ends; with `max_steps` every step is full.
    pub fn step(&mut self, config: &TrainConfig, step0: u64) -> Vec<Vec<usize>> {
        let (size, per_step) = (config.micro_batch as u64, samples_per_step(config));
        let start = step0.saturating_mul(per_step);
        let end = match config.max_steps {
            Some(_) => start.saturating_add(per_step),
            None => start
                .saturating_add(per_step)
                .min(self.n_samples.saturating_mul(config.epochs)),
        };
        let positions: Vec<u64> = (start..end).collect();
        positions
            .chunks(size as usize)
            .map(|chunk| chunk.iter().map(|position| self.at(*position)).collect())
            .collect()
    }
}

/// How many optimizer steps the run has.
pub fn total_steps(config: &TrainConfig, n_samples: usize) -> u64 {
    match config.max_steps {
        Some(steps) => steps,
        None => (n_samples as u64)
            .saturating_mul(config.epochs)
            .div_ceil(samples_per_step(config)),
    }
}

fn samples_per_step(config: &TrainConfig) -> u64 {
    config.micro_batch as u64 * config.accumulate as u64
}

/// Fisher-Yates from the end. It is spelled out, with the generator's key set by hand, because it
/// must be the same for ever: `rand`'s own shuffle and seeding may change between versions, and
/// then a resumed run would see other samples.
fn permutation(n: u64, seed: u64, epoch: u64) -> Vec<u64> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(b"vlft-ord");
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(epoch);

    let mut order: Vec<u64> = (0..n).collect();
    for last in (1..n).rev() {
        order.swap(last as usize, below(&mut random, last + 1) as usize);
    }
    order
}

/// Uniform in 0..bound, without the bias of a bare remainder: numbers beyond the last full multiple
/// of `bound` are drawn again.
fn below(random: &mut ChaCha8Rng, bound: u64) -> u64 {
    let beyond = u64::MAX - u64::MAX % bound;
    loop {
        let number = random.next_u64();
        if number < beyond {
            return number % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(micro_batch: usize, accumulate: usize, epochs: u64) -> TrainConfig {
        TrainConfig {
            micro_batch,
            accumulate,
            epochs,
            ..TrainConfig::default()
        }
    }

    /// If this test fails, resumed runs of older versions see other samples: do not touch it.
    #[test]
    fn the_order_is_the_same_for_ever() {
        let mut order = Order::new(10, 42, true);
        let epochs: Vec<Vec<usize>> = (0..3)
            .map(|epoch| (0..10).map(|i| order.at(epoch * 10 + i)).collect())
            .collect();
        assert_eq!(
            epochs,
            [
                [5, 8, 9, 3, 4, 1, 6, 7, 0, 2],
                [2, 3, 5, 6, 1, 4, 9, 8, 7, 0],
                [1, 6, 8, 7, 9, 5, 3, 4, 0, 2]
            ]
        );
        let other_seed = Order::new(10, 43, true).at(0);
        assert_ne!(other_seed, epochs[0][0]);
    }

    #[test]
    fn every_epoch_sees_every_sample_once_and_any_position_may_be_asked_for() {
        let mut order = Order::new(97, 7, true);
        let stream: Vec<usize> = (0..97 * 3).map(|p| order.at(p)).collect();
        for epoch in stream.chunks(97) {
            let mut seen = epoch.to_vec();
            seen.sort();
            assert_eq!(seen, (0..97).collect::<Vec<_>>());
        }
        assert_ne!(stream[..97], stream[97..194]);
        for position in [200, 3, 100, 0, 290] {
            assert_eq!(
                Order::new(97, 7, true).at(position),
                stream[position as usize]
            );
            assert_eq!(order.at(position), stream[position as usize]);
        }
    }

    /// The first place of a shuffled list of 4 should hold each sample about a quarter of the time.
    #[test]
    fn the_shuffle_is_fair() {
        let mut counts = [[0u32; 4]; 4];
        for seed in 0..4000 {
            let mut order = Order::new(4, seed, true);
            for (place, count) in counts.iter_mut().enumerate() {
                count[order.at(place as u64)] += 1;
            }
        }
        for count in counts.iter().flatten() {
            assert!((900..1100).contains(count), "{counts:?}");
        }
    }

    #[test]
    fn micro_batches_cross_the_epoch_and_only_the_last_step_is_short() {
        let config = config(2, 2, 2);
        let mut order = Order::new(7, 0, false);
        let steps: Vec<_> = (0..total_steps(&config, 7))
            .map(|s| order.step(&config, s))
            .collect();
        assert_eq!(
            steps,
            [
                vec![vec![0, 1], vec![2, 3]],
                vec![vec![4, 5], vec![6, 0]],
                vec![vec![1, 2], vec![3, 4]],
                vec![vec![5, 6]],
            ]
        );
        let odd = self::config(2, 2, 1);
        assert_eq!(Order::new(7, 0, false).step(&odd, 1), [vec![4, 5], vec![6]]);
    }

    #[test]
    fn with_max_steps_every_step_is_full() {
        let config = TrainConfig {
            max_steps: Some(3),
            ..config(2, 1, 1)
        };
        assert_eq!(total_steps(&config, 3), 3);
        let mut order = Order::new(3, 0, false);
        assert_eq!(order.step(&config, 1), [vec![2, 0]]);
        assert_eq!(order.step(&config, 2), [vec![1, 2]]);
    }
}
