//! The options of `check`: one structure for the command line and the configuration file, so that the keys of the file
//! are the long options with underscores by construction.

#![expect(clippy::doc_markdown, reason = "the comments are help texts: what a terminal shows has no Markdown")]

use std::{convert::Infallible, net::IpAddr, path::PathBuf};

use clap::{ArgAction, Args};
use serde::{Deserialize, Serialize};

use super::{
    exit::Stop,
    output,
    text::{between, disks, is_false, is_zero, option, proxy, targets, vec},
    values::{
        Account, Cloud, Color, ConnectTo, Consumer, Deadline, Endpoint, LayerBudget, Method, Routes, port, within,
    },
};
use crate::{
    model::Secret,
    plan::{Budgets, Family},
    report::Format,
};

/// The ports of bare hosts and accounts: what the documentation asks for, and the port of managed disks.
pub(super) const DEFAULT_PORTS: [u16; 3] = [80, 443, 8443];
/// The scenario of `--lab` without a name.
pub(super) const DEFAULT_SCENARIO: &str = "healthy";

const TARGETS: &str = "What to probe";
const MACHINE: &str = "What this machine tells";
const ROUTES: &str = "Which way";
const NETWORK: &str = "Network";
const TRUST: &str = "Certificate authorities";
const BUDGETS: &str = "Budgets";
const FILES: &str = "Files that say what Azure lets through";
const CONSUMER: &str = "Whose behaviour to predict";
const OUTPUT: &str = "Output";
const LAB: &str = "Lab";

/// What `check` does. Unset means the default, or what a configuration file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each one is a flag of the command line")]
pub(super) struct Options {
    /// Endpoints: https://HOST[:PORT][/PATH], http://…, tls://HOST:PORT, tcp://HOST:PORT, or a bare HOST
    ///
    /// A bare HOST means Azure Storage on each of --ports: port 80 by HTTP, the others by HTTPS. Write IPv6 addresses in
    /// brackets when a port follows. Without any endpoint those are probed that the machine's disks are known to be at.
    #[arg(value_name = "TARGET", value_parser = secret)]
    #[serde(skip_serializing_if = "Vec::is_empty", with = "targets")]
    pub(super) target: Vec<Secret>,

    /// Read targets from FILE (- for standard input), one per line, # starts a comment
    #[arg(long, value_name = "FILE", help_heading = TARGETS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) targets: Option<PathBuf>,

    /// Storage account: its blob endpoint on each of --ports (repeatable)
    #[arg(long, value_name = "NAME", help_heading = TARGETS)]
    #[serde(skip_serializing_if = "Vec::is_empty", with = "vec")]
    pub(super) account: Vec<Account>,

    /// Blob URI of a disk, with or without a shared access signature (repeatable)
    ///
    /// With a signature the blob is asked for by HEAD, inside a verified TLS session only. The query is never printed.
    #[arg(long, value_name = "URI", help_heading = TARGETS, value_parser = secret)]
    #[serde(skip_serializing_if = "Vec::is_empty", with = "disks")]
    pub(super) disk: Vec<Secret>,

    /// Ports of bare hosts and accounts [default: 80,443,8443]
    #[arg(long, value_name = "PORTS", help_heading = TARGETS, value_delimiter = ',', value_parser = port)]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::text::ports")]
    pub(super) ports: Vec<u16>,

    /// Cloud of the accounts [default: as instance metadata says, else public]
    #[arg(long, value_name = "CLOUD", help_heading = TARGETS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cloud: Option<Cloud>,

    /// Azure region of this machine, for the commands that reports suggest [default: as instance metadata says]
    #[arg(long, value_name = "NAME", help_heading = TARGETS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) region: Option<String>,

    /// Read the files of the machine whose root folder is DIR, in place of this machine's
    ///
    /// For the disk of a machine that does not start, or a copy of its files. The variables of this process do not count
    /// then, and neither instance metadata nor the host is asked unless --imds or --host-endpoint says where.
    #[arg(long, value_name = "DIR", help_heading = MACHINE)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) root: Option<PathBuf>,

