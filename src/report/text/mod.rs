//! The report for people in trouble: what is wrong, where, and what to do, in that order.

mod details;
pub(super) mod offline;
mod page;
mod table;
mod trace;

use std::{
    collections::HashMap,
    io::{self, Write},
    iter,
};

pub(crate) use page::{Page, Paint};

use super::{Style, machine, words};
use crate::model::{Assessment, Discovery, Finding, Prediction, Record, Remedy, Severity, Status, Verdict};

/// Below this width nothing readable can be laid out.
const MIN_WIDTH: usize = 40;

/// Target names in a finding.
const MAX_TARGETS: usize = 6;

/// Evidence lines of a finding.
const MAX_EVIDENCE: usize = 12;

/// Writes the text report.
pub(super) fn write(record: &Record, assessment: &Assessment, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let page = &mut Page::new(out, style.width.max(MIN_WIDTH), style.color);
    verdict(page, &assessment.verdict)?;
    table::write(page, record, assessment, style.verbose > 0)?;
    if let Some(discovery) = &record.context.discovery {
        machine(page, discovery, style.verbose > 0)?;
    }
    notes(page, record)?;
    predictions(page, &assessment.predictions, style.verbose > 0)?;
    findings(page, &assessment.findings, words::far_end(record))?;
    if style.verbose > 0 {
        trace::write(page, record, style.verbose > 1)?;
    }
    closing(page, assessment, style)
}

fn verdict(page: &mut Page<'_>, verdict: &Verdict) -> io::Result<()> {
    let word = words::status(verdict.status);
    let paint = match verdict.status {
        Status::Clear => Paint::Good,
        Status::Degraded | Status::Inconclusive => Paint::Warn,
        Status::Blocked => Paint::Bad,
    };
    let hang = " ".repeat(word.len() + 2);
    page.wrap_after(&[(paint, word), (Paint::Plain, "  ")], &hang, &verdict.summary)
}

