//! Between tensors of burn's GPU backend and our kernels, and what kernels over rows share.
//!
//! Kernels read and write 16 or 32 bits and compute in f32. Sums have one order: each unit of a cube
//! adds up its own values in theirs, then the units are added as a tree.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::{
    BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind, TensorMetadata,
};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// Units of a cube that works on one row at most.
pub(crate) const MAX_UNITS: usize = 256;
/// wgpu allows 65 535 cubes along an axis.
const MAX_CUBES: usize = 1 << 15;

/// How the rows of a matrix are worked on: a cube for each.
pub(crate) struct Rows {
    pub(crate) rows: usize,
    /// Vectors in a row.
    pub(crate) width: usize,
    /// Elements in a vector.
    pub(crate) vector: VectorSize,
    /// A power of two.
    pub(crate) units: usize,
}

impl Rows {
    /// Of a matrix `[N, C]`; with `at_least` elements for a unit.
    pub(crate) fn of(x: &CubeTensor) -> Self {
        let shape = x.shape();
        let (rows, columns) = (shape[0], shape[1]);
        let vector = vector_size(&x.client, columns);
        let width = columns / vector;
        let units = width.next_power_of_two().clamp(32, MAX_UNITS);
        Self {
            rows,
            width,
            vector,
            units,
        }
    }

    pub(crate) fn count(&self) -> CubeCount {
        cubes(self.rows)
    }

    pub(crate) fn dim(&self) -> CubeDim {
        CubeDim::new_1d(self.units as u32)
    }
}

/// How a kernel with a unit for each of `count` vectors is launched.
pub(crate) struct Flat {
    pub(crate) count: usize,
    pub(crate) vector: VectorSize,
}

impl Flat {
    /// Over all elements of a tensor.
    pub(crate) fn of(x: &CubeTensor) -> Self {
        let elements = x.shape().num_elements();
        let vector = vector_size(&x.client, elements);
        Self {
            count: elements / vector,
            vector,
        }
    }

    pub(crate) fn cubes(&self) -> CubeCount {
        cubes(self.count.div_ceil(MAX_UNITS))
    }

    pub(crate) fn dim(&self) -> CubeDim {
        CubeDim::new_1d(MAX_UNITS as u32)
    }
}

/// Along two axes, so that there may be many; the last may have nothing to do.
pub(crate) fn cubes(count: usize) -> CubeCount {
    let x = count.clamp(1, MAX_CUBES);
    CubeCount::Static(x as u32, count.div_ceil(x) as u32, 1)
}

/// The longest vector of f32 that the device loads at once and that divides `length`.
pub(crate) fn vector_size(client: &Client, length: usize) -> VectorSize {
    let sizes = client.io_optimized_vector_sizes(size_of::<f32>());
    let fitting = sizes.filter(|size| *size <= 4 && length.is_multiple_of(*size));
    fitting.max().unwrap_or(1)
}

/// The backend's own tensor of an untracked one.
pub(crate) fn primitive(x: Tensor<2>) -> CubeTensor {
    match x.into_dispatch().kind {
        DispatchTensorKind::Cube(BackendTensor::Float(x)) => x,
        _ => panic!("an untracked tensor on a GPU"),
    }
}

pub(crate) fn tensor(x: CubeTensor) -> Tensor<2> {
    let kind = DispatchTensorKind::Cube(BackendTensor::<CubeBackend>::Float(x));
    Tensor::from_dispatch(DispatchTensor {
        kind,
        autodiff: DispatchAutodiffContext::Disabled,
    })
}

/// The same values, row by row.
pub(crate) fn contiguous(x: CubeTensor) -> CubeTensor {
    into_contiguous(x)
}

/// Room for a tensor beside `x`.
pub(crate) fn room(x: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    let (client, device) = (x.client.clone(), x.device.clone());
    empty_device_contiguous_dtype(client, device, shape.into(), dtype)
}

/// Room for a tensor like `x`.
pub(crate) fn room_like(x: &CubeTensor) -> CubeTensor {
    room(x, x.shape(), x.dtype)
}

/// What a tensor is stored as, for a kernel.
pub(crate) fn stored(x: &CubeTensor) -> ElemType {
    dtype_to_storage_type(x.dtype)
}

/// The row of this cube. A cube too many repeats the last row, which writes the same values again.
#[cube]
pub(crate) fn row_of_cube(rows: usize) -> usize {
    select(CUBE_POS < rows, CUBE_POS, rows - 1)
}

#[cube]
pub(crate) fn sum_of_vector<N: Size>(x: Vector<f32, N>) -> f32 {
    let mut sum = x.extract(0usize);
    #[unroll]
    for k in 1..N::value() {
        sum += x.extract(k);
    }
    sum
}

/// The sum of every unit's value, for every unit. The number of units is a power of two.
#[cube]
pub(crate) fn sum_of_cube(value: f32, #[comptime] units: usize) -> f32 {
    let unit = UNIT_POS as usize;
    let mut values = Shared::<[f32]>::new_slice(units);
    values[unit] = value;
    sync_cube();
    let mut active = CUBE_DIM as usize / 2;
    while active > 0 {
        if unit < active {
            let other = values[unit + active];
            values[unit] += other;
        }
        active /= 2;
        sync_cube();
    }
    let sum = values[0];
    sync_cube();
    sum
}
