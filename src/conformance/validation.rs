//! A run that was judged as a whole: what its reports are made of. Pure.

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    case::{Level, Outcome},
    product::{self, KnownDefault, Product, Recognised, recognise},
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
    /// What the proxy is, and what it stands behind; the program nearest to the client first.
    pub products: Vec<Recognised>,
    /// Why there is no proxy to try, in the words of `check`; empty where there is one.
    pub findings: Vec<Finding>,
    /// What came of each case, in the order of the catalogue.
    pub tried: Vec<Tried>,
}

impl Validation {
    /// Judges a run.
    #[must_use]
    pub fn new(run: Run, context: Context) -> Self {
        let no_way = run.is_unreachable();
        let Run { started_at, elapsed, interrupted, no_proxy, survey, tried, notes } = run;
        let mut context = Context { interrupted, ..context };
        context.notes.extend(notes);
        let counts = Counts::of(&tried);
        let seen = tried.iter().flat_map(|one| &one.judgements).flat_map(|judgement| &judgement.observations);
        let products = recognise(no_proxy.iter().chain(&survey).chain(seen));
        let findings = explain(no_proxy, &context.proxy);
        let verdict = verdict(&context, &counts, findings.first().map(|finding| (finding, no_way)), &tried);
        Self {
            context,
            started_at: started_at.format(&Rfc3339).unwrap_or_default(),
            elapsed_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            verdict,
            counts,
            products,
            findings,
            tried,
        }
    }

    /// What is left to say about a proxy whose name has no address.
    #[must_use]
    pub fn without_address(lookup: Observation, context: Context) -> Self {
        let findings = explain(vec![lookup], &context.proxy);
        let counts = Counts::default();
        let verdict = verdict(&context, &counts, findings.first().map(|finding| (finding, true)), &[]);
        let started_at = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let (products, tried) = (Vec::new(), Vec::new());
        Self { context, started_at, elapsed_ms: 0, verdict, counts, products, findings, tried }
    }

    /// The products whose settings decide, for [`fixes`](super::fixes::fixes).
    pub(super) fn settings_of(&self) -> Vec<Product> {
        self.products.iter().map(|known| known.product).collect()
    }

    /// What the products do by default that hurts, each with the case that measured it here.
    pub(super) fn known_defaults(&self) -> impl Iterator<Item = (&Recognised, KnownDefault, Option<&Tried>)> {
        self.products.iter().flat_map(move |known| {
            product::known_defaults(known.product).into_iter().map(move |default| {
                let case = default.case.and_then(|id| self.tried.iter().find(|tried| tried.id == id));
                (known, default, case)
            })
        })
    }
}

/// What connections to something that is no proxy mean, and what to do about it.
fn explain(observations: Vec<Observation>, proxy: &str) -> Vec<Finding> {
    if observations.is_empty() {
        return Vec::new();
    }
    let numbered = observations.into_iter().zip(1..).map(|(observation, id)| Observation { id, ..observation });
    let record = Record {
        tool: ToolInfo::default(),
        started_at: String::new(),
        elapsed_ms: 0,
        context: model::Context { proxy: Some(proxy.to_owned()), ..model::Context::default() },
        targets: Vec::new(),
        observations: numbered.collect(),
        not_run: Vec::new(),
    };
    classify::assess(&record).findings
}

