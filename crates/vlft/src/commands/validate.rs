//! `vlft validate`: every problem of a JSONL file.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use vlft_base::Result;
use vlft_base::output::Existing;
use vlft_dataset::rules::{self, Explained, RULES, Section, Selection};
use vlft_dataset::token_counter::TokenCounter;
use vlft_dataset::validate::{self, Decode, Options};

use super::token_counter;
use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = help())]
pub(crate) struct Args {
    /// The records
    #[arg(value_name = "F.jsonl", required_unless_present = "explain")]
    file: Option<PathBuf>,

    /// Count tokens as this model's training does
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,

    /// A record may have at most this many tokens
    #[arg(long, value_name = "N", requires = "model")]
    max_tokens: Option<usize>,

    /// Count tokens as with `data.max_pixels`
    #[arg(long, value_name = "N", requires = "model")]
    max_pixels: Option<u64>,

    /// Every answer must satisfy this JSON Schema
    #[arg(long, value_name = "S.json")]
    target_schema: Option<PathBuf>,

    /// How closely to look at images: to the last pixel, at their headers, or only that they are there
    #[arg(long, value_name = "HOW", default_value = "full",
          value_parser = PossibleValuesParser::new(["full", "header", "none"]).map(|how| match how.as_str() {
              "header" => Decode::Header,
              "none" => Decode::None,
              _ => Decode::Full,
          }))]
    decode: Decode,

    /// Look at these rules only: ids, or sections such as `schema`
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    only: Vec<String>,

    /// Leave these rules out
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    skip: Vec<String>,

    /// Say what a rule finds, why it matters and what to do, and end
    #[arg(long, value_name = "RULE", conflicts_with_all = ["file", "fix_out", "model"])]
    explain: Option<String>,

    /// Write the valid records, and those that can be mended without guessing, here
    #[arg(long, value_name = "F2.jsonl")]
    fix_out: Option<PathBuf>,

    /// Replace `--fix-out`
    #[arg(long, requires = "fix_out")]
    force: bool,

    /// Count what `--fix-out` would hold, and write nothing
    #[arg(long, requires = "fix_out")]
    dry_run: bool,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    if let Some(rule) = &args.explain {
        terminal.report(&Explained::from(rules::find(rule)?));
        return Ok(Exit::Done);
    }
    let file = args.file.expect("it is required without `--explain`");
    let rules = Selection::new(&args.only, &args.skip)?;
    let counter = token_counter(args.model.as_deref(), args.max_pixels)?;
    let size = std::fs::metadata(&file).map_or(0, |file| file.len());
    let bar = terminal.progress("Validating", "bytes", size);
    let options = Options {
        file,
        decode: args.decode,
        rules,
        target_schema: args.target_schema,
        max_tokens: args.max_tokens,
        fix_out: args.fix_out,
        existing: Existing::forced(args.force),
        dry_run: args.dry_run,
    };
    let summary = validate::validate(
        &options,
        counter.as_ref().map(|counter| counter as &dyn TokenCounter),
        &mut |problem| terminal.line(&problem),
        &|bytes| bar.set(bytes),
    )?;
    drop(bar);
    terminal.line(&summary);
    if let Some(fixed) = &summary.fixed {
        terminal.note(match options.dry_run {
            true => "Nothing was written".to_owned(),
            false => format!("Wrote `{}`", fixed.out),
        });
    } else if !summary.is_valid() {
        terminal
            .note("hint: `--fix-out F2.jsonl` writes the records that are valid or can be mended");
    }
    Ok(match summary.is_valid() {
        true => Exit::Done,
        false => Exit::Verdict,
    })
}

fn help() -> String {
    let width = RULES.iter().map(|about| about.id.len()).max().unwrap_or(0);
    let mut rules = String::new();
    for section in Section::ALL {
        rules += &format!("\n {}:", section.name());
        for about in RULES.iter().filter(|about| about.section == section) {
            rules += &format!("\n  {:width$}  {}", about.id, about.meaning);
        }
    }
    format!(
        "\
Examples:
  vlft validate data/all.jsonl --target-schema schemas/bill-of-lading.schema.json
  vlft validate data/all.jsonl --model models/Qwen3-VL-8B-Instruct --max-tokens 4096
  vlft validate data/all.jsonl --fix-out data/fixed.jsonl
  vlft validate data/all.jsonl --only schema,turns,duplicate-id
  vlft validate --explain conflicting-answers
  vlft validate data/all.jsonl --format json | jq 'select(.rule == \"image-missing\").id'

Rules, by section (`--explain RULE` says more; docs/rules.md has them all):{rules}"
    )
}
