//! The matrix of targets by route.

use std::io;

use super::page::{Page, Paint, columns};
use crate::{
    model::{Assessment, Cell, CellStatus, Record},
    report::{
        matrix::{Group, Matrix, Row},
        words,
    },
};

/// Between two columns.
const GAP: usize = 2;

/// A longer path is shown by its end, which is what differs between disks.
const MAX_PATH: usize = 20;

pub(super) fn write(page: &mut Page<'_>, record: &Record, assessment: &Assessment, all: bool) -> io::Result<()> {
    let matrix = Matrix::new(record, assessment, all);
    if matrix.is_empty() {
        return Ok(());
    }
    page.blank()?;
    let headings: Vec<String> = matrix.routes.iter().map(|&route| words::route_heading(route, record)).collect();
    let layout = Layout::new(&matrix, &headings, page.width());
    if layout.rows_fit {
        layout.headings(page, &headings)?;
    }
    for group in &matrix.groups {
        layout.group(page, group, &headings)?;
    }
    match &matrix.rest {
        Some(rest) => page.wrap("  ", 4, &format!("{rest}; `-v` shows all, `--format json` has everything.")),
        None => Ok(()),
    }
}

/// Where the columns are.
struct Layout {
    /// Width of the host column; `None` where the host stands on a line of its own.
    host: Option<usize>,
    label: usize,
    columns: Vec<usize>,
    /// Whether a row fits on one line at all.
    rows_fit: bool,
}

impl Layout {
    fn new(matrix: &Matrix<'_>, headings: &[String], width: usize) -> Self {
        let rows = || matrix.groups.iter().flat_map(|group| &group.rows);
        let host = matrix.groups.iter().map(|group| columns(&group.host.to_string())).max().unwrap_or(0);
        let label = rows().map(|row| columns(&label(row))).max().unwrap_or(0);
        let columns: Vec<usize> = headings
            .iter()
            .enumerate()
            .map(|(index, heading)| {
                let cells = rows().map(|row| columns(&cell(row, index))).max().unwrap_or(0);
                cells.max(columns(heading))
            })
            .collect();
        let cells: usize = columns.iter().map(|column| GAP + column).sum();
        let host = (2 + host + GAP + label + cells <= width).then_some(host);
        let rows_fit = host.is_some() || 4 + label + cells <= width;
        Self { host, label, columns, rows_fit }
    }

    /// The columns before the first cell.
    fn indent(&self) -> usize {
        self.host.map_or(4, |host| 2 + host + GAP) + self.label
    }

    fn headings(&self, page: &mut Page<'_>, headings: &[String]) -> io::Result<()> {
        let mut line = " ".repeat(self.indent());
        for (heading, width) in headings.iter().zip(&self.columns) {
            line.push_str(&pad(heading, GAP, *width));
        }
        page.pieces(&[(Paint::Plain, &line)])
    }

    fn group(&self, page: &mut Page<'_>, group: &Group<'_>, headings: &[String]) -> io::Result<()> {
        if self.host.is_none() {
            page.pieces(&[(Paint::Plain, "  "), (Paint::Plain, &group.host.to_string())])?;
        }
        for (index, row) in group.rows.iter().enumerate() {
            let lead = match self.host {
                Some(width) => {
                    let host = if index == 0 { group.host.to_string() } else { String::new() };
                    format!("  {}  {}", pad(&host, 0, width), pad(&label(row), 0, self.label))
                }
                None => format!("    {}", pad(&label(row), 0, self.label)),
            };
            if self.rows_fit {
                self.row(page, row, &lead)?;
            } else {
                tall_row(page, row, &lead, headings)?;
            }
        }
        Ok(())
    }

    fn row(&self, page: &mut Page<'_>, row: &Row<'_>, lead: &str) -> io::Result<()> {
        let cells: Vec<(Paint, String)> = row
            .cells
            .iter()
            .enumerate()
            .map(|(index, state)| (paint(*state), pad(&cell(row, index), 0, self.columns[index])))
            .collect();
        let mut pieces = vec![(Paint::Plain, lead)];
        for (paint, text) in &cells {
            pieces.push((Paint::Plain, "  "));
            pieces.push((*paint, text));
        }
        page.pieces(&pieces)
    }
}

/// A row whose cells do not fit side by side: a line for each.
fn tall_row(page: &mut Page<'_>, row: &Row<'_>, lead: &str, headings: &[String]) -> io::Result<()> {
    page.pieces(&[(Paint::Plain, lead)])?;
    for (index, heading) in headings.iter().enumerate() {
        page.wrap("      ", 8, &format!("{heading}: {}", cell(row, index)))?;
    }
    Ok(())
}

fn label(row: &Row<'_>) -> String {
    let apart = words::clean(&row.apart);
    let cut = columns(&apart).saturating_sub(MAX_PATH);
    let end: String = apart.chars().skip(cut).collect();
    format!(":{}{}{end}", row.target.port, if cut > 0 { "…" } else { "" })
}

fn cell(row: &Row<'_>, index: usize) -> String {
    words::cell(row.cells.get(index).copied().flatten())
}

fn paint(cell: Option<&Cell>) -> Paint {
    match cell.map(|cell| cell.status) {
        Some(CellStatus::Ok) => Paint::Good,
        Some(CellStatus::Warning(_)) => Paint::Warn,
        Some(CellStatus::Error(_)) => Paint::Bad,
        Some(CellStatus::NotRun) | None => Paint::Quiet,
    }
}

/// `before` spaces, then the text filled up to `width`.
fn pad(text: &str, before: usize, width: usize) -> String {
    let fill = width.saturating_sub(columns(text));
    format!("{}{text}{}", " ".repeat(before), " ".repeat(fill))
}