    /// Ask instance metadata here, what this machine is (Azure's: 169.254.169.254:80)
    ///
    /// Without it Azure's is asked, once and for 2 seconds, where the firmware or the agent's files show a virtual machine
    /// of Azure. Never through a proxy.
    #[arg(long, value_name = "ADDR[:PORT]", help_heading = MACHINE, conflicts_with = "no_imds")]
    #[serde(skip_serializing_if = "Option::is_none", with = "option")]
    pub(super) imds: Option<Endpoint<80>>,

    /// Do not ask instance metadata
    #[arg(long, help_heading = MACHINE)]
    #[serde(skip_serializing_if = "is_false")]
    pub(super) no_imds: bool,

    /// Proxies of a Windows machine: a registry export (.reg), or the text of `netsh winhttp show proxy` (repeatable)
    ///
    /// The snapshot extension runs as the system account, so its settings count, in the key
    /// HKEY_USERS\S-1-5-18\Software\Microsoft\Windows\CurrentVersion\Internet Settings, and those of HKEY_LOCAL_MACHINE
    /// where a policy says so. Nothing of this machine counts then, and --proxy goes before what the files name.
    #[arg(long, value_name = "FILE", help_heading = MACHINE)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) windows_registry: Vec<PathBuf>,

    /// Proxy: http:// or https://, user:password@ allowed [default: discovered]
    ///
    /// Discovered from waagent.conf, the environment of the agent's process or unit, the variables https_proxy,
    /// HTTPS_PROXY and http_proxy, and /etc/environment, in this order.
    #[arg(long, value_name = "URL", help_heading = ROUTES, value_parser = secret, conflicts_with = "no_proxy")]
    #[serde(skip_serializing_if = "Option::is_none", with = "proxy")]
    pub(super) proxy: Option<Secret>,

    /// Use no proxy, whatever the machine says
    #[arg(long, help_heading = ROUTES)]
    #[serde(skip_serializing_if = "is_false")]
    pub(super) no_proxy: bool,

    /// Which way to go [default: both where a proxy is known, else direct]
    #[arg(long, value_name = "ROUTE", help_heading = ROUTES)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) route: Option<Routes>,

    /// Dial ADDR:PORT for HOST:PORT; an empty HOST or PORT means any, as in curl (repeatable, the first match counts)
    #[arg(long, value_name = "HOST:PORT:ADDR:PORT", help_heading = ROUTES)]
    #[serde(skip_serializing_if = "Vec::is_empty", with = "vec")]
    pub(super) connect_to: Vec<ConnectTo>,

    /// Ask this name server beside the system resolver [default: the first configured one; port 53]
    #[arg(long, value_name = "ADDR[:PORT]", help_heading = NETWORK)]
    #[serde(skip_serializing_if = "Option::is_none", with = "option")]
    pub(super) dns_server: Option<Endpoint<53>>,

    /// IPv4 only
    #[arg(short = '4', long, help_heading = NETWORK, conflicts_with = "ipv6")]
    #[serde(skip_serializing_if = "is_false")]
    pub(super) ipv4: bool,

    /// IPv6 only
    #[arg(short = '6', long, help_heading = NETWORK)]
    #[serde(skip_serializing_if = "is_false")]
    pub(super) ipv6: bool,

    /// Source address of every connection
    #[arg(long, value_name = "ADDR", help_heading = NETWORK)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bind: Option<IpAddr>,

    /// Network interface of every connection (Linux)
    #[arg(long, value_name = "NAME", help_heading = NETWORK)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interface: Option<String>,

    /// Locate the hop that blocks failed connects (Linux; needs no privilege)
    #[arg(long, help_heading = NETWORK)]
    #[serde(skip_serializing_if = "is_false")]
    pub(super) trace: bool,

    /// Trust the certificates in this PEM file, beside the system's (repeatable)
    #[arg(long, value_name = "PEM", help_heading = TRUST)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) ca_file: Vec<PathBuf>,

    /// Do not trust the system's certificate authorities
    #[arg(long, help_heading = TRUST)]
    #[serde(skip_serializing_if = "is_false")]
    pub(super) no_system_roots: bool,

