//! The machine that probes, as a scenario describes it: the `[lab.machine]` part of a scenario file.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What discovery finds in place of the real machine. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "scenario", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct MachineSpec {
    /// The files, by absolute path: `/etc/waagent.conf`, `/etc/environment`, `/etc/hosts`, …
    pub files: BTreeMap<String, String>,
    /// The variables of the process.
    pub environment: BTreeMap<String, String>,
    /// Whether the process has the superuser's privilege; default true.
    pub privileged: Option<bool>,
}

impl MachineSpec {
    /// Finds descriptions that parse but mean nothing.
    ///
    /// # Errors
    /// A sentence that names the key and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        if let Some(path) = self.files.keys().find(|path| !path.starts_with('/')) {
            return Err(format!("lab.machine.files: `{path}` must be an absolute path, such as /etc/waagent.conf"));
        }
        if let Some(name) = self.environment.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(format!(
                "lab.machine.environment: `{name}` must be the name of a variable, such as http_proxy"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(toml: &str) -> MachineSpec {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn a_machine_is_files_and_variables() {
        let machine = parse(
            "privileged = false\n[files]\n\"/etc/waagent.conf\" = \"\"\"\nHttpProxy.Host=p\n\"\"\"\n[environment]\n\
             http_proxy = \"http://p:1\"\n",
        );
        assert_eq!(machine.files["/etc/waagent.conf"], "HttpProxy.Host=p\n");
        assert_eq!(machine.environment["http_proxy"], "http://p:1");
        assert_eq!((machine.privileged, machine.check()), (Some(false), Ok(())));
        assert_eq!(parse(""), MachineSpec::default());
        assert!(toml::from_str::<MachineSpec>("flies = {}").unwrap_err().message().contains("`files`"));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (toml, part) in [
            ("files = { \"etc/hosts\" = \"\" }", "absolute path"),
            ("environment = { \"a=b\" = \"\" }", "name of a variable"),
            ("environment = { \"\" = \"\" }", "name of a variable"),
        ] {
            let error = parse(toml).check().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
