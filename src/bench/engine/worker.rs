//! One thread: an event loop, its share of the connections, and who tells them when to begin.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    io,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    task::{JoinSet, LocalSet},
    time::{sleep, sleep_until, timeout_at},
};

use super::{
    Path, Progress, Stop,
    client::Client,
    failure::Fault,
    pacer::Pacer,
    request::Errand,
    tally::{Tally, Window},
};
use crate::bench::{Load, Measurement, Setup};

/// A connection whose operation failed waits this long for each failure in a row, up to [`LONGEST_PAUSE`]: a target that
/// refuses at once should not be hammered.
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What one worker does.
pub(super) struct Job {
    pub(super) setup: Arc<Setup>,
    pub(super) path: Arc<Path>,
    pub(super) window: Window,
    pub(super) index: usize,
    pub(super) count: usize,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: Stop,
}

impl Job {
    /// Works until the window ends.
    pub(super) fn run(self) -> io::Result<Measurement> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let measured = LocalSet::new().block_on(&runtime, self.work());
        runtime.shutdown_background();
        measured
    }

    async fn work(mut self) -> io::Result<Measurement> {
        let open = matches!(self.setup.load, Load::Open { .. });
        let tally = Rc::new(Tally::new(self.window, self.setup.timeout, open, self.progress.clone()));
        let mut tasks = JoinSet::new();
        let queue = Rc::new(Queue::default());
        let connections = (self.index..self.setup.connections).step_by(self.count);
        for _ in connections {
            let client = Client::new(self.setup.clone(), self.path.clone(), tally.clone());
            if open {
                tasks.spawn_local(answer_calls(client, queue.clone(), tally.clone()));
            } else {
                tasks.spawn_local(repeat(client, tally.clone()));
            }
        }
        let begun = {
            let (tally, first) = (tally.clone(), self.index == 0);
            async move {
                sleep_until(tally.window.start.into()).await;
                tally.begin(first);
            }
        };
        tokio::task::spawn_local(begun);
        if let Load::Open { rate } = self.setup.load {
            self.call(rate, &queue).await?;
            // What was due in time may still be answered; each operation ends by itself.
            queue.close();
            let last = Instant::now() + self.setup.timeout;
            let drained = async { while tasks.join_next().await.is_some() {} };
            tokio::select! {
                _ = timeout_at(last.into(), drained) => {}
                _ = self.stop.wait_for(|stop| *stop) => {}
            }
            queue.give_up(&tally);
        } else {
            tokio::select! {
                () = sleep_until(self.window.end.into()) => {}
                _ = self.stop.wait_for(|stop| *stop) => {}
            }
        }
        let end = Instant::now();
        tally.end();
        // The connections tell about themselves when they are dropped.
        tasks.shutdown().await;
        Ok(tally.finish(end))
    }

    /// Calls for an operation whenever one is due.
    async fn call(&mut self, rate: f64, queue: &Queue) -> io::Result<()> {
        let pacer = Pacer::new()?;
        let begin = Instant::now();
        for step in (self.index..).step_by(self.count) {
            #[expect(clippy::cast_precision_loss, reason = "nobody waits for 2^52 operations")]
            let turn = step as f64;
            let due = begin + Duration::from_secs_f64(turn / rate);
            if due >= self.window.end {
                break;
            }
            tokio::select! {
                biased;
                waited = pacer.until(due) => waited?,
                _ = self.stop.wait_for(|stop| *stop) => break,
            }
            queue.push(due);
            if (step / self.count).is_multiple_of(64) {
                // A generator that is behind never waits, and the connections must still get their turn.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }
}

/// Makes one operation and says what has been learned for the others.
pub(super) async fn rehearse(setup: Arc<Setup>, path: Arc<Path>) -> Result<Option<Errand>, Fault> {
    let now = Instant::now();
    let window = Window { start: now, end: now, tick: setup.timeout };
    let tally = Rc::new(Tally::new(window, setup.timeout, false, Arc::default()));
    Client::new(setup, path, tally).rehearse().await
}

/// One operation after the other.
async fn repeat(mut client: Client, tally: Rc<Tally>) {
    let mut failures = 0;
    loop {
        let due = Instant::now();
        match client.operate().await {
            Ok(()) => {
                failures = 0;
                tally.done(due);
            }
            Err(fault) => {
                failures += 1;
                tally.failed(due, fault);
                sleep((PAUSE * failures).min(LONGEST_PAUSE)).await;
            }
        }
    }
}

/// One operation for each call, until no more come.
async fn answer_calls(mut client: Client, queue: Rc<Queue>, tally: Rc<Tally>) {
    client.prepare().await;
    while let Some(call) = queue.next().await {
        let now = Instant::now();
        // Nobody was free for it: that is the peer's doing, and shows in its latency.
        let late = if call.prompt { now.saturating_duration_since(call.due) } else { Duration::ZERO };
        tally.due(call.due, Some(late));
        match client.operate().await {
            Ok(()) => tally.done(call.due),
            Err(fault) => tally.failed(call.due, fault),
        }
    }
}

/// Operations that are due and not begun.
#[derive(Debug, Default)]
struct Queue {
    calls: RefCell<VecDeque<Call>>,
    idle: Cell<usize>,
    closed: Cell<bool>,
    called: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    due: Instant,
    /// Whether a connection was free when it came.
    prompt: bool,
}

impl Queue {
    fn push(&self, due: Instant) {
        let mut calls = self.calls.borrow_mut();
        let prompt = self.idle.get() > calls.len();
        calls.push_back(Call { due, prompt });
        self.called.notify_one();
    }

    /// The next call; `None`: there is none left, and none will come.
    async fn next(&self) -> Option<Call> {
        loop {
            if let Some(call) = self.calls.borrow_mut().pop_front() {
                return Some(call);
            }
            if self.closed.get() {
                return None;
            }
            self.idle.set(self.idle.get() + 1);
            self.called.notified().await;
            self.idle.set(self.idle.get() - 1);
        }
    }

    fn close(&self) {
        self.closed.set(true);
        self.called.notify_waiters();
    }

    /// Counts what nobody ever came to.
    fn give_up(&self, tally: &Tally) {
        for call in self.calls.borrow_mut().drain(..) {
            tally.dropped(call.due);
        }
    }
}
