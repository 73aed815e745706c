//! What `stats` says.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use vlft_base::format::grouped;

#[derive(Clone, Debug, Serialize)]
pub struct StatsReport {
    pub file: String,
    pub records: u64,
    /// Different values of `meta.document`.
    pub documents: u64,
    pub images: u64,
    pub unreadable_images: u64,
    pub turns: u64,
    /// With a model: tokens of all records, image tokens included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_tokens: Option<u64>,
    /// With a model: tokens that are trained on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trained_tokens: Option<u64>,
    /// Records whose tokens could not be counted.
    pub uncountable: u64,
    /// Answers that are not JSON.
    pub targets_not_json: u64,
    pub spreads: Vec<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest: Option<Extreme>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortest_target: Option<Extreme>,
    pub keys: Vec<KeyReport>,
}

/// How a quantity is spread: nearest-rank percentiles.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub name: &'static str,
    pub count: u64,
    pub mean: f64,
    pub min: f64,
    pub p5: f64,
    pub p50: f64,
    pub p95: f64,
    pub max: f64,
}

/// A record that stands out, by the line of the file.
#[derive(Clone, Debug, Serialize)]
pub struct Extreme {
    pub value: u64,
    pub line: u64,
}

/// One key of the targets.
#[derive(Clone, Debug, Serialize)]
pub struct KeyReport {
    /// `containers[].size`
    pub key: String,
    /// Not null and not empty.
    pub filled: u64,
    /// Objects that could have it.
    pub of: u64,
    /// Types of the filled values.
    pub types: BTreeMap<String, u64>,
}

impl Spread {
    /// `values` must not be empty.
    pub(crate) fn new(name: &'static str, mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let rank = |share: f64| {
            let rank = (share * values.len() as f64).ceil() as usize;
            values[rank.clamp(1, values.len()) - 1]
        };
        Self {
            name,
            count: values.len() as u64,
            mean: values.iter().sum::<f64>() / values.len() as f64,
            min: rank(0.0),
            p5: rank(0.05),
            p50: rank(0.5),
            p95: rank(0.95),
            max: rank(1.0),
        }
    }
}

/// 8-point print has letters a few pixels high below this (a rule of thumb, to be measured).
const SMALL_PRINT_DPI: f64 = 100.0;

impl fmt::Display for StatsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "records {}    documents {}    images {}",
            grouped(self.records),
            grouped(self.documents),
            grouped(self.images)
        )?;
        if let (Some(trained), Some(total)) = (self.trained_tokens, self.total_tokens) {
            let share = 100.0 * trained as f64 / total.max(1) as f64;
            write!(
                f,
                "    trained tokens {} ({share:.0} % of {})",
                grouped(trained),
                grouped(total)
            )?;
        }
        writeln!(f)?;
        self.spreads(f)?;
        if let Some(longest) = &self.longest {
            writeln!(
                f,
                "longest: {}:{} ({} tokens)",
                self.file,
                longest.line,
                grouped(longest.value)
            )?;
        }
        if let Some(shortest) = &self.shortest_target {
            writeln!(
                f,
                "shortest target: {}:{} ({} tokens)",
                self.file,
                shortest.line,
                grouped(shortest.value)
            )?;
        }
        self.keys(f)?;
        for (count, what) in [
            (self.unreadable_images, "images could not be read"),
            (self.targets_not_json, "answers are not JSON"),
            (self.uncountable, "records could not be counted"),
        ] {
            if count > 0 {
                writeln!(
                    f,
                    "{} {what}: `vlft validate {}` says which",
                    grouped(count),
                    self.file
                )?;
            }
        }
        if let Some(dpi) = self
            .spreads
            .iter()
            .find(|s| s.name == "effective dpi" && s.p50 < SMALL_PRINT_DPI)
        {
            writeln!(
                f,
                "half of the pages reach the model at {:.0} dpi or less; small print needs about {SMALL_PRINT_DPI:.0}",
                dpi.p50
            )?;
        }
        Ok(())
    }
}

impl StatsReport {
    fn spreads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = ["p5", "p50", "p95", "max"].map(|c| format!("{c:>9}"));
        writeln!(f, "{:<15} {}", "", columns.join(" "))?;
        for spread in &self.spreads {
            let values = [spread.p5, spread.p50, spread.p95, spread.max]
                .map(|v| format!("{:>9}", grouped(v.round() as u64)));
            writeln!(f, "{:<15} {}", spread.name, values.join(" "))?;
        }
        Ok(())
    }

    fn keys(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keys.is_empty() {
            return Ok(());
        }
        let width = self
            .keys
            .iter()
            .map(|k| k.key.chars().count())
            .max()
            .unwrap_or(0)
            .max(10);
        writeln!(
            f,
            "{:<width$} {:>9} {:>9}         types",
            "target key", "filled", "of"
        )?;
        for key in &self.keys {
            let share = 100.0 * key.filled as f64 / key.of.max(1) as f64;
            let types: Vec<String> = match key.types.len() {
                1 => key.types.keys().cloned().collect(),
                _ => key
                    .types
                    .iter()
                    .map(|(kind, n)| format!("{kind} {}", grouped(*n)))
                    .collect(),
            };
            writeln!(
                f,
                "{:<width$} {:>9} {:>9} {share:>5.0} %  {}",
                key.key,
                grouped(key.filled),
                grouped(key.of),
                types.join(", ")
            )?;
        }
        Ok(())
    }
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
        assert_eq!(spread.mean, 50.5);
        let one = Spread::new("x", vec![7.0]);
        assert_eq!((one.p5, one.p95, one.count), (7.0, 7.0, 1));
    }
}
