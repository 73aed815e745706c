//! Which of an operation's implementations a tensor takes: decided here, for all of them.

use burn::tensor::{DType, Device, Tensor};

/// The CPU kernels, the GPU kernels, or the definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// f32 on burn's CPU backend: `cpu.rs`.
    Host,
    /// 16 or 32 bits on a GPU: `cube.rs`. Arithmetic is in f32, whatever is stored.
    #[cfg(feature = "cube")]
    Cube,
    /// Everything else: `reference.rs`.
    Reference,
}

impl Path {
    /// Tracked by autodiff or not.
    pub(crate) fn of<const R: usize>(x: &Tensor<R>) -> Self {
        let device = x.device();
        match x.dtype() {
            DType::F32 if device == Device::flex() => Self::Host,
            #[cfg(feature = "cube")]
            DType::F32 | DType::F16 | DType::BF16 if is_cube(&device) => Self::Cube,
            _ => Self::Reference,
        }
    }

    /// Whether the operation has a kernel for the tensor, on the CPU or on a GPU.
    pub(crate) fn has_kernel<const R: usize>(x: &Tensor<R>) -> bool {
        Self::of(x) != Self::Reference
    }

    /// The same for operations that have a kernel on the CPU only.
    pub(crate) fn is_host<const R: usize>(x: &Tensor<R>) -> bool {
        Self::of(x) == Self::Host
    }
}

/// Whether tensors of the device are burn's GPU tensors.
#[cfg(feature = "cube")]
pub(crate) fn is_cube(device: &Device) -> bool {
    use burn::backend::DispatchDevice;
    let device = device.clone().without_autodiff();
    matches!(device.as_dispatch(), DispatchDevice::Cube(_))
}

/// Whether tensors of the device are burn's GPU tensors: not in this build.
#[cfg(not(feature = "cube"))]
pub(crate) fn is_cube(_device: &Device) -> bool {
    false
}

/// `x` in f32, unless its kernels compute in f32 on 16 bits as they are: norms, activations, rotation
/// and attention on a GPU, where each pass over memory counts.
pub fn widened<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    let narrow = x.dtype() != DType::F32;
    match narrow && !is_cube(&x.device()) {
        true => x.cast(DType::F32),
        false => x,
    }
}
