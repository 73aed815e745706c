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
  vlft build-jsonl --labels labels.csv --images data/pages --mapping my.mapping.toml \\
      --aliases aliases.toml --out data/all.jsonl --force

Rows with one document name form one record with all pages of that document. A label's name and its \
images' names are equal, or equal after a step that the record names in `meta.matched_by` (stem, \
unicode, case, compatible, spaces, copy-number, copy-word, punctuation); beginnings are never compared. What cannot be \
built without guessing is listed in `F.rejects.jsonl` with its reason, and makes the exit code 1; \
everything else is written all the same. Where names say nothing, `F.aliases.suggested.toml` has lines \
that may be right: keep those that are, and pass them with `--aliases`.")]
pub(crate) struct Args {
    /// A `.json` array of rows, `.jsonl`, `.csv`, a Label Studio export (JSON or JSON-MIN), or a
    /// directory with one JSON file per document
    #[arg(long, value_name = "F")]
    labels: PathBuf,

    /// Directories of page images; the first that has a document gives its pages
    #[arg(long, value_name = "DIR", required = true, num_args = 1..)]
    images: Vec<PathBuf>,

    /// What becomes of the columns, and what the model is asked (TOML)
    #[arg(long, value_name = "M.toml")]
    mapping: PathBuf,

    /// Which pages a document has where its name does not say (TOML)
    #[arg(long, value_name = "A.toml")]
    aliases: Option<PathBuf>,

    /// The records
    #[arg(long, value_name = "F.jsonl")]
    out: PathBuf,

    /// Replace the records and rejects of an earlier run
    #[arg(long)]
    force: bool,

    /// Match, check and count, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let options = Options {
        labels: args.labels,
        images: args.images,
        mapping: args.mapping,
        aliases: args.aliases,
        out: args.out,
        existing: Existing::forced(args.force),
        dry_run: args.dry_run,
    };
    let bar = terminal.progress("Building", "documents", 0);
    let report = build::build(&options, &|done, total| {
        bar.set_total(total);
        bar.set(done);
    })?;
    drop(bar);
    terminal.report(&report);
    if let Some(warning) = report.warning() {
        terminal.diagnostic(&warning);
    }
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
        _ if report.dry_run => "Nothing was written".to_owned(),
        Some(out) => format!("Wrote {} to `{out}`", count(report.records, "record")),
        None => "Wrote no records".to_owned(),
    }
}
