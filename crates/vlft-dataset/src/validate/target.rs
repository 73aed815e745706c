//! The rules about answers: JSON and nothing else, no key twice, as the target schema wants it.

use std::path::Path;

use serde_json::Value;
use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};

use crate::json::{self, Step};
use crate::problem::Finding;
use crate::record::{Message, Part, Record, Role};
use crate::rules::Rule;

pub(crate) struct TargetRules {
    schema: Option<jsonschema::Validator>,
}

/// A target that is quite another thing has a fault in every key; the first ones show it.
const MAX_SCHEMA_FAULTS: usize = 10;

impl TargetRules {
    pub(crate) fn new(schema: Option<&Path>) -> Result<Self> {
        let schema = schema.map(read_schema).transpose()?;
        Ok(Self { schema })
    }

    pub(crate) fn check(&self, record: &Record) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (index, message) in record.messages.iter().enumerate() {
            if message.role != Role::Assistant {
                continue;
            }
            let text = message.text();
            if !text.trim().is_empty() {
                findings.extend(self.answer(&text, &|| place(index, message)));
            }
        }
        findings
    }

    fn answer(&self, text: &str, place: &dyn Fn() -> Vec<Step>) -> Vec<Finding> {
        let finding = |rule, message: String| Finding::new(rule, place(), message);
        if unfenced(text).is_some() {
            return vec![
                finding(
                    Rule::TargetFence,
                    "the answer stands in a markdown fence".into(),
                )
                .hint("the fence would be learned; `--fix-out` removes it"),
            ];
        }
        match json::parse(text) {
            Ok(value) if json::is_nothing(&value) => {
                let mut findings = self.value(&value, place);
                findings.push(
                    finding(
                        Rule::TargetNothing,
                        format!("the answer says nothing: `{}`", short(text)),
                    )
                    .hint(
                        "check that the labels belong to these pages; a few such records are fine",
                    ),
                );
                findings
            }
            Ok(value) => self.value(&value, place),
            Err(error) => vec![not_json(text, &error, finding)],
        }
    }

    fn value(&self, value: &Value, place: &dyn Fn() -> Vec<Step>) -> Vec<Finding> {
        // Whether it is valid is known much sooner than why it is not.
        let Some(schema) = self
            .schema
            .as_ref()
            .filter(|schema| !schema.is_valid(value))
        else {
            return Vec::new();
        };
        schema
            .iter_errors(value)
            .take(MAX_SCHEMA_FAULTS)
            .map(|error| {
                let pointer = error.instance_path().to_string();
                let at = if pointer.is_empty() {
                    "the answer".to_owned()
                } else {
                    format!("`{pointer}`")
                };
                Finding::new(Rule::TargetSchema, place(), format!("{at}: {error}"))
            })
            .collect()
    }
}

fn short(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut short: String = text.trim().chars().take(SHOWN).collect();
    if short.len() < text.trim().len() {
        short += "..";
    }
    short
}

/// The text part that holds the answer.
fn place(index: usize, message: &Message) -> Vec<Step> {
    let part = message
        .content
        .iter()
        .position(|p| matches!(p, Part::Text(_)))
        .unwrap_or(0);
    vec![
        "messages".into(),
        index.into(),
        "content".into(),
        part.into(),
        "text".into(),
    ]
}

fn not_json(
    text: &str,
    error: &serde_json::Error,
    finding: impl Fn(Rule, String) -> Finding,
) -> Finding {
    let message = error.to_string();
    let message = message
        .split(" at line ")
        .next()
        .unwrap_or(&message)
        .to_owned();
    if message.starts_with("duplicate key") {
        return finding(Rule::TargetDuplicateKey, format!("{message} in the answer"))
            .hint("keep one of the two");
    }
    // The character where it stops being JSON, and what stands there.
    let line: usize = text
        .split_inclusive('\n')
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let at = line + error.column().saturating_sub(1);
    let character = json::column(text, at);
    let rest: String = text
        .get(at.min(text.len())..)
        .unwrap_or("")
        .chars()
        .take(20)
        .collect();
    let finding = finding(
        Rule::TargetJson,
        format!(
            "the answer is not JSON: {message} at character {character} of {}",
            text.chars().count()
        ),
    );
    if error.is_eof() {
        finding.hint("it was cut off: check for a length limit where the labels were made")
    } else if text.contains("{'") {
        finding.hint("JSON uses double quotes; write the target with `json.dumps`")
    } else if at == 0 {
        finding.hint("the assistant's text is only the target JSON, without words around it")
    } else {
        finding.hint(format!("there it reads `{rest}`"))
    }
}

/// What stands inside a markdown fence, if the text is one.
pub(crate) fn unfenced(text: &str) -> Option<&str> {
    let inside = text.trim().strip_prefix("```")?;
    let inside = inside.strip_suffix("```").unwrap_or(inside);
    let inside = inside.trim_start_matches(|c: char| c.is_ascii_alphanumeric());
    Some(inside.trim())
}

fn read_schema(path: &Path) -> Result<jsonschema::Validator> {
    let text = input::read_to_string(path).map_err(|e| cannot("read", path, e))?;
    let schema = json::parse(&text).map_err(|e| {
        Diagnostic::error("the target schema is not JSON")
            .at_line(path, e.line() as u64)
            .column(e.column() as u64)
            .caused_by(e)
    })?;
    jsonschema::validator_for(&schema).map_err(|e| {
        let place = e.instance_path().to_string();
        let diagnostic = Diagnostic::error("the target schema is not a valid JSON Schema").at(path);
        let diagnostic = if place.is_empty() {
            diagnostic
        } else {
            diagnostic.detail(format!("`{place}`"))
        };
        diagnostic.caused_by(e)
    })
}
