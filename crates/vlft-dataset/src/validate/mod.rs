//! `validate`: every problem of a JSONL file in one pass, in the order of the lines. Lines are read
//! as a stream and looked at in parallel; what is remembered of each is its id (as a hash) and
//! nothing else, so the file may be larger than memory.
//!
//! The rules are listed in [`crate::problem::RULES`]; [`crate::structure`] holds those about turns
//! and texts, `images` and `target` those about images and answers.

mod fix;

pub mod image_file;
mod images;
mod report;
mod target;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use vlft_base::Result;
use vlft_base::output::Existing;

use crate::ids::Ids;
use crate::image_path::base_of;
use crate::jsonl::{self, Line, Lines, shown};
use crate::problem::{Finding, Problem, Rule};
use crate::record::Record;
use crate::structure;
use crate::token_counter::TokenCounter;
pub use fix::Fixed;
use fix::Fixer;
use images::ImageRules;
pub use report::Summary;
use target::TargetRules;

/// What to look at, and how closely.
#[derive(Clone, Debug)]
pub struct Options {
    pub file: PathBuf,
    pub decode: Decode,
    /// A JSON Schema that every answer must satisfy.
    pub target_schema: Option<PathBuf>,
    /// Only with a token counter.
    pub max_tokens: Option<usize>,
    /// Where to write the records that are valid, or were made so.
    pub fix_out: Option<PathBuf>,
    pub existing: Existing,
}

/// How closely images are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decode {
    /// To the last pixel: finds files that were cut short or damaged.
    Full,
    /// Kind and size only.
    Header,
}

/// Looks at every record and tells `sink` each problem, in the order of the lines. `progress` hears
/// how many bytes have been read. Ok also when there are problems; see [`Summary::is_valid`].
pub fn validate(
    options: &Options,
    counter: Option<&dyn TokenCounter>,
    sink: &mut dyn FnMut(Problem),
    progress: &dyn Fn(u64),
) -> Result<Summary> {
    let file = shown(&options.file);
    let checker = Checker {
        base: base_of(&options.file),
        images: ImageRules::new(base_of(&options.file), options.decode),
        target: TargetRules::new(options.target_schema.as_deref())?,
        counter,
        max_tokens: options.max_tokens,
    };
    let mut fixer = Fixer::create(options)?;
    let mut lines = Lines::open(&options.file)?;
    let mut ids = Ids::default();
    let mut summary = Summary::new(&file);
    let mut read = 0;
    loop {
        let batch = next_batch(&mut lines)?;
        if batch.is_empty() {
            break;
        }
        let checked: Vec<Checked> = batch
            .par_iter()
            .map(|line| check_line(line, &checker, &file))
            .collect();
        for (line, mut checked) in batch.iter().zip(checked) {
            if let (Some(record), Ok(line)) = (&checked.record, line) {
                if let Some(first) = ids.first_line(&record.id, line.number) {
                    let number = line.number;
                    let twice = jsonl::duplicate_id(&record.id, first, &file, number, &line.text);
                    checked.problems.push(twice);
                }
                read += line.text.len() as u64 + 1;
            }
            if let Some(fixer) = &mut fixer {
                fixer.line(line, &checked, &checker)?;
            }
            summary.add(&checked);
            for problem in summary.arranged(checked.problems) {
                sink(problem);
            }
        }
        progress(read);
    }
    if summary.records == 0 {
        return Err(jsonl::no_records(&options.file));
    }
    if let Some(fixer) = fixer {
        summary.fixed = Some(fixer.commit()?);
    }
    Ok(summary)
}

type ReadLine = std::result::Result<Line, Problem>;

