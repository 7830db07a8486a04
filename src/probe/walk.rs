//! One walk: the layers in order, over one address and one route.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{
    exchange,
    handshake::{self, Hello, Tls},
    net::{self, Conn, Tuning},
    recorder::{Halt, Recorder, Stop},
    request, trace, tunnel,
};
use crate::{
    exchange::Exchange,
    model::{Control, Evidence, HostService, Leg, Redactor, Route, Step, Target, Verification},
    plan::{Plan, Proxy},
};

/// What all walks of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plan: Plan,
    /// The services of the host channel that are probed, and what they are asked.
    pub(super) host: Vec<(HostService, Target)>,
    pub(super) tls: Arc<Tls>,
    pub(super) redactor: Arc<Redactor>,
    pub(super) halt: Arc<Halt>,
    pub(super) epoch: Instant,
}

impl Shared {
    /// Whom a walk probes.
    pub(super) fn target(&self, goal: Goal) -> &Target {
        match goal {
            Goal::Target(index) => &self.plan.targets[index],
            Goal::Host(index) => &self.host[index].1,
        }
    }

    /// What a request must say beside the usual.
    fn header(&self, goal: Goal) -> &'static str {
        match goal {
            Goal::Host(index) if self.host[index].0 == HostService::InstanceMetadata => request::FOR_METADATA,
            _ => "",
        }
    }
}

/// What a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// A target of the plan, by index.
    Target(usize),
    /// A service of the host channel, by index in [`Shared::host`].
    Host(usize),
}

/// What one walk is to do.
#[derive(Debug, Clone)]
pub(super) struct Course {
    pub(super) goal: Goal,
    pub(super) route: Route,
    /// The origin's address, or the proxy's.
    pub(super) peer: SocketAddr,
    /// Where that address is really dialled.
    pub(super) dialled: SocketAddr,
    pub(super) control: Option<Control>,
    /// What to try with the endpoint, in place of the layers that its scheme has, and the seed of its bytes.
    pub(super) exchange: Option<(Exchange, u64)>,
    /// How many sockets it may hold at once; only a trace has use for more than one.
    pub(super) sockets: usize,
}

/// Walks, and gives back every step that was begun.
pub(super) async fn walk(shared: &Shared, course: &Course) -> Vec<Step> {
    let mut recorder = Recorder::new(shared.epoch, shared.redactor.clone(), shared.halt.clone());
    let leg = match course.route {
        Route::Direct => Leg::Origin,
        Route::Proxy => Leg::Proxy,
    };
    let mss = match course.control {
        Some(Control::Trace) => {
            // Boxed, as what lies beyond a connect: few walks are traces, and all would hold room for one.
            Box::pin(trace::walk(&mut recorder, shared, course, leg)).await;
            return recorder.into_steps();
        }
        Some(Control::SmallSegments { mss }) => Some(mss),
        _ => None,
    };
    let tuning = Tuning { mss, ..Tuning::default() };
    let mut attempt = net::Attempt::new(course.peer, course.dialled);
    let budget = shared.plan.budgets.connect;
    let connected = recorder
        .step(leg, budget, &mut attempt, async |attempt: &mut net::Attempt| {
            // An empty map is not even asked to hash.
            let played = shared.plan.dial.played.get(&course.peer);
            net::connect(attempt, &shared.plan.source, tuning, played).await
        })
        .await;
    if let Ok(conn) = connected {
        recorder.watch(conn.clone());
        conn.send_at_once();
        let conn = if course.exchange.is_some() { conn.half_closing() } else { conn };
        // Boxed: a connect that waits should not hold room for the layers that may never come.
        let _ = Box::pin(beyond_connect(&mut recorder, shared, course, conn)).await;
    }
    recorder.into_steps()
}

async fn beyond_connect(rec: &mut Recorder, shared: &Shared, course: &Course, conn: Conn) -> Result<(), Stop> {
    let target = shared.target(course.goal);
    let (Route::Proxy, Some(proxy)) = (course.route, &shared.plan.proxy) else {
        return origin(rec, shared, course, target, conn).await;
    };
    let other_scheme = course.control == Some(Control::OtherProxyScheme);
    if proxy.tls == other_scheme {
        let with_credentials = !other_scheme;
        let stream = open_tunnel(rec, shared, course, proxy, target, conn, with_credentials).await?;
        return beyond_tunnel(rec, shared, course, target, stream).await;
    }
    let (stream, trusted) = shake(rec, shared, Leg::Proxy, conn, &proxy.host, None).await?;
    if other_scheme {
        return Ok(());
    }
    // A password is for the proxy, not for whoever answers in its place.
    let stream = open_tunnel(rec, shared, course, proxy, target, stream, trusted).await?;
    beyond_tunnel(rec, shared, course, target, stream).await
}

