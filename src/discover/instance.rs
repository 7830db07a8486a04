//! What instance metadata says about the virtual machine ("Azure Instance Metadata Service", `/metadata/instance`).

use std::{cell::RefCell, net::IpAddr, str::FromStr};

use serde_json::Value;

use crate::{
    azure::cloud::Cloud,
    model::{Instance, InstanceDisk},
};

/// Problems of one answer that are kept.
const MAX_PROBLEMS: usize = 8;

/// Entries of an array that are read: no machine has more disks or interfaces.
const MAX_ITEMS: usize = 128;

/// Characters of a value that are kept: names and regions are far shorter.
const MAX_TEXT: usize = 256;

/// Reads an answer, and says what in it could not be used. All values are strings there, numbers and truth values too;
/// what is absent is an empty string, an empty array or null.
///
/// # Errors
/// When the answer is no JSON, with line and column, or not about a machine.
pub fn instance(json: &[u8]) -> Result<(Instance, Vec<String>), String> {
    let document: Value = serde_json::from_slice(json).map_err(|e| format!("this is no JSON: {e}"))?;
    let problems = RefCell::new(Vec::new());
    let root = Node { value: Some(&document), pointer: String::new(), problems: &problems };
    let compute = root.get("compute");
    if compute.value.is_none() {
        return Err("this is no instance metadata: it has no `compute`".into());
    }
    let storage = compute.get("storageProfile");
    let os_disk = storage.get("osDisk");
    let disks = os_disk.value.map(|_| disk(&os_disk, None)).into_iter();
    let data_disks = storage.get("dataDisks").items();
    let disks = disks.chain(data_disks.iter().map(|node| disk(node, node.get("lun").parsed("a number")))).collect();
    let interfaces = root.get("network").get("interface").items();
    let families = || interfaces.iter().flat_map(|interface| ["ipv4", "ipv6"].map(|family| interface.get(family)));
    let instance = Instance {
        name: compute.get("name").text(),
        resource_group: compute.get("resourceGroupName").text(),
        region: compute.get("location").text(),
        cloud: cloud(compute.get("azEnvironment").text()),
        os: compute.get("osType").text(),
        disks,
        addresses: families()
            .flat_map(|family| family.get("ipAddress").items())
            .filter_map(|at| address(&at))
            .collect(),
        subnets: families().flat_map(|family| family.get("subnet").items()).filter_map(|at| subnet(&at)).collect(),
    };
    Ok((instance, problems.into_inner()))
}

fn disk(node: &Node<'_>, lun: Option<u32>) -> InstanceDisk {
    let managed = node.get("managedDisk");
    let storage_type = managed.get("storageAccountType").text();
    // A shared access signature has no place here; if there is one all the same it is dropped.
    let uri = node.get("vhd").get("uri").text();
    let uri = uri.split(['?', '#']).next().filter(|uri| !uri.is_empty() && !uri.contains('@')).map(ToOwned::to_owned);
    let is_managed = !managed.get("id").text().is_empty() || !storage_type.is_empty();
    InstanceDisk {
        name: node.get("name").text(),
        lun,
        managed: if is_managed { Some(true) } else { uri.as_ref().map(|_| false) },
        uri,
        storage_type,
        write_accelerated: node.get("writeAcceleratorEnabled").flag(),
        ephemeral: node.get("diffDiskSettings").get("option").text().eq_ignore_ascii_case("Local"),
    }
}

/// The name that options and records use; metadata's own where there is none.
fn cloud(environment: String) -> String {
    let known = match environment.to_ascii_lowercase().as_str() {
        "azurepubliccloud" => Cloud::Public,
        "azureusgovernmentcloud" => Cloud::UsGov,
        "azurechinacloud" => Cloud::China,
        _ => return environment,
    };
    known.as_str().into()
}

fn address(node: &Node<'_>) -> Option<IpAddr> {
    node.get("privateIpAddress").parsed("an IP address")
}

fn subnet(node: &Node<'_>) -> Option<String> {
    let address: IpAddr = node.get("address").parsed("an IP address")?;
    let bits: u8 = node.get("prefix").parsed("a number")?;
    Some(format!("{address}/{bits}"))
}

/// A place in the document that may be empty.
struct Node<'a> {
    value: Option<&'a Value>,
    /// As in RFC 6901.
    pointer: String,
    problems: &'a RefCell<Vec<String>>,
}

