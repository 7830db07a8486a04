//! The report of a suite for people at a terminal: one line per scenario, and what differs below those that failed.

use std::io::{self, Write};

use super::{Suite, title};
use crate::{
    report::{Page, Paint, Style},
    scenario::{Outcome, TestResult},
};

/// Below this width nothing readable can be laid out.
const MIN_WIDTH: usize = 40;

/// The column where the text of differences begins.
const INDENT: usize = 8;

/// Writes one outcome.
pub(super) fn line(outcome: &Outcome, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let page = &mut Page::new(out, style.width.max(MIN_WIDTH), style.color);
    let (paint, word) = match outcome.result {
        TestResult::Passed => (Paint::Good, "ok"),
        TestResult::Failed(_) => (Paint::Bad, "FAILED"),
        TestResult::NotRun(_) => (Paint::Warn, "not run"),
    };
    let seed = outcome.seed.map_or_else(String::new, |seed| format!("  seed {seed}"));
    let time = format!("  {:>5.1} s{seed}", outcome.elapsed.as_secs_f64());
    page.pieces(&[
        (paint, &format!("{word:<INDENT$}")),
        (Paint::Plain, &format!("{:<34}", title(outcome))),
        (Paint::Quiet, &time),
    ])?;
    let indent = " ".repeat(INDENT);
    match &outcome.result {
        TestResult::Passed => {}
        TestResult::NotRun(reason) => page.wrap(&indent, INDENT, reason)?,
        TestResult::Failed(differences) => {
            page.wrap(&indent, INDENT, &outcome.scenario.about)?;
            for difference in differences {
                page.pieces(&[(Paint::Plain, &indent), (Paint::Plain, difference.what)])?;
                page.wrap(&format!("{indent}  - expected  "), INDENT + 14, &difference.expected)?;
                page.wrap(&format!("{indent}  + seen      "), INDENT + 14, &difference.seen)?;
            }
        }
    }
    if style.verbose > 0 {
        for found in outcome.runs.iter().flat_map(|run| &run.assessment.findings) {
            page.wrap(&format!("{indent}{:<32}", found.code.0), INDENT + 32, &found.summary)?;
        }
    }
    Ok(())
}

/// Writes what follows the lines of all outcomes.
pub(super) fn end(suite: &Suite<'_>, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let page = &mut Page::new(out, style.width.max(MIN_WIDTH), style.color);
    page.blank()?;
    let paint = match suite.exit_code() {
        0 => Paint::Good,
        1 => Paint::Bad,
        _ => Paint::Warn,
    };
    page.pieces(&[(paint, &suite.summary())])?;
    suite.proof().map_or(Ok(()), |proof| page.wrap("", 0, &proof))
}
