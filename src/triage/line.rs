//! The shapes of the lines in the extension's and the agent's logs.

/// The beginning of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// `YYYY-MM-DD HH:MM:SS.ffffff [name-version]message` (Python 3), `YYYY/MM/DD HH:MM:SS [name-version]message`
    /// (Python 2), or `YYYY/MM/DD HH:MM:SS.ffffff  Info  message ` (while file systems are frozen).
    Message {
        /// When.
        at: Stamp<'a>,
        /// The text.
        text: &'a str,
    },
    /// A line of a message of several; Python 2 repeats the time before it.
    Continued(&'a str),
}

/// Date and time as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp<'a>(&'a str);

impl Stamp<'_> {
    /// As `YYYY-MM-DD HH:MM:SS`, which sorts.
    pub(super) fn normal(self) -> String {
        self.0.replace('/', "-").replace('T', " ")
    }
}

/// Takes a line of an extension's log apart.
pub(super) fn shape(line: &str) -> Shape<'_> {
    let Some((at, rest)) = stamp(line) else { return Shape::Continued(line) };
    if let Some(text) = rest.strip_prefix(' ').and_then(bracketed) {
        // The lines of the frozen time are one message of Python 2, each with its own time inside.
        return Shape::Message { at, text };
    }
    if let Some(text) = frozen(rest) {
        return Shape::Message { at, text };
    }
    match rest.strip_prefix(' ') {
        Some(inner) => match stamp(inner).and_then(|(at, rest)| Some((at, frozen(rest)?))) {
            Some((at, text)) => Shape::Message { at, text },
            None => Shape::Continued(inner),
        },
        None => Shape::Continued(rest),
    }
}

/// Whether this is a line that only an extension's log has.
pub(super) fn is_extension(line: &str) -> bool {
    matches!(shape(line), Shape::Message { .. })
}

/// Level and message of a line of `waagent.log`: `YYYY-MM-DDTHH:MM:SS.ffffffZ LEVEL …`, older agents
/// `YYYY/MM/DD HH:MM:SS.ffffff LEVEL …`.
pub(super) fn agent(line: &str) -> Option<(Stamp<'_>, &str, &str)> {
    let (at, rest) = stamp(line)?;
    let rest = rest.strip_prefix('Z').unwrap_or(rest).strip_prefix(' ')?;
    let (level, message) = rest.split_once(' ')?;
    ["VERBOSE", "INFO", "WARNING", "ERROR"].contains(&level).then_some((at, level, message))
}

/// Whether this is a line that `handle.sh` writes: `Mon Jan  5 03:10:01 UTC 2026- message`.
pub(super) fn is_shell(line: &str) -> bool {
    let Some((date, _)) = line.split_once("- ") else { return false };
    let words: Vec<&str> = date.split_whitespace().collect();
    (5..=8).contains(&words.len())
        && words.iter().any(|word| word.len() == 8 && clock(word.as_bytes()))
        && words.iter().any(|word| word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit()))
}

/// Date and time at the beginning, and the rest after a fraction of a second.
fn stamp(line: &str) -> Option<(Stamp<'_>, &str)> {
    let head = line.as_bytes().get(..19)?;
    let separator = head[4];
    let date = [0, 1, 2, 3, 5, 6, 8, 9].iter().all(|&at| head[at].is_ascii_digit())
        && matches!(separator, b'-' | b'/')
        && head[7] == separator
        && matches!(head[10], b' ' | b'T');
    // Checked bytes are ASCII, so the cuts are between characters.
    if !(date && clock(&head[11..])) {
        return None;
    }
    let rest = &line[19..];
    let rest = match rest.strip_prefix('.') {
        Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => rest,
    };
    Some((Stamp(&line[..19]), rest))
}

/// `HH:MM:SS`
fn clock(text: &[u8]) -> bool {
    text.len() == 8
        && text.iter().zip(b"00:00:00").all(|(b, form)| if *form == b':' { b == form } else { b.is_ascii_digit() })
}

