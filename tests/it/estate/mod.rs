//! The real tier: the product in a small estate of real parties with their real names and ports, where nothing is
//! overridden. Azurite plays storage, unbound the name server, proxies and firewall are the real ones; each has a network
//! namespace of its own. Addresses are those of the Internet and live inside the estate only. Needs root; says `skipped`
//! without.

mod filters;
mod machine;
mod names;
mod pki;
mod proxies;
mod scenario;
mod storage;

use std::{
    fs::{self, Permissions},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    process::Command,
};

use tempfile::TempDir;

use crate::{
    netns::Hosts,
    programs::{self, HAPROXY, NGINX, Program},
    support::{program, skipped},
};

/// The variable that names azurite's program for blobs.
const AZURITE: &str = "SNAPREACH_AZURITE";

const ROUTER: Host = Host { role: "router", v4: "10.0.0.1", v6: "fd00::1" };
const CLIENT: Host = Host { role: "client", v4: "10.0.0.4", v6: "fd00::4" };
const PROXY: Host = Host { role: "proxy", v4: "10.0.0.5", v6: "fd00::5" };
const DNS: Host = Host { role: "dns", v4: "10.0.0.53", v6: "fd00::53" };
const STORAGE: Host = Host { role: "storage", v4: "20.60.222.132", v6: "2603:1020:206:5::84" };
/// Storage's private endpoint.
const PRIVATE: &str = "10.1.0.5";

/// A host at one cable of the router.
struct Host {
    role: &'static str,
    v4: &'static str,
    v6: &'static str,
}

/// Gives a program this estate's name servers, hosts file and trust store, in a view of the file system that ends with it.
const VIEW: &str = r#"
for file in resolv.conf hosts nsswitch.conf ssl/certs; do
    mount --bind "$0/$file" "/etc/$file" || exit 125
done
exec "$@"
"#;

/// Storage, a name server, a place for a proxy, and a client; the router between them passes everything on.
struct Estate {
    // In this order: programs end before the hosts that they run on, and before their files go.
    names: Option<Program>,
    plain: Option<Program>,
    tls: Option<Program>,
    hosts: Hosts,
    folder: TempDir,
}

impl Estate {
    /// An estate where everything works, without a proxy. `None`, with the reason printed, where this machine cannot make one.
    fn new(test: &str) -> Option<Self> {
        if std::env::var_os(AZURITE).is_none() {
            skipped(&format!("{AZURITE} does not name azurite's program for blobs"));
            return None;
        }
        let needed = ["node", "unbound", "squid", "tinyproxy", "haproxy", "nginx", "mount"];
        if let Some(missing) = needed.into_iter().find(|name| program(name).is_none()) {
            skipped(&format!("{missing} is not installed"));
            return None;
        }
        let hosts = Hosts::new(test, [ROUTER.role, CLIENT.role, PROXY.role, DNS.role, STORAGE.role])?;
        let mut estate = Self { names: None, plain: None, tls: None, hosts, folder: programs::folder() };
        estate.connect();
        estate.write_etc();
        estate.start_storage();
        estate.serve_zone(names::ZONE);
        Some(estate)
    }

    /// Every host has a cable of its own to the router, and the router as its only neighbour.
    fn connect(&self) {
        let hosts = &self.hosts;
        let at_router = |arguments: &[&str]| hosts.ip(ROUTER.role, arguments);
        hosts.forward(ROUTER.role);
        at_router(&["addr", "add", ROUTER.v6, "dev", "lo"]);
        for Host { role, v4, v6 } in [CLIENT, PROXY, DNS, STORAGE] {
            let end = to(role);
            hosts.cable((ROUTER.role, &end), (role, "eth0"));
            at_router(&["addr", "add", ROUTER.v4, "dev", &end]);
            at_router(&["addr", "add", "fe80::1/64", "dev", &end, "nodad"]);
            at_router(&["link", "set", &end, "up"]);
            hosts.ip(role, &["addr", "add", v4, "dev", "eth0"]);
            hosts.ip(role, &["addr", "add", v6, "dev", "eth0", "nodad"]);
            hosts.ip(role, &["link", "set", "eth0", "up"]);
            hosts.ip(role, &["route", "add", ROUTER.v4, "dev", "eth0"]);
            hosts.ip(role, &["route", "add", "default", "via", ROUTER.v4]);
            hosts.ip(role, &["route", "add", "default", "via", "fe80::1", "dev", "eth0"]);
            at_router(&["route", "add", v4, "dev", &end]);
            at_router(&["route", "add", v6, "dev", &end]);
        }
        self.move_in(&STORAGE, PRIVATE);
    }

