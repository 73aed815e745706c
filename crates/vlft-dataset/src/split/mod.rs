//! `split`: train, val and test that cannot leak. Records that show the same document go to the same
//! side (`groups`). The side of a group is a hash of the seed and the group's key, and a few groups are
//! moved where the shares would come out wrong (`assign`), so that a growing dataset keeps its test
//! set as far as it can.

mod assign;
mod check;
mod facts;
mod groups;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use vlft_base::output::{Existing, cannot, check_file, check_folder};
use vlft_base::paths::not_an_input;
use vlft_base::{Diagnostic, Result};

use crate::image_path::{Rebase, base_of, shown_short};
use crate::jsonl::{self, Lines, Writer, shown};
use assign::Assignment;
pub use assign::{Fractions, NAMES};
pub use check::{CheckReport, Leak, LeakKind, check};
use facts::{Facts, Images, RecordFacts};
use groups::Groups;
pub use report::{Side, SplitReport};

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
    pub existing: Existing,
}

/// Splits a file. Nothing is written when a line or an image cannot be read.
pub fn split(options: &Options) -> Result<SplitReport> {
    check_folder(&options.out)?;
    for name in NAMES {
        let out = path_of(options, name);
        not_an_input("--out", &out, [options.file.as_path()])?;
        check_file(&out, options.existing)?;
    }
    let mut images = Images::default();
    let facts = facts::read(&options.file, &options.by, &mut images)?;
    if facts.records.is_empty() {
        return Err(jsonl::no_records(&options.file));
    }
    if facts.records.iter().all(|record| record.group.is_none()) && options.by != "document" {
        return Err(
            Diagnostic::error(format!("no record has `meta.{}`", options.by))
                .at(&options.file)
                .hint("`--by` takes a key of `meta`, such as `document`"),
        );
    }
    images.hash();
    if let Some(error) = facts::missing_images(&facts, &images) {
        return Err(error);
    }
    let groups = groups::group(&facts.records, &images);
    let assignment = assign::assign(
        groups.of_record.iter().cloned(),
        options.fractions,
        options.seed,
    );
    let sides: Vec<usize> = groups
        .of_record
        .iter()
        .map(|key| assignment.side[key])
        .collect();
    write(options, &facts, &sides)?;
    Ok(report(
        options,
        &facts,
        &images,
        &groups,
        &sides,
        &assignment,
    ))
}

fn path_of(options: &Options, name: &str) -> PathBuf {
    options.out.join(format!("{name}.jsonl"))
}

/// Reads the file a second time and gives each line to its side. The files get their names together
/// in the end.
fn write(options: &Options, facts: &Facts, sides: &[usize]) -> Result<()> {
    std::fs::create_dir_all(&options.out).map_err(|e| cannot("create", &options.out, e))?;
    let rebase = Rebase::new(base_of(&options.file), &options.out)?;
    let mut writers = Vec::new();
    for (side, name) in NAMES.iter().enumerate() {
        let wanted = options.fractions.share(side) > 0.0;
        let writer = wanted.then(|| Writer::create(&path_of(options, name), options.existing));
        writers.push(writer.transpose()?);
    }
    let mut sides_by_line: BTreeMap<u64, usize> = facts
        .records
        .iter()
        .map(|r| r.line)
        .zip(sides.iter().copied())
        .collect();
    for line in Lines::open(&options.file)? {
        let Ok(line) = line? else {
            return Err(changed(&options.file));
        };
        if line.is_empty() {
            continue;
        }
        let side = sides_by_line
            .remove(&line.number)
            .ok_or_else(|| changed(&options.file))?;
        let mut record =
            jsonl::parse(&line.text, "", line.number).map_err(|_| changed(&options.file))?;
        rebase.record(&mut record);
        if let Some(writer) = &mut writers[side] {
            writer.write(&record)?;
        }
    }
    if !sides_by_line.is_empty() {
        return Err(changed(&options.file));
    }
    for (writer, name) in writers.into_iter().zip(NAMES) {
        let path = path_of(options, name);
        match writer {
            Some(writer) => writer.commit()?,
            // With `--force`, a side of an earlier split that has no share now.
            None if path.exists() => {
                std::fs::remove_file(&path).map_err(|e| cannot("remove", &path, e))?
            }
            None => {}
        }
    }
    Ok(())
}

fn changed(path: &Path) -> Diagnostic {
    Diagnostic::error("the file changed while it was read")
        .at(path)
        .hint("run the command again")
}

fn report(
    options: &Options,
    facts: &Facts,
    images: &Images,
    groups: &Groups,
    sides: &[usize],
    assignment: &Assignment,
) -> SplitReport {
    let documents_of = |side: usize| {
        let of_side = facts.records.iter().zip(sides).filter(|(_, s)| **s == side);
        let documents: BTreeSet<&str> = of_side.map(|(record, _)| document_name(record)).collect();
        documents.len() as u64
    };
    let sides = (0..NAMES.len())
        .filter(|side| options.fractions.share(*side) > 0.0)
        .map(|side| Side {
            name: NAMES[side],
            file: shown(&path_of(options, NAMES[side])),
            records: sides.iter().filter(|s| **s == side).count() as u64,
            documents: documents_of(side),
            asked: options.fractions.share(side),
        });
    SplitReport {
        file: facts.file.clone(),
        by: options.by.clone(),
        seed: options.seed,
        records: facts.records.len() as u64,
        documents: groups.documents as u64,
        sides: sides.collect(),
        without_key: groups.without_key as u64,
        joined_by_source: groups.joined_by_source as u64,
        joined_by_image: groups.joined_by_image as u64,
        common_images: groups
            .common_images
            .iter()
            .map(|i| shown_short(&images.paths[*i]))
            .collect(),
        moved: assignment.moved.len() as u64,
        moved_to_fill: assignment.moved_to_fill.len() as u64,
    }
}

fn document_name(record: &RecordFacts) -> &str {
    record.group.as_deref().unwrap_or(&record.id)
}

#[cfg(test)]
mod tests;
