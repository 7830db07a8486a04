//! What the other parties are and how they deviate: the `[lab]` and `[[fault]]` parts of a scenario file. Everything has
//! a default, and the defaults are a healthy world.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Deserializer};

use super::{
    fault::{
        conn::Conn,
        network::{Connect, Path},
        proto::{Certificate, DnsFault, Http, ProxyReply, Tls, Tunnel},
        stream::{Direction, Stream},
    },
    machine::MachineSpec,
    quirk::{MaxTunnels, Quirk},
};

/// All parties.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LabSpec {
    /// By how many seconds the origin's `Date` header is ahead of this machine's clock.
    pub date_skew: i64,
    /// Whether this machine trusts the inspection authority that issues the `intercepted` certificate.
    pub inspection_trusted: bool,
    /// Where the draws of faults with a `ratio` begin. The same seed gives the same draws; default 1.
    pub seed: Option<u64>,
    /// The name server, as the system resolver sees it.
    pub dns: DnsView,
    /// The name server that is asked beside the system resolver, if its view differs.
    pub dns_server: Option<DnsView>,
    /// The forward proxy.
    pub proxy: ProxySpec,
    /// The wire server and instance metadata.
    pub host: HostSpec,
    /// The machine that probes: its files and variables.
    pub machine: MachineSpec,
    /// How the parties deviate. Of each kind of fault the first that applies wins; only pauses and throttles add up.
    #[serde(skip)]
    pub faults: Vec<Fault>,
    /// Storage names beside the healthy ones: those of a machine whose files were given. They lead to the origin, and its
    /// certificate covers them.
    #[serde(skip)]
    pub storage: Vec<String>,
}

impl LabSpec {
    /// Where draws begin.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(1)
    }

    /// Finds combinations that parse but mean nothing.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        if let Some(elsewhere) = self.proxy.reach.values().find(|socket| !socket.ip().is_loopback()) {
            return Err(format!("lab.proxy.reach: {elsewhere} is not on loopback, which the lab does not leave"));
        }
        let logins = [&self.proxy.requires, &self.proxy.credentials];
        if let Some(bad) = logins.into_iter().flatten().find(|c| !c.contains(':') || c.starts_with(':')) {
            let user = bad.split(':').next().unwrap_or_default();
            return Err(format!("lab.proxy: credentials are written user:password (user `{user}`)"));
        }
        self.machine.check()?;
        self.faults.iter().try_for_each(Fault::check)
    }
}

/// One deviation from the healthy world: whose it is, whom it meets, when, and what it is (exactly one of `conn`,
/// `stream`, `tls`, `http`, `reply`, `tunnel`, `dns`, `connect`, `path`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which party deviates.
    pub at: Party,
    /// Only for these names (server name of TLS, `Host` of HTTP, host of CONNECT, name of a question); `*.suffix` matches
    /// any name below the suffix; empty: all.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Only on these logical ports; empty: all.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// Only at these logical addresses (at `network` also of the wire server and instance metadata); empty: all.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// Only for connections that reach the origin this way.
    #[serde(default)]
    pub way: Option<Way>,
    /// Only for some connections, requests or questions, or from some byte on.
    #[serde(default)]
    pub when: When,
    /// Which bytes a `stream` fault meets; default `to_client`.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// A fault of the connection.
    #[serde(default)]
    pub conn: Option<Conn>,
    /// A fault of the byte stream.
    #[serde(default)]
    pub stream: Option<Stream>,
    /// A fault of the TLS handshake.
    #[serde(default)]
    pub tls: Option<Tls>,
    /// Another answer to the HTTP request.
    #[serde(default)]
    pub http: Option<Http>,
    /// The proxy's answer instead of a tunnel.
    #[serde(default)]
    pub reply: Option<ProxyReply>,
    /// A tunnel that does not work as it should.
    #[serde(default)]
    pub tunnel: Option<Tunnel>,
    /// A fault of the name server.
    #[serde(default)]
    pub dns: Option<DnsFault>,
    /// A connect that this machine's kernel refuses.
    #[serde(default)]
    pub connect: Option<Connect>,
    /// The routers on the way.
    #[serde(default)]
    pub path: Option<Path>,
}

