//! What a device reaches in one large product: what a training step is held against.

use std::time::Instant;

use burn::tensor::{DType, Device, Distribution, Tensor};
use serde::Serialize;

use crate::config::Compute;

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rate {
    /// Two for each multiplication and addition.
    pub operations_per_second: f64,
    /// Side of the square matrices; absent where the rate was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub side: Option<usize>,
}

impl Rate {
    pub(super) fn given(operations_per_second: f64) -> Self {
        Self {
            operations_per_second,
            side: None,
        }
    }
}

/// Of the best of some rounds of products in the type that is computed in; other programs on the machine
/// only make it slower.
pub(super) fn measure(device: &Device, compute: Compute) -> Rate {
    let on_host = *device == Device::flex();
    let (side, rounds, products) = if on_host { (768, 5, 4) } else { (8192, 5, 20) };
    let dtype = match compute {
        Compute::F32 => DType::F32,
        Compute::Bf16 => DType::BF16,
    };
    let random = || {
        let values = Distribution::Normal(0.0, 1.0);
        Tensor::<2>::random([side, side], values, device).cast(dtype)
    };
    let (a, b) = (random(), random());
    // Compiles and tunes.
    drop(a.clone().matmul(b.clone()));
    let _ = device.sync();
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..products {
            drop(a.clone().matmul(b.clone()));
        }
        // An operation that failed shows in what comes after.
        let _ = device.sync();
        best = best.min(start.elapsed().as_secs_f64() / products as f64);
    }
    Rate {
        operations_per_second: 2.0 * (side as f64).powi(3) / best,
        side: Some(side),
    }
}
