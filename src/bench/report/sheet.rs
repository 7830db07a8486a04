//! What a report says, before it has a format: text, Markdown and HTML differ in looks alone.

use std::time::Duration;

use super::{
    figures::{
        at_least, averaged, bits_per_second, bytes, bytes_per_second, per_second, percent, size, sparkline, time,
    },
    words,
};
use crate::{
    bench::{
        ArmInfo, Distribution, Load, Measurement, Run, Settings, Workload,
        gate::{Design, Judgement, Metric, MetricCalibration, MetricJudgement},
    },
    report::{count, plural},
};

/// Bars of a sparkline.
const BARS: usize = 40;

/// Kinds of failures that are listed; the rest is counted.
const MAX_CODES: usize = 8;

/// Characters of a failure's example.
const MAX_EXAMPLE: usize = 200;

/// A report's content below its verdict, in order.
pub(super) struct Sheet(pub(super) Vec<Block>);

pub(super) enum Block {
    /// Facts, one below the other.
    Facts(Vec<Fact>),
    /// Figures side by side.
    Table(Table),
}

/// Something to know, under a name that is short.
pub(super) struct Fact {
    pub(super) name: &'static str,
    pub(super) lines: Vec<String>,
}

/// Figures side by side: the first column names the rows.
pub(super) struct Table {
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl Sheet {
    /// What there is to say; with `all` also the chances that the judgement rests on.
    pub(super) fn new(run: &Run, all: bool) -> Self {
        let mut blocks = Vec::new();
        match (run.arms.as_slice(), &run.gate) {
            ([a, b], Some(gate)) => {
                blocks.push(Block::Facts(judged(run, a, b, gate, all)));
                blocks.push(Block::Table(beside(&run.settings, &a.measurement, &b.measurement)));
                let arms = [("A", a), ("B", b)];
                blocks.push(Block::Facts(
                    arms.into_iter().filter_map(|(name, arm)| course(name, &run.settings, &arm.measurement)).collect(),
                ));
                blocks.push(Block::Facts(failures(&[("A: ", &a.measurement), ("B: ", &b.measurement)])));
            }
            (arms, _) => {
                for arm in arms {
                    blocks.push(Block::Facts(measured(&run.settings, &arm.measurement)));
                    blocks.push(Block::Table(times(&arm.measurement)));
                    blocks.push(Block::Facts(failures(&[("", &arm.measurement)])));
                }
            }
        }
        blocks.push(Block::Facts(circumstances(run)));
        blocks.retain(|block| match block {
            Block::Facts(facts) => !facts.is_empty(),
            Block::Table(table) => !table.rows.is_empty(),
        });
        Self(blocks)
    }
}

fn fact(name: &'static str, text: impl Into<String>) -> Fact {
    Fact { name, lines: vec![text.into()] }
}

// ---- one path

fn measured(settings: &Settings, measured: &Measurement) -> Vec<Fact> {
    let mut facts = Vec::new();
    if measured.bytes > 0 {
        let goodput = measured.goodput();
        let (per_second, bits) = (bytes_per_second(goodput), bits_per_second(goodput));
        let lasted = time(measured.elapsed());
        facts.push(fact("Goodput", format!("{per_second} ({bits}): {} in {lasted}", bytes(measured.bytes))));
    }
    if measured.operations > 0 {
        facts.push(fact("Rate", words::throughput(settings, measured)));
    }
    facts.extend(course("Over time", settings, measured));
    facts.extend(schedule(measured));
    facts.extend(cpu(settings, measured));
    facts.extend(tcp(measured));
    facts
}

/// How it went.
fn course(name: &'static str, settings: &Settings, measured: &Measurement) -> Option<Fact> {
    let values = measured.course(settings.workload.is_bulk());
    if values.len() < 2 {
        return None;
    }
    let shown: Vec<f64> = averaged(&values, BARS).collect();
    let (low, high) = shown.iter().fold((f64::MAX, 0.0_f64), |(low, high), value| (low.min(*value), high.max(*value)));
    let say = if settings.workload.is_bulk() { bytes_per_second } else { per_second };
    Some(fact(name, format!("{} {} to {}", sparkline(&values, BARS), say(low), say(high))))
}

/// How well the clock of an open model was kept.
fn schedule(measured: &Measurement) -> Option<Fact> {
    let schedule = measured.lateness.as_ref()?;
    let begun = schedule.due.saturating_sub(schedule.dropped);
    let mut lines =
        vec![format!("{} due, {} begun, {} dropped", count(schedule.due), count(begun), count(schedule.dropped))];
    if schedule.dropped > 0 {
        lines.push("dropped: all connections were busy until the end; more of them, or a lower rate".to_owned());
    }
    let late = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)]
        .into_iter()
        .filter_map(|(name, share)| Some(format!("{name} {}", time(schedule.late.quantile(share)?))));
    let late: Vec<String> = late.collect();
    if !late.is_empty() {
        lines.push(format!("begun late by this program itself: {}", late.join(", ")));
    }
    Some(Fact { name: "Schedule", lines })
}

