//! `RUN/report.html`: the curves, the numbers, the answers and the config of a run on one page that needs
//! nothing else: no script, no font, no network. It is made from the files of the run directory
//! alone, so it can be written at any time, also while training.

mod chart;
mod samples;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;

use vlft_base::Result;
use vlft_base::format::{clock, count, grouped};
use vlft_base::output::{cannot, write_atomic};

use crate::log::{EvalLine, Line, SampleLine, StepLine, Stopped, SummaryLine, read_metrics};
use chart::{Chart, Look, Series, escape, number};

const STYLE: &str = include_str!("report/style.css");

/// Writes `RUN/report.html` from `RUN/config.toml` and `RUN/metrics.jsonl`.
pub fn write(run_dir: &Path) -> Result<()> {
    let config_path = run_dir.join("config.toml");
    let config = fs::read_to_string(&config_path).map_err(|e| cannot("read", &config_path, e))?;
    let name = match run_dir.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => run_dir.display().to_string(),
    };
    let page = page(&name, &config, &Curves::new(read_metrics(run_dir)?));
    write_atomic(&run_dir.join("report.html"), page.as_bytes())
}

/// The log, sorted by kind.
struct Curves {
    steps: Vec<StepLine>,
    samples: Vec<SampleLine>,
    evals: Vec<EvalLine>,
    summary: Option<SummaryLine>,
}

impl Curves {
    fn new(lines: Vec<Line>) -> Self {
        let mut curves = Self {
            steps: Vec::new(),
            samples: Vec::new(),
            evals: Vec::new(),
            summary: None,
        };
        for line in lines {
            match line {
                Line::Step(line) => curves.steps.push(line),
                Line::Sample(line) => curves.samples.push(line),
                Line::Eval(line) => curves.evals.push(line),
                Line::Summary(line) => curves.summary = Some(line),
            }
        }
        curves
    }

    fn of(&self, value: impl Fn(&StepLine) -> f64) -> Vec<(f64, f64)> {
        self.steps
            .iter()
            .map(|step| (step.step as f64, value(step)))
            .filter(|(_, y)| y.is_finite())
            .collect()
    }
}

