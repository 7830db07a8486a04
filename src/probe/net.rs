//! The only file that opens client sockets.

use std::{
    io,
    net::{IpAddr, Shutdown, SocketAddr, SocketAddrV6},
    os::fd::{AsFd, AsRawFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
#[cfg(feature = "bench")]
use std::{mem::MaybeUninit, os::fd::BorrowedFd};

#[cfg(feature = "bench")]
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt,
    sockopt::{Ipv4RecvErr, Ipv6RecvErr},
};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UdpSocket},
};

use super::{failure, recorder::Slot};
use crate::{
    model::{ConnectEvidence, Evidence, Failure, FailureKind, IcmpError, IcmpFamily, TcpInfo, TcpState},
    plan::{Played, PlayedFailure, Source},
    sys,
};

/// A connected TCP stream whose socket outlives the layer that uses it, so that the kernel can still be asked about the
/// connection after a timeout dropped the layer.
#[derive(Debug, Clone)]
pub(super) struct Conn {
    stream: Arc<TcpStream>,
    half_closes: bool,
}

impl Conn {
    fn new(stream: TcpStream) -> Self {
        Self { stream: Arc::new(stream), half_closes: false }
    }

    /// The same connection, on which a shutdown sends FIN.
    pub(super) fn half_closing(self) -> Self {
        Self { half_closes: true, ..self }
    }

    /// Sends small writes at once: a request behind the end of a handshake must not wait for a delayed acknowledgement
    /// (Nagle, RFC 896).
    pub(super) fn send_at_once(&self) {
        // Without it the probe is slower, not wrong.
        let _ = self.stream.set_nodelay(true);
    }

    /// Ends it with RST when it is dropped: one that has done its work would else keep its source port for a minute
    /// (`TIME_WAIT`), and a host has fewer ports than a run has connections.
    #[cfg(feature = "bench")]
    pub(super) fn reset_when_dropped(&self) {
        // Without it a long run may run out of ports, and says so.
        let _ = SockRef::from(&*self.stream).set_linger(Some(std::time::Duration::ZERO));
    }

    /// The kernel's view of the connection now.
    pub(super) fn tcp_info(&self) -> Option<TcpInfo> {
        sys::tcp_info(self.stream.as_fd())
    }
}

#[cfg(feature = "bench")]
impl Conn {
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Takes as many bytes as `nowhere` has room for, and throws them away in the kernel (`MSG_TRUNC`, tcp(7)): that
    /// memory is never touched. 0: the peer has ended.
    pub(super) fn poll_discard(
        &self,
        cx: &mut Context<'_>,
        nowhere: &mut [MaybeUninit<u8>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let mut taken = None;
            let result = self.stream.try_io(Interest::READABLE, || {
                let n = SockRef::from(&*self.stream).recv_with_flags(nowhere, libc::MSG_TRUNC)?;
                taken = Some(n);
                // Less than there is room for was all that there is: to ask once more would only tell the same.
                if (1..nowhere.len()).contains(&n) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (taken, result) {
                (Some(taken), _) => return Poll::Ready(Ok(taken)),
                (None, Err(e)) if e.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(e)),
                _ => {}
            }
        }
    }

    /// Sends `count` bytes of a file from `offset` on, or fewer, without a copy (sendfile(2)).
    pub(super) fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        offset: usize,
        count: usize,
    ) -> Poll<io::Result<usize>> {
        let mut offset = i64::try_from(offset).map_err(io::Error::other)?;
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            let send = || sendfile(self.stream.as_fd(), file, Some(&mut offset), count).map_err(io::Error::from);
            match self.stream.try_io(Interest::WRITABLE, send) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

/// What a connect does differently from any other program's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tuning<'a> {
    /// Maximum segment size, in bytes.
    pub(super) mss: Option<u32>,
    /// Time to live (IPv4) or hop limit (IPv6).
    pub(super) ttl: Option<u8>,
    /// Congestion control of what this side sends, by the kernel's name for it; `None`: the system's.
    pub(super) congestion: Option<&'a str>,
}

/// Connects to `evidence.dialled` (or `.peer`). Whatever happens, `evidence` tells what was learned; after a timeout
/// dropped this future, [`Attempt::finish`] still asks the kernel. A failure that the plan plays stands for the kernel's
/// own and goes the same way.
pub(super) async fn connect(
    attempt: &mut Attempt,
    source: &Source,
    tuning: Tuning<'_>,
    played: Option<&Played>,
) -> Result<Conn, Failure> {
    if let Some(PlayedFailure { errno, icmp }) = played.and_then(|played| fate(played, tuning.ttl)) {
        attempt.evidence.icmp = icmp;
        return Err(failure::of_connect(&io::Error::from_raw_os_error(errno)));
    }
    let to = attempt.evidence.dialled.unwrap_or(attempt.evidence.peer);
    let socket = prepare(to, source, tuning).map_err(|e| failure::of_connect(&e))?;
    match socket.connect(&SockAddr::from(to)) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(e) => {
            attempt.evidence.icmp = icmp_error(&socket);
            return Err(failure::of_connect(&e));
        }
    }
    let stream = TcpStream::from_std(socket.into()).map_err(|e| failure::of_connect(&e))?;
    let conn = Conn::new(stream);
    attempt.conn = Some(conn.clone());
    conn.stream.writable().await.map_err(|e| failure::of_connect(&e))?;
    match conn.stream.take_error() {
        Ok(None) => Ok(conn),
        Ok(Some(e)) | Err(e) => Err(failure::of_connect(&e)),
    }
}

