//! `vlft convert`: other tools' datasets to records and back.

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use vlft_base::format::count;
use vlft_base::input;
use vlft_base::output::{Existing, cannot};
use vlft_base::{Diagnostic, Result};
use vlft_convert::rules::{Effect, RULES};
use vlft_convert::{Format, Options, Report, convert};

use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = help())]
pub(crate) struct Args {
    /// A file, or a folder of olmOCR's pairs
    #[arg(value_name = "F")]
    file: PathBuf,

    /// The format it is in
    #[arg(long, value_name = "X", default_value = "auto", value_parser = from_parser(), hide_possible_values = true)]
    from: Source,

    /// The format to write
    #[arg(long, value_name = "Y", value_parser = to_parser())]
    to: Format,

    /// The converted data; `.json` makes one array, any other name a record a line
    #[arg(long, value_name = "F2")]
    out: PathBuf,

    /// Folders that image paths may start from, besides the file's own; page images of olmOCR's PDFs
    #[arg(long, value_name = "DIR", num_args = 1..)]
    images: Vec<PathBuf>,

    /// Copy all images into a folder beside the output, instead of naming them where they are
    #[arg(long)]
    copy_images: bool,

    /// What the model is asked, for Label Studio and olmOCR, which do not say
    #[arg(long, value_name = "TXT")]
    prompt_file: Option<PathBuf>,

    /// Any loss makes the exit code 1
    #[arg(long)]
    strict: bool,

    /// Replace an earlier output
    #[arg(long)]
    force: bool,

    /// Do everything but write
    #[arg(long)]
    dry_run: bool,
}

/// `None` is `auto`.
#[derive(Clone, Copy, Debug)]
struct Source(Option<Format>);

fn values(formats: impl Iterator<Item = Format>) -> Vec<PossibleValue> {
    formats
        .map(|format| PossibleValue::new(format.name()).help(format.about()))
        .collect()
}

fn from_parser() -> impl TypedValueParser<Value = Source> {
    let auto = PossibleValue::new("auto").help("by the first example; the report says why");
    let mut known = vec![auto];
    known.extend(values(Format::ALL.into_iter()));
    PossibleValuesParser::new(known).map(|name| Source(name.parse().ok()))
}

fn to_parser() -> impl TypedValueParser<Value = Format> {
    let written = Format::ALL.into_iter().filter(|format| format.is_written());
    PossibleValuesParser::new(values(written)).try_map(|name| name.parse::<Format>())
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let prompt = args.prompt_file.as_deref().map(prompt).transpose()?;
    let options = Options {
        input: args.file,
        from: args.from.0,
        to: args.to,
        out: args.out,
        images: args.images,
        copy_images: args.copy_images,
        prompt,
        strict: args.strict,
        existing: Existing::forced(args.force),
        dry_run: args.dry_run,
    };
    let bar = terminal.progress("Converting", "bytes", 0);
    let report = convert(&options, &|done, total| {
        bar.set_total(total);
        bar.set(done);
    })?;
    drop(bar);
    terminal.report(&report);
    for warning in report.warnings() {
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

/// The text of the file without the line feed that editors put at its end.
fn prompt(path: &Path) -> Result<String> {
    let text = input::read_to_string(path).map_err(|e| cannot("read", path, e))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text.trim().is_empty() {
        true => Err(Diagnostic::error("the prompt is empty").at(path)),
        false => Ok(text.to_owned()),
    }
}

fn wrote(report: &Report) -> String {
    let Some(out) = &report.out else {
        return match report.dry_run {
            true => "Nothing was written".to_owned(),
            false => "Wrote no records".to_owned(),
        };
    };
    let mut text = format!("Wrote {} to `{out}`", count(report.written, "record"));
    if let Some(folder) = &report.images_folder {
        text += &format!(", {} to `{folder}`", count(report.images_copied, "image"));
    }
    if let Some(name) = &report.dataset_info {
        text += &format!("; LLaMA-Factory knows it as `{name}` (dataset_info.json beside it)");
    }
    if let Some(losses) = &report.losses_file {
        text += &format!("; every loss is in `{losses}`");
    }
    text
}

fn help() -> String {
    let width = RULES.iter().map(|(id, ..)| id.len()).max().unwrap_or(0);
    let rules = |wanted: Effect| -> String {
        RULES
            .iter()
            .filter(|(_, effect, _)| *effect == wanted)
            .map(|(id, _, meaning)| format!("\n  {id:width$}  {meaning}"))
            .collect()
    };
    format!(
        "\
Examples:
  vlft convert data/all.jsonl --to llama-factory --out lf/invoices.jsonl
  vlft convert train.jsonl --from openai --to vlft --out data/train.jsonl
  vlft convert data/all.jsonl --to trl --out data/all.parquet --strict
  vlft convert export.json --from label-studio --images pages/ --to vlft --out data/all.jsonl

Image paths are written relative to the output. Images that lie inside the input become files named \
by their content in a folder beside it. What the target cannot hold is never dropped in silence: records \
that it cannot hold at all are in `F2.rejects.jsonl` and make the exit code 1, records that lose \
something are written and listed in `F2.losses.jsonl`. docs/formats.md shows every format.

Reasons for rejects (those of `vlft validate` besides):{}

Losses:{}",
        rules(Effect::Rejects),
        rules(Effect::Loses)
    )
}
