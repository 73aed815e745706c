//! The names among the images that look most like a label's name: for the reader of a reject, never
//! for a decision.

use super::names::STEPS;

/// Up to three names, the nearest first; none that is very different.
pub(crate) fn nearest(label: &str, names: &[String]) -> Vec<String> {
    let key = |name: &str| STEPS[STEPS.len() - 1].key(name);
    let wanted = key(label);
    let histogram = Histogram::of(&wanted);
    // A third of the signs may differ.
    let mut limit = (wanted.chars().count() / 3).max(1);
    let mut best: Vec<(usize, &String)> = Vec::new();
    for name in names {
        let other = key(name);
        // Most names differ too much in their letters alone; the real distance is expensive.
        if histogram.least_distance(&Histogram::of(&other)) > limit {
            continue;
        }
        let distance = strsim::osa_distance(&wanted, &other);
        if distance <= limit {
            best.push((distance, name));
            best.sort();
            best.dedup_by(|a, b| a.1 == b.1);
            best.truncate(3);
            if let [_, _, (worst, _)] = best[..] {
                limit = worst;
            }
        }
    }
    best.into_iter().map(|(_, name)| name.clone()).collect()
}

/// How often each byte value (modulo 64) occurs: bounds the edit distance from below.
struct Histogram([i32; 64]);

impl Histogram {
    fn of(text: &str) -> Self {
        let mut counts = [0; 64];
        for c in text.chars() {
            counts[c as usize % 64] += 1;
        }
        Self(counts)
    }

    /// An edit changes at most two counts by one each.
    fn least_distance(&self, other: &Self) -> usize {
        let difference: i32 = self
            .0
            .iter()
            .zip(&other.0)
            .map(|(a, b)| (a - b).abs())
            .sum();
        difference.unsigned_abs() as usize / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_come_first() {
        let names: Vec<String> = [
            "invoice_17",
            "invoice_170",
            "bill_9",
            "invoice_18",
            "INVOICE 16",
        ]
        .map(Into::into)
        .to_vec();
        assert_eq!(
            nearest("invoice_71.pdf", &names),
            ["invoice_17", "INVOICE 16", "invoice_170"]
        );
        assert!(nearest("zzz", &names).is_empty());
    }
}
