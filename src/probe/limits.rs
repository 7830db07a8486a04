//! The file descriptor limit, and what it allows.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors that are neither probes nor lookups: the event queue, files of the report.
const RESERVE: usize = 24;

/// A lookup asks for two families by UDP and, at worst, both again by TCP.
const PER_LOOKUP: usize = 4;

/// How much may be in flight, so that no probe ever fails for want of a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// Walks, one socket each.
    pub(super) walks: usize,
    /// Lookups.
    pub(super) lookups: usize,
}

/// Raises the soft limit of file descriptors to the hard one, and says how much fits below it.
pub(super) fn raise() -> Room {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let now = if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
    share(usize::try_from(now).unwrap_or(usize::MAX), open_descriptors())
}

fn share(limit: usize, open: usize) -> Room {
    let free = limit.saturating_sub(open + RESERVE);
    let lookups = (free / 16).clamp(1, 64);
    Room { walks: free.saturating_sub(lookups * PER_LOOKUP).max(1), lookups }
}

/// Descriptors that this process has open already, inherited ones included.
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(16, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_always_fits_below_the_limit() {
        for limit in [64, 256, 1024, 20_000, 1 << 20] {
            let room = share(limit, 8);
            assert!(room.walks + room.lookups * PER_LOOKUP + RESERVE + 8 <= limit, "{limit}: {room:?}");
        }
        assert_eq!(share(0, 8), Room { walks: 1, lookups: 1 });
    }
}
