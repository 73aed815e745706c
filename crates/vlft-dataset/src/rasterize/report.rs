//! What a run did. The counts reconcile: documents found = rasterized + unchanged + rejected + those
//! without a page that was asked for.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use vlft_base::Diagnostic;
use vlft_base::format::{count, grouped, one_line};

use super::{Options, Shard};
use crate::pdf::pool::Finished;
use crate::pdf::{Reject, reject};
use crate::pdfium::Library;

/// Counts while a run is under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) documents: Documents,
    pub(super) pages: Pages,
    pub(super) other_files: u64,
    pub(super) link_circles: u64,
    pub(super) rejects: Vec<Reject>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Documents {
    pub found: u64,
    /// With at least one new page.
    pub rasterized: u64,
    /// Nothing to do: their pages are there.
    pub unchanged: u64,
    /// Without a single page.
    pub rejected: u64,
    /// None of their pages is among those that `--pages` asks for.
    pub not_asked: u64,
    /// Among the rasterized ones: the PDF is another one than the last time, and all was drawn anew.
    pub changed: u64,
    /// Among the rasterized and unchanged ones: some pages failed.
    pub incomplete: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pages {
    pub written: u64,
    /// From earlier runs.
    pub kept: u64,
    /// Single pages that failed, in documents that could be opened.
    pub rejected: u64,
    /// Left out by `--pages`.
    pub not_asked: u64,
    /// In the manifest from a version of vlft that did not look at them: without text-layer facts.
    pub without_facts: u64,
}

impl Tally {
    pub(super) fn finish(&mut self, finished: Finished) {
        self.pages.kept += finished.kept;
        self.pages.not_asked += finished.not_asked;
        self.documents.changed += u64::from(finished.has_changed && finished.written > 0);
        let has_failed = finished.reject.is_some() || finished.has_rejects;
        match (finished.written, finished.kept) {
            (0, 0) if !has_failed => self.documents.not_asked += 1,
            (0, 0) => self.documents.rejected += 1,
            (0, _) => self.documents.unchanged += 1,
            _ => self.documents.rasterized += 1,
        }
        if finished.written + finished.kept > 0 && finished.has_rejects {
            self.documents.incomplete += 1;
        }
        self.rejects.extend(finished.reject);
    }
}

/// The result of [`super::rasterize`].
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub documents: Documents,
    pub pages: Pages,
    /// Files below the input directories that are not PDFs.
    pub other_files: u64,
    /// Links below the input directories that lead back up, and were not followed.
    pub link_circles: u64,
    pub shard: Option<Shard>,
    pub out: PathBuf,
    pub manifest: PathBuf,
    pub seconds: f64,
    /// `None` when hayro drew.
    pub library: Option<Library>,
    /// Sorted by document and page.
    pub rejects: Vec<Reject>,
}

impl Report {
    pub(super) fn new(
        options: &Options,
        library: Option<Library>,
        tally: Tally,
        manifest: PathBuf,
        time: Duration,
    ) -> Self {
        Self {
            documents: tally.documents,
            pages: tally.pages,
            other_files: tally.other_files,
            link_circles: tally.link_circles,
            rejects: tally.rejects,
            shard: options.shard,
            out: options.out.clone(),
            library,
            manifest,
            seconds: (time.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }

    /// What went wrong, as one message; `None` when nothing did.
    pub fn problem(&self) -> Option<Diagnostic> {
        if self.rejects.is_empty() {
            return None;
        }
        let (rejected, incomplete) = (self.documents.rejected, self.documents.incomplete);
        let of_all = format!("of {}", count(self.documents.found, "document"));
        let lacks = if incomplete == 1 {
            "lacks pages"
        } else {
            "lack pages"
        };
        let problem = Diagnostic::error(match (rejected, incomplete) {
            (_, 0) => format!("{rejected} {of_all} could not be rasterized"),
            (0, _) => format!("{incomplete} {of_all} {lacks}"),
            _ => format!("{rejected} {of_all} could not be rasterized, and {incomplete} {lacks}"),
        });
        let list = self.manifest.with_file_name(
            self.manifest
                .file_name()
                .map(|name| name.to_string_lossy().replacen("manifest", "rejects", 1))
                .unwrap_or_default(),
        );
        Some(reject::listed(problem, &self.rejects, Some(&list)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (documents, pages) = (&self.documents, &self.pages);
        write!(
            f,
            "documents  {} found: {} rasterized, {} unchanged, {} rejected",
            grouped(documents.found),
            grouped(documents.rasterized),
            grouped(documents.unchanged),
            grouped(documents.rejected)
        )?;
        if documents.not_asked > 0 {
            write!(
                f,
                ", {} without a page asked for",
                grouped(documents.not_asked)
            )?;
        }
        writeln!(f)?;
        write!(
            f,
            "pages      {} written, {} kept, {} rejected",
            grouped(pages.written),
            grouped(pages.kept),
            grouped(pages.rejected)
        )?;
        if pages.not_asked > 0 {
            write!(f, ", {} not asked for", grouped(pages.not_asked))?;
        }
        writeln!(f)?;
        if documents.changed > 0 {
            let changed = count(documents.changed, "PDF");
            writeln!(
                f,
                "changed    {changed} since the last run, all pages drawn anew"
            )?;
        }
        if pages.without_facts > 0 {
            let old = count(pages.without_facts, "page");
            writeln!(
                f,
                "facts      {old} of an older vlft without text-layer facts; `--force` draws them anew"
            )?;
        }
        if let Some(Shard { index, count }) = self.shard {
            writeln!(f, "shard      {index} of {count}")?;
        }
        if self.link_circles > 0 {
            let links = count(self.link_circles, "link");
            writeln!(f, "links      {links} back to a folder above not followed")?;
        }
        if pages.written > 0 && self.seconds > 0.0 {
            let rate = pages.written as f64 / self.seconds;
            writeln!(f, "time       {:.1} s, {rate:.1} pages/s", self.seconds)?;
        }
        Ok(())
    }
}

/// The result of [`super::plan`].
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub documents: Vec<PlannedDocument>,
    pub rejects: Vec<Reject>,
}

#[derive(Clone, Debug, Serialize)]
pub struct PlannedDocument {
    pub document: String,
    /// `2019/0117-p*.png`.
    pub files: String,
    pub pages_present: usize,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for document in &self.documents {
            write!(f, "{} -> {}", one_line(&document.document), document.files)?;
            match document.pages_present {
                0 => writeln!(f)?,
                n => writeln!(f, " ({} there already)", count(n as u64, "page"))?,
            }
        }
        for reject in &self.rejects {
            writeln!(f, "{}: {reject}", one_line(&reject.document))?;
        }
        writeln!(
            f,
            "{}; nothing was written",
            count(self.documents.len() as u64, "document")
        )
    }
}
