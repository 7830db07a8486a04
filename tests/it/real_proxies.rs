//! The same questions to real proxies: squid, tinyproxy, haproxy and nginx from the distribution, each started by the
//! test on loopback with the policy under test. A product that is not installed is reported as skipped.

use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    programs::{self, HAPROXY, NGINX, Program, SQUID, TINYPROXY},
    support::{LOOPBACK_ONLY, findings, is_root, program, report, skipped, snapreach},
};

/// Where the endpoint lives in these tests: ports 443 and 8443 of an address of this machine.
const ORIGIN: &str = "127.0.43.11";
/// A name server that knows no name, for squid, which asks port 53 only.
const NO_NAMES: &str = "127.0.43.53:53";

/// A proxy on loopback, and its folder.
pub(crate) struct Proxy {
    _program: Program,
    pub(crate) port: u16,
    _folder: TempDir,
}

/// Starts `name` on loopback with a configuration whose placeholders are filled in, and waits until it listens.
pub(crate) fn start(name: &str, arguments: &[&str], configuration: &str) -> Option<Proxy> {
    let Some(binary) = program(name) else {
        skipped(&format!("{name} is not installed"));
        return None;
    };
    let folder = programs::folder();
    let port = free_port();
    let fill = |text: &str| programs::fill(text, &format!("127.0.0.1:{port}"), folder.path());
    fs::write(folder.path().join("conf"), fill(configuration)).unwrap();
    fs::write(
        folder.path().join("hosts"),
        format!("{ORIGIN} acct.blob.core.windows.net denied.blob.core.windows.net\n"),
    )
    .unwrap();
    let mut command = Command::new(binary);
    command.args(arguments.iter().map(|argument| fill(argument)));
    let mut program = Program::start(command, &folder.path().join("output"));
    program.wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
    Some(Proxy { _program: program, port, _folder: folder })
}

/// A port for a program that wants to know it beforehand: below the range from which the kernel serves the connections
/// of other tests, and given out once.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 200).unwrap_or(0) * 64;
    loop {
        let port = 12_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_800;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A port that refuses for as long as the socket lives: bound, and not listening.
fn refusing() -> (socket2::Socket, u16) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

/// An endpoint that accepts and says nothing: enough for a tunnel.
struct Origin {
    stop: Arc<AtomicBool>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    fn start(port: u16) -> Self {
        let listener = TcpListener::bind((ORIGIN, port)).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                std::thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
                    while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {}
                });
            }
        });
        Self { stop, address, thread: Some(thread) }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A name server for whom no name exists.
fn no_names() -> JoinHandle<()> {
    let socket = UdpSocket::bind(NO_NAMES).unwrap();
    std::thread::spawn(move || programs::know_no_name(&socket))
}

fn stop_no_names(thread: JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"stop", NO_NAMES).unwrap();
    thread.join().unwrap();
}

/// Probes `target` through the proxy and gives the report.
fn through(proxy: &str, target: &str) -> Value {
    let output = snapreach()
        .args(["check", target, "--proxy", proxy, "--route", "proxy", "--attempts", "1", "--format", "json"])
        .args(["--timeout", "8s"])
        .args(LOOPBACK_ONLY)
        .output()
        .unwrap();
    report(&output)
}

fn expect(report: &Value, codes: &[&str], hops: &[&str]) {
    let errors: Vec<_> = findings(report).into_iter().filter(|(_, _, severity)| *severity == "error").collect();
    let [(code, hop, _)] = errors[..] else { panic!("one error expected: {:#}", report["findings"]) };
    assert!(codes.contains(&code), "{code} is none of {codes:?}: {:#}", report["findings"]);
    assert!(hops.contains(&hop), "{hop} is none of {hops:?}: {:#}", report["findings"]);
}

/// It works, and the report says that agent and extension cannot do the same.
fn works_with_a_login(report: &Value) {
    assert_eq!(report["verdict"]["status"], "degraded", "{report:#}");
    assert_eq!(findings(report), [("config.proxy_needs_auth", "consumer", "warning")]);
}

const DENIED: &[&str] = &["proxy.request_denied", "proxy.port_denied", "proxy.host_denied", "proxy.client_denied"];

/// The policy of these tests, without its last words.
const RULES: &str = "hosts_file DIR/hosts\ndns_nameservers 127.0.43.53\nacl SSL_ports port 443\n\
    acl denied dstdomain denied.blob.core.windows.net\nhttp_access deny CONNECT !SSL_ports\nhttp_access deny denied\n";

