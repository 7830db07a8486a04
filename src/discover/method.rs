//! Which snapshot method the extension will be told to use, as far as the machine shows it.

use crate::{
    azure::snapshot::Method,
    model::{ChosenMethod, Instance, InstanceDisk, LastRun},
};

/// The settings of the extension that an administrator may write.
pub(super) const SETTINGS_FILE: &str = "/etc/azure/vmbackup.conf";

/// The method and what decides it, in the order in which the extension overrides one by the other: disks that only the
/// host can snapshot, `SnapshotMethod` of its settings file, what the service asked for last time
/// (`freezesnapshotter.py`). `None`: nothing shows it.
pub(super) fn choose(
    instance: Option<&Instance>,
    settings: Option<&str>,
    last_run: Option<&LastRun>,
) -> Option<ChosenMethod> {
    let chosen = |method: Method, because: String| ChosenMethod { name: method.as_str().into(), because };
    let of_disk = instance.and_then(|instance| instance.disks.iter().find_map(|disk| Some((disk, host_only(disk)?))));
    if let Some((disk, why)) = of_disk {
        let because = format!("disk {} {why}, which only the host can snapshot, unless it is excluded", disk.name);
        return Some(chosen(Method::OnlyHost, because));
    }
    if let Some(name) = settings {
        return Some(match Method::from_name(name) {
            Some(method) => chosen(method, format!("SnapshotMethod in {SETTINGS_FILE}")),
            None => chosen(
                Method::default(),
                format!("SnapshotMethod in {SETTINGS_FILE} is unknown to the extension, which then takes its default"),
            ),
        });
    }
    let method = Method::from_name(last_run?.method.as_deref()?)?;
    Some(chosen(method, "the extension's last run".into()))
}

/// Why the extension leaves a disk to the host (`isAnyWADiskIncluded`, `isAnyDirectDriveDiskIncluded`).
fn host_only(disk: &InstanceDisk) -> Option<&'static str> {
    match disk.storage_type.as_str() {
        _ if disk.write_accelerated => Some("has write acceleration"),
        "UltraSSD_LRS" => Some("is an ultra disk"),
        "PremiumV2_LRS" => Some("is a Premium SSD v2"),
        _ => None,
    }
}

/// `SnapshotMethod` of the section `SnapshotThread`, as Python's `configparser` reads it; an empty one says nothing.
pub(super) fn snapshot_method(text: &str) -> Option<&str> {
    let mut in_section = false;
    let mut method = None;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            in_section = section.strip_suffix(']') == Some("SnapshotThread");
        } else if let Some((key, value)) = line.split_once(['=', ':']).filter(|_| in_section)
            && key.trim().eq_ignore_ascii_case("SnapshotMethod")
        {
            method = Some(value.trim());
        }
    }
    method.filter(|method| !method.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover;

    #[test]
    fn the_settings_file_is_an_ini_file() {
        for (text, expected) in [
            ("[SnapshotThread]\nSnapshotMethod = onlyGuest\n", Some("onlyGuest")),
            ("[SnapshotThread]\r\nsnapshotmethod:onlyHost\r\n[x]\nSnapshotMethod=no\n", Some("onlyHost")),
            ("SnapshotMethod=onlyGuest\n[Other]\nSnapshotMethod=onlyGuest\n", None),
            ("[SnapshotThread]\n# SnapshotMethod=onlyGuest\nSnapshotMethod=\n", None),
        ] {
            assert_eq!(snapshot_method(text), expected, "{text}");
        }
    }

    #[test]
    fn disks_override_the_file_and_the_file_the_last_run() {
        let instance = |json: &str| discover::instance(json.as_bytes()).unwrap().0;
        let plain = instance(include_str!("../../tests/fixtures/metadata/vm.json"));
        let special = instance(include_str!("../../tests/fixtures/metadata/accelerated.json"));
        let last = LastRun { method: Some("firstGuestThenHost".into()), ..LastRun::default() };
        let name = |vm, settings, last| choose(vm, settings, last).map(|chosen| chosen.name);
        assert_eq!(name(Some(&special), Some("onlyGuest"), Some(&last)).as_deref(), Some("onlyHost"));
        assert_eq!(name(Some(&plain), Some("onlyGuest"), Some(&last)).as_deref(), Some("onlyGuest"));
        assert_eq!(name(Some(&plain), Some("onlyguest"), Some(&last)).as_deref(), Some("firstHostThenGuest"));
        assert_eq!(name(Some(&plain), None, Some(&last)).as_deref(), Some("firstGuestThenHost"));
        assert_eq!(name(None, None, Some(&LastRun::default())), None);
        let because = choose(Some(&special), None, None).unwrap().because;
        assert!(because.contains("log0 has write acceleration"), "{because}");
    }
}
