//! `vlft inspect`: what PDFs are made of, and which need a model that looks.

use std::path::PathBuf;

use vlft_base::Result;
use vlft_dataset::inspect::{self, Options};

use super::pdf_workers::PdfArgs;
use crate::exit::Exit;
use crate::terminal::Terminal;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  vlft inspect scans/
  vlft inspect scans/ extra.pdf --pages 1-3 --password-file passwords.txt
  vlft inspect scans/ --format json > inspected.json

A page is born-digital (its text is text), scanned (a picture), scanned with OCR (a picture with \
text that a program read), mixed (text beside large pictures), drawn (lines but no text) or empty. \
A document whose pages differ is mixed. Nothing is drawn and nothing is written. Documents that \
cannot be opened make the exit code 1.")]
pub(crate) struct Args {
    /// PDF files, and directories to search for them
    #[arg(required = true, value_name = "PDF_OR_DIR")]
    inputs: Vec<PathBuf>,

    #[command(flatten)]
    pdf: PdfArgs,
}

pub(crate) fn run(args: Args, terminal: &Terminal) -> Result<Exit> {
    let options = Options {
        inputs: args.inputs,
        selected: args.pdf.pages.clone(),
        workers: args.pdf.workers()?,
    };
    let bar = terminal.progress("Inspecting", "documents", 0);
    let report = inspect::inspect(&options, &|progress| {
        bar.set_total(progress.documents);
        bar.set(progress.documents_done);
    })?;
    drop(bar);
    terminal.report(&report);
    match report.problem() {
        Some(problem) => {
            terminal.diagnostic(&problem);
            Ok(Exit::Verdict)
        }
        None => Ok(Exit::Done),
    }
}