    /// Budget of one TCP connect [default: 10s]
    #[arg(long, value_name = "DURATION", help_heading = BUDGETS)]
    #[serde(skip_serializing_if = "Option::is_none", with = "option")]
    pub(super) connect_timeout: Option<LayerBudget>,

    /// Budget of every other layer: lookup, CONNECT, TLS handshake, request [default: 10s]
    #[arg(long, value_name = "DURATION", help_heading = BUDGETS)]
    #[serde(skip_serializing_if = "Option::is_none", with = "option")]
    pub(super) timeout: Option<LayerBudget>,

    /// Budget of the whole run [default: 60s]
    #[arg(long, value_name = "DURATION", help_heading = BUDGETS)]
    #[serde(skip_serializing_if = "Option::is_none", with = "option")]
    pub(super) deadline: Option<Deadline>,

    /// Attempts per target, address and route, 1 to 100: they make flakiness visible [default: 3]
    #[arg(long, value_name = "N", help_heading = BUDGETS, value_parser = within::<u16, 1, 100>)]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "between::<_, u16, 1, 100>")]
    pub(super) attempts: Option<u16>,

    /// Probes in flight at once, 1 to 1000000 [default: 256]
    #[arg(long, value_name = "N", help_heading = BUDGETS, value_parser = within::<u32, 1, 1_000_000>)]
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "between::<_, u32, 1, 1_000_000>")]
    pub(super) concurrency: Option<u32>,

    /// Network security groups, judged beside the probe: az network nsg show or rule list, nic list-effective-nsg, a template
    /// (repeatable)
    ///
    /// Every flow that is probed is judged by these files as well. Where they deny and the probe meets silence, the rule is
    /// proved to be the cause, and the report holds the rule that helps, with a priority that is free.
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) nsg: Vec<PathBuf>,

    /// Routes: az network nic show-effective-route-table, or a route table
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) routes: Option<PathBuf>,

    /// Service tags: ServiceTags_Public_….json, az network list-service-tags, or the old PublicIPs_….xml
    #[arg(long, value_name = "FILE", help_heading = FILES)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_tags: Option<PathBuf>,

    /// Consumer of the endpoints [default: the snapshot extension that is installed, else that of this system]
    #[arg(long, value_name = "NAME", help_heading = CONSUMER)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) consumer: Option<Consumer>,

    /// Snapshot method [default: what the disks, the extension's settings or its last run show, else firstHostThenGuest]
    #[arg(long, value_name = "METHOD", help_heading = CONSUMER)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<Method>,

    /// Probe the host channel with the wire server here [default: 168.63.129.16:80, on a virtual machine of Azure]
    #[arg(long, value_name = "ADDR[:PORT]", help_heading = CONSUMER, conflicts_with = "no_host")]
    #[serde(skip_serializing_if = "Option::is_none", with = "option")]
    pub(super) host_endpoint: Option<Endpoint<80>>,

    /// Leave the host channel out
    #[arg(long, help_heading = CONSUMER)]
    #[serde(skip_serializing_if = "is_false")]
    pub(super) no_host: bool,

    /// Format of the report on standard output [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = OUTPUT, value_parser = output::format_parser())]
    #[serde(skip_serializing_if = "Option::is_none", with = "option")]
    pub(super) format: Option<Format>,

    /// Write a report to FILE too, in the format of its extension: txt, json, jsonl, md, xml (JUnit), prom, html
    /// (repeatable)
    #[arg(short, long, value_name = "FILE", help_heading = OUTPUT)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) output: Vec<PathBuf>,

    /// Write the observations (JSON Lines) for `snapreach replay`
    #[arg(long, value_name = "FILE", help_heading = OUTPUT)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) record: Option<PathBuf>,

    /// Exit 1 also when the verdict is degraded
    #[arg(long, help_heading = OUTPUT)]
    #[serde(skip_serializing_if = "is_false")]
    pub(super) strict: bool,

    /// Show every step, and notes on standard error; twice: heads and bodies as well
    #[arg(short, long, help_heading = OUTPUT, action = ArgAction::Count)]
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) verbose: u8,

    /// No progress on standard error
    #[arg(short, long, help_heading = OUTPUT)]
    #[serde(skip_serializing_if = "is_false")]
    pub(super) quiet: bool,

    /// Colours in the text report [default: auto]
    #[arg(long, value_name = "WHEN", help_heading = OUTPUT)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) color: Option<Color>,

    /// Run against the embedded lab instead of the network [default SCENARIO: healthy]
    ///
    /// The lab plays storage, proxy and name server on loopback addresses. Nothing of this machine is read and no packet
    /// leaves it. With --root or --imds the lab plays the endpoints, proxy and host of the machine described there.
    /// SCENARIO is a built-in name or a .toml file.
    #[arg(long, value_name = "SCENARIO", help_heading = LAB, num_args = 0..=1, default_missing_value = DEFAULT_SCENARIO)]
    #[arg(action = ArgAction::Set)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lab: Option<String>,
}

