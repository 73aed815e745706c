//! Which side a group goes to: a pure function of the seed and the group's name. Adding records moves
//! nobody, and no list of who is where must be kept. The price: of few groups the shares come out as
//! uneven as throws of dice. Then another seed helps ([`better_seed`]), and is as pure.
//!
//! `--exact` pays the other price: groups change sides where a share is too far from what was asked
//! (see [`TOLERANCE`]), as few as possible and those first whose points lie nearest to the border, and
//! a side that would stay empty takes the group that is nearest to it. When such a set grows, some
//! documents move.

use std::collections::BTreeMap;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use vlft_base::{Diagnostic, Result};

/// The sides, in the order of their shares.
pub const NAMES: [&str; 3] = ["train", "val", "test"];

/// Shares of train, val and test. They add up to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fractions([f64; 3]);

impl Fractions {
    pub fn new(train: f64, val: f64, test: f64) -> Result<Self> {
        let all = [train, val, test];
        let sum: f64 = all.iter().sum();
        if all.iter().any(|f| !f.is_finite() || *f < 0.0) || train == 0.0 {
            return Err(Diagnostic::error("a share is out of range")
                .expected("`--train` above 0, `--val` and `--test` 0 or more")
                .found(format!("{train}, {val}, {test}")));
        }
        if (sum - 1.0).abs() > 1e-6 {
            let rest = 1.0 - val - test;
            let diagnostic = Diagnostic::error("the shares do not add up to 1")
                .expected("`--train` + `--val` + `--test` = 1")
                .found(format!("{train} + {val} + {test} = {sum:.4}"));
            return Err(if rest > 0.0 {
                let rest = format!("{rest:.4}");
                let rest = rest.trim_end_matches('0').trim_end_matches('.');
                diagnostic.hint(format!("`--train {rest}`"))
            } else {
                diagnostic
            });
        }
        Ok(Self(all))
    }

    pub fn share(self, side: usize) -> f64 {
        self.0[side]
    }
}

/// A side may have so much more or less than its share, as a part of the share, or half a record, before
/// groups are moved. Shares of thousands of groups come out nearer than this by themselves.
const TOLERANCE: f64 = 0.05;

/// A group, before it is known where it goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group<'a> {
    pub(crate) key: &'a str,
    pub(crate) records: u64,
    /// Groups with the same value are to be spread evenly.
    pub(crate) stratum: u32,
}

/// Where each group goes.
pub(crate) struct Assignment {
    /// Per group: index into [`NAMES`].
    pub(crate) side: Vec<usize>,
    /// Groups that went elsewhere than their hash says, to keep the shares.
    pub(crate) moved: u64,
    /// .. and to fill an empty side.
    pub(crate) moved_to_fill: u64,
}

/// One group while sides are dealt out.
struct Dealt {
    point: f64,
    records: f64,
    side: usize,
    drawn: usize,
}

