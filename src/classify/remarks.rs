//! What accompanies a pass or a failure: warnings and context that do not decide by themselves.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use time::{PrimitiveDateTime, macros::format_description};

use super::{
    case::{Case, Sign, Walk, with_catalogue},
    compare::interceptor,
    rules::{self, Judged},
    view::{At, View},
};
use crate::{
    azure::{ranges, storage},
    classify::codes as c,
    http::Reply,
    model::{
        Code, Confidence, Hop, Layer, Leg, MisreadLine, NotRun, Party, ProxyCapture, ResolveEvidence, ResolverView,
        Route, Severity, TrustAnchor, Verification,
    },
};

/// The snapshot extension gives each of its operations 10 seconds.
const CONSUMER_LIMIT_US: u64 = 10_000_000;

/// Clocks that differ by more than this are worth a warning; shared access signatures fail at 15 minutes.
const CLOCK_TOLERANCE_S: i64 = 300;

/// Adds all remarks.
pub(super) fn apply(case: &mut Case<'_>) {
    let mut found = Vec::new();
    for walk in &case.walks {
        for (judged, note) in of_walk(walk, case.record.context.without_system_roots) {
            let route = Some(walk.view.observation.route);
            let sign = Sign::about(with_catalogue(judged), route, walk.targets.clone()).seen(walk.view);
            found.push(Sign { note: Some(note), ..sign });
        }
    }
    for lookup in case.lookups.iter().filter(|lookup| storage::is_storage_name(&lookup.view.observation.subject)) {
        for (judged, note) in of_lookup(lookup.view) {
            let route = Some(lookup.view.observation.route);
            let sign = Sign::about(with_catalogue(judged), route, lookup.targets.clone()).seen(lookup.view);
            found.push(Sign { note: Some(note), ..sign });
        }
    }
    case.extra.extend(found);
    context(case);
    not_run(case);
}

fn judged(code: Code, hop: Hop, severity: Severity, confidence: Confidence, party: Party) -> Judged {
    Judged { code, hop, severity, confidence, party }
}

// ---- walks

fn of_walk(walk: &Walk<'_>, without_system_roots: bool) -> Vec<(Judged, String)> {
    let (view, passed) = (walk.view, !walk.failed && !walk.cancelled);
    let mut found = Vec::new();
    let bad_certificate = view
        .at(Layer::Handshake, Leg::Origin)
        .and_then(|at| at.handshake()?.verification)
        .is_some_and(|verification| verification != Verification::Trusted);
    if bad_certificate && let Some(behind) = rules::behind_certificate(view) {
        found.push((behind, "behind a certificate that does not verify".into()));
    }
    found.extend(trusted_interception(view));
    found.extend(distrusted_anchor(view).filter(|_| !without_system_roots));
    found.extend(clock_skew(view));
    // An exchange takes as long as it was asked to.
    let exchange = view.exchange().is_some();
    if passed && !exchange && view.elapsed_us() > CONSUMER_LIMIT_US {
        let slow = judged(c::HTTP_SLOW, Hop::ClientToOrigin, Severity::Warning, Confidence::Proof, Party::Path);
        let seconds = view.elapsed_us() / 1_000_000;
        found.push((slow, format!("the walk took {seconds} s; the extension gives up after 10 s per operation")));
    }
    if let Some(note) = login_demand(view) {
        let login =
            judged(c::CONFIG_PROXY_NEEDS_AUTH, Hop::Consumer, Severity::Warning, Confidence::Proof, Party::Proxy);
        found.push((login, note.into()));
    }
    found
}

/// A chain that this machine trusts although storage does not use its issuer.
fn trusted_interception(view: View<'_>) -> Option<(Judged, String)> {
    let handshake = view.at(Layer::Handshake, Leg::Origin)?.handshake()?;
    if handshake.verification != Some(Verification::Trusted) || !view.is_storage_name() {
        return None;
    }
    let leaf = handshake.chain.first()?;
    let note = match handshake.anchor {
        Some(TrustAnchor::Added) => "trusted only because of an authority that was added by hand",
        Some(TrustAnchor::Lab) => return None,
        _ if rules::has_genuine_issuer(handshake) => return None,
        _ => "trusted by this machine, but the issuer is not one that storage uses",
    };
    let party = interceptor(view.observation.route);
    let warning = judged(c::TLS_INTERCEPTED, Hop::ClientToOrigin, Severity::Warning, Confidence::Proof, party);
    Some((warning, format!("{note}: {}", leaf.issuer)))
}

