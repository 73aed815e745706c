//! Flash attention in CUDA C++ for NVIDIA GPUs since compute capability 8.0: tensor cores on bf16 with
//! f32 sums, and the same kernels on f32 to compare with (slow). Neither the scores nor repeated keys
//! are ever in memory; kept for the backward are the output and one f32 per row and head.
//!
//! [`plan`] says what one call is to do, [`source`] puts the kernels' text together, [`launch`] hands
//! both to CubeCL, which compiles with NVRTC and keeps its stream and its memory. The text has no other
//! users; `tests/cuda/run` runs it on the CPU against the definition, and compiles it for each
//! architecture.
//!
//! Deterministic always: each result is summed by one block in one order, so that there is no other mode.

#[cfg(feature = "cuda")]
mod launch;
mod plan;
mod source;

#[cfg(feature = "cuda")]
pub(super) use launch::{lacks, takes};
