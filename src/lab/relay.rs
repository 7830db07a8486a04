//! Moves bytes both ways between a client and an origin.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::{http::Io, log::Meter};

/// The buffer of one way at first: most tunnels of a prober carry little.
const LITTLE: usize = 4 * 1024;

/// How much may wait in a connection's receive queue, before the kernel doubles it; a system may grant less
/// (`net.core.rmem_max`). Shorter queues cost more wake-ups than they save.
const QUEUE: usize = 1024 * 1024;

/// The buffer of a way that carries bulk: it takes a whole queue at once.
const LARGE: usize = 2 * QUEUE;

/// Keeps a connection's receive queue short. On loopback the kernel would let it grow to megabytes, all of which are
/// cold when their turn comes; with short queues copying is faster than passing the pages on with `splice(2)`, which
/// keeps the sender from using them again.
pub(super) fn shorten_queue(stream: &TcpStream) {
    // It is about speed alone.
    let _ = SockRef::from(stream).set_recv_buffer_size(QUEUE);
}

/// Moves bytes until both ways ended, one failed, or nothing moved for `idle`. The end of one way is passed on and leaves
/// the other way open.
pub(super) async fn relay(
    client: &mut dyn Io,
    mut origin: TcpStream,
    meter: &Meter,
    idle: Option<Duration>,
) -> io::Result<()> {
    shorten_queue(&origin);
    let clock = IdleClock(Mutex::new(Instant::now()));
    let (from_client, to_client) = tokio::io::split(client);
    let (from_origin, to_origin) = origin.split();
    let up = pump(from_client, to_origin, &meter.up, &clock);
    let down = pump(from_origin, to_client, &meter.down, &clock);
    tokio::select! {
        done = async { tokio::try_join!(up, down) } => done.map(|_| ()),
        () = clock.expire(idle) => Ok(()),
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
    clock: &IdleClock,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(LITTLE);
    loop {
        let n = from.read_buf(&mut buffer).await?;
        clock.touch();
        if n == 0 {
            return to.shutdown().await;
        }
        // Counted first: whoever has seen the bytes must find them in the log.
        moved.fetch_add(n as u64, Ordering::Relaxed);
        to.write_all(&buffer).await?;
        to.flush().await?;
        let full = n == buffer.capacity();
        buffer.clear();
        if full {
            buffer.reserve_exact(LARGE);
        }
    }
}

/// When a byte last moved.
struct IdleClock(Mutex<Instant>);

impl IdleClock {
    fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
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
