//! `snapreach proxy` as a user runs it.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::TcpListener,
    process::{Output, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use snapreach::{
    conformance::catalogue,
    exchange::DoorKind,
    lab::{Lab, LabSpec},
};

use crate::support::{finding, report, snapreach};

fn proxy(args: &[&str]) -> Output {
    snapreach().arg("proxy").args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The report as JSON, after a look at the exit code.
fn json(code: i32, args: &[&str]) -> Value {
    let output = proxy(&[args, &["--format", "json"]].concat());
    let report = report(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {:#}", report["verdict"]);
    report
}

fn case<'a>(report: &'a Value, id: &str) -> &'a Value {
    let cases = report["cases"].as_array().unwrap();
    cases.iter().find(|case| case["id"] == id).unwrap_or_else(|| panic!("no case {id} in {cases:#?}"))
}

#[test]
fn a_proxy_through_which_backups_work() {
    let report = json(0, &["--lab", "--level", "must", "--tunnels", "100"]);
    assert_eq!((&report["schema"], &report["kind"]), (&1.into(), &"proxy".into()));
    assert_eq!(report["counts"]["fail_must"], 0);
    assert_eq!(report["context"]["origin"]["place"], "lab");
    for case in report["cases"].as_array().unwrap() {
        assert_eq!(case["level"], "must");
        assert_ne!(case["outcome"], "fail", "{case:#}");
    }
    assert_eq!(case(&report, "connect/port-8443")["outcome"], "pass");
}

#[test]
fn a_proxy_that_denies_a_port_is_told_what_to_change() {
    let report = json(1, &["--lab", "proxy-port-denied", "--filter", "connect/port-"]);
    assert_eq!(report["verdict"]["status"], "blocked");
    let denied = case(&report, "connect/port-8443");
    assert_eq!(denied["outcome"], "fail");
    // Squid says no more; that port 443 is open says the rest.
    assert_eq!(denied["judgements"][0]["code"], "proxy.request_denied");
    assert_eq!(denied["judgements"][0]["fixes"][0]["lines"][0], "acl SSL_ports port 8443");
    assert_eq!(report["product"]["name"], "squid");
    assert_eq!(case(&report, "connect/port-443")["outcome"], "pass");

    let text = stdout(&proxy(&["--lab", "proxy-port-denied", "--filter", "connect/port-"]));
    assert!(text.starts_with("BLOCKED  1 case that must pass fails"), "{text}");
    assert!(text.contains("acl SSL_ports port 8443") && text.contains("squid -k reconfigure"), "{text}");
}

#[test]
fn two_runs_say_the_same() {
    let said = || {
        let report = json(1, &["--lab", "proxy-port-denied", "--filter", "connect", "--filter", "errors"]);
        let cases = report["cases"].as_array().unwrap().iter();
        cases
            .flat_map(|case| case["judgements"].as_array().unwrap())
            .map(|judgement| format!("{} {} {}", judgement["outcome"], judgement["summary"], judgement["evidence"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(said(), said());
}

#[test]
fn all_cases_are_listed() {
    let listed: Value = serde_json::from_slice(&proxy(&["--list", "--format", "json"]).stdout).unwrap();
    let listed: BTreeSet<&str> = listed.as_array().unwrap().iter().map(|case| case["id"].as_str().unwrap()).collect();
    let all: BTreeSet<&str> = catalogue().map(|case| case.id).collect();
    assert_eq!(listed, all);
    let text = stdout(&proxy(&["--list", "--filter", "connect/port-*"]));
    assert!(text.contains("connect/port-443") && !text.contains("tunnel/"), "{text}");
    let musts = stdout(&proxy(&["--list", "--level", "must"]));
    assert!(musts.contains("connect/port-8443") && !musts.contains("connect/port-80"), "{musts}");
}

#[test]
fn reports_go_to_files_of_every_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let names = ["r.txt", "r.json", "r.md", "r.xml"].map(path);
    let mut args = vec!["--lab", "proxy-port-denied", "--filter", "connect/port-"];
    args.extend(names.iter().flat_map(|name| ["-o", name.as_str()]));
    assert_eq!(proxy(&args).status.code(), Some(1));
    let [text, json, markdown, junit] = names.map(|name| fs::read_to_string(name).unwrap());
    assert!(text.starts_with("BLOCKED"), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["kind"], "proxy");
    assert!(markdown.starts_with("# snapreach proxy: BLOCKED"), "{markdown}");
    assert!(markdown.contains("\nacl SSL_ports port 8443\n"), "{markdown}");
    let suites = quick_junit::Report::deserialize_from_str(&junit).unwrap();
    assert_eq!((suites.failures, suites.errors), (1, 0), "{junit}");

    let refused = path("r.prom");
    let output = proxy(&["--lab", "-o", &refused]);
    assert_eq!(output.status.code(), Some(2));
    assert!(!folder.path().join("r.prom").exists(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn two_proxies_are_compared() {
    let args = ["--lab", "healthy", "--vs", "proxy-port-denied", "--filter", "connect/port-"];
    let report = json(1, &args);
    let differences = report["vs"]["differences"].as_array().unwrap();
    assert_eq!(differences.len(), 1, "{differences:#?}");
    assert_eq!((&differences[0]["id"], &differences[0]["change"]), (&"connect/port-8443".into(), &"worse".into()));
    assert_eq!(report["vs"]["second"]["status"], "blocked");
    // The other way round nothing is worse.
    let report = json(0, &["--lab", "proxy-port-denied", "--vs", "healthy", "--filter", "connect/port-"]);
    assert_eq!(report["vs"]["differences"][0]["change"], "better");
    let report = json(0, &["--lab", "healthy", "--vs", "healthy", "--filter", "connect/port-"]);
    assert_eq!(report["vs"]["differences"], Value::Array(Vec::new()));
}

#[test]
fn wrong_usage_says_what_is_allowed() {
    let url = "http://127.0.0.1:1";
    for (args, part) in [
        (&[][..], "URL"),
        (&["127.0.0.1:1"], "http://HOST:PORT"),
        (&["socks5://127.0.0.1:1"], "must be http or https"),
        (&[url, "--vs", "http://127.0.0.1"], "--vs: "),
        (&[url, "--allow", "acct"], "HOST:PORT"),
        (&[url, "--deny", "acct:0"], "1 to 65535"),
        (&[url, "--large", "2GiB"], "1GiB"),
        (&[url, "--large", "5"], "64KiB"),
        (&[url, "--idle", "5"], "250ms, 10s or 2m"),
        (&[url, "--tunnels", "70000"], "0..=65000"),
        (&[url, "--level", "most"], "should"),
        (&[url, "--disks", "floppy"], "unmanaged"),
        (&[url, "--format", "html"], "markdown"),
        (&[url, "--filter", "nothing/*"], "--list"),
        (&[url, "--lab"], "--lab"),
        (&["--lab", "--bind", "127.0.0.1"], "--bind"),
        (&["--lab", "helthy"], "did you mean `healthy`?"),
        (&["--lab", "--lab-origin", "10.0.0.9"], "--lab"),
        (&[url, "--lab-origin", "10.0.0.9", "--no-origin"], "--no-origin"),
        (&[url, "--profile", "azure-bakup"], "did you mean `azure-backup`?"),
        (&[url, "--no-system-roots"], "--ca-file"),
        (&[url, "-6"], "IPv6"),
        (&["--list", "--format", "junit"], "text or json"),
    ] {
        let output = proxy(args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}{}", stdout(&output));
        assert!(error.contains(part) && output.stdout.is_empty(), "{args:?}: {error}");
    }
}

#[test]
fn a_profile_decides_what_is_expected() {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(b"ports = [443]\nskip = [\"limits\"]\n[levels]\n\"connect/port-8443\" = \"may\"\n").unwrap();
    let path = file.path().display().to_string();
    let report =
        json(0, &["--lab", "proxy-port-denied", "--profile", &path, "--filter", "connect/port-", "--filter", "limits"]);
    let denied = case(&report, "connect/port-8443");
    assert_eq!((&denied["level"], &denied["outcome"]), (&"may".into(), &"fail".into()));
    assert!(report["cases"].as_array().unwrap().iter().all(|case| case["group"] != "limits"));
}

#[test]
fn errors_in_a_profile_name_the_place() {
    for (text, part) in [
        (
            "ports = [443]\nskip = [\"limit\"]",
            ":2:9: skip: there is no case and no group `limit`; did you mean `limits`?",
        ),
        ("[levels]\n\"connect/port-843\" = \"must\"", ":2:1: levels: "),
        ("prots = [443]", ":1:1: unknown field `prots`"),
        ("allow = [\"acct\"]", ":1:10: allow: write HOST:PORT"),
    ] {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let output = proxy(&["--lab", "--profile", &file.path().display().to_string()]);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}: {error}");
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_proxy_that_cannot_be_reached_is_told_as_such() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let report = json(3, &[&format!("http://{free}")]);
    finding(&report, "tcp.refused");
    assert_eq!(report["verdict"]["status"], "inconclusive");
    assert!(report["cases"].as_array().unwrap().iter().all(|case| case["outcome"] == "not_run"));
}

#[test]
fn what_is_no_proxy_is_told_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    // Ends with the process of the tests.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
            thread::spawn(move || std::io::copy(&mut &stream, &mut std::io::sink()));
        }
    });
    let report = json(1, &[&format!("http://{at}")]);
    finding(&report, "proxy.not_http");
    assert!(report["verdict"]["summary"].as_str().unwrap().contains("is no forward proxy"));
}

#[test]
fn without_an_origin_the_rest_is_still_tried() {
    let lab = Lab::start(&LabSpec::default()).unwrap();
    let url = lab.network().proxy.as_ref().unwrap().url();
    let report = json(3, &[&url, "--no-origin", "--filter", "connect/port-"]);
    assert_eq!(report["context"]["origin"]["place"], "none");
    assert!(
        report["verdict"]["summary"].as_str().unwrap().contains("nothing could be found out"),
        "{:#}",
        report["verdict"]
    );
}

#[test]
fn the_password_of_the_proxy_is_in_no_output() {
    let lab = Lab::start(&toml::from_str("[proxy]\nrequires = 'svc:TOPSECRET'\n").unwrap()).unwrap();
    let network = lab.network();
    let at = network.proxy.as_ref().unwrap().url().replace("http://", "http://svc:TOPSECRET@");
    let origin = network.places.of(DoorKind::Serves).next().unwrap().ip().to_string();
    let folder = tempfile::tempdir().unwrap();
    let names = ["r.txt", "r.json", "r.md", "r.xml"].map(|name| folder.path().join(name).display().to_string());
    let mut args = vec![at.as_str(), "--lab-origin", &origin, "-v", "--filter", "connect", "--filter", "auth"];
    args.extend(names.iter().flat_map(|name| ["-o", name.as_str()]));
    let output = proxy(&args);
    let shown = stdout(&output);
    assert!(shown.contains("connect/port-443"), "{shown}{}", String::from_utf8_lossy(&output.stderr));
    let files = names.iter().map(|name| fs::read_to_string(name).unwrap());
    for text in files.chain([shown, String::from_utf8_lossy(&output.stderr).into_owned()]) {
        // As it is, and as it goes over the wire.
        assert!(!text.contains("TOPSECRET") && !text.contains("c3ZjOlRPUFNFQ1JFV"), "{text}");
    }
    let wrong = proxy(&["ftp://svc:TOPSECRET@127.0.0.1:1"]);
    assert!(!String::from_utf8_lossy(&wrong.stderr).contains("TOPSECRET"));
}

#[test]
fn an_interrupt_leaves_the_report() {
    // A proxy that accepts and says nothing: the command waits for it.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let child = snapreach()
        .args(["proxy", &url, "--timeout", "1h", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _contact = silent.accept().unwrap();
    // The second connection carries the survey's question, which nobody answers.
    let (mut survey, _) = silent.accept().unwrap();
    std::io::Read::read_exact(&mut survey, &mut [0; 7]).unwrap();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let report = report(&output);
    assert_eq!(
        (&report["context"]["interrupted"], &report["verdict"]["status"]),
        (&true.into(), &"inconclusive".into())
    );
    assert!(report["cases"].as_array().unwrap().iter().all(|case| case["outcome"] == "not_run"));
}