/// How a played SYN fails; `None`: it arrives.
fn fate(played: &Played, ttl: Option<u8>) -> Option<PlayedFailure> {
    let expired = ttl.and_then(|ttl| played.routers.get(usize::from(ttl).checked_sub(1)?));
    match expired {
        // As Linux reports time exceeded (icmp(7)).
        Some(&router) => {
            let (family, kind) = if router.is_ipv4() { (IcmpFamily::V4, 11) } else { (IcmpFamily::V6, 3) };
            let icmp = IcmpError { family, kind, code: 0, sender: Some(router) };
            Some(PlayedFailure { errno: libc::EHOSTUNREACH, icmp: Some(icmp) })
        }
        None => played.failure,
    }
}

/// A connect under way: its evidence, and the socket once there is one.
#[derive(Debug)]
pub(super) struct Attempt {
    evidence: ConnectEvidence,
    conn: Option<Conn>,
}

impl Attempt {
    pub(super) fn new(peer: SocketAddr, dialled: SocketAddr) -> Self {
        let dialled = (dialled != peer).then_some(dialled);
        Self {
            evidence: ConnectEvidence { peer, dialled, local: None, tcp: None, icmp: None, path: Vec::new() },
            conn: None,
        }
    }
}

impl Attempt {
    /// The evidence, completed by what the kernel says now.
    pub(super) fn complete(&mut self, failure: Option<&Failure>) -> ConnectEvidence {
        if let Some(Conn { stream, .. }) = &self.conn {
            self.evidence.local = stream.local_addr().ok().filter(|local| !local.ip().is_unspecified());
            self.evidence.tcp = sys::tcp_info(stream.as_fd());
            // A reset closes the connection at once and says all there is to say; an ICMP error leaves its mark.
            let reset = failure.is_some_and(|failure| failure.kind == FailureKind::Refused)
                && self.evidence.tcp.is_some_and(|tcp| tcp.state == TcpState::Closed);
            if failure.is_some() && !reset {
                self.evidence.icmp = self.evidence.icmp.or_else(|| icmp_error(stream.as_ref()));
            }
        }
        ConnectEvidence { path: std::mem::take(&mut self.evidence.path), ..self.evidence }
    }
}

impl Slot for Attempt {
    fn finish(&mut self, failure: Option<&Failure>, _: Option<TcpInfo>) -> Evidence {
        Evidence::Connect(self.complete(failure))
    }
}

/// The address of this machine from which it reaches a peer. Nothing is sent for it.
///
/// # Errors
/// When there is no way to that peer.
pub fn facing(peer: SocketAddr, source: &Source) -> io::Result<IpAddr> {
    let socket = Socket::new(Domain::for_address(peer), Type::DGRAM, Some(Protocol::UDP))?;
    start_at(&socket, peer, source)?;
    socket.connect(&peer.into())?;
    let local = socket.local_addr()?.as_socket();
    local.map(|local| local.ip()).ok_or_else(|| io::Error::other("the socket has no address"))
}

fn start_at(socket: &Socket, to: SocketAddr, source: &Source) -> io::Result<()> {
    if let Some(interface) = &source.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    match source.bind.filter(|bind| bind.is_ipv4() == to.is_ipv4()) {
        Some(bind) => socket.bind(&SocketAddr::new(bind, 0).into()),
        None => Ok(()),
    }
}

