//! What the consumers would themselves report: from the observations to what becomes of their own requests (`fate`), from
//! there through the model of [`crate::azure::snapshot`] to codes, and into words (`words`).
//!
//! What was not observed is not guessed: every possibility is decided, and only what they have in common is said. Orders
//! are never sent, so that a healthy host carries them out is an assumption, and is called one.

mod fate;
mod words;

use fate::{Fate, HostFate, Why};

use super::case::Case;
use crate::{
    azure::snapshot::{Build, Disk, Ending, HostAnswer, Message, Method, Situation, Taker, Way, decide, ways},
    classify::codes as c,
    model::{Class, Context, HostService, Outcome, Prediction, Route},
};

/// Observations that one prediction names.
const MAX_OBSERVATIONS: usize = 64;

/// The predictions for the consumer of the record, the chosen method first.
pub(super) fn predictions(case: &Case<'_>) -> Vec<Prediction> {
    let consumer = case.record.context.consumer.as_str();
    match (Build::from_consumer(consumer), consumer) {
        (Some(build), _) => extension(case, build),
        (None, WINDOWS) => windows(case),
        (None, AGENT) => agent(case).into_iter().collect(),
        _ => Vec::new(),
    }
}

const WINDOWS: &str = "vmsnapshot-windows";
const AGENT: &str = "waagent";

/// The route that the consumer of the record takes to storage; `None`: there is no consumer.
pub(super) fn route(context: &Context) -> Option<Route> {
    let consumer = context.consumer.as_str();
    let way = match Build::from_consumer(consumer) {
        Some(build) => to_storage(context, build),
        None if consumer == AGENT || consumer == WINDOWS => by_system(context, consumer),
        None if consumer == "none" => return None,
        None => Way::Direct,
    };
    Some(if way == Way::Direct { Route::Direct } else { Route::Proxy })
}

fn to_storage(context: &Context, build: Build) -> Way {
    let (host, port) = keys(context);
    ways(build, host.as_deref(), port.as_deref()).0
}

/// `HttpProxy.Host` and `HttpProxy.Port` as the extension reads them. A proxy that is not the agent's file's was named by
/// whoever asks what would be if it were configured as documented; one of the environment is nothing to the extension.
fn keys(context: &Context) -> (Option<String>, Option<String>) {
    let both = |url: &str| {
        let authority = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        (Some(host.trim_matches(['[', ']']).to_owned()), Some(port.to_owned()))
    };
    let sources = &context.proxy_sources;
    let explicit = sources.first().is_none_or(|source| source.origin == "--proxy");
    if let (true, Some(proxy)) = (explicit, &context.proxy) {
        return both(proxy);
    }
    if let Some(read) = context.discovery.as_ref().and_then(|discovery| discovery.extension_proxy.as_ref()) {
        return (read.host.clone(), read.port.clone());
    }
    let unreadable = context.misread_agent_file.iter().any(|line| line.reading.is_none());
    let named = sources.iter().find(|source| source.origin.ends_with("waagent.conf") && source.proxy.is_some());
    match named.and_then(|source| source.proxy.as_deref()) {
        Some(proxy) if !unreadable => both(proxy),
        _ => (None, None),
    }
}

/// The way of a consumer that uses the proxy it is told of.
fn by_system(context: &Context, consumer: &str) -> Way {
    let row = context.discovery.as_ref().and_then(|d| d.consumers.iter().find(|row| row.consumer == consumer));
    let proxy = match row {
        Some(row) => row.proxy.as_deref(),
        None => context.proxy.as_deref(),
    };
    let Some((_, authority)) = proxy.and_then(|proxy| proxy.split_once("://")) else { return Way::Direct };
    match authority.trim_end_matches('/').rsplit_once(':') {
        Some((host, port)) => match port.parse() {
            Ok(port) => Way::Proxy { host: host.trim_matches(['[', ']']).to_owned(), port },
            Err(_) => Way::Unusable,
        },
        None => Way::Unusable,
    }
}

/// The chosen method first; an unknown one is the default, as for the extension.
fn methods(context: &Context) -> Vec<Method> {
    let chosen = Method::from_name(&context.method).unwrap_or_default();
    let others = Method::ALL.into_iter().filter(|&method| method != chosen);
    std::iter::once(chosen).chain(others).collect()
}

// ---- the Linux extension

