use std::{
    net::{Ipv4Addr, SocketAddr},
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
