//! What a case has at hand: the proxy, the origin beyond it, what is expected, and how long to wait.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{case::Judgement, profile::Profile};
use crate::{
    classify,
    exchange::{Door, DoorKind, Exchange, Places, mix},
    http::Reply,
    model::{Code, Excerpt, FailureKind, Host, Leg, Observation},
    probe::dialogue::{Ask, Caller, Dialogue, Hello, Seen},
};

/// Storage's ports, those that a backup needs first.
const PORTS: [u16; 3] = [443, 8443, 80];

/// Bytes each way that prove that a tunnel leads to the origin.
const FEW: u64 = 512;

/// The setting of a run. Cases read it and hold dialogues; they change nothing in it.
#[derive(Debug)]
pub struct Rig {
    /// Whom dialogues are held with.
    pub(super) caller: Caller,
    /// The origin, if there is one.
    pub(super) places: Places,
    /// Which doors the proxy leads to, in the order in which to use them; filled by the survey.
    pub(super) open: Vec<Way>,
    /// What the survey saw at the doors that serve.
    pub(super) surveyed: Vec<Surveyed>,
    /// What is expected.
    pub(super) profile: Profile,
    /// The limits of single cases.
    pub(super) options: Options,
    seeds: AtomicU64,
}

/// Limits of single cases, as the command line sets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The longest silence that a tunnel must survive.
    pub idle: Duration,
    /// How long a busy tunnel is watched.
    pub lifetime: Duration,
    /// Tunnels held open at once; 0: the case is left out.
    pub tunnels: usize,
    /// Bytes of the large transfer; 0: the case is left out.
    pub large: u64,
    /// How long the load cases may take altogether.
    pub load: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(3),
            lifetime: Duration::from_secs(3),
            tunnels: 2000,
            large: 0,
            load: Duration::from_secs(5),
        }
    }
}

/// How a tunnel to the origin is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The door.
    pub(super) door: SocketAddr,
    /// Whether the origin is spoken to inside TLS, because the proxy lets nothing else pass there.
    pub(super) tls: bool,
}

/// What came of one door.
#[derive(Debug, Clone)]
pub(super) struct Surveyed {
    /// The door.
    pub(super) door: SocketAddr,
    /// The connection.
    pub(super) observation: Observation,
}

impl Rig {
    /// Before the survey.
    pub(super) fn new(caller: Caller, places: Places, profile: Profile, options: Options) -> Self {
        let (open, surveyed, seeds) = (Vec::new(), Vec::new(), AtomicU64::new(1));
        Self { caller, places, open, surveyed, profile, options, seeds }
    }

    /// Tries every door that serves, and keeps those through which bytes reach the origin and come back.
    pub(super) async fn survey(&mut self) {
        let mut ways = Vec::new();
        for door in self.places.of(DoorKind::Serves).collect::<Vec<_>>() {
            let mut plain = self.tunnel_to(door).await;
            let opened = plain.is_open();
            let proved = plain.exchange(Exchange::Integrity { bytes: FEW }, self.seed(), 0).await;
            let observation = plain.finish();
            if proved {
                ways.push(Way { door, tls: false });
            } else if opened {
                // Some let nothing but TLS pass.
                let mut inside = self.tunnel_to(door).await;
                if inside.tls(&Host::Ip(door.ip()), Hello::default()).await
                    && inside.exchange(Exchange::Integrity { bytes: FEW }, self.seed(), 0).await
                {
                    ways.push(Way { door, tls: true });
                }
            }
            self.surveyed.push(Surveyed { door, observation });
        }
        // What is nearest to a backup is used first: plain bytes show most, and then the ports in their order.
        ways.sort_by_key(|way| {
            let port = PORTS.iter().position(|&port| port == way.door.port()).unwrap_or(PORTS.len());
            (way.tls, !way.door.is_ipv4(), port)
        });
        self.open = ways;
    }

    /// A number that no other pattern of this run has.
    pub(super) fn seed(&self) -> u64 {
        mix(self.seeds.fetch_add(1, Ordering::Relaxed) ^ u64::from(std::process::id()) << 32)
    }

    /// A connection to the proxy and a tunnel to a door, asked for in the usual form.
    pub(super) async fn tunnel_to(&self, door: SocketAddr) -> Dialogue {
        let mut dialogue = self.caller.call(&self.name(door)).await;
        dialogue.connect(&door.to_string(), Ask::Usual { along: &[] }).await;
        dialogue
    }

    /// A tunnel to the origin by the best way there is, ready for an exchange; or why there is none.
    pub(super) async fn to_origin(&self) -> Result<Dialogue, Judgement> {
        let way = self.way()?;
        let mut dialogue = self.tunnel_to(way.door).await;
        if way.tls {
            dialogue.tls(&Host::Ip(way.door.ip()), Hello::default()).await;
        }
        Ok(dialogue)
    }

    /// The best way to the origin.
    pub(super) fn way(&self) -> Result<Way, Judgement> {
        if self.places.doors.is_empty() {
            return Err(Judgement::not_run("there is no origin beyond the proxy; --lab-origin names one"));
        }
        let none = || Judgement::not_run("the proxy opens no tunnel to the origin; connect/port-443 says why");
        self.open.first().copied().ok_or_else(none)
    }

