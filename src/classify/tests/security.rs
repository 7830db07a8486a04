//! What the files given say against what the probe met.

use crate::{
    classify::{
        assess, codes as c,
        testing::{NAME, Walk, record, reply, tcp_info},
    },
    model::{
        Assessment, Code, Confidence, Decision, FailureKind as K, Finding, FlowVerdict, GroupVerdict, Hop, Party,
        Record, RouteVerdict, RuleRef, Security, Severity, Status, SuggestedRule, TcpState,
    },
};

const A443: &str = "acct.blob.core.windows.net:443";
const IP: &str = "20.60.1.1";

fn rule(name: &str, priority: u16, allows: bool) -> RuleRef {
    RuleRef { name: name.into(), priority, allows, default: priority >= 65000 }
}

fn flow(subject: &str, address: &str, denial: Option<&str>) -> FlowVerdict {
    let port = subject.rsplit(':').next().unwrap().parse().unwrap();
    let decision = if denial.is_some() { Decision::Denied } else { Decision::Allowed };
    let group = GroupVerdict {
        group: "nsg-lockdown".into(),
        attached: "subnet".into(),
        decision,
        rule: Some(rule("Deny_All", 1000, denial.is_none())),
        shadowed: Vec::new(),
    };
    FlowVerdict {
        subject: subject.into(),
        address: address.parse().ok(),
        port,
        decision,
        groups: vec![group],
        route: None,
        further: Vec::new(),
        notes: denial.map(|_| "why it is so".to_owned()).into_iter().collect(),
        code: denial.map(str::to_owned),
        suggestion: denial.map(|_| SuggestedRule {
            group: "nsg-lockdown".into(),
            resource_group: Some("rg-net".into()),
            name: "Allow-Backup-Storage".into(),
            priority: Some(990),
            source: "VirtualNetwork".into(),
            destination: "Storage.WestEurope".into(),
            ports: vec![port],
        }),
    }
}

fn routed(next_hop: &str) -> FlowVerdict {
    let route = RouteVerdict {
        prefix: "0.0.0.0/0".into(),
        next_hop: next_hop.into(),
        next_hop_address: (next_hop == "VirtualAppliance").then(|| "10.0.1.4".parse().unwrap()),
        source: "User".into(),
    };
    FlowVerdict { route: Some(route), ..flow(A443, IP, None) }
}

fn judge(flow: FlowVerdict, walks: Vec<Walk>) -> Assessment {
    assess(&with(flow, walks))
}

fn with(flow: FlowVerdict, walks: Vec<Walk>) -> Record {
    let mut record = record(&[&format!("https://{NAME}")], walks);
    record.context.security = Some(Security { flows: vec![flow], ..Security::default() }.into());
    record
}

fn silent() -> Walk {
    Walk::direct(A443, IP).connect_fails_after(K::TimedOut, 10_000_000, Some(tcp_info(TcpState::SynSent, 3, 1)), None)
}

fn find(assessment: &Assessment, code: Code) -> &Finding {
    let found = assessment.findings.iter().find(|finding| finding.code == code);
    found.unwrap_or_else(|| panic!("no {code} among {:?}", assessment.findings))
}

#[test]
fn silence_where_a_rule_denies_is_proved() {
    for code in [c::NSG_DENIED, c::NSG_PORT_EXCLUDED, c::NSG_SHADOWED, c::NSG_DEFAULT_DENIED] {
        let got = judge(flow(A443, IP, Some(code.0)), vec![silent(), silent()]);
        let finding = find(&got, code);
        assert_eq!((finding.severity, finding.confidence), (Severity::Error, Confidence::Proof));
        assert_eq!((finding.hop, finding.party), (Hop::ClientToOrigin, Party::Path));
        assert_eq!((finding.failed, finding.tried), (2, 2));
        assert!(finding.summary.contains("rule Deny_All (1000) of nsg-lockdown"), "{}", finding.summary);
        let evidence = finding.evidence.join("\n");
        assert!(evidence.contains("why it is so") && evidence.contains("3 retransmissions"), "{evidence}");
        let commands = finding.remedies[0].commands.join("\n");
        assert!(commands.contains("--priority 990") && commands.contains("-g rg-net"), "{commands}");
        assert_eq!((got.verdict.status, got.findings.len()), (Status::Blocked, 1), "{:?}", got.findings);
    }
}

#[test]
fn the_way_to_the_proxy_has_its_own_flow() {
    let walk = Walk::proxied(A443).connect_fails(K::TimedOut);
    let mut record = with(flow("10.0.0.5:3128", "10.0.0.5", Some("nsg.denied")), vec![walk]);
    record.context.proxy = Some("http://10.0.0.5:3128".into());
    let got = assess(&record);
    let finding = find(&got, c::NSG_DENIED);
    assert_eq!((finding.hop, finding.targets.as_slice()), (Hop::ClientToProxy, &[A443.to_owned()][..]));
    assert!(finding.summary.contains("the proxy"), "{}", finding.summary);
    let commands = finding.remedies[0].commands.join("\n");
    assert!(commands.contains("--priority 990") && commands.contains("--nsg-name PROXY_NSG"), "{commands}");
}