    /// Gives a host one more IPv4 address.
    fn move_in(&self, host: &Host, address: &str) {
        self.hosts.ip(host.role, &["addr", "add", address, "dev", "eth0"]);
        self.hosts.ip(ROUTER.role, &["route", "add", address, "dev", &to(host.role)]);
    }

    fn write_etc(&self) {
        let etc = self.folder.path().join("etc");
        fs::create_dir_all(etc.join("ssl/certs")).unwrap();
        let write = |file: &str, text: &str| fs::write(etc.join(file), text).unwrap();
        write("resolv.conf", &format!("nameserver {}\n", DNS.v4));
        write("hosts", "127.0.0.1 localhost\n::1 localhost\n");
        write("nsswitch.conf", "hosts: files dns\n");
    }

    /// Replaces what the router does with packets that it forwards: rules of `nft`, one a line.
    fn forward(&self, rules: &str) {
        self.route_by(&format!("chain forward {{\ntype filter hook forward priority 0\n{rules}\n}}"));
    }

    /// Replaces all of the router's chains.
    fn route_by(&self, chains: &str) {
        self.hosts.nft(ROUTER.role, &format!("flush ruleset\ntable inet estate {{\n{chains}\n}}\n"));
    }

    /// Starts a server with this configuration on a host; it ends with what is returned.
    fn start(&self, host: &Host, name: &str, port: u16, arguments: &[&str], configuration: &str) -> Program {
        let folder = self.folder.path().join(format!("{name}-{port}"));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o777)).unwrap();
        let fill = |text: &str| programs::fill(text, &format!("0.0.0.0:{port}"), &folder);
        fs::write(folder.join("conf"), fill(configuration)).unwrap();
        let mut command = self.command(host, name);
        command.args(arguments.iter().map(|argument| fill(argument)));
        let mut program = Program::start(command, &folder.join("output"));
        program.wait_until(|| listens(&self.hosts, host, port));
        program
    }

    fn haproxy(&self, host: &Host, rules: &str) -> Program {
        self.start(host, "haproxy", 8080, &["-db", "-f", "DIR/conf"], &format!("{HAPROXY}{rules}"))
    }

    fn nginx(&self, host: &Host, port: u16) -> Program {
        self.start(host, "nginx", port, &["-c", "DIR/conf", "-p", "DIR"], NGINX)
    }

    /// A program on one of the hosts.
    fn command(&self, host: &Host, name: &str) -> Command {
        let mut command = self.hosts.command(host.role, "sh");
        command
            .args(["-c", VIEW])
            .arg(self.folder.path().join("etc"))
            .arg(program(name).unwrap_or_else(|| name.into()));
        command
    }

    fn fill(&self, text: &str) -> String {
        programs::fill(text, "0.0.0.0:0", self.folder.path())
    }
}

/// The router's end of a host's cable.
fn to(role: &str) -> String {
    format!("to-{role}")
}

/// Whether somebody listens on that port of that host.
fn listens(hosts: &Hosts, host: &Host, port: u16) -> bool {
    let address = host.v4;
    hosts.inside(host.role, move || TcpStream::connect((address, port)).is_ok())
}
