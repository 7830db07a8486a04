//! What consumers would report, from records built by hand.

use crate::{
    classify::{
        assess, codes as c,
        testing::{VERSIONS, Walk, chain, record, reply, storage_reply, trusted},
    },
    model::{
        Class, Context, Discovery, ExtensionProxy, Failure, FailureKind as K, HandshakeEvidence, Outcome, Prediction,
        ProxySource, Record, ResolverView, Route, TrustAnchor, TunnelEvidence, Verification,
    },
};

const A: &str = "acct1.blob.core.windows.net:443";
const B: &str = "acct2.blob.core.windows.net:443";

fn works(target: &str) -> Walk {
    Walk::direct(target, "20.60.1.1").reaches_storage()
}

fn dropped(target: &str) -> Walk {
    Walk::direct(target, "20.60.1.2").connect_fails(K::TimedOut)
}

fn answers(target: &str, text: &str) -> Walk {
    Walk::direct(target, "20.60.1.1").connected().tls(trusted()).answered(reply(text))
}

fn host_answers() -> Walk {
    Walk::to_host(80).connected().answered(reply(&format!("HTTP/1.1 200 OK\r\n\r\n{VERSIONS}")))
}

fn host_is_silent() -> Walk {
    Walk::to_host(80).connect_fails(K::TimedOut)
}

fn of(consumer: &str, targets: &[&str], walks: impl IntoIterator<Item = Walk>) -> Record {
    let record = record(targets, walks);
    let context = Context { consumer: consumer.into(), privileged: Some(true), ..record.context };
    Record { context, ..record }
}

fn by(record: &Record, method: &str) -> Prediction {
    let found = assess(record).predictions.into_iter().find(|prediction| prediction.method == method);
    found.unwrap_or_else(|| panic!("no prediction for {method}"))
}

/// Outcome, class, code and health code of a method.
fn ending(record: &Record, method: &str) -> (Outcome, Class, Option<i32>, Option<i32>) {
    let got = by(record, method);
    (got.outcome, got.class, got.extension_code, got.extension_error_code)
}

const SUCCESS: (Outcome, Class, Option<i32>, Option<i32>) = (Outcome::Success, Class::None, Some(1), None);

#[test]
fn the_chosen_method_comes_first_and_then_the_others() {
    let mut record = of("vmsnapshot-linux", &[A], [works(A), host_answers()]);
    let methods = |record: &Record| -> Vec<String> {
        assess(record).predictions.into_iter().map(|prediction| prediction.method).collect()
    };
    assert_eq!(methods(&record), ["firstHostThenGuest", "onlyGuest", "firstGuestThenHost", "onlyHost"]);
    record.context.method = "onlyHost".into();
    assert_eq!(methods(&record)[0], "onlyHost");
    record.context.consumer = "none".into();
    assert!(methods(&record).is_empty());
    assert!(methods(&of("vmsnapshot-linux", &["tcp://x.example:1"], [])).is_empty());
}

#[test]
fn guests_that_fail_wholly_are_told_alike_whatever_number_the_build_has_for_it() {
    for (consumer, code) in [("vmsnapshot-linux-2018", 76), ("vmsnapshot-linux-2019", 76), ("vmsnapshot-linux", 2)] {
        let record = of(consumer, &[A, B], [dropped(A), dropped(B), host_is_silent()]);
        let got = by(&record, "onlyGuest");
        assert_eq!((got.outcome, got.class, got.extension_code), (Outcome::Failure, Class::NoNetwork, Some(code)));
        assert_eq!(got.portal_error.as_deref(), Some("ExtensionSnapshotFailedNoNetwork"));
        assert_eq!(by(&record, "firstHostThenGuest").extension_code, Some(code), "{consumer}");
        assert_eq!(got.observations, [1, 2]);
    }
}

