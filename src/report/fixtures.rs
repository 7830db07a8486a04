//! Records and assessments as a run leaves them, for tests of the reporters.

use std::sync::Arc;

use crate::{
    classify::codes,
    http::{Header, Reply},
    model::{
        Address, Alias, Assessment, Cell, CellStatus, Certificate, ChosenMethod, Code, Confidence, ConnectEvidence,
        ConsumerProxy, Context, Discovery, DiscoverySource, DnsAnswer, Evidence, Excerpt, Failure, FailureKind,
        Finding, HandshakeEvidence, Hop, IcmpError, IcmpFamily, InstalledExtension, Instance, InstanceDisk, LastDisk,
        LastRun, Layer, Leg, NotRun, Observation, Party, Prediction, ProxySource, Record, Remedy, RequestEvidence,
        ResolveEvidence, ResolverView, Route, Severity, Status, Step, Target, TcpInfo, TcpState, ToolInfo, Transport,
        TrustAnchor, TunnelEvidence, Verdict, Verification,
    },
};

/// A record with its judgement.
pub(super) struct Case {
    pub(super) record: Record,
    pub(super) assessment: Assessment,
}

pub(super) const HOST: &str = "acct.blob.core.windows.net";

/// What a hostile peer puts wherever text goes: markup, a terminal's escape sequences, the end of a CDATA section, a
/// reversed line, a table's separator, a fence, a quote.
pub(super) const HOSTILE: &str =
    "<script>alert(1)</script>\x1b[2J\x1b]0;owned\x07 ]]> \u{202e}gnp| ``` \"q\" 'a' \\ \u{9b}31m & {label}\r\nX: y";

/// Everything works, directly.
pub(super) fn clear() -> Case {
    let record = Record {
        observations: vec![
            lookup(1, Route::Direct),
            storage_walk(2, Route::Direct, 1),
            storage_walk(3, Route::Direct, 2),
        ],
        ..record(&[443], &[Route::Direct])
    };
    let mut passed = cell(0, Route::Direct, CellStatus::Ok, &[2, 3]);
    (passed.passed, passed.tried) = (2, 2);
    let assessment = Assessment {
        verdict: verdict(Status::Clear, "All targets answer as storage", 0),
        predictions: vec![],
        findings: vec![],
        cells: vec![passed],
    };
    Case { record, assessment }
}

/// As [`clear`], on a machine that discovery read, with hostile text in what it found.
pub(super) fn discovered() -> Case {
    let mut case = clear();
    let disk =
        |name: &str, lun| InstanceDisk { name: name.into(), lun, managed: Some(true), ..InstanceDisk::default() };
    let log = InstanceDisk { write_accelerated: true, ..disk("log0", Some(0)) };
    let old = InstanceDisk {
        managed: Some(false),
        uri: Some("https://acct.blob.core.windows.net/vhds/old.vhd".into()),
        ..disk("old", Some(1))
    };
    let failed = LastDisk { taken: Some(false), ..LastDisk::default() };
    let consumer = |consumer: &str, proxy: Option<&str>, source: Option<&str>, note: Option<&str>| ConsumerProxy {
        consumer: consumer.into(),
        proxy: proxy.map(Into::into),
        source: source.map(Into::into),
        note: note.map(Into::into),
    };
    let source = |origin: &str, gave: Option<&str>, problem: Option<&str>| DiscoverySource {
        origin: origin.into(),
        gave: gave.map(Into::into),
        problem: problem.map(Into::into),
    };
    case.record.context.discovery = Some(Box::new(Discovery {
        sources: vec![
            source("instance metadata at 169.254.169.254:80", Some("vm-app1 in westeurope, 3 disks"), None),
            source("/etc/waagent.conf", Some("HttpProxy.Host=10.0.0.5"), Some("and more of it is unusable")),
            source("/etc/environment", None, None),
            source("/proc/7/environ", None, Some("reading it needs root")),
        ],
        consumers: vec![
            consumer("waagent", Some("http://10.0.0.5:3128"), Some("/etc/waagent.conf"), None),
            consumer("vmsnapshot-linux", None, Some("/etc/waagent.conf"), Some("it ignores both keys")),
            consumer("shell", None, None, None),
        ],
        instance: Some(Instance {
            name: format!("vm-app1{HOSTILE}"),
            resource_group: "rg-app".into(),
            region: "westeurope".into(),
            cloud: "public".into(),
            os: "Linux".into(),
            disks: vec![disk("vm-app1_OsDisk", None), log, old],
            addresses: vec![[10, 1, 0, 4].into()],
            subnets: vec!["10.1.0.0/24".into()],
        }),
        extension: Some(InstalledExtension {
            path: "/var/lib/waagent/x".into(),
            version: "1.0.9219.0".into(),
            consumer: "vmsnapshot-linux".into(),
            because: "its code tells".into(),
        }),
        method: Some(ChosenMethod { name: "onlyHost".into(), because: "disk log0 has write acceleration".into() }),
        last_run: Some(LastRun {
            at: Some("2026-01-05T03:10:44Z".into()),
            code: Some(76),
            error_code: Some(761),
            disks: vec![failed, LastDisk::default()],
            pre_snapshot: Some("200".into()),
            ..LastRun::default()
        }),
        ..Discovery::default()
    }));
    case
}

