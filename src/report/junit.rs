//! `JUnit` XML: one test case per target and route. Warnings pass, with what they say in `system-out`; what was not
//! measured is skipped; findings that belong to no target stand in the suite's `system-out`.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
    time::Duration,
};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::words::{self, Reasons, clean};
use crate::model::{Assessment, Cell, CellStatus, Code, Finding, Record, Route, Severity, Target};

/// Writes the report.
pub(super) fn write(record: &Record, assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    let report = report(record, assessment);
    // Serialised in memory: the library wraps errors of the writer, and the kind (a closed pipe) would be lost.
    let text = report.to_string().map_err(io::Error::other)?;
    out.write_all(text.as_bytes())
}

fn report(record: &Record, assessment: &Assessment) -> Report {
    let time = Duration::from_millis(record.elapsed_ms);
    let index = Index::new(&assessment.findings);
    let reasons = Reasons::new(record);
    let mut suite = TestSuite::new("snapreach");
    suite.set_time(time);
    suite.add_property(("verdict", words::wire(&assessment.verdict.status).as_str()));
    suite.add_property(("summary", &*clean(&assessment.verdict.summary)));
    suite.add_property(("started_at", &*clean(&record.started_at)));
    for cell in &assessment.cells {
        if let Some(case) = case(record, cell, &index, &reasons) {
            suite.add_test_case(case);
        }
    }
    let known: HashSet<String> = record.targets.iter().map(Target::authority).collect();
    let belongs_to_a_case = |finding: &&Finding| finding.targets.iter().any(|target| known.contains(target));
    let apart: Vec<String> =
        assessment.findings.iter().filter(|finding| !belongs_to_a_case(finding)).map(description).collect();
    if !apart.is_empty() {
        suite.set_system_out(apart.join("\n\n"));
    }
    let mut report = Report::new("snapreach");
    report.set_time(time);
    report.add_test_suite(suite);
    report
}

fn case(record: &Record, cell: &Cell, index: &Index<'_>, reasons: &Reasons<'_>) -> Option<TestCase> {
    let target = record.targets.get(cell.target)?;
    let authority = target.authority();
    let findings = index.of(&authority, cell.route);
    let status = match cell.status {
        CellStatus::Ok | CellStatus::Warning(_) => TestCaseStatus::success(),
        CellStatus::NotRun => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(&*clean(reasons.of(&authority, cell.route).unwrap_or("not measured")));
            status
        }
        CellStatus::Error(code) => failure(code, &findings),
    };
    let mut case = TestCase::new(&*clean(&target.to_string()), status);
    case.set_classname(cell.route.to_string());
    case.set_time(Duration::from_micros(cell.elapsed_us));
    let beside: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity != Severity::Error)
        .map(|finding| description(finding))
        .collect();
    match (beside.is_empty(), cell.status) {
        (false, _) => {
            case.set_system_out(beside.join("\n\n"));
        }
        (true, CellStatus::Warning(code)) => {
            case.set_system_out(format!("warning {code}"));
        }
        (true, _) => {}
    }
    Some(case)
}

fn failure(code: Code, findings: &[&Finding]) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type(code.0);
    let errors: Vec<&Finding> = findings.iter().copied().filter(|f| f.severity == Severity::Error).collect();
    let exact = errors.iter().find(|finding| finding.code == code);
    status.set_message(exact.map_or_else(|| code.to_string(), |finding| clean(&finding.summary).into_owned()));
    if !errors.is_empty() {
        status.set_description(errors.iter().map(|finding| description(finding)).collect::<Vec<_>>().join("\n\n"));
    }
    status
}

/// A finding in a few lines.
fn description(finding: &Finding) -> String {
    let severity = words::severity(finding.severity);
    let mut lines = vec![
        format!("{severity} {}: {}", finding.code, clean(&finding.summary)),
        format!("for the {}; {}", words::team(finding), words::confidence(finding.confidence)),
    ];
    lines.extend(finding.evidence.iter().map(|line| format!("- {}", clean(line))));
    for remedy in &finding.remedies {
        lines.push(format!("fix: {}", clean(&remedy.title)));
        lines.extend((!remedy.note.is_empty()).then(|| format!("    {}", clean(&remedy.note))));
        lines.extend(remedy.commands.iter().flat_map(|c| c.lines()).map(|line| format!("    {}", clean(line))));
    }
    lines.join("\n")
}

/// Findings by target.
struct Index<'a>(HashMap<&'a str, Vec<&'a Finding>>);

impl<'a> Index<'a> {
    fn new(findings: &'a [Finding]) -> Self {
        let mut by_target: HashMap<&str, Vec<&Finding>> = HashMap::new();
        for finding in findings {
            for target in &finding.targets {
                by_target.entry(target).or_default().push(finding);
            }
        }
        Self(by_target)
    }

    /// What was found for a target on a route, or on no route in particular.
    fn of(&self, authority: &str, route: Route) -> Vec<&'a Finding> {
        let all = self.0.get(authority).map(Vec::as_slice).unwrap_or_default();
        all.iter().copied().filter(|finding| finding.route.is_none_or(|r| r == route)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{classify::codes, model::Hop, report::fixtures};

    fn read_back(case: &fixtures::Case) -> Report {
        let mut out = Vec::new();
        write(&case.record, &case.assessment, &mut out).unwrap();
        Report::deserialize_from_str(std::str::from_utf8(&out).unwrap()).unwrap()
    }

    #[test]
    fn hostile_text_survives_a_round_trip_as_text() {
        let case = fixtures::blocked();
        let report = read_back(&case);
        assert_eq!((report.tests, report.failures, report.skipped), (6, 4, 0));
        let denied = report.test_suites[0]
            .test_cases
            .iter()
            .find_map(|case| match &case.status {
                TestCaseStatus::NonSuccess { ty: Some(ty), message: Some(message), .. }
                    if ty.as_str() == "proxy.port_denied" =>
                {
                    Some(message.to_string())
                }
                _ => None,
            })
            .unwrap();
        assert_eq!(denied, clean(&case.assessment.findings[2].summary));
        assert!(denied.contains("<script>") && denied.contains("]]>"), "nothing is lost: {denied}");
    }

    #[test]
    fn findings_about_no_target_stand_in_the_suite() {
        let mut case = fixtures::blocked();
        let mut host = fixtures::finding(codes::HOST_UNREACHABLE, Hop::Host, Severity::Warning);
        host.targets = vec!["168.63.129.16:80".into()];
        case.assessment.findings.push(host);
        let out = read_back(&case).test_suites[0].system_out.clone().unwrap();
        assert!(out.contains("config.proxy_conflict") && out.contains("host.unreachable"), "{}", out.as_str());
        assert!(!out.contains("tls.intercepted"), "{}", out.as_str());
    }

    #[test]
    fn what_was_not_run_is_skipped_with_the_reason() {
        let report = read_back(&fixtures::interrupted());
        assert_eq!((report.tests, report.failures, report.skipped), (2, 0, 1));
        let skipped = report.test_suites[0].test_cases.iter().find_map(|case| match &case.status {
            TestCaseStatus::Skipped { message, .. } => message.clone(),
            _ => None,
        });
        assert_eq!(skipped.unwrap().as_str(), "the run was interrupted");
    }
}
