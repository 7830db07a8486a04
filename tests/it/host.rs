//! The host channel from end to end: the lab plays the wire server, the host plugin and instance metadata.

use std::{net::TcpListener, time::Duration};

use snapreach::{
    lab::{Event, HostAnswer, Lab, LabSpec},
    model::{Assessment, CellStatus, Confidence, Hop, HostService, Record, Route, Severity, Status, Target},
    plan::{Dns, HostChannel, NameServer, Plan, SystemResolver, Trust},
    probe::{
        self,
        metadata::{self, MetadataError},
    },
};

use crate::support::{self, measure};

const NAME: &str = "acct.blob.core.windows.net";

/// Probes a healthy endpoint and the host channel; gives what was seen by us and by the other parties.
fn run(answer: HostAnswer, change: impl FnOnce(&mut Plan)) -> (Record, Assessment, Vec<Event>) {
    run_with((answer, HostAnswer::Ok), change)
}

/// The same with what instance metadata does too.
fn run_with(
    (wire_server, metadata): (HostAnswer, HostAnswer),
    change: impl FnOnce(&mut Plan),
) -> (Record, Assessment, Vec<Event>) {
    let mut spec = LabSpec::default();
    spec.host.answer = wire_server;
    spec.host.metadata.answer = metadata;
    let lab = Lab::start(&spec).unwrap();
    let network = lab.network();
    let mut plan = Plan {
        targets: Target::parse(&format!("https://{NAME}"), &[]).unwrap(),
        routes: vec![Route::Direct],
        proxy: network.proxy.clone(),
        dns: Dns { system: SystemResolver::Stub(network.dns), server: NameServer::Off, ..Dns::default() },
        trust: Trust { lab: network.roots.clone(), ..Trust::default() },
        dial: network.dial.clone(),
        host: Some(HostChannel::default()),
        ..Plan::default()
    };
    plan.budgets.attempts = 2;
    plan.budgets.connect = Duration::from_millis(500);
    plan.context.privileged = Some(true);
    change(&mut plan);
    let (record, assessment) = measure(plan);
    (record, assessment, lab.log())
}

#[test]
fn every_way_in_which_the_host_channel_fails_has_its_code() {
    for (answer, privileged, code) in [
        (HostAnswer::Ok, true, None),
        (HostAnswer::Ok, false, None),
        (HostAnswer::Silent, true, Some("host.unreachable")),
        (HostAnswer::Silent, false, Some("host.root_needed")),
        (HostAnswer::Refuse, false, Some("host.unreachable")),
        (HostAnswer::Other, true, Some("host.unexpected")),
        (HostAnswer::Via, true, Some("host.proxied")),
    ] {
        let (record, got, _) = run(answer, |plan| plan.context.privileged = Some(privileged));
        let found: Vec<_> = got.findings.iter().map(|finding| finding.code.0).collect();
        assert_eq!(found, code.into_iter().collect::<Vec<_>>(), "{answer:?}: {:#?}", got.findings);
        assert_eq!(got.verdict.status, if code.is_some() { Status::Degraded } else { Status::Clear }, "{answer:?}");
        assert!(matches!(got.cells[..], [ref cell] if cell.status == CellStatus::Ok && cell.tried == 2), "{answer:?}");
        let Some(finding) = got.findings.first() else { continue };
        assert_eq!((finding.hop, finding.failed, finding.tried), (Hop::Host, 4, 4), "{answer:?}");
        assert_eq!(finding.targets, ["168.63.129.16:32526", "168.63.129.16:80"]);
        let warning = code == Some("host.root_needed");
        assert_eq!(finding.severity, if warning { Severity::Warning } else { Severity::Error });
        assert_eq!(record.observations.iter().filter(|seen| seen.host_service.is_some()).count(), 6);
    }
}

#[test]
fn instance_metadata_has_the_same_codes_and_is_no_more_than_a_warning() {
    for (answer, privileged, code, confidence) in [
        (HostAnswer::Silent, true, "host.unreachable", Confidence::Heuristic),
        // No rule of the agent's keeps anybody from it.
        (HostAnswer::Silent, false, "host.unreachable", Confidence::Heuristic),
        (HostAnswer::Refuse, false, "host.unreachable", Confidence::Proof),
        (HostAnswer::Other, true, "host.unexpected", Confidence::Proof),
        (HostAnswer::Via, true, "host.proxied", Confidence::Reported),
    ] {
        let (_, got, _) = run_with((HostAnswer::Ok, answer), |plan| plan.context.privileged = Some(privileged));
        let [finding] = &got.findings[..] else { panic!("{answer:?}: {:#?}", got.findings) };
        assert_eq!((finding.code.0, finding.severity, finding.confidence), (code, Severity::Warning, confidence));
        assert_eq!((finding.targets.as_slice(), finding.tried), (&["169.254.169.254:80".to_owned()][..], 2));
        assert_eq!(got.verdict.summary, "the endpoint answers directly, with 1 warning");
    }
}

#[test]
fn what_instance_metadata_does_tells_a_rule_from_a_dead_link() {
    for (metadata, part) in [(HostAnswer::Ok, "the way to the host is open"), (HostAnswer::Silent, "is silent too")] {
        let (_, got, _) = run_with((HostAnswer::Silent, metadata), |plan| plan.context.privileged = Some(false));
        let finding = got.findings.iter().find(|finding| finding.code.0 == "host.root_needed").unwrap();
        assert!(finding.summary.contains(part), "{}", finding.summary);
    }
}

