//! The host channel: whether the wire server, the host plugin and instance metadata answer themselves, and what several
//! attempts on them tell together. They are no targets: what is found here is said beside the cells and changes none of them.

use std::collections::HashMap;

use super::{
    case::{Case, Tally, Walk, with_catalogue},
    proxy_reply,
    rules::Judged,
    view::At,
};
use crate::{
    classify::codes as c,
    http::Reply,
    model::{Confidence, FailureKind, HostService, Layer, Leg, Party, Severity},
};

/// Whether the step belongs to a walk to the host channel.
pub(super) fn is_asked(at: &At<'_>) -> bool {
    at.view.observation.host_service.is_some()
}

/// Whether something else than the service answered.
pub(super) fn is_stranger(at: &At<'_>) -> bool {
    let service = at.view.observation.host_service;
    service.zip(reply(at)).is_some_and(|(service, reply)| !is_genuine(service, reply))
}

/// Whether the answer came through a proxy, or is a proxy's own.
pub(super) fn is_proxied(at: &At<'_>) -> bool {
    is_asked(at) && reply(at).is_some_and(|reply| proxy_reply::is_marked(reply) || reply.proxy_mark().is_some())
}

fn reply<'a>(at: &At<'a>) -> Option<&'a Reply> {
    at.request()?.reply.as_ref()
}

/// The wire server lists its protocol versions in XML, as the Linux agent reads them (`VersionInfo` of its
/// `protocol/wire.py`); the host plugin's health is no more than a 200 without a page. Instance metadata names itself, and
/// speaks JSON: its versions, a part of the machine's description, or, with 400, the versions that it would take.
fn is_genuine(service: HostService, reply: &Reply) -> bool {
    let body = reply.body.text.trim_start();
    let has = |keys: &[&str]| body.starts_with('{') && keys.iter().any(|key| body.contains(key));
    match (service, reply.status) {
        (HostService::WireServer, 200) => {
            ["<Versions", "<Preferred", "<Supported"].iter().all(|tag| body.contains(tag))
        }
        (HostService::HostPlugin, 200) => {
            let page = reply.header("content-type").is_some_and(|kind| kind.starts_with("text/html"));
            !page && !body.starts_with('<')
        }
        (HostService::InstanceMetadata, _) if reply.header("server").is_some_and(|name| name.starts_with("IMDS/")) => {
            true
        }
        (HostService::InstanceMetadata, 200) => has(&["\"apiVersions\"", "\"compute\"", "\"network\""]),
        (HostService::InstanceMetadata, 400) => has(&["\"newest-versions\""]),
        _ => false,
    }
}

/// What the attempts tell together, and who made them.
pub(super) fn compare(case: &mut Case<'_>) {
    let tallies = case.host_tallies();
    let connected: Vec<u16> = case.host.iter().filter(|walk| !is_metadata(walk)).filter_map(connected_port).collect();
    let metadata = |test: fn(&Walk<'_>) -> bool| case.host.iter().any(|walk| is_metadata(walk) && test(walk));
    let (metadata_answers, metadata_silent) = (metadata(|walk| walk.judged.is_none()), metadata(is_silent));
    // The agent's firewall rule drops what others than root send to either port (`firewall_manager.py` of the Linux
    // agent), so a connection to one of them rules it out. It leaves instance metadata alone.
    let unprivileged = case.record.context.privileged == Some(false) && connected.is_empty();
    for walk in case.host.iter_mut().filter(|walk| walk.failed) {
        let tally = tallies.get(&*walk.view.observation.subject).copied().unwrap_or_default();
        let port = walk.view.observation.address.map(|address| address.port());
        let (silent, metadata) = (is_silent(walk), is_metadata(walk));
        let Some(judged) = &mut walk.judged else { continue };
        if metadata {
            // Neither agent nor extension needs it for a snapshot.
            judged.severity = judged.severity.max(Severity::Warning);
        }
        if tally.is_mixed() {
            judged.severity = Severity::Warning;
            walk.note = Some(format!("{} of {} attempts failed, the others passed", tally.failed, tally.tried()));
            continue;
        }
        if !silent || metadata {
            continue;
        }
        if unprivileged {
            *judged = with_catalogue(Judged { code: c::HOST_ROOT_NEEDED, party: Party::Client, ..*judged });
            if metadata_answers {
                walk.note = Some(format!("{LINK_IS_UP}, as under that rule"));
            } else if metadata_silent {
                walk.note = Some(LINK_MAY_BE_DOWN.to_owned());
            }
        } else if let Some(other) = connected.iter().find(|&&other| Some(other) != port) {
            judged.confidence = Confidence::Differential;
            walk.note = Some(format!("port {other} of the same address accepts connections"));
        } else if metadata_answers {
            judged.confidence = Confidence::Differential;
            walk.note = Some(format!("{LINK_IS_UP}: a rule about this address"));
        }
    }
}

/// What instance metadata tells about a wire server that is silent.
const LINK_IS_UP: &str = "instance metadata answers, so the way to the host is open";
const LINK_MAY_BE_DOWN: &str = "but instance metadata, which that rule leaves alone, is silent too";

fn is_metadata(walk: &Walk<'_>) -> bool {
    walk.view.observation.host_service == Some(HostService::InstanceMetadata)
}

/// Whether the SYN was not answered.
fn is_silent(walk: &Walk<'_>) -> bool {
    let failed = walk.view.observation.failed();
    failed.is_some_and(|(step, failure)| step.layer() == Layer::Connect && failure.kind == FailureKind::TimedOut)
}

fn connected_port(walk: &Walk<'_>) -> Option<u16> {
    walk.view.at(Layer::Connect, Leg::Origin).filter(|at| at.failure().is_none())?;
    Some(walk.view.observation.address?.port())
}

impl<'a> Case<'a> {
    /// Attempts on each service, by its `host:port`.
    pub(super) fn host_tallies(&self) -> HashMap<&'a str, Tally> {
        let mut tallies: HashMap<&str, Tally> = HashMap::new();
        for walk in self.host.iter().filter(|walk| !walk.cancelled) {
            let tally = tallies.entry(&walk.view.observation.subject).or_default();
            *(if walk.failed { &mut tally.failed } else { &mut tally.passed }) += 1;
        }
        tallies
    }
}
