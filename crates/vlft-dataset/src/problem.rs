//! A problem at a place in a dataset: which rule, which file and line, what to do. `validate` lists
//! them; `jsonl::load` turns them into an error.

use std::fmt;

use serde::Serialize;
use vlft_base::format::one_line;
use vlft_base::{Diagnostic, Severity};

use crate::json::Step;
use crate::rules::Rule;

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

/// A problem at its place. As text, on one line whatever it quotes, `data/all.jsonl:118:57: error[image-missing]: ..`; as JSON one
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
        write!(f, "{}:{}", one_line(&self.file), self.line)?;
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let message = one_line(&self.message);
        write!(f, ": {severity}[{}]: {message}", self.rule.id())?;
        match &self.hint {
            Some(hint) if self.shows_hint => write!(f, "\n  hint: {}", one_line(hint)),
            _ => Ok(()),
        }
    }
}

impl From<Problem> for Diagnostic {
    fn from(problem: Problem) -> Self {
        let diagnostic = match problem.severity {
            Severity::Error => Diagnostic::error(problem.message),
            Severity::Warning => Diagnostic::warning(problem.message),
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