#[test]
fn one_disk_of_two_is_a_restricted_network_but_to_the_oldest_build() {
    let record = |consumer| of(consumer, &[A, B], [works(A), dropped(B)]);
    let restricted = (Outcome::Failure, Class::RestrictedNetwork, Some(76), Some(761));
    assert_eq!(ending(&record("vmsnapshot-linux"), "onlyGuest"), restricted);
    assert_eq!(ending(&record("vmsnapshot-linux-2019"), "onlyGuest"), restricted);
    assert_eq!(ending(&record("vmsnapshot-linux-2018"), "onlyGuest"), SUCCESS);
    let refused = answers(B, "HTTP/1.1 403 x\r\nx-ms-request-id: 1\r\nx-ms-error-code: AuthorizationFailure\r\n\r\n");
    let record = of("vmsnapshot-linux-2018", &[A, B], [works(A), refused]);
    assert_eq!(ending(&record, "onlyGuest"), restricted);
}

#[test]
fn a_host_that_answers_makes_storage_dispensable_and_a_silent_one_does_not() {
    let record = of("vmsnapshot-linux", &[A], [dropped(A), host_answers()]);
    assert_eq!(ending(&record, "firstHostThenGuest"), SUCCESS);
    assert_eq!(ending(&record, "firstGuestThenHost"), SUCCESS);
    assert_eq!(ending(&record, "onlyHost"), SUCCESS);
    let reason = by(&record, "firstHostThenGuest").reason;
    assert!(reason.starts_with("The wire server answers, so the host is expected to"), "{reason}");
    assert!(reason.contains("acct1.blob.core.windows.net:443 fails: SYN unanswered (tcp.connect_timeout)"), "{reason}");

    let record = of("vmsnapshot-linux", &[A], [works(A), host_is_silent()]);
    assert_eq!(ending(&record, "firstHostThenGuest"), SUCCESS);
    assert_eq!(ending(&record, "onlyHost"), (Outcome::Failure, Class::NoNetwork, Some(76), Some(76)));
}

#[test]
fn a_host_that_answers_with_an_error_leaves_it_to_the_guest_and_one_with_a_page_does_not() {
    let host = |head: &str| Walk::to_host(80).connected().answered(reply(&format!("HTTP/1.1 {head}\r\n\r\n<html>")));
    for head in ["404 Not Found", "500 x"] {
        assert_eq!(
            ending(&of("vmsnapshot-linux", &[A], [works(A), host(head)]), "firstHostThenGuest"),
            SUCCESS,
            "{head}"
        );
        let got = by(&of("vmsnapshot-linux", &[A], [works(A), host(head)]), "onlyHost");
        assert_eq!((got.outcome, got.class), (Outcome::Failure, Class::HostError), "{head}");
    }
    // A preparation that is answered with 200 is done, and then there is no way back.
    let got = by(&of("vmsnapshot-linux", &[A], [works(A), host("200 OK")]), "firstHostThenGuest");
    assert_eq!((got.outcome, got.extension_code, got.class), (Outcome::Failure, Some(76), Class::HostError));
}

#[test]
fn what_was_not_observed_is_left_open() {
    let record = of("vmsnapshot-linux", &[A], [dropped(A)]);
    let got = by(&record, "firstHostThenGuest");
    assert_eq!((got.outcome, got.extension_code), (Outcome::Unknown, None));
    assert!(got.reason.contains("it was not probed"), "{}", got.reason);
    assert!(got.reason.contains("unless the host takes the snapshot"), "{}", got.reason);
    // A silent wire server proves nothing to a caller whom the agent's own rules shut out.
    let mut record = of("vmsnapshot-linux", &[A], [dropped(A), host_is_silent()]);
    record.context.privileged = Some(false);
    assert_eq!(by(&record, "onlyHost").outcome, Outcome::Unknown);
    // Only another port of the host was probed.
    let record =
        of("vmsnapshot-linux", &["acct1.blob.core.windows.net:8443"], [works("acct1.blob.core.windows.net:8443")]);
    let got = by(&record, "onlyGuest");
    assert_eq!(got.outcome, Outcome::Unknown);
    assert!(got.reason.contains("port 443"), "{}", got.reason);
    // Attempts that disagree.
    let mut second = works(A);
    second.0.attempt = 2;
    let got = by(&of("vmsnapshot-linux", &[A], [dropped(A), second]), "onlyGuest");
    assert_eq!(got.outcome, Outcome::Unknown);
    assert!(got.reason.contains("1 of 2 attempts work"), "{}", got.reason);
}

