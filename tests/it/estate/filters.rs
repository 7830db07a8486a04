//! What firewalls, NAT and links on the way do.

use super::{Estate, STORAGE, ZONE, scenario::none, to};

#[test]
fn without_a_filter_storage_answers_on_all_its_ports() {
    let Some(estate) = Estate::new("ok") else { return };
    none(&estate.differences("healthy-direct", &[]));
}

#[test]
fn rules_of_a_firewall() {
    let Some(estate) = Estate::new("fw") else { return };
    let mut wrong = Vec::new();
    for (rules, scenario) in [
        ("tcp dport 443 drop", "tcp-connect-timeout"),
        ("tcp dport { 443, 8443 } drop", "tcp-port-filtered"),
        ("tcp dport 443 reject with tcp reset", "tcp-refused"),
        ("tcp dport 443 reject with icmpx type admin-prohibited", "tcp-admin-prohibited"),
        ("tcp dport 443 reject with icmpx type host-unreachable", "tcp-host-unreachable"),
        // The third of three new connections.
        ("tcp dport 443 tcp flags syn / syn,ack numgen inc mod 3 == 2 drop", "tcp-intermittent"),
        // Whatever carries data.
        ("tcp dport 443 meta length > 100 reject with tcp reset", "tls-reset-after-hello"),
        ("tcp sport 443 meta length > 100 drop", "tls-silent-after-hello"),
        ("tcp dport 80 meta length > 100 reject with tcp reset", "tcp-reset"),
    ] {
        estate.forward(rules);
        wrong.extend(estate.differences(scenario, &[]));
    }
    none(&wrong);
}

#[test]
fn one_source_port_for_many_connections() {
    let Some(estate) = Estate::new("nat") else { return };
    estate.route_by(&format!(
        "chain nat {{\ntype nat hook postrouting priority 100\noifname {} meta l4proto tcp masquerade to :40000\n}}",
        to(STORAGE.role)
    ));
    none(&estate.differences("snat-port-exhaustion", &[]));
}

#[test]
fn a_small_link_that_says_so_and_one_that_does_not() {
    let Some(estate) = Estate::new("mtu") else { return };
    estate.hosts.ip(super::ROUTER, &["link", "set", &to(super::CLIENT.role), "mtu", "1300"]);
    let mut wrong = estate.differences("healthy-direct", &[]);
    estate.hosts.ip(STORAGE.role, &["route", "flush", "cache"]);
    estate.route_by("chain out {\ntype filter hook output priority 0\nicmp type destination-unreachable drop\n}");
    wrong.extend(estate.differences("path-mtu-blackhole", &[]));
    none(&wrong);
}

#[test]
fn one_address_family() {
    let Some(mut estate) = Estate::new("six") else { return };
    estate.serve_zone(&format!("{ZONE}unit.store AAAA {}\n", STORAGE.v6));
    let mut wrong = estate.differences("healthy-direct", &[]);
    for rules in ["meta nfproto ipv6 drop", "meta nfproto ipv6 reject with icmpv6 type no-route"] {
        estate.forward(rules);
        wrong.extend(estate.differences("tcp-family-broken", &[]));
    }
    none(&wrong);
}