/// What discovery found; with `all` also every place that it looked at.
fn machine(page: &mut Page<'_>, discovery: &Discovery, all: bool) -> io::Result<()> {
    page.blank()?;
    let facts = machine::facts(discovery);
    let labels = iter::once("  Machine  ").chain(iter::repeat("           "));
    facts.iter().zip(labels).try_for_each(|(fact, label)| page.wrap(label, 13, fact))?;
    let rows = machine::rows(discovery);
    let width = |text: fn(&machine::Row<'_>) -> usize| rows.iter().map(text).max().unwrap_or(0);
    let (consumer, way) = (width(|row| row.consumer.len()), width(|row| row.way.len()));
    let labels = iter::once("  Proxies  ").chain(iter::repeat("           "));
    for (row, label) in rows.iter().zip(labels) {
        let lead = format!("{label}{:consumer$}  {:way$}  ", row.consumer, row.way);
        page.wrap(&lead, 13, &row.source)?;
        row.note.map_or(Ok(()), |note| page.wrap("             ", 13, note))?;
    }
    if all {
        let labels = iter::once("  Sources  ").chain(iter::repeat("           "));
        machine::sources(discovery).iter().zip(labels).try_for_each(|(source, label)| page.wrap(label, 13, source))?;
    }
    Ok(())
}

/// What the reader must know about the measurement itself.
fn notes(page: &mut Page<'_>, record: &Record) -> io::Result<()> {
    let notes = words::notes(&record.context);
    let not_run = words::not_run(record);
    if notes.is_empty() && not_run.is_empty() {
        return Ok(());
    }
    page.blank()?;
    notes.iter().try_for_each(|note| page.wrap("  Note     ", 11, note))?;
    not_run.iter().try_for_each(|line| page.wrap("  Not run  ", 11, line))
}

fn predictions(page: &mut Page<'_>, predictions: &[Prediction], verbose: bool) -> io::Result<()> {
    let Some((chosen, others)) = predictions.split_first() else {
        return Ok(());
    };
    page.blank()?;
    page.wrap("  Tonight  ", 11, &format!("{}, method {}", words::consumer(&chosen.consumer), chosen.method))?;
    page.wrap("           ", 11, &chosen.reason)?;
    for other in others {
        let ending = if verbose { other.reason.clone() } else { words::ending(other) };
        page.wrap("           ", 13, &format!("With {}: {ending}", other.method))?;
    }
    Ok(())
}

/// Writes the findings with their evidence and remedies.
pub(crate) fn findings(page: &mut Page<'_>, findings: &[Finding], far_end: &str) -> io::Result<()> {
    let mut given = HashMap::new();
    for (finding, number) in findings.iter().zip(1..) {
        page.blank()?;
        self::finding(page, number, finding, far_end)?;
        remedies(page, number, &finding.remedies, &mut given)?;
    }
    Ok(())
}

fn finding(page: &mut Page<'_>, number: usize, finding: &Finding, far_end: &str) -> io::Result<()> {
    let paint = match finding.severity {
        Severity::Error => Paint::Bad,
        Severity::Warning => Paint::Warn,
        Severity::Info => Paint::Quiet,
    };
    let number = format!("{number:>3} ");
    let severity = format!("{:<8}", words::severity(finding.severity));
    let code = format!("{}  ", finding.code);
    let head = [(Paint::Plain, number.as_str()), (paint, severity.as_str()), (Paint::Plain, code.as_str())];
    page.wrap_after(&head, "            ", &words::between(finding, far_end))?;
    let mut who = format!("For the {}", words::team(finding));
    if let Some(attempts) = words::attempts(finding) {
        who = format!("{who}; {attempts}");
    }
    page.wrap("    ", 4, &format!("{who}; {}.", words::confidence(finding.confidence)))?;
    // Mostly the sentence names them all.
    if !finding.targets.iter().all(|target| finding.summary.contains(target.as_str())) {
        page.wrap("    ", 6, &words::targets(&finding.targets, MAX_TARGETS))?;
    }
    page.wrap("    ", 4, &finding.summary)?;
    for line in finding.evidence.iter().take(MAX_EVIDENCE) {
        page.wrap("    - ", 6, line)?;
    }
    if finding.evidence.len() > MAX_EVIDENCE {
        page.wrap("    - ", 6, &format!("… and {} more", words::count(finding.evidence.len() - MAX_EVIDENCE)))?;
    }
    Ok(())
}

/// What to do. What an earlier finding asked for already (`given`, by finding) is not printed again.
fn remedies<'a>(
    page: &mut Page<'_>,
    number: usize,
    remedies: &'a [Remedy],
    given: &mut HashMap<(&'a str, &'a [String]), usize>,
) -> io::Result<()> {
    for remedy in remedies {
        let first = *given.entry((&remedy.title, &remedy.commands)).or_insert(number);
        if first < number {
            page.wrap("    Fix   ", 10, &format!("As in {first}: {}", remedy.title))?;
            continue;
        }
        page.wrap("    Fix   ", 10, &remedy.title)?;
        for command in &remedy.commands {
            page.verbatim(10, command)?;
        }
    }
    Ok(())
}

/// What the reader of a report over files may do next.
fn closing_hint(page: &mut Page<'_>, findings: &[Finding]) -> io::Result<()> {
    let Some(explain) = explain_first(findings) else { return Ok(()) };
    page.blank()?;
    page.wrap("  ", 2, &format!("{explain}."))
}

fn explain_first(findings: &[Finding]) -> Option<String> {
    findings.first().map(|first| format!("`snapreach explain {}` says more", first.code))
}

fn closing(page: &mut Page<'_>, assessment: &Assessment, style: &Style) -> io::Result<()> {
    let explain = explain_first(&assessment.findings);
    let verbose = match style.verbose {
        0 => Some("`-v` shows every step"),
        1 => Some("`-vv` adds heads and bodies"),
        _ => None,
    };
    let parts: Vec<String> = explain.into_iter().chain(verbose.map(Into::into)).collect();
    if parts.is_empty() {
        return Ok(());
    }
    page.blank()?;
    page.wrap("  ", 2, &format!("{}.", parts.join("; ")))
}