fn extension(case: &Case<'_>, build: Build) -> Vec<Prediction> {
    let context = &case.record.context;
    let (host, port) = keys(context);
    let (storage_way, host_way) = ways(build, host.as_deref(), port.as_deref());
    let disks = fate::disks(case, &storage_way);
    if disks.is_empty() {
        return Vec::new();
    }
    let mut to_host = fate::host(case, HostService::WireServer, disks.len());
    if host_way != Way::Direct {
        let why = Why::Said("this build asks even the host through the proxy".into());
        to_host = HostFate { answers: Some((HostAnswer::None, HostAnswer::None)), why: Some(why), ..to_host };
    }
    let seen = words::Seen::new(case, &storage_way, &disks, &to_host);
    let one = |method| {
        let ending = Endings::of(build, method, &disks, &to_host);
        let reason = words::reason(&seen, build, method, &ending);
        Prediction {
            consumer: build.consumer().to_owned(),
            method: method.as_str().to_owned(),
            outcome: ending.outcome(),
            class: ending.class(),
            extension_code: ending.common(|ending| ending.code),
            extension_error_code: ending.common(|ending| ending.error_code).flatten(),
            extension_name: ending.common(Ending::name).map(ToOwned::to_owned),
            portal_error: ending.portal().map(ToOwned::to_owned),
            reason,
            observations: observations(method, &disks, &to_host),
        }
    };
    methods(context).into_iter().map(one).collect()
}

fn observations(method: Method, disks: &[Fate], host: &HostFate) -> Vec<u32> {
    let from_host = host.observations.iter().filter(|_| method != Method::OnlyGuest);
    let from_disks = disks.iter().flat_map(|disk| &disk.observations).filter(|_| method != Method::OnlyHost);
    let mut ids: Vec<u32> = from_host.chain(from_disks).copied().take(MAX_OBSERVATIONS).collect();
    ids.sort_unstable();
    ids
}

/// What a run may end with: one ending for each possibility that the observations leave open.
struct Endings(Vec<(Ending, Class)>);

impl Endings {
    fn of(build: Build, method: Method, disks: &[Fate], host: &HostFate) -> Self {
        // What is open may all work, all fail, or do a bit of both.
        let open = disks.iter().filter(|disk| disk.disk.is_none()).count();
        let fill = |working: usize| -> Vec<Disk> {
            let mut left = working;
            let filled = disks.iter().map(|fate| {
                fate.disk.unwrap_or_else(|| {
                    let works = left > 0;
                    left = left.saturating_sub(1);
                    if works { Disk::Taken } else { Disk::Exception }
                })
            });
            filled.collect()
        };
        let mut mixtures = vec![open];
        mixtures.extend((open > 1).then_some(1));
        mixtures.extend((open > 0).then_some(0));
        let answers = host.answers.clone().map_or_else(
            || {
                let done = HostAnswer::done(disks.len());
                vec![(done.clone(), done), (HostAnswer::None, HostAnswer::None)]
            },
            |known| vec![known],
        );
        let mut endings: Vec<(Ending, Class)> = Vec::new();
        for mixture in mixtures {
            let disks = fill(mixture);
            for (preparation, order) in &answers {
                let situation = Situation { disks: &disks, preparation: preparation.clone(), order: order.clone() };
                let ending = decide(build, method, &situation);
                let class = class(&ending, &situation);
                if !endings.contains(&(ending.clone(), class)) {
                    endings.push((ending, class));
                }
            }
        }
        Self(endings)
    }

    /// What all possibilities have in common.
    fn common<T: PartialEq>(&self, what: impl Fn(&Ending) -> T) -> Option<T> {
        let (first, _) = self.0.first()?;
        let value = what(first);
        self.0.iter().all(|(ending, _)| what(ending) == value).then_some(value)
    }

    fn outcome(&self) -> Outcome {
        match self.common(Ending::is_success) {
            Some(true) => Outcome::Success,
            Some(false) => Outcome::Failure,
            None => Outcome::Unknown,
        }
    }

    /// What it means, or would mean if it failed.
    fn class(&self) -> Class {
        let mut failures = self.0.iter().map(|&(_, class)| class).filter(|&class| class != Class::None);
        let Some(first) = failures.next() else { return Class::None };
        if failures.all(|class| class == first) { first } else { Class::GenericError }
    }

