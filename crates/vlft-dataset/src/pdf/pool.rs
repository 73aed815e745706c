//! The pool: which worker does what, and what happens when one dies.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use vlft_base::Result;

use super::look::InspectedPage;
use super::names::page_file;
use super::process::{Worker, WorkerProgram};
use super::protocol::{Answer, Drawing, Job, Setup, Task, from_fatal, wants};
use super::reject::{Reject, Rule};
use super::worker::partial_of;
use crate::manifest::PageEntry;

/// After this many dead workers the rest of a document is given up.
const MAX_DEATHS: u32 = 3;

/// What the pool reports, in the order in which it happens.
pub(crate) enum Event {
    Page(Box<PageEntry>),
    /// A page of this document.
    Inspected(String, Box<InspectedPage>),
    PageRejected(Reject),
    Finished(Finished),
}

/// One document is through.
#[derive(Default)]
pub(crate) struct Finished {
    pub(crate) document: String,
    /// Pages drawn, or looked at, now.
    pub(crate) written: u64,
    /// Pages that were there before.
    pub(crate) kept: u64,
    /// Pages that are neither there nor asked for.
    pub(crate) not_asked: u64,
    /// Of the document, as far as it was opened.
    pub(crate) pages: u32,
    pub(crate) needed_password: bool,
    /// Its file is another one than the last time; all its pages were drawn anew.
    pub(crate) has_changed: bool,
    /// Some of its pages failed.
    pub(crate) has_rejects: bool,
    /// Set when the document failed before its first page.
    pub(crate) reject: Option<Reject>,
}

pub(crate) struct Crew<'a> {
    pub(crate) program: &'a WorkerProgram,
    pub(crate) setup: &'a Setup,
    pub(crate) size: usize,
    /// Without a sign of life for this long a worker is ended.
    pub(crate) timeout: Duration,
}

impl Crew<'_> {
    /// Does all jobs. Events arrive on the calling thread.
    ///
    /// # Errors
    /// What `on_event` returns, and what keeps workers from working at all; the others are stopped.
    pub(crate) fn work(
        &self,
        jobs: Vec<Job>,
        mut on_event: impl FnMut(Event) -> Result<()>,
    ) -> Result<()> {
        let queue = Mutex::new(VecDeque::from(jobs));
        let stop = AtomicBool::new(false);
        let (sender, events) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..self.size {
                let mut seat = Seat {
                    crew: self,
                    worker: None,
                    sender: sender.clone(),
                };
                let (queue, stop) = (&queue, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let next = queue.lock().expect("no thread panics with it").pop_front();
                        let Some(job) = next else { break };
                        if let Err(error) = seat.document(job) {
                            stop.store(true, Ordering::Relaxed);
                            let _ = seat.sender.send(Err(error));
                        }
                    }
                });
            }
            drop(sender);
            let mut outcome = Ok(());
            for event in events {
                if let Err(error) = event.and_then(&mut on_event) {
                    stop.store(true, Ordering::Relaxed);
                    if outcome.is_ok() {
                        outcome = Err(error);
                    }
                }
            }
            outcome
        })
    }
}

/// A thread of this process with one worker process after the other.
struct Seat<'a> {
    crew: &'a Crew<'a>,
    worker: Option<Worker>,
    sender: Sender<Result<Event>>,
}

