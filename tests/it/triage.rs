//! `snapreach triage` as a user meets it, over logs that the extension's own code wrote.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

use crate::support::{self, finding};

fn logs(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/logs").join(case)
}

fn log(case: &str) -> String {
    fs::read_to_string(logs(case).join("extension.log")).unwrap()
}

fn triage(arguments: &[&str]) -> Output {
    support::snapreach().arg("triage").args(arguments).output().unwrap()
}

/// The report on a path, and the exit code.
#[track_caller]
fn report(path: &Path) -> (Value, i32) {
    let output = triage(&["--format", "json", path.to_str().unwrap()]);
    (support::report(&output), output.status.code().unwrap())
}

/// The codes of findings of this severity.
fn codes<'a>(report: &'a Value, severity: &str) -> Vec<&'a str> {
    let all = report["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["severity"] == severity).map(|finding| finding["code"].as_str().unwrap()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What must come out for one log.
struct Wanted {
    log: &'static str,
    exit: i32,
    /// Code and health code.
    numbers: (Option<i32>, Option<i32>),
    class: Option<&'static str>,
    ways: &'static [&'static str],
    errors: &'static [&'static str],
    /// Whether the numbers mislead.
    misleads: bool,
}

const GUEST: &[&str] = &["guest_sequential"];
const HOST: &[&str] = &["host"];

#[rustfmt::skip]
const WANTED: &[Wanted] = &[
    Wanted { log: "host-healthy", exit: 0, numbers: (Some(1), Some(1)), class: Some("none"), ways: HOST, errors: &[], misleads: false },
    Wanted { log: "host-healthy-upload-blocked", exit: 0, numbers: (Some(1), Some(1)), class: Some("none"), ways: HOST, errors: &[], misleads: false },
    Wanted { log: "guest-all-failed", exit: 1, numbers: (Some(2), Some(2)), class: Some("no_network"), ways: GUEST, errors: &["tcp.connect_timeout"], misleads: true },
    Wanted { log: "guest-one-of-two", exit: 1, numbers: (Some(76), Some(761)), class: Some("restricted_network"), ways: GUEST, errors: &["tcp.refused"], misleads: false },
    Wanted { log: "python2", exit: 1, numbers: (Some(76), Some(761)), class: Some("restricted_network"), ways: GUEST, errors: &["tcp.refused"], misleads: false },
    Wanted { log: "proxy-407", exit: 1, numbers: (Some(2), Some(2)), class: Some("no_network"), ways: GUEST, errors: &["proxy.auth_required"], misleads: true },
    Wanted { log: "tls-intercepted", exit: 1, numbers: (Some(2), Some(2)), class: Some("no_network"), ways: GUEST, errors: &["tls.intercepted"], misleads: true },
    Wanted { log: "dns-failed", exit: 1, numbers: (Some(2), Some(2)), class: Some("no_network"), ways: GUEST, errors: &["dns.nxdomain", "dns.timeout"], misleads: true },
    Wanted { log: "hush", exit: 1, numbers: (Some(2), Some(2)), class: Some("no_network"), ways: GUEST, errors: &["http.silent", "tls.silent_after_hello"], misleads: true },
    Wanted { log: "authn-all", exit: 1, numbers: (Some(2), Some(2)), class: Some("generic_error"), ways: GUEST, errors: &["storage.sas_rejected"], misleads: true },
    Wanted { log: "guest-authz-one", exit: 1, numbers: (Some(76), Some(761)), class: Some("generic_error"), ways: GUEST, errors: &["storage.network_rules"], misleads: true },
    Wanted { log: "rate-one", exit: 1, numbers: (Some(173), None), class: Some("rate_exceeded"), ways: GUEST, errors: &["storage.throttled"], misleads: false },
    Wanted { log: "agent-file", exit: 1, numbers: (Some(76), Some(761)), class: Some("restricted_network"), ways: GUEST, errors: &["tcp.refused"], misleads: false },
    Wanted { log: "parallel", exit: 1, numbers: (Some(76), Some(761)), class: Some("restricted_network"), ways: &["guest_parallel"], errors: &["storage.network_rules", "tcp.refused"], misleads: false },
    Wanted { log: "guest-then-host", exit: 0, numbers: (Some(1), Some(1)), class: Some("none"), ways: &["guest_sequential", "host"], errors: &[], misleads: false },
    Wanted { log: "host-556", exit: 1, numbers: (Some(556), Some(556)), class: Some("host_error"), ways: HOST, errors: &["triage.host_refused"], misleads: false },
    Wanted { log: "host-rate", exit: 1, numbers: (Some(76), Some(76)), class: Some("rate_exceeded"), ways: HOST, errors: &["storage.throttled"], misleads: true },
    Wanted { log: "host-config", exit: 1, numbers: (Some(76), Some(76)), class: Some("host_error"), ways: HOST, errors: &["triage.host_refused"], misleads: true },
    Wanted { log: "no-disks", exit: 1, numbers: (Some(76), Some(76)), class: Some("generic_error"), ways: &[], errors: &["triage.no_disks"], misleads: true },
    Wanted { log: "too-late", exit: 1, numbers: (Some(402), Some(402)), class: Some("generic_error"), ways: &[], errors: &["triage.too_late"], misleads: false },
    Wanted { log: "freeze-timeout", exit: 1, numbers: (Some(122), Some(761)), class: Some("generic_error"), ways: &[], errors: &["triage.freeze_failed"], misleads: true },
];

