//! What only several observations together can tell. Each comparison may change what was concluded about a walk, make
//! it surer, or add a conclusion of its own; none looks at a pair of walks, so that thousands of targets stay cheap.

mod dns;
mod exchange;
mod path;
mod proxy;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
};

use super::{
    case::{Case, Sign, Tally, Walk, with_catalogue},
    rules::{self, Judged},
    view::View,
};
use crate::{
    azure::{
        issuer,
        snapshot::{Build, STORAGE_PORT},
    },
    classify::codes as c,
    model::{
        Code, Confidence, Control, Expectation, FailureKind, Hop, Host, Layer, Leg, Party, Route, Severity, Target,
        Verification,
    },
};

/// A comparison, given how many attempts of each cell passed.
type Comparison = fn(&mut Case<'_>, &[Tally]);

/// All comparisons, in the order in which they build on each other.
const COMPARISONS: &[(&str, Comparison)] = &[
    ("two resolvers", |case, _| dns::compare(case)),
    ("controls", |case, _| controls(case)),
    ("exchanges", |case, _| exchange::compare(case)),
    ("scope of denials", |case, _| proxy::scope_of_denials(case)),
    ("optimistic connect", proxy::optimistic_connect),
    ("other chain on other route", |case, _| other_chain_on_other_route(case)),
    ("other port answers", other_port_answers),
    ("other route works", other_route_works),
    ("port unused", port_unused),
    ("mixed attempts", mixed_attempts),
    ("blocked after", |case, _| path::blocked_after(case)),
];

/// Applies all comparisons but the one named.
pub(super) fn apply(case: &mut Case<'_>, skip: Option<&str>) {
    let tallies = case.tallies();
    for (_, comparison) in COMPARISONS.iter().filter(|(name, _)| Some(*name) != skip) {
        comparison(case, &tallies);
    }
}

/// The names of all comparisons.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    COMPARISONS.iter().map(|(name, _)| *name)
}

/// A conclusion from a comparison.
pub(super) fn differential(code: Code, hop: Hop, severity: Severity, party: Party) -> Judged {
    with_catalogue(Judged { code, hop, severity, confidence: Confidence::Differential, party })
}

// ---- controls

/// Which control passed for whom.
fn controls(case: &mut Case<'_>) {
    let mut other_name: HashMap<(String, Route, Option<SocketAddr>), String> = HashMap::new();
    let mut small_segments: HashMap<(String, Route, Option<SocketAddr>), (u32, bool)> = HashMap::new();
    let mut other_scheme: HashMap<Option<SocketAddr>, bool> = HashMap::new();
    for view in &case.controls {
        let observation = view.observation;
        let key = || (observation.subject.to_string(), observation.route, observation.address);
        match &observation.control {
            Some(Control::OtherServerName { sni }) if answers_tls(*view) => {
                other_name.insert(key(), sni.clone());
            }
            Some(Control::SmallSegments { mss }) => {
                small_segments.entry(key()).or_insert((*mss, false)).1 |= answers_tls(*view);
            }
            Some(Control::OtherProxyScheme) if proxy_answers(*view) => {
                let by_tls = view.at(Layer::Handshake, Leg::Proxy).is_some();
                other_scheme.insert(observation.address, by_tls);
            }
            _ => {}
        }
    }
    if other_name.is_empty() && small_segments.is_empty() && other_scheme.is_empty() {
        return;
    }
    for walk in case.walks.iter_mut().filter(|walk| walk.failed) {
        let Some(judged) = &mut walk.judged else { continue };
        let observation = walk.view.observation;
        let key = (observation.subject.to_string(), observation.route, observation.address);
        let Some((step, _)) = observation.failed() else { continue };
        if step.layer() == Layer::Handshake && step.leg == Leg::Origin {
            if let Some((mss, true)) = small_segments.get(&key) {
                let hop = rules::between(if walk.view.is_tunnelled() { Leg::Proxy } else { Leg::Origin });
                *judged = differential(c::PATH_MTU_BLACKHOLE, hop, Severity::Error, Party::Path);
                walk.note = Some(format!("with segments of at most {mss} bytes the same handshake succeeds"));
                continue;
            }
            if let (Some((mss, false)), c::PATH_MTU_BLACKHOLE) = (small_segments.get(&key), judged.code) {
                let hop = rules::between(Leg::Origin);
                let silent = differential(c::TLS_SILENT_AFTER_HELLO, hop, Severity::Error, Party::Path);
                *judged = Judged { confidence: Confidence::Heuristic, ..silent };
                walk.note = Some(format!("segments of at most {mss} bytes vanish as well, so size is not the reason"));
            }
            if let Some(sni) = other_name.get(&key) {
                judged.confidence = Confidence::Differential;
                let with = if sni.is_empty() { "without a server name".into() } else { format!("with the name {sni}") };
                walk.note = Some(format!("the name decides: the same address answers {with}"));
            }
        }
        let towards_proxy = matches!((step.layer(), step.leg), (Layer::Tunnel, _) | (Layer::Handshake, Leg::Proxy));
        let answered = matches!(step.failure.as_ref().map(|f| f.kind), Some(FailureKind::Status));
        if towards_proxy
            && !answered
            && let Some(&by_tls) = other_scheme.get(&observation.address)
        {
            let (code, scheme) =
                if by_tls { (c::PROXY_EXPECTS_TLS, "https") } else { (c::PROXY_EXPECTS_PLAINTEXT, "http") };
            // What the proxy said may have proved it already.
            if judged.code != code {
                *judged = differential(code, Hop::ClientToProxy, Severity::Error, Party::Client);
            }
            walk.note = Some(format!("spoken to as {scheme}:// the proxy answers"));
        }
    }
}