/// `none`: why there is no proxy to try, and whether it is because it cannot be reached.
fn verdict(context: &Context, counts: &Counts, none: Option<(&Finding, bool)>, tried: &[Tried]) -> Verdict {
    let proxy = &context.proxy;
    let failed = |n: usize, level: &str| {
        format!("{} that {level} pass {}", plural(n, "case"), if n == 1 { "fails" } else { "fail" })
    };
    let untried = untried_ports(&context.ports, tried);
    // What is merely good to know degrades nothing.
    let warned = tried.iter().filter(|one| one.outcome() == Outcome::Warn && one.level < Level::May).count();
    let (status, summary) = if let Some((finding, no_way)) = none {
        if no_way {
            (Status::Inconclusive, format!("{proxy} cannot be reached: {}", finding.summary))
        } else {
            (Status::Blocked, format!("{proxy} is no forward proxy: {}", finding.summary))
        }
    } else if counts.fail_must > 0 {
        let n = failed(counts.fail_must, "must");
        (Status::Blocked, format!("{n}: do not send backups through {proxy} as it is"))
    } else if context.interrupted {
        (Status::Inconclusive, format!("the run was ended before all was known about {proxy}"))
    } else if counts.pass + counts.warn + counts.fail_should + counts.fail_may == 0 {
        (Status::Inconclusive, format!("nothing could be found out about {proxy}"))
    } else if !untried.is_empty() {
        let ports = untried.iter().map(u16::to_string).collect::<Vec<_>>().join(" and ");
        (Status::Inconclusive, format!("whether {proxy} lets port {ports} through could not be tried"))
    } else if counts.fail_should + warned > 0 {
        let parts = [
            (counts.fail_should > 0).then(|| failed(counts.fail_should, "should")),
            (warned > 0).then(|| {
                let pass = if warned == 1 { "passes" } else { "pass" };
                format!("{} {pass} with a reservation", plural(warned, "case"))
            }),
        ];
        let parts = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        (Status::Degraded, format!("backups work through {proxy}; {parts}"))
    } else {
        let pass = if counts.pass == 1 { "passes" } else { "pass" };
        (Status::Clear, format!("backups work through {proxy}: {} {pass}", plural(counts.pass, "case")))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::Judgement;

    fn judged(interrupted: bool, cases: &[(&'static str, Level, Judgement)]) -> Verdict {
        let tried: Vec<Tried> = cases
            .iter()
            .map(|(id, level, judgement)| Tried {
                id,
                group: "connect",
                level: *level,
                reference: "",
                title: "",
                elapsed_ms: 0,
                judgements: vec![judgement.clone()],
            })
            .collect();
        let context =
            Context { proxy: "http://p:1".to_owned(), ports: vec![443, 8443], interrupted, ..Context::default() };
        verdict(&context, &Counts::of(&tried), None, &tried)
    }

    #[test]
    fn the_worst_that_is_known_decides() {
        let (pass, fail, warn) = (Judgement::pass(""), Judgement::fail(""), Judgement::warn(""));
        let open = Judgement::not_run("");
        let all = |level, judgement: &Judgement| {
            judged(false, &[("a/b", Level::Must, pass.clone()), ("a/c", level, judgement.clone())])
        };
        for (level, judgement, status) in [
            (Level::Must, &pass, Status::Clear),
            (Level::Must, &fail, Status::Blocked),
            (Level::Must, &warn, Status::Degraded),
            (Level::Must, &open, Status::Clear),
            (Level::Should, &fail, Status::Degraded),
            (Level::Should, &warn, Status::Degraded),
            (Level::May, &fail, Status::Clear),
            (Level::May, &warn, Status::Clear),
        ] {
            assert_eq!(all(level, judgement).status, status, "{level} {judgement:?}");
        }
        assert_eq!(judged(false, &[("a/b", Level::Must, open.clone())]).status, Status::Inconclusive);
        assert_eq!(judged(true, &[("a/b", Level::Must, pass.clone())]).status, Status::Inconclusive);
        assert_eq!(judged(true, &[("a/b", Level::Must, fail)]).status, Status::Blocked);
    }

    #[test]
    fn nothing_is_clear_while_a_port_that_backups_need_was_not_tried() {
        let (pass, open) = (Judgement::pass(""), Judgement::not_run(""));
        let port = |judgement: &Judgement| ("connect/port-8443", Level::Must, judgement.clone());
        let verdict = judged(false, &[("connect/port-443", Level::Must, pass.clone()), port(&open)]);
        assert_eq!(verdict.status, Status::Inconclusive);
        assert!(verdict.summary.contains("port 8443"), "{}", verdict.summary);
        // A real endpoint at that port proves as much.
        let reached = ("connect/allow", Level::Must, pass.about("acct.example:8443"));
        assert_eq!(judged(false, &[port(&open), reached]).status, Status::Clear);
    }
}
