//! What holds for reports as a whole.

use std::{
    io::{self, Write},
    path::Path,
};

use super::{Format, Style, fixtures, words, write};
use crate::model::{Cell, NotRun, Severity, Target};
use fixtures::Case;

fn print_with(format: Format, case: &Case, style: &Style) -> String {
    let mut out = Vec::new();
    write(format, &case.record, &case.assessment, style, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn print(format: Format, case: &Case) -> String {
    print_with(format, case, &Style::default())
}

fn cases() -> [(&'static str, Case); 3] {
    [("clear", fixtures::clear()), ("blocked", fixtures::blocked()), ("interrupted", fixtures::interrupted())]
}

#[test]
fn texts_as_reviewed() {
    for (name, case) in cases() {
        insta::assert_snapshot!(format!("text_{name}"), print(Format::Text, &case));
    }
    let style = Style { verbose: 2, ..Style::default() };
    insta::assert_snapshot!("text_blocked_vv", print_with(Format::Text, &fixtures::blocked(), &style));
    insta::assert_snapshot!("text_many", print(Format::Text, &fixtures::many()));
    insta::assert_snapshot!("text_discovered", print(Format::Text, &fixtures::discovered()));
}

#[test]
fn a_finding_says_everything_once() {
    let mut case = fixtures::blocked();
    let mut again = case.assessment.findings[0].clone();
    let remedy = again.remedies[0].clone();
    (again.summary, again.severity) = (format!("{}: something else", again.targets.join(" and ")), Severity::Warning);
    (again.failed, again.tried) = (1, 1);
    case.assessment.findings.truncate(1);
    case.assessment.findings.push(again);
    let text = print(Format::Text, &case);
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // What to do is printed where it is asked for first.
    assert_eq!(flat.matches(&format!("Fix {}", remedy.title)).count(), 1, "{text}");
    assert!(flat.contains(&format!("Fix As in 1: {}", remedy.title)), "{text}");
    assert_eq!(text.matches(remedy.commands[0].lines().next().unwrap()).count(), 1, "{text}");
    // Targets that the sentence names need no line of their own, and what works did not fail.
    assert_eq!(flat.matches(":443, :8443").count(), 1, "{text}");
    assert!(flat.contains("6 of 6 attempts failed;") && flat.contains("seen in 1 of 1 attempt;"), "{text}");
}

#[test]
fn json_as_reviewed() {
    insta::assert_snapshot!("json_clear", print(Format::Json, &fixtures::clear()));
}

#[test]
fn other_formats_as_reviewed() {
    for format in [Format::Markdown, Format::Prometheus, Format::Junit] {
        for (name, case) in cases() {
            insta::assert_snapshot!(format!("{format}_{name}"), print(format, &case));
        }
    }
    insta::assert_snapshot!("html_blocked", print(Format::Html, &fixtures::blocked()));
    insta::assert_snapshot!("markdown_discovered", print(Format::Markdown, &fixtures::discovered()));
}

#[test]
fn every_place_that_was_looked_at_is_listed_on_demand() {
    let case = fixtures::discovered();
    let style = Style { verbose: 1, ..Style::default() };
    let flat = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let listed = "Sources instance metadata at 169.254.169.254:80: vm-app1 in westeurope, 3 disks \
                  /etc/waagent.conf: HttpProxy.Host=10.0.0.5; and more of it is unusable \
                  /etc/environment: nothing of use /proc/7/environ: reading it needs root";
    let verbose = flat(print_with(Format::Text, &case, &style));
    assert!(verbose.contains(listed), "{verbose}");
    assert!(!flat(print(Format::Text, &case)).contains("Sources"));
}

#[test]
fn json_holds_everything_and_parses() {
    for (_, case) in cases() {
        let report: serde_json::Value = serde_json::from_str(&print(Format::Json, &case)).unwrap();
        assert_eq!(report["schema"], 1);
        assert_eq!(report["kind"], "check");
        assert_eq!(report["observations"].as_array().unwrap().len(), case.record.observations.len());
        assert_eq!(report["findings"].as_array().unwrap().len(), case.assessment.findings.len());
        assert_eq!(report["cells"].as_array().unwrap().len(), case.assessment.cells.len());
        for finding in report["findings"].as_array().unwrap() {
            assert!(matches!(finding["route"].as_str(), Some("direct" | "proxy") | None), "{finding}");
        }
        // What a peer sent arrives unchanged, though it is escaped on the way.
        let again: Vec<crate::model::Observation> = serde_json::from_value(report["observations"].clone()).unwrap();
        assert_eq!(again, case.record.observations);
    }
}

#[test]
fn json_lines_each_have_a_type() {
    let case = fixtures::blocked();
    let lines: Vec<serde_json::Value> =
        print(Format::Jsonl, &case).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!(lines[0]["type"], "verdict");
    assert_eq!(lines[0]["status"], "blocked");
    assert_eq!(lines[0]["context"]["proxy"], "http://10.0.0.5:3128");
    assert_eq!(of("finding"), case.assessment.findings.len());
    assert_eq!(of("observation"), case.record.observations.len());
    assert_eq!(of("cell"), case.assessment.cells.len());
}

#[test]
fn text_keeps_to_its_width() {
    for (name, case) in cases().into_iter().chain([("many", fixtures::many())]) {
        for (width, verbose) in [(80, 0), (80, 1), (80, 2), (60, 2), (40, 0)] {
            if name == "many" && verbose > 0 {
                continue;
            }
            let text = print_with(Format::Text, &case, &Style { color: false, width, verbose });
            let commands: Vec<&str> = case
                .assessment
                .findings
                .iter()
                .flat_map(|finding| &finding.remedies)
                .flat_map(|remedy| &remedy.commands)
                .flat_map(|command| command.lines())
                .collect();
            for line in text.lines() {
                let content = line.trim_start_matches([' ', '|', '-']);
                let content = ["Note", "Not run", "Tonight", "Fix"]
                    .iter()
                    .find_map(|label| content.strip_prefix(label))
                    .map_or(content, str::trim_start);
                assert!(
                    line.chars().count() <= width || commands.contains(&content) || !content.contains(' '),
                    "{name} at {width}: {line}"
                );
                assert_eq!(line.trim_end(), line, "{name}: spaces at the end");
            }
        }
    }
}

#[test]
fn no_peer_reaches_the_terminal() {
    let case = fixtures::blocked();
    for verbose in 0..=2 {
        let plain = print_with(Format::Text, &case, &Style { verbose, ..Style::default() });
        assert!(!plain.chars().any(|c| c != '\n' && words::is_unsafe(c)), "level {verbose}");
        let painted = print_with(Format::Text, &case, &Style { color: true, verbose, width: 80 });
        let mut unpainted = painted.clone();
        for parameters in ["0", "32", "33", "1;31", "2"] {
            unpainted = unpainted.replace(&format!("\x1b[{parameters}m"), "");
        }
        assert_ne!(painted, unpainted);
        assert_eq!(unpainted, plain, "colour changes nothing but colour");
    }
    for format in Format::OF_RECORDS {
        let text = print(format, &case);
        assert!(!text.chars().any(|c| c != '\n' && words::is_unsafe(c)), "{format}");
    }
}

#[test]
fn a_forged_record_is_as_harmless_as_a_hostile_peer() {
    let mut case = fixtures::blocked();
    let hostile = || fixtures::HOSTILE.to_owned();
    let record = &mut case.record;
    (record.started_at, record.tool.version) = (hostile(), hostile());
    (record.context.proxy, record.context.lab) = (Some(hostile()), Some(hostile()));
    record.context.notes = vec![hostile(), "wide ".repeat(40)];
    record.not_run = vec![NotRun { subject: hostile(), route: None, reason: hostile(), deadline: false }];
    record.observations[0].subject = hostile().into();
    record.targets[0].path = format!("/{}", hostile());
    case.assessment.predictions[0].reason = hostile();
    for format in Format::OF_RECORDS {
        let text = print_with(format, &case, &Style { verbose: 2, ..Style::default() });
        assert!(!text.chars().any(|c| c != '\n' && words::is_unsafe(c)), "{format}");
    }
    for markup in [Format::Html, Format::Markdown, Format::Junit] {
        // Evidence in Markdown is a code span, where text stands as it came.
        let page = print(markup, &case);
        assert!(page.lines().all(|line| line.starts_with("- `") || !line.contains("<script")), "{markup}");
        assert!(page.contains("&lt;script"), "{markup} shows it as text");
    }
    let xml = print(Format::Junit, &case);
    assert_eq!(quick_junit::Report::deserialize_from_str(&xml).unwrap().tests, 6);
}

#[test]
fn ten_thousand_targets_are_summarised() {
    let case = fixtures::many();
    let text = print(Format::Text, &case);
    assert!(text.lines().count() < 200, "{}", text.lines().count());
    assert!(text.contains("md-07777"), "the failing one is among the few shown");
    assert!(text.contains("… and 9,980 more targets: all ok;"), "{text}");
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("and 9,994 more"), "a finding names a few targets: {text}");
}

#[test]
fn ten_thousand_ports_of_one_host_are_summarised() {
    let mut case = fixtures::many();
    let host = case.record.targets[0].host.clone();
    for (port, target) in (1..).zip(&mut case.record.targets) {
        target.host = host.clone();
        target.port = port;
    }
    let text = print(Format::Text, &case);
    assert!(text.lines().count() < 200, "{}", text.lines().count());
    assert!(text.contains("  :7778  tcp.connect_timeout"), "the failing one comes first: {text}");
    assert!(text.contains("… and 9,940 more targets: all ok;"), "{text}");
    case.record.observations.truncate(3);
    let all = print_with(Format::Text, &case, &Style { verbose: 1, ..Style::default() });
    assert!(all.contains("  :10000  ok"), "-v shows every row");
}

#[test]
fn targets_that_share_a_port_are_told_apart() {
    let mut case = fixtures::clear();
    let urls =
        ["https://h/c/disk-0001-of-a-very-long-name", "https://h/c/disk-0002-of-a-very-long-name", "tcp://h:443"];
    case.record.targets = urls.iter().flat_map(|url| Target::parse(url, &[]).unwrap()).collect();
    let cell = case.assessment.cells[0].clone();
    case.assessment.cells = (0..3).map(|target| Cell { target, ..cell.clone() }).collect();
    let text = print(Format::Text, &case);
    let rows: std::collections::HashSet<&str> = text.lines().filter(|line| line.contains("ok 12 ms")).collect();
    assert_eq!(rows.len(), 3, "{text}");
}

#[test]
fn signatures_are_in_no_format() {
    let mut case = fixtures::clear();
    case.record.targets = Target::parse("https://h/c/b?sv=2020&se=2026-01-01&sig=TOPSECRET", &[]).unwrap();
    for format in Format::OF_RECORDS {
        assert!(
            !print_with(format, &case, &Style { verbose: 2, ..Style::default() }).contains("TOPSECRET"),
            "{format}"
        );
    }
}

#[test]
fn cells_that_point_nowhere_are_survived() {
    let mut case = fixtures::blocked();
    case.record.targets.clear();
    case.record.observations.clear();
    for format in Format::OF_RECORDS {
        assert!(print(format, &case).len() > 100, "{format}");
    }
}

#[test]
fn ten_thousand_targets_are_quick_in_every_format() {
    let case = fixtures::many();
    for format in Format::OF_RECORDS {
        let begin = std::time::Instant::now();
        let length = print(format, &case).len();
        let took = begin.elapsed();
        assert!(length > 1000);
        // Far above what it takes (debug builds on slow machines run this), far below anything quadratic.
        assert!(took.as_secs() < 5, "{format} took {took:?}");
    }
}

#[test]
fn a_closed_pipe_is_an_error() {
    struct Closed(usize);
    impl Write for Closed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = self.0.min(bytes.len());
            self.0 -= taken;
            if taken == 0 { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let case = fixtures::blocked();
    for format in Format::OF_RECORDS {
        for room in [0, 100] {
            let error =
                write(format, &case.record, &case.assessment, &Style::default(), &mut Closed(room)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{format}");
        }
    }
}

#[test]
fn formats_have_names_and_extensions() {
    for format in Format::OF_RECORDS {
        assert_eq!(format.as_str().parse(), Ok(format));
    }
    let of = |name: &str| Format::from_extension(Path::new(name));
    assert_eq!(of("a.XML"), Some(Format::Junit));
    assert_eq!(of("out/report.jsonl"), Some(Format::Jsonl));
    assert_eq!(of("report"), None);
    assert!("yaml".parse::<Format>().unwrap_err().to_string().contains("prometheus"));
}
