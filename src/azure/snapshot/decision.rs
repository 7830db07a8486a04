//! How the Linux extension decides what to report: a pure function from what became of each disk and of each call to the
//! host to the codes that leave the machine.

use super::{Build, Method};

/// The extension's success.
const SUCCESS: i32 = 1;
/// Its generic error.
const ERROR: i32 = 2;
/// `FailedRetryableSnapshotFailedNoNetwork`
const NO_NETWORK: i32 = 76;
/// `FailedSnapshotLimitReached`
const LIMIT_REACHED: i32 = 85;
/// `FailedRetryableSnapshotRateExceeded`
const RATE_EXCEEDED: i32 = 173;
/// `FailedHostSnapshotRemoteServerError`
const HOST_ERROR: i32 = 556;
/// `FailedRetryableSnapshotFailedRestrictedNetwork`
const RESTRICTED_NETWORK: i32 = 761;

/// What becomes of the requests of one run. File systems are taken to freeze and thaw, and the run to start in time: the
/// codes of those failures (121 to 124, 2, 402) have nothing to do with the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation<'a> {
    /// The machine's own request for each disk, in the order of the disks.
    pub disks: &'a [Disk],
    /// The host's answer to the preparation (`POST …/presnapshot`).
    pub preparation: HostAnswer,
    /// The host's answer to the order (`POST …/dosnapshot`).
    pub order: HostAnswer,
}

/// What becomes of the request for the snapshot of one disk (`PUT …&comp=snapshot`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disk {
    /// Answered with 200 or 201, whoever answered.
    Taken,
    /// No answer: name, connection, TLS, proxy, or 10 s without a byte.
    Exception,
    /// Answered with another status.
    Refused(Message),
}

/// What an error message says, as far as the extension reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Message {
    /// There is none: JSON `null`, or an exception.
    None,
    /// Anything else, also nothing at all.
    Other,
    /// It contains `The rate of snapshot blob calls is exceeded`.
    RateExceeded,
    /// It contains `The snapshot count against this blob has been exceeded`.
    LimitReached,
}

impl Message {
    /// Reads the body of an answer, or a message in one.
    #[must_use]
    pub fn read(text: &str) -> Self {
        if text.contains("The rate of snapshot blob calls is exceeded") {
            Self::RateExceeded
        } else if text.contains("The snapshot count against this blob has been exceeded") {
            Self::LimitReached
        } else {
            Self::Other
        }
    }
}

/// What the host answers to one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostAnswer {
    /// No HTTP answer (the extension notes 555).
    None,
    /// An HTTP answer.
    Http {
        /// Its status.
        status: u16,
        /// Its body.
        body: HostBody,
    },
}

impl HostAnswer {
    /// A host that does what it is asked, for so many disks.
    #[must_use]
    pub fn done(disks: usize) -> Self {
        let taken = HostDisk { succeeded: HostSuccess::Text(true), message: Message::None };
        Self::Http { status: 200, body: HostBody::Disks(vec![taken; disks]) }
    }
}

/// The body of the host's answer, as far as the extension reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostBody {
    /// None (the extension notes 557 where the status says success).
    Empty,
    /// It begins with `{ "error"`: the backup service of the host speaks. Any other body of a status 500 means that it
    /// does not run (the extension notes 556).
    Error,
    /// A list of disks.
    Disks(Vec<HostDisk>),
    /// Anything else.
    Other,
}

/// One disk in the host's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostDisk {
    /// `isSuccessful`.
    pub succeeded: HostSuccess,
    /// `errorMessage`.
    pub message: Message,
}

/// `isSuccessful` in the host's answer: the text `"true"` alone counts as a success, and the boolean `false` alone as a
/// failure of one disk among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostSuccess {
    /// `"true"`, or another text.
    Text(bool),
    /// `true` or `false`.
    Boolean(bool),
}

/// Who took, or tried to take, the snapshots last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taker {
    /// The machine's own requests to storage.
    Guest,
    /// The host.
    Host,
}

/// What the extension reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The status file's `code`; 1 is success.
    pub code: i32,
    /// The health code, as set where the decision is made; `None` after a success.
    pub error_code: Option<i32>,
    /// The status beside the code. Of virtual machines under Resource Manager the file says `success` whatever it is.
    pub is_error: bool,
    /// Whether the decision broke off with `KeyError: 'hostStatusCodeDoSnapshot'`, and the results of the disks are lost.
    pub broke_off: bool,
    /// Who tried last.
    pub taker: Taker,
    /// `hostStatusCodePreSnapshot`, where set.
    pub preparation: Option<u16>,
    /// `hostStatusCodeDoSnapshot`, where set.
    pub order: Option<u16>,
}

