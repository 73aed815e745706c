//! `RUN/skipped.jsonl`: records that a step had to do without, when the config allows it.
//!
//! A resumed run must do the same steps again, so what is listed is left out again even if the image
//! is back: which samples a step sees is a function of the order and of this list.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Result};
use vlft_dataset::jsonl::{Numbered, shown};

use crate::loading::Failed;
use crate::samples::Samples;

pub(crate) const SKIPPED_FILE: &str = "skipped.jsonl";

/// One record in one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// 1-based.
    step: u64,
    id: String,
    file: String,
    line: u64,
    why: String,
}

pub(crate) struct Skipped {
    path: PathBuf,
    /// What was listed when the run was opened: (step, place in the data set).
    known: BTreeSet<(u64, usize)>,
}

impl Skipped {
    /// Reads the list of the run; there need not be one. A torn last line is cut off.
    pub(crate) fn open(run_dir: &Path, samples: &Samples) -> Result<Self> {
        let path = run_dir.join(SKIPPED_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(cannot("read", &path, e)),
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            vlft_base::output::write_atomic(&path, &text.as_bytes()[..whole])?;
        }
        let places: HashMap<&str, usize> = (0..samples.len()).map(|i| (samples.id(i), i)).collect();
        let mut known = BTreeSet::new();
        for (number, line) in (1..).zip(text[..whole].lines()) {
            let entry: Entry = serde_json::from_str(line).map_err(|e| {
                Diagnostic::error("not a line of skipped records")
                    .at_line(&path, number)
                    .caused_by(e)
                    .hint(
                        "it decides what a resumed run sees: restore it, or choose another `--out`",
                    )
            })?;
            known.extend(places.get(entry.id.as_str()).map(|at| (entry.step, *at)));
        }
        Ok(Self { path, known })
    }

    /// The micro-batches of step `step` (1-based) without what is listed for it; one may be empty.
    pub(crate) fn without(&self, step: u64, mut micro_batches: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
        for batch in &mut micro_batches {
            batch.retain(|index| !self.lists(step, *index));
        }
        micro_batches
    }

    /// Whether a record was left out of a step before the run was resumed.
    pub(crate) fn lists(&self, step: u64, index: usize) -> bool {
        self.known.contains(&(step, index))
    }

    /// Lists what could not be made, on the disk before the step's own line is, and says so.
    pub(crate) fn add(
        &self,
        step: u64,
        failed: &[Failed],
        samples: &Samples,
    ) -> Result<Vec<Diagnostic>> {
        let mut text = String::new();
        let mut warnings = Vec::new();
        for Failed { index, error } in failed {
            let Numbered { line, record } = samples.record(*index);
            let entry = Entry {
                step,
                id: record.id.clone(),
                file: shown(samples.path()),
                line: *line,
                why: error.to_string(),
            };
            text += &(serde_json::to_string(&entry).expect("plain values") + "\n");
            warnings.push(
                Diagnostic::warning(format!(
                    "step {step} goes on without record `{}`",
                    record.id
                ))
                .at_line(samples.path(), *line)
                .caused_by(error),
            );
        }
        let mut file = OpenOptions::new();
        file.create(true)
            .append(true)
            .open(&self.path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_data()
            })
            .map_err(|e| cannot("write", &self.path, e))?;
        Ok(warnings)
    }
}
