//! What is measured.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// What is done again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// A TCP connect, to the target or to the proxy.
    Connect,
    /// A connection with a TLS handshake, and through a proxy with a tunnel before it.
    Tls,
    /// A connection to the proxy with a CONNECT that it grants.
    Tunnel,
    /// A small GET on a connection that stays.
    Request,
    /// Bytes from the target.
    Download,
    /// Bytes to the target.
    Upload,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Connect, Self::Tls, Self::Tunnel, Self::Request, Self::Download, Self::Upload];

    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Tunnel => "tunnel",
            Self::Request => "request",
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }

    /// Whether bytes count, and not how often something is done.
    #[must_use]
    pub const fn is_bulk(self) -> bool {
        matches!(self, Self::Download | Self::Upload)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who decides when the next operation begins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model", rename_all = "snake_case")]
pub enum Load {
    /// The end of the one before: a fixed number is under way at once.
    Closed,
    /// The clock: so many per second, however long they take. Latency counts from the moment at which an operation was
    /// due, so that a stalled peer shows in full (coordinated omission).
    Open {
        /// Operations per second.
        rate: f64,
    },
}

/// How an HTTP request goes through a proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Inside a CONNECT tunnel.
    #[default]
    Tunnel,
    /// To the proxy itself, with the target's absolute form (RFC 9112 section 3.2.2).
    Absolute,
}

/// One path that is measured.
#[derive(Debug, Clone)]
pub struct Arm {
    /// What it is, for people: `direct`, `through http://10.0.0.5:3128`, `lab`.
    pub label: String,
    /// Exactly one target and one route, with everything a connection needs.
    pub plan: Plan,
    /// How requests go through the plan's proxy.
    pub form: Form,
}

/// What is measured, over every arm alike.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What is done.
    pub workload: Workload,
    /// When.
    pub load: Load,
    /// Connections at once; in the open model the most that may be under way.
    pub connections: usize,
    /// How long is measured, without the warm-up.
    pub duration: Duration,
    /// How long is thrown away before.
    pub warmup: Duration,
    /// Payload bytes of one transfer.
    pub bytes: u64,
    /// An operation that takes longer has failed; failures count with this latency.
    pub timeout: Duration,
    /// Whether TLS sessions are resumed.
    pub resumed: bool,
    /// Whether what comes is compared with what should come.
    pub verify: bool,
    /// The congestion control of this side's sockets; `None`: the system's.
    pub congestion: Option<String>,
    /// Decides what is left to chance.
    pub seed: u64,
}
