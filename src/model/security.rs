//! What the network security groups and routes given to the program say about the flows that were probed.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The static judgement over the flows of a run: evaluated once, after the probes found the addresses, and kept in the
/// record, so that a replay needs no files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// The files that were read, with what each held in a few words.
    pub sources: Vec<String>,
    /// One entry for each flow.
    pub flows: Vec<FlowVerdict>,
}

/// What the groups and routes say about one flow out of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowVerdict {
    /// The target or party, `host:port`; also the proxy's, for the route to it.
    pub subject: String,
    /// The address that was judged; `None`: a service tag as a whole.
    pub address: Option<IpAddr>,
    /// The TCP port.
    pub port: u16,
    /// What all of them together say.
    pub decision: Decision,
    /// The rule that decides in each group, in the order in which Azure asks them.
    pub groups: Vec<GroupVerdict>,
    /// The route that the packets take, where routes were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteVerdict>,
    /// Why, one sentence each: what is shadowed, what misses and by how much, what could not be decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The code of the finding that a denial makes: `nsg.denied`, `nsg.port_excluded`, `nsg.shadowed` or
    /// `nsg.default_denied`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The rule that would let the flow through, in the first group that denies it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<SuggestedRule>,
    /// The same for the other groups that deny it: every group must allow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<SuggestedRule>,
}

impl FlowVerdict {
    /// The rules to add: one for each group that denies.
    pub fn suggestions(&self) -> impl Iterator<Item = &SuggestedRule> {
        self.suggestion.iter().chain(&self.further)
    }
}

/// Whether a flow may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Every group lets it through, and the route leads somewhere.
    Allowed,
    /// A group or the route stops it.
    Denied,
    /// The files do not tell: a tag without a service tag file, an application security group.
    Unknown,
}

/// The rule of one group that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupVerdict {
    /// The group's name.
    pub group: String,
    /// Where it is attached: `network interface`, `subnet`; empty where the file does not say.
    pub attached: String,
    /// What it says.
    pub decision: Decision,
    /// The rule; `None` where none could be decided on.
    pub rule: Option<RuleRef>,
    /// Allow rules below that rule which would have let the flow through, and are never asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadowed: Vec<RuleRef>,
}

/// A rule by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRef {
    /// Its name.
    pub name: String,
    /// Its priority: the lowest number is asked first.
    pub priority: u16,
    /// Whether it allows.
    pub allows: bool,
    /// Whether it is one of the rules that every group has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
}

/// The effective route of a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteVerdict {
    /// The prefix that matches: `0.0.0.0/0`.
    pub prefix: String,
    /// `Internet`, `VirtualAppliance`, `None`, …
    pub next_hop: String,
    /// The appliance's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop_address: Option<IpAddr>,
    /// `Default`, `User`, `VirtualNetworkGateway`.
    pub source: String,
}

/// An outbound allow rule for TCP that is to be added, its priority computed from the rules given: above the rule that
/// denies, and free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuggestedRule {
    /// The group to add it to.
    pub group: String,
    /// The group's resource group, where the file names it.
    pub resource_group: Option<String>,
    /// A name that the group does not have yet.
    pub name: String,
    /// `None`: no number is free above the rule that denies; that rule has to move first.
    pub priority: Option<u16>,
    /// Source prefixes, `VirtualNetwork` or narrower.
    pub source: String,
    /// Destination: a service tag such as `Storage.WestEurope`, or an address.
    pub destination: String,
    /// Destination ports.
    pub ports: Vec<u16>,
}
