//! From documents to a triage: attempts are merged, each is judged by what its own lines show, and the one that matters
//! becomes findings. Pure, total, deterministic.

use std::fmt::Write as _;

use time::{PrimitiveDateTime, macros::format_description};

use super::{
    Attempt, Call, Disk, Document, Failure, HostCall, Mark, Triage, Way,
    agent_log::AgentFailure,
    codes::name_of,
    decision, exception,
    source::Content,
    status::{Report, ReportedDisk},
};
use crate::{
    classify::{
        catalogue::{self, Situation},
        codes,
    },
    model::{Class, Code, Confidence, Finding, Hop, Outcome, Party, Route, Severity, Status, Verdict},
};

/// Attempts that are kept in all; each file has its own bound.
const MAX_ATTEMPTS: usize = 1000;

/// Lines of evidence of a finding.
const MAX_EVIDENCE: usize = 40;

/// A status file is written within this many seconds of the line that tells the same code.
const SAME_REPORT: i64 = 120;

/// The wire server.
const HOST: &str = "168.63.129.16";

/// Makes one triage of what was read, whatever the order of the documents.
#[must_use]
pub fn assess(mut documents: Vec<Document>) -> Triage {
    documents.sort_by(|a, b| a.source.path.cmp(&b.source.path));
    let (attempts, dropped_attempts) = attempts(&documents);
    let findings = findings(&attempts, &documents);
    let verdict = verdict(&attempts, &findings, &documents);
    let sources = documents.into_iter().map(|document| document.source).collect();
    Triage { verdict, attempts, findings, sources, dropped_attempts }
}

// ---- attempts

/// The attempts of all documents, oldest first, each judged, and how many older ones were dropped.
pub(crate) fn attempts(documents: &[Document]) -> (Vec<Attempt>, u64) {
    let mut dropped = 0;
    let mut attempts: Vec<Attempt> = Vec::new();
    for document in documents {
        if let Content::Extension(log) = &document.content {
            dropped += log.dropped;
            attempts.extend(log.attempts.iter().cloned());
        }
    }
    attempts.sort_by(|a, b| (&a.started, &a.place).cmp(&(&b.started, &b.place)));
    // The same log may be there twice, rotated or copied.
    attempts.dedup_by(|b, a| a.started == b.started && a.task == b.task && a.code == b.code && a.started.is_some());
    let mut reports: Vec<&Report> = documents
        .iter()
        .filter_map(|document| match &document.content {
            Content::Status(report) => Some(&**report),
            _ => None,
        })
        .collect();
    reports.sort_by(|a, b| (&a.at, &a.path).cmp(&(&b.at, &b.path)));
    for report in reports {
        let away = |attempt: &&mut Attempt| apart(report, attempt).unwrap_or(i64::MAX);
        match attempts.iter_mut().filter(|attempt| belongs(report, attempt)).min_by_key(away) {
            Some(attempt) => complete(attempt, report),
            None => attempts.push(from_report(report)),
        }
    }
    for document in documents {
        let Content::Settings(settings) = &document.content else { continue };
        let same = |attempt: &&mut Attempt| attempt.task.is_some() && attempt.task == settings.task;
        if let Some(attempt) = attempts.iter_mut().rfind(same) {
            attempt.method = attempt.method.take().or_else(|| settings.method.clone());
        }
    }
    attempts.sort_by(|a, b| a.when().cmp(&b.when()));
    let surplus = attempts.len().saturating_sub(MAX_ATTEMPTS);
    attempts.drain(..surplus);
    for attempt in &mut attempts {
        attempt.code_name = attempt.code.and_then(name_of);
        attempt.health_name = attempt.health_code.and_then(name_of);
        attempt.outcome = Some(outcome(attempt));
        attempt.class = class(attempt);
    }
    (attempts, dropped + surplus as u64)
}

impl Attempt {
    /// When it happened, as far as written.
    #[must_use]
    pub fn when(&self) -> Option<&str> {
        self.started.as_deref().or(self.ended.as_deref())
    }

    /// The way that decided.
    #[must_use]
    pub fn way(&self) -> Option<Way> {
        self.ways.last().copied()
    }

