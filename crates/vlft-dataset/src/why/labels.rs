//! The rows of the labels that a record was made from.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use vlft_base::Result;

use super::origin::{Origin, Origins};
use crate::build::rows_of;
use crate::image_path::shown_short;
use crate::lineage::{Lineage, Now};
use crate::record::Record;

/// One row, as it is now at the place where it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelRow {
    /// `results.json:118`
    pub place: String,
    /// The columns; absent when the place holds no row any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<Value>,
    /// Whether the file of labels is as it was: if not, lines may have moved.
    pub now: Now,
    /// Where the file of labels came from itself.
    pub origin: Origin,
}

/// The rows that `meta.label_rows` names, read again through the lineage of `build-jsonl`.
pub(super) fn rows(
    record: &Record,
    lineage: &Lineage,
    base: &Path,
    origins: &mut Origins,
) -> Result<Vec<LabelRow>> {
    let Some(labels) = lineage.inputs.iter().find(|i| i.role == "labels") else {
        return Ok(Vec::new());
    };
    let root = labels.place(base);
    let now = labels.look(base)?;
    let named = record
        .meta
        .as_ref()
        .and_then(|meta| meta.get("label_rows")?.as_array());
    let mut found = Vec::new();
    for named in named.into_iter().flatten().filter_map(Value::as_str) {
        let Some((file, lines)) = named.rsplit_once(':') else {
            continue;
        };
        let path = match root.is_dir() {
            true => root.join(file),
            false => root.clone(),
        };
        let rows = match path.is_file() {
            // Labels that no longer parse hold no row; that they changed is said.
            true => rows_of(&path).unwrap_or_default(),
            false => Vec::new(),
        };
        let origin = match path.is_file() {
            true => origins.of(&path)?.1,
            false => Origin::Unknown,
        };
        for line in numbers(lines) {
            let row = rows.iter().find(|(at, _)| *at == line);
            found.push(LabelRow {
                place: format!("{}:{line}", shown_short(&PathBuf::from(&path))),
                row: row.map(|(_, values)| Value::Object(values.clone())),
                now: now.clone(),
                origin: origin.clone(),
            });
        }
    }
    Ok(found)
}

/// `2-4,9` -> 2, 3, 4, 9. At most as many as a person reads.
fn numbers(spans: &str) -> Vec<u64> {
    const MOST: usize = 1000;
    spans
        .split(',')
        .filter_map(|span| {
            let (first, last) = span.split_once('-').unwrap_or((span, span));
            Some(first.parse::<u64>().ok()?..=last.parse::<u64>().ok()?)
        })
        .flatten()
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_lines() {
        assert_eq!(numbers("2-4,9"), [2, 3, 4, 9]);
        assert_eq!(numbers("x,7,9-8"), [7]);
        assert_eq!(numbers("1-99999999999").len(), 1000);
    }
}
