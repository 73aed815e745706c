//! Antialiased bicubic resampling of 8-bit images, bit for bit what torchvision computes on uint8
//! tensors: Keys' cubic with a = -0.5, integer weights, horizontal pass first, and a result rounded
//! and clamped to 8 bits between the passes. A float resize is *not* equivalent: at a hard black
//! edge it differs by up to 25 levels.
//!
//! The speed comes from the layout. Both passes are "sum of k weighted lines": lines are rows in the
//! vertical pass, and columns of 16 transposed rows in the horizontal one. So one inner loop over
//! contiguous bytes serves both, and the compiler turns it into vector instructions.

use image::RgbImage;

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
    let mut tile = vec![0; width_in * 3 * LANES];
    let mut filtered = vec![0; width * 3 * LANES];
    for top in (0..height).step_by(LANES) {
        let n_rows = LANES.min(height - top);
        rows_to_tile(image, top, n_rows, &mut tile);
        let lines = match &filter {
            Some(filter) => {
                for (taps, out) in filter.taps.iter().zip(filtered.chunks_exact_mut(3 * LANES)) {
                    let window = &tile[taps.first * 3 * LANES..];
                    blend::<{ 3 * LANES }>(window, 3 * LANES, taps, filter.bits, out);
                }
                &filtered
            }
            None => &tile,
        };
        tile_to_rows(lines, top, n_rows, &mut out);
    }
    out
}

