//! Declarative scenarios: how the lab's parties behave, what to probe, and what must come out.

mod builtin;

use std::{net::SocketAddr, ops::Range, time::Duration};

use serde::Deserialize;

use crate::{
    lab::{LabSpec, Network, optional_duration},
    model::{Confidence, Context, Expectation, Hop, Route, Status, Target},
    plan::{Budgets, Dns, Family, NameServer, Plan, Source, SystemResolver, Trust},
};

pub use builtin::BuiltIn;

/// The ports of a bare host, as on the command line.
const DEFAULT_PORTS: [u16; 3] = [80, 443, 8443];

/// The scenarios that come with the program, in alphabetical order.
pub fn builtins() -> impl Iterator<Item = &'static BuiltIn> {
    builtin::ALL.iter()
}

/// The built-in scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static BuiltIn> {
    builtins().find(|built_in| built_in.name == name)
}

/// One scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// Its name: the file's, without `.toml`.
    pub name: String,
    /// What it shows, in one sentence.
    pub about: String,
    /// How the other parties behave.
    pub lab: LabSpec,
    /// What to probe.
    pub probe: ProbeSpec,
    /// What must come out.
    pub expect: Expect,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    about: String,
    #[serde(default)]
    lab: LabSpec,
    probe: ProbeSpec,
    expect: Expect,
}

/// What to probe: the `[probe]` table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// Targets as on the command line: bare hosts or URLs.
    pub targets: Vec<String>,
    /// The ports of bare hosts; default 80, 443, 8443.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// The routes; default direct. The proxy is in use when its route is among them.
    #[serde(default = "direct_only")]
    pub routes: Vec<Route>,
    /// Attempts per target, address and route; default 1.
    #[serde(default)]
    pub attempts: Option<u16>,
    /// Walks in flight at once; default as on the command line. 1 makes the order of connections certain.
    #[serde(default)]
    pub concurrency: Option<usize>,
    /// Budget of a TCP connect; default 500ms.
    #[serde(default, deserialize_with = "optional_duration")]
    pub connect_timeout: Option<Duration>,
    /// Budget of every other layer; default 800ms.
    #[serde(default, deserialize_with = "optional_duration")]
    pub timeout: Option<Duration>,
    /// Budget of the whole run; default 8s.
    #[serde(default, deserialize_with = "optional_duration")]
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
    /// Whether a name server is asked beside the system resolver; default true.
    #[serde(default)]
    pub name_server: Option<bool>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FamilyName {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What must come out: the `[expect]` table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The verdict's status.
    #[serde(deserialize_with = "status")]
    pub status: Status,
    /// The exit code.
    pub exit_code: u8,
    /// Findings that must be there. No other finding of severity error may be, unless `allowed` has its code.
    #[serde(default)]
    pub findings: Vec<ExpectedFinding>,
    /// Codes that may be there.
    #[serde(default)]
    pub allowed: Vec<String>,
    /// Codes that must not be there, whatever their severity.
    #[serde(default)]
    pub absent: Vec<String>,
}

/// A finding that must be there.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedFinding {
    /// Its code.
    pub code: String,
    /// Between whom, if it matters.
    #[serde(default, deserialize_with = "hop")]
    pub hop: Option<Hop>,
    /// How sure it must be at least, if it matters.
    #[serde(default, deserialize_with = "confidence")]
    pub confidence: Option<Confidence>,
    /// Over which route, if it matters.
    #[serde(default)]
    pub route: Option<Route>,
}

/// A scenario file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {message}")]
pub struct ScenarioError {
    /// The file, or the scenario's name.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what is allowed.
    pub message: String,
}

impl Scenario {
    /// Reads a scenario. `name` is its file name; `.toml` and folders before it are cut off for [`Scenario::name`].
    ///
    /// # Errors
    /// Says where in the text, what is wrong and what is allowed there.
    pub fn parse(name: &str, toml: &str) -> Result<Self, ScenarioError> {
        let fail = |span: Option<Range<usize>>, message: String| {
            let (line, column) = position(toml, span.map_or(0, |span| span.start));
            ScenarioError { file: name.to_owned(), line, column, message }
        };
        let file: File = toml::from_str(toml).map_err(|e| fail(e.span(), e.message().trim_end().to_owned()))?;
        file.lab.check().map_err(|e| fail(find_text(toml, "[lab"), e))?;
        file.probe.resolve().map_err(|e| fail(find_text(toml, "targets"), e))?;
        let short = name.rsplit(['/', '\\']).next().unwrap_or(name);
        Ok(Self {
            name: short.strip_suffix(".toml").unwrap_or(short).to_owned(),
            about: file.about,
            lab: file.lab,
            probe: file.probe,
            expect: file.expect,
        })
    }

