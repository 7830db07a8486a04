//! Every built-in scenario, end to end: lab, probe, judgement, expectation.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use snapreach::{
    classify,
    lab::{Event, Lab},
    model::{Assessment, Record, Severity},
    probe,
    scenario::{self, BuiltIn, Scenario},
};

/// Scenarios at once: most of their time they wait.
const JOBS: usize = 6;

/// Runs a scenario and gives what was seen by us and by the other parties.
fn play(scenario: &Scenario) -> (Record, Assessment, Vec<Event>) {
    let lab = Lab::start(&scenario.lab).unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
    let plan = scenario.plan(lab.network());
    let progress = probe::Progress::default();
    let record = probe::runtime().unwrap().block_on(probe::run(plan, &progress, std::future::pending())).unwrap();
    let assessment = classify::assess(&record);
    (record, assessment, lab.log())
}

/// What of the expectation was not met.
pub(crate) fn differences(scenario: &Scenario, assessment: &Assessment) -> Vec<String> {
    let mut out = Vec::new();
    let expect = &scenario.expect;
    if assessment.verdict.status != expect.status {
        out.push(format!("status {:?}, expected {:?}", assessment.verdict.status, expect.status));
    }
    if assessment.verdict.exit_code != expect.exit_code {
        out.push(format!("exit code {}, expected {}", assessment.verdict.exit_code, expect.exit_code));
    }
    for wanted in &expect.findings {
        let met = assessment.findings.iter().any(|found| {
            found.code.0 == wanted.code
                && wanted.hop.is_none_or(|hop| hop == found.hop)
                && wanted.route.is_none_or(|route| Some(route) == found.route)
                && wanted.confidence.is_none_or(|least| found.confidence <= least)
        });
        if !met {
            out.push(format!("missing: {wanted:?}"));
        }
    }
    for found in &assessment.findings {
        let code = found.code.0;
        let named =
            expect.findings.iter().any(|wanted| wanted.code == code) || expect.allowed.iter().any(|a| a == code);
        if (found.severity == Severity::Error && !named) || expect.absent.iter().any(|absent| absent == code) {
            out.push(format!("unexpected: {} {:?} {:?}: {}", code, found.hop, found.route, found.summary));
        }
    }
    out
}

#[test]
fn every_built_in_scenario_comes_out_as_it_says() {
    let all: Vec<&BuiltIn> = scenario::builtins().collect();
    assert!(all.len() >= 60, "only {} scenarios", all.len());
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                while let Some(built_in) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let scenario = Scenario::parse(built_in.name, built_in.toml).unwrap();
                    let (_, assessment, _) = play(&scenario);
                    let differences = differences(&scenario, &assessment);
                    if !differences.is_empty() {
                        let found: Vec<_> = assessment
                            .findings
                            .iter()
                            .map(|f| {
                                format!(
                                    "{} {:?} {:?} {:?} {:?}: {}",
                                    f.code, f.severity, f.hop, f.confidence, f.route, f.summary
                                )
                            })
                            .collect();
                        let text = format!(
                            "{}\n  {}\n  found:\n    {}",
                            built_in.name,
                            differences.join("\n  "),
                            found.join("\n    ")
                        );
                        failures.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    assert!(failures.is_empty(), "{} of {} scenarios differ:\n{}", failures.len(), all.len(), failures.join("\n"));
}

#[test]
fn proxied_bytes_cross_the_proxy_and_the_endpoint_says_so() {
    let healthy = scenario::find("healthy").unwrap();
    let (record, _, log) = play(&Scenario::parse("healthy", healthy.toml).unwrap());
    let tunnels: Vec<_> = log
        .iter()
        .filter_map(|event| match event {
            Event::Tunnel { authority, up, down, .. } => Some((authority.clone(), *up, *down)),
            _ => None,
        })
        .collect();
    for target in &record.targets {
        let authority = target.authority();
        assert!(
            tunnels.iter().any(|(to, up, down)| *to == authority && *up > 0 && *down > 0),
            "no byte for {authority} crossed the proxy: {tunnels:?}"
        );
    }
    let by_proxy = |wanted: bool| {
        log.iter().filter(|event| matches!(event, Event::Request { by_proxy, .. } if *by_proxy == wanted)).count()
    };
    assert!(by_proxy(true) >= 3 && by_proxy(false) >= 3);
    // Nothing but harmless methods was ever sent.
    for event in &log {
        if let Event::Request { method, .. } = event {
            assert!(matches!(method.as_str(), "GET" | "HEAD"), "{event:?}");
        }
    }
}
