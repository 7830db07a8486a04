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
            while end > start && low.midpoint(self.sorted[end - 1]) > limit {
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
        let mut distances: Vec<(f64, f64)> = self.sorted.iter().map(|value| ((value - shift).abs(), *value)).collect();
        distances.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let values: Vec<f64> = distances.iter().map(|(distance, _)| *distance).collect();
        let (mut ranks, mut positive) = (Vec::new(), 0);
        for (rank, (_, value)) in order::doubled_ranks(&values).into_iter().zip(distances) {
            if value > shift {
                positive += rank;
            }
            if value > shift || value < shift {
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
    let mut reached = 0;
    for &rank in ranks {
        reached = limit.min(reached + rank);
        for sum in (rank..=reached).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    let all = ranks.iter().fold(1.0, |all, _| all * 2.0);
    for way in &mut ways {
        *way /= all;
    }
    ways
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
