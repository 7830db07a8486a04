//! What a case has at hand: the proxy, the origin beyond it, what is expected, and how long to wait.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::OnceCell;

use super::{case::Judgement, cases::Load, profile::Profile};
use crate::{
    classify::{self, codes as c},
    exchange::{Door, DoorKind, Exchange, Places, mix},
    http::Reply,
    model::{Code, Excerpt, FailureKind, Host, Layer, Leg, Observation},
    probe::dialogue::{Ask, Caller, Dialogue, Hello, Seen},
};

/// Storage's ports, those that a backup needs first.
const PORTS: [u16; 3] = [443, 8443, 80];

/// Bytes each way that prove that a tunnel leads to the origin.
const FEW: u64 = 512;

/// The setting of a run. Cases read it and hold dialogues; they change nothing in it.
#[derive(Debug)]
pub(super) struct Rig {
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
    /// What came of the one load that is put on the proxy.
    pub(super) load: OnceCell<Load>,
    /// A door to which the proxy passes plain requests on, if it does so at all.
    pub(super) plain: OnceCell<Option<SocketAddr>>,
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
    /// How long the load cases may take altogether, beside what many tunnels need.
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

impl Surveyed {
    /// Whether the proxy said that it opened a tunnel.
    fn opened(&self) -> bool {
        self.observation.reply().is_some_and(Reply::is_success)
    }
}

impl Rig {
    /// Before the survey.
    pub(super) fn new(caller: Caller, places: Places, profile: Profile, options: Options) -> Self {
        let (open, surveyed, seeds) = (Vec::new(), Vec::new(), AtomicU64::new(1));
        let (load, plain) = (OnceCell::new(), OnceCell::new());
        Self { caller, places, open, surveyed, profile, options, load, plain, seeds }
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
        Ok(self.tunnel_by(self.way()?).await)
    }

    /// A tunnel to the origin by this way.
    pub(super) async fn tunnel_by(&self, way: Way) -> Dialogue {
        let mut dialogue = self.tunnel_to(way.door).await;
        if way.tls {
            dialogue.tls(&Host::Ip(way.door.ip()), Hello::default()).await;
        }
        dialogue
    }

    /// Makes a tunnel to a door prove itself: bytes go to the origin and back, inside TLS where the way demands it.
    pub(super) async fn prove(&self, dialogue: &mut Dialogue, way: Way) -> bool {
        (!way.tls || dialogue.tls(&Host::Ip(way.door.ip()), Hello::default()).await)
            && dialogue.exchange(Exchange::Integrity { bytes: FEW }, self.seed(), 0).await
    }

    /// The best way to the origin.
    #[allow(clippy::result_large_err, reason = "a case ends with it, once")]
    pub(super) fn way(&self) -> Result<Way, Judgement> {
        if self.places.doors.is_empty() {
            return Err(Judgement::not_run("there is no origin beyond the proxy; --lab-origin names one"));
        }
        let none = || {
            Judgement::not_run(if self.surveyed.iter().any(Surveyed::opened) {
                "what goes through tunnels to the origin is changed; tls/not-intercepted says more"
            } else {
                "the proxy opens no tunnel to the origin; connect/port-443 says why"
            })
        };
        self.open.first().copied().ok_or_else(none)
    }

