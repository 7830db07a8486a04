//! Follows a SYN hop by hop: each router that it may not pass says so, and the socket's error queue says who that was.
//! Needs no privilege, unlike any trace with raw sockets.

use std::{mem::take, net::SocketAddr, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{
    net::{self, Tuning},
    recorder::{Recorder, Slot, micros},
    walk::{Course, Shared},
};
use crate::{
    model::{ConnectEvidence, Evidence, Failure, FailureKind, IcmpError, IcmpFamily, Leg, Router, TcpInfo},
    plan::{Played, Source},
};

/// Sockets of one trace at once.
pub(super) const WIDTH: usize = 8;

/// No path is longer: the customary limit of traceroute(8).
const MAX_TTL: u8 = 30;

/// After so many silent hops nobody is expected to answer any more.
const SILENT: usize = 5;

/// How long a hop may take. The kernel repeats the SYN after one second and after two or three (RFC 6298 section 2), so
/// that an answer that was lost, or held back by a router's rate limit, does not look like silence.
const PATIENCE: Duration = Duration::from_millis(3300);

/// The one step of a trace.
pub(super) async fn walk(recorder: &mut Recorder, shared: &Shared, course: &Course, leg: Leg) {
    let budget = shared.plan.budgets.layer;
    let played = shared.plan.dial.played.get(&course.peer);
    let mut slot = Path(net::Attempt::new(course.peer, course.dialled).complete(None));
    let _ = recorder
        .step(leg, budget, &mut slot, async |slot: &mut Path| {
            follow(&mut slot.0, &shared.plan.source, played, course.sockets, budget).await
        })
        .await;
}

struct Path(ConnectEvidence);

impl Slot for Path {
    fn finish(&mut self, _: Option<&Failure>, _: Option<TcpInfo>) -> Evidence {
        Evidence::Connect(ConnectEvidence { path: take(&mut self.0.path), ..self.0 })
    }
}

/// Fills the path in, batch by batch, until something other than a router on the way answers, or nobody does.
async fn follow(
    evidence: &mut ConnectEvidence,
    source: &Source,
    played: Option<&Played>,
    sockets: usize,
    budget: Duration,
) -> Result<(), Failure> {
    let to = evidence.dialled.unwrap_or(evidence.peer);
    let width = sockets.clamp(1, WIDTH);
    let deadline = Instant::now() + budget;
    for batch in (1..=MAX_TTL).collect::<Vec<_>>().chunks(width) {
        let start = evidence.path.len();
        // Never all of what is left, so that the trace ends by itself before the step's budget does.
        let patience = PATIENCE.min(deadline.saturating_duration_since(Instant::now()) / 2);
        let mut answers: Vec<Option<Answer>> = batch.iter().map(|_| None).collect();
        evidence.path.extend(batch.iter().map(|&ttl| silent(ttl)));
        let mut probes = JoinSet::new();
        for (at, &ttl) in batch.iter().enumerate() {
            let (source, played) = (source.clone(), played.cloned());
            probes.spawn(async move { (at, probe(to, &source, played.as_ref(), ttl, patience).await) });
        }
        while let Some(joined) = probes.join_next().await {
            let Ok((at, answer)) = joined else { continue };
            evidence.local = evidence.local.or(answer.local);
            evidence.path[start + at] = answer.router;
            answers[at] = Some(answer);
            // The first end counts, once all nearer hops have spoken or had their time.
            let ready = answers.iter().map_while(Option::as_ref);
            let Some((at, end)) = ready.enumerate().find_map(|(at, answer)| Some((at, answer.end.clone()?))) else {
                continue;
            };
            evidence.path.truncate(start + at + 1);
            evidence.icmp = evidence.path.last().and_then(|router| router.icmp);
            return end;
        }
        if evidence.path.iter().rev().take_while(|router| router.ip.is_none()).count() >= SILENT {
            break;
        }
    }
    let said = format!("SYNs that may pass up to {} routers are not answered by {to}", evidence.path.len());
    Err(Failure::new(FailureKind::TimedOut, said))
}

fn silent(ttl: u8) -> Router {
    Router { ttl, ip: None, rtt_us: None, icmp: None, reached: false }
}

/// What one SYN brought back.
struct Answer {
    router: Router,
    local: Option<SocketAddr>,
    /// Set where the path ends: it was accepted, or it was refused, rejected or not even sent.
    end: Option<Result<(), Failure>>,
}

async fn probe(to: SocketAddr, source: &Source, played: Option<&Played>, ttl: u8, patience: Duration) -> Answer {
    let mut attempt = net::Attempt::new(to, to);
    let tuning = Tuning { ttl: Some(ttl), ..Tuning::default() };
    let sent = Instant::now();
    let result = timeout(patience, net::connect(&mut attempt, source, tuning, played)).await;
    let elapsed = micros(sent.elapsed());
    let failure = match &result {
        Ok(connected) => connected.as_ref().err().cloned(),
        Err(_) => Some(Failure::new(FailureKind::TimedOut, "no answer")),
    };
    let evidence = attempt.complete(failure.as_ref());
    let (icmp, local) = (evidence.icmp, evidence.local);
    // An answer after a repetition belongs to nobody knows which SYN (Karn's algorithm).
    let repeated = evidence.tcp.is_some_and(|tcp| tcp.retransmitted > 0);
    let rtt_us = (!repeated).then_some(elapsed);
    let sender = icmp.and_then(|icmp| icmp.sender);
    let peer = Some(to.ip());
    let (router, end) = match result {
        Err(_) => (silent(ttl), None),
        Ok(Ok(_)) => (Router { ttl, ip: peer, rtt_us, icmp: None, reached: true }, Some(Ok(()))),
        Ok(Err(_)) if icmp.is_some_and(is_time_exceeded) => {
            (Router { ttl, ip: sender, rtt_us, icmp: None, reached: false }, None)
        }
        Ok(Err(failure)) => {
            let from_network = icmp.is_some_and(|icmp| icmp.family != IcmpFamily::Local);
            let reset = !from_network && matches!(failure.kind, FailureKind::Refused | FailureKind::Reset);
            let ip = if reset { peer } else { sender };
            let reached = reset || (from_network && ip == peer);
            (Router { ttl, ip, rtt_us, icmp, reached }, Some(Err(failure)))
        }
    };
    Answer { router, local, end }
}

/// Type 11 of ICMP (RFC 792), type 3 of `ICMPv6` (RFC 4443 section 3.3).
fn is_time_exceeded(icmp: IcmpError) -> bool {
    matches!((icmp.family, icmp.kind), (IcmpFamily::V4, 11) | (IcmpFamily::V6, 3))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    async fn follow_to(to: SocketAddr, sockets: usize, budget: Duration) -> (ConnectEvidence, Result<(), Failure>) {
        let mut evidence = net::Attempt::new(to, to).complete(None);
        let result = follow(&mut evidence, &Source::default(), None, sockets, budget).await;
        (evidence, result)
    }

    #[tokio::test]
    async fn a_peer_on_this_machine_is_reached_at_the_first_hop() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let (evidence, result) = follow_to(to, WIDTH, Duration::from_secs(10)).await;
        assert!(result.is_ok());
        assert!(matches!(evidence.path[..], [Router { ttl: 1, ip, reached: true, .. }] if ip == Some(to.ip())));
        drop(listener);
        let (evidence, result) = follow_to(to, 1, Duration::from_secs(10)).await;
        assert_eq!(result.unwrap_err().kind, FailureKind::Refused);
        assert!(evidence.path.len() == 1 && evidence.path[0].reached && evidence.path[0].icmp.is_none());
    }

    #[tokio::test]
    async fn silence_ends_a_trace_long_before_the_last_hop() {
        // A full accept queue drops SYNs as a firewall does.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let to = socket.local_addr().unwrap().as_socket().unwrap();
        let _first = std::net::TcpStream::connect(to).unwrap();
        let (evidence, result) = follow_to(to, 3, Duration::from_secs(2)).await;
        assert_eq!(result.unwrap_err().kind, FailureKind::TimedOut);
        assert_eq!(evidence.path.iter().map(|router| router.ttl).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert!(evidence.path.iter().all(|router| router.ip.is_none()));
    }
}
