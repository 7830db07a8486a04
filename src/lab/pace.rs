//! When a connection may move bytes: pauses, rates, and stalls of a whole party. What holds a transfer must not change
//! the way it takes, or it would cost more than it says.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::fault::stream::Direction;

/// What holds the bytes of one direction.
#[derive(Debug)]
pub(super) enum Pace {
    /// Nothing moves for a while, once.
    Pause {
        /// Bytes until then.
        left: u64,
        /// For so long.
        by: Duration,
        /// Known once it has begun.
        end: Option<Instant>,
    },
    /// So many bytes per second on this connection.
    Rate {
        per_second: u64,
        /// When what has moved so far should have done so.
        due: Option<Instant>,
    },
    /// Less than the party could carry, over all its connections.
    Share(Arc<Share>),
}

/// How long a rate may be late and still make up for it: longer than any timer is late.
const LATE: Duration = Duration::from_millis(50);

/// In a second a rate lets bytes go so many times.
const STEPS: u64 = 200;

impl Pace {
    /// Until when nothing may move.
    fn held(&mut self, now: Instant) -> Option<Instant> {
        match self {
            Self::Pause { left: 1.., .. } => None,
            Self::Pause { by, end, .. } => Some(*end.get_or_insert(now + *by)),
            Self::Rate { due, .. } => *due,
            Self::Share(share) => share.held(now),
        }
        .filter(|until| *until > now)
    }

    /// How many bytes may move now.
    fn limit(&self) -> u64 {
        match self {
            Self::Pause { left: left @ 1.., .. } => *left,
            Self::Rate { per_second, .. } => (per_second / STEPS).max(1),
            Self::Pause { .. } | Self::Share(_) => u64::MAX,
        }
    }

    fn moved(&mut self, bytes: u64, now: Instant) {
        match self {
            Self::Pause { left: left @ 1.., by, end } => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    *end = Some(now + *by);
                }
            }
            Self::Pause { .. } => {}
            Self::Rate { per_second, due } => {
                let from = due.map_or(now, |due| due.max(now.checked_sub(LATE).unwrap_or(now)));
                *due = Some(from + seconds(number(bytes) / number(*per_second)));
            }
            Self::Share(share) => share.moved(bytes, now),
        }
    }
}

/// Makes a party carry less than it could, whatever that is: it works for a while, and pauses in proportion. Where the
/// other side is the slower one, queues go on for a while when the party pauses, and are made up for as soon as it works
/// again. This shows as a burst in the first half of the working time, and the pause becomes longer by as much.
#[derive(Debug)]
pub(super) struct Share {
    /// The share of its rate that is left.
    left: f64,
    /// How long it works.
    work: Duration,
    account: Mutex<Account>,
}

#[derive(Debug, Default)]
struct Account {
    /// The work since the last pause.
    now: Work,
    /// When bytes last moved, or the pause ended.
    last: Option<Instant>,
    /// Since when the other side has been waited for.
    waits: Option<Instant>,
    /// The end of the pause.
    until: Option<Instant>,
    /// By how many seconds timers have made pauses too long.
    late: f64,
    /// First and second halves of the work of late, in seconds and bytes, and how many they are; older ones count less.
    first: (f64, f64),
    second: (f64, f64),
    count: f64,
}

/// What was done between two pauses.
#[derive(Debug, Default)]
struct Work {
    time: Duration,
    bytes: u64,
    /// Time and bytes of the first half, once it is over.
    half: Option<(Duration, u64)>,
    /// How much of the second half was spent waiting for the other side.
    waited: Duration,
}

/// How long a pause is if no queue hides a part of it: long beside a timer's tick, short beside a measurement.
const PAUSE: f64 = 0.010;

/// Bounds of the working time.
const WORK: (f64, f64) = (0.020, 0.400);

/// When nothing moves for longer, the party is not working.
const IDLE: Duration = Duration::from_millis(50);

