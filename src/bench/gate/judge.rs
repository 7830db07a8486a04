//! How a question is answered.

use std::collections::BTreeSet;

use super::{
    Calibration, Design, ErrorJudgement, Judgement, Metric, MetricCalibration, MetricJudgement, Outcome, Pair,
    Question, Slice,
};
use crate::bench::statistics::{
    Shift, Tails, exact, holm, length, normal, rank_sum::Unpaired, real, signed_rank::Paired,
};

/// The chance with which the smallest effect is found.
const POWER: f64 = 0.8;

/// Where nothing succeeded the logarithm of the value is this: below that of every positive number.
const NOTHING: f64 = -1_000.0;

/// No ratio beyond this is told apart.
const EXTREME: f64 = 1e6;

pub(super) fn judge(question: &Question, pairs: &[Pair], look: usize, design: Design) -> Judgement {
    let evidence = Evidence::new(pairs, design);
    let level = question.level();
    let shifts: Vec<Box<dyn Shift>> = question.metrics.iter().map(|&metric| evidence.shift(metric)).collect();
    let limits: Vec<f64> = question.metrics.iter().map(|&metric| limit(metric, question.margin)).collect();
    let tails: Vec<Tails> = shifts.iter().zip(&limits).map(|(shift, &limit)| shift.tails(limit)).collect();
    let failures = evidence.failures();

    // The failures are one more hypothesis, unless there are so few that no distribution of them over A and B could
    // be significant: such a test cannot give a false alarm and takes no share of the level (Tarone 1990).
    let mut p_values: Vec<f64> = tails.iter().map(|tails| tails.below).collect();
    if failures.attainable <= level {
        p_values.push(failures.p);
    }
    let rejected = holm::rejected(&p_values, level);
    let more_failures = rejected.get(tails.len()).is_some_and(|rejected| *rejected);
    // What a lone bad metric has to overcome is Holm's first step.
    let first_step = level / length(p_values.len());

    let metrics: Vec<MetricJudgement> = (0..tails.len())
        .map(|index| {
            let (metric, shift, limit) = (question.metrics[index], shifts[index].as_ref(), limits[index]);
            let interval = shift.interval(level);
            let strictest = if p_values.len() == 1 { interval } else { shift.interval(first_step) };
            // Without ties interval and p-value always agree; with ties the more careful one counts.
            let outcome = if rejected[index] && interval.is_some_and(|(_, high)| high < limit) {
                Outcome::Fail
            } else if tails[index].above <= level && interval.is_some_and(|(low, _)| low > limit) {
                Outcome::Pass
            } else {
                Outcome::Inconclusive
            };
            MetricJudgement {
                metric,
                outcome,
                pairs: shift.size(),
                ratio: shift.estimate().map(|shift| ratio(metric, shift)),
                interval: interval.map(|ends| ratios(metric, ends)),
                p_fail: tails[index].below,
                p_pass: tails[index].above,
                smallest_effect: strictest.map(|ends| share(metric, limit - detectable(ends, first_step))),
            }
        })
        .collect();
    let planned = question.looks.get(look).is_none_or(|&at| pairs.len() >= at);
    let errors = evidence.judge_failures(failures, more_failures, planned);

    let worse = errors.outcome == Outcome::Fail || metrics.iter().any(|metric| metric.outcome == Outcome::Fail);
    // A wrong pass needs that a metric which is too bad passes its own test, and that has a chance of one level at most,
    // however many other metrics must pass as well: the intersection of tests needs no correction (Berger 1982).
    let fine = !metrics.is_empty()
        && errors.outcome == Outcome::Pass
        && metrics.iter().all(|metric| metric.outcome == Outcome::Pass);
    let outcome = if design == Design::Calibration {
        if calibrate(question, pairs).decidable { Outcome::Pass } else { Outcome::Inconclusive }
    } else if !evidence.a.works {
        Outcome::Inconclusive
    } else if worse {
        Outcome::Fail
    } else if fine {
        Outcome::Pass
    } else {
        Outcome::Inconclusive
    };
    Judgement { design, question: question.clone(), outcome, looks: look + 1, metrics, errors, pairs: pairs.to_vec() }
}

