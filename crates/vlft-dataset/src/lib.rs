//! The dataset toolkit: from PDFs and label zips to multimodal chat JSONL. Files and text only; no
//! tensor library is ever seen here.

pub mod manifest;
pub mod record;
pub mod token_counter;
