//! The commands, one file each: arguments -> library options -> library call -> one report type
//! -> terminal.
//!
//! To add the command `vlft wash`:
//! 1. `commands/wash.rs` with `pub(crate) struct Args` (`#[derive(Debug, clap::Args)]`, a doc
//!    comment for each argument, and `#[command(after_long_help = "Examples:\n  vlft wash ..")]`
//!    with two examples) and `pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit>`.
//!    The report (`Serialize + Display`) is defined in the library; show it with
//!    `terminal.report(&report)`, streams with `terminal.line(&item)`.
//! 2. In this file: `mod wash;`, a variant with a one-line doc comment, an arm in `run`. Keep the
//!    order of the road: get data, prepare, look, train, use. A command that needs burn carries
//!    `#[cfg(feature = "train")]` in all three places.
//! 3. Warnings: `terminal.diagnostic(&warning)`. Waiting: `terminal.progress(..)`. The last line on
//!    stderr says where the output is: `terminal.note("Wrote .. to `DIR`")`. An error is returned,
//!    never printed here. `Ok(Exit::Verdict)` means: ran, and the verdict is no.

#[cfg(feature = "train")]
mod bench;
mod build_jsonl;
mod check_adapter;
mod completions;
mod convert;
#[cfg(feature = "train")]
mod demo;
mod doctor;
#[cfg(feature = "train")]
mod eval;
mod exit_codes;
mod info;
mod inspect;
mod lineage;
mod merge;
mod pdf_workers;
#[cfg(feature = "train")]
mod plan;
mod rasterize;
mod show;
mod split;
mod stats;
#[cfg(feature = "train")]
mod train;
mod unpack;
mod validate;
mod verify;
mod why;

use std::path::Path;

use clap::{CommandFactory, Subcommand};
use vlft_base::Result;
use vlft_checkpoint::Family;
use vlft_processor::processor::{Options, Processor};

use crate::cli::Cli;
use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The whole road on invented documents: PDFs in, an adapter out, in about two minutes
    #[cfg(feature = "train")]
    Demo(demo::Args),
    /// Draw the pages of PDFs: images and a manifest
    Rasterize(rasterize::Args),
    /// What PDFs are made of, and which need a model that looks
    Inspect(inspect::Args),
    /// A worker of `rasterize` and `inspect`; they start them themselves
    #[command(hide = true)]
    PdfWorker,
    /// Take images and labels out of zips, safely
    Unpack(unpack::Args),
    /// Labels and page images to records
    BuildJsonl(build_jsonl::Args),
    /// Other tools' datasets to records and back; what cannot be held is told
    Convert(convert::Args),
    /// Every problem of a JSONL file, with its line and what to do
    Validate(validate::Args),
    /// Train, val and test that cannot leak
    Split(split::Args),
    /// What a dataset is made of: sizes, tokens, label coverage
    Stats(stats::Args),
    /// One record as the model sees it, what is trained on marked
    Show(show::Args),
    /// Where a record came from, and what has changed since
    Why(why::Args),
    /// Memory, time and cost of a training run, and what to change, before renting a GPU
    #[cfg(feature = "train")]
    Plan(plan::Args),
    /// Train a LoRA adapter; the same command resumes
    #[cfg(feature = "train")]
    Train(train::Args),
    /// The loss of a model, with or without an adapter, on a data set
    #[cfg(feature = "train")]
    Eval(eval::Args),
    /// How fast this machine trains, and where time and memory go; models of random weights to try it on
    #[cfg(feature = "train")]
    Bench(bench::Args),
    /// An adapter into a checkpoint that transformers and vLLM load
    Merge(merge::Args),
    /// Is a merged model base + adapter, bit for bit?
    Verify(verify::Args),
    /// Will vLLM apply every tensor of an adapter, and with which flags?
    CheckAdapter(check_adapter::Args),
    /// What is in a folder of a model, an adapter or a run
    Info(info::Args),
    /// Check this machine: libpdfium, memory, disk; `--fix` installs libpdfium
    Doctor(doctor::Args),
    /// A script that completes commands and options in your shell
    Completions(completions::Args),
    /// Manual pages
    Man(completions::ManArgs),
    /// What the exit codes mean
    #[command(hide = true, long_about = exit_codes::explanation())]
    ExitCodes,
}

/// What counts tokens as training with this model and `data.max_pixels` would, if a model is given.
fn token_counter(model: Option<&Path>, max_pixels: Option<u64>) -> Result<Option<Processor>> {
    if let Some(model) = model {
        Family::check_dir(model)?;
    }
    let options = Options {
        max_pixels,
        ..Options::default()
    };
    model
        .map(|model| Processor::from_dir(model, &options))
        .transpose()
}

impl Command {
    pub(crate) fn run(self, terminal: &Terminal) -> Result<Exit> {
        match self {
            #[cfg(feature = "train")]
            Command::Demo(args) => demo::run(args, terminal),
            Command::Rasterize(args) => rasterize::run(args, terminal),
            Command::Inspect(args) => inspect::run(args, terminal),
            Command::PdfWorker => rasterize::work(),
            Command::Unpack(args) => unpack::run(args, terminal),
            Command::BuildJsonl(args) => build_jsonl::run(args, terminal),
            Command::Convert(args) => convert::run(args, terminal),
            Command::Validate(args) => validate::run(args, terminal),
            Command::Split(args) => split::run(args, terminal),
            Command::Stats(args) => stats::run(args, terminal),
            Command::Show(args) => show::run(args, terminal),
            Command::Why(args) => why::run(args, terminal),
            #[cfg(feature = "train")]
            Command::Plan(args) => plan::run(args, terminal),
            #[cfg(feature = "train")]
            Command::Train(args) => train::run(args, terminal),
            #[cfg(feature = "train")]
            Command::Eval(args) => eval::run(args, terminal),
            #[cfg(feature = "train")]
            Command::Bench(args) => bench::run(args, terminal),
            Command::Merge(args) => merge::run(args, terminal),
            Command::Verify(args) => verify::run(args, terminal),
            Command::CheckAdapter(args) => check_adapter::run(args, terminal),
            Command::Info(args) => info::run(args, terminal),
            Command::Doctor(args) => doctor::run(args, terminal),
            Command::Completions(args) => completions::run(args, terminal),
            Command::Man(args) => completions::manual(args, terminal),
            Command::ExitCodes => exit_codes::run(terminal),
        }
    }

    /// The commands a person may type, in the order of the help.
    pub(crate) fn names() -> Vec<String> {
        Cli::command()
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
            .map(|c| c.get_name().to_owned())
            .collect()
    }
}
