//! One self-contained page: no scripts, no links to elsewhere, light and dark.

use std::io::{self, Write};

use super::{
    machine,
    matrix::Matrix,
    words::{self, clean},
};
use crate::model::{Assessment, Cell, CellStatus, Discovery, Finding, Record, Severity, Status, ToolInfo};

/// Target names in a finding.
const MAX_TARGETS: usize = 20;

const CSS: &str = "\
:root{color-scheme:light dark;--text:#1b1b1b;--back:#fff;--line:#d0d0d0;--soft:#f4f4f4;--good:#0b6a0b;--warn:#8a5a00;--bad:#b10e1c}
@media(prefers-color-scheme:dark){:root{--text:#e6e6e6;--back:#1b1b1b;--line:#444;--soft:#262626;--good:#6ccb5f;--warn:#e8b64c;--bad:#ff99a4}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:64rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse}th,td{border:1px solid var(--line);padding:.25rem .75rem;text-align:left}
.scroll{overflow-x:auto}code,pre,td{font-family:ui-monospace,monospace;font-size:.9em;overflow-wrap:anywhere}
pre{background:var(--soft);padding:.75rem;overflow-x:auto;overflow-wrap:normal}article{border-top:1px solid var(--line);margin-top:1.5rem}
.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad);font-weight:600}.quiet{opacity:.7}
";

/// Writes the page.
pub(super) fn write(record: &Record, assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    let verdict = &assessment.verdict;
    let word = words::status(verdict.status);
    let class = match verdict.status {
        Status::Clear => "good",
        Status::Degraded | Status::Inconclusive => "warn",
        Status::Blocked => "bad",
    };
    begin((class, word), &verdict.summary, (&record.started_at, record.elapsed_ms), &record.tool, "", out)?;
    table(record, assessment, out)?;
    if let Some(discovery) = &record.context.discovery {
        machine(discovery, out)?;
    }
    list("Notes", words::notes(&record.context).iter().map(|note| escape(note)), out)?;
    list("Not run", words::not_run(record).iter().map(|line| escape(line)), out)?;
    let predictions = assessment.predictions.iter().map(|prediction| {
        let consumer = words::consumer(&prediction.consumer);
        let [consumer, method, reason] = [&*consumer, &prediction.method, &prediction.reason].map(escape);
        format!("{consumer}, method {method}: {reason}")
    });
    list("Tonight", predictions, out)?;
    if !assessment.findings.is_empty() {
        writeln!(out, "<h2>Findings</h2>")?;
    }
    for (index, finding) in assessment.findings.iter().enumerate() {
        self::finding(index + 1, finding, words::far_end(record), out)?;
    }
    writeln!(out, "</body>\n</html>")
}

/// Writes everything until below the verdict: a class for its word, the word, the sentence, when it began and how many
/// milliseconds it took, who measured, and styles beside the usual.
pub(crate) fn begin(
    (class, word): (&str, &str),
    summary: &str,
    (started_at, elapsed_ms): (&str, u64),
    tool: &ToolInfo,
    styles: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    // The policy holds even if a text from a peer ever slipped through unescaped.
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>snapreach: {word}</title>\n<style>\n{CSS}{styles}</style>\n</head>\n<body>"
    )?;
    writeln!(out, "<h1><span class=\"{class}\">{word}</span> {}</h1>", escape(summary))?;
    writeln!(
        out,
        "<p class=\"quiet\">Measured {} in {} by {} {}</p>",
        escape(started_at),
        words::duration(elapsed_ms.saturating_mul(1000)),
        escape(&tool.name),
        escape(&tool.version)
    )
}

fn table(record: &Record, assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    let matrix = Matrix::new(record, assessment, false);
    if matrix.is_empty() {
        return Ok(());
    }
    write!(out, "<h2>Targets</h2>\n<div class=\"scroll\"><table>\n<tr><th scope=\"col\">Target</th>")?;
    for &route in &matrix.routes {
        write!(out, "<th scope=\"col\">{}</th>", escape(&words::route_heading(route, record)))?;
    }
    writeln!(out, "</tr>")?;
    for row in matrix.groups.iter().flat_map(|group| &group.rows) {
        write!(out, "<tr><td>{}</td>", escape(&row.target.to_string()))?;
        for cell in &row.cells {
            write!(out, "<td class=\"{}\">{}</td>", class(*cell), escape(&words::cell(*cell)))?;
        }
        writeln!(out, "</tr>")?;
    }
    writeln!(out, "</table></div>")?;
    match &matrix.rest {
        Some(rest) => writeln!(out, "<p>{}</p>", escape(rest)),
        None => Ok(()),
    }
}

