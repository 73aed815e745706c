//! Micro-batches made ahead of the step that needs them: decode, resize, patches and tokens on worker
//! threads while the model computes.
//!
//! The order of results is the order asked for, and how a sample is made does not depend on threads:
//! any number of workers gives the same bits. At most `prefetch` micro-batches wait beside the one
//! in work. Its pixels are nearly all of a micro-batch: 24 KiB per image token (4 patches of 1536
//! numbers), so 30 MiB per page of 1280 tokens.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};
use vlft_base::{Diagnostic, Result};

use crate::batch::MicroBatch;
use crate::samples::Samples;

/// The threads that make samples, shared by training and evaluation.
#[derive(Clone, Default)]
pub struct Workers {
    /// None: samples are made when they are asked for, by whoever asks.
    pool: Option<Arc<ThreadPool>>,
    prefetch: usize,
}

impl Workers {
    /// `threads` of them (0: none), which make up to `prefetch` micro-batches ahead.
    pub fn new(threads: usize, prefetch: usize) -> Result<Self> {
        if threads == 0 {
            return Ok(Self::default());
        }
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("data-{index}"))
            .build()
            .map_err(|e| {
                Diagnostic::error("cannot start the threads that load data")
                    .caused_by(e)
                    .hint("lower `data.workers`; 0 loads without threads")
            })?;
        Ok(Self {
            pool: Some(Arc::new(pool)),
            prefetch,
        })
    }
}

/// What became of one micro-batch that was asked for.
pub struct Loaded {
    /// The samples that could be made; None if there is none.
    pub batch: Option<MicroBatch>,
    /// The others, in the order asked for.
    pub failed: Vec<Failed>,
    /// How long the caller had to wait for it.
    pub waited: Duration,
}

/// A record that could not be made into a sample, although it could be before the first step.
pub struct Failed {
    /// Its place in the data set.
    pub index: usize,
    /// Names the file, the line and the record.
    pub error: Diagnostic,
}

impl Loaded {
    /// The whole micro-batch, or everything that is wrong with it.
    pub fn whole(self) -> Result<MicroBatch> {
        match Diagnostic::all(self.failed.into_iter().map(|failed| failed.error)) {
            Some(error) => Err(error),
            None => Ok(self.batch.expect("no sample failed")),
        }
    }
}

/// The micro-batches of a list of requests, one after the other. What was made ahead and is not
/// wanted any more is forgotten when this is dropped; nobody waits for it.
pub struct Stream<'a> {
    samples: Arc<Samples>,
    workers: Workers,
    requests: Box<dyn Iterator<Item = Vec<usize>> + 'a>,
    ahead: VecDeque<Receiver<std::thread::Result<Loaded>>>,
    waiting: Arc<Mutex<Waiting>>,
}

/// Requests that nobody has taken yet, and how many are being worked on.
///
/// At most as many as there are threads: a thread that waits for a part of its image would otherwise
/// begin with the next micro-batch meanwhile, and all of them would be half-made at once.
#[derive(Default)]
struct Waiting {
    requests: VecDeque<Request>,
    in_work: usize,
}

/// The places of a micro-batch's records, and whom to tell.
struct Request {
    indices: Vec<usize>,
    to: Sender<std::thread::Result<Loaded>>,
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    // Whoever panicked while holding it had only pushed or popped.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes one micro-batch, unless enough threads do so already, and then asks for the next one. It does
/// not go on by itself: whoever runs it may have done so while waiting for a part of another image, which
/// somebody needs first.
fn work(samples: Arc<Samples>, waiting: Arc<Mutex<Waiting>>, threads: usize) {
    let Request { indices, to } = {
        let mut waiting = lock(&waiting);
        if waiting.in_work == threads {
            return;
        }
        let Some(next) = waiting.requests.pop_front() else {
            return;
        };
        waiting.in_work += 1;
        next
    };
    let made = catch_unwind(AssertUnwindSafe(|| load(&samples, &indices)));
    // Nobody listens any more: not an error.
    let _ = to.send(made);
    let is_more = {
        let mut waiting = lock(&waiting);
        waiting.in_work -= 1;
        !waiting.requests.is_empty()
    };
    if is_more {
        rayon::spawn_fifo(move || work(samples, waiting, threads));
    }
}

impl<'a> Stream<'a> {
    /// `requests`: for each micro-batch the places of its records in `samples`. One without any has
    /// no batch.
    pub fn new(
        samples: &Arc<Samples>,
        workers: &Workers,
        requests: impl Iterator<Item = Vec<usize>> + 'a,
    ) -> Self {
        Self {
            samples: samples.clone(),
            workers: workers.clone(),
            requests: Box::new(requests),
            ahead: VecDeque::new(),
            waiting: Arc::default(),
        }
    }

    /// Hands requests to the workers until `prefetch` of them are ahead of the next one.
    fn top_up(&mut self, pool: &ThreadPool) {
        while self.ahead.len() <= self.workers.prefetch {
            let Some(indices) = self.requests.next() else {
                return;
            };
            let (to, receive) = channel();
            lock(&self.waiting)
                .requests
                .push_back(Request { indices, to });
            let (samples, waiting) = (self.samples.clone(), self.waiting.clone());
            let threads = pool.current_num_threads();
            pool.spawn_fifo(move || work(samples, waiting, threads));
            self.ahead.push_back(receive);
        }
    }
}

impl Iterator for Stream<'_> {
    type Item = Loaded;

    fn next(&mut self) -> Option<Loaded> {
        let start = Instant::now();
        let loaded = match self.workers.pool.clone() {
            None => Some(load(&self.samples, &self.requests.next()?)),
            Some(pool) => {
                self.top_up(&pool);
                let made = self.ahead.pop_front()?.recv();
                Some(in_time(
                    made.expect("a worker answers as long as we listen"),
                ))
            }
        };
        loaded.map(|loaded| Loaded {
            waited: start.elapsed(),
            ..loaded
        })
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        lock(&self.waiting).requests.clear();
    }
}

/// A panic of a worker goes on in the thread that asked.
fn in_time(made: Result<Loaded, Box<dyn Any + Send>>) -> Loaded {
    made.unwrap_or_else(|panic| resume_unwind(panic))
}

fn load(samples: &Samples, indices: &[usize]) -> Loaded {
    let (batch, failed) = samples.load(indices);
    Loaded {
        batch,
        failed,
        waited: Duration::ZERO,
    }
}
