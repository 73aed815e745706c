//! The trainer, top to bottom: config in, adapter out. Read this first.
//!
//! A run is: open the data and check every record, load the frozen model, make or resume the
//! adapters, then step by step: gradients of the micro-batches, clip, AdamW, log, now and then
//! evaluate and save; at the end write the adapter. LoRA and QLoRA, CPU and GPU are this one road.

mod evaluating;
mod keeping;
mod serving;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use vlft_base::{Diagnostic, Kind, Result, format};
use vlft_checkpoint::{Checkpoint, Config as ModelConfig, Layout};
use vlft_model::{Adapters, Qwen3Vl};
use vlft_processor::image_cache::CacheReport;

use crate::answers::Asked;
use crate::checkpoint::{Examined, Progress, State, examine};
use crate::config::{Config, check_changeable};
use crate::device::{Device, pool_bytes};
use crate::dump::Numbers;
use crate::header::{Arrangement, Header};
use crate::inputs::Inputs;
use crate::loading::{Failed, Stream, Workers};
use crate::lock::Lock;
use crate::log::{Journal, Line, Pace, ProgressLine, StepLine};
use crate::optim::clip;
use crate::order::Order;
use crate::plan::{self, Passes, Setup};
use crate::rates::{Rates, rates};
use crate::run_dir::{Opening, RunDir};
use crate::samples::Samples;
use crate::schedule::learning_rate;
use crate::skipped::Skipped;
use crate::step::accumulate;
use crate::stop::Stop;
use crate::summary::Summary;
use crate::{data, dropped, dump, start};

/// Besides the config: what belongs to this call, not to the run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub device: Device,
    /// Throw away a run that is there already.
    pub force: bool,
    /// Keys of the config that may differ from those the run began with.
    pub allow_changed: Vec<String>,
}

