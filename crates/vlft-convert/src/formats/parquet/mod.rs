//! Parquet as Hugging Face's `datasets` writes it and TRL reads it: a column of images (a list of
//! `{bytes, path}`), and either `prompt` and `completion` or `messages`, whose contents are lists of
//! parts with bare `{"type":"image"}` where an image stands.
//!
//! Only the format crate is used, without Arrow: one fixed schema is written, and reading goes row by
//! row, so the tree of array crates would be built for nothing.

mod read;
mod write;

pub use read::panics_are_expected;
pub(crate) use read::{Rows, sample};
pub(crate) use write::{Row, Shape, Writer, row};
