//! The JSON report as scripts read it: every field, type and word that schema 1 promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::support;

/// Scenarios that differ in what the report holds: every layer, hop, route and verdict occurs.
const SCENARIOS: [&str; 22] = [
    "healthy",
    "host-root-needed",
    "consumer-ignores-proxy",
    "dns-malformed",
    "dns-nxdomain",
    "dns-privatelink-public",
    "http-captive-portal",
    "http-silent",
    "local-clock-skew",
    "path-blocked-after-rejected",
    "proxy-auth-required",
    "proxy-optimistic-connect",
    "proxy-port-denied",
    "proxy-reports-refused",
    "storage-throttled",
    "tcp-connect-timeout",
    "tcp-family-broken",
    "tcp-intermittent",
    "tcp-port-filtered",
    "tls-intercepted",
    "tls-reset-by-name",
    "tunnel-reset",
];

/// All formats of `--format`.
const FORMATS: [&str; 7] = ["text", "json", "jsonl", "markdown", "junit", "prometheus", "html"];

fn snapreach(arguments: &[&str], folder: &std::path::Path) -> Output {
    let mut command: Command = support::snapreach();
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

/// Runs a scenario per thread, a few at once, since most of their time they wait.
fn for_each_scenario(check: impl Fn(&str) + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                while let Some(name) = SCENARIOS.get(next.fetch_add(1, std::sync::atomic::Ordering::SeqCst)) {
                    check(name);
                }
            });
        }
    });
}

/// A value in the report, with the path that led to it.
struct At<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> At<'a> {
    #[track_caller]
    fn get(&self, name: &str) -> At<'a> {
        let path = format!("{}.{name}", self.path);
        let value = self.value.get(name).unwrap_or_else(|| panic!("{path} is missing in {:#}", self.value));
        At { path, value }
    }

    #[track_caller]
    fn items(&self) -> Vec<At<'a>> {
        let items = self.value.as_array().unwrap_or_else(|| panic!("{} is no array: {}", self.path, self.value));
        let at = |(index, value)| At { path: format!("{}[{index}]", self.path), value };
        items.iter().enumerate().map(at).collect()
    }

    #[track_caller]
    fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_else(|| panic!("{} is no string: {}", self.path, self.value))
    }

    /// A string that says something.
    #[track_caller]
    fn words(&self) -> &'a str {
        let text = self.text();
        assert!(!text.trim().is_empty(), "{} is empty", self.path);
        text
    }

    #[track_caller]
    fn number(&self) -> u64 {
        self.value.as_u64().unwrap_or_else(|| panic!("{} is no whole number: {}", self.path, self.value))
    }

    #[track_caller]
    fn one_of(&self, allowed: &[&str]) -> &'a str {
        let text = self.text();
        assert!(allowed.contains(&text), "{} is `{text}`, not one of {allowed:?}", self.path);
        text
    }

    fn or_null(self) -> Option<At<'a>> {
        Some(self).filter(|at| !at.value.is_null())
    }
}

const ROUTES: [&str; 2] = ["direct", "proxy"];

fn check_context(context: &At<'_>) {
    context.get("cloud").one_of(&["public", "usgov", "china"]);
    if let Some(region) = context.get("region").or_null() {
        region.words();
    }
    for source in context.get("proxy_sources").items() {
        source.get("origin").words();
    }
    context.get("method").one_of(&["firstHostThenGuest", "onlyGuest", "firstGuestThenHost", "onlyHost"]);
    let consumers =
        ["vmsnapshot-linux", "vmsnapshot-linux-2019", "vmsnapshot-linux-2018", "vmsnapshot-windows", "waagent", "none"];
    context.get("consumer").one_of(&consumers);
    if let Some(proxy) = context.get("proxy").or_null() {
        assert!(proxy.text().starts_with("http") && !proxy.text().contains('@'), "{}", proxy.text());
    }
    assert!(!context.get("routes").items().is_empty());
    for route in context.get("routes").items() {
        route.one_of(&ROUTES);
    }
    for name in ["attempts", "connect_timeout_ms", "timeout_ms", "deadline_ms"] {
        assert!(context.get(name).number() > 0, "{name}");
    }
}

