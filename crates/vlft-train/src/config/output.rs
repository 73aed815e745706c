//! `[output]`: what a run keeps.

use serde::Serialize;

use super::reader::{ANY, Section};

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OutputConfig {
    /// 0: only at the end and when interrupted.
    pub checkpoint_every_steps: u64,
    /// How many of the newest checkpoints stay, besides the best one.
    pub keep: usize,
}

impl Default for OutputConfig {
    fn default() -> Self {
        Self {
            checkpoint_every_steps: 100,
            keep: 2,
        }
    }
}

impl OutputConfig {
    pub(super) fn read(s: &mut Section) -> Self {
        let d = Self::default();
        Self {
            checkpoint_every_steps: s.count(
                "checkpoint_every_steps",
                d.checkpoint_every_steps,
                0..=ANY,
                "0: only at the end and when interrupted",
            ),
            keep: s.size(
                "keep",
                d.keep,
                1..=ANY,
                "newest checkpoints that stay; the best one does besides",
            ),
        }
    }
}
