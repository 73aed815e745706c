//! From the config's words to what the model crate does: how frozen weights are held, and what is
//! computed in.

use vlft_checkpoint::{Part, Storage};
use vlft_model::{Frozen, Quantization};

use crate::config::{Base, Compute, ModelConfig};

impl ModelConfig {
    pub(crate) fn frozen(&self) -> Frozen {
        self.base.frozen(Quantization {
            double_quant: self.double_quant,
            parts: self.quantize.clone(),
            cache: self.nf4_cache.clone(),
        })
    }
}

impl Base {
    /// `quantization` is only asked for by an `nf4` base.
    pub(crate) fn frozen(self, quantization: Quantization) -> Frozen {
        match self {
            Base::F32 => Storage::F32.into(),
            Base::Bf16 => Storage::Bf16.into(),
            Base::Nf4 => Frozen::nf4(quantization),
        }
    }
}

/// What QLoRA quantises unless told otherwise.
pub(crate) fn default_parts() -> Vec<Part> {
    vec![Part::LanguageModel]
}

impl From<Compute> for vlft_model::Compute {
    fn from(compute: Compute) -> Self {
        match compute {
            Compute::Bf16 => Self::Bf16,
            Compute::F32 => Self::F32,
        }
    }
}
