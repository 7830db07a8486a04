//! What this machine says about its proxies: parsers over text, pure, and one thin reader.
//!
//! Every place that names a proxy is kept, also the unusable ones with the reason, because a place that is silently
//! ignored is what makes two programs on one machine take different ways. No problem text ever holds a password.

mod agent;
mod environment;

use std::{fs, io::ErrorKind, path::Path};

pub use agent::{AGENT_FILES, agent_file};
pub use environment::{ENVIRONMENT_FILE, environment, environment_file, no_proxy};

use crate::{model::ProxySource, plan::Proxy};

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

    /// Reads the machine below `root`: an explicit proxy first, then the agent's file, the `variables` of this process,
    /// and the login environment. What cannot be read becomes an unusable source.
    #[must_use]
    pub fn read(root: &Path, variables: &[(String, String)], explicit: Option<Found>) -> Self {
        let agent = AGENT_FILES.iter().find_map(|path| text_of(root, path, agent_file)).unwrap_or_default();
        let login = text_of(root, ENVIRONMENT_FILE, environment_file).unwrap_or_default();
        let found = explicit.into_iter().chain(agent).chain(environment(variables)).chain(login);
        Self { no_proxy: no_proxy(variables), ..Self::choose(found) }
    }
}

/// Parses the file at `path` below `root`; `None` when there is none.
fn text_of(root: &Path, path: &str, parse: impl FnOnce(&str, &str) -> Vec<Found>) -> Option<Vec<Found>> {
    match fs::read(root.join(path.trim_start_matches('/'))) {
        Ok(bytes) => Some(parse(path, &String::from_utf8_lossy(&bytes))),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        Err(e) => Some(vec![Found::unusable(path, format!("cannot be read: {e}"))]),
    }
}

#[cfg(test)]
mod tests {
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

        let all = Proxies::read(root.path(), &env, Some(explicit));
        let origins: Vec<_> = all.sources.iter().map(|s| s.origin.as_str()).collect();
        assert_eq!(origins, ["--proxy", "/etc/waagent.conf", "https_proxy", "/etc/environment (http_proxy)"]);
        assert_eq!(all.chosen.unwrap().url(), "http://flag:9");
        assert_eq!(all.no_proxy.as_deref(), Some("168.63.129.16"));

        assert_eq!(Proxies::read(root.path(), &env, None).chosen.unwrap().url(), "http://agent:1");
        fs::remove_file(root.path().join("etc/waagent.conf")).unwrap();
        assert_eq!(Proxies::read(root.path(), &env, None).chosen.unwrap().url(), "http://variable:2");
        assert_eq!(Proxies::read(root.path(), &[], None).chosen.unwrap().url(), "http://login:3");
    }

    #[test]
    fn an_unusable_source_is_kept_and_the_next_one_chosen() {
        let env = variables(&[("https_proxy", "http://svc:TOPSECRET@proxy"), ("http_proxy", "http://proxy:3128")]);
        let root = tempfile::tempdir().unwrap();
        let found = Proxies::read(root.path(), &env, None);
        assert_eq!(found.chosen.unwrap().url(), "http://proxy:3128");
        assert!(found.sources[0].problem.as_ref().unwrap().contains("needs a port"));
        assert!(!format!("{:?}", found.sources).contains("TOPSECRET"));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_problem_and_a_missing_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Proxies::read(root.path(), &[], None), Proxies::default());
        fs::create_dir_all(root.path().join("etc/waagent.conf")).unwrap();
        let found = Proxies::read(root.path(), &[], None);
        assert!(found.sources[0].problem.as_ref().unwrap().starts_with("cannot be read"), "{found:?}");
        assert_eq!(found.chosen, None);
    }

    #[test]
    fn the_agent_file_of_another_distribution_is_found() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "/usr/share/oem/waagent.conf", "HttpProxy.Host=10.0.0.5\nHttpProxy.Port=3128\n");
        let found = Proxies::read(root.path(), &[], None);
        assert_eq!(found.sources[0].origin, "/usr/share/oem/waagent.conf");
        assert_eq!(found.chosen.unwrap().url(), "http://10.0.0.5:3128");
    }
}