fn check_verdict(verdict: &At<'_>) {
    let status = verdict.get("status").one_of(&["clear", "degraded", "blocked", "inconclusive"]);
    let code = match status {
        "clear" | "degraded" => 0,
        "blocked" => 1,
        _ => 3,
    };
    assert_eq!(verdict.get("exit_code").number(), code, "{status}");
    let summary = verdict.get("summary").words();
    assert!(!summary.contains('\n') && !summary.ends_with('.'), "one sentence without a full stop: {summary}");
}

fn check_predictions(predictions: &At<'_>, chosen: &str) {
    for (index, prediction) in predictions.items().iter().enumerate() {
        prediction.get("consumer").words();
        let method = prediction.get("method").words();
        assert!(index > 0 || method == chosen, "the chosen method comes first: {method}");
        prediction.get("reason").words();
    }
}

fn check_findings(findings: &At<'_>, ids: &BTreeSet<u64>) {
    let severities = ["error", "warning", "info"];
    let mut order = Vec::new();
    let mut groups = BTreeSet::new();
    for finding in findings.items() {
        let code = finding.get("code").words();
        assert!(code.split_once('.').is_some_and(|(layer, name)| !layer.is_empty() && !name.is_empty()), "{code}");
        let hop = finding.get("hop").one_of(&[
            "local",
            "client_to_proxy",
            "proxy",
            "proxy_to_origin",
            "client_to_origin",
            "origin",
            "host",
            "consumer",
        ]);
        let severity = finding.get("severity").one_of(&severities);
        finding.get("confidence").one_of(&["proof", "reported", "differential", "heuristic", "unknown"]);
        finding.get("party").one_of(&["client", "resolver", "path", "proxy", "origin", "unknown"]);
        let route = finding.get("route").or_null().map(|route| route.one_of(&ROUTES));
        assert!(groups.insert((code, hop, route)), "two findings are {code} on {hop}, {route:?}");

        let targets: Vec<&str> = finding.get("targets").items().iter().map(At::words).collect();
        assert!(targets.windows(2).all(|pair| pair[0] < pair[1]), "{code}: {targets:?}");
        order.push((severities.iter().position(|s| *s == severity), std::cmp::Reverse(targets.len())));

        let (failed, tried) = (finding.get("failed").number(), finding.get("tried").number());
        assert!(failed <= tried, "{code}: {failed} of {tried}");
        finding.get("summary").words();
        for line in finding.get("evidence").items() {
            line.words();
        }
        let remedies = finding.get("remedies").items();
        assert!(severity == "info" || !remedies.is_empty(), "{code} leaves its reader alone");
        for remedy in remedies {
            remedy.get("title").words();
            for command in remedy.get("commands").items() {
                command.words();
            }
        }
        let seen: Vec<u64> = finding.get("observations").items().iter().map(At::number).collect();
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{code}: {seen:?}");
        assert!(seen.iter().all(|id| ids.contains(id)), "{code} refers to {seen:?} of {ids:?}");
    }
    assert!(order.is_sorted(), "errors first, then by number of targets: {order:?}");
}

