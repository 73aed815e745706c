//! Dequantising, and the product with a quantised matrix: the definition in plain tensor
//! operations, a fast path on the CPU, and a backward that keeps the packed weight only.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, Dispatch, Flex, TensorMetadata, backend_extension,
};
use burn::tensor::{FloatDType, Int, Shape, Slice, Tensor, TensorData};
use rayon::prelude::*;

use crate::profile::{Family, part, span};
use crate::tape::record;

/// How the flat list of codes is a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Weights that share a scale; even.
    pub(super) block: usize,
}

/// `codes`: `[ceil(n / 2)]` bytes, the even element in the high half (on a GPU four of them a word);
/// `levels`: `[16]`; `scales`: `[ceil(n / block)]`, f32.
#[backend_extension(Autodiff, Cube: cfg(feature = "cube"), Flex)]
pub(super) trait Nf4Ops: Backend {
    /// `levels[code] * scale` in f32, then made `dtype`: `[rows, columns]`.
    fn nf4_dequantize(
        codes: IntTensor<Self>,
        levels: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        geometry: Geometry,
        dtype: FloatDType,
    ) -> FloatTensor<Self> {
        let weight = dequantize_reference::<Self>(codes, levels, scales, geometry);
        Self::float_cast(weight, dtype)
    }

    /// `x W^T` in the type of `x`. `x`: `[N, columns]` -> `[N, rows]`.
    fn nf4_linear(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        levels: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype().into();
        let dense = part(Family::Dequantize);
        let weight = Self::nf4_dequantize(codes, levels, scales, geometry, dtype);
        drop(dense);
        Self::float_matmul(x, Self::float_transpose(weight))
    }
}

/// The definition. It makes several passes over integers as large as the matrix.
pub(super) fn dequantize_reference<B: Backend>(
    codes: IntTensor<B>,
    levels: FloatTensor<B>,
    scales: FloatTensor<B>,
    geometry: Geometry,
) -> FloatTensor<B> {
    let Geometry {
        rows,
        columns,
        block,
    } = geometry;
    let (bytes, n) = (codes.shape()[0], rows * columns);
    let high = B::bitwise_right_shift_scalar(codes.clone(), 4i64.into());
    let low = B::bitwise_and_scalar(codes, 15i64.into());
    let halves = [high, low].map(|half| B::int_reshape(half, Shape::new([bytes, 1])));
    let codes = B::int_reshape(B::int_cat(halves.to_vec(), 1), Shape::new([2 * bytes]));
    let first = |n: usize| [Slice::new(0, Some(n as isize), 1)];
    let values = B::float_slice(B::float_select(levels, 0, codes), &first(n));

    let blocks = scales.shape()[0];
    let scales = B::float_reshape(scales, Shape::new([blocks, 1]));
    let scales = B::float_expand(scales, Shape::new([blocks, block]));
    let scales = B::float_reshape(scales, Shape::new([blocks * block]));
    let weight = B::float_mul(values, B::float_slice(scales, &first(n)));
    B::float_reshape(weight, Shape::new([rows, columns]))
}

impl Nf4Ops for Flex {
    fn nf4_dequantize(
        codes: IntTensor<Self>,
        levels: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        geometry: Geometry,
        dtype: FloatDType,
    ) -> FloatTensor<Self> {
        let Geometry {
            rows,
            columns,
            block,
        } = geometry;
        let device = codes.device();
        let (codes, levels, scales) = (
            codes.to_contiguous(),
            levels.to_contiguous(),
            scales.to_contiguous(),
        );
        let levels: &[f32] = levels.storage();
        let mut weight = vec![0f32; rows * columns];
        weight
            .par_chunks_mut(block)
            .zip(codes.storage::<u8>().par_chunks(block / 2))
            .zip(scales.storage::<f32>())
            .with_min_len(64)
            .for_each(|((values, bytes), scale)| unpack(values, bytes, levels, *scale));
        let weight = Self::float_from_data(TensorData::new(weight, [rows, columns]), &device);
        match dtype {
            FloatDType::F32 => weight,
            _ => Self::float_cast(weight, dtype),
        }
    }
}

/// Weights of one block, the first of them in the high half of the first byte.
pub(super) fn unpack(values: &mut [f32], bytes: &[u8], levels: &[f32], scale: f32) {
    let table: [f32; 16] = std::array::from_fn(|code| levels[code] * scale);
    for (pair, byte) in values.chunks_mut(2).zip(bytes) {
        pair[0] = table[usize::from(byte >> 4)];
        if let Some(second) = pair.get_mut(1) {
            *second = table[usize::from(byte & 15)];
        }
    }
}

impl<B: Backend + Nf4Ops, C: CheckpointStrategy> Nf4Ops for Autodiff<B, C> {
    fn nf4_dequantize(
        codes: IntTensor<Self>,
        levels: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        geometry: Geometry,
        dtype: FloatDType,
    ) -> FloatTensor<Self> {
        let (levels, scales) = (levels.into_primitive(), scales.into_primitive());
        Self::from_inner(B::nf4_dequantize(codes, levels, scales, geometry, dtype))
    }

    fn nf4_linear(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        levels: FloatTensor<Self>,
        scales: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let (levels, scales) = (levels.into_primitive(), scales.into_primitive());
        let node = x.node();
        let y = B::nf4_linear(
            x.into_primitive(),
            codes.clone(),
            levels.clone(),
            scales.clone(),
            geometry,
        );
        // The packed weight is kept: neither `x` nor the dense matrix waits for the backward.
        record::<B, C, 1>(Family::Product, [node], y, move |dy, _| {
            let dtype = dy.dtype().into();
            let dense = part(Family::Dequantize);
            let weight = B::nf4_dequantize(codes, levels, scales, geometry, dtype);
            drop(dense);
            [Some(B::float_matmul(dy, weight))]
        })
    }
}

/// [`Nf4Ops::nf4_dequantize`] over tensors.
pub(super) fn dequantize(
    codes: Tensor<1, Int>,
    levels: Tensor<1>,
    scales: Tensor<1>,
    geometry: Geometry,
    dtype: FloatDType,
) -> Tensor<2> {
    let _span = part(Family::Dequantize);
    Tensor::from_dispatch(<Dispatch as Nf4Ops>::nf4_dequantize(
        codes.into_dispatch(),
        levels.into_dispatch(),
        scales.into_dispatch(),
        geometry,
        dtype,
    ))
}

/// [`Nf4Ops::nf4_linear`] over tensors.
pub(super) fn linear(
    x: Tensor<2>,
    codes: Tensor<1, Int>,
    levels: Tensor<1>,
    scales: Tensor<1>,
    geometry: Geometry,
) -> Tensor<2> {
    let _span = span(Family::Product);
    Tensor::from_dispatch(<Dispatch as Nf4Ops>::nf4_linear(
        x.into_dispatch(),
        codes.into_dispatch(),
        levels.into_dispatch(),
        scales.into_dispatch(),
        geometry,
    ))
}
