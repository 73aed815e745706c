//! `stats`: what a dataset is made of. Sizes come from image headers, tokens from the trainer's own
//! counter, resolution from the manifest beside the images, or by a named assumption from the shape
//! of the page.
//!
//! One pass measures the records (`measure`, in parallel); what is kept of each is a few numbers and
//! hashes, never its text. With a page to write, a second pass reads them again.

mod coverage;
mod duplicates;
mod image_head;
mod measure;
mod near;
pub mod page;
mod paper;
mod report;
mod resolution;
mod spread;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use vlft_base::Result;
use vlft_base::output::check_file;
use vlft_base::paths::not_an_input;

use crate::image_path::base_of;
use crate::jsonl::{self, Line, Lines, shown};
use crate::page_facts::PageFacts;
use crate::perceptual::PageHash;
use crate::problem::Problem;
use crate::token_counter::{Resize, TokenCounter};
use coverage::{Coverage, Filled};
pub use duplicates::{Duplicates, Groups};
use image_head::ImageHead;
use measure::{Measured, MeasuredImage, Tokens};
use paper::Sheet;
pub use report::{DpiSources, Extreme, KeyReport, Lengths, Numbers, StatsReport, ValueCount};
pub use resolution::{AtMaxPixels, AtMaxTokens, COMMON_MAX_PIXELS, COMMON_MAX_TOKENS};
use resolution::{Page, TextTokens, at_max_pixels, effective, limits, seen};
pub use spread::Spread;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Options {
    pub file: PathBuf,
    /// Pixel limits to compare with the one in use.
    pub max_pixels: Vec<u64>,
    /// Token limits at which to say who would be cut.
    pub max_tokens: Vec<u64>,
    /// A page to look at.
    pub page: Option<page::Options>,
}

/// What takes a while, and how far it is.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub stage: Stage,
    pub done: u64,
    pub of: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Bytes of the file.
    Measuring,
    /// Image files that could be the same.
    Comparing,
    /// Bytes of the file, with all rules of `validate`.
    Checking,
    /// Thumbnails.
    Drawing,
}

/// Measures every record of a file. Broken lines are left out, counted and told
/// ([`StatsReport::problem`]); a file without any record is an error.
pub fn stats(
    options: &Options,
    counter: Option<&dyn TokenCounter>,
    progress: &(dyn Fn(Step) + Sync),
) -> Result<StatsReport> {
    if let Some(page) = &options.page {
        not_an_input("--html", &page.out, [options.file.as_path()])?;
        check_file(&page.out, page.existing)?;
    }
    let dataset = Dataset::read(&options.file, counter, progress)?;
    let resize = counter.map_or(Resize::QWEN3_VL, TokenCounter::resize);
    let (duplicates, alike, contents) = dataset.duplicates(progress);
    let mut report = dataset.report(options, resize, counter.is_some(), duplicates);
    if let Some(page) = &options.page {
        let images = dataset.images.iter().map(|image| image.path.as_path());
        not_an_input("--html", &page.out, images)?;
        let whole = Whole {
            dataset: &dataset,
            report: &report,
            alike: &alike,
            contents: &contents,
            resize,
        };
        let (page, near) = page::write(&whole, &options.file, page, progress)?;
        report.page = Some(page);
        report.near(near);
    } else {
        report.near(near::find(&dataset, &contents, &HashMap::new()));
    }
    Ok(report)
}

/// Everything there is to say about a file.
struct Whole<'a> {
    dataset: &'a Dataset,
    report: &'a StatsReport,
    alike: &'a [duplicates::Alike],
    /// Per image a number that those with the same bytes share.
    contents: &'a [u32],
    resize: Resize,
}

/// Everything measured, and the images without their doubles.
struct Dataset {
    records: Vec<Kept>,
    images: Vec<Image>,
    documents: u64,
    turns: u64,
    targets_not_json: u64,
    coverage: Coverage,
    lines: LineCounts,
    problems: Vec<Problem>,
}

/// Every line of the file is one of these.
#[derive(Clone, Copy, Debug, Default)]
struct LineCounts {
    empty: u64,
    broken: u64,
}

/// What is kept of a record.
struct Kept {
    line: u64,
    /// Into the images.
    images: Vec<u32>,
    unreadable_images: u32,
    target_chars: u64,
    filled: Filled,
    tokens: Option<Tokens>,
    uncountable: bool,
    prompt: u128,
    target: u128,
}

