//! Instance metadata (169.254.169.254:80): what the platform says of the virtual machine.

use std::{io, net::SocketAddr, sync::Arc};

use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{
    fault::proto::Page,
    host,
    http::{self, Answer, Head, read_head, request_id},
    log::{Event, Log},
    origin::last_words,
    spec::{HostAnswer, MetadataSpec},
};

/// The versions that it knows.
const VERSIONS: [&str; 4] = ["2019-06-01", "2019-08-15", "2020-09-01", "2021-02-01"];

/// The service of one lab.
#[derive(Debug)]
pub(super) struct Metadata {
    answer: HostAnswer,
    instance: Value,
}

impl Metadata {
    pub(super) fn new(spec: &MetadataSpec) -> Self {
        let mut instance = healthy();
        merge(&mut instance, Value::Object(spec.instance.clone()));
        Self { answer: spec.answer, instance }
    }

    /// Serves one connection.
    pub(super) async fn serve(self: Arc<Self>, log: Log, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(head) = read_head(&mut stream, &mut buffer).await? {
            log.add(Event::Host { path: head.path().to_owned(), peer });
            let mut reply = match self.answer {
                HostAnswer::Other => http::page(Page::WebServer),
                _ => self.answer(&head),
            };
            if self.answer == HostAnswer::Via {
                reply.headers.push(host::VIA.into());
            }
            reply.close |= head.wants_close();
            reply.write(&mut stream, &head.method).await?;
            if reply.close {
                break;
            }
        }
        last_words(stream, b"").await
    }

    /// As the service's documentation describes it ("Azure Instance Metadata Service", usage, errors and debugging).
    fn answer(&self, head: &Head) -> Answer {
        if head.header("X-Forwarded-For").is_some() {
            return bad_request("Bad request. The header X-Forwarded-For is not accepted.");
        }
        if !head.header("Metadata").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return bad_request("Bad request. Required metadata header not specified.");
        }
        if head.method != "GET" {
            return said(405, "Method Not Allowed", &json!({ "error": "Method not allowed." }));
        }
        let path = head.path().trim_end_matches('/');
        if path == "/metadata/versions" {
            return said(200, "OK", &json!({ "apiVersions": VERSIONS }));
        }
        let query = |name: &str| head.query().split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let Some(node) = path.strip_prefix("/metadata/instance").and_then(|path| self.instance.pointer(path)) else {
            return said(404, "Not Found", &json!({ "error": "Not found" }));
        };
        match query("api-version") {
            None => bad_request("Bad request. api-version was not specified in the request."),
            Some(version) if !VERSIONS.contains(&version) => {
                bad_request("Bad request. api-version is invalid or was not specified in the request.")
            }
            Some(_) => match (node, query("format")) {
                (Value::String(text), Some("text")) => {
                    Answer::new(200, "OK", &["Content-Type: text/plain; charset=utf-8", SERVER], text.as_str())
                }
                (Value::String(_), _) => bad_request("Bad request. A leaf is given as text only: format=text."),
                _ => said(200, "OK", node),
            },
        }
    }
}

const SERVER: &str = "Server: IMDS/150.870.65.1854";

fn said(status: u16, reason: &str, body: &Value) -> Answer {
    let id = format!("x-ms-request-id: {}", request_id());
    let date = format!("Date: {}", http::date(0));
    Answer::new(
        status,
        reason,
        &["Content-Type: application/json; charset=utf-8", SERVER, &id, &date],
        body.to_string(),
    )
}

fn bad_request(error: &str) -> Answer {
    said(400, "Bad Request", &json!({ "error": error, "newest-versions": VERSIONS }))
}

/// A Linux machine in western Europe with two managed disks.
fn healthy() -> Value {
    const GROUP: &str =
        "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg-app/providers/Microsoft.Compute";
    json!({
        "compute": {
            "azEnvironment": "AzurePublicCloud",
            "location": "westeurope",
            "name": "vm-app1",
            "offer": "0001-com-ubuntu-server-jammy",
            "osType": "Linux",
            "placementGroupId": "",
            "plan": { "name": "", "product": "", "publisher": "" },
            "platformFaultDomain": "0",
            "platformUpdateDomain": "0",
            "provider": "Microsoft.Compute",
            "publisher": "canonical",
            "resourceGroupName": "rg-app",
            "resourceId": format!("{GROUP}/virtualMachines/vm-app1"),
            "sku": "22_04-lts-gen2",
            "subscriptionId": "00000000-0000-0000-0000-000000000000",
            "tags": "",
            "tagsList": [],
            "version": "22.04.202401010",
            "vmId": "00000000-0000-0000-0000-000000000001",
            "vmScaleSetName": "",
            "vmSize": "Standard_D2s_v3",
            "zone": "",
            "storageProfile": {
                "imageReference": {
                    "id": "", "offer": "0001-com-ubuntu-server-jammy", "publisher": "canonical", "sku": "22_04-lts-gen2",
                    "version": "latest",
                },
                "osDisk": {
                    "caching": "ReadWrite",
                    "createOption": "FromImage",
                    "diffDiskSettings": { "option": "" },
                    "diskSizeGB": "30",
                    "encryptionSettings": { "enabled": "false" },
                    "image": { "uri": "" },
                    "managedDisk": { "id": format!("{GROUP}/disks/vm-app1_OsDisk"), "storageAccountType": "Premium_LRS" },
                    "name": "vm-app1_OsDisk",
                    "osType": "Linux",
                    "vhd": { "uri": "" },
                    "writeAcceleratorEnabled": "false",
                },
                "dataDisks": [{
                    "caching": "None",
                    "createOption": "Attach",
                    "diskSizeGB": "1024",
                    "image": { "uri": "" },
                    "lun": "0",
                    "managedDisk": { "id": format!("{GROUP}/disks/data0"), "storageAccountType": "Premium_LRS" },
                    "name": "data0",
                    "vhd": { "uri": "" },
                    "writeAcceleratorEnabled": "false",
                }],
            },
        },
        "network": {
            "interface": [{
                "ipv4": {
                    "ipAddress": [{ "privateIpAddress": "10.1.0.4", "publicIpAddress": "" }],
                    "subnet": [{ "address": "10.1.0.0", "prefix": "24" }],
                },
                "ipv6": { "ipAddress": [] },
                "macAddress": "000D3A36DDED",
            }],
        },
    })
}

/// Puts one document over another: objects are merged, everything else is replaced.
fn merge(target: &mut Value, over: Value) {
    match (target, over) {
        (Value::Object(target), Value::Object(over)) => {
            for (key, value) in over {
                merge(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, over) => *target = over,
    }
}
