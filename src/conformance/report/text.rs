//! The report for people at a terminal: the verdict, what fails and what mends it, then the rest.

use std::io::{self, Write};

use super::{Report, words};
use crate::{
    conformance::{
        Change, Comparison, Difference, Judgement, Level, Outcome, Remedy, Tried, Validation,
        fixes::{fixes, title},
        product::Product,
    },
    model::{Status, Verdict},
    report::{self, Page, Paint, Style, plural},
};

/// Below this width nothing readable can be laid out.
const MIN_WIDTH: usize = 40;

/// The column where the facts about the run begin.
const FACTS: usize = 12;

/// The column where what is said about a case begins.
const INDENT: usize = 6;

/// Writes the report.
pub(super) fn write(report: Report<'_>, style: &Style, out: &mut dyn Write) -> io::Result<()> {
    let page = &mut Page::new(out, style.width.max(MIN_WIDTH), style.color);
    match report {
        Report::One(validation) => one(page, validation, style),
        Report::Two(comparison) => two(page, comparison, style),
    }
}

fn one(page: &mut Page<'_>, validation: &Validation, style: &Style) -> io::Result<()> {
    verdict(page, &validation.verdict)?;
    page.blank()?;
    facts(page, validation)?;
    report::text_findings(page, &validation.findings, "the proxy", style.verbose > 0)?;
    let mut told = Told::new(validation);
    for level in [Level::Must, Level::Should, Level::May] {
        let cases = words::failed(validation, level);
        section(page, (Paint::Bad, "FAIL"), words::level(level), cases, &mut told, style)?;
    }
    let cases = words::with(validation, Outcome::Warn);
    section(page, (Paint::Warn, "WARN"), "it works, with a reservation", cases, &mut told, style)?;
    passed(page, validation, &mut told, style)?;
    not_run(page, validation)?;
    known_defaults(page, validation)?;
    if style.verbose == 0 {
        page.blank()?;
        let more = "`-v` shows every case and what was measured; `--format markdown` is a page for the proxy's owner.";
        page.wrap("  ", 2, more)?;
    }
    Ok(())
}

fn verdict(page: &mut Page<'_>, verdict: &Verdict) -> io::Result<()> {
    let word = report::status(verdict.status);
    let paint = match verdict.status {
        Status::Clear => Paint::Good,
        Status::Degraded | Status::Inconclusive => Paint::Warn,
        Status::Blocked => Paint::Bad,
    };
    page.wrap_after(&[(paint, word), (Paint::Plain, "  ")], &" ".repeat(word.len() + 2), &verdict.summary)
}

fn facts(page: &mut Page<'_>, validation: &Validation) -> io::Result<()> {
    let context = &validation.context;
    match validation.products.as_slice() {
        [] => fact(page, "Product", "not recognised")?,
        products => {
            fact(page, "Product", &words::product(&products[0]))?;
            products[1..].iter().try_for_each(|known| fact(page, "in front of", &words::product(known)))?;
        }
    }
    fact(page, "Origin", &words::origin(context))?;
    let seconds = report::duration(validation.elapsed_ms.saturating_mul(1000));
    fact(
        page,
        "Profile",
        &format!("{}, {} in {seconds}", words::profile(context), plural(validation.tried.len(), "case")),
    )?;
    context.notes.iter().try_for_each(|note| fact(page, "Note", note))
}

fn fact(page: &mut Page<'_>, name: &str, text: &str) -> io::Result<()> {
    page.wrap(&format!("  {name:<width$} ", width = FACTS - 3), FACTS, text)
}

/// What was said already, so that one fix stands in a report once.
struct Told<'a> {
    products: Vec<Product>,
    remedies: Vec<(&'a Remedy, &'static str)>,
}

impl<'a> Told<'a> {
    fn new(validation: &'a Validation) -> Self {
        Self { products: validation.settings_of(), remedies: Vec::new() }
    }
}

fn section<'a>(
    page: &mut Page<'_>,
    (paint, word): (Paint, &str),
    what: &str,
    cases: impl Iterator<Item = &'a Tried>,
    told: &mut Told<'a>,
    style: &Style,
) -> io::Result<()> {
    let mut cases = cases.peekable();
    if cases.peek().is_none() {
        return Ok(());
    }
    page.blank()?;
    page.pieces(&[(paint, word), (Paint::Plain, "  "), (Paint::Plain, what)])?;
    cases.try_for_each(|tried| case(page, paint, tried, told, style))
}