/// What this side's processors did, for each unit of what was done.
fn cpu(settings: &Settings, measured: &Measurement) -> Option<Fact> {
    let cpu = measured.cpu;
    let mut lines = Vec::new();
    if let Some(each) = cpu_each(settings, measured) {
        let share = |part: u64| each.mul_f64(words::share(part, cpu.user_us + cpu.system_us));
        let unit = if settings.workload.is_bulk() { "GB" } else { "operation" };
        let (user, system) = (time(share(cpu.user_us)), time(share(cpu.system_us)));
        lines.push(format!("{} for each {unit} (user {user}, system {system})", time(each)));
    }
    if cpu.machine_us > 0 {
        let (busy, steal) = (words::share(cpu.busy_us, cpu.machine_us), words::share(cpu.steal_us, cpu.machine_us));
        let busiest = f64::from(cpu.busiest_permille) / 1000.0;
        lines.push(format!(
            "machine {} busy, {} stolen by the hypervisor; this program's busiest thread {}",
            percent(busy),
            percent(steal),
            percent(busiest)
        ));
    }
    (!lines.is_empty()).then_some(Fact { name: "CPU here", lines })
}

/// CPU time of this side for an operation, or for 10^9 bytes.
fn cpu_each(settings: &Settings, measured: &Measurement) -> Option<Duration> {
    let units = if settings.workload.is_bulk() { as_f64(measured.bytes) / 1e9 } else { as_f64(measured.operations) };
    let own = measured.cpu.own();
    (units > 0.0 && !own.is_zero()).then(|| Duration::try_from_secs_f64(own.as_secs_f64() / units).ok()).flatten()
}

fn tcp(measured: &Measurement) -> Option<Fact> {
    let tcp = &measured.tcp;
    if tcp.connections == 0 {
        return None;
    }
    let (connections, again) = (plural(tcp.connections, "connection"), plural(tcp.retransmitted, "segment"));
    let rtt = match (tcp.rtt.quantile(0.5), tcp.rtt.quantile(0.99)) {
        (Some(p50), Some(p99)) => format!("; round trip p50 {}, p99 {}", time(p50), time(p99)),
        _ => String::new(),
    };
    Some(fact("TCP", format!("{connections}, {again} sent again{rtt}")))
}

/// How long operations took, and where that time went.
fn times(measured: &Measurement) -> Table {
    let head = vec!["Time", "p50", "p90", "p99", "p99.9", "max", "count"];
    let row = |name: &str, times: &Distribution| {
        let at = |share| times.quantile(share).map_or_else(String::new, time);
        let mut row = vec![name.to_owned()];
        row.extend([0.5, 0.9, 0.99, 0.999, 1.0].map(at));
        row.push(count(times.count()));
        row
    };
    let whole = (!measured.latency.is_empty()).then(|| row("operation", &measured.latency));
    let parts = measured.parts.iter().filter(|(_, times)| !times.is_empty());
    Table { head, rows: whole.into_iter().chain(parts.map(|(part, times)| row(part.name(), times))).collect() }
}

