//! Which side a group goes to. At first its side is a pure function of the seed and the group's key,
//! so that adding records moves nobody. Of few groups that leaves shares as uneven as throws of dice;
//! where a share comes out too far from what was asked (see [`TOLERANCE`]) some groups change sides,
//! as few as possible and those first whose points lie nearest to the border. So in a growing dataset
//! hardly any group ever moves. Two more exceptions: a new record may tie two groups together, and a
//! side that would stay empty takes the group that is nearest to it.

use std::collections::BTreeMap;

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

/// Where each group goes.
pub(crate) struct Assignment {
    /// Key of the group -> index into [`NAMES`].
    pub(crate) side: BTreeMap<String, usize>,
    /// Groups that went elsewhere than their hash says, to keep the shares.
    pub(crate) moved: Vec<String>,
    /// .. and to fill an empty side.
    pub(crate) moved_to_fill: Vec<String>,
}

/// One group while sides are dealt out.
struct Dealt {
    key: String,
    point: f64,
    records: f64,
    side: usize,
    drawn: usize,
}

/// `keys`: the key of the group of each record.
pub(crate) fn assign(
    keys: impl IntoIterator<Item = String>,
    fractions: Fractions,
    seed: u64,
) -> Assignment {
    let mut records: BTreeMap<String, u64> = BTreeMap::new();
    for key in keys {
        *records.entry(key).or_default() += 1;
    }
    let mut groups: Vec<Dealt> = records
        .into_iter()
        .map(|(key, records)| {
            let point = point(seed, &key);
            let side = side_of(point, fractions);
            Dealt {
                key,
                point,
                records: records as f64,
                side,
                drawn: side,
            }
        })
        .collect();
    keep_shares(&mut groups, fractions);
    let balanced: Vec<usize> = groups.iter().map(|group| group.side).collect();
    fill_empty_sides(&mut groups, fractions);
    let (mut moved, mut moved_to_fill) = (Vec::new(), Vec::new());
    for (group, balanced) in groups.iter().zip(balanced) {
        if group.side != balanced {
            moved_to_fill.push(group.key.clone());
        } else if group.side != group.drawn {
            moved.push(group.key.clone());
        }
    }
    Assignment {
        side: groups
            .into_iter()
            .map(|group| (group.key, group.side))
            .collect(),
        moved,
        moved_to_fill,
    }
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

    fn keys(count: usize) -> impl Iterator<Item = String> {
        (0..count).map(|n| format!("d{n}"))
    }

    fn records_on(assignment: &Assignment, side: usize, keys: impl Iterator<Item = String>) -> f64 {
        keys.filter(|key| assignment.side[key] == side).count() as f64
    }

    #[test]
    fn no_side_stays_empty_when_there_is_a_document_for_it() {
        let fractions = Fractions::new(0.8, 0.1, 0.1).unwrap();
        for count in 1..40 {
            let assignment = assign(keys(count), fractions, 42);
            for side in 0..3 {
                let size = records_on(&assignment, side, keys(count));
                assert!(
                    size > 0.0 || count < 3 && side > 0,
                    "{count} documents, side {side}"
                );
            }
        }
        let only_train = Fractions::new(1.0, 0.0, 0.0).unwrap();
        assert!(
            assign(keys(9), only_train, 1)
                .side
                .values()
                .all(|s| *s == 0)
        );
    }

    #[test]
    fn a_large_document_does_not_crowd_a_small_side() {
        // One document of 40 records among 60 of one: wherever its hash sends it, train alone can
        // hold it.
        let fractions = Fractions::new(0.8, 0.1, 0.1).unwrap();
        for seed in 0..50 {
            let all = || std::iter::repeat_n("big".to_owned(), 40).chain(keys(60));
            let assignment = assign(all(), fractions, seed);
            assert_eq!(assignment.side["big"], 0, "seed {seed}");
            for (side, expected) in [80.0, 10.0, 10.0].into_iter().enumerate() {
                assert_eq!(
                    records_on(&assignment, side, all()),
                    expected,
                    "seed {seed}"
                );
            }
        }
    }

    proptest! {
        /// As near as whole documents allow, from a handful on.
        #[test]
        fn shares_are_kept(count in 5usize..2000, seed in any::<u64>(), rest in 1u32..5) {
            let small = f64::from(rest) / 10.0;
            let fractions = Fractions::new(1.0 - small - 0.1, small, 0.1).unwrap();
            let assignment = assign(keys(count), fractions, seed);
            for side in 0..3 {
                let asked = fractions.share(side) * count as f64;
                let got = records_on(&assignment, side, keys(count));
                // The third side takes what rounding leaves, and an empty one its one document.
                let allowed = (TOLERANCE * asked).max(1.0) + 1e-6;
                prop_assert!((got - asked).abs() <= allowed, "{} of {}", got, asked);
            }
        }

        /// What the help promises of growing data sets: who has not moved in one of the two splits is
        /// where its hash says, and few have moved.
        #[test]
        fn adding_documents_moves_few(
            count in 400usize..2000, more in 1usize..200, seed in any::<u64>()
        ) {
            let fractions = Fractions::new(0.8, 0.1, 0.1).unwrap();
            let before = assign(keys(count), fractions, seed);
            let after = assign(keys(count + more), fractions, seed);
            let mut changed = 0;
            for (key, side) in &before.side {
                if after.side[key] != *side {
                    changed += 1;
                    prop_assert!(before.moved.contains(key) || after.moved.contains(key));
                }
            }
            // Borders wander like the sums of dice: six times their deviation is out of reach.
            let deviation = (count as f64 * 0.1 * 0.9).sqrt();
            prop_assert!(f64::from(changed) < 6.0 * deviation, "{} of {}", changed, count);
        }
    }

    /// Six thousand groups are dealt out in a moment also when one side must give many away.
    #[test]
    fn large_sets_take_no_time() {
        let start = std::time::Instant::now();
        let fractions = Fractions::new(0.8, 0.1, 0.1).unwrap();
        // Every document that hashes to train has two records, the others one.
        let all = keys(6000).flat_map(|key| {
            let copies = if point(1, &key) < 0.8 { 2 } else { 1 };
            std::iter::repeat_n(key, copies)
        });
        let assignment = assign(all, fractions, 1);
        assert!(assignment.moved.len() > 100, "{}", assignment.moved.len());
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }
}
