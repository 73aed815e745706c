//! What `stats` says.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use vlft_base::format::{count, grouped, one_line};
use vlft_base::{Diagnostic, Kind};

use super::duplicates::{Duplicates, Groups};
use super::near::Near;
use super::page::PageReport;
use super::resolution::{AtMaxPixels, AtMaxTokens, SMALL_PRINT_DPI};
use super::spread::Spread;
use crate::jsonl;
use crate::problem::Problem;
use crate::token_counter::Resize;

#[derive(Clone, Debug, Serialize)]
pub struct StatsReport {
    pub file: String,
    /// Lines of the file = records + empty lines + broken lines.
    pub records: u64,
    pub empty_lines: u64,
    pub broken_lines: u64,
    /// Different values of `meta.document`.
    pub documents: u64,
    /// Images of all records; one that several records show counts for each.
    pub images: u64,
    /// Different image files among those that can be read.
    pub image_files: u64,
    /// Of these files.
    pub formats: BTreeMap<String, u64>,
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
    /// With a model: who would be cut at which number of tokens.
    pub limits: Vec<AtMaxTokens>,
    pub resize: ResizeUsed,
    pub dpi_from: DpiSources,
    /// The same images at several pixel limits.
    pub at_max_pixels: Vec<AtMaxPixels>,
    pub duplicates: Duplicates,
    pub keys: Vec<KeyReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<PageReport>,
    #[serde(skip)]
    pub(crate) problems: Vec<Problem>,
}

/// A record that stands out, by the line of the file.
#[derive(Clone, Debug, Serialize)]
pub struct Extreme {
    pub value: u64,
    pub line: u64,
}

/// Where the resolution of the image files is from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DpiSources {
    pub manifest: u64,
    /// By the sheet whose shape they have.
    pub assumed: BTreeMap<String, u64>,
    pub unknown: u64,
}

/// How images are resized in what is said about tokens and resolution.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ResizeUsed {
    pub factor: u32,
    pub min_pixels: u64,
    pub max_pixels: u64,
    /// No model was given: it is that of the published Qwen3-VL models.
    pub assumed: bool,
}

impl ResizeUsed {
    pub(crate) fn new(resize: Resize, counted: bool) -> Self {
        Self {
            factor: resize.factor,
            min_pixels: resize.min_pixels,
            max_pixels: resize.max_pixels,
            assumed: !counted,
        }
    }
}

/// One key of the targets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyReport {
    /// `containers[].size`; `tags[]` is a list of plain values.
    pub key: String,
    /// Not null and not empty.
    pub filled: u64,
    /// Objects that could have it.
    pub of: u64,
    /// Types of the filled values.
    pub types: BTreeMap<String, u64>,
    /// Different values.
    pub distinct: u64,
    /// There are more than could be told apart.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub distinct_at_least: bool,
    /// The most frequent ones; none when all differ.
    pub top: Vec<ValueCount>,
    /// Of the values that are numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numbers: Option<Numbers>,
    /// Lengths of the values that are texts, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chars: Option<Lengths>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ValueCount {
    pub value: String,
    pub count: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Numbers {
    pub min: f64,
    pub mean: f64,
    pub max: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lengths {
    pub min: u64,
    pub mean: f64,
    pub max: u64,
}

impl StatsReport {
    pub(crate) fn near(&mut self, near: Near) {
        self.duplicates.near_images = near.groups;
        self.duplicates.near_compared = near.compared;
    }

    /// What was left out because it is no record, as an error that says every broken line.
    pub fn problem(&self) -> Option<Diagnostic> {
        let file = std::path::Path::new(&self.file);
        let error = jsonl::as_error(self.problems.clone(), file)?;
        Some(error.with_kind(Kind::Verdict))
    }
}

impl fmt::Display for StatsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head(f)?;
        self.spreads(f)?;
        self.extremes(f)?;
        self.resolutions(f)?;
        self.keys(f)?;
        self.twice(f)?;
        self.left_out(f)?;
        self.hint(f)
    }
}

