//! NF4: frozen matrices at four bits a weight, bit for bit those of bitsandbytes.
//!
//! A matrix stays packed on its device; it becomes dense only for the product, and again for the
//! product's backward.

mod code;
#[cfg(feature = "cube")]
mod cube;
mod grouped;
#[cfg(feature = "cube")]
mod grouped_cube;
mod op;
mod quantize;

use std::sync::Arc;

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};

pub use code::{DYNAMIC_LEVELS, LEVELS};
pub(crate) use grouped::Stack as PackedStack;
use op::Geometry;
pub use quantize::{BLOCK, NESTED_BLOCK, Packed, PackedScales, quantize};

use crate::grouped::{Groups, Order};
use crate::path::is_cube;

/// A packed matrix `[rows, columns]` on its device.
#[derive(Clone)]
pub struct Nf4Matrix {
    geometry: Geometry,
    codes: Tensor<1, Int>,
    levels: Tensor<1>,
    scales: Scales,
}

#[expect(clippy::large_enum_variant, reason = "there is one for each matrix")]
#[derive(Clone)]
enum Scales {
    Single(Tensor<1>),
    Double {
        codes: Tensor<1, Int>,
        levels: Tensor<1>,
        /// `[blocks of scales, 1]`
        nested: Tensor<2>,
        block: usize,
        offset: f32,
    },
}

/// Code books and block sizes; a checkpoint brings its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Code {
    /// `[16]`
    pub levels: Vec<f32>,
    /// `[256]`, for quantised scales.
    pub scale_levels: Vec<f32>,
    /// Even.
    pub block: usize,
    pub nested_block: usize,
}

impl Default for Code {
    fn default() -> Self {
        Self {
            levels: LEVELS.to_vec(),
            scale_levels: DYNAMIC_LEVELS.to_vec(),
            block: BLOCK,
            nested_block: NESTED_BLOCK,
        }
    }
}

impl Nf4Matrix {
    /// `packed` holds `rows * columns` weights.
    pub fn new(packed: Packed, code: &Code, [rows, columns]: [usize; 2], device: &Device) -> Self {
        let floats = |values: Vec<f32>| {
            let count = values.len();
            let data = TensorData::new(values, [count]);
            let send = |data| Tensor::<1>::from_data(data, (device, DType::F32));
            // What is packed stays as long as the model: not among what comes and goes.
            device.memory_persistent_allocations(data, send)
        };
        let bytes = |values: Vec<u8>| {
            device.memory_persistent_allocations(values, |values| byte_tensor(values, device))
        };
        let scales = match packed.scales {
            PackedScales::Single(scales) => Scales::Single(floats(scales)),
            PackedScales::Double {
                codes,
                nested,
                offset,
            } => Scales::Double {
                codes: bytes(codes),
                levels: floats(code.scale_levels.clone()),
                nested: floats(nested).unsqueeze_dim(1),
                block: code.nested_block,
                offset,
            },
        };
        Self {
            geometry: Geometry {
                rows,
                columns,
                block: code.block,
            },
            codes: bytes(packed.codes),
            levels: floats(code.levels.clone()),
            scales,
        }
    }

    /// The dense matrix in f32.
    pub fn matrix(&self) -> Tensor<2> {
        self.matrix_in(FloatDType::F32)
    }

    /// The dense matrix in another type.
    pub fn matrix_in(&self, dtype: FloatDType) -> Tensor<2> {
        let (codes, levels) = (self.codes.clone(), self.levels.clone());
        op::dequantize(codes, levels, self.scales(), self.geometry, dtype)
    }

    /// Rows of the dense matrix, as an embedding looks them up: `[n, columns]` in f32.
    pub fn rows(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        let Geometry { columns, block, .. } = self.geometry;
        if columns % block != 0 || columns % (2 * bytes_per_element(&self.codes)) != 0 {
            // Blocks or words run across rows.
            return self.matrix().select(0, rows);
        }
        let count = rows.dims()[0];
        let pick = |width: usize| [self.geometry.rows, width];
        let in_row = columns / (2 * bytes_per_element(&self.codes));
        let codes: Tensor<2, Int> = self.codes.clone().reshape(pick(in_row));
        let scales: Tensor<2> = self.scales().reshape(pick(columns / block));
        let geometry = Geometry {
            rows: count,
            ..self.geometry
        };
        let codes = codes.select(0, rows.clone()).reshape([count * in_row]);
        let scales = scales.select(0, rows).reshape([count * columns / block]);
        let levels = self.levels.clone();
        op::dequantize(codes, levels, scales, geometry, FloatDType::F32)
    }

