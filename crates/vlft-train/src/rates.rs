//! The learning rate of each matrix, as a multiple of the schedule's.

use vlft_checkpoint::{Group, Layout};

use crate::config::TrainConfig;

/// Of one module's A and B.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rates {
    pub(crate) a: f64,
    pub(crate) b: f64,
}

/// One for each module of the layout. The schedule scales all of them alike; LoRA+ gives B more.
pub(crate) fn rates(config: &TrainConfig, layout: &Layout) -> Vec<Rates> {
    let of_group = |group| match group {
        Group::VisionBlocks => config.vision_learning_rate,
        Group::Mergers => config.merger_learning_rate,
        Group::LanguageModel => None,
    };
    let modules = layout.modules.iter();
    modules
        .map(|module| {
            let peak = of_group(module.group()).unwrap_or(config.learning_rate);
            let a = peak / config.learning_rate;
            Rates {
                a,
                b: a * config.lr_ratio,
            }
        })
        .collect()
}