/// The message after `[name-version]`.
fn bracketed(text: &str) -> Option<&str> {
    let (name, message) = text.strip_prefix('[')?.split_once(']')?;
    let (name, version) = name.rsplit_once('-')?;
    (!name.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.')).then_some(message)
}

/// The message after a level between two pairs of spaces.
fn frozen(text: &str) -> Option<&str> {
    let (level, message) = text.strip_prefix("  ")?.split_once("  ")?;
    ["Info", "Warning", "Error", "Verbose"].contains(&level).then(|| message.trim_end())
}

/// The strings in a Python list literal (`['a', "b"]`), unescaped; `None` when it is no such list to its end.
pub(super) fn list_literal(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim().strip_prefix('[')?;
    let mut strings = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        let Some(quote @ ('\'' | '"')) = rest.chars().next() else {
            return (rest == "]").then_some(strings);
        };
        let mut out = String::new();
        let mut chars = rest[1..].char_indices();
        let end = loop {
            match chars.next()? {
                (at, c) if c == quote => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => out.push('\n'),
                    'r' => out.push('\r'),
                    't' => out.push('\t'),
                    c @ ('\\' | '\'' | '"') => out.push(c),
                    other => out.extend(['\\', other]),
                },
                (_, c) => out.push(c),
            }
        };
        strings.push(out);
        rest = &rest[1 + end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Option<(String, &str)> {
        match shape(line) {
            Shape::Message { at, text } => Some((at.normal(), text)),
            Shape::Continued(_) => None,
        }
    }

    #[test]
    fn each_shape_gives_time_and_message() {
        let at = "2026-01-05 03:10:44".to_owned();
        for line in [
            "2026-01-05 03:10:44.123456 [Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0]starting enable",
            "2026-01-05 03:10:44 [Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0]starting enable",
            "2026-01-05 03:10:44.1 [MyBackupTestLinuxInt-0.0]starting enable",
            "2026/01/05 03:10:44 [Microsoft.Azure.RecoveryServices.VMSnapshotLinux-1.0.9120.0]starting enable",
            "2026/01/05 03:10:44.123456  Info  starting enable ",
            "2026-01-05 03:10:44.123456  Error  starting enable ",
            "2026/01/05 09:10:44 2026-01-05 03:10:44.123456  Info  starting enable ",
        ] {
            assert_eq!(read(line), Some((at.clone(), "starting enable")), "{line}");
        }
        for line in [
            "Traceback (most recent call last):",
            "2026/01/05 03:10:44   File \"/usr/lib/python2.7/httplib.py\", line 1, in request",
            "2026-01-05 03:10:44 Failed",
            "2026-01-05T03:10:44.123456Z INFO ExtHandler x",
            "2026-13",
            "",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
        assert_eq!(shape("2026/01/05 03:10:44   File \"x\""), Shape::Continued("  File \"x\""));
    }

    #[test]
    fn the_agent_writes_two_shapes_and_none_is_the_extensions() {
        for line in [
            "2026-01-05T03:10:44.123456Z ERROR ExtHandler [HTTP Failed] x",
            "2026/01/05 03:10:44.123456 ERROR [HTTP Failed] x",
        ] {
            let (_, level, message) = agent(line).unwrap();
            assert!(level == "ERROR" && message.ends_with("[HTTP Failed] x") && !is_extension(line));
        }
        assert_eq!(agent("2026/01/05 03:10:44.123456  Info  x"), None);
        assert!(is_shell("Mon Jan  5 03:10:01 UTC 2026- python3.8 path exists"));
        assert!(!is_shell("- nothing 2026 03:10:01"));
    }

    #[test]
    fn list_literals_are_unescaped() {
        assert_eq!(list_literal(r#"['a\'b\n', "c'd", '']"#).unwrap(), ["a'b\n", "c'd", ""]);
        assert_eq!(list_literal("[]").unwrap(), [""; 0]);
        for text in ["['a'", "[a]", "['a", "nothing", r"['a\"] {
            assert_eq!(list_literal(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "\\PC*", digits in "[-0-9/:TZ. \\[\\]']{0,60}") {
            for text in [line.clone(), digits.clone(), format!("{digits}{line}")] {
                let _ = (shape(&text), agent(&text), is_shell(&text), list_literal(&text));
            }
        }
    }
}
