//! The worker processes: who does what, and what happens when one dies.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use vlft_base::{Diagnostic, Result};

use super::names::page_file;
use super::protocol::{Answer, Job, Setup, from_fatal};
use super::reject::{Reject, Rule};
use super::worker::partial_of;
use crate::manifest::PageEntry;

/// After this many dead workers the rest of a document is given up.
const MAX_DEATHS: u32 = 3;
/// Loading libpdfium from a cold disk may take seconds, not minutes.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// What we remember of a worker's stderr.
const STDERR_BYTES: u64 = 64 * 1024;

/// How to start this program as a worker: it must call [`super::serve`] with its stdin and stdout.
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    pub program: PathBuf,
    pub args: Vec<OsString>,
}

/// What the pool reports, in the order in which it happens.
pub(super) enum Event {
    Page(Box<PageEntry>),
    PageRejected(Reject),
    Finished(Finished),
}

/// One document is through.
pub(super) struct Finished {
    /// Pages drawn now.
    pub(super) written: u64,
    /// Pages that were there before.
    pub(super) kept: u64,
    /// Set when no page could be had and no page was tried.
    pub(super) reject: Option<Reject>,
}

pub(super) struct Crew<'a> {
    pub(super) program: &'a WorkerProgram,
    pub(super) setup: &'a Setup,
    pub(super) size: usize,
    /// Without a sign of life for this long a worker is ended.
    pub(super) timeout: Duration,
}

impl Crew<'_> {
    /// Does all jobs. Events arrive on the calling thread.
    ///
    /// # Errors
    /// What `on_event` returns, and what keeps workers from working at all; the others are stopped.
    pub(super) fn work(
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
        let kept = job
            .known
            .as_ref()
            .map_or(0, |known| known.present.len() as u64);
        let mut finished = Finished {
            written: 0,
            kept,
            reject: None,
        };
        for death in 1..=MAX_DEATHS {
            match self.attempt(&mut job, &mut finished)? {
                Attempt::Through => break,
                Attempt::Died {
                    rule,
                    reason,
                    drawing: Some((page, pages)),
                } => {
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
                    drawing: None,
                } => {
                    finished.reject = Some(Reject::new(&job.document, &job.source, rule, reason));
                    break;
                }
            }
        }
        self.send(Event::Finished(finished));
        Ok(())
    }

    /// Gives the job to a worker and passes on what it says, until the document is through or the
    /// worker is dead.
    fn attempt(&mut self, job: &mut Job, finished: &mut Finished) -> Result<Attempt> {
        let worker = match &mut self.worker {
            Some(worker) => worker,
            empty => empty.insert(Worker::start(self.crew)?),
        };
        worker.tell(job);
        let mut opened = 0;
        let mut drawing = None;
        loop {
            match worker.hear(self.crew.timeout) {
                Ok(Answer::Ready | Answer::Reading) => {}
                Ok(Answer::Opened { pages }) => opened = pages,
                Ok(Answer::Drawing { page }) => drawing = Some((page, opened)),
                Ok(Answer::Page(entry)) => {
                    job.skip.push(entry.page);
                    drawing = None;
                    finished.written += 1;
                    let _ = self.sender.send(Ok(Event::Page(entry)));
                }
                Ok(Answer::PageFailed { page, rule, reason }) => {
                    job.skip.push(page);
                    drawing = None;
                    let reject =
                        Reject::new(&job.document, &job.source, rule, reason).on_page(page);
                    let _ = self.sender.send(Ok(Event::PageRejected(reject)));
                }
                Ok(Answer::Done | Answer::Unchanged) => return Ok(Attempt::Through),
                Ok(Answer::Failed { rule, reason }) => {
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
                    let (rule, reason) = worker.post_mortem(silence, self.crew.timeout);
                    return Ok(Attempt::Died {
                        rule,
                        reason,
                        drawing,
                    });
                }
            }
        }
    }

    /// Lists the pages that nobody tried after `last` of `pages` ended a worker once too often.
    fn give_up(&self, job: &Job, last: u32, pages: u32, rule: Rule) {
        let present = job.known.as_ref().map_or(&[][..], |known| &known.present);
        for page in last + 1..=pages {
            if !job.skip.contains(&page) && !present.contains(&page) {
                let reason = format!("not tried: {MAX_DEATHS} pages before it ended their workers");
                self.reject_page(job, page, rule, reason);
            }
        }
    }

    /// A dead worker leaves at most the temporary file of the page it was at.
    fn clean_up(&self, job: &Job, page: u32, pages: u32) {
        let setup = self.crew.setup;
        let file = page_file(&job.stem, page, pages, setup.format.extension());
        let _ = fs::remove_file(partial_of(&Path::new(&setup.out).join(file)));
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
        drawing: Option<(u32, u32)>,
    },
}

