//! Qwen3-VL in Hugging Face's own words, LoRA beside its linear layers, safetensors in and out.
//! This crate knows tensors and model folders; it never sees a data set.

mod adapter;
mod checkpoint;
mod frozen;
mod layout;
mod linear;
pub mod lora;
mod mmap;
mod quantized;
pub mod qwen3_vl;
mod random;

pub use adapter::{
    ADAPTER_FILES, AdapterConfig, read_adapter, read_adapter_config, tensors_to_bytes,
    write_adapter,
};
pub use checkpoint::{Checkpoint, Storage};
pub use frozen::{Frozen, Part, Quantization};
pub use lora::{AdapterGradients, Adapters, Layout, LoraSpec, LoraTargets};
pub use qwen3_vl::{Compute, Config, Inputs, Neftune, Qwen3Vl, Stage, Targets};
pub use random::write_random_weights;
