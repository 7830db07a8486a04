//! One connection to a proxy, held step by step by somebody who knows what to say next: the walk with a free hand.

use std::{
    io,
    mem::take,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    exchange, failure,
    handshake::{self, Tls},
    http_io::{Incoming, read_body, read_head, read_whole},
    net::{self, Tuning},
    recorder::{Halt, Recorder, Slot, micros},
    resolve, tunnel,
};
use crate::{
    exchange::{Answer, Direction, Exchange, MAX_LINE, Pattern, Request},
    http::{Parsed, Reply, parse_head},
    model::{
        Evidence, Failure, FailureKind, HandshakeEvidence, Host, Layer, Leg, Observation, Redactor, RequestEvidence,
        ResolverView, Route, TcpInfo, TunnelEvidence, Verification,
    },
    plan::{Budgets, Proxy, Source, Trust},
};

pub(crate) use super::{
    exchange::early_data,
    handshake::{Hello, Versions},
};

/// More of a body is not read.
const MAX_BODY: usize = 256 * 1024;

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Of bytes that differ, and of those that should be there, this many are kept.
const SHOWN: usize = 8;

/// A stream of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What all dialogues of a run share.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    epoch: Instant,
    redactor: Arc<Redactor>,
    halt: Arc<Halt>,
    tls: Arc<Tls>,
    proxy: Proxy,
    peer: SocketAddr,
    dialled: SocketAddr,
    source: Source,
    budgets: Budgets,
}

impl Caller {
    /// For the proxy at `peer`, which is really dialled at `dialled`. The second value has notes for the user about trust
    /// stores that could not be read.
    ///
    /// # Errors
    /// When an anchor that was given explicitly is refused.
    pub(crate) fn new(
        proxy: Proxy,
        (peer, dialled): (SocketAddr, SocketAddr),
        trust: &Trust,
        source: Source,
        budgets: Budgets,
    ) -> io::Result<(Self, Vec<String>)> {
        let (tls, notes) = Tls::new(trust)?;
        let mut redactor = Redactor::new();
        if let Some(credentials) = &proxy.credentials {
            redactor.add_basic(&credentials.user, &credentials.password);
        }
        let (redactor, halt, tls) = (Arc::new(redactor), Arc::default(), Arc::new(tls));
        Ok((Self { epoch: Instant::now(), redactor, halt, tls, proxy, peer, dialled, source, budgets }, notes))
    }

    /// Ends every step under way, and each that begins later.
    pub(crate) fn halt(&self) {
        self.halt.halt();
    }

    /// Whether the run was ended.
    pub(crate) fn is_halted(&self) -> bool {
        self.halt.is_halted()
    }

    /// The proxy.
    pub(crate) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Where that is dialled.
    pub(crate) fn dialled(&self) -> SocketAddr {
        self.dialled
    }

    /// How long a layer may take.
    pub(crate) fn patience(&self) -> Duration {
        self.budgets.layer
    }

    /// The same with no layer, the connect among them, taking longer than this.
    pub(crate) fn hurried(&self, most: Duration) -> Self {
        let (connect, layer) = (self.budgets.connect.min(most), self.budgets.layer.min(most));
        Self { budgets: Budgets { connect, layer, ..self.budgets.clone() }, ..self.clone() }
    }

    /// What removes the proxy's password from texts.
    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Connects to the proxy, and shakes hands with it where it speaks TLS.
    pub(crate) async fn call(&self, subject: &str) -> Dialogue {
        let mut dialogue = Dialogue {
            caller: self.clone(),
            recorder: Recorder::new(self.epoch, self.redactor.clone(), self.halt.clone()),
            subject: subject.into(),
            stream: None,
            trusted: false,
        };
        let mut attempt = net::Attempt::new(self.peer, self.dialled);
        let connected = dialogue
            .recorder
            .step(Leg::Proxy, self.budgets.connect, &mut attempt, async |attempt: &mut net::Attempt| {
                net::connect(attempt, &self.source, Tuning::default(), None).await
            })
            .await;
        let Ok(conn) = connected else { return dialogue };
        dialogue.recorder.watch(conn.clone());
        conn.send_at_once();
        let conn = conn.half_closing();
        dialogue.stream = Some(Box::new(conn));
        if self.proxy.tls {
            let host = self.proxy.host.clone();
            dialogue.shake(Leg::Proxy, &host, Hello::default()).await;
        } else {
            dialogue.trusted = true;
        }
        dialogue
    }
}

