//! TCP, and the way that packets take.

use super::{
    facts::Facts,
    host,
    local::local_firewall,
    nsg::{effective, proxy_egress, way_to_proxy},
    observe::{ask_owner, capture, from_proxy_host, repeat, smaller_packets, who_rejects},
    products::{client_allowed, proxy_answers_sooner},
    proxy::{proxy_listens, right_proxy, wants_tls},
    remedy, ways,
};
use crate::{
    classify::codes,
    model::{Code, Hop, Remedy},
};

pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    if f.hop == Hop::Host {
        return host::remedies(codes::HOST_UNREACHABLE, f);
    }
    if f.hop == Hop::Local {
        return vec![local_firewall("these connections"), effective(f)];
    }
    match code {
        codes::PATH_MTU_BLACKHOLE => return vec![smaller_packets(f), capture(f)],
        codes::TCP_FAMILY_BROKEN => {
            return vec![remedy(
                "Repair the broken address family, or prefer IPv4 until then",
                [
                    format!("snapreach check -4 {}", f.target),
                    format!("snapreach check -6 {}", f.target),
                    "echo 'precedence ::ffff:0:0/96  100' | sudo tee -a /etc/gai.conf".to_owned(),
                ],
            )];
        }
        codes::TCP_INTERMITTENT => {
            let mut list = vec![repeat(
                f,
                "--attempts 20 --concurrency 1",
                "Repeat without load; failures only under load point to NAT without free source ports",
            )];
            if f.is_to_proxy() {
                list.push(remedy(
                    "Ask each proxy behind the name or load balancer by itself",
                    [format!("getent ahosts {}", f.proxy_host)],
                ));
            } else if f.is_on_proxy_host() {
                list.push(from_proxy_host(f));
            } else {
                list.push(remedy(
                    "Take storage out of source NAT: a service endpoint or private endpoint on the subnet, or a NAT gateway",
                    ["az network vnet subnet update -g RG --vnet-name VNET -n SUBNET --service-endpoints Microsoft.Storage"],
                ));
            }
            return list;
        }
        _ => {}
    }
    if f.is_to_proxy() {
        return match code {
            codes::TCP_REFUSED => vec![proxy_listens(f), right_proxy(f)],
            codes::TCP_RESET => vec![wants_tls(f), client_allowed(f), capture(f)],
            codes::PATH_BLOCKED_AFTER => vec![ask_owner(f), way_to_proxy(f), right_proxy(f)],
            _ => vec![way_to_proxy(f), proxy_listens(f), right_proxy(f)],
        };
    }
    if f.is_on_proxy_host() {
        let mut list = vec![from_proxy_host(f)];
        if matches!(
            code,
            codes::TCP_CONNECT_TIMEOUT | codes::TCP_PORT_FILTERED | codes::TCP_UNREACHABLE | codes::PATH_BLOCKED_AFTER
        ) {
            list.push(proxy_egress(f));
        }
        // Who was answered at once gains nothing from a shorter wait.
        list.extend(proxy_answers_sooner(f).filter(|_| !matches!(code, codes::TCP_REFUSED | codes::TCP_RESET)));
        return list;
    }
    let mut list = match code {
        // A security group drops in silence: whoever rejects is something else.
        codes::TCP_REFUSED | codes::TCP_ADMIN_PROHIBITED => {
            return vec![local_firewall("connections to storage"), who_rejects(f), ways::around(f)];
        }
        codes::TCP_RESET => return vec![capture(f), effective(f), ways::around(f)],
        codes::PATH_BLOCKED_AFTER => vec![ask_owner(f)],
        codes::TCP_UNREACHABLE => vec![effective(f)],
        _ => Vec::new(),
    };
    list.extend(ways::direct(f));
    list
}
