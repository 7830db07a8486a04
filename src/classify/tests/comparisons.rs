//! What only several observations together tell, and the verdict over them.

use proptest::prelude::*;

use crate::{
    classify::{
        assess, codes as c,
        testing::{NAME, Walk, chain, record, reply, storage_reply, tcp_info, trusted},
    },
    exchange::Exchange,
    model::{
        Assessment, CellStatus, Code, Confidence, Control, Evidence, Failure, FailureKind as K, Finding,
        HandshakeEvidence, Hop, HostsOverride, Leg, MisreadLine, NotRun, ProxyCapture, ResolverView, Route, Severity,
        Status, TcpState, TrustAnchor, Verification,
    },
};

const A443: &str = "acct.blob.core.windows.net:443";
const A8443: &str = "acct.blob.core.windows.net:8443";
const B443: &str = "other.blob.core.windows.net:443";
const IP: &str = "20.60.1.1";

fn find(assessment: &Assessment, code: Code) -> &Finding {
    let found = assessment.findings.iter().find(|finding| finding.code == code);
    found.unwrap_or_else(|| panic!("no {code} among {:?}", assessment.findings))
}

fn has(assessment: &Assessment, code: Code) -> bool {
    assessment.findings.iter().any(|finding| finding.code == code)
}

fn good(subject: &str) -> Walk {
    Walk::direct(subject, IP).reaches_storage()
}

fn silent(subject: &str, ip: &str) -> Walk {
    Walk::direct(subject, ip).connect_fails(K::TimedOut)
}

fn denied(subject: &str) -> Walk {
    Walk::proxied(subject).connected().tunnel_refused(reply("HTTP/1.1 403 Forbidden\r\n\r\n"))
}

const OWN: &str = "tcp://origin.example:7";

fn exchanged(exchange: Exchange, kind: Option<K>) -> Walk {
    Walk::proxied("origin.example:7").connected().tunnelled().exchanged(exchange, kind, |e| {
        e.half_closed = exchange == Exchange::HalfCloseByOrigin;
    })
}

#[test]
fn what_arrives_after_the_origin_half_closed_only_the_origin_knows() {
    let late = || exchanged(Exchange::HalfCloseByOrigin, None);
    let recall = |kind| exchanged(Exchange::HalfCloseByOrigin, kind).control(Control::Recall);
    assert_eq!(assess(&record(&[OWN], [late(), recall(None)])).verdict.status, Status::Clear);
    let got = assess(&record(&[OWN], [late(), recall(Some(K::Lost))]));
    assert_eq!(find(&got, c::TUNNEL_HALF_CLOSE_BROKEN).confidence, Confidence::Proof);
    // Without the origin's word nothing is known, and that is no pass.
    for walks in [vec![late()], vec![late(), recall(Some(K::TimedOut))]] {
        let got = assess(&record(&[OWN], walks));
        assert_eq!((got.verdict.status, got.findings[0].code), (Status::Inconclusive, c::META_NOT_RUN), "{got:?}");
    }
}

#[test]
fn early_data_that_silences_a_tunnel_is_lost_where_the_tunnel_works_without() {
    let silent = || {
        let walk = Walk::proxied("origin.example:7").connected().tunnelled();
        walk.exchanged(Exchange::EarlyData, Some(K::TimedOut), |e| e.origin_proved = false)
    };
    let got = assess(&record(&[OWN], [silent(), exchanged(Exchange::Integrity { bytes: 9 }, None)]));
    let finding = find(&got, c::TUNNEL_EARLY_DATA_LOST);
    assert_eq!((finding.severity, finding.confidence), (Severity::Warning, Confidence::Differential));
    assert_eq!(got.verdict.status, Status::Degraded, "{got:?}");
    assert!(has(&assess(&record(&[OWN], [silent()])), c::TUNNEL_SILENT));
}

