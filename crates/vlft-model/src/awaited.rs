//! Numbers that are still being computed.

use burn::tensor::Tensor;
use vlft_base::{Diagnostic, Kind, Result};

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
        let all = all.try_into_data().map_err(|error| {
            Diagnostic::error("the GPU could not do what was asked of it")
                .with_kind(Kind::Device)
                .caused_by(error)
        })?;
        let mut all = all.iter::<f32>();
        let mut next = |length: usize| all.by_ref().take(length).collect();
        Ok(lengths.into_iter().map(&mut next).collect())
    }
}
