//! What the snapshot extension's own files tell: logs and status files in, a timeline of attempts and findings out.
//!
//! Each file becomes a [`Document`] (`source` unpacks and recognises it; `extension_log`, `agent_log` and `status` read
//! it), the documents become one [`Triage`] (`judge`), and that is printed by [`report`]. Nothing here measures: what a
//! log says about the network is as old as the log. Hostile files cost bounded time and memory, and nothing kept from a
//! file holds a signature, a query or a password.

mod agent_log;
mod codes;
mod decision;
mod exception;
mod extension_log;
mod judge;
mod line;
pub mod report;
mod source;
mod status;
mod text;

use std::fmt;

use serde::Serialize;

use crate::model::{Class, Code, Finding, Hop, Outcome, Verdict};

pub use codes::{name_of, number_of};
pub use judge::assess;
pub(crate) use judge::attempts;
pub use source::{Document, MAX_BYTES, is_packed, read, unreadable};

/// What the files of one machine tell.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Triage {
    /// How the last attempt ended, and on whose account.
    pub verdict: Verdict,
    /// The attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// What the last attempts have to say; errors first.
    pub findings: Vec<Finding>,
    /// What was read.
    pub sources: Vec<Source>,
    /// Older attempts that were found and not kept.
    #[serde(skip_serializing_if = "is_zero")]
    pub dropped_attempts: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// A file that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Its path as given, or `<stdin>`.
    pub path: String,
    /// What it was taken for.
    pub kind: Kind,
    /// Lines in it.
    pub lines: u64,
    /// Lines that were not understood.
    pub skipped: u64,
    /// Why it was not read to its end, or not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a file is, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `extension.log`
    ExtensionLog,
    /// `host_based_extension.log`: the service that polls the host for snapshots.
    HostServiceLog,
    /// `shell.log`: how `handle.sh` found Python.
    ShellLog,
    /// `waagent.log`
    AgentLog,
    /// A status file of the extension.
    Status,
    /// A settings file of the extension.
    Settings,
    /// None of these.
    Unknown,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExtensionLog => "extension log",
            Self::HostServiceLog => "host service log",
            Self::ShellLog => "shell log",
            Self::AgentLog => "agent log",
            Self::Status => "status file",
            Self::Settings => "settings file",
            Self::Unknown => "not recognised",
        })
    }
}

/// One run of the extension, from `enable` to its final report.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Attempt {
    /// When the first line of it was written, as `YYYY-MM-DD HH:MM:SS`: UTC, local time where Python 2 wrote it.
    pub started: Option<String>,
    /// When its final report was written; `None`: there is none.
    pub ended: Option<String>,
    /// The backup service's id of the task.
    pub task: Option<String>,
    /// The version that ran, where written.
    pub version: Option<String>,
    /// The method it was told to use.
    pub method: Option<String>,
    /// The method that its disks force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced_method: Option<String>,
    /// The ways it really went, in order.
    pub ways: Vec<Way>,
    /// The host's answers, in order.
    pub host_calls: Vec<HostCall>,
    /// The disks, in order; once for each way.
    pub disks: Vec<Disk>,
    /// Failures of requests to storage that cannot be put to one disk.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requests: Vec<Failure>,
    /// Failed uploads of status and log, which go to storage too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uploads: Vec<Failure>,
    /// Everything else that was noted about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
    /// The status file's `code`; 1 is success.
    pub code: Option<i32>,
    /// The extension's name of it.
    pub code_name: Option<&'static str>,
    /// The health code, which may differ.
    pub health_code: Option<i32>,
    /// The extension's name of it.
    pub health_name: Option<&'static str>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// What the log shows, whatever number was reported.
    pub class: Option<Class>,
    /// Where it begins, `file:line`.
    pub place: String,
    /// Status files that tell of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reports: Vec<String>,
    /// The message of its report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Who takes the snapshots, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The host.
    Host,
    /// The machine, one disk after the other.
    GuestSequential,
    /// The machine, one process for each disk.
    GuestParallel,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "by the host",
            Self::GuestSequential => "from inside, one by one",
            Self::GuestParallel => "from inside, in parallel",
        })
    }
}

/// A call to the host's backup service (`168.63.129.16:80`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostCall {
    /// Which.
    pub call: Call,
    /// The HTTP status, or the extension's own 555 (no answer), 556 (the service does not run), 557 (empty answer) and
    /// 558 (exception); `None`: never written.
    pub status: Option<u16>,
    /// The exception, or what the host answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What the exception means.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// Where it stands.
    pub place: String,
}

impl HostCall {
    /// Whether the host did as asked.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        matches!(self.status, Some(200 | 201))
    }
}

/// The two calls of the host path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub enum Call {
    /// `presnapshot`: is the host able to.
    PreSnapshot,
    /// `dosnapshot`: do it.
    DoSnapshot,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One disk on one way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Disk {
    /// On which way.
    pub way: Way,
    /// Its number in the log.
    pub index: Option<u32>,
    /// The storage host, lower case; `None`: the host's answer does not name it.
    pub host: Option<String>,
    /// The blob's path, without the query.
    pub path: String,
    /// Whether its snapshot was taken; `None`: the log does not tell.
    pub taken: Option<bool>,
    /// The HTTP status of the answer, or the one that the host reports.
    pub status: Option<u16>,
    /// What went wrong.
    pub failure: Option<Failure>,
    /// Whether the host wrote `true` or `false` where the extension expects text.
    #[serde(skip)]
    pub boolean: bool,
}

/// A failure that the log tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The exception, or the answer's error, in the log's words.
    pub text: String,
    /// What it means.
    pub code: Code,
    /// Between whom.
    pub hop: Hop,
    /// `host:443`, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Where it stands.
    pub place: String,
}

/// Something else that an attempt's lines tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What.
    pub kind: Mark,
    /// The line, without anything secret.
    pub text: String,
    /// Where it stands.
    pub place: String,
}

/// The kinds of [`Note`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// `waagent.conf` could not be read by the extension's parser.
    AgentFileUnreadable,
    /// There was no disk to snapshot.
    NoDisks,
    /// More than 140 minutes since the backup service gave the command.
    TooLate,
    /// File systems could not be frozen, or not in time.
    FreezeFailed,
    /// File systems could not be thawed as planned, so the snapshots are worth nothing.
    Inconsistent,
    /// The final report could not be written.
    ReportLost,
    /// A total failure of the machine's own requests that ends as a `KeyError`.
    KeyError,
    /// The status or the log could not be uploaded.
    UploadFailed,
}
