use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{Decision, FlowVerdict};

fn read(files: &[(&str, Value)]) -> Compiled {
    let texts: Vec<(&str, String)> = files.iter().map(|(name, value)| (*name, value.to_string())).collect();
    let files: Vec<(&str, &[u8])> = texts.iter().map(|(name, text)| (*name, text.as_bytes())).collect();
    Compiled::new(Policy::read(&files).unwrap())
}

fn error(name: &str, text: &str) -> String {
    Policy::read(&[(name, text.as_bytes())]).unwrap_err().to_string()
}

/// A rule in the flat dialect.
fn rule(name: &str, priority: u16, access: &str, to: &str, ports: &[&str]) -> Value {
    json!({
        "name": name, "priority": priority, "direction": "Outbound", "access": access, "protocol": "Tcp",
        "sourceAddressPrefix": "*", "sourceAddressPrefixes": [], "sourcePortRange": "*", "sourcePortRanges": [],
        "destinationAddressPrefix": to, "destinationAddressPrefixes": [],
        "destinationPortRange": null, "destinationPortRanges": ports,
    })
}

fn tag_list() -> Value {
    let tag = |name: &str, region: &str, prefixes: &[&str]| {
        json!({"name": name, "id": name, "properties": {"changeNumber": 1, "region": region, "regionId": 18,
            "platform": "Azure", "systemService": "AzureStorage", "addressPrefixes": prefixes}})
    };
    json!({"changeNumber": 7, "cloud": "Public", "values": [
        tag("Storage.WestEurope", "westeurope", &["20.60.0.0/24", "20.150.8.0/23", "2603:1020:206::/48"]),
        tag("Storage.NorthEurope", "northeurope", &["20.38.102.0/23"]),
        tag("Storage", "", &["20.60.0.0/24", "20.150.8.0/23", "20.38.102.0/23", "2603:1020:206::/48"]),
        tag("AzureCloud.centralfrance", "centralfrance", &["20.40.0.0/16"]),
        tag("AzureBackup", "", &["40.70.147.0/24"]),
    ]})
}

