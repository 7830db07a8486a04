//! Reports of a run. They print what was measured and judged, and never judge.
//!
//! # Columns of the time series (CSV, RFC 4180)
//!
//! | column | meaning |
//! |---|---|
//! | `arm` | `A`, or `B` where two paths are compared |
//! | `slice` | which slice of that arm, from 1; a run that compares nothing has one |
//! | `start_s` | when the tick begins: seconds for which this arm had been measured before, warm-ups left out |
//! | `seconds` | the tick's length |
//! | `operations` | operations that succeeded in it |
//! | `bytes` | payload bytes |
//! | `failed` | operations that failed |

mod csv;
pub mod figures;
mod html;
mod markdown;
mod picture;
mod sheet;
#[cfg(test)]
pub(super) mod tests;
mod text;
mod words;

use std::io::{self, BufWriter, Write};

use super::Run;
use crate::report::{self, Format, Style};

pub(super) use words::{achieved, compared, saturated};

/// The formats that a run can be reported in.
pub const FORMATS: [Format; 5] = [Format::Text, Format::Json, Format::Markdown, Format::Csv, Format::Html];

/// Writes the report and flushes `out`. JSON is the run itself, which [`Run::read`] reads again; CSV has the time series
/// alone, in the columns that this module's page lists.
///
/// # Errors
/// When `out` does, or the format is none of [`FORMATS`].
pub fn write(format: Format, run: &Run, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let mut buffered = BufWriter::new(out);
    match format {
        Format::Text => text::write(run, style, &mut buffered),
        Format::Json => report::pretty(run, &mut buffered),
        Format::Markdown => markdown::write(run, &mut buffered),
        Format::Csv => csv::write(run, &mut buffered),
        Format::Html => html::write(run, &mut buffered),
        other => Err(io::Error::other(format!("there is no report of a bench as {other}"))),
    }?;
    buffered.flush()
}
