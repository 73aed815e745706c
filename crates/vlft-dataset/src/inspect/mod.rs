//! `vlft inspect`: what PDFs are made of, without drawing a page, and which of them need a model that
//! looks. The looking is done by the workers of [`crate::pdf`].

mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;

use vlft_base::Result;

use crate::pdf::pool::{Crew, Event};
use crate::pdf::protocol::{Job, Setup, Task};
use crate::pdf::{InspectedPage, Progress, Selection, Workers, find_documents, utf8};
use crate::pdfium;

pub use report::{Document, Pages, Report};

#[derive(Clone, Debug)]
pub struct Options {
    /// PDF files, and directories that are searched for `*.pdf` in any case.
    pub inputs: Vec<PathBuf>,
    /// `--pages`; `None` is all of them.
    pub selected: Option<Selection>,
    pub workers: Workers,
}

/// Looks at every page of every document. Documents and pages that fail are in the report; they do
/// not make this an error.
///
/// # Errors
/// No PDF among the inputs ([`vlft_base::Kind::NothingToDo`]); inputs that do not exist; no libpdfium.
pub fn inspect(options: &Options, progress: &dyn Fn(Progress)) -> Result<Report> {
    let sources = find_documents(&options.inputs)?;
    let workers = &options.workers;
    let setup = Setup {
        library: Some(pdfium::find(workers.pdfium.as_deref())?),
        task: Task::Inspect,
        selected: options.selected.clone(),
        passwords: workers.passwords.clone(),
        memory_bytes: workers.memory_bytes,
    };
    let mut rejects = sources.rejects;
    let found = sources.documents.len() + rejects.len();
    let jobs: Vec<Job> = sources
        .documents
        .iter()
        .map(|document| {
            Ok(Job {
                document: document.name.clone(),
                source: utf8(&document.path)?.to_owned(),
                stem: String::new(),
                known: None,
                skip: Vec::new(),
            })
        })
        .collect::<Result<_>>()?;
    let crew = Crew {
        program: &workers.program,
        setup: &setup,
        size: workers.size(jobs.len()),
        timeout: workers.timeout,
    };
    let mut state = Progress {
        documents: found as u64,
        documents_done: rejects.len() as u64,
        pages: 0,
    };
    progress(state);
    let mut pages: BTreeMap<String, Vec<InspectedPage>> = BTreeMap::new();
    let mut documents = Vec::new();
    crew.work(jobs, |event| {
        match event {
            Event::Page(_) => unreachable!("the task is to inspect"),
            Event::Inspected(document, page) => {
                state.pages += 1;
                pages.entry(document).or_default().push(*page);
            }
            Event::PageRejected(reject) => rejects.push(reject),
            Event::Finished(finished) => {
                state.documents_done += 1;
                let pages = pages.remove(&finished.document).unwrap_or_default();
                match finished.reject {
                    Some(reject) => rejects.push(reject),
                    None => documents.push(Document::new(
                        finished.document,
                        finished.pages,
                        finished.needed_password,
                        pages,
                    )),
                }
            }
        }
        progress(state);
        Ok(())
    })?;
    Ok(Report::new(found as u64, documents, rejects))
}
