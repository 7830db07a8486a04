use proptest::prelude::*;

use super::*;
use crate::bench::statistics::exact;

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
    let mut slice = slice(&[(Metric::Rate, 100.0), (Metric::Goodput, 1e6)]);
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
    let mut judgements = question.looks.iter().enumerate().map(|(look, at)| {
        seen.extend(pairs(random, at - seen.len(), noise, ratios));
        question.judge(&seen, look, Design::Paired)
    });
    judgements.find(Judgement::is_final).unwrap()
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
    // The long run has 1.9 % (normal) and 1.8 % (heavy) of either: the looks overlap, so less than their sum.
    for (noise, seed) in [(Random::normal as Noise, 19), (Random::heavy, 2)] {
        let (failed, passed) = outcomes(500, seed, &goodput(), noise, &[(Metric::Goodput, 0.95)]);
        assert!((1..=12).contains(&failed) && (1..=12).contains(&passed), "{failed} failed, {passed} passed");
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
    // The long run has 2.0 % of both.
    for (seed, metrics) in [
        (8, &[(Metric::Rate, 0.95), (Metric::P99, 1.05)][..]),
        (9, &[(Metric::Rate, 0.95), (Metric::P50, 1.05), (Metric::Cpu, 1.05)]),
    ] {
        let question = Question::new(metrics.iter().map(|(metric, _)| *metric).collect(), 0.05);
        let (failed, passed) = outcomes(200, seed, &question, Random::normal, metrics);
        assert!((1..=6).contains(&failed) && passed == 0, "{failed} failed, {passed} passed");
    }
}

/// Pairs of equal worth, with these failures of B's and A's slices.
fn with_failures(of_a: impl Fn(usize) -> Slice, of_b: impl Fn(usize) -> Slice, count: usize) -> Vec<Pair> {
    (0..count).map(|at| Pair { a: of_a(at), b: of_b(at), b_first: at % 2 == 0 }).collect()
}

fn rate() -> Question {
    Question::new(vec![Metric::Rate], 0.05)
}

#[test]
fn more_failures_of_a_known_kind_fail_when_chance_does_not_explain_them() {
    let pairs = with_failures(|_| failing("tcp.reset", 5, 995), |_| failing("tcp.reset", 20, 980), 15);
    let judgement = rate().judge(&pairs, 0, Design::Paired);
    assert_eq!((judgement.errors.a, judgement.errors.b), ((75, 15_000), (300, 15_000)));
    assert!(judgement.errors.p < 1e-4 && judgement.errors.new_codes.is_empty());
    assert_eq!((judgement.outcome, judgement.errors.outcome), (Outcome::Fail, Outcome::Fail));
    assert_eq!(judgement.metrics[0].outcome, Outcome::Pass);
    let turned = with_failures(|_| failing("tcp.reset", 20, 980), |_| failing("tcp.reset", 5, 995), 15);
    assert_eq!(rate().judge(&turned, 0, Design::Paired).outcome, Outcome::Pass);
    let baseline = rate().judge(&pairs, 0, Design::Baseline);
    assert_eq!((baseline.outcome, baseline.errors.outcome), (Outcome::Fail, Outcome::Fail));
}

#[test]
fn a_single_burst_of_failures_is_no_proof() {
    let quiet = || failing("tcp.reset", 1, 999);
    let pairs = with_failures(|_| quiet(), |at| if at == 7 { failing("tcp.reset", 400, 600) } else { quiet() }, 15);
    let judgement = rate().judge(&pairs, 0, Design::Paired);
    assert!(exact::more_failures(judgement.errors.a, judgement.errors.b) < 1e-50);
    assert_eq!((judgement.outcome, judgement.errors.p), (Outcome::Pass, 0.5));
    assert_eq!(rate().judge(&pairs, 0, Design::Baseline).outcome, Outcome::Pass);
}

