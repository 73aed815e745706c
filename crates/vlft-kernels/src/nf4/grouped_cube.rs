//! On a GPU the packed stack stays packed: weights become numbers on their way into shared memory.

use std::sync::Arc;

use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::grouped::{GroupedNf4Gradients, GroupedNf4Ops};
use super::op::Geometry;
use crate::cube::contiguous;
use crate::grouped::cube::{self as grouped, Launch, Tile};
use crate::grouped::{Groups, Order};

impl GroupedNf4Ops for CubeBackend {
    fn nf4_grouped_linear(
        x: CubeTensor,
        codes: CubeTensor,
        levels: CubeTensor,
        scales: CubeTensor,
        geometry: Geometry,
        order: Order,
        groups: Arc<Groups>,
    ) -> CubeTensor {
        let packed = [codes, levels, scales];
        product(x, packed, geometry, order == Order::OutIn, &groups)
    }
}

impl GroupedNf4Gradients for CubeBackend {
    fn nf4_grouped_linear_backward(
        dy: CubeTensor,
        codes: CubeTensor,
        levels: CubeTensor,
        scales: CubeTensor,
        geometry: Geometry,
        order: Order,
        groups: &Groups,
    ) -> CubeTensor {
        let packed = [codes, levels, scales];
        product(dy, packed, geometry, order == Order::InOut, groups)
    }
}

/// Each group's rows times its matrix, turned or as it lies.
fn product(
    x: CubeTensor,
    packed: [CubeTensor; 3],
    geometry: Geometry,
    turned: bool,
    groups: &Groups,
) -> CubeTensor {
    let (x, [codes, levels, scales]) = (contiguous(x), packed.map(contiguous));
    let shape = [geometry.rows / groups.count(), geometry.columns];
    let launch = Launch::new(&x, shape, turned, groups);
    if groups.copies() == 0 {
        return launch.y;
    }
    let client = x.client.clone();
    grouped_product_nf4::launch(
        &client,
        launch.count,
        CubeDim::new_1d(grouped::UNITS as u32),
        x.into_buffer_arg(),
        codes.into_buffer_arg(),
        levels.into_buffer_arg(),
        scales.into_buffer_arg(),
        launch.tiles.into_buffer_arg(),
        launch.y.clone().into_buffer_arg(),
        launch.inner,
        launch.width,
        turned,
        geometry.block,
    );
    launch.y
}

#[cube(launch)]
fn grouped_product_nf4(
    x: &[f32],
    codes: &[u32],
    levels: &[f32],
    scales: &[f32],
    tiles: &[i32],
    y: &mut [f32],
    inner: usize,
    width: usize,
    #[comptime] turned: bool,
    #[comptime] block: usize,
) {
    let tile = Tile::of_cube(tiles);
    let mut table = Shared::<[f32]>::new_slice(16usize);
    if UNIT_POS < 16 {
        table[UNIT_POS as usize] = levels[UNIT_POS as usize];
    }
    let mut rows = grouped::room_for_rows();
    let mut columns = grouped::room_for_columns();
    let mut sums = grouped::zeros();
    sync_cube();
    for step in 0..grouped::steps(inner) {
        let depth = grouped::depth(step);
        tile.bring_rows(x, &mut rows, depth, inner);
        #[unroll]
        for part in 0..grouped::PARTS {
            let at = tile.weight(depth, part, inner, width, turned);
            let mut value = 0.0f32;
            if at.inside {
                // Bytes from the lowest up, in each the high half first.
                let element = (at.flat % 8) as u32;
                let shift = element / 2 * 8 + 4 * (1 - element % 2);
                let code = (codes[at.flat / 8] >> shift) & 15u32;
                value = table[code as usize] * scales[at.flat / block];
            }
            columns[at.shared] = value;
        }
        sync_cube();
        grouped::multiply(&rows, &columns, &mut sums);
        sync_cube();
    }
    tile.write(&sums, y, width);
}
