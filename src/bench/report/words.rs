//! What a run came to, in words for whoever reads them at night.

use super::figures::{bytes_per_second, hundredths, per_second, percent, time};
use crate::{
    bench::{
        ArmInfo, Measurement, Settings, Status, Verdict,
        gate::{Design, Judgement, Metric, MetricJudgement, Outcome},
    },
    report::{count, plural},
};

/// What follows from the measurements, and from the comparison where there is one: status, exit code and the sentence.
///
/// A run whose generator could not keep up is no measurement; who ran it says so instead.
#[must_use]
pub fn verdict(settings: &Settings, arms: &[ArmInfo], gate: Option<&Judgement>) -> Verdict {
    let status = match gate.map(|gate| gate.outcome) {
        Some(Outcome::Pass) => Status::Pass,
        Some(Outcome::Fail) => Status::Fail,
        Some(Outcome::Inconclusive) => Status::Inconclusive,
        None if arms.iter().all(|arm| arm.measurement.is_idle()) => Status::Fail,
        None => Status::Measured,
    };
    let exit_code = match status {
        Status::Measured | Status::Pass => 0,
        Status::Fail => 1,
        Status::Inconclusive => 3,
    };
    let summary = match gate {
        Some(gate) => compared(gate),
        None => {
            let of = |arm: &ArmInfo| format!("{} {}, {}", settings.workload, achieved(settings, arm), path(arm));
            arms.iter().map(of).collect::<Vec<_>>().join("; ")
        }
    };
    Verdict { status, summary, exit_code }
}

/// The status as reports have it.
pub(super) const fn status(status: Status) -> &'static str {
    match status {
        Status::Measured => "MEASURED",
        Status::Pass => "PASS",
        Status::Fail => "FAIL",
        Status::Inconclusive => "INCONCLUSIVE",
    }
}

pub(super) const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Fail => "FAIL",
        Outcome::Inconclusive => "cannot be told",
    }
}

/// The way that was measured: `direct to http://a:80`, `through http://p:3128 to http://a:80`.
pub(super) fn path(arm: &ArmInfo) -> String {
    let way = arm.proxy.as_ref().map_or_else(|| "direct".to_owned(), |proxy| format!("through {proxy}"));
    let name = if arm.label == way { String::new() } else { format!("{}: ", arm.label) };
    format!("{name}{way} to {}", arm.target)
}

/// The figure that matters for this workload.
fn achieved(settings: &Settings, arm: &ArmInfo) -> String {
    let measured = &arm.measurement;
    if measured.is_idle() {
        return match measured.failed() {
            0 => "did nothing in its time".to_owned(),
            failed => format!("never succeeded ({} failed)", plural(failed, "operation")),
        };
    }
    if settings.workload.is_bulk() {
        return bytes_per_second(measured.goodput());
    }
    let p99 = measured.latency.quantile(0.99).map_or_else(String::new, |p99| format!(", p99 {}", time(p99)));
    format!("{}{p99}", per_second(measured.rate()))
}

/// What the comparison came to.
fn compared(gate: &Judgement) -> String {
    let margin = percent(gate.question.margin);
    match (gate.design, gate.outcome) {
        (Design::Calibration, Outcome::Pass) => {
            format!("a margin of {margin} can be told here: A against itself differs by less")
        }
        (Design::Calibration, _) => {
            let least = gate.metrics.iter().filter_map(|metric| metric.smallest_effect).reduce(f64::max);
            let least =
                least.map_or_else(String::new, |least| format!(", the smallest that can be is {}", percent(least)));
            format!("a margin of {margin} cannot be told here: A against itself varies too much{least}")
        }
        (_, Outcome::Pass) => format!("{}; {}", sentences(gate, |_| true), accepted(gate)),
        (_, Outcome::Fail) => {
            let metrics = sentences(gate, |metric| metric.outcome == Outcome::Fail);
            let errors = (gate.errors.outcome == Outcome::Fail).then(|| failures(gate));
            let margin = (!metrics.is_empty()).then(|| accepted(gate));
            [Some(metrics).filter(|metrics| !metrics.is_empty()), margin, errors]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("; ")
        }
        (_, Outcome::Inconclusive) => {
            let open = sentences(gate, |metric| metric.outcome == Outcome::Inconclusive);
            let open = if open.is_empty() { failures(gate) } else { open };
            format!("it cannot be told whether B is worse than A by more than {margin}: {open}")
        }
    }
}

fn sentences(gate: &Judgement, wanted: impl Fn(&MetricJudgement) -> bool) -> String {
    let said: Vec<String> = gate.metrics.iter().filter(|metric| wanted(metric)).map(metric).collect();
    said.join("; ")
}

fn accepted(gate: &Judgement) -> String {
    let margin = percent(gate.question.margin);
    if gate.metrics.iter().all(|metric| metric.metric.more_is_better()) {
        format!("a loss of up to {margin} was accepted")
    } else {
        format!("up to {margin} worse was accepted")
    }
}

/// How B's figure stands to A's: `B carries 9.8 % less than A (interval 9.1 to 10.5 % less)`.
pub(super) fn metric(judged: &MetricJudgement) -> String {
    let (begin, less, more, than) = match judged.metric {
        Metric::Goodput => ("B carries", "less", "more", "than A"),
        Metric::Rate => ("B does", "fewer", "more", "operations per second than A"),
        Metric::P50 => ("B's median latency is", "shorter", "longer", "than A's"),
        Metric::P99 => ("B's p99 latency is", "shorter", "longer", "than A's"),
        Metric::Cpu => ("B takes", "less", "more", "of this machine's CPU than A"),
    };
    let Some(ratio) = judged.ratio else {
        return format!("{} was never measured on both sides", judged.metric);
    };
    let side = |ratio: f64| if ratio < 1.0 { less } else { more };
    let far = |ratio: f64| hundredths((ratio - 1.0).abs());
    let interval = judged.interval.map_or_else(String::new, |(low, high)| {
        if side(low) == side(high) {
            let (near, wide) = if low < 1.0 { (high, low) } else { (low, high) };
            format!(" (interval {} to {} % {})", far(near), far(wide), side(low))
        } else {
            format!(" (interval {} % {} to {} % {})", far(low), side(low), far(high), side(high))
        }
    });
    format!("{begin} {} % {} {than}{interval}", far(ratio), side(ratio))
}

/// The failures of both sides.
pub(super) fn failures(gate: &Judgement) -> String {
    let of = |(failed, tried): (u64, u64)| format!("{} of {}", count(failed), count(tried));
    let errors = &gate.errors;
    let new = match errors.new_codes.as_slice() {
        [] => String::new(),
        codes => format!("; only B meets {}", codes.join(", ")),
    };
    format!("of B's operations {} failed, of A's {}{new}", of(errors.b), of(errors.a))
}

/// What a stored baseline is worth.
pub(super) const BASELINE: &str = "A was measured at another time and comes from a file. Machine, neighbours, kernel and \
     path may have changed since then, and any of them may be the difference. Trust this no further than you trust that \
     nothing changed; --vs measures both in turn, now.";

/// How often and how much, for one arm.
pub(super) fn throughput(settings: &Settings, measured: &Measurement) -> String {
    let lasted = time(measured.elapsed());
    let rate = per_second(measured.rate());
    if settings.workload.is_bulk() {
        format!("{} whole transfers in {lasted}: {rate}", count(measured.operations))
    } else {
        format!("{} operations in {lasted}: {rate}", count(measured.operations))
    }
}
