//! What a run puts into its folder: checkpoints, the best adapter, and at the end the adapter and the
//! summary.

use std::fs;
use std::path::Path;

use vlft_base::output::{Existing, PartialDir, cannot};
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::{ADAPTER_FILES, Config as ModelConfig};
use vlft_model::write_adapter;

use super::serving::check_written;
use super::{Event, Observer, Trainer};
use crate::checkpoint::Progress;
use crate::device::pool_bytes;
use crate::header::Header;
use crate::log::{Journal, Line, Stopped, read_metrics};
use crate::plan::{Measured, peak_bytes};
use crate::report;
use crate::start::last_part;
use crate::stop::Stop;
use crate::summary::{Summary, summarise};

impl Trainer<'_> {
    /// The log reaches the disk before the checkpoint gets its name; the curves follow. A checkpoint
    /// of this step that is there already is the one this run was resumed from: it is as it should be.
    pub(super) fn save(&self, progress: &Progress, journal: &mut Journal) -> Result<()> {
        journal.sync()?;
        if self.run.latest_checkpoint()? != Some(progress.step) {
            let dir = self.run.checkpoint(progress.step);
            progress.save(&dir, &self.layout, &self.base_model(), &self.lock)?;
        }
        report::write(self.run.path())
    }

    pub(super) fn prune(&self, journal: &Journal) -> Result<()> {
        self.run.prune(self.config.output.keep, journal.best.step())
    }

    /// `RUN/best`: the adapter of the checkpoint after `step`, as `RUN/adapter` is that of the end.
    pub(super) fn publish_best(&self, step: u64) -> Result<()> {
        let checkpoint = self.run.checkpoint(step);
        let partial = PartialDir::create(&self.run.best(), Existing::Replace)?;
        for name in ADAPTER_FILES {
            let (from, to) = (checkpoint.join(name), partial.path().join(name));
            fs::copy(&from, &to).map_err(|e| cannot("copy", &from, e))?;
        }
        self.lock.write(partial.path())?;
        partial.commit()
    }

    /// Saves what was reached when a run ends early, unless it is saved already, so that the same
    /// command resumes. Before the first step there is nothing to keep.
    pub(super) fn keep(
        &self,
        progress: &Progress,
        journal: &mut Journal,
        stop: &Stop,
    ) -> Result<Option<u64>> {
        if progress.step == 0 {
            return Ok(None);
        }
        if self.run.latest_checkpoint()? != Some(progress.step) {
            self.save(progress, journal)?;
            // After NaN an older checkpoint may be the better one to go back to.
            if !matches!(stop, Stop::NotANumber(_)) {
                self.prune(journal)?;
            }
        }
        Ok(Some(progress.step))
    }

    pub(super) fn finish(
        &self,
        progress: &Progress,
        journal: &mut Journal,
        observe: Observer,
    ) -> Result<Summary, Stop> {
        // Killed between the last checkpoint and its pruning, a run has no step left that prunes.
        self.prune(journal).map_err(Stop::Write)?;
        let adapter = self.run.adapter();
        self.write_adapter(&adapter, progress)
            .map_err(Stop::Write)?;
        let best = journal.best.step().map(|_| self.run.best());
        let serve = self.check(&adapter, best.as_deref(), observe)?;

        // The summary comes last: it is what says that the run is finished.
        let ended = progress.step < self.total_steps;
        let lines = read_metrics(self.run.path()).map_err(Stop::Write)?;
        let stopped = ended.then_some(Stopped::Patience);
        let mut summary = summarise(&lines, journal.best.step(), stopped);
        let of_device = pool_bytes(&self.model.device);
        summary.memory = of_device.or_else(peak_bytes).map(|peak_bytes| Measured {
            predicted_bytes: self.predicted_bytes,
            peak_bytes,
        });
        self.log(journal, Line::Summary(summary.clone()), observe)?;
        journal.sync().map_err(Stop::Write)?;
        report::write(self.run.path()).map_err(Stop::Write)?;
        Ok(Summary {
            run: self.run.path().to_path_buf(),
            adapter,
            best,
            serve,
            summary,
        })
    }

    /// What was written is looked at under its name: nothing that was trained is lost if a server would
    /// not apply it. Returns the command that serves the better of the two.
    fn check(
        &self,
        adapter: &Path,
        best: Option<&Path>,
        observe: Observer,
    ) -> Result<String, Stop> {
        let mut served = None;
        for dir in [Some(adapter), best].into_iter().flatten() {
            let checked = check_written(dir, &self.config.model.path);
            served = Some(checked.map_err(Stop::Adapter)?);
        }
        let (serve, notes) = served.expect("there is at least one");
        for note in notes {
            observe(Event::Warning(Diagnostic::warning(note)));
        }
        Ok(serve.command)
    }

    fn write_adapter(&self, adapter: &Path, progress: &Progress) -> Result<()> {
        let partial = PartialDir::create(adapter, Existing::Replace)?;
        let base_model = self.base_model();
        write_adapter(
            partial.path(),
            &self.layout,
            &progress.adapters,
            &base_model,
        )?;
        self.lock.write(partial.path())?;
        partial.commit()
    }

    pub(super) fn header(&self, model: &ModelConfig, step: u64) -> Header {
        let elements = |shape: &[usize]| shape.iter().product::<usize>() as u64;
        let tensors = model.tensors();
        let frozen: u64 = tensors.iter().map(|(_, shape)| elements(shape)).sum();
        let trained = self.layout.parameters() as u64;
        Header {
            model: last_part(&self.base_model()),
            base: self.config.model.base,
            trained_parameters: trained,
            parameters: frozen + trained,
            samples: self.samples.len() as u64,
            arrangement: self.arrangement,
            cache: self.cache.clone(),
            eval_samples: self.val.as_ref().map_or(0, |val| val.len() as u64),
            steps: self.total_steps,
            first_step: step + 1,
            micro_batch: self.config.train.micro_batch,
            accumulate: self.config.train.accumulate,
            seed: self.config.train.seed,
            run: self.run.path().to_path_buf(),
        }
    }

    fn base_model(&self) -> String {
        self.config
            .model
            .path
            .display()
            .to_string()
            .replace('\\', "/")
    }
}
