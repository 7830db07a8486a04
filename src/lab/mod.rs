//! The embedded lab: every other party on loopback (storage, a forward proxy, two name servers, the wire server,
//! instance metadata, an origin of snapreach's own), each healthy or with the fault that a scenario asks for. It needs no privileges, and
//! nothing leaves the machine.
//!
//! The lab never uses the probe or the classifier: a bug there must not find a bug here to agree with.

mod background;
mod bulk;
mod dns;
mod door;
mod exchange;
pub mod fault;
mod forward;
mod host;
mod http;
mod log;
mod machine;
mod metadata;
mod origin;
mod own;
mod pace;
mod pki;
mod proxy;
mod quirk;
mod relay;
mod session;
mod spec;
#[cfg(test)]
mod tests;
mod world;
mod zone;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use self::{
    background::Background,
    dns::DnsSockets,
    door::Port,
    fault::{
        conn::{ClosedPort, SilentPort},
        network,
        proto::{Certificate, DnsFault, Tls},
    },
    log::Log,
    metadata::Metadata,
    pki::Pki,
    world::{Door, TlsConfigs, World},
    zone::Zone,
};
use crate::{
    exchange::{BAD_CERTIFICATE, Door as ExchangeDoor, DoorKind, Places},
    model::{Host, Secret},
    plan::{Credentials, DialMap, Proxy},
};

pub use log::{Event, View};
pub use machine::MachineSpec;
pub use own::OwnOrigin;
pub use quirk::{Beyond, Hostile, MaxTunnels, Quirk, Scheme};
#[cfg(feature = "scenario")]
pub(crate) use spec::optional_duration;
pub use spec::{
    DnsView, Ede, Fault, HostAnswer, HostSpec, LabSpec, Login, MetadataSpec, NameSpec, Party, ProxySpec, Way, When,
};

/// The congestion control of parties on loopback: the first that the system lets this process use.
pub const CONGESTION: [&str; 2] = ["cubic", "reno"];

/// The ports of a storage endpoint.
const STORAGE_PORTS: [u16; 3] = [80, 443, 8443];

/// The wire server's address, the same in every Azure region and cloud.
const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// The wire server's ports: the agent's, and the host plugin's.
const WIRE_PORTS: [u16; 2] = [80, 32526];

/// Where instance metadata is, likewise.
const METADATA: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 169, 254), 80);

/// The port of the origin of snapreach's own that is there without a proxy, too: nothing else of the lab has it.
const OWN_PORT: u16 = 7;

/// Doors of that origin that do not serve.
const OTHER_DOORS: [(Ipv4Addr, DoorKind); 3] = [
    (Ipv4Addr::new(198, 18, 0, 8), DoorKind::Refuses),
    (Ipv4Addr::new(198, 18, 0, 9), DoorKind::Silent),
    (Ipv4Addr::new(198, 18, 0, 10), DoorKind::Resets),
];

/// How a plan reaches the parties.
#[derive(Debug, Clone)]
pub struct Network {
    /// From realistic logical addresses to sockets on loopback. Every other address leads to a port that refuses.
    pub dial: DialMap,
    /// The name server that stands for the system resolver.
    pub dns: SocketAddr,
    /// The name server asked beside it; the same unless the scenario has a second view.
    pub dns_server: SocketAddr,
    /// The forward proxy, with the credentials that the client is given.
    pub proxy: Option<Proxy>,
    /// The root that stands for a public authority, DER.
    pub roots: Vec<Vec<u8>>,
    /// Roots that were added to this machine's trust store, DER.
    pub added_roots: Vec<Vec<u8>>,
    /// The wire server.
    pub host_endpoint: SocketAddr,
    /// Instance metadata.
    pub metadata: SocketAddr,
    /// Every party by a symbolic name: `dns`, `dns_server`, `proxy`, `host`, `host:32526`, `metadata`, `closed`, and
    /// `NAME:PORT` for each storage name and for `origin.snapreach.test:7`, the origin of snapreach's own.
    pub addresses: BTreeMap<String, SocketAddr>,
    /// Where the proxy reaches the origin of snapreach's own.
    pub places: Places,
}

