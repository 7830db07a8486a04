//! Remedies for every code, hop and product.

use std::collections::BTreeSet;

use super::*;
use crate::{
    classify::{catalogue, codes},
    model::{
        Context, Decision, FlowVerdict, GroupVerdict, Hop, Route, RouteVerdict, RuleRef, Security, Severity,
        SuggestedRule,
    },
};

const HOPS: [Hop; 8] = [
    Hop::Local,
    Hop::ClientToProxy,
    Hop::Proxy,
    Hop::ProxyToOrigin,
    Hop::ClientToOrigin,
    Hop::Origin,
    Hop::Host,
    Hop::Consumer,
];
const PRODUCTS: [Option<&str>; 11] = [
    None,
    Some("squid"),
    Some("tinyproxy"),
    Some("haproxy"),
    Some("nginx"),
    Some("privoxy"),
    Some("cntlm"),
    Some("ncat"),
    Some("pproxy"),
    Some("azure-firewall"),
    Some("never heard of"),
];

fn targets(list: &[&str]) -> Vec<String> {
    list.iter().map(|&t| t.to_owned()).collect()
}

fn context(consumer: &str, flows: Vec<FlowVerdict>) -> Context {
    Context {
        region: Some("West Europe".into()),
        proxy: Some("http://10.0.0.5:3128".into()),
        consumer: consumer.into(),
        method: "firstHostThenGuest".into(),
        security: Some(Security { flows, ..Security::default() }.into()),
        ..Context::default()
    }
}

/// What the files say about a flow to storage.
fn flow(port: u16, denies: bool, suggested: Option<u16>) -> FlowVerdict {
    let decision = if denies { Decision::Denied } else { Decision::Allowed };
    let rule = RuleRef { name: "Deny_All".into(), priority: 1000, allows: !denies, default: false };
    let shadowed = RuleRef { name: "Allow_Storage".into(), priority: 2000, allows: true, default: false };
    FlowVerdict {
        subject: format!("acct.blob.core.windows.net:{port}"),
        address: None,
        port,
        decision,
        groups: vec![GroupVerdict {
            group: "nsg;1".into(),
            attached: "subnet".into(),
            decision,
            rule: Some(rule),
            shadowed: if denies { vec![shadowed] } else { Vec::new() },
        }],
        route: None,
        notes: Vec::new(),
        further: Vec::new(),
        code: None,
        suggestion: denies.then(|| SuggestedRule {
            group: "nsg;1".into(),
            resource_group: Some("rg(prod)".into()),
            name: "Allow-Backup-Storage".into(),
            priority: suggested,
            source: "VirtualNetwork".into(),
            destination: "Storage.WestEurope".into(),
            ports: vec![port],
        }),
    }
}

fn routed(port: u16, next_hop: &str) -> FlowVerdict {
    let next_hop_address = (next_hop == "VirtualAppliance").then(|| "10.0.1.4".parse().unwrap());
    let route =
        RouteVerdict { prefix: "0.0.0.0/0".into(), next_hop: next_hop.into(), next_hop_address, source: "User".into() };
    FlowVerdict { route: Some(route), ..flow(port, false, None) }
}

fn known<'a>(hop: Hop, product: Option<&'a str>, targets: &'a [String], context: &'a Context) -> Situation<'a> {
    let route = match hop {
        Hop::ClientToProxy | Hop::Proxy | Hop::ProxyToOrigin => Some(Route::Proxy),
        _ => Some(Route::Direct),
    };
    Situation { hop, severity: Severity::Error, route, targets, context, product }
}

fn listed(code: Code, hop: Hop, product: Option<&str>, context: &Context) -> Vec<Remedy> {
    let targets = targets(&["acct.blob.core.windows.net:443", "acct.blob.core.windows.net:8443"]);
    remedies(code, &known(hop, product, &targets, context))
}

fn text(remedy: &Remedy) -> String {
    format!("{}\n{}", remedy.title, remedy.commands.join("\n"))
}

fn first(code: Code, hop: Hop, product: Option<&str>) -> String {
    text(&listed(code, hop, product, &context("vmsnapshot-linux", Vec::new()))[0])
}

