//! As much of HTTP/1.1 as a server needs that knows its clients.

use std::{
    io,
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
};

use time::{OffsetDateTime, macros::format_description};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    bulk::{self, Bulk},
    fault::proto::{CustomReply, Page, StorageError},
};
use crate::exchange::BULK_PATH;

/// No client of the lab sends a longer head.
pub(super) const MAX_HEAD: usize = 64 * 1024;

/// How much of a body is read at once.
const LARGE: usize = 256 * 1024;

/// What a party reads and writes.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A request head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    /// As sent: a path with its query, or an authority.
    pub(super) target: String,
    /// HTTP/1.0.
    pub(super) old: bool,
    headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// The first value of a header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// All values of a header.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Names and values, as sent.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(super) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The `Host` header without its port.
    pub(super) fn host(&self) -> Option<&str> {
        self.header("host").map(|host| host.rsplit_once(':').map_or(host, |(host, _)| host))
    }

    /// What `x-ms-range` or `Range` asks for of a blob of this size.
    fn range(&self, size: u64) -> Option<Range<u64>> {
        let (first, last) =
            self.header("x-ms-range").or_else(|| self.header("range"))?.strip_prefix("bytes=")?.split_once('-')?;
        let first = first.parse().ok()?;
        let end = if last.is_empty() { size } else { last.parse::<u64>().ok()?.saturating_add(1).min(size) };
        (first < end).then_some(first..end)
    }

    /// Whether the connection ends with the answer (RFC 9112 section 9.3).
    pub(super) fn wants_close(&self) -> bool {
        self.connection_names("close") || self.old && !self.connection_names("keep-alive")
    }

    /// Whether `Connection` has this option or header name.
    pub(super) fn connection_names(&self, option: &str) -> bool {
        let mut named = self.values("connection").flat_map(|value| value.split(|&b| b == b','));
        named.any(|named| named.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    pub(super) fn waits(&self) -> bool {
        !self.old
            && self.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
            && self.framing() != Ok(Framing::Length(0))
    }

    /// How its body ends.
    pub(super) fn framing(&self) -> Result<Framing, Unframed> {
        let mut codings = self.values("transfer-encoding");
        let mut lengths = self.values("content-length");
        match (codings.next(), lengths.next()) {
            (None, None) => Ok(Framing::Length(0)),
            (Some(coding), None)
                if coding.eq_ignore_ascii_case(b"chunked") && codings.next().is_none() && !self.old =>
            {
                Ok(Framing::Chunked)
            }
            (None, Some(length)) if lengths.all(|other| other == length) => {
                number(length).map(Framing::Length).ok_or(Unframed)
            }
            _ => Err(Unframed),
        }
    }
}

/// How the body of a request ends (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// With a chunk of no bytes.
    Chunked,
}

/// Nobody can say where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unframed;

/// A number in decimal digits and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

/// What came in place of the next request.
#[derive(Debug)]
pub(super) enum Unread {
    /// The peer ended, within a head or before one.
    End,
    /// No HTTP.
    Malformed,
    /// A head beyond [`MAX_HEAD`], or with more header fields than anybody sends.
    TooLarge,
    /// The connection broke.
    Broken(io::Error),
}