/// Direct: a port filter. Through the proxy: interception, and a refusal by a proxy that sends hostile text.
pub(super) fn blocked() -> Case {
    let mut record = record(&[80, 443, 8443], &[Route::Direct, Route::Proxy]);
    record.context.proxy = Some("http://10.0.0.5:3128".into());
    record.context.proxy_sources = vec![ProxySource {
        origin: "/etc/waagent.conf".into(),
        proxy: Some("http://10.0.0.5:3128".into()),
        problem: None,
    }];
    record.context.notes = vec!["the system's trust store has 2 certificates that do not decode".into()];
    record.observations =
        vec![lookup(1, Route::Direct), storage_walk(2, Route::Direct, 1), silent_connect(3), intercepted(4), denied(5)];
    let mut intermittent = cell(0, Route::Proxy, CellStatus::Warning(codes::TCP_INTERMITTENT), &[2]);
    (intermittent.passed, intermittent.tried) = (2, 3);
    let cells = vec![
        cell(0, Route::Direct, CellStatus::Ok, &[2]),
        intermittent,
        cell(1, Route::Direct, CellStatus::Error(codes::TCP_PORT_FILTERED), &[3]),
        cell(1, Route::Proxy, CellStatus::Error(codes::TLS_INTERCEPTED), &[4]),
        cell(2, Route::Direct, CellStatus::Error(codes::TCP_PORT_FILTERED), &[3]),
        cell(2, Route::Proxy, CellStatus::Error(codes::PROXY_PORT_DENIED), &[5]),
    ];
    let summary = "2 of 3 endpoints cannot be reached the way the snapshot extension goes";
    let predictions = ["firstHostThenGuest", "onlyGuest"].map(prediction).into();
    let assessment =
        Assessment { verdict: verdict(Status::Blocked, summary, 1), predictions, findings: blocked_findings(), cells };
    Case { record, assessment }
}

fn blocked_findings() -> Vec<Finding> {
    let mut filtered = finding(codes::TCP_PORT_FILTERED, Hop::ClientToOrigin, Severity::Error);
    filtered.targets = [443, 8443].map(|port| format!("{HOST}:{port}")).into();
    (filtered.route, filtered.confidence, filtered.party) =
        (Some(Route::Direct), Confidence::Differential, Party::Path);
    (filtered.failed, filtered.tried) = (6, 6);
    filtered.summary =
        "6 of 6 SYNs stayed unanswered while port 80 of the same address answers: a filter by port, not \
                        a dead host"
            .into();
    filtered.evidence = vec!["20.60.1.2:443: 3 retransmissions, no answer within 10 s".into()];
    filtered.remedies = vec![Remedy {
        title: "Allow TCP 443 and 8443 to Storage.westeurope above the rule that denies them".into(),
        commands: vec![
            "az network nsg rule create --resource-group RG --nsg-name NSG --name AllowStorage --priority 900 \
             --direction Outbound --access Allow --protocol Tcp --destination-address-prefixes Storage.westeurope \
             --destination-port-ranges 443 8443"
                .into(),
        ],
    }];
    filtered.observations = vec![3];

    let mut intercepted = finding(codes::TLS_INTERCEPTED, Hop::ClientToOrigin, Severity::Error);
    intercepted.targets = vec![format!("{HOST}:443")];
    (intercepted.route, intercepted.party) = (Some(Route::Proxy), Party::Path);
    intercepted.summary = "the certificate was not issued by a public authority but by CN=Corp Inspection CA".into();
    intercepted.evidence = vec![format!("issuer: {HOSTILE}")];
    intercepted.remedies = vec![Remedy {
        title: "Exempt the storage endpoints from inspection".into(),
        commands: vec!["acl storage dstdomain .blob.core.windows.net\nssl_bump splice storage".into()],
    }];
    intercepted.observations = vec![4];

    let mut denied = finding(codes::PROXY_PORT_DENIED, Hop::Proxy, Severity::Error);
    denied.targets = vec![format!("{HOST}:8443")];
    (denied.route, denied.confidence, denied.party) = (Some(Route::Proxy), Confidence::Reported, Party::Proxy);
    denied.summary = format!("the proxy refuses CONNECT to this port: 403 {HOSTILE}");
    denied.evidence = vec!["X-Squid-Error: ERR_ACCESS_DENIED 0".into(), HOSTILE.into()];
    denied.observations = vec![5];

    let mut flaky = finding(codes::TCP_INTERMITTENT, Hop::ClientToProxy, Severity::Warning);
    flaky.targets = vec![format!("{HOST}:80")];
    (flaky.route, flaky.confidence, flaky.failed) = (Some(Route::Proxy), Confidence::Heuristic, 1);
    flaky.summary = "1 of 3 connects to the proxy was reset".into();

    let mut conflict = finding(codes::CONFIG_PROXY_CONFLICT, Hop::Local, Severity::Info);
    (conflict.party, conflict.failed, conflict.tried) = (Party::Client, 0, 0);
    conflict.summary = "/etc/environment names another proxy than /etc/waagent.conf".into();
    vec![filtered, intercepted, denied, flaky, conflict]
}

