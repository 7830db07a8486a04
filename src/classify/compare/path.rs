//! Where on the way a SYN ends: the traces of failed connects, compared with traces to other ports of the same address.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use super::{differential, rules};
use crate::{
    classify::{
        case::{Case, Sign, Walk},
        codes as c,
        rules::Judged,
        text,
        view::View,
    },
    model::{Confidence, ConnectEvidence, Control, FailureKind, Hop, Layer, Leg, Party, Route, Router, Severity},
};

/// One trace, to one address and port over one route.
#[derive(Clone, Copy)]
struct Trace<'a> {
    view: View<'a>,
    address: SocketAddr,
    connect: &'a ConnectEvidence,
    leg: Leg,
}

/// What a trace says about the way.
enum Found {
    /// The SYN gets no further than a router: how sure, how so, and the trace that shows another port getting further.
    Ends { confidence: Confidence, how: String, compared: Option<String> },
    /// It names no router: a remark on the failure itself.
    Remark(String),
}

/// Names the router after which failed connects end.
pub(super) fn blocked_after(case: &mut Case<'_>) {
    let traces: Vec<Trace<'_>> = case.controls.iter().filter_map(|&view| Trace::of(view)).collect();
    if traces.is_empty() {
        return;
    }
    // The targets whose connect failed where a trace went.
    let mut failed: HashMap<(SocketAddr, Route), BTreeSet<usize>> = HashMap::new();
    for walk in case.walks.iter().filter(|walk| failed_to_connect(walk)) {
        if let Some(address) = walk.view.observation.address {
            failed.entry((address, walk.view.observation.route)).or_default().extend(&walk.targets);
        }
    }
    let mut shown: HashSet<String> = HashSet::new();
    let mut remarks: HashMap<(SocketAddr, Route), String> = HashMap::new();
    for trace in &traces {
        let key = (trace.address, trace.view.observation.route);
        let Some(targets) = failed.get(&key) else { continue };
        match trace.judge(&traces) {
            Some(Found::Ends { confidence, how, compared }) => {
                let hop = rules::between(trace.leg);
                let judged = differential(c::PATH_BLOCKED_AFTER, hop, Severity::Info, Party::Path);
                let about =
                    Sign::about(Judged { confidence, ..judged }, Some(key.1), targets.iter().copied().collect());
                // What several are compared with is shown once.
                let line = compared.filter(|line| shown.insert(line.clone()));
                case.extra.push(Sign {
                    view: Some(trace.view),
                    note: Some(how),
                    lines: line.into_iter().collect(),
                    ..about
                });
            }
            Some(Found::Remark(remark)) => _ = remarks.insert(key, remark),
            None => {}
        }
    }
    for walk in case.walks.iter_mut().filter(|walk| failed_to_connect(walk)) {
        let route = walk.view.observation.route;
        let remark = walk.view.observation.address.and_then(|address| remarks.get(&(address, route)));
        if let Some(remark) = remark {
            walk.note = Some(walk.note.take().map_or_else(|| remark.clone(), |note| format!("{note}; {remark}")));
        }
    }
}

/// Whether the network, not this machine, kept the walk from its first peer.
fn failed_to_connect(walk: &Walk<'_>) -> bool {
    let at_connect = walk.view.last().is_some_and(|at| at.step.layer() == Layer::Connect && at.failure().is_some());
    at_connect && walk.judged.is_some_and(|judged| judged.hop != Hop::Local)
}

impl<'a> Trace<'a> {
    fn of(view: View<'a>) -> Option<Self> {
        let at = view.last().filter(|_| view.observation.control == Some(Control::Trace))?;
        let connect = at.connect()?;
        Some(Self { view, address: view.observation.address?, connect, leg: at.step.leg })
    }

