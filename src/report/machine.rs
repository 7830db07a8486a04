//! What discovery found, in the words that text, Markdown and HTML share.

use std::borrow::Cow;

use super::words::{self, short};
use crate::model::{ConsumerProxy, Discovery, Instance, InstanceDisk, LastRun};

/// Names in a list.
const MAX_NAMES: usize = 6;

/// Characters of one value: files and logs may hold anything.
const MAX_VALUE: usize = 200;

/// What was found, a line each: the machine, its disks, the extension, its method, its last run.
pub(super) fn facts(discovery: &Discovery) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(instance) = &discovery.instance {
        facts.push(machine(instance));
        facts.extend(disks(instance));
    }
    facts.extend(discovery.extension.as_ref().map(|extension| {
        let [version, consumer, because] =
            [&extension.version, &extension.consumer, &extension.because].map(|text| short(text, MAX_VALUE));
        format!("snapshot extension {version}, which behaves as {consumer}: {because}")
    }));
    facts
        .extend(discovery.method.as_ref().map(|method| format!("snapshot method {}: {}", method.name, method.because)));
    facts.extend(discovery.last_run.as_ref().map(last_run));
    facts
}

/// One row of the table of proxies.
pub(super) struct Row<'a> {
    /// Who.
    pub(super) consumer: &'a str,
    /// The proxy, or `direct`.
    pub(super) way: &'a str,
    /// The place that decides.
    pub(super) source: Cow<'a, str>,
    /// What else there is to know.
    pub(super) note: Option<&'a str>,
}

impl Row<'_> {
    /// Source and note in one.
    pub(super) fn remarks(&self) -> String {
        [Some(&*self.source), self.note].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// Which proxy each consumer takes.
pub(super) fn rows(discovery: &Discovery) -> Vec<Row<'_>> {
    discovery.consumers.iter().map(row).collect()
}

fn row(consumer: &ConsumerProxy) -> Row<'_> {
    Row {
        consumer: &consumer.consumer,
        way: consumer.proxy.as_deref().unwrap_or("direct"),
        source: short(consumer.source.as_deref().unwrap_or("none"), MAX_VALUE),
        note: consumer.note.as_deref(),
    }
}

/// Every place that was looked at and what it gave.
pub(super) fn sources(discovery: &Discovery) -> Vec<String> {
    let source = discovery.sources.iter().map(|source| {
        let parts: Vec<_> = source.gave.iter().chain(&source.problem).map(|text| short(text, 2 * MAX_VALUE)).collect();
        let gave = if parts.is_empty() { "nothing of use".to_owned() } else { parts.join("; ") };
        format!("{}: {gave}", short(&source.origin, MAX_VALUE))
    });
    source.collect()
}

/// `vm-app1 in westeurope (public), resource group rg-app, Linux, 10.1.0.4 in 10.1.0.0/24`
fn machine(instance: &Instance) -> String {
    let known = |text: &str| (!text.is_empty()).then(|| short(text, MAX_VALUE).into_owned());
    let place = match (known(&instance.region), known(&instance.cloud)) {
        (Some(region), Some(cloud)) => Some(format!(" in {region} ({cloud})")),
        (Some(place), None) | (None, Some(place)) => Some(format!(" in {place}")),
        (None, None) => None,
    };
    let name = known(&instance.name).unwrap_or_else(|| "a virtual machine without a name".into());
    let mut parts = vec![format!("{name}{}", place.unwrap_or_default())];
    parts.extend(known(&instance.resource_group).map(|group| format!("resource group {group}")));
    parts.extend(known(&instance.os));
    let addresses: Vec<_> = instance.addresses.iter().take(MAX_NAMES).map(ToString::to_string).collect();
    if !addresses.is_empty() {
        let subnets: Vec<_> = instance.subnets.iter().take(MAX_NAMES).map(String::as_str).collect();
        let subnets = if subnets.is_empty() { String::new() } else { format!(" in {}", subnets.join(", ")) };
        parts.push(format!("{}{subnets}", addresses.join(", ")));
    }
    parts.join(", ")
}

/// The disks, alike ones together.
fn disks(instance: &Instance) -> Option<String> {
    let kinds = [(Some(true), "managed disk"), (Some(false), "unmanaged disk"), (None, "disk of unknown kind")];
    let lists = kinds.into_iter().filter_map(|(managed, kind)| {
        let own: Vec<_> = instance.disks.iter().filter(|disk| disk.managed == managed).collect();
        let names: Vec<_> = own.iter().take(MAX_NAMES).map(|disk| disk_name(disk)).collect();
        let more = own.len().saturating_sub(MAX_NAMES);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!own.is_empty()).then(|| format!("{}: {}{more}", words::plural(own.len(), kind), names.join(", ")))
    });
    let lists: Vec<_> = lists.collect();
    (!lists.is_empty()).then(|| lists.join("; "))
}

fn disk_name(disk: &InstanceDisk) -> String {
    let name = if disk.name.is_empty() { "(no name)" } else { &disk.name };
    let ultra = matches!(disk.storage_type.as_str(), "UltraSSD_LRS" | "PremiumV2_LRS");
    let marks = [
        (disk.write_accelerated, "write acceleration"),
        (disk.ephemeral, "ephemeral, not backed up"),
        (ultra, disk.storage_type.as_str()),
    ];
    let marks: Vec<_> = marks.into_iter().filter_map(|(is, mark)| is.then_some(mark)).collect();
    let uri = disk.uri.as_deref().map(|uri| format!(" at {}", short(uri, MAX_VALUE))).unwrap_or_default();
    let marks = if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) };
    format!("{}{marks}{uri}", short(name, MAX_VALUE))
}

/// `last run 2026-01-05T03:10:44Z: method firstHostThenGuest, code 2, PreSnapshot 555, 2 of 2 disks failed`
fn last_run(run: &LastRun) -> String {
    let mut facts = Vec::new();
    facts.extend(run.method.as_deref().map(|method| format!("method {}", short(method, MAX_VALUE))));
    facts.extend(run.code.map(|code| format!("code {code}")));
    facts.extend(run.error_code.filter(|code| run.code != Some(*code)).map(|code| format!("health code {code}")));
    facts.extend(run.pre_snapshot.as_deref().map(|status| format!("PreSnapshot {}", short(status, MAX_VALUE))));
    facts.extend(run.do_snapshot.as_deref().map(|status| format!("DoSnapshot {}", short(status, MAX_VALUE))));
    let failed = run.disks.iter().filter(|disk| disk.taken == Some(false)).count();
    if failed > 0 {
        facts.push(format!("{failed} of {} failed", words::plural(run.disks.len(), "disk")));
    }
    let at = run.at.as_deref().map(|at| format!(" {}", short(at, MAX_VALUE))).unwrap_or_default();
    let facts = if facts.is_empty() { "nothing told".to_owned() } else { facts.join(", ") };
    format!("last run{at}: {facts}")
}
