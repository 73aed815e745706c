//! Other tools' datasets to records and back.
//!
//! Everything goes over one [`sample::Sample`]: a format's reader makes it, a format's writer takes it
//! (`formats/`, one file each). Examples are read one after the other, a batch is converted on all
//! cores, and the results are written in order, so a file larger than memory is no different from a
//! small one. What the target cannot hold is told per record: rejects are not written, losses are
//! ([`rules::RULES`]); the counts always come to in = out + rejected.
//!
//! [`read_bytes`] reads any bytes as any format and touches no file: fuzz targets begin there.

mod chat;
mod check;
mod dataset_info;
mod detect;
mod elements;
mod fields;
mod format;
mod formats;
mod images;
mod report;
pub mod rules;
mod run;
pub mod sample;
mod source;
mod tags;
mod target;

pub use format::Format;
pub use formats::parquet::panics_are_expected;
pub use report::{Hits, Line, Report};
pub use run::{Options, convert, read_bytes};
