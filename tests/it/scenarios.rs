//! Every built-in scenario, end to end: lab, probe, judgement, expectation.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use snapreach::{
    lab::Event,
    probe,
    scenario::{self, BuiltIn, Outcome, Scenario, Setting, TestResult, Variables},
};

/// Scenarios at once: most of their time they wait.
const JOBS: usize = 6;

fn play(built_in: &BuiltIn) -> Outcome {
    let scenario = Scenario::parse(built_in.name, built_in.toml, &Variables::default()).unwrap();
    let setting = Setting::default();
    let run = scenario::run(Arc::new(scenario), &setting, std::future::pending());
    probe::runtime().unwrap().block_on(run)
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
                    let outcome = play(built_in);
                    if outcome.result != TestResult::Passed {
                        failures.lock().unwrap().push(format!("{}: {:#?}", built_in.name, outcome.result));
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
    let outcome = play(scenario::find("healthy").unwrap());
    let log = &outcome.log;
    let tunnels: Vec<_> = log
        .iter()
        .filter_map(|event| match event {
            Event::Tunnel { authority, up, down, .. } => Some((authority.clone(), *up, *down)),
            _ => None,
        })
        .collect();
    for target in &outcome.runs[0].record.targets {
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
    for event in log {
        if let Event::Request { method, .. } = event {
            assert!(matches!(method.as_str(), "GET" | "HEAD"), "{event:?}");
        }
    }
}
