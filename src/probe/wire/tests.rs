use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    version::{TLS12, TLS13},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::*;
use crate::{
    model::{Evidence, HandshakeEvidence, Verification},
    plan::{Source, Trust},
    probe::{
        net::{self, Tuning},
        recorder::Slot as _,
    },
};

const SOON: Duration = Duration::from_secs(20);

/// A blob of a size that is a multiple of nothing here.
const BYTES: u64 = 3_000_001;

fn payload(from: u64, to: u64) -> Vec<u8> {
    (from..to).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

async fn dial(to: SocketAddr) -> Conn {
    let mut attempt = net::Attempt::new(to, to);
    net::connect(&mut attempt, &Source::default(), Tuning::default(), None).await.unwrap()
}

/// Serves the next connections one after the other.
async fn serve<F: Future<Output = ()> + Send + 'static>(
    mut each: impl FnMut(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            each(stream).await;
        }
    });
    (address, server)
}

/// A wire to a peer that sends just this, and ends.
async fn wire_to(bytes: Vec<u8>) -> Wire {
    let (address, _) = serve(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut [0; 64]).await;
        }
    })
    .await;
    Wire::plain(dial(address).await)
}

/// The same without the fast path.
async fn both_ways(bytes: &[u8]) -> [Wire; 2] {
    let plain = wire_to(bytes.to_vec()).await;
    let conn = wire_to(bytes.to_vec()).await.conn;
    [plain, Wire::layered(Box::new(conn.clone()), conn)]
}

/// Reads one answer; how much of its body has come, and how it ended.
async fn answer(wire: &mut Wire, verify: Option<u64>) -> (u64, Result<(), FailureKind>) {
    let mut came = 0;
    let mut incoming = Incoming::within(SOON);
    let read = async {
        let reply = wire.head(&mut incoming).await?;
        wire.receive(&reply, &mut incoming, verify, |n| came += n).await
    };
    let ended = timeout(SOON, read).await.expect("in time").map_err(|failure| failure.kind);
    (came, ended)
}

// ---- without TLS

#[tokio::test]
async fn bodies_are_taken_whole_and_connections_stay() {
    let mut bytes = Vec::new();
    for (from, to) in [(0, BYTES), (5, 5), (7, 900), (250, 70_000)] {
        bytes.extend(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", to - from).bytes());
        bytes.extend(payload(from, to));
    }
    for verify in [false, true] {
        for mut wire in both_ways(&bytes).await {
            for (from, to) in [(0, BYTES), (5, 5), (7, 900), (250, 70_000)] {
                assert_eq!(answer(&mut wire, verify.then_some(from)).await, (to - from, Ok(())));
            }
            assert_eq!(answer(&mut wire, None).await, (0, Err(FailureKind::Closed)));
        }
    }
}

#[tokio::test]
async fn a_byte_that_is_wrong_is_found() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3000001\r\n\r\n".to_vec();
    let head = bytes.len();
    bytes.extend(payload(100, 100 + BYTES));
    for wrong in [0, 1_234_567, 3_000_000] {
        let mut bytes = bytes.clone();
        bytes[head + wrong] ^= 1;
        for mut wire in both_ways(&bytes).await {
            assert_eq!(answer(&mut wire, Some(100)).await.1, Err(FailureKind::Differs));
        }
    }
}

#[tokio::test]
async fn an_end_within_the_body_is_a_truncation() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3000001\r\n\r\n".to_vec();
    bytes.extend(payload(0, BYTES - 1));
    for mut wire in both_ways(&bytes).await {
        assert_eq!(answer(&mut wire, None).await, (BYTES - 1, Err(FailureKind::Truncated)));
    }
}

#[tokio::test]
async fn chunks_are_taken_with_what_frames_them_and_nothing_else() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let cuts = [0, 1, 5, 70_000, 1_000_000, BYTES];
    for pair in cuts.windows(2) {
        bytes.extend(format!("{:x};x=y\r\n", pair[1] - pair[0]).bytes());
        bytes.extend(payload(pair[0], pair[1]));
        bytes.extend(b"\r\n");
    }
    let whole = bytes.len();
    bytes.extend(b"0\r\nX-Trailer: 1\r\n\r\nHTTP/1.1 204 No\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest");
    for mut wire in both_ways(&bytes).await {
        assert_eq!(answer(&mut wire, Some(0)).await, (BYTES, Ok(())));
        assert_eq!(answer(&mut wire, None).await, (0, Ok(())), "an answer that has no body");
        assert_eq!(answer(&mut wire, None).await, (4, Ok(())), "its end is that of the connection");
    }
    for (cut, ended) in [(whole, FailureKind::Truncated), (whole - 3, FailureKind::Truncated)] {
        for mut wire in both_ways(&bytes[..cut]).await {
            assert_eq!(answer(&mut wire, None).await.1, Err(ended));
        }
    }
}

