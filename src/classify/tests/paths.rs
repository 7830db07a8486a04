//! What traces of failed connects tell.

use crate::{
    classify::{
        assess, codes as c,
        testing::{Walk, record},
    },
    model::{Assessment, Confidence, FailureKind as K, Finding, Hop, Party, Severity, Status},
};

const A443: &str = "acct.blob.core.windows.net:443";
const A8443: &str = "acct.blob.core.windows.net:8443";
const IP: &str = "20.60.1.1";

fn silent() -> Walk {
    Walk::direct(A443, IP).connect_fails(K::TimedOut)
}

fn refused() -> Walk {
    Walk::direct(A443, IP).connect_fails(K::Refused)
}

fn trace(hops: &[&str], kind: Option<K>) -> Walk {
    Walk::direct(A443, IP).traced(hops, kind)
}

fn other(hops: &[&str]) -> Walk {
    Walk::direct(A8443, IP).traced(hops, None)
}

/// What it is, the attempt, its trace, perhaps one to another port; how sure the finding is, and what it says.
type Row = (&'static str, Walk, Walk, Option<Walk>, Confidence, &'static str);

fn judged<const N: usize>(walks: [Walk; N]) -> Assessment {
    assess(&record(&[A443, A8443], walks))
}

fn blocked(assessment: &Assessment) -> Option<&Finding> {
    assessment.findings.iter().find(|finding| finding.code == c::PATH_BLOCKED_AFTER)
}

/// The summary of the failed connect itself.
fn failure(assessment: &Assessment) -> &str {
    &assessment.findings.iter().find(|finding| finding.severity == Severity::Error).unwrap().summary
}

#[test]
fn each_way_to_end_on_the_way_names_the_last_router_and_how_sure_that_is() {
    use Confidence::{Differential, Heuristic, Proof};
    let long = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "="];
    let cut = ["10.0.0.1", "", "10.0.0.2", "", "", "", "", ""];
    let rows: [Row; 7] = [
        ("silence", silent(), trace(&cut, Some(K::TimedOut)), None, Heuristic, "vanishes after hop 3 (10.0.0.2)"),
        (
            "silence where another port passes",
            silent(),
            trace(&cut, Some(K::TimedOut)),
            Some(other(&long)),
            Differential,
            "vanishes after hop 3 (10.0.0.2), while one to port 8443 passes it and arrives at hop 4",
        ),
        (
            "silence where another port goes another way",
            silent(),
            trace(&cut, Some(K::TimedOut)),
            Some(other(&["10.9.0.1", "10.9.0.2", "="])),
            Heuristic,
            "vanishes after hop 3 (10.0.0.2)",
        ),
        (
            "silence where another port ends as well",
            silent(),
            trace(&cut, Some(K::TimedOut)),
            Some(Walk::direct(A8443, IP).traced(&["10.0.0.1", "10.0.0.2", ""], Some(K::TimedOut))),
            Heuristic,
            "vanishes after hop 3 (10.0.0.2)",
        ),
        (
            "a rejection by a router that was passed",
            Walk::direct(A443, IP).connect_fails(K::HostUnreachable),
            trace(&["10.0.0.1", "10.0.0.2", "!10.0.0.2"], Some(K::HostUnreachable)),
            None,
            Proof,
            "hop 2 (10.0.0.2) rejects the SYN to 20.60.1.1:443, with ICMP type 3 code 13",
        ),
        (
            "a rejection by the next one",
            Walk::direct(A443, IP).connect_fails(K::HostUnreachable),
            trace(&["10.0.0.1", "10.0.0.2", "!10.0.0.3"], Some(K::HostUnreachable)),
            None,
            Proof,
            "hop 3 (10.0.0.3) rejects the SYN to 20.60.1.1:443",
        ),
        (
            "a refusal from too near",
            refused(),
            trace(&["10.0.0.1", "10.0.0.2", "="], Some(K::Refused)),
            Some(other(&long)),
            Differential,
            "from hop 3, right after hop 2 (10.0.0.2), but a SYN to port 8443 arrives only at hop 4",
        ),
    ];
    for (what, walk, trace, other, confidence, said) in rows {
        let got = assess(&record(&[A443, A8443], [walk, trace].into_iter().chain(other)));
        let found = blocked(&got).unwrap_or_else(|| panic!("{what}: {:?}", got.findings));
        assert_eq!(
            (found.confidence, found.severity, found.party),
            (confidence, Severity::Info, Party::Path),
            "{what}"
        );
        assert_eq!((found.hop, found.targets.as_slice()), (Hop::ClientToOrigin, &[A443.to_owned()][..]), "{what}");
        assert!(found.summary.contains(said), "{what}: {}", found.summary);
        assert!(found.evidence.iter().any(|line| line.contains("trace to 20.60.1.1:443: 1 10.0.0.1, 2 ")), "{what}");
        assert_eq!(found.evidence.len(), if confidence == Differential { 2 } else { 1 }, "{what}");
        assert_eq!((got.verdict.status, got.cells[0].tried), (Status::Blocked, 1), "{what}: a trace is no attempt");
    }
}

