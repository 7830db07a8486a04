//! Security groups, routes and service tags beside a probe, as a user gives them.

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::support::{self, evidence_says, finding, findings};

/// A group as `az network nsg show` prints it: an allow for storage below a deny, or above it.
fn group(allow_priority: u16) -> String {
    format!(
        r#"{{"name": "nsg-lockdown", "resourceGroup": "rg-net", "defaultSecurityRules": [], "securityRules": [
            {{"name": "Allow_Storage", "priority": {allow_priority}, "direction": "Outbound", "access": "Allow",
              "protocol": "Tcp", "sourceAddressPrefix": "*", "sourcePortRange": "*",
              "destinationAddressPrefix": "20.60.0.0/16", "destinationPortRanges": ["443", "8443"]}},
            {{"name": "Deny_Internet", "priority": 1000, "direction": "Outbound", "access": "Deny",
              "protocol": "*", "sourceAddressPrefix": "*", "sourcePortRange": "*",
              "destinationAddressPrefix": "Internet", "destinationPortRange": "*"}}]}}"#
    )
}

const ROUTES: &str = r#"{"value": [{"addressPrefix": ["0.0.0.0/0"], "nextHopIpAddress": ["10.0.1.4"],
    "nextHopType": "VirtualAppliance", "source": "User", "state": "Active"}]}"#;

const TAGS: &str = r#"{"changeNumber": 1, "cloud": "Public", "values": [{"name": "Storage.WestEurope",
    "id": "Storage.WestEurope", "properties": {"region": "westeurope", "systemService": "AzureStorage",
    "addressPrefixes": ["20.60.222.0/24"]}}]}"#;

/// A folder with files of every kind.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("denies.json", &group(1100));
    write("allows.json", &group(900));
    write("routes.json", ROUTES);
    write("tags.json", TAGS);
    write("broken.json", "{\n  \"securityRules\": [oops]\n}");
    folder
}

fn check(arguments: &[&str], folder: &Path) -> Output {
    support::snapreach().arg("check").args(arguments).current_dir(folder).output().unwrap()
}

fn in_lab(scenario: &str, arguments: &[&str], folder: &Path) -> (Value, Output) {
    let output = check(&[&["--lab", scenario, "--format", "json"], arguments].concat(), folder);
    (support::report(&output), output)
}

