//! `vlft bench`: a model nobody trained, pages nobody wrote, and how fast this machine trains on them.

use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use vlft_base::output::{Existing, PartialDir, check_free};
use vlft_base::{Result, format};
use vlft_checkpoint::info::info;
use vlft_checkpoint::{Config as Model, RandomWeights, Storage, published};
use vlft_example::tiny_model;
use vlft_train::bench::data::Shape;
use vlft_train::bench::{self, Options, Setup};
use vlft_train::config::{Base, Compute, Config};
use vlft_train::device::Device;
use vlft_train::recipe::Event;

use crate::device;
use crate::exit::Exit;
use crate::signals;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft bench --write-model 8b --out models/random-8b        # 17.5 GB; `--no-weights`: its shapes alone
  vlft bench --model models/random-8b --base nf4 --device cuda:0 --out bench/nf4 --profile
  vlft bench --config configs/my-task.toml --steps 5 --out bench/my-task

`--write-model` writes random weights in the shapes of a published model, in bf16, with a small tokenizer: \
`2b`, `4b`, `8b`, `32b`, `30b-a3b`, `235b-a22b`, or the demo's `tiny`. With `--model`, records are made up \
(`OUT/data`) and a few steps of the real recipe run on them (`OUT/bench.toml`, `OUT/run`); with `--config`, \
the steps of that config on its own data. Steps of the warm-up are not counted. Nothing that is trained \
here is of use.")]
pub(crate) struct Args {
    /// Write a model of random weights to OUT instead, of this size
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["model", "config", "only_data", "profile"])]
    write_model: Option<String>,

    /// A folder of a model, of real or of random weights
    #[arg(long, value_name = "DIR", required_unless_present_any = ["write_model", "config"], conflicts_with = "config")]
    model: Option<PathBuf>,

    /// Measure this config on its own data
    #[arg(long, value_name = "CONFIG", conflicts_with_all = ["only_data", "base", "compute"])]
    config: Option<PathBuf>,

    /// The folder for what is made: the model, or data, config and run
    #[arg(long, value_name = "OUT")]
    out: PathBuf,

    /// Where to compute: `cpu` or `cuda:N`; without it the first GPU, else the CPU
    #[arg(long)]
    device: Option<Device>,

    /// How the frozen weights are held: `f32`, `bf16` or `nf4`
    #[arg(long, value_name = "BASE", value_parser = base)]
    base: Option<Base>,

    /// The type of activations and products: `f32` or `bf16`
    #[arg(long, value_name = "TYPE", value_parser = compute)]
    compute: Option<Compute>,

    /// Steps that are counted
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    steps: u64,

    /// Steps before them that are not
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    warm_up: u64,

    /// Records that are made up
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = RangedU64ValueParser::<usize>::new().range(1..=100_000))]
    records: usize,

    /// Pages in each record; 0: text alone
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(0..=64))]
    images: usize,

    /// Size of a page as the model sees it
    #[arg(long, value_name = "PIXELS", default_value_t = 1_310_720, value_parser = RangedU64ValueParser::<u64>::new().range(4_096..=16_777_216))]
    max_pixels: u64,

    /// Tokens of the question in each record
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    prompt_tokens: usize,

    /// Tokens of the answer in each record
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    answer_tokens: usize,

    /// Override a key of the config, such as `lora.rank=32`; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Time by family of operations; on a GPU the steps take longer for it
    #[arg(long)]
    profile: bool,

    /// What the device's products reach, in 10^12 operations a second, instead of measuring it
    #[arg(long, value_name = "TERA", value_parser = rate)]
    matmul_rate: Option<f64>,

    /// Make the records and the config, and stop there
    #[arg(long)]
    only_data: bool,

    /// Of random weights and of records
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,

    /// Leave the weights out: enough for `vlft plan`
    #[arg(long, requires = "write_model")]
    no_weights: bool,

    /// Replace the model that is in OUT
    #[arg(long, requires = "write_model")]
    force: bool,
}

