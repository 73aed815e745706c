//! From pixels to the signs of frequencies: the steps of [`super`], one function each.

use std::f64::consts::PI;

/// Side of the working grid in cells.
const GRID: usize = 384;
/// Half the side of the square that is a cell's surroundings.
const AROUND: usize = 16;
/// Cells at the rim that are not looked at: the edge of a scan is dark, and so is a cut.
const RIM: usize = 6;
/// Paler than this part of the darkest ink is noise to the frame; so is what differs by less than
/// [`FAINT_LEVELS`] of 255.
const FAINT: f64 = 0.15;
const FAINT_LEVELS: f64 = 6.0;
/// Half the side of the frame, in spreads (standard deviations) of the ink.
const REACH: f64 = 1.9;
/// Pages are higher than wide, and so is the frame: half of sqrt 2 either way.
const WIDE: f64 = 0.85;
const HIGH: f64 = 1.18;
/// Side of the frame in cells.
const FRAME: usize = 96;
/// Frequencies along one side that the 512 lowest need: up to the 32nd.
const FREQUENCIES: usize = 33;

/// The signs of the 512 lowest frequencies but the mean; `None` when there is no ink.
pub(super) fn signs(width: usize, height: usize, pixels: &[u8]) -> Option<[u64; 8]> {
    if width == 0 || height == 0 {
        return None;
    }
    let ink = ink(&shrink(width, height, pixels));
    let frame = frame(&ink, width as f64, height as f64)?;
    let spectrum = spectrum(&cut(&ink, &frame));
    let mut words = [0u64; 8];
    for (bit, (row, column)) in lowest().take(512).enumerate() {
        if spectrum[row][column] > 0.0 {
            words[bit / 64] |= 1 << (bit % 64);
        }
    }
    Some(words)
}

/// The mean of the pixels under each cell of the grid.
fn shrink(width: usize, height: usize, pixels: &[u8]) -> Vec<f64> {
    let mut grid = vec![0.0; GRID * GRID];
    // Whole numbers: their additions do not wait for each other as long, and the sums are exact.
    let mut sums = vec![0u64; width + 1];
    let mut cells = [0.0; GRID];
    let edges: Vec<Place> = (1..=GRID)
        .map(|index| Place::new(index as f64 * width as f64 / GRID as f64, width))
        .collect();
    let tall = height as f64 / GRID as f64;
    for (y, row) in pixels.chunks_exact(width).enumerate() {
        let mut sum = 0;
        for (to, pixel) in sums[1..].iter_mut().zip(row) {
            sum += u64::from(*pixel);
            *to = sum;
        }
        let mut before = 0.0;
        for (cell, edge) in cells.iter_mut().zip(&edges) {
            let (low, high) = (sums[edge.whole], sums[edge.whole + 1]);
            let after = low as f64 + edge.part * (high - low) as f64;
            *cell = after - before;
            before = after;
        }
        // Rows of cells that this row of pixels reaches into, and how far.
        let (top, bottom) = (y as f64, y as f64 + 1.0);
        let mut line = (top / tall) as usize;
        while line < GRID && line as f64 * tall < bottom {
            let share = bottom.min((line + 1) as f64 * tall) - top.max(line as f64 * tall);
            if share > 0.0 {
                let into = &mut grid[line * GRID..(line + 1) * GRID];
                into.iter_mut()
                    .zip(&cells)
                    .for_each(|(to, cell)| *to += share * cell);
            }
            line += 1;
        }
    }
    let area = tall * width as f64 / GRID as f64;
    grid.iter_mut().for_each(|cell| *cell /= area);
    grid
}

/// A place between two of the numbers of a list, `part` of the way from one to the next.
struct Place {
    whole: usize,
    part: f64,
}

impl Place {
    /// In a list of `last + 1` numbers.
    fn new(at: f64, last: usize) -> Self {
        let at = at.clamp(0.0, last as f64);
        let whole = (at as usize).min(last.saturating_sub(1));
        Self {
            whole,
            part: at - whole as f64,
        }
    }
}

/// Running sums read between two of their places.
fn between(sums: &[f64], at: f64) -> f64 {
    let Place { whole, part } = Place::new(at, sums.len() - 1);
    sums[whole] + part * (sums[whole + 1] - sums[whole])
}

/// How much darker each cell is than its surroundings; 0 where it is not, and at the rim.
fn ink(grid: &[f64]) -> Vec<f64> {
    let rows: Vec<f64> = grid.chunks_exact(GRID).flat_map(smooth).collect();
    let columns: Vec<f64> = transpose(&rows)
        .chunks_exact(GRID)
        .flat_map(smooth)
        .collect();
    let around = transpose(&columns);
    let inside = RIM..GRID - RIM;
    let mut ink = vec![0.0; GRID * GRID];
    for y in inside.clone() {
        for x in inside.clone() {
            let at = y * GRID + x;
            ink[at] = (around[at] - grid[at]).max(0.0);
        }
    }
    ink
}

/// The mean over [`AROUND`] cells to either side; the outermost ones go on for ever.
fn smooth(line: &[f64]) -> Vec<f64> {
    let at = |index: isize| line[index.clamp(0, GRID as isize - 1) as usize];
    let around = AROUND as isize;
    let mut sum: f64 = (-around..=around).map(at).sum();
    (0..GRID as isize)
        .map(|index| {
            let mean = sum / (2 * AROUND + 1) as f64;
            sum += at(index + around + 1) - at(index - around);
            mean
        })
        .collect()
}

