//! What scenarios left behind, judged without one of the comparisons at a time.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{
    classify::{assess_without, compare},
    model::{Assessment, Record},
};

/// The part of a judgement that a reader acts on.
fn judged(assessment: &Assessment) -> String {
    let findings: Vec<_> = assessment
        .findings
        .iter()
        .map(|f| (f.code, f.hop, f.severity, f.confidence, f.route, &f.targets, &f.evidence, &f.summary))
        .collect();
    format!("{:?} {findings:?}", assessment.verdict.status)
}

#[test]
fn every_comparison_changes_what_is_said_about_some_scenario() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/generated");
    let records = fs::read_dir(folder).unwrap().flat_map(|scenario| fs::read_dir(scenario.unwrap().path()).unwrap());
    let records: Vec<Record> = records
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .map(|path| Record::read(fs::read(path).unwrap().as_slice()).unwrap())
        .collect();
    let mut idle: BTreeSet<&str> = compare::names().collect();
    for record in &records {
        let whole = judged(&assess_without(record, None));
        idle.retain(|name| judged(&assess_without(record, Some(name))) == whole);
    }
    assert!(idle.is_empty(), "no golden record needs {idle:?}");
}
