//! Differences within pairs: the Wilcoxon signed-rank test, and the Hodges-Lehmann estimate that belongs to it.

use super::{Shift, Tails, length, normal, order};

/// Up to so many pairs the distributions are enumerated; beyond, they are taken for normal, with continuity correction.
const EXACT: usize = 200;

/// Differences that scatter alike above and below an unknown shift.
///
/// Ties share the mean of their ranks, and p-values are exact given these ties: of all ways to sign these very
/// distances from the shift. A difference that equals the shift says nothing of the direction: it is ranked with the
/// others (Pratt 1959) and then left out, since dropping it first can make a result stronger by moving a value away
/// from the alternative. Intervals come from the ordered means of all pairs of differences, at the places that the
/// distribution without ties gives; with ties they are closed and cover no less (Noether 1967).
#[derive(Debug, Clone, PartialEq)]
pub struct Paired {
    sorted: Vec<f64>,
}

impl Paired {
    /// Of these differences; what is not finite is left out.
    #[must_use]
    pub fn new(differences: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = differences.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { sorted }
    }

    /// Walsh averages: the means of all pairs of differences, each also with itself.
    fn averages(&self) -> u64 {
        let n = self.sorted.len() as u64;
        n * (n + 1) / 2
    }

    /// How many of them are at most `limit`.
    fn averages_at_most(&self, limit: f64) -> u64 {
        let mut count = 0;
        let mut end = self.sorted.len();
        for (start, &low) in self.sorted.iter().enumerate() {
            while end > start && low + self.sorted[end - 1] > 2.0 * limit {
                end -= 1;
            }
            if end <= start {
                break;
            }
            count += (end - start) as u64;
        }
        count
    }
}

impl Shift for Paired {
    fn size(&self) -> usize {
        self.sorted.len()
    }

    fn estimate(&self) -> Option<f64> {
        (!self.sorted.is_empty()).then(|| order::median(self.averages(), |limit| self.averages_at_most(limit)))
    }

    fn interval(&self, level: f64) -> Option<(f64, f64)> {
        let below = critical(self.sorted.len(), level)?;
        let nth = |nth| order::nth_smallest(nth, |limit| self.averages_at_most(limit));
        Some((nth(below + 1), nth(self.averages() - below)))
    }

    fn tails(&self, shift: f64) -> Tails {
        if shift.is_nan() {
            return Tails::SILENT;
        }
        let mut distances: Vec<(f64, f64)> = self.sorted.iter().map(|value| ((value - shift).abs(), *value)).collect();
        distances.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let values: Vec<f64> = distances.iter().map(|(distance, _)| *distance).collect();
        let (mut ranks, mut positive) = (Vec::new(), 0);
        for (rank, (distance, value)) in order::doubled_ranks(&values).into_iter().zip(distances) {
            if value > shift {
                positive += rank;
            }
            if distance > 0.0 {
                ranks.push(rank);
            }
        }
        sign_tails(&ranks, positive)
    }
}

/// The chances that doubled ranks, each with a fair coin for its sign, have a positive sum of at most and of at least
/// `sum`.
fn sign_tails(ranks: &[usize], sum: usize) -> Tails {
    let total: usize = ranks.iter().sum();
    if ranks.len() > EXACT {
        let mean = length(total) / 2.0;
        let deviation = ranks.iter().map(|&rank| length(rank).powi(2) / 4.0).sum::<f64>().sqrt();
        let above = length(sum) - mean;
        // Doubled ranks step by two, so half a step is one.
        return Tails {
            below: normal::upper_tail((-above - 1.0) / deviation),
            above: normal::upper_tail((above - 1.0) / deviation),
        };
    }
    // The distribution is symmetric, so the shorter side is enough.
    let short = sum.min(total - sum);
    let chances = sign_sums(ranks, short);
    let within: f64 = chances.iter().sum();
    let beyond = 1.0 - (within - chances[short]);
    if sum == short { Tails { below: within, above: beyond } } else { Tails { below: beyond, above: within } }
}

