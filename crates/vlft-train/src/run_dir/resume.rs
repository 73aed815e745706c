//! Whether the run in a folder can go on with this config and this data, and from where.

use std::fs;

use serde::Serialize;
use vlft_base::output::{cannot, write_atomic};
use vlft_base::{Diagnostic, Kind, Result, format};

use super::{CHANGES_FILE, CONFIG_FILE, Opening, RUN_ADAPTER_FILES, RunDir, remove};
use crate::checkpoint::{Examined, State, examine};
use crate::config::{Change, Config};
use crate::inputs::Inputs;
use crate::log::{Line, METRICS_FILE, SummaryLine, read_metrics};

/// How a run in a folder goes on.
pub(super) struct GoingOn {
    /// None: from the beginning.
    pub(super) from: Option<State>,
    pub(super) changes: Vec<Change>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// Looks, and changes nothing but the names of damaged checkpoints.
pub(super) fn look(run: &RunDir, opening: &Opening) -> Result<GoingOn> {
    let config_path = run.path.join(CONFIG_FILE);
    let old = Config::load(&config_path, &[]).map_err(|e| {
        Diagnostic::error("cannot read the config this run began with")
            .at(&config_path)
            .caused_by(e)
            .hint("mend it, choose another `--out`, or pass `--force` to throw this run away")
    })?;
    let changes = old.changes(opening.config);
    let lines = read_metrics(&run.path)?;
    let summary = match lines.last() {
        Some(Line::Summary(summary)) => Some(summary),
        _ => None,
    };
    let finished = summary.is_some() && run.adapter().exists();
    let steps = run.steps()?;
    if steps.is_empty() && !finished {
        check_never_saved(run, &old, &lines)?;
        return Ok(starting_over(run, changes, &lines));
    }

    let (changes, mut warnings) = accept(run, opening, changes)?;
    let last = steps.last().copied().unwrap_or(0);
    let is_longer = !changes.is_empty() && opening.total_steps > last;
    if let (Some(summary), false) = (summary, is_longer) {
        let lost = lost_adapters(run, summary, &steps)?;
        if lost.is_empty() && finished {
            return Err(finished_already(run));
        }
        warnings.extend(lost);
    }
    let (state, damaged) = newest_whole(run, &steps)?;
    warnings.extend(damaged);
    if state.step > opening.total_steps {
        return Err(
            Diagnostic::error("the run has more steps than the config asks for")
                .at(run.checkpoint(state.step))
                .expected(format!("at most {} steps", opening.total_steps))
                .hint("raise `train.max_steps` or `train.epochs`, or choose another `--out`"),
        );
    }
    Ok(GoingOn {
        from: Some(state),
        changes,
        warnings,
    })
}

/// Whether the run of this very config in a folder has come to its end, as far as that can be seen
/// without its data and its model.
pub(super) fn is_finished(run: &RunDir, config: &Config) -> bool {
    let same = Config::load(&run.path.join(CONFIG_FILE), &[])
        .is_ok_and(|old| old.changes(config).is_empty());
    let lines = || read_metrics(&run.path).unwrap_or_default();
    same && run.adapter().exists() && matches!(lines().last(), Some(Line::Summary(_)))
}

pub(super) fn finished_already(run: &RunDir) -> Diagnostic {
    Diagnostic::error("this run is finished already")
        .with_kind(Kind::NothingToDo)
        .at(&run.path)
        .hint("choose another `--out`, or pass `--force` to train again")
}

/// A warning for each adapter of a finished run that is not what its checkpoint holds. Without that
/// checkpoint nobody can know, and nothing could be mended.
fn lost_adapters(run: &RunDir, summary: &SummaryLine, steps: &[u64]) -> Result<Vec<Diagnostic>> {
    let adapters = [
        (run.adapter(), Some(summary.steps)),
        (run.best(), summary.best_step),
    ];
    let mut lost = Vec::new();
    for (adapter, step) in adapters {
        let Some(step) = step.filter(|step| steps.contains(step)) else {
            continue;
        };
        let Examined::Whole(state) = examine(&run.checkpoint(step), step)? else {
            continue;
        };
        let problems = state.problems_of_copies(&adapter, &RUN_ADAPTER_FILES)?;
        if !problems.is_empty() {
            let warning =
                Diagnostic::warning("an adapter of this finished run is missing or damaged")
                    .at(&adapter);
            let warning = problems.into_iter().fold(warning, Diagnostic::caused_by);
            lost.push(warning.hint(format!(
                "it is written again from `{}`",
                run.checkpoint(step).display()
            )));
        }
    }
    Ok(lost)
}

/// Checkpoints that were there once and are gone are no reason to begin anew unasked: what else is
/// left in the folder would be thrown away.
fn check_never_saved(run: &RunDir, config: &Config, lines: &[Line]) -> Result<()> {
    let every = config.output.checkpoint_every_steps;
    let reached = lines.iter().filter_map(Line::step).max().unwrap_or(0);
    let saved = (every > 0 && reached > every) || run.best().exists();
    if !saved {
        return Ok(());
    }
    Err(Diagnostic::error("the checkpoints of this run are gone")
        .at(run.checkpoints())
        .found(format!(
            "a log of {}",
            format::count(reached, "finished step")
        ))
        .hint("put them back to go on, choose another `--out`, or pass `--force` to begin anew"))
}

/// There is nothing to go on from. That what was computed is lost is said, as is that the config
/// is another one now.
fn starting_over(run: &RunDir, changes: Vec<Change>, lines: &[Line]) -> GoingOn {
    let lost = lines
        .iter()
        .filter(|line| matches!(line, Line::Step(_)))
        .count() as u64;
    let mut warnings = Vec::new();
    if lost > 0 || !changes.is_empty() {
        let mut warning =
            Diagnostic::warning("no checkpoint in this run yet: starting over").at(&run.path);
        if lost > 0 {
            let steps = format::count(lost, "finished step");
            warning = warning.caused_by(format!("it ended before its first one; {steps} lost"));
        }
        for change in &changes {
            warning = warning.caused_by(change);
        }
        warnings.push(warning);
    }
    GoingOn {
        from: None,
        // A run that begins anew has no other config than its own.
        changes: Vec::new(),
        warnings,
    }
}

/// What has changed is an error, except where it was allowed: then it is said, and kept.
fn accept(
    run: &RunDir,
    opening: &Opening,
    changes: Vec<Change>,
) -> Result<(Vec<Change>, Vec<Diagnostic>)> {
    let allowed = |key: &str| opening.allow_changed.iter().any(|k| k == key);
    let mut warnings = Vec::new();
    let contents = match Inputs::read(&run.path)? {
        Some(inputs) => inputs.differences(opening.inputs, opening.config, &changes),
        None => {
            warnings.push(
                Diagnostic::warning("this run does not say which data and model it began with")
                    .at(run.path.join(crate::inputs::INPUTS_FILE))
                    .hint("it goes on as if they were the same; only you can know"),
            );
            Vec::new()
        }
    };
    let mut refused: Vec<String> = changes
        .iter()
        .filter(|change| !allowed(&change.key))
        .map(Change::to_string)
        .collect();
    let mut told: Vec<String> = changes.iter().map(Change::to_string).collect();
    for difference in contents {
        let text = format!("`{}`: {}", difference.key, difference.text);
        if !(difference.may_be_allowed() && allowed(difference.key)) {
            refused.push(text.clone());
        }
        told.push(text);
    }
    if !refused.is_empty() {
        let error = Diagnostic::error("this run began with another config, data or model")
            .at(run.path.join(CONFIG_FILE));
        let error = refused.into_iter().fold(error, Diagnostic::caused_by);
        return Err(error.hint(
            "resume with what it began with (`RUN/config.toml`), choose another `--out` for a \
             new run, or accept a change with `--allow-changed KEY` where the key allows it",
        ));
    }
    if !told.is_empty() {
        let warning =
            Diagnostic::warning("this run goes on with changes").at(run.path.join(CHANGES_FILE));
        warnings.push(told.into_iter().fold(warning, Diagnostic::caused_by));
    }
    Ok((changes, warnings))
}

/// The newest checkpoint whose every file is what was written, and a warning for each newer one.
/// Those get another name: they must not be taken for the newest again, or count as kept.
fn newest_whole(run: &RunDir, steps: &[u64]) -> Result<(State, Vec<Diagnostic>)> {
    let mut damaged = Vec::new();
    for step in steps.iter().rev() {
        let dir = run.checkpoint(*step);
        match examine(&dir, *step)? {
            Examined::Damaged(problems) => damaged.push((dir, problems)),
            Examined::Whole(state) => {
                let mut warnings = Vec::new();
                for (dir, problems) in damaged {
                    let aside = dir.with_extension("damaged");
                    if aside.exists() {
                        remove(&aside)?;
                    }
                    fs::rename(&dir, &aside).map_err(|e| cannot("rename", &dir, e))?;
                    let warning =
                        Diagnostic::warning("checkpoint is damaged and not used").at(&dir);
                    let warning = problems.into_iter().fold(warning, Diagnostic::caused_by);
                    warnings.push(warning.hint(format!(
                        "going on from `{}`; the damaged one is now `{}`",
                        run.checkpoint(*step).display(),
                        aside.display()
                    )));
                }
                return Ok((state, warnings));
            }
        }
    }
    let error = Diagnostic::error("no checkpoint of this run is whole").at(&run.path);
    let error = damaged.iter().fold(error, |error, (dir, problems)| {
        error.caused_by(format!("`{}`: {}", dir.display(), problems.join(", ")))
    });
    Err(error.hint(
        "copy one back from a backup, or pass `--force` to throw this run away and begin anew",
    ))
}

/// A line of `RUN/changes.jsonl`.
#[derive(Serialize)]
struct Recorded<'a> {
    /// The steps that were finished when the change came.
    after_step: u64,
    #[serde(flatten)]
    change: &'a Change,
}

