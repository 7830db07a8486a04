//! What name servers do.

use std::fs;

use super::{DNS, Estate, PRIVATE, PROXY, listens, scenario::assert_met};
use crate::programs::Program;

/// The zone, as Azure serves it: accounts are aliases of a scale unit.
pub(super) const ZONE: &str = "$ORIGIN core.windows.net.
$TTL 60
@ SOA ns hostmaster 1 900 300 604800 60
@ NS ns
ns A 10.0.0.53
unit.store A 20.60.222.132
acct.blob CNAME unit.store
acct2.blob CNAME unit.store
";

/// unbound in the foreground, with no file outside its folder; what it answers is still to come.
const UNBOUND: &str = "server:
 interface: 0.0.0.0
 interface: ::0
 access-control: 0.0.0.0/0 allow
 access-control: ::0/0 allow
 username: \"\"
 chroot: \"\"
 directory: DIR
 pidfile: \"\"
 use-syslog: no
 do-daemonize: no
 module-config: iterator
 ede: yes
remote-control:
 control-enable: no
";

impl Estate {
    /// Lets the name server serve this zone.
    pub(super) fn serve_zone(&mut self, zone: &str) {
        fs::write(self.folder.path().join("zone"), zone).unwrap();
        self.serve("auth-zone:\n name: core.windows.net\n zonefile: DIR/zone\n for-upstream: no\n");
    }

    /// Starts the name server anew with these lines.
    pub(super) fn serve(&mut self, rest: &str) {
        self.names = None;
        let configuration = self.folder.path().join("unbound.conf");
        fs::write(&configuration, self.fill(&format!("{UNBOUND}{rest}"))).unwrap();
        let mut command = self.command(&DNS, "unbound");
        command.args(["-d", "-c"]).arg(configuration);
        let mut program = Program::start(command, &self.folder.path().join("unbound"));
        program.wait_until(|| listens(&self.hosts, &DNS, 53));
        self.names = Some(program);
    }
}

#[test]
fn answers_of_a_name_server() {
    let Some(mut estate) = Estate::new("na") else { return };
    let mut unmet = Vec::new();
    for (rest, scenario) in [
        ("server:\n local-zone: core.windows.net always_nxdomain\n", "dns-nxdomain"),
        ("server:\n local-zone: core.windows.net always_nodata\n", "dns-nodata"),
        ("server:\n local-zone: core.windows.net always_refuse\n", "dns-refused"),
        // A filter that leads names nowhere.
        ("server:\n local-zone: core.windows.net always_null\n", "dns-sinkhole"),
        // Nobody listens where it passes questions on.
        ("forward-zone:\n name: .\n forward-addr: 127.0.0.1@5300\n", "dns-servfail"),
        ("server:\n local-zone: core.windows.net always_deny\n", "dns-timeout"),
    ] {
        estate.serve(rest);
        unmet.extend(estate.unmet(scenario, &[]));
    }
    estate.names = None;
    unmet.extend(estate.unmet("dns-unreachable", &[]));
    assert_met(&unmet);
}

#[test]
fn private_endpoints() {
    let Some(mut estate) = Estate::new("pe") else { return };
    let alias = |record: &str| {
        let zone = ZONE.replace("acct.blob CNAME unit.store", "acct.blob CNAME acct.privatelink.blob");
        format!("{zone}acct.privatelink.blob {record}\n")
    };
    estate.serve_zone(&alias(&format!("A {PRIVATE}")));
    let mut unmet = estate.unmet("dns-private-address", &[]);
    // The private zone is not linked to this network.
    estate.serve_zone(&alias("CNAME unit.store"));
    unmet.extend(estate.unmet("dns-privatelink-public", &[]));
    assert_met(&unmet);
}

#[test]
fn the_second_of_two_name_servers_answers() {
    let Some(estate) = Estate::new("nb") else { return };
    let text = format!("nameserver {}\nnameserver {}\noptions timeout:1\n", PROXY.v4, DNS.v4);
    fs::write(estate.folder.path().join("etc/resolv.conf"), text).unwrap();
    let mut unmet = Vec::new();
    for (rule, scenario) in
        [("", "dns-first-server-refuses"), ("ip daddr 10.0.0.5 udp dport 53 drop", "dns-first-server-silent")]
    {
        estate.forward(rule);
        unmet.extend(estate.unmet(scenario, &[]));
    }
    assert_met(&unmet);
}
