//! The report for a ticket, in GitHub's Markdown.

use std::io::{self, Write};

use super::{
    machine,
    matrix::Matrix,
    words::{self, clean},
};
use crate::model::{Assessment, Cell, CellStatus, Discovery, Finding, Record};

/// Target names in a finding.
const MAX_TARGETS: usize = 20;

/// Writes the report.
pub(super) fn write(record: &Record, assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    let verdict = &assessment.verdict;
    writeln!(out, "# snapreach: {}\n\n{}\n", words::status(verdict.status), escape(&verdict.summary))?;
    let tool = &record.tool;
    let seconds = words::duration(record.elapsed_ms.saturating_mul(1000));
    writeln!(
        out,
        "Measured {} in {seconds} by {} {}.",
        escape(&record.started_at),
        escape(&tool.name),
        escape(&tool.version)
    )?;
    table(record, assessment, out)?;
    if let Some(discovery) = &record.context.discovery {
        machine(discovery, out)?;
    }
    list("Notes", words::notes(&record.context).iter().map(|note| escape(note)), out)?;
    list("Not run", words::not_run(record).iter().map(|line| escape(line)), out)?;
    let predictions = assessment.predictions.iter().map(|prediction| {
        let consumer = words::consumer(&prediction.consumer);
        let [consumer, method, reason] = [&*consumer, &prediction.method, &prediction.reason].map(escape);
        format!("**{consumer}**, method {method}: {reason}")
    });
    list("Tonight", predictions, out)?;
    if !assessment.findings.is_empty() {
        writeln!(out, "\n## Findings")?;
    }
    for (index, finding) in assessment.findings.iter().enumerate() {
        self::finding(index + 1, finding, words::far_end(record), out)?;
    }
    Ok(())
}

fn table(record: &Record, assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    let matrix = Matrix::new(record, assessment, false);
    if matrix.is_empty() {
        return Ok(());
    }
    write!(out, "\n## Targets\n\n| Target |")?;
    for &route in &matrix.routes {
        write!(out, " {} |", escape(&words::route_heading(route, record)))?;
    }
    writeln!(out, "\n|---|{}", "---|".repeat(matrix.routes.len()))?;
    for row in matrix.groups.iter().flat_map(|group| &group.rows) {
        write!(out, "| {} |", escape(&row.target.to_string()))?;
        for cell in &row.cells {
            write!(out, " {} |", self::cell(*cell))?;
        }
        writeln!(out)?;
    }
    match &matrix.rest {
        Some(rest) => writeln!(out, "\n{}", escape(rest)),
        None => Ok(()),
    }
}

fn machine(discovery: &Discovery, out: &mut dyn Write) -> io::Result<()> {
    list("Machine", machine::facts(discovery).iter().map(|fact| escape(fact)), out)?;
    let rows = machine::rows(discovery);
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## Proxies\n\n| Consumer | Proxy | Source |\n|---|---|---|")?;
    rows.iter().try_for_each(|row| {
        let [consumer, way, source] = [row.consumer, row.way, &row.remarks()].map(escape);
        writeln!(out, "| {consumer} | {way} | {source} |")
    })
}

fn cell(cell: Option<&Cell>) -> String {
    let text = escape(&words::cell(cell));
    if cell.is_some_and(|cell| matches!(cell.status, CellStatus::Error(_))) { format!("**{text}**") } else { text }
}

fn list(heading: &str, lines: impl Iterator<Item = String>, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        writeln!(out, "\n## {heading}\n")?;
    }
    lines.try_for_each(|line| writeln!(out, "- {line}"))
}

/// Writes one finding with its evidence and remedies.
pub(crate) fn finding(number: usize, finding: &Finding, far_end: &str, out: &mut dyn Write) -> io::Result<()> {
    let severity = words::severity(finding.severity);
    let between = escape(&words::between(finding, far_end));
    writeln!(out, "\n### {number}. {severity}: `{}`, {between}\n\n{}\n", finding.code, escape(&finding.summary))?;
    writeln!(out, "- Who must act: {}", words::team(finding))?;
    writeln!(out, "- How sure: {}", words::confidence(finding.confidence))?;
    if let Some(attempts) = words::attempts(finding) {
        writeln!(out, "- How often: {attempts}")?;
    }
    if !finding.targets.is_empty() {
        writeln!(out, "- Targets: {}", escape(&words::targets(&finding.targets, MAX_TARGETS)))?;
    }
    if !finding.evidence.is_empty() {
        writeln!(out, "\nEvidence:\n")?;
        finding.evidence.iter().try_for_each(|line| writeln!(out, "- {}", code(line)))?;
    }
    for remedy in &finding.remedies {
        writeln!(out, "\nFix: {}", escape(&remedy.title))?;
        if !remedy.note.is_empty() {
            writeln!(out, "\n{}", escape(&remedy.note))?;
        }
        block(&remedy.commands, out)?;
        for form in &remedy.forms {
            writeln!(out, "\n<details><summary>{}</summary>", escape(&form.tool))?;
            block(&form.commands, out)?;
            writeln!(out, "\n</details>")?;
        }
    }
    Ok(())
}

/// Lines to be copied, as they are.
pub(crate) fn block(commands: &[String], out: &mut dyn Write) -> io::Result<()> {
    if commands.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = commands.iter().flat_map(|command| command.lines()).map(clean).collect();
    let fence = "`".repeat(lines.iter().map(|line| longest_run(line)).max().unwrap_or(0).max(2) + 1);
    writeln!(out, "\n{fence}\n{}\n{fence}", lines.join("\n"))
}

/// Text without any meaning to Markdown or HTML. `@` goes as an entity, so that nobody is mentioned.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for (index, c) in clean(text).trim().chars().enumerate() {
        match c {
            // At the beginning of a paragraph these would make it a list, a rule or a heading.
            '-' | '+' | '=' if index == 0 => {
                out.push('\\');
                out.push(c);
            }
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '@' => out.push_str("&commat;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '$' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

/// A code span, which shows text from peers as it came: the delimiter is longer than any run inside.
pub(crate) fn code(text: &str) -> String {
    let text = clean(text);
    let delimiter = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{delimiter}{pad}{text}{pad}{delimiter}")
}

/// The longest run of backticks.
fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_of_a_peer_is_markup(text in any::<String>()) {
            let escaped = escape(&text);
            prop_assert!(!escaped.contains(['<', '>', '\n', '@']));
            let mut chars = escaped.chars();
            while let Some(c) = chars.next() {
                if c == '\\' {
                    prop_assert!(chars.next().is_some_and(|c| c.is_ascii_punctuation()));
                } else {
                    prop_assert!(!"`*_[]|#~$".contains(c), "{escaped}");
                }
            }
        }

        #[test]
        fn a_code_span_ends_only_at_its_end(text in "[`a\\\\ ]{1,30}") {
            let span = code(&text);
            let delimiter = span.len() - span.trim_start_matches('`').len();
            prop_assert!(longest_run(&clean(&text)) < delimiter);
            prop_assert!(span.ends_with(&"`".repeat(delimiter)));
        }
    }
}
