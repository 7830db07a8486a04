//! The first bytes of something a peer sent.

use serde::{Deserialize, Serialize};

use super::Redactor;

/// The beginning of a byte stream, kept as readable text.
///
/// Bytes that are not printable ASCII, tab, CR or LF appear as `\xNN`, and a backslash as `\\`, so that the text is
/// safe on a terminal and loses nothing: [`Excerpt::to_bytes`] gives the bytes back.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Excerpt {
    /// The kept bytes, escaped.
    pub text: String,
    /// How many bytes arrived, kept or not.
    pub total_bytes: u64,
    /// Whether bytes beyond the kept ones arrived.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

impl Excerpt {
    /// Keeps at most `limit` of `bytes`, which are the beginning of `total` bytes.
    #[must_use]
    pub fn new(bytes: &[u8], limit: usize, total: u64) -> Self {
        let kept = &bytes[..bytes.len().min(limit)];
        Self { text: escape(kept), total_bytes: total, truncated: total > kept.len() as u64 }
    }

    /// Keeps all of `bytes`.
    #[must_use]
    pub fn whole(bytes: &[u8]) -> Self {
        Self::new(bytes, bytes.len(), bytes.len() as u64)
    }

    /// The kept bytes themselves (a redacted excerpt gives the redacted text).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        unescape(&self.text)
    }

    /// Whether nothing arrived.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total_bytes == 0
    }

    /// Removes secrets from the kept text.
    pub fn scrub(&mut self, redactor: &Redactor) {
        redactor.scrub(&mut self.text);
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\t' | b'\r' | b'\n' | 0x20..=0x7e => out.push(char::from(byte)),
            _ => {
                out.push_str("\\x");
                for nibble in [byte >> 4, byte & 15] {
                    out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
                }
            }
        }
    }
    out
}

fn unescape(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'\\').then(|| &bytes[at + 1..]);
        match escaped {
            Some([b'\\', ..]) => {
                out.push(b'\\');
                at += 2;
            }
            Some([b'x', high, low, ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |c: u8| char::from(c).to_digit(16).unwrap_or(0);
                out.push(u8::try_from(digit(*high) * 16 + digit(*low)).unwrap_or(0));
                at += 4;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_byte_string_survives(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let excerpt = Excerpt::whole(&bytes);
            prop_assert_eq!(excerpt.to_bytes(), bytes);
            prop_assert!(excerpt.text.chars().all(|c| c == '\t' || c == '\r' || c == '\n' || (' '..='~').contains(&c)));
        }

        #[test]
        fn unescaping_never_panics(text in "\\PC*") {
            let _ = unescape(&text);
        }
    }

    #[test]
    fn the_limit_holds_and_says_so() {
        let excerpt = Excerpt::new(b"abcdef", 4, 1000);
        assert_eq!(excerpt, Excerpt { text: "abcd".into(), total_bytes: 1000, truncated: true });
    }
}