    /// The disks on the way that decided.
    pub fn last_disks(&self) -> impl Iterator<Item = &Disk> {
        let host = self.way() == Some(Way::Host);
        self.disks.iter().filter(move |disk| (disk.way == Way::Host) == host)
    }

    /// Whether the log notes this.
    pub(super) fn has(&self, kind: Mark) -> bool {
        self.notes.iter().any(|note| note.kind == kind)
    }

    /// The last answer of the host to this call.
    #[must_use]
    pub fn answer(&self, call: Call) -> Option<&HostCall> {
        self.host_calls.iter().rfind(|known| known.call == call)
    }
}

/// Whether a status file tells of this attempt. A task that is repeated keeps its id.
fn belongs(report: &Report, attempt: &Attempt) -> bool {
    // 4 stands for "at work", and the file is overwritten when that is over.
    if attempt.code.is_some() && report.code != Some(4) && attempt.code != report.code {
        return false;
    }
    if report.task.is_some() && attempt.task.is_some() {
        return report.task == attempt.task;
    }
    apart(report, attempt).is_some_and(|seconds| seconds <= SAME_REPORT)
}

/// Seconds between a status file and an attempt.
fn apart(report: &Report, attempt: &Attempt) -> Option<i64> {
    let written = seconds(attempt.ended.as_deref().or(attempt.started.as_deref())?)?;
    Some((written - seconds(report.at.as_deref()?)?).abs())
}

/// Seconds of `YYYY-MM-DD HH:MM:SS`, for differences.
fn seconds(at: &str) -> Option<i64> {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    Some(PrimitiveDateTime::parse(at, format).ok()?.assume_utc().unix_timestamp())
}

/// What a status file adds to what the log told.
fn complete(attempt: &mut Attempt, report: &Report) {
    attempt.reports.push(report.path.clone());
    // 4 stands for "at work".
    attempt.code = attempt.code.or(report.code.filter(|code| *code != 4));
    attempt.health_code = report.health_code.filter(|_| report.code != Some(4)).or(attempt.health_code);
    attempt.version = attempt.version.take().or_else(|| report.version.clone());
    attempt.task = attempt.task.take().or_else(|| report.task.clone());
    if report.code != Some(4) {
        attempt.ended = attempt.ended.take().or_else(|| report.at.clone());
        attempt.message =
            attempt.message.take().or_else(|| Some(report.message.clone()).filter(|text| !text.is_empty()));
    }
    let way = match report.creator.as_deref() {
        Some("backupHostService") => Some(Way::Host),
        Some("guestExtension") => Some(Way::GuestSequential),
        _ => None,
    };
    if attempt.ways.is_empty() {
        attempt.ways.extend(way);
    }
    let place = report.path.clone();
    for (call, status) in [(Call::PreSnapshot, &report.pre_snapshot), (Call::DoSnapshot, &report.do_snapshot)] {
        let status = status.as_deref().and_then(|status| status.parse().ok());
        match attempt.host_calls.iter_mut().rfind(|known| known.call == call) {
            Some(known) => known.status = status.or(known.status),
            None if status.is_some() => {
                attempt.host_calls.push(HostCall { call, status, error: None, code: None, place: place.clone() });
            }
            None => {}
        }
    }
    let way = way.or(attempt.way()).unwrap_or(Way::GuestSequential);
    if attempt.last_disks().next().is_none() {
        attempt.disks.extend(report.disks.iter().map(|disk| from_reported(disk, way, &place)));
    }
}

fn from_report(report: &Report) -> Attempt {
    let mut attempt = Attempt { place: report.path.clone(), ..Attempt::default() };
    if report.code == Some(4) {
        attempt.started.clone_from(&report.at);
    }
    complete(&mut attempt, report);
    attempt
}

