//! Reading labels into rows: a JSON array of flat objects, JSONL, CSV, one JSON file per document.
//! Nothing is interpreted here; each row keeps the place it came from.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};
use walkdir::WalkDir;

use super::names::stem;
use crate::json::{self, kind};
use crate::jsonl::{Lines, shown};

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

/// Reads all rows, or says everything that is wrong with the files.
pub(crate) fn read(path: &Path) -> Result<Vec<Row>> {
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
        if is_json && entry.file_type().is_file() {
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
    let bytes = fs::read(path).map_err(|e| cannot("read", path, e))?;
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

/// An array of objects, or one object.
fn read_json(path: &Path) -> Result<Vec<Row>> {
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

fn read_jsonl(path: &Path) -> Result<Vec<Row>> {
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

/// Where the text of an object starts in its file.
#[derive(Clone, Copy)]
struct Start<'a> {
    /// 1-based.
    line: u64,
    /// What stands before it in the file.
    before: &'a str,
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
    fn row_at(&mut self, position: Option<&csv::Position>) -> u64 {
        let at = position.map_or(0, csv::Position::byte) as usize;
        let rest = self.text.get(at..).unwrap_or("");
        self.start_of(rest.trim_start_matches(['\r', '\n'])).line
    }
}

/// All values are texts. The separator is the sign of `,;<tab>` that the header has most.
fn read_csv(path: &Path) -> Result<Vec<Row>> {
    let text = read_text(path)?;
    let file: Arc<str> = shown(path).into();
    let header = text.lines().next().unwrap_or("");
    let separator = b",;\t"
        .iter()
        .copied()
        .rev()
        .max_by_key(|s| header.bytes().filter(|b| b == s).count())
        .unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
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
    if let csv::ErrorKind::UnequalLengths {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, text: &[u8]) -> Result<Vec<Row>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        read(&path)
    }

    #[test]
    fn every_kind_of_labels_gives_the_same_rows() {
        let json = "[\n {\"F\": \"a.pdf\", \"n\": \"1\"},\n\n {\"F\": \"b;c.pdf\",\n \"n\": \"\"}]";
        let jsonl = "{\"F\":\"a.pdf\",\"n\":\"1\"}\n\n\n{\"F\":\"b;c.pdf\",\"n\":\"\"}\n";
        let csv = "\u{feff}F;n\r\na.pdf;1\r\n\r\n\"b;c.pdf\";\r\n";
        for (name, text) in [("l.json", json), ("l.JSONL", jsonl), ("l.csv", csv)] {
            let rows = read_as(name, text.as_bytes()).unwrap();
            let seen: Vec<_> = rows
                .iter()
                .map(|r| {
                    (
                        r.line,
                        r.values["F"].as_str().unwrap(),
                        r.values["n"].as_str().unwrap(),
                    )
                })
                .collect();
            let lines = if name == "l.JSONL" { [1, 4] } else { [2, 4] };
            assert_eq!(
                seen,
                [(lines[0], "a.pdf", "1"), (lines[1], "b;c.pdf", "")],
                "{name}"
            );
        }
    }

    #[test]
    fn one_json_file_per_document() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("b (1).pdf.json"), "{\"x\":1}").unwrap();
        fs::write(dir.path().join("sub/a.json"), "{\"x\":2}").unwrap();
        let rows = read(dir.path()).unwrap();
        let names: Vec<_> = rows.iter().map(|r| r.file_stem.clone().unwrap()).collect();
        assert_eq!(names, ["b (1).pdf", "a"]);
    }

    #[test]
    fn broken_labels_are_named_at_their_line() {
        for (name, text, expected) in [
            (
                "l.json",
                &b"[{\"a\":1},\n{\"a\":NaN}]"[..],
                "the labels are not valid JSON: expected value in l.json:2:6",
            ),
            (
                "l.json",
                b"[{\"a\":1},\n{\"a\":1",
                "the labels are not valid JSON: EOF while parsing an object in l.json:2:6",
            ),
            (
                "l.json",
                b"[{\"a\":1},\n {\"a\":1,\"a\":2}]",
                "the labels are not valid JSON: duplicate key `a` in l.json:2:11",
            ),
            (
                "l.json",
                b"[\n7]",
                "a row of labels is not an object (expected an object with one key per column, found an integer) in l.json:2",
            ),
            (
                "l.csv",
                b"a,b\n1,2\n3\n",
                "a row has another number of columns than the header (expected 2 columns, found 1) in l.csv:3",
            ),
            (
                "l.csv",
                b"a,a\n1,2\n",
                "the column `a` appears twice in l.csv:1",
            ),
            (
                "l.csv",
                b"a,b\n1,\xE4\n",
                "the labels are not UTF-8 in l.csv:2",
            ),
            (
                "l.xlsx",
                b"",
                "labels of an unknown kind (expected a `.json`, `.jsonl` or `.csv` file, or a directory of JSON files) in l.xlsx",
            ),
        ] {
            let error = read_as(name, text).unwrap_err().to_string();
            let start = error.find(" in /").unwrap();
            let end = error.rfind('/').unwrap();
            let error = format!("{} in {}", &error[..start], &error[end + 1..]);
            assert_eq!(error, expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_labels_are_read_or_refused_without_panic(
            name in "l\\.(json|jsonl|csv)",
            text in "(\\[|\\{|\"a\"|:|,|;|1|\\}|\\]|\n|\r|\t|\"|é| ){0,30}",
        ) {
            let _ = read_as(&name, text.as_bytes());
        }
    }
}
