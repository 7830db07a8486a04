//! The page for the proxy's owner, in GitHub's Markdown: what fails, why it matters, the lines that mend it, and a command
//! that shows the same without this program.

use std::io::{self, Write};

use super::{Report, words};
use crate::{
    conformance::{
        Comparison, Difference, Judgement, Level, Outcome, Tried, Validation,
        fixes::{Fix, fix, fixes, title},
    },
    model::{Status, ToolInfo, Verdict},
    report::{self, block, code, escape, plural},
};

/// Writes the report.
pub(super) fn write(report: Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    match report {
        Report::One(validation) => one(validation, out),
        Report::Two(comparison) => two(comparison, out),
    }
}

fn one(validation: &Validation, out: &mut dyn Write) -> io::Result<()> {
    heading(&validation.verdict, out)?;
    about(validation, out)?;
    nothing_to_try(validation, out)?;
    for level in [Level::Must, Level::Should] {
        let mut cases = words::failed(validation, level).peekable();
        if cases.peek().is_some() {
            writeln!(out, "\n## What fails ({})", words::level(level))?;
        }
        cases.try_for_each(|tried| case(tried, validation, out))?;
    }
    let mut warned = words::with(validation, Outcome::Warn).chain(words::failed(validation, Level::May)).peekable();
    if warned.peek().is_some() {
        writeln!(out, "\n## What to know\n")?;
    }
    for tried in warned {
        for judgement in tried.judgements.iter().filter(|judgement| judgement.outcome == tried.outcome()) {
            writeln!(out, "- {} ({}): {}", code(tried.id), tried.level, escape(&words::said(judgement)))?;
        }
    }
    in_one_piece(validation, out)?;
    known_defaults(validation, out)?;
    table(validation, out)
}

fn heading(verdict: &Verdict, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# snapreach proxy: {}\n\n{}.", report::status(verdict.status), escape(&capital(&verdict.summary)))?;
    match verdict.status {
        Status::Blocked => writeln!(
            out,
            "\nVirtual machines whose disks are backed up reach their snapshots' storage through this proxy. What fails below \
             makes those backups fail."
        ),
        _ => Ok(()),
    }
}

fn about(validation: &Validation, out: &mut dyn Write) -> io::Result<()> {
    let context = &validation.context;
    let seconds = report::duration(validation.elapsed_ms.saturating_mul(1000));
    writeln!(out, "\n| | |\n|---|---|\n| Proxy | {} |", escape(&context.proxy))?;
    for (name, known) in
        ["Product", "In front of"].into_iter().chain(std::iter::repeat("In front of")).zip(&validation.products)
    {
        let marks: Vec<String> = known.marks.iter().map(|mark| escape(mark)).collect();
        writeln!(out, "| {name} | {}: {} |", escape(&known.to_string()), marks.join("; "))?;
    }
    writeln!(out, "| Origin beyond it | {} |", escape(&words::origin(context)))?;
    writeln!(out, "| Profile | {} |", escape(&words::profile(context)))?;
    let tool = ToolInfo::default();
    let cases = plural(validation.tried.len(), "case");
    writeln!(
        out,
        "| Tried | {cases} in {seconds}, {}, {} {} |",
        escape(&validation.started_at),
        tool.name,
        tool.version
    )?;
    context.notes.iter().try_for_each(|note| writeln!(out, "| Note | {} |", escape(note)))
}

/// Why there is no proxy to try.
fn nothing_to_try(validation: &Validation, out: &mut dyn Write) -> io::Result<()> {
    validation
        .findings
        .iter()
        .zip(1..)
        .try_for_each(|(finding, number)| report::markdown_finding(number, finding, "the proxy", out))
}

fn case(tried: &Tried, validation: &Validation, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n### {}\n", code(tried.id))?;
    writeln!(out, "Expected: {} ({}).", escape(tried.title), escape(tried.reference))?;
    let failed: Vec<&Judgement> =
        tried.judgements.iter().filter(|judgement| judgement.outcome == Outcome::Fail).collect();
    let mut told = Vec::new();
    for judgement in failed {
        let finding = judgement.code.map_or_else(String::new, |code| format!(" ({})", self::code(code.0)));
        writeln!(out, "\n**{}**{finding}\n", escape(&capital(&words::said(judgement))))?;
        judgement.evidence.iter().try_for_each(|line| writeln!(out, "- {}", escape(line)))?;
        if let Some(remedy) = judgement.remedy.as_ref().filter(|remedy| !told.contains(remedy)) {
            told.push(remedy);
            writeln!(out, "\n{}.", escape(&title(remedy)))?;
            fixes(remedy, &validation.settings_of()).iter().try_for_each(|fix| setting(fix, out))?;
        }
        if let Some(command) = &judgement.reproduce {
            writeln!(out, "\nTo see it without snapreach:")?;
            block(std::slice::from_ref(command), out)?;
        }
    }
    Ok(())
}

