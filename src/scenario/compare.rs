//! What was expected against what came out.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    Scenario,
    expect::{ExpectedFinding, ExpectedPrediction, ExpectedTime},
};
use crate::{
    classify::codes,
    lab::Event,
    model::{Assessment, Finding, Prediction, Record, Route, Severity, Status, Step, Target, Verdict},
};

/// One probe of a scenario, carried out and judged.
#[derive(Debug, Clone)]
pub struct Run {
    /// The name of the probe, where it has one.
    pub probe: Option<String>,
    /// What was seen.
    pub record: Record,
    /// What it means.
    pub assessment: Assessment,
}

/// Something that came out otherwise than expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What of the expectation: `verdict`, `exit code`, `finding`, `time`, …
    pub what: &'static str,
    /// The code that was expected, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The code that was found instead, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<&'static str>,
    /// What was expected.
    pub expected: String,
    /// What was seen.
    pub seen: String,
}

/// The verdict of several probes: the worst.
#[must_use]
pub fn verdict(runs: &[Run]) -> Status {
    worst(runs).map_or(Status::Inconclusive, |verdict| verdict.status)
}

fn worst(runs: &[Run]) -> Option<&Verdict> {
    let rank = |verdict: &&Verdict| match verdict.status {
        Status::Clear => 0,
        Status::Degraded => 1,
        Status::Inconclusive => 2,
        Status::Blocked => 3,
    };
    runs.iter().map(|run| &run.assessment.verdict).max_by_key(rank)
}

/// What a judgement says, without words, times and numbers of observations: what golden files hold.
#[must_use]
pub fn judgement(assessment: &Assessment) -> serde_json::Value {
    let findings: Vec<_> = assessment
        .findings
        .iter()
        .map(|found| {
            serde_json::json!({
                "code": found.code, "hop": found.hop, "severity": found.severity, "confidence": found.confidence,
                "party": found.party, "route": found.route, "targets": found.targets, "failed": found.failed,
                "tried": found.tried,
            })
        })
        .collect();
    let predictions: Vec<_> = assessment
        .predictions
        .iter()
        .map(|made| {
            serde_json::json!({
                "consumer": made.consumer, "method": made.method, "outcome": made.outcome, "class": made.class,
                "code": made.extension_code, "health": made.extension_error_code, "portal": made.portal_error,
            })
        })
        .collect();
    serde_json::json!({ "status": assessment.verdict.status, "findings": findings, "predictions": predictions })
}

/// Everything that came out otherwise than expected. `log` is what the lab's parties saw, if it played.
pub(super) fn differences(scenario: &Scenario, runs: &[Run], log: Option<&[Event]>) -> Vec<Difference> {
    let expect = &scenario.expect;
    let mut out = Vec::new();
    let (wanted, seen) = (*expect.verdict.get_ref(), verdict(runs));
    if wanted != seen {
        out.push(difference("verdict", None, name(&wanted), name(&seen)));
    }
    let exits = worst(runs).map_or(Status::Inconclusive.exit_code(), |verdict| verdict.exit_code);
    if expect.exit_code() != exits {
        out.push(difference("exit code", None, expect.exit_code(), exits));
    }
    out.extend(expect.findings.iter().filter_map(|wanted| missing(wanted.get_ref(), runs)));
    for (run, found) in runs.iter().flat_map(|run| run.assessment.findings.iter().map(move |found| (run, found))) {
        let code = found.code.0;
        let named = expect.findings.iter().any(|wanted| wanted.get_ref().code == code)
            || expect.allowed.iter().any(|allowed| allowed.get_ref() == code);
        let unknown_failure = found.code == codes::META_UNCLASSIFIED && !named;
        if unknown_failure || (found.severity == Severity::Error && !named) {
            let unexpected = difference("finding", None, "no other error", shown(found));
            out.push(Difference { found: Some(code), ..unexpected });
        }
        if let Some(absent) = expect.absent.iter().find(|absent| meets(absent.get_ref(), run, found)) {
            let unwanted = difference("finding", None, format!("not {}", absent.get_ref()), shown(found));
            out.push(Difference { found: Some(code), ..unwanted });
        }
    }
    out.extend(expect.predictions.iter().filter_map(|wanted| unpredicted(wanted, runs)));
    out.extend(expect.times.iter().flat_map(|bound| out_of_time(bound.get_ref(), runs)));
    if let Some(log) = log {
        out.extend(runs.iter().flat_map(|run| uncarried(run, log)));
    }
    out
}