/// Whether a TLS server answered: the handshake is done, or at least refused by an alert.
fn answers_tls(view: View<'_>) -> bool {
    view.at(Layer::Handshake, Leg::Origin)
        .is_some_and(|at| at.failure().is_none_or(|failure| failure.kind == FailureKind::Alert))
}

/// Whether a proxy answered, whatever it said: to CONNECT, or in a TLS handshake, after which this control asks no more.
fn proxy_answers(view: View<'_>) -> bool {
    match view.at(Layer::Tunnel, Leg::Proxy) {
        Some(at) => at.failure().is_none_or(|failure| failure.kind == FailureKind::Status),
        None => view.at(Layer::Handshake, Leg::Proxy).is_some_and(|at| at.failure().is_none()),
    }
}

// ---- certificates

/// A leaf's issuer, the issuer's organisation, and whether the chain is trusted.
type Leaf = (String, Option<String>, bool);

/// A route on which an issuer shows that the other route does not know: interception, unless both belong to storage.
fn other_chain_on_other_route(case: &mut Case<'_>) {
    if case.routes.len() < 2 {
        return;
    }
    let leaf = |view: View<'_>| {
        let handshake = view.at(Layer::Handshake, Leg::Origin)?.handshake()?;
        let leaf = handshake.chain.first()?;
        Some((
            leaf.issuer.clone(),
            leaf.issuer_organization.clone(),
            handshake.verification == Some(Verification::Trusted),
        ))
    };
    // What each route shows for each target.
    let mut shown: HashMap<(usize, Route), BTreeSet<Leaf>> = HashMap::new();
    for walk in &case.walks {
        if let Some(leaf) = leaf(walk.view) {
            for &target in &walk.targets {
                shown.entry((target, walk.view.observation.route)).or_default().insert(leaf.clone());
            }
        }
    }
    let genuine = |organization: &Option<String>| organization.as_deref().is_some_and(issuer::is_genuine_organisation);
    let mut warnings = Vec::new();
    for walk in &mut case.walks {
        let route = walk.view.observation.route;
        let other = if route == Route::Direct { Route::Proxy } else { Route::Direct };
        let (Some(&target), Some((issuer, organization, trusted))) = (walk.targets.first(), leaf(walk.view)) else {
            continue;
        };
        let Some(theirs) = shown.get(&(target, other)) else { continue };
        // The other route must show storage's issuer, or at least a chain that verifies where this one does not.
        let better = theirs.iter().find(|(their_issuer, their_organization, their_trusted)| {
            *their_issuer != issuer
                && !genuine(&organization)
                && (genuine(their_organization) || (*their_trusted && !trusted))
        });
        let Some((their_issuer, ..)) = better else { continue };
        let note = format!("the {other} route shows another issuer: {their_issuer}");
        match &mut walk.judged {
            Some(judged) if judged.code == c::TLS_INTERCEPTED => walk.note = Some(note),
            Some(judged) if matches!(judged.code, c::TLS_UNKNOWN_ISSUER | c::TLS_SELF_SIGNED) => {
                *judged = differential(c::TLS_INTERCEPTED, judged.hop, Severity::Error, interceptor(route));
                walk.note = Some(note);
            }
            // Trusted after all: an authority in the system's store that signs for an inspecting proxy.
            None if trusted && !walk.view.is_storage_name() => {
                let judged =
                    differential(c::TLS_INTERCEPTED, Hop::ClientToOrigin, Severity::Warning, interceptor(route));
                warnings.push(Sign {
                    note: Some(note),
                    ..Sign::about(judged, Some(route), walk.targets.clone()).seen(walk.view)
                });
            }
            _ => {}
        }
    }
    case.extra.extend(warnings);
}

