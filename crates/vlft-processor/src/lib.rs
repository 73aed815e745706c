//! From a record to what the model is fed: token ids, labels, positions and image patches, equal to
//! what transformers computes. No tensors here: plain vectors come out.
//!
//! Start with [`processor::Processor`].

mod chat_template;
pub mod collate;
pub mod contract;
pub mod image_cache;
mod image_file;
mod labels;
mod model_files;
mod patchify;
pub mod pixels;
mod position;
mod preprocessor;
pub mod processor;
mod python_json;
mod resample;
pub mod sample;
pub mod show;
mod stop;
mod token_count;
mod tokenizer;
mod transpose;
mod vectorized;
