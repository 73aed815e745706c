//! From a record to what the model is fed: token ids, labels, positions and image patches, equal to
//! what transformers computes. No tensors here: plain vectors come out.

pub mod collate;
pub mod processor;
pub mod sample;