#[test]
fn squid() {
    if !is_root() {
        skipped("the endpoint's ports 443 and 53 need root");
        return;
    }
    let (origin, names) = (Origin::start(443), no_names());
    let open = format!("{SQUID}{RULES}http_access allow localhost\nhttp_access deny all\n");
    if let Some(squid) = start("squid", &["-N", "-f", "DIR/conf"], &open) {
        let proxy = format!("http://127.0.0.1:{}", squid.port);
        let clear = through(&proxy, "tcp://acct.blob.core.windows.net:443");
        assert_eq!(clear["verdict"]["status"], "clear", "{clear:#}");
        expect(&through(&proxy, "tcp://acct.blob.core.windows.net:8443"), &["proxy.port_denied"], &["proxy"]);
        expect(&through(&proxy, "tcp://denied.blob.core.windows.net:443"), DENIED, &["proxy"]);
        expect(
            &through(&proxy, "tcp://nowhere.blob.core.windows.net:443"),
            &["proxy.gateway_error", "dns.nxdomain"],
            &["proxy_to_origin"],
        );
        // Nobody listens there.
        expect(&through(&proxy, "tcp://127.0.43.12:443"), &["tcp.refused"], &["proxy_to_origin"]);
    }
    let helper = ["/usr/lib/squid/basic_fake_auth"].into_iter().find(|path| Path::new(path).exists());
    if let Some(helper) = helper {
        let closed = format!(
            "{SQUID}{RULES}auth_param basic program {helper}\nauth_param basic realm Corp\nacl authed proxy_auth REQUIRED\n\
             acl nobody proxy_auth nobody\nhttp_access deny nobody\nhttp_access allow authed\nhttp_access deny all\n"
        );
        if let Some(squid) = start("squid", &["-N", "-f", "DIR/conf"], &closed) {
            let plain = through(&format!("http://127.0.0.1:{}", squid.port), "tcp://acct.blob.core.windows.net:443");
            expect(&plain, &["proxy.auth_required"], &["proxy"]);
            let allowed =
                through(&format!("http://u:p@127.0.0.1:{}", squid.port), "tcp://acct.blob.core.windows.net:443");
            works_with_a_login(&allowed);
        }
    } else if program("squid").is_some() {
        skipped("squid's basic_fake_auth helper is not installed");
    }
    stop_no_names(names);
    drop(origin);
}

#[test]
fn tinyproxy() {
    if !is_root() {
        skipped("the endpoint's port 443 needs root");
        return;
    }
    let origin = Origin::start(4431);
    let target = format!("tcp://{ORIGIN}:4431");
    let run =
        |rest: &str| start("tinyproxy", &["-d", "-c", "DIR/conf"], &format!("{TINYPROXY}ConnectPort 4431\n{rest}"));
    if let Some(proxy) = run("Allow 127.0.0.1\n") {
        let url = format!("http://127.0.0.1:{}", proxy.port);
        assert_eq!(through(&url, &target)["verdict"]["status"], "clear");
        expect(&through(&url, &format!("tcp://{ORIGIN}:8443")), &["proxy.port_denied"], &["proxy"]);
        expect(&through(&url, "tcp://127.0.43.12:4431"), &["proxy.gateway_error"], &["proxy_to_origin"]);
    }
    if let Some(proxy) = run("Allow 10.1.1.1\n") {
        expect(&through(&format!("http://127.0.0.1:{}", proxy.port), &target), &["proxy.client_denied"], &["proxy"]);
    }
    if let Some(proxy) = run("Allow 127.0.0.1\nBasicAuth svc right\n") {
        let url = |user: &str| format!("http://{user}127.0.0.1:{}", proxy.port);
        expect(&through(&url(""), &target), &["proxy.auth_required"], &["proxy"]);
        expect(&through(&url("svc:wrong@"), &target), &["proxy.auth_rejected"], &["proxy"]);
        works_with_a_login(&through(&url("svc:right@"), &target));
    }
    drop(origin);
}

#[test]
fn haproxy() {
    let run = |rest: &str| start("haproxy", &["-db", "-f", "DIR/conf"], &format!("{HAPROXY}{rest}"));
    let target = "tcp://acct.blob.core.windows.net:443";
    let url = |proxy: &Proxy| format!("http://127.0.0.1:{}", proxy.port);
    if let Some(proxy) = run("frontend f\n mode http\n bind LISTEN\n") {
        expect(&through(&url(&proxy), target), &["proxy.gateway_error"], &["proxy_to_origin", "proxy"]);
    }
    if let Some(proxy) = run("frontend f\n mode http\n bind LISTEN\n http-request deny\n") {
        expect(&through(&url(&proxy), target), DENIED, &["proxy"]);
    }
    let auth = "userlist u\n user svc insecure-password right\nfrontend f\n mode http\n bind LISTEN\n http-request auth realm Corp unless { http_auth(u) }\n";
    if let Some(proxy) = run(auth) {
        expect(&through(&url(&proxy), target), &["proxy.auth_required"], &["proxy"]);
    }
    let (_refusing, nobody) = refusing();
    let dead = format!("listen f\n mode tcp\n bind LISTEN\n retries 0\n server s 127.0.0.1:{nobody}\n");
    if let Some(proxy) = run(&dead) {
        expect(&through(&url(&proxy), target), &["proxy.closed"], &["client_to_proxy", "proxy"]);
    }
}

#[test]
fn nginx() {
    if let Some(proxy) = start("nginx", &["-c", "DIR/conf", "-p", "DIR"], NGINX) {
        let report = through(&format!("http://127.0.0.1:{}", proxy.port), "tcp://acct.blob.core.windows.net:443");
        expect(&report, &["proxy.connect_unsupported", "proxy.not_a_proxy"], &["proxy"]);
    }
}
