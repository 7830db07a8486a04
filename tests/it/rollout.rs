//! Proxies of the distribution before they are rolled out: each with the configuration of its package and with the one
//! that backups need, judged by `snapreach proxy`. Each has a network of its own, with a name server that knows no name.

use std::{
    fmt::Write as _,
    fs,
    net::{TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    thread::JoinHandle,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    netns::Hosts,
    programs::{self, Program},
    support::{clean, program, report, skipped},
};

/// Who runs on the machine of a test.
const HOST: &str = "host";

/// Descriptors that a service of Debian has unless its unit says otherwise (systemd's soft limit).
const PACKAGED: &str = "1024";
/// Those of a unit with `LimitNOFILE=20000`.
const RAISED: &str = "20000";

/// Gives a program this test's name server, in a view of the file system that ends with it, and so many descriptors.
const VIEW: &str = r#"
for file in resolv.conf hosts nsswitch.conf; do
    mount --bind "$0/$file" "/etc/$file" || exit 125
done
ulimit -n "$1" || exit 125
shift
exec "$@"
"#;

/// A machine with loopback only.
struct Site {
    // In this order: programs end before the host that they run on, and before their files go.
    programs: Vec<Program>,
    names: Option<JoinHandle<()>>,
    hosts: Hosts,
    folder: TempDir,
}

impl Site {
    /// `None`, with the reason printed, where this machine cannot make one.
    fn new(test: &str, needed: &[&str]) -> Option<Self> {
        if let Some(missing) = needed.iter().find(|name| program(name).is_none()) {
            skipped(&format!("{missing} is not installed"));
            return None;
        }
        let hosts = Hosts::new(test, [HOST])?;
        let folder = programs::folder();
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        write("resolv.conf", "nameserver 127.0.0.53\noptions timeout:1 attempts:1\n");
        write("hosts", "127.0.0.1 localhost\n::1 localhost\n127.0.43.11 origin.example\n");
        write("nsswitch.conf", "hosts: files dns\n");
        let names = Some(hosts.inside(HOST, || {
            let socket = UdpSocket::bind("127.0.0.53:53").unwrap();
            std::thread::spawn(move || programs::know_no_name(&socket))
        }));
        Some(Self { programs: Vec::new(), names, hosts, folder })
    }

    /// Starts a proxy with this configuration and waits until it listens.
    fn start(&mut self, name: &str, descriptors: &str, arguments: &[&str], port: u16, configuration: &str) {
        let folder = self.folder.path().join(format!("{name}-{port}"));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let fill = |text: &str| programs::fill(text, &format!("127.0.0.1:{port}"), &folder);
        fs::write(folder.join("conf"), fill(configuration)).unwrap();
        let mut command = self.command(descriptors, program(name).unwrap());
        command.args(arguments.iter().map(|argument| fill(argument)));
        let mut started = Program::start(command, &folder.join("output"));
        started.wait_until(|| self.hosts.inside(HOST, move || TcpStream::connect(("127.0.0.1", port)).is_ok()));
        self.programs.push(started);
    }

    fn command(&self, descriptors: &str, program: PathBuf) -> Command {
        let mut command = self.hosts.command(HOST, "sh");
        command.args(["-c", VIEW]).arg(self.folder.path()).arg(descriptors).arg(program);
        command
    }

    /// What `snapreach proxy` says about the proxy at this port.
    fn judge(&self, port: u16, arguments: &[&str]) -> Value {
        let mut command = self.command(RAISED, env!("CARGO_BIN_EXE_snapreach").into());
        clean(&mut command);
        command.args(["proxy", &format!("http://127.0.0.1:{port}"), "--format", "json"]);
        command.args(["--origin-listen", "127.0.43.11", "--origin-listen", "::1", "--origin-name", "origin.example"]);
        command.args(arguments);
        report(&command.output().unwrap())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.programs.clear();
        self.hosts.inside(HOST, || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let _ = socket.send_to(b"stop", "127.0.0.53:53");
        });
        if let Some(names) = self.names.take() {
            let _ = names.join();
        }
    }
}

/// The report without what differs from run to run.
fn outline(report: &Value) -> String {
    let mut text = format!("{}: {}\n", report["verdict"]["status"], report["verdict"]["summary"]);
    let _ = writeln!(text, "product: {}", report["product"]["name"]);
    for case in report["cases"].as_array().unwrap() {
        for judgement in case["judgements"].as_array().unwrap() {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let _ = writeln!(
                text,
                "{:7} {}: {}",
                word(&judgement["outcome"]),
                word(&case["id"]),
                word(&judgement["summary"])
            );
            for fact in judgement["evidence"].as_array().into_iter().flatten() {
                let _ = writeln!(text, "          {}", word(fact));
            }
        }
    }
    text
}

/// Judges twice; what is said must be the same.
fn settled(site: &Site, port: u16, arguments: &[&str]) -> String {
    let [first, second] = [(), ()].map(|()| outline(&site.judge(port, arguments)));
    assert_eq!(first, second, "a second run says the same");
    first
}

