//! What the processors did: of this thread, and of the whole machine.

use std::{fs, time::Duration};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

use crate::bench::Cpu;

/// CPU time of the calling thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct ThreadTime {
    user_us: i64,
    system_us: i64,
}

impl ThreadTime {
    pub(super) fn now() -> Self {
        getrusage(UsageWho::RUSAGE_THREAD).map_or(Self { user_us: 0, system_us: 0 }, |usage| Self {
            user_us: usage.user_time().num_microseconds(),
            system_us: usage.system_time().num_microseconds(),
        })
    }

    /// Adds what was used since `start`, within `elapsed`.
    pub(super) fn since(self, start: Self, elapsed: Duration, cpu: &mut Cpu) {
        let used = |now: i64, before: i64| u64::try_from(now - before).unwrap_or(0);
        cpu.user_us = used(self.user_us, start.user_us);
        cpu.system_us = used(self.system_us, start.system_us);
        let share = u128::from(cpu.user_us + cpu.system_us) * 1000 / elapsed.as_micros().max(1);
        cpu.busiest_permille = u32::try_from(share.min(1000)).unwrap_or(1000);
    }
}

/// CPU time of the machine since it started, all processors together (proc(5), `/proc/stat`).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MachineTime {
    all: u64,
    idle: u64,
    steal: u64,
}

impl MachineTime {
    /// Nothing where the system does not tell.
    pub(super) fn now() -> Self {
        fs::read_to_string("/proc/stat").ok().and_then(|text| Self::parse(&text)).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        let [_, _, _, idle, waiting, _, _, steal, ..] = ticks[..] else { return None };
        // Time of guests is part of user time already.
        Some(Self { all: ticks.iter().take(8).sum(), idle: idle + waiting, steal })
    }

    /// Adds what the machine did since `start`.
    pub(super) fn since(self, start: Self, cpu: &mut Cpu) {
        /// Linux counts in hundredths of a second towards programs (`USER_HZ`).
        const TICK_US: u64 = 10_000;
        let all = self.all.saturating_sub(start.all);
        cpu.machine_us = all * TICK_US;
        cpu.busy_us = all.saturating_sub(self.idle.saturating_sub(start.idle)) * TICK_US;
        cpu.steal_us = self.steal.saturating_sub(start.steal) * TICK_US;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_did_is_read_from_the_first_line() {
        let before = MachineTime::parse("cpu  10 0 10 70 10 0 0 0 5 0\ncpu0 1 2 3\n").unwrap();
        let after = MachineTime::parse("cpu  60 0 20 80 10 5 5 20 9 0\n").unwrap();
        let mut cpu = Cpu::default();
        after.since(before, &mut cpu);
        assert_eq!((cpu.machine_us, cpu.busy_us, cpu.steal_us), (1_000_000, 900_000, 200_000));
        for text in ["", "cpu", "cpu  1 2 3", "intr 5"] {
            assert!(MachineTime::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_thread_that_works_uses_time() {
        let start = ThreadTime::now();
        let mut cpu = Cpu::default();
        // Bounded by the clock of the thread itself.
        while cpu.user_us + cpu.system_us < 1000 {
            ThreadTime::now().since(start, Duration::from_millis(1), &mut cpu);
        }
        assert!(cpu.busiest_permille > 0);
    }
}