/// Checks the observations and gives their ids.
fn check_observations(observations: &At<'_>) -> BTreeSet<u64> {
    let mut lookups = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for observation in observations.items() {
        let id = observation.get("id").number();
        assert!(id >= 1 && ids.insert(id), "id {id} occurs twice");
        let subject = observation.get("subject").words();
        let route = observation.get("route").one_of(&ROUTES);
        assert!(observation.get("attempt").number() >= 1);
        let steps = observation.get("steps").items();
        assert!(!steps.is_empty(), "observation {id} has no step");
        let is_lookup = steps[0].get("layer").text() == "resolve";
        if is_lookup {
            assert!(steps.len() == 1 && observation.get("parent").value.is_null());
            lookups.insert(id, (subject, route));
        } else if let Some(parent) = observation.get("parent").or_null() {
            // Lookups come first, so that a reader in one pass knows them.
            let (name, looked_up_for) =
                lookups.get(&parent.number()).unwrap_or_else(|| panic!("{} is no lookup before it", parent.path));
            assert_eq!(*looked_up_for, route);
            assert!(route == "proxy" || subject.starts_with(&format!("{name}:")), "{subject} from {name}");
        }
        let mut end = 0;
        for (index, step) in steps.iter().enumerate() {
            step.get("layer").one_of(&["resolve", "connect", "tunnel", "handshake", "request"]);
            let leg = step.get("leg").one_of(&["proxy", "origin"]);
            assert!(route == "proxy" || leg == "origin", "{} has no proxy", step.path);
            let start = step.get("start_us").number();
            assert!(start >= end, "{} begins before the step before it ended", step.path);
            end = start + step.get("elapsed_us").number();
            assert!(step.get("evidence").value.is_object(), "{}", step.path);
            if let Some(failure) = step.get("failure").or_null() {
                assert_eq!(index, steps.len() - 1, "{} failed and is not the last", step.path);
                failure.get("kind").words();
                failure.get("raw").text();
            }
        }
    }
    assert_eq!(ids.last().copied(), u64::try_from(ids.len()).ok().filter(|&n| n > 0), "ids run from 1 without gaps");
    ids
}

fn check_cells(report: &At<'_>, ids: &BTreeSet<u64>) {
    let targets = report.get("targets").items();
    for target in &targets {
        target.get("scheme").one_of(&["http", "https", "tls", "tcp"]);
        target.get("host").words();
        assert!((1..=65535).contains(&target.get("port").number()));
    }
    for cell in report.get("cells").items() {
        assert!(cell.get("target").number() < targets.len() as u64);
        cell.get("subject").words();
        cell.get("route").one_of(&ROUTES);
        let status = cell.get("status").one_of(&["ok", "warning", "error", "not_run"]);
        assert_eq!(cell.get("code").value.is_null(), matches!(status, "ok" | "not_run"), "{}", cell.path);
        assert!(cell.get("passed").number() <= cell.get("tried").number());
        assert!(status != "ok" || cell.get("passed").number() > 0, "{} is ok and nothing passed", cell.path);
        cell.get("elapsed_us").number();
        for id in cell.get("observations").items() {
            assert!(ids.contains(&id.number()), "{}", id.path);
        }
    }
    for not_run in report.get("not_run").items() {
        not_run.get("subject").words();
        not_run.get("reason").words();
    }
}

#[test]
fn every_field_of_schema_1_is_there_and_means_what_it_says() {
    let folder = tempfile::tempdir().unwrap();
    for_each_scenario(|name| {
        let output = snapreach(&["check", "--lab", name, "--format", "json"], folder.path());
        let value = support::report(&output);
        let report = At { path: name.to_owned(), value: &value };
        assert_eq!(report.get("schema").number(), 1);
        assert_eq!(report.get("kind").text(), "check");
        assert_eq!(report.get("tool").get("name").text(), "snapreach");
        assert_eq!(report.get("tool").get("version").text(), env!("CARGO_PKG_VERSION"));
        let started = report.get("started_at").words();
        let format = &time::format_description::well_known::Rfc3339;
        assert!(time::OffsetDateTime::parse(started, format).is_ok(), "{started}");
        report.get("elapsed_ms").number();

        check_context(&report.get("context"));
        check_verdict(&report.get("verdict"));
        check_predictions(&report.get("predictions"), report.get("context").get("method").text());
        let ids = check_observations(&report.get("observations"));
        check_findings(&report.get("findings"), &ids);
        check_cells(&report, &ids);

        let code = i32::try_from(report.get("verdict").get("exit_code").number()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{name}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name} has something to say beside the report");
    });
}

