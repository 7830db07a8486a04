//! Peers that misbehave at every layer: each gives a failure of the right kind, within the budget, in bounded memory.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use snapreach::{
    http::MAX_HEAD,
    model::{Evidence, FailureKind, Layer, Leg, Observation, Record, Route, Target},
    plan::{Plan, Proxy},
    probe,
};

/// A listener that plays a script on every connection until it is dropped.
struct Peer {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    fn start(script: impl Fn(TcpStream, &AtomicBool) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let script = Arc::new(script);
        let thread = std::thread::spawn(move || {
            let mut players = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                // Nobody waits for ever on the other side of a test.
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
                let (script, stopped) = (script.clone(), stopped.clone());
                players.push(std::thread::spawn(move || script(stream, &stopped)));
            }
            for player in players {
                player.join().unwrap();
            }
        });
        Self { addr, stop, thread: Some(thread) }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Reads what the probe sends first; whatever it is.
fn hear(stream: &mut TcpStream) -> usize {
    stream.read(&mut [0; 4096]).unwrap_or(0)
}

/// Writes until the other side has had enough.
fn flood(mut stream: TcpStream, begin: &[u8], chunk: &[u8], stop: &AtomicBool) {
    if stream.write_all(begin).is_err() {
        return;
    }
    while !stop.load(Ordering::SeqCst) && stream.write_all(chunk).is_ok() {}
}

fn plan(target: &str, proxy: Option<SocketAddr>) -> Plan {
    let mut plan = Plan { targets: Target::parse(target, &[443]).unwrap(), ..Plan::default() };
    plan.routes = vec![if proxy.is_some() { Route::Proxy } else { Route::Direct }];
    plan.proxy = proxy.map(|addr| format!("http://{addr}").parse::<Proxy>().unwrap());
    plan.budgets.attempts = 1;
    plan.budgets.connect = Duration::from_millis(800);
    plan.budgets.layer = Duration::from_millis(800);
    plan.budgets.deadline = Duration::from_secs(10);
    plan
}

fn run(plan: Plan) -> Record {
    let progress = probe::Progress::default();
    let start = Instant::now();
    let record = probe::runtime().unwrap().block_on(probe::run(plan, &progress, std::future::pending())).unwrap();
    // Not a benchmark: the deadline of the plan is a promise, and hanging would break it.
    assert!(start.elapsed() < Duration::from_secs(15), "took {:?}", start.elapsed());
    record
}

fn only(record: &Record) -> &Observation {
    assert_eq!(record.observations.len(), 1, "{:#?}", record.observations);
    let observation = &record.observations[0];
    let size = serde_json::to_vec(observation).unwrap().len();
    assert!(size < 64 * 1024, "an observation of {size} bytes");
    observation
}

/// Runs one walk and says where and how it failed.
fn failed(plan: Plan) -> (Layer, Leg, FailureKind, Evidence) {
    let record = run(plan);
    let (step, failure) = only(&record).failed().unwrap_or_else(|| panic!("did not fail: {record:#?}"));
    (step.layer(), step.leg, failure.kind, step.evidence.clone())
}

#[test]
fn an_endless_head_stops_at_the_bound() {
    for (proxied, layer) in [(true, Layer::Tunnel), (false, Layer::Request)] {
        let peer = Peer::start(|mut stream, stop| {
            hear(&mut stream);
            flood(stream, b"HTTP/1.1 200 OK\r\nX: ", &[b'a'; 8192], stop);
        });
        let url = format!("http://{}", peer.addr);
        let (at, _, kind, evidence) =
            failed(if proxied { plan("https://h.example", Some(peer.addr)) } else { plan(&url, None) });
        assert_eq!((at, kind), (layer, FailureKind::HeadTooLarge));
        let read = match evidence {
            Evidence::Tunnel(e) => e.bytes_read,
            Evidence::Request(e) => e.bytes_read,
            other => panic!("{other:?}"),
        };
        assert!(read <= 2 * MAX_HEAD as u64, "{read} bytes were read");
    }
}

#[test]
fn endless_header_lines_and_interim_answers_are_refused() {
    for (begin, chunk, kind) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], &b"A: b\r\n"[..], FailureKind::HeadTooLarge),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", FailureKind::BadHead),
    ] {
        let peer = Peer::start(move |mut stream, stop| {
            hear(&mut stream);
            flood(stream, begin, &chunk.repeat(100), stop);
        });
        assert_eq!(failed(plan("https://h.example", Some(peer.addr))).2, kind);
    }
}

