//! `--fix-out`: the records that are valid, and those that can be made so without guessing: `\` in
//! image paths, a markdown fence around an answer, a byte order mark, empty lines. Image paths are
//! rewritten for the new file's directory. Of records that are there twice the first is kept. What is
//! left out stands in `F2.rejects.jsonl`, with the rule, the place and the reason.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use vlft_base::Result;
use vlft_base::output::{cannot, check_free};
use vlft_base::paths::not_an_input;

use super::target::unfenced;
use super::{Checked, Checker, Options};
use crate::image_path::{Rebase, base_of, find, slashed};
use crate::jsonl::{Writer, shown};
use crate::known_pages::Nearby;
use crate::lineage::{self, Lineage};
use crate::problem::Problem;
use crate::record::{Part, Record, Role};
use crate::rules::Rule;

/// What became of the records: written + left out = records.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Fixed {
    pub out: String,
    pub written: u64,
    pub left_out: u64,
    /// Records (or lines) that were mended, by rule.
    pub mended: BTreeMap<Rule, u64>,
    /// The list of what was left out; there is none when nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejects: Option<String>,
}

/// One line of `F2.rejects.jsonl`.
#[derive(Serialize)]
struct Reject<'a> {
    rule: Rule,
    /// `FILE:LINE:COLUMN`.
    place: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    reason: &'a str,
    /// What else is wrong with the record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    also: Vec<String>,
}

pub(crate) struct Fixer {
    writer: Writer,
    rejects: Writer,
    rebase: Rebase,
    base: PathBuf,
    fixed: Fixed,
    rejects_path: PathBuf,
    out: PathBuf,
    lineage: Lineage,
    /// Where a dry run writes; it goes when this does.
    scratch: Option<tempfile::TempDir>,
}

impl Fixer {
    pub(crate) fn create(options: &Options) -> Result<Option<Self>> {
        let Some(out) = &options.fix_out else {
            return Ok(None);
        };
        std::fs::metadata(&options.file).map_err(|e| cannot("open", &options.file, e))?;
        let schema = options.target_schema.as_deref();
        not_an_input(
            "--fix-out",
            out,
            std::iter::once(options.file.as_path()).chain(schema),
        )?;
        let rejects_path = out.with_extension("rejects.jsonl");
        for beside in [&rejects_path, &lineage::beside(out)] {
            not_an_input("--fix-out", beside, [options.file.as_path()])?;
        }
        for path in [out, &rejects_path]
            .into_iter()
            .filter(|path| !path.is_dir())
        {
            check_free(path, options.existing).map_err(|e| {
                e.hint("pass `--force` to replace it, or choose another `--fix-out`")
            })?;
        }
        let mut lineage = Lineage::new("validate")
            .option("decode", options.decode.name())
            .option("rules", options.rules.names())
            .option("max_tokens", options.max_tokens)
            .input("records", &options.file)?;
        if let Some(schema) = schema {
            lineage = lineage.input("target-schema", schema)?;
        }
        let base = base_of(&options.file).to_path_buf();
        let scratch = match options.dry_run {
            true => Some(tempfile::tempdir().map_err(|e| cannot("create", out, e))?),
            false => None,
        };
        let (writer, rejects, rebase) = match &scratch {
            // Paths from there mean nothing, and nobody sees them.
            Some(scratch) => (
                Writer::create(&scratch.path().join("out"), options.existing)?,
                Writer::create(&scratch.path().join("rejects"), options.existing)?,
                Rebase::new(&base, &base)?,
            ),
            None => (
                Writer::create(out, options.existing)?,
                Writer::create(&rejects_path, options.existing)?,
                Rebase::new(&base, base_of(out))?,
            ),
        };
        Ok(Some(Self {
            writer,
            rejects,
            rejects_path,
            out: out.clone(),
            lineage,
            scratch,
            rebase,
            base,
            fixed: Fixed {
                out: shown(out),
                ..Fixed::default()
            },
        }))
    }