/// A case, with its worst judgements; with `-v` all of them.
fn case<'a>(page: &mut Page<'_>, paint: Paint, tried: &'a Tried, told: &mut Told<'a>, style: &Style) -> io::Result<()> {
    page.pieces(&[(Paint::Plain, "  "), (paint, tried.id)])?;
    let indent = " ".repeat(INDENT);
    page.wrap(&indent, INDENT, &format!("{} ({})", tried.title, tried.reference))?;
    let worst = tried.outcome();
    for judgement in tried.judgements.iter().filter(|judgement| judgement.outcome == worst || style.verbose > 0) {
        said(page, judgement, style)?;
        // What is merely good to know needs neither a fix nor proof.
        if judgement.outcome == Outcome::Fail && tried.level < Level::May || style.verbose > 0 {
            fix(page, tried.id, judgement, told)?;
            if let Some(command) = &judgement.reproduce {
                page.verbatim(INDENT, &format!("Try  {command}"))?;
            }
        }
    }
    Ok(())
}

/// One judgement.
fn said(page: &mut Page<'_>, judgement: &Judgement, style: &Style) -> io::Result<()> {
    let indent = " ".repeat(INDENT);
    let code = judgement.code.map_or_else(String::new, |code| format!(" [{code}]"));
    page.wrap(&format!("{indent}=> "), INDENT + 3, &format!("{}{code}", words::said(judgement)))?;
    let shown = judgement.outcome != Outcome::Pass || style.verbose > 0;
    for line in judgement.evidence.iter().filter(|_| shown) {
        page.wrap(&format!("{indent}   - "), INDENT + 5, line)?;
    }
    if style.verbose > 0 && !judgement.figures.is_empty() {
        page.wrap(&format!("{indent}   = "), INDENT + 5, &words::figures(judgement))?;
    }
    Ok(())
}

fn fix<'a>(page: &mut Page<'_>, id: &'static str, judgement: &'a Judgement, told: &mut Told<'a>) -> io::Result<()> {
    let Some(remedy) = &judgement.remedy else { return Ok(()) };
    let label = format!("{}Fix  ", " ".repeat(INDENT));
    if let Some((_, before)) = told.remedies.iter().find(|(known, _)| *known == remedy) {
        // Other judgements of the same case show it right above.
        return if *before == id { Ok(()) } else { page.wrap(&label, INDENT + 5, &format!("as for {before}")) };
    }
    told.remedies.push((remedy, id));
    page.wrap(&label, INDENT + 5, &title(remedy))?;
    let known = fixes(remedy, &told.products);
    if !known.is_empty() && known.iter().all(|fix| !told.products.contains(&fix.product)) {
        return page.wrap(&" ".repeat(INDENT + 5), INDENT + 5, &words::elsewhere());
    }
    for fix in &known {
        if !fix.note.is_empty() {
            let name = format!("{}{}: ", " ".repeat(INDENT + 5), fix.product);
            page.wrap(&name, INDENT + 5, fix.note)?;
        }
        words::lines(fix).iter().try_for_each(|line| page.verbatim(INDENT + 5, line))?;
    }
    Ok(())
}

/// What passed: how many in each group; with `-v` each case.
fn passed<'a>(page: &mut Page<'_>, validation: &'a Validation, told: &mut Told<'a>, style: &Style) -> io::Result<()> {
    let cases = || words::with(validation, Outcome::Pass);
    let count = plural(cases().count(), "case");
    if cases().next().is_none() || style.verbose > 0 {
        return section(page, (Paint::Good, "PASS"), &count, cases(), told, style);
    }
    page.blank()?;
    let mut groups: Vec<(&str, usize)> = Vec::new();
    for tried in cases() {
        match groups.iter_mut().find(|(group, _)| *group == tried.group) {
            Some((_, n)) => *n += 1,
            None => groups.push((tried.group, 1)),
        }
    }
    let groups: Vec<String> = groups.iter().map(|(group, n)| format!("{group} {n}")).collect();
    let lead = [(Paint::Good, "PASS"), (Paint::Plain, &*format!("  {count}: "))];
    page.wrap_after(&lead, &" ".repeat(INDENT), &groups.join(", "))?;
    // What a proxy can carry is what its owner asks first.
    for judgement in cases().filter(|tried| tried.group == "limits").flat_map(|tried| &tried.judgements) {
        if !judgement.figures.is_empty() {
            page.wrap(
                &" ".repeat(INDENT),
                INDENT + 2,
                &format!("{}: {}", judgement.summary, words::figures(judgement)),
            )?;
        }
    }
    Ok(())
}

