//! An event loop on a thread of its own.

use std::{
    io,
    sync::mpsc,
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

/// A thread whose event loop runs until this is dropped.
#[derive(Debug)]
pub(super) struct Background {
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Has the thread's event loop run the tasks that `spawn` spawns.
    pub(super) fn start(name: &str, spawn: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Err(e) => {
                    let _ = ready.send(Err(e));
                }
                Ok(runtime) => runtime.block_on(async {
                    spawn();
                    let _ = ready.send(Ok(()));
                    // Ends when the sender is dropped; the runtime then drops every task and its sockets.
                    let _ = stopped.await;
                }),
            }
        })?;
        let background = Self { stop: Some(stop), thread: Some(thread) };
        is_ready.recv().map_err(|_| io::Error::other("the thread ended before it was ready"))??;
        Ok(background)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed; dropping must not panic again.
            let _ = thread.join();
        }
    }
}
