//! What a merge takes from an adapter that was trained on a 4-bit base: the adapter made up for the
//! errors of those four bits, and in the 16-bit model there are none to make up for. Usually that is
//! little; here it is measured, on a few records, instead of believed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Tensor;
use vlft_base::digest::sha256_file;
use vlft_base::output::cannot;
use vlft_base::{Diagnostic, Kind, Result};
use vlft_checkpoint::merge::QuantizedDifference;
use vlft_checkpoint::{Checkpoint, Config as ModelConfig};
use vlft_model::{Adapters, Frozen, Head, Qwen3Vl, read_adapter};
use vlft_processor::processor::Processor;

use crate::config::Base;
use crate::device::Device;
use crate::eval::Event;
use crate::lock;
use crate::samples::{Limit, Samples};

/// What is compared, and on what.
#[derive(Clone, Debug)]
pub struct Options {
    /// The model that the adapter was trained on; what of it is in four bits, it or the adapter's
    /// `preprocess.lock.json` says.
    pub model: PathBuf,
    pub adapter: PathBuf,
    pub data: PathBuf,
    /// How many of its records, from the first on.
    pub records: usize,
    pub device: Device,
}

/// What base and adapter say of the records, waiting for the merged model.
pub struct Trained {
    samples: Samples,
    records: usize,
    data: PathBuf,
    device: burn::tensor::Device,
    double_quant: Option<bool>,
    head: Head,
    /// Of each record.
    states: Vec<Tensor<2>>,
    nll: Vec<f32>,
}

/// Rows whose logits are held at a time.
const ROWS: usize = 64;

impl Trained {
    /// Runs base and adapter as they were trained.
    ///
    /// # Errors
    /// Nothing of the base was in four bits, or something cannot be read.
    pub fn run(options: &Options, observe: &mut dyn FnMut(Event)) -> Result<Self> {
        let device = options.device.open()?;
        let config = ModelConfig::from_dir(&options.model)?;
        let checkpoint = Checkpoint::open(&options.model)?;
        checkpoint.check(&config.tensors())?;
        let locked = lock::read(&options.adapter)?;
        let was_nf4 = locked.as_ref().is_some_and(|lock| lock.base == Base::Nf4);
        if !was_nf4 && !checkpoint.is_quantized() {
            return Err(Diagnostic::error(
                "there is no 4-bit base to compare the merged model with",
            )
            .at(&options.adapter)
            .expected("an adapter whose `preprocess.lock.json` says `nf4`, or a quantised `--model`")
            .hint("leave `--data` out; or name the quantised model with `--model` and the 16-bit one with `--into`"));
        }
        if locked.is_none() {
            observe(Event::Warning(lock::absent(&options.adapter)));
        }
        let limits = lock::limits(locked.as_ref(), None, None);
        let processor = Arc::new(Processor::from_dir(&options.model, &limits)?);
        for warning in lock::warnings(locked.as_ref(), &processor) {
            observe(Event::Warning(warning));
        }
        let (samples, _) = Samples::open(&options.data, &processor, &config, Limit::NONE)?;
        let (layout, adapters) = read_adapter(&options.adapter, &config, &device)?;
        let frozen = lock::frozen(locked.as_ref(), None);
        let model = Qwen3Vl::load(&config, &checkpoint, Some(&layout), frozen, &device)?;
        let mut trained = Self {
            records: options.records.min(samples.len()),
            samples,
            data: options.data.clone(),
            device,
            double_quant: model.double_quant(),
            head: model.head_alone(),
            states: Vec::new(),
            nll: Vec::new(),
        };
        trained.each(&model, &adapters, 0, observe, |trained, states, ids| {
            trained.nll.extend(trained.head.nll(states.clone(), ids));
            trained.states.push(states);
        })?;
        Ok(trained)
    }

