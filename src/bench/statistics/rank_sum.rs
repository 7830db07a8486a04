//! Two groups without pairs: the rank-sum test of Wilcoxon, Mann and Whitney, and the shift that belongs to it.

use super::{Shift, Tails, length, normal, order};

/// Up to this product of the sizes the distributions are enumerated (50 and 50 values); beyond, they are taken for
/// normal, with corrections for ties and continuity, which is then off by less than a hundredth of a usual level.
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
