//! What is probed: scheme, host, port, and who should answer there.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::Secret;

/// Which way the packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// From this machine to the endpoint.
    Direct,
    /// Through an HTTP CONNECT tunnel of the proxy.
    Proxy,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direct => "direct",
            Self::Proxy => "proxy",
        })
    }
}

/// How far a probe walks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// Connect only.
    Tcp,
    /// Connect and TLS handshake.
    Tls,
    /// Connect and one HTTP request.
    Http,
    /// Connect, TLS handshake and one HTTP request.
    Https,
}

impl Scheme {
    /// The name in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Whether the walk includes a TLS handshake with the origin.
    #[must_use]
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Https)
    }

    /// Whether the walk ends with an HTTP request.
    #[must_use]
    pub fn has_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// Who should answer at a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    /// Azure Storage: the answer must carry storage's marks.
    Storage,
    /// Anybody: `tcp://` and `tls://` targets prove no more than their layer.
    Anyone,
}

/// A host name (lower case, no trailing dot) or a literal address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name.
    Name(Arc<str>),
    /// A literal address; no lookup happens.
    Ip(IpAddr),
}

impl Host {
    /// The name, unless it is a literal address.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Ip(_) => None,
        }
    }

    /// `host:port`, with brackets around an IPv6 literal: the form of a CONNECT target (RFC 9110 section 9.3.6).
    #[must_use]
    pub fn authority(&self, port: u16) -> String {
        format!("{self}:{port}")
    }
}

impl fmt::Display for Host {
    /// As in a URL: IPv6 literals in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl FromStr for Host {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let error = |reason| TargetError { input: text.to_owned(), reason };
        if let Some(inner) = text.strip_prefix('[') {
            let inner =
                inner.strip_suffix(']').ok_or_else(|| error("the bracket around the IPv6 address is not closed"))?;
            let ip: Ipv6Addr = inner.parse().map_err(|_| error("what stands in brackets is not an IPv6 address"))?;
            return Ok(Self::Ip(ip.into()));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(error("the host is empty"));
        }
        if name.len() > 253 {
            return Err(error("a host name has at most 253 characters"));
        }
        for label in name.split('.') {
            if label.is_empty() {
                return Err(error("a host name has no empty label (two dots in a row)"));
            }
            if label.len() > 63 {
                return Err(error("a label of a host name has at most 63 characters"));
            }
            if !label.is_ascii() {
                return Err(error("a host name is ASCII: write an international name in its xn-- form (punycode)"));
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Err(error(
                    "a host name has letters, digits, hyphens and dots only (write IPv6 addresses in brackets)",
                ));
            }
        }
        if name.split('.').next_back().is_some_and(|label| label.bytes().all(|b| b.is_ascii_digit())) {
            return Err(error("this is neither an IPv4 address (four numbers from 0 to 255) nor a host name"));
        }
        Ok(Self::Name(name.to_ascii_lowercase().into()))
    }
}

impl Serialize for Host {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'_, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// One endpoint to probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// How far to walk.
    pub scheme: Scheme,
    /// Whom to reach.
    pub host: Host,
    /// On which TCP port, never 0.
    pub port: u16,
    /// Path of the request, starting with `/`, without the query.
    pub path: String,
    /// Who should answer.
    pub expects: Expectation,
    /// The query of a URL with a shared access signature. It leaves the process only inside a verified TLS session to
    /// this host, in a HEAD request, and is never recorded.
    #[serde(skip)]
    pub sas: Option<Secret>,
    /// Start and expiry (`st`, `se`) of the shared access signature, as written: they are not secret, and explain 403s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sas_window: Option<(Option<String>, Option<String>)>,
}

impl Target {
    /// A target without path or signature.
    #[must_use]
    pub fn new(scheme: Scheme, host: Host, port: u16, expects: Expectation) -> Self {
        Self { scheme, host, port, path: "/".into(), expects, sas: None, sas_window: None }
    }