impl<'a> Node<'a> {
    fn get(&self, key: &str) -> Self {
        let value = match self.present() {
            Some(Value::Object(members)) => members.get(key).filter(|value| !value.is_null()),
            Some(other) => self.wrong(other, "an object"),
            None => None,
        };
        Self { value, pointer: format!("{}/{key}", self.pointer), problems: self.problems }
    }

    fn items(&self) -> Vec<Self> {
        let items = match self.present() {
            Some(Value::Array(items)) => Some(items.as_slice()),
            Some(other) => self.wrong(other, "an array"),
            None => None,
        }
        .unwrap_or_default();
        if items.len() > MAX_ITEMS {
            self.problem(&format!("{} entries; only the first {MAX_ITEMS} are read", items.len()));
        }
        let node = |(index, value)| Self {
            value: Some(value),
            pointer: format!("{}/{index}", self.pointer),
            problems: self.problems,
        };
        items.iter().take(MAX_ITEMS).enumerate().map(node).collect()
    }

    fn text(&self) -> String {
        let text = match self.present() {
            Some(Value::String(text)) => Some(text.as_str()),
            Some(other) => self.wrong(other, "a string"),
            None => None,
        };
        text.unwrap_or_default().trim().chars().take(MAX_TEXT).collect()
    }

    fn parsed<T: FromStr>(&self, expected: &str) -> Option<T> {
        let text = self.text();
        let parsed = text.parse().ok();
        if parsed.is_none() && !text.is_empty() {
            self.problem(&format!("a string that is not {expected}"));
        }
        parsed
    }

    fn flag(&self) -> bool {
        match self.text().to_ascii_lowercase().as_str() {
            "true" => true,
            "" | "false" => false,
            _ => {
                self.problem("a string that is neither `true` nor `false`");
                false
            }
        }
    }

