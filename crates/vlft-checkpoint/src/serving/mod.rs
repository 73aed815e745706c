//! Whether a server will apply an adapter. vLLM loads adapters by names and says nothing about what
//! finds no place, so its rules are simulated here, version by version, before anybody serves.

mod adapter;
mod check;
mod contract;
mod flags;
mod known;
mod names;
mod report;
mod rewrite;
mod tensor;
mod versions;

pub use check::{Options, check};
pub use report::{Counts, Fate, Problem, Report, Serve, TensorFate};
pub(crate) use rewrite::only_needs_names;
pub use rewrite::{Rewritten, rewrite};
pub use versions::{VERSIONS, Version};
