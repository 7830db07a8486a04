//! The head of an HTTP/1 answer.

use serde::{Deserialize, Serialize};

use crate::model::{Excerpt, Redactor};

/// A longer head is refused. Legitimate proxies were seen with 100 KB of headers.
pub const MAX_HEAD: usize = 128 * 1024;

/// More header lines are refused.
pub const MAX_HEADERS: usize = 1024;

/// Of a long head this many bytes are kept as evidence.
const KEPT_HEAD: usize = 16 * 1024;

/// Header values that are credentials for somebody, whatever their content.
const SECRET_HEADERS: [&str; 5] =
    ["set-cookie", "cookie", "authorization", "proxy-authorization", "authentication-info"];

/// An answer: status line, headers, and the beginning of the body.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reply {
    /// Minor version: 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    /// Status code.
    pub status: u16,
    /// Reason phrase as sent; with some proxies it is the only place that tells the cause.
    #[serde(default)]
    pub reason: String,
    /// Headers in order, names as sent.
    pub headers: Vec<Header>,
    /// Length of the head on the wire, in bytes.
    pub head_bytes: u32,
    /// Whether headers were dropped from `headers` because the head is very long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub head_truncated: bool,
    /// The beginning of the body, without transfer coding.
    #[serde(default)]
    pub body: Excerpt,
}

/// One header line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The name as sent.
    pub name: String,
    /// The value, trimmed; bytes outside ASCII escaped as `\xNN`.
    pub value: String,
}

impl Reply {
    /// The first header of this name, compared without case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers_named(name).next()
    }

    /// All headers of this name, compared without case.
    pub fn headers_named<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.as_str())
    }

    /// A header that the answer got on its way through a proxy.
    #[must_use]
    pub fn proxy_mark(&self) -> Option<&Header> {
        const MARKS: [&str; 5] = ["via", "x-cache", "x-cache-lookup", "proxy-agent", "x-forwarded-for"];
        self.headers.iter().find(|header| MARKS.iter().any(|mark| header.name.eq_ignore_ascii_case(mark)))
    }

    /// Whether the status is 2xx.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the connection stays open behind it (RFC 9112 section 9.3), as far as its head tells.
    #[must_use]
    pub fn keeps_connection(&self) -> bool {
        let named = |option: &str| {
            let mut options = self.headers_named("connection").flat_map(|value| value.split(','));
            options.any(|value| value.trim().eq_ignore_ascii_case(option))
        };
        let framed = matches!(self.status, 204 | 304)
            || self.header("content-length").is_some()
            || self.header("transfer-encoding").is_some();
        framed && !named("close") && (self.minor_version > 0 || named("keep-alive"))
    }

    /// The status line as people know it.
    #[must_use]
    pub fn status_line(&self) -> String {
        let line = format!("HTTP/1.{} {} {}", self.minor_version, self.status, self.reason);
        line.trim_end().to_owned()
    }

    /// Removes secrets that the peer echoed.
    pub fn scrub(&mut self, redactor: &Redactor) {
        redactor.scrub(&mut self.reason);
        for header in &mut self.headers {
            redactor.scrub(&mut header.name);
            redactor.scrub(&mut header.value);
        }
        self.body.scrub(redactor);
    }
}

/// What the bytes read so far are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a head; more is needed.
    Partial,
    /// A whole head of this many bytes; the body follows.
    Complete(Box<Reply>, usize),
}

/// Why the bytes are no HTTP head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The first bytes are not `HTTP/`.
    #[error("the first bytes are not HTTP")]
    NotHttp,
    /// It starts as HTTP and then breaks the grammar.
    #[error("the HTTP head is malformed: {0}")]
    Malformed(&'static str),
    /// Longer than [`MAX_HEAD`] or more than [`MAX_HEADERS`] lines.
    #[error("the HTTP head is larger than any legitimate one")]
    TooLarge,
}

/// Looks at the bytes read so far. `scanned` is how many of them an earlier call has seen, so that a peer that sends
/// byte by byte costs no more than one that does not.
///
/// # Errors
/// When more bytes cannot make it an HTTP head.
pub fn parse_head(bytes: &[u8], scanned: usize) -> Result<Parsed, ParseError> {
    const MAGIC: &[u8] = b"HTTP/";
    let prefix = bytes.len().min(MAGIC.len());
    if !bytes[..prefix].eq_ignore_ascii_case(&MAGIC[..prefix]) {
        return Err(ParseError::NotHttp);
    }
    let Some(end) = head_end(bytes, scanned) else {
        return if bytes.len() >= MAX_HEAD { Err(ParseError::TooLarge) } else { Ok(Parsed::Partial) };
    };
    if end > MAX_HEAD {
        return Err(ParseError::TooLarge);
    }
    let head = &bytes[..end];
    let lines = head.split(|&b| b == b'\n').count();
    if lines > MAX_HEADERS {
        return Err(ParseError::TooLarge);
    }
    let mut headers = vec![httparse::EMPTY_HEADER; lines];
    let mut response = httparse::Response::new(&mut headers);
    let status = httparse::ParserConfig::default()
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .ignore_invalid_headers_in_responses(true)
        .parse_response(&mut response, head)
        .map_err(|error| match error {
            httparse::Error::TooManyHeaders => ParseError::TooLarge,
            httparse::Error::Version => ParseError::Malformed("unknown HTTP version"),
            httparse::Error::Status => ParseError::Malformed("bad status line"),
            _ => ParseError::Malformed("bad header line"),
        })?;
    let httparse::Status::Complete(length) = status else {
        return Err(ParseError::Malformed("bad header line"));
    };
    Ok(Parsed::Complete(Box::new(reply(&response, length)), length))
}

