//! Opens tunnels and holds them, as many as are wanted or as there can be; then finds out where exactly the limit is, and
//! whether the proxy outlives it.
//!
//! No tunnel counts that has not carried a line to the origin and another one back. One that stands costs its socket, and
//! neither a task nor a buffer.

use std::{mem::take, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout_at},
};

use crate::{
    conformance::{
        case::Judgement,
        rig::{Rig, Way, code, ended, heard},
    },
    exchange::{Answer, Exchange, Request},
    http::Reply,
    model::{Code, Failure, FailureKind, Host, Layer, Leg, Observation},
    probe::{
        dialogue::{Ask, Caller, Dialogue, Hello, Seen, Stream},
        limits::{Descriptors, is_served_here},
    },
};

/// Tunnels that are opened one by one before all others: they show how long one takes.
const FIRST: usize = 8;

/// CONNECTs under way at once: what keeps a near proxy busy, and what a listen queue may be expected to hold.
const AT_ONCE: (usize, usize) = (32, 256);

/// So many failures in a row are the proxy's limit, and no bad luck.
const IN_A_ROW: usize = 16;

/// Tunnels that are closed, and opened again, when there is room for all.
const REOPENED: usize = 16;

/// A proxy from which nothing comes for less than this may only be busy.
const SHORTEST_STALL: Duration = Duration::from_millis(500);

/// What the origin is asked for at most.
const LONGEST_HOLD_MS: u64 = 60_000;

/// What a proxy may take for each tunnel, one with another, and for all of them beside the usual time: a slow proxy is not
/// to be taken for one that is full.
const EACH: Duration = Duration::from_millis(5);
const ALL: Duration = Duration::from_secs(15);

/// How long a proxy may refuse tunnels after thousands were closed.
const AT_LEISURE: Duration = Duration::from_secs(1);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Within this a proxy that has nothing else to do notices that tunnels were closed.
const MOMENT: Duration = Duration::from_millis(50);

/// How often a limit that turned out to be none is forgotten, and more tunnels are asked for.
const SECOND_TRIES: usize = 2;

/// What came of it.
#[derive(Debug, Clone)]
pub(in crate::conformance) struct Load {
    /// Tunnels that are wanted.
    pub(super) wanted: usize,
    /// Tunnels that this machine can hold: fewer are wanted than that, or no more can be tried.
    pub(super) possible: usize,
    /// File descriptors that this process may have.
    pub(super) descriptors: usize,
    /// Whether the origin is in this process, so that its descriptors are among these.
    pub(super) origin_here: bool,
    /// The most that stood at once.
    pub(super) held: usize,
    /// From the first CONNECT until the last tunnel stood.
    pub(super) elapsed: Duration,
    /// How it ended.
    pub(super) end: End,
    /// CONNECTs that failed although later ones did not, and how the last of them did.
    pub(super) strays: (usize, Option<Stop>),
    /// Tunnels that stood, and carried nothing in the end.
    pub(super) lost: usize,
    /// What came of opening tunnels where others had been closed; `None`: not tried.
    pub(super) reopened: Option<Reopened>,
    /// What came of an ordinary CONNECT once all were closed.
    pub(super) after: After,
}

/// How the opening of more and more tunnels ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// All stand.
    Full,
    /// The time was up while more were opening.
    TimeUp,
    /// This machine can open no more.
    Ours(Stop),
    /// The proxy opens no more. `edge`: at how many, if it was the same number each time.
    Stopped {
        /// How it shows, when no others are under way.
        stop: Stop,
        /// Tunnels.
        edge: Option<usize>,
    },
}

/// Why a tunnel does not stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stop {
    pub(super) how: How,
    /// The same in words.
    pub(super) heard: String,
    /// What that means by itself.
    pub(super) code: Option<Code>,
}

/// How a tunnel fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum How {
    /// On this machine: it has no descriptor, port or buffer left, or its firewall forbids it.
    Here(FailureKind),
    /// The proxy takes no connection.
    NoConnection,
    /// It takes the connection and does not answer.
    Silent,
    /// It answers something else.
    Answered(String),
    /// It hangs up, or says what nobody understands.
    HungUp,
    /// It says that the tunnel stands, and nothing comes through.
    Dead,
}

/// Tunnels closed, and opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reopened {
    pub(super) closed: usize,
    pub(super) opened: usize,
}

/// What an ordinary CONNECT met when all was over.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum After {
    /// A tunnel that carries bytes, within this time.
    Served(Duration),
    /// None.
    Failed(Stop),
}

