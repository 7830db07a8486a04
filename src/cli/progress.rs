//! Progress on standard error, for people who wait at a terminal.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt::Write as _,
    io::{self, IsTerminal},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    bench::{Workload, compare::Pairs, engine, report},
    conformance,
    probe::Progress,
};

/// How often the bar is redrawn.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// A bar, or nothing where nobody would see it.
pub(super) struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar if standard error is a terminal and `quiet` is not asked for.
    pub(super) fn new(quiet: bool) -> Self {
        if quiet || !io::stderr().is_terminal() {
            return Self(None);
        }
        let template = "{spinner} {elapsed} [{bar:30}] {pos}/{len} probes{msg}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(Some(ProgressBar::new(0).with_style(style.progress_chars("=> "))))
    }

    /// Shows where the run is.
    pub(super) fn show(&self, progress: &Progress) {
        let Some(bar) = &self.0 else { return };
        bar.set_length(progress.planned.load(Ordering::Relaxed).into());
        bar.set_position(progress.done.load(Ordering::Relaxed).into());
        let failed = progress.failed.load(Ordering::Relaxed);
        if failed > 0 {
            bar.set_message(format!(", {failed} failed"));
        }
        bar.tick();
    }
}

/// A bar over the cases that a proxy is tried with.
pub(super) struct CaseBar(Bar);

impl CaseBar {
    /// A bar if standard error is a terminal and `quiet` is not asked for.
    pub(super) fn new(quiet: bool) -> Self {
        let bar = Bar::new(quiet);
        if let Some(bar) = &bar.0 {
            let template = "{spinner} {elapsed} [{bar:30}] {pos}/{len} cases";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        Self(bar)
    }

    /// Shows where the run is.
    pub(super) fn show(&self, progress: &conformance::Progress) {
        let Some(bar) = &self.0.0 else { return };
        bar.set_length(progress.planned.load(Ordering::Relaxed) as u64);
        bar.set_position(progress.done.load(Ordering::Relaxed) as u64);
        bar.tick();
    }
}

/// What is measured at this moment.
pub(super) struct BenchBar {
    bar: Bar,
    workload: Workload,
    seen: RefCell<VecDeque<f64>>,
    before: Cell<(Option<Instant>, u64)>,
}

impl BenchBar {
    /// How much of the past is shown.
    const WIDTH: usize = 30;

    /// A line if standard error is a terminal and `quiet` is not asked for.
    pub(super) fn new(quiet: bool, workload: Workload) -> Self {
        let bar = Bar::new(quiet);
        if let Some(bar) = &bar.0 {
            let template = "{spinner} {elapsed} {msg}";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        }
        Self { bar, workload, seen: RefCell::default(), before: Cell::new((None, 0)) }
    }

    /// Shows what happened since the last time.
    pub(super) fn show(&self, progress: &engine::Progress, pairs: &Pairs) {
        let Some(bar) = &self.bar.0 else { return };
        let bulk = self.workload.is_bulk();
        let count = if bulk { &progress.bytes } else { &progress.operations }.load(Ordering::Relaxed);
        let now = Instant::now();
        let (before, counted) = self.before.replace((Some(now), count));
        let Some(before) = before else { return };
        #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^52 do not occur")]
        let rate = count.saturating_sub(counted) as f64 / now.duration_since(before).as_secs_f64().max(1e-3);
        let mut seen = self.seen.borrow_mut();
        seen.push_back(rate);
        while seen.len() > Self::WIDTH {
            seen.pop_front();
        }
        let mut line = format!(
            "{} {} {}",
            self.workload,
            report::figures::sparkline(seen.make_contiguous(), Self::WIDTH),
            if bulk { report::figures::bytes_per_second(rate) } else { report::figures::per_second(rate) },
        );
        let planned = pairs.planned.load(Ordering::Relaxed);
        if planned > 0 {
            let _ = write!(line, ", pair {} of {planned}", pairs.done.load(Ordering::Relaxed) + 1);
        }
        let failed = progress.failed.load(Ordering::Relaxed);
        if failed > 0 {
            let _ = write!(line, ", {failed} failed");
        }
        bar.set_message(line);
        bar.tick();
    }
}

/// A bar over the scenarios of a suite.
pub(super) struct SuiteBar(Bar);

impl SuiteBar {
    /// A bar if standard error is a terminal and `quiet` is not asked for.
    pub(super) fn new(quiet: bool, scenarios: usize) -> Self {
        let bar = Bar::new(quiet);
        if let Some(bar) = &bar.0 {
            let template = "{spinner} {elapsed} [{bar:30}] {pos}/{len} scenarios{msg}";
            bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_length(scenarios as u64);
            bar.enable_steady_tick(INTERVAL);
        }
        Self(bar)
    }

    /// Prints something while the bar is out of the way.
    pub(super) fn hidden(&self, print: impl FnOnce()) {
        match &self.0.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// One more is done.
    pub(super) fn advance(&self, failed: bool) {
        let Some(bar) = &self.0.0 else { return };
        bar.inc(1);
        if failed {
            bar.set_message(", with failures");
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