pub(super) fn calibrate(question: &Question, pairs: &[Pair]) -> Calibration {
    let evidence = Evidence::new(pairs, Design::Calibration);
    let level = question.level();
    let last = question.looks.last().copied().unwrap_or(pairs.len());
    let metrics: Vec<MetricCalibration> = question
        .metrics
        .iter()
        .map(|&metric| {
            let shift = evidence.shift(metric);
            let ends = shift.interval(question.alpha / 2.0 / length(question.metrics.len()));
            MetricCalibration {
                metric,
                pairs: shift.size(),
                ratio: shift.estimate().map(|shift| ratio(metric, shift)),
                interval: ends.map(|ends| ratios(metric, ends)),
                biased: ends.is_some_and(|(low, high)| low > 0.0 || high < 0.0),
                smallest_margin: shift.interval(level).map(|ends| {
                    // The scatter of an estimate falls with the root of its pairs.
                    let scale = (length(shift.size()) / length(last)).sqrt();
                    share(metric, -detectable(ends, level) * scale)
                }),
            }
        })
        .collect();
    let smallest_margin =
        metrics.iter().map(|metric| metric.smallest_margin).reduce(|one, other| Some(one?.max(other?))).flatten();
    Calibration {
        question: question.clone(),
        decidable: smallest_margin.is_some_and(|smallest| question.margin >= smallest)
            && metrics.iter().all(|metric| !metric.biased),
        smallest_margin,
        metrics,
    }
}

/// The slices of both sides, and what they came to.
struct Evidence<'a> {
    paired: bool,
    a: Side<'a>,
    b: Side<'a>,
}

struct Side<'a> {
    slices: Vec<&'a Slice>,
    /// Whether anything ever succeeded.
    works: bool,
    /// Failed and tried.
    counts: (u64, u64),
    codes: BTreeSet<&'a str>,
}

/// The test of the failures.
#[derive(Clone, Copy)]
struct Failures {
    p: f64,
    /// The smallest value that `p` could have, with as many failures in as many slices.
    attainable: f64,
}

impl<'a> Evidence<'a> {
    fn new(pairs: &'a [Pair], design: Design) -> Self {
        let paired = design != Design::Baseline;
        let side = |of: fn(&Pair) -> &Slice| {
            Side::new(pairs.iter().map(of).filter(|slice| paired || **slice != Slice::default()).collect())
        };
        Self { paired, a: side(|pair| &pair.a), b: side(|pair| &pair.b) }
    }

    /// The logarithm of B over A, turned so that less is worse. Empty where one side never worked: what failed then is
    /// not the metric.
    fn shift(&self, metric: Metric) -> Box<dyn Shift> {
        let sides = [&self.a, &self.b].map(|side| if self.a.works && self.b.works { &side.slices[..] } else { &[] });
        if self.paired {
            Box::new(Paired::new(sides[0].iter().zip(sides[1]).filter_map(|(a, b)| difference(metric, a, b))))
        } else {
            let [a, b] = sides.map(|slices| slices.iter().filter_map(|slice| worth(metric, slice)));
            Box::new(Unpaired::new(a, b))
        }
    }

    fn failures(&self) -> Failures {
        let (a, b) = (self.a.counts, self.b.counts);
        // What the slices could say at most: that all that differ, differ in one direction.
        let (shares, extreme): (Box<dyn Shift>, Box<dyn Shift>) = if self.paired {
            let both = self.a.slices.iter().zip(&self.b.slices);
            let differences: Vec<f64> = both.filter_map(|(a, b)| Some(failed_share(b)? - failed_share(a)?)).collect();
            let distances: Vec<f64> = differences.iter().map(|difference| difference.abs()).collect();
            (Box::new(Paired::new(differences)), Box::new(Paired::new(distances)))
        } else {
            let [a, b] = [&self.a, &self.b]
                .map(|side| -> Vec<f64> { side.slices.iter().filter_map(|slice| failed_share(slice)).collect() });
            let mut all: Vec<f64> = a.iter().chain(&b).copied().collect();
            all.sort_unstable_by(f64::total_cmp);
            let (low, high) = all.split_at(a.len());
            let extreme = Unpaired::new(low.to_vec(), high.to_vec());
            (Box::new(Unpaired::new(a, b)), Box::new(extreme))
        };
        let all = a.0.saturating_add(b.0);
        let most = all.min(b.1);
        Failures {
            p: exact::more_failures(a, b).max(shares.tails(0.0).above),
            attainable: exact::more_failures((all - most, a.1), (most, b.1)).max(extreme.tails(0.0).above),
        }
    }

