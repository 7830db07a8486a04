//! Why a flow may leave or not, and what would let it: for people.

use std::{collections::HashMap, net::IpAddr};

use super::{
    address::{Ranges, address, number},
    compiled::{Compiled, all_of},
    region,
    routes::Selected,
    rule::{Access, FIRST_PRIORITY, Group, LAST_CUSTOM_PRIORITY, Protocol, Protocols, Rule, Term, Tri},
    space::{PLATFORM, Party},
    tags::canonical,
};
use crate::model::{Decision, FlowVerdict, GroupVerdict, RouteVerdict, RuleRef, SuggestedRule};

/// Rules that just miss which are told.
const MAX_NEAR: usize = 5;

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The target or party, `host:port`.
    pub subject: &'a str,
    /// Where the flow goes.
    pub destination: Destination<'a>,
    /// The port there.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// The machine's address. `None`: not known; somewhere in its virtual network.
    pub source: Option<IpAddr>,
    /// The region of the storage, in any spelling; for backups it is the machine's own.
    pub region: Option<&'a str>,
    /// Whether the party is known to be storage: then, without a list of service tags, its public address is taken to be
    /// in `Storage.<region>`.
    pub storage: bool,
}

/// Where a flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// One address.
    Address(IpAddr),
    /// All addresses of a service tag.
    Tag(&'a str),
}

impl Compiled {
    /// Says what groups and routes make of a flow, and why.
    #[must_use]
    pub fn judge(&self, question: &Question<'_>) -> FlowVerdict {
        match question.destination {
            Destination::Address(ip) => {
                let ip = ip.to_canonical();
                let assumed = self.assumed_tag(question, ip);
                let mut verdict = self.explain(question, Party::Address(ip, assumed.as_deref()));
                verdict.address = Some(ip);
                verdict
            }
            Destination::Tag(name) => self.judge_tag(question, name),
        }
    }

    /// Gives each rule that is suggested for several flows a number of its own, so that all of them can be added. The
    /// number is the same for flows that one rule lets through.
    pub fn keep_apart(&self, flows: &mut [FlowVerdict]) {
        let key = |rule: &SuggestedRule| (rule.group.clone(), rule.source.clone(), rule.destination.clone());
        let rules = merge_suggestions(flows.iter().flat_map(FlowVerdict::suggestions));
        let mut numbers: HashMap<(String, String, String), Option<u16>> = HashMap::new();
        for rule in &rules {
            let group = self.policy.groups.iter().find(|group| group.name == rule.group);
            let of_group = numbers.iter().filter(|((name, ..), _)| *name == rule.group);
            let given: Vec<u16> = of_group.filter_map(|(_, number)| *number).collect();
            let number = group.zip(rule.priority).and_then(|(group, at)| free_number(group, at + 1, &given));
            numbers.insert(key(rule), number);
        }
        for rule in flows.iter_mut().flat_map(|flow| flow.suggestion.iter_mut().chain(&mut flow.further)) {
            rule.priority = numbers.get(&key(rule)).copied().flatten();
        }
    }

    /// The tag that an address of storage is taken to belong to.
    fn assumed_tag(&self, question: &Question<'_>, ip: IpAddr) -> Option<String> {
        if !question.storage || Ranges::private().contains(number(ip)) {
            return None;
        }
        let listed = self.policy.tags.as_ref().and_then(|tags| tags.regional_storage(number(ip)));
        Some(match (listed, question.region) {
            (Some(tag), _) => canonical(&tag.name),
            (None, Some(region)) => format!("storage.{}", region::canonical(region)),
            (None, None) => "storage".to_owned(),
        })
    }

