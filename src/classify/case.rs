//! A record sorted for judging: walks, lookups and controls with the cells that they belong to, attempts on the host
//! channel, and what was concluded about each so far.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    rules::{self, Judged},
    view::View,
};
use crate::{
    classify::{catalogue, codes as c},
    model::{FlowVerdict, Layer, Leg, Observation, Record, ResolverView, Route, Scheme, Severity, Target},
};

/// Everything that the rules and comparisons know.
pub(super) struct Case<'a> {
    pub(super) record: &'a Record,
    /// `host:port` of each target.
    pub(super) authorities: Vec<Arc<str>>,
    /// The routes asked for or seen, direct first.
    pub(super) routes: Vec<Route>,
    pub(super) walks: Vec<Walk<'a>>,
    pub(super) lookups: Vec<Lookup<'a>>,
    /// Attempts on the host channel, which belong to no cell.
    pub(super) host: Vec<Walk<'a>>,
    /// Probes that only tell causes apart.
    pub(super) controls: Vec<View<'a>>,
    /// Conclusions beside the primary finding of each walk and lookup.
    pub(super) extra: Vec<Sign<'a>>,
    by_host: HashMap<String, Vec<usize>>,
    by_authority: HashMap<Arc<str>, Vec<usize>>,
}

/// One attempt.
pub(super) struct Walk<'a> {
    pub(super) view: View<'a>,
    /// Indices of its targets: one, unless several targets share host and port.
    pub(super) targets: Vec<usize>,
    /// The primary finding; `None`: it passed.
    pub(super) judged: Option<Judged>,
    /// Whether the target was not reached.
    pub(super) failed: bool,
    /// Whether the run ended before the walk did: neither passed nor failed.
    pub(super) cancelled: bool,
    /// What a comparison added.
    pub(super) note: Option<String>,
    /// What the files given say about it, where that belongs to its evidence.
    pub(super) flow: Option<&'a FlowVerdict>,
}

/// One lookup.
pub(super) struct Lookup<'a> {
    pub(super) view: View<'a>,
    pub(super) resolver: ResolverView,
    /// The targets that need it.
    pub(super) targets: Vec<usize>,
    pub(super) judged: Option<Judged>,
    pub(super) note: Option<String>,
}

/// One conclusion, to be grouped into a finding.
pub(super) struct Sign<'a> {
    pub(super) judged: Judged,
    pub(super) route: Option<Route>,
    pub(super) targets: Vec<usize>,
    /// What it is about when that is no target.
    pub(super) subject: Option<Arc<str>>,
    pub(super) view: Option<View<'a>>,
    pub(super) note: Option<String>,
    /// Lines of evidence beside what the observation shows.
    pub(super) lines: Vec<String>,
    /// Whether it counts as an attempt that showed the finding.
    pub(super) counts: bool,
}

impl<'a> Sign<'a> {
    pub(super) fn about(judged: Judged, route: Option<Route>, targets: Vec<usize>) -> Self {
        Self { judged, route, targets, subject: None, view: None, note: None, lines: Vec::new(), counts: false }
    }

    pub(super) fn seen(mut self, view: View<'a>) -> Self {
        self.view = Some(view);
        self.counts = true;
        self
    }

    pub(super) fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }
}

impl<'a> Walk<'a> {
    fn new(view: View<'a>, targets: Vec<usize>) -> Self {
        let judged = rules::primary(view).map(with_catalogue);
        let cancelled = judged.is_some_and(|judged| judged.code == c::META_DEADLINE);
        let failed = judged.is_some_and(|judged| judged.severity == Severity::Error);
        Self { view, targets, judged, failed, cancelled, note: None, flow: None }
    }
}

impl<'a> Case<'a> {
    pub(super) fn new(record: &'a Record) -> Self {
        let authorities: Vec<Arc<str>> = record.targets.iter().map(|target| target.authority().into()).collect();
        let mut by_host: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_authority: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
        for (at, target) in record.targets.iter().enumerate() {
            by_host.entry(target.host.to_string()).or_default().push(at);
            by_authority.entry(Arc::clone(&authorities[at])).or_default().push(at);
        }
        let mut case = Self {
            record,
            authorities,
            routes: Vec::new(),
            walks: Vec::new(),
            lookups: Vec::new(),
            host: Vec::new(),
            controls: Vec::new(),
            extra: Vec::new(),
            by_host,
            by_authority,
        };
        let mut sorted: Vec<&Observation> = record.observations.iter().collect();
        sorted.sort_by(|a, b| {
            (a.id, &a.subject, a.route, a.attempt, a.address).cmp(&(b.id, &b.subject, b.route, b.attempt, b.address))
        });
        let mut routes: BTreeSet<Route> = record.context.routes.iter().copied().collect();
        routes.extend(record.not_run.iter().filter_map(|not_run| not_run.route));
        for observation in sorted {
            routes.extend(Some(observation.route).filter(|_| observation.host_service.is_none()));
            case.add(observation);
        }
        if routes.is_empty() {
            routes.insert(Route::Direct);
        }
        case.routes = routes.into_iter().collect();
        case
    }

