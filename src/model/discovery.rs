//! What was found out about the machine and its backups, beside what the probes saw.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What discovery found on the machine, or in the files that describe it. Nothing in it is secret: readers drop
/// credentials and signatures before they fill it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Discovery {
    /// Every place that was looked at and was there, or should have been, in the order of looking.
    pub sources: Vec<DiscoverySource>,
    /// Which proxy each consumer would use: `waagent`, `vmsnapshot-linux` (or the build installed), `probe`, `shell`,
    /// `vmsnapshot-windows`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<ConsumerProxy>,
    /// `HttpProxy.Host` and `HttpProxy.Port` as the snapshot extension itself reads them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension_proxy: Option<ExtensionProxy>,
    /// What instance metadata says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// The snapshot extension that is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extension: Option<InstalledExtension>,
    /// The snapshot method that the extension will be told to use, where something shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<ChosenMethod>,
    /// The extension's last run, from its own files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// Storage hosts that the extension's log names, the latest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logged_hosts: Vec<String>,
}

/// A place that discovery looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoverySource {
    /// Where: a path, a URL, a process, a variable.
    pub origin: String,
    /// What it gave, in a few words; `None`: nothing of use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gave: Option<String>,
    /// Why it could not be read, or what of it could not be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The proxy of one consumer for https requests to storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerProxy {
    /// Who.
    pub consumer: String,
    /// The proxy without credentials, as `http://host:port`; `None`: it goes direct.
    pub proxy: Option<String>,
    /// The place that decides; `None`: no place names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What else the reader should know: another place is ignored, hosts that are excepted, how sure this is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// `HttpProxy.Host` and `HttpProxy.Port` of `waagent.conf` after the extension's own parser (`WaagentLib.py`). The
/// extension takes the values as text; an empty one counts as set. All `None` where it cannot read the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtensionProxy {
    /// The file.
    pub source: String,
    /// `HttpProxy.Host`, without credentials.
    pub host: Option<String>,
    /// `HttpProxy.Port`.
    pub port: Option<String>,
}

/// What instance metadata says about the virtual machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Its resource group.
    pub resource_group: String,
    /// Its region, as metadata writes it: `westeurope`.
    pub region: String,
    /// `public`, `usgov`, `china`; as metadata writes it where unknown.
    pub cloud: String,
    /// `Linux` or `Windows`.
    pub os: String,
    /// Its disks, the OS disk first.
    pub disks: Vec<InstanceDisk>,
    /// Its private addresses.
    pub addresses: Vec<IpAddr>,
    /// Its subnets, `10.1.0.0/24`.
    pub subnets: Vec<String>,
}

/// A disk of the virtual machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceDisk {
    /// Its name.
    pub name: String,
    /// Its logical unit number; `None`: the OS disk.
    pub lun: Option<u32>,
    /// Whether it is a managed disk; `None`: metadata does not say.
    pub managed: Option<bool>,
    /// The blob of an unmanaged disk, without the query.
    pub uri: Option<String>,
    /// `Premium_LRS`, `UltraSSD_LRS`, … where known.
    pub storage_type: String,
    /// Whether writes are accelerated, which forces the method `onlyHost`.
    pub write_accelerated: bool,
    /// Whether it is lost with the machine (ephemeral), and so not backed up.
    pub ephemeral: bool,
}

/// The snapshot extension that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstalledExtension {
    /// Its folder below the agent's.
    pub path: String,
    /// The version of its manifest, or of the folder's name.
    pub version: String,
    /// The consumer whose behaviour it has: `vmsnapshot-linux-2018`, `vmsnapshot-linux-2019` or `vmsnapshot-linux`.
    pub consumer: String,
    /// What tells the build.
    pub because: String,
}

/// A snapshot method and what decides it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenMethod {
    /// `firstHostThenGuest`, `onlyGuest`, `firstGuestThenHost` or `onlyHost`.
    pub name: String,
    /// What decides it.
    pub because: String,
}

/// The extension's last run, as its own files tell it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastRun {
    /// When, as written in the file.
    pub at: Option<String>,
    /// The snapshot method it was told to use.
    pub method: Option<String>,
    /// The status file's `code`.
    pub code: Option<i32>,
    /// The health code.
    pub error_code: Option<i32>,
    /// The disks it tried from inside the machine, with what came of each.
    pub disks: Vec<LastDisk>,
    /// `hostStatusCodePreSnapshot`, where written.
    pub pre_snapshot: Option<String>,
    /// `hostStatusCodeDoSnapshot`, where written.
    pub do_snapshot: Option<String>,
    /// The files that tell this.
    pub sources: Vec<String>,
}

/// One disk of the last run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastDisk {
    /// The storage host, lower case.
    pub host: String,
    /// The blob's path, without the query.
    pub path: String,
    /// Whether its snapshot was taken, where the log tells.
    pub taken: Option<bool>,
    /// What went wrong, in the log's words, without anything secret.
    pub error: Option<String>,
}
