//! `extension.log`, as attempts: the literals are those of the extension (`azure-linux-extensions`, `VMBackup/main`:
//! `handle.py`, `freezesnapshotter.py`, `guestsnapshotter.py`, `hostsnapshotter.py`, `HttpUtil.py`, `blobwriter.py`),
//! with its spelling.

use std::{collections::VecDeque, mem};

use serde_json::Value;

use super::{
    Attempt, Call, Disk, Failure, HostCall, Mark, Note, Way, codes,
    exception::{self, Stage},
    line::{self, Shape},
    status::{self, suffix},
    text::{beginning, host_and_path, kept},
};
use crate::{
    classify::codes::{STORAGE_THROTTLED, TRIAGE_HOST_REFUSED},
    model::Hop,
};

/// Attempts of one file that are kept: a log rotates long before.
const MAX_ATTEMPTS: usize = 500;

/// Disks, calls, failures and notes of one attempt that are kept, of each kind.
const MAX_EACH: usize = 256;

/// Bytes of an answer's body that are kept until its status is known.
const MAX_BODY: usize = 8 * 1024;

/// Bytes of a message of several lines that is read as a whole.
const MAX_LONG: usize = 64 * 1024;

/// The wire server.
const HOST: &str = "168.63.129.16";

/// What an extension's log tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct ExtensionLog {
    pub(super) attempts: Vec<Attempt>,
    /// Older attempts that were not kept.
    pub(super) dropped: u64,
}

/// Reads the log line by line.
pub(super) struct Reader {
    path: String,
    attempts: VecDeque<Attempt>,
    dropped: u64,
    current: Option<Current>,
    /// A message that may have further lines.
    open: Open,
}

/// The attempt that is being read.
#[derive(Default)]
struct Current {
    attempt: Attempt,
    /// Whether its final report was seen: what follows are uploads.
    reported: bool,
    phase: Phase,
    /// A request that has begun.
    request: Option<Request>,
    /// The disk that requests of the guest are for.
    disk: Option<usize>,
    /// The body of an answer whose status follows.
    body: String,
    /// Whether the extension found that there is nothing to do.
    void: bool,
}

/// What the extension is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    /// None of the others: requests are uploads.
    #[default]
    Other,
    /// Asking the host whether it can.
    PreSnapshot,
    /// Telling the host to.
    DoSnapshot,
    /// Taking snapshots from inside.
    Guest,
}

#[derive(Debug, Clone, Default)]
struct Request {
    /// Whether it is a call to the host, where the log says.
    to_host: Option<bool>,
    /// To whom, where it goes there itself and not through a proxy: only then the log names it.
    direct_to: Option<String>,
}

/// A message of several lines.
#[derive(Default)]
enum Open {
    /// No message came before.
    #[default]
    Nothing,
    /// One whose further lines say nothing of use.
    Message,
    /// A failed request; the stack trace tells how far it had come.
    Failed { text: String, stage: Stage, place: String },
    /// A body, until the next message.
    Body,
    /// A message whose end counts, and which holds text from storage with line breaks.
    Long { text: String, place: String },
}

/// What a line of a stack trace, or of a body, begins with; anything else below a message is not understood.
const CONTINUATIONS: [&str; 12] = [
    " ",
    "\t",
    "Traceback",
    "During handling",
    "The above exception",
    "RequestId:",
    "Time:",
    "<",
    "=====",
    "Distro Info",
    "Guest Agent Version",
    "^",
];

/// What messages begin with that hold text from storage, and tell the status at their end.
const LONG: [&str; 3] = ["From Host- IsSuccessful:", "IsSuccessful:", "snapshot_info_indexer: "];

impl Reader {
    pub(super) fn new(path: &str) -> Self {
        Self { path: path.to_owned(), attempts: VecDeque::new(), dropped: 0, current: None, open: Open::Nothing }
    }

    /// Takes a line. Gives whether it was understood.
    pub(super) fn line(&mut self, number: u64, text: &str) -> bool {
        match line::shape(text) {
            Shape::Message { at, text } => {
                self.close_message();
                self.open = Open::Message;
                self.message(&at.normal(), &format!("{}:{number}", self.path), text);
                true
            }
            Shape::Continued(text) => self.continued(text),
        }
    }

    /// Ends the last attempt.
    pub(super) fn finish(mut self) -> ExtensionLog {
        self.close_message();
        self.close_attempt();
        ExtensionLog { attempts: self.attempts.into(), dropped: self.dropped }
    }