/// An image file, however many records show it.
struct Image {
    path: PathBuf,
    head: ImageHead,
    dpi: Dpi,
    sha256: Option<String>,
    /// From the manifest.
    look: Option<PageHash>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dpi {
    Manifest(f64),
    Assumed(Sheet, f64),
    Unknown,
}

impl Dpi {
    fn value(self) -> Option<f64> {
        match self {
            Dpi::Manifest(dpi) | Dpi::Assumed(_, dpi) => Some(dpi),
            Dpi::Unknown => None,
        }
    }
}

impl Dataset {
    fn read(
        file: &Path,
        counter: Option<&dyn TokenCounter>,
        progress: &(dyn Fn(Step) + Sync),
    ) -> Result<Self> {
        let mut dataset = Self {
            records: Vec::new(),
            images: Vec::new(),
            documents: 0,
            turns: 0,
            targets_not_json: 0,
            coverage: Coverage::default(),
            lines: LineCounts::default(),
            problems: Vec::new(),
        };
        let length = std::fs::metadata(file).map_or(0, |file| file.len());
        let (base, name) = (base_of(file), shown(file));
        let mut lines = Lines::open(file)?;
        let mut facts = PageFacts::default();
        let mut known: HashMap<PathBuf, u32> = HashMap::new();
        let mut documents: HashSet<String> = HashSet::new();
        let mut read = 0;
        loop {
            let batch = dataset.next_batch(&mut lines)?;
            if batch.is_empty() {
                break;
            }
            let parts: Vec<(Vec<Outcome>, Coverage)> = batch
                .par_chunks(CHUNK)
                .map(|chunk| {
                    let mut coverage = Coverage::default();
                    let outcomes = chunk.iter().map(|line| {
                        let record = jsonl::parse(&line.text, &name, line.number)?;
                        let line = line.number;
                        Ok(measure::measure(
                            &record,
                            line,
                            base,
                            counter,
                            &mut coverage,
                        ))
                    });
                    (outcomes.collect(), coverage)
                })
                .collect();
            for (outcomes, coverage) in parts {
                dataset.coverage.merge(coverage);
                for outcome in outcomes {
                    match outcome {
                        Ok(mut measured) => {
                            documents.extend(measured.document.take());
                            dataset.add(measured, &mut known, &mut facts);
                        }
                        Err(problems) => {
                            dataset.lines.broken += 1;
                            dataset.problems.extend(problems);
                        }
                    }
                }
            }
            read += batch.iter().map(|l| l.text.len() as u64 + 1).sum::<u64>();
            progress(Step {
                stage: Stage::Measuring,
                done: read,
                of: length,
            });
        }
        dataset.documents = documents.len() as u64;
        if dataset.records.is_empty() {
            let problems = std::mem::take(&mut dataset.problems);
            return Err(jsonl::as_error(problems, file).unwrap_or_else(|| jsonl::no_records(file)));
        }
        Ok(dataset)
    }

    /// Enough lines to keep all cores busy, few enough not to fill the memory.
    fn next_batch(&mut self, lines: &mut Lines) -> Result<Vec<Line>> {
        const MAX_BYTES: usize = 16 << 20;
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH && bytes < MAX_BYTES {
            match lines.next() {
                None => break,
                Some(line) => match line? {
                    Ok(line) if line.is_empty() => self.lines.empty += 1,
                    Ok(line) => {
                        bytes += line.text.len();
                        batch.push(line);
                    }
                    Err(problem) => {
                        self.lines.broken += 1;
                        self.problems.push(problem);
                    }
                },
            }
        }
        Ok(batch)
    }

