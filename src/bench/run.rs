//! A whole run, as it is reported, saved and read again.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, SeqAccess, Visitor},
};

use super::{Form, Load, Measurement, Setup, Workload, gate::Judgement};
use crate::model::{SCHEMA, ToolInfo};

/// What `kind` says in every run.
pub(super) const KIND: &str = "bench";

/// Bytes of a saved run: a day's time series needs less.
const MAX_BYTES: usize = 128 << 20;

/// Counts beyond this are none, and could not all be added up; other readers of JSON lose digits from here on.
pub(super) const MAX_COUNT: u64 = 1 << 53;

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
    #[serde(deserialize_with = "one_or_two")]
    pub arms: Vec<ArmInfo>,
    /// The comparison, where there is one.
    pub gate: Option<Judgement>,
    /// What the reader must know to trust the figures.
    pub notes: Vec<String>,
    /// Whether it was ended before its time.
    pub interrupted: bool,
}

impl Run {
    /// Reads a run that was saved as JSON. Counts and times are exactly those that were saved, ratios but for their last
    /// binary digit.
    ///
    /// # Errors
    /// When the text is too long, no JSON, another document, of a newer program, or says what no run says.
    pub fn read(text: &str) -> Result<Self, ReadError> {
        if text.len() > MAX_BYTES {
            return Err(ReadError::TooLong);
        }
        let Head { schema, kind } = serde_json::from_str(text)
            .map_err(|e| if e.is_data() { ReadError::NoRun(None) } else { ReadError::Json(e) })?;
        if kind != KIND {
            return Err(ReadError::NoRun(Some(kind)));
        }
        if schema > SCHEMA {
            return Err(ReadError::Schema { found: schema });
        }
        let run: Self = serde_json::from_str(text).map_err(ReadError::Json)?;
        match run.contradiction() {
            Some(what) => Err(ReadError::Inconsistent(what)),
            None => Ok(run),
        }
    }

    /// What no run says; reports and sums rely on it.
    fn contradiction(&self) -> Option<&'static str> {
        let numbers = [self.elapsed_ms, self.settings.duration_ms, self.settings.warmup_ms, self.settings.timeout_ms];
        if numbers.into_iter().chain([self.settings.bytes]).any(|n| n > MAX_COUNT) {
            return Some("a number of the settings is too large");
        }
        if matches!(self.settings.load, Load::Open { rate } if !(rate.is_finite() && rate > 0.0)) {
            return Some("the rate is not above 0");
        }
        if self.environment.machines == 0 {
            return Some("it was measured on no machine");
        }
        let arms = self.arms.iter().map(|arm| &arm.measurement);
        arms.map(Measurement::contradiction).chain(self.gate.iter().map(Judgement::contradiction)).flatten().next()
    }
}

/// What tells a run from other documents.
#[derive(Deserialize)]
struct Head {
    schema: u32,
    kind: String,
}

/// Reads one arm or two, and stops at a third: each takes a fixed amount of memory, however short its text is.
fn one_or_two<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ArmInfo>, D::Error> {
    struct Arms;
    impl<'de> Visitor<'de> for Arms {
        type Value = Vec<ArmInfo>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("one or two arms")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut arms = Vec::new();
            while let Some(arm) = seq.next_element()? {
                arms.push(arm);
                if arms.len() > 2 {
                    return Err(de::Error::invalid_length(arms.len(), &self));
                }
            }
            if arms.is_empty() { Err(de::Error::invalid_length(0, &self)) } else { Ok(arms) }
        }
    }
    deserializer.deserialize_seq(Arms)
}

/// A saved run that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Longer than any.
    #[error("it is longer than {} MiB, and no saved run of `snapreach bench`", MAX_BYTES >> 20)]
    TooLong,
    /// No JSON, or a field is missing or of another type; names line and column.
    #[error("it cannot be read: {0}")]
    Json(serde_json::Error),
    /// Another document.
    #[error(
        "it is no saved run of `snapreach bench` (an object with \"schema\" and \"kind\": \"bench\"){}",
        .0.as_ref().map_or_else(String::new, |kind| format!(", but a `{kind}`"))
    )]
    NoRun(Option<String>),
    /// Written by a newer program.
    #[error("it has schema {found}; this program reads schema {SCHEMA}: use the program that wrote it, or a newer one")]
    Schema {
        /// The schema found.
        found: u32,
    },
    /// It says what no run says.
    #[error("it was changed or damaged: {0}")]
    Inconsistent(&'static str),
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
