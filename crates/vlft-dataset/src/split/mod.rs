//! `split`: train, val and test that cannot leak. Records that show the same document go to the same
//! side (`groups`). The side of a group is a hash of the seed and the group's name (`assign`), so that
//! a growing dataset keeps its test set. The file is read twice: for the facts, and to write its lines
//! where they belong (`rewrite`).

mod assign;
mod check;
mod facts;
mod groups;
mod report;
mod rewrite;
mod stratify;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use vlft_base::output::{Existing, cannot, check_file, check_folder};
use vlft_base::paths::not_an_input;
use vlft_base::{Diagnostic, Result};

use crate::batches;
use crate::image_path::{Rebase, base_of};
use crate::jsonl::{self, Line, Lines, Writer, Written};
use crate::lineage::Lineage;
use assign::{Assignment, Group};
pub use assign::{Fractions, NAMES};
pub use check::{CheckReport, Leak, LeakKind, check};
use facts::{Ask, Facts, Shared};
pub(crate) use groups::COMMON;
use groups::Groups;
pub use groups::Joined;
pub use report::{Side, SplitReport, Stratum, Suggested};
pub use stratify::Stratify;

/// What to split, and how.
#[derive(Clone, Debug)]
pub struct Options {
    pub file: PathBuf,
    /// Directory for `train.jsonl`, `val.jsonl` and `test.jsonl`.
    pub out: PathBuf,
    pub fractions: Fractions,
    /// The key of `meta` whose values stay together: `document`.
    pub by: String,
    pub seed: u64,
    /// Keep the shares, at the price that documents may move when the set grows.
    pub exact: bool,
    /// Report how evenly this value is spread, and with `exact` spread it evenly.
    pub stratify: Option<Stratify>,
    /// Images that look the same tie documents together, too.
    pub looks: bool,
    pub existing: Existing,
    /// Only say what it would come to.
    pub dry_run: bool,
}

/// Splits a file. Nothing is written when a line or an image cannot be read. `progress` hears how many
/// images have been opened, and of how many.
pub fn split(options: &Options, progress: &(dyn Fn(u64, u64) + Sync)) -> Result<SplitReport> {
    check_folder(&options.out)?;
    for name in NAMES {
        let out = path_of(options, name);
        not_an_input("--out", &out, [options.file.as_path()])?;
        check_file(&out, options.existing)?;
    }
    let lineage = Lineage::new("split")
        .option("shares", NAMES.map(|name| share(options, name)))
        .option("by", &options.by)
        .option("seed", options.seed)
        .option("exact", options.exact)
        .option(
            "stratify",
            options.stratify.as_ref().map(ToString::to_string),
        )
        .option("looks", options.looks)
        .input("records", &options.file)?;
    let ask = Ask {
        by: &options.by,
        stratify: options.stratify.as_ref(),
        looks: options.looks,
    };
    let mut shared = Shared::default();
    let mut facts = facts::read(&options.file, &ask, &mut shared)?;
    if facts.records.is_empty() {
        return Err(jsonl::no_records(&options.file));
    }
    if !facts.records.iter().any(|record| record.has_key) && options.by != "document" {
        return Err(
            Diagnostic::error(format!("no record has `meta.{}`", options.by))
                .at(&options.file)
                .hint("`--by` takes a key of `meta`, such as `document`"),
        );
    }
    shared.images.hash(&ask, progress);
    if let Some(error) = facts::missing_images(&mut facts, &shared)? {
        return Err(error);
    }
    let groups = groups::group(&facts.records, &shared);
    let dealt = deal(options, &facts, &shared, &groups);
    let sides: Vec<usize> = facts
        .records
        .iter()
        .map(|record| dealt.side_of_document[record.document as usize])
        .collect();
    if !options.dry_run {
        write(options, &facts, &sides)?
            .into_iter()
            .try_fold(lineage, |lineage, (path, written)| {
                lineage.hashed_output("records", &path, written)
            })?
            .save_in(&options.out)?;
    }
    report::make(options, &mut facts, &shared, &groups, &dealt, &sides)
}

/// Where everything goes.
struct Dealt {
    side_of_document: Vec<usize>,
    assignment: Assignment,
    suggested: Option<Suggested>,
}

