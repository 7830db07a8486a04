//! Azure Firewall and firewalls that judge by name.

use super::{facts::Facts, remedy, rule::shell};
use crate::model::Remedy;

/// The FQDN tag where it suffices, else a network rule: the tag works in application rules for HTTPS on port 443 alone.
pub(super) fn allow(f: &Facts) -> Remedy {
    let next = f.files.route.as_ref().and_then(|route| route.next_hop_address);
    let on_the_way = match next {
        Some(address) => format!("In the firewall at {address}"),
        None => "If Azure Firewall is on the way".to_owned(),
    };
    if f.ports() == [443] && f.has_storage() {
        let mut by_tag = remedy(
            format!("{on_the_way}, allow HTTPS by the FQDN tag AzureBackup"),
            collection("ApplicationRule", "--protocols Https=443 --fqdn-tags AzureBackup"),
        );
        by_tag.note = "The tag opens 443 in application rules, neither 80 nor 8443, and nobody publishes its names; \
                       a firewall of another make needs the names."
            .into();
        return by_tag;
    }
    let destinations: Vec<String> = f.destinations().iter().map(|name| shell(name)).collect();
    let mut by_network = remedy(
        format!("{on_the_way}, allow TCP {} to {} by a network rule", f.ports_in_words(), f.goal()),
        collection(
            "NetworkRule",
            &format!(
                "--ip-protocols TCP --destination-addresses {} --destination-ports {}",
                destinations.join(" "),
                f.ports_by(" ")
            ),
        ),
    );
    by_network.note = "The FQDN tag AzureBackup does not do here: it opens 443 alone, neither 80 nor 8443.".into();
    by_network
}

/// For a firewall that reads the server's name.
pub(super) fn allow_name(f: &Facts) -> Remedy {
    let names: Vec<String> = f
        .suffixes()
        .split(' ')
        .map(|name| if name.starts_with('.') { format!("'*{name}'") } else { shell(name) })
        .collect();
    let protocols: Vec<String> =
        f.ports().iter().map(|port| format!("{}={port}", if *port == 80 { "Http" } else { "Https" })).collect();
    let mut allow = remedy(
        format!(
            "Allow these names{} in the firewall on the way",
            if f.has_storage() {
                format!(" (or {} in a network rule, which is asked first)", f.goal())
            } else {
                String::new()
            }
        ),
        collection(
            "ApplicationRule",
            &format!("--protocols {} --target-fqdns {}", protocols.join(" "), names.join(" ")),
        ),
    );
    allow.note = if f.ports() == [443] {
        "A security group cannot see names, so no rule there helps. The FQDN tag AzureBackup would open 443 as well."
            .into()
    } else {
        "A security group cannot see names, so no rule there helps. Nor does the FQDN tag AzureBackup: it opens 443 alone."
            .into()
    };
    allow
}

/// A collection with one allow rule in the firewall's policy.
fn collection(kind: &str, what: &str) -> Vec<String> {
    let name = if kind == "NetworkRule" { "Backup-Storage" } else { "Backup-Names" };
    vec![
        "az network firewall policy rule-collection-group collection add-filter-collection \\".to_owned(),
        "  -g RG --policy-name FIREWALL_POLICY --rcg-name COLLECTION_GROUP \\".to_owned(),
        format!("  -n {name} --collection-priority FREE_PRIORITY --action Allow \\"),
        format!("  --rule-type {kind} --rule-name {name} --source-addresses VM_SUBNET \\"),
        format!("  {what}"),
    ]
}
