//! The real tier: the product in a small estate of real parties with their real names and ports, where nothing is
//! overridden. Azurite plays storage, unbound the name server, proxies and firewall are the real ones; each has a network
//! namespace of its own. Addresses are those of the Internet and live inside the estate only. Needs root; says `skipped`
//! without.

mod filters;
mod names;
mod pki;
mod proxies;
mod scenario;

use std::{fs, net::TcpStream, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    netns::Hosts,
    programs::{self, Program},
    support::{program, report, skipped},
};
use pki::Authority;

const ROUTER: &str = "router";
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

/// The zone, as Azure serves it: accounts are aliases of a scale unit.
const ZONE: &str = "$ORIGIN core.windows.net.
$TTL 60
@ SOA ns hostmaster 1 900 300 604800 60
@ NS ns
ns A 10.0.0.53
unit.store A 20.60.222.132
acct.blob CNAME unit.store
acct2.blob CNAME unit.store
";

/// unbound as a daemon without root's files; whom it serves what is still to come.
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

/// Storage, a name server, a place for a proxy, and a client; the router between them passes everything on.
struct Estate {
    // In this order: programs end before the hosts that they run on, and before their files go.
    names: Option<Program>,
    storage: Vec<Program>,
    hosts: Hosts,
    folder: TempDir,
}

impl Estate {
    /// An estate where everything works, without a proxy. `None`, with the reason printed, where this machine cannot make one.
    fn new(test: &str) -> Option<Self> {
        let Some(azurite) = std::env::var_os("SNAPREACH_AZURITE") else {
            skipped("SNAPREACH_AZURITE does not name azurite's program for blobs");
            return None;
        };
        if let Some(missing) = ["unbound", "node", "mount"].into_iter().find(|name| program(name).is_none()) {
            skipped(&format!("{missing} is not installed"));
            return None;
        }
        let hosts = Hosts::new(test, [ROUTER, CLIENT.role, PROXY.role, DNS.role, STORAGE.role])?;
        let mut estate = Self { names: None, storage: Vec::new(), hosts, folder: programs::folder() };
        estate.connect();
        estate.write_etc();
        estate.start_storage(azurite.as_ref());
        estate.serve_zone(ZONE);
        Some(estate)
    }

    /// Every host has a cable of its own to the router, and the router as its only neighbour.
    fn connect(&self) {
        let hosts = &self.hosts;
        hosts.forward(ROUTER);
        hosts.ip(ROUTER, &["addr", "add", "fd00::1/128", "dev", "lo"]);
        for Host { role, v4, v6 } in [CLIENT, PROXY, DNS, STORAGE] {
            let end = to(role);
            hosts.cable((ROUTER, &end), (role, "eth0"));
            hosts.ip(ROUTER, &["addr", "add", "10.0.0.1/32", "dev", &end]);
            hosts.ip(ROUTER, &["addr", "add", "fe80::1/64", "dev", &end, "nodad"]);
            hosts.ip(ROUTER, &["link", "set", &end, "up"]);
            hosts.ip(role, &["addr", "add", &format!("{v4}/32"), "dev", "eth0"]);
            hosts.ip(role, &["addr", "add", &format!("{v6}/128"), "dev", "eth0", "nodad"]);
            hosts.ip(role, &["link", "set", "eth0", "up"]);
            hosts.ip(role, &["route", "add", "10.0.0.1", "dev", "eth0"]);
            hosts.ip(role, &["route", "add", "default", "via", "10.0.0.1"]);
            hosts.ip(role, &["route", "add", "default", "via", "fe80::1", "dev", "eth0"]);
            hosts.ip(ROUTER, &["route", "add", v4, "dev", &end]);
            hosts.ip(ROUTER, &["route", "add", v6, "dev", &end]);
        }
        hosts.ip(STORAGE.role, &["addr", "add", &format!("{PRIVATE}/32"), "dev", "eth0"]);
        hosts.ip(ROUTER, &["route", "add", PRIVATE, "dev", &to(STORAGE.role)]);
    }

