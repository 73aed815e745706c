//! What ties records together: their document, their source file, their images, their answers. Read
//! in one pass, in parallel; per record only numbers are kept, so that a million records need a few
//! hundred megabytes. What a message wants to name is read again from its line.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Value;
use vlft_base::{Diagnostic, Result};

use super::stratify::Stratify;
use crate::earlier::Earlier;
use crate::image_path::{base_of, beside, find, shown_short};
use crate::json;
use crate::jsonl::{self, Line, Lines, shown};
use crate::known_pages::KnownPages;
use crate::perceptual::PageHash;
use crate::problem::Problem;
use crate::record::{Part, Record, Role};
use crate::seen::{Seen, hash, hash128};
use crate::validate::image_file::{decoded, half_sha256};

/// What makes two records one group, and what is reported of them.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    /// The key of `meta` that names the document.
    pub(crate) by: &'a str,
    pub(crate) stratify: Option<&'a Stratify>,
    /// Compare the looks of images too.
    pub(crate) looks: bool,
}

/// The records of one file.
pub(crate) struct Facts {
    pub(crate) file: String,
    path: PathBuf,
    pub(crate) records: Vec<RecordFacts>,
    earlier: Earlier,
}

pub(crate) struct RecordFacts {
    pub(crate) line: u32,
    /// Index into [`Shared::documents`].
    pub(crate) document: u32,
    /// Index into [`Shared::strata`].
    pub(crate) stratum: u32,
    /// Its images: a range of [`Shared::shown`].
    images: (u32, u32),
    pub(crate) id: u128,
    /// Of the answer; 0 for one that says nothing.
    pub(crate) target: u128,
    /// Of `meta.source_sha256`; 0 without one.
    pub(crate) source: u128,
    /// It names its document.
    pub(crate) has_key: bool,
}

/// What the files of a check have in common.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) documents: Names,
    pub(crate) strata: Names,
    /// Images of all records, one after the other: indices into `images`.
    shown: Vec<u32>,
    pub(crate) images: Images,
}

impl Shared {
    pub(crate) fn images_of(&self, record: &RecordFacts) -> &[u32] {
        &self.shown[record.images.0 as usize..record.images.1 as usize]
    }
}

/// Texts, each once, by numbers.
#[derive(Default)]
pub(crate) struct Names {
    texts: Vec<Box<str>>,
    /// By 128 bits of a hash: equal ones are equal texts.
    known: HashMap<u128, u32>,
}

impl Names {
    fn index(&mut self, text: &str) -> u32 {
        let next = self.texts.len() as u32;
        let index = *self.known.entry(hash128(text)).or_insert(next);
        if index == next {
            self.texts.push(text.into());
        }
        index
    }

