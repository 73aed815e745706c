//! `vlft stats`: what a dataset is made of.

use std::path::PathBuf;
use std::sync::Mutex;

use vlft_base::Result;
use vlft_base::format::{bytes, count};
use vlft_base::output::Existing;
use vlft_dataset::stats::page::{Options as Page, PageReport};
use vlft_dataset::stats::{self, COMMON_MAX_PIXELS, COMMON_MAX_TOKENS, Options, Stage, Step};
use vlft_dataset::token_counter::TokenCounter;

use super::token_counter;
use crate::exit::Exit;
use crate::terminal::{Progress, Terminal};

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft stats data/all.jsonl
  vlft stats data/splits/train.jsonl --model models/Qwen3-VL-8B-Instruct --max-pixels 1310720
  vlft stats data/all.jsonl --html look.html

`--html` writes one page that opens from the disk and needs nothing else: histograms, and every \
record with a thumbnail beside its answer, the worst first, what `vlft validate` finds marked.

`effective dpi` is the resolution at which a page reaches the model: that of the page image, times \
what the resize leaves of it. The table shows it at the pixel limit in use (`*`) and at others, with \
the tokens they cost. The dpi of an image is that of the manifest of `vlft rasterize`; an image \
without one that has the shape of A4, Letter or Legal is assumed to be such a page, and counted as \
assumed.")]
pub(crate) struct Args {
    /// The records
    #[arg(value_name = "F.jsonl")]
    file: PathBuf,

    /// Count tokens as this model's training does
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// Resize as with `data.max_pixels`
    #[arg(long, value_name = "N", requires = "model")]
    max_pixels: Option<u64>,

    /// Pixel limits to compare, instead of the usual ones
    #[arg(long, value_name = "N,N..", value_delimiter = ',',
          value_parser = clap::value_parser!(u64).range(1024..))]
    at_max_pixels: Option<Vec<u64>>,

    /// Token limits at which to say who would be cut, instead of the usual ones
    #[arg(long, value_name = "N,N..", value_delimiter = ',', requires = "model",
          value_parser = clap::value_parser!(u64).range(1..))]
    at_max_tokens: Option<Vec<u64>>,

    /// Write a page to look at: histograms, records with thumbnails, the worst first
    #[arg(long, value_name = "OUT.html")]
    html: Option<PathBuf>,

    /// At most so many records are on the page: the worst
    #[arg(long, value_name = "N", requires = "html", default_value_t = 20_000)]
    html_records: usize,

    /// Mark answers on the page that do not satisfy this JSON Schema
    #[arg(long, value_name = "S.json", requires = "html")]
    target_schema: Option<PathBuf>,

    /// Replace `--html`
    #[arg(long, requires = "html")]
    force: bool,

    /// Measure, but write no page
    #[arg(long, requires = "html")]
    dry_run: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let counter = token_counter(args.model.as_deref(), args.max_pixels)?;
    let page = args.html.map(|out| Page {
        out,
        existing: Existing::forced(args.force),
        records: args.html_records,
        target_schema: args.target_schema,
        dry_run: args.dry_run,
    });
    let options = Options {
        file: args.file,
        page,
        max_pixels: args.at_max_pixels.unwrap_or(COMMON_MAX_PIXELS.into()),
        max_tokens: args.at_max_tokens.unwrap_or(COMMON_MAX_TOKENS.into()),
    };
    let bars = Bars::new(terminal);
    let report = stats::stats(
        &options,
        counter.as_ref().map(|counter| counter as &dyn TokenCounter),
        &|step| bars.show(step),
    )?;
    drop(bars);
    terminal.report(&report);
    if let Some(page) = &report.page {
        terminal.note(wrote(page));
    }
    Ok(match report.problem() {
        Some(problem) => {
            terminal.diagnostic(&problem);
            Exit::Verdict
        }
        None => Exit::Done,
    })
}

fn wrote(page: &PageReport) -> String {
    let PageReport { out, .. } = page;
    let what = format!(
        "{} and {} ({})",
        count(page.records, "record"),
        count(page.thumbnails, "thumbnail"),
        bytes(page.bytes)
    );
    match page.dry_run {
        true => format!("`{out}` would hold {what}; nothing was written"),
        false => format!("Wrote {what} to `{out}`"),
    }
}

/// One bar after the other, as the work goes from stage to stage.
struct Bars<'a> {
    terminal: &'a Terminal,
    current: Mutex<Option<(Stage, Progress)>>,
}

impl<'a> Bars<'a> {
    fn new(terminal: &'a Terminal) -> Self {
        Self {
            terminal,
            current: Mutex::new(None),
        }
    }

    fn show(&self, step: Step) {
        let Ok(mut current) = self.current.lock() else {
            return;
        };
        if current
            .as_ref()
            .is_none_or(|(stage, _)| *stage != step.stage)
        {
            // The old one goes before the new one is drawn.
            *current = None;
            let (what, unit) = match step.stage {
                Stage::Measuring => ("Measuring", "bytes"),
                Stage::Comparing => ("Comparing", "images"),
                Stage::Checking => ("Checking", "bytes"),
                Stage::Drawing => ("Drawing", "thumbnails"),
            };
            *current = Some((step.stage, self.terminal.progress(what, unit, step.of)));
        }
        if let Some((_, bar)) = current.as_ref() {
            bar.set(step.done);
        }
    }
}