    /// `host:port`: how findings and observations name the target.
    #[must_use]
    pub fn authority(&self) -> String {
        self.host.authority(self.port)
    }

    /// Parses a TARGET that is a URL or a bare host. A bare host means storage on each of `ports`: port 80 by HTTP,
    /// the others by HTTPS.
    ///
    /// # Errors
    /// Says what is wrong and what is allowed; never repeats user information or a query.
    pub fn parse(text: &str, ports: &[u16]) -> Result<Vec<Self>, TargetError> {
        let text = text.trim();
        let shown = without_secrets(text);
        let error = |reason| TargetError { input: shown.clone(), reason };
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.contains(['/', '?', '#', '@', ' ']) {
                return Err(error(
                    "write a bare HOST, or https://HOST[:PORT][/PATH], http://…, tls://HOST:PORT, tcp://HOST:PORT",
                ));
            }
            let bare_v6 = text.parse::<Ipv6Addr>().is_ok();
            if let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !bare_v6 && !host.ends_with(':'))
                && host.starts_with('[') == host.ends_with(']')
            {
                let host: Host = host.parse()?;
                let port = parse_port(port).map_err(error)?;
                return Ok(vec![Self::storage(host, port)]);
            }
            let host: Host = text.parse()?;
            return Ok(ports.iter().map(|&port| Self::storage(host.clone(), port)).collect());
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            "tls" => Scheme::Tls,
            "tcp" => Scheme::Tcp,
            _ => return Err(error("the scheme must be https, http, tls or tcp")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        if authority.contains('@') {
            return Err(error("nothing stands before the host of a target; credentials belong to --proxy"));
        }
        let (host, port) = split_port(authority).map_err(error)?;
        let host: Host = host.parse().map_err(|e: TargetError| error(e.reason))?;
        let port = match (port, scheme) {
            (Some(port), _) => parse_port(port).map_err(error)?,
            (None, Scheme::Https) => 443,
            (None, Scheme::Http) => 80,
            (None, Scheme::Tls | Scheme::Tcp) => return Err(error("tls:// and tcp:// need a port: tcp://HOST:PORT")),
        };
        let tail = tail.split('#').next().unwrap_or_default();
        let (path, query) = tail.split_once('?').map_or((tail, None), |(path, query)| (path, Some(query)));
        let mut target = if scheme.has_http() {
            Self { scheme, ..Self::storage(host, port) }
        } else {
            if !matches!(path, "" | "/") || query.is_some() {
                return Err(error("tls:// and tcp:// take no path"));
            }
            Self::new(scheme, host, port, Expectation::Anyone)
        };
        if !path.is_empty() {
            if !path.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(error("a path has printable ASCII only; percent-encode the rest"));
            }
            path.clone_into(&mut target.path);
        }
        if let Some(query) = query.filter(|query| !query.is_empty()) {
            if !query.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(error("a query has printable ASCII only; percent-encode the rest"));
            }
            let parameter = |name: &str| {
                query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
                    .map(|value| percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
            };
            target.sas_window = parameter("sig").map(|_| (parameter("st"), parameter("se")));
            target.sas = Some(Secret::new(query));
        }
        Ok(vec![target])
    }

    fn storage(host: Host, port: u16) -> Self {
        let scheme = if port == 80 { Scheme::Http } else { Scheme::Https };
        Self::new(scheme, host, port, Expectation::Storage)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)?;
        f.write_str(if self.path == "/" { "" } else { &self.path })
    }
}

/// Splits `host[:port]`; the host keeps the brackets of an IPv6 literal.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), &'static str> {
    if authority.starts_with('[') {
        let close = authority.find(']').ok_or("the bracket around the IPv6 address is not closed")?;
        let (host, rest) = authority.split_at(close + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err("after an IPv6 address in brackets only :PORT may follow"),
        };
    }
    match authority.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Err("write IPv6 addresses in brackets: [2001:db8::1]:443"),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    const REASON: &str = "a port is a number from 1 to 65535";
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(REASON);
    }
    text.parse().ok().filter(|&port| port != 0).ok_or(REASON)
}

