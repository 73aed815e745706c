//! Reading labels into rows: a JSON array of flat objects, JSONL, CSV, one JSON file per document, a
//! Label Studio export. Nothing is interpreted here; each row keeps the place it came from.

mod csv;
mod json;
mod label_studio;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};
use walkdir::WalkDir;

use super::mapping::Annotations;
use crate::lineage::is_lineage;
use csv::read_csv;
use json::{read_json, read_jsonl};

/// One row of labels: an object of columns.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) file: Arc<str>,
    /// 1-based, where the row starts.
    pub(crate) line: u64,
    /// What the file itself calls the document, for one JSON file per document.
    pub(crate) file_stem: Option<String>,
    pub(crate) values: Map<String, Value>,
}

impl Row {
    /// `labels/results.json:118`
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

/// Everything in the labels.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    pub(crate) rows: Vec<Row>,
    /// Tasks of a Label Studio export that hold no label: why, and where.
    pub(crate) unlabelled: Vec<Unlabelled>,
    pub(crate) kind: LabelsKind,
}

#[derive(Debug)]
pub(crate) struct Unlabelled {
    pub(crate) why: String,
    pub(crate) place: String,
}

/// What the labels turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelsKind {
    #[default]
    Rows,
    JsonPerDocument,
    LabelStudio,
    LabelStudioMin,
}

/// Reads all rows, or says everything that is wrong with the files.
pub(crate) fn read(path: &Path, annotations: Annotations) -> Result<Labels> {
    let rows = read_rows(path)?;
    Ok(match path.is_dir() {
        true => Labels {
            rows,
            kind: LabelsKind::JsonPerDocument,
            ..Labels::default()
        },
        false => label_studio::recognise(rows, annotations),
    })
}

/// The rows as the file has them, a Label Studio export too: one row per task.
pub(crate) fn read_rows(path: &Path) -> Result<Vec<Row>> {
    if path.is_dir() {
        return read_directory(path);
    }
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    match extension.to_ascii_lowercase().as_str() {
        "json" => read_json(path),
        "jsonl" | "ndjson" => read_jsonl(path),
        "csv" | "tsv" => read_csv(path),
        _ => Err(Diagnostic::error("labels of an unknown kind")
            .at(path)
            .expected("a `.json`, `.jsonl` or `.csv` file, or a directory of JSON files")),
    }
}

/// One JSON object per file, named like its document.
fn read_directory(dir: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in WalkDir::new(dir).sort_by_file_name() {
        let entry = entry.map_err(|e| cannot("read", dir, e.into()))?;
        let is_json = entry
            .path()
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("json"));
        // What `unpack` leaves beside the files is no label.
        if is_json && entry.file_type().is_file() && !is_lineage(entry.path()) {
            paths.push(entry.into_path());
        }
    }
    if paths.is_empty() {
        return Err(Diagnostic::error("no JSON file in the directory of labels")
            .at(dir)
            .with_kind(vlft_base::Kind::NothingToDo));
    }
    for path in paths {
        match read_json(&path) {
            Ok(found) => rows.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    or_all(rows, problems)
}

fn or_all(rows: Vec<Row>, problems: Vec<Diagnostic>) -> Result<Vec<Row>> {
    match Diagnostic::all(problems) {
        Some(error) => Err(error),
        None => Ok(rows),
    }
}

fn read_text(path: &Path) -> Result<String> {
    let bytes = input::read(path).map_err(|e| cannot("read", path, e))?;
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") || is_wide(&bytes) {
        return Err(
            Diagnostic::error("the labels are UTF-16, not UTF-8")
                .at(path)
                .hint("save the file as UTF-8 (Excel: \"CSV UTF-8\", not \"Unicode text\"; PowerShell: `Out-File -Encoding utf8`)"),
        );
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()]
            .iter()
            .filter(|b| **b == b'\n')
            .count() as u64;
        Diagnostic::error("the labels are not UTF-8")
            .at_line(path, line + 1)
            .hint("save the file as UTF-8 (Excel: \"CSV UTF-8\")")
    })?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map(str::to_owned)
        .unwrap_or(text))
}

/// UTF-16 without a mark: every other byte of its first signs is 0.
fn is_wide(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(64)];
    let zeros = |first| {
        start
            .iter()
            .skip(first)
            .step_by(2)
            .filter(|b| **b == 0)
            .count()
    };
    start.len() >= 4 && (zeros(0) * 4 > start.len() || zeros(1) * 4 > start.len())
}

/// Where the text of an object starts in its file.
#[derive(Clone, Copy)]
struct Start<'a> {
    /// 1-based.
    line: u64,
    /// What stands before it in the file.
    before: &'a str,
}

/// Counts lines up to slices of one text that are asked for in order.
struct LineCounter<'a> {
    text: &'a str,
    at: usize,
    line: u64,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            line: 1,
        }
    }

    /// `part` must be a slice of the text, not before the last one.
    fn start_of(&mut self, part: &str) -> Start<'a> {
        let offset = part.as_ptr() as usize - self.text.as_ptr() as usize;
        let skipped = self.text.get(self.at..offset).unwrap_or("");
        self.line += skipped.matches('\n').count() as u64;
        self.at = offset;
        Start {
            line: self.line,
            before: self.text.get(..offset).unwrap_or(""),
        }
    }

    /// The line of a CSV row. The reader's own position stands before the line breaks that it has
    /// yet to skip.
    fn row_at(&mut self, position: Option<&::csv::Position>) -> u64 {
        let at = position.map_or(0, ::csv::Position::byte) as usize;
        let rest = self.text.get(at..).unwrap_or("");
        self.start_of(rest.trim_start_matches(['\r', '\n'])).line
    }
}

#[cfg(test)]
mod tests;