fn from_reported(disk: &ReportedDisk, way: Way, place: &str) -> Disk {
    let failed = disk.taken == Some(false);
    let failure = failed.then(|| {
        let (text, (code, hop)) = match (&disk.error, way) {
            (Some(error), Way::Host) => (error.clone(), (codes::TRIAGE_HOST_REFUSED, Hop::Host)),
            (None, Way::Host) => (exception::NO_REASON.into(), (codes::TRIAGE_HOST_REFUSED, Hop::Host)),
            (Some(error), _) => {
                (error.clone(), exception::answer(0, error).unwrap_or((codes::STORAGE_ERROR, Hop::Origin)))
            }
            // The extension keeps a message for an answer, and none for an exception.
            (None, _) => (
                "no answer: the status file does not keep the exception".into(),
                (codes::META_UNCLASSIFIED, Hop::ClientToOrigin),
            ),
        };
        let limit = [exception::RATE, exception::COUNT].iter().any(|words| text.contains(words));
        let (code, hop) = if limit { (codes::STORAGE_THROTTLED, Hop::Origin) } else { (code, hop) };
        Failure {
            text,
            code,
            hop,
            target: disk.host.as_ref().map(|host| format!("{host}:443")),
            place: place.to_owned(),
        }
    });
    Disk {
        way,
        index: None,
        host: disk.host.clone(),
        path: disk.path.clone(),
        taken: disk.taken,
        status: None,
        failure,
        boolean: false,
    }
}

// ---- judgement of one attempt

fn outcome(attempt: &Attempt) -> Outcome {
    match attempt.code {
        Some(0 | 1 | 3) => Outcome::Success,
        Some(4) | None if !attempt.has(Mark::ReportLost) => Outcome::Unknown,
        _ => Outcome::Failure,
    }
}

/// What the lines show, whatever number was reported; `None` where they show nothing.
fn class(attempt: &Attempt) -> Option<Class> {
    if outcome(attempt) == Outcome::Success {
        return Some(Class::None);
    }
    if [Mark::FreezeFailed, Mark::TooLate, Mark::NoDisks, Mark::Inconsistent].into_iter().any(|kind| attempt.has(kind))
    {
        return Some(Class::GenericError);
    }
    let failures: Vec<&Failure> = failures(attempt).collect();
    let told = |words: &str| failures.iter().any(|failure| failure.text.contains(words));
    if told(exception::RATE) {
        return Some(Class::RateExceeded);
    }
    if told(exception::COUNT) {
        return Some(Class::LimitReached);
    }
    let taken = attempt.last_disks().any(|disk| disk.taken == Some(true));
    match attempt.way() {
        Some(Way::Host) => {
            let refused = failures.iter().any(|failure| failure.hop == Hop::Host);
            match attempt.answer(Call::DoSnapshot).and_then(|call| call.status) {
                Some(555) => Some(Class::NoNetwork),
                Some(200 | 201) | None => refused.then_some(Class::HostError),
                Some(_) => Some(Class::HostError),
            }
        }
        Some(_) => {
            let network = failures.iter().filter(|failure| is_network(failure.code)).count();
            let answered = failures.len() > network;
            match (network, taken || answered) {
                (0, _) if answered => Some(Class::GenericError),
                (0, _) => attempt.has(Mark::KeyError).then_some(Class::NoNetwork),
                (_, true) => Some(Class::RestrictedNetwork),
                (_, false) => Some(Class::NoNetwork),
            }
        }
        None => None,
    }
}

/// What failed on the way that decided.
fn failures(attempt: &Attempt) -> impl Iterator<Item = &Failure> {
    let requests = attempt.requests.iter().filter(|_| attempt.way() != Some(Way::Host));
    attempt.last_disks().filter_map(|disk| disk.failure.as_ref()).chain(requests)
}

/// Whether storage was not heard: everything but its own answers.
fn is_network(code: Code) -> bool {
    !code.0.starts_with("storage.") && !code.0.starts_with("triage.")
}

/// What the reported numbers say to people.
fn reported_class(attempt: &Attempt) -> Option<Class> {
    Some(match (attempt.code?, attempt.health_code) {
        (0 | 1 | 3, _) => Class::None,
        (_, Some(761)) | (761, _) => Class::RestrictedNetwork,
        (76, _) => Class::NoNetwork,
        (85, _) => Class::LimitReached,
        (173, _) => Class::RateExceeded,
        (556, _) => Class::HostError,
        _ => Class::GenericError,
    })
}

