//! Rows from JSON: an array of objects, one object per file, JSON Lines.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;
use vlft_base::{Diagnostic, Result};

use super::{LineCounter, Row, Start, or_all, read_text};
use crate::build::names::stem;
use crate::json::{self, kind};
use crate::jsonl::{Lines, shown};

/// An array of objects, or one object.
pub(super) fn read_json(path: &Path) -> Result<Vec<Row>> {
    let text = read_text(path)?;
    let file: Arc<str> = shown(path).into();
    if text.trim_start().starts_with('{') {
        let name = path
            .file_name()
            .and_then(|n| n.to_str())
            .unwrap_or_default();
        let name = name
            .strip_suffix(".json")
            .unwrap_or_else(|| stem(name))
            .to_owned();
        let row = object(
            &text,
            &file,
            Start {
                line: 1,
                before: "",
            },
            path,
        )?;
        return Ok(vec![Row {
            file_stem: Some(name),
            ..row
        }]);
    }
    let items: Vec<&RawValue> = serde_json::from_str(&text).map_err(|e| broken(&e, &text, path))?;
    let mut lines = LineCounter::new(&text);
    let mut rows = Vec::with_capacity(items.len());
    let mut problems = Vec::new();
    for item in items {
        let start = lines.start_of(item.get());
        match object(item.get(), &file, start, path) {
            Ok(row) => rows.push(row),
            Err(problem) => problems.push(problem),
        }
    }
    or_all(rows, problems)
}

pub(super) fn read_jsonl(path: &Path) -> Result<Vec<Row>> {
    let file: Arc<str> = shown(path).into();
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    for line in Lines::open(path)? {
        match line? {
            Ok(line) if line.is_empty() => {}
            Ok(line) => match object(
                &line.text,
                &file,
                Start {
                    line: line.number,
                    before: "",
                },
                path,
            ) {
                Ok(row) => rows.push(row),
                Err(problem) => problems.push(problem),
            },
            Err(problem) => problems.push(problem.into()),
        }
    }
    or_all(rows, problems)
}

/// One row from the text of one JSON object.
fn object(text: &str, file: &Arc<str>, start: Start<'_>, path: &Path) -> Result<Row> {
    let value = json::parse(text).map_err(|e| {
        let line_text = text.lines().nth(e.line() - 1).unwrap_or("");
        let mut column = json::error_column(line_text, &e);
        if e.line() == 1 {
            let last_line = start.before.rsplit('\n').next().unwrap_or("");
            column += last_line.chars().count() as u64;
        }
        let line = start.line + e.line() as u64 - 1;
        explain(&e, line_text, path, line, column)
    })?;
    match value {
        Value::Object(values) => Ok(Row {
            file: file.clone(),
            line: start.line,
            file_stem: None,
            values,
        }),
        other => Err(Diagnostic::error("a row of labels is not an object")
            .at_line(path, start.line)
            .expected("an object with one key per column")
            .found(kind(&other))),
    }
}

fn broken(error: &serde_json::Error, text: &str, path: &Path) -> Diagnostic {
    let line_text = text
        .lines()
        .nth(error.line().saturating_sub(1))
        .unwrap_or("");
    let column = json::error_column(line_text, error);
    explain(error, line_text, path, error.line() as u64, column)
}

fn explain(
    error: &serde_json::Error,
    line_text: &str,
    path: &Path,
    line: u64,
    column: u64,
) -> Diagnostic {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or(&message);
    let diagnostic = Diagnostic::error(format!("the labels are not valid JSON: {message}"))
        .at_line(path, line)
        .column(column);
    if error.is_eof() {
        diagnostic.hint("the file ends too early: it was cut off while it was written or copied")
    } else if line_text.contains("NaN") {
        diagnostic.hint("JSON has no NaN: export missing values as `null`")
    } else {
        diagnostic
    }
}
