//! Whole runs of the program beside the tools that people know, in turn, on loopback: ratios of medians.
//!
//! `cargo bench --bench peers [NAME]`. What is not installed, or needs root, is reported as skipped. The peers'
//! command lines are those of their manuals; every figure is of whole processes: wall time, CPU time, peak memory.

mod support;
#[path = "support/tls.rs"]
mod tls;

use std::{
    fs,
    future::pending,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use snapreach::{
    conformance::{self, Options, Outcome, Profile, Progress, Request},
    exchange::{Door, DoorKind, Places},
    lab::{Lab, LabSpec, OwnOrigin},
    model::Host,
    plan::{Budgets, Proxy, Source, Trust},
};
use socket2::{Domain, Socket, Type};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};

use support::{configuration, program};

/// Rounds of each comparison, the two sides in turn; with `--test` one, which shows no more than that all of it runs.
const ROUNDS: usize = 5;

/// A workload and its name.
type Named = (&'static str, fn(&Bench));

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // The wrapper: runs one command and reports what it cost, so that the peak memory is of that child alone.
    if let Some(("--measure", command)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return measure_here(command);
    }
    if let [mode, proxy, places, tunnels] = arguments.as_slice()
        && mode == "--hold"
    {
        return hold_here(proxy, places, tunnels);
    }
    let rounds = if arguments.iter().any(|argument| argument == "--test") { 1 } else { ROUNDS };
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let benches: [Named; 7] = [
        ("refused", refused),
        ("open", open),
        ("silent", silent),
        ("tls", handshakes),
        ("squid", squid),
        ("tunnels-squid", tunnels_squid),
        ("tunnels-lab", tunnels_lab),
    ];
    let bench = Bench { folder: support::folder(), rounds };
    for (name, run) in benches.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        println!("\n{name}");
        run(&bench);
    }
}

struct Bench {
    folder: tempfile::TempDir,
    rounds: usize,
}

/// What a run cost.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    wall: f64,
    cpu: f64,
    peak_kib: f64,
}

// ---- workloads

/// 10,000 ports that refuse.
fn refused(bench: &Bench) {
    let list = bench.targets("refused", |n| format!("tcp://127.8.0.{}:{}", 1 + n % 250, 20_000 + n / 250));
    let ours = snapreach(&list, &["--no-proxy", "--concurrency", "10000"]);
    let peer = command(
        "nmap",
        &[
            "-n",
            "-Pn",
            "-sT",
            "-T5",
            "--min-parallelism",
            "1000",
            "--max-retries",
            "0",
            "-p",
            "20000-20039",
            "127.8.0.1-250",
        ],
    );
    bench.compare("10,000 refused connects", 10_000.0, &ours, peer.as_deref(), "nmap -sT");
}

/// 10,000 connects to one listener.
fn open(bench: &Bench) {
    // Bound to the wildcard address, one listener answers for all of 127/8.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).expect("a port");
    // The standard library's short queue would lose SYNs of a burst, and measure their retransmission.
    socket.listen(16_384).expect("a listener");
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || while listener.accept().is_ok() {});
    let list = bench.targets("open", |n| format!("tcp://127.7.{}.{}:{port}", n / 250, 1 + n % 250));
    let ours = snapreach(&list, &["--no-proxy", "--concurrency", "10000"]);
    let port = port.to_string();
    let peer = command(
        "nmap",
        &[
            "-n",
            "-Pn",
            "-sT",
            "-T5",
            "--min-parallelism",
            "1000",
            "--max-retries",
            "0",
            "-p",
            &port,
            "127.7.0-39.1-250",
        ],
    );
    bench.compare("10,000 open connects", 10_000.0, &ours, peer.as_deref(), "nmap -sT");
}

/// 10,000 targets that never answer: a drop rule in a network namespace of this bench's own.
fn silent(bench: &Bench) {
    let Some(namespace) = Namespace::new() else { return };
    let list = bench.targets("silent", |n| format!("tcp://127.9.0.{}:{}", 1 + n % 250, 20_000 + n / 250));
    for seconds in [2, 5] {
        let mut ours = vec!["ip".to_owned(), "netns".into(), "exec".into(), namespace.name.clone()];
        ours.extend(snapreach(
            &list,
            &["--no-proxy", "--concurrency", "10000", "--connect-timeout", &format!("{seconds}s")],
        ));
        let costs: Vec<Cost> = (0..bench.rounds).map(|_| measure(&ours)).collect();
        let cost = median(&costs);
        println!(
            "  10,000 silent, connect timeout {seconds} s: wall {:.3} s = timeout + {:.1} %, {:.2} KiB of peak memory each, {:.1} us CPU each",
            cost.wall,
            (cost.wall / f64::from(seconds) - 1.0) * 100.0,
            cost.peak_kib / 10_000.0,
            cost.cpu * 100.0
        );
    }
}

