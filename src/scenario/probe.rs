//! What a scenario probes: a `[[probe]]` table, and the plan that follows from it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    discover::{self, Machine, Metadata, Survey},
    exchange::Exchange,
    lab::{Network, optional_duration},
    model::{Context, Expectation, Route, Target},
    plan::{Budgets, Dns, Family, HostChannel, NameServer, Plan, Proxy, Source, SystemResolver, Trust},
};

/// The ports of a bare host, as on the command line.
const DEFAULT_PORTS: [u16; 3] = [80, 443, 8443];

/// Budgets against the lab, where nothing is far away.
const LAB_BUDGETS: (Duration, Duration, Duration) =
    (Duration::from_millis(500), Duration::from_millis(800), Duration::from_secs(8));

/// What to probe, and how.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// A name for it, where there are several.
    #[serde(default)]
    pub name: Option<String>,
    /// Targets as on the command line: bare hosts or URLs.
    pub targets: Vec<String>,
    /// The ports of bare hosts; default 80, 443, 8443.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// The routes; default direct. The proxy is in use when its route is among them.
    #[serde(default = "direct_only")]
    pub routes: Vec<Route>,
    /// The proxy where no lab plays one, as on the command line.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Attempts per target, address and route; default 1.
    #[serde(default)]
    pub attempts: Option<u16>,
    /// Walks in flight at once; default as on the command line. 1, with `controls = false`, makes the order of connections
    /// certain, and with it what `nth` and `ratio` meet.
    #[serde(default)]
    pub concurrency: Option<usize>,
    /// Budget of a TCP connect; default 500ms against the lab, else 10s.
    #[serde(default, deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub connect_timeout: Option<Duration>,
    /// Budget of every other layer; default 800ms against the lab, else 10s.
    #[serde(default, deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Duration>,
    /// Budget of the whole probe; default 8s against the lab, else 60s.
    #[serde(default, deserialize_with = "optional_duration")]
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Duration>,
    /// Only this address family.
    #[serde(default)]
    pub family: Option<FamilyName>,
    /// Whom the targets are expected to be; default storage for hosts and http(s) URLs, anyone for tcp:// and tls://.
    #[serde(default)]
    pub expects: Option<Expectation>,
    /// Whether the engine may add probes that tell two causes apart; default true.
    #[serde(default)]
    pub controls: Option<bool>,
    /// What to try with `tcp://` targets, which must then be origins of snapreach's own; the lab plays one at
    /// `tcp://origin.snapreach.test:7`.
    #[serde(default)]
    pub exchanges: Vec<Exchange>,
    /// Whether failed connects are followed hop by hop; default false.
    #[serde(default)]
    pub trace: bool,
    /// Whether the host channel is probed too; default false.
    #[serde(default)]
    pub host: bool,
    /// Whether a name server is asked beside the system resolver; default true.
    #[serde(default)]
    pub name_server: Option<bool>,
    /// Which name server, where no lab plays one; default the first that is configured.
    #[serde(default)]
    pub dns_server: Option<SocketAddr>,
    /// Files with further trust anchors (PEM) where no lab plays the endpoints, relative to the scenario file.
    #[serde(default)]
    pub ca_file: Vec<PathBuf>,
    /// Whose behaviour is predicted; default `vmsnapshot-linux`.
    #[serde(default)]
    pub consumer: Option<String>,
    /// The snapshot method assumed; default `firstHostThenGuest`.
    #[serde(default)]
    pub method: Option<String>,
}

fn direct_only() -> Vec<Route> {
    vec![Route::Direct]
}

/// An address family, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FamilyName {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Self {
        match name {
            FamilyName::V4 => Self::V4,
            FamilyName::V6 => Self::V6,
        }
    }
}

/// The parties that are not the lab's: what the command line says about them.
#[derive(Debug, Clone, Default)]
pub struct Reality {
    /// The proxy; it wins over the one that a probe names.
    pub proxy: Option<Proxy>,
    /// Further trust anchors, DER.
    pub anchors: Vec<Vec<u8>>,
    /// Whether the system's trust store is left out.
    pub no_system_roots: bool,
}

