//! Goodput of `snapreach bench` beside iperf3 and curl, without and with TLS, and through squid: on loopback, in turn,
//! medians. All get what they get from the lab in a process of its own (iperf3 from its own server), and their CPU time is
//! told. Root runs all of it in a network namespace of its own, whose loopback uses cubic for everybody; else it is what
//! the system has, and bbr paces what it sends.
//!
//! `cargo bench --bench throughput [-- NAME]`; with `-- --test` one short round, which only shows that everything works.
//! What is not installed is reported so.

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use serde::Deserialize;
use snapreach::bench::Run as Report;

use support::{Server, free_port, program};

/// The name under which the lab plays storage.
const NAME: &str = "acct.blob.core.windows.net";

/// What is run.
#[derive(Debug)]
struct Plan {
    /// What one transfer moves.
    bytes: u64,
    /// How many transfers the others make; ours makes as many as it can in `duration`.
    transfers: u64,
    duration: &'static str,
    rounds: usize,
    /// Only comparisons whose title contains it.
    wanted: String,
}

fn main() {
    enter_namespace();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let smoke = arguments.iter().any(|argument| argument == "--test");
    let (bytes, transfers, duration, rounds) = if smoke { (8 << 20, 2, "500ms", 1) } else { (256 << 20, 16, "4s", 5) };
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let plan = Plan { bytes, transfers, duration, rounds, wanted };
    let folder = support::folder();
    let lab = Lab::start(folder.path());
    let payload = folder.path().join("payload");
    fs::write(&payload, vec![7; usize::try_from(bytes).expect("it fits")]).expect("a file");
    let system = fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control").unwrap_or_default();
    let own = std::env::var_os(NAMESPACE).is_some();
    println!("congestion control of all: {}", if own { "cubic, in a namespace of its own" } else { system.trim() });
    let iperf3 = iperf3();
    let storage = lab.address(80);
    let squid = support::squid(folder.path(), storage.port(), "");
    let port = free_port();
    let http = format!("server {{ listen 127.0.0.1:{port}; sendfile on; root DIR; }}");
    let nginx = support::nginx(folder.path(), port, &http);
    for way in [Way::Download, Way::Upload] {
        let path = format!("/snapreach-bulk/{bytes}");
        let (open, secret) = (format!("http://{storage}{path}"), format!("https://{NAME}{path}"));
        let ours = |url: &str, more: &[String]| Some(snapreach(&plan, way, url, more));
        let curl = |url: &str, more: &[String]| curl(&plan, way, url, &payload, more);
        let connect_to = format!("{NAME}:443:{}", lab.address(443));
        let word = way.name();
        compare(
            &format!("{word} without TLS"),
            &plan,
            &[
                ("snapreach", ours(&open, &[])),
                ("iperf3", iperf3.as_ref().map(|server| iperf3_client(&plan, way, server))),
                ("curl", curl(&open, &[])),
            ],
        );
        if let Some(nginx) = nginx.as_ref().filter(|_| way == Way::Download) {
            let file = format!("http://{}/payload", nginx.address());
            compare(
                "download of a file from nginx",
                &plan,
                &[("snapreach", ours(&file, &[])), ("curl", curl(&file, &[]))],
            );
        }
        let text = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let ca = lab.ca.to_str().expect("a plain path");
        compare(
            &format!("{word} with TLS"),
            &plan,
            &[
                (
                    "snapreach",
                    ours(&secret, &text(&["--connect-to", &connect_to, "--ca-file", ca, "--no-system-roots"])),
                ),
                ("curl", curl(&secret, &text(&["--connect-to", &connect_to, "--cacert", ca]))),
            ],
        );
        let through = squid.as_ref().map(|squid| format!("http://{}", squid.address()));
        compare(
            &format!("{word} through squid's tunnel"),
            &plan,
            &[
                ("snapreach", through.as_ref().and_then(|proxy| ours(&open, &text(&["--proxy", proxy])))),
                ("curl", through.as_ref().and_then(|proxy| curl(&open, &text(&["-p", "-x", proxy])))),
            ],
        );
    }
}

