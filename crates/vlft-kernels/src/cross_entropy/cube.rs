//! A cube for each row: its largest logit, the sum of the exponentials, then the gradient over the logits.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Int, Shape, Tensor, TensorData};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use crate::cube::{Rows, contiguous, room, stored, sum_of_cube, sum_of_vector};

/// As [`super::reference::loss_of_logits`], in the type of the logits; the gradient takes their place.
pub(super) fn loss_of_logits(
    logits: Tensor<2>,
    targets: &[i32],
    with_gradient: bool,
) -> (Tensor<1>, Option<Tensor<2>>) {
    let device = logits.device();
    let targets = TensorData::new(targets.to_vec(), [targets.len()]);
    let targets = Tensor::<1, Int>::from_data(targets, (&device, DType::I32));
    let (logits, targets) = (logits.into_dispatch(), targets.into_dispatch());
    let (nll, gradient) = Dispatch::loss_of_logits(logits, targets, with_gradient);
    let gradient = with_gradient.then(|| Tensor::from_dispatch(gradient));
    (Tensor::from_dispatch(nll), gradient)
}

#[backend_extension(Cube)]
pub(super) trait LossOps: Backend {
    /// The loss of each row in f32, and what is in the place of the logits then.
    fn loss_of_logits(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
        with_gradient: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

impl LossOps for CubeBackend {
    fn loss_of_logits(
        logits: CubeTensor,
        targets: CubeTensor,
        with_gradient: bool,
    ) -> (CubeTensor, CubeTensor) {
        let logits = contiguous(logits);
        // The caller's own, unless somebody else looks at them too.
        let logits = match logits.can_mut() {
            true => logits,
            false => logits.copy(),
        };
        let (rows, client, dtype) = (Rows::of(&logits), logits.client.clone(), stored(&logits));
        let nll = room(&logits, Shape::new([rows.rows]), DType::F32);
        loss_of_rows::launch(
            &client,
            rows.count(),
            rows.dim(),
            rows.vector,
            logits.clone().into_buffer_arg(),
            contiguous(targets).into_buffer_arg(),
            nll.clone().into_buffer_arg(),
            rows.rows,
            rows.width,
            rows.units,
            with_gradient,
            dtype,
        );
        (nll, logits)
    }
}

#[cube(launch)]
fn loss_of_rows<F: Float, N: Size>(
    logits: &mut [Vector<F, N>],
    targets: &[i32],
    nll: &mut [f32],
    rows: usize,
    width: usize,
    #[comptime] units: usize,
    #[comptime] with_gradient: bool,
    #[define(F)] _dtype: ElemType,
) {
    // The same for all units of a cube: they meet at the same barriers.
    if CUBE_POS < rows {
        let first = CUBE_POS * width;
        let target = targets[CUBE_POS] as usize;
        let right_vector = target / N::value();
        let lane = target % N::value();
        let mut right = f32::new(0.0);
        let beside = Vector::<f32, N>::cast_from(logits[first + right_vector]);
        #[unroll]
        for k in 0..N::value() {
            if k == lane {
                right = beside.extract(k);
            }
        }

        let mut largest = Vector::<f32, N>::cast_from(logits[first]);
        let mut i = UNIT_POS as usize;
        while i < width {
            largest = max(largest, Vector::<f32, N>::cast_from(logits[first + i]));
            i += units;
        }
        let mut of_vector = largest.extract(0usize);
        #[unroll]
        for k in 1..N::value() {
            of_vector = max(of_vector, largest.extract(k));
        }
        let largest = max_of_cube(of_vector, units);

        let highest = Vector::<f32, N>::new(largest);
        let mut sums = Vector::<f32, N>::new(0.0);
        let mut i = UNIT_POS as usize;
        while i < width {
            sums += (Vector::<f32, N>::cast_from(logits[first + i]) - highest).exp();
            i += units;
        }
        let total = sum_of_cube(sum_of_vector(sums), units);
        if UNIT_POS == 0 {
            nll[CUBE_POS] = total.ln() + largest - right;
        }
        if with_gradient {
            let normal = Vector::<f32, N>::new(1.0 / total);
            let mut i = UNIT_POS as usize;
            while i < width {
                let logit = Vector::<f32, N>::cast_from(logits[first + i]);
                let mut gradient = (logit - highest).exp() * normal;
                if i == right_vector {
                    #[unroll]
                    for k in 0..N::value() {
                        if k == lane {
                            gradient.insert(k, gradient.extract(k) - 1.0);
                        }
                    }
                }
                logits[first + i] = Vector::cast_from(gradient);
                i += units;
            }
        }
    }
}

/// The largest of every unit's values, for every unit.
#[cube]
fn max_of_cube(value: f32, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    let mut values = Shared::<[f32]>::new_slice(units);
    values[unit] = value;
    sync_cube();
    let mut active = CUBE_DIM as usize / 2;
    while active > 0 {
        if unit < active {
            values[unit] = max(values[unit], values[unit + active]);
        }
        active /= 2;
        sync_cube();
    }
    let largest = values[0];
    sync_cube();
    largest
}
