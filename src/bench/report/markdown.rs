//! The report for a ticket or a pull request, in GitHub's Markdown.

use std::io::{self, Write};

use super::{
    sheet::{Block, Sheet, Table},
    words,
};
use crate::{bench::Run, report::escape};

/// Writes the report.
pub(super) fn write(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    let word = words::status(run.verdict.status);
    writeln!(out, "# snapreach bench: {word}\n\n{}.", escape(&run.verdict.summary))?;
    for block in Sheet::new(run, false).0 {
        match block {
            Block::Facts(facts) => {
                writeln!(out, "\n| | |\n|---|---|")?;
                for fact in facts {
                    let lines: Vec<String> = fact.lines.iter().map(|line| escape(line)).collect();
                    writeln!(out, "| {} | {} |", fact.name, lines.join("<br>"))?;
                }
            }
            Block::Table(table) => self::table(&table, out)?,
        }
    }
    let (started, tool) = (escape(&run.started_at), &run.tool);
    writeln!(out, "\nMeasured {started} by {} {}.", escape(&tool.name), escape(&tool.version))
}

fn table(table: &Table, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n| {} |\n|---|{}", table.head.join(" | "), "---:|".repeat(table.head.len() - 1))?;
    table.rows.iter().try_for_each(|row| {
        let cells: Vec<String> = row.iter().map(|cell| escape(cell)).collect();
        writeln!(out, "| {} |", cells.join(" | "))
    })
}
