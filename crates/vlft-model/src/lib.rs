//! Qwen3-VL in Hugging Face's own words, LoRA beside its linear layers, safetensors in and out.
//! This crate knows tensors and model folders; it never sees a data set.

mod adapter;
mod checkpoint;
mod linear;
pub mod lora;
mod mmap;
pub mod qwen3_vl;
mod random;

pub use adapter::{
    AdapterConfig, read_adapter, read_adapter_config, tensors_to_bytes, write_adapter,
};
pub use checkpoint::{Checkpoint, Storage};
pub use lora::{AdapterGradients, Adapters, Layout};
pub use qwen3_vl::{Config, Inputs, Qwen3Vl, Stage, Targets};
pub use random::write_random_weights;
