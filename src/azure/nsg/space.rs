//! Which addresses the terms of rules stand for, as far as the files tell.

use std::{collections::HashMap, net::IpAddr};

use super::{
    address::{Ranges, number},
    policy::Policy,
    rule::{Addresses, Group, Term, Tri},
    tags::{ServiceTags, canonical},
};

/// The host's addresses for its guests. Groups do not apply to them, except by rules with the tag named beside
/// ("What is IP address 168.63.129.16", "Virtual network service tags").
pub(super) const PLATFORM: [([u8; 4], &str); 2] =
    [([168, 63, 129, 16], "AzurePlatformDNS"), ([169, 254, 169, 254], "AzurePlatformIMDS")];

/// Services that have no address in common: "Virtual network service tags" lists the first and the last as what
/// `AzureBackup` depends on and does not contain.
const APART: [&str; 3] = ["azureactivedirectory", "azurebackup", "storage"];

/// The address space that rules speak of.
#[derive(Debug, Clone)]
pub(super) struct Space {
    /// By the tags' names as rules write them.
    tags: HashMap<String, Tag>,
}

/// A tag, resolved.
#[derive(Debug, Clone)]
pub(super) struct Tag {
    pub(super) canonical: String,
    /// Addresses that are in it.
    pub(super) sure: Ranges,
    /// Addresses that may be in it.
    pub(super) maybe: Ranges,
    /// Whether the files list it.
    pub(super) is_known: bool,
}

/// Whom a flow goes to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Party<'a> {
    /// An address; the tag, in canonical form, that it is taken to belong to where no list tells.
    Address(IpAddr, Option<&'a str>),
    /// All addresses of a tag, in canonical form.
    Tag(&'a str),
}

impl<'a> Party<'a> {
    /// The tag that it is, or is taken to belong to.
    pub(super) fn tag(self) -> Option<&'a str> {
        match self {
            Self::Address(_, tag) => tag,
            Self::Tag(tag) => Some(tag),
        }
    }
}

impl Space {
    pub(super) fn new(policy: &Policy) -> Self {
        let known = policy.routes.as_ref().and_then(super::routes::Routes::virtual_network);
        let private = Ranges::private();
        let (network, network_maybe, internet_maybe) = match known {
            Some((network, routed)) => {
                let maybe = routed.without(&network);
                let internet_maybe = private.without(&network).union(&maybe.without(&private));
                (network, maybe, internet_maybe)
            }
            None => (Ranges::default(), private.clone(), private.clone()),
        };
        let internet = private.union(&network).union(&internet_maybe).complement();
        let specials = [("virtualnetwork", network, network_maybe), ("internet", internet, internet_maybe)];
        let resolve = |name: &str| {
            let canonical = canonical(name);
            let (sure, maybe, is_known) = if let Some((_, sure, maybe)) = specials.iter().find(|s| s.0 == canonical) {
                (sure.clone(), maybe.clone(), true)
            } else {
                listed(&canonical, policy.tags.as_ref(), &private)
            };
            Tag { canonical, sure, maybe, is_known }
        };
        let mut tags = HashMap::new();
        let rules = policy.groups.iter().flat_map(Group::outbound);
        for term in rules.flat_map(|rule| rule.source.terms.iter().chain(&rule.destination.terms)) {
            if let Term::Tag(name) = term {
                tags.entry(name.clone()).or_insert_with(|| resolve(name));
            }
        }
        Self { tags }
    }

    /// A tag that a rule names.
    pub(super) fn tag(&self, name: &str) -> Option<&Tag> {
        self.tags.get(name)
    }

    /// Whether the destination of a rule has this party.
    pub(super) fn destination(&self, addresses: &Addresses, party: Party<'_>) -> Tri {
        let platform = |ip: IpAddr| PLATFORM.into_iter().find(|(platform, _)| ip == IpAddr::from(*platform));
        match (party, &addresses.expanded) {
            (Party::Address(ip, _), _) if platform(ip).is_some() => {
                let named = platform(ip).is_some_and(|(_, tag)| addresses.names(tag));
                if named { Tri::Yes } else { Tri::No }
            }
            (Party::Address(ip, _), Some(expanded)) => {
                if expanded.contains(number(ip)) {
                    Tri::Yes
                } else {
                    Tri::No
                }
            }
            _ => addresses.terms.iter().map(|term| self.term(term, party)).max().unwrap_or(Tri::No),
        }
    }