fn difference(
    what: &'static str,
    code: Option<&str>,
    expected: impl fmt::Display,
    seen: impl fmt::Display,
) -> Difference {
    Difference { what, code: code.map(Into::into), found: None, expected: expected.to_string(), seen: seen.to_string() }
}

/// The name of a value as the JSON report writes it.
fn name(value: &impl Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| Some(value.as_str()?.to_owned())).unwrap_or_default()
}

// ---- findings

fn missing(wanted: &ExpectedFinding, runs: &[Run]) -> Option<Difference> {
    let found = || runs.iter().flat_map(|run| run.assessment.findings.iter().map(move |found| (run, found)));
    if found().any(|(run, found)| meets(wanted, run, found)) {
        return None;
    }
    let same: Vec<_> =
        found().filter(|(_, found)| found.code.0 == wanted.code).map(|(_, found)| shown(found)).collect();
    let all = || found().map(|(_, found)| found.code.0).collect::<Vec<_>>();
    let seen = match (same.is_empty(), all()) {
        (false, _) => same.join("; "),
        (true, all) if all.is_empty() => "no finding at all".to_owned(),
        (true, all) => all.join(", "),
    };
    Some(difference("finding", Some(&wanted.code), wanted, seen))
}

fn meets(wanted: &ExpectedFinding, run: &Run, found: &Finding) -> bool {
    found.code.0 == wanted.code
        && wanted.hop.is_none_or(|hop| hop == found.hop)
        && wanted.confidence.is_none_or(|least| found.confidence <= least)
        && wanted.severity.is_none_or(|severity| severity == found.severity)
        && wanted.route.is_none_or(|route| Some(route) == found.route)
        && wanted.target.as_ref().is_none_or(|target| found.targets.contains(target))
        && wanted.failed.is_none_or(|failed| failed == found.failed)
        && wanted.tried.is_none_or(|tried| tried == found.tried)
        && (wanted.probe.is_none() || wanted.probe == run.probe)
}

fn shown(found: &Finding) -> String {
    let route = found.route.map_or_else(String::new, |route| format!(", route {route}"));
    format!(
        "{} (hop {}, {}, {}{route}, {} of {}, {}): {}",
        found.code,
        name(&found.hop),
        name(&found.severity),
        name(&found.confidence),
        found.failed,
        found.tried,
        found.targets.join(" "),
        found.summary
    )
}

impl fmt::Display for ExpectedFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = [
            self.hop.map(|hop| format!("hop {}", name(&hop))),
            self.severity.map(|severity| name(&severity)),
            self.confidence.map(|confidence| format!("at least {}", name(&confidence))),
            self.route.map(|route| format!("route {route}")),
            self.failed.map(|failed| format!("failed {failed}")),
            self.tried.map(|tried| format!("tried {tried}")),
            self.target.clone(),
            self.probe.as_ref().map(|probe| format!("probe {probe}")),
        ];
        let details: Vec<_> = details.into_iter().flatten().collect();
        f.write_str(&self.code)?;
        if details.is_empty() { Ok(()) } else { write!(f, " ({})", details.join(", ")) }
    }
}

// ---- predictions, times

