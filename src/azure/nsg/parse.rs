//! Reads rules and groups in all their dialects; which one a file has shows in its content.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    address::Ranges,
    input::{At, NsgError, part_of_id, shown},
    rule::{
        Access, Addresses, Attached, Direction, FIRST_PRIORITY, Group, LAST_CUSTOM_PRIORITY, Ports, Protocol,
        Protocols, Rule, Term, default_outbound,
    },
};

/// Rules of one group that are read. Azure allows a thousand beside the default ones.
const MAX_RULES: usize = 1024;

/// A list of rules alone: `az network nsg rule list`.
pub(super) fn rule_list(list: &At<'_>, name: &str, notes: &mut Vec<String>) -> Result<Group, NsgError> {
    let mut group =
        Group { name: name.to_owned(), resource_group: None, attached: Attached::Unsaid, rules: Vec::new() };
    let mut named = false;
    for element in list.elements() {
        if !named {
            named = name_by_id(&mut group, &element);
        }
        push(&mut group, rule(&element, false, notes)?, &element)?;
    }
    finish(&mut group, list, notes)?;
    Ok(group)
}

/// A group: `az network nsg show`, or the same of the REST API, with its content under `properties`.
pub(super) fn group(at: &At<'_>, file_name: &str, notes: &mut Vec<String>) -> Result<Group, NsgError> {
    let mut group = unfinished(at, file_name, notes)?;
    finish(&mut group, at, notes)?;
    Ok(group)
}

/// A group to which more rules may still come.
pub(super) fn unfinished(at: &At<'_>, file_name: &str, notes: &mut Vec<String>) -> Result<Group, NsgError> {
    let name = at.get("name").and_then(|name| name.text()).unwrap_or(file_name);
    let mut group =
        Group { name: name.to_owned(), resource_group: None, attached: Attached::Unsaid, rules: Vec::new() };
    if let Some(id) = at.get("id").and_then(|id| id.text().map(str::to_owned)) {
        group.resource_group = part_of_id(&id, "resourceGroups").map(str::to_owned);
    }
    if let Some(resource_group) = at.get("resourceGroup").and_then(|name| name.text().map(str::to_owned)) {
        group.resource_group = Some(resource_group);
    }
    let inner = at.get("properties");
    let content = inner.as_ref().unwrap_or(at);
    let attached_to = |key| content.get(key).is_some_and(|list| list.elements().next().is_some());
    group.attached = match (attached_to("networkInterfaces"), attached_to("subnets")) {
        (true, false) => Attached::NetworkInterface,
        (false, true) => Attached::Subnet,
        _ => Attached::Unsaid,
    };
    for (key, default) in [("securityRules", false), ("defaultSecurityRules", true)] {
        let Some(list) = content.get(key) else { continue };
        if let Some(expression) = expression(list.value()) {
            notes.push(format!(
                "{}: the rules of {name} are `{expression}`, which only a deployment knows",
                list.file()
            ));
            group.rules.push(Rule::undecided(format!("{key} of {name}"), expression));
            continue;
        }
        if !list.is_array() {
            return Err(list.error(format!("expected a list of rules, found {}", shown(list.value()))));
        }
        for element in list.elements() {
            push(&mut group, rule(&element, default, notes)?, &element)?;
        }
    }
    Ok(group)
}

/// One element of `az network nic list-effective-nsg`.
pub(super) fn effective(at: &At<'_>, file_name: &str, notes: &mut Vec<String>) -> Result<Group, NsgError> {
    let id = at.get("networkSecurityGroup").and_then(|nsg| nsg.get("id").and_then(|id| id.text().map(str::to_owned)));
    let id = id.unwrap_or_default();
    let association = at.get("association");
    let attached_to = |kind| association.as_ref().is_some_and(|association| association.has(kind));
    let mut group = Group {
        name: part_of_id(&id, "networkSecurityGroups").unwrap_or(file_name).to_owned(),
        resource_group: part_of_id(&id, "resourceGroups").map(str::to_owned),
        attached: match (attached_to("networkInterface"), attached_to("subnet")) {
            (true, false) => Attached::NetworkInterface,
            (false, true) => Attached::Subnet,
            _ => Attached::Unsaid,
        },
        rules: Vec::new(),
    };
    let Some(list) = at.get("effectiveSecurityRules").filter(At::is_array) else {
        return Err(at.error("expected `effectiveSecurityRules` with a list of rules"));
    };
    for element in list.elements() {
        push(&mut group, rule(&element, false, notes)?, &element)?;
    }
    finish(&mut group, at, notes)?;
    Ok(group)
}