/// The failures, most frequent first.
fn failures(arms: &[(&str, &Measurement)]) -> Vec<Fact> {
    let mut lines = Vec::new();
    let mut first = None;
    for (name, measured) in arms {
        let mut errors: Vec<_> = measured.errors.iter().filter(|(_, failures)| failures.count > 0).collect();
        errors.sort_by_key(|(_, failures)| std::cmp::Reverse(failures.count));
        let failed = measured.failed();
        if failed == 0 {
            continue;
        }
        let tried = failed + measured.operations;
        let share = percent(words::share(failed, tried));
        lines.push(format!("{name}{} of {} ({share})", count(failed), plural(tried, "operation")));
        for (code, failures) in errors.iter().take(MAX_CODES) {
            let example: String = failures.example.chars().take(MAX_EXAMPLE).collect();
            let example = if example.is_empty() { example } else { format!(", such as: {example}") };
            lines.push(format!("{name}{} x {code}{example}", count(failures.count)));
        }
        if errors.len() > MAX_CODES {
            lines.push(format!("{name}and {} more codes", count(errors.len() - MAX_CODES)));
        }
        first = first.or_else(|| errors.first().map(|(code, _)| code.as_str()));
    }
    lines.extend(first.map(|code| format!("`snapreach explain {code}` says what it means and what to do")));
    if lines.is_empty() { Vec::new() } else { vec![Fact { name: "Failures", lines }] }
}

// ---- two paths

fn judged(run: &Run, a: &ArmInfo, b: &ArmInfo, gate: &Judgement, all: bool) -> Vec<Fact> {
    let mut facts = vec![fact("A", words::path(a))];
    facts.push(match gate.design {
        Design::Calibration => fact("B", "the same as A, to see what can be told apart from this machine"),
        Design::Paired | Design::Baseline => fact("B", words::path(b)),
    });
    if gate.design == Design::Baseline {
        facts.push(fact("Warning", words::BASELINE));
    }
    if gate.design == Design::Calibration {
        facts.extend(gate.question.calibrate(&gate.pairs).metrics.iter().map(seen));
    } else {
        facts.extend(gate.metrics.iter().map(|judged| metric(judged, gate.question.margin, all)));
    }
    let mut errors = vec![format!("{}: {}", words::outcome(gate.errors.outcome), words::failures(gate))];
    if all {
        let p = percent(gate.errors.p);
        errors.push(format!("chance of so many more on B's side if both were alike: {p}"));
    }
    facts.push(Fact { name: "Errors", lines: errors });
    let looks: Vec<String> = gate.question.looks.iter().map(ToString::to_string).collect();
    facts.push(fact(
        "Asked",
        format!(
            "margin {}, false alarms at most {}; {} of {} taken (after {} pairs); order of each pair from seed {}",
            percent(gate.question.margin),
            percent(gate.question.alpha),
            gate.looks,
            plural(gate.question.looks.len(), "look"),
            looks.join(", "),
            run.settings.seed
        ),
    ));
    facts
}

/// How B stands to A in one figure.
fn metric(judged: &MetricJudgement, margin: f64, all: bool) -> Fact {
    let said = words::metric(judged.metric, judged.ratio, judged.interval);
    let pairs = plural(judged.pairs, "pair");
    let shown = match judged.smallest_effect {
        Some(least) => {
            format!("{pairs}; a loss of {} or more would have shown, in four of five such runs", at_least(least))
        }
        None => format!("{pairs}, too few to show any loss"),
    };
    let mut lines = vec![format!("{}: {said}", words::outcome(judged.outcome)), shown];
    if all {
        let (margin, fail, pass) = (percent(margin), percent(judged.p_fail), percent(judged.p_pass));
        lines.push(format!("chance of such pairs if B were worse by just {margin}: so bad {fail}, so good {pass}"));
    }
    Fact { name: metric_name(judged.metric), lines }
}

/// What a calibration saw of one figure.
fn seen(seen: &MetricCalibration) -> Fact {
    let said = words::metric(seen.metric, seen.ratio, seen.interval);
    let pairs = plural(seen.pairs, "pair");
    let least = match seen.smallest_margin {
        Some(least) => format!("{pairs}; the smallest margin that can be told after all looks is {}", at_least(least)),
        None => format!("{pairs}, too few to tell any margin"),
    };
    let lines =
        if seen.biased { vec!["FAIL: an arm differs from itself".to_owned(), said, least] } else { vec![said, least] };
    Fact { name: metric_name(seen.metric), lines }
}

const fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Goodput => "Goodput",
        Metric::Rate => "Rate",
        Metric::P50 => "p50",
        Metric::P99 => "p99",
        Metric::Cpu => "CPU",
    }
}

