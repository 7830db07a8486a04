//! Reports of made-up runs, as reviewed snapshots; and what must hold of every report and of what is read again.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use proptest::prelude::*;
use quick_xml::{Reader, events::Event};
use serde_json::{Value, json};

use super::{FORMATS, write};
use crate::{
    bench::{
        ArmInfo, Cpu, Distribution, Environment, Failures, Form, Lateness, Load, Measurement, MergeError, Part,
        ReadError, Run, Settings, Status, Tcp, Tick, Workload,
        gate::{
            Design, ErrorJudgement, Judgement, Metric, MetricJudgement, Outcome, Pair, Question, Slice as GateSlice,
        },
        merge, verdict,
    },
    model::{SCHEMA, ToolInfo},
    report::{Format, Style},
};

/// What a hostile peer might have left in an example.
const HOSTILE: &str = "answered `403` <script>alert(1)</script>|]]>\u{1b}[31m\u{202e}\r\n@everyone";

/// Times around so many microseconds, with a tail.
fn times(us: u64, count: u64) -> Distribution {
    let mut times = Distribution::default();
    for n in 0..count {
        let tail = if n % 100 == 99 { 8 * us } else { 0 };
        times.record(Duration::from_micros(us + n % 17 * us / 40 + tail));
    }
    times
}

fn series(bytes: u64, operations: u64, ticks: u64) -> Vec<Tick> {
    (0..ticks)
        .map(|n| Tick {
            operations: operations + n % 3,
            bytes: bytes + bytes / 20 * (n % 5),
            failed: u64::from(n == ticks / 2),
        })
        .collect()
}

fn settings(workload: Workload, load: Load) -> Settings {
    Settings {
        workload,
        load,
        connections: 4,
        duration_ms: 10_000,
        warmup_ms: 1_000,
        bytes: 256 << 20,
        timeout_ms: 5_000,
        resumed: false,
        verify: false,
        seed: 42,
    }
}

fn arm(proxy: Option<&str>, measurement: Measurement) -> ArmInfo {
    ArmInfo {
        label: proxy.map_or_else(|| "direct".to_owned(), |proxy| format!("through {proxy}")),
        target: "http://10.1.0.9:8080".to_owned(),
        proxy: proxy.map(str::to_owned),
        form: Form::Tunnel,
        measurement,
    }
}

fn run(settings: Settings, arms: Vec<ArmInfo>, gate: Option<Judgement>) -> Run {
    Run {
        schema: SCHEMA,
        tool: ToolInfo { name: "snapreach".to_owned(), version: "0.1.0".to_owned() },
        kind: "bench".to_owned(),
        started_at: "2026-11-23T02:00:00Z".to_owned(),
        elapsed_ms: 11_204,
        verdict: verdict(&settings, &arms, gate.as_ref()),
        settings,
        environment: Environment {
            system: "Linux 6.8.0".to_owned(),
            processors: 2,
            congestion: "cubic".to_owned(),
            machines: 1,
        },
        arms,
        gate,
        notes: Vec::new(),
        interrupted: false,
    }
}

fn downloaded() -> Measurement {
    Measurement {
        elapsed_us: 10_000_000,
        operations: 127,
        resumed: 0,
        bytes: 34_180_000_000,
        latency: times(312_000, 127),
        parts: BTreeMap::from([
            (Part::Resolve, times(400, 1)),
            (Part::Connect, times(41, 4)),
            (Part::FirstByte, times(190, 127)),
        ]),
        errors: BTreeMap::new(),
        cpu: Cpu {
            user_us: 420_000,
            system_us: 7_900_000,
            machine_us: 20_000_000,
            busy_us: 18_640_000,
            steal_us: 40_000,
            busiest_permille: 971,
        },
        tcp: Tcp { connections: 4, retransmitted: 3, rtt: times(21, 4) },
        lateness: None,
        tick_us: 100_000,
        series: series(320_000_000, 1, 100),
        slices: Vec::new(),
    }
}

fn download() -> Run {
    run(settings(Workload::Download, Load::Closed), vec![arm(None, downloaded())], None)
}

