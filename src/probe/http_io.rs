//! Reads one HTTP/1 answer from any stream, bounded in bytes and time.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{Instant, timeout_at},
};

use super::{failure, metered::KEPT};
use crate::{
    http::{ParseError, Parsed, Reply, parse_head},
    model::{Alert, Excerpt, Failure, FailureKind},
};

/// Interim (1xx) answers beyond this number are hostile.
const MAX_INTERIM: u8 = 8;

/// A body is evidence, not payload: it gets this long after its head.
const BODY_PATIENCE: Duration = Duration::from_secs(1);

/// What is no HTTP is kept as evidence: so much of it, waiting so long for the rest of a first piece.
const ODD_BYTES: usize = 64;
const ODD_PATIENCE: Duration = Duration::from_millis(200);

const CHUNK: usize = 4096;

/// Bytes read so far and what they became; lives outside the timed future.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    /// Bytes not consumed yet: a partial head, then what follows a head.
    pub(crate) buffer: Vec<u8>,
    /// Bytes received in all.
    pub(crate) total: u64,
    /// Interim answers skipped.
    pub(crate) interim: u8,
    /// From the end of the request to the first byte.
    pub(crate) first_byte: Option<Duration>,
    /// A TLS alert that came instead.
    pub(crate) alert: Option<Alert>,
    /// The end of the layer's budget: a body must not use it up, or the answer would pass for silence.
    until: Option<Instant>,
}

impl Incoming {
    /// For an answer within a layer of this budget.
    pub(crate) fn within(budget: Duration) -> Self {
        Self { until: Instant::now().checked_add(budget), ..Self::default() }
    }

    /// What came, when it is no head.
    pub(crate) fn excerpt(&self) -> Option<Excerpt> {
        (!self.buffer.is_empty()).then(|| Excerpt::new(&self.buffer, KEPT, self.total))
    }
}

/// Reads until a final head is complete; what follows it stays in the buffer.
pub(super) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    incoming: &mut Incoming,
) -> Result<Box<Reply>, Failure> {
    let sent = Instant::now();
    let mut scanned = 0;
    loop {
        if incoming.buffer.len() > scanned {
            let parsed = parse_head(&incoming.buffer, scanned);
            if parsed == Err(ParseError::NotHttp) {
                read_odd(stream, incoming).await;
            }
            match parsed.map_err(failure::of_head)? {
                Parsed::Complete(reply, length) if (100..200).contains(&reply.status) && reply.status != 101 => {
                    incoming.interim += 1;
                    if incoming.interim > MAX_INTERIM {
                        return Err(Failure::new(FailureKind::BadHead, "endless interim answers"));
                    }
                    incoming.buffer.drain(..length);
                    scanned = 0;
                    continue;
                }
                Parsed::Complete(reply, length) => {
                    incoming.buffer.drain(..length);
                    return Ok(reply);
                }
                Parsed::Partial => scanned = incoming.buffer.len(),
            }
        }
        incoming.buffer.reserve(CHUNK.min(incoming.buffer.len().max(1024)));
        let read = match stream.read_buf(&mut incoming.buffer).await {
            Ok(read) => read,
            Err(error) => {
                incoming.alert = failure::alert(&error);
                return Err(failure::of_io(&error));
            }
        };
        if read == 0 {
            return Err(if incoming.buffer.is_empty() {
                Failure::new(FailureKind::Closed, "closed without an answer")
            } else {
                Failure::new(FailureKind::Truncated, "closed inside the head of the answer")
            });
        }
        incoming.total += read as u64;
        incoming.first_byte.get_or_insert_with(|| sent.elapsed());
    }
}

/// Reads on for a moment after bytes that are no HTTP: one byte of a TLS alert or a greeting tells nobody anything.
async fn read_odd(stream: &mut (impl AsyncRead + Unpin), incoming: &mut Incoming) {
    let patience = Instant::now() + ODD_PATIENCE;
    let end = incoming.until.map_or(patience, |until| until.min(patience));
    while incoming.buffer.len() < ODD_BYTES
        && let Ok(Ok(read @ 1..)) = timeout_at(end, stream.read_buf(&mut incoming.buffer)).await
    {
        incoming.total += read as u64;
    }
}

