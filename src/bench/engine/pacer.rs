//! Says when the next operation is due, to some ten microseconds.

use std::{io, time::Instant};

use tokio::io::unix::AsyncFd;

use crate::sys::Timer;

/// A timer of the kernel. The event loop's own steps in whole milliseconds, longer than a request takes.
#[derive(Debug)]
pub(super) struct Pacer(AsyncFd<Timer>);

impl Pacer {
    /// For the event loop that it is made in.
    ///
    /// # Errors
    /// When the system has no timer or descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Timer::new()?))
    }

    /// Returns at that moment, or at once when it has passed.
    ///
    /// # Errors
    /// When the kernel refuses the timer.
    pub(super) async fn until(&self, due: Instant) -> io::Result<()> {
        loop {
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            // A timer that is set anew forgets that it ever expired.
            self.0.get_ref().set(left)?;
            self.0.readable().await?.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_never_returns_early_and_at_once_when_late() {
        let pacer = Pacer::new().unwrap();
        let start = Instant::now();
        for step in 1..=20 {
            let due = start + Duration::from_micros(300) * step;
            pacer.until(due).await.unwrap();
            assert!(Instant::now() >= due);
        }
        pacer.until(start).await.unwrap();
    }
}
