//! Two groups without pairs: the rank-sum test of Wilcoxon, Mann and Whitney, and the shift that belongs to it.

use super::{Shift, Tails, length, normal, order};

/// Up to this product of the sizes the distributions are enumerated (50 and 50 values); beyond, they are taken for
/// normal, with corrections for ties and continuity, which is then off by a few hundredths of themselves.
const EXACT: usize = 2_500;

/// Two groups of values, alike but for a shift.
///
/// P-values are exact given the ties: of all ways to choose the second group from these very ranks. Intervals come from
/// the ordered differences, as those of pairs do.
#[derive(Debug, Clone, PartialEq)]
pub struct Unpaired {
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Unpaired {
    /// The shift from `a` to `b`; what is not finite is left out.
    #[must_use]
    pub fn new(a: impl IntoIterator<Item = f64>, b: impl IntoIterator<Item = f64>) -> Self {
        let [a, b] = [a.into_iter().collect(), b.into_iter().collect()].map(|mut values: Vec<f64>| {
            values.retain(|value| value.is_finite());
            values.sort_unstable_by(f64::total_cmp);
            values
        });
        Self { a, b }
    }

    fn differences(&self) -> u64 {
        self.a.len() as u64 * self.b.len() as u64
    }

    fn differences_at_most(&self, limit: f64) -> u64 {
        let mut count = 0;
        let mut end = 0;
        for low in &self.a {
            while end < self.b.len() && self.b[end] - low <= limit {
                end += 1;
            }
            count += end as u64;
        }
        count
    }
}

impl Shift for Unpaired {
    fn size(&self) -> usize {
        self.a.len().min(self.b.len())
    }

    fn estimate(&self) -> Option<f64> {
        (self.size() > 0).then(|| order::median(self.differences(), |limit| self.differences_at_most(limit)))
    }

    fn interval(&self, level: f64) -> Option<(f64, f64)> {
        let below = critical(self.a.len(), self.b.len(), level)?;
        let nth = |nth| order::nth_smallest(nth, |limit| self.differences_at_most(limit));
        Some((nth(below + 1), nth(self.differences() - below)))
    }

