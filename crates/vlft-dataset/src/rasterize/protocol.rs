//! What the parent and a worker say to each other: JSON Lines over the worker's stdin and stdout.
//! First a [`Setup`], answered by [`Answer::Ready`]; then [`Job`]s, one at a time, each answered by
//! its pages as they are done and closed by `Done`, `Unchanged` or `Failed`.

use std::fs;

use serde::{Deserialize, Serialize};
use vlft_base::Diagnostic;

use super::output::Output;
use super::reject::Rule;
use crate::manifest::{ImageFormat, PageEntry, Resolution};
use crate::pdfium::Library;

/// Passwords travel here and not in the arguments, which every user of the machine can see.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) library: Library,
    /// Directory below which all images are written.
    pub(super) out: String,
    pub(super) resolution: Resolution,
    pub(super) format: ImageFormat,
    pub(super) passwords: Vec<String>,
    pub(super) memory_bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) document: String,
    /// The file to open.
    pub(super) source: String,
    /// Where images go: relative to `out`, without `-p001.png`.
    pub(super) stem: String,
    pub(super) known: Option<Known>,
    /// Pages that killed a worker before.
    pub(super) skip: Vec<u32>,
}

/// What an earlier run left of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) sha256: String,
    pub(super) pages: u32,
    /// Pages whose image is there.
    pub(super) present: Vec<u32>,
}

impl Known {
    pub(super) fn of(document: &str, output: &Output) -> Option<Self> {
        let entries = output.pages_of(document);
        let first = entries.first()?;
        // The size tells a file that was cut short by a power failure.
        let whole = |entry: &&PageEntry| {
            fs::metadata(output.dir().join(&entry.file)).is_ok_and(|m| m.len() == entry.bytes)
        };
        let present: Vec<u32> = entries.iter().filter(whole).map(|e| e.page).collect();
        // Who removes all images of a document wants it drawn anew, from whatever it is now.
        (!present.is_empty()).then(|| Self {
            sha256: first.source_sha256.clone(),
            pages: first.pages,
            present,
        })
    }

    pub(super) fn is_complete(&self) -> bool {
        self.present.len() == self.pages as usize
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Ready,
    /// Still reading a large file.
    Reading,
    Opened {
        pages: u32,
    },
    Drawing {
        page: u32,
    },
    Page(Box<PageEntry>),
    PageFailed {
        page: u32,
        rule: Rule,
        reason: String,
    },
    /// All pages that could be drawn are.
    Done,
    /// The same file as before, and all its images are there.
    Unchanged,
    /// No page of this document could be had.
    Failed {
        rule: Rule,
        reason: String,
    },
    /// The run cannot go on: no library, a full disk.
    Fatal {
        message: String,
        path: String,
        cause: String,
        hint: Option<String>,
    },
}

/// What a worker says before it gives up, and what the parent makes of it.
pub(super) fn fatal(diagnostic: &Diagnostic) -> Answer {
    let place = diagnostic.places().first();
    Answer::Fatal {
        message: diagnostic.message().to_owned(),
        path: place.map_or_else(String::new, |p| p.file.display().to_string()),
        cause: diagnostic.causes().join(": "),
        hint: diagnostic.hint_text().map(str::to_owned),
    }
}

pub(super) fn from_fatal(
    message: String,
    path: String,
    cause: String,
    hint: Option<String>,
) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(message);
    if !path.is_empty() {
        diagnostic = diagnostic.at(path);
    }
    if !cause.is_empty() {
        diagnostic = diagnostic.caused_by(cause);
    }
    match hint {
        Some(hint) => diagnostic.hint(hint),
        None => diagnostic,
    }
}
