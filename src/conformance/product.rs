//! Which program a proxy is, by what its answers show, and what of its defaults hurts backups. Pure.

use std::fmt;

use serde::{Serialize, Serializer};

use super::case::Remedy;
use crate::{
    classify,
    http::Reply,
    model::{Evidence, Leg, Observation},
    report::harmless,
};

/// Marks of a product that are kept.
const MAX_MARKS: usize = 3;

/// The longest mark, in characters.
const MAX_MARK: usize = 90;

/// A program that answers on a proxy port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Product {
    /// `HAProxy`: a load balancer in front of proxies.
    Haproxy,
    /// cntlm: logs in at a parent.
    Cntlm,
    /// Tinyproxy.
    Tinyproxy,
    /// Privoxy.
    Privoxy,
    /// Squid.
    Squid,
    /// Apache HTTP Server, with `mod_proxy_connect` or without.
    Apache,
    /// nginx.
    Nginx,
    /// Ncat (`--proxy-type http`).
    Ncat,
    /// pproxy.
    Pproxy,
    /// Azure Firewall, with an application rule.
    AzureFirewall,
    /// Zscaler.
    Zscaler,
    /// Symantec (Blue Coat) `ProxySG`.
    ProxySg,
}

impl Product {
    /// Its name, as people write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Haproxy => "haproxy",
            Self::Cntlm => "cntlm",
            Self::Squid => "squid",
            Self::Tinyproxy => "tinyproxy",
            Self::Privoxy => "privoxy",
            Self::Apache => "apache",
            Self::Nginx => "nginx",
            Self::Ncat => "ncat",
            Self::Pproxy => "pproxy",
            Self::AzureFirewall => "azure-firewall",
            Self::Zscaler => "zscaler",
            Self::ProxySg => "proxysg",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "haproxy" => Self::Haproxy,
            "cntlm" => Self::Cntlm,
            "squid" => Self::Squid,
            "tinyproxy" => Self::Tinyproxy,
            "privoxy" => Self::Privoxy,
            "nginx" => Self::Nginx,
            "ncat" => Self::Ncat,
            "pproxy" => Self::Pproxy,
            "azure-firewall" => Self::AzureFirewall,
            _ => return None,
        })
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Product {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A product that was recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recognised {
    /// Which.
    #[serde(rename = "name")]
    pub product: Product,
    /// Its version, where it tells.
    pub version: Option<String>,
    /// What proves it, a line each.
    pub marks: Vec<String>,
}

impl fmt::Display for Recognised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{} {version}", self.product),
            None => self.product.fmt(f),
        }
    }
}

/// The programs that these connections met, the one nearest to the client first.
pub(super) fn recognise<'a>(observations: impl IntoIterator<Item = &'a Observation>) -> Vec<Recognised> {
    let mut found: Vec<Recognised> = Vec::new();
    for reply in observations.into_iter().flat_map(replies) {
        for (product, version, mark) in signs(reply) {
            let at = found.iter().position(|known| known.product == product).unwrap_or_else(|| {
                found.push(Recognised { product, version: None, marks: Vec::new() });
                found.len() - 1
            });
            let known = &mut found[at];
            known.version = known.version.take().or(version);
            if known.marks.len() < MAX_MARKS && !known.marks.contains(&mark) {
                known.marks.push(mark);
            }
        }
    }
    // The order of the enumeration: who stands in front of others comes first.
    found.sort_by_key(|known| known.product);
    found
}

/// The answers that a proxy, and not an origin, made.
fn replies(observation: &Observation) -> impl Iterator<Item = &Reply> {
    let tunnelled = |at: usize| observation.steps[..at].iter().any(|step| matches!(step.evidence, Evidence::Tunnel(_)));
    observation.steps.iter().enumerate().filter_map(move |(at, step)| match &step.evidence {
        Evidence::Tunnel(evidence) if step.leg == Leg::Proxy => evidence.reply.as_ref(),
        // What came through a tunnel is the origin's, and so may be a plain answer that is no error.
        Evidence::Request(evidence) if !tunnelled(at) => {
            evidence.reply.as_ref().filter(|reply| reply.status >= 400 || reply.header("via").is_some())
        }
        _ => None,
    })
}

type Sign = (Product, Option<String>, String);

