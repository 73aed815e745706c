//! Whatever meets a PDF. pdfium is C++ and PDFs are hostile files, so it never runs in this process:
//! workers (this program again, under a hidden command) take one document at a time and say what
//! they did, line by line. A document that crashes, hangs or eats memory costs at most its own pages.
//!
//! [`crate::rasterize`] draws with them, [`crate::inspect`] only looks.

pub(crate) mod draw;
mod encode;
mod engine;
#[cfg(feature = "hayro")]
mod hayro;
mod limits;
mod look;
pub(crate) mod names;
pub(crate) mod pool;
mod process;
pub(crate) mod protocol;
pub(crate) mod reject;
mod selection;
mod size;
pub(crate) mod sources;
mod worker;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use vlft_base::input;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Kind, Result};

pub use engine::Engine;
pub use look::InspectedPage;
pub use process::WorkerProgram;
pub use reject::{Reject, Rule};
pub use selection::Selection;
pub use worker::serve;

use sources::Sources;

/// How documents are opened, and by whom.
#[derive(Clone, Debug)]
pub struct Workers {
    /// How to start this program as a worker.
    pub program: WorkerProgram,
    /// Worker processes; by default one per core.
    pub jobs: Option<NonZeroUsize>,
    /// For opening a document, and for each page.
    pub timeout: Duration,
    /// Memory that one worker, and so one document, may use.
    pub memory_bytes: u64,
    /// Each is tried on a document that asks for one.
    pub passwords: Vec<String>,
    /// `--pdfium`.
    pub pdfium: Option<PathBuf>,
}

impl Workers {
    /// How many to start for this many documents.
    pub(crate) fn size(&self, documents: usize) -> usize {
        let workers = self
            .jobs
            .or_else(|| std::thread::available_parallelism().ok());
        workers.map_or(1, NonZeroUsize::get).min(documents)
    }
}

/// How far a run is; handed to the caller after each document and page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub documents_done: u64,
    pub documents: u64,
    pub pages: u64,
}

/// The documents among the inputs.
///
/// # Errors
/// Inputs that do not exist, and no PDF among them ([`Kind::NothingToDo`]).
pub(crate) fn find_documents(inputs: &[PathBuf]) -> Result<Sources> {
    let sources = sources::collect(inputs)?;
    if sources.documents.is_empty() && sources.rejects.is_empty() {
        let nothing = Diagnostic::error("no PDF was found").with_kind(Kind::NothingToDo);
        let nothing = inputs.iter().fold(nothing, |all, input| all.at(input));
        return Err(nothing.hint("give PDF files, or directories with `*.pdf` in them"));
    }
    Ok(sources)
}

/// Reads `--password-file`: one password per line, each tried on every document that asks.
///
/// # Errors
/// A file that cannot be read, is not UTF-8, or has no password in it.
pub fn read_passwords(path: &Path) -> Result<Vec<String>> {
    let bytes = input::read(path).map_err(|e| cannot("read", path, e))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        Diagnostic::error("the password file is not UTF-8")
            .at(path)
            .caused_by(e.utf8_error())
    })?;
    // A byte order mark is Windows Notepad's, never the password's.
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let passwords: Vec<String> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    if passwords.is_empty() {
        return Err(Diagnostic::error("the password file is empty")
            .at(path)
            .hint("write one password per line"));
    }
    Ok(passwords)
}

/// Paths travel to the workers, and into the manifest, as JSON.
pub(crate) fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Diagnostic::error("this path is not valid Unicode")
            .at(path)
            .hint("rename it")
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_password_file_has_one_password_per_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.txt");
        fs::write(&path, "\u{feff}a b \r\n\nsecond\n").unwrap();
        assert_eq!(read_passwords(&path).unwrap(), ["a b ", "second"]);
        for (content, expected) in [(&b"\n"[..], "empty"), (b"\xff\n", "not UTF-8")] {
            fs::write(&path, content).unwrap();
            let error = read_passwords(&path).unwrap_err();
            assert!(error.message().contains(expected), "{error}");
        }
    }
}
