//! `snapreach bench` beside the tools that people know, where operations count: handshakes, tunnels, requests.
//!
//! `cargo bench --bench rates [NAME]`. Medians of rounds in turn, in one run, on loopback; CPU time is of the whole
//! client process. What is not installed is reported as skipped. With `--test` one short round, which shows no more than
//! that all of it runs.

mod support;
#[path = "support/tls.rs"]
mod tls;

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{Usage, UsageWho, getrusage},
    time::TimeValLike as _,
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use support::{Server, configuration, free_port, program};

/// A comparison and its name.
type Named = (&'static str, fn(&Bench));

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let test = arguments.iter().any(|argument| argument == "--test");
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let (rounds, seconds, count) = if test { (1, 1, 100) } else { (5, 4, 2000) };
    let bench = Bench { folder: support::folder(), rounds, seconds, count };
    let benches: [Named; 4] = [
        ("handshakes", handshakes),
        ("tunnels-squid", squid),
        ("tunnels-tinyproxy", tinyproxy),
        ("requests", requests),
    ];
    for (name, run) in benches.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        println!("\n{name}");
        run(&bench);
    }
}

struct Bench {
    folder: tempfile::TempDir,
    rounds: usize,
    /// How long this program is measured.
    seconds: u64,
    /// How many operations others make that count and do not time.
    count: usize,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    /// Operations per second.
    rate: f64,
    /// CPU time of each, in microseconds.
    cpu: f64,
    /// Latency in microseconds, where the tool tells.
    p50: f64,
    p99: f64,
}

/// Makes a run.
type Run<'a> = Box<dyn Fn() -> Figures + 'a>;

/// One contender: its name, and how it makes a run, where it is installed.
type Contender<'a> = (&'a str, Option<Run<'a>>);

impl Bench {
    /// Has them run in turn, and shows medians and the ratios of the first to each other.
    fn compare(&self, contenders: &[Contender<'_>]) {
        let mut seen = vec![Vec::new(); contenders.len()];
        for _ in 0..self.rounds {
            for ((_, run), seen) in contenders.iter().zip(&mut seen) {
                seen.extend(run.as_ref().map(|run| run()));
            }
        }
        let medians: Vec<Option<Figures>> = seen.iter().map(|figures| median(figures)).collect();
        for ((name, _), figures) in contenders.iter().zip(&medians) {
            match figures {
                Some(Figures { rate, cpu, p50, p99 }) => {
                    println!("  {name:22} {rate:8.0}/s, {cpu:7.1} us CPU each, p50 {p50:6.0} us, p99 {p99:6.0} us");
                }
                None => println!("  {name:22} skipped: not installed"),
            }
        }
        let Some(Some(ours)) = medians.first() else { return };
        for ((name, _), figures) in contenders.iter().zip(&medians).skip(1) {
            let Some(other) = figures else { continue };
            println!(
                "  ratio to {name:13} rate {:.2}, CPU {:.2}, p50 {:.2}, p99 {:.2}",
                ours.rate / other.rate,
                ours.cpu / other.cpu,
                ours.p50 / other.p50,
                ours.p99 / other.p99
            );
        }
    }

    /// This program.
    fn ours<'a>(&'a self, arguments: &[&str]) -> Run<'a> {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Box::new(move || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_snapreach"));
            command.arg("bench").args(&arguments).args(["--warmup", "1ms", "--format", "json", "--duration"]);
            let Ran { text, cpu, .. } = ran(command.arg(format!("{}s", self.seconds)));
            let report: Value = serde_json::from_str(&text).expect("a report");
            let measured = &report["arms"][0]["measurement"];
            let number = |value: &Value| value.as_f64().expect("a number");
            assert_eq!(measured["errors"], serde_json::json!({}), "{:#}", report["verdict"]);
            let operations = number(&measured["operations"]);
            Figures {
                rate: operations / number(&measured["elapsed_us"]) * 1e6,
                cpu: cpu.as_secs_f64() / operations * 1e6,
                p50: number(&measured["latency"]["p50_ns"]) / 1e3,
                p99: number(&measured["latency"]["p99_ns"]) / 1e3,
            }
        })
    }

    /// curl, which makes so many requests of one connection each.
    fn curl<'a>(&'a self, url: &str, more: &[&str]) -> Option<Run<'a>> {
        let curl = program("curl")?;
        let requests = format!("url=\"{url}\"\noutput=/dev/null\n").repeat(self.count);
        let list = configuration(self.folder.path(), "curl", &format!("{requests}header=\"Connection: close\"\n"));
        let more: Vec<String> = more.iter().map(|&argument| argument.to_owned()).collect();
        Some(Box::new(move || {
            let mut command = Command::new(&curl);
            command.args(["-Z", "--parallel-max", "200", "-s", "-K"]).arg(&list).args(&more);
            let Ran { cpu, wall, .. } = ran(&mut command);
            #[expect(clippy::cast_precision_loss)]
            let count = self.count as f64;
            Figures {
                rate: count / wall.as_secs_f64(),
                cpu: cpu.as_secs_f64() / count * 1e6,
                p50: f64::NAN,
                p99: f64::NAN,
            }
        }))
    }
}

