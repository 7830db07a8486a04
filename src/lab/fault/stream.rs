//! Faults of the bytes that a party sends, whatever protocol they carry.

use std::time::Duration;

use serde::Deserialize;
use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::Instant,
};

use crate::lab::{http::Io, spec::duration};

use super::conn::Breaker;

const BUFFER: usize = 64 * 1024;

/// A fault of a party's outgoing bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// FIN after this many bytes; the rest is lost.
    CutAfter(usize),
    /// RST after this many bytes.
    ResetAfter(usize),
    /// Nothing more after this many bytes, but the connection stays.
    StallAfter(usize),
    /// One byte per interval.
    #[serde(deserialize_with = "duration")]
    Drip(Duration),
    /// Every byte arrives this much later. Counted from when it was sent, so a long answer is late only once.
    #[serde(deserialize_with = "duration")]
    Delay(Duration),
    /// The byte at this offset is inverted.
    CorruptAt(usize),
    /// Foreign bytes before the one at this offset.
    Inject(Injection),
}

/// Foreign bytes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    /// Before which byte, from 0.
    #[serde(default)]
    pub at: usize,
    /// What.
    pub text: String,
}

impl Stream {
    /// Puts the fault between a party and its connection: the party gets the returned end.
    pub(in crate::lab) fn apply(self, io: Box<dyn Io>, breaker: Breaker) -> DuplexStream {
        let (inner, outer) = io::duplex(BUFFER);
        tokio::spawn(self.relay(outer, io, breaker));
        inner
    }

    async fn relay(self, party: DuplexStream, peer: Box<dyn Io>, breaker: Breaker) {
        let (mut from_party, to_party) = io::split(party);
        let (from_peer, mut to_peer) = io::split(peer);
        let up = copy_up(from_peer, to_party);
        if let Self::ResetAfter(n) = self {
            let passed = pass(&mut from_party, &mut to_peer, n);
            // The way up must go on meanwhile, or the party would never have an answer to send.
            tokio::select! {
                _ = passed => {}
                () = async { up.await; std::future::pending().await } => {}
            }
            breaker.arm();
        } else {
            tokio::join!(up, self.copy_down(from_party, to_peer));
        }
    }

    async fn copy_down(self, mut from: FromParty, mut to: ToPeer) {
        // An error means that the peer left: there is nobody to show the fault to.
        let _ = match self {
            Self::Delay(by) => delayed(from, to, by).await,
            Self::Drip(interval) => drip(&mut from, &mut to, interval).await,
            Self::CutAfter(n) | Self::ResetAfter(n) => {
                let done = pass(&mut from, &mut to, n).await;
                let _ = to.shutdown().await;
                drain(&mut from).await;
                done
            }
            Self::StallAfter(n) => {
                let done = pass(&mut from, &mut to, n).await;
                drain(&mut from).await;
                done
            }
            Self::CorruptAt(at) => corrupt(&mut from, &mut to, at).await,
            Self::Inject(Injection { at, text }) => inject(&mut from, &mut to, at, text.as_bytes()).await,
        };
    }
}

type FromParty = io::ReadHalf<DuplexStream>;
type ToPeer = io::WriteHalf<Box<dyn Io>>;

async fn copy_up(mut from: io::ReadHalf<Box<dyn Io>>, mut to: io::WriteHalf<DuplexStream>) {
    let _ = io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// Passes at most `n` bytes on.
async fn pass(from: &mut FromParty, to: &mut ToPeer, n: usize) -> io::Result<()> {
    io::copy(&mut from.take(n as u64), to).await?;
    to.flush().await
}

async fn rest(from: &mut FromParty, to: &mut ToPeer) -> io::Result<()> {
    io::copy(from, to).await?;
    to.shutdown().await
}

async fn drain(from: &mut FromParty) {
    let _ = io::copy(from, &mut io::sink()).await;
}

async fn drip(from: &mut FromParty, to: &mut ToPeer, interval: Duration) -> io::Result<()> {
    let mut byte = [0];
    while from.read(&mut byte).await? > 0 {
        to.write_all(&byte).await?;
        tokio::time::sleep(interval).await;
    }
    to.shutdown().await
}

async fn delayed(mut from: FromParty, mut to: ToPeer, by: Duration) -> io::Result<()> {
    let (queue, mut due) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let arrivals = async move {
        let mut buffer = vec![0; BUFFER];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            if queue.send((Instant::now() + by, buffer[..n].to_vec())).is_err() {
                break;
            }
        }
    };
    let departures = async move {
        while let Some((when, bytes)) = due.recv().await {
            tokio::time::sleep_until(when).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    tokio::join!(arrivals, departures).1
}

async fn corrupt(from: &mut FromParty, to: &mut ToPeer, at: usize) -> io::Result<()> {
    pass(from, to, at).await?;
    let mut byte = [0];
    if from.read(&mut byte).await? > 0 {
        to.write_all(&[!byte[0]]).await?;
    }
    rest(from, to).await
}

async fn inject(from: &mut FromParty, to: &mut ToPeer, at: usize, foreign: &[u8]) -> io::Result<()> {
    pass(from, to, at).await?;
    to.write_all(foreign).await?;
    rest(from, to).await
}
