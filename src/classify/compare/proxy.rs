//! What a proxy lets through compared with what it refuses.

use std::collections::{HashMap, HashSet};

use super::differential;
use crate::{
    classify::{
        case::{Case, Sign, Tally},
        codes as c, proxy_reply,
        view::{At, View, split_authority},
    },
    model::{Confidence, Hop, Layer, Leg, Party, Route, Severity},
};

/// What a CONNECT was for.
fn authority(view: View<'_>) -> Option<(&str, u16)> {
    let tunnel = view.at(Layer::Tunnel, Leg::Proxy)?.tunnel()?;
    split_authority(&tunnel.authority)
}

/// A refusal of unknown scope: is it the port, the host, or this client? What else was allowed tells.
pub(super) fn scope_of_denials(case: &mut Case<'_>) {
    let mut allowed_ports: HashMap<String, Vec<u16>> = HashMap::new();
    let mut allowed_hosts: HashMap<u16, String> = HashMap::new();
    let mut denied_hosts: HashSet<String> = HashSet::new();
    let mut other_outcome = false;
    for view in case.walks.iter().map(|walk| walk.view).chain(case.controls.iter().copied()) {
        let (Some(at), Some((host, port))) = (view.at(Layer::Tunnel, Leg::Proxy), authority(view)) else { continue };
        if at.failure().is_none() {
            let ports = allowed_ports.entry(host.to_owned()).or_default();
            if !ports.contains(&port) {
                ports.push(port);
            }
            let least = allowed_hosts.entry(port).or_insert_with(|| host.to_owned());
            if host < least.as_str() {
                host.clone_into(least);
            }
        } else if is_denied(view) {
            denied_hosts.insert(host.to_owned());
        } else {
            other_outcome = true;
        }
    }
    for walk in &mut case.walks {
        let Some(judged) = walk.judged.as_mut().filter(|judged| judged.code == c::PROXY_REQUEST_DENIED) else {
            continue;
        };
        let Some((host, port)) = authority(walk.view) else { continue };
        let ports = allowed_ports.get(host).map(Vec::as_slice).unwrap_or_default();
        if ports.contains(&port) {
            continue; // The same CONNECT was allowed another time: neither port nor host decides.
        }
        let (code, note) = if let Some(other) = ports.iter().min() {
            (c::PROXY_PORT_DENIED, format!("the proxy allows port {other} of the same host"))
        } else if let Some(other) = allowed_hosts.get(&port) {
            (c::PROXY_HOST_DENIED, format!("the proxy allows port {port} of {other}"))
        } else if allowed_hosts.is_empty() && !other_outcome && denied_hosts.len() >= 2 {
            (c::PROXY_CLIENT_DENIED, format!("the proxy refuses every CONNECT, to {} hosts", denied_hosts.len()))
        } else {
            continue;
        };
        judged.code = code;
        judged.confidence = Confidence::Differential;
        walk.note = Some(note);
    }
}

fn is_denied(view: View<'_>) -> bool {
    let tunnel = view.at(Layer::Tunnel, Leg::Proxy).and_then(At::tunnel);
    tunnel.and_then(|tunnel| tunnel.reply.as_ref()).is_some_and(proxy_reply::is_denial)
}

/// A 200 that promises what the proxy does not have: the tunnel carries nothing, and the endpoint is known not to be
/// reachable, or the proxy says so itself inside the tunnel.
pub(super) fn optimistic_connect(case: &mut Case<'_>, tallies: &[Tally]) {
    let mut unreachable: HashSet<usize> = HashSet::new();
    for walk in case.walks.iter().filter(|walk| walk.view.observation.route == Route::Direct) {
        let refused = walk.view.at(Layer::Connect, Leg::Origin).is_some_and(|at| at.failure().is_some());
        let steady = case.cells_of(walk).all(|cell| tallies[cell].always_fails());
        if refused && steady && walk.failed {
            unreachable.extend(&walk.targets);
        }
    }
    for lookup in case.lookups.iter().filter(|lookup| lookup.view.observation.route == Route::Direct) {
        if lookup.judged.is_some_and(|judged| judged.code == c::DNS_NXDOMAIN && judged.severity == Severity::Error) {
            unreachable.extend(&lookup.targets);
        }
    }
    let mut found = Vec::new();
    for walk in case.walks.iter().filter(|walk| walk.failed && walk.view.is_tunnelled()) {
        let opened = walk.view.at(Layer::Tunnel, Leg::Proxy).is_some_and(|at| at.failure().is_none());
        let Some(judged) = walk.judged.filter(|_| opened) else { continue };
        let empty = matches!(judged.code, c::TUNNEL_CLOSED | c::TUNNEL_RESET | c::TUNNEL_SILENT);
        let confessed =
            walk.view.last().is_some_and(|at| at.step.layer() == Layer::Handshake && at.failure().is_some())
                && matches!(judged.hop, Hop::Proxy | Hop::ProxyToOrigin)
                && judged.code != c::PROXY_NOT_A_PROXY;
        let known = walk.targets.iter().any(|target| unreachable.contains(target));
        if confessed || (empty && known) {
            let warning = differential(c::PROXY_OPTIMISTIC_CONNECT, Hop::Proxy, Severity::Warning, Party::Proxy);
            let sign = Sign::about(warning, Some(Route::Proxy), walk.targets.clone()).seen(walk.view);
            let note = if confessed {
                "after its 200 the proxy writes an error page into the tunnel"
            } else {
                "the proxy answers 200, but nothing comes back, and the endpoint cannot be reached directly either"
            };
            found.push(Sign { note: Some(note.into()), ..sign });
        }
    }
    case.extra.extend(found);
}