fn median(figures: &[Figures]) -> Option<Figures> {
    Some(Figures {
        rate: support::median(figures, |f| f.rate)?,
        cpu: support::median(figures, |f| f.cpu)?,
        p50: support::median(figures, |f| f.p50)?,
        p99: support::median(figures, |f| f.p99)?,
    })
}

// ---- comparisons

/// Full TLS 1.3 handshakes with a chain of three that is verified, and resumed ones.
fn handshakes(bench: &Bench) {
    let Some((server, ca)) = tls::server(bench.folder.path(), false) else {
        return println!("  skipped: nginx is not installed");
    };
    let url = format!("https://127.0.0.1:{}", server.port);
    let full = ["tls", &url, "-n", "200", "--ca-file", &ca, "--no-system-roots"];
    bench.compare(&[
        ("snapreach bench tls", Some(bench.ours(&full))),
        ("curl -Z", bench.curl(&format!("{url}/"), &["--cacert", &ca])),
    ]);
    drop(server);
    let Some((server, ca)) = tls::server(bench.folder.path(), true) else { return };
    let url = format!("https://127.0.0.1:{}", server.port);
    let full = ["tls", &url, "-n", "200", "--ca-file", &ca, "--no-system-roots"];
    let resumed: Vec<&str> = full.into_iter().chain(["--resume"]).collect();
    bench.compare(&[("tls --resume", Some(bench.ours(&resumed))), ("full", Some(bench.ours(&full)))]);
}

fn squid(bench: &Bench) {
    let origin = Origin::start();
    match support::squid(bench.folder.path(), origin.port, "shutdown_lifetime 0 seconds") {
        Some(proxy) => tunnels(bench, &proxy, &origin),
        None => println!("  skipped: squid is not installed"),
    }
}

fn tinyproxy(bench: &Bench) {
    let origin = Origin::start();
    let Some(path) = program("tinyproxy") else { return println!("  skipped: tinyproxy is not installed") };
    let port = free_port();
    let text = format!(
        "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 500\nLogLevel Critical\nLogFile \"DIR/tinyproxy.log\"\n\
         ConnectPort {}\n",
        origin.port
    );
    let file = configuration(bench.folder.path(), "tinyproxy.conf", &text);
    let proxy = Server::start(Command::new(path).arg("-d").arg("-c").arg(file).stdout(Stdio::null()), port);
    tunnels(bench, &proxy, &origin);
}

/// Tunnels that a proxy opens, 50 at once, against a bare loop that looks at nothing.
fn tunnels(bench: &Bench, proxy: &Server, origin: &Origin) {
    let (through, to) = (format!("http://{}", proxy.address()), format!("127.0.0.1:{}", origin.port));
    bench.compare(&[
        (
            "snapreach bench tunnel",
            Some(bench.ours(&["tunnel", &format!("tcp://{to}"), "--proxy", &through, "-n", "50"])),
        ),
        ("bare tokio", Some(Box::new(|| bare(proxy, &to, bench.seconds)))),
        ("curl -Z -p", bench.curl(&format!("http://{to}/"), &["-p", "-x", &through])),
    ]);
}

