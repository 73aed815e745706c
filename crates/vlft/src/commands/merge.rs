//! `vlft merge`: an adapter into a checkpoint that transformers and vLLM load.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Instant;

use vlft_base::Result;
use vlft_base::format::bytes;
use vlft_base::output::Existing;
use vlft_checkpoint::archive;
use vlft_checkpoint::merge::{Options, merge};

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft merge --model models/Qwen3-VL-8B-Instruct --adapter runs/bol-01/adapter --out models/bol-8b
  vlft merge --model models/Qwen3-VL-8B-bnb-4bit --into models/Qwen3-VL-8B-Instruct \\
    --adapter bol-01.tgz --out models/bol-8b

The output has the shards, names, order, types and other files of the base; merge-report.json says how \
much each tensor changed and what rounding took of it. `vlft verify` proves it. An adapter that was \
trained on a 4-bit base is merged into the 16-bit checkpoint of the same model.")]
pub(crate) struct Args {
    /// The model that the adapter was trained on
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// The adapter: a folder, or a `.tgz` of one
    #[arg(long, value_name = "ADAPTER")]
    adapter: PathBuf,

    /// Folder for the merged model
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// The 16-bit checkpoint to merge into, where `--model` is a quantised one
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,

    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let adapter = archive::unpacked(&args.adapter)?;
    let options = Options {
        model: args.model,
        into: args.into,
        adapter: adapter.path().to_path_buf(),
        adapter_name: args.adapter.display().to_string(),
        out: args.out.clone(),
        existing: Existing::forced(args.force),
    };
    let started = Instant::now();
    let bar = terminal.progress("Merging", "MiB", 1);
    let size = Cell::new(0);
    let report = merge(&options, &|done, of| {
        bar.set_total(of >> 20);
        bar.set(done >> 20);
        size.set(of);
    })?;
    drop(bar);
    terminal.report(&report);
    let seconds = started.elapsed().as_secs_f64();
    terminal.note(format!(
        "Wrote `{}`: {} in {seconds:.1} s, {}/s",
        args.out.display(),
        bytes(size.get()),
        bytes((size.get() as f64 / seconds.max(1e-3)) as u64),
    ));
    Ok(Exit::Done)
}
