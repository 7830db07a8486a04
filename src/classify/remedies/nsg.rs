//! Network security groups: the way by a service tag, the way to the proxy, and what the files given call for.

use super::{
    MOST,
    facts::{Facts, address},
    remedy,
    rule::{BELOW_THE_DENY, Rule, shell},
    ways,
};
use crate::{
    classify::codes,
    model::{Code, Remedy, Severity, SuggestedRule},
};

/// Lists the outbound rules of a group in the order in which Azure asks them.
fn list_rules(rule: &Rule) -> Vec<String> {
    vec![
        format!(
            "az network nsg rule list -g {} --nsg-name {} --include-default -o table \\",
            shell(&rule.resource_group),
            shell(&rule.group)
        ),
        format!("  --query \"sort_by([?direction=='{}'], &priority)\"", rule.direction()),
    ]
}

/// By the codes of the files given.
pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    if f.severity != Severity::Error {
        let mut again = effective(f);
        again.title =
            "Save the rules and routes now in force, and check again: those given are of another time or place".into();
        return vec![again];
    }
    let mut list = Vec::new();
    if let (codes::NSG_SHADOWED, Some((group, rule))) = (code, f.files.shadowed.first()) {
        list.push(raise(f, group, rule));
    }
    if f.is_to_proxy() {
        list.push(way_to_proxy(f));
        list.push(effective(f));
        return list;
    }
    let mut rules = open(f);
    if let (codes::NSG_PORT_EXCLUDED, Some(first)) = (code, rules.first_mut()) {
        first.note = format!(
            "Write ports as a list: a range such as 80-443 leaves 8443 out and opens 81 to 442. {}",
            first.note
        );
    }
    list.append(&mut rules);
    list.extend(ways::behind_the_groups(f));
    list.push(effective(f));
    list
}

/// Moves an allow rule that nobody asks above the rule that denies.
fn raise(f: &Facts, group: &str, rule: &str) -> Remedy {
    let suggested = f.files.suggested.iter().find(|suggested| suggested.group == group);
    let priority = suggested.and_then(|suggested| suggested.priority);
    let resource_group = suggested.and_then(|suggested| suggested.resource_group.as_deref()).unwrap_or("RG");
    let number = priority.map_or_else(|| BELOW_THE_DENY.to_owned(), |number| number.to_string());
    let mut raise = remedy(
        format!("Move the rule {rule} of {group} above the rule that denies, to a number that is free"),
        [format!(
            "az network nsg rule update -g {} --nsg-name {} -n {} --priority {number}",
            shell(resource_group),
            shell(group),
            shell(rule)
        )],
    );
    raise.note =
        "It opens all that the rule names: if that is more than storage, add a narrower rule in its place.".into();
    raise
}

/// An outbound allow rule for what failed: as computed from the groups given, else with the deny's place left open.
pub(super) fn open(f: &Facts) -> Vec<Remedy> {
    if f.files.suggested.is_empty() {
        return vec![open_unseen(f)];
    }
    f.files.suggested.iter().take(MOST).map(|suggested| open_as_suggested(f, suggested)).collect()
}

fn open_as_suggested(f: &Facts, suggested: &SuggestedRule) -> Remedy {
    let ports = Facts { ports: suggested.ports.iter().copied().collect(), ..f.clone() }.ports_in_words();
    let here = f.files.denying.iter().filter(|(group, _)| *group == suggested.group);
    let denying: Vec<&str> = here.map(|(_, rule)| rule.as_str()).take(2).collect();
    let above = if denying.is_empty() { "what denies it".to_owned() } else { denying.join(" and ") };
    let title = format!("Allow TCP {ports} to {} in {}, above {above}", suggested.destination, suggested.group);
    Remedy { title, ..add_rule(suggested) }
}

/// Adds a rule that was computed; its title is left to whom it is for.
pub(in crate::classify) fn add_rule(suggested: &SuggestedRule) -> Remedy {
    let rule = Rule {
        resource_group: suggested.resource_group.clone().unwrap_or_else(|| "RG".into()),
        group: suggested.group.clone(),
        name: suggested.name.clone(),
        priority: suggested.priority,
        inbound: false,
        source: suggested.source.clone(),
        destinations: vec![suggested.destination.clone()],
        ports: suggested.ports.clone(),
    };
    let mut add = Remedy { commands: rule.az(), note: limits(&suggested.destination), ..Remedy::default() };
    if suggested.priority.is_none() {
        add.note =
            format!("No number above the rule that denies is free: give that one a higher number first. {}", add.note);
        add.commands = [list_rules(&rule), add.commands].concat();
    }
    add.forms = rule.forms();
    add
}

