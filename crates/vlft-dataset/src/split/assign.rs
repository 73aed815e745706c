//! Which side a group goes to: a pure function of the seed and the group's key. Adding records never
//! moves the others, with two exceptions that are told: a new record may tie two groups together,
//! and a side that would stay empty takes the group that is nearest to it.

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

/// Where each group goes.
pub(crate) struct Assignment {
    /// Key of the group -> index into [`NAMES`].
    pub(crate) side: BTreeMap<String, usize>,
    /// Groups that went elsewhere than their hash says, to fill an empty side.
    pub(crate) moved: Vec<String>,
}

pub(crate) fn assign(
    keys: impl IntoIterator<Item = String>,
    fractions: Fractions,
    seed: u64,
) -> Assignment {
    let points: BTreeMap<String, f64> = keys
        .into_iter()
        .map(|key| (key.clone(), point(seed, &key)))
        .collect();
    let mut side: BTreeMap<String, usize> = points
        .iter()
        .map(|(key, at)| (key.clone(), side_of(*at, fractions)))
        .collect();
    let mut moved = Vec::new();
    for wanting in 0..NAMES.len() {
        if fractions.share(wanting) == 0.0 || side.values().any(|s| *s == wanting) {
            continue;
        }
        // From the side with the most groups, the one whose point is nearest to the empty interval.
        let size = |of: usize| side.values().filter(|s| **s == of).count();
        let donor = (0..NAMES.len())
            .max_by_key(|s| (size(*s), NAMES.len() - s))
            .unwrap_or(0);
        // Train comes first: a single document is trained on.
        if size(donor) < 2 && wanting > 0 {
            continue;
        }
        let middle =
            (0..wanting).map(|s| fractions.share(s)).sum::<f64>() + fractions.share(wanting) / 2.0;
        let nearest = side
            .iter()
            .filter(|(_, s)| **s == donor)
            .min_by(|(a, _), (b, _)| {
                (points[*a] - middle)
                    .abs()
                    .total_cmp(&(points[*b] - middle).abs())
            })
            .map(|(key, _)| key.clone());
        if let Some(key) = nearest {
            side.insert(key.clone(), wanting);
            moved.push(key);
        }
    }
    Assignment { side, moved }
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

    #[test]
    fn no_side_stays_empty_when_there_is_a_document_for_it() {
        let fractions = Fractions::new(0.8, 0.1, 0.1).unwrap();
        for count in 1..40 {
            let assignment = assign((0..count).map(|n| format!("d{n}")), fractions, 42);
            for side in 0..3 {
                let size = assignment.side.values().filter(|s| **s == side).count();
                assert!(
                    size > 0 || count < 3 && side > 0,
                    "{count} documents, side {side}"
                );
            }
        }
        let only_train = Fractions::new(1.0, 0.0, 0.0).unwrap();
        assert!(
            assign((0..9).map(|n| format!("d{n}")), only_train, 1)
                .side
                .values()
                .all(|s| *s == 0)
        );
    }

    proptest! {
        #[test]
        fn adding_documents_moves_none_that_was_not_moved_to_fill_a_side(
            count in 30usize..200, more in 1usize..50, seed in any::<u64>()
        ) {
            let fractions = Fractions::new(0.7, 0.2, 0.1).unwrap();
            let before = assign((0..count).map(|n| format!("d{n}")), fractions, seed);
            let after = assign((0..count + more).map(|n| format!("d{n}")), fractions, seed);
            for (key, side) in &before.side {
                if !before.moved.contains(key) && !after.moved.contains(key) {
                    prop_assert_eq!(after.side[key], *side);
                }
            }
        }

        #[test]
        fn shares_are_kept(seed in any::<u64>()) {
            let fractions = Fractions::new(0.8, 0.1, 0.1).unwrap();
            let assignment = assign((0..4000).map(|n| format!("d{n}")), fractions, seed);
            let train = assignment.side.values().filter(|s| **s == 0).count() as f64 / 4000.0;
            prop_assert!((train - 0.8).abs() < 0.05, "{}", train);
        }
    }
}
