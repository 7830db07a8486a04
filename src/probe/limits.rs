//! The file descriptor limit, and what it allows.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are not probes: standard streams, the event queue, name servers, files.
const RESERVE: u64 = 96;

/// Raises the soft limit of file descriptors to the hard one, and says how many probes fit below it.
pub(super) fn raise() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let now = if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    let open = open_descriptors();
    usize::try_from(now.saturating_sub(open + RESERVE)).unwrap_or(usize::MAX).max(1)
}

/// Descriptors that this process has open already, inherited ones included.
fn open_descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(16, |entries| entries.count() as u64)
}