impl Stop {
    pub(super) fn of(observation: &Observation) -> Self {
        let how = How::of(observation);
        let heard = match (&how, observation.failure()) {
            (How::Dead, Some((.., kind))) => format!("inside the tunnel: {}", ended(kind)),
            _ => heard(observation),
        };
        Self { how, heard, code: code(observation) }
    }

    /// Whether it happened on this machine.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.how, How::Here(_))
    }

    /// What a case says that this machine kept from being tried.
    pub(super) fn not_run(&self) -> Judgement {
        Judgement::not_run(format!("this machine cannot open as many connections: {}", self.heard)).code(self.code)
    }
}

impl How {
    fn of(observation: &Observation) -> Self {
        let Some((layer, leg, kind)) = observation.failure() else { return Self::Dead };
        match (layer, leg, kind) {
            (
                ..,
                FailureKind::FileDescriptors
                | FailureKind::SourcePorts
                | FailureKind::Buffers
                | FailureKind::PermissionDenied
                | FailureKind::NetworkDown
                | FailureKind::AddressFamily,
            ) => Self::Here(kind),
            (Layer::Tunnel, _, FailureKind::TimedOut) => Self::Silent,
            (Layer::Tunnel, _, FailureKind::Status) => {
                Self::Answered(observation.reply().map(Reply::status_line).unwrap_or_default())
            }
            (Layer::Tunnel, ..) => Self::HungUp,
            (Layer::Handshake | Layer::Request, Leg::Origin, _) => Self::Dead,
            _ => Self::NoConnection,
        }
    }
}

/// Puts the load on the proxy, and takes it off again.
pub(super) async fn measure(rig: &Rig, way: Way) -> Load {
    let began = Instant::now();
    let until = began + rig.options.load / 2 + for_many(rig);
    let stall = (rig.options.load / 8).max(SHORTEST_STALL);
    let mut crowd = Crowd::new(rig, way, stall);
    let end = crowd.gather(until).await;
    let Crowd { possible, strays, last_opened, .. } = crowd;
    let mut load = Load {
        wanted: crowd.wanted,
        possible,
        descriptors: crowd.descriptors,
        origin_here: cost(rig, way) > 1,
        held: crowd.most,
        elapsed: last_opened.saturating_duration_since(began),
        end,
        strays: (strays, crowd.stray.take()),
        lost: crowd.lost().await,
        reopened: crowd.reopened,
        after: After::Served(Duration::ZERO),
    };
    if matches!(load.end, End::Full | End::TimeUp) && load.held > 0 {
        let opened = crowd.reopen(REOPENED).await;
        load.reopened = Some(opened);
    }
    drop(crowd);
    load.after = after(rig, way).await;
    load
}

/// What is granted where many tunnels are wanted.
fn for_many(rig: &Rig) -> Duration {
    let wanted = u32::try_from(rig.options.tunnels.min(rig.profile.tunnels)).unwrap_or(u32::MAX);
    EACH.saturating_mul(wanted).min(ALL)
}

/// How many descriptors of this process one tunnel takes: its socket here, and those of whoever else runs here.
fn cost(rig: &Rig, way: Way) -> usize {
    match (is_served_here(rig.caller.dialled()), is_served_here(way.door)) {
        // The lab's proxy, which takes a connection and makes one, and the lab's origin.
        (true, _) => 4,
        (false, true) => 2,
        (false, false) => 1,
    }
}

/// Asks for one more tunnel, as if nothing had been, and again for as long as the proxy may be busy closing.
async fn after(rig: &Rig, way: Way) -> After {
    let began = Instant::now();
    loop {
        let mut dialogue = rig.tunnel_by(way).await;
        if dialogue.exchange(Exchange::Integrity { bytes: 512 }, rig.seed(), 0).await {
            return After::Served(began.elapsed());
        }
        if began.elapsed() >= AT_LEISURE || rig.caller.is_halted() {
            return After::Failed(Stop::of(&dialogue.finish()));
        }
        sleep(PAUSE).await;
    }
}

/// Tunnels that stand, and how to get more.
struct Crowd {
    opener: Opener,
    stall: Duration,
    wanted: usize,
    possible: usize,
    descriptors: usize,
    at_once: usize,
    held: Vec<Box<dyn Stream>>,
    most: usize,
    last_opened: Instant,
    strays: usize,
    stray: Option<Stop>,
    reopened: Option<Reopened>,
}