/// Reads the beginning of the body into `reply.body`, which at any moment holds what has come: nothing that happens here
/// is a failure, and running out of time is none either. The head is the answer.
pub(super) async fn read_body(stream: &mut (impl AsyncRead + Unpin), incoming: &mut Incoming, reply: &mut Reply) {
    let Framing { length, chunked, no_body } = Framing::of(reply);
    let patience = Instant::now() + BODY_PATIENCE;
    let end = incoming.until.map_or(patience, |until| until.min(patience));
    loop {
        let body = decode(&incoming.buffer, chunked, length, no_body);
        let kept = Excerpt::new(&body.bytes, KEPT, body.bytes.len() as u64);
        let more = length.is_some_and(|length| length > kept.total_bytes) || (chunked && !body.complete);
        reply.body = Excerpt { truncated: kept.truncated || more, ..kept };
        if body.complete || body.bytes.len() >= KEPT || incoming.buffer.len() >= 4 * KEPT {
            return;
        }
        incoming.buffer.reserve(CHUNK);
        match timeout_at(end, stream.read_buf(&mut incoming.buffer)).await {
            Ok(Ok(read @ 1..)) => incoming.total += read as u64,
            _ => return,
        }
    }
}

/// Reads the whole body, without transfer coding; `None`: it is longer than `limit`.
pub(super) async fn read_whole(
    stream: &mut (impl AsyncRead + Unpin),
    incoming: &mut Incoming,
    reply: &Reply,
    limit: usize,
) -> Result<Option<Vec<u8>>, Failure> {
    let Framing { length, chunked, no_body } = Framing::of(reply);
    if !chunked && length.is_some_and(|length| length > limit as u64) {
        return Ok(None);
    }
    loop {
        let raw = &incoming.buffer;
        // The end of a chunked body ends so, and a chunk may too.
        let worth_a_look = match length {
            _ if chunked => raw.ends_with(b"\r\n\r\n"),
            Some(length) => raw.len() as u64 >= length,
            None => no_body,
        };
        if worth_a_look && let Body { bytes, complete: true } = decode(raw, chunked, length, no_body) {
            return Ok(Some(bytes));
        }
        // What the framing of chunks adds is no body, but nobody needs as much of it.
        if raw.len() > limit {
            return Ok(None);
        }
        incoming.buffer.reserve(CHUNK);
        match stream.read_buf(&mut incoming.buffer).await.map_err(|e| failure::of_io(&e))? {
            0 => break,
            read => incoming.total += read as u64,
        }
    }
    let Body { bytes, complete } = decode(&incoming.buffer, chunked, length, no_body);
    // Without a length the end of the connection is the end of the body.
    if complete || !chunked && length.is_none() {
        return Ok(Some(bytes));
    }
    Err(Failure::new(FailureKind::Truncated, "closed inside the body of the answer"))
}

/// How the end of a body shows (RFC 9112 section 6.3).
pub(super) struct Framing {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) no_body: bool,
}

impl Framing {
    pub(super) fn of(reply: &Reply) -> Self {
        Self {
            length: reply.header("Content-Length").and_then(|value| value.parse().ok()),
            chunked: reply
                .headers_named("Transfer-Encoding")
                .any(|value| value.to_ascii_lowercase().contains("chunked")),
            no_body: matches!(reply.status, 204 | 304),
        }
    }
}

struct Body {
    bytes: Vec<u8>,
    complete: bool,
}