    /// Judges every address of a tag, and explains the worst. Without a list, the tag's name decides.
    fn judge_tag(&self, question: &Question<'_>, name: &str) -> FlowVerdict {
        let tag = canonical(name);
        let list = self.policy.tags.as_ref();
        let Some(listed) = list.and_then(|tags| tags.get(name)) else {
            let mut verdict = self.explain(question, Party::Tag(&tag));
            if list.is_some_and(|list| list.by_service) {
                verdict.notes.push(format!("{name} is not in the list of service tags"));
            }
            return verdict;
        };
        let boundaries = self.policy.routes.as_ref().map_or_else(Vec::new, |routes| routes.boundaries(list));
        let mut known: Vec<(Vec<u32>, Option<RouteVerdict>, Decision)> = Vec::new();
        let (mut denied, mut undecided) = (Vec::new(), Vec::new());
        let mut worst: Option<(Decision, u128)> = None;
        for prefix in &listed.prefixes {
            let mut at = prefix.first;
            let mut whole = Decision::Allowed;
            loop {
                let (class, route) = (self.class(at), self.route(Party::Address(address(at), None)));
                let route = match route {
                    Some(Selected::Route(route)) => Some(route),
                    _ => None,
                };
                let seen = known.iter().find(|(c, r, _)| *c == class && *r == route).map(|known| known.2);
                let decision = seen.unwrap_or_else(|| {
                    let decision = self.explain(question, Party::Address(address(at), Some(&tag))).decision;
                    known.push((class, route, decision));
                    decision
                });
                if worst.is_none_or(|(so_far, _)| badness(decision) > badness(so_far)) {
                    worst = Some((decision, at));
                }
                whole = all_of(whole, decision);
                let after = boundaries.partition_point(|&boundary| boundary <= at);
                let next = [self.next_boundary(at), boundaries.get(after).copied()].into_iter().flatten().min();
                match next.filter(|&next| next <= prefix.last) {
                    Some(next) => at = next,
                    None => break,
                }
            }
            match whole {
                Decision::Allowed => {}
                Decision::Denied => denied.push(address(prefix.first)),
                Decision::Unknown => undecided.push(address(prefix.first)),
            }
        }
        let Some((_, at)) = worst else {
            let mut verdict = self.explain(question, Party::Tag(&tag));
            verdict.notes.push(format!("{} has no prefix in the list of service tags", listed.name));
            return verdict;
        };
        let mut verdict = self.explain(question, Party::Address(address(at), Some(&tag)));
        let all = listed.prefixes.len();
        for (some, word) in [(denied, "denied, all or in part"), (undecided, "undecided")] {
            if let Some(first) = some.first().filter(|_| some.len() < all) {
                verdict.notes.insert(
                    0,
                    format!(
                        "{} of the {all} prefixes of {} are {word}, as the one at {first}",
                        some.len(),
                        listed.name
                    ),
                );
            }
        }
        verdict
    }

    fn explain(&self, question: &Question<'_>, party: Party<'_>) -> FlowVerdict {
        let mut verdict = FlowVerdict {
            subject: question.subject.to_owned(),
            address: None,
            port: question.port,
            decision: Decision::Allowed,
            groups: Vec::new(),
            route: None,
            notes: Vec::new(),
            code: None,
            suggestion: None,
            further: Vec::new(),
        };
        let mut suggestions = Vec::new();
        for group in &self.policy.groups {
            let walk = Walk::new(self, group, question, party);
            verdict.decision = all_of(verdict.decision, walk.decision);
            walk.tell(question, party.tag(), &mut verdict.notes);
            if walk.decision == Decision::Denied {
                verdict.code.get_or_insert_with(|| walk.code().to_owned());
                // A suggested rule is for TCP.
                if question.protocol == Protocol::Tcp {
                    suggestions.push(walk.suggest(question, self.destination_of_rule(question, party)));
                }
            }
            verdict.groups.push(walk.verdict());
        }
        let mut suggestions = suggestions.into_iter();
        verdict.suggestion = suggestions.next();
        verdict.further = suggestions.collect();
        let platform = match party {
            Party::Address(ip, _) => PLATFORM.into_iter().find(|(platform, _)| ip == IpAddr::from(*platform)),
            Party::Tag(_) => None,
        };
        if let Some((_, tag)) = platform.filter(|_| !self.policy.groups.is_empty()) {
            verdict.notes.push(format!("security groups apply to this address of the host by rules for {tag} alone"));
        }
        if let (Some(region), Party::Address(_, Some(tag))) = (question.region, party) {
            let own = format!("storage.{}", region::canonical(region));
            if question.storage && tag.starts_with("storage.") && tag != own {
                let (tag, own) = (in_azure_spelling(tag), in_azure_spelling(&own));
                verdict.notes.push(format!("the address is in {tag}, not in {own}"));
            }
        }
        if let Some(selected) = self.route(party) {
            follow(selected, &mut verdict);
        }
        verdict
    }

