//! `vlft unpack`: images and labels out of zips.

use std::path::PathBuf;

use vlft_base::Result;
use vlft_base::output::Existing;
use vlft_dataset::unpack::{self, Encoding, Limits, Options, Report};

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft unpack labels.zip --out data/labels
  vlft unpack images-*.zip --out data/images
  vlft unpack images.zip --out data/images --dry-run      # only check

All archives are checked before anything is written: names that leave the directory or meet, links, \
encrypted entries, decompression bombs. The same file in two archives is written once.")]
pub(crate) struct Args {
    /// Zip files
    #[arg(required = true, value_name = "ZIP")]
    archives: Vec<PathBuf>,

    /// Directory for the files
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Largest file to unpack
    #[arg(long, value_name = "N", default_value_t = 1024,
          value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    max_entry_mib: u64,

    /// Largest sum of all files
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    max_total_gib: u64,

    /// Most that a file above 16 MiB may grow by unpacking, as a multiple
    #[arg(long, value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u64).range(1..))]
    max_ratio: u64,

    /// Of names that are not UTF-8, such as `shift_jis` or `cp437` [default: guessed, and told]
    #[arg(long, value_name = "NAME", value_parser = encoding)]
    encoding: Option<Encoding>,

    /// Replace `--out` as a whole
    #[arg(long)]
    force: bool,

    /// Check and count, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let options = Options {
        archives: args.archives,
        out: args.out,
        existing: Existing::forced(args.force),
        limits: Limits {
            entry_bytes: args.max_entry_mib << 20,
            total_bytes: args.max_total_gib << 30,
            ratio: args.max_ratio,
        },
        encoding: args.encoding,
        dry_run: args.dry_run,
    };
    let bar = terminal.progress("Unpacking", "bytes", 0);
    let report = unpack::unpack(&options, &|done, total| {
        bar.set_total(total);
        bar.set(done);
    })?;
    drop(bar);
    terminal.report(&report);
    if let Some(warning) = report.warning() {
        terminal.diagnostic(&warning);
    }
    terminal.note(where_it_is(&report));
    Ok(Exit::Done)
}

fn encoding(name: &str) -> Result<Encoding, String> {
    Encoding::named(name).ok_or_else(|| "no such encoding".to_owned())
}

fn where_it_is(report: &Report) -> String {
    let out = report.out.display();
    match (report.already_there, report.dry_run) {
        (true, _) => format!("`{out}` holds all of it already; nothing was written"),
        (_, true) => "Nothing was written".to_owned(),
        _ => format!("Wrote `{out}`"),
    }
}
