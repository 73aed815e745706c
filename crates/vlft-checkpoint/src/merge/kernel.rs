//! `W + s B A`, rows at a time: the fast loop, and the plain one that says the same.
//!
//! Both compute in f32, `s * sum_k b[k] a[k]` with k ascending and a rounding after every operation,
//! so they agree to the last bit on every machine. Results are rounded to the weight's own type, to
//! nearest even.

use half::{bf16, f16};
use rayon::prelude::*;

use crate::float::Float;

/// The change of one matrix `[out, in]`: `a` is `[r, in]`, `b` is `[out, r]`, row by row.
pub(crate) struct Delta {
    pub(crate) a: Vec<f32>,
    pub(crate) b: Vec<f32>,
    pub(crate) rank: usize,
    pub(crate) columns: usize,
    pub(crate) scale: f32,
}

/// What a merge did to some weights.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Stats {
    pub(crate) count: u64,
    /// Of |change| before rounding.
    pub(crate) max: f32,
    pub(crate) sum: f64,
    /// Of |what was stored - what was meant|.
    pub(crate) lost_max: f32,
    pub(crate) lost_sum: f64,
    /// Weights whose bytes stayed as they were.
    pub(crate) unchanged: u64,
    /// Results that are NaN or infinite.
    pub(crate) not_finite: u64,
}

impl Stats {
    pub(crate) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.lost_max = self.lost_max.max(other.lost_max);
        self.lost_sum += other.lost_sum;
        self.unchanged += other.unchanged;
        self.not_finite += other.not_finite;
    }
}

/// Adds the change to the rows from `first_row` on, in place. `bytes` are whole rows.
pub(crate) fn add_rows(delta: &Delta, first_row: usize, bytes: &mut [u8], float: Float) -> Stats {
    let row_bytes = delta.columns * float.size();
    let rows = bytes.par_chunks_mut(ROWS * row_bytes).enumerate();
    let stats: Vec<Stats> = rows
        .map(|(group, bytes)| {
            let mut stats = Stats::default();
            let row = first_row + group * ROWS;
            vectorized(Group {
                delta,
                row,
                bytes,
                float,
                stats: &mut stats,
            });
            stats
        })
        .collect();
    // In the order of the rows: a sum must not depend on threads.
    let mut total = Stats::default();
    for stats in &stats {
        total.add(stats);
    }
    total
}

/// Rows that are computed together, so that a value of A is loaded once for all of them.
const ROWS: usize = 4;
/// Columns whose sums are held in registers.
const LANES: usize = 32;

struct Group<'a> {
    delta: &'a Delta,
    row: usize,
    /// At most [`ROWS`] rows.
    bytes: &'a mut [u8],
    float: Float,
    stats: &'a mut Stats,
}

impl Group<'_> {
    #[inline(always)]
    fn run(self) {
        let Self {
            delta,
            row,
            bytes,
            float,
            stats,
        } = self;
        let columns = delta.columns;
        let rows = bytes.len() / (columns * float.size());
        let mut start = 0;
        while start < columns {
            let width = LANES.min(columns - start);
            let mut sums = [[0f32; LANES]; ROWS];
            for k in 0..delta.rank {
                let a_row = &delta.a[k * columns + start..][..width];
                let mut a = [0f32; LANES];
                a[..width].copy_from_slice(a_row);
                for (i, sums) in sums.iter_mut().enumerate() {
                    // Rows beyond the last group's end compute zeros nobody looks at.
                    let b = if i < rows {
                        delta.b[(row + i) * delta.rank + k]
                    } else {
                        0.0
                    };
                    for (sum, a) in sums.iter_mut().zip(&a) {
                        *sum += b * a;
                    }
                }
            }
            for (i, sums) in sums.iter().enumerate().take(rows) {
                let offset = (i * columns + start) * float.size();
                let bytes = &mut bytes[offset..][..width * float.size()];
                store(sums, width, delta.scale, bytes, float, stats);
            }
            start += width;
        }
        stats.count += (rows * columns) as u64;
    }
}

