//! A problem at a place in a dataset: which rule, which file and line, what to do. `validate` lists
//! them; `jsonl::load` turns them into an error.

use std::fmt;

use serde::{Serialize, Serializer};
use vlft_base::{Diagnostic, Severity};

use crate::json::Step;

/// The rules of the record format. Their ids are stable; texts may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    // The file and its lines.
    NotJsonl,
    NotUtf8,
    ByteOrderMark,
    EmptyLine,
    BadJson,
    CutLine,
    // The shape of the object.
    UnknownKey,
    MissingKey,
    WrongType,
    DuplicateKey,
    MetaValue,
    // Ids and turns.
    EmptyId,
    DuplicateId,
    EmptyMessages,
    NoAssistant,
    RoleOrder,
    LastTurn,
    EmptyContent,
    EmptyTarget,
    ImageRole,
    // Text.
    SpecialToken,
    ControlCharacter,
    ReplacementCharacter,
    // Images.
    PathEmpty,
    PathBackslash,
    PathAbsolute,
    PathUrl,
    PathOutside,
    ImageElsewhere,
    ImageMissing,
    ImageUnreadable,
    ImageAspect,
    ImageSmall,
    // The answer.
    TargetFence,
    TargetJson,
    TargetDuplicateKey,
    TargetSchema,
    // With a model.
    Uncountable,
    TooLong,
}

use Severity::{Error, Warning};

/// Every rule with its id, severity and meaning, in the order of the documentation.
#[rustfmt::skip]
pub const RULES: &[(Rule, &str, Severity, &str)] = &[
    (Rule::NotJsonl, "not-jsonl", Error, "the file is not JSON Lines: one object per line"),
    (Rule::NotUtf8, "not-utf8", Error, "a line holds bytes that are not UTF-8"),
    (Rule::ByteOrderMark, "byte-order-mark", Warning, "the file starts with a byte order mark, which other readers choke on"),
    (Rule::EmptyLine, "empty-line", Warning, "a line is empty"),
    (Rule::BadJson, "bad-json", Error, "a line is not valid JSON"),
    (Rule::CutLine, "cut-line", Error, "a line ends in the middle of its JSON"),
    (Rule::UnknownKey, "unknown-key", Error, "a key that records do not have"),
    (Rule::MissingKey, "missing-key", Error, "a key that every record needs is not there"),
    (Rule::WrongType, "wrong-type", Error, "a value has another type than the format asks for"),
    (Rule::DuplicateKey, "duplicate-key", Error, "one object has the same key twice"),
    (Rule::MetaValue, "meta-value", Error, "a known key of `meta` has a value it cannot have"),
    (Rule::EmptyId, "empty-id", Error, "the id is empty"),
    (Rule::DuplicateId, "duplicate-id", Error, "an earlier record has the same id"),
    (Rule::EmptyMessages, "empty-messages", Error, "the record has no messages"),
    (Rule::NoAssistant, "no-assistant", Error, "no turn of the assistant: there is nothing to learn"),
    (Rule::RoleOrder, "role-order", Error, "turns are not: at most one system first, then user and assistant in turn"),
    (Rule::LastTurn, "last-turn", Error, "the last turn is not the assistant's"),
    (Rule::EmptyContent, "empty-content", Error, "a message has no content"),
    (Rule::EmptyTarget, "empty-target", Error, "an answer has no text"),
    (Rule::ImageRole, "image-role", Error, "an image outside a user turn; chat templates drop it"),
    (Rule::SpecialToken, "special-token", Error, "text that the tokenizer would read as a control token"),
    (Rule::ControlCharacter, "control-character", Error, "a NUL or another control character in a text"),
    (Rule::ReplacementCharacter, "replacement-character", Warning, "U+FFFD in a text: it was decoded wrongly once"),
    (Rule::PathEmpty, "path-empty", Error, "an image path is empty"),
    (Rule::PathBackslash, "path-backslash", Error, "an image path with `\\`; paths use `/` on every system"),
    (Rule::PathAbsolute, "path-absolute", Error, "an absolute image path, which holds on one machine only"),
    (Rule::PathUrl, "path-url", Error, "an image given as a URL; images are files"),
    (Rule::PathOutside, "path-outside", Warning, "an image more than two folders above the JSONL file: they must be moved together"),
    (Rule::ImageElsewhere, "image-elsewhere", Warning, "an image found only relative to the working directory"),
    (Rule::ImageMissing, "image-missing", Error, "an image that is not there"),
    (Rule::ImageUnreadable, "image-unreadable", Error, "an image that cannot be decoded to its last row"),
    (Rule::ImageAspect, "image-aspect", Error, "an image more than 200 times as long as wide, which the model refuses"),
    (Rule::ImageSmall, "image-small", Warning, "an image with a side under 28 pixels, which is blown up before the model sees it"),
    (Rule::TargetFence, "target-fence", Error, "an answer in a markdown fence; the fence would be learned"),
    (Rule::TargetJson, "target-json", Error, "an answer that is not JSON"),
    (Rule::TargetDuplicateKey, "target-duplicate-key", Error, "an answer whose JSON has a key twice"),
    (Rule::TargetSchema, "target-schema", Error, "an answer that the target schema refuses"),
    (Rule::Uncountable, "uncountable", Error, "a record whose tokens the model directory's code cannot count"),
    (Rule::TooLong, "too-long", Error, "a record with more tokens than `--max-tokens`"),
];

