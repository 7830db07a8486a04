//! The JSON report, schema 1.

use std::io::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::ser::{Formatter, PrettyFormatter};

use super::words;
use crate::model::{
    Assessment, Cell, CellStatus, Code, Context, Finding, NotRun, Observation, Prediction, Record, Route, SCHEMA,
    Target, ToolInfo, Verdict,
};

/// Writes the report, pretty-printed, with a newline at the end.
pub(super) fn write(record: &Record, assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    let report = Report {
        schema: SCHEMA,
        tool: &record.tool,
        kind: "check",
        started_at: &record.started_at,
        elapsed_ms: record.elapsed_ms,
        context: &record.context,
        verdict: &assessment.verdict,
        predictions: &assessment.predictions,
        findings: &assessment.findings,
        targets: &record.targets,
        cells: Cells(record, &assessment.cells),
        not_run: &record.not_run,
        observations: &record.observations,
    };
    pretty(&report, out)
}

/// Writes a document, pretty-printed, with a newline at the end.
pub(crate) fn pretty(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, Harmless(PrettyFormatter::new()));
    document.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// The document. Borrows everything: observations stream from the record to the writer.
#[derive(Serialize)]
struct Report<'a> {
    schema: u32,
    tool: &'a ToolInfo,
    kind: &'static str,
    started_at: &'a str,
    elapsed_ms: u64,
    context: &'a Context,
    verdict: &'a Verdict,
    predictions: &'a [Prediction],
    findings: &'a [Finding],
    targets: &'a [Target],
    cells: Cells<'a>,
    not_run: &'a [NotRun],
    observations: &'a [Observation],
}

struct Cells<'a>(&'a Record, &'a [Cell]);

impl Serialize for Cells<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.1.iter().map(|cell| CellView::new(self.0, cell)))
    }
}

/// A cell as JSON shows it: the status is always a word, the code beside it.
#[derive(Serialize)]
pub(super) struct CellView<'a> {
    /// Index into `targets`.
    target: usize,
    /// `host:port`.
    subject: String,
    route: Route,
    status: &'static str,
    code: Option<Code>,
    passed: u32,
    tried: u32,
    elapsed_us: u64,
    observations: &'a [u32],
}

impl<'a> CellView<'a> {
    pub(super) fn new(record: &Record, cell: &'a Cell) -> Self {
        let (status, code) = match cell.status {
            CellStatus::Ok => ("ok", None),
            CellStatus::Warning(code) => ("warning", Some(code)),
            CellStatus::Error(code) => ("error", Some(code)),
            CellStatus::NotRun => ("not_run", None),
        };
        Self {
            target: cell.target,
            subject: record.targets.get(cell.target).map(Target::authority).unwrap_or_default(),
            route: cell.route,
            status,
            code,
            passed: cell.passed,
            tried: cell.tried,
            elapsed_us: cell.elapsed_us,
            observations: &cell.observations,
        }
    }
}

/// JSON that is also harmless when it is shown on a terminal: DEL, C1 controls and format characters, which JSON
/// allows in strings, are written as `\uNNNN`.
pub(super) struct Harmless<F>(pub(super) F);

impl<F: Formatter> Formatter for Harmless<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        if fragment.is_ascii() && !fragment.contains('\x7f') {
            return self.0.write_string_fragment(out, fragment);
        }
        let mut rest = fragment;
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| words::is_unsafe(c)) {
            self.0.write_string_fragment(out, &rest[..at])?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}")?;
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_string_fragment(out, rest)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }
}
