//! Numbers that are still being computed.

use burn::tensor::Tensor;
use vlft_base::{Diagnostic, Kind, Result};

/// The message of what failed for want of GPU memory.
pub const GPU_IS_FULL: &str = "the GPU's memory is full";

/// `text`: all that CubeCL says. Its own words and those of the CUDA driver; it has no type for it.
pub(crate) fn failure(text: &str) -> Diagnostic {
    let full = ["out of device memory", "OUT_OF_MEMORY", "out of memory"];
    let message = match full.iter().any(|words| text.contains(words)) {
        true => GPU_IS_FULL,
        false => "the GPU could not do what was asked of it",
    };
    Diagnostic::error(message)
        .with_kind(Kind::Device)
        .caused_by(text)
}

/// Numbers that a GPU may not have computed yet: reading them waits for all that was asked of it
/// before. On a CPU they are there.
pub struct Awaited(Tensor<1>);

impl Awaited {
    /// f32.
    pub(crate) fn new(numbers: Tensor<1>) -> Self {
        Self(numbers)
    }

    /// # Errors
    /// As [`Self::values_of`].
    pub fn values(self) -> Result<Vec<f32>> {
        let mut values = Self::values_of(vec![self])?;
        Ok(values.remove(0))
    }

    /// Several of them with one wait.
    ///
    /// # Errors
    /// [`Kind::Device`]: something that had been asked of the GPU failed, such as for want of memory.
    pub fn values_of(several: Vec<Self>) -> Result<Vec<Vec<f32>>> {
        let lengths: Vec<usize> = several.iter().map(|numbers| numbers.0.dims()[0]).collect();
        if several.is_empty() {
            return Ok(Vec::new());
        }
        let all = Tensor::cat(several.into_iter().map(|numbers| numbers.0).collect(), 0);
        let all = all
            .try_into_data()
            .map_err(|error| failure(&error.to_string()))?;
        let mut all = all.iter::<f32>();
        let mut next = |length: usize| all.by_ref().take(length).collect();
        Ok(lengths.into_iter().map(&mut next).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gpu_is_told_from_a_failed_one() {
        let full =
            "An IO error happened\n    Caused by:\n out of device memory allocating 8388608 bytes";
        assert_eq!(failure(full).message(), GPU_IS_FULL);
        let failed = failure("cuLaunchKernel failed with status 700, it needed memory");
        assert_ne!(failed.message(), GPU_IS_FULL);
        assert_eq!(failed.kind(), Kind::Device);
    }
}