    /// Runs the merged model on the same records.
    ///
    /// # Errors
    /// It cannot be read, or a loss is no number.
    pub fn compare(
        mut self,
        merged: &Path,
        observe: &mut dyn FnMut(Event),
    ) -> Result<QuantizedDifference> {
        let config = ModelConfig::from_dir(merged)?;
        let checkpoint = Checkpoint::open(merged)?;
        let model = Qwen3Vl::load(
            &config,
            &checkpoint,
            None,
            Frozen::as_stored(),
            &self.device,
        )?;
        let head = model.head_alone();
        let mut found = Sums::default();
        let mut before = std::mem::take(&mut self.states).into_iter();
        let done = self.records as u64;
        self.each(
            &model,
            &Adapters::none(),
            done,
            observe,
            |trained, after, ids| {
                let before = before.next().expect("the same records as before");
                found.nll.extend(head.nll(after.clone(), ids));
                for start in (0..ids.len()).step_by(ROWS) {
                    let rows = start..ids.len().min(start + ROWS);
                    let logits = |head: &Head, states: &Tensor<2>| {
                        head.logits(states.clone().slice([rows.clone()]))
                    };
                    found.add(&logits(&trained.head, &before), &logits(&head, &after));
                }
            },
        )?;
        let sha256 = sha256_file(&self.data).map_err(|e| cannot("read", &self.data, e))?;
        let mean = |nll: &[f32]| nll.iter().map(|x| f64::from(*x)).sum::<f64>() / nll.len() as f64;
        let difference = QuantizedDifference {
            data: self.data.display().to_string(),
            data_sha256: sha256,
            records: self.records as u64,
            tokens: found.nll.len() as u64,
            double_quant: self.double_quant,
            max_logit_difference: found.max,
            mean_logit_difference: found.sum / found.count as f64,
            other_predictions: found.other_predictions,
            loss_before: mean(&self.nll),
            loss_after: mean(&found.nll),
        };
        match difference.loss_before.is_finite() && difference.loss_after.is_finite() {
            true => Ok(difference),
            false => Err(Diagnostic::error("a loss is no number")
                .with_kind(Kind::Verdict)
                .expected(format!("{} before the merge", difference.loss_before))
                .found(format!("{} after it", difference.loss_after))
                .hint("weights or adapter hold values that are not numbers")),
        }
    }

    /// Hands over the states of each record and the tokens that they should predict.
    fn each(
        &mut self,
        model: &Qwen3Vl,
        adapters: &Adapters,
        done: u64,
        observe: &mut dyn FnMut(Event),
        mut f: impl FnMut(&mut Self, Tensor<2>, &[i32]),
    ) -> Result<()> {
        for index in 0..self.records {
            let batch = self.samples.batch(&[index])?;
            let states = model.target_states(&batch.inputs, &batch.targets, adapters);
            f(self, states, &batch.targets.ids);
            observe(Event::Progress {
                done: done + index as u64 + 1,
                of: 2 * self.records as u64,
            });
        }
        Ok(())
    }
}

#[derive(Default)]
struct Sums {
    max: f32,
    sum: f64,
    count: u64,
    other_predictions: u64,
    nll: Vec<f32>,
}

impl Sums {
    /// Logits of the same rows, `[n, V]`.
    fn add(&mut self, before: &Tensor<2>, after: &Tensor<2>) {
        let width = before.dims()[1];
        let values = |t: &Tensor<2>| t.to_data().iter::<f32>().collect::<Vec<f32>>();
        let (before, after) = (values(before), values(after));
        for (before, after) in before.chunks(width).zip(after.chunks(width)) {
            for (before, after) in before.iter().zip(after) {
                let difference = (before - after).abs();
                self.max = self.max.max(difference);
                self.sum += f64::from(difference);
            }
            self.count += width as u64;
            self.other_predictions += u64::from(likeliest(before) != likeliest(after));
        }
    }
}

/// The first of the largest.
fn likeliest(logits: &[f32]) -> usize {
    let better = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).fold(0, better)
}

#[cfg(test)]
mod tests;
