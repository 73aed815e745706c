//! A document or a page that gave no image, and why.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One line of `rejects.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    pub version: u32,
    /// As in the manifest.
    pub document: String,
    /// The path it was read from, as given.
    pub source: String,
    /// 1-based; absent when it is the whole document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    pub rule: Rule,
    pub reason: String,
}

/// Stable names of what can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The file name is not Unicode, so the manifest cannot hold it.
    Name,
    /// The file cannot be read.
    Unreadable,
    /// Encrypted, and no password that was given opens it.
    Password,
    /// Not a PDF, or damaged beyond repair.
    Broken,
    /// A PDF without pages.
    NoPages,
    /// The output holds pages of another file under this name.
    Changed,
    /// One page cannot be drawn; the others may be there.
    Page,
    /// A page without extent, or so long and thin that no model takes it.
    PageShape,
    /// Opening or drawing took too long.
    Timeout,
    /// Drawing took more memory than a worker may use.
    Memory,
    /// The worker died.
    Crash,
}

impl Rule {
    /// As in `rejects.jsonl`.
    pub(super) fn id(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(id)) => id,
            _ => unreachable!("a rule is written as its name"),
        }
    }

    /// What a person can do about it.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Rule::Name => "rename the files",
            Rule::Unreadable => "check the permissions of the files",
            Rule::Password => "pass `--password-file FILE` with the password, one per line",
            Rule::Broken => {
                "open the files in a viewer; if it repairs them, save them anew and run again"
            }
            Rule::NoPages => "leave these files out, or save them anew with their pages",
            Rule::Changed => {
                "remove the images of a document that has changed; give folders with equal names to one command"
            }
            Rule::Page => "open the page in a viewer; printing it to a new PDF often repairs it",
            Rule::PageShape => "leave these pages out: no model can read them",
            Rule::Timeout => "pass a larger `--timeout-secs`, or leave these files out",
            Rule::Memory => "pass a larger `--worker-memory-mib`, or leave these files out",
            Rule::Crash => "leave these files out, or save them anew in a viewer",
        }
    }
}

impl Reject {
    pub(super) fn new(document: &str, source: &str, rule: Rule, reason: impl Into<String>) -> Self {
        Self {
            version: crate::manifest::VERSION,
            document: document.to_owned(),
            source: source.to_owned(),
            page: None,
            rule,
            reason: reason.into(),
        }
    }

    pub(super) fn on_page(mut self, page: u32) -> Self {
        self.page = Some(page);
        self
    }

    pub(super) fn path(&self) -> &Path {
        Path::new(&self.source)
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(page) = self.page {
            write!(f, "page {page}: ")?;
        }
        f.write_str(&self.reason)
    }
}