/// What one answer shows.
fn signs(reply: &Reply) -> Vec<Sign> {
    let header = |name: &str| reply.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let shown = |name: &str| header(name).map(|header| mark(&format!("{}: {}", header.name, header.value)));
    let server = header("server").map_or("", |header| header.value.as_str());
    let mut signs: Vec<Sign> = Vec::new();

    // Error pages and refusals tell most; a product that says so itself, next.
    let by_page = if reply.is_success() { None } else { classify::product(reply).and_then(Product::of_name) };
    let by_page = by_page.or_else(|| by_words(reply, server));
    if let Some(product) = by_page {
        let telling = match product {
            Product::Squid => shown("x-squid-error").or_else(|| body_id(reply)),
            Product::Privoxy => shown("last-modified"),
            Product::Cntlm | Product::Ncat | Product::Pproxy => shown("proxy-authenticate"),
            _ => None,
        };
        let named = shown("server").filter(|_| server.to_ascii_lowercase().starts_with(product.name()));
        let telling = telling.or_else(|| named.clone()).unwrap_or_else(|| mark(&reply.status_line()));
        signs.push((product, version(server, product), telling));
    }
    for name in ["proxy-agent", "via"] {
        for header in reply.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)) {
            for product in [Product::Tinyproxy, Product::Squid, Product::Apache, Product::Privoxy] {
                if let Some(version) = version(&header.value, product) {
                    signs.push((product, Some(version), mark(&format!("{}: {}", header.name, header.value))));
                }
            }
        }
    }
    // These write their names capitalised; haproxy in mode http hands all names on in lower case.
    let lowered = ["x-squid-error", "server"].iter().find(|&&name| {
        let own =
            name == "x-squid-error" || matches!(by_page, Some(Product::Squid | Product::Nginx | Product::Tinyproxy));
        own && header(name).is_some_and(|header| header.name == name)
    });
    if let Some(name) = lowered {
        signs.push((
            Product::Haproxy,
            None,
            format!("`{name}:` in lower case, as haproxy in mode http hands headers on"),
        ));
    }
    signs
}

/// Products that the rules about single answers know no difference for.
fn by_words(reply: &Reply, server: &str) -> Option<Product> {
    if reply.is_success() {
        return None;
    }
    let starts = |name: &str| server.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let page = &reply.body.text;
    if starts("apache") {
        Some(Product::Apache)
    } else if starts("zscaler") {
        Some(Product::Zscaler)
    } else if page.contains("(policy_denied)")
        || page.contains("(dns_unresolved_hostname)")
        || page.contains("(tcp_error)")
    {
        Some(Product::ProxySg)
    } else if reply.minor_version == 0 && reply.status == 504 && reply.headers.is_empty() && page.is_empty() {
        // A bare status line for whatever fails beyond.
        Some(Product::Ncat)
    } else {
        None
    }
}

/// The id of squid's page, which stays when its headers are hidden.
fn body_id(reply: &Reply) -> Option<String> {
    let (_, rest) = reply.body.text.split_once("<body id=")?;
    Some(mark(&format!("<body id={}", rest.split('>').next()?)))
}

/// The version behind `name/` in a header's value.
fn version(value: &str, product: Product) -> Option<String> {
    let lower = value.to_ascii_lowercase();
    let at = lower.find(&format!("{}/", product.name()))? + product.name().len() + 1;
    let version: String = value.get(at..)?.chars().take_while(|c| c.is_ascii_digit() || *c == '.').take(20).collect();
    (!version.is_empty()).then_some(version)
}

fn mark(text: &str) -> String {
    harmless(text).chars().take(MAX_MARK).collect()
}

/// A default of a product that hurts backups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KnownDefault {
    /// What it does.
    pub what: &'static str,
    /// The case that measures it here.
    pub case: Option<&'static str>,
    /// What changes it; `None`: nothing does.
    pub remedy: Option<Remedy>,
}

