//! `stats`: what a dataset is made of. Sizes come from image headers, tokens from the trainer's own
//! counter, resolution from the manifest beside the images.

mod coverage;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use vlft_base::Result;

use crate::image_path::{base_of, find};
use crate::json;
use crate::jsonl::{self, Line, Lines, shown};
use crate::page_facts::PageFacts;
use crate::problem::Problem;
use crate::record::{Record, Role};
use crate::token_counter::{TokenCount, TokenCounter};
use crate::validate::Decode;
use crate::validate::image_file;
use coverage::Coverage;
pub use report::{Extreme, KeyReport, Spread, StatsReport};

/// Measures every record of a file. `progress` hears how many records are done. Broken lines are an
/// error; images that cannot be read are counted.
pub fn stats(
    file: &Path,
    counter: Option<&dyn TokenCounter>,
    progress: &dyn Fn(u64),
) -> Result<StatsReport> {
    let mut measures = Measures::default();
    let mut facts = PageFacts::default();
    let mut lines = Lines::open(file)?;
    let base = base_of(file);
    let mut problems = Vec::new();
    loop {
        let batch = next_batch(&mut lines, &mut problems)?;
        if batch.is_empty() {
            break;
        }
        let measured: Vec<_> = batch
            .par_iter()
            .map(|line| {
                let record = jsonl::parse(&line.text, &shown(file), line.number)?;
                Ok(measure(record, line.number, base, counter))
            })
            .collect();
        for outcome in measured {
            match outcome {
                Ok(measured) => measures.add(measured, &mut facts),
                Err(found) => {
                    let found: Vec<Problem> = found;
                    problems.extend(found);
                }
            }
        }
        progress(measures.records);
    }
    if let Some(error) = jsonl::as_error(problems, file) {
        return Err(error);
    }
    if measures.records == 0 {
        return Err(jsonl::no_records(file));
    }
    Ok(measures.report(file, counter.is_some()))
}

fn next_batch(lines: &mut Lines, problems: &mut Vec<Problem>) -> Result<Vec<Line>> {
    const MAX_LINES: usize = 512;
    let mut batch = Vec::new();
    while batch.len() < MAX_LINES {
        match lines.next() {
            None => break,
            Some(line) => match line? {
                Ok(line) if line.is_empty() => {}
                Ok(line) => batch.push(line),
                Err(problem) => problems.push(problem),
            },
        }
    }
    Ok(batch)
}

/// What one record contributes.
struct Measured {
    line: u64,
    document: Option<String>,
    images: Vec<MeasuredImage>,
    unreadable_images: u64,
    targets: Vec<serde_json::Value>,
    targets_not_json: u64,
    target_chars: u64,
    turns: u64,
    tokens: Option<TokenCount>,
    uncountable: bool,
}

struct MeasuredImage {
    path: PathBuf,
    size: (u32, u32),
}

fn measure(record: Record, line: u64, base: &Path, counter: Option<&dyn TokenCounter>) -> Measured {
    let mut measured = Measured {
        line,
        document: record.document().map(str::to_owned),
        images: Vec::new(),
        unreadable_images: 0,
        targets: Vec::new(),
        targets_not_json: 0,
        target_chars: 0,
        turns: record.messages.len() as u64,
        tokens: None,
        uncountable: false,
    };
    for image in record.images() {
        let found = find(base, image);
        let size = found
            .as_ref()
            .and_then(|f| image_file::check(&f.path, Decode::Header).ok());
        match (found, size) {
            (Some(found), Some(size)) => measured.images.push(MeasuredImage {
                path: found.path,
                size,
            }),
            _ => measured.unreadable_images += 1,
        }
    }
    for message in record.messages.iter().filter(|m| m.role == Role::Assistant) {
        let text = message.text();
        measured.target_chars += text.chars().count() as u64;
        match json::parse(&text) {
            Ok(value) => measured.targets.push(value),
            Err(_) => measured.targets_not_json += 1,
        }
    }
    if let Some(counter) = counter {
        measured.tokens = counter.count(&record, base).ok();
        measured.uncountable = measured.tokens.is_none();
    }
    measured
}

/// Everything measured so far.
#[derive(Default)]
struct Measures {
    records: u64,
    documents: BTreeSet<String>,
    turns: u64,
    images: u64,
    unreadable_images: u64,
    targets_not_json: u64,
    uncountable: u64,
    /// Name -> values, with the line of each.
    values: BTreeMap<Quantity, Vec<(f64, u64)>>,
    coverage: Coverage,
    total_tokens: u64,
    supervised_tokens: u64,
}