#[test]
fn different_exchanges_are_no_attempts_at_one_thing() {
    let whole = Exchange::Integrity { bytes: 9 };
    let got = assess(&record(&[OWN], [exchanged(Exchange::EarlyData, None), exchanged(whole, Some(K::Differs))]));
    let finding = find(&got, c::TUNNEL_CORRUPTED);
    assert_eq!((finding.severity, finding.failed, finding.tried), (Severity::Error, 1, 1));
    assert_eq!(got.verdict.status, Status::Blocked);
    let got = assess(&record(&[OWN], [exchanged(whole, None), exchanged(whole, Some(K::Differs))]));
    assert_eq!(find(&got, c::TUNNEL_CORRUPTED).severity, Severity::Warning);
}

#[test]
fn all_good_is_clear() {
    let got = assess(&record(&[A443], [good(A443), good(A443)]));
    assert_eq!((got.verdict.status, got.verdict.exit_code), (Status::Clear, 0), "{got:?}");
    assert_eq!((got.cells[0].status, got.cells[0].passed), (CellStatus::Ok, 2));
    assert!(got.findings.is_empty());
}

#[test]
fn k_of_n_is_intermittent_and_neither_plain_failure_nor_pass() {
    let got = assess(&record(&[A443], [good(A443), silent(A443, IP), good(A443)]));
    let finding = find(&got, c::TCP_INTERMITTENT);
    assert_eq!((finding.severity, finding.failed, finding.tried), (Severity::Warning, 1, 3));
    assert!(!has(&got, c::TCP_CONNECT_TIMEOUT));
    assert_eq!(got.verdict.status, Status::Degraded);
    assert_eq!(got.cells[0].status, CellStatus::Warning(c::TCP_INTERMITTENT));

    let closed = Walk::direct(A443, IP).connected().tls_fails(Leg::Origin, K::Closed, HandshakeEvidence::default());
    let got = assess(&record(&[A443], [good(A443), closed]));
    let finding = find(&got, c::TLS_CLOSED_AFTER_HELLO);
    assert_eq!((finding.severity, finding.failed, finding.tried), (Severity::Warning, 1, 2));
}

#[test]
fn a_filter_by_port_names_the_port_that_answers() {
    let got = assess(&record(&[A443, A8443], [good(A443), silent(A8443, IP)]));
    let timeout = find(&got, c::TCP_CONNECT_TIMEOUT);
    assert_eq!((timeout.severity, timeout.confidence), (Severity::Error, Confidence::Differential));
    assert!(timeout.summary.contains("port 443"), "{}", timeout.summary);
    assert_eq!(find(&got, c::TCP_PORT_FILTERED).severity, Severity::Info);
    assert_eq!(got.verdict.summary, "1 of 2 endpoints cannot be reached directly");
    let elsewhere = assess(&record(&[A443, A8443], [good(A443), silent(A8443, "20.60.1.2")]));
    assert_eq!(find(&elsewhere, c::TCP_CONNECT_TIMEOUT).confidence, Confidence::Heuristic);
}

#[test]
fn one_broken_family_is_a_warning_of_its_own() {
    let got = assess(&record(&[A443], [good(A443), silent(A443, "2603:1030::1"), silent(A443, "2603:1030::1")]));
    assert_eq!(find(&got, c::TCP_FAMILY_BROKEN).severity, Severity::Warning);
    assert!(!has(&got, c::TCP_INTERMITTENT) && got.findings.iter().all(|f| f.severity != Severity::Error));
}

#[test]
fn what_failed_late_is_not_slow() {
    let late = Walk::direct(A443, IP).connect_fails_after(K::TimedOut, 10_100_000, None, None);
    let got = assess(&record(&[A443], [good(A443), late]));
    assert!(has(&got, c::TCP_INTERMITTENT) && !has(&got, c::HTTP_SLOW));
}

