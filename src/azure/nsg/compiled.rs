//! Rules made ready for many questions: every dimension of a flow is looked up once and gives the set of rules that
//! match it; where all sets meet, the first rule decides.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use super::{
    address::{Range, Ranges, number},
    policy::Policy,
    rule::{Access, Addresses, Group, Ports, Protocol, Protocols, Rule, Term, Tri},
    space::{PLATFORM, Party, Space},
};
use crate::model::Decision;

/// A flow out of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The machine's address. `None`: not known; somewhere in its virtual network.
    pub source: Option<IpAddr>,
    /// `None`: any of the ephemeral ones.
    pub source_port: Option<u16>,
    /// Where it goes.
    pub destination: IpAddr,
    /// The port there.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
}

/// A policy that answers quickly.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub(super) policy: Policy,
    pub(super) space: Space,
    groups: Vec<Index>,
}

impl Compiled {
    /// Prepares a policy.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        let space = Space::new(&policy);
        let groups = policy.groups.iter().map(|group| Index::new(group, &space)).collect();
        Self { policy, space, groups }
    }

    /// What was read.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the groups say about a flow: each of them must allow it. Without groups everything is allowed. Routes are
    /// not asked here.
    #[must_use]
    pub fn decide(&self, flow: &Flow) -> Decision {
        let to = number(flow.destination);
        self.groups.iter().fold(Decision::Allowed, |so_far, group| match so_far {
            Decision::Denied => Decision::Denied,
            _ => all_of(so_far, group.decide(flow, to)),
        })
    }

    /// The first number after this one for which a group may answer otherwise.
    pub(super) fn next_boundary(&self, after: u128) -> Option<u128> {
        self.groups.iter().filter_map(|group| group.destinations.next_boundary(after)).min()
    }

    /// The sets of rules that an address meets: two addresses with the same sets get the same answers.
    pub(super) fn class(&self, at: u128) -> Vec<u32> {
        self.groups.iter().map(|group| group.destination(at)).collect()
    }
}

/// What two parties say together, if both must allow.
pub(super) fn all_of(a: Decision, b: Decision) -> Decision {
    match (a, b) {
        (Decision::Denied, _) | (_, Decision::Denied) => Decision::Denied,
        (Decision::Unknown, _) | (_, Decision::Unknown) => Decision::Unknown,
        (Decision::Allowed, Decision::Allowed) => Decision::Allowed,
    }
}

/// The outbound rules of one group, by what they match.
#[derive(Debug, Clone)]
struct Index {
    sets: Sets,
    destinations: Table,
    platform: [u32; PLATFORM.len()],
    sources: Table,
    unknown_source: u32,
    ports: Table,
    source_ports: Table,
    unknown_source_port: u32,
    protocols: [u32; Protocol::ALL.len()],
    /// Rules whose place is known, those that allow, those that deny: one bit each.
    placed: Vec<u64>,
    allows: Vec<u64>,
    denies: Vec<u64>,
}

impl Index {
    fn new(group: &Group, space: &Space) -> Self {
        let rules: Vec<&Rule> = group.outbound().collect();
        let mut sets = Sets::new(rules.len());
        let destinations = sets.table(&layers(&rules, |rule| &rule.destination, space, true));
        let platform = PLATFORM.map(|(ip, _)| {
            let party = Party::Address(IpAddr::V4(Ipv4Addr::from(ip)), None);
            sets.of(rules.iter().map(|rule| space.destination(&rule.destination, party)))
        });
        let sources = sets.table(&layers(&rules, |rule| &rule.source, space, false));
        let unknown_source = sets.of(rules.iter().map(|rule| space.source(&rule.source, None)));
        let ports = sets.port_table(&rules, |rule| &rule.ports);
        let source_ports = sets.port_table(&rules, |rule| &rule.source_ports);
        let any_port = |rule: &&Rule| if rule.source_ports.is_any() { Tri::Yes } else { Tri::Maybe };
        let unknown_source_port = sets.of(rules.iter().map(any_port));
        let protocols = Protocol::ALL.map(|protocol| {
            sets.of(rules.iter().map(|rule| match rule.protocols {
                Protocols::Any => Tri::Yes,
                Protocols::One(own) if own == protocol => Tri::Yes,
                Protocols::One(_) => Tri::No,
                Protocols::Unknown => Tri::Maybe,
            }))
        });
        let bits = |wanted: fn(&Rule) -> bool| {
            let mut bits = vec![0; sets.words];
            rules.iter().enumerate().filter(|(_, rule)| wanted(rule)).for_each(|(index, _)| set(&mut bits, index));
            bits
        };
        Self {
            placed: bits(Rule::is_placed),
            allows: bits(|rule| rule.access == Some(Access::Allow)),
            denies: bits(|rule| rule.access == Some(Access::Deny)),
            sets,
            destinations,
            platform,
            sources,
            unknown_source,
            ports,
            source_ports,
            unknown_source_port,
            protocols,
        }
    }

