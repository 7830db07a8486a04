//! `snapreach scenario` as a user meets it.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use snapreach::lab::{Lab, LabSpec};
use tempfile::TempDir;

use crate::support::{report, snapreach};

/// A scenario that passes within milliseconds.
const GOOD: &str = r#"about = "The endpoint answers."
[lab]

[[probe]]
targets = ["https://acct.blob.core.windows.net"]

[expect]
verdict = "clear"
"#;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    snapreach().args(["scenario", "run"]).args(arguments).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn files_that_cannot_be_used_exit_2_and_name_the_line() {
    let cases = [
        ("typo.toml", GOOD.replace("targets", "tragets"), "typo.toml:5:1: ", "`targets`"),
        ("fault.toml", format!("{GOOD}[[fault]]\nat = \"origin\"\ntls = \"rest\"\n"), "fault.toml:11:7: ", "`reset`"),
        ("impossible.toml", GOOD.replace("\"clear\"", "\"clear\"\nexit_code = 1"), "impossible.toml:9:13: ", "exits 0"),
        (
            "variable.toml",
            GOOD.replace("acct.", "${ACCOUNT_OF_NOBODY}."),
            "variable.toml:5:12: ",
            "--var ACCOUNT_OF_NOBODY=VALUE",
        ),
        ("broken.toml", GOOD.replace("[lab]", "[lab"), "broken.toml:2:5: ", ""),
        ("empty.toml", String::new(), "empty.toml:1:1: ", "`about`"),
    ];
    let files: Vec<(&str, &str)> = cases.iter().map(|(name, text, ..)| (*name, text.as_str())).collect();
    let folder = folder(&files);
    for (name, _, place, allowed) in &cases {
        let output = run(folder.path(), &[name]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(stderr.contains(place) && stderr.contains(allowed), "{name}: {stderr}");
        assert!(output.stdout.is_empty(), "{name}: nothing was run");
    }
    // All of them at once: each is told.
    let stderr = text(&run(folder.path(), &["."]).stderr);
    assert!(cases.iter().all(|(name, ..)| stderr.contains(name)), "{stderr}");
}

#[test]
fn options_that_cannot_be_used_exit_2() {
    let folder = folder(&[("good.toml", GOOD)]);
    for (arguments, part) in [
        (&["good.toml", "--filter", "goof"][..], "did you mean `good`"),
        (&["helthy"], "did you mean the built-in `healthy`"),
        (&["good.toml", "--var", "TOPSECRET"], "NAME=VALUE"),
        (&["good.toml", "--proxy", "http://u:TOPSECRET@p"], "needs a port"),
        (&["good.toml", "--format", "html"], "markdown"),
        (&["good.toml", "-o", "x.html"], "junit"),
        (&["good.toml", "--repeat", "0"], "1..=100000"),
        (&["good.toml", "good.toml", "--record-dir", "r"], "one record for each name"),
        (&["good.toml", "--jobs", "0"], "--jobs"),
        (&["good.toml", "--ca-file", "nothing.pem"], "nothing.pem"),
    ] {
        let output = run(folder.path(), arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part) && !stderr.contains("TOPSECRET"), "{arguments:?}: {stderr}");
    }
    assert!(!folder.path().join("x.html").exists());
}

