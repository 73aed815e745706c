//! AdamW as torch computes it, over the flat list of adapter matrices, and clipping by the global
//! norm. Moments are f32 like the adapters.

use burn::tensor::Tensor;
use vlft_model::lora::Pair;
use vlft_model::{AdapterGradients, Adapters};

use crate::config::TrainConfig;
use crate::rates::Rates;

/// First and second moment of one matrix.
#[derive(Clone)]
pub(crate) struct Moments {
    pub(crate) m: Tensor<2>,
    pub(crate) v: Tensor<2>,
}

/// State of one adapted module.
#[derive(Clone)]
pub(crate) struct State {
    /// Updates so far; torch counts per parameter, and a module without a gradient sits out.
    pub(crate) updates: u64,
    pub(crate) a: Moments,
    pub(crate) b: Moments,
}

pub(crate) struct AdamW {
    pub(crate) states: Vec<State>,
}

impl AdamW {
    /// All moments zero.
    pub(crate) fn new(adapters: &Adapters) -> Self {
        let zeros = |x: &Tensor<2>| Moments {
            m: x.zeros_like(),
            v: x.zeros_like(),
        };
        let state = |pair: &Pair| State {
            updates: 0,
            a: zeros(&pair.a),
            b: zeros(&pair.b),
        };
        Self {
            states: adapters.pairs().iter().map(state).collect(),
        }
    }

    /// One update of every module that has a gradient.
    pub(crate) fn step(
        &mut self,
        config: &TrainConfig,
        learning_rate: f64,
        rates: &[Rates],
        adapters: &mut Adapters,
        gradients: &AdapterGradients,
    ) {
        let mut pairs = adapters.pairs().to_vec();
        for (((pair, state), gradient), rates) in pairs
            .iter_mut()
            .zip(&mut self.states)
            .zip(gradients.pairs())
            .zip(rates)
        {
            let Some(gradient) = gradient else { continue };
            state.updates += 1;
            let update = |rate: f64| Update {
                config,
                learning_rate: learning_rate * rate,
                number: state.updates,
            };
            let (a, b) = (update(rates.a), update(rates.b));
            pair.a = a.apply(pair.a.clone(), gradient.a.clone(), &mut state.a);
            pair.b = b.apply(pair.b.clone(), gradient.b.clone(), &mut state.b);
        }
        adapters.set_pairs(pairs);
    }
}

struct Update<'a> {
    config: &'a TrainConfig,
    learning_rate: f64,
    /// 1 for a matrix's first update.
    number: u64,
}

impl Update<'_> {
    /// `p -= lr wd p; m, v as usual; p -= lr/(1-b1^t) m / (sqrt(v)/sqrt(1-b2^t) + eps)`, in
    /// torch's order of operations.
    fn apply(&self, p: Tensor<2>, gradient: Tensor<2>, moments: &mut Moments) -> Tensor<2> {
        let [beta1, beta2] = self.config.betas;
        let number = self.number as f64;
        let p = p * (1.0 - self.learning_rate * self.config.weight_decay);

        moments.m = moments.m.clone() * beta1 + gradient.clone() * (1.0 - beta1);
        let square = gradient.clone() * gradient;
        moments.v = moments.v.clone() * beta2 + square * (1.0 - beta2);

        let step_size = self.learning_rate / (1.0 - beta1.powf(number));
        let correction = (1.0 - beta2.powf(number)).sqrt();
        let denominator = moments.v.clone().sqrt() / correction + self.config.eps;
        p - moments.m.clone() / denominator * step_size
    }
}

/// Scales all gradients so that their norm is at most `max_norm`; 0 means off.
pub(crate) fn clip(gradients: AdapterGradients, norm: f64, max_norm: f64) -> AdapterGradients {
    // torch's own guard against dividing by zero.
    let factor = max_norm / (norm + 1e-6);
    if max_norm > 0.0 && factor < 1.0 {
        gradients.scaled(factor)
    } else {
        gradients
    }
}