    fn add(&mut self, observation: &'a Observation) {
        if observation.control.is_some() {
            let target = self.targets_of(&observation.subject).first().map(|&at| &self.record.targets[at]);
            self.controls.push(View { observation, target });
        } else if observation.is_lookup() {
            let view = View { observation, target: None };
            let targets = match observation.route {
                Route::Direct => self.by_host.get(&*observation.subject).cloned().unwrap_or_default(),
                Route::Proxy => (0..self.record.targets.len()).collect(),
            };
            let resolver = view.last().and_then(super::view::At::resolve).map_or(ResolverView::System, |r| r.view);
            let judged = rules::primary(view).map(with_catalogue);
            self.lookups.push(Lookup { view, resolver, targets, judged, note: None });
        } else if observation.host_service.is_some() {
            self.host.push(Walk::new(View { observation, target: None }, Vec::new()));
        } else {
            let same = self.targets_of(&observation.subject);
            let targets: Vec<usize> = match same {
                [_, _, ..] => same.iter().copied().filter(|&at| fits(&self.record.targets[at], observation)).collect(),
                one => one.to_vec(),
            };
            let view = View { observation, target: targets.first().map(|&at| &self.record.targets[at]) };
            self.walks.push(Walk::new(view, targets));
        }
    }

    /// The targets at this `host:port`.
    pub(super) fn targets_of(&self, authority: &str) -> &[usize] {
        self.by_authority.get(authority).map_or(&[], Vec::as_slice)
    }

    /// The targets at this host.
    pub(super) fn targets_at(&self, host: &str) -> &[usize] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// The cell of a target on a route.
    pub(super) fn cell(&self, target: usize, route: Route) -> Option<usize> {
        let column = self.routes.iter().position(|&known| known == route)?;
        Some(target * self.routes.len() + column)
    }

    /// How many cells there are.
    pub(super) fn cell_count(&self) -> usize {
        self.record.targets.len() * self.routes.len()
    }

    /// The cells of a walk.
    pub(super) fn cells_of<'s>(&'s self, walk: &'s Walk<'a>) -> impl Iterator<Item = usize> + 's {
        walk.targets.iter().filter_map(|&target| self.cell(target, walk.view.observation.route))
    }

    /// Attempts passed and failed in each cell.
    pub(super) fn tallies(&self) -> Vec<Tally> {
        let mut tallies = vec![Tally::default(); self.cell_count()];
        for walk in self.walks.iter().filter(|walk| !walk.cancelled) {
            for cell in self.cells_of(walk) {
                let tally = &mut tallies[cell];
                *(if walk.failed { &mut tally.failed } else { &mut tally.passed }) += 1;
            }
        }
        tallies
    }
}

/// Attempts of one cell.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) passed: u32,
    pub(super) failed: u32,
}

impl Tally {
    pub(super) fn always_fails(self) -> bool {
        self.failed > 0 && self.passed == 0
    }

    pub(super) fn is_mixed(self) -> bool {
        self.failed > 0 && self.passed > 0
    }

    pub(super) fn tried(self) -> u32 {
        self.passed + self.failed
    }
}

/// Takes over what the catalogue says of the code: it may lower the severity, and names the party where the rule could
/// not.
pub(super) fn with_catalogue(mut judged: Judged) -> Judged {
    if let Some(entry) = catalogue::find(judged.code.0) {
        judged.severity = judged.severity.max(entry.severity);
        if judged.party == crate::model::Party::Unknown {
            judged.party = entry.party;
        }
    }
    judged
}

/// Whether a walk can belong to this one of several targets at the same host and port.
fn fits(target: &Target, observation: &Observation) -> bool {
    let last = observation.steps.last();
    let failed = observation.failed().is_some();
    let tls = observation.step(Layer::Handshake, Leg::Origin).is_some();
    let request = observation.step(Layer::Request, Leg::Origin);
    let path = request.and_then(|step| match &step.evidence {
        crate::model::Evidence::Request(request) if request.exchange.is_none() => Some(request.path.as_str()),
        _ => None,
    });
    if tls && !target.scheme.has_tls() || path.is_some_and(|path| path != target.path || !target.scheme.has_http()) {
        return false;
    }
    if path.is_some() {
        return tls == target.scheme.has_tls();
    }
    failed
        || match last.map(crate::model::Step::layer) {
            Some(Layer::Handshake) => target.scheme == Scheme::Tls,
            // A request without a path is an exchange.
            Some(Layer::Connect | Layer::Tunnel | Layer::Request) => target.scheme == Scheme::Tcp,
            Some(Layer::Resolve) | None => false,
        }
}
