//! Plain requests, passed on to their origins.

use std::{io, sync::PoisonError};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{
    Session,
    answers::{ERRNO_RESET, squid},
};
use crate::lab::{
    forward::{self, Target, Unusable},
    http::{self, Answer, Framing, Head, Io},
    origin::last_words,
    quirk::Quirk,
};

/// The longest body of a request.
const MAX_BODY: u64 = 1 << 40;

/// The largest answer that is kept.
const MAX_CACHED: u64 = 1 << 20;

/// How much of an answer is passed on at once.
const LARGE: usize = 256 * 1024;

/// An origin's answer, on its way to the client.
pub(super) struct Passed {
    pub(super) status: u16,
    /// Its head as the client gets it, and what came with it.
    start: Vec<u8>,
    /// Where the rest comes from.
    origin: Option<TcpStream>,
}

impl Session<'_> {
    /// Sends a plain request to its origin, and awaits the answer; or says why there is none.
    pub(super) async fn forward(
        &self,
        client: &mut Box<dyn Io>,
        buffer: &mut Vec<u8>,
        head: &Head,
        target: &Target,
        framing: Framing,
    ) -> Result<Passed, Answer> {
        if let Some(start) = self.cached(head, target) {
            return Ok(Passed { status: 200, start, origin: None });
        }
        let mut origin = self.dial(&target.host, target.port).await?;
        let (status, start) =
            self.converse(client, buffer, head, target, framing, &mut origin).await.map_err(|unusable| {
                let (error, errno) = match unusable {
                    Unusable::Nothing => ("ERR_ZERO_SIZE_OBJECT", 0),
                    Unusable::Invalid => ("ERR_INVALID_RESP", 0),
                    Unusable::Broken => ("ERR_READ_ERROR", ERRNO_RESET),
                };
                squid(502, "Bad Gateway", error, errno).closing()
            })?;
        Ok(Passed { status, start, origin: Some(origin) })
    }

    async fn converse(
        &self,
        client: &mut Box<dyn Io>,
        buffer: &mut Vec<u8>,
        head: &Head,
        target: &Target,
        framing: Framing,
        origin: &mut TcpStream,
    ) -> Result<(u16, Vec<u8>), Unusable> {
        let spec = &self.world.spec.proxy;
        let mut received = Vec::new();
        let broken = |_| Unusable::Broken;
        origin.set_nodelay(true).map_err(broken)?;
        let _ = origin.write_all(&target.request(head, spec)).await;
        if head.waits() && !self.has(Quirk::SwallowsExpect) {
            // Whoever speaks first: the origin, or a client that has lost its patience.
            while buffer.is_empty() {
                tokio::select! {
                    answer = forward::answer(origin, &mut received, spec) => match answer? {
                        (100, start) => {
                            client.write_all(&start).await.map_err(broken)?;
                            client.flush().await.map_err(broken)?;
                            break;
                        }
                        (101..200, _) => {}
                        (status, start) => return Ok((status, [start, received].concat())),
                    },
                    read = client.read_buf(buffer) => if !matches!(read, Ok(1..)) { return Err(Unusable::Broken) },
                }
            }
        }
        let sent = if self.has(Quirk::LosesBodies) {
            pass_body(client, buffer, framing, &mut tokio::io::sink()).await
        } else {
            pass_body(client, buffer, framing, origin).await
        };
        if sent.is_err() {
            // The origin must not wait for what the client does not send; and it may have answered all the same.
            let _ = origin.shutdown().await;
        }
        loop {
            let (status, start) = forward::answer(origin, &mut received, spec).await?;
            if !(100..200).contains(&status) {
                return Ok((status, [start, received].concat()));
            }
        }
    }

    /// Passes the rest of an answer on; the connection ends with it.
    pub(super) async fn pass_on(
        &self,
        mut client: Box<dyn Io>,
        passed: Passed,
        head: &Head,
        target: &Target,
    ) -> io::Result<()> {
        let Passed { mut start, origin, status } = passed;
        let Some(mut origin) = origin else { return last_words(client, &start).await };
        if self.has(Quirk::Caches) && head.method == "GET" && status == 200 {
            (&mut origin).take(MAX_CACHED).read_to_end(&mut start).await?;
            let mut cache = self.world.proxy.cache.lock().unwrap_or_else(PoisonError::into_inner);
            cache.insert(target.key(), start.clone());
        }
        client.write_all(&start).await?;
        tokio::io::copy_buf(&mut BufReader::with_capacity(LARGE, origin), &mut client).await?;
        last_words(client, b"").await
    }

    fn cached(&self, head: &Head, target: &Target) -> Option<Vec<u8>> {
        if !self.has(Quirk::Caches) || head.method != "GET" {
            return None;
        }
        self.world.proxy.cache.lock().unwrap_or_else(PoisonError::into_inner).get(&target.key()).cloned()
    }
}

async fn pass_body(
    client: &mut Box<dyn Io>,
    buffer: &mut Vec<u8>,
    framing: Framing,
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> io::Result<()> {
    match framing {
        Framing::Length(length) => http::pass_body(client, buffer, length, to).await,
        Framing::Chunked => http::pass_chunks(client, buffer, MAX_BODY, true, to).await,
    }
}