/// A class in the middle of a sentence.
pub(super) fn class_words(class: Class) -> &'static str {
    match class {
        Class::None => "success",
        Class::NoNetwork => "storage or the host out of reach",
        Class::RestrictedNetwork => "some of the storage out of reach",
        Class::HostError => "a host that refuses",
        Class::RateExceeded => "too many snapshots in a short time",
        Class::LimitReached => "too many snapshots of a disk",
        Class::GenericError => "trouble other than the network's",
    }
}

// ---- findings

/// A finding that still gathers evidence.
struct Draft {
    finding: Finding,
    disks: usize,
}

struct Drafts(Vec<Draft>);

impl Drafts {
    /// The finding with this code and hop, made where there is none.
    fn get(&mut self, code: Code, hop: Hop, severity: Severity) -> &mut Draft {
        let at = self.0.iter().position(|draft| draft.finding.code == code && draft.finding.hop == hop);
        let at = at.unwrap_or_else(|| {
            self.0.push(Draft { finding: empty(code, hop, severity), disks: 0 });
            self.0.len() - 1
        });
        let draft = &mut self.0[at];
        draft.finding.severity = draft.finding.severity.min(severity);
        draft
    }

    /// A finding of one line.
    fn note(&mut self, code: Code, hop: Hop, severity: Severity, summary: &str, evidence: &str) {
        let draft = self.get(code, hop, severity);
        if draft.finding.summary.is_empty() {
            summary.clone_into(&mut draft.finding.summary);
        }
        draft.evidence(evidence);
    }
}

impl Draft {
    fn evidence(&mut self, line: &str) {
        let evidence = &mut self.finding.evidence;
        if evidence.len() < MAX_EVIDENCE && !evidence.iter().any(|known| known == line) {
            evidence.push(line.to_owned());
        }
    }

    fn target(&mut self, target: Option<&String>) {
        let targets = &mut self.finding.targets;
        targets.extend(target.filter(|target| !targets.contains(target)).cloned());
    }
}

fn empty(code: Code, hop: Hop, severity: Severity) -> Finding {
    let entry = catalogue::find(code.0);
    let through_proxy = matches!(hop, Hop::ClientToProxy | Hop::Proxy | Hop::ProxyToOrigin);
    Finding {
        code,
        hop,
        severity,
        confidence: confidence(code),
        party: entry.map_or(Party::Unknown, |entry| entry.party),
        targets: Vec::new(),
        route: match hop {
            Hop::ClientToOrigin | Hop::Origin => Some(Route::Direct),
            _ => through_proxy.then_some(Route::Proxy),
        },
        failed: 0,
        tried: 0,
        summary: String::new(),
        evidence: Vec::new(),
        remedies: Vec::new(),
        observations: Vec::new(),
    }
}

/// A log is a report by somebody else; silence and a private authority are signs only.
fn confidence(code: Code) -> Confidence {
    match code {
        codes::META_UNCLASSIFIED => Confidence::Unknown,
        codes::TCP_CONNECT_TIMEOUT
        | codes::HTTP_SILENT
        | codes::TLS_SILENT_AFTER_HELLO
        | codes::PROXY_SILENT
        | codes::TLS_INTERCEPTED
        | codes::HTTP_WRONG_SPEAKER
        | codes::LOCAL_CLOCK_SKEW
        | codes::TRIAGE_CODE_MISLEADS => Confidence::Heuristic,
        _ => Confidence::Reported,
    }
}

fn findings(attempts: &[Attempt], documents: &[Document]) -> Vec<Finding> {
    let mut drafts = Drafts(Vec::new());
    let last = attempts.last();
    let focus = attempts.iter().rfind(|attempt| attempt.outcome != Some(Outcome::Success)).or(last);
    if let Some(attempt) = focus {
        // What failed and works since is no error any more.
        let passed = last.is_some_and(|last| last.outcome == Some(Outcome::Success));
        of_attempt(&mut drafts, attempt, if passed { Severity::Warning } else { Severity::Error });
    }
    for document in documents {
        if let Content::Agent(log) = &document.content {
            log.failures.iter().for_each(|failure| of_agent(&mut drafts, failure));
        }
    }
    let mut findings: Vec<Finding> = drafts.0.into_iter().map(finished).collect();
    findings.sort_by_key(|finding| finding.severity);
    findings
}

