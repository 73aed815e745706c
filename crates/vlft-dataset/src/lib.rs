//! The dataset toolkit: from PDFs and label zips to multimodal chat JSONL. Files and text only; no
//! tensor library is ever seen here.

mod batches;
pub mod build;
mod disjoint;
pub mod doctor;
mod earlier;
mod file_names;
pub mod image_limits;
pub mod image_path;
pub mod inspect;
pub mod jpeg;
pub mod json;
pub mod jsonl;
mod known_pages;
pub mod lineage;
pub mod manifest;
mod page_facts;
pub mod pdf;
pub mod pdfium;
pub mod perceptual;
pub mod problem;
pub mod rasterize;
pub mod record;
pub mod rules;
pub mod schema;
pub mod score;
mod seen;
pub mod smart_resize;
pub mod split;
mod spread;
pub mod stats;
pub mod structure;
pub mod token_counter;
pub mod unpack;
pub mod validate;
pub mod why;
