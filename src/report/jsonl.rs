//! The report as JSON Lines: the verdict first, then one object per prediction, finding, cell, thing not run and
//! observation. `type` says which.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::CompactFormatter;

use super::json::{CellView, Harmless};
use crate::model::{Assessment, Context, Record, SCHEMA, ToolInfo, Verdict};

/// Writes one line per object.
pub(super) fn write(record: &Record, assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    let head = Head {
        schema: SCHEMA,
        tool: &record.tool,
        kind: "check",
        started_at: &record.started_at,
        elapsed_ms: record.elapsed_ms,
        context: &record.context,
        verdict: &assessment.verdict,
    };
    line(out, "verdict", &head)?;
    assessment.predictions.iter().try_for_each(|prediction| line(out, "prediction", prediction))?;
    assessment.findings.iter().try_for_each(|finding| line(out, "finding", finding))?;
    assessment.cells.iter().try_for_each(|cell| line(out, "cell", &CellView::new(record, cell)))?;
    record.not_run.iter().try_for_each(|not_run| line(out, "not_run", not_run))?;
    record.observations.iter().try_for_each(|observation| line(out, "observation", observation))
}

#[derive(Serialize)]
struct Head<'a> {
    schema: u32,
    tool: &'a ToolInfo,
    kind: &'static str,
    started_at: &'a str,
    elapsed_ms: u64,
    context: &'a Context,
    #[serde(flatten)]
    verdict: &'a Verdict,
}

#[derive(Serialize)]
struct Line<'a, T> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    value: &'a T,
}

fn line<T: Serialize>(out: &mut dyn Write, kind: &'static str, value: &T) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Harmless(CompactFormatter));
    Line { kind, value }.serialize(&mut serializer)?;
    out.write_all(b"\n")
}
