//! What many machines measured at once, added up.

use std::collections::BTreeSet;

use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{ArmInfo, Environment, Load, Run, Settings, Status, Verdict, run::KIND};
use crate::{
    model::{SCHEMA, ToolInfo},
    report::plural,
};

/// Different names of one thing that are listed; the rest is counted.
const MAX_NAMES: usize = 3;

/// Adds runs of many machines: counts and histograms exactly, time series by their offset from each run's begin, also
/// connections and rates. They may have gone to different hosts, but must have done the same there.
///
/// # Errors
/// When there are not two runs, one is given twice, or they did not do the same. A comparison is never added: its arms
/// were measured in turn, at other moments on each machine, so that their sums are what no path ever carried.
pub fn merge(runs: &[Run]) -> Result<Run, MergeError> {
    let [first, _, ..] = runs else { return Err(MergeError::TooFew) };
    for (run, n) in runs.iter().zip(1..) {
        if run.gate.is_some() || run.arms.len() != 1 {
            return Err(MergeError::Comparison { run: n });
        }
        if let Some(before) = runs[..n - 1].iter().position(|before| before == run) {
            return Err(MergeError::Twice { first: before + 1, second: n });
        }
        let what = differences(first, run);
        if !what.is_empty() {
            return Err(MergeError::Differ { run: n, what });
        }
    }
    let settings = settings(runs);
    let longest = runs.iter().map(|run| run.elapsed_ms).max().unwrap_or(0);
    let (elapsed_ms, together) = span(runs).unwrap_or((longest, true));
    let mut notes: Vec<String> = Vec::new();
    if !together {
        notes.push(APART.to_owned());
    }
    for note in runs.iter().flat_map(|run| &run.notes) {
        if !notes.contains(note) {
            notes.push(note.clone());
        }
    }
    let arms = vec![arm(runs)];
    Ok(Run {
        schema: SCHEMA,
        tool: ToolInfo::default(),
        kind: KIND.to_owned(),
        verdict: verdict(runs, &settings, &arms),
        environment: environment(runs),
        interrupted: runs.iter().any(|run| run.interrupted),
        // RFC 3339 in UTC sorts by time.
        started_at: runs.iter().map(|run| &run.started_at).min().unwrap_or(&first.started_at).clone(),
        elapsed_ms,
        settings,
        arms,
        gate: None,
        notes,
    })
}

const APART: &str = "The runs were not all under way at the same time: the sums are not what was carried at once.";

/// What two runs did not do alike.
fn differences(a: &Run, b: &Run) -> Vec<&'static str> {
    let (one, other) = (&a.settings, &b.settings);
    let (first, second) = (&a.arms[0], &b.arms[0]);
    [
        ("workload", one.workload == other.workload),
        ("load model", matches!(one.load, Load::Closed) == matches!(other.load, Load::Closed)),
        ("duration", one.duration_ms == other.duration_ms),
        ("bytes of a transfer", one.bytes == other.bytes),
        ("timeout", one.timeout_ms == other.timeout_ms),
        ("resumption of TLS sessions", one.resumed == other.resumed),
        ("verification of bytes", one.verify == other.verify),
        ("way (direct, or through a proxy)", first.proxy.is_some() == second.proxy.is_some()),
        ("form of requests", first.form == second.form),
        ("length of ticks", first.measurement.tick_us == second.measurement.tick_us),
    ]
    .into_iter()
    .filter_map(|(what, same)| (!same).then_some(what))
    .collect()
}

/// What was measured, all together.
fn arm(runs: &[Run]) -> ArmInfo {
    let arms = || runs.iter().flat_map(|run| &run.arms);
    let mut sum = runs[0].arms[0].clone();
    arms().skip(1).for_each(|arm| sum.measurement.add(&arm.measurement));
    sum.label = names(arms().map(|arm| arm.label.as_str()));
    sum.target = names(arms().map(|arm| arm.target.as_str()));
    sum.proxy = sum.proxy.is_some().then(|| names(arms().filter_map(|arm| arm.proxy.as_deref())));
    sum
}

/// The settings of all generators together.
fn settings(runs: &[Run]) -> Settings {
    let mut all = runs[0].settings.clone();
    for other in runs[1..].iter().map(|run| &run.settings) {
        all.connections = all.connections.saturating_add(other.connections);
        if let (Load::Open { rate }, Load::Open { rate: more }) = (&mut all.load, other.load) {
            *rate += more;
        }
        all.warmup_ms = all.warmup_ms.max(other.warmup_ms);
    }
    all
}

fn environment(runs: &[Run]) -> Environment {
    let all = || runs.iter().map(|run| &run.environment);
    Environment {
        system: names(all().map(|environment| environment.system.as_str())),
        processors: all().fold(0, |sum, environment| sum.saturating_add(environment.processors)),
        congestion: names(all().map(|environment| environment.congestion.as_str())),
        machines: all().fold(0, |sum, environment| sum.saturating_add(environment.machines)),
    }
}

/// Milliseconds from the first begin to the last end, and whether there was a moment at which all were under way;
/// `None`: somebody's clock cannot be read.
fn span(runs: &[Run]) -> Option<(u64, bool)> {
    let mut times = Vec::with_capacity(runs.len());
    for run in runs {
        let begin = OffsetDateTime::parse(&run.started_at, &Rfc3339).ok()?;
        let length = Duration::milliseconds(i64::try_from(run.elapsed_ms).ok()?);
        times.push((begin, begin.checked_add(length)?));
    }
    let (begins, ends) = (|| times.iter().map(|(begin, _)| *begin), || times.iter().map(|(_, end)| *end));
    let whole = ends().max()? - begins().min()?;
    Some((u64::try_from(whole.whole_milliseconds()).ok()?, begins().max()? < ends().min()?))
}

/// What follows; what one machine could not measure is missing in the sum.
fn verdict(runs: &[Run], settings: &Settings, arms: &[ArmInfo]) -> Verdict {
    let own = super::verdict(settings, arms, None);
    let mut bad = runs.iter().filter(|run| run.verdict.status == Status::Inconclusive);
    let Some(first) = bad.next() else { return own };
    let (count, machines) = (1 + bad.count(), plural(runs.len(), "run"));
    let summary = format!("{count} of {machines} measured nothing to rely on: {}", first.verdict.summary);
    Verdict { status: Status::Inconclusive, summary, exit_code: first.verdict.exit_code }
}

/// The different ones, the first few of them.
fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let all: BTreeSet<&str> = all.collect();
    let more = all.len().saturating_sub(MAX_NAMES);
    let shown: Vec<&str> = all.into_iter().take(MAX_NAMES).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// Why runs cannot be added. Runs are numbered from 1, in the order in which they were given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Fewer than two.
    #[error("there is nothing to add up: give the saved runs of at least two machines")]
    TooFew,
    /// The same run again.
    #[error("runs {first} and {second} are the same: give each once")]
    Twice {
        /// The run.
        first: usize,
        /// The same.
        second: usize,
    },
    /// A comparison of two paths.
    #[error(
        "run {run} compares two paths, whose slices on other machines were other moments: compare on each machine by itself"
    )]
    Comparison {
        /// Which.
        run: usize,
    },
    /// They did not do the same.
    #[error("run {run} differs from the first in {}: only what did the same can be added", what.join(", "))]
    Differ {
        /// Which.
        run: usize,
        /// In what.
        what: Vec<&'static str>,
    },
}
