//! What each party saw, in order.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;

/// So many events are kept, more than any scenario makes; a load test makes millions.
const MAX_KEPT: usize = 1 << 18;

/// One thing that a party of the lab saw. Never holds a secret: no query, no credentials.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The name server got a question.
    Question {
        /// Whether the server of the system's view was asked, or the second one.
        view: View,
        /// The name, lower case, no trailing dot.
        name: String,
        /// Its type, `A`.
        kind: String,
        /// Whether it came over TCP.
        tcp: bool,
    },
    /// The origin accepted a connection.
    Connection {
        /// Which logical address was dialled.
        address: SocketAddr,
        /// Who dialled.
        peer: SocketAddr,
        /// Whether the lab's proxy did.
        by_proxy: bool,
    },
    /// The origin read a `ClientHello`.
    Hello {
        /// Which logical address was dialled.
        address: SocketAddr,
        /// The server name in it.
        sni: Option<String>,
        /// Whether it came through the lab's proxy.
        by_proxy: bool,
    },
    /// The origin read a request.
    Request {
        /// The method.
        method: String,
        /// The path, without query.
        path: String,
        /// The `Host` header.
        host: Option<String>,
        /// Which logical address was dialled.
        address: SocketAddr,
        /// Who dialled.
        peer: SocketAddr,
        /// The server name of the TLS session, if there is one.
        sni: Option<String>,
        /// Whether it came through the lab's proxy.
        by_proxy: bool,
    },
    /// The proxy read a request.
    Connect {
        /// The method; another one than `CONNECT` for a plain request, which is passed on without a tunnel.
        method: String,
        /// What it wants to reach.
        authority: String,
        /// Whether credentials came along.
        credentials: bool,
        /// What the proxy answered, or passed on as an answer; `None` when neither.
        status: Option<u16>,
    },
    /// The proxy opened a tunnel. The numbers are those at the moment when the log was read; a watcher is told at the end
    /// of the tunnel.
    Tunnel {
        /// Where it led.
        authority: String,
        /// Bytes from the client to the origin.
        up: u64,
        /// Bytes from the origin to the client.
        down: u64,
    },
    /// The wire server or instance metadata read a request.
    Host {
        /// The path, without query.
        path: String,
        /// Who asked.
        peer: SocketAddr,
    },
}

/// Which name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// The one that stands for the system resolver.
    System,
    /// The one asked beside it.
    Server,
}

/// Where the events of all parties go.
#[derive(Clone)]
pub(super) enum Log {
    /// Into a list, to be read later; those beyond [`MAX_KEPT`] nowhere.
    Kept(Arc<Mutex<Vec<Entry>>>),
    /// To somebody who is told of each as it happens.
    Watched(Watcher),
}

type Watcher = Arc<dyn Fn(Event) + Send + Sync>;

impl Default for Log {
    fn default() -> Self {
        Self::Kept(Arc::default())
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

#[derive(Debug)]
pub(super) enum Entry {
    Past(Event),
    /// A tunnel, whose numbers grow as long as it lives.
    Tunnel(String, Arc<Meter>),
}

/// Bytes moved through a tunnel.
#[derive(Default)]
pub(super) struct Meter {
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
    /// Who is told of the tunnel when it has ended.
    end: Option<(String, Watcher)>,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("up", &self.up).field("down", &self.down).finish_non_exhaustive()
    }
}

impl Meter {
    fn event(&self, authority: String) -> Event {
        let read = |moved: &AtomicU64| moved.load(Ordering::Relaxed);
        Event::Tunnel { authority, up: read(&self.up), down: read(&self.down) }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some((authority, watcher)) = self.end.take() {
            watcher(self.event(authority));
        }
    }
}

impl Log {
    /// A log that tells of each event and keeps none.
    pub(super) fn watched(watcher: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self::Watched(Arc::new(watcher))
    }

    pub(super) fn add(&self, event: Event) {
        match self {
            Self::Kept(entries) => push(entries, Entry::Past(event)),
            Self::Watched(watcher) => watcher(event),
        }
    }

    /// Adds a tunnel whose numbers are those of the meter.
    pub(super) fn add_tunnel(&self, authority: &str) -> Arc<Meter> {
        match self {
            Self::Kept(entries) => {
                let meter = Arc::new(Meter::default());
                push(entries, Entry::Tunnel(authority.to_owned(), meter.clone()));
                meter
            }
            Self::Watched(watcher) => {
                let end = Some((authority.to_owned(), watcher.clone()));
                Arc::new(Meter { up: AtomicU64::new(0), down: AtomicU64::new(0), end })
            }
        }
    }

    /// The events so far; none when they are watched.
    pub(super) fn events(&self) -> Vec<Event> {
        let Self::Kept(entries) = self else { return Vec::new() };
        let entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .iter()
            .map(|entry| match entry {
                Entry::Past(event) => event.clone(),
                Entry::Tunnel(authority, meter) => meter.event(authority.clone()),
            })
            .collect()
    }
}

fn push(entries: &Mutex<Vec<Entry>>, entry: Entry) {
    let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
    if entries.len() < MAX_KEPT {
        entries.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_events_are_kept_and_no_more_than_fit() {
        let log = Log::default();
        let event = |number: usize| Event::Host { path: number.to_string(), peer: ([127, 0, 0, 1], 1).into() };
        for number in 0..MAX_KEPT + 10 {
            log.add(event(number));
        }
        let meter = log.add_tunnel("a:443");
        meter.up.fetch_add(1, Ordering::Relaxed);
        let events = log.events();
        assert_eq!(events.len(), MAX_KEPT);
        assert_eq!((&events[0], &events[MAX_KEPT - 1]), (&event(0), &event(MAX_KEPT - 1)));
    }
}
