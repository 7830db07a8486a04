//! The forward proxy: HTTP CONNECT and plain requests, with the answers of squid 5.7 unless the scenario says otherwise.

mod answers;
mod plain;
mod tunnel;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::Engine as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use self::answers::{answer, bare, challenge, established, squid, tinyproxy};
use super::{
    fault::{
        conn::{Breaker, mute, reset},
        proto::{ProxyReply, Tunnel},
        stream::Disturbance,
    },
    forward::{Target, host_and_any_port, host_and_port},
    http::{Answer, Framing, Head, Io, Unread, next_head},
    log::Event,
    origin::{alert, last_words},
    quirk::{Beyond, Hostile, Quirk},
    relay,
    spec::{Fault, Login, Party},
    world::World,
};

/// `unexpected_message` (RFC 8446 section 6): what a TLS server says to plaintext.
const UNEXPECTED_MESSAGE: u8 = 10;

/// How long a connection may be idle between requests.
const IDLE: Duration = Duration::from_secs(60);

/// How long the head of a request may take from its first byte on.
const HALF: Duration = Duration::from_secs(5);

/// Most heads are no longer.
const COMMON: usize = 1024;

/// What the connections to the proxy share.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Tunnels that are open.
    open: AtomicUsize,
    /// Tunnels that were ever opened.
    opened: AtomicUsize,
    /// Nobody is served any more.
    dead: AtomicBool,
    /// Answers to plain requests.
    cache: Mutex<HashMap<String, Vec<u8>>>,
}

/// The room that a tunnel takes.
struct Room<'w>(&'w State);

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves one connection.
pub(super) async fn serve(world: Arc<World>, stream: TcpStream, peer: SocketAddr) {
    // An error is the client's leaving; there is nobody to tell.
    let _ = serve_connection(&world, stream, peer).await;
}

async fn serve_connection(world: &World, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    if world.proxy.dead.load(Ordering::Relaxed) {
        reset(stream);
        return Ok(());
    }
    let spec = &world.spec.proxy;
    let faults = world.proxy_faults();
    let stream = match faults.iter().find_map(|fault| fault.conn) {
        None => stream,
        Some(conn) => match conn.inflict(stream).await {
            Some(stream) => stream,
            None => return Ok(()),
        },
    };
    stream.set_nodelay(true)?;
    relay::shorten_queue(&stream);
    let breaker = Breaker::of(&stream)?;
    let io = world.disturbance(faults).apply(Box::new(stream), &breaker)?;
    let io: Box<dyn Io> =
        if spec.tls { Box::new(TlsAcceptor::from(world.tls.proxy.clone()).accept(io).await?) } else { io };
    Session { world, peer, breaker }.serve(io).await
}

struct Session<'w> {
    world: &'w World,
    peer: SocketAddr,
    breaker: Breaker,
}

