//! What judging costs: heads of answers, whole records in observations per second, and the catalogue.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use snapreach::{
    classify::{self, catalogue, explain},
    http::parse_head,
    model::{
        ConnectEvidence, Context, Evidence, Failure, FailureKind, Leg, Observation, Record, Route, Step, Target,
        TcpInfo, TcpState, ToolInfo,
    },
    report::{self, Format, Style},
};

const SQUID: &[u8] = b"HTTP/1.1 403 Forbidden\r\nServer: squid/5.7\r\nMime-Version: 1.0\r\nDate: Sun, 22 Nov 2026 14:22:54 GMT\r\n\
    Content-Type: text/html;charset=utf-8\r\nContent-Length: 3080\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\nVary: Accept-Language\r\n\
    Content-Language: en\r\nX-Cache: MISS from proxy\r\nVia: 1.1 proxy (squid/5.7)\r\nConnection: keep-alive\r\n\r\n";

/// A run over `count` targets whose SYNs stay unanswered, one attempt each.
fn silent(count: u32) -> Record {
    let target = |n: u32| format!("https://10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255);
    let targets: Vec<Target> = (0..count).flat_map(|n| Target::parse(&target(n), &[443]).expect("a target")).collect();
    let tcp = TcpInfo {
        state: TcpState::SynSent,
        rtt_us: 0,
        timeouts: 2,
        retransmitted: 2,
        retransmitted_in_flight: 1,
        unacked: 1,
        snd_mss: 536,
        bytes_acked: Some(0),
    };
    let observations = targets.iter().zip(1..).map(|(target, id)| {
        let peer = target.authority().parse().expect("a literal address");
        let evidence =
            ConnectEvidence { peer, dialled: None, local: None, tcp: Some(tcp), icmp: None, path: Vec::new() };
        let failure = Some(Failure::new(FailureKind::TimedOut, "no result"));
        let step = Step {
            leg: Leg::Origin,
            start_us: 0,
            elapsed_us: 2_000_000,
            evidence: Evidence::Connect(evidence),
            failure,
        };
        Observation {
            id,
            parent: None,
            subject: target.authority().into(),
            route: Route::Direct,
            attempt: 1,
            address: Some(peer),
            control: None,
            host_service: None,
            steps: vec![step],
        }
    });
    Record {
        tool: ToolInfo::default(),
        started_at: "2026-01-01T00:00:00Z".into(),
        elapsed_ms: 2000,
        context: Context {
            cloud: "public".into(),
            routes: vec![Route::Direct],
            consumer: "vmsnapshot-linux".into(),
            ..Context::default()
        },
        observations: observations.collect(),
        targets,
        not_run: Vec::new(),
    }
}

fn heads(c: &mut Criterion) {
    c.bench_function("parse a proxy's refusal", |b| b.iter(|| parse_head(black_box(SQUID), 0)));
}

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("10,000 silent targets");
    let record = silent(10_000);
    group.sample_size(20).throughput(Throughput::Elements(record.observations.len() as u64));
    let assessment = classify::assess(&record);
    group.bench_function("assess", |b| b.iter(|| classify::assess(black_box(&record))));
    for format in [Format::Text, Format::Json] {
        group.bench_function(format!("report as {format}"), |b| {
            b.iter_batched(
                || Vec::with_capacity(16 << 20),
                |mut out| report::write(format, &record, &assessment, &Style::default(), &mut out),
                BatchSize::LargeInput,
            );
        });
    }
    let mut lines = Vec::new();
    record.write(&mut lines).expect("memory");
    group.throughput(Throughput::Bytes(lines.len() as u64));
    group.bench_function("write the record as JSON Lines", |b| {
        b.iter_batched(
            || Vec::with_capacity(16 << 20),
            |mut out| record.write(&mut out).expect("memory"),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("read the record", |b| {
        b.iter(|| Record::read(black_box(lines.as_slice())).expect("what was written"));
    });
    group.finish();
}

fn codes(c: &mut Criterion) {
    let mut group = c.benchmark_group("catalogue");
    let entries = catalogue::entries();
    group.throughput(Throughput::Elements(entries.len() as u64));
    group.bench_function("find every code", |b| {
        b.iter(|| entries.iter().filter_map(|entry| catalogue::find(black_box(entry.code.0))).count());
    });
    group.bench_function("explain every code", |b| {
        b.iter(|| entries.iter().filter_map(|entry| explain::page(black_box(entry.code.0), true, 80)).count());
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("suggest for a misspelt code", |b| b.iter(|| explain::suggest(black_box("proxy.port_denid"))));
    group.finish();
}

criterion_group!(benches, heads, records, codes);
criterion_main!(benches);
