//! Faults of the bytes that a party sends, whatever protocol they carry.

use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tokio::{
    io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::Instant,
};

use crate::lab::{
    http::Io,
    pace::{Pace, Paced},
    spec::duration,
};

use super::conn::Breaker;

const BUFFER: usize = 64 * 1024;

/// A fault of a byte stream. All but the last three, which set the pace of every byte, begin at `when.after_bytes`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// FIN; the rest is lost.
    Cut,
    /// RST.
    Reset,
    /// Nothing more, but the connection stays.
    Stall,
    /// The byte there is inverted.
    Corrupt,
    /// Foreign bytes stand before the byte there.
    Inject(String),
    /// Nothing for so long, once; then everything goes on unharmed.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(feature = "scenario", schemars(with = "String"))]
    Pause(Duration),
    /// One byte per interval.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(feature = "scenario", schemars(with = "String"))]
    Drip(Duration),
    /// Every byte arrives this much later. Counted from when it was sent, so a long answer is late only once, and the
    /// throughput stays.
    #[serde(deserialize_with = "duration")]
    #[cfg_attr(feature = "scenario", schemars(with = "String"))]
    Delay(Duration),
    /// Fewer bytes per second.
    #[cfg_attr(feature = "scenario", schemars(with = "String"))]
    Throttle(Throttle),
}

/// How much a throttle lets through, as it is written: a rate for each connection, `100MB/s`, or what is taken from the
/// rate that all connections together would have without it, `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Throttle {
    /// Bytes per second on each connection.
    Rate(u64),
    /// So many millionths less than the party could carry, over all connections that the fault meets. Gaps without a
    /// byte of more than 50 ms count as time in which nobody wanted anything.
    Less(u32),
}

impl Throttle {
    /// Units of a rate in bytes.
    const UNITS: [(&str, u64); 9] = [
        ("B", 1),
        ("kB", 1_000),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("Mbit", 125_000),
    ];

    fn parse(text: &str) -> Option<Self> {
        if let Some(percent) = text.strip_suffix('%') {
            let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
            let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
            let part = digits(&format!("{part:0<4}")).filter(|_| (1..=4).contains(&part.len()))?;
            let less = digits(whole)?.checked_mul(10_000)?.checked_add(part)?;
            return (1..1_000_000).contains(&less).then_some(Self::Less(less));
        }
        let rate = text.strip_suffix("/s")?;
        let (number, unit) = rate.split_at(rate.find(|c: char| !c.is_ascii_digit())?);
        let (_, bytes) = Self::UNITS.into_iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(bytes).filter(|rate| *rate > 0).map(Self::Rate)
    }
}

impl<'de> Deserialize<'de> for Throttle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "`{text}` is no throttle; write a rate (a whole number and B, kB, MB, GB, KiB, MiB, GiB or Mbit, as in \
                 100MB/s), or what is taken away: 10%, at most 99.9999%"
            ))
        })
    }
}

/// Which of the two streams of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// What the party sends.
    #[default]
    ToClient,
    /// What the party is sent.
    ToServer,
}

impl Stream {
    /// Whether it changes the pace of all bytes, and not what happens at one of them.
    pub(in crate::lab) fn is_pace(&self) -> bool {
        matches!(self, Self::Drip(_) | Self::Delay(_) | Self::Throttle(_))
    }
}

/// What the stream faults of one connection do to it.
#[derive(Debug, Default)]
pub(in crate::lab) struct Disturbance {
    /// What holds bytes.
    pub(in crate::lab) paces: Vec<(Direction, Pace)>,
    /// What changes or loses them.
    pub(in crate::lab) placed: Option<Placed>,
}

impl Disturbance {
    pub(in crate::lab) fn is_none(&self) -> bool {
        self.paces.is_empty() && self.placed.is_none()
    }

    /// Puts it between a party and its connection: the party gets what is returned.
    pub(in crate::lab) fn apply(self, io: Box<dyn Io>, breaker: &Breaker) -> io::Result<Box<dyn Io>> {
        let io = if self.paces.is_empty() { io } else { Box::new(Paced::new(io, self.paces, None)) };
        Ok(match self.placed {
            Some(placed) => Box::new(placed.apply(io, breaker.again()?)),
            None => io,
        })
    }
}

/// A stream fault with its place.
#[derive(Debug, Clone)]
pub(in crate::lab) struct Placed {
    pub(in crate::lab) fault: Stream,
    pub(in crate::lab) after: u64,
    pub(in crate::lab) direction: Direction,
}

impl Placed {
    /// Puts the fault between a party and its connection: the party gets the returned end.
    pub(in crate::lab) fn apply(self, io: Box<dyn Io>, breaker: Breaker) -> DuplexStream {
        let (inner, outer) = io::duplex(BUFFER);
        tokio::spawn(relay(self, outer, io, breaker));
        inner
    }
}

