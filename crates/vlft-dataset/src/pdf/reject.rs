//! A document or a page that gave no image, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vlft_base::Diagnostic;
use vlft_base::format::count;

/// So many rejects are shown; all of them are in `rejects.jsonl`.
const SHOWN: usize = 20;

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
    /// Another shard's manifest holds pages of another file under this name.
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
    pub(crate) fn id(self) -> String {
        match serde_json::to_value(self) {
            Ok(serde_json::Value::String(id)) => id,
            _ => unreachable!("a rule is written as its name"),
        }
    }

    /// What a person can do about it.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Rule::Name => "rename the files",
            Rule::Unreadable => "check the permissions of the files",
            Rule::Password => "pass `--password-file FILE` with the password, one per line",
            Rule::Broken => {
                "open the files in a viewer; if it repairs them, save them anew and run again"
            }
            Rule::NoPages => "leave these files out, or save them anew with their pages",
            Rule::Changed => {
                "run with the same `--shard` as before, or start over with `--force` and without it"
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
    pub(crate) fn new(document: &str, source: &str, rule: Rule, reason: impl Into<String>) -> Self {
        Self {
            version: 1,
            document: document.to_owned(),
            source: source.to_owned(),
            page: None,
            rule,
            reason: reason.into(),
        }
    }

    pub(crate) fn on_page(mut self, page: u32) -> Self {
        self.page = Some(page);
        self
    }

    pub(crate) fn path(&self) -> &Path {
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

/// The rejects as one problem, with the advice for each reason, the most frequent first. `list` is
/// the file that has all of them.
pub(crate) fn listed(
    mut problem: Diagnostic,
    rejects: &[Reject],
    list: Option<&Path>,
) -> Diagnostic {
    let shown = list.map_or(rejects.len(), |_| SHOWN);
    for reject in rejects.iter().take(shown) {
        problem = problem.at(reject.path()).detail(reject.to_string());
    }
    if let (Some(list), Some(more)) = (list, rejects.len().checked_sub(SHOWN + 1)) {
        let more = count(more as u64 + 1, "more");
        problem = problem
            .at(list)
            .detail(format!("and {}", more.trim_end_matches('s')));
    }
    let mut counts: BTreeMap<Rule, usize> = BTreeMap::new();
    for reject in rejects {
        *counts.entry(reject.rule).or_default() += 1;
    }
    let mut rules: Vec<(Rule, usize)> = counts.into_iter().collect();
    rules.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    problem.hint(match rules.as_slice() {
        [(rule, _)] => rule.hint().to_owned(),
        _ => rules
            .iter()
            .map(|(rule, _)| format!("{}: {}", rule.id(), rule.hint()))
            .collect::<Vec<_>>()
            .join("\n      "),
    })
}