#[test]
fn a_scenario_that_differs_says_how_and_exits_1() {
    let wrong =
        GOOD.replace("[[probe]]", "[[fault]]\nat = \"origin\"\ntls = { certificate = \"expired\" }\n\n[[probe]]");
    let folder = folder(&[("a-wrong.toml", &wrong), ("b-good.toml", GOOD)]);
    let output = run(folder.path(), &[".", "-o", "suite.xml", "-o", "suite.md", "-o", "suite.json"]);
    assert_eq!(output.status.code(), Some(1));
    let stdout = text(&output.stdout);
    for part in ["FAILED  a-wrong", "- expected  clear", "+ seen      blocked", "tls.expired", "ok      b-good"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(stdout.contains("2 scenarios: 1 passed, 1 failed, 0 not run"), "{stdout}");
    let file = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(file("suite.xml").contains("failures=\"1\""));
    assert!(file("suite.md").contains("| nothing | tls.expired | 1 | **off the diagonal** |"));
    let report: Value = serde_json::from_str(&file("suite.json")).unwrap();
    assert_eq!(report["summary"]["exit_code"], 1);
    assert_eq!(report["scenarios"][0]["differences"][0]["what"], "verdict");

    let output = run(folder.path(), &[".", "--fail-fast", "--jobs", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("not started, because a-wrong failed"));
}

#[test]
fn repetitions_and_draws_are_counted_and_repeatable() {
    let drawn = GOOD
        .replace("[[probe]]", "[[fault]]\nat = \"origin\"\ntls = { alert = 40 }\nwhen = { ratio = 0.5 }\n\n[[probe]]\nattempts = 8\nconcurrency = 1\ncontrols = false")
        .replace("\"clear\"", "\"degraded\"\nallowed = [\"tls.handshake_failure\"]");
    let folder = folder(&[("drawn.toml", &drawn)]);
    let passed = |seed: &str| {
        let output = run(folder.path(), &["drawn.toml", "--repeat", "3", "--seed", seed, "--format", "json"]);
        let report = report(&output);
        assert_eq!(report["scenarios"].as_array().unwrap().len(), 3);
        assert_eq!(report["scenarios"][2]["seed"].to_string(), seed);
        report["scenarios"][0]["findings"][0]["failed"].as_u64()
    };
    assert_eq!(passed("7"), passed("7"));
    assert!((0..6).map(|seed| passed(&seed.to_string())).collect::<std::collections::BTreeSet<_>>().len() > 1);
    let output = run(folder.path(), &["drawn.toml"]);
    assert!(text(&output.stdout).contains("seed 1"), "the seed is printed");
}

#[test]
fn without_a_lab_real_parties_answer() {
    // To the program under test this lab is a proxy on the network like any other.
    let lab = Lab::start(&LabSpec::default()).unwrap();
    let real = GOOD.replace("[lab]\n", "").replace(
        "https://acct.blob.core.windows.net\"]",
        "http://20.60.222.132\"]\nroutes = [\"proxy\"]\nproxy = \"${THE_PROXY:-}\"",
    );
    let folder = folder(&[("real.toml", &real), ("played.toml", GOOD)]);
    let output = run(folder.path(), &["real.toml"]);
    assert_eq!(output.status.code(), Some(3), "what was not run is no pass");
    assert!(text(&output.stdout).contains("not run real"), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("give --proxy"));

    let proxy = format!("http://{}", lab.network().addresses["proxy"]);
    for arguments in [
        vec!["real.toml".to_owned(), "--proxy".into(), proxy.clone()],
        vec!["real.toml".to_owned(), "--var".into(), format!("THE_PROXY={proxy}")],
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = run(folder.path(), &arguments);
        assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    }
    let tunnels =
        lab.log().iter().filter(|e| matches!(e, snapreach::lab::Event::Tunnel { up: 1.., down: 1.., .. })).count();
    assert_eq!(tunnels, 2, "both runs crossed the proxy that was given");
}

#[test]
fn passwords_and_signatures_show_nowhere() {
    let proxy = snapreach::lab::ProxySpec { requires: Some("svc:right".into()), ..Default::default() };
    let lab = Lab::start(&LabSpec { proxy, ..LabSpec::default() }).unwrap();
    let real = GOOD.replace("[lab]\n", "").replace(
        "https://acct.blob.core.windows.net\"]",
        "http://20.60.222.132/c/b?sv=1&sig=TOP${PART}\"]\nroutes = [\"proxy\"]",
    );
    let folder = folder(&[("secret.toml", &real)]);
    let proxy = format!("http://svc:TOPSECRET@{}", lab.network().addresses["proxy"]);
    let reports = ["-o", "r.md", "-o", "r.xml", "-o", "r.json", "--record-dir", "records", "-vv"];
    let output =
        run(folder.path(), &[&["secret.toml", "--proxy", &proxy, "--var", "PART=SECRET"], &reports[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let mut everything = text(&output.stdout) + &text(&output.stderr);
    for file in ["r.md", "r.xml", "r.json", "records/secret/record.jsonl", "records/secret/verdict.json"] {
        everything += &fs::read_to_string(folder.path().join(file)).unwrap();
    }
    assert!(everything.contains("proxy.auth_rejected"), "{everything}");
    assert!(!everything.contains("TOPSECRET") && !everything.contains("c3ZjOlRPUFNFQ1JFVA"), "{everything}");
}

#[test]
fn an_interrupt_ends_the_suite_and_reports() {
    let slow = GOOD
        .replace(
            "[[probe]]",
            "[[fault]]\nat = \"origin\"\ntls = \"mute\"\n\n[[probe]]\ntimeout = \"50s\"\ndeadline = \"60s\"",
        )
        .replace("[expect]", "controls = false\n[expect]");
    let folder = folder(&[("a-good.toml", GOOD), ("b-slow.toml", &slow)]);
    let child = Command::new(env!("CARGO_BIN_EXE_snapreach"))
        .args(["scenario", "run", ".", "--jobs", "1"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.as_ref().map(dup).unwrap()));
    // The line of the first appears while the second runs.
    assert!(lines.next().unwrap().unwrap().contains("a-good"));
    kill(pid, Signal::SIGINT).unwrap();
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let status = { child }.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(rest.iter().any(|line| line.contains("not run b-slow")), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("1 passed, 0 failed, 1 not run")), "{rest:?}");
}

fn dup(stdout: &std::process::ChildStdout) -> fs::File {
    fs::File::from(std::os::fd::AsFd::as_fd(stdout).try_clone_to_owned().unwrap())
}

#[test]
fn list_and_schema() {
    let output = snapreach().args(["scenario", "list", "--filter", "tls-expired"]).output().unwrap();
    assert!(text(&output.stdout).starts_with("tls-expired "), "{}", text(&output.stdout));
    let output = snapreach().args(["scenario", "schema"]).output().unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["type"], "object");
    assert!(schema["properties"]["expect"].is_object() && schema["additionalProperties"] == false);
}

#[test]
fn several_probes_share_one_lab_and_one_expectation() {
    let flapping = r#"about = "The name server fails every second time."
[lab]

[[fault]]
at = "dns"
dns = { rcode = 2 }
when = { first = 2 }

[[probe]]
name = "before"
targets = ["https://acct.blob.core.windows.net"]
name_server = false

[[probe]]
name = "after"
targets = ["https://acct.blob.core.windows.net"]
name_server = false

[expect]
verdict = "blocked"

[[expect.findings]]
code = "dns.servfail"
probe = "before"

[[expect.absent]]
code = "dns.servfail"
probe = "after"

[[expect.times]]
layer = "handshake"
at_most = "5s"
"#;
    let folder = folder(&[("flapping.toml", flapping)]);
    let output = run(folder.path(), &["flapping.toml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    // The same expectation fails when the second probe is the one that must fail.
    let turned = flapping.replacen("probe = \"before\"", "probe = \"after\"", 1);
    fs::write(
        folder.path().join("turned.toml"),
        turned.replace("[[expect.absent]]\ncode = \"dns.servfail\"\nprobe = \"after\"\n", ""),
    )
    .unwrap();
    assert_eq!(run(folder.path(), &["turned.toml"]).status.code(), Some(1));
}
