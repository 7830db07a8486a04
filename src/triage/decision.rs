//! Whether the numbers that were reported follow from the results that stand in the log, by the extension's own rules
//! ([`crate::azure::snapshot::decide`]).

use super::{Attempt, Call, Disk, Mark, Way, exception};
use crate::{
    azure::snapshot::{
        self, Build, Disk as Result, Ending, HostAnswer, HostBody, HostDisk, HostSuccess, Message, Method, Situation,
    },
    model::Hop,
};

/// The last version of 2018's rules; those of 2025 have no version of their own.
const UNTIL_2019: [u32; 4] = [1, 0, 9152, u32::MAX];

/// What the results in the log end with, where no build of the extension makes of them what was reported; `None` where
/// one does, or where the log does not hold all that the rules ask for.
pub(super) fn contradiction(attempt: &Attempt) -> Option<(Build, Ending)> {
    let elsewhere = [Mark::FreezeFailed, Mark::TooLate, Mark::NoDisks, Mark::Inconsistent];
    if elsewhere.iter().any(|kind| attempt.has(*kind)) || attempt.ways.is_empty() {
        return None;
    }
    let code = attempt.code.filter(|code| *code != 4 && *code != 3)?;
    let method = attempt.forced_method.as_deref().or(attempt.method.as_deref())?;
    let disks = guest(attempt)?;
    let situation = Situation {
        disks: &disks,
        preparation: answer(attempt, Call::PreSnapshot)?,
        order: answer(attempt, Call::DoSnapshot)?,
    };
    let endings: Vec<(Build, Ending)> = builds(attempt)
        .iter()
        // A name that the extension does not know stands for its default.
        .map(|&build| (build, snapshot::decide(build, Method::from_name(method).unwrap_or_default(), &situation)))
        .collect();
    let agrees = |ending: &Ending| {
        // Scripts and file systems make 0 of a 1.
        let same = ending.code == code || ending.is_success() && code == 0;
        same && attempt.health_code.is_none_or(|health| ending.error_code.is_none_or(|expected| expected == health))
    };
    if endings.iter().any(|(_, ending)| agrees(ending)) {
        return None;
    }
    endings.into_iter().next_back()
}

/// The builds that may have written the log.
fn builds(attempt: &Attempt) -> &'static [Build] {
    let version = attempt.version.as_deref().and_then(|version| {
        let mut numbers = [0; 4];
        for (number, part) in numbers.iter_mut().zip(version.split('.')) {
            *number = part.parse().ok()?;
        }
        Some(numbers)
    });
    match version {
        Some(version) if version <= UNTIL_2019 => &Build::ALL[..1],
        Some(_) => &Build::ALL[1..],
        None => &Build::ALL,
    }
}

/// The results of the machine's own requests; where it made none, as many disks as the host was asked for.
fn guest(attempt: &Attempt) -> Option<Vec<Result>> {
    let asked = attempt.disks.iter().filter(|disk| disk.way != Way::Host);
    let results: Vec<Result> = asked.map(result).collect::<Option<_>>()?;
    if results.is_empty() {
        return Some(vec![Result::Taken; attempt.disks.len().max(1)]);
    }
    Some(results)
}

fn result(disk: &Disk) -> Option<Result> {
    match (disk.taken?, &disk.failure) {
        (true, _) => Some(Result::Taken),
        (false, Some(failure)) if failure.hop == Hop::Origin || disk.status.is_some() => {
            Some(Result::Refused(Message::read(&failure.text)))
        }
        (false, Some(_)) => Some(Result::Exception),
        (false, None) => None,
    }
}

/// What the host answered; `None` where the log does not tell enough.
fn answer(attempt: &Attempt, call: Call) -> Option<HostAnswer> {
    let http = |status, body| Some(HostAnswer::Http { status, body });
    let Some(known) = attempt.answer(call) else {
        return match (call, attempt.ways.contains(&Way::Host)) {
            (_, false) => Some(HostAnswer::None),
            // Older builds log no status; had it been another one, the host would not have been asked to go on.
            (Call::PreSnapshot, true) => http(200, HostBody::Other),
            (Call::DoSnapshot, true) => None,
        };
    };
    match known.status? {
        555 => Some(HostAnswer::None),
        556 => http(500, HostBody::Other),
        557 => http(200, HostBody::Empty),
        558 => None,
        status @ (200 | 201) if call == Call::DoSnapshot => {
            let disks = attempt.disks.iter().filter(|disk| disk.way == Way::Host);
            http(status, HostBody::Disks(disks.map(host_disk).collect()))
        }
        status @ (200 | 201) => http(status, HostBody::Other),
        status => http(status, HostBody::Error),
    }
}

