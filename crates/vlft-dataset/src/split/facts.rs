//! What ties records together: their document, their source file, their images, their answers. Read
//! in one pass, in parallel; per record only numbers are kept, so that a million records need a few
//! hundred megabytes. What a message wants to name is read again from its line.

use std::borrow::Cow;
use std::mem;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Value;
use vlft_base::{Diagnostic, Result};

use super::stratify::Stratify;
use crate::batches;
use crate::earlier::Earlier;
use crate::image_path::{base_of, beside, find, shown_short};
use crate::json;
use crate::jsonl::{self, Line, Lines, shown};
use crate::known_pages::{KnownPages, Nearby};
use crate::perceptual::PageHash;
use crate::problem::Problem;
use crate::record::{Message, Record, Role};
use crate::seen::{ByHash, Seen, hash128};
use crate::spread::Spread;
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
    /// An image of theirs is only found from the working directory.
    pub(crate) elsewhere: bool,
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
    known: ByHash<u32>,
}

/// A text on its way into [`Names`].
struct Name {
    text: Box<str>,
    hash: u128,
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        let hash = hash128(text.as_str());
        let text = text.into_boxed_str();
        Self { text, hash }
    }
}

impl Names {
    fn index(&mut self, name: Name) -> u32 {
        let next = self.texts.len() as u32;
        let index = *self.known.entry(name.hash).or_insert(next);
        if index == next {
            self.texts.push(name.text);
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
    known: ByHash<u32>,
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
    document: Name,
    has_key: bool,
    record_id: String,
    stratum: Name,
    source: u128,
    target: u128,
    images: Vec<SeenImage>,
    /// One of its images is only found from the working directory.
    elsewhere: bool,
}

struct SeenImage {
    /// Of its path.
    key: u128,
    /// Half its SHA-256, or where to read the file that no manifest knows.
    is: std::result::Result<u128, PathBuf>,
}

/// Lines that are not empty, and what is wrong with others between them.
type Batch = (Vec<Line>, Vec<Problem>);

/// Reads a file; every line must be a record.
pub(crate) fn read(path: &Path, ask: &Ask<'_>, shared: &mut Shared) -> Result<Facts> {
    // They answer all threads while the rest of what is shared grows.
    let pages = mem::take(&mut shared.images.pages);
    let facts = read_with(path, ask, &pages, shared);
    shared.images.pages = pages;
    facts
}

fn read_with(path: &Path, ask: &Ask<'_>, pages: &KnownPages, shared: &mut Shared) -> Result<Facts> {
    let file = shown(path);
    let base = base_of(path);
    let mut facts = Facts {
        file: file.clone(),
        path: path.to_owned(),
        records: Vec::new(),
        elsewhere: false,
        earlier: Earlier::open(path)?,
    };
    let mut ids = Seen::default();
    let mut problems: Vec<Problem> = Vec::new();
    let mut lines = Lines::open(path)?;
    batches::each(
        || next_batch(&mut lines),
        |(lines, _): &Batch| -> Vec<std::result::Result<Looked, Vec<Problem>>> {
            let look = |near: &mut Nearby, line: &Line| {
                let record = jsonl::parse(&line.text, &file, line.number)?;
                Ok(look(record, line.number, ask, base, pages, near))
            };
            lines.par_iter().map_init(Nearby::default, look).collect()
        },
        |(lines, broken), looked| {
            problems.extend(broken.iter().cloned());
            for (line, looked) in lines.iter().zip(looked.drain(..)) {
                facts.earlier.note(line.number, line.offset);
                let looked = match looked {
                    Ok(looked) => looked,
                    Err(found) => {
                        problems.extend(found);
                        continue;
                    }
                };
                let (id, earlier) = (&looked.record_id, &mut facts.earlier);
                let first = ids.earlier((looked.id >> 64) as u64, line.number, |line| {
                    let record = earlier.record(line)?;
                    Ok::<_, Diagnostic>(record.is_some_and(|record| record.id == *id))
                })?;
                if let Some(first) = first {
                    let twice = jsonl::duplicate_id(id, first, &file, line.number, &line.text);
                    problems.push(twice);
                }
                facts.elsewhere |= looked.elsewhere;
                facts.records.push(shared.take(looked));
            }
            Ok(())
        },
    )?;
    match jsonl::as_error(problems, path) {
        Some(error) => Err(error),
        None => Ok(facts),
    }
}

fn next_batch(lines: &mut Lines) -> Result<Option<Batch>> {
    const MAX_LINES: usize = 4096;
    const MAX_BYTES: usize = 16 << 20;
    let (mut batch, mut problems, mut bytes) = (Vec::new(), Vec::new(), 0);
    while batch.len() < MAX_LINES && bytes < MAX_BYTES {
        match lines.next() {
            None if batch.is_empty() && problems.is_empty() => return Ok(None),
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
    Ok(Some((batch, problems)))
}

fn look(
    record: Record,
    line: u64,
    ask: &Ask<'_>,
    base: &Path,
    pages: &KnownPages,
    near: &mut Nearby,
) -> Looked {
    let meta = |key: &str| text_of(record.meta.as_ref()?.get(key)?);
    let answer = answer(&record);
    let mut elsewhere = false;
    let mut images = Vec::new();
    for image in record.images() {
        images.push(match find(base, image) {
            Some(found) => {
                elsewhere |= found.elsewhere;
                SeenImage {
                    key: hash128(found.path.as_path()),
                    is: pages
                        .sha256(&found.path, found.bytes, near)
                        .ok_or(found.path),
                }
            }
            None => {
                let path = beside(base, image);
                SeenImage {
                    key: hash128(path.as_path()),
                    is: Err(path),
                }
            }
        });
    }
    let document = meta(ask.by);
    let stratum = ask.stratify;
    let stratum = stratum.and_then(|by| by.value(&record, answer.as_ref().ok()));
    Looked {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        id: hash128(&record.id),
        has_key: document.is_some(),
        // Cannot collide with a value of the key: those of files do not start like this.
        document: document
            .unwrap_or_else(|| format!("{NO_KEY}{}", record.id))
            .into(),
        stratum: stratum.unwrap_or_default().into(),
        source: meta("source_sha256").map_or(0, |source| hash128(&source)),
        target: target(&answer),
        images,
        elsewhere,
        record_id: record.id,
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
fn answer(record: &Record) -> std::result::Result<Value, Cow<'_, str>> {
    let last = record
        .messages
        .iter()
        .rev()
        .find(|m| m.role == Role::Assistant);
    let text = last.map(Message::text).unwrap_or_default();
    json::parse(&text).map_err(|_| text)
}

fn target(answer: &std::result::Result<Value, Cow<'_, str>>) -> u128 {
    match answer {
        Ok(value) if json::is_nothing(value) => 0,
        Ok(value) => {
            let mut text = Vec::new();
            json::canonical(value, &mut text);
            hash128(&text)
        }
        Err(text) if text.trim().is_empty() => 0,
        Err(text) => hash128(text.trim()),
    }
}

impl Shared {
    fn take(&mut self, looked: Looked) -> RecordFacts {
        let start = self.shown.len() as u32;
        for image in looked.images {
            let index = self.images.index(image);
            self.shown.push(index);
        }
        RecordFacts {
            line: looked.line,
            document: self.documents.index(looked.document),
            stratum: self.strata.index(looked.stratum),
            images: (start, self.shown.len() as u32),
            id: looked.id,
            target: looked.target,
            source: looked.source,
            has_key: looked.has_key,
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
    fn index(&mut self, image: SeenImage) -> u32 {
        let next = self.hashes.len() as u32;
        let index = *self.known.entry(image.key).or_insert(next);
        if index == next {
            self.hashes.push(image.is.as_ref().ok().copied());
            if let Err(path) = image.is {
                self.unread.push((index, path));
            }
        }
        index
    }

    /// Finds out what the manifests do not tell: the hash of each image, and its looks when they are
    /// asked for. `progress` hears how many images have been opened.
    pub(crate) fn hash(&mut self, ask: &Ask<'_>, progress: &(dyn Fn(u64, u64) + Sync)) {
        self.known = ByHash::default();
        if ask.looks {
            self.known_looks();
        }
        let unread = mem::take(&mut self.unread);
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
        let spread = Spread::of(by_hash.iter().map(|(hash, _)| (hash >> 64) as u64));
        let mut is_known = vec![false; by_hash.len()];
        pages.each_look(|sha256, page| {
            let wanted = (sha256 >> 64) as u64;
            if let Some(at) = spread.place(&by_hash, wanted, |(hash, _)| hash.cmp(&sha256))
                && !mem::replace(&mut is_known[at], true)
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
