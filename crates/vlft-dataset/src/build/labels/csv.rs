//! Rows from CSV, with whatever separator a spreadsheet chose.

use std::path::Path;
use std::sync::Arc;

use csv::{ErrorKind, ReaderBuilder};
use serde_json::Value;
use vlft_base::{Diagnostic, Result};

use super::{LineCounter, Row, or_all, read_text};
use crate::jsonl::shown;

/// All values are texts. The separator is the sign of `,;<tab>` that the header has most.
pub(super) fn read_csv(path: &Path) -> Result<Vec<Row>> {
    let text = read_text(path)?;
    let file: Arc<str> = shown(path).into();
    let header = text.lines().next().unwrap_or("");
    let separator = b",;\t"
        .iter()
        .copied()
        .rev()
        .max_by_key(|s| header.bytes().filter(|b| b == s).count())
        .unwrap_or(b',');
    let mut reader = ReaderBuilder::new()
        .delimiter(separator)
        .from_reader(text.as_bytes());
    let columns = reader
        .headers()
        .map_err(|e| csv_problem(&e, path, 1))?
        .clone();
    if let Some(twice) =
        (1..columns.len()).find(|i| columns.iter().take(*i).any(|c| c == &columns[*i]))
    {
        return Err(
            Diagnostic::error(format!("the column `{}` appears twice", &columns[twice]))
                .at_line(path, 1)
                .hint("give every column its own name"),
        );
    }
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    let mut lines = LineCounter::new(&text);
    for record in reader.records() {
        match record {
            Ok(record) => rows.push(Row {
                file: file.clone(),
                line: lines.row_at(record.position()),
                file_stem: None,
                values: columns
                    .iter()
                    .zip(&record)
                    .map(|(column, value)| {
                        (column.trim().to_owned(), Value::String(value.to_owned()))
                    })
                    .collect(),
            }),
            Err(error) => problems.push(csv_problem(&error, path, lines.row_at(error.position()))),
        }
    }
    or_all(rows, problems)
}

fn csv_problem(error: &csv::Error, path: &Path, line: u64) -> Diagnostic {
    if let ErrorKind::UnequalLengths {
        expected_len, len, ..
    } = error.kind()
    {
        return Diagnostic::error("a row has another number of columns than the header")
            .at_line(path, line)
            .expected(format!("{expected_len} columns"))
            .found(format!("{len}"))
            .hint(
                "a value that contains the separator or a line break must stand in double quotes",
            );
    }
    Diagnostic::error("the labels are not valid CSV")
        .at_line(path, line)
        .caused_by(error)
}
