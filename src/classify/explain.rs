//! The pages of `snapreach explain` for the terminal.

use std::fmt::Write as _;

use super::catalogue;

/// The page of a code as terminal text, wrapped to `width` columns (at least 20; commands are never wrapped), headings
/// bold when `color`. `None` for a code that does not exist.
#[must_use]
pub fn page(code: &str, color: bool, width: usize) -> Option<String> {
    Some(render(catalogue::find(code)?.page, color, width.max(20)))
}

/// All codes with their titles, grouped by layer, 80 columns.
#[must_use]
pub fn index() -> String {
    let mut text = String::from("Finding codes. `snapreach explain CODE` shows the page of one.\n");
    let mut group = "";
    for entry in catalogue::entries() {
        let layer = entry.code.0.split('.').next().unwrap_or_default();
        if layer != group {
            group = layer;
            let _ = write!(text, "\n{layer}: {}\n", about(layer));
        }
        let _ = writeln!(text, "  {:22}  {}", entry.code.0, entry.title);
    }
    text.push_str("\n`snapreach explain exit-codes` lists the exit codes.\n");
    text
}

/// The exit codes of all commands.
#[must_use]
pub fn exit_codes() -> String {
    "\
Exit codes, the same for every command

    0  Clear, or every expectation was met, or the gate passed. Warnings do not
       change it, unless --strict was given.
    1  Blocked, or an expectation failed, or a regression was proved, or a proxy
       fails a case of level must. With --strict a degraded verdict as well.
    2  The command line, a configuration or an input file is wrong. The message
       names the file, the line, the key and what is allowed. Nothing was probed.
    3  Inconclusive: it could not be measured, or the statistics cannot decide.
  130  Interrupted. What was measured until then is reported all the same.

A script that only wants to know whether backup traffic gets through tests for 0.
Treat 3 as \"ask again\", never as a pass; 2 will not go away by itself.
"
    .to_owned()
}

/// The code that was probably meant by a misspelt one, if one is near enough.
#[must_use]
pub fn suggest(code: &str) -> Option<&'static str> {
    let typed = normalised(code);
    // The name alone, without its layer, is what people remember.
    let best = catalogue::entries()
        .iter()
        .map(|entry| entry.code.0)
        .map(|known| {
            let name = known.split_once('.').map_or(known, |(_, name)| name);
            let alone = if typed.contains('.') { usize::MAX } else { distance(&typed, name) };
            (distance(&typed, known).min(alone), known)
        })
        .min_by_key(|&(distance, _)| distance)?;
    // A third of the letters may be wrong, three at most.
    (best.0 <= (typed.chars().count() / 3).min(3)).then_some(best.1)
}

/// What a group of codes is about.
fn about(layer: &str) -> &'static str {
    match layer {
        "local" => "this machine, before any packet",
        "config" => "proxy and agent settings on this machine",
        "dns" => "name lookup",
        "tcp" => "connecting",
        "path" => "what the network in between does",
        "proxy" => "the proxy's own answer",
        "tunnel" => "after the proxy has said 200",
        "tls" => "the TLS handshake",
        "http" => "the HTTP request and its answer",
        "storage" => "what Azure Storage itself says",
        "host" => "wire server and instance metadata",
        "consumer" => "what the agent or the extension would do",
        "nsg" => "network security groups, evaluated offline",
        "transfer" => "data that `bench` moves",
        "triage" => "what the extension's own logs say",
        "meta" => "about the measurement",
        _ => "other",
    }
}

/// Lower case, underscores for hyphens and spaces; the slug of a lab scenario becomes its code.
fn normalised(code: &str) -> String {
    // No code is longer than 50 characters; more would only make the comparison slow.
    let code: String = code.trim().chars().take(80).map(|c| c.to_ascii_lowercase()).collect();
    let code = code.replace(['-', ' '], "_");
    if code.contains('.') {
        return code;
    }
    match code.split_once('_') {
        Some((layer, name)) if about(layer) != "other" => format!("{layer}.{name}"),
        _ => code,
    }
}

/// Edit distance in which swapping two neighbours counts as one (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().collect(), b.chars().collect());
    let mut before = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut cost = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// Renders the Markdown of the pages: headings, paragraphs, lists with `- `, fenced code, inline code.
fn render(markdown: &str, color: bool, width: usize) -> String {
    let mut out = String::new();
    let mut block = Block::None;
    for line in markdown.lines() {
        if let Block::Code = block {
            if line.starts_with("```") {
                block = Block::None;
            } else {
                // Commands stay as they are, to be copied; the indent sets them off.
                let _ = writeln!(out, "{}", format!("    {line}").trim_end());
            }
            continue;
        }
        if let Some(text) = line.strip_prefix("- ") {
            let separate = !matches!(block, Block::Item(_));
            block.flush(&mut out, width);
            if separate {
                gap(&mut out);
            }
            block = Block::Item(text.to_owned());
        } else if let Some(heading) = line.strip_prefix('#') {
            block.flush(&mut out, width);
            gap(&mut out);
            let heading = heading.trim_start_matches('#').trim();
            let _ = if color { writeln!(out, "\x1b[1m{heading}\x1b[0m") } else { writeln!(out, "{heading}") };
        } else if line.starts_with("```") {
            block.flush(&mut out, width);
            gap(&mut out);
            block = Block::Code;
        } else if line.trim().is_empty() {
            block.flush(&mut out, width);
        } else {
            match &mut block {
                Block::Paragraph(text) | Block::Item(text) => {
                    text.push(' ');
                    text.push_str(line.trim());
                }
                _ => {
                    gap(&mut out);
                    block = Block::Paragraph(line.trim().to_owned());
                }
            }
        }
    }
    block.flush(&mut out, width);
    out
}

