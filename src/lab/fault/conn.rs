//! Faults of a connection, and the sockets that show them without privileges.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use serde::Deserialize;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::lab::{CONGESTION, spec::When};

/// Connections that may wait to be accepted: as many as the system allows (`net.core.somaxconn`). Thousands of tunnels are
/// opened at once, and a client that resets its connections leaves each of them in the queue; when it is full, the kernel
/// drops SYNs, and a fast lab looks like one that lost its network for a second.
pub(in crate::lab) const WAITING: i32 = i32::MAX;

/// What happens to a connection before any protocol is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Conn {
    /// The port is closed: RST to the SYN.
    Refuse,
    /// SYNs stay unanswered.
    Silent,
    /// Accepted, then RST.
    Reset,
    /// Accepted, then FIN.
    Close,
    /// Accepted, and everything is read and acknowledged, but nothing is answered.
    Mute,
    /// [`Conn::Mute`] for connections whose maximum segment size is above this many bytes: what a path does that drops
    /// full-size packets and the ICMP messages about them.
    MuteAboveMss(u32),
}

impl Conn {
    /// Whether the kernel shows it to the SYN, before anything is accepted.
    pub(in crate::lab) fn before_accept(self) -> bool {
        matches!(self, Self::Refuse | Self::Silent)
    }

    pub(in crate::lab) fn check(self, when: &When) -> Result<(), String> {
        let only_after = When { after: when.after, ..When::default() };
        if self.before_accept() && *when != only_after {
            return Err("`refuse` and `silent` concern SYNs, which the lab cannot count; of `when` they take only \
                        `after`"
                .into());
        }
        Ok(())
    }

    /// Does it to an accepted connection. Returns the connection when the fault spares it.
    pub(in crate::lab) async fn inflict(self, stream: TcpStream) -> Option<TcpStream> {
        match self {
            // A connection that was in the queue when the port closed.
            Self::Reset | Self::Refuse => {
                reset(stream);
                None
            }
            Self::Close => {
                close(stream).await;
                None
            }
            Self::Mute | Self::Silent => {
                mute(stream).await;
                None
            }
            Self::MuteAboveMss(limit) => match SockRef::from(&stream).tcp_mss() {
                Ok(mss) if mss <= limit => Some(stream),
                _ => {
                    mute(stream).await;
                    None
                }
            },
        }
    }
}

/// Ends a connection with RST.
pub(in crate::lab) fn reset(stream: TcpStream) {
    // A lingering time of zero makes close() send RST (socket(7)). Without it a FIN goes out: still an end.
    let _ = stream.set_zero_linger();
    drop(stream);
}

/// A second handle of a socket, to end it with RST when the first is buried in a TLS session.
#[derive(Debug)]
pub(in crate::lab) struct Breaker(Socket);

impl Breaker {
    pub(in crate::lab) fn of(stream: &TcpStream) -> io::Result<Self> {
        SockRef::from(stream).try_clone().map(Self)
    }

    /// Another handle.
    pub(in crate::lab) fn again(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// The coming close, of all handles, will send RST.
    pub(in crate::lab) fn arm(&self) {
        // Without it a FIN goes out: still an end.
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }
}

/// Ends this side with FIN, and reads until the peer ends its side, as a close with unread data would become a RST.
pub(in crate::lab) async fn close(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        mute(stream).await;
    }
}

/// Reads and says nothing until the peer gives up.
pub(in crate::lab) async fn mute(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer).await, Ok(n) if n > 0) {}
}

/// A loopback address of the family of `like`, port 0.
pub(in crate::lab) fn loopback(like: IpAddr) -> SocketAddr {
    match like {
        IpAddr::V4(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::LOCALHOST, 0).into(),
    }
}

/// A listening socket.
pub(in crate::lab) fn listen(at: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    if at.ip().is_loopback() {
        // What paces segments (bbr) is made for paths that are longer than this one, and carries less over it. What is
        // accepted inherits this; where neither may be used, the system's own has to do.
        let _ = CONGESTION.iter().find(|name| socket.set_tcp_congestion(name.as_bytes()).is_ok());
    }
    socket.bind(&at.into())?;
    socket.listen(WAITING)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A port that refuses: bound, so that nobody else can get it, but not listening.
#[derive(Debug)]
pub(in crate::lab) struct ClosedPort {
    pub(in crate::lab) address: SocketAddr,
    _socket: Socket,
}

impl ClosedPort {
    pub(in crate::lab) fn open(at: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        socket.bind(&at.into())?;
        Ok(Self { address: local(&socket)?, _socket: socket })
    }
}

/// A port where SYNs stay unanswered: it listens with an accept queue of the smallest length, filled by a connection
/// of its own, so the kernel drops further SYNs.
#[derive(Debug)]
pub(in crate::lab) struct SilentPort {
    pub(in crate::lab) address: SocketAddr,
    _listener: Socket,
    _filler: Socket,
}

impl SilentPort {
    pub(in crate::lab) fn open(at: SocketAddr) -> io::Result<Self> {
        let listener = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        listener.bind(&at.into())?;
        listener.listen(0)?;
        Self::fill(listener)
    }

    /// Makes a listener silent that had accepted connections so far.
    pub(in crate::lab) fn replace(listener: std::net::TcpListener) -> io::Result<Self> {
        let listener = Socket::from(listener);
        listener.listen(0)?;
        Self::fill(listener)
    }

    fn fill(listener: Socket) -> io::Result<Self> {
        let address = local(&listener)?;
        let filler = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // On loopback this takes microseconds; longer means that the queue is full already, which is what is wanted.
        match filler.connect_timeout(&address.into(), Duration::from_millis(50)) {
            Err(e) if e.kind() != io::ErrorKind::TimedOut => return Err(e),
            _ => {}
        }
        Ok(Self { address, _listener: listener, _filler: filler })
    }
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("a TCP socket without an IP address"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_silent_port_leaves_a_connect_unanswered_in_both_families() {
        for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
            let port = SilentPort::open(loopback(ip)).unwrap();
            let started = Instant::now();
            let error = std::net::TcpStream::connect_timeout(&port.address, Duration::from_millis(200)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(started.elapsed() >= Duration::from_millis(200));
        }
    }

    #[test]
    fn a_listener_can_become_silent() {
        let listener = listen(loopback(IpAddr::V4(Ipv4Addr::LOCALHOST))).unwrap();
        let address = listener.local_addr().unwrap();
        let before = std::net::TcpStream::connect(address).unwrap();
        let (_accepted, _) = listener.accept().unwrap();
        let _silent = SilentPort::replace(listener).unwrap();
        let error = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(before);
    }

    #[test]
    fn a_closed_port_refuses() {
        let port = ClosedPort::open(loopback(IpAddr::V4(Ipv4Addr::LOCALHOST))).unwrap();
        let error = std::net::TcpStream::connect(port.address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
