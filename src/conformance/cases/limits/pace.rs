//! How long one tunnel takes while few others open, and how many open in a second while more and more are asked for at
//! once.

use std::{future::ready, time::Duration};

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::load::{Opener, Stop};
use crate::{
    conformance::{
        case::{Judgement, Outcome, Remedy, Unit},
        rig::{Rig, Way},
    },
    model::{Layer, Leg, Observation},
};

/// Tunnels whose time is taken, and how many of them are under way at once.
const SAMPLES: usize = 300;
const FEW_AT_ONCE: usize = 2;

/// Tunnels asked for at once, one number after another, and how many of each.
const RAMP: [usize; 4] = [1, 4, 16, 64];
const PER_RUNG: usize = 400;

/// Within this a proxy that only queues what is asked of it answers.
const PATIENCE: Duration = Duration::from_secs(1);

/// A number at once that gains less than this tells that the proxy is at its best already.
const GAIN: f64 = 1.1;

/// Tunnels of which the time was taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Samples {
    /// Milliseconds within which 95 of 100 must be open.
    limit_ms: u64,
    /// Milliseconds until each was open.
    took: Vec<f64>,
    /// How many did not open, and how the last of them failed.
    failed: (usize, Option<Stop>),
}

/// Tunnels asked for at the same time.
#[derive(Debug, Clone)]
pub(super) struct Rung {
    at_once: usize,
    opened: usize,
    elapsed: Duration,
    /// How many did not open, and how the last of them failed.
    failed: (usize, Option<Stop>),
}

impl Rung {
    fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss)]
        let opened = self.opened as f64;
        opened / self.elapsed.as_secs_f64().max(1e-6)
    }
}

// ---- measuring

pub(super) async fn latency(rig: &Rig, way: Way) -> Samples {
    let limit_ms = rig.profile.connect_p95_ms;
    // Who needs twice the time is too late in any case.
    let opener = Opener::new(rig, way, 2 * Duration::from_millis(limit_ms));
    let until = Instant::now() + rig.options.load / 8;
    let mut samples = Samples { limit_ms, ..Samples::default() };
    let mut opening = stream::iter(0..SAMPLES)
        .take_while(|&n| ready(n < FEW_AT_ONCE || Instant::now() < until))
        .map(|_| opener.open())
        .buffer_unordered(FEW_AT_ONCE);
    while let Some(dialogue) = opening.next().await {
        let seen = dialogue.finish();
        match (seen.failed(), opened_after(&seen)) {
            (None, Some(took)) => samples.took.push(took),
            _ => samples.failed = (samples.failed.0 + 1, Some(Stop::of(&seen))),
        }
    }
    samples
}

/// From the first SYN to the answer to the CONNECT, in milliseconds.
fn opened_after(seen: &Observation) -> Option<f64> {
    let (first, tunnel) = (seen.steps.first()?, seen.step(Layer::Tunnel, Leg::Proxy)?);
    let micros = (tunnel.start_us + tunnel.elapsed_us).saturating_sub(first.start_us);
    Some(Duration::from_micros(micros).as_secs_f64() * 1000.0)
}

pub(super) async fn rate(rig: &Rig, way: Way) -> Vec<Rung> {
    let opener = Opener::new(rig, way, PATIENCE.max(rig.options.load / 4));
    let share = rig.options.load / 8 / u32::try_from(RAMP.len()).unwrap_or(1);
    let mut rungs = Vec::new();
    for at_once in RAMP {
        let began = Instant::now();
        let mut rung = Rung { at_once, opened: 0, elapsed: Duration::ZERO, failed: (0, None) };
        let mut opening = stream::iter(0..PER_RUNG)
            .take_while(|&n| ready(n < at_once || began.elapsed() < share))
            .map(|_| opener.open())
            .buffer_unordered(at_once);
        while let Some(dialogue) = opening.next().await {
            match dialogue.keep() {
                Ok(_) => rung.opened += 1,
                Err(seen) => rung.failed = (rung.failed.0 + 1, Some(Stop::of(&seen))),
            }
        }
        rung.elapsed = began.elapsed();
        let failed = rung.failed.0 > 0;
        rungs.push(rung);
        if failed {
            break;
        }
    }
    rungs
}

