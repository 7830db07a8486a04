//! One walk, layer by layer.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Evidence, Failure, Route};

/// A protocol layer of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Name lookup.
    Resolve,
    /// TCP.
    Connect,
    /// CONNECT through the proxy.
    Tunnel,
    /// TLS.
    Handshake,
    /// HTTP.
    Request,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tunnel => "tunnel",
            Self::Handshake => "handshake",
            Self::Request => "request",
        })
    }
}

/// Which peer a step talks to. Through a proxy a layer occurs twice: once with the proxy, once with the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// With the proxy itself.
    Proxy,
    /// With the endpoint, directly or inside the tunnel.
    Origin,
}

/// One step of a walk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// With whom.
    pub leg: Leg,
    /// When it began, in microseconds since the start of the run.
    pub start_us: u64,
    /// How long it took, in microseconds.
    pub elapsed_us: u64,
    /// What it left behind; the variant is the layer.
    #[serde(flatten)]
    pub evidence: Evidence,
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
}

impl Step {
    /// The layer of the step.
    #[must_use]
    pub fn layer(&self) -> Layer {
        self.evidence.layer()
    }
}

/// A probe that the engine added to tell two causes apart. It never counts as an attempt on its target.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Control {
    /// The same address with a different (or no) server name: does the name decide?
    OtherServerName {
        /// The name sent instead.
        sni: String,
    },
    /// The same address with a small maximum segment size: does the packet size decide?
    SmallSegments {
        /// The maximum segment size used, in bytes.
        mss: u32,
    },
    /// The same host through the proxy on another port: does the port decide?
    OtherPort,
    /// TLS spoken to a proxy that was configured as plain, or the reverse.
    OtherProxyScheme,
    /// On a new connection: what arrived at an origin of snapreach's own after it had half-closed?
    Recall,
    /// SYNs with a growing hop limit to the same address and port: how far do they get?
    Trace,
}

/// A service of the host channel, through which the platform itself talks to the machine. It is probed beside the
/// targets, directly and never through a proxy, and counts for none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostService {
    /// The wire server: orders for the agent and, in most snapshot methods, the snapshot itself.
    WireServer,
    /// The host plugin (`HostGAPlugin`): extension packages and status uploads.
    HostPlugin,
    /// Instance metadata: what the machine is, and which disks it has. A snapshot does not need it.
    InstanceMetadata,
}

/// One walk to one address over one route, or one lookup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Observation {
    /// Unique within the run, from 1.
    pub id: u32,
    /// The lookup that found the address.
    pub parent: Option<u32>,
    /// What was probed: `host:port` of the target or of the host channel's service, or the name looked up.
    pub subject: Arc<str>,
    /// Over which route. A lookup belongs to the route that needs it.
    pub route: Route,
    /// Number of the attempt, from 1.
    pub attempt: u16,
    /// The address dialled first (the origin's, or the proxy's), as planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Set on a probe that only tells causes apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// Set on a walk to the host channel, which is an attempt on no target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_service: Option<HostService>,
    /// The steps in order; only the last may have failed.
    pub steps: Vec<Step>,
}

impl Observation {
    /// The failed step, which is the last.
    #[must_use]
    pub fn failed(&self) -> Option<(&Step, &Failure)> {
        let step = self.steps.last()?;
        Some((step, step.failure.as_ref()?))
    }

    /// Whether this is a lookup rather than a walk.
    #[must_use]
    pub fn is_lookup(&self) -> bool {
        self.steps.first().is_some_and(|step| step.layer() == Layer::Resolve)
    }

    /// The step of this layer and leg.
    #[must_use]
    pub fn step(&self, layer: Layer, leg: Leg) -> Option<&Step> {
        self.steps.iter().find(|step| step.layer() == layer && step.leg == leg)
    }
}

#[derive(Deserialize)]
struct Unchecked {
    id: u32,
    parent: Option<u32>,
    subject: Arc<str>,
    route: Route,
    attempt: u16,
    address: Option<SocketAddr>,
    control: Option<Control>,
    host_service: Option<HostService>,
    steps: Vec<Step>,
}

/// A recorded observation that breaks the rules of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidObservation {
    /// No step at all.
    #[error("the observation has no step")]
    Empty,
    /// A step after a failed one.
    #[error("a step follows a failed step; only the last step of an observation may have failed")]
    AfterFailure,
}

impl TryFrom<Unchecked> for Observation {
    type Error = InvalidObservation;

    fn try_from(raw: Unchecked) -> Result<Self, InvalidObservation> {
        let Some((_, before)) = raw.steps.split_last() else {
            return Err(InvalidObservation::Empty);
        };
        if before.iter().any(|step| step.failure.is_some()) {
            return Err(InvalidObservation::AfterFailure);
        }
        let Unchecked { id, parent, subject, route, attempt, address, control, host_service, steps } = raw;
        Ok(Self { id, parent, subject, route, attempt, address, control, host_service, steps })
    }
}
