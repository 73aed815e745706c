//! The run directory: what is in it, how it is opened, and which checkpoints stay.

mod resume;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use vlft_base::output::{
    cannot, clear_unmarked, lock_folder, remove_aside, set_aside, write_atomic,
};
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::ADAPTER_FILES;

use crate::checkpoint::State;
use crate::config::Config;
use crate::inputs::{INPUTS_FILE, Inputs};
use crate::lock::LOCK_FILE;
use crate::log::{METRICS_FILE, TENSORBOARD_DIR};
use crate::skipped::SKIPPED_FILE;

/// What `RUN/adapter` and `RUN/best` hold, as every checkpoint does.
const RUN_ADAPTER_FILES: [&str; 3] = [ADAPTER_FILES[0], ADAPTER_FILES[1], LOCK_FILE];

const CONFIG_FILE: &str = "config.toml";
const CHANGES_FILE: &str = "changes.jsonl";

pub(crate) struct RunDir {
    path: PathBuf,
    /// Held as long as the run goes on; see [`lock`].
    lock: Option<File>,
}

/// What a run is to be.
pub(crate) struct Opening<'a> {
    pub(crate) config: &'a Config,
    pub(crate) inputs: &'a Inputs,
    pub(crate) total_steps: u64,
    /// Empty what is there.
    pub(crate) force: bool,
    /// Keys that may differ from those of the run that is there.
    pub(crate) allow_changed: &'a [String],
}

impl RunDir {
    /// Creates the folder, or opens one whose run can go on, and says from which checkpoint.
    ///
    /// # Errors
    /// A run of another config, other data or another model, and one without a whole checkpoint.
    /// A finished run is an error of its own kind. In all these cases nothing is changed.
    pub(crate) fn open(
        path: &Path,
        opening: &Opening,
        warn: &mut dyn FnMut(Diagnostic),
    ) -> Result<(Self, Option<State>)> {
        let mut run = Self::at(path);
        if path.is_dir() {
            run.lock = lock(path)?;
        }
        let config_path = path.join(CONFIG_FILE);
        let is_run = config_path.exists() || !run.steps()?.is_empty();
        let mut from = None;
        if opening.force && is_run {
            run.clear()?;
        } else if config_path.exists() {
            let going_on = resume::look(&run, opening)?;
            going_on.warnings.into_iter().for_each(warn);
            from = going_on.from;
            let after_step = from.as_ref().map_or(0, |state| state.step);
            resume::record(&run, after_step, &going_on.changes)?;
        } else if path.exists() {
            resume::without_config(&run)?;
        }
        fs::create_dir_all(path).map_err(|e| cannot("create", path, e))?;
        if run.lock.is_none() {
            run.lock = lock(path)?;
        }
        run.clear_unmarked()?;
        opening.inputs.write(path)?;
        write_atomic(&config_path, opening.config.to_toml(path).as_bytes())?;
        Ok((run, from))
    }

    /// Whether a run in this folder has saved anything.
    pub(crate) fn has_checkpoint(path: &Path) -> Result<bool> {
        Ok(!Self::at(path).steps()?.is_empty())
    }

    /// The error that says that the run of this config in this folder is finished, if it is. Neither
    /// data nor model are needed to know that.
    pub(crate) fn finished(path: &Path, config: &Config) -> Option<Diagnostic> {
        let run = Self::at(path);
        resume::is_finished(&run, config).then(|| resume::finished_already(&run))
    }

    fn at(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            lock: None,
        }
    }

    /// Removes what a run writes, and nothing else.
    fn clear(&self) -> Result<()> {
        for dir in [
            self.checkpoints(),
            self.adapter(),
            self.best(),
            self.path.join(TENSORBOARD_DIR),
        ] {
            if dir.exists() {
                // Renamed first: being killed here leaves no half checkpoint under a whole one's name.
                remove_aside(&set_aside(&dir)?)?;
            }
        }
        let files = [
            METRICS_FILE,
            CHANGES_FILE,
            INPUTS_FILE,
            SKIPPED_FILE,
            "report.html",
            "dropped.jsonl",
        ];
        for name in files {
            let file = self.path.join(name);
            if file.exists() {
                fs::remove_file(&file).map_err(|e| cannot("remove", &file, e))?;
            }
        }
        Ok(())
    }

    /// What would be in the way of a checkpoint, told only when it is written.
    fn clear_unmarked(&self) -> Result<()> {
        clear_unmarked(&self.adapter())?;
        clear_unmarked(&self.best())?;
        let dir = self.checkpoints();
        if !dir.exists() {
            return Ok(());
        }
        for entry in fs::read_dir(&dir).map_err(|e| cannot("read", &dir, e))? {
            let path = entry.map_err(|e| cannot("read", &dir, e))?.path();
            if let Some("partial" | "replaced") = path.extension().and_then(|e| e.to_str()) {
                clear_unmarked(&path.with_extension(""))?;
            }
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn adapter(&self) -> PathBuf {
        self.path.join("adapter")
    }

    /// The adapter after the best evaluation so far.
    pub(crate) fn best(&self) -> PathBuf {
        self.path.join("best")
    }

    pub(crate) fn checkpoint(&self, step: u64) -> PathBuf {
        self.checkpoints().join(format!("step-{step}"))
    }

    fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The newest checkpoint. Left-overs of a killed write have other names.
    pub(crate) fn latest_checkpoint(&self) -> Result<Option<u64>> {
        Ok(self.steps()?.last().copied())
    }

    /// Deletes all but the newest `keep`, at least one, and the one after the step `best`; and what
    /// killed writes have left behind.
    pub(crate) fn prune(&self, keep: usize, best: Option<u64>) -> Result<()> {
        let steps = self.steps()?;
        let surplus = steps.len().saturating_sub(keep.max(1));
        for step in steps[..surplus].iter().filter(|step| best != Some(**step)) {
            // Renamed first: being killed here leaves no half checkpoint under a whole one's name.
            set_aside(&self.checkpoint(*step))?;
        }
        let dir = self.checkpoints();
        for entry in fs::read_dir(&dir).map_err(|e| cannot("read", &dir, e))? {
            let path = entry.map_err(|e| cannot("read", &dir, e))?.path();
            let ending = path.extension().and_then(|e| e.to_str());
            if matches!(ending, Some("partial" | "replaced")) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Steps of all checkpoints, rising.
    fn steps(&self) -> Result<Vec<u64>> {
        let dir = self.checkpoints();
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut steps = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|e| cannot("read", &dir, e))? {
            let name = entry.map_err(|e| cannot("read", &dir, e))?.file_name();
            let name = name.to_string_lossy();
            let number = name.strip_prefix("step-").map(str::parse::<u64>);
            let step = number.and_then(|number| number.ok());
            // `step-07` is none of ours.
            steps.extend(step.filter(|step| *name == *format!("step-{step}")));
        }
        steps.sort_unstable();
        Ok(steps)
    }
}

/// A folder with all that is in it, a link, or a file.
fn remove(path: &Path) -> Result<()> {
    match path.is_dir() || path.is_symlink() {
        true => remove_aside(path),
        false => fs::remove_file(path).map_err(|e| cannot("remove", path, e)),
    }
}

/// Two processes in one run would write over each other.
fn lock(path: &Path) -> Result<Option<File>> {
    lock_folder(path, || {
        Diagnostic::error("another process is training in this folder")
            .at(path)
            .hint("wait for it or stop it, or choose another `--out`")
    })
}
