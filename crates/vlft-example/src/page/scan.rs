//! What a page looks like after years in a folder and one pass through an office scanner: a little
//! crooked, unevenly lit, with specks, streaks, punch holes and JPEG artefacts. Noise is kept
//! coarse: fine grain costs most of a JPEG's bytes and teaches nothing.

use jpeg_encoder::{ColorType, Encoder, PixelDensity, SamplingFactor};

use super::raster::{self, Bitmap};
use super::{Ink, Page, Turn};
use crate::dice::Dice;

/// One page as a JPEG file.
pub(crate) struct Scan {
    pub(crate) jpeg: Vec<u8>,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) colour: bool,
}

/// What one scanner does to every page of one document.
#[derive(Clone, Debug)]
pub(crate) struct Scanner {
    pub(crate) dpi: i64,
    pub(crate) quality: u8,
    pub(crate) colour: bool,
    /// False: the page was exported by a program, so nothing but the JPEG wears it.
    pub(crate) worn: bool,
}

/// How one page lay on the glass.
struct Wear {
    turn: Turn,
    paper: i32,
    ink: i32,
    blur: bool,
    /// Loss of light towards the right and the lower edge.
    slope: (i32, i32),
    grain: i32,
    specks: i32,
    streaks: i32,
    punched: bool,
    lid_shadow: bool,
}

impl Wear {
    fn roll(dice: &mut Dice) -> Self {
        Self {
            // Up to 1.5 degrees to either side.
            turn: Turn::from_sine(i64::from(dice.between(-1720, 1720))),
            paper: dice.between(232, 252),
            ink: dice.between(10, 70),
            blur: dice.percent(60),
            slope: (dice.between(0, 14), dice.between(0, 14)),
            grain: dice.between(0, 4),
            specks: dice.between(10, 110),
            streaks: dice.between(0, 2),
            punched: dice.percent(35),
            lid_shadow: dice.percent(40),
        }
    }
}

pub(crate) fn scan(page: &Page, scanner: &Scanner, dice: &mut Dice) -> Scan {
    let bitmap = picture(page, scanner, dice);
    Scan {
        jpeg: encode(&bitmap, scanner),
        width: bitmap.width,
        height: bitmap.height,
        colour: scanner.colour,
    }
}

/// What the scanner sees, before the JPEG.
pub(crate) fn picture(page: &Page, scanner: &Scanner, dice: &mut Dice) -> Bitmap {
    if !scanner.worn {
        return raster::draw(page, scanner.dpi, Turn::NONE);
    }
    let wear = Wear::roll(dice);
    let mut bitmap = raster::draw(page, scanner.dpi, wear.turn);
    wear_down(&mut bitmap, &wear, dice);
    bitmap
}

fn wear_down(bitmap: &mut Bitmap, wear: &Wear, dice: &mut Dice) {
    if wear.blur {
        blur(bitmap);
    }
    shade(bitmap, wear, dice);
    for _ in 0..wear.streaks {
        streak(bitmap, dice);
    }
    for _ in 0..wear.specks {
        speck(bitmap, dice);
    }
    if wear.punched {
        punch(bitmap);
    }
    if wear.lid_shadow {
        lid_shadow(bitmap, dice);
    }
}

/// Each pixel with half the weight of a row, then of a column: 1-4-1 over 6.
fn blur(bitmap: &mut Bitmap) {
    let (width, height) = (bitmap.width as usize, bitmap.height as usize);
    for (step, count, lines, stride) in [(1, width, height, width), (width, height, width, 1)] {
        for line in 0..lines {
            let start = line * stride;
            let mut before = bitmap.pixels[start];
            for i in 1..count - 1 {
                let at = start + i * step;
                let here = bitmap.pixels[at];
                let after = bitmap.pixels[at + step];
                for c in 0..3 {
                    let sum = u32::from(before[c]) + 4 * u32::from(here[c]) + u32::from(after[c]);
                    bitmap.pixels[at][c] = ((sum + 3) / 6) as u8;
                }
                before = here;
            }
        }
    }
}

/// Paper that is not white, ink that is not black, light that falls off, and grain.
fn shade(bitmap: &mut Bitmap, wear: &Wear, dice: &mut Dice) {
    let (width, height) = (bitmap.width as i32, bitmap.height as i32);
    // Grain in cells of two by two pixels: it survives the JPEG, and cheaply.
    let mut grain = vec![0; width as usize / 2 + 1];
    for y in 0..height {
        if wear.grain > 0 && y % 2 == 0 {
            for cell in &mut grain {
                *cell = dice.between(-wear.grain, wear.grain);
            }
        }
        for x in 0..width {
            let light = wear.paper - wear.slope.0 * x / width - wear.slope.1 * y / height;
            let pixel = &mut bitmap.pixels[(y * width + x) as usize];
            for value in pixel {
                let toned = wear.ink + i32::from(*value) * (light - wear.ink) / 255;
                *value = (toned + grain[x as usize / 2]).clamp(0, 255) as u8;
            }
        }
    }
}

