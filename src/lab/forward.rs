//! Plain requests through the forward proxy: the absolute form (RFC 9112 section 3.2.2), for which `http_proxy` makes
//! clients use it instead of CONNECT.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::http::{Head, MAX_HEAD};

/// How the proxy names itself (squid 5.7; RFC 9110 section 7.6.3).
pub(super) const VIA: &str = "Via: 1.1 proxy (squid/5.7)";

/// Headers that concern one connection only (RFC 9110 section 7.6.1, and `Proxy-Connection` by custom); `Host` and the
/// proxy's own login are replaced and kept back.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// Where a request in absolute form leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Host and port as written, without user information.
    pub(super) authority: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query.
    path: String,
}

impl Target {
    /// Takes `http://` URIs only.
    pub(super) fn of(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix("http://")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = host_and_port(authority, Some(80))?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Some(Self { authority: authority.to_owned(), host, port, path: format!("{slash}{path}") })
    }

    /// The request's head as the origin gets it. The connection ends with the answer.
    pub(super) fn request(&self, head: &Head) -> Vec<u8> {
        let mut request =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\n", head.method, self.path, self.authority).into_bytes();
        let named = head.header("connection").unwrap_or_default();
        for (name, value) in head.headers().filter(|(name, _)| !is_hop_by_hop(name, named)) {
            request.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        request.extend_from_slice(format!("{VIA}\r\nConnection: close\r\n\r\n").as_bytes());
        request
    }
}

/// Host and port of an authority; the default port where none is written.
pub(super) fn host_and_port(authority: &str, default: Option<u16>) -> Option<(String, u16)> {
    let (host, port) = match authority.rsplit_once(':') {
        // The last colon of a bare `[::1]` is none before a port.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, default?),
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// Why an origin's answer cannot be passed on, in squid's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It ended without a byte.
    Nothing,
    /// It is no HTTP, or too long.
    Invalid,
    /// The connection broke.
    Broken,
}

/// An answer's status, and its head as the client gets it with what was read behind it.
pub(super) async fn answer(origin: &mut (impl AsyncRead + Unpin)) -> Result<(u16, Vec<u8>), Unusable> {
    let mut buffer = Vec::new();
    loop {
        match origin.read_buf(&mut buffer).await {
            Err(_) => return Err(Unusable::Broken),
            Ok(0) if buffer.is_empty() => return Err(Unusable::Nothing),
            Ok(0) => return Err(Unusable::Invalid),
            Ok(_) => {}
        }
        if let Some(answer) = rewrite(&buffer).map_err(|_| Unusable::Invalid)? {
            return Ok(answer);
        }
        if buffer.len() > MAX_HEAD {
            return Err(Unusable::Invalid);
        }
    }
}

/// `None` when the head is not complete.
fn rewrite(bytes: &[u8]) -> io::Result<Option<(u16, Vec<u8>)>> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut answer = httparse::Response::new(&mut headers);
    let status = answer.parse(bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let code = answer.code.unwrap_or_default();
    let mut out = format!("HTTP/1.1 {code} {}\r\n", answer.reason.unwrap_or_default()).into_bytes();
    let named = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case("connection"));
    let named = String::from_utf8_lossy(named.map_or(&[], |header| header.value)).into_owned();
    for header in answer.headers.iter().filter(|header| !is_hop_by_hop(header.name, &named)) {
        out.extend_from_slice(&[header.name.as_bytes(), b": ", header.value, b"\r\n"].concat());
    }
    out.extend_from_slice(format!("X-Cache: MISS from proxy\r\n{VIA}\r\nConnection: close\r\n\r\n").as_bytes());
    out.extend_from_slice(&bytes[length..]);
    Ok(Some((code, out)))
}

/// Whether a header stays behind; `named` are those that `Connection` names.
fn is_hop_by_hop(name: &str, named: &str) -> bool {
    HOP_BY_HOP.iter().copied().chain(named.split(',').map(str::trim)).any(|other| name.eq_ignore_ascii_case(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_uris_are_taken_apart() {
        let target = |uri| Target::of(uri).map(|t| (t.authority, t.host, t.port, t.path));
        let is = |authority: &str, host: &str, port, path: &str| {
            Some((authority.to_owned(), host.to_owned(), port, path.to_owned()))
        };
        assert_eq!(target("http://a.example/b?c=d"), is("a.example", "a.example", 80, "/b?c=d"));
        assert_eq!(target("http://u:p@a.example:8080"), is("a.example:8080", "a.example", 8080, "/"));
        assert_eq!(target("http://a.example?c=/d@e"), is("a.example", "a.example", 80, "/?c=/d@e"));
        assert_eq!(target("http://[::1]/"), is("[::1]", "[::1]", 80, "/"));
        assert_eq!(target("http://[::1]:81/"), is("[::1]:81", "[::1]", 81, "/"));
        for wrong in ["/", "a.example:80", "https://a.example/", "http://", "http://:80/", "http://a.example:99999/"] {
            assert_eq!(target(wrong), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn answers_that_are_none_are_told_apart() {
        assert_eq!(answer(&mut &b""[..]).await, Err(Unusable::Nothing));
        assert_eq!(answer(&mut &b"HTTP/1.1 200 OK\r\nA: b\r\n"[..]).await, Err(Unusable::Invalid));
        assert_eq!(answer(&mut &b"\x16\x03\x01\r\n\r\n"[..]).await, Err(Unusable::Invalid));
        assert_eq!(answer(&mut &vec![b'x'; 2 * MAX_HEAD][..]).await, Err(Unusable::Invalid));
        let (status, bytes) = answer(
            &mut &b"HTTP/1.0 404 No\r\nConnection: x-a, close\r\nX-A: b\r\nX-B: \xff\r\nKeep-Alive: 1\r\n\r\nbody"[..],
        )
        .await
        .unwrap();
        assert_eq!(status, 404);
        let right = b"HTTP/1.1 404 No\r\nX-B: \xff\r\nX-Cache: MISS from proxy\r\nVia: 1.1 proxy (squid/5.7)\r\n\
            Connection: close\r\n\r\nbody";
        assert_eq!(bytes, right);
    }
}
