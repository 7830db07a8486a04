//! The origin's HTTP: it says how a request arrived, and serves a pattern as storage serves a blob.

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::{
    exchange::{
        BULK_PATH, Direction, ECHO_HEADER, ECHO_PATH, Echo, Fingerprint, MAX_BYTES, PATTERN_PATH, Pattern, mix,
    },
    lab::{
        bulk,
        exchange::{PATIENCE, end, within},
        http::{self, Answer, Framing, Head, Unread, next_head, number, pass_body, pass_chunks, request_id},
    },
};

/// Bytes of a pattern that are made at once.
const CHUNK: usize = 64 * 1024;

/// How long the body of a request may take.
const BODY_PATIENCE: Duration = Duration::from_secs(600);

/// Serves the requests of a connection, one after another; `inside` TLS: the certificate of the session.
pub(super) async fn serve(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    inside: Option<Fingerprint>,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let next = within(PATIENCE, async { Ok(next_head(io, &mut buffer).await) }).await?;
        let head = match next {
            Ok(head) => head,
            Err(Unread::End) => break,
            Err(Unread::Broken(error)) => return Err(error),
            Err(Unread::Malformed) => {
                refuse(400, "Bad Request").write(io, "GET").await?;
                break;
            }
            Err(Unread::TooLarge) => {
                refuse(431, "Request Header Fields Too Large").write(io, "GET").await?;
                break;
            }
        };
        let (answer, content) = answer(io, &mut buffer, &head, inside).await?;
        let close = answer.close || head.wants_close();
        let answer = Answer { close, ..answer };
        within(PATIENCE, answer.write_head(io, &head.method, content.length())).await?;
        if head.method != "HEAD" {
            content.write(io).await?;
        }
        if close {
            break;
        }
    }
    end(io).await
}

/// What stands behind the head of an answer.
enum Content {
    Text(Vec<u8>),
    /// These bytes of the pattern.
    Pattern(Pattern, u64, u64),
    /// So many bytes, as the lab's storage has them for measurements.
    Bulk(u64),
}

impl Content {
    fn none() -> Self {
        Self::Text(Vec::new())
    }

    fn length(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Pattern(_, first, end) => end - first,
            Self::Bulk(bytes) => *bytes,
        }
    }

    async fn write(&self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        match self {
            Self::Text(text) => within(PATIENCE, io.write_all(text)).await?,
            &Self::Pattern(pattern, first, end) => {
                let mut buffer = vec![0; CHUNK.min(usize::try_from(end - first).unwrap_or(CHUNK))];
                let mut at = first;
                while at < end {
                    let now = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
                    pattern.fill(at, &mut buffer[..now]);
                    within(PATIENCE, io.write_all(&buffer[..now])).await?;
                    at += now as u64;
                }
            }
            &Self::Bulk(bytes) => {
                let mut at = 0;
                while at < bytes {
                    let piece = bulk::piece(at, bytes - at);
                    within(PATIENCE, io.write_all(piece)).await?;
                    at += piece.len() as u64;
                }
            }
        }
        within(PATIENCE, io.flush()).await
    }
}

/// Takes the body of a request, and answers it.
async fn answer(
    io: &mut (impl AsyncRead + AsyncWrite + Unpin),
    buffer: &mut Vec<u8>,
    head: &Head,
    inside: Option<Fingerprint>,
) -> io::Result<(Answer, Content)> {
    // Nobody can say who is meant (RFC 9112 section 3.2), or where the body ends (section 6.3).
    let hosts = head.values("host").count();
    let framing = match head.framing() {
        Ok(framing) if hosts == 1 || hosts == 0 && head.old => framing,
        _ => return Ok((refuse(400, "Bad Request"), Content::none())),
    };
    if matches!(framing, Framing::Length(length) if length > MAX_BYTES) {
        return Ok((refuse(413, "Content Too Large"), Content::none()));
    }
    if head.waits() && buffer.is_empty() {
        within(PATIENCE, io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")).await?;
        within(PATIENCE, io.flush()).await?;
    }
    let (path, query) = path_and_query(&head.target);
    let seed = query.split('&').find_map(|pair| pair.strip_prefix("seed=")).and_then(|seed| seed.parse().ok());
    let mut body = Checked { pattern: seed.map(|seed| Pattern::new(seed, Direction::Up)), bytes: 0, intact: true };
    let taken = async {
        match framing {
            Framing::Length(length) => pass_body(io, buffer, length, &mut body).await,
            Framing::Chunked => pass_chunks(io, buffer, MAX_BYTES, false, &mut body).await,
        }
    };
    match within(BODY_PATIENCE, taken).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Ok((refuse(400, "Bad Request"), Content::none()));
        }
        Err(error) => return Err(error),
    }
    Ok(match path {
        ECHO_PATH => echo(head, &body, inside),
        _ => match (blob(path), bulk_size(path)) {
            (Some(blob), _) => blob.answer(head),
            (None, Some(_)) if matches!(head.method.as_str(), "PUT" | "POST") => {
                (storage_like(201, "Created", head), Content::none())
            }
            (None, Some(bytes)) => (storage_like(200, "OK", head), Content::Bulk(bytes)),
            (None, None) => (storage_like(404, "The specified resource does not exist.", head), Content::none()),
        },
    })
}

/// Of a target in origin or absolute form.
fn path_and_query(target: &str) -> (&str, &str) {
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    path.split_once('?').unwrap_or((path, ""))
}