/// 2,000 TLS 1.3 handshakes with a verified chain, 200 at once.
fn handshakes(bench: &Bench) {
    let Some((server, ca)) = tls::server(bench.folder.path(), false) else {
        return println!("  skipped: nginx is not installed");
    };
    let list = bench.names(server.port);
    let to = format!(":{0}:127.0.0.1:{0}", server.port);
    let ours = snapreach(
        &list,
        &["--no-proxy", "--concurrency", "200", "--ca-file", &ca, "--no-system-roots", "--connect-to", &to],
    );
    let peer = curl(bench, &format!("https://127.0.0.1:{}/", server.port), &["--cacert", &ca]);
    bench.compare("2,000 TLS handshakes, c = 200", 2000.0, &ours, peer.as_deref(), "curl -Z");
}

/// The same through squid.
fn squid(bench: &Bench) {
    let Some((server, ca)) = tls::server(bench.folder.path(), false) else {
        return println!("  skipped: nginx is not installed");
    };
    let hosts: Vec<_> = (0..2000).map(|n| format!("127.0.0.1 h{n}.bench.example")).collect();
    configuration(bench.folder.path(), "hosts", &hosts.join("\n"));
    let Some(proxy) = support::squid(bench.folder.path(), server.port, "hosts_file DIR/hosts") else {
        println!("  skipped: squid is not installed");
        return;
    };
    let list = bench.names(server.port);
    let through = format!("http://127.0.0.1:{}", proxy.port);
    let ours = snapreach(
        &list,
        &["--route", "proxy", "--proxy", &through, "--concurrency", "200", "--ca-file", &ca, "--no-system-roots"],
    );
    let peer = curl(bench, &format!("https://127.0.0.1:{}/", server.port), &["--cacert", &ca, "-x", &through]);
    bench.compare("2,000 TLS handshakes through squid, c = 200", 2000.0, &ours, peer.as_deref(), "curl -Z -x");
}

/// More than the load takes here, so that a busy machine fails nothing.
const HOLD_LIMIT: Duration = Duration::from_secs(20);

/// Tunnels that are opened, and by this program held at once.
const TUNNELS: usize = 2000;

/// As many tunnels through squid, which may have descriptors enough. The origin is in this process, and so in no figure.
fn tunnels_squid(bench: &Bench) {
    let origin = OwnOrigin::start(&[Ipv4Addr::LOCALHOST.into()]).expect("an origin");
    let Some(door) = origin.places().of(DoorKind::Serves).next() else { return };
    let Some(squid) = support::squid(bench.folder.path(), door.port(), "shutdown_lifetime 0 seconds") else {
        println!("  skipped: squid is not installed");
        return;
    };
    hold(bench, "squid", squid.address(), origin.places(), door);
}

/// The same through the lab's proxy, which is in this process too.
fn tunnels_lab(bench: &Bench) {
    let lab = Lab::start(&LabSpec::default()).expect("the lab");
    let Some(door) = lab.network().places.of(DoorKind::Serves).next() else { return };
    hold(bench, "the lab's proxy", lab.network().addresses["proxy"], &lab.network().places, door);
}

/// h2load and oha are no peers here: neither asks a proxy for a tunnel.
fn hold(bench: &Bench, through: &str, proxy: SocketAddr, places: &Places, door: SocketAddr) {
    let places = Places { doors: vec![Door { address: door, kind: DoorKind::Serves }], ..places.clone() };
    let places = serde_json::to_string(&places).expect("JSON");
    let this = std::env::current_exe().expect("this program").display().to_string();
    let ours = [this, "--hold".into(), proxy.to_string(), places, TUNNELS.to_string()];
    let through_proxy = format!("http://{proxy}");
    let url = format!("http://{door}/snapreach/echo");
    let peer = curl(bench, &url, &["--parallel-max", "300", "-p", "-x", &through_proxy]);
    let what = format!("{TUNNELS} tunnels through {through}: held at once, all proved alive, against one GET each");
    #[expect(clippy::cast_precision_loss)]
    bench.compare(&what, TUNNELS as f64, &ours, peer.as_deref(), "curl -Z -p -x");
}

