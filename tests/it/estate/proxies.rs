//! Proxies with the rules of their packages, and with those that mend them.

use std::{fs, net::TcpStream, process::Stdio};

use super::{
    DNS, Estate, PROXY,
    pki::Authority,
    scenario::{assert_met, at_once},
};
use crate::{
    netns::run,
    programs::{Program, SQUID, TINYPROXY},
};

/// The access rules of Debian's squid: TLS to port 443 only, and nobody but this machine.
const SQUID_PORTS: &str = "acl localnet src 10.0.0.0/8\nacl SSL_ports port 443\nacl Safe_ports port 80 443 1025-65535\n\
    http_access deny !Safe_ports\nhttp_access deny CONNECT !SSL_ports\n";
const SQUID_END: &str = "http_access allow localhost\nhttp_access deny all\n";
/// What opens it to the network, as its comments advise.
const LOCALNET: &str = "http_access allow localnet\n";
/// What a backup needs beside 443.
const BACKUP_PORTS: &str = "acl SSL_ports port 80 8443\n";

impl Estate {
    fn squid(&self, rules: &str) -> Program {
        self.start(&PROXY, "squid", 3128, &["-N", "-f", "DIR/conf"], &format!("{SQUID}{rules}"))
    }

    fn tinyproxy(&self, rules: &str) -> Program {
        self.start(&PROXY, "tinyproxy", 8888, &["-d", "-c", "DIR/conf"], &format!("{TINYPROXY}{rules}"))
    }
}

#[test]
fn squid() {
    let Some(mut estate) = Estate::new("sq") else { return };
    let through = ["--proxy", "http://10.0.0.5:3128"];
    let mut unmet = Vec::new();

    let packaged = estate.squid(&format!("{SQUID_PORTS}{SQUID_END}"));
    unmet.extend(estate.unmet("proxy-client-denied-squid", &through));
    drop(packaged);

    let open = estate.squid(&format!("{SQUID_PORTS}{LOCALNET}{SQUID_END}"));
    unmet.extend(estate.unmet("proxy-port-denied", &through));
    unmet.extend(estate.unmet("story-squid-default-ports", &through));
    drop(open);

    let mended = estate.squid(&format!("{SQUID_PORTS}{BACKUP_PORTS}{LOCALNET}{SQUID_END}"));
    unmet.extend(estate.unmet("healthy-storage", &through));
    estate.forward("ip saddr 10.0.0.5 ip daddr 20.60.222.132 reject with tcp reset");
    unmet.extend(estate.unmet("proxy-reports-refused", &through));
    estate.forward("ip saddr 10.0.0.5 ip daddr 20.60.222.132 reject with icmp type host-unreachable");
    unmet.extend(estate.unmet("proxy-reports-unreachable", &through));
    estate.forward("ip saddr 10.0.0.5 ip daddr 20.60.222.132 reject with icmp type admin-prohibited");
    unmet.extend(estate.unmet("proxy-reports-unreachable", &through));
    estate.forward("");
    unmet.extend(estate.unmet("proxy-expects-plaintext", &["--proxy", "https://10.0.0.5:3128"]));
    drop(mended);
    unmet.extend(estate.unmet("proxy-port-closed", &through));

    let impatient = estate
        .squid(&format!("connect_timeout 1 seconds\nforward_timeout 1 seconds\n{SQUID_PORTS}{LOCALNET}{SQUID_END}"));
    estate.forward("ip saddr 10.0.0.5 ip daddr 20.60.222.132 drop");
    unmet.extend(estate.unmet("proxy-reports-timeout", &through));
    estate.forward("");
    drop(impatient);

    let one = estate.squid(&format!(
        "acl other dstdomain acct2.blob.core.windows.net\nhttp_access deny other\n{SQUID_PORTS}{LOCALNET}{SQUID_END}"
    ));
    unmet.extend(estate.unmet("proxy-host-denied", &through));
    drop(one);

    estate.serve("server:\n local-zone: core.windows.net always_nxdomain\n");
    let _nameless = estate.squid(&format!("{SQUID_PORTS}{LOCALNET}{SQUID_END}"));
    unmet.extend(estate.unmet("proxy-name-unknown-squid", &through));
    assert_met(&unmet);
}

