//! LoRA: which modules are adapted, and the flat list of adapter matrices that training owns.
//!
//! The frozen model never holds trainable tensors. It gets [`Adapters`] with each call, so the
//! trainer can pass them tracked by autodiff, untracked, or only some of them tracked.

use std::ops::Range;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand::distr::{Distribution, Uniform};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vlft_base::{Diagnostic, Result, did_you_mean, one_of};
use vlft_kernels::linear::add_low_rank;
use vlft_kernels::reduce::sum_of_squares;

use crate::qwen3_vl::Config;

/// Linear layers of a language-model block that can be adapted, by their Hugging Face names.
pub const TEXT_TARGETS: [&str; 7] = [
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
];

/// One adapted module: its path in the model, and its sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// `model.language_model.layers.0.self_attn.q_proj`
    pub name: String,
    pub in_features: usize,
    pub out_features: usize,
}

/// Which modules an adapter covers, and its rank and scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    pub rank: usize,
    pub alpha: f64,
    pub rslora: bool,
    /// In model order: vision blocks, then language layers, each in the order of its forward.
    pub modules: Vec<Module>,
}

impl Layout {
    /// Expands target names over the model. `vision` adds every linear layer of the vision blocks.
    pub fn new(
        config: &Config,
        targets: &[String],
        vision: bool,
        rank: usize,
        alpha: f64,
        rslora: bool,
    ) -> Result<Self> {
        for target in targets {
            if !TEXT_TARGETS.contains(&target.as_str()) {
                let error = Diagnostic::error(format!("unknown LoRA target `{target}`"))
                    .expected(one_of(TEXT_TARGETS));
                return Err(match did_you_mean(target, TEXT_TARGETS) {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint("`lora.vision = true` adapts the vision blocks"),
                });
            }
        }
        let modules: Vec<Module> = config
            .linear_modules()
            .into_iter()
            .filter(|module| {
                if module.name.starts_with("model.visual.") {
                    vision
                } else {
                    targets
                        .iter()
                        .any(|target| module.name.ends_with(&format!(".{target}")))
                }
            })
            .collect();
        if modules.is_empty() {
            return Err(Diagnostic::error("no module would be trained")
                .detail("`lora.targets`")
                .hint("name at least one target, or set `lora.vision = true`"));
        }
        Ok(Self {
            rank,
            alpha,
            rslora,
            modules,
        })
    }

    /// `alpha / r`, or `alpha / sqrt(r)` with rsLoRA.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        if self.rslora {
            self.alpha / rank.sqrt()
        } else {
            self.alpha / rank
        }
    }

    /// Where the modules whose names start with `prefix` stand in the list: one run, since the
    /// list is in model order.
    pub(crate) fn range(&self, prefix: &str) -> Range<usize> {
        let inside = |module: &Module| module.name.starts_with(prefix);
        let start = self.modules.iter().position(inside).unwrap_or(0);
        start..start + self.modules.iter().filter(|module| inside(module)).count()
    }

    /// Trainable parameters.
    pub fn parameters(&self) -> usize {
        self.modules
            .iter()
            .map(|m| self.rank * (m.in_features + m.out_features))
            .sum()
    }
}

/// The two matrices of one module, f32: `a` is `[r, in]`, `b` is `[out, r]`.
#[derive(Clone)]
pub struct Pair {
    pub a: Tensor<2>,
    pub b: Tensor<2>,
}

/// All adapter matrices, in the order of the layout's modules.
#[derive(Clone)]
pub struct Adapters {
    pairs: Vec<Pair>,
    scale: f64,
}

impl Adapters {
    /// For a model without an adapter.
    pub fn none() -> Self {
        Self {
            pairs: Vec::new(),
            scale: 0.0,
        }
    }

    pub fn from_pairs(pairs: Vec<Pair>, scale: f64) -> Self {
        Self { pairs, scale }
    }

    /// PEFT's start: A uniform in `±1/sqrt(in)` (kaiming with a = sqrt 5), B zero. A function of
    /// (seed, module index) only.
    pub fn init(layout: &Layout, seed: u64, device: &Device) -> Self {
        let pairs = layout.modules.iter().enumerate().map(|(index, module)| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(index as u64);
            Pair {
                a: random_uniform(layout.rank, module.in_features, &mut rng, device),
                b: Tensor::zeros([module.out_features, layout.rank], device),
            }
        });
        Self {
            pairs: pairs.collect(),
            scale: layout.scale(),
        }
    }

    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Replaces the matrices, as an optimiser step does.
    pub fn set_pairs(&mut self, pairs: Vec<Pair>) {
        assert_eq!(
            pairs.len(),
            self.pairs.len(),
            "an update covers every module"
        );
        self.pairs = pairs;
    }

    /// The same adapters with those of `range` as leaves of a new autodiff graph.
    pub fn tracked(&self, range: Range<usize>) -> Self {
        let mut tracked = self.clone();
        for pair in &mut tracked.pairs[range] {
            pair.a = pair.a.clone().autodiff().require_grad();
            pair.b = pair.b.clone().autodiff().require_grad();
        }
        tracked
    }

    /// `y + s (x A^T) B^T` of one module. `x`: `[N, in]`, `y`: `[N, out]`.
    pub(crate) fn add_delta(&self, index: usize, y: Tensor<2>, x: Tensor<2>) -> Tensor<2> {
        let Pair { a, b } = self.pairs[index].clone();
        add_low_rank(y, x, a, b, self.scale)
    }
}

fn random_uniform(rows: usize, columns: usize, rng: &mut impl Rng, device: &Device) -> Tensor<2> {
    let bound = 1.0 / (columns as f32).sqrt();
    let uniform = Uniform::new_inclusive(-bound, bound).expect("a finite, ordered range");
    let values: Vec<f32> = (0..rows * columns).map(|_| uniform.sample(rng)).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

/// Gradients of the adapter matrices, summed over micro-batches.
#[derive(Clone, Default)]
pub struct AdapterGradients {
    pairs: Vec<Option<Pair>>,
}

impl AdapterGradients {
    pub fn new(modules: usize) -> Self {
        Self {
            pairs: vec![None; modules],
        }
    }

    /// Adds what one backward pass left on the leaves of `tracked`.
    pub(crate) fn collect(
        &mut self,
        tracked: &Adapters,
        range: Range<usize>,
        gradients: &mut Gradients,
    ) {
        for index in range {
            let leaf = &tracked.pairs[index];
            let (a, b) = (leaf.a.grad_remove(gradients), leaf.b.grad_remove(gradients));
            let (Some(a), Some(b)) = (a, b) else { continue };
            self.pairs[index] = Some(match self.pairs[index].take() {
                None => Pair { a, b },
                Some(sum) => Pair {
                    a: sum.a + a,
                    b: sum.b + b,
                },
            });
        }
    }

    /// L2 norm over all gradients, summed in a fixed order.
    pub fn norm(&self) -> f64 {
        let pairs = self.pairs.iter().flatten();
        let squares =
            pairs.map(|pair| sum_of_squares(pair.a.clone()) + sum_of_squares(pair.b.clone()));
        squares.sum::<f64>().sqrt()
    }

    /// Multiplies everything, as averaging over the tokens of a step does.
    pub fn scaled(mut self, factor: f64) -> Self {
        for pair in self.pairs.iter_mut().flatten() {
            pair.a = pair.a.clone() * factor;
            pair.b = pair.b.clone() * factor;
        }
        self
    }

    /// In module order. A module that no sample of the step reached (vision blocks in a text-only
    /// step) has none, and its gradient is zero.
    pub fn pairs(&self) -> &[Option<Pair>] {
        &self.pairs
    }
}
