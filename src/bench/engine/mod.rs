//! Does the work: threads that share nothing, each with an event loop and connections of its own.

mod client;
mod failure;
mod machine;
mod pacer;
mod request;
mod tally;
mod worker;

use std::{
    io,
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Arm, Form, Measurement, Setup, Workload};
use crate::{
    model::{Observation, Step},
    probe::dial::{Dialer, Reach},
};
use failure::Fault;
use request::Errand;
use tally::{Tally, Window};

pub use tally::Progress;

/// Ends a run early when it becomes true.
pub type Stop = watch::Receiver<bool>;

/// A measurement has at most about so many ticks.
const TICKS: u32 = 600;
/// The shortest tick.
const TICK: Duration = Duration::from_millis(100);

/// An arm whose target or proxy has been found and answers as the workload needs.
#[derive(Debug)]
pub struct Path {
    dialer: Arc<Dialer>,
    errand: Option<Errand>,
    lookup: Vec<Step>,
}

/// Why nothing can be measured over an arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// The finding.
    pub code: String,
    /// What it was like.
    pub example: String,
}

impl Path {
    /// Looks the first hop up and makes one operation, so that what cannot work is known before anything is counted. The
    /// strings are notes for the user.
    ///
    /// # Errors
    /// When this machine cannot measure at all. What a peer does wrong is [`Unusable`].
    pub async fn find(setup: &Arc<Setup>, arm: &Arm) -> io::Result<(Result<Self, Unusable>, Vec<String>)> {
        let unusable = |fault: Fault| Unusable { code: fault.code.to_string(), example: fault.example };
        let failed = |observation: &Observation| unusable(Fault::of(observation));
        let found = Dialer::new(arm.plan.clone(), setup.resumed, setup.congestion.as_deref()).await?;
        let (dialer, lookup, notes) = found;
        let dialer = match dialer {
            Ok(dialer) => Arc::new(dialer),
            Err(observation) => return Ok((Err(failed(&observation)), notes)),
        };
        let path = Arc::new(Self { errand: Errand::new(setup, arm.form, &dialer), dialer, lookup });
        let tried = worker::rehearse(setup.clone(), path.clone()).await;
        let learned = |errand| Self { errand, dialer: path.dialer.clone(), lookup: path.lookup.clone() };
        Ok((tried.map(learned).map_err(unusable), notes))
    }

    /// How far connections have to get for a workload.
    fn reach(&self, workload: Workload) -> Reach {
        let form = self.errand.as_ref().map_or(Form::Tunnel, Errand::form);
        match workload {
            Workload::Connect => Reach::Connection,
            Workload::Tunnel => Reach::Target,
            Workload::Tls => Reach::Session,
            Workload::Request | Workload::Download | Workload::Upload => match form {
                Form::Absolute => Reach::Peer,
                Form::Tunnel if self.dialer.target().scheme.has_tls() => Reach::Session,
                Form::Tunnel => Reach::Target,
            },
        }
    }
}

/// Measures one arm for the setup's duration, after its warm-up, until `stop`. It blocks.
///
/// # Errors
/// When the system has no threads, timers or event queues left.
pub fn measure(setup: &Arc<Setup>, path: &Arc<Path>, progress: &Arc<Progress>, stop: &Stop) -> io::Result<Measurement> {
    let start = Instant::now() + setup.warmup;
    let window = Window { start, end: start + setup.duration, tick: TICK.max(setup.duration / TICKS) };
    let count = workers(setup);
    let mut sum = thread::scope(|scope| -> io::Result<Measurement> {
        let mut workers = Vec::new();
        for index in 0..count {
            let job = worker::Job {
                setup: setup.clone(),
                path: path.clone(),
                window,
                index,
                count,
                progress: progress.clone(),
                stop: stop.clone(),
            };
            workers.push(thread::Builder::new().name(format!("bench-{index}")).spawn_scoped(scope, || job.run())?);
        }
        let mut sum = Measurement::default();
        for worker in workers {
            let measured = worker.join().map_err(|_| io::Error::other("a worker thread panicked"))?;
            sum.add(&measured?);
        }
        Ok(sum)
    })?;
    let tally = Tally::new(window, setup.timeout, false, progress.clone());
    tally.opened(&path.lookup);
    sum.parts.extend(tally.finish(window.end).parts);
    Ok(sum)
}

/// Transfers are spread over all processors; what the kernel mostly does for us, and what must be done to the
/// microsecond, leaves half of them to it.
fn workers(setup: &Setup) -> usize {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let most = if setup.workload.is_bulk() { processors } else { processors / 2 };
    most.min(setup.connections).max(1)
}
