//! On a GPU codes lie four bytes to a word, since not every device has bytes. A unit makes eight
//! weights of one.

use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::{DType, Device, FloatDType, Int, Shape, Tensor, TensorData};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::op::{Geometry, Nf4Ops};
use crate::cube::{Flat, contiguous, room, stored};

/// Weights in a word.
const WORD: usize = 8;

/// Bytes as words, the first in the lowest eight bits; the last word is filled up with zeros.
pub(super) fn words(bytes: &[u8], device: &Device) -> Tensor<1, Int> {
    let words: Vec<u32> = bytes
        .chunks(4)
        .map(|bytes| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(word)
        })
        .collect();
    let count = words.len();
    Tensor::from_data(TensorData::new(words, [count]), (device, DType::U32))
}

/// The first `count` bytes of [`words`].
pub(super) fn bytes(words: &Tensor<1, Int>, count: usize) -> Vec<u8> {
    let data = words.to_data();
    let bytes = data.iter::<u32>().flat_map(u32::to_le_bytes);
    bytes.take(count).collect()
}

/// `levels[code] * nested + offset` of each of `blocks` scales.
pub(super) fn scales(
    codes: Tensor<1, Int>,
    levels: Tensor<1>,
    nested: Tensor<2>,
    block: usize,
    offset: f32,
    blocks: usize,
) -> Tensor<1> {
    let (codes, levels) = (codes.into_dispatch(), levels.into_dispatch());
    let nested = nested.into_dispatch();
    let scales = Dispatch::nf4_scales(codes, levels, nested, block, offset, blocks);
    Tensor::from_dispatch(scales)
}

#[backend_extension(Cube)]
pub(super) trait ScaleOps: Backend {
    fn nf4_scales(
        codes: IntTensor<Self>,
        levels: FloatTensor<Self>,
        nested: FloatTensor<Self>,
        block: usize,
        offset: f32,
        blocks: usize,
    ) -> FloatTensor<Self>;
}

impl ScaleOps for CubeBackend {
    fn nf4_scales(
        codes: CubeTensor,
        levels: CubeTensor,
        nested: CubeTensor,
        block: usize,
        offset: f32,
        blocks: usize,
    ) -> CubeTensor {
        let (codes, levels, nested) = (contiguous(codes), contiguous(levels), contiguous(nested));
        let (client, flat) = (
            codes.client.clone(),
            Flat {
                count: blocks,
                vector: 1,
            },
        );
        let out = room(&codes, Shape::new([blocks]), DType::F32);
        resolve_scales::launch(
            &client,
            flat.cubes(),
            flat.dim(),
            codes.into_buffer_arg(),
            levels.into_buffer_arg(),
            nested.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            offset,
            block,
        );
        out
    }
}

#[cube(launch)]
fn resolve_scales(
    codes: &[u32],
    levels: &[f32],
    nested: &[f32],
    scales: &mut [f32],
    offset: f32,
    #[comptime] block: usize,
) {
    if ABSOLUTE_POS >= scales.len() {
        terminate!();
    }
    let shift = 8 * (ABSOLUTE_POS % 4) as u32;
    let code = (codes[ABSOLUTE_POS / 4] >> shift) & 255u32;
    scales[ABSOLUTE_POS] = levels[code as usize] * nested[ABSOLUTE_POS / block] + offset;
}

impl Nf4Ops for CubeBackend {
    fn nf4_dequantize(
        codes: CubeTensor,
        levels: CubeTensor,
        scales: CubeTensor,
        geometry: Geometry,
        dtype: FloatDType,
    ) -> CubeTensor {
        let (codes, levels, scales) = (contiguous(codes), contiguous(levels), contiguous(scales));
        let Geometry {
            rows,
            columns,
            block,
        } = geometry;
        let (n, dtype) = (rows * columns, DType::from(dtype));
        let client = codes.client.clone();
        let sizes = client.io_optimized_vector_sizes(dtype.size());
        let vector = sizes
            .filter(|size| {
                let divides = |length: usize| length.is_multiple_of(*size);
                divides(WORD) && divides(n) && divides(block)
            })
            .max()
            .unwrap_or(1);
        let flat = Flat {
            count: n.div_ceil(WORD),
            vector,
        };
        let out = room(&codes, Shape::new([rows, columns]), dtype);
        dequantize::launch(
            &client,
            flat.cubes(),
            flat.dim(),
            vector,
            codes.into_buffer_arg(),
            levels.into_buffer_arg(),
            scales.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            block,
            stored(&out),
        );
        out
    }
}

#[cube(launch)]
fn dequantize<F: Float, N: Size>(
    codes: &[u32],
    levels: &[f32],
    scales: &[f32],
    weight: &mut [Vector<F, N>],
    #[comptime] block: usize,
    #[define(F)] _dtype: ElemType,
) {
    let mut table = Shared::<[f32]>::new_slice(16usize);
    if UNIT_POS < 16 {
        table[UNIT_POS as usize] = levels[UNIT_POS as usize];
    }
    sync_cube();
    if ABSOLUTE_POS < codes.len() {
        let word = codes[ABSOLUTE_POS];
        let size = N::value().comptime();
        let vectors = comptime!(8 / size);
        #[unroll]
        for part in 0..vectors {
            let place = ABSOLUTE_POS * vectors + part;
            if place < weight.len() {
                let scale = scales[place * size / block];
                let mut values = Vector::<f32, N>::new(0.0);
                #[unroll]
                for k in 0..size {
                    // Bytes from the lowest up, in each the high half first.
                    let element = comptime!((part * size + k) as u32);
                    let shift = comptime!(element / 2 * 8 + 4 * (1 - element % 2));
                    let code = (word >> shift) & 15u32;
                    values.insert(k, table[code as usize] * scale);
                }
                weight[place] = Vector::cast_from(values);
            }
        }
    }
}
