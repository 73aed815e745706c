//! Which pages of a document its record shows.

use std::collections::BTreeSet;

use serde_json::Value;

use super::images::Reading;
use super::labels::Row;
use super::mapping::{Mapping, Take};

/// Indices into the reading's files, in page order; or why there are none.
pub(crate) fn chosen(
    mapping: &Mapping,
    reading: &Reading,
    rows: &[&Row],
) -> Result<Vec<usize>, String> {
    let count = reading.files.len();
    let Some(rule) = &mapping.pages else {
        return Ok((0..count).collect());
    };
    let numbers = numbers(reading);
    let at = |page: i64| {
        let found = match page < 0 {
            // -1 is the last one.
            true => usize::try_from(page + count as i64).ok(),
            false => numbers.iter().position(|number| *number as i64 == page),
        };
        found.ok_or_else(|| format!("page {page} of {count} is wanted"))
    };
    let chosen: BTreeSet<usize> = match rule.take {
        Take::All => (0..count).collect(),
        Take::First => (0..count.min(1)).collect(),
        Take::Last => count.checked_sub(1).into_iter().collect(),
        Take::List => rule
            .list
            .iter()
            .map(|&page| at(page))
            .collect::<Result<_, _>>()?,
        Take::Column => {
            let column = rule.column.as_deref().unwrap_or_default();
            let wanted = of_rows(column, &mapping.null, rows)?;
            let wanted = wanted.into_iter().map(|page| at(page as i64));
            wanted.collect::<Result<_, _>>()?
        }
    };
    Ok(chosen.into_iter().collect())
}

/// The numbers of the pages in the document, beside the reading's files. A set that starts at 0 is
/// numbered like the document: from 1.
pub(crate) fn numbers(reading: &Reading) -> Vec<u32> {
    let from_zero = u32::from(reading.pages.first() == Some(&0));
    reading.pages.iter().map(|page| page + from_zero).collect()
}

/// The pages that the rows name: `3`, `1-3,7`.
fn of_rows(column: &str, null: &[String], rows: &[&Row]) -> Result<BTreeSet<usize>, String> {
    let mut wanted = BTreeSet::new();
    for row in rows {
        let text = match row.values.get(column) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) if null.iter().any(|n| n.trim() == text.trim()) => continue,
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            // Spreadsheets write 3 as 3.0.
            let page = |text: &str| -> Option<usize> {
                let text = text.trim();
                text.strip_suffix(".0").unwrap_or(text).parse().ok()
            };
            match (page(first), page(last)) {
                (Some(first @ 1..), Some(last)) if first <= last && last - first < 10_000 => {
                    wanted.extend(first..=last);
                }
                _ => {
                    return Err(format!(
                        "`{column}` in {}: expected pages such as `3` or `1-3,7`, found `{text}`",
                        row.place()
                    ));
                }
            }
        }
    }
    match wanted.is_empty() {
        true => Err(format!("no row says in `{column}` which pages")),
        false => Ok(wanted),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::build::images::{Images, document};

    #[test]
    fn a_rule_takes_pages_in_order_or_says_why_not() {
        let mut images = Images::default();
        document(&mut images, "a.pdf", 4);
        for (rule, cells, expected) in [
            ("take = \"all\"", &[][..], Ok(&[1, 2, 3, 4][..])),
            ("take = \"first\"", &[], Ok(&[1])),
            ("take = \"last\"", &[], Ok(&[4])),
            ("take = \"list\"\nlist = [-1, 2]", &[], Ok(&[2, 4])),
            (
                "take = \"list\"\nlist = [5]",
                &[],
                Err("page 5 of 4 is wanted"),
            ),
            (
                "take = \"list\"\nlist = [-5]",
                &[],
                Err("page -5 of 4 is wanted"),
            ),
            (
                "take = \"column\"\ncolumn = \"P\"",
                &[json!(3), json!("1-2, 3"), json!(3.0), json!("N/A")],
                Ok(&[1, 2, 3]),
            ),
            (
                "take = \"column\"\ncolumn = \"P\"",
                &[json!(9)],
                Err("page 9 of 4 is wanted"),
            ),
            (
                "take = \"column\"\ncolumn = \"P\"",
                &[json!("last")],
                Err("`P` in l.csv:1: expected pages such as `3` or `1-3,7`, found `last`"),
            ),
            (
                "take = \"column\"\ncolumn = \"P\"",
                &[json!("")],
                Err("no row says in `P` which pages"),
            ),
        ] {
            let mapping = format!(
                "version = 1\ndocument = \"F\"\nprompt = {{ user = \"x\" }}\n[pages]\n{rule}\n[[fields]]\nname = \"a\"\ntype = \"string\"\n"
            );
            let mapping = Mapping::parse(&mapping, Path::new("m.toml")).unwrap();
            let rows: Vec<Row> = cells
                .iter()
                .zip(1..)
                .map(|(cell, line)| Row {
                    file: "l.csv".into(),
                    line,
                    file_stem: None,
                    values: json!({ "P": cell }).as_object().unwrap().clone(),
                })
                .collect();
            let rows: Vec<&Row> = rows.iter().collect();
            let found = chosen(&mapping, &images.readings[0], &rows);
            let found = found.map(|pages| pages.iter().map(|p| p + 1).collect::<Vec<_>>());
            let expected = expected.map(<[usize]>::to_vec).map_err(str::to_owned);
            assert_eq!(found, expected, "{rule}");
        }
    }
}
