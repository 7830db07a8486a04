//! What was probably meant.

/// The most similar of `known`, if any is similar enough to be meant.
pub(super) fn of<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, best) = known.iter().map(|&name| (edits(word, name), name)).min()?;
    (distance <= 1 + word.chars().count() / 4).then_some(best)
}

/// The number of insertions, deletions and replacements between two words (Levenshtein distance).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, n) in [("", "", 0), ("", "abc", 3), ("kitten", "sitting", 3), ("abc", "abc", 0), ("ab", "ba", 2)] {
            assert_eq!((edits(a, b), edits(b, a)), (n, n));
        }
    }

    #[test]
    fn only_a_similar_word_is_suggested() {
        assert_eq!(of("helthy", &["healthy", "proxy.silent"]), Some("healthy"));
        assert_eq!(of("something-else", &["healthy"]), None);
        assert_eq!(of("x", &[]), None);
    }
}
