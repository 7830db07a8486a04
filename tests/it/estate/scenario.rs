//! Scenario files, held against the estate.

use std::{fs, path::Path};

use snapreach::{
    classify,
    model::{Record, Route},
    scenario::Scenario,
};

use super::Estate;

impl Estate {
    /// What of a scenario's expectations is not met here; `name` is that of a built-in one, or of one in `tests/estate`.
    pub(super) fn differences(&self, name: &str, arguments: &[&str]) -> Vec<String> {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/estate").join(name).with_extension("toml");
        let toml = match snapreach::scenario::find(name) {
            Some(built_in) => built_in.toml.to_owned(),
            None => fs::read_to_string(&own).unwrap_or_else(|error| panic!("{}: {error}", own.display())),
        };
        let scenario = Scenario::parse(name, &toml).unwrap();
        let probe = &scenario.probe;
        let mut all: Vec<String> = probe.targets.clone();
        let mut option = |name: &str, value: String| all.extend([name.to_owned(), value]);
        let millis = |duration: Option<std::time::Duration>, default| duration.map_or(default, |d| d.as_millis());
        option("--attempts", probe.attempts.unwrap_or(1).to_string());
        option("--connect-timeout", format!("{}ms", millis(probe.connect_timeout, 500)));
        option("--timeout", format!("{}ms", millis(probe.timeout, 1500)));
        if !probe.ports.is_empty() {
            option("--ports", probe.ports.iter().map(u16::to_string).collect::<Vec<_>>().join(","));
        }
        if let Some(concurrency) = probe.concurrency {
            option("--concurrency", concurrency.to_string());
        }
        let route = match probe.routes[..] {
            [Route::Direct] => "direct",
            [Route::Proxy] => "proxy",
            _ => "both",
        };
        option("--route", route.into());
        if !arguments.contains(&"--proxy") {
            all.push("--no-proxy".into());
        }
        let all: Vec<&str> = all.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        let record = self.folder.path().join("record.jsonl");
        self.check(&[&all[..], &["--record", record.to_str().unwrap()]].concat());
        let record = Record::read(&fs::read(record).unwrap()[..]).unwrap();
        let found = classify::assess(&record);
        let mut wrong = crate::scenarios::differences(&scenario, &found);
        if !wrong.is_empty() {
            wrong.extend(found.findings.iter().map(|f| {
                format!(
                    "  found {} {:?} {:?} {:?} {:?}: {} {:?}",
                    f.code, f.severity, f.hop, f.confidence, f.route, f.summary, f.evidence
                )
            }));
            wrong.insert(0, format!("{name} {arguments:?}"));
        }
        wrong
    }
}

/// Fails with all that differs.
pub(super) fn none(differences: &[String]) {
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