#[test]
fn a_new_code_fails_unless_a_failed_as_often() {
    let clean = |_| slice(&[(Metric::Rate, 100.0)]);
    let once = |at| if at == 3 { failing("proxy.closed", 1, 1_000) } else { clean(at) };
    let judgement = rate().judge(&with_failures(clean, once, 15), 0, Design::Paired);
    assert_eq!((judgement.outcome, judgement.errors.new_codes), (Outcome::Fail, vec!["proxy.closed".to_owned()]));
    let a = |at| if at == 9 { failing("tcp.reset", 1, 1_000) } else { clean(at) };
    let judgement = rate().judge(&with_failures(a, once, 15), 0, Design::Paired);
    assert_eq!((judgement.outcome, judgement.errors.outcome), (Outcome::Inconclusive, Outcome::Inconclusive));
    // What did not happen is no code, and what only A shows is none of B's.
    let none = |at| if at == 3 { failing("proxy.closed", 0, 1_000) } else { clean(at) };
    assert_eq!(rate().judge(&with_failures(a, none, 15), 0, Design::Paired).outcome, Outcome::Pass);
}

#[test]
fn who_does_not_work_at_all() {
    let dead = |_| Slice { errors: BTreeMap::from([("tcp.refused".to_owned(), 9)]), ..Slice::default() };
    let stuck = |_| Slice::default();
    let good = |_| slice(&[(Metric::Rate, 100.0)]);
    // Bytes come, and no transfer ever ends well.
    let cut = |_| failing("tcp.reset", 9, 0);
    let judge = |a: fn(usize) -> Slice, b: fn(usize) -> Slice, count| {
        rate().judge(&with_failures(a, b, count), 0, Design::Paired)
    };
    for (a, b, count, expected) in [
        (good as fn(usize) -> Slice, dead as fn(usize) -> Slice, 1, Outcome::Fail),
        (good, dead, 15, Outcome::Fail),
        (good, stuck, 15, Outcome::Fail),
        (good, stuck, 1, Outcome::Inconclusive),
        (good, cut, 15, Outcome::Fail),
        (dead, good, 15, Outcome::Inconclusive),
        (dead, dead, 15, Outcome::Inconclusive),
        (stuck, stuck, 15, Outcome::Inconclusive),
        (good, good, 0, Outcome::Inconclusive),
    ] {
        let judgement = judge(a, b, count);
        assert_eq!(judgement.outcome, expected, "{judgement:?}");
    }
    assert_eq!(judge(good, dead, 15).metrics[0].ratio, None);
}

#[test]
fn outages_do_not_improve_what_is_left() {
    let mut random = Random(10);
    let mut seen = pairs(&mut random, 15, Random::normal, &[(Metric::Goodput, 1.0)]);
    assert_eq!(goodput().judge(&seen, 0, Design::Paired).outcome, Outcome::Pass);
    for pair in &mut seen[..4] {
        pair.b = Slice::default();
    }
    let judgement = goodput().judge(&seen, 0, Design::Paired);
    assert_eq!((judgement.outcome, judgement.metrics[0].pairs), (Outcome::Inconclusive, 15));
    for pair in &mut seen[..12] {
        pair.b = Slice::default();
    }
    let judgement = goodput().judge(&seen, 0, Design::Paired);
    assert_eq!((judgement.outcome, judgement.metrics[0].ratio), (Outcome::Fail, Some(1e-6)));
}

#[test]
fn values_that_are_none_are_missing() {
    let mut random = Random(11);
    let mut seen = pairs(&mut random, 15, Random::normal, &[(Metric::Goodput, 1.0), (Metric::Cpu, 1.0)]);
    for (pair, value) in seen.iter_mut().zip([f64::NAN, f64::INFINITY, 0.0, -1.0, f64::NEG_INFINITY]) {
        pair.b.values.insert(Metric::Goodput, value);
    }
    let judgement = goodput().judge(&seen, 0, Design::Paired);
    assert_eq!((judgement.outcome, judgement.metrics[0].pairs), (Outcome::Pass, 10));
    // A transfer that outlasts its slice is no operation, and its bytes count all the same.
    for pair in &mut seen {
        (pair.a.operations, pair.b.operations) = (0, 0);
    }
    let judgement = goodput().judge(&seen[5..], 0, Design::Paired);
    assert_eq!((judgement.outcome, judgement.metrics[0].pairs), (Outcome::Pass, 10));
    assert_eq!(Question::new(Vec::new(), 0.05).judge(&seen, 0, Design::Paired).outcome, Outcome::Inconclusive);
}

