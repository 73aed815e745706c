//! Antialiased bicubic resampling of 8-bit images, bit for bit what torchvision computes on uint8
//! tensors: Keys' cubic with a = -0.5, integer weights, horizontal pass first, and a result rounded
//! and clamped to 8 bits between the passes. A float resize is *not* equivalent: at a hard black
//! edge it differs by up to 25 levels.
//!
//! The speed comes from the layout. Both passes are "sum of k weighted lines": lines are rows in the
//! vertical pass, and columns of 16 transposed rows in the horizontal one. So one inner loop over
//! contiguous bytes serves both, and the compiler turns it into vector instructions. Stretches of rows
//! are done in parallel; no byte depends on how.

use image::RgbImage;
use rayon::prelude::*;

use crate::vectorized::vectorized;

/// Red, green and blue as separate runs of one row: `row(y)` is [3][width].
#[derive(Debug, PartialEq)]
pub(crate) struct Planes {
    pub(crate) width: usize,
    pub(crate) height: usize,
    bytes: Vec<u8>,
}

impl Planes {
    fn zeroed(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            bytes: vec![0; width * 3 * height],
        }
    }

    /// [3][width]
    pub(crate) fn row(&self, y: usize) -> &[u8] {
        let stride = self.width * 3;
        &self.bytes[y * stride..(y + 1) * stride]
    }
}

/// `width` is a multiple of [`LANES`], as every size from `smart_resize` is.
pub(crate) fn resample(image: &RgbImage, width: usize, height: usize) -> Planes {
    assert!(
        width.is_multiple_of(LANES) && width > 0 && height > 0,
        "smart_resize gives multiples of 32"
    );
    let wide = horizontal(image, width);
    if wide.height == height {
        wide
    } else {
        vertical(&wide, height)
    }
}

/// Rows that travel together through the horizontal pass, and bytes per step of the inner loop.
const LANES: usize = 16;

fn horizontal(image: &RgbImage, width: usize) -> Planes {
    let (width_in, height) = (image.width() as usize, image.height() as usize);
    let filter = (width_in != width).then(|| Filter::new(width_in, width));
    let mut out = Planes::zeroed(width, height);
    // Line k of a tile holds byte k (pixel k / 3, channel k % 3) of 16 rows.
    let buffers = || (vec![0; width_in * 3 * LANES], vec![0; width * 3 * LANES]);
    out.bytes
        .par_chunks_mut(width * 3 * LANES)
        .enumerate()
        .for_each_init(buffers, |(tile, filtered), (index, rows)| {
            vectorized(
                #[inline(always)]
                || {
                    rows_to_tile(image, index * LANES, tile);
                    let lines = match &filter {
                        Some(filter) => {
                            filter_tile(tile, filter, filtered);
                            &*filtered
                        }
                        None => &*tile,
                    };
                    tile_to_rows(lines, width, rows);
                },
            );
        });
    out
}

#[inline(always)]
fn filter_tile(tile: &[u8], filter: &Filter, out: &mut [u8]) {
    for (taps, out) in filter.taps.iter().zip(out.chunks_exact_mut(3 * LANES)) {
        let window = &tile[taps.first * 3 * LANES..];
        blend::<{ 3 * LANES }>(window, 3 * LANES, taps, filter.bits, out);
    }
}

fn vertical(image: &Planes, height: usize) -> Planes {
    let filter = Filter::new(image.height, height);
    let mut out = Planes::zeroed(image.width, height);
    let stride = image.width * 3;
    out.bytes
        .par_chunks_exact_mut(stride)
        .with_min_len(LANES)
        .zip(&filter.taps)
        .for_each(|(row, taps)| {
            let window = &image.bytes[taps.first * stride..];
            vectorized(
                #[inline(always)]
                || {
                    for (i, chunk) in row.chunks_exact_mut(3 * LANES).enumerate() {
                        let lines = &window[i * 3 * LANES..];
                        blend::<{ 3 * LANES }>(lines, stride, taps, filter.bits, chunk);
                    }
                },
            );
        });
    out
}

/// out = sum of weight j times line j, where line j is the N bytes at `j * stride`. Nothing can wrap
/// (see [`precision`]), but saying `wrapping` keeps overflow checks, which the development profile
/// has, from tripling the time.
#[inline(always)]
fn blend<const N: usize>(lines: &[u8], stride: usize, taps: &Taps, bits: u32, out: &mut [u8]) {
    let mut sum = [1i32 << (bits - 1); N];
    for (line, &weight) in lines.chunks(stride).zip(&taps.weights) {
        for (sum, &byte) in sum.iter_mut().zip(&line[..N]) {
            *sum = sum.wrapping_add(i32::from(weight).wrapping_mul(i32::from(byte)));
        }
    }
    for (out, sum) in out.iter_mut().zip(sum) {
        *out = (sum >> bits).clamp(0, 255) as u8;
    }
}

/// For one output position: the inputs `first ..` and how much each counts.
struct Taps {
    first: usize,
    weights: Vec<i16>,
}

