//! JSON Lines with line numbers, read and written in pieces, so that a file larger than memory is no
//! different from a small one.
//!
//! [`Lines`] gives the text of each line, `Blocks` gives them by the thousand, [`parse`] makes a [`Record`]
//! of one, [`load`] does all of it for a whole file and reports everything that is wrong with it at once.

mod blocks;
mod lines;
mod parse;
mod write;

use std::collections::HashMap;
use std::path::Path;

use vlft_base::{Diagnostic, Kind, Result};

use crate::problem::Problem;
use crate::record::Record;
use crate::rules::Rule;
use crate::structure;
pub(crate) use blocks::{Block, Blocks, PIECE_BYTES};
pub use lines::{Line, Lines};
pub use parse::parse;
pub use write::Writer;
pub(crate) use write::Written;

/// A record and the line it stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbered {
    /// 1-based.
    pub line: u64,
    pub record: Record,
}

/// Reads all records, or says everything that is wrong: broken lines, ids that are empty or appear
/// twice. Empty lines are skipped. For data to train on, see [`load_for_training`].
pub fn load(path: &Path) -> Result<Vec<Numbered>> {
    load_with(path, |_| Vec::new())
}

/// [`load`], and every record must be trainable: turns in order, an answer in the last one, no
/// image where the chat template would drop it (all of [`structure::check`]). Images are not looked at.
pub fn load_for_training(path: &Path) -> Result<Vec<Numbered>> {
    load_with(path, structure::check)
}

/// How many problems an error carries; a file of the wrong kind has one on every line.
const MAX_REPORTED: usize = 50;

fn load_with(
    path: &Path,
    check: impl Fn(&Record) -> Vec<crate::problem::Finding>,
) -> Result<Vec<Numbered>> {
    let file = shown(path);
    let mut records = Vec::new();
    let mut problems = Vec::new();
    let mut ids = HashMap::new();
    for line in Lines::open(path)? {
        let line = match line? {
            Ok(line) if line.is_empty() => continue,
            Ok(line) => line,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let record = match parse(&line.text, &file, line.number) {
            Ok(record) => record,
            Err(found) => {
                problems.extend(found);
                continue;
            }
        };
        let place = |finding| Problem::of(finding, &file, line.number, &line.text);
        problems.extend(structure::check_id(&record).into_iter().map(place));
        problems.extend(check(&record).into_iter().map(place));
        if let Some(first) = ids.insert(record.id.clone(), line.number) {
            problems.push(duplicate_id(
                &record.id,
                first,
                &file,
                line.number,
                &line.text,
            ));
        }
        records.push(Numbered {
            line: line.number,
            record,
        });
    }
    match as_error(problems, path) {
        Some(error) => Err(error),
        None => Ok(records),
    }
}

/// The errors among the problems as one value; `None` when there is none.
pub(crate) fn as_error(problems: Vec<Problem>, path: &Path) -> Option<Diagnostic> {
    let errors: Vec<Diagnostic> = problems
        .into_iter()
        .filter(Problem::is_error)
        .map(Diagnostic::from)
        .collect();
    let hidden = errors.len().saturating_sub(MAX_REPORTED);
    let more = (hidden > 0).then(|| {
        Diagnostic::error(format!("{hidden} more problems in the same file"))
            .at(path)
            .hint(format!("`vlft validate {}` lists all of them", shown(path)))
    });
    Diagnostic::all(errors.into_iter().take(MAX_REPORTED).chain(more))
}

pub(crate) fn duplicate_id(id: &str, first: u64, file: &str, line: u64, text: &str) -> Problem {
    let finding = crate::problem::Finding::new(
        Rule::DuplicateId,
        ["id".into()],
        format!("id `{id}` is already used in line {first}"),
    )
    .hint("give every record its own id; predictions and errors are named by it");
    Problem::of(finding, file, line, text)
}

/// What every command says of a file without a single record.
pub fn no_records(path: &Path) -> Diagnostic {
    Diagnostic::error("the file has no records")
        .at(path)
        .with_kind(Kind::NothingToDo)
}

/// A path as messages and reports show it: as it was given, with `/`.
pub fn shown(path: &Path) -> String {
    path.display().to_string().replace('\\', "/")
}

#[cfg(test)]
mod tests;