// ---- judging

pub(super) fn judge_latency(samples: &Samples) -> Judgement {
    let Samples { limit_ms, took, failed: (failed, stop) } = samples;
    let all = took.len() + failed;
    #[expect(clippy::cast_precision_loss)]
    let slow = took.iter().filter(|&&ms| ms > *limit_ms as f64).count();
    let too_many = |count: usize| count * 20 > all;
    let judgement = match stop {
        _ if all == 0 => return Judgement::not_run("there was no time to ask for a tunnel"),
        Some(stop) if stop.is_ours() => return stop.not_run(),
        Some(stop) if too_many(*failed) => {
            Judgement::fail(format!("more than 5 of 100 tunnels do not open within {} ms", 2 * limit_ms))
                .because(format!("one or two at a time; {}", stop.heard))
                .code(stop.code)
        }
        _ if too_many(slow + failed) => {
            Judgement::fail(format!("more than 5 of 100 tunnels take longer than {limit_ms} ms to open"))
                .because("one or two at a time, so that none waited for another")
        }
        Some(stop) => Judgement::warn("most tunnels open in time, and some do not open").because(stop.heard.clone()),
        None => Judgement::pass(format!("95 of 100 tunnels are open within {limit_ms} ms")),
    };
    let judgement = match judgement.outcome {
        Outcome::Fail => judgement.reproduce(
            "curl -s -p -x PROXY -o /dev/null -w '%{time_connect} %{time_pretransfer}\\n' 'http://HOST:443/?[1-100]' -H 'Connection: close'",
        ),
        _ => judgement,
    };
    let mut sorted = took.clone();
    sorted.sort_by(f64::total_cmp);
    let shown = [("p50", 50), ("p95", 95), ("p99", 99)];
    shown.into_iter().fold(judgement, |judgement, (name, percent)| match percentile(&sorted, percent) {
        Some(ms) => judgement.figure(name, ms, Unit::Ms),
        None => judgement,
    })
}

/// The smallest of these values that so many of 100 do not exceed (nearest rank).
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    sorted.get((sorted.len() * percent).div_ceil(100).checked_sub(1)?).copied()
}

pub(super) fn judge_rate(rungs: &[Rung]) -> Judgement {
    let failed = rungs.iter().find_map(|rung| Some((rung, rung.failed.1.as_ref()?)));
    let judgement = match failed {
        Some((_, stop)) if stop.is_ours() => return stop.not_run(),
        Some((rung, stop)) => {
            let summary = match rung.at_once {
                1 => "tunnels that are asked for one after another do not all open".to_owned(),
                many => format!("tunnels fail as soon as {many} are asked for at once"),
            };
            #[expect(clippy::cast_precision_loss)]
            Judgement::fail(summary)
                .because(stop.heard.clone())
                .code(stop.code)
                .figure("failed", rung.failed.0 as f64, Unit::Count)
                .remedy(Remedy::Clients { count: rung.at_once * 2 })
                .reproduce(format!(
                    "curl -s -Z --parallel-immediate --parallel-max {} -p -x PROXY -o /dev/null 'http://HOST:443/?[1-{}]'",
                    rung.at_once, PER_RUNG
                ))
        }
        None => match rungs.last() {
            Some(last) => Judgement::pass(format!("tunnels open with up to {} asked for at once", last.at_once)),
            None => return Judgement::not_run("there was no time to ask for a tunnel"),
        },
    };
    let judgement = rungs.iter().fold(judgement, |judgement, rung| {
        judgement.figure(&format!("opened_{}_at_once", rung.at_once), rung.per_second(), Unit::PerSecond)
    });
    match knee(rungs) {
        #[expect(clippy::cast_precision_loss)]
        Some(at_once) => judgement.figure("knee_at_once", at_once as f64, Unit::Count),
        None => judgement,
    }
}

