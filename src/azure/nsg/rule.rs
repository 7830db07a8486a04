//! Security rules and groups, as Azure evaluates them, whatever dialect they were written in.

use std::fmt;

use super::address::Ranges;

/// The highest number of a rule that people make; the default rules have 65000 and more
/// ("Network security groups", security rules).
pub(super) const LAST_CUSTOM_PRIORITY: u16 = 4096;

/// The lowest number of a rule.
pub(super) const FIRST_PRIORITY: u16 = 100;

/// A network security group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "a resource group is another thing")]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) resource_group: Option<String>,
    pub(super) attached: Attached,
    /// Of both directions; the outbound ones are sorted by priority, those without one last.
    pub(super) rules: Vec<Rule>,
}

impl Group {
    /// Rules that judge, or may judge, what leaves, in the order in which they are asked.
    pub(super) fn outbound(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.direction != Some(Direction::Inbound))
    }
}

/// What a group is attached to. Outbound, the one of the network interface is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Attached {
    NetworkInterface,
    /// The file does not tell, or names both kinds.
    Unsaid,
    Subnet,
}

impl Attached {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NetworkInterface => "network interface",
            Self::Unsaid => "",
            Self::Subnet => "subnet",
        }
    }
}

/// A security rule. What a template leaves open is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: String,
    /// Lowest first. `None`: it may stand anywhere.
    pub(super) priority: Option<u16>,
    pub(super) direction: Option<Direction>,
    pub(super) access: Option<Access>,
    pub(super) protocols: Protocols,
    pub(super) source: Addresses,
    pub(super) source_ports: Ports,
    pub(super) destination: Addresses,
    pub(super) ports: Ports,
    /// Whether every group has it.
    pub(super) default: bool,
}

impl Rule {
    /// Whether its place and what it does are known, so that it can decide alone.
    pub(super) fn is_placed(&self) -> bool {
        self.priority.is_some() && self.direction.is_some()
    }

    /// A rule of which nothing is known but its name.
    pub(super) fn undecided(name: String, reason: &str) -> Self {
        let addresses = || Addresses { terms: vec![Term::Undecided(reason.to_owned())], expanded: None };
        let ports = || Ports { ranges: Vec::new(), undecided: vec![reason.to_owned()] };
        Self {
            name,
            priority: None,
            direction: None,
            access: None,
            protocols: Protocols::Unknown,
            source: addresses(),
            source_ports: ports(),
            destination: addresses(),
            ports: ports(),
            default: false,
        }
    }
}

/// The three outbound rules that every group has (`DefaultSecurityRuleList` in Azure's REST API specifications).
pub(super) fn default_outbound() -> [Rule; 3] {
    let rule = |name: &str, priority, access, source: Term, destination: Term| Rule {
        name: name.to_owned(),
        priority: Some(priority),
        direction: Some(Direction::Outbound),
        access: Some(access),
        protocols: Protocols::Any,
        source: Addresses { terms: vec![source], expanded: None },
        source_ports: Ports::any(),
        destination: Addresses { terms: vec![destination], expanded: None },
        ports: Ports::any(),
        default: true,
    };
    let tag = |name: &str| Term::Tag(name.to_owned());
    [
        rule("AllowVnetOutBound", 65000, Access::Allow, tag("VirtualNetwork"), tag("VirtualNetwork")),
        rule("AllowInternetOutBound", 65001, Access::Allow, Term::Any, tag("Internet")),
        rule("DenyAllOutBound", 65500, Access::Deny, Term::Any, Term::Any),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Inbound,
    Outbound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Allow,
    Deny,
}

/// A protocol that rules tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// Encapsulating Security Payload (`IPsec`).
    Esp,
    /// Authentication Header (`IPsec`).
    Ah,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Esp, Self::Ah];

    /// The name that rules use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "Tcp",
            Self::Udp => "Udp",
            Self::Icmp => "Icmp",
            Self::Esp => "Esp",
            Self::Ah => "Ah",
        }
    }

    /// The protocol of this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Protocols of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocols {
    Any,
    One(Protocol),
    Unknown,
}

/// Whether something matches, as far as the files tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tri {
    No,
    Maybe,
    Yes,
}

/// Source or destination of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    /// What the rule says; any of them matches.
    pub(super) terms: Vec<Term>,
    /// What Azure made of the terms, in effective rules.
    pub(super) expanded: Option<Ranges>,
}

impl Addresses {
    /// Whether a term is this tag.
    pub(super) fn names(&self, tag: &str) -> bool {
        self.terms.iter().any(|term| matches!(term, Term::Tag(name) if name.eq_ignore_ascii_case(tag)))
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MAX: usize = 3;
        for (index, term) in self.terms.iter().take(MAX).enumerate() {
            write!(f, "{}{term}", if index == 0 { "" } else { ", " })?;
        }
        if self.terms.len() > MAX {
            write!(f, " and {} more", self.terms.len() - MAX)?;
        }
        Ok(())
    }
}

/// One prefix of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Term {
    Any,
    /// A literal address, prefix or range, as it was written.
    Literal(String, Ranges),
    /// A service tag.
    Tag(String),
    /// An application security group, or an expression of a template.
    Undecided(String),
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "*",
            Self::Literal(text, _) | Self::Tag(text) | Self::Undecided(text) => text,
        })
    }
}

/// Ports of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports {
    /// First and last port, both included.
    pub(super) ranges: Vec<(u16, u16)>,
    /// Expressions of a template.
    pub(super) undecided: Vec<String>,
}

impl Ports {
    pub(super) fn any() -> Self {
        Self { ranges: vec![(0, u16::MAX)], undecided: Vec::new() }
    }

    pub(super) fn is_any(&self) -> bool {
        self.ranges.contains(&(0, u16::MAX))
    }

    pub(super) fn matches(&self, port: u16) -> Tri {
        if self.ranges.iter().any(|&(first, last)| (first..=last).contains(&port)) {
            Tri::Yes
        } else if self.undecided.is_empty() {
            Tri::No
        } else {
            Tri::Maybe
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_any() {
            return f.write_str("*");
        }
        let ranges = self.ranges.iter().map(
            |&(first, last)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            },
        );
        let all: Vec<String> = ranges.chain(self.undecided.iter().cloned()).collect();
        f.write_str(&all.join(", "))
    }
}
