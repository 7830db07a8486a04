//! The origin's TLS sessions. Records are made and read in large batches, and nothing that is thrown away is copied:
//! rustls' buffered API, which most servers use, reads 4 KiB at a time and is the bottleneck of an upload.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{
    ServerConfig,
    server::{Acceptor, ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{bulk::Bulk, http::Io};

/// What a record adds to its content at most (RFC 8446 section 5.2: 256 bytes; RFC 5246 section 6.2.3 for TLS 1.2).
const MAX_OVERHEAD: usize = 512;

/// The largest content of a record (RFC 8446 section 5.1).
const MAX_CONTENT: usize = 16 * 1024;

/// How much is encrypted at once; what is small stays in the processor's cache until the kernel has copied it.
const BATCH: usize = 8 * MAX_CONTENT;

/// Room for what is read at once: small at first, as most sessions carry little.
const LITTLE: usize = 2 * (MAX_CONTENT + MAX_OVERHEAD);
const LARGE: usize = 16 * (MAX_CONTENT + MAX_OVERHEAD);

/// No `ClientHello` is longer, in however many records it comes.
const MAX_HELLO: usize = 64 * 1024;

/// A connection whose `ClientHello` was read.
pub(super) struct Greeted<T> {
    pub(super) io: T,
    /// The server name in it.
    pub(super) sni: Option<String>,
    /// The bytes so far.
    hello: Vec<u8>,
}

/// Reads a `ClientHello`. Where something else comes the client is told by an alert, as rustls does.
pub(super) async fn greet<T: Io>(mut io: T) -> io::Result<Greeted<T>> {
    let (mut acceptor, mut hello) = (Acceptor::default(), Vec::with_capacity(LITTLE));
    loop {
        let before = hello.len();
        if io.read_buf(&mut hello).await? == 0 || hello.len() > MAX_HELLO {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut unread = &hello[before..];
        while !unread.is_empty() && acceptor.read_tls(&mut unread)? > 0 {}
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let sni = accepted.client_hello().server_name().map(str::to_owned);
                return Ok(Greeted { io, sni, hello });
            }
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                alert.write_all(&mut bytes)?;
                io.write_all(&bytes).await?;
                io.shutdown().await?;
                return Err(invalid(error));
            }
        }
    }
}

impl<T: Io> Greeted<T> {
    /// Shakes hands.
    pub(super) async fn accept(self, config: Arc<ServerConfig>) -> io::Result<Session<T>> {
        let mut incoming = self.hello;
        let end = incoming.len();
        incoming.resize(LITTLE.max(2 * end), 0);
        let mut session = Session {
            io: self.io,
            tls: UnbufferedServerConnection::new(config).map_err(invalid)?,
            incoming,
            start: 0,
            end,
            unread: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            encrypted: 0,
            ended: false,
            closing: false,
        };
        std::future::poll_fn(|cx| session.poll_handshake(cx)).await?;
        Ok(session)
    }
}

/// A TLS session, as the server has it.
pub(super) struct Session<T> {
    io: T,
    tls: UnbufferedServerConnection,
    /// Records as they came: those from `start` to `end` are still to be read.
    incoming: Vec<u8>,
    start: usize,
    end: usize,
    /// Content that nobody has asked for yet.
    unread: Vec<u8>,
    /// Room for records to be sent: those from `sent` to `encrypted` are there.
    outgoing: Vec<u8>,
    sent: usize,
    encrypted: usize,
    /// The client has ended its side in order.
    ended: bool,
    /// This side has ended, too.
    closing: bool,
}

/// How far the records at hand lead.
enum Progress {
    /// There was content.
    Content,
    /// Nothing more is to be had from them, and content may be sent.
    Ready,
    /// More records are needed.
    Blocked,
}

