//! Exchanges with an origin of snapreach's own: each passes directly and through a proxy that does what it should, and
//! each fault of a proxy gives exactly its code.

use std::time::Duration;

use snapreach::{
    exchange::Exchange,
    lab::{Event, Lab, LabSpec},
    model::{Assessment, Confidence, Evidence, ExchangeEvidence, Hop, Record, Route, Severity, Status, Target},
    plan::{Dns, NameServer, Plan, SystemResolver, Trust},
    probe,
};

use crate::{programs::SQUID, real_proxies::start, support::measure};

const ORIGIN: &str = "tcp://origin.snapreach.test:7";

const ALL: [Exchange; 5] = [
    Exchange::Integrity { bytes: 300_000 },
    Exchange::HalfCloseByClient,
    Exchange::HalfCloseByOrigin,
    Exchange::EarlyData,
    Exchange::Idle { ms: 300 },
];

/// A lab with this proxy and with these faults.
fn lab(proxy: &str, faults: &[&str]) -> Lab {
    let mut spec: LabSpec = toml::from_str(proxy).unwrap();
    spec.faults = faults.iter().map(|fault| toml::from_str(fault).unwrap()).collect();
    Lab::start(&spec).unwrap()
}

/// A lab whose tunnels have this fault.
fn faulty(fault: &str) -> Lab {
    lab("", &[&format!("at = 'tunnel'\n{fault}")])
}

fn plan(lab: &Lab, routes: &[Route], exchanges: &[Exchange]) -> Plan {
    let network = lab.network();
    let mut plan = Plan {
        targets: Target::parse(ORIGIN, &[]).unwrap(),
        exchanges: exchanges.to_vec(),
        routes: routes.to_vec(),
        proxy: network.proxy.clone().filter(|_| routes.contains(&Route::Proxy)),
        dns: Dns { system: SystemResolver::Stub(network.dns), server: NameServer::Off, ..Dns::default() },
        trust: Trust { lab: network.roots.clone(), ..Trust::default() },
        dial: network.dial.clone(),
        controls: true,
        ..Plan::default()
    };
    plan.budgets.attempts = 1;
    plan.context.routes = routes.to_vec();
    plan.context.consumer = "none".into();
    plan
}

fn through(fault: &str, exchanges: &[Exchange]) -> (Record, Assessment) {
    let lab = faulty(fault);
    measure(plan(&lab, &[Route::Proxy], exchanges))
}

fn evidence(record: &Record) -> Vec<&ExchangeEvidence> {
    let steps = record.observations.iter().filter(|o| o.control.is_none()).flat_map(|o| &o.steps);
    steps
        .filter_map(|step| match &step.evidence {
            Evidence::Request(request) => request.exchange.as_deref(),
            _ => None,
        })
        .collect()
}

/// The one finding there is.
fn only(record: &Record, assessment: &Assessment, code: &str, confidence: Confidence) -> String {
    let [finding] = &assessment.findings[..] else {
        panic!("one finding expected, {code}: {:#?}\n{record:#?}", assessment.findings)
    };
    assert_eq!(
        (finding.code.0, finding.hop, finding.route, finding.confidence),
        (code, Hop::ClientToOrigin, Some(Route::Proxy), confidence),
        "{finding:#?}\n{record:#?}"
    );
    let expected = if code == "tunnel.corrupted" { Status::Blocked } else { Status::Degraded };
    assert_eq!(assessment.verdict.status, expected);
    finding.summary.clone()
}

#[test]
fn every_exchange_passes_directly_and_through_a_healthy_proxy() {
    for spec in ["", "[proxy]\ntls = true", "[proxy]\nrequires = \"svc:pw\""] {
        let lab = lab(spec, &[]);
        let mut plan = plan(&lab, &[Route::Direct, Route::Proxy], &ALL);
        plan.budgets.attempts = 2;
        let (record, assessment) = measure(plan);
        let errors: Vec<_> = assessment.findings.iter().filter(|f| f.code.0 != "config.proxy_needs_auth").collect();
        assert!(errors.is_empty(), "{spec}: {errors:#?}\n{record:#?}");
        let evidence = evidence(&record);
        assert_eq!(evidence.len(), ALL.len() * 2 * 2, "{spec}");
        assert!(evidence.iter().all(|e| e.origin_proved), "{spec}: {evidence:#?}");
        for e in &evidence {
            match e.exchange {
                Exchange::Integrity { bytes } => assert_eq!(e.received, Some(bytes)),
                Exchange::Idle { ms } => assert!(e.idle_us.is_some_and(|idle| idle >= ms * 1000)),
                Exchange::EarlyData => assert_eq!(e.received, Some(512)),
                Exchange::HalfCloseByClient | Exchange::HalfCloseByOrigin => assert!(e.half_closed),
            }
        }
        // Both of our own sides say that the bytes crossed the proxy.
        let log = lab.log();
        let tunnels = log.iter().filter(|event| matches!(event, Event::Tunnel { authority, up, down } if authority == "origin.snapreach.test:7" && *up > 20 && *down > 10));
        // The half-close by the origin takes a second one.
        assert_eq!(tunnels.count(), (ALL.len() + 1) * 2, "{log:#?}");
        let by_proxy = log
            .iter()
            .filter(|event| matches!(event, Event::Connection { address, by_proxy: true, .. } if address.port() == 7));
        assert_eq!(by_proxy.count(), (ALL.len() + 1) * 2);
    }
}

