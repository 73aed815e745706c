//! `vlft rasterize`: PDFs in, page images and a manifest out.
//!
//! pdfium is C++ that meets hostile files, so it never runs in this process: workers (this program
//! again, under a hidden command) draw one document at a time and say what they did, line by line.
//! A document that crashes, hangs or eats memory costs at most its own pages.

mod draw;
mod encode;
mod limits;
mod names;
mod output;
mod pool;
mod protocol;
mod reject;
mod report;
mod size;
mod sources;
mod worker;

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use vlft_base::output::{Existing, cannot};
use vlft_base::{Diagnostic, Kind, Result};

use crate::manifest::{ImageFormat, Resolution};
use crate::pdfium;
use output::Output;
use pool::Event;
use protocol::{Job, Known, Setup};
use report::Tally;
use sources::Sources;

pub use pool::WorkerProgram;
pub use reject::{Reject, Rule};
pub use report::{Documents, Pages, Plan, PlannedDocument, Report};
pub use worker::serve;

#[derive(Clone, Debug)]
pub struct Options {
    /// PDF files, and directories that are searched for `*.pdf` in any case.
    pub inputs: Vec<PathBuf>,
    pub out: PathBuf,
    pub resolution: Resolution,
    pub format: ImageFormat,
    /// Worker processes; by default one per core.
    pub jobs: Option<NonZeroUsize>,
    pub shard: Option<Shard>,
    /// Each is tried on a document that asks for one.
    pub passwords: Vec<String>,
    /// `--pdfium`.
    pub pdfium: Option<PathBuf>,
    /// For opening a document, and for each page.
    pub timeout: Duration,
    /// Memory that one worker may use.
    pub worker_memory_bytes: u64,
    /// `Replace` starts over: the images and manifests of earlier runs are removed.
    pub existing: Existing,
    /// How to start this program as a worker.
    pub worker: WorkerProgram,
}

/// This process does documents whose name hashes to `index` of `count`; 1-based. Which ones these
/// are depends on their names alone, so that adding documents moves none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: u32,
    pub count: u32,
}

impl Shard {
    fn has(self, document: &str) -> bool {
        let digest = Sha256::digest(document.as_bytes());
        let head = u64::from_be_bytes(digest[..8].try_into().expect("a digest has 32 bytes"));
        head % u64::from(self.count) == u64::from(self.index - 1)
    }
}

impl std::str::FromStr for Shard {
    type Err = String;

    /// `2/8`.
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text
            .split_once('/')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match numbers {
            Some((index, count)) if 1 <= index && index <= count => Ok(Self { index, count }),
            Some((0, _)) => Err("shards are counted from 1: the first of 8 is `1/8`".to_owned()),
            _ => Err("a shard is written `I/N`, the first of 8 is `1/8`".to_owned()),
        }
    }
}

/// How far a run is; handed to the caller after each document and page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub documents_done: u64,
    pub documents: u64,
    pub pages: u64,
}

/// Rasterizes what is missing in `out`. Documents and pages that fail are in the report and in
/// `rejects.jsonl`; they do not make this an error.
///
/// # Errors
/// No PDF among the inputs ([`Kind::NothingToDo`]); inputs that do not exist; no libpdfium; an `out`
/// that holds something else, or pages of another resolution or format; a full disk.
pub fn rasterize(options: &Options, progress: &dyn Fn(Progress)) -> Result<Report> {
    let start = Instant::now();
    let sources = find_documents(options)?;
    // Started here once, so that a missing library is one message and not one per worker.
    let library = pdfium::find(options.pdfium.as_deref())?;

    let mut output = Output::open(options)?;
    let (jobs, mut tally) = plan_jobs(options, sources, &output)?;
    let setup = Setup {
        library,
        out: utf8(&options.out)?.to_owned(),
        resolution: options.resolution,
        format: options.format,
        passwords: options.passwords.clone(),
        memory_bytes: options.worker_memory_bytes,
    };
    let workers = options
        .jobs
        .or_else(|| std::thread::available_parallelism().ok());
    let crew = pool::Crew {
        program: &options.worker,
        setup: &setup,
        size: workers.map_or(1, NonZeroUsize::get).min(jobs.len()),
        timeout: options.timeout,
    };
    let mut state = Progress {
        documents: tally.documents.found,
        documents_done: tally.documents.rejected,
        pages: 0,
    };
    progress(state);
    crew.work(jobs, |event| {
        match event {
            Event::Page(entry) => {
                tally.pages.written += 1;
                state.pages += 1;
                output.add(*entry)?;
            }
            Event::PageRejected(reject) => {
                tally.pages.rejected += 1;
                tally.rejects.push(reject);
            }
            Event::Finished(finished) => {
                state.documents_done += 1;
                tally.finish(finished);
            }
        }
        progress(state);
        Ok(())
    })?;
    let manifest = output.finish(&mut tally)?;
    Ok(Report::new(
        options,
        setup.library,
        tally,
        manifest,
        start.elapsed(),
    ))
}

