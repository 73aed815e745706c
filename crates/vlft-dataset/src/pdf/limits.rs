//! What a worker may take from the machine.
//!
//! The parent watches how much memory a worker really uses and ends it when that is too much. A hard
//! limit alone would be worse than none: where an allocation fails, pdfium leaves out the picture
//! or the transparency group that wanted it and reports success (measured with build 8149: a page
//! with one group, under a limit of 300 MiB). So the hard limit, set by the worker on itself, lies
//! far above and only stops what runs away between two looks.

use std::process::Child;
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// How often the parent looks. A worker writes some hundred MiB in this time at worst.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Two of the largest single allocations that pdfium ever makes.
#[cfg(unix)]
const HARD_LIMIT_ABOVE: u64 = 4 << 30;

/// Limits memory, forbids core dumps (a crash must not fill the disk), and on Linux ties the
/// worker's life to its parent's. A limit that the system refuses is no reason to stop.
#[cfg(unix)]
pub(super) fn confine(memory_bytes: u64) {
    use rustix::process::{Resource, Rlimit, setrlimit};

    let at_most = |bytes| Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    let _ = setrlimit(Resource::Core, at_most(0));
    // macOS accepts this call and ignores it.
    let _ = setrlimit(
        Resource::As,
        at_most(memory_bytes.saturating_add(HARD_LIMIT_ABOVE)),
    );
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
}

#[cfg(not(unix))]
pub(super) fn confine(_memory_bytes: u64) {}

/// Tells how much memory a worker uses.
pub(super) struct MemoryWatch {
    system: System,
    pid: Pid,
}

impl MemoryWatch {
    pub(super) fn new(child: &Child) -> Self {
        Self {
            system: System::new(),
            pid: Pid::from_u32(child.id()),
        }
    }

    /// Bytes in real memory; 0 when the process is gone.
    pub(super) fn used(&mut self) -> u64 {
        self.system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[self.pid]),
            true,
            ProcessRefreshKind::nothing().with_memory(),
        );
        self.system
            .process(self.pid)
            .map_or(0, |process| process.memory())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_process_is_seen() {
        let system = System::new();
        let pid = Pid::from_u32(std::process::id());
        let used = MemoryWatch { system, pid }.used();
        assert!(used > 1 << 20, "{used}");
    }
}
