//! The table for people: one rule, and the page of all of them.

use std::fmt;

use serde::Serialize;
use vlft_base::Severity;

use super::{About, RULES, Section};

/// `validate --explain`: all that is known of one rule.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Explained {
    pub id: &'static str,
    pub severity: Severity,
    pub section: &'static str,
    pub meaning: &'static str,
    pub why: &'static str,
    pub mend: &'static str,
}

impl From<&About> for Explained {
    fn from(about: &About) -> Self {
        Self {
            id: about.id,
            severity: about.severity,
            section: about.section.name(),
            meaning: about.meaning,
            why: about.why,
            mend: about.mend,
        }
    }
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = word(self.severity);
        write!(
            f,
            "{severity}[{}]: {}\n\n{}\n\nWhat to do: {}\n\nSection `{}`; see also `vlft validate --only {}`",
            self.id, self.meaning, self.why, self.mend, self.section, self.section
        )
    }
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// `docs/rules.md`.
pub fn page() -> String {
    let mut page = String::from(
        "# The rules of `vlft validate`\n\n\
         Made from `crates/vlft-dataset/src/rules.rs`; do not edit. `vlft validate --explain ID` shows one of\n\
         them. Ids are stable, texts may change. Errors make a record invalid (exit code 1), warnings do not.\n\
         `--only` and `--skip` take ids and the names of sections.\n",
    );
    for section in Section::ALL {
        page += &format!("\n## {} (`{}`)\n", section.about(), section.name());
        for about in RULES.iter().filter(|about| about.section == section) {
            page += &format!(
                "\n### `{}` ({})\n\n{}.\n\n{}\n\n*What to do:* {}\n",
                about.id,
                word(about.severity),
                capital(about.meaning),
                about.why,
                about.mend
            );
        }
    }
    page
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
