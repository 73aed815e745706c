//! The parts of a model that can be held in four bits, by the names of their tensors.

use serde::{Deserialize, Serialize};

/// A part of the model whose matrices can be held in four bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Linear layers of the language model, and its fused experts.
    LanguageModel,
    /// Linear layers of the vision tower, mergers included.
    Visual,
    EmbedTokens,
    LmHead,
}

impl Part {
    pub const ALL: [Self; 4] = [
        Self::LanguageModel,
        Self::Visual,
        Self::EmbedTokens,
        Self::LmHead,
    ];

    /// As configs name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::LanguageModel => "language_model",
            Self::Visual => "visual",
            Self::EmbedTokens => "embed_tokens",
            Self::LmHead => "lm_head",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// Which part the matrix of this name belongs to, if it can be quantised at all.
    pub fn of(name: &str) -> Option<Self> {
        let in_visual = name.starts_with("model.visual.");
        match name {
            "lm_head.weight" => Some(Self::LmHead),
            "model.language_model.embed_tokens.weight" => Some(Self::EmbedTokens),
            // A convolution and a table of positions, not linear layers.
            _ if name.contains(".patch_embed.") || name.contains(".pos_embed.") => None,
            // bitsandbytes quantises linear layers; the router is none, and small.
            _ if name.ends_with(".mlp.gate.weight") => None,
            _ if in_visual => Some(Self::Visual),
            _ => Some(Self::LanguageModel),
        }
    }
}