/// The defaults of a product that hurt backups, measured on the release that Debian 12 ships (squid 5.7, tinyproxy 1.11,
/// haproxy 2.6, privoxy 3.0, cntlm 0.92, ncat 7.93, pproxy 2.7); those of Apache (2.4) were not measured.
#[must_use]
pub fn known_defaults(product: Product) -> Vec<KnownDefault> {
    match product {
        Product::Squid => squid(),
        Product::Tinyproxy => tinyproxy(),
        Product::Privoxy => privoxy(),
        Product::Haproxy => haproxy(),
        Product::Cntlm => vec![
            known(
                "beyond 510 tunnels it answers 200, and the tunnel is dead; no setting changes that",
                Some("limits/concurrent"),
                None,
            ),
            known("an IPv6 literal is answered by closing", Some("connect/ipv6-literal"), None),
            known("a CONNECT of HTTP/1.0, as Python 3.11 sends it, is answered 407", Some("connect/http-1.0"), None),
        ],
        Product::Apache => vec![
            known(
                "CONNECT to ports 443 and 563 alone",
                Some("connect/port-8443"),
                Some(Remedy::AllowPorts { ports: vec![443, 8443] }),
            ),
            known(
                "each tunnel holds a worker: MaxRequestWorkers bounds them",
                Some("limits/concurrent"),
                Some(Remedy::Clients { count: 3000 }),
            ),
        ],
        Product::Nginx => vec![known("no CONNECT at all: 400 Bad Request", None, Some(Remedy::Replace))],
        Product::Ncat => vec![
            known(
                "whatever fails beyond is 504 without a reason, a silent endpoint after 134 s",
                Some("errors/silent"),
                None,
            ),
            known("a request of 12 KB (a large Negotiate ticket) is answered 413", None, None),
            known("a burst of connects overflows its listen queue", Some("limits/concurrent"), None),
        ],
        Product::Pproxy => vec![known("every failure is a close without a byte", Some("errors/refused"), None)],
        Product::AzureFirewall => {
            vec![known("an application rule with protocol Https opens port 443 alone", Some("connect/port-8443"), None)]
        }
        Product::Zscaler | Product::ProxySg => Vec::new(),
    }
}

fn known(what: &'static str, case: Option<&'static str>, remedy: Option<Remedy>) -> KnownDefault {
    KnownDefault { what, case, remedy }
}

fn squid() -> Vec<KnownDefault> {
    vec![
        known("CONNECT to port 443 alone", Some("connect/port-8443"), Some(Remedy::AllowPorts { ports: vec![8443] })),
        known("only its own host is let in (Debian)", None, Some(Remedy::AllowClient)),
        known(
            "a silent tunnel is closed after 15 minutes",
            Some("tunnel/idle"),
            Some(Remedy::IdleTimeout { seconds: 7200 }),
        ),
        known(
            "an endpoint that stays silent is reported after 61 s, later than clients wait",
            Some("errors/silent"),
            Some(Remedy::ConnectTimeout { seconds: 10 }),
        ),
        known(
            "a name server that is down is reported after 35 s, as a 500 without the reason",
            None,
            Some(Remedy::NameServer),
        ),
        known(
            "1024 file descriptors under systemd: tunnel 460 is accepted and never answered",
            Some("limits/concurrent"),
            Some(Remedy::Descriptors { count: 16384 }),
        ),
    ]
}

fn tinyproxy() -> Vec<KnownDefault> {
    vec![
        known(
            "100 clients: the next one connects and waits in silence",
            Some("limits/concurrent"),
            Some(Remedy::Clients { count: 3000 }),
        ),
        known(
            "a silent tunnel is closed after 10 minutes",
            Some("tunnel/idle"),
            Some(Remedy::IdleTimeout { seconds: 7200 }),
        ),
        known(
            "a silent endpoint is reported after 134 s, a dead name server after 10 s, both as 500 Unable to connect",
            Some("errors/silent"),
            None,
        ),
        known("a wrong login is answered 401, not 407", None, None),
        known(
            "beyond 510 tunnels 500 Unable to connect, with the usual 1024 file descriptors",
            Some("limits/concurrent"),
            Some(Remedy::Descriptors { count: 65535 }),
        ),
    ]
}

fn privoxy() -> Vec<KnownDefault> {
    vec![
        known(
            "128 clients: the next one gets 503 Too many open connections",
            Some("limits/concurrent"),
            Some(Remedy::Clients { count: 3000 }),
        ),
        known(
            "a silent tunnel is closed after 5 minutes",
            Some("tunnel/idle"),
            Some(Remedy::IdleTimeout { seconds: 7200 }),
        ),
        known("a silent endpoint is reported after 30 s", Some("errors/silent"), None),
        known("bytes in the same packet as the CONNECT are lost", Some("connect/early-data"), None),
    ]
}

