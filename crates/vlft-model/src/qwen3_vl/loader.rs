//! Building the struct tree from a checkpoint: names are the tree's own paths, shapes come from the
//! config's list, adapters from the layout.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor};
use vlft_base::{Diagnostic, Result};

use super::Config;
use crate::checkpoint::{Checkpoint, Storage};
use crate::linear::{Linear, Weight};
use crate::lora::Layout;

pub(super) struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    shapes: HashMap<String, Vec<usize>>,
    adapters: HashMap<String, usize>,
    storage: Storage,
    device: &'a Device,
}

impl<'a> Loader<'a> {
    /// Checks every name and shape first, so that a wrong checkpoint fails before it is read.
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        config: &Config,
        layout: Option<&Layout>,
        storage: Storage,
        device: &'a Device,
    ) -> Result<Self> {
        let expected = config.tensors();
        checkpoint.check(&expected)?;
        let modules = layout
            .map(|layout| layout.modules.as_slice())
            .unwrap_or_default();
        let adapters = modules
            .iter()
            .enumerate()
            .map(|(i, m)| (m.name.clone(), i))
            .collect();
        Ok(Self {
            checkpoint,
            shapes: expected.into_iter().collect(),
            adapters,
            storage,
            device,
        })
    }

    /// A vector: a norm's weight or a bias.
    pub(super) fn vector(&self, name: &str) -> Result<Tensor<1>> {
        let size = self.shape(name)?.iter().product();
        self.checkpoint
            .tensor(name, [size], self.storage, self.device)
    }

    /// A matrix `[out, in]`; further axes (the patch convolution's) are flattened into `in`.
    pub(super) fn matrix(&self, name: &str) -> Result<Weight> {
        let shape = self.shape(name)?;
        let shape = [shape[0], shape[1..].iter().product()];
        Ok(Weight::Dense(self.checkpoint.tensor(
            name,
            shape,
            self.storage,
            self.device,
        )?))
    }

    /// The linear layer at `path`, with its bias if the model has one there, and its adapter.
    pub(super) fn linear(&self, path: &str) -> Result<Linear> {
        let bias = format!("{path}.bias");
        Ok(Linear {
            weight: self.matrix(&format!("{path}.weight"))?,
            bias: self
                .shapes
                .contains_key(&bias)
                .then(|| self.vector(&bias))
                .transpose()?,
            adapter: self.adapters.get(path).copied(),
        })
    }

    fn shape(&self, name: &str) -> Result<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice).ok_or_else(|| {
            Diagnostic::error(format!(
                "the model has no tensor `{name}`; this is a bug of vlft"
            ))
        })
    }
}
