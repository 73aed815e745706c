//! What `build-jsonl` says in the end, and the lines of `F.rejects.jsonl`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use vlft_base::format::{count, grouped, one_line};
use vlft_base::{Diagnostic, Kind};

use super::labels::LabelsKind;
use super::names::Step;
use super::prompt::Finding;

/// Why a document, a row or an image is in no record. The ids are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Rows of one document disagree about a value of the document.
    ConflictingValues,
    /// Two items of a list have the same unique value and differ.
    ConflictingItems,
    /// A value cannot be read as its type.
    BadValue,
    /// A required value is empty.
    MissingValue,
    /// No image has the document's name.
    NoImage,
    /// The names allow more than one answer.
    AmbiguousImage,
    /// Pages are missing, or one is there twice.
    IncompletePages,
    /// The page rule asks for a page that the document does not have.
    NoSuchPage,
    /// The only images with its name belong to another document.
    ImageTaken,
    /// A row does not say which document it belongs to.
    NoDocumentName,
    /// A task of Label Studio that nobody has annotated.
    NotAnnotated,
    /// An image that no label asked for.
    NoLabel,
    /// An image whose document has its pages from elsewhere, or was rejected.
    NotUsed,
}

impl Reason {
    pub fn id(self) -> &'static str {
        match self {
            Reason::ConflictingValues => "conflicting-values",
            Reason::ConflictingItems => "conflicting-items",
            Reason::BadValue => "bad-value",
            Reason::MissingValue => "missing-value",
            Reason::NoImage => "no-image",
            Reason::AmbiguousImage => "ambiguous-image",
            Reason::IncompletePages => "incomplete-pages",
            Reason::NoSuchPage => "no-such-page",
            Reason::ImageTaken => "image-taken",
            Reason::NoDocumentName => "no-document-name",
            Reason::NotAnnotated => "not-annotated",
            Reason::NoLabel => "no-label",
            Reason::NotUsed => "not-used",
        }
    }
}

/// What a reject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Document,
    Row,
    Image,
}

/// One line of `F.rejects.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reject {
    #[serde(rename = "type")]
    pub what: What,
    /// The document's name in the labels, or the image's path. Absent for a row without a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub reason: Reason,
    pub detail: String,
    /// Everything that is wrong with it, when that is more than one thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// `results.json:118`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<String>,
    /// The nearest names among the images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub candidates: Vec<String>,
    /// Lines for the file of `--aliases`, one of which may be right.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// The result: documents in = records + rejected.
#[derive(Clone, Debug, Serialize)]
pub struct BuildReport {
    /// What the labels turned out to be.
    pub labels: LabelsKind,
    pub rows: u64,
    pub documents: u64,
    pub records: u64,
    pub rejected: u64,
    /// Rows that name no document.
    pub rows_without_document: u64,
    /// Rows that only repeated an item of a unique list.
    pub merged_rows: u64,
    pub pages: u64,
    /// Pages of documents with a record that the page rule leaves out.
    pub pages_left_out: u64,
    /// Tasks of Label Studio without an annotation that counts.
    pub unlabelled: u64,
    /// Values that are the mapping's default, by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, u64>,
    /// Records by the step that joined the label's name to the images'.
    pub matched_by: BTreeMap<Step, u64>,
    /// Rejected documents and rows by reason, with one example each.
    pub reasons: BTreeMap<Reason, Rejected>,
    pub images: u64,
    pub unused_images: u64,
    /// Columns of the labels that the mapping does not read.
    pub unused_columns: Vec<String>,
    /// Where the prompt or the schema says something else than the target.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Where the records are; absent when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<String>,
    /// Where the rejects and unused images are listed; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
    /// Where the suggested aliases are; absent when there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestions: Option<String>,
    /// Nothing was written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Rejected {
    pub count: u64,
    pub example: String,
}