    fn term(&self, term: &Term, party: Party<'_>) -> Tri {
        match (term, party) {
            (Term::Any, _) => Tri::Yes,
            (Term::Undecided(_), _) => Tri::Maybe,
            (Term::Literal(_, ranges), Party::Address(ip, _)) => {
                if ranges.contains(number(ip)) {
                    Tri::Yes
                } else {
                    Tri::No
                }
            }
            (Term::Literal(_, ranges), Party::Tag(tag)) => match () {
                () if ranges.holds_ipv4() => Tri::Yes,
                () if tag != "virtualnetwork" && ranges.without(&Ranges::private()).as_slice().is_empty() => Tri::No,
                () => Tri::Maybe,
            },
            (Term::Tag(name), Party::Tag(of)) => self.tag(name).map_or(Tri::Maybe, |tag| relation(&tag.canonical, of)),
            (Term::Tag(name), Party::Address(ip, assumed)) => {
                let Some(tag) = self.tag(name) else { return Tri::Maybe };
                match (tag.membership(number(ip)), assumed) {
                    (Tri::Maybe, Some(of)) if !tag.is_known => relation(&tag.canonical, of),
                    (membership, _) => membership,
                }
            }
        }
    }

    /// Whether the source of a rule has this machine. Without an address it is somewhere in its virtual network.
    pub(super) fn source(&self, addresses: &Addresses, from: Option<IpAddr>) -> Tri {
        if self.has_every_source(addresses) {
            return Tri::Yes;
        }
        let in_ranges = |ranges: &Ranges| match from {
            Some(ip) if ranges.contains(number(ip)) => Tri::Yes,
            Some(_) => Tri::No,
            None if ranges.holds_ipv4() => Tri::Yes,
            None => Tri::Maybe,
        };
        let term = |term: &Term| match term {
            Term::Any => Tri::Yes,
            Term::Undecided(_) => Tri::Maybe,
            Term::Literal(_, ranges) => in_ranges(ranges),
            Term::Tag(name) => match (self.tag(name), from) {
                (Some(tag), _) if tag.is_no_source() => Tri::No,
                (Some(tag), Some(ip)) => tag.membership(number(ip)),
                _ => Tri::Maybe,
            },
        };
        addresses.expanded.as_ref().map_or_else(|| addresses.terms.iter().map(term).max().unwrap_or(Tri::No), in_ranges)
    }

    /// Whether whatever leaves a machine matches: it comes out of the virtual network.
    pub(super) fn has_every_source(&self, addresses: &Addresses) -> bool {
        addresses.terms.iter().any(|term| match term {
            Term::Any => true,
            Term::Tag(name) => self.tag(name).is_some_and(|tag| tag.canonical == "virtualnetwork"),
            Term::Literal(..) | Term::Undecided(_) => false,
        })
    }
}

impl Tag {
    /// Whether nothing that leaves a machine comes from there.
    pub(super) fn is_no_source(&self) -> bool {
        matches!(self.canonical.as_str(), "internet" | "azureloadbalancer")
    }

    fn membership(&self, number: u128) -> Tri {
        match () {
            () if self.sure.contains(number) => Tri::Yes,
            () if self.maybe.contains(number) => Tri::Maybe,
            () => Tri::No,
        }
    }
}

/// A tag by the list given: the addresses that are in it, those that may be, and whether that is known at all. Tags of
/// services hold public addresses alone.
fn listed(canonical: &str, list: Option<&ServiceTags>, private: &Ranges) -> (Ranges, Ranges, bool) {
    if let Some(tag) = list.and_then(|list| list.get(canonical)) {
        return (tag.ranges.clone(), Ranges::default(), true);
    }
    let host = |octets: [u8; 4]| Ranges::parse(&IpAddr::from(octets).to_string()).unwrap_or_default();
    let platform = PLATFORM.into_iter().find(|(_, tag)| tag.eq_ignore_ascii_case(canonical));
    if let Some((octets, _)) = platform.or((canonical == "azureloadbalancer").then_some(PLATFORM[0])) {
        return (host(octets), Ranges::default(), true);
    }
    (Ranges::default(), private.complement(), false)
}

/// Whether a tag has the addresses of another one, both in canonical form, by what their names say.
pub(super) fn relation(tag: &str, of: &str) -> Tri {
    let parts = |name: &'_ str| -> (String, Option<String>) {
        name.split_once('.').map_or((name.to_owned(), None), |(s, r)| (s.to_owned(), Some(r.to_owned())))
    };
    let ((service, region), (of_service, of_region)) = (parts(tag), parts(of));
    let local =
        |name: &str| name == "virtualnetwork" || name == "azureloadbalancer" || name.starts_with("azureplatform");
    match () {
        () if tag == of => Tri::Yes,
        () if local(&service) || local(&of_service) => Tri::No,
        () if service == "internet" => Tri::Yes,
        () if of_service == "internet" => Tri::Maybe,
        () if service == of_service || service == "azurecloud" => match (region, of_region) {
            (None, _) => Tri::Yes,
            (Some(_), None) => Tri::Maybe,
            (Some(own), Some(other)) if own == other => Tri::Yes,
            (Some(_), Some(_)) => Tri::No,
        },
        () if APART.contains(&service.as_str()) && APART.contains(&of_service.as_str()) => Tri::No,
        () => Tri::Maybe,
    }
}
