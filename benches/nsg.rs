//! What the evaluation of security groups costs: reading a list of service tags of full size, preparing a thousand
//! rules, and deciding over flows.

use std::{
    fmt::Write as _,
    hint::black_box,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use snapreach::azure::nsg::{Compiled, Flow, Policy, Protocol, ServiceTags};

const REGIONS: [&str; 5] = ["WestEurope", "NorthEurope", "EastUS2", "FranceCentral", "AustraliaSoutheast"];
const SERVICES: u32 = 300;
const TAGS: u32 = SERVICES * 5;
/// Prefixes of each tag; every fourth is IPv6. The published list has about 100,000 in all.
const PREFIXES: u32 = 67;
const RULES: u32 = 1000;
const FLOWS: u32 = 4096;

fn tag(index: u32) -> String {
    format!("Service{}.{}", index / 5, REGIONS[index as usize % 5])
}

/// A bijection on 24 bits, so that prefixes lie scattered and rarely overlap.
fn scatter(n: u32) -> u32 {
    n.wrapping_mul(0x9e_3779) & 0xff_ffff
}

fn ipv4(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x1400_0000 + (scatter(n) << 4))
}

fn ipv6(n: u32) -> Ipv6Addr {
    Ipv6Addr::from(0x2603_1020_u128 << 96 | u128::from(scatter(n)) << 64)
}

/// A list of service tags with 100,500 prefixes, in the published form.
fn service_tags() -> String {
    let mut text = String::from("{\"changeNumber\": 1, \"cloud\": \"Public\", \"values\": [");
    for index in 0..TAGS {
        let (name, comma) = (tag(index), if index == 0 { "" } else { "," });
        let _ = write!(
            text,
            "{comma}\n{{\"name\": \"{name}\", \"id\": \"{name}\", \"properties\": {{\"changeNumber\": 1, \
             \"region\": \"{}\", \"regionId\": 1, \"platform\": \"Azure\", \"systemService\": \"Service\", \
             \"addressPrefixes\": [",
            REGIONS[index as usize % 5].to_lowercase()
        );
        for prefix in 0..PREFIXES {
            let n = index * PREFIXES + prefix;
            let comma = if prefix == 0 { "" } else { "," };
            let _ = if prefix % 4 == 3 {
                write!(text, "{comma}\n  \"{}/64\"", ipv6(n))
            } else {
                write!(text, "{comma}\n  \"{}/{}\"", ipv4(n), 28 + n % 4)
            };
        }
        text.push_str("],\n \"networkFeatures\": [\"API\", \"NSG\", \"UDR\", \"FW\"]}}");
    }
    text.push_str("]}");
    text
}

/// A group of a thousand rules: tags, prefixes and ranges of ports, allowing and denying by turns.
fn rules() -> String {
    let rule = |index: u32| {
        let to = match index % 3 {
            0 => tag(index * 7 % TAGS),
            1 => format!("{}/{}", ipv4(index * 97), 12 + index % 16),
            _ => tag(index * 31 % TAGS),
        };
        let access = if index.is_multiple_of(2) { "Allow" } else { "Deny" };
        let ports = match index % 4 {
            0 => "*".to_owned(),
            1 => (index % 1000 + 1).to_string(),
            2 => "80-443".to_owned(),
            _ => "8443".to_owned(),
        };
        format!(
            "{{\"name\": \"rule{index}\", \"priority\": {}, \"direction\": \"Outbound\", \"access\": \"{access}\", \
             \"protocol\": \"{}\", \"sourceAddressPrefix\": \"{}\", \"sourcePortRange\": \"*\", \
             \"destinationAddressPrefix\": \"{to}\", \"destinationPortRange\": \"{ports}\"}}",
            100 + index * 3,
            if index.is_multiple_of(5) { "Udp" } else { "Tcp" },
            if index.is_multiple_of(7) { "10.1.0.0/16" } else { "VirtualNetwork" },
        )
    };
    format!("[{}]", (0..RULES).map(rule).collect::<Vec<_>>().join(",\n"))
}

/// Flows to addresses of tags, to others, and to IPv6.
fn flows() -> Vec<Flow> {
    let flow = |n: u32| Flow {
        source: (n.is_multiple_of(2)).then(|| IpAddr::V4(Ipv4Addr::from(0x0a01_0000 + n))),
        source_port: (n.is_multiple_of(4)).then_some(50_000),
        destination: match n % 4 {
            0 | 1 => IpAddr::V4(Ipv4Addr::from(u32::from(ipv4(n * 24)) + n % 16)),
            2 => IpAddr::V4(Ipv4Addr::from(n.wrapping_mul(0x9e37_79b9))),
            _ => IpAddr::V6(ipv6(n * 24 + 3)),
        },
        port: [80, 443, 8443][n as usize % 3],
        protocol: if n.is_multiple_of(16) { Protocol::Udp } else { Protocol::Tcp },
    };
    (0..FLOWS).map(flow).collect()
}

fn evaluation(c: &mut Criterion) {
    let mut group = c.benchmark_group("security groups");
    group.sample_size(20);
    let (tags, rules, flows) = (service_tags(), rules(), flows());
    let listed = ServiceTags::read("tags.json", tags.as_bytes()).expect("a list").prefixes();
    group.throughput(Throughput::Bytes(tags.len() as u64));
    group.bench_function(format!("read {listed} prefixes of service tags"), |b| {
        b.iter(|| ServiceTags::read("tags.json", black_box(tags.as_bytes())).expect("a list"));
    });
    let policy =
        Policy::read(&[("nsg.json", rules.as_bytes()), ("tags.json", tags.as_bytes())]).expect("rules and a list");
    group.throughput(Throughput::Elements(u64::from(RULES)));
    group.bench_function(format!("prepare {RULES} rules"), |b| {
        b.iter_batched(|| policy.clone(), Compiled::new, BatchSize::LargeInput);
    });
    let compiled = Compiled::new(policy);
    group.throughput(Throughput::Elements(u64::from(FLOWS)));
    group.bench_function(format!("decide over {FLOWS} flows, {RULES} rules, {listed} prefixes"), |b| {
        b.iter(|| {
            flows.iter().filter(|flow| compiled.decide(black_box(flow)) == snapreach::model::Decision::Allowed).count()
        });
    });
    group.finish();
}

criterion_group!(benches, evaluation);
criterion_main!(benches);