fn page(name: &str, config: &str, curves: &Curves) -> String {
    let name = escape(name);
    let mut body = format!("<header><h1>{name}</h1><p>{}</p></header>\n", state(curves));
    body += &tiles(curves);
    if curves.steps.is_empty() {
        body += "<p>No step is finished yet.</p>\n";
    } else {
        body += &loss_chart(curves);
        body += &small_charts(curves);
        body += &samples::section(&curves.samples, &curves.evals);
        body += &hardest_steps(curves);
    }
    body += &format!(
        "<section><h2>Config</h2><pre>{}</pre></section>\n",
        escape(config)
    );
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{name} - vlft</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

fn state(curves: &Curves) -> String {
    let steps = count(curves.steps.len() as u64, "optimizer step");
    match &curves.summary {
        Some(summary) if summary.stopped == Some(Stopped::Patience) => {
            format!("ended after {steps}: the evaluations got no better")
        }
        Some(_) => format!("finished after {steps}"),
        None => format!("not finished: {steps} so far"),
    }
}

/// The numbers somebody asks for first.
fn tiles(curves: &Curves) -> String {
    let (steps, evals) = (&curves.steps, &curves.evals);
    let mut tiles = Vec::new();
    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        tiles.push((
            "loss, last step",
            number(last.loss),
            format!("first {}", number(first.loss)),
        ));
        let seconds: f64 = steps.iter().map(|s| s.seconds).sum();
        let tokens: u64 = steps.iter().map(|s| s.tokens).sum();
        let supervised: u64 = steps.iter().map(|s| s.supervised_tokens).sum();
        tiles.push((
            "tokens",
            grouped(tokens),
            format!("{} trained on", grouped(supervised)),
        ));
        tiles.push((
            "time in steps",
            clock(Duration::try_from_secs_f64(seconds).unwrap_or_default()),
            format!(
                "{} tokens/s",
                grouped((tokens as f64 / seconds.max(1e-9)) as u64)
            ),
        ));
    }
    let best = evals.iter().min_by(|a, b| a.loss.total_cmp(&b.loss));
    if let (Some(best), Some(last)) = (best, evals.last()) {
        let note = format!("best {} after step {}", number(best.loss), best.step);
        tiles.insert(1, ("validation loss, last", number(last.loss), note));
    }
    let share = |eval: &EvalLine| eval.field_accuracy.map(|share| (share, eval.step));
    let shares = || evals.iter().filter_map(share);
    if let (Some((last, _)), Some((best, step))) = (
        shares().next_back(),
        shares().reduce(|best, next| if next.0 > best.0 { next } else { best }),
    ) {
        let note = format!("best {} after step {step}", percent(best));
        tiles.insert(2, ("fields right, last", percent(last), note));
    }
    let tiles: String = tiles
        .iter()
        .map(|(what, value, note)| {
            format!("<div><span>{what}</span><b>{value}</b><span>{note}</span></div>")
        })
        .collect();
    format!("<section class=\"tiles\">{tiles}</section>\n")
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn loss_chart(curves: &Curves) -> String {
    let raw = curves.of(|step| step.loss);
    let window = (raw.len() / 20).clamp(3, 50);
    let mut series = vec![Series {
        name: "each step".to_owned(),
        class: "raw",
        look: Look::Envelope,
        points: raw.clone(),
    }];
    if raw.len() > 2 * window {
        series.push(Series {
            name: format!("mean of {window} steps"),
            class: "smooth",
            look: Look::Line,
            points: trailing_mean(&raw, window),
        });
    }
    if !curves.evals.is_empty() {
        let points = curves.evals.iter().map(|e| (e.step as f64, e.loss));
        series.push(Series {
            name: "validation".to_owned(),
            class: "eval",
            look: Look::Dots,
            points: points.filter(|(_, y)| y.is_finite()).collect(),
        });
    }
    let chart = Chart {
        title: "Loss per supervised token",
        width: 960.0,
        height: 340.0,
        series,
    };
    format!("<section>{}</section>\n", chart.svg())
}

fn small_charts(curves: &Curves) -> String {
    let shares = curves.evals.iter().filter_map(|eval| {
        let share = eval.field_accuracy?;
        Some((eval.step as f64, 100.0 * share))
    });
    let shares: Vec<(f64, f64)> = shares.collect();
    let answers = match shares.is_empty() {
        true => None,
        false => Some(("Fields right, per cent", shares)),
    };
    let charts = [
        ("Learning rate", curves.of(|step| step.lr)),
        (
            "Gradient norm before clipping",
            curves.of(|step| step.grad_norm),
        ),
        (
            "Tokens per second",
            curves.of(|step| step.tokens as f64 / step.seconds.max(1e-9)),
        ),
    ];
    let charts: String = charts
        .into_iter()
        .chain(answers)
        .map(|(title, points)| {
            Chart {
                title,
                width: 325.0,
                height: 210.0,
                series: vec![Series {
                    name: String::new(),
                    class: "smooth",
                    look: Look::Envelope,
                    points,
                }],
            }
            .svg()
        })
        .collect();
    format!("<section class=\"charts\">{charts}</section>\n")
}

/// Late in a run a high loss points at a sample: a wrong label, an unreadable page.
fn hardest_steps(curves: &Curves) -> String {
    const SHOWN: usize = 8;
    let late = &curves.steps[curves.steps.len() / 2..];
    let mut hardest: Vec<&StepLine> = late.iter().filter(|s| s.loss.is_finite()).collect();
    hardest.sort_by(|a, b| b.loss.total_cmp(&a.loss).then(a.step.cmp(&b.step)));
    let rows = hardest
        .iter()
        .take(SHOWN)
        .fold(String::new(), |mut rows, step| {
            let samples = escape(&step.samples.join(", "));
            let _ = writeln!(
                rows,
                "<tr><td>{}</td><td>{}</td><td>{samples}</td></tr>",
                step.step,
                number(step.loss)
            );
            rows
        });
    format!(
        "<section><h2>Hardest samples</h2><p>The steps with the highest loss in the second half, and \
         the records they saw. Look at one with <code>vlft show</code>.</p>\n\
         <table><tr><th>step</th><th>loss</th><th>records</th></tr>\n{rows}</table></section>\n"
    )
}

/// The mean of each point and the `window - 1` before it, fewer at the start.
fn trailing_mean(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    (0..points.len())
        .map(|i| {
            let recent = &points[(i + 1).saturating_sub(window)..=i];
            let sum: f64 = recent.iter().map(|(_, y)| y).sum();
            (points[i].0, sum / recent.len() as f64)
        })
        .collect()
}

#[cfg(test)]
mod tests;
