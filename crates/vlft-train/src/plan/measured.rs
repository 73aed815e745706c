//! What this process and this machine really have.

use serde::{Deserialize, Serialize};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// The memory of a run, beside what was predicted of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    pub predicted_bytes: u64,
    /// The most that this process ever had in memory; a resumed run is another process.
    pub peak_bytes: u64,
}

/// The most memory that this process ever had at once. None where the system does not tell.
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kibibytes * 1024)
}

/// Of all programs together, or what the container may have.
pub(super) fn memory_of_this_machine() -> u64 {
    let memory = MemoryRefreshKind::nothing().with_ram();
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(memory));
    match system.cgroup_limits() {
        Some(limits) => limits.total_memory.min(system.total_memory()),
        None => system.total_memory(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_at_least_what_is_there_now() {
        let memory = vec![1u8; 64 << 20];
        assert!(memory.iter().all(|byte| *byte == 1));
        if let Some(peak) = peak_bytes() {
            assert!(peak > 64 << 20);
            assert!(memory_of_this_machine() > peak);
        }
    }
}
