//! The trainer, top to bottom: config in, adapter out. Read this first.
//!
//! A run is: open the data and check every record, load the frozen model, make or resume the
//! adapters, then step by step: gradients of the micro-batches, clip, AdamW, log, now and then
//! evaluate and save; at the end write the adapter. LoRA and QLoRA, CPU and GPU are this one road.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;
use vlft_base::output::{Existing, PartialDir, write_atomic};
use vlft_base::{Diagnostic, Kind, Result, format};
use vlft_model::{
    Adapters, Checkpoint, Config as ModelConfig, Layout, Qwen3Vl, read_adapter, write_adapter,
};
use vlft_processor::processor::{Options as Limits, Processor};

use crate::checkpoint::Progress;
use crate::config::Config;
use crate::device::Device;
use crate::eval::{Evaluation, evaluate};
use crate::lock::Lock;
use crate::log::{EvalLine, Line, MetricsLog, Pace, ProgressLine, StepLine, SummaryLine};
use crate::optim::{AdamW, clip};
use crate::order::{Order, total_steps};
use crate::report;
use crate::run_dir::RunDir;
use crate::samples::{Dropped, Limit, Samples};
use crate::schedule::learning_rate;
use crate::step::accumulate;

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
    let (layout, fresh) = adapters(config, &model_config, &device, observe)?;

    // Data: every record is made into a sample once, before anything is computed or written.
    let limits = Limits {
        min_pixels: config.data.min_pixels,
        max_pixels: config.data.max_pixels,
    };
    let processor = Processor::from_dir(&config.model.path, &limits)?;
    let limit = Limit {
        max_tokens: config.data.max_tokens,
        too_long: config.data.too_long,
    };
    let open = |path: &Path| Samples::open(path, &processor, &model_config, limit);
    let (samples, mut dropped) = open(&config.data.train)?;
    let val = match &config.data.val {
        None => None,
        Some(path) => {
            let (val, more) = open(path)?;
            dropped.extend(more);
            Some(val)
        }
    };

    let run = RunDir::open(run_dir, config, options.force)?;
    report_dropped(&run, &dropped, observe)?;

    let storage = config.model.base.storage()?;
    let model = Qwen3Vl::load(&model_config, &checkpoint, Some(&layout), storage, &device)?;
    let total_steps = total_steps(&config.train, samples.len());
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
        samples,
        val,
        total_steps,
        lock,
    };

    let (mut progress, log) = trainer.resume_or_start(fresh, &model_config, observe)?;
    observe(Event::Started(
        &trainer.header(&model_config, progress.step),
    ));
    trainer.steps(&mut progress, log, observe, stop)
}

/// The layout and the adapters a new run starts from.
fn adapters(
    config: &Config,
    model: &ModelConfig,
    device: &burn::tensor::Device,
    observe: Observer,
) -> Result<(Layout, Adapters)> {
    let lora = &config.lora;
    let layout = Layout::new(
        model,
        &lora.targets,
        lora.vision,
        lora.rank,
        lora.alpha,
        lora.rslora,
    )?;
    let Some(dir) = &lora.init else {
        let adapters = Adapters::init(&layout, config.train.seed, device);
        return Ok((layout, adapters));
    };
    let (found, adapters) = read_adapter(dir, model, device)?;
    if found != layout {
        return Err(
            Diagnostic::error("`lora.init` is an adapter of another shape")
                .at(dir)
                .expected(describe(&layout))
                .found(describe(&found))
                .hint("set `[lora]` to what the adapter has"),
        );
    }
    let named = vlft_model::read_adapter_config(dir)?.base_model_name_or_path;
    let ours = config.model.path.display().to_string();
    if named
        .as_ref()
        .is_some_and(|name| last_part(name) != last_part(&ours))
    {
        observe(Event::Warning(
            Diagnostic::warning("`lora.init` names another base model")
                .at(dir)
                .expected(format!("`{ours}`"))
                .found(format!("`{}`", named.unwrap_or_default())),
        ));
    }
    Ok((layout, adapters))
}

/// One run, with everything that does not change while it goes on.
struct Trainer<'a> {
    config: &'a Config,
    run: RunDir,
    model: Qwen3Vl,
    layout: Layout,
    samples: Samples<'a>,
    val: Option<Samples<'a>>,
    total_steps: u64,
    lock: Lock,
}

/// The log and what is known from it.
struct Log {
    metrics: MetricsLog,
    lines: Vec<Line>,
    best_eval_loss: Option<f64>,
}