#[test]
fn a_dripping_peer_costs_the_budget_and_leaves_what_it_said() {
    let peer = Peer::start(|mut stream, stop| {
        hear(&mut stream);
        for byte in b"HTTP/1.1 200 OK\r\n".iter().cycle() {
            if stop.load(Ordering::SeqCst) || stream.write_all(&[*byte]).is_err() {
                return;
            }
            // The pace is the behaviour under test, not a way to wait for something.
            std::thread::park_timeout(Duration::from_millis(100));
        }
    });
    let (layer, _, kind, evidence) = failed(plan("https://h.example", Some(peer.addr)));
    assert_eq!((layer, kind), (Layer::Tunnel, FailureKind::TimedOut));
    let Evidence::Tunnel(tunnel) = evidence else { panic!() };
    assert!(tunnel.bytes_read >= 2 && tunnel.request_sent);
    assert!(tunnel.first_bytes.unwrap().text.starts_with("HT"));
}

#[test]
fn a_giant_certificate_message_is_refused() {
    // ServerHello of TLS 1.2 (ECDHE-RSA-AES128-GCM-SHA256), then a Certificate message that announces 20 MB.
    let mut hello = vec![0x02, 0, 0, 38, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x2f, 0]);
    let mut records = vec![22, 3, 3, 0, u8::try_from(hello.len()).unwrap()];
    records.extend(hello);
    let [_, high, middle, low] = (20_u32 << 20).to_be_bytes();
    records.extend([22, 3, 3, 0x40, 0x00, 11, high, middle, low]);
    records.extend(vec![0x30; 0x4000 - 4]);
    let mut more = vec![22, 3, 3, 0x40, 0x00];
    more.extend(vec![0x30; 0x4000]);
    let peer = Peer::start(move |mut stream, stop| {
        hear(&mut stream);
        flood(stream, &records, &more, stop);
    });
    let (layer, leg, kind, evidence) = failed(plan(&format!("https://{}", peer.addr), None));
    assert_eq!((layer, leg, kind), (Layer::Handshake, Leg::Origin, FailureKind::TlsProtocol));
    let Evidence::Handshake(tls) = evidence else { panic!() };
    assert!(tls.bytes_read < 1 << 20, "{} bytes were read", tls.bytes_read);
}

#[test]
fn garbage_is_recognised_at_every_layer() {
    let garbage: Vec<u8> = (0..4096_u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1] | 0x80).collect();
    let play = move |mut stream: TcpStream, _: &AtomicBool| {
        hear(&mut stream);
        let _ = stream.write_all(&garbage);
    };
    let peer = Peer::start(play);
    let url = |scheme: &str| format!("{scheme}://{}", peer.addr);
    let (layer, _, kind, evidence) = failed(plan(&url("https"), None));
    assert_eq!((layer, kind), (Layer::Handshake, FailureKind::NotTls));
    let Evidence::Handshake(tls) = evidence else { panic!() };
    assert!(tls.first_bytes.unwrap().text.starts_with("\\x"));
    let (layer, _, kind, _) = failed(plan(&url("http"), None));
    assert_eq!((layer, kind), (Layer::Request, FailureKind::NotHttp));
    let (layer, _, kind, _) = failed(plan("https://h.example", Some(peer.addr)));
    assert_eq!((layer, kind), (Layer::Tunnel, FailureKind::NotHttp));
}

