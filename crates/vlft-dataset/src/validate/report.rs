//! What `validate` says in the end.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;
use vlft_base::format::{count, grouped};

use super::Checked;
use super::fix::Fixed;
use crate::problem::Problem;
use crate::rules::Rule;

/// The last line of the JSON Lines: `{"type":"summary",..}`. records = valid + invalid.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    #[serde(rename = "type")]
    kind: &'static str,
    pub file: String,
    /// Lines that are not empty.
    pub records: u64,
    pub valid: u64,
    pub invalid: u64,
    pub errors: u64,
    pub warnings: u64,
    /// Problems by rule.
    pub by_rule: BTreeMap<Rule, u64>,
    /// When tokens were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Tokens>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed: Option<Fixed>,
    /// Hashes of the hints that were shown.
    #[serde(skip)]
    hinted: HashSet<u64>,
}

/// Of the records whose tokens could be counted.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tokens {
    pub records: u64,
    pub total: u64,
    /// Of images.
    pub image: u64,
    /// Trained on.
    pub supervised: u64,
    /// Of the longest record.
    pub max: u64,
}

impl Summary {
    pub(crate) fn new(file: &str) -> Self {
        Self {
            kind: "summary",
            file: file.to_owned(),
            records: 0,
            valid: 0,
            invalid: 0,
            errors: 0,
            warnings: 0,
            by_rule: BTreeMap::new(),
            tokens: None,
            fixed: None,
            hinted: HashSet::new(),
        }
    }

    /// No record has an error. Warnings are allowed.
    pub fn is_valid(&self) -> bool {
        self.invalid == 0
    }

    pub(crate) fn add(&mut self, checked: &Checked) {
        if !checked.is_empty_line {
            self.records += 1;
            if checked.is_valid() {
                self.valid += 1;
            } else {
                self.invalid += 1;
            }
        }
        if let Some(count) = &checked.tokens {
            let tokens = self.tokens.get_or_insert_default();
            tokens.records += 1;
            tokens.total += count.total as u64;
            tokens.image += count.image as u64;
            tokens.supervised += count.supervised as u64;
            tokens.max = tokens.max.max(count.total as u64);
        }
        checked
            .problems
            .iter()
            .for_each(|problem| self.count(problem));
    }

    pub(crate) fn count(&mut self, problem: &Problem) {
        if problem.is_error() {
            self.errors += 1;
        } else {
            self.warnings += 1;
        }
        *self.by_rule.entry(problem.rule).or_default() += 1;
    }

    /// In the order of their columns; a hint that was shown before is not shown again.
    pub(crate) fn arranged(&mut self, mut problems: Vec<Problem>) -> Vec<Problem> {
        problems.sort_by_key(|problem| problem.column);
        for problem in &mut problems {
            problem.shows_hint = problem.hint.as_ref().is_some_and(|hint| {
                let mut hasher = DefaultHasher::new();
                hint.hash(&mut hasher);
                self.hinted.insert(hasher.finish())
            });
        }
        problems
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} valid, {} invalid, {}",
            count(self.records, "record"),
            grouped(self.valid),
            grouped(self.invalid),
            count(self.warnings, "warning")
        )?;
        if let Some(tokens) = &self.tokens {
            write!(
                f,
                "; longest record {} tokens\n{} in all: {} of images, {} trained on",
                grouped(tokens.max),
                count(tokens.total, "token"),
                grouped(tokens.image),
                grouped(tokens.supervised)
            )?;
        }
        if self.by_rule.len() > 1 {
            let rules = self
                .by_rule
                .iter()
                .map(|(rule, count)| format!("{} {}", rule.id(), grouped(*count)));
            write!(f, "\n  {}", rules.collect::<Vec<_>>().join("   "))?;
        }
        if let Some(fixed) = &self.fixed {
            write!(f, "\n{fixed}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "fixed: {} written, {} left out",
            grouped(self.written),
            grouped(self.left_out)
        )?;
        for (rule, mended) in &self.mended {
            write!(f, ", {} {}", rule.id(), grouped(*mended))?;
        }
        if let Some(rejects) = &self.rejects {
            write!(f, "; see `{rejects}`")?;
        }
        Ok(())
    }
}
