//! The snapshot extension's own files: which build is installed, and what its last run met.

use super::Machine;
use crate::{
    azure::{snapshot::Build, storage},
    model::{DiscoverySource, InstalledExtension, LastDisk, LastRun},
    triage::{self, Attempt, Call, Document, Way},
};

/// Where the agent keeps extensions.
const AGENT: &str = "/var/lib/waagent";

/// What the extension's folders are named, before their version.
const FOLDER: &str = "Microsoft.Azure.RecoveryServices.VMSnapshotLinux-";

/// The extension's log.
const LOG: &str = "/var/log/azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux/extension.log";

/// The last build that uses the proxy of `waagent.conf` (2019-06-26; the next one has 1.0.9154).
const LAST_WITH_PROXY: [u64; 4] = [1, 0, 9152, u64::MAX];

/// Hosts of the log that are kept: a virtual machine has at most 64 data disks.
const MAX_HOSTS: usize = 65;

/// What the build of March 2025 has anew: it reads the host's answer to decide.
const SINCE_2025: &str = "hostStatusCodeDoSnapshot";

/// What the extension's own files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extension {
    /// The extension that is installed.
    pub installed: Option<InstalledExtension>,
    /// Its last run.
    pub last_run: Option<LastRun>,
    /// Storage hosts that its log names, the latest first.
    pub hosts: Vec<String>,
    /// The places that were there, with what they gave.
    pub sources: Vec<DiscoverySource>,
}

/// Reads the extension's files on a machine. What cannot be read becomes a source with the problem.
#[must_use]
pub fn read(machine: &Machine) -> Extension {
    let mut extension = Extension::default();
    let mut documents = Vec::new();
    if let Some(folder) = newest(machine, &mut extension.sources) {
        extension.installed = installed(machine, &folder, &mut extension.sources);
        documents.extend(statuses(machine, &format!("{folder}/status"), &mut extension));
    }
    if let Some(text) = kept(machine.log(LOG), LOG, &mut extension.sources) {
        extension.name(LOG, &text);
        documents.push(triage::read(LOG, text.as_bytes()));
    }
    extension.sources.extend(documents.iter().map(source));
    extension.last_run = last_run(&documents);
    extension
}

impl Extension {
    /// Takes the storage hosts that a file names.
    fn name(&mut self, path: &str, text: &str) {
        let hosts = named(text);
        if !hosts.is_empty() {
            let gave = Some(format!("storage hosts, the latest first: {}", hosts.join(", ")));
            self.sources.push(DiscoverySource { origin: path.to_owned(), gave, problem: None });
        }
        for host in hosts {
            if self.hosts.len() < MAX_HOSTS && !self.hosts.contains(&host) {
                self.hosts.push(host);
            }
        }
    }
}

/// The folder with the highest version.
fn newest(machine: &Machine, sources: &mut Vec<DiscoverySource>) -> Option<String> {
    let names = match machine.names(AGENT) {
        Ok(names) => names,
        Err(e) => {
            sources.push(unreadable(AGENT, &e));
            return None;
        }
    };
    let folders = names.iter().filter_map(|name| Some((numbers(name.strip_prefix(FOLDER)?)?, name)));
    let (_, name) = folders.max_by_key(|(version, _)| *version)?;
    Some(format!("{AGENT}/{name}"))
}

