//! Ctrl-C: the first one ends the run and leaves its report, the second ends the program.

use std::{future::Future, process, sync::mpsc, thread};

use tokio::sync::oneshot;

use super::exit::INTERRUPTED;

/// Listens for Ctrl-C and for a request to terminate, on a thread of its own, so that neither a blocked lookup nor a
/// blocked pipe can delay it. The future resolves at the first signal; any signal after it, or after the future was
/// dropped, ends the program at once. When this returns, no signal is missed any more.
pub(super) fn listen() -> impl Future<Output = ()> {
    let (first, interrupted) = oneshot::channel();
    let (ready, is_ready) = mpsc::channel();
    let listener = thread::Builder::new().name("signals".into()).spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
            return;
        };
        runtime.block_on(async {
            let Ok(mut signals) = Signals::listen() else { return };
            drop(ready);
            if signals.next().await && first.send(()).is_ok() {
                signals.next().await;
            }
            process::exit(INTERRUPTED.into());
        });
    });
    // The other end is dropped when the listener listens, and also when it cannot.
    let _: Result<(), _> = is_ready.recv();
    async move {
        // Without a listener the system's default applies: the first Ctrl-C ends the program.
        if listener.is_err() || interrupted.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Whether a signal came; false when none can come any more.
    async fn next(&mut self) -> bool {
        tokio::select! {
            received = self.interrupt.recv() => received.is_some(),
            received = self.terminate.recv() => received.is_some(),
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    /// Whether a signal came; false when none can come any more.
    async fn next(&mut self) -> bool {
        self.0.recv().await.is_some()
    }
}