/// CONNECT in a loop, 50 at once, with as little around it as tokio allows.
fn bare(proxy: &Server, to: &str, seconds: u64) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
    let before = cpu(UsageWho::RUSAGE_THREAD);
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    let (address, local) = (proxy.address(), tokio::task::LocalSet::new());
    let count = local.block_on(&runtime, async {
        let loops: Vec<_> = (0..50)
            .map(|_| {
                let request = request.clone();
                tokio::task::spawn_local(async move {
                    let mut count = 0_u32;
                    while Instant::now() < end {
                        let mut stream = TcpStream::connect(address).await.expect("the proxy");
                        stream.write_all(request.as_bytes()).await.expect("the request");
                        let mut head = Vec::with_capacity(512);
                        while !head.ends_with(b"\r\n\r\n") {
                            assert!(stream.read_buf(&mut head).await.expect("an answer") > 0);
                        }
                        assert!(head.starts_with(b"HTTP/1.") && head[8..].starts_with(b" 200"));
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        let mut sum = 0;
        for one in loops {
            sum += one.await.expect("a loop");
        }
        f64::from(sum)
    });
    let used = cpu(UsageWho::RUSAGE_THREAD).saturating_sub(before);
    let (rate, cpu) = (count / begin.elapsed().as_secs_f64(), used.as_secs_f64() / count * 1e6);
    Figures { rate, cpu, p50: f64::NAN, p99: f64::NAN }
}

/// Latency at 2,000 requests per second over 20 connections, of the same server.
fn requests(bench: &Bench) {
    let port = free_port();
    let http = format!("keepalive_requests 100000000;\nserver {{ listen 127.0.0.1:{port}; return 200 ok; }}");
    let Some(server) = support::nginx(bench.folder.path(), port, &http) else {
        return println!("  skipped: nginx is not installed");
    };
    let url = format!("http://{}/", server.address());
    let time = format!("{}s", bench.seconds);
    let oha = program("oha").map(|oha| {
        let (url, time) = (&url, &time);
        Box::new(move || {
            let mut command = Command::new(&oha);
            command.args(["--no-tui", "--output-format", "json", "-z", time, "-q", "2000", "-c", "20", url]);
            let Ran { text, cpu, .. } = ran(&mut command);
            let report: Value = serde_json::from_str(&text).expect("a report");
            let number = |value: &Value| value.as_f64().expect("a number");
            let (summary, at) = (&report["summary"], &report["latencyPercentiles"]);
            let rate = number(&summary["requestsPerSec"]);
            Figures {
                rate,
                cpu: cpu.as_secs_f64() / (rate * number(&summary["total"])) * 1e6,
                p50: number(&at["p50"]) * 1e6,
                p99: number(&at["p99"]) * 1e6,
            }
        }) as Run<'_>
    });
    let hey = program("hey").map(|hey| {
        let (url, time) = (&url, &time);
        Box::new(move || {
            let mut command = Command::new(&hey);
            let Ran { text, cpu, .. } = ran(command.args(["-z", time, "-q", "100", "-c", "20", url]));
            let figure = |before: &str, after: &str| -> f64 {
                let line = text.lines().find(|line| line.trim().starts_with(before)).expect("a line of the report");
                let rest = &line[line.find(after).expect("its figure") + after.len()..];
                rest.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
            };
            let rate = figure("Requests/sec:", "Requests/sec:");
            let total = figure("Total:", "Total:");
            Figures {
                rate,
                cpu: cpu.as_secs_f64() / (rate * total) * 1e6,
                p50: figure("50%", " in ") * 1e6,
                p99: figure("99%", " in ") * 1e6,
            }
        }) as Run<'_>
    });
    bench.compare(&[
        ("snapreach bench request", Some(bench.ours(&["request", &url, "--rate", "2000/s", "-n", "20"]))),
        ("oha", oha),
        ("hey", hey),
    ]);
}

// ---- measuring

/// What a command wrote, and what it cost.
struct Ran {
    text: String,
    cpu: Duration,
    wall: Duration,
}

fn ran(command: &mut Command) -> Ran {
    let (before, begin) = (cpu(UsageWho::RUSAGE_CHILDREN), Instant::now());
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().expect("the command runs");
    let (wall, cpu) = (begin.elapsed(), cpu(UsageWho::RUSAGE_CHILDREN).saturating_sub(before));
    Ran { text: String::from_utf8_lossy(&output.stdout).into_owned(), cpu, wall }
}

/// User and kernel time; of children those that have ended, so not of servers that still run.
fn cpu(whose: UsageWho) -> Duration {
    let usage: Usage = getrusage(whose).expect("usage");
    let micros = |time: nix::sys::time::TimeVal| u64::try_from(time.num_microseconds()).unwrap_or(0);
    Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

/// An origin that accepts, answers a request with a short page, and ends with the connection.
struct Origin {
    port: u16,
}

impl Origin {
    fn start() -> Self {
        let (tell, port) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("an event loop");
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
                tell.send(listener.local_addr().expect("an address").port()).expect("somebody asks");
                loop {
                    let Ok((mut stream, _)) = listener.accept().await else { continue };
                    tokio::spawn(async move {
                        let mut head = Vec::new();
                        while let Ok(1..) = stream.read_buf(&mut head).await {
                            if head.ends_with(b"\r\n\r\n") {
                                let _ = stream
                                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                                    .await;
                                return;
                            }
                        }
                    });
                }
            });
        });
        Self { port: port.recv().expect("a port") }
    }
}