#[test]
fn every_code_hop_and_product_gives_short_remedies_without_known_placeholders() {
    let targets = targets(&["acct.blob.core.windows.net:443", "md-1.z27.blob.storage.azure.net:8443"]);
    let denied = vec![flow(443, true, Some(900)), flow(8443, true, None)];
    let contexts = [
        context("vmsnapshot-linux", Vec::new()),
        context("waagent", vec![routed(443, "None")]),
        context("vmsnapshot-windows", vec![routed(443, "VirtualAppliance")]),
        context("none", denied),
    ];
    for code in codes::ALL {
        for hop in HOPS {
            for product in PRODUCTS {
                for (route, context) in [None, Some(Route::Direct), Some(Route::Proxy)]
                    .into_iter()
                    .flat_map(|route| contexts.iter().map(move |context| (route, context)))
                {
                    let list = remedies(*code, &Situation { route, ..known(hop, product, &targets, context) });
                    let place = format!("{code} {hop:?} {product:?} {route:?} {}", context.consumer);
                    assert!((1..=MOST).contains(&list.len()), "{place}: {} remedies", list.len());
                    for remedy in &list {
                        assert_sane(remedy, &place);
                    }
                    let titles: BTreeSet<_> = list.iter().map(|remedy| &remedy.title).collect();
                    assert_eq!(titles.len(), list.len(), "{place}: {titles:?}");
                }
            }
        }
    }
}

fn assert_sane(remedy: &Remedy, place: &str) {
    assert!(remedy.title.len() > 10 && !remedy.title.ends_with('.'), "{place}: {}", remedy.title);
    assert!(remedy.title.starts_with(char::is_uppercase), "{place}: {}", remedy.title);
    assert!(remedy.note.is_empty() || remedy.note.ends_with('.'), "{place}: {}", remedy.note);
    let forms = remedy.forms.iter().map(|form| &form.commands);
    for lines in forms.chain([&remedy.commands]) {
        for line in lines.iter().chain([&remedy.title, &remedy.note]) {
            for placeholder in ["HOST", "PROXY:", "<region>", "Storage.REGION", "PORT"] {
                let found = line.contains(placeholder) && !line.starts_with("NO_PROXY");
                assert!(!found, "{place}: {placeholder} in {line}");
            }
            assert!(!line.contains("{}") && !line.contains("{0}") && !line.contains('\n'), "{place}: {line:?}");
        }
        for line in lines {
            assert!(!line.trim().is_empty() && line.chars().count() <= 160, "{place}: {line}");
            // Even numbers of both kinds of quotes: no word of a name ends a command or begins another.
            assert!(line.matches('"').count() % 2 == 0, "{place}: {line}");
        }
        let last = lines.last().map_or("", String::as_str);
        assert!(!last.ends_with(['\\', '|', '`']), "{place}: the last line goes on: {last}");
        let create = lines.iter().any(|line| line.contains("nsg rule create"));
        let number =
            lines.iter().any(|line| line.contains("--priority 900") || line.contains("--priority BELOW_THE_DENY"));
        assert!(!create || number, "{place}: a number that nobody computed: {lines:?}");
    }
}

#[test]
fn nothing_panics_when_nothing_is_known() {
    for code in codes::ALL {
        for hop in HOPS {
            let unknown = Context::default();
            let bare = Situation {
                hop,
                severity: Severity::Error,
                route: None,
                targets: &[],
                context: &unknown,
                product: None,
            };
            let worth = catalogue::find(code.0).unwrap().severity != Severity::Info;
            assert!(!remedies(*code, &bare).is_empty() || !worth, "{code} {hop:?}");
            let odd = targets(&["", ":", "[::1]:443", "[::1", "é:99999", "acct.blob.:1"]);
            let strange = Context { region: Some(String::new()), proxy: Some("x://[::1".into()), ..Context::default() };
            let odd = Situation { targets: &odd, context: &strange, ..bare };
            assert!(!remedies(*code, &odd).is_empty());
        }
    }
}

#[test]
fn a_direct_timeout_opens_exactly_the_failing_ports_for_the_region() {
    let text = first(codes::TCP_CONNECT_TIMEOUT, Hop::ClientToOrigin, None);
    assert!(text.contains("--destination-address-prefixes Storage.westeurope \\"), "{text}");
    assert!(text.ends_with("--destination-port-ranges 443 8443"), "{text}");
    assert!(!text.contains("80-443"));
}

