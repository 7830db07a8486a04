//! One entry per finding code: the single source for `explain`, reports, documentation and tests.

use super::codes;
use crate::model::{Code, Context, Hop, Party, Remedy, Route, Severity};

/// What is always true of a code.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// A few words: what happened, without naming a target.
    pub title: &'static str,
    /// Its usual severity; a rule may lower it.
    pub severity: Severity,
    /// Whose doing it usually is; the hop may decide otherwise.
    pub party: Party,
    /// The page of `snapreach explain`, Markdown.
    pub page: &'static str,
}

/// What a remedy depends on.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Between whom it happened.
    pub hop: Hop,
    /// How bad it is in this case.
    pub severity: Severity,
    /// Over which route.
    pub route: Option<Route>,
    /// `host:port` of the targets concerned, never empty for findings about targets.
    pub targets: &'a [String],
    /// What was known beside the observations: region, proxy, consumer, method, what the files given say.
    pub context: &'a Context,
    /// The proxy product that spoke, where it can be told (`squid`, `tinyproxy`, `haproxy`, `nginx`, `privoxy`,
    /// `cntlm`, `ncat`, `pproxy`, `azure-firewall`).
    pub product: Option<&'a str>,
}

/// All entries, in the order of [`super::codes::ALL`].
#[must_use]
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

/// The entry of a code by its name.
#[must_use]
pub fn find(code: &str) -> Option<&'static Entry> {
    entries().iter().find(|entry| entry.code.0 == code)
}

/// What to do about a finding, best first, at most three.
#[must_use]
pub fn remedies(code: Code, situation: &Situation<'_>) -> Vec<Remedy> {
    super::remedies::remedies(code, situation)
}

macro_rules! table {
    ($($name:ident $code:literal $severity:ident $party:ident $title:literal;)*) => {
        const ENTRIES: &[Entry] = &[$(Entry {
            code: codes::$name,
            title: $title,
            severity: Severity::$severity,
            party: Party::$party,
            page: include_str!(concat!("explain/", $code, ".md")),
        }),*];

        /// The file names as written, to prove that each entry has its own page.
        #[cfg(test)]
        const PAGES: &[&str] = &[$($code),*];
    };
}

