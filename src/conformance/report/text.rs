//! The report of a validation for people at a terminal: the verdict, what fails and what mends it, then the rest.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use crate::{
    conformance::{
        Figure, Judgement, Level, Outcome, Tried, Unit, Validation,
        validation::{Context, Origin},
    },
    model::Status,
    report::{self, Page, Paint, Style, plural},
};

/// Below this width nothing readable can be laid out.
const MIN_WIDTH: usize = 40;

/// The column where the facts about the run begin.
const FACTS: usize = 12;

/// The column where what is said about a case begins.
const INDENT: usize = 6;

/// Writes the report.
pub(super) fn write(validation: &Validation, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let page = &mut Page::new(out, style.width.max(MIN_WIDTH), style.color);
    let verdict = &validation.verdict;
    let word = report::status(verdict.status);
    let paint = match verdict.status {
        Status::Clear => Paint::Good,
        Status::Degraded | Status::Inconclusive => Paint::Warn,
        Status::Blocked => Paint::Bad,
    };
    let hang = " ".repeat(word.len() + 2);
    page.wrap_after(&[(paint, word), (Paint::Plain, "  ")], &hang, &verdict.summary)?;
    page.blank()?;
    facts(page, validation)?;
    report::text_findings(page, &validation.findings, "the proxy", style.verbose > 0)?;

    let with = |outcome| validation.tried.iter().filter(move |tried| tried.outcome() == outcome);
    for level in [Level::Must, Level::Should, Level::May] {
        let failed = with(Outcome::Fail).filter(move |tried| tried.level == level);
        section(page, (Paint::Bad, "FAIL"), level_in_words(level), failed, Outcome::Fail, style)?;
    }
    section(page, (Paint::Warn, "WARN"), "with a reservation", with(Outcome::Warn), Outcome::Warn, style)?;
    passed(page, with(Outcome::Pass), style)?;
    not_run(page, with(Outcome::NotRun))?;
    if style.verbose == 0 {
        page.blank()?;
        page.wrap(
            "  ",
            2,
            "`-v` shows every case and what was measured; `--format markdown` is a page for the proxy's owner.",
        )?;
    }
    Ok(())
}

fn facts(page: &mut Page<'_>, validation: &Validation) -> io::Result<()> {
    let context = &validation.context;
    let seconds = report::duration(validation.elapsed_ms.saturating_mul(1000));
    let cases = plural(validation.tried.len(), "case");
    fact(page, "Profile", &format!("{}, {cases} in {seconds}", profile(context)))?;
    fact(page, "Origin", &origin(context))?;
    context.notes.iter().try_for_each(|note| fact(page, "Note", note))
}

fn fact(page: &mut Page<'_>, name: &str, text: &str) -> io::Result<()> {
    page.wrap(&format!("  {name:<width$}", width = FACTS - 2), FACTS, text)
}

/// The profile in words.
pub(super) fn profile(context: &Context) -> String {
    let region = context.region.as_ref().map_or_else(String::new, |region| format!(" in {region}"));
    format!("{}{region}", context.profile)
}

/// Where the origin is, in words.
pub(super) fn origin(context: &Context) -> String {
    let ports = |ports: &[u16]| match ports {
        [] => "none of storage's ports".to_owned(),
        ports => format!("port {}", ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")),
    };
    match &context.origin {
        Origin::None => "none: cases that need one were not run".to_owned(),
        Origin::Here { address, ports: own } => {
            format!("on this machine, which is {address} to the proxy, {}", ports(own))
        }
        Origin::Elsewhere { address, ports: own } => format!("{address}, {}", ports(own)),
        Origin::Lab => format!("the lab's, scenario {}", context.lab.as_deref().unwrap_or_default()),
    }
}

/// What a level means, in words.
pub(super) fn level_in_words(level: Level) -> &'static str {
    match level {
        Level::Must => "must: without it backups fail",
        Level::Should => "should: without it trouble is likely, or hard to find",
        Level::May => "may: good to know",
    }
}