    fn destination(&self, to: u128) -> u32 {
        let platform = PLATFORM.iter().position(|(ip, _)| to == number(IpAddr::from(*ip)));
        platform.map_or_else(|| self.destinations.get(to), |index| self.platform[index])
    }

    fn decide(&self, flow: &Flow, to: u128) -> Decision {
        let dimensions = [
            self.destination(to),
            self.ports.get(u128::from(flow.port)),
            self.protocols[flow.protocol as usize],
            flow.source.map_or(self.unknown_source, |ip| self.sources.get(number(ip))),
            flow.source_port.map_or(self.unknown_source_port, |port| self.source_ports.get(u128::from(port))),
        ]
        .map(|set| self.sets.get(set));
        let decided = self.first(&dimensions);
        let against = match decided {
            Decision::Unknown => return Decision::Unknown,
            Decision::Allowed => &self.allows,
            Decision::Denied => &self.denies,
        };
        // A rule that may stand anywhere may come before the one that decided.
        let overturned = (0..self.sets.words).any(|word| {
            let unplaced = !self.placed[word] & !against[word];
            unplaced != 0 && dimensions.iter().fold(unplaced, |bits, set| bits & set.1[word]) != 0
        });
        if overturned { Decision::Unknown } else { decided }
    }

    /// The decision of the first rule that matches; unknown where one before it may match and says the opposite. No
    /// rule matches what groups do not apply to.
    fn first(&self, dimensions: &[(&[u64], &[u64]); 5]) -> Decision {
        let (mut may_allow, mut may_deny) = (false, false);
        for word in 0..self.sets.words {
            let mut rest = dimensions.iter().fold(self.placed[word], |bits, set| bits & set.1[word]);
            if rest == 0 {
                continue;
            }
            let sure = dimensions.iter().fold(u64::MAX, |bits, set| bits & set.0[word]);
            while rest != 0 {
                let rule = rest & rest.wrapping_neg();
                rest ^= rule;
                may_allow |= self.denies[word] & rule == 0;
                may_deny |= self.allows[word] & rule == 0;
                if may_allow && may_deny {
                    return Decision::Unknown;
                }
                if sure & rule != 0 {
                    return if may_deny { Decision::Denied } else { Decision::Allowed };
                }
            }
        }
        if may_deny { Decision::Unknown } else { Decision::Allowed }
    }
}

/// Sets of rules: those that match, and those that may.
#[derive(Debug, Clone)]
struct Sets {
    rules: usize,
    /// Words of 64 rules that a set has.
    words: usize,
    /// All sets, one after the other: first the words of those that match, then of those that match or may match.
    bits: Vec<u64>,
    known: HashMap<Vec<u64>, u32>,
}

impl Sets {
    fn new(rules: usize) -> Self {
        Self { rules, words: rules.div_ceil(64), bits: Vec::new(), known: HashMap::new() }
    }

    fn get(&self, set: u32) -> (&[u64], &[u64]) {
        let start = set as usize * 2 * self.words;
        self.bits[start..start + 2 * self.words].split_at(self.words)
    }

    fn of(&mut self, matches: impl Iterator<Item = Tri>) -> u32 {
        let mut bits = vec![0; 2 * self.words];
        for (rule, matches) in matches.enumerate() {
            if matches == Tri::Yes {
                set(&mut bits, rule);
            }
            if matches != Tri::No {
                set(&mut bits[self.words..], rule);
            }
        }
        self.keep(&bits)
    }

    fn keep(&mut self, bits: &[u64]) -> u32 {
        if let Some(&set) = self.known.get(bits) {
            return set;
        }
        let set = u32::try_from(self.known.len())
            .expect("a set for each boundary, and boundaries come from a file of bounded size");
        self.known.insert(bits.to_vec(), set);
        self.bits.extend_from_slice(bits);
        set
    }

