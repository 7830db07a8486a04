//! Opens tunnels and holds them, as many as are wanted or as there can be; then finds out where exactly the limit is, and
//! whether the proxy outlives it.
//!
//! No tunnel counts that has not carried a line to the origin and another one back. One that stands costs its socket, and
//! neither a task nor a buffer.

use std::{mem::take, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout_at},
};

use crate::{
    conformance::{
        case::Judgement,
        rig::{Rig, Way, code, heard},
    },
    exchange::{Answer, Exchange, Request},
    model::{Code, Failure, FailureKind, Host, Layer, Leg, Observation},
    probe::{
        dialogue::{Ask, Caller, Dialogue, Hello, Seen, Stream},
        limits::Descriptors,
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
        /// How it shows.
        how: Stop,
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
        Self { how: How::of(observation), heard: heard(observation), code: code(observation) }
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
                Self::Answered(observation.reply().map(|reply| reply.status_line()).unwrap_or_default())
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
    let until = began + rig.options.load / 2;
    let stall = (rig.options.load / 8).max(SHORTEST_STALL);
    let mut crowd = Crowd::new(rig, way, stall);
    let end = crowd.gather(until).await;
    let Crowd { possible, strays, last_opened, .. } = crowd;
    let mut load = Load {
        wanted: crowd.wanted,
        possible,
        descriptors: crowd.before.limit,
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

/// Asks for one more tunnel, as if nothing had been.
async fn after(rig: &Rig, way: Way) -> After {
    let began = Instant::now();
    let mut dialogue = rig.tunnel_by(way).await;
    if dialogue.exchange(Exchange::Integrity { bytes: 512 }, rig.seed(), 0).await {
        After::Served(began.elapsed())
    } else {
        After::Failed(Stop::of(&dialogue.finish()))
    }
}

/// Tunnels that stand, and how to get more.
struct Crowd {
    opener: Opener,
    stall: Duration,
    wanted: usize,
    possible: usize,
    before: Descriptors,
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
        Self {
            opener: Opener::new(rig, way, stall),
            stall,
            wanted,
            possible: wanted,
            before: Descriptors::count(),
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
            let how = match self.fill(until).await {
                Filled::Full => return End::Full,
                Filled::TimeUp => return End::TimeUp,
                Filled::Stopped(stop) if stop.is_ours() => {
                    self.possible = self.most;
                    return End::Ours(stop);
                }
                Filled::Stopped(stop) => stop,
            };
            if self.opener.caller.is_halted() {
                return End::TimeUp;
            }
            match self.find_edge().await {
                Some(edge) => return End::Stopped { how, edge },
                None => {
                    // No limit: what failed did so because too much was asked for at once.
                    self.strays += IN_A_ROW;
                    self.stray = Some(how);
                    self.at_once = (self.at_once / 8).max(1);
                }
            }
        }
        End::TimeUp
    }

    /// Opens the first ones, and gives how long one took.
    async fn first(&mut self) -> Duration {
        let began = Instant::now();
        for _ in 0..FIRST.min(self.wanted) {
            match self.open().await {
                Ok(tunnel) => self.add(tunnel),
                // Filling meets it again.
                Err(_) => break,
            }
        }
        began.elapsed() / u32::try_from(self.held.len().max(1)).unwrap_or(1)
    }

    /// Opens more, several at once.
    async fn fill(&mut self, until: Instant) -> Filled {
        let mut opening = FuturesUnordered::new();
        let mut held = take(&mut self.held);
        let (mut in_a_row, mut recount) = (0, FIRST);
        let this = &*self;
        let (mut last_opened, mut possible, mut strays, mut stray) = (Instant::now(), self.possible, 0, None::<Stop>);
        let filled = loop {
            if held.len() >= recount {
                possible = this.room(held.len() + opening.len()).min(this.wanted);
                recount *= 2;
            }
            let enough = in_a_row >= IN_A_ROW || Instant::now() >= until;
            while !enough && opening.len() < this.at_once && held.len() + opening.len() < possible {
                opening.push(this.open());
            }
            match opening.next().await {
                Some(Ok(tunnel)) => {
                    held.push(tunnel);
                    last_opened = Instant::now();
                    strays += take(&mut in_a_row);
                }
                Some(Err(stop)) => {
                    in_a_row += 1;
                    // Nothing was opened for so long that more attempts would tell nothing new.
                    let stalled = last_opened.elapsed() >= this.stall / 2;
                    if stalled || matches!(stop.how, How::Here(_)) {
                        in_a_row = in_a_row.max(IN_A_ROW);
                    }
                    stray = Some(stop);
                }
                None if held.len() >= possible => break Filled::Full,
                None => match stray.take_if(|_| in_a_row >= IN_A_ROW) {
                    Some(stop) => break Filled::Stopped(stop),
                    None => break Filled::TimeUp,
                },
            }
        };
        drop(opening);
        self.held = held;
        self.possible = possible;
        self.last_opened = last_opened;
        self.most = self.most.max(self.held.len());
        self.strays += strays;
        self.stray = stray.or(self.stray.take());
        filled
    }

    /// How many tunnels there can be, as far as this process is concerned. What one costs is counted, since the origin,
    /// and in a test the proxy, may have their descriptors in this process too.
    fn room(&self, tunnels: usize) -> usize {
        let now = Descriptors::count();
        let each = now.open.saturating_sub(self.before.open).div_ceil(tunnels.max(1)).max(1);
        tunnels + now.free() / each
    }

    /// Opens tunnels one by one where others were closed, twice, until it fails. `None`: there is no limit here. Otherwise
    /// where it is, if that was found to be the same each time.
    async fn find_edge(&mut self) -> Option<Option<usize>> {
        let highest = self.held.len() + self.at_once;
        let mut edges = Vec::new();
        for _ in 0..2 {
            let end = Instant::now() + self.stall;
            let closed = (2 * self.at_once).min(self.held.len().div_ceil(2));
            self.held.truncate(self.held.len() - closed);
            let mut opened = 0;
            let at_edge = loop {
                match self.open().await {
                    Ok(tunnel) => self.add(tunnel),
                    Err(_) => break true,
                }
                opened += 1;
                if self.held.len() > highest || self.held.len() >= self.wanted {
                    return None;
                }
                if Instant::now() >= end {
                    break false;
                }
            };
            self.reopened = Some(Reopened { closed, opened });
            if opened == 0 || !at_edge {
                return Some(None);
            }
            edges.push(self.held.len());
        }
        Some((edges[0] == edges[1]).then_some(edges[0]))
    }

    /// Closes so many, and opens as many again.
    async fn reopen(&mut self, count: usize) -> Reopened {
        let closed = count.min(self.held.len());
        self.held.truncate(self.held.len() - closed);
        let mut opened = 0;
        while opened < closed {
            match self.open().await {
                Ok(tunnel) => self.add(tunnel),
                Err(_) => break,
            }
            opened += 1;
        }
        Reopened { closed, opened }
    }

    /// Says a line in every tunnel, and counts those that give no answer.
    async fn lost(&mut self) -> usize {
        let line = self.opener.hold.line();
        let expected = Answer::Ready.line();
        let mut dead = vec![false; self.held.len()];
        let end = Instant::now() + 2 * self.stall;
        for (tunnel, dead) in self.held.iter_mut().zip(&mut dead) {
            *dead = !matches!(timeout_at(end, tunnel.write_all(line.as_bytes())).await, Ok(Ok(())));
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
        self.most = self.most.max(self.held.len());
        self.last_opened = Instant::now();
    }

    /// One more tunnel, which has proved that it leads to the origin.
    async fn open(&self) -> Result<Box<dyn Stream>, Stop> {
        let dialogue = self.opener.open().await;
        dialogue.keep().map_err(|observation| Stop::of(&observation))
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
        let ms = u64::try_from((4 * rig.options.load).as_millis()).unwrap_or(u64::MAX);
        Self {
            caller: rig.caller.hurried(patience),
            way,
            subject: rig.name(way.door),
            authority: way.door.to_string(),
            hold: Request::Hold { ms: ms.min(LONGEST_HOLD_MS) },
        }
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
