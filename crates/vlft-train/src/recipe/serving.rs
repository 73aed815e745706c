//! Whether a server will apply what a run makes: asked of the names before the run begins, and of the
//! files when they are written. An adapter that a server would drop parts of is no result.

use std::path::Path;

use vlft_base::{Diagnostic, Kind, Result};
use vlft_checkpoint::Layout;
use vlft_checkpoint::serving::{Options, Problem, Report, Serve, VERSIONS, check, check_planned};

/// Checks the adapter that this layout will have, before anything is computed.
///
/// # Errors
/// vLLM would not apply all of it.
pub(super) fn check_planned_adapter(layout: &Layout, model: &Path) -> Result<()> {
    let base_model = model.display().to_string();
    let report = check_planned(layout, &base_model, &options(model))?;
    match report.passes {
        true => Ok(()),
        false => Err(not_applied(
            &report,
            "the adapter that this config trains",
        )
        .hint(
            "change `[lora]`: a rank that is too large, or modules that vLLM adapts not at all, can \
             only be trained to no use",
        )),
    }
}

/// Checks what was written, as `vlft check-adapter` does, and says how to serve it.
///
/// # Errors
/// vLLM would not apply all of it as it was trained.
pub(super) fn check_written(adapter: &Path, model: &Path) -> Result<(Serve, Vec<String>)> {
    let report = check(adapter, &options(model))?;
    match report.passes {
        true => Ok((report.serve, report.warnings)),
        false => Err(not_applied(&report, "this adapter")
            .at(adapter)
            .with_kind(Kind::Verdict)
            .hint(match only_zero(&report.problems) {
                true => {
                    "train for more steps than `train.warmup_steps`, with a learning rate above 0"
                        .into()
                }
                false => format!("`vlft check-adapter {}` says more", adapter.display()),
            })),
    }
}

fn options(model: &Path) -> Options {
    Options {
        version: &VERSIONS[0],
        model: Some(model.to_path_buf()),
        served_with: None,
        archive: None,
    }
}

fn only_zero(problems: &[Problem]) -> bool {
    problems.iter().all(|problem| problem.rule == "zero")
}

fn not_applied(report: &Report, what: &str) -> Diagnostic {
    let message = match only_zero(&report.problems) {
        true => format!("{what} changes nothing"),
        false => format!("vLLM {} would not apply all of {what}", report.vllm),
    };
    report
        .problems
        .iter()
        .fold(Diagnostic::error(message), |error, problem| {
            let example = problem.examples.first();
            let example = example.map_or(String::new(), |name| format!(": `{name}`"));
            error.caused_by(format!("[{}] {}{example}", problem.rule, problem.why))
        })
}
