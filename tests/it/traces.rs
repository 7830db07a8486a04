//! `--trace` over three routers, in network namespaces that the test makes and removes. Needs root to build them, not to
//! trace.

use std::{
    fs::{self, Permissions},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
};

use serde_json::Value;

use crate::{
    netns::Hosts,
    support::{LOOPBACK_ONLY, evidence_says, finding, findings, program, report, skipped, snapreach},
};

/// Host 0 is the client, hosts 1 to 3 are routers, host 4 is the server. Between hosts n and n + 1 lies 10.78.n.0/24
/// (`fd78:0:0:n::/64`), where the nearer one is .1 and the further one .2.
struct Chain {
    hosts: Hosts,
    /// Port 1000 of the server, which answers.
    _listeners: [TcpListener; 2],
}

const ROLES: [&str; 5] = ["0", "1", "2", "3", "4"];
const SERVER: &str = "10.78.3.2";
const ROUTERS: [&str; 3] = ["10.78.0.2", "10.78.1.2", "10.78.2.2"];

const RULES: &str = "table inet filter {
 chain forward {
  type filter hook forward priority 0;
  tcp dport 1001 drop
  tcp dport 1002 reject with tcp reset
  tcp dport 1003 reject with icmpx type admin-prohibited
 }
}
";

impl Chain {
    /// `None`, with the reason printed, where this machine cannot make one.
    fn new(name: &str) -> Option<Self> {
        let hosts = Hosts::new(name, ROLES)?;
        for (net, pair) in ROLES.windows(2).enumerate() {
            let [near, far] = *pair else { unreachable!("windows of two") };
            hosts.cable((near, "far"), (far, "near"));
            for (host, link, end) in [(near, "far", 1), (far, "near", 2)] {
                hosts.ip(host, &["addr", "add", &format!("10.78.{net}.{end}/24"), "dev", link]);
                hosts.ip(host, &["addr", "add", &format!("fd78:0:0:{net}::{end}/64"), "dev", link, "nodad"]);
                hosts.ip(host, &["link", "set", link, "up"]);
            }
        }
        for (number, host) in ROLES.iter().enumerate() {
            hosts.forward(host);
            for net in 0..4 {
                let (v4, v6) = (format!("10.78.{net}.0/24"), format!("fd78:0:0:{net}::/64"));
                if net > number {
                    hosts.ip(host, &["route", "add", &v4, "via", &format!("10.78.{number}.2")]);
                    hosts.ip(host, &["route", "add", &v6, "via", &format!("fd78:0:0:{number}::2")]);
                } else if net + 1 < number {
                    let link = number - 1;
                    hosts.ip(host, &["route", "add", &v4, "via", &format!("10.78.{link}.1")]);
                    hosts.ip(host, &["route", "add", &v6, "via", &format!("fd78:0:0:{link}::1")]);
                }
            }
        }
        let listen = |at: &str| {
            let at: SocketAddr = at.parse().unwrap();
            hosts.inside("4", move || TcpListener::bind(at).unwrap())
        };
        let listeners = ["10.78.3.2:1000", "[fd78:0:0:3::2]:1000"].map(listen);
        Some(Self { hosts, _listeners: listeners })
    }

    /// The report of `check` on the client.
    fn check(&self, arguments: &[&str]) -> Value {
        self.check_by(&[env!("CARGO_BIN_EXE_snapreach")], arguments)
    }

    /// The report of `check` by this program, which others may start in turn.
    fn check_by(&self, by: &[&str], arguments: &[&str]) -> Value {
        let mut command = self.hosts.command("0", by[0]);
        command.args(&by[1..]);
        command.arg("check").args(LOOPBACK_ONLY).args([
            "--format",
            "json",
            "--no-proxy",
            "--attempts",
            "1",
            "--connect-timeout",
            "1500ms",
        ]);
        report(&command.args(arguments).output().unwrap())
    }
}

fn blocked<'a>(report: &'a Value, confidence: &str) -> &'a Value {
    let found = finding(report, "path.blocked_after");
    assert_eq!(
        (found["confidence"].as_str(), found["severity"].as_str(), found["hop"].as_str(), found["party"].as_str()),
        (Some(confidence), Some("info"), Some("client_to_origin"), Some("path")),
        "{report:#}"
    );
    found
}

