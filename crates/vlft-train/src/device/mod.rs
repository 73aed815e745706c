//! Where a model runs.
//!
//! A device is opened once, before anything else: what is missing for it is said then, in one line
//! with what to install, and not by a panic of the tensor library later.

#[cfg(feature = "cuda")]
pub mod cuda;

use std::fmt;
use std::str::FromStr;

use vlft_base::{Diagnostic, Result};

use crate::config::Compute;
use crate::plan::Place;

/// `cpu`, or a GPU by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
    Cuda(usize),
    /// The GPU code on whatever software device Vulkan has; for tests.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

impl FromStr for Device {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            #[cfg(feature = "wgpu")]
            None if text == "wgpu" => Ok(Self::Wgpu),
            Some(("cuda", number)) if number.parse::<usize>().is_ok() => {
                Ok(Self::Cuda(number.parse().expect("just parsed")))
            }
            _ => {
                Err(Diagnostic::error(format!("unknown device `{text}`"))
                    .expected("`cpu` or `cuda:N`"))
            }
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => f.write_str("wgpu"),
        }
    }
}

impl Default for Device {
    /// The best that is compiled in and present: the first NVIDIA card, else the CPU. A card that
    /// lacks something is chosen all the same, so that nobody trains on the CPU without knowing.
    fn default() -> Self {
        #[cfg(feature = "cuda")]
        if cuda::has_card() {
            return Self::Cuda(0);
        }
        Self::Cpu
    }
}

impl Device {
    /// What activations are computed in unless the config says it.
    pub(crate) fn compute(self) -> Compute {
        match self {
            Self::Cpu => Compute::F32,
            Self::Cuda(_) => Compute::Bf16,
            // WGSL has no bf16.
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Compute::F32,
        }
    }

    /// Which memory a run is planned for.
    pub(crate) fn place(self) -> Place {
        match self {
            Self::Cpu => Place::Host,
            _ => Place::Gpu,
        }
    }

    /// Rows of tokens are filled up to a multiple of this. On a GPU lengths should repeat: for each the
    /// fastest kernels are looked for and memory is kept.
    pub(crate) fn row_multiple(self) -> usize {
        match self {
            Self::Cpu => 1,
            _ => 64,
        }
    }

    /// The device as the tensor library knows it.
    ///
    /// # Errors
    /// [`vlft_base::Kind::Device`]: it is not compiled in, not there, or lacks something.
    pub(crate) fn open(self) -> Result<burn::tensor::Device> {
        match self {
            Self::Cpu => Ok(burn::tensor::Device::flex()),
            #[cfg(feature = "cuda")]
            Self::Cuda(number) => cuda::open(number),
            #[cfg(not(feature = "cuda"))]
            Self::Cuda(number) => Err(Diagnostic::error(format!(
                "no GPU support in this build, asked for `cuda:{number}`"
            ))
            .with_kind(vlft_base::Kind::Device)
            .hint("`--device cpu`, or build with `cargo build --release --features cuda`")),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(burn::tensor::Device::wgpu(burn::tensor::DeviceKind::Cpu)),
        }
    }
}

/// What a GPU's memory pools hold. They do not shrink while a run goes on, so it is the most that was ever
/// needed, and what lay between. None on the CPU.
pub(crate) fn pool_bytes(device: &burn::tensor::Device) -> Option<u64> {
    let usage = device.memory_pool_usage()?;
    Some(usage.bytes_reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_written_as_it_is_read() {
        for text in ["cpu", "cuda:0", "cuda:7"] {
            assert_eq!(text.parse::<Device>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cpu:0"] {
            assert!(wrong.parse::<Device>().is_err(), "{wrong}");
        }
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn a_build_without_gpus_says_so() {
        let error = Device::Cuda(1).open().unwrap_err();
        assert_eq!(error.kind(), vlft_base::Kind::Device);
        assert!(error.message().contains("cuda:1"));
        assert_eq!(Device::default(), Device::Cpu);
    }
}
