//! `snapreach bench` as a user runs it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Child, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use snapreach::{
    bench::Run,
    lab::{Lab, LabSpec},
};

use crate::support::{report, snapreach};

fn bench(args: &[&str]) -> Output {
    snapreach().arg("bench").args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// As JSON; the exit code must be one of these.
fn any(codes: &[i32], args: &[&str]) -> Value {
    let output = bench(&[args, &["--format", "json"]].concat());
    let report = report(&output);
    let code = output.status.code().unwrap();
    assert!(codes.contains(&code), "{args:?}: {code} {:#} {}", report["verdict"], stderr(&output));
    assert_eq!((&report["schema"], &report["kind"]), (&1.into(), &"bench".into()));
    report
}

/// After a short warm-up; the exit code must be this.
fn json(code: i32, args: &[&str]) -> Value {
    any(&[code], &[args, &["--warmup", "100ms"]].concat())
}

fn measured(report: &Value) -> &Value {
    &report["arms"][0]["measurement"]
}

fn count(report: &Value, what: &str) -> u64 {
    measured(report)[what].as_u64().unwrap_or_else(|| panic!("no {what} in {:#}", measured(report)))
}

/// The failures of the first arm, by code.
fn errors(report: &Value) -> Vec<&str> {
    measured(report)["errors"].as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn every_workload_measures_the_lab() {
    for (workload, more, parts) in [
        ("connect", &[][..], &["connect"][..]),
        ("tls", &[], &["connect", "tls"]),
        ("tls", &["--resume"], &["connect", "tls"]),
        ("tls", &["--proxy", "lab"], &["connect", "tunnel", "tls"]),
        ("tunnel", &[], &["connect", "tunnel"]),
        ("request", &[], &["connect", "first_byte"]),
        ("request", &["--proxy", "lab", "--absolute"], &["connect", "first_byte"]),
        ("request", &["--lab", "healthy", "https://acct.blob.core.windows.net/"], &["tls", "first_byte"]),
        ("download", &["--bytes", "4MiB", "--verify"], &["connect", "first_byte"]),
        ("download", &["--bytes", "4MiB", "--lab", "healthy", "https://acct.blob.core.windows.net:8443"], &["tls"]),
        ("upload", &["--bytes", "4MiB", "--proxy", "lab", "-n", "2"], &["tunnel", "first_byte"]),
    ] {
        let report = json(0, &[&[workload, "--duration", "500ms", "--timeout", "10s"], more].concat());
        assert_eq!(report["verdict"]["status"], "measured", "{workload} {more:?}");
        assert!(count(&report, "operations") > 0, "{workload} {more:?}: {:#}", measured(&report));
        assert!(errors(&report).is_empty(), "{workload} {more:?}: {:#}", measured(&report)["errors"]);
        for part in parts {
            assert!(measured(&report)["parts"][part]["count"].as_u64() > Some(0), "{workload} {more:?}: no {part}");
        }
        let moved = count(&report, "bytes");
        assert_eq!(moved > 0, matches!(workload, "download" | "upload"), "{workload}: {moved} bytes");
        let resumed = count(&report, "resumed");
        assert_eq!(resumed > 0, more.contains(&"--resume"), "{workload} {more:?}: {resumed} resumed");
        // What is reported is a run that can be read again, histograms and all.
        let run = Run::read(&report.to_string()).unwrap();
        assert_eq!(run.arms[0].measurement.latency.count(), count(&report, "operations"));
    }
}

#[test]
fn at_a_fixed_rate_a_stall_shows_in_the_tail_and_in_a_closed_loop_it_hides() {
    // Storage stops for half a second at the thousandth request, for all its clients at once.
    // On a machine that is busy with other things the generator may be late as well, and says so.
    let open = any(
        &[0, 3],
        &["request", "--lab", "bench-stall", "--rate", "1000/s", "-n", "400", "--duration", "3s", "--timeout", "5s"],
    );
    let latency = |report: &Value, at: &str| measured(report)["latency"][at].as_u64().unwrap();
    let lateness = &measured(&open)["lateness"];
    assert!(lateness["due"].as_u64().unwrap().abs_diff(3000) <= 3, "{lateness:#}");
    // Everything that was due in that half second waited for its end: one operation in six, half of a second at most.
    assert!(latency(&open, "p90_ns") > 150_000_000, "{:#}", measured(&open)["latency"]);
    assert!(latency(&open, "max_ns") > 400_000_000, "{:#}", measured(&open)["latency"]);
    // A closed loop asks nothing meanwhile, and has a few late answers among thousands.
    let closed = json(0, &["request", "--lab", "bench-stall", "-n", "4", "--duration", "2s"]);
    assert!(latency(&closed, "max_ns") > 400_000_000, "{:#}", measured(&closed)["latency"]);
    assert!(latency(&closed, "p99_ns") < 100_000_000, "{:#}", measured(&closed)["latency"]);
}

/// A lab whose storage shows a fault of the byte stream.
fn faulty(folder: &Path, fault: &str) -> String {
    let path = folder.join(format!("{}.toml", fault.len()));
    let text = format!(
        "about = \"x\"\n[lab]\n[[fault]]\nat = \"origin\"\nports = [80]\n{fault}\n[[probe]]\n\
         targets = [\"tcp://acct.blob.core.windows.net:443\"]\n[expect]\nverdict = \"clear\"\n"
    );
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn transfers_that_fail_are_counted_by_code_and_end_in_time() {
    let folder = tempfile::tempdir().unwrap();
    for (fault, more, code) in [
        ("stream = \"cut\"\nwhen = { after_bytes = 300000 }", &[][..], "transfer.truncated"),
        ("stream = \"reset\"\nwhen = { after_bytes = 300000 }", &[], "transfer.broken"),
        ("stream = \"stall\"\nwhen = { after_bytes = 300000 }", &["--timeout", "200ms"], "transfer.stalled"),
        ("stream = \"corrupt\"\nwhen = { after_bytes = 300000 }", &["--verify"], "transfer.corrupted"),
    ] {
        let lab = faulty(folder.path(), fault);
        let begin = Instant::now();
        // Something arrived before it failed; but no transfer was whole.
        let report = json(1, &[&["download", "--lab", &lab, "--bytes", "1MiB", "--duration", "1s"], more].concat());
        assert!(begin.elapsed() < Duration::from_secs(20), "{fault}");
        assert_eq!(errors(&report), [code], "{fault}");
        assert_eq!(count(&report, "operations"), 0, "{fault}");
        assert!(count(&report, "bytes") > 0, "{fault}");
        let failed = measured(&report)["errors"][code]["count"].as_u64().unwrap();
        assert_eq!(measured(&report)["latency"]["count"].as_u64(), Some(failed), "failures count as late as can be");
    }
}

#[test]
fn what_cannot_work_at_all_is_said_before_anything_is_counted() {
    for (args, code) in [
        (&["connect", "tcp://127.0.0.1:1"][..], "tcp.refused"),
        (&["tunnel", "--lab", "proxy-port-denied", "tcp://acct.blob.core.windows.net:8443"], "proxy.request_denied"),
        (&["request", "--lab", "proxy-auth-required", "--proxy", "lab", "--absolute"], "proxy.auth_required"),
        (&["tls", "--lab", "tls-expired"], "tls.expired"),
        (&["download", "--lab", "healthy", "https://acct.blob.core.windows.net/none/such"], "transfer.refused"),
    ] {
        let report = json(1, &[args, &["--duration", "1s"]].concat());
        assert_eq!(report["verdict"]["status"], "fail");
        assert_eq!(errors(&report), [code], "{args:?}");
        assert!(report["verdict"]["summary"].as_str().unwrap().contains(code), "{}", report["verdict"]);
    }
}

#[test]
fn a_comparison_decides_and_says_with_which_seed() {
    let folder = tempfile::tempdir().unwrap();
    let slow = faulty(folder.path(), "stream = { throttle = \"60%\" }");
    let slow = format!("lab:{slow}");
    let common = ["download", "--bytes", "16MiB", "--slice", "150ms", "--margin", "20%", "--seed", "7"];
    let report = any(&[1], &[&common[..], &["--vs", &slow]].concat());
    assert_eq!(report["verdict"]["status"], "fail");
    assert_eq!(report["settings"]["seed"], 7);
    let goodput = &report["gate"]["metrics"][0];
    assert_eq!((&goodput["metric"], &goodput["outcome"]), (&"goodput".into(), &"fail".into()));
    assert!(goodput["ratio"].as_f64().unwrap() < 0.7, "{goodput:#}");
    assert_eq!(report["gate"]["pairs"].as_array().unwrap().len() % 15, 0);
    // Alike arms are never worse than each other, however noisy the machine is.
    any(&[0, 3], &[&common[..], &["--vs", "lab"]].concat());
    // A code that only B shows fails at once, whatever the figures say: here every third transfer is cut off.
    let broken = format!("lab:{}", faulty(folder.path(), "stream = \"cut\"\nwhen = { after_bytes = 2500000 }"));
    let report = any(&[1], &["download", "--bytes", "1MiB", "--slice", "150ms", "--margin", "20%", "--vs", &broken]);
    assert_eq!(report["gate"]["errors"]["outcome"], "fail");
    assert_eq!(report["gate"]["errors"]["new_codes"][0], "transfer.truncated");
}

#[test]
fn results_are_saved_merged_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (one, two) = (file("one.json"), file("two"));
    let common = ["request", "--duration", "3s", "-n", "4"];
    for path in [&one, &two] {
        json(0, &[&common[..], &["--save", path]].concat());
    }
    let output = bench(&["merge", &one, &two, "--format", "json"]);
    let (merged, sum) = (report(&output), |path: &str| -> u64 {
        count(&serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap(), "operations")
    });
    assert_eq!(count(&merged, "operations"), sum(&one) + sum(&two));
    assert_eq!(measured(&merged)["latency"]["count"].as_u64(), Some(sum(&one) + sum(&two)));
    assert_eq!(merged["environment"]["machines"], 2);

    let output = bench(&[&common[..], &["--warmup", "100ms", "--baseline", &one, "--margin", "90%"]].concat());
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}");
    assert!(text.contains("measured at another time"), "{text}");
    let output = bench(&["download", "--baseline", &one]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("other settings"), "{}", stderr(&output));
    for format in ["md", "csv", "html", "txt"] {
        let path = file(&format!("report.{format}"));
        assert!(bench(&["merge", &one, &two, "-o", &path, "-o", &file(&format!("also.{format}"))]).status.success());
        assert!(fs::metadata(&path).unwrap().len() > 100, "{format}");
    }
}

#[test]
fn input_that_cannot_be_used_is_refused_before_anything_is_sent() {
    let sas = "https://acct.blob.core.windows.net/c/b?sv=1&sig=TOPSECRET";
    for (args, part) in [
        (&["upload", "https://acct.blob.core.windows.net/c/b"][..], "signature"),
        (&["upload", "http://127.0.0.1:1/some/file"], "replace"),
        (&["download", "https://acct.blob.core.windows.net"], "name a blob"),
        (&["download", "http://acct.blob.core.windows.net/c/b?sv=1&sig=TOPSECRET"], "https://"),
        (&["tls", "http://127.0.0.1:1"], "no TLS"),
        (&["request", "tcp://127.0.0.1:1"], "no HTTP"),
        (&["tunnel", "tcp://127.0.0.1:1"], "--proxy"),
        (&["download", "--rate", "5/s"], "--rate"),
        (&["request", "--rate", "0/s"], "2000/s"),
        (&["request", "--margin", "5"], "5%"),
        (&["request", "--margin", "5%"], "comparison"),
        (&["request", "--vs", "direct"], "--proxy"),
        (&["request", "--vs", "nonsense"], "lab:SCENARIO"),
        (&["request", "--vs", "lab:nonsense"], "nonsense"),
        (&["request", "--vs", "lab", "--metric", "goodput"], "usual one"),
        (&["request", "--lab", "--bind", "127.0.0.1"], "--bind"),
        (&["request", "--vs", "lab", "--connect-to", "acct.blob.core.windows.net:80:127.0.0.1:1"], "--connect-to"),
        (&["walk"], "download"),
        (&["request", "--congestion", "nonsense"], "congestion"),
        (&["merge", "/nonexistent.json", "/nonexistent.json"], "/nonexistent.json"),
        (&["request", "--format", "junit"], "json"),
    ] {
        let output = bench(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(part), "{args:?}: {}", stderr(&output));
        assert!(!stderr(&output).contains("TOPSECRET"), "{}", stderr(&output));
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    // A signature stays out of every format, also when the target cannot be reached.
    for format in ["text", "json", "markdown", "csv", "html"] {
        let route = "acct.blob.core.windows.net:443:127.0.0.1:1";
        let output = bench(&["download", sas, "--connect-to", route, "--duration", "1s", "--format", format]);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let all = format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
        assert!(!all.contains("TOPSECRET") && !all.contains("sig="), "{all}");
    }
}

/// Runs against a lab of this process until its parties have seen so much, then does something to one of them.
fn meanwhile(args: &[&str], lab: Lab, seen: usize, act: impl FnOnce(&Child, Lab)) -> Output {
    let child = snapreach()
        .arg("bench")
        .args(args)
        .args(["--warmup", "1ms", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while lab.log().len() < seen {
        assert!(Instant::now() < end, "nothing happens");
        thread::yield_now();
    }
    act(&child, lab);
    child.wait_with_output().unwrap()
}

#[test]
fn an_interrupt_reports_what_there_is() {
    let lab = Lab::start(&LabSpec::default()).unwrap();
    let target = format!("http://{}/", lab.network().addresses["acct.blob.core.windows.net:80"]);
    let mut begin = None;
    let output = meanwhile(&["request", &target, "--duration", "60s"], lab, 2000, |child, _lab| {
        begin = Some(Instant::now());
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    });
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let report = report(&output);
    assert!(begin.unwrap().elapsed() < Duration::from_secs(20));
    assert_eq!(report["interrupted"], true);
    assert!(count(&report, "operations") > 0, "{report:#}");
    assert!(count(&report, "elapsed_us") < 40_000_000);
}

#[test]
fn a_proxy_that_dies_is_counted_and_holds_nothing_up() {
    let lab = Lab::start(&LabSpec::default()).unwrap();
    let network = lab.network();
    let proxy = format!("http://{}", network.addresses["proxy"]);
    let args = ["tunnel", "tcp://acct.blob.core.windows.net:443", "--proxy", &proxy, "--duration", "3s", "-n", "4"];
    let output = meanwhile(&args, lab, 200, |_, lab| drop(lab));
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{:#}", report["verdict"]);
    assert!(count(&report, "operations") > 0);
    assert!(errors(&report).contains(&"tcp.refused"), "{:#}", measured(&report)["errors"]);
}

#[test]
fn a_redirect_is_not_followed() {
    let (asked, asks) = (Arc::new(AtomicUsize::new(0)), TcpListener::bind("127.0.0.1:0").unwrap());
    let (elsewhere, redirects) = (asks.local_addr().unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let at = redirects.local_addr().unwrap();
    let counted = asked.clone();
    thread::spawn(move || asks.incoming().for_each(|_| _ = counted.fetch_add(1, Relaxed)));
    thread::spawn(move || {
        for stream in redirects.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let answer = format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let output = bench(&["download", &format!("http://{at}/file"), "--duration", "500ms", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(asked.load(Relaxed), 0);
}

#[test]
fn an_upload_is_over_when_it_is_refused() {
    for (answer, code) in [("403 Forbidden", "transfer.refused"), ("201 Created", "transfer.stalled")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = [0; 4096];
                let _ = stream.read(&mut head);
                let _ = stream.write_all(format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n").as_bytes());
                // It stays open, and nobody takes the rest.
                open.push(stream);
            }
        });
        let report = json(1, &["upload", &format!("http://{at}"), "--duration", "2s", "--timeout", "500ms"]);
        assert_eq!(errors(&report), [code], "{:#}", measured(&report)["errors"]);
        assert_eq!(count(&report, "operations"), 0, "{answer}");
    }
}

#[test]
fn a_run_that_is_over_before_anything_is_says_how_to_learn_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut open = Vec::new();
        for (turn, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            // Whether it can be measured at all is answered; nothing after it is.
            if turn == 0 {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
            }
            open.push(stream);
        }
    });
    let report = json(3, &["request", &format!("http://{at}"), "--duration", "300ms", "--timeout", "10s"]);
    let summary = report["verdict"]["summary"].as_str().unwrap();
    assert!(summary.contains("ended no operation in 300 ms (--duration above --timeout"), "{summary}");
    assert!(errors(&report).is_empty(), "{:#}", measured(&report)["errors"]);
}