fn unpredicted(wanted: &ExpectedPrediction, runs: &[Run]) -> Option<Difference> {
    let made = || runs.iter().flat_map(|run| &run.assessment.predictions);
    let meets = |made: &Prediction| {
        made.consumer == wanted.consumer
            && wanted.method.as_ref().is_none_or(|method| *method == made.method)
            && wanted.outcome.is_none_or(|outcome| outcome == made.outcome)
            && wanted.class.is_none_or(|class| class == made.class)
            && wanted.extension_code.is_none_or(|code| Some(code) == made.extension_code)
            && wanted.extension_error_code.is_none_or(|code| Some(code) == made.extension_error_code)
            && wanted.portal_error.as_ref().is_none_or(|shown| Some(shown) == made.portal_error.as_ref())
    };
    if made().any(meets) {
        return None;
    }
    let seen: Vec<_> = made()
        .map(|made| {
            let parts = [
                Some(made.consumer.clone()),
                Some(made.method.clone()),
                Some(name(&made.outcome)),
                Some(name(&made.class)),
                made.extension_code.map(|code| format!("code {code}")),
                made.extension_error_code.map(|code| format!("health code {code}")),
                made.portal_error.clone(),
            ];
            words(parts)
        })
        .collect();
    let expected = words([
        Some(wanted.consumer.clone()),
        wanted.method.clone(),
        wanted.outcome.map(|outcome| name(&outcome)),
        wanted.class.map(|class| name(&class)),
        wanted.extension_code.map(|code| format!("code {code}")),
        wanted.extension_error_code.map(|code| format!("health code {code}")),
        wanted.portal_error.clone(),
    ]);
    let seen = if seen.is_empty() { "no prediction".to_owned() } else { seen.join("; ") };
    Some(difference("prediction", None, expected, seen))
}

fn words(parts: [Option<String>; 7]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn out_of_time(bound: &ExpectedTime, runs: &[Run]) -> Vec<Difference> {
    let concerned = |route: Route, step: &Step| {
        step.layer() == bound.layer
            && bound.leg.is_none_or(|leg| leg == step.leg)
            && bound.route.is_none_or(|wanted| wanted == route)
            && step.failure.is_none()
    };
    let observations =
        runs.iter().flat_map(|run| &run.record.observations).filter(|observation| observation.control.is_none());
    let steps: Vec<_> = observations
        .flat_map(|o| o.steps.iter().map(move |step| (o, step)))
        .filter(|(o, step)| concerned(o.route, step))
        .collect();
    if steps.is_empty() {
        return vec![difference("time", None, format!("a `{}` that succeeds", bound.layer), "none")];
    }
    let wrong = steps.into_iter().filter_map(|(observation, step)| {
        let took = Duration::from_micros(step.elapsed_us);
        let (limit, expected) = match (bound.at_least, bound.at_most) {
            (Some(least), _) if took < least => (least, "at least"),
            (_, Some(most)) if took > most => (most, "at most"),
            _ => return None,
        };
        let seen = format!("{took:?} (observation {}, {})", observation.id, observation.subject);
        Some(difference("time", None, format!("`{}` {expected} {limit:?}", bound.layer), seen))
    });
    wrong.collect()
}

// ---- proof by the lab's log

/// Targets that the report calls reached through the proxy although the lab's proxy carried no byte for them, nor, where
/// it ends TLS itself, answered a request.
fn uncarried(run: &Run, log: &[Event]) -> Vec<Difference> {
    let carried = |target: &Target| {
        let (authority, host) = (target.authority(), target.host.to_string());
        let names = |header: &str| header == host || header == authority;
        log.iter().any(|event| match event {
            Event::Tunnel { authority: to, up, down } => *to == authority && *up > 0 && *down > 0,
            Event::Request { by_proxy: true, host: Some(header), .. } => names(header),
            _ => false,
        })
    };
    let passed = run.assessment.cells.iter().filter(|cell| cell.route == Route::Proxy && cell.passed > 0);
    let silent = passed.map(|cell| &run.record.targets[cell.target]).filter(|target| !carried(target));
    silent
        .map(|target| {
            let expected = format!("bytes for {} cross the proxy both ways", target.authority());
            difference("proxied bytes", None, expected, "none in its log")
        })
        .collect()
}
