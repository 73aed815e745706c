//! The worker processes: who does what, and what happens when one dies.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use vlft_base::format::bytes;
use vlft_base::{Diagnostic, Result};

use super::limits::{LOOK_EVERY, Leash, MemoryWatch};
use super::look::InspectedPage;
use super::names::page_file;
use super::protocol::{Answer, Drawing, Job, Setup, Task, from_fatal, wants};
use super::reject::{Reject, Rule};
use super::worker::partial_of;
use crate::manifest::PageEntry;

/// After this many dead workers the rest of a document is given up.
const MAX_DEATHS: u32 = 3;
/// Loading libpdfium from a cold disk may take seconds, not minutes.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest line of a worker's stderr that we take as one.
const STDERR_BYTES: u64 = 64 * 1024;

/// How to start this program as a worker: it must call [`super::serve`] with its stdin and stdout.
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    pub program: PathBuf,
    pub args: Vec<OsString>,
}

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
            .is_some_and(|worker| worker.memory.used() > limit / 2)
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

/// One worker process.
struct Worker {
    child: Child,
    /// `None` once it is closed.
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
    memory: MemoryWatch,
    _leash: Leash,
    /// The last lines of its stderr, sent when it ends.
    said: Receiver<String>,
}

enum Silence {
    TooLong(Duration),
    /// It used more memory than it may, in bytes.
    TooLarge(u64),
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
        let (last_words, said) = mpsc::channel();
        thread::spawn(move || last_words.send(last_lines(stderr)));
        let mut worker = Self {
            stdin: child.stdin.take(),
            memory: MemoryWatch::new(&child),
            _leash: Leash::on(&child, crew.setup.memory_bytes),
            child,
            answers,
            said,
        };
        worker.tell(crew.setup);
        match worker.hear(START_TIMEOUT, crew.setup.memory_bytes) {
            Ok(Answer::Ready) => Ok(worker),
            Ok(Answer::Fatal {
                message,
                path,
                cause,
                hint,
            }) => Err(from_fatal(message, path, cause, hint)),
            Ok(_) => Err(cannot("it does not introduce itself".to_owned())),
            Err(silence) => Err(cannot(worker.post_mortem(silence).1)),
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

    fn hear(&mut self, timeout: Duration, memory_bytes: u64) -> Result<Answer, Silence> {
        let start = Instant::now();
        loop {
            match self.answers.recv_timeout(LOOK_EVERY.min(timeout)) {
                Ok(line) => {
                    return serde_json::from_str(&line).map_err(|_| Silence::Babble(line));
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Silence::Ended),
                Err(RecvTimeoutError::Timeout) if start.elapsed() >= timeout => {
                    return Err(Silence::TooLong(timeout));
                }
                Err(RecvTimeoutError::Timeout) if self.memory.used() > memory_bytes => {
                    return Err(Silence::TooLarge(memory_bytes));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Ends the process and says why it had to end.
    fn post_mortem(mut self, silence: Silence) -> (Rule, String) {
        if !matches!(silence, Silence::Ended) {
            let _ = self.child.kill();
        }
        let status = self.child.wait();
        match silence {
            Silence::TooLong(time) => (
                Rule::Timeout,
                format!("not done after {} s", time.as_secs_f64()),
            ),
            Silence::TooLarge(limit) => (Rule::Memory, format!("took more than {}", bytes(limit))),
            Silence::Babble(line) => (Rule::Crash, format!("the worker said `{line:.80}`")),
            Silence::Ended => {
                let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                let mut reason = format!("the worker process died ({status})");
                let said = self.said.recv_timeout(LOOK_EVERY * 10).unwrap_or_default();
                if !said.is_empty() {
                    reason += &format!(": {said:.400}");
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

/// pdfium, the allocator or our own panic may say on stderr why they end the process: in up to four
/// lines, which become one.
fn last_lines(stderr: impl Read) -> String {
    let mut reader = BufReader::new(stderr);
    let mut last = VecDeque::new();
    loop {
        let mut line = Vec::new();
        let read = reader
            .by_ref()
            .take(STDERR_BYTES)
            .read_until(b'\n', &mut line);
        if matches!(read, Ok(0) | Err(_)) {
            return Vec::from(last).join(", ");
        }
        let line = String::from_utf8_lossy(&line);
        if !line.trim().is_empty() {
            last.push_back(line.trim().to_owned());
        }
        if last.len() > 4 {
            last.pop_front();
        }
    }
}

/// The workers here are shell scripts that speak the protocol and then misbehave.
#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::manifest::{ImageFormat, Resolution};
    use crate::pdfium::{Library, Source};

    /// A worker for documents of five pages. It knows the pages that are through by counting the
    /// commas in `skip`, and does with the next page what the name of the document says.
    const SCRIPT: &str = r#"
        read -r setup; echo '"ready"'
        while read -r job; do
            skip=${job##*\"skip\":}; commas=$(printf %s "$skip" | tr -cd , | wc -c)
            case $skip in '[]}') next=1 ;; *) next=$((commas + 2)) ;; esac
            echo '{"opened":{"pages":5,"needed_password":false}}'
            while [ $next -le 5 ]; do
                echo "{\"at\":{\"page\":$next}}"
                case $job in
                    *\"document\":\"crash*) echo 'out of luck' >&2; kill -TRAP $$ ;;
                    *\"document\":\"hang*) exec sleep 600 ;;
                    *\"document\":\"babble*) echo hello ;;
                    *\"document\":\"full*) echo '{"fatal":{"message":"cannot write file or directory","path":"p","cause":"no space","hint":null}}' ;;
                    *\"document\":\"second*) [ $next = 2 ] && kill -KILL $$ ;;
                esac
                echo "{\"page_failed\":{\"page\":$next,\"rule\":\"page\",\"reason\":\"as told\"}}"
                next=$((next + 1))
            done
            echo '"done"'
        done"#;

    fn setup() -> Setup {
        Setup {
            library: Some(Library {
                path: "x".into(),
                source: Source::Cache,
                build: None,
                passed_over: None,
            }),
            task: Task::Draw(Drawing {
                out: "out".into(),
                resolution: Resolution::Dpi(72),
                format: ImageFormat::Png,
            }),
            selected: None,
            passwords: Vec::new(),
            memory_bytes: u64::MAX,
        }
    }

    fn shell(script: &str) -> WorkerProgram {
        WorkerProgram {
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
        }
    }

    /// What becomes of each page (`None`: of the document), as "rule: reason".
    fn run(
        program: &WorkerProgram,
        documents: &[&str],
        size: usize,
    ) -> Result<Vec<(String, Option<u32>, String)>> {
        let jobs = documents.iter().map(|document| Job {
            document: (*document).to_owned(),
            source: "s.pdf".to_owned(),
            stem: "s".to_owned(),
            known: None,
            skip: Vec::new(),
        });
        let setup = setup();
        let crew = Crew {
            program,
            setup: &setup,
            size,
            timeout: Duration::from_millis(400),
        };
        let mut seen = Vec::new();
        let mut finished = 0;
        crew.work(jobs.collect(), |event| {
            match event {
                Event::Page(_) | Event::Inspected(..) => panic!("these workers draw nothing"),
                Event::PageRejected(r) => {
                    seen.push((r.document, r.page, format!("{:?}: {}", r.rule, r.reason)));
                }
                Event::Finished(f) => {
                    finished += 1;
                    seen.extend(f.reject.map(|r| (r.document, r.page, r.reason)));
                }
            }
            Ok(())
        })?;
        assert_eq!(finished, documents.len());
        seen.sort();
        Ok(seen)
    }

    #[test]
    fn a_page_that_kills_its_worker_costs_only_itself() {
        let seen = run(&shell(SCRIPT), &["second", "well"], 1).unwrap();
        let of = |document: &str| -> Vec<&str> {
            seen.iter()
                .filter(|s| s.0 == document)
                .map(|s| s.2.as_str())
                .collect()
        };
        assert_eq!(of("well"), ["Page: as told"; 5]);
        assert_eq!(of("second").len(), 5);
        assert!(of("second")[1].contains("signal: 9"), "{:?}", of("second"));
        assert_eq!(of("second")[2], "Page: as told");
    }

    #[test]
    fn a_document_is_given_up_after_three_workers() {
        let seen = run(&shell(SCRIPT), &["crash"], 2).unwrap();
        let pages: Vec<_> = seen.iter().map(|s| s.1).collect();
        assert_eq!(pages, [Some(1), Some(2), Some(3), Some(4), Some(5)]);
        for (_, _, reason) in &seen[..3] {
            assert!(
                reason.contains("signal: 5") && reason.ends_with("out of luck"),
                "{reason}"
            );
        }
        assert!(seen[3].2.contains("not tried"), "{}", seen[3].2);
    }

    #[test]
    fn silence_and_babble_end_a_worker() {
        let seen = run(&shell(SCRIPT), &["babble", "hang"], 2).unwrap();
        assert_eq!(seen.len(), 10);
        assert_eq!(seen[0].2, "Crash: the worker said `hello`");
        assert_eq!(seen[5].2, "Timeout: not done after 0.4 s");
    }

    #[test]
    fn what_stops_one_worker_for_good_stops_the_run() {
        let error = run(&shell(SCRIPT), &["full", "well", "well", "well"], 1).unwrap_err();
        assert_eq!(error.causes(), ["no space"]);
    }

    #[test]
    fn a_program_that_is_no_worker_is_an_error_not_a_loop() {
        for (program, expected) in [
            (shell("echo oops >&2; exit 3"), "exit status: 3"),
            (shell("echo hello"), "the worker said `hello`"),
            (
                WorkerProgram {
                    program: "/nonexistent".into(),
                    args: Vec::new(),
                },
                "No such file",
            ),
        ] {
            let error = run(&program, &["well"], 2).unwrap_err();
            assert_eq!(error.message(), "cannot start a worker process");
            assert!(error.causes()[0].contains(expected), "{error}");
        }
    }
}
