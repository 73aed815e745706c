//! `vlft build-jsonl`: labels and page images become records.

use std::path::PathBuf;

use vlft_base::Result;
use vlft_base::format::count;
use vlft_base::output::Existing;
use vlft_dataset::build::{self, BuildReport, Options};

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft build-jsonl --labels results.json --images data/pages \\
      --mapping configs/bill-of-lading.mapping.toml --out data/all.jsonl
  vlft build-jsonl --labels labels.csv --images data/pages data/unpacked \\
      --mapping my.mapping.toml --out data/all.jsonl

Rows with one document name form one record with all pages of that document. A label's name and its \
images' names are equal, or equal after a step that the record names in `meta.matched_by` (stem, \
unicode, case, spaces, copy-number, punctuation); beginnings are never compared. What cannot be \
built without guessing is listed in `F.rejects.jsonl` with its reason, and makes the exit code 1; \
everything else is written all the same.")]
pub(crate) struct Args {
    /// A `.json` array of rows, `.jsonl`, `.csv`, or a directory with one JSON file per document
    #[arg(long, value_name = "F")]
    labels: PathBuf,

    /// Directories of page images; the first that has a document gives its pages
    #[arg(long, value_name = "DIR", required = true, num_args = 1..)]
    images: Vec<PathBuf>,

    /// What becomes of the columns, and what the model is asked (TOML)
    #[arg(long, value_name = "M.toml")]
    mapping: PathBuf,

    /// The records
    #[arg(long, value_name = "F.jsonl")]
    out: PathBuf,

    /// Replace the records and rejects of an earlier run
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let report = build::build(&Options {
        labels: args.labels,
        images: args.images,
        mapping: args.mapping,
        out: args.out,
        existing: Existing::forced(args.force),
    })?;
    terminal.report(&report);
    if let Some(problem) = report.problem() {
        terminal.diagnostic(&problem);
    }
    terminal.note(wrote(&report));
    Ok(match report.is_clean() {
        true => Exit::Done,
        false => Exit::Verdict,
    })
}

fn wrote(report: &BuildReport) -> String {
    match &report.out {
        Some(out) => format!("Wrote {} to `{out}`", count(report.records, "record")),
        None => "Wrote no records".to_owned(),
    }
}