impl<'w> Session<'w> {
    async fn serve(self, mut io: Box<dyn Io>) -> io::Result<()> {
        let mut replies = self.world.spec.faults.iter().filter(|fault| fault.at == Party::Proxy);
        if let Some(ProxyReply::Banner(text)) = replies.find_map(|fault| fault.reply.as_ref()) {
            io.write_all(text.as_bytes()).await?;
            mute(io).await;
            return Ok(());
        }
        let mut buffer = Vec::new();
        loop {
            let head = match self.hear(&mut io, &mut buffer).await {
                Ok(head) => head,
                Err(None) => return Ok(()),
                Err(Some(answer)) => {
                    self.finish(answer).closing().write(&mut io, "").await?;
                    return last_words(io, b"").await;
                }
            };
            let answer = match self.decide(&head) {
                Decision::Answer(answer) => answer,
                Decision::Misbehave(reply) => {
                    self.log(&head, None);
                    return self.misbehave(io, reply).await;
                }
                Decision::Crowded(beyond) => match beyond {
                    Beyond::Refuse => squid(403, "Forbidden", "ERR_ACCESS_DENIED", 0),
                    Beyond::Error => squid(500, "Internal Server Error", "ERR_CANNOT_FORWARD", 0).closing(),
                    Beyond::Silent | Beyond::Dead => {
                        let is_answered = beyond == Beyond::Dead;
                        self.log(&head, is_answered.then_some(200));
                        if is_answered {
                            self.established().write(&mut io, "CONNECT").await?;
                        }
                        mute(io).await;
                        return Ok(());
                    }
                },
                Decision::Break(_room, tunnel, host, port) => {
                    self.log(&head, Some(200));
                    return self.break_tunnel(io, buffer, tunnel, &host, port).await;
                }
                Decision::Disturb(_room, disturbance, host, port) => {
                    self.log(&head, Some(200));
                    self.established().write(&mut io, "CONNECT").await?;
                    return match self.dial(&host, port).await {
                        Ok(origin) => {
                            let faulty = disturbance.apply(io, &self.breaker)?;
                            self.relay(faulty, origin, &head.target, &buffer, None).await
                        }
                        Err(_) => last_words(io, b"").await,
                    };
                }
                Decision::Tunnel(_room, host, port) => {
                    if self.world.spec.proxy.optimistic {
                        self.log(&head, Some(200));
                        self.established().write(&mut io, "CONNECT").await?;
                        return match self.dial(&host, port).await {
                            Ok(origin) => self.relay(io, origin, &head.target, &buffer, None).await,
                            Err(_) => last_words(io, b"").await,
                        };
                    }
                    match self.dial(&host, port).await {
                        Ok(origin) => {
                            self.log(&head, Some(200));
                            self.established().write(&mut io, "CONNECT").await?;
                            return self.relay(io, origin, &head.target, &buffer, None).await;
                        }
                        Err(answer) => answer,
                    }
                }
                Decision::Forward(target, framing) => {
                    match self.forward(&mut io, &mut buffer, &head, &target, framing).await {
                        Ok(passed) => {
                            self.log(&head, Some(passed.status));
                            return self.pass_on(io, passed, &head, &target).await;
                        }
                        // The body is not read.
                        Err(answer) => answer.closing(),
                    }
                }
            };
            let mut answer = self.finish(answer);
            // What follows is the content of a tunnel that there is not, or a body that nobody reads.
            let follows = head.method == "CONNECT" && !buffer.is_empty() || head.framing() != Ok(Framing::Length(0));
            answer.close |= head.wants_close() || follows;
            self.log(&head, Some(answer.status));
            answer.write(&mut io, &head.method).await?;
            if answer.close {
                return last_words(io, b"").await;
            }
        }
    }

