//! Counts of failures.

use super::normal;

/// Above this variance of the count its distribution is taken for normal, with continuity correction: the exact one
/// would take millions of steps, and its skewness is below 1/10,000.
const EXACT: f64 = 1e8;

/// Fisher's exact test, one-sided: the chance of at least so many failures of B, given how many failed and how many
/// were tried on both sides together, if both fail alike. Each side is (failed, tried), tried being no less than failed.
#[must_use]
pub fn more_failures(a: (u64, u64), b: (u64, u64)) -> f64 {
    let failed = i128::from(a.0) + i128::from(b.0);
    let (tried_a, tried_b) = (i128::from(a.1.max(a.0)), i128::from(b.1.max(b.0)));
    let tried = tried_a + tried_b;
    let observed = i128::from(b.0);

    let share = |part: i128, whole: i128| wide(part) / wide(whole);
    let variance = wide(failed) * share(tried_b, tried) * share(tried_a, tried) * share(tried - failed, tried - 1);
    if variance > EXACT {
        let mean = wide(failed) * share(tried_b, tried);
        return normal::upper_tail((wide(observed) - 0.5 - mean) / variance.sqrt());
    }

    // Weights relative to the likeliest count, by the ratio of neighbours, until they no longer matter.
    let (least, most) = ((failed - tried_a).max(0), failed.min(tried_b));
    let mode = near(wide(failed + 1) * share(tried_b + 1, tried + 2)).clamp(least, most);
    let up = |x: i128| wide(failed - x) * wide(tried_b - x) / (wide(x + 1) * wide(tried_a - failed + x + 1));
    let (mut all, mut tail) = (0.0, 0.0);
    let mut weight = 1.0_f64;
    for x in mode..=most {
        all += weight;
        if x >= observed {
            tail += weight;
        }
        weight *= up(x);
        if weight < f64::MIN_POSITIVE.max(tail * 1e-18) {
            break;
        }
    }
    weight = 1.0;
    for x in (least..mode).rev() {
        weight /= up(x);
        all += weight;
        if x >= observed {
            tail += weight;
        }
        if weight < all * 1e-18 {
            break;
        }
    }
    (tail / all).min(1.0)
}

#[expect(clippy::cast_precision_loss, reason = "ratios of counts beyond 2^53 need no last digit")]
fn wide(count: i128) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and any start near the mode does")]
fn near(number: f64) -> i128 {
    number as i128
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn choose(n: u64, k: u64) -> f64 {
        (0..k).fold(1.0, |all, i| all * wide(i128::from(n - i)) / wide(i128::from(i + 1)))
    }

    /// By the definition, table by table.
    fn by_enumeration(a: (u64, u64), b: (u64, u64)) -> f64 {
        let failed = a.0 + b.0;
        (b.0..=failed.min(b.1))
            .filter(|of_b| failed - of_b <= a.1)
            .map(|of_b| choose(b.1, of_b) * choose(a.1, failed - of_b) / choose(a.1 + b.1, failed))
            .sum()
    }

    #[test]
    fn agrees_with_the_definition() {
        // Fisher's tea: 3 of 4 cups right, one-sided 17/70.
        assert!((more_failures((1, 4), (3, 4)) - 17.0 / 70.0).abs() < 1e-12);
        for tried_a in 0..9 {
            for tried_b in 0..9 {
                for (a, b) in (0..=tried_a).flat_map(|a| (0..=tried_b).map(move |b| (a, b))) {
                    let expected = by_enumeration((a, tried_a), (b, tried_b));
                    let p = more_failures((a, tried_a), (b, tried_b));
                    assert!((p - expected).abs() < 1e-12, "{a}/{tried_a} {b}/{tried_b}: {p} {expected}");
                }
            }
        }
    }

    #[test]
    fn large_counts_keep_their_precision() {
        // As many tried on both sides: 2^-20 for all 20 failures on one, but for draws without replacement.
        let p = more_failures((0, 1_000_000_000), (20, 1_000_000_000));
        assert!((p * f64::from(1 << 20) - 1.0).abs() < 1e-6, "{p}");
        // Where enumeration ends the normal distribution goes on without a step.
        let exact = more_failures((199_000_000, 399_900_000), (199_020_000, 399_900_000));
        let normal = more_failures((201_000_000, 401_100_000), (201_020_000, 401_100_000));
        assert!(exact > 0.0 && (exact / normal - 1.0).abs() < 0.01, "{exact} {normal}");
    }

    #[test]
    fn nothing_to_compare_says_nothing() {
        for (a, b) in [((0, 0), (0, 0)), ((5, 10), (0, 0)), ((0, 10), (0, 10)), ((0, 0), (7, 10)), ((9, 9), (9, 9))] {
            assert!((more_failures(a, b) - 1.0).abs() < 1e-12, "{a:?} {b:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_counts_give_a_probability(a: (u64, u64), b: (u64, u64)) {
            let p = more_failures(a, b);
            prop_assert!((0.0..=1.0).contains(&p), "{p}");
        }
    }
}