impl ProbeSpec {
    /// Finds values that parse but cannot be used.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.targets.is_empty() {
            return Err("probe.targets: at least one target".into());
        }
        if self.routes.is_empty() {
            return Err("probe.routes: `direct`, `proxy` or both".into());
        }
        if self.attempts == Some(0) || self.concurrency == Some(0) {
            return Err("probe.attempts and probe.concurrency: at least 1".into());
        }
        for (key, budget) in
            [("connect_timeout", self.connect_timeout), ("timeout", self.timeout), ("deadline", self.deadline)]
        {
            if budget.is_some_and(|budget| budget.is_zero()) {
                return Err(format!("probe.{key}: longer than 0"));
            }
        }
        self.exchanges.iter().try_for_each(|exchange| exchange.check()).map_err(|e| format!("probe.exchanges: {e}"))?;
        self.own_proxy()?;
        self.resolve().map(drop)
    }

    /// The targets.
    ///
    /// # Errors
    /// Which one cannot be read, and what is allowed.
    pub(super) fn resolve(&self) -> Result<Vec<Target>, String> {
        let ports = if self.ports.is_empty() { &DEFAULT_PORTS[..] } else { &self.ports };
        let mut targets: Vec<Target> = Vec::new();
        for text in &self.targets {
            for mut target in Target::parse(text, ports).map_err(|e| format!("probe.targets: {e}"))? {
                target.expects = self.expects.unwrap_or(target.expects);
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        Ok(targets)
    }

    fn own_proxy(&self) -> Result<Option<Proxy>, String> {
        let named = self.proxy.as_deref().filter(|proxy| !proxy.is_empty());
        named.map(|proxy| proxy.parse().map_err(|e| format!("probe.proxy: {e}"))).transpose()
    }

    /// The plan of this machine against a lab. Where its files or variables name a proxy, the lab plays that one.
    pub(super) fn plan_lab(&self, scenario: &str, machine: &Machine, network: &Network) -> Plan {
        let asked = self.name_server != Some(false);
        let server = if asked { NameServer::Given(network.dns_server) } else { NameServer::Off };
        let metadata =
            Metadata { origin: "instance metadata".into(), answer: Err("not asked on behalf of a scenario".into()) };
        let Survey { proxies, discovery } = Survey::of(machine, metadata, None, false);
        let mut plan = self.plan(LAB_BUDGETS, proxies.chosen.clone().or_else(|| network.proxy.clone()));
        proxies.describe(&mut plan.context);
        plan.context.discovery = discover::is_azure(machine).then(|| Box::new(discovery));
        plan.dns = Dns { system: SystemResolver::Stub(network.dns), server, pinned: discover::pinned(machine) };
        plan.dial = network.dial.clone();
        if let (Some(named), Some(&played)) = (proxies.chosen, network.addresses.get("proxy")) {
            plan.dial.hosts.push((Some(named.host), Some(named.port), played));
        }
        plan.trust = Trust { system: false, added: network.added_roots.clone(), lab: network.roots.clone() };
        plan.context.lab = Some(scenario.to_owned());
        plan.context.dns_server = Some(network.dns_server).filter(|_| asked);
        plan
    }

    /// The plan against whoever is there. `anchors` are those of the probe's own files.
    ///
    /// # Errors
    /// Why it cannot run: a route through a proxy that nobody names.
    pub(super) fn plan_reality(&self, reality: &Reality, anchors: Vec<Vec<u8>>) -> Result<Plan, String> {
        let own = self.own_proxy()?;
        let proxy = reality.proxy.clone().or(own);
        if self.routes.contains(&Route::Proxy) && proxy.is_none() {
            return Err("it needs a proxy; give --proxy http://HOST:PORT, or `proxy` in its probe".into());
        }
        let defaults = Budgets::default();
        let mut plan = self.plan((defaults.connect, defaults.layer, defaults.deadline), proxy);
        let server = self.dns_server.map_or(NameServer::Configured, NameServer::Given);
        plan.dns.pinned = discover::pinned(&Machine::this());
        plan.dns.server = if self.name_server == Some(false) { NameServer::Off } else { server };
        plan.context.dns_server = self.dns_server;
        let added = reality.anchors.iter().cloned().chain(anchors).collect();
        plan.trust = Trust { system: !reality.no_system_roots, added, lab: Vec::new() };
        plan.context.without_system_roots = reality.no_system_roots;
        Ok(plan)
    }

    /// What both have in common.
    fn plan(&self, (connect, layer, deadline): (Duration, Duration, Duration), proxy: Option<Proxy>) -> Plan {
        let budgets = Budgets {
            connect: self.connect_timeout.unwrap_or(connect),
            layer: self.timeout.unwrap_or(layer),
            deadline: self.deadline.unwrap_or(deadline),
            attempts: self.attempts.unwrap_or(1),
            concurrency: self.concurrency.unwrap_or(Budgets::default().concurrency),
        };
        let proxy = proxy.filter(|_| self.routes.contains(&Route::Proxy));
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let context = Context {
            cloud: "public".into(),
            proxy: proxy.as_ref().map(Proxy::url),
            method: self.method.clone().unwrap_or_else(|| "firstHostThenGuest".into()),
            consumer: self.consumer.clone().unwrap_or_else(|| "vmsnapshot-linux".into()),
            routes: self.routes.clone(),
            attempts: budgets.attempts,
            connect_timeout_ms: millis(budgets.connect),
            timeout_ms: millis(budgets.layer),
            deadline_ms: millis(budgets.deadline),
            ..Context::default()
        };
        Plan {
            // `check` has resolved them once already.
            targets: self.resolve().unwrap_or_default(),
            routes: self.routes.clone(),
            proxy,
            budgets,
            source: Source { family: self.family.map(Into::into), ..Source::default() },
            controls: self.controls.unwrap_or(true),
            trace: self.trace,
            exchanges: self.exchanges.clone(),
            host: self.host.then(HostChannel::default),
            context,
            ..Plan::default()
        }
    }
}