#[test]
fn an_interrupted_run_is_judged_by_what_it_has() {
    let mut random = Random(12);
    let seen = pairs(&mut random, 10, Random::normal, &[(Metric::Goodput, 0.7)]);
    let few = goodput().judge(&seen[..6], 0, Design::Paired);
    assert_eq!(
        (few.outcome, few.metrics[0].interval, few.metrics[0].smallest_effect),
        (Outcome::Inconclusive, None, None)
    );
    assert!(few.metrics[0].ratio.is_some() && !few.is_final());
    assert_eq!(goodput().judge(&seen, 0, Design::Paired).outcome, Outcome::Fail);
}

#[test]
fn the_last_look_is_final_whatever_it_says() {
    assert!(!goodput().judge(&[], 1, Design::Paired).is_final());
    let judgement = goodput().judge(&[], 2, Design::Paired);
    assert!(judgement.is_final() && judgement.outcome == Outcome::Inconclusive);
}

#[test]
fn chance_failures_rarely_fail_even_in_bursts() {
    let independent = |random: &mut Random| random.count(40, 0.05);
    let bursts = |random: &mut Random| if random.even() < 0.1 { 20 } else { 0 };
    let mut random = Random(13);
    for failures in [independent as fn(&mut Random) -> u64, bursts] {
        let mut failed = 0;
        for _ in 0..200 {
            let mut seen = Vec::new();
            for look in 0..3 {
                for _ in 0..15 {
                    let [a, b] = [failures(&mut random), failures(&mut random)];
                    seen.push(Pair { a: failing("x", a, 40 - a), b: failing("x", b, 40 - b), b_first: false });
                }
                let judgement = rate().judge(&seen, look, Design::Paired);
                if judgement.errors.outcome == Outcome::Fail && judgement.errors.new_codes.is_empty() {
                    failed += 1;
                    break;
                }
            }
        }
        assert!(failed <= 5, "{failed}");
    }
}

#[test]
fn the_smallest_effect_is_found_in_four_of_five_runs() {
    for (seed, metric, noise) in [(14, Metric::Goodput, Random::normal as Noise), (15, Metric::P50, Random::heavy)] {
        let question = Question { looks: vec![20], ..Question::new(vec![metric], 0.05) };
        let mut random = Random(seed);
        let mut judge = |ratio| question.judge(&pairs(&mut random, 20, noise, &[(metric, ratio)]), 0, Design::Paired);
        let runs = 200;
        let smallest = (0..runs).map(|_| judge(1.0).metrics[0].smallest_effect.unwrap()).sum::<f64>() / f64::from(runs);
        assert!(smallest > 0.06, "{smallest}");
        let ratio = if metric.more_is_better() { 1.0 - smallest } else { 1.0 + smallest };
        let found = (0..runs).filter(|_| judge(ratio).outcome == Outcome::Fail).count();
        assert!((140..=180).contains(&found), "{found} of {runs} with {smallest}");
    }
}

