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

fn ask<'a>(destination: Destination<'a>, port: u16) -> Question<'a> {
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
    assert_eq!(verdict.suggestion.unwrap().destination, "Storage.WestEurope");
    assert!(error("nsg.json", "[1]").contains("nsg.json: [0]"));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<Vec<u8>>()) {
        let _ = Policy::read(&[("x", &text)]);
    }
}
