//! Proxies with the rules of their packages, and with those that mend them.

use std::fs;

use super::{Estate, PROXY, pki::Authority, scenario::none};
use crate::programs::{self, HAPROXY, NGINX, Program, SQUID, TINYPROXY};

/// The access rules of Debian's squid: TLS to port 443 only, and nobody but this machine.
const SQUID_PORTS: &str = "acl localnet src 10.0.0.0/8\nacl SSL_ports port 443\nacl Safe_ports port 80 443 1025-65535\n\
    http_access deny !Safe_ports\nhttp_access deny CONNECT !SSL_ports\n";
const SQUID_END: &str = "http_access allow localhost\nhttp_access deny all\n";
/// What opens it to the network, as its comments advise.
const LOCALNET: &str = "http_access allow localnet\n";
/// What a backup needs beside 443.
const BACKUP_PORTS: &str = "acl SSL_ports port 80 8443\n";

impl Estate {
    /// Starts a proxy with this configuration; it ends with what is returned.
    fn proxy(&self, name: &str, port: u16, arguments: &[&str], configuration: &str) -> Program {
        let folder = self.folder.path().join(format!("{name}-{port}"));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let fill = |text: &str| programs::fill(text, &format!("0.0.0.0:{port}"), &folder);
        fs::write(folder.join("conf"), fill(configuration)).unwrap();
        let mut command = self.command(&PROXY, name);
        command.args(arguments.iter().map(|argument| fill(argument)));
        let mut program = Program::start(command, &folder.join("output"));
        program.wait_until(|| super::listens(&self.hosts, &PROXY, port));
        program
    }

    fn squid(&self, port: u16, rules: &str) -> Program {
        self.proxy("squid", port, &["-N", "-f", "DIR/conf"], &format!("{SQUID}{rules}"))
    }

    fn tinyproxy(&self, rules: &str) -> Program {
        self.proxy("tinyproxy", 8888, &["-d", "-c", "DIR/conf"], &format!("{TINYPROXY}{rules}"))
    }

    fn haproxy(&self, rules: &str) -> Program {
        self.proxy("haproxy", 8080, &["-db", "-f", "DIR/conf"], &format!("{HAPROXY}{rules}"))
    }
}

#[test]
fn squid() {
    let Some(mut estate) = Estate::new("sq") else { return };
    let through = ["--proxy", "http://10.0.0.5:3128"];
    let mut wrong = Vec::new();

    let packaged = estate.squid(3128, &format!("{SQUID_PORTS}{SQUID_END}"));
    wrong.extend(estate.differences("proxy-client-denied", &through));
    drop(packaged);

    let open = estate.squid(3128, &format!("{SQUID_PORTS}{LOCALNET}{SQUID_END}"));
    wrong.extend(estate.differences("proxy-port-denied", &through));
    drop(open);

    let mended = estate.squid(3128, &format!("{SQUID_PORTS}{BACKUP_PORTS}{LOCALNET}{SQUID_END}"));
    wrong.extend(estate.differences("healthy", &through));
    estate.forward("ip saddr 10.0.0.4 ip daddr 20.60.222.132 drop");
    wrong.extend(estate.differences("consumer-ignores-proxy", &through));
    estate.forward("tcp dport 3128 drop");
    wrong.extend(estate.differences("proxy-unreachable", &through));
    estate.forward("ip saddr 10.0.0.5 ip daddr 20.60.222.132 reject with tcp reset");
    wrong.extend(estate.differences("proxy-reports-refused", &through));
    estate.forward("ip saddr 10.0.0.5 ip daddr 20.60.222.132 reject with icmp type host-unreachable");
    wrong.extend(estate.differences("tcp-unreachable", &through));
    estate.forward("ip saddr 10.0.0.5 ip daddr 20.60.222.132 reject with icmp type admin-prohibited");
    wrong.extend(estate.differences("tcp-unreachable", &through));
    estate.forward("");
    wrong.extend(estate.differences("proxy-expects-plaintext", &["--proxy", "https://10.0.0.5:3128"]));
    drop(mended);
    wrong.extend(estate.differences("proxy-port-closed", &through));

    let impatient = estate.squid(
        3128,
        &format!("connect_timeout 1 seconds\nforward_timeout 1 seconds\n{SQUID_PORTS}{LOCALNET}{SQUID_END}"),
    );
    estate.forward("ip saddr 10.0.0.5 ip daddr 20.60.222.132 drop");
    wrong.extend(estate.differences("proxy-reports-timeout", &through));
    estate.forward("");
    drop(impatient);

    let one = estate.squid(
        3128,
        &format!("acl other dstdomain acct2.blob.core.windows.net\nhttp_access deny other\n{SQUID_PORTS}{LOCALNET}{SQUID_END}"),
    );
    wrong.extend(estate.differences("proxy-host-denied", &through));
    drop(one);

    estate.serve("server:\n local-zone: core.windows.net always_nxdomain\n");
    let _nameless = estate.squid(3128, &format!("{SQUID_PORTS}{LOCALNET}{SQUID_END}"));
    wrong.extend(estate.differences("proxy-reports-nxdomain", &through));
    none(&wrong);
}

