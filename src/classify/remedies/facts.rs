//! The situation in the form in which commands need it.

use std::{collections::BTreeSet, net::IpAddr};

use super::lines;
use crate::{
    azure::nsg::merge_suggestions,
    classify::catalogue::Situation,
    model::{Decision, FlowVerdict, Hop, Route, RouteVerdict, Severity, SuggestedRule},
};

/// More ports than this make a command line unreadable.
const MOST_PORTS: usize = 12;

/// What remedies are made of.
#[derive(Clone)]
pub(super) struct Facts {
    pub(super) hop: Hop,
    pub(super) severity: Severity,
    /// Whether the walk went through the proxy.
    pub(super) tunnelled: bool,
    /// `host:port` of the first target.
    pub(super) target: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) hosts: BTreeSet<String>,
    pub(super) ports: BTreeSet<u16>,
    /// The region in the spelling of service tags, lower case without spaces; `None` where unknown.
    pub(super) region: Option<String>,
    /// `http://10.0.0.5:3128`
    pub(super) proxy: String,
    pub(super) proxy_host: String,
    pub(super) proxy_port: u16,
    pub(super) product: Product,
    pub(super) consumer: Consumer,
    /// The snapshot method assumed.
    pub(super) method: String,
    /// What the files given say about these flows.
    pub(super) files: Files,
}

/// The products whose configuration is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    Squid,
    Tinyproxy,
    Haproxy,
    Privoxy,
    Cntlm,
    Other,
}

/// Which way a consumer goes by itself, which decides what a proxy is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consumer {
    /// The Linux extension since July 2019: it goes direct when both keys of waagent.conf name a proxy.
    IgnoresProxy,
    /// The agent, and the Linux extension before: they take the proxy of waagent.conf.
    UsesProxy,
    /// The Windows extension: most likely the proxy of the system account.
    Windows,
    /// None in particular.
    Any,
}

/// What the security groups and routes given say.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    /// Whether security groups were given and let all of these flows pass.
    pub(super) groups_allow: bool,
    /// The rules that would let the flows through, one for each group, source and destination.
    pub(super) suggested: Vec<SuggestedRule>,
    /// The rules that deny, as group and `Deny_All (1000)`.
    pub(super) denying: BTreeSet<(String, String)>,
    /// Allow rules that stand below those, as group and name.
    pub(super) shadowed: BTreeSet<(String, String)>,
    /// The route of the first flow that has one.
    pub(super) route: Option<RouteVerdict>,
}

impl Facts {
    pub(super) fn of(situation: &Situation<'_>) -> Self {
        let context = situation.context;
        let split: Vec<(String, Option<u16>)> = situation.targets.iter().map(|target| split(target)).collect();
        let (host, port) = split.first().cloned().unwrap_or_else(|| ("HOST".into(), None));
        let port = port.unwrap_or(443);
        let proxy = context.proxy.as_deref();
        let (proxy_host, proxy_port) = split_proxy(proxy.unwrap_or("http://PROXY:3128"));
        let instance = context.discovery.as_ref().and_then(|discovery| discovery.instance.as_ref());
        let region = context.region.as_deref().or(instance.map(|instance| instance.region.as_str()));
        let mut facts = Self {
            hop: situation.hop,
            severity: situation.severity,
            tunnelled: situation.route == Some(Route::Proxy),
            target: format!("{host}:{port}"),
            hosts: split.iter().map(|(host, _)| host.clone()).collect(),
            ports: split.iter().filter_map(|&(_, port)| port).collect(),
            host,
            port,
            region: region.map(spelled).filter(|region| !region.is_empty()),
            proxy: proxy.unwrap_or("http://PROXY:3128").to_owned(),
            proxy_host,
            proxy_port,
            product: match situation.product.unwrap_or_default() {
                "squid" => Product::Squid,
                "tinyproxy" => Product::Tinyproxy,
                "haproxy" => Product::Haproxy,
                "privoxy" => Product::Privoxy,
                "cntlm" => Product::Cntlm,
                _ => Product::Other,
            },
            consumer: match context.consumer.as_str() {
                "vmsnapshot-linux" | "vmsnapshot-linux-2019" => Consumer::IgnoresProxy,
                "vmsnapshot-linux-2018" | "waagent" => Consumer::UsesProxy,
                "vmsnapshot-windows" => Consumer::Windows,
                _ => Consumer::Any,
            },
            method: context.method.clone(),
            files: Files::default(),
        };
        let flows = context.security.as_ref().map_or(&[][..], |security| &security.flows);
        let subjects: BTreeSet<&str> = situation.targets.iter().map(String::as_str).collect();
        let to_proxy = format!("{}:{}", facts.proxy_host, facts.proxy_port);
        facts.files = if facts.is_to_proxy() {
            Files::of(flows.iter().filter(|flow| flow.subject == to_proxy))
        } else {
            Files::of(flows.iter().filter(|flow| subjects.contains(flow.subject.as_str())))
        };
        facts
    }

    /// The same about a direct connection to other ports.
    pub(super) fn direct(&self, ports: impl IntoIterator<Item = u16>) -> Self {
        Self { hop: Hop::ClientToOrigin, tunnelled: false, ports: ports.into_iter().collect(), ..self.clone() }
    }