/// 10,000 hosts, one of them filtered.
pub(super) fn many() -> Case {
    let mut record = record(&[], &[Route::Direct]);
    let mut cells = Vec::new();
    for n in 0..10_000_u32 {
        let host = format!("md-{n:05}.blob.core.windows.net");
        record.targets.extend(Target::parse(&host, &[443]).unwrap());
        let bad = n == 7_777;
        let status = if bad { CellStatus::Error(codes::TCP_CONNECT_TIMEOUT) } else { CellStatus::Ok };
        let mut walk = if bad { silent_connect(n + 1) } else { storage_walk(n + 1, Route::Direct, 1) };
        walk.subject = format!("{host}:443").into();
        cells.push(cell(n as usize, Route::Direct, status, &[n + 1]));
        record.observations.push(walk);
    }
    let mut finding = finding(codes::TCP_CONNECT_TIMEOUT, Hop::ClientToOrigin, Severity::Error);
    finding.targets = record.targets.iter().map(Target::authority).collect();
    finding.route = Some(Route::Direct);
    let assessment = Assessment {
        verdict: verdict(Status::Blocked, "1 of 10,000 endpoints cannot be reached", 1),
        predictions: vec![],
        findings: vec![finding],
        cells,
    };
    Case { record, assessment }
}

/// Interrupted before most of it.
pub(super) fn interrupted() -> Case {
    let mut record = record(&[80, 443], &[Route::Direct]);
    record.context.interrupted = true;
    record.context.lab = Some("healthy".into());
    record.observations = vec![lookup(1, Route::Direct), storage_walk(2, Route::Direct, 1)];
    record.not_run = vec![NotRun {
        subject: format!("{HOST}:443"),
        route: Some(Route::Direct),
        reason: "the run was interrupted".into(),
        deadline: true,
    }];
    let mut skipped = cell(1, Route::Direct, CellStatus::NotRun, &[]);
    (skipped.tried, skipped.elapsed_us) = (0, 0);
    let assessment = Assessment {
        verdict: verdict(Status::Inconclusive, "1 of 2 endpoints was not measured", 3),
        predictions: vec![],
        findings: vec![],
        cells: vec![cell(0, Route::Direct, CellStatus::Ok, &[2]), skipped],
    };
    Case { record, assessment }
}

fn record(ports: &[u16], routes: &[Route]) -> Record {
    Record {
        tool: ToolInfo { name: "snapreach".into(), version: "0.0.0".into() },
        started_at: "2026-11-22T02:00:00Z".into(),
        elapsed_ms: 10_250,
        context: Context {
            cloud: "public".into(),
            region: Some("westeurope".into()),
            method: "firstHostThenGuest".into(),
            consumer: "vmsnapshot-linux".into(),
            routes: routes.to_vec(),
            attempts: 3,
            ..Context::default()
        },
        targets: Target::parse(HOST, ports).unwrap(),
        observations: vec![],
        not_run: vec![],
    }
}

fn verdict(status: Status, summary: &str, exit_code: u8) -> Verdict {
    Verdict { status, summary: summary.into(), exit_code }
}

