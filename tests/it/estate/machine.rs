//! What the machine does to itself, and who answers at the wire server's address.

use std::{fs, net::TcpStream};

use super::{CLIENT, DNS, Estate, PROXY, ROUTER, STORAGE, scenario::assert_met};
use crate::netns::run;

/// Azure's wire server.
const WIRE: &str = "168.63.129.16";

#[test]
fn routes_and_ports_of_this_machine() {
    let Some(estate) = Estate::new("ma") else { return };
    let client = |arguments: &[&str]| estate.hosts.ip(CLIENT.role, arguments);
    let mut unmet = Vec::new();

    client(&["route", "add", "prohibit", STORAGE.v4]);
    unmet.extend(estate.unmet("local-denied", &[]));
    client(&["route", "del", "prohibit", STORAGE.v4]);

    // As many source ports as connections that stand already. Lookups go on: UDP counts its ports for itself.
    let range = |range: &str| {
        let setting = format!("net.ipv4.ip_local_port_range={range}");
        run(estate.hosts.command(CLIENT.role, "sysctl").args(["-qw", &setting]));
    };
    range("40000 40007");
    let connect = || TcpStream::connect((STORAGE.v4, 443)).unwrap();
    let held: Vec<_> = estate.hosts.inside(CLIENT.role, move || (0..8).map(|_| connect()).collect());
    unmet.extend(estate.unmet("local-ports-exhausted", &[]));
    drop(held);
    range("32768 60999");

    // The name server alone is still to be reached.
    client(&["route", "add", DNS.v4, "via", ROUTER.v4]);
    client(&["route", "del", "default"]);
    unmet.extend(estate.unmet("local-no-route", &[]));
    assert_met(&unmet);
}

#[test]
fn the_hosts_file() {
    let Some(estate) = Estate::new("ho") else { return };
    let mut unmet = Vec::new();
    estate.move_in(&STORAGE, "20.150.37.228");
    // Another stamp that answers too, and an address where nobody listens.
    for (address, scenario) in [("20.150.37.228", "config-hosts-override"), (PROXY.v4, "config-hosts-override-stale")] {
        let text = format!("127.0.0.1 localhost\n{address} acct.blob.core.windows.net\n");
        fs::write(estate.folder.path().join("etc/hosts"), text).unwrap();
        unmet.extend(estate.unmet(scenario, &[]));
    }
    assert_met(&unmet);
}

#[test]
fn the_wire_servers_address() {
    let Some(estate) = Estate::new("wi") else { return };
    estate.move_in(&DNS, WIRE);
    let mut unmet = estate.unmet("host-unreachable", &[]);
    let web = [80, 32526].map(|port| estate.nginx(&DNS, port));
    unmet.extend(estate.unmet("host-unexpected", &[]));
    drop(web);
    estate.forward(&format!("ip daddr {WIRE} drop"));
    unmet.extend(estate.unmet("host-unreachable-silent", &[]));
    assert_met(&unmet);
}