    fn write_etc(&self) {
        let etc = self.folder.path().join("etc");
        fs::create_dir_all(etc.join("ssl/certs")).unwrap();
        let write = |file: &str, text: &str| fs::write(etc.join(file), text).unwrap();
        write("resolv.conf", &format!("nameserver {}\n", DNS.v4));
        write("hosts", "127.0.0.1 localhost\n::1 localhost\n");
        write("nsswitch.conf", "hosts: files dns\n");
    }

    /// Azurite on 80 and 443. It finds no account in `GET /`, which it then answers as Azure answers it; with accounts taken
    /// from the host name it would leave that request to its HTTP library.
    fn start_storage(&mut self, azurite: &Path) {
        let public = Authority::new("Microsoft Corporation", "Microsoft RSA Root Certificate Authority 2017");
        fs::write(self.folder.path().join("etc/ssl/certs/ca-certificates.crt"), &public.certificate).unwrap();
        // As many names as on storage's own, so that the handshake does not fit into one packet.
        let zones = (1..50).map(|zone| format!("*.z{zone}.blob.storage.azure.net"));
        let identity = public.identity(["*.blob.core.windows.net".to_owned()].into_iter().chain(zones));
        fs::write(self.folder.path().join("storage.crt"), identity.certificate).unwrap();
        fs::write(self.folder.path().join("storage.key"), identity.key).unwrap();
        for (port, with) in [(80, &[][..]), (443, &["--cert", "DIR/storage.crt", "--key", "DIR/storage.key"])] {
            let mut command = self.command(&STORAGE, "node");
            command.arg(azurite).args([
                "--blobHost",
                "::",
                "--blobPort",
                &port.to_string(),
                "--disableProductStyleUrl",
            ]);
            command.args(["--inMemoryPersistence", "--disableTelemetry", "--silent"]);
            command.args(with.iter().map(|argument| self.fill(argument))).current_dir(self.folder.path());
            self.storage.push(Program::start(command, &self.folder.path().join(format!("azurite-{port}"))));
        }
        for (program, port) in self.storage.iter_mut().zip([80, 443]) {
            program.wait_until(|| listens(&self.hosts, &STORAGE, port));
        }
        self.hosts.nft(
            STORAGE.role,
            "table inet ports {\n chain in {\n type nat hook prerouting priority -100\n tcp dport 8443 redirect to :443\n }\n}\n",
        );
    }

    /// Lets the name server serve this zone.
    fn serve_zone(&mut self, zone: &str) {
        fs::write(self.folder.path().join("zone"), zone).unwrap();
        self.serve("auth-zone:\n name: core.windows.net\n zonefile: DIR/zone\n for-upstream: no\n");
    }

    /// Starts the name server anew with these lines.
    fn serve(&mut self, rest: &str) {
        self.names = None;
        let configuration = self.folder.path().join("unbound.conf");
        fs::write(&configuration, self.fill(&format!("{UNBOUND}{rest}"))).unwrap();
        let mut command = self.command(&DNS, "unbound");
        command.args(["-d", "-c"]).arg(configuration);
        let mut program = Program::start(command, &self.folder.path().join("unbound"));
        program.wait_until(|| listens(&self.hosts, &DNS, 53));
        self.names = Some(program);
    }

    /// Replaces what the router does with packets that it forwards: rules of `nft`, one a line.
    fn forward(&self, rules: &str) {
        self.route_by(&format!("chain forward {{\ntype filter hook forward priority 0\n{rules}\n}}"));
    }

    /// Replaces all of the router's chains.
    fn route_by(&self, chains: &str) {
        self.hosts.nft(ROUTER, &format!("flush ruleset\ntable inet estate {{\n{chains}\n}}\n"));
    }

    /// A program on one of the hosts.
    fn command(&self, host: &Host, program: &str) -> Command {
        let mut command = self.hosts.command(host.role, "sh");
        command.args(["-c", VIEW]).arg(self.folder.path().join("etc")).arg(program);
        command
    }

    fn fill(&self, text: &str) -> String {
        programs::fill(text, "0.0.0.0:0", self.folder.path())
    }

    /// The report of `check` on the client.
    fn check(&self, arguments: &[&str]) -> Value {
        let mut command = self.command(&CLIENT, env!("CARGO_BIN_EXE_snapreach"));
        report(&command.args(["check", "--format", "json"]).args(arguments).output().unwrap())
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
