//! The statistics that verdicts rest on: pure functions of numbers.
//!
//! All tests are rank tests: they ask no more of the noise than that it is alike on both sides, so that one slow slice
//! cannot carry a verdict. They are exact where that is affordable, and say from where on they are not.

pub mod exact;
pub mod holm;
pub mod normal;
mod order;
pub mod rank_sum;
pub mod signed_rank;

/// By how much the values of one side lie above those of the other.
pub trait Shift {
    /// How many values it rests on: pairs, or values of the smaller side.
    fn size(&self) -> usize;

    /// The Hodges-Lehmann estimate; `None` without values.
    fn estimate(&self) -> Option<f64>;

    /// The closed interval that misses the true shift with a chance of at most `level` on either side, each by itself.
    /// `None`: so few values cannot give one, or `level` is not between 0 and 0.5.
    fn interval(&self, level: f64) -> Option<(f64, f64)>;

    /// What the values say against a true shift of `shift`.
    fn tails(&self, shift: f64) -> Tails;
}

/// One-sided p-values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tails {
    /// The chance of values as low as these or lower: small when the true shift is below.
    pub below: f64,
    /// The chance of values as high as these or higher: small when the true shift is above.
    pub above: f64,
}

impl Tails {
    /// Nothing speaks against anything.
    const SILENT: Self = Self { below: 1.0, above: 1.0 };
}

/// A count as a real number: exact to 2^53, and far beyond what any of these formulas notices.
#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 need no last digit")]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

/// A length as a real number.
pub(super) fn length(count: usize) -> f64 {
    real(count as u64)
}

/// The last index up to which the chances add up to no more than `level`.
fn last_within(chances: &[f64], level: f64) -> Option<u64> {
    let sums = chances.iter().scan(0.0, |sum, chance| {
        *sum += chance;
        Some(*sum)
    });
    (sums.take_while(|sum| *sum <= level).count() as u64).checked_sub(1)
}

/// The whole number at or below; `None` below zero.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; `as` saturates")]
fn whole(number: f64) -> Option<u64> {
    (number >= 0.0).then_some(number as u64)
}
