//! Carries out many scenarios, several at once, and hands them over in order.

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    thread,
};

use tokio::sync::watch;

use super::{Outcome, Scenario, Setting, TestResult, run};
use crate::probe;

/// How many, how often, and when to end.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// Scenarios at once.
    pub jobs: NonZeroUsize,
    /// How often each is carried out.
    pub repeat: u32,
    /// Whether the first that fails ends the suite; those not started are then not run.
    pub fail_fast: bool,
}

impl Default for Course {
    /// Most of their time scenarios wait, so there are more at once than processors; with too many, one would slow the
    /// other down until a budget ends.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let jobs = NonZeroUsize::new((3 * processors).clamp(3, 16)).unwrap_or(NonZeroUsize::MIN);
        Self { jobs, repeat: 1, fail_fast: false }
    }
}

/// Carries the scenarios out, each round of repetitions in their order, and gives each to `done` in that order as soon
/// as all before it are done. When `stop` turns true, those that run are interrupted and the others are not run. What
/// `done` has seen is given back without its observations.
///
/// # Errors
/// When the system gives no thread.
pub fn play(
    scenarios: &[Arc<Scenario>],
    setting: &Setting,
    course: Course,
    stop: &watch::Receiver<bool>,
    mut done: impl FnMut(&Outcome),
) -> io::Result<Vec<Outcome>> {
    let tasks: Vec<(u32, &Arc<Scenario>)> =
        (1..=course.repeat.max(1)).flat_map(|round| scenarios.iter().map(move |scenario| (round, scenario))).collect();
    let next = AtomicUsize::new(0);
    let failed: Mutex<Option<String>> = Mutex::new(None);
    let ended = AtomicBool::new(false);
    let work = |send: &mpsc::Sender<(usize, Outcome)>| {
        while let Some((at, &(round, scenario))) = {
            let at = next.fetch_add(1, Relaxed);
            tasks.get(at).map(|task| (at, task))
        } {
            let mut outcome = if *stop.borrow() {
                Outcome::not_run(scenario.clone(), "interrupted before it was started".into())
            } else if ended.load(Relaxed) {
                let first = failed.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
                Outcome::not_run(scenario.clone(), format!("not started, because {first} failed"))
            } else {
                play_one(scenario, setting, stop.clone())
            };
            outcome.round = round;
            if course.fail_fast && matches!(outcome.result, TestResult::Failed(_)) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| scenario.name.clone());
                ended.store(true, Relaxed);
            }
            if send.send((at, outcome)).is_err() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        for _ in 0..course.jobs.get().min(tasks.len()) {
            let (send, work) = (send.clone(), &work);
            thread::Builder::new().name("scenario".into()).spawn_scoped(scope, move || work(&send))?;
        }
        drop(send);
        let (mut waiting, mut outcomes) = (BTreeMap::new(), Vec::with_capacity(tasks.len()));
        for (at, outcome) in receive {
            waiting.insert(at, outcome);
            while let Some(mut outcome) = waiting.remove(&outcomes.len()) {
                done(&outcome);
                outcome.forget_observations();
                outcomes.push(outcome);
            }
        }
        Ok(outcomes)
    })
}

fn play_one(scenario: &Arc<Scenario>, setting: &Setting, mut stop: watch::Receiver<bool>) -> Outcome {
    let runtime = match probe::runtime() {
        Ok(runtime) => runtime,
        Err(e) => return Outcome::not_run(scenario.clone(), format!("no event loop: {e}")),
    };
    let outcome = runtime.block_on(run(scenario.clone(), setting, async move {
        if stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }));
    // A lookup that the system cannot cancel must not hold the others up.
    runtime.shutdown_background();
    outcome
}
