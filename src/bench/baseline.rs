//! A run against one that was saved. Slices are pieces of one run each, which share whatever that run met.

use std::collections::BTreeMap;

use super::{
    Measurement, Run, Tick,
    gate::{Judgement, Metric, Question, Slice},
};

/// How long a slice is, in microseconds: shorter ones depend on each other too much.
const SLICE_US: u64 = 1_000_000;

/// What `now` says against the first arm of a run that was saved. Goodput and rate can be compared, nothing else.
#[must_use]
pub fn against_baseline(question: &Question, saved: &Run, now: &Measurement) -> Judgement {
    let then = saved.arms.first().map(|arm| slices(&arm.measurement)).unwrap_or_default();
    question.judge_baseline(&then, &slices(now), question.looks.len().saturating_sub(1))
}

/// A measurement in whole slices. The series counts failures and does not name them: codes are dealt out in turn, and
/// those of the rest that is no whole slice go to the last.
fn slices(measured: &Measurement) -> Vec<Slice> {
    let ticks = usize::try_from(SLICE_US.div_ceil(measured.tick_us.max(1))).unwrap_or(1);
    #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^52 do not occur")]
    let per_second = |count: u64| count as f64 * 1e6 / (ticks as f64 * measured.tick_us as f64);
    let mut codes: BTreeMap<String, u64> =
        measured.errors.iter().map(|(code, failures)| (code.clone(), failures.count)).collect();
    let mut slices: Vec<Slice> = measured
        .series
        .chunks_exact(ticks)
        .map(|piece| {
            let sum = |of: fn(&Tick) -> u64| piece.iter().map(of).sum::<u64>();
            let (operations, bytes) = (sum(|tick| tick.operations), sum(|tick| tick.bytes));
            let values = [(Metric::Rate, per_second(operations)), (Metric::Goodput, per_second(bytes))];
            Slice {
                values: values.into_iter().filter(|(_, value)| *value > 0.0).collect(),
                operations,
                errors: deal(&mut codes, sum(|tick| tick.failed)),
            }
        })
        .collect();
    if let Some(last) = slices.last_mut() {
        for (code, count) in codes.into_iter().filter(|(_, count)| *count > 0) {
            *last.errors.entry(code).or_default() += count;
        }
    }
    slices
}

/// Takes `wanted` failures out of `codes`, or as many as there are.
fn deal(codes: &mut BTreeMap<String, u64>, mut wanted: u64) -> BTreeMap<String, u64> {
    let mut dealt = BTreeMap::new();
    for (code, left) in codes.iter_mut() {
        let taken = wanted.min(*left);
        if taken > 0 {
            *left -= taken;
            wanted -= taken;
            dealt.insert(code.clone(), taken);
        }
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Failures;

    #[test]
    fn a_series_becomes_slices_of_a_second() {
        let tick = |operations| Tick { operations, bytes: 10 * operations, failed: 0 };
        let measured = Measurement { tick_us: 100_000, series: vec![tick(3); 25], ..Measurement::default() };
        let slices = slices(&measured);
        assert_eq!(slices.len(), 2, "the rest is no whole slice");
        assert!((slices[0].values[&Metric::Rate] - 30.0).abs() < 1e-9);
        assert!((slices[1].values[&Metric::Goodput] - 300.0).abs() < 1e-9);
        assert!(super::slices(&Measurement::default()).is_empty());
    }

    #[test]
    fn failures_are_in_the_slices_in_which_they_happened() {
        let tick = |failed| Tick { operations: 3, bytes: 30, failed };
        let failures = |count| Failures { count, example: String::new() };
        let measured = Measurement {
            tick_us: 1_000_000,
            series: vec![tick(0), tick(3), tick(2)],
            errors: [("a".to_owned(), failures(2)), ("b".to_owned(), failures(4))].into(),
            ..Measurement::default()
        };
        let errors: Vec<Vec<(String, u64)>> =
            slices(&measured).into_iter().map(|slice| slice.errors.into_iter().collect()).collect();
        let [a, b] = ["a", "b"].map(str::to_owned);
        assert_eq!(errors, [vec![], vec![(a, 2), (b.clone(), 1)], vec![(b, 3)]]);
    }
}
