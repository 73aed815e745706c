//! The files of models and adapters: `config.json`, safetensors with their names and shapes, which
//! layers LoRA adapts, `adapter_config.json`. Names and bytes only: what is computed with them is
//! `vlft-model`'s, so that a checkpoint can be looked at, checked and merged without a tensor library.

mod adapter;
pub mod archive;
mod checkpoint;
mod config;
mod family;
pub mod float;
pub mod info;
mod layout;
pub mod merge;
mod part;
pub mod published;
mod quant_state;
mod random;
pub mod serving;
mod tensors;

pub use adapter::{
    ADAPTER_FILES, AdapterConfig, AdapterFile, F32Matrix, matrices_to_bytes, read_adapter_config,
    tensor_name, write_adapter,
};
pub use checkpoint::{Checkpoint, Storage, shape_text};
pub use config::{Config, ExpertConfig, TextConfig, VisionConfig};
pub use family::{FAMILIES, Family, SUPPORTED};
pub use layout::{Adapted, Group, Layout, LoraSpec, LoraTargets, Module, TEXT_TARGETS};
pub use part::Part;
pub use quant_state::QuantState;
pub use random::{RandomWeights, write_random_weights};
