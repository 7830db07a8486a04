//! From attempts and findings to one cell per target and route, and to the overall verdict.

use std::collections::BTreeMap;

use super::{
    case::{Case, Sign, Tally},
    predict,
};
use crate::{
    classify::codes as c,
    model::{Cell, CellStatus, Code, Finding, Route, Severity, Status, Verdict},
};

/// The route whose failure blocks; `None`: any working route will do.
pub(super) fn counting_route(case: &Case<'_>) -> Option<Route> {
    match case.routes.as_slice() {
        [only] => Some(*only),
        _ => predict::route(&case.record.context),
    }
}

/// One cell per target and route, in the order of the targets.
pub(super) fn cells(case: &Case<'_>, signs: &[Sign<'_>], tallies: &[Tally]) -> Vec<Cell> {
    let mut codes: Vec<BTreeMap<(Severity, Rank, Code), u32>> = vec![BTreeMap::new(); case.cell_count()];
    for sign in signs {
        let Some(route) = sign.route else { continue };
        for cell in sign.targets.iter().filter_map(|&target| case.cell(target, route)) {
            *codes[cell].entry((sign.judged.severity, rank(sign), sign.judged.code)).or_default() += 1;
        }
    }
    let mut times: Vec<(Vec<u64>, Vec<u64>, Vec<u32>)> = vec![<_>::default(); case.cell_count()];
    for walk in &case.walks {
        for cell in case.cells_of(walk) {
            let (passed, all, observations) = &mut times[cell];
            observations.push(walk.view.observation.id);
            if walk.cancelled {
                continue;
            }
            all.push(walk.view.elapsed_us());
            if !walk.failed {
                passed.push(walk.view.elapsed_us());
            }
        }
    }
    let columns = case.routes.len();
    times
        .into_iter()
        .enumerate()
        .map(|(at, (passed, all, observations))| {
            let tally = tallies[at];
            Cell {
                target: at / columns,
                route: case.routes[at % columns],
                status: status(&codes[at], tally),
                passed: tally.passed,
                tried: tally.tried(),
                elapsed_us: median(if passed.is_empty() { all } else { passed }),
                observations,
            }
        })
        .collect()
}

/// Among errors of one cell the cause of the others comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The clock, the name: what makes everything behind it fail.
    Root,
    /// What an attempt showed.
    Primary,
    /// What accompanies it.
    Remark,
}

fn rank(sign: &Sign<'_>) -> Rank {
    match sign.judged.code {
        c::LOCAL_CLOCK_SKEW | c::DNS_SINKHOLE => Rank::Root,
        c::HTTP_CAPTIVE_PORTAL
        | c::HTTP_BLOCK_PAGE
        | c::HTTP_REDIRECTED
        | c::HTTP_SLOW
        | c::CONFIG_HOSTS_OVERRIDE
        | c::CONFIG_PROXY_NEEDS_AUTH
        | c::PROXY_OPTIMISTIC_CONNECT
        | c::CONSUMER_DISTRUSTS_ANCHOR
        | c::CONSUMER_IGNORES_PROXY
        | c::CONSUMER_USES_PROXY => Rank::Remark,
        _ if sign.view.is_some_and(|view| view.observation.is_lookup()) => Rank::Root,
        _ => Rank::Primary,
    }
}

fn status(codes: &BTreeMap<(Severity, Rank, Code), u32>, tally: Tally) -> CellStatus {
    let dominant = |severity: Severity| {
        let best = codes.iter().filter(|((s, ..), _)| *s == severity);
        best.max_by_key(|&(&(_, rank, code), &count)| (std::cmp::Reverse(rank), count, std::cmp::Reverse(code)))
            .map(|(&(_, _, code), _)| code)
    };
    if let Some(code) = dominant(Severity::Error) {
        return CellStatus::Error(code);
    }
    if tally.tried() == 0 {
        return CellStatus::NotRun;
    }
    if let Some(code) = dominant(Severity::Warning) {
        return CellStatus::Warning(code);
    }
    let https_only = codes.keys().any(|&(_, _, code)| code == c::STORAGE_HTTPS_REQUIRED);
    if https_only { CellStatus::Warning(c::STORAGE_HTTPS_REQUIRED) } else { CellStatus::Ok }
}

