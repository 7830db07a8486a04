//! Opens connections for whoever uses them afterwards: a walk that stops short of its request.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    handshake::{self, Hello, Tls},
    net::{self, Tuning},
    recorder::{Halt, Recorder, Stop},
    resolve, tunnel,
    wire::{Stream, Wire},
};
use crate::{
    model::{
        Evidence, Failure, FailureKind, Host, Leg, Observation, Redactor, ResolverView, Route, Step, Target,
        Verification,
    },
    plan::{Family, Plan, Proxy, SystemResolver},
};

pub(crate) use tunnel::login;

/// How far a connection is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// TCP to whoever is dialled first, the proxy or the target.
    Connection,
    /// Likewise, and a TLS session with a proxy that speaks it.
    Peer,
    /// Through the proxy, if there is one, to the target.
    Target,
    /// Likewise, and a TLS session with the target.
    Session,
}

/// Dials one target over one route again and again.
#[derive(Debug)]
pub(crate) struct Dialer {
    plan: Plan,
    tls: Arc<Tls>,
    redactor: Arc<Redactor>,
    halt: Arc<Halt>,
    epoch: Instant,
    route: Route,
    peer: SocketAddr,
    dialled: SocketAddr,
    congestion: Option<Arc<str>>,
}

/// A connection, or why there is none.
#[derive(Debug)]
pub(crate) struct Dialled {
    /// What was done for it; only the last step may have failed.
    pub(crate) steps: Vec<Step>,
    /// The connection, when every step succeeded and every certificate proved its owner.
    pub(crate) wire: Option<Wire>,
}

impl Dialer {
    /// For the plan's one target and route. The steps are those of the lookup, where there had to be one; the strings are
    /// notes for the user about the trust store.
    ///
    /// # Errors
    /// When an anchor that was given explicitly is refused.
    pub(crate) async fn new(
        plan: Plan,
        resumes: bool,
        congestion: Option<&str>,
    ) -> io::Result<(Result<Self, Observation>, Vec<Step>, Vec<String>)> {
        let (tls, notes) = Tls::new(&plan.trust)?;
        let tls = if resumes { tls.resuming() } else { tls };
        let redactor = Arc::new(plan.redactor());
        let (epoch, halt) = (Instant::now(), Arc::<Halt>::default());
        let route = plan.routes.first().copied().unwrap_or(Route::Direct);
        let target = &plan.targets[0];
        let (host, port) = match (route, &plan.proxy) {
            (Route::Proxy, Some(proxy)) => (&proxy.host, proxy.port),
            _ => (&target.host, target.port),
        };
        let mut recorder = Recorder::new(epoch, redactor.clone(), halt.clone());
        let found = match plan.dial.for_host(host, port) {
            Some(to) => Some((to, to)),
            None => look_up(&mut recorder, &plan, route, host).await.map(|ip| {
                let peer = SocketAddr::new(ip, port);
                (peer, plan.dial.for_address(peer))
            }),
        };
        let steps = recorder.into_steps();
        let Some((peer, dialled)) = found else {
            let subject = Arc::from(host.to_string());
            return Ok((Err(observation(subject, route, None, steps.clone())), steps, notes));
        };
        let congestion = congestion.map(Arc::from);
        let dialer = Self { plan, tls: Arc::new(tls), redactor, halt, epoch, route, peer, dialled, congestion };
        Ok((Ok(dialer), steps, notes))
    }

    /// What it dials for.
    pub(crate) fn target(&self) -> &Target {
        &self.plan.targets[0]
    }