fn request() -> Run {
    let measured = Measurement {
        operations: 19_880,
        bytes: 20_357_120,
        latency: times(152, 20_000),
        parts: BTreeMap::from([
            (Part::Connect, times(41, 6)),
            (Part::Tunnel, times(380, 6)),
            (Part::Tls, times(900, 6)),
            (Part::FirstByte, times(140, 19_880)),
        ]),
        errors: BTreeMap::from([
            ("proxy.port_denied".to_owned(), Failures { count: 3, example: HOSTILE.to_owned() }),
            ("tcp.reset".to_owned(), Failures { count: 117, example: "reset after 812 bytes".to_owned() }),
        ]),
        lateness: Some(Lateness { due: 20_012, dropped: 12, late: times(9, 20_000) }),
        series: series(200_000, 198, 100),
        ..downloaded()
    };
    let settings = settings(Workload::Request, Load::Open { rate: 2_000.0 });
    let mut run = run(settings, vec![arm(Some("http://10.0.0.5:3128"), measured)], None);
    run.notes.push(format!("The lab says: {HOSTILE}"));
    run
}

/// Pairs with some noise.
fn pairs(ratio: f64, noise: f64, n: u32) -> Vec<Pair> {
    let slice = |value| GateSlice {
        values: BTreeMap::from([(Metric::Goodput, value)]),
        operations: 34,
        errors: BTreeMap::new(),
    };
    let near = |n: u32| ratio + noise * (f64::from(n * 7 % 15) / 7.0 - 1.0);
    (0..n).map(|n| Pair { a: slice(3.4e9), b: slice((3.4e9 * near(n)).round()), b_first: n % 2 == 1 }).collect()
}

fn judgement(design: Design, outcome: Outcome, (ratio, low, high): (f64, f64, f64)) -> Judgement {
    Judgement {
        design,
        question: Question::new(vec![Metric::Goodput], 0.05),
        outcome,
        looks: 1,
        metrics: vec![MetricJudgement {
            metric: Metric::Goodput,
            outcome,
            pairs: 15,
            ratio: Some(ratio),
            interval: Some((low, high)),
            p_fail: 0.000_031,
            p_pass: 0.998,
            smallest_effect: Some(0.062),
        }],
        errors: ErrorJudgement { outcome: Outcome::Pass, a: (0, 510), b: (2, 512), p: 0.229, new_codes: Vec::new() },
        pairs: pairs(ratio, high - low, 15),
    }
}

fn compared(design: Design, outcome: Outcome, ratio: (f64, f64, f64)) -> Run {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share near 1")]
    let of_b = (ratio.0 * 1000.0) as u64;
    let side = |share: u64, count| {
        let mut all = Measurement::default();
        for _ in 0..15 {
            all.append(&Measurement {
                elapsed_us: 2_700_000,
                operations: 34,
                bytes: 9_200_000 * share,
                latency: times(31_200_000 / share, 34),
                tick_us: 100_000,
                series: series(340_000 * share, 1, 27),
                ..downloaded()
            });
        }
        all.errors = if count > 0 {
            BTreeMap::from([("tcp.reset".to_owned(), Failures { count, example: "reset".into() })])
        } else {
            BTreeMap::new()
        };
        all
    };
    let b = side(of_b, 2);
    let arms = vec![arm(None, side(1000, 0)), arm(Some("http://10.0.0.5:3128"), b)];
    run(settings(Workload::Download, Load::Closed), arms, Some(judgement(design, outcome, ratio)))
}

fn failed() -> Run {
    compared(Design::Paired, Outcome::Fail, (0.902, 0.895, 0.909))
}

fn inconclusive() -> Run {
    compared(Design::Paired, Outcome::Inconclusive, (0.958, 0.931, 1.004))
}

/// Two machines: the second went through the same proxy a second later, with fewer connections.
fn merged() -> Run {
    let mut second = request();
    second.started_at = "2026-11-23T02:00:01Z".to_owned();
    second.settings.connections = 2;
    second.arms[0].target = "http://10.1.0.10:8080".to_owned();
    second.arms[0].measurement.operations = 120;
    second.arms[0].measurement.series.truncate(40);
    merge(&[request(), second]).unwrap()
}

