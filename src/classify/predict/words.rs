//! The reasons of predictions, in words.

use std::collections::HashMap;

use super::{
    Endings,
    fate::{Fate, HostFate, Why},
};
use crate::{
    azure::snapshot::{Build, Disk, HostAnswer, Method, Taker, Way},
    classify::{case::Case, catalogue},
    model::{Class, Outcome, Route},
};

/// Disks that are named one by one.
const MAX_NAMED: usize = 3;

/// What all reasons of one consumer draw on.
pub(super) struct Seen {
    /// How storage is asked, with what came of it.
    guest: String,
    /// Whether every disk is known to work that way.
    all_work: bool,
    /// What the host does, if anything is known.
    host: String,
    /// Whether the host is known to answer.
    host_answers: bool,
    /// Whether it is open what the host does.
    host_open: bool,
}

impl Seen {
    pub(super) fn new(case: &Case<'_>, way: &Way, disks: &[Fate], host: &HostFate) -> Self {
        let all_work = disks.iter().all(|disk| disk.disk == Some(Disk::Taken) && disk.why.is_none());
        Self {
            guest: guest(case, way, disks),
            all_work,
            host: self::host(host),
            host_answers: answers(host),
            host_open: host.answers.is_none(),
        }
    }
}

/// Whether the host is expected to do what it is asked.
fn answers(host: &HostFate) -> bool {
    matches!(&host.answers, Some((HostAnswer::Http { status: 200 | 201, .. }, _))) && host.why.is_none()
}

fn host(host: &HostFate) -> String {
    let why = host.why.as_ref().map(said).unwrap_or_default();
    match &host.answers {
        Some(_) if answers(host) => "The wire server answers, so the host is expected to take the snapshot".into(),
        Some((HostAnswer::None, _)) => format!("The host cannot be asked: {why}"),
        Some((HostAnswer::Http { status, .. }, _)) => {
            format!("The host is not expected to take the snapshot: it answers with status {status} ({why})")
        }
        None => format!("Whether the host takes the snapshot is open: {why}"),
    }
}

fn guest(case: &Case<'_>, way: &Way, disks: &[Fate]) -> String {
    let (many, total) = (disks.len() > 1, disks.len());
    let troubled: Vec<&Fate> = disks.iter().filter(|disk| disk.disk != Some(Disk::Taken)).collect();
    let proxy = case.record.context.proxy.as_deref();
    let ignored = *way == Way::Direct && proxy.is_some();
    let mut text: String = match way {
        Way::Direct if ignored && work_by_proxy(case, &troubled) => {
            "The proxy works, but the extension ignores it and goes direct".into()
        }
        Way::Direct if ignored => "The extension ignores the proxy and goes direct".into(),
        Way::Direct => "The extension goes direct".into(),
        Way::Proxy { host, port } => format!("The extension goes through the proxy {host}:{port}"),
        Way::Unusable => "The extension cannot use the port that its proxy has in waagent.conf".into(),
    };
    let subjects = |disks: &[&Fate]| {
        let names: Vec<&str> = disks.iter().take(MAX_NAMED).map(|disk| &*disk.subject).collect();
        let more = disks.len().saturating_sub(MAX_NAMED);
        if more == 0 { names.join(", ") } else { format!("{} and {more} more", names.join(", ")) }
    };
    let known: Vec<&Fate> = troubled.iter().copied().filter(|disk| disk.disk.is_some()).collect();
    let open: Vec<&Fate> = troubled.iter().copied().filter(|disk| disk.disk.is_none()).collect();
    if troubled.is_empty() {
        let all: Vec<&Fate> = disks.iter().collect();
        let answer = if many { "answer" } else { "answers" };
        text = format!("{text}: {} {answer}", subjects(&all));
        if let Some(strange) = disks.iter().find_map(|disk| disk.why.as_ref()) {
            text = format!("{text}, though {}", said(strange));
        }
        return text;
    }
    if let Some(first) = known.first() {
        let why = first.why.as_ref().map(said).unwrap_or_default();
        let verb = match (first.disk, known.len()) {
            (Some(Disk::Refused(_)), 1) => "refuses",
            (Some(Disk::Refused(_)), _) => "refuse",
            (_, 1) => "fails",
            _ => "fail",
        };
        let of = if known.len() < total { format!(" ({} of {total} disks)", known.len()) } else { String::new() };
        text = format!("{text}: {} {verb}{of}: {why}", subjects(&known));
    }
    if let Some(first) = open.first() {
        let why = first.why.as_ref().map(said).unwrap_or_default();
        text = format!("{text}; what comes of {} is open: {why}", subjects(&open));
    }
    text
}