/// The side of each group as its hash says.
pub(crate) fn assign(groups: &[Group<'_>], fractions: Fractions, seed: u64) -> Assignment {
    let side = |group: &Group<'_>| side_of(point(seed, group.key), fractions);
    Assignment {
        side: groups.par_iter().map(side).collect(),
        moved: 0,
        moved_to_fill: 0,
    }
}

/// [`assign`], corrected within each stratum.
pub(crate) fn assign_exactly(groups: &[Group<'_>], fractions: Fractions, seed: u64) -> Assignment {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_unstable_by_key(|index| (groups[*index].stratum, groups[*index].key));
    let mut dealt: Vec<Dealt> = order
        .iter()
        .map(|index| {
            let point = point(seed, groups[*index].key);
            let side = side_of(point, fractions);
            Dealt {
                point,
                records: groups[*index].records as f64,
                side,
                drawn: side,
            }
        })
        .collect();
    let mut start = 0;
    for stratum in order.chunk_by(|a, b| groups[*a].stratum == groups[*b].stratum) {
        keep_shares(&mut dealt[start..start + stratum.len()], fractions);
        start += stratum.len();
    }
    let balanced: Vec<usize> = dealt.iter().map(|group| group.side).collect();
    fill_empty_sides(&mut dealt, fractions);
    let mut assignment = Assignment {
        side: vec![0; groups.len()],
        moved: 0,
        moved_to_fill: 0,
    };
    for ((group, balanced), index) in dealt.iter().zip(balanced).zip(order) {
        assignment.side[index] = group.side;
        if group.side != balanced {
            assignment.moved_to_fill += 1;
        } else if group.side != group.drawn {
            assignment.moved += 1;
        }
    }
    assignment
}

/// How uneven a split is: the sum of how far each side of each stratum is from its share, in records.
pub(crate) fn unevenness(groups: &[Group<'_>], side: &[usize], fractions: Fractions) -> f64 {
    let mut sizes: BTreeMap<u32, [f64; 3]> = BTreeMap::new();
    for (group, side) in groups.iter().zip(side) {
        sizes.entry(group.stratum).or_default()[*side] += group.records as f64;
    }
    let mut all = [0.0; 3];
    for sizes in sizes.values() {
        all.iter_mut()
            .zip(sizes)
            .for_each(|(all, size)| *all += size);
    }
    let off = |sizes: &[f64; 3]| -> f64 {
        let total: f64 = sizes.iter().sum();
        let sides = sizes.iter().enumerate();
        sides
            .map(|(side, size)| (size - total * fractions.share(side)).abs())
            .sum()
    };
    // The sides as a whole count as much as all strata together.
    off(&all) + sizes.values().map(off).sum::<f64>()
}

/// A seed whose shares come out better than this one's by half at least; a number and the sizes of the
/// sides. It is looked for among some hundred, which of more than a few thousand groups none needs.
pub(crate) fn better_seed(
    groups: &[Group<'_>],
    fractions: Fractions,
    seed: u64,
) -> Option<(u64, [u64; 3])> {
    const HASHES: usize = 400_000;
    const MOST: usize = 400;
    let now = unevenness(groups, &assign(groups, fractions, seed).side, fractions);
    let tries = (HASHES / groups.len().max(1)).min(MOST) as u64;
    let tried = (0..tries).into_par_iter().map(|n| {
        let seed = seed.wrapping_add(n + 1);
        let side = assign(groups, fractions, seed).side;
        (unevenness(groups, &side, fractions), seed, side)
    });
    let (best, seed, side) = tried.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))?;
    let mut sizes = [0; 3];
    for (group, side) in groups.iter().zip(side) {
        sizes[side] += group.records;
    }
    (best <= now / 2.0).then_some((seed, sizes))
}

/// Moves groups from sides that have too much to sides that have too little. Every move brings the
/// shares nearer to what was asked, so this ends.
fn keep_shares(groups: &mut [Dealt], fractions: Fractions) {
    let total: f64 = groups.iter().map(|group| group.records).sum();
    // How many records a side has too many (above 0) or too few.
    let mut surplus: [f64; 3] = std::array::from_fn(|side| -total * fractions.share(side));
    for group in &*groups {
        surplus[group.side] += group.records;
    }
    let tolerance = |side: usize| (TOLERANCE * fractions.share(side) * total).max(0.5);
    loop {
        let is_off: [bool; 3] = std::array::from_fn(|side| surplus[side].abs() > tolerance(side));
        // A move that overshoots is only second best; of equal ones the shortest way counts, and of
        // equal ways the order of the keys.
        let mut best: Option<((bool, f64), usize, usize)> = None;
        for (index, group) in groups.iter().enumerate() {
            let (from, n) = (group.side, group.records);
            for to in 0..NAMES.len() {
                if to == from || fractions.share(to) == 0.0 || !(is_off[from] || is_off[to]) {
                    continue;
                }
                let gain = surplus[from].abs() - (surplus[from] - n).abs() + surplus[to].abs()
                    - (surplus[to] + n).abs();
                // Differences of sums that are equal on paper.
                if gain < 1e-6 {
                    continue;
                }
                let overshoots = n > surplus[from] + 0.5 || n > 0.5 - surplus[to];
                let rank = (overshoots, distance(group.point, to, fractions));
                if best.is_none_or(|(known, ..)| rank < known) {
                    best = Some((rank, index, to));
                }
            }
        }
        let Some((_, index, to)) = best else { break };
        let group = &mut groups[index];
        surplus[group.side] -= group.records;
        surplus[to] += group.records;
        group.side = to;
    }
}

/// From the side with the most groups, the one whose point is nearest to the empty interval.
fn fill_empty_sides(groups: &mut [Dealt], fractions: Fractions) {
    for wanting in 0..NAMES.len() {
        let size = |of: usize| groups.iter().filter(|group| group.side == of).count();
        if fractions.share(wanting) == 0.0 || size(wanting) > 0 {
            continue;
        }
        let donor = (0..NAMES.len())
            .max_by_key(|side| (size(*side), NAMES.len() - side))
            .unwrap_or(0);
        // Train comes first: a single document is trained on.
        if size(donor) < 2 && wanting > 0 {
            continue;
        }
        let nearest = groups
            .iter_mut()
            .filter(|group| group.side == donor)
            .min_by(|a, b| {
                let [a, b] = [a, b].map(|group| distance(group.point, wanting, fractions));
                a.total_cmp(&b)
            });
        if let Some(group) = nearest {
            group.side = wanting;
        }
    }
}

/// How far a point lies from the interval of a side.
fn distance(point: f64, side: usize, fractions: Fractions) -> f64 {
    let start: f64 = (0..side).map(|s| fractions.share(s)).sum();
    let end = start + fractions.share(side);
    (start - point).max(point - end).max(0.0)
}

/// A point in [0, 1) from the seed and the key. Part of the format: another function would move
/// every document of every user.
fn point(seed: u64, key: &str) -> f64 {
    let mut hasher = Sha256::new();
    hasher.update(format!("vlft split 1\n{seed}\n{key}"));
    let digest = hasher.finalize();
    let bits = digest
        .iter()
        .take(8)
        .fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    // 53 bits: exactly what an f64 holds.
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

fn side_of(point: f64, fractions: Fractions) -> usize {
    let mut end = 0.0;
    for side in 0..NAMES.len() {
        end += fractions.share(side);
        if point < end {
            return side;
        }
    }
    // The shares may add up to a little under 1: the last one that is not empty.
    (0..NAMES.len())
        .rev()
        .find(|s| fractions.share(*s) > 0.0)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_function_is_pinned() {
        let keys = ["a.pdf", "b.pdf", "c.pdf"];
        let points: Vec<String> = keys
            .iter()
            .map(|key| format!("{:.6}", point(42, key)))
            .collect();
        assert_eq!(points, ["0.619905", "0.825863", "0.374270"]);
        assert_ne!(point(42, "a.pdf"), point(43, "a.pdf"));
    }

    #[test]
    fn shares_must_add_up() {
        assert!(Fractions::new(0.8, 0.1, 0.1).is_ok());
        assert!(Fractions::new(1.0, 0.0, 0.0).is_ok());
        for (train, val, test) in [
            (0.8, 0.2, 0.1),
            (0.0, 0.5, 0.5),
            (1.2, -0.1, -0.1),
            (f64::NAN, 0.0, 0.0),
        ] {
            assert!(Fractions::new(train, val, test).is_err());
        }
        assert_eq!(
            Fractions::new(0.8, 0.2, 0.1).unwrap_err().hint_text(),
            Some("`--train 0.7`")
        );
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("d{n}")).collect()
    }

    fn groups(names: &[String]) -> Vec<Group<'_>> {
        let group = |key| Group {
            key,
            records: 1,
            stratum: 0,
        };
        names.iter().map(|name| group(name.as_str())).collect()
    }

    fn sizes(groups: &[Group<'_>], assignment: &Assignment) -> [u64; 3] {
        let mut sizes = [0; 3];
        for (group, side) in groups.iter().zip(&assignment.side) {
            sizes[*side] += group.records;
        }
        sizes
    }

    fn eighty() -> Fractions {
        Fractions::new(0.8, 0.1, 0.1).unwrap()
    }

    #[test]
    fn exactly_no_side_stays_empty_when_there_is_a_document_for_it() {
        for count in 1..40 {
            let names = names(count);
            let groups = groups(&names);
            let sizes = sizes(&groups, &assign_exactly(&groups, eighty(), 42));
            for (side, size) in sizes.into_iter().enumerate() {
                assert!(
                    size > 0 || count < 3 && side > 0,
                    "{count} documents, side {side}"
                );
            }
        }
        let names = names(9);
        let only_train = Fractions::new(1.0, 0.0, 0.0).unwrap();
        let assignment = assign_exactly(&groups(&names), only_train, 1);
        assert!(assignment.side.iter().all(|side| *side == 0));
    }

    #[test]
    fn exactly_a_large_document_does_not_crowd_a_small_side() {
        // One document of 40 records among 60 of one: wherever its hash sends it, train alone can
        // hold it.
        let names = names(60);
        let mut groups = groups(&names);
        groups.push(Group {
            key: "big",
            records: 40,
            stratum: 0,
        });
        for seed in 0..50 {
            let assignment = assign_exactly(&groups, eighty(), seed);
            assert_eq!(assignment.side[60], 0, "seed {seed}");
            assert_eq!(sizes(&groups, &assignment), [80, 10, 10], "seed {seed}");
        }
    }

    #[test]
    fn exactly_keeps_the_shares_within_each_stratum() {
        let names = names(300);
        let mut groups = groups(&names);
        for (index, group) in groups.iter_mut().enumerate() {
            group.stratum = (index % 3) as u32;
        }
        let assignment = assign_exactly(&groups, eighty(), 5);
        for stratum in 0..3 {
            let mut sizes = [0; 3];
            for (group, side) in groups.iter().zip(&assignment.side) {
                sizes[*side] += u64::from(group.stratum == stratum);
            }
            assert_eq!(sizes, [80, 10, 10]);
        }
    }

    #[test]
    fn a_better_seed_is_found_for_few_and_is_what_it_says() {
        let names = names(48);
        let groups = groups(&names);
        // Of these a good part comes out badly.
        let found: Vec<_> = (0..20)
            .filter_map(|seed| better_seed(&groups, eighty(), seed))
            .collect();
        assert!(found.len() > 10, "{}", found.len());
        for (seed, said) in found {
            let side = assign(&groups, eighty(), seed);
            assert_eq!(sizes(&groups, &side), said);
            assert!((37..=40).contains(&said[0]), "{said:?}");
        }
    }

    proptest! {
        /// What the help promises: a document's side follows from the seed and its name, whatever else
        /// is in the file.
        #[test]
        fn adding_documents_moves_none(count in 1usize..300, more in 1usize..200, seed in any::<u64>()) {
            let all = names(count + more);
            let before = assign(&groups(&all[..count]), eighty(), seed);
            let after = assign(&groups(&all), eighty(), seed);
            prop_assert_eq!(&before.side[..], &after.side[..count]);
            // The order does not matter either.
            let mut turned = groups(&all);
            turned.reverse();
            let mut side = assign(&turned, eighty(), seed).side;
            side.reverse();
            prop_assert_eq!(side, after.side);
        }

        /// `--exact`: as near as whole documents allow, from a handful on.
        #[test]
        fn exactly_keeps_the_shares(count in 5usize..2000, seed in any::<u64>(), rest in 1u32..5) {
            let small = f64::from(rest) / 10.0;
            let fractions = Fractions::new(1.0 - small - 0.1, small, 0.1).unwrap();
            let names = names(count);
            let groups = groups(&names);
            let sizes = sizes(&groups, &assign_exactly(&groups, fractions, seed));
            for (side, got) in sizes.into_iter().enumerate() {
                let asked = fractions.share(side) * count as f64;
                // The third side takes what rounding leaves, and an empty one its one document.
                let allowed = (TOLERANCE * asked).max(1.0) + 1e-6;
                prop_assert!((got as f64 - asked).abs() <= allowed, "{} of {}", got, asked);
            }
        }
    }

    /// Six thousand groups are dealt out in a moment also when one side must give many away.
    #[test]
    fn exactly_takes_no_time_for_large_sets() {
        let start = std::time::Instant::now();
        let names = names(6000);
        let mut groups = groups(&names);
        // Every document that hashes to train has two records, the others one.
        for group in &mut groups {
            group.records = if point(1, group.key) < 0.8 { 2 } else { 1 };
        }
        let assignment = assign_exactly(&groups, eighty(), 1);
        assert!(assignment.moved > 100, "{}", assignment.moved);
        assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
    }
}