    fn route(&self, party: Party<'_>) -> Option<Selected> {
        let routes = self.policy.routes.as_ref()?;
        let selected = match party {
            Party::Address(ip, _) => routes.select(ip, self.policy.tags.as_ref()),
            Party::Tag(_) => routes.select_public(),
        };
        // A route table has the user's routes alone: Azure's own take what these leave.
        (selected != Selected::None || routes.complete).then_some(selected)
    }

    /// What a rule for this party should name: the service tag where it is storage, else its address.
    fn destination_of_rule(&self, question: &Question<'_>, party: Party<'_>) -> String {
        let list = self.policy.tags.as_ref();
        if let Destination::Tag(name) = question.destination {
            return list
                .and_then(|tags| tags.get(name))
                .map_or_else(|| in_azure_spelling(name), |tag| tag.name.clone());
        }
        match party {
            Party::Address(ip, Some(tag)) => match list.filter(|list| list.by_service) {
                Some(list) => list.regional_storage(number(ip)).map_or_else(|| ip.to_string(), |tag| tag.name.clone()),
                None => in_azure_spelling(tag),
            },
            Party::Address(ip, None) => ip.to_string(),
            Party::Tag(tag) => in_azure_spelling(tag),
        }
    }
}

/// A tag as Azure writes it: `Storage.WestEurope`.
#[must_use]
pub fn in_azure_spelling(tag: &str) -> String {
    const SERVICES: [&str; 8] = [
        "AzureActiveDirectory",
        "AzureBackup",
        "AzureCloud",
        "AzureLoadBalancer",
        "AzurePlatformDNS",
        "Internet",
        "Storage",
        "VirtualNetwork",
    ];
    let (service, region) = tag.split_once('.').map_or((tag, None), |(service, region)| (service, Some(region)));
    let service = SERVICES.into_iter().find(|known| known.eq_ignore_ascii_case(service)).unwrap_or(service);
    match region {
        // These tags have spellings of their own, which lists alone know.
        Some(region) if service == "AzureCloud" => format!("{service}.{region}"),
        Some(region) => format!("{service}.{}", region::in_tags(region).unwrap_or(region)),
        None => service.to_owned(),
    }
}

/// The number next below `below` that no rule has, a round one if there is one.
fn free_number(group: &Group, below: u16, given: &[u16]) -> Option<u16> {
    let free = |number: &u16| !given.contains(number) && !group.outbound().any(|rule| rule.priority == Some(*number));
    let mut numbers = (FIRST_PRIORITY..below).rev().filter(free);
    numbers.clone().find(|number| number % 10 == 0).or_else(|| numbers.next())
}

/// Joins suggestions that differ in their ports alone into one rule that is above every rule that denies one of them.
#[must_use]
pub fn merge_suggestions<'a>(suggestions: impl IntoIterator<Item = &'a SuggestedRule>) -> Vec<SuggestedRule> {
    let mut merged: Vec<SuggestedRule> = Vec::new();
    for rule in suggestions {
        let same = |other: &&mut SuggestedRule| {
            (&other.group, &other.source, &other.destination) == (&rule.group, &rule.source, &rule.destination)
        };
        match merged.iter_mut().find(same) {
            Some(other) => {
                other.ports.extend(&rule.ports);
                other.ports.sort_unstable();
                other.ports.dedup();
                other.priority = other.priority.zip(rule.priority).map(|(a, b)| a.min(b));
            }
            None => merged.push(rule.clone()),
        }
    }
    merged
}

fn badness(decision: Decision) -> u8 {
    match decision {
        Decision::Allowed => 0,
        Decision::Unknown => 1,
        Decision::Denied => 2,
    }
}