fn vertical(image: &Planes, height: usize) -> Planes {
    let filter = Filter::new(image.height, height);
    let mut out = Planes::zeroed(image.width, height);
    let stride = image.width * 3;
    for (taps, row) in filter.taps.iter().zip(out.bytes.chunks_exact_mut(stride)) {
        let window = &image.bytes[taps.first * stride..];
        for (i, chunk) in row.chunks_exact_mut(3 * LANES).enumerate() {
            blend::<{ 3 * LANES }>(&window[i * 3 * LANES..], stride, taps, filter.bits, chunk);
        }
    }
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
fn rows_to_tile(image: &RgbImage, top: usize, n_rows: usize, tile: &mut [u8]) {
    let stride = image.width() as usize * 3;
    let bytes: &[u8] = image.as_raw();
    let rows: [&[u8]; LANES] =
        std::array::from_fn(|r| &bytes[(top + r.min(n_rows - 1)) * stride..][..stride]);
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

/// The way back, into planes: row[top + r][channel][x] = lines[x][channel][r].
fn tile_to_rows(lines: &[u8], top: usize, n_rows: usize, out: &mut Planes) {
    let (width, stride) = (out.width, out.width * 3);
    let rows = &mut out.bytes[top * stride..];
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
mod tests {
    use super::*;
    use crate::model_files::sha256;
    use crate::smart_resize::smart_resize;
    use proptest::prelude::*;

    /// The definition, one multiplication at a time in i64, straight from the description above.
    fn plain(image: &RgbImage, width: usize, height: usize) -> Vec<Vec<[u8; 3]>> {
        fn axis(lines: &[Vec<[u8; 3]>], n_out: usize) -> Vec<Vec<[u8; 3]>> {
            if lines.len() == n_out {
                return lines.to_vec();
            }
            let filter = Filter::new(lines.len(), n_out);
            let weigh = |taps: &Taps, at: usize, c: usize| {
                let products = taps.weights.iter().zip(&lines[taps.first..]);
                let sum: i64 = products
                    .map(|(w, line)| i64::from(*w) * i64::from(line[at][c]))
                    .sum();
                ((sum + (1 << (filter.bits - 1))) >> filter.bits).clamp(0, 255) as u8
            };
            (filter.taps.iter())
                .map(|taps| {
                    (0..lines[0].len())
                        .map(|at| [0, 1, 2].map(|c| weigh(taps, at, c)))
                        .collect()
                })
                .collect()
        }
        let columns: Vec<Vec<[u8; 3]>> = (0..image.width())
            .map(|x| {
                (0..image.height())
                    .map(|y| image.get_pixel(x, y).0)
                    .collect()
            })
            .collect();
        let wide = axis(&columns, width);
        let rows: Vec<Vec<[u8; 3]>> = (0..image.height() as usize)
            .map(|y| wide.iter().map(|column| column[y]).collect())
            .collect();
        axis(&rows, height)
    }

    fn interleaved(planes: &Planes) -> Vec<Vec<[u8; 3]>> {
        (0..planes.height)
            .map(|y| {
                let row = planes.row(y);
                (0..planes.width)
                    .map(|x| [0, 1, 2].map(|c| row[c * planes.width + x]))
                    .collect()
            })
            .collect()
    }

    /// Noise between hard black and white blocks: the cases where clamping matters.
    fn picture(width: u32, height: u32, mut seed: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let noise = [0, 1, 2].map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            });
            match (x / 5 + y / 7) % 3 {
                0 => image::Rgb([0, 255, 0]),
                1 => image::Rgb([255, 0, 255]),
                _ => image::Rgb(noise),
            }
        })
    }

    #[test]
    fn transposing_16_by_16() {
        let square: Square =
            std::array::from_fn(|r| std::array::from_fn(|c| (r * LANES + c) as u8));
        let expected: Square =
            std::array::from_fn(|r| std::array::from_fn(|c| (c * LANES + r) as u8));
        assert_eq!(transpose(square), expected);
    }

    #[test]
    fn weights_of_every_position_sum_to_one_and_fit_their_type() {
        for (n_in, n_out) in [(97, 96), (9000, 32), (3, 320), (2200, 1312), (1, 32)] {
            let filter = Filter::new(n_in, n_out);
            for taps in &filter.taps {
                let sum: i64 = taps.weights.iter().map(|w| i64::from(*w)).sum();
                let rounding = taps.weights.len() as i64;
                assert!((sum - (1 << filter.bits)).abs() <= rounding);
                assert!(taps.first + taps.weights.len() <= n_in);
            }
        }
    }

    #[test]
    fn an_image_of_the_right_size_is_untouched() {
        let image = picture(32, 64, 1);
        let planes = resample(&image, 32, 64);
        assert_eq!(interleaved(&planes), plain(&image, 32, 64));
        assert_eq!(planes.row(3)[32 + 5], image.get_pixel(5, 3).0[1]);
    }

    /// `tests/fixtures/resize_cases.json`: what transformers' image processor made of pictures that
    /// its generator describes.
    #[test]
    fn every_picture_is_resized_as_by_torchvision() {
        #[derive(serde::Deserialize)]
        struct Cases {
            cases: Vec<Case>,
        }
        #[derive(serde::Deserialize)]
        struct Case {
            draw: String,
            seed: u32,
            width: u32,
            height: u32,
            min_pixels: u64,
            max_pixels: u64,
            resized_width: u32,
            resized_height: u32,
            source_sha256: String,
            sha256: String,
        }
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/resize_cases.json"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let cases: Cases = serde_json::from_str(&text).unwrap();
        assert!(cases.cases.len() > 20);
        for case in cases.cases {
            let name = format!("{} {} x {}", case.draw, case.width, case.height);
            let image = drawn(&case.draw, case.seed, case.width, case.height);
            assert_eq!(
                sha256(image.as_raw()),
                case.source_sha256,
                "{name}: drawn differently"
            );
            let size = (case.width, case.height);
            let size = smart_resize(size, 32, case.min_pixels, case.max_pixels).unwrap();
            assert_eq!(size, (case.resized_width, case.resized_height), "{name}");
            let planes = resample(&image, size.0 as usize, size.1 as usize);
            let bytes: Vec<u8> = interleaved(&planes)
                .into_iter()
                .flatten()
                .flatten()
                .collect();
            assert_eq!(sha256(&bytes), case.sha256, "{name}: resized differently");
        }
    }

    fn drawn(draw: &str, mut state: u32, width: u32, height: u32) -> RgbImage {
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        match draw {
            "noise" => {
                RgbImage::from_fn(width, height, |_, _| image::Rgb([next(), next(), next()]))
            }
            "blocks" => {
                let columns = width.div_ceil(7);
                let cells: Vec<[u8; 3]> = (0..columns * height.div_ceil(5))
                    .map(|_| [next(), next(), next()].map(|byte| if byte >= 128 { 255 } else { 0 }))
                    .collect();
                RgbImage::from_fn(width, height, |x, y| {
                    image::Rgb(cells[(y / 5 * columns + x / 7) as usize])
                })
            }
            "checker" => RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([0, 1, 2].map(|c| if (x + y + c) % 2 == 1 { 255 } else { 0 }))
            }),
            other => panic!("unknown picture {other}"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn the_fast_path_equals_the_plain_one(
            w in 1u32..150, h in 1u32..150, new_w in 1usize..6, new_h in 1usize..6, seed: u32,
        ) {
            let image = picture(w, h, seed);
            let (new_w, new_h) = (new_w * 32, new_h * 32);
            prop_assert_eq!(
                interleaved(&resample(&image, new_w, new_h)),
                plain(&image, new_w, new_h)
            );
        }
    }
}