    /// What the portal shows if it fails, where all failures show the same.
    fn portal(&self) -> Option<&'static str> {
        let mut shown = self.0.iter().filter(|(ending, _)| !ending.is_success()).map(|(ending, _)| portal(ending));
        let first = shown.next()?;
        if shown.all(|other| other == first) { first } else { None }
    }
}

/// What an ending means for people, whatever number it carries.
fn class(ending: &Ending, situation: &Situation<'_>) -> Class {
    if ending.is_success() {
        return Class::None;
    }
    let quota = situation.disks.iter().find_map(|disk| match disk {
        Disk::Refused(Message::RateExceeded) => Some(Class::RateExceeded),
        Disk::Refused(Message::LimitReached) => Some(Class::LimitReached),
        _ => None,
    });
    match (ending.taker, &situation.order) {
        (Taker::Guest, _) => quota.unwrap_or({
            if situation.disks.contains(&Disk::Taken) { Class::RestrictedNetwork } else { Class::NoNetwork }
        }),
        (Taker::Host, HostAnswer::None) => Class::NoNetwork,
        (Taker::Host, HostAnswer::Http { .. }) => Class::HostError,
    }
}

/// The portal's code for what the extension reports. The mapping is the Backup service's and not public; this is by name
/// and by reports from the field.
fn portal(ending: &Ending) -> Option<&'static str> {
    match ending.code {
        76 => Some(NO_NETWORK),
        2 if ending.broke_off => Some(NO_NETWORK),
        85 => Some("ExtensionFailedSnapshotLimitReachedError"),
        _ => None,
    }
}

const NO_NETWORK: &str = "ExtensionSnapshotFailedNoNetwork";

// ---- the Windows extension

/// The Windows extension is not public: this is the documented behaviour, with the proxy of the system account.
fn windows(case: &Case<'_>) -> Vec<Prediction> {
    let way = by_system(&case.record.context, WINDOWS);
    let disks = fate::disks(case, &way);
    if disks.is_empty() {
        return Vec::new();
    }
    let host = fate::host(case, HostService::WireServer, disks.len());
    let seen = words::Seen::new(case, &way, &disks, &host);
    let insecure = disks.iter().any(|disk| {
        matches!(disk.why, Some(Why::Code(code)) if code == c::TLS_PROTOCOL_VERSION || code == c::TLS_HANDSHAKE_FAILURE)
    });
    let one = |method| {
        // The numbers are the Linux extension's and are not told; who succeeds is common to both.
        let endings = Endings::of(Build::Until2025, method, &disks, &host);
        let portal_error = match endings.portal() {
            Some(NO_NETWORK) if insecure => Some("ExtensionSnapshotFailedNoSecureNetwork"),
            other => other,
        };
        Prediction {
            consumer: WINDOWS.to_owned(),
            method: method.as_str().to_owned(),
            outcome: endings.outcome(),
            class: endings.class(),
            extension_code: None,
            extension_error_code: None,
            extension_name: None,
            portal_error: portal_error.map(ToOwned::to_owned),
            reason: words::windows(&seen, method, &endings, portal_error),
            observations: observations(method, &disks, &host),
        }
    };
    methods(&case.record.context).into_iter().map(one).collect()
}

// ---- the agent

/// The agent gets its orders from the wire server, and carries packages and status through the host plugin; only where
/// that is down does it go to storage itself (`WALinuxAgent`, `protocol/wire.py` and `protocol/hostplugin.py`).
fn agent(case: &Case<'_>) -> Option<Prediction> {
    let context = &case.record.context;
    let way = by_system(context, AGENT);
    let disks = fate::disks(case, &way);
    let wire = fate::host(case, HostService::WireServer, 0);
    let plugin = fate::host(case, HostService::HostPlugin, 0);
    if disks.is_empty() && wire.observations.is_empty() {
        return None;
    }
    let (outcome, class, portal_error, reason) = words::agent(&way, &wire, &plugin, &disks);
    let ids = wire.observations.iter().chain(&plugin.observations);
    let mut observations: Vec<u32> =
        ids.chain(disks.iter().flat_map(|disk| &disk.observations)).copied().take(MAX_OBSERVATIONS).collect();
    observations.sort_unstable();
    Some(Prediction {
        consumer: AGENT.to_owned(),
        method: Method::from_name(&context.method).unwrap_or_default().as_str().to_owned(),
        outcome,
        class,
        extension_code: None,
        extension_error_code: None,
        extension_name: None,
        portal_error: portal_error.map(ToOwned::to_owned),
        reason,
        observations,
    })
}
