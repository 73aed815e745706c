//! The only place that writes to stdout and stderr.
//!
//! stdout carries the result: text, or with `--format json` one JSON object (JSON Lines for the
//! commands that stream). stderr carries everything a person sees while waiting: progress bars
//! (only on a terminal), warnings, errors, and as its last line where the output is.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde::Serialize;
use vlft_base::format::{bytes, clock, count, grouped, one_line, printable};
use vlft_base::{Diagnostic, Kind, Result, Severity};

/// How the user wants things shown: the global flags, parsed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    /// How many `-v`.
    pub(crate) verbose: u8,
    pub(crate) color: ColorChoice,
}

pub(crate) struct Terminal {
    look: Look,
    /// Reports are not shown: stdout belongs to somebody else.
    stdout_is_taken: bool,
    bars: MultiProgress,
    /// The first failure to write the result, reported by [`Terminal::finish`].
    stdout_failure: Mutex<Option<io::Error>>,
}

impl Terminal {
    pub(crate) fn new(look: Look) -> Self {
        let visible = !look.quiet && io::stderr().is_terminal();
        let target = if visible {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            look,
            stdout_is_taken: false,
            bars: MultiProgress::with_draw_target(target),
            stdout_failure: Mutex::new(None),
        }
    }

    /// Before the arguments are understood, and in the panic hook.
    pub(crate) fn plain() -> Self {
        Self::new(Look {
            json: false,
            quiet: false,
            verbose: 0,
            color: ColorChoice::Auto,
        })
    }

    /// For the commands that another command runs: they report in text, and when stdout is to
    /// carry the outer command's JSON they leave it alone.
    #[cfg(feature = "train")]
    pub(crate) fn for_inner_commands(&self) -> Self {
        let mut inner = Self::new(Look {
            json: false,
            ..self.look
        });
        inner.stdout_is_taken = self.look.json;
        inner
    }

    /// Whether stdout should carry JSON.
    #[cfg(feature = "train")]
    pub(crate) fn json(&self) -> bool {
        self.look.json
    }

    /// Whether colours reach whoever reads the result. What is said by colour alone is lost where not.
    pub(crate) fn has_colour(&self) -> bool {
        let choice = match self.look.color {
            ColorChoice::Auto => AutoStream::choice(&io::stdout()),
            chosen => chosen,
        };
        choice != ColorChoice::Never
    }

    // --- stdout -------------------------------------------------------------------------------

    /// The one result of a command.
    pub(crate) fn report<R: Serialize + Display>(&self, report: &R) {
        self.line(report);
    }

    /// One result among many: a line of text, or one line of JSON Lines.
    pub(crate) fn line<R: Serialize + Display>(&self, line: &R) {
        if self.look.json {
            self.json_line(line);
        } else {
            self.write_stdout(line.to_string().trim_end_matches('\n'));
        }
    }

    /// One line of JSON Lines, and nothing in text mode: there a person is told on stderr.
    pub(crate) fn json_line<R: Serialize>(&self, line: &R) {
        if self.look.json {
            match serde_json::to_string(line) {
                Ok(json) => self.write_stdout(&json),
                Err(e) => self.remember(io::Error::other(e)),
            }
        }
    }

    /// Help and version, with clap's own colours.
    pub(crate) fn help(&self, text: &str) {
        self.write_stdout(text.trim_end());
    }

    /// Passes on a failure to write the result (a full disk behind `>`). A reader who went away
    /// (`| head`) is not a failure: the work and its exit code stand.
    pub(crate) fn finish(&self) -> Result<()> {
        match self.stdout_failure.lock().map(|mut failure| failure.take()) {
            Ok(Some(e)) if e.kind() != io::ErrorKind::BrokenPipe => {
                Err(Diagnostic::error("cannot write the result to stdout").caused_by(e))
            }
            _ => Ok(()),
        }
    }

    fn write_stdout(&self, text: &str) {
        if self.stdout_is_taken {
            return;
        }
        let failed = match self.stdout_failure.lock() {
            Ok(failure) => failure.is_some(),
            Err(_) => true,
        };
        if failed {
            return;
        }
        let written = self.bars.suspend(|| {
            let mut stdout = AutoStream::new(io::stdout().lock(), self.look.color);
            writeln!(stdout, "{text}").and_then(|()| stdout.flush())
        });
        if let Err(e) = written {
            self.remember(e);
        }
    }

    fn remember(&self, error: io::Error) {
        if let Ok(mut failure) = self.stdout_failure.lock() {
            failure.get_or_insert(error);
        }
    }

