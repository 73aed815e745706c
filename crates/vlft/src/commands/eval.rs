//! `vlft eval`: how well a model, with or without an adapter, predicts the answers of a data set.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use vlft_base::Result;
use vlft_train::config::{Base, Compute};
use vlft_train::device::Device;
use vlft_train::eval::{self, Event, Options, Task};

use crate::device;
use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft eval --model models/Qwen3-VL-8B-Instruct --data data/splits/test.jsonl
  vlft eval --model models/Qwen3-VL-8B-Instruct --adapter runs/my-task/adapter \\
      --data data/splits/test.jsonl --format json

  vlft eval --model models/Qwen3-VL-Reranker-2B --task reranker --data data/pairs.jsonl

The loss is the mean negative log-likelihood per supervised token, in nats. With `--adapter`, the \
base and the image sizes are those of its training, read from its `preprocess.lock.json`.

`--task embedding` is for Qwen3-VL-Embedding: each record's question and its answer are embedded, and \
counted is how often the nearest answer of the file is the right one. `--task reranker` is for \
Qwen3-VL-Reranker: answers are `yes` or `no`, and the likelier of the two words is compared with them.")]
pub(crate) struct Args {
    /// The model's folder
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// An adapter that `vlft train` or PEFT wrote
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,

    /// The records to evaluate on
    #[arg(long, value_name = "F.jsonl")]
    data: PathBuf,

    /// What the model is for
    #[arg(long, default_value = "answers", value_parser = PossibleValuesParser::new(Task::NAMES)
        .try_map(|name| name.parse::<Task>()))]
    task: Task,

    /// Where to compute: `cpu` or `cuda:N`; without it the first GPU, else the CPU
    #[arg(long)]
    device: Option<Device>,

    /// Frozen weights, instead of those the adapter was trained on
    #[arg(long, value_parser = PossibleValuesParser::new(["nf4", "bf16", "f32"])
        .try_map(|name| name.parse::<Base>()))]
    base: Option<Base>,

    /// Activations [default: f32 on the CPU]
    #[arg(long, value_parser = PossibleValuesParser::new(["bf16", "f32"])
        .try_map(|name| name.parse::<Compute>()))]
    compute: Option<Compute>,

    /// Images have at least this many pixels after resizing, instead of the adapter's or the model's
    #[arg(long, value_name = "N")]
    min_pixels: Option<u64>,

    /// Images have at most this many pixels after resizing, instead of the adapter's or the model's
    #[arg(long, value_name = "N")]
    max_pixels: Option<u64>,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let options = Options {
        task: args.task,
        model: args.model,
        adapter: args.adapter,
        data: args.data,
        device: device::chosen(args.device)?,
        min_pixels: args.min_pixels,
        max_pixels: args.max_pixels,
        base: args.base,
        compute: args.compute,
    };
    let mut bar = None;
    let evaluation = eval::run(&options, &mut |event| match event {
        Event::Warning(warning) => terminal.diagnostic(&warning),
        Event::Progress { done, of } => bar
            .get_or_insert_with(|| terminal.progress("Evaluating", "records", of))
            .set(done),
    })?;
    drop(bar);
    terminal.report(&evaluation);
    Ok(Exit::Done)
}