#[test]
fn strict_makes_a_degraded_verdict_fail_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    for (name, status, strict, plain) in
        [("healthy", "clear", 0, 0), ("tcp-intermittent", "degraded", 1, 0), ("tls-expired", "blocked", 1, 1)]
    {
        for (arguments, code) in [(&[][..], plain), (&["--strict"][..], strict)] {
            let all = [&["check", "--lab", name, "--format", "json"], arguments].concat();
            let output = snapreach(&all, folder.path());
            let report = support::report(&output);
            assert_eq!(report["verdict"]["status"], status);
            // The verdict itself does not change: only what is made of it.
            assert_eq!(report["verdict"]["exit_code"], plain, "{name}");
            assert_eq!(output.status.code(), Some(code), "{name} {arguments:?}");
        }
    }
}

#[test]
fn a_replayed_record_gives_the_same_bytes_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let extensions = ["txt", "json", "jsonl", "md", "xml", "prom", "html"];
    for_each_scenario(|name| {
        let (record, live): (_, Vec<String>) =
            (format!("{name}.record"), extensions.map(|extension| format!("{name}.{extension}")).into());
        let mut arguments = vec!["check", "--lab", name, "--record", &record];
        for file in &live {
            arguments.extend(["-o", file]);
        }
        let output = snapreach(&arguments, folder.path());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
        for (format, file) in FORMATS.iter().zip(&live) {
            let again = snapreach(&["replay", &record, "--format", format], folder.path());
            assert_eq!(again.status.code(), output.status.code(), "{name} {format}");
            let before = std::fs::read(folder.path().join(file)).unwrap();
            assert!(!before.is_empty());
            assert!(again.stdout == before, "{name}: replay differs as {format}");
        }
    });
}

#[test]
fn text_fits_a_terminal_except_what_is_there_to_be_copied() {
    let folder = tempfile::tempdir().unwrap();
    for_each_scenario(|name| {
        let json = format!("{name}.json");
        let output = snapreach(&["check", "--lab", name, "-vv", "--color", "never", "-o", &json], folder.path());
        let report: Value = serde_json::from_slice(&std::fs::read(folder.path().join(&json)).unwrap()).unwrap();
        let strings = |value: &Value| -> Vec<String> {
            value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let remedies = report["findings"].as_array().into_iter().flatten().filter_map(|f| f["remedies"].as_array());
        let forms = |remedy: &Value| remedy["forms"].as_array().cloned().unwrap_or_default();
        let places = remedies.flatten().flat_map(|remedy| std::iter::once(remedy.clone()).chain(forms(remedy)));
        let commands: Vec<String> = places.flat_map(|place| strings(&place["commands"])).collect();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{name}");
        assert!(!text.contains("\n\n\n"), "{name}: two empty lines\n{text}");
        for line in text.lines() {
            assert!(!line.ends_with(' ') && !line.contains(char::is_control), "{name}: {line:?}");
            let is_command = commands.iter().any(|command| command.lines().any(|part| part.trim() == line.trim()));
            // A word that is too long for a line stands alone on one.
            let is_word = !line.trim().trim_start_matches("| ").contains(' ');
            assert!(line.chars().count() <= 80 || is_command || is_word, "{name}: {line}");
        }
    });
}

#[test]
fn tools_that_read_json_can_read_the_report() {
    let Some(jq) = support::program("jq") else { return support::skipped("jq is not installed") };
    let folder = tempfile::tempdir().unwrap();
    for name in ["proxy-not-http", "tls-intercepted"] {
        for format in ["json", "jsonl"] {
            let output = snapreach(&["check", "--lab", name, "--format", format], folder.path());
            let file = folder.path().join("report");
            std::fs::write(&file, &output.stdout).unwrap();
            let parsed = Command::new(&jq).args(["-e", "."]).arg(&file).output().unwrap();
            assert!(parsed.status.success(), "{name} {format}: {}", String::from_utf8_lossy(&parsed.stderr));
        }
    }
}