    /// The best door to which the proxy opens tunnels at all, whatever it lets pass in them.
    pub(super) fn opened(&self) -> Result<SocketAddr, Judgement> {
        let way = self.way().map(|way| way.door);
        way.or_else(|why| {
            let success = |seen: &&Surveyed| seen.observation.reply().is_some_and(Reply::is_success);
            self.surveyed.iter().find(success).map(|seen| seen.door).ok_or(why)
        })
    }

    /// Whom a client of this door means: the origin's name where there is one.
    pub(super) fn origin_at(&self, door: SocketAddr) -> Host {
        self.places.name.as_deref().map_or(Host::Ip(door.ip()), |name| Host::Name(name.into()))
    }

    /// A door of this kind, at this port if there is one there.
    pub(super) fn door(&self, kind: DoorKind, port: Option<u16>) -> Option<SocketAddr> {
        let mut doors = self.places.of(kind);
        match port {
            Some(port) => doors.find(|door| door.port() == port),
            None => doors.next(),
        }
    }

    /// The beginning of a command that goes through the proxy; its login is left to the reader.
    pub(super) fn curl(&self) -> String {
        let proxy = self.caller.proxy();
        let scheme = if proxy.tls { "https" } else { "http" };
        let login = if proxy.credentials.is_some() { " -U USER:PASSWORD" } else { "" };
        format!("curl -x {scheme}://{}{login}", proxy.host.authority(proxy.port))
    }

    /// Why the origin does not serve at a port of storage's.
    pub(super) fn missing(&self, port: u16) -> Judgement {
        if self.places.doors.is_empty() {
            return Judgement::not_run("there is no origin beyond the proxy; --lab-origin names one");
        }
        let why = self.places.missing.iter().find(|(missing, _)| *missing == port).map(|(_, why)| why.as_str());
        Judgement::not_run(match why {
            Some(why) => format!("the origin does not serve at port {port}: {why}"),
            None => format!("the origin does not serve at port {port}"),
        })
    }

    /// A door in words that are the same in every run: `the origin:443`.
    pub(super) fn name(&self, door: SocketAddr) -> String {
        let kind = self.places.doors.iter().find(|known| known.address == door).map(|Door { kind, .. }| *kind);
        let who = match kind {
            Some(DoorKind::Refuses) => "a closed port of the origin",
            Some(DoorKind::Silent) => "a silent address of the origin",
            Some(DoorKind::Resets) => "an address of the origin that resets",
            Some(DoorKind::Serves) | None => "the origin",
        };
        match PORTS.contains(&door.port()) && kind == Some(DoorKind::Serves) {
            true if door.is_ipv6() => format!("{who}:{} over IPv6", door.port()),
            true => format!("{who}:{}", door.port()),
            false => who.to_owned(),
        }
    }
}

/// The beginning of what somebody sent, escaped: its first line, bounded.
pub(super) fn shown(bytes: &[u8]) -> String {
    let line = bytes.split(|&b| b == b'\r' || b == b'\n').next().unwrap_or_default();
    Excerpt::new(line, 80, line.len() as u64).text
}

/// What an observation by itself means, as `check` would say it; `None`: nothing is wrong with it.
pub(super) fn code(observation: &Observation) -> Option<Code> {
    classify::alone(observation)
}

/// The answer to a CONNECT, or what came instead, in words without a time or a port that the system chose.
pub(super) fn heard(observation: &Observation) -> String {
    if let Some(reply) = observation.reply() {
        return format!("the proxy answered `{}`", reply.status_line());
    }
    match observation.failure() {
        Some((layer, leg, kind)) => format!("{layer} with the {}: {}", peer(leg), ended(kind)),
        None => "the proxy was not asked".to_owned(),
    }
}

fn peer(leg: Leg) -> &'static str {
    match leg {
        Leg::Proxy => "proxy",
        Leg::Origin => "origin",
    }
}

/// How a step ended, in words.
pub(super) fn ended(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::TimedOut => "no answer in time",
        FailureKind::Cancelled => "the run was ended before an answer came",
        FailureKind::Closed => "closed (FIN) without an answer",
        FailureKind::Reset => "reset (RST)",
        FailureKind::Refused => "refused (RST to the SYN)",
        FailureKind::HostUnreachable | FailureKind::NetworkUnreachable => "unreachable",
        FailureKind::FileDescriptors => "this program has no file descriptor left",
        FailureKind::SourcePorts => "this machine has no source port left",
        FailureKind::Status => "an answer that opens nothing",
        FailureKind::NotHttp => "what came is not HTTP",
        FailureKind::BadHead => "what came is malformed HTTP",
        FailureKind::HeadTooLarge => "an endless head",
        FailureKind::Truncated => "closed inside the head of the answer",
        FailureKind::Differs => "bytes arrived as others",
        FailureKind::Lost => "bytes did not arrive",
        FailureKind::Foreign => "somebody else answered than the origin",
        FailureKind::Alert => "a TLS alert",
        FailureKind::NotTls => "what came is not TLS",
        FailureKind::Undecryptable => "a TLS record that somebody changed",
        FailureKind::TlsProtocol | FailureKind::TlsIncompatible | FailureKind::BadSignature => "TLS failed",
        _ => "an error of this machine's own",
    }
}
