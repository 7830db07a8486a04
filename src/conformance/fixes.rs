//! What must be changed in a proxy, as lines of its configuration. Pure.
//!
//! The lines for ports, names, clients, descriptors, idle tunnels and silent endpoints were tried on the products that
//! Debian 12 ships, those of Apache and nginx on none; the others follow the products' documentation.
//!
//! `VM_SUBNET` stands for the addresses of the machines that will use the proxy, as `10.0.0.0/24`; nothing else has to be
//! filled in.

use std::fmt::Write as _;

use serde::Serialize;

use super::{case::Remedy, product::Product};
use crate::classify::lines::{self, Lines};

/// The products whose configuration is shown where none was recognised.
pub const USUAL: [Product; 6] =
    [Product::Squid, Product::Tinyproxy, Product::Haproxy, Product::Apache, Product::Nginx, Product::Privoxy];

/// What to change in one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// The product.
    pub product: Product,
    /// Its file.
    pub file: &'static str,
    /// What to put there; empty where no setting of the product does it.
    pub lines: Vec<String>,
    /// How the change takes effect; empty without lines.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub apply: &'static str,
    /// What to know about it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub note: &'static str,
}

/// A remedy in words: one imperative sentence without its stop.
#[must_use]
pub fn title(remedy: &Remedy) -> String {
    match remedy {
        Remedy::AllowPorts { ports } => format!("Let CONNECT to {} through", listed("port", ports)),
        Remedy::LimitPorts { ports } => format!("Let CONNECT through to {} alone", listed("port", ports)),
        Remedy::AllowHosts { hosts } if hosts.is_empty() => "Let storage's names through".to_owned(),
        Remedy::AllowHosts { hosts } => format!("Let {} through", hosts.join(", ")),
        Remedy::DenyHosts { hosts } => format!("Keep {} shut", hosts.join(", ")),
        Remedy::AllowClient => "Let the machines' subnet in".to_owned(),
        Remedy::NoLogin => "Ask for no login for the backup's endpoints: agent and extension can send none".to_owned(),
        Remedy::OfferBasic => "Offer Basic among the schemes of the login".to_owned(),
        Remedy::NoInspection => "Exempt the backup's endpoints from TLS inspection".to_owned(),
        Remedy::IdleTimeout { seconds } => format!("Keep silent tunnels for {seconds} s at least"),
        Remedy::ConnectTimeout { seconds } => {
            format!("Say within {seconds} s that an endpoint does not answer, before clients give up")
        }
        Remedy::Clients { count } => format!("Serve {count} clients and tunnels at once"),
        Remedy::Descriptors { count } => format!("Allow {count} file descriptors, two for each tunnel"),
        Remedy::TellReasons => "Say why a request failed: with a status, a page or Proxy-Status (RFC 9209)".to_owned(),
        Remedy::LeaveRequestsAlone => "Leave requests on plain HTTP as they are".to_owned(),
        Remedy::NameServer => "Use a name server that answers".to_owned(),
        Remedy::Replace => "Use a newer release or another product: no setting mends it".to_owned(),
    }
}

/// The fixes for these products, in their order; for the [usual ones](USUAL) where there are none.
#[must_use]
pub fn fixes(remedy: &Remedy, products: &[Product]) -> Vec<Fix> {
    let mut known: Vec<Fix> = products.iter().filter_map(|&product| fix(remedy, product)).collect();
    // A load balancer that passes bytes on shows nothing of itself, and its limits come first.
    let may_be_in_front = matches!(remedy, Remedy::IdleTimeout { .. } | Remedy::Clients { .. });
    if !known.is_empty() && may_be_in_front && !products.contains(&Product::Haproxy) {
        let note = "only where one stands in front of the proxy: nothing shows whether one does";
        known.extend(fix(remedy, Product::Haproxy).map(|fix| Fix { note, ..fix }));
    }
    if known.is_empty() {
        USUAL.iter().filter_map(|&product| fix(remedy, product)).filter(|fix| !fix.lines.is_empty()).collect()
    } else {
        known
    }
}

/// What to change in a product; `None`: nothing is known of it, or the remedy is no setting.
#[must_use]
pub fn fix(remedy: &Remedy, product: Product) -> Option<Fix> {
    let (lines, note) = match product {
        Product::Squid => squid(remedy),
        Product::Tinyproxy => tinyproxy(remedy),
        Product::Haproxy => haproxy(remedy),
        Product::Privoxy => privoxy(remedy),
        Product::Apache => apache(remedy),
        Product::Nginx => nginx(remedy),
        Product::Cntlm => cntlm(remedy),
        Product::Ncat | Product::Pproxy | Product::AzureFirewall | Product::Zscaler | Product::ProxySg => return None,
    }?;
    let (file, apply) = place(product, remedy);
    Some(Fix { product, file, apply: if lines.is_empty() { "" } else { apply }, lines, note })
}