/// Who intercepts on a route.
pub(super) fn interceptor(route: Route) -> Party {
    if route == Route::Proxy { Party::Proxy } else { Party::Path }
}

// ---- other port, other route

fn failed_to_connect(judged: &Judged) -> bool {
    matches!(judged.code, c::TCP_CONNECT_TIMEOUT | c::TCP_REFUSED) && judged.hop == Hop::ClientToOrigin
}

/// A port that fails while another port of the same address answers: a filter by port.
fn other_port_answers(case: &mut Case<'_>, tallies: &[Tally]) {
    let mut open: HashMap<IpAddr, BTreeSet<u16>> = HashMap::new();
    for view in case.walks.iter().map(|walk| walk.view).chain(case.controls.iter().copied()) {
        let connected = view.at(Layer::Connect, Leg::Origin).is_some_and(|at| at.failure().is_none());
        if let (true, Some(address)) = (connected && !view.is_tunnelled(), view.observation.address) {
            open.entry(address.ip().to_canonical()).or_default().insert(address.port());
        }
    }
    let mut filtered = Vec::new();
    let cells: Vec<Vec<usize>> = case.walks.iter().map(|walk| case.cells_of(walk).collect()).collect();
    for (walk, cells) in case.walks.iter_mut().zip(cells) {
        let steady = cells.iter().all(|&cell| tallies[cell].always_fails());
        let (Some(judged), Some(address)) = (&mut walk.judged, walk.view.observation.address) else { continue };
        if !steady || walk.view.is_tunnelled() || !failed_to_connect(judged) {
            continue;
        }
        let ports = open.get(&address.ip().to_canonical());
        if let Some(port) = ports.and_then(|ports| ports.iter().find(|&&port| port != address.port())) {
            judged.confidence = Confidence::Differential;
            let note = format!("port {port} of the same address {} answers", address.ip());
            walk.note = Some(note.clone());
            let info = differential(c::TCP_PORT_FILTERED, judged.hop, Severity::Info, Party::Path);
            let sign = Sign::about(info, Some(Route::Direct), walk.targets.clone()).seen(walk.view);
            filtered.push(Sign { note: Some(note), ..sign });
        }
    }
    case.extra.extend(filtered);
}

/// A target that one route reaches and the other does not: the endpoint lives, so a guess becomes a comparison; and the
/// consumer that takes the broken route should know.
fn other_route_works(case: &mut Case<'_>, tallies: &[Tally]) {
    if case.routes.len() < 2 {
        return;
    }
    let works = |tally: Tally| tally.passed > 0 && tally.failed == 0;
    let counting = super::verdict::counting_route(case);
    let mut broken: Vec<usize> = Vec::new();
    for target in 0..case.record.targets.len() {
        let on = |route| case.cell(target, route).map_or(Tally::default(), |cell| tallies[cell]);
        let (direct, proxy) = (on(Route::Direct), on(Route::Proxy));
        let lost = match counting {
            Some(Route::Direct) => works(proxy) && direct.always_fails(),
            Some(Route::Proxy) => works(direct) && proxy.always_fails(),
            None => false,
        };
        if lost {
            broken.push(target);
        }
    }
    let other_works: HashSet<(usize, Route)> = (0..case.record.targets.len())
        .flat_map(|target| [(target, Route::Direct, Route::Proxy), (target, Route::Proxy, Route::Direct)])
        .filter(|&(target, _, other)| case.cell(target, other).is_some_and(|cell| works(tallies[cell])))
        .map(|(target, route, _)| (target, route))
        .collect();
    for walk in case.walks.iter_mut().filter(|walk| walk.failed) {
        let route = walk.view.observation.route;
        let reached = walk.targets.first().is_some_and(|&target| other_works.contains(&(target, route)));
        let Some(judged) = &mut walk.judged else { continue };
        if reached && judged.confidence > Confidence::Differential {
            judged.confidence = Confidence::Differential;
            let other = if route == Route::Direct { "through the proxy" } else { "directly" };
            walk.note.get_or_insert_with(|| format!("the same endpoint answers {other}"));
        }
    }
    if let (Some(counting), false) = (counting, broken.is_empty()) {
        let code = if counting == Route::Direct { c::CONSUMER_IGNORES_PROXY } else { c::CONSUMER_USES_PROXY };
        let judged = differential(code, Hop::Consumer, Severity::Warning, Party::Client);
        case.extra.push(Sign::about(judged, Some(counting), broken));
    }
}