    fn tails(&self, shift: f64) -> Tails {
        if self.size() == 0 || shift.is_nan() {
            return Tails::SILENT;
        }
        let mut pooled: Vec<(f64, bool)> = self.a.iter().map(|value| (*value, false)).collect();
        pooled.extend(self.b.iter().map(|value| (value - shift, true)));
        pooled.sort_unstable_by(|x, y| x.0.total_cmp(&y.0));
        let values: Vec<f64> = pooled.iter().map(|(value, _)| *value).collect();
        let ranks = order::doubled_ranks(&values);
        // The sum of the smaller group's ranks is as telling, and cheaper.
        let of_b = self.b.len() <= self.a.len();
        let sum = ranks.iter().zip(&pooled).filter(|(_, (_, is_b))| *is_b == of_b).map(|(rank, _)| rank).sum();
        let tails = choice_tails(&ranks, self.size(), sum);
        if of_b { tails } else { Tails { below: tails.above, above: tails.below } }
    }
}

/// The chances that `size` of the doubled ranks, chosen at random, add up to at most and to at least `sum`.
fn choice_tails(ranks: &[usize], size: usize, sum: usize) -> Tails {
    let others = ranks.len() - size;
    if size * others > EXACT {
        let (mean, squares) = order::mean_and_squares(ranks);
        let pool = length(ranks.len());
        let deviation = (squares * length(size) * length(others) / (pool * (pool - 1.0))).sqrt();
        if deviation == 0.0 {
            return Tails::SILENT;
        }
        let above = length(sum) - mean * length(size);
        return Tails {
            below: normal::upper_tail((-above - 1.0) / deviation),
            above: normal::upper_tail((above - 1.0) / deviation),
        };
    }
    // With ties the distribution need not be symmetric: the upper tail is the lower one of the ranks counted from above.
    let top = 2 * (ranks.len() + 1);
    let mirrored: Vec<usize> = ranks.iter().map(|rank| top - rank).collect();
    Tails { below: at_most(ranks, size, sum), above: at_most(&mirrored, size, top * size - sum) }
}

fn at_most(ranks: &[usize], size: usize, sum: usize) -> f64 {
    // Without ties all doubled ranks are even.
    if ranks.iter().all(|rank| rank % 2 == 0) {
        let halves: Vec<usize> = ranks.iter().map(|rank| rank / 2).collect();
        return choice_sums(&halves, size, sum / 2).iter().sum::<f64>().min(1.0);
    }
    choice_sums(ranks, size, sum).iter().sum::<f64>().min(1.0)
}

/// The chances of the sums 0 to `limit` of `size` ranks chosen at random.
fn choice_sums(ranks: &[usize], size: usize, limit: usize) -> Vec<f64> {
    // ways[k][s]: how many choices of k of the ranks so far have the sum s.
    let mut ways = vec![vec![0.0; limit + 1]; size + 1];
    ways[0][0] = 1.0;
    for (done, &rank) in ranks.iter().enumerate() {
        for chosen in (0..size.min(done + 1)).rev() {
            let (fewer, more) = ways.split_at_mut(chosen + 1);
            for (to, from) in more[0].iter_mut().skip(rank).zip(&fewer[chosen]) {
                *to += from;
            }
        }
    }
    let all = (0..size).fold(1.0, |all, k| all * length(ranks.len() - k) / length(k + 1));
    let mut chances = ways.swap_remove(size);
    for chance in &mut chances {
        *chance /= all;
    }
    chances
}

/// The largest number of differences below a shift that has a chance of at most `level` to be reached from below.
fn critical(n: usize, m: usize, level: f64) -> Option<u64> {
    if !(level > 0.0 && level < 0.5) || n == 0 || m == 0 {
        return None;
    }
    if n * m > EXACT {
        let (a, b) = (length(n), length(m));
        let deviation = (a * b * (a + b + 1.0) / 12.0).sqrt();
        return super::whole(a * b / 2.0 - 0.5 - normal::upper_point(level) * deviation);
    }
    let ranks: Vec<usize> = (1..=n + m).collect();
    let size = n.min(m);
    let least = size * (size + 1) / 2;
    super::last_within(&choice_sums(&ranks, size, least + n * m / 2)[least..], level)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// From the definition: mean ranks by counting, and all ways to choose the second group.
    fn by_enumeration(a: &[f64], b: &[f64], shift: f64) -> Tails {
        let pooled: Vec<f64> = a.iter().copied().chain(b.iter().map(|value| value - shift)).collect();
        let rank = |value: f64| {
            let below = pooled.iter().filter(|other| **other < value).count();
            let equal = pooled.iter().filter(|other| (**other - value).abs() < 1e-9).count();
            length(below) + length(equal).midpoint(1.0)
        };
        let observed: f64 = pooled[a.len()..].iter().map(|value| rank(*value)).sum();
        let (mut below, mut above, mut all) = (0, 0, 0);
        for chosen in (0_usize..1 << pooled.len()).filter(|chosen| chosen.count_ones() as usize == b.len()) {
            let group = pooled.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1);
            let sum: f64 = group.map(|(_, value)| rank(*value)).sum();
            below += usize::from(sum <= observed);
            above += usize::from(sum >= observed);
            all += 1;
        }
        Tails { below: length(below) / length(all), above: length(above) / length(all) }
    }

