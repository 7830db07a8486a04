//! One connection's worth of work: opens it, uses it, opens another when it ends.

use std::{
    cell::Cell,
    future::Future,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{sleep_until, timeout};

use super::{Path, failure::Fault, request::Errand, tally::Tally};
use crate::{
    bench::{Form, Part, Setup, Workload},
    http::Reply,
    model::{Failure, FailureKind, RequestEvidence, Step},
    probe::{
        dial::Dialled,
        wire::{Incoming, Wire},
    },
};

/// How often a path is tried before it counts as unusable: one connection may be unlucky.
const TRIES: usize = 3;

/// Makes operations, one after the other.
pub(super) struct Client {
    setup: Arc<Setup>,
    path: Arc<Path>,
    tally: Rc<Tally>,
    link: Option<Link>,
    /// How many transfers there were.
    turn: u64,
    /// Answers that were judged to be in order, by what they look like.
    accepted: Vec<u64>,
}

/// An open connection.
struct Link {
    wire: Wire,
    /// How it came about.
    steps: Vec<Step>,
    tally: Rc<Tally>,
    used: bool,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tally.closed(self.wire.tcp_info());
    }
}

impl Client {
    pub(super) fn new(setup: Arc<Setup>, path: Arc<Path>, tally: Rc<Tally>) -> Self {
        Self { setup, path, tally, link: None, turn: 0, accepted: Vec::new() }
    }

    /// Opens the connection that operations will use, if they use one that stays; a failure shows with the first of them.
    pub(super) async fn prepare(&mut self) {
        if self.path.errand.is_some() {
            self.link = self.open().await.ok();
        }
    }

