//! The options of every command that opens PDFs.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use vlft_base::{Diagnostic, Result};
use vlft_dataset::pdf::{self, Selection, WorkerProgram, Workers};

#[derive(Debug, clap::Args)]
pub(crate) struct PdfArgs {
    /// Only these pages of each document, such as `1-3,7` or `2-`
    #[arg(long, value_name = "PAGES")]
    pub(crate) pages: Option<Selection>,

    /// Worker processes [default: one per CPU core]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,

    /// Passwords, one per line; each is tried on documents that ask for one
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// Time for opening a document, and for each page
    #[arg(long, value_name = "N", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..))]
    timeout_secs: u64,

    /// Memory that one worker may use
    #[arg(long, value_name = "N", default_value_t = 2048,
          value_parser = clap::value_parser!(u64).range(256..))]
    worker_memory_mib: u64,

    /// The libpdfium to use, instead of looking for one
    #[arg(long, value_name = "PATH")]
    pdfium: Option<PathBuf>,
}

impl PdfArgs {
    pub(crate) fn workers(self) -> Result<Workers> {
        let program = std::env::current_exe()
            .map_err(|e| Diagnostic::error("cannot find this program itself").caused_by(e))?;
        Ok(Workers {
            program: WorkerProgram {
                program,
                args: vec!["pdf-worker".into()],
            },
            jobs: self.jobs,
            timeout: Duration::from_secs(self.timeout_secs),
            memory_bytes: self.worker_memory_mib << 20,
            passwords: match &self.password_file {
                Some(path) => pdf::read_passwords(path)?,
                None => Vec::new(),
            },
            pdfium: self.pdfium,
        })
    }
}
