//! The last look at what a run made: an adapter that a server would drop parts of is no result.

use std::path::Path;

use vlft_base::{Diagnostic, Kind, Result};
use vlft_checkpoint::serving::{Options, VERSIONS, check};

/// Checks an adapter as `vlft check-adapter` does, on the model it was trained on.
///
/// # Errors
/// vLLM would not apply all of it as it was trained. That every B is still zero is no error here:
/// a run of no more than its warm-up ends like that, and its loss says so.
pub(super) fn check_served(adapter: &Path, model: &Path) -> Result<()> {
    let options = Options {
        version: &VERSIONS[0],
        model: Some(model.to_path_buf()),
        served_with: None,
    };
    let report = check(adapter, &options)?;
    let problems: Vec<_> = report
        .problems
        .iter()
        .filter(|p| p.rule != "zero")
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    let error = Diagnostic::error(format!(
        "vLLM {} would not apply all of the adapter",
        report.vllm
    ))
    .at(adapter)
    .with_kind(Kind::Verdict)
    .hint(format!(
        "`vlft check-adapter {}` says more",
        adapter.display()
    ));
    Err(problems.into_iter().fold(error, |error, problem| {
        error.caused_by(format!("[{}] {}", problem.rule, problem.why))
    }))
}
