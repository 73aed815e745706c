//! `vlft split`: train, val and test that cannot leak; `--check` judges splits made elsewhere.

use std::path::PathBuf;

use vlft_base::output::Existing;
use vlft_base::{Diagnostic, Result};
use vlft_dataset::split::{self, Fractions, Options, Stratify};

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft split data/all.jsonl --out data/splits
  vlft split data/all.jsonl --out data/splits --train 0.9 --val 0.1 --test 0 --seed 7
  vlft split --check data/splits
  vlft split --check train.jsonl val.jsonl test.jsonl
  vlft split data/all.jsonl --out data/splits --stratify meta.doc_type

Records of one document stay together, and so do documents that come from one source file, show the same \
page (the same bytes, or the same looks: saved again, scaled, scanned twice) or have the same answer. What \
more than 8 documents have, such as the back of a form, ties nothing together.

The side of a document is a function of the seed and its name, and of nothing else: adding records never \
moves a document, unless a new record ties two together. Of few documents the shares come out uneven; the \
report then names a seed that gives better ones. `--exact` keeps the shares instead, and moves documents \
when the set grows.")]
pub(crate) struct Args {
    /// The records; with `--check` the files to compare, or a directory of them
    #[arg(required = true, value_name = "F.jsonl")]
    inputs: Vec<PathBuf>,

    /// Directory for `train.jsonl`, `val.jsonl` and `test.jsonl`
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "check",
        conflicts_with = "check"
    )]
    out: Option<PathBuf>,

    /// Share of train
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.8,
        conflicts_with = "check"
    )]
    train: f64,

    /// Share of val; 0 writes none
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.1,
        conflicts_with = "check"
    )]
    val: f64,

    /// Share of test; 0 writes none
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.1,
        conflicts_with = "check"
    )]
    test: f64,

    /// The key of `meta` whose values stay together
    #[arg(long, value_name = "KEY", default_value = "document")]
    by: String,

    /// Another seed gives another split
    #[arg(
        long,
        visible_alias = "salt",
        value_name = "N",
        default_value_t = 42,
        conflicts_with = "check"
    )]
    seed: u64,

    /// Keep the shares: documents change sides where they are off, and may do so again when the set grows
    #[arg(long, conflicts_with = "check")]
    exact: bool,

    /// Report how evenly a value is spread: `meta.KEY`, or `target.KEY` of the answer; with `--exact`
    /// spread it evenly
    #[arg(long, value_name = "KEY", conflicts_with = "check")]
    stratify: Option<String>,

    /// Compare images by their bytes only, not by what they look like
    #[arg(long)]
    no_looks: bool,

    /// Replace the three files of an earlier split
    #[arg(long, conflicts_with = "check")]
    force: bool,

    /// Say what the split would be, and write nothing
    #[arg(long, conflicts_with = "check")]
    dry_run: bool,

    /// Write nothing; list what is on more than one side
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let bar = terminal.progress("Comparing", "images", 0);
    let progress = |done: u64, of: u64| {
        bar.set_total(of);
        bar.set(done);
    };
    let Some(out) = args.out else {
        let report = split::check(&args.inputs, &args.by, !args.no_looks, &progress)?;
        drop(bar);
        terminal.report(&report);
        return Ok(match report.is_clean() {
            true => Exit::Done,
            false => Exit::Verdict,
        });
    };
    let fractions = Fractions::new(args.train, args.val, args.test)?;
    let [file] = <[PathBuf; 1]>::try_from(args.inputs).map_err(|inputs| {
        Diagnostic::error("`vlft split` splits one file")
            .found(format!("{}", inputs.len()))
            .hint("`--check` compares several")
    })?;
    let stratify = args.stratify.as_deref().map(Stratify::parse).transpose()?;
    let options = Options {
        file,
        out: out.clone(),
        fractions,
        by: args.by,
        seed: args.seed,
        exact: args.exact,
        stratify,
        looks: !args.no_looks,
        existing: Existing::forced(args.force),
        dry_run: args.dry_run,
    };
    let report = split::split(&options, &progress)?;
    drop(bar);
    terminal.report(&report);
    if let Some(warning) = report.warning() {
        terminal.diagnostic(&warning);
    }
    if args.dry_run {
        terminal.note("Nothing was written");
        return Ok(Exit::Done);
    }
    let names: Vec<&str> = report.sides.iter().map(|side| side.name).collect();
    terminal.note(format!(
        "Wrote `{}/{{{}}}.jsonl`; the same seed and records give the same split",
        out.display(),
        names.join(",")
    ));
    Ok(Exit::Done)
}
