//! A dataset as the trainer sees it: records with their line numbers, turned into samples on
//! demand, and checked as a whole before the first step.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use vlft_base::{Diagnostic, Result, format};
use vlft_checkpoint::Config as ModelConfig;
use vlft_dataset::jsonl::{self, Numbered};
use vlft_dataset::record::Record;
use vlft_processor::processor::{Processor, Prompt};
use vlft_processor::sample::Sample;

use crate::batch::{MicroBatch, Padding};
use crate::config::{OnError, TooLong};
use crate::loading::Failed;

/// Records of one JSONL file, in file order.
pub struct Samples {
    path: PathBuf,
    records: Vec<Numbered>,
    /// Of each record.
    sizes: Vec<Size>,
    processor: Arc<Processor>,
    packing: bool,
    /// Rows are filled up to a multiple of it.
    multiple: usize,
}

/// How much one record is for the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// All of them, those of its images included.
    pub tokens: usize,
    pub image_tokens: usize,
    /// Tokens that are trained on.
    pub supervised: usize,
}

impl From<&Sample> for Size {
    fn from(sample: &Sample) -> Self {
        let image_tokens = sample.mm_token_type_ids.iter().filter(|kind| **kind == 1);
        Self {
            tokens: sample.len(),
            image_tokens: image_tokens.count(),
            supervised: sample.supervised(),
        }
    }
}

/// A record left out because of its length, when the config says so.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Dropped {
    pub file: String,
    pub line: u64,
    pub id: String,
    pub tokens: usize,
    pub max_tokens: usize,
}

/// What a record may be at most, and what happens to a longer one.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub max_tokens: Option<usize>,
    /// The key of the config that says so.
    pub key: &'static str,
    pub too_long: TooLong,
    /// Whether a record may be one that cannot be made into a sample at present: then a step that
    /// needs it goes on without it.
    pub broken: OnError,
}

impl Limit {
    pub const NONE: Self = Self {
        max_tokens: None,
        key: "data.max_tokens",
        too_long: TooLong::Error,
        broken: OnError::Error,
    };
}