#[test]
fn squid_with_a_login() {
    let Some(estate) = Estate::new("sl") else { return };
    let folder = estate.folder.path().display().to_string();
    // The password in the format of basic_ncsa_auth: plain MD5 crypt is not needed, it knows SHA-256 of crypt(3).
    let login = format!(
        "auth_param basic program /usr/lib/squid/basic_ncsa_auth {folder}/users\nauth_param basic realm Corp\n\
         acl authed proxy_auth REQUIRED\nhttp_access deny !authed\n{SQUID_PORTS}{LOCALNET}{SQUID_END}"
    );
    fs::write(estate.folder.path().join("users"), "svc:$5$snapreach$Eo7FETmtWX54AXkx3Zc4tV85qeUJAfEhMmscFCoumH8\n")
        .unwrap();
    let _squid = estate.squid(3128, &login);
    let mut wrong = estate.differences("proxy-auth-required", &["--proxy", "http://10.0.0.5:3128"]);
    wrong.extend(estate.differences("proxy-auth-rejected", &["--proxy", "http://svc:wrong@10.0.0.5:3128"]));
    wrong.extend(estate.differences("proxy-authenticated", &["--proxy", "http://svc:right@10.0.0.5:3128"]));
    none(&wrong);
}

#[test]
fn squid_over_tls_and_with_inspection() {
    let Some(estate) = Estate::new("st") else { return };
    let company = Authority::new("Contoso Ltd", "Contoso Root CA");
    let folder = estate.folder.path();
    let identity = company.identity(["10.0.0.5".to_owned()]);
    fs::write(folder.join("company.crt"), &company.certificate).unwrap();
    fs::write(folder.join("company.key"), &company.key).unwrap();
    fs::write(folder.join("proxy.crt"), &identity.certificate).unwrap();
    fs::write(folder.join("proxy.key"), &identity.key).unwrap();
    let at = folder.display();
    let mut wrong = Vec::new();
    let tls = estate.squid(
        3128,
        &format!("https_port 3129 tls-cert={at}/proxy.crt tls-key={at}/proxy.key\n{SQUID_PORTS}{LOCALNET}{SQUID_END}"),
    );
    let ca = format!("{at}/company.crt");
    wrong.extend(estate.differences("proxy-over-tls", &["--proxy", "https://10.0.0.5:3129", "--ca-file", &ca]));
    wrong.extend(estate.differences("proxy-expects-tls", &["--proxy", "http://10.0.0.5:3129"]));
    drop(tls);

    crate::netns::run(estate.command(&PROXY, "/usr/lib/squid/security_file_certgen").args([
        "-c",
        "-s",
        &format!("{at}/issued"),
        "-M",
        "4MB",
    ]));
    crate::netns::run(estate.command(&PROXY, "chmod").args(["-R", "777", &format!("{at}/issued")]));
    let _inspecting = estate.squid(
        3128,
        &format!(
            "http_port 3130 ssl-bump tls-cert={at}/company.crt tls-key={at}/company.key generate-host-certificates=on\n\
             sslcrtd_program /usr/lib/squid/security_file_certgen -s {at}/issued -M 4MB\nsslcrtd_children 1\n\
             tls_outgoing_options cafile=/etc/ssl/certs/ca-certificates.crt\nssl_bump bump all\n{SQUID_PORTS}{LOCALNET}{SQUID_END}"
        ),
    );
    wrong.extend(estate.differences("tls-intercepted-by-proxy", &["--proxy", "http://10.0.0.5:3130"]));
    wrong
        .extend(estate.differences("tls-intercepted-by-proxy", &["--proxy", "http://10.0.0.5:3130", "--ca-file", &ca]));
    none(&wrong);
}