    fn continued(&mut self, text: &str) -> bool {
        match &mut self.open {
            Open::Nothing => return text.trim().is_empty(),
            Open::Failed { stage, .. } => stage.note(text),
            Open::Body => {
                if let Some(current) = &mut self.current {
                    let room = MAX_BODY.saturating_sub(current.body.len());
                    current.body.push_str(beginning(text, room));
                }
                return true;
            }
            Open::Long { text: long, .. } => {
                long.push('\n');
                long.push_str(beginning(text, MAX_LONG.saturating_sub(long.len())));
                return true;
            }
            Open::Message => {}
        }
        // The last line of a trace names the exception: `KeyError: 'x'`, `socket.timeout: timed out`, Python 2 `error: …`.
        let name = text.split([':', ' ']).next().unwrap_or_default();
        let exception = name.contains('.') || ["rror", "timeout", "Exception"].iter().any(|end| name.ends_with(end));
        text.is_empty() || exception || CONTINUATIONS.iter().any(|start| text.starts_with(start))
    }

    // ---- messages

    fn message(&mut self, at: &str, place: &str, text: &str) {
        self.begin(at, place, text);
        let Some(current) = &mut self.current else { return };
        let trimmed = text.trim();
        if let Some(failed) = failed(trimmed) {
            if current.request.is_some() {
                self.open = Open::Failed { text: kept(failed), stage: Stage::Unknown, place: place.to_owned() };
            }
            return;
        }
        if LONG.iter().any(|start| trimmed.starts_with(start)) {
            self.open = Open::Long { text: beginning(trimmed, MAX_LONG).to_owned(), place: place.to_owned() };
            return;
        }
        current.settings(trimmed);
        current.ways(trimmed);
        current.requests(trimmed);
        current.host(trimmed, place);
        current.guest(trimmed, place);
        current.notes(trimmed, place);
        current.report(trimmed, at, place);
        if trimmed.contains("responseBody: ") {
            self.open = Open::Body;
        }
    }

    /// Begins a new attempt where this message does.
    fn begin(&mut self, at: &str, place: &str, text: &str) {
        let text = text.trim();
        let enable = text == "starting enable";
        // The daemon's lines follow those of `enable`, which may have been rotated away.
        let daemon = text == "starting daemon initially" || text == "starting daemon for freezing the file system";
        let reported = self.current.as_ref().is_none_or(|current| current.reported);
        if !(enable || daemon && reported || self.current.is_none() && !text.is_empty() && is_marker(text)) {
            return;
        }
        self.close_attempt();
        let attempt = Attempt { started: Some(at.to_owned()), place: place.to_owned(), ..Attempt::default() };
        self.current = Some(Current { attempt, ..Current::default() });
    }

    fn close_message(&mut self) {
        match (mem::take(&mut self.open), &mut self.current) {
            (Open::Failed { text, stage, place }, Some(current)) => current.failed(&text, stage, &place),
            (Open::Long { text, place }, Some(current)) => match text.strip_prefix("snapshot_info_indexer: ") {
                Some(info) => current.indexer(info, &place),
                None => current.host_disk(text.trim_start_matches("From Host- "), &place),
            },
            _ => {}
        }
    }

    fn close_attempt(&mut self) {
        let Some(mut current) = self.current.take() else { return };
        current.settle();
        let attempt = current.attempt;
        let nothing = attempt.code.is_none() && attempt.ways.is_empty() && attempt.host_calls.is_empty();
        if current.void || nothing && attempt.notes.is_empty() && attempt.task.is_none() && attempt.method.is_none() {
            return;
        }
        if self.attempts.len() == MAX_ATTEMPTS {
            self.attempts.pop_front();
            self.dropped += 1;
        }
        self.attempts.push_back(attempt);
    }
}

/// Whether a log that lost its beginning may begin an attempt here.
fn is_marker(text: &str) -> bool {
    const MARKERS: [&str; 10] = [
        "customSettings : ",
        "snapshotMethodConfigValue",
        "Taking Snapshot through Host",
        "doing snapshotall",
        "start calling the",
        "Entered HttpCallGetResponse",
        "Enable,",
        "index: 0 blobUri",
        "PreSnapshot: Status Code",
        "T:S ",
    ];
    MARKERS.iter().any(|marker| text.starts_with(marker)) || text.starts_with("****** 5.")
}

/// The exception of a request that failed. The same text is repeated in other messages, which begin otherwise.
fn failed(text: &str) -> Option<&str> {
    let (before, after) = text.split_once("Failed to call http with error: ")?;
    let first = before.trim().is_empty() || before.trim().bytes().all(|b| b.is_ascii_digit() || b"-:. ".contains(&b));
    first.then(|| after.split_once(", stack trace:").map_or(after, |(error, _)| error))
}

impl Current {
    // ---- what the messages say

