//! Ctrl-C: the first one ends the run and leaves its report, the second ends the program.

use std::{future::Future, process, thread};

use tokio::sync::oneshot;

use super::exit::INTERRUPTED;

/// Listens for Ctrl-C and for a request to terminate, on a thread of its own, so that neither a blocked lookup nor a
/// blocked pipe can delay it. The future resolves at the first signal; any signal after it, or after the future was
/// dropped, ends the program at once.
pub(super) fn listen() -> impl Future<Output = ()> {
    let (first, interrupted) = oneshot::channel();
    let listener = thread::Builder::new().name("signals".into()).spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else {
            return;
        };
        runtime.block_on(async {
            if signal().await && first.send(()).is_ok() {
                signal().await;
            }
            process::exit(INTERRUPTED.into());
        });
    });
    async move {
        // Without a listener the system's default applies: the first Ctrl-C ends the program.
        if listener.is_err() || interrupted.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
async fn signal() -> bool {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        received = interrupt.recv() => received.is_some(),
        received = terminate.recv() => received.is_some(),
    }
}

#[cfg(not(unix))]
async fn signal() -> bool {
    match tokio::signal::ctrl_c().await {
        Ok(()) => true,
        Err(_) => std::future::pending().await,
    }
}