    /// One operation.
    pub(super) async fn operate(&mut self) -> Result<(), Fault> {
        let path = self.path.clone();
        let Some(errand) = &path.errand else {
            let mut link = self.open().await?;
            link.wire.reset_when_dropped();
            if self.setup.resumed {
                // The next handshake needs what the server sends after this one.
                let _ = timeout(self.setup.timeout, link.wire.tickets()).await;
                self.tally.resumed(link.wire.is_resumed());
            }
            return Ok(());
        };
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.open().await?,
        };
        let mut answered = self.exchange(errand, &mut link).await;
        // A server may end a connection that stays whenever it likes; whoever meets that asks again (RFC 9112 section
        // 9.3.1).
        if link.used
            && matches!(&answered, Err(Trouble::Request(_, Some(failure))) if failure.kind == FailureKind::Closed)
        {
            link = self.open().await?;
            answered = self.exchange(errand, &mut link).await;
        }
        match answered {
            Ok(stays) => {
                link.used = true;
                self.link = Some(link).filter(|_| stays);
                Ok(())
            }
            Err(trouble) => Err(self.fault(trouble, &link)),
        }
    }

    /// Makes one operation as far as it takes to know that the others can work, and says what they need to know.
    pub(super) async fn rehearse(&mut self) -> Result<Option<Errand>, Fault> {
        let mut result = self.try_out().await;
        for _ in 1..TRIES {
            if result.is_ok() {
                break;
            }
            result = self.try_out().await;
        }
        result
    }

    async fn try_out(&mut self) -> Result<Option<Errand>, Fault> {
        let path = self.path.clone();
        let Some(errand) = &path.errand else {
            return self.operate().await.map(|()| None);
        };
        let mut link = self.open().await?;
        if self.setup.workload == Workload::Upload {
            return Ok(Some(errand.clone()));
        }
        let mut incoming = Incoming::within(self.setup.timeout);
        match self.ask(errand, &mut link, &mut incoming).await {
            Ok(reply) => Ok(Some(errand.clone().of_size(size_of(&reply)))),
            Err(trouble) => Err(self.fault(trouble, &link)),
        }
    }

    async fn open(&self) -> Result<Link, Fault> {
        let Dialled { steps, wire } = self.path.dialer.dial(self.path.reach(self.setup.workload)).await;
        // Connections that stay are opened in the warm-up, and count; where opening is the work, the warm-up does not.
        if self.path.errand.is_some() || self.tally.window.holds(Instant::now()) {
            self.tally.opened(&steps);
        }
        match wire {
            Some(wire) => Ok(Link { wire, steps, tally: self.tally.clone(), used: false }),
            None => Err(Fault::of(&self.path.dialer.observation(steps))),
        }
    }

    /// A request, its payload, and the answer with its own; says whether the connection stays.
    async fn exchange(&mut self, errand: &Errand, link: &mut Link) -> Result<bool, Trouble> {
        let mut incoming = Incoming::within(self.setup.timeout);
        let reply = self.ask(errand, link, &mut incoming).await?;
        let counted = self.setup.workload == Workload::Download;
        let offset = errand.offset(self.turn);
        let verify = (self.setup.verify && counted).then_some(offset);
        self.turn += 1;
        let last = Cell::new(Instant::now());
        let moved = |bytes| {
            last.set(Instant::now());
            if counted {
                self.tally.moved(bytes);
            }
        };
        let body = link.wire.receive(&reply, &mut incoming, verify, moved);
        watched(self.setup.timeout, &last, body).await.map_err(Trouble::Transfer)?;
        Ok(reply.keeps_connection())
    }

    /// Sends a request with its payload, and reads the head of an answer that is the one the workload needs.
    async fn ask(&mut self, errand: &Errand, link: &mut Link, incoming: &mut Incoming) -> Result<Reply, Trouble> {
        let limit = self.setup.timeout;
        let mut evidence = RequestEvidence {
            method: errand.method().into(),
            path: errand.path().to_owned(),
            sas_sent: errand.is_signed(),
            ..RequestEvidence::default()
        };
        let sent = within(limit, link.wire.send(errand.head(self.turn).as_bytes())).await;
        if let Err(failure) = sent {
            return Err(Trouble::Request(Box::new(evidence), Some(failure)));
        }
        evidence.request_sent = true;
        let payload = self.send_payload(errand, link).await;
        let asked = Instant::now();
        let limit = match &payload {
            Ok(()) => limit,
            // Whoever refuses an upload may answer before it is over, and close …
            Err(failure) if failure.kind == FailureKind::Reset => limit,
            // … or take no more of it: then the answer has been there since.
            Err(failure) if failure.kind == FailureKind::TimedOut => Duration::ZERO,
            Err(failure) => return Err(Trouble::Transfer(failure.clone())),
        };
        let answered = within(limit, link.wire.head(incoming)).await;
        evidence.bytes_read = incoming.total;
        let reply = match (answered, payload.as_ref().err()) {
            (Ok(reply), _) => *reply,
            (Err(_), Some(silence)) if silence.kind == FailureKind::TimedOut => {
                return Err(Trouble::Transfer(silence.clone()));
            }
            (Err(failure), _) => {
                evidence.first_bytes = incoming.excerpt();
                evidence.alert = incoming.alert.take();
                return Err(Trouble::Request(Box::new(evidence), Some(failure)));
            }
        };
        if payload.is_ok() {
            self.tally.took(Part::FirstByte, asked.elapsed());
        }
        if self.is_accepted(errand, link, &reply, &evidence) {
            // An upload that is accepted before it is over did not arrive whole.
            return payload.map(|()| reply).map_err(Trouble::Transfer);
        }
        evidence.reply = Some(reply);
        Err(Trouble::Request(Box::new(evidence), None))
    }

    /// Sends what a request carries, if anything, as long as it moves.
    async fn send_payload(&self, errand: &Errand, link: &mut Link) -> Result<(), Failure> {
        if errand.upload() == 0 {
            return Ok(());
        }
        let last = Cell::new(Instant::now());
        let moved = |bytes| {
            last.set(Instant::now());
            self.tally.moved(bytes);
        };
        watched(self.setup.timeout, &last, link.wire.transmit(errand.upload(), moved)).await
    }

    /// Whether an answer is the one that the workload needs. It is judged once for all that look like it.
    fn is_accepted(&mut self, errand: &Errand, link: &Link, reply: &Reply, evidence: &RequestEvidence) -> bool {
        if !errand.is_served(reply.status) {
            return false;
        }
        let mut looks = DefaultHasher::new();
        (reply.status, reply.header("server"), reply.header("x-ms-error-code"), reply.headers.len()).hash(&mut looks);
        let looks = looks.finish();
        if self.accepted.contains(&looks) {
            return true;
        }
        let evidence = RequestEvidence { reply: Some(reply.clone()), ..evidence.clone() };
        let observation = self.path.dialer.observation(link.steps.clone());
        let accepted = Fault::of_answer(observation, evidence).is_none();
        if accepted {
            self.accepted.push(looks);
        }
        accepted
    }

    fn fault(&self, trouble: Trouble, link: &Link) -> Fault {
        match trouble {
            Trouble::Transfer(failure) => Fault::of_transfer(&failure),
            Trouble::Request(mut evidence, failure) => {
                evidence.tcp = link.wire.tcp_info();
                let observation = self.path.dialer.observation(link.steps.clone());
                let by_proxy = self.path.errand.as_ref().is_some_and(|errand| errand.form() == Form::Absolute);
                Fault::of_request(observation, *evidence, failure, by_proxy, self.path.dialer.redactor())
            }
        }
    }
}

/// What went wrong on an open connection.
enum Trouble {
    /// The request got no answer, or not the right one.
    Request(Box<RequestEvidence>, Option<Failure>),
    /// The payload did not arrive whole.
    Transfer(Failure),
}

/// How large the blob is of which an answer holds a range.
fn size_of(reply: &Reply) -> Option<u64> {
    reply.header("content-range")?.rsplit_once('/')?.1.trim().parse().ok()
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(limit, work).await.unwrap_or_else(|_| Err(silent(limit)))
}

/// The same for work that may take any time, as long as something moves.
async fn watched<T>(
    limit: Duration,
    last: &Cell<Instant>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut work = pin!(work);
    loop {
        let end = last.get() + limit;
        tokio::select! {
            done = &mut work => return done,
            () = sleep_until(end.into()) => {
                if last.get() + limit <= Instant::now() {
                    return Err(silent(limit));
                }
            }
        }
    }
}

fn silent(limit: Duration) -> Failure {
    Failure::new(FailureKind::TimedOut, format!("nothing moved within {limit:?}"))
}
