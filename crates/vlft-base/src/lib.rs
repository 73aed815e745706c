//! What every layer stands on: one error type ([`Diagnostic`]), one way to create an output
//! ([`output`]), one to tell contents apart ([`digest`]), one to map a file ([`mmap`]) and one to copy a
//! part of it ([`copy`]). It knows nothing of records, images or tensors.

pub mod copy;
mod diagnostic;
pub mod digest;
pub mod format;
pub mod input;
pub mod mmap;
pub mod output;
pub mod paths;
mod suggest;

pub use diagnostic::{Diagnostic, Kind, Place, Result, Severity};
pub use suggest::{did_you_mean, one_of};