#[test]
fn changed_bytes_are_found_where_they_are() {
    // Into the pattern, which comes behind the answer `snapreach/1 received 300000`.
    for (at, stage) in [(5_000, "pattern"), (299_999, "pattern"), (14, "answer"), (0, "answer")] {
        let spec = format!("stream = 'corrupt'\nwhen.after_bytes = {at}");
        let (record, assessment) = through(&spec, &ALL[..1]);
        let summary = only(&record, &assessment, "tunnel.corrupted", Confidence::Proof);
        assert_eq!(summary, "Bytes change inside the tunnel to origin.snapreach.test:7");
        let evidence = evidence(&record)[0];
        assert_eq!(evidence.came_differs_at, Some(at), "{stage}: {evidence:#?}");
        let (came, expected) = (evidence.came.as_ref().unwrap(), evidence.expected.as_ref().unwrap());
        assert_eq!(came.to_bytes()[0], !expected.to_bytes()[0], "{evidence:#?}");
    }
    for at in [0, 3, 20_000] {
        let spec = format!("stream = {{ inject = 'foreign' }}\nwhen.after_bytes = {at}");
        let (record, assessment) = through(&spec, &ALL[..1]);
        only(&record, &assessment, "tunnel.corrupted", Confidence::Proof);
        let evidence = evidence(&record)[0];
        assert_eq!(evidence.came_differs_at, Some(at));
        assert!(evidence.came.as_ref().unwrap().text.starts_with("foreign"), "{evidence:#?}");
    }
}

#[test]
fn changed_bytes_are_found_by_the_origin_too() {
    // The request `snapreach/1 verify 300000 300000 SEED` comes first.
    for (at, received) in [(20_000, true), (299_999, true), (20, false)] {
        let fault = format!("stream = 'corrupt'\ndirection = 'to_server'\nwhen.after_bytes = {at}");
        let (record, assessment) = through(&fault, &ALL[..1]);
        only(&record, &assessment, "tunnel.corrupted", Confidence::Proof);
        let evidence = evidence(&record)[0];
        assert_eq!(evidence.sent_differs_at, received.then_some(at), "{evidence:#?}");
        assert_eq!(evidence.received.is_some(), received);
    }
}

#[test]
fn numbers_beyond_the_limits_are_refused_before_anything_is_sent() {
    let lab = lab("", &[]);
    let plan = plan(&lab, &[Route::Direct], &[Exchange::Idle { ms: u64::MAX }]);
    let progress = probe::Progress::default();
    let error = probe::runtime().unwrap().block_on(probe::run(plan, &progress, std::future::pending())).unwrap_err();
    assert!(error.to_string().contains("idle: ms is a number from 1 to 14400000"), "{error}");
    assert_eq!(lab.log(), []);
}

#[test]
fn a_foreign_answer_is_the_tunnels_only_where_the_origin_is_known() {
    // The first four bytes are foreign, and the answer `ready` has nothing behind it that would prove the origin.
    let fault = "stream = 'corrupt'\nwhen.after_bytes = 2";
    let idle = [Exchange::Idle { ms: 100 }];
    let (record, assessment) = through(fault, &idle);
    let codes: Vec<_> = assessment.findings.iter().map(|f| f.code.0).collect();
    assert_eq!(codes, ["http.wrong_speaker"], "{record:#?}");
    let lab = faulty(fault);
    let (record, assessment) = measure(plan(&lab, &[Route::Direct, Route::Proxy], &idle));
    let finding = assessment.findings.iter().find(|f| f.severity == Severity::Error).unwrap();
    assert_eq!((finding.code.0, finding.confidence), ("tunnel.corrupted", Confidence::Differential), "{record:#?}");
}

