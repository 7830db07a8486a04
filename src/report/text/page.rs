//! Lines of bounded width. Everything printed passes through here, so nothing that a peer sent can steer a terminal.

use std::io::{self, Write};

use crate::report::words::clean;

/// A word longer than this is cut even though it cannot be broken: a peer may send anything.
const MAX_WORD: usize = 256;

/// How a piece of text is painted, when colour is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Good,
    Warn,
    Bad,
    Quiet,
}

impl Paint {
    /// The parameters of the SGR sequence (ECMA-48).
    fn parameters(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Warn => Some("33"),
            Self::Bad => Some("1;31"),
            Self::Quiet => Some("2"),
        }
    }
}

/// The paper.
pub(crate) struct Page<'a> {
    out: &'a mut dyn Write,
    width: usize,
    color: bool,
}

impl<'a> Page<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, width: usize, color: bool) -> Self {
        Self { out, width, color }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn blank(&mut self) -> io::Result<()> {
        self.out.write_all(b"\n")
    }

    /// One line of painted pieces, not wrapped, without spaces at its end.
    pub(crate) fn pieces(&mut self, pieces: &[(Paint, &str)]) -> io::Result<()> {
        let last = pieces.iter().rposition(|(_, text)| !text.trim_end().is_empty());
        for (index, (paint, text)) in pieces.iter().enumerate() {
            match last {
                Some(last) if index < last => self.piece(*paint, text)?,
                Some(last) if index == last => self.piece(*paint, text.trim_end())?,
                _ => {}
            }
        }
        self.blank()
    }

    fn piece(&mut self, paint: Paint, text: &str) -> io::Result<()> {
        let text = clean(text);
        match paint.parameters().filter(|_| self.color) {
            // Padding stays outside the paint, so that a line still ends where its text ends.
            Some(parameters) => {
                let word = text.trim_end();
                write!(self.out, "\x1b[{parameters}m{word}\x1b[0m{}", &text[word.len()..])
            }
            None => self.out.write_all(text.as_bytes()),
        }
    }

    /// A line that is never wrapped: what is there to be copied.
    pub(crate) fn verbatim(&mut self, indent: usize, text: &str) -> io::Result<()> {
        for line in text.lines() {
            self.pieces(&[(Paint::Plain, &" ".repeat(indent)), (Paint::Plain, line)])?;
        }
        Ok(())
    }

    /// Text wrapped between words: the first line after `first`, the others indented by `hang` columns.
    pub(crate) fn wrap(&mut self, first: &str, hang: usize, text: &str) -> io::Result<()> {
        self.wrap_after(&[(Paint::Plain, first)], &" ".repeat(hang), text)
    }

    /// Text wrapped between words: the first line after painted pieces, the others after `next`.
    pub(crate) fn wrap_after(&mut self, first: &[(Paint, &str)], next: &str, text: &str) -> io::Result<()> {
        let text = clean(text);
        let used: usize = first.iter().map(|(_, text)| columns(&clean(text))).sum();
        let lines = break_words(&text, self.width.saturating_sub(used), self.width.saturating_sub(columns(next)));
        let mut lines = lines.iter().map(String::as_str);
        let mut pieces = first.to_vec();
        pieces.push((Paint::Plain, lines.next().unwrap_or_default()));
        self.pieces(&pieces)?;
        lines.try_for_each(|line| self.pieces(&[(Paint::Plain, next), (Paint::Plain, line)]))
    }
}

/// Columns that cleaned text takes: one for a character, two for those that terminals draw wide (Unicode Standard Annex
/// 11, the blocks that matter). Marks that combine count too, so a line may end early but never late.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum()
}

fn is_wide(c: char) -> bool {
    matches!(c,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f9ff}' | '\u{20000}'..='\u{3fffd}')
}

/// Breaks text between words: the first line has `first` columns, the others `next`. A word wider than a line stands
/// alone on one.
fn break_words(text: &str, first: usize, next: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut room = first;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        for part in parts(word) {
            let line = lines.len() - 1;
            let gap = usize::from(!lines[line].is_empty());
            let used = columns(&lines[line]) + gap;
            // An empty first line is left behind only if the word would fit better on the next one.
            let stay = used + columns(part) <= room || (gap == 0 && (line > 0 || next <= room));
            if stay {
                lines[line].push_str(&" "[..gap]);
                lines[line].push_str(part);
            } else {
                lines.push(part.to_owned());
                room = next;
            }
        }
    }
    lines
}

/// A word, cut where it is longer than any reader wants.
fn parts(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.char_indices().nth(MAX_WORD).map_or(rest.len(), |(at, _)| at);
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wide_word_stands_alone() {
        assert_eq!(break_words("see https://a.example/long here", 10, 10), ["see", "https://a.example/long", "here"]);
        assert_eq!(break_words("aaaaaaaa b", 4, 10), ["", "aaaaaaaa b"]);
        assert_eq!(break_words("証明書 発行", 8, 8), ["証明書", "発行"], "wide characters take two columns");
    }

    proptest! {
        #[test]
        fn wrapping_keeps_every_word_and_the_width(text in "[a-z ]{0,200}", first in 5_usize..40, next in 5_usize..40) {
            let lines = break_words(&text, first, next);
            let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
            prop_assert_eq!(words, text.split_whitespace().collect::<Vec<_>>());
            for (index, line) in lines.iter().enumerate() {
                let room = if index == 0 { first } else { next };
                prop_assert!(line.len() <= room || !line.contains(' '), "{line:?}");
            }
        }

        #[test]
        fn painted_or_not_the_text_is_the_same(text in any::<String>()) {
            let print = |color| {
                let mut out = Vec::new();
                Page::new(&mut out, 40, color).pieces(&[(Paint::Bad, &text), (Paint::Plain, "  ")]).unwrap();
                String::from_utf8(out).unwrap()
            };
            let plain = print(false);
            prop_assert!(!plain.trim_end_matches('\n').chars().any(char::is_control));
            prop_assert!(!plain.ends_with(" \n"));
            prop_assert_eq!(print(true).replace("\x1b[1;31m", "").replace("\x1b[0m", ""), plain);
        }
    }
}