    /// Routers that let the SYN pass to them, nearest first, and did not mind it.
    fn routers(&self) -> impl DoubleEndedIterator<Item = (u8, IpAddr)> + 'a {
        let passed = self.connect.path.iter().filter(|router| router.icmp.is_none() && !router.reached);
        passed.filter_map(|router| Some((router.ttl, router.ip?)))
    }

    /// Where the SYN came back to a router that it had left. Once may be the mixture of two ways of different length;
    /// more often is a loop.
    fn loops(&self) -> Option<(u8, IpAddr)> {
        let routers: Vec<_> = self.routers().collect();
        let mut seen = HashSet::new();
        let left = routers.chunk_by(|a, b| a.1 == b.1).filter_map(|run| run.first().copied());
        let back: Vec<_> = left.filter(|&(_, ip)| !seen.insert(ip)).collect();
        back.first().copied().filter(|_| back.len() > 1)
    }

    /// At how many hops the address answered, if it did.
    fn arrival(&self) -> Option<u8> {
        self.connect.path.iter().find(|router| router.reached).map(|router| router.ttl)
    }

    /// Traces to other ports of the same address over the same route that arrived, and how far away that was; the
    /// furthest first.
    fn others<'t>(&self, traces: &'t [Self]) -> Vec<(&'t Self, u8)> {
        let elsewhere = |other: &&Self| {
            other.address.ip() == self.address.ip()
                && other.address.port() != self.address.port()
                && other.view.observation.route == self.view.observation.route
        };
        let arrived = traces.iter().filter(elsewhere).filter_map(|other| Some((other, other.arrival()?)));
        let mut others: Vec<_> = arrived.collect();
        others.sort_by_key(|(other, arrival)| (std::cmp::Reverse(*arrival), other.address.port()));
        others
    }

    fn judge(&self, traces: &[Self]) -> Option<Found> {
        if let Some(end) = self.connect.path.iter().find(|router| router.icmp.is_some() && !router.reached) {
            return self.rejected(end);
        }
        let last = self.routers().next_back();
        let others = self.others(traces);
        if let Some(ttl) = self.arrival() {
            return Some(self.answered(ttl, last, others.first().copied()));
        }
        let cancelled =
            self.view.observation.failed().is_some_and(|(_, failure)| failure.kind == FailureKind::Cancelled);
        if cancelled {
            return Some(Found::Remark("the run ended before a trace did".to_owned()));
        }
        let Some((ttl, ip)) = last else {
            return Some(Found::Remark("no router on the way answers a trace".to_owned()));
        };
        if let Some((ttl, ip)) = self.loops() {
            return Some(Found::Remark(format!("a trace comes back to {ip} at hop {ttl}: a routing loop")));
        }
        if self.connect.path.last().is_some_and(|router| router.ip.is_some()) {
            return Some(Found::Remark(format!("a trace passes {ttl} routers and does not arrive")));
        }
        let vanishes = format!("the SYN to {} vanishes after hop {ttl} ({ip})", self.address);
        let passing = others.into_iter().find(|(other, _)| other.routers().any(|(_, router)| router == ip));
        Some(match passing {
            Some((other, arrival)) => Found::Ends {
                confidence: Confidence::Differential,
                how: format!(
                    "{vanishes}, while one to port {} passes it and arrives at hop {arrival}",
                    other.address.port()
                ),
                compared: Some(text::path_line(other.address, &other.connect.path)),
            },
            None => Found::Ends { confidence: Confidence::Heuristic, how: vanishes, compared: None },
        })
    }

    /// An answer in the name of the address: only the address itself can be as far away as the address, so a nearer
    /// refusal is somebody else's.
    fn answered(&self, ttl: u8, last: Option<(u8, IpAddr)>, furthest: Option<(&Self, u8)>) -> Found {
        if self.view.observation.failed().is_none() {
            return Found::Remark(format!("a trace connects, over {ttl} hops"));
        }
        let Some((other, arrival)) = furthest.filter(|&(_, arrival)| arrival > ttl) else {
            return Found::Remark(format!("the refusal comes from hop {ttl}"));
        };
        let port = other.address.port();
        let after = last.map_or_else(String::new, |(ttl, ip)| format!(", right after hop {ttl} ({ip})"));
        Found::Ends {
            confidence: Confidence::Differential,
            how: format!(
                "the refusal by {} comes from hop {ttl}{after}, but a SYN to port {port} arrives only at hop {arrival}",
                self.address
            ),
            compared: Some(text::path_line(other.address, &other.connect.path)),
        }
    }

    /// A router that says itself that it does not let the SYN pass; `None` where that is this machine.
    fn rejected(&self, end: &Router) -> Option<Found> {
        let (ip, icmp) = (end.ip?, end.icmp?);
        if self.connect.local.is_some_and(|local| local.ip() == ip) {
            return None;
        }
        // A router looks at the hop limit first, and rejects only what could go on.
        let ttl = self.routers().find(|&(_, router)| router == ip).map_or(end.ttl, |(ttl, _)| ttl);
        let how = format!(
            "hop {ttl} ({ip}) rejects the SYN to {}, with ICMP type {} code {}",
            self.address, icmp.kind, icmp.code
        );
        Some(Found::Ends { confidence: Confidence::Proof, how, compared: None })
    }
}
