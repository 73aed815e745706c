//! `split --check`: judges splits made elsewhere. A leak is a record, a document, a page or an answer
//! that is in more than one file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vlft_base::format::{count, grouped, one_line};
use vlft_base::{Diagnostic, Kind, Result};

use super::facts::{self, Ask, Facts, Shared, document_shown};
use super::groups::{self, COMMON};
use crate::record::Message;

/// What is on more than one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakKind {
    Id,
    Document,
    SourceSha256,
    Image,
    NearImage,
    Target,
}

impl LeakKind {
    fn words(self) -> &'static str {
        match self {
            LeakKind::Id => "id",
            LeakKind::Document => "document",
            LeakKind::SourceSha256 => "source file",
            LeakKind::Image => "image",
            LeakKind::NearImage => "look-alike",
            LeakKind::Target => "answer",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Leak {
    pub kind: LeakKind,
    /// The id, the document, the hash, the path of the image (of look-alikes one of each file), or the
    /// beginning of the answer.
    pub what: String,
    /// `val.jsonl:12`, one per file: the first line there.
    pub places: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    pub files: Vec<CheckedFile>,
    pub leaks: Vec<Leak>,
    /// Images that could not be read, and so were not compared.
    pub unread_images: u64,
    /// Images that could not be decoded: compared by their bytes only.
    pub undecodable_images: u64,
    /// Pages on several sides that so many documents have that they say nothing of one..
    pub common_images: u64,
    /// .. and answers.
    pub common_targets: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct CheckedFile {
    pub file: String,
    pub records: u64,
}

impl CheckReport {
    pub fn is_clean(&self) -> bool {
        self.leaks.is_empty()
    }
}

/// Compares JSONL files, or the `*.jsonl` files of one directory. `by` is the key of `meta` that
/// names the document; with `looks` images are compared by what they look like, too. `progress` hears
/// how many images have been opened, and of how many.
pub fn check(
    inputs: &[PathBuf],
    by: &str,
    looks: bool,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<CheckReport> {
    let paths = files(inputs)?;
    let ask = Ask {
        by,
        stratify: None,
        looks,
    };
    let mut shared = Shared::default();
    let mut all = Vec::new();
    let mut problems = Vec::new();
    for path in &paths {
        match facts::read(path, &ask, &mut shared) {
            Ok(facts) => all.push(facts),
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(error) = Diagnostic::all(problems) {
        return Err(error);
    }
    shared.images.hash(&ask, progress);
    compare(&mut all, &shared)
}

fn files(inputs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for input in inputs {
        if input.is_dir() {
            paths.extend(jsonl_files(input)?);
        } else {
            paths.push(input.clone());
        }
    }
    if paths.len() < 2 {
        let error = Diagnostic::error("there is nothing to compare with")
            .with_kind(Kind::NothingToDo)
            .expected("two or more JSONL files, or a directory of them")
            .hint("`vlft split --check train.jsonl val.jsonl test.jsonl`");
        return Err(match inputs.first() {
            Some(input) => error.at(input),
            None => error,
        });
    }
    Ok(paths)
}

fn jsonl_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory)
        .map_err(|e| vlft_base::output::cannot("read", directory, e))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            name.ends_with(".jsonl")
                && !name.ends_with(".rejects.jsonl")
                && name != "manifest.jsonl"
        })
        .collect();
    paths.sort();
    Ok(paths)
}

/// Something at a place, found again by its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    key: u128,
    file: usize,
    line: u32,
    /// Which of the record's images.
    image: usize,
    document: u32,
    /// The image's own bytes: look-alikes of one hash are told as the same image.
    bytes: u128,
}

fn compare(all: &mut [Facts], shared: &Shared) -> Result<CheckReport> {
    let clusters = groups::clusters(shared);
    let mut seen: BTreeMap<LeakKind, Vec<Seen>> = BTreeMap::new();
    for (file, facts) in all.iter().enumerate() {
        for record in &facts.records {
            let at = Seen {
                key: record.id,
                file,
                line: record.line,
                image: 0,
                document: record.document,
                bytes: 0,
            };
            let mut note = |kind, at| seen.entry(kind).or_default().push(at);
            note(LeakKind::Id, at);
            if record.has_key {
                let key = u128::from(record.document);
                note(LeakKind::Document, Seen { key, ..at });
            }
            for (kind, key) in [
                (LeakKind::SourceSha256, record.source),
                (LeakKind::Target, record.target),
            ] {
                if key > 0 {
                    note(kind, Seen { key, ..at });
                }
            }
            for (image, index) in shared.images_of(record).iter().enumerate() {
                let Some(bytes) = shared.images.hashes[*index as usize] else {
                    continue;
                };
                let at = Seen {
                    key: bytes,
                    image,
                    bytes,
                    ..at
                };
                note(LeakKind::Image, at);
                if let Some(cluster) = clusters.get(&bytes) {
                    let key = u128::from(*cluster);
                    note(LeakKind::NearImage, Seen { key, ..at });
                }
            }
        }
    }
    let mut report = CheckReport {
        files: all
            .iter()
            .map(|facts| CheckedFile {
                file: facts.file.clone(),
                records: facts.records.len() as u64,
            })
            .collect(),
        leaks: Vec::new(),
        unread_images: shared.images.missing(),
        undecodable_images: shared.images.undecodable,
        common_images: 0,
        common_targets: 0,
    };
    for (kind, mut seen) in seen {
        seen.sort_unstable();
        let mut leaks = Vec::new();
        for same in seen.chunk_by(|a, b| a.key == b.key) {
            if same.first().map(|at| at.file) == same.last().map(|at| at.file) {
                continue;
            }
            // Look-alikes of which each has its own file only are leaks of bytes, told as such.
            if kind == LeakKind::NearImage && same.iter().all(|at| at.bytes == same[0].bytes) {
                continue;
            }
            if is_common(kind, same) {
                match kind {
                    LeakKind::Target => report.common_targets += 1,
                    _ => report.common_images += 1,
                }
                continue;
            }
            leaks.push(leak(kind, same, all, shared)?);
        }
        leaks.sort_by(|a, b| a.what.cmp(&b.what));
        report.leaks.append(&mut leaks);
    }
    Ok(report)
}

/// So many documents have it that it says nothing of one.
fn is_common(kind: LeakKind, same: &[Seen]) -> bool {
    let mut documents: Vec<u32> = same.iter().map(|at| at.document).collect();
    documents.sort_unstable();
    documents.dedup();
    matches!(
        kind,
        LeakKind::Image | LeakKind::NearImage | LeakKind::Target
    ) && documents.len() > COMMON
}

/// `same`: what leaks, by file and line.
fn leak(kind: LeakKind, same: &[Seen], all: &mut [Facts], shared: &Shared) -> Result<Leak> {
    const SHOWN: usize = 60;
    let firsts: Vec<Seen> = same
        .chunk_by(|a, b| a.file == b.file)
        .map(|of_file| of_file[0])
        .collect();
    let first = firsts[0];
    let record = all[first.file].record(first.line)?.cloned();
    let what = match kind {
        LeakKind::Document => document_shown(shared.documents.get(first.document)).to_owned(),
        LeakKind::Id => record.map_or_else(String::new, |record| record.id),
        LeakKind::SourceSha256 => {
            let meta = record.and_then(|record| record.meta?.get("source_sha256").cloned());
            meta.as_ref().and_then(facts::text_of).unwrap_or_default()
        }
        LeakKind::Target => {
            let last = record.as_ref().and_then(|record| record.messages.last());
            let text = last.map(Message::text).unwrap_or_default();
            match text.chars().count() > SHOWN {
                true => text.chars().take(SHOWN).chain("..".chars()).collect(),
                false => text.into_owned(),
            }
        }
        LeakKind::Image => all[first.file].image_name(first.line, first.image)?,
        LeakKind::NearImage => {
            let mut names = Vec::new();
            for at in &firsts {
                names.push(all[at.file].image_name(at.line, at.image)?);
            }
            names.join("` and `")
        }
    };
    Ok(Leak {
        kind,
        what,
        places: firsts
            .iter()
            .map(|at| format!("{}:{}", all[at.file].file, at.line))
            .collect(),
    })
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        for file in &self.files {
            let noun = if file.records == 1 {
                "record "
            } else {
                "records"
            };
            writeln!(
                f,
                "{:>9} {noun}   {}",
                grouped(file.records),
                one_line(&file.file)
            )?;
        }
        let mut counts: BTreeMap<LeakKind, usize> = BTreeMap::new();
        for leak in &self.leaks {
            let shown = counts.entry(leak.kind).or_default();
            *shown += 1;
            if *shown <= SHOWN {
                writeln!(
                    f,
                    "{} `{}` in {}",
                    leak.kind.words(),
                    one_line(&leak.what),
                    one_line(&leak.places.join(" and "))
                )?;
            }
        }
        for (kind, total) in counts.iter().filter(|(_, total)| **total > SHOWN) {
            writeln!(
                f,
                "and {} more by {}",
                grouped((total - SHOWN) as u64),
                kind.words()
            )?;
        }
        for (common, what) in [
            (self.common_images, "page"),
            (self.common_targets, "answer"),
        ] {
            if common > 0 {
                let common = count(common, what);
                writeln!(
                    f,
                    "{common} on several sides that more than {COMMON} documents have: not counted as leaks"
                )?;
            }
        }
        if self.undecodable_images > 0 {
            let images = count(self.undecodable_images, "image");
            writeln!(f, "{images} could not be decoded: compared by bytes only")?;
        }
        if self.unread_images > 0 {
            writeln!(
                f,
                "{} could not be read and were not compared",
                count(self.unread_images, "image")
            )?;
        }
        if counts.is_empty() {
            return write!(f, "no leaks");
        }
        let kinds: Vec<String> = counts
            .iter()
            .map(|(kind, total)| format!("{} by {}", grouped(*total as u64), kind.words()))
            .collect();
        write!(f, "leaks: {}", kinds.join(", "))
    }
}