/// What [`rasterize`] would do, without writing or drawing anything.
///
/// # Errors
/// Those of [`rasterize`] that show before the first page.
pub fn plan(options: &Options) -> Result<Plan> {
    let sources = find_documents(options)?;
    let output = Output::look(options)?;
    let (jobs, tally) = plan_jobs(options, sources, &output)?;
    Ok(Plan {
        documents: jobs
            .into_iter()
            .map(|job| PlannedDocument {
                files: format!("{}-p*.{}", job.stem, options.format.extension()),
                pages_present: job.known.map_or(0, |known| known.present.len()),
                document: job.document,
            })
            .collect(),
        rejects: tally.rejects,
    })
}

fn find_documents(options: &Options) -> Result<Sources> {
    let sources = sources::collect(&options.inputs)?;
    if sources.documents.is_empty() && sources.rejects.is_empty() {
        let nothing = Diagnostic::error("no PDF was found").with_kind(Kind::NothingToDo);
        let nothing = options
            .inputs
            .iter()
            .fold(nothing, |all, input| all.at(input));
        return Err(nothing.hint("give PDF files, or directories with `*.pdf` in them"));
    }
    Ok(sources)
}

/// One job per document of this shard. Names are given over all documents, so that every shard
/// gives the same ones.
fn plan_jobs(options: &Options, sources: Sources, output: &Output) -> Result<(Vec<Job>, Tally)> {
    let names: Vec<&str> = sources.documents.iter().map(|d| d.name.as_str()).collect();
    let stems = names::stems(&names, output.pages());
    let mine = |document: &str| options.shard.is_none_or(|shard| shard.has(document));

    let mut tally = Tally::default();
    tally
        .rejects
        .extend(sources.rejects.into_iter().filter(|r| mine(&r.document)));
    tally.documents.rejected = tally.rejects.len() as u64;
    let mut jobs = Vec::new();
    for document in sources.documents {
        if !mine(&document.name) {
            continue;
        }
        jobs.push(Job {
            source: utf8(&document.path)?.to_owned(),
            stem: stems[&document.name].clone(),
            known: Known::of(&document.name, output),
            document: document.name,
            skip: Vec::new(),
        });
    }
    tally.documents.found = jobs.len() as u64 + tally.documents.rejected;
    tally.other_files = sources.other_files;
    tally.link_circles = sources.link_circles;
    Ok((jobs, tally))
}

/// Reads `--password-file`: one password per line, each tried on every document that asks.
///
/// # Errors
/// A file that cannot be read, is not UTF-8, or has no password in it.
pub fn read_passwords(path: &Path) -> Result<Vec<String>> {
    let bytes = fs::read(path).map_err(|e| cannot("read", path, e))?;
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
fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| {
        Diagnostic::error("this path is not valid Unicode")
            .at(path)
            .hint("rename it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_written_i_of_n_from_one() {
        assert_eq!("2/8".parse(), Ok(Shard { index: 2, count: 8 }));
        for (text, expected) in [
            ("0/8", "counted from 1"),
            ("9/8", "written `I/N`"),
            ("2", "written `I/N`"),
            ("a/b", "written `I/N`"),
        ] {
            let error = text.parse::<Shard>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn every_document_is_in_exactly_one_shard() {
        let mut counts = [0; 5];
        for n in 0..500 {
            let name = format!("scan {n}.pdf");
            let homes: Vec<u32> = (1..=5)
                .filter(|&index| Shard { index, count: 5 }.has(&name))
                .collect();
            assert_eq!(homes.len(), 1);
            counts[homes[0] as usize - 1] += 1;
        }
        assert!(counts.iter().all(|&n| n > 60), "{counts:?}");
    }

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
