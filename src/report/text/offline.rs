//! The report over files of rules: a table of parties by port, then the findings.

use std::io::{self, Write};

use super::{MIN_WIDTH, Page, Paint, closing_hint, findings, page::columns, verdict};
use crate::{
    classify::offline::Review,
    model::{Decision, FlowVerdict},
    report::Style,
};

/// Notes about the files that are printed; JSON has all.
const MAX_NOTES: usize = 8;

/// Lines under a flow that cannot be decided.
const MAX_REASONS: usize = 3;

pub(in crate::report) fn write(
    review: &Review,
    sources: &[String],
    notes: &[String],
    style: &Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let page = &mut Page::new(out, style.width.max(MIN_WIDTH), style.color);
    verdict(page, &review.verdict)?;
    page.blank()?;
    table(page, &review.flows)?;
    reasons(page, &review.flows)?;
    findings(page, &review.findings, "the target")?;
    page.blank()?;
    sources.iter().try_for_each(|source| page.wrap("  Read     ", 11, source))?;
    notes.iter().take(MAX_NOTES).try_for_each(|note| page.wrap("  Note     ", 11, note))?;
    if notes.len() > MAX_NOTES {
        page.wrap("  Note     ", 11, &format!("{} more with --format json", notes.len() - MAX_NOTES))?;
    }
    closing_hint(page, &review.findings)
}

/// Parties by port.
fn table(page: &mut Page<'_>, flows: &[FlowVerdict]) -> io::Result<()> {
    const COLUMN: usize = 9;
    let mut ports: Vec<u16> = Vec::new();
    let mut rows: Vec<(&str, Vec<&FlowVerdict>)> = Vec::new();
    for flow in flows {
        if !ports.contains(&flow.port) {
            ports.push(flow.port);
        }
        let party = flow.subject.rsplit_once(':').map_or(flow.subject.as_str(), |(party, _)| party);
        match rows.iter_mut().find(|(known, _)| *known == party) {
            Some((_, row)) => row.push(flow),
            None => rows.push((party, vec![flow])),
        }
    }
    let widest = rows.iter().map(|(party, _)| columns(party)).max().unwrap_or(0);
    let fits = 2 + widest + 2 + COLUMN * ports.len() <= page.width();
    if !fits {
        return flows.iter().try_for_each(|flow| {
            let (paint, word) = cell(flow.decision);
            page.pieces(&[(Paint::Plain, "  "), (paint, &format!("{word:<COLUMN$}")), (Paint::Plain, &flow.subject)])
        });
    }
    let headings: Vec<String> = ports.iter().map(|port| format!("{:<COLUMN$}", format!(":{port}"))).collect();
    page.pieces(&[(Paint::Plain, &" ".repeat(widest + 4)), (Paint::Plain, &headings.concat())])?;
    for (party, row) in rows {
        let name = format!("  {party}{}  ", " ".repeat(widest - columns(party)));
        let cells: Vec<(Paint, String)> = ports
            .iter()
            .map(|port| {
                row.iter().find(|flow| flow.port == *port).map_or((Paint::Plain, ""), |flow| cell(flow.decision))
            })
            .map(|(paint, word)| (paint, format!("{word:<COLUMN$}")))
            .collect();
        let mut pieces = vec![(Paint::Plain, name.as_str())];
        pieces.extend(cells.iter().map(|(paint, text)| (*paint, text.as_str())));
        page.pieces(&pieces)?;
    }
    Ok(())
}

/// What is told of flows without a finding: why they cannot be decided, and where their route leads.
fn reasons(page: &mut Page<'_>, flows: &[FlowVerdict]) -> io::Result<()> {
    let mut told: Vec<&str> = Vec::new();
    for flow in flows.iter().filter(|flow| flow.decision != Decision::Denied) {
        for note in flow.notes.iter().take(MAX_REASONS) {
            if !told.contains(&note.as_str()) {
                told.push(note);
            }
        }
    }
    if told.is_empty() {
        return Ok(());
    }
    page.blank()?;
    told.iter().try_for_each(|note| page.wrap("  - ", 4, note))
}

fn cell(decision: Decision) -> (Paint, &'static str) {
    match decision {
        Decision::Allowed => (Paint::Good, "allowed"),
        Decision::Denied => (Paint::Bad, "DENIED"),
        Decision::Unknown => (Paint::Warn, "unknown"),
    }
}
