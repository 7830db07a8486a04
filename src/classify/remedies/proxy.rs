//! What the forward proxy says, and what stands on its port.

use super::{
    facts::{Facts, Product},
    nsg::proxy_egress,
    observe::{capture, from_proxy_host, repeat},
    products::{
        allow_names, capacity, client_allowed, do_not_inspect, exempt_in_proxy, port_list, proxy_answers_sooner,
        proxy_log,
    },
    remedy, ways,
};
use crate::{
    classify::codes,
    model::{Code, Remedy},
};

pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::PROXY_AUTH_REQUIRED => no_login(f),
        codes::PROXY_AUTH_REJECTED => {
            let mut list = vec![remedy(
                "Check user name and password, percent-encoded in the URL; this serves the probe only, the extension \
                 cannot log in",
                [format!("curl -v -x {} -U USER https://{}/", f.proxy, f.target)],
            )];
            list.extend(no_login(f));
            list
        }
        codes::PROXY_PORT_DENIED => vec![
            port_list(f),
            remedy(
                "Confirm that the port decides: ask for port 443 of the same host",
                [format!("curl -v -x {} https://{}:443/", f.proxy, f.host)],
            ),
            ways::past_proxy(f),
        ],
        codes::PROXY_HOST_DENIED => vec![
            allow_names(
                f,
                format!("Allow {} in the proxy for this machine's subnet; single host names do not last", f.suffixes()),
            ),
            ways::past_proxy(f),
        ],
        codes::PROXY_CLIENT_DENIED => vec![client_allowed(f), ways::past_proxy(f)],
        codes::PROXY_REQUEST_DENIED => vec![
            proxy_log(f, "Find the rule that refuses in the proxy's log"),
            allow_names(f, "Allow the backup targets for this machine's subnet, above the refusing rule"),
            port_list(f),
        ],
        codes::PROXY_REDIRECTED => {
            vec![allow_names(f, "Exempt this machine's subnet from the portal, above the rule that redirects")]
        }
        codes::PROXY_RATE_LIMITED => vec![
            remedy(
                "Raise the proxy's limit for the backup subnet, or spread the backup schedules",
                ["# haproxy: the stick-table with http_req_rate and its `deny_status 429` rule"],
            ),
            repeat(
                f,
                "--attempts 1 --concurrency 1",
                "Repeat with one connection at a time, to see whether only the probe is limited",
            ),
        ],
        codes::PROXY_OVERLOADED => vec![capacity(f), from_count(f)],
        codes::PROXY_SILENT => vec![
            repeat(
                f,
                "--timeout 140s --deadline 5m",
                "Wait for the proxy's own verdict: a black hole behind it is reported after 61 s (squid) or 134 s (tinyproxy)",
            ),
            from_proxy_host(f),
            capacity(f),
        ],
        codes::PROXY_CLOSED => {
            let mut list = vec![proxy_log(f, "Read the proxy's log at that second")];
            list.extend(proxy_answers_sooner(f).filter(|_| f.product == Product::Haproxy));
            list.push(wants_tls(f));
            list.push(client_allowed(f));
            list
        }
        codes::PROXY_EXPECTS_TLS => vec![
            remedy(
                "Offer a plain port for this machine's subnet: agent and extension cannot speak TLS to a proxy",
                ["# squid: http_port 3128"],
            ),
            remedy(
                "Name the proxy as https:// for this probe",
                [format!("snapreach check --proxy https://{}:{} {}", f.proxy_host, f.proxy_port, f.target)],
            ),
        ],
        codes::PROXY_EXPECTS_PLAINTEXT => vec![remedy(
            "Write http:// in the proxy's URL: the scheme says how to speak to the proxy, not what goes through it",
            [format!("snapreach check --proxy http://{}:{} {}", f.proxy_host, f.proxy_port, f.target)],
        )],
        codes::PROXY_NOT_A_PROXY | codes::PROXY_NOT_HTTP | codes::PROXY_CONNECT_UNSUPPORTED => {
            vec![right_proxy(f), proxy_listens(f)]
        }
        codes::PROXY_GATEWAY_ERROR => {
            let mut list = vec![from_proxy_host(f), proxy_egress(f)];
            list.extend(proxy_answers_sooner(f));
            list
        }
        codes::PROXY_LOOP => vec![remedy(
            "Break the circle between the proxies, and exempt the proxy's own traffic from redirection",
            [
                "grep -nE 'cache_peer|never_direct|(visible|unique)_hostname' /etc/squid/squid.conf",
                "sudo iptables -t nat -S | grep -E 'REDIRECT|DNAT'",
            ],
        )],
        codes::PROXY_OPTIMISTIC_CONNECT => vec![do_not_inspect(f), from_proxy_host(f)],
        codes::PROXY_TRUNCATED | codes::PROXY_BAD_REPLY => {
            vec![proxy_log(f, "Read the proxy's log at that second"), capture(f)]
        }
        _ => vec![proxy_log(f, "Read the proxy's log before anybody restarts it")],
    }
}