#[test]
fn tinyproxy() {
    let Some(mut estate) = Estate::new("ti") else { return };
    let through = ["--proxy", "http://10.0.0.5:8888"];
    let mut wrong = Vec::new();
    let packaged = estate.tinyproxy("Allow 127.0.0.1\nAllow ::1\n");
    wrong.extend(estate.differences("proxy-client-denied", &through));
    drop(packaged);
    let mended = estate.tinyproxy("Allow 10.0.0.0/8\n");
    wrong.extend(estate.differences("healthy", &through));
    estate.forward("ip saddr 10.0.0.5 ip daddr 20.60.222.132 reject with tcp reset");
    wrong.extend(estate.differences("proxy-gateway-error", &through));
    estate.forward("");
    drop(mended);
    let ports = estate.tinyproxy("Allow 10.0.0.0/8\nConnectPort 8443\n");
    wrong.extend(estate.differences("proxy-port-denied-tinyproxy", &through));
    drop(ports);
    fs::write(estate.folder.path().join("filter"), "acct\\.blob\n").unwrap();
    let filter = format!("Allow 10.0.0.0/8\nFilter \"{}/filter\"\n", estate.folder.path().display());
    let filtering = estate.tinyproxy(&filter);
    wrong.extend(estate.differences("proxy-host-denied-tinyproxy", &through));
    drop(filtering);
    let login = estate.tinyproxy("Allow 10.0.0.0/8\nBasicAuth svc right\n");
    wrong.extend(estate.differences("proxy-auth-required", &through));
    wrong.extend(estate.differences("proxy-auth-rejected-tinyproxy", &["--proxy", "http://svc:wrong@10.0.0.5:8888"]));
    wrong.extend(estate.differences("proxy-authenticated", &["--proxy", "http://svc:right@10.0.0.5:8888"]));
    drop(login);
    estate.serve("server:\n local-zone: core.windows.net always_nxdomain\n");
    let _nameless = estate.tinyproxy("Allow 10.0.0.0/8\n");
    wrong.extend(estate.differences("proxy-gateway-error", &through));
    none(&wrong);
}

#[test]
fn a_balancer_and_a_web_server() {
    let Some(estate) = Estate::new("ba") else { return };
    let through = ["--proxy", "http://10.0.0.5:8080"];
    let mut wrong = Vec::new();
    let squid =
        estate.squid(3128, &format!("{SQUID_PORTS}{BACKUP_PORTS}{LOCALNET}http_access allow localhost\n{SQUID_END}"));
    let tcp = estate.haproxy("listen proxies\n mode tcp\n bind LISTEN\n retries 0\n server one 127.0.0.1:3128\n");
    wrong.extend(estate.differences("healthy", &through));
    drop(squid);
    wrong.extend(estate.differences("proxy-closed", &through));
    drop(tcp);
    let http = estate.haproxy("frontend web\n mode http\n bind LISTEN\n");
    wrong.extend(estate.differences("proxy-gateway-error", &through));
    drop(http);
    let _web = estate.proxy("nginx", 8080, &["-c", "DIR/conf", "-p", "DIR"], NGINX);
    wrong.extend(estate.differences("proxy-connect-unsupported", &through));
    none(&wrong);
}
