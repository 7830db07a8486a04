//! Names.

use super::{
    facts::{Facts, storage_suffix},
    local::local_firewall,
    nsg, remedy,
};
use crate::{
    classify::codes,
    model::{Code, Remedy},
};

pub(super) fn remedies(code: Code, f: &Facts) -> Vec<Remedy> {
    // To the proxy, its own name is looked up; beyond the proxy, its resolver does the lookup.
    let (name, place) = if f.is_to_proxy() {
        (&f.proxy_host, "")
    } else {
        (&f.host, if f.is_on_proxy_host() { "on the proxy's host, " } else { "" })
    };
    let azure = format!("dig {name} @168.63.129.16");
    let compare = |title: &str| {
        remedy(
            format!("{place}{title}"),
            ["resolvectl dns; cat /etc/resolv.conf".to_owned(), format!("dig {name}"), azure.clone()],
        )
    };
    let zone = [
        "az network private-dns record-set a list -g RG -z privatelink.blob.core.windows.net -o table",
        "az network private-dns link vnet list -g RG -z privatelink.blob.core.windows.net -o table",
    ];
    let list = match code {
        codes::DNS_NXDOMAIN | codes::DNS_NODATA => {
            let mut list = Vec::new();
            if storage_suffix(name).is_some() {
                list.push(remedy(
                    "Add the account's record to the linked private zone, or unlink the zone, if the alias chain ends \
                     in privatelink",
                    zone,
                ));
            }
            list.push(compare("check the spelling of the name and which server answers it"));
            list
        }
        codes::DNS_PRIVATELINK_PUBLIC => vec![
            remedy(
                "Link the private DNS zone to this network; every account with a private endpoint then needs a record \
                 in it",
                [
                    "az network private-dns link vnet create -g RG -z privatelink.blob.core.windows.net -n LINK \\",
                    "  -v VNET_ID -e false",
                ],
            ),
            remedy("If this network has its own DNS servers, make them forward to 168.63.129.16", [azure.clone()]),
        ],
        codes::DNS_REFUSED => vec![
            remedy(
                "Allow this machine's subnet to query and to recurse on the name server",
                [
                    "# bind: allow-query { VM_SUBNET; }; allow-recursion { VM_SUBNET; };",
                    "# unbound: access-control: VM_SUBNET allow",
                ],
            ),
            compare("point the machine at a server that serves it"),
        ],
        codes::DNS_TIMEOUT | codes::DNS_UNREACHABLE => vec![
            compare("find out which configured name server is dead and whether Azure's own answers"),
            local_firewall("UDP and TCP port 53"),
        ],
        codes::DNS_SINKHOLE => vec![remedy(
            format!("Exempt {} in the filtering name server", f.suffixes()),
            [azure.clone(), format!("grep -n {name} /etc/hosts")],
        )],
        codes::DNS_RESOLVER_MISMATCH => vec![remedy(
            format!("{place}find out which source the system uses, and make all servers answer alike"),
            [format!("getent ahosts {name}"), format!("resolvectl query {name}"), "resolvectl flush-caches".to_owned()],
        )],
        codes::DNS_PRIVATE_ADDRESS => vec![nsg::effective(f)],
        codes::DNS_MALFORMED | codes::DNS_RCODE => vec![remedy(
            format!("{place}find out whether a device rewrites DNS on port 53"),
            [format!("dig {name}"), format!("dig +noedns {name}"), format!("dig +tcp {name}")],
        )],
        _ => vec![compare("find out which name server fails and why; its upstream must be reachable")],
    };
    list.into_iter().map(|r| Remedy { title: capitalised(&r.title), ..r }).collect()
}

pub(super) fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