    // --- stderr -------------------------------------------------------------------------------

    /// An error or a warning, in the one shape that all of them have. Errors pass `-q`. Several
    /// found together are shown one after the other, and counted.
    pub(crate) fn diagnostic(&self, diagnostic: &Diagnostic) {
        let further = diagnostic.further();
        let shown: Vec<&Diagnostic> = std::iter::once(diagnostic)
            .chain(further)
            .filter(|d| d.severity() == Severity::Error || !self.look.quiet)
            .take(MOST_SHOWN)
            .collect();
        let text: Vec<String> = shown
            .iter()
            .enumerate()
            .map(|(i, d)| {
                // The same advice for many in a row is given once, after the last of them.
                let next_hint = shown.get(i + 1).and_then(|next| next.hint_text());
                let hint = d.hint_text().filter(|hint| next_hint != Some(hint));
                render(d, hint)
            })
            .collect();
        if !text.is_empty() {
            self.write_stderr(&text.join("\n"));
        }
        let found = 1 + further.len();
        if found > MOST_SHOWN {
            self.note(format!("\n{} found, {MOST_SHOWN} shown", problems(found)));
        } else if found > 1 {
            self.note(format!("\n{}", problems(found)));
        }
    }

    /// What a person wants to know while or after waiting, such as where the output is.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if !self.look.quiet {
            self.write_stderr(text.as_ref());
        }
    }

    /// Shown with `-v`.
    pub(crate) fn detail(&self, text: impl AsRef<str>) {
        if self.look.verbose > 0 && !self.look.quiet {
            self.write_stderr(text.as_ref());
        }
    }

    /// A progress bar such as `Rasterizing ███░░░ 311/412 documents  38 documents/s  eta 0:48`, or
    /// without a bar and an end while `total` is 0, that is not known yet. The unit `bytes` is
    /// written as KiB, MiB and so on. It is drawn only on a terminal, and vanishes when dropped. It
    /// may be moved from any thread.
    pub(crate) fn progress(&self, what: &str, unit: &'static str, total: u64) -> Progress {
        // Complete before it is added: adding draws it.
        let bar = ProgressBar::new(total)
            .with_style(style(unit, total))
            .with_prefix(what.to_owned());
        let bar = self.bars.add(bar);
        Progress { bar, unit }
    }

    fn write_stderr(&self, text: &str) {
        self.bars.suspend(|| {
            let mut stderr = AutoStream::new(io::stderr().lock(), self.look.color);
            // There is nobody left to tell when stderr is closed.
            let _ = writeln!(stderr, "{}", text.trim_end_matches('\n'));
        });
    }
}

/// stdin and stdout as a channel to the process that started this one as its worker.
pub(crate) fn pipe() -> (io::StdinLock<'static>, io::StdoutLock<'static>) {
    (io::stdin().lock(), io::stdout().lock())
}

/// A running progress bar; see [`Terminal::progress`].
pub(crate) struct Progress {
    bar: ProgressBar,
    unit: &'static str,
}

impl Progress {
    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done);
    }
    pub(crate) fn set_total(&self, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
            self.bar.set_style(style(self.unit, total));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(unit: &'static str, total: u64) -> ProgressStyle {
    let template = match total {
        0 => "{prefix} {done}  {rate}",
        _ => "{prefix} {bar:22.cyan} {done}  {rate}  {left}",
    };
    ProgressStyle::with_template(template)
        .expect("the templates are constants and the tests draw them")
        .progress_chars("██░")
        .with_key(
            "done",
            move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                let total = state.len().filter(|total| *total > 0);
                let _ = text.write_str(&done(unit, state.pos(), total));
            },
        )
        .with_key(
            "rate",
            move |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                let _ = text.write_str(&rate(unit, state.per_sec()));
            },
        )
        .with_key(
            "left",
            |state: &ProgressState, text: &mut dyn std::fmt::Write| {
                let _ = text.write_str(&time_left(state.per_sec(), state.eta()));
            },
        )
}

/// `311/412 documents`, `1.2 MiB/3.0 GiB`, or without an end `311 documents`.
fn done(unit: &str, at: u64, total: Option<u64>) -> String {
    match (unit, total) {
        ("bytes", Some(total)) => format!("{}/{}", bytes(at), bytes(total)),
        ("bytes", None) => bytes(at),
        (unit, Some(total)) => format!("{}/{} {unit}", grouped(at), grouped(total)),
        (unit, None) => format!("{} {unit}", grouped(at)),
    }
}