fn finished(draft: Draft) -> Finding {
    let Draft { mut finding, disks } = draft;
    if finding.summary.is_empty() {
        let title = catalogue::find(finding.code.0).map_or("failed", |entry| entry.title);
        let of = crate::report::plural(disks, "disk");
        finding.summary = format!("The snapshot of {of} failed: {title}.");
    }
    finding.targets.sort_unstable();
    let situation = Situation {
        hop: finding.hop,
        route: finding.route,
        targets: &finding.targets,
        region: None,
        proxy: None,
        product: None,
    };
    finding.remedies = catalogue::remedies(finding.code, &situation);
    finding
}

fn of_attempt(drafts: &mut Drafts, attempt: &Attempt, error: Severity) {
    misleading(drafts, attempt);
    for disk in &attempt.disks {
        let Some(failure) = &disk.failure else { continue };
        // What another way made good bites only where that way is not there.
        let decided = disk.way == Way::Host || attempt.way() != Some(Way::Host);
        let severity = if decided { error } else { Severity::Warning };
        let draft = drafts.get(failure.code, failure.hop, severity);
        draft.disks += 1;
        draft.target(failure.target.as_ref());
        let name = match &disk.host {
            Some(host) => format!("{host}{}", disk.path),
            None => "a disk".into(),
        };
        draft.evidence(&format!("{}: {name}: {}", failure.place, failure.text));
    }
    for failure in &attempt.requests {
        let draft = drafts.get(failure.code, failure.hop, error);
        draft.disks += 1;
        draft.target(failure.target.as_ref());
        draft.evidence(&format!("{}: {}", failure.place, failure.text));
    }
    of_host(drafts, attempt, error);
    of_notes(drafts, attempt, error);
    for failure in &attempt.uploads {
        let draft = drafts.get(failure.code, failure.hop, Severity::Warning);
        draft.target(failure.target.as_ref());
        draft.evidence(&format!("{}: upload of status or log: {}", failure.place, failure.text));
        if draft.disks == 0 && draft.finding.summary.is_empty() {
            let title = catalogue::find(failure.code.0).map_or("failed", |entry| entry.title);
            draft.finding.summary = format!(
                "Status or log could not be uploaded to storage: {title}. The snapshot does not need this upload, but \
                 whoever takes it from inside the machine goes the same way."
            );
        }
    }
    let rejected = drafts.0.iter().find(|draft| draft.finding.code == codes::STORAGE_SAS_REJECTED);
    if let Some(line) = rejected.and_then(|draft| draft.finding.evidence.first()).cloned() {
        let summary = "Storage rejects the signature; a clock of this machine that is wrong by more than a quarter of an \
                       hour has that effect.";
        drafts.note(codes::LOCAL_CLOCK_SKEW, Hop::Local, Severity::Warning, summary, &line);
    }
}

fn of_host(drafts: &mut Drafts, attempt: &Attempt, error: Severity) {
    for call in [Call::PreSnapshot, Call::DoSnapshot] {
        let Some(known) = attempt.answer(call).filter(|known| !known.succeeded()) else { continue };
        let Some(status) = known.status else { continue };
        let severity = if attempt.way() == Some(Way::Host) { error } else { Severity::Warning };
        let proxied = known.error.as_deref().is_some_and(|error| error.contains("Tunnel connection failed"));
        let answer = status_words(status);
        let reason = known.error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
        let evidence = format!("{}: {call} {status} ({answer}){reason}", known.place);
        let (code, summary) = match status {
            555 if proxied => (codes::HOST_PROXIED, format!("The call {call} to the host went to a proxy.")),
            555 => (codes::HOST_UNREACHABLE, format!("The host did not answer {call}.")),
            _ => (codes::TRIAGE_HOST_REFUSED, format!("The host answered {call} with {status}: {answer}.")),
        };
        let draft = drafts.get(code, Hop::Host, severity);
        if draft.finding.summary.is_empty() {
            draft.finding.summary = summary;
        }
        if code != codes::TRIAGE_HOST_REFUSED {
            draft.target(Some(&format!("{HOST}:80")));
        }
        draft.evidence(&evidence);
    }
}