    fn settings(&mut self, text: &str) {
        let attempt = &mut self.attempt;
        if let Some(method) = text.strip_prefix("snapshotMethodConfigValue : ") {
            attempt.method =
                Some(kept(method)).filter(|method| !method.is_empty() && method != "None").or(attempt.method.take());
        } else if let Some(custom) = text.strip_prefix("customSettings : ") {
            let custom: Value = serde_json::from_str(custom).unwrap_or_default();
            attempt.method = custom["takeSnapshotFrom"].as_str().map(kept).or(attempt.method.take());
        } else if let Some((_, forced)) = text.split_once("Setting the snapshot mode to ") {
            attempt.forced_method = Some(kept(forced.trim_end_matches('.')));
        } else if let Some(task) = text.strip_prefix("taskId: ") {
            attempt.task = Some(kept(task));
        } else if text.starts_with("TaskId is same as last") || text.starts_with("the sequence number are same") {
            self.void = true;
        }
    }

    fn ways(&mut self, text: &str) {
        let way = if text == "Taking Snapshot through Host" {
            Way::Host
        } else if text == "doing snapshotall now in sequence..." || text == "****** 5. Snaphotting (Guest-seq) Started"
        {
            Way::GuestSequential
        } else if text == "doing snapshotall now in parallel..."
            || text == "****** 5. Snaphotting (Guest-parallel) Started"
        {
            Way::GuestParallel
        } else {
            if text.starts_with("****** 6. Snaphotting (Guest") || text.starts_with("T:S snapshotall ends") {
                self.phase = Phase::Other;
                self.request = None;
            }
            return;
        };
        if self.attempt.ways.last() != Some(&way) && self.attempt.ways.len() < MAX_EACH {
            self.attempt.ways.push(way);
        }
        self.phase = if way == Way::Host { Phase::DoSnapshot } else { Phase::Guest };
        self.disk = None;
    }

    fn requests(&mut self, text: &str) {
        if text == "start calling the presnapshot rest api" {
            self.phase = Phase::PreSnapshot;
            self.request = Some(Request::default());
        } else if text == "start calling the snapshot rest api" {
            if self.phase != Phase::Guest {
                self.phase = Phase::DoSnapshot;
            }
            self.request = Some(Request::default());
        } else if let Some((_, to_host)) = text.split_once("Entered HttpCallGetResponse, isHostCall: ") {
            self.request = Some(Request { to_host: Some(to_host.trim() == "True"), direct_to: None });
        } else if let Some(details) = text.strip_prefix("Details of sas uri object  hostname: ") {
            let host = kept(&details.split(" path: ").next().unwrap_or_default().to_ascii_lowercase());
            self.request = Some(Request { to_host: Some(host == HOST), direct_to: Some(host) });
        } else if text.starts_with("{'x-ms-blob-type'") || text.starts_with("GetBlobProperties") {
            self.phase = Phase::Other;
        }
    }

    fn host(&mut self, text: &str, place: &str) {
        let call = |call, status, error: Option<&str>| (call, status, error.map(kept));
        let (which, status, error) = if let Some(status) = text.strip_prefix("PreSnapshot: Status Code: ") {
            call(Call::PreSnapshot, status.trim().parse().ok(), None)
        } else if text == "presnapshot Hitting wrong WireServer IP" {
            call(Call::PreSnapshot, Some(555), None)
        } else if text == "dosnapshot Hitting wrong WireServer IP" {
            call(Call::DoSnapshot, Some(555), None)
        } else if text.starts_with("PreSnapshot:responseBody is empty") {
            call(Call::PreSnapshot, Some(557), None)
        } else if text.starts_with("DoSnapshot: responseBody is empty") {
            call(Call::DoSnapshot, Some(557), None)
        } else if text == "BHS is not runnning on host machine" {
            call(Call::PreSnapshot, Some(556), None)
        } else if let Some(error) = text.strip_prefix("Failed to do the pre snapshot in host with error: ") {
            call(Call::PreSnapshot, Some(558), Some(error))
        } else if let Some(error) = text.strip_prefix("Failed to do the snapshot in host with error: ") {
            call(Call::DoSnapshot, Some(558), Some(error))
        } else if let Some(body) = text.strip_prefix("dosnapshot responseBody:") {
            let body = body.trim();
            call(
                Call::DoSnapshot,
                None,
                Some(body).filter(|body| !body.is_empty() && !body.contains("\"snapshotInfo\"")),
            )
        } else {
            return;
        };
        self.host_call(which, status, error, place);
    }

    /// Notes a call to the host, or more about the one that was noted last: several lines tell about each.
    fn host_call(&mut self, call: Call, status: Option<u16>, error: Option<String>, place: &str) {
        let calls = &mut self.attempt.host_calls;
        // An exception is followed by its 555, a 200 by the 557 that it becomes; and the host is asked several times.
        let more = calls.last_mut().filter(|last| {
            let becomes = last.succeeded() && matches!(status, Some(556..=558));
            last.call == call && (last.status.is_none() || last.status == status || becomes)
        });
        if let Some(last) = more {
            last.status = status.or(last.status);
            last.error = last.error.take().or(error);
        } else {
            push(calls, HostCall { call, status, error, code: None, place: place.to_owned() });
        }
        self.request = None;
    }

