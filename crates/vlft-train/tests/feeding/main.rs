//! What a run is fed with: weights of records, and how samples are put together.

mod cache;
mod loading;
mod packing;
mod support;
mod weights;