/// The client alone: the case that holds tunnels, through the library.
fn hold_here(proxy: &str, places: &str, tunnels: &str) {
    let proxy: SocketAddr = proxy.parse().expect("an address");
    let request = Request {
        proxy: Proxy { tls: false, host: Host::Ip(proxy.ip()), port: proxy.port(), credentials: None },
        address: (proxy, proxy),
        places: serde_json::from_str(places).expect("places"),
        profile: Profile::default(),
        options: Options { tunnels: tunnels.parse().expect("a number"), load: HOLD_LIMIT, ..Options::default() },
        wanted: vec!["limits/concurrent"],
        trust: Trust::default(),
        source: Source::default(),
        budgets: Budgets::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    let run = runtime.block_on(conformance::run(request, &Progress::default(), pending())).expect("a run");
    assert_eq!(run.tried[0].outcome(), Outcome::Pass, "{:?}", run.tried[0]);
}

// ---- command lines

fn snapreach(list: &Path, more: &[&str]) -> Vec<String> {
    let list = list.display().to_string();
    let fixed = [env!("CARGO_BIN_EXE_snapreach"), "check", "--targets", &list, "--attempts", "1", "--format", "json"];
    fixed.iter().chain(more).map(|&argument| argument.to_owned()).collect()
}

fn curl(bench: &Bench, url: &str, more: &[&str]) -> Option<Vec<String>> {
    let requests = format!("url=\"{url}\"\noutput=/dev/null\n").repeat(2000);
    let list = bench.folder.path().join("curl");
    fs::write(&list, format!("{requests}header=\"Connection: close\"\n")).expect("the list");
    let list = list.display().to_string();
    let mut arguments = vec!["-Z", "--parallel-max", "200", "-s", "-K", &list];
    arguments.extend(more);
    command("curl", &arguments)
}

fn command(name: &str, arguments: &[&str]) -> Option<Vec<String>> {
    let Some(path) = program(name) else {
        println!("  skipped: {name} is not installed");
        return None;
    };
    Some(
        [path.display().to_string()].into_iter().chain(arguments.iter().map(|&argument| argument.to_owned())).collect(),
    )
}

impl Bench {
    fn targets(&self, name: &str, target: impl Fn(u32) -> String) -> PathBuf {
        self.list(name, &(0..10_000).map(target).collect::<Vec<_>>())
    }

    /// 2,000 names, so that they are 2,000 targets; all live at one address.
    fn names(&self, port: u16) -> PathBuf {
        self.list("names", &(0..2000).map(|n| format!("tls://h{n}.bench.example:{port}")).collect::<Vec<_>>())
    }

    fn list(&self, name: &str, targets: &[String]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, targets.join("\n")).expect("a list of targets");
        path
    }
}

// ---- measuring

impl Bench {
    fn compare(&self, what: &str, units: f64, ours: &[String], peer: Option<&[String]>, peer_name: &str) {
        let mut our_costs = Vec::new();
        let mut peer_costs = Vec::new();
        for _ in 0..self.rounds {
            our_costs.push(measure(ours));
            peer_costs.extend(peer.map(measure));
        }
        let our = median(&our_costs);
        let show = |name: &str, cost: Cost| {
            println!(
                "  {name:12} wall {:.3} s, {:.1} us CPU each, {:.0}/s, peak {:.1} MiB",
                cost.wall,
                cost.cpu / units * 1e6,
                units / cost.wall,
                cost.peak_kib / 1024.0
            );
        };
        println!("  {what}, median of {}", self.rounds);
        show("snapreach", our);
        if peer.is_some() {
            let peer = median(&peer_costs);
            show(peer_name, peer);
            println!(
                "  ratio        wall {:.2}, CPU {:.2}, rate {:.2}",
                our.wall / peer.wall,
                our.cpu / peer.cpu,
                peer.wall / our.wall
            );
        }
    }
}

fn median(costs: &[Cost]) -> Cost {
    let middle = |value: fn(&Cost) -> f64| support::median(costs, value).expect("there were rounds");
    Cost { wall: middle(|c| c.wall), cpu: middle(|c| c.cpu), peak_kib: middle(|c| c.peak_kib) }
}

/// Runs the command under a copy of this program, which knows only that one child.
fn measure(command: &[String]) -> Cost {
    let output = Command::new(std::env::current_exe().expect("this program"))
        .arg("--measure")
        .args(command)
        .stderr(Stdio::inherit())
        .output()
        .expect("the wrapper runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut fields = text.split_whitespace().map(|field| field.parse().expect("a figure"));
    let mut next = || fields.next().expect("three figures");
    Cost { wall: next(), cpu: next(), peak_kib: next() }
}

fn measure_here(command: &[String]) {
    let start = Instant::now();
    let mut child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command runs");
    child.wait().expect("the command ends");
    let wall = start.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage");
    let seconds = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or(0)).as_secs_f64()
    };
    println!("{wall} {} {}", seconds(usage.user_time()) + seconds(usage.system_time()), usage.max_rss());
}

// ---- other parties

struct Namespace {
    name: String,
}

impl Namespace {
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || program("nft").is_none() || program("ip").is_none() {
            println!("  skipped: needs root, ip and nft");
            return None;
        }
        let name = format!("srbench{}", std::process::id());
        let namespace = Self { name };
        run(Command::new("ip").args(["netns", "add", &namespace.name]));
        run(Command::new("ip").args(["-n", &namespace.name, "link", "set", "lo", "up"]));
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &namespace.name, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nft runs");
        let rules = "table inet filter {\n chain input {\n type filter hook input priority 0;\n ip daddr 127.9.0.0/16 drop\n }\n}\n";
        nft.stdin.take().expect("its input").write_all(rules.as_bytes()).expect("the rules");
        assert!(nft.wait().expect("nft ends").success());
        Some(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn run(command: &mut Command) {
    assert!(command.status().expect("the command runs").success(), "{command:?}");
}