    /// The value, unless it is one of those that mean nothing.
    fn present(&self) -> Option<&'a Value> {
        self.value.filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    fn wrong<T: ?Sized>(&self, found: &Value, expected: &str) -> Option<&'a T> {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a truth value",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        self.problem(&format!("{found} in place of {expected}"));
        None
    }

    fn problem(&self, problem: &str) {
        let problem = format!("{}: {problem}", self.pointer);
        let mut problems = self.problems.borrow_mut();
        if problems.len() < MAX_PROBLEMS && !problems.contains(&problem) {
            problems.push(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> (Instance, Vec<String>) {
        instance(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_machine_with_managed_disks() {
        let (vm, problems) = read(include_str!("../../tests/fixtures/metadata/vm.json"));
        assert_eq!(problems, [""; 0]);
        assert_eq!(
            (vm.name.as_str(), vm.resource_group.as_str(), vm.region.as_str()),
            ("vm-app1", "rg-app", "westeurope")
        );
        assert_eq!((vm.cloud.as_str(), vm.os.as_str()), ("public", "Linux"));
        assert_eq!(vm.addresses, ["10.1.0.4".parse::<IpAddr>().unwrap()]);
        assert_eq!(vm.subnets, ["10.1.0.0/24"]);
        let disks: Vec<_> = vm.disks.iter().map(|disk| (disk.name.as_str(), disk.lun, disk.managed)).collect();
        assert_eq!(
            disks,
            [("vm-app1_OsDisk", None, Some(true)), ("data0", Some(0), Some(true)), ("data1", Some(1), Some(true))]
        );
    }

    #[test]
    fn unmanaged_disks_have_a_blob_and_its_query_is_dropped() {
        let (vm, problems) = read(include_str!("../../tests/fixtures/metadata/vm-unmanaged.json"));
        assert_eq!(problems, [""; 0]);
        let uris: Vec<_> = vm.disks.iter().map(|disk| (disk.managed, disk.uri.as_deref())).collect();
        assert_eq!(
            uris,
            [
                (Some(false), Some("https://acct.blob.core.windows.net/vhds/vm-old1-os.vhd")),
                (Some(false), Some("https://oldvhds7.blob.core.windows.net/vhds/vm-old1-data.vhd")),
            ]
        );
        let (vm, _) = read(
            r#"{"compute": {"storageProfile": {"osDisk": {"vhd": {"uri": "https://a.blob.core.windows.net/v/o.vhd?sig=TOPSECRET"}},
                "dataDisks": [{"lun": "3", "vhd": {"uri": "https://u:TOPSECRET@a.example/v"}}]}}}"#,
        );
        assert_eq!(vm.disks[0].uri.as_deref(), Some("https://a.blob.core.windows.net/v/o.vhd"));
        assert_eq!((vm.disks[1].lun, &vm.disks[1].uri), (Some(3), &None));
        assert!(!format!("{vm:?}").contains("TOPSECRET"));
    }

    #[test]
    fn special_disks_are_told() {
        let (vm, _) = read(include_str!("../../tests/fixtures/metadata/accelerated.json"));
        let facts: Vec<_> = vm.disks.iter().map(|disk| (disk.write_accelerated, disk.storage_type.as_str())).collect();
        assert_eq!(facts, [(false, "Premium_LRS"), (true, "Premium_LRS"), (false, "UltraSSD_LRS")]);
        let (vm, _) = read(r#"{"compute":{"storageProfile":{"osDisk":{"diffDiskSettings":{"option":"Local"}}}}}"#);
        assert!(vm.disks[0].ephemeral);
    }

    #[test]
    fn what_is_absent_is_no_problem() {
        for json in [
            r#"{"compute": {}}"#,
            r#"{"compute": {"name": null, "storageProfile": null, "location": ""}, "network": null}"#,
            r#"{"compute": {"storageProfile": {"osDisk": {"managedDisk": null, "vhd": null, "diffDiskSettings": ""}, "dataDisks": []}},
                "network": {"interface": [{"ipv4": {"ipAddress": [], "subnet": null}}]}}"#,
        ] {
            let (vm, problems) = read(json);
            assert_eq!(problems, [""; 0], "{json}");
            assert_eq!(vm.region, "");
            assert!(vm.disks.iter().all(|disk| disk.managed.is_none()));
        }
        assert_eq!(read(r#"{"compute": {"azEnvironment": "AzureGermanCloud"}}"#).0.cloud, "AzureGermanCloud");
    }

    #[test]
    fn a_wrong_type_is_told_with_its_place_and_the_rest_is_read() {
        let (vm, problems) = read(
            r#"{"compute": {"name": 7, "location": "westeurope", "storageProfile": {"osDisk": {"writeAcceleratorEnabled": true},
                "dataDisks": [{"lun": "x", "name": "data0"}, 5]}}, "network": {"interface": {}}}"#,
        );
        assert_eq!(vm.region, "westeurope");
        assert_eq!(vm.disks[1].name, "data0");
        assert_eq!(
            problems,
            [
                "/compute/storageProfile/osDisk/writeAcceleratorEnabled: a truth value in place of a string",
                "/compute/storageProfile/dataDisks/0/lun: a string that is not a number",
                "/compute/storageProfile/dataDisks/1: a number in place of an object",
                "/network/interface: an object in place of an array",
                "/compute/name: a number in place of a string",
            ]
        );
    }

    #[test]
    fn what_is_no_metadata_is_refused_with_its_place() {
        assert!(instance(b"{\"compute\": ").unwrap_err().contains("line 1 column"));
        assert!(instance(b"\xff\xfe").unwrap_err().starts_with("this is no JSON: "));
        assert!(instance(br#"{"error": "Bad request"}"#).unwrap_err().contains("no `compute`"));
        assert!(instance("[".repeat(100_000).as_bytes()).unwrap_err().contains("recursion limit"));
        let many = format!(r#"{{"compute": {{"storageProfile": {{"dataDisks": [{}{{}}]}}}}}}"#, "7,".repeat(5000));
        let (vm, problems) = read(&many);
        assert_eq!((vm.disks.len(), problems.len()), (MAX_ITEMS, MAX_PROBLEMS));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "\\PC{0,80}", value in "(null|7|\"\"|\"x\"|true|\\[\\]|\\{\\}|\\[7\\])") {
            let _ = instance(text.as_bytes());
            for key in ["storageProfile", "name", "location"] {
                let _ = instance(format!(r#"{{"compute": {{"{key}": {value}}}, "network": {value}}}"#).as_bytes());
            }
            let disks = format!(r#"{{"compute": {{"storageProfile": {{"osDisk": {value}, "dataDisks": {value}}}}}}}"#);
            prop_assert!(instance(disks.as_bytes()).is_ok());
        }
    }
}
