//! File names as untidy as real ones. All are legal on every file system, and no two are equal
//! without regard to case, signs and extension: what cannot be told apart cannot be labelled.

use std::collections::BTreeSet;

use super::bill::Bill;
use crate::dice::Dice;

/// A file name without directory: `stem` and an extension as somebody typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileName {
    pub(crate) stem: String,
    pub(crate) extension: &'static str,
}

impl FileName {
    pub(crate) fn full(&self) -> String {
        format!("{}.{}", self.stem, self.extension)
    }
}

/// Counts that make names prefixes of each other: INV_1 and INV_10, INV_2 and INV_21.
const INVOICES: [u32; 8] = [1, 10, 2, 21, 3, 100, 11, 30];

/// Hands out names; remembers them so that none comes twice.
#[derive(Default)]
pub(crate) struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// The name of document `index`. Styles take turns, so that a small set has all of them.
    pub(crate) fn give(&mut self, index: usize, bill: &Bill, dice: &mut Dice) -> FileName {
        let number = &bill.number;
        let date = bill.date;
        let (stem, extension) = match index % 11 {
            0 => (number.clone(), "pdf"),
            1 => (format!("{number}_C _2_"), "PDF"),
            2 => (format!("{number} (1)"), "pdf"),
            3 => (format!("{number}_1_"), "pdf"),
            4 => (format!("XBL+{number}-1"), "pdf"),
            5 => {
                let (shipper, consignee) = (bill.shipper.name, bill.consignee.name);
                (
                    format!("FWD_(S){shipper}(C){consignee}_{number} (1)"),
                    "pdf",
                )
            }
            6 => (format!("{number}_C"), "PDF"),
            7 => {
                let turn = index / 11;
                let count = INVOICES.get(turn).copied().unwrap_or(200 + turn as u32);
                (format!("INV_{count}"), "pdf")
            }
            8 => (
                format!(
                    "SCAN{}{:02}{:02}_{}",
                    date.year,
                    date.month,
                    date.day,
                    dice.digits(4)
                ),
                "PDF",
            ),
            9 => (format!("{number} BL COPY"), "pdf"),
            _ => (format!("{number}__signed copy"), "Pdf"),
        };
        let mut name = FileName { stem, extension };
        let mut copy = 2;
        let plain = name.stem.clone();
        while !self.taken.insert(key(&name.stem)) {
            name.stem = format!("{plain} ({copy})");
            copy += 1;
        }
        name
    }
}

/// What is left of a name when case and signs do not count.
fn key(stem: &str) -> String {
    let signless: String = stem
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                ' '
            }
        })
        .collect();
    signless.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_legal_everywhere_and_never_collide() {
        let mut names = Names::default();
        let mut dice = Dice::new(3, 0);
        let mut seen = BTreeSet::new();
        for index in 0..600 {
            // The same few bills again and again: numbers must collide.
            let bill = Bill::draw(1, &mut Dice::new(4, index as u64 % 20));
            let name = names.give(index, &bill, &mut dice);
            let full = name.full();
            assert!(seen.insert(key(&name.stem)), "{full} comes twice");
            assert!(full.len() < 120 && full.is_ascii(), "{full}");
            assert!(
                !full.contains(['/', '\\', ':', '*', '?', '"', '<', '>', '|']),
                "{full}"
            );
            assert_eq!(full.trim(), full);
        }
    }
}
