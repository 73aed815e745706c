//! A line as a record, and the places of its faults.

use crate::json;
use crate::problem::Problem;
use crate::record::Record;
use crate::rules::Rule;
use crate::structure;

/// One line as a record, or everything that is wrong with its shape. `file` and `line` are for the
/// messages.
pub fn parse(text: &str, file: &str, line: u64) -> std::result::Result<Record, Vec<Problem>> {
    // The strict types are the fast path. What they refuse is looked at again, slowly, to name
    // every fault of the line and not only the first.
    let error = match serde_json::from_str::<Record>(text) {
        Ok(record) => return Ok(record),
        Err(error) => error,
    };
    if error.is_syntax() || error.is_eof() {
        return Err(vec![broken(text, file, line, &error)]);
    }
    let place = |finding| Problem::of(finding, file, line, text);
    let found = match json::parse(text) {
        Ok(value) => structure::check_shape(&value)
            .into_iter()
            .map(place)
            .collect(),
        Err(error) => vec![broken(text, file, line, &error)],
    };
    if found.is_empty() {
        // The slow look must be at least as strict; if it is not, the first error still stands.
        return Err(vec![broken(text, file, line, &error)]);
    }
    Err(found)
}

/// A line that is not JSON, at its column.
fn broken(text: &str, file: &str, line: u64, error: &serde_json::Error) -> Problem {
    let full = error.to_string();
    // The error ends in its own "at line 1 column 7", which would contradict the file's line.
    let message = full.split(" at line ").next().unwrap_or(&full);
    let column = json::error_column(text, error);
    if message.starts_with("duplicate key") || message.starts_with("duplicate field") {
        return Problem::new(Rule::DuplicateKey, file, line, message)
            .column(column)
            .hint("keep one of the two");
    }
    if error.is_eof() {
        let end = text.chars().rev().take(20).collect::<Vec<_>>();
        let end: String = end.into_iter().rev().collect();
        return Problem::new(
            Rule::CutLine,
            file,
            line,
            format!("the line ends in the middle of its JSON, after `{end}`"),
        )
        .column(text.chars().count() as u64 + 1)
        .hint("a record is one whole line; this one was cut off, or broken over several lines");
    }
    let problem = Problem::new(
        Rule::BadJson,
        file,
        line,
        format!("not valid JSON: {message}"),
    )
    .column(column);
    let word = text.get(error.column().saturating_sub(1)..).unwrap_or("");
    if word.starts_with("NaN") || word.starts_with("Infinity") || word.starts_with("aN") {
        problem.hint("JSON has no NaN or Infinity: write `null`")
    } else if text.trim_start().starts_with("{'") {
        problem.hint("JSON uses double quotes; this looks like Python's `print` of a dict: write it with `json.dumps`")
    } else {
        problem
    }
}