/// Set where this program runs in a network namespace that it has made.
const NAMESPACE: &str = "SNAPREACH_BENCH_NAMESPACE";

/// Starts this program again in a network namespace whose loopback uses cubic for whatever is sent, if that can be had.
fn enter_namespace() {
    const SCRIPT: &str = "ip link set lo up && for a in 127.0.0.0/8 127.0.0.1; do ip route replace local $a dev lo \
        proto kernel scope host src 127.0.0.1 table local congctl cubic || exit; done; exec \"$0\" \"$@\"";
    let (Some(unshare), Some(_)) = (program("unshare"), program("ip")) else { return };
    if std::env::var_os(NAMESPACE).is_some() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let this = std::env::current_exe().expect("this program");
    let mut again = Command::new(unshare);
    again.args(["-n", "sh", "-c", SCRIPT]).arg(this).args(std::env::args_os().skip(1)).env(NAMESPACE, "1");
    // Only an error returns; then it is measured as the system is.
    eprintln!("no namespace: {}", again.exec());
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Download,
    Upload,
}

impl Way {
    const fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }
}

// ---- measuring

/// What one run showed.
#[derive(Debug, Clone, Copy)]
struct Sample {
    gigabytes_per_second: f64,
    cpu_per_gigabyte: f64,
}

impl Sample {
    #[expect(clippy::cast_precision_loss, reason = "a few gigabytes")]
    fn of(bytes: u64, took: Duration, cpu: Duration) -> Self {
        let gigabytes = bytes as f64 / 1e9;
        Self { gigabytes_per_second: gigabytes / took.as_secs_f64(), cpu_per_gigabyte: cpu.as_secs_f64() / gigabytes }
    }
}

type Run<'a> = Box<dyn Fn() -> Sample + 'a>;

/// Runs all in turn; the first one is ours, and the others are compared to it.
fn compare(what: &str, plan: &Plan, contenders: &[(&str, Option<Run<'_>>)]) {
    if !what.contains(&plan.wanted) {
        return;
    }
    let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..plan.rounds {
        for ((_, run), samples) in contenders.iter().zip(&mut samples) {
            samples.extend(run.as_ref().map(|run| run()));
        }
    }
    println!("\n{what}, median of {}", plan.rounds);
    let medians: Vec<_> = samples.iter().map(|samples| median(samples)).collect();
    for ((name, _), median) in contenders.iter().zip(&medians) {
        let (Some(ours), Some(this)) = (medians[0], median) else {
            println!("  {name:10} skipped: it, or what it needs, is not installed");
            continue;
        };
        println!(
            "  {name:10} {:6.2} GB/s   {:.3} CPU s/GB   snapreach / this: {:.2}, CPU {:.2}",
            this.gigabytes_per_second,
            this.cpu_per_gigabyte,
            ours.gigabytes_per_second / this.gigabytes_per_second,
            ours.cpu_per_gigabyte / this.cpu_per_gigabyte,
        );
    }
}

fn median(samples: &[Sample]) -> Option<Sample> {
    Some(Sample {
        gigabytes_per_second: support::median(samples, |sample| sample.gigabytes_per_second)?,
        cpu_per_gigabyte: support::median(samples, |sample| sample.cpu_per_gigabyte)?,
    })
}

/// Runs a program to its end: its output, how long it took, and the CPU time that it used.
fn timed(command: &mut Command) -> (Output, Duration, Duration) {
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel counts");
        let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Duration::from_micros(microseconds.unsigned_abs())
    };
    let (start, before) = (Instant::now(), used());
    let output = command.output().expect("it runs");
    let (took, cpu) = (start.elapsed(), used().saturating_sub(before));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    (output, took, cpu)
}

// ---- who moves bytes

/// Ours, by its own report, which leaves the warm-up out.
fn snapreach<'a>(plan: &'a Plan, way: Way, url: &str, more: &[String]) -> Run<'a> {
    let (url, more) = (url.to_owned(), more.to_owned());
    Box::new(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_snapreach"));
        command.args(["bench", way.name(), &url, "--format", "json", "--duration", plan.duration]);
        command.args(["--warmup", "200ms", "--bytes", &format!("{}MiB", plan.bytes >> 20)]).args(&more);
        let (output, ..) = timed(&mut command);
        let report = Report::read(&String::from_utf8_lossy(&output.stdout)).expect("a report");
        let measured = &report.arms[0].measurement;
        assert!(measured.errors.is_empty(), "{:?}", measured.errors);
        Sample::of(measured.bytes, measured.elapsed(), measured.cpu.own())
    })
}

