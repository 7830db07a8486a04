//! The JSON report of a suite, schema 1.

use std::io::{self, Write};

use serde::Serialize;

use super::{
    Suite,
    confusion::{Cell, Confusion},
    wire,
};
use crate::{
    model::{Finding, SCHEMA, Status, ToolInfo},
    report,
    scenario::{Carried, Difference, Outcome, TestResult, verdict},
};

/// Writes the report, pretty-printed, with a newline at the end.
pub(super) fn write(suite: &Suite<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (passed, failed, not_run) = suite.counts();
    let confusion = Confusion::of(suite.outcomes);
    let document = Document {
        schema: SCHEMA,
        tool: ToolInfo::default(),
        kind: "scenario",
        started_at: suite.started_at,
        elapsed_ms: millis(suite.elapsed),
        summary: Summary { passed, failed, not_run, exit_code: suite.exit_code() },
        carried: suite.carried(),
        scenarios: suite.outcomes.iter().map(Entry::of).collect(),
        confusion: confusion.cells().collect(),
    };
    report::pretty(&document, out)
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    tool: ToolInfo,
    kind: &'static str,
    started_at: &'a str,
    elapsed_ms: u64,
    summary: Summary,
    carried: Carried,
    scenarios: Vec<Entry<'a>>,
    confusion: Vec<Cell<'a>>,
}

#[derive(Serialize)]
struct Summary {
    passed: usize,
    failed: usize,
    not_run: usize,
    exit_code: u8,
}

#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    about: &'a str,
    round: u32,
    result: &'static str,
    /// Why it was not run.
    reason: Option<&'a str>,
    elapsed_ms: u64,
    seed: Option<u64>,
    expected: Expected,
    verdict: Option<Status>,
    findings: Vec<&'a Finding>,
    differences: &'a [Difference],
    carried: Carried,
}

#[derive(Serialize)]
struct Expected {
    verdict: Status,
    exit_code: u8,
    codes: Vec<String>,
}

impl<'a> Entry<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        let scenario = &outcome.scenario;
        let (reason, differences) = match &outcome.result {
            TestResult::Passed => (None, &[][..]),
            TestResult::Failed(differences) => (None, differences.as_slice()),
            TestResult::NotRun(reason) => (Some(reason.as_str()), &[][..]),
        };
        Self {
            name: &scenario.name,
            about: &scenario.about,
            round: outcome.round,
            result: wire(&outcome.result),
            reason,
            elapsed_ms: millis(outcome.elapsed),
            seed: outcome.seed,
            expected: Expected {
                verdict: *scenario.expect.verdict.get_ref(),
                exit_code: scenario.expect.exit_code(),
                codes: scenario.expect.findings.iter().map(|finding| finding.get_ref().code.clone()).collect(),
            },
            verdict: (!outcome.runs.is_empty()).then(|| verdict(&outcome.runs)),
            findings: outcome.runs.iter().flat_map(|run| &run.assessment.findings).collect(),
            differences,
            carried: outcome.carried,
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
