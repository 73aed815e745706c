//! AdamW as torch computes it, over the flat list of adapter matrices, and clipping by the global
//! norm. Moments are f32 like the adapters.

use burn::tensor::{DType, Device, Tensor, TensorData};
use vlft_kernels::adamw;
use vlft_kernels::profile::{Family, span};
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
        let _span = span(Family::Optimizer);
        let states = self.states.iter_mut();
        let mut modules = states.zip(gradients.pairs()).zip(rates);
        adapters.update(|pair| {
            let module = modules.next();
            let ((state, gradient), rates) = module.expect("a state for every module");
            let Some(gradient) = gradient else {
                return pair;
            };
            state.updates += 1;
            let update = |rate: f64| Update {
                config,
                learning_rate: learning_rate * rate,
                number: state.updates,
                factor: gradients.factor(),
            };
            let (a, b) = (update(rates.a), update(rates.b));
            Pair {
                a: a.apply(pair.a, gradient.a.clone(), &mut state.a),
                b: b.apply(pair.b, gradient.b.clone(), &mut state.b),
            }
        });
    }
}

struct Update<'a> {
    config: &'a TrainConfig,
    learning_rate: f64,
    /// 1 for a matrix's first update.
    number: u64,
    /// Of the gradient; 1 on the CPU.
    factor: f64,
}

impl Update<'_> {
    /// `p -= lr wd p; m, v as usual; p -= lr/(1-b1^t) m / (sqrt(v)/sqrt(1-b2^t) + eps)`, in
    /// torch's order of operations.
    fn apply(&self, p: Tensor<2>, gradient: Tensor<2>, moments: &mut Moments) -> Tensor<2> {
        if adamw::has_kernel(&p) {
            return self.apply_on_gpu(p, gradient, moments);
        }
        let on_host = p.device() == Device::flex() && p.dtype() == DType::F32;
        match on_host && gradient.dtype() == DType::F32 {
            true => self.apply_on_host(p, gradient, moments),
            false => self.apply_by_tensors(p, gradient, moments),
        }
    }

    /// One pass over the matrix and its moments, in place.
    fn apply_on_gpu(&self, p: Tensor<2>, gradient: Tensor<2>, moments: &mut Moments) -> Tensor<2> {
        let [beta1, beta2] = self.config.betas;
        let update = adamw::Update {
            betas: [beta1 as f32, beta2 as f32],
            rests: [(1.0 - beta1) as f32, (1.0 - beta2) as f32],
            decay: (1.0 - self.learning_rate * self.config.weight_decay) as f32,
            step_size: self.step_size() as f32,
            correction: self.correction() as f32,
            eps: self.config.eps as f32,
            factor: self.factor as f32,
        };
        // Taken out, not cloned: a buffer with one owner is changed where it is.
        let m = std::mem::replace(&mut moments.m, gradient.clone());
        let v = std::mem::replace(&mut moments.v, gradient.clone());
        let [p, m, v] = adamw::update([p, m, v], gradient, update);
        *moments = Moments { m, v };
        p
    }

    /// One pass over the values, the moments in place: the same operations on each value in the
    /// same order as [`Self::apply_by_tensors`], so the same bits.
    fn apply_on_host(&self, p: Tensor<2>, gradient: Tensor<2>, moments: &mut Moments) -> Tensor<2> {
        let [beta1, beta2] = self.config.betas.map(|beta| beta as f32);
        let [rest1, rest2] = self.config.betas.map(|beta| (1.0 - beta) as f32);
        let decay = (1.0 - self.learning_rate * self.config.weight_decay) as f32;
        let (step_size, correction) = (self.step_size() as f32, self.correction() as f32);
        let eps = self.config.eps as f32;

        let (shape, device) = (p.dims(), p.device());
        let gradient = values(gradient);
        let mut p = values(p);
        let [mut m, mut v] = [&mut moments.m, &mut moments.v].map(|moment| {
            // Taken out, not cloned: a buffer with one owner is changed where it is.
            values(std::mem::replace(moment, Tensor::empty([0, 0], &device)))
        });
        for (((p, g), m), v) in p.iter_mut().zip(gradient).zip(&mut m).zip(&mut v) {
            *m = *m * beta1 + g * rest1;
            *v = *v * beta2 + g * g * rest2;
            let denominator = v.sqrt() / correction + eps;
            *p = *p * decay - *m / denominator * step_size;
        }
        let tensor = |values| Tensor::from_data(TensorData::new(values, shape), &device);
        *moments = Moments {
            m: tensor(m),
            v: tensor(v),
        };
        tensor(p)
    }

    /// The definition, on any device.
    fn apply_by_tensors(
        &self,
        p: Tensor<2>,
        gradient: Tensor<2>,
        moments: &mut Moments,
    ) -> Tensor<2> {
        let [beta1, beta2] = self.config.betas;
        let gradient = gradient * self.factor;
        let p = p * (1.0 - self.learning_rate * self.config.weight_decay);

        moments.m = moments.m.clone() * beta1 + gradient.clone() * (1.0 - beta1);
        let square = gradient.clone() * gradient;
        moments.v = moments.v.clone() * beta2 + square * (1.0 - beta2);

        let denominator = moments.v.clone().sqrt() / self.correction() + self.config.eps;
        p - moments.m.clone() / denominator * self.step_size()
    }

    fn step_size(&self) -> f64 {
        self.learning_rate / (1.0 - self.config.betas[0].powf(self.number as f64))
    }

    /// Of the second moment's root.
    fn correction(&self) -> f64 {
        (1.0 - self.config.betas[1].powf(self.number as f64)).sqrt()
    }
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    let data = tensor.into_data();
    data.try_into_vec().expect("the caller looked at the type")
}

/// Scales all gradients so that their norm is at most `max_norm`; 0 means off.
pub(crate) fn clip(gradients: AdapterGradients, norm: f64, max_norm: f64) -> AdapterGradients {
    let _span = span(Family::Optimizer);
    // torch's own guard against dividing by zero.
    let factor = max_norm / (norm + 1e-6);
    if max_norm > 0.0 && factor < 1.0 {
        gradients.scaled(factor)
    } else {
        gradients
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Distribution;

    use super::*;

    #[test]
    fn the_host_loop_gives_the_same_bits_as_the_tensor_operations() {
        let device = Device::flex();
        let random = |std| Tensor::<2>::random([9, 31], Distribution::Normal(0.0, std), &device);
        let config = TrainConfig {
            weight_decay: 0.01,
            ..TrainConfig::default()
        };
        let start = Moments {
            m: random(0.1),
            v: random(0.1).abs(),
        };
        let (mut fast, mut slow) = (start.clone(), start);
        let first = random(1.0);
        let mut p = [first.clone(), first];
        for number in 1..=5 {
            let update = Update {
                config: &config,
                learning_rate: 1e-3,
                number,
                factor: 1.0,
            };
            let gradient = random(0.3);
            let [fast_p, slow_p] = p;
            p = [
                update.apply_on_host(fast_p, gradient.clone(), &mut fast),
                update.apply_by_tensors(slow_p, gradient, &mut slow),
            ];
            let pairs = [(&p[0], &p[1]), (&fast.m, &slow.m), (&fast.v, &slow.v)];
            for (fast, slow) in pairs {
                fast.to_data().assert_eq(&slow.to_data(), true);
            }
        }
    }
}
