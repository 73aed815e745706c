//! Which of many hashes are near each other.
//!
//! Up to [`ALL_PAIRS`] hashes every two are compared: that is exact and takes a second. Beyond, two
//! are compared only when they agree in one of 32 bands of 16 bits. The bands share no bit, so hashes
//! with up to 31 differing bits are always found; with 40 of them 1 in 20 000 slips through, with 56
//! (the limit) 1 in 200. Copies are mostly below 31: see BENCHMARKS.md.
//!
//! Copies of copies make clusters. What is returned ties each cluster together (a spanning forest
//! of near pairs), because a form that was saved 10 000 times would have 50 million pairs.

use rayon::prelude::*;

use super::{NEAR, PageHash};
use crate::disjoint::Sets;

/// More hashes than this are compared by bands.
const ALL_PAIRS: usize = 20_000;
const BANDS: usize = 32;
/// Two of each of the eight words.
const BAND_BITS: usize = 16;
const BUCKETS: usize = 1 << BAND_BITS;

/// Two that look the same, by their indices; `first < second`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NearPair {
    pub first: usize,
    pub second: usize,
}

/// Near pairs that tie together whatever is near, directly or over others. Sorted.
pub fn near_pairs(hashes: &[PageHash]) -> Vec<NearPair> {
    match hashes.len() {
        0..=ALL_PAIRS => all_pairs(hashes),
        _ => by_bands(hashes),
    }
}

/// [`near_pairs`] by comparing every two: the exact answer.
pub fn all_pairs(hashes: &[PageHash]) -> Vec<NearPair> {
    const ROWS: usize = 256;
    let mut forest = Forest::new(hashes.len());
    for start in (0..hashes.len()).step_by(ROWS) {
        let rows = start..(start + ROWS).min(hashes.len());
        let near: Vec<NearPair> = rows
            .into_par_iter()
            .flat_map_iter(|first| {
                let rest = hashes.iter().enumerate().skip(first + 1);
                rest.filter(move |(_, other)| hashes[first].is_near(**other))
                    .map(move |(second, _)| NearPair { first, second })
            })
            .collect();
        forest.extend(near);
    }
    forest.finish()
}

fn by_bands(hashes: &[PageHash]) -> Vec<NearPair> {
    // Equal hashes fill the same bucket of every band: one of them is enough.
    let mut forest = Forest::new(hashes.len());
    let mut different: Vec<u32> = (0..hashes.len() as u32).collect();
    different.par_sort_unstable_by_key(|index| (hashes[*index as usize], *index));
    different.dedup_by(|second, first| {
        let pair = NearPair {
            first: *first as usize,
            second: *second as usize,
        };
        let is_equal = hashes[pair.first] == hashes[pair.second];
        if is_equal {
            forest.extend([pair]);
        }
        is_equal
    });
    // In the order of memory again: every band reads all of it.
    different.par_sort_unstable();
    let arch = pulp::Arch::new();
    for band in 0..BANDS {
        let (ends, sorted) = sort_by_band(hashes, &different, band);
        let roots = forest.sets.roots();
        let starts = (0..BUCKETS).into_par_iter().step_by(TOGETHER);
        let parts = starts.fold(Scratch::default, |mut scratch, first| {
            // With the instruction that counts bits, where the machine has it.
            arch.dispatch(Within {
                start: first.checked_sub(1).map_or(0, |before| ends[before]),
                ends: &ends[first..first + TOGETHER],
                sorted: &sorted,
                hashes,
                roots,
                scratch: &mut scratch,
            });
            scratch
        });
        let near: Vec<NearPair> = parts.flat_map_iter(|scratch| scratch.near).collect();
        forest.extend(near);
    }
    forest.finish()
}

/// A counting sort: where each bucket ends, and the indices in order of their buckets.
fn sort_by_band(hashes: &[PageHash], indices: &[u32], band: usize) -> (Vec<usize>, Vec<u32>) {
    let key = |index: &u32| key(hashes[*index as usize], band);
    let keys: Vec<u16> = indices.par_iter().map(key).collect();
    let mut ends = vec![0; BUCKETS];
    for key in &keys {
        ends[usize::from(*key)] += 1;
    }
    let mut sum = 0;
    for end in &mut ends {
        (*end, sum) = (sum, sum + *end);
    }
    let mut sorted = vec![0; indices.len()];
    for (index, key) in indices.iter().zip(&keys) {
        let end = &mut ends[usize::from(*key)];
        sorted[*end] = *index;
        *end += 1;
    }
    (ends, sorted)
}

/// The bits of a band, those at `band` + 32 n: of each word one among the low and one among the high
/// half, so that every band has low and high frequencies.
fn key(hash: PageHash, band: usize) -> u16 {
    hash.0.iter().fold(0, |key, word| {
        let bits = word >> band;
        key << 2 | (bits as u16 & 1) << 1 | (bits >> BANDS) as u16 & 1
    })
}

/// What one thread works with.
#[derive(Default)]
struct Scratch {
    /// The first words of the hashes in some buckets, side by side in memory: they are read many times.
    fronts: Vec<[u64; FRONT]>,
    /// Per member of a bucket, the set it belongs to: at first the one it has in the forest.
    sets: Vec<u32>,
    /// What was found, bucket after bucket.
    near: Vec<NearPair>,
}

/// Two hashes that have nothing to do with each other differ in half of their bits: in 96 of these words,
/// and in as few as [`NEAR`] once in a hundred million times.
const FRONT: usize = 3;

/// The hashes of so many buckets are fetched at once. They lie all over the memory: to wait for one after
/// the other is most of the time that all of this takes.
const TOGETHER: usize = 8;