    /// Reads the next request. No head, but an answer to what came in its place; or nothing at all to say.
    async fn hear(&self, io: &mut Box<dyn Io>, buffer: &mut Vec<u8>) -> Result<Head, Option<Answer>> {
        buffer.reserve(COMMON);
        if buffer.is_empty() && !matches!(timeout(IDLE, io.read_buf(buffer)).await, Ok(Ok(1..))) {
            return Err(None);
        }
        let is_whole = buffer.windows(4).any(|window| window == b"\r\n\r\n");
        if !is_whole && self.has(Quirk::DiesOf(Hostile::HalfRequest)) {
            self.world.proxy.dead.store(true, Ordering::Relaxed);
            return Err(None);
        }
        let (hostile, answer) = match timeout(HALF, next_head(io, buffer)).await {
            // It may have died of another connection meanwhile.
            Ok(Ok(_)) if self.world.proxy.dead.load(Ordering::Relaxed) => return Err(None),
            Ok(Ok(head)) => return Ok(head),
            Ok(Err(Unread::End | Unread::Broken(_))) => (Hostile::HalfRequest, None),
            Err(_) => (Hostile::HalfRequest, Some(squid(408, "Request Timeout", "ERR_REQUEST_START_TIMEOUT", 0))),
            Ok(Err(Unread::TooLarge)) => {
                (Hostile::HugeHead, Some(squid(431, "Request Header Fields Too Large", "ERR_TOO_BIG", 0)))
            }
            Ok(Err(Unread::Malformed)) => {
                let is_text = buffer.first().is_some_and(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
                let hostile = if is_text { Hostile::Malformed } else { Hostile::Binary };
                (hostile, Some(squid(400, "Bad Request", "ERR_PROTOCOL_UNKNOWN", 0)))
            }
        };
        if self.has(Quirk::DiesOf(hostile)) {
            self.world.proxy.dead.store(true, Ordering::Relaxed);
            return Err(None);
        }
        Err(answer)
    }

    fn has(&self, quirk: Quirk) -> bool {
        self.world.spec.proxy.has(quirk)
    }

    fn established(&self) -> Answer {
        let mut answer = established();
        if self.has(Quirk::LengthWithEstablished) {
            answer.headers.push("Content-Length: 0".into());
        }
        answer
    }

    /// An answer of the proxy's own, as its quirks leave it.
    fn finish(&self, mut answer: Answer) -> Answer {
        let is_refusal = answer.status >= 400;
        if is_refusal && self.has(Quirk::HidesReasons) {
            answer = Answer { close: answer.close, ..bare(502, "Bad Gateway") };
        }
        answer.close |= is_refusal && self.has(Quirk::ClosesAfterRefusal);
        answer
    }

    fn log(&self, head: &Head, status: Option<u16>) {
        self.world.log.add(Event::Connect {
            method: head.method.clone(),
            // Without a query or user information, which may be secret.
            authority: match Target::of(&head.target) {
                Some(target) => target.authority,
                None => head.path().rsplit('@').next().unwrap_or_default().to_owned(),
            },
            credentials: head.header("proxy-authorization").is_some(),
            status,
        });
    }

    fn decide(&self, head: &Head) -> Decision<'w> {
        let hosts = head.values("host").count();
        let framing = match head.framing() {
            Ok(framing) => Some(framing),
            Err(_) => self.has(Quirk::PassesAmbiguousBodies).then_some(Framing::Chunked),
        };
        let asked = if head.method == "CONNECT" {
            let asked = host_and_port(&head.target, None);
            let any = || self.has(Quirk::TakesBadPorts).then(|| host_and_any_port(&head.target)).flatten();
            asked.or_else(any).map(|(host, port)| (host, port, None))
        } else {
            Target::of(&head.target).map(|target| (target.host.clone(), target.port, Some(target)))
        };
        // RFC 9112 section 3.2: never two Hosts; none at all, squid lets pass. Section 6.3: no body that two would frame
        // differently.
        let (Some((host, port, plain)), Some(framing), 0..=1) = (asked, framing, hosts) else {
            return Decision::Answer(squid(400, "Bad Request", "ERR_INVALID_URL", 0).closing());
        };
        if let Some(answer) = self.refuse_login(head).or_else(|| self.refuse(head, &host, port, plain.is_some())) {
            return Decision::Answer(answer);
        }
        let world: &'w World = self.world;
        let fault = world.request_fault(&host, port);
        if let Some(Fault { reply: Some(reply), .. }) = fault {
            return match answer(reply) {
                Some(answer) => Decision::Answer(answer),
                None => Decision::Misbehave(reply),
            };
        }
        // A plain request has no tunnel to break or to disturb.
        if let Some(target) = plain {
            return Decision::Forward(target, framing);
        }
        let room = match self.room() {
            Ok(room) => room,
            Err(beyond) => return Decision::Crowded(beyond),
        };
        match fault {
            Some(Fault { tunnel: Some(tunnel), .. }) => Decision::Break(room, tunnel, host, port),
            fault => match world.disturbance(fault) {
                disturbance if disturbance.is_none() => Decision::Tunnel(room, host, port),
                disturbance => Decision::Disturb(room, disturbance, host, port),
            },
        }
    }

