//! libpdfium, the library that draws PDFs, without a hunt. It is not linked but loaded: [`find`]
//! looks in the usual places, [`install`] puts a pinned copy into the cache, [`bind`] loads it once.

mod fetch;
mod locate;

use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use pdfium_render::prelude::{Pdfium, PdfiumError};
use serde::{Deserialize, Serialize};
use vlft_base::{Diagnostic, Result};

pub use fetch::{install, pip_version};
pub use locate::{Source, find};

/// A libpdfium that loads and has every function we call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Library {
    /// A file, or a bare name that the system's loader resolves.
    pub path: PathBuf,
    pub source: Source,
    /// pdfium's build number, where a file beside the library tells it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<u32>,
    /// Why the library that `VLFT_PDFIUM` names was passed over, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_over: Option<String>,
}

impl Library {
    /// For manifests: `pdfium 8149`.
    pub fn name(&self) -> String {
        match self.build {
            Some(build) => format!("pdfium {build}"),
            None => "pdfium".to_owned(),
        }
    }

    /// What somebody set must not be replaced in silence.
    pub fn warning(&self) -> Option<Diagnostic> {
        let why = self.passed_over.as_ref()?;
        let warning = Diagnostic::warning("`VLFT_PDFIUM` does not name a libpdfium that works");
        let instead = format!("{} is used instead: `{}`", self.name(), self.path.display());
        Some(
            warning
                .caused_by(why)
                .caused_by(instead)
                .hint("correct or unset `VLFT_PDFIUM`"),
        )
    }
}

/// Loads the library and starts it. A process does this once; a second call returns the first
/// library, whatever it is given.
pub(crate) fn bind(library: &Library) -> Result<&'static Pdfium> {
    static PDFIUM: OnceLock<Result<Pdfium>> = OnceLock::new();
    PDFIUM
        .get_or_init(|| {
            let bindings = Pdfium::bind_to_library(&library.path).map_err(|e| {
                Diagnostic::error("cannot load libpdfium")
                    .at(&library.path)
                    .caused_by(reason(&e))
                    .hint("`vlft doctor` says which libraries were found")
            })?;
            Ok(Pdfium::new(bindings))
        })
        .as_ref()
        .map_err(Clone::clone)
}

/// Whether the library loads here and has every function we call; it is unloaded again.
fn probe(path: &Path) -> Result<(), String> {
    match Pdfium::bind_to_library(path) {
        Ok(_) => Ok(()),
        // Something was started already, so this process cannot try another one.
        Err(PdfiumError::PdfiumLibraryBindingsAlreadyInitialized) => looks_loadable(path),
        Err(e) => Err(reason(&e)),
    }
}

/// Whether the file begins as libraries do. A bare name is the system's affair.
fn looks_loadable(path: &Path) -> Result<(), String> {
    const SMALLEST: u64 = 4096;
    let Ok(mut file) = File::open(path) else {
        return Ok(());
    };
    let mut head = [0; 4];
    let is_library = file.read_exact(&mut head).is_ok()
        && (head.starts_with(b"\x7fELF")
            || head.starts_with(b"MZ")
            // Mach-O of 64 bits, and several in one file.
            || [[0xcf, 0xfa, 0xed, 0xfe], [0xca, 0xfe, 0xba, 0xbe]].contains(&head));
    match is_library && file.metadata().is_ok_and(|m| m.len() >= SMALLEST) {
        true => Ok(()),
        false => Err("not a library".to_owned()),
    }
}

/// The loader's own words; pdfium-render would print its debug form.
fn reason(error: &PdfiumError) -> String {
    match error {
        PdfiumError::LoadLibraryError(e) => match e.source() {
            Some(source) => source.to_string(),
            None => e.to_string(),
        },
        other => format!("{other:#?}"),
    }
}