/// The addresses of a host: its own where it is a literal, else what the system's resolver says.
///
/// # Errors
/// The lookup that failed.
pub(crate) async fn locate(host: &Host, budget: Duration) -> Result<Vec<IpAddr>, Box<Observation>> {
    let name = match host {
        Host::Ip(ip) => return Ok(vec![*ip]),
        Host::Name(name) => name,
    };
    let mut recorder = Recorder::new(Instant::now(), Arc::default(), Arc::default());
    let mut attempt = resolve::Attempt::new(ResolverView::System, None, Vec::new());
    let found = recorder
        .step(Leg::Proxy, budget, &mut attempt, async |attempt: &mut resolve::Attempt| {
            resolve::system(attempt, name).await
        })
        .await;
    found.map_err(|_| Box::new(observation(host.to_string().into(), None, recorder)))
}

fn observation(subject: Arc<str>, address: Option<SocketAddr>, recorder: Recorder) -> Observation {
    Observation {
        id: 0,
        parent: None,
        subject,
        route: Route::Proxy,
        attempt: 1,
        address,
        control: None,
        host_service: None,
        steps: recorder.into_steps(),
    }
}

/// What a CONNECT says.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask<'a> {
    /// The request in the one form that every proxy known accepts, with the credentials of the proxy's URL if it has any,
    /// and these bytes right behind it.
    Usual {
        /// Sent into the tunnel before the answer.
        along: &'a [u8],
    },
    /// The same without credentials.
    Anonymous,
    /// This request line and these header lines, each with its line end; credentials and the empty line are added.
    Head(&'a str),
    /// These bytes as they stand.
    Raw(&'a [u8]),
}

/// What somebody did who was sent bytes that he need not understand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reaction {
    /// What he said, bounded.
    pub(crate) heard: Vec<u8>,
    /// How it ended.
    pub(crate) end: End,
}

/// How a reaction ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum End {
    /// It did not: he waits for more, or says no more.
    #[default]
    Open,
    /// FIN.
    Closed,
    /// RST, or any other break.
    Reset,
}

impl Reaction {
    /// The first answer, if it is HTTP.
    pub(crate) fn reply(&self) -> Option<Reply> {
        match parse_head(&self.heard, 0) {
            Ok(Parsed::Complete(reply, _)) => Some(*reply),
            _ => None,
        }
    }
}

/// One connection to the proxy, and what was seen on it. A step after one that failed does nothing.
pub(crate) struct Dialogue {
    caller: Caller,
    recorder: Recorder,
    subject: Arc<str>,
    stream: Option<Box<dyn Stream>>,
    /// Whether the proxy, or for plain HTTP nobody, proved to be who it should be: a password is for no other.
    trusted: bool,
}

impl Dialogue {
    /// Whether the last step succeeded.
    pub(crate) fn is_open(&self) -> bool {
        self.stream.is_some()
    }

