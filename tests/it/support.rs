//! What several tests need: the binary, and a way to say that a test cannot run here.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;
use snapreach::{
    classify,
    model::{Assessment, Record},
    plan::Plan,
    probe,
};

/// The binary under test.
pub(crate) fn snapreach() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_snapreach"));
    clean(&mut command);
    command
}

/// Proxies of the machine that runs the tests are not part of any test.
pub(crate) fn clean(command: &mut Command) {
    for name in
        ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "ALL_PROXY", "all_proxy"]
    {
        command.env_remove(name);
    }
}

/// Carries a plan out through the library, and judges what was seen, which must survive being written and read.
pub(crate) fn measure(plan: Plan) -> (Record, Assessment) {
    let progress = probe::Progress::default();
    let record = probe::runtime().unwrap().block_on(probe::run(plan, &progress, std::future::pending())).unwrap();
    let mut bytes = Vec::new();
    record.write(&mut bytes).unwrap();
    assert_eq!(Record::read(bytes.as_slice()).unwrap(), record, "the record survives being written");
    let assessment = classify::assess(&record);
    (record, assessment)
}

/// The JSON report on standard output.
pub(crate) fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "no JSON report ({error})\nexit: {:?}\nstdout: {}\nstderr: {}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

/// The findings of a report as `(code, hop, severity)`.
pub(crate) fn findings(report: &Value) -> Vec<(&str, &str, &str)> {
    let text = |value: &'_ Value| -> &'static str {
        Box::leak(value.as_str().unwrap_or_default().to_owned().into_boxed_str())
    };
    report["findings"]
        .as_array()
        .unwrap_or_else(|| panic!("no findings in {report:#}"))
        .iter()
        .map(|finding| (text(&finding["code"]), text(&finding["hop"]), text(&finding["severity"])))
        .collect()
}

/// The finding with this code.
pub(crate) fn finding<'a>(report: &'a Value, code: &str) -> &'a Value {
    report["findings"]
        .as_array()
        .and_then(|all| all.iter().find(|finding| finding["code"] == code))
        .unwrap_or_else(|| panic!("no finding {code} in {:#}", report["findings"]))
}

/// Asserts that a finding says this, in its summary or its evidence.
pub(crate) fn evidence_says(finding: &Value, part: &str) {
    let all = format!("{} {}", finding["summary"], finding["evidence"]);
    assert!(all.contains(part), "`{part}` is not in {finding:#}");
}

/// A program on this machine, wherever administrators keep programs.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin", "/usr/local/sbin"]
        .iter()
        .map(|folder| PathBuf::from(folder).join(name))
        .find(|path| path.exists())
}

/// For a run of `check` on this machine's own network: also where the machine that runs the tests is a virtual machine of
/// Azure, nothing but loopback is asked.
pub(crate) const LOOPBACK_ONLY: [&str; 2] = ["--no-imds", "--no-host"];

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Says that a test did not run, so that nobody takes it for a pass. Where everything must run (`SNAPREACH_ALL_TESTS`,
/// set by CI) it is a failure.
pub(crate) fn skipped(reason: &str) {
    assert!(std::env::var_os("SNAPREACH_ALL_TESTS").is_none(), "this test must run here, and cannot: {reason}");
    // Straight to the descriptor: the harness swallows what a passing test prints.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {reason}\n").as_bytes());
}
