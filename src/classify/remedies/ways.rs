//! How storage comes within reach of a machine that cannot reach it: the documented ways are a rule with a service tag, a
//! proxy, and the FQDN tag of Azure Firewall; beside them stands that the host takes the snapshot. Which is best depends
//! on what stops the packets, and on who is to go that way.

use super::{
    agent,
    facts::{Consumer, Facts},
    firewall, nsg, remedy, windows,
};
use crate::model::Remedy;

/// Where the connection ends in silence on the way to storage, best first.
pub(super) fn direct(f: &Facts) -> Vec<Remedy> {
    let mut ways = if f.files.groups_allow { Vec::new() } else { nsg::open(f) };
    ways.extend(behind_the_groups(f));
    ways
}

/// What may be needed behind the security groups as well, and in their place.
pub(super) fn behind_the_groups(f: &Facts) -> Vec<Remedy> {
    let mut ways = Vec::new();
    let firewall_decides = f.files.leads_to(&["VirtualAppliance", "VirtualNetworkGateway"]);
    if f.files.leads_to(&["None"]) {
        ways.push(route_on(f));
    } else if firewall_decides {
        ways.push(firewall::allow(f));
    } else if f.files.groups_allow {
        ways.push(look_behind(f));
    }
    // A firewall is no way out of a group that denies, nor where the packets take another way.
    if f.files.suggested.is_empty() && f.files.route.is_none() {
        ways.push(firewall::allow(f));
    }
    ways.push(around(f));
    ways
}

/// What helps without any packet from the guest to storage; where the consumer would go through one, the proxy.
pub(super) fn around(f: &Facts) -> Remedy {
    match f.consumer {
        Consumer::IgnoresProxy | Consumer::Any => agent::host_takes_snapshot(f),
        Consumer::UsesProxy => agent::through_proxy(f),
        Consumer::Windows => windows::host_takes_snapshot(f),
    }
}

/// A direct way for what a proxy does not let through.
pub(super) fn past_proxy(f: &Facts) -> Remedy {
    // The Linux extension dials 443, whatever the URI says.
    let direct = f.direct(if f.consumer == Consumer::IgnoresProxy { vec![443] } else { f.ports() });
    if direct.files.groups_allow {
        return around(f);
    }
    let Some(mut open) = nsg::open(&direct).into_iter().next() else { return around(f) };
    let allow = open.title.strip_prefix("Allow").unwrap_or(&open.title);
    open.title = format!("Or give the machine a direct way, if it has none: allow{allow}");
    if f.consumer == Consumer::IgnoresProxy {
        open.note = format!("{} The current Linux extension goes direct whatever the proxy lets through.", open.note);
    }
    open
}

/// The route drops what the groups let pass.
fn route_on(f: &Facts) -> Remedy {
    let prefix = f.files.route.as_ref().map_or("0.0.0.0/0", |route| route.prefix.as_str());
    let mut on = remedy(
        format!(
            "Give storage a way past the route {prefix}, whose next hop None drops: a service endpoint on the subnet"
        ),
        [
            "az network vnet subnet show -g RG --vnet-name VNET -n SUBNET --query 'serviceEndpoints[].service'",
            "az network vnet subnet update -g RG --vnet-name VNET -n SUBNET --service-endpoints Microsoft.Storage",
        ],
    );
    on.note = "It opens storage alone, past every route and firewall; name the endpoints that the subnet has already, \
               for the list is replaced, and let the account's network rules name the subnet."
        .into();
    on.forms = vec![super::form(
        "A route in place of it",
        [
            "az network route-table route create -g RG --route-table-name ROUTES -n Storage \\".to_owned(),
            format!("  --address-prefix {} --next-hop-type Internet", super::rule::shell(&f.tag())),
        ],
    )];
    on
}

/// The groups given let it pass, and nothing shows what does not.
fn look_behind(f: &Facts) -> Remedy {
    let mut look = remedy(
        "Look behind the security groups, which allow it: the route, and whether the subnet has a way out at all",
        [
            "az network nic show-effective-route-table -g RG -n NIC -o table",
            "az network vnet subnet show -g RG --vnet-name VNET -n SUBNET --query defaultOutboundAccess",
        ],
    );
    look.note = match &f.files.route {
        Some(route) => format!("The route {} leads to {}.", route.prefix, route.next_hop),
        None => "None drops, VirtualAppliance means that a firewall decides; without outbound access a NAT gateway is \
                 missing, or a service endpoint."
            .to_owned(),
    };
    look
}