/// The file, and the command after a change.
fn place(product: Product, remedy: &Remedy) -> (&'static str, &'static str) {
    match product {
        // A change of the descriptors takes a restart.
        Product::Squid if matches!(remedy, Remedy::Descriptors { .. } | Remedy::Clients { .. }) => {
            ("/etc/squid/conf.d/backup.conf", "systemctl restart squid")
        }
        Product::Squid => ("/etc/squid/conf.d/backup.conf", "squid -k reconfigure"),
        Product::Tinyproxy => ("/etc/tinyproxy/tinyproxy.conf", "systemctl restart tinyproxy"),
        Product::Haproxy => ("/etc/haproxy/haproxy.cfg", "systemctl reload haproxy"),
        Product::Privoxy => match remedy {
            Remedy::AllowClient | Remedy::IdleTimeout { .. } | Remedy::Clients { .. } | Remedy::Descriptors { .. } => {
                ("/etc/privoxy/config", "systemctl restart privoxy")
            }
            // Rules about targets; read again at once.
            _ => ("/etc/privoxy/user.action", ""),
        },
        Product::Apache if matches!(remedy, Remedy::Clients { .. }) => {
            ("/etc/apache2/mods-available/mpm_event.conf", "systemctl restart apache2")
        }
        Product::Apache => ("/etc/apache2/mods-available/proxy.conf", "systemctl reload apache2"),
        Product::Nginx => ("/etc/nginx/nginx.conf", "systemctl reload nginx"),
        _ => ("/etc/cntlm.conf", "systemctl restart cntlm"),
    }
}

type Setting = Option<(Vec<String>, &'static str)>;

#[expect(clippy::unnecessary_wraps, reason = "the form of what is looked up in a product")]
fn set<S: Into<String>>(lines: impl IntoIterator<Item = S>, note: &'static str) -> Setting {
    Some((lines.into_iter().map(Into::into).collect(), note))
}

/// No setting of the product does it, for this reason.
#[expect(clippy::unnecessary_wraps, reason = "the form of what is looked up in a product")]
fn cannot(why: &'static str) -> Setting {
    Some((Vec::new(), why))
}

/// What the classifier's remedies know as well.
fn shared(remedy: &Remedy) -> Option<Lines> {
    Some(match remedy {
        Remedy::AllowPorts { ports } => lines::ports(ports),
        Remedy::AllowHosts { hosts } => lines::names(&suffixes(hosts)),
        Remedy::AllowClient => lines::subnet(),
        Remedy::NoLogin => lines::names_from_subnet(&suffixes(&[])),
        _ => return None,
    })
}

/// As `dstdomain` takes them, of `HOST` or `HOST:PORT`.
fn suffixes(hosts: &[String]) -> String {
    lines::suffixes(hosts.iter().map(|host| match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host.as_str(),
    }))
}

fn squid(remedy: &Remedy) -> Setting {
    let own = shared(remedy).map(|lines| lines.squid);
    match remedy {
        Remedy::AllowPorts { .. } => set(own?, ""),
        Remedy::AllowHosts { .. } | Remedy::AllowClient => set(own?, "above the `http_access deny` that refuses"),
        Remedy::NoLogin => set(own?, "before the `http_access deny` that asks for a login"),
        Remedy::LimitPorts { ports } => set(
            [format!("acl SSL_ports port {}", spaced(ports)), "http_access deny CONNECT !SSL_ports".into()],
            "in place of other SSL_ports lines; before every `http_access allow`",
        ),
        Remedy::DenyHosts { hosts } => set(
            [format!("acl shut dstdomain {}", suffixes(hosts)), "http_access deny shut".into()],
            "before every `http_access allow`",
        ),
        Remedy::OfferBasic => set(
            [
                "auth_param basic program /usr/lib/squid/basic_ncsa_auth /etc/squid/passwd",
                "auth_param basic realm proxy",
            ],
            "",
        ),
        Remedy::NoInspection => set(lines::splice(&suffixes(&[])), "before `ssl_bump bump all`"),
        Remedy::IdleTimeout { seconds } => set([format!("read_timeout {seconds} seconds")], ""),
        Remedy::ConnectTimeout { seconds } => set([format!("connect_timeout {seconds} seconds")], ""),
        Remedy::Clients { count } => set(
            [format!("max_filedescriptors {}", (2 * count + 1024).max(16_384))],
            "and raise the number in `acl … maxconn`, if there is one",
        ),
        Remedy::Descriptors { count } => set(
            [format!("max_filedescriptors {count}")],
            "where the unit limits it: `systemctl edit squid`, [Service] LimitNOFILE=65535",
        ),
        Remedy::TellReasons => {
            set(["# remove: reply_header_access X-Squid-Error deny all"], "and `deny_info TCP_RESET`, if it is set")
        }
        Remedy::LeaveRequestsAlone => {
            set(["# remove: request_header_access … deny, request_header_replace, adaptation_access"], "")
        }
        Remedy::NameServer => {
            set(["dns_nameservers ADDRESS", "dns_timeout 5 seconds"], "ADDRESS: a name server that answers")
        }
        Remedy::Replace => None,
    }
}

