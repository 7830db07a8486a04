//! Connections that carry much: what comes is thrown away as early as it can be, and what goes is never made twice.
//!
//! Without TLS the kernel does both (`plain`); with TLS records are decrypted and encrypted in large buffers that are
//! used again (`tls`). Anything else, such as a proxy that speaks TLS, goes the ordinary way. Dropping a future at any
//! point costs the connection and nothing else.

mod pattern;
mod plain;
#[cfg(test)]
mod tests;
mod tls;

use std::{
    fmt, io, mem,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{
    failure,
    handshake::{self, Tls},
    http_io::{Framing, read_head},
    net::Conn,
};
use crate::{
    http::Reply,
    low_water::LowWater,
    model::{Failure, FailureKind, Host, TcpInfo},
};

pub(crate) use super::http_io::Incoming;

/// What bytes come from and go to.
pub(crate) trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Stream for S {}

/// One read or write takes so many bytes at most, where this side has to touch them.
const LARGE: usize = 256 * 1024;

/// Room for what frames chunks; a longer line between them is hostile.
const FRAME: usize = 4096;

/// A connection on which requests are made and payload moves.
#[derive(Debug)]
pub(crate) struct Wire {
    channel: Channel,
    /// The connection below, for what the kernel says of it.
    conn: Conn,
    /// What came behind the last answer.
    rest: Vec<u8>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
enum Channel {
    Plain(Conn, LowWater),
    Layered(Box<dyn Stream>),
    Tls(Box<tls::Session>),
}

impl Wire {
    /// TCP as it is, to the target or through a tunnel.
    pub(super) fn plain(conn: Conn) -> Self {
        Self::new(Channel::Plain(conn.clone(), LowWater::default()), conn)
    }

    /// Any other stream over a connection.
    pub(super) fn layered(stream: Box<dyn Stream>, conn: Conn) -> Self {
        Self::new(Channel::Layered(stream), conn)
    }

    fn new(channel: Channel, conn: Conn) -> Self {
        Self { channel, conn, rest: Vec::new(), buffer: Vec::new() }
    }

    /// Shakes hands with whoever should be `host`, inside what is there.
    pub(super) async fn tls(self, attempt: &mut handshake::Attempt, tls: &Tls, host: &Host) -> Result<Self, Failure> {
        let stream: Box<dyn Stream> = match self.channel {
            Channel::Plain(conn, _) => Box::new(conn),
            Channel::Layered(stream) => stream,
            Channel::Tls(session) => session,
        };
        let session = tls::Session::open(attempt, tls, stream, host).await?;
        Ok(Self::new(Channel::Tls(Box::new(session)), self.conn))
    }

    /// Whether the TLS session continues an earlier one.
    pub(crate) fn is_resumed(&self) -> bool {
        matches!(&self.channel, Channel::Tls(session) if session.is_resumed())
    }

    /// Waits until the server has given what a later handshake needs to resume this session; `false`: it will not.
    pub(crate) async fn tickets(&mut self) -> Result<bool, Failure> {
        match &mut self.channel {
            Channel::Tls(session) => session.tickets().await.map_err(|e| failure::of_io(&e)),
            Channel::Plain(..) | Channel::Layered(_) => Ok(false),
        }
    }

    /// Sends bytes as they stand.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = async {
            self.write_all(bytes).await?;
            self.flush().await
        };
        sent.await.map_err(|e| failure::of_io(&e))
    }

    /// Reads the head of an answer; what follows it stays in the buffer.
    pub(crate) async fn head(&mut self, incoming: &mut Incoming) -> Result<Box<Reply>, Failure> {
        incoming.buffer.append(&mut self.rest);
        read_head(self, incoming).await
    }

    /// Takes the body behind a head and throws it away. With `verify` it must be the payload from that offset on. `moved`
    /// is told how many bytes have come since the last call.
    pub(crate) async fn receive(
        &mut self,
        reply: &Reply,
        incoming: &mut Incoming,
        verify: Option<u64>,
        moved: impl FnMut(u64),
    ) -> Result<(), Failure> {
        let Framing { length, chunked, no_body } = Framing::of(reply);
        let mut body = Body { verify, moved };
        let result = match length {
            _ if no_body => Ok(()),
            _ if chunked => self.take_chunks(&mut incoming.buffer, &mut body).await,
            Some(length) => self.take_exactly(&mut incoming.buffer, length, &mut body).await,
            None => self.take_all(&mut incoming.buffer, &mut body).await,
        };
        self.rest = mem::take(&mut incoming.buffer);
        result
    }

    /// Sends so many bytes of payload, from its beginning. `moved` is told how many have gone since the last call.
    pub(crate) async fn transmit(&mut self, length: u64, mut moved: impl FnMut(u64)) -> Result<(), Failure> {
        if let Channel::Plain(conn, _) = &self.channel {
            return plain::transmit(conn, length, moved).await.map_err(|e| failure::of_io(&e));
        }
        let sent = async {
            let mut at = 0;
            while at < length {
                let bytes = pattern::from(at);
                let n = bytes.len().min(LARGE).min(usize::try_from(length - at).unwrap_or(LARGE));
                let n = self.write(&bytes[..n]).await?;
                at += n as u64;
                moved(n as u64);
            }
            self.flush().await
        };
        sent.await.map_err(|e| failure::of_io(&e))
    }

    /// Ends the connection with RST when it is dropped, so that its source port is free at once.
    pub(crate) fn reset_when_dropped(&self) {
        self.conn.reset_when_dropped();
    }

    /// The kernel's view of the connection now.
    pub(crate) fn tcp_info(&self) -> Option<TcpInfo> {
        self.conn.tcp_info()
    }

    /// Takes so many bytes of a body, those in the buffer first.
    async fn take_exactly<F: FnMut(u64)>(
        &mut self,
        buffer: &mut Vec<u8>,
        length: u64,
        body: &mut Body<F>,
    ) -> Result<(), Failure> {
        let early = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        body.came(&buffer[..early])?;
        buffer.drain(..early);
        let mut left = length - early as u64;
        while left > 0 {
            match self.take_some(left, body).await? {
                0 => return Err(Failure::new(FailureKind::Truncated, format!("closed {left} bytes before the end"))),
                taken => left -= taken,
            }
        }
        Ok(())
    }

    /// Takes whatever comes until the peer ends.
    async fn take_all<F: FnMut(u64)>(&mut self, buffer: &mut Vec<u8>, body: &mut Body<F>) -> Result<(), Failure> {
        body.came(&mem::take(buffer))?;
        while self.take_some(u64::MAX, body).await? > 0 {}
        Ok(())
    }

    /// Takes chunks until the last one (RFC 9112 section 7.1).
    async fn take_chunks<F: FnMut(u64)>(&mut self, buffer: &mut Vec<u8>, body: &mut Body<F>) -> Result<(), Failure> {
        let broken = |what: &str| Failure::new(FailureKind::BadHead, what);
        loop {
            match httparse::parse_chunk_size(buffer) {
                Ok(httparse::Status::Complete((head, size))) => {
                    buffer.drain(..head);
                    if size == 0 {
                        break;
                    }
                    self.take_exactly(buffer, size, body).await?;
                    while buffer.len() < 2 {
                        self.more(buffer).await?;
                    }
                    if !buffer.starts_with(b"\r\n") {
                        return Err(broken("a chunk is longer than it says"));
                    }
                    buffer.drain(..2);
                }
                Ok(httparse::Status::Partial) if buffer.len() < FRAME => self.more(buffer).await?,
                _ => return Err(broken("the size of a chunk is no number")),
            }
        }
        loop {
            // Lines of a trailer, until an empty one.
            match buffer.windows(2).position(|pair| pair == b"\r\n") {
                Some(end) => {
                    buffer.drain(..end + 2);
                    if end == 0 {
                        return Ok(());
                    }
                }
                None if buffer.len() < FRAME => self.more(buffer).await?,
                None => return Err(broken("endless trailer")),
            }
        }
    }

    /// Reads a little more of what frames chunks.
    async fn more(&mut self, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        buffer.reserve(FRAME);
        match self.read_buf(buffer).await.map_err(|e| of_body(&e))? {
            0 => Err(Failure::new(FailureKind::Truncated, "closed between chunks")),
            _ => Ok(()),
        }
    }

    /// Takes what there is of a body, `limit` at most, and says how much it was; 0: the peer has ended.
    async fn take_some<F: FnMut(u64)>(&mut self, limit: u64, body: &mut Body<F>) -> Result<u64, Failure> {
        match &mut self.channel {
            Channel::Plain(conn, low_water) if body.verify.is_none() => {
                let taken = plain::discard(conn, low_water, &mut self.buffer, limit).await.map_err(|e| of_body(&e))?;
                (body.moved)(taken);
                Ok(taken)
            }
            Channel::Tls(session) => {
                let mut same = Ok(());
                let compare = |bytes: &[u8]| {
                    if same.is_ok() {
                        same = body.compare(bytes);
                    }
                };
                let taken = session.hand_out(limit, compare).await.map_err(|e| of_body(&e))?;
                (body.moved)(taken);
                same.map(|()| taken)
            }
            Channel::Plain(..) | Channel::Layered(_) => {
                let mut buffer = mem::take(&mut self.buffer);
                buffer.resize(LARGE, 0);
                let room = LARGE.min(usize::try_from(limit).unwrap_or(LARGE));
                let read = self.read(&mut buffer[..room]).await.map_err(|e| of_body(&e))?;
                self.buffer = buffer;
                body.came(&self.buffer[..read])?;
                Ok(read as u64)
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.channel {
            Channel::Plain(conn, low_water) => {
                low_water.watch_every_byte(Some(conn.socket()));
                Pin::new(conn).poll_read(cx, buf)
            }
            Channel::Layered(stream) => Pin::new(stream).poll_read(cx, buf),
            Channel::Tls(session) => Pin::new(session).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.channel {
            Channel::Plain(conn, _) => Pin::new(conn).poll_write(cx, buf),
            Channel::Layered(stream) => Pin::new(stream).poll_write(cx, buf),
            Channel::Tls(session) => Pin::new(session).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.channel {
            Channel::Plain(conn, _) => Pin::new(conn).poll_flush(cx),
            Channel::Layered(stream) => Pin::new(stream).poll_flush(cx),
            Channel::Tls(session) => Pin::new(session).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.channel {
            Channel::Plain(conn, _) => Pin::new(conn).poll_shutdown(cx),
            Channel::Layered(stream) => Pin::new(stream).poll_shutdown(cx),
            Channel::Tls(session) => Pin::new(session).poll_shutdown(cx),
        }
    }
}

/// A body that is thrown away.
struct Body<F> {
    /// Where in the payload its next byte should stand.
    verify: Option<u64>,
    moved: F,
}

impl<F: FnMut(u64)> Body<F> {
    fn came(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if !bytes.is_empty() {
            (self.moved)(bytes.len() as u64);
        }
        self.compare(bytes)
    }

    fn compare(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let Some(at) = &mut self.verify else { return Ok(()) };
        if let Some(at) = pattern::difference(*at, bytes) {
            return Err(Failure::new(FailureKind::Differs, format!("byte {at} of the blob is not what it should be")));
        }
        *at += bytes.len() as u64;
        Ok(())
    }
}

/// An error inside a body: an end that does not belong there has cut it off.
fn of_body(error: &io::Error) -> Failure {
    let failure = failure::of_io(error);
    if failure.kind == FailureKind::Closed { Failure { kind: FailureKind::Truncated, ..failure } } else { failure }
}
