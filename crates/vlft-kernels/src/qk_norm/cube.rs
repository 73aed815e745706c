//! A team of units for each head of each token; each unit has a vector of one half of the head and the one
//! that is rotated with it.

use burn::backend::TensorMetadata;
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::{QkNormGradients, QkNormOps};
use crate::cube::{MAX_UNITS, contiguous, cubes, room_like, stored, sum_of_vector, vector_size};

/// How the heads are divided.
struct Teams {
    /// Heads of all tokens.
    rows: usize,
    /// Of a token.
    heads: usize,
    vector: VectorSize,
    /// Units of a team: vectors in half a head.
    half: usize,
    /// Teams of a cube.
    teams: usize,
}

impl Teams {
    fn of(x: &CubeTensor, cos: &CubeTensor) -> Self {
        let ([n, width], d) = ([x.shape()[0], x.shape()[1]], cos.shape()[1]);
        let vector = vector_size(&x.client, d / 2);
        let half = d / 2 / vector;
        assert!(half <= MAX_UNITS, "heads of {d}");
        Self {
            rows: n * width / d,
            heads: width / d,
            vector,
            half,
            teams: MAX_UNITS / half,
        }
    }

    fn count(&self) -> CubeCount {
        cubes(self.rows.div_ceil(self.teams))
    }

    fn dim(&self) -> CubeDim {
        CubeDim::new_1d((self.teams * self.half) as u32)
    }
}

impl QkNormOps for CubeBackend {
    fn fused_qk_norm(
        x: CubeTensor,
        weight: CubeTensor,
        cos: CubeTensor,
        sin: CubeTensor,
        eps: f64,
    ) -> CubeTensor {
        let [x, weight, cos, sin] = [x, weight, cos, sin].map(contiguous);
        let (teams, y, client) = (Teams::of(&x, &cos), room_like(&x), x.client.clone());
        let types = [stored(&x), stored(&weight)];
        qk_norm::launch(
            &client,
            teams.count(),
            teams.dim(),
            teams.vector,
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            cos.into_buffer_arg(),
            sin.into_buffer_arg(),
            y.clone().into_buffer_arg(),
            teams.rows,
            eps as f32,
            teams.half,
            teams.teams,
            teams.heads,
            types,
        );
        y
    }
}

impl QkNormGradients for CubeBackend {
    fn fused_qk_norm_backward(
        dy: CubeTensor,
        x: CubeTensor,
        weight: CubeTensor,
        cos: CubeTensor,
        sin: CubeTensor,
        eps: f64,
    ) -> CubeTensor {
        let [dy, x, weight, cos, sin] = [dy, x, weight, cos, sin].map(contiguous);
        let (teams, dx, client) = (Teams::of(&x, &cos), room_like(&x), x.client.clone());
        let types = [stored(&x), stored(&weight)];
        qk_norm_backward::launch(
            &client,
            teams.count(),
            teams.dim(),
            teams.vector,
            dy.into_buffer_arg(),
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            cos.into_buffer_arg(),
            sin.into_buffer_arg(),
            dx.clone().into_buffer_arg(),
            teams.rows,
            eps as f32,
            teams.half,
            teams.teams,
            teams.heads,
            types,
        );
        dx
    }
}

#[cube(launch)]
fn qk_norm<F: Float, W: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<W, N>],
    cos: &[Vector<f32, N>],
    sin: &[Vector<f32, N>],
    y: &mut [Vector<F, N>],
    rows: usize,
    eps: f32,
    #[comptime] half: usize,
    #[comptime] teams: usize,
    #[comptime] heads: usize,
    #[define(F, W)] _types: [ElemType; 2],
) {
    let row = row_of_team(rows, half, teams);
    let j = UNIT_POS as usize % half;
    let low = row * (2 * half) + j;
    let high = low + half;
    let a = Vector::<f32, N>::cast_from(x[low]);
    let b = Vector::<f32, N>::cast_from(x[high]);
    let squares = sum_of_team(sum_of_vector(a * a + b * b), half, teams);
    let mean = squares / f32::cast_from(2 * half * N::value());
    let scale = Vector::<f32, N>::new(1.0 / (mean + eps).sqrt());
    let a = a * scale * Vector::cast_from(weight[j]);
    let b = b * scale * Vector::cast_from(weight[j + half]);

    let table = row / heads * (2 * half) + j;
    let (cos, sin) = (cos[table], sin[table]);
    y[low] = Vector::cast_from(a * cos - b * sin);
    y[high] = Vector::cast_from(b * cos + a * sin);
}

/// The rotation back, then the norm's: with `n = x s`, `s = rsqrt(mean(x^2) + eps)`:
/// `dx = s (g - n mean(g n))`, `g = dn w`.
#[cube(launch)]
fn qk_norm_backward<F: Float, W: Float, N: Size>(
    dy: &[Vector<F, N>],
    x: &[Vector<F, N>],
    weight: &[Vector<W, N>],
    cos: &[Vector<f32, N>],
    sin: &[Vector<f32, N>],
    dx: &mut [Vector<F, N>],
    rows: usize,
    eps: f32,
    #[comptime] half: usize,
    #[comptime] teams: usize,
    #[comptime] heads: usize,
    #[define(F, W)] _types: [ElemType; 2],
) {
    let row = row_of_team(rows, half, teams);
    let j = UNIT_POS as usize % half;
    let low = row * (2 * half) + j;
    let high = low + half;
    let table = row / heads * (2 * half) + j;
    let (cos, sin) = (cos[table], sin[table]);
    let c = Vector::<f32, N>::cast_from(dy[low]);
    let d = Vector::<f32, N>::cast_from(dy[high]);
    let c_back = (c * cos + d * sin) * Vector::cast_from(weight[j]);
    let d_back = (d * cos - c * sin) * Vector::cast_from(weight[j + half]);

    let a = Vector::<f32, N>::cast_from(x[low]);
    let b = Vector::<f32, N>::cast_from(x[high]);
    let count = f32::cast_from(2 * half * N::value());
    let mean = sum_of_team(sum_of_vector(a * a + b * b), half, teams) / count;
    let scale = 1.0 / (mean + eps).sqrt();
    let products = sum_of_team(sum_of_vector(a * c_back + b * d_back), half, teams);
    let along = Vector::<f32, N>::new(products / count * scale * scale);
    let scale = Vector::<f32, N>::new(scale);
    dx[low] = Vector::cast_from(scale * (c_back - a * along));
    dx[high] = Vector::cast_from(scale * (d_back - b * along));
}

/// The row of this unit's team. A team too many repeats the last row, which writes the same values again.
#[cube]
fn row_of_team(rows: usize, #[comptime] half: usize, #[comptime] teams: usize) -> usize {
    let row = CUBE_POS * teams + UNIT_POS as usize / half;
    select(row < rows, row, rows - 1)
}

/// The sum of every unit's value in the team, in one order, for every unit.
#[cube]
fn sum_of_team(value: f32, #[comptime] half: usize, #[comptime] teams: usize) -> f32 {
    let unit = UNIT_POS as usize;
    let mut values = Shared::<[f32]>::new_slice(half * teams);
    values[unit] = value;
    sync_cube();
    let first = unit / half * half;
    let mut sum = 0.0f32;
    #[unroll]
    for k in 0..half {
        sum += values[first + k];
    }
    sync_cube();
    sum
}