    pub(crate) fn get(&self, index: u32) -> &str {
        &self.texts[index as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }
}

/// Images of one or several files, each path once.
#[derive(Default)]
pub(crate) struct Images {
    known: HashMap<u128, u32>,
    /// Half a SHA-256 each; `None` where there is no such file.
    pub(crate) hashes: Vec<Option<u128>>,
    pub(crate) looks: Vec<(u32, PageHash)>,
    /// Those of which no manifest tells: they are read.
    unread: Vec<(u32, PathBuf)>,
    pages: KnownPages,
    /// Images that are no images: compared by their bytes only.
    pub(crate) undecodable: u64,
}

/// What one line says, found in parallel.
struct Looked {
    line: u32,
    id: u128,
    document: Option<String>,
    record_id: String,
    stratum: Option<String>,
    source: u128,
    target: u128,
    images: Vec<(u128, PathBuf, Option<u128>)>,
}

/// Reads a file; every line must be a record.
pub(crate) fn read(path: &Path, ask: &Ask<'_>, shared: &mut Shared) -> Result<Facts> {
    let file = shown(path);
    let mut facts = Facts {
        file: file.clone(),
        path: path.to_owned(),
        records: Vec::new(),
        earlier: Earlier::open(path)?,
    };
    let mut ids = Seen::default();
    let mut problems: Vec<Problem> = Vec::new();
    let mut lines = Lines::open(path)?;
    loop {
        let batch = next_batch(&mut lines, &mut problems)?;
        if batch.is_empty() {
            break;
        }
        let base = base_of(path);
        let pages = &shared.images.pages;
        let looked: Vec<_> = batch
            .par_iter()
            .map(|line| {
                let record = jsonl::parse(&line.text, &file, line.number)?;
                Ok(look(&record, line.number, ask, base, pages))
            })
            .collect();
        for (line, looked) in batch.iter().zip(looked) {
            facts.earlier.note(line);
            let looked: Looked = match looked {
                Ok(looked) => looked,
                Err(found) => {
                    let found: Vec<Problem> = found;
                    problems.extend(found);
                    continue;
                }
            };
            let earlier = &mut facts.earlier;
            let first = ids.earlier(hash(&looked.record_id), line.number, |line| {
                let record = earlier.record(line)?;
                Ok::<_, Diagnostic>(record.is_some_and(|record| record.id == looked.record_id))
            })?;
            if let Some(first) = first {
                let id = &looked.record_id;
                problems.push(jsonl::duplicate_id(
                    id,
                    first,
                    &file,
                    line.number,
                    &line.text,
                ));
            }
            facts.records.push(shared.take(looked));
        }
    }
    match jsonl::as_error(problems, path) {
        Some(error) => Err(error),
        None => Ok(facts),
    }
}

fn next_batch(lines: &mut Lines, problems: &mut Vec<Problem>) -> Result<Vec<Line>> {
    const MAX_LINES: usize = 4096;
    const MAX_BYTES: usize = 16 << 20;
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < MAX_LINES && bytes < MAX_BYTES {
        match lines.next() {
            None => break,
            Some(line) => match line? {
                Ok(line) if line.is_empty() => {}
                Ok(line) => {
                    bytes += line.text.len();
                    batch.push(line);
                }
                Err(problem) => problems.push(problem),
            },
        }
    }
    Ok(batch)
}

fn look(record: &Record, line: u64, ask: &Ask<'_>, base: &Path, pages: &KnownPages) -> Looked {
    let meta = |key: &str| text_of(record.meta.as_ref()?.get(key)?);
    let answer = answer(record);
    let images = record.images().map(|image| {
        let (path, sha256) = match find(base, image) {
            Some(found) => {
                let sha256 = pages.sha256(&found.path, found.bytes);
                (found.path, sha256)
            }
            None => (beside(base, image), None),
        };
        (hash128(path.as_path()), path, sha256)
    });
    Looked {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        id: hash128(&record.id),
        document: meta(ask.by),
        stratum: ask
            .stratify
            .and_then(|by| by.value(record, answer.as_ref().ok())),
        source: meta("source_sha256").map_or(0, |source| hash128(&source)),
        target: target(&answer),
        images: images.collect(),
        record_id: record.id.clone(),
    }
}

/// A value of `meta` that groups, as text.
pub(crate) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

/// The last answer: as JSON where it is.
fn answer(record: &Record) -> std::result::Result<Value, String> {
    let last = record
        .messages
        .iter()
        .rev()
        .find(|m| m.role == Role::Assistant);
    let text = match last.map(|message| (message, &message.content[..])) {
        Some((_, [Part::Text(text)])) => text.clone(),
        Some((message, _)) => message.text(),
        None => String::new(),
    };
    json::parse(&text).map_err(|_| text)
}

fn target(answer: &std::result::Result<Value, String>) -> u128 {
    match answer {
        Ok(value) if json::is_nothing(value) => 0,
        Ok(value) => {
            let mut text = String::new();
            json::canonical(value, &mut text);
            hash128(&text)
        }
        Err(text) if text.trim().is_empty() => 0,
        Err(text) => hash128(text.trim()),
    }
}

impl Shared {
    fn take(&mut self, looked: Looked) -> RecordFacts {
        let has_key = looked.document.is_some();
        // Cannot collide with a value of the key: those of files do not start like this.
        let document = looked
            .document
            .unwrap_or_else(|| format!("{NO_KEY}{}", looked.record_id));
        let start = self.shown.len() as u32;
        for (key, path, sha256) in looked.images {
            let index = self.images.index(key, path, sha256);
            self.shown.push(index);
        }
        RecordFacts {
            line: looked.line,
            document: self.documents.index(&document),
            stratum: self.strata.index(looked.stratum.as_deref().unwrap_or("")),
            images: (start, self.shown.len() as u32),
            id: looked.id,
            target: looked.target,
            source: looked.source,
            has_key,
        }
    }
}

/// What the name of a document begins with when a record names none: the record stands for itself.
const NO_KEY: &str = "\u{0}record ";

/// The name of a document for people.
pub(crate) fn document_shown(name: &str) -> &str {
    name.strip_prefix(NO_KEY).unwrap_or(name)
}

impl Images {
    fn index(&mut self, key: u128, path: PathBuf, sha256: Option<u128>) -> u32 {
        let next = self.hashes.len() as u32;
        let index = *self.known.entry(key).or_insert(next);
        if index == next {
            self.hashes.push(sha256);
            if sha256.is_none() {
                self.unread.push((index, path));
            }
        }
        index
    }

