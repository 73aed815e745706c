//! `preprocess.lock.json` beside an adapter: the resolution, resize and template contract that
//! serving must repeat, and the base that the adapter was trained on.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vlft_base::output::write_atomic;
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::Part;
use vlft_processor::contract::Contract;

use crate::base::default_parts;
use crate::config::{Base, ModelConfig};

pub const LOCK_FILE: &str = "preprocess.lock.json";
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    pub version: u32,
    /// Frozen weights the adapter was trained on.
    pub base: Base,
    /// Only meaningful with `nf4`.
    pub double_quant: bool,
    /// Only meaningful with `nf4`: the parts that were in four bits.
    #[serde(default = "default_parts")]
    pub quantize: Vec<Part>,
    /// Settings for vLLM's `--mm-processor-kwargs`.
    pub mm_processor_kwargs: MmProcessorKwargs,
    pub contract: Contract,
}

/// What to pass to `vllm serve --mm-processor-kwargs` so that it resizes as training did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MmProcessorKwargs {
    pub min_pixels: u64,
    pub max_pixels: u64,
}

impl Lock {
    /// `double_quant`: what the model turned out to have.
    pub fn new(model: &ModelConfig, double_quant: Option<bool>, contract: Contract) -> Self {
        let mm_processor_kwargs = MmProcessorKwargs {
            min_pixels: contract.min_pixels,
            max_pixels: contract.max_pixels,
        };
        Self {
            version: VERSION,
            base: model.base,
            double_quant: double_quant.unwrap_or(model.double_quant),
            quantize: model.quantize.clone(),
            mm_processor_kwargs,
            contract,
        }
    }

    pub fn write(&self, adapter_dir: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain values") + "\n";
        write_atomic(&adapter_dir.join(LOCK_FILE), text.as_bytes())
    }
}

/// None if the adapter has none, such as one that PEFT wrote.
pub fn read(adapter_dir: &Path) -> Result<Option<Lock>> {
    let path = adapter_dir.join(LOCK_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let unreadable = |cause: String| {
        Diagnostic::error("cannot read the adapter's preprocessing contract")
            .at(&path)
            .caused_by(cause)
            .hint("it was written by `vlft train`; copy the adapter folder as a whole")
    };
    let text = fs::read_to_string(&path).map_err(|e| unreadable(e.to_string()))?;
    let lock: Lock = serde_json::from_str(&text).map_err(|e| unreadable(e.to_string()))?;
    if lock.version != VERSION {
        return Err(
            Diagnostic::error("the adapter was written by another version of vlft")
                .at(&path)
                .expected(format!("version {VERSION}"))
                .found(format!("version {}", lock.version)),
        );
    }
    Ok(Some(lock))
}