/// Adds to `RUN/changes.jsonl`. Being killed between this and the new `config.toml` brings us here
/// again: what is recorded already is not recorded twice.
pub(super) fn record(run: &RunDir, after_step: u64, changes: &[Change]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let path = run.path.join(CHANGES_FILE);
    let mut text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(cannot("read", &path, e)),
    };
    for change in changes {
        let line = Recorded { after_step, change };
        let line = serde_json::to_string(&line).expect("plain values") + "\n";
        if !text.contains(&line) {
            text += &line;
        }
    }
    write_atomic(&path, text.as_bytes())
}

/// A folder without `config.toml`: empty, something else, or a run that lost it.
pub(super) fn without_config(run: &RunDir) -> Result<()> {
    let path = &run.path;
    if !run.steps()?.is_empty() || path.join(METRICS_FILE).exists() {
        return Err(Diagnostic::error(format!("`{CONFIG_FILE}` of this run is missing"))
            .at(path.join(CONFIG_FILE))
            .caused_by("without it nobody can know whether the checkpoints fit the config")
            .hint(
                "copy it back, choose another `--out`, or pass `--force` to throw this run away",
            ));
    }
    let entries = fs::read_dir(path).map_err(|e| cannot("read", path, e))?;
    for entry in entries {
        let name = entry.map_err(|e| cannot("read", path, e))?.file_name();
        let name = name.to_string_lossy();
        // What being killed while the folder was made leaves behind.
        if !name.ends_with(".partial")
            && name != crate::inputs::INPUTS_FILE
            && name != "checkpoints"
        {
            return Err(
                Diagnostic::error("output exists already and is no run directory")
                    .at(path)
                    .hint("choose another `--out`"),
            );
        }
    }
    Ok(())
}
