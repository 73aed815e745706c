//! All whole-program tests: one test binary (`cargo test -p vlft --test suite`), one subject per
//! module. Modules that need the trainer carry `#[cfg(feature = "train")]`.

mod cli;
mod layering;
#[cfg(feature = "train")]
mod resume;
mod support;
#[cfg(feature = "train")]
mod train;
