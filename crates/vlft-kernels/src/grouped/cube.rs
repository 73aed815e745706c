//! On a GPU: one launch for all groups, a cube for each tile of a group's rows. Where the rows go is
//! known on the host, and sent with the launch.

use burn::backend::TensorMetadata;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::tensor::{DType, FloatDType, Shape, TensorData};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use std::sync::Arc;

use super::{GroupedGradients, GroupedOps, Groups, Order};
use crate::cube::{
    Flat, Rows, contiguous, room, row_of_cube, stored, sum_of_cube, sum_of_vector, vector_size,
};

/// Rows of a tile of the output.
const TILE_ROWS: usize = 64;
/// Columns of a tile of the output.
const TILE_COLUMNS: usize = 64;
/// Terms of the sums that lie in shared memory at a time.
const DEPTH: usize = 16;
/// A unit has every 16th row and every 16th column of a tile.
const SIDE: usize = 16;
pub(crate) const UNITS: usize = SIDE * SIDE;
/// Rows, and columns, of a unit.
const OWN: usize = TILE_ROWS / SIDE;
/// Weights that a unit brings in a step.
pub(crate) const PARTS: usize = TILE_COLUMNS * DEPTH / UNITS;
/// A column more than there is, so that columns which are written together lie in different banks.
const PITCH: usize = TILE_COLUMNS + 1;

/// Numbers on the device of `beside`.
fn sent(numbers: Vec<i32>, beside: &CubeTensor) -> CubeTensor {
    let count = numbers.len();
    CubeBackend::int_from_data(TensorData::new(numbers, [count]), &beside.device)
}

/// For each copy, which choice it is: row times choices of a row plus choice.
fn choices(groups: &Groups, beside: &CubeTensor) -> CubeTensor {
    let mut choices = vec![0; groups.copies()];
    for (choice, place) in groups.places().iter().enumerate() {
        choices[*place as usize] = choice as i32;
    }
    sent(choices, beside)
}

/// Where the copies of each row are.
fn places(groups: &Groups, beside: &CubeTensor) -> CubeTensor {
    sent(groups.places().iter().map(|n| *n as i32).collect(), beside)
}

fn ones(groups: &Groups, beside: &CubeTensor) -> CubeTensor {
    let shape = Shape::new([groups.rows(), groups.per_row()]);
    CubeBackend::float_ones(shape, &beside.device, FloatDType::F32)
}

/// A product of rows sorted into groups as it is launched.
pub(crate) struct Launch {
    /// Of each tile its group, the first of its copies, and how many they are.
    pub(crate) tiles: CubeTensor,
    pub(crate) y: CubeTensor,
    pub(crate) count: CubeCount,
    /// Length of the sums.
    pub(crate) inner: usize,
    /// Columns of the output.
    pub(crate) width: usize,
}

impl Launch {
    /// Matrices of `rows` by `columns`, turned or as they lie. None: there are no rows.
    pub(crate) fn new(
        x: &CubeTensor,
        [rows, columns]: [usize; 2],
        turned: bool,
        groups: &Groups,
    ) -> Self {
        let (inner, width) = match turned {
            true => (columns, rows),
            false => (rows, columns),
        };
        let mut tiles = Vec::new();
        for (group, range) in groups.filled() {
            for first in range.clone().step_by(TILE_ROWS) {
                let count = TILE_ROWS.min(range.end - first);
                tiles.extend([group, first, count].map(|n| n as i32));
            }
        }
        let across = width.div_ceil(TILE_COLUMNS) as u32;
        Self {
            count: CubeCount::Static(across, tiles.len() as u32 / 3, 1),
            tiles: sent(tiles, x),
            y: room(x, Shape::new([groups.copies(), width]), DType::F32),
            inner,
            width,
        }
    }
}

