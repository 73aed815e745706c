//! Which samples a step sees: one endless stream, epoch after epoch, each epoch a permutation that
//! depends on (seed, epoch) alone. Nothing has to be saved to resume, only the step.
//!
//! With packing, and with batches of similar lengths, an epoch's permutation is cut into groups; that
//! too is a function of (seed, epoch) and the lengths of the samples.

mod group;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::config::{DataConfig, TrainConfig};

/// The stream of samples. What is asked for is a pure function of the position; the last epoch is
/// kept because neighbours are asked for together.
#[derive(Clone, Debug)]
pub struct Order {
    /// Tokens of each sample.
    lengths: Vec<usize>,
    seed: u64,
    shuffle: bool,
    grouping: Grouping,
    /// The last epoch asked for, and its groups.
    epoch: Option<(u64, Vec<Vec<usize>>)>,
    /// Where each epoch begins, counted in groups, as far as it was needed. Only with packing, where
    /// epochs differ.
    starts: Vec<u64>,
}

/// What one element of the stream is.
#[derive(Clone, Copy, Debug)]
enum Grouping {
    /// One sample; micro-batches are cut from the stream.
    None,
    /// The samples of one packed row of at most so many tokens; micro-batches are cut from the
    /// stream of rows.
    Packed { row_tokens: usize },
    /// A whole micro-batch of samples of similar lengths.
    ByLength { micro_batch: usize },
}

impl Order {
    /// As the config says. `lengths`: the tokens of each sample, of at least one. Without `shuffle`
    /// every epoch is in the order of the file.
    pub fn new(lengths: Vec<usize>, data: &DataConfig, train: &TrainConfig) -> Self {
        assert!(
            !lengths.is_empty(),
            "an empty data set is refused before training"
        );
        let grouping = if data.packing {
            let row_tokens = data
                .row_tokens()
                .expect("asked for when the config is read");
            Grouping::Packed { row_tokens }
        } else if data.group_by_length {
            Grouping::ByLength {
                micro_batch: train.micro_batch,
            }
        } else {
            Grouping::None
        };
        Self {
            lengths,
            seed: train.seed,
            shuffle: data.shuffle,
            grouping,
            epoch: None,
            starts: vec![0],
        }
    }

    /// The micro-batches of step `step0` (0-based), each a list of samples: `accumulate` of them with
    /// `micro_batch` samples (or packed rows) each, taken from the stream one after the other, across
    /// an epoch's border if need be. With `epochs` the very last step ends where the data ends; with
    /// `max_steps` every step is full.
    pub fn step(&mut self, config: &TrainConfig, step0: u64) -> Vec<Vec<usize>> {
        let per_step = self.groups_per_step(config);
        let start = step0.saturating_mul(per_step);
        let end = match config.max_steps {
            Some(_) => start.saturating_add(per_step),
            None => start
                .saturating_add(per_step)
                .min(self.start_of(config.epochs)),
        };
        self.micro_batches(config, start, end)
    }

    /// The micro-batches of the first epoch alone: what the data looks like to the model.
    pub fn first_epoch(&mut self, config: &TrainConfig) -> Vec<Vec<usize>> {
        let end = self.start_of(1);
        self.micro_batches(config, 0, end)
    }

    /// How many rows there are in the first epoch with packing, how many micro-batches with similar
    /// lengths, else how many samples.
    pub fn groups_in_first_epoch(&mut self) -> u64 {
        self.start_of(1)
    }

    /// How many optimizer steps the run has.
    pub fn total_steps(&mut self, config: &TrainConfig) -> u64 {
        match config.max_steps {
            Some(steps) => steps,
            None => self
                .start_of(config.epochs)
                .div_ceil(self.groups_per_step(config)),
        }
    }

    fn micro_batches(&mut self, config: &TrainConfig, start: u64, end: u64) -> Vec<Vec<usize>> {
        let size = self.groups_per_micro_batch(config);
        (start..end)
            .step_by(size)
            .map(|first| {
                let groups = first..end.min(first.saturating_add(size as u64));
                groups.flat_map(|position| self.at(position)).collect()
            })
            .collect()
    }

    /// The group at `position` of the stream, 0-based.
    fn at(&mut self, position: u64) -> Vec<usize> {
        let (epoch, within) = self.find(position);
        if let (Grouping::None, false) = (self.grouping, self.shuffle) {
            return vec![within as usize];
        }
        if self.epoch.as_ref().is_none_or(|(kept, _)| *kept != epoch) {
            self.epoch = Some((epoch, self.groups(epoch)));
        }
        let (_, groups) = self.epoch.as_ref().expect("set just above");
        groups[within as usize].clone()
    }

    /// The epoch that `position` lies in, and where in it.
    fn find(&mut self, position: u64) -> (u64, u64) {
        if let Some(groups) = self.groups_per_epoch() {
            return (position / groups, position % groups);
        }
        while self.starts.last().is_some_and(|start| *start <= position) {
            self.count_an_epoch();
        }
        let epoch = self.starts.partition_point(|start| *start <= position) - 1;
        (epoch as u64, position - self.starts[epoch])
    }

    /// How many groups come before `epoch`.
    fn start_of(&mut self, epoch: u64) -> u64 {
        if let Some(groups) = self.groups_per_epoch() {
            return groups.saturating_mul(epoch);
        }
        while (self.starts.len() as u64) <= epoch {
            self.count_an_epoch();
        }
        self.starts[epoch as usize]
    }

    /// None where it differs from epoch to epoch.
    fn groups_per_epoch(&self) -> Option<u64> {
        let samples = self.lengths.len() as u64;
        match self.grouping {
            Grouping::None => Some(samples),
            Grouping::Packed { .. } => None,
            Grouping::ByLength { micro_batch } => Some(samples.div_ceil(micro_batch as u64)),
        }
    }

    fn count_an_epoch(&mut self) {
        let epoch = self.starts.len() as u64 - 1;
        let groups = self.groups(epoch).len() as u64;
        self.starts.push(self.starts[epoch as usize] + groups);
    }

    /// All groups of an epoch, in their order.
    fn groups(&self, epoch: u64) -> Vec<Vec<usize>> {
        let n = self.lengths.len() as u64;
        let order: Vec<usize> = match self.shuffle {
            true => permutation(n, self.seed, epoch),
            false => (0..n).collect(),
        }
        .into_iter()
        .map(|index| index as usize)
        .collect();
        match self.grouping {
            Grouping::None => order.into_iter().map(|index| vec![index]).collect(),
            Grouping::Packed { row_tokens } => group::pack(&order, &self.lengths, row_tokens),
            Grouping::ByLength { micro_batch } => {
                group::by_length(&order, &self.lengths, micro_batch)
            }
        }
    }

    fn groups_per_micro_batch(&self, config: &TrainConfig) -> usize {
        match self.grouping {
            Grouping::None | Grouping::Packed { .. } => config.micro_batch,
            Grouping::ByLength { .. } => 1,
        }
    }

    fn groups_per_step(&self, config: &TrainConfig) -> u64 {
        self.groups_per_micro_batch(config) as u64 * config.accumulate as u64
    }
}

/// Fisher-Yates from the end. It is spelled out, with the generator's key set by hand, because it
/// must be the same for ever: `rand`'s own shuffle and seeding may change between versions, and
/// then a resumed run would see other samples.
pub(crate) fn permutation(n: u64, seed: u64, epoch: u64) -> Vec<u64> {
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
mod tests;
