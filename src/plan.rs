//! What a run will do: targets x routes x options. Pure data, made by the command line or a scenario, walked by the
//! engine.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use percent_encoding::percent_decode_str;

use crate::{
    exchange::Exchange,
    model::{Context, Expectation, Host, HostService, IcmpError, Redactor, Route, Scheme, Secret, Target, TargetError},
};

/// Everything the engine needs to know.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What to probe, without duplicates.
    pub targets: Vec<Target>,
    /// What to try with `tcp://` targets, which are then origins of snapreach's own, in place of a mere connect.
    pub exchanges: Vec<Exchange>,
    /// Which ways to go.
    pub routes: Vec<Route>,
    /// The proxy of [`Route::Proxy`].
    pub proxy: Option<Proxy>,
    /// Budgets and limits.
    pub budgets: Budgets,
    /// Where connections start and which addresses count.
    pub source: Source,
    /// Whom to ask for addresses.
    pub dns: Dns,
    /// Which connections go elsewhere than their name says.
    pub dial: DialMap,
    /// The host channel, if it is to be probed too.
    pub host: Option<HostChannel>,
    /// Which certificate authorities count.
    pub trust: Trust,
    /// Whether the engine may add probes that tell two causes apart.
    pub controls: bool,
    /// Whether failed connects are followed hop by hop (`--trace`).
    pub trace: bool,
    /// What the record says beside the observations; the engine adds notes to it.
    pub context: Context,
}

impl Plan {
    /// A redactor that knows every secret of this plan.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        let mut redactor = Redactor::new();
        if let Some(credentials) = self.proxy.as_ref().and_then(|proxy| proxy.credentials.as_ref()) {
            redactor.add_basic(&credentials.user, &credentials.password);
        }
        for query in self.targets.iter().filter_map(|target| target.sas.as_ref()) {
            redactor.add(query);
            for value in query.expose().split('&').filter_map(|pair| pair.strip_prefix("sig=")) {
                redactor.add(&Secret::new(value));
            }
        }
        redactor
    }
}

/// An HTTP proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Whether the connection to the proxy itself is TLS (`https://`).
    pub tls: bool,
    /// Its host.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// User name and password for Basic authentication.
    pub credentials: Option<Credentials>,
}

/// User name and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User name, percent-decoded.
    pub user: String,
    /// Password, percent-decoded.
    pub password: Secret,
}

impl Proxy {
    /// `scheme://host:port`, without credentials.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.host.authority(self.port))
    }
}

impl FromStr for Proxy {
    type Err = TargetError;

    /// Parses `http://[user:password@]host:port` or `https://…`.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let text = text.trim();
        // Before the scheme is known nothing is safe to show: the whole text may be a password with an @ in it.
        let shown = text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("…@{host}"));
        let shown = shown.split(['?', '#']).next().unwrap_or_default().to_owned();
        let error = |reason| TargetError { input: shown.clone(), reason };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            error("a proxy is written http://HOST:PORT or https://HOST:PORT, user:password@ before the host allowed")
        })?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(error("the scheme of a proxy must be http or https (SOCKS is not supported)")),
        };
        let (user_info, authority) = match rest.rsplit_once('@') {
            Some((user_info, authority)) => (Some(user_info), authority),
            None => (None, rest),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains(['/', '?', '#']) {
            return Err(error("a proxy has no path: http://HOST:PORT"));
        }
        let colon =
            if authority.starts_with('[') { authority.rfind("]:").map(|at| at + 1) } else { authority.find(':') };
        let Some(colon) = colon else {
            return Err(error("a proxy needs a port: http://HOST:PORT"));
        };
        let (host, port) = (&authority[..colon], &authority[colon + 1..]);
        if host.is_empty() {
            return Err(error("the proxy has no host: http://HOST:PORT"));
        }
        let host: Host = host.parse().map_err(|e: TargetError| error(e.reason))?;
        let port = Some(port)
            .filter(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|port| port.parse().ok())
            .filter(|&port: &u16| port != 0)
            .ok_or_else(|| error("the port of a proxy is a number from 1 to 65535"))?;
        let credentials = user_info
            .map(|user_info| {
                let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
                let decode = |text| percent_decode_str(text).decode_utf8().map(std::borrow::Cow::into_owned);
                match (decode(user), decode(password)) {
                    (Ok(user), Ok(password)) if !user.contains(':') => {
                        Ok(Credentials { user, password: Secret::new(password) })
                    }
                    _ => Err(error("user name and password must be UTF-8, percent-encoded where needed, without a colon in the name")),
                }
            })
            .transpose()?;
        Ok(Self { tls, host, port, credentials })
    }
}

