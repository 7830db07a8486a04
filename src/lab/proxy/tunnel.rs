//! Tunnels: how they begin, and what becomes of them.

use std::{
    io::{self, Cursor},
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering,
    time::Duration,
};

use rustls::server::Acceptor;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    Session,
    answers::{ERRNO_REFUSED, ERRNO_TIMED_OUT, ERRNO_UNREACHABLE, ESTABLISHED, established, squid},
};
use crate::lab::{
    fault::{
        conn::mute,
        half_close::Watched,
        proto::{Certificate, Tunnel},
    },
    http::{Answer, Io},
    origin::{self, last_words},
    quirk::Quirk,
    relay::{self, Manner},
    session,
    world::Door,
};

/// The first byte of a TLS connection: a handshake record (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;

/// What fits into the first segment of a connection on Ethernet, or nearly so.
const LARGE_HELLO: usize = 1400;

/// How long a client may take nothing before it counts as slow.
const SLOW: Duration = Duration::from_millis(200);

impl Session<'_> {
    pub(super) async fn break_tunnel(
        self,
        mut io: Box<dyn Io>,
        mut buffer: Vec<u8>,
        tunnel: &Tunnel,
        host: &str,
        port: u16,
    ) -> io::Result<()> {
        let authority = format!("{host}:{port}");
        if let Tunnel::Early(text) = tunnel {
            // In one piece, as a server does that takes CONNECT for a GET.
            let mut bytes = ESTABLISHED.as_bytes().to_vec();
            bytes.extend_from_slice(text.as_bytes());
            return last_words(io, &bytes).await;
        }
        if *tunnel == Tunnel::EarlyLost {
            buffer.clear();
            let mut lost = [0; 4096];
            // What has arrived; nothing is waited for.
            while matches!(timeout(Duration::ZERO, io.read(&mut lost)).await, Ok(Ok(1..))) {}
        }
        established().write(&mut io, "CONNECT").await?;
        match tunnel {
            Tunnel::Early(_) | Tunnel::Close => last_words(io, b"").await,
            Tunnel::Mute => {
                mute(io).await;
                Ok(())
            }
            Tunnel::CloseAfterHello | Tunnel::Reset | Tunnel::Bytes(_) => {
                if buffer.is_empty() && io.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
                match tunnel {
                    Tunnel::Bytes(text) => last_words(io, text.as_bytes()).await,
                    Tunnel::Reset => {
                        self.breaker.arm();
                        Ok(())
                    }
                    _ => last_words(io, b"").await,
                }
            }
            Tunnel::Intercept => {
                let config = self.world.tls.chain(Certificate::Intercepted);
                let session = session::greet(io).await?.accept(config).await?;
                let ip = self.addresses(host).first().copied().unwrap_or(IpAddr::from([0, 0, 0, 0]));
                let door = Door { address: SocketAddr::new(ip, port), by_proxy: true };
                origin::serve_inside(self.world, door, self.peer, session, self.breaker).await;
                Ok(())
            }
            Tunnel::EarlyLost => match self.dial(host, port).await {
                Ok(origin) => self.relay(io, origin, &authority, &[], None).await,
                Err(_) => last_words(io, b"").await,
            },
            Tunnel::HalfCloseKills => match self.dial(host, port).await {
                Ok(origin) => {
                    let (io, end) = Watched::new(io);
                    tokio::select! {
                        done = self.relay(Box::new(io), origin, &authority, &buffer, None) => done,
                        () = end.notified() => Ok(()),
                    }
                }
                Err(_) => last_words(io, b"").await,
            },
            Tunnel::Idle(limit) => match self.dial(host, port).await {
                Ok(origin) => self.relay(io, origin, &authority, &buffer, Some(*limit)).await,
                Err(_) => last_words(io, b"").await,
            },
        }
    }

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        literal.parse().map_or_else(|_| self.world.zone.addresses(host), |ip| vec![ip])
    }

    /// Reaches the origin, or says why not as squid does.
    pub(super) async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, Answer> {
        let spec = &self.world.spec.proxy;
        sleep(spec.connect_delay).await;
        let mut failure = squid(500, "Internal Server Error", "ERR_CANNOT_FORWARD", 0);
        let mut reason = "dns_error; rcode=\"NXDOMAIN\"";
        for ip in self.addresses(host) {
            let address = SocketAddr::new(ip, port);
            let itself = (spec.reach_loopback && ip.is_loopback()).then_some(&address);
            let error = match self.world.behind_proxy.get(&address).or(itself) {
                None => ERRNO_REFUSED,
                Some(door) => match timeout(self.world.proxy_patience, TcpStream::connect(door)).await {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => ERRNO_REFUSED,
                    Ok(Err(_)) => ERRNO_UNREACHABLE,
                    Err(_) => ERRNO_TIMED_OUT,
                },
            };
            failure = squid(503, "Service Unavailable", "ERR_CONNECT_FAIL", error);
            reason = match error {
                ERRNO_REFUSED => "connection_refused",
                ERRNO_TIMED_OUT => "connection_timeout",
                _ => "destination_ip_unroutable",
            };
        }
        if spec.proxy_status {
            failure.headers.push(format!("Proxy-Status: proxy; error={reason}"));
        }
        Err(failure.closing())
    }

    /// Moves bytes until the tunnel ends; `early` are those that came with the CONNECT.
    pub(super) async fn relay(
        &self,
        client: Box<dyn Io>,
        mut origin: TcpStream,
        authority: &str,
        early: &[u8],
        idle: Option<Duration>,
    ) -> io::Result<()> {
        origin.set_nodelay(true)?;
        let meter = self.world.log.add_tunnel(authority);
        let mut early = early.to_vec();
        let Some(mut client) = self.examine(client, &mut early, authority).await? else { return Ok(()) };
        origin.write_all(&early).await?;
        meter.up.fetch_add(early.len() as u64, Ordering::Relaxed);
        let spec = &self.world.spec.proxy;
        let manner = Manner {
            idle,
            lifetime: spec.quirks.iter().find_map(|quirk| match quirk {
                Quirk::Lifetime(lifetime) => Some(*lifetime),
                _ => None,
            }),
            slow: spec.has(Quirk::CutsSlowReaders).then_some(SLOW),
            loses_last_bytes: spec.has(Quirk::LosesLastBytes),
            keeps_after_reset: spec.has(Quirk::KeepsAfterReset),
            one_way_at_a_time: spec.has(Quirk::OneWayAtATime),
        };
        relay::relay(&mut *client, origin, &meter, &manner).await
    }

    /// What a proxy does that looks at the first bytes of a tunnel. `None`: the tunnel has ended.
    async fn examine(
        &self,
        mut client: Box<dyn Io>,
        early: &mut Vec<u8>,
        authority: &str,
    ) -> io::Result<Option<Box<dyn Io>>> {
        let spec = &self.world.spec.proxy;
        let examines = [Quirk::OnlyTls, Quirk::LosesLargeHellos, Quirk::WantsSni, Quirk::MasksCertificates];
        if !examines.iter().any(|&quirk| spec.has(quirk)) {
            return Ok(Some(client));
        }
        if early.is_empty() {
            client.read_buf(early).await?;
        }
        if early.first() != Some(&HANDSHAKE) {
            let is_cut = spec.has(Quirk::OnlyTls) && authority.ends_with(":443");
            return Ok((!is_cut).then_some(client));
        }
        while early.len() < record(early) && client.read_buf(early).await? > 0 {}
        if spec.has(Quirk::LosesLargeHellos) && early.len() > LARGE_HELLO {
            mute(client).await;
            return Ok(None);
        }
        if spec.has(Quirk::WantsSni) && !names_a_server(early) {
            self.breaker.arm();
            return Ok(None);
        }
        let Some(masking) = self.world.tls.masking.clone() else { return Ok(Some(client)) };
        let (read, write) = tokio::io::split(client);
        let client = tokio::io::join(Cursor::new(std::mem::take(early)).chain(read), write);
        Ok(Some(Box::new(TlsAcceptor::from(masking).accept(client).await?)))
    }
}

/// The length of the TLS record that begins so.
fn record(bytes: &[u8]) -> usize {
    match bytes {
        &[_, _, _, high, low, ..] => 5 + usize::from(u16::from_be_bytes([high, low])),
        _ => 5,
    }
}

/// Whether a `ClientHello` has a server name.
fn names_a_server(mut hello: &[u8]) -> bool {
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut hello).is_ok()
        && matches!(acceptor.accept(), Ok(Some(accepted)) if accepted.client_hello().server_name().is_some())
}