impl<T: Io> Session<T> {
    /// Reads the records at hand, and gives `take` what is in one of them.
    fn advance(&mut self, mut take: impl FnMut(&[u8])) -> io::Result<Progress> {
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(&mut self.incoming[self.start..self.end]);
            let progress = match state {
                Err(error) => {
                    self.start += discard;
                    self.queue_alert();
                    return Err(invalid(error));
                }
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        take(record.payload);
                    }
                    Some(Progress::Content)
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, &mut self.outgoing, &mut self.encrypted)?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    None
                }
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::Closed) => Some(Progress::Ready),
                Ok(ConnectionState::BlockedHandshake) => Some(Progress::Blocked),
                // Early data, which no configuration allows.
                Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            };
            self.start += discard;
            if self.start == self.end {
                (self.start, self.end) = (0, 0);
            }
            if let Some(progress) = progress {
                return Ok(progress);
            }
        }
    }

    /// What rustls says to a client whose records are wrong. That they are is known already.
    fn queue_alert(&mut self) {
        let records = self.start..self.end;
        while let Ok(ConnectionState::EncodeTlsData(data)) =
            self.tls.process_tls_records(&mut self.incoming[records.clone()]).state
        {
            if encode(data, &mut self.outgoing, &mut self.encrypted).is_err() {
                return;
            }
        }
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut unread = std::mem::take(&mut self.unread);
            let progress = self.advance(|content| unread.extend_from_slice(content));
            self.unread = unread;
            // An alert goes out, too.
            ready!(self.poll_drain(cx))?;
            match progress? {
                Progress::Blocked => {
                    if ready!(self.poll_fill(cx))? == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
                Progress::Ready => return Poll::Ready(Ok(())),
                Progress::Content => {}
            }
        }
    }

    /// Gives `take` some content, at most `room` bytes; how many, 0 at the end. One piece, or as many as are at hand.
    fn poll_content(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut taken = room.min(self.unread.len());
        if taken > 0 {
            take(&self.unread[..taken]);
            self.unread.drain(..taken);
        }
        while taken < room {
            let mut unread = std::mem::take(&mut self.unread);
            let progress = self.advance(|content| {
                let (now, later) = content.split_at(content.len().min(room - taken));
                take(now);
                taken += now.len();
                unread.extend_from_slice(later);
            });
            self.unread = unread;
            match progress {
                Ok(Progress::Content) => {}
                Ok(_) if taken > 0 || self.ended => break,
                Ok(_) => {
                    // Tickets and answers to key updates; whether they are gone does not matter here.
                    let _ = self.poll_drain(cx)?;
                    if ready!(self.poll_fill(cx))? == 0 {
                        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                }
                Err(error) => {
                    let _ = self.poll_drain(cx)?;
                    return Poll::Ready(Err(error));
                }
            }
        }
        Poll::Ready(Ok(taken))
    }

    /// Reads records; how many bytes.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.start > 0 {
            // The beginning of a record.
            self.incoming.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let mut room = ReadBuf::new(&mut self.incoming[self.end..]);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
        let read = room.filled().len();
        self.end += read;
        if self.end == self.incoming.len() && self.end < LARGE {
            self.incoming.resize(LARGE, 0);
        }
        Poll::Ready(Ok(read))
    }

    /// Sends what is encrypted.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.encrypted {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.outgoing[self.sent..self.encrypted]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        (self.sent, self.encrypted) = (0, 0);
        Poll::Ready(Ok(()))
    }

    /// Has rustls encrypt something behind what is there already.
    fn encrypt(
        &mut self,
        room: usize,
        encrypt: impl FnOnce(&mut WriteTraffic<'_, ServerConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        let mut unread = std::mem::take(&mut self.unread);
        while let Progress::Content = self.advance(|content| unread.extend_from_slice(content))? {}
        self.unread = unread;
        if self.outgoing.len() < self.encrypted + room {
            self.outgoing.resize(self.encrypted + room, 0);
        }
        let status = self.tls.process_tls_records(&mut self.incoming[self.start..self.end]);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        self.encrypted += encrypt(&mut traffic, &mut self.outgoing[self.encrypted..]).map_err(io::Error::other)?;
        Ok(())
    }
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>, encrypted: &mut usize) -> io::Result<()> {
    let encoded = match data.encode(&mut outgoing[*encrypted..]) {
        Err(EncodeError::InsufficientSize(wanted)) => {
            outgoing.resize(*encrypted + wanted.required_size, 0);
            data.encode(&mut outgoing[*encrypted..])
        }
        encoded => encoded,
    };
    *encrypted += encoded.map_err(io::Error::other)?;
    Ok(())
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<T: Io> AsyncRead for Session<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        self.poll_content(cx, room, |content| buf.put_slice(content)).map_ok(|_| ())
    }
}

impl<T: Io> AsyncWrite for Session<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        let now = &bytes[..bytes.len().min(BATCH)];
        let room = now.len() + (now.len() / MAX_CONTENT + 1) * MAX_OVERHEAD;
        self.encrypt(room, |traffic, to| traffic.encrypt(now, to))?;
        // What the connection does not take now goes before whatever follows.
        let _ = self.poll_drain(cx)?;
        Poll::Ready(Ok(now.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        if !self.closing {
            self.closing = true;
            #[expect(clippy::redundant_closure_for_method_calls, reason = "the method has a lifetime too many")]
            self.encrypt(MAX_OVERHEAD, |traffic, to| traffic.queue_close_notify(to))?;
            ready!(self.poll_drain(cx))?;
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<T: Io> Bulk for Session<T> {
    fn poll_discard(&mut self, cx: &mut Context<'_>, nowhere: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        self.poll_content(cx, nowhere.len(), |_| ())
    }
}
