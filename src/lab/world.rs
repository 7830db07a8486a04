//! The data that all parties share.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rustls::ServerConfig;

use super::{
    fault::proto::Certificate,
    log::Log,
    pki::Pki,
    spec::{LabSpec, NameSpec, OriginRule, ProxyRule, Way, covers},
    zone::Zone,
};

/// Where a party can be reached: a logical address and the way that leads there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    pub(super) by_proxy: bool,
}

impl Door {
    fn way(self) -> Way {
        if self.by_proxy { Way::Proxy } else { Way::Direct }
    }
}

/// Everything that is fixed once the lab runs, and the counters.
pub(super) struct World {
    pub(super) spec: LabSpec,
    pub(super) log: Log,
    pub(super) tls: TlsConfigs,
    /// The name system as the proxy sees it.
    pub(super) zone: Zone,
    /// The doors that only the proxy uses.
    pub(super) behind_proxy: HashMap<SocketAddr, SocketAddr>,
    /// How long the proxy waits for an origin.
    pub(super) proxy_patience: Duration,
    origin_counts: Vec<AtomicU32>,
    proxy_counts: Vec<AtomicU32>,
    proxy_connections: AtomicU32,
}

impl World {
    pub(super) fn new(
        spec: LabSpec,
        log: Log,
        tls: TlsConfigs,
        zone: Zone,
        behind_proxy: HashMap<SocketAddr, SocketAddr>,
    ) -> Self {
        let counters = |n: usize| (0..n).map(|_| AtomicU32::new(0)).collect();
        Self {
            origin_counts: counters(spec.origin.len()),
            proxy_counts: counters(spec.proxy.rules.len()),
            proxy_connections: AtomicU32::new(0),
            // Shorter than a scenario's own patience, so that the proxy is the one that reports.
            proxy_patience: Duration::from_millis(300),
            spec,
            log,
            tls,
            zone,
            behind_proxy,
        }
    }

    /// The rules that meet a new connection at this door.
    pub(super) fn origin_rules(&self, door: Door) -> Vec<&OriginRule> {
        let rules = self.spec.origin.iter().zip(&self.origin_counts);
        rules
            .filter(|(rule, count)| {
                concerns(rule, door) && rule.when.hits(count.fetch_add(1, Ordering::Relaxed).wrapping_add(1))
            })
            .map(|(rule, _)| rule)
            .collect()
    }

    /// The rule that meets this CONNECT request.
    pub(super) fn proxy_rule(&self, host: &str, port: u16) -> Option<&ProxyRule> {
        let rules = self.spec.proxy.rules.iter().zip(&self.proxy_counts);
        rules
            .filter(|(rule, _)| {
                (rule.ports.is_empty() || rule.ports.contains(&port))
                    && (rule.hosts.is_empty() || rule.hosts.iter().any(|pattern| covers(pattern, host)))
            })
            .find(|(rule, count)| rule.when.hits(count.fetch_add(1, Ordering::Relaxed).wrapping_add(1)))
            .map(|(rule, _)| rule)
    }

    /// The number of a new connection to the proxy, from 1.
    pub(super) fn next_proxy_connection(&self) -> u32 {
        self.proxy_connections.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

/// Whether a rule concerns the connections of a door, whichever their number.
pub(super) fn concerns(rule: &OriginRule, door: Door) -> bool {
    (rule.addresses.is_empty() || rule.addresses.contains(&door.address.ip()))
        && (rule.ports.is_empty() || rule.ports.contains(&door.address.port()))
        && rule.way.is_none_or(|way| way == door.way())
}

/// The TLS servers that the scenario needs.
pub(super) struct TlsConfigs {
    chains: HashMap<Certificate, Arc<ServerConfig>>,
    pub(super) healthy: Arc<ServerConfig>,
    pub(super) client_certificate: Arc<ServerConfig>,
    pub(super) proxy: Arc<ServerConfig>,
}

impl TlsConfigs {
    pub(super) fn new(
        pki: &mut Pki,
        chains: impl IntoIterator<Item = Certificate>,
        proxy: Certificate,
        proxy_address: IpAddr,
    ) -> io::Result<Self> {
        let chains = chains
            .into_iter()
            .map(|certificate| Ok((certificate, pki.server(certificate, false, &[])?)))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            chains,
            healthy: pki.server(Certificate::Healthy, false, &[])?,
            client_certificate: pki.server(Certificate::Healthy, true, &[])?,
            proxy: pki.server(proxy, false, &[proxy_address])?,
        })
    }

    pub(super) fn chain(&self, certificate: Certificate) -> Arc<ServerConfig> {
        self.chains.get(&certificate).unwrap_or(&self.healthy).clone()
    }
}

/// Every address at which the origin must answer: those of the healthy world and of all views.
pub(super) fn origin_addresses<'a>(names: impl IntoIterator<Item = &'a NameSpec>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = names
        .into_iter()
        .flat_map(|name| name.a.iter().copied().map(IpAddr::V4).chain(name.aaaa.iter().copied().map(IpAddr::V6)))
        .filter(|ip| !is_sinkhole(*ip))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn is_sinkhole(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_unspecified() || ip.is_documentation(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unspecified() || ip.segments()[..2] == [0x2001, 0x0db8],
    }
}