#[test]
fn silence_that_a_rule_explains_is_proved_and_the_record_needs_no_files() {
    let folder = folder();
    let files = ["--nsg", "denies.json", "--service-tags", "tags.json", "--record", "run.jsonl"];
    let (report, output) = in_lab("tcp-connect-timeout", &files, folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(findings(&report), [("nsg.shadowed", "client_to_origin", "error")]);
    let found = finding(&report, "nsg.shadowed");
    assert_eq!((&found["confidence"], &found["party"]), (&"proof".into(), &"path".into()));
    evidence_says(found, "Allow_Storage (1100)");
    evidence_says(found, "SYN to 20.60.222.132:443 unanswered");
    let raise = &found["remedies"][0]["commands"][0];
    assert_eq!(
        raise.as_str().unwrap(),
        "az network nsg rule update -g rg-net --nsg-name nsg-lockdown -n Allow_Storage --priority 990"
    );
    let add = &found["remedies"][1];
    let tools: Vec<_> = add["forms"].as_array().unwrap().iter().map(|form| form["tool"].as_str().unwrap()).collect();
    assert_eq!(tools, ["Azure PowerShell", "Terraform"]);
    assert!(add["commands"].to_string().contains("Storage.WestEurope"), "{add:#}");
    let flow = &report["context"]["security"]["flows"][0];
    assert_eq!((&flow["address"], &flow["decision"]), (&"20.60.222.132".into(), &"denied".into()));

    for file in ["denies.json", "tags.json"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    let replayed = support::snapreach()
        .args(["replay", "run.jsonl", "--format", "json"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!((replayed.stdout, replayed.status.code()), (output.stdout, Some(1)));
}

#[test]
fn the_text_shows_one_form_and_with_v_all() {
    let folder = folder();
    let text = |verbose: &[&str]| {
        let all = [&["--lab", "tcp-connect-timeout", "--nsg", "denies.json", "--color", "never"], verbose].concat();
        String::from_utf8(check(&all, folder.path()).stdout).unwrap()
    };
    let (short, long) = (text(&[]), text(&["-v"]));
    assert!(short.contains("az network nsg rule create") && short.contains("Of 1 flow probed"), "{short}");
    for other in ["Get-AzNetworkSecurityGroup", "azurerm_network_security_rule"] {
        assert!(!short.contains(other) && long.contains(other), "{other}\n{long}");
    }
}

#[test]
fn an_answer_where_a_rule_denies_is_a_warning() {
    let folder = folder();
    let (report, output) = in_lab("healthy", &["--nsg", "denies.json"], folder.path());
    assert_eq!(output.status.code(), Some(0));
    let found = finding(&report, "nsg.shadowed");
    assert_eq!((&found["severity"], &report["verdict"]["status"]), (&"warning".into(), &"degraded".into()));
    evidence_says(found, "the connection is accepted");
    let (_, strict) = in_lab("healthy", &["--nsg", "denies.json", "--strict"], folder.path());
    assert_eq!(strict.status.code(), Some(1));
}

#[test]
fn silence_where_the_group_allows_leads_to_the_route() {
    let folder = folder();
    let (report, _) =
        in_lab("tcp-connect-timeout", &["--nsg", "allows.json", "--routes", "routes.json"], folder.path());
    let found = finding(&report, "tcp.connect_timeout");
    evidence_says(found, "the security groups given allow this");
    evidence_says(found, "the appliance at 10.0.1.4");
    assert!(found["remedies"][0]["title"].as_str().unwrap().starts_with("In the firewall at 10.0.1.4"), "{found:#}");
    let (report, _) = in_lab("tcp-connect-timeout", &["--nsg", "allows.json"], folder.path());
    evidence_says(finding(&report, "tcp.connect_timeout"), "look at routes");
}

#[test]
fn all_groups_of_a_machine_must_allow() {
    let folder = folder();
    let files = ["--nsg", "allows.json", "--nsg", "denies.json"];
    let (report, _) = in_lab("tcp-connect-timeout", &files, folder.path());
    assert_eq!(report["context"]["security"]["flows"][0]["groups"].as_array().unwrap().len(), 2);
    evidence_says(finding(&report, "nsg.shadowed"), "Deny_Internet (1000)");
}

#[test]
fn files_that_cannot_be_used_end_the_run_before_anything_is_probed() {
    let folder = folder();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    for (arguments, says) in [
        (&["--nsg", "broken.json"][..], "broken.json:2:"),
        (&["--nsg", "missing.json"], "missing.json"),
        (&["--nsg", "."], "cannot read ."),
        (&["--nsg", "routes.json"], "--nsg routes.json: there is no network security group"),
        (&["--routes", "allows.json"], "--routes allows.json: there is no route"),
        (&["--nsg", "allows.json", "--service-tags", "routes.json"], "there is no service tag"),
        (&["--service-tags", "tags.json"], "give rules with --nsg FILE"),
        (&["--nsg", "allows.json", "-o", "allows.json"], "allows.json"),
    ] {
        let output = check(&[&[target.as_str()], arguments].concat(), folder.path());
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {message}");
        assert!(message.contains(says) && output.stdout.is_empty(), "{arguments:?}: {message}");
    }
    assert!(listener.accept().is_err(), "nobody may have connected");
    assert_eq!(std::fs::read_to_string(folder.path().join("allows.json")).unwrap(), group(900));
}

#[test]
fn a_scenario_names_files_of_its_machine_or_real_ones() {
    let folder = folder();
    let scenario = |lab: &str, file: &str| {
        format!(
            "about = \"x.\"\n{lab}[[probe]]\ntargets = [\"tcp://127.0.0.1:9\"]\nnsg = [\"{file}\"]\n[expect]\nverdict = \
             \"blocked\"\n"
        )
    };
    let run = |text: &str| {
        std::fs::write(folder.path().join("s.toml"), text).unwrap();
        let mut command: Command = support::snapreach();
        command.args(["scenario", "run", "s.toml"]).current_dir(folder.path()).output().unwrap()
    };
    let missing = run(&scenario("[lab]\n", "/nsg.json"));
    let message = String::from_utf8(missing.stderr).unwrap();
    assert_eq!(missing.status.code(), Some(2), "{message}");
    assert!(message.contains("s.toml:") && message.contains("lab.machine.files has no such file"), "{message}");
    let broken = run(&scenario("", "broken.json"));
    let message = String::from_utf8(broken.stderr).unwrap();
    assert_eq!(broken.status.code(), Some(2), "{message}");
    assert!(message.contains("broken.json:2:"), "{message}");
}