#[test]
fn an_open_disk_leaves_only_the_kind_of_failure_open() {
    let record = of("vmsnapshot-linux", &[A, "acct2.blob.core.windows.net:8443"], [dropped(A)]);
    let got = by(&record, "onlyGuest");
    assert_eq!((got.outcome, got.class, got.extension_code), (Outcome::Failure, Class::GenericError, None));
    assert_eq!(got.portal_error.as_deref(), Some("ExtensionSnapshotFailedNoNetwork"));
}

#[test]
fn the_extension_takes_addresses_in_turn_and_stays_with_the_first_that_accepts() {
    let first = Walk::direct(A, "20.60.1.9").connect_fails(K::Refused);
    assert_eq!(ending(&of("vmsnapshot-linux", &[A], [first, works(A)]), "onlyGuest"), SUCCESS);
    let first = Walk::direct(A, "20.60.1.9").connected().tls_fails(
        crate::model::Leg::Origin,
        K::Reset,
        HandshakeEvidence::default(),
    );
    let got = by(&of("vmsnapshot-linux", &[A], [first, works(A)]), "onlyGuest");
    assert_eq!(got.outcome, Outcome::Failure);
}

#[test]
fn answers_are_read_as_the_extension_reads_them() {
    let storage = |status: u16, code: &str| {
        format!("HTTP/1.1 {status} x\r\nx-ms-request-id: 1\r\nx-ms-error-code: {code}\r\n\r\n")
    };
    let outcome = |text: &str| {
        let got = by(&of("vmsnapshot-linux-2019", &[A], [answers(A, text)]), "onlyGuest");
        (got.outcome, got.class)
    };
    let (works, fails) = ((Outcome::Success, Class::None), (Outcome::Failure, Class::NoNetwork));
    // What an anonymous request meets, the signed one does not.
    for (status, code) in
        [(400, "InvalidQueryParameterValue"), (409, "PublicAccessNotPermitted"), (404, "ResourceNotFound")]
    {
        assert_eq!(outcome(&storage(status, code)), works, "{code}");
    }
    for (status, code) in [(403, "AuthorizationFailure"), (503, "ServerBusy"), (400, "TlsVersionNotPermitted")] {
        assert_eq!(outcome(&storage(status, code)), fails, "{code}");
    }
    assert_eq!(outcome("HTTP/1.1 302 x\r\nLocation: http://portal/\r\n\r\n"), fails);
    assert_eq!(outcome("HTTP/1.1 470 status code 470\r\n\r\nAction: Deny."), fails);
    assert_eq!(outcome("HTTP/1.1 200 OK\r\n\r\n<html>"), works, "any 200 is a snapshot to the extension");
    let rate = "HTTP/1.1 409 x\r\nx-ms-request-id: 1\r\n\r\nThe rate of snapshot blob calls is exceeded.";
    assert_eq!(outcome(rate), (Outcome::Failure, Class::RateExceeded));
}

#[test]
fn certificates_count_as_python_sees_them() {
    let shown = |handshake| Walk::direct(A, "20.60.1.1").connected().tls(handshake).answered(storage_reply(400, "x"));
    let outcome = |record: &Record| by(record, "onlyGuest").outcome;
    let intercepted = chain(&["Example Corp", "Example Corp"], Verification::UnknownIssuer);
    assert_eq!(outcome(&of("vmsnapshot-linux", &[A], [shown(intercepted)])), Outcome::Failure);
    let added = HandshakeEvidence { anchor: Some(TrustAnchor::Added), ..trusted() };
    let mut record = of("vmsnapshot-linux", &[A], [shown(added)]);
    // Without a lookup another address was dialled: a rehearsal with a stand-in.
    let got = by(&record, "onlyGuest");
    assert!(
        got.outcome == Outcome::Success && got.reason.contains("though the chain is trusted by --ca-file alone"),
        "{got:?}"
    );
    record.observations[0].parent = Some(9);
    let got = by(&record, "onlyGuest");
    assert!(got.outcome == Outcome::Failure && got.reason.contains("consumer.distrusts_anchor"), "{got:?}");
    // Where the authorities given are the whole store, they stand for the consumer's.
    record.context.without_system_roots = true;
    assert_eq!(outcome(&record), Outcome::Success);
}

