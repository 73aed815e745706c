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

use crate::pixels::Buffer;
use crate::transpose::{LANES, transpose};
use crate::vectorized::{Work, vectorized};

/// Red, green and blue as separate runs of one row: `row(y)` is [3][width].
#[derive(Debug, PartialEq)]
pub(crate) struct Planes {
    pub(crate) width: usize,
    pub(crate) height: usize,
    bytes: Buffer<u8>,
}

impl Planes {
    /// Of any values: the caller writes every one of them.
    fn to_fill(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            bytes: Buffer::to_fill(width * 3 * height),
        }
    }

    /// `bytes`: row(0), row(1) and so on, `width * 3 * height` in all.
    pub(crate) fn from_bytes(width: usize, height: usize, bytes: Vec<u8>) -> Self {
        assert_eq!(
            bytes.len(),
            width * 3 * height,
            "as many bytes as pixels need"
        );
        Self {
            width,
            height,
            bytes: bytes.into(),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
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

fn horizontal(image: &RgbImage, width: usize) -> Planes {
    let (width_in, height) = (image.width() as usize, image.height() as usize);
    let filter = (width_in != width).then(|| Filter::new(width_in, width));
    let mut out = Planes::to_fill(width, height);
    // Line k of a tile holds byte k (pixel k / 3, channel k % 3) of 16 rows.
    let buffers = || (vec![0; width_in * 3 * LANES], vec![0; width * 3 * LANES]);
    out.bytes
        .par_chunks_mut(width * 3 * LANES)
        .enumerate()
        .for_each_init(buffers, |(tile, filtered), (index, rows)| {
            vectorized(Tile {
                image,
                top: index * LANES,
                filter: filter.as_ref(),
                tile,
                filtered,
                rows,
            });
        });
    out
}

/// Up to 16 rows of the horizontal pass.
struct Tile<'a> {
    image: &'a RgbImage,
    top: usize,
    filter: Option<&'a Filter>,
    tile: &'a mut [u8],
    filtered: &'a mut [u8],
    rows: &'a mut [u8],
}

impl Work for Tile<'_> {
    #[inline(always)]
    fn run(self) {
        rows_to_tile(self.image, self.top, self.tile);
        let lines = match self.filter {
            Some(filter) => {
                let lines = self.filtered.chunks_exact_mut(3 * LANES);
                for (taps, out) in filter.taps.iter().zip(lines) {
                    blend(&self.tile[taps.first * 3 * LANES..], taps, filter.bits, out);
                }
                &*self.filtered
            }
            None => &*self.tile,
        };
        tile_to_rows(lines, self.rows);
    }
}

fn vertical(image: &Planes, height: usize) -> Planes {
    let filter = Filter::new(image.height, height);
    let mut out = Planes::to_fill(image.width, height);
    let stride = image.width * 3;
    out.bytes
        .par_chunks_exact_mut(stride)
        .with_min_len(LANES)
        .zip(&filter.taps)
        .for_each(|(row, taps)| {
            let window = &image.bytes[taps.first * stride..];
            vectorized(Row {
                window,
                taps,
                bits: filter.bits,
                row,
            });
        });
    out
}

/// A row of the vertical pass.
struct Row<'a> {
    window: &'a [u8],
    taps: &'a Taps,
    bits: u32,
    row: &'a mut [u8],
}

impl Work for Row<'_> {
    #[inline(always)]
    fn run(self) {
        blend(self.window, self.taps, self.bits, self.row);
    }
}

/// out = sum of weight j times line j, rounded and clamped; line j is the j-th `out.len()` bytes of
/// `lines`. For the usual numbers of taps the sums stay in registers.
#[inline(always)]
fn blend(lines: &[u8], taps: &Taps, bits: u32, out: &mut [u8]) {
    match taps.weights.len() {
        0..=4 => blend_few::<4>(lines, taps, bits, out),
        5 | 6 => blend_few::<6>(lines, taps, bits, out),
        7 | 8 => blend_few::<8>(lines, taps, bits, out),
        9 | 10 => blend_few::<10>(lines, taps, bits, out),
        11 | 12 => blend_few::<12>(lines, taps, bits, out),
        _ => blend_many(lines, taps, bits, out),
    }
}

/// Up to K taps; what is missing is line 0 with weight 0. Nothing can wrap (see [`precision`]), but
/// saying `wrapping` keeps overflow checks, which the development profile has, out of the loop.
#[inline(always)]
fn blend_few<const K: usize>(lines: &[u8], taps: &Taps, bits: u32, out: &mut [u8]) {
    let n = out.len();
    let mut inputs = [&lines[..n]; K];
    let mut weights = [0i16; K];
    for (j, (input, weight)) in inputs.iter_mut().zip(&mut weights).enumerate() {
        if let Some(&tap) = taps.weights.get(j) {
            *input = &lines[j * n..][..n];
            *weight = tap;
        }
    }
    // Steps of a length that is known while compiling: no bounds to check, whole vectors.
    for (step, out) in out.as_chunks_mut::<STEP>().0.iter_mut().enumerate() {
        let mut at = [&[0; STEP]; K];
        for (at, input) in at.iter_mut().zip(inputs) {
            *at = input[step * STEP..]
                .first_chunk()
                .expect("as long as `out`");
        }
        let mut bytes = [0; STEP];
        for (i, byte) in bytes.iter_mut().enumerate() {
            let mut sum = 1i32 << (bits - 1);
            for (at, weight) in at.iter().zip(weights) {
                sum = sum.wrapping_add(i32::from(weight).wrapping_mul(i32::from(at[i])));
            }
            *byte = (sum >> bits).clamp(0, 255) as u8;
        }
        *out = bytes;
    }
}

/// Bytes at a time in the inner loop: what a pixel of a tile has, and a divisor of every row.
const STEP: usize = 3 * LANES;

/// Any number of taps, for images that shrink a lot.
#[inline(always)]
fn blend_many(lines: &[u8], taps: &Taps, bits: u32, out: &mut [u8]) {
    let n = out.len();
    for (i, out) in out.chunks_exact_mut(LANES).enumerate() {
        let mut sum = [1i32 << (bits - 1); LANES];
        for (line, &weight) in lines[i * LANES..].chunks(n).zip(&taps.weights) {
            for (sum, &byte) in sum.iter_mut().zip(&line[..LANES]) {
                *sum = sum.wrapping_add(i32::from(weight).wrapping_mul(i32::from(byte)));
            }
        }
        for (out, sum) in out.iter_mut().zip(sum) {
            *out = (sum >> bits).clamp(0, 255) as u8;
        }
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
        let (lines, _) = block.as_chunks_mut::<LANES>();
        let get = |r: usize| *rows[r][at..].first_chunk().expect("a block fits");
        transpose(get, |k, line| lines[k] = line);
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
fn tile_to_rows(lines: &[u8], rows: &mut [u8]) {
    let (stride, width) = (lines.len() / LANES, lines.len() / LANES / 3);
    let n_rows = rows.len() / stride;
    for x in (0..width).step_by(LANES) {
        for channel in 0..3 {
            let get = |i: usize| {
                let at = ((x + i) * 3 + channel) * LANES;
                *lines[at..]
                    .first_chunk()
                    .expect("a line for every byte of a row")
            };
            transpose(get, |r, bytes| {
                if r < n_rows {
                    rows[r * stride + channel * width + x..][..LANES].copy_from_slice(&bytes);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