    /// `x W^T`, `[N, columns]` -> `[N, rows]`, in the type of `x`.
    pub fn linear(&self, x: Tensor<2>) -> Tensor<2> {
        let (codes, levels) = (self.codes.clone(), self.levels.clone());
        op::linear(x, codes, levels, self.scales(), self.geometry)
    }

    /// The matrix as one matrix per group, one below the other: each group's rows of `x` times its
    /// own, `[S, in]` -> `[S, out]` in f32. One group's matrix at a time is dense, and only where the
    /// group has rows.
    pub fn grouped_linear(&self, x: Tensor<2>, order: Order, groups: &Arc<Groups>) -> Tensor<2> {
        grouped::linear(x, self, order, groups)
    }

    pub fn device(&self) -> Device {
        self.codes.device()
    }

    /// Whether the scales are quantised too.
    pub fn is_double(&self) -> bool {
        matches!(self.scales, Scales::Double { .. })
    }

    /// What double quantisation took off the scales before.
    pub fn scale_offset(&self) -> Option<f32> {
        match &self.scales {
            Scales::Single(_) => None,
            Scales::Double { offset, .. } => Some(*offset),
        }
    }

    pub fn shape(&self) -> [usize; 2] {
        [self.geometry.rows, self.geometry.columns]
    }

    /// Back to plain numbers, to be written to a file.
    pub fn to_packed(&self) -> Packed {
        let floats = |values: Tensor<1>| values.into_data().iter::<f32>().collect();
        Packed {
            codes: bytes_of(
                &self.codes,
                (self.geometry.rows * self.geometry.columns).div_ceil(2),
            ),
            scales: match &self.scales {
                Scales::Single(scales) => PackedScales::Single(floats(scales.clone())),
                Scales::Double {
                    codes,
                    nested,
                    offset,
                    ..
                } => PackedScales::Double {
                    codes: bytes_of(codes, self.blocks()),
                    nested: floats(nested.clone().squeeze_dim(1)),
                    offset: *offset,
                },
            },
        }
    }

    /// Of weights that share a scale.
    fn blocks(&self) -> usize {
        (self.geometry.rows * self.geometry.columns).div_ceil(self.geometry.block)
    }

    /// The scale of each block in f32, `[blocks]`: a sixteenth of a byte a weight.
    fn scales(&self) -> Tensor<1> {
        match &self.scales {
            Scales::Single(scales) => scales.clone(),
            Scales::Double {
                codes,
                levels,
                nested,
                block,
                offset,
            } => {
                let blocks = self.blocks();
                #[cfg(feature = "cube")]
                if is_cube(&codes.device()) {
                    let (codes, levels) = (codes.clone(), levels.clone());
                    return cube::scales(codes, levels, nested.clone(), *block, *offset, blocks);
                }
                let nested = nested
                    .clone()
                    .expand([nested.dims()[0], *block])
                    .flatten(0, 1);
                let levels = levels.clone().select(0, codes.clone());
                levels * nested.narrow(0, 0, blocks) + *offset
            }
        }
    }
}

/// Bytes on the CPU; words of four on a GPU, since not every kind of device has bytes.
fn byte_tensor(bytes: Vec<u8>, device: &Device) -> Tensor<1, Int> {
    #[cfg(feature = "cube")]
    if is_cube(device) {
        return cube::words(&bytes, device);
    }
    let count = bytes.len();
    let data = TensorData::new(bytes, [count]);
    Tensor::from_data(data, (device, DType::U8))
}

/// The first `count` bytes of [`byte_tensor`].
fn bytes_of(codes: &Tensor<1, Int>, count: usize) -> Vec<u8> {
    #[cfg(feature = "cube")]
    if is_cube(&codes.device()) {
        return cube::bytes(codes, count);
    }
    codes.to_data().iter::<u8>().take(count).collect()
}

fn bytes_per_element(codes: &Tensor<1, Int>) -> usize {
    match is_cube(&codes.device()) {
        true => 4,
        false => 1,
    }
}

#[cfg(test)]
mod tests;