    /// Asks for a tunnel to `authority`; whether it was opened. The answer's head is in the evidence.
    pub(crate) async fn connect(&mut self, authority: &str, ask: Ask<'_>) -> bool {
        let Some(stream) = self.stream.take() else { return false };
        let budget = self.caller.budgets.layer;
        let mut attempt = tunnel::Attempt::new(authority.to_owned(), budget);
        let credentials = self.caller.proxy.credentials.as_ref().filter(|_| self.trusted);
        let result = self
            .recorder
            .step(Leg::Proxy, budget, &mut attempt, async |attempt: &mut tunnel::Attempt| match ask {
                Ask::Usual { along } => tunnel::tunnel(attempt, stream, credentials, along).await,
                Ask::Anonymous => tunnel::tunnel(attempt, stream, None, &[]).await,
                Ask::Head(head) => tunnel::written(attempt, stream, credentials, head).await,
                Ask::Raw(bytes) => tunnel::raw(attempt, stream, bytes).await,
            })
            .await;
        if let Ok(stream) = result {
            self.stream = Some(Box::new(stream));
        }
        self.is_open()
    }

    /// Shakes hands with whoever is at the end of the tunnel, for `host`.
    pub(crate) async fn tls(&mut self, host: &Host, hello: Hello<'_>) -> bool {
        self.shake(Leg::Origin, host, hello).await
    }

    async fn shake(&mut self, leg: Leg, host: &Host, hello: Hello<'_>) -> bool {
        let Some(stream) = self.stream.take() else { return false };
        let tls = self.caller.tls.clone();
        let result = self
            .recorder
            .step(
                leg,
                self.caller.budgets.layer,
                &mut handshake::Attempt::new(),
                async |attempt: &mut handshake::Attempt| handshake::handshake(attempt, &tls, stream, host, hello).await,
            )
            .await;
        if let Ok(stream) = result {
            self.stream = Some(Box::new(stream));
            if leg == Leg::Proxy {
                self.trusted = self.handshake().is_some_and(|h| h.verification == Some(Verification::Trusted));
            }
        }
        self.is_open()
    }

    /// Makes an exchange with an origin of our own at the end of the tunnel. `along`: bytes of it that already went along
    /// with the CONNECT.
    pub(crate) async fn exchange(&mut self, what: Exchange, seed: u64, along: u64) -> bool {
        let layer = self.caller.budgets.layer;
        let mut attempt = exchange::Attempt::new(what, seed, layer, along);
        self.converse(exchange::budget(what, layer), &mut attempt, async |attempt, stream| {
            exchange::exchange(attempt, stream).await
        })
        .await
    }

    /// Asks what came of an exchange in which the origin half-closed.
    pub(crate) async fn recall(&mut self, what: Exchange, seed: u64) -> bool {
        let layer = self.caller.budgets.layer;
        let mut attempt = exchange::Attempt::new(what, seed, layer, 0);
        self.converse(layer, &mut attempt, async |attempt, stream| exchange::recall(attempt, stream).await).await
    }

    async fn converse<E: Slot>(
        &mut self,
        budget: Duration,
        attempt: &mut E,
        run: impl AsyncFnOnce(&mut E, &mut Box<dyn Stream>) -> Result<(), Failure>,
    ) -> bool {
        let Some(mut stream) = self.stream.take() else { return false };
        let result = self
            .recorder
            .step(Leg::Origin, budget, attempt, async |attempt: &mut E| run(attempt, &mut stream).await)
            .await;
        if result.is_ok() {
            self.stream = Some(stream);
        }
        self.is_open()
    }

    /// Says anything, and hears anything, under a budget; `what` names it in the evidence. `None`: it failed.
    pub(crate) async fn talk<T>(
        &mut self,
        what: &str,
        budget: Duration,
        run: impl AsyncFnOnce(&mut Talk, &mut Box<dyn Stream>) -> Result<T, Failure>,
    ) -> Option<T> {
        let mut stream = self.stream.take()?;
        let mut talk = Talk::new(what, budget);
        let result = self
            .recorder
            .step(Leg::Origin, budget, &mut talk, async |talk: &mut Talk| run(talk, &mut stream).await)
            .await;
        if result.is_ok() {
            self.stream = Some(stream);
        }
        result.ok()
    }

    /// Sends an HTTP request as it stands and reads the whole answer.
    pub(crate) async fn http(&mut self, what: &str, request: &[u8]) -> Option<(Reply, Vec<u8>)> {
        self.talk(what, self.caller.budgets.layer, async |talk, stream| {
            talk.send(stream, request).await?;
            talk.answer(stream).await
        })
        .await
    }

