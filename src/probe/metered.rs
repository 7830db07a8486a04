//! Counts what passes through a stream and keeps its beginning, so that evidence survives the layer that read it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Of what the peer sends first, this much is kept.
pub(super) const KEPT: usize = 4096;

/// What passed through a [`Metered`] stream.
#[derive(Debug, Default)]
pub(super) struct Meter {
    read: AtomicU64,
    written: AtomicU64,
    /// The first bytes, unless they are a TLS record: those are of no use to anyone and kept out of memory.
    first: Mutex<Vec<u8>>,
}

impl Meter {
    pub(super) fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// The first bytes read, when they are no TLS record.
    pub(super) fn first_bytes(&self) -> Vec<u8> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if looks_like_tls(&first) { Vec::new() } else { first.clone() }
    }

    /// So many bytes were written.
    pub(super) fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Relaxed);
    }

    /// These bytes were read.
    pub(super) fn saw(&self, bytes: &[u8]) {
        let before = self.read.fetch_add(bytes.len() as u64, Relaxed);
        if before >= KEPT as u64 {
            return;
        }
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if before > 0 && looks_like_tls(&first) {
            return;
        }
        let room = KEPT - first.len();
        let keep = bytes.len().min(if first.is_empty() && looks_like_tls(bytes) { 5 } else { room });
        first.extend_from_slice(&bytes[..keep]);
    }
}

/// Whether bytes begin as a TLS record does: a content type from 20 to 24 and major version 3 (RFC 8446 section 5.1).
pub(super) fn looks_like_tls(bytes: &[u8]) -> bool {
    match bytes {
        [] => false,
        [kind] => (20..=24).contains(kind),
        [kind, major, ..] => (20..=24).contains(kind) && *major == 3,
    }
}

/// A stream that is counted.
#[derive(Debug)]
pub(super) struct Metered<S> {
    inner: S,
    meter: Arc<Meter>,
}

impl<S> Metered<S> {
    pub(super) fn new(inner: S, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        self.meter.saw(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.meter.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