async fn beyond_tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    rec: &mut Recorder,
    shared: &Shared,
    course: &Course,
    target: &Target,
    stream: S,
) -> Result<(), Stop> {
    if matches!(course.control, Some(Control::OtherPort | Control::OtherProxyScheme)) {
        return Ok(());
    }
    origin(rec, shared, course, target, stream).await
}

/// The layers with the endpoint itself.
async fn origin<S: AsyncRead + AsyncWrite + Unpin>(
    rec: &mut Recorder,
    shared: &Shared,
    course: &Course,
    target: &Target,
    mut stream: S,
) -> Result<(), Stop> {
    if let Some((what, seed)) = course.exchange {
        // Boxed: few walks are exchanges, and all would hold room for one.
        return Box::pin(converse(rec, shared, course, (what, seed), &mut stream)).await;
    }
    if !target.scheme.has_tls() {
        return if target.scheme.has_http() { ask(rec, shared, course, &mut stream, false).await } else { Ok(()) };
    }
    let sni = match &course.control {
        Some(Control::OtherServerName { sni }) => Some(sni.as_str()),
        _ => None,
    };
    let (mut stream, trusted) = shake(rec, shared, Leg::Origin, stream, &target.host, sni).await?;
    if sni.is_some() || !target.scheme.has_http() {
        return Ok(());
    }
    ask(rec, shared, course, &mut stream, trusted).await
}

async fn open_tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    rec: &mut Recorder,
    shared: &Shared,
    course: &Course,
    proxy: &Proxy,
    target: &Target,
    stream: S,
    with_credentials: bool,
) -> Result<tunnel::Prefixed<S>, Stop> {
    let port = if course.control == Some(Control::OtherPort) { OTHER_PORT } else { target.port };
    let budget = shared.plan.budgets.layer;
    let mut attempt = tunnel::Attempt::new(target.host.authority(port), budget);
    let credentials = proxy.credentials.as_ref().filter(|_| with_credentials);
    let along = early_data(course);
    rec.step(Leg::Proxy, budget, &mut attempt, async |attempt: &mut tunnel::Attempt| {
        tunnel::tunnel(attempt, stream, credentials, &along).await
    })
    .await
}

/// The port that [`Control::OtherPort`] asks for: the one that every proxy allows by default.
pub(super) const OTHER_PORT: u16 = 443;

type TlsOver<S> = tokio_rustls::client::TlsStream<super::metered::Metered<S>>;

/// A handshake; also says whether the presented chain is trusted.
async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    rec: &mut Recorder,
    shared: &Shared,
    leg: Leg,
    stream: S,
    host: &crate::model::Host,
    sni: Option<&str>,
) -> Result<(TlsOver<S>, bool), Stop> {
    let stream = rec
        .step(
            leg,
            shared.plan.budgets.layer,
            &mut handshake::Attempt::new(),
            async |attempt: &mut handshake::Attempt| {
                let hello = Hello { sni, ..Hello::default() };
                handshake::handshake(attempt, &shared.tls, stream, host, hello).await
            },
        )
        .await?;
    let trusted = matches!(rec.last_evidence(),
        Some(Evidence::Handshake(evidence)) if evidence.verification == Some(Verification::Trusted));
    Ok((stream, trusted))
}

/// What is sent together with the CONNECT.
fn early_data(course: &Course) -> Vec<u8> {
    match course {
        Course { route: Route::Proxy, control: None, exchange: Some((Exchange::EarlyData, seed)), .. } => {
            exchange::early_data(*seed)
        }
        _ => Vec::new(),
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    rec: &mut Recorder,
    shared: &Shared,
    course: &Course,
    (what, seed): (Exchange, u64),
    stream: &mut S,
) -> Result<(), Stop> {
    let layer = shared.plan.budgets.layer;
    let along = early_data(course).len() as u64;
    let mut attempt = exchange::Attempt::new(what, seed, layer, along);
    let recall = course.control == Some(Control::Recall);
    rec.step(Leg::Origin, exchange::budget(what, layer), &mut attempt, async |attempt: &mut exchange::Attempt| {
        if recall { exchange::recall(attempt, stream).await } else { exchange::exchange(attempt, stream).await }
    })
    .await
}

async fn ask<S: AsyncRead + AsyncWrite + Unpin>(
    rec: &mut Recorder,
    shared: &Shared,
    course: &Course,
    stream: &mut S,
    trusted: bool,
) -> Result<(), Stop> {
    let (target, header) = (shared.target(course.goal), shared.header(course.goal));
    let budget = shared.plan.budgets.layer;
    let mut attempt = request::Attempt::new(target, trusted, budget);
    rec.step(Leg::Origin, budget, &mut attempt, async |attempt: &mut request::Attempt| {
        request::request(attempt, stream, target, header).await
    })
    .await
}
