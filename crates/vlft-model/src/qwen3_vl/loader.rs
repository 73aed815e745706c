//! Building the struct tree from a checkpoint: names are the tree's own paths, shapes come from the
//! config's list, adapters from the layout.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use burn::tensor::{DType, Device, Tensor};
use half::bf16;
use vlft_base::{Diagnostic, Kind, Result};
use vlft_checkpoint::{Checkpoint, Config, Layout, Storage};
use vlft_kernels::experts::Stack;
use vlft_kernels::grouped::Order;
use vlft_kernels::nf4::{Code, Nf4Matrix, quantize};

use crate::frozen::{Frozen, not_finite};
use crate::linear::{Linear, Weight, as_type};
use crate::nf4_cache::Cache;
use crate::quantized;
use crate::tensor::tensor;

pub(super) struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    shapes: HashMap<String, Vec<usize>>,
    adapters: HashMap<String, usize>,
    /// Of dense tensors.
    storage: Storage,
    frozen: &'a Frozen,
    cache: Option<Cache>,
    /// What was quantised here and is not in the cache yet.
    quantized: RefCell<Vec<(String, Nf4Matrix)>>,
    device: &'a Device,
    /// Sent to the device since it was last waited for.
    in_flight: Cell<usize>,
}

/// Elements that may be on their way to a GPU: it takes them more slowly than a warm file is read, and what
/// waits is in the host's memory.
const IN_FLIGHT: usize = 1 << 29;

impl<'a> Loader<'a> {
    /// Checks every name and shape first, so that a wrong checkpoint fails before it is read.
    pub(super) fn new(
        checkpoint: &'a Checkpoint,
        config: &Config,
        layout: Option<&Layout>,
        frozen: &'a Frozen,
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
        // What is quantised already is taken as it is, with whatever its maker left dense.
        let quantization = frozen.quantization.as_ref();
        let quantization =
            quantization.filter(|q| !checkpoint.is_quantized() && !q.parts.is_empty());
        let cache = match quantization.and_then(|q| Some((q, q.cache.as_deref()?))) {
            None => None,
            Some((quantization, dir)) => Some(Cache::open(dir, checkpoint, quantization)?),
        };
        Ok(Self {
            checkpoint,
            shapes: expected.into_iter().collect(),
            adapters,
            storage: match quantization {
                Some(_) => Storage::Bf16,
                None => frozen.storage,
            },
            frozen,
            cache,
            quantized: RefCell::default(),
            device,
            in_flight: Cell::new(0),
        })
    }

    /// Keeps what was quantised in the cache, if there is one and it was empty. Returns what a
    /// person should know.
    pub(super) fn finish(self) -> Result<Vec<Diagnostic>> {
        self.arrived()?;
        let Some(cache) = self.cache else {
            return Ok(Vec::new());
        };
        if cache.found.is_none() {
            cache.keep(&self.quantized.borrow())?;
        }
        Ok(cache.warning.into_iter().collect())
    }

    /// A vector: a norm's weight or a bias.
    pub(super) fn vector(&self, name: &str) -> Result<Tensor<1>> {
        let size = self.shape(name)?.iter().product();
        tensor(self.checkpoint, name, [size], self.storage, self.device)
    }

    /// A matrix `[out, in]`; further axes (the patch convolution's) are flattened into `in`.
    pub(super) fn matrix(&self, name: &str) -> Result<Weight> {
        let shape = self.shape(name)?;
        let shape = [shape[0], shape[1..].iter().product()];
        let weight = self.loaded_matrix(name, shape)?;
        self.sent(shape[0] * shape[1])?;
        Ok(weight)
    }

    /// Waits for the device when much is on its way.
    fn sent(&self, elements: usize) -> Result<()> {
        self.in_flight.set(self.in_flight.get() + elements);
        match self.in_flight.get() < IN_FLIGHT {
            true => Ok(()),
            false => self.arrived(),
        }
    }

    /// All that was sent has arrived.
    fn arrived(&self) -> Result<()> {
        self.in_flight.set(0);
        self.device.sync().map_err(|error| {
            Diagnostic::error("the model does not get onto the GPU")
                .with_kind(Kind::Device)
                .caused_by(error)
                .hint("`vlft plan` says what it needs; `model.base = \"nf4\"` needs a quarter")
        })
    }

