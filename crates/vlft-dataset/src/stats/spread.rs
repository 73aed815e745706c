//! How a quantity is spread over records or images.

use serde::Serialize;

/// Nearest-rank percentiles: each is a value that occurs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub name: &'static str,
    pub count: u64,
    pub mean: f64,
    pub min: f64,
    pub p5: f64,
    pub p25: f64,
    pub p50: f64,
    pub p75: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Spread {
    /// `values` must not be empty.
    pub(crate) fn new(name: &'static str, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self {
            name,
            count: values.len() as u64,
            mean: values.iter().sum::<f64>() / values.len() as f64,
            min: rank(&values, 0.0),
            p5: rank(&values, 0.05),
            p25: rank(&values, 0.25),
            p50: rank(&values, 0.5),
            p75: rank(&values, 0.75),
            p95: rank(&values, 0.95),
            p99: rank(&values, 0.99),
            max: rank(&values, 1.0),
        }
    }
}

/// The value at a share of the sorted ones, which must not be empty.
pub(crate) fn rank(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occur() {
        let spread = Spread::new("x", (1..=100).rev().map(f64::from).collect());
        assert_eq!(
            (spread.min, spread.p5, spread.p50, spread.p95, spread.max),
            (1.0, 5.0, 50.0, 95.0, 100.0)
        );
        assert_eq!((spread.p25, spread.p75, spread.p99), (25.0, 75.0, 99.0));
        assert_eq!(spread.mean, 50.5);
        let one = Spread::new("x", vec![7.0]);
        assert_eq!((one.p5, one.p95, one.count), (7.0, 7.0, 1));
    }
}
