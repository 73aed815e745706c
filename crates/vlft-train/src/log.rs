//! What a run says about itself: `RUN/metrics.jsonl`, one line per optimizer step for programs, and
//! the progress line, the same columns for ever, for people. `RUN/tensorboard/` has the curves once more.

mod journal;
mod metrics;
mod progress;
mod tensorboard;

pub(crate) use journal::Journal;
pub use metrics::{
    EvalLine, Line, MetricsLog, Resumed, SampleLine, StepLine, Stopped, SummaryLine, read_metrics,
};
pub(crate) use progress::waiting;
pub use progress::{Cadence, Pace, ProgressLine, resident_bytes};
pub(crate) use tensorboard::TENSORBOARD_DIR;
use tensorboard::TensorBoard;

/// The name of the metrics file inside a run directory.
pub const METRICS_FILE: &str = "metrics.jsonl";
