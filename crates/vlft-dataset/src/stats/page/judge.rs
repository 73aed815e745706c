//! Which records deserve a look first, and why. Errors come before warnings, and these before what is
//! only unusual; within each, the more is wrong the earlier.

use std::collections::BTreeMap;

use vlft_base::format::grouped;

use super::findings::Findings;
use crate::rules::Rule;
use crate::stats::duplicates::Alike;
use crate::stats::near::Near;
use crate::stats::report::StatsReport;
use crate::stats::resolution::{SMALL_PRINT_DPI, effective, seen};
use crate::stats::{Dataset, Kept, Whole};
use crate::token_counter::Resize;

/// A record, or a line that is none.
pub(super) struct Judged {
    pub(super) line: u64,
    /// Into the records of the dataset; `None` for a broken line.
    pub(super) record: Option<usize>,
    pub(super) marks: Vec<Mark>,
    /// The least resolution of its pages as the model sees them.
    pub(super) dpi: Option<f64>,
    score: f64,
}

/// One thing to know about a record.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) rule: &'static str,
    pub(super) level: Level,
    pub(super) meaning: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Error,
    Warning,
    Note,
}

impl Level {
    fn weight(self) -> f64 {
        match self {
            Level::Error => 10_000.0,
            Level::Warning => 100.0,
            Level::Note => 1.0,
        }
    }
}

pub(super) fn worst_first(whole: &Whole<'_>, findings: &Findings) -> Vec<Judged> {
    let dataset = whole.dataset;
    let usual = Usual::of(dataset, whole.report);
    let mut all: BTreeMap<u64, Judged> = BTreeMap::new();
    for (index, (kept, alike)) in dataset.records.iter().zip(whole.alike).enumerate() {
        let dpi = least_dpi(dataset, kept, whole.resize);
        let mut judged = Judged {
            line: kept.line,
            record: Some(index),
            marks: Vec::new(),
            dpi,
            score: 0.0,
        };
        judged.of_itself(kept, &usual);
        judged.of_others(alike);
        all.insert(kept.line, judged);
    }
    for (line, problems) in &findings.by_line {
        let judged = all.entry(*line).or_insert_with(|| Judged {
            line: *line,
            record: None,
            marks: Vec::new(),
            dpi: None,
            score: 0.0,
        });
        for problem in problems {
            judged.mark(Mark {
                rule: problem.rule.id(),
                level: match problem.is_error() {
                    true => Level::Error,
                    false => Level::Warning,
                },
                meaning: problem.rule.meaning(),
                message: problem.message.clone(),
                hint: problem.hint.clone(),
            });
        }
    }
    let mut all: Vec<Judged> = all.into_values().collect();
    // Stable: of equals the earlier line comes first.
    all.sort_by(|a, b| b.score.total_cmp(&a.score));
    for judged in &mut all {
        judged.marks.sort_by_key(|mark| mark.level);
    }
    all
}

/// The images of these records, each once, in the order of the records.
pub(super) fn images(dataset: &Dataset, judged: &[Judged]) -> Vec<u32> {
    let mut seen = vec![false; dataset.images.len()];
    let records = judged.iter().filter_map(|judged| judged.record);
    records
        .flat_map(|record| &dataset.records[record].images)
        .copied()
        .filter(|image| !std::mem::replace(&mut seen[*image as usize], true))
        .collect()
}

/// Marks what shows pages that look like another's; the order is made anew.
pub(super) fn mark_near(dataset: &Dataset, judged: &mut [Judged], near: &Near) {
    for judged in judged.iter_mut() {
        let Some(record) = judged.record else {
            continue;
        };
        let images = &dataset.records[record].images;
        let other = images.iter().filter_map(|image| near.looks_like.get(image));
        let other = other.filter(|(line, _)| *line != judged.line).min();
        let rule = Rule::NearImage;
        let is_told = judged.marks.iter().any(|mark| mark.rule == rule.id());
        if let Some((line, path)) = other.filter(|_| !is_told) {
            judged.note(
                Level::Warning,
                rule.id(),
                rule.meaning(),
                format!("a page looks like `{path}` in line {line}"),
            );
            judged.marks.sort_by_key(|mark| mark.level);
        }
    }
    judged.sort_by(|a, b| b.score.total_cmp(&a.score));
}

