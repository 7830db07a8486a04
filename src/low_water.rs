//! How many bytes a reader that throws them away sleeps for: so many that waking it costs the sender next to nothing.
//!
//! On one host, whoever sends wakes the reader, and a reader that is faster than the sender is woken for every packet:
//! that can cost a proxy between them a third of its time. So a reader that was woken too soon sleeps for more bytes
//! (`SO_RCVLOWAT`), as long as they come quickly; if they do not, it is told of every byte again.

use std::{
    future::poll_fn,
    io,
    os::fd::BorrowedFd,
    pin::pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::sys::set_receive_low_water;

/// The least and the most bytes that are slept for; fewer are not worth a system call.
const LEAST: usize = 64 * 1024;
const MOST: usize = 1024 * 1024;

/// A reader that is woken again so soon sleeps for more, one that sleeps so long for fewer: that leaves a thousand or a
/// few thousand wake-ups in a second.
const SOON: Duration = Duration::from_micros(200);
const LATE: Duration = Duration::from_millis(1);

/// Bytes that are there but too few are taken after so long: whoever watches a transfer must see that it moves.
const PATIENCE: Duration = Duration::from_millis(2);

/// What the reader of one connection sleeps for.
#[derive(Debug)]
pub(crate) struct LowWater {
    /// How many bytes the socket waits for now.
    set: usize,
    /// How many it should wait for where so many are to come; less than [`LEAST`]: every one.
    aim: usize,
    /// When bytes were taken last.
    last: Option<Instant>,
}

impl Default for LowWater {
    fn default() -> Self {
        Self { set: 1, aim: 0, last: None }
    }
}

impl LowWater {
    /// Takes bytes from `io` by `take`, which has room for `room` of them: no more than are certain to come, or the end
    /// of what comes is waited for in vain. What is no `socket` is read as ever.
    ///
    /// # Errors
    /// Those of `take`.
    pub(crate) async fn take<S>(
        &mut self,
        io: &mut S,
        room: usize,
        socket: impl Fn(&S) -> Option<BorrowedFd<'_>>,
        mut take: impl FnMut(&mut S, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> io::Result<usize> {
        self.set(socket(io), if self.aim < LEAST { 1 } else { self.aim.min(room) });
        let mut patience = pin!((self.set > 1).then(|| sleep(PATIENCE)));
        let mut slept = false;
        let taken = poll_fn(|cx| {
            let taken = take(io, cx);
            if taken.is_pending() {
                slept = true;
                let expired = patience.as_mut().as_pin_mut().is_some_and(|patience| patience.poll(cx).is_ready());
                if expired {
                    patience.set(None);
                    // The kernel wakes the reader for what is there.
                    self.watch_every_byte(socket(io));
                }
            }
            taken
        });
        let taken = taken.await;
        self.took(slept, Instant::now());
        taken
    }

    /// Lets the reader be told of every byte: of what comes now it is not known how much it is.
    pub(crate) fn watch_every_byte(&mut self, socket: Option<BorrowedFd<'_>>) {
        self.set(socket, 1);
    }

    fn set(&mut self, socket: Option<BorrowedFd<'_>>, bytes: usize) {
        if self.set == bytes {
            return;
        }
        if let Some(socket) = socket
            && set_receive_low_water(socket, bytes).is_ok()
        {
            self.set = bytes;
        }
    }

    /// Bytes were taken, after a sleep or because they were there already: only sleeps tell of wake-ups.
    fn took(&mut self, slept: bool, now: Instant) {
        let since = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        match since {
            Some(since) if slept && since < SOON => self.aim = (self.aim * 2).clamp(LEAST, MOST),
            Some(since) if slept && since > LATE => self.aim /= 2,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, os::fd::AsFd as _, task::ready};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;

    const A_WHILE: Duration = Duration::from_secs(20);

    /// Two ends of a connection.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (here, there) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (here, there) = (here.unwrap(), there.unwrap().0);
        // The event loop takes a new socket for readable until it has seen that it is not.
        assert_eq!(there.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        (here, there)
    }

    fn is_readable(stream: &TcpStream) -> bool {
        let mut asked = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        poll(&mut asked, PollTimeout::ZERO).unwrap() == 1
    }

    async fn read(low_water: &mut LowWater, from: &mut TcpStream, room: usize) -> usize {
        let mut buffer = vec![0; room];
        let take = |stream: &mut TcpStream, cx: &mut Context<'_>| {
            loop {
                ready!(stream.poll_read_ready(cx))?;
                match stream.try_read(&mut buffer) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read),
                }
            }
        };
        let taken = low_water.take(from, room, |stream| Some(stream.as_fd()), take);
        timeout(A_WHILE, taken).await.expect("it does not hang").unwrap()
    }

    fn eager() -> LowWater {
        LowWater { aim: MOST, ..LowWater::default() }
    }

    #[tokio::test]
    async fn a_socket_is_ready_when_enough_has_come() {
        let (mut sender, reader) = connection().await;
        let mut low_water = LowWater::default();
        low_water.set(Some(reader.as_fd()), 100);
        sender.write_all(&[7; 99]).await.unwrap();
        assert!(!is_readable(&reader));
        sender.write_all(&[7]).await.unwrap();
        assert!(is_readable(&reader));
        low_water.set(Some(reader.as_fd()), 101);
        assert!(!is_readable(&reader));
        low_water.watch_every_byte(Some(reader.as_fd()));
        assert!(is_readable(&reader));
    }

    #[tokio::test]
    async fn bytes_that_are_too_few_are_taken_all_the_same() {
        let (mut sender, mut reader) = connection().await;
        let mut low_water = eager();
        sender.write_all(&[7; 10]).await.unwrap();
        assert_eq!(read(&mut low_water, &mut reader, MOST).await, 10);
        assert_eq!(low_water.set, 1, "it was waited for longer than it may");
        sender.write_all(&[7; 20]).await.unwrap();
        assert_eq!(read(&mut low_water, &mut reader, MOST).await, 20);
    }

    #[tokio::test]
    async fn no_more_is_slept_for_than_is_to_come() {
        let (mut sender, mut reader) = connection().await;
        let mut low_water = eager();
        let len = 300_000;
        let sent = tokio::spawn(async move { sender.write_all(&vec![7; len]).await.map(|()| sender) });
        let mut left = len;
        while left > 0 {
            left -= read(&mut low_water, &mut reader, left).await;
            assert!(low_water.set <= len);
        }
        drop(sent.await.unwrap().unwrap());
        assert_eq!(read(&mut low_water, &mut reader, MOST).await, 0, "an end wakes whoever sleeps");
    }

    #[test]
    fn sleeps_grow_while_they_are_short_and_shrink_when_they_are_long() {
        let mut low_water = LowWater::default();
        let mut now = Instant::now();
        let mut step = |low_water: &mut LowWater, slept, after| {
            now += after;
            low_water.took(slept, now);
            low_water.aim
        };
        assert_eq!(step(&mut low_water, true, Duration::ZERO), 0, "one sleep has no length");
        assert_eq!(step(&mut low_water, false, SOON / 2), 0, "no sleep, no wake-up");
        let grown: Vec<_> = (0..6).map(|_| step(&mut low_water, true, SOON / 2)).collect();
        assert_eq!(grown, [LEAST, 2 * LEAST, 4 * LEAST, 8 * LEAST, MOST, MOST]);
        assert_eq!(step(&mut low_water, true, SOON * 2), MOST, "long enough");
        let shrunk: Vec<_> = (0..5).map(|_| step(&mut low_water, true, LATE * 2)).collect();
        assert_eq!(shrunk, [MOST / 2, MOST / 4, MOST / 8, LEAST, LEAST / 2]);
    }
}
