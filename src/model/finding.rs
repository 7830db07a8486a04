//! What the observations mean.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Route;

/// A finding code, `layer.name`. Codes are append-only and never renamed; the catalogue holds one entry for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Code(pub &'static str);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Between whom it happened, and therefore who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Hop {
    /// This machine, before any packet.
    Local,
    /// Between this machine and the proxy.
    ClientToProxy,
    /// The proxy itself spoke.
    Proxy,
    /// What the proxy reports about its own attempt.
    ProxyToOrigin,
    /// Between this machine and the endpoint, direct or inside a tunnel.
    ClientToOrigin,
    /// The endpoint spoke.
    Origin,
    /// Wire server or instance metadata.
    Host,
    /// The agent or extension would behave differently from this probe.
    Consumer,
}

/// How sure a finding is, surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Error number, response code, alert, signed chain, authentic storage answer.
    Proof,
    /// A third party says so: status, header, page.
    Reported,
    /// A control differs: other port, other route, other server name, repeat.
    Differential,
    /// One silence, a pattern.
    Heuristic,
    /// Cannot tell.
    Unknown,
}

/// How bad a finding is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// This route to this target does not work.
    Error,
    /// It works, but will bite.
    Warning,
    /// Context.
    Info,
}

/// Who caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// This machine.
    Client,
    /// A name server.
    Resolver,
    /// Something on the path: security group, route, firewall, inspection.
    Path,
    /// The forward proxy.
    Proxy,
    /// The endpoint.
    Origin,
    /// Cannot tell.
    Unknown,
}

/// What to do, with commands to copy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// One imperative sentence.
    pub title: String,
    /// What it opens, and what it cannot do in this case; empty where the title says enough.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Commands or configuration lines; may be empty.
    pub commands: Vec<String>,
    /// The same for other tools, where that is of use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forms: Vec<Form>,
}

/// The commands of a remedy for another tool or place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Form {
    /// Which: `Azure PowerShell`, `Terraform`, `Windows`, …
    pub tool: String,
    /// Commands or configuration lines.
    pub commands: Vec<String>,
}

/// One finding: all observations with the same code, hop and route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which finding.
    pub code: Code,
    /// Between whom.
    pub hop: Hop,
    /// How bad.
    pub severity: Severity,
    /// How sure.
    pub confidence: Confidence,
    /// Whose doing.
    pub party: Party,
    /// Targets concerned, `host:port`, sorted and without duplicates.
    pub targets: Vec<String>,
    /// The route; `None` where the finding belongs to no route.
    pub route: Option<Route>,
    /// Attempts that showed it.
    pub failed: u32,
    /// Attempts made on these targets over this route.
    pub tried: u32,
    /// One sentence.
    pub summary: String,
    /// What was seen, a line each.
    pub evidence: Vec<String>,
    /// What to do, best first.
    pub remedies: Vec<Remedy>,
    /// Ids of the observations behind it.
    pub observations: Vec<u32>,
}

/// The overall result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Every target answers as storage on the route that counts.
    Clear,
    /// It works, with warnings, or a route that does not count is broken.
    Degraded,
    /// At least one target does not work on the route that counts.
    Blocked,
    /// Could not measure, or cannot tell.
    Inconclusive,
}

impl Status {
    /// The exit code that belongs to it, without `--strict` and without an interrupt.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Clear | Self::Degraded => 0,
            Self::Blocked => 1,
            Self::Inconclusive => 3,
        }
    }
}

/// The overall result in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The result.
    pub status: Status,
    /// One sentence.
    pub summary: String,
    /// The exit code that follows without `--strict` and without an interrupt.
    pub exit_code: u8,
}

/// What a consumer (the snapshot extension, the agent) would itself report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Prediction {
    /// Whose behaviour.
    pub consumer: String,
    /// Which snapshot method.
    pub method: String,
    /// How it ends.
    pub outcome: Outcome,
    /// What that means for people, whatever number the build reports.
    pub class: Class,
    /// The status file's `code`; 1 is success.
    pub extension_code: Option<i32>,
    /// The health code.
    pub extension_error_code: Option<i32>,
    /// The extension's own name of the code.
    pub extension_name: Option<String>,
    /// What the portal shows.
    pub portal_error: Option<String>,
    /// Why.
    pub reason: String,
    /// Ids of the observations behind it.
    pub observations: Vec<u32>,
}

/// How a consumer's work ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The snapshot is taken.
    Success,
    /// It is not.
    Failure,
    /// Too little was observed.
    Unknown,
}

/// What a failed snapshot means for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Nothing failed.
    None,
    /// No storage endpoint could be reached.
    NoNetwork,
    /// Some could.
    RestrictedNetwork,
    /// The host refused.
    HostError,
    /// Too many snapshots in too short a time.
    RateExceeded,
    /// Too many snapshots of a blob.
    LimitReached,
    /// Anything else.
    GenericError,
}

/// The state of one target on one route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Index into [`super::Record::targets`].
    pub target: usize,
    /// The route.
    pub route: Route,
    /// What came out.
    pub status: CellStatus,
    /// Attempts that passed.
    pub passed: u32,
    /// Attempts made.
    pub tried: u32,
    /// Median total time of the passed attempts, or of all when none passed, in microseconds.
    pub elapsed_us: u64,
    /// The observations behind it.
    pub observations: Vec<u32>,
}

/// What came out for a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CellStatus {
    /// Every attempt passed.
    Ok,
    /// Some or all attempts passed, with this warning.
    Warning(Code),
    /// It does not work: the dominant error.
    Error(Code),
    /// Nothing was measured.
    NotRun,
}

/// The judgement over a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// The overall result.
    pub verdict: Verdict,
    /// What consumers would report; the chosen method first.
    pub predictions: Vec<Prediction>,
    /// Findings: errors first, then by number of targets.
    pub findings: Vec<Finding>,
    /// One cell per target and route, in the order of the targets.
    pub cells: Vec<Cell>,
}
