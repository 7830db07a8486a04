//! Name servers that are silent, truncate, mumble or echo; names in every spelling; the hosts file.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use snapreach::{
    classify,
    model::{Assessment, Evidence, Record, Route, Severity, Status, Target, Transport},
    plan::{Dns, Family, NameServer, Plan, SystemResolver},
    probe,
};

use crate::support::{self, findings, report};

/// How a name server takes a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// 127.0.0.1 for A, nothing for AAAA.
    Answer,
    /// The same, with the truncation bit and without the address.
    Truncate,
    /// Bytes that are no message.
    Mumble,
    /// The question, as it came.
    Echo,
    /// The connection ends (TCP).
    Close,
    Silence,
}

/// A name server of the test's own on one port of UDP and, unless refused, TCP.
struct NameServing {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl NameServing {
    fn start(udp: By, tcp: Option<By>) -> Self {
        // A port that is free for one protocol may be taken for the other.
        let (datagrams, listener) = (0..100)
            .find_map(|_| {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let datagrams = UdpSocket::bind(listener.local_addr().unwrap()).ok()?;
                Some((datagrams, listener))
            })
            .unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let mut threads = vec![std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                if let Some(answer) = take(&buffer[..length], udp) {
                    datagrams.send_to(&answer, from).unwrap();
                }
            }
        })];
        let stopped = stop.clone();
        // Without a listener the port refuses.
        threads.extend(tcp.map(|tcp| {
            std::thread::spawn(move || {
                let mut open = Vec::new();
                while let Ok((mut stream, _)) = listener.accept() {
                    if stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let mut length = [0; 2];
                    stream.read_exact(&mut length).unwrap();
                    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                    stream.read_exact(&mut question).unwrap();
                    if let Some(answer) = take(&question, tcp) {
                        stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
                        stream.write_all(&answer).unwrap();
                    }
                    if tcp == By::Silence {
                        open.push(stream);
                    }
                }
            })
        }));
        Self { address, stop, threads }
    }
}

impl Drop for NameServing {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let waker = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.send_to(&[0], self.address));
        drop((waker, TcpStream::connect(self.address)));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The answer to a question (RFC 1035 section 4): its own head and question, and an address.
fn take(question: &[u8], by: By) -> Option<Vec<u8>> {
    const TYPE_A: [u8; 2] = [0, 1];
    match by {
        By::Close | By::Silence => return None,
        By::Mumble => return Some(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        By::Echo => return Some(question.to_vec()),
        By::Answer | By::Truncate => {}
    }
    let name_end = 12 + question[12..].iter().position(|&b| b == 0)? + 1;
    let is_a = question[name_end..name_end + 2] == TYPE_A;
    let mut answer = question[..name_end + 4].to_vec();
    answer[2] = 0x84 | if by == By::Truncate { 0x02 } else { 0 };
    answer[3] = 0x80;
    let addresses = u8::from(is_a && by == By::Answer);
    answer[6..12].copy_from_slice(&[0, addresses, 0, 0, 0, 0]);
    if addresses == 1 {
        // The name by a pointer to the question, type A, class IN, 60 s, 4 bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(Ipv4Addr::LOCALHOST.octets());
    }
    Some(answer)
}

fn plan(target: &str, system: SocketAddr) -> Plan {
    let mut plan = Plan {
        targets: Target::parse(target, &[443]).unwrap(),
        routes: vec![Route::Direct],
        dns: Dns { system: SystemResolver::Stub(system), server: NameServer::Off, ..Dns::default() },
        ..Plan::default()
    };
    plan.context.consumer = "none".into();
    plan.budgets.attempts = 1;
    plan.budgets.connect = Duration::from_secs(5);
    plan.budgets.layer = Duration::from_millis(600);
    plan
}

fn run(plan: Plan) -> (Record, Assessment) {
    let progress = probe::Progress::default();
    let start = Instant::now();
    let record = probe::runtime().unwrap().block_on(probe::run(plan, &progress, std::future::pending())).unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
    let assessment = classify::assess(&record);
    (record, assessment)
}

fn errors(assessment: &Assessment) -> Vec<&'static str> {
    assessment.findings.iter().filter(|f| f.severity == Severity::Error).map(|f| f.code.0).collect()
}

#[test]
fn what_a_name_server_does_wrong_is_named() {
    for (udp, tcp, code) in [
        (By::Silence, None, "dns.timeout"),
        (By::Mumble, None, "dns.malformed"),
        (By::Echo, None, "dns.malformed"),
        (By::Truncate, None, "dns.unreachable"),
        (By::Truncate, Some(By::Close), "dns.unreachable"),
        (By::Truncate, Some(By::Silence), "dns.timeout"),
        (By::Truncate, Some(By::Mumble), "dns.malformed"),
    ] {
        let server = NameServing::start(udp, tcp);
        let (_, assessment) = run(plan("tcp://h.example:1", server.address));
        assert_eq!(errors(&assessment), [code], "{udp:?} {tcp:?}: {:#?}", assessment.findings);
        assert_eq!(assessment.verdict.status, Status::Blocked);
    }
}

#[test]
fn a_truncated_answer_is_asked_for_again_by_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = NameServing::start(By::Truncate, Some(By::Answer));
    let target = format!("tcp://h.example:{}", listener.local_addr().unwrap().port());
    let (record, assessment) = run(plan(&target, server.address));
    assert_eq!(assessment.verdict.status, Status::Clear, "{:#?}", assessment.findings);
    let Evidence::Resolve(lookup) = &record.observations[0].steps[0].evidence else { panic!("{record:#?}") };
    assert!(lookup.answers.iter().all(|answer| answer.transport == Transport::Tcp), "{lookup:#?}");
}