fn host_disk(disk: &Disk) -> HostDisk {
    let taken = disk.taken == Some(true);
    let message = match &disk.failure {
        Some(failure) if failure.text != exception::NO_REASON => Message::read(&failure.text),
        _ => Message::None,
    };
    let succeeded = if disk.boolean { HostSuccess::Boolean(taken) } else { HostSuccess::Text(taken) };
    HostDisk { succeeded, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::codes,
        model::Code,
        triage::{Failure, HostCall},
    };

    fn disk(way: Way, code: Option<Code>, text: &str) -> Disk {
        let hop =
            if code.is_some_and(|code| code.0.starts_with("storage.")) { Hop::Origin } else { Hop::ClientToOrigin };
        let failure = code.map(|code| Failure { text: text.into(), code, hop, target: None, place: String::new() });
        Disk {
            way,
            index: None,
            host: None,
            path: String::new(),
            taken: Some(failure.is_none()),
            status: None,
            failure,
            boolean: false,
        }
    }

    fn call(call: Call, status: u16) -> HostCall {
        HostCall { call, status: Some(status), error: None, code: None, place: String::new() }
    }

    fn attempt(
        method: &str,
        ways: &[Way],
        host_calls: Vec<HostCall>,
        disks: Vec<Disk>,
        numbers: (i32, i32),
    ) -> Attempt {
        let (code, health_code) = (Some(numbers.0), Some(numbers.1));
        let method = Some(method.to_owned());
        Attempt { method, ways: ways.to_vec(), host_calls, disks, code, health_code, ..Attempt::default() }
    }

    /// Results of the guest, with the numbers of a build.
    fn guest(version: &str, disks: &[Option<Code>], numbers: (i32, i32)) -> Attempt {
        let disks = disks.iter().map(|code| disk(Way::GuestSequential, *code, "")).collect();
        let calls = vec![call(Call::PreSnapshot, 555)];
        let attempt = attempt("onlyGuest", &[Way::GuestSequential], calls, disks, numbers);
        Attempt { version: Some(version.into()), ..attempt }
    }

    #[test]
    fn each_build_has_its_own_numbers() {
        let timeout = Some(codes::TCP_CONNECT_TIMEOUT);
        for (version, disks, numbers, agrees) in [
            ("1.0.9219.0", &[timeout, timeout][..], (2, 2), true),
            ("1.0.9154.0", &[timeout, timeout], (76, 76), true),
            ("1.0.9152.0", &[timeout, timeout], (2, 2), false),
            ("1.0.9219.0", &[timeout, None], (76, 761), true),
            ("1.0.9219.0", &[timeout, None], (76, 76), false),
            ("1.0.9152.0", &[timeout, None], (1, 1), true),
            ("1.0.9219.0", &[None, None], (1, 1), true),
            ("1.0.9219.0", &[None, None], (76, 76), false),
            ("1.0.9219.0", &[Some(codes::STORAGE_NETWORK_RULES), None], (76, 761), true),
        ] {
            assert_eq!(
                contradiction(&guest(version, disks, numbers)).is_none(),
                agrees,
                "{version} {disks:?} {numbers:?}"
            );
        }
    }

    #[test]
    fn the_hosts_results_are_weighed_as_the_extension_does() {
        let taken = || disk(Way::Host, None, "");
        let calls = || vec![call(Call::PreSnapshot, 200), call(Call::DoSnapshot, 200)];
        let host = |calls, disks, numbers| attempt("firstHostThenGuest", &[Way::Host], calls, disks, numbers);
        assert_eq!(contradiction(&host(calls(), vec![taken(), taken()], (1, 1))), None);
        // A boolean counts for nothing.
        let boolean = Disk { boolean: true, ..taken() };
        assert_eq!(contradiction(&host(calls(), vec![boolean.clone()], (76, 76))), None);
        assert!(contradiction(&host(calls(), vec![boolean], (1, 1))).is_some());
        // Older logs have no status of the preparation; without one of the order nothing can be said.
        assert_eq!(contradiction(&host(calls().split_off(1), vec![taken()], (1, 1))), None);
        assert_eq!(contradiction(&host(Vec::new(), vec![taken()], (85, 85))), None);
        assert!(contradiction(&host(calls(), vec![taken()], (85, 85))).is_some());
    }
}