/// The file of the package, with a line of the test's own before it.
fn packaged(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Squid's own configuration; its log files and its process id are the test's.
const SQUID_FILES: &str = "pid_filename none\ncache_log DIR/cache.log\naccess_log none\nshutdown_lifetime 0 seconds\n\
    pinger_enable off\nvisible_hostname proxy.example\n";
/// What a backup needs.
const SQUID_BACKUP: &str = "acl SSL_ports port 8443\nmax_filedescriptors 16384\nconnect_timeout 3 seconds\n\
    read_timeout 2 hours\n";

#[test]
fn squid_as_packaged() {
    let Some(mut site) = Site::new("rq", &["squid"]) else { return };
    let rules = packaged("/etc/squid/squid.conf");
    site.start("squid", PACKAGED, &["-N", "-f", "DIR/conf"], 3128, &format!("{SQUID_FILES}{rules}"));
    insta::assert_snapshot!(settled(&site, 3128, &[]));
}

#[test]
fn squid_for_backups() {
    let Some(mut site) = Site::new("rr", &["squid"]) else { return };
    let rules = packaged("/etc/squid/squid.conf");
    site.start("squid", RAISED, &["-N", "-f", "DIR/conf"], 3128, &format!("{SQUID_FILES}{SQUID_BACKUP}{rules}"));
    insta::assert_snapshot!(settled(&site, 3128, &[]));
}

/// Tinyproxy's own configuration with its files in the test's folder.
fn tinyproxy() -> String {
    packaged("/etc/tinyproxy/tinyproxy.conf")
        .replace("/var/log/tinyproxy/tinyproxy.log", "DIR/log")
        .replace("/run/tinyproxy/tinyproxy.pid", "DIR/pid")
}

#[test]
fn tinyproxy_as_packaged() {
    let Some(mut site) = Site::new("rt", &["tinyproxy"]) else { return };
    site.start("tinyproxy", PACKAGED, &["-d", "-c", "DIR/conf"], 8888, &tinyproxy());
    insta::assert_snapshot!(settled(&site, 8888, &[]));
}

#[test]
fn tinyproxy_for_backups() {
    let Some(mut site) = Site::new("ru", &["tinyproxy"]) else { return };
    let configuration = tinyproxy().replace("MaxClients 100", "MaxClients 3000").replace("Timeout 600", "Timeout 7200");
    let ports = "\nConnectPort 443\nConnectPort 8443\n";
    site.start("tinyproxy", RAISED, &["-d", "-c", "DIR/conf"], 8888, &format!("{configuration}{ports}"));
    // It starts a thread for each; these are more than 1,024 descriptors allow for.
    insta::assert_snapshot!(settled(&site, 8888, &["--tunnels", "600"]));
}

/// Privoxy's own configuration with its log in the test's folder.
fn privoxy() -> String {
    packaged("/etc/privoxy/config").replace("logdir /var/log/privoxy", "logdir DIR")
}

#[test]
fn privoxy_as_packaged() {
    let Some(mut site) = Site::new("rp", &["privoxy"]) else { return };
    site.start("privoxy", PACKAGED, &["--no-daemon", "DIR/conf"], 8118, &privoxy());
    insta::assert_snapshot!(settled(&site, 8118, &[]));
}

#[test]
fn privoxy_for_backups() {
    let Some(mut site) = Site::new("rv", &["privoxy"]) else { return };
    fs::write(site.folder.path().join("backup.action"), "{+limit-connect{443,8443}}\n/\n").unwrap();
    let action = site.folder.path().join("backup.action").display().to_string();
    let configuration = privoxy()
        .replace("socket-timeout 300", "socket-timeout 7200\nmax-client-connections 3000")
        .replace("actionsfile user.action", &format!("actionsfile {action}\nactionsfile user.action"));
    site.start("privoxy", RAISED, &["--no-daemon", "DIR/conf"], 8118, &configuration);
    insta::assert_snapshot!(settled(&site, 8118, &[]));
}

/// haproxy's own configuration without what needs a system around it, in mode tcp, in front of a squid that is fine.
fn haproxy() -> String {
    let own = packaged("/etc/haproxy/haproxy.cfg").replace("mode\thttp", "mode\ttcp").replace("option\thttplog", "");
    let needs_a_system = ["log /dev/log", "chroot", "stats ", "user ", "group ", "daemon", "log\tglobal"];
    let kept = own.lines().filter(|line| !needs_a_system.iter().any(|word| line.trim_start().starts_with(word)));
    kept.collect::<Vec<_>>().join("\n")
}

const IN_FRONT: &str = "\nlisten proxies\n bind LISTEN\n server squid 127.0.0.1:3128\n";

fn behind_haproxy(test: &str) -> Option<Site> {
    let mut site = Site::new(test, &["squid", "haproxy"])?;
    let rules = packaged("/etc/squid/squid.conf");
    site.start("squid", RAISED, &["-N", "-f", "DIR/conf"], 3128, &format!("{SQUID_FILES}{SQUID_BACKUP}{rules}"));
    Some(site)
}

#[test]
fn haproxy_as_packaged() {
    let Some(mut site) = behind_haproxy("rh") else { return };
    site.start("haproxy", PACKAGED, &["-db", "-f", "DIR/conf"], 8080, &format!("{}{IN_FRONT}", haproxy()));
    insta::assert_snapshot!(settled(&site, 8080, &[]));
    // What its timeouts of 50 s do takes longer to see.
    let report = site.judge(8080, &["--filter", "tunnel/idle", "--idle", "55s"]);
    insta::assert_snapshot!("haproxy_as_packaged_after_silence", outline(&report));
}

#[test]
fn haproxy_for_backups() {
    let Some(mut site) = behind_haproxy("ri") else { return };
    let configuration = haproxy()
        .replace("timeout client  50000", "timeout client 90s\n timeout tunnel 2h")
        .replace("timeout server  50000", "timeout server 90s")
        .replacen("global\n", "global\n maxconn 9000\n", 1);
    site.start("haproxy", RAISED, &["-db", "-f", "DIR/conf"], 8080, &format!("{configuration}{IN_FRONT}"));
    insta::assert_snapshot!(settled(&site, 8080, &[]));
}
