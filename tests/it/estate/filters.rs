//! What firewalls, NAT and links on the way do.

use super::{
    CLIENT, Estate, ROUTER, STORAGE,
    names::ZONE,
    scenario::{assert_met, at_once},
    to,
};

#[test]
fn refusals_of_a_firewall() {
    let Some(estate) = Estate::new("fr") else { return };
    let mut unmet: Vec<_> = estate.unmet("healthy-direct", &[]).into_iter().collect();
    for (rule, scenario) in [
        ("tcp dport 443 reject with tcp reset", "tcp-refused"),
        ("tcp dport 443 reject with icmpx type admin-prohibited", "tcp-admin-prohibited"),
        ("tcp dport 443 reject with icmpx type host-unreachable", "tcp-host-unreachable"),
        // What carries data, as the ClientHello and the request do.
        ("tcp dport 443 meta length > 100 reject with tcp reset", "tls-reset-after-hello"),
        ("tcp dport 80 meta length > 100 reject with tcp reset", "tcp-reset"),
    ] {
        estate.forward(rule);
        unmet.extend(estate.unmet(scenario, &[]));
    }
    assert_met(&unmet);
}

#[test]
fn silence_of_a_firewall() {
    at_once(
        "fs",
        [
            |estate| {
                estate.forward("tcp dport 443 drop");
                estate.unmet("tcp-connect-timeout", &[])
            },
            |estate| {
                estate.forward("tcp dport { 443, 8443 } drop");
                estate.unmet("tcp-port-filtered", &[])
            },
            |estate| {
                // The answers to every third connection.
                estate.forward(
                    "ct state new ct mark 0 tcp dport 443 ct mark set numgen inc mod 3 map { 0 : 1, 1 : 1, 2 : 2 }\n\
                     ct direction reply ct mark 2 drop",
                );
                estate.unmet("tcp-intermittent", &[])
            },
            |estate| {
                // What carries data.
                estate.forward("tcp sport 443 meta length > 100 drop");
                estate.unmet("tls-silent-after-hello", &[])
            },
            |estate| {
                estate.announce_ipv6();
                estate.forward("meta nfproto ipv6 drop");
                estate.unmet("tcp-family-broken", &[])
            },
            |estate| {
                // A small link, and nobody is told.
                estate.narrow();
                estate.route_by(
                    "chain out {\ntype filter hook output priority 0\nicmp type destination-unreachable drop\n}",
                );
                estate.unmet("path-mtu-blackhole", &[])
            },
        ],
    );
}

#[test]
fn one_source_port_for_many_connections() {
    let Some(estate) = Estate::new("sn") else { return };
    estate.route_by(&format!(
        "chain nat {{\ntype nat hook postrouting priority 100\noifname {} meta l4proto tcp masquerade to :40000\n}}",
        to(STORAGE.role)
    ));
    assert_met(estate.unmet("snat-port-exhaustion", &[]).as_slice());
}

#[test]
fn a_small_link_that_says_so() {
    let Some(estate) = Estate::new("mt") else { return };
    estate.narrow();
    assert_met(estate.unmet("healthy-direct", &[]).as_slice());
}

#[test]
fn two_address_families_and_one() {
    let Some(mut estate) = Estate::new("af") else { return };
    estate.announce_ipv6();
    let mut unmet: Vec<_> = estate.unmet("healthy-direct", &[]).into_iter().collect();
    estate.forward("meta nfproto ipv6 reject with icmpv6 type no-route");
    unmet.extend(estate.unmet("tcp-family-broken", &[]));
    assert_met(&unmet);
}

impl Estate {
    /// Storage has an IPv6 address too.
    fn announce_ipv6(&mut self) {
        self.serve_zone(&format!("{ZONE}unit.store AAAA {}\n", STORAGE.v6));
    }

    /// Makes the link to the client too small for a full-size packet.
    fn narrow(&self) {
        self.hosts.ip(ROUTER, &["link", "set", &to(CLIENT.role), "mtu", "1300"]);
    }
}
