//! What only this machine's kernel and the routers on the way can say, played: nobody can bring it about on loopback
//! without privileges. The codes that follow are the same as for the real thing.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use snapreach::{
    lab::{Lab, LabSpec},
    model::{
        Assessment, Confidence, Control, Evidence, Finding, Hop, IcmpError, IcmpFamily, Record, Route, Status, Target,
    },
    plan::{Dns, Family, NameServer, Plan, Played, PlayedFailure, SystemResolver},
};
use socket2::{Domain, Socket, Type};

use crate::support::measure;

/// An address of the lab's storage.
const HTTPS: &str = "20.60.222.132:443";
const HTTP: &str = "20.60.222.132:80";

fn run(targets: &[&str], change: impl FnOnce(&mut Plan)) -> (Record, Assessment) {
    let lab = Lab::start(&LabSpec::default()).unwrap();
    let network = lab.network();
    let mut plan = Plan {
        targets: targets.iter().flat_map(|target| Target::parse(target, &[443]).unwrap()).collect(),
        routes: vec![Route::Direct],
        dns: Dns { system: SystemResolver::Stub(network.dns), server: NameServer::Off, ..Dns::default() },
        dial: network.dial.clone(),
        ..Plan::default()
    };
    plan.budgets.attempts = 1;
    plan.budgets.connect = Duration::from_secs(1);
    plan.budgets.layer = Duration::from_secs(1);
    change(&mut plan);
    measure(plan)
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tcp(text: &str) -> String {
    format!("tcp://{text}")
}

fn icmp(code: u8, sender: &str) -> IcmpError {
    IcmpError { family: IcmpFamily::V4, kind: 3, code, sender: sender.parse().ok() }
}

fn fails(errno: i32, icmp: Option<IcmpError>) -> Played {
    Played { failure: Some(PlayedFailure { errno, icmp }), ..Played::default() }
}

fn routers(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

#[track_caller]
fn find<'a>(assessment: &'a Assessment, code: &str) -> &'a Finding {
    let found = assessment.findings.iter().find(|finding| finding.code.0 == code);
    found.unwrap_or_else(|| panic!("no {code} among {:#?}", assessment.findings))
}

#[test]
fn every_refusal_of_the_kernel_has_its_code() {
    for (errno, icmp, code, hop) in [
        (libc::EMFILE, None, "local.fd_exhausted", Hop::Local),
        (libc::ENFILE, None, "local.fd_exhausted", Hop::Local),
        (libc::EADDRNOTAVAIL, None, "local.ports_exhausted", Hop::Local),
        (libc::ENOBUFS, None, "local.no_buffers", Hop::Local),
        (libc::EACCES, None, "local.denied", Hop::Local),
        (libc::EPERM, None, "local.denied", Hop::Local),
        (libc::ENETUNREACH, None, "local.no_route", Hop::Local),
        (libc::ENETDOWN, None, "local.network_down", Hop::Local),
        (libc::EAFNOSUPPORT, None, "local.family_unsupported", Hop::Local),
        (libc::EHOSTUNREACH, Some(icmp(1, "10.1.0.4")), "tcp.unreachable", Hop::ClientToOrigin),
        (libc::ENETUNREACH, Some(icmp(0, "10.1.0.4")), "tcp.unreachable", Hop::ClientToOrigin),
        (libc::EHOSTUNREACH, Some(icmp(13, "10.1.0.4")), "tcp.admin_prohibited", Hop::ClientToOrigin),
    ] {
        let (record, got) = run(&[&tcp(HTTPS)], |plan| _ = plan.dial.played.insert(at(HTTPS), fails(errno, icmp)));
        let error = io::Error::from_raw_os_error(errno);
        let [finding] = &got.findings[..] else { panic!("{error}: {:#?}", got.findings) };
        assert_eq!((finding.code.0, finding.hop, finding.confidence), (code, hop, Confidence::Proof), "{error}");
        assert_eq!(got.verdict.status, Status::Blocked, "{error}");
        let (step, failure) = record.observations[0].failed().unwrap();
        assert_eq!((failure.errno, &failure.raw), (Some(errno), &error.to_string()));
        let Evidence::Connect(connect) = &step.evidence else { panic!("{step:?}") };
        assert_eq!(connect.icmp, icmp);
        let says_sender = finding.evidence.iter().any(|line| line.ends_with("from 10.1.0.4"));
        assert_eq!(says_sender, icmp.is_some(), "{:?}", finding.evidence);
    }
}

