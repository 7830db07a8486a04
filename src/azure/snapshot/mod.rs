//! The snapshot extension: its builds and methods, the way its requests take, and how it decides what to report.
//!
//! Facts are from `Azure/azure-linux-extensions`, folder `VMBackup/main`: commit `2209fc22` for the build until 2019,
//! `9a49fa28^` for the one until 2025, `b7eecd4b` for the current one.

mod decision;
mod way;

pub use decision::{Disk, Ending, HostAnswer, HostBody, HostDisk, HostSuccess, Message, Situation, Taker, decide};
pub use way::{Way, ways};

/// The one port on which the Linux extension asks storage, whatever the URI of the disk says (`HttpUtil.py`: the host of
/// the URI is all it takes).
pub const STORAGE_PORT: u16 = 443;

/// A build of the Linux snapshot extension (`VMSnapshotLinux`), as far as its network behaviour differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Build {
    /// Until 2019-06-26 (manifest up to 1.0.9152): the proxy of `waagent.conf` is used for storage and for the host.
    Until2019,
    /// 2019-07-11 to 2025-03-04 (manifest from 1.0.9154): the proxy is ignored when its host and port are both set.
    Until2025,
    /// Since 2025-03-05: a total failure of the guest's own snapshots ends as generic error 2.
    Current,
}

impl Build {
    /// All builds, oldest first.
    pub const ALL: [Self; 3] = [Self::Until2019, Self::Until2025, Self::Current];

    /// The consumer's name in options, records and reports.
    #[must_use]
    pub fn consumer(self) -> &'static str {
        match self {
            Self::Until2019 => "vmsnapshot-linux-2018",
            Self::Until2025 => "vmsnapshot-linux-2019",
            Self::Current => "vmsnapshot-linux",
        }
    }

    /// The build of this consumer.
    #[must_use]
    pub fn from_consumer(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|build| build.consumer() == name)
    }
}

/// How the extension takes a snapshot (`takeSnapshotFrom`, or `SnapshotMethod` in `/etc/azure/vmbackup.conf`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// The host takes it; the guest only when the host does not answer the preparation.
    #[default]
    FirstHostThenGuest,
    /// The guest takes it.
    OnlyGuest,
    /// The guest takes it; the host only when not one disk succeeded.
    FirstGuestThenHost,
    /// The host takes it.
    OnlyHost,
}

impl Method {
    /// All methods, the default first.
    pub const ALL: [Self; 4] = [Self::FirstHostThenGuest, Self::OnlyGuest, Self::FirstGuestThenHost, Self::OnlyHost];

    /// The name in the extension's settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FirstHostThenGuest => "firstHostThenGuest",
            Self::OnlyGuest => "onlyGuest",
            Self::FirstGuestThenHost => "firstGuestThenHost",
            Self::OnlyHost => "onlyHost",
        }
    }

    /// The method of this name; the extension takes an unknown one for its default, so `None` leaves that to the caller.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        assert!(Build::ALL.iter().all(|&build| Build::from_consumer(build.consumer()) == Some(build)));
        assert!(Method::ALL.iter().all(|&method| Method::from_name(method.as_str()) == Some(method)));
        assert_eq!((Build::from_consumer("waagent"), Method::from_name("onlyhost")), (None, None));
    }
}
