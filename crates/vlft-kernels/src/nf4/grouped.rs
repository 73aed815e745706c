//! Grouped products with matrices that are packed in one piece, as fused experts are: blocks may run
//! from one group's matrix into the next.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
use burn::tensor::Tensor;

use super::Nf4Matrix;
use super::op::{self, Geometry};
use crate::experts::{floats, integers};
use crate::grouped::{Groups, Order, has_kernel, products, reference};
use crate::profile::{Family, span};
use crate::simd::fetch;
use crate::tape::record;

/// See [`Nf4Matrix::grouped_linear`].
pub(super) fn linear(
    x: Tensor<2>,
    matrix: &Nf4Matrix,
    order: Order,
    groups: &Arc<Groups>,
) -> Tensor<2> {
    let _span = span(Family::Experts);
    assert_eq!(x.dims()[0], groups.copies(), "a row for every copy");
    assert!(
        matrix.geometry.rows.is_multiple_of(groups.count()),
        "the groups share the rows"
    );
    if !has_kernel(&x) {
        return linear_reference(x, matrix, order, groups);
    }
    Tensor::from_dispatch(Dispatch::nf4_grouped_linear(
        x.into_dispatch(),
        matrix.codes.clone().into_dispatch(),
        matrix.levels.clone().into_dispatch(),
        matrix.scales().into_dispatch(),
        matrix.geometry,
        order,
        groups.clone(),
    ))
}

/// The definition: everything is made dense.
fn linear_reference(x: Tensor<2>, matrix: &Nf4Matrix, order: Order, groups: &Groups) -> Tensor<2> {
    let (count, Geometry { rows, columns, .. }) = (groups.count(), matrix.geometry);
    let dense = matrix.matrix().reshape([count, rows / count, columns]);
    reference::linear(x, dense, order, groups)
}

#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
pub(super) trait GroupedNf4Ops: Backend {
    fn nf4_grouped_linear(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        levels: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        geometry: Geometry,
        order: Order,
        groups: Arc<Groups>,
    ) -> FloatTensor<Self>;
}

pub(super) trait GroupedNf4Gradients: GroupedNf4Ops {
    fn nf4_grouped_linear_backward(
        dy: FloatTensor<Self>,
        codes: IntTensor<Self>,
        levels: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        geometry: Geometry,
        order: Order,
        groups: &Groups,
    ) -> FloatTensor<Self>;
}

/// A packed stack as plain numbers.
pub(crate) struct Stack {
    codes: FlexTensor,
    levels: FlexTensor,
    scales: FlexTensor,
    geometry: Geometry,
}

impl Stack {
    /// Of a matrix on the CPU.
    pub(crate) fn of(matrix: &Nf4Matrix) -> Self {
        let (codes, levels) = (integers(&matrix.codes), floats(&matrix.levels));
        Self::new(&codes, &levels, &floats(&matrix.scales()), matrix.geometry)
    }

    fn new(
        codes: &FlexTensor,
        levels: &FlexTensor,
        scales: &FlexTensor,
        geometry: Geometry,
    ) -> Self {
        Self {
            codes: codes.to_contiguous(),
            levels: levels.to_contiguous(),
            scales: scales.to_contiguous(),
            geometry,
        }
    }

    /// Each group's rows times the transpose of its matrix, or its matrix as it lies.
    fn product(&self, x: FlexTensor, turned: bool, groups: &Groups) -> FlexTensor {
        let (rows, columns) = (self.geometry.rows / groups.count(), self.geometry.columns);
        products(x, groups, [rows, columns], turned, |group| {
            let mut weight = vec![0f32; rows * columns];
            self.unpack(group * rows * columns, &mut weight);
            weight
        })
    }

    pub(crate) fn fetch(&self, first: usize, count: usize) {
        fetch(&self.codes.storage::<u8>()[first / 2..(first + count).div_ceil(2)]);
    }

    /// The weights from number `first` of the flat list on.
    pub(crate) fn unpack(&self, first: usize, out: &mut [f32]) {
        let (codes, levels) = (self.codes.storage::<u8>(), self.levels.storage::<f32>());
        let scales: &[f32] = self.scales.storage();
        let (block, end) = (self.geometry.block, first + out.len());
        let mut at = first;
        while at < end {
            let stop = (at - at % block + block).min(end);
            let values = &mut out[at - first..stop - first];
            unpack_some(values, at..stop, codes, levels, scales[at / block]);
            at = stop;
        }
    }
}

/// Weights of one block, from anywhere in it.
fn unpack_some(values: &mut [f32], range: Range<usize>, codes: &[u8], levels: &[f32], scale: f32) {
    // An odd first one is the low half of its byte.
    let odd = range.start % 2;
    let (first, rest) = values.split_at_mut(odd);
    for value in first {
        *value = levels[usize::from(codes[range.start / 2] & 15)] * scale;
    }
    let bytes = &codes[(range.start + odd) / 2..range.end.div_ceil(2)];
    op::unpack(rest, bytes, levels, scale);
}

