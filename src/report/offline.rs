//! The report over files of rules, routes and service tags (`snapreach nsg`).

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::{Format, Style, json, text};
use crate::{
    classify::offline::Review,
    model::{Finding, FlowVerdict, SCHEMA, ToolInfo, Verdict},
};

/// Writes the report as JSON or, for every other format, as text, and flushes `out`. `sources` and `notes` are about
/// the files.
///
/// # Errors
/// When `out` does.
pub fn write_review(
    format: Format,
    review: &Review,
    sources: &[String],
    notes: &[String],
    style: &Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    if format == Format::Json {
        let document = Document {
            schema: SCHEMA,
            tool: ToolInfo::default(),
            kind: "nsg",
            verdict: &review.verdict,
            sources,
            notes,
            flows: &review.flows,
            findings: &review.findings,
        };
        json::pretty(&document, &mut out)?;
    } else {
        text::offline::write(review, sources, notes, style, &mut out)?;
    }
    out.flush()
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    tool: ToolInfo,
    kind: &'static str,
    verdict: &'a Verdict,
    sources: &'a [String],
    notes: &'a [String],
    flows: &'a [FlowVerdict],
    findings: &'a [Finding],
}