fn prediction(method: &str) -> Prediction {
    Prediction {
        consumer: "vmsnapshot-linux".into(),
        method: method.into(),
        outcome: crate::model::Outcome::Success,
        class: crate::model::Class::None,
        extension_code: Some(1),
        extension_error_code: Some(1),
        extension_name: Some("success".into()),
        portal_error: None,
        observations: vec![1],
        reason: "The wire server answers, so the host takes the snapshot; if it cannot, both disks fail.".into(),
    }
}

fn cell(target: usize, route: Route, status: CellStatus, observations: &[u32]) -> Cell {
    let passed = u32::from(status == CellStatus::Ok);
    Cell { target, route, status, passed, tried: 1, elapsed_us: 12_400, observations: observations.to_vec() }
}

pub(super) fn finding(code: Code, hop: Hop, severity: Severity) -> Finding {
    Finding {
        code,
        hop,
        severity,
        confidence: Confidence::Proof,
        party: Party::Path,
        targets: vec![],
        route: None,
        failed: 3,
        tried: 3,
        summary: "every attempt failed alike".into(),
        evidence: vec![],
        remedies: vec![],
        observations: vec![],
    }
}

// ---- observations

fn observation(id: u32, route: Route, attempt: u16, steps: Vec<Step>) -> Observation {
    let lookup = steps.first().is_some_and(|step| step.layer() == Layer::Resolve);
    let address = if route == Route::Proxy { "10.0.0.5:3128" } else { "20.60.1.2:443" };
    Observation {
        id,
        parent: (!lookup && route == Route::Direct).then_some(1),
        subject: if lookup { HOST.into() } else { format!("{HOST}:443").into() },
        route,
        attempt,
        address: (!lookup).then(|| address.parse().unwrap()),
        control: None,
        host_service: None,
        steps,
    }
}

fn step(leg: Leg, start_us: u64, elapsed_us: u64, evidence: Evidence) -> Step {
    Step { leg, start_us, elapsed_us, evidence, failure: None }
}

fn failed(mut step: Step, kind: FailureKind, errno: Option<i32>, raw: &str) -> Step {
    step.failure = Some(Failure { kind, errno, raw: raw.into() });
    step
}

fn lookup(id: u32, route: Route) -> Observation {
    let evidence = ResolveEvidence {
        view: ResolverView::Server,
        server: Some("168.63.129.16:53".parse().unwrap()),
        addresses: vec![Address { ip: "20.60.1.2".parse().unwrap(), ttl: Some(60) }],
        answers: vec![DnsAnswer {
            question: "A".into(),
            transport: Transport::Udp,
            elapsed_us: 1_900,
            tries: 1,
            rcode: Some(0),
            extended_errors: vec![],
            aliases: vec![Alias { name: HOST.into(), target: "blob.ams.store.core.windows.net".into(), ttl: 60 }],
            addresses: 1,
        }],
        hosts_file: vec![],
    };
    observation(id, route, 1, vec![step(Leg::Origin, 100, 2_000, Evidence::Resolve(Box::new(evidence)))])
}

fn tcp(state: TcpState) -> TcpInfo {
    let up = state == TcpState::Established;
    TcpInfo {
        state,
        rtt_us: if up { 4_100 } else { 0 },
        timeouts: if up { 0 } else { 3 },
        retransmitted: if up { 0 } else { 3 },
        retransmitted_in_flight: 0,
        unacked: u32::from(!up),
        snd_mss: if up { 1_448 } else { 536 },
        bytes_acked: None,
    }
}

fn connect(leg: Leg, peer: &str, up: bool) -> Step {
    let evidence = ConnectEvidence {
        peer: peer.parse().unwrap(),
        dialled: None,
        local: Some("10.0.0.4:50123".parse().unwrap()),
        tcp: Some(tcp(if up { TcpState::Established } else { TcpState::SynSent })),
        icmp: (!up).then(|| IcmpError {
            family: IcmpFamily::V4,
            kind: 11,
            code: 0,
            sender: Some("10.0.0.1".parse().unwrap()),
        }),
        path: vec![],
    };
    step(leg, 2_200, if up { 4_200 } else { 10_000_300 }, Evidence::Connect(evidence))
}