fn median(mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}

/// The overall verdict.
pub(super) fn verdict(case: &Case<'_>, cells: &[Cell], findings: &[Finding]) -> Verdict {
    let counting = counting_route(case);
    let columns = case.routes.len();
    let mut blocked = Vec::new();
    let (mut unmeasured, mut measured) = (0_usize, 0_usize);
    for (at, row) in cells.chunks(columns.max(1)).enumerate() {
        match outcome(row, counting) {
            Outcome::Works => measured += 1,
            Outcome::Blocked => {
                measured += 1;
                blocked.push(at);
            }
            Outcome::Unknown => unmeasured += 1,
        }
    }
    let total = case.record.targets.len();
    let cut_short = case.record.not_run.iter().any(|not_run| not_run.subject == "record");
    let notable = findings.iter().any(|finding| finding.severity < Severity::Info);
    let way = match counting {
        Some(Route::Direct) => "directly",
        Some(Route::Proxy) => "through the proxy",
        None => "on any route",
    };
    let endpoints = |n: usize| format!("{n} of {total} endpoint{}", if total == 1 { "" } else { "s" });
    if !blocked.is_empty() {
        let n = blocked.len();
        let summary = match blocked.as_slice() {
            [one] if total == 1 => format!("{} cannot be reached {way}", case.record.targets[*one].authority()),
            _ => format!("{} cannot be reached {way}", endpoints(n)),
        };
        return said(Status::Blocked, summary);
    }
    if unmeasured > 0 || measured == 0 || cut_short {
        let summary = if measured == 0 && total == 0 && !case.host.is_empty() {
            let host = if case.host.iter().any(|walk| walk.failed) { "is broken" } else { "answers" };
            format!("no storage host is known; the host channel {host}")
        } else if measured == 0 {
            "nothing was measured, so nothing is proved".to_owned()
        } else if unmeasured > 0 {
            format!("{} could not be judged {way}; the others answer", endpoints(unmeasured))
        } else {
            "what was recorded works, but the record is cut short".to_owned()
        };
        return said(Status::Inconclusive, summary);
    }
    let answer = if total == 1 { "the endpoint answers".to_owned() } else { format!("all {total} endpoints answer") };
    if notable {
        let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        let warnings = findings.iter().filter(|finding| finding.severity == Severity::Warning).count();
        let rest = match (errors, warnings) {
            (0, 1) => "with 1 warning".to_owned(),
            (0, n) => format!("with {n} warnings"),
            // In the default method either way suffices for a snapshot, the host channel or storage, so a broken host
            // channel alone blocks nothing. What each method makes of it is a prediction's business.
            _ if cells.iter().all(|cell| !matches!(cell.status, CellStatus::Error(_)))
                && case
                    .host
                    .iter()
                    .any(|walk| walk.judged.is_some_and(|judged| judged.severity == Severity::Error)) =>
            {
                "but the host channel is broken".to_owned()
            }
            _ => "but another route is broken".to_owned(),
        };
        return said(Status::Degraded, format!("{answer} {way}, {rest}"));
    }
    said(Status::Clear, format!("{answer} {way}"))
}

fn said(status: Status, summary: String) -> Verdict {
    Verdict { status, summary, exit_code: status.exit_code() }
}

enum Outcome {
    Works,
    Blocked,
    Unknown,
}

/// What the cells of one target mean. An error that says nothing about the endpoint (`meta.*`) proves nothing.
fn outcome(row: &[Cell], counting: Option<Route>) -> Outcome {
    let mut best = Outcome::Unknown;
    for cell in row.iter().filter(|cell| counting.is_none_or(|route| route == cell.route)) {
        match cell.status {
            CellStatus::Ok | CellStatus::Warning(_) => return Outcome::Works,
            CellStatus::Error(code) if !code.0.starts_with("meta.") => best = Outcome::Blocked,
            CellStatus::Error(_) | CellStatus::NotRun => {}
        }
    }
    best
}
