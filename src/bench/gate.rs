//! Whether B is worse than A by more than a margin: decided from pairs of slices, and from nothing else.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::measurement::is_code;

/// A figure that can be gated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Payload bytes per second; more is better.
    Goodput,
    /// Operations per second; more is better.
    Rate,
    /// Median latency; less is better.
    P50,
    /// 99th percentile of latency; less is better.
    P99,
    /// This side's CPU time per operation or byte; less is better.
    Cpu,
}

impl Metric {
    /// Its name on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Goodput => "goodput",
            Self::Rate => "rate",
            Self::P50 => "p50",
            Self::P99 => "p99",
            Self::Cpu => "cpu",
        }
    }

    /// Whether more of it is better.
    #[must_use]
    pub const fn more_is_better(self) -> bool {
        matches!(self, Self::Goodput | Self::Rate)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the gate is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Which figures count.
    pub metrics: Vec<Metric>,
    /// A loss up to this share is accepted (0.05: 5 %).
    pub margin: f64,
    /// The chance of a false alarm over all looks and metrics, one-sided.
    pub alpha: f64,
    /// After how many pairs it is decided, if it can be.
    pub looks: Vec<usize>,
}

impl Question {
    /// The usual: 2.5 % false alarms at most, looks after 15, 30 and 45 pairs.
    #[must_use]
    pub fn new(metrics: Vec<Metric>, margin: f64) -> Self {
        Self { metrics, margin, alpha: 0.025, looks: vec![15, 30, 45] }
    }
}

/// What one slice of one arm came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// The gated figures; one that is missing could not be measured (nothing succeeded).
    pub values: BTreeMap<Metric, f64>,
    /// Operations that succeeded.
    pub operations: u64,
    /// Failures by finding code.
    pub errors: BTreeMap<String, u64>,
}

/// Two slices, one right after the other.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pair {
    /// Of A.
    pub a: Slice,
    /// Of B.
    pub b: Slice,
    /// Whether B came first.
    pub b_first: bool,
}

/// What the comparison is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Design {
    /// A and B in turn, on this machine, now.
    Paired,
    /// A against itself, to learn what this machine can see.
    Calibration,
    /// A is from a file, measured at another time.
    Baseline,
}

/// How it was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Not worse by more than the margin.
    Pass,
    /// Worse by more than the margin.
    Fail,
    /// Cannot be told.
    Inconclusive,
}

/// What the pairs say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// What the comparison is worth.
    pub design: Design,
    /// What was asked.
    pub question: Question,
    /// What follows from all of it.
    pub outcome: Outcome,
    /// How many looks were taken.
    pub looks: usize,
    /// Each metric by itself.
    pub metrics: Vec<MetricJudgement>,
    /// The failures.
    pub errors: ErrorJudgement,
    /// What it rests on, in order.
    pub pairs: Vec<Pair>,
}

impl Judgement {
    /// What no judgement says.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let seen = self.pairs.iter().flat_map(|pair| [&pair.a, &pair.b]);
        let codes = seen.flat_map(|slice| slice.errors.keys()).chain(&self.errors.new_codes);
        if !codes.into_iter().all(|code| is_code(code)) {
            Some("a failure of the comparison has no finding code")
        } else if !(0.0..1.0).contains(&self.question.margin) {
            Some("the margin is no share")
        } else {
            None
        }
    }
}

/// What the pairs say about one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricJudgement {
    /// Which.
    pub metric: Metric,
    /// What follows.
    pub outcome: Outcome,
    /// Pairs in which both sides have a value.
    pub pairs: usize,
    /// B over A, estimated; `None`: no pair has both.
    pub ratio: Option<f64>,
    /// The interval of that ratio at the confidence of this look.
    pub interval: Option<(f64, f64)>,
    /// The chance of such pairs if B were worse by just the margin: small means that it is worse by more.
    pub p_fail: f64,
    /// The same chance, small when B is not worse by as much as the margin.
    pub p_pass: f64,
    /// The smallest loss beyond the margin that these pairs could have shown, as a share; `None`: too few pairs.
    pub smallest_effect: Option<f64>,
}

/// What the failures say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorJudgement {
    /// What follows.
    pub outcome: Outcome,
    /// Failed and tried, of A.
    pub a: (u64, u64),
    /// Failed and tried, of B.
    pub b: (u64, u64),
    /// The chance of so many more failures of B than of A if both were alike (exact, one-sided).
    pub p: f64,
    /// Codes that B shows and A never.
    pub new_codes: Vec<String>,
}
