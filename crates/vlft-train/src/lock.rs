//! `preprocess.lock.json` beside an adapter: the resolution, resize and template contract that
//! serving must repeat, and the base that the adapter was trained on.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use vlft_base::output::write_atomic;
use vlft_base::{Diagnostic, Result};
use vlft_checkpoint::Part;
use vlft_model::{Frozen, Quantization};
use vlft_processor::contract::Contract;
use vlft_processor::processor::{Options as Limits, Processor};

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

/// The pixel limits of training, where nothing else is asked for.
pub(crate) fn limits(
    locked: Option<&Lock>,
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
) -> Limits {
    let contract = locked.map(|lock| lock.contract.options());
    Limits {
        min_pixels: min_pixels.or(contract.as_ref().and_then(|c| c.min_pixels)),
        max_pixels: max_pixels.or(contract.as_ref().and_then(|c| c.max_pixels)),
    }
}

/// Frozen weights as they were in training, unless another `base` is asked for; without a lock as they
/// are stored.
pub(crate) fn frozen(locked: Option<&Lock>, base: Option<Base>) -> Frozen {
    let quantization = Quantization {
        double_quant: locked.is_none_or(|lock| lock.double_quant),
        parts: locked.map_or_else(default_parts, |lock| lock.quantize.clone()),
        cache: None,
    };
    base.or(locked.map(|lock| lock.base))
        .map_or_else(Frozen::as_stored, |base| base.frozen(quantization))
}

/// What a processor shows the model otherwise than training did.
pub(crate) fn warnings(locked: Option<&Lock>, processor: &Processor) -> Vec<Diagnostic> {
    let differences = locked.map(|lock| lock.contract.differences(&processor.contract()));
    let differences = differences.unwrap_or_default().into_iter();
    let warning = "the model is shown something else than in training";
    differences
        .map(|difference| Diagnostic::warning(warning).caused_by(difference))
        .collect()
}

/// Of an adapter without a lock.
pub(crate) fn absent(adapter: &Path) -> Diagnostic {
    Diagnostic::warning("the adapter does not say how its images were resized")
        .at(adapter.join(LOCK_FILE))
        .hint("the model's own limits are used; `vlft eval --max-pixels` takes others")
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