impl Seat<'_> {
    /// Does one document, with as many workers as it takes.
    fn document(&mut self, mut job: Job) -> Result<()> {
        let mut finished = Finished {
            document: job.document.clone(),
            ..Finished::default()
        };
        for death in 1..=MAX_DEATHS {
            match self.attempt(&mut job, &mut finished)? {
                Attempt::Through => break,
                Attempt::Died {
                    rule,
                    reason,
                    at: Some((page, pages)),
                } => {
                    finished.has_rejects = true;
                    self.clean_up(&job, page, pages);
                    self.reject_page(&job, page, rule, reason);
                    job.skip.push(page);
                    if death == MAX_DEATHS {
                        self.give_up(&job, page, pages, rule);
                    }
                }
                // It did not get to its pages, and would not the next time.
                Attempt::Died {
                    rule,
                    reason,
                    at: None,
                } => {
                    finished.reject = Some(Reject::new(&job.document, &job.source, rule, reason));
                    break;
                }
            }
        }
        if let Some(known) = &job.known {
            finished.pages = finished.pages.max(known.pages);
            finished.kept = known.present.len() as u64;
        }
        let selected = self.crew.setup.selected.as_ref();
        let is_there = |page| {
            job.known
                .as_ref()
                .is_some_and(|known| known.present.contains(&page))
        };
        finished.not_asked = (1..=finished.pages)
            .filter(|page| !wants(selected, *page) && !is_there(*page))
            .count() as u64;
        self.send(Event::Finished(finished));
        self.rest();
        Ok(())
    }

    /// What one document left behind in memory must not count against the next one.
    fn rest(&mut self) {
        let limit = self.crew.setup.memory_bytes;
        if self
            .worker
            .as_mut()
            .is_some_and(|worker| worker.memory_used() > limit / 2)
        {
            self.worker = None;
        }
    }

    /// Gives the job to a worker and passes on what it says, until the document is through or the
    /// worker is dead.
    fn attempt(&mut self, job: &mut Job, finished: &mut Finished) -> Result<Attempt> {
        let worker = match &mut self.worker {
            Some(worker) => worker,
            empty => empty.insert(Worker::start(self.crew)?),
        };
        worker.tell(job);
        let mut at = None;
        loop {
            match worker.hear(self.crew.timeout, self.crew.setup.memory_bytes) {
                Ok(Answer::Ready | Answer::Reading) => {}
                Ok(Answer::Changed) => {
                    finished.has_changed = true;
                    job.known = None;
                }
                Ok(Answer::Opened {
                    pages,
                    needed_password,
                }) => {
                    finished.pages = pages;
                    finished.needed_password = needed_password;
                }
                Ok(Answer::At { page }) => at = Some((page, finished.pages)),
                Ok(Answer::Page(entry)) => {
                    job.skip.push(entry.page);
                    at = None;
                    finished.written += 1;
                    let _ = self.sender.send(Ok(Event::Page(entry)));
                }
                Ok(Answer::Inspected(page)) => {
                    job.skip.push(page.page);
                    at = None;
                    finished.written += 1;
                    let event = Event::Inspected(job.document.clone(), page);
                    let _ = self.sender.send(Ok(event));
                }
                Ok(Answer::PageFailed { page, rule, reason }) => {
                    finished.has_rejects = true;
                    job.skip.push(page);
                    at = None;
                    let reject =
                        Reject::new(&job.document, &job.source, rule, reason).on_page(page);
                    let _ = self.sender.send(Ok(Event::PageRejected(reject)));
                }
                Ok(Answer::Done | Answer::Unchanged) => return Ok(Attempt::Through),
                Ok(Answer::Failed { rule, mut reason }) => {
                    if finished.has_changed {
                        reason += "; the file has changed, and its earlier pages are kept";
                    }
                    finished.reject = Some(Reject::new(&job.document, &job.source, rule, reason));
                    return Ok(Attempt::Through);
                }
                Ok(Answer::Fatal {
                    message,
                    path,
                    cause,
                    hint,
                }) => {
                    return Err(from_fatal(message, path, cause, hint));
                }
                Err(silence) => {
                    let worker = self.worker.take().expect("it was there above");
                    let (rule, reason) = worker.post_mortem(silence);
                    return Ok(Attempt::Died { rule, reason, at });
                }
            }
        }
    }

    /// Lists the pages that nobody tried after `last` of `pages` ended a worker once too often.
    fn give_up(&self, job: &Job, last: u32, pages: u32, rule: Rule) {
        let present = job.known.as_ref().map_or(&[][..], |known| &known.present);
        for page in last + 1..=pages {
            let is_wanted = wants(self.crew.setup.selected.as_ref(), page);
            if is_wanted && !job.skip.contains(&page) && !present.contains(&page) {
                let reason = format!("not tried: {MAX_DEATHS} pages before it ended their workers");
                self.reject_page(job, page, rule, reason);
            }
        }
    }

    /// A dead worker leaves at most the temporary file of the page it was at.
    fn clean_up(&self, job: &Job, page: u32, pages: u32) {
        let Task::Draw(Drawing { out, format, .. }) = &self.crew.setup.task else {
            return;
        };
        let file = page_file(&job.stem, page, pages, format.extension());
        let _ = fs::remove_file(partial_of(&Path::new(out).join(file)));
    }

    fn reject_page(&self, job: &Job, page: u32, rule: Rule, reason: String) {
        let reject = Reject::new(&job.document, &job.source, rule, reason).on_page(page);
        self.send(Event::PageRejected(reject));
    }

    /// Nobody listens any more only when the run is being stopped.
    fn send(&self, event: Event) {
        let _ = self.sender.send(Ok(event));
    }
}

enum Attempt {
    Through,
    Died {
        rule: Rule,
        reason: String,
        /// The page it was at, and how many there are.
        at: Option<(u32, u32)>,
    },
}

#[cfg(all(test, unix))]
mod tests;
