//! A whole run, as it is reported, saved and read again.

use serde::{Deserialize, Serialize};

use super::{Form, Load, Measurement, Setup, Workload, gate::Judgement};
use crate::model::ToolInfo;

/// Everything that reports of a run say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Version of this form.
    pub schema: u32,
    /// Who measured.
    pub tool: ToolInfo,
    /// `bench`.
    pub kind: String,
    /// RFC 3339.
    pub started_at: String,
    /// Of the whole run, warm-ups included.
    pub elapsed_ms: u64,
    /// How it ended, in one sentence, and the exit code that follows.
    pub verdict: Verdict,
    /// What was done.
    pub settings: Settings,
    /// Where.
    pub environment: Environment,
    /// What is measured: A, and B where two are compared.
    pub arms: Vec<ArmInfo>,
    /// The comparison, where there is one.
    pub gate: Option<Judgement>,
    /// What the reader must know to trust the figures.
    pub notes: Vec<String>,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// `measured`, `pass`, `fail` or `inconclusive`.
    pub status: Status,
    /// One sentence.
    pub summary: String,
    /// The exit code that follows, unless it was interrupted.
    pub exit_code: u8,
}

/// How a run ended, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Measured; nothing was compared.
    Measured,
    /// B is not worse than A by more than the margin.
    Pass,
    /// B is worse than A by more than the margin, or nothing succeeded.
    Fail,
    /// Cannot be told.
    Inconclusive,
}

/// What was done, as reports have it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// What.
    pub workload: Workload,
    /// When.
    pub load: Load,
    /// Connections at once.
    pub connections: usize,
    /// Measured time of an uncompared run, in milliseconds.
    pub duration_ms: u64,
    /// Time thrown away before, in milliseconds.
    pub warmup_ms: u64,
    /// Payload bytes of one transfer.
    pub bytes: u64,
    /// Longest time of an operation, in milliseconds.
    pub timeout_ms: u64,
    /// Whether TLS sessions are resumed.
    pub resumed: bool,
    /// Whether bytes were compared.
    pub verify: bool,
    /// What chance was drawn from.
    pub seed: u64,
}

impl From<&Setup> for Settings {
    fn from(setup: &Setup) -> Self {
        let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            workload: setup.workload,
            load: setup.load,
            connections: setup.connections,
            duration_ms: ms(setup.duration),
            warmup_ms: ms(setup.warmup),
            bytes: setup.bytes,
            timeout_ms: ms(setup.timeout),
            resumed: setup.resumed,
            verify: setup.verify,
            seed: setup.seed,
        }
    }
}

/// What the figures depend on beside the arms.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Operating system and its release.
    pub system: String,
    /// Processors that this process may use.
    pub processors: usize,
    /// The congestion control of this side's sockets.
    pub congestion: String,
    /// Machines whose results were added up.
    pub machines: u32,
}

/// One arm with what was measured on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArmInfo {
    /// What it is: `direct`, `through http://10.0.0.5:3128`, `lab`.
    pub label: String,
    /// `scheme://host:port`, without a signature.
    pub target: String,
    /// `scheme://host:port`, without credentials.
    pub proxy: Option<String>,
    /// How requests went through the proxy.
    pub form: Form,
    /// What was measured, all slices together.
    pub measurement: Measurement,
}