impl StatsReport {
    fn head(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "records {}    documents {}    images {}",
            grouped(self.records),
            grouped(self.documents),
            grouped(self.images)
        )?;
        if self.image_files > 0 {
            let formats = self.formats.iter();
            let formats: Vec<String> = formats
                .map(|(format, n)| format!("{} {format}", grouped(*n)))
                .collect();
            write!(f, " ({})", formats.join(", "))?;
        }
        if let (Some(trained), Some(total)) = (self.trained_tokens, self.total_tokens) {
            let share = 100.0 * trained as f64 / total.max(1) as f64;
            write!(
                f,
                "    trained tokens {} ({share:.0} % of {})",
                grouped(trained),
                grouped(total)
            )?;
        }
        writeln!(f)
    }

    fn spreads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = ["p5", "p50", "p95", "p99", "max"].map(|c| format!("{c:>9}"));
        writeln!(f, "{:<15} {}", "", columns.join(" "))?;
        for spread in &self.spreads {
            let values = [spread.p5, spread.p50, spread.p95, spread.p99, spread.max]
                .map(|v| format!("{:>9}", grouped(v.round() as u64)));
            writeln!(f, "{:<15} {}", spread.name, values.join(" "))?;
        }
        Ok(())
    }

    fn extremes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, extreme) in [
            ("longest", &self.longest),
            ("shortest target", &self.shortest_target),
        ] {
            if let Some(extreme) = extreme {
                let tokens = count(extreme.value, "token");
                writeln!(f, "{what}: {}:{} ({tokens})", self.file, extreme.line)?;
            }
        }
        Ok(())
    }

    /// One line per pixel limit; `*` is the one in use.
    fn resolutions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.at_max_pixels.first() else {
            return Ok(());
        };
        let has_dpi = self
            .at_max_pixels
            .iter()
            .any(|at| at.effective_dpi.is_some());
        let mut head = format!("\n{:>13} {:>22}", "", "image tokens");
        let mut columns = format!("{:>13} {:>6} {:>7} {:>7}", "max_pixels", "p5", "p50", "p95");
        if has_dpi {
            head += &format!(" {:>20}", "effective dpi");
            columns += &format!(" {:>6} {:>6} {:>6} {:>10}", "p5", "p50", "p95", "under 100");
        }
        if !first.limits.is_empty() {
            let names = first.limits.iter();
            let names: Vec<String> = names
                .map(|at| format!("{:>8}", format!(">{}", grouped(at.max_tokens))))
                .collect();
            head += &format!(
                "{:>width$}   records over a limit of tokens",
                "",
                width = if has_dpi { 10 } else { 0 }
            );
            columns += &format!("  {}", names.join(""));
        }
        writeln!(f, "{head}\n{columns}")?;
        for at in &self.at_max_pixels {
            let mark = if at.current { "*" } else { " " };
            let tokens = &at.image_tokens;
            write!(
                f,
                "{mark} {:>11} {:>6} {:>7} {:>7}",
                grouped(at.max_pixels),
                grouped(tokens.p5 as u64),
                grouped(tokens.p50 as u64),
                grouped(tokens.p95 as u64)
            )?;
            if let Some(dpi) = &at.effective_dpi {
                let share = 100.0 * at.pages_under_100_dpi as f64 / dpi.count as f64;
                write!(
                    f,
                    " {:>6.0} {:>6.0} {:>6.0} {share:>8.0} %",
                    dpi.p5, dpi.p50, dpi.p95
                )?;
            } else if has_dpi {
                write!(f, "{:32}", "")?;
            }
            if !at.limits.is_empty() {
                let over = at
                    .limits
                    .iter()
                    .map(|at| format!("{:>8}", grouped(at.over)));
                write!(f, "  {}", over.collect::<String>())?;
            }
            writeln!(f)?;
        }
        self.assumptions(f)
    }

    fn assumptions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = &self.dpi_from;
        let mut known = Vec::new();
        if from.manifest > 0 {
            known.push(format!("{} from the manifest", grouped(from.manifest)));
        }
        for (sheet, n) in &from.assumed {
            known.push(format!(
                "{} assumed {sheet} by the page's shape",
                grouped(*n)
            ));
        }
        if from.unknown > 0 {
            known.push(format!("{} unknown and left out", grouped(from.unknown)));
        }
        writeln!(f, "dpi of image files: {}", known.join(", "))?;
        if self.resize.assumed {
            writeln!(
                f,
                "resized as the published Qwen3-VL models do; `--model` takes the model's own settings and counts tokens"
            )?;
        }
        for at in self.limits.iter().filter(|at| at.over > 0) {
            writeln!(
                f,
                "cut at {} tokens, {} would lose the end of the answer, {} of them all of it",
                grouped(at.max_tokens),
                count(at.over, "record"),
                grouped(at.answer_lost)
            )?;
        }
        Ok(())
    }

    fn keys(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keys.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = self.keys.iter().map(|key| one_line(&key.key)).collect();
        let longest = names.iter().map(|name| name.chars().count()).max();
        let width = longest.unwrap_or(0).max(10);
        writeln!(
            f,
            "\n{:<width$} {:>9} {:>9}         types             values",
            "target key", "filled", "of"
        )?;
        for (key, name) in self.keys.iter().zip(&names) {
            let share = 100.0 * key.filled as f64 / key.of.max(1) as f64;
            let types: Vec<String> = match key.types.len() {
                1 => key.types.keys().cloned().collect(),
                _ => key
                    .types
                    .iter()
                    .map(|(kind, n)| format!("{kind} {}", grouped(*n)))
                    .collect(),
            };
            let line = format!(
                "{name:<width$} {:>9} {:>9} {share:>5.0} %  {:<16}  {}",
                grouped(key.filled),
                grouped(key.of),
                types.join(", "),
                key.values()
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }

    fn twice(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.duplicates;
        let told: [(&Groups, &str); 6] = [
            (&found.same_images, "image files have the bytes of another"),
            (&found.near_images, "image files look like another"),
            (&found.same_pages, "records show pages that another shows"),
            (&found.same_records, "records are there more than once"),
            (
                &found.conflicts,
                "records have the images and prompt of another but not its answer",
            ),
            (
                &found.same_answers,
                "records have the answer of another to other pages",
            ),
        ];
        let told = told.into_iter().filter(|(groups, _)| groups.groups > 0);
        for (i, (groups, what)) in told.enumerate() {
            if i == 0 {
                writeln!(f)?;
            }
            writeln!(
                f,
                "{} {what}, in {} (such as {})",
                grouped(groups.members),
                count(groups.groups, "group"),
                groups.example.join(", ")
            )?;
        }
        Ok(())
    }

    fn left_out(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = [
            (
                self.broken_lines,
                "line is no record",
                "lines are no records",
            ),
            (
                self.unreadable_images,
                "image could not be read",
                "images could not be read",
            ),
            (
                self.targets_not_json,
                "answer is not JSON",
                "answers are not JSON",
            ),
            (
                self.uncountable,
                "record could not be counted",
                "records could not be counted",
            ),
        ];
        for (n, one, many) in told {
            if n > 0 {
                let what = if n == 1 { one } else { many };
                writeln!(
                    f,
                    "{} {what}: `vlft validate {}` says which",
                    grouped(n),
                    self.file
                )?;
            }
        }
        Ok(())
    }

    fn hint(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.at_max_pixels.iter().find(|at| at.current);
        let dpi = current.and_then(|at| at.effective_dpi.as_ref());
        if let Some(dpi) = dpi.filter(|dpi| dpi.p50 < SMALL_PRINT_DPI) {
            writeln!(
                f,
                "half of the pages reach the model at {:.0} dpi or less; small print needs about {SMALL_PRINT_DPI:.0}",
                dpi.p50
            )?;
        }
        Ok(())
    }
}

impl KeyReport {
    /// `20 61 %, 40 30 %, 45 9 %` or `1 204 different` or `1 to 45, mean 7.2`.
    fn values(&self) -> String {
        const SHOWN: usize = 3;
        const CHARS: usize = 24;
        let plus = if self.distinct_at_least { "+" } else { "" };
        let different = format!("{}{plus} different", grouped(self.distinct));
        let numbers = self.numbers.as_ref().filter(|_| self.distinct > 3);
        if let Some(numbers) = numbers {
            return format!(
                "{} to {}, mean {}; {different}",
                number(numbers.min),
                number(numbers.max),
                number(numbers.mean)
            );
        }
        let total: u64 = self.top.iter().map(|v| v.count).sum();
        let repeats = self.top.first().is_some_and(|first| first.count > 1);
        if !repeats || total == 0 {
            return if self.distinct > 0 {
                different
            } else {
                String::new()
            };
        }
        let top = self.top.iter().take(SHOWN).map(|value| {
            let share = 100.0 * value.count as f64 / self.filled.max(1) as f64;
            let text = one_line(&value.value);
            let short: String = text.chars().take(CHARS).collect();
            let dots = if short.len() < text.len() { "…" } else { "" };
            format!("{short}{dots} {share:.0} %")
        });
        let top: Vec<String> = top.collect();
        match self.distinct as usize > SHOWN {
            true => format!("{}; {different}", top.join(", ")),
            false => top.join(", "),
        }
    }
}

/// At most two decimals, none for whole numbers.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