fn setting(fix: &Fix, out: &mut dyn Write) -> io::Result<()> {
    let note = if fix.note.is_empty() { String::new() } else { format!(" ({})", escape(fix.note)) };
    if fix.lines.is_empty() {
        return writeln!(out, "\n{}: no setting does it{note}.", fix.product);
    }
    writeln!(out, "\n{}, {}{note}:", fix.product, code(fix.file))?;
    let apply = (!fix.apply.is_empty()).then(|| format!("# then: {}", fix.apply));
    block(&fix.lines.iter().cloned().chain(apply).collect::<Vec<_>>(), out)
}

/// All lines for the products that were recognised, each once, by file.
fn in_one_piece(validation: &Validation, out: &mut dyn Write) -> io::Result<()> {
    let remedies: Vec<_> = validation
        .tried
        .iter()
        .filter(|tried| tried.level < Level::May)
        .flat_map(|tried| &tried.judgements)
        .filter(|judgement| judgement.outcome == Outcome::Fail)
        .filter_map(|judgement| judgement.remedy.as_ref())
        .collect();
    let fixes =
        validation.products.iter().flat_map(|known| remedies.iter().filter_map(|remedy| fix(remedy, known.product)));
    let mut files: Vec<(&str, Vec<String>)> = Vec::new();
    for Fix { file, lines, .. } in fixes.filter(|fix| !fix.lines.is_empty()) {
        let at = files.iter().position(|(known, _)| *known == file).unwrap_or_else(|| {
            files.push((file, Vec::new()));
            files.len() - 1
        });
        let all = &mut files[at].1;
        let new: Vec<String> = lines.into_iter().filter(|line| !all.contains(line)).collect();
        all.extend(new);
    }
    if remedies.len() < 2 || files.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n## All changes in one piece\n\nRead them before you use them; VM\\_SUBNET is the addresses of the machines."
    )?;
    files.iter().try_for_each(|(file, lines)| {
        writeln!(out, "\n{}:", code(file))?;
        block(lines, out)
    })
}

fn known_defaults(validation: &Validation, out: &mut dyn Write) -> io::Result<()> {
    let mut last = None;
    for (known, default, tried) in validation.known_defaults() {
        if last != Some(known.product) {
            writeln!(out, "\n## Known defaults of {} that hurt backups\n", known.product)?;
            writeln!(out, "| Default | Here | Setting |\n|---|---|---|")?;
            last = Some(known.product);
        }
        let fix = default.remedy.as_ref().and_then(|remedy| fix(remedy, known.product));
        let lines = fix.map_or_else(Vec::new, |fix| fix.lines);
        let lines: Vec<String> = lines.iter().map(|line| escape(line)).collect();
        writeln!(out, "| {} | {} | {} |", escape(default.what), escape(&words::here(tried)), lines.join("<br>"))?;
    }
    Ok(())
}

fn table(validation: &Validation, out: &mut dyn Write) -> io::Result<()> {
    if validation.tried.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n## All cases\n\n| Case | Level | Result | What was found | Measured |\n|---|---|---|---|---|")?;
    for tried in &validation.tried {
        for judgement in &tried.judgements {
            let outcome = match judgement.outcome {
                Outcome::Fail => "**fail**".to_owned(),
                other => escape(&other.to_string()),
            };
            let (said, figures) = (escape(&words::said(judgement)), escape(&words::figures(judgement)));
            writeln!(out, "| {} | {} | {outcome} | {said} | {figures} |", tried.id, tried.level)?;
        }
    }
    Ok(())
}

fn capital(text: &str) -> String {
    // A URL stays as it is.
    if text.starts_with("http") {
        return text.to_owned();
    }
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

// ---- two proxies

fn two(comparison: &Comparison<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Comparison { first, second, differences, verdict } = comparison;
    heading(verdict, out)?;
    for (name, validation) in [("First", first), ("Second", second)] {
        writeln!(
            out,
            "\n## {name}: {}, by itself {}",
            escape(&validation.context.proxy),
            report::status(validation.verdict.status)
        )?;
        about(validation, out)?;
        nothing_to_try(validation, out)?;
    }
    if verdict.status == Status::Inconclusive {
        return Ok(());
    }
    if differences.is_empty() {
        return writeln!(out, "\nNothing differs.");
    }
    writeln!(out, "\n## Differences\n\n| Case | Level | Second is | First | Second |\n|---|---|---|---|---|")?;
    for Difference { first, second, change } in differences {
        let side = |tried: &Tried| {
            let lines: Vec<String> = tried
                .judgements
                .iter()
                .map(|judgement| escape(&format!("{}: {}", judgement.outcome, words::said(judgement))))
                .collect();
            lines.join("<br>")
        };
        let change = match change {
            crate::conformance::Change::Worse => "**worse**",
            crate::conformance::Change::Better => "better",
            crate::conformance::Change::Otherwise => "otherwise",
        };
        writeln!(out, "| {} | {} | {change} | {} | {} |", second.id, second.level, side(first), side(second))?;
    }
    let failed = differences
        .iter()
        .filter(|difference| difference.second.outcome() == Outcome::Fail && difference.second.level < Level::May);
    failed.map(|difference| difference.second).try_for_each(|tried| case(tried, second, out))
}