/// Who deviates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// Storage, or whatever stands in front of it.
    Origin,
    /// The forward proxy, on its own connections.
    Proxy,
    /// The forward proxy, between its 200 and the end of the tunnel.
    Tunnel,
    /// The name server of the system's view.
    Dns,
    /// The name server asked beside it.
    DnsServer,
    /// This machine's kernel and the routers on its ways: to the origin and to the host, not to the proxy.
    Network,
}

impl Party {
    /// The kinds of fault that it can show.
    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Origin => &["conn", "stream", "tls", "http"],
            Self::Proxy => &["conn", "stream", "reply"],
            Self::Tunnel => &["stream", "tunnel"],
            Self::Dns | Self::DnsServer => &["dns"],
            Self::Network => &["connect", "path"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Proxy => "proxy",
            Self::Tunnel => "tunnel",
            Self::Dns => "dns",
            Self::DnsServer => "dns_server",
            Self::Network => "network",
        }
    }
}

impl Fault {
    /// Finds combinations that parse but mean nothing.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        let at = self.at.name();
        let allowed = self.at.kinds();
        let kind = match self.kinds().as_slice() {
            [kind] if allowed.contains(kind) => *kind,
            [kind] => return Err(format!("`{kind}` is no fault of `{at}`, which takes {}", listed(allowed))),
            _ => return Err(format!("a fault at `{at}` needs exactly one of {}", listed(allowed))),
        };
        let early = matches!((self.at, kind), (Party::Origin | Party::Proxy, "conn" | "stream"));
        if early && !self.hosts.is_empty() {
            return Err(format!("`{kind}` comes before any name is spoken, so `hosts` does not go with it"));
        }
        if self.at == Party::Proxy && early && !self.ports.is_empty() {
            return Err(format!("`{kind}` at `proxy` comes before any CONNECT, so `ports` does not go with it"));
        }
        let has_addresses = matches!(self.at, Party::Origin | Party::Network);
        if !has_addresses && !self.addresses.is_empty() || self.at != Party::Origin && self.way.is_some() {
            return Err("`way` goes with `at = \"origin\"` only, `addresses` also with `at = \"network\"`".into());
        }
        if self.at == Party::Network && !self.when.always() {
            return Err("the network treats every connect alike: no `when`".into());
        }
        if kind == "dns" && !self.ports.is_empty() {
            return Err("`ports` means nothing to a name server".into());
        }
        if kind != "stream" && (self.direction.is_some() || self.when.after_bytes.is_some()) {
            return Err("`direction` and `after_bytes` go with `stream` only".into());
        }
        if let Some(stream) = self.stream.as_ref().filter(|stream| stream.is_pace())
            && self.when.after_bytes.is_some()
        {
            return Err(format!("{stream:?} concerns every byte, so `after_bytes` does not go with it"));
        }
        if let Some(dns) = self.dns
            && dns.is_whole_server()
            && (!self.hosts.is_empty() || !self.when.always())
        {
            return Err("`closed` and `garbage` concern the whole name server: neither `hosts` nor `when`".into());
        }
        self.when.check()?;
        self.conn.map_or(Ok(()), |conn| conn.check(&self.when))
    }

    /// How long the whole party stalls.
    pub(super) fn stall(&self) -> Option<Duration> {
        match self.http {
            Some(Http::Stall(by)) => Some(by),
            _ => None,
        }
    }

    /// The kinds that are set.
    fn kinds(&self) -> Vec<&'static str> {
        [
            ("conn", self.conn.is_some()),
            ("stream", self.stream.is_some()),
            ("tls", self.tls.is_some()),
            ("http", self.http.is_some()),
            ("reply", self.reply.is_some()),
            ("tunnel", self.tunnel.is_some()),
            ("dns", self.dns.is_some()),
            ("connect", self.connect.is_some()),
            ("path", self.path.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect()
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Which connections a fault meets (for `reply` and `tunnel`: CONNECT requests; for `http = { stall }`: requests; for
/// `dns`: questions, of which a lookup asks two, A and AAAA). They are counted from 1 per fault, among those that match the rest of it. Several keys add up; none means all.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
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
    /// This share of them, from 0 to 1, drawn from the lab's seed: the same seed gives the same draws.
    pub ratio: Option<f64>,
    /// From this byte of the stream on; default 0.
    pub after_bytes: Option<u64>,
}

impl When {
    /// Whether the fault meets every connection.
    #[must_use]
    pub fn always(&self) -> bool {
        *self == Self { after_bytes: self.after_bytes, ..Self::default() }
    }

    /// Whether the fault meets connection `n`, counted from 1. The seed should differ from fault to fault.
    #[must_use]
    pub fn hits(&self, n: u32, seed: u64) -> bool {
        self.always()
            || self.nth.contains(&n)
            || self.first.is_some_and(|first| n <= first)
            || self.every.is_some_and(|every| every != 0 && n.is_multiple_of(every))
            || self.after.is_some_and(|after| n > after)
            || self.ratio.is_some_and(|ratio| draw(seed, n) < ratio)
    }

    fn check(&self) -> Result<(), String> {
        if self.ratio.is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
            return Err("`ratio` is a share from 0 to 1".into());
        }
        if self.every == Some(0) || self.nth.contains(&0) {
            return Err("connections are counted from 1: `every` and `nth` take no 0".into());
        }
        Ok(())
    }
}

/// A number from 0 to 1 that depends on nothing else. `SplitMix64`: a generator of a library would give other draws with
/// its next version, and a scenario must be repeatable.
fn draw(seed: u64, n: u32) -> f64 {
    let mut z = seed.wrapping_add(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let top = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(top) / (f64::from(u32::MAX) + 1.0)
}

/// Over which way a connection reached the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// Straight from the client.
    Direct,
    /// Out of the lab's proxy.
    Proxy,
}

/// One view of the name system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DnsView {
    /// Names that differ from the healthy world.
    pub names: Vec<NameSpec>,
}

