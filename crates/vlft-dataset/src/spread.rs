//! Looking up hashes in a sorted list.

use std::cmp::Ordering;

/// Where among `sorted` the item is that `compare` finds equal to what is wanted. `first` is the first
/// 64 bits of what is wanted: hashes are spread evenly, so it stands near the place that its size says,
/// and a search by halves would touch twenty places all over a million. In any other sorted list it
/// is found too, only later.
pub(crate) fn place<T>(
    sorted: &[T],
    first: u64,
    compare: impl Fn(&T) -> Ordering,
) -> Option<usize> {
    let last = sorted.len().checked_sub(1)?;
    let guess = ((u128::from(first) * sorted.len() as u128) >> 64) as usize;
    let (mut low, mut high, mut step) = (guess, guess, 32);
    while low > 0 && compare(&sorted[low]) == Ordering::Greater {
        low = low.saturating_sub(step);
        step *= 2;
    }
    while high < last && compare(&sorted[high]) == Ordering::Less {
        high = (high + step).min(last);
        step *= 2;
    }
    let found = sorted[low..=high].binary_search_by(compare).ok()?;
    Some(low + found)
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
                let around = sorted.iter().flat_map(|key| [key.wrapping_sub(1), *key, key.wrapping_add(1)]);
                for key in around.chain([0, wanted, u64::MAX]) {
                    let found = place(&sorted, key, |item| item.cmp(&key));
                    prop_assert_eq!(found, sorted.binary_search(&key).ok());
                }
            }
        }
    }
}