    /// `IsSuccessful:true, SnapshotUri:…, ErrorMessage:…, StatusCode:200`
    fn host_disk(&mut self, info: &str, place: &str) {
        // Without a status it is the summary of what was told before.
        let Some((rest, status)) = info.rsplit_once(", StatusCode:") else { return };
        let Some((taken, rest)) = rest.strip_prefix("IsSuccessful:").and_then(|rest| rest.split_once(", SnapshotUri:"))
        else {
            return;
        };
        let (uri, error) = rest.split_once(", ErrorMessage:").unwrap_or((rest, ""));
        // Python prints a boolean with a capital letter.
        let boolean = matches!(taken, "True" | "False");
        let taken = taken.eq_ignore_ascii_case("true");
        let (host, path) = host_and_path(uri).map_or((None, String::new()), |(host, path)| (Some(host), path));
        let status = status.trim().parse().ok();
        let limit = error.contains(exception::RATE) || error.contains(exception::COUNT);
        let (code, hop) = if limit { (STORAGE_THROTTLED, Hop::Origin) } else { (TRIAGE_HOST_REFUSED, Hop::Host) };
        let text = if error.is_empty() || error == "None" { exception::NO_REASON.into() } else { kept(error) };
        let failure = (!taken).then(|| Failure { text, code, hop, target: None, place: place.to_owned() });
        self.push_disk(Disk { way: Way::Host, index: None, host, path, taken: Some(taken), status, failure, boolean });
    }

    fn guest(&mut self, text: &str, place: &str) {
        if let Some((index, uri)) = text.strip_prefix("index: ").and_then(|rest| rest.split_once(" blobUri: ")) {
            self.phase = Phase::Guest;
            let way = self.guest_way();
            if !self.attempt.ways.contains(&way) {
                self.attempt.ways.push(way);
            }
            let (host, path) = host_and_path(uri).map_or((None, kept(uri)), |(host, path)| (Some(host), path));
            self.push_disk(Disk {
                way,
                index: index.trim().parse().ok(),
                host,
                path,
                taken: None,
                status: None,
                failure: None,
                boolean: false,
            });
            self.disk = Some(self.attempt.disks.len().saturating_sub(1));
        } else if let Some((index, uri)) =
            text.strip_prefix("index: ").and_then(|rest| rest.split_once(" blobSnapshotUri: "))
        {
            let taken = uri.trim() != "None";
            if let Some(disk) = self.disk_with_index(index) {
                disk.taken = Some(taken);
            }
        } else if let Some((_, body)) = text.split_once("responseBody: ") {
            beginning(body, MAX_BODY).clone_into(&mut self.body);
        } else if text.contains("snapshot resp status: ") && !text.starts_with('[') {
            self.answered(text, place);
        } else if self.phase_parallel() && text.starts_with('[') {
            self.workers(text, place);
        }
    }

    /// `index: 0 isSuccessful: False snapshotTs: None errorMessage: <body> statusCode: 403`; the status is 500 where
    /// there was an exception and so no message.
    fn indexer(&mut self, info: &str, place: &str) {
        let Some((index, rest)) = info.strip_prefix("index: ").and_then(|rest| rest.split_once(" isSuccessful: "))
        else {
            return;
        };
        let taken = rest.starts_with("True");
        let message = rest.split_once(" errorMessage: ").map_or("", |(_, message)| message);
        let (message, status) =
            message.rsplit_once(" statusCode: ").map_or((message, None), |(m, s)| (m, s.trim().parse().ok()));
        let told = message != "None";
        let body = beginning(message, MAX_BODY).to_owned();
        if let Some(disk) = self.disk_with_index(index) {
            disk.taken = Some(taken);
            if told && !taken && disk.failure.is_none() {
                disk.status = status.or(disk.status);
                disk.failure = status.and_then(|status| refusal(status, &body, disk, place));
            }
        }
    }

    /// `… snapshot resp status: 403 … snapshot resp-header: […] …`
    fn answered(&mut self, text: &str, place: &str) {
        let status = text
            .split_once("snapshot resp status: ")
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        let (Some(status), Some(index)) = (status, self.disk) else { return };
        let told = format!("{}{}", self.body, beginning(text, MAX_BODY));
        self.body.clear();
        self.request = None;
        if let Some(disk) = self.attempt.disks.get_mut(index) {
            disk.status = Some(status);
            disk.taken = Some(matches!(status, 200 | 201));
            disk.failure = refusal(status, &told, disk, place);
        }
    }

    /// What the processes of a parallel snapshot leave: a Python list with the text of each, in the order in which they
    /// ended, which does not tell the disk.
    fn workers(&mut self, text: &str, place: &str) {
        for worker in line::list_literal(text).unwrap_or_default() {
            let Some((_, after)) = worker.split_once("Failed to call http with error: ") else { continue };
            let error = after.split_once(", stack trace:").map_or(after, |(error, _)| error);
            let mut stage = Stage::Unknown;
            after.lines().for_each(|line| stage.note(line));
            // The lines that tell a proxy from storage are lost in the process; its frames tell a CONNECT.
            let (code, hop) = exception::exception(error, stage, false);
            let failure = Failure { text: kept(error), code, hop, target: None, place: place.to_owned() };
            push(&mut self.attempt.requests, failure);
        }
    }

