//! Reporters of a validation, or of two that are compared: what was judged in, text of one format out.

mod json;
mod junit;
mod markdown;
#[cfg(test)]
mod tests;
mod text;
mod words;

use std::io::{self, BufWriter, Write};

use super::{Comparison, Validation};
use crate::report::{Format, Style};

/// The formats that a validation can be reported in.
pub const FORMATS: [Format; 4] = [Format::Text, Format::Json, Format::Junit, Format::Markdown];

/// What is reported.
#[derive(Debug, Clone, Copy)]
pub enum Report<'a> {
    /// One proxy.
    One(&'a Validation),
    /// A proxy compared with another.
    Two(&'a Comparison<'a>),
}

/// Writes the report and flushes `out`.
///
/// # Errors
/// When `out` does, or the format is none of [`FORMATS`].
pub fn write(format: Format, report: Report<'_>, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let mut buffered = BufWriter::new(out);
    match format {
        Format::Text => text::write(report, style, &mut buffered),
        Format::Json => json::write(report, &mut buffered),
        Format::Junit => junit::write(report, &mut buffered),
        Format::Markdown => markdown::write(report, &mut buffered),
        other => Err(io::Error::other(format!("there is no report on a proxy as {other}"))),
    }?;
    buffered.flush()
}