#[test]
fn whoever_answers_in_place_of_the_origin_is_not_taken_for_it() {
    let page = "tunnel = { bytes = \"HTTP/1.1 500 x\\r\\nX-Squid-Error: ERR_CANNOT_FORWARD 0\\r\\n\\r\\n\" }";
    let (record, assessment) = through(page, &ALL[..1]);
    let codes: Vec<_> = assessment.findings.iter().map(|f| (f.code.0, f.hop)).collect();
    assert_eq!(codes[0], ("proxy.gateway_error", Hop::ProxyToOrigin), "{record:#?}");
    // Storage on port 80 answers with a 400, which is no page of a proxy.
    let lab = lab("", &[]);
    let mut plan = plan(&lab, &[Route::Direct], &ALL[..1]);
    plan.targets = Target::parse("tcp://acct.blob.core.windows.net:80", &[]).unwrap();
    plan.budgets.layer = Duration::from_secs(2);
    let (record, assessment) = measure(plan);
    assert_eq!(assessment.verdict.status, Status::Blocked, "{record:#?}");
    assert!(evidence(&record).iter().all(|e| !e.origin_proved));
}

#[test]
fn an_idle_tunnel_is_cut_and_the_time_is_told() {
    let (record, assessment) = through("tunnel = { idle = '1s' }", &[Exchange::Idle { ms: 8_000 }]);
    let summary = only(&record, &assessment, "tunnel.idle_cut", Confidence::Proof);
    let idle = evidence(&record)[0].idle_us.unwrap();
    assert!((900_000..8_000_000).contains(&idle), "{idle}");
    assert!(
        summary
            .contains(&format!("does not survive silence; after {:.1} s", Duration::from_micros(idle).as_secs_f64())),
        "{summary}"
    );
    // Shorter than the limit, nothing is cut; and the other exchanges pass.
    let (record, assessment) = through("tunnel = { idle = '5s' }", &ALL);
    assert_eq!(assessment.verdict.status, Status::Clear, "{record:#?}");
}

#[test]
fn a_proxy_that_ends_both_ways_breaks_half_close_from_either_side() {
    for exchange in [Exchange::HalfCloseByClient, Exchange::HalfCloseByOrigin] {
        let (record, assessment) = through("tunnel = 'half_close_kills'", &[exchange]);
        let summary = only(&record, &assessment, "tunnel.half_close_broken", Confidence::Proof);
        let who =
            if exchange == Exchange::HalfCloseByClient { "this side half-closes" } else { "the endpoint half-close" };
        assert!(summary.contains(who), "{summary}");
    }
    // Nothing else suffers.
    let others: Vec<_> =
        ALL.into_iter().filter(|e| !matches!(e, Exchange::HalfCloseByClient | Exchange::HalfCloseByOrigin)).collect();
    let (record, assessment) = through("tunnel = 'half_close_kills'", &others);
    assert_eq!(assessment.verdict.status, Status::Clear, "{record:#?}");
}

#[test]
fn bytes_sent_with_the_connect_are_lost() {
    let spec = "tunnel = 'early_lost'";
    let lab = faulty(spec);
    let mut with = plan(&lab, &[Route::Proxy], &[Exchange::EarlyData]);
    with.budgets.layer = Duration::from_secs(3);
    let (record, assessment) = measure(with);
    only(&record, &assessment, "tunnel.early_data_lost", Confidence::Proof);
    let others: Vec<_> = ALL.into_iter().filter(|e| *e != Exchange::EarlyData).collect();
    let (record, assessment) = measure(plan(&lab, &[Route::Proxy], &others));
    assert_eq!(assessment.verdict.status, Status::Clear, "{record:#?}");
}

#[test]
fn a_tunnel_that_breaks_in_the_middle_is_told_as_such() {
    for (fault, code) in [("cut", "tunnel.closed"), ("reset", "tunnel.reset"), ("stall", "tunnel.silent")] {
        let lab = faulty(&format!("stream = '{fault}'\nwhen.after_bytes = 1000"));
        let mut plan = plan(&lab, &[Route::Proxy], &ALL[..1]);
        plan.budgets.layer = Duration::from_secs(2);
        let (record, assessment) = measure(plan);
        let codes: Vec<_> = assessment.findings.iter().map(|f| f.code.0).collect();
        assert_eq!(codes, [code], "{record:#?}");
        assert!(assessment.findings[0].summary.contains("in the middle of an exchange"), "{:#?}", assessment.findings);
    }
}

#[test]
fn tls_proves_changed_bytes_without_an_origin_of_our_own() {
    // Behind the ServerHello everything is encrypted (RFC 8446 section 2); the certificate makes it long enough.
    let lab = faulty("stream = 'corrupt'\nwhen.after_bytes = 900");
    let mut plan = plan(&lab, &[Route::Proxy], &[]);
    plan.targets = Target::parse("https://acct.blob.core.windows.net", &[]).unwrap();
    let (record, assessment) = measure(plan);
    only(&record, &assessment, "tunnel.corrupted", Confidence::Proof);
}

