//! Looking up hashes in a sorted list.

use std::cmp::Ordering;

/// Where hashes lie in a sorted list of them. Hashes are spread evenly, so their first bits tell the place but
/// for a few items; a search by halves would touch twenty places all over a million.
#[derive(Default)]
pub(crate) struct Spread {
    /// Where the items start that have the same first bits, by these bits; and where the list ends.
    starts: Vec<u32>,
    /// What is left of 64 bits.
    shift: u32,
}

/// So many items have the same first bits, about: two lines of the processor's cache of 16 bytes each.
const TOGETHER: usize = 8;

impl Spread {
    /// `firsts`: the first 64 bits of each item, in the order of the list, which is sorted by them. Fewer
    /// than 2^32 items. Half a byte of memory an item.
    pub(crate) fn of(firsts: impl ExactSizeIterator<Item = u64>) -> Self {
        let count = firsts.len();
        let bits = (count / TOGETHER).max(1).ilog2();
        let mut spread = Self {
            starts: Vec::with_capacity((1 << bits) + 1),
            shift: u64::BITS - bits,
        };
        for (at, first) in firsts.enumerate() {
            let before = spread.bucket(first);
            while spread.starts.len() <= before {
                spread.starts.push(at as u32);
            }
        }
        spread.starts.resize((1 << bits) + 1, count as u32);
        spread
    }

    fn bucket(&self, first: u64) -> usize {
        first.checked_shr(self.shift).unwrap_or(0) as usize
    }

    /// Where among `sorted` the item is that `compare` finds equal to what is wanted. `first` is the first
    /// 64 bits of what is wanted.
    pub(crate) fn place<T>(
        &self,
        sorted: &[T],
        first: u64,
        compare: impl Fn(&T) -> Ordering,
    ) -> Option<usize> {
        let bucket = self.bucket(first);
        let [low, high] = [bucket, bucket + 1].map(|at| self.starts.get(at).copied());
        let (low, high) = (low? as usize, high? as usize);
        let found = sorted[low..high].binary_search_by(compare).ok()?;
        Some(low + found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::btree_set;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_is_where_a_search_by_halves_finds_it(
            few in btree_set(0u64..50, 0..40),
            many in btree_set(any::<u64>(), 0..3000),
            zeros in 0u64..300,
            wanted in any::<u64>(),
        ) {
            let crowded = (0..zeros).chain(many.iter().copied()).collect();
            for sorted in [few, many, crowded] {
                let sorted: Vec<u64> = sorted.into_iter().collect();
                let spread = Spread::of(sorted.iter().copied());
                let around = sorted.iter().flat_map(|key| [key.wrapping_sub(1), *key, key.wrapping_add(1)]);
                for key in around.chain([0, wanted, u64::MAX]) {
                    let found = spread.place(&sorted, key, |item| item.cmp(&key));
                    prop_assert_eq!(found, sorted.binary_search(&key).ok());
                }
            }
        }
    }
}
