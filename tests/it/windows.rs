//! A Windows machine from files that were exported there, as a user would give them.

use std::{fs, path::PathBuf, process::Output};

use serde_json::{Value, json};
use snapreach::lab::{Event, Lab, LabSpec};
use tempfile::TempDir;

use crate::support::{self, report};

const HIVE: &str = r"HKEY_USERS\S-1-5-18";
const KEY: &str = r"Software\Microsoft\Windows\CurrentVersion\Internet Settings";
const NAME: &str = "acct.blob.core.windows.net";

/// A folder with files.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A registry file, in UTF-16 as regedit writes it.
    fn registry(&self, name: &str, body: &str) -> PathBuf {
        let text = format!("\u{feff}Windows Registry Editor Version 5.00\r\n\r\n{body}");
        self.write(name, text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

/// Values below a hive.
fn values(hive: &str, lines: &[&str]) -> String {
    format!("[{hive}\\{KEY}]\r\n{}\r\n\r\n", lines.join("\r\n"))
}

/// A manual proxy and its exceptions, in the blob of the system account.
fn blob(proxy: &str, bypass: &str) -> String {
    let text = |text: &str| [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat();
    let head = [0x46_u32, 3, 3].map(u32::to_le_bytes).concat();
    let bytes = [head, text(proxy), text(bypass), text(""), vec![0; 32]].concat();
    let lines: Vec<String> = bytes
        .chunks(25)
        .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(","))
        .collect();
    format!("[{HIVE}\\{KEY}\\Connections]\r\n\"DefaultConnectionSettings\"=hex:{}\r\n\r\n", lines.join(",\\\r\n  "))
}

/// Runs `check` in the lab with these files.
fn check(files: &[&PathBuf], options: &[&str]) -> Output {
    let mut command = support::snapreach();
    command.args(["check", "--lab", "--format", "json"]).args(options);
    for file in files {
        command.arg("--windows-registry").arg(file);
    }
    command.output().unwrap()
}

/// The row of a consumer: its proxy and its note.
fn row<'a>(report: &'a Value, consumer: &str) -> (Option<&'a str>, &'a str) {
    let rows = report["context"]["discovery"]["consumers"].as_array().unwrap();
    let row = rows.iter().find(|row| row["consumer"] == consumer).unwrap_or_else(|| panic!("{consumer}: {rows:#?}"));
    (row["proxy"].as_str(), row["note"].as_str().unwrap_or_default())
}

fn codes(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

#[test]
fn the_proxy_of_the_system_account_is_the_proxy_of_the_run() {
    let folder = Folder::new();
    let file = folder.registry("system.reg", &blob("http=a:1;https=10.0.0.5:3128", "*.corp;<local>"));
    let output = check(&[&file], &[]);
    let seen = report(&output);
    assert_eq!(output.status.code(), Some(0), "{:#}", seen["findings"]);
    assert_eq!(seen["context"]["consumer"], "vmsnapshot-windows");
    assert_eq!(seen["context"]["proxy"], "http://10.0.0.5:3128");
    assert_eq!(seen["context"]["routes"], json!(["direct", "proxy"]));
    let (proxy, note) = row(&seen, "vmsnapshot-windows");
    assert_eq!(proxy, Some("http://10.0.0.5:3128"));
    assert!(note.contains("exceptions: *.corp;<local>") && note.contains("not published"), "{note}");
    assert_eq!(row(&seen, "probe").0, proxy);
    assert!(seen["predictions"].as_array().unwrap().iter().all(|one| one["consumer"] == "vmsnapshot-windows"));
    // Nothing of the machine that runs this counts for another machine.
    let rows = seen["context"]["discovery"]["consumers"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{rows:#?}");
}

#[test]
fn what_the_user_says_goes_first() {
    let folder = Folder::new();
    let file = folder.registry("system.reg", &blob("10.0.0.5:3128", ""));
    let seen = report(&check(&[&file], &["--consumer", "waagent"]));
    assert_eq!(seen["context"]["consumer"], "waagent");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    let given = |options: &[&str]| {
        let mut command = support::snapreach();
        command.args([
            "check",
            &target,
            "--format",
            "json",
            "--route",
            "direct",
            "--attempts",
            "1",
            "--windows-registry",
        ]);
        report(&command.arg(&file).args(options).output().unwrap())
    };
    let seen = given(&["--no-proxy"]);
    assert_eq!((&seen["context"]["proxy"], row(&seen, "probe").0), (&Value::Null, None));
    assert_eq!(row(&seen, "vmsnapshot-windows").0, Some("http://10.0.0.5:3128"));
}

#[test]
fn the_tunnel_goes_through_the_proxy_that_the_registry_names() {
    let lab = Lab::start(&LabSpec::default()).unwrap();
    let proxy = lab.network().addresses["proxy"];
    let folder = Folder::new();
    let lines = ["\"ProxyEnable\"=dword:00000001", &format!("\"ProxyServer\"=\"http://{proxy}\"")];
    let file = folder.registry("system.reg", &values(HIVE, &lines));
    let mut command = support::snapreach();
    command.args(["check", &format!("tcp://{NAME}:443"), "--route", "proxy", "--attempts", "1", "--format", "json"]);
    let output = command.arg("--windows-registry").arg(&file).output().unwrap();
    let seen = report(&output);
    assert_eq!(output.status.code(), Some(0), "{seen:#}");
    assert_eq!(seen["context"]["proxy"], format!("http://{proxy}"));
    let tunnels: Vec<_> = lab.log().into_iter().filter(|event| matches!(event, Event::Tunnel { .. })).collect();
    assert!(
        matches!(&tunnels[..], [Event::Tunnel { authority, .. }] if *authority == format!("{NAME}:443")),
        "{tunnels:?}"
    );
}

#[test]
fn the_text_of_netsh_is_told_by_its_form_in_any_language() {
    let folder = Folder::new();
    let german = folder.write(
        "winhttp.txt",
        "\r\nAktuelle WinHTTP-Proxyeinstellungen:\r\n\r\n    Proxyserver :  10.0.0.6:8080\r\n    Umgehungsliste :  (keine)\r\n",
    );
    let seen = report(&check(&[&german], &[]));
    assert_eq!(row(&seen, "winhttp").0, Some("http://10.0.0.6:8080"));
    assert_eq!(seen["context"]["proxy"], "http://10.0.0.6:8080");

    let direct =
        folder.write("direct.txt", "Current WinHTTP proxy settings:\n\n    Direct access (no proxy server).\n");
    let account = folder.registry("system.reg", &blob("10.0.0.5:3128", ""));
    let seen = report(&check(&[&direct, &account], &[]));
    assert_eq!((row(&seen, "winhttp").0, row(&seen, "vmsnapshot-windows").0), (None, Some("http://10.0.0.5:3128")));
    let seen = report(&check(&[&german, &account], &[]));
    assert_eq!(seen["context"]["proxy"], "http://10.0.0.5:3128");
    assert!(codes(&seen).contains(&"config.proxy_conflict"), "{:#}", seen["findings"]);
}

#[test]
fn a_pac_file_is_named_and_left_to_the_user() {
    let folder = Folder::new();
    let file = folder.registry("pac.reg", &values(HIVE, &["\"AutoConfigURL\"=\"http://pac.corp/proxy.pac\""]));
    let seen = report(&check(&[&file], &[]));
    let (proxy, note) = row(&seen, "vmsnapshot-windows");
    assert!(proxy.is_none() && note.contains("http://pac.corp/proxy.pac") && note.contains("--proxy"), "{note}");
    assert!(codes(&seen).contains(&"config.proxy_invalid"), "{:#}", seen["findings"]);
}

#[test]
fn a_file_that_cannot_be_used_is_refused_with_its_line() {
    let folder = Folder::new();
    let cases = [
        (folder.registry("open.reg", &values(HIVE, &["\"ProxyServer\"=\"TOPSECRET"])), ":4: a quotation mark"),
        (folder.registry("hex.reg", &values(HIVE, &["\"x\"=hex:00,\\", "  TOPSECRET"])), ":5: hex: takes bytes"),
        (folder.write("other.txt", "TOPSECRET"), ":1: neither a registry file"),
        (folder.write("half.txt", "Current WinHTTP proxy settings:\n\n"), ":1: nothing stands below"),
        (folder.0.path().join("missing.reg"), "cannot read"),
    ];
    for (file, part) in cases {
        for lab in [&["--lab"][..], &["tcp://127.0.0.1:9"]] {
            let output =
                support::snapreach().arg("check").args(lab).arg("--windows-registry").arg(&file).output().unwrap();
            let errors = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{errors}");
            assert!(errors.contains(file.to_str().unwrap()) && errors.contains(part), "{errors}");
            assert!(!errors.contains("TOPSECRET") && output.stdout.is_empty(), "{errors}");
        }
    }
    let big = folder.write("big.reg", vec![b' '; (16 << 20) + 1]);
    let output = check(&[&big], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("longer than 16 MiB"));
}

#[test]
fn no_report_shows_a_password() {
    let folder = Folder::new();
    let pac = "\"AutoConfigURL\"=\"http://svc:TOPSECRET@pac.corp/p.pac?key=TOPSECRET\"";
    let file = folder.registry(
        "secret.reg",
        &(values(HIVE, &[pac, "\"ProxyEnable\"=dword:1", "\"ProxyServer\"=\"svc:TOPSECRET@10.0.0.7:3128\""])
            + &blob("https=http://svc:TOPSECRET@10.0.0.5:3128", "TOPSECRET@x")),
    );
    let record = folder.0.path().join("tonight.jsonl");
    for format in ["text", "json", "jsonl", "markdown", "junit", "html", "prometheus"] {
        let mut command = support::snapreach();
        command.args(["check", "--lab", "-vv", "--format", format, "--windows-registry"]).arg(&file);
        let output = command.arg("--record").arg(&record).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let all = [output.stdout, output.stderr, fs::read(&record).unwrap()].concat();
        assert!(!String::from_utf8_lossy(&all).contains("TOPSECRET"), "{format}");
    }
}