/// What a working time counts when the next one is over.
const FADE: f64 = 0.8;

/// The other side is the slower one if this share of the time is spent waiting for it.
const WAITS: f64 = 0.05;

/// Queues hide no more than so many seconds of a pause. That they seem to hide less than nothing is noise, which must be
/// able to outweigh the noise of the other sign.
const HIDDEN: (f64, f64) = (-PAUSE, 0.2);

impl Share {
    /// `less`: which share of the rate is taken away, above 0 and below 1.
    pub(super) fn new(less: f64) -> Self {
        let work = (PAUSE * (1.0 - less) / less).clamp(WORK.0, WORK.1);
        Self { left: 1.0 - less, work: seconds(work), account: Mutex::default() }
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self, now: Instant) -> Option<Instant> {
        let mut account = self.account();
        let until = account.until?;
        if until > now {
            return Some(until);
        }
        let late = now - until;
        // Whoever comes much later has not waited for it.
        if late < IDLE {
            account.late += late.as_secs_f64();
        }
        (account.until, account.last, account.waits) = (None, Some(now), None);
        None
    }

    /// The other side does not take, or does not send.
    fn waits(&self, now: Instant) {
        self.account().waits.get_or_insert(now);
    }

    fn moved(&self, bytes: u64, now: Instant) {
        let mut account = self.account();
        let since = |then: Option<Instant>| then.map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let (time, waited) = (since(account.last).min(IDLE), since(account.waits.take()).min(IDLE));
        account.last = Some(now);
        account.now.time += time;
        account.now.bytes += bytes;
        let Some((half, before)) = account.now.half else {
            if account.now.time >= self.work / 2 {
                account.now.half = Some((account.now.time, account.now.bytes));
            }
            return;
        };
        account.now.waited += waited;
        if account.now.time < self.work || account.until.is_some() || account.now.bytes == before {
            return;
        }
        let work = std::mem::take(&mut account.now);
        let (first, second) = (half.as_secs_f64(), work.time.saturating_sub(half).as_secs_f64());
        let fade = |(time, bytes): (f64, f64), more: (f64, u64)| (time * FADE + more.0, bytes * FADE + number(more.1));
        account.first = fade(account.first, (first, before));
        account.second = fade(account.second, (second, work.bytes - before));
        account.count = account.count * FADE + 1.0;
        let mut pause = (first + second) * (1.0 - self.left) / self.left;
        if work.waited.as_secs_f64() > second * WAITS {
            let rate = account.second.1 / account.second.0;
            let hidden = (account.first.1 / rate - account.first.0) / account.count;
            pause += hidden.clamp(HIDDEN.0, HIDDEN.1) / self.left;
        }
        let pause = pause.max(0.0);
        let due = (pause - account.late).max(0.0);
        account.late -= pause - due;
        account.until = Some(now + seconds(due));
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 the last digit does not count")]
fn number(bytes: u64) -> f64 {
    bytes as f64
}

/// A stall of a whole party: as long as it lasts, none of its connections moves a byte.
#[derive(Debug, Default)]
pub(super) struct Stall(Mutex<Option<Instant>>);

impl Stall {
    /// It begins now, or goes on for longer.
    pub(super) fn begin(&self, by: Duration) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(Some(Instant::now() + by));
    }

    fn held(&self, now: Instant) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).filter(|until| *until > now)
    }
}

/// A connection that moves bytes when it may.
#[derive(Debug)]
pub(super) struct Paced<T> {
    pub(super) io: T,
    paces: Vec<(Direction, Pace)>,
    stall: Option<Arc<Stall>>,
    /// What each direction waits for.
    waits: [Option<Pin<Box<Sleep>>>; 2],
}

impl<T> Paced<T> {
    pub(super) fn new(io: T, paces: Vec<(Direction, Pace)>, stall: Option<Arc<Stall>>) -> Self {
        Self { io, paces, stall, waits: [None, None] }
    }

