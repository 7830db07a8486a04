//! Steps that show more: who answers, where it ends, and what passes.

use super::{
    facts::{Facts, bare},
    remedy,
};
use crate::model::Remedy;

pub(super) fn capture(f: &Facts) -> Remedy {
    let (host, port) = if f.is_to_proxy() || f.tunnelled { (&f.proxy_host, f.proxy_port) } else { (&f.host, f.port) };
    remedy(
        "Capture the packets while the check runs; a reset whose TTL differs from the peer's other packets was made \
         on the way",
        [format!("sudo tcpdump -nvi any host {} and port {port}", bare(host))],
    )
}

pub(super) fn smaller_packets(f: &Facts) -> Remedy {
    let host = if f.is_to_proxy() || f.tunnelled { &f.proxy_host } else { &f.host };
    remedy(
        "Find the largest packet that passes, then let ICMP \"fragmentation needed\" through or clamp the segment size \
         on the device that enters the tunnel",
        [
            format!("tracepath -n {}", bare(host)),
            "nft add rule inet filter forward tcp flags syn tcp option maxseg size set rt mtu  # on the router"
                .to_owned(),
        ],
    )
}

pub(super) fn repeat(f: &Facts, options: &str, title: &str) -> Remedy {
    let through =
        if f.tunnelled { format!(" --proxy {} --route proxy", f.proxy) } else { " --route direct".to_owned() };
    remedy(title, [format!("snapreach check {options}{through} {}", f.target)])
}

/// A request as the probe makes it.
pub(super) fn curl(f: &Facts) -> String {
    let through = if f.tunnelled { format!("-x {} ", f.proxy) } else { "--noproxy '*' ".to_owned() };
    let scheme = if f.port == 80 { "http" } else { "https" };
    format!("curl -v {through}{scheme}://{}/", f.target)
}

pub(super) fn who_answers(f: &Facts) -> Remedy {
    remedy(
        "Find out who answers: look at the address, the certificate and the headers",
        [format!("getent ahosts {}", f.host), s_client(f), curl(f)],
    )
}

pub(super) fn who_rejects(f: &Facts) -> Remedy {
    remedy(
        "Find the device after which the connection ends; its owner holds the rule",
        [
            format!("snapreach check --trace {}", f.target),
            format!("sudo traceroute -T -p {} {}", f.port, bare(&f.host)),
        ],
    )
}

pub(super) fn ask_owner(f: &Facts) -> Remedy {
    let (host, port) = if f.is_to_proxy() { (&f.proxy_host, f.proxy_port) } else { (&f.host, f.port) };
    remedy(
        "Ask the owner of the router named, and of the device behind it, for the rule that stops the connection; \
         show them the way",
        [format!("snapreach check -v --trace {}", f.target), format!("sudo traceroute -T -p {port} {}", bare(host))],
    )
}

/// `openssl s_client` for the hop: with the proxy itself, inside the tunnel, or direct.
pub(super) fn s_client(f: &Facts) -> String {
    if f.is_to_proxy() {
        return format!("openssl s_client -connect {}:{} -showcerts </dev/null", f.proxy_host, f.proxy_port);
    }
    let through = if f.tunnelled && !f.is_on_proxy_host() {
        format!("-proxy {}:{} ", f.proxy_host, f.proxy_port)
    } else {
        String::new()
    };
    format!("openssl s_client {through}-connect {} -servername {} -showcerts </dev/null", f.target, f.host)
}

pub(super) fn from_proxy_host(f: &Facts) -> Remedy {
    remedy(
        format!("Repeat the attempt on the proxy's host ({}), where the error has a name", f.proxy_host),
        [
            format!("getent ahosts {}", f.host),
            format!("curl -v --noproxy '*' --connect-timeout 10 https://{}/", f.target),
        ],
    )
}
