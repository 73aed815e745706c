//! What opens and draws PDFs: pdfium, or hayro where somebody asks for it.

use std::path::Path;

use pdfium_render::prelude::{PdfDocument, Pdfium};
use serde::{Deserialize, Serialize};
use vlft_base::input::check_regular;
use vlft_base::{Diagnostic, Result};

use super::draw::{self, Drawn, Refusal};
#[cfg(feature = "hayro")]
use super::hayro;
use super::look::{self, InspectedPage};
use super::protocol::Setup;
use super::reject::Rule;
use crate::manifest::{PageContent, Resolution};
use crate::pdfium;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    #[default]
    Pdfium,
    /// Only in builds with the feature `hayro`.
    Hayro,
}

impl Engine {
    /// Whether this engine drew what a manifest says was drawn by `rasterizer`.
    pub(crate) fn is(self, rasterizer: &str) -> bool {
        rasterizer.starts_with("hayro") == (self == Engine::Hayro)
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Pdfium => Self::Hayro,
            Self::Hayro => Self::Pdfium,
        }
    }

    /// # Errors
    /// An engine that this build does not have.
    pub fn check(self) -> Result<()> {
        if self == Engine::Hayro && !cfg!(feature = "hayro") {
            return Err(
                Diagnostic::error("this vlft was built without the engine `hayro`")
                    .hint("`cargo install --path crates/vlft --features hayro` builds it in"),
            );
        }
        Ok(())
    }
}

/// An engine that is ready, in a worker.
#[derive(Clone, Copy)]
pub(super) enum Ready {
    Pdfium(&'static Pdfium),
    #[cfg(feature = "hayro")]
    Hayro,
}

/// A PDF that is open.
pub(super) enum Document<'a> {
    Pdfium(PdfDocument<'a>),
    #[cfg(feature = "hayro")]
    Hayro(::hayro::hayro_syntax::Pdf),
}

impl Ready {
    pub(super) fn start(setup: &Setup) -> Result<Self> {
        match &setup.library {
            Some(library) => Ok(Self::Pdfium(pdfium::bind(library)?)),
            #[cfg(feature = "hayro")]
            None => Ok(Self::Hayro),
            #[cfg(not(feature = "hayro"))]
            None => Engine::Hayro
                .check()
                .map(|()| unreachable!("it is not built in")),
        }
    }

    /// For manifests.
    pub(super) fn name(self, setup: &Setup) -> String {
        match (self, &setup.library) {
            #[cfg(feature = "hayro")]
            (Self::Hayro, _) => hayro::NAME.to_owned(),
            (_, Some(library)) => library.name(),
            (Self::Pdfium(_), None) => "pdfium".to_owned(),
        }
    }

    /// Opens a PDF; also tells whether it needed a password.
    pub(super) fn open(
        self,
        path: &Path,
        passwords: &[String],
    ) -> Result<(Document<'static>, bool), Refusal> {
        check_regular(path).map_err(|e| (Rule::Unreadable, e.to_string()))?;
        match self {
            Self::Pdfium(pdfium) => {
                let (document, needed) = draw::open(pdfium, path, passwords)?;
                Ok((Document::Pdfium(document), needed))
            }
            #[cfg(feature = "hayro")]
            Self::Hayro => {
                let (document, needed) = hayro::open(path, passwords)?;
                Ok((Document::Hayro(document), needed))
            }
        }
    }
}

impl Document<'_> {
    pub(super) fn pages(&self) -> u32 {
        match self {
            Self::Pdfium(document) => u32::try_from(document.pages().len()).unwrap_or(0),
            #[cfg(feature = "hayro")]
            Self::Hayro(document) => u32::try_from(document.pages().len()).unwrap_or(u32::MAX),
        }
    }

    /// Page `number`, 1-based, drawn into `buffer`.
    pub(super) fn draw<'a>(
        &self,
        number: u32,
        resolution: Resolution,
        buffer: &'a mut Vec<u8>,
    ) -> Result<(Drawn<'a>, Option<PageContent>), Refusal> {
        match self {
            Self::Pdfium(document) => {
                let page = draw::page(document, number)?;
                let drawn = draw::draw(&page, resolution, buffer)?;
                Ok((drawn, look::content(&page)))
            }
            // It tells nothing about the text layer.
            #[cfg(feature = "hayro")]
            Self::Hayro(document) => Ok((hayro::draw(document, number, resolution, buffer)?, None)),
        }
    }

    /// Only pdfium looks; [`crate::inspect`] asks for no other.
    pub(super) fn look(&self, number: u32) -> Result<InspectedPage, Refusal> {
        match self {
            Self::Pdfium(document) => Ok(look::page(&draw::page(document, number)?, number)),
            #[cfg(feature = "hayro")]
            Self::Hayro(_) => unreachable!("`inspect` runs with pdfium"),
        }
    }
}
