//! Pages drawn into a bitmap, in integer arithmetic only: the same page gives the same bytes on
//! every machine. Shapes are filled by counting crossings on four sub-rows per pixel row, with
//! exact coverage along x.

use super::font::UNITS_PER_EM;
use super::{Ink, Mark, Page, Turn};

/// Positions are in 1/256 of a pixel.
const ONE: i64 = 256;
const SUB_ROWS: i64 = 4;

/// An RGB bitmap, rows from the top.
pub(crate) struct Bitmap {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) pixels: Vec<[u8; 3]>,
}

impl Bitmap {
    pub(crate) fn new(width: u32, height: u32, paper: Ink) -> Self {
        let paper = [paper.0, paper.1, paper.2];
        Self {
            width,
            height,
            pixels: vec![paper; (width * height) as usize],
        }
    }

    /// Copies `other` over this bitmap, its upper left corner at (x, y); what does not fit is cut off.
    pub(crate) fn paste(&mut self, other: &Bitmap, x: u32, y: u32) {
        let columns = other.width.min(self.width.saturating_sub(x)) as usize;
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            let from = (row * other.width) as usize;
            let to = ((y + row) * self.width + x) as usize;
            self.pixels[to..to + columns].copy_from_slice(&other.pixels[from..from + columns]);
        }
    }

    /// Fills polygons, nonzero winding, in pixels/256.
    pub(crate) fn fill(&mut self, contours: &[Vec<(i64, i64)>], ink: Ink) {
        let points = || contours.iter().flatten();
        let (Some(top), Some(bottom)) = (points().map(|p| p.1).min(), points().map(|p| p.1).max())
        else {
            return;
        };
        let left = points().map(|p| p.0).min().unwrap_or(0);
        let right = points().map(|p| p.0).max().unwrap_or(0);
        let first_column = (left.div_euclid(ONE)).clamp(0, i64::from(self.width));
        let last_column = (right.div_euclid(ONE) + 1).clamp(0, i64::from(self.width));
        let first_row = (top.div_euclid(ONE)).clamp(0, i64::from(self.height));
        let last_row = (bottom.div_euclid(ONE) + 1).clamp(0, i64::from(self.height));
        if first_column >= last_column {
            return;
        }

        let mut coverage = vec![0i64; (last_column - first_column) as usize];
        let mut crossings: Vec<(i64, i32)> = Vec::new();
        for row in first_row..last_row {
            coverage.fill(0);
            for sub in 0..SUB_ROWS {
                let y = row * ONE + (2 * sub + 1) * ONE / (2 * SUB_ROWS);
                crossings_at(contours, y, &mut crossings);
                let mut winding = 0;
                for pair in crossings.windows(2) {
                    winding += pair[0].1;
                    if winding != 0 {
                        let offset = first_column * ONE;
                        cover(&mut coverage, pair[0].0 - offset, pair[1].0 - offset);
                    }
                }
            }
            let start = (row * i64::from(self.width) + first_column) as usize;
            for (pixel, covered) in self.pixels[start..].iter_mut().zip(&coverage) {
                blend(pixel, ink, *covered);
            }
        }
    }
}

/// Where the edges cross the height `y`, from left to right, with their directions.
fn crossings_at(contours: &[Vec<(i64, i64)>], y: i64, crossings: &mut Vec<(i64, i32)>) {
    crossings.clear();
    for contour in contours {
        for (i, &(x1, y1)) in contour.iter().enumerate() {
            let (x2, y2) = contour[(i + 1) % contour.len()];
            if (y1 <= y) != (y2 <= y) {
                let x = x1 + (x2 - x1) * (y - y1) / (y2 - y1);
                crossings.push((x, if y1 < y2 { 1 } else { -1 }));
            }
        }
    }
    crossings.sort_unstable();
}

/// Adds the span from `left` to `right` (1/256 pixel) to one sub-row's coverage.
fn cover(coverage: &mut [i64], left: i64, right: i64) {
    let end = coverage.len() as i64 * ONE;
    let (left, right) = (left.clamp(0, end), right.clamp(0, end));
    let mut x = left;
    while x < right {
        let column = x / ONE;
        let next = ((column + 1) * ONE).min(right);
        coverage[column as usize] += next - x;
        x = next;
    }
}

/// `covered`: 0 to SUB_ROWS * ONE.
fn blend(pixel: &mut [u8; 3], ink: Ink, covered: i64) {
    if covered > 0 {
        let full = SUB_ROWS * ONE;
        for (value, target) in pixel.iter_mut().zip([ink.0, ink.1, ink.2]) {
            let mixed = i64::from(*value) * (full - covered) + i64::from(target) * covered;
            *value = ((mixed + full / 2) / full) as u8;
        }
    }
}

