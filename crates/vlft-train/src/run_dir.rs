//! The run directory: what is in it, whether a run in it can go on, and which checkpoints stay.

use std::fs;
use std::path::{Path, PathBuf};

use vlft_base::output::{cannot, write_atomic};
use vlft_base::{Diagnostic, Kind, Result};

use crate::config::Config;
use crate::log::{Line, METRICS_FILE, read_metrics};

pub(crate) struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Creates the folder, or opens one whose run has the same config. A finished run is an error
    /// of its own kind and nothing is changed. `force` empties what is there.
    pub(crate) fn open(path: &Path, config: &Config, force: bool) -> Result<Self> {
        let run = Self {
            path: path.to_path_buf(),
        };
        let config_path = path.join("config.toml");
        let text = config.to_toml(path);
        if force && config_path.exists() {
            run.clear()?;
        } else if path.exists() {
            run.check_resumable(&text)?;
        }
        fs::create_dir_all(run.checkpoints()).map_err(|e| cannot("create", path, e))?;
        write_atomic(&config_path, text.as_bytes())?;
        Ok(run)
    }

    fn check_resumable(&self, text: &str) -> Result<()> {
        let config_path = self.path.join("config.toml");
        if !config_path.exists() {
            let mut entries =
                fs::read_dir(&self.path).map_err(|e| cannot("read", &self.path, e))?;
            return match entries.next() {
                None => Ok(()),
                Some(_) => Err(
                    Diagnostic::error("output exists already and is no run directory")
                        .at(&self.path)
                        .hint("choose another `--out`"),
                ),
            };
        }
        if !self.has_begun()? {
            return Ok(());
        }
        let old = fs::read_to_string(&config_path).map_err(|e| cannot("read", &config_path, e))?;
        let differences = differences(&old, text);
        if !differences.is_empty() {
            let error = Diagnostic::error("the config differs from the one this run began with")
                .at(&config_path);
            let error = differences
                .into_iter()
                .fold(error, |error, line| error.caused_by(line));
            return Err(error.hint(
                "use the old config to resume, another `--out` for a new run, or `--force` to \
                 throw this run away",
            ));
        }
        if self.is_finished()? {
            return Err(Diagnostic::error("this run is finished already")
                .with_kind(Kind::NothingToDo)
                .at(&self.path)
                .hint("choose another `--out`, or pass `--force` to train again"));
        }
        Ok(())
    }

    /// Whether anything was trained here. A folder with only a config starts over.
    fn has_begun(&self) -> Result<bool> {
        Ok(self.latest_checkpoint()?.is_some() || self.is_finished()?)
    }

    fn is_finished(&self) -> Result<bool> {
        if !self.path.join(METRICS_FILE).exists() || !self.adapter().exists() {
            return Ok(false);
        }
        Ok(matches!(
            read_metrics(&self.path)?.last(),
            Some(Line::Summary(_))
        ))
    }

    /// Removes what a run writes, and nothing else.
    fn clear(&self) -> Result<()> {
        for dir in [self.checkpoints(), self.adapter()] {
            if dir.exists() {
                fs::remove_dir_all(&dir).map_err(|e| cannot("remove", &dir, e))?;
            }
        }
        for name in [METRICS_FILE, "report.html", "dropped.jsonl"] {
            let file = self.path.join(name);
            if file.exists() {
                fs::remove_file(&file).map_err(|e| cannot("remove", &file, e))?;
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

    /// Deletes all but the newest `keep`, at least one.
    pub(crate) fn prune(&self, keep: usize) -> Result<()> {
        let steps = self.steps()?;
        let surplus = steps.len().saturating_sub(keep.max(1));
        let left_over = self.checkpoints().join("going.partial");
        if left_over.exists() {
            fs::remove_dir_all(&left_over).map_err(|e| cannot("remove", &left_over, e))?;
        }
        for step in &steps[..surplus] {
            // Renamed first: being killed here leaves no half checkpoint under a whole one's name.
            let (dir, going) = (
                self.checkpoint(*step),
                self.checkpoints().join("going.partial"),
            );
            fs::rename(&dir, &going).map_err(|e| cannot("rename", &dir, e))?;
            fs::remove_dir_all(&going).map_err(|e| cannot("remove", &going, e))?;
        }
        Ok(())
    }

    /// Steps of all whole checkpoints, rising.
    fn steps(&self) -> Result<Vec<u64>> {
        let dir = self.checkpoints();
        if !dir.exists() {
            return Ok(Vec::new());
        }
        let mut steps = Vec::new();
        for entry in fs::read_dir(&dir).map_err(|e| cannot("read", &dir, e))? {
            let name = entry.map_err(|e| cannot("read", &dir, e))?.file_name();
            let step: Option<u64> = name
                .to_str()
                .and_then(|name| name.strip_prefix("step-")?.parse().ok());
            steps.extend(step);
        }
        steps.sort_unstable();
        Ok(steps)
    }
}

/// Lines of the two configs that differ, comments aside.
fn differences(old: &str, new: &str) -> Vec<String> {
    let settings = |text: &str| -> Vec<String> {
        let mut table = String::new();
        let mut settings = Vec::new();
        for line in text.lines() {
            let line = line.split("  #").next().unwrap_or("").trim();
            if line.starts_with('[') {
                table = line.trim_matches(['[', ']']).to_string();
            } else if !line.is_empty() && !line.starts_with('#') {
                settings.push(format!("{table}.{line}"));
            }
        }
        settings
    };
    let (old, new) = (settings(old), settings(new));
    let gone = old
        .iter()
        .filter(|line| !new.contains(line))
        .map(|line| format!("was `{line}`"));
    let come = new
        .iter()
        .filter(|line| !old.contains(line))
        .map(|line| format!("now `{line}`"));
    gone.chain(come).collect()
}