impl Trainer<'_> {
    fn resume_or_start(
        &self,
        fresh: Adapters,
        model: &ModelConfig,
        observe: Observer,
    ) -> Result<(Progress, Log)> {
        let Some(step) = self.run.latest_checkpoint()? else {
            let optimizer = AdamW::new(&fresh);
            let metrics = MetricsLog::create(self.run.path())?;
            let log = Log {
                metrics,
                lines: Vec::new(),
                best_eval_loss: None,
            };
            return Ok((
                Progress {
                    step: 0,
                    adapters: fresh,
                    optimizer,
                },
                log,
            ));
        };
        let dir = self.run.checkpoint(step);
        let progress = Progress::load(&dir, &self.layout, model, &self.model.device)?;
        let resumed = MetricsLog::resume(self.run.path(), progress.step)?;
        if let Some(warning) = resumed.warning {
            observe(Event::Warning(warning));
        }
        let evals = resumed.lines.iter().filter_map(|line| match line {
            Line::Eval(eval) => Some(eval.loss),
            _ => None,
        });
        let best_eval_loss = evals.reduce(f64::min);
        Ok((
            progress,
            Log {
                metrics: resumed.log,
                lines: resumed.lines,
                best_eval_loss,
            },
        ))
    }

    /// The loop.
    fn steps(
        &mut self,
        progress: &mut Progress,
        mut log: Log,
        observe: Observer,
        stop: &AtomicBool,
    ) -> Result<Summary> {
        let config = self.config;
        let mut order = Order::new(self.samples.len(), config.train.seed, config.data.shuffle);
        let mut pace = Pace::new(self.total_steps);

        while progress.step < self.total_steps {
            if stop.load(Ordering::SeqCst) {
                return Err(self.interrupted(progress, &mut log)?);
            }
            let micro_batches = order.step(&config.train, progress.step);
            let line = match self.step(progress, &micro_batches) {
                Ok(line) => line,
                Err(error) => return Err(self.stopped(error, progress, &mut log)?),
            };
            let mut shown = pace.step(&line);
            self.log(&mut log, Line::Step(line), observe)?;

            if is_due(progress.step, config.eval.every_steps) || progress.step == self.total_steps {
                shown.eval = self.evaluate(progress, &mut log, observe)?;
            }
            if is_due(progress.step, config.output.checkpoint_every_steps)
                || progress.step == self.total_steps
            {
                self.save(progress, &mut log)?;
                shown.saved = Some(progress.step);
                report::write(self.run.path())?;
            }
            observe(Event::Progress(&shown));
        }
        self.finish(progress, log, observe)
    }

    /// One optimiser step. `progress` changes only if all of it went well.
    fn step(&self, progress: &mut Progress, micro_batches: &[Vec<usize>]) -> Result<StepLine> {
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
            &self.samples,
            micro_batches,
        )?;
        let grad_norm = outcome.gradients.norm();
        if !outcome.loss.is_finite() || !grad_norm.is_finite() {
            return Err(not_a_number(
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
            samples: ids,
        })
    }

    /// Loss on the validation set, and whether it is the lowest so far.
    fn evaluate(
        &self,
        progress: &Progress,
        log: &mut Log,
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
        } = evaluate(&self.model, &progress.adapters, val, |done| {
            observe(Event::Evaluating { done, of });
        })?;
        let best = log.best_eval_loss.is_none_or(|best| loss < best);
        if best {
            log.best_eval_loss = Some(loss);
        }
        let seconds = start.elapsed().as_secs_f64();
        let step = progress.step;
        self.log(
            log,
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

    fn log(&self, log: &mut Log, line: Line, observe: Observer) -> Result<()> {
        log.metrics.write(&line)?;
        observe(Event::Metrics(&line));
        log.lines.push(line);
        Ok(())
    }

    /// The log reaches the disk before the checkpoint gets its name.
    fn save(&self, progress: &Progress, log: &mut Log) -> Result<()> {
        log.metrics.sync()?;
        let dir = self.run.checkpoint(progress.step);
        progress.save(&dir, &self.layout, &self.base_model())?;
        self.run.prune(self.config.output.keep)
    }

    fn finish(&self, progress: &Progress, mut log: Log, observe: Observer) -> Result<Summary> {
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
        let summary = summary(&log.lines, log.best_eval_loss);
        self.log(&mut log, Line::Summary(summary.clone()), observe)?;
        log.metrics.sync()?;
        report::write(self.run.path())?;
        Ok(Summary {
            run: self.run.path().to_path_buf(),
            adapter,
            summary,
        })
    }

    /// ^C or SIGTERM: the step is finished, the state is saved.
    fn interrupted(&self, progress: &Progress, log: &mut Log) -> Result<Diagnostic> {
        let message = if progress.step == 0 {
            "interrupted before the first step".to_string()
        } else {
            self.save(progress, log)?;
            report::write(self.run.path())?;
            let dir = self.run.checkpoint(progress.step);
            format!(
                "interrupted: finished step {}, saved `{}`",
                progress.step,
                dir.display()
            )
        };
        Ok(Diagnostic::error(message)
            .with_kind(Kind::Interrupted)
            .hint("run the same command again to resume"))
    }

    /// A step failed on its data or its numbers: what was reached before it is kept.
    fn stopped(&self, error: Diagnostic, progress: &Progress, log: &mut Log) -> Result<Diagnostic> {
        let at = progress.step;
        if at == 0 {
            return Ok(error.with_kind(Kind::Verdict));
        }
        self.save(progress, log)?;
        report::write(self.run.path())?;
        let dir = self.run.checkpoint(at).display().to_string();
        Ok(error
            .with_kind(Kind::Verdict)
            .caused_by(format!(
                "training stopped in step {}; saved `{dir}`",
                at + 1
            ))
            .hint("mend the data, then run the same command again to resume"))
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

fn not_a_number(step: u64, loss: f64, grad_norm: f64, ids: &[String]) -> Diagnostic {
    Diagnostic::error(format!(
        "step {step} gave loss {loss} and gradient norm {grad_norm}"
    ))
    .caused_by(format!("samples of the step: `{}`", ids.join("`, `")))
    .hint("lower `train.learning_rate`, or look at these samples with `vlft show`")
}

fn summary(lines: &[Line], best_eval_loss: Option<f64>) -> SummaryLine {
    let steps = || {
        lines.iter().filter_map(|line| match line {
            Line::Step(step) => Some(step),
            _ => None,
        })
    };
    let last_eval = lines.iter().rev().find_map(|line| match line {
        Line::Eval(eval) => Some(eval.loss),
        _ => None,
    });
    SummaryLine {
        steps: steps().count() as u64,
        first_loss: steps().next().map_or(f64::NAN, |step| step.loss),
        last_loss: steps().next_back().map_or(f64::NAN, |step| step.loss),
        eval_loss: last_eval,
        best_eval_loss,
        tokens: steps().map(|step| step.tokens).sum(),
        supervised_tokens: steps().map(|step| step.supervised_tokens).sum(),
        seconds: steps().map(|step| step.seconds).sum(),
    }
}

/// Records that are too long are listed in the run directory and counted aloud.
fn report_dropped(run: &RunDir, dropped: &[Dropped], observe: Observer) -> Result<()> {
    if dropped.is_empty() {
        return Ok(());
    }
    let path = run.path().join("dropped.jsonl");
    let lines = dropped
        .iter()
        .map(|d| serde_json::to_string(d).expect("plain values") + "\n");
    write_atomic(&path, lines.collect::<String>().as_bytes())?;
    let count = format::count(dropped.len() as u64, "record");
    observe(Event::Warning(
        Diagnostic::warning(format!("{count} left out: longer than `data.max_tokens`")).at(&path),
    ));
    Ok(())
}

fn describe(layout: &Layout) -> String {
    let name = |module: &vlft_model::lora::Module| last_part(&module.name.replace('.', "/"));
    let mut names: Vec<String> = layout.modules.iter().map(name).collect();
    names.sort();
    names.dedup();
    let modules = format::count(layout.modules.len() as u64, "module");
    let (rank, alpha, rslora) = (layout.rank, layout.alpha, layout.rslora);
    format!(
        "rank {rank}, alpha {alpha}, rslora {rslora}, {modules} ({})",
        names.join(", ")
    )
}

/// `models/Qwen3-VL-8B-Instruct/` -> `Qwen3-VL-8B-Instruct`
fn last_part(path: &str) -> String {
    path.trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(path)
        .to_string()
}

/// What a run is, before its first step.
#[derive(Clone, Debug, Serialize)]
pub struct Header {
    pub model: String,
    pub base: crate::config::Base,
    pub trained_parameters: u64,
    pub parameters: u64,
    pub samples: u64,
    pub eval_samples: u64,
    pub steps: u64,
    /// 1 for a new run, more for a resumed one.
    pub first_step: u64,
    pub micro_batch: usize,
    pub accumulate: usize,
    pub seed: u64,
    pub run: PathBuf,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millions = |n: u64| match n {
            0..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
            1_000_000..1_000_000_000 => format!("{:.1} M", n as f64 / 1e6),
            _ => format!("{:.2} B", n as f64 / 1e9),
        };
        let share = 100.0 * self.trained_parameters as f64 / self.parameters as f64;
        let base = serde_json::to_value(self.base).expect("a plain name");
        writeln!(
            f,
            "model    {}, {} base; {} of {} parameters trained ({share:.2} %)",
            self.model,
            base.as_str().unwrap_or_default(),
            millions(self.trained_parameters),
            millions(self.parameters),
        )?;
        writeln!(
            f,
            "data     {}, {} ({} x {}), eval {}",
            format::count(self.samples, "sample"),
            format::count(self.steps, "optimizer step"),
            self.micro_batch,
            self.accumulate,
            format::grouped(self.eval_samples),
        )?;
        write!(
            f,
            "run      seed {}, resolved config in `{}/config.toml`",
            self.seed,
            self.run.display()
        )?;
        if self.first_step > 1 {
            write!(
                f,
                "\nresume   at step {} of {}",
                self.first_step, self.steps
            )?;
        }
        Ok(())
    }
}

/// What a finished run reports.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub run: PathBuf,
    pub adapter: PathBuf,
    #[serde(flatten)]
    pub summary: SummaryLine,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = &self.summary;
        write!(
            f,
            "{}, loss {:.4} -> {:.4}",
            format::count(summary.steps, "step"),
            summary.first_loss,
            summary.last_loss
        )?;
        if let Some(loss) = summary.eval_loss {
            write!(f, ", eval {loss:.4}")?;
        }
        write!(f, "   adapter `{}`", self.adapter.display())
    }
}
