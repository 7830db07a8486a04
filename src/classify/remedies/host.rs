//! The platform's host channel.

use super::{facts::Facts, remedy};
use crate::{
    classify::codes,
    model::{Code, Remedy},
};

pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    const METADATA: &str = "169.254.169.254";
    let ask = "sudo curl -sv -m 5 --noproxy '*' 'http://168.63.129.16/?comp=versions'";
    let ask_metadata = format!("curl -sv -m 5 --noproxy '*' -H Metadata:true http://{METADATA}/metadata/versions");
    let only_metadata = !f.hosts.is_empty() && f.hosts.iter().all(|host| host == METADATA);
    match code {
        codes::HOST_UNREACHABLE if only_metadata => vec![remedy(
            format!(
                "Allow TCP 80 to {METADATA} in the guest's firewall or security product, and keep its route on the VM's \
                     own interface; a snapshot works without, other agents do not"
            ),
            [
                ask_metadata,
                format!("ip route get {METADATA}"),
                format!("sudo nft list ruleset | grep -n {METADATA}; sudo iptables -S OUTPUT"),
            ],
        )],
        codes::HOST_UNEXPECTED if only_metadata => vec![remedy(
            format!(
                "Remove what captures {METADATA}: a redirection, a tunnel, another cloud's or a cluster's metadata service"
            ),
            [ask_metadata, format!("ip route get {METADATA}; sudo iptables -t nat -S OUTPUT")],
        )],
        codes::HOST_UNREACHABLE => vec![
            remedy(
                "Allow TCP 80 and 32526 to 168.63.129.16 in the guest's firewall or security product; your NSG does not \
                 apply to it",
                [ask, "sudo nft list ruleset | grep -n 168.63.129.16; sudo iptables -t security -S OUTPUT"],
            ),
            remedy(
                "Give 168.63.129.16 a route over the VM's own interface, if a VPN took over",
                ["ip route get 168.63.129.16", "sudo ip route add 168.63.129.16 via GATEWAY dev eth0"],
            ),
        ],
        codes::HOST_UNEXPECTED => vec![remedy(
            "Remove the redirection or tunnel that captures 168.63.129.16; outside Azure use --no-host",
            [ask, "ip route get 168.63.129.16; sudo iptables -t nat -S OUTPUT"],
        )],
        codes::HOST_PROXIED => vec![remedy(
            "Exclude the platform addresses from every proxy and redirection",
            [
                "no_proxy=168.63.129.16,169.254.169.254",
                "NO_PROXY=168.63.129.16,169.254.169.254",
                "sudo iptables -t nat -I OUTPUT -d 168.63.129.16,169.254.169.254 -j RETURN",
            ],
        )],
        _ => vec![remedy(
            "Run the check as root: the agent's own rule drops everybody else's connections",
            ["sudo snapreach check --host-endpoint 168.63.129.16 TARGET"],
        )],
    }
}
