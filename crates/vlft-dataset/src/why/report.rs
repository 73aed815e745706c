//! What `why` says.

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};
use vlft_base::format::{count, one_line};
use vlft_base::{Diagnostic, Kind};

use super::labels::LabelRow;
use super::origin::Origin;
use crate::lineage::Now;
use crate::record::Record;

/// Where a record came from.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    pub file: String,
    pub line: u64,
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The step that joined the label's name to the images'.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matched_by: Option<String>,
    /// What made the file, then what made the file that it was made from, and so on.
    pub stages: Vec<Stage>,
    /// The file at which the way back ends without a lineage file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_without_lineage: Option<String>,
    pub labels: Vec<LabelRow>,
    pub images: Vec<Image>,
}

/// One command on the way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    pub command: String,
    pub tool: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// What it made.
    pub file: String,
    /// The record's line in it; absent when it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Whether the file is as the command left it; absent when it did not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<Now>,
    pub inputs: Vec<Input>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Input {
    pub role: String,
    pub path: String,
    pub now: Now,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Image {
    pub path: String,
    pub now: Now,
    pub origin: Origin,
}

impl Why {
    pub(super) fn new(file: String, line: u64, record: &Record) -> Self {
        let meta = record.meta.as_ref();
        let text = |key: &str| Some(meta?.get(key)?.as_str()?.to_owned());
        Self {
            file,
            line,
            id: record.id.clone(),
            document: record.document().map(str::to_owned),
            matched_by: text("matched_by"),
            stages: Vec::new(),
            ends_without_lineage: None,
            labels: Vec::new(),
            images: Vec::new(),
        }
    }

    /// What is not as it was, in words.
    pub fn changes(&self) -> Vec<String> {
        let mut changes = Vec::new();
        let mut note = |what: &str, now: &Now| {
            let change = match now {
                Now::Same => return,
                Now::Changed => format!("{what} has changed"),
                Now::Gone => format!("{what} is gone"),
            };
            if !changes.contains(&change) {
                changes.push(change);
            }
        };
        for stage in &self.stages {
            if let Some(now) = &stage.now {
                note(&format!("`{}`", stage.file), now);
            }
            for input in &stage.inputs {
                note(&format!("`{}`", input.path), &input.now);
            }
        }
        let labels = self.labels.iter().map(|row| &row.origin);
        for image in &self.images {
            note(&format!("`{}`", image.path), &image.now);
        }
        for origin in self.images.iter().map(|i| &i.origin).chain(labels) {
            match origin {
                Origin::Page {
                    pdf: Some(pdf),
                    pdf_now: Some(now),
                    ..
                } => note(&format!("`{pdf}`"), now),
                Origin::Entry {
                    archive,
                    archive_now,
                    ..
                } => note(&format!("`{archive}`"), archive_now),
                _ => {}
            }
        }
        changes
    }

    /// The changes as one message; `None` when everything is as it was.
    pub fn problem(&self) -> Option<Diagnostic> {
        let changes = self.changes();
        if changes.is_empty() {
            return None;
        }
        let number = count(changes.len() as u64, "thing");
        let problem = Diagnostic::error(format!("{number} changed since the record was made"))
            .with_kind(Kind::Verdict);
        let problem = changes
            .iter()
            .fold(problem, |all, change| all.caused_by(change));
        Some(problem.hint("run the commands above again, the last one first, with `--force`"))
    }
}

fn word(now: &Now) -> &'static str {
    match now {
        Now::Same => "as it was",
        Now::Changed => "CHANGED",
        Now::Gone => "GONE",
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}   {}", self.file, self.line, one_line(&self.id))?;
        if let Some(step) = &self.matched_by {
            write!(f, "   matched by {step}")?;
        }
        for stage in &self.stages {
            write!(f, "\n{:<12} {}", stage.command, stage.file)?;
            if let Some(line) = stage.line {
                write!(f, ":{line}")?;
            }
            if let Some(now) = &stage.now {
                write!(f, "   {}", word(now))?;
            }
            write!(f, "   ({})", stage.tool)?;
            if !stage.options.is_empty() {
                let options = stage.options.iter();
                let options: Vec<String> = options.map(|(k, v)| format!("{k} {v}")).collect();
                write!(f, "\n  {}", one_line(&options.join("   ")))?;
            }
            for input in &stage.inputs {
                let (role, path) = (&input.role, one_line(&input.path));
                write!(f, "\n  {role:<10} {path}   {}", word(&input.now))?;
            }
        }
        if let Some(file) = &self.ends_without_lineage {
            write!(f, "\nno lineage file says where `{file}` came from")?;
        }
        if !self.labels.is_empty() {
            write!(f, "\nlabels")?;
        }
        for label in &self.labels {
            let row = match (&label.row, label.one_of) {
                (Some(row), _) => cut(&one_line(&row.to_string())),
                (None, Some(rows)) => {
                    format!("none of the {rows} rows that start in this line names it")
                }
                (None, None) => "no row is there now".to_owned(),
            };
            write!(f, "\n  {}   {row}", label.place)?;
        }
        if let Some(label) = self.labels.first() {
            write_origin(f, &label.origin)?;
        }
        if !self.images.is_empty() {
            write!(f, "\nimages")?;
        }
        for image in &self.images {
            write!(f, "\n  {}   {}", one_line(&image.path), word(&image.now))?;
            write_origin(f, &image.origin)?;
        }
        Ok(())
    }
}

fn write_origin(f: &mut fmt::Formatter<'_>, origin: &Origin) -> fmt::Result {
    match origin {
        Origin::Page {
            document,
            page,
            pages,
            source_sha256,
            pdf,
            pdf_now,
            rasterizer,
            dpi,
        } => {
            let name = one_line(pdf.as_ref().unwrap_or(document));
            let now = match pdf_now {
                Some(now) => word(now),
                None => "not looked for",
            };
            let hash: String = source_sha256.chars().take(12).collect();
            write!(f, "\n    page {page} of {pages} of {name}   {now}")?;
            write!(f, "   (SHA-256 {hash}.., {rasterizer}, {dpi:.0} dpi)")
        }
        Origin::Entry {
            archive,
            entry,
            name,
            archive_now,
        } => {
            let archive = one_line(archive);
            match (entry, name) {
                (Some(entry), Some(name)) => {
                    write!(f, "\n    entry {entry} `{}` of {archive}", one_line(name))?;
                }
                _ => write!(f, "\n    an entry of {archive}")?,
            }
            write!(f, "   {}", word(archive_now))
        }
        Origin::Unknown => Ok(()),
    }
}

fn cut(text: &str) -> String {
    const MOST: usize = 160;
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}..", &text[..at]),
        None => text.to_owned(),
    }
}
