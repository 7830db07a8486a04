//! Lookups: the system's view against a name server's, repeated attempts, and addresses that cannot be storage's.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};

use super::differential;
use crate::{
    azure::{ranges, storage},
    classify::{
        case::{Case, Lookup, Sign},
        codes as c, rules,
        view::At,
    },
    model::{Confidence, Party, ResolveEvidence, ResolverView, Route, Severity},
};

pub(super) fn compare(case: &mut Case<'_>) {
    let mut names: BTreeMap<(&str, Route), Vec<usize>> = BTreeMap::new();
    for (at, lookup) in case.lookups.iter().enumerate() {
        names.entry((&lookup.view.observation.subject, lookup.view.observation.route)).or_default().push(at);
    }
    let names: Vec<Vec<usize>> = names.into_values().collect();
    let mut extra = Vec::new();
    for lookups in names {
        extra.extend(one_name(&mut case.lookups, &lookups));
    }
    case.extra.extend(extra);
    sinkholes(case);
}

#[derive(PartialEq, Eq, Clone, Copy)]
enum Kind {
    Private,
    Public,
    Missing,
    Unanswered,
}

/// What a view says in kind; of several attempts the best.
fn kind(lookups: &[Lookup<'_>], of: &[usize]) -> Option<Kind> {
    let kinds = of.iter().map(|&at| {
        let lookup = &lookups[at];
        match lookup.judged.map(|judged| judged.code) {
            None => {
                let private = addresses(lookup).any(ranges::is_private);
                if private { Kind::Private } else { Kind::Public }
            }
            Some(c::DNS_NXDOMAIN | c::DNS_NODATA) => Kind::Missing,
            Some(_) => Kind::Unanswered,
        }
    });
    kinds.min_by_key(|kind| match kind {
        Kind::Private => 0,
        Kind::Public => 1,
        Kind::Missing => 2,
        Kind::Unanswered => 3,
    })
}

fn addresses<'a>(lookup: &Lookup<'a>) -> impl Iterator<Item = IpAddr> + use<'a> {
    lookup.view.last().and_then(At::resolve).into_iter().flat_map(|r| r.addresses.iter().map(|a| a.ip))
}

/// What went wrong when the name server was asked directly.
fn cause(lookup: &Lookup<'_>) -> Option<String> {
    let at = lookup.view.last()?;
    let server = at.resolve()?.server?;
    Some(format!("asking the name server {server} directly: {}", at.failure()?.raw))
}

/// Compares the views of one name on one route.
fn one_name<'a>(lookups: &mut [Lookup<'a>], of: &[usize]) -> Option<Sign<'a>> {
    let cancelled = |at: &usize| lookups[*at].judged.is_some_and(|judged| judged.code == c::META_DEADLINE);
    let (system, server): (Vec<usize>, Vec<usize>) =
        of.iter().copied().filter(|at| !cancelled(at)).partition(|&at| lookups[at].resolver == ResolverView::System);
    let (says, other) = (kind(lookups, &system), kind(lookups, &server));
    intermittent(lookups, &system);
    let (Some(says), Some(other)) = (says, other) else {
        intermittent(lookups, &server);
        return None;
    };
    // The extension asks the system; what the name server says apart from it is context.
    let clearer = server.first().and_then(|&at| lookups[at].judged);
    let cause = server.first().and_then(|&at| cause(&lookups[at]));
    for &at in &system {
        let lookup = &mut lookups[at];
        if let (Some(judged), Some(clearer)) = (&mut lookup.judged, clearer)
            && judged.confidence == Confidence::Heuristic
            && judged.severity == Severity::Error
        {
            // getaddrinfo has one number for several causes; asking the name server shows which.
            *judged = rules::Judged { severity: judged.severity, ..clearer };
            lookup.note = lookup.note.take().or_else(|| cause.clone());
        }
    }
    for &at in &server {
        let lookup = &mut lookups[at];
        match (&mut lookup.judged, other) {
            (Some(judged), Kind::Unanswered) if matches!(says, Kind::Private | Kind::Public) => {
                judged.severity = Severity::Info;
                lookup.note = Some("the system resolver answers".into());
            }
            _ => lookup.judged = None,
        }
    }
    let (&mine, &theirs) = (system.first()?, server.first()?);
    // What the hosts file pins is no resolver's word.
    let pinned = lookups[mine].view.last().and_then(At::resolve).is_some_and(ResolveEvidence::is_pinned);
    let differs = says != other && other != Kind::Unanswered && !pinned;
    differs.then(|| {
        let words = |kind| match kind {
            Kind::Private => "a private address",
            Kind::Public => "a public address",
            Kind::Missing => "no such name",
            Kind::Unanswered => "no usable answer",
        };
        let lookup = &lookups[mine];
        let observation = lookup.view.observation;
        let hop = match observation.route {
            Route::Direct => crate::model::Hop::ClientToOrigin,
            Route::Proxy => crate::model::Hop::ClientToProxy,
        };
        let judged = differential(c::DNS_RESOLVER_MISMATCH, hop, Severity::Warning, Party::Resolver);
        let server = lookups[theirs].view.last().and_then(At::resolve).and_then(|r| r.server);
        let server = server.map_or_else(|| "the name server".to_owned(), |server| format!("the name server {server}"));
        Sign {
            note: Some(format!("the system resolver gives {}, {server} gives {}", words(says), words(other))),
            ..Sign::about(judged, Some(observation.route), lookup.targets.clone()).seen(lookup.view)
        }
    })
}