pub(super) fn no_login(f: &Facts) -> Vec<Remedy> {
    let mut exempt = exempt_in_proxy(
        f,
        "Let this machine's subnet reach the backup targets without a login: agent and extension can send none",
    );
    if f.product == Product::Tinyproxy {
        exempt.title =
            "Run a second tinyproxy without BasicAuth for this machine's subnet: it knows one login for all, \
                        and agent and extension can send none"
                .into();
    } else if f.product == Product::Squid {
        exempt.commands.insert(0, "# before the `http_access deny` that asks for a login".into());
    } else if f.product == Product::Cntlm {
        exempt = remedy(
            "Correct the login with which cntlm asks its parent; agent and extension need none towards cntlm",
            [
                "# /etc/cntlm.conf: Username, Domain, Auth NTLM, PassNTLMv2",
                "cntlm -H -u USER -d DOMAIN",
                "cntlm -v -M http://test.example",
            ],
        );
    }
    vec![exempt, ways::past_proxy(f)]
}

pub(super) fn wants_tls(f: &Facts) -> Remedy {
    remedy(
        "Find out whether the proxy port wants TLS; then offer a plain port for this machine, as agent and extension \
         cannot speak TLS to a proxy",
        [format!("openssl s_client -connect {}:{} </dev/null", f.proxy_host, f.proxy_port)],
    )
}

pub(super) fn proxy_listens(f: &Facts) -> Remedy {
    remedy(
        format!(
            "On the proxy's host, check that the proxy listens on port {} and not on 127.0.0.1 alone",
            f.proxy_port
        ),
        [
            format!("ss -ltnp 'sport = :{}'", f.proxy_port),
            match f.product {
                Product::Tinyproxy => "systemctl status tinyproxy --no-pager".to_owned(),
                Product::Haproxy => "systemctl status haproxy --no-pager".to_owned(),
                Product::Privoxy => "systemctl status privoxy --no-pager".to_owned(),
                Product::Cntlm => "systemctl status cntlm --no-pager".to_owned(),
                Product::Squid => "systemctl status squid --no-pager".to_owned(),
                Product::Other => "systemctl --no-pager | grep -iE 'squid|tinyproxy|haproxy|privoxy|cntlm'".to_owned(),
            },
        ],
    )
}

pub(super) fn right_proxy(f: &Facts) -> Remedy {
    remedy(
        format!("Correct the proxy's host and port where they are configured, if {} is not the forward proxy", f.proxy),
        [
            "grep -nE '^ *HttpProxy' /etc/waagent.conf; env | grep -i _proxy; grep -i _proxy /etc/environment"
                .to_owned(),
            format!("curl -sv {}/ -o /dev/null", f.proxy),
        ],
    )
}

pub(super) fn from_count(f: &Facts) -> Remedy {
    remedy(
        "Count the connections on the proxy's host",
        [format!("ss -tn state established 'sport = :{}' | wc -l", f.proxy_port)],
    )
}
