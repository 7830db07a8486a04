//! What exchanges with an origin of snapreach's own show only together: with each other, and with what the origin tells
//! over another connection.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use super::{super::case::with_catalogue, Case, View, Walk, differential};
use crate::{
    classify::{codes as c, rules::Judged},
    exchange::Exchange,
    model::{Confidence, Control, ExchangeEvidence, FailureKind, Hop, Party, Route, Severity},
};

/// One attempt of one series of walks.
type Attempt = (Arc<str>, Route, Option<SocketAddr>, u16);

pub(super) fn compare(case: &mut Case<'_>) {
    if case.walks.iter().all(|walk| walk.view.exchange().is_none()) {
        return;
    }
    recalls(case);
    known_origins(case);
    for walk in &mut case.walks {
        if let (Some(judged), Some(exchange)) = (walk.judged, walk.view.exchange()) {
            walk.note = walk.note.take().or_else(|| note(judged, exchange, failed_as(walk.view)));
        }
    }
}

/// What is tried again in every attempt of an exchange.
pub(super) type Subject = (Arc<str>, Route, Exchange);

pub(super) fn subject(walk: &Walk<'_>) -> Option<Subject> {
    let observation = walk.view.observation;
    Some((Arc::clone(&observation.subject), observation.route, walk.view.exchange()?.exchange))
}

/// Which exchanges passed in some attempt.
pub(super) fn passed(case: &Case<'_>) -> HashSet<Subject> {
    case.walks.iter().filter(|walk| !walk.failed && !walk.cancelled).filter_map(subject).collect()
}

fn failed_as(view: View<'_>) -> Option<FailureKind> {
    view.observation.failed().map(|(_, failure)| failure.kind)
}

/// After the origin half-closed only the origin knows what still arrives: the client asks for it over a new connection.
fn recalls(case: &mut Case<'_>) {
    let attempt = |view: View<'_>| -> Attempt {
        let o = view.observation;
        (Arc::clone(&o.subject), o.route, o.address, o.attempt)
    };
    let recalls = case.controls.iter().filter(|view| view.observation.control == Some(Control::Recall));
    let told: HashMap<Attempt, View<'_>> = recalls.map(|&view| (attempt(view), view)).collect();
    for walk in case.walks.iter_mut().filter(|walk| walk.judged.is_none()) {
        let asked = walk.view.exchange().is_some_and(|e| e.exchange == Exchange::HalfCloseByOrigin);
        if !asked {
            continue;
        }
        let Some(recall) = told.get(&attempt(walk.view)) else {
            not_told(walk);
            continue;
        };
        match (failed_as(*recall), walk.view.is_tunnelled()) {
            (None, _) => {}
            (Some(FailureKind::Lost | FailureKind::Differs), true) => {
                let broken = Judged {
                    code: c::TUNNEL_HALF_CLOSE_BROKEN,
                    hop: Hop::ClientToOrigin,
                    severity: Severity::Warning,
                    confidence: Confidence::Proof,
                    party: Party::Proxy,
                };
                walk.judged = Some(with_catalogue(broken));
                let received = recall.exchange().and_then(|e| e.received).unwrap_or(0);
                walk.note = Some(format!(
                    "after the endpoint half-closed, {received} of the bytes sent to it arrived in order"
                ));
            }
            (Some(_), _) => not_told(walk),
        }
    }
}

/// What is not known is neither a pass nor a failure.
fn not_told(walk: &mut Walk<'_>) {
    walk.judged = Some(with_catalogue(Judged {
        code: c::META_NOT_RUN,
        hop: Hop::Local,
        severity: Severity::Warning,
        confidence: Confidence::Proof,
        party: Party::Client,
    }));
    walk.cancelled = true;
    walk.note = Some("the endpoint did not tell what arrived after it had half-closed".into());
}

/// Where the origin is known to be snapreach's own, from another walk, foreign bytes are the tunnel's; and a tunnel that
/// only falls silent when bytes went along with the CONNECT lost them.
fn known_origins(case: &mut Case<'_>) {
    let mut known: HashSet<usize> = HashSet::new();
    let mut through_proxy: HashSet<usize> = HashSet::new();
    for walk in &case.walks {
        if walk.view.exchange().is_some_and(|e| e.origin_proved) {
            known.extend(&walk.targets);
            if walk.view.is_tunnelled() && walk.judged.is_none() {
                through_proxy.extend(&walk.targets);
            }
        }
    }
    for walk in case.walks.iter_mut().filter(|walk| walk.view.is_tunnelled()) {
        let Some(exchange) = walk.view.exchange().filter(|e| !e.origin_proved) else { continue };
        let among = |set: &HashSet<usize>| walk.targets.iter().any(|target| set.contains(target));
        match failed_as(walk.view) {
            Some(FailureKind::Foreign)
                if among(&known) && walk.judged.is_some_and(|judged| judged.code == c::HTTP_WRONG_SPEAKER) =>
            {
                let changed = differential(c::TUNNEL_CORRUPTED, Hop::ClientToOrigin, Severity::Error, Party::Proxy);
                walk.judged = Some(changed);
                walk.note = Some("another exchange proves that the endpoint is snapreach's own origin".into());
            }
            Some(FailureKind::TimedOut | FailureKind::Closed | FailureKind::Reset)
                if exchange.exchange == Exchange::EarlyData && among(&through_proxy) =>
            {
                let lost =
                    differential(c::TUNNEL_EARLY_DATA_LOST, Hop::ClientToOrigin, Severity::Warning, Party::Proxy);
                walk.judged = Some(lost);
                walk.failed = false;
                walk.note = Some("the same tunnel works when the client waits for the 200".into());
            }
            _ => {}
        }
    }
}

/// What makes a conclusion specific.
fn note(judged: Judged, exchange: &ExchangeEvidence, kind: Option<FailureKind>) -> Option<String> {
    match judged.code {
        c::TUNNEL_IDLE_CUT => {
            let idle = Duration::from_micros(exchange.idle_us?);
            Some(format!("after {:.1} s without a byte", idle.as_secs_f64()))
        }
        c::TUNNEL_HALF_CLOSE_BROKEN => Some(match exchange.exchange {
            Exchange::HalfCloseByOrigin => "when the endpoint half-closes".into(),
            _ => "when this side half-closes".into(),
        }),
        c::TUNNEL_EARLY_DATA_LOST if kind == Some(FailureKind::Lost) => {
            Some("what is sent after the 200 arrives".into())
        }
        _ => None,
    }
}