/// Near pairs within each of some buckets, but not those that are tied together already. No closure: that
/// would be compiled without the instruction it is dispatched for.
struct Within<'a> {
    start: usize,
    ends: &'a [usize],
    sorted: &'a [u32],
    hashes: &'a [PageHash],
    roots: &'a [u32],
    scratch: &'a mut Scratch,
}

impl pulp::NullaryFnOnce for Within<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self {
            start,
            ends,
            sorted,
            hashes,
            roots,
            scratch,
        } = self;
        let Scratch { fronts, sets, near } = scratch;
        fronts.clear();
        let all = sorted[start..ends[ends.len() - 1]].iter();
        fronts.extend(all.map(|index| -> [u64; FRONT] {
            let words = &hashes[*index as usize].0;
            [words[0], words[1], words[2]]
        }));
        let mut from = start;
        for end in ends {
            let members = &sorted[from..*end];
            let fronts = &fronts[from - start..*end - start];
            from = *end;
            sets.clear();
            for (b, front) in fronts.iter().enumerate() {
                for (a, other) in fronts[..b].iter().enumerate() {
                    if differing(other, front) <= NEAR {
                        tie(members, [a, b], hashes, roots, sets, near);
                    }
                }
            }
        }
    }
}

/// Ties two members of a bucket together if they are near and not tied yet.
fn tie(
    members: &[u32],
    [a, b]: [usize; 2],
    hashes: &[PageHash],
    roots: &[u32],
    sets: &mut Vec<u32>,
    near: &mut Vec<NearPair>,
) {
    if sets.is_empty() {
        sets.extend(members.iter().map(|index| roots[*index as usize]));
    }
    let [one, other] = [a, b].map(|at| members[at] as usize);
    if sets[a] == sets[b] || !hashes[one].is_near(hashes[other]) {
        return;
    }
    near.push(NearPair {
        first: one.min(other),
        second: one.max(other),
    });
    let (from, to) = (sets[b], sets[a]);
    let same = sets.iter_mut().filter(|set| **set == from);
    same.for_each(|set| *set = to);
}

/// How many bits differ.
#[inline(always)]
fn differing(a: &[u64; FRONT], b: &[u64; FRONT]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// Pairs that tie sets together; the others are dropped.
struct Forest {
    sets: Sets,
    pairs: Vec<NearPair>,
}

impl Forest {
    fn new(count: usize) -> Self {
        Self {
            sets: Sets::new(count),
            pairs: Vec::new(),
        }
    }

    fn extend(&mut self, pairs: impl IntoIterator<Item = NearPair>) {
        for pair in pairs {
            if self.sets.join(pair.first, pair.second) {
                self.pairs.push(pair);
            }
        }
    }

    fn finish(mut self) -> Vec<NearPair> {
        self.pairs.sort_unstable();
        self.pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64.
    fn random(mut state: u64) -> impl FnMut() -> u64 {
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }
    }

    /// Which others each one is tied to, as the smallest index of its cluster.
    fn clusters(count: usize, pairs: Vec<NearPair>) -> Vec<usize> {
        let mut forest = Forest::new(count);
        let given = pairs.len();
        forest.extend(pairs);
        assert_eq!(forest.pairs.len(), given, "a pair that ties nothing");
        (0..count).map(|index| forest.sets.root(index)).collect()
    }

    #[test]
    fn bands_find_what_comparing_all_finds() {
        let seed = 7;
        let mut random = random(seed);
        let mut hashes: Vec<PageHash> = Vec::new();
        for _ in 0..400 {
            let page = PageHash(std::array::from_fn(|_| random()));
            hashes.push(page);
            // Copies at every distance up to well beyond the limit, and exact ones.
            for _ in 0..random() % 4 {
                let mut copy = page;
                for _ in 0..random() % 90 {
                    let bit = (random() % 512) as usize;
                    copy.0[bit / 64] ^= 1 << (bit % 64);
                }
                hashes.push(copy);
            }
        }
        let (slow, fast) = (all_pairs(&hashes), by_bands(&hashes));
        assert!(slow.len() > 200, "seed {seed}");
        assert!(
            slow.iter()
                .all(|p| hashes[p.first].is_near(hashes[p.second]))
        );
        let count = hashes.len();
        assert_eq!(clusters(count, slow), clusters(count, fast), "seed {seed}");
    }

    #[test]
    fn one_page_ten_thousand_times_is_one_cluster_at_once() {
        let page = PageHash([0x0123_4567_89ab_cdef; 8]);
        let mut hashes = vec![page; 10_000];
        // 300 more that are near the page and each other, none equal.
        for n in 0..300 {
            let mut copy = page;
            copy.0[n % 8] ^= 3 << (n / 8);
            hashes.push(copy);
        }
        let pairs = by_bands(&hashes);
        assert_eq!(pairs.len(), hashes.len() - 1);
        assert!(clusters(hashes.len(), pairs).iter().all(|c| *c == 0));
    }

    /// Each of the 512 bits is in one band, as one bit of its key.
    #[test]
    fn the_bands_share_no_bit() {
        let mut seen = std::collections::BTreeSet::new();
        for bit in 0..512 {
            let mut page = PageHash::default();
            page.0[bit / 64] = 1 << (bit % 64);
            let of_bands = (0..BANDS).map(|band| (band, key(page, band)));
            let set: Vec<_> = of_bands.filter(|(_, key)| *key > 0).collect();
            assert!(
                matches!(set[..], [(band, key)] if band == bit % BANDS && key.is_power_of_two())
            );
            seen.extend(set);
        }
        assert_eq!(seen.len(), 512);
    }
}
