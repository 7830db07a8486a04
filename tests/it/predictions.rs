//! Runs of the snapshot extension's own code, played again by the lab: what a check observes must lead to what the
//! extension reported.

use std::{
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use snapreach::{
    model::Prediction,
    probe,
    scenario::{self, Outcome, Scenario, Setting, Variables},
};

/// One run a line: what stood around the extension, and what each build reported.
const OUTCOMES: &str = include_str!("../../src/azure/snapshot/outcomes.jsonl");

/// Runs whose outcome hangs on something that a check cannot observe, with what that is.
const UNOBSERVABLE: [(&str, &str); 6] = [
    ("guest-no-blobs", "the disks that the extension is told of"),
    ("hostfirst-pre-ok-do-556", "the answer to an order, which is never sent"),
    ("hostfirst-host-500-guest-ok", "the lab's wire server does not answer with an error"),
    ("hostfirst-host-404-guest-ok", "the same"),
    ("guest-slow8-all", "the lab would have to be slow for 8 s"),
    (
        "guest-proxy-hostonly-direct-open",
        "the lab plays every proxy that is named, and this one has nobody on its port",
    ),
];

/// Runs at once: most of their time they wait.
const JOBS: usize = 6;

const CONSUMERS: [&str; 3] = ["vmsnapshot-linux-2018", "vmsnapshot-linux-2019", "vmsnapshot-linux"];

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// The case as a scenario, for one consumer.
fn scenario_of(case: &Value, consumer: &str) -> String {
    let mut toml = String::from("about = \"x\"\n[lab]\n");
    let wire = list(case, "servers").iter().find(|server| server["ip"] == "168.63.129.16");
    let answer = match wire.and_then(|server| server["b"].as_str()) {
        None => "refuse",
        Some("host-ok") => "ok",
        Some(other) => panic!("host behaviour {other}"),
    };
    let _ = writeln!(toml, "[lab.host]\nanswer = \"{answer}\"");
    let conf = case["conf"].as_object().unwrap();
    if !conf.is_empty() {
        let lines: Vec<String> = conf.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap())).collect();
        let _ = writeln!(toml, "[lab.machine.files]\n\"/etc/waagent.conf\" = {:?}", lines.join("\n") + "\n");
    }
    for (name, logical, played) in [("acct1", "127.0.0.11", "20.60.0.11"), ("acct2", "127.0.0.12", "20.60.0.12")] {
        let _ = writeln!(toml, "[[lab.dns.names]]\nname = \"{name}.blob.core.windows.net\"\na = [\"{played}\"]");
        let at = |party: &str| format!("[[fault]]\nat = \"{party}\"\naddresses = [\"{played}\"]\nports = [443]\n");
        let mut rules = list(case, "nft").iter().filter_map(Value::as_str);
        let rule = rules.rfind(|rule| rule.contains(logical));
        if let Some(rule) = rule {
            let fault = if rule.ends_with("drop") {
                at("origin") + "conn = \"silent\""
            } else {
                at("network")
                    + "connect = { errno = \"EHOSTUNREACH\", icmp = { type = 3, code = 13, from = \"10.1.0.1\" } }"
            };
            let _ = writeln!(toml, "{fault}");
        }
        let server = list(case, "servers").iter().find(|server| server["ip"] == logical && server["port"] == 443);
        let Some(server) = server else {
            let _ = writeln!(toml, "{}conn = \"refuse\"", at("origin"));
            continue;
        };
        let tls = match server["cert"].as_str() {
            Some("ok") => None,
            Some("expired") => Some("{ certificate = \"expired\" }"),
            Some("intercept") => Some("{ certificate = \"intercepted\" }"),
            Some("wrong") => Some("{ certificate = \"wrong_name\" }"),
            None => Some("{ plaintext = \"HTTP/1.1 400 Bad Request\\r\\nContent-Length: 0\\r\\n\\r\\n\" }"),
            Some(other) => panic!("certificate {other}"),
        };
        if let Some(tls) = tls {
            let _ = writeln!(toml, "{}tls = {tls}", at("origin"));
        }
        let quota = |text: &str| {
            format!(
                "{{ reply = {{ status = 409, reason = \"Conflict\", headers = [\"x-ms-request-id: 1\"], body = \"{text}\" }} }}"
            )
        };
        let http = match server["b"].as_str().unwrap() {
            "ok" => None,
            "authz" => Some("{ storage = \"authorization_failure\" }".to_owned()),
            "rate" => Some(quota("The rate of snapshot blob calls is exceeded.")),
            "count" => Some(quota("The snapshot count against this blob has been exceeded.")),
            "503" => Some("{ storage = \"server_busy\" }".to_owned()),
            "302" => Some("{ page = \"redirect\" }".to_owned()),
            "470" => Some("{ page = \"azure_firewall\" }".to_owned()),
            "200" => Some("{ page = \"web_server\" }".to_owned()),
            "close" => Some("\"close\"".to_owned()),
            other => panic!("behaviour {other}"),
        };
        if let Some(http) = http {
            let _ = writeln!(toml, "{}http = {http}", at("origin"));
        }
    }
    let blobs = list(case, "blobs");
    let _ = writeln!(
        toml,
        "[[probe]]\ntargets = {}\nroutes = [{}]\nhost = true\ncontrols = false\nconsumer = \"{consumer}\"\nmethod = {}\n\
         [expect]\nverdict = \"clear\"",
        Value::from(blobs.iter().map(|blob| blob.as_str().unwrap().replace(":8443", "")).collect::<Vec<_>>()),
        if conf.contains_key("HttpProxy.Port") { "\"direct\", \"proxy\"" } else { "\"direct\"" },
        case["mode"],
    );
    toml
}

fn play(name: &str, toml: &str) -> Outcome {
    let scenario = Scenario::parse(name, toml, &Variables::default()).unwrap_or_else(|e| panic!("{e}\n{toml}"));
    let setting = Setting::default();
    probe::runtime().unwrap().block_on(scenario::run(Arc::new(scenario), &setting, std::future::pending()))
}

/// How the prediction differs from what was measured.
fn difference(case: &Value, consumer: &str) -> Option<String> {
    let id = case["id"].as_str().unwrap();
    let outcome = play(id, &scenario_of(case, consumer));
    let Prediction { method, extension_code, extension_error_code, reason, .. } =
        &outcome.runs[0].assessment.predictions[0];
    assert_eq!(case["mode"], **method);
    let measured = &case["results"][consumer];
    let expected = (measured["code"].as_i64(), measured["ext_error_code"].as_i64());
    let got = (extension_code.map(i64::from), extension_error_code.map(i64::from));
    (got != expected).then(|| format!("{id} as {consumer}: measured {expected:?}, predicted {got:?}: {reason}"))
}

#[test]
fn measured_outcomes_follow_from_what_a_check_observes() {
    let cases: Vec<Value> = OUTCOMES.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let played: Vec<(&Value, &str)> = cases
        .iter()
        .filter(|case| UNOBSERVABLE.iter().all(|(id, _)| case["id"] != *id))
        .flat_map(|case| CONSUMERS.map(|consumer| (case, consumer)))
        .filter(|(case, consumer)| case["results"][consumer].is_object())
        .collect();
    let wrong = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                while let Some((case, consumer)) = played.get(next.fetch_add(1, Ordering::Relaxed)) {
                    wrong.lock().unwrap().extend(difference(case, consumer));
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), played.len(), wrong.join("\n"));
    assert!(played.len() >= 60, "{}", played.len());
}
