//! Goodput of the lab's relay beside haproxy and squid, and of its origin beside nginx: on loopback, in turn, medians;
//! every party is a process of its own, and its CPU time is told.
//!
//! `cargo bench --bench relay [-- NAME]`; with `-- --test` one short round, which only shows that everything works.
//! What is not installed is reported so. Where the system's congestion control is bbr the lab has an advantage that is not
//! the relay's: it sends with cubic on loopback.

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use snapreach::lab::{Lab, LabSpec};
use socket2::SockRef;

use support::{Server, configuration, free_port, program};

/// What is run.
#[derive(Debug)]
struct Plan {
    /// What one run moves.
    bytes: u64,
    rounds: usize,
    /// Only comparisons whose title contains it.
    wanted: String,
}

/// How many connections share the bytes.
const CONNECTIONS: [u64; 2] = [1, 4];

/// What one system call sends or takes.
const CHUNK: usize = 256 * 1024;

/// No read or write of a run takes longer unless something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, far] = arguments.as_slice()
        && mode == "--lab"
    {
        return serve_lab(far.parse().expect("a socket"));
    }
    let smoke = arguments.iter().any(|argument| argument == "--test");
    let (bytes, rounds) = if smoke { (8_000_000, 1) } else { (2_000_000_000, 5) };
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-')).cloned().unwrap_or_default();
    let plan = Plan { bytes, rounds, wanted };
    let far = start_far_end();
    let lab = LabProcess::start(far);
    let folder = support::folder();
    relays(&plan, far, &lab, folder.path());
    origins(&plan, &lab, folder.path());
}

// ---- what is compared

fn relays(plan: &Plan, far: SocketAddr, lab: &LabProcess, folder: &Path) {
    let copying = haproxy(folder, far, "haproxy.cfg", "");
    let splicing = haproxy(folder, far, "splicing.cfg", "option splice-auto");
    let squid = support::squid(folder, far.port(), "");
    for connections in CONNECTIONS {
        for (order, word) in [(Order::Send, "download"), (Order::Take, "upload")] {
            let through = |entry: SocketAddr, tunnel: bool| -> Run<'_> {
                Box::new(move || {
                    in_parallel(connections, || {
                        move_bytes(order, plan.bytes / connections, entry, tunnel.then_some(far));
                    });
                })
            };
            let server = |name, server: Option<&Server>, tunnel| Contender {
                name,
                pid: server.map(|server| server.child.id()),
                run: server.map(|server| through(server.address(), tunnel)),
            };
            compare(
                &format!("{word} through a relay, {connections} at once"),
                plan,
                &[
                    Contender { name: "lab", pid: Some(lab.child.id()), run: Some(through(lab.proxy, true)) },
                    server("haproxy", copying.as_ref(), false),
                    server("haproxy splicing", splicing.as_ref(), false),
                    server("squid", squid.as_ref(), true),
                    Contender { name: "no relay", pid: None, run: Some(through(far, false)) },
                ],
            );
        }
    }
}

fn origins(plan: &Plan, lab: &LabProcess, folder: &Path) {
    let blob = plan.bytes / 20;
    fs::write(folder.join("blob"), vec![7; usize::try_from(blob).expect("it fits")]).expect("a file");
    let port = free_port();
    let nginx = support::nginx(
        folder,
        port,
        &format!("sendfile on; sendfile_max_chunk 1m;\nserver {{ listen 127.0.0.1:{port}; root DIR; }}"),
    );
    for connections in CONNECTIONS {
        let from = |origin: SocketAddr, path: String| -> Run<'_> {
            Box::new(move || in_parallel(connections, || get(origin, &path, blob, plan.bytes / blob / connections)))
        };
        compare(
            &format!("GET of {blob} bytes over and over from an origin, {connections} at once"),
            plan,
            &[
                Contender {
                    name: "lab",
                    pid: Some(lab.child.id()),
                    run: Some(from(lab.origin, format!("/snapreach-bulk/{blob}"))),
                },
                Contender {
                    name: "nginx sendfile",
                    pid: nginx.as_ref().map(|nginx| nginx.child.id()),
                    run: nginx.as_ref().map(|nginx| from(nginx.address(), "/blob".into())),
                },
            ],
        );
    }
}

// ---- measuring

/// Moves the bytes of one run.
type Run<'a> = Box<dyn Fn() + 'a>;

struct Contender<'a> {
    name: &'static str,
    /// Whose CPU time counts.
    pid: Option<u32>,
    /// `None` when it is not installed.
    run: Option<Run<'a>>,
}

/// What the runs of one contender showed.
#[derive(Debug, Default)]
struct Figures {
    gigabytes_per_second: Vec<f64>,
    cpu_per_gigabyte: Vec<f64>,
}

