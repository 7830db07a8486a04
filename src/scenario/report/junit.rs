//! `JUnit` XML: one test case per scenario and round.

use std::io::{self, Write};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Suite, title};
use crate::{
    report::harmless,
    scenario::{Outcome, TestResult},
};

/// Writes the report.
pub(super) fn write(suite: &Suite<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut cases = TestSuite::new("snapreach scenarios");
    cases.set_time(suite.elapsed);
    cases.add_property(("started_at", suite.started_at));
    if let Some(proof) = suite.proof() {
        cases.add_property(("carried", proof.as_str()));
    }
    cases.add_test_cases(suite.outcomes.iter().map(case));
    let mut report = Report::new("snapreach");
    report.set_time(suite.elapsed);
    report.add_test_suite(cases);
    // Serialised in memory: the library wraps errors of the writer, and the kind (a closed pipe) would be lost.
    out.write_all(report.to_string().map_err(io::Error::other)?.as_bytes())
}

fn case(outcome: &Outcome) -> TestCase {
    let status = match &outcome.result {
        TestResult::Passed => TestCaseStatus::success(),
        TestResult::Failed(differences) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            let lines: Vec<String> = differences
                .iter()
                .map(|d| format!("{}: expected {}, seen {}", d.what, harmless(&d.expected), harmless(&d.seen)))
                .collect();
            status.set_message(lines.first().cloned().unwrap_or_default());
            status.set_description(lines.join("\n"));
            status
        }
        TestResult::NotRun(reason) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(&*harmless(reason));
            status
        }
    };
    let mut case = TestCase::new(&*harmless(&title(outcome)), status);
    case.set_classname("scenario");
    case.set_time(outcome.elapsed);
    let seed = outcome.seed.map_or_else(String::new, |seed| format!("\nseed {seed}"));
    case.set_system_out(format!("{}{seed}", harmless(&outcome.scenario.about)));
    case
}