fn machine(discovery: &Discovery, out: &mut dyn Write) -> io::Result<()> {
    list("Machine", machine::facts(discovery).iter().map(|fact| escape(fact)), out)?;
    let rows = machine::rows(discovery);
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h2>Proxies</h2>\n<div class=\"scroll\"><table>")?;
    writeln!(out, "<tr><th scope=\"col\">Consumer</th><th scope=\"col\">Proxy</th><th scope=\"col\">Source</th></tr>")?;
    for row in &rows {
        let [consumer, way, source] = [row.consumer, row.way, &row.remarks()].map(escape);
        writeln!(out, "<tr><td>{consumer}</td><td>{way}</td><td>{source}</td></tr>")?;
    }
    writeln!(out, "</table></div>")
}

fn class(cell: Option<&Cell>) -> &'static str {
    match cell.map(|cell| cell.status) {
        Some(CellStatus::Ok) => "good",
        Some(CellStatus::Warning(_)) => "warn",
        Some(CellStatus::Error(_)) => "bad",
        Some(CellStatus::NotRun) | None => "quiet",
    }
}

fn list(heading: &str, lines: impl Iterator<Item = String>, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return Ok(());
    }
    writeln!(out, "<h2>{heading}</h2>\n<ul>")?;
    lines.try_for_each(|line| writeln!(out, "<li>{line}</li>"))?;
    writeln!(out, "</ul>")
}

fn finding(number: usize, finding: &Finding, far_end: &str, out: &mut dyn Write) -> io::Result<()> {
    let class = match finding.severity {
        Severity::Error => "bad",
        Severity::Warning => "warn",
        Severity::Info => "quiet",
    };
    writeln!(
        out,
        "<article>\n<h3>{number}. <span class=\"{class}\">{}</span> <code>{}</code> {}</h3>\n<p>{}</p>",
        words::severity(finding.severity),
        finding.code,
        escape(&words::between(finding, far_end)),
        escape(&finding.summary)
    )?;
    let attempts = words::attempts(finding).map(|attempts| format!("; {attempts}")).unwrap_or_default();
    writeln!(out, "<p>For the {}{attempts}; {}.</p>", words::team(finding), words::confidence(finding.confidence))?;
    if !finding.targets.is_empty() {
        writeln!(out, "<p><code>{}</code></p>", escape(&words::targets(&finding.targets, MAX_TARGETS)))?;
    }
    if !finding.evidence.is_empty() {
        writeln!(out, "<ul>")?;
        finding.evidence.iter().try_for_each(|line| writeln!(out, "<li><code>{}</code></li>", escape(line)))?;
        writeln!(out, "</ul>")?;
    }
    for remedy in &finding.remedies {
        writeln!(out, "<p><strong>Fix</strong> {}</p>", escape(&remedy.title))?;
        if !remedy.note.is_empty() {
            writeln!(out, "<p>{}</p>", escape(&remedy.note))?;
        }
        block(&remedy.commands, out)?;
        for form in &remedy.forms {
            writeln!(out, "<details><summary>{}</summary>", escape(&form.tool))?;
            block(&form.commands, out)?;
            writeln!(out, "</details>")?;
        }
    }
    writeln!(out, "</article>")
}

/// Lines to be copied, as they are.
fn block(commands: &[String], out: &mut dyn Write) -> io::Result<()> {
    if commands.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = commands.iter().flat_map(|command| command.lines()).map(escape).collect();
    writeln!(out, "<pre>{}</pre>", lines.join("\n"))
}

/// Text without any meaning to HTML.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in clean(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn page(case: &fixtures::Case) -> String {
        let mut out = Vec::new();
        write(&case.record, &case.assessment, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The names of the elements in order, `/` before an end tag; text must not contain a bare `<`.
    fn tags(page: &str) -> Vec<&str> {
        page.split('<')
            .skip(1)
            .map(|after| after.split_once('>').unwrap().0.split(' ').next().unwrap())
            .filter(|name| !matches!(*name, "!DOCTYPE" | "meta"))
            .collect()
    }

    #[test]
    fn elements_are_balanced_whatever_peers_send() {
        for case in
            [fixtures::clear(), fixtures::blocked(), fixtures::interrupted(), fixtures::many(), fixtures::discovered()]
        {
            let page = page(&case);
            let mut open = Vec::new();
            for name in tags(&page) {
                match name.strip_prefix('/') {
                    Some(name) => assert_eq!(open.pop(), Some(name)),
                    None => open.push(name),
                }
            }
            assert_eq!(open, Vec::<&str>::new());
        }
    }

    #[test]
    fn nothing_is_loaded_or_run() {
        let page = page(&fixtures::blocked());
        assert!(page.contains("&lt;script&gt;alert(1)"), "what the proxy sent is shown as text");
        for name in tags(&page) {
            assert!(!matches!(name, "script" | "link" | "img" | "iframe" | "a" | "object"), "{name}");
        }
        assert!(!page.contains("url(") && !page.contains("@import"));
    }
}
