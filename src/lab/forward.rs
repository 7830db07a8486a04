//! Plain requests through the forward proxy: the absolute form (RFC 9112 section 3.2.2), for which `http_proxy` makes
//! clients use it instead of CONNECT.

use std::net::Ipv6Addr;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    http::{Framing, Head, MAX_HEAD},
    quirk::Quirk,
    spec::ProxySpec,
};

/// How the proxy names itself (squid 5.7; RFC 9110 section 7.6.3).
pub(super) const VIA: &str = "Via: 1.1 proxy (squid/5.7)";

/// Headers that concern one connection only (RFC 9110 section 7.6.1, and `Proxy-Connection` by custom).
const HOP_BY_HOP: [&str; 7] =
    ["connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer", "upgrade"];

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
        let (scheme, rest) = uri.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = host_and_port(authority, Some(80))?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Some(Self { authority: authority.to_owned(), host, port, path: format!("{slash}{path}") })
    }

    /// The same for every request about the same thing.
    pub(super) fn key(&self) -> String {
        format!("{}{}", self.authority, self.path)
    }

    /// The request's head as the origin gets it. The connection ends with the answer.
    pub(super) fn request(&self, head: &Head, proxy: &ProxySpec) -> Vec<u8> {
        let host = head.header("host").filter(|_| proxy.has(Quirk::KeepsHost)).unwrap_or(&self.authority);
        let mut request = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", head.method, self.path_for(proxy));
        if proxy.has(Quirk::LosesBodies) && head.framing() != Ok(Framing::Length(0)) {
            request += "Content-Length: 0\r\n";
        }
        let mut request = request.into_bytes();
        for (name, value) in head.headers() {
            let name_is = |other: &str| name.eq_ignore_ascii_case(other);
            let is_own = if name_is("proxy-authorization") {
                !proxy.has(Quirk::ForwardsLogin)
            } else {
                !proxy.has(Quirk::KeepsHopByHop) && (is_hop_by_hop(name) || head.connection_names(name))
            };
            let is_range = name_is("range") || name_is("x-ms-range");
            let is_dropped = name_is("host")
                || proxy.has(Quirk::DropsRequestHeaders) && is_storages(name)
                || proxy.has(Quirk::DropsRanges) && is_range
                || proxy.has(Quirk::DropsAuthorization) && name_is("authorization")
                || proxy.has(Quirk::SwallowsExpect) && name_is("expect")
                || proxy.has(Quirk::LosesBodies) && (name_is("content-length") || name_is("transfer-encoding"));
            if is_own || is_dropped {
                continue;
            }
            let altered = (is_range && proxy.has(Quirk::AltersRanges)).then(|| from_the_start(value)).flatten();
            let value = altered.as_deref().unwrap_or(value);
            request.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        request.extend_from_slice(&own_headers(proxy, ""));
        request
    }

    /// Path and query as a proxy writes them.
    fn path_for(&self, proxy: &ProxySpec) -> String {
        match self.path.split_once('?') {
            Some((path, query)) if proxy.has(Quirk::DecodesQueries) => format!("{path}?{}", decoded(query)),
            Some((path, query)) if proxy.has(Quirk::NormalisesQueries) => format!("{path}?{}", normalised(query)),
            _ => self.path.clone(),
        }
    }
}

/// Host and port of an authority; the default port where none is written.
pub(super) fn host_and_port(authority: &str, default: Option<u16>) -> Option<(String, u16)> {
    let (host, port) = apart(authority);
    let port = match port {
        // A sign is no digit, though `parse` takes one.
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().ok().filter(|port| *port != 0)?,
        Some(_) => return None,
        None => default?,
    };
    is_host(host).then(|| (host.to_owned(), port))
}

/// The same as [`Quirk::TakesBadPorts`] has it.
pub(super) fn host_and_any_port(authority: &str) -> Option<(String, u16)> {
    let (host, port) = apart(authority);
    let [.., high, low] = port?.parse::<u64>().unwrap_or(443).to_be_bytes();
    is_host(host).then(|| (host.to_owned(), u16::from_be_bytes([high, low])))
}

/// Host and port as they are written.
fn apart(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // The last colon of a bare `[::1]` is none before a port.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// A name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(literal) => literal.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    }
}

/// Whether a header is one of storage's own.
fn is_storages(name: &str) -> bool {
    name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("x-ms-"))
}

/// `bytes=10-19` as `bytes=0-19`.
fn from_the_start(range: &[u8]) -> Option<Vec<u8>> {
    let (_, last) = std::str::from_utf8(range).ok()?.split_once('-')?;
    Some(format!("bytes=0-{last}").into_bytes())
}

fn decoded(query: &str) -> String {
    let plain = percent_encoding::percent_decode_str(query).decode_utf8_lossy();
    // What would break the request line stays as it is.
    plain.replace(' ', "%20").replace('\r', "%0D").replace('\n', "%0A")
}

fn normalised(query: &str) -> String {
    let mut pairs: Vec<&str> = query.split('&').collect();
    pairs.sort_unstable();
    let joined = pairs.join("&");
    let mut pieces = joined.split('%');
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.char_indices().nth(2).map_or(piece.len(), |(at, _)| at);
        out.extend(["%", &piece[..end].to_ascii_uppercase(), &piece[end..]]);
    }
    out
}