#[test]
fn a_trace_that_names_no_router_is_a_remark_on_the_failure() {
    let rows: [(&str, Walk, Walk, &str); 6] = [
        ("silence alone", silent(), trace(&["", "", ""], Some(K::TimedOut)), "no router on the way answers a trace"),
        ("a connection", silent(), trace(&["10.0.0.1", "="], None), "a trace connects, over 2 hops"),
        ("a refusal", refused(), trace(&["10.0.0.1", "="], Some(K::Refused)), "the refusal comes from hop 2"),
        (
            "thirty routers",
            silent(),
            trace(&["10.0.0.1", "10.0.0.2", "10.0.0.2", "10.0.0.3"], Some(K::TimedOut)),
            "passes 4 routers and does not arrive",
        ),
        (
            "a loop",
            silent(),
            trace(&["10.0.0.1", "10.0.0.2", "10.0.0.1", "10.0.0.2", "", ""], Some(K::TimedOut)),
            "a trace comes back to 10.0.0.1 at hop 3: a routing loop",
        ),
        ("a port as far away", refused(), trace(&["10.0.0.1", "="], Some(K::Refused)), "the refusal comes from hop 2"),
    ];
    for (what, walk, trace, said) in rows {
        let got = judged([walk, trace, other(&["10.0.0.1", "="])]);
        assert!(blocked(&got).is_none(), "{what}: {:?}", got.findings);
        assert!(failure(&got).contains(said), "{what}: {}", failure(&got));
        assert!(what != "thirty routers" || !failure(&got).contains("loop"), "{}", failure(&got));
    }
}

#[test]
fn nothing_is_said_without_a_failure_or_by_this_machine_or_by_a_trace_cut_short() {
    let local = trace(&["!10.1.0.4"], Some(K::HostUnreachable));
    assert!(blocked(&judged([silent(), local])).is_none());
    let cut_short = judged([silent(), trace(&["10.0.0.1", "", ""], Some(K::Cancelled))]);
    assert!(blocked(&cut_short).is_none() && failure(&cut_short).contains("the run ended before a trace did"));
    let fine = judged([Walk::direct(A443, IP).reaches_storage(), trace(&["10.0.0.1", "", ""], Some(K::TimedOut))]);
    assert!(blocked(&fine).is_none());
    let denied = judged([
        Walk::direct(A443, IP).connect_fails(K::PermissionDenied),
        trace(&["10.0.0.1", "", ""], Some(K::TimedOut)),
    ]);
    assert!(blocked(&denied).is_none());
    let elsewhere = judged([
        Walk::direct(A443, "20.60.1.2").connect_fails(K::TimedOut),
        trace(&["10.0.0.1", "", ""], Some(K::TimedOut)),
    ]);
    assert!(blocked(&elsewhere).is_none());
}

#[test]
fn on_the_way_to_the_proxy_it_is_that_hop() {
    let got = judged([
        Walk::proxied(A443).connect_fails(K::TimedOut),
        Walk::proxied(A8443).connect_fails(K::TimedOut),
        Walk::proxied(A443).traced(&["10.0.0.1", "", ""], Some(K::TimedOut)),
    ]);
    let found = blocked(&got).unwrap();
    assert_eq!((found.hop, found.targets.len()), (Hop::ClientToProxy, 2));
    assert!(got.cells.iter().all(|cell| cell.passed == 0));
}

#[test]
fn a_long_path_is_one_short_line() {
    let hops: Vec<String> = (0..28).map(|n| format!("2001:db8:1111:2222:3333:4444:5555:{n:x}")).collect();
    let mut hops: Vec<&str> = hops.iter().map(String::as_str).collect();
    hops.extend(["", ""]);
    let got = judged([silent(), trace(&hops, Some(K::TimedOut))]);
    let line = &blocked(&got).unwrap().evidence[0];
    assert!(line.chars().count() <= 188 && line.ends_with(":1b, 29 to 30 silent"), "{line}");
}