impl GroupedNf4Ops for Flex {
    fn nf4_grouped_linear(
        x: FlexTensor,
        codes: FlexTensor,
        levels: FlexTensor,
        scales: FlexTensor,
        geometry: Geometry,
        order: Order,
        groups: Arc<Groups>,
    ) -> FlexTensor {
        let stack = Stack::new(&codes, &levels, &scales, geometry);
        stack.product(x, order == Order::OutIn, &groups)
    }
}

impl GroupedNf4Gradients for Flex {
    fn nf4_grouped_linear_backward(
        dy: FlexTensor,
        codes: FlexTensor,
        levels: FlexTensor,
        scales: FlexTensor,
        geometry: Geometry,
        order: Order,
        groups: &Groups,
    ) -> FlexTensor {
        let stack = Stack::new(&codes, &levels, &scales, geometry);
        stack.product(dy, order == Order::InOut, groups)
    }
}

impl<B: GroupedNf4Gradients, C: CheckpointStrategy> GroupedNf4Ops for Autodiff<B, C> {
    fn nf4_grouped_linear(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        levels: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        geometry: Geometry,
        order: Order,
        groups: Arc<Groups>,
    ) -> FloatTensor<Self> {
        let (levels, scales) = (levels.into_primitive(), scales.into_primitive());
        let node = x.node();
        let y = B::nf4_grouped_linear(
            x.into_primitive(),
            codes.clone(),
            levels.clone(),
            scales.clone(),
            geometry,
            order,
            groups.clone(),
        );
        // The packed stack is kept: no matrix of it waits for the backward.
        record::<B, C, 1>(Family::Experts, [node], y, move |dy, _| {
            [Some(B::nf4_grouped_linear_backward(
                dy, codes, levels, scales, geometry, order, &groups,
            ))]
        })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::nf4::{Code, quantize};
    use crate::twins::{agree, tracked};

    /// Matrices of whole blocks, of a part of one, of an odd number of weights.
    #[test]
    fn packed_groups_agree_with_dense_ones() {
        let chosen: Vec<u32> = (0..90).map(|i| (i * i + i / 7) % 6).collect();
        let groups = Arc::new(Groups::new(&chosen, 3, 6));
        for (inputs, outputs) in [(64, 32), (20, 24), (13, 7), (1, 1)] {
            let n = 6 * inputs * outputs;
            let values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.713).sin()).collect();
            for double in [false, true] {
                for order in [Order::OutIn, Order::InOut] {
                    let packed = quantize(&values, double).expect("finite");
                    let shape = match order {
                        Order::OutIn => [6 * outputs, inputs],
                        Order::InOut => [6 * inputs, outputs],
                    };
                    let nf4 = Nf4Matrix::new(packed, &Code::default(), shape, &Device::flex());
                    agree(&[&tracked([90, inputs])], 2e-5, |x| {
                        let slow = linear_reference(x[0].clone(), &nf4, order, &groups);
                        (nf4.grouped_linear(x[0].clone(), order, &groups), slow)
                    });
                }
            }
        }
    }

    #[test]
    #[cfg(feature = "wgpu")]
    fn gpu_packed_groups_agree_with_dense_ones() {
        use burn::tensor::DType;

        use crate::twins::gpu::{agrees_in, device};

        let chosen: Vec<u32> = (0..90).map(|i| (i * i + i / 7) % 6).collect();
        let groups = Arc::new(Groups::new(&chosen, 3, 6));
        for (inputs, outputs) in [(64, 32), (20, 24), (13, 7), (1, 1)] {
            let n = 6 * inputs * outputs;
            let values: Vec<f32> = (0..n).map(|i| (i as f32 * 0.713).sin() * 0.3).collect();
            for (double, order) in [(false, Order::OutIn), (true, Order::InOut)] {
                let packed = quantize(&values, double).expect("finite");
                let shape = match order {
                    Order::OutIn => [6 * outputs, inputs],
                    Order::InOut => [6 * inputs, outputs],
                };
                let on = |device: &Device| {
                    Nf4Matrix::new(packed.clone(), &Code::default(), shape, device)
                };
                let (on_gpu, on_cpu) = (on(&device()), on(&Device::flex()));
                agrees_in(
                    &[(DType::F32, 1e-4)],
                    &[[90, inputs]],
                    &[],
                    |x, _| on_gpu.grouped_linear(x[0].clone(), order, &groups),
                    |x, _| linear_reference(x[0].clone(), &on_cpu, order, &groups),
                );
            }
        }
    }
}
