//! `split --check`: judges splits made elsewhere. A leak is a record, a document or a page that is in
//! more than one file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vlft_base::format::{count, grouped};
use vlft_base::{Diagnostic, Kind, Result};

use super::facts::{self, Facts, Images};
use super::groups::COMMON;
use crate::image_path::shown_short;

/// What is on more than one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakKind {
    Id,
    Document,
    SourceSha256,
    Image,
}

impl LeakKind {
    fn words(self) -> &'static str {
        match self {
            LeakKind::Id => "id",
            LeakKind::Document => "document",
            LeakKind::SourceSha256 => "source file",
            LeakKind::Image => "image",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub struct Leak {
    pub kind: LeakKind,
    /// The id, the document, the hash, or the path of the image.
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
    /// Pages on several sides that so many documents have that they say nothing of one.
    pub common_images: u64,
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
/// names the document.
pub fn check(inputs: &[PathBuf], by: &str) -> Result<CheckReport> {
    let paths = files(inputs)?;
    let mut images = Images::default();
    let mut all = Vec::new();
    let mut problems = Vec::new();
    for path in &paths {
        match facts::read(path, by, &mut images) {
            Ok(facts) => all.push(facts),
            Err(problem) => problems.push(problem),
        }
    }
    if let Some(error) = Diagnostic::all(problems) {
        return Err(error);
    }
    images.hash();
    Ok(compare(&all, &images))
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

fn compare(all: &[Facts], images: &Images) -> CheckReport {
    let mut seen: BTreeMap<(LeakKind, String), Sides> = BTreeMap::new();
    let mut by_page: BTreeMap<u128, (usize, Sides)> = BTreeMap::new();
    for (side, facts) in all.iter().enumerate() {
        for record in &facts.records {
            let texts = [
                (LeakKind::Id, Some(&record.id)),
                (LeakKind::Document, record.group.as_ref()),
                (LeakKind::SourceSha256, record.source_sha256.as_ref()),
            ];
            for (kind, text) in texts {
                if let Some(text) = text {
                    seen.entry((kind, text.clone()))
                        .or_default()
                        .add(side, record.line);
                }
            }
            for image in &record.images {
                if let Some(hash) = images.hashes[*image] {
                    let page = by_page
                        .entry(hash)
                        .or_insert_with(|| (*image, Sides::default()));
                    page.1.add(side, record.line);
                }
            }
        }
    }
    let mut leaks: Vec<Leak> = seen
        .into_iter()
        .filter(|(_, sides)| sides.first.len() > 1)
        .map(|((kind, what), sides)| Leak {
            kind,
            what,
            places: sides.places(all),
        })
        .collect();
    let mut common_images = 0;
    let mut pages: Vec<Leak> = Vec::new();
    for (image, sides) in by_page
        .into_values()
        .filter(|(_, sides)| sides.first.len() > 1)
    {
        if sides.records > COMMON {
            common_images += 1;
            continue;
        }
        pages.push(Leak {
            kind: LeakKind::Image,
            what: shown_short(&images.paths[image]),
            places: sides.places(all),
        });
    }
    pages.sort_by(|a, b| a.what.cmp(&b.what));
    leaks.append(&mut pages);
    CheckReport {
        files: all
            .iter()
            .map(|facts| CheckedFile {
                file: facts.file.clone(),
                records: facts.records.len() as u64,
            })
            .collect(),
        leaks,
        unread_images: images.missing().count() as u64,
        common_images,
    }
}

/// Where something was seen.
#[derive(Default)]
struct Sides {
    /// File -> first line.
    first: BTreeMap<usize, u64>,
    records: usize,
}

impl Sides {
    fn add(&mut self, side: usize, line: u64) {
        self.first.entry(side).or_insert(line);
        self.records += 1;
    }

    fn places(&self, all: &[Facts]) -> Vec<String> {
        self.first
            .iter()
            .map(|(side, line)| format!("{}:{line}", all[*side].file))
            .collect()
    }
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
            writeln!(f, "{:>9} {noun}   {}", grouped(file.records), file.file)?;
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
                    leak.what,
                    leak.places.join(" and ")
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
        if self.common_images > 0 {
            let pages = count(self.common_images, "page");
            writeln!(
                f,
                "{pages} on several sides that more than {COMMON} records have: not counted as leaks"
            )?;
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
