//! `vlft verify`: is a merged model base + adapter, bit for bit?

use std::path::PathBuf;

use vlft_base::Result;
use vlft_checkpoint::archive;
use vlft_checkpoint::merge::verify;

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft verify models/bol-8b --model models/Qwen3-VL-8B-Instruct --adapter runs/bol-01/adapter
  vlft verify models/bol-8b --model models/Qwen3-VL-8B-Instruct --adapter bol-01.tgz --format json

Every tensor is read back and compared with base + adapter, computed again by a plain loop that the merge \
does not use; every other file, in folders too, is compared with the base's. Safetensors files that the base \
does not have are a difference, since servers load them. It ends with 1 at any difference.")]
pub(crate) struct Args {
    /// The merged model
    #[arg(value_name = "MERGED")]
    merged: PathBuf,

    /// The base that was merged into, 16 or 32 bits
    #[arg(long, value_name = "DIR")]
    model: PathBuf,

    /// The adapter: a folder, or a `.tgz` of one
    #[arg(long, value_name = "ADAPTER")]
    adapter: PathBuf,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let adapter = archive::unpacked(&args.adapter)?;
    let bar = terminal.progress("Verifying", "MiB", 1);
    let report = verify(&args.merged, &args.model, adapter.path(), &|done, of| {
        bar.set_total(of >> 20);
        bar.set(done >> 20);
    })
    .map_err(|e| adapter.told(e))?;
    drop(bar);
    terminal.report(&report);
    Ok(match report.equal {
        true => Exit::Done,
        false => Exit::Verdict,
    })
}
