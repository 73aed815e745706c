//! A line chart as inline SVG. Colours come from the page's style sheet by class, so that light and
//! dark are decided there.

use std::fmt::Write;

pub(super) struct Chart {
    pub(super) title: &'static str,
    /// In the units of the SVG; the page scales it.
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) series: Vec<Series>,
}

pub(super) struct Series {
    /// For the legend; empty: none.
    pub(super) name: String,
    pub(super) class: &'static str,
    pub(super) look: Look,
    /// Sorted by x, all finite.
    pub(super) points: Vec<(f64, f64)>,
}

/// How a series is drawn, and thinned when it has more points than the screen has columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A line through the mean of each column.
    Line,
    /// A line through the lowest and the highest of each column: spikes stay visible.
    Envelope,
    /// A line with a dot at each point.
    Dots,
}

const COLUMNS: usize = 400;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 30.0;

impl Chart {
    pub(super) fn svg(&self) -> String {
        let (x, y) = self.axes();
        let (width, height) = (self.width, self.height);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{0}\">\n\
             <text class=\"title\" x=\"4\" y=\"18\">{0}</text>\n",
            escape(self.title)
        );
        for tick in &y.ticks {
            let at = y.place(*tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                width - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                number(*tick)
            );
        }
        for tick in &x.ticks {
            let _ = writeln!(
                svg,
                "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                x.place(*tick),
                height - BOTTOM + 18.0,
                number(*tick)
            );
        }
        for series in &self.series {
            svg += &series.svg(&x, &y);
        }
        svg += &self.legend();
        svg += &self.tooltips(&x);
        svg + "</svg>\n"
    }

    fn axes(&self) -> (Axis, Axis) {
        let all = || self.series.iter().flat_map(|s| &s.points);
        let (x_low, x_high) = span(all().map(|p| p.0));
        let (_, y_high) = span(all().map(|p| p.1));
        // Every quantity here is at least 0, and only a curve drawn down to 0 shows its true slope.
        let x = Axis::new(x_low, x_high, LEFT, self.width - RIGHT, 1.0);
        let y = Axis::new(0.0, 1.04 * y_high, self.height - BOTTOM, TOP, 0.0);
        (x, y)
    }

    fn legend(&self) -> String {
        let mut svg = String::new();
        let mut right = self.width - RIGHT;
        for series in self.series.iter().rev().filter(|s| !s.name.is_empty()) {
            let _ = writeln!(
                svg,
                "<text class=\"tick\" text-anchor=\"end\" x=\"{right:.1}\" y=\"18\">{}</text>",
                escape(&series.name)
            );
            // 6.4 units per character of a 12-unit font, roughly: nothing breaks if it is wrong.
            right -= 6.4 * series.name.chars().count() as f64 + 26.0;
            let _ = writeln!(
                svg,
                "<line class=\"{}\" x1=\"{:.1}\" y1=\"14\" x2=\"{:.1}\" y2=\"14\"/>",
                series.class,
                right,
                right + 18.0
            );
            right -= 14.0;
        }
        svg
    }

    /// Invisible columns that show their numbers when pointed at: no script needed.
    fn tooltips(&self, x: &Axis) -> String {
        let Some(main) = self.series.first() else {
            return String::new();
        };
        let mut svg = String::new();
        let (top, height) = (TOP, self.height - TOP - BOTTOM);
        for (first, last) in buckets(main.points.len()) {
            let from = x.place(main.points[first].0 - 0.5);
            let to = x.place(main.points[last].0 + 0.5);
            let mut text = format!("step {}", main.points[last].0);
            for series in &self.series {
                let found = series
                    .points
                    .iter()
                    .rev()
                    .find(|p| p.0 <= main.points[last].0);
                if let Some((_, y)) = found.filter(|p| p.0 >= main.points[first].0) {
                    let name = if series.name.is_empty() {
                        self.title
                    } else {
                        &series.name
                    };
                    let _ = write!(text, "\n{}: {}", escape(name), number(*y));
                }
            }
            let _ = writeln!(
                svg,
                "<rect class=\"hit\" x=\"{from:.1}\" y=\"{top}\" width=\"{:.1}\" height=\"{height}\">\
                 <title>{text}</title></rect>",
                (to - from).max(1.0)
            );
        }
        svg
    }
}

