//! One tensor of a checkpoint onto a device.

use burn::tensor::{DType, Device, Tensor, TensorData};
use half::bf16;
use vlft_base::Result;
use vlft_checkpoint::float::Float;
use vlft_checkpoint::{Checkpoint, Storage};

/// Loads one tensor, seen as of this shape.
///
/// # Errors
/// It is not there, not of a floating-point type, or has another number of elements.
pub fn tensor<const R: usize>(
    checkpoint: &Checkpoint,
    name: &str,
    shape: [usize; R],
    storage: Storage,
    device: &Device,
) -> Result<Tensor<R>> {
    let (bytes, stored) = checkpoint.floats(name, &shape)?;
    let stored_as = match stored {
        Float::F32 => DType::F32,
        Float::Bf16 => DType::BF16,
        Float::F16 => DType::F16,
    };
    let wanted = match storage {
        Storage::F32 => DType::F32,
        Storage::Bf16 => DType::BF16,
        Storage::AsStored if stored == Float::Bf16 => DType::BF16,
        Storage::AsStored => DType::F32,
    };
    // WGSL, on which the tests run, has no bf16; f32 has all its numbers.
    let held = match wanted == DType::BF16 && !device.supports_dtype(DType::BF16) {
        true => DType::F32,
        false => wanted,
    };
    let data = if stored_as == wanted && wanted == held {
        TensorData::from_bytes_vec(bytes.to_vec(), shape, held)
    } else if wanted == DType::F32 {
        TensorData::new(stored.to_f32(bytes), shape)
    } else {
        let values = stored.to_f32(bytes).into_iter();
        let rounded: Vec<bf16> = values.map(bf16::from_f32).collect();
        TensorData::new(rounded, shape).convert_dtype(held)
    };
    checkpoint.release(name);
    // It stays as long as the model: not among what comes and goes.
    Ok(device.memory_persistent_allocations(data, |data| Tensor::from_data(data, (device, held))))
}
