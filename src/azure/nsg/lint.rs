//! What is wrong with rules whatever flow is asked about.

use std::net::IpAddr;

use super::{
    address::Ranges,
    compiled::Compiled,
    judge::{Destination, Question, reference},
    rule::{Access, Addresses, Ports, Protocol, Protocols, Rule, Term, Tri},
    space::{Space, relation},
    tags::canonical,
};
use crate::model::{Decision, FlowVerdict, RuleRef};

/// A rule that no flow ever comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreachable {
    /// The group.
    pub group: String,
    /// The rule.
    pub rule: RuleRef,
    /// The rule before it that takes everything it matches.
    pub by: RuleRef,
}

/// What the service behind a tag needs beside it ("Virtual network service tags", `AzureBackup`).
const DEPENDENCIES: (&str, [&str; 2]) = ("azurebackup", ["Storage", "AzureActiveDirectory"]);

impl Compiled {
    /// Rules that people made and that a single rule before them covers.
    #[must_use]
    pub fn unreachable_rules(&self) -> Vec<Unreachable> {
        let mut found = Vec::new();
        for group in &self.policy.groups {
            let rules: Vec<&Rule> = group.outbound().filter(|rule| rule.is_placed()).collect();
            for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| !rule.default) {
                if let Some(by) = rules[..index].iter().find(|before| covers(&self.space, before, rule)) {
                    found.push(Unreachable { group: group.name.clone(), rule: reference(rule), by: reference(by) });
                }
            }
        }
        found
    }

    /// Where a rule allows the tag `AzureBackup`: what of the tags that it depends on may not be reached on 443. With
    /// the name of the rule.
    #[must_use]
    pub fn missing_dependencies(&self, region: Option<&str>, source: Option<IpAddr>) -> Vec<(String, FlowVerdict)> {
        let (tag, needs) = DEPENDENCIES;
        let allows = |rule: &&Rule| {
            rule.access == Some(Access::Allow)
                && rule.destination.terms.iter().any(|term| matches!(term, Term::Tag(name) if canonical(name) == tag))
        };
        let rules = self.policy.groups.iter().flat_map(|group| group.rules.iter().filter(allows).take(1));
        let Some(rule) = rules.into_iter().next() else { return Vec::new() };
        needs
            .into_iter()
            .map(|needed| match region.filter(|_| needed == "Storage") {
                Some(region) => super::in_azure_spelling(&format!("{needed}.{region}")),
                None => needed.to_owned(),
            })
            .map(|needed| {
                self.judge(&Question {
                    subject: &format!("{needed}:443"),
                    destination: Destination::Tag(&needed),
                    port: 443,
                    protocol: Protocol::Tcp,
                    source,
                    region,
                    storage: needed.starts_with("Storage"),
                })
            })
            .filter(|verdict| verdict.decision == Decision::Denied)
            .map(|verdict| (rule.name.clone(), verdict))
            .collect()
    }
}

/// Whether whatever matches one rule matches the other one.
fn covers(space: &Space, outer: &Rule, inner: &Rule) -> bool {
    let protocols = match (outer.protocols, inner.protocols) {
        (Protocols::Any, _) => true,
        (Protocols::One(a), Protocols::One(b)) => a == b,
        _ => false,
    };
    protocols
        && covers_ports(&outer.ports, &inner.ports)
        && covers_ports(&outer.source_ports, &inner.source_ports)
        && (space.has_every_source(&outer.source) || covers_addresses(space, &outer.source, &inner.source))
        && covers_addresses(space, &outer.destination, &inner.destination)
}

fn covers_ports(outer: &Ports, inner: &Ports) -> bool {
    let within = |&(first, last): &(u16, u16)| outer.ranges.iter().any(|&(low, high)| low <= first && last <= high);
    outer.is_any() || inner.undecided.is_empty() && inner.ranges.iter().all(within)
}

fn covers_addresses(space: &Space, outer: &Addresses, inner: &Addresses) -> bool {
    if outer.terms.contains(&Term::Any) {
        return true;
    }
    let literals: Ranges = outer
        .terms
        .iter()
        .filter_map(|term| if let Term::Literal(_, ranges) = term { Some(ranges) } else { None })
        .flat_map(Ranges::as_slice)
        .copied()
        .collect();
    let tags = || outer.terms.iter().filter_map(|term| if let Term::Tag(name) = term { space.tag(name) } else { None });
    let in_ranges = |ranges: &Ranges| {
        ranges.as_slice().iter().all(|r| literals.covers(r))
            || tags().any(|tag| ranges.as_slice().iter().all(|range| tag.sure.covers(range)))
    };
    !inner.terms.is_empty()
        && inner.terms.iter().all(|term| match term {
            Term::Any => false,
            Term::Undecided(_) => outer.terms.contains(term),
            Term::Literal(_, ranges) => in_ranges(ranges),
            Term::Tag(name) => space.tag(name).is_some_and(|own| {
                tags().any(|tag| relation(&tag.canonical, &own.canonical) == Tri::Yes)
                    || own.is_known && own.maybe.as_slice().is_empty() && in_ranges(&own.sure)
            }),
        })
}
