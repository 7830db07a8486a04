//! The report for people at a terminal.

use std::io::{self, Write};

use super::{
    sheet::{Block, Fact, Sheet, Table},
    words,
};
use crate::{
    bench::{Run, Status},
    report::{Page, Paint, Style},
};

/// Below this width nothing readable can be laid out.
const MIN_WIDTH: usize = 40;

/// The column where facts begin.
const FACTS: usize = 13;

/// Writes the report.
pub(super) fn write(run: &Run, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let page = &mut Page::new(out, style.width.max(MIN_WIDTH), style.color);
    let paint = match run.verdict.status {
        Status::Measured | Status::Pass => Paint::Good,
        Status::Fail => Paint::Bad,
        Status::Inconclusive => Paint::Warn,
    };
    let word = words::status(run.verdict.status);
    page.wrap_after(&[(paint, word), (Paint::Plain, "  ")], &" ".repeat(word.len() + 2), &run.verdict.summary)?;
    for block in Sheet::new(run, style.verbose > 0).0 {
        page.blank()?;
        match block {
            Block::Facts(facts) => facts.iter().try_for_each(|fact| self::fact(page, fact))?,
            Block::Table(table) => self::table(page, &table)?,
        }
    }
    if style.verbose == 0 {
        page.blank()?;
        let more = "`-o run.html` draws it; `--save run.json` keeps it for `--baseline` and `snapreach bench merge`.";
        page.wrap("  ", 2, more)?;
    }
    Ok(())
}

fn fact(page: &mut Page<'_>, fact: &Fact) -> io::Result<()> {
    let name = format!("  {:width$}", fact.name, width = FACTS - 2);
    let blank = " ".repeat(FACTS);
    let leads = std::iter::once(name.as_str()).chain(std::iter::repeat(blank.as_str()));
    fact.lines.iter().zip(leads).try_for_each(|(line, lead)| page.wrap(lead, FACTS + 2, line))
}

fn table(page: &mut Page<'_>, table: &Table) -> io::Result<()> {
    let cells = || table.rows.iter().map(Vec::as_slice);
    let width = |column: usize| {
        let rows = cells().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        rows.chain([table.head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..table.head.len()).map(width).collect();
    let head: Vec<String> = table.head.iter().map(|name| (*name).to_owned()).collect();
    std::iter::once(head.as_slice()).chain(cells()).try_for_each(|row| {
        let line: String =
            row.iter().zip(&widths).enumerate().fold("  ".to_owned(), |line, (column, (cell, &width))| {
                if column == 0 { format!("{line}{cell:width$}") } else { format!("{line}  {cell:>width$}") }
            });
        page.pieces(&[(Paint::Plain, &line)])
    })
}
