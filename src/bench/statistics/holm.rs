//! Several questions at once.

/// Which hypotheses are rejected, in the order given, so that the chance of any wrong rejection is at most `level`
/// whatever the p-values have to do with each other (Holm 1979: the smallest is held against `level` over the number of
/// hypotheses, the next against `level` over one less, until one stands). A p-value that is no number rejects nothing.
#[must_use]
pub fn rejected(p_values: &[f64], level: f64) -> Vec<bool> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut rejected = vec![false; p_values.len()];
    for (done, &index) in order.iter().enumerate() {
        let standing = super::length(p_values.len() - done);
        if p_values[index] * standing <= level {
            rejected[index] = true;
        } else {
            break;
        }
    }
    rejected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_down_until_one_stands() {
        assert_eq!(rejected(&[0.01, 0.04, 0.03, 0.005], 0.05), [true, false, false, true]);
        assert_eq!(rejected(&[0.02, 0.01], 0.02), [true, true]);
        assert_eq!(rejected(&[0.011, 0.011], 0.02), [false, false]);
        assert_eq!(rejected(&[f64::NAN, 0.001], 0.01), [false, true]);
        assert_eq!(rejected(&[0.001, 0.001], f64::NAN), [false, false]);
        assert!(rejected(&[], 0.05).is_empty());
    }
}
