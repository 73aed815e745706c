//! `vlft rasterize`: PDFs in, page images and a manifest out. The drawing is done by the workers of
//! [`crate::pdf`].

mod output;
mod report;
mod shard;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use vlft_base::Result;
use vlft_base::output::Existing;

use crate::lineage::Lineage;
use crate::manifest::{ImageFormat, Resolution};
use crate::pdf::pool::{Crew, Event};
use crate::pdf::protocol::{Drawing, Job, Setup, Task};
use crate::pdf::sources::Sources;
use crate::pdf::{Engine, Progress, Selection, Workers, find_documents, names, utf8};
use crate::pdfium;
use output::Output;
use report::Tally;

pub use report::{Documents, Pages, Plan, PlannedDocument, Report};
pub use shard::{Shard, ShardChoice, ShardSource};

#[derive(Clone, Debug)]
pub struct Options {
    /// PDF files, and directories that are searched for `*.pdf` in any case.
    pub inputs: Vec<PathBuf>,
    pub out: PathBuf,
    pub resolution: Resolution,
    pub format: ImageFormat,
    /// `--engine`.
    pub engine: Engine,
    /// `--pages`; `None` is all of them.
    pub selected: Option<Selection>,
    pub shard: Option<Shard>,
    /// `Replace` starts over: the images and manifests of earlier runs are removed.
    pub existing: Existing,
    pub workers: Workers,
}

/// Rasterizes what is missing in `out`. Documents and pages that fail are in the report and in
/// `rejects.jsonl`; they do not make this an error.
///
/// # Errors
/// No PDF among the inputs ([`Kind::NothingToDo`]); inputs that do not exist; no libpdfium; an `out`
/// that holds something else, or pages of another resolution or format; a full disk.
pub fn rasterize(options: &Options, progress: &dyn Fn(Progress)) -> Result<Report> {
    let start = Instant::now();
    let sources = find_documents(&options.inputs)?;
    // Started here once, so that a missing library is one message and not one per worker.
    options.engine.check()?;
    let library = match options.engine {
        Engine::Pdfium => Some(pdfium::find(options.workers.pdfium.as_deref())?),
        Engine::Hayro => None,
    };

    let mut output = Output::open(options)?;
    let (jobs, mut tally) = plan_jobs(options, sources, &output)?;
    let sources: BTreeMap<String, PathBuf> = jobs
        .iter()
        .map(|job| (job.document.clone(), PathBuf::from(&job.source)))
        .collect();
    let workers = &options.workers;
    let setup = Setup {
        library,
        task: Task::Draw(Drawing {
            out: utf8(&options.out)?.to_owned(),
            resolution: options.resolution,
            format: options.format,
        }),
        selected: options.selected.clone(),
        passwords: workers.passwords.clone(),
        memory_bytes: workers.memory_bytes,
    };
    let crew = Crew {
        program: &workers.program,
        setup: &setup,
        size: workers.size(jobs.len()),
        timeout: workers.timeout,
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
            Event::Inspected(..) => unreachable!("the task is to draw"),
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
    let (manifest, hashes) = output.finish(&mut tally)?;
    leave_lineage(options, &manifest, &sources, &hashes)?;
    Ok(Report::new(
        options,
        setup.library,
        tally,
        manifest,
        start.elapsed(),
    ))
}

/// `lineage.json`, of a shard `manifest.2-of-8.lineage.json`: the documents of this run that have
/// pages, with the hashes (`hashes`, by document) of what was drawn.
fn leave_lineage(
    options: &Options,
    manifest: &Path,
    sources: &BTreeMap<String, PathBuf>,
    hashes: &BTreeMap<String, String>,
) -> Result<()> {
    let mut lineage = Lineage::new("rasterize")
        .option("resolution", options.resolution)
        .option("format", options.format)
        .option("engine", options.engine)
        .option("pages", &options.selected)
        .option("shard", options.shard);
    for (document, path) in sources {
        if let (Some(sha256), Ok(file)) = (hashes.get(document), fs::metadata(path)) {
            lineage = lineage.hashed_input("document", path, sha256.clone(), file.len())?;
        }
    }
    match options.shard {
        None => lineage.save_in(&options.out),
        Some(_) => lineage.save_beside(manifest),
    }
}

/// What [`rasterize`] would do, without writing or drawing anything.
///
/// # Errors
/// Those of [`rasterize`] that show before the first page.
pub fn plan(options: &Options) -> Result<Plan> {
    let sources = find_documents(&options.inputs)?;
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
            known: output.known(&document.name),
            document: document.name,
            skip: Vec::new(),
        });
    }
    tally.documents.found = jobs.len() as u64 + tally.documents.rejected;
    tally.other_files = sources.other_files;
    tally.link_circles = sources.link_circles;
    Ok((jobs, tally))
}