#[test]
fn it_is_asked_directly_whatever_the_routes() {
    let (record, got, log) = run(HostAnswer::Ok, |plan| plan.routes = vec![Route::Proxy]);
    assert_eq!(got.verdict.status, Status::Clear, "{:#?}", got.findings);
    assert_eq!(got.cells.iter().map(|cell| cell.route).collect::<Vec<_>>(), [Route::Proxy]);
    let asked: Vec<_> = record.observations.iter().filter_map(|seen| Some((seen.host_service?, seen.route))).collect();
    let [wire, plugin, metadata] =
        [HostService::WireServer, HostService::HostPlugin, HostService::InstanceMetadata].map(|of| (of, Route::Direct));
    assert_eq!(asked, [wire, wire, plugin, plugin, metadata, metadata]);
    // A record can go into a ticket, so nothing of the machine is asked for.
    let said = serde_json::to_string(&record.observations).unwrap();
    assert!(said.contains("apiVersions") && !said.contains("westeurope"), "{said}");

    let mut paths: Vec<&str> = Vec::new();
    for event in &log {
        match event {
            Event::Host { path, .. } => paths.push(path),
            Event::Tunnel { authority, .. } => assert_eq!(authority, &format!("{NAME}:443")),
            _ => {}
        }
    }
    paths.sort_unstable();
    assert_eq!(paths, ["/", "/", "/health", "/health", "/metadata/versions", "/metadata/versions"]);
}

#[test]
fn a_run_that_ends_first_says_so() {
    let (record, got, _) = run(HostAnswer::Ok, |plan| plan.budgets.deadline = Duration::ZERO);
    assert_eq!(got.verdict.status, Status::Inconclusive);
    let all: Vec<_> = record.not_run.iter().map(|not_run| (not_run.subject.as_str(), not_run.route)).collect();
    let begun = |subject: &str| record.observations.iter().any(|seen| &*seen.subject == subject);
    for subject in ["168.63.129.16:80", "168.63.129.16:32526", "169.254.169.254:80"] {
        assert!(all.contains(&(subject, None)) || begun(subject), "{subject}: {all:?}");
    }
    assert!(got.findings.iter().all(|finding| finding.code.0 == "meta.deadline"), "{:#?}", got.findings);
}

#[test]
fn who_ran_it_is_recorded() {
    let (record, ..) = run(HostAnswer::Ok, |plan| plan.context.privileged = None);
    assert_eq!(record.context.privileged, Some(support::is_root()));
}

#[test]
fn what_the_machine_is_can_be_asked_and_nobody_else_is_believed() {
    let fetch = |answer: HostAnswer| {
        let mut spec = LabSpec::default();
        spec.host.metadata.answer = answer;
        let lab = Lab::start(&spec).unwrap();
        let (at, budget) = (lab.network().metadata, Duration::from_secs(1));
        probe::runtime().unwrap().block_on(metadata::fetch(at, budget))
    };
    let instance: serde_json::Value = serde_json::from_slice(&fetch(HostAnswer::Ok).unwrap()).unwrap();
    assert_eq!(instance["compute"]["location"], "westeurope");
    assert_eq!(instance["compute"]["storageProfile"]["dataDisks"][0]["lun"], "0");
    assert!(matches!(fetch(HostAnswer::Silent), Err(MetadataError::Silent { .. })));
    assert!(matches!(fetch(HostAnswer::Refuse), Err(MetadataError::Failed { .. })));
    assert!(matches!(fetch(HostAnswer::Other), Err(MetadataError::Stranger { by, .. }) if by.contains("text/html")));
    assert!(matches!(fetch(HostAnswer::Via), Err(MetadataError::Proxied { mark, .. }) if mark.starts_with("Via: ")));
}

#[test]
fn the_command_probes_it_where_it_is_told_to() {
    let lab = Lab::start(&LabSpec::default()).unwrap();
    let endpoint = lab.network().host_endpoint;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    let nothing = tempfile::tempdir().unwrap();
    let check = |options: &[&str]| {
        let mut command = support::snapreach();
        command.args(["check", &target, "--no-proxy", "--attempts", "1", "--format", "json"]).args(options);
        // Whatever machine runs the tests: of this one nothing is known.
        command.arg("--root").arg(nothing.path());
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        support::report(&output)
    };
    let services = |report: &serde_json::Value| -> Vec<(String, String)> {
        let seen = report["observations"].as_array().unwrap().iter();
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        seen.filter_map(|seen| Some((text(&seen["host_service"])?, text(&seen["subject"])?))).collect()
    };
    assert_eq!(services(&check(&[])), []);
    assert_eq!(services(&check(&["--no-host"])), []);
    let report = check(&["--host-endpoint", &endpoint.to_string()]);
    let plugin = format!("{}:32526", endpoint.ip());
    let expected = [("wire_server".to_owned(), endpoint.to_string()), ("host_plugin".to_owned(), plugin.clone())];
    assert_eq!(services(&report), expected);
    let imds = lab.network().metadata.to_string();
    let with_metadata = check(&["--host-endpoint", &endpoint.to_string(), "--imds", &imds]);
    assert_eq!(services(&with_metadata)[2..], [("instance_metadata".to_owned(), imds.clone())]);
    assert!(with_metadata["findings"].as_array().unwrap().iter().all(|f| f["targets"] != serde_json::json!([imds])));
    // The lab's plugin is elsewhere: whatever is found there, the wire server itself is fine.
    for finding in report["findings"].as_array().unwrap() {
        assert_eq!(finding["targets"], serde_json::json!([plugin]), "{finding:#}");
    }
}
