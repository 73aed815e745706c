//! What serving must repeat to show the model what training showed it. It becomes part of
//! `preprocess.lock.json` beside the adapter.

use serde::{Deserialize, Serialize};

use crate::preprocessor::Options;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    pub min_pixels: u64,
    pub max_pixels: u64,
    pub patch_size: usize,
    pub temporal_patch_size: usize,
    pub merge_size: usize,
    pub image_mean: [f64; 3],
    pub image_std: [f64; 3],
    pub rescale_factor: f64,
    /// How pixels are resampled, in words; see [`RESAMPLE`].
    pub resample: String,
    /// The file in the model directory that the chat template was read from.
    pub chat_template: String,
    pub chat_template_sha256: String,
    pub tokenizer_sha256: String,
}

/// The one way of resizing: "fast" image processors of transformers, and vLLM, do the same.
pub const RESAMPLE: &str = "bicubic, antialiased, 8 bit (torchvision)";

impl Contract {
    /// The limits to ask a [`crate::processor::Processor`] for in order to repeat this contract.
    pub fn options(&self) -> Options {
        Options {
            min_pixels: Some(self.min_pixels),
            max_pixels: Some(self.max_pixels),
        }
    }

    /// In words, where `other` would show the model something else; empty if nowhere. The name of
    /// the template's file does not count.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |name: &str, own: String, other: String| {
            if own != other {
                found.push(format!("{name}: {own} in the contract, {other} now"));
            }
        };
        let list = |values: [f64; 3]| values.map(|v| v.to_string()).join(", ");
        compare(
            "min_pixels",
            self.min_pixels.to_string(),
            other.min_pixels.to_string(),
        );
        compare(
            "max_pixels",
            self.max_pixels.to_string(),
            other.max_pixels.to_string(),
        );
        compare(
            "patch_size",
            self.patch_size.to_string(),
            other.patch_size.to_string(),
        );
        compare(
            "temporal_patch_size",
            self.temporal_patch_size.to_string(),
            other.temporal_patch_size.to_string(),
        );
        compare(
            "merge_size",
            self.merge_size.to_string(),
            other.merge_size.to_string(),
        );
        compare("image_mean", list(self.image_mean), list(other.image_mean));
        compare("image_std", list(self.image_std), list(other.image_std));
        compare(
            "rescale_factor",
            self.rescale_factor.to_string(),
            other.rescale_factor.to_string(),
        );
        compare("resample", self.resample.clone(), other.resample.clone());
        let short = |sha256: &str| format!("sha256 {}", &sha256[..sha256.len().min(12)]);
        compare(
            "chat template",
            short(&self.chat_template_sha256),
            short(&other.chat_template_sha256),
        );
        compare(
            "tokenizer",
            short(&self.tokenizer_sha256),
            short(&other.tokenizer_sha256),
        );
        found
    }
}