fn tinyproxy(remedy: &Remedy) -> Setting {
    let own = shared(remedy).map(|lines| lines.tinyproxy);
    match remedy {
        Remedy::AllowPorts { .. } => set(own?, "as soon as one ConnectPort line exists, only those ports are open"),
        Remedy::LimitPorts { ports } => set(ports.iter().map(|port| format!("ConnectPort {port}")), ""),
        Remedy::AllowHosts { .. } | Remedy::AllowClient => set(own?, ""),
        Remedy::DenyHosts { hosts } => set(
            ["Filter \"/etc/tinyproxy/filter\"".to_owned()]
                .into_iter()
                .chain(hosts.iter().map(|host| format!("# in that file: {}", pattern(host)))),
            "",
        ),
        Remedy::NoLogin => {
            cannot("it knows one login for all: run a second one without BasicAuth for the machines' subnet")
        }
        Remedy::OfferBasic => cannot("Basic is the only scheme that it has"),
        Remedy::IdleTimeout { seconds } => {
            set([format!("Timeout {seconds}")], "it bounds the connect to the endpoint as well")
        }
        Remedy::ConnectTimeout { seconds } => set(
            [format!("Timeout {seconds}")],
            "it cuts silent tunnels after the same time: weigh one against the other",
        ),
        Remedy::Clients { count } => set([format!("MaxClients {count}")], "with LimitNOFILE=65535 in its unit"),
        Remedy::Descriptors { .. } => set(["# systemctl edit tinyproxy: [Service] LimitNOFILE=65535"], ""),
        Remedy::TellReasons => cannot("it says 500 Unable to connect for whatever fails beyond"),
        Remedy::LeaveRequestsAlone => set(["# remove: Anonymous, AddHeader, Filter"], ""),
        Remedy::NameServer => cannot("it asks the system's name servers: mend /etc/resolv.conf on its host"),
        Remedy::NoInspection | Remedy::Replace => None,
    }
}

fn haproxy(remedy: &Remedy) -> Setting {
    let own = shared(remedy).map(|lines| lines.haproxy);
    match remedy {
        Remedy::AllowPorts { .. } | Remedy::AllowHosts { .. } | Remedy::AllowClient | Remedy::NoLogin => {
            set(own?, "above the rule that denies; in mode tcp it lets all through, and the proxy behind it decides")
        }
        Remedy::LimitPorts { ports } => {
            let ends = ports.iter().fold(String::new(), |mut all, port| {
                // Writing to a String cannot fail.
                let _ = write!(all, " :{port}");
                all
            });
            set([format!("http-request deny if METH_CONNECT !{{ url_end{ends} }}")], "")
        }
        Remedy::DenyHosts { hosts } => {
            set([format!("http-request deny if METH_CONNECT {{ url_sub {} }}", hosts.join(" "))], "")
        }
        Remedy::IdleTimeout { seconds } => {
            set([format!("timeout tunnel {seconds}s")], "in the backend, or in defaults")
        }
        Remedy::ConnectTimeout { .. } => {
            set(["timeout server 90s"], "so that the proxy behind it has the time to say what is wrong")
        }
        Remedy::Clients { count } | Remedy::Descriptors { count } => {
            set([format!("maxconn {}", (*count).max(20_000))], "in global, and no lower one in frontend or backend")
        }
        Remedy::OfferBasic => cannot("its own login wants Authorization and answers 401: let the proxy behind it ask"),
        Remedy::TellReasons => {
            cannot("in mode tcp it has no words: use mode http, or timeouts longer than those of the proxy behind it")
        }
        Remedy::LeaveRequestsAlone => set(["# remove: http-request set-header, del-header, replace-uri"], ""),
        Remedy::NoInspection | Remedy::NameServer | Remedy::Replace => None,
    }
}