/// Some attempts of a lookup failed: a warning.
fn intermittent(lookups: &mut [Lookup<'_>], of: &[usize]) {
    let failed = of.iter().filter(|&&at| lookups[at].judged.is_some()).count();
    if failed == 0 || failed == of.len() {
        return;
    }
    for &at in of {
        let lookup = &mut lookups[at];
        if let Some(judged) = &mut lookup.judged {
            judged.severity = judged.severity.max(Severity::Warning);
            lookup.note = Some(format!("{failed} of {} lookups failed, the others passed", of.len()));
        }
    }
}

/// Storage names that lead to addresses that cannot be storage's, or to one that an unrelated name shares. Where
/// storage proved itself at the address, that proof counts.
fn sinkholes(case: &mut Case<'_>) {
    let proved: HashSet<(usize, IpAddr)> = case
        .walks
        .iter()
        .filter(|walk| !walk.failed && !walk.cancelled)
        .flat_map(|walk| walk.targets.iter().filter_map(|&target| Some((target, walk.view.ip()?))))
        .collect();
    let mut shared: HashMap<IpAddr, (bool, bool)> = HashMap::new();
    for lookup in &case.lookups {
        let is_storage = storage::is_storage_name(&lookup.view.observation.subject);
        for ip in addresses(lookup) {
            let entry = shared.entry(ip.to_canonical()).or_default();
            *(if is_storage { &mut entry.0 } else { &mut entry.1 }) = true;
        }
    }
    let mut found = Vec::new();
    for lookup in &case.lookups {
        let observation = lookup.view.observation;
        let name = &*observation.subject;
        if observation.route != Route::Direct || !storage::is_storage_name(name) {
            continue;
        }
        let suspicious = addresses(lookup).map(|ip: IpAddr| ip.to_canonical()).find(|&ip| {
            let unproved = !lookup.targets.iter().any(|&target| proved.contains(&(target, ip)));
            unproved && (ranges::is_sinkhole(ip) || shared.get(&ip) == Some(&(true, true)))
        });
        let Some(ip) = suspicious else { continue };
        let mut judged =
            differential(c::DNS_SINKHOLE, rules::between(crate::model::Leg::Origin), Severity::Error, Party::Resolver);
        let why = if ranges::is_sinkhole(ip) {
            judged.confidence = Confidence::Proof;
            "an address that no storage endpoint can have"
        } else {
            "the same address as a name that has nothing to do with storage"
        };
        let mut sign = Sign::about(judged, Some(Route::Direct), lookup.targets.clone()).seen(lookup.view);
        sign.note = Some(format!("{name} leads to {ip}, {why}"));
        found.push(sign);
    }
    case.extra.extend(found);
}
