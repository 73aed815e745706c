//! ^C and SIGTERM raise one shared flag; long commands look at it between steps.

use std::sync::atomic::{AtomicBool, Ordering};

use vlft_base::{Diagnostic, Result};

use crate::exit::Exit;
use crate::terminal::Terminal;

static STOP: AtomicBool = AtomicBool::new(false);

/// Takes over ^C and SIGTERM (on Windows also closing the console): the first one raises the flag,
/// a second one ends the process at once. Call it only from commands that look at the flag, so
/// that all others keep the system's immediate stop.
pub(crate) fn stop_flag() -> Result<&'static AtomicBool> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::SeqCst) {
            end_now();
        }
        Terminal::plain().note("stopping after this step; ^C again stops at once");
    })
    .map_err(|e| Diagnostic::error("cannot watch for ^C").caused_by(e))?;
    Ok(&STOP)
}

/// What is on disk at this moment is whole (temporary names, renames), so this loses only work.
#[expect(clippy::exit, reason = "a person who presses ^C twice means it")]
fn end_now() {
    std::process::exit(Exit::Interrupted as i32)
}