#[test]
fn calibration_finds_the_margin_that_can_be_decided() {
    let mut random = Random(16);
    let seen = pairs(&mut random, 30, Random::normal, &[(Metric::Goodput, 1.0), (Metric::P99, 1.0)]);
    let question = Question::new(vec![Metric::Goodput, Metric::P99], 0.05);
    let calibration = question.calibrate(&seen);
    let smallest = calibration.smallest_margin.unwrap();
    assert!(calibration.decidable && (0.01..0.04).contains(&smallest), "{calibration:?}");
    assert!(!Question { margin: smallest / 2.0, ..question.clone() }.calibrate(&seen).decidable);
    assert!(!question.calibrate(&seen[..5]).decidable);
    assert_eq!(question.judge(&seen, 1, Design::Calibration).outcome, Outcome::Pass);
    // With that margin an equal B passes at the last look, mostly.
    let at_last =
        Question { looks: vec![45], alpha: question.level(), margin: smallest, metrics: vec![Metric::Goodput] };
    let (failed, passed) = outcomes(200, 17, &at_last, Random::normal, &[(Metric::Goodput, 1.0)]);
    assert!(failed == 0 && (120..=199).contains(&passed), "{failed} {passed}");
    // An arm that differs from itself.
    let seen = pairs(&mut random, 30, Random::normal, &[(Metric::Goodput, 1.0), (Metric::P99, 1.08)]);
    let calibration = question.calibrate(&seen);
    assert_eq!(calibration.metrics.iter().map(|metric| metric.biased).collect::<Vec<_>>(), [false, true]);
    assert!(!calibration.decidable);
    assert_eq!(question.judge(&seen, 1, Design::Calibration).outcome, Outcome::Inconclusive);
}

#[test]
fn a_baseline_is_compared_without_pairs() {
    let mut random = Random(18);
    let mut judge = |ratio| {
        let slices = pairs(&mut random, 30, Random::normal, &[(Metric::Goodput, ratio)]);
        let baseline: Vec<Slice> = slices.iter().take(20).map(|pair| pair.a.clone()).collect();
        let now: Vec<Slice> = slices.into_iter().map(|pair| pair.b).collect();
        goodput().judge_baseline(&baseline, &now, 2)
    };
    for (ratio, expected) in [(1.0, Outcome::Pass), (0.9, Outcome::Fail), (0.95, Outcome::Inconclusive)] {
        let judgement = judge(ratio);
        assert_eq!((judgement.outcome, judgement.design), (expected, Design::Baseline), "{ratio}");
        assert_eq!((judgement.metrics[0].pairs, judgement.pairs.len()), (20, 30));
        let (low, high) = judgement.metrics[0].interval.unwrap();
        assert!(low < ratio && ratio < high);
    }
}

fn any_slice() -> impl Strategy<Value = Slice> {
    let metric = prop::sample::select(vec![Metric::Goodput, Metric::Rate, Metric::P50, Metric::P99, Metric::Cpu]);
    let count = prop_oneof![Just(0), 0..100_u64, any::<u64>()];
    let values = prop::collection::btree_map(metric, any::<f64>(), 0..5);
    let errors = prop::collection::btree_map("[a-c]", count.clone(), 0..3);
    (values, count, errors).prop_map(|(values, operations, errors)| Slice { values, operations, errors })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_a_file_holds_is_judged(
        slices in prop::collection::vec((any_slice(), any_slice()), 0..20),
        (margin, alpha) in (any::<f64>(), any::<f64>()),
        (looks, look) in (prop::collection::vec(any::<usize>(), 0..4), 0..9_usize),
    ) {
        let pairs: Vec<Pair> = slices.into_iter().map(|(a, b)| Pair { a, b, b_first: false }).collect();
        let usual = Question::new(vec![Metric::Goodput, Metric::P50, Metric::Cpu, Metric::Goodput], 0.05);
        for question in [Question { margin, alpha, looks, ..usual.clone() }, usual] {
            for design in [Design::Paired, Design::Baseline, Design::Calibration] {
                let judgement = question.judge(&pairs, look, design);
                for metric in &judgement.metrics {
                    prop_assert!((0.0..=1.0).contains(&metric.p_fail) && (0.0..=1.0).contains(&metric.p_pass));
                    if let (Some((low, high)), Some(ratio)) = (metric.interval, metric.ratio) {
                        prop_assert!(low.is_finite() && high.is_finite() && low <= ratio && ratio <= high);
                    }
                }
            }
            prop_assert_eq!(question.calibrate(&pairs).metrics.len(), 4);
        }
    }
}