/// Reads one head; what follows it stays in `buffer`.
pub(super) async fn next_head(io: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Result<Head, Unread> {
    loop {
        if let Some((head, length)) = parse(buffer)? {
            if length > MAX_HEAD {
                return Err(Unread::TooLarge);
            }
            buffer.drain(..length);
            return Ok(head);
        }
        if buffer.len() > MAX_HEAD {
            return Err(Unread::TooLarge);
        }
        if io.read_buf(buffer).await.map_err(Unread::Broken)? == 0 {
            return Err(Unread::End);
        }
    }
}

/// The same, for parties that know their clients. `None` when the peer ended before a head, or sent one too large.
pub(super) async fn read_head(io: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<Option<Head>> {
    match next_head(io, buffer).await {
        Ok(head) => Ok(Some(head)),
        Err(Unread::End | Unread::TooLarge) => Ok(None),
        Err(Unread::Malformed) => Err(io::ErrorKind::InvalidData.into()),
        Err(Unread::Broken(error)) => Err(error),
    }
}

/// Passes on the body that follows a head, of which a part is in `buffer` already.
pub(super) async fn pass_body(
    io: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    length: u64,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let buffered = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
    to.write_all(&buffer[..buffered]).await?;
    buffer.drain(..buffered);
    let mut rest = io.take(length - buffered as u64);
    // If anything is left the buffer is empty; it serves for the whole connection.
    buffer.reserve(LARGE.min(usize::try_from(rest.limit()).unwrap_or(LARGE)));
    while rest.limit() > 0 {
        if rest.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_all(buffer).await?;
        buffer.clear();
    }
    Ok(())
}

/// The longest line before a chunk, and the longest trailer.
const MAX_CHUNK_LINE: usize = 4096;

/// Passes on what a chunked body carries (RFC 9112 section 7.1), at most `limit` bytes, or with `framed` the chunks
/// themselves. Extensions and trailers stay behind.
pub(super) async fn pass_chunks(
    io: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    limit: u64,
    framed: bool,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut left = limit;
    loop {
        let line = chunk_line(io, buffer).await?;
        let digits = line.split(|&b| b == b';').next().unwrap_or_default().trim_ascii_end();
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let size = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(malformed)?;
        left = left.checked_sub(size).ok_or_else(malformed)?;
        if size == 0 {
            break;
        }
        if framed {
            to.write_all(format!("{size:x}\r\n").as_bytes()).await?;
        }
        pass_body(io, buffer, size, to).await?;
        if framed {
            to.write_all(b"\r\n").await?;
        }
        if !chunk_line(io, buffer).await?.is_empty() {
            return Err(malformed());
        }
    }
    let mut trailer = 0;
    loop {
        match chunk_line(io, buffer).await?.len() {
            0 => break,
            length => trailer += length,
        }
        if trailer > MAX_CHUNK_LINE {
            return Err(malformed());
        }
    }
    if framed { to.write_all(b"0\r\n\r\n").await } else { Ok(()) }
}

/// A line of a chunked body, without its end.
async fn chunk_line(io: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    loop {
        if let Some(end) = buffer.iter().take(MAX_CHUNK_LINE).position(|&b| b == b'\n') {
            let mut line: Vec<u8> = buffer.drain(..=end).collect();
            line.pop();
            return match line.pop() {
                Some(b'\r') => Ok(line),
                _ => Err(io::ErrorKind::InvalidData.into()),
            };
        }
        if buffer.len() >= MAX_CHUNK_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if io.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Unread> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(bytes).map_err(|error| match error {
        httparse::Error::TooManyHeaders => Unread::TooLarge,
        _ => Unread::Malformed,
    })?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        old: request.version == Some(0),
        headers: request.headers.iter().map(|h| (h.name.to_owned(), h.value.to_vec())).collect(),
    };
    Ok(Some((head, length)))
}

/// An answer to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) headers: Vec<String>,
    pub(super) body: Vec<u8>,
    /// Whether the server ends the connection after it.
    pub(super) close: bool,
    /// HTTP/1.0 in the status line.
    pub(super) old: bool,
    /// These bytes of a blob follow the body.
    pub(super) blob: Range<u64>,
}

impl Answer {
    pub(super) fn new(status: u16, reason: &str, headers: &[&str], body: impl Into<Vec<u8>>) -> Self {
        Self {
            status,
            reason: reason.into(),
            headers: headers.iter().map(|&h| h.to_owned()).collect(),
            body: body.into(),
            ..Self::default()
        }
    }

    pub(super) fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Writes it; a HEAD request gets no body.
    pub(super) async fn write(&self, io: &mut (impl AsyncWrite + Unpin), method: &str) -> io::Result<()> {
        self.write_head(io, method, self.body.len() as u64).await?;
        io.flush().await
    }

    /// The same with the part of a blob behind the body.
    pub(super) async fn write_with_blob(&self, io: &mut impl Bulk, method: &str) -> io::Result<()> {
        let length = self.blob.end - self.blob.start;
        let mut out = self.head(method, self.body.len() as u64 + length);
        let mut rest = if method == "HEAD" { 0..0 } else { self.blob.clone() };
        if length <= SMALL {
            while !rest.is_empty() {
                let piece = bulk::piece(rest.start, rest.end - rest.start);
                out.extend_from_slice(piece);
                rest.start += piece.len() as u64;
            }
        }
        io.write_all(&out).await?;
        bulk::send(io, rest).await?;
        io.flush().await
    }

    /// Writes its head, for a content of so many bytes, and its body together with it.
    pub(super) async fn write_head(
        &self,
        io: &mut (impl AsyncWrite + Unpin),
        method: &str,
        length: u64,
    ) -> io::Result<()> {
        io.write_all(&self.head(method, length)).await
    }

    fn head(&self, method: &str, length: u64) -> Vec<u8> {
        let mut out = format!("HTTP/1.{} {} {}\r\n", u8::from(!self.old), self.status, self.reason).into_bytes();
        for header in &self.headers {
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        // A 2xx to CONNECT has no content (RFC 9110 section 9.3.6), unless a web server takes it for a GET.
        if method == "CONNECT" && (200..300).contains(&self.status) && self.body.is_empty() {
            out.extend_from_slice(b"\r\n");
            return out;
        }
        out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        out.extend_from_slice(if self.close { b"Connection: close\r\n\r\n" } else { b"\r\n" });
        if method != "HEAD" {
            out.extend_from_slice(&self.body);
        }
        out
    }
}

/// A part of a blob that goes out in one piece with the head.
const SMALL: u64 = 64 * 1024;

/// The moment as an HTTP date, ahead of the clock by `skew` seconds.
pub(super) fn date(skew: i64) -> String {
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    let now = OffsetDateTime::now_utc();
    now.checked_add(time::Duration::seconds(skew)).unwrap_or(now).format(&format).unwrap_or_default()
}

// ---- storage's own answers (Blob service REST reference; domain facts of headers and bodies)

/// Storage's answer with an error code. `early` answers come from the front end before the blob role saw the request.
fn storage(status: u16, code: &str, message: &str, detail: &str, early: bool, skew: i64) -> Answer {
    let id = request_id();
    let server = if early { "Microsoft-HTTPAPI/2.0" } else { "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0" };
    let date = date(skew);
    let body = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{message}\n\
         RequestId:{id}\nTime:{}</Message>{detail}</Error>",
        OffsetDateTime::now_utc().format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
    );
    Answer::new(
        status,
        message,
        &[
            "Content-Type: application/xml",
            &format!("Server: {server}"),
            &format!("x-ms-request-id: {id}"),
            &format!("x-ms-error-code: {code}"),
            &format!("Date: {date}"),
        ],
        body,
    )
}

/// The size of every blob that a signed request asks for, and of the largest bulk source, in bytes.
const BLOB: u64 = 1 << 40;

/// The answer of healthy storage to an anonymous request, or to one with a signature, which it takes for good: a signed
/// GET gets the range asked for, or 512 bytes; what a signed PUT or POST brings is taken and thrown away. What is written
/// without a signature must not show that the account exists; one that is empty is wrong.
pub(super) fn healthy(head: &Head, skew: i64) -> Answer {
    let bulk = head.path().strip_prefix(BULK_PATH).and_then(|size| size.parse().ok()).filter(|size| *size <= BLOB);
    let writes = matches!(head.method.as_str(), "PUT" | "POST");
    match (bulk, head.query().split('&').find_map(|pair| pair.strip_prefix("sig="))) {
        (Some(_), _) if writes => return created(head, skew),
        (Some(size), _) => return blob(head, size, 0..size, skew),
        (None, Some("")) => return storage_error(StorageError::AuthenticationFailed, skew),
        (None, Some(_)) if writes => return created(head, skew),
        (None, Some(_)) => return blob(head, BLOB, 0..512, skew),
        (None, None) if writes => return storage_error(StorageError::ResourceNotFound, skew),
        (None, None) => {}
    }
    if head.path() == "/" && !head.query().contains("comp=") {
        return storage(
            400,
            "InvalidQueryParameterValue",
            "Value for one of the query parameters specified in the request URI is invalid.",
            "<QueryParameterName>comp</QueryParameterName><QueryParameterValue /><Reason />",
            false,
            skew,
        );
    }
    storage_error(StorageError::PublicAccessNotPermitted, skew)
}

/// How the blob role names itself.
const SERVER: &str = "Server: Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0";

/// The version of the service that answers.
const VERSION: &str = "x-ms-version: 2021-12-02";

/// Storage's answer to what it has taken, as to Put Block. Its checksum is left out: nobody has read the bytes.
fn created(head: &Head, skew: i64) -> Answer {
    let mut answer = Answer::new(
        201,
        "Created",
        &[
            SERVER,
            &format!("x-ms-request-id: {}", request_id()),
            VERSION,
            "x-ms-request-server-encrypted: true",
            &format!("Date: {}", date(skew)),
        ],
        "",
    );
    // Told back if it is one (Blob service, conditional on 1,024 visible characters).
    let is_id = |id: &&str| id.len() <= 1024 && id.bytes().all(|b| b.is_ascii_graphic());
    let id = head.header("x-ms-client-request-id").filter(is_id);
    answer.headers.extend(id.map(|id| format!("x-ms-client-request-id: {id}")));
    answer
}

/// Storage's answer about a blob of `size` bytes, of which a GET without a range gets `otherwise`.
fn blob(head: &Head, size: u64, otherwise: Range<u64>, skew: i64) -> Answer {
    let range = head.range(size);
    let (status, reason) = if range.is_some() { (206, "Partial Content") } else { (200, "OK") };
    let mut answer = Answer::new(
        status,
        reason,
        &[
            "Content-Type: application/octet-stream",
            "Accept-Ranges: bytes",
            SERVER,
            &format!("x-ms-request-id: {}", request_id()),
            VERSION,
            "x-ms-blob-type: PageBlob",
            &format!("Date: {}", date(skew)),
        ],
        "",
    );
    if let Some(range) = &range {
        answer.headers.push(format!("Content-Range: bytes {}-{}/{size}", range.start, range.end - 1));
    }
    answer.blob = range.unwrap_or(otherwise);
    answer
}

/// Storage's answer for one of its errors.
pub(super) fn storage_error(error: StorageError, skew: i64) -> Answer {
    let (status, code, message, detail, early) = match error {
        StorageError::AuthorizationFailure => {
            (403, "AuthorizationFailure", "This request is not authorized to perform this operation.", "", false)
        }
        StorageError::AuthenticationFailed => (
            403,
            "AuthenticationFailed",
            "Server failed to authenticate the request. Make sure the value of Authorization header is formed \
             correctly including the signature.",
            "<AuthenticationErrorDetail>Signature not valid in the specified time frame</AuthenticationErrorDetail>",
            false,
        ),
        StorageError::AccountRequiresHttps => (
            400,
            "AccountRequiresHttps",
            "The account being accessed does not support http.",
            "<AccountName>acct</AccountName>",
            true,
        ),
        StorageError::TlsVersionNotPermitted => (
            400,
            "TlsVersionNotPermitted",
            "The TLS version of the connection is not permitted on this storage account.",
            "",
            true,
        ),
        StorageError::ServerBusy => (503, "ServerBusy", "The server is busy.", "", false),
        StorageError::TooManyRequests => (429, "TooManyRequests", "The request rate is exceeded.", "", true),
        StorageError::InternalError => {
            (500, "InternalError", "Server encountered an internal error. Please try again after some time.", "", false)
        }
        StorageError::ResourceNotFound => {
            (404, "ResourceNotFound", "The specified resource does not exist.", "", false)
        }
        StorageError::PublicAccessNotPermitted => {
            (409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.", "", false)
        }
    };
    storage(status, code, message, detail, early, skew)
}

pub(super) fn request_id() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    format!("{:08x}-501e-0042-37b3-5a2f10000000", COUNT.fetch_add(1, Ordering::Relaxed))
}

// ---- pages that others write

/// A page that is not storage's.
pub(super) fn page(page: Page) -> Answer {
    match page {
        Page::AzureFirewall => Answer::new(
            470,
            "status code 470",
            &["Content-Type: text/plain; charset=utf-8"],
            "Action: Deny. Reason: No rule matched. Proceeding with default action.",
        )
        .closing(),
        Page::Portal => Answer::new(
            302,
            "Found",
            &["Location: http://portal.example.net/login?from=storage", "Content-Type: text/html"],
            "<html><head><title>Network login</title></head><body>Please sign in to use this network.</body></html>",
        )
        .closing(),
        Page::NetworkAuthentication => Answer::new(
            511,
            "Network Authentication Required",
            &["Content-Type: text/html"],
            "<html><head><meta http-equiv=\"refresh\" content=\"0; url=http://portal.example.net/login\"></head></html>",
        )
        .closing(),
        Page::Block => Answer::new(
            403,
            "Forbidden",
            &["Server: WebFilter", "Content-Type: text/html"],
            "<html><head><title>Access Blocked</title></head><body><h1>Access to this site is blocked</h1>\
             <p>The category \"Online Storage\" is blocked by your organization's policy.</p></body></html>",
        )
        .closing(),
        Page::Redirect => Answer::new(
            301,
            "Moved Permanently",
            &["Location: https://www.example.com/", "Content-Type: text/html"],
            "<html><body>Moved.</body></html>",
        )
        .closing(),
        Page::WebServer => Answer::new(
            200,
            "OK",
            &["Server: Apache/2.4.62 (Debian)", &format!("Date: {}", date(0)), "Content-Type: text/html"],
            "<html><head><title>It works!</title></head><body><h1>It works!</h1></body></html>",
        )
        .closing(),
        Page::NginxBadRequest => Answer::new(
            400,
            "Bad Request",
            &["Server: nginx/1.22.1", &format!("Date: {}", date(0)), "Content-Type: text/html"],
            "<html>\r\n<head><title>400 Bad Request</title></head>\r\n<body>\r\n<center><h1>400 Bad Request</h1>\
             </center>\r\n<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n",
        )
        .closing(),
    }
}

/// A scenario's own answer.
pub(super) fn custom(reply: &CustomReply) -> Answer {
    Answer {
        status: reply.status,
        reason: reply.reason.clone(),
        headers: reply.headers.clone(),
        body: reply.body.clone().into_bytes(),
        close: true,
        ..Answer::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn heads_are_read_one_by_one() {
        let mut input =
            &b"GET /a?sig=x HTTP/1.1\r\nHost: acct:443\r\nConnection: Close\r\n\r\nHEAD / HTTP/1.1\r\n\r\nrest"[..];
        let mut buffer = Vec::new();
        let head = read_head(&mut input, &mut buffer).await.unwrap().unwrap();
        assert_eq!((head.method.as_str(), head.path(), head.query()), ("GET", "/a", "sig=x"));
        assert_eq!((head.host(), head.wants_close()), (Some("acct"), true));
        let head = read_head(&mut input, &mut buffer).await.unwrap().unwrap();
        assert_eq!(head.method, "HEAD");
        assert_eq!(buffer, b"rest");
        assert_eq!(read_head(&mut &b"GET / HTTP/1.1\r\nHo"[..], &mut Vec::new()).await.unwrap(), None);
        assert!(read_head(&mut &b"\x16\x03\x01\x02"[..], &mut Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn a_head_request_gets_the_length_but_no_body() {
        let mut out = Vec::new();
        healthy(&parse(b"HEAD / HTTP/1.1\r\n\r\n").unwrap().unwrap().0, 0).write(&mut out, "HEAD").await.unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Value for one of the query parameters"), "{text}");
        assert!(text.contains("x-ms-error-code: InvalidQueryParameterValue\r\n"), "{text}");
        assert!(text.contains("Content-Length: ") && text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn the_date_has_the_form_of_http_and_the_skew() {
        let parse = |text: &str| {
            let format = format_description!(
                "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
            );
            time::PrimitiveDateTime::parse(text, &format).unwrap()
        };
        let skew = parse(&date(3600)) - parse(&date(0));
        assert!((3599..=3600).contains(&skew.whole_seconds()), "{skew}");
    }
}
