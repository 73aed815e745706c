//! What `split` says in the end.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;

use serde::Serialize;
use vlft_base::format::{count, grouped, one_line};
use vlft_base::{Diagnostic, Result};

use super::assign::{Fractions, Group, NAMES};
use super::facts::{Facts, Shared, document_shown};
use super::groups::{COMMON, Groups, Joined};
use super::{Dealt, Options, path_of};
use crate::jsonl::shown;

/// The result. The records of all sides are all records.
#[derive(Clone, Debug, Serialize)]
pub struct SplitReport {
    pub file: String,
    pub by: String,
    pub seed: u64,
    pub exact: bool,
    pub records: u64,
    pub documents: u64,
    pub sides: Vec<Side>,
    /// Records without the grouping key; each is a document of its own.
    pub without_key: u64,
    /// Documents that stay with another one, by what they have in common.
    pub joined: Joined,
    /// The largest group that was made of so many documents that it is worth a look.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_group: Option<LargestGroup>,
    /// Pages of so many documents that they tie nothing together; one image of each.
    pub common_images: Vec<String>,
    /// Answers of so many documents that they tie nothing together; a record with each.
    pub common_targets: Vec<String>,
    /// Images that could not be decoded: compared by their bytes only.
    pub undecodable_images: u64,
    /// With `--exact`: groups that went where their hash does not send them, so that the shares are
    /// kept..
    pub moved: u64,
    /// .. and so that no side is empty.
    pub moved_to_fill: u64,
    /// A seed with which the shares come out better, when they come out badly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested: Option<Suggested>,
    /// With `--stratify`: what it goes by, and how each value is spread, the most frequent first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stratify: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strata: Vec<Stratum>,
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

#[derive(Clone, Debug, Serialize)]
pub struct LargestGroup {
    pub documents: u64,
    /// The one that names it.
    pub document: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Suggested {
    pub seed: u64,
    /// Of train, val and test.
    pub records: [u64; 3],
}

/// The records of one value.
#[derive(Clone, Debug, Serialize)]
pub struct Stratum {
    /// Absent for records that have none.
    pub value: Option<String>,
    /// Of train, val and test.
    pub records: [u64; 3],
    /// The side that is furthest from its share, in records.
    pub deviation: f64,
}

pub(super) fn make(
    options: &Options,
    facts: &mut Facts,
    shared: &Shared,
    groups: &Groups,
    dealt: &Dealt,
    sides: &[usize],
) -> Result<SplitReport> {
    // A document is on one side with all of its records.
    let mut is_counted = vec![false; shared.documents.len()];
    let mut documents = [0u64; 3];
    let mut records = [0u64; 3];
    let mut strata: BTreeMap<u32, [u64; 3]> = BTreeMap::new();
    for (record, side) in facts.records.iter().zip(sides) {
        let is_counted = &mut is_counted[record.document as usize];
        documents[*side] += u64::from(!mem::replace(is_counted, true));
        records[*side] += 1;
        strata.entry(record.stratum).or_default()[*side] += 1;
    }
    let wanted = (0..NAMES.len()).filter(|side| options.fractions.share(*side) > 0.0);
    let sides = wanted.map(|side| Side {
        name: NAMES[side],
        file: shown(&path_of(options, NAMES[side])),
        records: records[side],
        documents: documents[side],
        asked: options.fractions.share(side),
    });
    let mut common_images = Vec::new();
    for (record, place) in &groups.common_images {
        let line = facts.records[*record].line;
        common_images.push(facts.image_name(line, *place)?);
    }
    let mut common_targets = Vec::new();
    for record in &groups.common_targets {
        let line = facts.records[*record].line;
        let id = facts.record(line)?.map(|record| record.id.clone());
        common_targets.push(id.unwrap_or_default());
    }
    let mut strata: Vec<Stratum> = strata
        .into_iter()
        .map(|(value, records)| {
            let total = records.iter().sum::<u64>() as f64;
            let off =
                |side: usize| (records[side] as f64 - total * options.fractions.share(side)).abs();
            Stratum {
                value: Some(shared.strata.get(value).to_owned()).filter(|value| !value.is_empty()),
                records,
                deviation: (0..NAMES.len()).map(off).fold(0.0, f64::max),
            }
        })
        .collect();
    strata.sort_by(|a, b| {
        let total = |stratum: &Stratum| stratum.records.iter().sum::<u64>();
        total(b).cmp(&total(a)).then(a.value.cmp(&b.value))
    });
    if options.stratify.is_none() {
        strata.clear();
    }
    let (largest, name) = groups.largest;
    Ok(SplitReport {
        file: facts.file.clone(),
        by: options.by.clone(),
        seed: options.seed,
        exact: options.exact,
        records: facts.records.len() as u64,
        documents: shared.documents.len() as u64,
        sides: sides.collect(),
        without_key: facts
            .records
            .iter()
            .filter(|record| !record.has_key)
            .count() as u64,
        joined: groups.joined,
        largest_group: (largest > COMMON).then(|| LargestGroup {
            documents: largest as u64,
            document: document_shown(shared.documents.get(name)).to_owned(),
        }),
        common_images,
        common_targets,
        undecodable_images: shared.images.undecodable,
        moved: dealt.assignment.moved,
        moved_to_fill: dealt.assignment.moved_to_fill,
        suggested: dealt.suggested.clone(),
        stratify: options.stratify.as_ref().map(ToString::to_string),
        strata,
    })
}

/// So far from its share, as a part of it, a side is worth a warning.
const FAR: f64 = 0.25;

/// Whether a side is far from its share, or empty.
pub(super) fn is_far(groups: &[Group<'_>], side: &[usize], fractions: Fractions) -> bool {
    let mut records = [0u64; 3];
    for (group, side) in groups.iter().zip(side) {
        records[*side] += group.records;
    }
    let total = records.iter().sum();
    (0..NAMES.len()).any(|side| is_side_far(records[side], fractions.share(side), total))
}

fn is_side_far(records: u64, share: f64, total: u64) -> bool {
    let asked = share * total as f64;
    let off = (records as f64 - asked).abs();
    off > 1.0 && off > FAR * asked || records == 0 && share > 0.0
}

impl SplitReport {
    /// The sides that are far from what was asked.
    pub fn warning(&self) -> Option<Diagnostic> {
        let off: Vec<String> = self
            .sides
            .iter()
            .filter(|side| is_side_far(side.records, side.asked, self.records))
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
        Some(match &self.suggested {
            Some(Suggested { seed, records }) => {
                let sizes: Vec<String> = records.iter().map(|size| grouped(*size)).collect();
                warning.hint(format!(
                    "with few documents a seed may deal badly; `--seed {seed}` gives {} records, and documents \
                     never move either. `--exact` keeps the shares, but moves documents when the set grows",
                    sizes.join(" / ")
                ))
            }
            // Each value was given its shares apart, which one or two documents cannot have.
            None if self.exact && self.stratify.is_some() => warning.hint(
                "values that few documents have cannot be spread: stratify by one with fewer values, or leave \
                 `--stratify` out",
            ),
            None => warning.hint(
                "documents are never divided: with few or very unequal ones, ask for other shares or add \
                 documents",
            ),
        })
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
        self.ties(f)?;
        self.exceptions(f)?;
        self.spread(f)
    }
}

impl SplitReport {
    fn ties(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ties = [
            (self.joined.by_source, "the same source file"),
            (self.joined.by_image, "a page in common"),
            (self.joined.by_looks, "pages that look the same"),
            (self.joined.by_target, "the same answer"),
        ];
        for (joined, why) in ties.iter().filter(|(joined, _)| *joined > 0) {
            write!(
                f,
                "\n{} kept with another: {why}",
                count(*joined, "document")
            )?;
        }
        if let Some(largest) = &self.largest_group {
            write!(
                f,
                "\n{} are one group, that of `{}`: look whether they belong together",
                count(largest.documents, "document"),
                one_line(&largest.document)
            )?;
        }
        let common = [
            (&self.common_images, "page", "such as"),
            (&self.common_targets, "answer", "such as that of record"),
        ];
        for (common, what, such_as) in common {
            if let Some(example) = common.first() {
                write!(
                    f,
                    "\n{} in more than {COMMON} documents tie nothing together, {such_as} `{}`",
                    count(common.len() as u64, what),
                    one_line(example)
                )?;
            }
        }
        Ok(())
    }

    fn exceptions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.undecodable_images > 0 {
            let images = count(self.undecodable_images, "image");
            write!(f, "\n{images} could not be decoded: compared by bytes only")?;
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

    fn spread(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        let Some(by) = &self.stratify else {
            return Ok(());
        };
        let furthest = self
            .strata
            .iter()
            .max_by(|a, b| a.deviation.total_cmp(&b.deviation));
        write!(f, "\n\n{by}: {}", count(self.strata.len() as u64, "value"))?;
        if let Some(furthest) = furthest {
            write!(
                f,
                "; furthest from its shares, by {:.1} records: `{}`",
                furthest.deviation,
                one_line(furthest.value.as_deref().unwrap_or("(none)"))
            )?;
        }
        write!(
            f,
            "\n{:>9} {:>9} {:>9} {:>9}",
            "train", "val", "test", "off by"
        )?;
        for stratum in self.strata.iter().take(SHOWN) {
            let [train, val, test] = stratum.records.map(grouped);
            let value = one_line(stratum.value.as_deref().unwrap_or("(none)"));
            write!(
                f,
                "\n{train:>9} {val:>9} {test:>9} {:>9.1}  {value}",
                stratum.deviation
            )?;
        }
        match self.strata.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\nand {} more", count(more as u64, "value")),
        }
    }
}