/// A speck of dust on the scanner's line sensor draws a line down the whole page.
fn streak(bitmap: &mut Bitmap, dice: &mut Dice) {
    let x = dice.below(bitmap.width) as usize;
    let change = dice.between(-22, 14);
    for row in bitmap.pixels.chunks_exact_mut(bitmap.width as usize) {
        for value in &mut row[x] {
            *value = (i32::from(*value) + change).clamp(0, 255) as u8;
        }
    }
}

fn speck(bitmap: &mut Bitmap, dice: &mut Dice) {
    let (x, y) = (
        i64::from(dice.below(bitmap.width)) * 256,
        i64::from(dice.below(bitmap.height)) * 256,
    );
    let size = i64::from(dice.between(120, 560));
    let gray = dice.between(50, 190) as u8;
    let lean = i64::from(dice.between(-120, 120));
    bitmap.fill(
        &[vec![
            (x, y),
            (x + size, y + lean),
            (x + size + lean, y + size),
            (x - lean / 2, y + size - lean),
        ]],
        Ink(gray, gray, gray),
    );
}

/// Two holes of 6 mm, 80 mm apart, 12 mm from the left edge, black as the lid behind them.
fn punch(bitmap: &mut Bitmap) {
    let millimetre = i64::from(bitmap.width) * 256 / 210;
    let middle = i64::from(bitmap.height) * 256 / 2;
    for side in [-1, 1] {
        let (cx, cy) = (12 * millimetre, middle + side * 40 * millimetre);
        bitmap.fill(&[disc(cx, cy, 3 * millimetre)], Ink(58, 58, 60));
    }
}

/// A circle as 24 corners.
pub(crate) fn disc(cx: i64, cy: i64, radius: i64) -> Vec<(i64, i64)> {
    // Sines of 0, 15, .. 90 degrees in 1/65536.
    const SINES: [i64; 7] = [0, 16962, 32768, 46341, 56756, 63303, 65536];
    let sine = |step: usize| match step % 24 {
        s @ 0..=6 => SINES[s],
        s @ 7..=12 => SINES[12 - s],
        s @ 13..=18 => -SINES[s - 12],
        s => -SINES[24 - s],
    };
    (0..24)
        .map(|step| {
            (
                cx + radius * sine(step + 6) / 65536,
                cy + radius * sine(step) / 65536,
            )
        })
        .collect()
}

/// The page was shorter than the glass: a dark wedge along the lower edge.
fn lid_shadow(bitmap: &mut Bitmap, dice: &mut Dice) {
    let (width, height) = (
        i64::from(bitmap.width) * 256,
        i64::from(bitmap.height) * 256,
    );
    let left = i64::from(dice.between(0, 1800));
    let right = i64::from(dice.between(256, 1800));
    bitmap.fill(
        &[vec![
            (0, height - left),
            (width, height - right),
            (width, height),
            (0, height),
        ]],
        Ink(72, 72, 74),
    );
}

pub(crate) fn encode(bitmap: &Bitmap, scanner: &Scanner) -> Vec<u8> {
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, scanner.quality);
    encoder.set_density(PixelDensity::dpi(scanner.dpi as u16));
    encoder.set_optimized_huffman_tables(true);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let (samples, colour): (Vec<u8>, _) = if scanner.colour {
        let samples = bitmap.pixels.iter().flatten().copied().collect();
        (samples, ColorType::Rgb)
    } else {
        (bitmap.pixels.iter().map(luma).collect(), ColorType::Luma)
    };
    encoder
        .encode(&samples, bitmap.width as u16, bitmap.height as u16, colour)
        .expect("encoding into memory fails only for sizes of 0 or beyond 65535");
    jpeg
}

/// Rec. 601 in integers.
fn luma(pixel: &[u8; 3]) -> u8 {
    let [r, g, b] = pixel.map(u32::from);
    ((299 * r + 587 * g + 114 * b + 500) / 1000) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disc_is_round() {
        for (x, y) in disc(1000, 2000, 500) {
            let (dx, dy) = (x - 1000, y - 2000);
            let radius = ((dx * dx + dy * dy) as u64).isqrt();
            assert!((498..=500).contains(&radius), "{radius}");
        }
    }
}
