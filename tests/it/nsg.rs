//! `snapreach nsg` as a user meets it.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{finding, findings, report, snapreach};

fn rule(name: &str, priority: u16, access: &str, to: &str, ports: &[&str]) -> Value {
    json!({"name": name, "priority": priority, "direction": "Outbound", "access": access, "protocol": "Tcp",
        "sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": to,
        "destinationPortRange": "", "destinationPortRanges": ports})
}

/// A group that denies everything but what the rules before say.
fn group(rules: &[Value]) -> String {
    let mut all = rules.to_vec();
    all.push(rule("Deny_All", 1000, "Deny", "*", &["*"]));
    let id = "/subscriptions/0/resourceGroups/rg-prod/providers/Microsoft.Network/networkSecurityGroups/nsg-lockdown";
    json!({"name": "nsg-lockdown", "id": id, "securityRules": all, "defaultSecurityRules": [],
        "networkInterfaces": [{"id": "…"}]})
    .to_string()
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn nsg(folder: &Path, arguments: &[&str]) -> Output {
    snapreach().arg("nsg").args(arguments).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn exit_codes_say_allowed_denied_unusable_or_unknown() {
    let folder = folder(&[
        (
            "nsg.json",
            &group(&[
                rule("Allow_WE", 200, "Allow", "Storage.WestEurope", &["443"]),
                rule("Sql", 300, "Allow", "Sql", &["1433"]),
            ]),
        ),
        ("broken.json", "{\n  \"securityRules\": [}"),
        ("tags.json", r#"{"values": []}"#),
    ]);
    for (arguments, code) in [
        (&["nsg.json", "--to", "Storage.westeurope", "--port", "443"][..], 0),
        (&["nsg.json", "--to", "acct.blob.core.windows.net", "--region", "West Europe", "--port", "443"], 0),
        (&["nsg.json", "--to", "acct.blob.core.windows.net=20.60.0.4", "--region", "westeurope", "--port", "443"], 0),
        (&["nsg.json", "--to", "Storage.NorthEurope", "--port", "443"], 1),
        (&["nsg.json", "--region", "westeurope"], 1),
        (&["nsg.json", "--to", "20.60.0.4", "--port", "1433"], 3),
        (&["nsg.json", "--to", "20.60.0.4", "--port", "1433", "--port", "80"], 1),
        (&["broken.json"], 2),
        (&["nothing.json"], 2),
        (&["tags.json"], 2),
        (&["nsg.json", "--to", "www.example.com"], 2),
        (&["nsg.json", "--port", "0"], 2),
        (&[], 2),
    ] {
        let output = nsg(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{}{}", text(&output.stdout), text(&output.stderr));
        assert_eq!(output.stdout.is_empty(), code == 2, "{arguments:?}");
    }
    let errors = text(&nsg(folder.path(), &["nsg.json", "broken.json"]).stderr);
    assert!(errors.contains("broken.json:2:21: "), "{errors}");
}

#[test]
fn the_text_has_the_verdict_first_and_a_rule_to_paste() {
    let mut range = rule("Allow_Range", 200, "Allow", "Internet", &["80-443"]);
    range["sourceAddressPrefix"] = "10.0.0.5/32".into();
    let folder = folder(&[("nsg.json", &group(&[range, rule("Ten_Less", 990, "Allow", "10.0.0.9", &["3128"])]))]);
    let output = nsg(folder.path(), &["nsg.json", "--region", "westeurope", "--from", "10.0.0.5"]);
    let text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.starts_with("BLOCKED  1 of 3 flows cannot leave\n"), "{text}");
    for part in [
        "                      :80      :443     :8443\n",
        "  Storage.WestEurope  allowed  allowed  DENIED\n",
        "1 error   nsg.port_excluded",
        "Allow_Range (200) allows ports 80-443, which leaves out 8443",
        "az network nsg rule create -g rg-prod --nsg-name nsg-lockdown \\\n",
        "-n Allow-Storage.WestEurope --priority 980 \\\n",
        "--source-address-prefixes 10.0.0.5 \\\n",
        "--destination-address-prefixes Storage.WestEurope \\\n",
        "--destination-port-ranges 8443\n",
        "Read     nsg.json: group nsg-lockdown of the network interface (6 rules)",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn the_json_has_flows_and_findings() {
    let tags = json!({"changeNumber": 1, "cloud": "Public", "values": [
        {"name": "Storage.WestEurope", "properties": {"addressPrefixes": ["20.60.0.0/24", "20.150.8.0/23"]}},
        {"name": "Storage.NorthEurope", "properties": {"addressPrefixes": ["20.38.102.0/23"]}}]});
    let routes = json!({"value": [{"addressPrefix": ["0.0.0.0/0"], "nextHopIpAddress": ["10.0.1.4"],
        "nextHopType": "VirtualAppliance", "source": "User", "state": "Active"}]});
    let rules = [rule("Allow_NE", 200, "Allow", "Storage.NorthEurope", &["443"])];
    let below = rule("Allow_WE", 2000, "Allow", "Storage.WestEurope", &["8443"]);
    let nsg_file: Value = serde_json::from_str(&group(&[rules[0].clone(), below])).unwrap();
    let folder = folder(&[
        ("nsg.json", &nsg_file.to_string()),
        ("tags.json", &tags.to_string()),
        ("routes.json", &routes.to_string()),
    ]);
    let arguments = ["nsg.json", "routes.json", "tags.json", "--region", "europewest", "--format", "json"];
    let output = nsg(folder.path(), &arguments);
    let report = report(&output);
    assert_eq!(
        (&report["schema"], &report["kind"], &report["tool"]["name"]),
        (&json!(1), &json!("nsg"), &json!("snapreach"))
    );
    assert_eq!((&report["verdict"]["status"], &report["verdict"]["exit_code"]), (&json!("blocked"), &json!(1)));
    let flows = report["flows"].as_array().unwrap();
    assert_eq!(flows.len(), 3);
    let by_port = |port: u16| flows.iter().find(|flow| flow["port"] == port).unwrap();
    for (port, code) in [(80, "nsg.denied"), (443, "nsg.denied"), (8443, "nsg.shadowed")] {
        let flow = by_port(port);
        assert_eq!(
            (&flow["subject"], &flow["decision"]),
            (&json!(format!("Storage.WestEurope:{port}")), &json!("denied"))
        );
        assert_eq!((&flow["code"], &flow["groups"][0]["rule"]["name"]), (&json!(code), &json!("Deny_All")));
        assert_eq!(flow["route"]["next_hop_address"], "10.0.1.4");
        assert_eq!(flow["suggestion"]["priority"], 990);
    }
    let notes = by_port(443)["notes"].to_string();
    assert!(
        notes.contains("Allow_NE (200) is for Storage.NorthEurope") && notes.contains("appliance 10.0.1.4"),
        "{notes}"
    );
    assert_eq!(by_port(8443)["groups"][0]["shadowed"][0]["name"], "Allow_WE");
    let found = findings(&report);
    let severities: Vec<_> = found.iter().map(|(code, _, severity)| (*code, *severity)).collect();
    assert_eq!(severities, [("nsg.denied", "error"), ("nsg.shadowed", "error"), ("nsg.shadowed", "warning")]);
    let remedy = &finding(&report, "nsg.denied")["remedies"][0]["commands"];
    assert!(remedy.to_string().contains("--destination-port-ranges 80 443 8443"), "one rule for all ports: {remedy}");
    assert_eq!(report["sources"].as_array().unwrap().len(), 3);
}

#[test]
fn two_groups_that_deny_need_a_rule_each() {
    let other = group(&[]).replace("nsg-lockdown", "nsg-subnet").replace("networkInterfaces", "subnets");
    let folder = folder(&[("subnet.json", &other), ("nic.json", &group(&[]))]);
    let output =
        nsg(folder.path(), &["subnet.json", "nic.json", "--to", "Storage", "--port", "443", "--format", "json"]);
    let report = report(&output);
    let flow = &report["flows"][0];
    assert_eq!(
        (&flow["suggestion"]["group"], &flow["further"][0]["group"]),
        (&json!("nsg-lockdown"), &json!("nsg-subnet"))
    );
    assert_eq!(finding(&report, "nsg.denied")["remedies"].as_array().unwrap().len(), 2);
}

#[test]
fn rules_to_add_have_numbers_of_their_own() {
    let rules = [rule("Backup", 200, "Allow", "AzureBackup", &["443"]), rule("Taken", 980, "Deny", "10.0.0.9", &["1"])];
    let folder = folder(&[("nsg.json", &group(&rules))]);
    let report = report(&nsg(folder.path(), &["nsg.json", "--region", "westeurope", "--format", "json"]));
    let commands = report["findings"].to_string();
    for part in ["Allow-Storage.WestEurope --priority 990", "Allow-AzureActiveDirectory --priority 970"] {
        assert!(commands.contains(part), "`{part}` is not in {commands}");
    }
}

#[test]
fn rules_that_allow_and_still_need_care_are_a_warning() {
    let rules =
        json!([rule("Allow", 100, "Allow", "Internet", &["*"]), rule("Deny_Storage", 200, "Deny", "Storage", &["*"])]);
    let folder = folder(&[("rules.json", &rules.to_string())]);
    let output = nsg(folder.path(), &["rules.json", "--region", "westeurope"]);
    let text = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with("DEGRADED") && text.contains("Deny_Storage (200) denies nothing"), "{text}");
    assert!(text.contains("without its default rules"), "{text}");
    let asked = nsg(folder.path(), &["rules.json", "--to", "Storage.WestEurope"]);
    assert!(self::text(&asked.stdout).starts_with("CLEAR"), "a question about a flow is answered alone");
}

#[test]
fn names_in_files_reach_neither_terminal_nor_shell() {
    let hostile = group(&[]).replace("nsg-lockdown", "x'; reboot #").replace("Deny_All", "\\u001b[2JDeny");
    let folder = folder(&[("nsg.json", &hostile)]);
    let shown = text(&nsg(folder.path(), &["nsg.json", "--to", "Storage", "--color", "always"]).stdout);
    assert!(!shown.contains("\u{1b}[2J"), "{shown}");
    assert!(shown.contains(r"--nsg-name 'x'\''; reboot #'"), "{shown}");
}

#[test]
fn a_file_comes_from_a_pipe_too() {
    let mut child = snapreach()
        .args(["nsg", "-", "--to", "Storage", "--port", "443"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(group(&[]).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("<stdin>: group nsg-lockdown"));
}