/// `38 pages/s`, `0.4 pages/s`, `1.5 MiB/s`.
fn rate(unit: &str, per_second: f64) -> String {
    match unit {
        "bytes" => format!("{}/s", bytes(per_second as u64)),
        unit if per_second >= 10.0 => format!("{} {unit}/s", grouped(per_second.round() as u64)),
        unit => format!("{per_second:.1} {unit}/s"),
    }
}

/// `eta 0:48`; nothing while nothing has moved yet.
fn time_left(per_second: f64, left: Duration) -> String {
    match per_second > 0.0 {
        true => format!("eta {}", clock(left)),
        false => String::new(),
    }
}

/// A data set with one mistake in every record must not bury what else was said.
const MOST_SHOWN: usize = 50;

fn problems(number: usize) -> String {
    count(number as u64, "problem")
}

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const BLUE: &str = "\x1b[34m";
const CYAN: &str = "\x1b[1;36m";
const RESET: &str = "\x1b[0m";

/// ```text
/// error: unknown key `lora.rnak`
///   --> config.toml:9:1
///   expected one of `rank`, `alpha`
///   caused by: ..
///
/// hint: did you mean `rank`?
/// ```
fn render(diagnostic: &Diagnostic, hint: Option<&str>) -> String {
    let (word, colour) = match (diagnostic.severity(), diagnostic.kind()) {
        (Severity::Warning, _) => ("warning", YELLOW),
        // What was asked for, and what is done already, is no error.
        (Severity::Error, Kind::Interrupted) => ("interrupted", YELLOW),
        (Severity::Error, Kind::NothingToDo) => ("nothing to do", YELLOW),
        (Severity::Error, _) => ("error", RED),
    };
    let rule = match diagnostic.rule() {
        Some(rule) => format!("[{rule}]"),
        None => String::new(),
    };
    // Messages quote what people typed and files hold; none of it may break the shape.
    let message = one_line(diagnostic.message());
    let mut text = format!("{colour}{word}{rule}{RESET}: {message}\n");
    for place in diagnostic.places() {
        text += &format!("  {BLUE}-->{RESET} {}\n", one_line(&place.to_string()));
    }
    if let Some(expectation) = diagnostic.expectation() {
        text += &format!("  {}\n", one_line(&expectation));
    }
    for cause in diagnostic.causes() {
        let cause = printable(cause).replace('\n', "\n    ");
        text += &format!("  caused by: {cause}\n");
    }
    if let Some(hint) = hint {
        text += &format!("\n{CYAN}hint{RESET}: {}\n", printable(hint));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_has_the_shape_of_the_style_guide() {
        let diagnostic = Diagnostic::error("unknown key `lora.rnak`")
            .at("--set a\nb\x1b[0m")
            .at_line("c.toml", 9)
            .column(1)
            .expected("one of `rank`, `alpha`")
            .caused_by("first\nsecond")
            .hint("did you mean `rank`?");
        let plain =
            anstream::adapter::strip_str(&render(&diagnostic, diagnostic.hint_text())).to_string();
        assert_eq!(
            plain,
            "error: unknown key `lora.rnak`\n  --> --set a\\nb\\u{1b}[0m\n  --> c.toml:9:1\n  expected one of `rank`, `alpha`\n  \
             caused by: first\n    second\n\nhint: did you mean `rank`?\n"
        );
    }

    #[test]
    fn the_progress_templates_are_valid() {
        for (unit, total) in [("things", 3), ("bytes", 3), ("things", 0)] {
            let bar = Terminal::plain().progress("Testing", unit, total);
            bar.set(1);
            bar.set_total(4);
        }
    }

    #[test]
    fn progress_says_how_much_how_fast_and_how_long() {
        assert_eq!(done("pages", 1311, Some(12_480)), "1 311/12 480 pages");
        assert_eq!(done("pages", 1311, None), "1 311 pages");
        assert_eq!(done("bytes", 512, Some(1_610_612_736)), "512 B/1.5 GiB");
        assert_eq!(rate("pages", 1234.4), "1 234 pages/s");
        assert_eq!(rate("pages", 0.44), "0.4 pages/s");
        assert_eq!(rate("bytes", 1_610_612_736.0), "1.5 GiB/s");
        assert_eq!(time_left(2.0, Duration::from_secs(48)), "eta 0:48");
        assert_eq!(time_left(0.0, Duration::from_secs(48)), "");
    }
}