/// Each group's rows times its matrix.
fn product(x: CubeTensor, weights: CubeTensor, turned: bool, groups: &Groups) -> CubeTensor {
    let (x, weights) = (contiguous(x), contiguous(weights));
    let shape = weights.shape();
    let launch = Launch::new(&x, [shape[1], shape[2]], turned, groups);
    if groups.copies() == 0 {
        return launch.y;
    }
    let (client, dtype) = (x.client.clone(), stored(&weights));
    grouped_product::launch(
        &client,
        launch.count,
        CubeDim::new_1d(UNITS as u32),
        x.into_buffer_arg(),
        weights.into_buffer_arg(),
        launch.tiles.into_buffer_arg(),
        launch.y.clone().into_buffer_arg(),
        launch.inner,
        launch.width,
        turned,
        dtype,
    );
    launch.y
}

/// Each row's copies times their weights, added up.
fn sums(y: CubeTensor, weights: CubeTensor, groups: &Groups) -> CubeTensor {
    let (y, weights) = (contiguous(y), contiguous(weights));
    let (client, columns) = (y.client.clone(), y.shape()[1]);
    let out = room(&y, Shape::new([groups.rows(), columns]), DType::F32);
    let flat = flat(&out, columns);
    sum_copies::launch(
        &client,
        flat.cubes(),
        flat.dim(),
        flat.vector,
        y.clone().into_buffer_arg(),
        weights.into_buffer_arg(),
        places(groups, &y).into_buffer_arg(),
        out.clone().into_buffer_arg(),
        columns / flat.vector,
        groups.per_row(),
    );
    out
}

/// A copy of its row, times its weight, for each place.
fn copies(x: CubeTensor, weights: CubeTensor, groups: &Groups) -> CubeTensor {
    let (x, weights) = (contiguous(x), contiguous(weights));
    let (client, columns) = (x.client.clone(), x.shape()[1]);
    let out = room(&x, Shape::new([groups.copies(), columns]), DType::F32);
    let flat = flat(&out, columns);
    copy_rows::launch(
        &client,
        flat.cubes(),
        flat.dim(),
        flat.vector,
        x.clone().into_buffer_arg(),
        weights.into_buffer_arg(),
        choices(groups, &x).into_buffer_arg(),
        out.clone().into_buffer_arg(),
        columns / flat.vector,
        groups.per_row(),
    );
    out
}

/// Vectors that do not run from one row into the next.
fn flat(out: &CubeTensor, columns: usize) -> Flat {
    let vector = vector_size(&out.client, columns);
    Flat {
        count: out.shape().num_elements() / vector,
        vector,
    }
}

impl GroupedOps for CubeBackend {
    fn fused_spread(x: CubeTensor, groups: Arc<Groups>) -> CubeTensor {
        let ones = ones(&groups, &x);
        copies(x, ones, &groups)
    }

    fn fused_collect(y: CubeTensor, weights: CubeTensor, groups: Arc<Groups>) -> CubeTensor {
        sums(y, weights, &groups)
    }

    fn fused_grouped_linear(
        x: CubeTensor,
        weights: CubeTensor,
        order: Order,
        groups: Arc<Groups>,
    ) -> CubeTensor {
        product(x, weights, order == Order::OutIn, &groups)
    }
}

impl GroupedGradients for CubeBackend {
    fn fused_spread_backward(dy: CubeTensor, groups: &Groups) -> CubeTensor {
        let ones = ones(groups, &dy);
        sums(dy, ones, groups)
    }

    fn fused_collect_backward(
        dy: CubeTensor,
        y: CubeTensor,
        weights: CubeTensor,
        groups: &Groups,
    ) -> [CubeTensor; 2] {
        let (dy, y) = (contiguous(dy), contiguous(y));
        let d_weights = room(&y, weights.shape(), DType::F32);
        // A row of the launch is a copy, in the order of the rows' choices.
        let rows = Rows::of(&y);
        dot_copies::launch(
            &y.client,
            rows.count(),
            rows.dim(),
            rows.vector,
            dy.clone().into_buffer_arg(),
            y.clone().into_buffer_arg(),
            places(groups, &y).into_buffer_arg(),
            d_weights.clone().into_buffer_arg(),
            rows.rows,
            rows.width,
            rows.units,
            groups.per_row(),
        );
        [copies(dy, weights, groups), d_weights]
    }