    fn notes(&mut self, text: &str, place: &str) {
        let kind = if text.starts_with("Failed to construct ConfigurationProvider") {
            Mark::AgentFileUnreadable
        } else if text.starts_with("T:S taking snapshot failed as blobs are empty or none") {
            Mark::NoDisks
        } else if text.starts_with("CRP timeout limit has reached")
            || text.contains("Thawing as failing due to CRP timeout")
        {
            Mark::TooLate
        } else if text.contains("freeze took longer than timeout")
            || text.starts_with("T:S Enable failed with error: ")
            || text.starts_with("Failed to do the freeze with error: ")
            || text.starts_with("safefreeze binary is missing")
        {
            Mark::FreezeFailed
        } else if text.contains("Machine unable to sleep") || text.starts_with("Snapshots are inconsistent") {
            Mark::Inconsistent
        } else if text.starts_with("cannot get status report parameters")
            || text.starts_with("Failed to log status in extension")
        {
            Mark::ReportLost
        } else if text.starts_with("Failed to do the snapshot with error: 'hostStatusCodeDoSnapshot'") {
            Mark::KeyError
        } else if text.starts_with("commit to blob failed")
            || text.starts_with("blob failed to write")
            || text.starts_with("WritePageBlob: page-blob failed to write")
            || text.starts_with("Failed to committing the log with error: ")
            || text.starts_with("cannot write status to the status blob")
        {
            Mark::UploadFailed
        } else {
            return;
        };
        let text = kept(text.lines().next().unwrap_or_default().split(", stack trace").next().unwrap_or_default());
        let known = self.attempt.notes.iter().any(|note| note.kind == kind && note.text == text);
        if !known {
            // The number whose report was lost stands nowhere else.
            if kind == Mark::ReportLost {
                let digits: String = text.chars().rev().take_while(char::is_ascii_digit).collect();
                let number = digits.chars().rev().collect::<String>().parse().ok();
                self.attempt.code = self.attempt.code.or(number.filter(|number| codes::name_of(*number).is_some()));
            }
            push(&mut self.attempt.notes, Note { kind, text, place: place.to_owned() });
        }
    }

    /// What the extension reports, and under which numbers.
    fn report(&mut self, text: &str, at: &str, place: &str) {
        if let Some((_, name)) = text.split_once("StatusCode.") {
            // The first one counts (`SetExtErrorCode`).
            let name = name.split([',', ' ']).next().unwrap_or_default();
            self.attempt.health_code = self.attempt.health_code.or(codes::number_of(name));
        } else if let Some(rest) = text.strip_prefix("Enable,") {
            let mut parts = rest.splitn(3, ',');
            let (_, code, message) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
            let Some(code) = code.and_then(|code| code.trim().parse::<i32>().ok()) else { return };
            // 4 stands for "at work": the daemon overwrites it.
            if code == 4 {
                return;
            }
            self.reported = true;
            self.phase = Phase::Other;
            self.attempt.code = Some(code);
            self.attempt.ended = Some(at.to_owned());
            let message = message.rsplit_once(',').map_or(message, |(message, _)| message);
            self.attempt.message = Some(kept(message)).filter(|message| !message.is_empty());
            // This number says what no line does.
            self.host_status(Call::DoSnapshot, (code == 556).then(|| "556".into()), place);
            self.host_status(Call::PreSnapshot, suffix(message, "hostStatusCodePreSnapshot"), place);
            self.host_status(Call::DoSnapshot, suffix(message, "hostStatusCodeDoSnapshot"), place);
        } else if text.starts_with("[{\"") && text.contains("vmHealthStatusCode") {
            // The report as it is written to the file, with the numbers that no line has.
            let Ok(report) = status::read(text, "") else { return };
            if report.code == Some(4) {
                return;
            }
            self.attempt.health_code = report.health_code.or(self.attempt.health_code);
            self.attempt.version = report.version.or(self.attempt.version.take());
            self.host_status(Call::PreSnapshot, report.pre_snapshot, place);
            self.host_status(Call::DoSnapshot, report.do_snapshot, place);
        }
    }

    /// The number of a call to the host, where no line of its own told it.
    fn host_status(&mut self, call: Call, status: Option<String>, place: &str) {
        let Some(status) = status.and_then(|status| status.parse().ok()) else { return };
        match self.attempt.host_calls.iter_mut().rfind(|known| known.call == call) {
            Some(known) => known.status = Some(status),
            None => push(
                &mut self.attempt.host_calls,
                HostCall { call, status: Some(status), error: None, code: None, place: place.to_owned() },
            ),
        }
    }