fn curl<'a>(plan: &'a Plan, way: Way, url: &str, payload: &Path, more: &[String]) -> Option<Run<'a>> {
    let mut words = vec!["-s".to_owned(), "-f".to_owned()];
    words.extend(more.iter().cloned());
    for _ in 0..plan.transfers {
        if way == Way::Upload {
            words.extend(["-T".into(), payload.to_str().expect("a plain path").into()]);
        }
        words.extend(["-o".into(), "/dev/null".into(), url.into()]);
    }
    let program = program("curl")?;
    Some(Box::new(move || {
        // Whoever runs this may have a proxy for other purposes.
        let (_, took, cpu) = timed(Command::new(&program).args(["-q", "--noproxy", ""]).args(&words));
        Sample::of(plan.bytes * plan.transfers, took, cpu)
    }))
}

/// iperf3's server.
fn iperf3() -> Option<Server> {
    let port = free_port();
    let mut command = Command::new(program("iperf3")?);
    command.args(["-s", "-B", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    Some(Server::start(&mut command, port))
}

fn iperf3_client<'a>(plan: &'a Plan, way: Way, server: &'a Server) -> Run<'a> {
    /// What counts of iperf3's report.
    #[derive(Deserialize)]
    struct Report {
        end: End,
    }
    #[derive(Deserialize)]
    struct End {
        sum_received: Received,
    }
    #[derive(Deserialize)]
    struct Received {
        bytes: u64,
        seconds: f64,
    }
    Box::new(move || {
        let mut command = Command::new(program("iperf3").expect("its server runs"));
        let (port, bytes) = (server.port.to_string(), (plan.bytes * plan.transfers).to_string());
        command.args(["-c", "127.0.0.1", "-J", "-p", &port, "-n", &bytes]);
        command.args((way == Way::Download).then_some("-R"));
        let (output, _, cpu) = timed(&mut command);
        let report: Report = serde_json::from_slice(&output.stdout).expect("a report");
        let Received { bytes, seconds } = report.end.sum_received;
        Sample::of(bytes, Duration::from_secs_f64(seconds), cpu)
    })
}

/// The lab in a process of its own.
struct Lab {
    child: Child,
    addresses: BTreeMap<String, SocketAddr>,
    /// Whom to trust.
    ca: PathBuf,
}

impl Lab {
    fn start(folder: &Path) -> Self {
        /// What counts of what the lab says about itself.
        #[derive(Deserialize)]
        struct Description {
            addresses: BTreeMap<String, SocketAddr>,
        }
        let ca = folder.join("ca.pem");
        let mut child = Command::new(env!("CARGO_BIN_EXE_snapreach"))
            .args(["lab", "--ca-file-out"])
            .arg(&ca)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the lab runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let Description { addresses } = serde_json::from_str(&line).expect("what it says about itself");
        Self { child, addresses, ca }
    }

    fn address(&self, port: u16) -> SocketAddr {
        self.addresses[&format!("{NAME}:{port}")]
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        support::end(&mut self.child);
    }
}