#[inline(always)]
fn store(
    sums: &[f32; LANES],
    width: usize,
    scale: f32,
    bytes: &mut [u8],
    float: Float,
    stats: &mut Stats,
) {
    let mut change = [0f32; LANES];
    for (change, sum) in change.iter_mut().zip(sums) {
        *change = scale * sum;
    }
    let mut weights = [0f32; LANES];
    match float {
        Float::Bf16 => {
            for (w, b) in weights.iter_mut().zip(bytes.as_chunks().0) {
                *w = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            }
        }
        Float::F16 => {
            for (w, b) in weights.iter_mut().zip(bytes.as_chunks().0) {
                *w = f16::from_le_bytes(*b).to_f32();
            }
        }
        Float::F32 => {
            for (w, b) in weights.iter_mut().zip(bytes.as_chunks().0) {
                *w = f32::from_le_bytes(*b);
            }
        }
    }
    let mut meant = [0f32; LANES];
    let mut stored = [0f32; LANES];
    for ((meant, w), change) in meant.iter_mut().zip(&weights).zip(&change) {
        *meant = w + change;
    }
    match float {
        Float::Bf16 => {
            for ((b, stored), meant) in bytes
                .as_chunks_mut()
                .0
                .iter_mut()
                .zip(&mut stored)
                .zip(&meant)
            {
                let rounded = round_to_bf16(*meant);
                *b = rounded.to_le_bytes();
                *stored = f32::from_bits(u32::from(rounded) << 16);
            }
        }
        Float::F16 => {
            for ((b, stored), meant) in bytes
                .as_chunks_mut()
                .0
                .iter_mut()
                .zip(&mut stored)
                .zip(&meant)
            {
                let rounded = f16::from_f32(*meant);
                *b = rounded.to_le_bytes();
                *stored = rounded.to_f32();
            }
        }
        Float::F32 => {
            for ((b, stored), meant) in bytes
                .as_chunks_mut()
                .0
                .iter_mut()
                .zip(&mut stored)
                .zip(&meant)
            {
                *b = meant.to_le_bytes();
                *stored = *meant;
            }
        }
    }
    let (mut max, mut sum, mut lost_max, mut lost_sum) = (0f32, 0f32, 0f32, 0f32);
    let (mut unchanged, mut finite) = (0u32, 0u32);
    for i in 0..width {
        let lost = (stored[i] - meant[i]).abs();
        max = max.max(change[i].abs());
        sum += change[i].abs();
        lost_max = lost_max.max(lost);
        lost_sum += lost;
        unchanged += u32::from(stored[i].to_bits() == weights[i].to_bits());
        finite += u32::from(stored[i].is_finite());
    }
    stats.max = stats.max.max(max);
    stats.sum += f64::from(sum);
    stats.lost_max = stats.lost_max.max(lost_max);
    stats.lost_sum += f64::from(lost_sum);
    stats.unchanged += u64::from(unchanged);
    stats.not_finite += u64::from(width as u32 - finite);
}

/// To nearest, ties to even; a NaN stays one.
#[inline(always)]
fn round_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x40;
    (if value.is_nan() { nan } else { rounded }) as u16
}

/// With AVX-512 or AVX2 where they are.
fn vectorized(group: Group) {
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::x86::{V3, V4};
        if let Some(simd) = V4::try_new() {
            return simd.vectorize(Compiled(group));
        }
        if let Some(simd) = V3::try_new() {
            return simd.vectorize(Compiled(group));
        }
    }
    group.run();
}

#[cfg(target_arch = "x86_64")]
struct Compiled<'a>(Group<'a>);

#[cfg(target_arch = "x86_64")]
impl pulp::NullaryFnOnce for Compiled<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.0.run();
    }
}

