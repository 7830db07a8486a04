//! Runs one layer under a budget; the evidence lives outside the timed future and survives it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

use super::net::Conn;
use crate::model::{Evidence, Failure, FailureKind, Leg, Redactor, Step, TcpInfo};

/// A walk ended early; the recorder already holds why.
#[derive(Debug)]
pub(super) struct Stop;

/// The end of the whole run: deadline or interrupt.
#[derive(Debug, Default)]
pub(super) struct Halt {
    halted: AtomicBool,
    notify: Notify,
}

impl Halt {
    pub(super) fn halt(&self) {
        self.halted.store(true, Relaxed);
        self.notify.notify_waiters();
    }

    pub(super) fn is_halted(&self) -> bool {
        self.halted.load(Relaxed)
    }

    async fn halted(&self) {
        let notified = self.notify.notified();
        tokio::pin!(notified);
        // Registered before the flag is read, so that a halt in between is not missed.
        notified.as_mut().enable();
        if !self.is_halted() {
            notified.await;
        }
    }
}

/// Evidence in the making.
pub(super) trait Slot {
    /// What a step comes to that time ended: just that, unless the peer's answer had come by then and only its
    /// embellishments had not. Without a failure the step succeeded, and the walk ends with it.
    fn ended(&self, by: Failure) -> Option<Failure> {
        Some(by)
    }

    /// Gives the evidence away, once. `tcp` is the kernel's view of the connection when the step failed.
    fn finish(&mut self, failure: Option<&Failure>, tcp: Option<TcpInfo>) -> Evidence;
}

/// Collects the steps of one walk.
#[derive(Debug)]
pub(super) struct Recorder {
    epoch: Instant,
    redactor: Arc<Redactor>,
    halt: Arc<Halt>,
    conn: Option<Conn>,
    steps: Vec<Step>,
}

impl Recorder {
    pub(super) fn new(epoch: Instant, redactor: Arc<Redactor>, halt: Arc<Halt>) -> Self {
        Self { epoch, redactor, halt, conn: None, steps: Vec::new() }
    }

    /// The connection that later steps run over; the kernel is asked about it when one fails.
    pub(super) fn watch(&mut self, conn: Conn) {
        self.conn = Some(conn);
    }

    /// Runs one layer under a budget and records it, whatever happens. The slot is borrowed, not taken: moved into this
    /// future it would take its room twice, and ten thousand walks may wait at once.
    pub(super) async fn step<E: Slot, T>(
        &mut self,
        leg: Leg,
        budget: Duration,
        slot: &mut E,
        run: impl AsyncFnOnce(&mut E) -> Result<T, Failure>,
    ) -> Result<T, Stop> {
        let start = Instant::now();
        let result = tokio::select! {
            biased;
            result = timeout(budget, run(slot)) => result.map_err(|_| {
                Failure::new(FailureKind::TimedOut, format!("no result within {budget:?}"))
            }),
            () = self.halt.halted() => {
                Err(Failure::new(FailureKind::Cancelled, "the run ended before this step did"))
            }
        };
        let end = Instant::now();
        let (value, mut failure) = match result {
            Ok(Ok(value)) => (Some(value), None),
            Ok(Err(failure)) => (None, Some(failure)),
            Err(out_of_time) => (None, slot.ended(out_of_time)),
        };
        if let Some(failure) = &mut failure {
            self.redactor.scrub(&mut failure.raw);
        }
        let tcp = if failure.is_some() { self.conn.as_ref().and_then(Conn::tcp_info) } else { None };
        let mut evidence = slot.finish(failure.as_ref(), tcp);
        evidence.scrub(&self.redactor);
        if self.steps.capacity() == 0 {
            // Most walks that fail do so at once: one step, one small allocation.
            self.steps.reserve_exact(1);
        }
        self.steps.push(Step {
            leg,
            start_us: micros(start.saturating_duration_since(self.epoch)),
            elapsed_us: micros(end.saturating_duration_since(start)),
            evidence,
            failure,
        });
        value.ok_or(Stop)
    }

    /// The evidence of the last step.
    pub(super) fn last_evidence(&self) -> Option<&Evidence> {
        self.steps.last().map(|step| &step.evidence)
    }

    pub(super) fn into_steps(self) -> Vec<Step> {
        self.steps
    }
}

/// Whole microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
