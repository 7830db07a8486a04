//! The program as a user meets it: what it refuses, how it says so, and what it never repeats.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support;

/// What came of one run.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Ran {
    /// The run was refused as wrong usage: nothing on standard output, and standard error says what is allowed.
    #[track_caller]
    fn refused(&self, parts: &[&str]) {
        assert_eq!(self.code, 2, "stderr: {}", self.stderr);
        assert_eq!(self.stdout, "");
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing in: {}", self.stderr);
        }
        self.keeps_secrets();
    }

    #[track_caller]
    fn succeeded(&self) -> &str {
        assert_eq!(self.code, 0, "stderr: {}", self.stderr);
        self.keeps_secrets();
        &self.stdout
    }

    /// Every password and signature given in these tests is `TOPSECRET`; it must come out nowhere.
    #[track_caller]
    fn keeps_secrets(&self) {
        assert!(!self.stdout.contains("SECRET") && !self.stderr.contains("SECRET"), "{}{}", self.stdout, self.stderr);
    }
}

/// A directory for the files of one test, in which the program runs, without variables that it would read.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.path().join(name), content).unwrap();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snapreach"));
        command.args(arguments).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        finished(self.command(arguments).output().unwrap())
    }

    fn run_with_input(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A program that refuses before it reads closes the pipe, which is no failure of the test.
        let _ = child.stdin.take().unwrap().write_all(input);
        finished(child.wait_with_output().unwrap())
    }
}

