//! What really happens on the wire when a firewall says no: nftables between two hosts, in network namespaces that the
//! test makes and removes. Needs root; says `skipped` without.

use std::process::{Command, Output};

use serde_json::Value;

use crate::{
    netns::{Hosts, run},
    support::{LOOPBACK_ONLY, clean, evidence_says, finding, findings, is_root, program, report, skipped},
};

/// Two hosts and a router between them: `client` 10.77.1.2, router 10.77.1.1 and 10.77.2.1, `server` 10.77.2.2.
struct Network {
    hosts: Hosts,
}

const SERVER: &str = "10.77.2.2";
const ROUTER: &str = "10.77.1.1";

impl Network {
    /// `None`, with the reason printed, where this machine cannot make one.
    fn new(name: &str) -> Option<Self> {
        let hosts = Hosts::new(name, ["client", "router", "server"])?;
        hosts.cable(("client", "eth0"), ("router", "eth0"));
        hosts.cable(("router", "eth1"), ("server", "eth0"));
        for (host, link, address) in [
            ("client", "eth0", "10.77.1.2/24"),
            ("router", "eth0", "10.77.1.1/24"),
            ("router", "eth1", "10.77.2.1/24"),
            ("server", "eth0", "10.77.2.2/24"),
        ] {
            hosts.ip(host, &["addr", "add", address, "dev", link]);
            hosts.ip(host, &["link", "set", link, "up"]);
        }
        hosts.ip("client", &["route", "add", "default", "via", ROUTER]);
        hosts.ip("server", &["route", "add", "default", "via", "10.77.2.1"]);
        hosts.forward("router");
        Some(Self { hosts })
    }

    fn check(&self, arguments: &[&str]) -> (Output, Value) {
        let mut command = self.hosts.command("client", env!("CARGO_BIN_EXE_snapreach"));
        command.args(["check", "--format", "json", "--no-proxy", "--connect-timeout", "2500ms"]);
        command.args(LOOPBACK_ONLY).args(arguments);
        let output = command.output().unwrap();
        let report = report(&output);
        (output, report)
    }
}

#[test]
fn what_a_firewall_on_the_way_does_is_told_apart_per_port() {
    let Some(network) = Network::new("fw") else { return };
    network.hosts.nft(
        "router",
        "table inet filter {\n chain forward {\n type filter hook forward priority 0;\n tcp dport 1001 drop\n tcp dport 1002 reject with tcp reset\n tcp dport 1003 reject with icmp type admin-prohibited\n tcp dport 1004 reject with icmp type net-unreachable\n tcp dport 1005 reject with icmp type host-unreachable\n tcp dport 1006 reject with icmp type port-unreachable\n }\n}\n",
    );
    for (port, code, sender) in [
        (1001, "tcp.connect_timeout", false),
        (1002, "tcp.refused", false),
        (1003, "tcp.admin_prohibited", true),
        (1004, "tcp.unreachable", true),
        (1005, "tcp.unreachable", true),
        (1006, "tcp.refused", true),
    ] {
        let (output, report) = network.check(&[&format!("tcp://{SERVER}:{port}"), "--attempts", "1"]);
        let found = finding(&report, code);
        assert_eq!(
            (found["hop"].as_str(), found["severity"].as_str()),
            (Some("client_to_origin"), Some("error")),
            "{port}"
        );
        if sender {
            evidence_says(found, ROUTER);
        }
        assert_eq!(output.status.code(), Some(1), "{port}: {report:#}");
    }
}

#[test]
fn what_this_machine_forbids_is_not_blamed_on_the_network() {
    let Some(network) = Network::new("lo") else { return };
    network.hosts.nft(
        "client",
        "table inet filter {\n chain output {\n type filter hook output priority 0;\n tcp dport 2001 drop\n tcp dport 2002 reject with icmp type admin-prohibited\n }\n}\n",
    );
    network.hosts.ip("client", &["route", "add", "prohibit", "10.88.1.0/24"]);
    network.hosts.ip("client", &["route", "add", "unreachable", "10.88.2.0/24"]);
    network.hosts.ip("client", &["route", "add", "blackhole", "10.88.3.0/24"]);
    network.hosts.ip("client", &["route", "add", "throw", "10.88.4.0/24"]);
    for (target, code) in [
        ("tcp://10.77.2.2:2001", "local.denied"),
        ("tcp://10.77.2.2:2002", "local.denied"),
        ("tcp://10.88.1.1:443", "local.denied"),
        ("tcp://10.88.2.1:443", "local.no_route"),
        ("tcp://10.88.3.1:443", "local.no_route"),
        ("tcp://10.88.4.1:443", "local.no_route"),
    ] {
        let (_, report) = network.check(&[target, "--attempts", "1"]);
        assert_eq!(finding(&report, code)["hop"], "local", "{target}: {report:#}");
    }
}

#[test]
fn running_out_of_source_ports_is_named() {
    let Some(network) = Network::new("sp") else { return };
    run(network.hosts.command("client", "sysctl").args(["-qw", "net.ipv4.ip_local_port_range=40000 40003"]));
    network.hosts.nft(
        "router",
        "table inet filter {\n chain forward {\n type filter hook forward priority 0;\n tcp dport 443 drop\n }\n}\n",
    );
    // One target, many attempts in flight: four ports are not enough for them.
    let (_, report) = network.check(&[&format!("tcp://{SERVER}:443"), "--attempts", "20"]);
    assert_eq!(finding(&report, "local.ports_exhausted")["hop"], "local", "{report:#}");
}

#[test]
fn an_empty_namespace_is_told_as_it_is() {
    if !is_root() {
        skipped("network namespaces need root");
        return;
    }
    let Some(unshare) = program("unshare") else {
        skipped("`unshare` is not installed");
        return;
    };
    let mut command = Command::new(unshare);
    clean(&mut command);
    let output = command
        .args(["-n", env!("CARGO_BIN_EXE_snapreach"), "check", "--account", "acct", "--no-proxy", "--format", "json"])
        .args(LOOPBACK_ONLY)
        .args(["--timeout", "2s", "--connect-timeout", "2s", "--deadline", "20s"])
        .output()
        .unwrap();
    let report = report(&output);
    assert!(matches!(output.status.code(), Some(1 | 3)), "{:?}", output.status);
    assert!(report["elapsed_ms"].as_u64().unwrap() < 20_500, "{}", report["elapsed_ms"]);
    // Not the name server's fault, and not storage's: nothing leads out of here.
    let errors: Vec<_> = findings(&report).into_iter().filter(|(_, _, severity)| *severity == "error").collect();
    assert_eq!(errors, [("local.no_route", "local", "error")], "{report:#}");
    assert_eq!(report["verdict"]["status"], "blocked");
}