/// Enough lines to keep all cores busy, few enough not to fill the memory.
fn next_batch(lines: &mut Lines) -> Result<Vec<ReadLine>> {
    const MAX_LINES: usize = 1024;
    const MAX_BYTES: usize = 16 << 20;
    let mut batch = Vec::new();
    let mut bytes = 0;
    while batch.len() < MAX_LINES && bytes < MAX_BYTES {
        let Some(line) = lines.next() else { break };
        let line = line?;
        bytes += line.as_ref().map_or(0, |line| line.text.len());
        batch.push(line);
    }
    Ok(batch)
}

/// What was found on one line.
pub(crate) struct Checked {
    pub(crate) problems: Vec<Problem>,
    /// `None` for an empty line and for a line that is no record.
    pub(crate) record: Option<Record>,
    pub(crate) is_empty_line: bool,
    pub(crate) tokens: Option<usize>,
}

impl Checked {
    pub(crate) fn is_valid(&self) -> bool {
        !self.problems.iter().any(Problem::is_error)
    }
}

fn check_line(line: &ReadLine, checker: &Checker<'_>, file: &str) -> Checked {
    let mut checked = Checked {
        problems: Vec::new(),
        record: None,
        is_empty_line: false,
        tokens: None,
    };
    let line = match line {
        Ok(line) => line,
        Err(problem) => {
            checked.problems.push(problem.clone());
            return checked;
        }
    };
    if line.had_byte_order_mark {
        let message = "the file starts with a byte order mark";
        let problem = Problem::new(Rule::ByteOrderMark, file, line.number, message);
        checked
            .problems
            .push(problem.hint("save the file as UTF-8 without BOM"));
    }
    if line.is_empty() {
        let problem = Problem::new(Rule::EmptyLine, file, line.number, "the line is empty");
        checked.problems.push(problem);
        checked.is_empty_line = true;
        return checked;
    }
    match jsonl::parse(&line.text, file, line.number) {
        Ok(record) => {
            let (findings, tokens) = checker.record(&record);
            let place =
                |finding| Problem::of(finding, file, line.number, &line.text).of_record(&record.id);
            checked.problems.extend(findings.into_iter().map(place));
            checked.tokens = tokens;
            checked.record = Some(record);
        }
        Err(problems) => checked.problems.extend(problems),
    }
    checked
}

/// All rules that look at one record.
pub(crate) struct Checker<'a> {
    base: &'a Path,
    images: ImageRules<'a>,
    target: TargetRules,
    counter: Option<&'a dyn TokenCounter>,
    max_tokens: Option<usize>,
}

impl Checker<'_> {
    pub(crate) fn record(&self, record: &Record) -> (Vec<Finding>, Option<usize>) {
        let mut findings: Vec<Finding> = structure::check_id(record).into_iter().collect();
        findings.extend(structure::check(record));
        findings.extend(self.images.check(record));
        findings.extend(self.target.check(record));
        // A record that is broken already would only be said to be broken again.
        let broken = findings
            .iter()
            .any(|f| f.rule.severity() == vlft_base::Severity::Error);
        let tokens = match self.counter {
            Some(counter) if !broken => self.count(record, counter, &mut findings),
            _ => None,
        };
        (findings, tokens)
    }

    fn count(
        &self,
        record: &Record,
        counter: &dyn TokenCounter,
        findings: &mut Vec<Finding>,
    ) -> Option<usize> {
        use vlft_base::format::grouped;
        match counter.count(record, self.base) {
            Ok(count) => {
                if let Some(limit) = self.max_tokens.filter(|limit| count.total > *limit) {
                    let message = format!(
                        "{} tokens ({} from {} images), limit {}",
                        grouped(count.total as u64),
                        grouped(count.image as u64),
                        count.images.len(),
                        grouped(limit as u64)
                    );
                    findings.push(Finding::new(Rule::TooLong, [], message).hint(
                        "lower `data.max_pixels`, raise `data.max_tokens`, or leave it out with `--fix-out`",
                    ));
                }
                Some(count.total)
            }
            Err(error) => {
                findings.push(Finding::new(Rule::Uncountable, [], error.to_string()));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