impl Rule {
    fn entry(self) -> &'static (Rule, &'static str, Severity, &'static str) {
        RULES
            .iter()
            .find(|(rule, ..)| *rule == self)
            .expect("a test checks that the table holds every rule")
    }

    pub fn id(self) -> &'static str {
        self.entry().1
    }

    pub fn severity(self) -> Severity {
        self.entry().2
    }

    /// One sentence for people.
    pub fn meaning(self) -> &'static str {
        self.entry().3
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

/// A problem inside one record, before its line is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub rule: Rule,
    /// Where in the record's JSON.
    pub path: Vec<Step>,
    pub message: String,
    pub hint: Option<String>,
}

impl Finding {
    pub fn new(
        rule: Rule,
        path: impl IntoIterator<Item = Step>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            path: path.into_iter().collect(),
            message: message.into(),
            hint: None,
        }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A problem at its place. As text `data/all.jsonl:118:57: error[image-missing]: ..`; as JSON one
/// line `{"type":"problem",..}`.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    pub severity: Severity,
    pub rule: Rule,
    /// As the user typed it, with `/`.
    pub file: String,
    pub line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// The record's id, when it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// As text each hint is shown once; a thousand times would hide the problems.
    #[serde(skip)]
    pub shows_hint: bool,
}

impl Problem {
    pub fn new(rule: Rule, file: &str, line: u64, message: impl Into<String>) -> Self {
        Self {
            kind: "problem",
            severity: rule.severity(),
            rule,
            file: file.to_owned(),
            line,
            column: None,
            id: None,
            message: message.into(),
            hint: None,
            shows_hint: false,
        }
    }

    /// Gives a finding its place; `text` is the line.
    pub fn of(finding: Finding, file: &str, line: u64, text: &str) -> Self {
        let column = crate::json::offset_of(text, &finding.path)
            .filter(|_| !finding.path.is_empty())
            .map(|offset| crate::json::column(text, offset));
        Self {
            column,
            hint: finding.hint,
            ..Self::new(finding.rule, file, line, finding.message)
        }
    }

    pub fn column(mut self, column: u64) -> Self {
        self.column = Some(column);
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Names the record.
    pub fn of_record(mut self, id: &str) -> Self {
        self.id = Some(id.to_owned());
        self
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        let severity = match self.severity {
            Error => "error",
            Warning => "warning",
        };
        write!(f, ": {severity}[{}]: {}", self.rule.id(), self.message)?;
        match &self.hint {
            Some(hint) if self.shows_hint => write!(f, "\n  hint: {hint}"),
            _ => Ok(()),
        }
    }
}

impl From<Problem> for Diagnostic {
    fn from(problem: Problem) -> Self {
        let diagnostic = match problem.severity {
            Error => Diagnostic::error(problem.message),
            Warning => Diagnostic::warning(problem.message),
        };
        let mut diagnostic = diagnostic
            .with_rule(problem.rule.id())
            .at_line(&problem.file, problem.line);
        if let Some(column) = problem.column {
            diagnostic = diagnostic.column(column);
        }
        match problem.hint {
            Some(hint) => diagnostic.hint(hint),
            None => diagnostic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_rules_and_its_ids_are_unique() {
        let mut ids: Vec<&str> = RULES.iter().map(|(_, id, ..)| *id).collect();
        assert!(RULES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        // `TooLong` is the last rule: with the strict order above, none is left out.
        assert_eq!(RULES.len(), Rule::TooLong as usize + 1);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), RULES.len());
    }

    #[test]
    fn a_problem_reads_as_the_style_guide_shows() {
        let problem = Problem::new(
            Rule::ImageMissing,
            "data/all.jsonl",
            118,
            "image not found: `p.png`",
        )
        .column(57);
        assert_eq!(
            problem.to_string(),
            "data/all.jsonl:118:57: error[image-missing]: image not found: `p.png`"
        );
        assert_eq!(
            serde_json::to_string(&problem).unwrap(),
            r#"{"type":"problem","severity":"error","rule":"image-missing","file":"data/all.jsonl","line":118,"column":57,"message":"image not found: `p.png`"}"#
        );
    }
}
