//! What a run says when it ends before its last step.

use std::path::Path;

use vlft_base::{Diagnostic, Kind};

/// ^C or SIGTERM after `step` finished steps. `saved`: their checkpoint, none before the first.
pub(crate) fn interrupted(step: u64, saved: Option<&Path>) -> Diagnostic {
    let message = match saved {
        None => "interrupted before the first step".to_string(),
        Some(dir) => format!(
            "interrupted: finished step {step}, saved `{}`",
            dir.display()
        ),
    };
    Diagnostic::error(message)
        .with_kind(Kind::Interrupted)
        .hint("run the same command again to resume")
}

/// The step after `step` failed on its data or its numbers.
pub(crate) fn failed(error: Diagnostic, step: u64, saved: Option<&Path>) -> Diagnostic {
    let error = error.with_kind(Kind::Verdict);
    let Some(dir) = saved else { return error };
    error
        .caused_by(format!(
            "training stopped in step {}; saved `{}`",
            step + 1,
            dir.display()
        ))
        .hint("mend the data, then run the same command again to resume")
}

/// Step `step` has no loss or no gradient; `ids` are its samples.
pub(crate) fn not_a_number(step: u64, loss: f64, grad_norm: f64, ids: &[String]) -> Diagnostic {
    Diagnostic::error(format!(
        "step {step} gave loss {loss} and gradient norm {grad_norm}"
    ))
    .caused_by(format!("samples of the step: `{}`", ids.join("`, `")))
    .hint("lower `train.learning_rate`, or look at these samples with `vlft show`")
}