#[tokio::test]
async fn what_frames_chunks_is_bounded() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let endless = "x".repeat(1_000_000);
    for body in ["zz\r\n", "5\r\nabcdefgh\r\n", &format!("5;{endless}"), &format!("0\r\n{endless}")] {
        let mut wire = wire_to(format!("{head}{body}").into_bytes()).await;
        assert_eq!(answer(&mut wire, None).await.1, Err(FailureKind::BadHead), "{}", &body[..3]);
    }
}

#[tokio::test]
async fn what_nobody_asked_for_is_no_payload_but_the_next_answer() {
    let mut wire = wire_to(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbodySSH-2.0".to_vec()).await;
    assert_eq!(answer(&mut wire, None).await, (4, Ok(())));
    assert_eq!(answer(&mut wire, None).await, (0, Err(FailureKind::NotHttp)));
}

#[tokio::test]
async fn a_reset_is_one() {
    let (address, _) = serve(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3000001\r\n\r\nsome").await.unwrap();
        let _ = stream.read(&mut [0]).await;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
    .await;
    let mut wire = Wire::plain(dial(address).await);
    let mut incoming = Incoming::within(SOON);
    let reply = wire.head(&mut incoming).await.unwrap();
    wire.send(b"!").await.unwrap();
    let failure = timeout(SOON, wire.receive(&reply, &mut incoming, None, |_| {})).await.unwrap().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Reset);
}

/// Takes so many bytes and answers whether they are the payload.
async fn take_upload(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), length: u64) {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut bytes).await.unwrap();
    let status = if bytes == payload(0, length) { "201 Created" } else { "400 Wrong" };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

/// Sends the payload and gives the status of the answer.
async fn upload(wire: &mut Wire, length: u64) -> u16 {
    let mut moved = 0;
    let mut incoming = Incoming::within(SOON);
    let exchange = async {
        wire.transmit(length, |n| moved += n).await?;
        let reply = wire.head(&mut incoming).await?;
        wire.receive(&reply, &mut incoming, None, |_| {}).await.map(|()| reply)
    };
    let reply = timeout(SOON, exchange).await.expect("in time").unwrap();
    assert_eq!(moved, length);
    reply.status
}

