//! Wording that the reporters share.

use std::collections::BTreeMap;

use crate::conformance::{
    Context, Figure, Judgement, Level, Origin, Outcome, Tried, Unit, Validation,
    fixes::{Fix, USUAL},
    product::Recognised,
};

/// The profile, with the region.
pub(super) fn profile(context: &Context) -> String {
    let region = context.region.as_ref().map_or_else(String::new, |region| format!(" in {region}"));
    format!("{}{region}", context.profile)
}

/// Where the origin is.
pub(super) fn origin(context: &Context) -> String {
    let at = |ports: &[u16]| match ports {
        [] => "at none of storage's ports".to_owned(),
        [port] => format!("at port {port}"),
        ports => format!("at ports {}", ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")),
    };
    match &context.origin {
        Origin::None => "none: cases that need one were not run".to_owned(),
        Origin::Here { address, ports } => format!("on this machine, {address}, {}", at(ports)),
        Origin::Elsewhere { address, ports } => format!("{address}, {}", at(ports)),
        Origin::Lab => format!("the lab's, scenario {}", context.lab.as_deref().unwrap_or_default()),
    }
}

/// A product with what proves it.
pub(super) fn product(known: &Recognised) -> String {
    let marks: Vec<String> =
        known.marks.iter().map(|mark| if mark.contains('`') { mark.clone() } else { format!("`{mark}`") }).collect();
    format!("{known}, by {}", marks.join("; "))
}

/// What a level means.
pub(super) fn level(level: Level) -> &'static str {
    match level {
        Level::Must => "must: without it backups fail",
        Level::Should => "should: without it trouble is likely, or hard to find",
        Level::May => "may: good to know",
    }
}

/// The cases of one outcome.
pub(super) fn with(validation: &Validation, outcome: Outcome) -> impl Iterator<Item = &Tried> + Clone {
    validation.tried.iter().filter(move |tried| tried.outcome() == outcome)
}

/// The cases that fail at a level.
pub(super) fn failed(validation: &Validation, level: Level) -> impl Iterator<Item = &Tried> {
    with(validation, Outcome::Fail).filter(move |tried| tried.level == level)
}

/// What a judgement says, with its subject.
pub(super) fn said(judgement: &Judgement) -> String {
    match &judgement.subject {
        // Many a summary names its subject itself.
        Some(subject) if !judgement.summary.contains(subject.as_str()) => format!("{subject}: {}", judgement.summary),
        _ => judgement.summary.clone(),
    }
}

/// What was measured, in a line.
pub(super) fn figures(judgement: &Judgement) -> String {
    let one = |(name, figure): (&String, &Figure)| format!("{} {}", name.replace('_', " "), amount(*figure));
    judgement.figures.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A figure with its unit.
pub(super) fn amount(figure: Figure) -> String {
    let value = figure.value;
    match figure.unit {
        Unit::Ms if value >= 1000.0 => format!("{:.1} s", value / 1000.0),
        Unit::Ms if value >= 10.0 => format!("{value:.0} ms"),
        Unit::Ms => format!("{value:.1} ms"),
        Unit::PerSecond => format!("{value:.0}/s"),
        Unit::Count => format!("{value:.0}"),
        Unit::BytesPerSecond => format!("{:.1} MB/s", value / 1e6),
    }
}

/// Cases that were not run, by the reason.
pub(super) fn reasons(validation: &Validation) -> BTreeMap<&str, Vec<&'static str>> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for tried in with(validation, Outcome::NotRun) {
        let reason = tried.judgements.first().map_or("", |judgement| judgement.summary.as_str());
        by_reason.entry(reason).or_default().push(tried.id);
    }
    by_reason
}

/// How a case that measures a default came out here.
pub(super) fn here(tried: Option<&Tried>) -> String {
    tried.map_or_else(String::new, |tried| format!("{} here: {}", tried.id, tried.outcome()))
}

/// The lines of a fix, with what to do after.
pub(super) fn lines(fix: &Fix) -> Vec<String> {
    let mut lines = Vec::with_capacity(fix.lines.len() + 2);
    if !fix.lines.is_empty() {
        lines.push(format!("# {}", fix.file));
    }
    lines.extend(fix.lines.iter().cloned());
    lines.extend((!fix.apply.is_empty()).then(|| format!("# then: {}", fix.apply)));
    lines
}

/// Where lines for the usual products stand, if none was recognised.
pub(super) fn elsewhere() -> String {
    let names: Vec<&str> = USUAL.iter().map(|product| product.name()).collect();
    format!("lines for {} stand in the Markdown report", names.join(", "))
}
