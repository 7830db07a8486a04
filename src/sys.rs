//! The one audited module with `unsafe`: `TCP_INFO`, `SO_RCVLOWAT`, and a timer that the event loop waits for, have no
//! safe wrapper in the libraries used here.
#![allow(unsafe_code)]

#[cfg(feature = "probe")]
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsRawFd, BorrowedFd};

#[cfg(feature = "probe")]
use crate::model::{TcpInfo, TcpState};

/// Lets a reader of this socket sleep until so many bytes have come, or the peer has ended (`SO_RCVLOWAT`, socket(7)).
/// Linux shows the effect in poll(2) since 2.6.28, and tells a waiting reader at once when a lower value makes what has
/// come enough. The kernel takes half of the largest receive buffer in place of more.
///
/// # Errors
/// When the kernel knows no such option.
#[cfg(feature = "lab")]
pub(crate) fn set_receive_low_water(socket: BorrowedFd<'_>, bytes: usize) -> std::io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(std::io::Error::other)?;
    // SAFETY: `value` is valid for reads of `length` bytes, and the descriptor is open for the duration of the borrow.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, (&raw const value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// The kernel's view of a TCP connection (`TCP_INFO`, tcp(7)); `None` where the kernel has none to give.
#[cfg(feature = "probe")]
pub(crate) fn tcp_info(socket: BorrowedFd<'_>) -> Option<TcpInfo> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: `info` is valid for writes of `length` bytes, `length` is valid for reads and writes, and the descriptor
    // is open for the duration of the borrow. The kernel writes at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return None;
    }
    // SAFETY: the struct consists of integers only, for which zero bytes are valid, and was zeroed before the call; a
    // kernel that knows fewer fields leaves the rest zero.
    let info = unsafe { info.assume_init() };
    let filled = |end: usize| usize::try_from(length).is_ok_and(|length| length >= end);
    Some(TcpInfo {
        state: state(info.tcpi_state),
        rtt_us: info.tcpi_rtt,
        timeouts: info.tcpi_retransmits,
        retransmitted: info.tcpi_total_retrans,
        retransmitted_in_flight: info.tcpi_retrans,
        unacked: info.tcpi_unacked,
        snd_mss: info.tcpi_snd_mss,
        bytes_acked: filled(offset_of!(libc::tcp_info, tcpi_bytes_acked) + 8).then_some(info.tcpi_bytes_acked),
    })
}

/// A timer of the kernel (`timerfd_create(2)`) that the event loop can wait for.
#[cfg(feature = "bench")]
#[derive(Debug)]
pub(crate) struct Timer(nix::sys::timerfd::TimerFd);

#[cfg(feature = "bench")]
impl Timer {
    /// For the event loop that it is made in.
    ///
    /// # Errors
    /// When the system has no timer or descriptor left.
    pub(crate) fn new() -> std::io::Result<tokio::io::unix::AsyncFd<Self>> {
        use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // SAFETY: the timer owns its descriptor, which stays open and the same for as long as it lives, and nothing takes
        // the timer out of its private field.
        let registered = unsafe { tokio::io::unix::AsyncFd::register(Self(timer)) };
        registered.map_err(std::io::Error::from)
    }

    /// Lets it expire once, after this long; what it did before is forgotten.
    ///
    /// # Errors
    /// When the kernel refuses the time.
    pub(crate) fn set(&self, after: std::time::Duration) -> std::io::Result<()> {
        use nix::sys::{
            time::TimeSpec,
            timerfd::{Expiration, TimerSetTimeFlags},
        };
        // Zero would stop it.
        let after = TimeSpec::from_duration(after.max(std::time::Duration::from_nanos(1)));
        Ok(self.0.set(Expiration::OneShot(after), TimerSetTimeFlags::empty())?)
    }
}

#[cfg(feature = "bench")]
impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsFd as _;
        self.0.as_fd().as_raw_fd()
    }
}

#[cfg(feature = "probe")]
fn state(number: u8) -> TcpState {
    match number {
        1 => TcpState::Established,
        2 => TcpState::SynSent,
        3 => TcpState::SynReceived,
        4 => TcpState::FinWait1,
        5 => TcpState::FinWait2,
        6 => TcpState::TimeWait,
        7 => TcpState::Closed,
        8 => TcpState::CloseWait,
        9 => TcpState::LastAck,
        10 => TcpState::Listen,
        11 => TcpState::Closing,
        _ => TcpState::Unknown,
    }
}
