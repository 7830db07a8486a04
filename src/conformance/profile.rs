//! What is expected of a proxy.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::case::Level;

/// What an estate expects of its proxy: the built-in `azure-backup`, or a TOML file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Ports to which CONNECT must work.
    pub ports: Vec<u16>,
    /// Ports that must work by plain requests (absolute form).
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
            plain_ports: vec![80],
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
    /// The built-in profile of that name, or the one in that file.
    ///
    /// # Errors
    /// A sentence with file, line, key and what is allowed.
    pub fn load(name: &str) -> Result<Self, String> {
        if name == Self::default().name {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(Path::new(name)).map_err(|e| {
            format!("cannot read the profile {name}: {e}; it is a TOML file, or the built-in azure-backup")
        })?;
        toml::from_str(&text).map_err(|e| format!("{name}: {e}"))
    }

    /// The level of a case here.
    #[must_use]
    pub fn level(&self, id: &str, otherwise: Level) -> Level {
        let group = id.split('/').next().unwrap_or(id);
        self.levels.get(id).or_else(|| self.levels.get(group)).copied().unwrap_or(otherwise)
    }

    /// Whether a case does not apply here.
    #[must_use]
    pub fn skips(&self, id: &str) -> bool {
        let group = id.split('/').next().unwrap_or(id);
        self.skip.iter().any(|skipped| skipped == id || skipped == group)
    }
}
