//! All whole-program tests: one test binary (`cargo test -p vlft --test suite`), one subject per
//! module. Modules that need the trainer carry `#[cfg(feature = "train")]`.

#[cfg(feature = "train")]
mod bench;
mod cli;
#[cfg(feature = "train")]
mod evaluating;
#[cfg(feature = "train")]
mod faults;
mod layering;
#[cfg(feature = "train")]
mod memory;
#[cfg(feature = "train")]
mod plan;
mod readme;
#[cfg(feature = "train")]
mod resume;
#[cfg(feature = "train")]
mod resume_changed;
mod support;
#[cfg(feature = "train")]
mod train;
