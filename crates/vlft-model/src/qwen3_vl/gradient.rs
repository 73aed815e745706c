//! Gradients of the adapters, in two ways that agree: one tape over the whole model, or block by
//! block (layer-wise activation checkpointing), where the peak is one block's activations.

use std::ops::Range;

use burn::tensor::{IndexingUpdateOp, Tensor, TensorData};
use vlft_base::Result;
use vlft_kernels::cotangent::cotangent;
use vlft_kernels::cross_entropy::cross_entropy;
use vlft_kernels::offload::Stack;
use vlft_kernels::{among_workers, widened};

use super::{Inputs, Qwen3Vl, Stage, Targets};
use crate::awaited::{Awaited, failure};
use crate::linear::as_type;
use crate::lora::{AdapterGradients, Adapters};

/// What a forward keeps for its backward, from the most memory of the device to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpointing {
    /// Every activation.
    Off,
    /// The inputs of blocks, which are run again on the way back.
    On,
    /// The same, in the host's memory if the model is on a GPU.
    Offloaded,
}

impl Qwen3Vl {
    /// Adds `scale` times the gradient of the weighted sum of negative log-likelihoods to `gradients`
    /// and returns the likelihoods (neither scaled nor weighted), one per target.
    ///
    /// # Errors
    /// Block inputs were to be offloaded, and the GPU could not compute or copy one.
    pub fn nll_and_gradients(
        &self,
        inputs: &Inputs,
        targets: &Targets,
        adapters: &Adapters,
        scale: f64,
        checkpointing: Checkpointing,
        gradients: &mut AdapterGradients,
    ) -> Result<Awaited> {
        let stack = || Stack::new(checkpointing == Checkpointing::Offloaded);
        among_workers(&self.device, || match checkpointing {
            Checkpointing::Off => {
                Ok(self.backward_at_once(inputs, targets, adapters, scale, gradients))
            }
            Checkpointing::On | Checkpointing::Offloaded => {
                self.backward_by_blocks(inputs, targets, adapters, scale, stack, gradients)
            }
        })
    }

    /// The slow twin in memory: every activation of the model is kept.
    fn backward_at_once(
        &self,
        inputs: &Inputs,
        targets: &Targets,
        adapters: &Adapters,
        scale: f64,
        gradients: &mut AdapterGradients,
    ) -> Awaited {
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
        stack: impl Fn() -> Stack,
        gradients: &mut AdapterGradients,
    ) -> Result<Awaited> {
        let adapted = |ranges: &[Range<usize>]| ranges.iter().position(|range| !range.is_empty());
        let mergers_adapted =
            !self.merger_adapters.is_empty() || adapted(&self.deepstack_adapters).is_some();
        let first_block = adapted(&self.vision_block_adapters);
        let images_adapted = mergers_adapted || first_block.is_some();

        let (mut layer_inputs, mut vision_inputs) = (stack(), stack());
        let mut vision_output = None;
        let hidden = self.hidden_states(inputs, adapters, &mut |stage, x| match stage {
            Stage::LayerInput(_) => layer_inputs.push(x.clone()),
            Stage::VisionBlockInput(_) if images_adapted => vision_inputs.push(x.clone()),
            Stage::VisionBlock(_) if images_adapted => vision_output = Some(x.clone()),
            _ => {}
        });
        let train_images = vision_output.is_some();
        // Below the first adapted layer nothing is learned, unless the images are.
        let first_layer = match train_images {
            true => 0,
            false => adapted(&self.layer_adapters).unwrap_or(self.layer_adapters.len()),
        };

        // The head, on supervised rows only.
        let (shape, dtype) = (hidden.dims(), hidden.dtype());
        let target_rows = self.rows(&targets.rows);
        let leaf = hidden
            .select(0, target_rows.clone())
            .autodiff()
            .require_grad();
        let (nll, surrogate) = self.head_loss(leaf.clone(), targets, scale);
        let d_rows = leaf
            .grad_remove(&mut surrogate.backward())
            .expect("a leaf of this graph");
        let zeros = Tensor::<2>::zeros(shape, (&self.device, dtype));
        let mut dy = zeros.select_assign(0, target_rows, d_rows, IndexingUpdateOp::Add);

        // The language layers, last to first. Deepstack feature i was added after layer i.
        let image_rows = train_images.then(|| self.image_rows(inputs));
        let levels = self.config.vision.deepstack_visual_indexes.len();
        let mut d_deepstack = vec![None; levels];
        let context = self.text_context(inputs).for_gradients();
        let layers = self.language_model.layers.iter().enumerate();
        for (i, layer) in layers.skip(first_layer).rev() {
            if let Some(rows) = &image_rows
                && i < levels
            {
                d_deepstack[i] = Some(dy.clone().select(0, rows.clone()));
            }
            let block = Block {
                input: last(&mut layer_inputs)?,
                adapters: self.layer_adapters[i].clone(),
                needs_dx: i > first_layer || train_images,
            };
            let run = |x, adapters: &Adapters| layer.forward(x, &context, adapters);
            match block.backward(dy, adapters, gradients, run) {
                Some(dx) => dy = dx,
                None => return Ok(nll),
            }
        }
        if let (Some(rows), Some(output)) = (image_rows, vision_output) {
            let outputs = VisionOutputs {
                inputs: vision_inputs,
                last: output,
                d_merged: dy.select(0, rows),
                d_deepstack,
            };
            self.vision_backward(outputs, first_block, inputs, adapters, gradients)?;
        }
        Ok(nll)
    }