fn privoxy(remedy: &Remedy) -> Setting {
    let own = shared(remedy).map(|lines| lines.privoxy);
    match remedy {
        Remedy::AllowPorts { .. } => set(own?.into_iter().chain(["/".to_owned()]), ""),
        Remedy::LimitPorts { ports } => {
            let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
            set([format!("{{ +limit-connect{{{list}}} }}"), "/".to_owned()], "")
        }
        Remedy::AllowHosts { .. } => set(own?.into_iter().filter(|line| !line.starts_with('#')), ""),
        Remedy::AllowClient => set(own?, ""),
        Remedy::DenyHosts { hosts } => {
            set(["{ +block{shut} }".to_owned()].into_iter().chain(hosts.iter().cloned()), "")
        }
        Remedy::NoInspection => set(
            ["{ -https-inspection }".to_owned()].into_iter().chain(suffixes(&[]).split(' ').map(str::to_owned)),
            "at its end",
        ),
        Remedy::IdleTimeout { seconds } => set([format!("socket-timeout {seconds}")], ""),
        Remedy::ConnectTimeout { .. } => cannot("it gives up after 30 s, whatever is set"),
        Remedy::Clients { count } => {
            set([format!("max-client-connections {count}")], "with LimitNOFILE=65535 in its unit")
        }
        Remedy::Descriptors { .. } => set(["# systemctl edit privoxy: [Service] LimitNOFILE=65535"], ""),
        Remedy::LeaveRequestsAlone => set(["{ -filter -crunch-client-header -hide-user-agent }", "/"], ""),
        Remedy::NameServer => cannot("it asks the system's name servers: mend /etc/resolv.conf on its host"),
        Remedy::NoLogin | Remedy::OfferBasic => cannot("it asks for no login itself: its parent does"),
        Remedy::TellReasons | Remedy::Replace => None,
    }
}

/// Directives of release 2.4 (`mod_proxy_connect`, `mod_proxy`, the MPMs); none was measured.
fn apache(remedy: &Remedy) -> Setting {
    match remedy {
        Remedy::AllowPorts { ports } => {
            let mut all = ports.clone();
            all.push(443);
            all.sort_unstable();
            all.dedup();
            set([format!("AllowCONNECT {}", spaced(&all))], "needs mod_proxy_connect: a2enmod proxy_connect")
        }
        Remedy::LimitPorts { ports } => set([format!("AllowCONNECT {}", spaced(ports))], ""),
        Remedy::AllowHosts { .. } => {
            set(["# take these names out of ProxyBlock and of <Proxy> sections that deny them"], "")
        }
        Remedy::DenyHosts { hosts } => set([format!("ProxyBlock {}", hosts.join(" "))], ""),
        Remedy::AllowClient => set(["<Proxy \"*\">", "    Require ip VM_SUBNET", "</Proxy>"], ""),
        Remedy::NoLogin => set(
            [
                "<Proxy \"*\">",
                "    <RequireAny>",
                "        Require ip VM_SUBNET",
                "        Require valid-user",
                "    </RequireAny>",
                "</Proxy>",
            ],
            "",
        ),
        Remedy::OfferBasic => set(["AuthType Basic"], "in the <Proxy> section that asks for the login"),
        Remedy::ConnectTimeout { seconds } => {
            set([format!("ProxyTimeout {seconds}")], "else Timeout counts: 60 s, Debian 300 s")
        }
        Remedy::IdleTimeout { .. } => cannot(
            "mod_proxy_connect closes no silent tunnel itself: look for RequestReadTimeout, and for a balancer or firewall beside it",
        ),
        Remedy::Clients { count } => set(
            [
                format!("ServerLimit {}", count.div_ceil(25)),
                "ThreadsPerChild 25".into(),
                format!("MaxRequestWorkers {}", count.div_ceil(25) * 25),
            ],
            "",
        ),
        Remedy::Descriptors { .. } => set(["# systemctl edit apache2: [Service] LimitNOFILE=65535"], ""),
        Remedy::TellReasons => set(["ProxyErrorOverride Off"], ""),
        Remedy::LeaveRequestsAlone => {
            set(["# remove: RequestHeader, Header, RewriteRule that match these requests"], "")
        }
        Remedy::NameServer => cannot("it asks the system's name servers: mend /etc/resolv.conf on its host"),
        Remedy::NoInspection | Remedy::Replace => None,
    }
}