fn open_unseen(f: &Facts) -> Remedy {
    let rule = storage_rule(f, "RG", "NSG");
    let mut open = remedy(
        format!(
            "Allow TCP {} to {} in the security groups of NIC and subnet, above any rule that denies",
            f.ports_in_words(),
            f.goal()
        ),
        [list_rules(&rule), rule.az()].concat(),
    );
    open.note = format!(
        "{} With --nsg FILE the check computes the number.",
        limits(if f.has_storage() { "Storage.<region>" } else { "" })
    );
    open.forms = rule.forms();
    open
}

/// What a rule with this destination opens, and what it cannot do.
fn limits(destination: &str) -> String {
    let tag = match destination.split_once('.').map_or(destination, |(service, _)| service) {
        "Storage" if destination == "Storage" => {
            "The tag opens every storage account of every region, to these ports alone: with --region it is narrower. "
        }
        "Storage" => "The tag opens every storage account of the region, to these ports alone. ",
        _ => "",
    };
    format!("{tag}Routes, and firewalls behind them, stay as they are.")
}

fn storage_rule(f: &Facts, resource_group: &str, group: &str) -> Rule {
    Rule {
        resource_group: resource_group.to_owned(),
        group: group.to_owned(),
        name: "Allow-Backup-Storage".to_owned(),
        priority: None,
        inbound: false,
        source: "VirtualNetwork".to_owned(),
        destinations: f.destinations(),
        ports: f.ports(),
    }
}

/// Rules on both sides of the way to the proxy. Where files were given and let the packets out, the proxy's side is left.
pub(super) fn way_to_proxy(f: &Facts) -> Remedy {
    let suggested: Vec<Option<&SuggestedRule>> = match f.files.suggested.as_slice() {
        [] if f.files.groups_allow => Vec::new(),
        [] => vec![None],
        all => all.iter().take(MOST).map(Some).collect(),
    };
    let mut rules: Vec<Rule> = suggested.into_iter().map(|suggested| out_to_proxy(f, suggested)).collect();
    let whose = if rules.is_empty() { "of the proxy's subnet" } else { "of both machines" };
    rules.push(Rule {
        resource_group: "PROXY_RG".to_owned(),
        group: "PROXY_NSG".to_owned(),
        name: "Allow-Backup-Clients".to_owned(),
        priority: None,
        inbound: true,
        source: "VM_SUBNET".to_owned(),
        ..out_to_proxy(f, None)
    });
    let mut commands = Vec::new();
    for rule in &rules {
        commands.extend(rule.priority.is_none().then(|| list_rules(rule)).into_iter().flatten());
        commands.extend(rule.az());
    }
    let mut way = remedy(
        format!("Allow this machine to reach the proxy on TCP {}, in the security groups {whose}", f.proxy_port),
        commands,
    );
    way.note =
        "The default rules allow traffic inside a virtual network, so look for a rule that denies. The proxy's own \
                way to storage needs a rule of its own."
            .into();
    way.forms = rules.first().map(Rule::forms).unwrap_or_default();
    way
}

/// The rule on this machine's side, as computed where that could be.
fn out_to_proxy(f: &Facts, suggested: Option<&SuggestedRule>) -> Rule {
    Rule {
        resource_group: suggested.and_then(|rule| rule.resource_group.clone()).unwrap_or_else(|| "RG".into()),
        group: suggested.map_or_else(|| "NSG".into(), |rule| rule.group.clone()),
        name: suggested.map_or_else(|| "Allow-Backup-Proxy".into(), |rule| rule.name.clone()),
        priority: suggested.and_then(|rule| rule.priority),
        inbound: false,
        source: suggested.map_or_else(|| "VirtualNetwork".into(), |rule| rule.source.clone()),
        destinations: vec![address(&f.proxy_host)],
        ports: vec![f.proxy_port],
    }
}

/// What the proxy's own network needs.
pub(super) fn proxy_egress(f: &Facts) -> Remedy {
    let rule = storage_rule(f, "PROXY_RG", "PROXY_NSG");
    let mut open = remedy(
        format!(
            "On the proxy's side, allow the proxy's host to reach TCP {} of {}; rules for the backed-up machine do not help",
            f.ports_in_words(),
            f.goal()
        ),
        [list_rules(&rule), rule.az()].concat(),
    );
    open.forms = rule.forms();
    open
}

/// Where nobody has the rules: what Azure applies to the interface.
pub(super) fn effective(f: &Facts) -> Remedy {
    remedy(
        "Find out what Azure drops: read the effective rules and routes of the NIC (None drops, VirtualAppliance \
         means that a firewall decides)",
        [
            "az network nic list-effective-nsg -g RG -n NIC > effective.json".to_owned(),
            "az network nic show-effective-route-table -g RG -n NIC > routes.json".to_owned(),
            format!("snapreach check --nsg effective.json --routes routes.json {}", f.target),
        ],
    )
}
