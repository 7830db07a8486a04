//! The file descriptor limit, and what it allows.

#[cfg(feature = "conformance")]
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
#[cfg(feature = "conformance")]
use nix::sys::socket::{SockaddrStorage, getsockname};

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

/// The file descriptors of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// How many there may be.
    pub(crate) limit: usize,
    /// How many there are, inherited ones included.
    pub(crate) open: usize,
}

impl Descriptors {
    /// Raises the soft limit to the hard one, and counts.
    pub(crate) fn raised() -> Self {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
        let now = if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft };
        let open = std::fs::read_dir("/proc/self/fd").map_or(16, Iterator::count);
        Self { limit: usize::try_from(now).unwrap_or(usize::MAX), open }
    }

    /// How many more may be opened for probes.
    pub(crate) fn free(self) -> usize {
        self.limit.saturating_sub(self.open + RESERVE)
    }
}

/// Whether somebody in this process serves at this address: a socket of its own has it.
#[cfg(feature = "conformance")]
pub(crate) fn is_served_here(address: SocketAddr) -> bool {
    let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return false };
    descriptors.flatten().any(|entry| {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let own = number.and_then(|number| getsockname::<SockaddrStorage>(number).ok());
        own.is_some_and(|own| {
            let (v4, v6) = (own.as_sockaddr_in(), own.as_sockaddr_in6());
            let own = v4.map(|&a| SocketAddr::from(SocketAddrV4::from(a)));
            own.or_else(|| v6.map(|&a| SocketAddrV6::from(a).into())) == Some(address)
        })
    })
}

/// Raises the soft limit of file descriptors to the hard one, and says how much fits below it.
pub(super) fn raise() -> Room {
    share(Descriptors::raised())
}

fn share(descriptors: Descriptors) -> Room {
    let free = descriptors.free();
    let lookups = (free / 16).clamp(1, 64);
    Room { walks: free.saturating_sub(lookups * PER_LOOKUP).max(1), lookups }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_serves_in_this_process_is_known() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let address = listener.local_addr().unwrap();
            assert!(is_served_here(address));
            assert!(!is_served_here(SocketAddr::new(address.ip(), 1)));
            drop(listener);
            assert!(!is_served_here(address));
        }
    }

    #[test]
    fn what_is_in_flight_always_fits_below_the_limit() {
        for limit in [64, 256, 1024, 20_000, 1 << 20] {
            let room = share(Descriptors { limit, open: 8 });
            assert!(room.walks + room.lookups * PER_LOOKUP + RESERVE + 8 <= limit, "{limit}: {room:?}");
        }
        assert_eq!(share(Descriptors { limit: 0, open: 8 }), Room { walks: 1, lookups: 1 });
    }
}