/// What a name server says about one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a key of the scenario file")]
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
    /// Whether it answers 200 before it has reached the origin.
    pub optimistic: bool,
    /// Addresses that it reaches beside those of the lab, each with the socket on loopback that plays it.
    pub reach: BTreeMap<SocketAddr, SocketAddr>,
    /// Whether it reaches loopback addresses as they are.
    pub reach_loopback: bool,
    /// Whether it tells in `Proxy-Status` (RFC 9209) why it does not reach an origin; squid 5.7 tells no unknown name.
    pub proxy_status: bool,
    /// The only ports to which it takes CONNECT; default: all.
    pub ports: Option<Vec<u16>>,
    /// How many tunnels it has at once; default: as many as are wanted.
    pub max_tunnels: Option<MaxTunnels>,
    /// How much later than it could it reaches an origin.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(feature = "scenario", schemars(with = "String"))]
    pub connect_delay: Duration,
    /// In what it is bad.
    pub quirks: Vec<Quirk>,
}

impl ProxySpec {
    pub(super) fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }
}

/// How the proxy asks for credentials.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
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

/// The host's side of the platform: the wire server and instance metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct HostSpec {
    /// What the wire server does.
    pub answer: HostAnswer,
    /// Instance metadata.
    pub metadata: MetadataSpec,
}

/// Instance metadata. By default it describes a Linux machine in `westeurope` with a managed OS disk and a data disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MetadataSpec {
    /// What it does.
    pub answer: HostAnswer,
    /// What differs from the default machine, as in its JSON: `compute = { location = "northeurope" }`. Tables are merged,
    /// everything else replaces. All values of metadata are text.
    pub instance: serde_json::Map<String, serde_json::Value>,
}