impl BuildReport {
    /// Nothing was lost.
    pub fn is_clean(&self) -> bool {
        self.rejected == 0 && self.rows_without_document == 0
    }

    /// The losses as one error, with where to read about them.
    pub fn problem(&self) -> Option<Diagnostic> {
        let message = match (self.rejected, self.rows_without_document) {
            (0, 0) => return None,
            (0, rows) => format!(
                "{} of {} name no document",
                grouped(rows),
                count(self.rows, "row")
            ),
            (rejected, _) => format!(
                "{} of {} rejected",
                grouped(rejected),
                count(self.documents, "document")
            ),
        };
        let error = Diagnostic::error(message).with_kind(Kind::Verdict);
        Some(match (&self.rejects, &self.suggestions) {
            (Some(rejects), Some(suggestions)) => error.at(rejects).hint(format!(
                "each line of that file has a reason, its rows, and the nearest names; \
                 `{suggestions}` has lines for `--aliases`"
            )),
            (Some(rejects), None) => error
                .at(rejects)
                .hint("each line of that file has a reason, its rows, and the nearest names"),
            (None, _) => error,
        })
    }

    /// One warning for everything in the prompt or the schema that contradicts the target.
    pub fn warning(&self) -> Option<Diagnostic> {
        let first = self.findings.first()?;
        let number = count(self.findings.len() as u64, "contradiction");
        let warning = Diagnostic::warning(format!("{number} between the prompt and the target"))
            .with_rule(first.rule);
        let told = self.findings.iter().map(|f| &f.detail);
        Some(
            told.fold(warning, |all, detail| all.caused_by(detail))
                .hint("quote the schema with `{{schema}}`, or the keys with `{{keys}}`"),
        )
    }
}

impl fmt::Display for BuildReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "documents {}   records {}   rejected {}   pages {}   rows {}",
            grouped(self.documents),
            grouped(self.records),
            grouped(self.rejected),
            grouped(self.pages),
            grouped(self.rows),
        )?;
        if self.merged_rows > 0 {
            write!(f, " ({} merged as repeated)", grouped(self.merged_rows))?;
        }
        if self.pages_left_out > 0 {
            let left_out = count(self.pages_left_out, "page");
            write!(
                f,
                "\n{left_out} of these documents left out by the page rule"
            )?;
        }
        if self.unlabelled > 0 {
            let unlabelled = count(self.unlabelled, "task");
            write!(f, "\n{unlabelled} without an annotation")?;
        }
        if !self.matched_by.is_empty() {
            let steps: Vec<String> = self
                .matched_by
                .iter()
                .map(|(step, count)| format!("{} {}", step.id(), grouped(*count)))
                .collect();
            write!(f, "\nmatched by {}", steps.join("   "))?;
        }
        if !self.reasons.is_empty() {
            write!(f, "\nrejected")?;
            let width = self.reasons.keys().map(|r| r.id().len()).max().unwrap_or(0);
            for (reason, rejected) in &self.reasons {
                let number = grouped(rejected.count);
                write!(
                    f,
                    "\n  {:width$} {number:>7}   {}",
                    reason.id(),
                    one_line(&rejected.example)
                )?;
            }
        }
        if !self.defaults.is_empty() {
            let defaults: Vec<String> = self
                .defaults
                .iter()
                .map(|(key, count)| format!("`{}` {}", one_line(key), grouped(*count)))
                .collect();
            write!(f, "\nvalues by default: {}", defaults.join("   "))?;
        }
        if self.unused_images > 0 {
            let unused = count(self.unused_images, "image");
            write!(f, "\n{unused} of {} in no record", grouped(self.images))?;
        }
        if !self.unused_columns.is_empty() {
            let columns: Vec<String> = self
                .unused_columns
                .iter()
                .map(|c| format!("`{}`", one_line(c)))
                .collect();
            write!(
                f,
                "\ncolumns that the mapping does not read: {}",
                columns.join(", ")
            )?;
        }
        Ok(())
    }
}