/// The parts of a version, `1.0.9219.0`.
fn numbers(version: &str) -> Option<[u64; 4]> {
    let mut numbers = [0; 4];
    let mut parts = version.split('.');
    for (number, part) in numbers.iter_mut().zip(&mut parts) {
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

/// The installed build: the manifest's version tells the proxy's use, and the code itself the decision of 2025.
fn installed(machine: &Machine, folder: &str, sources: &mut Vec<DiscoverySource>) -> Option<InstalledExtension> {
    let manifest = format!("{folder}/manifest.xml");
    let written = text(machine, &manifest, sources).and_then(|text| {
        let (_, rest) = text.split_once("<Version>")?;
        let version = rest.split_once("</Version>")?.0.trim();
        numbers(version).map(|_| version.to_owned())
    });
    let in_name = folder.rsplit_once('-').map(|(_, version)| version.to_owned());
    let (version, version_from) = match (written, in_name) {
        (Some(version), _) => (version, "manifest.xml"),
        (None, Some(version)) => (version, "the folder's name"),
        (None, None) => return None,
    };
    let old = numbers(&version)? <= LAST_WITH_PROXY;
    let code = text(machine, &format!("{folder}/main/freezesnapshotter.py"), sources);
    let (build, because) = match code {
        _ if old => (Build::Until2019, format!("version {version} in {version_from} is not above 1.0.9152")),
        Some(code) if code.contains(SINCE_2025) => {
            (Build::Current, format!("main/freezesnapshotter.py reads {SINCE_2025}"))
        }
        Some(_) => (Build::Until2025, format!("main/freezesnapshotter.py does not read {SINCE_2025}")),
        None => (
            Build::Current,
            format!("version {version} in {version_from}; main/freezesnapshotter.py is not there to tell more"),
        ),
    };
    let consumer = build.consumer().to_owned();
    let gave = Some(format!("VMSnapshotLinux {version}, {consumer}"));
    sources.push(DiscoverySource { origin: folder.to_owned(), gave, problem: None });
    Some(InstalledExtension { path: folder.to_owned(), version, consumer, because })
}

/// The status files that the extension still holds for its own: `N.status`, and older ones as `N_status`.
fn statuses(machine: &Machine, folder: &str, extension: &mut Extension) -> Vec<Document> {
    let names = machine.names(folder).unwrap_or_else(|e| {
        extension.sources.push(unreadable(folder, &e));
        Vec::new()
    });
    let number = |name: &str| name.strip_suffix(".status").or(name.strip_suffix("_status"))?.parse::<u64>().ok();
    let mut numbered: Vec<_> = names.iter().filter_map(|name| Some((number(name)?, name))).collect();
    numbered.sort_unstable();
    // Only the last run counts; the one before it tells it apart from a report of long ago.
    let last = numbered.iter().rev().take(2).map(|(_, name)| format!("{folder}/{name}"));
    last.filter_map(|path| {
        let text = text(machine, &path, &mut extension.sources)?;
        extension.name(&path, &text);
        Some(triage::read(&path, text.as_bytes()))
    })
    .collect()
}

/// The last run, as the log and the status files together tell it; one that has ended before one that has not.
fn last_run(documents: &[Document]) -> Option<LastRun> {
    let (attempts, _) = triage::attempts(documents);
    let last = attempts.iter().rfind(|attempt| attempt.code.is_some()).or(attempts.last())?;
    // `extension.log:120`
    let log = last.place.rsplit_once(':').map_or(&*last.place, |(file, _)| file);
    let mut sources = vec![log.to_owned()];
    sources.extend(last.reports.iter().filter(|report| *report != log).cloned());
    let status = |call| last.answer(call).and_then(|answer| answer.status).map(|status| status.to_string());
    Some(LastRun {
        at: last.ended.clone().or_else(|| last.started.clone()),
        method: last.forced_method.clone().or_else(|| last.method.clone()),
        code: last.code,
        error_code: last.health_code,
        disks: disks(last),
        pre_snapshot: status(Call::PreSnapshot),
        do_snapshot: status(Call::DoSnapshot),
        sources,
    })
}

/// The storage hosts that a log names in requests (`HttpUtil.py`: `Details of sas uri object  hostname: …`) and in URIs of
/// blobs and snapshots, the latest first. They are there also where the host took the last snapshot, and where too little
/// of the log is left to tell a run.
fn named(log: &str) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for line in log.lines().rev() {
        let after = ["hostname: ", "https://"].into_iter().flat_map(|mark| line.split(mark).skip(1));
        for host in
            after.filter_map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && !"-.".contains(c)).next())
        {
            let host = host.to_ascii_lowercase();
            if storage::is_storage_name(&host) && !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        if hosts.len() >= MAX_HOSTS {
            break;
        }
    }
    hosts.truncate(MAX_HOSTS);
    hosts
}

/// The disks that were tried from inside the machine.
fn disks(attempt: &Attempt) -> Vec<LastDisk> {
    let guest = attempt.disks.iter().filter(|disk| disk.way != Way::Host);
    guest
        .filter_map(|disk| {
            let error = disk.failure.as_ref().map(|failure| failure.text.clone());
            Some(LastDisk { host: disk.host.clone()?, path: disk.path.clone(), taken: disk.taken, error })
        })
        .collect()
}

fn source(document: &Document) -> DiscoverySource {
    let read = &document.source;
    let gave = match read.skipped {
        0 => format!("{}, {} lines", read.kind, read.lines),
        skipped => format!("{}, {skipped} of {} lines skipped", read.kind, read.lines),
    };
    DiscoverySource { origin: read.path.clone(), gave: Some(gave), problem: read.problem.clone() }
}

/// The text of a file, where there is one.
fn text(machine: &Machine, path: &str, sources: &mut Vec<DiscoverySource>) -> Option<String> {
    kept(machine.text(path), path, sources)
}

/// What was read, or the problem in its place.
fn kept(read: std::io::Result<Option<String>>, path: &str, sources: &mut Vec<DiscoverySource>) -> Option<String> {
    read.unwrap_or_else(|e| {
        sources.push(unreadable(path, &e));
        None
    })
}

