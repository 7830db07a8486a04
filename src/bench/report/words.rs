//! What a run came to, in words for whoever reads them at night.

use std::time::Duration;

use super::figures::{at_least, bytes_per_second, hundredths, per_second, percent, time};
use crate::{
    bench::{
        ArmInfo, Load, Measurement, Settings, Status, Workload,
        gate::{Calibration, Design, Judgement, Metric, MetricJudgement, Outcome},
    },
    report::{count, plural},
};

/// The figure that matters, for a run that compares nothing.
pub(in crate::bench) fn achieved(settings: &Settings, arms: &[ArmInfo]) -> String {
    let of = |arm: &ArmInfo| format!("{} {}, {}", settings.workload, figure(settings, arm), path(arm));
    arms.iter().map(of).collect::<Vec<_>>().join("; ")
}

/// That this side could not keep its times.
pub(in crate::bench) fn saturated(settings: &Settings, measured: &Measurement) -> String {
    let rate = match settings.load {
        Load::Open { rate } => format!(" at {}", per_second(rate)),
        Load::Closed => String::new(),
    };
    let late =
        measured.lateness.as_ref().and_then(|schedule| schedule.late.quantile(0.99)).map_or_else(String::new, time);
    let cpu = measured.cpu;
    let busiest = percent(f64::from(cpu.busiest_permille) / 1000.0);
    let of_machine = |part| percent(share(part, cpu.machine_us));
    format!(
        "generator saturated: one operation in a hundred began {late} late or more{rate}, by this side's own fault; this \
         program's busiest thread used {busiest} of a processor, the machine was {} busy, and the hypervisor took {} of \
         it for others (steal)",
        of_machine(cpu.busy_us),
        of_machine(cpu.steal_us)
    )
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
fn figure(settings: &Settings, arm: &ArmInfo) -> String {
    let measured = &arm.measurement;
    if measured.is_fruitless() {
        return match measured.failed() {
            // Whatever fails does so by its timeout: a run that is longer says how.
            0 => {
                let limit = Duration::from_millis(settings.timeout_ms);
                let hint = (measured.elapsed() < limit)
                    .then(|| format!(" (--duration above --timeout, which is {}, shows why)", time(limit)));
                format!("ended no operation in {}{}", time(measured.elapsed()), hint.unwrap_or_default())
            }
            failed => {
                let codes: Vec<&str> = measured.errors.keys().map(String::as_str).collect();
                format!("never succeeded ({} failed: {})", plural(failed, "operation"), codes.join(", "))
            }
        };
    }
    if settings.workload.is_bulk() {
        return bytes_per_second(measured.goodput());
    }
    let p99 = measured.latency.quantile(0.99).map_or_else(String::new, |p99| format!(", p99 {}", time(p99)));
    format!("{}{p99}", per_second(measured.rate()))
}

/// What the comparison came to.
pub(in crate::bench) fn compared(gate: &Judgement) -> String {
    let margin = percent(gate.question.margin);
    match (gate.design, gate.outcome) {
        (Design::Calibration, _) => calibrated(&gate.question.calibrate(&gate.pairs)),
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

/// What this machine and path can see.
fn calibrated(seen: &Calibration) -> String {
    let margin = percent(seen.question.margin);
    let biased = seen.metrics.iter().find(|metric| metric.biased);
    match (seen.smallest_margin, biased) {
        (_, Some(metric)) => {
            let ratio = metric.ratio.map_or_else(String::new, |ratio| format!(", by {}", percent((ratio - 1.0).abs())));
            format!("A differs from itself in {}{ratio}: no comparison here can be trusted", metric.metric)
        }
        (Some(least), None) if seen.decidable => {
            format!("a margin of {margin} can be told here; the smallest that can is {}", at_least(least))
        }
        (Some(least), None) => {
            format!(
                "a margin of {margin} cannot be told here: A against itself varies too much; ask for {} or more",
                at_least(least)
            )
        }
        (None, None) => format!("whether a margin of {margin} can be told here is open: there are too few pairs"),
    }
}

fn sentences(gate: &Judgement, wanted: impl Fn(&MetricJudgement) -> bool) -> String {
    let wanted = gate.metrics.iter().filter(|metric| wanted(metric));
    let said: Vec<String> = wanted.map(|judged| metric(judged.metric, judged.ratio, judged.interval)).collect();
    said.join("; ")
}

fn accepted(gate: &Judgement) -> String {
    let margin = percent(gate.question.margin);
    if gate.question.metrics.iter().all(|metric| metric.more_is_better()) {
        format!("a loss of up to {margin} was accepted")
    } else {
        format!("up to {margin} worse was accepted")
    }
}

/// How B's figure stands to A's: `B carries 9.8 % less than A (interval 9.1 to 10.5 % less)`.
pub(super) fn metric(metric: Metric, ratio: Option<f64>, interval: Option<(f64, f64)>) -> String {
    let (begin, less, more, than) = match metric {
        Metric::Goodput => ("B carries", "less", "more", "than A"),
        Metric::Rate => ("B does", "fewer", "more", "operations per second than A"),
        Metric::P50 => ("B's median latency is", "shorter", "longer", "than A's"),
        Metric::P99 => ("B's p99 latency is", "shorter", "longer", "than A's"),
        Metric::Cpu => ("B takes", "less", "more", "of this machine's CPU than A"),
    };
    let Some(ratio) = ratio else {
        return format!("{metric} was never measured on both sides");
    };
    let side = |ratio: f64| if ratio < 1.0 { less } else { more };
    let far = |ratio: f64| hundredths((ratio - 1.0).abs());
    let interval = interval.map_or_else(String::new, |(low, high)| {
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

/// How many, and how many per second.
pub(super) fn throughput(settings: &Settings, measured: &Measurement) -> String {
    let what = if settings.workload.is_bulk() { "whole transfers" } else { "operations" };
    let (done, lasted) = (count(measured.operations), time(measured.elapsed()));
    let resumed = match settings {
        Settings { workload: Workload::Tls, resumed: true, .. } => {
            format!("; {} of the sessions were resumed", count(measured.resumed))
        }
        _ => String::new(),
    };
    format!("{done} {what} in {lasted}: {}{resumed}", per_second(measured.rate()))
}

/// A part of a whole, between 0 and 1.
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^52 do not occur")]
pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