    /// The plan that probes the lab as the scenario wants it.
    #[must_use]
    pub fn plan(&self, network: &Network) -> Plan {
        let probe = &self.probe;
        let defaults = Budgets::default();
        let budgets = Budgets {
            connect: probe.connect_timeout.unwrap_or(Duration::from_millis(500)),
            layer: probe.timeout.unwrap_or(Duration::from_millis(800)),
            deadline: probe.deadline.unwrap_or(Duration::from_secs(8)),
            attempts: probe.attempts.unwrap_or(1).max(1),
            concurrency: probe.concurrency.unwrap_or(defaults.concurrency).max(1),
        };
        let proxy = network.proxy.clone().filter(|_| probe.routes.contains(&Route::Proxy));
        let asked = probe.name_server != Some(false);
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let context = Context {
            cloud: "public".into(),
            proxy: proxy.as_ref().map(crate::plan::Proxy::url),
            method: probe.method.clone().unwrap_or_else(|| "firstHostThenGuest".into()),
            consumer: probe.consumer.clone().unwrap_or_else(|| "vmsnapshot-linux".into()),
            routes: probe.routes.clone(),
            attempts: budgets.attempts,
            connect_timeout_ms: millis(budgets.connect),
            timeout_ms: millis(budgets.layer),
            deadline_ms: millis(budgets.deadline),
            lab: Some(self.name.clone()),
            dns_server: Some(network.dns_server).filter(|_| asked),
            ..Context::default()
        };
        Plan {
            // `parse` has resolved them once already.
            targets: probe.resolve().unwrap_or_default(),
            routes: probe.routes.clone(),
            proxy,
            budgets,
            source: Source { family: probe.family.map(Into::into), ..Source::default() },
            dns: Dns { system: SystemResolver::Stub(network.dns), server: name_server(asked, network.dns_server) },
            dial: network.dial.clone(),
            trust: Trust { system: false, added: network.added_roots.clone(), lab: network.roots.clone() },
            controls: probe.controls.unwrap_or(true),
            trace: false,
            exchanges: Vec::new(),
            context,
        }
    }
}

fn name_server(asked: bool, at: SocketAddr) -> NameServer {
    if asked { NameServer::Given(at) } else { NameServer::Off }
}

impl ProbeSpec {
    fn resolve(&self) -> Result<Vec<Target>, String> {
        let ports = if self.ports.is_empty() { &DEFAULT_PORTS[..] } else { &self.ports };
        if self.targets.is_empty() {
            return Err("probe.targets: at least one target".into());
        }
        if self.routes.is_empty() {
            return Err("probe.routes: `direct`, `proxy` or both".into());
        }
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
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Self {
        match name {
            FamilyName::V4 => Self::V4,
            FamilyName::V6 => Self::V6,
        }
    }
}

/// Line and column, from 1, of a byte offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn find_text(toml: &str, part: &str) -> Option<Range<usize>> {
    toml.find(part).map(|at| at..at + part.len())
}

// The model's enums serialise only: nobody reads verdicts back. Here their names are read, and an unknown one says
// which there are.

macro_rules! by_name {
    ($function:ident, $type:ty, $($variant:ident = $name:literal),*) => {
        fn $function<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
            const NAMES: &[&str] = &[$($name),*];
            let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
            match text.as_ref() {
                $($name => Ok(<$type>::$variant),)*
                other => Err(serde::de::Error::unknown_variant(other, NAMES)),
            }
        }
    };
}

by_name!(status, Status, Clear = "clear", Degraded = "degraded", Blocked = "blocked", Inconclusive = "inconclusive");
by_name!(
    some_hop,
    Hop,
    Local = "local",
    ClientToProxy = "client_to_proxy",
    Proxy = "proxy",
    ProxyToOrigin = "proxy_to_origin",
    ClientToOrigin = "client_to_origin",
    Origin = "origin",
    Host = "host",
    Consumer = "consumer"
);
by_name!(
    some_confidence,
    Confidence,
    Proof = "proof",
    Reported = "reported",
    Differential = "differential",
    Heuristic = "heuristic",
    Unknown = "unknown"
);

fn hop<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Hop>, D::Error> {
    some_hop(deserializer).map(Some)
}