    fn loaded_matrix(&self, name: &str, shape: [usize; 2]) -> Result<Weight> {
        if let Some(matrix) = quantized::load(self.checkpoint, name, self.device)? {
            return Ok(match (&self.frozen.quantization, self.storage) {
                (Some(_), _) => Weight::Nf4(matrix),
                (None, Storage::Bf16) => Weight::Dense(as_type(matrix.matrix(), DType::BF16)),
                (None, _) => Weight::Dense(matrix.matrix()),
            });
        }
        if !self.checkpoint.is_quantized() && self.frozen.quantizes(name) {
            return Ok(Weight::Nf4(self.quantize(name, shape, None)?));
        }
        let (storage, device) = (self.storage, self.device);
        Ok(Weight::Dense(tensor(
            self.checkpoint,
            name,
            shape,
            storage,
            device,
        )?))
    }

    /// The matrices of all experts, as the checkpoint has them: published ones lie `[experts, in, out]`,
    /// those that transformers 5 saved `[experts, out, in]`. Quantised here they are packed as
    /// bitsandbytes does it with transformers' module: in one piece, `[experts, out, in]`.
    pub(super) fn stack(&self, name: &str) -> Result<Stack> {
        let [experts, inputs, outputs] = self.shape(name)?[..] else {
            return Err(not_listed(name));
        };
        self.sent(experts * inputs * outputs)?;
        let found = self.checkpoint.shape(name);
        // As transformers decides it, also where both are the same.
        let order = match found == Some(&[experts, outputs, inputs][..]) {
            true => Order::OutIn,
            false => Order::InOut,
        };
        let stored = match order {
            Order::OutIn => [experts, outputs, inputs],
            Order::InOut => [experts, inputs, outputs],
        };
        if let Some(matrices) = quantized::load(self.checkpoint, name, self.device)? {
            let dense = || matrices.matrix().reshape(stored);
            return Ok(match (&self.frozen.quantization, self.storage) {
                (Some(_), _) => Stack::Nf4(matrices, order),
                (None, Storage::Bf16) => Stack::Dense(as_type(dense(), DType::BF16), order),
                (None, _) => Stack::Dense(dense(), order),
            });
        }
        if !self.checkpoint.is_quantized() && self.frozen.quantizes(name) {
            let turn = (order == Order::InOut).then_some([inputs, outputs]);
            let packed = self.quantize(name, [experts * outputs, inputs], turn)?;
            return Ok(Stack::Nf4(packed, Order::OutIn));
        }
        let matrices = tensor(self.checkpoint, name, stored, self.storage, self.device)?;
        Ok(Stack::Dense(matrices, order))
    }

    /// From the cache, or now: on the host at once, one matrix (or stack) at a time. `turn`:
    /// the matrices of a stack lie so in the file, and are transposed first.
    fn quantize(
        &self,
        name: &str,
        shape: [usize; 2],
        turn: Option<[usize; 2]>,
    ) -> Result<Nf4Matrix> {
        let cached = self.cache.as_ref().and_then(|cache| cache.found.as_ref());
        if let Some(cached) = cached
            && cached.shape(name) == Some(&shape)
            && let Some(matrix) = quantized::load(cached, name, self.device)?
        {
            return Ok(matrix);
        }
        let mut values = self.checkpoint.values(name)?;
        self.checkpoint.release(name);
        if let Some([rows, columns]) = turn {
            values = transposed(&values, rows, columns);
        }
        for value in &mut values {
            *value = bf16::from_f32(*value).to_f32();
        }
        let double = self
            .frozen
            .quantization
            .as_ref()
            .is_some_and(|q| q.double_quant);
        let packed = quantize(&values, double)
            .ok_or_else(|| not_finite(name, self.checkpoint.file_of(name)))?;
        let matrix = Nf4Matrix::new(packed, &Code::default(), shape, self.device);
        if self.cache.is_some() {
            self.quantized
                .borrow_mut()
                .push((name.to_string(), matrix.clone()));
        }
        Ok(matrix)
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
        let shape = self.shapes.get(name).map(Vec::as_slice);
        shape.ok_or_else(|| not_listed(name))
    }
}

fn not_listed(name: &str) -> Diagnostic {
    Diagnostic::error(format!(
        "the model has no tensor `{name}`; this is a bug of vlft"
    ))
}

/// Matrices `[rows, columns]` one after the other, each transposed.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0f32; values.len()];
    let matrices = values.chunks_exact(rows * columns);
    for (matrix, out) in matrices.zip(out.chunks_exact_mut(rows * columns)) {
        for (j, out) in out.chunks_exact_mut(rows).enumerate() {
            for (i, out) in out.iter_mut().enumerate() {
                *out = matrix[i * columns + j];
            }
        }
    }
    out
}
