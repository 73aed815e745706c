//! `vlft show`: one record as the model sees it.

use std::path::PathBuf;

use vlft_base::Result;
use vlft_processor::processor::Options as Limits;
use vlft_processor::show::{self, Options};

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft show data/splits/train.jsonl
  vlft show data/splits/train.jsonl invoice-0117 --model models/Qwen3-VL-8B-Instruct
  vlft show data/splits/train.jsonl :240 --model models/Qwen3-VL-8B-Instruct --max-pixels 1310720

With `--model` the conversation is rendered by that model's own chat template and counted by its \
tokenizer; image tokens are shown as a number. `>` in the margin marks what is trained on.")]
pub(crate) struct Args {
    /// The records
    #[arg(value_name = "F.jsonl")]
    file: PathBuf,

    /// An id, or `:N` for line N [default: the first record]
    #[arg(value_name = "ID")]
    which: Option<String>,

    /// The model whose eyes to look through
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Images have at least this many pixels after resizing, instead of the model's
    #[arg(long, value_name = "N", requires = "model")]
    min_pixels: Option<u64>,

    /// Images have at most this many pixels after resizing, instead of the model's
    #[arg(long, value_name = "N", requires = "model")]
    max_pixels: Option<u64>,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let without_model = args.model.is_none();
    let shown = show::show(&Options {
        file: args.file,
        which: args.which,
        model: args.model,
        limits: Limits {
            min_pixels: args.min_pixels,
            max_pixels: args.max_pixels,
        },
    })?;
    terminal.report(&shown);
    if without_model {
        terminal.note("Pass `--model DIR` to see tokens and the chat template");
    }
    Ok(Exit::Done)
}