/// What most records are like.
struct Usual {
    /// More tokens than 99 of 100 records have, where that is far from the middle.
    long: Option<u64>,
    /// A smaller share of filled fields is unusual.
    filled: f64,
}

impl Usual {
    fn of(dataset: &Dataset, report: &StatsReport) -> Self {
        let tokens = report.spreads.iter().find(|s| s.name == "tokens");
        let mut shares: Vec<f64> = dataset.records.iter().filter_map(share).collect();
        shares.sort_by(f64::total_cmp);
        let middle = shares.get(shares.len() / 2).copied().unwrap_or(0.0);
        Self {
            long: tokens
                .filter(|s| s.count >= 100 && s.p99 > 1.5 * s.p50)
                .map(|s| s.p99 as u64),
            filled: middle / 2.0,
        }
    }
}

/// Of the leaves of its answers, how many say something.
fn share(kept: &Kept) -> Option<f64> {
    let filled = kept.filled;
    (filled.of > 0).then(|| f64::from(filled.filled) / f64::from(filled.of))
}

fn least_dpi(dataset: &Dataset, kept: &Kept, resize: Resize) -> Option<f64> {
    let images = kept.images.iter().map(|i| &dataset.images[*i as usize]);
    images
        .filter_map(|image| {
            let size = image.head.size;
            let seen = seen(size, resize, resize.max_pixels)?;
            Some(effective(image.dpi.value()?, size, seen))
        })
        .min_by(f64::total_cmp)
}

impl Judged {
    fn mark(&mut self, mark: Mark) {
        self.score += mark.level.weight();
        self.marks.push(mark);
    }

    fn note(&mut self, level: Level, rule: &'static str, meaning: &'static str, message: String) {
        self.mark(Mark {
            rule,
            level,
            meaning,
            message,
            hint: None,
        });
    }

    fn of_itself(&mut self, kept: &Kept, usual: &Usual) {
        if kept.uncountable {
            self.note(
                Level::Warning,
                "not-counted",
                "its tokens could not be counted with this model",
                "its tokens could not be counted".to_owned(),
            );
        }
        if let Some(dpi) = self.dpi.filter(|dpi| *dpi < SMALL_PRINT_DPI) {
            self.score += (SMALL_PRINT_DPI - dpi) / SMALL_PRINT_DPI;
            self.note(
                Level::Note,
                "low-dpi",
                "a page reaches the model at less than 100 dpi: small print is lost",
                format!("a page reaches the model at {dpi:.0} dpi"),
            );
        }
        let tokens = kept.tokens.map(|tokens| tokens.total);
        if let (Some(tokens), Some(long)) = (tokens, usual.long)
            && tokens > long
        {
            self.note(
                Level::Note,
                "long",
                "among the longest hundredth of the records",
                format!("{} tokens, more than 99 of 100 records", grouped(tokens)),
            );
        }
        if let Some(share) = share(kept).filter(|share| *share < usual.filled) {
            self.score += 1.0 - share;
            self.note(
                Level::Note,
                "few-fields",
                "fewer than half as many fields are filled as usual",
                format!("{} of {} fields filled", kept.filled.filled, kept.filled.of),
            );
        }
    }

    fn of_others(&mut self, alike: &Alike) {
        // The same record, and conflicting answers, are what `validate` says.
        let same_pages = alike
            .same_pages_as
            .filter(|line| alike.same_record_as != Some(*line));
        let told = [
            (
                same_pages,
                "same-pages",
                "an earlier record shows the same images",
                "the same images are in",
            ),
            (
                alike.same_answer_as,
                "same-answer",
                "an earlier record has the same answer to other images",
                "other images have the same answer in",
            ),
        ];
        for (line, rule, meaning, what) in told {
            if let Some(line) = line {
                self.note(Level::Note, rule, meaning, format!("{what} line {line}"));
            }
        }
    }
}
