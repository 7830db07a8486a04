//! Whether B is worse than A by more than a margin: decided from pairs of slices, and from nothing else.

mod judge;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{measurement::is_code, statistics::length};

/// Pairs of a calibration that is read: its tests take time with the square of their number.
const MAX_PAIRS: usize = 1000;

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
    /// After how many pairs it is decided, if it can be; rising.
    pub looks: Vec<usize>,
}

impl Question {
    /// The usual: 2.5 % false alarms at most, looks after 15, 30 and 45 pairs.
    #[must_use]
    pub fn new(metrics: Vec<Metric>, margin: f64) -> Self {
        Self { metrics, margin, alpha: 0.025, looks: vec![15, 30, 45] }
    }

    /// The chance of a false alarm at one look: each has an equal share of `alpha`, so that all of them together stay
    /// below it however the looks depend on each other.
    #[must_use]
    pub fn level(&self) -> f64 {
        self.alpha / length(self.looks.len().max(1))
    }

    /// What all these pairs say, at this look (from 0).
    ///
    /// The value of a pair is the ratio of B to A. A value that is no positive finite number is missing, and its pair
    /// does not count for that metric; but where one side has none because no operation succeeded in that slice, the pair
    /// counts as worse (or better) than any other, since else outages would improve what is left.
    ///
    /// - `Fail`: one metric is worse by more than the margin, or B fails more ([`ErrorJudgement`]).
    /// - `Pass`: every metric is proved not to be worse by as much as the margin, and the failures do not object.
    /// - `Inconclusive`: neither; nothing was asked; or nothing succeeded in A, with which nothing can be compared.
    ///
    /// A look may be taken with fewer pairs than planned, when a run is interrupted. The tests are exact for every number
    /// of pairs, so the same rule holds: below seven pairs (at the usual level) no metric can pass or fail, and above
    /// that a verdict is as good as any other, unless somebody interrupted because of what the pairs seemed to say.
    ///
    /// In [`Design::Calibration`] there is no worse: `Pass` says that the question can be decided here
    /// ([`Question::calibrate`]), and `Inconclusive` that it cannot.
    ///
    /// In [`Design::Baseline`] pairs do not belong together: A's and B's slices are two groups, and a slice in which
    /// nothing was tried (as [`Question::judge_baseline`] adds to the shorter group) is none.
    #[must_use]
    pub fn judge(&self, pairs: &[Pair], look: usize, design: Design) -> Judgement {
        judge::judge(self, pairs, look, design)
    }

    /// What slices of now say against slices of another time. The groups may differ in size.
    #[must_use]
    pub fn judge_baseline(&self, baseline: &[Slice], now: &[Slice], look: usize) -> Judgement {
        let slice = |slices: &[Slice], at: usize| slices.get(at).cloned().unwrap_or_default();
        let pairs: Vec<Pair> = (0..baseline.len().max(now.len()))
            .map(|at| Pair { a: slice(baseline, at), b: slice(now, at), b_first: false })
            .collect();
        self.judge(&pairs, look, Design::Baseline)
    }

    /// What this machine can see, from pairs of one arm with itself.
    #[must_use]
    pub fn calibrate(&self, pairs: &[Pair]) -> Calibration {
        judge::calibrate(self, pairs)
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
    /// Whether no further look follows: it is decided, or this was the last one.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.outcome != Outcome::Inconclusive || self.looks >= self.question.looks.len()
    }

    /// What no judgement says.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let seen = self.pairs.iter().flat_map(|pair| [&pair.a, &pair.b]);
        let codes = seen.flat_map(|slice| slice.errors.keys()).chain(&self.errors.new_codes);
        if !codes.into_iter().all(|code| is_code(code)) {
            Some("a failure of the comparison has no finding code")
        } else if !(0.0..1.0).contains(&self.question.margin) {
            Some("the margin is no share")
        } else if self.design == Design::Calibration && self.pairs.len() > MAX_PAIRS {
            Some("nobody waits for so many pairs")
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
    /// `Fail`: the whole interval is worse than the margin, and `p_fail` is small enough beside those of the other
    /// metrics (Holm). `Pass`: the whole interval is better than the margin.
    pub outcome: Outcome,
    /// Pairs that count: both sides have a value, or one has none as nothing succeeded. Of a baseline the slices of the
    /// smaller group.
    pub pairs: usize,
    /// B over A, estimated (Hodges-Lehmann): below 1 B has less of it. Held between a millionth and a million. `None`: no
    /// pair counts, or nothing ever succeeded on one side.
    pub ratio: Option<f64>,
    /// Low and high end of the interval of that ratio: the truth lies beyond either with a chance of at most `alpha` over
    /// the number of looks. `None`: too few pairs for that.
    pub interval: Option<(f64, f64)>,
    /// The chance of pairs as bad as these or worse if B were worse by just the margin: small means that it is worse by
    /// more. Not yet adjusted for other metrics.
    pub p_fail: f64,
    /// The chance of pairs as good as these or better in the same case: small means that B is not worse by as much as
    /// the margin.
    pub p_pass: f64,
    /// The smallest loss that such pairs would have shown to be beyond the margin in four of five runs, as a share of A
    /// and the margin included: 0.07 with a margin of 0.05 says that 7 % would have been found, and 6 % perhaps not.
    /// `None`: too few pairs.
    pub smallest_effect: Option<f64>,
}

/// What the failures say.
///
/// `Fail` for one of three reasons:
/// - nothing succeeded in B while A worked;
/// - B shows a code that A never did, and fails more often than A over all codes. Where A failed as often, with other
///   codes, one trouble may have shown itself in two ways: that is `Inconclusive`;
/// - B fails more often than chance explains (`p`, beside the metrics by Holm's rule).
///
/// The first two are no tests, need no number of pairs, and have no share in `alpha`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorJudgement {
    /// What follows. `Pass`: nothing speaks against B.
    pub outcome: Outcome,
    /// Failed and tried, of A.
    pub a: (u64, u64),
    /// Failed and tried, of B.
    pub b: (u64, u64),
    /// The chance of so many more failures of B than of A if both were alike, one-sided: the larger of two exact
    /// p-values. Fisher's takes every operation for itself; but failures come in bursts, and a burst hits one side. So
    /// the shares of failures, slice against slice, must say the same (signed ranks; of a baseline rank sums).
    pub p: f64,
    /// Codes that B shows and A never.
    pub new_codes: Vec<String>,
}

/// What a machine can see, learned from pairs of one arm with itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// What is to be asked.
    pub question: Question,
    /// Each metric by itself.
    pub metrics: Vec<MetricCalibration>,
    /// The smallest margin that fits all metrics; `None`: too few pairs to tell.
    pub smallest_margin: Option<f64>,
    /// Whether the margin asked for is at least that, and no metric is biased: whether the question makes sense here.
    pub decidable: bool,
}

/// What a machine can see of one metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetricCalibration {
    /// Which.
    pub metric: Metric,
    /// Pairs that count.
    pub pairs: usize,
    /// The second arm over the first, estimated; 1 where nothing is wrong.
    pub ratio: Option<f64>,
    /// The interval of that ratio; over all metrics together it misses the truth with a chance of at most `alpha`.
    pub interval: Option<(f64, f64)>,
    /// Whether that interval leaves out 1: an arm differs from itself, so that no comparison can be trusted.
    pub biased: bool,
    /// The smallest margin with which the last look passes an equal B in four of five runs, as a share.
    pub smallest_margin: Option<f64>,
}
