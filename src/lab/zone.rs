//! The names of the lab: healthy storage accounts, and what a scenario says instead.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::spec::{Ede, LabSpec, NameSpec};

const DEFAULT_TTL: u32 = 60;

/// The names that exist in a healthy world: name, stamp name, address.
const HEALTHY: [(&str, &str, Ipv4Addr); 6] = [
    ("acct.blob.core.windows.net", "blob.ams06prdstr02a.store.core.windows.net", Ipv4Addr::new(20, 60, 222, 132)),
    ("acct2.blob.core.windows.net", "blob.ams20prdstr09a.store.core.windows.net", Ipv4Addr::new(20, 150, 37, 228)),
    (
        "md-hdd4kqzx1t2v.z27.blob.storage.azure.net",
        "md-hdd4kqzx1t2v.blob.ams23prdstr07c.store.core.windows.net",
        Ipv4Addr::new(20, 209, 10, 65),
    ),
    (
        "acct.blob.core.usgovcloudapi.net",
        "blob.bnap21prdstf01a.store.core.usgovcloudapi.net",
        Ipv4Addr::new(20, 140, 48, 4),
    ),
    ("acct.blob.core.chinacloudapi.cn", "blob.bjbprdstr03a.store.core.chinacloudapi.cn", Ipv4Addr::new(40, 73, 15, 4)),
    ("www.example.com", "", Ipv4Addr::new(23, 192, 228, 80)),
];

/// The name and address of the origin of snapreach's own; nobody has an address for benchmarks (RFC 2544).
pub(super) const OWN_ORIGIN: (&str, Ipv4Addr) = ("origin.snapreach.test", Ipv4Addr::new(198, 18, 0, 7));

/// Its other address, of those that RFC 5180 gives to benchmarks.
pub(super) const OWN_ORIGIN_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 7);

fn own_origin() -> NameSpec {
    let (name, address) = OWN_ORIGIN;
    NameSpec { name: name.into(), a: vec![address], ..NameSpec::default() }
}

/// The healthy entries.
pub(super) fn healthy() -> Vec<NameSpec> {
    HEALTHY
        .iter()
        .map(|&(name, stamp, address)| NameSpec {
            name: name.into(),
            aliases: if stamp.is_empty() { Vec::new() } else { vec![stamp.into()] },
            a: vec![address],
            ..NameSpec::default()
        })
        .collect()
}

/// The storage names that a machine brings, at the address of a healthy account.
pub(super) fn brought(names: &[String]) -> Vec<NameSpec> {
    let (.., address) = HEALTHY[0];
    let new = names.iter().filter(|name| HEALTHY.iter().all(|(known, ..)| known != name));
    new.map(|name| NameSpec { name: name.clone(), a: vec![address], ..NameSpec::default() }).collect()
}

/// The names of all views: what is healthy and what a scenario says instead.
pub(super) fn known(spec: &LabSpec) -> Vec<NameSpec> {
    let second = spec.dns_server.iter().flat_map(|view| &view.names);
    let own = spec.dns.names.iter().chain(second).cloned();
    healthy().into_iter().chain(brought(&spec.storage)).chain(own).collect()
}

/// What one view knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Zone {
    names: HashMap<String, NameSpec>,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Nothing is sent.
    Silence,
    /// This answer.
    Answer {
        rcode: u16,
        ttl: u32,
        /// The CNAME chain: each name and its target.
        aliases: Vec<(String, String)>,
        /// The owner of the addresses: the end of the chain.
        owner: String,
        addresses: Vec<IpAddr>,
        ede: Option<Ede>,
    },
}

const NXDOMAIN: u16 = 3;

impl Zone {
    /// The healthy names and those that a machine brings, with a scenario's own in place of or beside them.
    pub(super) fn new(own: &[NameSpec], storage: &[String]) -> Self {
        let healthy = healthy().into_iter().chain([own_origin()]).chain(brought(storage));
        let entries = healthy.chain(own.iter().cloned());
        Self { names: entries.map(|entry| (entry.name.to_ascii_lowercase(), entry)).collect() }
    }

    /// Looks up the IPv4 or IPv6 addresses of a name (lower case, no trailing dot).
    pub(super) fn look_up(&self, name: &str, v6: bool) -> Lookup {
        if let Some(entry) = self.names.get(name).or_else(|| self.names.get("*")) {
            return answer(name, &entry.aliases, entry, v6);
        }
        // A question about a link of somebody's chain gets the rest of the chain.
        for entry in self.names.values() {
            if let Some(at) = entry.aliases.iter().position(|alias| alias.eq_ignore_ascii_case(name)) {
                return answer(name, &entry.aliases[at + 1..], entry, v6);
            }
        }
        let unknown = NameSpec { rcode: NXDOMAIN, ..NameSpec::default() };
        answer(name, &[], &unknown, v6)
    }

    /// The addresses of a name, IPv4 first, as the proxy uses them. A name may be written with its final dot.
    pub(super) fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        [false, true]
            .into_iter()
            .flat_map(|v6| match self.look_up(&name, v6) {
                Lookup::Answer { addresses, .. } => addresses,
                Lookup::Silence => Vec::new(),
            })
            .collect()
    }
}

fn answer(name: &str, chain: &[String], entry: &NameSpec, v6: bool) -> Lookup {
    if entry.silent {
        return Lookup::Silence;
    }
    let mut owner = name.to_owned();
    let mut aliases = Vec::new();
    for alias in chain {
        let alias = alias.to_ascii_lowercase();
        aliases.push((owner, alias.clone()));
        owner = alias;
    }
    let addresses = match (entry.rcode, v6) {
        (0, false) => entry.a.iter().copied().map(IpAddr::V4).collect(),
        (0, true) => entry.aaaa.iter().copied().map(IpAddr::V6).collect(),
        _ => Vec::new(),
    };
    Lookup::Answer {
        rcode: entry.rcode,
        ttl: entry.ttl.unwrap_or(DEFAULT_TTL),
        aliases,
        owner,
        addresses,
        ede: entry.ede.clone(),
    }
}