// ---- ports

/// A documented port that fails while the one that the extension uses works, for whatever reason it fails. Only of the
/// Linux extension is it known that it uses no other.
fn port_unused(case: &mut Case<'_>, tallies: &[Tally]) {
    if Build::from_consumer(&case.record.context.consumer).is_none() {
        return;
    }
    let route = super::verdict::counting_route(case).unwrap_or(Route::Direct);
    let on_route = |target: usize| case.cell(target, route).map_or(Tally::default(), |cell| tallies[cell]);
    let targets = &case.record.targets;
    let storage = |target: &Target| target.expects == Expectation::Storage;
    let works = |target: usize| on_route(target).passed > 0 && on_route(target).failed == 0;
    let served: HashSet<&Host> = (0..targets.len())
        .filter(|&at| storage(&targets[at]) && targets[at].port == STORAGE_PORT && works(at))
        .map(|at| &targets[at].host)
        .collect();
    let unused: Vec<usize> = (0..targets.len())
        .filter(|&at| storage(&targets[at]) && targets[at].port != STORAGE_PORT && on_route(at).always_fails())
        .filter(|&at| served.contains(&targets[at].host))
        .collect();
    if !unused.is_empty() {
        let info = differential(c::CONSUMER_PORT_UNUSED, Hop::Consumer, Severity::Info, Party::Client);
        case.extra.push(Sign::about(info, Some(route), unused));
    }
}

// ---- attempts

/// Some attempts passed and some failed: never a plain failure, never a plain pass. When the address family tells them
/// apart, that is the finding; else the failures stay what they are, as a warning.
fn mixed_attempts(case: &mut Case<'_>, tallies: &[Tally]) {
    #[derive(Default, Clone, Copy)]
    struct Families {
        v4: Tally,
        v6: Tally,
    }
    let mut families: HashMap<usize, Families> = HashMap::new();
    for walk in case.walks.iter().filter(|walk| !walk.cancelled) {
        for cell in case.cells_of(walk).filter(|&cell| tallies[cell].is_mixed()) {
            let entry = families.entry(cell).or_default();
            let tally = if walk.view.ip().is_some_and(|ip| ip.is_ipv6()) { &mut entry.v6 } else { &mut entry.v4 };
            *(if walk.failed { &mut tally.failed } else { &mut tally.passed }) += 1;
        }
    }
    // Different exchanges are no attempts at one thing.
    let passed = exchange::passed(case);
    let alone = |walk: &Walk<'_>| exchange::subject(walk).is_some_and(|subject| !passed.contains(&subject));
    let cells: Vec<Option<usize>> = case
        .walks
        .iter()
        .map(|walk| case.cells_of(walk).find(|&cell| tallies[cell].is_mixed() && !alone(walk)))
        .collect();
    for (walk, cell) in case.walks.iter_mut().zip(cells) {
        let (Some(cell), Some(judged)) = (cell, &mut walk.judged) else { continue };
        if !walk.failed {
            continue;
        }
        let at_connect = walk.view.last().is_some_and(|at| at.step.layer() == Layer::Connect);
        let both = families.get(&cell).copied().unwrap_or_default();
        let v6 = walk.view.ip().is_some_and(|ip| ip.is_ipv6());
        let (mine, other) = if v6 { (both.v6, both.v4) } else { (both.v4, both.v6) };
        let tally = tallies[cell];
        if at_connect && mine.always_fails() && other.passed > 0 && other.failed == 0 {
            let (broken, works) = if v6 { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
            walk.note = Some(format!("every {broken} attempt fails ({}), every {works} attempt works", judged.code));
            *judged = differential(c::TCP_FAMILY_BROKEN, judged.hop, Severity::Warning, judged.party);
        } else if at_connect && judged.code.0.starts_with("tcp.") {
            walk.note = Some(format!("{} of {} attempts failed, as {}", tally.failed, tally.tried(), judged.code));
            *judged = differential(c::TCP_INTERMITTENT, judged.hop, Severity::Warning, judged.party);
        } else {
            walk.note = Some(format!("{} of {} attempts failed, the others passed", tally.failed, tally.tried()));
            judged.severity = judged.severity.max(Severity::Warning);
        }
    }
}