/// What whoever called may show while a run goes on.
pub enum Event<'a> {
    Warning(Diagnostic),
    Started(&'a Header),
    /// A line of `metrics.jsonl`, as it is written.
    Metrics(&'a Line),
    /// The same step for a person.
    Progress(&'a ProgressLine),
    /// Records of the validation set done so far.
    Evaluating {
        done: u64,
        of: u64,
    },
}

type Observer<'a> = &'a mut dyn FnMut(Event);

/// Trains, or goes on where the run in `run_dir` stands. `stop` is looked at between steps, and within
/// an evaluation after each record and each token of an answer.
pub fn train(
    config: &Config,
    run_dir: &Path,
    options: Options,
    observe: Observer,
    stop: &AtomicBool,
) -> Result<Summary> {
    check_changeable(&options.allow_changed)?;
    let device = options.device.open()?;
    let model_config = ModelConfig::from_dir(&config.model.path)?;
    let checkpoint = Checkpoint::open(&config.model.path)?;
    checkpoint.check(&model_config.tensors())?;
    let (layout, fresh) = start::adapters(config, &model_config, &device, &mut |warning| {
        observe(Event::Warning(warning));
    })?;
    serving::check_planned_adapter(&layout, &config.model.path)?;

    // Data: every record is made into a sample once, before anything is computed or written.
    let processor = data::processor(config)?;
    let has_begun = !options.force && RunDir::has_checkpoint(run_dir)?;
    let data = data::open(config, &processor, &model_config, has_begun, options.device).map_err(
        |error| {
            // What a finished run was made from may be gone.
            let finished = RunDir::finished(run_dir, config).filter(|_| !options.force);
            finished.map_or(error, |finished| finished)
        },
    )?;

    let mut order = data.order;
    let total_steps = order.total_steps(&config.train);
    let arrangement = Arrangement::new(&config.data, &config.train, &mut order, &data.train);
    let opening = Opening {
        config,
        inputs: &Inputs::of(config, &checkpoint, processor.contract(), data.train.len())?,
        total_steps,
        force: options.force,
        allow_changed: &options.allow_changed,
    };
    let mut warn = |warning| observe(Event::Warning(warning));
    let (run, resumed) = RunDir::open(run_dir, &opening, &mut warn)?;
    let dropped = dropped::list(&run, &data.dropped)?;
    for warning in dropped.into_iter().chain(data.warnings) {
        observe(Event::Warning(warning));
    }

    let skipped = Skipped::open(run.path(), &data.train)?;

    let frozen = config.model.frozen();
    let compute = config.model.compute.unwrap_or(options.device.compute());
    let model = Qwen3Vl::load(&model_config, &checkpoint, Some(&layout), frozen, &device)?
        .computing_in(compute.into());
    for warning in &model.warnings {
        observe(Event::Warning(warning.clone()));
    }
    let lock = Lock::new(&config.model, model.double_quant(), processor.contract());
    let rates = rates(&config.train, &layout);
    let setup = Setup::new(config, &model_config, &layout, options.device.place());
    let predicted_bytes = predicted(config, &setup, &data.train, data.val.as_deref());
    let asked = Asked::new(config, data.val.as_ref().map_or(0, |val| val.len()));
    let trainer = Trainer {
        config,
        run,
        model,
        layout,
        rates,
        samples: data.train,
        order,
        arrangement,
        cache: data.cache,
        val: data.val,
        asked,
        workers: data.workers,
        skipped,
        total_steps,
        predicted_bytes,
        lock,
    };

    let (mut progress, journal) =
        trainer.resume_or_start(resumed, fresh, &model_config, observe)?;
    observe(Event::Started(
        &trainer.header(&model_config, progress.step),
    ));
    trainer.run(&mut progress, journal, observe, stop)
}

/// What came after a step.
struct AfterStep {
    /// The loss on the validation set, and whether it is the best so far.
    eval: Option<(f64, bool)>,
    /// The step whose checkpoint was written.
    saved: Option<u64>,
}

/// What [`crate::plan`] says of the memory of this run.
fn predicted(config: &Config, setup: &Setup, train: &Samples, val: Option<&Samples>) -> u64 {
    let passes = Passes::of(train.sizes(), &config.data, &config.train);
    let evaluated = val.and_then(|val| plan::longest(val.sizes()));
    setup.peak(&passes, evaluated).0.total_bytes
}

/// One run, with everything that does not change while it goes on.
struct Trainer<'a> {
    config: &'a Config,
    run: RunDir,
    model: Qwen3Vl,
    layout: Layout,
    rates: Vec<Rates>,
    samples: Arc<Samples>,
    order: Order,
    arrangement: Arrangement,
    cache: Option<CacheReport>,
    val: Option<Arc<Samples>>,
    /// Which records of `val` the model answers at each evaluation.
    asked: Asked,
    workers: Workers,
    skipped: Skipped,
    total_steps: u64,
    /// What the run was expected to need in memory.
    predicted_bytes: u64,
    lock: Lock,
}

impl Trainer<'_> {
    fn resume_or_start(
        &self,
        resumed: Option<State>,
        fresh: Adapters,
        model: &ModelConfig,
        observe: Observer,
    ) -> Result<(Progress, Journal)> {
        let run = self.run.path();
        let Some(state) = resumed else {
            return Ok((
                Progress::new(fresh),
                Journal::create(run, &self.config.eval)?,
            ));
        };
        let dir = self.run.checkpoint(state.step);
        let progress = Progress::load(&dir, state, &self.layout, model, &self.model.device)?;
        let (journal, gap) = Journal::resume(run, &self.config.eval, progress.step)?;
        if let Some(warning) = gap {
            observe(Event::Warning(warning));
        }
        // Killed between a checkpoint and its copy, or on the way to a better one that is cut back.
        if let Some(step) = journal.best.step()
            && let Examined::Whole(_) = examine(&self.run.checkpoint(step), step)?
        {
            self.publish_best(step)?;
        }
        Ok((progress, journal))
    }

    /// All steps, then the adapter. What ends a run early keeps what was reached.
    fn run(
        &self,
        progress: &mut Progress,
        mut journal: Journal,
        observe: Observer,
        stop: &AtomicBool,
    ) -> Result<Summary> {
        let end = match self.steps(progress, &mut journal, observe, stop) {
            Ok(()) => self.finish(progress, &mut journal, observe),
            Err(stop) => Err(stop),
        };
        end.map_err(|stop| {
            let kept = match stop {
                // What a GPU that failed has in its memory is not saved.
                Stop::Write(_) | Stop::Device(_) => self.run.latest_checkpoint(),
                _ => self.keep(progress, &mut journal, &stop),
            };
            let dir = |step| self.run.checkpoint(step);
            stop.explain(progress.step, kept.map(|step| step.map(dir)))
        })
    }

    /// The loop.
    fn steps(
        &self,
        progress: &mut Progress,
        journal: &mut Journal,
        observe: Observer,
        stop: &AtomicBool,
    ) -> Result<(), Stop> {
        let config = self.config;
        let mut order = self.order.clone();
        let mut pace = Pace::new(self.total_steps);
        let mut ahead = order.clone();
        let skipped = &self.skipped;
        let micro_batches = (progress.step..self.total_steps)
            .flat_map(|step| skipped.without(step + 1, ahead.step(&config.train, step)));
        let mut stream = Stream::new(&self.samples, &self.workers, micro_batches);

        // A checkpoint made in the middle of an evaluation, or in its place.
        if self.is_evaluated_after(progress.step) && !journal.has_evaluated(progress.step) {
            self.after_step(progress, journal, observe, stop)?;
        }
        while progress.step < self.total_steps && !journal.best.is_given_up() {
            if stop.load(Ordering::SeqCst) {
                return Err(Stop::Signal);
            }
            let planned = order.step(&config.train, progress.step);
            let line = self.step(progress, planned, &mut stream, observe)?;
            let mut shown = pace.step(&line);
            self.log(journal, Line::Step(line), observe)?;
            for warning in self.samples.cache_warnings() {
                observe(Event::Warning(warning));
            }

            let after = self.after_step(progress, journal, observe, stop)?;
            (shown.eval, shown.saved) = (after.eval, after.saved);
            observe(Event::Progress(&shown));
        }
        Ok(())
    }

    /// Evaluates and saves, where it is time to.
    fn after_step(
        &self,
        progress: &Progress,
        journal: &mut Journal,
        observe: Observer,
        stop: &AtomicBool,
    ) -> Result<AfterStep, Stop> {
        let step = progress.step;
        let mut is_last = step == self.total_steps;
        let mut eval = None;
        if self.is_evaluated_after(step) {
            eval = self.evaluate(progress, journal, observe, stop)?;
            is_last |= journal.best.is_given_up();
        }
        let is_best = eval.is_some_and(|(_, best)| best);
        let is_due = is_due(step, self.config.output.checkpoint_every_steps);
        if !(is_due || is_best || is_last) {
            return Ok(AfterStep { eval, saved: None });
        }
        self.save(progress, journal).map_err(Stop::Write)?;
        if is_best {
            self.publish_best(step).map_err(Stop::Write)?;
        }
        self.prune(journal).map_err(Stop::Write)?;
        let saved = Some(step);
        Ok(AfterStep { eval, saved })
    }

    /// One optimiser step. `progress` changes only if all of it went well.
    fn step(
        &self,
        progress: &mut Progress,
        planned: Vec<Vec<usize>>,
        stream: &mut Stream,
        observe: Observer,
    ) -> Result<StepLine, Stop> {
        let step = progress.step + 1;
        let start = Instant::now();
        let train = &self.config.train;
        let outcome = accumulate(
            self.config,
            &self.model,
            &progress.adapters,
            stream,
            planned.len(),
            progress.step * train.accumulate as u64,
        )
        .map_err(|error| self.failed(error, &planned))?;
        self.go_on_without(step, &outcome.failed, observe)?;
        let failed = |index| outcome.failed.iter().any(|failed| failed.index == index);
        let (skipped, samples): (Vec<usize>, Vec<usize>) = planned
            .into_iter()
            .flatten()
            .partition(|index| failed(*index) || self.skipped.lists(step, *index));
        let lr = learning_rate(train, progress.step, self.total_steps);
        let grad_norm = outcome.grad_norm;
        if !outcome.loss.is_finite() || !grad_norm.is_finite() {
            let numbers = Numbers {
                step,
                loss: outcome.loss,
                grad_norm,
                learning_rate: lr,
            };
            let (run, adapters) = (self.run.path(), &progress.adapters);
            let model = (&self.model, adapters);
            let dump = dump::not_a_number(run, numbers, model, &self.samples, &samples);
            return Err(Stop::NotANumber(dump.map_err(Stop::Sample)?));
        }
        let gradients = clip(outcome.gradients, grad_norm, train.max_grad_norm);
        let adapters = &mut progress.adapters;
        let optimizer = &mut progress.optimizer;
        optimizer.step(train, lr, &self.rates, adapters, &gradients);
        progress.step += 1;

        Ok(StepLine {
            step: progress.step,
            loss: outcome.loss,
            grad_norm,
            lr,
            tokens: outcome.tokens,
            padding_tokens: outcome.padding_tokens,
            supervised_tokens: outcome.supervised_tokens,
            seconds: start.elapsed().as_secs_f64(),
            data_seconds: outcome.waited.as_secs_f64(),
            device_bytes: pool_bytes(&self.model.device),
            samples: self.ids(&samples),
            skipped: self.ids(&skipped),
        })
    }

    /// What ended a step: a record, or the GPU. Of that it is known only that some micro-batch of the
    /// step was too much, so the one with the most tokens is named.
    fn failed(&self, error: Diagnostic, planned: &[Vec<usize>]) -> Stop {
        if error.kind() != Kind::Device {
            return Stop::Sample(error);
        }
        let lengths = self.samples.lengths();
        let tokens = |batch: &Vec<usize>| batch.iter().map(|index| lengths[*index]).sum::<usize>();
        let Some(largest) = planned.iter().max_by_key(|batch| tokens(batch)) else {
            return Stop::Device(error);
        };
        let mut error = error.caused_by(format!(
            "the largest micro-batch of the step has {} tokens: `{}`",
            format::grouped(tokens(largest) as u64),
            self.ids(largest).join("`, `"),
        ));
        if let Some(bytes) = pool_bytes(&self.model.device) {
            error = error.caused_by(format!(
                "the GPU's pools hold {}, planned were {}",
                format::bytes(bytes),
                format::bytes(self.predicted_bytes)
            ));
        }
        Stop::Device(error)
    }

    fn ids(&self, indices: &[usize]) -> Vec<String> {
        let ids = indices.iter().map(|index| self.samples.id(*index));
        ids.map(str::to_owned).collect()
    }

    /// Lists records that a step could not have.
    fn go_on_without(&self, step: u64, failed: &[Failed], observe: Observer) -> Result<(), Stop> {
        if !failed.is_empty() {
            let warnings = self.skipped.add(step, failed, &self.samples);
            for warning in warnings.map_err(Stop::Write)? {
                observe(Event::Warning(warning));
            }
        }
        Ok(())
    }

    fn log(&self, journal: &mut Journal, line: Line, observe: Observer) -> Result<(), Stop> {
        journal.write(&line).map_err(Stop::Write)?;
        observe(Event::Metrics(&line));
        Ok(())
    }
}

fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
