//! Reporters of a validation: what was judged in, text of one format out.

mod json;
mod text;

use std::io::{self, BufWriter, Write};

use super::Validation;
use crate::report::{Format, Style};

/// The formats that a validation can be reported in.
pub const FORMATS: [Format; 2] = [Format::Text, Format::Json];

/// Writes the report and flushes `out`.
///
/// # Errors
/// When `out` does, or the format is none of [`FORMATS`].
pub fn write(format: Format, validation: &Validation, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let mut buffered = BufWriter::new(out);
    match format {
        Format::Text => text::write(validation, style, &mut buffered),
        Format::Json => json::write(validation, &mut buffered),
        other => Err(io::Error::other(format!("there is no report on a proxy as {other}"))),
    }?;
    buffered.flush()
}
