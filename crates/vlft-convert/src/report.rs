//! What `convert` says in the end, and the lines of `F.rejects.jsonl` and `F.losses.jsonl`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use vlft_base::format::{bytes, count, grouped, one_line};
use vlft_base::{Diagnostic, Kind};

use crate::format::Format;
use crate::rules::RuleId;

/// One line of `F.rejects.jsonl` or `F.losses.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    pub rule: RuleId,
    /// The id in the source, or the one that was made for it. Absent when the record could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `all.jsonl:118:57`; in a parquet file `all.parquet, row 7`.
    pub place: String,
    pub reason: String,
}

/// How often a rule hit, with the first place.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hits {
    pub records: u64,
    pub example: String,
}

/// The result: `read` = `written` + `rejected`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub from: Format,
    /// Why it is that format, when nobody said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recognised_by: Option<String>,
    pub to: Format,
    pub read: u64,
    pub written: u64,
    pub rejected: u64,
    /// Written records that lost something.
    pub with_losses: u64,
    /// Records without an id of their own in the source.
    pub ids_made: u64,
    /// In the records that were written.
    pub images: u64,
    /// Image files written beside the output, each once however many records show it.
    pub images_copied: u64,
    /// Images found in the working directory only; elsewhere the source is broken.
    pub images_elsewhere: u64,
    pub rejects: BTreeMap<RuleId, Hits>,
    pub losses: BTreeMap<RuleId, Hits>,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub seconds: f64,
    /// Nothing was written.
    pub dry_run: bool,
    /// Any loss is a verdict of no.
    pub strict: bool,
    /// Absent when there is no record to write, or nothing was to be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_folder: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejects_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub losses_file: Option<String>,
    /// The name in `dataset_info.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset_info: Option<String>,
    /// Where the source was `file`.
    #[serde(skip)]
    pub file: String,
}

impl Report {
    /// The verdict is yes.
    pub fn is_clean(&self) -> bool {
        self.rejected == 0 && !(self.strict && self.with_losses > 0)
    }

    /// The rejects, or with `--strict` the losses, as one error with where to read about them.
    pub fn problem(&self) -> Option<Diagnostic> {
        if self.is_clean() {
            return None;
        }
        let (message, list) = match self.rejected {
            0 => (
                format!(
                    "{} of {} lost something, and `--strict` allows no loss",
                    grouped(self.with_losses),
                    count(self.written, "record")
                ),
                &self.losses_file,
            ),
            rejected => (
                format!(
                    "{} of {} rejected",
                    grouped(rejected),
                    count(self.read, "record")
                ),
                &self.rejects_file,
            ),
        };
        let error = Diagnostic::error(message).with_kind(Kind::Verdict);
        Some(match list {
            Some(list) => error
                .at(list)
                .hint("each line of that file has a rule, a place and a reason"),
            None => error.at(&self.file),
        })
    }

    /// What is no reject and no loss, and should be known all the same.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let mut warnings = Vec::new();
        if self.images_elsewhere > 0 {
            let images = count(self.images_elsewhere, "image");
            warnings.push(
                Diagnostic::warning(format!("{images} found in the working directory only"))
                    .at(&self.file)
                    .hint("their paths are not relative to the file; name their folder with `--images`"),
            );
        }
        if self.to == Format::OpenAi && self.written > 0 {
            use crate::formats::openai::{MAX_EXAMPLES, MIN_EXAMPLES};
            let fits = (MIN_EXAMPLES..=MAX_EXAMPLES).contains(&self.written);
            if !fits {
                warnings.push(
                    Diagnostic::warning("the service takes no file of so many examples")
                        .expected(format!(
                            "{} to {}",
                            grouped(MIN_EXAMPLES),
                            grouped(MAX_EXAMPLES)
                        ))
                        .found(grouped(self.written)),
                );
            }
        }
        warnings
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)?;
        if let Some(reason) = &self.recognised_by {
            write!(f, "   (because {})", one_line(reason))?;
        }
        write!(
            f,
            "\nrecords {}   written {}   rejected {}   with losses {}",
            grouped(self.read),
            grouped(self.written),
            grouped(self.rejected),
            grouped(self.with_losses),
        )?;
        write!(f, "\nimages {}", grouped(self.images))?;
        if self.images_copied > 0 {
            write!(f, " ({} copied)", count(self.images_copied, "file"))?;
        }
        if self.ids_made > 0 {
            write!(f, "   ids made {}", grouped(self.ids_made))?;
        }
        write!(f, "   {} read", bytes(self.bytes_read))?;
        if !self.dry_run {
            write!(f, ", {} written", bytes(self.bytes_written))?;
        }
        let width = self
            .rejects
            .keys()
            .chain(self.losses.keys())
            .map(|id| id.len())
            .max();
        for (title, hits) in [("rejected", &self.rejects), ("lost", &self.losses)] {
            if !hits.is_empty() {
                write!(f, "\n{title}")?;
            }
            for (rule, hits) in hits {
                let (width, number) = (width.unwrap_or(0), grouped(hits.records));
                let example = one_line(&hits.example);
                write!(f, "\n  {rule:width$} {number:>7}   {example}")?;
            }
        }
        Ok(())
    }
}
