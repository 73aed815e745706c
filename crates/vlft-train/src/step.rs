//! One optimiser step's worth of forward and backward passes.

use vlft_base::Result;
use vlft_model::{AdapterGradients, Adapters, Qwen3Vl};

use crate::config::{LossAverage, TrainConfig};
use crate::samples::Samples;

/// Loss and gradients of one step, averaged as the config says.
pub(crate) struct StepOutcome {
    pub(crate) loss: f64,
    pub(crate) gradients: AdapterGradients,
    pub(crate) tokens: u64,
    pub(crate) supervised_tokens: u64,
}

/// Runs the micro-batches of a step one after the other and adds their gradients up.
///
/// With `token` the sum over all supervised tokens of the step is divided by their number at the
/// end; with `micro_batch` each micro-batch's own mean counts the same, as in the HF Trainer.
pub(crate) fn accumulate(
    config: &TrainConfig,
    model: &Qwen3Vl,
    adapters: &Adapters,
    samples: &Samples,
    micro_batches: &[Vec<usize>],
) -> Result<StepOutcome> {
    let count = micro_batches.len() as f64;
    let mut gradients = AdapterGradients::new(adapters.pairs().len());
    let (mut loss, mut tokens, mut supervised_tokens) = (0.0, 0, 0);
    for indices in micro_batches {
        let batch = samples.batch(indices)?;
        let targets = batch.targets.ids.len() as f64;
        let scale = match config.loss_average {
            LossAverage::Token => 1.0,
            LossAverage::MicroBatch => 1.0 / (targets * count),
        };
        let nll = model.nll_and_gradients(
            &batch.inputs,
            &batch.targets,
            adapters,
            scale,
            config.gradient_checkpointing,
            &mut gradients,
        );
        // In f64 and in order: the same bits every time.
        loss += nll.iter().map(|x| f64::from(*x)).sum::<f64>() * scale;
        tokens += batch.tokens as u64;
        supervised_tokens += nll.len() as u64;
    }
    if config.loss_average == LossAverage::Token {
        let mean = 1.0 / supervised_tokens as f64;
        loss *= mean;
        gradients = gradients.scaled(mean);
    }
    Ok(StepOutcome {
        loss,
        gradients,
        tokens,
        supervised_tokens,
    })
}
