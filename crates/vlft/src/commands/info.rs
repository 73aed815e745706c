//! `vlft info`: what is in a folder of a model, an adapter or a run.

use std::path::PathBuf;

use vlft_base::Result;
use vlft_checkpoint::archive;
use vlft_checkpoint::info::info_of;

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft info models/Qwen3-VL-8B-Instruct
  vlft info runs/bol-01 --format json

Of a model: architecture, sizes, parameters by part, types, quantisation, whether every shard, name and \
shape is there, and the memory its weights need. Models of other families are refused by name.")]
pub(crate) struct Args {
    /// A model, an adapter (a folder or a `.tgz`), or a run
    #[arg(value_name = "DIR")]
    path: PathBuf,

    /// Also the SHA-256 of every file; reads all of them
    #[arg(long)]
    hash: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let found = archive::unpacked(&args.path)?;
    let info = info_of(found.path(), found.archive(), args.hash);
    terminal.report(&info.map_err(|e| found.told(e))?);
    Ok(Exit::Done)
}
