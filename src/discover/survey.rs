//! Everything that a machine tells, put together.

use super::{
    AGENT_FILES, Extension, Found, Machine, Places, Proxies, agent, consumers, environment, extension, extension_proxy,
    instance, method,
    windows::{self, Windows},
};
use crate::{
    azure::{snapshot::Build, storage},
    model::{Discovery, DiscoverySource, Host, Instance, Scheme, Target},
};

/// Where the firmware tells the asset tag of the chassis.
const ASSET_TAG_FILE: &str = "/sys/class/dmi/id/chassis_asset_tag";

/// The asset tag of every virtual machine of Azure, and of no other (cloud-init, `DataSourceAzure`).
const AZURE_ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

/// The agent's folder.
const AGENT_FOLDER: &str = "/var/lib/waagent";

/// Storage hosts that are taken from the extension's files: more than a machine has disks.
const MAX_HOSTS: usize = 64;

/// What instance metadata said, or why it said nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Who was asked, or would have been.
    pub origin: String,
    /// The answer.
    pub answer: Result<Vec<u8>, String>,
}

/// What a machine tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The proxies that its places name.
    pub proxies: Proxies,
    /// Everything else, and the places that told it.
    pub discovery: Discovery,
}

impl Survey {
    /// Reads a machine. `explicit` are proxies that go before its own; with `no_proxy` none is used.
    #[must_use]
    pub fn of(
        machine: &Machine,
        metadata: Metadata,
        explicit: impl IntoIterator<Item = Found>,
        no_proxy: bool,
    ) -> Self {
        let places = Places::read(machine);
        let mut proxies = Proxies::of(&places, machine.variables(), explicit);
        if no_proxy {
            proxies.chosen = None;
        }
        let mut sources = Vec::new();
        let instance = read_metadata(metadata, &mut sources);
        if let Some(tag) = asset_tag(machine) {
            sources.push(told(ASSET_TAG_FILE, Some(tag)));
        }
        let keys = read_agent_file(&places, &mut sources);
        read_environments(machine, &places, &mut sources);
        let settings = read_settings(machine, &mut sources);
        let Extension { installed, last_run, hosts, sources: of_extension } = extension::read(machine);
        sources.extend(of_extension);

        let mut discovery = Discovery {
            sources,
            method: method::choose(instance.as_ref(), settings.as_deref(), last_run.as_ref()),
            extension_proxy: keys,
            instance,
            extension: installed,
            last_run,
            logged_hosts: hosts,
            consumers: Vec::new(),
        };
        discovery.consumers = vec![
            consumers::agent(&places, &storage_hosts(&discovery)),
            consumers::extension(build(&discovery), discovery.extension_proxy.as_ref(), &places),
            consumers::probe(&proxies, no_proxy),
            consumers::shell(&places, machine.variables()),
        ];
        Self { proxies, discovery }
    }

    /// What is known of a Windows machine of which nothing else is here than exported files and its metadata. `explicit`
    /// is a proxy that goes before its own; with `no_proxy` none is used.
    #[must_use]
    pub fn of_windows(windows: &Windows, metadata: Metadata, explicit: Option<Found>, no_proxy: bool) -> Self {
        let mut proxies = Proxies::choose(explicit.into_iter().chain(windows.found.iter().cloned()));
        if no_proxy {
            proxies.chosen = None;
        }
        let mut sources = Vec::new();
        let instance = read_metadata(metadata, &mut sources);
        let mut discovery = Discovery {
            sources,
            method: method::choose(instance.as_ref(), None, None),
            instance,
            consumers: vec![consumers::probe(&proxies, no_proxy)],
            ..Discovery::default()
        };
        windows::describe(&mut discovery, windows);
        Self { proxies, discovery }
    }
}

/// Whether a machine is a virtual machine of Azure: by its firmware, or because the agent is or was there.
#[must_use]
pub fn is_azure(machine: &Machine) -> bool {
    asset_tag(machine).is_some() || AGENT_FILES.into_iter().chain([AGENT_FOLDER]).any(|path| machine.has(path))
}

