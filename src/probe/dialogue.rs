//! One connection to a proxy, held step by step by somebody who knows what to say next: the walk with a free hand.

use std::{io, mem::take, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use super::{
    exchange, failure,
    handshake::{self, Tls},
    http_io::{Incoming, read_body, read_head, read_whole},
    net::{self, Tuning},
    recorder::{Halt, Recorder, Slot, micros},
    tunnel,
};
use crate::{
    exchange::{Answer, Exchange, MAX_LINE, Request},
    http::Reply,
    model::{
        Evidence, Failure, FailureKind, HandshakeEvidence, Host, Layer, Leg, Observation, Redactor, RequestEvidence,
        Route, TcpInfo, TunnelEvidence, Verification,
    },
    plan::{Budgets, Proxy, Source, Trust},
};

/// More of a body is not read.
const MAX_BODY: usize = 256 * 1024;

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

    /// The proxy's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Where that is dialled.
    pub(crate) fn dialled(&self) -> SocketAddr {
        self.dialled
    }

    /// How long a layer may take.
    pub(crate) fn patience(&self) -> Duration {
        self.budgets.layer
    }

    /// The same with another patience for every layer but the connect.
    pub(crate) fn patient(&self, layer: Duration) -> Self {
        Self { budgets: Budgets { layer, ..self.budgets.clone() }, ..self.clone() }
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
        self.call_tuned(subject, Tuning::default()).await
    }

    async fn call_tuned(&self, subject: &str, tuning: Tuning) -> Dialogue {
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
                net::connect(attempt, &self.source, tuning, None).await
            })
            .await;
        let Ok(conn) = connected else { return dialogue };
        dialogue.recorder.watch(conn.clone());
        conn.send_at_once();
        let conn = conn.half_closing();
        if self.proxy.tls {
            dialogue.stream = Some(Box::new(conn));
            let host = self.proxy.host.clone();
            dialogue.shake(Leg::Proxy, &host, None).await;
        } else {
            dialogue.stream = Some(Box::new(conn));
            dialogue.trusted = true;
        }
        dialogue
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
    /// These bytes as they stand.
    Raw(&'a [u8]),
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
                Ask::Raw(bytes) => tunnel::raw(attempt, stream, bytes).await,
            })
            .await;
        if let Ok(stream) = result {
            self.stream = Some(Box::new(stream));
        }
        self.is_open()
    }

    /// Shakes hands with whoever is at the end of the tunnel, for `host`; `sni` replaces the name that is sent.
    pub(crate) async fn tls(&mut self, host: &Host, sni: Option<&str>) -> bool {
        self.shake(Leg::Origin, host, sni).await
    }

    async fn shake(&mut self, leg: Leg, host: &Host, sni: Option<&str>) -> bool {
        let Some(stream) = self.stream.take() else { return false };
        let tls = self.caller.tls.clone();
        let result = self
            .recorder
            .step(
                leg,
                self.caller.budgets.layer,
                &mut handshake::Attempt::new(),
                async |attempt: &mut handshake::Attempt| handshake::handshake(attempt, &tls, stream, host, sni).await,
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

    /// Keeps the connection and forgets what was seen, so that thousands can be held; or what was seen, if it failed.
    pub(crate) fn keep(mut self) -> Result<Box<dyn Stream>, Box<Observation>> {
        self.stream.take().ok_or_else(|| Box::new(self.finish()))
    }

    /// What was seen.
    pub(crate) fn finish(self) -> Observation {
        Observation {
            id: 0,
            parent: None,
            subject: self.subject,
            route: Route::Proxy,
            attempt: 1,
            address: Some(self.caller.peer),
            control: None,
            host_service: None,
            steps: self.recorder.into_steps(),
        }
    }

    /// The evidence of the last handshake, if that was the last step.
    pub(crate) fn handshake(&self) -> Option<&HandshakeEvidence> {
        match self.recorder.last_evidence()? {
            Evidence::Handshake(evidence) => Some(evidence),
            _ => None,
        }
    }
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
    pub(crate) async fn send(&mut self, stream: &mut Box<dyn Stream>, bytes: &[u8]) -> Result<(), Failure> {
        stream.write_all(bytes).await.map_err(|e| failure::of_io(&e))?;
        stream.flush().await.map_err(|e| failure::of_io(&e))?;
        self.evidence.request_sent = true;
        Ok(())
    }

    /// Ends this side.
    pub(crate) async fn end(&mut self, stream: &mut Box<dyn Stream>) -> Result<(), Failure> {
        stream.shutdown().await.map_err(|e| failure::of_io(&e))
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

    /// Reads the head of an HTTP answer; what follows it waits for [`Talk::some`].
    pub(crate) async fn head(&mut self, stream: &mut Box<dyn Stream>) -> Result<Reply, Failure> {
        let reply = *read_head(stream, &mut self.incoming).await?;
        self.evidence.reply = Some(reply.clone());
        Ok(reply)
    }

    /// Reads some bytes; none: the peer ended its side.
    pub(crate) async fn some(&mut self, stream: &mut Box<dyn Stream>) -> Result<Vec<u8>, Failure> {
        if self.incoming.buffer.is_empty() {
            self.incoming.total +=
                stream.read_buf(&mut self.incoming.buffer).await.map_err(|e| failure::of_io(&e))? as u64;
        }
        Ok(take(&mut self.incoming.buffer))
    }

    /// Sends a request of the exchange protocol and reads the line that answers it.
    pub(crate) async fn request(&mut self, stream: &mut Box<dyn Stream>, request: Request) -> Result<Answer, Failure> {
        self.send(stream, request.line().as_bytes()).await?;
        self.line(stream).await
    }

    /// Reads an answer of the exchange protocol.
    pub(crate) async fn line(&mut self, stream: &mut Box<dyn Stream>) -> Result<Answer, Failure> {
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

    fn failure(&self) -> Option<(Layer, Leg, FailureKind)> {
        self.failed().map(|(step, failure)| (step.layer(), step.leg, failure.kind))
    }

    fn tunnel_ms(&self) -> Option<f64> {
        let micros = self.step(Layer::Tunnel, Leg::Proxy)?.elapsed_us;
        Some(Duration::from_micros(micros).as_secs_f64() * 1000.0)
    }
}