    /// The vision tower, last to first: the final merger, then the blocks with their deepstack
    /// mergers. Below `first_block` no block is adapted, but a merger may be.
    fn vision_backward(
        &self,
        outputs: VisionOutputs,
        first_block: Option<usize>,
        inputs: &Inputs,
        adapters: &Adapters,
        gradients: &mut AdapterGradients,
    ) -> Result<()> {
        let vision = &self.visual;
        let context = vision.context(&inputs.grid_thw, &self.device);
        let (mut output, mut block_inputs) = (outputs.last, outputs.inputs);
        let mut d_deepstack = outputs.d_deepstack;
        let merger = Block {
            input: output.clone(),
            adapters: self.merger_adapters.clone(),
            needs_dx: first_block.is_some(),
        };
        let mut dy = merger.backward(outputs.d_merged, adapters, gradients, |x, adapters| {
            vision.merger.forward(x, adapters)
        });
        for (i, block) in vision.blocks.iter().enumerate().rev() {
            let input = last(&mut block_inputs)?;
            if let Some(number) = vision.deepstack_merger(i) {
                let d_feature = d_deepstack
                    .pop()
                    .flatten()
                    .expect("features are in block order");
                let merger = Block {
                    input: output,
                    adapters: self.deepstack_adapters[number].clone(),
                    needs_dx: first_block.is_some_and(|first| first <= i),
                };
                let merger = merger.backward(d_feature, adapters, gradients, |x, adapters| {
                    vision.deepstack_merger_list[number].forward(x, adapters)
                });
                dy = match (dy, merger) {
                    (Some(dy), Some(dx)) => Some(dy + dx),
                    (dy, _) => dy,
                };
            }
            output = input.clone();
            let Some(first) = first_block.filter(|first| *first <= i) else {
                dy = None;
                continue;
            };
            let block_here = Block {
                input,
                adapters: self.vision_block_adapters[i].clone(),
                needs_dx: i > first,
            };
            let through = dy
                .take()
                .expect("every block from the first adapted one on has it");
            dy = block_here.backward(through, adapters, gradients, |x, adapters| {
                block.forward(x, &context, adapters)
            });
        }
        Ok(())
    }

    /// Norm, head and loss of the supervised rows. The tracked scalar returned has the gradient
    /// that the scaled loss would send into `rows`; its value means nothing.
    fn head_loss(&self, rows: Tensor<2>, targets: &Targets, scale: f64) -> (Awaited, Tensor<1>) {
        let normal = self.language_model.norm.forward(rows);
        let untracked = widened(normal.clone().inner());
        let head = self.head().matrix(untracked.dtype());
        let loss = cross_entropy(untracked, &head, &targets.ids, true);
        let mut d_normal = loss.d_hidden.expect("asked for the gradient") * scale;
        if !targets.weights.is_empty() {
            let weights = TensorData::new(targets.weights.clone(), [targets.weights.len(), 1]);
            let weights = as_type(Tensor::from_data(weights, &self.device), d_normal.dtype());
            d_normal = d_normal * weights;
        }
        let d_normal = as_type(d_normal, normal.dtype());
        (Awaited::new(loss.nll), cotangent(normal, d_normal))
    }
}

/// What the forward left of the vision tower, and the gradients that reach it.
struct VisionOutputs {
    /// Of each block.
    inputs: Stack,
    /// The last block's output.
    last: Tensor<2>,
    d_merged: Tensor<2>,
    /// In the order of the features.
    d_deepstack: Vec<Option<Tensor<2>>>,
}

/// The last input that the forward kept: it kept one per block.
fn last(inputs: &mut Stack) -> Result<Tensor<2>> {
    let input = inputs.pop().map_err(|error| failure(&error))?;
    Ok(input.expect("one input was kept per block"))
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
        let mut graph = cotangent(y, dy).backward();
        gradients.collect(&tracked, self.adapters, &mut graph);
        self.needs_dx
            .then(|| leaf.grad_remove(&mut graph).expect("a leaf of this graph"))
    }
}
