//! Bulk of the origin: what a blob holds, and the fastest way out and in for each kind of connection.

use std::{
    fs::File,
    io::{self, Write as _},
    mem::MaybeUninit,
    ops::Range,
    os::fd::{AsFd as _, BorrowedFd},
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll, ready},
};

use nix::sys::{
    memfd::{MFdFlags, memfd_create},
    sendfile::sendfile64,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncWrite, DuplexStream, Interest, ReadBuf},
    net::TcpStream,
};

use super::{fault::stream::Direction, http::Io, pace::Paced};
use crate::low_water::LowWater;

/// Every blob holds the numbers from 0 to 250 over and over, so that no power of two is a multiple of the period, and
/// bytes that are lost, doubled or misplaced show.
const PERIOD: usize = 251;

/// How much of a blob is there to be sent at once: whole periods, and whole pages.
const LARGE: usize = PERIOD * 4096;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=250).cycle().take(LARGE).collect());

/// The same in memory that the kernel can pass on without a copy. `None`: such files are forbidden here.
static PATTERN_FILE: LazyLock<Option<File>> = LazyLock::new(|| {
    let mut file = File::from(memfd_create("blob", MFdFlags::MFD_CLOEXEC).ok()?);
    file.write_all(&PATTERN).ok()?;
    Some(file)
});

/// A blob's bytes from an offset on; not necessarily all that are wanted.
pub(super) fn piece(offset: u64, wanted: u64) -> &'static [u8] {
    let (start, end) = place(offset, wanted);
    &PATTERN[start..end]
}

/// Where the bytes of a blob stand in the pattern.
fn place(offset: u64, wanted: u64) -> (usize, usize) {
    let start = usize::try_from(offset % LARGE as u64).unwrap_or(0);
    (start, LARGE.min(start.saturating_add(usize::try_from(wanted).unwrap_or(LARGE))))
}

/// What the origin speaks HTTP over.
pub(super) trait Bulk: Io {
    /// Sends some bytes of a blob from an offset on, at most `wanted`; tells how many.
    fn poll_send(&mut self, cx: &mut Context<'_>, offset: u64, wanted: u64) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, piece(offset, wanted))
    }

    /// The socket that bytes are taken from without anything between that could hold some back.
    fn socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Takes at most as many bytes as there is room, tells how many, and throws them away; `nowhere` is not read.
    fn poll_discard(&mut self, cx: &mut Context<'_>, nowhere: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::uninit(nowhere);
        ready!(Pin::new(self).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

impl Bulk for DuplexStream {}

impl Bulk for Box<dyn Bulk> {
    fn poll_send(&mut self, cx: &mut Context<'_>, offset: u64, wanted: u64) -> Poll<io::Result<usize>> {
        (**self).poll_send(cx, offset, wanted)
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        (**self).socket()
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>, nowhere: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        (**self).poll_discard(cx, nowhere)
    }
}

impl Bulk for Paced<TcpStream> {
    /// Nothing is copied on this side.
    fn poll_send(&mut self, cx: &mut Context<'_>, offset: u64, wanted: u64) -> Poll<io::Result<usize>> {
        let Some(file) = PATTERN_FILE.as_ref() else { return Pin::new(self).poll_write(cx, piece(offset, wanted)) };
        let turn = ready!(self.poll_turn(cx, Direction::ToClient, wanted));
        let (start, end) = place(offset, turn as u64);
        loop {
            let Poll::Ready(ready) = self.io.poll_write_ready(cx) else {
                self.waits(Direction::ToClient);
                return Poll::Pending;
            };
            ready?;
            let mut at = i64::try_from(start).unwrap_or(0);
            let send = || Ok(sendfile64(&self.io, file, Some(&mut at), end - start)?);
            match self.io.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.moved(Direction::ToClient, *result.as_ref().unwrap_or(&0));
                    return Poll::Ready(result);
                }
            }
        }
    }

    fn socket(&self) -> Option<BorrowedFd<'_>> {
        Some(self.io.as_fd())
    }

    /// The kernel copies nothing (`MSG_TRUNC`, tcp(7)).
    fn poll_discard(&mut self, cx: &mut Context<'_>, nowhere: &mut [MaybeUninit<u8>]) -> Poll<io::Result<usize>> {
        let turn = ready!(self.poll_turn(cx, Direction::ToServer, nowhere.len() as u64));
        loop {
            let Poll::Ready(ready) = self.io.poll_read_ready(cx) else {
                self.waits(Direction::ToServer);
                return Poll::Pending;
            };
            ready?;
            let take = || SockRef::from(&self.io).recv_with_flags(&mut nowhere[..turn], libc::MSG_TRUNC);
            match self.io.try_io(Interest::READABLE, take) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => {
                    self.moved(Direction::ToServer, *result.as_ref().unwrap_or(&0));
                    return Poll::Ready(result);
                }
            }
        }
    }
}

/// Sends this part of a blob.
pub(super) async fn send(io: &mut impl Bulk, mut range: Range<u64>) -> io::Result<()> {
    while !range.is_empty() {
        let sent = std::future::poll_fn(|cx| io.poll_send(cx, range.start, range.end - range.start)).await?;
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        range.start += sent as u64;
    }
    Ok(())
}

/// Takes so many bytes and throws them away; the first may be in `buffer` already.
pub(super) async fn discard(io: &mut impl Bulk, buffer: &mut Vec<u8>, length: u64) -> io::Result<()> {
    let buffered = buffer.len().min(usize::try_from(length).unwrap_or(usize::MAX));
    buffer.drain(..buffered);
    let mut left = length - buffered as u64;
    // Nobody writes to it where the kernel throws the bytes away: then it is no memory at all.
    let mut nowhere = Vec::<u8>::with_capacity(LARGE.min(usize::try_from(left).unwrap_or(LARGE)));
    let mut low_water = LowWater::default();
    while left > 0 {
        let room = nowhere.capacity().min(usize::try_from(left).unwrap_or(LARGE));
        let nowhere: &mut [MaybeUninit<u8>] = &mut nowhere.spare_capacity_mut()[..room];
        match low_water.take(io, room, Bulk::socket, |io, cx| io.poll_discard(cx, nowhere)).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            taken => left -= taken as u64,
        }
    }
    low_water.watch_every_byte(io.socket());
    Ok(())
}