/// Which rules of one group match, and which decides.
struct Walk<'a> {
    group: &'a Group,
    rules: Vec<(&'a Rule, Match)>,
    decision: Decision,
    /// The rule that decides, in `rules`.
    deciding: Option<usize>,
}

/// How a rule matches a flow, by dimension.
#[derive(Debug, Clone, Copy)]
struct Match {
    protocol: Tri,
    source: Tri,
    source_port: Tri,
    destination: Tri,
    port: Tri,
}

impl Match {
    fn all(self) -> Tri {
        [self.protocol, self.source, self.source_port, self.destination, self.port].into_iter().min().unwrap_or(Tri::No)
    }

    /// Whether it would match if it were not for one dimension.
    fn but_for(self, one: fn(&mut Self) -> &mut Tri) -> bool {
        let mut other = self;
        let missed = std::mem::replace(one(&mut other), Tri::Yes) == Tri::No;
        missed && other.all() != Tri::No
    }
}

impl<'a> Walk<'a> {
    fn new(compiled: &Compiled, group: &'a Group, question: &Question<'_>, party: Party<'_>) -> Self {
        let space = &compiled.space;
        let rules: Vec<(&Rule, Match)> = group
            .outbound()
            .map(|rule| {
                let matches = Match {
                    protocol: match rule.protocols {
                        Protocols::Any => Tri::Yes,
                        Protocols::One(own) if own == question.protocol => Tri::Yes,
                        Protocols::One(_) => Tri::No,
                        Protocols::Unknown => Tri::Maybe,
                    },
                    source: space.source(&rule.source, question.source),
                    source_port: if rule.source_ports.is_any() { Tri::Yes } else { Tri::Maybe },
                    destination: space.destination(&rule.destination, party),
                    port: rule.ports.matches(question.port),
                };
                (rule, matches)
            })
            .collect();
        let (mut may_allow, mut may_deny) = (false, false);
        let mut deciding = None;
        for (index, (rule, matches)) in rules.iter().enumerate().filter(|(_, (rule, _))| rule.is_placed()) {
            if matches.all() == Tri::No {
                continue;
            }
            may_allow |= rule.access != Some(Access::Deny);
            may_deny |= rule.access != Some(Access::Allow);
            if matches.all() == Tri::Yes {
                deciding = Some(index);
                break;
            }
        }
        for (rule, _) in rules.iter().filter(|(rule, matches)| !rule.is_placed() && matches.all() != Tri::No) {
            may_allow |= rule.access != Some(Access::Deny);
            may_deny |= rule.access != Some(Access::Allow);
        }
        let decision = match (may_allow, may_deny, deciding) {
            (_, false, _) => Decision::Allowed,
            (false, true, Some(_)) => Decision::Denied,
            _ => Decision::Unknown,
        };
        Self { group, rules, decision, deciding }
    }

