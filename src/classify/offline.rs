//! What files of security groups, routes and service tags say, judged without a probe.

use super::codes;
use crate::{
    azure::nsg::{Compiled, Question, merge_suggestions},
    model::{
        Code, Confidence, Decision, Finding, FlowVerdict, Hop, Party, Remedy, RuleRef, Severity, Status, SuggestedRule,
        Verdict,
    },
};

/// The judgement over files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// The overall result.
    pub verdict: Verdict,
    /// One entry for each question, in their order.
    pub flows: Vec<FlowVerdict>,
    /// Findings: errors first.
    pub findings: Vec<Finding>,
}

/// Judges flows, and where asked to, the rules as such.
#[must_use]
pub fn review(policy: &Compiled, questions: &[Question<'_>], with_rules: bool) -> Review {
    let mut flows: Vec<FlowVerdict> = questions.iter().map(|question| policy.judge(question)).collect();
    let needed = if with_rules { dependencies(policy, questions, &flows) } else { Vec::new() };
    let (rules, verdicts): (Vec<String>, Vec<FlowVerdict>) = needed.into_iter().unzip();
    flows.extend(verdicts);
    policy.keep_apart(&mut flows);
    let needed = flows.split_off(questions.len());
    let mut findings = denials(&flows);
    findings.extend(rules.iter().zip(&needed).map(|(rule, flow)| dependency(rule, flow)));
    if with_rules {
        findings.extend(unreachable(policy));
    }
    Review { verdict: verdict(&flows, &findings), flows, findings }
}

/// The command that adds a rule, as lines that belong together.
#[must_use]
pub fn create_command(rule: &SuggestedRule) -> Vec<String> {
    let ports: Vec<String> = rule.ports.iter().map(ToString::to_string).collect();
    vec![
        format!(
            "az network nsg rule create -g {} --nsg-name {} \\",
            rule.resource_group.as_deref().map_or_else(|| "RG".to_owned(), shell_word),
            shell_word(&rule.group),
        ),
        format!(
            "  -n {} --priority {} \\",
            shell_word(&rule.name),
            rule.priority.map_or_else(|| "NUMBER".to_owned(), |number| number.to_string())
        ),
        "  --direction Outbound --access Allow --protocol Tcp \\".to_owned(),
        format!("  --source-address-prefixes {} \\", shell_word(&rule.source)),
        format!("  --destination-address-prefixes {} \\", shell_word(&rule.destination)),
        format!("  --destination-port-ranges {}", ports.join(" ")),
    ]
}

/// A word that a shell takes as it is: what files name may hold anything.
fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':');
    if !text.is_empty() && text.bytes().all(plain) && !text.starts_with('-') {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// One finding for all ports of a party that the same rules deny in the same way.
fn denials(flows: &[FlowVerdict]) -> Vec<Finding> {
    let rules = merge_suggestions(flows.iter().flat_map(FlowVerdict::suggestions));
    let mut findings: Vec<(Vec<&FlowVerdict>, Finding)> = Vec::new();
    for flow in flows.iter().filter(|flow| flow.decision == Decision::Denied) {
        let alike = |(others, _): &&mut (Vec<&FlowVerdict>, Finding)| {
            others[0].code == flow.code && party(others[0]) == party(flow) && deciders(others[0]) == deciders(flow)
        };
        if let Some((others, finding)) = findings.iter_mut().find(alike) {
            others.push(flow);
            finding.targets.push(flow.subject.clone());
            finding.evidence.extend(flow.notes.iter().cloned());
        } else {
            findings.push((vec![flow], denial(flow, Severity::Error)));
        }
    }
    findings
        .into_iter()
        .map(|(flows, mut finding)| {
            finding.summary = format!("{} cannot be reached: {}", finding.targets.join(", "), who(flows[0]));
            dedup(&mut finding.evidence);
            let wanted = |rule: &&SuggestedRule| {
                let mut own = flows.iter().flat_map(|flow| flow.suggestions());
                own.any(|own| (&own.group, &own.destination) == (&rule.group, &rule.destination))
            };
            finding.remedies = rules.iter().filter(wanted).map(remedy).collect();
            finding
        })
        .collect()
}

/// Where a rule allows the service's own tag: what else the service needs and is denied, with the rule's name.
fn dependencies(policy: &Compiled, questions: &[Question<'_>], flows: &[FlowVerdict]) -> Vec<(String, FlowVerdict)> {
    let region = questions.iter().find_map(|question| question.region);
    let source = questions.iter().find_map(|question| question.source);
    let mut missing = policy.missing_dependencies(region, source);
    missing.retain(|(_, verdict)| !flows.iter().any(|flow| flow.subject == verdict.subject));
    missing
}

fn dependency(rule: &str, flow: &FlowVerdict) -> Finding {
    let mut finding = denial(flow, Severity::Warning);
    finding.summary = format!(
        "{rule} allows AzureBackup, which depends on {} too, and that cannot be reached: {}",
        flow.subject,
        who(flow)
    );
    finding.remedies = flow.suggestions().map(remedy).collect();
    finding
}

fn unreachable(policy: &Compiled) -> Vec<Finding> {
    policy
        .unreachable_rules()
        .into_iter()
        .map(|found| {
            let contrary = found.rule.allows != found.by.allows;
            let does = |rule: &RuleRef| if rule.allows { "allows" } else { "denies" };
            let mut finding = finding(codes::NSG_SHADOWED, if contrary { Severity::Warning } else { Severity::Info });
            finding.summary = format!(
                "{}: {} {} nothing, since {} comes first and {} all of it",
                found.group,
                named(&found.rule),
                does(&found.rule),
                named(&found.by),
                does(&found.by)
            );
            finding
        })
        .collect()
}

fn denial(flow: &FlowVerdict, severity: Severity) -> Finding {
    let known = [codes::NSG_SHADOWED, codes::NSG_PORT_EXCLUDED, codes::NSG_DEFAULT_DENIED];
    let code = known.into_iter().find(|code| flow.code.as_deref() == Some(code.0)).unwrap_or(codes::NSG_DENIED);
    Finding { targets: vec![flow.subject.clone()], evidence: flow.notes.clone(), ..finding(code, severity) }
}

fn finding(code: Code, severity: Severity) -> Finding {
    Finding {
        code,
        hop: Hop::ClientToOrigin,
        severity,
        confidence: Confidence::Proof,
        party: Party::Path,
        targets: Vec::new(),
        route: None,
        failed: 0,
        tried: 0,
        summary: String::new(),
        evidence: Vec::new(),
        remedies: Vec::new(),
        observations: Vec::new(),
    }
}

fn remedy(rule: &SuggestedRule) -> Remedy {
    let title = if rule.priority.is_some() {
        format!("Add this rule to {}, above the one that denies; its number is free", rule.group)
    } else {
        format!("No number above the rule that denies is free in {}: give that one a higher number first", rule.group)
    };
    Remedy { title, commands: create_command(rule) }
}

fn verdict(flows: &[FlowVerdict], findings: &[Finding]) -> Verdict {
    let count = |decision| flows.iter().filter(|flow| flow.decision == decision).count();
    let (denied, unknown, all) = (count(Decision::Denied), count(Decision::Unknown), flows.len());
    let some = |n: usize| if all == 1 { "The flow".to_owned() } else { format!("{n} of {all} flows") };
    let every = if all == 1 { "The flow".to_owned() } else { format!("All {all} flows") };
    let (status, summary) = match (denied, unknown) {
        (0, 0) if findings.iter().any(|finding| finding.severity == Severity::Warning) => {
            (Status::Degraded, format!("{every} may leave, but the rules need care"))
        }
        (0, 0) => (Status::Clear, format!("{every} may leave")),
        (0, unknown) => (Status::Inconclusive, format!("{} cannot be decided from these files", some(unknown))),
        (denied, _) => (Status::Blocked, format!("{} cannot leave", some(denied))),
    };
    Verdict { status, summary, exit_code: status.exit_code() }
}

/// The host, address or tag of a flow.
fn party(flow: &FlowVerdict) -> &str {
    flow.subject.rsplit_once(':').map_or(flow.subject.as_str(), |(party, _)| party)
}

/// The rules that deny a flow, by group.
fn deciders(flow: &FlowVerdict) -> Vec<(&str, Option<&RuleRef>)> {
    let denied = flow.groups.iter().filter(|group| group.decision == Decision::Denied);
    denied.map(|group| (group.group.as_str(), group.rule.as_ref())).collect()
}

/// Who denies a flow, in words.
fn who(flow: &FlowVerdict) -> String {
    let groups: Vec<String> = deciders(flow)
        .into_iter()
        .map(|(group, rule)| rule.map_or_else(|| group.to_owned(), |rule| format!("{} of {group}", named(rule))))
        .collect();
    match (&flow.route, groups.is_empty()) {
        (Some(route), true) => format!("the route {} has next hop {}", route.prefix, route.next_hop),
        _ if groups.len() == 1 => format!("{} denies it", groups[0]),
        _ => format!("{} deny it", groups.join(" and ")),
    }
}

fn named(rule: &RuleRef) -> String {
    format!("{} ({})", rule.name, rule.priority)
}

fn dedup(lines: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    lines.retain(|line| seen.insert(line.clone()));
}