fn section<'a>(
    page: &mut Page<'_>,
    (paint, word): (Paint, &str),
    what: &str,
    cases: impl Iterator<Item = &'a Tried>,
    outcome: Outcome,
    style: &Style,
) -> io::Result<()> {
    let mut cases = cases.peekable();
    if cases.peek().is_none() {
        return Ok(());
    }
    page.blank()?;
    page.pieces(&[(paint, word), (Paint::Plain, "  "), (Paint::Plain, what)])?;
    cases.try_for_each(|tried| case(page, paint, tried, outcome, style))
}

/// A case, with its judgements of this outcome; with `-v` all of them.
fn case(page: &mut Page<'_>, paint: Paint, tried: &Tried, outcome: Outcome, style: &Style) -> io::Result<()> {
    page.pieces(&[(Paint::Plain, "  "), (paint, tried.id)])?;
    let indent = " ".repeat(INDENT);
    page.wrap_after(&[(Paint::Quiet, &indent)], &indent, &format!("{} ({})", tried.title, tried.reference))?;
    let shown = tried.judgements.iter().filter(|judgement| judgement.outcome == outcome || style.verbose > 0);
    shown.clone().try_for_each(|judgement| said(page, judgement, style))
}

/// One judgement.
fn said(page: &mut Page<'_>, judgement: &Judgement, style: &Style) -> io::Result<()> {
    let indent = " ".repeat(INDENT);
    let subject = judgement.subject.as_ref().map_or_else(String::new, |subject| format!("{subject}: "));
    let code = judgement.code.map_or_else(String::new, |code| format!(" [{code}]"));
    page.wrap(&indent, INDENT, &format!("{subject}{}{code}", judgement.summary))?;
    judgement.evidence.iter().try_for_each(|line| page.wrap(&format!("{indent}- "), INDENT + 2, line))?;
    if style.verbose > 0 && !judgement.figures.is_empty() {
        page.wrap(&format!("{indent}= "), INDENT + 2, &figures(judgement))?;
    }
    if let Some(command) = &judgement.reproduce {
        page.verbatim(INDENT, &format!("$ {command}"))?;
    }
    Ok(())
}

/// What was measured, in a line.
pub(super) fn figures(judgement: &Judgement) -> String {
    let one = |(name, figure): (&String, &Figure)| format!("{} {}", name.replace('_', " "), amount(figure));
    judgement.figures.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A figure with its unit.
pub(super) fn amount(figure: &Figure) -> String {
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

/// What passed: how many in each group; with `-v` each case.
fn passed<'a>(page: &mut Page<'_>, cases: impl Iterator<Item = &'a Tried> + Clone, style: &Style) -> io::Result<()> {
    let count = cases.clone().count();
    if count == 0 {
        return Ok(());
    }
    page.blank()?;
    if style.verbose > 0 {
        page.pieces(&[(Paint::Good, "PASS"), (Paint::Plain, &format!("  {}", plural(count, "case")))])?;
        return cases.clone().try_for_each(|tried| case(page, Paint::Good, tried, Outcome::Pass, style));
    }
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for tried in cases {
        match groups.last_mut() {
            Some((group, n)) if *group == tried.group => *n += 1,
            _ => groups.push((tried.group, 1)),
        }
    }
    let groups: Vec<String> = groups.iter().map(|(group, n)| format!("{group} {n}")).collect();
    page.wrap_after(
        &[(Paint::Good, "PASS"), (Paint::Plain, &format!("  {}: ", plural(count, "case")))],
        "      ",
        &groups.join(", "),
    )
}

/// What was not run, by reason.
fn not_run<'a>(page: &mut Page<'_>, cases: impl Iterator<Item = &'a Tried>) -> io::Result<()> {
    let by_reason = reasons(cases);
    if by_reason.is_empty() {
        return Ok(());
    }
    page.blank()?;
    page.pieces(&[(Paint::Quiet, "NOT RUN")])?;
    by_reason.iter().try_for_each(|(reason, ids)| {
        page.wrap("  ", 2, reason)?;
        page.wrap("      ", INDENT, &ids.join(", "))
    })
}

/// Cases that were not run, by the reason.
pub(super) fn reasons<'a>(cases: impl Iterator<Item = &'a Tried>) -> BTreeMap<&'a str, Vec<&'static str>> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for tried in cases {
        let reason = tried.judgements.first().map_or("", |judgement| judgement.summary.as_str());
        by_reason.entry(reason).or_default().push(tried.id);
    }
    by_reason
}
