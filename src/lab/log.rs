//! What each party saw, in order.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;

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
    /// The proxy opened a tunnel. The numbers are those at the moment when the log was read.
    Tunnel {
        /// Where it led.
        authority: String,
        /// Bytes from the client to the origin.
        up: u64,
        /// Bytes from the origin to the client.
        down: u64,
    },
    /// The wire server read a request.
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

/// The events so far, shared by all parties.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<Entry>>>);

#[derive(Debug)]
enum Entry {
    Past(Event),
    /// A tunnel, whose numbers grow as long as it lives.
    Tunnel(String, Arc<Meter>),
}

/// Bytes moved through a tunnel.
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub(super) up: AtomicU64,
    pub(super) down: AtomicU64,
}

impl Log {
    pub(super) fn add(&self, event: Event) {
        self.push(Entry::Past(event));
    }

    /// Adds a tunnel whose numbers are those of the meter when the log is read.
    pub(super) fn add_tunnel(&self, authority: &str) -> Arc<Meter> {
        let meter = Arc::new(Meter::default());
        self.push(Entry::Tunnel(authority.to_owned(), meter.clone()));
        meter
    }

    pub(super) fn events(&self) -> Vec<Event> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .iter()
            .map(|entry| match entry {
                Entry::Past(event) => event.clone(),
                Entry::Tunnel(authority, meter) => Event::Tunnel {
                    authority: authority.clone(),
                    up: meter.up.load(Ordering::Relaxed),
                    down: meter.down.load(Ordering::Relaxed),
                },
            })
            .collect()
    }

    fn push(&self, entry: Entry) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }
}