/// Takes a value in that may hold credentials: it is parsed later, so that no message repeats it.
#[expect(clippy::unnecessary_wraps, reason = "the form of a value parser")]
pub(super) fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

impl Options {
    /// These options, and where they are unset those of a configuration `file`.
    ///
    /// What to probe, which proxy, and which address family are one setting each: giving any part on the command line
    /// replaces what the file says about it.
    pub(super) fn or(self, file: Self) -> Self {
        let names_targets =
            |o: &Self| !o.target.is_empty() || o.targets.is_some() || !o.account.is_empty() || !o.disk.is_empty();
        let what = if names_targets(&self) || self.lab.is_some() { &self } else { &file }.clone();
        let proxy = if self.proxy.is_some() || self.no_proxy { &self } else { &file }.clone();
        let family = if self.ipv4 || self.ipv6 { &self } else { &file }.clone();
        let host = if self.host_endpoint.is_some() || self.no_host { &self } else { &file }.clone();
        let imds = if self.imds.is_some() || self.no_imds { &self } else { &file }.clone();
        Self {
            target: what.target,
            targets: what.targets,
            account: what.account,
            disk: what.disk,
            ports: either(self.ports, file.ports),
            cloud: self.cloud.or(file.cloud),
            region: self.region.or(file.region),
            root: self.root.or(file.root),
            imds: imds.imds,
            no_imds: imds.no_imds,
            windows_registry: either(self.windows_registry, file.windows_registry),
            proxy: proxy.proxy,
            no_proxy: proxy.no_proxy,
            route: self.route.or(file.route),
            connect_to: either(self.connect_to, file.connect_to),
            dns_server: self.dns_server.or(file.dns_server),
            ipv4: family.ipv4,
            ipv6: family.ipv6,
            bind: self.bind.or(file.bind),
            interface: self.interface.or(file.interface),
            trace: self.trace || file.trace,
            ca_file: either(self.ca_file, file.ca_file),
            no_system_roots: self.no_system_roots || file.no_system_roots,
            connect_timeout: self.connect_timeout.or(file.connect_timeout),
            timeout: self.timeout.or(file.timeout),
            deadline: self.deadline.or(file.deadline),
            attempts: self.attempts.or(file.attempts),
            concurrency: self.concurrency.or(file.concurrency),
            nsg: either(self.nsg, file.nsg),
            routes: self.routes.or(file.routes),
            service_tags: self.service_tags.or(file.service_tags),
            consumer: self.consumer.or(file.consumer),
            method: self.method.or(file.method),
            host_endpoint: host.host_endpoint,
            no_host: host.no_host,
            format: self.format.or(file.format),
            output: either(self.output, file.output),
            record: self.record.or(file.record),
            strict: self.strict || file.strict,
            verbose: self.verbose.max(file.verbose),
            quiet: self.quiet || file.quiet,
            color: self.color.or(file.color),
            lab: what.lab,
        }
    }

    /// These options with every default filled in that does not depend on the machine, or that holds where it tells nothing.
    pub(super) fn with_defaults(self) -> Self {
        let budgets = Budgets::default();
        Self {
            ports: either(self.ports, DEFAULT_PORTS.to_vec()),
            cloud: self.cloud.or(Some(Cloud::default())),
            connect_timeout: self.connect_timeout.or(Some(LayerBudget::from(budgets.connect))),
            timeout: self.timeout.or(Some(LayerBudget::from(budgets.layer))),
            deadline: self.deadline.or(Some(Deadline::from(budgets.deadline))),
            attempts: self.attempts.or(Some(budgets.attempts)),
            concurrency: self.concurrency.or(u32::try_from(budgets.concurrency).ok()),
            consumer: self.consumer.or(Some(Consumer::of_this_system())),
            method: self.method.or(Some(Method::default())),
            format: self.format.or(Some(Format::Text)),
            color: self.color.or(Some(Color::default())),
            ..self
        }
    }