    /// Room for one more tunnel.
    fn room(&self) -> Result<Room<'w>, Beyond> {
        let (spec, state) = (&self.world.spec.proxy, &self.world.proxy);
        let room = Room(state);
        let (before, ever) = (state.open.fetch_add(1, Ordering::Relaxed), state.opened.fetch_add(1, Ordering::Relaxed));
        let last = spec.quirks.iter().find_map(|quirk| match quirk {
            Quirk::StopsAfterTunnels(count) => Some(*count),
            _ => None,
        });
        if last.is_some_and(|last| ever >= last) {
            state.dead.store(true, Ordering::Relaxed);
            return Err(Beyond::Silent);
        }
        match spec.max_tunnels {
            Some(max) if before >= max.count => Err(max.beyond),
            _ => Ok(room),
        }
    }

    /// What the rules and the quirks of the proxy have against a request.
    fn refuse(&self, head: &Head, host: &str, port: u16, is_plain: bool) -> Option<Answer> {
        let has = |quirk| self.has(quirk);
        let bad = || Some(squid(400, "Bad Request", "ERR_INVALID_URL", 0));
        let denied = || Some(squid(403, "Forbidden", "ERR_ACCESS_DENIED", 0));
        if head.old && has(Quirk::RefusesHttp10) {
            return Some(squid(505, "HTTP Version Not Supported", "ERR_UNSUP_HTTPVERSION", 0));
        }
        if head.header("user-agent").is_none() && has(Quirk::WantsUserAgent) {
            return denied();
        }
        if is_plain {
            let is_put = head.method == "PUT";
            let has_length = matches!(head.framing(), Ok(Framing::Length(1..)));
            return if is_put && has(Quirk::RefusesPut) {
                Some(squid(405, "Method Not Allowed", "ERR_UNSUP_REQ", 0))
            } else if (is_put || head.method == "POST") && !has_length && has(Quirk::DemandsLength) {
                Some(squid(411, "Length Required", "ERR_INVALID_REQ", 0))
            } else {
                None
            };
        }
        let is_odd = host.starts_with('[') && has(Quirk::RefusesIpv6Literals)
            || host.ends_with('.') && has(Quirk::RefusesTrailingDots)
            || has(Quirk::WantsHost) && head.header("host") != Some(&head.target);
        if is_odd {
            return bad();
        }
        if has(Quirk::CaseSensitiveNames) && host.bytes().any(|b| b.is_ascii_uppercase()) {
            return Some(squid(500, "Internal Server Error", "ERR_CANNOT_FORWARD", 0).closing());
        }
        match &self.world.spec.proxy.ports {
            Some(ports) if !ports.contains(&port) => denied(),
            _ => None,
        }
    }

    fn refuse_login(&self, head: &Head) -> Option<Answer> {
        let spec = &self.world.spec.proxy;
        if let Some(scheme) = spec.quirks.iter().find_map(|quirk| match quirk {
            Quirk::AsksFor(scheme) => Some(*scheme),
            _ => None,
        }) {
            return Some(challenge(scheme));
        }
        let required = spec.requires.as_ref()?;
        let given = head.header("proxy-authorization");
        let right = base64::engine::general_purpose::STANDARD.encode(required);
        // Case does not count in the name of a scheme (RFC 9110 section 11.1).
        let is_right = given
            .and_then(|given| given.split_once(' '))
            .is_some_and(|(scheme, token)| scheme.eq_ignore_ascii_case("basic") && token.trim_start() == right);
        if is_right || given.is_some() && self.has(Quirk::AnyLogin) {
            return None;
        }
        Some(match (spec.login, given) {
            (Login::Squid, _) => {
                let mut answer = squid(407, "Proxy Authentication Required", "ERR_CACHE_ACCESS_DENIED", 0);
                answer.headers.push("Proxy-Authenticate: Basic realm=\"Squid proxy-caching web server\"".into());
                answer
            }
            (Login::Tinyproxy, None) => {
                tinyproxy(407, "Proxy Authentication Required", &["Proxy-Authenticate: Basic realm=\"Tinyproxy\""])
            }
            (Login::Tinyproxy, Some(_)) => {
                tinyproxy(401, "Unauthorized", &["WWW-Authenticate: Basic realm=\"Tinyproxy\""])
            }
            (Login::Bare, _) => Answer::new(407, "Proxy Authentication Required", &[], ""),
        })
    }

    /// Everything that is no complete answer.
    async fn misbehave(self, mut io: Box<dyn Io>, reply: &ProxyReply) -> io::Result<()> {
        match reply {
            ProxyReply::Bytes(text) => last_words(io, text.as_bytes()).await,
            ProxyReply::ThenSilence(text) => {
                io.write_all(text.as_bytes()).await?;
                io.flush().await?;
                mute(io).await;
                Ok(())
            }
            ProxyReply::TlsAlert => last_words(io, &alert(UNEXPECTED_MESSAGE)).await,
            ProxyReply::EndlessHead => {
                io.write_all(b"HTTP/1.1 200 Connection established\r\n").await?;
                loop {
                    io.write_all(b"X-Padding: endless endless endless endless endless endless\r\n").await?;
                }
            }
            ProxyReply::Reset => {
                self.breaker.arm();
                Ok(())
            }
            ProxyReply::Close => last_words(io, b"").await,
            // The others are answers, or a banner, which comes before any request.
            _ => {
                mute(io).await;
                Ok(())
            }
        }
    }
}

enum Decision<'w> {
    Answer(Answer),
    Misbehave(&'w ProxyReply),
    /// There is no room for the tunnel.
    Crowded(Beyond),
    Break(Room<'w>, &'w Tunnel, String, u16),
    Disturb(Room<'w>, Disturbance, String, u16),
    Tunnel(Room<'w>, String, u16),
    Forward(Target, Framing),
}
