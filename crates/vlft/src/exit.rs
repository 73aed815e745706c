//! What the process ends with. Scripts rely on these numbers; `vlft help exit-codes` shows them.

use std::process::ExitCode;

use vlft_base::{Diagnostic, Kind};

use crate::terminal::Terminal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    Verdict = 1,
    CannotRun = 2,
    NothingToDo = 3,
    Device = 4,
    Interrupted = 130,
}

/// The help text of `vlft help exit-codes`, and the report of `vlft exit-codes`.
pub(crate) const CODES: [(u8, &str); 7] = [
    (0, "done"),
    (
        1,
        "ran, and the verdict is no: invalid or rejected records, does not fit, below --min, \
         training stopped by NaN or a vanished image",
    ),
    (
        2,
        "could not run: arguments, config, files, disk full, a bad record before the first step",
    ),
    (
        3,
        "nothing to do: no input matched, or the run is finished already",
    ),
    (4, "device: no GPU, or out of memory"),
    (101, "a bug in vlft: please report it"),
    (
        130,
        "interrupted by ^C or SIGTERM; the checkpoint is saved, the same command resumes",
    ),
];

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::CannotRun => Exit::CannotRun,
            Kind::Verdict => Exit::Verdict,
            Kind::NothingToDo => Exit::NothingToDo,
            Kind::Device => Exit::Device,
            Kind::Interrupted => Exit::Interrupted,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A panic is our bug, never the user's: say so in our own shape. Rust then exits with 101.
pub(crate) fn explain_panics() {
    std::panic::set_hook(Box::new(|info| {
        // Caught by the one who expects it, and told as an error of a file.
        if vlft_convert::panics_are_expected() {
            return;
        }
        let said = info.payload_as_str().unwrap_or("(no message)");
        let mut bug = Diagnostic::error("vlft has a bug and had to stop").caused_by(said);
        if let Some(spot) = info.location() {
            bug = bug
                .at_line(spot.file(), spot.line().into())
                .column(spot.column().into());
        }
        Terminal::plain().diagnostic(&bug.hint(
            "this is not your fault: please report these lines and the command you ran; \
             `RUST_BACKTRACE=1` adds detail",
        ));
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0") {
            let backtrace = std::backtrace::Backtrace::force_capture();
            Terminal::plain().note(backtrace.to_string());
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained() {
        for exit in [
            Exit::Done,
            Exit::Verdict,
            Exit::CannotRun,
            Exit::NothingToDo,
            Exit::Device,
            Exit::Interrupted,
        ] {
            assert!(CODES.iter().any(|(code, _)| *code == exit as u8));
        }
    }
}