#[test]
fn an_unknown_region_is_quoted_and_has_to_be_filled_in() {
    let targets = targets(&["acct.blob.core.windows.net:443"]);
    let unknown = Context { region: None, ..context("vmsnapshot-linux", Vec::new()) };
    let list = remedies(codes::TCP_CONNECT_TIMEOUT, &known(Hop::ClientToOrigin, None, &targets, &unknown));
    assert!(list[0].title.contains("fill in the region"), "{}", list[0].title);
    assert!(list[0].commands.iter().any(|line| line.contains("'Storage.<region>'")), "{:?}", list[0].commands);
}

#[test]
fn without_the_rules_no_priority_is_invented() {
    let text = first(codes::TCP_CONNECT_TIMEOUT, Hop::ClientToOrigin, None);
    assert!(text.contains("--priority BELOW_THE_DENY ") && text.contains("az network nsg rule list -g RG"), "{text}");
}

#[test]
fn with_the_rules_the_priority_is_theirs_and_names_are_quoted() {
    let denied = vec![flow(443, true, Some(900)), flow(8443, true, Some(950))];
    let context = context("vmsnapshot-linux", denied);
    let list = listed(codes::NSG_DENIED, Hop::ClientToOrigin, None, &context);
    let shown = text(&list[0]);
    assert!(
        shown.starts_with("Allow TCP 443 and 8443 to Storage.WestEurope in nsg;1, above Deny_All (1000)\n"),
        "{shown}"
    );
    assert!(shown.contains("-g 'rg(prod)' --nsg-name 'nsg;1' \\") && shown.contains("--priority 900 "), "{shown}");
    let tools: Vec<&str> = list[0].forms.iter().map(|form| form.tool.as_str()).collect();
    assert_eq!(tools, ["Azure PowerShell", "Terraform"]);
    let timeout = listed(codes::TCP_CONNECT_TIMEOUT, Hop::ClientToOrigin, None, &context);
    assert_eq!(timeout[0], list[0], "the silence has the same cause");
    assert!(timeout.iter().all(|remedy| !text(remedy).contains("fqdn")), "{timeout:#?}");

    let shadowed = listed(codes::NSG_SHADOWED, Hop::ClientToOrigin, None, &context);
    assert!(text(&shadowed[0]).ends_with("-n Allow_Storage --priority 900"), "{shadowed:#?}");
}

#[test]
fn where_no_number_is_free_the_rules_are_listed_first() {
    let context = context("vmsnapshot-linux", vec![flow(443, true, None)]);
    let list = listed(codes::NSG_DENIED, Hop::ClientToOrigin, None, &context);
    assert!(list[0].note.starts_with("No number above"), "{:?}", list[0]);
    assert!(list[0].commands[0].contains("nsg rule list"), "{:?}", list[0]);
}

#[test]
fn behind_groups_that_allow_the_route_decides_what_helps() {
    let best = |next_hop: &str| {
        let context = context("vmsnapshot-linux", vec![routed(443, next_hop)]);
        text(&listed(codes::TCP_CONNECT_TIMEOUT, Hop::ClientToOrigin, None, &context)[0])
    };
    assert!(best("None").contains("--service-endpoints Microsoft.Storage"), "{}", best("None"));
    let appliance = best("VirtualAppliance");
    assert!(appliance.starts_with("In the firewall at 10.0.1.4") && appliance.contains("NetworkRule"), "{appliance}");
    assert!(best("Internet").contains("defaultOutboundAccess"), "{}", best("Internet"));
}

#[test]
fn behind_a_group_that_denies_a_firewall_may_decide_as_well() {
    let denied = FlowVerdict { route: routed(443, "VirtualAppliance").route, ..flow(443, true, Some(900)) };
    let list = listed(codes::NSG_DENIED, Hop::ClientToOrigin, None, &context("vmsnapshot-linux", vec![denied]));
    assert!(text(&list[0]).contains("--priority 900"), "{list:#?}");
    assert!(list[1].title.starts_with("In the firewall at 10.0.1.4"), "{list:#?}");
}