/// `az network watcher show-security-group-view`: the rules of a network interface and of its subnet, each by itself.
pub(super) fn watcher(at: &At<'_>, file_name: &str, notes: &mut Vec<String>) -> Result<Vec<Group>, NsgError> {
    let mut groups = Vec::new();
    let Some(interfaces) = at.get("networkInterfaces") else { return Ok(groups) };
    for interface in interfaces.elements() {
        let Some(rules) = interface.get("securityRuleAssociations") else {
            return Err(interface.error("expected `securityRuleAssociations`"));
        };
        for (key, attached) in
            [("networkInterfaceAssociation", Attached::NetworkInterface), ("subnetAssociation", Attached::Subnet)]
        {
            let Some(association) = rules.get(key) else { continue };
            let Some(list) = association.get("securityRules") else { continue };
            let mut group = Group {
                name: format!("{file_name}, {}", attached.as_str()),
                resource_group: None,
                attached,
                rules: Vec::new(),
            };
            let mut named = false;
            for element in list.elements() {
                if !named {
                    named = name_by_id(&mut group, &element);
                }
                push(&mut group, rule(&element, false, notes)?, &element)?;
            }
            if let Some(defaults) = rules.get("defaultSecurityRules") {
                for element in defaults.elements() {
                    push(&mut group, rule(&element, true, notes)?, &element)?;
                }
            }
            // An association without rules of its own: the interface or the subnet has no group.
            if group.rules.iter().any(|rule| !rule.default) {
                finish(&mut group, &association, notes)?;
                groups.push(group);
            }
        }
    }
    Ok(groups)
}

/// Adds a rule. A template may hold the same rule twice, within its group and as a resource of its own.
pub(super) fn push(group: &mut Group, rule: Rule, at: &At<'_>) -> Result<(), NsgError> {
    let same = |own: &Rule| own.name.eq_ignore_ascii_case(&rule.name) && own.direction == rule.direction;
    group.rules.retain(|own| !same(own));
    if group.rules.len() >= MAX_RULES {
        return Err(at.error(format!("{} has more than {MAX_RULES} rules; Azure allows 1,000", group.name)));
    }
    let clash =
        |own: &&Rule| own.priority.is_some() && own.priority == rule.priority && own.direction == rule.direction;
    if let Some(own) = group.rules.iter().find(clash).filter(|_| rule.direction.is_some()) {
        return Err(at.error(format!(
            "{} and {} both have priority {}: Azure allows one rule for each number and direction",
            own.name,
            rule.name,
            rule.priority.unwrap_or_default()
        )));
    }
    group.rules.push(rule);
    Ok(())
}

/// Adds the default rules where they are left out, and sorts.
pub(super) fn finish(group: &mut Group, at: &At<'_>, notes: &mut Vec<String>) -> Result<(), NsgError> {
    let missing: Vec<Rule> = default_outbound()
        .into_iter()
        .filter(|default| !group.outbound().any(|rule| rule.priority == default.priority))
        .collect();
    if !missing.is_empty() {
        notes.push(format!(
            "{}: {} is listed without its default rules; the three for outbound traffic are added",
            at.file(),
            group.name
        ));
    }
    for rule in missing {
        push(group, rule, at)?;
    }
    group.rules.sort_by_key(|rule| rule.priority.unwrap_or(u16::MAX));
    Ok(())
}

/// Names a group after the identifier of one of its rules.
fn name_by_id(group: &mut Group, rule: &At<'_>) -> bool {
    let Some(id) = rule.get("id").and_then(|id| id.text().map(str::to_owned)) else { return false };
    let Some(name) = part_of_id(&id, "networkSecurityGroups") else { return false };
    name.clone_into(&mut group.name);
    group.resource_group = part_of_id(&id, "resourceGroups").map(str::to_owned);
    true
}