/// The chances of the positive sums 0 to `limit`.
fn sign_sums(ranks: &[usize], limit: usize) -> Vec<f64> {
    let mut ways = vec![0.0; limit + 1];
    ways[0] = 1.0;
    let (mut reached, mut all) = (0, 1.0);
    for &rank in ranks {
        reached = limit.min(reached + rank);
        let ways = ways.as_mut_slice();
        for sum in (rank..=reached).rev() {
            ways[sum] += ways[sum - rank];
        }
        all *= 2.0;
    }
    ways.into_iter().map(|way| way / all).collect()
}

/// The largest sum of positive ranks of `n` that has a chance of at most `level` to be reached from below.
fn critical(n: usize, level: f64) -> Option<u64> {
    if !(level > 0.0 && level < 0.5) || n == 0 {
        return None;
    }
    if n > EXACT {
        let size = length(n);
        let deviation = (size * (size + 1.0) * (2.0 * size + 1.0) / 24.0).sqrt();
        return super::whole(size * (size + 1.0) / 4.0 - 0.5 - normal::upper_point(level) * deviation);
    }
    let ranks: Vec<usize> = (1..=n).collect();
    super::last_within(&sign_sums(&ranks, n * (n + 1) / 4), level)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Darwin's maize: cross-fertilised plants against self-fertilised ones, in eighths of an inch.
    const MAIZE: [f64; 15] = [49., -67., 8., 16., 6., 23., 28., 41., 14., 29., 56., 24., 75., 60., -48.];

    /// From the definition: mean ranks by counting, and all ways to sign what does not equal the shift.
    fn by_enumeration(values: &[f64], shift: f64) -> Tails {
        let distance = |value: &f64| (value - shift).abs();
        let rank = |value: &f64| {
            let below = values.iter().filter(|other| distance(other) < distance(value)).count();
            let equal = values.iter().filter(|other| (distance(other) - distance(value)).abs() < 1e-9).count();
            length(below) + length(equal).midpoint(1.0)
        };
        let signed: Vec<&f64> = values.iter().filter(|value| distance(value) > 0.0).collect();
        let observed: f64 = signed.iter().filter(|value| ***value > shift).map(|value| rank(value)).sum();
        let ways = 1_usize << signed.len();
        let sums = (0..ways).map(|signs| {
            signed.iter().enumerate().filter(|(at, _)| signs >> at & 1 == 1).map(|(_, value)| rank(value)).sum::<f64>()
        });
        let (mut below, mut above) = (0, 0);
        for sum in sums {
            below += usize::from(sum <= observed);
            above += usize::from(sum >= observed);
        }
        Tails { below: length(below) / length(ways), above: length(above) / length(ways) }
    }

    fn close(one: Tails, other: Tails) -> bool {
        (one.below - other.below).abs() < 1e-12 && (one.above - other.above).abs() < 1e-12
    }

    #[test]
    #[expect(clippy::approx_constant, reason = "one patient's scale factor was 3.14")]
    fn agrees_with_published_values() {
        let five = Paired::new([1., 2., 3., 4., 5.]);
        assert!(close(five.tails(0.0), Tails { below: 1.0, above: 1.0 / 32.0 }));
        assert!((Paired::new(MAIZE).tails(0.0).above - 0.041_26 / 2.0).abs() < 5e-6);
        // Hollander and Wolfe's depression scale factors.
        let before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30];
        let after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29];
        let tails = Paired::new(before.iter().zip(after).map(|(before, after)| before - after)).tails(0.0);
        assert!((tails.above - 0.019_53).abs() < 5e-6);
        for (n, level, expected) in [
            (5, 0.05, 0),
            (10, 0.025, 8),
            (10, 0.005, 3),
            (15, 0.025, 25),
            (15, 0.01, 19),
            (20, 0.025, 52),
            (30, 0.025, 137),
            (50, 0.025, 434),
        ] {
            assert_eq!(critical(n, level), Some(expected), "{n} {level}");
        }
        assert_eq!(critical(5, 0.025), None);
    }

    #[test]
    fn every_number_of_pairs_keeps_the_level_and_uses_it() {
        for n in 7..=60 {
            let level = 0.025 / 3.0;
            let at = usize::try_from(critical(n, level).unwrap()).unwrap();
            let ranks: Vec<usize> = (1..=n).collect();
            let chances = sign_sums(&ranks, at + 1);
            let below: f64 = chances[..=at].iter().sum();
            assert!(below <= level && below + chances[at + 1] > level, "{n}: {below}");
        }
    }

    #[test]
    fn beyond_the_exact_range_the_normal_distribution_goes_on_without_a_step() {
        let ranks: Vec<usize> = (1..=EXACT + 1).collect();
        let level = 0.025 / 3.0;
        let at = usize::try_from(critical(EXACT + 1, level).unwrap()).unwrap();
        let exact: f64 = sign_sums(&ranks, at).iter().sum();
        assert!((exact / level - 1.0).abs() < 0.02, "{exact}");
        let values = (1..=EXACT + 1).map(|value| length(value) * if value % 5 < 2 { -1.0 } else { 1.0 });
        let sum = (1..=EXACT + 1).filter(|value| value % 5 < 2).sum();
        let exact: f64 = sign_sums(&ranks, sum).iter().sum();
        let normal = Paired::new(values).tails(0.0).above;
        assert!((normal / exact - 1.0).abs() < 0.02, "{normal} {exact}");
    }

    #[test]
    fn nothing_says_nothing() {
        for none in [Paired::new([]), Paired::new([f64::NAN, f64::INFINITY])] {
            assert_eq!((none.size(), none.estimate(), none.interval(0.1)), (0, None, None));
            assert_eq!(none.tails(0.0), Tails::SILENT);
        }
        let equal = Paired::new([0.5; 9]);
        assert_eq!(equal.tails(0.5), Tails::SILENT);
        assert_eq!(equal.tails(f64::NAN), Tails::SILENT);
        assert_eq!((equal.estimate(), equal.interval(0.01)), (Some(0.5), Some((0.5, 0.5))));
        assert_eq!(equal.interval(f64::NAN), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn ties_and_zeros_are_as_enumerated(values in prop::collection::vec(-4_i8..=4, 0..10), shift in -2_i8..=2) {
            let values: Vec<f64> = values.into_iter().map(f64::from).collect();
            let tails = Paired::new(values.clone()).tails(f64::from(shift));
            prop_assert!(close(tails, by_enumeration(&values, f64::from(shift))), "{tails:?}");
        }

        #[test]
        fn places_are_those_of_the_sorted_averages(values in prop::collection::vec(-1e9..1e9_f64, 1..25)) {
            let paired = Paired::new(values.clone());
            let mut averages: Vec<f64> = (0..values.len())
                .flat_map(|i| (i..values.len()).map(move |j| (i, j)))
                .map(|(i, j)| values[i].midpoint(values[j]))
                .collect();
            averages.sort_unstable_by(f64::total_cmp);
            let half = averages.len() / 2;
            let median = if averages.len() % 2 == 1 { averages[half] } else { averages[half - 1].midpoint(averages[half]) };
            prop_assert_eq!(paired.estimate(), Some(median));
            let at = critical(values.len(), 0.1).map(|at| usize::try_from(at).unwrap());
            prop_assert_eq!(paired.interval(0.1), at.map(|at| (averages[at], averages[averages.len() - 1 - at])));
        }

        #[test]
        fn interval_and_p_values_agree(values in prop::collection::vec(-10.0..10.0_f64, 7..40), shift in -10.0..10.0_f64) {
            let (paired, level) = (Paired::new(values), 0.025 / 3.0);
            let (low, high) = paired.interval(level).unwrap();
            let estimate = paired.estimate().unwrap();
            prop_assert!(low <= estimate && estimate <= high);
            for shift in [shift, estimate, low.midpoint(high)] {
                let tails = paired.tails(shift);
                prop_assert_eq!(tails.below <= level, high < shift);
                prop_assert_eq!(tails.above <= level, low > shift);
            }
        }
    }
}