    /// The proxy, if it goes through one.
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.plan.proxy.as_ref().filter(|_| self.route == Route::Proxy)
    }

    /// What removes secrets from what peers sent.
    pub(crate) fn redactor(&self) -> &Redactor {
        &self.redactor
    }

    /// Opens one connection.
    pub(crate) async fn dial(&self, reach: Reach) -> Dialled {
        let mut recorder = Recorder::new(self.epoch, self.redactor.clone(), self.halt.clone());
        let wire = self.open(&mut recorder, reach).await.ok();
        Dialled { steps: recorder.into_steps(), wire }
    }

    /// Steps as the classifier takes them.
    pub(crate) fn observation(&self, steps: Vec<Step>) -> Observation {
        observation(self.target().authority().into(), self.route, Some(self.peer), steps)
    }

    async fn open(&self, rec: &mut Recorder, reach: Reach) -> Result<Wire, Stop> {
        let leg = if self.route == Route::Proxy { Leg::Proxy } else { Leg::Origin };
        let mut attempt = net::Attempt::new(self.peer, self.dialled);
        let budgets = &self.plan.budgets;
        let tuning = Tuning { congestion: self.congestion.as_deref(), ..Tuning::default() };
        let conn = rec
            .step(leg, budgets.connect, &mut attempt, async |attempt: &mut net::Attempt| {
                net::connect(attempt, &self.plan.source, tuning, None).await
            })
            .await?;
        rec.watch(conn.clone());
        conn.send_at_once();
        let wire = match self.proxy() {
            _ if reach == Reach::Connection => return Ok(Wire::plain(conn)),
            None => Wire::plain(conn),
            Some(proxy) if proxy.tls => {
                let stream = self.shake(rec, conn.clone(), &proxy.host).await?;
                let stream: Box<dyn Stream> = Box::new(stream);
                if reach == Reach::Peer {
                    return Ok(Wire::layered(stream, conn));
                }
                Wire::layered(Box::new(self.tunnel(rec, proxy, stream).await?), conn)
            }
            Some(_) if reach == Reach::Peer => return Ok(Wire::plain(conn)),
            Some(proxy) => match self.tunnel(rec, proxy, conn.clone()).await?.into_inner() {
                Ok(conn) => Wire::plain(conn),
                Err(prefixed) => Wire::layered(Box::new(prefixed), conn),
            },
        };
        if reach != Reach::Session {
            return Ok(wire);
        }
        let mut attempt = handshake::Attempt::new();
        let host = &self.target().host;
        let wire = rec
            .step(Leg::Origin, budgets.layer, &mut attempt, async |attempt: &mut handshake::Attempt| {
                wire.tls(attempt, &self.tls, host).await
            })
            .await?;
        if is_proved(rec) { Ok(wire) } else { Err(Stop) }
    }

    async fn shake<S: Stream>(&self, rec: &mut Recorder, stream: S, host: &Host) -> Result<impl Stream + use<S>, Stop> {
        let mut attempt = handshake::Attempt::new();
        let stream = rec
            .step(Leg::Proxy, self.plan.budgets.layer, &mut attempt, async |attempt: &mut handshake::Attempt| {
                handshake::handshake(attempt, &self.tls, stream, host, Hello::default()).await
            })
            .await?;
        if is_proved(rec) { Ok(stream) } else { Err(Stop) }
    }

    async fn tunnel<S: Stream>(
        &self,
        rec: &mut Recorder,
        proxy: &Proxy,
        stream: S,
    ) -> Result<tunnel::Prefixed<S>, Stop> {
        let target = self.target();
        let mut attempt = tunnel::Attempt::new(target.host.authority(target.port), self.plan.budgets.layer);
        rec.step(Leg::Proxy, self.plan.budgets.layer, &mut attempt, async |attempt: &mut tunnel::Attempt| {
            tunnel::tunnel(attempt, stream, proxy.credentials.as_ref(), &[]).await
        })
        .await
    }
}

/// Whether the last handshake proved who is there.
fn is_proved(rec: &Recorder) -> bool {
    matches!(rec.last_evidence(), Some(Evidence::Handshake(seen)) if seen.verification == Some(Verification::Trusted))
}

fn observation(subject: Arc<str>, route: Route, address: Option<SocketAddr>, steps: Vec<Step>) -> Observation {
    Observation { id: 1, parent: None, subject, route, attempt: 1, address, control: None, host_service: None, steps }
}

/// The first address of a host of the family that counts.
async fn look_up(rec: &mut Recorder, plan: &Plan, route: Route, host: &Host) -> Option<IpAddr> {
    let name = match host {
        Host::Ip(ip) => return Some(*ip),
        Host::Name(name) => name,
    };
    let leg = if route == Route::Proxy { Leg::Proxy } else { Leg::Origin };
    let budget = plan.budgets.layer;
    let mut attempt = resolve::Attempt::new(ResolverView::System, None, Vec::new());
    rec.step(leg, budget, &mut attempt, async |attempt: &mut resolve::Attempt| {
        let found = match plan.dns.system {
            SystemResolver::Stub(server) => resolve::server(attempt, name, server, &plan.source, budget).await?,
            SystemResolver::Os => resolve::system(attempt, name).await?,
        };
        let fits = |ip: &IpAddr| plan.source.family.is_none_or(|family| Family::of(*ip) == family);
        found
            .into_iter()
            .find(fits)
            .ok_or_else(|| Failure::new(FailureKind::NoData, "the name has no address of the family asked for"))
    })
    .await
    .ok()
}