/// Runs all in turn; the first one is ours, and the others are compared to it.
fn compare(what: &str, plan: &Plan, contenders: &[Contender<'_>]) {
    if !what.contains(&plan.wanted) {
        return;
    }
    let mut figures: Vec<Figures> = contenders.iter().map(|_| Figures::default()).collect();
    #[expect(clippy::cast_precision_loss, reason = "a few gigabytes")]
    let gigabytes = plan.bytes as f64 / 1e9;
    for _ in 0..plan.rounds {
        for (contender, figures) in contenders.iter().zip(&mut figures) {
            let Some(run) = &contender.run else { continue };
            let (start, cpu) = (Instant::now(), contender.pid.map(cpu_time));
            run();
            figures.gigabytes_per_second.push(gigabytes / start.elapsed().as_secs_f64());
            let used = contender.pid.map(cpu_time).zip(cpu).map(|(after, before)| after.saturating_sub(before));
            figures.cpu_per_gigabyte.extend(used.map(|used| used.as_secs_f64() / gigabytes));
        }
    }
    println!("\n{what}, median of {}", plan.rounds);
    let ours = median(&figures[0].gigabytes_per_second);
    for (contender, figures) in contenders.iter().zip(&figures) {
        let Some(rate) = median(&figures.gigabytes_per_second) else {
            println!("  {:18} not installed", contender.name);
            continue;
        };
        let cpu = median(&figures.cpu_per_gigabyte).map_or(String::new(), |cpu| format!("{cpu:.3} CPU s/GB"));
        let ratio = ours.map_or(0.0, |ours| ours / rate);
        println!("  {:18} {rate:6.2} GB/s   {cpu:14}   lab / this {ratio:.2}", contender.name);
    }
}

fn median(values: &[f64]) -> Option<f64> {
    support::median(values, |&value| value)
}

/// The CPU time of a process and its children so far, from `proc_pid_stat(5)`.
fn cpu_time(pid: u32) -> Duration {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let of_children: Duration = children.split_whitespace().filter_map(|child| child.parse().ok()).map(cpu_time).sum();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let after_name = stat.rsplit(')').next().expect("its name stands in brackets");
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse().unwrap_or(0)).sum();
    // USER_HZ is 100 on every Linux.
    Duration::from_millis(ticks * 10) + of_children
}

fn in_parallel(connections: u64, run: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(&run);
        }
    });
}

// ---- both ends of a relay

/// What the far end is told to do first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Order {
    Send = b'S',
    Take = b'T',
}

/// Sends so many bytes on demand, or takes them and answers with one.
fn start_far_end() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || obey(stream));
        }
    });
    address
}

fn obey(mut stream: TcpStream) {
    let mut order = [0; 9];
    // Some only look whether somebody listens.
    if stream.read_exact(&mut order).is_err() {
        return;
    }
    let bytes = u64::from_le_bytes(order[1..].try_into().expect("eight bytes"));
    patient(&stream);
    if order[0] == Order::Send as u8 {
        send(&mut stream, bytes);
    } else {
        take(&stream, bytes);
        stream.write_all(b"!").expect("the relay passes it on");
    }
    // The relay ends the connection.
    let _ = stream.read(&mut [0]);
}

fn move_bytes(order: Order, bytes: u64, entry: SocketAddr, tunnel: Option<SocketAddr>) {
    let mut stream = connect(entry);
    if let Some(far) = tunnel {
        write!(stream, "CONNECT {far} HTTP/1.1\r\nHost: {far}\r\n\r\n").expect("the proxy reads");
        read_head(&mut stream);
    }
    stream.write_all(&[&[order as u8], &bytes.to_le_bytes()[..]].concat()).expect("the relay reads");
    match order {
        Order::Send => take(&stream, bytes),
        Order::Take => {
            send(&mut stream, bytes);
            take(&stream, 1);
        }
    }
}

/// Fetches a blob over one connection.
fn get(origin: SocketAddr, path: &str, blob: u64, times: u64) {
    let mut stream = connect(origin);
    for _ in 0..times {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the origin reads");
        read_head(&mut stream);
        take(&stream, blob);
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("somebody listens");
    stream.set_nodelay(true).expect("an option");
    patient(&stream);
    stream
}

fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE))).expect("timeouts");
}

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
}

fn send(stream: &mut TcpStream, mut bytes: u64) {
    static PATTERN: [u8; CHUNK] = [7; CHUNK];
    while bytes > 0 {
        let n = CHUNK.min(usize::try_from(bytes).unwrap_or(CHUNK));
        stream.write_all(&PATTERN[..n]).expect("the other side takes it");
        bytes -= n as u64;
    }
}

/// Takes so many bytes and throws them away in the kernel (`MSG_TRUNC`, tcp(7)).
fn take(stream: &TcpStream, mut bytes: u64) {
    let mut nowhere = vec![MaybeUninit::uninit(); CHUNK];
    while bytes > 0 {
        let n = CHUNK.min(usize::try_from(bytes).unwrap_or(CHUNK));
        let n = SockRef::from(stream).recv_with_flags(&mut nowhere[..n], libc::MSG_TRUNC).expect("bytes");
        assert!(n > 0, "the other side ended {bytes} bytes too early");
        bytes -= n as u64;
    }
}

// ---- other parties

/// The lab in a process of its own, which ends when its input does.
struct LabProcess {
    child: Child,
    proxy: SocketAddr,
    origin: SocketAddr,
}

impl LabProcess {
    fn start(far: SocketAddr) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--lab", &far.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the lab runs");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut socket = || lines.next().expect("a line").expect("text").parse().expect("a socket");
        let (proxy, origin) = (socket(), socket());
        Self { child, proxy, origin }
    }
}

impl Drop for LabProcess {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

fn serve_lab(far: SocketAddr) {
    let mut spec = LabSpec::default();
    spec.proxy.reach.insert(far, far);
    let lab = Lab::start(&spec).expect("the lab starts");
    let addresses = &lab.network().addresses;
    println!("{}\n{}", addresses["proxy"], addresses["acct.blob.core.windows.net:80"]);
    let _ = std::io::stdin().read(&mut [0]);
}

/// haproxy as a TCP relay, with its defaults for threads and buffers.
fn haproxy(folder: &Path, far: SocketAddr, name: &str, more: &str) -> Option<Server> {
    let port = free_port();
    let text = format!(
        "defaults\n mode tcp\n timeout connect 5s\n timeout client 1m\n timeout server 1m\n {more}\n\
         listen relay\n bind 127.0.0.1:{port}\n server far {far}\n"
    );
    let path = configuration(folder, name, &text);
    Some(Server::start(Command::new(program("haproxy")?).arg("-db").arg("-q").arg("-f").arg(path), port))
}
