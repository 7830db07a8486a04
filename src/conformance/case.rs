//! What a case is, and what comes of one.

use std::{collections::BTreeMap, fmt, future::Future, pin::Pin};

use serde::{Deserialize, Serialize};

use super::rig::Rig;
use crate::model::{Code, Observation};

/// One thing that a forward proxy does or does not do.
#[derive(Clone, Copy)]
pub struct Case {
    /// `group/name`; never renamed, never used for anything else.
    pub id: &'static str,
    /// How much it matters, unless the profile says otherwise.
    pub level: Level,
    /// Where it is laid down: `RFC 9110 section 9.3.6`; or why it matters, where no standard says so.
    pub reference: &'static str,
    /// What holds when it passes, one sentence.
    pub title: &'static str,
    /// When it runs.
    pub turn: Turn,
    /// Tries it.
    pub(super) run: fn(&Rig) -> Trial<'_>,
}

/// A case under way. It ends by itself; what it cannot find out it says.
pub(super) type Trial<'r> = Pin<Box<dyn Future<Output = Vec<Judgement>> + 'r>>;

/// A case that comes to one judgement, early or not.
pub(super) fn one<'r>(trial: impl Future<Output = Result<Judgement, Judgement>> + 'r) -> Trial<'r> {
    Box::pin(async { vec![trial.await.unwrap_or_else(|early| early)] })
}

impl Case {
    /// The part of the id before the slash.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.id.split_once('/').map_or(self.id, |(group, _)| group)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("id", &self.id).field("level", &self.level).finish_non_exhaustive()
    }
}

/// How much a case matters, in the words of RFC 2119.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Without it backups fail, or the proxy is none.
    Must,
    /// Without it trouble is likely, or hard to find.
    Should,
    /// Nice to have; good to know.
    May,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Must => "must",
            Self::Should => "should",
            Self::May => "may",
        })
    }
}

/// When a case runs. Each turn begins when the one before is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Turn {
    /// Beside others: it uses a few connections.
    Together,
    /// Alone, after those: it may upset the proxy.
    Alone,
    /// Alone and last: it uses all that the proxy has.
    Load,
}

/// What came of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It does not hold.
    Fail,
    /// It holds, with a reservation.
    Warn,
    /// It holds.
    Pass,
    /// Nobody knows: the summary says why.
    NotRun,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fail => "fail",
            Self::Warn => "warn",
            Self::Pass => "pass",
            Self::NotRun => "not_run",
        })
    }
}

/// What a case says, about the proxy as such or about one endpoint. No sentence of it holds a time that was measured or a
/// port that the system chose: the same proxy gets the same words again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// Which endpoint, as the user named it; `None`: the proxy as such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What came of it.
    pub outcome: Outcome,
    /// One sentence, without the final stop.
    pub summary: String,
    /// Facts that prove it, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// The finding code that says more (`explain`), where one fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Code>,
    /// What was measured; differs from run to run.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, Figure>,
    /// What must be changed in the proxy, in terms that `fixes` turns into lines of configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<Remedy>,
    /// A command that shows the same without this program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reproduce: Option<String>,
    /// The connections that it is drawn from.
    #[serde(skip)]
    pub observations: Vec<Observation>,
}

impl Judgement {
    fn new(outcome: Outcome, summary: impl Into<String>) -> Self {
        Self {
            subject: None,
            outcome,
            summary: summary.into(),
            evidence: Vec::new(),
            code: None,
            figures: BTreeMap::new(),
            remedy: None,
            reproduce: None,
            observations: Vec::new(),
        }
    }

    /// It holds.
    #[must_use]
    pub fn pass(summary: impl Into<String>) -> Self {
        Self::new(Outcome::Pass, summary)
    }

    /// It holds, with a reservation.
    #[must_use]
    pub fn warn(summary: impl Into<String>) -> Self {
        Self::new(Outcome::Warn, summary)
    }

    /// It does not hold.
    #[must_use]
    pub fn fail(summary: impl Into<String>) -> Self {
        Self::new(Outcome::Fail, summary)
    }

    /// It could not be found out, for this reason.
    #[must_use]
    pub fn not_run(reason: impl Into<String>) -> Self {
        Self::new(Outcome::NotRun, reason)
    }

    /// About this endpoint.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// With one more fact.
    #[must_use]
    pub fn because(mut self, fact: impl Into<String>) -> Self {
        self.evidence.push(fact.into());
        self
    }

    /// With a finding code.
    #[must_use]
    pub fn code(mut self, code: Option<Code>) -> Self {
        self.code = code;
        self
    }

    /// With something measured.
    #[must_use]
    pub fn figure(mut self, name: &str, value: f64, unit: Unit) -> Self {
        self.figures.insert(name.to_owned(), Figure { value, unit });
        self
    }

    /// With what must be changed.
    #[must_use]
    pub fn remedy(mut self, remedy: Remedy) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// With a command that shows the same, where there is something to show: it does not hold, or with a reservation.
    #[must_use]
    pub fn reproduced(self, command: impl Into<String>) -> Self {
        match self.outcome {
            Outcome::Fail | Outcome::Warn => self.reproduce(command),
            Outcome::Pass | Outcome::NotRun => self,
        }
    }

    /// With a command that shows the same.
    #[must_use]
    pub fn reproduce(mut self, command: impl Into<String>) -> Self {
        self.reproduce = Some(command.into());
        self
    }

    /// With a command that shows the same, unless there is nothing to show.
    #[must_use]
    pub(super) fn shown_by(self, command: impl FnOnce() -> String) -> Self {
        match self.outcome {
            Outcome::Fail | Outcome::Warn => self.reproduce(command()),
            Outcome::Pass | Outcome::NotRun => self,
        }
    }

    /// With the connections that it is drawn from.
    #[must_use]
    pub fn seen(mut self, observations: impl IntoIterator<Item = Observation>) -> Self {
        self.observations.extend(observations);
        self
    }
}

/// Something measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: Unit,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Milliseconds.
    Ms,
    /// How often a second.
    PerSecond,
    /// A number of things.
    Count,
    /// Bytes a second.
    BytesPerSecond,
}

/// What must be changed in a proxy, product-neutral.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Remedy {
    /// Let CONNECT to these ports through.
    AllowPorts {
        /// The ports.
        ports: Vec<u16>,
    },
    /// Let CONNECT to no other ports through than these.
    LimitPorts {
        /// The ports.
        ports: Vec<u16>,
    },
    /// Let these hosts through.
    AllowHosts {
        /// Names or addresses.
        hosts: Vec<String>,
    },
    /// Keep these hosts shut.
    DenyHosts {
        /// Names or addresses.
        hosts: Vec<String>,
    },
    /// Let this client in.
    AllowClient,
    /// Ask for no login for the backup's endpoints.
    NoLogin,
    /// Offer Basic among the schemes of the login.
    OfferBasic,
    /// Leave TLS to the backup's endpoints alone.
    NoInspection,
    /// Keep silent tunnels for at least so many seconds.
    IdleTimeout {
        /// Seconds.
        seconds: u64,
    },
    /// Answer within so many seconds when the endpoint does not.
    ConnectTimeout {
        /// Seconds.
        seconds: u64,
    },
    /// Serve so many clients or tunnels at once.
    Clients {
        /// How many.
        count: usize,
    },
    /// Have so many file descriptors.
    Descriptors {
        /// How many.
        count: usize,
    },
    /// Say why a request failed.
    TellReasons,
    /// Leave requests on plain HTTP as they are.
    LeaveRequestsAlone,
    /// Use a name server that answers.
    NameServer,
    /// A newer release, or another product: no setting mends it.
    Replace,
}