#[test]
fn each_group_that_denies_gets_its_rule() {
    let mut denied = flow(443, true, Some(900));
    denied.further =
        vec![SuggestedRule { group: "nsg2".into(), priority: Some(120), ..denied.suggestion.clone().unwrap() }];
    let list = listed(codes::NSG_DENIED, Hop::ClientToOrigin, None, &context("vmsnapshot-linux", vec![denied.clone()]));
    assert!(text(&list[0]).contains("--priority 900") && text(&list[1]).contains("--nsg-name nsg2"), "{list:#?}");
    denied.subject = "10.0.0.5:3128".into();
    let way = &listed(codes::NSG_DENIED, Hop::ClientToProxy, None, &context("vmsnapshot-linux", vec![denied]))[0];
    assert_eq!(way.commands.iter().filter(|line| line.contains("nsg rule create")).count(), 3, "{way:#?}");
}

#[test]
fn the_fqdn_tag_is_for_443_alone() {
    let tag = |ports: &[u16]| {
        let targets: Vec<String> = ports.iter().map(|port| format!("acct.blob.core.windows.net:{port}")).collect();
        let flows = ports.iter().map(|&port| routed(port, "VirtualAppliance")).collect();
        let context = context("vmsnapshot-linux", flows);
        text(&remedies(codes::TCP_CONNECT_TIMEOUT, &known(Hop::ClientToOrigin, None, &targets, &context))[0])
    };
    assert!(tag(&[443]).contains("--fqdn-tags AzureBackup"));
    for ports in [&[443, 8443][..], &[80]] {
        let text = tag(ports);
        assert!(!text.contains("--fqdn-tags") && text.contains("--destination-addresses Storage.westeurope"), "{text}");
    }
}