    /// The best door to which the proxy opens tunnels at all, whatever it lets pass in them.
    #[allow(clippy::result_large_err, reason = "a case ends with it, once")]
    pub(super) fn opened(&self) -> Result<SocketAddr, Judgement> {
        match (self.way(), self.surveyed.iter().find(|seen| seen.opened())) {
            (Ok(way), _) => Ok(way.door),
            (Err(_), Some(seen)) => Ok(seen.door),
            (Err(why), None) => Err(why),
        }
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

    /// Sends a plain request in absolute form, with the login that the proxy's URL has, and reads the whole answer. `more`:
    /// header lines, each with its line end.
    pub(super) async fn plain(
        &self,
        door: SocketAddr,
        method: &str,
        path: &str,
        more: &str,
        body: &[u8],
    ) -> (Option<(Reply, Vec<u8>)>, Observation) {
        let mut dialogue = self.caller.call(&self.name(door)).await;
        let login = dialogue.login();
        let mut request =
            format!("{method} http://{door}{path} HTTP/1.1\r\nHost: {door}\r\n{login}{more}\r\n").into_bytes();
        request.extend_from_slice(body);
        let answer = dialogue.http(method, &request).await;
        (answer, dialogue.finish())
    }

    /// Where a plain request goes: port 80 of the origin if it serves there, else the door of the best way, else any.
    pub(super) fn plain_door(&self) -> Option<SocketAddr> {
        self.door(DoorKind::Serves, Some(80))
            .or_else(|| self.open.first().map(|way| way.door))
            .or_else(|| self.door(DoorKind::Serves, None))
    }

    /// A command that asks for a tunnel to `authority` and sends a request into it.
    pub(super) fn curl(&self, authority: &str) -> String {
        format!("{} --proxytunnel http://{authority}/", self.curl_command())
    }

    /// A command that sends a plain request in absolute form.
    pub(super) fn curl_plain(&self, rest: &str) -> String {
        format!("{} {rest}", self.curl_command())
    }

    /// The beginning of a command that goes through the proxy.
    pub(super) fn curl_command(&self) -> String {
        let proxy = self.caller.proxy();
        let login = if proxy.credentials.is_some() { " --proxy-user USER:PASSWORD" } else { "" };
        format!("curl -sv --proxy {}{login}", proxy.url())
    }

    /// A command that sends `bytes`, in the notation of printf, as they stand.
    pub(super) fn printf(&self, bytes: &str) -> String {
        let proxy = self.caller.proxy();
        let program = if proxy.tls {
            format!("openssl s_client -quiet -connect {}", proxy.host.authority(proxy.port))
        } else {
            format!("nc {} {}", proxy.host, proxy.port)
        };
        format!("printf '{bytes}' | {program}")
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

/// A page of the proxy's own that answers a GET inside TLS, in a tunnel that opened: what ends TLS itself says there what
/// others say to the CONNECT.
pub(super) async fn page_inside(dialogue: &mut Dialogue, host: &Host) -> Option<Reply> {
    if !dialogue.is_open() || !dialogue.tls(host, Hello::default()).await {
        return None;
    }
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let (reply, _) = dialogue.http("GET", request.as_bytes()).await?;
    classify::is_proxys(&reply).then_some(reply)
}

/// A door in a command: `ORIGIN:443`; whoever runs it puts the origin's name there.
pub(super) fn placeholder(door: SocketAddr) -> String {
    if PORTS.contains(&door.port()) { format!("ORIGIN:{}", door.port()) } else { "ORIGIN:PORT".to_owned() }
}

/// What came of asking for a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    /// A 2xx.
    Opened,
    /// A login is demanded, or the one given refused.
    Login,
    /// A rule of the proxy's forbids it.
    Denied,
    /// The request as such is refused: malformed, too large, not supported.
    Rejected,
    /// The proxy tried, and says that it failed.
    Failed,
    /// Another answer.
    Odd,
    /// The connection ended without an answer.
    Closed,
    /// No answer in time.
    Silent,
    /// The proxy was not asked: it could not be reached, or the run ended.
    Unasked,
}

/// Sorts an observation by the answer to its CONNECT.
pub(super) fn said(seen: &Observation) -> Said {
    match (seen.reply(), seen.failure()) {
        (Some(reply), _) if reply.is_success() => Said::Opened,
        (Some(reply), _) => said_by(reply),
        (None, Some((Layer::Tunnel, _, kind))) => match kind {
            FailureKind::TimedOut => Said::Silent,
            FailureKind::Closed | FailureKind::Reset => Said::Closed,
            FailureKind::Cancelled => Said::Unasked,
            _ => Said::Odd,
        },
        (None, _) => Said::Unasked,
    }
}

/// The same for an answer by itself that is no 2xx.
pub(super) fn said_by(reply: &Reply) -> Said {
    let code = classify::answer(reply);
    if matches!(code, c::PROXY_AUTH_REQUIRED | c::PROXY_AUTH_REJECTED) {
        return Said::Login;
    }
    if matches!(reply.status, 400 | 405 | 411 | 413 | 414 | 431 | 501 | 505) {
        return Said::Rejected;
    }
    match code {
        c::PROXY_PORT_DENIED
        | c::PROXY_HOST_DENIED
        | c::PROXY_REQUEST_DENIED
        | c::PROXY_CLIENT_DENIED
        | c::HTTP_FIREWALL_DENIED
        | c::PROXY_REDIRECTED => Said::Denied,
        c::PROXY_GATEWAY_ERROR => Said::Failed,
        Code(code) if ["dns.", "tcp.", "tls."].iter().any(|layer| code.starts_with(layer)) => Said::Failed,
        _ => Said::Odd,
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
