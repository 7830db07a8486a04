//! What scenarios left behind, judged again: a change of the classifier shows here before any scenario is run.
//!
//! Regenerate with `cargo run --release -- scenario run scenarios --record-dir tests/golden/generated`, and read the
//! difference of the `verdict.json` files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use serde_json::{Value, json};
use snapreach::{
    classify,
    model::Record,
    scenario::{self, Scenario, Variables},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/generated")
}

/// The golden verdicts by scenario.
fn golden() -> BTreeMap<String, Value> {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            let text = fs::read_to_string(path.join("verdict.json")).unwrap();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), serde_json::from_str(&text).unwrap())
        })
        .collect()
}

fn codes(verdicts: &Value) -> BTreeSet<String> {
    let findings =
        verdicts.as_array().unwrap().iter().filter_map(|verdict| verdict["judgement"]["findings"].as_array());
    findings.flatten().map(|finding| finding["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_record_is_judged_as_it_was() {
    let mut changed = Vec::new();
    for (name, verdicts) in golden() {
        for verdict in verdicts.as_array().unwrap() {
            let path = folder().join(&name).join(verdict["record"].as_str().unwrap());
            let record = Record::read(fs::read(&path).unwrap().as_slice()).unwrap();
            let judged = scenario::judgement(&classify::assess(&record));
            if judged != verdict["judgement"] {
                changed.push(format!("{name}\nwas: {:#}\nis:  {judged:#}", verdict["judgement"]));
            }
        }
    }
    assert!(changed.is_empty(), "{} judgements changed:\n{}", changed.len(), changed.join("\n"));
}

#[test]
fn every_scenario_has_its_golden_record_and_meets_its_expectation() {
    let golden = golden();
    let names: BTreeSet<&str> = scenario::builtins().map(|built_in| built_in.name).collect();
    assert_eq!(
        golden.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        names,
        "regenerate, or remove what is left over"
    );
    for built_in in scenario::builtins() {
        let scenario = Scenario::parse(built_in.name, built_in.toml, &Variables::default()).unwrap();
        let found = codes(&golden[built_in.name]);
        for wanted in &scenario.expect.findings {
            assert!(
                found.contains(&wanted.get_ref().code),
                "{}: {} is not in its golden verdict",
                built_in.name,
                wanted.get_ref().code
            );
        }
        let verdicts = golden[built_in.name].as_array().unwrap();
        let expected = serde_json::to_value(scenario.expect.verdict.get_ref()).unwrap();
        assert!(verdicts.iter().any(|verdict| verdict["judgement"]["status"] == expected), "{}", built_in.name);
    }
}

/// Codes that no scenario can provoke yet, and why.
const UNPROVOKED: &[(&str, &str)] = &[
    ("transfer.refused", "a check moves no data; `bench` does, and has tests of its own"),
    ("transfer.stalled", "as above"),
    ("transfer.truncated", "as above"),
    ("transfer.broken", "as above"),
    ("transfer.corrupted", "as above"),
    ("triage.code_misleads", "needs the extension's own logs, which only `triage` reads"),
    ("triage.report_lost", "as above"),
    ("triage.host_refused", "as above"),
    ("triage.freeze_failed", "as above"),
    ("triage.too_late", "as above"),
    ("triage.no_disks", "as above"),
    ("meta.unclassified", "is what no row knows; a scenario that provoked it would ask for a row"),
];

#[test]
fn every_code_is_provoked_by_a_scenario_and_covered_by_a_golden_record() {
    let golden = golden();
    let expected: BTreeSet<String> = scenario::builtins()
        .flat_map(|built_in| {
            let scenario = Scenario::parse(built_in.name, built_in.toml, &Variables::default()).unwrap();
            scenario.expect.findings.into_iter().map(|finding| finding.into_inner().code)
        })
        .collect();
    let covered: BTreeSet<String> = golden.values().flat_map(codes).collect();
    let mut missing = Vec::new();
    for entry in classify::catalogue::entries() {
        let code = entry.code.0;
        assert!(!entry.title.is_empty() && entry.page.contains(code), "{code} is not explained");
        let excused = UNPROVOKED.iter().any(|(unprovoked, _)| *unprovoked == code);
        let (provoked, covered) = (expected.contains(code), covered.contains(code));
        assert!(!(excused && provoked), "{code} is provoked: strike it from the list");
        if !(excused || provoked && covered) {
            missing.push(json!({ "code": code, "provoked": provoked, "covered": covered }).to_string());
        }
    }
    assert!(missing.is_empty(), "{} codes:\n{}", missing.len(), missing.join("\n"));
}