    fn fused_grouped_linear_backward(
        dy: CubeTensor,
        weights: CubeTensor,
        order: Order,
        groups: &Groups,
    ) -> CubeTensor {
        product(dy, weights, order == Order::InOut, groups)
    }
}

#[cube(launch)]
fn copy_rows<N: Size>(
    x: &[Vector<f32, N>],
    weights: &[f32],
    choices: &[i32],
    y: &mut [Vector<f32, N>],
    width: usize,
    #[comptime] per_row: usize,
) {
    if ABSOLUTE_POS >= y.len() {
        terminate!();
    }
    let choice = choices[ABSOLUTE_POS / width] as usize;
    let weight = Vector::<f32, N>::new(weights[choice]);
    y[ABSOLUTE_POS] = x[choice / per_row * width + ABSOLUTE_POS % width] * weight;
}

#[cube(launch)]
fn sum_copies<N: Size>(
    y: &[Vector<f32, N>],
    weights: &[f32],
    places: &[i32],
    out: &mut [Vector<f32, N>],
    width: usize,
    #[comptime] per_row: usize,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let (row, column) = (ABSOLUTE_POS / width, ABSOLUTE_POS % width);
    let mut sum = Vector::<f32, N>::new(0.0);
    for j in 0..per_row {
        let choice = row * per_row + j;
        let weight = Vector::<f32, N>::new(weights[choice]);
        sum += y[places[choice] as usize * width + column] * weight;
    }
    out[ABSOLUTE_POS] = sum;
}

/// A cube for each choice: the gradient of its row with its copy.
#[cube(launch)]
fn dot_copies<N: Size>(
    dy: &[Vector<f32, N>],
    y: &[Vector<f32, N>],
    places: &[i32],
    d_weights: &mut [f32],
    choices: usize,
    width: usize,
    #[comptime] units: usize,
    #[comptime] per_row: usize,
) {
    let choice = row_of_cube(choices);
    let (dy_first, y_first) = (choice / per_row * width, places[choice] as usize * width);
    let mut products = Vector::<f32, N>::new(0.0);
    let mut i = UNIT_POS as usize;
    while i < width {
        products += dy[dy_first + i] * y[y_first + i];
        i += units;
    }
    let sum = sum_of_cube(sum_of_vector(products), units);
    if UNIT_POS == 0 {
        d_weights[choice] = sum;
    }
}

#[cube(launch)]
fn grouped_product<W: Float>(
    x: &[f32],
    weights: &[W],
    tiles: &[i32],
    y: &mut [f32],
    inner: usize,
    width: usize,
    #[comptime] turned: bool,
    #[define(W)] _dtype: ElemType,
) {
    let tile = Tile::of_cube(tiles);
    let mut rows = room_for_rows();
    let mut columns = room_for_columns();
    let mut sums = zeros();
    for step in 0..steps(inner) {
        let depth = depth(step);
        tile.bring_rows(x, &mut rows, depth, inner);
        #[unroll]
        for part in 0..PARTS {
            let at = tile.weight(depth, part, inner, width, turned);
            let mut value = 0.0f32;
            if at.inside {
                value = f32::cast_from(weights[at.flat]);
            }
            columns[at.shared] = value;
        }
        sync_cube();
        multiply(&rows, &columns, &mut sums);
        sync_cube();
    }
    tile.write(&sums, y, width);
}

/// What this cube works on.
#[derive(CubeType, CubeTypeMut, Clone, Copy)]
pub(crate) struct Tile {
    group: usize,
    /// The first of its copies.
    first: usize,
    /// How many copies it has.
    count: usize,
    /// The first of its columns.
    column: usize,
}

/// Where a unit finds a weight and where it puts it.
#[derive(CubeType, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) inside: bool,
    pub(crate) flat: usize,
    pub(crate) shared: usize,
}

