//! The environment of the running agent (`/proc/PID/environ`), which it also hands to its extensions.

use super::{Machine, environment};

/// Processes of the agent that are read: it runs two.
const MAX_PROCESSES: usize = 8;

/// A running process of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: u32,
    /// Whether it is the one that handles extensions and makes the agent's requests.
    pub(super) handles_extensions: bool,
    /// Its proxy variables, or why they cannot be read.
    pub(super) variables: Result<Vec<(String, String)>, String>,
}

/// The agent's processes, those that handle extensions first.
pub(super) fn processes(machine: &Machine) -> Vec<Process> {
    let ids = machine.names("/proc").unwrap_or_default();
    let mut ids: Vec<u32> = ids.iter().filter_map(|name| name.parse().ok()).collect();
    ids.sort_unstable();
    let agents = ids.into_iter().filter_map(|id| {
        // A process may end while it is looked at; that is no problem.
        let role = role(&machine.text(&format!("/proc/{id}/cmdline")).ok()??)?;
        let variables = match machine.text(&format!("/proc/{id}/environ")) {
            Ok(text) => Ok(environment::proxy_variables(text.unwrap_or_default().split('\0'))),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Err("reading it needs root".to_owned()),
            Err(e) => Err(format!("cannot be read: {e}")),
        };
        Some(Process { id, handles_extensions: role == Role::ExtensionHandler, variables })
    });
    let mut agents: Vec<_> = agents.take(MAX_PROCESSES).collect();
    agents.sort_by_key(|process| !process.handles_extensions);
    agents
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Daemon,
    ExtensionHandler,
}

/// What a process of the agent does, by its command line (`WALinuxAgent`, `agent.py`): `python3 -u /usr/sbin/waagent -daemon`
/// starts `python3 -u bin/WALinuxAgent-2.9.1.1-py3.8.egg -run-exthandlers`. Any other process is none.
fn role(command_line: &str) -> Option<Role> {
    let mut arguments = command_line.split('\0');
    let is_agent = |argument: &str| {
        let name = argument.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        name == "waagent" || name.starts_with("walinuxagent")
    };
    let program = arguments.next()?;
    let is_python = program.rsplit('/').next().is_some_and(|name| name.starts_with("python"));
    if !is_agent(program) {
        let script = arguments.by_ref().find(|argument| !argument.starts_with('-'))?;
        if !is_python || !is_agent(script) {
            return None;
        }
    }
    arguments.find_map(|argument| match argument.trim_start_matches(['-', '/']) {
        "daemon" => Some(Role::Daemon),
        "run-exthandlers" => Some(Role::ExtensionHandler),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_known_by_its_command_line() {
        let role = |line: &str| role(&line.replace(' ', "\0"));
        assert_eq!(role("/usr/bin/python3 -u /usr/sbin/waagent -daemon "), Some(Role::Daemon));
        assert_eq!(role("/usr/sbin/waagent --daemon"), Some(Role::Daemon));
        let handler =
            "python3 -u /var/lib/waagent/WALinuxAgent-2.15.0.1/bin/WALinuxAgent-2.15.0.1-py3.12.egg -run-exthandlers ";
        assert_eq!(role(handler), Some(Role::ExtensionHandler));
        for other in [
            "",
            "vim /etc/waagent.conf",
            "grep -daemon /usr/sbin/waagent",
            "/usr/bin/python3 -u /usr/sbin/waagent -version",
            "/usr/bin/python3 /opt/tool.py /usr/sbin/waagent -daemon",
            "/usr/bin/python3 -u",
        ] {
            assert_eq!(role(other), None, "{other}");
        }
    }

    #[test]
    fn only_proxy_variables_of_the_agent_are_kept() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vm");
        let found = processes(&Machine::below(root, []));
        assert_eq!(found.iter().map(|process| process.id).collect::<Vec<_>>(), [1011, 742]);
        assert!(found[0].handles_extensions);
        let variables = found[0].variables.as_ref().unwrap();
        let names: Vec<_> = variables.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["https_proxy", "no_proxy", "http_proxy"]);
    }
}
