//! CONNECT through a proxy (RFC 9110 section 9.3.6).

use std::{
    io,
    mem::take,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use base64::Engine as _;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::{
    failure,
    http_io::{Incoming, read_body, read_head},
    metered::KEPT,
    recorder::{Slot, micros},
};
use crate::{
    http::Reply,
    model::{Evidence, Excerpt, Failure, FailureKind, TcpInfo, TunnelEvidence},
    plan::Credentials,
};

/// Evidence of a tunnel in the making.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    evidence: TunnelEvidence,
    incoming: Incoming,
}

impl Attempt {
    pub(super) fn new(authority: String, budget: Duration) -> Self {
        let evidence = TunnelEvidence { authority, ..TunnelEvidence::default() };
        Self { evidence, incoming: Incoming::within(budget) }
    }
}

impl Slot for Attempt {
    fn ended(&self, by: Failure) -> Option<Failure> {
        Some(self.evidence.reply.as_ref().map_or(by, refusal))
    }

    fn finish(&mut self, _: Option<&Failure>, tcp: Option<TcpInfo>) -> Evidence {
        self.evidence.bytes_read = self.incoming.total;
        self.evidence.interim = self.incoming.interim;
        self.evidence.first_byte_us = self.incoming.first_byte.map(micros);
        if self.evidence.reply.is_none() {
            self.evidence.first_bytes = self.incoming.excerpt();
        }
        self.evidence.tcp = tcp;
        Evidence::Tunnel(Box::new(take(&mut self.evidence)))
    }
}

/// Asks the proxy for a tunnel. `along` is sent into it at once, in one piece with the request. Bytes that follow the head
/// of the answer are handed on intact.
pub(super) async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    attempt: &mut Attempt,
    stream: S,
    credentials: Option<&Credentials>,
    along: &[u8],
) -> Result<Prefixed<S>, Failure> {
    let mut request = request(&attempt.evidence.authority, credentials).into_bytes();
    request.extend_from_slice(along);
    attempt.evidence.credentials_sent = credentials.is_some();
    attempt.evidence.sent_along = along.len() as u64;
    ask(attempt, stream, &request, !along.is_empty()).await
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    attempt: &mut Attempt,
    mut stream: S,
    request: &[u8],
    speaks_first: bool,
) -> Result<Prefixed<S>, Failure> {
    stream.write_all(request).await.map_err(|e| failure::of_io(&e))?;
    stream.flush().await.map_err(|e| failure::of_io(&e))?;
    attempt.evidence.request_sent = true;
    let reply = read_head(&mut stream, &mut attempt.incoming).await?;
    if reply.is_success() {
        // A 2xx answer to CONNECT has no body, whatever its headers say (RFC 9110 section 9.3.6).
        let mut prefix = take(&mut attempt.incoming.buffer);
        // Most tunnels begin with nothing, and thousands may be held.
        prefix.shrink_to_fit();
        if !prefix.is_empty() && !speaks_first {
            attempt.evidence.early = Some(Excerpt::new(&prefix, KEPT, prefix.len() as u64));
        }
        attempt.evidence.reply = Some(*reply);
        return Ok(Prefixed { prefix, at: 0, inner: stream });
    }
    // The head is kept before the body is read: a body that drips must not cost the answer.
    let reply = attempt.evidence.reply.insert(*reply);
    read_body(&mut stream, &mut attempt.incoming, reply).await;
    Err(refusal(reply))
}

#[cfg(feature = "conformance")]
/// Sends a head as it stands, with credentials behind it, and reads what should be the answer to a CONNECT.
pub(super) async fn written<S: AsyncRead + AsyncWrite + Unpin>(
    attempt: &mut Attempt,
    stream: S,
    credentials: Option<&Credentials>,
    head: &str,
) -> Result<Prefixed<S>, Failure> {
    attempt.evidence.credentials_sent = credentials.is_some();
    let request = format!("{head}{}\r\n", credentials.map(login).unwrap_or_default());
    ask(attempt, stream, request.as_bytes(), false).await
}

#[cfg(feature = "conformance")]
/// Sends bytes as they stand and reads what should be the answer to a CONNECT.
pub(super) async fn raw<S: AsyncRead + AsyncWrite + Unpin>(
    attempt: &mut Attempt,
    stream: S,
    bytes: &[u8],
) -> Result<Prefixed<S>, Failure> {
    ask(attempt, stream, bytes, false).await
}

/// A complete answer that does not open the tunnel.
fn refusal(reply: &Reply) -> Failure {
    Failure::new(FailureKind::Status, reply.status_line())
}

/// The request in the one form that every proxy known accepts: upper-case method, HTTP/1.1, Host equal to the target.
fn request(authority: &str, credentials: Option<&Credentials>) -> String {
    let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
    request.extend(credentials.map(login));
    request.push_str(concat!("User-Agent: snapreach/", env!("CARGO_PKG_VERSION"), "\r\n\r\n"));
    request
}

/// The header line of a login (RFC 7617).
pub(crate) fn login(Credentials { user, password }: &Credentials) -> String {
    let token = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", password.expose()));
    format!("Proxy-Authorization: Basic {token}\r\n")
}

/// A stream whose first bytes were already read.
#[derive(Debug)]
pub(super) struct Prefixed<S> {
    prefix: Vec<u8>,
    at: usize,
    inner: S,
}

#[cfg(feature = "bench")]
impl<S> Prefixed<S> {
    /// The stream itself, if nothing was read of it too early.
    pub(super) fn into_inner(self) -> Result<S, Self> {
        if self.at == self.prefix.len() { Ok(self.inner) } else { Err(self) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.at < self.prefix.len() {
            let end = self.prefix.len().min(self.at + buf.remaining());
            buf.put_slice(&self.prefix[self.at..end]);
            self.at = end;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::model::Secret;

    #[tokio::test]
    async fn bytes_after_the_head_are_handed_on_intact() {
        let (near, mut far) = tokio::io::duplex(1024);
        far.write_all(b"HTTP/1.0 200 OK\r\n\r\nearly").await.unwrap();
        let mut attempt = Attempt::new("h:443".into(), Duration::from_secs(1));
        let mut stream = tunnel(&mut attempt, near, None, &[]).await.unwrap();
        far.write_all(b" late").await.unwrap();
        let mut bytes = [0; 10];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"early late");
        let Evidence::Tunnel(evidence) = attempt.finish(None, None) else { unreachable!() };
        assert_eq!(evidence.early.unwrap().text, "early");
    }

    #[test]
    fn the_request_is_in_the_form_that_every_proxy_accepts() {
        let credentials = Credentials { user: "svc".into(), password: Secret::new("pw") };
        let request = request("h:8443", Some(&credentials));
        assert!(
            request.starts_with("CONNECT h:8443 HTTP/1.1\r\nHost: h:8443\r\nProxy-Authorization: Basic c3ZjOnB3\r\n")
        );
        assert!(request.ends_with("\r\n\r\n"));
    }
}
