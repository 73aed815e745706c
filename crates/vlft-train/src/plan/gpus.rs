//! GPUs that can be rented, as their makers describe them and as they were offered. Data, not code: a
//! number here has a source and a date, and `--price` overrides what changes fastest.

use std::str::FromStr;

use serde::Serialize;
use vlft_base::{Diagnostic, Result, did_you_mean, one_of};

/// One kind of card.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gpu {
    pub name: &'static str,
    pub memory_bytes: u64,
    /// Bytes a second.
    pub bandwidth: f64,
    /// Dense bf16 with f32 sums, operations a second.
    pub bf16_peak: f64,
    /// US dollars; None: no price was found.
    pub price_per_hour: Option<f64>,
}

const GB: u64 = 1_000_000_000;
const GIB: u64 = 1 << 30;

const fn gpu(
    name: &'static str,
    memory_gib: u64,
    bandwidth_gb: f64,
    bf16_tera: f64,
    price_per_hour: Option<f64>,
) -> Gpu {
    Gpu {
        name,
        memory_bytes: memory_gib * GIB,
        bandwidth: bandwidth_gb * 1e9,
        bf16_peak: bf16_tera * 1e12,
        price_per_hour,
    }
}

/// Memory, bandwidth and peak: NVIDIA's data sheets (RTX A6000 2021, A40 2021, RTX 3090 and GA102 white
/// paper 2020, RTX 4090 and Ada white paper 2022, L4 and L40S 2023, A100 80GB 2021, H100 2023, H200 2024);
/// dense numbers, half of those advertised with sparsity. A card shows a little less memory than its name
/// says: error correction and the driver take their share.
///
/// Prices: RunPod's own data centres ("Secure Cloud"), on demand, in US dollars an hour, as others wrote
/// them down from runpod.io/pricing: A100, H100 on 2026-11-09 (datareceipts/data-receipts), H200 on
/// 2026-10-07 (api-evangelist/runpod), A40 on 2026-08-19 (privum/ai-compute-prices), A6000 and 4090 in
/// July 2026; 3090, L4 and L40S as listed by deploybase.ai on 2026-03-10. `--price` says what you pay.
pub const GPUS: [Gpu; 10] = [
    gpu("a6000", 48, 768.0, 154.8, Some(0.49)),
    gpu("a40", 48, 696.0, 149.7, Some(0.44)),
    gpu("3090", 24, 936.0, 71.2, Some(0.39)),
    gpu("4090", 24, 1008.0, 165.2, Some(0.69)),
    gpu("l4", 24, 300.0, 121.0, Some(0.78)),
    gpu("l40s", 48, 864.0, 362.0, Some(1.40)),
    gpu("a100-80gb", 80, 2039.0, 312.0, Some(1.79)),
    gpu("h100-pcie", 80, 2000.0, 756.0, Some(2.89)),
    gpu("h100", 80, 3350.0, 989.0, Some(3.99)),
    gpu("h200", 141, 4800.0, 989.0, Some(4.59)),
];

/// What `--gpu` names: a card of the list, or only so much memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    Named(Gpu),
    Memory(u64),
}

impl Target {
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Target::Named(gpu) => gpu.memory_bytes,
            Target::Memory(bytes) => *bytes,
        }
    }

    pub fn gpu(&self) -> Option<&Gpu> {
        match self {
            Target::Named(gpu) => Some(gpu),
            Target::Memory(_) => None,
        }
    }
}

impl FromStr for Target {
    type Err = Diagnostic;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.to_ascii_lowercase();
        if let Some(gpu) = GPUS.iter().find(|gpu| gpu.name == name) {
            return Ok(Target::Named(*gpu));
        }
        let units = [("gib", GIB), ("gb", GB)];
        for (unit, factor) in units {
            let number = name
                .strip_suffix(unit)
                .map(str::trim)
                .map(str::parse::<f64>);
            if let Some(Ok(number)) = number
                && number.is_finite()
                && (0.001..1e6).contains(&number)
            {
                return Ok(Target::Memory((number * factor as f64) as u64));
            }
        }
        let names = || GPUS.iter().map(|gpu| gpu.name);
        let unknown = Diagnostic::error(format!("unknown GPU `{text}`"))
            .expected(format!("{}, or memory such as `24GiB`", one_of(names())));
        Err(match did_you_mean(&name, names()) {
            Some(near) => unknown.hint(format!("did you mean `{near}`?")),
            None => unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes_are_understood() {
        let target = |text: &str| text.parse::<Target>();
        assert_eq!(target("A6000").unwrap().memory_bytes(), 48 * GIB);
        assert_eq!(target("24GiB").unwrap(), Target::Memory(24 * GIB));
        assert_eq!(target("24 gb").unwrap(), Target::Memory(24 * GB));
        assert_eq!(target("0.5GiB").unwrap(), Target::Memory(GIB / 2));
        for wrong in ["", "a600", "24", "-3GiB", "nanGiB", "infGB", "GiB", "24TiB"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            target("a600").unwrap_err().hint_text(),
            Some("did you mean `a6000`?")
        );
    }
}
