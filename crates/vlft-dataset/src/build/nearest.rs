//! The names among the images that look most like a label's name: for the reader of a reject, never
//! for a decision.

use std::collections::BTreeSet;

use super::names::STEPS;

/// All names that there are, ready to be compared.
pub(crate) struct Nearest {
    names: Vec<Known>,
    /// How many comparisons may still be made: where thousands of documents have no image, the first
    /// ones show what is wrong.
    left: usize,
}

struct Known {
    name: String,
    key: String,
    histogram: Histogram,
}

const MAX_COMPARISONS: usize = 20_000_000;

impl Nearest {
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let names: BTreeSet<&str> = names.collect();
        let known = |name: &str| {
            let key = key(name);
            Known {
                name: name.to_owned(),
                histogram: Histogram::of(&key),
                key,
            }
        };
        Self {
            names: names.into_iter().map(known).collect(),
            left: MAX_COMPARISONS,
        }
    }

    /// Up to three names, the nearest first; none that is very different.
    pub(crate) fn to(&mut self, label: &str) -> Vec<String> {
        let Some(left) = self.left.checked_sub(self.names.len()) else {
            return Vec::new();
        };
        self.left = left;
        let wanted = key(label);
        let histogram = Histogram::of(&wanted);
        // A third of the signs may differ.
        let mut limit = (wanted.chars().count() / 3).max(1);
        let mut best: Vec<(usize, &String)> = Vec::new();
        for known in &self.names {
            // Most names differ too much in their letters alone; the real distance is expensive.
            if histogram.least_distance(&known.histogram) > limit {
                continue;
            }
            let distance = strsim::osa_distance(&wanted, &known.key);
            if distance <= limit {
                best.push((distance, &known.name));
                best.sort();
                best.truncate(3);
                if let [_, _, (worst, _)] = best[..] {
                    limit = worst;
                }
            }
        }
        best.into_iter().map(|(_, name)| name.clone()).collect()
    }
}

/// What names are compared by: as at the last step of the ladder.
fn key(name: &str) -> String {
    STEPS[STEPS.len() - 1].key(name)
}

/// How often each letter (by its code modulo 64) occurs: bounds the edit distance from below.
struct Histogram([u8; 64]);

impl Histogram {
    fn of(text: &str) -> Self {
        let mut counts = [0u8; 64];
        for c in text.chars() {
            let count = &mut counts[c as usize % 64];
            *count = count.saturating_add(1);
        }
        Self(counts)
    }

    /// An edit changes at most two counts by one each.
    fn least_distance(&self, other: &Self) -> usize {
        let counts = self.0.iter().zip(&other.0);
        counts
            .map(|(a, b)| usize::from(a.abs_diff(*b)))
            .sum::<usize>()
            / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let names = [
            "invoice_17",
            "invoice_170",
            "bill_9",
            "invoice_18",
            "INVOICE 16",
        ];
        let mut nearest = Nearest::new(names.into_iter());
        assert_eq!(
            nearest.to("invoice_71.pdf"),
            ["invoice_17", "INVOICE 16", "invoice_170"]
        );
        assert!(nearest.to("zzz").is_empty());
        nearest.left = 4;
        assert!(nearest.to("invoice_17").is_empty());
    }

    proptest! {
        #[test]
        fn the_quick_look_never_hides_a_near_name(a in "[a-f1-3_]{0,12}", b in "[a-f1-3_]{0,12}") {
            let quick = Histogram::of(&a).least_distance(&Histogram::of(&b));
            prop_assert!(quick <= strsim::osa_distance(&a, &b));
        }
    }
}
