//! How this crate asks for token counts without knowing a tokenizer: `vlft-processor` implements it
//! with the trainer's own code, so `stats` and `validate` count exactly what training will see.

use std::path::Path;

use vlft_base::Result;

use crate::record::Record;

/// What one record costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenCount {
    /// All tokens of the sequence, image tokens included.
    pub total: usize,
    /// Image tokens among them.
    pub image: usize,
    /// Tokens that are trained on.
    pub supervised: usize,
    /// Per image, in order: (width, height) on disk and (width, height) as the model sees it.
    pub images: Vec<ImageSize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSize {
    pub original: (u32, u32),
    pub resized: (u32, u32),
}

pub trait TokenCounter: Sync {
    /// `base` is the directory of the JSONL file; image paths are relative to it. Reads image
    /// headers only, never pixels.
    fn count(&self, record: &Record, base: &Path) -> Result<TokenCount>;
}
