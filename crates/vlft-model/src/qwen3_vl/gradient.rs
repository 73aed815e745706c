//! Gradients of the adapters, in two ways that agree: one tape over the whole model, or block by
//! block (layer-wise activation checkpointing), where the peak is one block's activations.

use std::ops::Range;

use burn::tensor::{IndexingUpdateOp, Tensor, TensorData};
use vlft_kernels::cross_entropy::cross_entropy;

use super::{Inputs, Qwen3Vl, Stage, Targets};
use crate::lora::{AdapterGradients, Adapters};

impl Qwen3Vl {
    /// Adds `scale` times the gradient of the weighted sum of negative log-likelihoods to `gradients`
    /// and returns the likelihoods (neither scaled nor weighted), one per target.
    pub fn nll_and_gradients(
        &self,
        inputs: &Inputs,
        targets: &Targets,
        adapters: &Adapters,
        scale: f64,
        checkpointing: bool,
        gradients: &mut AdapterGradients,
    ) -> Vec<f32> {
        if checkpointing {
            self.backward_by_blocks(inputs, targets, adapters, scale, gradients)
        } else {
            self.backward_at_once(inputs, targets, adapters, scale, gradients)
        }
    }

    /// The slow twin in memory: every activation of the model is kept.
    fn backward_at_once(
        &self,
        inputs: &Inputs,
        targets: &Targets,
        adapters: &Adapters,
        scale: f64,
        gradients: &mut AdapterGradients,
    ) -> Vec<f32> {
        let all = 0..adapters.pairs().len();
        let tracked = adapters.tracked(all.clone());
        let hidden = self.hidden_states(inputs, &tracked, &mut |_, _| {});
        let rows = hidden.select(0, self.rows(&targets.rows));
        let (nll, surrogate) = self.head_loss(rows, targets, scale);
        gradients.collect(&tracked, all, &mut surrogate.backward());
        nll
    }

    /// Forward without a tape keeping block inputs, then block by block backwards: run the block
    /// again with a tape and send the gradient through it.
    fn backward_by_blocks(
        &self,
        inputs: &Inputs,
        targets: &Targets,
        adapters: &Adapters,
        scale: f64,
        gradients: &mut AdapterGradients,
    ) -> Vec<f32> {
        let mut layer_inputs = Vec::new();
        let mut vision_inputs = Vec::new();
        let mut vision_output = None;
        let hidden = self.hidden_states(inputs, adapters, &mut |stage, x| match stage {
            Stage::LayerInput(_) => layer_inputs.push(x.clone()),
            Stage::VisionBlockInput(_) => vision_inputs.push(x.clone()),
            Stage::VisionBlock(_) => vision_output = Some(x.clone()),
            _ => {}
        });
        let vision_adapted = self
            .vision_block_adapters
            .iter()
            .any(|range| !range.is_empty());
        let train_vision = vision_adapted && vision_output.is_some();

        // The head, on supervised rows only.
        let shape = hidden.dims();
        let target_rows = self.rows(&targets.rows);
        let leaf = hidden
            .select(0, target_rows.clone())
            .autodiff()
            .require_grad();
        let (nll, surrogate) = self.head_loss(leaf.clone(), targets, scale);
        let d_rows = leaf
            .grad_remove(&mut surrogate.backward())
            .expect("a leaf of this graph");
        let zeros = Tensor::<2>::zeros(shape, &self.device);
        let mut dy = zeros.select_assign(0, target_rows, d_rows, IndexingUpdateOp::Add);

        // The language layers, last to first. Deepstack feature i was added after layer i.
        let image_rows = train_vision.then(|| self.image_rows(inputs));
        let levels = self.config.vision.deepstack_visual_indexes.len();
        let mut d_deepstack = vec![None; levels];
        let context = self.text_context(inputs);
        for (i, layer) in self.language_model.layers.iter().enumerate().rev() {
            if let Some(rows) = &image_rows
                && i < levels
            {
                d_deepstack[i] = Some(dy.clone().select(0, rows.clone()));
            }
            let block = Block {
                input: layer_inputs.pop().expect("one input was kept per layer"),
                adapters: self.layer_adapters[i].clone(),
                needs_dx: i > 0 || train_vision,
            };
            let run = |x, adapters: &Adapters| layer.forward(x, &context, adapters);
            match block.backward(dy, adapters, gradients, run) {
                Some(dx) => dy = dx,
                None => return nll,
            }
        }
        let (Some(rows), Some(output)) = (image_rows, vision_output) else {
            return nll;
        };

        // The vision tower: the final merger, then the blocks with their deepstack mergers.
        let vision = &self.visual;
        let context = vision.context(&inputs.grid_thw, &self.device);
        let through = |x: &Tensor<2>,
                       dy,
                       gradients: &mut AdapterGradients,
                       merger: &super::vision::PatchMerger| {
            let block = Block {
                input: x.clone(),
                adapters: 0..0,
                needs_dx: true,
            };
            block
                .backward(dy, adapters, gradients, |x, _| merger.forward(x))
                .expect("asked for dx")
        };
        let d_merged = dy.select(0, rows);
        let mut dy = through(&output, d_merged, gradients, &vision.merger);
        let mut output = output;
        for (i, block) in vision.blocks.iter().enumerate().rev() {
            if let Some(merger) = vision.deepstack_merger(i) {
                let d_feature = d_deepstack
                    .pop()
                    .flatten()
                    .expect("features are in block order");
                let merger = &vision.deepstack_merger_list[merger];
                dy = dy + through(&output, d_feature, gradients, merger);
            }
            let input = vision_inputs.pop().expect("one input was kept per block");
            output = input.clone();
            let adapters_here = self.vision_block_adapters[i].clone();
            let run = |x, adapters: &Adapters| block.forward(x, &context, adapters);
            let block = Block {
                input,
                adapters: adapters_here,
                needs_dx: i > 0,
            };
            match block.backward(dy, adapters, gradients, run) {
                Some(dx) => dy = dx,
                None => return nll,
            }
        }
        nll
    }

