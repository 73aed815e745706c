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

/// Ties a worker's life to the parent's where nothing else does: on Windows a job object, which ends
/// the worker when its last handle is closed, by us or by the system after we died. It also keeps the
/// worker's real memory within its limit; what it takes beyond is paged until the parent has looked.
#[cfg(windows)]
pub(super) struct Leash {
    _job: Option<win32job::Job>,
}

#[cfg(windows)]
impl Leash {
    pub(super) fn on(child: &Child, memory_bytes: u64) -> Self {
        use std::os::windows::io::AsRawHandle;
        const LEAST_WORKING_SET: usize = 1 << 20;

        let mut limits = win32job::ExtendedLimitInfo::new();
        limits.limit_kill_on_job_close();
        let least = win32job::Job::create_with_limit_info(&limits).ok();
        if let (Some(job), Ok(most)) = (&least, usize::try_from(memory_bytes)) {
            limits.limit_working_memory(LEAST_WORKING_SET, most.max(LEAST_WORKING_SET * 2));
            // A limit that the system refuses is no reason to do without the other.
            let _ = job.set_extended_limit_info(&limits);
        }
        let job = least.filter(|job| job.assign_process(child.as_raw_handle() as isize).is_ok());
        Self { _job: job }
    }
}

/// Unix needs none: the worker confines itself, and its closed stdin ends it.
#[cfg(not(windows))]
pub(super) struct Leash;

#[cfg(not(windows))]
impl Leash {
    pub(super) fn on(_child: &Child, _memory_bytes: u64) -> Self {
        Self
    }
}

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

    /// Bytes in real memory, on Windows bytes committed (real memory is limited there, see [`Leash`]);
    /// 0 when the process is gone.
    pub(super) fn used(&mut self) -> u64 {
        self.system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[self.pid]),
            true,
            ProcessRefreshKind::nothing().with_memory(),
        );
        self.system
            .process(self.pid)
            .map_or(0, |process| match cfg!(windows) {
                true => process.memory().max(process.virtual_memory()),
                false => process.memory(),
            })
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
