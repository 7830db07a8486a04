//! The report of a suite for a ticket or a job summary, in GitHub's Markdown. It ends with code expected by code found.

use std::{
    collections::BTreeSet,
    io::{self, Write},
};

use super::{
    Suite,
    confusion::{Cell, Confusion},
    title,
};
use crate::{
    report::{escape, plural},
    scenario::{Outcome, TestResult},
};

/// Writes the report.
pub(super) fn write(suite: &Suite<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (_, failed, not_run) = suite.counts();
    let heading = match (failed, not_run) {
        (1.., _) => "FAILED",
        (0, 1..) => "INCOMPLETE",
        _ => "PASSED",
    };
    writeln!(out, "# snapreach scenarios: {heading}\n\n{}.", escape(&suite.summary()))?;
    if let Some(proof) = suite.proof() {
        writeln!(out, "As proof that proxied bytes were proxied, {}.", escape(&proof))?;
    }
    for outcome in suite.outcomes {
        if let TestResult::Failed(differences) = &outcome.result {
            writeln!(out, "\n## {}\n\n{}\n", escape(&title(outcome)), escape(&outcome.scenario.about))?;
            writeln!(out, "| What | Expected | Seen |\n|---|---|---|")?;
            for d in differences {
                writeln!(out, "| {} | {} | {} |", d.what, escape(&d.expected), escape(&d.seen))?;
            }
        }
    }
    writeln!(out, "\n## Scenarios\n\n| Scenario | Result | Time | What it shows |\n|---|---|---:|---|")?;
    for outcome in suite.outcomes {
        let (name, about) = (escape(&title(outcome)), escape(&outcome.scenario.about));
        writeln!(out, "| {name} | {} | {:.1} s | {about} |", result(outcome), outcome.elapsed.as_secs_f64())?;
    }
    confusion(&Confusion::of(suite.outcomes), out)
}

fn result(outcome: &Outcome) -> String {
    let seed = outcome.seed.map_or_else(String::new, |seed| format!(", seed {seed}"));
    match &outcome.result {
        TestResult::Passed => format!("passed{seed}"),
        TestResult::Failed(_) => format!("**failed**{seed}"),
        TestResult::NotRun(reason) => format!("not run: {}", escape(reason)),
    }
}

/// A matrix with a row per pair, as one with a column per code would be a hundred columns wide.
fn confusion(confusion: &Confusion, out: &mut dyn Write) -> io::Result<()> {
    let (on, off): (Vec<_>, Vec<_>) = confusion.cells().partition(Cell::is_diagonal);
    let sum = |cells: &[Cell<'_>]| cells.iter().map(|cell| cell.scenarios).sum::<u32>();
    let expected: BTreeSet<_> = on.iter().chain(&off).filter_map(|cell| cell.expected).collect();
    writeln!(out, "\n## Code expected by code found\n")?;
    writeln!(
        out,
        "{} expected; found as expected (the diagonal): {}; not: {}.\n",
        plural(expected.len(), "code"),
        sum(&on),
        sum(&off)
    )?;
    writeln!(out, "| Expected | Found | Scenarios | |\n|---|---|---:|---|")?;
    for cell in off.iter().chain(&on) {
        let mark = if cell.is_diagonal() { "" } else { "**off the diagonal**" };
        let [expected, found] = [cell.expected, cell.found].map(|code| code.map_or("nothing".into(), escape));
        writeln!(out, "| {expected} | {found} | {} | {mark} |", cell.scenarios)?;
    }
    Ok(())
}
