//! The standard normal distribution.

use std::f64::consts::PI;

/// The chance of a value above `z`, to nine digits.
#[must_use]
pub fn upper_tail(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - upper_tail(-z);
    }
    if z < 3.0 {
        // The area from 0 to z: z + z^3/3 + z^5/(3*5) + ...
        let (mut term, mut area, mut odd) = (z, z, 1.0);
        while term > area * f64::EPSILON {
            odd += 2.0;
            term *= z * z / odd;
            area += term;
        }
        0.5 - density(z) * area
    } else {
        // Laplace's continued fraction, from its end.
        density(z) / (1..=60).rev().fold(z, |fraction, k| z + f64::from(k) / fraction)
    }
}

/// The value that is exceeded with the chance `p`, between 0 and 1.
#[must_use]
pub fn upper_point(p: f64) -> f64 {
    if p > 0.5 {
        return -upper_point(1.0 - p);
    }
    // Newton's steps, which approach from below and never pass it, since the tail is convex above zero.
    let mut z = 0.0;
    for _ in 0..1_000 {
        let step = (upper_tail(z) - p) / density(z);
        z += step;
        if step.abs() < 1e-9 {
            break;
        }
    }
    z
}

fn density(z: f64) -> f64 {
    (-z * z / 2.0).exp() / (2.0 * PI).sqrt()
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
            assert!((upper_point(1.0 - p) + z).abs() < 1e-6 || z > 5.0);
        }
    }
}
