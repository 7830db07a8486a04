//! What was measured on one arm: counts and distributions, all of which add up.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::Distribution;

/// A part of an operation that takes time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The lookup of the target or proxy, once.
    Resolve,
    /// TCP.
    Connect,
    /// The TLS handshake with an `https://` proxy.
    ProxyTls,
    /// CONNECT.
    Tunnel,
    /// The TLS handshake with the target.
    Tls,
    /// From the request to the first byte of the answer.
    FirstByte,
}

impl Part {
    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::ProxyTls => "proxy tls",
            Self::Tunnel => "tunnel",
            Self::Tls => "tls",
            Self::FirstByte => "first byte",
        }
    }
}

/// What one arm did in the time that counts, the warm-up left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// How long was measured, in microseconds; of several machines the longest.
    pub elapsed_us: u64,
    /// Operations that succeeded. A transfer that the end of the time cut off counts its bytes alone.
    pub operations: u64,
    /// Payload bytes that arrived (`download`) or were taken (`upload`).
    pub bytes: u64,
    /// How long each operation took, from the moment it was due; failures count with the timeout.
    pub latency: Distribution,
    /// Where that time went. Connections that stay are in it once.
    pub parts: BTreeMap<Part, Distribution>,
    /// Failures by finding code.
    pub errors: BTreeMap<String, Failures>,
    /// What this side's processors did.
    pub cpu: Cpu,
    /// What the kernel says about the connections.
    pub tcp: Tcp,
    /// How far behind its times the generator was (open model).
    pub lateness: Option<Lateness>,
    /// Length of a tick of `series`, in microseconds.
    pub tick_us: u64,
    /// What happened when, the warm-up left out.
    pub series: Vec<Tick>,
}

impl Measurement {
    /// Successful operations per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        per_second(self.operations, self.elapsed())
    }

    /// Payload bytes per second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        per_second(self.bytes, self.elapsed())
    }

    /// How long was measured.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_micros(self.elapsed_us)
    }

    /// Operations that failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.errors.values().map(|failures| failures.count).sum()
    }

    /// Adds what was measured at the same time elsewhere: everything sums up, and times are as long as the longest.
    pub fn add(&mut self, other: &Self) {
        self.elapsed_us = self.elapsed_us.max(other.elapsed_us);
        self.join(other);
        let ticks = self.series.len().max(other.series.len());
        self.series.resize(ticks, Tick::default());
        for (own, tick) in self.series.iter_mut().zip(&other.series) {
            own.add(*tick);
        }
    }

    /// Adds what was measured afterwards on the same machine.
    pub fn append(&mut self, other: &Self) {
        self.elapsed_us += other.elapsed_us;
        self.join(other);
        self.series.extend(&other.series);
    }

    fn join(&mut self, other: &Self) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.latency.add(&other.latency);
        for (part, times) in &other.parts {
            self.parts.entry(*part).or_default().add(times);
        }
        for (code, failures) in &other.errors {
            let own = self.errors.entry(code.clone()).or_insert_with(|| Failures { count: 0, ..failures.clone() });
            own.count += failures.count;
        }
        self.cpu.add(other.cpu);
        self.tcp.connections += other.tcp.connections;
        self.tcp.retransmitted += other.tcp.retransmitted;
        self.tcp.rtt.add(&other.tcp.rtt);
        if let Some(other) = &other.lateness {
            let own = self.lateness.get_or_insert_default();
            own.due += other.due;
            own.dropped += other.dropped;
            own.late.add(&other.late);
        }
        self.tick_us = self.tick_us.max(other.tick_us);
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^52 do not occur")]
fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// Failures of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// How many.
    pub count: u64,
    /// What the first one was like.
    pub example: String,
}

/// What processors did meanwhile, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// The generator's own threads, in user mode.
    pub user_us: u64,
    /// Likewise in the kernel.
    pub system_us: u64,
    /// All processors of the machine together: what there was.
    pub machine_us: u64,
    /// Of that: not idle.
    pub busy_us: u64,
    /// Of that: taken by the hypervisor for others.
    pub steal_us: u64,
    /// The busiest of the generator's threads, as a share of the time (0 to 1000).
    pub busiest_permille: u32,
}

impl Cpu {
    /// User and kernel time of the generator.
    #[must_use]
    pub fn own(self) -> Duration {
        Duration::from_micros(self.user_us + self.system_us)
    }

    fn add(&mut self, other: Self) {
        self.user_us += other.user_us;
        self.system_us += other.system_us;
        self.machine_us += other.machine_us;
        self.busy_us += other.busy_us;
        self.steal_us += other.steal_us;
        self.busiest_permille = self.busiest_permille.max(other.busiest_permille);
    }
}

/// What `TCP_INFO` says about the connections when each ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tcp {
    /// Connections that were asked about.
    pub connections: u64,
    /// Segments that were sent again.
    pub retransmitted: u64,
    /// The smoothed round-trip time of each.
    pub rtt: Distribution,
}

/// How well the generator kept its times.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Lateness {
    /// Operations that were due.
    pub due: u64,
    /// Of those: never begun, as every connection was busy until the end.
    pub dropped: u64,
    /// How much later than due the others began because of the generator itself, with a connection free.
    pub late: Distribution,
}

/// What happened in one tick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Operations that succeeded.
    pub operations: u64,
    /// Payload bytes.
    pub bytes: u64,
    /// Operations that failed.
    pub failed: u64,
}

impl Tick {
    fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.failed += other.failed;
    }
}
