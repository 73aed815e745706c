//! ^C and SIGTERM: before there is anything to lose they end the process at once; after that they
//! raise one shared flag, which long commands look at between steps.

use std::sync::atomic::{AtomicBool, Ordering};

use vlft_base::{Diagnostic, Kind, Result};

use crate::exit::Exit;
use crate::terminal::Terminal;

static STOP: AtomicBool = AtomicBool::new(false);

/// Whether a step would be lost: loading a model and checking a data set is not worth waiting for.
static STEPPING: AtomicBool = AtomicBool::new(false);

/// Takes over ^C and SIGTERM (on Windows also closing the console). Until [`steps_begin`] the first
/// one ends the process; then the first one raises the flag and a second one ends the process. Call it only from commands that look at the flag, so
/// that all others keep the system's immediate stop.
pub(crate) fn stop_flag() -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            end_now();
        }
        if !STEPPING.load(Ordering::SeqCst) {
            Terminal::plain().diagnostic(
                &Diagnostic::error("stopped while loading, no step was begun")
                    .with_kind(Kind::Interrupted)
                    .hint("run the same command again"),
            );
            end_now();
        }
        Terminal::plain().note("stopping as soon as this step is saved; ^C again stops at once");
    })
    .map_err(|e| Diagnostic::error("cannot watch for ^C").caused_by(e))?;
    Ok(&STOP)
}

/// From here on a signal waits for the end of a step.
pub(crate) fn steps_begin() {
    STEPPING.store(true, Ordering::SeqCst);
}

/// What is on disk at this moment is whole (temporary names, renames), so this loses only work.
#[expect(clippy::exit, reason = "a person who presses ^C twice means it")]
fn end_now() {
    std::process::exit(Exit::Interrupted as i32)
}