fn deal(options: &Options, facts: &Facts, shared: &Shared, groups: &Groups) -> Dealt {
    // The groups in the order of their names, with what they hold. A group's stratum is the one of
    // most of its records.
    let mut held: Vec<(u32, u32)> = facts
        .records
        .iter()
        .map(|record| (groups.of_document[record.document as usize], record.stratum))
        .collect();
    held.par_sort_unstable();
    let of_group: Vec<Group<'_>> = held
        .chunk_by(|a, b| a.0 == b.0)
        .map(|records| {
            let stratum = records
                .chunk_by(|a, b| a.1 == b.1)
                .max_by_key(|same| (same.len(), u32::MAX - same[0].1));
            Group {
                key: shared.documents.get(records[0].0),
                records: records.len() as u64,
                stratum: stratum.map_or(0, |same| same[0].1),
            }
        })
        .collect();
    let assign = if options.exact {
        assign::assign_exactly
    } else {
        assign::assign
    };
    let assignment = assign(&of_group, options.fractions, options.seed);
    let mut side_of_document = vec![0; shared.documents.len()];
    for (records, side) in held.chunk_by(|a, b| a.0 == b.0).zip(&assignment.side) {
        side_of_document[records[0].0 as usize] = *side;
    }
    for document in 0..side_of_document.len() {
        side_of_document[document] = side_of_document[groups.of_document[document] as usize];
    }
    let suggested = (!options.exact
        && report::is_far(&of_group, &assignment.side, options.fractions))
    .then(|| assign::better_seed(&of_group, options.fractions, options.seed))
    .flatten()
    .map(|(seed, records)| Suggested { seed, records });
    Dealt {
        side_of_document,
        assignment,
        suggested,
    }
}

fn share(options: &Options, name: &str) -> f64 {
    let side = NAMES.iter().position(|known| *known == name);
    side.map_or(0.0, |side| options.fractions.share(side))
}

fn path_of(options: &Options, name: &str) -> PathBuf {
    options.out.join(format!("{name}.jsonl"))
}

/// Reads the file a second time and gives each line to its side. The files get their names together
/// in the end. Returns the SHA-256 and the size of each that was written.
fn write(options: &Options, facts: &Facts, sides: &[usize]) -> Result<Vec<(PathBuf, Written)>> {
    const BATCH: usize = 4096;
    std::fs::create_dir_all(&options.out).map_err(|e| cannot("create", &options.out, e))?;
    let mut rebase = Rebase::new(base_of(&options.file), &options.out)?;
    if !facts.elsewhere {
        rebase = rebase.all_beside();
    }
    let mut writers = Vec::new();
    for (side, name) in NAMES.iter().enumerate() {
        let wanted = options.fractions.share(side) > 0.0;
        let writer = wanted.then(|| Writer::create(&path_of(options, name), options.existing));
        writers.push(writer.transpose()?.map(Writer::hashing));
    }
    let mut expected = facts.records.iter().map(|record| record.line).zip(sides);
    let mut lines = Lines::open(&options.file)?;
    let next_batch = || {
        let mut batch: Vec<(Line, usize)> = Vec::with_capacity(BATCH);
        while batch.len() < BATCH
            && let Some(line) = lines.next()
        {
            let Ok(line) = line? else {
                return Err(changed(&options.file));
            };
            if line.is_empty() {
                continue;
            }
            match expected.next() {
                Some((number, side)) if u64::from(number) == line.number => {
                    batch.push((line, *side))
                }
                _ => return Err(changed(&options.file)),
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    };
    let moved = |line: &Line| {
        if let Some(moved) = rewrite::rewrite(&line.text, |path| rebase.image(path)) {
            return Some(moved);
        }
        let mut record = jsonl::parse(&line.text, "", line.number).ok()?;
        rebase.record(&mut record);
        Some(serde_json::to_vec(&record).expect("a record is plain data"))
    };
    batches::each(
        next_batch,
        |batch| -> Vec<Option<Vec<u8>>> { batch.par_iter().map(|(line, _)| moved(line)).collect() },
        |batch, moved| {
            for ((_, side), line) in batch.iter().zip(moved) {
                let line = line.as_deref().ok_or_else(|| changed(&options.file))?;
                if let Some(writer) = &mut writers[*side] {
                    writer.write_line(line)?;
                }
            }
            Ok(())
        },
    )?;
    if expected.next().is_some() {
        return Err(changed(&options.file));
    }
    let mut written = Vec::new();
    for (writer, name) in writers.into_iter().zip(NAMES) {
        let path = path_of(options, name);
        match writer {
            Some(writer) => written.push((path, writer.commit()?)),
            // With `--force`, a side of an earlier split that has no share now.
            None if path.exists() => {
                std::fs::remove_file(&path).map_err(|e| cannot("remove", &path, e))?
            }
            None => {}
        }
    }
    Ok(written)
}

fn changed(path: &Path) -> Diagnostic {
    Diagnostic::error("the file changed while it was read")
        .at(path)
        .hint("run the command again")
}

#[cfg(test)]
mod tests;