#[test]
fn the_scope_of_a_denial_follows_from_what_was_allowed() {
    let allowed = |subject| Walk::proxied(subject).reaches_storage();
    let got = assess(&record(&[A443, A8443], [allowed(A443), denied(A8443)]));
    assert_eq!(find(&got, c::PROXY_PORT_DENIED).confidence, Confidence::Differential);
    let control = Walk::proxied(A443).connected().tunnelled().control(Control::OtherPort);
    assert!(has(&assess(&record(&[A8443], [control, denied(A8443)])), c::PROXY_PORT_DENIED));
    assert!(has(&assess(&record(&[A443, B443], [allowed(A443), denied(B443)])), c::PROXY_HOST_DENIED));
    assert!(has(&assess(&record(&[A443, B443], [denied(A443), denied(B443)])), c::PROXY_CLIENT_DENIED));
    assert!(has(&assess(&record(&[A443], [denied(A443)])), c::PROXY_REQUEST_DENIED));
}

#[test]
fn controls_tell_causes_apart_and_never_count() {
    let hello = || Walk::direct(A443, IP).connected().tls_fails(Leg::Origin, K::Closed, HandshakeEvidence::default());
    let other = |control| Walk::direct(A443, IP).connected().tls(trusted()).control(control);
    let got = assess(&record(&[A443], [hello(), other(Control::OtherServerName { sni: "x.example".into() })]));
    let finding = find(&got, c::TLS_CLOSED_AFTER_HELLO);
    assert_eq!((finding.confidence, finding.tried), (Confidence::Differential, 1));
    assert!(finding.summary.contains("the name decides"));
    let got = assess(&record(&[A443], [hello(), other(Control::SmallSegments { mss: 536 })]));
    assert_eq!(find(&got, c::PATH_MTU_BLACKHOLE).confidence, Confidence::Differential);

    // Small segments that vanish as well acquit the size.
    let tcp = Some(tcp_info(TcpState::Established, 4, 1));
    let vanished = || {
        let evidence = HandshakeEvidence { bytes_sent: 1500, tcp, ..HandshakeEvidence::default() };
        Walk::direct(A443, IP).connected().tls_fails(Leg::Origin, K::TimedOut, evidence)
    };
    assert!(has(&assess(&record(&[A443], [vanished()])), c::PATH_MTU_BLACKHOLE));
    let small = vanished().control(Control::SmallSegments { mss: 536 });
    let got = assess(&record(&[A443], [vanished(), small]));
    assert!(!has(&got, c::PATH_MTU_BLACKHOLE));
    assert!(find(&got, c::TLS_SILENT_AFTER_HELLO).summary.contains("size is not the reason"));

    // As squid does: a reset in plain, and a handshake in TLS, after which the control asks no more.
    let reset = Walk::proxied(A443).connected().tunnel_fails(K::Reset, crate::model::TunnelEvidence::default());
    let mut by_tls = Walk::proxied(A443).connected();
    let handshake = Evidence::Handshake(Box::new(trusted()));
    by_tls.push(Leg::Proxy, handshake, None, 1);
    let by_tls = by_tls.control(Control::OtherProxyScheme);
    assert!(has(&assess(&record(&[A443], [reset, by_tls])), c::PROXY_EXPECTS_TLS));
}

#[test]
fn a_tunnel_to_nowhere_is_optimistic() {
    let empty =
        Walk::proxied(A443).connected().tunnelled().tls_fails(Leg::Origin, K::Closed, HandshakeEvidence::default());
    let got = assess(&record(&[A443], [silent(A443, IP), empty.clone()]));
    assert_eq!(find(&got, c::PROXY_OPTIMISTIC_CONNECT).severity, Severity::Warning);
    assert!(!has(&assess(&record(&[A443], [good(A443), empty])), c::PROXY_OPTIMISTIC_CONNECT));
}

#[test]
fn routes_are_compared_and_the_consumer_decides_which_counts() {
    let walks = || [silent(A443, IP), Walk::proxied(A443).reaches_storage()];
    let mut record = record(&[A443], walks());
    record.context.proxy = Some("http://10.0.0.5:3128".into());
    for (consumer, status) in [("", Status::Blocked), ("waagent", Status::Degraded), ("none", Status::Degraded)] {
        record.context.consumer = consumer.into();
        let got = assess(&record);
        assert_eq!(got.verdict.status, status, "{consumer}");
        assert_eq!(has(&got, c::CONSUMER_IGNORES_PROXY), consumer.is_empty());
        assert_eq!(find(&got, c::TCP_CONNECT_TIMEOUT).confidence, Confidence::Differential);
    }
}

