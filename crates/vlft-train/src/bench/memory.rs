//! Memory as it was measured while steps ran, beside what was planned.

use burn::tensor::Device;
use serde::Serialize;

use crate::plan::{Memory, peak_bytes};

/// Bytes: of the process on a CPU, of the device's pools on a GPU.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemoryUse {
    /// Before anything was loaded: the program itself.
    pub before_bytes: u64,
    /// With weights, adapters and the check of the records behind it.
    pub loaded_bytes: u64,
    /// The most that was seen between two steps: what stays.
    pub between_steps_bytes: u64,
    /// After each step: whether it grows.
    pub after_steps_bytes: Vec<u64>,
    /// The most that there ever was.
    pub peak_bytes: u64,
    /// What `vlft plan` says of this run, part by part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Memory>,
}

impl MemoryUse {
    pub(super) fn before(device: &Device) -> Self {
        let now = now(device).0;
        Self {
            before_bytes: now,
            loaded_bytes: now,
            between_steps_bytes: 0,
            after_steps_bytes: Vec::new(),
            peak_bytes: now,
            predicted: None,
        }
    }

    pub(super) fn loaded(&mut self, device: &Device) {
        let (now, peak) = now(device);
        self.loaded_bytes = now;
        self.peak_bytes = self.peak_bytes.max(peak);
    }

    pub(super) fn after_step(&mut self, device: &Device) {
        let (now, peak) = now(device);
        self.between_steps_bytes = self.between_steps_bytes.max(now);
        self.after_steps_bytes.push(now);
        self.peak_bytes = self.peak_bytes.max(peak);
    }
}

/// In use now, and the most that the device or the process holds or held.
fn now(device: &Device) -> (u64, u64) {
    if let Some(pools) = device.memory_pool_usage() {
        // Pools do not shrink while a run goes on: what is reserved was needed once.
        return (pools.bytes_in_use, pools.bytes_reserved);
    }
    let resident = memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64);
    (resident, peak_bytes().unwrap_or(resident))
}
