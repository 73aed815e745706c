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

/// How a model resizes images: what [`crate::smart_resize::smart_resize`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    /// Both sides become multiples of it; a square of this side is one token.
    pub factor: u32,
    pub min_pixels: u64,
    pub max_pixels: u64,
}

impl Resize {
    /// As every published Qwen3-VL has it.
    pub const QWEN3_VL: Self = Self {
        factor: 32,
        min_pixels: 65_536,
        max_pixels: 16_777_216,
    };
}

pub trait TokenCounter: Sync {
    /// `base` is the directory of the JSONL file; image paths are relative to it. Reads image
    /// headers only, never pixels.
    fn count(&self, record: &Record, base: &Path) -> Result<TokenCount>;

    /// The same for images whose (width, height) is known already, one per image of the record, in
    /// order: nothing is opened.
    fn count_sized(&self, record: &Record, sizes: &[(u32, u32)]) -> Result<TokenCount>;

    /// What images are resized by.
    fn resize(&self) -> Resize;

    /// Per answer, what the tokens that are trained on spell, without the token that ends it. Empty
    /// for one that counts without tokens.
    fn learned(&self, _record: &Record) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The tokens that must not stand in a text, because the tokenizer would read them as its own.
    fn control_tokens(&self) -> Vec<String> {
        Vec::new()
    }
}