#[test]
fn interception_shows_by_issuer_by_route_and_by_anchor() {
    let corporate = || chain(&["Example Corp", "Example Corp"], Verification::UnknownIssuer);
    let host = "host.example:443";
    let direct = Walk::direct(host, IP).connected().tls(trusted()).answered(storage_reply(400, "x"));
    let proxied = Walk::proxied(host).connected().tunnelled().tls(corporate()).answered(storage_reply(400, "x"));
    let got = assess(&record(&[host], [direct, proxied]));
    let finding = find(&got, c::TLS_INTERCEPTED);
    assert_eq!((finding.route, finding.confidence), (Some(Route::Proxy), Confidence::Differential));

    let added =
        HandshakeEvidence { anchor: Some(TrustAnchor::Added), ..chain(&["Example Corp"], Verification::Trusted) };
    let walk = Walk::direct(A443, IP).connected().tls(added).answered(storage_reply(400, "x"));
    let got = assess(&record(&[A443], [walk]));
    assert_eq!((find(&got, c::TLS_INTERCEPTED).severity, got.verdict.status), (Severity::Warning, Status::Degraded));

    let portal = Walk::direct(A443, IP).connected().tls(corporate()).answered(reply("HTTP/1.1 511 Login\r\n\r\n"));
    let got = assess(&record(&[A443], [portal]));
    assert!(has(&got, c::TLS_INTERCEPTED) && has(&got, c::HTTP_CAPTIVE_PORTAL));
    assert_eq!(got.cells[0].status, CellStatus::Error(c::TLS_INTERCEPTED));
}

#[test]
fn lookups_fail_for_the_direct_route_only_and_views_are_compared() {
    let nxdomain = || {
        let failure = Failure { kind: K::SystemResolver, errno: Some(-2), raw: "x".into() };
        Walk::lookup(NAME, ResolverView::System, &[], Some(failure))
    };
    let server = |ip| Walk::lookup(NAME, ResolverView::Server, &[ip], None);
    let got = assess(&record(&[A443], [nxdomain(), server(IP), Walk::proxied(A443).reaches_storage()]));
    assert_eq!(got.cells[0].status, CellStatus::Error(c::DNS_NXDOMAIN));
    assert_eq!(got.cells[1].status, CellStatus::Ok);
    assert_eq!(find(&got, c::DNS_RESOLVER_MISMATCH).severity, Severity::Warning);

    let private = Walk::lookup(NAME, ResolverView::System, &["10.1.2.3"], None);
    let got = assess(&record(&[A443], [private, server(IP), good(A443)]));
    assert!(has(&got, c::DNS_RESOLVER_MISMATCH));
    assert_eq!(find(&got, c::DNS_PRIVATE_ADDRESS).severity, Severity::Info);
}

#[test]
fn what_the_hosts_file_pins_is_no_resolvers_word() {
    let mut pinned = Walk::lookup(NAME, ResolverView::System, &["10.1.2.3"], None);
    let Evidence::Resolve(evidence) = &mut pinned.0.steps[0].evidence else { panic!("no lookup") };
    evidence.hosts_file = vec!["10.1.2.3".parse().unwrap()];
    let server = Walk::lookup(NAME, ResolverView::Server, &[IP], None);
    let mut record = record(&[A443], [pinned, server, Walk::direct(A443, "10.1.2.3").reaches_storage()]);
    let pin =
        HostsOverride { name: NAME.into(), addresses: vec!["10.1.2.3".parse().unwrap()], place: "hosts:1".into() };
    record.context.hosts_overrides.push(pin);
    let got = assess(&record);
    assert!(!has(&got, c::DNS_RESOLVER_MISMATCH) && !has(&got, c::DNS_PRIVATE_ADDRESS), "{:#?}", got.findings);
    let evidence = &find(&got, c::CONFIG_HOSTS_OVERRIDE).evidence;
    assert_eq!(evidence[0], format!("hosts:1: {NAME} is pinned to 10.1.2.3; the name server answers {IP}"));
}

