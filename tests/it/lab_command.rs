//! `snapreach lab` as its users meet it: they read one line, point a client at the lab, and stop it.
#![cfg(unix)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use snapreach::exchange::{Answer, DoorKind, Places};

use crate::support::{self, findings, report};

const ACCOUNT: &str = "acct.blob.core.windows.net";

/// A lab in the foreground. What is not ended is killed.
struct Running {
    child: Child,
    /// Held, so that the lab has somebody to write to.
    stdout: Option<BufReader<ChildStdout>>,
    said: Value,
    folder: tempfile::TempDir,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        Self::start_with(&[&["--ca-file-out", "ca.pem"], arguments].concat())
    }

    fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = support::snapreach();
        command.arg("lab").args(arguments).current_dir(folder.path());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let said = serde_json::from_str(&line).unwrap_or_else(|error| {
            let mut errors = String::new();
            child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
            panic!("not one line of JSON ({error}): {line}{errors}")
        });
        Self { child, stdout: Some(stdout), said, folder }
    }

    fn text(&self, key: &str) -> &str {
        self.said[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {:#}", self.said))
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// `--connect-to` for everything that the lab plays: no name is looked up.
    fn connect_to(&self) -> Vec<&str> {
        let values = self.said["connect_to"].as_array().unwrap().iter().map(|value| value.as_str().unwrap());
        values.flat_map(|value| ["--connect-to", value]).collect()
    }

    fn check(&self, arguments: &[&str]) -> Output {
        let mut command = support::snapreach();
        command.arg("check").args(support::LOOPBACK_ONLY).args(self.connect_to()).args([
            "--format",
            "json",
            "--attempts",
            "1",
        ]);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).output().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Ends it and gives what it wrote after its first line, to standard output and standard error, to those who still
    /// listen.
    fn end(mut self, signal: Signal) -> (String, String) {
        self.signal(signal);
        let (mut more, mut errors) = (String::new(), String::new());
        if let (Some(stdout), Some(stderr)) = (&mut self.stdout, &mut self.child.stderr) {
            stdout.read_to_string(&mut more).unwrap();
            stderr.read_to_string(&mut errors).unwrap();
        }
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{errors}");
        (more, errors)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn one_line_tells_a_client_everything() {
    let lab = Running::start(&[]);
    assert_eq!(lab.text("scenario"), "healthy");
    let addresses = lab.said["addresses"].as_object().unwrap();
    for (key, name) in
        [("dns", "dns"), ("dns_server", "dns_server"), ("host_endpoint", "host"), ("metadata", "metadata")]
    {
        assert_eq!(lab.text(key), addresses[name].as_str().unwrap());
    }
    assert_eq!(lab.text("proxy"), format!("http://{}", addresses["proxy"].as_str().unwrap()));
    let pem = lab.text("ca_pem");
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\n") && pem.ends_with("-----END CERTIFICATE-----\n"), "{pem}");
    assert_eq!(fs::read_to_string(lab.ca_file()).unwrap(), pem);
    let storage = format!("{ACCOUNT}:443:{}", addresses[&format!("{ACCOUNT}:443")].as_str().unwrap());
    let wire_server = format!("168.63.129.16:80:{}", lab.text("host_endpoint"));
    let metadata = format!("169.254.169.254:80:{}", lab.text("metadata"));
    for value in [storage, wire_server, metadata] {
        assert!(lab.connect_to().contains(&value.as_str()), "{value} is missing");
    }
    // Nobody asked for events, so nothing more is said.
    assert_eq!(lab.end(Signal::SIGINT), (String::new(), String::new()));
}

#[test]
fn the_program_reaches_the_lab_over_both_routes() {
    let lab = Running::start(&[]);
    let proxy = lab.text("proxy").to_owned();
    let output = lab.check(&["--proxy", &proxy, "--ca-file", "ca.pem", ACCOUNT]);
    let seen = report(&output);
    assert_eq!(output.status.code(), Some(0), "{seen:#}");
    let cells = seen["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 6, "{cells:#?}");
    // The authority was given by hand, which is all there is to say.
    let found: std::collections::BTreeSet<_> = findings(&seen).into_iter().collect();
    let warnings =
        [("consumer.distrusts_anchor", "consumer", "warning"), ("tls.intercepted", "client_to_origin", "warning")];
    assert_eq!(found, warnings.into());

    // Where the system's store holds it, everything is in order.
    let mut command = support::snapreach();
    command.env("SSL_CERT_FILE", lab.ca_file()).arg("check").args(support::LOOPBACK_ONLY).args(lab.connect_to());
    command.args(["--format", "json", "--proxy", &proxy, ACCOUNT]);
    let seen = report(&command.output().unwrap());
    assert_eq!((&seen["verdict"]["status"], findings(&seen)), (&Value::from("clear"), vec![]), "{seen:#}");
    lab.end(Signal::SIGTERM);
}

#[test]
fn the_faults_of_a_scenario_are_played_and_events_are_shown() {
    let lab = Running::start(&["--scenario", "proxy-port-denied", "-v"]);
    assert_eq!(lab.text("scenario"), "proxy-port-denied");
    let proxy = lab.text("proxy").to_owned();
    let output = lab.check(&["--proxy", &proxy, "--route", "proxy", "--ca-file", "ca.pem", ACCOUNT]);
    let seen = report(&output);
    assert_eq!(output.status.code(), Some(1), "{seen:#}");
    support::finding(&seen, "proxy.port_denied");
    let (_, errors) = lab.end(Signal::SIGTERM);
    let events: Vec<Value> = errors.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let is = |event: &Value, kind: &str, authority: &str| event["event"] == kind && event["authority"] == authority;
    let denied = format!("{ACCOUNT}:8443");
    assert!(events.iter().any(|event| is(event, "connect", &denied) && event["status"] == 403), "{errors}");
    let tunnel = events.iter().find(|event| is(event, "tunnel", &format!("{ACCOUNT}:443"))).expect("a tunnel");
    assert!(tunnel["up"].as_u64() > Some(0) && tunnel["down"].as_u64() > Some(0), "{tunnel}");
}

#[test]
fn curl_fetches_directly_and_through_the_proxy() {
    let Some(curl) = support::program("curl") else { return support::skipped("curl is not installed") };
    let lab = Running::start(&[]);
    let ca_file = lab.ca_file();
    let fetch = |arguments: &[&str], url: &str| -> String {
        let mut command = Command::new(&curl);
        support::clean(&mut command);
        // No file of the user's, and no proxy but the one that is given.
        command.args(["--disable", "--silent", "--show-error", "--include", "--cacert"]).arg(&ca_file);
        let output = command.args(arguments).arg(url).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{url}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let storage = format!("https://{ACCOUNT}/?comp=list");
    let proxied = fetch(&["--proxy", lab.text("proxy")], &storage);
    assert!(proxied.contains("200 Connection established") && proxied.contains("x-ms-request-id"), "{proxied}");
    let direct = fetch(&lab.connect_to(), &storage);
    assert!(direct.contains("x-ms-request-id") && !direct.contains("established"), "{direct}");
    let versions = fetch(&lab.connect_to(), "http://168.63.129.16/?comp=versions");
    assert!(versions.contains("<Version>2015-04-05</Version>"), "{versions}");
    lab.end(Signal::SIGTERM);
}

#[test]
fn the_origin_runs_alone_and_says_where_it_is() {
    let lab = Running::start_with(&["--origin-only", "--listen", "127.0.0.1"]);
    let places: Places = serde_json::from_value(lab.said.clone()).unwrap();
    for kind in [DoorKind::Refuses, DoorKind::Silent, DoorKind::Resets] {
        assert!(places.of(kind).next().is_some(), "{places:?}");
    }
    for port in [443, 8443, 80] {
        let serves = places.of(DoorKind::Serves).any(|door| door.port() == port);
        assert_ne!(serves, places.missing.iter().any(|(missing, _)| *missing == port), "{places:?}");
    }
    let door = places.of(DoorKind::Serves).next().unwrap();
    let mut stream = TcpStream::connect(door).unwrap();
    stream.write_all(b"snapreach/1 certificate\n").unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    assert!(matches!(Answer::parse(line.as_bytes()), Some(Answer::Certificate(_))), "{line}");
    assert_eq!(lab.end(Signal::SIGTERM), (String::new(), String::new()));
}

#[test]
fn the_origin_takes_the_one_port_that_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let lab = Running::start_with(&["--origin-only", "--listen", &free.to_string()]);
    let places: Places = serde_json::from_value(lab.said.clone()).unwrap();
    assert!(places.of(DoorKind::Serves).eq([free]) && places.missing.is_empty(), "{places:?}");
    lab.end(Signal::SIGINT);
}

#[test]
fn what_cannot_be_used_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("typo.toml"), "abuot = \"x\"\n").unwrap();
    let refused = |arguments: &[&str], part: &str| {
        let output = support::snapreach().arg("lab").args(arguments).current_dir(folder.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(output.stdout.is_empty() && errors.contains(part), "{arguments:?}: {errors}");
    };
    refused(&["--scenario", "healty"], "did you mean `healthy`?");
    refused(&["--scenario", "typo.toml"], "typo.toml:1:1: ");
    refused(&["--scenario", "missing.toml"], "missing.toml:1:1: cannot read");
    refused(&["--origin-only"], "--listen");
    refused(&["--listen", "127.0.0.1"], "--origin-only");
    refused(&["--origin-only", "--listen", "0.0.0.0"], "no address at which a proxy can reach");
    refused(&["--origin-only", "--listen", "here"], "ADDR:PORT");
    refused(&["--origin-only", "--listen", "127.0.0.1", "--scenario", "healthy"], "cannot be used with");
    refused(&["--ca-file-out", "no/such/folder/ca.pem"], "cannot write the CA file no/such/folder/ca.pem");
}

#[test]
fn a_reader_that_leaves_does_not_end_the_lab() {
    let mut lab = Running::start(&["-v"]);
    drop((lab.stdout.take(), lab.child.stderr.take()));
    // The events of these checks have no reader any more.
    for _ in 0..3 {
        let seen = report(&lab.check(&["--no-proxy", "http://168.63.129.16"]));
        assert_eq!(findings(&seen)[0].0, "http.wrong_speaker", "{seen:#}");
    }
    lab.end(Signal::SIGTERM);
}
