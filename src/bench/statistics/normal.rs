//! The standard normal distribution.

use std::f64::consts::PI;

/// The chance of a value above `z`, to ten digits.
#[must_use]
pub fn upper_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    let density = (-z * z / 2.0).exp() / (2.0 * PI).sqrt();
    if z < 3.0 {
        // The area from 0 to z: z + z^3/3 + z^5/(3*5) + ...
        let terms = std::iter::successors(Some((z, 3.0)), |(term, odd)| Some((term * z * z / odd, odd + 2.0)));
        0.5 - density * terms.take(60).map(|(term, _)| term).sum::<f64>()
    } else {
        // Laplace's continued fraction, from its end.
        density / (1..=60).rev().fold(z, |fraction, k| z + f64::from(k) / fraction)
    }
}

/// The value that is exceeded with the chance `p`.
#[must_use]
pub fn upper_point(p: f64) -> f64 {
    let (mut low, mut high) = (-38.0, 38.0);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if upper_tail(middle) > p {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_tables() {
        for (z, p) in [
            (0.0, 0.5),
            (1.0, 0.158_655_253_931_457_05),
            (1.959_963_984_540_054, 0.025),
            (2.999_999_9, 1.349_898_474_6e-3),
            (3.0, 1.349_898_031_630_094_5e-3),
            (6.0, 9.865_876_450_376_98e-10),
            (20.0, 2.753_624_118_606_233e-89),
        ] {
            assert!((upper_tail(z) / p - 1.0).abs() < 1e-9, "{z}: {}", upper_tail(z));
            assert!((upper_tail(-z) - (1.0 - p)).abs() < 1e-12);
            assert!((upper_point(p) - z).abs() < 1e-6, "{p}: {}", upper_point(p));
        }
    }
}