fn transpose(grid: &[f64]) -> Vec<f64> {
    let mut turned = vec![0.0; GRID * GRID];
    for y in 0..GRID {
        for x in 0..GRID {
            turned[x * GRID + y] = grid[y * GRID + x];
        }
    }
    turned
}

/// Where the ink is, in cells; it may reach beyond the grid.
struct Frame {
    x: (f64, f64),
    y: (f64, f64),
}

fn frame(ink: &[f64], width: f64, height: f64) -> Option<Frame> {
    let inside = RIM..GRID - RIM;
    let mut sorted: Vec<f64> = inside
        .clone()
        .flat_map(|y| &ink[y * GRID + RIM..(y + 1) * GRID - RIM])
        .copied()
        .collect();
    let dark = sorted.len() * 98 / 100;
    let (_, dark, _) = sorted.select_nth_unstable_by(dark, f64::total_cmp);
    let faint = (FAINT * *dark).max(FAINT_LEVELS);
    let (mut columns, mut rows) = ([0.0; GRID], [0.0; GRID]);
    for y in inside.clone() {
        for x in inside.clone() {
            let weight = (ink[y * GRID + x] - faint).max(0.0);
            columns[x] += weight;
            rows[y] += weight;
        }
    }
    let (x, wide) = centre_and_spread(&columns)?;
    let (y, high) = centre_and_spread(&rows)?;
    // One size for both directions, so that the proportions of the page are kept.
    let size = REACH * (wide * width * high * height).sqrt();
    let (half_x, half_y) = (WIDE * size / width, HIGH * size / height);
    Some(Frame {
        x: (x - half_x, x + half_x),
        y: (y - half_y, y + half_y),
    })
}

fn centre_and_spread(weights: &[f64; GRID]) -> Option<(f64, f64)> {
    let total: f64 = weights.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let place = |index: usize| index as f64 + 0.5;
    let moment = |f: &dyn Fn(f64) -> f64| {
        let sum: f64 = (0..GRID).map(|i| weights[i] * f(place(i))).sum();
        sum / total
    };
    let centre = moment(&|at| at);
    let spread = moment(&|at| (at - centre).powi(2)).sqrt();
    // A single line of text has no height to speak of.
    Some((centre, spread.max(GRID as f64 / 32.0)))
}

/// The ink within the frame, [`FRAME`] x [`FRAME`]; outside of the grid there is none.
fn cut(ink: &[f64], frame: &Frame) -> Vec<f64> {
    let edges = |(start, end): (f64, f64)| -> Vec<f64> {
        let step = (end - start) / FRAME as f64;
        (0..=FRAME).map(|i| start + step * i as f64).collect()
    };
    let (xs, ys) = (edges(frame.x), edges(frame.y));
    // Sums along rows first, then of rows: the ink above and to the left of each corner.
    let mut corner = vec![[0.0; FRAME + 1]; GRID + 1];
    let mut sums = vec![0.0; GRID + 1];
    for (y, row) in ink.chunks_exact(GRID).enumerate() {
        let mut sum = 0.0;
        for (x, cell) in row.iter().enumerate() {
            sum += cell;
            sums[x + 1] = sum;
        }
        for (index, at) in xs.iter().enumerate() {
            corner[y + 1][index] = corner[y][index] + between(&sums, *at);
        }
    }
    let at = |index: usize, y: f64| {
        let y = y.clamp(0.0, GRID as f64);
        let whole = (y as usize).min(GRID - 1);
        let (above, below) = (corner[whole][index], corner[whole + 1][index]);
        above + (y - whole as f64) * (below - above)
    };
    let mut cells = Vec::with_capacity(FRAME * FRAME);
    for y in ys.windows(2) {
        for x in 0..FRAME {
            cells.push(at(x + 1, y[1]) - at(x, y[1]) - at(x + 1, y[0]) + at(x, y[0]));
        }
    }
    cells
}

/// The discrete cosine transform, low frequencies only, unscaled: signs are all that counts.
fn spectrum(cells: &[f64]) -> Vec<[f64; FREQUENCIES]> {
    let wave: Vec<[f64; FRAME]> = (0..FREQUENCIES)
        .map(|k| {
            std::array::from_fn(|x| (PI * (2 * x + 1) as f64 * k as f64 / (2 * FRAME) as f64).cos())
        })
        .collect();
    let dot = |a: &[f64], b: &[f64; FRAME]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    // Along rows, then along the columns of the result.
    let rows: Vec<[f64; FREQUENCIES]> = cells
        .chunks_exact(FRAME)
        .map(|row| std::array::from_fn(|k| dot(row, &wave[k])))
        .collect();
    wave.iter()
        .map(|wave| std::array::from_fn(|k| rows.iter().zip(wave).map(|(row, w)| row[k] * w).sum()))
        .collect()
}

/// (row, column) of the frequencies, the lowest first, without the mean.
fn lowest() -> impl Iterator<Item = (usize, usize)> {
    (1..).flat_map(|sum: usize| (0..=sum).map(move |row| (row, sum - row)))
}
