//! Limits of time, of descriptors and of patience: what was measured until then is reported, and truthfully.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::TcpListener,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{self, findings, report};

/// Runs the program; lists come on standard input, so that nothing is left behind.
fn run_with_input(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()).unwrap());
        child.wait_with_output().unwrap()
    })
}

fn check(arguments: &[&str]) -> Command {
    let mut command = support::snapreach();
    command.arg("check").args(support::LOOPBACK_ONLY).args(arguments);
    command
}

/// Every address of 127.0.0.0/8 is this machine's, and nobody listens on port 1 of these.
fn refusing_targets(count: usize) -> String {
    let mut list = String::new();
    for n in 0..count {
        writeln!(list, "tcp://127.77.{}.{}:1", n / 250, n % 250 + 1).unwrap();
    }
    list
}

#[test]
fn the_deadline_ends_a_silent_run_and_blames_nobody() {
    for scenario in ["tls-silent-after-hello", "proxy-silent", "http-silent", "tcp-connect-timeout", "dns-timeout"] {
        let start = Instant::now();
        let budgets = ["--deadline", "700ms", "--timeout", "30s", "--connect-timeout", "30s"];
        let output = check(&[&["--lab", scenario, "--format", "json"], &budgets[..]].concat()).output().unwrap();
        // Not a benchmark: without the deadline it would take 30 s.
        assert!(start.elapsed() < Duration::from_secs(10), "{scenario} took {:?}", start.elapsed());
        let report = report(&output);
        assert!(report["elapsed_ms"].as_u64().unwrap() >= 700);
        assert_eq!((report["verdict"]["status"].as_str(), output.status.code()), (Some("inconclusive"), Some(3)));
        assert_eq!(findings(&report), [("meta.deadline", "local", "warning")], "{scenario}");
        // What was under way stands in the record, with what it had seen.
        let observations = report["observations"].as_array().unwrap();
        let cut = |o: &&Value| o["steps"].as_array().unwrap().last().unwrap()["failure"]["kind"] == "cancelled";
        assert!(observations.iter().any(|o| cut(&o)), "{scenario}: {observations:#?}");
    }
}

#[test]
fn what_was_proved_before_the_deadline_counts() {
    // One endpoint refuses at once, the other never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tls://{}", silent.local_addr().unwrap());
    let output = check(&["--no-proxy", "--deadline", "700ms", "--format", "json", &target, "tcp://127.77.0.1:1"])
        .output()
        .unwrap();
    let report = report(&output);
    assert_eq!((report["verdict"]["status"].as_str(), output.status.code()), (Some("blocked"), Some(1)));
    let codes: Vec<_> = findings(&report).into_iter().map(|(code, ..)| code).collect();
    assert_eq!(codes, ["tcp.refused", "meta.deadline"]);
}

#[test]
#[cfg(unix)]
fn a_second_interrupt_ends_the_program_at_once() {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    // The report is larger than a pipe holds, and nobody reads it: writing it cannot end.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut list = refusing_targets(2000);
    writeln!(list, "tls://{}", silent.local_addr().unwrap()).unwrap();
    let mut command =
        check(&["--no-proxy", "--targets", "-", "--format", "json", "--deadline", "1h", "--timeout", "1h"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    let (_connection, _) = silent.accept().unwrap();
    let process = Pid::from_raw(child.id().try_into().unwrap());
    let interrupt = || kill(process, Signal::SIGINT).unwrap();
    interrupt();
    // The first byte of the report proves that the first signal was taken.
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    interrupt();
    let start = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
#[cfg(unix)]
fn ten_thousand_targets_fit_below_any_limit_of_descriptors() {
    let list = refusing_targets(10_000);
    for (limit, concurrency, note) in [
        (1024, None, None),
        (1024, Some("10000"), Some("concurrency lowered from 10000 to ")),
        (64, None, Some("concurrency lowered from 256 to ")),
        (64, Some("10000"), Some("concurrency lowered from 10000 to ")),
    ] {
        // Both limits: the program may raise the soft one to the hard one.
        let mut command = Command::new("sh");
        support::clean(&mut command);
        command.args(["-c", "ulimit -n $0 && exec \"$@\"", &limit.to_string(), env!("CARGO_BIN_EXE_snapreach")]);
        command.arg("check").args(support::LOOPBACK_ONLY).args(["--no-proxy", "--targets", "-"]);
        command.args(concurrency.map(|n| ["--concurrency", n]).into_iter().flatten());
        let output = run_with_input(command, &list);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{limit} {concurrency:?}: {text}");
        assert!(text.lines().count() < 200, "{} lines", text.lines().count());
        // 10,000 targets, three attempts each, and not one failed for want of a descriptor.
        assert!(text.contains("tcp.refused") && text.contains("30,000 of 30,000 attempts failed"), "{text}");
        assert!(!text.contains("local."), "{text}");
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(flat.contains("concurrency lowered"), note.is_some(), "{limit} {concurrency:?}: {text}");
        assert!(note.is_none_or(|note| flat.contains(note)), "{limit} {concurrency:?}: {text}");
    }
}

#[test]
fn a_list_from_a_pipe_is_read_whole_and_without_duplicates() {
    let list = "tcp://127.77.0.1:1\nTCP://127.77.0.1:1 # again\r\n\n# nothing\ntcp://127.77.0.2:1";
    let command = check(&["--no-proxy", "--targets", "-", "tcp://127.77.0.2:1", "--attempts", "1", "--format", "json"]);
    let report = report(&run_with_input(command, list));
    let subjects: Vec<_> = report["observations"].as_array().unwrap().iter().map(|o| o["subject"].as_str()).collect();
    // Those of the command line come first.
    assert_eq!(subjects, [Some("127.77.0.2:1"), Some("127.77.0.1:1")]);
}

#[test]
fn a_reader_that_has_seen_enough_of_a_large_report_is_no_error() {
    for format in ["text", "json", "jsonl", "markdown", "junit", "prometheus", "html"] {
        let mut command = check(&["--no-proxy", "--targets", "-", "--attempts", "1", "-vv", "--format", format]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(refusing_targets(500).as_bytes()).unwrap();
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_exact(&mut [0; 8]).unwrap();
        drop(stdout);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // With -v there are notes; none of them comcommands.
        assert!(said.lines().all(|line| line.starts_with("note: ")), "{format}: {said}");
        assert_eq!(output.status.code(), Some(1), "{format}");
    }
}
