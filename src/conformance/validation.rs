//! A run that was judged as a whole: what its reports are made of. Pure.

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    case::{Level, Outcome},
    run::{Run, Tried},
};
use crate::{
    classify,
    model::{self, Finding, Observation, Record, Status, ToolInfo, Verdict},
    report::plural,
};

/// What a reader must know beside the cases.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Context {
    /// The proxy, as a URL without credentials.
    pub proxy: String,
    /// Whether its URL holds a user and a password.
    pub login: bool,
    /// The name of the profile.
    pub profile: String,
    /// The region of the machines that will use the proxy.
    pub region: Option<String>,
    /// Ports to which CONNECT must work.
    pub ports: Vec<u16>,
    /// Where the origin is.
    pub origin: Origin,
    /// The scenario, when the embedded lab played proxy and origin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lab: Option<String>,
    /// Whether the run was interrupted.
    pub interrupted: bool,
    /// What the user should know about the run itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Where the origin beyond the proxy is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "place", rename_all = "snake_case")]
pub enum Origin {
    /// There is none.
    #[default]
    None,
    /// On this machine.
    Here {
        /// The address that the proxy is given.
        address: String,
        /// Storage's ports that it has.
        ports: Vec<u16>,
    },
    /// On another machine.
    Elsewhere {
        /// As it was given.
        address: String,
        /// Storage's ports at which it is expected.
        ports: Vec<u16>,
    },
    /// In the embedded lab.
    Lab,
}

/// How many cases came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Cases that hold.
    pub pass: usize,
    /// Cases that hold with a reservation.
    pub warn: usize,
    /// Cases of level `must` that do not hold.
    pub fail_must: usize,
    /// Cases of level `should` that do not hold.
    pub fail_should: usize,
    /// Cases of level `may` that do not hold.
    pub fail_may: usize,
    /// Cases that could not be found out.
    pub not_run: usize,
}

impl Counts {
    fn of(tried: &[Tried]) -> Self {
        let mut counts = Self::default();
        for one in tried {
            *match (one.outcome(), one.level) {
                (Outcome::Pass, _) => &mut counts.pass,
                (Outcome::Warn, _) => &mut counts.warn,
                (Outcome::Fail, Level::Must) => &mut counts.fail_must,
                (Outcome::Fail, Level::Should) => &mut counts.fail_should,
                (Outcome::Fail, Level::May) => &mut counts.fail_may,
                (Outcome::NotRun, _) => &mut counts.not_run,
            } += 1;
        }
        counts
    }
}

/// A run that was judged as a whole.
#[derive(Debug)]
pub struct Validation {
    /// Where and against what it ran.
    pub context: Context,
    /// When it began, RFC 3339.
    pub started_at: String,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// What follows for backups.
    pub verdict: Verdict,
    /// How many cases came out how.
    pub counts: Counts,
    /// Why the proxy cannot be reached, in the words of `check`; empty where it can.
    pub findings: Vec<Finding>,
    /// What came of each case, in the order of the catalogue.
    pub tried: Vec<Tried>,
}

impl Validation {
    /// Judges a run.
    #[must_use]
    pub fn new(run: Run, context: Context) -> Self {
        let Run { started_at, elapsed, interrupted, unreachable, tried, notes, .. } = run;
        let mut context = Context { interrupted, ..context };
        context.notes.extend(notes);
        let counts = Counts::of(&tried);
        let findings = unreachable.map_or_else(Vec::new, |observation| explain(*observation, &context.proxy));
        let verdict = verdict(&context, &counts, &findings, &tried);
        Self {
            context,
            started_at: started_at.format(&Rfc3339).unwrap_or_default(),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            verdict,
            counts,
            findings,
            tried,
        }
    }
}

impl Validation {
    /// What is left to say about a proxy whose name has no address.
    #[must_use]
    pub fn unreachable(lookup: Observation, context: Context) -> Self {
        let findings = explain(lookup, &context.proxy);
        let counts = Counts::default();
        let verdict = verdict(&context, &counts, &findings, &[]);
        let started_at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        Self { context, started_at, elapsed_ms: 0, verdict, counts, findings, tried: Vec::new() }
    }
}

/// What a connection that failed means by itself, and what to do about it.
fn explain(observation: Observation, proxy: &str) -> Vec<Finding> {
    let record = Record {
        tool: ToolInfo::default(),
        started_at: String::new(),
        elapsed_ms: 0,
        context: model::Context { proxy: Some(proxy.to_owned()), ..model::Context::default() },
        targets: Vec::new(),
        observations: vec![Observation { id: 1, ..observation }],
        not_run: Vec::new(),
    };
    classify::assess(&record).findings
}

fn verdict(context: &Context, counts: &Counts, findings: &[Finding], tried: &[Tried]) -> Verdict {
    let proxy = &context.proxy;
    let untried = untried_ports(&context.ports, tried);
    let failed = |n: usize, level: &str| {
        format!("{} of level {level} {}", plural(n, "case"), if n == 1 { "fails" } else { "fail" })
    };
    let (status, summary) = if let Some(finding) = findings.first() {
        (Status::Inconclusive, format!("{proxy} cannot be reached: {}", finding.summary))
    } else if counts.fail_must > 0 {
        let n = failed(counts.fail_must, "must");
        (Status::Blocked, format!("{n}: backups through {proxy} will not work reliably"))
    } else if counts.pass + counts.warn + counts.fail_should + counts.fail_may == 0 {
        (Status::Inconclusive, format!("nothing could be found out about {proxy}"))
    } else if context.interrupted {
        (Status::Inconclusive, format!("the run was ended before all was known about {proxy}"))
    } else if !untried.is_empty() {
        let ports = untried.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ");
        (Status::Inconclusive, format!("whether {proxy} lets port {ports} through could not be tried"))
    } else if counts.fail_should + counts.warn > 0 {
        let parts = [
            (counts.fail_should > 0).then(|| failed(counts.fail_should, "should")),
            (counts.warn > 0).then(|| format!("{} with a reservation", plural(counts.warn, "case"))),
        ];
        let parts = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        (Status::Degraded, format!("backups work through {proxy}; {parts}"))
    } else {
        (Status::Clear, format!("backups work through {proxy}: {} pass", plural(counts.pass, "case")))
    };
    Verdict { status, summary, exit_code: status.exit_code() }
}

/// The ports that backups need and of which nothing is known: their case was wanted and could not run, and no endpoint
/// at that port was reached.
fn untried_ports(ports: &[u16], tried: &[Tried]) -> Vec<u16> {
    let reached = |port: u16| {
        let end = format!(":{port}");
        tried.iter().flat_map(|one| &one.judgements).any(|judgement| {
            judgement.outcome == Outcome::Pass
                && judgement.subject.as_ref().is_some_and(|subject| subject.ends_with(&end))
        })
    };
    let open = |port: u16| {
        let id = format!("connect/port-{port}");
        tried.iter().any(|one| one.id == id && one.level == Level::Must && one.outcome() == Outcome::NotRun)
    };
    ports.iter().copied().filter(|&port| open(port) && !reached(port)).collect()
}
