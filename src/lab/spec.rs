//! What the other parties are and how they behave: the `[lab]` part of a scenario file. Everything has a default, and
//! the defaults are a healthy world.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Deserializer};

use super::fault::{
    conn::Conn,
    proto::{Certificate, DnsFault, Http, ProxyReply, Tls, Tunnel},
    stream::Stream,
};

/// All parties.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabSpec {
    /// By how many seconds the origin's `Date` header is ahead of this machine's clock.
    pub date_skew: i64,
    /// Whether this machine trusts the inspection authority that issues [`Certificate::Intercepted`].
    pub inspection_trusted: bool,
    /// The name server, as the system resolver sees it.
    pub dns: DnsView,
    /// The name server that is asked beside the system resolver, if its view differs.
    pub dns_server: Option<DnsView>,
    /// How the storage origin deviates. Of each kind of fault the first rule that applies wins.
    pub origin: Vec<OriginRule>,
    /// The forward proxy.
    pub proxy: ProxySpec,
    /// The wire server.
    pub host: HostSpec,
}

impl LabSpec {
    /// Finds combinations that parse but mean nothing.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        for rule in &self.origin {
            if let Some(conn) = &rule.conn {
                conn.check(&rule.when).map_err(|e| format!("lab.origin: {e}"))?;
                if !rule.names.is_empty() {
                    return Err(
                        "lab.origin: `names` needs the ClientHello or the request, so it goes with `tls` or `http`, \
                         not with `conn`"
                            .into(),
                    );
                }
            }
            if rule.conn.is_none() && rule.stream.is_none() && rule.tls.is_none() && rule.http.is_none() {
                return Err("lab.origin: a rule needs one of `conn`, `stream`, `tls`, `http`".into());
            }
        }
        if let Some(conn) = &self.proxy.conn {
            conn.check(&self.proxy.when).map_err(|e| format!("lab.proxy: {e}"))?;
        }
        if let Some(elsewhere) = self.proxy.reach.values().find(|socket| !socket.ip().is_loopback()) {
            return Err(format!("lab.proxy.reach: {elsewhere} is not on loopback, which the lab does not leave"));
        }
        for rule in &self.proxy.rules {
            if rule.reply.is_some() == rule.tunnel.is_some() {
                return Err("lab.proxy.rules: a rule has either `reply` or `tunnel`".into());
            }
            if rule.when.after.is_some() {
                return Err("lab.proxy.rules: `after` goes with `conn` only; use `nth`, `first` or `every`".into());
            }
        }
        if let Some(credentials) = [&self.proxy.requires, &self.proxy.credentials]
            .into_iter()
            .flatten()
            .find(|c| !c.contains(':') || c.starts_with(':'))
        {
            let user = credentials.split(':').next().unwrap_or_default();
            return Err(format!("lab.proxy: credentials are written user:password (user `{user}`)"));
        }
        Ok(())
    }
}

/// Which connections a fault meets. Connections are counted from 1 per rule, among those that match the rest of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct When {
    /// Exactly these.
    pub nth: Vec<u32>,
    /// The first n.
    pub first: Option<u32>,
    /// Every n-th.
    pub every: Option<u32>,
    /// All after the first n; for `conn = "refuse"` and `"silent"` the only choice, as the kernel answers SYNs before
    /// the lab sees them.
    pub after: Option<u32>,
}

impl When {
    /// Whether the fault meets every connection.
    #[must_use]
    pub fn always(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the fault meets connection `n`, counted from 1.
    #[must_use]
    pub fn hits(&self, n: u32) -> bool {
        self.always()
            || self.nth.contains(&n)
            || self.first.is_some_and(|first| n <= first)
            || self.every.is_some_and(|every| every != 0 && n.is_multiple_of(every))
            || self.after.is_some_and(|after| n > after)
    }
}

/// Over which way a connection reached the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Straight from the client.
    Direct,
    /// Out of the lab's proxy.
    Proxy,
}

/// A deviation of the origin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OriginRule {
    /// Only at these logical addresses; empty: all.
    pub addresses: Vec<IpAddr>,
    /// Only on these logical ports; empty: all.
    pub ports: Vec<u16>,
    /// Only for connections that came this way.
    pub way: Option<Way>,
    /// Only for these names (server name of TLS, `Host` of HTTP); `*.suffix` matches any name below the suffix.
    pub names: Vec<String>,
    /// Only for some connections.
    pub when: When,
    /// A fault of the connection.
    pub conn: Option<Conn>,
    /// A fault of the byte stream that the origin sends.
    pub stream: Option<Stream>,
    /// A fault of the TLS handshake.
    pub tls: Option<Tls>,
    /// Another answer to the HTTP request.
    pub http: Option<Http>,
}

/// One view of the name system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DnsView {
    /// What is wrong with the name server as such.
    pub fault: Option<DnsFault>,
    /// Names that differ from the healthy world.
    pub names: Vec<NameSpec>,
}

/// What a name server says about one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NameSpec {
    /// The name; `*` is every name that no other entry covers.
    pub name: String,
    /// The CNAME chain below it, in order.
    pub aliases: Vec<String>,
    /// IPv4 addresses at the end of the chain. The origin answers at each, unless it is loopback, unspecified or
    /// documentation.
    pub a: Vec<Ipv4Addr>,
    /// IPv6 addresses at the end of the chain, likewise.
    pub aaaa: Vec<Ipv6Addr>,
    /// Time to live in seconds; default 60.
    pub ttl: Option<u32>,
    /// Response code by number (RFC 6895): 2 SERVFAIL, 3 NXDOMAIN, 4 NOTIMP, 5 REFUSED. Default 0, NOERROR.
    pub rcode: u16,
    /// Extended DNS error (RFC 8914).
    pub ede: Option<Ede>,
    /// Whether questions about it stay unanswered.
    pub silent: bool,
}