async fn relay(placed: Placed, party: DuplexStream, client: Box<dyn Io>, breaker: Breaker) {
    let Placed { fault, after, direction } = placed;
    let (from_party, to_party) = io::split(party);
    let (from_client, to_client) = io::split(client);
    match direction {
        Direction::ToClient => one_way(fault, after, (from_party, to_client), (from_client, to_party), breaker).await,
        Direction::ToServer => one_way(fault, after, (from_client, to_party), (from_party, to_client), breaker).await,
    }
}

/// Passes the bytes of one direction through the fault, and those of the other as they are.
async fn one_way(
    fault: Stream,
    after: u64,
    (mut from, mut to): (impl Source, impl Sink),
    (mut back_from, mut back_to): (impl Source, impl Sink),
    breaker: Breaker,
) {
    let back = async {
        // An error means that somebody left: there is nobody to pass anything on to.
        let _ = rest(&mut back_from, &mut back_to).await;
    };
    if fault == Stream::Reset {
        // The other direction must go on meanwhile, or there might never be enough bytes in this one.
        tokio::select! {
            _ = pass(&mut from, &mut to, after) => {}
            () = async { back.await; std::future::pending().await } => {}
        }
        breaker.arm();
    } else {
        tokio::join!(back, inflict(fault, after, from, to));
    }
}

async fn inflict(fault: Stream, after: u64, mut from: impl Source, mut to: impl Sink) {
    // As above.
    let _ = match fault {
        Stream::Delay(by) => delayed(from, to, by).await,
        Stream::Drip(interval) => drip(&mut from, &mut to, interval).await,
        Stream::Cut | Stream::Reset => {
            let done = pass(&mut from, &mut to, after).await;
            let _ = to.shutdown().await;
            drain(&mut from).await;
            done
        }
        Stream::Stall => {
            let done = pass(&mut from, &mut to, after).await;
            drain(&mut from).await;
            done
        }
        Stream::Corrupt => corrupt(&mut from, &mut to, after).await,
        Stream::Inject(text) => inject(&mut from, &mut to, after, text.as_bytes()).await,
        // These only hold bytes, which takes nobody in between.
        Stream::Pause(_) | Stream::Throttle(_) => rest(&mut from, &mut to).await,
    };
}

trait Source: AsyncRead + Unpin + Send {}
impl<T: AsyncRead + Unpin + Send> Source for T {}
trait Sink: AsyncWrite + Unpin + Send {}
impl<T: AsyncWrite + Unpin + Send> Sink for T {}

/// Passes at most `n` bytes on.
async fn pass(from: &mut impl Source, to: &mut impl Sink, n: u64) -> io::Result<()> {
    io::copy(&mut from.take(n), to).await?;
    to.flush().await
}

async fn rest(from: &mut impl Source, to: &mut impl Sink) -> io::Result<()> {
    io::copy(from, to).await?;
    to.shutdown().await
}

async fn drain(from: &mut impl Source) {
    let _ = io::copy(from, &mut io::sink()).await;
}

async fn drip(from: &mut impl Source, to: &mut impl Sink, interval: Duration) -> io::Result<()> {
    let mut byte = [0];
    while from.read(&mut byte).await? > 0 {
        to.write_all(&byte).await?;
        tokio::time::sleep(interval).await;
    }
    to.shutdown().await
}

async fn delayed(mut from: impl Source, mut to: impl Sink, by: Duration) -> io::Result<()> {
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

async fn corrupt(from: &mut impl Source, to: &mut impl Sink, at: u64) -> io::Result<()> {
    pass(from, to, at).await?;
    let mut byte = [0];
    if from.read(&mut byte).await? > 0 {
        to.write_all(&[!byte[0]]).await?;
    }
    rest(from, to).await
}

async fn inject(from: &mut impl Source, to: &mut impl Sink, at: u64, foreign: &[u8]) -> io::Result<()> {
    pass(from, to, at).await?;
    to.write_all(foreign).await?;
    rest(from, to).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttles_are_written_as_rates_or_shares() {
        for (text, throttle) in [
            ("100MB/s", Throttle::Rate(100_000_000)),
            ("64KiB/s", Throttle::Rate(65_536)),
            ("8Mbit/s", Throttle::Rate(1_000_000)),
            ("1B/s", Throttle::Rate(1)),
            ("10%", Throttle::Less(100_000)),
            ("2.5%", Throttle::Less(25_000)),
            ("99.9999%", Throttle::Less(999_999)),
        ] {
            assert_eq!(Throttle::parse(text), Some(throttle), "{text}");
        }
        for wrong in [
            "",
            "%",
            "/s",
            "0%",
            "100%",
            "-1%",
            "+1%",
            "1.%",
            ".5%",
            "1.00001%",
            "5",
            "5MB",
            "0MB/s",
            "MB/s",
            "1.5MB/s",
            "1mb/s",
            "99999999999GB/s",
            "4294967295%",
            "429496.9999%",
            "10 %",
        ] {
            assert_eq!(Throttle::parse(wrong), None, "{wrong}");
        }
    }
}
