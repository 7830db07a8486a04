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
    time::{Instant, sleep, sleep_until, timeout},
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

/// How bytes are moved; by default well.
#[derive(Debug, Default)]
pub(super) struct Manner {
    /// The tunnel is cut when nothing moved for so long.
    pub(super) idle: Option<Duration>,
    /// The tunnel is cut after so long.
    pub(super) lifetime: Option<Duration>,
    /// The tunnel is cut when the client does not take within so long what is there for it.
    pub(super) slow: Option<Duration>,
    /// What the origin sent right before its end is lost.
    pub(super) loses_last_bytes: bool,
    /// The client is not told that the origin has reset the connection.
    pub(super) keeps_after_reset: bool,
    /// Nothing is taken from one side as long as something of the other's is to be got rid of.
    pub(super) one_way_at_a_time: bool,
}

/// How long a client may take for what is outstanding when the origin has gone.
const OUTSTANDING: Duration = Duration::from_millis(250);

/// How soon an end must follow for bytes to be the last ones.
const END: Duration = Duration::from_millis(20);

/// Moves bytes until both ways ended or one failed. The end of one way is passed on and leaves the other way open.
pub(super) async fn relay(
    client: &mut dyn Io,
    mut origin: TcpStream,
    meter: &Meter,
    manner: &Manner,
) -> io::Result<()> {
    shorten_queue(&origin);
    if manner.one_way_at_a_time {
        return alternate(client, origin).await;
    }
    let clock = IdleClock(Mutex::new(Instant::now()));
    let (from_client, to_client) = tokio::io::split(client);
    let (from_origin, to_origin) = origin.split();
    let up = Way { moved: &meter.up, clock: &clock, manner, to_client: false }.pump(from_client, to_origin);
    let down = Way { moved: &meter.down, clock: &clock, manner, to_client: true }.pump(from_origin, to_client);
    tokio::select! {
        done = async { tokio::try_join!(up, down) } => done.map(|_| ()),
        () = clock.expire(manner.idle) => Ok(()),
        () = expire(manner.lifetime) => Ok(()),
    }
}

/// Moves bytes one way at a time, until either side ends.
async fn alternate(client: &mut dyn Io, mut origin: TcpStream) -> io::Result<()> {
    let (mut up, mut down) = (Vec::with_capacity(LITTLE), Vec::with_capacity(LITTLE));
    loop {
        tokio::select! {
            biased;
            read = client.read_buf(&mut up) => {
                if read? == 0 {
                    return Ok(());
                }
                origin.write_all(&up).await?;
            }
            read = origin.read_buf(&mut down) => {
                if read? == 0 {
                    return Ok(());
                }
                client.write_all(&down).await?;
                client.flush().await?;
            }
        }
        up.clear();
        down.clear();
    }
}

async fn expire(limit: Option<Duration>) {
    match limit {
        Some(limit) => sleep(limit).await,
        None => std::future::pending().await,
    }
}

/// One direction.
struct Way<'t> {
    moved: &'t AtomicU64,
    clock: &'t IdleClock,
    manner: &'t Manner,
    to_client: bool,
}

impl Way<'_> {
    async fn pump(self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(LITTLE);
        loop {
            let n = match from.read_buf(&mut buffer).await {
                Err(_) if self.to_client && self.manner.keeps_after_reset => return std::future::pending().await,
                read => read?,
            };
            self.clock.touch();
            if n == 0 || self.to_client && self.manner.loses_last_bytes && ends(&mut from, &mut buffer).await? {
                return to.shutdown().await;
            }
            // Counted first: whoever has seen the bytes must find them in the log.
            self.moved.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            let written = async {
                to.write_all(&buffer).await?;
                to.flush().await
            };
            match (self.to_client, self.manner.slow) {
                (true, Some(limit)) => timeout(limit, written).await.map_err(|_| io::ErrorKind::TimedOut)??,
                (true, None) => written.await?,
                (false, _) => match written.await {
                    Err(_) if self.manner.keeps_after_reset => {}
                    // The origin takes no more; what it has sent before still goes to a client that takes it.
                    Err(error) => {
                        sleep(OUTSTANDING).await;
                        return Err(error);
                    }
                    Ok(()) => {}
                },
            }
            let full = n == buffer.capacity();
            buffer.clear();
            if full {
                buffer.reserve_exact(LARGE);
            }
        }
    }
}

/// Whether the end follows at once; if not, what follows is read.
async fn ends(from: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<bool> {
    while buffer.len() < LARGE {
        match timeout(END, from.read_buf(buffer)).await {
            Ok(Ok(0)) => return Ok(true),
            Ok(read) => _ = read?,
            Err(_) => break,
        }
    }
    Ok(false)
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