#[test]
fn silence_around_a_proxy() {
    at_once(
        "ps",
        [
            |estate| {
                let _squid = estate.squid(&format!("{SQUID_PORTS}{LOCALNET}{SQUID_END}"));
                estate.forward("ip saddr 10.0.0.4 ip daddr 20.60.222.132 drop");
                let mut unmet = estate.unmet("consumer-ignores-proxy", &["--proxy", "http://10.0.0.5:3128"]);
                estate.forward("tcp dport 3128 drop");
                unmet.extend(estate.unmet("proxy-unreachable", &["--proxy", "http://10.0.0.5:3128"]));
                unmet
            },
            |estate| {
                // As many clients as it takes; the next one waits in the kernel's queue.
                let _tinyproxy = estate.tinyproxy("Allow 10.0.0.0/8\n");
                let connect = || TcpStream::connect((PROXY.v4, 8888)).unwrap();
                let _clients: Vec<_> = estate.hosts.inside(DNS.role, move || (0..20).map(|_| connect()).collect());
                estate.unmet("proxy-silent", &["--proxy", "http://10.0.0.5:8888"])
            },
        ],
    );
}

#[test]
fn squid_with_a_login() {
    let Some(estate) = Estate::new("sl") else { return };
    let folder = estate.folder.path().display().to_string();
    // Its password is `right`, hashed by crypt(3) with SHA-256.
    let login = format!(
        "auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/users\nauth_param basic realm Corp\n\
         acl authed proxy_auth REQUIRED\nhttp_access deny !authed\n{SQUID_PORTS}{LOCALNET}{SQUID_END}"
    );
    fs::write(estate.folder.path().join("users"), "svc:$5$snapreach$Eo7FETmtWX54AXkx3Zc4tV85qeUJAfEhMmscFCoumH8\n")
        .unwrap();
    let _squid = estate.squid(&login);
    let mut unmet = estate.unmet("proxy-auth-required", &["--proxy", "http://10.0.0.5:3128"]);
    unmet.extend(estate.unmet("proxy-auth-rejected", &["--proxy", "http://svc:wrong@10.0.0.5:3128"]));
    unmet.extend(estate.unmet("proxy-authenticated", &["--proxy", "http://svc:right@10.0.0.5:3128"]));
    assert_met(&unmet);
}

#[test]
fn squid_over_tls_and_with_inspection() {
    let Some(estate) = Estate::new("st") else { return };
    let company = Authority::new("Contoso Ltd", "Contoso Root CA");
    let folder = estate.folder.path();
    let identity = company.identity(["10.0.0.5".to_owned()], -1..30);
    fs::write(folder.join("company.crt"), &company.certificate).unwrap();
    fs::write(folder.join("company.key"), &company.key).unwrap();
    fs::write(folder.join("proxy.crt"), &identity.chain).unwrap();
    fs::write(folder.join("proxy.key"), &identity.key).unwrap();
    let at = folder.display();
    let mut unmet = Vec::new();
    let tls = estate.squid(&format!(
        "https_port 3129 tls-cert={at}/proxy.crt tls-key={at}/proxy.key\n{SQUID_PORTS}{LOCALNET}{SQUID_END}"
    ));
    let ca = format!("{at}/company.crt");
    unmet.extend(estate.unmet("proxy-over-tls", &["--proxy", "https://10.0.0.5:3129", "--ca-file", &ca]));
    unmet.extend(estate.unmet("proxy-expects-tls", &["--proxy", "http://10.0.0.5:3129"]));
    drop(tls);

    // The certificates that it makes; it writes them after it has dropped its privileges.
    let prepare = format!("/usr/lib/squid/security_file_certgen -c -s {at}/issued -M 4MB && chmod -R 777 {at}/issued");
    run(estate.command(&PROXY, "sh").args(["-c", &prepare]).stdout(Stdio::null()));
    let _inspecting = estate.squid(&format!(
            "http_port 3130 ssl-bump tls-cert={at}/company.crt tls-key={at}/company.key generate-host-certificates=on\n\
             sslcrtd_program /usr/lib/squid/security_file_certgen -s {at}/issued -M 4MB\nsslcrtd_children 1\n\
             tls_outgoing_options cafile=/etc/ssl/certs/ca-certificates.crt\nssl_bump bump all\n{SQUID_PORTS}{LOCALNET}{SQUID_END}"
        ),
    );
    unmet.extend(estate.unmet("tls-intercepted-by-proxy", &["--proxy", "http://10.0.0.5:3130"]));
    let known = ["--proxy", "http://10.0.0.5:3130", "--ca-file", &ca];
    unmet.extend(estate.unmet("consumer-distrusts-anchor", &known));
    unmet.extend(estate.unmet("story-corporate-inspection", &known));
    unmet.extend(estate.unmet("tls-intercepted-by-proxy", &["--proxy", "http://10.0.0.5:3130", "--ca-file", &ca]));
    assert_met(&unmet);
}

