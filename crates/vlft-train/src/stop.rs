//! Why a run ends before its last step, and what it says then: what happened, what was kept, and
//! what to do.

use std::path::{Path, PathBuf};

use vlft_base::{Diagnostic, Kind, Result};

/// What ends a run early.
pub(crate) enum Stop {
    /// ^C or SIGTERM.
    Signal,
    /// A sample that was good before the first step cannot be made any more.
    Sample(Diagnostic),
    /// The same, with a validation record.
    Evaluation(Diagnostic),
    /// A loss or a gradient is NaN or infinite; see [`crate::dump`].
    NotANumber(Diagnostic),
    /// The GPU failed or has no memory left.
    Device(Diagnostic),
    /// The run directory cannot be written: a full disk, a read-only one.
    Write(Diagnostic),
    /// The adapter is written, and a server would not apply all of it.
    Adapter(Diagnostic),
}

impl Stop {
    /// `step` steps are finished. `kept` is their checkpoint (none before the first step), or why
    /// there is none; after [`Stop::Write`] it is the last one that there is.
    pub(crate) fn explain(self, step: u64, kept: Result<Option<PathBuf>>) -> Diagnostic {
        match self {
            Stop::Signal => match kept {
                Ok(kept) => interrupted(step, kept.as_deref()),
                Err(error) => unwritable(error, step, None),
            },
            Stop::Sample(error) => with_kept(error, &in_step(step), step, kept)
                .hint("put the file back or mend it, then run the same command again to resume; or leave such \
                 records out: `--set data.on_error=skip --allow-changed data.on_error`"),
            Stop::Evaluation(error) => {
                let stopped = format!("training stopped in the evaluation after step {step}");
                with_kept(error, &stopped, step, kept).hint(
                    "put the file back or mend it, then run the same command again to resume",
                )
            }
            Stop::Adapter(error) => {
                with_kept(error, "all steps were made", step, kept)
            }
            Stop::Device(error) => {
                let hint = match error.message() == vlft_model::GPU_IS_FULL {
                    true => {
                        "lower `data.max_pixels`, `data.max_tokens` or `train.micro_batch`; `vlft plan` \
                         shows what each costs. The same command resumes from the last checkpoint"
                    }
                    false => {
                        "the same command resumes from the last checkpoint; if it fails again, `vlft doctor` \
                         looks at the driver and the GPU, and `nvidia-smi` at who else uses it"
                    }
                };
                let error = with_kept(error, &in_step(step), step, kept).with_kind(Kind::Device);
                error.hint(hint)
            }
            Stop::NotANumber(error) => with_kept(error, &in_step(step), step, kept),
            Stop::Write(error) => unwritable(error, step, kept.ok().flatten().as_deref()),
        }
    }
}

fn interrupted(step: u64, kept: Option<&Path>) -> Diagnostic {
    let message = match kept {
        None => "stopped before the first step, nothing was trained".to_string(),
        Some(dir) => format!("finished step {step}, saved `{}`", dir.display()),
    };
    Diagnostic::error(message)
        .with_kind(Kind::Interrupted)
        .hint("run the same command again to resume")
}

fn in_step(finished: u64) -> String {
    format!("training stopped in step {}", finished + 1)
}

/// `stopped`: where that was, in words.
fn with_kept(
    error: Diagnostic,
    stopped: &str,
    step: u64,
    kept: Result<Option<PathBuf>>,
) -> Diagnostic {
    let error = error.with_kind(Kind::Verdict);
    match kept {
        Ok(None) => error.caused_by(format!("{stopped}; there is nothing to save yet")),
        Ok(Some(dir)) => error.caused_by(format!(
            "{stopped}; the {step} finished are saved in `{}`",
            dir.display()
        )),
        Err(failed) => error
            .caused_by(format!(
                "{stopped}, and what was finished could not be saved"
            ))
            .caused_by(failed),
    }
}

fn unwritable(error: Diagnostic, step: u64, kept: Option<&Path>) -> Diagnostic {
    let error = error.with_kind(Kind::CannotRun);
    match kept {
        None => error
            .caused_by(format!(
                "training stopped after step {step}; no checkpoint yet"
            ))
            .hint("make room or make it writable, then run the same command again"),
        Some(dir) => error
            .caused_by(format!(
                "training stopped after step {step}; the last checkpoint is `{}`",
                dir.display()
            ))
            .hint(
                "make room or make it writable, then run the same command again to resume from it",
            ),
    }
}