/// The traced path as `(hop, address or "", reached)`.
fn path(report: &Value) -> Vec<(u64, &str, bool)> {
    let traced = report["observations"].as_array().unwrap().iter().find(|o| o["control"]["kind"] == "trace").unwrap();
    let routers = traced["steps"][0]["evidence"]["path"].as_array().unwrap();
    let hop = |router: &'_ Value| router["ttl"].as_u64().unwrap();
    routers
        .iter()
        .map(|r| (hop(r), r["ip"].as_str().unwrap_or_default(), r["reached"].as_bool().unwrap_or_default()))
        .collect()
}

#[test]
fn the_router_that_stops_a_port_is_named() {
    let Some(chain) = Chain::new("tr") else { return };
    chain.hosts.nft("2", RULES);

    let dropped = chain.check(&["tcp://10.78.3.2:1001", "--trace"]);
    evidence_says(blocked(&dropped, "heuristic"), "vanishes after hop 2 (10.78.1.2)");
    assert_eq!(path(&dropped)[..3], [(1, ROUTERS[0], false), (2, ROUTERS[1], false), (3, "", false)]);
    assert_eq!(finding(&dropped, "tcp.connect_timeout")["tried"], 1, "a trace is no attempt");

    let rejected = chain.check(&["tcp://10.78.3.2:1003", "--trace"]);
    evidence_says(
        blocked(&rejected, "proof"),
        "hop 2 (10.78.1.2) rejects the SYN to 10.78.3.2:1003, with ICMP type 3 code 13",
    );

    // Nothing listens on port 1004: the server itself refuses.
    let refused = chain.check(&["tcp://10.78.3.2:1004", "--trace"]);
    assert_eq!(path(&refused)[3..], [(4, SERVER, true)]);
    assert!(findings(&refused).iter().all(|&(code, ..)| code != "path.blocked_after"), "{refused:#}");
    evidence_says(finding(&refused, "tcp.refused"), "the refusal comes from hop 4");

    let plain = chain.check(&["tcp://10.78.3.2:1001"]);
    assert!(plain["observations"].as_array().unwrap().iter().all(|o| o["control"].is_null()), "{plain:#}");
    let open = chain.check(&["tcp://10.78.3.2:1000", "--trace"]);
    assert!(open["observations"].as_array().unwrap().iter().all(|o| o["control"].is_null()), "{open:#}");
}

#[test]
fn a_port_that_passes_shows_where_the_others_end() {
    let Some(chain) = Chain::new("td") else { return };
    chain.hosts.nft("2", RULES);
    let dropped = chain.check(&["tcp://10.78.3.2:1000", "tcp://10.78.3.2:1001", "--trace"]);
    let found = blocked(&dropped, "differential");
    evidence_says(found, "after hop 2 (10.78.1.2), while one to port 1000 passes it and arrives at hop 4");
    evidence_says(found, "trace to 10.78.3.2:1000: 1 10.78.0.2, 2 10.78.1.2, 3 10.78.2.2, 4 answered");
    assert_eq!(found["targets"], serde_json::json!(["10.78.3.2:1001"]));

    // A reset in the server's name gives itself away: it comes from too near.
    let forged = chain.check(&["tcp://10.78.3.2:1000", "tcp://10.78.3.2:1002", "--trace"]);
    let found = blocked(&forged, "differential");
    evidence_says(found, "from hop 3, right after hop 2 (10.78.1.2), but a SYN to port 1000 arrives only at hop 4");
}

#[test]
fn ipv6_is_traced_alike() {
    let Some(chain) = Chain::new("t6") else { return };
    chain.hosts.nft("2", RULES);
    let dropped = chain.check(&["tcp://[fd78:0:0:3::2]:1000", "tcp://[fd78:0:0:3::2]:1001", "--trace"]);
    let hop = "after hop 2 (fd78:0:0:1::2), while one to port 1000 passes it and arrives at hop 4";
    evidence_says(blocked(&dropped, "differential"), hop);
    let rejected = chain.check(&["tcp://[fd78:0:0:3::2]:1003", "--trace"]);
    evidence_says(
        blocked(&rejected, "proof"),
        "hop 2 (fd78:0:0:1::2) rejects the SYN to [fd78:0:0:3::2]:1003, with ICMP type 1 code 1",
    );
}

