//! What the observations say would become of a consumer's own requests: of that for each disk, and of those to the host.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    azure::{
        snapshot::{Disk, HostAnswer, HostBody, Message, STORAGE_PORT as PORT, Way},
        storage,
    },
    classify::{
        case::{Case, Walk},
        codes as c,
        view::{At, View},
    },
    http::Reply,
    model::{Code, Expectation, HostService, Layer, Leg, ResolverView, Route, Target, TrustAnchor, Verification},
};

/// The extension gives each operation of a socket 10 s (`HttpUtil.py`).
const PATIENCE_US: u64 = 10_000_000;

/// What becomes of the request for one disk.
#[derive(Debug, Clone)]
pub(super) struct Fate {
    /// `host:443`.
    pub(super) subject: Arc<str>,
    /// What becomes of it, if that is known.
    pub(super) disk: Option<Disk>,
    /// Why, where it does not simply succeed.
    pub(super) why: Option<Why>,
    /// The observations that tell.
    pub(super) observations: Vec<u32>,
}

/// A reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// A finding of this code.
    Code(Code),
    /// In words, to follow a colon.
    Said(String),
}

/// What becomes of the calls to the host.
#[derive(Debug, Clone)]
pub(super) struct HostFate {
    /// The answers to the preparation and to the order, if they are known.
    pub(super) answers: Option<(HostAnswer, HostAnswer)>,
    /// Why, where the host does not simply do it.
    pub(super) why: Option<Why>,
    /// The observations that tell.
    pub(super) observations: Vec<u32>,
}

/// The route that a way means in this record; `None` when nothing went that way.
pub(super) fn route_of(case: &Case<'_>, way: &Way) -> Result<Route, Why> {
    let said = |text: String| Err(Why::Said(text));
    let (route, name) = match way {
        Way::Direct => (Route::Direct, "direct route".to_owned()),
        Way::Unusable => return Err(Why::Code(c::CONFIG_PROXY_INVALID)),
        Way::Proxy { host, port } => {
            let named = host.contains(':').then(|| format!("[{host}]:{port}")).unwrap_or(format!("{host}:{port}"));
            match case.record.context.proxy.as_deref().and_then(|proxy| proxy.split_once("://")) {
                Some((_, probed)) if probed.trim_end_matches('/').eq_ignore_ascii_case(&named) => {}
                _ => return said(format!("its proxy {named} was not probed")),
            }
            (Route::Proxy, format!("route through {named}"))
        }
    };
    if case.routes.contains(&route) { Ok(route) } else { said(format!("the {name} was not probed")) }
}

/// The disks: the blob URIs among the targets, else every storage host among them.
pub(super) fn disks(case: &Case<'_>, way: &Way) -> Vec<Fate> {
    let targets = &case.record.targets;
    let is_storage = |target: &Target| target.expects == Expectation::Storage;
    let is_blob = |target: &Target| is_storage(target) && target.path.len() > 1;
    let by_blob = targets.iter().any(is_blob);
    // One disk for each blob; where only hosts are known, one for each host.
    let mut subjects: BTreeMap<(String, &str), usize> = BTreeMap::new();
    for (at, target) in targets.iter().enumerate() {
        if if by_blob { is_blob(target) } else { is_storage(target) } {
            let place = subjects.entry((target.host.authority(PORT), &target.path)).or_insert(at);
            // Of several targets of a disk the one that the extension takes too tells most.
            if target.port == PORT && target.scheme.has_tls() {
                *place = at;
            }
        }
    }
    let mut disks: Vec<(usize, String)> = subjects.into_iter().map(|((subject, _), at)| (at, subject)).collect();
    disks.sort_unstable();
    if disks.is_empty() {
        return unknown(case);
    }
    let route = match route_of(case, way) {
        Ok(route) => route,
        Err(why) => {
            let disk = (*way == Way::Unusable).then_some(Disk::Exception);
            let fate = |(_, subject): (usize, String)| Fate {
                subject: subject.into(),
                disk,
                why: Some(why.clone()),
                observations: Vec::new(),
            };
            return disks.into_iter().map(fate).collect();
        }
    };
    let seen = Seen::on(case, route);
    disks.into_iter().map(|(at, subject)| seen.fate(case, &targets[at], &subject)).collect()
}

/// The disks of a machine whose storage hosts nobody knows, where the host channel was asked all the same.
fn unknown(case: &Case<'_>) -> Vec<Fate> {
    if !case.record.targets.is_empty() || case.host.is_empty() {
        return Vec::new();
    }
    let why = Some(Why::Said("no storage host is known".into()));
    vec![Fate { subject: "storage".into(), disk: None, why, observations: Vec::new() }]
}

/// The walks of one route by target, and failed lookups by host.
struct Seen<'c, 'a> {
    route: Route,
    walks: HashMap<&'c str, Vec<&'c Walk<'a>>>,
    lookups: HashMap<&'c str, (Code, u32)>,
}

