//! The origin at addresses of this machine, for proxies that are no part of the lab.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use socket2::{Domain, Socket, Type};

use super::{Origin, PORTS, fault};
use crate::{
    exchange::{Door, DoorKind, Places},
    lab::{background::Background, door::Port, fault::conn::WAITING, pki::Pki, zone::OWN_ORIGIN},
};

/// Addresses on loopback that are tried before it is settled that a port cannot be had at any.
const TRIES: u32 = 16;

/// An origin of snapreach's own, on a thread of its own. Dropping it ends it.
#[derive(Debug)]
pub struct OwnOrigin {
    places: Places,
    _background: Background,
}

impl OwnOrigin {
    /// Serves at storage's ports of each of these addresses. `127.0.0.1` stands for loopback as such: an address there is
    /// chosen whose ports are free, and `::1` is left out on a machine without IPv6. A port that cannot be had is
    /// [missing](Places::missing), and another one serves in its place.
    ///
    /// # Errors
    /// When an address is none of this machine's, or the system has no sockets or threads left.
    pub fn start(addresses: &[IpAddr]) -> io::Result<Self> {
        let mut sites = Vec::new();
        for &ip in addresses {
            if ip == Ipv4Addr::LOCALHOST {
                sites.push(Site::on_loopback());
                continue;
            }
            let mut site = Site::at(ip, &PORTS);
            if let (IpAddr::V4(v4), true) = (ip, ip.is_loopback()) {
                site.siblings = neighbours(v4);
            }
            if !(site.is_elsewhere && ip.is_loopback()) {
                sites.push(site);
            }
        }
        Self::open(sites)
    }

    /// Serves at storage's ports of this very address, or at this one port.
    ///
    /// # Errors
    /// When the address is none of this machine's or none at all, the port cannot be had, or the system has no sockets or
    /// threads left.
    pub fn listen(ip: IpAddr, port: Option<u16>) -> io::Result<Self> {
        if ip.is_unspecified() || ip.is_multicast() {
            let message = format!("{ip} is no address at which a proxy can reach this machine");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let site = Site::at(ip, &port.map_or(PORTS.to_vec(), |port| vec![port]));
        if let (Some(port), Some((_, why))) = (port, site.missing.first())
            && !site.is_elsewhere
        {
            return Err(io::Error::other(format!("cannot listen at {}: {why}", SocketAddr::new(ip, port))));
        }
        Self::open(vec![site])
    }

    fn open(mut sites: Vec<Site>) -> io::Result<Self> {
        for site in &mut sites {
            site.make_up_for_what_is_missing()?;
        }
        if let Some(first) = sites.first_mut() {
            first.add_others()?;
        }
        let addresses: Vec<IpAddr> = sites.iter().map(|site| site.ip).collect();
        let (mut doors, mut missing) = (Vec::new(), Vec::new());
        for site in sites {
            missing.extend(site.missing);
            doors.extend(site.doors);
        }
        let served =
            |port: u16| doors.iter().any(|(_, door)| door.kind == DoorKind::Serves && door.address.port() == port);
        missing.retain(|(port, _)| !served(*port));
        missing.sort_by_key(|(port, _)| PORTS.iter().position(|known| known == port));
        missing.dedup_by_key(|(port, _)| *port);
        let (name, _) = OWN_ORIGIN;
        let origin = Origin::new(&Pki::new(&[])?, name, &addresses)?;
        let places = Places { name: None, doors: doors.iter().map(|(_, door)| *door).collect(), missing };
        let background = Background::start("origin", move || {
            for (port, door) in doors {
                tokio::spawn(origin.clone().keep(port, door.kind, |_| ()));
            }
        })?;
        Ok(Self { places, _background: background })
    }

    /// Where it is.
    #[must_use]
    pub fn places(&self) -> &Places {
        &self.places
    }
}

/// What there is at one address.
struct Site {
    ip: IpAddr,
    doors: Vec<(Port, Door)>,
    missing: Vec<(u16, String)>,
    /// Whether some port was taken.
    is_taken: bool,
    /// Whether the address is none of this machine's.
    is_elsewhere: bool,
    /// Where the doors that do not serve may be, beside the ports of the address itself.
    siblings: Vec<IpAddr>,
}

impl Site {
    fn at(ip: IpAddr, ports: &[u16]) -> Self {
        let (doors, missing, siblings) = (Vec::new(), Vec::new(), Vec::new());
        let mut site = Self { ip, doors, missing, is_taken: false, is_elsewhere: false, siblings };
        for &port in ports {
            match site.add((ip, port).into(), DoorKind::Serves) {
                Ok(()) => {}
                Err(e) => {
                    site.is_taken |= e.kind() == io::ErrorKind::AddrInUse;
                    site.is_elsewhere |= e.kind() == io::ErrorKind::AddrNotAvailable;
                    site.missing.push((port, in_words(&e)));
                }
            }
        }
        site
    }

