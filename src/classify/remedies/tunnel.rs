//! What breaks inside a tunnel.

use super::{
    facts::{Facts, Product},
    observe::{capture, from_proxy_host, smaller_packets},
    products::{capacity, do_not_inspect, proxy_log},
    remedy,
};
use crate::{
    classify::codes,
    model::{Code, Remedy},
};

pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    match code {
        codes::TUNNEL_CLOSED => vec![
            proxy_log(f, "Read the proxy's log at that second: a filter by name, or a target that refuses"),
            from_proxy_host(f),
            do_not_inspect(f),
        ],
        codes::TUNNEL_RESET => vec![proxy_log(f, "Look for a crash of the proxy at that second"), capture(f)],
        codes::TUNNEL_SILENT => vec![from_proxy_host(f), capacity(f), smaller_packets(f)],
        codes::TUNNEL_CORRUPTED => vec![remedy(
            "Compare both ends through the proxy again, and take devices out of the path one by one",
            [format!("snapreach proxy {}", f.proxy)],
        )],
        codes::TUNNEL_IDLE_CUT => {
            let lines = match f.product {
                Product::Squid => vec!["read_timeout 2 hours", "# then: squid -k reconfigure"],
                Product::Tinyproxy => vec!["Timeout 7200", "# then: systemctl restart tinyproxy"],
                Product::Haproxy => vec!["timeout tunnel 2h", "# then: systemctl reload haproxy"],
                Product::Privoxy => vec!["socket-timeout 7200"],
                _ => vec!["# haproxy: timeout tunnel 2h", "# squid: read_timeout 2 hours", "# tinyproxy: Timeout 7200"],
            };
            vec![remedy(
                "Lengthen the proxy's limit for idle tunnels, or keep pooled connections idle for at most 45 s",
                lines,
            )]
        }
        codes::TUNNEL_HALF_CLOSE_BROKEN => vec![remedy(
            "Keep the sending side open until the answer is complete; no setting of the proxy changes this",
            Vec::<String>::new(),
        )],
        _ => vec![remedy(
            "Make the client wait for the 200 before it sends into the tunnel; the extension and curl do",
            Vec::<String>::new(),
        )],
    }
}
