//! An origin of snapreach's own, behind each of its doors: by the first bytes it tells the lines of [`crate::exchange`],
//! TLS, inside of which it makes the same choice again, and HTTP.

mod http;
mod sockets;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest;
use rustls::{ServerConfig, server::Acceptor};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader},
    net::TcpStream,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

pub use self::sockets::OwnOrigin;
use super::{
    door::Port,
    exchange::{self, Memory, PATIENCE, within},
    fault::conn::{Conn, reset},
    pki::{Identity, Pki},
};
use crate::exchange::{BAD_CERTIFICATE, DoorKind, Fingerprint, MAX_HOLD};

/// Storage's ports, those that a backup of managed disks needs first.
pub(super) const PORTS: [u16; 3] = [443, 8443, 80];

/// Connections at once; further ones are closed.
const MAX_CONNECTIONS: usize = 8192;

/// The longest life of a connection.
const LIFETIME: Duration = Duration::from_secs(MAX_HOLD.as_secs() + 3600);

/// After which a connection is reset: its client has noticed by then that it was accepted, and so sees the same every
/// time.
const NOTICED: Duration = Duration::from_millis(30);

/// The first byte of a TLS connection: a handshake record (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// A connection, or a TLS session inside of one, whose end can be made a RST.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
    /// The coming close will send RST.
    fn arm(&self);
}

impl Wire for TcpStream {
    fn arm(&self) {
        // Without it a FIN goes out: still an end.
        let _ = self.set_zero_linger();
    }
}

impl<W: Wire> Wire for BufReader<W> {
    fn arm(&self) {
        self.get_ref().arm();
    }
}

impl<W: Wire> Wire for TlsStream<W> {
    fn arm(&self) {
        self.get_ref().0.arm();
    }
}

/// What the kernel shows at a port behind a door of this kind.
pub(super) fn fault(kind: DoorKind) -> Option<(Conn, u32)> {
    match kind {
        DoorKind::Refuses => Some((Conn::Refuse, 0)),
        DoorKind::Silent => Some((Conn::Silent, 0)),
        DoorKind::Serves | DoorKind::Resets => None,
    }
}

/// What all doors share.
#[derive(Debug, Clone)]
pub(super) struct Origin(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    room: Semaphore,
    memory: Memory,
    good: Presented,
    bad: Presented,
}

/// A certificate, and a TLS server that presents it.
#[derive(Debug)]
struct Presented {
    server: Arc<ServerConfig>,
    fingerprint: Fingerprint,
}

impl From<Identity> for Presented {
    fn from(Identity { server, leaf }: Identity) -> Self {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, &leaf).as_ref());
        Self { server, fingerprint: Fingerprint(fingerprint) }
    }
}

impl Origin {
    /// With a certificate for this name and these addresses, and a bad one.
    pub(super) fn new(pki: &Pki, name: &str, addresses: &[IpAddr]) -> io::Result<Self> {
        Ok(Self(Arc::new(Shared {
            room: Semaphore::new(MAX_CONNECTIONS),
            memory: Memory::default(),
            good: pki.own(name, addresses)?.into(),
            bad: pki.bad(BAD_CERTIFICATE)?.into(),
        })))
    }

    /// Opens a door of this kind at a port, and tells who came. Runs until dropped.
    pub(super) async fn keep(self, port: Port, kind: DoorKind, told: impl Fn(SocketAddr)) {
        port.run(|stream, peer| {
            told(peer);
            match kind {
                DoorKind::Resets => drop(tokio::spawn(async move {
                    sleep(NOTICED).await;
                    reset(stream);
                })),
                _ => drop(tokio::spawn(self.clone().serve(stream))),
            }
        })
        .await;
    }

    /// Serves one connection.
    async fn serve(self, stream: TcpStream) {
        let Ok(_room) = self.0.room.try_acquire() else { return };
        let _ = stream.set_nodelay(true);
        // An error, or the end of its time, is the client's leaving; there is nobody to tell.
        let _ = timeout(LIFETIME, self.0.sniff(stream)).await;
    }
}

impl Shared {
    async fn sniff(&self, stream: TcpStream) -> io::Result<()> {
        let mut io = BufReader::new(stream);
        if within(PATIENCE, io.fill_buf()).await?.first() != Some(&HANDSHAKE) {
            return self.speak(io, None).await;
        }
        let start = within(PATIENCE, LazyConfigAcceptor::new(Acceptor::default(), io)).await?;
        let bad = start.client_hello().server_name().is_some_and(|name| name.eq_ignore_ascii_case(BAD_CERTIFICATE));
        let Presented { server, fingerprint } = if bad { &self.bad } else { &self.good };
        let session = within(PATIENCE, start.into_stream(server.clone())).await?;
        self.speak(BufReader::new(session), Some(*fingerprint)).await
    }

    /// `inside` TLS: the certificate of the session.
    async fn speak<W: Wire>(&self, mut io: BufReader<W>, inside: Option<Fingerprint>) -> io::Result<()> {
        match within(PATIENCE, io.fill_buf()).await?.first() {
            None => Ok(()),
            // Methods are written in capitals, lines of the exchange are not.
            Some(b'A'..=b'Z') => http::serve(&mut io, inside).await,
            Some(_) => exchange::serve(&self.memory, &mut io, inside.unwrap_or(self.good.fingerprint)).await,
        }
    }
}