    /// Sends bytes, in vain if need be, and listens meanwhile: to the end of the first head, or `to_end`, until the peer ends
    /// or says nothing for so long after the last byte was sent.
    pub(crate) async fn provoke(&mut self, what: &str, bytes: &[u8], silence: Duration, to_end: bool) -> Reaction {
        let budget = self.caller.budgets.layer;
        self.talk(what, budget, async |talk, stream| Ok(talk.provoke(stream, bytes, silence, to_end).await))
            .await
            .unwrap_or_default()
    }

    /// How long a layer may take.
    pub(crate) fn patience(&self) -> Duration {
        self.caller.budgets.layer
    }

    /// The header line with the credentials of the proxy's URL; nothing if it has none, or the proxy is not to be trusted
    /// with them.
    pub(crate) fn login(&self) -> String {
        self.caller.proxy.credentials.as_ref().filter(|_| self.trusted).map(tunnel::login).unwrap_or_default()
    }

    /// Keeps the connection and forgets what was seen, so that thousands can be held; or what was seen, if it failed.
    pub(crate) fn keep(mut self) -> Result<Box<dyn Stream>, Box<Observation>> {
        self.stream.take().ok_or_else(|| Box::new(self.finish()))
    }

    /// What was seen.
    pub(crate) fn finish(self) -> Observation {
        observation(self.subject, Some(self.caller.peer), self.recorder)
    }

    /// The evidence of the last handshake, if that was the last step.
    pub(crate) fn handshake(&self) -> Option<&HandshakeEvidence> {
        match self.recorder.last_evidence()? {
            Evidence::Handshake(evidence) => Some(evidence),
            _ => None,
        }
    }
}

/// What came of bytes that must be a pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Came {
    /// So many, from the first on, came as they must.
    pub(crate) intact: u64,
    /// The next ones did not: what must stand there, and what stood there.
    pub(crate) altered: Option<(Vec<u8>, Vec<u8>)>,
}

/// Evidence of free speech.
#[derive(Debug)]
pub(crate) struct Talk {
    evidence: RequestEvidence,
    incoming: Incoming,
}

impl Talk {
    fn new(what: &str, budget: Duration) -> Self {
        let evidence = RequestEvidence { method: what.to_owned(), ..RequestEvidence::default() };
        Self { evidence, incoming: Incoming::within(budget) }
    }

