//! Moves bytes both ways between a client and an origin: in the kernel where it can, by copying elsewhere.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::{http::Io, log::Meter};

/// The copying buffer at first: most tunnels of a prober carry little.
const LITTLE: usize = 4 * 1024;

/// The copying buffer at last: large enough that the relay is no bottleneck.
const LARGE: usize = 256 * 1024;

/// Moves bytes until both ways ended, one failed, or nothing moved for `idle`. The end of one way is passed on and leaves
/// the other way open.
pub(super) async fn relay(
    client: &mut dyn Io,
    mut origin: TcpStream,
    meter: &Meter,
    idle: Option<Duration>,
) -> io::Result<()> {
    let clock = IdleClock(Mutex::new(Instant::now()));
    let up = Way { moved: &meter.up, clock: &clock };
    let down = Way { moved: &meter.down, clock: &clock };
    let (from_origin, to_origin) = origin.split();
    #[cfg(target_os = "linux")]
    if let Some(client) = (&mut *client as &mut dyn std::any::Any).downcast_mut::<TcpStream>() {
        let (from_client, to_client) = client.split();
        let both = async { tokio::try_join!(up.splice(from_client, to_origin), down.splice(from_origin, to_client)) };
        return clock.limit(idle, both).await;
    }
    let (from_client, to_client) = tokio::io::split(client);
    let both = async { tokio::try_join!(up.pump(from_client, to_origin), down.pump(from_origin, to_client)) };
    clock.limit(idle, both).await
}

/// One direction of a tunnel.
#[derive(Clone, Copy)]
struct Way<'a> {
    moved: &'a AtomicU64,
    clock: &'a IdleClock,
}

enum Copied {
    /// The sender ended, and the receiver knows.
    All,
    /// There is more than a buffer of the largest allowed size takes at once.
    Bulk,
}

impl Way<'_> {
    /// Copies to the end.
    async fn pump(self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        self.copy(&mut from, &mut to, None).await.map(|_| ())
    }

    /// Copies with a buffer that grows as long as reads fill it, until the end or until a read filled `most` bytes.
    async fn copy(
        self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        most: Option<usize>,
    ) -> io::Result<Copied> {
        let mut buffer = Vec::with_capacity(LITTLE);
        loop {
            buffer.clear();
            let n = from.read_buf(&mut buffer).await?;
            if self.count(n) == 0 {
                to.shutdown().await?;
                return Ok(Copied::All);
            }
            to.write_all(&buffer).await?;
            to.flush().await?;
            if n == buffer.capacity() {
                if most.is_some_and(|most| n >= most) {
                    return Ok(Copied::Bulk);
                }
                buffer.reserve_exact((4 * n).min(LARGE));
            }
        }
    }

    /// Counted before they are passed on: whoever has seen the bytes must find them in the log.
    fn count(self, n: usize) -> usize {
        self.clock.touch();
        self.moved.fetch_add(n as u64, Ordering::Relaxed);
        n
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::{io, os::fd::OwnedFd};

    use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
    use tokio::{
        io::{AsyncWriteExt as _, Interest},
        net::{
            TcpStream,
            tcp::{ReadHalf, WriteHalf},
        },
    };

    use super::{Copied, Way};

    /// Below this much at once a pipe costs more than it saves.
    const BULK: usize = 64 * 1024;

    /// What a user without privileges may ask for (pipe(7), `pipe-max-size`).
    const PIPE: usize = 1024 * 1024;

    impl Way<'_> {
        /// Copies while there is little, then moves bulk through a pipe, where it never enters user space.
        pub(super) async fn splice(self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
            if let Copied::All = self.copy(&mut from, &mut to, Some(BULK)).await? {
                return Ok(());
            }
            // Without descriptors for a pipe the copying goes on.
            let Ok(pipe) = Pipe::new() else { return self.pump(from, to).await };
            while let n @ 1.. = self.count(pipe.fill(from.as_ref()).await?) {
                pipe.drain(to.as_ref(), n).await?;
            }
            to.shutdown().await
        }
    }

    struct Pipe {
        read: OwnedFd,
        write: OwnedFd,
    }

    impl Pipe {
        fn new() -> io::Result<Self> {
            let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
            // All pipes of a user share a budget; a pipe of the usual size takes more turns, no more.
            let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(i32::try_from(PIPE).unwrap_or(i32::MAX)));
            Ok(Self { read, write })
        }

        /// Takes what the connection has, into the empty pipe: then only the connection can make it wait. 0 at its end.
        async fn fill(&self, from: &TcpStream) -> io::Result<usize> {
            from.async_io(Interest::READABLE, || Ok(splice(from, None, &self.write, None, PIPE, FLAGS)?)).await
        }

        /// Gives the connection the `left` bytes in the pipe: so again only the connection can make it wait.
        async fn drain(&self, to: &TcpStream, mut left: usize) -> io::Result<()> {
            while left > 0 {
                left -=
                    to.async_io(Interest::WRITABLE, || Ok(splice(&self.read, None, to, None, left, FLAGS)?)).await?;
            }
            Ok(())
        }
    }

    const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);
}

/// When a byte last moved.
struct IdleClock(Mutex<Instant>);

impl IdleClock {
    fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Ends `moving` in order once nothing moved for so long.
    async fn limit<T>(&self, idle: Option<Duration>, moving: impl Future<Output = io::Result<T>>) -> io::Result<()> {
        tokio::select! {
            done = moving => done.map(|_| ()),
            () = self.expire(idle) => Ok(()),
        }
    }

    async fn expire(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= limit {
                return;
            }
            sleep_until(last + limit).await;
        }
    }
}
