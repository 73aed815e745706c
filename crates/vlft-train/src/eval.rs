//! Loss over a dataset: the mean negative log-likelihood per supervised token. `vlft eval` and the
//! evaluation while training are this one function; Embedding and Reranker checkpoints are evaluated as
//! what they are.

mod reranking;
mod retrieval;
mod task;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use vlft_base::{Diagnostic, Kind, Result, format};
use vlft_checkpoint::{Checkpoint, Config as ModelConfig, read_adapter_config};
use vlft_model::{Adapters, Qwen3Vl, read_adapter};
use vlft_processor::processor::Processor;

use crate::config::DataConfig;
use crate::device::Device;
use crate::loading::{Stream, Workers};
use crate::lock;
use crate::samples::{Limit, Samples};

pub use reranking::Reranking;
pub use retrieval::Retrieval;
pub use task::Task;

/// What `vlft eval` prints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    pub records: u64,
    /// Supervised tokens.
    pub tokens: u64,
    /// Mean negative log-likelihood per supervised token, in nats.
    pub loss: f64,
}

impl fmt::Display for Evaluation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let records = format::count(self.records, "record");
        let tokens = format::grouped(self.tokens);
        write!(
            f,
            "{records}   {tokens} supervised tokens   loss {:.4}",
            self.loss
        )
    }
}

/// The report of any task.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Outcome {
    Answers(Evaluation),
    Embedding(Retrieval),
    Reranker(Reranking),
}

impl Outcome {
    /// The number that says whether the model computes at all.
    fn essence(&self) -> f64 {
        match self {
            Self::Answers(report) => report.loss,
            Self::Embedding(report) => report.mean_similarity,
            Self::Reranker(report) => report.loss,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers(report) => write!(f, "{report}"),
            Self::Embedding(report) => write!(f, "{report}"),
            Self::Reranker(report) => write!(f, "{report}"),
        }
    }
}

/// Evaluates every record once, one at a time, so that the result does not depend on batching. None:
/// `stop` was raised before all were done.
pub fn evaluate(
    model: &Qwen3Vl,
    adapters: &Adapters,
    samples: &Arc<Samples>,
    workers: &Workers,
    stop: &AtomicBool,
    mut progress: impl FnMut(u64),
) -> Result<Option<Evaluation>> {
    let (mut sum, mut tokens) = (0.0, 0);
    let one_by_one = (0..samples.len()).map(|index| vec![index]);
    for (done, loaded) in (1..).zip(Stream::new(samples, workers, one_by_one)) {
        let batch = loaded.whole()?;
        let nll = model.nll(&batch.inputs, &batch.targets, adapters);
        sum += nll.iter().map(|x| f64::from(*x)).sum::<f64>();
        tokens += nll.len() as u64;
        progress(done);
        if done < samples.len() as u64 && stop.load(Ordering::SeqCst) {
            return Ok(None);
        }
    }
    Ok(Some(Evaluation {
        records: samples.len() as u64,
        tokens,
        loss: sum / tokens as f64,
    }))
}

/// The arguments of `vlft eval`.
#[derive(Clone, Debug)]
pub struct Options {
    pub task: Task,
    pub model: PathBuf,
    pub adapter: Option<PathBuf>,
    pub data: PathBuf,
    pub device: Device,
    pub min_pixels: Option<u64>,
    pub max_pixels: Option<u64>,
    /// Overrides the base that the adapter was trained on.
    pub base: Option<crate::config::Base>,
    /// None: f32 on the CPU.
    pub compute: Option<crate::config::Compute>,
}

/// A warning, or how many records are done.
pub enum Event {
    Warning(Diagnostic),
    Progress { done: u64, of: u64 },
}

/// Loads model, adapter and data, and evaluates. With an adapter, base and resize contract come
/// from its `preprocess.lock.json`.
pub fn run(options: &Options, observe: &mut dyn FnMut(Event)) -> Result<Outcome> {
    let device = options.device.open()?;
    let mut config = ModelConfig::from_dir(&options.model)?;
    let checkpoint = Checkpoint::open(&options.model)?;
    let looks_like = Task::of_folder(&options.model, &config, &checkpoint);
    if let Some(warning) = looks_like.warning(options.task, &options.model) {
        observe(Event::Warning(warning));
    }
    if options.task == Task::Embedding {
        config = config.without_head();
    }
    checkpoint.check(&config.tensors())?;
    if let Some(dir) = &options.adapter {
        // First: without an adapter nothing else that could be said about it matters.
        read_adapter_config(dir)?;
    }
    let locked = options
        .adapter
        .as_deref()
        .map(lock::read)
        .transpose()?
        .flatten();
    if let (Some(adapter), None) = (&options.adapter, &locked) {
        observe(Event::Warning(lock::absent(adapter)));
    }

    let limits = lock::limits(locked.as_ref(), options.min_pixels, options.max_pixels);
    let processor = Arc::new(Processor::from_dir(&options.model, &limits)?);
    for warning in lock::warnings(locked.as_ref(), &processor) {
        observe(Event::Warning(warning));
    }
    let (mut samples, _) = Samples::open(&options.data, &processor, &config, Limit::NONE)?;
    samples.fill_up_to(options.device.row_multiple());

    // Without an adapter the weights are as stored; with one, as it was trained on them.
    let frozen = lock::frozen(locked.as_ref(), options.base);
    let (layout, adapters) = match &options.adapter {
        None => (None, Adapters::none()),
        Some(dir) => {
            let (layout, adapters) = read_adapter(dir, &config, &device)?;
            (Some(layout), adapters)
        }
    };
    let model = Qwen3Vl::load(&config, &checkpoint, layout.as_ref(), frozen, &device)?
        .computing_in(options.compute.unwrap_or(options.device.compute()).into());
    let outcome = match options.task {
        Task::Answers => {
            let of = samples.len() as u64;
            let data = DataConfig::new(&options.data);
            let workers = Workers::new(data.workers, data.prefetch)?;
            let samples = Arc::new(samples);
            // Nothing would be lost, so a signal ends the process.
            let never = AtomicBool::new(false);
            let evaluation = evaluate(&model, &adapters, &samples, &workers, &never, |done| {
                observe(Event::Progress { done, of });
            })?
            .expect("nobody stops it");
            Outcome::Answers(evaluation)
        }
        Task::Embedding => {
            let retrieval = retrieval::evaluate(&model, &adapters, &samples, observe)?;
            Outcome::Embedding(retrieval)
        }
        Task::Reranker => {
            let reranking = reranking::evaluate(&model, &adapters, &samples, observe)?;
            Outcome::Reranker(reranking)
        }
    };
    if !outcome.essence().is_finite() {
        return Err(
            Diagnostic::error(format!("the result is {}", outcome.essence()))
                .with_kind(Kind::Verdict)
                .hint("weights or adapter hold values that are not numbers"),
        );
    }
    Ok(outcome)
}