/// What each exchange comes to through a real proxy: its name, the code found, if any.
fn through_real(port: u16) -> Vec<(&'static str, Vec<&'static str>)> {
    let lab = lab("", &[]);
    // The proxy must find it without the lab's names.
    let origin = lab.network().addresses["origin.snapreach.test:7"].to_string();
    through_real_to(&lab, port, &origin)
}

fn through_real_to(lab: &Lab, port: u16, origin: &str) -> Vec<(&'static str, Vec<&'static str>)> {
    let all = [
        ("integrity", Exchange::Integrity { bytes: 3_000_000 }),
        ("half-close by client", Exchange::HalfCloseByClient),
        ("half-close by origin", Exchange::HalfCloseByOrigin),
        ("early data", Exchange::EarlyData),
        ("idle", Exchange::Idle { ms: 6_000 }),
    ];
    let seen = all.map(|(name, exchange)| {
        let mut plan = Plan {
            targets: Target::parse(&format!("tcp://{origin}"), &[]).unwrap(),
            exchanges: vec![exchange],
            routes: vec![Route::Proxy],
            proxy: Some(format!("http://127.0.0.1:{port}").parse().unwrap()),
            ..Plan::default()
        };
        plan.budgets.attempts = 1;
        plan.context.routes = vec![Route::Proxy];
        let (_, assessment) = measure(plan);
        (name, assessment.findings.iter().map(|finding| finding.code.0).collect())
    });
    let log = lab.log();
    assert!(log.iter().any(|event| matches!(event, Event::Connection { address, .. } if address.port() == 7)));
    seen.to_vec()
}

/// Of most forward proxies: they end a tunnel when one side half-closes it, and when nothing passes for a while.
const USUAL: [(&str, &[&str]); 5] = [
    ("integrity", &[]),
    ("half-close by client", &["tunnel.half_close_broken"]),
    ("half-close by origin", &["tunnel.half_close_broken"]),
    ("early data", &[]),
    ("idle", &["tunnel.idle_cut"]),
];

/// Of a load balancer: it passes half-closes on.
const CARRIED: [(&str, &[&str]); 5] = [
    ("integrity", &[]),
    ("half-close by client", &[]),
    ("half-close by origin", &[]),
    ("early data", &[]),
    ("idle", &["tunnel.idle_cut"]),
];

fn expect(seen: &[(&str, Vec<&str>)], expected: &[(&str, &[&str])]) {
    let seen: Vec<(&str, &[&str])> = seen.iter().map(|(name, codes)| (*name, codes.as_slice())).collect();
    assert_eq!(seen, expected);
}

#[test]
fn squid_keeps_early_data_and_cuts_half_closed_and_idle_tunnels() {
    let configuration = format!(
        "{SQUID}dns_nameservers 127.0.43.53\nread_timeout 2 seconds\nhttp_access allow localhost\nhttp_access deny all\n"
    );
    if let Some(squid) = start("squid", &["-N", "-f", "DIR/conf"], &configuration) {
        expect(&through_real(squid.port), &USUAL);
    }
}

#[test]
fn tinyproxy_keeps_early_data_and_cuts_half_closed_and_idle_tunnels() {
    let configuration =
        "Port PORT\nListen 127.0.0.1\nTimeout 2\nMaxClients 20\nLogLevel Error\nLogFile \"DIR/log\"\nAllow 127.0.0.1\n";
    if let Some(tinyproxy) = start("tinyproxy", &["-d", "-c", "DIR/conf"], configuration) {
        expect(&through_real(tinyproxy.port), &USUAL);
    }
}

/// In front of a proxy that does what it should.
#[test]
fn haproxy_passes_half_closes_on_and_cuts_idle_tunnels() {
    for mode in ["http", "tcp"] {
        let lab = lab("", &[]);
        let behind = lab.network().addresses["proxy"];
        let configuration = format!(
            "global\n maxconn 100\ndefaults\n timeout connect 5s\n timeout client 2s\n timeout server 2s\n\
             listen f\n mode {mode}\n bind 127.0.0.1:PORT\n server s {behind}\n"
        );
        let Some(haproxy) = start("haproxy", &["-db", "-f", "DIR/conf"], &configuration) else { return };
        let seen = through_real_to(&lab, haproxy.port, "origin.snapreach.test:7");
        expect(&seen, &CARRIED);
    }
}
