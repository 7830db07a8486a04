//! What is expected of a proxy.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{case::Level, cases::catalogue};
use crate::model::Host;

/// What an estate expects of its proxy: the built-in `azure-backup`, or a TOML file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Ports to which CONNECT must work, of those that are tried: 443, 8443 and 80.
    pub ports: Vec<u16>,
    /// Ports that must work by plain requests (absolute form): 80, or none.
    pub plain_ports: Vec<u16>,
    /// Ports to which CONNECT must stay shut.
    pub denied_ports: Vec<u16>,
    /// Endpoints that must be let through, `HOST:PORT`.
    pub allow: Vec<String>,
    /// Endpoints that must stay shut, `HOST:PORT`.
    pub deny: Vec<String>,
    /// Levels that differ from the catalogue's, by case id or group.
    pub levels: BTreeMap<String, Level>,
    /// Cases or groups that do not apply.
    pub skip: Vec<String>,
    /// Tunnels that must be possible at once.
    pub tunnels: usize,
    /// Milliseconds within which 95 of 100 tunnels must be open.
    pub connect_p95_ms: u64,
}

impl Default for Profile {
    /// What Azure VM backup needs of a proxy: CONNECT to 443 and 8443 for managed disks, nothing else; no login, as neither
    /// agent nor extension can send one.
    fn default() -> Self {
        Self {
            name: "azure-backup".into(),
            ports: vec![443, 8443],
            plain_ports: Vec::new(),
            denied_ports: vec![22, 25],
            allow: Vec::new(),
            deny: Vec::new(),
            levels: BTreeMap::new(),
            skip: Vec::new(),
            tunnels: 2000,
            connect_p95_ms: 1000,
        }
    }
}

impl Profile {
    /// Reads a profile from TOML; what it leaves out is as in `azure-backup`, but for the name.
    ///
    /// # Errors
    /// Where the text is wrong, and what is allowed there.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let told = |e: toml::de::Error| ProfileError {
            at: e.span().map_or(0, |span| span.start),
            message: e.message().trim_end().to_owned(),
            unknown: None,
        };
        let places: Places = toml::from_str(text).map_err(told)?;
        let profile: Self = toml::from_str(text).map_err(told)?;
        places.check()?;
        Ok(if places.name.is_none() { Self { name: name.to_owned(), ..profile } } else { profile })
    }

    /// The level of a case here: as the profile says, else as the ports that it names demand, else the catalogue's.
    #[must_use]
    pub fn level(&self, id: &str, otherwise: Level) -> Level {
        let group = id.split('/').next().unwrap_or(id);
        let said = self.levels.get(id).or_else(|| self.levels.get(group));
        said.or(self.of_ports(id, otherwise).as_ref()).copied().unwrap_or(otherwise)
    }

    /// What an estate does not use cannot keep its backups from working.
    fn of_ports(&self, id: &str, otherwise: Level) -> Option<Level> {
        let (group, name) = id.split_once('/')?;
        match name.strip_prefix("port-").and_then(|port| port.parse().ok()) {
            Some(port) if group == "connect" => Some(if self.ports.contains(&port) { Level::Must } else { Level::May }),
            _ if name == "get-80" => self.plain_ports.contains(&80).then_some(Level::Must),
            _ if group == "headers" && self.plain_ports.is_empty() => Some(otherwise.max(Level::Should)),
            _ => None,
        }
    }

    /// Whether a case does not apply here.
    #[must_use]
    pub fn skips(&self, id: &str) -> bool {
        let group = id.split('/').next().unwrap_or(id);
        self.skip.iter().any(|skipped| skipped == id || skipped == group)
    }
}

/// What is wrong with a profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProfileError {
    /// The byte at which it is.
    pub at: usize,
    /// What is wrong, with the key, and what is allowed.
    pub message: String,
    /// A word that should be the id of a case, or a group.
    pub unknown: Option<String>,
}

/// Every case id and group: what a profile may name.
pub fn names() -> impl Iterator<Item = &'static str> {
    let groups: std::collections::BTreeSet<&str> = catalogue().map(super::case::Case::group).collect();
    groups.into_iter().chain(catalogue().map(|case| case.id))
}

/// The values that serde takes whatever they say, each with its place.
#[derive(Deserialize)]
#[serde(default)]
struct Places {
    name: Option<toml::Value>,
    ports: Spanned<toml::Value>,
    #[serde(rename = "plain-ports")]
    plain_ports: Spanned<toml::Value>,
    allow: Vec<Spanned<toml::Value>>,
    deny: Vec<Spanned<toml::Value>>,
    levels: BTreeMap<Spanned<String>, toml::Value>,
    skip: Vec<Spanned<toml::Value>>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            name: None,
            ports: Spanned::new(0..0, toml::Value::Boolean(true)),
            plain_ports: Spanned::new(0..0, toml::Value::Boolean(true)),
            allow: Vec::new(),
            deny: Vec::new(),
            levels: BTreeMap::new(),
            skip: Vec::new(),
        }
    }
}