/// What the status of a call to the host means: the extension has four of its own.
pub(super) fn status_words(status: u16) -> &'static str {
    match status {
        200 | 201 => "done",
        555 => "no answer",
        556 => "the host's backup service does not run",
        557 => "an empty answer",
        558 => "an exception of the extension",
        _ => "an error of the host",
    }
}

fn of_notes(drafts: &mut Drafts, attempt: &Attempt, error: Severity) {
    for note in &attempt.notes {
        let evidence = format!("{}: {}", note.place, note.text);
        let (code, hop, severity, summary) = match note.kind {
            Mark::AgentFileUnreadable => (
                codes::CONFIG_AGENT_FILE_UNREADABLE_BY_EXTENSION,
                Hop::Local,
                Severity::Warning,
                "The extension could not read waagent.conf, so it knew no proxy and went direct.",
            ),
            Mark::NoDisks => {
                (codes::TRIAGE_NO_DISKS, Hop::Consumer, error, "The extension was given no disk, and sent no request.")
            }
            Mark::TooLate => {
                if !attempt.host_calls.iter().any(HostCall::succeeded) {
                    let summary = "The host gave no time, so this machine's clock decided that it was too late: it may run ahead.";
                    drafts.note(codes::LOCAL_CLOCK_SKEW, Hop::Local, Severity::Warning, summary, &evidence);
                }
                (
                    codes::TRIAGE_TOO_LATE,
                    Hop::Local,
                    error,
                    "More than 140 minutes after the command the extension gave up.",
                )
            }
            Mark::FreezeFailed => {
                (codes::TRIAGE_FREEZE_FAILED, Hop::Local, error, "The file systems could not be frozen.")
            }
            Mark::Inconsistent => (
                codes::TRIAGE_FREEZE_FAILED,
                Hop::Local,
                error,
                "The file systems did not stay frozen until the snapshots were taken.",
            ),
            Mark::ReportLost => (
                codes::TRIAGE_REPORT_LOST,
                Hop::Consumer,
                Severity::Warning,
                "The extension failed to write its last report; the status file stays at code 4.",
            ),
            // The judgement says it; uploads have their own exceptions.
            Mark::KeyError | Mark::UploadFailed => continue,
        };
        drafts.note(code, hop, severity, summary, &evidence);
    }
    let failed: Vec<_> = attempt.notes.iter().filter(|note| note.kind == Mark::UploadFailed).collect();
    if let (Some(first), true) = (failed.first(), attempt.uploads.is_empty()) {
        let evidence = format!("{}: {}", first.place, first.text);
        let summary = "Status or log could not be uploaded to storage; the log does not say why.";
        drafts.note(codes::META_UNCLASSIFIED, Hop::ClientToOrigin, Severity::Warning, summary, &evidence);
    }
}