    #[test]
    fn agrees_with_published_values() {
        // Hollander and Wolfe's permeability of membranes.
        let term = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46];
        let early = [1.15, 0.88, 0.90, 0.74, 1.21];
        assert!((Unpaired::new(early, term).tails(0.0).above - 0.127_2).abs() < 5e-5);
        assert!((Unpaired::new(term, early).tails(0.0).below - 0.127_2).abs() < 5e-5);
        assert!((Unpaired::new(early, term).estimate().unwrap() - 0.305).abs() < 1e-9);
        for (n, m, level, expected) in
            [(5, 5, 0.025, 2), (10, 10, 0.025, 23), (10, 10, 0.005, 16), (8, 14, 0.025, 26), (20, 20, 0.025, 127)]
        {
            assert_eq!(critical(n, m, level), Some(expected), "{n} {m} {level}");
            assert_eq!(critical(m, n, level), Some(expected), "{m} {n} {level}");
        }
        assert_eq!(critical(3, 3, 0.025), None);
    }

    #[test]
    fn beyond_the_exact_range_the_normal_distribution_goes_on_without_a_step() {
        let level = 0.025 / 3.0;
        let (n, m) = (50, 51);
        let at = usize::try_from(critical(n, m, level).unwrap()).unwrap();
        let ranks: Vec<usize> = (1..=n + m).collect();
        let least = n * (n + 1) / 2;
        let exact: f64 = choice_sums(&ranks, n, least + at).iter().sum();
        assert!((exact / level - 1.0).abs() < 0.05, "{exact}");
        let shifted = Unpaired::new((0..n).map(length), (0..m).map(|value| length(value) + 7.75));
        // The lower group's ranks: one for itself, one for each of both groups below it.
        let below = |value: f64| shifted.a.iter().chain(&shifted.b).filter(|other| **other < value).count();
        let sum = shifted.a.iter().map(|value| 1 + below(*value)).sum();
        let exact: f64 = choice_sums(&ranks, n, sum).iter().sum();
        let normal = shifted.tails(0.0).above;
        assert!((normal / exact - 1.0).abs() < 0.05, "{normal} {exact}");
    }

    #[test]
    fn nothing_says_nothing() {
        for none in [Unpaired::new([], [1.0]), Unpaired::new([1.0, 2.0], [f64::NAN])] {
            assert_eq!((none.size(), none.estimate(), none.interval(0.1)), (0, None, None));
            assert_eq!(none.tails(0.0), Tails::SILENT);
        }
        for size in [9, 90] {
            let equal = Unpaired::new(vec![0.5; size], vec![0.5; size]);
            assert_eq!(equal.tails(0.0), Tails::SILENT);
            assert_eq!((equal.estimate(), equal.interval(0.01)), (Some(0.0), Some((0.0, 0.0))));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn ties_are_as_enumerated(
            a in prop::collection::vec(-3_i8..=3, 1..6),
            b in prop::collection::vec(-3_i8..=3, 1..6),
            shift in -1_i8..=1,
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = (a.into_iter().map(f64::from).collect(), b.into_iter().map(f64::from).collect());
            let (tails, expected) = (Unpaired::new(a.clone(), b.clone()).tails(f64::from(shift)), by_enumeration(&a, &b, f64::from(shift)));
            prop_assert!((tails.below - expected.below).abs() < 1e-12, "{tails:?} {expected:?}");
            prop_assert!((tails.above - expected.above).abs() < 1e-12, "{tails:?} {expected:?}");
        }

        #[test]
        fn interval_and_p_values_agree(
            a in prop::collection::vec(-10.0..10.0_f64, 5..14),
            b in prop::collection::vec(-10.0..10.0_f64, 5..14),
            shift in -10.0..10.0_f64,
        ) {
            let mut differences: Vec<f64> = b.iter().flat_map(|b| a.iter().map(move |a| b - a)).collect();
            differences.sort_unstable_by(f64::total_cmp);
            let (unpaired, level) = (Unpaired::new(a, b), 0.025 / 3.0);
            let (low, high) = unpaired.interval(level).unwrap();
            let estimate = unpaired.estimate().unwrap();
            let half = differences.len() / 2;
            prop_assert!(differences[(differences.len() - 1) / 2] <= estimate && estimate <= differences[half]);
            prop_assert!(low <= estimate && estimate <= high && differences.contains(&low) && differences.contains(&high));
            for shift in [shift, estimate + 0.001, low.midpoint(high)] {
                let tails = unpaired.tails(shift);
                prop_assert_eq!(tails.below <= level, high < shift);
                prop_assert_eq!(tails.above <= level, low > shift);
            }
        }
    }
}