#[test]
fn a_stub_is_not_asked_for_a_pinned_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = NameServing::start(By::Silence, None);
    let mut plan = plan(&format!("tcp://h.example:{}", listener.local_addr().unwrap().port()), server.address);
    plan.dns.pinned = snapreach::discover::hosts_file("# here\n127.0.0.1 H.example\n");
    let (record, assessment) = run(plan);
    assert_eq!(assessment.verdict.status, Status::Clear, "{:#?}", assessment.findings);
    let Evidence::Resolve(lookup) = &record.observations[0].steps[0].evidence else { panic!("{record:#?}") };
    assert!(lookup.answers.is_empty() && lookup.hosts_file == [Ipv4Addr::LOCALHOST], "{lookup:#?}");
    assert_eq!(record.context.hosts_overrides[0].place, "/etc/hosts:2");
}

#[test]
fn a_family_that_the_name_does_not_have_is_no_failure_of_the_endpoint() {
    let server = NameServing::start(By::Answer, None);
    let mut plan = plan("tcp://h.example:1", server.address);
    plan.source.family = Some(Family::V6);
    let (_, assessment) = run(plan);
    assert_eq!(errors(&assessment), ["dns.nodata"]);
}

#[test]
fn a_silent_server_beside_the_system_resolver_is_context() {
    // The hosts file answers for localhost; the server is asked beside it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp://LocalHost.:{}", listener.local_addr().unwrap().port());
    for (udp, code) in [(By::Silence, "dns.timeout"), (By::Mumble, "dns.malformed")] {
        let server = NameServing::start(udp, None);
        let mut command = support::snapreach();
        command.arg("check").args(support::LOOPBACK_ONLY).args([
            "-4",
            "--no-proxy",
            "--timeout",
            "600ms",
            "--format",
            "json",
            &target,
        ]);
        let output = command.args(["--dns-server", &server.address.to_string()]).output().unwrap();
        let report = report(&output);
        // That localhost is pinned in the hosts file is as it should be.
        assert_eq!(findings(&report), [(code, "client_to_origin", "info")]);
        assert_eq!((report["verdict"]["status"].as_str(), output.status.code()), (Some("clear"), Some(0)));
    }
}

#[test]
fn one_name_in_many_spellings_is_one_target() {
    let mut command = support::snapreach();
    command.arg("check").args(support::LOOPBACK_ONLY).args([
        "--no-proxy",
        "--attempts",
        "1",
        "--format",
        "json",
        "--connect-to",
        "::127.77.0.1:1",
    ]);
    let spellings = [
        "https://ACCT.Blob.Core.Windows.Net",
        "https://acct.blob.core.windows.net.",
        "HTTPS://acct.blob.core.windows.net.:443/",
        "xn--bcher-kva.example:443",
        "XN--BCHER-KVA.EXAMPLE.:443",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[::1]:443",
    ];
    let report = report(&command.args(spellings).output().unwrap());
    let subjects: Vec<_> = report["cells"].as_array().unwrap().iter().map(|cell| cell["subject"].as_str()).collect();
    assert_eq!(
        subjects,
        [Some("acct.blob.core.windows.net:443"), Some("xn--bcher-kva.example:443"), Some("[::1]:443")]
    );
}

#[test]
fn a_literal_of_the_other_family_is_not_probed() {
    for arguments in [
        &["-4", "tcp://[::1]:1"][..],
        &["-6", "tcp://127.0.0.1:1"],
        &["-4", "tcp://h.example:1", "--connect-to", "::[::1]:1"],
        &["--bind", "127.0.0.1", "tcp://h.example:1", "--connect-to", "::[::1]:1"],
    ] {
        let mut command = support::snapreach();
        let output = command
            .arg("check")
            .args(support::LOOPBACK_ONLY)
            .args(["--no-proxy", "--format", "json"])
            .args(arguments)
            .output()
            .unwrap();
        let report = report(&output);
        assert_eq!(report["observations"].as_array().unwrap().len(), 0);
        assert_eq!(findings(&report), [("meta.not_run", "local", "info")]);
        assert_eq!((report["verdict"]["status"].as_str(), output.status.code()), (Some("inconclusive"), Some(3)));
    }
}

#[test]
fn a_storage_name_in_the_hosts_file_is_a_warning_and_others_are_not() {
    let Some((unshare, ip)) = support::program("unshare").zip(support::program("ip")) else {
        return support::skipped("`unshare` or `ip` is not installed");
    };
    if !support::is_root() {
        return support::skipped("namespaces need root");
    }
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    // Not everybody's editor writes UTF-8.
    let text = b"127.0.0.1 localhost\n# b\xfcro\n127.0.0.1\tAcct.Blob.Core.Windows.Net. appliance.example\n";
    std::fs::write(&hosts, text).unwrap();
    // A file system view and a network of its own: nobody else sees this hosts file, and no question leaves.
    let script = "mount --bind \"$0\" /etc/hosts && \"$1\" link set lo up && shift && exec \"$@\"";
    let mut command = Command::new(unshare);
    support::clean(&mut command);
    command.args(["-m", "-n", "sh", "-c", script]).arg(&hosts).arg(ip).arg(env!("CARGO_BIN_EXE_snapreach"));
    command.arg("check").args(support::LOOPBACK_ONLY).args([
        "--no-proxy",
        "--attempts",
        "1",
        "--dns-server",
        "127.0.0.1:1",
        "--format",
        "json",
    ]);
    let output = command.args(["acct.blob.core.windows.net:443", "appliance.example:443"]).output().unwrap();
    let report = report(&output);
    let pinned = support::finding(&report, "config.hosts_override");
    assert_eq!(pinned["targets"], serde_json::json!(["acct.blob.core.windows.net:443"]));
    assert!(pinned["evidence"].to_string().contains("/etc/hosts:3"), "{pinned:#}");
}
