//! As much of HTTP/1.1 as a server needs that knows its clients.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering},
};

use time::{OffsetDateTime, macros::format_description};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::fault::proto::{CustomReply, Page, StorageError};

/// No client of the lab sends a longer head.
const MAX_HEAD: usize = 64 * 1024;

/// What a party reads and writes.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A request head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) method: String,
    /// As sent: a path with its query, or an authority.
    pub(super) target: String,
    headers: Vec<(String, String)>,
}

impl Head {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
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

    /// The length of the body that follows.
    pub(super) fn content_length(&self) -> u64 {
        self.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0)
    }

    /// The first and last byte of `x-ms-range` or `Range`, inside a blob.
    fn range(&self) -> Option<(u64, u64)> {
        let (first, last) =
            self.header("x-ms-range").or_else(|| self.header("range"))?.strip_prefix("bytes=")?.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last && last < BLOB).then_some((first, last))
    }

    pub(super) fn wants_close(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads one head; what follows it stays in `buffer`. `None` when the peer ended before a head, or sent no HTTP.
pub(super) async fn read_head(io: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<Option<Head>> {
    loop {
        if let Some((head, length)) = parse(buffer)? {
            buffer.drain(..length);
            return Ok(Some(head));
        }
        if buffer.len() > MAX_HEAD || io.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// Reads the body that follows a head, and throws it away.
pub(super) async fn discard_body(
    io: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    length: u64,
) -> io::Result<()> {
    let buffered = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
    buffer.drain(..buffered);
    tokio::io::copy(&mut io.take(length - buffered as u64), &mut tokio::io::sink()).await?;
    Ok(())
}

fn parse(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let status = request.parse(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers: request
            .headers
            .iter()
            .map(|h| (h.name.to_owned(), String::from_utf8_lossy(h.value).into_owned()))
            .collect(),
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
    /// So many zero bytes follow the body.
    pub(super) zeros: u64,
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
        let mut out = format!("HTTP/1.{} {} {}\r\n", u8::from(!self.old), self.status, self.reason).into_bytes();
        for header in &self.headers {
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        // A 2xx to CONNECT has no content (RFC 9110 section 9.3.6), unless a web server takes it for a GET.
        if method == "CONNECT" && (200..300).contains(&self.status) && self.body.is_empty() {
            out.extend_from_slice(b"\r\n");
            io.write_all(&out).await?;
            return io.flush().await;
        }
        let length = self.body.len() as u64 + self.zeros;
        out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
        out.extend_from_slice(if self.close { b"Connection: close\r\n\r\n" } else { b"\r\n" });
        if method != "HEAD" {
            out.extend_from_slice(&self.body);
        }
        io.write_all(&out).await?;
        if method != "HEAD" && self.zeros > 0 {
            tokio::io::copy(&mut tokio::io::repeat(0).take(self.zeros), io).await?;
        }
        io.flush().await
    }
}

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

/// The size of every blob that a signed request asks for, in bytes.
const BLOB: u64 = 1 << 40;

/// The answer of healthy storage to an anonymous request, or to one with a signature, which it takes for good: a signed
/// GET gets zeros (the range asked for, or 512), a signed PUT is taken and thrown away.
pub(super) fn healthy(head: &Head, skew: i64) -> Answer {
    let signed = head.query().split('&').any(|pair| pair.starts_with("sig="));
    if signed {
        let (status, reason) = match (head.method.as_str(), head.range()) {
            ("PUT", _) => (201, "Created"),
            (_, Some(_)) => (206, "Partial Content"),
            _ => (200, "OK"),
        };
        let mut answer = Answer::new(
            status,
            reason,
            &[
                "Content-Type: application/octet-stream",
                "Accept-Ranges: bytes",
                "Server: Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0",
                &format!("x-ms-request-id: {}", request_id()),
                "x-ms-version: 2021-12-02",
                "x-ms-blob-type: PageBlob",
                &format!("Date: {}", date(skew)),
            ],
            "",
        );
        if let (206, Some((first, last))) = (status, head.range()) {
            answer.headers.push(format!("Content-Range: bytes {first}-{last}/{BLOB}"));
            answer.zeros = last - first + 1;
        } else if status == 200 {
            answer.zeros = 512;
        }
        return answer;
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

fn request_id() -> String {
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