/// Whether the numbers say one thing and the lines another.
fn misleading(drafts: &mut Drafts, attempt: &Attempt) {
    let (Some(reported), Some(code)) = (reported_class(attempt), attempt.code) else { return };
    let shown = attempt.class.filter(|shown| *shown != reported);
    let contradiction = decision::contradiction(attempt);
    if shown.is_none() && contradiction.is_none() && !attempt.has(Mark::KeyError) {
        return;
    }
    let name = |code: i32| name_of(code).map_or_else(|| code.to_string(), |name| format!("{code} ({name})"));
    let mut summary = format!("The extension reported {}", name(code));
    if let Some(health) = attempt.health_code.filter(|health| *health != code) {
        let _ = write!(summary, " with health code {}", name(health));
    }
    if let Some(shown) = shown {
        let _ = write!(summary, ", which stands for {}; the log shows {}", class_words(reported), class_words(shown));
    }
    summary.push('.');
    if attempt.has(Mark::KeyError) {
        summary
            .push_str(" It failed over its own bookkeeping after every snapshot from inside the machine had failed.");
    }
    if let Some((build, ending)) = contradiction {
        let health = ending.error_code.filter(|health| *health != ending.code);
        let health = health.map_or_else(String::new, |health| format!(" with health code {}", name(health)));
        let (expected, consumer) = (name(ending.code), build.consumer());
        let _ = write!(
            summary,
            " By the extension's own rules ({consumer}) the results in the log give {expected}{health}: part of the log is \
             missing, or another build wrote it."
        );
    }
    let draft = drafts.get(codes::TRIAGE_CODE_MISLEADS, Hop::Consumer, Severity::Warning);
    draft.finding.summary = summary;
    let key_error = attempt.notes.iter().find(|note| note.kind == Mark::KeyError);
    let failure = failures(attempt).next();
    let call = attempt.answer(Call::DoSnapshot).filter(|call| !call.succeeded());
    let lines = [
        key_error.map(|note| format!("{}: {}", note.place, note.text)),
        failure.map(|failure| format!("{}: {}", failure.place, failure.text)),
        call.and_then(|call| Some(format!("{}: DoSnapshot {}", call.place, call.status?))),
        attempt.message.as_ref().map(|message| format!("{}: {message}", attempt.place)),
    ];
    lines.into_iter().flatten().for_each(|line| draft.evidence(&line));
}

fn of_agent(drafts: &mut Drafts, failure: &AgentFailure) {
    let (code, hop, port) = match failure.host.as_str() {
        HOST => (codes::HOST_UNREACHABLE, Hop::Host, 80),
        _ => (failure.code, failure.hop, 443),
    };
    let title = catalogue::find(code.0).map_or("failed", |entry| entry.title);
    let draft = drafts.get(code, hop, Severity::Warning);
    if draft.disks == 0 && draft.finding.summary.is_empty() {
        draft.finding.summary = format!("Requests of the agent to {} failed: {title}.", failure.host);
    }
    draft.target(Some(&format!("{}:{port}", failure.host)));
    let times = crate::report::plural(failure.count, "time");
    draft.evidence(&format!("{}: agent, {times}, last {}: {}", failure.place, failure.last, failure.text));
}

// ---- verdict

fn verdict(attempts: &[Attempt], findings: &[Finding], documents: &[Document]) -> Verdict {
    let (status, summary) = match attempts.last() {
        None => {
            let read = documents.iter().filter(|document| document.content != Content::Nothing).count();
            let files = crate::report::plural(read, "file");
            (Status::Inconclusive, format!("no attempt of the snapshot extension stands in what was read ({files})"))
        }
        Some(last) => {
            let which = match attempts.len() {
                1 => "the only attempt".to_owned(),
                n => format!("the last of {n} attempts"),
            };
            let when = last.when().map_or_else(String::new, |when| format!(" ({when})"));
            let way = last.way().map_or_else(String::new, |way| format!(", {way}"));
            match last.outcome {
                Some(Outcome::Success) => {
                    let worst = findings.iter().any(|finding| finding.severity <= Severity::Warning);
                    let status = if worst { Status::Degraded } else { Status::Clear };
                    (status, format!("{which}{when} succeeded{way}"))
                }
                Some(Outcome::Failure) => {
                    (Status::Blocked, format!("{which}{when} failed{way}: {}", reason(last, findings)))
                }
                _ => (Status::Inconclusive, format!("{which}{when} has no end in what was read{way}")),
            }
        }
    };
    Verdict { status, summary, exit_code: status.exit_code() }
}