/// Where the host channel is: how Azure's host talks to its virtual machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostChannel {
    /// The wire server, asked for its protocol versions.
    pub wire_server: SocketAddr,
    /// The host plugin, asked for its health.
    pub host_plugin: SocketAddr,
    /// Instance metadata, asked for its versions; `None`: left out.
    pub metadata: Option<SocketAddr>,
}

impl HostChannel {
    /// The port of the host plugin.
    const PLUGIN_PORT: u16 = 32526;

    /// Azure's wire server, the same in every region and cloud ("What is IP address 168.63.129.16").
    pub const WIRE_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)), 80);

    /// Azure's instance metadata, likewise ("Azure Instance Metadata Service").
    pub const METADATA: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);

    /// The channel with the wire server there, and the host plugin on its own port of the same address. Instance metadata
    /// belongs to it where that is Azure's own; elsewhere it has to be named.
    #[must_use]
    pub fn at(wire_server: SocketAddr) -> Self {
        let host_plugin = SocketAddr::new(wire_server.ip(), Self::PLUGIN_PORT);
        let metadata = (wire_server == Self::WIRE_SERVER).then_some(Self::METADATA);
        Self { wire_server, host_plugin, metadata }
    }

    /// The same with instance metadata there.
    #[must_use]
    pub fn with_metadata(self, metadata: SocketAddr) -> Self {
        Self { metadata: Some(metadata), ..self }
    }

    /// What to ask each service. All are harmless. The first two are what the Linux agent itself asks (`VERSION_INFO_URI`
    /// of its `wire.py`, `URI_FORMAT_HEALTH` of its `hostplugin.py`); the third, unlike most that metadata could be asked,
    /// is answered with nothing that is the machine's own.
    #[must_use]
    pub fn questions(&self) -> Vec<(HostService, Target)> {
        let own = [
            (HostService::WireServer, self.wire_server, "/?comp=versions"),
            (HostService::HostPlugin, self.host_plugin, "/health"),
        ];
        let metadata = self.metadata.map(|at| (HostService::InstanceMetadata, at, "/metadata/versions"));
        own.into_iter()
            .chain(metadata)
            .map(|(service, at, path)| {
                let target = Target::new(Scheme::Http, Host::Ip(at.ip()), at.port(), Expectation::Anyone);
                (service, Target { path: path.into(), ..target })
            })
            .collect()
    }
}

impl Default for HostChannel {
    /// Azure's.
    fn default() -> Self {
        Self::at(Self::WIRE_SERVER)
    }
}

/// Budgets and limits of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budgets {
    /// For one TCP connect.
    pub connect: Duration,
    /// For every other layer.
    pub layer: Duration,
    /// For the whole run.
    pub deadline: Duration,
    /// Attempts per target, address and route; at least 1.
    pub attempts: u16,
    /// Walks in flight at once; the engine lowers it to what the file descriptor limit allows.
    pub concurrency: usize,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            layer: Duration::from_secs(10),
            deadline: Duration::from_secs(60),
            attempts: 3,
            concurrency: 256,
        }
    }
}

/// Where connections start, and which address families count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// `-4` or `-6`: only this family.
    pub family: Option<Family>,
    /// Source address.
    pub bind: Option<IpAddr>,
    /// Network interface (Linux: `SO_BINDTODEVICE`).
    pub interface: Option<String>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Whom to ask for addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Where the system's view comes from.
    pub system: SystemResolver,
    /// The name server to ask beside it: given, configured, or none.
    pub server: NameServer,
    /// Names, lower case, that the hosts file pins. getaddrinfo finds them there by itself; a stub is not asked for them.
    pub pinned: HashMap<String, Pinned>,
}