#[test]
fn patience_ends_after_ten_seconds_per_operation() {
    let slow = |elapsed_us| {
        let mut walk = works(A);
        walk.0.steps.last_mut().unwrap().elapsed_us = elapsed_us;
        by(&of("vmsnapshot-linux", &[A], [walk]), "onlyGuest").outcome
    };
    assert_eq!(slow(8_000_000), Outcome::Success);
    assert_eq!(slow(14_000_000), Outcome::Failure);
}

#[test]
fn a_name_that_is_not_found_fails_every_build() {
    let failure = Failure { errno: Some(-2), ..Failure::new(K::SystemResolver, "x") };
    let lookup = Walk::lookup("acct1.blob.core.windows.net", ResolverView::System, &[], Some(failure));
    let got = by(&of("vmsnapshot-linux", &[A], [lookup]), "onlyGuest");
    assert_eq!((got.outcome, got.class), (Outcome::Failure, Class::NoNetwork));
    assert!(got.reason.contains(c::DNS_NXDOMAIN.0), "{}", got.reason);
}

#[test]
fn a_run_that_ended_early_says_nothing_about_what_it_did_not_reach() {
    let cancelled = || Failure::new(K::Cancelled, "x");
    let lookup = Walk::lookup("acct1.blob.core.windows.net", ResolverView::System, &[], Some(cancelled()));
    assert_eq!(by(&of("vmsnapshot-linux", &[A], [lookup]), "onlyGuest").outcome, Outcome::Unknown);
    let walk = Walk::direct(A, "20.60.1.2").connect_fails(K::Cancelled);
    assert_eq!(by(&of("vmsnapshot-linux", &[A], [walk]), "onlyGuest").outcome, Outcome::Unknown);
}

/// A record of both routes, where only the proxy's works.
fn only_by_proxy(consumer: &str, source: &str) -> Record {
    let mut record = of(consumer, &[A], [dropped(A), Walk::proxied(A).reaches_storage(), host_is_silent()]);
    let proxy = "http://10.0.0.5:3128".to_owned();
    record.context.proxy = Some(proxy.clone());
    record.context.routes = vec![Route::Direct, Route::Proxy];
    record.context.proxy_sources = vec![ProxySource { origin: source.into(), proxy: Some(proxy), problem: None }];
    record
}

#[test]
fn the_documented_proxy_is_ignored_by_all_but_the_oldest_build() {
    let current = only_by_proxy("vmsnapshot-linux", "/etc/waagent.conf");
    let got = by(&current, "firstHostThenGuest");
    assert_eq!((got.outcome, got.class), (Outcome::Failure, Class::NoNetwork));
    assert!(got.reason.contains("The proxy works, but the extension ignores it and goes direct"), "{}", got.reason);
    let oldest = only_by_proxy("vmsnapshot-linux-2018", "/etc/waagent.conf");
    assert_eq!(ending(&oldest, "firstHostThenGuest"), SUCCESS);
    // It asks even the host through the proxy, in vain.
    let got = by(&only_by_proxy("vmsnapshot-linux-2018", "--proxy"), "onlyHost");
    assert_eq!((got.outcome, got.extension_code), (Outcome::Failure, Some(76)));
    // A proxy of the environment is nothing to any build.
    let environment = only_by_proxy("vmsnapshot-linux-2018", "https_proxy");
    assert_eq!(by(&environment, "onlyGuest").outcome, Outcome::Failure);
}

#[test]
fn a_host_without_a_port_makes_later_builds_use_the_proxy() {
    let mut record = only_by_proxy("vmsnapshot-linux", "/etc/waagent.conf");
    let read = |host: &str| {
        let proxy = ExtensionProxy { source: "/etc/waagent.conf".into(), host: Some(host.into()), port: None };
        Some(Box::new(Discovery { extension_proxy: Some(proxy), ..Discovery::default() }))
    };
    record.context.discovery = read("10.0.0.5:3128");
    assert_eq!(ending(&record, "onlyGuest"), SUCCESS);
    assert_eq!(assess(&record).verdict.status, crate::model::Status::Degraded, "its own route works");
    // Without a port it goes to 443, and nobody tried that.
    record.context.discovery = read("10.0.0.5");
    let got = by(&record, "onlyGuest");
    assert!(got.outcome == Outcome::Unknown && got.reason.contains("10.0.0.5:443 was not probed"), "{got:?}");
    record.context.discovery = read("10.0.0.5:abc");
    assert_eq!(by(&record, "onlyGuest").outcome, Outcome::Failure);
}

