//! All that exact resume needs: adapter, moments, and how far the run is; each file with its hash. The order of samples and
//! the schedule are functions of the step, so the step is all of their state.

mod state;

use std::path::Path;

use burn::tensor::Tensor;
use vlft_base::output::{Existing, PartialDir, write_atomic};
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::{Checkpoint as TensorFile, Config as ModelConfig, Layout, Storage};
use vlft_model::{Adapters, read_adapter, tensor, tensors_to_bytes, write_adapter};

use crate::lock::Lock;
use crate::optim::{AdamW, Moments, State as ModuleState};
pub(crate) use state::{Examined, State, examine};

const OPTIMIZER_FILE: &str = "optimizer.safetensors";

/// What changes while training.
pub(crate) struct Progress {
    /// Finished optimiser steps.
    pub(crate) step: u64,
    pub(crate) adapters: Adapters,
    pub(crate) optimizer: AdamW,
}

impl Progress {
    /// Of a new run.
    pub(crate) fn new(adapters: Adapters) -> Self {
        Self {
            step: 0,
            optimizer: AdamW::new(&adapters),
            adapters,
        }
    }

    /// Writes a checkpoint folder as a whole: it is there with everything, or not at all.
    /// With the contract beside it, its adapter can be evaluated and served like a run's last one.
    pub(crate) fn save(
        &self,
        dir: &Path,
        layout: &Layout,
        base_model: &str,
        lock: &Lock,
    ) -> Result<()> {
        let partial = PartialDir::create(dir, Existing::Replace)?;
        write_adapter(partial.path(), layout, &self.adapters, base_model)?;
        lock.write(partial.path())?;

        let states = layout.modules.iter().zip(&self.optimizer.states);
        let moments = states.flat_map(|(module, state)| {
            [("lora_A", &state.a), ("lora_B", &state.b)]
                .into_iter()
                .flat_map(|(part, moments)| {
                    let name = format!("{}.{part}", module.name);
                    [
                        (format!("{name}.m"), moments.m.clone()),
                        (format!("{name}.v"), moments.v.clone()),
                    ]
                })
        });
        let bytes = tensors_to_bytes(moments.collect())?;
        write_atomic(&partial.path().join(OPTIMIZER_FILE), &bytes)?;

        let states = self.optimizer.states.iter();
        let updates = states.map(|state| state.updates).collect();
        State::seal(partial.path(), self.step, updates)?;
        partial.commit()
    }

    /// `state` is what [`examine`] found in `dir`: every file is as it was written.
    pub(crate) fn load(
        dir: &Path,
        state: State,
        layout: &Layout,
        model: &ModelConfig,
        device: &burn::tensor::Device,
    ) -> Result<Self> {
        let (found, adapters) = read_adapter(dir, model, device)?;
        if found != *layout || state.updates.len() != layout.modules.len() {
            return Err(Diagnostic::error("the checkpoint belongs to another run")
                .at(dir)
                .caused_by("its adapter covers other modules than the config")
                .hint("choose another `--out`, or throw this run away with `--force`"));
        }

        let file = TensorFile::open_file(&dir.join(OPTIMIZER_FILE))?;
        let moment = |name: String, like: &Tensor<2>| {
            tensor(&file, &name, like.dims(), Storage::F32, device)
        };
        let modules = layout
            .modules
            .iter()
            .zip(adapters.pairs())
            .zip(state.updates);
        let states = modules.map(|((module, pair), updates)| {
            let moments = |part: &str, like: &Tensor<2>| -> Result<Moments> {
                let name = format!("{}.{part}", module.name);
                Ok(Moments {
                    m: moment(format!("{name}.m"), like)?,
                    v: moment(format!("{name}.v"), like)?,
                })
            };
            Ok(ModuleState {
                updates,
                a: moments("lora_A", &pair.a)?,
                b: moments("lora_B", &pair.b)?,
            })
        });
        let optimizer = AdamW {
            states: states.collect::<Result<_>>()?,
        };
        Ok(Self {
            step: state.step,
            adapters,
            optimizer,
        })
    }
}
