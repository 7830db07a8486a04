//! TLS over any stream by rustls' unbuffered interface: records are read and made in buffers that stay.

use std::{
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{
    Error as TlsError, HandshakeKind, ProtocolVersion,
    client::UnbufferedClientConnection,
    unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{LARGE, Stream};
use crate::{
    model::{Failure, Host},
    probe::{
        failure,
        handshake::{self, Hello, Tls},
        metered::{Meter, Metered},
    },
};

/// Room for what a handshake needs most of the time, and for the longest record (RFC 8446 section 5.2).
const SMALL: usize = 20 * 1024;

/// What frames the records of one write, and what may have to go before them.
const MARGIN: usize = 4 * 1024;

/// Payload that nobody asked for; a peer that sends more of it while tickets are awaited will give none.
const MAX_UNASKED: usize = 64 * 1024;

/// A TLS session.
pub(super) struct Session {
    tls: UnbufferedClientConnection,
    stream: Box<dyn Stream>,
    /// Records that came.
    incoming: Buffer,
    /// Records that have to go.
    outgoing: Buffer,
    /// Payload that came in a record with what was asked for.
    payload: Buffer,
    /// The peer has said that it sends no more.
    ended: bool,
    /// Counts while the handshake lasts.
    meter: Option<Arc<Meter>>,
}

impl Session {
    /// Shakes hands with whoever should be `host`.
    pub(super) async fn open(
        attempt: &mut handshake::Attempt,
        tls: &Tls,
        stream: Box<dyn Stream>,
        host: &Host,
    ) -> Result<Self, Failure> {
        let (config, name) = attempt.begin(tls, host, Hello::default())?;
        let tls = UnbufferedClientConnection::new(config, name).map_err(|e| failure::of_io(&invalid(e)))?;
        let mut session = Self {
            tls,
            stream,
            incoming: Buffer::default(),
            outgoing: Buffer::default(),
            payload: Buffer::default(),
            ended: false,
            meter: Some(attempt.meter().clone()),
        };
        match poll_fn(|cx| session.poll_handshake(cx)).await {
            Ok(()) => {
                session.meter = None;
                attempt.agreed(&session.tls);
                Ok(session)
            }
            Err(error) => Err(attempt.failed(&error, Metered::new(session.stream, attempt.meter().clone())).await),
        }
    }

    /// Whether it continues an earlier session.
    pub(super) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Waits for a ticket, with which a later handshake can resume this session; `false`: none will come.
    pub(super) async fn tickets(&mut self) -> io::Result<bool> {
        poll_fn(|cx| self.poll_tickets(cx)).await
    }

    /// Hands out payload that has come, `limit` bytes at most, and says how much it was; 0: the peer has ended.
    pub(super) async fn hand_out(&mut self, limit: u64, mut sink: impl FnMut(&[u8])) -> io::Result<u64> {
        let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut sink = |bytes: &[u8]| {
            let n = bytes.len().min(left);
            sink(&bytes[..n]);
            left -= n;
            n
        };
        poll_fn(|cx| self.poll_payload(cx, LARGE, &mut sink)).await.map(|taken| taken as u64)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            self.advance(cx, None, &mut |_| 0)?;
            if !self.tls.is_handshaking() {
                return self.poll_send(cx);
            }
            // The answer can only come when all of it has gone.
            ready!(self.poll_send(cx))?;
            if ready!(self.poll_receive(cx, SMALL))? == 0 {
                return Poll::Ready(Err(unexpected_end()));
            }
        }
    }

    fn poll_tickets(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let came = self.advance(cx, None, &mut |_| 0)?;
            // Sessions of TLS 1.2 can be resumed when the handshake is over.
            if self.tls.tls13_tickets_received() > 0 || self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_2) {
                return Poll::Ready(Ok(true));
            }
            if self.ended || self.payload.filled().len() > MAX_UNASKED {
                return Poll::Ready(Ok(false));
            }
            if came == 0 && ready!(self.poll_receive(cx, SMALL))? == 0 {
                return Poll::Ready(Ok(false));
            }
        }
    }

    /// Hands payload to `sink`, which says how much of it was for it, until it has enough or nothing more is there.
    fn poll_payload(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        sink: &mut impl FnMut(&[u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            if !self.payload.is_empty() {
                let taken = sink(self.payload.filled());
                self.payload.drop_front(taken);
                return Poll::Ready(Ok(taken));
            }
            let taken = self.advance(cx, None, sink)?;
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            // What this side has to say meanwhile must not wait, nor must anything wait for it.
            if let Poll::Ready(sent) = self.poll_send(cx) {
                sent?;
            }
            if ready!(self.poll_receive(cx, room))? == 0 {
                return Poll::Ready(Err(unexpected_end()));
            }
        }
    }

    /// Goes through the records that are there; `sink` gets their payload, and what it does not take is kept, whereupon
    /// this returns. With `text` it ends as soon as that has been encrypted. Says how much the sink took.
    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        mut text: Option<&[u8]>,
        sink: &mut impl FnMut(&[u8]) -> usize,
    ) -> io::Result<usize> {
        let Self { tls, incoming, outgoing, payload, ended, .. } = self;
        let mut taken = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = tls.process_tls_records(incoming.filled_mut());
            let mut more = true;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        let n = if payload.is_empty() { sink(record.payload) } else { 0 };
                        taken += n;
                        if n < record.payload.len() {
                            payload.append(&record.payload[n..]);
                            more = text.is_some();
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    if let Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) =
                        data.encode(outgoing.room(MARGIN)).map(|n| outgoing.grow(n))
                    {
                        let n = data.encode(outgoing.room(required_size)).map_err(io::Error::other)?;
                        outgoing.grow(n);
                    }
                }
                // It is sent before anything is awaited.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    if let Some(text) = text.take() {
                        let n = match traffic.encrypt(text, outgoing.room(text.len() + MARGIN)) {
                            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                                traffic.encrypt(text, outgoing.room(required_size))
                            }
                            done => done,
                        };
                        outgoing.grow(n.map_err(io::Error::other)?);
                    }
                    more = false;
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    *ended = true;
                    more = text.is_some();
                }
                Ok(_) => more = false,
                Err(error) => {
                    incoming.drop_front(discard);
                    self.say_why(cx);
                    return Err(invalid(error));
                }
            }
            incoming.drop_front(discard);
            if !more {
                return if text.is_none() { Ok(taken) } else { Err(io::ErrorKind::BrokenPipe.into()) };
            }
        }
    }

    /// Sends the alert for an error of this session, if the peer takes it at once: nobody waits for that.
    fn say_why(&mut self, cx: &mut Context<'_>) {
        let status = self.tls.process_tls_records(self.incoming.filled_mut());
        if let Ok(ConnectionState::EncodeTlsData(mut alert)) = status.state
            && let Ok(n) = alert.encode(self.outgoing.room(MARGIN))
        {
            self.outgoing.grow(n);
            let _ = self.poll_send(cx);
        }
    }

    /// Sends what has to go.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, self.outgoing.filled()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(meter) = &self.meter {
                meter.wrote(n);
            }
            self.outgoing.drop_front(n);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Reads into a buffer of this size, or of what an unfinished message needs; 0: the peer has ended.
    fn poll_receive(&mut self, cx: &mut Context<'_>, size: usize) -> Poll<io::Result<usize>> {
        let there = self.incoming.filled().len();
        if there >= LARGE {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a TLS message that is never complete",
            )));
        }
        // A message that spans records may be longer than all the room there was for it.
        let size = if there < size { size } else { LARGE };
        let mut room = ReadBuf::new(self.incoming.room(size - there));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let read = room.filled();
        if let Some(meter) = &self.meter {
            meter.saw(read);
        }
        let n = read.len();
        self.incoming.grow(n);
        Poll::Ready(Ok(n))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("stream", &self.stream).field("ended", &self.ended).finish_non_exhaustive()
    }
}

impl AsyncRead for Session {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut sink = |bytes: &[u8]| {
            let n = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..n]);
            n
        };
        self.poll_payload(cx, SMALL, &mut sink).map_ok(drop)
    }
}

impl AsyncWrite for Session {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let text = &buf[..buf.len().min(LARGE)];
        self.advance(cx, Some(text), &mut |_| 0)?;
        // An error shows with the next write, or when this one is flushed.
        let _ = self.poll_send(cx)?;
        Poll::Ready(Ok(text.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn invalid(error: TlsError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The end of the stream where the peer has not said that it ends (RFC 8446 section 6.1).
fn unexpected_end() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "closed inside the TLS session")
}

/// Bytes on their way, in memory that stays.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Room behind what is there, for so many bytes at least.
    fn room(&mut self, at_least: usize) -> &mut [u8] {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.bytes.len() < self.end + at_least {
            self.bytes.resize(self.end + at_least, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// So much of the room has been filled.
    fn grow(&mut self, by: usize) {
        self.end += by;
    }

    fn append(&mut self, bytes: &[u8]) {
        self.room(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.grow(bytes.len());
    }

    fn drop_front(&mut self, n: usize) {
        self.start += n;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }
}
