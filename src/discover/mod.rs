//! What a machine says about its proxies, names, disks and backups: parsers over text, pure, and thin readers of a
//! [`Machine`].
//!
//! Every place that names a proxy is kept, also the unusable ones with the reason, because a place that is silently
//! ignored is what makes two programs on one machine take different ways. No problem text ever holds a password.

mod agent;
mod consumers;
mod environment;
mod extension;
mod hosts;
mod instance;
mod machine;
mod method;
mod process;
mod survey;
mod units;
pub mod windows;

pub use agent::{AGENT_FILES, agent_file, extension_file, extension_proxy, misread_by_extension};
pub use environment::{
    ENVIRONMENT_FILE, captures, captures_of_file, environment, environment_file, excepts, excepts_host, no_proxy,
};
pub use extension::{Extension, read as extension};
pub use hosts::{hosts_file, pinned};
pub use instance::instance;
pub use machine::Machine;
pub use survey::{Metadata, Survey, is_azure, storage_hosts};

use std::io;

use self::{process::Process, units::Units};
use crate::{
    model::{Context, MisreadLine, ProxyCapture, ProxySource},
    plan::Proxy,
};

/// A place that names a proxy, with the proxy in usable form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The place, for the record.
    pub source: ProxySource,
    /// What it names; `None` when it cannot be used.
    pub proxy: Option<Proxy>,
}

impl Found {
    /// A usable source.
    #[must_use]
    pub fn usable(origin: impl Into<String>, proxy: Proxy) -> Self {
        let source = ProxySource { origin: origin.into(), proxy: Some(proxy.url()), problem: None };
        Self { source, proxy: Some(proxy) }
    }

    /// A source that cannot be used, and why.
    #[must_use]
    pub fn unusable(origin: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { source: ProxySource { origin: origin.into(), proxy: None, problem: Some(problem.into()) }, proxy: None }
    }
}

/// What the machine says about proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// Every place that names one, in order of precedence.
    pub sources: Vec<ProxySource>,
    /// The first usable one.
    pub chosen: Option<Proxy>,
    /// The exceptions that the environment asks for. Kept as context: they do not change what is probed.
    pub no_proxy: Option<String>,
    /// Lines of the agent's file that the snapshot extension reads otherwise.
    pub misread: Vec<MisreadLine>,
    /// Variables that would send addresses of the platform to a proxy.
    pub captured: Vec<ProxyCapture>,
}

impl Proxies {
    /// Takes the places in order of precedence.
    #[must_use]
    pub fn choose(found: impl IntoIterator<Item = Found>) -> Self {
        let mut proxies = Self::default();
        for Found { source, proxy } in found {
            proxies.sources.push(source);
            proxies.chosen = proxies.chosen.or(proxy);
        }
        proxies
    }

    /// Reads a machine: an explicit proxy first, then the agent's file (also as the snapshot extension reads it), the
    /// agent's environment, the variables of this process, and the login environment. What cannot be read becomes an
    /// unusable source.
    #[must_use]
    pub fn read(machine: &Machine, explicit: impl IntoIterator<Item = Found>) -> Self {
        Self::of(&Places::read(machine), machine.variables(), explicit)
    }

    fn of(places: &Places, variables: &[(String, String)], explicit: impl IntoIterator<Item = Found>) -> Self {
        let mut found: Vec<Found> = explicit.into_iter().collect();
        let mut misread = Vec::new();
        match &places.agent_file {
            Some((path, Ok(text))) => {
                found.extend(agent_file(path, text));
                found.extend(extension_file(path, text));
                misread = misread_by_extension(path, text);
            }
            Some((path, Err(e))) => found.push(unreadable(path, e)),
            None => {}
        }
        found.extend(places.agent_variables().into_iter().flat_map(|(name, value, origin)| {
            environment(&[(name, value)]).into_iter().map(move |mut found| {
                found.source.origin = format!("{origin} ({})", found.source.origin);
                found
            })
        }));
        found.extend(environment(variables));
        let mut captured: Vec<_> = captures(variables).into_iter().collect();
        match &places.login_file {
            Ok(None) => {}
            Ok(Some(text)) => {
                found.extend(environment_file(ENVIRONMENT_FILE, text));
                captured.extend(captures_of_file(ENVIRONMENT_FILE, text));
            }
            Err(e) => found.push(unreadable(ENVIRONMENT_FILE, e)),
        }
        Self { no_proxy: no_proxy(variables), misread, captured, ..Self::choose(found) }
    }

    /// Puts into the context what the classifier judges.
    pub fn describe(&self, context: &mut Context) {
        context.proxy_sources.clone_from(&self.sources);
        context.misread_agent_file.clone_from(&self.misread);
        context.proxy_captures.clone_from(&self.captured);
    }
}

/// The places that may name a proxy, read once.
struct Places {
    /// The first of the agent's files that is there.
    agent_file: Option<(&'static str, io::Result<String>)>,
    /// The agent's processes, those that make its requests first.
    processes: Vec<Process>,
    units: Units,
    login_file: io::Result<Option<String>>,
}

impl Places {
    fn read(machine: &Machine) -> Self {
        let agent_file = AGENT_FILES.into_iter().find_map(|path| Some((path, machine.text(path).transpose()?)));
        Self {
            agent_file,
            processes: process::processes(machine),
            units: units::units(machine),
            login_file: machine.text(ENVIRONMENT_FILE),
        }
    }