fn finished(output: Output) -> Ran {
    Ran {
        code: output.status.code().expect("the program was killed by a signal"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(arguments: &[&str]) -> Ran {
    Place::new().run(arguments)
}

#[test]
fn targets_that_cannot_be_used() {
    for (target, part) in [
        ("https://", "the host is empty"),
        ("host:0", "from 1 to 65535"),
        ("tcp://host:99999", "from 1 to 65535"),
        ("tcp://host", "tcp://HOST:PORT"),
        ("ftp://host", "https, http, tls or tcp"),
        ("https://u:TOPSECRET@host/", "credentials belong to --proxy"),
        ("https://ho st/?sig=TOPSECRET", "letters, digits, hyphens"),
        ("300.1.1.1", "from 0 to 255"),
    ] {
        run(&["check", target]).refused(&[part]);
    }
    run(&["check", "--ports", "80,0", "host"]).refused(&["--ports", "from 1 to 65535"]);
    run(&["check", "--account", "My-Account"]).refused(&["lower-case letters, digits"]);
    run(&["check", "--account", "abc", "--cloud", "moon"]).refused(&["public", "usgov", "china"]);
    run(&["check", "--disk", "http://md-1.blob.core.windows.net/c/b?sig=TOPSECRET"]).refused(&["--disk", "https://"]);
    run(&["check", "--disk", "https://md-1.blob.core.windows.net?sig=TOPSECRET"]).refused(&["/CONTAINER/BLOB"]);
}

#[test]
fn nothing_to_probe_says_what_to_give() {
    run(&["check"]).refused(&["TARGET", "--account", "--disk", "--targets", "--lab"]);
}

#[test]
fn lists_of_targets_that_cannot_be_used() {
    let place =
        Place::new().with("list", "# estate\nhost\nftp://u:TOPSECRET@host/?sig=TOPSECRET\n").with("empty", "#\n");
    place.run(&["check", "--targets", "list"]).refused(&["list:3: ", "https, http, tls or tcp"]);
    place.run(&["check", "--targets", "empty"]).refused(&["empty: ", "one per line"]);
    place.run(&["check", "--targets", "missing"]).refused(&["missing: "]);
    place.run(&["check", "--targets", "."]).refused(&["cannot read the targets from .: "]);
    place.run_with_input(&["check", "--targets", "-"], b"a\nb:0\n").refused(&["<stdin>:2: ", "1 to 65535"]);
    place.run_with_input(&["check", "--targets", "-"], b"a\n\xff\n").refused(&["<stdin>:2: ", "UTF-8"]);
}

#[test]
fn proxies_that_cannot_be_used() {
    for (proxy, part) in [
        ("http://u:TOPSECRET@:3128", "no host"),
        ("http://u:TOPSECRET@proxy", "needs a port"),
        ("http://u:TOPSECRET@proxy:0", "1 to 65535"),
        ("socks5://u:TOPSECRET@proxy:1080", "http or https"),
        ("u:TOPSECRET@proxy:3128", "http://HOST:PORT"),
    ] {
        run(&["check", "host", "--proxy", proxy]).refused(&["--proxy", part]);
        run(&["check", "host", "--route", "proxy", "--proxy", proxy]).refused(&[part]);
    }
    run(&["check", "host", "--route", "proxy", "--no-proxy"]).refused(&["--route direct"]);
}

#[test]
fn a_proxy_variable_that_captures_the_platform_is_told() {
    let place = Place::new();
    let check = |no_proxy: &str| {
        let mut command = place.command(&["check", "--no-proxy", "--attempts", "1", "tcp://127.77.0.1:1"]);
        command.args(support::LOOPBACK_ONLY);
        command.env("http_proxy", "http://svc:TOPSECRET@10.0.0.5:3128").env("no_proxy", no_proxy);
        let ran = finished(command.output().unwrap());
        ran.keeps_secrets();
        ran.stdout
    };
    let told = check("localhost,169.254.0.0/16");
    let line = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(line.contains("config.no_proxy_incomplete"), "{told}");
    let evidence = "http_proxy: http://10.0.0.5:3128 captures 168.63.129.16; no_proxy is `localhost,169.254.0.0/16`";
    assert!(line.contains(evidence), "{told}");
    assert!(!check("168.63.129.16,169.254.169.254").contains("config.no_proxy_incomplete"));
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    for arguments in [
        &["https://md-1.blob.core.windows.net/c/b?sv=1&sig=TOPSECRET"][..],
        &["check", "--prxy=http://u:TOPSECRET@proxy:3128", "host"],
        &["check", "--no-proxy=http://u:TOPSECRET@proxy:3128", "host"],
        &["check", "--attempts", "http://u:TOPSECRET@proxy:3128", "host"],
        &["check", "--account", "https://h/?sv=1&sig=TOPSECRET"],
        &["check", "--route", "http://TOPSECRET@proxy:3128"],
        &["check", "--format", "u:TOPSECRET@proxy", "host"],
        &["check", "--lab", "http://u:TOPSECRET@proxy:3128"],
        &["check", "--config", "http://u:TOPSECRET@proxy:3128"],
        &["check", "host", "-o", "https://h/?sig=TOPSECRET"],
        &["replay", "https://h/?sig=TOPSECRET"],
        &["explain", "https://h/?sig=TOPSECRET"],
        &["http://u:TOPSECRET@proxy:3128"],
    ] {
        run(arguments).refused(&[]);
    }
}

#[test]
fn values_out_of_range_or_form() {
    for (option, value, part) in [
        ("--timeout", "10", "250ms, 10s or 2m"),
        ("--timeout", "0s", "from 1ms to 1h"),
        ("--connect-timeout", "2h", "from 1ms to 1h"),
        ("--deadline", "25h", "from 1ms to 24h"),
        ("--attempts", "0", "1..=100"),
        ("--attempts", "101", "1..=100"),
        ("--attempts", "99999999999999999999", "1..=100"),
        ("--attempts", "three", "1..=100"),
        ("--concurrency", "0", "1..=1000000"),
        ("--concurrency", "18446744073709551616", "1..=1000000"),
        ("--concurrency", "1000001", "1..=1000000"),
        ("--connect-to", "host:443", "HOST:PORT:ADDR:PORT"),
        ("--connect-to", "host:443:other:443", "literal ADDR"),
        ("--dns-server", "dns.example", "ADDR:PORT"),
        ("--host-endpoint", "wire", "ADDR:PORT"),
        ("--bind", "here", "invalid IP address"),
        ("--interface", "nosuch0", "there are: "),
        ("--format", "pdf", "markdown"),
        ("--route", "around", "both"),
        ("--consumer", "tar", "vmsnapshot-linux-2018"),
        ("--method", "both", "firstGuestThenHost"),
        ("--color", "red", "always"),
    ] {
        run(&["check", "host", option, value]).refused(&[part]);
    }
}

#[test]
fn a_source_address_of_another_machine_is_refused() {
    // Documentation addresses (RFC 5737, RFC 3849) belong to nobody.
    run(&["check", "--bind", "203.0.113.9", "tcp://127.0.0.1:1"]).refused(&[
        "--bind 203.0.113.9",
        "there are: ",
        "127.0.0.1",
    ]);
    run(&["check", "--bind", "2001:db8::9", "tcp://[::1]:1"]).refused(&["--bind 2001:db8::9", "of this machine"]);
}

#[test]
fn what_is_repeated_of_an_input_is_short_and_cannot_steer_a_terminal() {
    for target in ["https://h\u{1b}[31m/", "h\u{9b}31m", "h\rerror: fine", "h\u{202e}elpmaxe"] {
        let ran = run(&["check", target]);
        ran.refused(&["cannot use `"]);
        assert!(!ran.stderr.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')), "{:?}", ran.stderr);
    }
    let place = Place::new().with("nul", "h\0:1\n").with("long", vec![b'a'; 1 << 20]).with("tabs", "a\tb\n");
    place.run(&["check", "--targets", "nul"]).refused(&["nul:1: ", "h\\x00", "letters, digits"]);
    place.run(&["check", "--targets", "tabs"]).refused(&["tabs:1: ", "a\\tb"]);
    let ran = place.run(&["check", "--targets", "long"]);
    ran.refused(&["long:1: ", "253 characters"]);
    assert!(ran.stderr.len() < 500, "{} bytes", ran.stderr.len());
}

#[cfg(unix)]
#[test]
fn a_file_that_is_no_list_of_targets_is_refused_before_it_fills_the_memory() {
    let place = Place::new().with("sparse", "");
    fs::OpenOptions::new().write(true).open(place.path().join("sparse")).unwrap().set_len(1 << 40).unwrap();
    place.run(&["check", "--targets", "sparse"]).refused(&["sparse", "64 MiB"]);
    place.run(&["check", "--targets", "/dev/zero"]).refused(&["/dev/zero", "64 MiB"]);
}

#[test]
fn an_international_name_is_refused_with_the_form_to_write() {
    run(&["check", "bücher.example"]).refused(&["bücher.example", "xn--"]);
}

#[cfg(unix)]
#[test]
fn arguments_that_are_no_text_are_named() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    for (arguments, parts) in [
        (&[&b"h\xff"[..]][..], &["argument 2: h"][..]),
        (&[b"h", b"--proxy", b"http://u:TOPSECRET@\xff:1"], &["argument 4: ", "the value of --proxy"]),
        (&[b"--disk", b"https://h/c/b?sig=TOPSECRET\xff"], &["argument 3: ", "the value of --disk"]),
        (&[b"--targets", b"no\xfffile"], &["cannot read the targets from no"]),
    ] {
        let mut command = Place::new().command(&["check"]);
        command.args(arguments.iter().map(|bytes| OsStr::from_bytes(bytes)));
        finished(command.current_dir("/").output().unwrap()).refused(parts);
    }
}

#[test]
fn options_that_exclude_each_other() {
    for (arguments, part) in [
        (&["host", "--proxy", "http://u:TOPSECRET@p:1", "--no-proxy"][..], "--no-proxy"),
        (&["host", "--proxy", "http://u:TOPSECRET@p:1", "--route", "direct"], "--route both"),
        (&["host", "-4", "-6"], "--ipv6"),
        (&["host", "-4", "--bind", "::1"], "must be IPv4"),
        (&["host", "-6", "--bind", "127.0.0.1"], "must be IPv6"),
        (&["host", "--no-host", "--host-endpoint", "127.0.0.1"], "--no-host"),
        (&["host", "--no-system-roots"], "--ca-file"),
        (&["--lab", "--proxy", "http://u:TOPSECRET@p:1"], "--lab cannot be used with --proxy"),
        (&["--lab", "healthy", "--account", "abc"], "--lab cannot be used with --account"),
        (&["--lab", "healthy", "--targets", "list"], "--lab cannot be used with --targets"),
        (&["--lab", "healthy", "https://h/?sig=TOPSECRET"], "--lab cannot be used with TARGET"),
    ] {
        run(&[&["check"], arguments].concat()).refused(&[part]);
    }
}

#[test]
fn unknown_flags_commands_scenarios_and_codes() {
    run(&["check", "--prots", "443", "host"]).refused(&["--prots", "--ports"]);
    run(&["chek"]).refused(&["check"]);
    run(&[]).refused(&["Usage"]);
    run(&["check", "--lab", "healty"]).refused(&["healty", "did you mean `healthy`?", "There are: "]);
    run(&["check", "--lab", "missing.toml"]).refused(&["missing.toml"]);
    run(&["explain", "no.such_code"]).refused(&["no.such_code", "lists all codes"]);
    run(&["completions", "tcsh"]).refused(&["bash", "zsh"]);
    run(&["man", "chek"]).refused(&["check", "replay"]);
}

#[test]
fn ca_files_that_hold_no_certificate() {
    let place = Place::new()
        .with("empty.pem", "")
        .with("text.pem", "hello")
        .with("broken.pem", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n")
        .with("other.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    for (file, part) in [
        ("missing.pem", "missing.pem: "),
        (".", "CA file .: "),
        ("empty.pem", "empty.pem: it is empty"),
        ("text.pem", "text.pem: no certificate in it"),
        ("broken.pem", "broken.pem: "),
        ("other.pem", "no X.509 certificate"),
    ] {
        place.run(&["check", "host", "--ca-file", file]).refused(&[part]);
    }
}

#[test]
fn configuration_files_that_cannot_be_used() {
    for (text, parts) in [
        ("attempts = 3\nprots = [443]\n", &["snapreach.toml:2:1: ", "`ports`", "`connect_timeout`"][..]),
        ("timeout = \"10\"\n", &["snapreach.toml:1:", "250ms, 10s or 2m"]),
        ("ports = [0]\n", &["snapreach.toml:1:", "1 to 65535"]),
        ("\nproxy = \"http://u:TOPSECRET@proxy\"\n", &["snapreach.toml:2:", "needs a port"]),
        ("attempts = \"http://u:TOPSECRET@proxy:1\"\n", &["snapreach.toml:1:"]),
        ("proxy = http://u:TOPSECRET@proxy:1\n", &["snapreach.toml:1:"]),
    ] {
        Place::new().with("snapreach.toml", text).run(&["check", "host"]).refused(parts);
        let named = text.to_owned();
        let place = Place::new().with("other.toml", named);
        place.run(&["check", "--print-config", "--config", "other.toml"]).refused(&["other.toml:"]);
    }
    run(&["check", "host", "--config", "missing.toml"]).refused(&["missing.toml: "]);
    let both = Place::new().with("snapreach.toml", "no_proxy = true\n");
    both.run(&["check", "host", "--route", "proxy"]).refused(&["--no-proxy", "--route direct"]);
}

#[test]
fn the_effective_configuration_is_printed_without_secrets() {
    let place = Place::new().with(
        "snapreach.toml",
        "attempts = 7\nproxy = \"http://svc:TOPSECRET@proxy:3128\"\n\
         disk = [\"https://md-1.blob.core.windows.net/c/b?sv=1&sig=TOPSECRET\"]\n",
    );
    let ran = place.run(&["check", "--print-config", "--timeout", "2s", "-4"]);
    let shown = ran.succeeded();
    for line in [
        "# From ./snapreach.toml",
        "attempts = 7",
        "timeout = \"2s\"",
        "connect_timeout = \"10s\"",
        "ipv4 = true",
        "svc:[redacted]@proxy:3128",
        "/c/b?[redacted]",
        "method = \"firstHostThenGuest\"",
    ] {
        assert!(shown.contains(line), "`{line}` is missing in: {shown}");
    }
    assert!(shown.parse::<toml::Table>().is_ok(), "{shown}");

    let ran = place.run(&["check", "--print-config", "--no-proxy", "--account", "abc"]);
    let shown = ran.succeeded();
    assert!(shown.contains("no_proxy = true") && !shown.contains("proxy:3128"), "{shown}");
    assert!(shown.contains("account = [\"abc\"]") && !shown.contains("md-1"), "{shown}");

    // The lab is the same everywhere: a file that happens to lie here does not count.
    let ran = place.run(&["check", "--print-config", "--lab"]);
    let shown = ran.succeeded();
    assert!(shown.contains("lab = \"healthy\"") && shown.contains("attempts = 3"), "{shown}");
}

#[test]
fn output_files_that_cannot_be_written_stop_the_run_before_it_begins() {
    let place = Place::new().with("estate.json", "[]");
    place.run(&["check", "tcp://127.0.0.1:1", "-o", "good.json", "-o", "no/such/r.json"]).refused(&["no/such/r.json"]);
    assert!(!place.path().join("good.json").exists(), "an empty report was left behind");
    place.run(&["check", "tcp://127.0.0.1:1", "-o", "report.pdf"]).refused(&["report.pdf", ".html"]);
    place.run(&["check", "tcp://127.0.0.1:1", "--record", "no/such/r.jsonl"]).refused(&["no/such/r.jsonl"]);
    place.run(&["check", "tcp://127.0.0.1:1", "--record", "-"]).refused(&["--record needs a FILE"]);
    place.run(&["check", "tcp://127.0.0.1:1", "-o", "a.json", "--record", "a.json"]).refused(&["named twice"]);
    place.run(&["check", "--targets", "estate.json", "-o", "estate.json"]).refused(&["estate.json"]);
    assert_eq!(fs::read_to_string(place.path().join("estate.json")).unwrap(), "[]");
}

#[test]
fn records_that_cannot_be_replayed() {
    let head = r#"{"schema":1,"kind":"record","context":{"cloud":"public","region":null},"targets":[]}"#;
    let end = r#"{"end":{"observations":0}}"#;
    let place = Place::new()
        .with("empty.jsonl", "")
        .with("text.jsonl", "hello\n")
        .with("newer.jsonl", head.replace("\"schema\":1", "\"schema\":99"))
        .with("broken.jsonl", format!("{head}\nhello\n{end}\n"))
        .with("good.jsonl", format!("{head}\n{end}\n"));
    for (file, part) in [
        ("missing.jsonl", "missing.jsonl: "),
        (".", "the record .: "),
        ("empty.jsonl", "empty.jsonl:1: "),
        ("text.jsonl", "text.jsonl:1: "),
        ("newer.jsonl", "schema 99"),
        ("broken.jsonl", "broken.jsonl:2: "),
    ] {
        place.run(&["replay", file]).refused(&[part]);
        // One bad record among good ones: nothing is reported at all.
        place.run(&["replay", "good.jsonl", file]).refused(&[part]);
    }
    place.run_with_input(&["replay", "-"], b"hello\n").refused(&["<stdin>:1: "]);
    place.run(&["replay", "good.jsonl", "good.jsonl", "--format", "junit"]).refused(&["one FILE"]);
    place.run(&["replay", "good.jsonl", "-o", "good.jsonl"]).refused(&["none may be an input"]);
    assert!(fs::read_to_string(place.path().join("good.jsonl")).unwrap().starts_with("{\"schema\""));
}

#[test]
fn help_version_man_pages_and_completions() {
    let help = run(&["--help"]);
    for command in ["check", "replay", "explain", "completions", "man"] {
        assert!(help.succeeded().contains(command));
        for flag in ["-h", "--help"] {
            let ran = run(&[command, flag]);
            assert!(ran.succeeded().contains("Usage: snapreach"), "{command} {flag}");
        }
        let page = run(&["man", command]);
        assert!(page.succeeded().contains(&format!(".TH snapreach-{command} 1")), "{}", page.stdout);
    }
    assert!(run(&["check", "--help"]).succeeded().contains("snapreach check --lab"));
    assert!(!run(&["check", "-h"]).succeeded().contains("Examples:"));
    assert_eq!(run(&["--version"]).succeeded(), format!("snapreach {}\n", env!("CARGO_PKG_VERSION")));
    assert!(run(&["man"]).succeeded().contains(".TH snapreach 1"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = run(&["completions", shell]);
        assert!(ran.succeeded().contains("connect-timeout"), "{shell}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for arguments in
        [&["completions", "bash"][..], &["man", "check"], &["check", "--print-config"], &["check", "--help"]]
    {
        let place = Place::new();
        let mut child = place.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ran = finished(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
    }
}

/// Runs that measure something: on loopback only.
mod run {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::TcpListener,
        process::{Command, Stdio},
        thread,
    };

    use super::{Place, finished, fs, support};

    const FORMATS: [&str; 7] = ["text", "json", "jsonl", "markdown", "junit", "prometheus", "html"];

    #[test]
    fn the_healthy_lab_is_clear_and_says_nothing_on_standard_error() {
        let place = Place::new().with("snapreach.toml", "this is not read with --lab");
        let ran = place.run(&["check", "--lab"]);
        assert!(ran.succeeded().starts_with("CLEAR"), "{}", ran.stdout);
        assert_eq!(ran.stderr, "");
        assert!(!ran.stdout.contains('\u{1b}'), "colours without a terminal");
        let coloured = place.run(&["check", "--lab", "--color", "always"]);
        assert!(coloured.succeeded().contains('\u{1b}'));
    }

    #[test]
    fn a_replayed_record_gives_the_same_report_in_every_format() {
        let place = Place::new();
        let files = ["-o", "r.txt", "-o", "r.jsonl", "-o", "r.md", "-o", "r.xml", "-o", "r.prom", "-o", "r.html"];
        let arguments = [&["check", "--lab", "--format", "json", "--record", "record.jsonl"], &files[..]].concat();
        let live = place.run(&arguments);
        let live = live.succeeded();
        assert_eq!(place.run(&["replay", "record.jsonl", "--format", "json"]).succeeded(), live);
        for (format, file) in
            FORMATS.iter().filter(|f| **f != "json").zip(["txt", "jsonl", "md", "xml", "prom", "html"])
        {
            let written = fs::read_to_string(place.path().join(format!("r.{file}"))).unwrap();
            assert_eq!(place.run(&["replay", "record.jsonl", "--format", format]).succeeded(), written, "{format}");
        }
        let twice = place.run(&["replay", "record.jsonl", "record.jsonl"]);
        assert_eq!(twice.succeeded().matches("==> record.jsonl <==").count(), 2);
    }

    #[test]
    fn a_reader_that_goes_away_changes_neither_exit_code_nor_the_files() {
        let place = Place::new();
        let mut command = place.command(&["check", "--lab", "--format", "json", "-o", "r.json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ran = finished(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
        assert!(fs::read_to_string(place.path().join("r.json")).unwrap().ends_with("}\n"));
    }

    #[test]
    #[cfg(unix)]
    fn ctrl_c_reports_what_was_measured() {
        // Accepts and never says a word, so that the handshake is under way when the signal comes.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = format!("tls://{}", silent.local_addr().unwrap());
        let place = Place::new();
        let mut command =
            place.command(&["check", &target, "--no-proxy", "--attempts", "1", "--timeout", "10m", "--deadline", "1h"]);
        command.args(support::LOOPBACK_ONLY);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (_connection, _) = silent.accept().unwrap();
        let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        let ran = finished(child.wait_with_output().unwrap());
        assert_eq!(ran.code, 130, "{}", ran.stderr);
        assert!(ran.stdout.contains(&silent.local_addr().unwrap().to_string()), "{}", ran.stdout);
    }

    #[test]
    fn credentials_come_out_in_no_format() {
        // A proxy that sends every request back in its refusal.
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://svc:TOPSECRET@{}", proxy.local_addr().unwrap());
        thread::spawn(move || {
            for stream in proxy.incoming().flatten() {
                let mut head = String::new();
                let mut reader = BufReader::new(stream.take(16 * 1024));
                while reader.read_line(&mut head).is_ok_and(|n| n > 2) {}
                let reply = format!(
                    "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: {}\r\n\r\n{head}",
                    head.len()
                );
                let _ = reader.into_inner().into_inner().write_all(reply.as_bytes());
            }
        });
        let encoded = "c3ZjOlRPUFNFQ1JFVA";
        for format in FORMATS {
            let place = Place::new();
            let ran = place.run(&[
                "check",
                "--disk",
                "https://127.0.0.1:1/c/b?sv=1&sig=TOPSECRET",
                "--proxy",
                &url,
                "--route",
                "proxy",
                "--attempts",
                "1",
                "--no-imds",
                "--no-host",
                "--record",
                "record.jsonl",
                "-vv",
                "--format",
                format,
            ]);
            assert_eq!(ran.code, 1, "{}", ran.stderr);
            assert!(ran.stdout.contains("proxy.auth_rejected"), "{}", ran.stdout);
            ran.keeps_secrets();
            let record = fs::read_to_string(place.path().join("record.jsonl")).unwrap();
            for text in [&ran.stdout, &ran.stderr, &record] {
                assert!(!text.contains("SECRET") && !text.contains(encoded), "{format}: {text}");
            }
        }
    }
}
