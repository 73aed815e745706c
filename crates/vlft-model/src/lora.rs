//! LoRA's matrices: the flat list that training owns, and its gradients.
//!
//! The frozen model never holds trainable tensors. It gets [`Adapters`] with each call, so the
//! trainer can pass them tracked by autodiff, untracked, or only some of them tracked.

use std::ops::Range;

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand::distr::{Distribution, Uniform};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vlft_kernels::adamw;
use vlft_kernels::dropout::dropout;
use vlft_kernels::low_rank::{lora_a, lora_b, pays_together};
use vlft_kernels::profile::{Family, span};
use vlft_kernels::random::Key;
use vlft_kernels::reduce::sum_of_squares;

use crate::awaited::Awaited;
use crate::linear::as_type;
use vlft_checkpoint::{Adapted, Layout};

/// The two matrices of one module, f32: `a` is `[r, in]`, `b` is `[out, r]`.
#[derive(Clone)]
pub struct Pair {
    pub a: Tensor<2>,
    pub b: Tensor<2>,
}

/// Dropout on the input of A, as PEFT has it: each module has a mask of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    pub probability: f64,
    pub seed: u64,
    /// Which forward pass of the run: the counter that makes masks new each time, and the same
    /// again after a resume.
    pub pass: u64,
}

/// All adapter matrices, in the order of the layout's modules.
#[derive(Clone)]
pub struct Adapters {
    pairs: Vec<Pair>,
    /// One for each pair.
    scales: Vec<f64>,
    dropout: Option<Dropout>,
}

impl Adapters {
    /// For a model without an adapter.
    pub fn none() -> Self {
        Self {
            pairs: Vec::new(),
            scales: Vec::new(),
            dropout: None,
        }
    }

    /// One pair for each module of the layout.
    pub fn from_pairs(layout: &Layout, pairs: Vec<Pair>) -> Self {
        let scale = |module: &Adapted| layout.scale(module.rank, module.alpha);
        Self {
            pairs,
            scales: layout.modules.iter().map(scale).collect(),
            dropout: None,
        }
    }

    /// The same adapters for one forward pass of training.
    pub fn with_dropout(&self, dropout: Dropout) -> Self {
        Self {
            dropout: (dropout.probability > 0.0).then_some(dropout),
            ..self.clone()
        }
    }

    /// PEFT's start: A uniform in `±1/sqrt(in)` (kaiming with a = sqrt 5), B zero. A function of
    /// (seed, module index) only.
    pub fn init(layout: &Layout, seed: u64, device: &Device) -> Self {
        let pairs = layout.modules.iter().enumerate().map(|(index, module)| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(index as u64);
            Pair {
                a: random_uniform(module.rank, module.in_features, &mut rng, device),
                b: Tensor::zeros([module.out_features, module.rank], device),
            }
        });
        Self::from_pairs(layout, pairs.collect())
    }

    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Each pair becomes what `step` makes of it. It is handed over, so that it can be changed where it is.
    pub fn update(&mut self, step: impl FnMut(Pair) -> Pair) {
        let pairs = std::mem::take(&mut self.pairs);
        self.pairs = pairs.into_iter().map(step).collect();
    }

    /// Replaces the matrices.
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

    /// `y + s (x A^T) B^T` for each of some modules with the same input, in the type of `x`; None: `y`.
    /// `x`: `[N, in]`, `ys`: `[N, out]` each.
    pub(crate) fn add_deltas<const K: usize>(
        &self,
        modules: [Option<usize>; K],
        ys: [Tensor<2>; K],
        x: &Tensor<2>,
    ) -> [Tensor<2>; K] {
        let adapted: Vec<usize> = modules.into_iter().flatten().collect();
        let mut middles = self.middles(&adapted, x).into_iter();
        let mut modules = modules.into_iter();
        ys.map(|y| match modules.next().flatten() {
            None => y,
            Some(module) => {
                let h = middles.next().expect("one for each adapted module");
                // The matrices themselves are f32, whatever is computed in.
                let b = as_type(self.pairs[module].b.clone(), x.dtype());
                lora_b(y, h, b)
            }
        })
    }

    /// `s x A^T` of each: `[N, r]`. One product where that pays and they can be one: without dropout, of
    /// which each module has its own, and with one scale.
    fn middles(&self, modules: &[usize], x: &Tensor<2>) -> Vec<Tensor<2>> {
        let scale = |module: &usize| self.scales[*module];
        let one_scale = modules
            .windows(2)
            .all(|two| scale(&two[0]) == scale(&two[1]));
        let a = |module: &usize| self.pairs[*module].a.clone();
        let can = self.dropout.is_none() && one_scale && modules.len() > 1;
        if !(can && pays_together(x)) {
            let of = |module: &usize| {
                let x = self.dropped(*module, x.clone());
                let dtype = x.dtype();
                lora_a(x, as_type(a(module), dtype), scale(module))
            };
            return modules.iter().map(of).collect();
        }
        let all: Vec<_> = modules.iter().map(a).collect();
        let ranks: Vec<_> = all.iter().map(|a| a.dims()[0]).collect();
        let all = as_type(Tensor::cat(all, 0), x.dtype());
        lora_a(x.clone(), all, scale(&modules[0])).split_with_sizes(ranks, 1)
    }

    fn dropped(&self, module: usize, x: Tensor<2>) -> Tensor<2> {
        let Some(Dropout {
            probability,
            seed,
            pass,
        }) = self.dropout
        else {
            return x;
        };
        let module = module as u32;
        dropout(x, probability, Key { seed, pass, module })
    }
}

