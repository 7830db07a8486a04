//! Ranks, and order statistics of sets too large to write down.

use super::length;

/// Twice the ranks of sorted values: tied values share the mean of their ranks, which may be half a number.
pub(super) fn doubled_ranks(sorted: &[f64]) -> Vec<usize> {
    let mut ranks = Vec::with_capacity(sorted.len());
    // Of sorted values the next one is equal when it is no larger; so are both zeros.
    for tied in sorted.chunk_by(|value, next| next <= value) {
        let first = ranks.len() + 1;
        ranks.resize(ranks.len() + tied.len(), 2 * first + tied.len() - 1);
    }
    ranks
}

/// The `nth` smallest (from 1) of a set of finite numbers of which is known how many are at most some number.
///
/// It halves the ordered set of all floating-point numbers, so 64 countings find it whatever the size of the set.
pub(super) fn nth_smallest(nth: u64, at_most: impl Fn(f64) -> u64) -> f64 {
    let (mut low, mut high) = (key(f64::MIN), key(f64::MAX));
    while low < high {
        let middle = low.midpoint(high);
        if at_most(number(middle)) >= nth {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    // Negative zero equals zero and sorts before it.
    number(low) + 0.0
}

/// The median of a set of `size` numbers, as above.
pub(super) fn median(size: u64, at_most: impl Fn(f64) -> u64) -> f64 {
    let (low, high) = (size.div_ceil(2), size / 2 + 1);
    let lower = nth_smallest(low, &at_most);
    if low == high { lower } else { lower.midpoint(nth_smallest(high, &at_most)) }
}

/// The mean, and the sum of squares about it.
pub(super) fn mean_and_squares(ranks: &[usize]) -> (f64, f64) {
    let mean = length(ranks.iter().sum()) / length(ranks.len());
    (mean, ranks.iter().map(|&rank| (length(rank) - mean).powi(2)).sum())
}

const SIGN: u64 = 1 << 63;

/// Whole numbers in the order of the floating-point numbers.
fn key(number: f64) -> u64 {
    let bits = number.to_bits();
    if bits & SIGN == 0 { bits | SIGN } else { !bits }
}

fn number(key: u64) -> f64 {
    f64::from_bits(if key & SIGN == 0 { !key } else { key & !SIGN })
}