    /// The proxy variables of the agent with the place of each: those of the running process where they can be read, else
    /// those that its unit would give it.
    fn agent_variables(&self) -> Vec<(String, String, String)> {
        match self.processes.iter().find_map(|process| Some((process.id, process.variables.as_ref().ok()?))) {
            Some((id, variables)) => {
                let place = format!("/proc/{id}/environ");
                variables.iter().map(|(name, value)| (name.clone(), value.clone(), place.clone())).collect()
            }
            None => self.units.variables.clone(),
        }
    }
}

fn unreadable(path: &str, error: &io::Error) -> Found {
    Found::unusable(path, format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn precedence_is_explicit_then_agent_then_variables_then_login_environment() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "/etc/waagent.conf", "HttpProxy.Host=agent\nHttpProxy.Port=1\n");
        write(root.path(), "/etc/environment", "http_proxy=http://login:3\n");
        let env = variables(&[("https_proxy", "http://variable:2"), ("no_proxy", "168.63.129.16")]);
        let explicit = Found::usable("--proxy", "http://flag:9".parse().unwrap());

        let all = Proxies::read(&Machine::below(root.path(), env.clone()), Some(explicit));
        let origins: Vec<_> = all.sources.iter().map(|s| s.origin.as_str()).collect();
        assert_eq!(origins, ["--proxy", "/etc/waagent.conf", "https_proxy", "/etc/environment (http_proxy)"]);
        assert_eq!(all.chosen.unwrap().url(), "http://flag:9");
        assert_eq!(all.no_proxy.as_deref(), Some("168.63.129.16"));

        assert_eq!(
            Proxies::read(&Machine::below(root.path(), env.clone()), None).chosen.unwrap().url(),
            "http://agent:1"
        );
        fs::remove_file(root.path().join("etc/waagent.conf")).unwrap();
        assert_eq!(
            Proxies::read(&Machine::below(root.path(), env.clone()), None).chosen.unwrap().url(),
            "http://variable:2"
        );
        assert_eq!(Proxies::read(&Machine::below(root.path(), []), None).chosen.unwrap().url(), "http://login:3");
    }

    #[test]
    fn an_unusable_source_is_kept_and_the_next_one_chosen() {
        let env = variables(&[("https_proxy", "http://svc:TOPSECRET@proxy"), ("http_proxy", "http://proxy:3128")]);
        let root = tempfile::tempdir().unwrap();
        let found = Proxies::read(&Machine::below(root.path(), env.clone()), None);
        assert_eq!(found.chosen.unwrap().url(), "http://proxy:3128");
        assert!(found.sources[0].problem.as_ref().unwrap().contains("needs a port"));
        assert!(!format!("{:?}", found.sources).contains("TOPSECRET"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_problem_and_a_missing_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Proxies::read(&Machine::below(root.path(), []), None), Proxies::default());
        fs::create_dir_all(root.path().join("etc/waagent.conf")).unwrap();
        let found = Proxies::read(&Machine::below(root.path(), []), None);
        assert!(found.sources[0].problem.as_ref().unwrap().starts_with("cannot be read"), "{found:?}");
        assert_eq!(found.chosen, None);
    }

    #[test]
    fn the_agent_file_of_another_distribution_is_found() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "/usr/share/oem/waagent.conf", "HttpProxy.Host=10.0.0.5\nHttpProxy.Port=3128\n");
        let found = Proxies::read(&Machine::below(root.path(), []), None);
        assert_eq!(found.sources[0].origin, "/usr/share/oem/waagent.conf");
        assert_eq!(found.chosen.unwrap().url(), "http://10.0.0.5:3128");
    }

    #[test]
    fn a_described_machine_has_what_is_described_and_nothing_else() {
        let files = [
            ("/etc/waagent.conf", "HttpProxy.Host = agent\nHttpProxy.Port=1\n"),
            ("/etc/environment", "http_proxy=http://login:3\n"),
            ("/etc/hosts", "10.0.0.4 acct.blob.core.windows.net\n"),
        ];
        let files: BTreeMap<_, _> = files.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
        let machine = Machine::described(files, variables(&[("http_proxy", "http://variable:2")]));

        let mut context = Context::default();
        let proxies = Proxies::read(&machine, None);
        proxies.describe(&mut context);
        assert_eq!(proxies.chosen.unwrap().url(), "http://agent:1");
        assert_eq!(context.proxy_sources.len(), 3);
        assert_eq!(context.misread_agent_file[0].place, "/etc/waagent.conf:1");
        let origins: Vec<_> = context.proxy_captures.iter().map(|capture| capture.origin.as_str()).collect();
        assert_eq!(origins, ["http_proxy", "/etc/environment (http_proxy)"]);
        assert_eq!(pinned(&machine)["acct.blob.core.windows.net"].line, 1);

        let bare = Machine::described(BTreeMap::new(), []);
        assert_eq!(Proxies::read(&bare, None), Proxies::default());
        assert!(pinned(&bare).is_empty());
    }
}
