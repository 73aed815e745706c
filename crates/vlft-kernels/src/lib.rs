//! The few tensor operations burn lacks or does not do our way, each defined by plain tensor
//! operations. They know no model and no data set: tensors in, tensors out.
//!
//! Each has its definition in plain tensor operations (`reference.rs`), which works on every backend
//! and is differentiated by burn, and a CPU kernel with a backward of its own (`cpu.rs`); most have a
//! kernel for GPUs too (`cube.rs`). The public function chooses (`path.rs`), and tests show that all
//! agree. [`cross_entropy`] returns its own gradient,
//! so that the logits are never kept.
//!
//! Shapes: B batch rows, T tokens (S keys), H heads, D head dim, N rows, V vocabulary.

pub mod activation;
pub mod adamw;
pub mod attention;
pub mod cotangent;
pub mod cross_entropy;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod dropout;
pub mod experts;
pub mod grouped;
pub mod linear;
pub mod low_rank;
pub mod nf4;
pub mod norm;
pub mod offload;
pub mod profile;
pub mod qk_norm;
pub mod random;
pub mod reduce;
pub mod rotary;

#[cfg(feature = "cube")]
mod cube;
mod gemm;
mod host;
mod path;
mod simd;
mod tape;
#[cfg(test)]
mod twins;

pub use host::among_workers;
pub use path::widened;
