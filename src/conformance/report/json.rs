//! The JSON report of a validation, schema 1.

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    conformance::{
        Validation,
        case::{Judgement, Level, Outcome},
        run::Tried,
        validation::{Context, Counts},
    },
    model::{Finding, SCHEMA, ToolInfo, Verdict},
    report,
};

/// Writes the report, pretty-printed, with a newline at the end.
pub(super) fn write(validation: &Validation, out: &mut dyn Write) -> io::Result<()> {
    report::pretty(&Document::of(validation), out)
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    tool: ToolInfo,
    kind: &'static str,
    started_at: &'a str,
    elapsed_ms: u64,
    context: &'a Context,
    verdict: &'a Verdict,
    counts: &'a Counts,
    findings: &'a [Finding],
    cases: Vec<Entry<'a>>,
}

impl<'a> Document<'a> {
    fn of(validation: &'a Validation) -> Self {
        Self {
            schema: SCHEMA,
            tool: ToolInfo::default(),
            kind: "proxy",
            started_at: &validation.started_at,
            elapsed_ms: validation.elapsed_ms,
            context: &validation.context,
            verdict: &validation.verdict,
            counts: &validation.counts,
            findings: &validation.findings,
            cases: validation.tried.iter().map(Entry::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct Entry<'a> {
    id: &'static str,
    group: &'static str,
    level: Level,
    reference: &'static str,
    title: &'static str,
    outcome: Outcome,
    elapsed_ms: u64,
    judgements: &'a [Judgement],
}

impl<'a> Entry<'a> {
    fn of(tried: &'a Tried) -> Self {
        Self {
            id: tried.id,
            group: tried.group,
            level: tried.level,
            reference: tried.reference,
            title: tried.title,
            outcome: tried.outcome(),
            elapsed_ms: tried.elapsed_ms,
            judgements: &tried.judgements,
        }
    }
}
