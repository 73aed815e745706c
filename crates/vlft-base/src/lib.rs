//! What every layer stands on: one error type ([`Diagnostic`]) and one way to create an output
//! ([`output`]). It knows nothing of records, images or tensors.

mod diagnostic;
pub mod format;
pub mod output;
mod suggest;

pub use diagnostic::{Diagnostic, Kind, Place, Result, Severity};
pub use suggest::{did_you_mean, one_of};