#[test]
fn garbage_inside_the_tunnel_is_not_blamed_on_the_tunnel() {
    let peer = Peer::start(|mut stream, _| {
        hear(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
        hear(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\nX-Squid-Error: ERR_CANNOT_FORWARD 0\r\n\r\n");
    });
    let (layer, leg, kind, evidence) = failed(plan("https://h.example", Some(peer.addr)));
    assert_eq!((layer, leg, kind), (Layer::Handshake, Leg::Origin, FailureKind::NotTls));
    let Evidence::Handshake(tls) = evidence else { panic!() };
    assert!(tls.first_bytes.unwrap().text.contains("ERR_CANNOT_FORWARD"));
}

#[test]
fn silence_close_and_reset_are_three_things_at_every_layer() {
    #[derive(Clone, Copy)]
    enum End {
        Silent,
        Close,
        Reset,
    }
    for (end, expected) in
        [(End::Silent, FailureKind::TimedOut), (End::Close, FailureKind::Closed), (End::Reset, FailureKind::Reset)]
    {
        let play = move |mut stream: TcpStream, stop: &AtomicBool| {
            hear(&mut stream);
            match end {
                End::Silent => while !stop.load(Ordering::SeqCst) && hear(&mut stream) > 0 {},
                End::Close => {}
                End::Reset => socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(),
            }
        };
        let peer = Peer::start(play);
        let url = |scheme: &str| format!("{scheme}://{}", peer.addr);
        for (plan, layer) in [
            (plan(&url("http"), None), Layer::Request),
            (plan(&url("https"), None), Layer::Handshake),
            (plan("https://h.example", Some(peer.addr)), Layer::Tunnel),
        ] {
            let (at, _, kind, evidence) = failed(plan);
            assert_eq!((at, kind), (layer, expected));
            let tcp = match evidence {
                Evidence::Request(e) => e.tcp,
                Evidence::Handshake(e) => e.tcp,
                Evidence::Tunnel(e) => e.tcp,
                other => panic!("{other:?}"),
            };
            // What was sent was acknowledged: the peer is silent, not the path.
            assert_eq!(tcp.unwrap().unacked, 0);
        }
    }
}

#[test]
fn an_answer_counts_although_its_body_never_comes() {
    for status in ["407 Proxy Authentication Required", "403 Forbidden"] {
        let peer = Peer::start(move |mut stream, stop| {
            hear(&mut stream);
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 900\r\n\r\nthe begin");
            let _ = stream.write_all(head.as_bytes());
            while !stop.load(Ordering::SeqCst) && hear(&mut stream) > 0 {}
        });
        // The budget ends before the patience with a body does.
        let (layer, _, kind, evidence) = failed(plan("https://h.example", Some(peer.addr)));
        assert_eq!((layer, kind), (Layer::Tunnel, FailureKind::Status));
        let Evidence::Tunnel(tunnel) = evidence else { panic!() };
        let body = tunnel.reply.unwrap().body;
        assert_eq!((body.text.as_str(), body.truncated), ("the begin", true));

        let record = run(plan(&format!("http://{}", peer.addr), None));
        let step = only(&record).steps.last().unwrap();
        assert_eq!((step.layer(), &step.failure), (Layer::Request, &None));
        let Evidence::Request(request) = &step.evidence else { panic!() };
        assert_eq!(request.reply.as_ref().unwrap().body.text, "the begin");
    }
}

#[test]
fn a_self_signed_certificate_is_named_whether_or_not_it_claims_to_be_an_authority() {
    for claims in [rcgen::IsCa::NoCa, rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained)] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = claims;
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
        let config = Arc::new(config);
        let peer = Peer::start(move |mut stream, _| {
            let mut tls = rustls::ServerConnection::new(config.clone()).unwrap();
            while tls.is_handshaking() && tls.complete_io(&mut stream).is_ok() {}
        });
        let record = run(plan(&format!("tls://{}", peer.addr), None));
        let assessment = snapreach::classify::assess(&record);
        let codes: Vec<_> = assessment.findings.iter().map(|finding| finding.code.0).collect();
        assert_eq!(codes, ["tls.self_signed"], "{claims:?}");
    }
}