fn unreadable(path: &str, error: &std::io::Error) -> DiscoverySource {
    DiscoverySource { origin: path.to_owned(), gave: None, problem: Some(format!("cannot be read: {error}")) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const LOG_OF_ONE: &str = include_str!("../../tests/fixtures/logs/guest-one-of-two/extension.log");

    /// A machine with these files, `~` standing for the agent's folder and the extension's name.
    fn machine(files: &[(&str, &str)]) -> Machine {
        let path = |name: &str| match name.strip_prefix('~') {
            Some(rest) => format!("{AGENT}/{FOLDER}{rest}"),
            None => name.to_owned(),
        };
        Machine::described(
            files.iter().map(|(name, text)| (path(name), (*text).to_owned())).collect::<BTreeMap<_, _>>(),
            [],
        )
    }

    fn build(files: &[(&str, &str)]) -> (String, String) {
        let installed = read(&machine(files)).installed.unwrap();
        (installed.version, installed.consumer)
    }

    #[test]
    fn the_newest_folder_counts_by_number() {
        let code = "doSnapshot_status = get_telemetry_data(CommonVariables.hostStatusCodeDoSnapshot)";
        let files = [("~1.0.999.0/main/freezesnapshotter.py", ""), ("~1.0.9219.0/main/freezesnapshotter.py", code)];
        assert_eq!(build(&files), ("1.0.9219.0".into(), "vmsnapshot-linux".into()));
        assert_eq!(read(&machine(&[("/var/lib/waagent/x", "")])), Extension::default());
    }

    #[test]
    fn manifest_and_code_tell_the_build() {
        let manifest = |version| format!("<ExtensionImage>\n<Version>{version}</Version>\n</ExtensionImage>");
        for (version, code, consumer) in [
            ("1.0.9152.0", "", "vmsnapshot-linux-2018"),
            ("1.0.9154.0", "all_failed", "vmsnapshot-linux-2019"),
            ("1.0.9154.0", "hostStatusCodeDoSnapshot", "vmsnapshot-linux"),
        ] {
            let files =
                [("~1.0.1.0/manifest.xml", manifest(version)), ("~1.0.1.0/main/freezesnapshotter.py", code.into())];
            let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
            assert_eq!(build(&files), (version.into(), consumer.into()));
        }
        assert_eq!(build(&[("~1.0.9219.0/manifest.xml", "no xml")]).1, "vmsnapshot-linux");
    }

    #[test]
    fn the_last_run_names_the_storage_it_used() {
        let run = read(&machine(&[(LOG, LOG_OF_ONE)])).last_run.unwrap();
        assert_eq!((run.code, run.error_code), (Some(76), Some(761)));
        assert_eq!((run.method.as_deref(), run.pre_snapshot.as_deref()), (Some("onlyGuest"), Some("555")));
        let disks: Vec<_> = run.disks.iter().map(|disk| (disk.host.as_str(), disk.taken)).collect();
        let wanted =
            [("md-hdd4kqzx1t2v.z27.blob.storage.azure.net", Some(true)), ("acct2.blob.core.windows.net", Some(false))];
        assert_eq!(disks, wanted);
        assert_eq!(run.sources, [LOG]);
    }

    #[test]
    fn a_log_of_which_little_is_left_still_names_storage() {
        let log = "2026-01-04 03:10:03 [x]From Host- IsSuccessful:true, SnapshotUri:https://md-old.z1.blob.storage.azure.net:443/a\n\
                   2026-01-05 03:10:03 [x]Details of sas uri object  hostname: MD-new.z2.blob.storage.azure.net path: /x/abcd\n\
                   2026-01-05 03:10:04 [x]Details of sas uri object  hostname: 168.63.129.16 path: /metadata\n\
                   2026-01-05 03:10:05 [x]see https://aka.ms/x?sig=SECRET, hostname: md-new.z2.blob.storage.azure.net\n";
        let extension = read(&machine(&[(LOG, log)]));
        assert_eq!(extension.hosts, ["md-new.z2.blob.storage.azure.net", "md-old.z1.blob.storage.azure.net"]);
        assert!(!format!("{:?}", extension.sources).contains("SECRET"));
    }

    #[test]
    fn the_tree_that_mimics_a_machine_is_read() {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vm");
        let extension = read(&Machine::below(root, []));
        let installed = extension.installed.unwrap();
        assert_eq!((&*installed.version, &*installed.consumer), ("1.0.9219.0", "vmsnapshot-linux"));
        let run = extension.last_run.unwrap();
        assert_eq!((run.code, run.error_code), (Some(2), Some(2)));
        assert_eq!(run.disks.len(), 2);
        assert!(run.disks.iter().all(|disk| disk.host.ends_with(".blob.storage.azure.net") && disk.error.is_some()));
        assert_eq!(run.sources.len(), 2, "{:?}", run.sources);
        let told = format!("{:?}", extension.sources);
        assert!(
            told.contains("extension log, ")
                && !told.contains("SECRET")
                && extension.sources.iter().all(|source| source.problem.is_none()),
            "{told}"
        );
    }
}