    /// Waits until bytes may move in this direction; how many, at most `wanted`.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>, direction: Direction, wanted: u64) -> Poll<usize> {
        if self.paces.is_empty() && self.stall.is_none() {
            return Poll::Ready(usize::try_from(wanted).unwrap_or(usize::MAX));
        }
        loop {
            let wait = &mut self.waits[direction as usize];
            if let Some(sleep) = wait {
                ready!(sleep.as_mut().poll(cx));
                *wait = None;
            }
            let now = Instant::now();
            let stalled = self.stall.as_ref().and_then(|stall| stall.held(now));
            let paces = self.paces.iter_mut().filter(|(of, _)| *of == direction);
            let (held, limit) = paces.fold((stalled, wanted), |(held, limit), (_, pace)| {
                (held.max(pace.held(now)), limit.min(pace.limit()))
            });
            match held {
                Some(until) => *wait = Some(Box::pin(sleep_until(until))),
                None => return Poll::Ready(usize::try_from(limit).unwrap_or(usize::MAX)),
            }
        }
    }

    /// The other side makes this direction wait.
    pub(super) fn waits(&mut self, direction: Direction) {
        for (_, pace) in self.paces.iter_mut().filter(|(of, _)| *of == direction) {
            if let Pace::Share(share) = pace {
                share.waits(Instant::now());
            }
        }
    }

    /// So many bytes have moved in this direction.
    pub(super) fn moved(&mut self, direction: Direction, bytes: usize) {
        if bytes == 0 || self.paces.is_empty() {
            return;
        }
        let now = Instant::now();
        for (_, pace) in self.paces.iter_mut().filter(|(of, _)| *of == direction) {
            pace.moved(bytes as u64, now);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Paced<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.remaining();
        let turn = ready!(self.poll_turn(cx, Direction::ToServer, room as u64));
        if turn == room {
            let before = buf.filled().len();
            let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) else {
                self.waits(Direction::ToServer);
                return Poll::Pending;
            };
            read?;
            self.moved(Direction::ToServer, buf.filled().len() - before);
            return Poll::Ready(Ok(()));
        }
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(turn));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        self.moved(Direction::ToServer, read);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Paced<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let turn = ready!(self.poll_turn(cx, Direction::ToClient, bytes.len() as u64));
        let Poll::Ready(written) = Pin::new(&mut self.io).poll_write(cx, &bytes[..turn]) else {
            self.waits(Direction::ToClient);
            return Poll::Pending;
        };
        let written = written?;
        self.moved(Direction::ToClient, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Moves bytes as fast as the pace lets them, in pieces of at most `piece` bytes of which each takes `each`, until
    /// so much time has passed; a pause is noticed `late`. The bytes.
    fn carry(mut pace: Pace, piece: u64, each: Duration, late: Duration, lasts: Duration) -> u64 {
        let start = Instant::now();
        let (mut now, mut bytes) = (start, 0);
        while now - start < lasts {
            if let Some(until) = pace.held(now) {
                now = until + late;
                continue;
            }
            let moved = piece.min(pace.limit());
            now += each.mul_f64(number(moved) / number(piece));
            pace.moved(moved, now);
            bytes += moved;
        }
        bytes
    }

    fn near(value: f64, wanted: f64, by: f64) {
        assert!((value / wanted - 1.0).abs() < by, "{value} is not {wanted}");
    }

    #[tokio::test]
    async fn a_rate_is_kept_over_time_though_timers_are_late() {
        for rate in [1_000, 64 * 1024, 100_000_000, 3_000_000_000] {
            for late in [Duration::ZERO, Duration::from_micros(1100), Duration::from_millis(20)] {
                let pace = Pace::Rate { per_second: rate, due: None };
                let bytes = carry(pace, 256 * 1024, Duration::from_micros(20), late, Duration::from_secs(3));
                near(number(bytes), 3.0 * number(rate), 0.01);
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_saved_up_for_a_rate() {
        let mut pace = Pace::Rate { per_second: 1000, due: None };
        let start = Instant::now();
        pace.moved(1000, start);
        assert_eq!(pace.held(start), Some(start + Duration::from_secs(1)));
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.held(later), None);
        pace.moved(1000, later);
        assert_eq!(pace.held(later), Some(later + Duration::from_secs(1) - LATE));
    }

    #[tokio::test]
    async fn a_pause_begins_at_its_byte_and_ends_for_good() {
        let by = Duration::from_millis(500);
        let mut pace = Pace::Pause { left: 100, by, end: None };
        let now = Instant::now();
        assert_eq!((pace.held(now), pace.limit()), (None, 100));
        pace.moved(60, now);
        assert_eq!((pace.held(now), pace.limit()), (None, 40));
        pace.moved(40, now);
        assert_eq!(pace.held(now), Some(now + by));
        assert_eq!(pace.held(now + by / 2), Some(now + by));
        assert_eq!((pace.held(now + by), pace.limit()), (None, u64::MAX));
        pace.moved(1 << 40, now + by);
        assert_eq!(pace.held(now + by), None);
        let mut at_once = Pace::Pause { left: 0, by, end: None };
        assert_eq!(at_once.held(now), Some(now + by));
    }

    #[tokio::test]
    async fn a_share_is_taken_from_whatever_could_be_carried() {
        for (less, each) in [(0.1, 50), (0.03, 50), (0.5, 50), (0.1, 20_000), (0.1, 3)] {
            let each = Duration::from_micros(each);
            let (piece, lasts) = (256 * 1024, Duration::from_secs(30));
            for late in [Duration::ZERO, Duration::from_micros(1100)] {
                let bytes = carry(Pace::Share(Arc::new(Share::new(less))), piece, each, late, lasts);
                let free = number(piece) * lasts.as_secs_f64() / each.as_secs_f64();
                near(number(bytes), (1.0 - less) * free, 0.003);
            }
        }
    }

    #[tokio::test]
    async fn queues_hide_nothing_of_a_share() {
        for takes in [3e9, 2e8] {
            let taken = taken_through_a_queue(takes);
            near(taken, 0.9 * takes * 30.0, 0.005);
        }
    }

    /// What the other side takes in 30 seconds, if it is slower than the party and has a queue before it: what a pause has
    /// emptied is made up for at once.
    fn taken_through_a_queue(takes: f64) -> f64 {
        let (piece, queue): (u64, u64) = (256 * 1024, 8 << 20);
        let sends = 5e9;
        let share = Share::new(0.1);
        let start = Instant::now();
        let (mut now, mut sent, mut gone) = (start, 0_u64, 0.0_f64);
        let mut pass = |now: &mut Instant, sent: u64, time: Duration| {
            gone = (gone + takes * time.as_secs_f64()).min(number(sent));
            *now += time;
            gone
        };
        while now - start < Duration::from_secs(30) {
            if let Some(until) = share.held(now) {
                let pause = until - now;
                pass(&mut now, sent, pause);
                continue;
            }
            let mut done = pass(&mut now, sent, seconds(number(piece) / sends));
            while number(sent + piece) - done > number(queue) {
                share.waits(now);
                done = pass(&mut now, sent, Duration::from_micros(10));
            }
            sent += piece;
            share.moved(piece, now);
        }
        pass(&mut now, sent, Duration::ZERO)
    }

    #[tokio::test]
    async fn a_stall_grows_and_never_shrinks() {
        let stall = Stall::default();
        let now = Instant::now();
        assert_eq!(stall.held(now), None);
        stall.begin(Duration::from_secs(60));
        stall.begin(Duration::from_secs(1));
        assert!(stall.held(now + Duration::from_secs(59)).is_some());
        assert_eq!(stall.held(now + Duration::from_secs(120)), None);
    }
}