/// A chain that only an authority given to this probe makes trusted: the consumer, which goes by the system's store,
/// does not trust it. Where that store was left out nobody can tell.
fn distrusted_anchor(view: View<'_>) -> Option<(Judged, String)> {
    let handshake = view.at(Layer::Handshake, Leg::Origin)?.handshake()?;
    if handshake.anchor != Some(TrustAnchor::Added) || !view.is_storage_name() {
        return None;
    }
    let issuer = &handshake.chain.first()?.issuer;
    let warning =
        judged(c::CONSUMER_DISTRUSTS_ANCHOR, Hop::Consumer, Severity::Warning, Confidence::Proof, Party::Client);
    Some((warning, format!("the system's trust store does not lead to an anchor for: {issuer}")))
}

/// The answer's `Date` disagrees with this machine's clock. When the certificate is only invalid by the local clock,
/// the clock is the cause.
fn clock_skew(view: View<'_>) -> Option<(Judged, String)> {
    let request = view.at(Layer::Request, Leg::Origin)?.request()?;
    let (reply, local) = (request.reply.as_ref()?, request.local_unix_time?);
    let peer = date(reply)?;
    let skew = local.saturating_sub(peer);
    if skew.abs() <= CLOCK_TOLERANCE_S {
        return None;
    }
    let handshake = view.at(Layer::Handshake, Leg::Origin).and_then(At::handshake);
    let by_clock = handshake.is_some_and(|h| {
        matches!(h.verification, Some(Verification::Expired | Verification::NotYetValid))
            && h.chain.first().is_some_and(|leaf| (leaf.not_before..=leaf.not_after).contains(&peer))
    });
    let severity = if by_clock { Severity::Error } else { Severity::Warning };
    let confidence = if by_clock { Confidence::Proof } else { Confidence::Reported };
    let direction = if skew > 0 { "ahead of" } else { "behind" };
    let mut note = format!("this machine's clock is {} s {direction} the peer's Date", skew.unsigned_abs());
    if by_clock {
        note.push_str(", by which the certificate is valid");
    }
    Some((judged(c::LOCAL_CLOCK_SKEW, Hop::Local, severity, confidence, Party::Client), note))
}

/// The answer's `Date` (RFC 9110 section 5.6.7, its only current form), seconds since 1970.
fn date(reply: &Reply) -> Option<i64> {
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    let date = PrimitiveDateTime::parse(reply.header("date")?.trim(), format).ok()?;
    Some(date.assume_utc().unix_timestamp())
}