/// The storage hosts that the machine's disks are known to be at: the blobs of unmanaged disks, and the hosts that the
/// extension really used last time. A managed disk's host is Azure's choice and known from nowhere else, so none is guessed.
#[must_use]
pub fn storage_hosts(discovery: &Discovery) -> Vec<Host> {
    let disks = discovery.instance.iter().flat_map(|instance| &instance.disks);
    let blobs = disks.filter_map(|disk| {
        let target = Target::parse(disk.uri.as_deref()?, &[443]).ok()?.into_iter().next()?;
        matches!(target.scheme, Scheme::Http | Scheme::Https).then_some(target.host)
    });
    let last = discovery.last_run.iter().flat_map(|run| &run.disks);
    // A log may hold anything; only storage is worth a probe.
    let used = last.filter(|disk| storage::is_storage_name(&disk.host)).filter_map(|disk| disk.host.parse().ok());
    let used: Vec<Host> = used.collect();
    // Where the last run did not go to storage itself, the log may name what it did go to before.
    let named = discovery.logged_hosts.iter().filter(|_| used.is_empty()).filter_map(|host| host.parse().ok());
    let mut hosts: Vec<Host> = Vec::new();
    for host in blobs.chain(used.iter().cloned()).chain(named) {
        if hosts.len() < MAX_HOSTS && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// The build that is installed; the newest where none is known.
fn build(discovery: &Discovery) -> Build {
    let installed = discovery.extension.as_ref().and_then(|extension| Build::from_consumer(&extension.consumer));
    installed.unwrap_or(Build::Current)
}

fn asset_tag(machine: &Machine) -> Option<String> {
    let tag = machine.text(ASSET_TAG_FILE).ok()??;
    (tag.trim() == AZURE_ASSET_TAG).then(|| "a virtual machine of Azure".to_owned())
}

fn read_metadata(metadata: Metadata, sources: &mut Vec<DiscoverySource>) -> Option<Instance> {
    let Metadata { origin, answer } = metadata;
    match answer.and_then(|json| instance(&json)) {
        Ok((instance, problems)) => {
            let mut source = told(&origin, Some(summary(&instance)));
            source.problem = (!problems.is_empty()).then(|| problems.join("; "));
            sources.push(source);
            Some(instance)
        }
        Err(problem) => {
            sources.push(failed(&origin, problem));
            None
        }
    }
}

/// `vm-app1 in westeurope, 3 disks`
fn summary(instance: &Instance) -> String {
    let count = instance.disks.len();
    let [name, region] = [&instance.name, &instance.region].map(|text| if text.is_empty() { "?" } else { text });
    format!("{name} in {region}, {count} disk{}", if count == 1 { "" } else { "s" })
}

fn read_agent_file(places: &Places, sources: &mut Vec<DiscoverySource>) -> Option<crate::model::ExtensionProxy> {
    let Some((path, text)) = &places.agent_file else {
        let problem = "there is no such file, here or where other distributions keep it";
        sources.push(failed(AGENT_FILES[0], problem.into()));
        return None;
    };
    let text = match text {
        Ok(text) => text,
        Err(e) => {
            sources.push(failed(path, format!("cannot be read: {e}")));
            return None;
        }
    };
    let keys = extension_proxy(path, text);
    let by_agent = as_keys(&agent::shown_keys(text));
    let by_extension = as_keys(&[keys.host.clone(), keys.port.clone()]);
    sources.push(told(path, by_agent.clone()));
    if by_agent != by_extension {
        let gave = by_extension.unwrap_or_else(|| "no HttpProxy.Host and no HttpProxy.Port".into());
        sources.push(told(&format!("{path}, as the snapshot extension reads it"), Some(gave)));
    }
    Some(keys)
}

fn as_keys([host, port]: &[Option<String>; 2]) -> Option<String> {
    let keys = [("HttpProxy.Host", host), ("HttpProxy.Port", port)];
    let set: Vec<_> = keys.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?))).collect();
    (!set.is_empty()).then(|| set.join(", "))
}

