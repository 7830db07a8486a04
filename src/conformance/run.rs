//! Runs the cases that are wanted, turn by turn, until they are done or the run is ended.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use serde::Serialize;
use time::OffsetDateTime;

use super::{
    case::{Case, Judgement, Level, Outcome, Turn},
    cases,
    profile::Profile,
    rig::{Options, Rig, code},
};
use crate::{
    classify::codes,
    exchange::Places,
    model::{Host, Layer, Leg, Observation},
    plan::{Budgets, Proxy, Source, Trust},
    probe::dialogue::{self, Caller},
};

/// Cases of [`Turn::Together`] at once: enough that one which waits holds up no other, few enough that no proxy minds.
const AT_ONCE: usize = 16;

/// What to run.
#[derive(Debug, Clone)]
pub struct Request {
    /// The proxy.
    pub proxy: Proxy,
    /// Its address, and where that is really dialled.
    pub address: (SocketAddr, SocketAddr),
    /// Where the origin is; without doors: nowhere.
    pub places: Places,
    /// What is expected.
    pub profile: Profile,
    /// Limits of single cases.
    pub options: Options,
    /// The ids of the cases that are wanted, of those in the catalogue; others are left out altogether.
    pub wanted: Vec<&'static str>,
    /// Which certificate authorities count.
    pub trust: Trust,
    /// Where connections start.
    pub source: Source,
    /// How long a connect, and every other layer, may take.
    pub budgets: Budgets,
}

/// How far a run is; read it from another task at any time.
#[derive(Debug, Default)]
pub struct Progress {
    /// Cases that will run.
    pub planned: AtomicUsize,
    /// Cases done.
    pub done: AtomicUsize,
}

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub elapsed: Duration,
    /// Whether it was ended before it was done.
    pub interrupted: bool,
    /// Connections which show that there is no proxy to try: it cannot be reached, or something else listens there. No
    /// case was tried then.
    pub no_proxy: Vec<Observation>,
    /// What was seen at the doors before any case ran.
    pub survey: Vec<Observation>,
    /// What came of each case, in the order of the catalogue.
    pub tried: Vec<Tried>,
    /// Things that the user should know about the run itself.
    pub notes: Vec<String>,
}

impl Run {
    /// Whether not even a connection to the proxy came about.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        !self.no_proxy.is_empty() && !self.no_proxy.iter().any(|seen| seen.step(Layer::Tunnel, Leg::Proxy).is_some())
    }
}

/// What came of a case.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// The case's id.
    pub id: &'static str,
    /// Its group.
    pub group: &'static str,
    /// How much it matters here.
    pub level: Level,
    /// Where it is laid down.
    pub reference: &'static str,
    /// What holds when it passes.
    pub title: &'static str,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// What it says about the proxy, or about each endpoint; never empty.
    pub judgements: Vec<Judgement>,
}

impl Tried {
    /// The worst outcome among the judgements; `NotRun` only if nothing else came of any.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.judgements.iter().map(|judgement| judgement.outcome).min().unwrap_or(Outcome::NotRun)
    }
}

/// The addresses of a proxy, in the order of the system's resolver; a name is looked up there and nowhere else.
///
/// # Errors
/// The lookup that failed.
pub async fn locate(proxy: &Proxy, budget: Duration) -> Result<Vec<SocketAddr>, Box<Observation>> {
    let found = look_up(&proxy.host, budget).await?;
    Ok(found.into_iter().map(|ip| SocketAddr::new(ip, proxy.port)).collect())
}

/// The addresses of a host, its own where it is a literal one.
///
/// # Errors
/// The lookup that failed.
pub async fn look_up(host: &Host, budget: Duration) -> Result<Vec<IpAddr>, Box<Observation>> {
    dialogue::locate(host, budget).await
}

