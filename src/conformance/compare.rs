//! Two proxies that were tried alike: where the second differs from the first. Pure.

use serde::Serialize;

use super::{
    case::{Figure, Judgement, Level, Outcome, Unit},
    run::Tried,
    validation::Validation,
};
use crate::{
    model::{Status, Verdict},
    report::plural,
};

/// A figure differs by much when one is so many times the other.
const MUCH: f64 = 2.0;

/// Times that are shorter than this differ for no reason of the proxy's.
const SHORT_MS: f64 = 20.0;

/// A comparison.
#[derive(Debug)]
pub struct Comparison<'a> {
    /// The proxy in use.
    pub first: &'a Validation,
    /// The one that is to replace it.
    pub second: &'a Validation,
    /// The cases that came out otherwise, worse ones first, then in the order of the catalogue.
    pub differences: Vec<Difference<'a>>,
    /// What follows for the second: blocked where it fails a must that the first passes.
    pub verdict: Verdict,
}

/// A case that came out otherwise.
#[derive(Debug)]
pub struct Difference<'a> {
    /// How it came out with the first.
    pub first: &'a Tried,
    /// How it came out with the second.
    pub second: &'a Tried,
    /// Which is better.
    pub change: Change,
}

/// How the second compares in one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It does worse.
    Worse,
    /// It does better.
    Better,
    /// It does otherwise, to the same end, or one of both was not tried.
    Otherwise,
}

impl<'a> Comparison<'a> {
    /// Compares the second with the first.
    #[must_use]
    pub fn new(first: &'a Validation, second: &'a Validation) -> Self {
        let mut differences: Vec<_> = first
            .tried
            .iter()
            // Where one was not tried, each case would differ, for no reason of its own.
            .filter(|_| unknown(first, second).is_none())
            .filter_map(|one| {
                let other = second.tried.iter().find(|other| other.id == one.id)?;
                differ(one, other).then(|| Difference { first: one, second: other, change: change(one, other) })
            })
            .collect();
        differences.sort_by_key(|difference| (difference.change, difference.second.level));
        let verdict = verdict(first, second, &differences);
        Self { first, second, differences, verdict }
    }

    /// Figures of the same name in the same case that differ by much: case, name, first, second.
    pub fn figures(&self) -> impl Iterator<Item = (&'a str, &'a str, Figure, Figure)> {
        let (first, second) = (self.first, self.second);
        first.tried.iter().flat_map(move |one| {
            let other = second.tried.iter().find(|other| other.id == one.id);
            other.into_iter().flat_map(move |other| {
                one.judgements.iter().zip(&other.judgements).flat_map(move |(a, b)| {
                    a.figures.iter().filter_map(move |(name, &before)| {
                        let &after = b.figures.get(name)?;
                        by_much(before, after).then_some((one.id, name.as_str(), before, after))
                    })
                })
            })
        })
    }
}

/// The one of both of which too little is known: it is no proxy, cannot be reached, or was not done with.
fn unknown<'a>(first: &'a Validation, second: &'a Validation) -> Option<&'a Validation> {
    [first, second].into_iter().find(|one| !one.findings.is_empty() || one.context.interrupted)
}

fn said(judgement: &Judgement) -> (Option<&str>, Outcome, &str) {
    (judgement.subject.as_deref(), judgement.outcome, &judgement.summary)
}

fn differ(one: &Tried, other: &Tried) -> bool {
    let both_open = one.outcome() == Outcome::NotRun && other.outcome() == Outcome::NotRun;
    !both_open && !one.judgements.iter().map(said).eq(other.judgements.iter().map(said))
}

/// Outcomes are ordered from the worst to the best; what was not run is neither.
fn change(one: &Tried, other: &Tried) -> Change {
    match (one.outcome(), other.outcome()) {
        (Outcome::NotRun, _) | (_, Outcome::NotRun) => Change::Otherwise,
        (a, b) if b < a => Change::Worse,
        (a, b) if b > a => Change::Better,
        _ => Change::Otherwise,
    }
}

fn by_much(a: Figure, b: Figure) -> bool {
    let (low, high) = if a.value <= b.value { (a.value, b.value) } else { (b.value, a.value) };
    a.unit == b.unit && high >= low * MUCH && (a.unit != Unit::Ms || high >= SHORT_MS) && high > low
}

