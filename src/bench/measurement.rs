//! What was measured on one arm: counts and distributions, all of which add up.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Distribution, run::MAX_COUNT};

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
    /// Of these: TLS sessions that were resumed.
    #[serde(default)]
    pub resumed: u64,
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
    /// Where in `series` each slice begins but the first.
    #[serde(default)]
    pub slices: Vec<usize>,
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

    /// Whether nothing came of it: every operation failed, or none ended and nothing moved. Where the time was too short for
    /// one transfer, what it moved is a figure.
    #[must_use]
    pub fn is_fruitless(&self) -> bool {
        self.operations == 0 && (self.bytes == 0 || self.failed() > 0)
    }

    /// The ticks with their times. Slices are taken to be equally long; the last tick of each may be shorter than others.
    pub fn ticks(&self) -> impl Iterator<Item = TickAt> + '_ {
        let begins = std::iter::once(0).chain(self.slices.iter().copied());
        let ends = self.slices.iter().copied().chain([self.series.len()]);
        let tick = Duration::from_micros(self.tick_us);
        let slices = u32::try_from(self.slices.len() + 1).unwrap_or(u32::MAX);
        let of_each = self.elapsed() / slices;
        begins.zip(ends).zip(0_u32..).flat_map(move |((begin, end), slice)| {
            self.series.get(begin..end).unwrap_or_default().iter().zip(0_u32..).map(move |(&done, n)| {
                let offset = tick.saturating_mul(n);
                let left = of_each.saturating_sub(offset);
                let length = if left.is_zero() { tick } else { left.min(tick) };
                TickAt { slice, start: of_each.saturating_mul(slice).saturating_add(offset), length, tick: done }
            })
        })
    }

    /// Payload bytes or operations per second, tick by tick; ticks that were cut short by more than half are left out.
    #[must_use]
    pub fn course(&self, bytes: bool) -> Vec<f64> {
        let whole = Duration::from_micros(self.tick_us);
        let ticks = self.ticks().filter(|at| at.length * 2 >= whole);
        ticks.map(|at| per_second(if bytes { at.tick.bytes } else { at.tick.operations }, at.length)).collect()
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
        let begin = self.series.len();
        self.slices.extend((begin > 0).then_some(begin));
        self.slices.extend(other.slices.iter().map(|at| begin + at));
        self.series.extend(&other.series);
    }

    /// What no measurement says.
    pub(super) fn contradiction(&self) -> Option<&'static str> {
        let Cpu { user_us, system_us, machine_us, busy_us, steal_us, .. } = self.cpu;
        let late = self.lateness.as_ref();
        let counts = [
            self.elapsed_us,
            self.operations,
            self.resumed,
            self.bytes,
            self.tick_us,
            self.tcp.connections,
            self.tcp.retransmitted,
        ]
        .into_iter()
        .chain([user_us, system_us, machine_us, busy_us, steal_us])
        .chain(self.errors.values().map(|failures| failures.count))
        .chain(late.into_iter().flat_map(|late| [late.due, late.dropped]))
        .chain(self.series.iter().flat_map(|tick| [tick.operations, tick.bytes, tick.failed]));
        let codes = self.errors.keys();
        if counts.into_iter().any(|count| count > MAX_COUNT) {
            Some("a count is too large")
        } else if !codes.into_iter().all(|code| is_code(code)) {
            Some("a failure has no finding code")
        } else if self.tick_us == 0 && !self.series.is_empty() {
            Some("the ticks of the time series have no length")
        } else if !self.slices.is_sorted() || self.slices.last().is_some_and(|last| *last > self.series.len()) {
            Some("the slices are not those of the time series")
        } else {
            None
        }
    }

    fn join(&mut self, other: &Self) {
        self.operations += other.operations;
        self.resumed += other.resumed;
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

/// Whether this can be the code of a finding, such as `proxy.port_denied`: it is printed in commands to copy.
pub(super) fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_'))
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

/// A tick with its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TickAt {
    /// Which slice it is of, from 0.
    pub slice: u32,
    /// How long had been measured before.
    pub start: Duration,
    /// How long it was.
    pub length: Duration,
    /// What happened.
    pub tick: Tick,
}

impl Tick {
    fn add(&mut self, other: Self) {
        self.operations += other.operations;
        self.bytes += other.bytes;
        self.failed += other.failed;
    }
}