    fn add(
        &mut self,
        measured: Measured,
        known: &mut HashMap<PathBuf, u32>,
        facts: &mut PageFacts,
    ) {
        let images = measured.images.into_iter().map(|image| {
            let next = self.images.len() as u32;
            let index = *known.entry(image.path.clone()).or_insert(next);
            if index == next {
                self.images.push(Image::new(image, facts));
            }
            index
        });
        let images = images.collect();
        self.turns += u64::from(measured.turns);
        self.targets_not_json += u64::from(measured.targets_not_json);
        self.records.push(Kept {
            line: measured.line,
            images,
            unreadable_images: measured.unreadable_images,
            target_chars: measured.target_chars,
            filled: measured.filled,
            tokens: measured.tokens,
            uncountable: measured.uncountable,
            prompt: measured.prompt,
            target: measured.target,
        });
    }
}

const BATCH: usize = 1024;
const CHUNK: usize = 32;

type Outcome = std::result::Result<Measured, Vec<Problem>>;

impl Image {
    fn new(image: MeasuredImage, facts: &mut PageFacts) -> Self {
        let page = facts.find(&image.path);
        let look = page.and_then(|page| PageHash::from_hex(page.page_hash.as_ref()?));
        let (dpi, sha256) = match page {
            Some(page) => (Dpi::Manifest(page.dpi), Some(page.sha256.clone())),
            None => match paper::assumed(image.head.size) {
                Some((sheet, dpi)) => (Dpi::Assumed(sheet, dpi), None),
                None => (Dpi::Unknown, None),
            },
        };
        Self {
            path: image.path,
            head: image.head,
            dpi,
            sha256,
            look,
        }
    }
}

impl Dataset {
    fn report(
        &self,
        options: &Options,
        resize: Resize,
        counted: bool,
        duplicates: Duplicates,
    ) -> StatsReport {
        let by_tokens = |tokens: &Tokens| tokens.total;
        let by_target = |tokens: &Tokens| tokens.supervised;
        let sum = |of: fn(&Tokens) -> u64| self.tokens().map(|(_, t)| of(t)).sum();
        let totals: Vec<(u64, u64)> = self
            .tokens()
            .map(|(_, t)| (t.total, t.supervised))
            .collect();
        StatsReport {
            file: shown(&options.file),
            records: self.records.len() as u64,
            empty_lines: self.lines.empty,
            broken_lines: self.lines.broken,
            documents: self.documents,
            images: self.records.iter().map(Kept::n_images).sum(),
            image_files: self.images.len() as u64,
            formats: self.formats(),
            unreadable_images: self.count(|r| u64::from(r.unreadable_images)),
            turns: self.turns,
            total_tokens: counted.then(|| sum(by_tokens)),
            trained_tokens: counted.then(|| sum(by_target)),
            uncountable: self.count(|r| u64::from(r.uncountable)),
            targets_not_json: self.targets_not_json,
            spreads: self.spreads(resize, counted),
            longest: self.extreme(|(_, t)| std::cmp::Reverse(t.total), by_tokens),
            shortest_target: self.extreme(|(_, t)| t.supervised, by_target),
            limits: limits(&totals, &options.max_tokens),
            resize: report::ResizeUsed::new(resize, counted),
            dpi_from: self.dpi_sources(),
            at_max_pixels: self.at_max_pixels(options, resize),
            duplicates,
            keys: self.coverage.report(),
            page: None,
            problems: self.problems.clone(),
        }
    }

    fn tokens(&self) -> impl Iterator<Item = (&Kept, &Tokens)> {
        let records = self.records.iter();
        records.filter_map(|record| Some((record, record.tokens.as_ref()?)))
    }

    fn count(&self, of: impl Fn(&Kept) -> u64) -> u64 {
        self.records.iter().map(of).sum()
    }

    /// The first record with the least key.
    fn extreme<K: Ord>(
        &self,
        key: impl Fn(&(&Kept, &Tokens)) -> K,
        value: impl Fn(&Tokens) -> u64,
    ) -> Option<Extreme> {
        let (record, tokens) = self.tokens().min_by_key(key)?;
        Some(Extreme {
            value: value(tokens),
            line: record.line,
        })
    }

    fn formats(&self) -> BTreeMap<String, u64> {
        let mut formats = BTreeMap::new();
        for image in &self.images {
            *formats
                .entry(image.head.format.name().to_owned())
                .or_default() += 1;
        }
        formats
    }

    fn dpi_sources(&self) -> DpiSources {
        let mut from = DpiSources::default();
        for image in &self.images {
            match image.dpi {
                Dpi::Manifest(_) => from.manifest += 1,
                Dpi::Assumed(sheet, _) => {
                    *from.assumed.entry(sheet.name().to_owned()).or_default() += 1;
                }
                Dpi::Unknown => from.unknown += 1,
            }
        }
        from
    }

    /// The images of all records, those that several show once for each.
    fn pages(&self) -> Vec<Page> {
        let records = self.records.iter().enumerate();
        records
            .flat_map(|(record, kept)| {
                kept.images.iter().map(move |image| {
                    let image = &self.images[*image as usize];
                    Page {
                        size: image.head.size,
                        dpi: image.dpi.value(),
                        record: record as u32,
                    }
                })
            })
            .collect()
    }