#[test]
fn a_sinkhole_is_the_cause_unless_storage_answers_there() {
    let lookup = || Walk::lookup(NAME, ResolverView::System, &["0.0.0.0"], None);
    let got = assess(&record(&[A443], [lookup(), Walk::direct(A443, "0.0.0.0").connect_fails(K::Refused)]));
    assert_eq!(got.cells[0].status, CellStatus::Error(c::DNS_SINKHOLE));
    let got = assess(&record(&[A443], [lookup(), Walk::direct(A443, "0.0.0.0").reaches_storage()]));
    assert!(!has(&got, c::DNS_SINKHOLE));
}

#[test]
fn clocks_are_compared_with_the_date_of_the_answer() {
    let dated = |verification| {
        let text = "HTTP/1.1 400 x\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nx-ms-request-id: 1\r\n\r\n";
        let mut evidence = chain(&["DigiCert Inc"], verification);
        if let Some(leaf) = evidence.chain.first_mut() {
            let leaf = std::sync::Arc::make_mut(leaf);
            (leaf.not_before, leaf.not_after) = (784_000_000, 785_000_000);
        }
        assess(&record(&[A443], [Walk::direct(A443, IP).connected().tls(evidence).answered(reply(text))]))
    };
    assert_eq!(find(&dated(Verification::Trusted), c::LOCAL_CLOCK_SKEW).severity, Severity::Warning);
    let expired = dated(Verification::Expired);
    assert_eq!(find(&expired, c::LOCAL_CLOCK_SKEW).severity, Severity::Error);
    assert!(has(&expired, c::TLS_EXPIRED));
}

#[test]
fn what_was_not_measured_is_inconclusive() {
    let mut empty = record(&[A443], []);
    assert_eq!((assess(&empty).verdict.status, assess(&empty).verdict.exit_code), (Status::Inconclusive, 3));
    empty.not_run.push(NotRun { subject: A443.into(), route: Some(Route::Direct), reason: "x".into(), deadline: true });
    empty.context.hosts_overrides.push(HostsOverride {
        name: NAME.into(),
        addresses: Vec::new(),
        place: "hosts:1".into(),
    });
    let got = assess(&empty);
    assert!(has(&got, c::META_DEADLINE) && has(&got, c::CONFIG_HOSTS_OVERRIDE));
    assert_eq!(got.cells[0].status, CellStatus::NotRun);
    let cancelled = assess(&record(&[A443], [Walk::direct(A443, IP).connect_fails(K::Cancelled)]));
    assert_eq!(cancelled.verdict.status, Status::Inconclusive);
    assert!(cancelled.findings.iter().all(|f| f.severity != Severity::Error));
}

#[test]
fn an_added_anchor_is_not_the_consumers() {
    let by_hand = HandshakeEvidence { anchor: Some(TrustAnchor::Added), ..trusted() };
    let walk = || Walk::direct(A443, IP).connected().tls(by_hand.clone()).answered(storage_reply(400, "x"));
    let got = assess(&record(&[A443], [walk()]));
    let finding = find(&got, c::CONSUMER_DISTRUSTS_ANCHOR);
    assert_eq!((finding.hop, finding.severity), (Hop::Consumer, Severity::Warning));
    assert!(has(&got, c::TLS_INTERCEPTED));
    assert_eq!(got.verdict.status, Status::Degraded);
    // Without a look into the system's store nobody knows what is in it.
    let mut blind = record(&[A443], [walk()]);
    blind.context.without_system_roots = true;
    assert!(!has(&assess(&blind), c::CONSUMER_DISTRUSTS_ANCHOR));
    assert!(!has(&assess(&record(&[A443], [good(A443)])), c::CONSUMER_DISTRUSTS_ANCHOR));
}