/// What came of asking for more.
enum Filled {
    Full,
    TimeUp,
    Stopped(Stop),
}

impl Crowd {
    fn new(rig: &Rig, way: Way, stall: Duration) -> Self {
        let wanted = rig.options.tunnels.min(rig.profile.tunnels);
        let descriptors = Descriptors::raised();
        Self {
            opener: Opener::new(rig, way, stall),
            stall,
            wanted,
            possible: wanted.min(descriptors.free() / cost(rig, way)),
            descriptors: descriptors.limit,
            at_once: AT_ONCE.0,
            held: Vec::new(),
            most: 0,
            last_opened: Instant::now(),
            strays: 0,
            stray: None,
            reopened: None,
        }
    }

    /// Opens tunnels until all stand, the time is up, or it is certain that the proxy opens no more.
    async fn gather(&mut self, until: Instant) -> End {
        let pace = self.first().await;
        let left = until.saturating_duration_since(Instant::now()).as_secs_f64();
        // Twice what the time allows for, one after another.
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let needed = (2.0 * self.wanted as f64 * pace.as_secs_f64() / left.max(0.001)) as usize;
        self.at_once = needed.clamp(AT_ONCE.0, AT_ONCE.1);
        for _ in 0..=SECOND_TRIES {
            let stray = match self.fill(until).await {
                Filled::Full => return End::Full,
                Filled::TimeUp => return End::TimeUp,
                Filled::Stopped(stop) if stop.is_ours() => {
                    self.possible = self.most;
                    return End::Ours(stop);
                }
                Filled::Stopped(stop) => stop,
            };
            if let Some(end) = self.find_edge(&stray).await {
                return end;
            }
            // No limit: what failed did so because too much was asked for at once.
            self.strays += IN_A_ROW;
            self.stray = Some(stray);
            self.at_once = (self.at_once / 8).max(1);
        }
        End::TimeUp
    }

    /// Opens the first ones, and gives how long one took.
    async fn first(&mut self) -> Duration {
        let began = Instant::now();
        for _ in 0..FIRST.min(self.possible) {
            match self.opener.tunnel().await {
                Ok(tunnel) => self.add(tunnel),
                // Filling meets it again.
                Err(_) => break,
            }
        }
        began.elapsed() / u32::try_from(self.held.len().max(1)).unwrap_or(1)
    }

    /// Opens more, several at once.
    async fn fill(&mut self, until: Instant) -> Filled {
        let Self { opener, held, last_opened, most, strays, stray, .. } = self;
        let (mut in_a_row, mut last) = (0, None::<Stop>);
        let mut opening = FuturesUnordered::new();
        *last_opened = Instant::now();
        loop {
            let enough = in_a_row >= IN_A_ROW || Instant::now() >= until;
            while !enough && opening.len() < self.at_once && held.len() + opening.len() < self.possible {
                opening.push(opener.tunnel());
            }
            match opening.next().await {
                Some(Ok(tunnel)) => {
                    held.push(tunnel);
                    *most = held.len().max(*most);
                    *last_opened = Instant::now();
                    *strays += take(&mut in_a_row);
                    *stray = last.take().or(stray.take());
                }
                Some(Err(stop)) => {
                    in_a_row += 1;
                    // Nothing was opened for so long that more attempts would tell nothing new.
                    let stalled = last_opened.elapsed() >= self.stall / 2;
                    if stalled || stop.is_ours() {
                        in_a_row = IN_A_ROW.max(in_a_row);
                    }
                    last = Some(stop);
                }
                None if held.len() >= self.possible => return Filled::Full,
                None => match last {
                    Some(stop) if in_a_row >= IN_A_ROW => return Filled::Stopped(stop),
                    _ => return Filled::TimeUp,
                },
            }
        }
    }

    /// Opens tunnels one by one where others were closed, until it fails, and once more. `None`: there is no limit here.
    /// `met`: what came when several were under way.
    async fn find_edge(&mut self, met: &Stop) -> Option<End> {
        let highest = (self.held.len() + self.at_once).min(self.wanted);
        let mut before = None;
        loop {
            let end = Instant::now() + self.stall;
            let closed = self.close(2 * self.at_once).await;
            let mut opened = 0;
            let stop = loop {
                match self.add_one().await {
                    Ok(()) => opened += 1,
                    Err(stop) => break Some(stop),
                }
                if self.held.len() >= highest {
                    return None;
                }
                if Instant::now() >= end {
                    break None;
                }
            };
            self.reopened = Some(Reopened { closed, opened });
            let Some(stop) = stop else { return Some(End::Stopped { stop: met.clone(), edge: None }) };
            let here = self.held.len();
            if opened == 0 {
                return Some(End::Stopped { stop, edge: None });
            }
            if let Some(before) = before.replace(here) {
                return Some(End::Stopped { stop, edge: (before == here).then_some(here) });
            }
        }
    }