    /// Norm, head and loss of the supervised rows. The tracked scalar returned has the gradient
    /// that the scaled loss would send into `rows`; its value means nothing.
    fn head_loss(&self, rows: Tensor<2>, targets: &Targets, scale: f64) -> (Vec<f32>, Tensor<1>) {
        let normal = self.language_model.norm.forward(rows);
        let untracked = normal.clone().inner();
        let loss = cross_entropy(untracked, &self.head().matrix(), &targets.ids, true);
        let mut d_normal = loss.d_hidden.expect("asked for the gradient") * scale;
        if !targets.weights.is_empty() {
            let weights = TensorData::new(targets.weights.clone(), [targets.weights.len(), 1]);
            d_normal = d_normal * Tensor::<2>::from_data(weights, &self.device);
        }
        (loss.nll, (normal * d_normal.autodiff()).sum())
    }
}

/// One block to be run again with a tape.
struct Block {
    input: Tensor<2>,
    /// Its adapters in the flat list.
    adapters: Range<usize>,
    needs_dx: bool,
}

impl Block {
    /// Adds the adapter gradients and returns dx, if it is needed.
    fn backward(
        self,
        dy: Tensor<2>,
        adapters: &Adapters,
        gradients: &mut AdapterGradients,
        run: impl Fn(Tensor<2>, &Adapters) -> Tensor<2>,
    ) -> Option<Tensor<2>> {
        if self.adapters.is_empty() && !self.needs_dx {
            return None;
        }
        let tracked = adapters.tracked(self.adapters.clone());
        let leaf = match self.needs_dx {
            true => self.input.autodiff().require_grad(),
            false => self.input,
        };
        let y = run(leaf.clone(), &tracked);
        // d <y, dy> / d anything is what dy sends there.
        let mut graph = (y * dy.autodiff()).sum().backward();
        gradients.collect(&tracked, self.adapters, &mut graph);
        self.needs_dx
            .then(|| leaf.grad_remove(&mut graph).expect("a leaf of this graph"))
    }
}
