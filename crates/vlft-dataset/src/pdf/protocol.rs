//! What the parent and a worker say to each other: JSON Lines over the worker's stdin and stdout.
//! First a [`Setup`], answered by [`Answer::Ready`]; then [`Job`]s, one at a time, each answered by
//! its pages as they are done and closed by `Done`, `Unchanged` or `Failed`.

use serde::{Deserialize, Serialize};
use vlft_base::Diagnostic;

use super::Selection;
use super::look::InspectedPage;
use super::reject::Rule;
use crate::manifest::{ImageFormat, PageEntry, Resolution};
use crate::pdfium::Library;

/// Passwords travel here and not in the arguments, which every user of the machine can see.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// `None`: hayro draws.
    pub(crate) library: Option<Library>,
    pub(crate) task: Task,
    /// Of each document; `None` is all pages.
    pub(crate) selected: Option<Selection>,
    pub(crate) passwords: Vec<String>,
    pub(crate) memory_bytes: u64,
}

/// What to do with a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    Draw(Drawing),
    Inspect,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Drawing {
    /// Directory below which all images are written.
    pub(crate) out: String,
    pub(crate) resolution: Resolution,
    pub(crate) format: ImageFormat,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) document: String,
    /// The file to open.
    pub(crate) source: String,
    /// Where images go: relative to `out`, without `-p001.png`.
    pub(crate) stem: String,
    pub(crate) known: Option<Known>,
    /// Pages that killed a worker before.
    pub(crate) skip: Vec<u32>,
}

/// What an earlier run left of a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) sha256: String,
    pub(crate) pages: u32,
    /// Pages whose image is there.
    pub(crate) present: Vec<u32>,
    /// Another shard's manifest lists them, which this run does not write.
    pub(crate) is_foreign: bool,
}

impl Known {
    pub(crate) fn has_all(&self, selected: Option<&Selection>) -> bool {
        (1..=self.pages).all(|page| !wants(selected, page) || self.present.contains(&page))
    }
}

pub(crate) fn wants(selected: Option<&Selection>, page: u32) -> bool {
    selected.is_none_or(|selected| selected.has(page))
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Ready,
    /// Still reading a large file.
    Reading,
    /// Not the file that the known pages are of: all are drawn anew.
    Changed,
    Opened {
        pages: u32,
        /// It did not open without one.
        needed_password: bool,
    },
    /// At this page now.
    At {
        page: u32,
    },
    Page(Box<PageEntry>),
    Inspected(Box<InspectedPage>),
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
pub(crate) fn fatal(diagnostic: &Diagnostic) -> Answer {
    let place = diagnostic.places().first();
    Answer::Fatal {
        message: diagnostic.message().to_owned(),
        path: place.map_or_else(String::new, |p| p.file.display().to_string()),
        cause: diagnostic.causes().join(": "),
        hint: diagnostic.hint_text().map(str::to_owned),
    }
}

pub(crate) fn from_fatal(
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