/// Runs the cases until they are done or `interrupt` resolves. What was found out so far is always in the result.
///
/// # Errors
/// When nothing can be found out at all (an unusable trust anchor).
pub async fn run(request: Request, progress: &Progress, interrupt: impl Future<Output = ()>) -> io::Result<Run> {
    let (started_at, began) = (OffsetDateTime::now_utc(), Instant::now());
    let Request { proxy, address, places, profile, options, wanted, trust, source, budgets } = request;
    let (caller, notes) = Caller::new(proxy, address, &trust, source, budgets)?;
    let cases: Vec<&Case> =
        cases::catalogue().filter(|case| wanted.contains(&case.id) && !profile.skips(case.id)).collect();
    progress.planned.store(cases.len(), Relaxed);
    let mut rig = Rig::new(caller.clone(), places, profile, options);
    let work = async {
        let contact = caller.call("the proxy").await.finish();
        if contact.failed().is_some() && !caller.is_halted() {
            return (leave_out(&cases, &rig, "the proxy cannot be reached"), Vec::new(), vec![contact]);
        }
        rig.survey().await;
        if !rig.surveyed.is_empty() && rig.surveyed.iter().all(|surveyed| is_no_proxy(&surveyed.observation)) {
            let seen = rig.surveyed.iter().map(|surveyed| surveyed.observation.clone()).collect();
            return (leave_out(&cases, &rig, "what listens there is no forward proxy"), Vec::new(), seen);
        }
        let mut tried = Vec::new();
        for turn in [Turn::Together, Turn::Alone, Turn::Load] {
            let at_once = if turn == Turn::Together { AT_ONCE } else { 1 };
            let now = cases.iter().enumerate().filter(|(_, case)| case.turn == turn);
            let mut running = stream::iter(now.map(|(at, case)| {
                let rig = &rig;
                async move { (at, attempt(case, rig).await) }
            }))
            .buffer_unordered(at_once);
            while let Some(one) = running.next().await {
                progress.done.fetch_add(1, Relaxed);
                tried.push(one);
            }
        }
        tried.sort_by_key(|(at, _)| *at);
        let survey: Vec<_> = rig.surveyed.iter().map(|surveyed| surveyed.observation.clone()).collect();
        (tried, survey, Vec::new())
    };
    let mut work = pin!(work);
    let ((tried, survey, no_proxy), interrupted) = tokio::select! {
        done = &mut work => (done, false),
        () = interrupt => {
            // Every step under way ends at once, and so does every case.
            caller.halt();
            (work.await, true)
        }
    };
    Ok(Run {
        started_at,
        elapsed: began.elapsed(),
        interrupted,
        no_proxy,
        survey,
        tried: tried.into_iter().map(|(_, tried)| tried).collect(),
        notes,
    })
}

async fn attempt(case: &Case, rig: &Rig) -> Tried {
    let began = Instant::now();
    let mut judgements = if rig.caller.is_halted() { Vec::new() } else { (case.run)(rig).await };
    if rig.caller.is_halted() {
        // What a case says that was cut off may be wrong, unless it had already found what it looked for.
        judgements.retain(|judgement| judgement.outcome == Outcome::Pass);
    }
    if judgements.is_empty() {
        judgements.push(Judgement::not_run("the run was ended before"));
    }
    for judgement in &mut judgements {
        scrub(judgement, rig);
    }
    let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Tried { elapsed_ms, judgements, ..left_out(case, rig, "") }
}

/// Whether what answered, or did not understand, is something else than a forward proxy.
fn is_no_proxy(observation: &Observation) -> bool {
    matches!(
        code(observation),
        Some(
            codes::PROXY_NOT_A_PROXY
                | codes::PROXY_NOT_HTTP
                | codes::PROXY_CONNECT_UNSUPPORTED
                | codes::PROXY_EXPECTS_TLS
                | codes::PROXY_EXPECTS_PLAINTEXT
        )
    )
}

fn leave_out(cases: &[&Case], rig: &Rig, reason: &str) -> Vec<(usize, Tried)> {
    cases.iter().map(|case| left_out(case, rig, reason)).enumerate().collect()
}

/// What came of a case that was not tried, for this reason.
fn left_out(case: &Case, rig: &Rig, reason: &str) -> Tried {
    Tried {
        id: case.id,
        group: case.group(),
        level: rig.profile.level(case.id, case.level),
        reference: case.reference,
        title: case.title,
        elapsed_ms: 0,
        judgements: vec![Judgement::not_run(reason)],
    }
}

/// A proxy may repeat what it was told.
fn scrub(judgement: &mut Judgement, rig: &Rig) {
    let redactor = rig.caller.redactor();
    let texts = [&mut judgement.summary].into_iter().chain(&mut judgement.evidence).chain(&mut judgement.reproduce);
    texts.for_each(|text| redactor.scrub(text));
}