fn haproxy() -> Vec<KnownDefault> {
    vec![
        known(
            "a silent tunnel is closed after 50 s (Debian's timeout client and server)",
            Some("tunnel/idle"),
            Some(Remedy::IdleTimeout { seconds: 7200 }),
        ),
        known(
            "a CONNECT that takes 50 s gets haproxy's own 504, or nothing in mode tcp, before the proxy's reason",
            Some("errors/silent"),
            Some(Remedy::ConnectTimeout { seconds: 10 }),
        ),
        known(
            "over maxconn clients wait, then their connects time out",
            Some("limits/concurrent"),
            Some(Remedy::Clients { count: 20000 }),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::Deserialize;

    use super::*;
    use crate::{
        classify::testing::Walk,
        http::{Parsed, parse_head},
        model::{Excerpt, RequestEvidence, Step},
    };

    #[derive(Deserialize)]
    struct Recorded {
        id: String,
        #[serde(default)]
        answer: String,
        #[serde(default)]
        text: String,
    }

    fn replies(file: &str) -> Vec<(String, Reply)> {
        let recorded: Vec<Recorded> = serde_json::from_str(file).unwrap();
        recorded
            .into_iter()
            .filter_map(|one| {
                let bytes = if one.text.is_empty() {
                    STANDARD.decode(&one.answer).unwrap()
                } else {
                    one.text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
                };
                let Ok(Parsed::Complete(mut reply, length)) = parse_head(&bytes, 0) else { return None };
                reply.body = Excerpt::new(&bytes[length..], 4096, (bytes.len() - length) as u64);
                Some((one.id, *reply))
            })
            .collect()
    }

    /// Product and version of one answer, those in front first.
    fn told(reply: &Reply) -> String {
        let mut signs = signs(reply);
        signs.sort_by_key(|(product, ..)| *product);
        signs.dedup_by_key(|(product, ..)| *product);
        let one = |(product, version, _): &Sign| match version {
            Some(version) => format!("{product} {version}"),
            None => product.to_string(),
        };
        signs.iter().map(one).collect::<Vec<_>>().join(" > ")
    }

    #[test]
    fn every_recorded_answer_tells_its_product_or_nothing() {
        let mut by_proxy: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (id, reply) in replies(include_str!("../../tests/data/proxy-replies.json")) {
            let proxy = id.split_once('/').unwrap().0.to_owned();
            let told = told(&reply);
            let all = by_proxy.entry(proxy).or_default();
            if !all.contains(&told) {
                all.push(told);
            }
        }
        let shown: Vec<_> = by_proxy.iter().map(|(proxy, told)| format!("{proxy}: {}", told.join(" | "))).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn products_that_nobody_recorded_are_known_by_their_own_words() {
        let described = replies(include_str!("../../tests/data/more-replies.json"));
        let told = |id: &str| told(&described.iter().find(|(known, _)| known == id).unwrap().1);
        for (id, expected) in [
            ("apache-proxy/403", "apache 2.4.57"),
            ("apache-proxy/name", "apache 2.4.57"),
            ("zscaler/403", "zscaler 6.2"),
            ("proxysg/policy", "proxysg"),
            ("azure-firewall/470", "azure-firewall"),
            ("traefik/404", ""),
        ] {
            assert_eq!(told(id), expected, "{id}");
        }
    }

    #[test]
    fn an_origin_behind_a_tunnel_is_no_product() {
        let head = b"HTTP/1.1 403 Forbidden\r\nServer: nginx/1.22.1\r\n\r\n";
        let Ok(Parsed::Complete(reply, _)) = parse_head(head, 0) else { panic!("a head") };
        let walk = |tunnelled: bool| {
            let mut observation = Walk::proxied("a:443").connected().0;
            if tunnelled {
                observation.steps.push(step(Evidence::Tunnel(Box::default())));
            }
            let request = RequestEvidence { reply: Some((*reply).clone()), ..Default::default() };
            observation.steps.push(step(Evidence::Request(Box::new(request))));
            observation
        };
        assert_eq!(recognise([&walk(false)])[0].to_string(), "nginx 1.22.1");
        assert!(recognise([&walk(true)]).is_empty());
    }

    fn step(evidence: Evidence) -> Step {
        Step { leg: Leg::Proxy, start_us: 0, elapsed_us: 0, evidence, failure: None }
    }

    #[test]
    fn a_mark_is_bounded_and_harmless() {
        let long = format!("HTTP/1.1 403 Forbidden\r\nServer: squid/5.7\x1b[31m{}\r\n\r\n", "x".repeat(4000));
        if let Ok(Parsed::Complete(reply, _)) = parse_head(long.as_bytes(), 0) {
            for (_, _, mark) in signs(&reply) {
                assert!(mark.chars().count() <= MAX_MARK && !mark.contains('\x1b'), "{mark}");
            }
        }
    }
}
