//! One self-contained page with pictures: no scripts, no links to elsewhere, light and dark.

use std::io::{self, Write};

use super::{
    picture,
    sheet::{Block, Sheet},
    words,
};
use crate::{
    bench::{Run, Status},
    report::{html_begin as begin, html_escape as escape},
};

/// Writes the page.
pub(super) fn write(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    let class = match run.verdict.status {
        Status::Measured | Status::Pass => "good",
        Status::Fail => "bad",
        Status::Inconclusive => "warn",
    };
    let word = words::status(run.verdict.status);
    let when = (run.started_at.as_str(), run.elapsed_ms);
    begin((class, word), &run.verdict.summary, when, &run.tool, picture::CSS, out)?;
    picture::course(run, out)?;
    picture::latency(run, out)?;
    for block in Sheet::new(run, true).0 {
        writeln!(out, "<div class=\"scroll\"><table>")?;
        match block {
            Block::Facts(facts) => facts.iter().try_for_each(|fact| {
                let lines: Vec<String> = fact.lines.iter().map(|line| escape(line)).collect();
                writeln!(out, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", fact.name, lines.join("<br>"))
            })?,
            Block::Table(table) => {
                let head: Vec<String> =
                    table.head.iter().map(|name| format!("<th scope=\"col\">{name}</th>")).collect();
                writeln!(out, "<tr>{}</tr>", head.concat())?;
                for row in &table.rows {
                    let cells: Vec<String> =
                        row.iter().skip(1).map(|cell| format!("<td>{}</td>", escape(cell))).collect();
                    let name = row.first().map(|name| escape(name)).unwrap_or_default();
                    writeln!(out, "<tr><th scope=\"row\">{name}</th>{}</tr>", cells.concat())?;
                }
            }
        }
        writeln!(out, "</table></div>")?;
    }
    writeln!(out, "</body>\n</html>")
}
