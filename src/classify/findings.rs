//! Signs become findings: grouped by code, hop and route, counted, put into words.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    case::{Case, Sign, Tally, Walk},
    proxy_reply,
    rules::Judged,
    text,
    view::{At, View},
};
use crate::{
    classify::catalogue::{self, Situation},
    exchange::Exchange,
    model::{Code, Confidence, Finding, Hop, Layer, Leg, Party, ResolverView, Route, Severity},
};

/// So many signs of a finding are read for its evidence; more repeat themselves.
pub(super) const READ_FOR_EVIDENCE: usize = 256;

/// All conclusions as signs.
pub(super) fn signs<'a>(case: &mut Case<'a>) -> Vec<Sign<'a>> {
    let mut signs = Vec::with_capacity(case.walks.len() + case.lookups.len() + case.extra.len());
    for lookup in &mut case.lookups {
        let Some(judged) = lookup.judged else { continue };
        let route = Some(lookup.view.observation.route);
        let mut sign = Sign::about(judged, route, lookup.targets.clone()).seen(lookup.view);
        sign.note = lookup.note.take();
        if sign.targets.is_empty() {
            sign.subject = Some(Arc::clone(&lookup.view.observation.subject));
        }
        signs.push(sign);
    }
    for walk in &mut case.walks {
        let Some(judged) = walk.judged else { continue };
        let route = Some(walk.view.observation.route);
        let mut sign = Sign::about(judged, route, walk.targets.clone()).seen(walk.view);
        sign.note = walk.note.take();
        sign.lines = walk.flow.map_or_else(Vec::new, |flow| flow.notes.clone());
        signs.push(sign);
    }
    for walk in &mut case.host {
        let Some(judged) = walk.judged else { continue };
        let mut sign = Sign::about(judged, None, Vec::new()).seen(walk.view);
        sign.note = walk.note.take();
        signs.push(sign);
    }
    signs.append(&mut case.extra);
    for sign in &mut signs {
        if let (true, Some(view)) = (sign.targets.is_empty() && sign.subject.is_none(), sign.view) {
            sign.subject = Some(Arc::clone(&view.observation.subject));
        }
    }
    signs
}

/// Groups the signs.
pub(super) fn findings(case: &Case<'_>, signs: &[Sign<'_>], tallies: &[Tally]) -> Vec<Finding> {
    let mut groups: BTreeMap<(Code, Hop, Option<Route>), Vec<&Sign<'_>>> = BTreeMap::new();
    for sign in signs {
        groups.entry((sign.judged.code, sign.judged.hop, sign.route)).or_default().push(sign);
    }
    let lookups = lookup_counts(case);
    let mut findings: Vec<Finding> = groups
        .into_iter()
        .map(|((code, hop, route), signs)| finding(case, tallies, &lookups, (code, hop, route), &signs))
        .collect();
    findings.sort_by(|a, b| {
        (a.severity, std::cmp::Reverse(a.targets.len()), a.code, a.hop, a.route).cmp(&(
            b.severity,
            std::cmp::Reverse(b.targets.len()),
            b.code,
            b.hop,
            b.route,
        ))
    });
    findings
}

type LookupCounts<'a> = HashMap<(&'a str, Route, ResolverView), u32>;

fn lookup_counts<'a>(case: &Case<'a>) -> LookupCounts<'a> {
    let mut counts = LookupCounts::new();
    for lookup in &case.lookups {
        let observation = lookup.view.observation;
        *counts.entry((&observation.subject, observation.route, lookup.resolver)).or_default() += 1;
    }
    counts
}

