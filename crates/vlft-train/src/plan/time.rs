//! How long a run takes on a GPU, from counted operations and bytes, and one assumption.
//!
//! Counted are the products of the model. With frozen weights a token costs 2 operations per weight
//! forward and 2 for the gradient of its input, none for the weight's: 4 in all, and 6 when the forward is
//! made again (`train.gradient_checkpointing`). Attention costs its own, below.

use serde::Serialize;
use vlft_checkpoint::Config as Model;

use super::gpus::Gpu;
use super::load::{Load, Passes};

/// The share of the card's peak that the products of a whole step reach. An assumption, not a
/// measurement: no GPU has run this program yet. Published fine-tuning of models of this size on
/// these cards reports 0.3 to 0.5.
pub const UTILISATION: f64 = 0.35;

/// The share of the bandwidth at which weights are read.
const BANDWIDTH_SHARE: f64 = 0.8;

/// Bytes per second between a card and pinned memory of its host: four fifths of PCIe 4.0 with 16 lanes,
/// which an A6000, an A100 and a 4090 have; an H100 or H200 has twice that.
const HOST_BANDWIDTH: f64 = 25e9;

/// What a run costs on a card.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Time {
    pub seconds: f64,
    pub tokens_per_second: f64,
    pub seconds_per_step: f64,
    /// Assumed.
    pub utilisation: f64,
    /// Operations per weight and token: 4, or 6 with the forward made twice.
    pub passes_per_weight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_per_hour: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
}

/// Operations of the products of a step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Operations {
    /// Those that training needs: 4 per weight and token with frozen weights.
    pub necessary: f64,
    /// Those that are computed: 6 where the forward is made again.
    pub computed: f64,
}

impl Operations {
    /// Per step of `passes`.
    pub(crate) fn of(model: &Model, passes: &Passes, work: Work) -> Self {
        let weights = Weights::of(model);
        let per_step = |work| {
            passes.total(|load| operations(model, weights, load, work)) / passes.steps.max(1) as f64
        };
        Self {
            necessary: per_step(Work {
                gradient_checkpointing: false,
                ..work
            }),
            computed: per_step(work),
        }
    }
}

/// What decides the operations of a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) gradient_checkpointing: bool,
    /// Whether gradients go through the vision tower.
    pub(crate) trains_images: bool,
    /// Bytes of the frozen weights as they are held.
    pub(crate) weight_bytes: u64,
    /// Bytes that all passes send to the host's memory, and fetch again.
    pub(crate) offloaded_bytes: f64,
}

impl Time {
    pub(crate) fn of(
        model: &Model,
        passes: &Passes,
        work: Work,
        gpu: &Gpu,
        price: Option<f64>,
    ) -> Self {
        let weights = Weights::of(model);
        let operations = passes.total(|load| operations(model, weights, load, work));
        let reads = f64::from(rounds(work.gradient_checkpointing)) * work.weight_bytes as f64;
        let count = passes.total(|_| 1.0);
        let computing = operations / (gpu.bf16_peak * UTILISATION);
        // A pass over few tokens waits for the weights.
        let reading = count * reads / (gpu.bandwidth * BANDWIDTH_SHARE);
        // The copies take their turn among what is computed.
        let seconds = computing.max(reading) + 2.0 * work.offloaded_bytes / HOST_BANDWIDTH;
        let price = price.or(gpu.price_per_hour);
        Self {
            seconds,
            tokens_per_second: passes.total(|load| load.real_tokens as f64) / seconds,
            seconds_per_step: seconds / passes.steps.max(1) as f64,
            utilisation: UTILISATION,
            passes_per_weight: 2 * rounds(work.gradient_checkpointing),
            price_per_hour: price,
            cost: price.map(|price| price * seconds / 3600.0),
        }
    }
}

/// Passes over the weights: forward, backward, and the forward made again.
fn rounds(gradient_checkpointing: bool) -> u32 {
    if gradient_checkpointing { 3 } else { 2 }
}

/// Weights that take part in products with every token, or with every patch. Of experts a token sees
/// only those it is sent to.
#[derive(Clone, Copy)]
struct Weights {
    layers: f64,
    vision_blocks: f64,
}

impl Weights {
    fn of(model: &Model) -> Self {
        let tensors = model.tensors();
        let count = |part: fn(&str) -> bool| -> f64 {
            let matrices = tensors
                .iter()
                .filter(|(name, shape)| shape.len() > 1 && part(name));
            let seen = |(name, shape): &(String, Vec<usize>)| {
                let elements = shape.iter().product::<usize>() as f64;
                match &model.text.experts {
                    Some(experts) if name.contains(".mlp.experts.") => {
                        elements * experts.num_experts_per_tok as f64 / experts.num_experts as f64
                    }
                    _ => elements,
                }
            };
            matrices.map(seen).sum()
        };
        Self {
            layers: count(|name| name.contains(".layers.")),
            vision_blocks: count(|name| name.contains("model.visual.") && !name.contains("embed")),
        }
    }
}

fn operations(model: &Model, of: Weights, load: &Load, work: Work) -> f64 {
    let (t, v) = (&model.text, &model.vision);
    let head = (t.vocab_size * t.hidden_size) as f64;
    let rounds = f64::from(rounds(work.gradient_checkpointing));

    // Scores and their product with the values, each 2 operations per pair and channel; half of the
    // pairs are hidden. The backward makes the scores again: 2.5 times the forward.
    let pairs = load.squares as f64 / 2.0;
    let scores = 4.0 * pairs * (t.num_attention_heads * t.head_dim * t.num_hidden_layers) as f64;
    let language = 2.0 * of.layers * load.tokens as f64 * rounds + scores * (rounds + 1.5);

    let unit = v.merge_unit() as f64;
    let patches = load.image_tokens as f64 * unit;
    let pairs = load.image_squares as f64 * unit * unit;
    let scores = 4.0 * pairs * (v.hidden_size * v.depth) as f64;
    let (weights, attention) = match work.trains_images {
        true => (rounds, rounds + 1.5),
        false => (1.0, 1.0),
    };
    let images = 2.0 * of.vision_blocks * patches * weights + scores * attention;
    // Logits and the gradient of what they are made from.
    language + images + 4.0 * head * load.supervised as f64
}
