//! The few tensor operations burn lacks or does not do our way, each defined by plain tensor
//! operations. They know no model and no data set: tensors in, tensors out.
//!
//! Every operation here is differentiable by burn's autodiff as it stands, except
//! [`cross_entropy`], which returns its own gradient so that the logits are never kept. A faster
//! kernel later becomes a sibling of the plain definition, with a test that they agree.
//!
//! Shapes: B batch rows, T tokens (S keys), H heads, D head dim, N rows, V vocabulary.

pub mod activation;
pub mod attention;
pub mod cross_entropy;
pub mod norm;
pub mod reduce;
pub mod rotary;
