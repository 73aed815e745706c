//! `vlft rasterize`: PDFs to page images and a manifest.

use std::path::PathBuf;

use clap::ArgAction;
use vlft_base::format::count;
use vlft_base::output::Existing;
use vlft_base::{Diagnostic, Result};
use vlft_dataset::manifest::{ImageFormat, Resolution};
use vlft_dataset::pdf::{self, Engine};
use vlft_dataset::pdfium::Library;
use vlft_dataset::rasterize::{self, Options, Report, Shard, ShardChoice};

use super::pdf_workers::PdfArgs;
use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft rasterize scans/ --out data/pages
  vlft rasterize scans/ extra.pdf --out data/pages --dpi 200 --format jpeg
  vlft rasterize scans/ --out data/pages --max-pixels 1310720 --password-file passwords.txt
  vlft rasterize scans/ --out data/pages --shard 2/8      # one of eight machines
  vlft rasterize scans/ --out data/pages --shard auto     # of a Slurm array and others

The same command again does only what is missing; a PDF that has changed is drawn anew. Documents and pages that fail are listed in \
`rejects.jsonl` beside the manifest and make the exit code 1; everything else is written all the \
same.")]
pub(crate) struct Args {
    /// PDF files, and directories to search for them
    #[arg(required = true, value_name = "PDF_OR_DIR")]
    inputs: Vec<PathBuf>,

    /// Directory for the images, `manifest.jsonl` and `rejects.jsonl`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Resolution in dots per inch
    #[arg(long, value_name = "N", default_value_t = 150, conflicts_with = "max_pixels",
          value_parser = clap::value_parser!(u32).range(10..=1200))]
    dpi: u32,

    /// At most this many pixels a page (and at most 200 dpi), instead of `--dpi`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1024..))]
    max_pixels: Option<u64>,

    /// With `--max-pixels`: exactly the size that the model's processor would make of the page
    #[arg(long, requires = "max_pixels")]
    model_size: bool,

    /// Of the images: `png`, `jpeg` or `webp` (lossless); or of the report, as for every command
    // The id and the type are those of the global option; see `cli.rs`.
    #[arg(long, value_name = "FORMAT", action = ArgAction::Append,
          value_parser = ["png", "jpeg", "webp", "text", "json"])]
    format: Vec<String>,

    /// What draws: `pdfium`, or `hayro` as a second opinion (in builds with that feature)
    #[arg(long, value_name = "ENGINE", default_value = "pdfium", hide_default_value = true,
          value_parser = ["pdfium", "hayro"])]
    engine: String,

    /// Do only part I of N, or the one that the environment names: `auto`, `auto/N`
    #[arg(long, value_name = "I/N")]
    shard: Option<ShardChoice>,

    #[command(flatten)]
    pdf: PdfArgs,

    /// Start over: remove the images and manifests of earlier runs in `--out`
    #[arg(long)]
    force: bool,

    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let dry_run = args.dry_run;
    let options = options(args, terminal)?;
    if dry_run {
        let plan = rasterize::plan(&options)?;
        terminal.report(&plan);
        return Ok(verdict(plan.rejects.is_empty()));
    }
    let bar = terminal.progress("Rasterizing", "documents", 0);
    let report = rasterize::rasterize(&options, &|progress| {
        bar.set_total(progress.documents);
        bar.set(progress.documents_done);
    })?;
    drop(bar);
    terminal.report(&report);
    if let Some(warning) = report.library.as_ref().and_then(Library::warning) {
        terminal.diagnostic(&warning);
    }
    if let Some(problem) = report.problem() {
        terminal.diagnostic(&problem);
    }
    terminal.note(wrote(&report));
    Ok(verdict(report.rejects.is_empty()))
}

/// Below this the processor may enlarge what `--model-size` made small.
const MODEL_PIXELS: u64 = 131_072;

fn verdict(good: bool) -> Exit {
    match good {
        true => Exit::Done,
        false => Exit::Verdict,
    }
}

fn wrote(report: &Report) -> String {
    let (out, manifest) = (report.out.display(), report.manifest.display());
    match report.pages.written {
        0 => format!(
            "No new page; `{out}` has {}",
            count(report.pages.kept, "page")
        ),
        pages => format!(
            "Wrote {} of {} to `{out}` (manifest `{manifest}`)",
            count(pages, "page"),
            count(report.documents.rasterized, "document"),
        ),
    }
}

fn options(args: Args, terminal: &Terminal) -> Result<Options> {
    let image = |name: &String| match name.as_str() {
        "png" => Some(ImageFormat::Png),
        "jpeg" => Some(ImageFormat::Jpeg),
        "webp" => Some(ImageFormat::Webp),
        _ => None,
    };
    if let Some(pixels) = args
        .max_pixels
        .filter(|n| args.model_size && *n < MODEL_PIXELS)
    {
        return Err(Diagnostic::error("too few pixels for `--model-size`")
            .expected(format!("`--max-pixels` of at least {MODEL_PIXELS}"))
            .found(format!("{pixels}"))
            .hint("the model's processor makes no image smaller than 65 536 pixels"));
    }
    let shard = match args.shard {
        Some(choice) => Some(resolve(choice, terminal)?),
        None => None,
    };
    Ok(Options {
        inputs: args.inputs,
        out: args.out,
        resolution: match args.max_pixels {
            Some(pixels) if args.model_size => Resolution::ModelPixels(pixels),
            Some(pixels) => Resolution::MaxPixels(pixels),
            None => Resolution::Dpi(args.dpi),
        },
        format: args
            .format
            .iter()
            .filter_map(image)
            .next_back()
            .unwrap_or(ImageFormat::Png),
        engine: match args.engine.as_str() {
            "hayro" => Engine::Hayro,
            _ => Engine::Pdfium,
        },
        selected: args.pdf.pages.clone(),
        shard,
        existing: Existing::forced(args.force),
        workers: args.pdf.workers()?,
    })
}

fn resolve(choice: ShardChoice, terminal: &Terminal) -> Result<Shard> {
    let (shard, source) = choice.resolve(&|name| std::env::var(name).ok())?;
    if let Some(source) = source {
        let Shard { index, count } = shard;
        let (engine, variable) = (source.engine, source.variable);
        terminal.note(format!(
            "This is shard {index} of {count} ({engine}, `{variable}`)"
        ));
    }
    Ok(shard)
}

/// The hidden command as which `rasterize` and `inspect` start this program again.
pub(crate) fn work() -> Result<Exit> {
    let (from_parent, to_parent) = crate::terminal::pipe();
    pdf::serve(from_parent, to_parent)?;
    Ok(Exit::Done)
}