    fn judge_failures(&self, failures: Failures, more: bool, planned: bool) -> ErrorJudgement {
        let (a, b) = (&self.a, &self.b);
        let new_codes: Vec<String> = b.codes.difference(&a.codes).map(|code| (*code).to_owned()).collect();
        let product = |x: u64, y: u64| u128::from(x) * u128::from(y);
        let more_often = product(b.counts.0, a.counts.1) > product(a.counts.0, b.counts.1);
        let outcome = if !a.works {
            Outcome::Inconclusive
        } else if !b.works {
            // A run that was interrupted may have given B no time: then only failures show that it does not work.
            if planned || b.counts.0 > 0 { Outcome::Fail } else { Outcome::Inconclusive }
        } else if more || (more_often && !new_codes.is_empty()) {
            Outcome::Fail
        } else if new_codes.is_empty() {
            Outcome::Pass
        } else {
            Outcome::Inconclusive
        };
        ErrorJudgement { outcome, a: a.counts, b: b.counts, p: failures.p, new_codes }
    }
}

impl<'a> Side<'a> {
    fn new(slices: Vec<&'a Slice>) -> Self {
        let mut codes = BTreeSet::new();
        let (mut failed, mut succeeded) = (0_u64, 0_u64);
        for slice in &slices {
            succeeded = succeeded.saturating_add(slice.operations);
            for (code, count) in slice.errors.iter().filter(|(_, count)| **count > 0) {
                failed = failed.saturating_add(*count);
                codes.insert(code.as_str());
            }
        }
        let works = slices.iter().any(|slice| works(slice));
        Self { slices, works, counts: (failed, failed.saturating_add(succeeded)), codes }
    }
}

/// Whether anything succeeded. A transfer that outlasts its slice is no operation yet, but its bytes flow, unless they
/// are all that came of one that failed.
fn works(slice: &Slice) -> bool {
    let failed = slice.errors.values().any(|count| *count > 0);
    slice.operations > 0 || (!failed && value(Metric::Goodput, slice).is_some())
}

fn value(metric: Metric, slice: &Slice) -> Option<f64> {
    slice.values.get(&metric).copied().filter(|value| *value > 0.0 && value.is_finite())
}

/// The logarithm of a value, turned so that less is worse; of a slice in which nothing succeeded, less than any.
fn worth(metric: Metric, slice: &Slice) -> Option<f64> {
    match value(metric, slice) {
        Some(value) => Some(turned(metric, value.ln())),
        None => (slice.operations == 0).then_some(NOTHING),
    }
}

fn difference(metric: Metric, a: &Slice, b: &Slice) -> Option<f64> {
    let measured = value(metric, a).is_some() || value(metric, b).is_some();
    if measured { Some(worth(metric, b)? - worth(metric, a)?) } else { None }
}

fn failed_share(slice: &Slice) -> Option<f64> {
    let failed = slice.errors.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
    let tried = failed.saturating_add(slice.operations);
    (tried > 0).then(|| real(failed) / real(tried))
}

fn turned(metric: Metric, log: f64) -> f64 {
    if metric.more_is_better() { log } else { -log }
}

/// The shift at which B is worse by just the margin.
fn limit(metric: Metric, margin: f64) -> f64 {
    let ratio = if metric.more_is_better() { 1.0 - margin } else { 1.0 + margin };
    turned(metric, ratio.clamp(EXTREME.recip(), EXTREME).ln())
}

/// The ratio that a shift stands for.
fn ratio(metric: Metric, shift: f64) -> f64 {
    turned(metric, shift).exp().clamp(EXTREME.recip(), EXTREME)
}

fn ratios(metric: Metric, (low, high): (f64, f64)) -> (f64, f64) {
    let (low, high) = (ratio(metric, low), ratio(metric, high));
    (low.min(high), low.max(high))
}

/// The loss that a shift stands for, as a share of A.
fn share(metric: Metric, shift: f64) -> f64 {
    (ratio(metric, shift) - 1.0).abs()
}

/// How far beyond a limit the true shift must be to be found in [`POWER`] of all runs, from the interval at a level.
///
/// The interval must end before the limit: half its width for the noise at this level, and a part of that for the
/// estimate, which scatters about the truth. The width is taken from the pairs, so that no form of the noise is assumed
/// but that the estimate is about normal.
fn detectable((low, high): (f64, f64), level: f64) -> f64 {
    (high - low) / 2.0 * (1.0 + normal::upper_point(1.0 - POWER) / normal::upper_point(level))
}