    /// Closes so many, and opens as many again.
    async fn reopen(&mut self, count: usize) -> Reopened {
        let closed = self.close(count).await;
        let mut opened = 0;
        while opened < closed && self.add_one().await.is_ok() {
            opened += 1;
        }
        Reopened { closed, opened }
    }

    /// Closes the newest, half of all at most, and says how many.
    async fn close(&mut self, count: usize) -> usize {
        let closed = count.min(self.held.len().div_ceil(2));
        self.held.truncate(self.held.len() - closed);
        // Some proxies decide when a CONNECT comes, once and for all, and these were closed this very moment.
        sleep(MOMENT).await;
        closed
    }

    /// Opens one more, where the proxy may need a moment until it has noticed that others were closed.
    async fn add_one(&mut self) -> Result<(), Stop> {
        let until = Instant::now() + self.stall / 4;
        loop {
            match self.opener.tunnel().await {
                Ok(tunnel) => {
                    self.add(tunnel);
                    return Ok(());
                }
                Err(stop) if Instant::now() >= until || self.opener.caller.is_halted() => return Err(stop),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Says a line in every tunnel, and counts those that give no answer.
    async fn lost(&mut self) -> usize {
        let line = self.opener.hold.line();
        let expected = Answer::Ready.line();
        let mut dead = vec![false; self.held.len()];
        let end = Instant::now() + 2 * self.stall;
        for (tunnel, dead) in self.held.iter_mut().zip(&mut dead) {
            let write = async {
                tunnel.write_all(line.as_bytes()).await?;
                tunnel.flush().await
            };
            *dead = !matches!(timeout_at(end, write).await, Ok(Ok(())));
        }
        let mut answer = vec![0; expected.len()];
        for (tunnel, dead) in self.held.iter_mut().zip(&mut dead) {
            let read = timeout_at(end, tunnel.read_exact(&mut answer)).await;
            *dead |= !matches!(read, Ok(Ok(_))) || answer != expected.as_bytes();
        }
        dead.into_iter().filter(|&dead| dead).count()
    }

    fn add(&mut self, tunnel: Box<dyn Stream>) {
        self.held.push(tunnel);
        if self.held.len() > self.most {
            self.most = self.held.len();
            self.last_opened = Instant::now();
        }
    }
}

/// Opens tunnels to the origin by one way, all alike.
pub(super) struct Opener {
    caller: Caller,
    way: Way,
    subject: String,
    authority: String,
    /// Said in each tunnel; the origin then waits for longer than the load lasts.
    hold: Request,
}

impl Opener {
    /// None of whose steps take longer than `patience`.
    pub(super) fn new(rig: &Rig, way: Way, patience: Duration) -> Self {
        let ms = u64::try_from((4 * rig.options.load + 2 * for_many(rig)).as_millis()).unwrap_or(u64::MAX);
        Self {
            caller: rig.caller.hurried(patience),
            way,
            subject: rig.name(way.door),
            authority: way.door.to_string(),
            hold: Request::Hold { ms: ms.min(LONGEST_HOLD_MS) },
        }
    }

    /// One more tunnel, which has proved that it leads to the origin.
    async fn tunnel(&self) -> Result<Box<dyn Stream>, Stop> {
        self.open().await.keep().map_err(|observation| Stop::of(&observation))
    }

    /// Asks for a tunnel, and says a line in it.
    pub(super) async fn open(&self) -> Dialogue {
        let mut dialogue = self.caller.call(&self.subject).await;
        dialogue.connect(&self.authority, Ask::Usual { along: &[] }).await;
        if self.way.tls {
            dialogue.tls(&Host::Ip(self.way.door.ip()), Hello::default()).await;
        }
        dialogue
            .talk("HOLD", self.caller.patience(), async |talk, stream| match talk.request(stream, self.hold).await? {
                Answer::Ready => Ok(()),
                _ => Err(Failure::new(FailureKind::Foreign, "the origin would have answered otherwise")),
            })
            .await;
        dialogue
    }
}
