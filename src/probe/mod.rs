//! Walks the plan layer by layer. A failed probe is data; `Err` means that nothing could be measured.

mod anchors;
mod controls;
#[cfg(feature = "bench")]
pub(crate) mod dial;
#[cfg(feature = "conformance")]
pub(crate) mod dialogue;
mod engine;
mod exchange;
mod failure;
mod handshake;
mod http_io;
pub(crate) mod limits;
pub mod metadata;
mod metered;
mod net;
mod recorder;
mod request;
mod resolve;
#[cfg(feature = "bench")]
mod sessions;
mod trace;
mod tunnel;
mod walk;
#[cfg(feature = "bench")]
pub(crate) mod wire;

use std::{future::Future, io, sync::atomic::AtomicU32};

use crate::{model::Record, plan::Plan};

pub use anchors::read_anchors;
pub use net::facing;
#[cfg(feature = "bench")]
pub use net::has_congestion;

/// How far a run is; read it from another task at any time.
#[derive(Debug, Default)]
pub struct Progress {
    /// Lookups and walks planned so far (grows while lookups find addresses).
    pub planned: AtomicU32,
    /// Lookups and walks done.
    pub done: AtomicU32,
    /// Walks done that failed.
    pub failed: AtomicU32,
}

/// The event loop that the engine is made for: one thread, as the kernel does most of the work.
///
/// # Errors
/// When the operating system gives no event queue.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(32).build()
}

/// Runs the plan until it is done, the deadline passes, or `interrupt` resolves. What was measured so far is always in
/// the record.
///
/// # Errors
/// When nothing can be measured at all (no event queue, an unusable trust anchor, an unknown interface).
pub async fn run(plan: Plan, progress: &Progress, interrupt: impl Future<Output = ()>) -> io::Result<Record> {
    engine::run(plan, progress, interrupt).await
}