/// What answers at an address of the host's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum HostAnswer {
    /// The service itself.
    #[default]
    Ok,
    /// Nobody: SYNs stay unanswered.
    Silent,
    /// Nobody: SYNs are refused.
    Refuse,
    /// A web server that is not the service.
    Other,
    /// The service's answer with a `Via` header: it came through a proxy.
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
        let hits = |when: &When| (1..=6).filter(|&n| when.hits(n, 1)).collect::<Vec<_>>();
        assert_eq!(hits(&When::default()), [1, 2, 3, 4, 5, 6]);
        assert_eq!(hits(&When { after_bytes: Some(7), ..When::default() }), [1, 2, 3, 4, 5, 6]);
        assert_eq!(hits(&When { nth: vec![2, 5], ..When::default() }), [2, 5]);
        assert_eq!(hits(&When { first: Some(2), ..When::default() }), [1, 2]);
        assert_eq!(hits(&When { every: Some(3), ..When::default() }), [3, 6]);
        assert_eq!(hits(&When { after: Some(4), ..When::default() }), [5, 6]);
        assert_eq!(hits(&When { every: Some(0), ..When::default() }), [0; 0]);
    }

    #[test]
    fn a_ratio_is_met_and_a_seed_repeats_it() {
        let when = When { ratio: Some(0.25), ..When::default() };
        let hits = |seed| (1..=10_000).filter(|&n| when.hits(n, seed)).collect::<Vec<_>>();
        assert_eq!(hits(7), hits(7));
        assert_ne!(hits(7), hits(8));
        for seed in 0..20 {
            assert!((2300..2700).contains(&hits(seed).len()), "{seed}: {}", hits(seed).len());
        }
        let never = When { ratio: Some(0.0), ..When::default() };
        let all = When { ratio: Some(1.0), ..When::default() };
        assert!((1..=1000).all(|n| all.hits(n, 3) && !never.hits(n, 3)));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (text, part) in [
            ("at = 'origin'\nports = [443]", "exactly one of `conn`, `stream`, `tls`, `http`"),
            ("at = 'origin'\ntls = 'reset'\nconn = 'reset'", "exactly one"),
            ("at = 'origin'\nreply = 'mute'", "no fault of `origin`"),
            ("at = 'dns'\nconn = 'reset'", "which takes `dns`"),
            ("at = 'origin'\nconn = 'silent'\nwhen = { nth = [2] }", "`after`"),
            ("at = 'origin'\nconn = 'reset'\nhosts = ['*.example']", "before any name"),
            ("at = 'proxy'\nstream = 'cut'\nports = [443]", "before any CONNECT"),
            ("at = 'proxy'\nreply = 'mute'\nway = 'direct'", "`at = \"origin\"` only"),
            ("at = 'proxy'\nreply = 'mute'\naddresses = ['10.0.0.1']", "`at = \"network\"`"),
            ("at = 'network'\nconnect = { errno = 'EPERM' }\nwhen = { first = 1 }", "no `when`"),
            ("at = 'origin'\ntls = 'reset'\ndirection = 'to_client'", "`stream` only"),
            ("at = 'origin'\nstream = { delay = '1s' }\nwhen = { after_bytes = 3 }", "every byte"),
            ("at = 'origin'\nstream = { throttle = '3%' }\nwhen = { after_bytes = 3 }", "every byte"),
            ("at = 'dns'\ndns = 'garbage'\nhosts = ['a']", "whole name server"),
            ("at = 'origin'\ntls = 'reset'\nwhen = { ratio = 1.5 }", "from 0 to 1"),
            ("at = 'origin'\ntls = 'reset'\nwhen = { nth = [0] }", "from 1"),
        ] {
            let error = toml::from_str::<Fault>(text).unwrap().check().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let spec: LabSpec = toml::from_str("[proxy]\nrequires = 'nocolon'").unwrap();
        assert!(spec.check().unwrap_err().contains("user:password"));
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