#[test]
fn a_routing_loop_is_told_from_a_filter() {
    let Some(chain) = Chain::new("tl") else { return };
    for (host, via) in [("0", "10.78.0.2"), ("1", "10.78.1.2"), ("2", "10.78.1.1")] {
        chain.hosts.ip(host, &["route", "add", "10.79.0.0/16", "via", via]);
    }
    let report = chain.check(&["tcp://10.79.0.1:443", "--trace"]);
    evidence_says(finding(&report, "tcp.unreachable"), "a trace comes back to 10.78.0.2 at hop 3: a routing loop");
    assert!(findings(&report).iter().all(|&(code, ..)| code != "path.blocked_after"), "{report:#}");
    assert_eq!(path(&report).len(), 30);
}

#[test]
fn no_privilege_is_needed() {
    if program("setpriv").is_none() {
        skipped("`setpriv` is not installed");
        return;
    }
    let Some(chain) = Chain::new("tu") else { return };
    chain.hosts.nft("2", RULES);
    // A place that everybody may enter.
    let folder = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
    let binary = folder.path().join("snapreach");
    fs::copy(env!("CARGO_BIN_EXE_snapreach"), &binary).unwrap();
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--bounding-set", "-all"];
    let by: Vec<&str> = nobody.into_iter().chain(binary.to_str()).collect();
    let dropped = chain.check_by(&by, &["tcp://10.78.3.2:1001", "--trace"]);
    evidence_says(blocked(&dropped, "heuristic"), "vanishes after hop 2 (10.78.1.2)");
}

#[test]
fn a_trace_stands_beside_the_attempts_and_a_bound_on_traces_is_told() {
    // Nothing else can listen on this port of any other loopback address.
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let mut command = snapreach();
    command.arg("check").args(LOOPBACK_ONLY).args(["--no-proxy", "--attempts", "2", "--trace", "--format", "json"]);
    command.args((1..=18).map(|host| format!("tcp://127.0.1.{host}:{port}")));
    let report = report(&command.output().unwrap());
    let all = report["observations"].as_array().unwrap();
    let (traces, attempts): (Vec<_>, Vec<_>) = all.iter().partition(|o| o["control"]["kind"] == "trace");
    assert_eq!((traces.len(), attempts.len()), (16, 36));
    for trace in traces {
        let step = &trace["steps"][0];
        assert_eq!((&step["leg"], &step["failure"]["kind"]), (&"origin".into(), &"refused".into()), "{trace:#}");
        assert_eq!(step["evidence"]["path"][0]["reached"], true, "{trace:#}");
    }
    assert!(attempts.iter().all(|o| o["steps"][0]["evidence"]["path"].is_null()));
    let refused = finding(&report, "tcp.refused");
    assert_eq!((&refused["failed"], &refused["tried"]), (&36.into(), &36.into()));
    evidence_says(refused, "the refusal comes from hop 1");
    assert!(report["context"]["notes"].to_string().contains("16 of 18 addresses"), "{}", report["context"]);
}

#[test]
fn in_the_lab_a_trace_stays_on_this_machine() {
    let output = snapreach().args(["check", "--lab", "tcp-port-filtered", "--trace", "--format", "json"]).output();
    let report = report(&output.unwrap());
    let all = report["observations"].as_array().unwrap();
    let traces: Vec<_> = all.iter().filter(|o| o["control"]["kind"] == "trace").collect();
    assert_eq!(traces.len(), 3, "the two ports that fail, and the one that answers: {report:#}");
    for trace in traces {
        let dialled = trace["steps"][0]["evidence"]["dialled"].as_str().unwrap();
        assert!(dialled.parse::<SocketAddr>().unwrap().ip().is_loopback(), "{trace:#}");
    }
    evidence_says(finding(&report, "tcp.connect_timeout"), "no router on the way answers a trace");
}
