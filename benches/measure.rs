//! What measuring costs: walks of the probe against the embedded lab, and what `bench` does, keeps and decides.
//!
//! The lab shares the processors, so these figures are of both sides; `peers` and `throughput` keep them apart.

use std::{
    collections::BTreeMap,
    future::pending,
    hint::black_box,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BatchSize, Bencher, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use snapreach::{
    bench::{
        Arm, Distribution, Form, Load, Measurement, Setup, Workload, engine,
        gate::{Design, Metric, Pair, Question, Slice},
    },
    lab::{Lab, LabSpec, NameSpec},
    model::{Expectation, Host, Record, Route, Scheme, Target},
    plan::{Dns, NameServer, Plan, SystemResolver, Trust},
    probe::{self, Progress},
};
use tokio::sync::watch;

/// Targets of a check, each with a name of its own.
const TARGETS: u32 = 200;
/// Times of a distribution.
const TIMES: u32 = 100_000;
/// Pairs at the gate's last look.
const PAIRS: u32 = 45;
/// Payload of one transfer.
const TRANSFER: u64 = 64 << 20;

fn target_name(n: u32) -> String {
    format!("acct{n}.blob.core.windows.net")
}

/// A healthy lab that plays all targets, and keeps no log of what it saw.
fn lab() -> Lab {
    let name = |n| NameSpec { name: target_name(n), a: vec![Ipv4Addr::new(20, 60, 1, 1)], ..NameSpec::default() };
    let mut spec = LabSpec::default();
    spec.dns.names = (0..TARGETS).map(name).collect();
    Lab::start_watched(&spec, |_| ()).expect("the lab starts")
}

/// A plan over the lab.
fn plan(lab: &Lab, targets: Vec<Target>, route: Route) -> Plan {
    let network = lab.network();
    Plan {
        targets,
        routes: vec![route],
        proxy: network.proxy.clone().filter(|_| route == Route::Proxy),
        dns: Dns { system: SystemResolver::Stub(network.dns), server: NameServer::Off, ..Dns::default() },
        dial: network.dial.clone(),
        trust: Trust { system: false, added: Vec::new(), lab: network.roots.clone() },
        ..Plan::default()
    }
}

fn target(scheme: Scheme, port: u16, name: String) -> Target {
    Target::new(scheme, Host::Name(name.into()), port, Expectation::Anyone)
}

// ---- the probe

fn walks(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("check of {TARGETS} targets in the lab"));
    group.sample_size(10).sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(u64::from(TARGETS)));
    let lab = lab();
    let runtime = probe::runtime().expect("an event loop");
    for (name, scheme, route) in [
        ("lookup, connect", Scheme::Tcp, Route::Direct),
        ("lookup, connect, tls", Scheme::Tls, Route::Direct),
        ("connect, tunnel", Scheme::Tcp, Route::Proxy),
    ] {
        let mut plan = plan(&lab, (0..TARGETS).map(|n| target(scheme, 443, target_name(n))).collect(), route);
        plan.budgets.attempts = 1;
        plan.controls = false;
        group.bench_function(name, |b| {
            b.to_async(&runtime).iter(async || {
                let record = probe::run(plan.clone(), &Progress::default(), pending()).await.expect("it can measure");
                assert!(is_whole(&record), "a walk failed");
                record
            });
        });
    }
    group.finish();
}

fn is_whole(record: &Record) -> bool {
    let mut steps = record.observations.iter().flat_map(|observation| &observation.steps);
    record.observations.len() >= TARGETS as usize && steps.all(|step| step.failure.is_none())
}

// ---- what `bench` does

fn operations(c: &mut Criterion) {
    let mut group = c.benchmark_group("bench against the lab");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    let lab = lab();
    for (workload, scheme, port, route, resumed) in [
        (Workload::Connect, Scheme::Tcp, 443, Route::Direct, false),
        (Workload::Tls, Scheme::Tls, 443, Route::Direct, false),
        (Workload::Tls, Scheme::Tls, 443, Route::Direct, true),
        (Workload::Tunnel, Scheme::Tcp, 443, Route::Proxy, false),
        (Workload::Request, Scheme::Http, 80, Route::Direct, false),
        (Workload::Download, Scheme::Http, 80, Route::Direct, false),
        (Workload::Download, Scheme::Https, 443, Route::Direct, false),
        (Workload::Download, Scheme::Http, 80, Route::Proxy, false),
        (Workload::Upload, Scheme::Http, 80, Route::Direct, false),
        (Workload::Upload, Scheme::Https, 443, Route::Direct, false),
    ] {
        let bulk = workload.is_bulk();
        group.throughput(if bulk { Throughput::Bytes(1 << 20) } else { Throughput::Elements(1) });
        let plan = plan(&lab, vec![target(scheme, port, target_name(0))], route);
        let name = format!("{workload} by {}, {route}{}", scheme.as_str(), if resumed { ", resumed" } else { "" });
        let way = Way::new(workload, resumed, plan);
        group.bench_function(name, |b| way.bench(b, if bulk { 1 << 20 } else { 1 }));
    }
    group.finish();
}

/// One workload over one way.
struct Way {
    setup: Arc<Setup>,
    path: Arc<engine::Path>,
}