    /// The address family that `-4`, `-6` or the source address leave.
    pub(super) fn family(&self) -> Option<Family> {
        match (self.ipv4, self.ipv6) {
            (true, _) => Some(Family::V4),
            (_, true) => Some(Family::V6),
            _ => self.bind.map(Family::of),
        }
    }

    /// Finds options that exclude each other, wherever they come from.
    ///
    /// # Errors
    /// Names the options and says which combination is allowed.
    pub(super) fn check_conflicts(&self) -> Result<(), Stop> {
        let conflict = |a: &str, b: &str, why: &str| Err(Stop::usage(format!("{a} cannot be used with {b}: {why}")));
        if self.proxy.is_some() && self.no_proxy {
            return conflict("--proxy", "--no-proxy", "give one of them");
        }
        if self.no_proxy && matches!(self.route, Some(Routes::Proxy | Routes::Both)) {
            return conflict("--no-proxy", "--route proxy or --route both", "only --route direct is left");
        }
        if self.proxy.is_some() && self.route == Some(Routes::Direct) {
            return conflict("--proxy", "--route direct", "choose --route proxy or --route both, or leave --proxy out");
        }
        if self.ipv4 && self.ipv6 {
            return conflict("--ipv4 (-4)", "--ipv6 (-6)", "each means only this family; without either both are used");
        }
        if let (Some(bind), Some(family)) = (self.bind, self.family())
            && Family::of(bind) != family
        {
            let (flag, kind) = if family == Family::V4 { ("-4", "IPv4") } else { ("-6", "IPv6") };
            return conflict(&format!("--bind {bind}"), flag, &format!("the source address must be {kind} too"));
        }
        if self.host_endpoint.is_some() && self.no_host {
            return conflict("--host-endpoint", "--no-host", "give one of them");
        }
        if self.imds.is_some() && self.no_imds {
            return conflict("--imds", "--no-imds", "give one of them");
        }
        if self.no_system_roots && self.ca_file.is_empty() && self.lab.is_none() {
            return Err(Stop::usage("--no-system-roots leaves nothing to trust: name certificates with --ca-file PEM"));
        }
        if self.service_tags.is_some() && self.nsg.is_empty() && self.routes.is_none() {
            return Err(Stop::usage(
                "--service-tags says what tags mean, and no rule uses them: give rules with --nsg FILE",
            ));
        }
        if self.lab.is_some() {
            let taken: Vec<_> = self.played_by_the_lab();
            if !taken.is_empty() {
                return conflict(
                    "--lab",
                    &taken.join(", "),
                    "the lab brings its own targets, proxy, addresses and trust",
                );
            }
        }
        Ok(())
    }