/// The input with user information and query cut out, for error messages.
fn without_secrets(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match text.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            if scheme.is_empty() { format!("…@{after}") } else { format!("{scheme}://…@{after}") }
        }
        None => text.to_owned(),
    }
}

/// The input, cut where nobody would read on: a list of targets may be any file.
fn shortened(input: &str) -> Cow<'_, str> {
    const SHOWN: usize = 120;
    match input.char_indices().nth(SHOWN) {
        Some((at, _)) => Cow::Owned(format!("{}…", &input[..at])),
        None => Cow::Borrowed(input),
    }
}

/// A target, host or proxy that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use `{}`: {reason}", shortened(input))]
pub struct TargetError {
    /// What was given, without secrets.
    pub input: String,
    /// What is wrong with it and what is allowed.
    pub reason: &'static str,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Target {
        let mut targets = Target::parse(text, &[80, 443, 8443]).unwrap();
        assert_eq!(targets.len(), 1, "{text}");
        targets.remove(0)
    }

    #[test]
    fn a_bare_host_is_storage_on_every_port() {
        let targets = Target::parse("Acct.blob.core.windows.net.", &[80, 443, 8443]).unwrap();
        let shown: Vec<_> = targets.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "http://acct.blob.core.windows.net:80",
                "https://acct.blob.core.windows.net:443",
                "https://acct.blob.core.windows.net:8443"
            ]
        );
        assert!(targets.iter().all(|t| t.expects == Expectation::Storage));
    }

    #[test]
    fn urls_and_literals() {
        assert_eq!(one("tcp://[::1]:80").authority(), "[::1]:80");
        assert_eq!(one("https://host/a/b").path, "/a/b");
        assert_eq!(one("HTTP://host").port, 80);
        assert_eq!(one("host:8443").to_string(), "https://host:8443");
        assert_eq!(Target::parse("::1", &[443]).unwrap()[0].authority(), "[::1]:443");
    }

    #[test]
    fn a_signature_is_kept_apart_and_its_window_is_not() {
        let target =
            one("https://md-1.blob.core.windows.net/c/b?sv=2020&st=2026-01-01&se=2026-01-02T03%3A00Z&sig=TOPSECRET");
        assert_eq!(target.sas_window, Some((Some("2026-01-01".into()), Some("2026-01-02T03:00Z".into()))));
        assert!(!format!("{target} {target:?} {}", serde_json::to_string(&target).unwrap()).contains("TOPSECRET"));
    }

    #[test]
    fn bad_targets_say_what_is_allowed_and_leak_nothing() {
        for (text, part) in [
            ("", "empty"),
            ("https://", "empty"),
            ("host:0", "1 to 65535"),
            ("tcp://host:65536", "1 to 65535"),
            ("tcp://host:+80", "1 to 65535"),
            ("tcp://host", "need a port"),
            ("ftp://host", "https, http, tls or tcp"),
            ("https://u:TOPSECRET@host/", "nothing stands before the host"),
            ("https://2001:db8::1/", "brackets"),
            ("https://[2001:db8::1/", "not closed"),
            ("a..b", "empty label"),
            ("300.1.1.1", "IPv4"),
            ("host/path", "bare HOST"),
            ("https://h ost/?sig=TOPSECRET", "letters"),
        ] {
            let error = Target::parse(text, &[443]).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("TOPSECRET"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_parses_reparses(text in "\\PC{0,60}") {
            for target in Target::parse(&text, &[443]).unwrap_or_default() {
                let again = Target::parse(&target.to_string(), &[443]).unwrap();
                prop_assert_eq!(again[0].authority(), target.authority());
            }
        }
    }
}
