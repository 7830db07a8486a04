//! Two arms in turn, slice by slice, until the gate can tell or has looked often enough.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    Measurement, Setup, Workload,
    engine::{self, Path, Progress, Stop},
    gate::{Design, Judgement, Metric, Pair, Question, Slice},
};

/// How long an arm is measured before it is the other one's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slicing {
    /// All of a slice.
    pub length: Duration,
    /// What is thrown away at its beginning, while connections open and windows grow.
    pub discard: Duration,
}

impl Slicing {
    /// Slices of this length, of which a tenth is thrown away.
    #[must_use]
    pub fn of(length: Duration) -> Self {
        Self { length, discard: length / 10 }
    }
}

/// What came of a comparison.
#[derive(Debug)]
pub struct Compared {
    /// What was measured on A, all slices together.
    pub a: Measurement,
    /// Likewise on B.
    pub b: Measurement,
    /// What the pairs say.
    pub judgement: Judgement,
}

/// How far a comparison is.
#[derive(Debug, Default)]
pub struct Pairs {
    /// Pairs that are complete.
    pub done: AtomicUsize,
    /// Pairs until the next look.
    pub planned: AtomicUsize,
}

/// Measures A and B in turn until the gate has decided, its last look is over, or `stop`. It blocks. For a calibration
/// both paths are the same.
///
/// # Errors
/// When the system has no threads, timers or event queues left.
pub fn compare(
    setup: &Setup,
    [a, b]: [&Arc<Path>; 2],
    (question, design): (&Question, Design),
    slicing: Slicing,
    (progress, pairs_done): (&Arc<Progress>, &Pairs),
    stop: &Stop,
) -> io::Result<Compared> {
    let slice = Arc::new(slice_of(setup, slicing));
    let mut chance = Chance(setup.seed);
    let (mut sum_a, mut sum_b) = (Measurement::default(), Measurement::default());
    let mut pairs = Vec::new();
    let mut judgement = None;
    'looks: for (look, &wanted) in question.looks.iter().enumerate() {
        pairs_done.planned.store(wanted, Relaxed);
        while pairs.len() < wanted {
            let b_first = chance.coin();
            let (mut of_a, mut of_b) = (None, None);
            for is_b in [b_first, !b_first] {
                let measured = engine::measure(&slice, if is_b { b } else { a }, progress, stop)?;
                if *stop.borrow() {
                    // A slice that was cut short is not like the others.
                    break 'looks;
                }
                *(if is_b { &mut of_b } else { &mut of_a }) = Some(measured);
            }
            let (Some(of_a), Some(of_b)) = (of_a, of_b) else { break 'looks };
            pairs.push(Pair { a: slice_from(setup.workload, &of_a), b: slice_from(setup.workload, &of_b), b_first });
            sum_a.append(&of_a);
            sum_b.append(&of_b);
            pairs_done.done.store(pairs.len(), Relaxed);
        }
        let judged = question.judge(&pairs, look, design);
        // One look at what a machine does tells what the last one would see.
        let decided = judged.is_final() || design == Design::Calibration;
        judgement = Some(judged);
        if decided {
            break;
        }
    }
    let judgement = judgement.unwrap_or_else(|| question.judge(&pairs, 0, design));
    Ok(Compared { a: sum_a, b: sum_b, judgement })
}

/// A shorter wait than this says more of a busy machine than of a peer.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(500);

/// One slice as a setup of its own. Whatever hangs must show within the slice.
fn slice_of(setup: &Setup, slicing: Slicing) -> Setup {
    let duration = slicing.length.saturating_sub(slicing.discard);
    Setup {
        duration,
        warmup: slicing.discard,
        timeout: setup.timeout.min((duration / 2).max(SHORTEST_TIMEOUT)),
        ..setup.clone()
    }
}

/// The figures of a slice that can be gated.
#[must_use]
pub fn slice_from(workload: Workload, measured: &Measurement) -> Slice {
    let mut values = BTreeMap::new();
    let mut put = |metric, value: f64| {
        if value > 0.0 {
            values.insert(metric, value);
        }
    };
    put(Metric::Goodput, measured.goodput());
    put(Metric::Rate, measured.rate());
    let at = |share| measured.latency.quantile(share).map_or(0.0, |time| time.as_secs_f64());
    put(Metric::P50, at(0.5));
    put(Metric::P99, at(0.99));
    let units = if workload.is_bulk() { measured.bytes } else { measured.operations };
    if units > 0 {
        #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^52 do not occur")]
        put(Metric::Cpu, measured.cpu.own().as_secs_f64() / units as f64);
    }
    let errors = measured.errors.iter().map(|(code, failures)| (code.clone(), failures.count)).collect();
    Slice { values, operations: measured.operations, errors }
}

/// Coins from a seed (`SplitMix64`).
struct Chance(u64);

impl Chance {
    fn coin(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_follows_from_the_seed_and_is_balanced() {
        let coins = |seed| {
            let mut chance = Chance(seed);
            (0..1000).map(|_| chance.coin()).collect::<Vec<_>>()
        };
        assert_eq!(coins(7), coins(7));
        assert_ne!(coins(7), coins(8));
        let first = coins(7).into_iter().filter(|coin| *coin).count();
        assert!((450..550).contains(&first), "{first}");
    }
}