impl Series {
    fn svg(&self, x: &Axis, y: &Axis) -> String {
        let points = self.thinned();
        let mut svg = format!("<polyline class=\"{}\" points=\"", self.class);
        for (px, py) in &points {
            let _ = write!(svg, "{:.1},{:.1} ", x.place(*px), y.place(*py));
        }
        svg += "\"/>\n";
        // A single point is no line.
        if self.look == Look::Dots || points.len() == 1 {
            for (px, py) in &points {
                let _ = writeln!(
                    svg,
                    "<circle class=\"{}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>",
                    self.class,
                    x.place(*px),
                    y.place(*py)
                );
            }
        }
        svg
    }

    fn thinned(&self) -> Vec<(f64, f64)> {
        if self.points.len() <= 2 * COLUMNS || self.look == Look::Dots {
            return self.points.clone();
        }
        let mut thin = Vec::with_capacity(2 * COLUMNS);
        for (first, last) in buckets(self.points.len()) {
            let bucket = &self.points[first..=last];
            let mut by_height = bucket.to_vec();
            by_height.sort_by(|a, b| a.1.total_cmp(&b.1));
            if self.look == Look::Line {
                let mean = bucket.iter().map(|p| p.1).sum::<f64>() / bucket.len() as f64;
                thin.push((bucket[bucket.len() / 2].0, mean));
            } else {
                let (low, high) = (by_height[0], by_height[by_height.len() - 1]);
                if low.0 <= high.0 {
                    thin.extend([low, high]);
                } else {
                    thin.extend([high, low]);
                }
            }
        }
        thin
    }
}

/// First and last index of at most `COLUMNS` runs of neighbours.
fn buckets(len: usize) -> Vec<(usize, usize)> {
    let columns = len.min(COLUMNS);
    (0..columns)
        .map(|c| (c * len / columns, (c + 1) * len / columns - 1))
        .collect()
}

/// A linear scale from data to the SVG's units.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    ticks: Vec<f64>,
}

impl Axis {
    /// `least_step`: 1 for whole numbers, 0 for any.
    fn new(low: f64, high: f64, from: f64, to: f64, least_step: f64) -> Self {
        let (low, high) = if high > low {
            (low, high)
        } else if least_step > 0.0 {
            (low - 0.5, low + 0.5)
        } else {
            (low, low + 1.0)
        };
        let rough = (high - low) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|m| m * power)
            .find(|step| *step >= rough)
            .unwrap_or(10.0 * power)
            .max(least_step);
        let first = (low / step).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let ticks = (first..=last).map(|i| i as f64 * step).collect();
        Self {
            low,
            high,
            from,
            to,
            ticks,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        self.from + part * (self.to - self.from)
    }
}

fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values
        .fold(None, |span: Option<(f64, f64)>, v| match span {
            None => Some((v, v)),
            Some((low, high)) => Some((low.min(v), high.max(v))),
        })
        .unwrap_or((0.0, 1.0))
}

/// Four significant digits at most: `1.873`, `4 120`, `2e-5`.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if size >= 1000.0 && value > 0.0 {
        return vlft_base::format::grouped(value.round() as u64);
    }
    if size < 0.0001 {
        let text = format!("{value:.2e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", without_zeros(mantissa));
    }
    let decimals = (3 - size.log10().floor() as i32).clamp(0, 6) as usize;
    without_zeros(&format!("{value:.decimals$}")).to_owned()
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.')
    } else {
        text
    }
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