fn all() -> [(&'static str, Run); 10] {
    let mut idle = download();
    idle.arms[0].measurement = Measurement {
        errors: BTreeMap::from([("tcp.refused".to_owned(), Failures { count: 1_203, example: "refused".into() })]),
        ..Measurement::default()
    };
    idle.verdict = verdict(&idle.settings, &idle.arms, None);
    let mut saturated = request();
    saturated.arms[0].measurement.lateness.as_mut().unwrap().late = times(4_200, 20_000);
    saturated.verdict = verdict(&saturated.settings, &saturated.arms, None);
    let noisy = (1.001, 0.92, 1.08);
    [
        ("download", download()),
        ("request", request()),
        ("failed", failed()),
        ("inconclusive", inconclusive()),
        ("merged", merged()),
        ("calibration", compared(Design::Calibration, Outcome::Pass, (1.001, 0.994, 1.007))),
        ("calibration_noisy", compared(Design::Calibration, Outcome::Inconclusive, noisy)),
        ("baseline", compared(Design::Baseline, Outcome::Pass, (1.02, 1.01, 1.03))),
        ("idle", idle),
        ("saturated", saturated),
    ]
}

fn shown(format: Format, run: &Run, style: Style) -> String {
    let mut out = Vec::new();
    write(format, run, &style, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn plain(format: Format, run: &Run) -> String {
    shown(format, run, Style::default())
}

#[test]
fn text() {
    for (name, run) in all() {
        insta::assert_snapshot!(format!("{name}_text"), plain(Format::Text, &run));
    }
    let verbose = Style { verbose: 1, ..Style::default() };
    insta::assert_snapshot!("failed_text_v", shown(Format::Text, &failed(), verbose));
}

#[test]
fn other_formats() {
    for (name, mut run) in all().into_iter().take(5) {
        insta::assert_snapshot!(format!("{name}_markdown"), plain(Format::Markdown, &run));
        insta::assert_snapshot!(format!("{name}_csv"), {
            let csv = plain(Format::Csv, &run).replace("\r\n", "\n");
            let lines: Vec<&str> = csv.lines().collect();
            // The first slice, and where the next begins.
            lines.iter().take(30).copied().chain(lines.last().copied()).collect::<Vec<_>>().join("\n")
        });
        // As much as can be read by a reviewer.
        for arm in &mut run.arms {
            arm.measurement.series.truncate(10);
            arm.measurement.slices.clear();
            arm.measurement.elapsed_us = 1_000_000;
        }
        if let Some(gate) = &mut run.gate {
            gate.pairs.truncate(1);
        }
        insta::assert_snapshot!(format!("{name}_json"), plain(Format::Json, &run));
        insta::assert_snapshot!(format!("{name}_html"), plain(Format::Html, &run));
    }
}

#[test]
fn what_was_saved_is_read_again() {
    for (name, run) in all() {
        assert!(Run::read(&plain(Format::Json, &run)).unwrap() == run, "{name}");
    }
}

#[test]
fn pages_are_well_formed_and_load_nothing() {
    for (name, run) in all() {
        let page = plain(Format::Html, &run);
        for foreign in ["<script", "<a ", "<img", "url(", "@import", "http-equiv=\"refresh"] {
            assert!(!page.contains(foreign), "{name}: {foreign}");
        }
        let pictures: Vec<&str> =
            page.split("<figure>").skip(1).map(|after| after.split("</figure>").next().unwrap()).collect();
        assert_eq!(pictures.len(), if name == "idle" { 0 } else { 2 }, "{name}");
        for picture in pictures {
            let svg = &picture[picture.find("<svg").unwrap()..];
            let (mut reader, mut points) = (Reader::from_str(svg), 0);
            reader.config_mut().check_end_names = true;
            loop {
                match reader.read_event().unwrap() {
                    Event::Eof => break,
                    Event::Start(tag) | Event::Empty(tag) if tag.name().as_ref() == b"polyline" => points += 1,
                    _ => {}
                }
            }
            assert_eq!(points, run.arms.len(), "{name}");
            assert!(!svg.contains("NaN") && !svg.contains("inf,"), "{svg}");
        }
    }
}

#[test]
fn nothing_that_a_peer_says_has_a_meaning() {
    let run = request();
    for format in FORMATS {
        let report = plain(format, &run);
        assert!(!report.contains(['\u{1b}', '\u{202e}']), "{format}");
        if format != Format::Json && format != Format::Text {
            assert!(!report.contains("<script") && !report.contains("@everyone") || format == Format::Html, "{format}");
        }
    }
    assert!(plain(Format::Html, &run).contains("&lt;script&gt;alert(1)"));
    let narrow = shown(Format::Text, &run, Style { width: 60, ..Style::default() });
    assert!(narrow.lines().all(|line| line.chars().count() <= 76), "{narrow}");
}

#[test]
fn other_formats_are_refused() {
    let mut out = Vec::new();
    assert!(write(Format::Junit, &download(), &Style::default(), &mut out).is_err());
}

#[test]
fn slices_keep_their_times() {
    let run = failed();
    let csv = plain(Format::Csv, &run);
    let row = |n: usize| csv.lines().nth(n).unwrap().to_owned();
    assert!(row(27).starts_with("A,1,2.600000,0.100000,"), "{}", row(27));
    assert!(row(28).starts_with("A,2,2.700000,0.100000,"), "{}", row(28));
    assert_eq!(csv.lines().filter(|line| line.starts_with("B,")).count(), 15 * 27);
}

// ---- sums

#[test]
fn sums_are_exact() {
    let sum = merged();
    let (sum, one) = (&sum.arms[0].measurement, &request().arms[0].measurement);
    assert_eq!(sum.operations, one.operations + 120);
    assert_eq!(sum.latency.count(), 2 * one.latency.count());
    assert_eq!(sum.latency.quantile(0.99), one.latency.quantile(0.99));
    assert_eq!(sum.errors["tcp.reset"].count, 234);
    assert_eq!((sum.series.len(), sum.series[3].bytes), (100, 2 * one.series[3].bytes));
    assert_eq!(sum.series[80], one.series[80]);
    assert_eq!(sum.elapsed_us, one.elapsed_us);
}

#[test]
fn settings_of_generators_add_up() {
    let sum = merged();
    assert_eq!((sum.settings.connections, sum.settings.load), (6, Load::Open { rate: 4_000.0 }));
    assert_eq!((sum.environment.machines, sum.environment.processors, sum.elapsed_ms), (2, 4, 12_204));
    assert_eq!(sum.notes.len(), 1, "the same note is said once");
}

#[test]
fn runs_that_did_not_overlap_are_told() {
    let mut later = request();
    later.started_at = "2026-11-23T03:00:00Z".to_owned();
    let sum = merge(&[later, request()]).unwrap();
    assert!(sum.notes[0].contains("not all under way"), "{:?}", sum.notes);
    assert_eq!(sum.started_at, "2026-11-23T02:00:00Z");
}

#[test]
fn what_does_not_add_up_is_refused() {
    let refused = |runs: &[Run]| merge(runs).unwrap_err();
    assert_eq!(refused(&[request()]), MergeError::TooFew);
    assert_eq!(refused(&[request(), request()]), MergeError::Twice { first: 1, second: 2 });
    assert_eq!(refused(&[failed(), inconclusive()]), MergeError::Comparison { run: 1 });
    let what = vec!["workload", "load model", "way (direct, or through a proxy)"];
    assert_eq!(refused(&[download(), request()]), MergeError::Differ { run: 2, what });
}

#[test]
fn a_machine_that_could_not_keep_up_spoils_the_sum() {
    let mut saturated = request();
    saturated.verdict.status = Status::Inconclusive;
    saturated.verdict.summary = "generator saturated: 99 % of one processor, steal 12 %".to_owned();
    saturated.verdict.exit_code = 3;
    let sum = merge(&[request(), saturated]).unwrap();
    assert_eq!((sum.verdict.status, sum.verdict.exit_code), (Status::Inconclusive, 3));
    assert!(sum.verdict.summary.contains("1 of 2 runs") && sum.verdict.summary.contains("steal 12 %"));
}

// ---- what is read

fn document() -> Value {
    serde_json::from_str(&plain(Format::Json, &failed())).unwrap()
}

#[test]
fn errors_say_what_is_wrong() {
    let error = |text: &str| Run::read(text).unwrap_err().to_string();
    assert!(error("{\n\"schema\": 1,\n!").contains("line 3 column 1"), "{}", error("{\n\"schema\": 1,\n!"));
    assert!(error("[]").contains("no saved run"));
    assert!(error(r#"{"schema": 1, "kind": "check"}"#).contains("but a `check`"));
    assert!(error(r#"{"schema": 7, "kind": "bench"}"#).contains("schema 7"));
    let truncated = plain(Format::Json, &download());
    assert!(matches!(Run::read(&truncated[..truncated.len() / 2]), Err(ReadError::Json(_))));
}

#[test]
fn what_no_run_says_is_refused() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 11] = [
        ("arms", |run| run["arms"] = json!([])),
        ("third arm", |run| {
            let arm = run["arms"][0].clone();
            run["arms"].as_array_mut().unwrap().push(arm);
        }),
        ("negative", |run| run["arms"][0]["measurement"]["operations"] = json!(-1)),
        ("huge", |run| run["arms"][0]["measurement"]["series"][0]["bytes"] = json!(u64::MAX)),
        ("code", |run| run["arms"][0]["measurement"]["errors"] = json!({"x; reboot": {"count": 1, "example": ""}})),
        ("ticks", |run| run["arms"][0]["measurement"]["tick_us"] = json!(0)),
        ("slices", |run| run["arms"][0]["measurement"]["slices"] = json!([3, 2])),
        ("machines", |run| run["environment"]["machines"] = json!(0)),
        ("margin", |run| run["gate"]["question"]["margin"] = json!(1.5)),
        ("count", |run| run["arms"][0]["measurement"]["latency"]["count"] = json!(1)),
        ("histogram", |run| {
            run["arms"][0]["measurement"]["latency"]["hdr"] = json!(
                "HISTFAAAAEV42pNpmSzMwMCgyAABTBDKT4GBgdnNYMcCBvsPEBEJISEuATEZMQ4uASkhIR4nrxg9v2lMaxhvMekILGZkKmcCAEf2CsI="
            );
        }),
    ];
    assert!(Run::read(&document().to_string()).is_ok());
    for (name, change) in changes {
        let mut run = document();
        change(&mut run);
        assert!(Run::read(&run.to_string()).is_err(), "{name}");
    }
}

/// Replaces the value at the n-th place of a document.
fn replace(value: &mut Value, n: &mut usize, with: &Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, n, with)),
        Value::Object(values) => values.values_mut().for_each(|value| replace(value, n, with)),
        _ => {}
    }
    if *n == 0 {
        *value = with.clone();
    }
    *n = n.wrapping_sub(1);
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::collection::vec(any::<u64>().prop_map(Value::from), 0..5).prop_map(Value::from),
    ]
}

/// A comparison and a run of one path, with little of everything.
static SMALL: LazyLock<[Value; 2]> = LazyLock::new(|| {
    let mut two = failed();
    for arm in &mut two.arms {
        arm.measurement.series.truncate(2);
        arm.measurement.slices = vec![1];
        arm.measurement.errors = request().arms[0].measurement.errors.clone();
        arm.measurement.lateness = Some(Lateness { due: 3, dropped: 1, late: times(4, 2) });
    }
    two.gate.as_mut().unwrap().pairs.truncate(1);
    let mut one = two.clone();
    one.gate = None;
    one.arms.truncate(1);
    [two, one].map(|run| serde_json::to_value(run).unwrap())
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_read_can_be_reported(which in 0_usize..2, n in 0_usize..180, with in anything()) {
        let mut document = SMALL[which].clone();
        replace(&mut document, &mut n.clone(), &with);
        if let Ok(run) = Run::read(&document.to_string()) {
            for format in FORMATS {
                plain(format, &run);
            }
            let mut other = run.clone();
            other.elapsed_ms += 1;
            if let Ok(sum) = merge(&[run, other]) {
                plain(Format::Html, &sum);
            }
        }
    }

    #[test]
    fn a_document_that_is_cut_off_is_an_error(at in 0.0..1.0_f64) {
        let text = SMALL[0].to_string();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in it")]
        let end = (text.len() as f64 * at) as usize;
        prop_assert!(Run::read(text.get(..end).unwrap_or_default()).is_err());
    }
}