    /// At an address of 127.77.0.0/16 whose ports are free, if there is one. Four addresses belong together; different
    /// processes begin at different ones.
    fn on_loopback() -> Self {
        let begin = std::process::id();
        let mut best = None::<Self>;
        for attempt in 0..TRIES {
            let [.., third, fourth] = begin.wrapping_add(attempt).wrapping_mul(4).to_be_bytes();
            let ip = Ipv4Addr::new(127, 77, third, fourth);
            let mut site = Self::at(ip.into(), &PORTS);
            site.siblings = neighbours(ip);
            if site.is_elsewhere {
                break;
            }
            let is_better = best.as_ref().is_none_or(|best| site.doors.len() > best.doors.len());
            let is_final = !site.is_taken;
            if is_better {
                best = Some(site);
            }
            if is_final {
                break;
            }
        }
        // Not every system has all of 127.0.0.0/8.
        best.unwrap_or_else(|| Self::at(Ipv4Addr::LOCALHOST.into(), &PORTS))
    }

    fn make_up_for_what_is_missing(&mut self) -> io::Result<()> {
        if self.missing.is_empty() {
            return Ok(());
        }
        let ip = self.ip;
        self.add((ip, 0).into(), DoorKind::Serves).map_err(|e| {
            let message = match e.kind() {
                io::ErrorKind::AddrNotAvailable => "it is no address of this machine".into(),
                _ => in_words(&e),
            };
            io::Error::new(e.kind(), format!("cannot listen at {ip}: {message}"))
        })
    }

    /// The doors that do not serve.
    fn add_others(&mut self) -> io::Result<()> {
        for (n, kind) in [DoorKind::Refuses, DoorKind::Silent, DoorKind::Resets].into_iter().enumerate() {
            // Proxies let storage's ports through, if any.
            let storage = self.siblings.get(n).map(|&ip| PORTS.map(|port| SocketAddr::new(ip, port)));
            let candidates = storage.into_iter().flatten().chain([SocketAddr::new(self.ip, 0)]);
            let mut last = Ok(());
            for at in candidates {
                last = self.add(at, kind);
                if last.is_ok() {
                    break;
                }
            }
            last?;
        }
        Ok(())
    }

    fn add(&mut self, at: SocketAddr, kind: DoorKind) -> io::Result<()> {
        let port = match fault(kind) {
            None => Port::listening(listen(at)?)?,
            fault => Port::bind(at, fault)?,
        };
        let door = Door { address: port.socket, kind };
        self.doors.push((port, door));
        Ok(())
    }
}

/// The next addresses, on loopback.
fn neighbours(ip: Ipv4Addr) -> Vec<IpAddr> {
    let next = |n| Ipv4Addr::from_bits(ip.to_bits().wrapping_add(n));
    (1..=3).map(next).filter(Ipv4Addr::is_loopback).map(IpAddr::V4).collect()
}

/// Why a port cannot be had.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "permission denied; ports below 1024 need root or CAP_NET_BIND_SERVICE".into()
        }
        io::ErrorKind::AddrInUse => "another program has it".into(),
        _ => error.to_string(),
    }
}

fn listen(at: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    // Elsewhere than on Unix it would share the port with whoever else asks for it.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&at.into())?;
    socket.listen(WAITING)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_cannot_be_had_are_missing_and_another_one_serves() {
        let loopback = OwnOrigin::start(&[Ipv4Addr::LOCALHOST.into()]).unwrap();
        let taken = loopback.places().of(DoorKind::Serves).find(|door| door.port() == 8443).unwrap();
        let origin = OwnOrigin::listen(taken.ip(), None).unwrap();
        let places = origin.places();
        assert!(places.missing.contains(&(8443, "another program has it".into())), "{places:?}");
        assert!(places.of(DoorKind::Serves).any(|door| !PORTS.contains(&door.port())), "{places:?}");
        let error = OwnOrigin::listen(taken.ip(), Some(8443)).unwrap_err().to_string();
        assert_eq!(error, format!("cannot listen at {taken}: another program has it"));
    }

    #[test]
    fn two_origins_on_loopback_do_not_meet() {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let (one, other) = (OwnOrigin::start(&loopback).unwrap(), OwnOrigin::start(&loopback).unwrap());
        assert!(one.places().doors.iter().all(|door| !other.places().doors.contains(door)));
        for kind in [DoorKind::Serves, DoorKind::Refuses, DoorKind::Silent, DoorKind::Resets] {
            assert!(one.places().of(kind).next().is_some(), "{kind:?}");
        }
    }

    #[test]
    fn what_is_no_address_of_this_machine_is_said() {
        for (ip, part) in [("198.18.0.1", "no address of this machine"), ("0.0.0.0", "no address at which")] {
            let error = OwnOrigin::listen(ip.parse().unwrap(), None).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(OwnOrigin::start(&["198.18.0.1".parse().unwrap()]).is_err());
    }
}
