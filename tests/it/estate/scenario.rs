//! Scenario files, held against the estate.

use std::{fs, path::Path, time::Duration};

use snapreach::{
    classify,
    model::{Record, Route, Severity},
    scenario::{Scenario, Variables},
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
        let scenario = Scenario::parse(name, &toml, &Variables::default()).unwrap();
        let probe = &scenario.probes[0];
        let mut all: Vec<String> = probe.targets.clone();
        let mut option = |name: &str, value: String| all.extend([name.to_owned(), value]);
        let millis = |duration: Option<Duration>, default| duration.map_or(default, |d| d.as_millis());
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
        let mut wrong = Vec::new();
        let expect = &scenario.expect;
        if found.verdict.status != *expect.verdict.get_ref() {
            wrong.push(format!("status {:?}, expected {:?}", found.verdict.status, expect.verdict));
        }
        for wanted in expect.findings.iter().map(|f| f.get_ref()) {
            let met = found.findings.iter().any(|found| {
                found.code.0 == wanted.code
                    && wanted.hop.is_none_or(|hop| hop == found.hop)
                    && wanted.route.is_none_or(|route| Some(route) == found.route)
                    && wanted.confidence.is_none_or(|least| found.confidence <= least)
            });
            if !met {
                wrong.push(format!("missing: {wanted:?}"));
            }
        }
        for f in &found.findings {
            let code = f.code.0;
            let named = expect.findings.iter().any(|wanted| wanted.get_ref().code == code)
                || expect.allowed.iter().any(|a| a.get_ref() == code);
            if f.severity == Severity::Error && !named {
                wrong.push(format!("unexpected: {code}"));
            }
        }
        if !wrong.is_empty() || std::env::var_os("ESTATE_SHOW").is_some() {
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
