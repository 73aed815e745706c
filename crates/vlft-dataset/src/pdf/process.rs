//! One worker process: started, told, heard, and ended with a reason.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use vlft_base::format::bytes;
use vlft_base::{Diagnostic, Result};

use super::limits::{LOOK_EVERY, Leash, MemoryWatch};
use super::pool::Crew;
use super::protocol::{Answer, from_fatal};
use super::reject::Rule;

/// Loading libpdfium from a cold disk may take seconds, not minutes.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What a dead process said is there at once, unless a child of its own holds the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The longest line of a worker's stderr that we take as one.
const STDERR_BYTES: u64 = 64 * 1024;

/// How to start this program as a worker: it must call [`super::serve`] with its stdin and stdout.
#[derive(Clone, Debug)]
pub struct WorkerProgram {
    pub program: PathBuf,
    pub args: Vec<OsString>,
}

/// One worker process.
pub(super) struct Worker {
    child: Child,
    /// `None` once it is closed.
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
    memory: MemoryWatch,
    _leash: Leash,
    /// The last lines of its stderr, sent when it ends.
    said: Receiver<String>,
}

pub(super) enum Silence {
    TooLong(Duration),
    /// It used more memory than it may, in bytes.
    TooLarge(u64),
    Ended,
    /// It said something that is no answer.
    Babble(String),
}

impl Worker {
    pub(super) fn start(crew: &Crew<'_>) -> Result<Self> {
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
    pub(super) fn tell(&mut self, message: &impl serde::Serialize) {
        let mut line = serde_json::to_string(message).expect("messages are plain data");
        line.push('\n');
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin
                .write_all(line.as_bytes())
                .and_then(|()| stdin.flush());
        }
    }

    pub(super) fn hear(&mut self, timeout: Duration, memory_bytes: u64) -> Result<Answer, Silence> {
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

    /// In bytes.
    pub(super) fn memory_used(&mut self) -> u64 {
        self.memory.used()
    }

    /// Ends the process and says why it had to end.
    pub(super) fn post_mortem(mut self, silence: Silence) -> (Rule, String) {
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
                let said = self.said.recv_timeout(LAST_WORDS).unwrap_or_default();
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