impl<'c, 'a> Seen<'c, 'a> {
    fn on(case: &'c Case<'a>, route: Route) -> Self {
        let mut walks: HashMap<&str, Vec<&Walk<'a>>> = HashMap::new();
        for walk in case.walks.iter().filter(|walk| walk.view.observation.route == route) {
            walks.entry(&walk.view.observation.subject).or_default().push(walk);
        }
        let failed = case
            .lookups
            .iter()
            .filter(|lookup| lookup.resolver == ResolverView::System && lookup.view.observation.route == route);
        let lookups = failed
            .filter(|lookup| lookup.view.observation.failed().is_some())
            .filter_map(|lookup| Some((lookup.view.host(), (lookup.judged?.code, lookup.view.observation.id))))
            // The end of the run is no answer.
            .filter(|(_, (code, _))| *code != c::META_DEADLINE)
            .collect();
        Self { route, walks, lookups }
    }

    fn fate(&self, case: &Case<'_>, target: &Target, subject: &str) -> Fate {
        let fate = |disk, why, observations| Fate { subject: subject.into(), disk, why, observations };
        let said = |text: &str| Some(Why::Said(text.to_owned()));
        let Some(walks) = self.walks.get(subject) else {
            let name = target.host.name().filter(|_| self.route == Route::Direct);
            return match name.and_then(|name| self.lookups.get(name)) {
                Some(&(code, id)) => fate(Some(Disk::Exception), Some(Why::Code(code)), vec![id]),
                None if self.route == Route::Proxy && !self.lookups.is_empty() => {
                    let (code, id) = self.lookups.values().min_by_key(|(_, id)| *id).copied().unzip();
                    let why = code.map(Why::Code);
                    fate(Some(Disk::Exception), why, id.into_iter().collect())
                }
                None => fate(None, said("port 443, where the extension goes, was not probed"), Vec::new()),
            };
        };
        // An attempt takes the addresses in turn until one accepts the connection, and stays with it.
        let mut attempts: BTreeMap<u16, Vec<&&Walk<'_>>> = BTreeMap::new();
        for walk in walks.iter().filter(|walk| !walk.cancelled && fits(walk, target)) {
            attempts.entry(walk.view.observation.attempt).or_default().push(walk);
        }
        let trusting = case.record.context.without_system_roots;
        let endings: Vec<(Option<Disk>, Option<Why>, u32)> = attempts
            .values()
            .filter_map(|walks| {
                let connected = walks.iter().find(|walk| connects(walk.view)).or(walks.last())?;
                let (disk, why) = ending(connected, target, trusting);
                Some((disk, why, connected.view.observation.id))
            })
            .collect();
        let observations = endings.iter().map(|(.., id)| *id).collect();
        let Some((disk, why, _)) = endings.first().cloned() else {
            return fate(None, said("the run ended before it was measured"), Vec::new());
        };
        match disk {
            Some(_) if endings.iter().all(|(other, ..)| *other == disk) => fate(disk, why, observations),
            Some(_) => {
                let taken = endings.iter().filter(|(disk, ..)| *disk == Some(Disk::Taken)).count();
                let text = format!("{taken} of {} attempts work", endings.len());
                fate(None, Some(Why::Said(text)), observations)
            }
            None => fate(None, why, observations),
        }
    }
}

/// Whether the walk is one to this target, where several share host and port.
fn fits(walk: &Walk<'_>, target: &Target) -> bool {
    target.port != PORT || walk.view.target.is_none_or(|other| other.path == target.path)
}

/// Whether the connection to the first peer, storage or proxy, was accepted.
fn connects(view: View<'_>) -> bool {
    view.steps().find(|at| at.step.layer() == Layer::Connect).is_some_and(|at| at.failure().is_none())
}

