use proptest::prelude::*;

use super::*;

/// A small generator of its own (`SplitMix64`), so that every run sees the same noise.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly between 0 and 1, neither included.
    fn even(&mut self) -> f64 {
        (f64::from((self.next() >> 32) as u32) + 0.5) / 4_294_967_296.0
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.even().ln()).sqrt() * (std::f64::consts::TAU * self.even()).cos()
    }

    /// Student's t with 2 degrees of freedom: symmetric, and so heavy in its tails that it has no variance.
    fn heavy(&mut self) -> f64 {
        let u = self.even();
        (2.0 * u - 1.0) / (2.0 * u * (1.0 - u)).sqrt()
    }

    /// How many of `tried` happen, each with this chance.
    fn count(&mut self, tried: u64, chance: f64) -> u64 {
        (0..tried).filter(|_| self.even() < chance).count() as u64
    }
}

type Noise = fn(&mut Random) -> f64;

const SPREAD: f64 = 0.03;

fn slice(values: &[(Metric, f64)]) -> Slice {
    Slice { values: values.iter().copied().collect(), operations: 1_000, errors: BTreeMap::new() }
}

fn failing(code: &str, failed: u64, operations: u64) -> Slice {
    let mut slice = slice(&[(Metric::Rate, 100.0)]);
    slice.operations = operations;
    slice.errors.insert(code.to_owned(), failed);
    slice
}

/// Pairs in which B's true ratio to A is the given one for each metric, and every slice has noise of its own.
fn pairs(random: &mut Random, count: usize, noise: Noise, ratios: &[(Metric, f64)]) -> Vec<Pair> {
    let mut side = |b: bool| {
        let values = ratios.iter().map(|(metric, ratio)| {
            let true_value = if b { 1e9 * ratio } else { 1e9 };
            (*metric, true_value * (SPREAD * noise(random)).exp())
        });
        slice(&values.collect::<Vec<_>>())
    };
    (0..count).map(|_| Pair { a: side(false), b: side(true), b_first: false }).collect()
}

/// The last judgement of a whole run, as the caller takes looks.
fn run(question: &Question, random: &mut Random, noise: Noise, ratios: &[(Metric, f64)]) -> Judgement {
    let mut seen = Vec::new();
    loop {
        let look = question.next_look(seen.len()).unwrap();
        seen.extend(pairs(random, question.looks[look] - seen.len(), noise, ratios));
        let judgement = question.judge(&seen, look, Design::Paired);
        if judgement.is_final() {
            return judgement;
        }
    }
}

/// How many of so many runs fail, and how many pass.
fn outcomes(runs: usize, seed: u64, question: &Question, noise: Noise, ratios: &[(Metric, f64)]) -> (usize, usize) {
    let mut random = Random(seed);
    let (mut failed, mut passed) = (0, 0);
    for _ in 0..runs {
        match run(question, &mut random, noise, ratios).outcome {
            Outcome::Fail => failed += 1,
            Outcome::Pass => passed += 1,
            Outcome::Inconclusive => {}
        }
    }
    (failed, passed)
}

fn goodput() -> Question {
    Question::new(vec![Metric::Goodput], 0.05)
}

#[test]
fn a_loss_of_just_the_margin_rarely_fails_or_passes() {
    for (noise, seed) in [(Random::normal as Noise, 1), (Random::heavy, 2)] {
        let (failed, passed) = outcomes(600, seed, &goodput(), noise, &[(Metric::Goodput, 0.95)]);
        assert!((3..=15).contains(&failed) && (3..=15).contains(&passed), "{failed} failed, {passed} passed");
    }
}

#[test]
fn equal_arms_pass_and_never_fail() {
    assert_eq!(outcomes(500, 3, &goodput(), Random::normal, &[(Metric::Goodput, 1.0)]), (0, 500));
    let (failed, passed) = outcomes(500, 4, &goodput(), Random::heavy, &[(Metric::Goodput, 1.0)]);
    assert!(failed == 0 && passed >= 400, "{failed} failed, {passed} passed");
}

#[test]
fn a_loss_of_ten_percent_is_found() {
    let (failed, passed) = outcomes(1_000, 5, &goodput(), Random::normal, &[(Metric::Goodput, 0.9)]);
    assert!(failed >= 990 && passed == 0, "{failed} failed, {passed} passed");
    let latency = Question::new(vec![Metric::P99], 0.05);
    let (failed, passed) = outcomes(300, 6, &latency, Random::normal, &[(Metric::P99, 1.0 / 0.9)]);
    assert!(failed >= 297 && passed == 0, "{failed} failed, {passed} passed");
}

#[test]
fn a_loss_of_three_percent_never_fails() {
    let (failed, _) = outcomes(2_000, 7, &goodput(), Random::normal, &[(Metric::Goodput, 0.97)]);
    assert_eq!(failed, 0);
}

#[test]
fn many_metrics_give_no_more_false_alarms_than_one() {
    for (seed, metrics) in [
        (8, &[(Metric::Rate, 0.95), (Metric::P99, 1.05)][..]),
        (9, &[(Metric::Rate, 0.95), (Metric::P50, 1.05), (Metric::Cpu, 1.05)]),
    ] {
        let question = Question::new(metrics.iter().map(|(metric, _)| *metric).collect(), 0.05);
        let (failed, passed) = outcomes(400, seed, &question, Random::normal, metrics);
        assert!((1..=10).contains(&failed) && passed <= 1, "{failed} failed, {passed} passed");
    }
}
