//! What ties records together: their document, their source file, their images. Read in one pass;
//! per record only a few numbers are kept.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use vlft_base::{Diagnostic, Result};

use crate::ids::Ids;
use crate::image_path::{base_of, beside, find, shown_short};
use crate::jsonl::{self, Lines, shown};
use crate::page_facts::PageFacts;
use crate::problem::Problem;
use crate::record::Record;

/// The records of one file.
pub(crate) struct Facts {
    pub(crate) file: String,
    pub(crate) records: Vec<RecordFacts>,
}

pub(crate) struct RecordFacts {
    pub(crate) line: u64,
    pub(crate) id: String,
    /// The value of the key that groups; `None` when the record has none.
    pub(crate) group: Option<String>,
    pub(crate) source_sha256: Option<String>,
    /// Indices into [`Images`].
    pub(crate) images: Vec<usize>,
}

/// Images of one or several files, each path once.
#[derive(Default)]
pub(crate) struct Images {
    pub(crate) paths: Vec<PathBuf>,
    known: HashMap<PathBuf, usize>,
    /// Half a SHA-256 each, once they are hashed; `None` where there is no such file.
    pub(crate) hashes: Vec<Option<u128>>,
}

/// Reads a file; every line must be a record. `by` is the key of `meta` that groups.
pub(crate) fn read(path: &Path, by: &str, images: &mut Images) -> Result<Facts> {
    let file = shown(path);
    let mut facts = Facts {
        file: file.clone(),
        records: Vec::new(),
    };
    let mut ids = Ids::default();
    let mut problems: Vec<Problem> = Vec::new();
    for line in Lines::open(path)? {
        let line = match line? {
            Ok(line) if line.is_empty() => continue,
            Ok(line) => line,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        match jsonl::parse(&line.text, &file, line.number) {
            Ok(record) => {
                if let Some(first) = ids.first_line(&record.id, line.number) {
                    let number = line.number;
                    problems.push(jsonl::duplicate_id(
                        &record.id, first, &file, number, &line.text,
                    ));
                }
                facts.records.push(record_facts(
                    &record,
                    line.number,
                    by,
                    base_of(path),
                    images,
                ));
            }
            Err(found) => problems.extend(found),
        }
    }
    match jsonl::as_error(problems, path) {
        Some(error) => Err(error),
        None => Ok(facts),
    }
}

fn record_facts(
    record: &Record,
    line: u64,
    by: &str,
    base: &Path,
    images: &mut Images,
) -> RecordFacts {
    let meta = |key: &str| {
        let value = record.meta.as_ref()?.get(key)?;
        match value {
            serde_json::Value::Null => None,
            serde_json::Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    };
    RecordFacts {
        line,
        id: record.id.clone(),
        group: meta(by),
        source_sha256: meta("source_sha256"),
        images: record
            .images()
            .map(|image| images.index(base, image))
            .collect(),
    }
}

impl Images {
    fn index(&mut self, base: &Path, image: &str) -> usize {
        let path = find(base, image).map_or_else(|| beside(base, image), |found| found.path);
        let next = self.paths.len();
        let index = *self.known.entry(path.clone()).or_insert(next);
        if index == next {
            self.paths.push(path);
        }
        index
    }

    /// Hashes every image: from the manifest beside it where there is one, else by reading it.
    pub(crate) fn hash(&mut self) {
        let mut facts = PageFacts::default();
        let mut known: Vec<Option<u128>> = Vec::with_capacity(self.paths.len());
        for path in &self.paths {
            known.push(facts.find(path).and_then(|page| from_hex(&page.sha256)));
        }
        self.hashes = self
            .paths
            .par_iter()
            .zip(known)
            .map(|(path, known)| known.or_else(|| hash_file(path)))
            .collect();
    }

    /// The images that could not be read.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &Path> {
        let beside = self.paths.iter().zip(&self.hashes);
        beside
            .filter(|(_, hash)| hash.is_none())
            .map(|(path, _)| path.as_path())
    }
}

/// Half of a SHA-256 is enough to tell images apart.
fn from_hex(hex: &str) -> Option<u128> {
    u128::from_str_radix(hex.get(..32)?, 16).ok()
}

fn hash_file(path: &Path) -> Option<u128> {
    let mut file = File::open(path).ok()?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).ok()? {
            0 => break,
            read => hasher.update(&buffer[..read]),
        }
    }
    let digest = hasher.finalize();
    Some(
        digest
            .iter()
            .take(16)
            .fold(0, |hash, byte| hash << 8 | u128::from(*byte)),
    )
}

/// One error for all images that are not there.
pub(crate) fn missing_images(facts: &Facts, images: &Images) -> Option<Diagnostic> {
    const SHOWN: usize = 20;
    let lost: Vec<Diagnostic> = facts
        .records
        .iter()
        .flat_map(|record| record.images.iter().map(move |image| (record.line, *image)))
        .filter(|(_, image)| images.hashes[*image].is_none())
        .map(|(line, image)| {
            Diagnostic::error(format!(
                "cannot read the image `{}`",
                shown_short(&images.paths[image])
            ))
            .with_rule("image-missing")
            .at_line(&facts.file, line)
        })
        .collect();
    let more = (lost.len() > SHOWN)
        .then(|| Diagnostic::error(format!("{} more images cannot be read", lost.len() - SHOWN)));
    let hint = format!(
        "`vlft validate {}` lists all problems; `--fix-out` leaves such records out",
        facts.file
    );
    let mut lost: Vec<Diagnostic> = lost.into_iter().take(SHOWN).chain(more).collect();
    if let Some(last) = lost.pop() {
        lost.push(last.hint(hint));
    }
    Diagnostic::all(lost)
}
