//! A connection on which requests are made and data moves.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) use super::http_io::Incoming;
use super::{
    failure,
    handshake::{self, Hello, Tls},
    http_io::read_head,
    net::Conn,
};
use crate::{
    http::Reply,
    model::{Failure, FailureKind, Host, TcpInfo},
};

/// A stream of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    conn: Option<Conn>,
}

impl Wire {
    /// Over TCP.
    pub(crate) fn plain(conn: Conn) -> Self {
        Self { stream: Box::new(conn.clone()), conn: Some(conn) }
    }

    /// Over anything else.
    pub(crate) fn layered(stream: Box<dyn Stream>) -> Self {
        Self { stream, conn: None }
    }

    /// TLS inside.
    pub(crate) async fn tls(
        self,
        attempt: &mut handshake::Attempt,
        tls: &Arc<Tls>,
        host: &Host,
    ) -> Result<Self, Failure> {
        let stream = handshake::handshake(attempt, tls, self.stream, host, Hello::default()).await?;
        Ok(Self { stream: Box::new(stream), conn: self.conn })
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).await.map_err(|e| failure::of_io(&e))?;
        self.stream.flush().await.map_err(|e| failure::of_io(&e))
    }

    /// Reads the head of an answer.
    pub(crate) async fn head(&mut self, incoming: &mut Incoming) -> Result<Box<Reply>, Failure> {
        read_head(&mut self.stream, incoming).await
    }

    /// Takes the body.
    pub(crate) async fn receive(
        &mut self,
        reply: &Reply,
        incoming: &mut Incoming,
        _: Option<u64>,
        moved: impl Fn(u64),
    ) -> Result<(), Failure> {
        let length: u64 = reply.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        let mut left = length - incoming.buffer.len() as u64;
        moved(incoming.buffer.len() as u64);
        let mut buffer = vec![0; 256 * 1024];
        while left > 0 {
            match self.stream.read(&mut buffer).await.map_err(|e| failure::of_io(&e))? {
                0 => return Err(Failure::new(FailureKind::Truncated, "closed inside the body")),
                n => {
                    left -= n as u64;
                    moved(n as u64);
                }
            }
        }
        Ok(())
    }

    /// Sends payload.
    pub(crate) async fn transmit(&mut self, length: u64, moved: impl Fn(u64)) -> Result<(), Failure> {
        let buffer = vec![7; 256 * 1024];
        let mut left = length;
        while left > 0 {
            let n =
                self.stream.write(&buffer[..buffer.len().min(left as usize)]).await.map_err(|e| failure::of_io(&e))?;
            left -= n as u64;
            moved(n as u64);
        }
        Ok(())
    }

    /// Reads until the tickets came.
    pub(crate) async fn tickets(&mut self) {}

    /// What the kernel says.
    pub(crate) fn tcp_info(&self) -> Option<TcpInfo> {
        self.conn.as_ref().and_then(Conn::tcp_info)
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}