    /// The ports that failed, at least one.
    pub(super) fn ports(&self) -> Vec<u16> {
        if self.ports.is_empty() { vec![self.port] } else { self.ports.iter().copied().take(MOST_PORTS).collect() }
    }

    pub(super) fn ports_by(&self, separator: &str) -> String {
        self.ports().iter().map(u16::to_string).collect::<Vec<_>>().join(separator)
    }

    /// `443 and 8443`, and how many more there are.
    pub(super) fn ports_in_words(&self) -> String {
        let more = self.ports.len().saturating_sub(MOST_PORTS);
        match (self.ports().as_slice(), more) {
            ([one, other], 0) => format!("{one} and {other}"),
            (_, 0) => self.ports_by(", "),
            _ => format!("{} and {more} more", self.ports_by(", ")),
        }
    }

    /// `Storage.westeurope`, or `Storage.<region>`.
    pub(super) fn tag(&self) -> String {
        format!("Storage.{}", self.region.as_deref().unwrap_or("<region>"))
    }

    /// Whether some of the hosts are storage's, or none is known.
    pub(super) fn has_storage(&self) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|host| storage_suffix(host).is_some())
    }

    /// `Storage.westeurope`, or what else is to be allowed, in words.
    pub(super) fn goal(&self) -> String {
        match (self.has_storage(), &self.region) {
            (true, Some(_)) => self.tag(),
            (true, None) => format!("{} (fill in the region)", self.tag()),
            (false, _) => "the target".to_owned(),
        }
    }

    /// What a rule names as the destination.
    pub(super) fn destinations(&self) -> Vec<String> {
        let others = self.hosts.iter().filter(|host| storage_suffix(host).is_none());
        let mut names: BTreeSet<String> = others.map(|host| address(host)).take(2).collect();
        if self.has_storage() {
            names.insert(self.tag());
        }
        names.into_iter().collect()
    }

    /// Suffixes for `dstdomain` and `ssl::server_name`: the storage suffix, else the host itself.
    pub(super) fn suffixes(&self) -> String {
        lines::suffixes(self.hosts.iter().map(String::as_str))
    }

    /// Whether the proxy's host has to be worked on.
    pub(super) fn is_on_proxy_host(&self) -> bool {
        matches!(self.hop, Hop::ProxyToOrigin | Hop::Proxy)
    }

    pub(super) fn is_to_proxy(&self) -> bool {
        self.hop == Hop::ClientToProxy
    }
}

impl Files {
    fn of<'a>(flows: impl Iterator<Item = &'a FlowVerdict>) -> Self {
        let flows: Vec<_> = flows.collect();
        let suggested = flows.iter().flat_map(|flow| flow.suggestions());
        let mut files = Self { suggested: merge_suggestions(suggested), ..Self::default() };
        let mut allowed = Vec::new();
        for flow in flows {
            if !flow.groups.is_empty() {
                allowed.push(flow.groups.iter().all(|group| group.decision == Decision::Allowed));
            }
            for group in flow.groups.iter().filter(|group| group.decision == Decision::Denied) {
                if let Some(rule) = &group.rule {
                    files.denying.insert((group.group.clone(), format!("{} ({})", rule.name, rule.priority)));
                }
                let shadowed = group.shadowed.iter().map(|rule| (group.group.clone(), rule.name.clone()));
                files.shadowed.extend(shadowed);
            }
            if files.route.is_none() {
                files.route.clone_from(&flow.route);
            }
        }
        files.groups_allow = !allowed.is_empty() && allowed.iter().all(|&allowed| allowed);
        files
    }

    /// Whether the route is known and leads to one of these next hops.
    pub(super) fn leads_to(&self, next_hops: &[&str]) -> bool {
        self.route.as_ref().is_some_and(|route| next_hops.iter().any(|next_hop| route.leads_to(next_hop)))
    }
}

/// Letters and digits in lower case: what is left of `West Europe` and `westeurope` alike.
fn spelled(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// A host as a rule names it: a literal address as it is, for a name the shell looks one up.
pub(super) fn address(host: &str) -> String {
    let bare = bare(host);
    if bare.parse::<IpAddr>().is_ok() { bare.to_owned() } else { super::rule::lookup(host) }
}

/// A host without the brackets of IPv6.
pub(super) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Host and port of `host:port`; a host without port stays whole.
fn split(target: &str) -> (String, Option<u16>) {
    match target.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host.to_owned(), port.parse().ok())
        }
        _ => (target.to_owned(), None),
    }
}

/// Host and port of a proxy URL.
fn split_proxy(url: &str) -> (String, u16) {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = split(authority);
    (host, port.unwrap_or(3128))
}

/// `.blob.core.windows.net` of a storage host, whatever the cloud; `None` for other names.
pub(super) fn storage_suffix(host: &str) -> Option<&str> {
    let at = [".blob.", ".disk."].iter().filter_map(|service| host.find(service)).min()?;
    let suffix = &host[at..];
    let known = [
        "core.windows.net",
        "storage.azure.net",
        "core.usgovcloudapi.net",
        "core.chinacloudapi.cn",
        "core.cloudapi.de",
    ];
    known.iter().any(|end| suffix.ends_with(end)).then_some(suffix)
}