    fn port_table(&mut self, rules: &[&Rule], side: fn(&Rule) -> &Ports) -> Table {
        let ranges: Vec<Vec<Range>> = rules
            .iter()
            .map(|rule| {
                let merged: Ranges = side(rule)
                    .ranges
                    .iter()
                    .map(|&(first, last)| Range { first: first.into(), last: last.into() })
                    .collect();
                merged.as_slice().to_vec()
            })
            .collect();
        let layers = rules.iter().zip(&ranges).enumerate().map(|(index, (rule, ranges))| Layer {
            sure: ranges,
            maybe: if side(rule).undecided.is_empty() { &[] } else { &EVERYTHING },
            rules: vec![index],
        });
        self.table(&layers.collect::<Vec<_>>())
    }

    /// The table of one dimension, by a sweep over the ends of all ranges.
    fn table(&mut self, layers: &[Layer<'_>]) -> Table {
        let mut events: Vec<(u128, u32, bool, i32)> = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let index = u32::try_from(index).expect("a layer for each term of a bounded number of rules");
            for (ranges, sure) in [(layer.sure, true), (layer.maybe, false)] {
                for range in ranges {
                    events.push((range.first, index, sure, 1));
                    events.extend(range.last.checked_add(1).map(|end| (end, index, sure, -1)));
                }
            }
        }
        events.sort_unstable();
        let mut counts = vec![[0_i32; 2]; self.rules];
        let mut bits = vec![0; 2 * self.words];
        let mut table = Table { starts: vec![0], sets: Vec::new() };
        let mut from = 0;
        for (at, layer, sure, step) in events {
            if at != from {
                table.close(self.keep(&bits), at);
                from = at;
            }
            for &rule in &layers[layer as usize].rules {
                let count = &mut counts[rule];
                count[usize::from(!sure)] += step;
                let word = rule / 64;
                let bit = 1 << (rule % 64);
                bits[word] = if count[0] > 0 { bits[word] | bit } else { bits[word] & !bit };
                let possible = &mut bits[self.words + word];
                *possible = if count[0] + count[1] > 0 { *possible | bit } else { *possible & !bit };
            }
        }
        table.sets.push(self.keep(&bits));
        table
    }
}

fn set(bits: &mut [u64], index: usize) {
    bits[index / 64] |= 1 << (index % 64);
}

/// Ranges that belong to some rules.
struct Layer<'a> {
    sure: &'a [Range],
    maybe: &'a [Range],
    rules: Vec<usize>,
}

const EVERYTHING: [Range; 1] = [Range { first: 0, last: u128::MAX }];

/// The terms of all rules. A tag that many rules name makes one layer.
fn layers<'a>(
    rules: &[&'a Rule],
    side: fn(&'a Rule) -> &'a Addresses,
    space: &'a Space,
    is_destination: bool,
) -> Vec<Layer<'a>> {
    let mut layers = Vec::new();
    let mut tags: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut add = |sure, maybe| layers.push(Layer { sure, maybe, rules: vec![index] });
        let addresses = side(rule);
        if !is_destination && space.has_every_source(addresses) {
            add(&EVERYTHING, &[]);
            continue;
        }
        if let Some(expanded) = &addresses.expanded {
            add(expanded.as_slice(), &[]);
            continue;
        }
        for term in &addresses.terms {
            match term {
                Term::Any => add(&EVERYTHING, &[]),
                Term::Undecided(_) => add(&[], &EVERYTHING),
                Term::Literal(_, ranges) => add(ranges.as_slice(), &[]),
                Term::Tag(name) => tags.entry(name).or_default().push(index),
            }
        }
    }
    for (name, rules) in tags {
        if let Some(tag) = space.tag(name) {
            let never = !is_destination && tag.is_no_source();
            let (sure, maybe): (&[Range], &[Range]) =
                if never { (&[], &[]) } else { (tag.sure.as_slice(), tag.maybe.as_slice()) };
            layers.push(Layer { sure, maybe, rules });
        }
    }
    layers
}

/// For each number, the set of rules that match it.
#[derive(Debug, Clone)]
struct Table {
    /// Where another set begins, ascending from 0.
    starts: Vec<u128>,
    sets: Vec<u32>,
}

impl Table {
    fn get(&self, number: u128) -> u32 {
        self.sets[self.starts.partition_point(|&start| start <= number) - 1]
    }

    /// Ends the last stretch before `at`, where the next one begins; equal neighbours become one.
    fn close(&mut self, set: u32, at: u128) {
        if self.sets.last() == Some(&set) {
            if let Some(start) = self.starts.last_mut() {
                *start = at;
            }
        } else {
            self.sets.push(set);
            self.starts.push(at);
        }
    }

    fn next_boundary(&self, after: u128) -> Option<u128> {
        self.starts.get(self.starts.partition_point(|&start| start <= after)).copied()
    }
}