/// One worker process.
struct Worker {
    child: Child,
    /// `None` once it is closed.
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
    stderr: Arc<Mutex<String>>,
}

enum Silence {
    TooLong,
    Ended,
    /// It said something that is no answer.
    Babble(String),
}

impl Worker {
    fn start(crew: &Crew<'_>) -> Result<Self> {
        let cannot = |cause: String| {
            Diagnostic::error("cannot start a worker process")
                .at(&crew.program.program)
                .caused_by(cause)
        };
        let mut child = Command::new(&crew.program.program)
            .args(&crew.program.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| cannot(e.to_string()))?;
        let stdout = child.stdout.take().expect("piped above");
        let stderr = child.stderr.take().expect("piped above");
        let (lines, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout)
                .lines()
                .map_while(std::io::Result::ok)
            {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let said = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&said);
        thread::spawn(move || keep_last_words(stderr, &into));
        let mut worker = Self {
            stdin: child.stdin.take(),
            child,
            answers,
            stderr: said,
        };
        worker.tell(crew.setup);
        match worker.hear(START_TIMEOUT) {
            Ok(Answer::Ready) => Ok(worker),
            Ok(Answer::Fatal {
                message,
                path,
                cause,
                hint,
            }) => Err(from_fatal(message, path, cause, hint)),
            Ok(_) => Err(cannot("it does not introduce itself".to_owned())),
            Err(silence) => Err(cannot(worker.post_mortem(silence, START_TIMEOUT).1)),
        }
    }

    /// A worker that cannot be told anything is dead, which [`Worker::hear`] will notice.
    fn tell(&mut self, message: &impl serde::Serialize) {
        let mut line = serde_json::to_string(message).expect("messages are plain data");
        line.push('\n');
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin
                .write_all(line.as_bytes())
                .and_then(|()| stdin.flush());
        }
    }

    fn hear(&mut self, timeout: Duration) -> Result<Answer, Silence> {
        match self.answers.recv_timeout(timeout) {
            Ok(line) => serde_json::from_str(&line).map_err(|_| Silence::Babble(line)),
            Err(RecvTimeoutError::Timeout) => Err(Silence::TooLong),
            Err(RecvTimeoutError::Disconnected) => Err(Silence::Ended),
        }
    }

    /// Ends the process and says why it had to end.
    fn post_mortem(mut self, silence: Silence, timeout: Duration) -> (Rule, String) {
        if !matches!(silence, Silence::Ended) {
            let _ = self.child.kill();
        }
        let status = self.child.wait();
        match silence {
            Silence::TooLong => {
                let reason = format!("no sign of life for {} s", timeout.as_secs_f64());
                (Rule::Timeout, reason)
            }
            Silence::Babble(line) => (Rule::Crash, format!("the worker said `{line:.80}`")),
            Silence::Ended => {
                let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                let mut reason = format!("the worker process died ({status})");
                let said = self.stderr.lock().map(|s| s.clone()).unwrap_or_default();
                if let Some(line) = said.lines().map(str::trim).rfind(|l| !l.is_empty()) {
                    reason += &format!(": {line:.200}");
                }
                (Rule::Crash, reason)
            }
        }
    }
}

impl Drop for Worker {
    /// The end of its input ends a worker; one that is busy, because the run was stopped, is killed.
    fn drop(&mut self) {
        self.stdin = None;
        let is_idle = matches!(
            self.answers.recv_timeout(Duration::from_millis(500)),
            Err(RecvTimeoutError::Disconnected)
        );
        if !is_idle {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// pdfium and the allocator may say on stderr why they end the process.
fn keep_last_words(stderr: impl Read, into: &Mutex<String>) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match reader
            .by_ref()
            .take(STDERR_BYTES)
            .read_until(b'\n', &mut line)
        {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Ok(mut said) = into.lock()
            && !line.iter().all(u8::is_ascii_whitespace)
        {
            *said = String::from_utf8_lossy(&line).into_owned();
        }
    }
}
