//! The trainer, top to bottom: config in, adapter out. Read this first.
//!
//! A run is: open the data and check every record, load the frozen model, make or resume the
//! adapters, then step by step: gradients of the micro-batches, clip, AdamW, log, now and then
//! evaluate and save; at the end write the adapter. LoRA and QLoRA, CPU and GPU are this one road.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use vlft_base::output::{Existing, PartialDir};
use vlft_base::{Diagnostic, Result};
use vlft_model::{Adapters, Checkpoint, Config as ModelConfig, Layout, Qwen3Vl, write_adapter};
use vlft_processor::processor::{Options as Limits, Processor};

use crate::checkpoint::Progress;
use crate::config::Config;
use crate::device::Device;
use crate::eval::{Evaluation, evaluate};
use crate::header::Header;
use crate::loading::{Stream, Workers};
use crate::lock::Lock;
use crate::log::{EvalLine, Journal, Line, Pace, ProgressLine, StepLine};
use crate::optim::clip;
use crate::order::{Order, total_steps};
use crate::run_dir::RunDir;
use crate::samples::Samples;
use crate::schedule::learning_rate;
use crate::start::last_part;
use crate::step::accumulate;
use crate::summary::{Summary, summarise};
use crate::{data, dropped, report, start, stop};

/// Besides the config: what belongs to this call, not to the run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub device: Device,
    /// Throw away a run that is there already.
    pub force: bool,
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

/// Trains, or goes on where the run in `run_dir` stands. `stop` is looked at between steps.
pub fn train(
    config: &Config,
    run_dir: &Path,
    options: Options,
    observe: Observer,
    stop: &AtomicBool,
) -> Result<Summary> {
    config.unsupported()?;
    let device = options.device.open()?;
    let model_config = ModelConfig::from_dir(&config.model.path)?;
    let checkpoint = Checkpoint::open(&config.model.path)?;
    checkpoint.check(&model_config.tensors())?;
    let (layout, fresh) = start::adapters(config, &model_config, &device, &mut |warning| {
        observe(Event::Warning(warning));
    })?;

    // Data: every record is made into a sample once, before anything is computed or written.
    let limits = Limits {
        min_pixels: config.data.min_pixels,
        max_pixels: config.data.max_pixels,
    };
    let processor = Arc::new(Processor::from_dir(&config.model.path, &limits)?);
    let data = data::open(config, &processor, &model_config)?;

    let run = RunDir::open(run_dir, config, options.force)?;
    let dropped = dropped::list(&run, &data.dropped)?;
    for warning in dropped.into_iter().chain(data.warnings) {
        observe(Event::Warning(warning));
    }

    let storage = config.model.base.storage()?;
    let model = Qwen3Vl::load(&model_config, &checkpoint, Some(&layout), storage, &device)?;
    let total_steps = total_steps(&config.train, data.train.len());
    let lock = Lock::new(
        config.model.base,
        config.model.double_quant,
        processor.contract(),
    );
    let mut trainer = Trainer {
        config,
        run,
        model,
        layout,
        samples: data.train,
        val: data.val,
        workers: data.workers,
        total_steps,
        lock,
    };

    let (mut progress, journal) = trainer.resume_or_start(fresh, &model_config, observe)?;
    observe(Event::Started(
        &trainer.header(&model_config, progress.step),
    ));
    trainer.steps(&mut progress, journal, observe, stop)
}

/// One run, with everything that does not change while it goes on.
struct Trainer<'a> {
    config: &'a Config,
    run: RunDir,
    model: Qwen3Vl,
    layout: Layout,
    samples: Arc<Samples>,
    val: Option<Arc<Samples>>,
    workers: Workers,
    total_steps: u64,
    lock: Lock,
}