/// Whether there is one among the disks that every attempt through the proxy reached.
fn work_by_proxy(case: &Case<'_>, disks: &[&Fate]) -> bool {
    let mut reached: HashMap<&str, bool> = HashMap::new();
    for walk in case.walks.iter().filter(|walk| walk.view.observation.route == Route::Proxy) {
        *reached.entry(&walk.view.observation.subject).or_insert(true) &= !walk.failed && !walk.cancelled;
    }
    disks.iter().any(|disk| reached.get(&*disk.subject) == Some(&true))
}

fn said(why: &Why) -> String {
    match why {
        Why::Code(code) => {
            let title = catalogue::find(code.0).map_or("", |entry| entry.title);
            format!("{title} ({code})")
        }
        Why::Said(text) => text.clone(),
    }
}

/// The reason of one method.
pub(super) fn reason(seen: &Seen, build: Build, method: Method, endings: &Endings) -> String {
    let takers: Vec<Taker> = endings.0.iter().map(|(ending, _)| ending.taker).collect();
    let only_host = takers.iter().all(|&taker| taker == Taker::Host);
    let mut parts = Vec::new();
    let mut guest_told = false;
    if method != Method::OnlyGuest && !(method == Method::FirstGuestThenHost && seen.all_work) {
        if method == Method::FirstGuestThenHost {
            parts.push(seen.guest.clone());
            guest_told = true;
        }
        let asked = method != Method::FirstGuestThenHost || takers.contains(&Taker::Host);
        if asked {
            parts.push(seen.host.clone());
        } else if build == Build::Until2019 {
            parts.push("This build does not turn to the host after that".into());
        }
    }
    if !guest_told && method != Method::OnlyHost && !(only_host && seen.host_answers) {
        parts.push(seen.guest.clone());
    }
    let outcome = endings.outcome();
    parts.push(expectation(endings, outcome, seen, method));
    // What would be without the host is what the reader wants to know when it is silent tonight.
    if method == Method::FirstHostThenGuest && only_host && seen.host_answers {
        let fallback = if seen.all_work {
            "Should it not answer by then, the extension asks storage itself, which works".to_owned()
        } else {
            format!("Should it not answer by then, storage has to: {}", uncapitalised(&seen.guest))
        };
        parts.push(fallback);
    }
    sentences(&parts)
}

fn expectation(endings: &Endings, outcome: Outcome, seen: &Seen, method: Method) -> String {
    let code = endings.common(|ending| ending.code);
    let health = endings.common(|ending| ending.error_code).flatten();
    let numbers = match (code, health) {
        (Some(code), Some(health)) if health != code && health != 1 => {
            format!(" (status code {code}, health code {health})")
        }
        (Some(code), _) => format!(" (status code {code})"),
        (None, _) => String::new(),
    };
    match outcome {
        Outcome::Success => "Expect success".into(),
        Outcome::Failure => format!("Expect {}{numbers}", failure(endings)),
        Outcome::Unknown => {
            let unless = if seen.host_open && method != Method::OnlyGuest {
                "the host takes the snapshot"
            } else {
                "what is open turns out well"
            };
            format!("Expect {} unless {unless}", failure(endings))
        }
    }
}

fn failure(endings: &Endings) -> String {
    if let Some(portal) = endings.portal() {
        return portal.to_owned();
    }
    let failed = endings.0.iter().find(|(ending, _)| !ending.is_success());
    failed.map_or_else(String::new, |(ending, _)| ending.name().to_owned())
}

