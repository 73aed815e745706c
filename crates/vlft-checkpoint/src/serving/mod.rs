//! Whether a server will apply an adapter. vLLM loads adapters by names and says nothing about what
//! finds no place, so its rules are simulated here, version by version, before anybody serves.

mod adapter;
mod check;
mod command;
mod contents;
mod contract;
mod flags;
mod known;
mod modules;
mod names;
mod parameters;
mod planned;
mod ranks;
mod report;
mod rewrite;
mod settings;
mod tensor;
mod versions;

pub(crate) use adapter::trained_on_four_bits;
pub use check::{Options, check};
pub(crate) use flags::quoted;
pub(crate) use known::is_sparse;
pub(crate) use names::{Name, Part};
pub use planned::check_planned;
pub use report::{Counts, Fate, Problem, Report, Serve, TensorFate};
pub(crate) use rewrite::only_needs_names;
pub use rewrite::{Rewritten, rewrite};
pub use versions::{VERSIONS, Version};