#[test]
fn each_log_tells_its_story() {
    for wanted in WANTED {
        let (report, exit) = report(&logs(wanted.log).join("extension.log"));
        let place = format!("{}: {:#}", wanted.log, report);
        assert_eq!(exit, wanted.exit, "{place}");
        assert_eq!(report["verdict"]["exit_code"], wanted.exit, "{place}");
        let attempts = report["attempts"].as_array().unwrap();
        assert_eq!(attempts.len(), 1, "{place}");
        let number = |key: &str| attempts[0][key].as_i64().map(|n| i32::try_from(n).unwrap());
        assert_eq!((number("code"), number("health_code")), wanted.numbers, "{place}");
        assert_eq!(attempts[0]["class"].as_str(), wanted.class, "{place}");
        let ways: Vec<_> = attempts[0]["ways"].as_array().unwrap().iter().map(|way| way.as_str().unwrap()).collect();
        assert_eq!(ways, wanted.ways, "{place}");
        let mut errors = codes(&report, "error");
        errors.sort_unstable();
        assert_eq!(errors, wanted.errors, "{place}");
        assert_eq!(codes(&report, "warning").contains(&"triage.code_misleads"), wanted.misleads, "{place}");
        assert_eq!(report["sources"][0]["skipped"], 0, "{place}");
    }
    let folders = fs::read_dir(logs("")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count();
    assert_eq!(folders, WANTED.len(), "a log has no expectation");
}

#[test]
fn the_report_names_disks_lines_and_what_to_do() {
    let (report, _) = report(&logs("guest-one-of-two"));
    assert_eq!((&report["schema"], &report["kind"]), (&Value::from(1), &Value::from("triage")));
    let attempt = &report["attempts"][0];
    assert_eq!(attempt["method"], "onlyGuest");
    assert_eq!(attempt["host_calls"][0]["status"], 555);
    assert_eq!(attempt["disks"][0]["taken"], true);
    assert_eq!(attempt["disks"][1]["host"], "acct2.blob.core.windows.net");
    assert_eq!(attempt["disks"][1]["path"], "/vhds/data.vhd");
    let refused = finding(&report, "tcp.refused");
    assert_eq!(refused["targets"][0], "acct2.blob.core.windows.net:443");
    let evidence = refused["evidence"][0].as_str().unwrap();
    let line: usize = evidence.split("extension.log:").nth(1).unwrap().split(':').next().unwrap().parse().unwrap();
    assert!(log("guest-one-of-two").lines().nth(line - 1).unwrap().contains("Connection refused"), "{evidence}");
    assert!(!refused["remedies"].as_array().unwrap().is_empty());
    support::evidence_says(finding(&report, "host.unreachable"), "PreSnapshot 555");
    let (report, _) = self::report(&logs("guest-authz-one"));
    support::evidence_says(finding(&report, "storage.network_rules"), "HTTP 403: AuthorizationFailure");
}

#[test]
fn text_and_markdown_begin_with_the_verdict() {
    let path = logs("guest-all-failed");
    let output = triage(&[path.to_str().unwrap()]);
    let text = String::from_utf8(output.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.starts_with("FAILED the only attempt (2026-01-05 03:52:18) failed"), "{text}");
    for part in
        ["tcp.connect_timeout", "network team", "hostStatusCodeDoSnapshot", "extension log, ", "status file, 1 line"]
    {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    let output = triage(&["--format", "markdown", path.to_str().unwrap()]);
    let markdown = String::from_utf8(output.stdout).unwrap();
    assert!(markdown.starts_with("# snapreach triage: FAILED"), "{markdown}");
}

#[test]
fn a_lost_report_is_seen_through() {
    // The status file stays at code 4; the log tells why.
    let (both, exit) = report(&logs("host-556"));
    assert_eq!(exit, 1);
    assert_eq!(both["attempts"].as_array().unwrap().len(), 1, "{both:#}");
    assert_eq!(both["attempts"][0]["code_name"], "FailedHostSnapshotRemoteServerError");
    support::evidence_says(finding(&both, "triage.report_lost"), "Exception 556");
    let (rate, _) = report(&logs("rate-one"));
    support::evidence_says(finding(&rate, "triage.report_lost"), "in extension173");
    // The file alone cannot tell.
    let (alone, exit) = report(&logs("host-556").join("12.status"));
    assert_eq!((exit, &alone["verdict"]["status"]), (3, &Value::from("inconclusive")));
}

#[test]
fn a_status_file_alone_tells_codes_and_disks() {
    let (report, exit) = report(&logs("guest-all-failed").join("12.status"));
    assert_eq!(exit, 1);
    let attempt = &report["attempts"][0];
    assert_eq!((attempt["code"].as_i64(), attempt["health_code"].as_i64()), (Some(2), Some(2)));
    assert_eq!(attempt["host_calls"][0]["status"], 555);
}

#[test]
fn uploads_are_evidence_of_their_own() {
    let (report, exit) = report(&logs("host-healthy-upload-blocked"));
    assert_eq!((exit, &report["verdict"]["status"]), (0, &Value::from("degraded")));
    let blocked = finding(&report, "tcp.connect_timeout");
    assert_eq!(blocked["severity"], "warning");
    assert_eq!(blocked["targets"][0], "status.blob.core.windows.net:443");
}

#[test]
fn a_folder_is_one_timeline() {
    let dir = tempfile::tempdir().unwrap();
    let azure = dir.path().join("azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux");
    fs::create_dir_all(&azure).unwrap();
    // The day before, rotated and packed; copied once more by hand.
    let before = log("host-healthy").replace("2026-01-05", "2026-01-04").replace("2026/01/05", "2026/01/04");
    fs::write(azure.join("extension.log.1.gz"), gzip(before.as_bytes())).unwrap();
    fs::write(azure.join("extension.log.1"), &before).unwrap();
    fs::write(azure.join("extension.log"), log("guest-all-failed")).unwrap();
    fs::write(azure.join("shell.log"), "Mon Jan  5 03:52:01 UTC 2026- python3.11 path exists\n").unwrap();
    fs::write(azure.join("notes.txt"), "nobody reads this").unwrap();
    fs::write(
        dir.path().join("waagent.log"),
        "2026-01-05T03:53:00.123456Z ERROR ExtHandler ExtHandler [HTTP Failed] GET \
         https://md-hdd4kqzx1t2v.z27.blob.storage.azure.net/$system/x.status?sig=TOPSECRET -- IOError timed out -- 6 attempts made\n",
    )
    .unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(dir.path(), azure.join("again")).unwrap();
    let (report, exit) = report(dir.path());
    assert_eq!(exit, 1);
    let attempts = report["attempts"].as_array().unwrap();
    let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["success", "failure"], "{report:#}");
    let mut kinds: Vec<_> = report["sources"].as_array().unwrap().iter().map(|s| s["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["agent_log", "extension_log", "extension_log", "extension_log", "shell_log"]);
    support::evidence_says(finding(&report, "tcp.connect_timeout"), "agent, 1 time");
}

#[test]
fn what_failed_and_works_since_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let later = log("host-healthy").replace("2026-01-05", "2026-01-06").replace("2026/01/05", "2026/01/06");
    fs::write(dir.path().join("extension.log"), log("guest-one-of-two") + &later).unwrap();
    let (report, exit) = report(dir.path());
    assert_eq!((exit, &report["verdict"]["status"]), (0, &Value::from("degraded")));
    assert_eq!(finding(&report, "tcp.refused")["severity"], "warning");
}

#[test]
fn numbers_that_do_not_follow_from_the_results_are_said() {
    let changed = log("guest-one-of-two").replace("Enable,error,76,", "Enable,error,85,");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("extension.log"), changed).unwrap();
    let (report, _) = report(dir.path());
    support::evidence_says(finding(&report, "triage.code_misleads"), "By the extension's own rules");
}

#[test]
fn no_signature_and_no_password_of_a_log_comes_out() {
    let line = |text: &str| {
        format!("2026-01-05 03:52:19.000001 [Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0]{text}\n")
    };
    let mut text = log("guest-all-failed");
    text = text.replace("/hdd4kqzx1t2v/abcd", "/hdd4kqzx1t2v/abcd?sv=1&sig=TOPSECRET%3D");
    text = text.replace(
        "error: timed out",
        "error: timed out for http://svc:TOPSECRET@10.0.0.5:3128 Proxy-Authorization: Basic TOPSECRET",
    );
    text += &line("Enable,error,2,no https://a.blob.core.windows.net/c?sv=2&sig=TOPSECRET&se=1 for you,False");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("extension.log"), text).unwrap();
    for format in ["text", "json", "markdown"] {
        let output = triage(&["-v", "--format", format, dir.path().to_str().unwrap()]);
        let all = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(
            all.contains("tcp.connect_timeout") && !all.contains("SECRET") && !all.contains("sig="),
            "{format}: {all}"
        );
    }
}

