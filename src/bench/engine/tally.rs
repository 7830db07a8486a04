//! What one worker has seen so far. It is the worker's own, so that nothing is locked.

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{
    failure::Fault,
    machine::{MachineTime, ThreadTime},
};
use crate::{
    bench::{Measurement, Part, Tick},
    model::{Layer, Leg, Step, TcpInfo},
};

/// How far a run is; read it from another thread at any time.
#[derive(Debug, Default)]
pub struct Progress {
    /// Operations that succeeded, warm-ups included.
    pub operations: AtomicU64,
    /// Payload bytes, likewise.
    pub bytes: AtomicU64,
    /// Operations that failed, likewise.
    pub failed: AtomicU64,
}

/// The time that counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) start: Instant,
    pub(super) end: Instant,
    pub(super) tick: Duration,
}

impl Window {
    pub(super) fn holds(self, at: Instant) -> bool {
        self.start <= at && at < self.end
    }
}

/// Counts what falls into the window.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) window: Window,
    timeout: Duration,
    /// Operations count by when they were due, not by when they ended.
    by_due: bool,
    sum: RefCell<Measurement>,
    at_start: Cell<Option<ThreadTime>>,
    at_end: Cell<Option<ThreadTime>>,
    /// What the machine had done when the window began; one worker of all asks.
    machine: Cell<Option<MachineTime>>,
    live: Arc<Progress>,
}

impl Tally {
    pub(super) fn new(window: Window, timeout: Duration, by_due: bool, live: Arc<Progress>) -> Self {
        let tick_us = u64::try_from(window.tick.as_micros()).unwrap_or(u64::MAX);
        let sum = RefCell::new(Measurement { tick_us, ..Measurement::default() });
        Self {
            window,
            timeout,
            by_due,
            sum,
            at_start: Cell::new(None),
            at_end: Cell::new(None),
            machine: Cell::new(None),
            live,
        }
    }

    /// The window has begun; with `machine` this worker is the one that asks what all processors do.
    pub(super) fn begin(&self, machine: bool) {
        self.machine.set(machine.then(MachineTime::now));
        self.at_start.set(Some(ThreadTime::now()));
    }

    /// The window has ended.
    pub(super) fn end(&self) {
        self.at_end.set(Some(ThreadTime::now()));
        if let Some(before) = self.machine.get() {
            MachineTime::now().since(before, &mut self.sum.borrow_mut().cpu);
        }
    }

    /// An operation that was due at `due` has succeeded.
    pub(super) fn done(&self, due: Instant) {
        let now = Instant::now();
        self.live.operations.fetch_add(1, Relaxed);
        if !self.counts(due, now) {
            return;
        }
        let sum = &mut *self.sum.borrow_mut();
        sum.operations += 1;
        sum.latency.record(now.saturating_duration_since(due));
        if let Some(tick) = self.tick(sum, now) {
            tick.operations += 1;
        }
    }

    /// An operation that was due at `due` has failed; it counts as one that took until the timeout.
    pub(super) fn failed(&self, due: Instant, fault: Fault) {
        let now = Instant::now();
        self.live.failed.fetch_add(1, Relaxed);
        if !self.counts(due, now) {
            return;
        }
        let sum = &mut *self.sum.borrow_mut();
        sum.latency.record(self.timeout.max(now.saturating_duration_since(due)));
        let failures = sum.errors.entry(fault.code.to_string()).or_default();
        failures.count += 1;
        if failures.example.is_empty() {
            failures.example = fault.example;
        }
        if let Some(tick) = self.tick(sum, now) {
            tick.failed += 1;
        }
    }

    /// Payload has moved.
    pub(super) fn moved(&self, bytes: u64) {
        let now = Instant::now();
        self.live.bytes.fetch_add(bytes, Relaxed);
        if !self.window.holds(now) {
            return;
        }
        let sum = &mut *self.sum.borrow_mut();
        sum.bytes += bytes;
        if let Some(tick) = self.tick(sum, now) {
            tick.bytes += bytes;
        }
    }

    /// Whether the session of a handshake was an earlier one's.
    pub(super) fn resumed(&self, resumed: bool) {
        if resumed && self.window.holds(Instant::now()) {
            self.sum.borrow_mut().resumed += 1;
        }
    }

    /// How long parts of a connection's opening took.
    pub(super) fn opened(&self, steps: &[Step]) {
        for step in steps.iter().filter(|step| step.failure.is_none()) {
            let part = match (step.layer(), step.leg) {
                (Layer::Resolve, _) => Part::Resolve,
                (Layer::Connect, _) => Part::Connect,
                (Layer::Tunnel, _) => Part::Tunnel,
                (Layer::Handshake, Leg::Proxy) => Part::ProxyTls,
                (Layer::Handshake, Leg::Origin) => Part::Tls,
                (Layer::Request, _) => continue,
            };
            self.took(part, Duration::from_micros(step.elapsed_us));
        }
    }

    /// How long one part took.
    pub(super) fn took(&self, part: Part, time: Duration) {
        self.sum.borrow_mut().parts.entry(part).or_default().record(time);
    }

    /// A connection has ended, and this is what the kernel said of it last.
    pub(super) fn closed(&self, tcp: Option<TcpInfo>) {
        let Some(tcp) = tcp else { return };
        let sum = &mut self.sum.borrow_mut().tcp;
        sum.connections += 1;
        sum.retransmitted += u64::from(tcp.retransmitted);
        sum.rtt.record(Duration::from_micros(tcp.rtt_us.into()));
    }

    /// An operation was due; `None`: it was never begun. Else how late the generator began it.
    pub(super) fn due(&self, due: Instant, late: Option<Duration>) {
        if !self.window.holds(due) {
            return;
        }
        let sum = &mut *self.sum.borrow_mut();
        let lateness = sum.lateness.get_or_insert_default();
        lateness.due += 1;
        match late {
            Some(late) => lateness.late.record(late),
            None => lateness.dropped += 1,
        }
    }

    /// What was due at `due` was never begun, as every connection was busy until the end. It took longer than that.
    pub(super) fn dropped(&self, due: Instant) {
        self.due(due, None);
        if self.window.holds(due) {
            let age = Instant::now().saturating_duration_since(due);
            self.sum.borrow_mut().latency.record(self.timeout.max(age));
        }
    }

    /// Everything that was counted in the window, which ended at `end` at the latest.
    pub(super) fn finish(&self, end: Instant) -> Measurement {
        let mut sum = self.sum.take();
        let elapsed = end.min(self.window.end).saturating_duration_since(self.window.start);
        sum.elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        if let (Some(start), Some(end)) = (self.at_start.get(), self.at_end.get()) {
            end.since(start, elapsed, &mut sum.cpu);
        }
        let ticks = elapsed.as_micros().div_ceil(self.window.tick.as_micros().max(1));
        sum.series.resize(usize::try_from(ticks).unwrap_or(0), Tick::default());
        sum
    }

    fn counts(&self, due: Instant, now: Instant) -> bool {
        self.window.holds(if self.by_due { due } else { now })
    }

    fn tick<'a>(&self, sum: &'a mut Measurement, now: Instant) -> Option<&'a mut Tick> {
        // What was due in the window and ended behind it belongs to its last tick.
        let at = now.checked_duration_since(self.window.start)?;
        let last = self.window.end.saturating_duration_since(self.window.start).saturating_sub(Duration::from_nanos(1));
        let index = usize::try_from(at.min(last).as_micros() / self.window.tick.as_micros().max(1)).ok()?;
        if sum.series.len() <= index {
            sum.series.resize(index + 1, Tick::default());
        }
        sum.series.get_mut(index)
    }
}
