//! What the frozen weights are held as. A 4-bit base gets its place here.

use vlft_base::{Diagnostic, Result};
use vlft_model::Storage;

use crate::config::Base;

impl Base {
    pub(crate) fn storage(self) -> Result<Storage> {
        match self {
            Base::F32 => Ok(Storage::F32),
            Base::Bf16 => Ok(Storage::Bf16),
            Base::Nf4 => Err(Diagnostic::error(
                "an `nf4` base is not possible in this version yet",
            )
            .hint("`bf16` is the base of LoRA on 16-bit weights")),
        }
    }
}
