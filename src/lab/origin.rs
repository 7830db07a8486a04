//! Storage, on its three ports, and whoever stands in front of it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    bulk::{self, Bulk},
    fault::{
        conn::{Breaker, mute},
        proto::{Http, Tls},
        stream::Disturbance,
    },
    http::{self, Answer, Framing, Head, Io, pass_chunks, read_head},
    log::Event,
    pace::Paced,
    session::{self, Greeted},
    spec::Fault,
    world::{Door, World, covered},
};

/// Most requests are shorter, and are read at once.
const COMMON: usize = 4096;

/// The one port without TLS.
const HTTP_PORT: u16 = 80;

/// Serves one connection.
pub(super) async fn serve(world: Arc<World>, door: Door, stream: TcpStream, peer: SocketAddr) {
    world.log.add(Event::Connection { address: door.address, peer, by_proxy: door.by_proxy });
    let faults = world.origin_faults(door);
    let stream = match faults.iter().find_map(|fault| fault.conn) {
        None => stream,
        Some(conn) => match conn.inflict(stream).await {
            Some(stream) => stream,
            None => return,
        },
    };
    let Ok(link) = Link::new(&world, stream, &faults) else { return };
    let connection = Connection { world: &world, door, peer, faults: &faults, breaker: link.breaker };
    // An error is the client's leaving; there is nobody to tell.
    let _ = if door.address.port() == HTTP_PORT {
        connection.http(link.io, None).await
    } else {
        connection.tls(link.io).await
    };
}

/// A connection with the byte-stream fault in place.
struct Link {
    io: Box<dyn Bulk>,
    breaker: Breaker,
}

impl Link {
    fn new(world: &World, stream: TcpStream, faults: &[&Fault]) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let breaker = Breaker::of(&stream)?;
        let Disturbance { paces, placed } = world.disturbance(faults.iter().copied());
        let stream = Paced::new(stream, paces, world.stall.clone());
        let io: Box<dyn Bulk> = match placed {
            Some(placed) => Box::new(placed.apply(Box::new(stream), breaker.again()?)),
            None => Box::new(stream),
        };
        Ok(Self { io, breaker })
    }
}

/// Answers as storage inside a TLS session that somebody else holds.
pub(super) async fn serve_inside(world: &World, door: Door, peer: SocketAddr, io: impl Bulk, breaker: Breaker) {
    let connection = Connection { world, door, peer, faults: &world.origin_faults(door), breaker };
    // As above.
    let _ = connection.http(io, None).await;
}

struct Connection<'w> {
    world: &'w World,
    door: Door,
    peer: SocketAddr,
    faults: &'w [&'w Fault],
    breaker: Breaker,
}

impl Connection<'_> {
    async fn tls(&self, io: Box<dyn Bulk>) -> io::Result<()> {
        let greeted = session::greet(io).await?;
        let sni = greeted.sni.clone();
        self.world.log.add(Event::Hello { address: self.door.address, sni: sni.clone(), by_proxy: self.door.by_proxy });
        let fault =
            self.faults.iter().filter(|fault| covered(fault, &[sni.as_deref()])).find_map(|fault| fault.tls.as_ref());
        match fault {
            None => self.handshake(greeted, self.world.tls.healthy.clone(), sni).await,
            Some(Tls::Certificate(chain)) => self.handshake(greeted, self.world.tls.chain(*chain), sni).await,
            Some(Tls::ClientCertificate) => {
                self.handshake(greeted, self.world.tls.client_certificate.clone(), sni).await
            }
            Some(Tls::Reset) => {
                self.breaker.arm();
                Ok(())
            }
            Some(Tls::Mute) => {
                mute(greeted.io).await;
                Ok(())
            }
            Some(Tls::Close) => last_words(greeted.io, b"").await,
            Some(Tls::Alert(number)) => last_words(greeted.io, &alert(*number)).await,
            Some(Tls::Plaintext(text)) => last_words(greeted.io, text.as_bytes()).await,
            // A handshake record whose content is no handshake message.
            Some(Tls::Garbage) => last_words(greeted.io, b"\x16\x03\x03\x00\x08\xff\xff\xff\xff\xff\xff\xff\xff").await,
        }
    }

    async fn handshake(
        &self,
        greeted: Greeted<Box<dyn Bulk>>,
        config: Arc<ServerConfig>,
        sni: Option<String>,
    ) -> io::Result<()> {
        self.http(greeted.accept(config).await?, sni).await
    }

    async fn http(&self, mut io: impl Bulk, sni: Option<String>) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(COMMON);
        while let Some(head) = read_head(&mut io, &mut buffer).await? {
            self.world.log.add(Event::Request {
                method: head.method.clone(),
                path: head.path().to_owned(),
                host: head.header("host").map(str::to_owned),
                address: self.door.address,
                peer: self.peer,
                sni: sni.clone(),
                by_proxy: self.door.by_proxy,
            });
            let hosts = [sni.as_deref(), head.host()];
            let fault = self.faults.iter().filter(|fault| covered(fault, &hosts)).find_map(|fault| fault.http.as_ref());
            self.world.stall(self.door, &hosts);
            take_body(&mut io, &mut buffer, &head, fault).await?;
            let skew = self.world.spec.date_skew;
            let answer = match fault {
                // The stall holds the bytes of the answer.
                None | Some(Http::Stall(_)) => http::healthy(&head, skew),
                Some(Http::Storage(error)) => http::storage_error(*error, skew),
                Some(Http::Page(page)) => http::page(*page),
                Some(Http::Reply(reply)) => http::custom(reply),
                Some(Http::Slow(by)) => {
                    sleep(*by).await;
                    http::healthy(&head, skew)
                }
                Some(Http::Bytes(text)) => return last_words(io, text.as_bytes()).await,
                Some(Http::Close) => return last_words(io, b"").await,
                Some(Http::Mute) => {
                    mute(io).await;
                    return Ok(());
                }
                Some(Http::Reset) => {
                    self.breaker.arm();
                    return Ok(());
                }
            };
            let close = answer.close || head.wants_close();
            Answer { close, ..answer }.write_with_blob(&mut io, &head.method).await?;
            if close {
                break;
            }
        }
        last_words(io, b"").await
    }
}

/// Takes the body that follows a head, of which a part is in `buffer` already, and throws it away.
async fn take_body(io: &mut impl Bulk, buffer: &mut Vec<u8>, head: &Head, fault: Option<&Http>) -> io::Result<()> {
    let answers = !matches!(fault, Some(Http::Bytes(_) | Http::Close | Http::Mute | Http::Reset));
    if head.waits() && buffer.is_empty() {
        if !answers {
            return Ok(());
        }
        io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        io.flush().await?;
    }
    match head.framing() {
        Ok(Framing::Length(length)) => bulk::discard(io, buffer, length).await,
        Ok(Framing::Chunked) => pass_chunks(io, buffer, u64::MAX, false, &mut tokio::io::sink()).await,
        // Nobody can say where the next request begins.
        Err(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// How long a peer may take to end its side after this side has ended.
const LINGER: Duration = Duration::from_secs(30);

/// Writes, ends this side in order, and reads until the peer ends too: a close with unread data would be a RST.
pub(super) async fn last_words(mut io: impl Io, words: &[u8]) -> io::Result<()> {
    io.write_all(words).await?;
    io.shutdown().await?;
    let _ = timeout(LINGER, mute(io)).await;
    Ok(())
}

/// A fatal alert in a record of its own (RFC 8446 section 6).
pub(super) fn alert(number: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, number]
}
