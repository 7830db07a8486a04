//! Prometheus text exposition format 0.0.4, for the textfile collector of node exporter.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Write},
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::words::{self, clean, wire};
use crate::model::{Assessment, Cell, CellStatus, Observation, Outcome, Record, Status, Step};

/// Writes the metrics.
pub(super) fn write(record: &Record, assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    verdict(assessment, out)?;
    run(record, out)?;
    up(record, assessment, out)?;
    layers(record, assessment, out)?;
    predictions(assessment, out)?;
    findings(assessment, out)
}

fn verdict(assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    family(out, "snapreach_verdict", "1 for the overall result of the run, 0 for the others.")?;
    for status in [Status::Clear, Status::Degraded, Status::Blocked, Status::Inconclusive] {
        let value = u8::from(assessment.verdict.status == status);
        sample(out, "snapreach_verdict", &[("status", &wire(&status))], &value.to_string())?;
    }
    Ok(())
}

fn run(record: &Record, out: &mut dyn Write) -> io::Result<()> {
    family(out, "snapreach_build_info", "The version that measured; always 1.")?;
    sample(out, "snapreach_build_info", &[("version", &record.tool.version)], "1")?;
    family(out, "snapreach_run_seconds", "How long the run took.")?;
    sample(out, "snapreach_run_seconds", &[], &words::seconds(record.elapsed_ms.saturating_mul(1000)))?;
    // A record from elsewhere may lack a readable start: then the metric is absent, not wrong.
    if let Ok(start) = OffsetDateTime::parse(&record.started_at, &Rfc3339) {
        let name = "snapreach_run_start_timestamp_seconds";
        family(out, name, "When the run began, in seconds since 1970: alert when it is old.")?;
        sample(out, name, &[], &start.unix_timestamp().to_string())?;
    }
    Ok(())
}

fn up(record: &Record, assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    let name = "snapreach_up";
    family(out, name, "1 if the target works over the route (warnings included), 0 if not; absent if not measured.")?;
    for (cell, target) in distinct(record, assessment) {
        let value = match cell.status {
            CellStatus::Ok | CellStatus::Warning(_) => "1",
            CellStatus::Error(_) => "0",
            CellStatus::NotRun => continue,
        };
        sample(out, name, &[("target", &target), ("route", &cell.route.to_string())], value)?;
    }
    Ok(())
}

fn layers(record: &Record, assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    let name = "snapreach_layer_seconds";
    family(out, name, "Time in each layer of the median attempt; leg says with whom.")?;
    let by_id: HashMap<u32, &Observation> = record.observations.iter().map(|o| (o.id, o)).collect();
    for (cell, target) in distinct(record, assessment) {
        let Some(walk) = median(cell, &by_id) else { continue };
        let lookup = walk.parent.and_then(|parent| by_id.get(&parent));
        let steps = lookup.into_iter().flat_map(|lookup| &lookup.steps).chain(&walk.steps);
        let mut seen = HashSet::new();
        for step in steps.filter(|step| seen.insert((step.layer(), step.leg))) {
            let labels = [
                ("target", target.as_str()),
                ("route", &cell.route.to_string()),
                ("layer", &step.layer().to_string()),
                ("leg", &wire(&step.leg)),
            ];
            sample(out, name, &labels, &words::seconds(step.elapsed_us))?;
        }
    }
    Ok(())
}

fn predictions(assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    let name = "snapreach_snapshot_expected";
    let known: Vec<_> = assessment.predictions.iter().filter(|made| made.outcome != Outcome::Unknown).collect();
    if known.is_empty() {
        return Ok(());
    }
    family(out, name, "1 if the consumer would report success with this method, 0 if not; absent if that is open.")?;
    for made in known {
        let value = if made.outcome == Outcome::Success { "1" } else { "0" };
        sample(out, name, &[("consumer", &made.consumer), ("method", &made.method)], value)?;
    }
    Ok(())
}

