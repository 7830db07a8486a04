//! Faults of this machine's kernel and of the routers on the way. Nobody can bring them about on loopback without
//! privileges, so the lab writes them into the dial map, and the prober takes them for what the kernel said.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use serde::Deserialize;

use super::conn::{SilentPort, loopback};
use crate::{
    lab::{
        spec::{Fault, NameSpec, Party},
        world::covered,
    },
    model::{IcmpError, IcmpFamily},
    plan::{DialMap, Played, PlayedFailure},
};

/// A connect that the kernel refuses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// With this error.
    pub errno: Errno,
    /// Because of this ICMP error.
    #[serde(default)]
    pub icmp: Option<Icmp>,
}

/// An ICMP error (`ICMPv6`, if it comes from such an address).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Icmp {
    /// ICMP type: 3 is destination unreachable, in `ICMPv6` it is 1.
    #[serde(rename = "type")]
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// Who sends it.
    pub from: IpAddr,
}

/// The way of a SYN, as a trace sees it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Path {
    /// The routers that it passes, nearest first.
    pub routers: Vec<IpAddr>,
    /// What becomes of it behind them; a `connect` fault at the same address wins.
    #[serde(default)]
    pub end: End,
}

/// What becomes of a SYN behind the last router.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// It arrives where the address leads.
    #[default]
    Arrives,
    /// It vanishes.
    Silent,
}

macro_rules! errno {
    ($($name:ident)*) => {
        /// An error of connect(2), by its name in errno(3).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
        #[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
        #[allow(clippy::upper_case_acronyms, reason = "so they are called everywhere")]
        pub enum Errno {
            $(#[doc = concat!("`", stringify!($name), "`.")] $name,)*
        }

        impl Errno {
            /// Its number on this system.
            fn number(self) -> i32 {
                match self {
                    $(Self::$name => libc::$name,)*
                }
            }
        }
    };
}

errno! {
    EACCES EADDRNOTAVAIL EAFNOSUPPORT ECONNREFUSED EHOSTUNREACH EMFILE ENETDOWN ENETUNREACH ENFILE ENOBUFS ENOMEM EPERM
}

impl Connect {
    fn failure(&self) -> PlayedFailure {
        let icmp = self.icmp.map(|Icmp { kind, code, from }| {
            let family = if from.is_ipv4() { IcmpFamily::V4 } else { IcmpFamily::V6 };
            IcmpError { family, kind, code, sender: Some(from) }
        });
        PlayedFailure { errno: self.errno.number(), icmp }
    }
}

/// Writes the faults of the network into the dial map. What vanishes on the way is dialled at the port that is given
/// back, which must be kept open.
///
/// # Errors
/// When a fault meets no address of the lab, or no port can be opened.
pub(in crate::lab) fn play(faults: &[Fault], names: &[NameSpec], dial: &mut DialMap) -> io::Result<Option<SilentPort>> {
    let faults: Vec<&Fault> = faults.iter().filter(|fault| fault.at == Party::Network).collect();
    // The parties themselves stand in the map too, by their sockets.
    let addresses: Vec<SocketAddr> = dial.addresses.keys().copied().filter(|at| !at.ip().is_loopback()).collect();
    if let Some(idle) = faults.iter().find(|fault| !addresses.iter().any(|&at| concerns(fault, at, names))) {
        let message = format!(
            "a fault at `network` meets no address of the lab: hosts {:?}, addresses {:?}, ports {:?}",
            idle.hosts, idle.addresses, idle.ports
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut silent = None;
    for at in addresses {
        let concerning = || faults.iter().filter(|fault| concerns(fault, at, names));
        let connect = concerning().find_map(|fault| fault.connect.as_ref());
        let path = concerning().find_map(|fault| fault.path.as_ref());
        if connect.is_none() && path.is_some_and(|path| path.end == End::Silent) {
            let port = match silent.take() {
                Some(port) => port,
                None => SilentPort::open(loopback(at.ip()))?,
            };
            dial.addresses.insert(at, port.address);
            silent = Some(port);
        }
        if connect.is_some() || path.is_some() {
            let routers = path.map(|path| path.routers.clone()).unwrap_or_default();
            dial.played.insert(at, Played { routers, failure: connect.map(Connect::failure) });
        }
    }
    Ok(silent)
}

/// Whether a fault concerns SYNs to this address: by itself, or as the address of a name.
fn concerns(fault: &Fault, at: SocketAddr, names: &[NameSpec]) -> bool {
    let leads_here = |name: &&NameSpec| match at.ip() {
        IpAddr::V4(ip) => name.a.contains(&ip),
        IpAddr::V6(ip) => name.aaaa.contains(&ip),
    };
    let known: Vec<Option<&str>> = names.iter().filter(leads_here).map(|name| Some(name.name.as_str())).collect();
    (fault.addresses.is_empty() || fault.addresses.contains(&at.ip()))
        && (fault.ports.is_empty() || fault.ports.contains(&at.port()))
        && covered(fault, &known)
}