fn nginx(remedy: &Remedy) -> Setting {
    match remedy {
        Remedy::TellReasons | Remedy::NameServer | Remedy::LeaveRequestsAlone => None,
        _ => cannot(
            "nginx cannot CONNECT: that takes the third-party module ngx_http_proxy_connect_module, or another program",
        ),
    }
}

fn cntlm(remedy: &Remedy) -> Setting {
    match remedy {
        Remedy::AllowClient => set(["Allow VM_SUBNET", "Gateway yes"], "before `Deny 0/0`"),
        Remedy::NoLogin => set(
            ["Username USER", "Domain DOMAIN", "Auth NTLM"],
            "its own login at the parent fails: with PassNTLMv2 of `cntlm -H -u USER -d DOMAIN`",
        ),
        Remedy::AllowPorts { .. }
        | Remedy::LimitPorts { .. }
        | Remedy::AllowHosts { .. }
        | Remedy::DenyHosts { .. }
        | Remedy::IdleTimeout { .. }
        | Remedy::ConnectTimeout { .. } => cannot("its parent decides that"),
        Remedy::Clients { .. } | Remedy::Descriptors { .. } => {
            cannot("one process carries about 510 tunnels, and no setting changes that: run several")
        }
        _ => None,
    }
}

/// A filter's pattern for a host.
fn pattern(host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.replace('.', "\\.")
}

fn spaced(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ")
}

/// `port 443`, `ports 443 and 8443`, `ports 80, 443 and 8443`.
fn listed(what: &str, numbers: &[u16]) -> String {
    let words: Vec<String> = numbers.iter().map(u16::to_string).collect();
    match words.split_last() {
        None => format!("no {what}"),
        Some((only, [])) => format!("{what} {only}"),
        Some((last, others)) => format!("{what}s {} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_remedy() -> Vec<Remedy> {
        let hosts = vec!["acct.blob.core.windows.net:443".to_owned()];
        vec![
            Remedy::AllowPorts { ports: vec![443, 8443] },
            Remedy::LimitPorts { ports: vec![443, 8443] },
            Remedy::AllowHosts { hosts: hosts.clone() },
            Remedy::DenyHosts { hosts: vec!["example.com:25".to_owned()] },
            Remedy::AllowClient,
            Remedy::NoLogin,
            Remedy::OfferBasic,
            Remedy::NoInspection,
            Remedy::IdleTimeout { seconds: 7200 },
            Remedy::ConnectTimeout { seconds: 10 },
            Remedy::Clients { count: 2000 },
            Remedy::Descriptors { count: 16384 },
            Remedy::TellReasons,
            Remedy::LeaveRequestsAlone,
            Remedy::NameServer,
            Remedy::Replace,
        ]
    }

    #[test]
    fn every_remedy_in_every_product() {
        let mut shown = String::new();
        for remedy in every_remedy() {
            let _ = writeln!(shown, "{}", title(&remedy));
            for product in [
                Product::Squid,
                Product::Tinyproxy,
                Product::Haproxy,
                Product::Privoxy,
                Product::Apache,
                Product::Nginx,
                Product::Cntlm,
            ] {
                let Some(Fix { file, lines, apply, note, .. }) = fix(&remedy, product) else { continue };
                let _ = writeln!(shown, "  {product}: {file} {note}");
                for line in lines {
                    let _ = writeln!(shown, "    {line}");
                }
                if !apply.is_empty() {
                    let _ = writeln!(shown, "    # then: {apply}");
                }
            }
        }
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn without_a_product_only_those_are_shown_that_have_lines() {
        let ports = Remedy::AllowPorts { ports: vec![8443] };
        let products = |products: &[Product]| fixes(&ports, products).iter().map(|fix| fix.product).collect::<Vec<_>>();
        assert_eq!(products(&[Product::Squid]), [Product::Squid]);
        assert_eq!(products(&[Product::Haproxy, Product::Squid]), [Product::Haproxy, Product::Squid]);
        let usual = [Product::Squid, Product::Tinyproxy, Product::Haproxy, Product::Apache, Product::Privoxy];
        assert_eq!(products(&[]), usual);
        assert_eq!(products(&[Product::Zscaler]), usual);
    }

    #[test]
    fn lists_of_ports_read_well() {
        for (ports, text) in [
            (&[443][..], "port 443"),
            (&[443, 8443], "ports 443 and 8443"),
            (&[80, 443, 8443], "ports 80, 443 and 8443"),
        ] {
            assert_eq!(listed("port", ports), text);
        }
    }
}