fn read_environments(machine: &Machine, places: &Places, sources: &mut Vec<DiscoverySource>) {
    for process in &places.processes {
        let origin = format!("/proc/{}/environ", process.id);
        sources.push(match &process.variables {
            Ok(variables) => told(&origin, environment::told(variables)),
            Err(problem) => failed(&origin, problem.clone()),
        });
    }
    sources.extend(places.units.sources.iter().cloned());
    let own: Vec<_> = machine.variables().iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !own.is_empty() {
        let own = environment::proxy_variables(own.iter().map(String::as_str));
        sources.push(told("variables of this process", environment::told(&own)));
    }
    match &places.login_file {
        Ok(None) => {}
        Ok(Some(text)) => {
            sources.push(told(environment::ENVIRONMENT_FILE, environment::told(&environment::login_variables(text))));
        }
        Err(e) => sources.push(failed(environment::ENVIRONMENT_FILE, format!("cannot be read: {e}"))),
    }
}

/// `SnapshotMethod` of the extension's settings file.
fn read_settings(machine: &Machine, sources: &mut Vec<DiscoverySource>) -> Option<String> {
    match machine.text(method::SETTINGS_FILE) {
        Ok(None) => None,
        Ok(Some(text)) => {
            let name = method::snapshot_method(&text).map(|name| name.chars().take(40).collect::<String>());
            let gave = name.as_ref().map(|name| format!("SnapshotMethod={name}"));
            sources.push(told(method::SETTINGS_FILE, gave));
            name
        }
        Err(e) => {
            sources.push(failed(method::SETTINGS_FILE, format!("cannot be read: {e}")));
            None
        }
    }
}

fn told(origin: &str, gave: Option<String>) -> DiscoverySource {
    DiscoverySource { origin: origin.to_owned(), gave, problem: None }
}

