//! Matrices that a forward leaves for its backward, on the device or, meanwhile, in the host's memory.

#[cfg(feature = "cube")]
mod cube;

use burn::tensor::Tensor;

#[cfg(feature = "cube")]
use crate::path::is_cube;

/// How many offloaded matrices may be on their way to the host at once: the GPU goes on computing while the oldest
/// is waited for, and no more than these still take its memory.
pub const ON_THE_WAY: usize = 2;

/// Matrices `[N, C]`, untracked; the last in is the first out, as a backward wants them.
///
/// With `offloading` those of a GPU are copied to pinned memory of the host on the way in, and back on the
/// way out; their values stay the same, bit for bit. The copies take their turn among what the GPU is asked
/// to do, so nothing has to be waited for but their end. On a CPU there is no other memory: nothing is copied.
pub struct Stack {
    #[cfg(feature = "cube")]
    offloading: bool,
    held: Vec<Held>,
}

enum Held {
    OnDevice(Tensor<2>),
    #[cfg(feature = "cube")]
    OnHost(cube::Offloaded),
}

impl Stack {
    pub fn new(offloading: bool) -> Self {
        #[cfg(not(feature = "cube"))]
        let _ = offloading; // A build for CPUs.
        Self {
            #[cfg(feature = "cube")]
            offloading,
            held: Vec::new(),
        }
    }

    pub fn push(&mut self, x: Tensor<2>) {
        #[cfg(feature = "cube")]
        if self.offloading && is_cube(&x.device()) {
            if let Some(at) = self.held.len().checked_sub(ON_THE_WAY)
                && let Held::OnHost(older) = &mut self.held[at]
            {
                older.settle();
            }
            self.held.push(Held::OnHost(cube::Offloaded::new(x)));
            return;
        }
        self.held.push(Held::OnDevice(x));
    }

    /// None if there is no more.
    ///
    /// # Errors
    /// What the GPU says of a matrix that it could not copy, or could not compute.
    pub fn pop(&mut self) -> Result<Option<Tensor<2>>, String> {
        match self.held.pop() {
            None => Ok(None),
            Some(Held::OnDevice(x)) => Ok(Some(x)),
            #[cfg(feature = "cube")]
            Some(Held::OnHost(x)) => x.restored().map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Distribution};

    use super::*;

    fn random(device: &Device, rows: usize) -> Tensor<2> {
        Tensor::random([rows, 24], Distribution::Normal(0.0, 1.0), device)
    }

    #[test]
    fn what_went_in_comes_out_in_the_other_order() {
        let matrices: Vec<_> = (1..6).map(|rows| random(&Device::flex(), rows)).collect();
        for offloading in [false, true] {
            let mut stack = Stack::new(offloading);
            matrices.iter().cloned().for_each(|x| stack.push(x));
            for expected in matrices.iter().rev() {
                let found = stack.pop().unwrap().expect("as many as went in");
                assert_eq!(found.into_data(), expected.to_data());
            }
            assert!(stack.pop().unwrap().is_none());
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn gpu_matrices_come_back_bit_for_bit() {
        use burn::tensor::DType;

        use crate::twins::gpu::{device, sent, settled};

        for dtype in [DType::F32, DType::F16] {
            let matrices: Vec<_> = (1..8)
                .map(|rows| sent(&random(&Device::flex(), 37 * rows), dtype))
                .collect();
            // One that does not lie row by row.
            let columns = matrices[6].clone().transpose().slice([0..24, 5..50]);
            let mut stack = Stack::new(true);
            let all: Vec<_> = matrices.into_iter().chain([columns]).collect();
            all.iter().cloned().for_each(|x| stack.push(x));
            for expected in all.iter().rev() {
                let found = stack.pop().unwrap().expect("as many as went in");
                assert_eq!((found.device(), found.dtype()), (device(), dtype));
                assert_eq!(found.into_data(), expected.to_data());
            }
            assert!(stack.pop().unwrap().is_none());
        }
        settled(&device());
    }
}