/// The last number at once that gained something over those before it.
fn knee(rungs: &[Rung]) -> Option<usize> {
    let mut best = 0.0;
    let mut knee = None;
    for rung in rungs {
        if rung.per_second() > best * GAIN {
            knee = Some(rung.at_once);
        }
        best = rung.per_second().max(best);
    }
    knee
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{conformance::cases::limits::load::How, model::FailureKind};

    fn silent() -> Stop {
        Stop { how: How::Silent, heard: "tunnel with the proxy: no answer in time".into(), code: None }
    }

    fn samples(took: &[(usize, f64)], failed: usize) -> Samples {
        Samples {
            limit_ms: 1000,
            took: took.iter().flat_map(|&(count, ms)| vec![ms; count]).collect(),
            failed: (failed, (failed > 0).then(silent)),
        }
    }

    #[test]
    fn five_of_a_hundred_may_be_late() {
        for (took, failed, outcome, says) in [
            (vec![(95, 2.0), (5, 1001.0)], 0, Outcome::Pass, "95 of 100 tunnels are open within 1000 ms"),
            (vec![(94, 2.0), (6, 1001.0)], 0, Outcome::Fail, "take longer than 1000 ms"),
            (vec![(99, 2.0)], 1, Outcome::Warn, "some do not open"),
            (vec![(95, 2.0), (3, 1001.0)], 3, Outcome::Fail, "take longer than"),
            (vec![(10, 2.0)], 1, Outcome::Fail, "do not open within 2000 ms"),
            (vec![(2, 1500.0)], 0, Outcome::Fail, "take longer than"),
            (vec![], 0, Outcome::NotRun, "no time"),
        ] {
            let judgement = judge_latency(&samples(&took, failed));
            assert_eq!(judgement.outcome, outcome, "{took:?}: {}", judgement.summary);
            assert!(judgement.summary.contains(says), "{took:?}: {}", judgement.summary);
        }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([50, 95, 99].map(|percent| percentile(&values, percent)), [Some(100.0), Some(190.0), Some(198.0)]);
        assert_eq!(percentile(&[7.0], 50), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    fn rung(at_once: usize, opened: usize, failed: usize) -> Rung {
        let stop =
            Stop { how: How::Answered("HTTP/1.1 503 Busy".into()), heard: "the proxy answered".into(), code: None };
        Rung { at_once, opened, elapsed: Duration::from_millis(100), failed: (failed, (failed > 0).then_some(stop)) }
    }

    #[test]
    fn the_knee_is_where_more_at_once_gains_nothing_more() {
        let knee_of = |opened: [usize; 4]| {
            let rungs: Vec<_> =
                RAMP.into_iter().zip(opened).map(|(at_once, opened)| rung(at_once, opened, 0)).collect();
            knee(&rungs)
        };
        assert_eq!(knee_of([100, 180, 190, 150]), Some(4));
        assert_eq!(knee_of([100, 90, 99, 80]), Some(1));
        assert_eq!(knee_of([100, 200, 300, 400]), Some(64));
        assert_eq!(knee(&[]), None);
    }

    #[test]
    fn words_about_the_rate_hold_nothing_that_was_measured() {
        let good = judge_rate(&[rung(1, 10, 0), rung(4, 30, 0), rung(16, 31, 0), rung(64, 30, 0)]);
        assert_eq!(
            (good.outcome, good.summary.as_str()),
            (Outcome::Pass, "tunnels open with up to 64 asked for at once")
        );
        assert!((good.figures["knee_at_once"].value - 4.0).abs() < f64::EPSILON);
        let bad = judge_rate(&[rung(1, 10, 0), rung(4, 20, 0), rung(16, 12, 7)]);
        assert_eq!(
            (bad.outcome, bad.summary.as_str()),
            (Outcome::Fail, "tunnels fail as soon as 16 are asked for at once")
        );
        assert_eq!(bad.evidence, ["the proxy answered"]);
        assert!((bad.figures["failed"].value - 7.0).abs() < f64::EPSILON);
        assert_eq!(judge_rate(&[]).outcome, Outcome::NotRun);
        // Nothing of this machine's own is the proxy's.
        let mut ours = rung(64, 20, 3);
        ours.failed.1 = Some(Stop { how: How::Here(FailureKind::FileDescriptors), heard: String::new(), code: None });
        assert_eq!(judge_rate(&[ours]).outcome, Outcome::NotRun);
    }
}
