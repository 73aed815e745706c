//! What a worker may take from the machine. Set by the worker on itself before it opens anything.
//!
//! On Windows there are no such limits yet (a Job Object would do it); the timeout and the caps on
//! page sizes hold there all the same.

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
    #[cfg(target_os = "linux")]
    {
        // macOS accepts the call and ignores it.
        let _ = setrlimit(Resource::As, at_most(memory_bytes));
        use rustix::process::{Signal, set_parent_process_death_signal};
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
    }
    #[cfg(not(target_os = "linux"))]
    let _ = memory_bytes;
}

#[cfg(not(unix))]
pub(super) fn confine(_memory_bytes: u64) {}
