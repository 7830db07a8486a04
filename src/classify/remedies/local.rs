//! This machine before any packet, and rules on the machine itself.

use super::{facts::Facts, remedy};
use crate::{
    classify::codes,
    model::{Code, Remedy},
};

pub(super) fn local_firewall(what: &str) -> Remedy {
    remedy(
        format!("Look for a rule on this machine itself that drops or rejects {what}"),
        [
            "sudo nft list ruleset",
            "sudo iptables -S OUTPUT",
            "Get-NetFirewallRule -Direction Outbound -Action Block -Enabled True  # Windows",
        ],
    )
}

pub(super) fn fix_clock() -> Remedy {
    remedy(
        "Set the clock right and keep it right, with the host's clock as the source",
        ["timedatectl; chronyc tracking", "sudo chronyc makestep", "w32tm /resync /force  # Windows"],
    )
}

pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::LOCAL_FD_EXHAUSTED => vec![
            remedy(
                "Raise the limit for open files in this shell, or probe less at once",
                ["ulimit -n 65535".to_owned(), format!("snapreach check --concurrency 64 {}", f.target)],
            ),
            remedy("Find who holds the descriptors, if the whole machine has run out", ["cat /proc/sys/fs/file-nr"]),
        ],
        codes::LOCAL_PORTS_EXHAUSTED => vec![
            remedy(
                "Widen the range of source ports, or end the program that holds them",
                [
                    "ss -s; sysctl net.ipv4.ip_local_port_range",
                    "sudo sysctl -w net.ipv4.ip_local_port_range=\"10240 65000\"",
                    "netsh int ipv4 set dynamicport tcp start=10000 num=55000  # Windows",
                ],
            ),
            remedy("Check that the address given with --bind belongs to this machine", ["ip -brief address"]),
        ],
        codes::LOCAL_NO_BUFFERS => vec![remedy(
            "Find the program whose connections use up the socket memory; raise the limit only if memory is free",
            ["cat /proc/net/sockstat; sysctl net.ipv4.tcp_mem; free -m", "ss -tnm | head"],
        )],
        codes::LOCAL_DENIED => vec![
            remedy(
                "Find the policy of this machine that forbids the connection: a prohibit route, SELinux, AppArmor or a \
                 filter of the service",
                [
                    "ip route show table all type prohibit",
                    "sudo ausearch -m avc -ts recent; sudo journalctl -k | grep -i apparmor",
                    "Get-NetFirewallRule -Direction Outbound -Action Block -Enabled True  # Windows",
                ],
            ),
            remedy(
                "Repeat the check as root: what stops your account need not stop the agent",
                [format!("sudo snapreach check {}", f.target)],
            ),
        ],
        codes::LOCAL_NO_ROUTE => vec![remedy(
            "Restore the default route: the address and the route come by DHCP, which must stay enabled in the guest",
            [
                "ip route show default; ip -brief address",
                "sudo networkctl renew eth0  # or: nmcli device reapply eth0, dhclient -v eth0",
                "ipconfig /renew  # Windows",
            ],
        )],
        codes::LOCAL_NETWORK_DOWN => vec![remedy(
            "Bring the interface up",
            ["ip -brief link", "sudo ip link set eth0 up", "Enable-NetAdapter -Name 'Ethernet'  # Windows"],
        )],
        codes::LOCAL_FAMILY_UNSUPPORTED => vec![remedy(
            "Probe IPv4 alone, or enable IPv6 on this machine if it is really needed",
            [format!("snapreach check -4 {}", f.target), "grep -o 'ipv6.disable=1' /proc/cmdline".to_owned()],
        )],
        _ => vec![fix_clock()],
    }
}
