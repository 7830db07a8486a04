use std::sync::Arc;

use super::*;
use crate::scenario::{Difference, Scenario, Variables};

fn scenario(name: &str, verdict: &str, code: &str) -> Arc<Scenario> {
    let toml = format!(
        "about = \"Shows <b>{name}</b>.\"\n[lab]\n[[probe]]\ntargets = [\"https://a.example\"]\n[expect]\n\
         verdict = \"{verdict}\"\nfindings = [{{ code = \"{code}\" }}]\n"
    );
    Arc::new(Scenario::parse(name, &toml, &Variables::default()).unwrap())
}

fn outcome(scenario: Arc<Scenario>, result: TestResult) -> Outcome {
    Outcome { result, ..Outcome::not_run(scenario, String::new()) }
}

fn outcomes() -> Vec<Outcome> {
    let missing = Difference {
        what: "finding",
        code: Some("tls.expired".into()),
        found: None,
        expected: "tls.expired (hop origin)".into(),
        seen: "tls.name_mismatch".into(),
    };
    let unexpected = Difference {
        what: "finding",
        code: None,
        found: Some("tls.name_mismatch"),
        expected: "no other error".into(),
        seen: "tls.name_mismatch (\u{1b}[31m|x)".into(),
    };
    let carried = Carried { tunnels: 2, up: 700, down: 9000 };
    vec![
        Outcome { carried, ..outcome(scenario("good", "blocked", "dns.nxdomain"), TestResult::Passed) },
        Outcome {
            seed: Some(42),
            round: 2,
            ..outcome(scenario("bad", "blocked", "tls.expired"), TestResult::Failed(vec![missing, unexpected]))
        },
        outcome(scenario("elsewhere", "clear", "http.slow"), TestResult::NotRun("it needs a proxy".into())),
    ]
}

fn written(format: Format) -> String {
    let outcomes = outcomes();
    let elapsed = Duration::from_millis(1500);
    let suite = Suite { outcomes: &outcomes, started_at: "2026-01-01T00:00:00Z", elapsed };
    let mut out = Vec::new();
    write(format, &suite, &Style::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn text_shows_what_differs_and_why_something_was_not_run() {
    insta::assert_snapshot!(written(Format::Text));
}

#[test]
fn markdown_ends_with_the_matrix() {
    insta::assert_snapshot!(written(Format::Markdown));
}

#[test]
fn junit_counts_failures_and_skips() {
    let xml = written(Format::Junit);
    assert!(xml.contains("tests=\"3\" skipped=\"1\" failures=\"1\""), "{xml}");
    assert!(xml.contains("<skipped message=\"it needs a proxy\""), "{xml}");
    assert!(xml.contains("expected tls.expired (hop origin), seen tls.name_mismatch"), "{xml}");
    assert!(!xml.contains('\u{1b}'), "{xml}");
}

#[test]
fn json_holds_everything_and_the_exit_code() {
    let report: serde_json::Value = serde_json::from_str(&written(Format::Json)).unwrap();
    assert_eq!(report["schema"], 1);
    assert_eq!(report["kind"], "scenario");
    assert_eq!(report["summary"]["exit_code"], 1);
    assert_eq!(report["scenarios"][1]["result"], "failed");
    assert_eq!(report["scenarios"][1]["seed"], 42);
    assert_eq!(report["scenarios"][2]["reason"], "it needs a proxy");
    assert_eq!(report["carried"]["up"], 700);
    let cells = report["confusion"].as_array().unwrap();
    assert!(cells.iter().any(|cell| cell["expected"] == "tls.expired" && cell["found"] == "tls.name_mismatch"));
    assert!(cells.iter().any(|cell| cell["expected"] == "dns.nxdomain" && cell["found"] == "dns.nxdomain"));
    assert!(!cells.iter().any(|cell| cell["expected"] == "http.slow"), "what was not run counts nowhere");
}

#[test]
fn the_exit_code_is_never_a_pass_for_what_was_not_run() {
    let code = |keep: &[usize]| {
        let all = outcomes();
        let outcomes: Vec<Outcome> = keep.iter().map(|&at| all[at].clone()).collect();
        Suite { outcomes: &outcomes, started_at: "", elapsed: Duration::ZERO }.exit_code()
    };
    assert_eq!((code(&[0]), code(&[0, 1, 2]), code(&[0, 2]), code(&[])), (0, 1, 3, 3));
}