fn finding(
    case: &Case<'_>,
    tallies: &[Tally],
    lookups: &LookupCounts<'_>,
    (code, hop, route): (Code, Hop, Option<Route>),
    signs: &[&Sign<'_>],
) -> Finding {
    let severity = signs.iter().map(|sign| sign.judged.severity).min().unwrap_or(Severity::Info);
    let confidence = signs.iter().map(|sign| sign.judged.confidence).min().unwrap_or(Confidence::Unknown);
    let party = dominant_party(signs);
    let indices: BTreeSet<usize> = signs.iter().flat_map(|sign| sign.targets.iter().copied()).collect();
    let mut targets: BTreeSet<&str> = indices.iter().map(|&at| &*case.authorities[at]).collect();
    targets.extend(signs.iter().filter_map(|sign| sign.subject.as_deref()));
    let targets: Vec<String> = targets.into_iter().map(str::to_owned).collect();

    let counted: Vec<&&Sign<'_>> = signs.iter().filter(|sign| sign.counts).collect();
    let failed = u32::try_from(counted.len()).unwrap_or(u32::MAX);
    let asked: BTreeSet<(&str, Route, bool)> = counted
        .iter()
        .filter_map(|sign| sign.view)
        .filter(|view| view.observation.is_lookup())
        .map(|view| (&*view.observation.subject, view.observation.route, is_server_view(view)))
        .collect();
    let exchanges: HashSet<Exchange> =
        counted.iter().filter_map(|sign| Some(sign.view?.exchange()?.exchange)).collect();
    let tried = if !exchanges.is_empty() {
        let same = |walk: &&Walk<'_>| {
            !walk.cancelled
                && Some(walk.view.observation.route) == route
                && walk.targets.iter().any(|target| indices.contains(target))
                && walk.view.exchange().is_some_and(|evidence| exchanges.contains(&evidence.exchange))
        };
        u32::try_from(case.walks.iter().filter(same).count()).unwrap_or(u32::MAX)
    } else if counted.iter().any(|sign| sign.view.is_some_and(|view| view.observation.host_service.is_some())) {
        let services = case.host_tallies();
        targets.iter().filter_map(|target| services.get(target.as_str())).map(|tally| tally.tried()).sum()
    } else if asked.is_empty() {
        let cells = indices.iter().filter_map(|&at| case.cell(at, route?));
        cells.map(|cell| tallies[cell].tried()).sum()
    } else {
        asked
            .iter()
            .filter_map(|&(name, route, server)| {
                let resolver = if server { ResolverView::Server } else { ResolverView::System };
                lookups.get(&(name, route, resolver))
            })
            .sum()
    };
    let tried = if counted.is_empty() { 0 } else { failed.max(tried) };

    let read = &signs[..signs.len().min(READ_FOR_EVIDENCE)];
    let product = read.iter().find_map(|sign| product(sign));
    let situation = Situation { hop, severity, route, targets: &targets, context: &case.record.context, product };
    let remedies = catalogue::remedies(code, &situation);
    let mut observations: Vec<u32> = signs.iter().filter_map(|sign| Some(sign.view?.observation.id)).collect();
    observations.sort_unstable();
    observations.dedup();
    let facts = text::Facts { code, hop, route, targets: &targets, failed, tried, signs: read };
    Finding {
        code,
        hop,
        severity,
        confidence,
        party,
        summary: text::summary(&facts),
        evidence: text::evidence(&facts),
        failed,
        tried,
        route,
        remedies,
        observations,
        targets,
    }
}

fn is_server_view(view: View<'_>) -> bool {
    view.last().and_then(At::resolve).is_some_and(|resolve| resolve.view == ResolverView::Server)
}

/// The party that most signs name; of equals the first in the order of declaration.
fn dominant_party(signs: &[&Sign<'_>]) -> Party {
    let mut counts: BTreeMap<Party, usize> = BTreeMap::new();
    for Sign { judged: Judged { party, .. }, .. } in signs {
        *counts.entry(*party).or_default() += 1;
    }
    counts
        .into_iter()
        .max_by_key(|&(party, count)| (count, std::cmp::Reverse(party)))
        .map_or(Party::Unknown, |(party, _)| party)
}

/// The proxy product that spoke.
fn product(sign: &Sign<'_>) -> Option<&'static str> {
    let view = sign.view?;
    let tunnel = view.at(Layer::Tunnel, Leg::Proxy).filter(|at| at.failure().is_some());
    if let Some(reply) = tunnel.and_then(|at| at.tunnel()?.reply.as_ref()) {
        return proxy_reply::product(reply);
    }
    if let Some(reply) = view.last().and_then(At::first_bytes_as_reply) {
        return proxy_reply::product(&reply);
    }
    view.reply().filter(|_| view.is_tunnelled()).and_then(proxy_reply::product)
}