impl Network {
    /// `HOST:PORT:ADDR:PORT` for each endpoint that has a name, and for the host's: what tells a client to dial the
    /// lab in place of the host, as `--connect-to` of curl and of this program take it.
    #[must_use]
    pub fn connect_to(&self) -> Vec<String> {
        let has_host = |name: &str| name.contains(':') && !name.starts_with("host:") && !name.starts_with('*');
        let named = self.addresses.iter().filter(|(name, _)| has_host(name));
        let named = named.map(|(name, socket)| format!("{name}:{socket}"));
        let wire_server = WIRE_PORTS.iter().map(|&port| (WIRE_SERVER, port));
        let host = wire_server.chain([METADATA]).filter_map(|(ip, port)| {
            let socket = self.dial.addresses.get(&(ip, port).into())?;
            Some(format!("{ip}:{port}:{socket}"))
        });
        named.chain(host).collect()
    }
}

/// The running parties. Dropping it ends them.
#[derive(Debug)]
pub struct Lab {
    network: Network,
    log: Log,
    _background: Background,
    /// Where addresses lead that nobody plays.
    _closed: ClosedPort,
    /// Where addresses lead that are lost on the way.
    _silent: Option<SilentPort>,
}

impl Lab {
    /// Starts all parties on a thread of their own, so that the prober's timing is not disturbed. All ports are bound
    /// when this returns.
    ///
    /// # Errors
    /// When the specification contradicts itself, or the system has no sockets, threads or event queues left.
    pub fn start(spec: &LabSpec) -> io::Result<Self> {
        Self::run(spec, Log::default())
    }

    /// The same for a lab that runs for long: `watcher` is told of each event as it happens, and none is kept. It is
    /// called by the parties themselves, so it must not block.
    ///
    /// # Errors
    /// As [`Lab::start`].
    pub fn start_watched(spec: &LabSpec, watcher: impl Fn(Event) + Send + Sync + 'static) -> io::Result<Self> {
        Self::run(spec, Log::watched(watcher))
    }

    fn run(spec: &LabSpec, log: Log) -> io::Result<Self> {
        spec.check().map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let parties = Parties::bind(spec, &log)?;
        let (mut network, closed) = (parties.network.clone(), ClosedPort::open(conn_v4())?);
        let silent = network::play(&spec.faults, &zone::known(spec), &mut network.dial)?;
        network.dial.otherwise = Some(closed.address);
        network.addresses.insert("closed".into(), closed.address);
        let background = Background::start("lab", move || parties.spawn())?;
        Ok(Self { network, log, _background: background, _closed: closed, _silent: silent })
    }

    /// How a plan reaches the parties.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What the parties saw so far, in order: the first quarter of a million events.
    #[must_use]
    pub fn log(&self) -> Vec<Event> {
        self.log.events()
    }
}