#[test]
fn tinyproxy() {
    let Some(mut estate) = Estate::new("ti") else { return };
    let through = ["--proxy", "http://10.0.0.5:8888"];
    let mut unmet = Vec::new();
    let packaged = estate.tinyproxy("Allow 127.0.0.1\nAllow ::1\n");
    unmet.extend(estate.unmet("proxy-client-denied", &through));
    drop(packaged);
    let mended = estate.tinyproxy("Allow 10.0.0.0/8\n");
    unmet.extend(estate.unmet("healthy-storage", &through));
    estate.forward("ip saddr 10.0.0.5 ip daddr 20.60.222.132 reject with tcp reset");
    unmet.extend(estate.unmet("proxy-gateway-error", &through));
    estate.forward("");
    drop(mended);
    let ports = estate.tinyproxy("Allow 10.0.0.0/8\nConnectPort 8443\n");
    unmet.extend(estate.unmet("proxy-port-denied-tinyproxy", &through));
    drop(ports);
    fs::write(estate.folder.path().join("filter"), "acct\\.blob\n").unwrap();
    let filter = format!("Allow 10.0.0.0/8\nFilter \"{}/filter\"\n", estate.folder.path().display());
    let filtering = estate.tinyproxy(&filter);
    unmet.extend(estate.unmet("proxy-host-denied-tinyproxy", &through));
    drop(filtering);
    let login = estate.tinyproxy("Allow 10.0.0.0/8\nBasicAuth svc right\n");
    unmet.extend(estate.unmet("proxy-auth-required", &through));
    unmet.extend(estate.unmet("proxy-auth-rejected-tinyproxy", &["--proxy", "http://svc:wrong@10.0.0.5:8888"]));
    unmet.extend(estate.unmet("proxy-authenticated", &["--proxy", "http://svc:right@10.0.0.5:8888"]));
    drop(login);
    estate.serve("server:\n local-zone: core.windows.net always_nxdomain\n");
    let _nameless = estate.tinyproxy("Allow 10.0.0.0/8\n");
    unmet.extend(estate.unmet("proxy-gateway-error", &through));
    assert_met(&unmet);
}

#[test]
fn a_balancer_and_a_web_server() {
    let Some(estate) = Estate::new("ba") else { return };
    let through = ["--proxy", "http://10.0.0.5:8080"];
    let mut unmet = Vec::new();
    let squid = estate.squid(&format!("{SQUID_PORTS}{BACKUP_PORTS}{LOCALNET}http_access allow localhost\n{SQUID_END}"));
    let tcp =
        estate.haproxy(&PROXY, "listen proxies\n mode tcp\n bind LISTEN\n retries 0\n server one 127.0.0.1:3128\n");
    unmet.extend(estate.unmet("healthy-storage", &through));
    drop(squid);
    unmet.extend(estate.unmet("proxy-closed", &through));
    drop(tcp);
    let http = estate.haproxy(&PROXY, "frontend web\n mode http\n bind LISTEN\n");
    unmet.extend(estate.unmet("proxy-gateway-error", &through));
    drop(http);
    let _web = estate.nginx(&PROXY, 8080);
    unmet.extend(estate.unmet("proxy-connect-unsupported", &through));
    assert_met(&unmet);
}
