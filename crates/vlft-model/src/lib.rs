//! Qwen3-VL in Hugging Face's own words, and LoRA beside its linear layers. This crate knows tensors;
//! the files they come from are `vlft-checkpoint`'s, and it never sees a data set.

mod adapter;
mod awaited;
mod frozen;
mod linear;
pub mod lora;
mod nf4_cache;
mod quantized;
pub mod qwen3_vl;
mod tensor;

pub use adapter::{read_adapter, tensors_to_bytes, write_adapter};
pub use awaited::{Awaited, GPU_IS_FULL};
pub use frozen::{Frozen, Quantization};
pub use lora::{AdapterGradients, Adapters};
pub use qwen3_vl::{Checkpointing, Compute, Head, Inputs, Neftune, Qwen3Vl, Stage, Targets};
pub use tensor::tensor;