    fn at_max_pixels(&self, options: &Options, resize: Resize) -> Vec<AtMaxPixels> {
        let pages = self.pages();
        let text: Vec<Option<TextTokens>> = self
            .records
            .iter()
            .map(|record| {
                let tokens = record.tokens?;
                Some(TextTokens {
                    text: tokens.total - tokens.image,
                    supervised: tokens.supervised,
                })
            })
            .collect();
        let mut all: Vec<u64> = options.max_pixels.clone();
        all.push(resize.max_pixels);
        all.retain(|max| {
            *max >= resize.min_pixels.min(resize.max_pixels) || options.max_pixels.contains(max)
        });
        all.sort_unstable();
        all.dedup();
        all.into_iter()
            .filter_map(|max| at_max_pixels(&pages, &text, resize, max, &options.max_tokens))
            .collect()
    }

    fn spreads(&self, resize: Resize, counted: bool) -> Vec<Spread> {
        let records = || self.records.iter();
        let tokens = |of: fn(&Tokens) -> u64| -> Vec<f64> {
            self.tokens().map(|(_, t)| of(t) as f64).collect()
        };
        let images = |of: &dyn Fn(&Image) -> f64| -> Vec<f64> {
            let shown = records().flat_map(|r| &r.images);
            shown.map(|i| of(&self.images[*i as usize])).collect()
        };
        let pages = self.pages();
        let dpi = pages.iter().filter_map(|page| page.dpi).collect();
        let effective: Vec<f64> = pages
            .iter()
            .filter(|_| counted)
            .filter_map(|page| {
                let seen = seen(page.size, resize, resize.max_pixels)?;
                Some(effective(page.dpi?, page.size, seen))
            })
            .collect();
        let quantities: [(&'static str, Vec<f64>); 11] = [
            ("tokens", tokens(|t| t.total)),
            ("image tokens", tokens(|t| t.image)),
            (
                "prompt tokens",
                tokens(|t| t.total - t.image - t.supervised),
            ),
            ("trained tokens", tokens(|t| t.supervised)),
            (
                "images a record",
                records().map(|r| r.n_images() as f64).collect(),
            ),
            ("width", images(&|i| f64::from(i.head.size.0))),
            ("height", images(&|i| f64::from(i.head.size.1))),
            ("image KiB", images(&|i| i.head.bytes as f64 / 1024.0)),
            ("dpi", dpi),
            ("effective dpi", effective),
            (
                "target chars",
                records().map(|r| r.target_chars as f64).collect(),
            ),
        ];
        quantities
            .into_iter()
            .filter(|(_, values)| !values.is_empty())
            .map(|(name, values)| Spread::new(name, values))
            .collect()
    }

    fn duplicates(
        &self,
        progress: &(dyn Fn(Step) + Sync),
    ) -> (Duplicates, Vec<duplicates::Alike>, Vec<u32>) {
        let files: Vec<duplicates::ImageFile<'_>> = self
            .images
            .iter()
            .map(|image| duplicates::ImageFile {
                path: &image.path,
                bytes: image.head.bytes,
                sha256: image.sha256.as_deref(),
            })
            .collect();
        let (ids, same) = duplicates::contents(&files, &|done, of| {
            progress(Step {
                stage: Stage::Comparing,
                done,
                of,
            });
        });
        let compared: Vec<duplicates::Compared> = self
            .records
            .iter()
            .map(|record| {
                let images = record.images.iter().map(|i| ids[*i as usize]);
                // Pages that could not be read may be any pages: such a record is like no other.
                let is_whole = record.unreadable_images == 0;
                duplicates::Compared {
                    line: record.line,
                    images: images.filter(|_| is_whole).collect(),
                    prompt: match is_whole {
                        true => record.prompt,
                        false => u128::from(record.line),
                    },
                    target: record.target,
                    answers: record.filled.filled > 0,
                }
            })
            .collect();
        let (duplicates, alike) = duplicates::compare(&compared, same);
        (duplicates, alike, ids)
    }
}

impl Kept {
    fn n_images(&self) -> u64 {
        self.images.len() as u64 + u64::from(self.unreadable_images)
    }
}

#[cfg(test)]
mod tests;
