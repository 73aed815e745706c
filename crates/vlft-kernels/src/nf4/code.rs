//! The two code books of bitsandbytes: 16 levels for weights, 256 for the scales of blocks.

use std::sync::LazyLock;

/// 4-bit NormalFloat: quantiles of a normal distribution, symmetric ends, an exact zero.
pub const LEVELS: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The signed 8-bit dynamic type, rising: seven decades, decade k with 2^k levels of either sign,
/// then 0 and 1.
pub static DYNAMIC_LEVELS: LazyLock<[f32; 256]> = LazyLock::new(dynamic_levels);

fn dynamic_levels() -> [f32; 256] {
    let mut levels = vec![0.0, 1.0];
    for decade in 0..7 {
        let size = 10f64.powi(decade - 6) as f32;
        let edges = linspace(0.1, 1.0, (1 << decade) + 1);
        for pair in edges.windows(2) {
            let level = size * ((pair[0] + pair[1]) / 2.0);
            levels.extend([level, -level]);
        }
    }
    levels.sort_by(f32::total_cmp);
    levels
        .try_into()
        .expect("2 + 2 (1 + 2 + .. + 64) = 256 levels")
}

/// As torch evaluates it in f32: forwards from the start, backwards from the end.
fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    let step = (end - start) / (count - 1) as f32;
    let value = |i: usize| match i < count / 2 {
        true => start + step * i as f32,
        false => end - step * (count - 1 - i) as f32,
    };
    (0..count).map(value).collect()
}

/// Halfway between neighbours: a value's code is the number of midpoints below it.
pub(super) fn midpoints(levels: &[f32]) -> Vec<f32> {
    levels
        .windows(2)
        .map(|pair| (pair[0] + pair[1]) / 2.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dynamic_levels_rise_and_span_seven_decades() {
        let levels = &*DYNAMIC_LEVELS;
        assert!(levels.is_sorted());
        assert_eq!(levels[255], 1.0);
        assert_eq!(levels.iter().filter(|level| **level == 0.0).count(), 1);
        assert_eq!(levels[0], -levels[254]);
        let smallest = levels.iter().find(|level| **level > 0.0).unwrap();
        assert!((smallest - 5.5e-7).abs() < 1e-12, "{smallest}");
    }
}