fn failed(origin: &str, problem: String) -> DiscoverySource {
    DiscoverySource { origin: origin.to_owned(), gave: None, problem: Some(problem) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LastDisk, LastRun};

    fn tree(name: &str) -> Machine {
        Machine::below(format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR")), [])
    }

    fn unasked() -> Metadata {
        Metadata { origin: "instance metadata".into(), answer: Err("not asked".into()) }
    }

    fn survey(name: &str) -> Survey {
        let json = format!("{}/tests/fixtures/metadata/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let metadata = Metadata { answer: std::fs::read(json).map_err(|e| e.to_string()), ..unasked() };
        Survey::of(&tree(name), metadata, None, false)
    }

    /// Consumer, proxy and source, a line each.
    fn consumers(survey: &Survey) -> Vec<(&str, &str, &str)> {
        let text = |text: &'_ Option<String>| text.clone().map_or("-", |text| &*text.leak());
        let rows = survey.discovery.consumers.iter();
        rows.map(|row| (&*row.consumer, text(&row.proxy), text(&row.source))).collect()
    }

    #[test]
    fn each_consumer_has_its_own_proxy_on_a_machine_set_up_as_documented() {
        let found = survey("vm");
        assert_eq!(
            consumers(&found)[0],
            ("waagent", "http://10.0.0.5:3128", "/etc/waagent.conf"),
            "the file wins over the environment of its process"
        );
        assert_eq!(consumers(&found)[1].1, "-");
        assert_eq!(
            consumers(&found)[2..],
            [("probe", "http://10.0.0.5:3128", "/etc/waagent.conf"), ("shell", "-", "-"),]
        );
        let proxies: Vec<_> = found.proxies.sources.iter().map(|source| source.origin.as_str()).collect();
        assert_eq!(
            proxies,
            [
                "/etc/waagent.conf",
                "/proc/1011/environ (https_proxy)",
                "/proc/1011/environ (http_proxy)",
                "/etc/environment (http_proxy)"
            ]
        );
        assert!(!format!("{found:?}").contains("TOPSECRET"), "{found:?}");
    }

    #[test]
    fn a_host_alone_is_what_the_extension_would_use() {
        let found = survey("vm-host-alone");
        assert_eq!(found.proxies.chosen.as_ref().unwrap().url(), "http://10.0.0.5:3128");
        let keys = found.discovery.extension_proxy.as_ref().unwrap();
        assert_eq!((keys.host.as_deref(), keys.port.as_deref()), (Some("10.0.0.5:3128"), None));
        let rows = consumers(&found);
        assert_eq!(rows[0], ("waagent", "-", "/etc/waagent.conf"));
        assert_eq!(rows[1], ("vmsnapshot-linux", "http://10.0.0.5:3128", "/etc/waagent.conf"));
        assert_eq!(rows[2], ("probe", "http://10.0.0.5:3128", "/etc/waagent.conf, as the snapshot extension reads it"));
    }

    #[test]
    fn spaces_leave_the_extension_without_a_proxy() {
        let found = survey("vm-sles");
        let keys = found.discovery.extension_proxy.as_ref().unwrap();
        assert_eq!((&keys.host, &keys.port), (&None, &None));
        assert_eq!(consumers(&found)[0].1, "http://proxy.corp.example:3128");
        assert_eq!(consumers(&found)[1].1, "-");
        assert_eq!(found.discovery.method.as_ref().unwrap().name, "onlyGuest");
        let told: Vec<_> = found.discovery.sources.iter().map(|source| source.origin.as_str()).collect();
        assert!(told.contains(&"/etc/waagent.conf, as the snapshot extension reads it"), "{told:?}");
    }

    #[test]
    fn only_hosts_that_something_names_are_probed() {
        let hosts =
            |discovery: &Discovery| storage_hosts(discovery).iter().map(ToString::to_string).collect::<Vec<_>>();
        let unmanaged = survey("vm-unmanaged").discovery;
        assert_eq!(hosts(&unmanaged), ["acct.blob.core.windows.net", "oldvhds7.blob.core.windows.net"]);
        let disk = |host: &str| LastDisk { host: host.into(), ..LastDisk::default() };
        let names =
            ["md-x.z1.blob.storage.azure.net", "169.254.169.254", "evil.example", "md-x.z1.blob.storage.azure.net", ""];
        let last_run = LastRun { disks: names.map(disk).into(), ..LastRun::default() };
        let managed = Discovery { instance: None, last_run: Some(last_run), ..survey("vm").discovery };
        assert_eq!(hosts(&managed), ["md-x.z1.blob.storage.azure.net"]);
    }

    #[test]
    fn azure_is_known_by_its_firmware_or_its_agent() {
        assert!(is_azure(&tree("vm")) && is_azure(&tree("vm-host-alone")));
        let described = |path: &str, text: &str| Machine::described([(path.to_owned(), text.to_owned())].into(), []);
        assert!(is_azure(&described("/usr/share/oem/waagent.conf", "")));
        assert!(is_azure(&described("/var/lib/waagent/GoalState.1.xml", "")));
        assert!(!is_azure(&described(ASSET_TAG_FILE, "Default string\n")));
        assert!(!is_azure(&described("/var/lib/waagents", "")));
    }

    #[test]
    fn every_place_says_what_it_gave() {
        let found = survey("vm");
        let sources: Vec<_> = found.discovery.sources.iter().map(|source| source.origin.as_str()).collect();
        for origin in [
            "instance metadata",
            ASSET_TAG_FILE,
            "/etc/waagent.conf",
            "/proc/1011/environ",
            "/proc/742/environ",
            "/usr/lib/systemd/system/walinuxagent.service",
            "/etc/systemd/system/walinuxagent.service.d/10-proxy.conf",
            "/etc/default/walinuxagent",
            "/etc/environment",
            "/etc/azure/vmbackup.conf",
        ] {
            assert!(sources.contains(&origin), "{origin} is not in {sources:?}");
        }
        let gave = |origin: &str| {
            let source = found.discovery.sources.iter().find(|source| source.origin == origin).unwrap();
            source.gave.clone().unwrap_or_default()
        };
        assert_eq!(gave("instance metadata"), "vm-app1 in westeurope, 3 disks");
        assert_eq!(gave("/etc/waagent.conf"), "HttpProxy.Host=10.0.0.5, HttpProxy.Port=3128");
        assert_eq!(gave("/etc/default/walinuxagent"), "http_proxy=http://10.0.0.6:8080");

        let nothing = Survey::of(&Machine::described([].into(), []), unasked(), None, false);
        let sources = nothing.discovery.sources;
        assert_eq!(sources[0].problem.as_deref(), Some("not asked"));
        assert!(sources[1].problem.as_ref().unwrap().contains("no such file"));
    }
}