fn prepare(to: SocketAddr, source: &Source, tuning: Tuning<'_>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // The queue is a source of evidence; a kernel without it costs evidence, not the probe.
    let _ =
        if to.is_ipv4() { setsockopt(&socket, Ipv4RecvErr, &true) } else { setsockopt(&socket, Ipv6RecvErr, &true) };
    start_at(&socket, to, source)?;
    if let Some(mss) = tuning.mss {
        socket.set_tcp_mss(mss)?;
    }
    if let Some(name) = tuning.congestion {
        socket.set_tcp_congestion(name.as_bytes())?;
    }
    match tuning.ttl {
        Some(ttl) if to.is_ipv4() => socket.set_ttl_v4(ttl.into())?,
        Some(ttl) => socket.set_unicast_hops_v6(ttl.into())?,
        None => {}
    }
    Ok(socket)
}

/// The newest ICMP error in the socket's error queue, with its sender (ip(7), `IP_RECVERR`).
fn icmp_error(socket: &impl AsRawFd) -> Option<IcmpError> {
    let mut found = None;
    // The queue is short; the bound keeps a flood of errors from holding the probe.
    for _ in 0..8 {
        let mut space = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let Ok(message) = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut [], Some(&mut space), flags) else { break };
        let Ok(control) = message.cmsgs() else { break };
        for item in control {
            let (error, sender) = match item {
                ControlMessageOwned::Ipv4RecvErr(error, sender) => {
                    (error, sender.map(|s| IpAddr::from(u32::from_be(s.sin_addr.s_addr).to_be_bytes())))
                }
                ControlMessageOwned::Ipv6RecvErr(error, sender) => {
                    (error, sender.map(|s| IpAddr::from(s.sin6_addr.s6_addr)))
                }
                _ => continue,
            };
            let family = match error.ee_origin {
                2 => IcmpFamily::V4,
                3 => IcmpFamily::V6,
                _ => IcmpFamily::Local,
            };
            let sender = sender.filter(|ip| !ip.is_unspecified() && family != IcmpFamily::Local);
            found = Some(IcmpError { family, kind: error.ee_type, code: error.ee_code, sender });
        }
    }
    found
}

/// A UDP socket connected to a name server, so that ICMP errors come back as errors.
pub(super) async fn udp(server: SocketAddr, source: &Source) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if let Some(interface) = &source.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(bind) = source.bind.filter(|bind| bind.is_ipv4() == server.is_ipv4()) {
        socket.bind(&SocketAddr::new(bind, 0).into())?;
    }
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(server).await?;
    Ok(socket)
}

/// A TCP stream to a name server.
pub(super) async fn tcp(server: SocketAddr, source: &Source) -> io::Result<TcpStream> {
    let socket = prepare(server, source, Tuning::default())?;
    match socket.connect(&SockAddr::from(server)) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(e) => return Err(e),
    }
    let stream = TcpStream::from_std(socket.into())?;
    stream.ready(Interest::WRITABLE).await?;
    stream.take_error()?.map_or(Ok(stream), Err)
}

/// Whether this machine has a congestion control of this name, to refuse an unknown one before anything is measured.
///
/// # Errors
/// When a socket refuses it.
#[cfg(feature = "bench")]
pub fn has_congestion(name: &str) -> io::Result<()> {
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?.set_tcp_congestion(name.as_bytes())
}

/// The index of a network interface, to refuse an unknown name before anything is probed.
///
/// # Errors
/// When there is no such interface.
pub(super) fn interface_exists(name: &str) -> io::Result<()> {
    nix::net::if_::if_nametoindex(name).map(|_| ()).map_err(io::Error::from)
}

/// Whether an address is one that a socket on this machine can be bound to.
///
/// # Errors
/// When binding fails.
pub(super) fn can_bind(ip: IpAddr) -> io::Result<()> {
    let addr = match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, 0),
        IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, 0, 0, 0)),
    };
    Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?.bind(&addr.into())
}

impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            match self.stream.try_read_buf(buf) {
                Ok(_) => return Poll::Ready(Ok(())),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(cx))?;
            match self.stream.try_write(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Closing happens on drop: half-closing through a proxy loses the rest of the answer with most of them. An exchange
    /// that is about just that asks for [`Conn::half_closing`].
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(if self.half_closes { SockRef::from(&*self.stream).shutdown(Shutdown::Write) } else { Ok(()) })
    }
}