    /// The rule that decides, where one does.
    fn decider(&self) -> Option<&'a Rule> {
        self.deciding.filter(|_| self.decision != Decision::Unknown).map(|index| self.rules[index].0)
    }

    /// Rules that people made to allow, which the flow never comes to.
    fn shadowed(&self) -> impl Iterator<Item = &'a Rule> + '_ {
        let below = self.deciding.filter(|_| self.decision == Decision::Denied).map_or(self.rules.len(), |i| i + 1);
        self.rules[below..]
            .iter()
            .filter(|(rule, matches)| !rule.default && rule.access == Some(Access::Allow) && matches.all() == Tri::Yes)
            .map(|(rule, _)| *rule)
    }

    fn verdict(&self) -> GroupVerdict {
        GroupVerdict {
            group: self.group.name.clone(),
            attached: self.group.attached.as_str().to_owned(),
            decision: self.decision,
            rule: self.decider().map(reference),
            shadowed: self.shadowed().map(reference).collect(),
        }
    }

    /// Rules that people made to allow and that miss by one dimension alone; with whether they stand above the rule
    /// that decides.
    fn near(&self, one: fn(&mut Match) -> &mut Tri) -> impl Iterator<Item = (&'a Rule, bool)> + '_ {
        let allows = |rule: &Rule| !rule.default && rule.access == Some(Access::Allow);
        self.rules
            .iter()
            .enumerate()
            .filter(move |(_, (rule, matches))| allows(rule) && matches.but_for(one))
            .map(|(index, (rule, _))| (*rule, self.deciding.is_none_or(|deciding| index < deciding)))
    }

    /// The code of the finding that this denial makes.
    fn code(&self) -> &'static str {
        if self.shadowed().next().is_some() {
            "nsg.shadowed"
        } else if self.near(|matches| &mut matches.port).any(|(_, above)| above) {
            "nsg.port_excluded"
        } else if self.decider().is_some_and(|rule| rule.default) {
            "nsg.default_denied"
        } else {
            "nsg.denied"
        }
    }

    /// Says why, a sentence each.
    fn tell(&self, question: &Question<'_>, target: Option<&str>, notes: &mut Vec<String>) {
        let group = &self.group.name;
        match (self.decision, self.decider()) {
            (Decision::Denied, Some(rule)) => notes.push(format!("{group}: {} denies {}", named(rule), scope(rule))),
            (Decision::Unknown, _) => {
                let doubtful = |(rule, m): &&(&Rule, Match)| {
                    m.all() == Tri::Maybe || m.all() == Tri::Yes && (!rule.is_placed() || rule.access.is_none())
                };
                for (rule, matches) in self.rules.iter().filter(doubtful).take(MAX_NEAR) {
                    notes.push(format!("{group}: {}", doubt(rule, *matches, question)));
                }
                return;
            }
            _ => return,
        }
        for rule in self.shadowed() {
            notes.push(format!(
                "{group}: {} would allow it, and is never asked: a lower number comes first",
                named(rule)
            ));
        }
        let mut near: Vec<String> = Vec::new();
        for (rule, _) in self.near(|matches| &mut matches.port) {
            near.push(format!("{} allows ports {}, which leaves out {}", named(rule), rule.ports, question.port));
        }
        for (rule, _) in self.near(|matches| &mut matches.protocol) {
            near.push(format!("{} is for another protocol than {}", named(rule), question.protocol));
        }
        for (rule, _) in self.near(|matches| &mut matches.source) {
            let own = question.source.map_or_else(String::new, |ip| format!(", not for {ip}"));
            near.push(format!("{} is for traffic from {}{own}", named(rule), rule.source));
        }
        for (rule, _) in self.near(|matches| &mut matches.destination) {
            near.extend(target.and_then(|target| missed_tag(rule, target)).map(|why| format!("{} {why}", named(rule))));
        }
        notes.extend(near.into_iter().take(MAX_NEAR).map(|text| format!("{group}: {text}")));
    }

    /// The rule that would allow the flow: above every rule that may deny it.
    fn suggest(&self, question: &Question<'_>, destination: String) -> SuggestedRule {
        let denies = |(rule, matches): &&(&Rule, Match)| rule.access != Some(Access::Allow) && matches.all() != Tri::No;
        let deny = self.rules.iter().filter(denies).find_map(|(rule, _)| rule.priority);
        let below = deny.unwrap_or(LAST_CUSTOM_PRIORITY + 1).min(LAST_CUSTOM_PRIORITY + 1);
        let wanted: String = format!("Allow-{destination}")
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
            .map(|c| if c == '.' && !question.storage { '-' } else { c })
            .collect();
        let used = |name: &str| self.group.rules.iter().any(|rule| rule.name.eq_ignore_ascii_case(name));
        let name = std::iter::once(wanted.clone())
            .chain((2..self.group.rules.len() + 3).map(|n| format!("{wanted}-{n}")))
            .find(|name| !used(name))
            .unwrap_or(wanted);
        SuggestedRule {
            group: self.group.name.clone(),
            resource_group: self.group.resource_group.clone(),
            name,
            priority: free_number(self.group, below, &[]),
            source: question.source.map_or_else(|| "VirtualNetwork".to_owned(), |ip| ip.to_string()),
            destination,
            ports: vec![question.port],
        }
    }
}

