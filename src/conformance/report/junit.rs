//! `JUnit` XML: a suite for each proxy, a test case for each case and endpoint. Only what backups need, or suffer from,
//! fails (must and should); what could not be found out is skipped.

use std::{
    io::{self, Write},
    time::Duration,
};

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::{Report, words};
use crate::{
    conformance::{
        Judgement, Level, Outcome, Tried, Validation,
        fixes::{fixes, title},
        product::Product,
    },
    report::{self, harmless},
};

/// Writes the report.
pub(super) fn write(report: Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let validations = match report {
        Report::One(validation) => vec![validation],
        Report::Two(comparison) => vec![comparison.first, comparison.second],
    };
    let mut all = quick_junit::Report::new("snapreach");
    all.set_time(Duration::from_millis(validations.iter().map(|validation| validation.elapsed_ms).sum()));
    for validation in validations {
        all.add_test_suite(suite(validation));
    }
    // Serialised in memory: the library wraps errors of the writer, and the kind (a closed pipe) would be lost.
    out.write_all(all.to_string().map_err(io::Error::other)?.as_bytes())
}

fn suite(validation: &Validation) -> TestSuite {
    let mut suite = TestSuite::new(&*harmless(&format!("snapreach proxy {}", validation.context.proxy)));
    suite.set_time(Duration::from_millis(validation.elapsed_ms));
    suite.add_property(("verdict", report::status(validation.verdict.status)));
    suite.add_property(("summary", &*harmless(&validation.verdict.summary)));
    suite.add_property(("started_at", &*validation.started_at));
    for known in &validation.products {
        suite.add_property(("product", &*known.to_string()));
    }
    let products = validation.settings_of();
    for tried in &validation.tried {
        let cases = tried.judgements.iter().map(|judgement| case(tried, judgement, &products));
        suite.add_test_cases(cases);
    }
    let said: Vec<String> =
        validation.findings.iter().map(|finding| format!("{}: {}", finding.code, harmless(&finding.summary))).collect();
    if !said.is_empty() {
        suite.set_system_out(said.join("\n"));
    }
    suite
}

fn case(tried: &Tried, judgement: &Judgement, products: &[Product]) -> TestCase {
    let summary = harmless(&judgement.summary);
    let status = match (judgement.outcome, tried.level) {
        (Outcome::Fail, Level::Must | Level::Should) => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type(judgement.code.map_or_else(|| tried.level.to_string(), |code| code.to_string()));
            status.set_message(&*summary);
            status.set_description(description(tried, judgement, products));
            status
        }
        (Outcome::NotRun, _) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(&*summary);
            status
        }
        _ => TestCaseStatus::success(),
    };
    let remark = match (judgement.outcome, tried.level) {
        (Outcome::Warn, _) => Some("warning"),
        (Outcome::Fail, Level::May) => Some("may"),
        _ => None,
    };
    let name = match &judgement.subject {
        Some(subject) => format!("{} [{}]", tried.id, harmless(subject)),
        None => tried.id.to_owned(),
    };
    let mut case = TestCase::new(name, status);
    case.set_classname(format!("proxy.{}", tried.group));
    case.set_time(Duration::from_millis(tried.elapsed_ms));
    if let Some(remark) = remark {
        case.set_system_out(format!("{remark}: {}", description(tried, judgement, products)));
    }
    case
}

/// A judgement in a few lines.
fn description(tried: &Tried, judgement: &Judgement, products: &[Product]) -> String {
    let mut lines = vec![words::said(judgement), format!("{}: {} ({})", tried.level, tried.title, tried.reference)];
    lines.extend(judgement.evidence.iter().map(|line| format!("- {line}")));
    if let Some(remedy) = &judgement.remedy {
        lines.push(format!("fix: {}", title(remedy)));
        for fix in fixes(remedy, products) {
            lines.push(format!(
                "  {}{}",
                fix.product,
                if fix.note.is_empty() { String::new() } else { format!(": {}", fix.note) }
            ));
            lines.extend(words::lines(&fix).iter().map(|line| format!("    {line}")));
        }
    }
    lines.extend(judgement.reproduce.iter().map(|command| format!("try: {command}")));
    lines.iter().map(|line| harmless(line)).collect::<Vec<_>>().join("\n")
}