#[test]
fn an_answer_where_a_rule_denies_is_a_contradiction() {
    let denied = || flow(A443, IP, Some("nsg.denied"));
    let got = judge(denied(), vec![Walk::direct(A443, IP).reaches_storage()]);
    let finding = find(&got, c::NSG_DENIED);
    assert_eq!((finding.severity, finding.confidence), (Severity::Warning, Confidence::Reported));
    assert!(finding.remedies[0].title.starts_with("Save the rules and routes now in force"), "{:?}", finding.remedies);
    assert!(finding.summary.contains("says otherwise") && finding.summary.contains("accepted"), "{}", finding.summary);
    assert_eq!(got.verdict.status, Status::Degraded);

    let got = judge(denied(), vec![Walk::direct(A443, IP).connect_fails(K::Refused)]);
    let finding = find(&got, c::NSG_DENIED);
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.summary.contains("what drops never answers"), "{}", finding.summary);
    assert_eq!(find(&got, c::TCP_REFUSED).severity, Severity::Error);

    // A route that leads nowhere is contradicted likewise.
    let lost = FlowVerdict { decision: Decision::Denied, code: Some("nsg.denied".into()), ..routed("None") };
    let got = judge(lost, vec![Walk::direct(A443, IP).reaches_storage()]);
    assert!(find(&got, c::NSG_DENIED).summary.contains("next hop None"), "{:?}", got.findings);

    // A page from a firewall behind the groups is an answer too.
    let page = Walk::direct(A443, IP).connected().answered(reply("HTTP/1.1 470 status code 470\r\n\r\n"));
    assert_eq!(find(&judge(denied(), vec![page]), c::NSG_DENIED).severity, Severity::Warning);
}

#[test]
fn what_passes_now_and_then_is_no_rules_doing() {
    let walks = vec![silent(), Walk::direct(A443, IP).reaches_storage()];
    let got = judge(flow(A443, IP, Some("nsg.denied")), walks);
    assert_eq!(find(&got, c::NSG_DENIED).severity, Severity::Warning);
    assert_eq!(find(&got, c::TCP_INTERMITTENT).severity, Severity::Warning);
}

#[test]
fn silence_where_the_groups_allow_lies_behind_them() {
    for (flow, says, confidence) in [
        (flow(A443, IP, None), "security groups given allow this: look at routes", Confidence::Heuristic),
        (
            FlowVerdict { decision: Decision::Denied, code: Some("nsg.denied".into()), ..routed("None") },
            "next hop None",
            Confidence::Proof,
        ),
        (routed("Virtual Appliance"), "to the appliance, whose rules decide", Confidence::Heuristic),
        (routed("VirtualAppliance"), "to the appliance at 10.0.1.4", Confidence::Heuristic),
        (routed("VirtualNetworkGateway"), "on premises", Confidence::Heuristic),
        (routed("Internet"), "leads to Internet", Confidence::Heuristic),
        (FlowVerdict { groups: Vec::new(), ..routed("None") }, "next hop None", Confidence::Proof),
        (FlowVerdict { decision: Decision::Unknown, ..flow(A443, IP, None) }, "do not tell", Confidence::Heuristic),
    ] {
        let got = judge(flow, vec![silent()]);
        let finding = find(&got, c::TCP_CONNECT_TIMEOUT);
        assert!(finding.summary.contains(says), "{says}: {}", finding.summary);
        assert_eq!(finding.confidence, confidence, "{says}");
        assert_eq!(got.findings.len(), 1, "{:?}", got.findings);
    }
}

#[test]
fn nothing_is_said_about_other_flows_and_own_trouble() {
    let elsewhere = judge(flow(A443, "20.60.9.9", Some("nsg.denied")), vec![silent()]);
    assert!(!find(&elsewhere, c::TCP_CONNECT_TIMEOUT).summary.contains("group"));
    let stuck = Walk::direct(A443, IP).connect_fails_after(
        K::TimedOut,
        10_000_000,
        Some(tcp_info(TcpState::SynSent, 3, 0)),
        None,
    );
    let here = judge(flow(A443, IP, Some("nsg.denied")), vec![stuck]);
    assert_eq!((here.findings.len(), here.findings[0].code), (1, c::LOCAL_DENIED), "{:?}", here.findings);
    let unknown = judge(flow(A443, IP, Some("nsg.new_code")), vec![silent()]);
    assert_eq!(unknown.findings[0].code, c::TCP_CONNECT_TIMEOUT, "{:?}", unknown.findings);
}