/// Why it failed, in a few words: what the log shows before what was reported.
fn reason(attempt: &Attempt, findings: &[Finding]) -> String {
    let first = findings.iter().find(|finding| finding.severity == Severity::Error);
    let title = first.and_then(|finding| catalogue::find(finding.code.0)).map(|entry| entry.title);
    let numbers = match (attempt.code, attempt.code_name) {
        (Some(code), Some(name)) => format!("reported as {code} ({name})"),
        (Some(code), None) => format!("reported as {code}"),
        _ => "never reported".into(),
    };
    let failed = attempt.last_disks().filter(|disk| disk.taken == Some(false)).count();
    let all = attempt.last_disks().count();
    let disks = if all > 0 { format!("{failed} of {}, ", crate::report::plural(all, "disk")) } else { String::new() };
    match title {
        Some(title) => format!("{disks}{title}; {numbers}"),
        None => format!("{disks}for a reason that the log does not tell; {numbers}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::triage::read;

    const LOG: &str = include_str!("../../tests/fixtures/logs/guest-all-failed/extension.log");
    const STATUS: &str = include_str!("../../tests/fixtures/logs/guest-all-failed/12.status");
    const LOST: &str = include_str!("../../tests/fixtures/logs/host-556/12.status");

    fn codes_of(triage: &Triage) -> Vec<&str> {
        triage.findings.iter().map(|finding| finding.code.0).collect()
    }

    #[test]
    fn documents_may_come_in_any_order() {
        let later = LOG.replace("2026-01-05", "2026-01-06").replace("2026/01/05", "2026/01/06");
        let agent = "2026-01-05T03:10:44Z ERROR x [HTTP Failed] GET http://168.63.129.16/ -- IOError timed out -- 6 attempts made";
        let mut documents = vec![
            read("b.log", later.as_bytes()),
            read("a.log", LOG.as_bytes()),
            read("12.status", STATUS.as_bytes()),
            read("waagent.log", agent.as_bytes()),
        ];
        let triage = assess(documents.clone());
        assert_eq!(triage.attempts.len(), 2);
        assert_eq!(triage.attempts[0].reports, ["12.status"]);
        documents.reverse();
        assert_eq!(assess(documents), triage);
    }

    #[test]
    fn a_copy_of_a_log_adds_nothing() {
        let documents = ["a.log", "a.log.1"].map(|path| read(path, LOG.as_bytes()));
        assert_eq!(assess(documents.to_vec()).attempts.len(), 1);
    }

    #[test]
    fn a_status_file_without_its_log_says_what_it_can() {
        // An answer leaves its message in the file, an exception leaves nothing.
        let file = |error: &str, taken: &str| {
            format!(
                r#"[{{"timestampUTC":"2026-01-05T03:10:44Z","status":{{"code":"76","formattedMessage":{{"message":"x snapshotCreator=guestExtension, "}},
                "snapshotInfo":[{{"isSuccessful":false,"errorMessage":{error},"blobUri":"https://a.blob.core.windows.net/c/d"}},
                {{"isSuccessful":{taken},"errorMessage":null,"blobUri":"https://b.blob.core.windows.net/c/d"}}],
                "vmHealthInfo":{{"vmHealthStatusCode":761}}}}}}]"#
            )
        };
        for (error, taken, class, code) in [
            ("null", "true", Class::RestrictedNetwork, "meta.unclassified"),
            ("null", "false", Class::NoNetwork, "meta.unclassified"),
            (r#""<Code>AuthorizationFailure</Code>""#, "true", Class::GenericError, "storage.network_rules"),
            (r#""The rate of snapshot blob calls is exceeded""#, "true", Class::RateExceeded, "storage.throttled"),
            (
                r#""The snapshot count against this blob has been exceeded""#,
                "true",
                Class::LimitReached,
                "storage.throttled",
            ),
        ] {
            let triage = assess(vec![read("1.status", file(error, taken).as_bytes())]);
            assert_eq!(triage.attempts[0].class, Some(class), "{error}");
            assert_eq!(codes_of(&triage)[0], code, "{error}");
        }
    }

    #[test]
    fn what_is_at_work_has_no_end() {
        let triage = assess(vec![read("1.status", LOST.as_bytes())]);
        assert_eq!((triage.verdict.status, triage.verdict.exit_code), (Status::Inconclusive, 3));
        let agent = "2026-01-05T03:10:44Z INFO x y\n";
        let nothing = assess(vec![read("waagent.log", agent.as_bytes())]);
        assert_eq!((nothing.verdict.exit_code, nothing.attempts.len()), (3, 0));
    }
}
