//! Plain data, and nothing else: what was asked ([`Target`], [`Route`]), what was seen ([`Observation`]), and what
//! it means ([`Finding`], [`Verdict`]). Everything here serialises; nothing here opens a socket, reads a clock or
//! judges.

mod discovery;
mod evidence;
mod excerpt;
mod failure;
mod finding;
mod observation;
mod record;
mod secret;
mod security;
mod target;

pub use discovery::{
    ChosenMethod, ConsumerProxy, Discovery, DiscoverySource, ExtensionProxy, InstalledExtension, Instance,
    InstanceDisk, LastDisk, LastRun,
};
pub use evidence::{
    Address, Alert, Alias, Certificate, ConnectEvidence, DnsAnswer, Evidence, ExchangeEvidence, ExtendedError,
    HandshakeEvidence, IcmpError, IcmpFamily, RequestEvidence, ResolveEvidence, ResolverView, Router, TcpInfo,
    TcpState, Transport, TrustAnchor, TunnelEvidence, Verification,
};
pub use excerpt::Excerpt;
pub use failure::{Failure, FailureKind};
pub use finding::{
    Assessment, Cell, CellStatus, Class, Code, Confidence, Finding, Hop, Outcome, Party, Prediction, Remedy, Severity,
    Status, Verdict,
};
pub use observation::{Control, HostService, InvalidObservation, Layer, Leg, Observation, Step};
pub use record::{
    Context, HostsOverride, MisreadLine, NotRun, ProxyCapture, ProxySource, Record, RecordError, SCHEMA, ToolInfo,
};
pub use secret::{REDACTED, Redactor, Secret};
pub use security::{Decision, FlowVerdict, GroupVerdict, RouteVerdict, RuleRef, Security, SuggestedRule};
pub use target::{Expectation, Host, Route, Scheme, Target, TargetError};