fn base(text: &str) -> Result<Base, String> {
    match text {
        "f32" => Ok(Base::F32),
        "bf16" => Ok(Base::Bf16),
        "nf4" => Ok(Base::Nf4),
        _ => Err("one of `f32`, `bf16`, `nf4`".to_owned()),
    }
}

fn compute(text: &str) -> Result<Compute, String> {
    match text {
        "f32" => Ok(Compute::F32),
        "bf16" => Ok(Compute::Bf16),
        _ => Err("`f32` or `bf16`".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("not a rate such as 650".to_owned()),
    }
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    if let Some(size) = &args.write_model {
        return write_model(size, &args, terminal);
    }
    let options = Options {
        device: device::chosen(args.device)?,
        warm_up: args.warm_up,
        steps: args.steps,
        profile: args.profile,
        matmul_rate: args.matmul_rate.map(|tera| tera * 1e12),
    };
    let config = match (&args.config, &args.model) {
        (Some(config), _) => {
            bench::claim(&args.out)?;
            config.clone()
        }
        (None, Some(model)) => bench::prepare(&args.out, &setup(&args, model))?,
        (None, None) => unreachable!("the arguments ask for one of them"),
    };
    if args.only_data {
        terminal.note(format!("Wrote the records and `{}`", config.display()));
        return Ok(Exit::Done);
    }
    let set = [args.set, bench::overrides(&options)].concat();
    let config = Config::load(&config, &set)?;
    let stop = signals::stop_flag()?;
    let bar = terminal.progress("Measuring", "steps", options.warm_up + options.steps);
    let report = bench::run(
        &config,
        &args.out,
        &options,
        &mut |event| match event {
            Event::Warning(warning) => terminal.diagnostic(&warning),
            Event::Started(header) => {
                signals::steps_begin();
                terminal.detail(header.to_string());
            }
            Event::Progress(line) => {
                bar.set(line.step);
                terminal.detail(line.to_string());
            }
            Event::Metrics(_) | Event::Evaluating { .. } => {}
        },
        stop,
    )?;
    drop(bar);
    terminal.report(&report);
    terminal.note(format!("The run is in `{}`", args.out.display()));
    Ok(Exit::Done)
}

fn setup<'a>(args: &Args, model: &'a Path) -> Setup<'a> {
    Setup {
        model,
        base: args.base.unwrap_or(Base::Bf16),
        compute: args.compute,
        shape: Shape {
            records: args.records,
            images: args.images,
            max_pixels: args.max_pixels,
            prompt_tokens: args.prompt_tokens,
            answer_tokens: args.answer_tokens,
            seed: args.seed,
        },
    }
}

/// As large as the files of published models.
const SHARD_BYTES: u64 = 5_000_000_000;

fn write_model(size: &str, args: &Args, terminal: &Terminal) -> Result<Exit> {
    let existing = Existing::forced(args.force);
    check_free(&args.out, existing)?;
    let published = match size {
        "tiny" => None,
        size => Some(
            published::find(size).map_err(|error| match error.hint_text() {
                Some(_) => error,
                None => error.hint("or `tiny`, the demo's model"),
            })?,
        ),
    };
    let dir = PartialDir::create(&args.out, existing)?;
    match published {
        None => tiny_model::write_files(dir.path(), &tiny_model::Size::default())?,
        Some(published) => tiny_model::write_files_for(dir.path(), &published.json())?,
    }
    let config = Model::from_dir(dir.path())?;
    let weights = RandomWeights {
        config: &config,
        seed: args.seed,
        storage: Storage::Bf16,
        max_shard_bytes: SHARD_BYTES,
    };
    let bytes = match args.no_weights {
        true => 0,
        false => weights.bytes(),
    };
    if args.no_weights {
        weights.write_index(dir.path())?;
    } else {
        let bar = terminal.progress("Writing", "MiB", bytes >> 20);
        weights.write(dir.path(), &mut |done| bar.set(done >> 20))?;
    }
    dir.commit()?;
    terminal.report(&info(&args.out, false)?);
    terminal.note(format!(
        "Wrote `{}` with {} of random weights",
        args.out.display(),
        format::bytes(bytes)
    ));
    Ok(Exit::Done)
}