#[cube]
impl Tile {
    pub(crate) fn of_cube(tiles: &[i32]) -> Tile {
        let at = 3 * CUBE_POS_Y as usize;
        Tile {
            group: tiles[at] as usize,
            first: tiles[at + 1] as usize,
            count: tiles[at + 2] as usize,
            column: CUBE_POS_X as usize * TILE_COLUMNS,
        }
    }

    /// The terms from `depth` on of the tile's rows, zeros beyond.
    pub(crate) fn bring_rows(
        &self,
        x: &[f32],
        rows: &mut Shared<[f32]>,
        depth: usize,
        inner: usize,
    ) {
        #[unroll]
        for part in 0..TILE_ROWS * DEPTH / UNITS {
            let place = part * UNITS + UNIT_POS as usize;
            let (row, term) = (place / DEPTH, depth + place % DEPTH);
            let mut value = 0.0f32;
            if row < self.count && term < inner {
                value = x[(self.first + row) * inner + term];
            }
            rows[place] = value;
        }
    }

    /// One of the weights that this unit brings. Units side by side read what lies side by side.
    pub(crate) fn weight(
        &self,
        depth: usize,
        #[comptime] part: usize,
        inner: usize,
        width: usize,
        #[comptime] turned: bool,
    ) -> Place {
        let place = part * UNITS + UNIT_POS as usize;
        let (mut term, mut column) = (place / TILE_COLUMNS, place % TILE_COLUMNS);
        if turned {
            term = place % DEPTH;
            column = place / DEPTH;
        }
        let shared = term * PITCH + column;
        term += depth;
        column += self.column;
        let mut flat = self.group * inner * width;
        if turned {
            flat += column * inner + term;
        } else {
            flat += term * width + column;
        }
        Place {
            inside: term < inner && column < width,
            flat,
            shared,
        }
    }

    pub(crate) fn write(&self, sums: &Array<f32>, y: &mut [f32], width: usize) {
        let (across, down) = (UNIT_POS as usize % SIDE, UNIT_POS as usize / SIDE);
        #[unroll]
        for i in 0..OWN {
            #[unroll]
            for j in 0..OWN {
                let (row, column) = (down + i * SIDE, self.column + across + j * SIDE);
                if row < self.count && column < width {
                    y[(self.first + row) * width + column] = sums[i * OWN + j];
                }
            }
        }
    }
}

/// Terms of a tile's rows.
#[cube]
pub(crate) fn room_for_rows() -> Shared<[f32]> {
    Shared::<[f32]>::new_slice(TILE_ROWS * DEPTH)
}

/// Terms of a tile's columns.
#[cube]
pub(crate) fn room_for_columns() -> Shared<[f32]> {
    Shared::<[f32]>::new_slice(DEPTH * PITCH)
}

/// How often shared memory is filled for sums of `inner` terms.
#[cube]
pub(crate) fn steps(inner: usize) -> usize {
    inner.div_ceil(DEPTH)
}

/// The first term of a step.
#[cube]
pub(crate) fn depth(step: usize) -> usize {
    step * DEPTH
}

#[cube]
pub(crate) fn zeros() -> Array<f32> {
    let mut sums = Array::<f32>::new(OWN * OWN);
    #[unroll]
    for i in 0..OWN * OWN {
        sums[i] = 0.0;
    }
    sums
}

/// Adds the products of the terms in shared memory to this unit's sums.
#[cube]
pub(crate) fn multiply(rows: &Shared<[f32]>, columns: &Shared<[f32]>, sums: &mut Array<f32>) {
    let (across, down) = (UNIT_POS as usize % SIDE, UNIT_POS as usize / SIDE);
    #[unroll]
    for k in 0..DEPTH {
        let mut own = Array::<f32>::new(OWN);
        #[unroll]
        for j in 0..OWN {
            own[j] = columns[k * PITCH + across + j * SIDE];
        }
        #[unroll]
        for i in 0..OWN {
            let row = rows[(down + i * SIDE) * DEPTH + k];
            #[unroll]
            for j in 0..OWN {
                sums[i * OWN + j] += row * own[j];
            }
        }
    }
}