/// All taps of one axis, in fixed point with `bits` fractional bits.
struct Filter {
    taps: Vec<Taps>,
    bits: u32,
}

impl Filter {
    fn new(n_in: usize, n_out: usize) -> Self {
        let scale = n_in as f64 / n_out as f64;
        let stretch = scale.max(1.0);
        let support = 2.0 * stretch;
        let real: Vec<(usize, Vec<f64>)> = (0..n_out)
            .map(|i| {
                let centre = (i as f64 + 0.5) * scale;
                // `as usize` truncates and stops at 0, as `max(int(..), 0)` does.
                let first = (centre - support + 0.5) as usize;
                let end = ((centre + support + 0.5) as usize).min(n_in);
                let weights: Vec<f64> = (first..end)
                    .map(|j| cubic((j as f64 - centre + 0.5) / stretch))
                    .collect();
                let total: f64 = weights.iter().sum();
                (first, weights.iter().map(|w| w / total).collect())
            })
            .collect();
        let largest = real
            .iter()
            .flat_map(|(_, w)| w)
            .copied()
            .fold(0.0, f64::max);
        let bits = precision(largest);
        let fixed = |w: f64| (w * f64::from(1 << bits) + 0.5f64.copysign(w)).trunc() as i16;
        let taps = real
            .into_iter()
            .map(|(first, weights)| Taps {
                first,
                weights: weights.into_iter().map(fixed).collect(),
            })
            .collect();
        Self { taps, bits }
    }
}

/// The most fractional bits with which the largest weight still fits an i16, at most 22. The sum of
/// 22-bit weights times 255 stays below 2^31 even with the negative lobes.
fn precision(largest: f64) -> u32 {
    let fits = |bits: u32| ((0.5 + largest * f64::from(1 << bits)) as i64) < 1 << 15;
    (1..=22).take_while(|&bits| fits(bits)).last().unwrap_or(0)
}

/// Keys' cubic convolution kernel with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Transposes the bytes of up to 16 rows: tile[k][r] = row[top + r][k]. Missing rows repeat the last.
#[inline(always)]
fn rows_to_tile(image: &RgbImage, top: usize, tile: &mut [u8]) {
    let stride = image.width() as usize * 3;
    let last = image.height() as usize - 1;
    let bytes: &[u8] = image.as_raw();
    let rows: [&[u8]; LANES] =
        std::array::from_fn(|r| &bytes[(top + r).min(last) * stride..][..stride]);
    let mut blocks = tile.chunks_exact_mut(LANES * LANES);
    let mut at = 0;
    for block in &mut blocks {
        let square = std::array::from_fn(|r| {
            let bytes: &[u8; LANES] = rows[r][at..at + LANES].try_into().expect("16 bytes");
            *bytes
        });
        for (line, column) in block.chunks_exact_mut(LANES).zip(transpose(square)) {
            line.copy_from_slice(&column);
        }
        at += LANES;
    }
    for line in blocks.into_remainder().chunks_exact_mut(LANES) {
        for (byte, row) in line.iter_mut().zip(rows) {
            *byte = row[at];
        }
        at += 1;
    }
}

/// The way back, into planes: rows[r][channel][x] = lines[x][channel][r].
#[inline(always)]
fn tile_to_rows(lines: &[u8], width: usize, rows: &mut [u8]) {
    let stride = width * 3;
    let n_rows = rows.len() / stride;
    for x in (0..width).step_by(LANES) {
        for channel in 0..3 {
            let square = std::array::from_fn(|i| {
                let at = ((x + i) * 3 + channel) * LANES;
                let bytes: &[u8; LANES] = lines[at..at + LANES].try_into().expect("16 bytes");
                *bytes
            });
            for (r, bytes) in transpose(square).iter().enumerate().take(n_rows) {
                rows[r * stride + channel * width + x..][..LANES].copy_from_slice(bytes);
            }
        }
    }
}

type Square = [[u8; LANES]; LANES];

/// Four rounds of "interleave line i with line i + 8" transpose 16 x 16 bytes (each round rotates
/// the eight bits of the address by one). An interleave is a single vector instruction.
#[inline(always)]
fn transpose(mut square: Square) -> Square {
    for _ in 0..4 {
        let mut next = [[0; LANES]; LANES];
        for i in 0..LANES / 2 {
            let (low, high) = interleave(square[i], square[i + LANES / 2]);
            next[2 * i] = low;
            next[2 * i + 1] = high;
        }
        square = next;
    }
    square
}

#[inline(always)]
fn interleave(a: [u8; LANES], b: [u8; LANES]) -> ([u8; LANES], [u8; LANES]) {
    let pick = |from: usize| {
        std::array::from_fn(|i| {
            let at = from + i / 2;
            if i % 2 == 0 { a[at] } else { b[at] }
        })
    };
    (pick(0), pick(LANES / 2))
}

#[cfg(test)]
mod tests;