impl Trainer<'_> {
    fn resume_or_start(
        &self,
        fresh: Adapters,
        model: &ModelConfig,
        observe: Observer,
    ) -> Result<(Progress, Journal)> {
        let run = self.run.path();
        let Some(step) = self.run.latest_checkpoint()? else {
            return Ok((Progress::new(fresh), Journal::create(run)?));
        };
        let dir = self.run.checkpoint(step);
        let progress = Progress::load(&dir, &self.layout, model, &self.model.device)?;
        let (journal, gap) = Journal::resume(run, progress.step)?;
        if let Some(warning) = gap {
            observe(Event::Warning(warning));
        }
        Ok((progress, journal))
    }

    /// The loop.
    fn steps(
        &mut self,
        progress: &mut Progress,
        mut journal: Journal,
        observe: Observer,
        stop: &AtomicBool,
    ) -> Result<Summary> {
        let config = self.config;
        let mut order = Order::new(self.samples.len(), config.train.seed, config.data.shuffle);
        let mut pace = Pace::new(self.total_steps);
        let mut ahead = order.clone();
        let micro_batches =
            (progress.step..self.total_steps).flat_map(|step| ahead.step(&config.train, step));
        let mut stream = Stream::new(&self.samples, &self.workers, micro_batches);

        while progress.step < self.total_steps {
            if stop.load(Ordering::SeqCst) {
                let saved = self.keep(progress, &mut journal)?;
                return Err(stop::interrupted(progress.step, saved.as_deref()));
            }
            let micro_batches = order.step(&config.train, progress.step);
            let line = match self.step(progress, &micro_batches, &mut stream) {
                Ok(line) => line,
                Err(error) => {
                    let saved = self.keep(progress, &mut journal)?;
                    return Err(stop::failed(error, progress.step, saved.as_deref()));
                }
            };
            let mut shown = pace.step(&line);
            self.log(&mut journal, Line::Step(line), observe)?;

            if is_due(progress.step, config.eval.every_steps) || progress.step == self.total_steps {
                shown.eval = self.evaluate(progress, &mut journal, observe)?;
            }
            if is_due(progress.step, config.output.checkpoint_every_steps)
                || progress.step == self.total_steps
            {
                self.save(progress, &mut journal)?;
                shown.saved = Some(progress.step);
                report::write(self.run.path())?;
            }
            observe(Event::Progress(&shown));
        }
        self.finish(progress, journal, observe)
    }

    /// One optimiser step. `progress` changes only if all of it went well.
    fn step(
        &self,
        progress: &mut Progress,
        micro_batches: &[Vec<usize>],
        stream: &mut Stream,
    ) -> Result<StepLine> {
        let start = Instant::now();
        let train = &self.config.train;
        let ids: Vec<String> = micro_batches
            .iter()
            .flatten()
            .map(|i| self.samples.id(*i).to_string())
            .collect();

        let outcome = accumulate(
            train,
            &self.model,
            &progress.adapters,
            stream,
            micro_batches.len(),
        )?;
        let grad_norm = outcome.gradients.norm();
        if !outcome.loss.is_finite() || !grad_norm.is_finite() {
            return Err(stop::not_a_number(
                progress.step + 1,
                outcome.loss,
                grad_norm,
                &ids,
            ));
        }
        let gradients = clip(outcome.gradients, grad_norm, train.max_grad_norm);
        let lr = learning_rate(train, progress.step, self.total_steps);
        progress
            .optimizer
            .step(train, lr, &mut progress.adapters, &gradients);
        progress.step += 1;

        Ok(StepLine {
            step: progress.step,
            loss: outcome.loss,
            grad_norm,
            lr,
            tokens: outcome.tokens,
            supervised_tokens: outcome.supervised_tokens,
            seconds: start.elapsed().as_secs_f64(),
            data_seconds: outcome.waited.as_secs_f64(),
            samples: ids,
        })
    }

    /// Loss on the validation set, and whether it is the lowest so far.
    fn evaluate(
        &self,
        progress: &Progress,
        journal: &mut Journal,
        observe: Observer,
    ) -> Result<Option<(f64, bool)>> {
        let Some(val) = &self.val else {
            return Ok(None);
        };
        let (start, of) = (Instant::now(), val.len() as u64);
        let Evaluation {
            records,
            tokens,
            loss,
        } = evaluate(
            &self.model,
            &progress.adapters,
            val,
            &self.workers,
            |done| {
                observe(Event::Evaluating { done, of });
            },
        )?;
        let best = journal.best_eval_loss.is_none_or(|best| loss < best);
        if best {
            journal.best_eval_loss = Some(loss);
        }
        let seconds = start.elapsed().as_secs_f64();
        let step = progress.step;
        self.log(
            journal,
            Line::Eval(EvalLine {
                step,
                loss,
                records,
                tokens,
                seconds,
                best,
            }),
            observe,
        )?;
        Ok(Some((loss, best)))
    }

    fn log(&self, journal: &mut Journal, line: Line, observe: Observer) -> Result<()> {
        observe(Event::Metrics(journal.write(line)?));
        Ok(())
    }

    /// The log reaches the disk before the checkpoint gets its name.
    fn save(&self, progress: &Progress, journal: &mut Journal) -> Result<()> {
        journal.sync()?;
        let dir = self.run.checkpoint(progress.step);
        progress.save(&dir, &self.layout, &self.base_model())?;
        self.run.prune(self.config.output.keep)
    }

    /// Saves what was reached when a run ends early, so that the same command resumes. Before the
    /// first step there is nothing to keep.
    fn keep(&self, progress: &Progress, journal: &mut Journal) -> Result<Option<PathBuf>> {
        if progress.step == 0 {
            return Ok(None);
        }
        self.save(progress, journal)?;
        report::write(self.run.path())?;
        Ok(Some(self.run.checkpoint(progress.step)))
    }

    fn finish(
        &self,
        progress: &Progress,
        mut journal: Journal,
        observe: Observer,
    ) -> Result<Summary> {
        let adapter = self.run.adapter();
        let partial = PartialDir::create(&adapter, Existing::Replace)?;
        write_adapter(
            partial.path(),
            &self.layout,
            &progress.adapters,
            &self.base_model(),
        )?;
        self.lock.write(partial.path())?;
        partial.commit()?;

        // The summary comes last: it is what says that the run is finished.
        let summary = summarise(&journal.lines, journal.best_eval_loss);
        self.log(&mut journal, Line::Summary(summary.clone()), observe)?;
        journal.sync()?;
        report::write(self.run.path())?;
        Ok(Summary {
            run: self.run.path().to_path_buf(),
            adapter,
            summary,
        })
    }

    fn header(&self, model: &ModelConfig, step: u64) -> Header {
        let tensors = model.tensors();
        Header {
            model: last_part(&self.base_model()),
            base: self.config.model.base,
            trained_parameters: self.layout.parameters() as u64,
            parameters: tensors
                .iter()
                .map(|(_, s)| s.iter().product::<usize>() as u64)
                .sum(),
            samples: self.samples.len() as u64,
            eval_samples: self.val.as_ref().map_or(0, |val| val.len() as u64),
            steps: self.total_steps,
            first_step: step + 1,
            micro_batch: self.config.train.micro_batch,
            accumulate: self.config.train.accumulate,
            seed: self.config.train.seed,
            run: self.run.path().to_path_buf(),
        }
    }

    fn base_model(&self) -> String {
        self.config
            .model
            .path
            .display()
            .to_string()
            .replace('\\', "/")
    }
}

fn is_due(step: u64, every: u64) -> bool {
    every > 0 && step.is_multiple_of(every)
}