#[tokio::test]
async fn what_is_sent_is_the_payload() {
    for layered in [false, true] {
        let (address, _) = serve(|mut stream| async move {
            take_upload(&mut stream, BYTES).await;
            take_upload(&mut stream, 0).await;
            take_upload(&mut stream, 3 * 251 * 4096).await;
        })
        .await;
        let conn = dial(address).await;
        let mut wire = if layered { Wire::layered(Box::new(conn.clone()), conn) } else { Wire::plain(conn) };
        for length in [BYTES, 0, 3 * 251 * 4096] {
            assert_eq!(upload(&mut wire, length).await, 201);
        }
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_nobody() {
    let (address, _) = serve(|stream| async move {
        // Kept open, and never read.
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let mut wire = Wire::plain(dial(address).await);
    let mut moved = 0;
    let patience = Duration::from_millis(300);
    timeout(patience, wire.transmit(u64::MAX, |n| moved += n)).await.unwrap_err();
    assert!(moved > 0);
}

// ---- with TLS

/// A server with a certificate of its own, and a client that trusts it.
struct Pair {
    server: ServerConfig,
    tls: Tls,
}

fn pair(versions: &[&'static rustls::SupportedProtocolVersion]) -> Pair {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
        .unwrap();
    let trust = Trust { system: false, added: vec![certificate.der().to_vec()], ..Trust::default() };
    Pair { server, tls: Tls::new(&trust).unwrap().0 }
}

/// Serves sessions.
async fn serve_tls<F: Future<Output = ()> + Send + 'static>(
    config: ServerConfig,
    each: impl Fn(TlsStream<TcpStream>) -> F + Send + Sync + 'static,
) -> SocketAddr {
    let (acceptor, each) = (TlsAcceptor::from(Arc::new(config)), Arc::new(each));
    let (address, _) = serve(move |stream| {
        let (acceptor, each) = (acceptor.clone(), each.clone());
        async move {
            stream.set_nodelay(true).unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                each(stream).await;
            }
        }
    })
    .await;
    address
}

/// Opens a session; also what was learned of it.
async fn session(tls: &Tls, to: SocketAddr, name: &str) -> (Result<Wire, Failure>, HandshakeEvidence) {
    let mut attempt = handshake::Attempt::new();
    let wire = Wire::plain(dial(to).await);
    let shaken = timeout(SOON, wire.tls(&mut attempt, tls, &Host::Name(name.into()))).await.expect("in time");
    let Evidence::Handshake(evidence) = attempt.finish(None, None) else { unreachable!() };
    (shaken, *evidence)
}

#[tokio::test]
async fn both_versions_carry_payload_both_ways() {
    for (version, name) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let Pair { server, tls } = pair(&[version]);
        let address = serve_tls(server, |mut stream| async move {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n");
            for _ in 0..2 {
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(&payload(9, 9 + BYTES)).await.unwrap();
                stream.flush().await.unwrap();
                take_upload(&mut stream, BYTES).await;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nrest").await.unwrap();
            stream.shutdown().await.unwrap();
        })
        .await;
        let (wire, evidence) = session(&tls, address, "a.example").await;
        let mut wire = wire.unwrap();
        for verify in [None, Some(9)] {
            assert_eq!(answer(&mut wire, verify).await, (BYTES, Ok(())), "{name}");
            assert_eq!(upload(&mut wire, BYTES).await, 201, "{name}");
        }
        assert_eq!(answer(&mut wire, None).await, (4, Ok(())), "its end is that of the session");
        assert_eq!((evidence.version.as_deref(), evidence.sni.as_deref()), (Some(name), Some("a.example")));
        assert_eq!((evidence.verification, evidence.chain.len()), (Some(Verification::Trusted), 1));
        assert!(evidence.bytes_sent > 100 && evidence.bytes_read > 300, "{evidence:?}");
        assert!(evidence.first_bytes.is_none() && evidence.cipher_suite.is_some());
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_body_shows_through_tls_too() {
    let Pair { server, tls } = pair(&[&TLS13]);
    let address = serve_tls(server, |mut stream| async move {
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n").into_bytes();
        bytes.extend(payload(0, BYTES - 1));
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        stream.write_all(&bytes).await.unwrap();
        stream.flush().await.unwrap();
        // The connection ends, the session does not.
    })
    .await;
    let mut wire = session(&tls, address, "a.example").await.0.unwrap();
    assert_eq!(answer(&mut wire, None).await, (BYTES - 1, Err(FailureKind::Truncated)));
    let mut wire = session(&tls, address, "a.example").await.0.unwrap();
    assert_eq!(answer(&mut wire, Some(0)).await.1, Err(FailureKind::Differs));
}

#[tokio::test]
async fn new_keys_in_the_middle_are_no_trouble() {
    let Pair { server, tls } = pair(&[&TLS13]);
    let address = serve_tls(server, |mut stream| async move {
        stream.write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n").as_bytes()).await.unwrap();
        for from in (0..BYTES).step_by(100_000) {
            stream.write_all(&payload(from, BYTES.min(from + 100_000))).await.unwrap();
            stream.get_mut().1.refresh_traffic_keys().unwrap();
        }
        stream.flush().await.unwrap();
        take_upload(&mut stream, BYTES).await;
    })
    .await;
    let mut wire = session(&tls, address, "a.example").await.0.unwrap();
    assert_eq!(answer(&mut wire, Some(0)).await, (BYTES, Ok(())));
    // The server has asked for new keys of this side as well.
    assert_eq!(upload(&mut wire, BYTES).await, 201);
}

#[tokio::test]
async fn sessions_are_resumed_and_still_known_to_be_trusted() {
    for version in [&TLS12, &TLS13] {
        let Pair { server, tls } = pair(&[version]);
        let tls = tls.resuming();
        let address = serve_tls(server, |mut stream| async move {
            let _ = stream.read(&mut [0]).await;
        })
        .await;
        for round in 0..3 {
            let (wire, evidence) = session(&tls, address, "a.example").await;
            let mut wire = wire.unwrap();
            assert_eq!(wire.is_resumed(), round > 0, "{version:?}");
            assert_eq!((evidence.verification, evidence.chain.len()), (Some(Verification::Trusted), 1));
            assert!(timeout(SOON, wire.tickets()).await.unwrap().unwrap());
        }
        // A name that the certificate is not for begins anew, and is judged anew.
        let (wire, evidence) = session(&tls, address, "b.example").await;
        assert!(!wire.unwrap().is_resumed());
        assert_eq!(evidence.verification, Some(Verification::NameMismatch));
    }
}

#[tokio::test]
async fn a_server_without_tickets_is_not_awaited_for_ever() {
    let Pair { mut server, tls } = pair(&[&TLS13]);
    server.send_tls13_tickets = 0;
    let tls = tls.resuming();
    let address = serve_tls(server, |mut stream| async move { stream.shutdown().await.unwrap() }).await;
    for _ in 0..2 {
        let mut wire = session(&tls, address, "a.example").await.0.unwrap();
        assert!(!wire.is_resumed());
        assert!(!timeout(SOON, wire.tickets()).await.unwrap().unwrap());
    }
}

#[tokio::test]
async fn a_certificate_that_proves_nothing_is_recorded() {
    let Pair { server, .. } = pair(&[&TLS13]);
    let (other, _) = Tls::new(&Trust { system: false, ..Trust::default() }).unwrap();
    let address = serve_tls(server, |_| async {}).await;
    let (wire, evidence) = session(&other, address, "a.example").await;
    assert!(wire.is_ok(), "it is for the caller to judge");
    assert_eq!((evidence.verification, evidence.chain.len()), (Some(Verification::UnknownIssuer), 1));
}

#[tokio::test]
async fn alerts_and_what_is_no_tls_are_told_apart() {
    let (tls, _) = Tls::new(&Trust { system: false, ..Trust::default() }).unwrap();
    for (words, kind) in [
        (&b"\x15\x03\x03\x00\x02\x02\x46"[..], FailureKind::Alert),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", FailureKind::NotTls),
        (b"", FailureKind::Closed),
        // A record longer than any may be, and a handshake message that is none.
        (b"\x16\x03\x03\xff\xff\0\0\0", FailureKind::TlsProtocol),
        (b"\x16\x03\x03\x00\x08\xff\xff\xff\xff\xff\xff\xff\xff", FailureKind::TlsProtocol),
    ] {
        let (address, _) = serve(move |mut stream| async move {
            let _ = stream.read(&mut [0; 2048]).await;
            let _ = stream.write_all(words).await;
            let _ = stream.shutdown().await;
            let _ = stream.read(&mut [0; 2048]).await;
        })
        .await;
        let (wire, evidence) = session(&tls, address, "a.example").await;
        assert_eq!(wire.unwrap_err().kind, kind, "{words:?}");
        assert_eq!(evidence.alert.map(|alert| alert.number), (kind == FailureKind::Alert).then_some(70));
        let first = evidence.first_bytes.map(|first| first.to_bytes());
        assert_eq!(first.as_deref(), (kind == FailureKind::NotTls).then_some(words));
    }
}

/// Turns what passes into what a test wants, record by record.
async fn damaged(to: SocketAddr, damage: impl FnMut(usize, Vec<u8>) -> Vec<u8> + Send + Clone + 'static) -> SocketAddr {
    let (address, _) = serve(move |near| {
        let mut damage = damage.clone();
        async move {
            let far = TcpStream::connect(to).await.unwrap();
            let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.into_split(), far.into_split());
            let up = tokio::spawn(async move { tokio::io::copy(&mut from_near, &mut to_far).await });
            for number in 0.. {
                let mut record = vec![0; 5];
                if from_far.read_exact(&mut record).await.is_err() {
                    break;
                }
                record.resize(5 + usize::from(u16::from_be_bytes([record[3], record[4]])), 0);
                from_far.read_exact(&mut record[5..]).await.unwrap();
                if to_near.write_all(&damage(number, record)).await.is_err() {
                    break;
                }
            }
            up.abort();
        }
    })
    .await;
    address
}

#[tokio::test]
async fn a_record_that_was_changed_on_its_way_is_none() {
    let Pair { server, tls } = pair(&[&TLS13]);
    let origin = serve_tls(server, |mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3000001\r\n\r\n").await.unwrap();
        let _ = stream.write_all(&payload(0, BYTES)).await;
    })
    .await;
    let between = damaged(origin, |number, mut record| {
        if number == 40 {
            let last = record.len() - 1;
            record[last] ^= 1;
        }
        record
    })
    .await;
    let mut wire = session(&tls, between, "a.example").await.0.unwrap();
    assert_eq!(answer(&mut wire, None).await.1, Err(FailureKind::Undecryptable));
    // What claims to be a record and is not of any length that one may have.
    let between = damaged(origin, |number, record| if number == 40 { vec![23; 40_000] } else { record }).await;
    let mut wire = session(&tls, between, "a.example").await.0.unwrap();
    assert_eq!(answer(&mut wire, None).await.1, Err(FailureKind::TlsProtocol));
}

#[tokio::test]
async fn a_transfer_can_be_dropped_at_any_moment() {
    let Pair { server, tls } = pair(&[&TLS13]);
    let address = serve_tls(server, |mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3000001\r\n\r\n").await;
        // It stalls within a record, as seen from the other side, until the peer leaves.
        let _ = stream.write_all(&payload(0, BYTES / 2)).await;
        let _ = stream.flush().await;
        let _ = stream.read(&mut [0]).await;
    })
    .await;
    for _ in 0..20 {
        let mut wire = session(&tls, address, "a.example").await.0.unwrap();
        let mut incoming = Incoming::within(SOON);
        let reply = wire.head(&mut incoming).await.unwrap();
        let mut came = 0;
        // The caller's limit ends it, wherever it is.
        let _ = timeout(Duration::from_millis(20), wire.receive(&reply, &mut incoming, None, |n| came += n)).await;
        assert!(came <= BYTES / 2);
    }
}
