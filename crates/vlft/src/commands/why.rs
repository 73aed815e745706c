//! `vlft why`: where a record came from.

use std::path::PathBuf;

use vlft_base::Result;
use vlft_dataset::why::{Options, why};

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft why data/splits/train.jsonl invoice-0117
  vlft why data/all.jsonl :240 --format json

Follows the lineage files that every command leaves beside its output: the splits the record went \
through, the rows of the labels and the mapping it was made from, and for each page image the PDF and \
page or the entry of the zip. All of them are compared with what is there now; what has changed or is \
gone since is told, and makes the exit code 1.")]
pub(crate) struct Args {
    /// The records
    #[arg(value_name = "F.jsonl")]
    file: PathBuf,

    /// An id, or `:N` for line N
    #[arg(value_name = "ID")]
    which: String,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let found = why(&Options {
        file: args.file,
        which: args.which,
    })?;
    terminal.report(&found);
    match found.problem() {
        Some(problem) => {
            terminal.diagnostic(&problem);
            Ok(Exit::Verdict)
        }
        None => {
            terminal.note("Nothing that is known of it has changed since");
            Ok(Exit::Done)
        }
    }
}
