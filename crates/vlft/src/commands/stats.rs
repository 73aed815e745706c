//! `vlft stats`: what a dataset is made of.

use std::path::PathBuf;

use vlft_base::Result;
use vlft_dataset::stats;
use vlft_dataset::token_counter::TokenCounter;

use super::token_counter;
use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft stats data/all.jsonl
  vlft stats data/splits/train.jsonl --model models/Qwen3-VL-8B-Instruct --max-pixels 1310720

`effective dpi` is the resolution at which a page reaches the model: that of the page image, times \
what the model's resize leaves of it. It needs `--model` and the manifest of `vlft rasterize`.")]
pub(crate) struct Args {
    /// The records
    #[arg(value_name = "F.jsonl")]
    file: PathBuf,

    /// Count tokens as this model's training does
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Resize as with `data.max_pixels`
    #[arg(long, value_name = "N", requires = "model")]
    max_pixels: Option<u64>,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let counter = token_counter(args.model.as_deref(), args.max_pixels)?;
    let bar = terminal.progress("Measuring", "records", 0);
    let report = stats::stats(
        &args.file,
        counter.as_ref().map(|counter| counter as &dyn TokenCounter),
        &|done| bar.set(done),
    )?;
    drop(bar);
    terminal.report(&report);
    Ok(Exit::Done)
}