    /// Sends bytes.
    pub(crate) async fn send(&mut self, stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Failure> {
        stream.write_all(bytes).await.map_err(|e| failure::of_io(&e))?;
        stream.flush().await.map_err(|e| failure::of_io(&e))?;
        self.evidence.request_sent = true;
        Ok(())
    }

    /// Reads an HTTP answer with its whole body.
    pub(crate) async fn answer(&mut self, stream: &mut Box<dyn Stream>) -> Result<(Reply, Vec<u8>), Failure> {
        let mut reply = self.head(stream).await?;
        let body = read_whole(stream, &mut self.incoming, &reply, MAX_BODY).await?.unwrap_or_default();
        read_body(stream, &mut self.incoming, &mut reply).await;
        self.incoming.buffer.clear();
        self.evidence.reply = Some(reply.clone());
        Ok((reply, body))
    }

    /// Reads the body that follows a head, and throws it away: the connection can be used again.
    pub(crate) async fn rest(&mut self, stream: &mut Box<dyn Stream>, reply: &Reply) -> Result<(), Failure> {
        read_whole(stream, &mut self.incoming, reply, MAX_BODY).await?;
        self.incoming.buffer.clear();
        Ok(())
    }

    /// The status of the next answer, be it an interim one; the answer itself stays to be read. `None`: none comes within
    /// `patience`.
    pub(crate) async fn first_status(
        &mut self,
        stream: &mut Box<dyn Stream>,
        patience: Duration,
    ) -> Result<Option<u16>, Failure> {
        let end = Instant::now() + patience;
        loop {
            if let Ok(Parsed::Complete(reply, _)) = parse_head(&self.incoming.buffer, 0) {
                return Ok(Some(reply.status));
            }
            match timeout_at(end, stream.read_buf(&mut self.incoming.buffer)).await {
                Err(_) => return Ok(None),
                Ok(Err(error)) => return Err(failure::of_io(&error)),
                Ok(Ok(0)) => return Err(Failure::new(FailureKind::Closed, "closed without an answer")),
                Ok(Ok(read)) => self.incoming.total += read as u64,
            }
        }
    }

    /// Reads the head of an HTTP answer; what follows it waits for [`Talk::some`].
    pub(crate) async fn head(&mut self, stream: &mut Box<dyn Stream>) -> Result<Reply, Failure> {
        let reply = *read_head(stream, &mut self.incoming).await?;
        self.evidence.reply = Some(reply.clone());
        Ok(reply)
    }

    /// Reads some bytes; none: the peer ended its side.
    pub(crate) async fn some(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Failure> {
        if self.incoming.buffer.is_empty() {
            self.incoming.buffer.reserve(CHUNK);
            self.incoming.total +=
                stream.read_buf(&mut self.incoming.buffer).await.map_err(|e| failure::of_io(&e))? as u64;
        }
        Ok(take(&mut self.incoming.buffer))
    }

    async fn provoke(
        &mut self,
        stream: &mut Box<dyn Stream>,
        bytes: &[u8],
        silence: Duration,
        to_end: bool,
    ) -> Reaction {
        let (mut reader, mut writer) = tokio::io::split(stream);
        // Who has seen enough may end before all is sent: what it says counts.
        let mut write = pin!(async move {
            let _ = writer.write_all(bytes).await;
            let _ = writer.flush().await;
        });
        self.evidence.request_sent = true;
        let (mut heard, mut written) = (Vec::new(), false);
        let end = loop {
            let whole = !to_end && matches!(parse_head(&heard, 0), Ok(Parsed::Complete(..)));
            if whole || heard.len() > MAX_BODY {
                break End::Open;
            }
            tokio::select! {
                read = reader.read_buf(&mut heard) => match read {
                    Ok(0) => break End::Closed,
                    Ok(read) => self.incoming.total += read as u64,
                    Err(_) => break End::Reset,
                },
                () = &mut write, if !written => written = true,
                () = sleep(silence), if written => break End::Open,
            }
        };
        let reaction = Reaction { heard, end };
        self.evidence.reply = reaction.reply();
        reaction
    }

    /// Reads until `count` bytes have come that must be the origin's pattern of this seed; how far that went is in `came`
    /// at any moment. Nothing may come for as long as `patience`.
    pub(crate) async fn pattern(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        (seed, count): (u64, u64),
        patience: Duration,
        came: &mut Came,
    ) -> Result<(), Failure> {
        let pattern = Pattern::new(seed, Direction::Down);
        while came.intact < count {
            let silent = |_| Failure::new(FailureKind::TimedOut, format!("nothing came within {patience:?}"));
            let mut bytes = timeout(patience, self.some(stream)).await.map_err(silent)??;
            if bytes.is_empty() {
                return Err(Failure::new(FailureKind::Closed, "closed before all bytes had come"));
            }
            let wanted = usize::try_from(count - came.intact).unwrap_or(usize::MAX);
            if bytes.len() > wanted {
                self.incoming.buffer = bytes.split_off(wanted);
            }
            if let Some(at) = pattern.first_difference(came.intact, &bytes) {
                came.intact += at as u64;
                let stood: Vec<u8> = bytes[at..].iter().copied().take(SHOWN).collect();
                came.altered = Some((pattern.bytes(came.intact, stood.len()), stood));
                return Err(Failure::new(FailureKind::Differs, "bytes came that the origin did not send"));
            }
            came.intact += bytes.len() as u64;
        }
        Ok(())
    }

    /// Sends a request of the exchange protocol and reads the line that answers it.
    pub(crate) async fn request(
        &mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        request: Request,
    ) -> Result<Answer, Failure> {
        self.send(stream, request.line().as_bytes()).await?;
        self.line(stream).await
    }

    /// Reads an answer of the exchange protocol.
    pub(crate) async fn line(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Answer, Failure> {
        loop {
            let buffer = &mut self.incoming.buffer;
            if let Some(end) = buffer.iter().take(MAX_LINE).position(|&b| b == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                return Answer::parse(&line).ok_or_else(|| self.foreign(&line));
            }
            if buffer.len() >= MAX_LINE {
                let line = take(buffer);
                return Err(self.foreign(&line));
            }
            let read = stream.read_buf(buffer).await.map_err(|e| failure::of_io(&e))?;
            self.incoming.total += read as u64;
            if read == 0 {
                return Err(Failure::new(FailureKind::Closed, "closed without an answer"));
            }
        }
    }

    fn foreign(&mut self, line: &[u8]) -> Failure {
        self.evidence.first_bytes = Some(crate::model::Excerpt::new(line, 256, line.len() as u64));
        Failure::new(FailureKind::Foreign, "somebody else answered than the origin")
    }
}

impl Slot for Talk {
    fn finish(&mut self, _: Option<&Failure>, tcp: Option<TcpInfo>) -> Evidence {
        let evidence = &mut self.evidence;
        evidence.bytes_read = self.incoming.total;
        evidence.first_byte_us = self.incoming.first_byte.map(micros);
        if evidence.reply.is_none() && evidence.first_bytes.is_none() {
            evidence.first_bytes = self.incoming.excerpt();
        }
        evidence.alert = self.incoming.alert.take();
        evidence.tcp = tcp;
        Evidence::Request(Box::new(take(evidence)))
    }
}

/// How to look at what a dialogue left behind.
pub(crate) trait Seen {
    /// The CONNECT, if one was sent.
    fn tunnel(&self) -> Option<&TunnelEvidence>;
    /// The answer to it.
    fn reply(&self) -> Option<&Reply>;
    /// The handshake inside the tunnel.
    fn handshake(&self) -> Option<&HandshakeEvidence>;
    /// What was said behind the handshakes, if anything was.
    fn request(&self) -> Option<&RequestEvidence>;
    /// Why the last step failed.
    fn failure(&self) -> Option<(Layer, Leg, FailureKind)>;
    /// How long the CONNECT took, in milliseconds.
    fn tunnel_ms(&self) -> Option<f64>;
}

impl Seen for Observation {
    fn tunnel(&self) -> Option<&TunnelEvidence> {
        match &self.step(Layer::Tunnel, Leg::Proxy)?.evidence {
            Evidence::Tunnel(evidence) => Some(evidence),
            _ => None,
        }
    }

    fn reply(&self) -> Option<&Reply> {
        self.tunnel()?.reply.as_ref()
    }

    fn handshake(&self) -> Option<&HandshakeEvidence> {
        match &self.step(Layer::Handshake, Leg::Origin)?.evidence {
            Evidence::Handshake(evidence) => Some(evidence),
            _ => None,
        }
    }

    fn request(&self) -> Option<&RequestEvidence> {
        match &self.steps.last()?.evidence {
            Evidence::Request(evidence) => Some(evidence),
            _ => None,
        }
    }

    fn failure(&self) -> Option<(Layer, Leg, FailureKind)> {
        self.failed().map(|(step, failure)| (step.layer(), step.leg, failure.kind))
    }

    fn tunnel_ms(&self) -> Option<f64> {
        let micros = self.step(Layer::Tunnel, Leg::Proxy)?.elapsed_us;
        Some(Duration::from_micros(micros).as_secs_f64() * 1000.0)
    }
}