/// What was not run, by reason.
fn not_run(page: &mut Page<'_>, validation: &Validation) -> io::Result<()> {
    let by_reason = words::reasons(validation);
    if by_reason.is_empty() {
        return Ok(());
    }
    page.blank()?;
    let count: usize = by_reason.values().map(Vec::len).sum();
    page.pieces(&[(Paint::Quiet, "NOT RUN"), (Paint::Plain, &format!("  {}", plural(count, "case")))])?;
    for (reason, ids) in &by_reason {
        // Where nothing at all was run, the verdict has said it.
        if ids.len() == validation.tried.len() {
            return page.wrap("  ", 2, reason);
        }
        page.wrap("  ", 2, &format!("{reason}: {}", ids.join(", ")))?;
    }
    Ok(())
}

fn known_defaults(page: &mut Page<'_>, validation: &Validation) -> io::Result<()> {
    let mut last = None;
    for (known, default, tried) in validation.known_defaults() {
        if last != Some(known.product) {
            page.blank()?;
            page.wrap("", 2, &format!("KNOWN DEFAULTS of {} that hurt backups", known.product))?;
            last = Some(known.product);
        }
        let here = words::here(tried);
        let here = if here.is_empty() { here } else { format!(" ({here})") };
        page.wrap("  - ", 4, &format!("{}{here}", default.what))?;
        let fix = default.remedy.as_ref().and_then(|remedy| crate::conformance::fixes::fix(remedy, known.product));
        for line in fix.iter().flat_map(|fix| &fix.lines) {
            page.verbatim(6, line)?;
        }
    }
    Ok(())
}

// ---- two proxies

fn two(page: &mut Page<'_>, comparison: &Comparison<'_>, style: &Style) -> io::Result<()> {
    let Comparison { first, second, differences, verdict } = comparison;
    self::verdict(page, verdict)?;
    for (name, validation) in [("First", first), ("Second", second)] {
        page.blank()?;
        let own = report::status(validation.verdict.status);
        page.wrap(&format!("  {name:<8}  "), FACTS, &format!("{}: {own}", validation.context.proxy))?;
        facts(page, validation)?;
        report::text_findings(page, &validation.findings, "the proxy", style.verbose > 0)?;
    }
    let mut told = Told::new(second);
    for (change, paint, word, what) in [
        (Change::Worse, Paint::Bad, "WORSE", "with the second"),
        (Change::Better, Paint::Good, "BETTER", "with the second"),
        (Change::Otherwise, Paint::Warn, "OTHERWISE", "to the same end, or one was not tried"),
    ] {
        let mut cases = differences.iter().filter(|difference| difference.change == change).peekable();
        if cases.peek().is_some() {
            page.blank()?;
            page.pieces(&[(paint, word), (Paint::Plain, "  "), (Paint::Plain, what)])?;
        }
        cases.try_for_each(|difference| self::difference(page, paint, difference, &mut told, style))?;
    }
    if verdict.status == Status::Inconclusive {
        return Ok(());
    }
    let same = first.tried.len() - differences.len();
    page.blank()?;
    page.pieces(&[(Paint::Good, "SAME"), (Paint::Plain, &format!("  {}", plural(same, "case")))])?;
    if style.verbose > 0 {
        page.blank()?;
        page.pieces(&[(Paint::Plain, "FIGURES that differ by much")])?;
        for (id, name, before, after) in comparison.figures() {
            let line = format!("{}: {} -> {}", name.replace('_', " "), words::amount(before), words::amount(after));
            page.wrap(&format!("  {id:<24}  "), 28, &line)?;
        }
    }
    Ok(())
}

fn difference<'a>(
    page: &mut Page<'_>,
    paint: Paint,
    difference: &Difference<'a>,
    told: &mut Told<'a>,
    style: &Style,
) -> io::Result<()> {
    let Difference { first, second, .. } = difference;
    page.pieces(&[
        (Paint::Plain, "  "),
        (paint, second.id),
        (Paint::Plain, "  "),
        (Paint::Quiet, &second.level.to_string()),
    ])?;
    for (name, tried) in [("first", first), ("second", second)] {
        for judgement in &tried.judgements {
            let lead = format!("{}{name:<7} {:<8}", " ".repeat(INDENT), judgement.outcome.to_string());
            page.wrap(&lead, INDENT + 16, &words::said(judgement))?;
        }
    }
    for judgement in second.judgements.iter().filter(|judgement| judgement.outcome == Outcome::Fail) {
        judgement
            .evidence
            .iter()
            .try_for_each(|line| page.wrap(&format!("{}- ", " ".repeat(INDENT)), INDENT + 2, line))?;
        if second.level < Level::May || style.verbose > 0 {
            fix(page, second.id, judgement, told)?;
        }
    }
    Ok(())
}
