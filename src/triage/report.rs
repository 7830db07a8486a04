//! A triage as text, Markdown or JSON.

use std::io::{self, Write};

use serde::Serialize;

use super::{Attempt, Disk, Source, Triage, judge::status_words};
use crate::{
    model::{Finding, Outcome, SCHEMA, Status, ToolInfo, Verdict},
    report::{Format, Page, Paint, Style, escape, markdown_finding, plural, pretty, text_findings},
};

/// The formats that a triage can be reported in.
pub const FORMATS: [Format; 3] = [Format::Text, Format::Json, Format::Markdown];

/// Below this width nothing readable can be laid out.
const MIN_WIDTH: usize = 40;

/// Attempts in the timeline of the text report; `-v` shows all.
const MAX_SHOWN: usize = 10;

/// Writes the report.
///
/// # Errors
/// When `out` does, or when there is no such report of a triage (see [`FORMATS`]).
pub fn write(format: Format, triage: &Triage, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => text(triage, style, out),
        Format::Markdown => markdown(triage, out),
        Format::Json => pretty(&Document::new(triage), out),
        other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("a triage has no report as {other}"))),
    }
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    tool: ToolInfo,
    kind: &'static str,
    verdict: &'a Verdict,
    attempts: &'a [Attempt],
    findings: &'a [Finding],
    sources: &'a [Source],
    dropped_attempts: u64,
}

impl<'a> Document<'a> {
    fn new(triage: &'a Triage) -> Self {
        Self {
            schema: SCHEMA,
            tool: ToolInfo::default(),
            kind: "triage",
            verdict: &triage.verdict,
            attempts: &triage.attempts,
            findings: &triage.findings,
            sources: &triage.sources,
            dropped_attempts: triage.dropped_attempts,
        }
    }
}

// ---- text

fn text(triage: &Triage, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let page = &mut Page::new(out, style.width.max(MIN_WIDTH), style.color);
    let (paint, word) = word(triage.verdict.status);
    page.wrap_after(&[(paint, word), (Paint::Plain, "  ")], &" ".repeat(word.len() + 2), &triage.verdict.summary)?;
    if !triage.attempts.is_empty() {
        page.blank()?;
    }
    let shown = if style.verbose > 0 { triage.attempts.len() } else { MAX_SHOWN };
    let hidden = triage.attempts.len().saturating_sub(shown);
    if hidden > 0 {
        page.wrap("  ", 2, &format!("… {} before these; `-v` shows all", plural(hidden, "attempt")))?;
    }
    for attempt in &triage.attempts[hidden..] {
        let (paint, word) = outcome(attempt);
        let when = format!("  {:<19}  ", attempt.when().unwrap_or("time unknown"));
        let word = format!("{word:<8}");
        page.wrap_after(&[(Paint::Plain, &when), (paint, &word)], &" ".repeat(31), &line(attempt))?;
    }
    if let Some(last) = triage.attempts.last() {
        details(page, last)?;
    }
    text_findings(page, &triage.findings, "storage")?;
    page.blank()?;
    triage.sources.iter().try_for_each(|source| page.wrap("  Read  ", 8, &read(source)))?;
    if let Some(first) = triage.findings.first() {
        page.blank()?;
        page.wrap("  ", 2, &format!("`snapreach explain {}` says more; `snapreach check` measures.", first.code))?;
    }
    Ok(())
}

/// The last attempt: what it was told, what the host answered, and each disk.
fn details(page: &mut Page<'_>, attempt: &Attempt) -> io::Result<()> {
    page.blank()?;
    facts(attempt).iter().try_for_each(|(name, fact)| page.wrap(&format!("  {name:<9}"), 11, fact))?;
    for (disk, number) in attempt.disks.iter().zip(1..) {
        let result = result(disk);
        let paint = if disk.taken == Some(true) { Paint::Good } else { Paint::Bad };
        let name = format!("  disk {number:<3} ");
        page.wrap_after(
            &[(Paint::Plain, &name), (paint, &result), (Paint::Plain, "  ")],
            "           ",
            &disk_name(disk),
        )?;
    }
    Ok(())
}

fn word(status: Status) -> (Paint, &'static str) {
    match status {
        Status::Clear => (Paint::Good, "SUCCEEDED"),
        Status::Degraded => (Paint::Warn, "SUCCEEDED, WITH WARNINGS"),
        Status::Blocked => (Paint::Bad, "FAILED"),
        Status::Inconclusive => (Paint::Warn, "CANNOT TELL"),
    }
}

fn outcome(attempt: &Attempt) -> (Paint, &'static str) {
    match attempt.outcome {
        Some(Outcome::Success) => (Paint::Good, "ok"),
        Some(Outcome::Failure) => (Paint::Bad, "failed"),
        _ => (Paint::Warn, "no end"),
    }
}