/// The reason of one method of the Windows extension.
pub(super) fn windows(seen: &Seen, method: Method, endings: &Endings, portal: Option<&str>) -> String {
    let mut parts = Vec::new();
    if method != Method::OnlyGuest {
        parts.push(seen.host.clone());
    }
    if method != Method::OnlyHost && !(method == Method::FirstHostThenGuest && seen.host_answers) {
        parts.push(seen.guest.clone());
    }
    let shown = portal.unwrap_or("a failure");
    parts.push(match endings.outcome() {
        Outcome::Success => "Expect success".into(),
        Outcome::Failure => format!("Expect {shown}"),
        Outcome::Unknown => format!("Expect {shown} unless what is open turns out well"),
    });
    parts.push("The Windows extension is not public: this follows its documentation, and is less sure".into());
    sentences(&parts)
}

/// What the portal shows while the agent does not report.
const OFFLINE: &str = "UserErrorGuestAgentStatusUnavailable";

/// What the portal shows where the agent's status is missing.
const NO_STATUS: &str = "GuestAgentSnapshotTaskStatusError";

/// How the agent fares: outcome, class, portal error and reason.
pub(super) fn agent(
    way: &Way,
    wire: &HostFate,
    plugin: &HostFate,
    disks: &[Fate],
) -> (Outcome, Class, Option<&'static str>, String) {
    let why = |fate: &HostFate| fate.why.as_ref().map(said).unwrap_or_default();
    let state = |fate: &HostFate| match &fate.answers {
        Some(_) if answers(fate) => Outcome::Success,
        Some(_) => Outcome::Failure,
        None => Outcome::Unknown,
    };
    let storage = {
        let all = |disk: Disk| !disks.is_empty() && disks.iter().all(|fate| fate.disk == Some(disk));
        if all(Disk::Taken) {
            Outcome::Success
        } else if !disks.is_empty() && disks.iter().all(|fate| fate.disk.is_some_and(|disk| disk != Disk::Taken)) {
            Outcome::Failure
        } else {
            Outcome::Unknown
        }
    };
    let by = match way {
        Way::Direct => "directly".to_owned(),
        Way::Proxy { host, port } => format!("through {host}:{port}"),
        Way::Unusable => "through a proxy without a usable port".into(),
    };
    match (state(wire), state(plugin), storage) {
        (Outcome::Failure, ..) => {
            let text = format!("The wire server gives the agent no orders: {}. Expect {OFFLINE}.", why(wire));
            (Outcome::Failure, Class::NoNetwork, Some(OFFLINE), text)
        }
        (Outcome::Unknown, ..) => {
            let text = format!("Whether the wire server gives the agent its orders is open: {}.", why(wire));
            (Outcome::Unknown, Class::NoNetwork, Some(OFFLINE), text)
        }
        (Outcome::Success, Outcome::Success, _) => {
            let text =
                "Wire server and host plugin answer: orders, packages and status need neither storage nor proxy.";
            (Outcome::Success, Class::None, None, text.into())
        }
        (Outcome::Success, _, Outcome::Success) => {
            let text = format!("The host plugin is no help ({}), but the agent reaches storage {by}.", why(plugin));
            (Outcome::Success, Class::None, None, text)
        }
        (Outcome::Success, Outcome::Failure, Outcome::Failure) => {
            let text = format!(
                "The host plugin is no help ({}), and {by} the agent does not reach storage either: no packages, no \
                 status. Expect {NO_STATUS}.",
                why(plugin)
            );
            (Outcome::Failure, Class::NoNetwork, Some(NO_STATUS), text)
        }
        (Outcome::Success, ..) => {
            let text = format!("Whether packages and status get through is open: {}.", why(plugin));
            (Outcome::Unknown, Class::NoNetwork, Some(NO_STATUS), text)
        }
    }
}

fn sentences(parts: &[String]) -> String {
    parts.iter().map(|part| format!("{part}.")).collect::<Vec<_>>().join(" ")
}

fn uncapitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::codes as c;

    #[test]
    fn codes_are_said_with_their_title() {
        assert_eq!(said(&Why::Code(c::TCP_CONNECT_TIMEOUT)), "SYN unanswered (tcp.connect_timeout)");
    }
}