fn findings(assessment: &Assessment, out: &mut dyn Write) -> io::Result<()> {
    let name = "snapreach_finding";
    let mut counts: BTreeMap<_, usize> = BTreeMap::new();
    for finding in &assessment.findings {
        let key = (finding.severity, finding.code, finding.hop, finding.route);
        *counts.entry(key).or_default() += finding.targets.len().max(1);
    }
    family(out, name, "Targets that a finding concerns; 1 if it concerns no target in particular.")?;
    for ((severity, code, hop, route), count) in counts {
        let route = route.map(|route| route.to_string()).unwrap_or_default();
        let labels =
            [("code", code.0), ("hop", &wire(&hop)), ("route", &route), ("severity", words::severity(severity))];
        sample(out, name, &labels, &count.to_string())?;
    }
    Ok(())
}

/// Cells with the name of their target. Each target and route comes once: a series must not repeat.
fn distinct<'a>(record: &'a Record, assessment: &'a Assessment) -> impl Iterator<Item = (&'a Cell, String)> {
    let mut seen = HashSet::new();
    assessment
        .cells
        .iter()
        .filter_map(|cell| Some((cell, record.targets.get(cell.target)?.to_string())))
        .filter(move |(cell, target)| seen.insert((cell.route, target.clone())))
}

/// The attempt in the middle by time, among those that passed, or among all when none did.
fn median<'a>(cell: &Cell, by_id: &HashMap<u32, &'a Observation>) -> Option<&'a Observation> {
    let walks = cell.observations.iter().filter_map(|id| by_id.get(id).copied());
    let mut walks: Vec<_> = walks.filter(|walk| walk.control.is_none() && !walk.is_lookup()).collect();
    if walks.iter().any(|walk| walk.failed().is_none()) {
        walks.retain(|walk| walk.failed().is_none());
    }
    walks.sort_by_key(|walk| walk.steps.iter().map(|step: &Step| step.elapsed_us).sum::<u64>());
    walks.get(walks.len().saturating_sub(1) / 2).copied()
}

fn family(out: &mut dyn Write, name: &str, help: &str) -> io::Result<()> {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge")
}

fn sample(out: &mut dyn Write, name: &str, labels: &[(&str, &str)], value: &str) -> io::Result<()> {
    out.write_all(name.as_bytes())?;
    for (index, (label, text)) in labels.iter().enumerate() {
        write!(out, "{}{label}=\"{}\"", if index == 0 { '{' } else { ',' }, escape(text))?;
    }
    writeln!(out, "{} {value}", if labels.is_empty() { "" } else { "}" })
}

/// A label value: backslash, quote and line feed are escaped; what [`clean`] escapes comes first.
fn escape(text: &str) -> String {
    clean(text).replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn print(case: &fixtures::Case) -> String {
        let mut out = Vec::new();
        write(&case.record, &case.assessment, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_series_comes_twice_and_every_family_is_declared() {
        let mut case = fixtures::blocked();
        let twice = case.assessment.cells[0].clone();
        case.assessment.cells.push(twice);
        let text = print(&case);
        let mut series = HashSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(series.insert(name), "{line}");
            let family = name.split('{').next().unwrap();
            assert!(text.contains(&format!("# TYPE {family} gauge\n")), "{line}");
        }
        assert!(series.len() > 10);
    }

    #[test]
    fn label_values_are_quoted() {
        let mut case = fixtures::clear();
        case.record.targets[0].path = "/a\"b\\c\nd".into();
        assert!(print(&case).contains(r#"target="https://acct.blob.core.windows.net:443/a\"b\\c\\nd""#));
    }

    #[test]
    fn the_median_attempt_is_one_that_passed() {
        let case = fixtures::blocked();
        let by_id: HashMap<u32, &Observation> = case.record.observations.iter().map(|o| (o.id, o)).collect();
        let mut cell = case.assessment.cells[0].clone();
        cell.observations = vec![1, 2, 3, 99];
        assert_eq!(median(&cell, &by_id).unwrap().id, 2, "neither the lookup nor the slow failure");
        cell.observations = vec![1, 3];
        assert_eq!(median(&cell, &by_id).unwrap().id, 3);
        cell.observations = vec![];
        assert!(median(&cell, &by_id).is_none());
    }
}