    // ---- requests that failed

    fn failed(&mut self, text: &str, stage: Stage, place: &str) {
        let Some(request) = self.request.take() else { return };
        let (code, hop) = exception::exception(text, stage, request.direct_to.is_none());
        let (text, place) = (text.to_owned(), place.to_owned());
        let asking = matches!(self.phase, Phase::PreSnapshot | Phase::DoSnapshot);
        if request.to_host.unwrap_or(asking) {
            let call = if self.phase == Phase::DoSnapshot { Call::DoSnapshot } else { Call::PreSnapshot };
            let host_call = HostCall { call, status: None, error: Some(text), code: Some(code), place };
            push(&mut self.attempt.host_calls, host_call);
            return;
        }
        let disk = self.disk.filter(|_| self.phase == Phase::Guest).and_then(|disk| self.attempt.disks.get_mut(disk));
        let host = request.direct_to.or_else(|| disk.as_ref()?.host.clone());
        let failure = Failure { text, code, hop, target: host.map(|host| format!("{host}:443")), place };
        match disk {
            Some(disk) => {
                disk.taken = Some(false);
                disk.failure = Some(failure);
            }
            None if self.phase == Phase::Guest => push(&mut self.attempt.requests, failure),
            None => push(&mut self.attempt.uploads, failure),
        }
    }

    /// Puts the failures of a parallel snapshot to its disks where there is no doubt: they all failed alike.
    fn settle(&mut self) {
        let attempt = &mut self.attempt;
        let alike = attempt.requests.windows(2).all(|pair| pair[0].code == pair[1].code);
        if let Some(first) = attempt.requests.first().filter(|_| alike).cloned() {
            let mut given = false;
            for disk in attempt.disks.iter_mut().filter(|disk| disk.taken == Some(false) && disk.failure.is_none()) {
                let target = disk.host.as_ref().map(|host| format!("{host}:443"));
                disk.failure = Some(Failure { target, ..first.clone() });
                given = true;
            }
            if given {
                attempt.requests.clear();
            }
        }
    }

    // ---- disks

    fn guest_way(&self) -> Way {
        self.attempt.ways.iter().rev().copied().find(|way| *way != Way::Host).unwrap_or(Way::GuestSequential)
    }

    fn phase_parallel(&self) -> bool {
        self.attempt.ways.last() == Some(&Way::GuestParallel)
    }

    fn push_disk(&mut self, disk: Disk) {
        push(&mut self.attempt.disks, disk);
    }

    /// The last disk of this number on a way of the guest.
    fn disk_with_index(&mut self, index: &str) -> Option<&mut Disk> {
        let index = index.trim().parse().ok();
        self.attempt.disks.iter_mut().rev().find(|disk| disk.way != Way::Host && disk.index == index && index.is_some())
    }
}

/// The failure behind an answer that is no success.
fn refusal(status: u16, told: &str, disk: &Disk, place: &str) -> Option<Failure> {
    let (code, hop) = exception::answer(status, told)?;
    let text = ["<Code>", "<Message>"].iter().find_map(|tag| told.split_once(tag)).map(|(_, rest)| rest);
    let reason = text.map(|text| text.split(['<', '\n']).next().unwrap_or_default());
    let limits = [exception::RATE, exception::COUNT].into_iter().find(|words| told.contains(words));
    let text = match limits.or(reason) {
        Some(reason) => format!("HTTP {status}: {reason}"),
        None => format!("HTTP {status}"),
    };
    let target = disk.host.as_ref().map(|host| format!("{host}:443"));
    Some(Failure { text: kept(&text), code, hop, target, place: place.to_owned() })
}