/// What is spread over the records or the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quantity {
    Tokens,
    ImageTokens,
    PromptTokens,
    TrainedTokens,
    Pages,
    Width,
    Height,
    Dpi,
    EffectiveDpi,
    TargetChars,
}

impl Quantity {
    fn name(self) -> &'static str {
        match self {
            Quantity::Tokens => "tokens",
            Quantity::ImageTokens => "image tokens",
            Quantity::PromptTokens => "prompt tokens",
            Quantity::TrainedTokens => "trained tokens",
            Quantity::Pages => "images a record",
            Quantity::Width => "width",
            Quantity::Height => "height",
            Quantity::Dpi => "dpi",
            Quantity::EffectiveDpi => "effective dpi",
            Quantity::TargetChars => "target chars",
        }
    }
}

impl Measures {
    fn add(&mut self, measured: Measured, facts: &mut PageFacts) {
        let line = measured.line;
        self.records += 1;
        self.turns += measured.turns;
        self.documents.extend(measured.document);
        self.images += measured.images.len() as u64 + measured.unreadable_images;
        self.unreadable_images += measured.unreadable_images;
        self.targets_not_json += measured.targets_not_json;
        self.uncountable += u64::from(measured.uncountable);
        self.put(
            Quantity::Pages,
            (measured.images.len() as u64 + measured.unreadable_images) as f64,
            line,
        );
        self.put(Quantity::TargetChars, measured.target_chars as f64, line);
        for (index, image) in measured.images.iter().enumerate() {
            self.put(Quantity::Width, f64::from(image.size.0), line);
            self.put(Quantity::Height, f64::from(image.size.1), line);
            let Some(dpi) = facts.find(&image.path).map(|page| page.dpi) else {
                continue;
            };
            self.put(Quantity::Dpi, dpi, line);
            // Both sides are rounded to whole patches; the smaller scale is what a letter gets.
            let seen = measured.tokens.as_ref().and_then(|t| t.images.get(index));
            if let Some(seen) = seen {
                let scale = |resized: u32, original: u32| f64::from(resized) / f64::from(original);
                let scale = scale(seen.resized.0, seen.original.0)
                    .min(scale(seen.resized.1, seen.original.1));
                self.put(Quantity::EffectiveDpi, dpi * scale, line);
            }
        }
        if let Some(tokens) = &measured.tokens {
            self.total_tokens += tokens.total as u64;
            self.supervised_tokens += tokens.supervised as u64;
            let prompt = tokens.total - tokens.image - tokens.supervised;
            self.put(Quantity::Tokens, tokens.total as f64, line);
            self.put(Quantity::ImageTokens, tokens.image as f64, line);
            self.put(Quantity::PromptTokens, prompt as f64, line);
            self.put(Quantity::TrainedTokens, tokens.supervised as f64, line);
        }
        for target in &measured.targets {
            self.coverage.add(target);
        }
    }

    fn put(&mut self, quantity: Quantity, value: f64, line: u64) {
        self.values.entry(quantity).or_default().push((value, line));
    }

    fn report(self, file: &Path, counted: bool) -> StatsReport {
        let longest = self.extreme(Quantity::Tokens, f64::max);
        let shortest_target = self.extreme(Quantity::TrainedTokens, f64::min);
        let spreads = self.values.into_iter().map(|(quantity, values)| {
            let values = values.into_iter().map(|(value, _)| value).collect();
            Spread::new(quantity.name(), values)
        });
        StatsReport {
            file: shown(file),
            records: self.records,
            documents: self.documents.len() as u64,
            images: self.images,
            unreadable_images: self.unreadable_images,
            turns: self.turns,
            total_tokens: counted.then_some(self.total_tokens),
            trained_tokens: counted.then_some(self.supervised_tokens),
            uncountable: self.uncountable,
            targets_not_json: self.targets_not_json,
            spreads: spreads.collect(),
            longest,
            shortest_target,
            keys: self.coverage.report(),
        }
    }

    fn extreme(&self, quantity: Quantity, better: fn(f64, f64) -> f64) -> Option<Extreme> {
        let values = self.values.get(&quantity)?;
        let best = values.iter().map(|(value, _)| *value).reduce(better)?;
        let line = values.iter().find(|(value, _)| *value == best)?.1;
        Some(Extreme {
            value: best as u64,
            line,
        })
    }
}

#[cfg(test)]
mod tests;