    /// The options given that only mean something on a real network.
    fn played_by_the_lab(&self) -> Vec<&'static str> {
        [
            ("TARGET", !self.target.is_empty()),
            ("--targets", self.targets.is_some()),
            ("--account", !self.account.is_empty()),
            ("--disk", !self.disk.is_empty()),
            ("--ports", !self.ports.is_empty()),
            ("--cloud", self.cloud.is_some()),
            ("--region", self.region.is_some()),
            ("--proxy", self.proxy.is_some()),
            ("--no-proxy", self.no_proxy),
            ("--connect-to", !self.connect_to.is_empty()),
            ("--dns-server", self.dns_server.is_some()),
            ("--bind", self.bind.is_some()),
            ("--interface", self.interface.is_some()),
            ("--ca-file", !self.ca_file.is_empty()),
            ("--no-system-roots", self.no_system_roots),
            ("--host-endpoint", self.host_endpoint.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }
}

fn either<T>(first: Vec<T>, second: Vec<T>) -> Vec<T> {
    if first.is_empty() { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value for every key; a new option without one fails the test below.
    const EVERY_KEY: &str = r#"
        target = ["https://a.example"]
        targets = "targets.txt"
        account = ["abc"]
        disk = ["https://md-1.blob.core.windows.net/c/b"]
        ports = [443]
        cloud = "usgov"
        region = "westeurope"
        root = "/mnt/disk"
        imds = "127.0.0.1:8080"
        no_imds = true
        windows_registry = ["system.reg"]
        proxy = "http://proxy:3128"
        no_proxy = true
        route = "both"
        connect_to = ["a:1:10.0.0.1:2"]
        dns_server = "10.0.0.4"
        ipv4 = true
        ipv6 = true
        bind = "10.0.0.9"
        interface = "eth0"
        trace = true
        ca_file = ["ca.pem"]
        no_system_roots = true
        connect_timeout = "1s"
        timeout = "2s"
        deadline = "3s"
        attempts = 4
        concurrency = 5
        nsg = ["nic.json", "subnet.json"]
        routes = "routes.json"
        service_tags = "tags.json"
        consumer = "waagent"
        method = "onlyHost"
        host_endpoint = "10.0.0.3"
        no_host = true
        format = "json"
        output = ["r.json"]
        record = "r.jsonl"
        strict = true
        verbose = 1
        quiet = true
        color = "never"
        lab = "healthy"
    "#;

    #[test]
    fn every_option_is_a_key_and_every_key_is_merged() {
        let full: Options = toml::from_str(EVERY_KEY).unwrap();
        assert_eq!(Options::default().or(full.clone()), full, "the file's value is lost");
        assert_eq!(full.clone().or(Options::default()), full, "the flag's value is lost");

        let keys = toml::from_str::<toml::Table>(EVERY_KEY).unwrap();
        for argument in Options::augment_args(clap::Command::new("check")).get_arguments() {
            let name = argument.get_long().map_or_else(|| argument.get_id().to_string(), |l| l.replace('-', "_"));
            assert!(keys.contains_key(&name), "{name} is no key of the configuration file, or not tested here");
        }
    }

    #[test]
    fn flags_replace_whole_settings_of_the_file() {
        let file: Options = toml::from_str("account = [\"abc\"]\nno_proxy = true\nipv6 = true\nlab = \"x\"").unwrap();
        let flags: Options = toml::from_str("target = [\"h\"]\nproxy = \"http://proxy:3128\"\nipv4 = true").unwrap();
        let merged = flags.or(file);
        assert!(merged.account.is_empty() && merged.lab.is_none());
        assert!(merged.proxy.is_some() && !merged.no_proxy);
        assert_eq!(merged.family(), Some(Family::V4));
        merged.check_conflicts().unwrap();
    }

    #[test]
    fn conflicts_are_found_wherever_they_come_from() {
        for (text, part) in [
            ("proxy = \"http://p:1\"\nno_proxy = true", "--proxy cannot be used with --no-proxy"),
            ("no_proxy = true\nroute = \"proxy\"", "--no-proxy cannot be used with --route"),
            ("proxy = \"http://p:1\"\nroute = \"direct\"", "--proxy cannot be used with --route direct"),
            ("ipv4 = true\nipv6 = true", "-4"),
            ("ipv4 = true\nbind = \"::1\"", "must be IPv4"),
            ("ipv6 = true\nbind = \"127.0.0.1\"", "must be IPv6"),
            ("no_system_roots = true", "--ca-file"),
            ("host_endpoint = \"10.0.0.1\"\nno_host = true", "--host-endpoint"),
            ("imds = \"127.0.0.1:1\"\nno_imds = true", "--imds"),
            (
                "lab = \"healthy\"\naccount = [\"abc\"]\nproxy = \"http://p:1\"",
                "--lab cannot be used with --account, --proxy",
            ),
        ] {
            let options: Options = toml::from_str(text).unwrap();
            let message = options.check_conflicts().unwrap_err().to_string();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn a_source_address_decides_the_family() {
        let options: Options = toml::from_str("bind = \"::1\"").unwrap();
        assert_eq!(options.family(), Some(Family::V6));
        options.check_conflicts().unwrap();
    }
}