/// The proxy wants a login, which the agent and the extension cannot send.
fn login_demand(view: View<'_>) -> Option<&'static str> {
    let at = view.at(Layer::Tunnel, Leg::Proxy)?;
    let tunnel = at.tunnel()?;
    if at.failure().is_none() {
        return tunnel
            .credentials_sent
            .then_some("works with the credentials given, which agent and extension cannot send");
    }
    let status = tunnel.reply.as_ref()?.status;
    (status == 407).then_some("the proxy demands a login, which agent and extension cannot send")
}

// ---- lookups

fn of_lookup(view: View<'_>) -> Vec<(Judged, String)> {
    let mut found = Vec::new();
    let hop = view.last().map_or(Hop::ClientToOrigin, |at| rules::between(at.step.leg));
    let Some(resolve) = view.last().and_then(At::resolve).filter(|resolve| !resolve.is_pinned()) else { return found };
    let name = view.host();
    let private = resolve.addresses.iter().map(|address| address.ip).find(|&ip| ranges::is_private(ip));
    if let Some(ip) = private {
        let info = judged(c::DNS_PRIVATE_ADDRESS, hop, Severity::Info, Confidence::Proof, Party::Resolver);
        found.push((info, format!("{name} has the private address {ip}")));
    }
    let aliases = resolve.answers.iter().flat_map(|answer| &answer.aliases);
    let link = aliases.map(|alias| &alias.target).find(|target| storage::is_privatelink_name(target));
    let public = resolve
        .addresses
        .iter()
        .map(|address| address.ip)
        .find(|&ip| !ranges::is_private(ip) && !ranges::is_sinkhole(ip));
    if let (Some(link), Some(ip), None) = (link, public, private) {
        let warning = judged(c::DNS_PRIVATELINK_PUBLIC, hop, Severity::Warning, Confidence::Proof, Party::Resolver);
        found.push((warning, format!("{name} is an alias of {link}, but the address {ip} is public")));
    }
    found
}

// ---- context

fn context(case: &mut Case<'_>) {
    let context = &case.record.context;
    let mut found = Vec::new();
    let server_views = case
        .lookups
        .iter()
        .filter(|lookup| lookup.resolver == ResolverView::Server && !context.hosts_overrides.is_empty());
    let answers: HashMap<&str, &ResolveEvidence> = server_views
        .filter_map(|lookup| Some((&*lookup.view.observation.subject, lookup.view.last()?.resolve()?)))
        .filter(|(_, answer)| !answer.addresses.is_empty())
        .collect();
    for pinned in &context.hosts_overrides {
        let name = pinned.name.to_ascii_lowercase();
        // Other names (`localhost`, the machine's own) belong there.
        if !storage::is_storage_name(&name) {
            continue;
        }
        let targets = case.targets_at(&name).to_vec();
        let warning = judged(c::CONFIG_HOSTS_OVERRIDE, Hop::Local, Severity::Warning, Confidence::Proof, Party::Client);
        let mut line = format!("{}: {name} is pinned to {}", pinned.place, few(pinned.addresses.iter()));
        if let Some(answer) = answers.get(&*name) {
            line.push_str("; the name server answers ");
            line.push_str(&few(answer.addresses.iter().map(|address| &address.ip)));
        }
        found.push(Sign::about(with_catalogue(warning), Some(Route::Direct), targets).line(line));
    }
    found.extend(context.misread_agent_file.iter().map(misread));
    found.extend(context.proxy_captures.iter().map(captured));
    let mut proxies: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for source in &context.proxy_sources {
        if let Some(problem) = &source.problem {
            let warning =
                judged(c::CONFIG_PROXY_INVALID, Hop::Local, Severity::Warning, Confidence::Proof, Party::Client);
            found.push(
                Sign::about(with_catalogue(warning), None, Vec::new()).line(format!("{}: {problem}", source.origin)),
            );
        }
        if let Some(proxy) = &source.proxy {
            proxies.entry(proxy.trim_end_matches('/')).or_default().push(&source.origin);
        }
    }
    if proxies.len() > 1 {
        let warning = judged(c::CONFIG_PROXY_CONFLICT, Hop::Local, Severity::Warning, Confidence::Proof, Party::Client);
        for (proxy, origins) in proxies {
            let line = format!("{proxy}: {}", origins.join(", "));
            found.push(Sign::about(with_catalogue(warning), None, Vec::new()).line(line));
        }
    }
    case.extra.extend(found);
}

/// A few addresses, for a line.
fn few<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> String {
    addresses.take(4).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A line of waagent.conf that agent and extension read differently.
fn misread<'a>(line: &MisreadLine) -> Sign<'a> {
    let code = c::CONFIG_AGENT_FILE_UNREADABLE_BY_EXTENSION;
    let warning = judged(code, Hop::Local, Severity::Warning, Confidence::Proof, Party::Client);
    let reading = match &line.reading {
        None => "the extension fails on this line, drops the whole file and goes direct".to_owned(),
        Some(value) => format!("the extension reads the value `{value}`"),
    };
    Sign::about(with_catalogue(warning), None, Vec::new()).line(format!("{}: `{}`: {reading}", line.place, line.text))
}

/// A proxy variable that would send the platform's own addresses to the proxy.
fn captured<'a>(capture: &ProxyCapture) -> Sign<'a> {
    let code = c::CONFIG_NO_PROXY_INCOMPLETE;
    let warning = judged(code, Hop::Local, Severity::Warning, Confidence::Proof, Party::Client);
    let ProxyCapture { origin, proxy, no_proxy, addresses } = capture;
    let exceptions =
        no_proxy.as_ref().map_or_else(|| "no_proxy is not set".into(), |list| format!("no_proxy is `{list}`"));
    let line = format!("{origin}: {proxy} captures {}; {exceptions}", few(addresses.iter()));
    Sign::about(with_catalogue(warning), None, Vec::new()).line(line)
}

/// What was asked for and not measured is never a pass.
fn not_run(case: &mut Case<'_>) {
    let sign = |not_run: &NotRun, targets: Vec<usize>| {
        let code = if not_run.deadline { c::META_DEADLINE } else { c::META_NOT_RUN };
        let warning = judged(code, Hop::Local, Severity::Warning, Confidence::Proof, Party::Client);
        let line = format!("{}: {}", not_run.subject, not_run.reason);
        let mut sign = Sign::about(with_catalogue(warning), not_run.route, targets).line(line);
        if sign.targets.is_empty() {
            sign.subject = Some(not_run.subject.as_str().into());
        }
        sign
    };
    let found: Vec<_> =
        case.record.not_run.iter().map(|not_run| sign(not_run, case.targets_of(&not_run.subject).to_vec())).collect();
    case.extra.extend(found);
}
