//! What a name server does.

use super::{DNS, Estate, PRIVATE, ZONE, scenario::none};

#[test]
fn answers_of_a_name_server() {
    let Some(mut estate) = Estate::new("dns") else { return };
    let mut wrong = Vec::new();
    for (rest, scenario) in [
        ("server:\n local-zone: core.windows.net always_nxdomain\n", "dns-nxdomain"),
        ("server:\n local-zone: core.windows.net always_nodata\n", "dns-nodata"),
        ("server:\n local-zone: core.windows.net always_refuse\n", "dns-refused"),
        ("server:\n local-zone: core.windows.net always_deny\n", "dns-timeout"),
        // A filter that leads names nowhere.
        ("server:\n local-zone: core.windows.net always_null\n", "dns-sinkhole"),
        // Nobody listens where the questions go on.
        ("forward-zone:\n name: .\n forward-addr: 127.0.0.1@5300\n", "dns-servfail"),
    ] {
        estate.serve(rest);
        wrong.extend(estate.differences(scenario, &[]));
    }
    estate.names = None;
    wrong.extend(estate.differences("dns-unreachable", &[]));
    none(&wrong);
}

#[test]
fn private_endpoints() {
    let Some(mut estate) = Estate::new("pe") else { return };
    let alias = |address: &str| {
        ZONE.replace("acct.blob CNAME unit.store", "acct.blob CNAME acct.privatelink.blob")
            + &format!("acct.privatelink.blob {address}\n")
    };
    estate.serve_zone(&alias(&format!("A {PRIVATE}")));
    let mut wrong = estate.differences("dns-private-address", &[]);
    // The private zone is not linked to this network.
    estate.serve_zone(&alias("CNAME unit.store"));
    wrong.extend(estate.differences("dns-privatelink-public", &[]));
    none(&wrong);
}

#[test]
fn the_second_of_two_name_servers_answers() {
    let Some(estate) = Estate::new("two") else { return };
    let servers = format!("nameserver 10.0.0.99\nnameserver {}\n", DNS.v4);
    std::fs::write(estate.folder.path().join("etc/resolv.conf"), servers).unwrap();
    eprintln!("{:#}", estate.check(&["--account", "acct", "--no-proxy"])["findings"]);
}
