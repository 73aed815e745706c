//! What `split` says in the end.

use std::fmt;

use serde::Serialize;
use vlft_base::Diagnostic;
use vlft_base::format::{count, grouped};

use super::groups::COMMON;

/// The result. The records of all sides are all records.
#[derive(Clone, Debug, Serialize)]
pub struct SplitReport {
    pub file: String,
    pub by: String,
    pub seed: u64,
    pub records: u64,
    pub documents: u64,
    pub sides: Vec<Side>,
    /// Records without the grouping key; each is a document of its own.
    pub without_key: u64,
    /// Documents that stay with another one because they come from the same file..
    pub joined_by_source: u64,
    /// .. or show the same page.
    pub joined_by_image: u64,
    /// Pages of so many documents that they tie nothing together; one image of each.
    pub common_images: Vec<String>,
    /// Groups that went where their hash does not send them, so that the shares are kept..
    pub moved: u64,
    /// .. and so that no side is empty.
    pub moved_to_fill: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Side {
    pub name: &'static str,
    pub file: String,
    pub records: u64,
    pub documents: u64,
    /// The share that was asked for.
    pub asked: f64,
}

/// So far from its share, as a part of it, a side is worth a warning.
const FAR: f64 = 0.25;

impl SplitReport {
    /// The sides that are far from what was asked, for want of documents that fit.
    pub fn warning(&self) -> Option<Diagnostic> {
        let off: Vec<String> = self
            .sides
            .iter()
            .filter(|side| {
                let asked = side.asked * self.records as f64;
                let off = (side.records as f64 - asked).abs();
                off > 1.0 && off > FAR * asked
            })
            .map(|side| {
                let share = 100.0 * side.records as f64 / self.records as f64;
                let asked = 100.0 * side.asked;
                format!(
                    "{} has {share:.1} % of the records, asked was {asked:.1} %",
                    side.name
                )
            })
            .collect();
        if off.is_empty() {
            return None;
        }
        let warning = Diagnostic::warning("the shares are far from what was asked").at(&self.file);
        let warning = off.into_iter().fold(warning, Diagnostic::caused_by);
        Some(warning.hint(
            "documents are never divided: with few or very unequal ones, ask for other shares or add \
             documents",
        ))
    }
}

impl fmt::Display for SplitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, side) in self.sides.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let share = 100.0 * side.records as f64 / self.records as f64;
            write!(
                f,
                "{:<6} {:>9} {:<8} {:>9} {:<10} {share:>5.1} % (asked {:.1} %)",
                side.name,
                grouped(side.records),
                if side.records == 1 {
                    "record"
                } else {
                    "records"
                },
                grouped(side.documents),
                if side.documents == 1 {
                    "document"
                } else {
                    "documents"
                },
                100.0 * side.asked
            )?;
        }
        let ties = [
            (self.joined_by_source, "the same source file"),
            (self.joined_by_image, "a page in common"),
        ];
        for (joined, why) in ties.iter().filter(|(joined, _)| *joined > 0) {
            write!(
                f,
                "\n{} kept with another: {why}",
                count(*joined, "document")
            )?;
        }
        if let Some(example) = self.common_images.first() {
            write!(
                f,
                "\n{} in more than {COMMON} documents tie nothing together, such as `{example}`",
                count(self.common_images.len() as u64, "page")
            )?;
        }
        if self.without_key > 0 {
            let records = count(self.without_key, "record");
            write!(
                f,
                "\n{records} without `meta.{}`: each is a document of its own",
                self.by
            )?;
        }
        if self.moved > 0 {
            let groups = count(self.moved, "document");
            write!(f, "\n{groups} moved to keep the shares")?;
        }
        if self.moved_to_fill > 0 {
            let groups = count(self.moved_to_fill, "document");
            write!(
                f,
                "\n{groups} moved so that no side is empty; more documents would not need it"
            )?;
        }
        Ok(())
    }
}
