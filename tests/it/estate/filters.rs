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
    let mut unmet = estate.unmet("healthy-direct", &[]);
    for (rule, scenario) in [
        ("tcp dport 443 reject with tcp reset", "tcp-refused"),
        ("tcp dport 443 reject with icmpx type admin-prohibited", "tcp-admin-prohibited"),
        ("tcp dport 443 reject with icmpx type admin-prohibited", "path-blocked-after-rejected"),
        ("tcp dport 443 reject with icmpx type host-unreachable", "tcp-unreachable"),
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
                // The answers to every third connection.
                estate.forward(
                    "ct state new ct mark 0 tcp dport 443 ct mark set numgen inc mod 3 map { 0 : 1, 1 : 1, 2 : 2 }\n\
                     ct direction reply ct mark 2 drop",
                );
                let mut unmet = estate.unmet("tcp-intermittent", &[]);
                estate.forward("tcp dport { 443, 8443 } drop");
                unmet.extend(estate.unmet("tcp-port-filtered", &[]));
                unmet
            },
            |estate| {
                estate.forward("tcp dport 443 drop");
                let mut unmet = estate.unmet("tcp-connect-timeout", &[]);
                // The router answers for packets whose time is up before it drops the others.
                unmet.extend(estate.unmet("path-blocked-after", &[]));
                unmet
            },
            |estate| {
                // What carries data.
                estate.forward("tcp sport 443 meta length > 100 drop");
                estate.unmet("tls-silent-after-hello", &[])
            },
            |estate| {
                // A small link, and nobody is told.
                estate.narrow();
                estate.route_by(
                    "chain out {\ntype filter hook output priority 0\nicmp type destination-unreachable drop\n}",
                );
                let mut unmet = estate.unmet("path-mtu-blackhole", &[]);
                estate.announce_ipv6();
                estate.forward("meta nfproto ipv6 drop");
                unmet.extend(estate.unmet("tcp-family-broken", &[]));
                unmet
            },
        ],
    );
}

#[test]
fn one_source_port_for_many_connections() {
    let Some(estate) = Estate::new("sn") else { return };
    // The end of a connection does not show, as with one that is still in use: else the port is free again for whoever
    // comes late enough.
    estate.route_by(&format!(
        "chain ends {{\ntype filter hook prerouting priority -300\ntcp flags & (fin | rst) != 0 drop\n}}\n\
         chain nat {{\ntype nat hook postrouting priority 100\noifname {} meta l4proto tcp masquerade to :40000\n}}",
        to(STORAGE.role)
    ));
    assert_met(&estate.unmet("snat-port-exhaustion", &[]));
}

#[test]
fn a_small_link_and_a_second_family() {
    let Some(mut estate) = Estate::new("mt") else { return };
    let mut unmet = Vec::new();
    estate.narrow();
    estate.announce_ipv6();
    unmet.extend(estate.unmet("healthy-direct", &[]));
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
        self.hosts.ip(ROUTER.role, &["link", "set", &to(CLIENT.role), "mtu", "1300"]);
    }
}

/// A firewall that takes connections in storage's place, reads whom they are for, and passes on what it allows.
#[test]
fn a_firewall_that_reads_names() {
    let Some(estate) = Estate::new("fn") else { return };
    estate.route_by(
        "chain in {\ntype nat hook prerouting priority -100\n\
         ip saddr 10.0.0.4 ip daddr 20.60.222.132 tcp dport { 80, 443 } redirect to :8080\n}",
    );
    let reads_names = "frontend tls\n mode tcp\n bind LISTEN\n tcp-request inspect-delay 5s\n \
        tcp-request content reject if { req.ssl_sni -m end .blob.core.windows.net }\n \
        tcp-request content accept if { req.ssl_hello_type 1 }\n default_backend storage\n\
        backend storage\n mode tcp\n server one 20.60.222.132:443\n";
    let closing = estate.haproxy(&ROUTER, reads_names);
    let mut unmet = estate.unmet("tls-closed-after-hello", &[]);
    unmet.extend(estate.unmet("tls-closed-by-name", &[]));
    drop(closing);
    let _portal = estate.haproxy(
        &ROUTER,
        "frontend web\n mode http\n bind LISTEN\n http-request redirect location http://portal.example/login\n",
    );
    unmet.extend(estate.unmet("http-captive-portal-302", &[]));
    assert_met(&unmet);
}