/// Where the hosts file is (hosts(5)).
pub const HOSTS_FILE: &str = "/etc/hosts";

/// What the hosts file says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// Its addresses, in order.
    pub addresses: Vec<IpAddr>,
    /// The line of the first one.
    pub line: usize,
}

/// Where the system's view of names comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SystemResolver {
    /// getaddrinfo.
    #[default]
    Os,
    /// A stub that asks this server: the lab's stand-in for getaddrinfo, so that no real resolver is touched.
    Stub(SocketAddr),
}

/// The name server to ask beside the system resolver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NameServer {
    /// The first one configured on this machine.
    #[default]
    Configured,
    /// This one (`--dns-server`).
    Given(SocketAddr),
    /// None.
    Off,
}

/// Which connections go elsewhere than their name or address says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DialMap {
    /// `--connect-to`: a host (`None`: any) and port (`None`: any) is dialled here, without a lookup. First match wins.
    pub hosts: Vec<(Option<Host>, Option<u16>, SocketAddr)>,
    /// Addresses that another party plays (the lab).
    pub addresses: HashMap<SocketAddr, SocketAddr>,
    /// Where every other address outside this machine leads; set by the lab, so that nothing leaves the machine.
    pub otherwise: Option<SocketAddr>,
    /// What becomes of SYNs to these addresses before they get anywhere (the lab).
    pub played: HashMap<SocketAddr, Played>,
}

/// What this machine's kernel and the routers on the way do with a SYN: what no party on loopback can show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Played {
    /// The routers that it passes, nearest first. One that may go no further is told so by the router it reached.
    pub routers: Vec<IpAddr>,
    /// How it fails behind them; `None`: it arrives where the address leads.
    pub failure: Option<PlayedFailure>,
}

/// How the kernel reports that a connect failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlayedFailure {
    /// The error number, as on this system.
    pub errno: i32,
    /// The ICMP error that caused it.
    pub icmp: Option<IcmpError>,
}

impl DialMap {
    /// The address for a host without a lookup, if the map names one.
    #[must_use]
    pub fn for_host(&self, host: &Host, port: u16) -> Option<SocketAddr> {
        self.hosts
            .iter()
            .find(|(h, p, _)| h.as_ref().is_none_or(|h| h == host) && p.is_none_or(|p| p == port))
            .map(|&(_, _, to)| to)
    }

    /// The address to dial in place of `planned`.
    #[must_use]
    pub fn for_address(&self, planned: SocketAddr) -> SocketAddr {
        match self.addresses.get(&planned) {
            Some(&played) => played,
            None if planned.ip().is_loopback() => planned,
            None => self.otherwise.unwrap_or(planned),
        }
    }
}

/// Which certificate authorities count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Whether the system's store counts.
    pub system: bool,
    /// Additional anchors, DER (`--ca-file`).
    pub added: Vec<Vec<u8>>,
    /// The lab's own authority, DER, which stands for a public one.
    pub lab: Vec<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn proxies_with_and_without_credentials() {
        let proxy: Proxy = "https://svc:p%40ss:w@[2001:db8::1]:3129/".parse().unwrap();
        assert_eq!(proxy.url(), "https://[2001:db8::1]:3129");
        let credentials = proxy.credentials.unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.expose()), ("svc", "p@ss:w"));
    }

    #[test]
    fn bad_proxies_say_what_is_allowed_and_leak_nothing() {
        for (text, part) in [
            ("http://:3128", "no host"),
            ("http://proxy", "needs a port"),
            ("http://u:TOPSECRET@proxy", "needs a port"),
            ("http://u:TOPSECRET@proxy:0", "1 to 65535"),
            ("http://u:TOP@SECRET@pro xy:1", "letters"),
            ("http://u:TOP/SECRET@proxy:1/path", "no path"),
            ("socks5://proxy:1080", "http or https"),
            ("proxy:3128", "http://HOST:PORT"),
            ("u:TOPSECRET@proxy:3128", "http://HOST:PORT"),
        ] {
            let error = text.parse::<Proxy>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("SECRET") && !error.contains("TOP"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<Proxy>();
        }
    }
}
