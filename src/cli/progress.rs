//! Progress on standard error, for people who wait at a terminal.

use std::{
    io::{self, IsTerminal},
    sync::atomic::Ordering,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::probe::Progress;

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
        let template = "{spinner} {elapsed} [{bar:30}] {pos}/{len} lookups and probes";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(Some(ProgressBar::new(0).with_style(style.progress_chars("=> "))))
    }

    /// Shows where the run is.
    pub(super) fn show(&self, progress: &Progress) {
        let Some(bar) = &self.0 else { return };
        bar.set_length(progress.planned.load(Ordering::Relaxed).into());
        bar.set_position(progress.done.load(Ordering::Relaxed).into());
        bar.tick();
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
