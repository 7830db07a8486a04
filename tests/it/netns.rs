//! Hosts of a test's own: network namespaces that it makes, and that disappear with it.

use std::{
    fs::File,
    io::Write,
    process::{Command, Stdio},
};

use nix::{
    sched::{CloneFlags, setns},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::support::{clean, is_root, program, skipped};

/// The hosts of one test, each known by its role. Dropping ends what still runs in them and removes them.
pub(crate) struct Hosts {
    tag: String,
    roles: Vec<String>,
}

impl Hosts {
    /// `None`, with the reason printed, where this machine cannot make any. `test` tells apart the tests of one process.
    pub(crate) fn new<'a>(test: &str, roles: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        if !is_root() {
            skipped("network namespaces need root");
            return None;
        }
        if let Some(tool) = ["ip", "nft", "sysctl"].into_iter().find(|tool| program(tool).is_none()) {
            skipped(&format!("`{tool}` is not installed"));
            return None;
        }
        let mut hosts = Self { tag: format!("sr{}{test}", std::process::id()), roles: Vec::new() };
        for role in roles {
            hosts.roles.push(role.to_owned());
            run(Command::new("ip").args(["netns", "add", &hosts.name(role)]));
            hosts.ip(role, &["link", "set", "lo", "up"]);
        }
        Some(hosts)
    }

    /// The name of the namespace.
    pub(crate) fn name(&self, role: &str) -> String {
        format!("{}-{role}", self.tag)
    }

    /// A program on that host, without the proxies of the machine that runs the tests.
    pub(crate) fn command(&self, role: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        clean(&mut command);
        command.args(["netns", "exec", &self.name(role), program]);
        command
    }

    /// `ip` with these arguments, on that host.
    pub(crate) fn ip(&self, role: &str, arguments: &[&str]) {
        run(Command::new("ip").args(["-n", &self.name(role)]).args(arguments));
    }

    /// Joins two hosts by a cable; each names its end.
    pub(crate) fn cable(&self, (near, near_end): (&str, &str), (far, far_end): (&str, &str)) {
        let far = self.name(far);
        self.ip(near, &["link", "add", "name", near_end, "type", "veth", "peer", "name", far_end, "netns", &far]);
    }

    /// Lets the host forward both families, and answer every error, however many ask at once.
    pub(crate) fn forward(&self, role: &str) {
        let switches = [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.icmp_ratelimit=0",
            "net.ipv6.icmp.ratelimit=0",
        ];
        run(self.command(role, "sysctl").arg("-qw").args(switches));
    }

    /// Adds rules of `nft` to that host.
    pub(crate) fn nft(&self, role: &str, rules: &str) {
        let mut child = self.command(role, "nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "nft refused {rules}");
    }

    /// Does something on a thread of that host. A socket stays where it was made.
    pub(crate) fn inside<T: Send + 'static>(&self, role: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name(role))).unwrap();
        let thread = std::thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            act()
        });
        thread.join().unwrap()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for role in &self.roles {
            let name = self.name(role);
            let left = Command::new("ip").args(["netns", "pids", &name]).output();
            let left = left.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            for pid in left.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
        }
    }
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
