//! `RUN/dump-step-N/`: what a step saw whose loss or gradient is no number, so that a person can
//! look at it: its records for `vlft show`, and its numbers.

use std::path::{Path, PathBuf};

use serde::Serialize;
use vlft_base::output::{Existing, PartialDir, write_atomic};
use vlft_base::{Diagnostic, Result};
use vlft_dataset::image_path::{Relative, base_of, find};
use vlft_dataset::jsonl::{Numbered, Writer, shown};
use vlft_dataset::record::{Part, Record};
use vlft_model::{Adapters, Qwen3Vl};

use crate::samples::Samples;

const RECORDS_FILE: &str = "records.jsonl";

/// The numbers of the step, 1-based.
#[derive(Serialize)]
pub(crate) struct Numbers {
    pub(crate) step: u64,
    pub(crate) loss: f64,
    pub(crate) grad_norm: f64,
    pub(crate) learning_rate: f64,
}

/// `step.json`. What is no number is `null`.
#[derive(Serialize)]
struct StepFile {
    #[serde(flatten)]
    numbers: Numbers,
    /// In the order of the step.
    samples: Vec<SampleLoss>,
}

/// One sample by itself, with the adapters the step began with.
#[derive(Serialize)]
struct SampleLoss {
    id: String,
    file: String,
    line: u64,
    /// Mean over its supervised tokens.
    loss: f64,
    #[serde(skip)]
    index: usize,
}

impl SampleLoss {
    fn new(model: &Qwen3Vl, adapters: &Adapters, samples: &Samples, index: usize) -> Result<Self> {
        let batch = samples.batch(&[index])?;
        let nll = model.nll(&batch.inputs, &batch.targets, adapters);
        let loss = nll.iter().map(|x| f64::from(*x)).sum::<f64>() / nll.len() as f64;
        let Numbered { line, record } = samples.record(index);
        Ok(Self {
            id: record.id.clone(),
            file: shown(samples.path()),
            line: *line,
            loss,
            index,
        })
    }

    fn named(&self) -> String {
        let Self {
            id,
            file,
            line,
            loss,
            ..
        } = self;
        format!("`{id}` ({file}:{line}): loss {loss} by itself")
    }
}

/// Looks at each sample of the step by itself, writes the dump and says what to do. If it cannot be
/// written, that is said beside the rest. An error: a sample cannot be made any more.
pub(crate) fn not_a_number(
    run_dir: &Path,
    numbers: Numbers,
    (model, adapters): (&Qwen3Vl, &Adapters),
    samples: &Samples,
    indices: &[usize],
) -> Result<Diagnostic> {
    let alone = |index: &usize| SampleLoss::new(model, adapters, samples, *index);
    let dumped = StepFile {
        numbers,
        samples: indices.iter().map(alone).collect::<Result<_>>()?,
    };
    let Numbers {
        step,
        loss,
        grad_norm,
        learning_rate,
    } = &dumped.numbers;
    let mut error = Diagnostic::error(format!(
        "step {step} gave loss {loss} and gradient norm {grad_norm}"
    ));
    let records = match write(run_dir, samples, &dumped) {
        Ok(records) => {
            error = error.at(&records);
            format!("`vlft show {}` shows the samples", shown(&records))
        }
        Err(failed) => {
            error = error.caused_by(failed);
            "`vlft show` shows the samples".to_owned()
        }
    };
    // A page of ids would bury the rest; the dump has them all.
    const SHOWN: usize = 8;
    for sample in dumped.samples.iter().take(SHOWN) {
        error = error.caused_by(sample.named());
    }
    let more = dumped.samples.len().saturating_sub(SHOWN);
    if more > 0 {
        error = error.caused_by(format!("and {more} more samples"));
    }
    Ok(error.hint(match step {
        1 => format!(
            "nothing was trained yet, so it is the weights of `model.path` or the data; {records}"
        ),
        _ => format!(
            "lower `train.learning_rate` (it was {learning_rate:e} here) and begin anew with \
             another `--out`; {records}"
        ),
    }))
}

/// The validation records were good before the first step, so what they meet now is at fault.
pub(crate) fn no_eval_loss(step: u64, loss: f64, learning_rate: f64) -> Diagnostic {
    Diagnostic::error(format!(
        "the loss on the validation set is {loss} after step {step}"
    ))
    .hint(format!(
        "lower `train.learning_rate` ({learning_rate:e}) and begin anew with another `--out`"
    ))
}

/// The path of the written records.
fn write(run_dir: &Path, samples: &Samples, dumped: &StepFile) -> Result<PathBuf> {
    let dir = run_dir.join(format!("dump-step-{}", dumped.numbers.step));
    let partial = PartialDir::create(&dir, Existing::Replace)?;
    let mut relative = Relative::to(partial.path())?;
    let mut writer = Writer::create(&partial.path().join(RECORDS_FILE), Existing::Replace)?;
    let mut written = Vec::new();
    for sample in &dumped.samples {
        // The stream may bring one record twice into a step; in a file its id is there once.
        if !written.contains(&sample.index) {
            written.push(sample.index);
            let record = samples.record(sample.index).record.clone();
            writer.write(&moved(record, samples.path(), &mut relative)?)?;
        }
    }
    writer.commit()?;
    let text = serde_json::to_string_pretty(dumped).expect("plain values") + "\n";
    write_atomic(&partial.path().join("step.json"), text.as_bytes())?;
    partial.commit()?;
    Ok(dir.join(RECORDS_FILE))
}

/// The record with image paths that lead from the dump to the images.
fn moved(mut record: Record, from: &Path, relative: &mut Relative) -> Result<Record> {
    for part in record.messages.iter_mut().flat_map(|m| &mut m.content) {
        if let Part::Image(image) = part
            && let Some(found) = find(base_of(from), image)
        {
            *image = relative.path(&found.path)?;
        }
    }
    Ok(record)
}