impl Places {
    fn check(&self) -> Result<(), ProfileError> {
        let error = |at: usize, message: String, unknown| Err(ProfileError { at, message, unknown });
        if self.ports.get_ref().as_array().is_some_and(Vec::is_empty) {
            return error(self.ports.span().start, "ports: name at least one port, as [443, 8443]".into(), None);
        }
        for (key, list, tried) in
            [("ports", &self.ports, &[443, 8443, 80][..]), ("plain-ports", &self.plain_ports, &[80])]
        {
            let ports = list.get_ref().as_array().into_iter().flatten().filter_map(toml::Value::as_integer);
            if let Some(other) = ports.into_iter().find(|port| !tried.contains(port)) {
                let message = format!("{key}: no case tries port {other}; there are some for {}", words(tried));
                return error(list.span().start, message, None);
            }
        }
        for (key, entries) in [("allow", &self.allow), ("deny", &self.deny)] {
            for entry in entries {
                let text = entry.get_ref().as_str().unwrap_or_default();
                if !is_authority(text) {
                    let message = format!("{key}: write HOST:PORT, as \"acct.blob.core.windows.net:443\"");
                    return error(entry.span().start, message, None);
                }
            }
        }
        let skipped = self.skip.iter().map(|name| ("skip", name.span(), name.get_ref().as_str().unwrap_or_default()));
        let levelled = self.levels.keys().map(|name| ("levels", name.span(), name.get_ref().as_str()));
        for (key, span, name) in skipped.chain(levelled) {
            if names().all(|known| known != name) {
                let message = format!("{key}: there is no case and no group `{name}`");
                return error(span.start, message, Some(name.to_owned()));
            }
        }
        Ok(())
    }
}

fn words(ports: &[i64]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn is_authority(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| host.parse::<Host>().is_ok() && port.parse::<u16>().is_ok_and(|port| port != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_azure_backup_with_what_it_says() {
        let text = "denied-ports = [22, 23, 25]\nallow = [\"acct.blob.core.windows.net:443\", \"[2001:db8::4]:443\"]\n\
                    skip = [\"connect/port-80\"]\n[levels]\ntunnel = \"must\"\n\"connect/port-8443\" = \"may\"\n";
        let profile = Profile::parse("estate", text).unwrap();
        assert_eq!((profile.name.as_str(), profile.ports.as_slice()), ("estate", &[443, 8443][..]));
        assert_eq!(profile.level("tunnel/idle", Level::Should), Level::Must);
        assert_eq!(profile.level("connect/port-8443", Level::Must), Level::May);
        assert!(profile.skips("connect/port-80") && !profile.skips("connect/port-443"));
        assert_eq!(Profile::parse("x", "name = \"given\"").unwrap().name, "given");
    }

    #[test]
    fn what_the_ports_do_not_demand_is_good_to_know_at_most() {
        let level = |text: &str, id: &str, otherwise| Profile::parse("x", text).unwrap().level(id, otherwise);
        assert_eq!(level("", "connect/port-8443", Level::Must), Level::Must);
        assert_eq!(level("ports = [443]", "connect/port-8443", Level::Must), Level::May);
        assert_eq!(level("ports = [443, 80]", "connect/port-80", Level::May), Level::Must);
        assert_eq!(level("", "connect/get-80", Level::Should), Level::Should);
        assert_eq!(level("plain-ports = [80]", "connect/get-80", Level::Should), Level::Must);
        assert_eq!(level("", "headers/range", Level::Must), Level::Should);
        assert_eq!(level("", "headers/via", Level::May), Level::May);
        assert_eq!(level("plain-ports = [80]", "headers/range", Level::Must), Level::Must);
        assert_eq!(
            level("ports = [443]\n[levels]\nconnect = \"should\"", "connect/port-8443", Level::Must),
            Level::Should
        );
    }

    #[test]
    fn errors_are_where_the_word_is() {
        for (text, at, part) in [
            ("prots = [443]", "prots", "`ports`"),
            ("ports = [443, 70000]", "70000", "u16"),
            ("ports = []", "[]", "at least one port"),
            ("ports = [443, 10443]", "[443, 10443]", "no case tries port 10443"),
            ("plain-ports = [8080]", "[8080]", "there are some for 80"),
            ("tunnels = \"many\"", "\"many\"", "usize"),
            ("allow = [\"a:443\", \"acct\"]", "\"acct\"", "HOST:PORT"),
            ("deny = [\"a:0\"]", "\"a:0\"", "HOST:PORT"),
            ("skip = [\"tunel\"]", "\"tunel\"", "no group `tunel`"),
            ("[levels]\n\"tunnel/idel\" = \"must\"", "\"tunnel/idel\"", "no case"),
            ("[levels]\ntunnel = \"always\"", "\"always\"", "`should`"),
            ("ports = [", "", ""),
        ] {
            let error = Profile::parse("x", text).unwrap_err();
            assert!(error.message.contains(part), "{text}: {error:?}");
            assert!(text[error.at..].starts_with(at), "{text}: {error:?}");
        }
    }
}