impl Samples {
    /// Reads the file and makes every record into a sample once, in parallel, so that whatever is
    /// wrong with any of them is said before the first step, all at once.
    pub fn open(
        path: &Path,
        processor: &Arc<Processor>,
        model: &ModelConfig,
        limit: Limit,
    ) -> Result<(Self, Vec<Dropped>)> {
        let mut samples = Self {
            path: path.to_path_buf(),
            records: jsonl::load_for_training(path)?,
            sizes: Vec::new(),
            processor: processor.clone(),
            packing: false,
            multiple: 1,
        };
        let checked: Vec<Result<Size>> = (0..samples.len())
            .into_par_iter()
            .map(|index| {
                let sample = match samples.made(index, Processor::check) {
                    // Nobody knows how long it is; whoever resumes compares the numbers of samples.
                    Err(_) if limit.broken == OnError::Skip => return Ok(Size::default()),
                    made => made?,
                };
                samples.check(index, &sample, model)?;
                Ok(Size::from(&sample))
            })
            .collect();
        let mut problems = Vec::new();
        for outcome in checked {
            match outcome {
                Ok(size) => samples.sizes.push(size),
                Err(problem) => problems.push(problem),
            }
        }
        if let Some(problems) = Diagnostic::all(problems) {
            return Err(problems);
        }
        if samples.is_empty() {
            return Err(jsonl::no_records(path));
        }
        let dropped = samples.apply(limit)?;
        if samples.is_empty() {
            return Err(all_dropped(path, limit, &dropped));
        }
        Ok((samples, dropped))
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The file they come from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn processor(&self) -> &Processor {
        &self.processor
    }

    pub fn record(&self, index: usize) -> &Numbered {
        &self.records[index]
    }

    /// Tokens of each sample.
    pub fn lengths(&self) -> Vec<usize> {
        self.sizes.iter().map(|size| size.tokens).collect()
    }

    /// Of each sample.
    pub fn sizes(&self) -> &[Size] {
        &self.sizes
    }

    /// From now on the samples of a batch lie end to end in one row, without padding.
    pub fn pack(&mut self) {
        self.packing = true;
    }

    /// From now on rows are filled up to a multiple of this: a GPU keeps memory and the fastest kernel for
    /// each length that it has seen.
    pub(crate) fn fill_up_to(&mut self, multiple: usize) {
        self.multiple = multiple;
    }

    pub fn id(&self, index: usize) -> &str {
        &self.records[index].record.id
    }

    /// One record as the model takes it. An error names the file and the line.
    pub fn sample(&self, index: usize) -> Result<Sample> {
        self.made(index, Processor::sample)
    }

    /// One record up to its last answer, which the model is to give itself.
    pub fn prompt(&self, index: usize) -> Result<Prompt> {
        self.made(index, Processor::prompt)
    }

    /// The same for a record made from the one of this number; an error names that one's line.
    pub(crate) fn prompt_of(&self, index: usize, record: &Record) -> Result<Prompt> {
        self.made(index, |processor, _, base| processor.prompt(record, base))
    }

    /// What went wrong with the cache of images since the last call, if there is one.
    pub fn cache_warnings(&self) -> Vec<Diagnostic> {
        self.processor.cache_warnings()
    }

    fn made<T>(
        &self,
        index: usize,
        make: impl Fn(&Processor, &Record, &Path) -> Result<T>,
    ) -> Result<T> {
        let Numbered { line, record } = &self.records[index];
        let base = self.path.parent().unwrap_or(Path::new(""));
        make(&self.processor, record, base).map_err(|e| {
            e.at_line(&self.path, *line)
                .detail(format!("record `{}`", record.id))
        })
    }

    /// Several records as one batch.
    pub fn batch(&self, indices: &[usize]) -> Result<MicroBatch> {
        let (batch, failed) = self.load(indices);
        match Diagnostic::all(failed.into_iter().map(|failed| failed.error)) {
            Some(error) => Err(error),
            None => Ok(batch.expect("at least one record is asked for")),
        }
    }

    /// A batch of those records that can be made into samples, and what is wrong with the others.
    pub(crate) fn load(&self, indices: &[usize]) -> (Option<MicroBatch>, Vec<Failed>) {
        let made: Vec<Result<Sample>> = indices
            .par_iter()
            .map(|index| self.sample(*index))
            .collect();
        let (mut samples, mut weights, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (&index, made) in indices.iter().zip(made) {
            match made {
                Ok(sample) => {
                    samples.push(sample);
                    weights.push(self.weight(index));
                }
                Err(error) => failed.push(Failed { index, error }),
            }
        }
        let padding = Padding {
            token_id: self.processor.pad_token_id(),
            multiple: self.multiple,
        };
        let batch = (!samples.is_empty()).then(|| match self.packing {
            true => MicroBatch::packed(&samples, &weights, padding),
            false => MicroBatch::padded(&samples, &weights, padding),
        });
        (batch, failed)
    }

    /// How much each trained token of the record counts in training.
    fn weight(&self, index: usize) -> f32 {
        self.records[index].record.weight() as f32
    }

    /// Leaves out the records of weight 0 and returns how many there were.
    pub(crate) fn leave_out_weightless(&mut self) -> Result<u64> {
        let before = self.records.len();
        self.retain(|numbered, _| numbered.record.weight() > 0.0);
        if self.records.is_empty() {
            return Err(Diagnostic::error("every record has the weight 0").at(&self.path));
        }
        Ok((before - self.records.len()) as u64)
    }

    /// Whether any record counts more than another.
    pub(crate) fn weighted(&self) -> bool {
        (1..self.len()).any(|index| self.weight(index) != self.weight(0))
    }

    /// What would make the model compute nonsense or stop later.
    fn check(&self, index: usize, sample: &Sample, model: &ModelConfig) -> Result<()> {
        let at = |error: Diagnostic| {
            let Numbered { line, record } = &self.records[index];
            Err(error
                .at_line(&self.path, *line)
                .detail(format!("record `{}`", record.id)))
        };
        let vocabulary = model.text.vocab_size;
        if let Some(id) = sample
            .input_ids
            .iter()
            .find(|id| **id as usize >= vocabulary)
        {
            return at(Diagnostic::error(
                "the tokenizer makes a token that the model does not have",
            )
            .expected(format!("ids below {vocabulary}"))
            .found(format!("{id}"))
            .hint("tokenizer.json and config.json must be of the same model"));
        }
        if sample.supervised() == 0 {
            return at(Diagnostic::error("record has nothing to train on"));
        }
        Ok(())
    }

    /// Leaves out or refuses what is longer than the limit.
    fn apply(&mut self, limit: Limit) -> Result<Vec<Dropped>> {
        let Some(max_tokens) = limit.max_tokens else {
            return Ok(Vec::new());
        };
        let too_long: Vec<Dropped> = self
            .records
            .iter()
            .zip(&self.sizes)
            .filter(|(_, size)| size.tokens > max_tokens)
            .map(|(Numbered { line, record }, size)| Dropped {
                file: jsonl::shown(&self.path),
                line: *line,
                id: record.id.clone(),
                tokens: size.tokens,
                max_tokens,
            })
            .collect();
        if limit.too_long == TooLong::Error {
            let errors = too_long.iter().map(|dropped| {
                Diagnostic::error("record is too long")
                    .at_line(&self.path, dropped.line)
                    .detail(format!("record `{}`", dropped.id))
                    .expected(format!(
                        "at most {} tokens",
                        format::grouped(max_tokens as u64)
                    ))
                    .found(format::grouped(dropped.tokens as u64))
                    .hint(format!(
                        "raise `{}`, lower `data.max_pixels`, or leave such records out with \
                         `data.too_long = \"drop\"`; nothing is ever cut",
                        limit.key
                    ))
            });
            return Diagnostic::all(errors).map_or(Ok(Vec::new()), Err);
        }
        self.retain(|_, tokens| tokens <= max_tokens);
        Ok(too_long)
    }

    fn retain(&mut self, keep: impl Fn(&Numbered, usize) -> bool) {
        let sizes = std::mem::take(&mut self.sizes);
        let records = std::mem::take(&mut self.records);
        let kept = records.into_iter().zip(sizes);
        (self.records, self.sizes) = kept
            .filter(|(record, size)| keep(record, size.tokens))
            .unzip();
    }
}

/// `drop` left nothing.
fn all_dropped(path: &Path, limit: Limit, dropped: &[Dropped]) -> Diagnostic {
    let shortest = dropped.iter().min_by_key(|dropped| dropped.tokens);
    let (line, tokens) = shortest.map_or((1, 0), |dropped| (dropped.line, dropped.tokens));
    let max_tokens = limit.max_tokens.unwrap_or(usize::MAX);
    Diagnostic::error("every record is too long, so all of them were dropped")
        .at_line(path, line)
        .detail("the shortest")
        .expected(format!(
            "at most {} tokens",
            format::grouped(max_tokens as u64)
        ))
        .found(format::grouped(tokens as u64))
        .hint(format!("raise `{}`, or lower `data.max_pixels`", limit.key))
}