/// An extended DNS error (RFC 8914).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ede {
    /// The info code.
    pub code: u16,
    /// The extra text.
    #[serde(default)]
    pub text: String,
}

/// The forward proxy. By default it tunnels to every host and port of the lab, and speaks as squid 5.7 does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxySpec {
    /// Whether its port speaks TLS.
    pub tls: bool,
    /// Whether the client is told that it speaks TLS; default: the truth.
    pub announced_tls: Option<bool>,
    /// Its certificate, with `tls`.
    pub certificate: Certificate,
    /// `user:password` that it demands (Basic).
    pub requires: Option<String>,
    /// How it says that credentials are missing or wrong.
    pub login: Login,
    /// `user:password` that the client is given; default: what it demands.
    pub credentials: Option<String>,
    /// Whether the client is given no credentials even if the proxy demands some.
    pub no_credentials: bool,
    /// A fault of its connections.
    pub conn: Option<Conn>,
    /// Which connections `conn` meets.
    pub when: When,
    /// A fault of the bytes it sends, from the CONNECT answer on.
    pub stream: Option<Stream>,
    /// Whether it answers 200 before it has reached the origin.
    pub optimistic: bool,
    /// Addresses that it reaches beside those of the lab, each with the socket on loopback that plays it.
    pub reach: BTreeMap<SocketAddr, SocketAddr>,
    /// Deviations by target. The first that matches wins.
    pub rules: Vec<ProxyRule>,
}

/// How the proxy asks for credentials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// 407 with `Proxy-Authenticate: Basic`, as squid.
    #[default]
    Squid,
    /// 407 when none came, 401 when they are wrong, as tinyproxy.
    Tinyproxy,
    /// 407 without `Proxy-Authenticate`.
    Bare,
}

/// What the proxy does with some CONNECT requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyRule {
    /// Only for these hosts; `*.suffix` matches any name below the suffix; empty: all.
    pub hosts: Vec<String>,
    /// Only for these ports; empty: all.
    pub ports: Vec<u16>,
    /// Only for some requests.
    pub when: When,
    /// An answer instead of a tunnel.
    pub reply: Option<ProxyReply>,
    /// A tunnel that does not work as it should.
    pub tunnel: Option<Tunnel>,
}

/// The wire server, the host's side of the platform.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostSpec {
    /// What it does.
    pub answer: HostAnswer,
}

/// What answers at the wire server's address.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostAnswer {
    /// The wire server.
    #[default]
    Ok,
    /// Nobody: SYNs stay unanswered.
    Silent,
    /// Nobody: SYNs are refused.
    Refuse,
    /// A web server that is no wire server.
    Other,
    /// The wire server's answer with a `Via` header: it came through a proxy.
    Via,
}

/// Whether a pattern (`*`, `*.suffix` or a whole name) covers a name. Case does not count.
pub(super) fn covers(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => name.ends_with(suffix),
        None => pattern == name,
    }
}

/// Reads a duration as the command line writes it: `250ms`, `10s`, `2m`.
pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
    parse_duration(&text).ok_or_else(|| {
        serde::de::Error::custom(format!("`{text}` is no duration; write a whole number and a unit: 250ms, 10s, 2m"))
    })
}

#[cfg(feature = "scenario")]
/// [`duration`] for a key that may be absent.
pub(crate) fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_spec_is_the_healthy_world() {
        let spec: LabSpec = toml::from_str("").unwrap();
        assert_eq!(spec, LabSpec::default());
        assert_eq!(spec.check(), Ok(()));
    }

    #[test]
    fn when_counts_from_one() {
        let hits = |when: &When| (1..=6).filter(|&n| when.hits(n)).collect::<Vec<_>>();
        assert_eq!(hits(&When::default()), [1, 2, 3, 4, 5, 6]);
        assert_eq!(hits(&When { nth: vec![2, 5], ..When::default() }), [2, 5]);
        assert_eq!(hits(&When { first: Some(2), ..When::default() }), [1, 2]);
        assert_eq!(hits(&When { every: Some(3), ..When::default() }), [3, 6]);
        assert_eq!(hits(&When { after: Some(4), ..When::default() }), [5, 6]);
        assert_eq!(hits(&When { every: Some(0), ..When::default() }), [0; 0]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (text, part) in [
            ("[[origin]]\nports = [443]", "needs one of"),
            ("[[origin]]\nconn = 'silent'\nwhen = { nth = [2] }", "`after`"),
            ("[[origin]]\nconn = 'reset'\nnames = ['*.example']", "ClientHello"),
            ("[[proxy.rules]]\nports = [443]", "either"),
            ("[proxy]\nrequires = 'nocolon'", "user:password"),
        ] {
            let error = toml::from_str::<LabSpec>(text).unwrap().check().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn durations_are_written_as_on_the_command_line() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
        for bad in ["", "5", "ms", "1h", "-1s", "99999999999999999999s", "1 s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn patterns_cover_names_below_a_suffix() {
        assert!(covers("*.blob.core.windows.net", "Acct.blob.core.windows.net"));
        assert!(!covers("*.blob.core.windows.net", "blob.core.windows.net"));
        assert!(covers("*", "x"));
        assert!(!covers("acct", "acct2"));
    }
}