/// A port whose SYNs stay unanswered: it listens with the shortest queue, which one connection fills.
struct Silent {
    address: SocketAddr,
    _listener: Socket,
    _filler: TcpStream,
}

impl Silent {
    fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&at("127.0.0.1:0").into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        Self { address, _filler: TcpStream::connect(address).unwrap(), _listener: listener }
    }
}

/// The path of the trace to this address, as `(address, reached)`.
fn path(record: &Record, peer: &str) -> Vec<(Option<IpAddr>, bool)> {
    let traces = record.observations.iter().filter(|seen| seen.control == Some(Control::Trace));
    let trace = traces.into_iter().find(|seen| seen.address == Some(at(peer))).expect("a trace");
    let Evidence::Connect(connect) = &trace.steps[0].evidence else { panic!("{trace:?}") };
    connect.path.iter().map(|router| (router.ip, router.reached)).collect()
}

#[test]
fn a_trace_names_the_router_behind_which_the_syn_vanishes() {
    let silent = Silent::open();
    let way = routers(&["10.0.0.1", "10.1.0.4"]);
    let played = Played { routers: way.clone(), failure: None };
    let (record, got) = run(&[&tcp(HTTPS)], |plan| {
        plan.trace = true;
        plan.dial.addresses.insert(at(HTTPS), silent.address);
        plan.dial.played.insert(at(HTTPS), played.clone());
    });
    find(&got, "tcp.connect_timeout");
    let finding = find(&got, "path.blocked_after");
    assert_eq!(finding.confidence, Confidence::Heuristic);
    assert!(finding.summary.ends_with("vanishes after hop 2 (10.1.0.4)"), "{}", finding.summary);
    let path_seen = path(&record, HTTPS);
    assert_eq!(path_seen[..2], [(Some(way[0]), false), (Some(way[1]), false)]);
    assert!(path_seen[2..].iter().all(|router| *router == (None, false)));

    // Another port gets further over the same routers: no longer a guess.
    let further = Played { routers: routers(&["10.0.0.1", "10.1.0.4", "10.1.0.9"]), failure: None };
    let (record, got) = run(&[&tcp(HTTPS), &tcp(HTTP)], |plan| {
        plan.trace = true;
        plan.dial.addresses.insert(at(HTTPS), silent.address);
        plan.dial.played.extend([(at(HTTPS), played), (at(HTTP), further)]);
    });
    assert_eq!(find(&got, "path.blocked_after").confidence, Confidence::Differential, "{:#?}", got.findings);
    assert_eq!(path(&record, HTTP).last(), Some(&(Some("127.0.0.1".parse().unwrap()), true)));
}

#[test]
fn a_router_that_rejects_the_syn_is_proof() {
    let played =
        Played { routers: routers(&["10.0.0.1", "10.1.0.4"]), ..fails(libc::EHOSTUNREACH, Some(icmp(13, "10.1.0.4"))) };
    let (record, got) = run(&[&tcp(HTTPS)], |plan| {
        plan.trace = true;
        plan.dial.played.insert(at(HTTPS), played);
    });
    find(&got, "tcp.admin_prohibited");
    let finding = find(&got, "path.blocked_after");
    assert_eq!(finding.confidence, Confidence::Proof);
    assert!(finding.summary.contains("hop 2 (10.1.0.4) rejects the SYN"), "{}", finding.summary);
    assert_eq!(path(&record, HTTPS).len(), 3);
}

#[test]
fn a_deadline_shorter_than_a_silence_is_no_finding_about_the_peer() {
    let silent = Silent::open();
    let (_, got) = run(&[&tcp(HTTPS), &tcp(HTTP)], |plan| {
        plan.budgets.connect = Duration::from_secs(10);
        plan.budgets.deadline = Duration::from_millis(300);
        plan.dial.addresses.insert(at(HTTPS), silent.address);
    });
    let finding = find(&got, "meta.deadline");
    assert_eq!((finding.targets.as_slice(), got.findings.len()), (&[HTTPS.to_owned()][..], 1));
    assert_eq!(got.verdict.status, Status::Inconclusive);
}

#[test]
fn an_address_of_the_other_family_is_not_run() {
    let (_, got) = run(&[&tcp(HTTPS)], |plan| plan.source.family = Some(Family::V6));
    let finding = find(&got, "meta.not_run");
    assert_eq!(got.findings.len(), 1, "{:#?}", got.findings);
    assert!(finding.evidence[0].contains("not of the address family"), "{:?}", finding.evidence);
    assert_eq!((got.verdict.status, got.verdict.exit_code), (Status::Inconclusive, 3));
}