    /// Finds out what the manifests do not tell: the hash of each image, and its looks when they are
    /// asked for. `progress` hears how many images have been opened.
    pub(crate) fn hash(&mut self, ask: &Ask<'_>, progress: &(dyn Fn(u64, u64) + Sync)) {
        self.known = HashMap::new();
        if ask.looks {
            self.known_looks();
        }
        let unread = std::mem::take(&mut self.unread);
        let done = std::sync::atomic::AtomicU64::new(0);
        let read: Vec<_> = unread
            .par_iter()
            .map(|(index, path)| {
                let bytes = std::fs::read(path).ok();
                let looks = bytes.as_deref().filter(|_| ask.looks).map(looks);
                let so_far = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                progress(so_far, unread.len() as u64);
                (*index, bytes.as_deref().map(half_sha256), looks)
            })
            .collect();
        for (index, sha256, looks) in read {
            self.hashes[index as usize] = sha256;
            match looks {
                Some(Ok(Some(looks))) => self.looks.push((index, looks)),
                Some(Err(())) => self.undecodable += 1,
                Some(Ok(None)) | None => {}
            }
        }
    }

    fn known_looks(&mut self) {
        let Self {
            hashes,
            looks,
            pages,
            ..
        } = self;
        let mut by_hash: Vec<(u128, u32)> = hashes
            .iter()
            .zip(0..)
            .filter_map(|(hash, index)| hash.map(|hash| (hash, index)))
            .collect();
        by_hash.par_sort_unstable();
        by_hash.dedup_by_key(|(hash, _)| *hash);
        let mut is_known = vec![false; by_hash.len()];
        pages.each_look(|sha256, page| {
            if let Ok(at) = by_hash.binary_search_by_key(&sha256, |(hash, _)| *hash)
                && !std::mem::replace(&mut is_known[at], true)
            {
                looks.push((by_hash[at].1, page));
            }
        });
    }

    /// How many could not be read.
    pub(crate) fn missing(&self) -> u64 {
        self.hashes.iter().filter(|hash| hash.is_none()).count() as u64
    }
}

/// `Err` for what is no image, `Ok(None)` for a blank one.
fn looks(bytes: &[u8]) -> std::result::Result<Option<PageHash>, ()> {
    decoded(bytes).map(|image| PageHash::of(&image)).ok_or(())
}

impl Facts {
    /// The image of a record by its place among the images, as a path for people.
    pub(crate) fn image_name(&mut self, line: u32, place: usize) -> Result<String> {
        let record = self.earlier.record(u64::from(line))?;
        let image = record.and_then(|record| record.images().nth(place).map(str::to_owned));
        let base = base_of(&self.path);
        Ok(image.map_or_else(String::new, |image| {
            let found = find(base, &image);
            shown_short(&found.map_or_else(|| beside(base, &image), |found| found.path))
        }))
    }

    /// A record that has passed.
    pub(crate) fn record(&mut self, line: u32) -> Result<Option<&Record>> {
        self.earlier.record(u64::from(line))
    }
}

/// One error for all images that are not there.
pub(crate) fn missing_images(facts: &mut Facts, shared: &Shared) -> Result<Option<Diagnostic>> {
    const SHOWN: usize = 20;
    let lost: Vec<(u32, usize)> = facts
        .records
        .iter()
        .flat_map(|record| {
            let images = shared.images_of(record).iter().enumerate();
            images.map(move |(place, image)| (record.line, place, *image))
        })
        .filter(|(.., image)| shared.images.hashes[*image as usize].is_none())
        .map(|(line, place, _)| (line, place))
        .collect();
    let mut errors = Vec::new();
    for (line, place) in lost.iter().take(SHOWN) {
        let name = facts.image_name(*line, *place)?;
        errors.push(
            Diagnostic::error(format!("cannot read the image `{name}`"))
                .with_rule("image-missing")
                .at_line(&facts.file, u64::from(*line)),
        );
    }
    let hidden = lost.len().saturating_sub(SHOWN);
    errors.extend(
        (hidden > 0).then(|| Diagnostic::error(format!("{hidden} more images cannot be read"))),
    );
    if let Some(last) = errors.pop() {
        errors.push(last.hint(format!(
            "`vlft validate {}` lists all problems; `--fix-out` leaves such records out",
            facts.file
        )));
    }
    Ok(Diagnostic::all(errors))
}
