//! One optimiser step's worth of forward and backward passes.

use std::time::Duration;

use vlft_base::{Diagnostic, Result};
use vlft_model::lora::Dropout;
use vlft_model::{AdapterGradients, Adapters, Awaited, Neftune, Qwen3Vl};

use crate::config::{Config, LossAverage, OnError};
use crate::loading::{Failed, Stream};

/// Loss and gradients of one step, averaged as the config says.
pub(crate) struct StepOutcome {
    pub(crate) loss: f64,
    /// Of all gradients together.
    pub(crate) grad_norm: f64,
    pub(crate) gradients: AdapterGradients,
    pub(crate) tokens: u64,
    pub(crate) padding_tokens: u64,
    pub(crate) supervised_tokens: u64,
    /// Records that the step went on without, because the config says so.
    pub(crate) failed: Vec<Failed>,
    /// Spent waiting for data.
    pub(crate) waited: Duration,
}

/// Runs the next `count` micro-batches one after the other and adds their gradients up. The first
/// is forward pass number `first_pass` of the run: dropout and noise are a function of it.
///
/// With `token` the weighted sum over all supervised tokens of the step is divided by the sum of
/// their weights. With `micro_batch` each micro-batch's own mean counts the same, as in the HF
/// Trainer; with weights it counts as much as the mean weight of its tokens, so that a weight means
/// something also where every micro-batch is one record.
pub(crate) fn accumulate(
    config: &Config,
    model: &Qwen3Vl,
    adapters: &Adapters,
    micro_batches: &mut Stream,
    count: usize,
    first_pass: u64,
) -> Result<StepOutcome> {
    let Config { lora, train, .. } = config;
    let seed = train.seed;
    let mut gradients = AdapterGradients::new(adapters.pairs().len());
    let (mut loss, mut weight, mut tokens, mut supervised_tokens) = (0.0, 0.0, 0, 0);
    let (mut padding_tokens, mut waited, mut failed) = (0, Duration::ZERO, Vec::new());
    let (mut computing, mut answers) = (Vec::new(), Vec::new());
    for (pass, loaded) in (first_pass..).zip(micro_batches.take(count)) {
        waited += loaded.waited;
        failed.extend(loaded.failed);
        if config.data.on_error == OnError::Error && !failed.is_empty() {
            break;
        }
        // A micro-batch that lost all its records keeps its place among the others.
        let Some(mut batch) = loaded.batch else {
            continue;
        };
        tokens += batch.tokens as u64;
        padding_tokens += batch.padding() as u64;
        let adapters = adapters.with_dropout(Dropout {
            probability: lora.dropout,
            seed,
            pass,
        });
        batch.inputs.neftune = (train.neftune_alpha > 0.0).then_some(Neftune {
            alpha: train.neftune_alpha,
            seed,
            pass,
        });
        let targets = batch.targets;
        let scale = match train.loss_average {
            LossAverage::Token => 1.0,
            LossAverage::MicroBatch => 1.0 / targets.ids.len() as f64,
        };
        let nll = model.nll_and_gradients(
            &batch.inputs,
            &targets,
            &adapters,
            scale,
            train.checkpointing(),
            &mut gradients,
        )?;
        weight += targets.weight() * scale;
        supervised_tokens += targets.ids.len() as u64;
        computing.push(nll);
        answers.push((targets, scale));
    }
    // A GPU is waited for once, when everything has been asked of it.
    computing.extend(gradients.squares());
    let computed = Awaited::values_of(computing)?;
    for (nll, (targets, scale)) in computed.iter().zip(&answers) {
        loss += targets.weighted_sum(nll) * scale;
    }
    let squares = computed.get(answers.len()).map(Vec::as_slice);
    let stops = config.data.on_error == OnError::Error || supervised_tokens == 0;
    if stops && let Some(error) = Diagnostic::all(failed.iter().map(|f| f.error.clone())) {
        return Err(error);
    }
    if supervised_tokens == 0 {
        return Err(
            Diagnostic::error("every record of the step is in the list of skipped ones")
                .hint("mend them, and remove their lines from `skipped.jsonl`"),
        );
    }
    // Not 0: records of weight 0 are left out, and every record has a supervised token.
    let mean = 1.0 / weight;
    let gradients = gradients.scaled(mean);
    Ok(StepOutcome {
        loss: loss * mean,
        grad_norm: gradients.norm(squares),
        gradients,
        tokens,
        padding_tokens,
        supervised_tokens,
        failed,
        waited,
    })
}