// ---- words for text and Markdown

/// An attempt in one line: way, numbers, and what the disks say.
fn line(attempt: &Attempt) -> String {
    let mut parts: Vec<String> = attempt.way().map(|way| way.to_string()).into_iter().collect();
    let name = |code: i32, name: Option<&str>| name.map_or_else(|| code.to_string(), |name| format!("{code} {name}"));
    parts.extend(attempt.code.map(|code| format!("code {}", name(code, attempt.code_name))));
    if attempt.health_code != attempt.code {
        parts.extend(attempt.health_code.map(|code| format!("health {}", name(code, attempt.health_name))));
    }
    let mut codes: Vec<&str> = attempt.last_disks().filter_map(|disk| Some(disk.failure.as_ref()?.code.0)).collect();
    codes.extend(attempt.requests.iter().map(|failure| failure.code.0));
    codes.sort_unstable();
    codes.dedup();
    parts.extend((!codes.is_empty()).then(|| codes.join(" ")));
    parts.join(", ")
}

fn facts(attempt: &Attempt) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(method) = &attempt.method {
        let forced = attempt
            .forced_method
            .as_ref()
            .map_or_else(String::new, |forced| format!(", forced to {forced} by its disks"));
        facts.push(("method", format!("{method}{forced}")));
    }
    if !attempt.ways.is_empty() {
        facts.push(("way", attempt.ways.iter().map(ToString::to_string).collect::<Vec<_>>().join(", then ")));
    }
    for (index, call) in attempt.host_calls.iter().enumerate() {
        let status =
            call.status.map_or_else(|| "no status".into(), |status| format!("{status} ({})", status_words(status)));
        let error = call.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        let fact = ("host", format!("{} {status}{error}", call.call));
        // The host is asked for the time as well, mostly with the same result.
        if index == 0 || facts.last() != Some(&fact) {
            facts.push(fact);
        }
    }
    facts.extend(attempt.version.as_ref().map(|version| ("version", version.clone())));
    facts.extend(attempt.task.as_ref().map(|task| ("task", task.clone())));
    facts
}

fn disk_name(disk: &Disk) -> String {
    let text = disk.failure.as_ref().map_or_else(String::new, |failure| format!(": {}", failure.text));
    match &disk.host {
        Some(host) => format!("{host}{}{text}", disk.path),
        None => format!("{}{text}", disk.way),
    }
}

fn result(disk: &Disk) -> String {
    match (disk.taken, &disk.failure) {
        (_, Some(failure)) => failure.code.to_string(),
        (Some(true), None) => "ok".into(),
        (Some(false), None) => "failed".into(),
        (None, None) => "unknown".into(),
    }
}

fn read(source: &Source) -> String {
    let mut text = format!("{}: {}, {}", source.path, source.kind, plural(source.lines, "line"));
    if source.skipped > 0 {
        text =
            format!("{}: {}, {} of {} skipped", source.path, source.kind, source.skipped, plural(source.lines, "line"));
    }
    match &source.problem {
        Some(problem) => format!("{text}; {problem}"),
        None => text,
    }
}

// ---- Markdown

fn markdown(triage: &Triage, out: &mut dyn Write) -> io::Result<()> {
    let (_, word) = word(triage.verdict.status);
    writeln!(out, "# snapreach triage: {word}\n\n{}", escape(&triage.verdict.summary))?;
    if !triage.attempts.is_empty() {
        writeln!(out, "\n## Attempts\n\n| When | Outcome | What |\n|---|---|---|")?;
    }
    for attempt in &triage.attempts {
        let when = escape(attempt.when().unwrap_or("unknown"));
        writeln!(out, "| {when} | {} | {} |", outcome(attempt).1, escape(&line(attempt)))?;
    }
    if let Some(last) = triage.attempts.last() {
        writeln!(out, "\n## The last attempt\n")?;
        facts(last).iter().try_for_each(|(name, fact)| writeln!(out, "- {name}: {}", escape(fact)))?;
        if !last.disks.is_empty() {
            writeln!(out, "\n| Disk | Result |\n|---|---|")?;
        }
        last.disks
            .iter()
            .try_for_each(|disk| writeln!(out, "| {} | {} |", escape(&disk_name(disk)), escape(&result(disk))))?;
    }
    if !triage.findings.is_empty() {
        writeln!(out, "\n## Findings")?;
    }
    triage
        .findings
        .iter()
        .zip(1..)
        .try_for_each(|(finding, number)| markdown_finding(number, finding, "storage", out))?;
    writeln!(out, "\n## Read\n")?;
    triage.sources.iter().try_for_each(|source| writeln!(out, "- {}", escape(&read(source))))
}
