//! Where the time of a step goes, by family of operations. Off, an operation pays one look at a flag.
//!
//! Each public operation opens a span, and so does every backward, in the one place that they go
//! through ([`crate::tape`]). What an operation calls is its own time, but for a [`part`], which takes
//! its time away from it; so the families add up. On a GPU operations are only queued: there a span means something if the device is
//! synchronised at both of its ends, which is what [`Profile::start`] is given; a step takes longer for it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What belongs together when one asks what a step spends its time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Products with frozen matrices.
    Product,
    /// Four bits made dense for a product.
    Dequantize,
    /// The small products of the adapters.
    LowRank,
    Attention,
    Norm,
    Rotary,
    Activation,
    /// Sorting tokens by expert, and the experts' products.
    Experts,
    /// Head, loss and its gradient.
    Loss,
    Dropout,
    /// Norm of the gradients, clipping, AdamW.
    Optimizer,
}

impl Family {
    pub const ALL: [Family; 11] = [
        Family::Product,
        Family::Dequantize,
        Family::LowRank,
        Family::Attention,
        Family::Norm,
        Family::Rotary,
        Family::Activation,
        Family::Experts,
        Family::Loss,
        Family::Dropout,
        Family::Optimizer,
    ];

    /// For reports; stable, because scripts read it.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Product => "product",
            Family::Dequantize => "dequantize",
            Family::LowRank => "low_rank",
            Family::Attention => "attention",
            Family::Norm => "norm",
            Family::Rotary => "rotary",
            Family::Activation => "activation",
            Family::Experts => "experts",
            Family::Loss => "loss",
            Family::Dropout => "dropout",
            Family::Optimizer => "optimizer",
        }
    }
}

type Synchronize = Arc<dyn Fn() + Send + Sync>;

static ON: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: [AtomicU64; Family::ALL.len()] =
    [const { AtomicU64::new(0) }; Family::ALL.len()];
static SYNCHRONIZE: Mutex<Option<Synchronize>> = Mutex::new(None);

thread_local! {
    /// The innermost open span of this thread, and since when its clock runs.
    static OPEN: Cell<Option<(Family, Instant)>> = const { Cell::new(None) };
}

fn synchronize_with() -> MutexGuard<'static, Option<Synchronize>> {
    // A plain pointer: a thread that panicked has left it in order.
    SYNCHRONIZE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Measuring, from `start` to `end` or until it is dropped. There is one in a process at a time.
#[derive(Debug)]
pub struct Profile(());

impl Profile {
    /// None if somebody measures already. `synchronize` waits until the device has done all it was asked to.
    pub fn start(synchronize: impl Fn() + Send + Sync + 'static) -> Option<Self> {
        let mut with = synchronize_with();
        if with.is_some() {
            return None;
        }
        *with = Some(Arc::new(synchronize));
        for nanoseconds in &NANOSECONDS {
            nanoseconds.store(0, Ordering::Relaxed);
        }
        ON.store(true, Ordering::Release);
        Some(Self(()))
    }

    /// The time spent in each family so far.
    pub fn times(&self) -> [(Family, Duration); Family::ALL.len()] {
        Family::ALL.map(|family| {
            let spent = NANOSECONDS[family as usize].load(Ordering::Relaxed);
            (family, Duration::from_nanos(spent))
        })
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        ON.store(false, Ordering::Release);
        *synchronize_with() = None;
    }
}

/// An operation at work; it ends where this is dropped.
#[must_use = "a span ends where it is dropped"]
pub struct Span {
    family: Family,
    /// Whose clock stands still meanwhile.
    outer: Option<Family>,
}

/// An operation, up to where this is dropped. None, and no cost, unless somebody measures; None as well
/// within another operation, whose time this then is.
#[inline]
pub fn span(family: Family) -> Option<Span> {
    match ON.load(Ordering::Relaxed) {
        true if OPEN.get().is_none() => Some(Span::open(family)),
        _ => None,
    }
}

/// A part of an operation that is told by itself.
#[inline]
pub fn part(family: Family) -> Option<Span> {
    match ON.load(Ordering::Relaxed) {
        true => Some(Span::open(family)),
        false => None,
    }
}

impl Span {
    #[cold]
    fn open(family: Family) -> Self {
        let outer = charge();
        OPEN.set(Some((family, Instant::now())));
        Self { family, outer }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let inner = charge();
        debug_assert_eq!(
            inner,
            Some(self.family),
            "spans end in the order in which they began"
        );
        OPEN.set(self.outer.map(|outer| (outer, Instant::now())));
    }
}

/// Stops the clock of the open span, once the device is through, and says whose it was.
fn charge() -> Option<Family> {
    let synchronize = synchronize_with().clone();
    if let Some(synchronize) = synchronize {
        synchronize();
    }
    let (family, since) = OPEN.get()?;
    let spent = since.elapsed().as_nanos() as u64;
    NANOSECONDS[family as usize].fetch_add(spent, Ordering::Relaxed);
    Some(family)
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    /// One test, because there is one profile in a process.
    #[test]
    fn time_goes_to_the_innermost_span_and_to_nobody_when_off() {
        assert!(span(Family::Loss).is_none());
        let synchronized = Arc::new(AtomicU64::new(0));
        let counted = synchronized.clone();
        let profile = Profile::start(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        })
        .expect("nobody else measures");
        assert!(Profile::start(|| ()).is_none());
        {
            let _outer = span(Family::Experts);
            sleep(Duration::from_millis(20));
            {
                let _inner = part(Family::Dropout);
                sleep(Duration::from_millis(60));
            }
            assert!(
                span(Family::Loss).is_none(),
                "a part of the operation around it"
            );
            sleep(Duration::from_millis(20));
        }
        sleep(Duration::from_millis(30));
        let of = |family| {
            let found = profile
                .times()
                .into_iter()
                .find(|(name, _)| *name == family);
            found.expect("all are there").1.as_millis()
        };
        // Other tests of this process may add to other families, and slow the sleeps down.
        assert!(of(Family::Dropout) >= 60, "{}", of(Family::Dropout));
        assert!(of(Family::Experts) >= 40, "{}", of(Family::Experts));
        assert!(synchronized.load(Ordering::Relaxed) >= 4);
        drop(profile);
        assert!(span(Family::Loss).is_none());
    }

    #[test]
    fn families_are_numbered_in_their_order() {
        for (index, family) in Family::ALL.into_iter().enumerate() {
            assert_eq!(family as usize, index);
        }
    }
}
