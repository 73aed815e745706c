//! All that exact resume needs: adapter, moments, and how far the run is. The order of samples and
//! the schedule are functions of the step, so the step is all of their state.

use std::fs;
use std::path::Path;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use vlft_base::output::{Existing, PartialDir, write_atomic};
use vlft_base::{Diagnostic, Result};
use vlft_model::{
    Adapters, Checkpoint as TensorFile, Config as ModelConfig, Layout, Storage, read_adapter,
    tensors_to_bytes, write_adapter,
};

use crate::optim::{AdamW, Moments, State};

const VERSION: u32 = 1;
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const STATE_FILE: &str = "state.json";

/// What changes while training.
pub(crate) struct Progress {
    /// Finished optimiser steps.
    pub(crate) step: u64,
    pub(crate) adapters: Adapters,
    pub(crate) optimizer: AdamW,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    version: u32,
    step: u64,
    /// Updates of each adapted module, in layout order.
    updates: Vec<u64>,
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
    pub(crate) fn save(&self, dir: &Path, layout: &Layout, base_model: &str) -> Result<()> {
        let partial = PartialDir::create(dir, Existing::Replace)?;
        write_adapter(partial.path(), layout, &self.adapters, base_model)?;

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

        let updates = self
            .optimizer
            .states
            .iter()
            .map(|state| state.updates)
            .collect();
        let state = StateFile {
            version: VERSION,
            step: self.step,
            updates,
        };
        let text = serde_json::to_string(&state).expect("plain numbers");
        write_atomic(&partial.path().join(STATE_FILE), text.as_bytes())?;
        partial.commit()
    }

    pub(crate) fn load(
        dir: &Path,
        layout: &Layout,
        model: &ModelConfig,
        device: &burn::tensor::Device,
    ) -> Result<Self> {
        let damaged = |cause: String| {
            Diagnostic::error("cannot read the checkpoint")
                .at(dir)
                .caused_by(cause)
                .hint("delete this folder; the same command then resumes from the one before")
        };
        let text = fs::read_to_string(dir.join(STATE_FILE)).map_err(|e| damaged(e.to_string()))?;
        let state: StateFile = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
        let (found, adapters) = read_adapter(dir, model, device)?;
        let modules = layout.modules.len();
        if state.version != VERSION || found != *layout || state.updates.len() != modules {
            return Err(damaged(
                "it belongs to another run or another version".into(),
            ));
        }

        let file = TensorFile::open_file(&dir.join(OPTIMIZER_FILE))?;
        let moment =
            |name: String, like: &Tensor<2>| file.tensor(&name, like.dims(), Storage::F32, device);
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
            Ok(State {
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