    pub(crate) fn line(&mut self, checked: &Checked, checker: &Checker<'_>) -> Result<()> {
        if checked.is_empty_line {
            self.mended(Rule::EmptyLine);
            return Ok(());
        }
        if checked.had_byte_order_mark {
            self.mended(Rule::ByteOrderMark);
        }
        match self.mend(checked, checker) {
            Some(mut record) => {
                self.rebase.record(&mut record);
                self.fixed.written += 1;
                self.writer.write(&record)
            }
            None => {
                self.fixed.left_out += 1;
                self.reject(checked)
            }
        }
    }

    fn reject(&mut self, checked: &Checked) -> Result<()> {
        let place = |problem: &Problem| match problem.column {
            Some(column) => format!("{}:{}:{column}", problem.file, problem.line),
            None => format!("{}:{}", problem.file, problem.line),
        };
        let mut reasons = checked.problems.iter().filter(|p| is_reason(p));
        let first = reasons.next().expect("a record is left out for a reason");
        self.rejects.write(&Reject {
            rule: first.rule,
            place: place(first),
            id: first.id.as_deref(),
            reason: &first.message,
            also: reasons
                .map(|problem| {
                    format!(
                        "{} {}: {}",
                        place(problem),
                        problem.rule.id(),
                        problem.message
                    )
                })
                .collect(),
        })
    }

    /// The record as it may be written, or `None`.
    fn mend(&mut self, checked: &Checked, checker: &Checker<'_>) -> Option<Record> {
        let record = checked.record.as_ref()?;
        let elsewhere = checked
            .problems
            .iter()
            .any(|p| p.rule == Rule::ImageElsewhere);
        let faults: Vec<Rule> = checked
            .problems
            .iter()
            .filter(|p| is_reason(p))
            .map(|p| p.rule)
            .collect();
        let mut mended = record.clone();
        if !faults.is_empty() {
            if !faults
                .iter()
                .all(|rule| matches!(rule, Rule::PathBackslash | Rule::TargetFence))
            {
                return None;
            }
            self.mend_parts(&mut mended);
            // What stood behind the fence may be wrong in its own way.
            let found = checker.record(&mended, &mut Nearby::default());
            if found
                .findings
                .iter()
                .any(|f| f.rule.severity() == vlft_base::Severity::Error)
            {
                return None;
            }
        }
        for rule in [Rule::PathBackslash, Rule::TargetFence] {
            if faults.contains(&rule) {
                self.mended(rule);
            }
        }
        if elsewhere {
            self.mended(Rule::ImageElsewhere);
        }
        Some(mended)
    }

    fn mend_parts(&self, record: &mut Record) {
        for message in &mut record.messages {
            let role = message.role;
            for part in &mut message.content {
                match part {
                    Part::Image(image) if find(&self.base, image).is_none() || cfg!(windows) => {
                        *image = slashed(image);
                    }
                    Part::Text(text) if role == Role::Assistant => {
                        if let Some(inside) = unfenced(text) {
                            *text = inside.to_owned();
                        }
                    }
                    Part::Image(_) | Part::Text(_) => {}
                }
            }
        }
    }

    fn mended(&mut self, rule: Rule) {
        *self.fixed.mended.entry(rule).or_default() += 1;
    }

    pub(crate) fn commit(self) -> Result<Fixed> {
        let Self {
            writer,
            rejects,
            mut fixed,
            rejects_path,
            out,
            lineage,
            scratch,
            ..
        } = self;
        if scratch.is_some() {
            return Ok(fixed);
        }
        writer.commit()?;
        lineage.output("records", &out)?.save_beside(&out)?;
        if rejects.lines() > 0 {
            rejects.commit()?;
            fixed.rejects = Some(shown(&rejects_path));
        } else if rejects_path.is_file() {
            // With `--force`, the list of an earlier run.
            std::fs::remove_file(&rejects_path).map_err(|e| cannot("remove", &rejects_path, e))?;
        }
        Ok(fixed)
    }
}

/// Why a record is left out: its errors, and that it is there already.
fn is_reason(problem: &Problem) -> bool {
    problem.is_error() || problem.rule == Rule::DuplicateRecord
}
