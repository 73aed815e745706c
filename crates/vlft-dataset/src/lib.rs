//! The dataset toolkit: from PDFs and label zips to multimodal chat JSONL. Files and text only; no
//! tensor library is ever seen here.

pub mod doctor;
mod file_names;
pub mod json;
pub mod jsonl;
pub mod manifest;
pub mod pdfium;
pub mod problem;
pub mod rasterize;
pub mod record;
pub mod structure;
pub mod token_counter;