fn confidence<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Confidence>, D::Error> {
    some_confidence(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::classify::codes;

    #[test]
    fn every_file_is_embedded() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let files: BTreeSet<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let embedded: Vec<String> = builtins().map(|built_in| format!("{}.toml", built_in.name)).collect();
        assert_eq!(embedded, files.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn every_file_parses_and_names_known_codes() {
        let known: BTreeSet<&str> = codes::ALL.iter().map(|code| code.0).collect();
        for built_in in builtins() {
            let scenario = Scenario::parse(built_in.name, built_in.toml).unwrap();
            assert_eq!(scenario.name, built_in.name);
            assert!(scenario.about.ends_with('.'), "{}: about is a sentence", built_in.name);
            for code in scenario
                .expect
                .findings
                .iter()
                .map(|f| &f.code)
                .chain(&scenario.expect.allowed)
                .chain(&scenario.expect.absent)
            {
                assert!(known.contains(code.as_str()), "{}: {code}", built_in.name);
            }
            let named = codes::ALL.iter().find(|code| code.0.replacen('.', "-", 1).replace('_', "-") == built_in.name);
            if let Some(code) = named {
                let expected = scenario.expect.findings.iter().any(|finding| finding.code == code.0);
                assert!(expected, "{} must expect {code}", built_in.name);
            }
        }
    }

    #[test]
    fn every_lab_starts() {
        for built_in in builtins() {
            let scenario = Scenario::parse(built_in.name, built_in.toml).unwrap();
            let lab = crate::lab::Lab::start(&scenario.lab).unwrap();
            assert!(!scenario.plan(lab.network()).targets.is_empty(), "{}", built_in.name);
        }
    }

    #[test]
    fn a_typo_points_at_its_line_and_says_what_is_allowed() {
        let good = find("healthy").unwrap().toml;
        let typo = good.replace("routes", "ruotes");
        let line = typo.lines().position(|line| line.starts_with("ruotes")).unwrap() + 1;
        let error = Scenario::parse("scenarios/healthy.toml", &typo).unwrap_err();
        assert_eq!((error.line, error.column), (line, 1), "{error}");
        assert!(error.to_string().starts_with(&format!("scenarios/healthy.toml:{line}:1: ")), "{error}");
        assert!(error.message.contains("`ruotes`") && error.message.contains("`routes`"), "{error}");
    }

    #[test]
    fn errors_inside_the_lab_have_a_place_too() {
        let head = "about = \"x\"\n[probe]\ntargets = [\"a.example\"]\n[expect]\nstatus = \"clear\"\nexit_code = 0\n";
        for (tail, line, part) in [
            ("[[lab.origin]]\nports = [443]\nconn = \"slient\"", 9, "`silent`"),
            ("[[lab.origin]]\ntls = { alert = 300 }", 8, "u8"),
            ("[[lab.origin]]\nhttp = { slow = \"11\" }", 8, "250ms"),
            ("[[lab.proxy.rules]]\nreply = { proxy_status = { eror = \"x\" } }", 8, "`error`"),
            ("[[lab.origin]]\nports = [1]", 7, "needs one of"),
        ] {
            let error = Scenario::parse("x", &format!("{head}{tail}")).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.message.contains(part), "{error}");
        }
        let bad = head.replace("\"clear\"", "\"fine\"");
        let error = Scenario::parse("x", &bad).unwrap_err();
        assert_eq!(error.line, 5);
        assert!(error.message.contains("`blocked`"), "{error}");
        let bad = head.replace("a.example", "ftp://a");
        let error = Scenario::parse("x", &bad).unwrap_err();
        assert_eq!((error.line, error.column), (3, 1), "{error}");
    }

    #[test]
    fn the_plan_stays_inside_the_lab() {
        let scenario = Scenario::parse("healthy", find("healthy").unwrap().toml).unwrap();
        let lab = crate::lab::Lab::start(&scenario.lab).unwrap();
        let plan = scenario.plan(lab.network());
        assert_eq!(plan.targets.len(), 3);
        assert!(!plan.trust.system && plan.trust.lab.len() == 1 && plan.trust.added.is_empty());
        assert_eq!(plan.dns.system, SystemResolver::Stub(lab.network().dns));
        assert!(plan.dial.otherwise.is_some_and(|to| to.ip().is_loopback()));
        assert!(plan.dial.addresses.values().all(|to| to.ip().is_loopback()));
        assert_eq!(plan.context.lab.as_deref(), Some("healthy"));
        assert!(plan.proxy.is_some());
    }
}
