//! The trainer. Read `recipe.rs` first, top to bottom; everything else is a part of it.

pub mod config;
pub mod log;
pub mod order;
pub mod report;
pub mod schedule;