/// What the extension would have met where this walk went, and why.
fn ending(walk: &Walk<'_>, target: &Target, trusting: bool) -> (Option<Disk>, Option<Why>) {
    let view = walk.view;
    let code = walk.judged.map(|judged| Why::Code(judged.code));
    let exception = |why: Option<Why>| (Some(Disk::Exception), why);
    let said = |text: &str| Some(Why::Said(text.to_owned()));
    if view.steps().any(|at| at.step.elapsed_us > PATIENCE_US) {
        return exception(code.or(Some(Why::Code(c::HTTP_SLOW))));
    }
    if view.at(Layer::Tunnel, Leg::Proxy).and_then(At::tunnel).is_some_and(|tunnel| tunnel.credentials_sent) {
        return exception(Some(Why::Code(c::CONFIG_PROXY_NEEDS_AUTH)));
    }
    if view.at(Layer::Handshake, Leg::Proxy).is_some() {
        return exception(said("the proxy was spoken to by TLS, which the extension does not do"));
    }
    let mut given = false;
    if let Some(handshake) = view.at(Layer::Handshake, Leg::Origin).and_then(At::handshake) {
        let added = handshake.anchor == Some(TrustAnchor::Added) && view.is_storage_name();
        given = added && !trusting;
        if given && !view.is_rehearsed() {
            return exception(Some(Why::Code(c::CONSUMER_DISTRUSTS_ANCHOR)));
        }
        if handshake.verification.is_some_and(|verification| verification != Verification::Trusted) {
            return exception(code);
        }
    }
    match view.reply() {
        Some(reply) => {
            let sas_sent = view.at(Layer::Request, Leg::Origin).and_then(At::request).is_some_and(|r| r.sas_sent);
            let (disk, why) = answered(reply, sas_sent, code.as_ref());
            // The stand-in's own authority is taken for a public one, and that is said.
            let stood_in = said("the chain is trusted by --ca-file alone, which the extension knows nothing of");
            (disk, why.or(stood_in.filter(|_| given)))
        }
        None if walk.failed => exception(code),
        None if target.scheme.has_http() => (None, said("the walk ended before the answer")),
        None => (None, said("no request was sent to it")),
    }
}

/// What the extension makes of an answer like this one. An anonymous GET is answered otherwise than the signed PUT, so
/// what storage says about missing credentials and missing things says nothing about it.
fn answered(reply: &Reply, sas_sent: bool, code: Option<&Why>) -> (Option<Disk>, Option<Why>) {
    let message = Message::read(&reply.body.text);
    let refused = (Some(Disk::Refused(message)), code.cloned().or_else(|| Some(Why::Said(status(reply)))));
    if !storage::is_storage_reply(reply) {
        return match reply.status {
            200 | 201 => {
                let text =
                    format!("what answers is not storage, but a status {} is all the extension asks for", reply.status);
                (Some(Disk::Taken), Some(Why::Said(text)))
            }
            _ => refused,
        };
    }
    let concerns_all = matches!(
        storage::error_code(reply).unwrap_or_default(),
        "AuthorizationFailure"
            | "AccountIsDisabled"
            | "TlsVersionNotPermitted"
            | "AccountBeingCreated"
            | "SnapshotOperationRateExceeded"
            | "SnapshotCountExceeded"
    );
    let concerns_signed = sas_sent
        && matches!(
            storage::error_code(reply).unwrap_or_default(),
            "AuthenticationFailed"
                | "AuthorizationSourceIPMismatch"
                | "AuthorizationProtocolMismatch"
                | "ContainerNotFound"
                | "BlobNotFound"
                | "ResourceNotFound"
        );
    match reply.status {
        429 | 500.. => refused,
        _ if message != Message::Other || concerns_all || concerns_signed => refused,
        _ => (Some(Disk::Taken), None),
    }
}

fn status(reply: &Reply) -> String {
    match storage::error_code(reply) {
        Some(code) => format!("status {} {code}", reply.status),
        None => format!("status {}", reply.status),
    }
}

/// What becomes of the calls to a service of the host.
pub(super) fn host(case: &Case<'_>, service: HostService, disks: usize) -> HostFate {
    let of_service = |walk: &&Walk<'_>| walk.view.observation.host_service == Some(service) && !walk.cancelled;
    let walks: Vec<&Walk<'_>> = case.host.iter().filter(of_service).collect();
    let observations = walks.iter().map(|walk| walk.view.observation.id).collect();
    let fate = |answers, why| HostFate { answers, why, observations };
    let Some(first) = walks.first() else {
        return fate(None, Some(Why::Said("it was not probed".into())));
    };
    let failed = walks.iter().filter(|walk| walk.judged.is_some()).count();
    if failed == 0 {
        let prepared = HostAnswer::Http { status: 200, body: HostBody::Other };
        return fate(Some((prepared, HostAnswer::done(disks))), None);
    }
    if failed < walks.len() {
        let text = format!("{} of {} attempts work", walks.len() - failed, walks.len());
        return fate(None, Some(Why::Said(text)));
    }
    let code = first.judged.map_or(c::HOST_UNREACHABLE, |judged| judged.code);
    // The code is of every service of the host; the extension needs this one.
    let why = Some(match service {
        HostService::WireServer if code == c::HOST_UNREACHABLE => {
            Why::Said(format!("the wire server does not answer ({code})"))
        }
        _ => Why::Code(code),
    });
    if code == c::HOST_ROOT_NEEDED || code == c::HOST_PROXIED {
        return fate(None, why);
    }
    let answer = first.view.reply().map_or(HostAnswer::None, |reply| {
        let body = if reply.body.text.is_empty() { HostBody::Empty } else { HostBody::Other };
        HostAnswer::Http { status: reply.status, body }
    });
    fate(Some((answer.clone(), answer)), why)
}