/// One rule, flat or with its content under `properties`.
pub(super) fn rule(at: &At<'_>, default: bool, notes: &mut Vec<String>) -> Result<Rule, NsgError> {
    if at.object().is_none() {
        return Err(at.error(format!("expected a rule, found {}", shown(at.value()))));
    }
    let inner = at.get("properties");
    let content = inner.as_ref().unwrap_or(at);
    let full_name = at.get("name").and_then(|name| name.text().map(str::to_owned)).unwrap_or_default();
    // Effective rules say in the name which list a rule comes from.
    let (list, name) = full_name.rsplit_once('/').unwrap_or(("", &full_name));
    if name.is_empty() {
        return Err(at.error("this rule has no `name`"));
    }
    let of_default_list = list.eq_ignore_ascii_case("defaultSecurityRules");
    let mut undecided = Vec::new();
    let priority = priority(content, &mut undecided)?;
    let rule = Rule {
        name: name.to_owned(),
        priority,
        direction: word(content, "direction", &DIRECTIONS, &mut undecided)?,
        access: word(content, "access", &ACCESSES, &mut undecided)?,
        protocols: protocols(content, &mut undecided)?,
        source: addresses(content, "source", &mut undecided)?,
        source_ports: ports(content, "sourcePort", &mut undecided)?,
        destination: addresses(content, "destination", &mut undecided)?,
        ports: ports(content, "destinationPort", &mut undecided)?,
        default: default || of_default_list || priority.is_some_and(|number| number > LAST_CUSTOM_PRIORITY),
    };
    if !undecided.is_empty() && rule.direction != Some(Direction::Inbound) {
        let what = undecided.join(", ");
        notes.push(format!("{}: rule {name} cannot be evaluated offline: {what}", at.file()));
    }
    Ok(rule)
}

const DIRECTIONS: [(&str, Direction); 2] = [("Outbound", Direction::Outbound), ("Inbound", Direction::Inbound)];
const ACCESSES: [(&str, Access); 2] = [("Allow", Access::Allow), ("Deny", Access::Deny)];

/// The expression in a template's value: `[parameters('ports')]`. Two brackets begin a literal.
pub(super) fn expression(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| text.starts_with('[') && !text.starts_with("[[") && text.ends_with(']'))
}

fn priority(rule: &At<'_>, undecided: &mut Vec<String>) -> Result<Option<u16>, NsgError> {
    let Some(at) = rule.get("priority") else {
        return Err(rule.error("this rule has no `priority`"));
    };
    if let Some(expression) = expression(at.value()) {
        undecided.push(format!("its priority is {expression}"));
        return Ok(None);
    }
    let number = at.value().as_u64().or_else(|| at.text()?.parse().ok());
    let custom = u64::from(FIRST_PRIORITY)..=u64::from(LAST_CUSTOM_PRIORITY);
    number
        .filter(|number| custom.contains(number) || (65_000..=65_500).contains(number))
        .and_then(|number| u16::try_from(number).ok())
        .map(Some)
        .ok_or_else(|| {
            at.error(format!("found {}; a priority is a number from {FIRST_PRIORITY} to {LAST_CUSTOM_PRIORITY}, or from 65000 for default rules", shown(at.value())))
        })
}

fn word<T: Copy>(
    rule: &At<'_>,
    key: &str,
    words: &[(&str, T)],
    undecided: &mut Vec<String>,
) -> Result<Option<T>, NsgError> {
    let Some(at) = rule.get(key) else {
        return Err(rule.error(format!("this rule has no `{key}`")));
    };
    if let Some(expression) = expression(at.value()) {
        undecided.push(format!("its {key} is {expression}"));
        return Ok(None);
    }
    let found = at.text().and_then(|text| words.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)));
    found.map(|&(_, value)| Some(value)).ok_or_else(|| {
        let allowed: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        at.error(format!("found {}; allowed are {}", shown(at.value()), allowed.join(" and ")))
    })
}

fn protocols(rule: &At<'_>, undecided: &mut Vec<String>) -> Result<Protocols, NsgError> {
    let Some(at) = rule.get("protocol") else {
        return Err(rule.error("this rule has no `protocol`"));
    };
    if let Some(expression) = expression(at.value()) {
        undecided.push(format!("its protocol is {expression}"));
        return Ok(Protocols::Unknown);
    }
    match at.text() {
        Some("*") => Ok(Protocols::Any),
        Some(text) if text.eq_ignore_ascii_case("all") || text.eq_ignore_ascii_case("any") => Ok(Protocols::Any),
        text => text
            .and_then(Protocol::from_name)
            .map(Protocols::One)
            .ok_or_else(|| at.error(format!("found {}; allowed are Tcp, Udp, Icmp, Esp, Ah and *", shown(at.value())))),
    }
}

