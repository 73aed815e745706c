//! `vlft train`: a config in, an adapter out. What happens is in `vlft-train/src/recipe.rs`.

use std::path::PathBuf;

use vlft_base::Result;
use vlft_train::config::Config;
use vlft_train::device::Device;
use vlft_train::log::Cadence;
use vlft_train::recipe::{self, Event, Options};

use crate::device;
use crate::exit::Exit;
use crate::signals;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft train configs/my-task.toml --out runs/my-task
  vlft train configs/my-task.toml --out runs/r32 --set lora.rank=32 --set train.learning_rate=2e-4
  vlft train configs/my-task.toml --out runs/my-task --format json > steps.jsonl

The same command again resumes where the run stands, bit for bit on the CPU. ^C or SIGTERM finishes \
the step, saves a checkpoint and exits with 130; an evaluation is broken off, and made again when the \
run is resumed. A second ^C stops at once.")]
pub(crate) struct Args {
    /// The config file
    #[arg(value_name = "CONFIG")]
    config: PathBuf,

    /// The run directory: config, metrics, checkpoints, adapter, report
    #[arg(long, value_name = "RUN")]
    out: PathBuf,

    /// Override a key of the config, such as `train.learning_rate=2e-4`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Resume although these keys differ from those the run began with, such as `train.max_steps`
    #[arg(long, value_name = "KEY,..", value_delimiter = ',')]
    allow_changed: Vec<String>,

    /// Where to compute: `cpu` or `cuda:N`; without it the first GPU, else the CPU
    #[arg(long)]
    device: Option<Device>,

    /// Throw away the run that is in RUN and start over
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let config = Config::load(&args.config, &args.set)?;
    let options = Options {
        device: device::chosen(args.device)?,
        force: args.force,
        allow_changed: args.allow_changed,
    };
    let stop = signals::stop_flag()?;

    let mut cadence = Cadence::default();
    let mut evaluating = None;
    let summary = recipe::train(
        &config,
        &args.out,
        options,
        &mut |event| match event {
            Event::Warning(warning) => terminal.diagnostic(&warning),
            Event::Started(header) => {
                signals::steps_begin();
                terminal.note(header.to_string());
            }
            // With `--format json`, stdout is what `metrics.jsonl` gets.
            Event::Metrics(line) => terminal.json_line(line),
            Event::Progress(line) => {
                if cadence.is_due(line) {
                    terminal.note(line.to_string());
                }
            }
            Event::Evaluating { done, of } => {
                evaluating
                    .get_or_insert_with(|| terminal.progress("Evaluating", "records", of))
                    .set(done);
                if done == of {
                    evaluating = None;
                }
            }
        },
        stop,
    )?;

    match terminal.json() {
        true => terminal.note(format!("serve it with\n  {}", summary.serve)),
        false => terminal.report(&summary),
    }
    terminal.note(format!(
        "Wrote the adapter to `{}`; curves in `{}`",
        summary.adapter.display(),
        summary.run.join("report.html").display()
    ));
    Ok(Exit::Done)
}
