//! Reading a mapping file: every fault at its line, with the nearest known name.

use std::path::Path;

use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result, did_you_mean};

use super::Mapping;

impl Mapping {
    /// Reads and checks a mapping file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = input::read_to_string(path).map_err(|e| cannot("read", path, e))?;
        Self::parse(&text, path)
    }

    /// `path` is only named in messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let mapping: Self = toml::from_str(text).map_err(|e| {
            missing_keys(text)
                .map(|problem| problem.at(path))
                .unwrap_or_else(|| explain_toml(&e, text, path))
        })?;
        match Diagnostic::all(
            mapping
                .problems()
                .into_iter()
                .map(|problem| problem.at(path)),
        ) {
            Some(error) => Err(error),
            None => Ok(mapping),
        }
    }
}

/// What every mapping has at its top.
const REQUIRED: [&str; 4] = ["version", "document", "prompt", "fields"];

/// What it may have.
const OPTIONAL: [&str; 6] = [
    "doc_type",
    "null",
    "decimal",
    "pages",
    "tables",
    "label_studio",
];

/// The top-level keys that are not there, all at once; the TOML reader knows only the first.
fn missing_keys(text: &str) -> Option<Diagnostic> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let is_required = |key: &String| REQUIRED.contains(&key.as_str());
    // A misspelt key is told as such: then its right name is not missing.
    if !table
        .keys()
        .all(|key| is_required(key) || OPTIONAL.contains(&key.as_str()))
    {
        return None;
    }
    let missing: Vec<String> = REQUIRED
        .iter()
        .filter(|key| !table.contains_key(**key))
        .map(|key| format!("`{key}`"))
        .collect();
    let problem = Diagnostic::error(match missing.len() {
        0 => return None,
        _ if table.is_empty() => "the mapping is empty".to_owned(),
        1 => format!("missing key {}", missing[0]),
        _ => format!("missing keys {}", missing.join(", ")),
    });
    Some(
        problem
            .expected("`version = 1`, `document = \"COLUMN\"`, `[prompt]` and `[[fields]]`")
            .hint("start from `configs/bill-of-lading.mapping.toml`"),
    )
}

/// An error of the TOML reader at its line, with the nearest known name.
pub(crate) fn explain_toml(error: &toml::de::Error, text: &str, path: &Path) -> Diagnostic {
    let message = error.message().trim_end();
    // "unknown field `nmae`, expected one of `name`, `type`"
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let mut diagnostic = match message.split_once(", expected ") {
        Some((what, expected)) => {
            let what = what.replacen("unknown field", "unknown key", 1);
            Diagnostic::error(what).expected(expected)
        }
        None => Diagnostic::error(message.replacen("missing field", "missing key", 1)),
    };
    diagnostic = match error.span() {
        Some(span) => {
            let before = text.get(..span.start).unwrap_or(text);
            let line = before.matches('\n').count() as u64 + 1;
            let start = before.rfind('\n').map_or(0, |at| at + 1);
            diagnostic
                .at_line(path, line)
                .column(before[start..].chars().count() as u64 + 1)
        }
        None => diagnostic.at(path),
    };
    let near = quoted
        .split_first()
        .filter(|_| message.starts_with("unknown"))
        .and_then(|(word, known)| did_you_mean(word, known.iter().copied()));
    match near {
        Some(near) => diagnostic.hint(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}
