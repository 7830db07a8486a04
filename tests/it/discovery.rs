//! `check` without targets, as on the machine whose backup failed: trees of files that mimic virtual machines, and instance
//! metadata from a server of the test's own.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Output,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use serde_json::Value;

use crate::support;

/// Instance metadata on loopback, with one answer for everybody.
struct Imds {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Imds {
    fn start(body: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, done) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (log, end) = (asked.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                log.lock().unwrap().push(head.join("\n"));
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nServer: IMDS/150.870.65.1\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                // A client that has enough closes early.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        Self { address, asked, done, thread: Some(thread) }
    }

    fn of(sample: &str) -> Self {
        Self::start(fs::read(fixtures().join("metadata").join(format!("{sample}.json"))).unwrap())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Imds {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        let _ = self.thread.take().unwrap().join();
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// `check --lab` on the machine below this folder, of which metadata says this.
fn check(root: &Path, imds: &Imds, more: &[&str]) -> Output {
    let mut command = support::snapreach();
    command.arg("check").arg("--root").arg(root).args(["--imds", &imds.address.to_string(), "--lab"]).args(more);
    let output = command.output().unwrap();
    for stream in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(stream).contains("TOPSECRET"), "{}", String::from_utf8_lossy(stream));
    }
    output
}

/// The JSON report of a machine among the fixtures, which must be a clear or a degraded one.
fn report(tree: &str, sample: &str) -> Value {
    let output = check(&fixtures().join(tree), &Imds::of(sample), &["--format", "json"]);
    let report = support::report(&output);
    assert_eq!(output.status.code(), Some(0), "{:#}", report["findings"]);
    report
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The hosts of a report's targets, each once.
fn hosts(report: &Value) -> Vec<&str> {
    let mut hosts: Vec<_> =
        report["targets"].as_array().unwrap().iter().map(|target| target["host"].as_str().unwrap()).collect();
    hosts.dedup();
    hosts
}

/// Observations of the host channel.
fn host_channel(report: &Value) -> usize {
    let seen = report["observations"].as_array().unwrap().iter();
    seen.filter(|observation| observation["host_service"].is_string()).count()
}

/// Proxy and source of a consumer.
fn consumer<'a>(report: &'a Value, name: &str) -> (Option<&'a str>, Option<&'a str>) {
    let rows = report["context"]["discovery"]["consumers"].as_array().unwrap();
    let row = rows.iter().find(|row| row["consumer"] == name).unwrap_or_else(|| panic!("no {name} in {rows:#?}"));
    (row["proxy"].as_str(), row["source"].as_str())
}

#[test]
fn a_machine_explains_itself_without_a_further_argument() {
    let output = check(&fixtures().join("vm"), &Imds::of("vm"), &["--format", "json"]);
    let report = support::report(&output);
    assert_eq!(output.status.code(), Some(0), "{:#}", report["findings"]);
    let used = ["md-hdd4kqzx1t2v.z27.blob.storage.azure.net", "md-2vx1qk4zshdd.z31.blob.storage.azure.net"];
    assert_eq!(hosts(&report), used, "the hosts that the extension's log names");
    let context = &report["context"];
    assert_eq!((&context["consumer"], &context["method"]), (&"vmsnapshot-linux".into(), &"firstHostThenGuest".into()));
    assert_eq!(context["region"], "westeurope");
    assert_eq!(context["proxy"], "http://10.0.0.5:3128");
    let file = Some("/etc/waagent.conf");
    assert_eq!(consumer(&report, "waagent"), (Some("http://10.0.0.5:3128"), file));
    assert_eq!(consumer(&report, "vmsnapshot-linux"), (None, file), "both keys are set, so it goes direct");
    assert_eq!(consumer(&report, "probe"), (Some("http://10.0.0.5:3128"), file));
    assert_eq!(consumer(&report, "shell"), (None, None));
    assert_eq!(context["discovery"]["last_run"]["code"], 2);

    let shown = text(&check(&fixtures().join("vm"), &Imds::of("vm"), &["-v"]));
    let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for source in context["discovery"]["sources"].as_array().unwrap() {
        let (origin, gave) = (source["origin"].as_str().unwrap(), source["gave"].as_str().unwrap_or("nothing of use"));
        // Each run has a metadata server, and so a port, of its own.
        let (origin, told) =
            if origin.starts_with("instance metadata") { ("instance metadata", false) } else { (origin, true) };
        assert!(flat.contains(origin), "{origin} is not in {shown}");
        assert!(!told || flat.contains(&format!("{origin}: {gave}")), "{origin}: {gave} is not in {shown}");
    }
    for part in [
        "Machine vm-app1 in westeurope (public)",
        "3 managed disks: vm-app1_OsDisk, data0, data1",
        "code 2, PreSnapshot 555",
    ] {
        assert!(flat.contains(part), "{part} is not in {shown}");
    }
}

#[test]
fn spaces_in_the_agents_file_leave_the_extension_without_a_proxy() {
    let report = report("vm-sles", "vm-sles");
    let context = &report["context"];
    assert_eq!(hosts(&report), ["md-impsles01xyz2.z27.blob.storage.azure.net"]);
    assert_eq!((&context["consumer"], &context["method"]), (&"vmsnapshot-linux-2019".into(), &"onlyGuest".into()));
    assert_eq!(consumer(&report, "waagent").0, Some("http://proxy.corp.example:3128"));
    assert_eq!(consumer(&report, "vmsnapshot-linux-2019").0, None);
    assert_eq!(context["routes"], serde_json::json!(["direct", "proxy"]), "the lab plays the proxy by its name");
    support::finding(&report, "config.agent_file_unreadable_by_extension");
}

#[test]
fn unmanaged_disks_are_probed_where_metadata_says_they_are() {
    let imds = Imds::of("vm-unmanaged");
    let output = check(&fixtures().join("vm-unmanaged"), &imds, &["--format", "json"]);
    let report = support::report(&output);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(hosts(&report), ["acct.blob.core.windows.net", "oldvhds7.blob.core.windows.net"]);
    assert_eq!(report["targets"].as_array().unwrap().len(), 6, "ports 80, 443 and 8443 of both");
    let context = &report["context"];
    assert_eq!((&context["cloud"], &context["region"]), (&"public".into(), &"germanywestcentral".into()));
    assert_eq!(context["routes"], serde_json::json!(["direct"]), "nothing names a proxy");
    assert_eq!(consumer(&report, "waagent"), (None, None));
    assert!(host_channel(&report) > 0, "the host channel belongs to a virtual machine of Azure");

    let asked = imds.asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(asked[0].starts_with("GET /metadata/instance?api-version="), "{asked:?}");
    assert!(asked[0].to_ascii_lowercase().contains("\nmetadata: true"), "{asked:?}");
}

#[test]
fn in_the_lab_metadata_alone_describes_a_machine() {
    let imds = Imds::of("vm-unmanaged");
    let mut command = support::snapreach();
    command.args(["check", "--lab", "--format", "json", "--imds", &imds.address.to_string()]);
    let output = command.env("https_proxy", "http://10.0.0.9:1").output().unwrap();
    let report = support::report(&output);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(hosts(&report).len(), 2);
    assert_eq!(consumer(&report, "probe").0, None, "the variables of whoever runs the lab are no part of it");
    assert!(host_channel(&report) > 0);
}

#[test]
fn the_proxy_that_only_the_extension_uses_is_probed() {
    let report = report("vm-host-alone", "vm-unmanaged");
    assert_eq!(report["context"]["proxy"], "http://10.0.0.5:3128");
    assert_eq!(report["context"]["routes"], serde_json::json!(["direct", "proxy"]));
    assert_eq!(consumer(&report, "vmsnapshot-linux"), (Some("http://10.0.0.5:3128"), Some("/etc/waagent.conf")));
    assert_eq!(consumer(&report, "waagent").0, None);
    let as_read = Some("/etc/waagent.conf, as the snapshot extension reads it");
    assert_eq!(consumer(&report, "probe"), (Some("http://10.0.0.5:3128"), as_read));
}

#[test]
fn disks_that_only_the_host_can_snapshot_decide_the_method() {
    let imds = Imds::start(
        fs::read_to_string(fixtures().join("metadata/vm-unmanaged.json"))
            .unwrap()
            .replacen("\"writeAcceleratorEnabled\": \"false\"", "\"writeAcceleratorEnabled\": \"true\"", 1)
            .into_bytes(),
    );
    // The settings file of this machine says onlyGuest.
    let machine = fixtures().join("vm-sles");
    let output = check(&machine, &imds, &["--format", "json"]);
    let report = support::report(&output);
    assert_eq!(report["context"]["method"], "onlyHost");
    let because = report["context"]["discovery"]["method"]["because"].as_str().unwrap();
    assert!(because.contains("write acceleration"), "{because}");
    let output = check(&machine, &imds, &["--format", "json", "--method", "firstGuestThenHost"]);
    assert_eq!(support::report(&output)["context"]["method"], "firstGuestThenHost");
}

#[test]
fn nothing_to_probe_says_what_was_looked_at_and_what_helps() {
    let output = check(&fixtures().join("vm-host-alone"), &Imds::of("accelerated"), &["--no-host"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output), "");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    for part in [
        "vm-hana1 in westeurope, 3 disks",
        "/etc/waagent.conf: HttpProxy.Host=10.0.0.5:3128",
        "host of a managed disk",
        "any account in westeurope",
        "--disk URI",
        "--lab",
    ] {
        assert!(message.contains(part), "`{part}` is not in {message}");
    }

    let empty = tempfile::tempdir().unwrap();
    let output = support::snapreach().arg("check").arg("--root").arg(empty.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        message.contains("not asked, because --root") && message.contains("/etc/waagent.conf: there is no such file"),
        "{message}"
    );
}

#[test]
fn where_no_storage_host_is_known_the_host_channel_is_asked_alone() {
    let output = check(&fixtures().join("vm-host-alone"), &Imds::of("vm"), &["--format", "json"]);
    let report = support::report(&output);
    assert_eq!(output.status.code(), Some(3), "nothing is known of storage");
    assert_eq!(report["verdict"]["summary"], "no storage host is known; the host channel answers");
    let notes = report["context"]["notes"].to_string();
    assert!(
        notes.contains("only the host channel was asked") && notes.contains("any account in westeurope"),
        "{notes}"
    );
    let ending = |method: &str| {
        let predictions = report["predictions"].as_array().unwrap();
        predictions.iter().find(|made| made["method"] == method).unwrap()["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(ending("firstHostThenGuest"), "success");
    assert_eq!(ending("onlyGuest"), "unknown");
}

#[test]
fn wrong_options_are_refused() {
    for (arguments, part) in [
        (&["--root", "/nonexistent/root"][..], "--root /nonexistent/root: "),
        (&["--root", "Cargo.toml"], "--root Cargo.toml: "),
        (&["--imds", "127.0.0.1:1", "--no-imds"], "--no-imds"),
        (&["--imds", "metadata.example"], "ADDR:PORT"),
    ] {
        let output = support::snapreach().arg("check").args(arguments).output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(part), "`{part}` is not in {message}");
    }
}

#[test]
fn named_targets_are_probed_and_the_machine_is_read_all_the_same() {
    let mut command = support::snapreach();
    command.args(["check", "tcp://127.77.0.1:1", "--format", "json", "--route", "direct", "--attempts", "1"]);
    let output = command.arg("--root").arg(fixtures().join("vm-host-alone")).output().unwrap();
    let report = support::report(&output);
    assert_eq!(output.status.code(), Some(1), "nobody listens there");
    assert_eq!(hosts(&report), ["127.77.0.1"]);
    assert_eq!(consumer(&report, "vmsnapshot-linux").0, Some("http://10.0.0.5:3128"));
    assert_eq!(report["observations"].as_array().unwrap().len(), 1, "another machine's host is not asked");
}

#[test]
fn whatever_metadata_answers_is_survived_and_told() {
    let deep = "[".repeat(200_000);
    let many = format!(r#"{{"compute":{{"storageProfile":{{"dataDisks":[{}{{}}]}}}}}}"#, "{},".repeat(20_000));
    let long = format!(r#"{{"compute":{{"name":"{}","location":7}}}}"#, "\\u001b[31mx".repeat(20_000));
    for (answer, part) in [
        (deep.into_bytes(), "instance metadata at "),
        (b"<html>portal</html>".to_vec(), "is not instance metadata"),
        (b"\xff\xfe\x00".to_vec(), "is not instance metadata"),
        (br#"{"compute":[]}"#.to_vec(), "/compute: an array in place of an object"),
        (many.into_bytes(), "/compute/storageProfile/dataDisks: 20001 entries"),
        (long.into_bytes(), "/compute/location: a number in place of a string"),
        (vec![b' '; 3 << 20], "instance metadata at "),
    ] {
        let output = check(&fixtures().join("vm-host-alone"), &Imds::start(answer), &["--no-host"]);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(part), "`{part}` is not in {message}");
        assert!(message.len() < 4000 && !message.contains('\x1b'), "{} bytes: {message:.2000}", message.len());
    }
}

/// Puts something in place of a file.
type Make<'a> = &'a dyn Fn(&Path);

/// A machine whose every file is something else than it should be.
#[test]
fn whatever_stands_in_place_of_a_file_is_a_problem() {
    let files = [
        "etc/waagent.conf",
        "etc/environment",
        "etc/hosts",
        "etc/azure/vmbackup.conf",
        "proc/7/environ",
        "sys/class/dmi/id/chassis_asset_tag",
        "usr/lib/systemd/system/waagent.service",
        "etc/systemd/system/waagent.service.d/a.conf",
        "var/lib/waagent/Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0.9219.0/status/1.status",
        "var/log/azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux/extension.log",
    ];
    let command_line = "/usr/bin/python3\0/usr/sbin/waagent\0-daemon\0";
    let words = "x,y ".repeat(256 * 1024);
    let line = format!("http_proxy=http://p:1\nno_proxy={words}\nHttpProxy.Host={words}=[Service]\\");
    let rubbish: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let makes: [Make<'_>; 3] =
        [&|path| fs::create_dir(path).unwrap(), &|path| fs::write(path, &line).unwrap(), &|path| {
            fs::write(path, &rubbish).unwrap();
        }];
    for (index, make) in makes.iter().enumerate() {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            make(&path);
        }
        fs::write(root.path().join("proc/7/cmdline"), command_line).unwrap();
        let output = check(root.path(), &Imds::of("vm-unmanaged"), &["--format", "json"]);
        let report = support::report(&output);
        assert_eq!(output.status.code(), Some(0), "{:#}", report["findings"]);
        assert_eq!(hosts(&report).len(), 2);
        let sources = report["context"]["discovery"]["sources"].as_array().unwrap();
        let problems = sources.iter().filter(|source| source["problem"].is_string()).count();
        assert!(index > 0 || problems >= 5, "{sources:#?}");
        let shown = text(&check(root.path(), &Imds::of("vm-unmanaged"), &["-v"]));
        let longest = shown.split("observations, started").next().unwrap().lines().map(str::len).max();
        assert!(longest < Some(400), "{longest:?}");
    }
}

#[test]
fn a_file_that_only_root_may_read_is_told() {
    use std::os::unix::fs::PermissionsExt;
    // A place that everybody may enter.
    let mode = fs::Permissions::from_mode;
    let folder = tempfile::Builder::new().permissions(mode(0o755)).tempdir().unwrap();
    let process = folder.path().join("root/proc/7");
    fs::create_dir_all(&process).unwrap();
    fs::write(process.join("cmdline"), "/usr/sbin/waagent\0-daemon\0").unwrap();
    fs::write(process.join("environ"), "https_proxy=http://10.0.0.6:8080\0").unwrap();
    fs::set_permissions(process.join("environ"), mode(0o000)).unwrap();
    let imds = Imds::of("vm-unmanaged");
    let mut command = support::snapreach();
    if support::is_root() {
        // Root may read every file, so somebody else has to ask.
        if support::program("setpriv").is_none() {
            return support::skipped("`setpriv` is not installed");
        }
        let binary = folder.path().join("snapreach");
        fs::copy(env!("CARGO_BIN_EXE_snapreach"), &binary).unwrap();
        command = std::process::Command::new("setpriv");
        support::clean(&mut command);
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(binary);
    }
    command.args(["check", "--lab", "-v", "--imds", &imds.address.to_string(), "--root"]);
    let shown = text(&command.arg(folder.path().join("root")).output().unwrap());
    assert!(shown.contains("/proc/7/environ: reading it needs root"), "{shown}");
}

#[test]
fn a_record_keeps_what_was_found_and_no_format_tells_a_secret() {
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("tonight.jsonl");
    let (imds, machine) = (Imds::of("vm-unmanaged"), fixtures().join("vm"));
    let first = text(&check(&machine, &imds, &["-vv", "--record", record.to_str().unwrap()]));
    let replayed = support::snapreach().args(["replay", "-vv"]).arg(&record).output().unwrap();
    assert_eq!(text(&replayed), first, "a replay shows the machine too");
    for format in ["json", "jsonl", "markdown", "html", "junit", "prometheus"] {
        let shown = text(&check(&machine, &imds, &["--format", format]));
        if ["markdown", "html"].contains(&format) {
            assert!(shown.contains("Machine") && shown.contains("Proxies") && shown.contains("vm-old1"), "{format}");
        }
    }
    assert!(!fs::read_to_string(&record).unwrap().contains("TOPSECRET"));
}