fn reply(response: &httparse::Response<'_, '_>, length: usize) -> Reply {
    let mut kept = 0;
    let mut headers = Vec::new();
    let mut head_truncated = false;
    for header in response.headers.iter() {
        kept += header.name.len() + header.value.len();
        if kept > KEPT_HEAD {
            head_truncated = true;
            break;
        }
        let secret = SECRET_HEADERS.iter().any(|name| header.name.eq_ignore_ascii_case(name));
        headers.push(Header {
            name: header.name.to_owned(),
            value: if secret {
                crate::model::REDACTED.to_owned()
            } else {
                Excerpt::whole(header.value.trim_ascii()).text
            },
        });
    }
    Reply {
        minor_version: response.version.unwrap_or(1),
        status: response.code.unwrap_or(0),
        reason: Excerpt::new(response.reason.unwrap_or_default().as_bytes(), 1024, 0).text,
        headers,
        head_bytes: u32::try_from(length).unwrap_or(u32::MAX),
        head_truncated,
        body: Excerpt::default(),
    }
}

/// The end of the head: after the first empty line, which may end in LF alone.
fn head_end(bytes: &[u8], scanned: usize) -> Option<usize> {
    let from = scanned.saturating_sub(3);
    let rest = &bytes[from..];
    rest.iter().enumerate().filter(|&(_, &b)| b == b'\n').find_map(|(at, _)| {
        let after = &rest[at + 1..];
        let end = match after {
            [b'\n', ..] => at + 2,
            [b'\r', b'\n', ..] => at + 3,
            _ => return None,
        };
        Some(from + end)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn complete(bytes: &[u8]) -> (Reply, usize) {
        match parse_head(bytes, 0) {
            Ok(Parsed::Complete(reply, length)) => (*reply, length),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn heads_as_real_proxies_send_them() {
        for (bytes, status, reason) in [
            (&b"HTTP/1.1 200 Connection established\r\n\r\n"[..], 200, "Connection established"),
            (b"HTTP/1.0 200\r\n\r\n", 200, ""),
            (b"HTTP/1.1 200 OK\nVia: x\n\n", 200, "OK"),
            (b"HTTP/1.0 403 Access denied\r\nServer: tinyproxy/1.11.1\r\n\r\nbody", 403, "Access denied"),
        ] {
            let (reply, _) = complete(bytes);
            assert_eq!((reply.status, reply.reason.as_str()), (status, reason));
        }
        let (reply, length) = complete(
            b"HTTP/1.1 407 No\r\nPROXY-authenticate: Basic realm=\"a\"\r\nproxy-Authenticate: NTLM\r\n\r\nrest",
        );
        assert_eq!(reply.headers_named("Proxy-Authenticate").collect::<Vec<_>>(), ["Basic realm=\"a\"", "NTLM"]);
        assert_eq!(length, reply.head_bytes as usize);
    }

    #[test]
    fn what_is_no_head_is_named() {
        assert_eq!(parse_head(b"SSH-2.0-x\r\n", 0), Err(ParseError::NotHttp));
        assert_eq!(parse_head(b"\x05\xff", 0), Err(ParseError::NotHttp));
        assert_eq!(parse_head(b"HTTP/3.7 200 OK\r\n\r\n", 0), Err(ParseError::Malformed("unknown HTTP version")));
        assert_eq!(parse_head(b"HTTP/1.1 abc\r\n\r\n", 0), Err(ParseError::Malformed("bad status line")));
        assert_eq!(parse_head(b"HT", 0), Ok(Parsed::Partial));
        let endless = [b"HTTP/1.1 200 OK\r\nX: ".as_slice(), &vec![b'a'; MAX_HEAD]].concat();
        assert_eq!(parse_head(&endless, 0), Err(ParseError::TooLarge));
    }

    #[test]
    fn a_long_legitimate_head_is_accepted_and_kept_in_part() {
        let mut bytes = b"HTTP/1.1 200 OK\r\n".to_vec();
        for n in 0..100 {
            bytes.extend(format!("X-{n}: {}\r\n", "v".repeat(1000)).bytes());
        }
        bytes.extend(b"\r\n");
        let (reply, length) = complete(&bytes);
        assert!(reply.head_truncated && length > 100_000);
        assert!(reply.headers.len() < 20);
    }

    #[test]
    fn cookies_are_not_kept() {
        let (reply, _) = complete(b"HTTP/1.1 302 Found\r\nSet-Cookie: session=TOPSECRET\r\n\r\n");
        assert!(!format!("{reply:?}").contains("TOPSECRET"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), scanned in 0_usize..400) {
            let _ = parse_head(&bytes, scanned.min(bytes.len()));
            let with_magic = [b"HTTP/1.1 ".as_slice(), &bytes].concat();
            let _ = parse_head(&with_magic, 0);
        }

        #[test]
        fn byte_by_byte_gives_the_same_as_at_once(value in "[a-z ]{0,40}", cut in 1_usize..20) {
            let bytes = format!("HTTP/1.1 200 OK\r\nX: {value}\r\n\r\nbody").into_bytes();
            let mut seen = 0;
            let mut stepwise = None;
            while seen < bytes.len() && stepwise.is_none() {
                let next = (seen + cut).min(bytes.len());
                if let Parsed::Complete(reply, length) = parse_head(&bytes[..next], seen).unwrap() {
                    stepwise = Some((*reply, length));
                }
                seen = next;
            }
            prop_assert_eq!(stepwise, Some(complete(&bytes)));
        }
    }
}