fn handshake(issuer: &str, verification: Verification) -> HandshakeEvidence {
    HandshakeEvidence {
        sni: Some(HOST.into()),
        bytes_sent: 517,
        bytes_read: 4_210,
        version: Some("TLSv1.3".into()),
        cipher_suite: Some("TLS_AES_256_GCM_SHA384".into()),
        chain: vec![Arc::new(Certificate {
            subject: "CN=*.blob.core.windows.net,O=Microsoft Corporation".into(),
            issuer: issuer.into(),
            issuer_organization: None,
            names: vec!["*.blob.core.windows.net".into(), HOSTILE.into()],
            not_before: 1_790_000_000,
            not_after: i64::MAX,
            sha256: "ab".repeat(32),
            sha1: "CD".repeat(20),
            self_issued: false,
        })],
        verification: Some(verification),
        anchor: (verification == Verification::Trusted).then_some(TrustAnchor::System),
        ..HandshakeEvidence::default()
    }
}

fn reply(status: u16, reason: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    Reply {
        minor_version: 1,
        status,
        reason: reason.into(),
        headers: headers.iter().map(|&(name, value)| Header { name: name.into(), value: value.into() }).collect(),
        head_bytes: 300,
        head_truncated: false,
        body: Excerpt::whole(body),
    }
}

fn storage_walk(id: u32, route: Route, attempt: u16) -> Observation {
    let headers = [
        ("Server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0"),
        ("x-ms-request-id", "3b1c7c5e-401e-0012-3456-789abc000000"),
        ("x-ms-error-code", "InvalidQueryParameterValue"),
        ("Date", "Sun, 22 Nov 2026 02:00:00 GMT"),
        ("X-Unknown", "not shown at the first level"),
    ];
    let body = b"<?xml version=\"1.0\"?>\r\n<Error><Code>InvalidQueryParameterValue</Code></Error>";
    let request = RequestEvidence {
        method: "GET".into(),
        path: "/".into(),
        client_request_id: "0f8fad5b-d9cb-469f-a165-70867728950e".into(),
        request_sent: true,
        bytes_read: 412,
        first_byte_us: Some(3_900),
        reply: Some(reply(400, "Value for one of the query parameters is invalid.", &headers, body)),
        ..RequestEvidence::default()
    };
    let tls = handshake("CN=Microsoft Azure RSA TLS Issuing CA 04,O=Microsoft Corporation", Verification::Trusted);
    let steps = vec![
        connect(Leg::Origin, "20.60.1.2:443", true),
        step(Leg::Origin, 6_400, 4_300, Evidence::Handshake(Box::new(tls))),
        step(Leg::Origin, 10_700, 3_950 + u64::from(attempt), Evidence::Request(Box::new(request))),
    ];
    observation(id, route, attempt, steps)
}

fn silent_connect(id: u32) -> Observation {
    let connect = connect(Leg::Origin, "20.60.1.2:443", false);
    observation(id, Route::Direct, 1, vec![failed(connect, FailureKind::TimedOut, None, "no answer within 10 s")])
}

fn intercepted(id: u32) -> Observation {
    let open = TunnelEvidence {
        authority: format!("{HOST}:443"),
        request_sent: true,
        bytes_read: 39,
        first_byte_us: Some(800),
        reply: Some(reply(200, "Connection established", &[], b"")),
        ..TunnelEvidence::default()
    };
    let tls = handshake(&format!("CN=Corp Inspection CA {HOSTILE}"), Verification::UnknownIssuer);
    let steps = vec![
        connect(Leg::Proxy, "10.0.0.5:3128", true),
        step(Leg::Origin, 6_500, 900, Evidence::Tunnel(Box::new(open))),
        step(Leg::Origin, 7_400, 5_000, Evidence::Handshake(Box::new(tls))),
    ];
    observation(id, Route::Proxy, 1, steps)
}

fn denied(id: u32) -> Observation {
    let headers = [
        ("Server", "squid/6.6"),
        ("X-Squid-Error", "ERR_ACCESS_DENIED 0"),
        ("Via", HOSTILE),
        ("X-Cache", "MISS from gw"),
    ];
    let refusal = TunnelEvidence {
        authority: format!("{HOST}:8443"),
        credentials_sent: true,
        request_sent: true,
        bytes_read: 3_812,
        first_byte_us: Some(700),
        reply: Some(reply(403, HOSTILE, &headers, format!("\r\n<html>{HOSTILE}</html>").as_bytes())),
        ..TunnelEvidence::default()
    };
    let tunnel = step(Leg::Proxy, 6_500, 900, Evidence::Tunnel(Box::new(refusal)));
    let steps = vec![
        connect(Leg::Proxy, "10.0.0.5:3128", true),
        failed(tunnel, FailureKind::Status, None, &format!("the proxy answered 403 {HOSTILE}")),
    ];
    Observation { subject: format!("{HOST}:8443").into(), ..observation(id, Route::Proxy, 1, steps) }
}
