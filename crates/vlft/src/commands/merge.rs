//! `vlft merge`: an adapter into a checkpoint that transformers and vLLM load.

#[cfg(feature = "train")]
mod difference;

use std::cell::Cell;
use std::path::PathBuf;
use std::time::Instant;

#[cfg(not(feature = "train"))]
use vlft_base::Diagnostic;
use vlft_base::Result;
use vlft_base::format::bytes;
use vlft_base::output::Existing;
use vlft_checkpoint::archive;
use vlft_checkpoint::merge::{Merge, Options};
use vlft_dataset::lineage::Lineage;

use super::lineage;
use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft merge --model models/Qwen3-VL-8B-Instruct --adapter runs/bol-01/adapter --out models/bol-8b
  vlft merge --model models/Qwen3-VL-8B-bnb-4bit --into models/Qwen3-VL-8B-Instruct \\
    --adapter bol-01.tgz --out models/bol-8b --data data/splits/val.jsonl --records 20

The output has the shards, names, order, types and other files of the base, folders such as `1_Pooling` \
too; what is left out is named with the reason. merge-report.json says how much each tensor changed \
and what rounding took of it. `vlft verify` proves it. An adapter that was trained on a 4-bit base is \
merged into the 16-bit checkpoint of the same model; what that changes is measured on the first records of `--data`: logits, and the loss before and after.")]
pub(crate) struct Args {
    /// The model that the adapter was trained on
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// The adapter: a folder, or a `.tgz` of one
    #[arg(long, value_name = "ADAPTER")]
    adapter: PathBuf,

    /// Folder for the merged model; a link to a folder means that folder
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// The 16-bit checkpoint to merge into, where `--model` is a quantised one
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,

    /// Records to measure on what the adapter's 4-bit base and the merged model say differently
    #[arg(long, value_name = "F.jsonl")]
    data: Option<PathBuf>,

    /// How many of them, from the first on
    #[arg(
        long,
        value_name = "N",
        default_value_t = 8,
        requires = "data",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    records: u32,

    /// Where to measure: `cpu` or `cuda:N`
    #[cfg(feature = "train")]
    #[arg(long, default_value = "cpu", requires = "data")]
    device: vlft_train::device::Device,

    /// Replace the output if it exists
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    #[cfg(not(feature = "train"))]
    if args.data.is_some() {
        return Err(Diagnostic::error(
            "`--data` needs the trainer, which this build does not have",
        )
        .hint("merge without it, or use a build with the feature `train`"));
    }
    let adapter = archive::unpacked(&args.adapter)?;
    let options = Options {
        model: args.model.clone(),
        into: args.into.clone(),
        adapter: adapter.path().to_path_buf(),
        adapter_name: args.adapter.display().to_string(),
        out: args.out.clone(),
        existing: Existing::forced(args.force),
    };
    let merge = Merge::prepare(&options).map_err(|e| adapter.told(e))?;
    #[cfg(feature = "train")]
    let difference = difference::before(&args, adapter.path(), terminal)?;

    let started = Instant::now();
    let bar = terminal.progress("Merging", "MiB", 1);
    let size = Cell::new(0);
    let report = merge.run(&|done, of| {
        bar.set_total(of >> 20);
        bar.set(done >> 20);
        size.set(of);
    })?;
    drop(bar);
    let seconds = started.elapsed().as_secs_f64();
    let base = args.into.as_ref().unwrap_or(&args.model);
    let lineage = Lineage::new("merge");
    let lineage = lineage::with_weights(lineage, base, &report.base_files)?;
    lineage::with_adapter(lineage, &args.adapter)?.save_in(&args.out)?;
    #[cfg(feature = "train")]
    let report = difference::after(difference, report, &args.out)?;
    terminal.report(&report);
    terminal.note(format!(
        "Wrote `{}`: {} in {seconds:.1} s, {}/s",
        args.out.display(),
        bytes(size.get()),
        bytes((size.get() as f64 / seconds.max(1e-3)) as u64),
    ));
    Ok(Exit::Done)
}