impl Ending {
    /// Whether the extension reports a success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == SUCCESS
    }

    /// The extension's name of what it reports (`ExtensionErrorCodeHelper.py`): of the health code where there is one.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.error_code.filter(|&code| code != SUCCESS).unwrap_or(self.code) {
            SUCCESS => "success",
            NO_NETWORK => "FailedRetryableSnapshotFailedNoNetwork",
            LIMIT_REACHED => "FailedSnapshotLimitReached",
            RATE_EXCEEDED => "FailedRetryableSnapshotRateExceeded",
            HOST_ERROR => "FailedHostSnapshotRemoteServerError",
            RESTRICTED_NETWORK => "FailedRetryableSnapshotFailedRestrictedNetwork",
            _ => "error",
        }
    }
}

/// One disk in the list that the decision goes through.
#[derive(Clone, Copy)]
struct DiskResult {
    /// Whether this disk makes the list one in which not all failed.
    succeeded: bool,
    /// Whether it `== False` in Python.
    is_false: bool,
    message: Message,
}

/// What a run reports. Sources: `freezesnapshotter.py` (`takeSnapshotFrom…`, `updateErrorCode`), `guestsnapshotter.py`,
/// `hostsnapshotter.py` of the three builds; it agrees with runs of the extension's own code.
#[must_use]
pub fn decide(build: Build, method: Method, situation: &Situation<'_>) -> Ending {
    let noted = preparation_status(build, &situation.preparation);
    let prepares = matches!(noted, 200 | 201);
    let (ordered, by_host) = order_result(&situation.order);
    let by_guest: Vec<DiskResult> = situation.disks.iter().map(|&disk| guest_result(disk)).collect();
    let nothing_to_do = by_guest.is_empty();
    let guest_failed = !by_guest.iter().any(|result| result.succeeded);

    // Who tries, and who tries last.
    let asks_guest = match method {
        Method::OnlyHost => false,
        Method::FirstHostThenGuest => !prepares,
        Method::OnlyGuest | Method::FirstGuestThenHost => true,
    };
    let asks_host = match method {
        Method::OnlyGuest => false,
        Method::FirstHostThenGuest => prepares,
        Method::OnlyHost => true,
        // The oldest build asks the host only after a failure that it has not yet noticed at this point.
        Method::FirstGuestThenHost => guest_failed && build != Build::Until2019,
    };
    // Since 2021 both ways ask the host for the time, by the same call, unless there is no disk to begin with.
    let asks_time = build != Build::Until2019 && (asks_host || !nothing_to_do);
    let preparation = (method == Method::FirstHostThenGuest || asks_time).then_some(noted);
    let (taker, order, results) =
        if asks_host { (Taker::Host, Some(ordered), by_host) } else { (Taker::Guest, None, by_guest) };
    let end =
        |code, error_code, is_error| Ending { code, error_code, is_error, broke_off: false, taker, preparation, order };

    // No list of disks: reported without any request.
    if asks_guest && !asks_host && nothing_to_do {
        let error_code = match method {
            Method::FirstHostThenGuest if build == Build::Until2019 => RESTRICTED_NETWORK,
            Method::FirstHostThenGuest => NO_NETWORK,
            _ => SUCCESS,
        };
        return end(NO_NETWORK, Some(error_code), true);
    }

    // `updateErrorCode`
    let all_failed = !results.iter().any(|result| result.succeeded);
    let mut quota = None;
    let mut any_failed = false;
    for result in &results {
        match result.message {
            Message::RateExceeded => quota = Some(RATE_EXCEEDED),
            Message::LimitReached => quota = Some(LIMIT_REACHED),
            Message::Other => any_failed |= result.is_false && !all_failed,
            // The oldest build forgets disks without a message.
            Message::None => any_failed |= result.is_false && build != Build::Until2019,
        }
        if quota.is_some() {
            break;
        }
    }
    // The oldest build computes the status beside the code, and loses it.
    let tells = build != Build::Until2019;
    match (build, quota) {
        (Build::Current, _) if all_failed => match (order, preparation) {
            (None, _) => Ending { broke_off: true, ..end(ERROR, Some(ERROR), true) },
            (Some(556), Some(200)) if quota.is_none() => end(HOST_ERROR, Some(HOST_ERROR), false),
            _ => end(NO_NETWORK, Some(NO_NETWORK), quota.is_some()),
        },
        (_, Some(code)) => end(code, Some(code), tells),
        (_, None) if all_failed => end(NO_NETWORK, Some(NO_NETWORK), tells),
        (_, None) if any_failed => end(NO_NETWORK, Some(RESTRICTED_NETWORK), tells),
        (_, None) => end(SUCCESS, None, false),
    }
}

