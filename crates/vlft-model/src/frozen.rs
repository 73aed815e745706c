//! What the frozen weights are held as: dense in some type, or some parts of the model in four bits.

use std::path::{Path, PathBuf};

use vlft_base::Diagnostic;
use vlft_checkpoint::{Part, Storage};

/// How a checkpoint becomes the frozen base of a model.
#[derive(Clone, Debug)]
pub struct Frozen {
    /// Of everything dense.
    pub storage: Storage,
    /// None: everything is dense, what was quantised already is made dense again.
    pub quantization: Option<Quantization>,
}

/// NF4, computed while loading or as the checkpoint has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    /// Quantise the scales of blocks too. A checkpoint that is quantised already decides itself.
    pub double_quant: bool,
    pub parts: Vec<Part>,
    /// Folder for quantised copies, so that the next run need not quantise again.
    pub cache: Option<PathBuf>,
}

impl From<Storage> for Frozen {
    /// Everything dense.
    fn from(storage: Storage) -> Self {
        Self {
            storage,
            quantization: None,
        }
    }
}

impl Frozen {
    /// As the checkpoint has it, quantised matrices included.
    pub fn as_stored() -> Self {
        Self::nf4(Quantization {
            double_quant: true,
            parts: Vec::new(),
            cache: None,
        })
    }

    /// `quantization` of a 16-bit base. Weights with more digits are rounded to 16 bits first, as
    /// everywhere where a 16-bit model is quantised; a quantised checkpoint is taken as it is.
    pub fn nf4(quantization: Quantization) -> Self {
        Self {
            storage: Storage::AsStored,
            quantization: Some(quantization),
        }
    }

    pub(crate) fn quantizes(&self, name: &str) -> bool {
        let quantization = self.quantization.as_ref();
        quantization.is_some_and(|q| Part::of(name).is_some_and(|part| q.parts.contains(&part)))
    }
}

/// A matrix that cannot be quantised.
pub(crate) fn not_finite(name: &str, file: &Path) -> Diagnostic {
    Diagnostic::error("a weight is not a finite number")
        .at(file)
        .detail(format!("tensor `{name}`"))
        .hint("the checkpoint is damaged; download it again")
}