fn push<T>(list: &mut Vec<T>, item: T) {
    if list.len() < MAX_EACH {
        list.push(item);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Code;

    const P: &str = "2026-01-05 03:10:44.000001 [Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0]";

    fn read(text: &str) -> (ExtensionLog, usize) {
        let mut reader = Reader::new("extension.log");
        let skipped = text.lines().zip(1..).filter(|(line, number)| !reader.line(*number, line)).count();
        (reader.finish(), skipped)
    }

    /// Lines in the shape of Python 3.
    fn messages(lines: &[&str]) -> String {
        lines.iter().flat_map(|line| [P, line, "\n"]).collect()
    }

    #[track_caller]
    fn only(lines: &[&str]) -> Attempt {
        let (mut log, skipped) = read(&messages(lines));
        assert_eq!((log.attempts.len(), skipped), (1, 0));
        log.attempts.remove(0)
    }

    #[test]
    fn settings_are_read() {
        let attempt = only(&[
            "starting enable",
            "taskId: t-1",
            "customSettings : {\"takeSnapshotFrom\": \"onlyGuest\"}",
            "snapshotMethodConfigValue : firstGuestThenHost",
            "WA disk is included. Setting the snapshot mode to onlyHost.",
        ]);
        assert_eq!(attempt.task.as_deref(), Some("t-1"));
        assert_eq!(attempt.method.as_deref(), Some("firstGuestThenHost"));
        assert_eq!(attempt.forced_method.as_deref(), Some("onlyHost"));
        assert_eq!(
            only(&["customSettings : {\"takeSnapshotFrom\": \"onlyGuest\"}"]).method.as_deref(),
            Some("onlyGuest")
        );
    }

    #[test]
    fn each_mark_is_noted() {
        for (line, kind) in [
            (
                "Failed to construct ConfigurationProvider, which may be due to the old code with error: x",
                Mark::AgentFileUnreadable,
            ),
            ("T:S taking snapshot failed as blobs are empty or none", Mark::NoDisks),
            ("CRP timeout limit has reached, should abort.", Mark::TooLate),
            ("T:S takeSnapshotFromGuest : Thawing as failing due to CRP timeout", Mark::TooLate),
            ("T:S ###### Enable failed with error: freeze took longer than timeout StatusCode.x,", Mark::FreezeFailed),
            ("T:S Enable failed with error: Failed to open /mnt", Mark::FreezeFailed),
            ("T:S Machine unable to sleep", Mark::Inconsistent),
            ("Snapshots are inconsistent", Mark::Inconsistent),
            ("cannot get status report parameters , Exception 556, stack trace: Traceback", Mark::ReportLost),
            ("Failed to log status in extension173", Mark::ReportLost),
            ("Failed to do the snapshot with error: 'hostStatusCodeDoSnapshot', stack trace: x", Mark::KeyError),
            ("commit to blob failed", Mark::UploadFailed),
            ("blob failed to write", Mark::UploadFailed),
            ("Failed to committing the log with error: x, stack trace: y", Mark::UploadFailed),
            ("cannot write status to the status blobTraceback (most recent call last):", Mark::UploadFailed),
        ] {
            let attempt = only(&["starting enable", line]);
            assert_eq!(attempt.notes.iter().map(|note| note.kind).collect::<Vec<_>>(), [kind], "{line}");
            assert_eq!(attempt.notes[0].place, "extension.log:2");
        }
        assert_eq!(only(&["starting enable", "Failed to log status in extension173"]).code, Some(173));
    }

    #[test]
    fn names_of_health_codes_are_read_whatever_their_spelling() {
        for (line, code) in [
            (
                "T:S Enable failed with FailedRetryableSnapshotFailedNoNetwork errror StatusCode.FailedRetryableSnapshotFailedNoNetwork,",
                76,
            ),
            (
                "T:S Enable failed with FailedRetryableSnapshotFailedNoNetwork error StatusCode.FailedRetryableSnapshotFailedNoNetwork,",
                76,
            ),
            (
                "T:S Enable failed with FailedRetryableSnapshotFailedRestrictedNetwork errror StatusCode.FailedRetryableSnapshotFailedRestrictedNetwork,",
                761,
            ),
            (
                "T:S Enable failed with FailedHostSnapshotRemoteServerError error StatusCode.FailedHostSnapshotRemoteServerError,",
                556,
            ),
            ("T:S Enable failed with FailedSnapshotLimitReached errror StatusCode.FailedSnapshotLimitReached,", 85),
        ] {
            assert_eq!(only(&["starting enable", line, "Enable,error,76,x,False"]).health_code, Some(code), "{line}");
        }
    }

    #[test]
    fn the_hosts_answers_have_numbers() {
        for (lines, call, status) in [
            (&["PreSnapshot: Status Code: 200"][..], Call::PreSnapshot, 200),
            (&["presnapshot Hitting wrong WireServer IP"], Call::PreSnapshot, 555),
            (&["BHS is not runnning on host machine"], Call::PreSnapshot, 556),
            (
                &["PreSnapshot: Status Code: 200", "PreSnapshot:responseBody is empty but http status code is success"],
                Call::PreSnapshot,
                557,
            ),
            (&["Failed to do the pre snapshot in host with error: x, stack trace: y"], Call::PreSnapshot, 558),
            (&["dosnapshot responseBody: ", "dosnapshot Hitting wrong WireServer IP"], Call::DoSnapshot, 555),
            (&["dosnapshot responseBody: boom", "Enable,success,556,x,False"], Call::DoSnapshot, 556),
            (&["DoSnapshot: responseBody is empty but http status code is success"], Call::DoSnapshot, 557),
            (&["Failed to do the snapshot in host with error: x, stack trace: y"], Call::DoSnapshot, 558),
            (
                &["Enable,error,76,x hostStatusCodePreSnapshot=555, hostStatusCodeDoSnapshot=404, ,False"],
                Call::DoSnapshot,
                404,
            ),
        ] {
            let attempt = only(&[&["starting enable"], lines].concat());
            let calls: Vec<_> = attempt.host_calls.iter().filter(|known| known.call == call).collect();
            assert_eq!(calls.iter().map(|known| known.status).collect::<Vec<_>>(), [Some(status)], "{lines:?}");
        }
    }

    #[test]
    fn a_disk_that_the_host_refuses_keeps_its_reason() {
        let text = messages(&["starting enable", "Taking Snapshot through Host"])
            + P
            + "From Host- IsSuccessful:false, SnapshotUri:None, ErrorMessage:<Error>The rate of snapshot blob calls is exceeded.\n\
               RequestId:1\nTime:2</Error>, StatusCode:409\n"
            + &messages(&[
                "From Host- IsSuccessful:true, SnapshotUri:https://A.b/c/d?snapshot=1, ErrorMessage:, StatusCode:200",
            ]);
        let (log, skipped) = read(&text);
        let disks = &log.attempts[0].disks;
        assert_eq!((skipped, disks.len()), (0, 2));
        assert_eq!(disks[0].failure.as_ref().map(|failure| failure.code), Some(STORAGE_THROTTLED));
        assert_eq!((disks[0].status, disks[1].host.as_deref(), &*disks[1].path), (Some(409), Some("a.b"), "/c/d"));
    }

    #[test]
    fn old_builds_log_no_entry_and_a_proxy_leaves_no_host() {
        let attempt = only(&[
            "starting daemon initially",
            "doing snapshotall now in sequence...",
            "index: 0 blobUri: https://a.blob.core.windows.net/c/d",
            "start calling the snapshot rest api",
            "Failed to call http with error: Tunnel connection failed: 407 Proxy Authentication Required, stack trace: x",
            " snapshot HttpCallGetResponse failed ",
            "Failed to call http with error: Tunnel connection failed: 407 Proxy Authentication Required, stack trace: x",
            "Enable,error,76,x,False",
        ]);
        let code: Vec<Code> = attempt.disks.iter().filter_map(|disk| Some(disk.failure.as_ref()?.code)).collect();
        assert_eq!(code, [crate::classify::codes::PROXY_AUTH_REQUIRED]);
        assert!(attempt.requests.is_empty() && attempt.uploads.is_empty());
    }

    #[test]
    fn processes_that_failed_differently_are_not_put_to_disks() {
        let list = r#"['', 'x Failed to call http with error: timed out, stack trace: T\n  File "x", line 1, in create_connection\n', "y Failed to call http with error: [Errno 111] Connection refused, stack trace: T\n"]"#;
        let attempt = only(&[
            "starting enable",
            "doing snapshotall now in parallel...",
            "index: 0 blobUri: https://a.b/0",
            "index: 1 blobUri: https://a.b/1",
            list,
            "index: 0 blobSnapshotUri: None",
            "index: 1 blobSnapshotUri: None",
        ]);
        let codes: Vec<_> = attempt.requests.iter().map(|failure| failure.code.0).collect();
        assert_eq!(codes, ["tcp.connect_timeout", "tcp.refused"]);
        assert!(attempt.disks.iter().all(|disk| disk.taken == Some(false) && disk.failure.is_none()));
    }

    #[test]
    fn what_is_nothing_is_no_attempt_and_what_is_no_line_is_skipped() {
        let (log, skipped) = read(&messages(&["starting enable", "taskId: t", "TaskId is same as last, so skip"]));
        assert_eq!((log.attempts.len(), skipped), (0, 0));
        let text = format!("rest of a line\n\n{P}starting enable\nnoise\n  File \"x\", line 1, in y\nKeyError: 'x'\n");
        assert_eq!(read(&text).1, 2);
    }

    const LOG: &str = include_str!("../../tests/fixtures/logs/guest-all-failed/extension.log");

    proptest! {
        #[test]
        fn a_log_that_breaks_off_keeps_what_came_before(cut in 0..LOG.len()) {
            let end = (cut..LOG.len()).find(|&end| LOG.is_char_boundary(end)).unwrap_or(LOG.len());
            let (log, skipped) = read(&format!("{LOG}{}", &LOG[..end]));
            let (whole, _) = read(LOG);
            prop_assert!(skipped <= 1);
            prop_assert_eq!(&log.attempts[0], &whole.attempts[0]);
        }

        #[test]
        fn no_lines_panic(lines in prop::collection::vec(0..LOG_LINES, 0..60), noise in prop::collection::vec("\\PC{0,80}", 0..10)) {
            let known: Vec<&str> = LOG.lines().collect();
            let mut text: Vec<String> = lines.iter().map(|&line| known[line % known.len()].to_owned()).collect();
            text.extend(noise.iter().map(|noise| format!("{P}{noise}")));
            let (log, _) = read(&text.join("\n"));
            prop_assert!(log.attempts.len() <= text.len());
        }
    }

    const LOG_LINES: usize = 500;
}
