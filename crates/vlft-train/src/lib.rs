//! The trainer. Read `recipe.rs` first, top to bottom; everything else is a part of it.

mod base;
pub mod batch;
mod checkpoint;
pub mod config;
mod data;
pub mod device;
mod dropped;
mod dump;
pub mod eval;
pub mod header;
mod inputs;
pub mod loading;
pub mod lock;
pub mod log;
mod optim;
pub mod order;
mod rates;
pub mod recipe;
pub mod report;
mod run_dir;
pub mod samples;
pub mod schedule;
mod skipped;
mod start;
mod step;
mod stop;
pub mod summary;
