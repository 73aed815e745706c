//! Seeded random choices. ChaCha8's stream is fixed by its specification, and the few ways to use
//! it are spelled out here, so that neither a platform nor a new version of `rand` changes a page.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// `stream` separates what must not depend on each other: document 7 looks the same however
    /// many random numbers document 6 took.
    pub(crate) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// 0 to `n - 1`. The bias of this multiplication is below n / 2^32: nothing for an example.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        debug_assert!(n > 0);
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }

    /// `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as u32) as i32
    }

    pub(crate) fn percent(&mut self, chance: u32) -> bool {
        self.below(100) < chance
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u32) as usize]
    }

    /// Decimal digits, the first one not 0.
    pub(crate) fn digits(&mut self, n: usize) -> String {
        (0..n)
            .map(|i| char::from(b'0' + self.between(i32::from(i == 0), 9) as u8))
            .collect()
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this changes, every file of the example does.
    #[test]
    fn the_stream_is_pinned() {
        let mut dice = Dice::new(1, 2);
        assert_eq!(
            (0..6).map(|_| dice.below(1000)).collect::<Vec<_>>(),
            [567, 876, 919, 682, 256, 336]
        );
    }
}
