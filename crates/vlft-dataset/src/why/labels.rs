//! The rows of the labels that a record was made from.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};
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
    /// So many rows start in the line, and none of them shows that it is the one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_of: Option<usize>,
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
    let of_meta = |key: &str| record.meta.as_ref().and_then(|meta| meta.get(key));
    let document = of_meta("document").and_then(Value::as_str);
    let document = document.unwrap_or(&record.id);
    let named = of_meta("label_rows").and_then(Value::as_array);
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
            let there = rows.iter().filter(|(at, _)| *at == line);
            let there: Vec<_> = there.map(|(_, values)| values).collect();
            let own = own(&there, document);
            let row = |row: Option<Value>| LabelRow {
                place: format!("{}:{line}", shown_short(&PathBuf::from(&path))),
                one_of: (row.is_none() && !there.is_empty()).then_some(there.len()),
                row,
                now: now.clone(),
                origin: origin.clone(),
            };
            found.extend(
                own.iter()
                    .map(|values| row(Some(Value::Object((*values).clone())))),
            );
            if own.is_empty() {
                found.push(row(None));
            }
        }
    }
    Ok(found)
}

/// Of the rows that start in one line, those of the document. An array is often written into one line as a
/// whole; then they are those that name it: a value that is its name, or the path of a file of that name.
fn own<'a>(there: &[&'a Map<String, Value>], document: &str) -> Vec<&'a Map<String, Value>> {
    if there.len() < 2 {
        return there.to_vec();
    }
    let is_name = |value: &str| value == document;
    // Label Studio puts a code and `-` before the name of a file.
    let is_path = |value: &str| {
        let before = value.strip_suffix(document);
        before.is_some_and(|before| before.ends_with(['/', '\\', '-']))
    };
    let those = |test: &dyn Fn(&str) -> bool| {
        let rows = there.iter().copied();
        rows.filter(|row| row.values().any(|value| has(value, test)))
            .collect::<Vec<_>>()
    };
    let named = those(&is_name);
    match named.is_empty() {
        true => those(&is_path),
        false => named,
    }
}

/// Whether a text or number in the value, at any depth, passes.
fn has(value: &Value, test: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => test(text.trim()),
        Value::Number(number) => test(&number.to_string()),
        Value::Array(items) => items.iter().any(|item| has(item, test)),
        Value::Object(map) => map.values().any(|value| has(value, test)),
        Value::Null | Value::Bool(_) => false,
    }
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