/// A beside B.
fn beside(settings: &Settings, a: &Measurement, b: &Measurement) -> Table {
    let mut rows = Vec::new();
    let mut row = |name: &str, (a, b): (f64, f64), say: &dyn Fn(f64) -> String| {
        if a > 0.0 || b > 0.0 {
            rows.push(vec![name.to_owned(), say(a), say(b), change(a, b)]);
        }
    };
    let seconds = |value: f64| time(Duration::try_from_secs_f64(value).unwrap_or_default());
    let at = |times: &Distribution, share| times.quantile(share).map_or(0.0, |time| time.as_secs_f64());
    row("goodput", (a.goodput(), b.goodput()), &bytes_per_second);
    row("rate", (a.rate(), b.rate()), &per_second);
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        row(name, (at(&a.latency, share), at(&b.latency, share)), &seconds);
    }
    // What only one side has, a lookup or a tunnel, is in its own report.
    for (part, a) in &a.parts {
        let Some(b) = b.parts.get(part) else { continue };
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            row(&format!("{} {name}", part.name()), (at(a, share), at(b, share)), &seconds);
        }
    }
    let each = |measured| cpu_each(settings, measured).map_or(0.0, |each| each.as_secs_f64());
    let unit = if settings.workload.is_bulk() { "CPU here per GB" } else { "CPU here per op" };
    row(unit, (each(a), each(b)), &seconds);
    row("round trip p50", (at(&a.tcp.rtt, 0.5), at(&b.tcp.rtt, 0.5)), &seconds);
    let whole = |n: f64| format!("{n:.0}");
    row("sent again", (as_f64(a.tcp.retransmitted), as_f64(b.tcp.retransmitted)), &whole);
    row("resumed", (as_f64(a.resumed), as_f64(b.resumed)), &whole);
    row("failed", (as_f64(a.failed()), as_f64(b.failed())), &whole);
    Table { head: vec!["", "A", "B", "B to A"], rows }
}

/// How B stands to A.
fn change(a: f64, b: f64) -> String {
    if a <= 0.0 {
        return String::new();
    }
    match b / a {
        far if far >= 10.0 => format!("x {far:.0}"),
        far => {
            let text = format!("{:+.1} %", (far - 1.0) * 100.0);
            if matches!(text.as_str(), "-0.0 %" | "+0.0 %") { "0 %".to_owned() } else { text }
        }
    }
}

// ---- what it depends on

fn circumstances(run: &Run) -> Vec<Fact> {
    let settings = &run.settings;
    let connections = plural(u64::try_from(settings.connections).unwrap_or(u64::MAX), "connection");
    let load = match settings.load {
        Load::Closed => format!("closed: {connections} at once"),
        Load::Open { rate } => format!("open: {} due, {connections} at most", per_second(rate)),
    };
    // A comparison lasts as long as it needs.
    let lasts = if run.gate.is_none() { format!(", for {}", ms(settings.duration_ms)) } else { String::new() };
    let load = format!("{load}{lasts} after {} of warm-up", ms(settings.warmup_ms));
    let form = match (settings.workload, settings.resumed) {
        (Workload::Download | Workload::Upload, _) => format!(", {} each", size(settings.bytes)),
        (Workload::Tls, true) => ", sessions resumed".to_owned(),
        (Workload::Tls, false) => ", full handshakes".to_owned(),
        _ => String::new(),
    };
    let verify = if settings.verify { ", every byte compared" } else { "" };
    let work = format!("{}{form}{verify}; a failure counts as {}", settings.workload, ms(settings.timeout_ms));
    let environment = &run.environment;
    let machines = if environment.machines > 1 {
        format!("{} added up: ", plural(environment.machines, "machine"))
    } else {
        String::new()
    };
    let system = [environment.system.as_str(), environment.congestion.as_str()];
    let mut machine: Vec<String> = system.into_iter().filter(|text| !text.is_empty()).map(str::to_owned).collect();
    machine
        .insert(machine.len().min(1), plural(u64::try_from(environment.processors).unwrap_or(u64::MAX), "processor"));
    let mut facts =
        vec![fact("Load", load), fact("Work", work), fact("Machine", format!("{machines}{}", machine.join(", ")))];
    if run.interrupted {
        facts.push(fact("Note", "The run was interrupted; this is what was measured until then."));
    }
    facts.extend(run.notes.iter().map(|note| fact("Note", note)));
    facts
}

fn ms(ms: u64) -> String {
    time(Duration::from_millis(ms))
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^52 do not occur")]
pub(super) fn as_f64(n: u64) -> f64 {
    n as f64
}