/// What is being collected.
enum Block {
    None,
    Paragraph(String),
    Item(String),
    Code,
}

impl Block {
    /// Writes the block and leaves none.
    fn flush(&mut self, out: &mut String, width: usize) {
        match std::mem::replace(self, Self::None) {
            Self::None | Self::Code => {}
            Self::Paragraph(text) => wrap(out, &text, "  ", "  ", width),
            Self::Item(text) => wrap(out, &text, "  - ", "    ", width),
        }
    }
}

/// One empty line before a new block, unless the text begins here.
fn gap(out: &mut String) {
    if !out.is_empty() && !out.ends_with("\n\n") {
        out.push('\n');
    }
}

/// Fills lines up to `width`; a longer word stands alone.
fn wrap(out: &mut String, text: &str, first: &str, rest: &str, width: usize) {
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > width {
            let _ = writeln!(out, "{line}");
            rest.clone_into(&mut line);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{catalogue::entries, codes},
        *,
    };

    #[test]
    fn every_page_renders_with_all_its_words_and_commands() {
        for entry in entries() {
            let text = page(entry.code.0, false, 80).unwrap();
            assert!(text.starts_with(entry.code.0), "{text}");
            let words = |text: &str| -> Vec<String> {
                text.split_whitespace()
                    .filter(|word| !word.starts_with("```") && !matches!(*word, "#" | "##"))
                    .map(str::to_owned)
                    .collect()
            };
            assert_eq!(words(&text), words(entry.page), "{}", entry.code);
        }
    }

    #[test]
    fn prose_keeps_to_the_width_and_commands_stay_whole() {
        let rendered = render(
            "# t\n\nsome words that are `too long` for it\n- one\n  two\n- x\n```sh\na  very long command with  gaps\n```\nend\n",
            false,
            20,
        );
        assert_eq!(
            rendered,
            "t\n\n  some words that\n  are `too long` for\n  it\n\n  - one two\n  - x\n\n    a  very long command with  gaps\n\n  end\n"
        );
    }

    #[test]
    fn only_headings_are_bold_and_only_with_color() {
        let colored = page("tcp.refused", true, 80).unwrap();
        let bold: Vec<_> = colored.lines().filter(|line| line.contains('\x1b')).collect();
        assert_eq!(bold.len(), 5);
        assert_eq!(bold[1], "\x1b[1mWhat it means\x1b[0m");
        assert!(!page("tcp.refused", false, 80).unwrap().contains('\x1b'));
    }

    #[test]
    fn an_unknown_code_has_no_page() {
        assert_eq!(page("tcp.nothing", false, 80), None);
    }

    #[test]
    fn the_index_lists_every_code_once_within_80_columns() {
        let text = index();
        for code in codes::ALL {
            assert_eq!(text.lines().filter(|line| line.split_whitespace().next() == Some(code.0)).count(), 1, "{code}");
        }
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(!text.contains(": other\n"), "a group has no heading");
    }

    #[test]
    fn the_exit_codes_are_all_there_within_80_columns() {
        let text = exit_codes();
        let listed: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("  "))
            .filter_map(|line| line.split_whitespace().next()?.parse::<u8>().ok())
            .collect();
        assert_eq!(listed, [0, 1, 2, 3, 130]);
        assert!(text.lines().all(|line| line.len() <= 81), "{text}");
    }

    #[test]
    fn typos_find_their_code_and_nonsense_does_not() {
        for (typed, meant) in [
            ("tcp.conect_timeout", "tcp.connect_timeout"),
            ("TCP.Connect-Timeout", "tcp.connect_timeout"),
            ("tcp-connect-timeout", "tcp.connect_timeout"),
            ("connect_timeout", "tcp.connect_timeout"),
            ("dns.nxdomian", "dns.nxdomain"),
            ("proxy.port_deneid", "proxy.port_denied"),
            ("nsg.denyed", "nsg.denied"),
        ] {
            assert_eq!(suggest(typed), Some(meant), "{typed}");
        }
        for nonsense in ["", "x", "weather", "tcp", "😀😀😀"] {
            assert_eq!(suggest(nonsense), None, "{nonsense}");
        }
        for code in codes::ALL {
            assert_eq!(suggest(code.0), Some(code.0));
        }
    }

    proptest! {
        #[test]
        fn nothing_typed_panics(typed in "\\PC{0,120}", markdown in "[-#` \\na-z]{0,200}", width in 0_usize..200) {
            let _ = suggest(&typed);
            let _ = page(&typed, true, width);
            let _ = render(&markdown, false, width);
        }
    }
}