fn random_uniform(rows: usize, columns: usize, rng: &mut impl Rng, device: &Device) -> Tensor<2> {
    let bound = 1.0 / (columns as f32).sqrt();
    let uniform = Uniform::new_inclusive(-bound, bound).expect("a finite, ordered range");
    let values: Vec<f32> = (0..rows * columns).map(|_| uniform.sample(rng)).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

/// Gradients of the adapter matrices, summed over micro-batches.
#[derive(Clone)]
pub struct AdapterGradients {
    pairs: Vec<Option<Pair>>,
    /// What [`Self::pairs`] are still to be multiplied by. On the CPU that is done at once; on a GPU it
    /// would be a pass over each matrix, and the optimiser does it on its way.
    factor: f64,
}

impl AdapterGradients {
    pub fn new(modules: usize) -> Self {
        Self {
            pairs: vec![None; modules],
            factor: 1.0,
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

    /// What a GPU computes of [`Self::norm`], to be read together with other numbers; none on the CPU.
    pub fn squares(&self) -> Option<Awaited> {
        let _span = span(Family::Optimizer);
        self.is_on_gpu().then(|| {
            let pairs = self.pairs.iter().flatten();
            let matrices = pairs.flat_map(|pair| [pair.a.clone(), pair.b.clone()]);
            Awaited::new(adamw::squares(matrices.collect()).flatten(0, 1))
        })
    }

    /// L2 norm over all gradients, summed in a fixed order. `squares`: those of [`Self::squares`], read.
    pub fn norm(&self, squares: Option<&[f32]>) -> f64 {
        let _span = span(Family::Optimizer);
        if let Some(squares) = squares {
            let sum: f64 = squares.iter().map(|x| f64::from(*x)).sum();
            return sum.sqrt() * self.factor;
        }
        let pairs = self.pairs.iter().flatten();
        let squares =
            pairs.map(|pair| sum_of_squares(pair.a.clone()) + sum_of_squares(pair.b.clone()));
        squares.sum::<f64>().sqrt()
    }

    fn is_on_gpu(&self) -> bool {
        let first = self.pairs.iter().flatten().next();
        first.is_some_and(|pair| adamw::has_kernel(&pair.a))
    }

    /// Multiplies everything, as averaging over the tokens of a step does.
    pub fn scaled(mut self, factor: f64) -> Self {
        if self.is_on_gpu() {
            self.factor *= factor;
            return self;
        }
        for pair in self.pairs.iter_mut().flatten() {
            pair.a = pair.a.clone() * factor;
            pair.b = pair.b.clone() * factor;
        }
        self
    }

    /// What the pairs are to be multiplied by: 1 on the CPU.
    pub fn factor(&self) -> f64 {
        self.factor
    }

    /// In module order, still to be multiplied by [`Self::factor`]. A module that no sample of the step reached (vision blocks in a text-only
    /// step) has none, and its gradient is zero.
    pub fn pairs(&self) -> &[Option<Pair>] {
        &self.pairs
    }
}
