//! Reporters of a suite: outcomes in, text of one format out.

mod confusion;
mod json;
mod junit;
mod markdown;
mod text;

use std::{io, io::Write, time::Duration};

use super::{Carried, Outcome, TestResult};
use crate::report::{Format, Style};

pub use confusion::Confusion;

/// The formats that a suite can be reported in.
pub const FORMATS: [Format; 4] = [Format::Text, Format::Json, Format::Junit, Format::Markdown];

/// A suite that was carried out.
#[derive(Debug, Clone, Copy)]
pub struct Suite<'a> {
    /// Its outcomes, in order.
    pub outcomes: &'a [Outcome],
    /// When it began, RFC 3339.
    pub started_at: &'a str,
    /// How long it took.
    pub elapsed: Duration,
}

impl Suite<'_> {
    /// How many passed, failed, and were not run.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let count = |of: fn(&TestResult) -> bool| self.outcomes.iter().filter(|outcome| of(&outcome.result)).count();
        (
            count(|result| *result == TestResult::Passed),
            count(|result| matches!(result, TestResult::Failed(_))),
            count(|result| matches!(result, TestResult::NotRun(_))),
        )
    }

    /// The exit code: 1 when an expectation failed, else 3 when a scenario was not run or there is none, else 0.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.counts() {
            (_, 1.., _) => 1,
            (1.., 0, 0) => 0,
            _ => 3,
        }
    }

    /// What crossed the lab's proxy in all of them.
    #[must_use]
    pub fn carried(&self) -> Carried {
        self.outcomes.iter().map(|outcome| outcome.carried).sum()
    }

    /// One sentence.
    fn summary(&self) -> String {
        let (passed, failed, not_run) = self.counts();
        let n = crate::report::plural(self.outcomes.len(), "scenario");
        let seconds = self.elapsed.as_secs_f64();
        format!("{n}: {passed} passed, {failed} failed, {not_run} not run, in {seconds:.1} s")
    }

    /// One sentence on what proves that proxies were used; `None` where no lab's was.
    fn proof(&self) -> Option<String> {
        let Carried { tunnels, up, down } = self.carried();
        (tunnels > 0).then(|| {
            let tunnels = crate::report::plural(tunnels, "tunnel");
            format!("the lab's proxies logged {tunnels}, {up} bytes to origins and {down} bytes back")
        })
    }
}

/// Writes one outcome as the text report does, so that a suite can be followed while it runs.
///
/// # Errors
/// When `out` does.
pub fn write_line(outcome: &Outcome, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    text::line(outcome, style, out)
}

/// Writes what follows the lines of all outcomes in the text report.
///
/// # Errors
/// When `out` does.
pub fn write_end(suite: &Suite<'_>, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    text::end(suite, style, out)
}

/// Writes the whole report.
///
/// # Errors
/// When `out` does, or when there is no such report of a suite (see [`FORMATS`]).
pub fn write(format: Format, suite: &Suite<'_>, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Text => {
            suite.outcomes.iter().try_for_each(|outcome| text::line(outcome, style, out))?;
            text::end(suite, style, out)
        }
        Format::Json => json::write(suite, out),
        Format::Junit => junit::write(suite, out),
        Format::Markdown => markdown::write(suite, out),
        other => Err(io::Error::new(io::ErrorKind::Unsupported, format!("scenarios have no report as {other}"))),
    }
}

/// The name of a result, as JSON has it.
fn wire(result: &TestResult) -> &'static str {
    match result {
        TestResult::Passed => "passed",
        TestResult::Failed(_) => "failed",
        TestResult::NotRun(_) => "not_run",
    }
}

/// The name of an outcome among several rounds.
fn title(outcome: &Outcome) -> String {
    let name = &outcome.scenario.name;
    if outcome.round > 1 { format!("{name} (round {})", outcome.round) } else { name.clone() }
}

#[cfg(test)]
mod tests;