/// What the proxy adds to a head, and its end.
fn own_headers(proxy: &ProxySpec, more: &str) -> Vec<u8> {
    let via = if proxy.has(Quirk::NoVia) { String::new() } else { format!("{VIA}\r\n") };
    format!("{more}{via}Connection: close\r\n\r\n").into_bytes()
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

/// An answer's status, and its head as the client gets it; what was read behind it stays in `buffer`.
pub(super) async fn answer(
    origin: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    proxy: &ProxySpec,
) -> Result<(u16, Vec<u8>), Unusable> {
    loop {
        if let Some(answer) = rewrite(buffer, proxy)? {
            return Ok(answer);
        }
        if buffer.len() > MAX_HEAD {
            return Err(Unusable::Invalid);
        }
        match origin.read_buf(buffer).await {
            Err(_) => return Err(Unusable::Broken),
            Ok(0) if buffer.is_empty() => return Err(Unusable::Nothing),
            Ok(0) => return Err(Unusable::Invalid),
            Ok(_) => {}
        }
    }
}

/// `None` when the head is not complete.
fn rewrite(bytes: &mut Vec<u8>, proxy: &ProxySpec) -> Result<Option<(u16, Vec<u8>)>, Unusable> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut answer = httparse::Response::new(&mut headers);
    let status = answer.parse(bytes).map_err(|_| Unusable::Invalid)?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let code = answer.code.unwrap_or_default();
    let mut out = format!("HTTP/1.1 {code} {}\r\n", answer.reason.unwrap_or_default()).into_bytes();
    let options = answer.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection"));
    let named: Vec<&[u8]> =
        options.flat_map(|header| header.value.split(|&b| b == b',')).map(<[u8]>::trim_ascii).collect();
    for header in answer.headers.iter() {
        let is_named = named.iter().any(|named| named.eq_ignore_ascii_case(header.name.as_bytes()));
        let stays = (is_hop_by_hop(header.name) || is_named) && !proxy.has(Quirk::KeepsHopByHop)
            || proxy.has(Quirk::DropsAnswerHeaders) && is_storages(header.name);
        if !stays {
            out.extend_from_slice(&[header.name.as_bytes(), b": ", header.value, b"\r\n"].concat());
        }
    }
    match code {
        // The final answer follows.
        100..200 => out.extend_from_slice(b"\r\n"),
        _ => out.extend_from_slice(&own_headers(proxy, "X-Cache: MISS from proxy\r\n")),
    }
    bytes.drain(..length);
    Ok(Some((code, out)))
}

/// Whether a header stays behind, whatever `Connection` names.
fn is_hop_by_hop(name: &str) -> bool {
    HOP_BY_HOP.iter().any(|other| name.eq_ignore_ascii_case(other))
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
        assert_eq!(target("HTTP://A.example"), is("A.example", "A.example", 80, "/"));
        for wrong in [
            "/",
            "a.example:80",
            "https://a.example/",
            "http://",
            "http://:80/",
            "http://a.example:99999/",
            "http://a.example:+80/",
            "http://a.example:0/",
            "http://a.example:/",
            "http://::1:80/",
            "http://a%2eb/",
        ] {
            assert_eq!(target(wrong), None, "{wrong}");
        }
        assert_eq!(host_and_any_port("a:65979"), Some(("a".into(), 443)));
        assert_eq!(host_and_any_port("a:x"), Some(("a".into(), 443)));
    }

    #[test]
    fn queries_are_rewritten_as_the_quirks_have_it() {
        assert_eq!(decoded("sig=a%2Fb%2b%20c&d=%0d"), "sig=a/b+%20c&d=%0D");
        assert_eq!(normalised("b=%2f%c3x&a=1"), "a=1&b=%2F%C3x");
    }

    async fn answer_of(mut bytes: &[u8]) -> Result<(u16, Vec<u8>, Vec<u8>), Unusable> {
        let mut rest = Vec::new();
        let (status, head) = answer(&mut bytes, &mut rest, &ProxySpec::default()).await?;
        rest.extend_from_slice(bytes);
        Ok((status, head, rest))
    }

    #[tokio::test]
    async fn answers_that_are_none_are_told_apart() {
        assert_eq!(answer_of(b"").await, Err(Unusable::Nothing));
        assert_eq!(answer_of(b"HTTP/1.1 200 OK\r\nA: b\r\n").await, Err(Unusable::Invalid));
        assert_eq!(answer_of(b"\x16\x03\x01\r\n\r\n").await, Err(Unusable::Invalid));
        assert_eq!(answer_of(&vec![b'x'; 2 * MAX_HEAD]).await, Err(Unusable::Invalid));
        let (status, head, rest) = answer_of(
            b"HTTP/1.0 404 No\r\nConnection: x-a\r\nConnection: close, x-c\r\nX-A: b\r\nX-B: \xff\r\nX-C: d\r\nKeep-Alive: 1\r\n\r\nbody",
        )
        .await
        .unwrap();
        assert_eq!((status, rest.as_slice()), (404, b"body".as_slice()));
        let right = b"HTTP/1.1 404 No\r\nX-B: \xff\r\nX-Cache: MISS from proxy\r\nVia: 1.1 proxy (squid/5.7)\r\n\
            Connection: close\r\n\r\n";
        assert_eq!(head, right);
    }
}