/// The strings of a value in the singular and of its list in the plural: both count.
fn both(
    rule: &At<'_>,
    keys: [&str; 2],
    mut take: impl FnMut(&At<'_>, &str) -> Result<(), NsgError>,
) -> Result<(), NsgError> {
    for key in keys {
        let Some(at) = rule.get(key) else { continue };
        let mut each = |at: &At<'_>| match at.value() {
            // What a serialiser writes for "not set".
            Value::String(text) if text.trim().is_empty() => Ok(()),
            Value::String(text) if expression(at.value()).is_some() => take(at, text),
            Value::String(text) => text.split(',').map(str::trim).try_for_each(|part| take(at, part)),
            Value::Number(number) => take(at, &number.to_string()),
            other => Err(at.error(format!("expected a text, found {}", shown(other)))),
        };
        if at.is_array() {
            at.elements().try_for_each(|element| each(&element))?;
        } else {
            each(&at)?;
        }
    }
    Ok(())
}

fn addresses(rule: &At<'_>, side: &str, undecided: &mut Vec<String>) -> Result<Addresses, NsgError> {
    let mut terms = Vec::new();
    let mut seen = HashSet::new();
    both(rule, [&format!("{side}AddressPrefix"), &format!("{side}AddressPrefixes")], |at, text| {
        if expression(at.value()).is_some() {
            undecided.push(format!("its {side} is {text}"));
        }
        let term = term(at, text)?;
        if seen.insert(term.clone()) {
            terms.push(term);
        }
        Ok(())
    })?;
    if let Some(groups) = rule.get(&format!("{side}ApplicationSecurityGroups")) {
        for group in groups.elements() {
            let id = group.get("id").and_then(|id| id.text().map(str::to_owned)).unwrap_or_default();
            let name = part_of_id(&id, "applicationSecurityGroups").unwrap_or(&id);
            undecided.push(format!("its {side} is the application security group {name}"));
            terms.push(Term::Undecided(format!("application security group {name}")));
        }
    }
    let capital = format!("expanded{}{}AddressPrefix", side[..1].to_ascii_uppercase(), &side[1..]);
    let mut expanded = Vec::new();
    both(rule, [&capital, &format!("{capital}es")], |at, text| match Ranges::parse(text) {
        Some(ranges) => {
            expanded.extend_from_slice(ranges.as_slice());
            Ok(())
        }
        None if matches!(text, "*") => {
            expanded.extend_from_slice(Ranges::all().as_slice());
            Ok(())
        }
        None => Err(at.error(format!("found {}; write a prefix such as 10.0.0.0/8", shown(at.value())))),
    })?;
    let expanded = (!expanded.is_empty()).then(|| expanded.into_iter().collect());
    if terms.is_empty() && expanded.is_none() {
        return Err(
            rule.error(format!("this rule has no {side}: write `{side}AddressPrefix` or `{side}AddressPrefixes`"))
        );
    }
    Ok(Addresses { terms, expanded })
}

fn term(at: &At<'_>, text: &str) -> Result<Term, NsgError> {
    if expression(at.value()).is_some() {
        return Ok(Term::Undecided(text.to_owned()));
    }
    if text == "*" || text.eq_ignore_ascii_case("any") {
        return Ok(Term::Any);
    }
    if let Some(ranges) = Ranges::parse(text) {
        return Ok(Term::Literal(text.to_owned(), ranges));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && text.bytes().all(allowed) {
        return Ok(Term::Tag(text.to_owned()));
    }
    Err(at.error(format!(
        "found {}; write an address, a prefix such as 10.0.0.0/8, a range such as 10.0.0.4-10.0.0.9, a service tag or *",
        shown(at.value())
    )))
}

fn ports(rule: &At<'_>, side: &str, undecided: &mut Vec<String>) -> Result<Ports, NsgError> {
    let mut ports = Ports { ranges: Vec::new(), undecided: Vec::new() };
    both(rule, [&format!("{side}Range"), &format!("{side}Ranges")], |at, text| {
        if expression(at.value()).is_some() {
            undecided.push(format!("its {side}Range is {text}"));
            ports.undecided.push(text.to_owned());
            return Ok(());
        }
        let range =
            if text == "*" || text.eq_ignore_ascii_case("any") { Some((0, u16::MAX)) } else { port_range(text) };
        let range = range.ok_or_else(|| {
            at.error(format!("found {}; write a port from 0 to 65535, a range such as 80-443, or *", shown(at.value())))
        })?;
        ports.ranges.push(range);
        Ok(())
    })?;
    if ports.ranges.is_empty() && ports.undecided.is_empty() {
        return Err(rule.error(format!("this rule has no port: write `{side}Range` or `{side}Ranges`")));
    }
    // Effective rules say 443-443 twice, in the singular and in the plural.
    ports.ranges.sort_unstable();
    ports.ranges.dedup();
    Ok(ports)
}

/// `443`, or `80-443` with both ends included.
fn port_range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| {
        let text = text.trim();
        text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten()
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then_some((first, last))
}
