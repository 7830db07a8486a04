//! What the security groups and routes given say about a flow, against what the probe met on the wire. A security group
//! drops in silence and never answers.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::rules;
use crate::{
    classify::{
        case::{Case, Sign, Tally, Walk, with_catalogue},
        codes as c,
        rules::Judged,
        view::At,
    },
    model::{
        Code, Confidence, Decision, FailureKind, FlowVerdict, GroupVerdict, Hop, Layer, Leg, Party, RouteVerdict,
        Severity,
    },
};

/// How the first connection of a walk ended, as far as a packet filter can have to do with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    Silence,
    Acceptance,
    Refusal,
}

/// Silence where the files deny has its cause; where they allow, it lies behind the groups; an answer where they deny is
/// a contradiction.
pub(super) fn compare(case: &mut Case<'_>, tallies: &[Tally]) {
    let record = case.record;
    let Some(security) = &record.context.security else { return };
    let flows: HashMap<(IpAddr, u16), &FlowVerdict> =
        security.flows.iter().filter_map(|flow| Some(((flow.address?, flow.port), flow))).collect();
    let key = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    let mixed: Vec<bool> =
        case.walks.iter().map(|walk| case.cells_of(walk).any(|cell| tallies[cell].is_mixed())).collect();
    let mut contradictions = Vec::new();
    for (walk, mixed) in case.walks.iter_mut().zip(mixed) {
        let Some((leg, met)) = met(walk) else { continue };
        let Some(&flow) = walk.view.observation.address.and_then(|address| flows.get(&key(address))) else { continue };
        let denial = flow.code.as_deref().and_then(code).filter(|_| flow.decision == Decision::Denied);
        match (met, denial, denying(flow)) {
            // What passes now and then is no rule's doing.
            (Met::Silence, ..) if mixed => {}
            (Met::Silence, Some(code), Some(group)) => {
                let denied = judged(code, leg, Severity::Error, Confidence::Proof);
                walk.judged = Some(denied);
                walk.note = Some(decides(group));
                walk.flow = Some(flow);
            }
            (Met::Silence, ..) => behind_the_groups(walk, flow),
            (met, Some(code), group) => {
                let answer = if met == Met::Refusal {
                    "the connection is refused, and what drops never answers"
                } else {
                    "the connection is accepted"
                };
                let warning = judged(code, leg, Severity::Warning, Confidence::Reported);
                let sign = Sign::about(warning, Some(walk.view.observation.route), walk.targets.clone());
                contradictions.push(Sign {
                    note: Some(format!(
                        "{}, but {answer}: the files may be old or of another network interface, or a private or service \
                         endpoint takes the packets past them",
                        group.map_or_else(|| flow.route.as_ref().map_or_else(String::new, leads), decides)
                    )),
                    ..sign.seen(walk.view)
                });
            }
            (_, None, _) => {}
        }
    }
    case.extra.extend(contradictions);
}

fn judged(code: Code, leg: Leg, severity: Severity, confidence: Confidence) -> Judged {
    with_catalogue(Judged { code, hop: rules::between(leg), severity, confidence, party: Party::Path })
}

/// How the walk's first connection ended; `None` where this machine itself or the run stopped it.
fn met(walk: &Walk<'_>) -> Option<(Leg, Met)> {
    let at: At<'_> = walk.view.steps().find(|at| at.step.layer() == Layer::Connect)?;
    let judged_here = walk.judged.is_some_and(|judged| judged.hop == Hop::Local);
    let met = match at.failure().map(|failure| failure.kind) {
        None => Met::Acceptance,
        Some(FailureKind::TimedOut) if !judged_here => Met::Silence,
        Some(FailureKind::Refused | FailureKind::Reset) if !judged_here => Met::Refusal,
        Some(_) => return None,
    };
    Some((at.step.leg, met))
}

/// The codes that a denial may have.
fn code(name: &str) -> Option<Code> {
    [c::NSG_DENIED, c::NSG_PORT_EXCLUDED, c::NSG_SHADOWED, c::NSG_DEFAULT_DENIED]
        .into_iter()
        .find(|code| code.0 == name)
}

fn denying(flow: &FlowVerdict) -> Option<&GroupVerdict> {
    flow.groups.iter().find(|group| group.decision == Decision::Denied)
}

/// Which rule decides in a group.
fn decides(group: &GroupVerdict) -> String {
    let attached = if group.attached.is_empty() { String::new() } else { format!(" ({})", group.attached) };
    match &group.rule {
        Some(rule) => format!("rule {} ({}) of {}{attached} denies it", rule.name, rule.priority, group.group),
        None => format!("{}{attached} denies it", group.group),
    }
}

/// Silence although no group denies: the route may say more.
fn behind_the_groups<'a>(walk: &mut Walk<'a>, flow: &'a FlowVerdict) {
    let Some(judged) = walk.judged.as_mut().filter(|judged| judged.code == c::TCP_CONNECT_TIMEOUT) else { return };
    let groups = match flow.decision {
        _ if flow.groups.is_empty() => None,
        Decision::Unknown => Some("the files given do not tell whether a security group allows this"),
        _ if flow.groups.iter().all(|group| group.decision == Decision::Allowed) => {
            Some("the security groups given allow this")
        }
        _ => None,
    };
    let route = flow.route.as_ref().map(leads);
    let elsewhere = match (&groups, &route) {
        (Some(groups), None) if flow.decision == Decision::Unknown => (*groups).to_owned(),
        (Some(groups), None) => format!("{groups}: look at routes, at firewalls, and whether the subnet has a way out"),
        (Some(groups), Some(route)) => format!("{groups}, and {route}"),
        (None, Some(route)) => route.clone(),
        (None, None) => return,
    };
    if flow.route.as_ref().is_some_and(|route| route.leads_to("None")) {
        judged.confidence = Confidence::Proof;
    }
    walk.note = Some(walk.note.take().map_or_else(|| elsewhere.clone(), |note| format!("{note}; {elsewhere}")));
    // What could not be decided, and why.
    if flow.decision == Decision::Unknown {
        walk.flow = Some(flow);
    }
}

/// Where a route leads, and who decides there.
fn leads(route: &RouteVerdict) -> String {
    let to = format!("the route {}", route.prefix);
    if route.leads_to("None") {
        return format!("{to} leads nowhere (next hop None), which drops it");
    }
    if route.leads_to("VirtualAppliance") {
        let address = route.next_hop_address.map_or_else(String::new, |address| format!(" at {address}"));
        return format!("{to} leads to the appliance{address}, whose rules decide");
    }
    if route.leads_to("VirtualNetworkGateway") {
        return format!("{to} leads through the gateway to the network on premises, whose firewalls decide");
    }
    format!("{to} leads to {}: look at firewalls, and whether the subnet has a way out", route.next_hop)
}