fn verdict(first: &Validation, second: &Validation, differences: &[Difference<'_>]) -> Verdict {
    let (old, new) = (&first.context.proxy, &second.context.proxy);
    let worse = |level: Level, to: Outcome| {
        let is_worse =
            |d: &&Difference<'_>| d.change == Change::Worse && d.second.level == level && d.second.outcome() == to;
        differences.iter().filter(is_worse).count()
    };
    let musts = worse(Level::Must, Outcome::Fail);
    let other =
        differences.iter().filter(|d| d.change == Change::Worse && d.second.level <= Level::Should).count() - musts;
    let (status, summary) = if let Some(one) = unknown(first, second) {
        (Status::Inconclusive, format!("{new} cannot be compared with {old}: {}", one.verdict.summary))
    } else if musts > 0 {
        (Status::Blocked, format!("{new} fails {} that {old} passes", plural(musts, "must")))
    } else if other > 0 {
        (
            Status::Degraded,
            format!("{new} passes every must that {old} passes, and does worse in {}", plural(other, "case")),
        )
    } else if second.counts.fail_must > 0 {
        let n = plural(second.counts.fail_must, "must");
        (Status::Degraded, format!("{new} is no worse than {old}; {n} fail with it as well"))
    } else if differences.is_empty() {
        (Status::Clear, format!("{new} does in every case what {old} does"))
    } else {
        (
            Status::Clear,
            format!("{new} is no worse than {old}; {} came out otherwise", plural(differences.len(), "case")),
        )
    };
    Verdict { status, summary, exit_code: status.exit_code() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{Context, Counts};

    fn validation(proxy: &str, outcomes: &[(&'static str, Level, Judgement)]) -> Validation {
        let tried: Vec<Tried> = outcomes
            .iter()
            .map(|(id, level, judgement)| Tried {
                id,
                group: id.split('/').next().unwrap(),
                level: *level,
                reference: "RFC 9110",
                title: "It holds",
                elapsed_ms: 0,
                judgements: vec![judgement.clone()],
            })
            .collect();
        Validation {
            context: Context { proxy: proxy.to_owned(), ..Context::default() },
            started_at: String::new(),
            elapsed_ms: 0,
            verdict: Verdict { status: Status::Clear, summary: String::new(), exit_code: 0 },
            counts: Counts {
                fail_must: tried.iter().filter(|t| t.level == Level::Must && t.outcome() == Outcome::Fail).count(),
                ..Counts::default()
            },
            products: Vec::new(),
            findings: Vec::new(),
            tried,
        }
    }

    fn status(before: &Judgement, after: &Judgement, level: Level) -> Status {
        let (old, new) =
            (validation("old", &[("a/b", level, before.clone())]), validation("new", &[("a/b", level, after.clone())]));
        Comparison::new(&old, &new).verdict.status
    }

    #[test]
    fn only_a_must_that_the_first_passes_blocks() {
        let (pass, fail, warn) =
            (Judgement::pass("it holds"), Judgement::fail("it does not"), Judgement::warn("nearly"));
        assert_eq!(status(&pass, &fail, Level::Must), Status::Blocked);
        assert_eq!(status(&warn, &fail, Level::Must), Status::Blocked);
        assert_eq!(status(&pass, &warn, Level::Must), Status::Degraded);
        assert_eq!(status(&pass, &fail, Level::Should), Status::Degraded);
        assert_eq!(status(&pass, &fail, Level::May), Status::Clear);
        assert_eq!(status(&fail, &fail, Level::Must), Status::Degraded);
        assert_eq!(status(&fail, &pass, Level::Must), Status::Clear);
        assert_eq!(status(&pass, &pass, Level::Must), Status::Clear);
        assert_eq!(status(&pass, &Judgement::not_run("no origin"), Level::Must), Status::Clear);
    }

    #[test]
    fn only_what_differs_is_kept_and_worse_comes_first() {
        let case = |id, judgement| (id, Level::Should, judgement);
        let old = validation(
            "old",
            &[
                case("a/same", Judgement::pass("it holds")),
                case("a/words", Judgement::pass("it holds")),
                case("a/worse", Judgement::pass("it holds")),
            ],
        );
        let new = validation(
            "new",
            &[
                case("a/same", Judgement::pass("it holds").figure("connect", 3.0, Unit::Ms)),
                case("a/words", Judgement::pass("it holds, in other words")),
                case("a/worse", Judgement::fail("it does not")),
            ],
        );
        let comparison = Comparison::new(&old, &new);
        let shown: Vec<_> = comparison.differences.iter().map(|d| (d.second.id, d.change)).collect();
        assert_eq!(shown, [("a/worse", Change::Worse), ("a/words", Change::Otherwise)]);
    }

    #[test]
    fn short_times_do_not_differ() {
        let ms = |value| Figure { value, unit: Unit::Ms };
        assert!(!by_much(ms(0.2), ms(9.0)) && !by_much(ms(30.0), ms(40.0)));
        assert!(by_much(ms(1.0), ms(40.0)) && by_much(ms(100.0), ms(40.0)));
        let count = |value| Figure { value, unit: Unit::Count };
        assert!(by_much(count(100.0), count(2000.0)) && !by_much(count(0.0), count(0.0)));
    }
}
