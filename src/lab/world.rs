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
    fault::{
        proto::{Certificate, DnsFault},
        stream::{Disturbance, Placed, Stream, Throttle},
    },
    log::Log,
    pace::{Pace, Share, Stall},
    pki::Pki,
    proxy,
    quirk::Quirk,
    spec::{Fault, LabSpec, NameSpec, Party, ProxySpec, Way, covers},
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
    /// What the proxy's connections share.
    pub(super) proxy: proxy::State,
    /// How often each fault was in question so far.
    counts: Vec<AtomicU32>,
    /// What each relative throttle keeps account of.
    shares: Vec<Option<Arc<Share>>>,
    /// The stalls of the origin, if it has any.
    pub(super) stall: Option<Arc<Stall>>,
}

impl World {
    pub(super) fn new(
        spec: LabSpec,
        log: Log,
        tls: TlsConfigs,
        zone: Zone,
        behind_proxy: HashMap<SocketAddr, SocketAddr>,
    ) -> Self {
        Self {
            counts: spec.faults.iter().map(|_| AtomicU32::new(0)).collect(),
            shares: spec.faults.iter().map(new_share).collect(),
            stall: spec.faults.iter().any(|fault| fault.stall().is_some()).then(Arc::default),
            // Shorter than a scenario's own patience, so that the proxy is the one that reports.
            proxy_patience: Duration::from_millis(400),
            proxy: proxy::State::default(),
            spec,
            log,
            tls,
            zone,
            behind_proxy,
        }
    }

    /// The faults that meet a new connection at this door.
    pub(super) fn origin_faults(&self, door: Door) -> Vec<&Fault> {
        self.drawn(Party::Origin, |fault| concerns(fault, door) && fault.stall().is_none()).collect()
    }

    /// Stalls the origin if a fault says so of this request at a door, which knows the client to want one of `hosts`.
    pub(super) fn stall(&self, door: Door, hosts: &[Option<&str>]) {
        let Some(stall) = &self.stall else { return };
        let concerned = |fault: &Fault| fault.stall().is_some() && concerns(fault, door) && covered(fault, hosts);
        if let Some(by) = self.drawn(Party::Origin, concerned).find_map(Fault::stall) {
            stall.begin(by);
        }
    }

    /// What the byte-stream faults among those drawn do: all that hold bytes, and the first of the others.
    pub(super) fn disturbance<'f>(&self, drawn: impl IntoIterator<Item = &'f Fault>) -> Disturbance {
        let mut disturbance = Disturbance::default();
        for fault in drawn {
            let Some(stream) = &fault.stream else { continue };
            let (after, direction) = (fault.when.after_bytes.unwrap_or(0), fault.direction.unwrap_or_default());
            let pace = match stream {
                Stream::Pause(by) => Pace::Pause { left: after, by: *by, end: None },
                Stream::Throttle(Throttle::Rate(per_second)) => Pace::Rate { per_second: *per_second, due: None },
                Stream::Throttle(Throttle::Less(_)) => match self.share(fault) {
                    Some(share) => Pace::Share(share.clone()),
                    None => continue,
                },
                _ => {
                    disturbance.placed.get_or_insert_with(|| Placed { fault: stream.clone(), after, direction });
                    continue;
                }
            };
            disturbance.paces.push((direction, pace));
        }
        disturbance
    }

    /// The account of a relative throttle.
    fn share(&self, of: &Fault) -> Option<&Arc<Share>> {
        let at = self.spec.faults.iter().position(|fault| std::ptr::eq(fault, of))?;
        self.shares[at].as_ref()
    }

    /// The faults that meet a new connection to the proxy, before it has asked for anything.
    pub(super) fn proxy_faults(&self) -> Vec<&Fault> {
        self.drawn(Party::Proxy, |fault| fault.reply.is_none()).collect()
    }

    /// The fault that meets this request to the proxy: of its answer first, else of the tunnel.
    pub(super) fn request_fault(&self, host: &str, port: u16) -> Option<&Fault> {
        let concerned =
            |fault: &Fault| (fault.ports.is_empty() || fault.ports.contains(&port)) && covered(fault, &[Some(host)]);
        let reply = self.drawn(Party::Proxy, |fault| fault.reply.is_some() && concerned(fault)).next();
        reply.or_else(|| self.drawn(Party::Tunnel, concerned).next())
    }

    /// The fault that meets this question at a name server.
    pub(super) fn dns_fault(&self, at: Party, name: &str) -> Option<DnsFault> {
        self.drawn(at, |fault| covered(fault, &[Some(name)])).find_map(|fault| fault.dns)
    }

    /// Those faults of a party that are in question and whose `when` is met. Each counts for itself.
    fn drawn(&self, at: Party, in_question: impl Fn(&Fault) -> bool) -> impl Iterator<Item = &Fault> {
        let seed = self.spec.seed();
        let faults = self.spec.faults.iter().zip(&self.counts).zip(0_u64..);
        faults
            .filter(move |((fault, count), index)| {
                fault.at == at
                    && in_question(fault)
                    && fault
                        .when
                        .hits(count.fetch_add(1, Ordering::Relaxed).wrapping_add(1), seed.rotate_left(32) ^ index)
            })
            .map(|((fault, _), _)| fault)
    }
}

/// Whether a fault concerns the connections of a door, whichever their number.
pub(super) fn concerns(fault: &Fault, door: Door) -> bool {
    (fault.addresses.is_empty() || fault.addresses.contains(&door.address.ip()))
        && (fault.ports.is_empty() || fault.ports.contains(&door.address.port()))
        && fault.way.is_none_or(|way| way == door.way())
}

/// Whether the hosts of a fault cover one of those known.
pub(super) fn covered(fault: &Fault, known: &[Option<&str>]) -> bool {
    fault.hosts.is_empty() || known.iter().flatten().any(|name| fault.hosts.iter().any(|pattern| covers(pattern, name)))
}

/// A new account for a relative throttle.
fn new_share(fault: &Fault) -> Option<Arc<Share>> {
    match fault.stream {
        Some(Stream::Throttle(Throttle::Less(millionths))) => Some(Arc::new(Share::new(f64::from(millionths) / 1e6))),
        _ => None,
    }
}

/// The TLS servers that the scenario needs.
pub(super) struct TlsConfigs {
    chains: HashMap<Certificate, Arc<ServerConfig>>,
    pub(super) healthy: Arc<ServerConfig>,
    pub(super) client_certificate: Arc<ServerConfig>,
    pub(super) proxy: Arc<ServerConfig>,
    /// What a proxy presents that masks certificates.
    pub(super) masking: Option<Arc<ServerConfig>>,
}

impl TlsConfigs {
    pub(super) fn new(
        pki: &mut Pki,
        chains: impl IntoIterator<Item = Certificate>,
        proxy: &ProxySpec,
        proxy_address: IpAddr,
        masked: (&[&str], &[IpAddr]),
    ) -> io::Result<Self> {
        let chains = chains
            .into_iter()
            .map(|certificate| Ok((certificate, pki.server(certificate, false, &[])?)))
            .collect::<io::Result<_>>()?;
        Ok(Self {
            chains,
            healthy: pki.server(Certificate::Healthy, false, &[])?,
            client_certificate: pki.server(Certificate::Healthy, true, &[])?,
            proxy: pki.server(proxy.certificate, false, &[proxy_address])?,
            masking: if proxy.has(Quirk::MasksCertificates) { Some(pki.masking(masked.0, masked.1)?) } else { None },
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