fn decode(raw: &[u8], chunked: bool, length: Option<u64>, no_body: bool) -> Body {
    if no_body {
        return Body { bytes: Vec::new(), complete: true };
    }
    if !chunked {
        let wanted = length.map_or(usize::MAX, |length| usize::try_from(length).unwrap_or(usize::MAX));
        let bytes = raw[..raw.len().min(wanted)].to_vec();
        return Body { complete: bytes.len() >= wanted, bytes };
    }
    let mut bytes = Vec::new();
    let mut rest = raw;
    loop {
        match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete((_, 0))) => return Body { bytes, complete: true },
            Ok(httparse::Status::Complete((head, size))) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                let available = (rest.len() - head).min(size);
                bytes.extend_from_slice(&rest[head..head + available]);
                let next = head.saturating_add(size).saturating_add(2);
                if next > rest.len() {
                    return Body { bytes, complete: false };
                }
                rest = &rest[next..];
            }
            Ok(httparse::Status::Partial) => return Body { bytes, complete: false },
            // The peer announced chunks and sends none: keep what there is as it is.
            Err(_) => {
                bytes.extend_from_slice(rest);
                return Body { bytes, complete: false };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn read(input: &'static [u8]) -> (Result<Box<Reply>, Failure>, Incoming) {
        let (mut near, mut far) = tokio::io::duplex(64);
        let feed = async move {
            let _ = far.write_all(input).await;
        };
        let mut incoming = Incoming::default();
        let (mut head, ()) = tokio::join!(read_head(&mut near, &mut incoming), feed);
        if let Ok(reply) = &mut head {
            read_body(&mut near, &mut incoming, reply).await;
        }
        (head, incoming)
    }

    #[tokio::test]
    async fn interim_answers_are_skipped_and_chunks_joined() {
        let (reply, incoming) = read(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n3\r\nefg\r\n0\r\n\r\n",
        )
        .await;
        let reply = reply.unwrap();
        assert_eq!((reply.status, reply.body.text.as_str(), reply.body.truncated), (403, "abcdefg", false));
        assert_eq!(incoming.interim, 1);
    }

    #[tokio::test]
    async fn half_a_head_and_no_head_are_told_apart() {
        assert_eq!(read(b"HTTP/1.1 200").await.0.unwrap_err().kind, FailureKind::Truncated);
        assert_eq!(read(b"").await.0.unwrap_err().kind, FailureKind::Closed);
        assert_eq!(read(b"SSH-2.0-x\r\n").await.0.unwrap_err().kind, FailureKind::NotHttp);
    }

    #[tokio::test]
    async fn what_is_no_http_is_kept_even_when_it_comes_in_pieces() {
        let (mut near, mut far) = tokio::io::duplex(1);
        let feed = async move {
            far.write_all(b"\x15\x03\x03\x00\x02\x02\x46").await.unwrap();
            far
        };
        let mut incoming = Incoming::default();
        let (head, _far) = tokio::join!(read_head(&mut near, &mut incoming), feed);
        assert_eq!(head.unwrap_err().kind, FailureKind::NotHttp);
        assert_eq!(incoming.excerpt().unwrap().to_bytes(), b"\x15\x03\x03\x00\x02\x02\x46");
    }

    #[tokio::test]
    async fn a_body_that_never_ends_costs_no_more_than_the_budget() {
        let (mut near, mut far) = tokio::io::duplex(64);
        far.write_all(b"HTTP/1.1 403 No\r\n\r\npart").await.unwrap();
        let budget = Duration::from_millis(50);
        let mut incoming = Incoming::within(budget);
        let read = async {
            let mut reply = read_head(&mut near, &mut incoming).await?;
            read_body(&mut near, &mut incoming, &mut reply).await;
            Ok::<_, Failure>(reply)
        };
        let reply = tokio::time::timeout(budget, read).await.expect("within the budget").unwrap();
        assert_eq!(reply.body.text, "part");
    }

    #[tokio::test]
    async fn a_body_shorter_than_announced_is_kept() {
        let (reply, _) = read(b"HTTP/1.1 403 No\r\nContent-Length: 3108\r\n\r\npart").await;
        let body = reply.unwrap().body;
        assert_eq!((body.text.as_str(), body.truncated), ("part", true));
    }

    proptest! {
        #[test]
        fn decoding_never_panics(raw in proptest::collection::vec(any::<u8>(), 0..200), length: Option<u64>, chunked: bool) {
            let body = decode(&raw, chunked, length, false);
            prop_assert!(body.bytes.len() <= raw.len());
        }
    }
}
