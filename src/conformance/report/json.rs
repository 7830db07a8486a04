//! The JSON report, schema 1. With two proxies the verdict is about the second, and the rest about the first; `vs` holds
//! what was found out about the second, and where both differ.

use std::io::{self, Write};

use serde::Serialize;

use super::Report;
use crate::{
    conformance::{
        Change, Comparison, Context, Counts, Difference, Judgement, Level, Outcome, Tried, Validation,
        fixes::{self, Fix},
        product::{KnownDefault, Product, Recognised},
    },
    model::{Finding, SCHEMA, ToolInfo, Verdict},
    report,
};

/// Writes the report, pretty-printed, with a newline at the end.
pub(super) fn write(report: Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let (validation, vs) = match report {
        Report::One(validation) => (validation, None),
        Report::Two(comparison) => (comparison.first, Some(comparison)),
    };
    let document = Document {
        schema: SCHEMA,
        tool: ToolInfo::default(),
        kind: "proxy",
        started_at: &validation.started_at,
        elapsed_ms: validation.elapsed_ms + vs.map_or(0, |vs| vs.second.elapsed_ms),
        verdict: vs.map_or(&validation.verdict, |vs| &vs.verdict),
        found: Found::of(validation),
        vs: vs.map(Vs::of),
    };
    report::pretty(&document, out)
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    tool: ToolInfo,
    kind: &'static str,
    started_at: &'a str,
    elapsed_ms: u64,
    verdict: &'a Verdict,
    #[serde(flatten)]
    found: Found<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vs: Option<Vs<'a>>,
}

/// What was found out about one proxy.
#[derive(Serialize)]
struct Found<'a> {
    context: &'a Context,
    product: Option<Shown<'a>>,
    counts: &'a Counts,
    findings: &'a [Finding],
    cases: Vec<Entry<'a>>,
}

impl<'a> Found<'a> {
    fn of(validation: &'a Validation) -> Self {
        let products = validation.settings_of();
        Self {
            context: &validation.context,
            product: Shown::of(validation),
            counts: &validation.counts,
            findings: &validation.findings,
            cases: validation.tried.iter().map(|tried| Entry::of(tried, &products)).collect(),
        }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    nearest: &'a Recognised,
    in_front_of: &'a [Recognised],
    known_defaults: Vec<Known>,
}

#[derive(Serialize)]
struct Known {
    product: Product,
    #[serde(flatten)]
    default: KnownDefault,
    /// How the case that measures it came out here.
    here: Option<Outcome>,
}

impl<'a> Shown<'a> {
    fn of(validation: &'a Validation) -> Option<Self> {
        let (nearest, in_front_of) = validation.products.split_first()?;
        let known = validation.known_defaults().map(|(known, default, tried)| Known {
            product: known.product,
            default,
            here: tried.map(Tried::outcome),
        });
        Some(Self { nearest, in_front_of, known_defaults: known.collect() })
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
    judgements: Vec<Said<'a>>,
}

#[derive(Serialize)]
struct Said<'a> {
    #[serde(flatten)]
    judgement: &'a Judgement,
    /// What mends it, in the configuration of the products that were recognised, else of the usual ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fixes: Vec<Fix>,
}

impl<'a> Entry<'a> {
    fn of(tried: &'a Tried, products: &[Product]) -> Self {
        let said = |judgement: &'a Judgement| Said {
            judgement,
            fixes: judgement.remedy.as_ref().map_or_else(Vec::new, |remedy| fixes::fixes(remedy, products)),
        };
        Self {
            id: tried.id,
            group: tried.group,
            level: tried.level,
            reference: tried.reference,
            title: tried.title,
            outcome: tried.outcome(),
            elapsed_ms: tried.elapsed_ms,
            judgements: tried.judgements.iter().map(said).collect(),
        }
    }
}

#[derive(Serialize)]
struct Vs<'a> {
    /// What follows for the first by itself.
    first: &'a Verdict,
    /// What follows for the second by itself.
    second: &'a Verdict,
    #[serde(flatten)]
    found: Found<'a>,
    differences: Vec<Differs<'a>>,
}

#[derive(Serialize)]
struct Differs<'a> {
    id: &'static str,
    level: Level,
    change: Change,
    first: Side<'a>,
    second: Side<'a>,
}

#[derive(Serialize)]
struct Side<'a> {
    outcome: Outcome,
    summaries: Vec<&'a str>,
}

impl<'a> Vs<'a> {
    fn of(comparison: &'a Comparison<'a>) -> Self {
        let side = |tried: &'a Tried| Side {
            outcome: tried.outcome(),
            summaries: tried.judgements.iter().map(|judgement| judgement.summary.as_str()).collect(),
        };
        let differs = |difference: &Difference<'a>| Differs {
            id: difference.second.id,
            level: difference.second.level,
            change: difference.change,
            first: side(difference.first),
            second: side(difference.second),
        };
        Self {
            first: &comparison.first.verdict,
            second: &comparison.second.verdict,
            found: Found::of(comparison.second),
            differences: comparison.differences.iter().map(differs).collect(),
        }
    }
}