fn conn_v4() -> SocketAddr {
    fault::conn::loopback(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// All parties with their ports bound, before their runtime exists.
struct Parties {
    network: Network,
    world: Arc<World>,
    dns: Vec<(DnsSockets, View, Zone)>,
    origins: Vec<(Port, Door)>,
    own: Vec<OwnDoor>,
    own_origin: own::Origin,
    proxy: Port,
    hosts: Vec<Port>,
    metadata: Port,
}

impl Parties {
    fn bind(spec: &LabSpec, log: &Log) -> io::Result<Self> {
        let second = spec.dns_server.as_ref();
        let system_zone = Zone::new(&spec.dns.names, &spec.storage);
        let closed = |view| dns::shows(&spec.faults, view, DnsFault::Closed);
        let mut dns = vec![(DnsSockets::open(closed(View::System))?, View::System, system_zone)];
        // A second server that knows no other names may still have faults of its own.
        if second.is_some() || spec.faults.iter().any(|fault| fault.at == Party::DnsServer) {
            let zone = Zone::new(&second.unwrap_or(&spec.dns).names, &spec.storage);
            dns.push((DnsSockets::open(closed(View::Server))?, View::Server, zone));
        }

        let names = zone::known(spec);
        let (mut dial, mut behind_proxy, mut origins) = (DialMap::default(), HashMap::new(), Vec::new());
        for ip in world::origin_addresses(&names) {
            for port in STORAGE_PORTS {
                let address = SocketAddr::new(ip, port);
                for by_proxy in [false, true] {
                    let door = Door { address, by_proxy };
                    let port = Port::open(door, &spec.faults)?;
                    if by_proxy { &mut behind_proxy } else { &mut dial.addresses }.insert(address, port.socket);
                    origins.push((port, door));
                }
            }
        }

        let own = OwnDoor::all()?;
        for OwnDoor { port, door, .. } in &own {
            if door.by_proxy { &mut behind_proxy } else { &mut dial.addresses }.insert(door.address, port.socket);
        }

        let proxy = Port::bind(conn_v4(), door::of_the_port(&spec.faults, |fault| fault.at == Party::Proxy))?;
        let host_fault = host::port_fault(spec.host.answer);
        let hosts = WIRE_PORTS.iter().map(|_| Port::bind(conn_v4(), host_fault)).collect::<io::Result<Vec<_>>>()?;
        let metadata = Port::bind(conn_v4(), host::port_fault(spec.host.metadata.answer))?;
        let wire_server = hosts.iter().zip(WIRE_PORTS).map(|(port, logical)| ((WIRE_SERVER, logical), port));
        for (logical, port) in wire_server.chain([(METADATA, &metadata)]) {
            for reachable in [&mut dial.addresses, &mut behind_proxy] {
                reachable.insert(logical.into(), port.socket);
            }
        }
        behind_proxy.extend(&spec.proxy.reach);
        // The plan names these by the sockets themselves.
        for socket in [proxy.socket, hosts[0].socket, metadata.socket] {
            dial.addresses.insert(socket, socket);
        }

        let mut pki = Pki::new(&spec.storage)?;
        let mut chains: Vec<Certificate> = spec
            .faults
            .iter()
            .filter_map(|fault| match fault.tls {
                Some(Tls::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        chains.push(Certificate::Intercepted);
        let (name, _) = zone::OWN_ORIGIN;
        let own_addresses: Vec<_> = own.iter().map(|own| own.door.address.ip()).collect();
        let masked = ([name, BAD_CERTIFICATE], own_addresses.as_slice());
        let tls = TlsConfigs::new(&mut pki, chains, &spec.proxy, proxy.socket.ip(), (&masked.0, masked.1))?;
        let own_origin = own::Origin::new(&pki, name, &own_addresses)?;

        let dns_address = dns[0].0.address;
        let mut network = Network {
            dns: dns_address,
            dns_server: dns.get(1).map_or(dns_address, |(sockets, ..)| sockets.address),
            proxy: Some(announced_proxy(&spec.proxy, proxy.socket)),
            roots: vec![pki.public_root()],
            added_roots: if spec.inspection_trusted { vec![pki.inspection_root()] } else { Vec::new() },
            host_endpoint: hosts[0].socket,
            metadata: metadata.socket,
            addresses: BTreeMap::new(),
            places: Places {
                name: Some(name.to_owned()),
                doors: own.iter().filter(|own| own.door.by_proxy).map(OwnDoor::place).collect(),
                missing: Vec::new(),
            },
            dial,
        };
        network.addresses = symbolic(&network, &names, proxy.socket, hosts[1].socket);
        let direct = own.iter().filter(|own| !own.door.by_proxy);
        network.addresses.extend(direct.map(|own| (format!("{name}:{}", own.door.address.port()), own.port.socket)));
        // The proxy resolves as the system does, unless the scenario breaks that view as a whole: it has its own.
        let proxy_zone = dns[0].2.clone();
        let world = Arc::new(World::new(spec.clone(), log.clone(), tls, proxy_zone, behind_proxy));
        Ok(Self { network, world, dns, origins, own, own_origin, proxy, hosts, metadata })
    }

    fn spawn(self) {
        let Self { world, dns, origins, own, own_origin, proxy, hosts, metadata, .. } = self;
        for (sockets, view, zone) in dns {
            tokio::spawn(sockets.run(view, zone, world.clone()));
        }
        for (port, door) in origins {
            tokio::spawn(door::run_origin(port, door, world.clone()));
        }
        for OwnDoor { port, door, kind } in own {
            let log = world.log.clone();
            tokio::spawn(own_origin.clone().keep(port, kind, move |peer| {
                log.add(Event::Connection { address: door.address, peer, by_proxy: door.by_proxy });
            }));
        }
        for port in hosts {
            let (log, answer) = (world.log.clone(), world.spec.host.answer);
            tokio::spawn(port.run(move |stream, peer| {
                tokio::spawn(host::serve(log.clone(), answer, stream, peer));
            }));
        }
        let (service, log) = (Arc::new(Metadata::new(&world.spec.host.metadata)), world.log.clone());
        tokio::spawn(metadata.run(move |stream, peer| {
            tokio::spawn(service.clone().serve(log.clone(), stream, peer));
        }));
        tokio::spawn(proxy.run(move |stream, peer| {
            tokio::spawn(proxy::serve(world.clone(), stream, peer));
        }));
    }
}

/// A door of the origin of snapreach's own.
struct OwnDoor {
    port: Port,
    door: Door,
    kind: DoorKind,
}

impl OwnDoor {
    /// Those at storage's ports first; the last one is there for clients without a proxy.
    fn all() -> io::Result<Vec<Self>> {
        let (_, v4) = zone::OWN_ORIGIN;
        let serving = [IpAddr::V4(v4), zone::OWN_ORIGIN_V6.into()];
        let serving = serving.into_iter().flat_map(|ip| own::PORTS.map(|port| SocketAddr::new(ip, port)));
        let others = OTHER_DOORS.into_iter().map(|(ip, kind)| (SocketAddr::new(ip.into(), 443), kind, true));
        let plain = [true, false].map(|by_proxy| (SocketAddr::new(v4.into(), OWN_PORT), DoorKind::Serves, by_proxy));
        let all = serving.map(|address| (address, DoorKind::Serves, true)).chain(others).chain(plain);
        all.map(|(address, kind, by_proxy)| {
            Ok(Self { port: Port::bind(conn_v4(), own::fault(kind))?, door: Door { address, by_proxy }, kind })
        })
        .collect()
    }

    fn place(&self) -> ExchangeDoor {
        ExchangeDoor { address: self.door.address, kind: self.kind }
    }
}

/// The proxy as the client knows it.
fn announced_proxy(spec: &ProxySpec, socket: SocketAddr) -> Proxy {
    let credentials = spec.credentials.as_ref().or(spec.requires.as_ref()).filter(|_| !spec.no_credentials);
    Proxy {
        tls: spec.announced_tls.unwrap_or(spec.tls),
        host: Host::Ip(socket.ip()),
        port: socket.port(),
        credentials: credentials.and_then(|text| {
            let (user, password) = text.split_once(':')?;
            Some(Credentials { user: user.into(), password: Secret::new(password) })
        }),
    }
}

fn symbolic(
    network: &Network,
    names: &[NameSpec],
    proxy: SocketAddr,
    host_plugin: SocketAddr,
) -> BTreeMap<String, SocketAddr> {
    let mut addresses: BTreeMap<String, SocketAddr> = [
        ("dns", network.dns),
        ("dns_server", network.dns_server),
        ("proxy", proxy),
        ("host", network.host_endpoint),
        ("host:32526", host_plugin),
        ("metadata", network.metadata),
    ]
    .into_iter()
    .map(|(name, socket)| (name.to_owned(), socket))
    .collect();
    for entry in names {
        let first = entry.a.iter().copied().map(IpAddr::V4).chain(entry.aaaa.iter().copied().map(IpAddr::V6)).next();
        for port in STORAGE_PORTS {
            let socket = first.and_then(|ip| network.dial.addresses.get(&SocketAddr::new(ip, port)));
            if let Some(&socket) = socket {
                addresses.insert(format!("{}:{port}", entry.name), socket);
            }
        }
    }
    addresses
}