impl Way {
    fn new(workload: Workload, resumed: bool, plan: Plan) -> Self {
        let setup = Arc::new(Setup {
            workload,
            load: Load::Closed,
            connections: if workload.is_bulk() { 1 } else { 20 },
            duration: Duration::from_millis(150),
            warmup: Duration::from_millis(20),
            bytes: TRANSFER,
            timeout: Duration::from_secs(10),
            resumed,
            verify: false,
            congestion: None,
            seed: 1,
        });
        let arm = Arm { label: "lab".into(), plan, form: Form::Tunnel };
        let runtime = probe::runtime().expect("an event loop");
        let (path, _) = runtime.block_on(engine::Path::find(&setup, &arm)).expect("it can measure");
        Self { setup, path: Arc::new(path.expect("the lab answers")) }
    }

    /// The time that `unit` operations or bytes take. The engine measures for a time and not for a number of them, so
    /// slices are added up until there are enough.
    fn bench(&self, b: &mut Bencher<'_>, unit: u64) {
        let (_go, stop) = watch::channel(false);
        let slice = || {
            engine::measure(&self.setup, &self.path, &Arc::default(), &stop).expect("threads, timers and event queues")
        };
        b.iter_custom(|iterations| {
            let wanted = iterations * unit;
            let (mut done, mut taken) = (0, Duration::ZERO);
            // Nothing arrives from a lab that is stuck.
            let give_up = Instant::now() + Duration::from_secs(60);
            while done < wanted {
                let measured = slice();
                assert!(measured.errors.is_empty() && Instant::now() < give_up, "{:?}", measured.errors);
                done += units(self.setup.workload, &measured);
                taken += measured.elapsed();
            }
            #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^52 do not occur")]
            taken.mul_f64(wanted as f64 / done as f64)
        });
    }
}

fn units(workload: Workload, measured: &Measurement) -> u64 {
    if workload.is_bulk() { measured.bytes } else { measured.operations }
}

// ---- what `bench` keeps

/// Times between 0.1 and 10 ms, scattered, the same in every run.
fn times(seed: u32) -> Vec<Duration> {
    (0..TIMES)
        .map(|n| Duration::from_nanos(100_000 + u64::from((n ^ seed).wrapping_mul(0x9e37_79b9)) % 9_900_000))
        .collect()
}

fn distributions(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("distribution of {TIMES} times"));
    let of = |seed| {
        let mut distribution = Distribution::default();
        for time in times(seed) {
            distribution.record(time);
        }
        distribution
    };
    let times = times(0);
    group.throughput(Throughput::Elements(u64::from(TIMES)));
    group.bench_function("record", |b| {
        b.iter_batched_ref(
            Distribution::default,
            |distribution| times.iter().for_each(|time| distribution.record(black_box(*time))),
            BatchSize::LargeInput,
        );
    });
    let (one, other) = (of(0), of(7));
    group.throughput(Throughput::Elements(1));
    group.bench_function("merge two", |b| {
        b.iter_batched_ref(|| one.clone(), |sum| sum.add(black_box(&other)), BatchSize::SmallInput);
    });
    group.bench_function("p50, p90, p99 and p99.9", |b| {
        b.iter(|| [0.5, 0.9, 0.99, 0.999].map(|share| black_box(&one).quantile(share)));
    });
    let text = serde_json::to_string(&one).expect("JSON");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("write as HDR V2", |b| b.iter(|| serde_json::to_string(black_box(&one)).expect("JSON")));
    group.bench_function("read HDR V2", |b| {
        b.iter(|| serde_json::from_str::<Distribution>(black_box(&text)).expect("what was written"));
    });
    group.finish();
}

// ---- what `bench` decides

/// Pairs whose figures scatter by 3 % without a difference between the arms, so that the gate has to look at all of them.
fn pairs() -> Vec<Pair> {
    let side = |n: u32| {
        let figure = |metric: u32| 1e6 * (1.0 + f64::from((n * 5 + metric).wrapping_mul(0x9e37_79b9) >> 16) / 1e6);
        let metrics = [Metric::Rate, Metric::P50, Metric::P99, Metric::Cpu];
        let values: BTreeMap<Metric, f64> = metrics.into_iter().zip((0..).map(figure)).collect();
        Slice { values, operations: 50_000, errors: [("tcp.reset".to_owned(), u64::from(n % 3))].into() }
    };
    (0..PAIRS).map(|n| Pair { a: side(2 * n), b: side(2 * n + 1), b_first: n % 2 == 0 }).collect()
}

fn gate(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("gate over {PAIRS} pairs"));
    group.sample_size(10);
    let pairs = pairs();
    for metrics in [vec![Metric::Rate], vec![Metric::Rate, Metric::P50, Metric::P99, Metric::Cpu]] {
        let count = metrics.len();
        let question = Question::new(metrics, 0.05);
        for (name, design) in [("in turn", Design::Paired), ("with a baseline", Design::Baseline)] {
            group.bench_function(format!("{count} of the metrics, {name}"), |b| {
                b.iter(|| question.judge(black_box(&pairs), 2, design));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, walks, operations, distributions, gate);
criterion_main!(benches);
