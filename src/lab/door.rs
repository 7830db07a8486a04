//! One listening port of the origin, open or not.

use std::{
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr},
    sync::Arc,
    time::Duration,
};

use socket2::Socket;
use tokio::net::TcpListener;

use super::{
    fault::conn::{self, ClosedPort, Conn, SilentPort},
    origin,
    spec::{Fault, Party},
    world::{Door, World, concerns},
};

/// How long to wait after a failed accept.
const RETRY: Duration = Duration::from_millis(5);

/// A bound port, before the runtime exists.
pub(super) struct Port {
    pub(super) socket: SocketAddr,
    state: State,
}

enum State {
    Listening(std::net::TcpListener),
    /// Listening until so many connections were accepted.
    Turning(std::net::TcpListener, u32, Conn),
    Closed {
        _port: ClosedPort,
    },
    Silent {
        _port: SilentPort,
    },
}

impl Port {
    /// Opens the port behind a door as the faults demand.
    pub(super) fn open(door: Door, faults: &[Fault]) -> io::Result<Self> {
        let at = conn::loopback(door.address.ip());
        let fault = of_the_port(faults, |fault| fault.at == Party::Origin && concerns(fault, door));
        match Self::bind(at, fault) {
            // A machine without IPv6 still plays the other parties; IPv6 addresses then lead to IPv4 sockets.
            Err(_) if at.is_ipv6() => Self::bind(conn::loopback(Ipv4Addr::LOCALHOST.into()), fault),
            result => result,
        }
    }

    /// A port that somebody has opened already.
    pub(super) fn listening(listener: std::net::TcpListener) -> io::Result<Self> {
        Ok(Self { socket: listener.local_addr()?, state: State::Listening(listener) })
    }

    /// Opens a port that shows this fault after so many connections.
    pub(super) fn bind(at: SocketAddr, fault: Option<(Conn, u32)>) -> io::Result<Self> {
        match fault {
            Some((Conn::Refuse, 0)) => {
                let port = ClosedPort::open(at)?;
                Ok(Self { socket: port.address, state: State::Closed { _port: port } })
            }
            Some((Conn::Silent, 0)) => {
                let port = SilentPort::open(at)?;
                Ok(Self { socket: port.address, state: State::Silent { _port: port } })
            }
            fault => {
                let listener = conn::listen(at)?;
                let socket = listener.local_addr()?;
                let state = match fault {
                    Some((conn, after)) => State::Turning(listener, after, conn),
                    None => State::Listening(listener),
                };
                Ok(Self { socket, state })
            }
        }
    }

    /// Accepts connections as long as the port is open, and holds it afterwards. Runs until dropped.
    pub(super) async fn run(self, mut accepted: impl FnMut(tokio::net::TcpStream, SocketAddr)) {
        let (listener, turn) = match self.state {
            State::Listening(listener) => (listener, None),
            State::Turning(listener, after, conn) => (listener, Some((after, conn))),
            held => {
                std::future::pending::<()>().await;
                return drop(held);
            }
        };
        let Ok(listener) = TcpListener::from_std(listener) else { return };
        let mut count = 0_u32;
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                // The peer left already, or no descriptor is free: then there is no use in asking at once.
                tokio::time::sleep(RETRY).await;
                continue;
            };
            count += 1;
            match turn {
                Some((after, conn)) if count >= after => {
                    // Before the connection is served, so that whoever comes next meets the fault.
                    let held = turn_into(listener, conn);
                    accepted(stream, peer);
                    std::future::pending::<()>().await;
                    drop(held);
                    return;
                }
                _ => accepted(stream, peer),
            }
        }
    }
}

/// The fault that the kernel shows at a port, and after how many connections.
pub(super) fn of_the_port(faults: &[Fault], concerned: impl Fn(&Fault) -> bool) -> Option<(Conn, u32)> {
    faults.iter().filter(|fault| concerned(fault)).find_map(|fault| {
        let conn = fault.conn.filter(|conn| conn.before_accept())?;
        Some((conn, fault.when.after.unwrap_or(0)))
    })
}

/// What keeps a port in its new state.
enum Held {
    Silent { _port: SilentPort },
    Closed { _socket: Socket },
}

fn turn_into(listener: TcpListener, conn: Conn) -> io::Result<Held> {
    let listener = listener.into_std()?;
    if conn == Conn::Silent {
        return SilentPort::replace(listener).map(|port| Held::Silent { _port: port });
    }
    // On Linux this ends listening and keeps the port, so that nobody else can get it.
    let socket = Socket::from(listener);
    socket.shutdown(Shutdown::Both)?;
    Ok(Held::Closed { _socket: socket })
}

/// Serves the origin behind a door.
pub(super) async fn run_origin(port: Port, door: Door, world: Arc<World>) {
    port.run(|stream, peer| {
        tokio::spawn(origin::serve(world.clone(), door, stream, peer));
    })
    .await;
}