/// Why it cannot be told what a rule does to the flow.
fn doubt(rule: &Rule, matches: Match, question: &Question<'_>) -> String {
    let name = named(rule);
    match matches {
        Match { destination: Tri::Maybe, .. } => {
            format!("the files do not tell whether {} of {name} has the target", rule.destination)
        }
        Match { source: Tri::Maybe, .. } if question.source.is_none() => {
            format!("{name} is for traffic from {}, and this machine's address is not given", rule.source)
        }
        Match { source: Tri::Maybe, .. } => {
            format!("the files do not tell whether {} of {name} has this machine", rule.source)
        }
        Match { source_port: Tri::Maybe, .. } => format!("{name} is for the source ports {} alone", rule.source_ports),
        _ => format!("what {name} says is computed when it is deployed"),
    }
}

/// Why an allow rule with a service tag does not have the target, which is in the tag given; `None` where the rule has
/// nothing to do with it.
fn missed_tag(rule: &Rule, target: &str) -> Option<String> {
    let service = target.split('.').next().unwrap_or_default();
    rule.destination.terms.iter().find_map(|term| {
        let Term::Tag(tag) = term else { return None };
        let own = canonical(tag);
        let (own_service, own_region) = own.split_once('.').map_or((own.as_str(), None), |(s, r)| (s, Some(r)));
        match own_service {
            "azurebackup" if service == "storage" => {
                Some(format!("is for {tag}, which does not contain storage: that is a tag of its own"))
            }
            _ if own_region.is_some() && (own_service == service || own_service == "azurecloud") => {
                Some(format!("is for {tag}: the target is in another region"))
            }
            _ => None,
        }
    })
}

/// What a route does to a flow that the groups judged.
fn follow(selected: Selected, verdict: &mut FlowVerdict) {
    let route = match selected {
        Selected::Route(route) => route,
        Selected::None => {
            verdict.decision = all_of(verdict.decision, Decision::Unknown);
            verdict.notes.push("no route of the table matches".to_owned());
            return;
        }
        Selected::Undecided(prefix) => {
            verdict.decision = all_of(verdict.decision, Decision::Unknown);
            verdict.notes.push(format!("whether the route to {prefix} is taken cannot be told without the addresses"));
            return;
        }
    };
    let via = format!("the route {} ({})", route.prefix, route.source);
    let is = |hop: &str| route.next_hop.eq_ignore_ascii_case(hop);
    let appliance = route.next_hop_address.map_or_else(String::new, |ip| format!(" {ip}"));
    let note = match () {
        () if is("None") => {
            if verdict.decision != Decision::Denied {
                verdict.code = Some("nsg.denied".to_owned());
            }
            verdict.decision = Decision::Denied;
            Some(format!("{via} has next hop None: packets are dropped without a word"))
        }
        () if is("VirtualAppliance") => {
            Some(format!("{via} leads to the appliance{appliance}: its policy decides as well"))
        }
        () if is("VirtualNetworkGateway") => {
            Some(format!("{via} leads through the gateway to other premises: what filters there decides as well"))
        }
        () if is("VirtualNetworkServiceEndpoint") => {
            Some(format!("{via} is a service endpoint: straight to the service, past any default route"))
        }
        () if is("InterfaceEndpoint") => Some(format!("{via} is a private endpoint")),
        () => None,
    };
    verdict.notes.extend(note);
    verdict.route = Some(route);
}

pub(super) fn reference(rule: &Rule) -> RuleRef {
    RuleRef {
        name: rule.name.clone(),
        priority: rule.priority.unwrap_or_default(),
        allows: rule.access == Some(Access::Allow),
        default: rule.default,
    }
}

/// `Deny_All (1000)`.
fn named(rule: &Rule) -> String {
    rule.priority.map_or_else(|| rule.name.clone(), |priority| format!("{} ({priority})", rule.name))
}

/// `Tcp to Storage.WestEurope, ports 443, 8443`.
fn scope(rule: &Rule) -> String {
    let protocol = match rule.protocols {
        Protocols::Any => "any protocol",
        Protocols::One(protocol) => protocol.as_str(),
        Protocols::Unknown => "a protocol",
    };
    let ports = if rule.ports.is_any() { "any port".to_owned() } else { format!("ports {}", rule.ports) };
    format!("{protocol} to {}, {ports}", rule.destination)
}