/// The twin: one weight after the other, as the definition reads. `verify` uses it, so that a merge
/// is not proved right by the code that made it.
pub(crate) fn add_rows_plain(delta: &Delta, first_row: usize, bytes: &mut [u8], float: Float) {
    let size = float.size();
    let row_bytes = delta.columns * size;
    bytes
        .par_chunks_mut(row_bytes)
        .enumerate()
        .for_each(|(i, bytes)| {
            let b = &delta.b[(first_row + i) * delta.rank..][..delta.rank];
            let mut sums = vec![0f32; delta.columns];
            for (k, b) in b.iter().enumerate() {
                for (sum, a) in sums.iter_mut().zip(&delta.a[k * delta.columns..]) {
                    *sum += b * a;
                }
            }
            let weights = float.to_f32(bytes);
            for ((bytes, sum), weight) in bytes.chunks_exact_mut(size).zip(sums).zip(weights) {
                let merged = weight + delta.scale * sum;
                match float {
                    Float::F32 => bytes.copy_from_slice(&merged.to_le_bytes()),
                    Float::Bf16 => bytes.copy_from_slice(&bf16::from_f32(merged).to_le_bytes()),
                    Float::F16 => bytes.copy_from_slice(&f16::from_f32(merged).to_le_bytes()),
                }
            }
        });
}

#[cfg(test)]
mod tests {
    use rand::{Rng, RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn values(count: usize, rng: &mut impl Rng) -> Vec<f32> {
        (0..count).map(|_| rng.random_range(-1.0f32..1.0)).collect()
    }

    fn encode(values: &[f32], float: Float) -> Vec<u8> {
        let one = |v: &f32| match float {
            Float::F32 => v.to_le_bytes().to_vec(),
            Float::Bf16 => bf16::from_f32(*v).to_le_bytes().to_vec(),
            Float::F16 => f16::from_f32(*v).to_le_bytes().to_vec(),
        };
        values.iter().flat_map(one).collect()
    }

    #[test]
    fn the_fast_loop_and_the_plain_one_agree_to_the_last_bit() {
        const SEED: u64 = 7;
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        for float in [Float::F32, Float::Bf16, Float::F16] {
            for (rows, columns, rank) in
                [(1, 1, 1), (3, 31, 2), (9, 64, 16), (5, 100, 7), (8, 33, 3)]
            {
                let delta = Delta {
                    a: values(rank * columns, &mut rng),
                    b: values((rows + 2) * rank, &mut rng),
                    rank,
                    columns,
                    scale: 0.3,
                };
                let base = encode(&values(rows * columns, &mut rng), float);
                let (mut fast, mut plain) = (base.clone(), base.clone());
                let stats = add_rows(&delta, 2, &mut fast, float);
                add_rows_plain(&delta, 2, &mut plain, float);
                assert_eq!(
                    fast, plain,
                    "{float:?} {rows} x {columns}, rank {rank}, seed {SEED}"
                );
                assert_ne!(fast, base);
                assert_eq!(stats.count, (rows * columns) as u64);
                assert_eq!(stats.not_finite, 0);
                assert!(
                    stats.max > 0.0
                        && stats.sum <= f64::from(stats.max) * stats.count as f64 * 1.001
                );
                assert_eq!(float == Float::F32, stats.lost_max == 0.0);
            }
        }
    }

    #[test]
    fn rounding_to_bf16_is_that_of_half() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let random = (0..100_000).map(|_| f32::from_bits(rng.random::<u32>()));
        let ties = [
            0x3f80_8000,
            0x3f81_8000,
            0x3f80_8001,
            0x7f7f_ffff,
            0x7f80_0000,
            0x7f80_0001,
            0,
            1 << 31,
        ];
        for value in random.chain(ties.map(f32::from_bits)) {
            assert_eq!(
                round_to_bf16(value),
                bf16::from_f32(value).to_bits(),
                "{:#x}",
                value.to_bits()
            );
        }
    }
}
