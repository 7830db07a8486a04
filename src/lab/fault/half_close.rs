//! A connection whose end, in whichever direction, is told: most forward proxies end a tunnel altogether when one side
//! half-closes it (squid 5.7, tinyproxy 1.11, privoxy, cntlm).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use crate::lab::http::Io;

/// Tells when the peer half-closes, or this side is to.
pub(in crate::lab) struct Watched {
    io: Box<dyn Io>,
    end: Arc<Notify>,
}

impl Watched {
    /// The connection, and what is notified.
    pub(in crate::lab) fn new(io: Box<dyn Io>) -> (Self, Arc<Notify>) {
        let end = Arc::<Notify>::default();
        (Self { io, end: end.clone() }, end)
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if buf.filled().len() == before {
            self.end.notify_one();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end.notify_one();
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