fn ask(destination: Destination<'_>, port: u16) -> Question<'_> {
    Question {
        subject: "target",
        destination,
        port,
        protocol: Protocol::Tcp,
        source: None,
        region: None,
        storage: false,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn to_tag(policy: &Compiled, tag: &str, port: u16) -> FlowVerdict {
    policy.judge(&Question { storage: true, region: Some("westeurope"), ..ask(Destination::Tag(tag), port) })
}

fn decider(verdict: &FlowVerdict) -> Option<&str> {
    verdict.groups[0].rule.as_ref().map(|rule| rule.name.as_str())
}

#[test]
fn a_list_of_rules_gets_its_default_rules() {
    let policy = read(&[("nsg.json", json!([rule("Deny_443", 200, "Deny", "Internet", &["443"])]))]);
    assert!(policy.policy().notes()[0].contains("without its default rules"), "{:?}", policy.policy().notes());
    let verdict = to_tag(&policy, "Storage.WestEurope", 443);
    assert_eq!((verdict.decision, decider(&verdict)), (Decision::Denied, Some("Deny_443")));
    let verdict = to_tag(&policy, "Storage.WestEurope", 8443);
    assert_eq!((verdict.decision, decider(&verdict)), (Decision::Allowed, Some("AllowInternetOutBound")));
}

#[test]
fn a_range_that_misses_a_port_is_told_and_the_rule_to_add_is_free_and_above() {
    let rules = json!([
        rule("Allow_Range", 200, "Allow", "Storage.WestEurope", &["80-443"]),
        rule("Taken", 990, "Allow", "10.0.0.5", &["3128"]),
        rule("Deny_All", 1000, "Deny", "*", &["*"]),
    ]);
    let policy = read(&[("nsg.json", rules)]);
    for port in [80, 443] {
        assert_eq!(to_tag(&policy, "storage.westeurope", port).decision, Decision::Allowed, "{port}");
    }
    let verdict = to_tag(&policy, "Storage.westeurope", 8443);
    assert_eq!(verdict.code.as_deref(), Some("nsg.port_excluded"));
    assert!(verdict.notes.iter().any(|note| note.contains("80-443") && note.contains("8443")), "{:?}", verdict.notes);
    let rule = verdict.suggestion.unwrap();
    assert_eq!((rule.priority, rule.destination.as_str(), rule.ports), (Some(980), "Storage.WestEurope", vec![8443]));
}

#[test]
fn addresses_are_looked_up_in_the_list_of_service_tags() {
    let rules = json!([
        rule("Allow_NE", 200, "Allow", "Storage.NorthEurope", &["443"]),
        rule("Deny_All", 1000, "Deny", "Internet", &["*"]),
    ]);
    let policy = read(&[("nsg.json", rules), ("tags.json", tag_list())]);
    let question = |to| Question { storage: true, ..ask(Destination::Address(ip(to)), 443) };
    assert_eq!(policy.judge(&question("20.38.102.7")).decision, Decision::Allowed);
    let verdict = policy.judge(&question("20.60.0.4"));
    assert_eq!((verdict.decision, verdict.code.as_deref()), (Decision::Denied, Some("nsg.denied")));
    assert!(verdict.notes.iter().any(|note| note.contains("Allow_NE (200) is for Storage.NorthEurope")));
    assert_eq!(verdict.suggestion.unwrap().destination, "Storage.WestEurope");
    let elsewhere = policy.judge(&Question { region: Some("northeurope"), ..question("20.60.0.4") });
    let note = "the address is in Storage.WestEurope, not in Storage.NorthEurope";
    assert!(elsewhere.notes.iter().any(|told| told == note), "{:?}", elsewhere.notes);
    assert!(error("nsg.json", "[1]").contains("nsg.json: [0]"));
}

#[test]
fn every_dialect_says_the_same() {
    let flat = rule("Allow-Storage-WE", 200, "Allow", "Storage.WestEurope", &["443", "8443"]);
    let deny = rule("Deny", 300, "deny", "*", &["*"]);
    let arm = |rule: &Value| json!({"name": rule["name"], "id": "x", "etag": "y", "properties": rule});
    let id = "/subscriptions/0/resourceGroups/rg1/providers/Microsoft.Network/networkSecurityGroups/nsg1";
    let show = json!({"name": "nsg1", "id": id, "securityRules": [flat, deny], "defaultSecurityRules": []});
    let rest = json!({"name": "nsg1", "id": id, "properties": {"securityRules": [arm(&flat), arm(&deny)]}});
    let template = json!({"$schema": "…", "resources": [
        {"type": "Microsoft.Network/networkSecurityGroups", "name": "nsg1", "id": id,
         "properties": {"securityRules": [arm(&flat)]},
         "resources": [{"type": "securityRules", "name": "Deny", "properties": deny}]},
        {"type": "Microsoft.Network/networkSecurityGroups/securityRules", "name": "nsg1/Allow-Storage-WE",
         "properties": flat},
    ]});
    let effective_rule = |rule: &Value, list: &str, expanded: Value| {
        json!({"name": format!("{list}/{}", rule["name"].as_str().unwrap()), "protocol": "All", "priority": rule["priority"],
            "direction": "Outbound", "access": rule["access"], "sourceAddressPrefix": "0.0.0.0/0",
            "sourceAddressPrefixes": ["0.0.0.0/0"], "sourcePortRange": "0-65535", "sourcePortRanges": ["0-65535"],
            "destinationAddressPrefix": rule["destinationAddressPrefix"], "expandedDestinationAddressPrefix": expanded,
            "destinationPortRanges": rule["destinationPortRanges"].as_array().unwrap().iter()
                .map(|p| match p.as_str().unwrap() { "*" => "0-65535".to_owned(), p => format!("{p}-{p}") })
                .collect::<Vec<_>>()})
    };
    let effective = json!({"value": [{"networkSecurityGroup": {"id": id},
        "association": {"subnet": {"id": "…/subnets/s1"}, "networkInterface": null}, "tagMap": null,
        "effectiveSecurityRules": [
            effective_rule(&flat, "securityRules", json!(["20.60.0.0/24", "20.150.8.0/23"])),
            effective_rule(&deny, "securityRules", Value::Null)]}]});
    let with_id = |mut rule: Value, name: &str| {
        rule["id"] = format!("{id}/securityRules/{name}").into();
        rule
    };
    let watcher = json!({"networkInterfaces": [{"id": "…", "securityRuleAssociations": {
        "defaultSecurityRules": [], "effectiveSecurityRules": [],
        "subnetAssociation": {"id": "…", "securityRules": [with_id(flat.clone(), "a"), with_id(deny.clone(), "b")]},
        "networkInterfaceAssociation": {"id": "…", "securityRules": []}}}]});
    let list = json!([with_id(flat, "a"), with_id(deny, "b")]);
    for (dialect, file) in [
        ("list", list.clone()),
        ("list of the REST API", json!({"value": list})),
        ("show", show.clone()),
        ("list of groups", json!([show])),
        ("rest", rest),
        ("template", template),
        ("effective", effective),
        ("watcher", watcher),
    ] {
        let policy = read(&[("file.json", file), ("tags.json", tag_list())]);
        assert_eq!(policy.policy().groups.len(), 1, "{dialect}");
        let group = &policy.policy().groups[0];
        assert_eq!((group.name.as_str(), group.rules.len()), ("nsg1", 5), "{dialect}");
        for (to, port, decision) in [
            ("20.60.0.9", 443, Decision::Allowed),
            ("20.60.0.9", 8443, Decision::Allowed),
            ("20.60.0.9", 80, Decision::Denied),
            ("20.60.1.9", 443, Decision::Denied),
        ] {
            assert_eq!(
                policy.judge(&ask(Destination::Address(ip(to)), port)).decision,
                decision,
                "{dialect} {to}:{port}"
            );
        }
        let suggestion = policy.judge(&ask(Destination::Address(ip("20.60.1.9")), 443)).suggestion.unwrap();
        assert_eq!(suggestion.resource_group.as_deref(), Some("rg1"), "{dialect}");
    }
}

#[test]
fn bytes_of_every_encoding_are_read() {
    let text = json!([rule("Deny", 200, "Deny", "*", &["*"])]).to_string();
    let utf16 = |order: fn(u16) -> [u8; 2]| -> Vec<u8> {
        ['\u{feff}'].iter().collect::<String>().encode_utf16().chain(text.encode_utf16()).flat_map(order).collect()
    };
    for bytes in [
        text.clone().into_bytes(),
        format!("\u{feff}{text}").into_bytes(),
        utf16(u16::to_le_bytes),
        utf16(u16::to_be_bytes),
    ] {
        assert_eq!(Policy::read(&[("nsg.json", &bytes)]).unwrap().groups[0].rules.len(), 4);
    }
}

#[test]
fn errors_name_file_and_place_and_what_is_allowed() {
    let with = |key: &str, value: Value| {
        let mut rule = rule("R", 200, "Allow", "*", &["443"]);
        rule[key] = value;
        json!({"name": "n", "securityRules": [rule]}).to_string()
    };
    for (text, parts) in [
        ("{\n \"a\": }".to_owned(), ["x.json:2:7: ", "expected value"]),
        (String::new(), ["x.json:1:0: ", "EOF"]),
        ("{}".to_owned(), ["x.json: ", "az network nsg show"]),
        ("[7]".to_owned(), ["x.json: [0]: ", "az network nsg show"]),
        (with("priority", json!(99)), ["x.json: securityRules[0].priority: ", "100 to 4096"]),
        (with("priority", Value::Null), ["x.json: securityRules[0]: ", "`priority`"]),
        (with("access", json!("Permit")), ["securityRules[0].access: ", "Allow and Deny"]),
        (with("direction", json!(1)), ["securityRules[0].direction: ", "Outbound and Inbound"]),
        (with("protocol", json!("Sctp")), ["securityRules[0].protocol: ", "Tcp, Udp"]),
        (with("destinationAddressPrefix", json!("10.0.0.0/33")), ["destinationAddressPrefix: ", "10.0.0.0/8"]),
        (with("destinationAddressPrefixes", json!(["*", {}])), ["destinationAddressPrefixes[1]: ", "a text"]),
        (with("destinationPortRanges", json!(["443", "8443-443"])), ["destinationPortRanges[1]: ", "80-443"]),
        (with("destinationPortRanges", json!(["65536"])), ["destinationPortRanges[0]: ", "65535"]),
        (
            r#"{"values":[{"name":"A","properties":{"addressPrefixes":["1.2.3.4/5","x"]}}]}"#.to_owned(),
            ["x.json:1:", "13.69.40.16/28"],
        ),
        (
            "{\"values\":[{\"name\":\"A\",\n\"properties\":{\"addressPrefixes\":[\"1.2.3.4/5\"".to_owned(),
            ["x.json:2:", "EOF"],
        ),
        (
            "<AzurePublicIpAddresses><Region Name=\"useast\">\n<IpRange Subnet=\"x\"/>".to_owned(),
            ["x.json:2:", "40.112.124.0/24"],
        ),
        ("<a><b></a>".to_owned(), ["x.json:1:", ""]),
        ("<html/>".to_owned(), ["x.json: ", "AzurePublicIpAddresses"]),
        (r#"[{"nextHopType":"None","addressPrefix":["0.0.0.0/40"]}]"#.to_owned(), ["x.json: [0]: ", "0.0.0.0/0"]),
    ] {
        let error = error("x.json", &text);
        assert!(parts.iter().all(|part| error.contains(part)), "{text}\n{error}");
        assert!(error.starts_with("x.json"), "{error}");
    }
    let same = json!([rule("A", 200, "Allow", "*", &["*"]), rule("B", 200, "Deny", "*", &["*"])]).to_string();
    assert!(error("x.json", &same).contains("A and B both have priority 200"));
    let two = json!({"values": []}).to_string();
    let error = Policy::read(&[("a", two.as_bytes()), ("b", two.as_bytes())]).unwrap_err().to_string();
    assert!(error.contains("second list of service tags"), "{error}");
    assert!(Policy::read(&[("a", b"\xff\xfe\x00\xd8")]).is_err());
    assert!(Policy::read(&[("a", b"{\"a\":\n \"\xff\"}")]).unwrap_err().to_string().starts_with("a:2:3: "));
}

#[test]
fn what_a_template_computes_is_unknown_and_told() {
    let mut open = rule("Open", 200, "Allow", "Internet", &[]);
    open["destinationPortRanges"] = json!("[parameters('ports')]");
    let template = |rule: Value| {
        json!({"resources": [{"type": "microsoft.network/networksecuritygroups",
        "name": "[parameters('nsg')]", "properties": {"securityRules": [
            {"name": rule["name"], "properties": rule},
            {"name": "Deny", "properties": self::rule("Deny", 300, "Deny", "*", &["*"])}]}}]})
    };
    let policy = read(&[("t.json", template(open))]);
    assert_eq!(to_tag(&policy, "Storage", 443).decision, Decision::Unknown);
    assert!(policy.policy().notes().iter().any(|note| note.contains("[parameters('ports')]")));

    // Where it stands is open, but it says what the rule that decides says: that is no doubt.
    for (access, decision) in [("Deny", Decision::Denied), ("Allow", Decision::Unknown)] {
        let mut open = rule("Open", 200, access, "Internet", &["443"]);
        open["priority"] = json!("[variables('number')]");
        let policy = read(&[("t.json", template(open))]);
        assert_eq!(to_tag(&policy, "Storage", 443).decision, decision, "{access}");
    }
    let computed = json!({"resources": [{"type": "Microsoft.Network/networkSecurityGroups", "name": "n",
        "properties": {"securityRules": "[variables('rules')]"}}]});
    assert_eq!(to_tag(&read(&[("t.json", computed)]), "Storage", 443).decision, Decision::Unknown);
}

#[test]
fn application_security_groups_are_unknown() {
    let mut group = rule("App", 200, "Deny", "*", &["443"]);
    group["destinationAddressPrefix"] = Value::Null;
    group["destinationApplicationSecurityGroups"] = json!([{"id": "…/applicationSecurityGroups/web"}]);
    let verdict = read(&[("n.json", json!([group]))]).judge(&ask(Destination::Address(ip("10.0.0.9")), 443));
    assert_eq!(verdict.decision, Decision::Unknown);
    assert!(verdict.notes[0].contains("application security group web"), "{:?}", verdict.notes);
}

#[test]
fn default_rules_allow_the_network_and_the_internet_alone() {
    let policy = read(&[("n.json", json!([]))]);
    let decision = |to: &str| policy.judge(&ask(Destination::Address(ip(to)), 443)).decision;
    assert_eq!(decision("20.60.0.4"), Decision::Allowed);
    assert_eq!(decision("10.0.0.4"), Decision::Unknown, "the network's prefixes are not known");
    let route = |prefix: &str, hop: &str, source: &str| json!({"addressPrefix": [prefix], "nextHopType": hop, "source": source, "state": "Active", "nextHopIpAddress": []});
    let routes = json!({"value": [route("10.1.0.0/16", "VnetLocal", "Default"), route("0.0.0.0/0", "Internet", "Default"), route("10.0.0.0/8", "None", "Default")]});
    let policy = read(&[("n.json", json!([])), ("routes.json", routes)]);
    let judge = |to: &str| policy.judge(&ask(Destination::Address(ip(to)), 443));
    assert_eq!(judge("10.1.0.4").decision, Decision::Allowed);
    assert_eq!(judge("10.2.0.4").decision, Decision::Denied, "the route drops it");
    assert_eq!(judge("10.2.0.4").route.unwrap().next_hop, "None");
    assert_eq!(
        read(&[("r.json", json!([route("0.0.0.0/0", "Internet", "Default")]))])
            .judge(&ask(Destination::Address(ip("1.1.1.1")), 1))
            .decision,
        Decision::Allowed,
        "no group: allowed"
    );
}

#[test]
fn groups_do_not_apply_to_the_platform_except_by_its_tags() {
    let decide = |to: &str| {
        let rules = json!([rule("Deny", 200, "Deny", to, &["*"])]);
        read(&[("n.json", rules)]).judge(&ask(Destination::Address(ip("168.63.129.16")), 80)).decision
    };
    assert_eq!(decide("*"), Decision::Allowed);
    assert_eq!(decide("168.63.129.16"), Decision::Allowed);
    assert_eq!(decide("AzurePlatformIMDS"), Decision::Allowed);
    assert_eq!(decide("azureplatformdns"), Decision::Denied);
}

#[test]
fn an_allow_below_a_deny_is_shadowed() {
    let rules = json!([
        rule("Deny_Internet", 200, "Deny", "Internet", &["*"]),
        rule("Allow_Storage", 300, "Allow", "Storage.WestEurope", &["443"]),
    ]);
    let policy = read(&[("n.json", rules)]);
    let verdict = to_tag(&policy, "Storage.WestEurope", 443);
    assert_eq!(verdict.code.as_deref(), Some("nsg.shadowed"));
    assert_eq!(verdict.groups[0].shadowed[0].name, "Allow_Storage");
    let unreachable = policy.unreachable_rules();
    assert_eq!(
        (unreachable[0].rule.name.as_str(), unreachable[0].by.name.as_str()),
        ("Allow_Storage", "Deny_Internet")
    );
    assert_eq!(unreachable.len(), 1);
}

#[test]
fn near_misses_are_told() {
    let mut udp = rule("Udp", 200, "Allow", "Storage.WestEurope", &["443"]);
    udp["protocol"] = json!("UDP");
    let mut other = rule("Proxy_Vm", 210, "Allow", "Internet", &["443"]);
    other["sourceAddressPrefix"] = json!("10.0.0.5/32");
    let rules = json!([
        udp,
        other,
        rule("Wrong_Region", 220, "Allow", "Storage.NorthEurope", &["443"]),
        rule("Backup", 230, "Allow", "AzureBackup", &["443"]),
        rule("Deny", 300, "Deny", "*", &["*"])
    ]);
    let policy = read(&[("n.json", rules)]);
    let verdict = policy.judge(&Question {
        source: Some(ip("10.0.0.7")),
        storage: true,
        region: Some("West Europe"),
        ..ask(Destination::Address(ip("20.60.0.4")), 443)
    });
    assert_eq!((verdict.decision, verdict.code.as_deref()), (Decision::Denied, Some("nsg.denied")));
    for part in ["another protocol", "10.0.0.5/32, not for 10.0.0.7", "another region", "does not contain storage"] {
        assert!(verdict.notes.iter().any(|note| note.contains(part)), "{part}: {:?}", verdict.notes);
    }
    let missing = policy.missing_dependencies(Some("westeurope"), Some(ip("10.0.0.7")));
    let subjects: Vec<&str> = missing.iter().map(|(_, verdict)| verdict.subject.as_str()).collect();
    assert_eq!(subjects, ["Storage.WestEurope:443", "AzureActiveDirectory:443"]);
    let undecided = policy.missing_dependencies(Some("westeurope"), None);
    assert!(undecided.is_empty(), "without an address the rule of the proxy's machine may apply");
}

#[test]
fn a_tag_is_allowed_only_as_a_whole() {
    let rules = json!([
        rule("Some", 200, "Allow", "20.60.0.0/24", &["443"]),
        rule("Half", 210, "Allow", "20.150.8.0/24", &["443"]),
        rule("Deny", 300, "Deny", "*", &["*"]),
    ]);
    let verdict = to_tag(&read(&[("n.json", rules), ("tags.json", tag_list())]), "storage.westeurope", 443);
    assert_eq!((verdict.decision, verdict.address), (Decision::Denied, None));
    assert!(verdict.notes[0].contains("2 of the 3 prefixes of Storage.WestEurope"), "{:?}", verdict.notes);
    assert_eq!(verdict.suggestion.unwrap().destination, "Storage.WestEurope");
}

#[test]
fn regions_have_many_spellings() {
    for (one, other) in [
        ("europewest", "westeurope"),
        ("West Europe", "WestEurope"),
        ("useast2", "EastUS2"),
        ("australiac2", "AustraliaCentral2"),
        ("centralfrance", "francecentral"),
        ("germanywc", "GermanyWestCentral"),
        ("norwaye", "NorwayEast"),
        ("switzerlandn", "Switzerland North"),
    ] {
        assert_eq!(canonical_region(one), canonical_region(other));
    }
    assert_eq!(in_azure_spelling("storage.europewest"), "Storage.WestEurope");
    assert_eq!(canonical_region("Mars North"), "marsnorth");
    let xml = "<?xml version=\"1.0\"?><AzurePublicIpAddresses><Region Name=\"europewest\"><IpRange Subnet=\"40.112.124.0/24\" />\
        </Region><Region Name=\"useast2\"><IpRange Subnet=\"13.68.0.0/17\"/></Region></AzurePublicIpAddresses>";
    let rules =
        json!([rule("West", 200, "Allow", "AzureCloud.WestEurope", &["443"]), rule("Deny", 300, "Deny", "*", &["*"])])
            .to_string();
    let policy =
        Compiled::new(Policy::read(&[("n.json", rules.as_bytes()), ("PublicIPs.xml", xml.as_bytes())]).unwrap());
    assert!(policy.policy().notes().iter().any(|note| note.contains("knows regions alone")));
    let decision = |to: &str| policy.judge(&ask(Destination::Address(ip(to)), 443)).decision;
    assert_eq!((decision("40.112.124.9"), decision("13.68.0.9")), (Decision::Allowed, Decision::Denied));
    let list = read(&[
        ("tags.json", tag_list()),
        ("n.json", json!([rule("F", 200, "Deny", "AzureCloud.francecentral", &["*"])])),
    ]);
    assert_eq!(list.judge(&ask(Destination::Address(ip("20.40.1.1")), 443)).decision, Decision::Denied);
}

#[test]
fn routes_are_selected_as_azure_does() {
    let route = |prefix: &str, hop: &str, source: &str, state: &str| {
        json!({"name": null, "addressPrefix": [prefix],
        "nextHopType": hop, "nextHopIpAddress": if hop == "VirtualAppliance" { json!(["10.0.1.4"]) } else { json!([]) },
        "source": source, "state": state})
    };
    let routes = json!({"value": [
        route("0.0.0.0/0", "Internet", "Default", "Invalid"),
        route("0.0.0.0/0", "VirtualNetworkGateway", "VirtualNetworkGateway", "Active"),
        route("0.0.0.0/0", "Virtual Appliance".split(' ').collect::<String>().as_str(), "User", "Active"),
        route("20.60.0.0/24", "VirtualNetworkServiceEndpoint", "Default", "Active"),
        route("20.60.0.128/25", "VirtualNetworkGateway", "VirtualNetworkGateway", "Active"),
        route("20.70.0.0/16", "VirtualNetworkGateway", "VirtualNetworkGateway", "Active"),
        route("20.70.0.0/16", "None", "User", "Active"),
        route("20.80.0.0/16", "None", "User", "Invalid"),
        route("10.1.0.9/32", "InterfaceEndpoint", "Default", "Active"),
    ]});
    let policy = read(&[("routes.json", routes)]);
    let judge = |to: &str| policy.judge(&ask(Destination::Address(ip(to)), 443));
    let via = |to: &str| judge(to).route.map(|route| (route.prefix, route.next_hop));
    let expect = |prefix: &str, hop: &str| Some((prefix.to_owned(), hop.to_owned()));
    assert_eq!(
        via("20.60.0.200"),
        expect("20.60.0.0/24", "VirtualNetworkServiceEndpoint"),
        "wins over longer BGP routes"
    );
    assert_eq!(via("20.70.0.1"), expect("20.70.0.0/16", "None"), "the user's route before BGP's");
    assert_eq!(judge("20.70.0.1").decision, Decision::Denied);
    assert_eq!(via("20.80.0.1"), expect("0.0.0.0/0", "VirtualAppliance"), "invalid routes do not count");
    assert_eq!(judge("20.80.0.1").route.unwrap().next_hop_address, Some(ip("10.0.1.4")));
    assert!(judge("20.80.0.1").notes[0].contains("appliance 10.0.1.4"));
    assert_eq!(via("10.1.0.9"), expect("10.1.0.9/32", "InterfaceEndpoint"));
    assert_eq!(judge("10.1.0.9").decision, Decision::Allowed);
}

#[test]
fn the_interface_is_asked_before_the_subnet() {
    let group = |name: &str, kind: &str, access: &str| {
        json!({"name": name, kind: [{"id": "…"}],
        "securityRules": [rule("R", 100, access, "*", &["*"])]})
    };
    let policy =
        read(&[("s.json", group("s", "subnets", "Allow")), ("n.json", group("n", "networkInterfaces", "Deny"))]);
    let verdict = policy.judge(&ask(Destination::Address(ip("1.1.1.1")), 443));
    assert_eq!(verdict.decision, Decision::Denied);
    let attached: Vec<&str> = verdict.groups.iter().map(|group| group.attached.as_str()).collect();
    assert_eq!(attached, ["network interface", "subnet"]);
    assert_eq!(verdict.suggestion.unwrap().priority, None, "no number is lower than 100");
}

// ---- properties

/// Addresses, tags and ports that random rules and flows share, so that they meet.
const PLACES: [&str; 12] = [
    "*",
    "Internet",
    "VirtualNetwork",
    "Storage",
    "Storage.WestEurope",
    "storage.northeurope",
    "AzureBackup",
    "Sql",
    "20.60.0.0/16",
    "10.0.0.0/8",
    "::/0",
    "0.0.0.0/0",
];
const POINTS: [&str; 10] = [
    "20.60.0.7",
    "20.60.1.7",
    "20.150.9.255",
    "20.38.102.0",
    "40.70.147.1",
    "10.0.0.5",
    "8.8.8.8",
    "2603:1020:206::1",
    "168.63.129.16",
    "fd00::1",
];
const PORTS: [&str; 6] = ["*", "443", "80-443", "8443", "444-8442", "0-79"];

prop_compose! {
    fn any_rule()(
        allows in any::<bool>(), protocol in prop::sample::select(vec!["Tcp", "udp", "*"]),
        source in prop::sample::select(vec!["*", "VirtualNetwork", "Internet", "10.0.0.0/24", "10.1.0.4"]),
        to in prop::collection::vec(prop::sample::select(PLACES.to_vec()), 1..3),
        ports in prop::collection::vec(prop::sample::select(PORTS.to_vec()), 1..3),
        source_port in prop::sample::select(vec!["*", "*", "*", "1000-2000"]),
    ) -> Value {
        json!({"direction": "Outbound", "access": if allows { "Allow" } else { "Deny" }, "protocol": protocol,
            "sourceAddressPrefix": source, "sourcePortRange": source_port,
            "destinationAddressPrefixes": to, "destinationPortRanges": ports})
    }
}

/// Rules with names, and with distinct priorities in the order given, some way apart.
fn number(rules: Vec<Value>) -> Vec<Value> {
    let with = |(index, mut rule): (usize, Value)| {
        rule["name"] = format!("R{index}").into();
        rule["priority"] = (100 + 20 * index).into();
        rule
    };
    rules.into_iter().enumerate().map(with).collect()
}

prop_compose! {
    fn any_flow()(
        to in prop::sample::select(POINTS.to_vec()), port in prop::sample::select(vec![0, 79, 80, 443, 444, 8442, 8443, 65535]),
        from in prop::option::of(prop::sample::select(vec!["10.0.0.7", "10.1.0.4", "192.168.0.1"])),
        source_port in prop::option::of(prop::sample::select(vec![999, 1000, 2000, 2001])),
        protocol in prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Icmp]),
    ) -> Flow {
        Flow { source: from.map(ip), source_port, destination: ip(to), port, protocol }
    }
}

/// First match, rule by rule, straight from the JSON and written without a line of what it checks. Two answers are
/// possible where a tag is not listed or an address not given.
fn naive(rules: &[Value], flow: &Flow, listed: bool) -> Decision {
    fn within(ip: IpAddr, prefix: &str) -> bool {
        let (net, length) = prefix.split_once('/').unwrap_or((prefix, if prefix.contains(':') { "128" } else { "32" }));
        let length: u32 = length.parse().unwrap();
        match (ip, self::ip(net)) {
            (IpAddr::V4(a), IpAddr::V4(b)) => length == 0 || (u32::from(a) ^ u32::from(b)) >> (32 - length) == 0,
            (IpAddr::V6(a), IpAddr::V6(b)) => length == 0 || (u128::from(a) ^ u128::from(b)) >> (128 - length) == 0,
            _ => false,
        }
    }
    let private = |ip| ["10.0.0.0/8", "192.168.0.0/16", "fc00::/7"].iter().any(|net| within(ip, net));
    // 0 no, 1 maybe, 2 yes
    let destination = |term: &str| match term {
        "*" => 2,
        "Internet" => {
            if private(flow.destination) {
                1
            } else {
                2
            }
        }
        "VirtualNetwork" => u8::from(private(flow.destination)),
        term if term.contains(['/', ':']) => 2 * u8::from(within(flow.destination, term)),
        term => {
            let list = tag_list();
            let tag = list["values"]
                .as_array()
                .unwrap()
                .iter()
                .find(|tag| tag["name"].as_str().unwrap().eq_ignore_ascii_case(term));
            match tag.filter(|_| listed) {
                Some(tag) => {
                    2 * u8::from(
                        tag["properties"]["addressPrefixes"]
                            .as_array()
                            .unwrap()
                            .iter()
                            .any(|net| within(flow.destination, net.as_str().unwrap())),
                    )
                }
                None => u8::from(!private(flow.destination)),
            }
        }
    };
    let port_in = |text: &str, port: u16| {
        let (low, high) = if text == "*" { ("0", "65535") } else { text.split_once('-').unwrap_or((text, text)) };
        (low.parse().unwrap()..=high.parse().unwrap()).contains(&port)
    };
    let best = |terms: &Value, judge: &dyn Fn(&str) -> u8| {
        terms.as_array().unwrap().iter().map(|term| judge(term.as_str().unwrap())).max().unwrap()
    };
    if flow.destination == ip("168.63.129.16") {
        return Decision::Allowed;
    }
    let (mut may_allow, mut may_deny) = (false, false);
    let defaults = [
        json!({"access": "Allow", "protocol": "*", "sourceAddressPrefix": "VirtualNetwork", "sourcePortRange": "*", "destinationAddressPrefixes": ["VirtualNetwork"], "destinationPortRanges": ["*"]}),
        json!({"access": "Allow", "protocol": "*", "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefixes": ["Internet"], "destinationPortRanges": ["*"]}),
        json!({"access": "Deny", "protocol": "*", "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefixes": ["*"], "destinationPortRanges": ["*"]}),
    ];
    for rule in rules.iter().chain(&defaults) {
        let text = |key: &str| rule[key].as_str().unwrap();
        let matches = [
            2 * u8::from(text("protocol") == "*" || text("protocol").eq_ignore_ascii_case(flow.protocol.as_str())),
            match (text("sourceAddressPrefix"), flow.source) {
                ("*" | "VirtualNetwork", _) => 2,
                ("Internet", _) => 0,
                (net, Some(from)) => 2 * u8::from(within(from, net)),
                (_, None) => 1,
            },
            match (text("sourcePortRange"), flow.source_port) {
                ("*", _) => 2,
                (range, Some(port)) => 2 * u8::from(port_in(range, port)),
                (_, None) => 1,
            },
            best(&rule["destinationAddressPrefixes"], &destination),
            best(&rule["destinationPortRanges"], &|range| 2 * u8::from(port_in(range, flow.port))),
        ];
        let matches = matches.into_iter().min().unwrap();
        may_allow |= matches > 0 && text("access") == "Allow";
        may_deny |= matches > 0 && text("access") == "Deny";
        if matches == 2 {
            break;
        }
    }
    match (may_allow, may_deny) {
        (true, true) => Decision::Unknown,
        (_, false) => Decision::Allowed,
        (false, true) => Decision::Denied,
    }
}

fn policy_of(groups: &[&Vec<Value>], listed: bool) -> Compiled {
    let mut files: Vec<(&str, Value)> = groups.iter().map(|rules| ("n.json", json!(rules))).collect();
    if listed {
        files.push(("tags.json", tag_list()));
    }
    read(&files)
}

fn question(flow: &Flow) -> Question<'static> {
    Question { protocol: flow.protocol, source: flow.source, ..ask(Destination::Address(flow.destination), flow.port) }
}

proptest! {
    #[test]
    fn the_quick_answer_is_the_one_of_reading_rule_by_rule(
        rules in prop::collection::vec(any_rule(), 0..70).prop_map(number), flow in any_flow(), listed in any::<bool>(),
    ) {
        let policy = policy_of(&[&rules], listed);
        let expected = naive(&rules, &flow, listed);
        prop_assert_eq!(policy.decide(&flow), expected);
        if flow.source_port.is_none() {
            prop_assert_eq!(policy.judge(&question(&flow)).decision, expected, "the reasons agree");
        }
    }

    #[test]
    fn both_groups_must_allow_in_whatever_order(
        a in prop::collection::vec(any_rule(), 0..4).prop_map(number),
        b in prop::collection::vec(any_rule(), 0..4).prop_map(number), flow in any_flow(),
    ) {
        let both = policy_of(&[&a, &b], true).decide(&flow);
        prop_assert_eq!(both, policy_of(&[&b, &a], true).decide(&flow));
        let each = [naive(&a, &flow, true), naive(&b, &flow, true)];
        prop_assert_eq!(both == Decision::Allowed, each == [Decision::Allowed; 2]);
        prop_assert_eq!(both == Decision::Denied, each.contains(&Decision::Denied));
    }

    #[test]
    fn a_rule_below_the_one_that_decides_changes_nothing(
        rules in prop::collection::vec(any_rule(), 1..6), more in any_rule(), flow in any_flow(),
    ) {
        let mut all = rules;
        all.push(json!({"direction": "Outbound", "access": "Deny", "protocol": "*", "sourceAddressPrefix": "*",
            "sourcePortRange": "*", "destinationAddressPrefixes": ["*"], "destinationPortRanges": ["*"]}));
        let before = policy_of(&[&number(all.clone())], true).decide(&flow);
        all.push(more);
        prop_assert_eq!(policy_of(&[&number(all)], true).decide(&flow), before);
    }

    #[test]
    fn the_suggested_rule_lets_the_flow_through(
        rules in prop::collection::vec(any_rule(), 0..8).prop_map(number), flow in any_flow(),
    ) {
        let verdict = policy_of(&[&rules], true).judge(&question(&flow));
        let is_wanted = verdict.decision == Decision::Denied && flow.protocol == Protocol::Tcp;
        prop_assert_eq!(verdict.suggestion.is_some(), is_wanted);
        if let Some(rule) = verdict.suggestion {
            prop_assert!(rules.iter().all(|other| other["name"] != rule.name.as_str()));
            prop_assert!(rules.iter().all(|other| other["priority"].as_u64() != rule.priority.map(u64::from)));
            // The first of the rules has the lowest number there is.
            let Some(priority) = rule.priority else {
                return Ok(());
            };
            prop_assert!((100..=4096).contains(&priority));
            let mut all = rules;
            all.push(json!({"name": rule.name, "priority": priority, "direction": "Outbound", "access": "Allow",
                "protocol": flow.protocol.as_str(), "sourceAddressPrefix": rule.source, "sourcePortRange": "*",
                "destinationAddressPrefix": rule.destination, "destinationPortRanges": [rule.ports[0].to_string()]}));
            let verdict = policy_of(&[&all], true).judge(&question(&flow));
            prop_assert_eq!(verdict.decision, Decision::Allowed, "{:?}", verdict);
        }
    }

    #[test]
    fn ranges_are_inclusive_and_prefixes_end_where_they_say(start in any::<u32>(), length in 0_u32..=32, other in any::<u32>()) {
        let prefix = format!("{}/{length}", std::net::Ipv4Addr::from(start));
        let ranges = address::Ranges::parse(&prefix).unwrap();
        let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
        for (probe, inside) in [(start & mask, true), (start | !mask, true), (other, other & mask == start & mask)] {
            prop_assert_eq!(ranges.contains(address::number(std::net::Ipv4Addr::from(probe).into())), inside);
        }
        prop_assert_eq!(ranges.complement().complement(), ranges);
    }

    #[test]
    fn no_bytes_make_the_readers_panic(
        bytes in any::<Vec<u8>>(), cut in any::<prop::sample::Index>(), flip in any::<(prop::sample::Index, u8)>(), which in 0_usize..3,
    ) {
        let _ = Policy::read(&[("x", &bytes)]);
        let good = match which {
            0 => tag_list().to_string(),
            1 => json!({"name": "n", "securityRules": number(vec![rule("a", 1, "Deny", "Sql", &["80-443"]); 2])}).to_string(),
            _ => "<AzurePublicIpAddresses><Region Name=\"a\"><IpRange Subnet=\"1.2.3.4/5\"/></Region></AzurePublicIpAddresses>".to_owned(),
        };
        let mut bad = good.into_bytes();
        let place = flip.0.index(bad.len());
        bad[place] = flip.1;
        if let Ok(policy) = Policy::read(&[("x", &bad)]) {
            let _ = to_tag(&Compiled::new(policy), "Storage.WestEurope", 443);
        }
        bad.truncate(cut.index(bad.len()));
        let _ = Policy::read(&[("x", &bad)]);
    }
}