/// The connection ends with it. By its id a client knows it for the origin's.
fn refuse(status: u16, reason: &str) -> Answer {
    let headers = [format!("x-ms-request-id: {}", request_id()), format!("Date: {}", http::date(0))];
    Answer::new(status, reason, &[&headers[0], &headers[1]], "").closing()
}

/// An answer with the headers that storage gives each of its own.
fn storage_like(status: u16, reason: &str, head: &Head) -> Answer {
    let mut answer = Answer::new(
        status,
        reason,
        &[
            "Server: Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0",
            &format!("x-ms-request-id: {}", request_id()),
            "x-ms-version: 2021-12-02",
            &format!("Date: {}", http::date(0)),
        ],
        "",
    );
    for name in [ECHO_HEADER, "x-ms-client-request-id"] {
        answer.headers.extend(head.header(name).map(|value| format!("{name}: {value}")));
    }
    answer
}

fn echo(head: &Head, body: &Checked, inside: Option<Fingerprint>) -> (Answer, Content) {
    let shown = |name: &str, value: &[u8]| {
        let secret = name.eq_ignore_ascii_case("proxy-authorization");
        if secret { "(present)".into() } else { String::from_utf8_lossy(value).into_owned() }
    };
    let echo = Echo {
        method: head.method.clone(),
        target: head.target.clone(),
        version: if head.old { "HTTP/1.0" } else { "HTTP/1.1" }.into(),
        headers: head.headers().map(|(name, value)| (name.to_owned(), shown(name, value))).collect(),
        body_bytes: body.bytes,
        body_intact: body.pattern.map(|_| body.intact),
        certificate: inside.map(|fingerprint| fingerprint.to_string()),
    };
    let mut answer = storage_like(200, "OK", head);
    answer.headers.push("Content-Type: application/json".into());
    answer.headers.push(format!("ETag: \"0x{:016X}\"", mix(body.bytes)));
    // Text, numbers and lists: nothing in it can fail to be written.
    (answer, Content::Text(serde_json::to_vec(&echo).unwrap_or_default()))
}

/// A blob that holds a pattern.
struct Blob {
    bytes: u64,
    seed: u64,
}

/// The one at `PATTERN_PATH/BYTES/SEED`.
fn blob(path: &str) -> Option<Blob> {
    let (bytes, seed) = path.strip_prefix(PATTERN_PATH)?.strip_prefix('/')?.split_once('/')?;
    let blob = Blob { bytes: bytes.parse().ok()?, seed: seed.parse().ok()? };
    (blob.bytes <= MAX_BYTES).then_some(blob)
}

impl Blob {
    fn answer(&self, head: &Head) -> (Answer, Content) {
        if !matches!(head.method.as_str(), "GET" | "HEAD") {
            let mut answer = storage_like(405, "The resource doesn't support specified Http Verb.", head);
            answer.headers.push("Allow: GET, HEAD".into());
            return (answer, Content::none());
        }
        let etag = format!("\"0x{:016X}\"", mix(mix(self.bytes) ^ self.seed));
        // A range is for GET alone, and for the blob as the client knows it (RFC 9110 sections 14.2 and 13.1.5).
        let asked = head.method == "GET" && head.header("if-range").is_none_or(|known| known == etag);
        let range = head.header("x-ms-range").or_else(|| head.header("range")).filter(|_| asked);
        let range = range.and_then(|range| range_of(range, self.bytes));
        let (status, reason) = match &range {
            None => (200, "OK"),
            Some(range) if range.is_empty() => {
                (416, "The range specified is invalid for the current size of the resource.")
            }
            Some(_) => (206, "Partial Content"),
        };
        let mut answer = storage_like(status, reason, head);
        let headers = [
            "Content-Type: application/octet-stream",
            "Accept-Ranges: bytes",
            "Last-Modified: Mon, 02 Mar 2026 08:00:00 GMT",
            "x-ms-blob-type: PageBlob",
            &format!("ETag: {etag}"),
        ];
        answer.headers.extend(headers.map(str::to_owned));
        let size = self.bytes;
        answer.headers.extend(range.as_ref().map(|range| match range.end.checked_sub(1) {
            Some(last) if !range.is_empty() => format!("Content-Range: bytes {}-{last}/{size}", range.start),
            _ => format!("Content-Range: bytes */{size}"),
        }));
        let Range { start, end } = range.unwrap_or(0..size);
        (answer, Content::Pattern(Pattern::new(self.seed, Direction::Down), start, end))
    }
}

/// How much is asked for at `BULK_PATH/BYTES`.
fn bulk_size(path: &str) -> Option<u64> {
    path.strip_prefix(BULK_PATH)?.parse().ok().filter(|bytes| *bytes <= MAX_BYTES)
}

/// What a single range asks for of so many bytes (RFC 9110 section 14.1.2), nothing if they do not reach so far. `None`: it
/// is no such range, and counts as absent.
fn range_of(range: &str, bytes: u64) -> Option<Range<u64>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        return Some(bytes.saturating_sub(number(last.as_bytes())?)..bytes);
    }
    let first = number(first.as_bytes())?;
    let last = if last.is_empty() { u64::MAX } else { number(last.as_bytes())? };
    (first <= last).then(|| first.min(bytes)..last.saturating_add(1).min(bytes))
}

/// Takes a body, counts it, and compares it with a pattern.
struct Checked {
    pattern: Option<Pattern>,
    bytes: u64,
    intact: bool,
}

impl AsyncWrite for Checked {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let differs = self.pattern.is_some_and(|pattern| pattern.first_difference(self.bytes, bytes).is_some());
        self.intact &= !differs;
        self.bytes += bytes.len() as u64;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