/// Draws a page at `dpi`, turned about its middle. Ink is as dark as the page says; the paper is
/// white.
pub(crate) fn draw(page: &Page, dpi: i64, turn: Turn) -> Bitmap {
    let pixels = |tenths: i32| ((i64::from(tenths) * dpi + 360) / 720) as u32;
    let mut bitmap = Bitmap::new(pixels(page.width), pixels(page.height), super::WHITE);
    let frame = Frame {
        dpi,
        turn,
        middle: (
            i64::from(bitmap.width) * ONE / 2,
            i64::from(bitmap.height) * ONE / 2,
        ),
    };
    for mark in &page.marks {
        match mark {
            Mark::Text {
                x,
                y,
                style,
                turn,
                text,
            } => {
                let mut pen = 0;
                for character in text.chars() {
                    let glyph = style.font.glyph(character);
                    let contours: Vec<_> = glyph
                        .contours
                        .iter()
                        .map(|contour| {
                            contour
                                .iter()
                                .map(|&(gx, gy)| {
                                    let size = i64::from(style.size);
                                    let (dx, dy) = turn.apply((pen + gx) * size, -gy * size);
                                    frame.place(
                                        i64::from(*x) * UNITS_PER_EM + dx,
                                        i64::from(*y) * UNITS_PER_EM + dy,
                                    )
                                })
                                .collect()
                        })
                        .collect();
                    bitmap.fill(&contours, style.ink);
                    pen += glyph.advance;
                }
            }
            Mark::Line {
                from,
                to,
                width,
                ink,
            } => bitmap.fill(&[frame.stroke(*from, *to, *width)], *ink),
            Mark::Shape { points, ink } => {
                let contour = points.iter().map(|&p| frame.place_tenths(p)).collect();
                bitmap.fill(&[contour], *ink);
            }
        }
    }
    bitmap
}

/// From the page's tenths of a point to turned pixels.
struct Frame {
    dpi: i64,
    turn: Turn,
    middle: (i64, i64),
}

impl Frame {
    /// `x, y` in tenths of a point, times 2048 so that glyph coordinates lose nothing.
    fn place(&self, x: i64, y: i64) -> (i64, i64) {
        let scale = |v: i64| v * self.dpi * ONE / (720 * UNITS_PER_EM);
        let (dx, dy) = self
            .turn
            .apply(scale(x) - self.middle.0, scale(y) - self.middle.1);
        (self.middle.0 + dx, self.middle.1 + dy)
    }

    fn place_tenths(&self, (x, y): (i32, i32)) -> (i64, i64) {
        self.place(i64::from(x) * UNITS_PER_EM, i64::from(y) * UNITS_PER_EM)
    }

    /// The rectangle around a line, at least 0.6 pixels wide, as a printer leaves no thinner one.
    fn stroke(&self, from: (i32, i32), to: (i32, i32), width: i32) -> Vec<(i64, i64)> {
        let (a, b) = (self.place_tenths(from), self.place_tenths(to));
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = ((dx * dx + dy * dy) as u64).isqrt().max(1) as i64;
        let half = (i64::from(width) * self.dpi * ONE / 720).max(ONE * 6 / 10) / 2;
        let (nx, ny) = (-dy * half / length, dx * half / length);
        vec![
            (a.0 + nx, a.1 + ny),
            (b.0 + nx, b.1 + ny),
            (b.0 - nx, b.1 - ny),
            (a.0 - nx, a.1 - ny),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::BLACK;

    fn gray(bitmap: &Bitmap) -> Vec<u8> {
        bitmap.pixels.iter().map(|p| p[0]).collect()
    }

    #[test]
    fn coverage_is_exact_for_rectangles() {
        let mut bitmap = Bitmap::new(4, 2, crate::page::WHITE);
        // From x = 0.5 to 2.25, rows 0 to 1.
        bitmap.fill(&[vec![(128, 0), (576, 0), (576, 256), (128, 256)]], BLACK);
        assert_eq!(gray(&bitmap), [128, 0, 191, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn the_winding_rule_leaves_holes_open() {
        let mut bitmap = Bitmap::new(3, 3, crate::page::WHITE);
        let outer = vec![(0, 0), (768, 0), (768, 768), (0, 768)];
        let inner = vec![(256, 256), (256, 512), (512, 512), (512, 256)];
        bitmap.fill(&[outer, inner], BLACK);
        assert_eq!(gray(&bitmap), [0, 0, 0, 0, 255, 0, 0, 0, 0]);
    }

    #[test]
    fn what_lies_outside_is_cut_off() {
        let mut bitmap = Bitmap::new(2, 2, crate::page::WHITE);
        bitmap.fill(
            &[vec![(-999, -999), (9999, -999), (9999, 256), (-999, 256)]],
            BLACK,
        );
        assert_eq!(gray(&bitmap), [0, 0, 255, 255]);
    }
}