#[test]
fn standard_input_is_read() {
    let mut command = support::snapreach();
    let mut child = command
        .args(["triage", "-", "--format", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&gzip(log("dns-failed").as_bytes())).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(support::report(&output)["sources"][0]["path"], "<stdin>");
}

#[test]
fn wrong_input_is_refused_with_what_is_wanted() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.log"), [0xff, 0x00, b'\n', 0x1b]).unwrap();
    let path = dir.path().to_str().unwrap();
    let missing = dir.path().join("none");
    for (argument, part) in
        [(missing.to_str().unwrap(), "cannot read"), (path, "give extension.log"), ("--format=html", "")]
    {
        let output = triage(&[argument]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{error}");
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn broken_files_give_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    // A packed log that breaks off, one in which noise stands, and a status file that is none.
    let packed = gzip(log("guest-all-failed").as_bytes());
    fs::write(dir.path().join("extension.log.2.gz"), &packed[..packed.len() / 2]).unwrap();
    let noise =
        [log("guest-one-of-two").replace("2026-01-05", "2026-01-06").as_bytes(), b"\x00\xff not a line\nnor this\n"]
            .concat();
    fs::write(dir.path().join("extension.log"), noise).unwrap();
    fs::write(dir.path().join("3.status"), "[{\"version\":\"1.0\",\"status\":{\"formattedMessage\":").unwrap();
    let (report, exit) = report(dir.path());
    assert_eq!(exit, 1);
    let sources = report["sources"].as_array().unwrap();
    let source = |name: &str| sources.iter().find(|source| source["path"].as_str().unwrap().ends_with(name)).unwrap();
    assert!(source(".gz")["problem"].as_str().unwrap().starts_with("after line "), "{sources:#?}");
    assert_eq!(source("extension.log")["skipped"], 2, "{sources:#?}");
    assert!(source("3.status")["problem"].as_str().unwrap().contains("line 1"), "{sources:#?}");
}

#[test]
fn an_endless_file_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut bomb = log("guest-one-of-two").into_bytes();
    bomb.resize(bomb.len() + (32 << 20), b'A');
    fs::write(dir.path().join("extension.log.gz"), gzip(&bomb)).unwrap();
    let (report, exit) = report(dir.path());
    assert_eq!(exit, 1);
    assert!(report["sources"][0]["problem"].as_str().unwrap().contains("to 1"), "{report:#}");
    // A line without end is one line.
    fs::write(dir.path().join("extension.log.gz"), "").unwrap();
    fs::write(dir.path().join("extension.log"), bomb).unwrap();
    let (report, exit) = self::report(dir.path());
    assert_eq!((exit, report["attempts"].as_array().unwrap().len()), (1, 1));
}

#[test]
fn a_report_can_go_to_files() {
    let dir = tempfile::tempdir().unwrap();
    let (json, markdown) = (dir.path().join("t.json"), dir.path().join("t.md"));
    let status = Command::new(env!("CARGO_BIN_EXE_snapreach"))
        .arg("triage")
        .arg(logs("host-healthy"))
        .args(["-o".as_ref(), json.as_os_str(), "-o".as_ref(), markdown.as_os_str()])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
    let read: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(read["kind"], "triage");
    assert!(fs::read_to_string(markdown).unwrap().starts_with("# snapreach triage: SUCCEEDED"));
}