#[test]
fn a_proxy_is_no_way_for_who_ignores_it() {
    let last = |consumer: &str| {
        let context = context(consumer, Vec::new());
        listed(codes::TCP_CONNECT_TIMEOUT, Hop::ClientToOrigin, None, &context).pop().unwrap()
    };
    let linux = last("vmsnapshot-linux");
    assert!(linux.note.contains("ignores it since July 2019") && !text(&linux).contains("HttpProxy"), "{linux:#?}");
    let agent = last("waagent");
    assert!(agent.commands.contains(&"HttpProxy.Host=10.0.0.5".to_owned()), "{agent:#?}");
    assert!(agent.commands.contains(&"HttpProxy.Port=3128".to_owned()), "{agent:#?}");
    let tools: Vec<&str> = agent.forms.iter().map(|form| form.tool.as_str()).collect();
    assert_eq!(tools, ["systemd", "Windows, for the system account"]);
    assert!(agent.forms[1].commands.iter().any(|line| line.contains(r"HKU\S-1-5-18\")), "{agent:#?}");
    let windows = text(&last("vmsnapshot-windows"));
    assert!(windows.contains("BcdrAgentPersistentKeys /v SnapshotMethod"), "{windows}");
    let denied = listed(codes::PROXY_HOST_DENIED, Hop::Proxy, Some("squid"), &context("vmsnapshot-linux", Vec::new()));
    assert!(text(&denied[1]).ends_with("--destination-port-ranges 443"), "{denied:#?}");
}

#[test]
fn the_proxys_side_needs_rules_of_its_own() {
    let text = first(codes::TCP_CONNECT_TIMEOUT, Hop::ClientToProxy, None);
    assert!(text.contains("--nsg-name PROXY_NSG") && text.contains("--direction Inbound"), "{text}");
    let way_out = FlowVerdict { subject: "10.0.0.5:3128".into(), ..flow(3128, false, None) };
    let context = context("vmsnapshot-linux", vec![way_out]);
    let allowed = &listed(codes::TCP_CONNECT_TIMEOUT, Hop::ClientToProxy, None, &context)[0];
    assert!(!allowed.commands.iter().any(|line| line.contains("Outbound")), "{allowed:#?}");
}

#[test]
fn the_same_code_on_another_hop_is_another_fix() {
    let to_proxy = first(codes::TCP_CONNECT_TIMEOUT, Hop::ClientToProxy, None);
    assert!(to_proxy.contains("10.0.0.5") && to_proxy.contains("3128") && !to_proxy.contains("Storage"), "{to_proxy}");
    let beyond = first(codes::TCP_CONNECT_TIMEOUT, Hop::ProxyToOrigin, Some("squid"));
    assert!(beyond.contains("proxy's host") && beyond.contains("acct.blob.core.windows.net"), "{beyond}");
    let host = first(codes::TCP_CONNECT_TIMEOUT, Hop::Host, None);
    assert!(host.contains("168.63.129.16"), "{host}");
    let lookup = first(codes::DNS_TIMEOUT, Hop::ClientToProxy, None);
    assert!(lookup.contains("dig 10.0.0.5") && !lookup.contains("blob"), "{lookup}");
}

#[test]
fn the_owner_of_a_router_is_shown_the_way_to_whom_the_trace_went() {
    let direct = first(codes::PATH_BLOCKED_AFTER, Hop::ClientToOrigin, None);
    assert!(direct.ends_with("traceroute -T -p 443 acct.blob.core.windows.net"), "{direct}");
    let to_proxy = first(codes::PATH_BLOCKED_AFTER, Hop::ClientToProxy, None);
    assert!(to_proxy.ends_with("traceroute -T -p 3128 10.0.0.5"), "{to_proxy}");
}

#[test]
fn a_denied_port_is_opened_in_the_product_that_spoke() {
    let squid = first(codes::PROXY_PORT_DENIED, Hop::Proxy, Some("squid"));
    assert!(squid.contains("\nacl SSL_ports port 8443\n") && !squid.contains("port 443"), "{squid}");
    let tinyproxy = first(codes::PROXY_PORT_DENIED, Hop::Proxy, Some("tinyproxy"));
    assert!(tinyproxy.contains("\nConnectPort 443\nConnectPort 8443\n") && !tinyproxy.contains("acl"), "{tinyproxy}");
    let unknown = first(codes::PROXY_PORT_DENIED, Hop::Proxy, None);
    assert!(unknown.contains("# squid: acl") && unknown.contains("# tinyproxy: ConnectPort"), "{unknown}");
}

#[test]
fn the_extension_needs_443_whatever_failed() {
    let targets = targets(&["acct.blob.core.windows.net:8443"]);
    let list = remedies(
        codes::CONSUMER_IGNORES_PROXY,
        &known(Hop::Consumer, None, &targets, &context("vmsnapshot-linux", Vec::new())),
    );
    assert!(list[0].commands.iter().any(|line| line.ends_with("--destination-port-ranges 443")), "{list:?}");
}

#[test]
fn other_targets_than_storage_are_not_opened_by_the_storage_tag() {
    let targets = targets(&["192.0.2.7:443", "[2001:db8::7]:443", "intranet.example:443"]);
    let list = remedies(
        codes::TCP_CONNECT_TIMEOUT,
        &known(Hop::ClientToOrigin, None, &targets, &context("vmsnapshot-linux", Vec::new())),
    );
    let text = list[0].commands.join("\n");
    assert!(text.contains("192.0.2.7") && !text.contains("Storage."), "{text}");
}

#[test]
fn many_ports_stay_readable_and_say_that_there_are_more() {
    let targets: Vec<String> = (1000..1100).map(|port| format!("acct.blob.core.windows.net:{port}")).collect();
    let list = remedies(
        codes::TCP_CONNECT_TIMEOUT,
        &known(Hop::ClientToOrigin, None, &targets, &context("vmsnapshot-linux", Vec::new())),
    );
    assert!(list[0].title.contains("and 88 more"), "{}", list[0].title);
    assert!(list[0].commands.iter().all(|line| line.len() <= 160));
}

#[test]
fn storage_suffixes_of_every_cloud_and_no_others() {
    for (host, suffix) in [
        ("acct.blob.core.windows.net", Some(".blob.core.windows.net")),
        ("md-1.z27.blob.storage.azure.net", Some(".blob.storage.azure.net")),
        ("md-dd-1.z48.disk.storage.azure.net", Some(".disk.storage.azure.net")),
        ("acct.blob.core.chinacloudapi.cn", Some(".blob.core.chinacloudapi.cn")),
        ("acct.blob.core.windows.net.example", None),
        ("example.com", None),
    ] {
        assert_eq!(facts::storage_suffix(host), suffix, "{host}");
    }
}