fn guest_result(disk: Disk) -> DiskResult {
    match disk {
        Disk::Taken => DiskResult { succeeded: true, is_false: false, message: Message::Other },
        Disk::Exception => DiskResult { succeeded: false, is_false: true, message: Message::None },
        Disk::Refused(message) => DiskResult { succeeded: false, is_false: true, message },
    }
}

/// `hostStatusCodePreSnapshot`: the status, or a number of the extension's own.
fn preparation_status(build: Build, answer: &HostAnswer) -> u16 {
    match answer {
        HostAnswer::None => 555,
        HostAnswer::Http { status: 200 | 201, body: HostBody::Empty } => 557,
        // The current build looks at the body in a branch that comes too late.
        HostAnswer::Http { status: 500, body } if *body != HostBody::Error && build != Build::Current => 556,
        HostAnswer::Http { status, .. } => *status,
    }
}

/// `hostStatusCodeDoSnapshot`, and the disks of the answer.
fn order_result(answer: &HostAnswer) -> (u16, Vec<DiskResult>) {
    match answer {
        HostAnswer::None => (555, Vec::new()),
        HostAnswer::Http { status: 200 | 201, body: HostBody::Empty } => (557, Vec::new()),
        HostAnswer::Http { status: status @ (200 | 201), body: HostBody::Disks(disks) } => {
            let result = |disk: &HostDisk| DiskResult {
                succeeded: disk.succeeded == HostSuccess::Text(true),
                is_false: disk.succeeded == HostSuccess::Boolean(false),
                message: disk.message,
            };
            (*status, disks.iter().map(result).collect())
        }
        HostAnswer::Http { status: 500, body } if *body != HostBody::Error => (556, Vec::new()),
        HostAnswer::Http { status, .. } => (*status, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;
    use crate::azure::snapshot::{Way, ways};

    /// Runs of the extension's own code, one object a line: what stood around it, and what came out for each build.
    const OUTCOMES: &str = include_str!("outcomes.jsonl");

    #[derive(Deserialize)]
    struct Case {
        id: String,
        mode: String,
        conf: BTreeMap<String, String>,
        nft: Vec<String>,
        blobs: Vec<String>,
        servers: Vec<Server>,
        results: BTreeMap<String, Measured>,
    }

    #[derive(Deserialize)]
    struct Server {
        ip: String,
        port: u16,
        cert: Option<String>,
        b: String,
    }

    #[derive(Deserialize)]
    struct Measured {
        code: i32,
        ext_error_code: Option<i32>,
        status: String,
        exception: Option<String>,
        host_status: BTreeMap<String, String>,
    }

    impl Case {
        /// What the machine's request for a blob meets. The proxy of these runs is 127.0.0.13:3128, `proxy.example`, and
        /// reaches what the machine reaches.
        fn disk(&self, blob: &str, way: &Way) -> Disk {
            match way {
                Way::Direct => {}
                Way::Proxy { host, port: 3128 } if host == "127.0.0.13" || host == "proxy.example" => {}
                Way::Proxy { .. } | Way::Unusable => return Disk::Exception,
            }
            let ip = match blob.split('/').nth(2).and_then(|host| host.split('.').next()) {
                Some("acct1") => "127.0.0.11",
                Some("acct2") => "127.0.0.12",
                _ => return Disk::Exception,
            };
            if self.nft.iter().any(|rule| rule.contains(&format!("daddr {ip} tcp dport 443"))) {
                return Disk::Exception;
            }
            let Some(server) = self.servers.iter().find(|server| server.ip == ip && server.port == 443) else {
                return Disk::Exception;
            };
            if server.cert.as_deref() != Some("ok") {
                return Disk::Exception;
            }
            match server.b.as_str() {
                "ok" | "200" | "slow8" => Disk::Taken,
                "slow" | "close" => Disk::Exception,
                // Behind a proxy the body is not read.
                "rate" if *way == Way::Direct => Disk::Refused(Message::RateExceeded),
                "count" if *way == Way::Direct => Disk::Refused(Message::LimitReached),
                "rate" | "count" | "authz" | "503" | "302" | "470" => Disk::Refused(Message::Other),
                other => panic!("{}: behaviour {other}", self.id),
            }
        }

        fn host(&self, way: &Way, order: bool) -> HostAnswer {
            let server = self.servers.iter().find(|server| server.ip == "168.63.129.16");
            // Nobody speaks TLS on port 443 of the host, where the proxy would lead.
            let Some(server) = server.filter(|_| *way == Way::Direct) else { return HostAnswer::None };
            let http = |status, body| HostAnswer::Http { status, body };
            match (server.b.as_str(), order) {
                ("host-ok" | "host-do-fail" | "host-pre-ok-do-556", false) => http(200, HostBody::Other),
                ("host-ok", true) => HostAnswer::done(self.blobs.len()),
                ("host-do-fail", true) => {
                    let failed = HostDisk { succeeded: HostSuccess::Text(false), message: Message::Other };
                    http(200, HostBody::Disks(vec![failed; self.blobs.len()]))
                }
                ("host-500", _) | ("host-pre-ok-do-556", true) => http(500, HostBody::Other),
                ("host-500-json", _) => http(500, HostBody::Error),
                ("host-404", _) => http(404, HostBody::Other),
                ("host-200-empty", _) => http(200, HostBody::Empty),
                (other, _) => panic!("{}: behaviour {other}", self.id),
            }
        }
    }

    #[test]
    fn every_measured_outcome_is_reproduced() {
        let mut compared = 0;
        for line in OUTCOMES.lines() {
            let case: Case = serde_json::from_str(line).unwrap();
            let conf = |key: &str| case.conf.get(key).map(String::as_str);
            for (consumer, measured) in &case.results {
                let build = Build::from_consumer(consumer).unwrap();
                let (to_storage, to_host) = ways(build, conf("HttpProxy.Host"), conf("HttpProxy.Port"));
                let disks: Vec<Disk> = case.blobs.iter().map(|blob| case.disk(blob, &to_storage)).collect();
                let (preparation, order) = (case.host(&to_host, false), case.host(&to_host, true));
                let situation = Situation { disks: &disks, preparation, order };
                let ending = decide(build, Method::from_name(&case.mode).unwrap(), &situation);
                let number = |key: &str| measured.host_status.get(key).map(|text| text.parse().unwrap());
                let expected = Ending {
                    code: measured.code,
                    error_code: measured.ext_error_code,
                    is_error: measured.status == "error",
                    broke_off: measured.exception.is_some(),
                    taker: ending.taker,
                    preparation: number("hostStatusCodePreSnapshot"),
                    order: number("hostStatusCodeDoSnapshot"),
                };
                assert_eq!(ending, expected, "{} as {consumer}", case.id);
                compared += 1;
            }
        }
        assert_eq!(compared, OUTCOMES.matches("\"code\":").count());
        assert!(compared >= 80, "{compared}");
    }

    /// What the extension's own decision code came to in every combination of [`METHODS`], disks and answers below, with
    /// its HTTP calls replaced: first the endings (`code/health code/status/exception/preparation/order`), then for each
    /// build their numbers, repeats as `NUMBERxTIMES`.
    const DECIDED: &str = include_str!("decided.txt");

    const METHODS: [Method; 4] =
        [Method::FirstHostThenGuest, Method::OnlyGuest, Method::FirstGuestThenHost, Method::OnlyHost];

    const DISKS: [Disk; 6] = [
        Disk::Taken,
        Disk::Exception,
        Disk::Refused(Message::Other),
        Disk::Refused(Message::Other),
        Disk::Refused(Message::RateExceeded),
        Disk::Refused(Message::LimitReached),
    ];

    /// No disk, one, and two.
    fn combinations() -> Vec<Vec<Disk>> {
        let one = DISKS.map(|disk| vec![disk]);
        let two = DISKS.into_iter().flat_map(|first| DISKS.map(|second| vec![first, second]));
        std::iter::once(Vec::new()).chain(one).chain(two).collect()
    }

    fn answers_to_the_preparation() -> Vec<HostAnswer> {
        vec![
            HostAnswer::None,
            http(200, HostBody::Other),
            http(201, HostBody::Other),
            http(200, HostBody::Empty),
            http(500, HostBody::Other),
            http(500, HostBody::Error),
            http(404, HostBody::Other),
            http(500, HostBody::Empty),
        ]
    }

    fn answers_to_the_order() -> Vec<HostAnswer> {
        let disk = |succeeded, message| HostDisk { succeeded, message };
        let (yes, no) = (HostSuccess::Text(true), HostSuccess::Text(false));
        let lists = [
            vec![disk(yes, Message::None)],
            vec![disk(no, Message::Other)],
            vec![disk(yes, Message::None), disk(no, Message::Other)],
            vec![disk(yes, Message::None), disk(HostSuccess::Boolean(false), Message::Other)],
            vec![disk(HostSuccess::Boolean(false), Message::None), disk(yes, Message::None)],
            vec![disk(HostSuccess::Boolean(true), Message::None)],
            vec![],
            vec![disk(no, Message::RateExceeded), disk(yes, Message::None)],
            vec![disk(no, Message::RateExceeded)],
            vec![disk(yes, Message::None), disk(HostSuccess::Boolean(false), Message::LimitReached)],
        ];
        let lists = lists.into_iter().map(|list| http(200, HostBody::Disks(list)));
        answers_to_the_preparation().into_iter().chain(lists).collect()
    }

    #[test]
    fn every_combination_ends_as_the_extension_s_own_code_ends_it() {
        let (endings, builds) = DECIDED.split_once('\n').unwrap();
        let endings: Vec<&str> = endings.split(' ').skip(1).collect();
        for line in builds.lines() {
            let (consumer, numbers) = line.split_once(' ').unwrap();
            let build = Build::from_consumer(consumer).unwrap();
            let mut expected = numbers.split(' ').flat_map(|run| {
                let (number, times) = run.split_once('x').unwrap_or((run, "1"));
                std::iter::repeat_n(endings[number.parse::<usize>().unwrap()], times.parse().unwrap())
            });
            for method in METHODS {
                for disks in combinations() {
                    for preparation in answers_to_the_preparation() {
                        for order in answers_to_the_order() {
                            let situation =
                                Situation { disks: &disks, preparation: preparation.clone(), order: order.clone() };
                            let ending = decide(build, method, &situation);
                            let text = |number: Option<u16>| number.map_or("-".to_owned(), |n| n.to_string());
                            let got = format!(
                                "{}/{}/{}/{}/{}/{}",
                                ending.code,
                                ending.error_code.map_or("-".to_owned(), |code| code.to_string()),
                                if ending.is_error { "e" } else { "s" },
                                if ending.broke_off { "x" } else { "-" },
                                text(ending.preparation),
                                text(ending.order),
                            );
                            assert_eq!(Some(&*got), expected.next(), "{consumer} {method:?} {situation:?}");
                        }
                    }
                }
            }
            assert_eq!(expected.next(), None);
        }
    }

    fn ending(build: Build, method: Method, disks: &[Disk], preparation: HostAnswer, order: HostAnswer) -> (i32, i32) {
        let ending = decide(build, method, &Situation { disks, preparation, order });
        (ending.code, ending.error_code.unwrap_or(SUCCESS))
    }

    fn http(status: u16, body: HostBody) -> HostAnswer {
        HostAnswer::Http { status, body }
    }

    #[test]
    fn the_host_says_yes_in_a_text_and_no_in_a_boolean() {
        let disk = |succeeded| HostDisk { succeeded, message: Message::None };
        let answer = |disks: &[HostDisk]| http(200, HostBody::Disks(disks.to_vec()));
        let current = |disks: &[HostDisk]| {
            ending(Build::Current, Method::OnlyHost, &[], http(200, HostBody::Other), answer(disks))
        };
        let (yes, no) = (disk(HostSuccess::Text(true)), disk(HostSuccess::Text(false)));
        let (is, is_not) = (disk(HostSuccess::Boolean(true)), disk(HostSuccess::Boolean(false)));
        assert_eq!(current(&[yes, no]), (1, 1), "a text is never == False");
        assert_eq!(current(&[yes, is_not]), (76, 761));
        assert_eq!(current(&[is, is]), (76, 76), "True is not the text that counts");
        assert_eq!(current(&[]), (76, 76));
    }

    #[test]
    fn a_host_whose_service_does_not_run_is_told_by_the_current_build_alone() {
        let boom = || http(500, HostBody::Other);
        let order = |build, prepared, order| {
            ending(build, Method::FirstHostThenGuest, &[Disk::Taken], http(prepared, HostBody::Other), order)
        };
        assert_eq!(order(Build::Current, 200, boom()), (556, 556));
        assert_eq!(order(Build::Current, 201, boom()), (76, 76));
        assert_eq!(order(Build::Current, 200, http(500, HostBody::Error)), (76, 76));
        assert_eq!(order(Build::Current, 200, http(404, HostBody::Other)), (76, 76));
        assert_eq!(order(Build::Current, 200, http(200, HostBody::Empty)), (76, 76));
        assert_eq!(order(Build::Current, 200, HostAnswer::None), (76, 76));
        assert_eq!(order(Build::Until2025, 200, boom()), (76, 76));
    }

    #[test]
    fn quotas_survive_where_a_disk_succeeded_and_in_the_middle_build_always() {
        let rate = Disk::Refused(Message::RateExceeded);
        let limit = Disk::Refused(Message::LimitReached);
        let guest = |build, disks: &[Disk]| ending(build, Method::OnlyGuest, disks, HostAnswer::None, HostAnswer::None);
        for build in Build::ALL {
            assert_eq!(guest(build, &[Disk::Taken, rate]), (173, 173));
            assert_eq!(guest(build, &[Disk::Exception, limit, Disk::Taken]), (85, 85));
            assert_eq!(guest(build, &[rate, limit, Disk::Taken]), (173, 173), "the first one counts");
        }
        assert_eq!(guest(Build::Until2025, &[limit, Disk::Exception]), (85, 85));
        assert_eq!(guest(Build::Current, &[limit, Disk::Exception]), (2, 2));
    }

    #[test]
    fn without_disks_nothing_is_asked_unless_the_host_may_be() {
        let none = |build, method| ending(build, method, &[], HostAnswer::None, HostAnswer::done(0));
        assert_eq!(none(Build::Current, Method::OnlyGuest), (76, 1));
        assert_eq!(none(Build::Current, Method::FirstHostThenGuest), (76, 76));
        assert_eq!(none(Build::Until2019, Method::FirstHostThenGuest), (76, 761));
        assert_eq!(none(Build::Until2019, Method::FirstGuestThenHost), (76, 1));
        assert_eq!(none(Build::Current, Method::FirstGuestThenHost), (76, 76));
    }

    fn disks() -> impl Strategy<Value = Vec<Disk>> {
        let disk = prop_oneof![
            Just(Disk::Taken),
            Just(Disk::Exception),
            Just(Disk::Refused(Message::Other)),
            Just(Disk::Refused(Message::RateExceeded)),
            Just(Disk::Refused(Message::LimitReached)),
        ];
        proptest::collection::vec(disk, 1..6)
    }

    proptest! {
        /// Whatever fails elsewhere, what the chosen way takes is a success, and a way that fails wholly is none.
        #[test]
        fn the_way_taken_decides(build in 0_usize..3, disks in disks()) {
            let build = Build::ALL[build];
            let guest = decide(build, Method::OnlyGuest, &Situation {
                disks: &disks, preparation: HostAnswer::None, order: HostAnswer::None,
            });
            prop_assert_eq!(guest.taker, Taker::Guest);
            if disks.iter().all(|disk| *disk == Disk::Taken) {
                prop_assert!(guest.is_success());
            }
            if !disks.contains(&Disk::Taken) {
                prop_assert!(!guest.is_success());
            }
            let host = decide(build, Method::FirstHostThenGuest, &Situation {
                disks: &disks, preparation: http(200, HostBody::Other), order: HostAnswer::done(disks.len()),
            });
            prop_assert!(host.is_success() && host.taker == Taker::Host);
        }

        /// The order of disks that failed without a quota does not matter.
        #[test]
        fn only_quotas_depend_on_the_order(build in 0_usize..3, mut disks in disks()) {
            disks.retain(|disk| !matches!(disk, Disk::Refused(Message::RateExceeded | Message::LimitReached)));
            let run = |disks: &[Disk]| decide(Build::ALL[build], Method::OnlyGuest, &Situation {
                disks, preparation: HostAnswer::None, order: HostAnswer::None,
            });
            let forwards = run(&disks);
            disks.reverse();
            prop_assert_eq!(forwards, run(&disks));
        }
    }
}