#[test]
fn what_the_machine_says_about_itself_is_judged() {
    let mut record = record(&[A443], [good(A443)]);
    record.context.misread_agent_file = vec![
        MisreadLine { place: "/etc/waagent.conf:3".into(), text: "HttpProxy.Host = p".into(), reading: None },
        MisreadLine {
            place: "/etc/waagent.conf:4".into(),
            text: "HttpProxy.Port=1#x".into(),
            reading: Some("1#x".into()),
        },
    ];
    record.context.proxy_captures = vec![ProxyCapture {
        origin: "/etc/environment (http_proxy)".into(),
        proxy: "http://10.0.0.5:3128".into(),
        no_proxy: Some("localhost".into()),
        addresses: vec!["168.63.129.16".parse().unwrap(), "169.254.169.254".parse().unwrap()],
    }];
    let got = assess(&record);
    let unreadable = find(&got, c::CONFIG_AGENT_FILE_UNREADABLE_BY_EXTENSION);
    let shown = unreadable.evidence.join("\n");
    assert!(
        ["/etc/waagent.conf:3", "`HttpProxy.Host = p`", "`1#x`"].iter().all(|part| shown.contains(part)),
        "{shown}"
    );
    let captured = find(&got, c::CONFIG_NO_PROXY_INCOMPLETE);
    for part in ["/etc/environment (http_proxy)", "http://10.0.0.5:3128", "168.63.129.16, 169.254.169.254", "localhost"]
    {
        assert!(captured.evidence[0].contains(part), "{:?}", captured.evidence);
    }
    assert!([unreadable, captured].iter().all(|finding| finding.severity == Severity::Warning));
    assert_eq!((got.verdict.status, got.cells[0].status), (Status::Degraded, CellStatus::Ok));
}

fn any_walk() -> impl Strategy<Value = Walk> {
    let kind = prop::sample::select(vec![
        K::TimedOut,
        K::Cancelled,
        K::Closed,
        K::Reset,
        K::Io,
        K::Refused,
        K::NetworkUnreachable,
        K::Status,
        K::NotTls,
        K::NoData,
        K::Alert,
    ]);
    let subject = prop::sample::select(vec![A443, A8443, B443, "stranger.example:1"]);
    let ip = prop::sample::select(vec![IP, "2603:1030::1", "0.0.0.0"]);
    (subject, ip, kind, 0..11_u8).prop_map(|(subject, ip, kind, shape)| match shape {
        0 => good(subject),
        1 => Walk::direct(subject, ip).connect_fails(kind),
        2 => Walk::proxied(subject).connect_fails(kind),
        3 => denied(subject),
        4 => Walk::proxied(subject).connected().tunnelled().tls_fails(Leg::Origin, kind, HandshakeEvidence::default()),
        5 => Walk::direct(subject, ip).connected().tls(chain(&["X"], Verification::UnknownIssuer)).request_fails(kind),
        6 => Walk::lookup(NAME, ResolverView::System, &[], Some(Failure::new(kind, "x"))),
        7 => Walk::lookup(NAME, ResolverView::Server, &[ip], None),
        8 => Walk::direct(subject, ip).traced(&["10.0.0.1", "", ""], Some(kind)),
        9 => Walk::direct(subject, ip).traced(&["10.0.0.1", "10.0.0.2", "="], None),
        _ => Walk::direct(subject, ip).connected().control(Control::SmallSegments { mss: 536 }),
    })
}

proptest! {
    #[test]
    fn order_does_not_matter_and_nothing_panics(walks in prop::collection::vec(any_walk(), 0..12), turn in 0..12_usize) {
        let mut record = record(&[A443, A8443, B443], walks);
        let first = assess(&record);
        prop_assert_eq!(&assess(&record), &first);
        let middle = turn.min(record.observations.len());
        record.observations.rotate_left(middle);
        record.observations.reverse();
        prop_assert_eq!(&assess(&record), &first);
        prop_assert_eq!(first.cells.len() % 3, 0);
        prop_assert!(first.findings.is_sorted_by_key(|finding| finding.severity));
        for finding in &first.findings {
            prop_assert!(finding.failed <= finding.tried && finding.evidence.len() <= 6);
            prop_assert!(finding.targets.is_sorted() && !finding.summary.is_empty());
        }
    }
}