table! {
    LOCAL_FD_EXHAUSTED "local.fd_exhausted" Error Client "no file descriptor left on this machine";
    LOCAL_PORTS_EXHAUSTED "local.ports_exhausted" Error Client "no free source port on this machine";
    LOCAL_NO_BUFFERS "local.no_buffers" Error Client "no socket memory on this machine";
    LOCAL_DENIED "local.denied" Error Client "a policy on this machine forbids the connection";
    LOCAL_NO_ROUTE "local.no_route" Error Client "this machine has no route to the address";
    LOCAL_NETWORK_DOWN "local.network_down" Error Client "the network interface is down";
    LOCAL_FAMILY_UNSUPPORTED "local.family_unsupported" Error Client "this machine does not support the address family";
    LOCAL_CLOCK_SKEW "local.clock_skew" Error Client "this machine's clock is wrong";
    CONFIG_PROXY_CONFLICT "config.proxy_conflict" Warning Client "two places name different proxies";
    CONFIG_PROXY_INVALID "config.proxy_invalid" Warning Client "a proxy setting cannot be used";
    CONFIG_AGENT_FILE_UNREADABLE_BY_EXTENSION "config.agent_file_unreadable_by_extension" Warning Client "unparsable waagent.conf";
    CONFIG_NO_PROXY_INCOMPLETE "config.no_proxy_incomplete" Warning Client "no_proxy lacks platform addresses";
    CONFIG_PROXY_NEEDS_AUTH "config.proxy_needs_auth" Error Client "login that the agent cannot send";
    CONFIG_HOSTS_OVERRIDE "config.hosts_override" Warning Client "the hosts file pins a storage name";
    DNS_NXDOMAIN "dns.nxdomain" Error Resolver "the name does not exist";
    DNS_NODATA "dns.nodata" Error Resolver "the name exists but has no address";
    DNS_SERVFAIL "dns.servfail" Error Resolver "the name server failed to find an answer";
    DNS_REFUSED "dns.refused" Error Resolver "the name server refuses to answer this client";
    DNS_RCODE "dns.rcode" Error Resolver "the name server answered with an unusual response code";
    DNS_TIMEOUT "dns.timeout" Error Resolver "the name server does not answer";
    DNS_UNREACHABLE "dns.unreachable" Error Resolver "the name server cannot be reached";
    DNS_MALFORMED "dns.malformed" Error Resolver "the answer of the name server makes no sense";
    DNS_SINKHOLE "dns.sinkhole" Error Resolver "DNS leads to an address that cannot be storage";
    DNS_PRIVATELINK_PUBLIC "dns.privatelink_public" Warning Resolver "public address despite private link";
    DNS_PRIVATE_ADDRESS "dns.private_address" Info Resolver "the name leads to a private address";
    DNS_RESOLVER_MISMATCH "dns.resolver_mismatch" Warning Resolver "two resolvers disagree about the name";
    TCP_REFUSED "tcp.refused" Error Path "connection refused";
    TCP_CONNECT_TIMEOUT "tcp.connect_timeout" Error Path "SYN unanswered";
    TCP_UNREACHABLE "tcp.unreachable" Error Path "the network says that the address cannot be reached";
    TCP_ADMIN_PROHIBITED "tcp.admin_prohibited" Error Path "a firewall rejects the connection and says so";
    TCP_RESET "tcp.reset" Error Path "connection reset";
    TCP_PORT_FILTERED "tcp.port_filtered" Error Path "blocked, while another port answers";
    TCP_INTERMITTENT "tcp.intermittent" Warning Path "some attempts fail, some succeed";
    TCP_FAMILY_BROKEN "tcp.family_broken" Warning Path "one address family fails, the other works";
    PATH_BLOCKED_AFTER "path.blocked_after" Info Path "the connection dies after a known router";
    PATH_MTU_BLACKHOLE "path.mtu_blackhole" Error Path "full-size packets vanish";
    PROXY_AUTH_REQUIRED "proxy.auth_required" Error Proxy "the proxy wants a login";
    PROXY_AUTH_REJECTED "proxy.auth_rejected" Error Proxy "the proxy rejects the login";
    PROXY_PORT_DENIED "proxy.port_denied" Error Proxy "the proxy forbids this port";
    PROXY_HOST_DENIED "proxy.host_denied" Error Proxy "the proxy forbids this host";
    PROXY_REQUEST_DENIED "proxy.request_denied" Error Proxy "the proxy refuses, without saying what it minds";
    PROXY_CLIENT_DENIED "proxy.client_denied" Error Proxy "the proxy does not serve this machine";
    PROXY_RATE_LIMITED "proxy.rate_limited" Error Proxy "the proxy limits the rate of requests";
    PROXY_OVERLOADED "proxy.overloaded" Error Proxy "the proxy is at its limits";
    PROXY_CONNECT_UNSUPPORTED "proxy.connect_unsupported" Error Proxy "CONNECT is not supported here";
    PROXY_NOT_A_PROXY "proxy.not_a_proxy" Error Proxy "a web server or portal answers in place of a proxy";
    PROXY_NOT_HTTP "proxy.not_http" Error Proxy "what answers on the proxy port does not speak HTTP";
    PROXY_EXPECTS_TLS "proxy.expects_tls" Error Proxy "the proxy port wants TLS";
    PROXY_EXPECTS_PLAINTEXT "proxy.expects_plaintext" Error Proxy "the proxy port speaks plain HTTP";
    PROXY_SILENT "proxy.silent" Error Proxy "the proxy accepts the connection and never answers";
    PROXY_CLOSED "proxy.closed" Error Proxy "the proxy hangs up without an answer";
    PROXY_TRUNCATED "proxy.truncated" Error Proxy "the proxy's answer breaks off";
    PROXY_BAD_REPLY "proxy.bad_reply" Error Proxy "the proxy's answer is malformed";
    PROXY_REDIRECTED "proxy.redirected" Error Proxy "the proxy redirects to a page";
    PROXY_GATEWAY_ERROR "proxy.gateway_error" Error Path "the proxy could not reach the target, no reason given";
    PROXY_INTERNAL_ERROR "proxy.internal_error" Error Proxy "the proxy failed by itself";
    PROXY_LOOP "proxy.loop" Error Proxy "the request goes in circles between proxies";
    PROXY_OPTIMISTIC_CONNECT "proxy.optimistic_connect" Warning Proxy "the proxy says 200 before it has reached the target";
    TUNNEL_CLOSED "tunnel.closed" Error Proxy "the tunnel is closed after the 200";
    TUNNEL_RESET "tunnel.reset" Error Proxy "the tunnel is reset after the 200";
    TUNNEL_SILENT "tunnel.silent" Error Proxy "the tunnel is open and nothing comes through";
    TUNNEL_CORRUPTED "tunnel.corrupted" Error Proxy "the tunnel changes the bytes";
    TUNNEL_IDLE_CUT "tunnel.idle_cut" Warning Proxy "idle tunnels are cut";
    TUNNEL_HALF_CLOSE_BROKEN "tunnel.half_close_broken" Warning Proxy "half-closing a tunnel loses the answer";
    TUNNEL_EARLY_DATA_LOST "tunnel.early_data_lost" Warning Proxy "bytes sent together with the CONNECT are lost";
    TLS_INTERCEPTED "tls.intercepted" Error Path "TLS is intercepted on the way";
    TLS_UNKNOWN_ISSUER "tls.unknown_issuer" Error Path "the certificate's issuer is not trusted";
    TLS_SELF_SIGNED "tls.self_signed" Error Path "the certificate is signed by itself";
    TLS_INCOMPLETE_CHAIN "tls.incomplete_chain" Error Path "the server does not send its intermediate certificate";
    TLS_EXPIRED "tls.expired" Error Path "the certificate has expired";
    TLS_NOT_YET_VALID "tls.not_yet_valid" Error Path "the certificate is not yet valid";
    TLS_NAME_MISMATCH "tls.name_mismatch" Error Path "the certificate is for another name";
    TLS_BAD_CERTIFICATE "tls.bad_certificate" Error Path "the certificate cannot be used";
    TLS_PROTOCOL_VERSION "tls.protocol_version" Error Path "no TLS version in common";
    TLS_HANDSHAKE_FAILURE "tls.handshake_failure" Error Path "the TLS handshake finds no common ground";
    TLS_ALERT "tls.alert" Error Path "the server ended the handshake with an alert";
    TLS_CLIENT_CERT_REQUIRED "tls.client_cert_required" Error Path "the server demands a client certificate";
    TLS_NOT_TLS "tls.not_tls" Error Path "what answers on the TLS port does not speak TLS";
    TLS_RESET_AFTER_HELLO "tls.reset_after_hello" Error Path "connection reset right after the ClientHello";
    TLS_CLOSED_AFTER_HELLO "tls.closed_after_hello" Error Path "connection closed right after the ClientHello";
    TLS_SILENT_AFTER_HELLO "tls.silent_after_hello" Error Path "no answer to the ClientHello";
    HTTP_SILENT "http.silent" Error Path "no answer to the request";
    HTTP_CLOSED "http.closed" Error Path "connection closed in place of an answer";
    HTTP_MALFORMED "http.malformed" Error Path "the answer is not valid HTTP";
    HTTP_FIREWALL_DENIED "http.firewall_denied" Error Path "Azure Firewall denies the request";
    HTTP_CAPTIVE_PORTAL "http.captive_portal" Error Path "a portal answers and wants a login";
    HTTP_BLOCK_PAGE "http.block_page" Error Path "a filter answers with its block page";
    HTTP_REDIRECTED "http.redirected" Error Path "the answer redirects to another site";
    HTTP_WRONG_SPEAKER "http.wrong_speaker" Error Path "an HTTP answer, but not from storage";
    HTTP_SLOW "http.slow" Warning Path "it works, but slower than the consumer waits";
    STORAGE_NETWORK_RULES "storage.network_rules" Error Origin "the storage account's firewall rejects this source";
    STORAGE_HTTPS_REQUIRED "storage.https_required" Warning Origin "the account accepts HTTPS only";
    STORAGE_TLS_VERSION "storage.tls_version" Error Origin "the account demands a newer TLS version";
    STORAGE_THROTTLED "storage.throttled" Warning Origin "storage asks to slow down";
    STORAGE_ERROR "storage.error" Error Origin "storage reports an error of its own";
    STORAGE_SAS_REJECTED "storage.sas_rejected" Error Origin "storage rejects the signature of the URL";
    HOST_UNREACHABLE "host.unreachable" Error Path "the platform's host channel does not answer";
    HOST_UNEXPECTED "host.unexpected" Error Path "something other than the host channel answers";
    HOST_PROXIED "host.proxied" Error Client "the host channel was reached through a proxy";
    HOST_ROOT_NEEDED "host.root_needed" Warning Client "the wire server is silent for users without privilege";
    CONSUMER_IGNORES_PROXY "consumer.ignores_proxy" Error Client "the extension will not use the configured proxy";
    CONSUMER_USES_PROXY "consumer.uses_proxy" Error Client "the extension will use a proxy that does not work";
    CONSUMER_DISTRUSTS_ANCHOR "consumer.distrusts_anchor" Warning Client "the extension does not trust this chain";
    CONSUMER_PORT_UNUSED "consumer.port_unused" Info Client "a blocked port that this consumer never uses";
    NSG_DENIED "nsg.denied" Error Path "a rule of the network security group denies it";
    NSG_PORT_EXCLUDED "nsg.port_excluded" Error Path "an allow rule misses the port";
    NSG_SHADOWED "nsg.shadowed" Error Path "an allow rule stands below a deny";
    NSG_DEFAULT_DENIED "nsg.default_denied" Error Path "no rule allows it, the default denies";
    TRIAGE_CODE_MISLEADS "triage.code_misleads" Warning Unknown "the reported code and the log disagree";
    TRIAGE_REPORT_LOST "triage.report_lost" Warning Client "the extension could not write its report";
    TRIAGE_HOST_REFUSED "triage.host_refused" Error Origin "the host answers and takes no snapshot";
    TRIAGE_FREEZE_FAILED "triage.freeze_failed" Error Client "the file systems could not be frozen";
    TRIAGE_TOO_LATE "triage.too_late" Error Client "the snapshot was started too late";
    TRIAGE_NO_DISKS "triage.no_disks" Error Origin "the extension was given no disk";
    TRANSFER_REFUSED "transfer.refused" Error Origin "the target answers with an error in place of data";
    TRANSFER_STALLED "transfer.stalled" Error Path "data stopped moving in the middle of a transfer";
    TRANSFER_TRUNCATED "transfer.truncated" Error Path "the connection was closed in the middle of a transfer";
    TRANSFER_BROKEN "transfer.broken" Error Path "the connection broke in the middle of a transfer";
    TRANSFER_CORRUPTED "transfer.corrupted" Error Path "other data arrived than was sent";
    META_NOT_RUN "meta.not_run" Info Unknown "this was not measured";
    META_DEADLINE "meta.deadline" Warning Unknown "the run ended before everything was measured";
    META_UNCLASSIFIED "meta.unclassified" Error Unknown "a failure that no rule knows";
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    const SECTIONS: [&str; 4] =
        ["## What it means", "## What it looks like", "## Who fixes it, and how", "## How to reproduce it"];

    #[test]
    fn every_code_has_one_entry_in_the_same_order_with_its_own_page() {
        let listed: Vec<_> = entries().iter().map(|entry| entry.code).collect();
        assert_eq!(listed, codes::ALL);
        assert_eq!(PAGES, codes::ALL.iter().map(|code| code.0).collect::<Vec<_>>());
        assert_eq!(codes::ALL.iter().collect::<BTreeSet<_>>().len(), codes::ALL.len());
        assert!(codes::ALL.iter().all(|code| find(code.0).is_some_and(|entry| entry.code == *code)));
    }

    #[test]
    fn no_page_file_without_a_code() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/classify/explain");
        let files: BTreeSet<_> =
            fs::read_dir(directory).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let expected: BTreeSet<_> = codes::ALL.iter().map(|code| format!("{code}.md")).collect();
        assert_eq!(files, expected);
    }

    #[test]
    fn every_page_begins_with_its_code_and_title() {
        for entry in entries() {
            assert_eq!(entry.page.lines().next().unwrap(), format!("# {}: {}", entry.code, entry.title));
        }
    }

    #[test]
    fn every_page_has_the_four_sections_in_order_and_none_is_empty() {
        for entry in entries() {
            let headings: Vec<_> = entry.page.lines().filter(|line| line.starts_with("## ")).collect();
            assert_eq!(headings, SECTIONS, "{}", entry.code);
            for section in entry.page.split("\n## ").skip(1) {
                let (heading, body) = section.split_once('\n').unwrap();
                assert!(body.trim().len() > 20, "{}: `{heading}` says nothing", entry.code);
            }
        }
    }

    #[test]
    fn pages_fit_a_terminal() {
        for entry in entries() {
            let mut code = false;
            for line in entry.page.lines() {
                if line.starts_with("```") {
                    code = !code;
                } else {
                    let (width, most) = (line.chars().count(), if code { 100 } else { 80 });
                    assert!(width <= most, "{}: {width} columns: {line}", entry.code);
                }
            }
            assert!(!code, "{}: a code block is not closed", entry.code);
            assert!(entry.page.lines().count() <= 55, "{}: too long to read at 3 a.m.", entry.code);
        }
    }

    #[test]
    fn a_lab_scenario_is_named_after_its_own_code_or_an_existing_one() {
        let slugs: BTreeSet<_> = codes::ALL.iter().map(|code| code.0.replace(['.', '_'], "-")).collect();
        for entry in entries() {
            for part in entry.page.split("--lab ").skip(1) {
                let name: String = part.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
                assert!(slugs.contains(&name), "{} names the unknown scenario {name}", entry.code);
            }
        }
    }

    #[test]
    fn codes_that_a_page_refers_to_exist() {
        let layers: BTreeSet<_> = codes::ALL.iter().filter_map(|code| code.0.split_once('.')).map(|(l, _)| l).collect();
        for entry in entries() {
            for word in entry.page.split('`').skip(1).step_by(2) {
                let Some((layer, name)) = word.split_once('.') else { continue };
                let is_code = layers.contains(layer)
                    && name.len() > 2
                    && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                assert!(!is_code || find(word).is_some(), "{} refers to the unknown code {word}", entry.code);
            }
        }
    }
}
