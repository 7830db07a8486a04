//! `-v`: every observation with every step.

use std::io;

use super::{
    details,
    page::{Page, Paint, columns},
};
use crate::{
    model::{Control, Failure, Leg, Observation, Record, Step},
    report::words,
};

/// Columns before the evidence of a step.
const INDENT: usize = 8;

pub(super) fn write(page: &mut Page<'_>, record: &Record, bodies: bool) -> io::Result<()> {
    if record.observations.is_empty() {
        return Ok(());
    }
    page.blank()?;
    page.wrap("  ", 2, &format!("{}, started {}", observations(record), seconds(&record.started_at)))?;
    record.observations.iter().try_for_each(|observation| one(page, observation, bodies))
}

/// A moment of RFC 3339 without the fraction of its second.
fn seconds(moment: &str) -> String {
    match moment.split_once('.') {
        Some((whole, rest)) => format!("{whole}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => moment.to_owned(),
    }
}

fn observations(record: &Record) -> String {
    words::plural(record.observations.len(), "observation")
}

fn one(page: &mut Page<'_>, observation: &Observation, bodies: bool) -> io::Result<()> {
    page.blank()?;
    let mut head = format!("{}, {}, attempt {}", observation.subject, observation.route, observation.attempt);
    if let Some(address) = observation.address {
        head = format!("{head}, to {address}");
    }
    if let Some(parent) = observation.parent {
        head = format!("{head} (found by #{parent})");
    }
    if let Some(control) = &observation.control {
        head = format!("{head}; a control: {}", describe(control));
    }
    if observation.host_service.is_some() {
        head.push_str("; the host channel");
    }
    page.wrap(&format!("  #{:<4}", observation.id), INDENT, &head)?;
    observation.steps.iter().try_for_each(|step| self::step(page, step, bodies))
}

fn describe(control: &Control) -> String {
    match control {
        Control::OtherServerName { sni } => format!("another server name, {sni}"),
        Control::SmallSegments { mss } => format!("segments of at most {mss} bytes"),
        Control::OtherPort => "another port through the proxy".into(),
        Control::OtherProxyScheme => "the proxy spoken to with the other scheme".into(),
        Control::Recall => "what the endpoint received after it half-closed".into(),
        Control::Trace => "a trace, hop by hop".into(),
    }
}

fn step(page: &mut Page<'_>, step: &Step, bodies: bool) -> io::Result<()> {
    let leg = match step.leg {
        Leg::Proxy => "proxy",
        Leg::Origin => "origin",
    };
    let line = format!(
        "    {:<9} {leg:<6} at {:>12}, took {:>11}  ",
        step.layer().to_string(),
        words::millis(step.start_us),
        words::millis(step.elapsed_us),
    );
    let outcome = if step.failure.is_some() { "failed" } else { "ok" };
    if columns(&line) + outcome.len() <= page.width() {
        page.pieces(&[(Paint::Plain, &line), (Paint::Plain, outcome)])?;
    } else {
        page.wrap("    ", INDENT, &format!("{line}{outcome}"))?;
    }
    for line in details::lines(&step.evidence) {
        page.wrap(&" ".repeat(INDENT), INDENT + 2, &line)?;
    }
    if let Some(failure) = &step.failure {
        page.wrap(&" ".repeat(INDENT), INDENT + 2, &failed(failure))?;
    }
    if bodies {
        let margin = format!("{}| ", " ".repeat(INDENT));
        for line in details::heads_and_bodies(&step.evidence) {
            page.wrap_after(&[(Paint::Plain, &margin)], &margin, &line)?;
        }
    }
    Ok(())
}

fn failed(failure: &Failure) -> String {
    let kind = words::wire(&failure.kind);
    let errno = failure.errno.map(|n| format!(" (error number {n})")).unwrap_or_default();
    format!("failure: {kind}{errno}: {}", failure.raw)
}