#[test]
fn a_login_that_this_probe_sent_is_not_the_extension_s() {
    let tunnel = TunnelEvidence { credentials_sent: true, ..TunnelEvidence::default() };
    let mut walk = Walk::proxied(A).connected();
    walk.push(crate::model::Leg::Proxy, crate::model::Evidence::Tunnel(Box::new(tunnel)), None, 1_000);
    let mut record = only_by_proxy("vmsnapshot-linux-2018", "/etc/waagent.conf");
    record.observations[1] =
        crate::model::Observation { id: 2, ..walk.tls(trusted()).answered(storage_reply(400, "x")).0 };
    let got = by(&record, "onlyGuest");
    assert!(got.outcome == Outcome::Failure && got.reason.contains("config.proxy_needs_auth"), "{got:?}");
}

#[test]
fn blobs_are_the_disks_where_there_are_any() {
    let blob = |n: u8| format!("https://acct1.blob.core.windows.net/vhds/{n}.vhd");
    let record = of("vmsnapshot-linux-2019", &[&blob(1), &blob(2), B], [works(B)]);
    let got = by(&record, "onlyGuest");
    assert!(got.outcome == Outcome::Unknown && !got.reason.contains("acct2"), "{got:?}");
}

#[test]
fn the_agent_needs_the_host_and_storage_only_where_the_plugin_is_down() {
    let plugin = |works: bool| {
        let walk = Walk::to_host(32526);
        if works {
            walk.connected().answered(reply("HTTP/1.1 200 OK\r\n\r\n"))
        } else {
            walk.connect_fails(K::TimedOut)
        }
    };
    let agent = |walks: Vec<Walk>| {
        let predictions = assess(&of("waagent", &[A], walks)).predictions;
        assert_eq!(predictions.len(), 1);
        (predictions[0].outcome, predictions[0].portal_error.clone())
    };
    assert_eq!(agent(vec![dropped(A), host_answers(), plugin(true)]), (Outcome::Success, None));
    assert_eq!(agent(vec![works(A), host_answers(), plugin(false)]), (Outcome::Success, None));
    let no_status = Some("GuestAgentSnapshotTaskStatusError".to_owned());
    assert_eq!(agent(vec![dropped(A), host_answers(), plugin(false)]), (Outcome::Failure, no_status));
    let offline = Some("UserErrorGuestAgentStatusUnavailable".to_owned());
    assert_eq!(agent(vec![works(A), host_is_silent(), plugin(false)]), (Outcome::Failure, offline.clone()));
    assert_eq!(agent(vec![works(A)]), (Outcome::Unknown, offline));
}

#[test]
fn windows_is_told_without_numbers_and_with_its_own_error_for_tls() {
    let record = of("vmsnapshot-windows", &[A], [dropped(A), host_is_silent()]);
    let got = by(&record, "onlyGuest");
    assert_eq!((got.outcome, got.class, got.extension_code), (Outcome::Failure, Class::NoNetwork, None));
    assert!(got.reason.contains("is not public"), "{}", got.reason);
    let refused = Walk::direct(A, "20.60.1.1").connected().tls_fails(
        crate::model::Leg::Origin,
        K::Alert,
        crate::classify::testing::alert(70),
    );
    let got = by(&of("vmsnapshot-windows", &[A], [refused]), "onlyGuest");
    assert_eq!(got.portal_error.as_deref(), Some("ExtensionSnapshotFailedNoSecureNetwork"));
    let works = of("vmsnapshot-windows", &[A], [works(A)]);
    assert_eq!(by(&works, "onlyGuest").outcome, Outcome::Success);
}
