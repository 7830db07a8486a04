//! Which proxies a Windows machine names, from files exported there: the registry of the system account, under which the
//! snapshot extension runs, and what `netsh winhttp show proxy` printed. Pure.

mod netsh;
mod registry;
mod settings;

use self::{
    registry::{Data, Malformed, Registry, Value},
    settings::Settings,
};
use super::Found;
use crate::model::{ConsumerProxy, Discovery, DiscoverySource};

/// Hives of the system account (`S-1-5-18`): its own name, and the one under which exports often show it.
const SYSTEM_ACCOUNT: [&str; 2] = ["HKU\\S-1-5-18", "HKU\\.DEFAULT"];

/// Below a hive.
const INTERNET_SETTINGS: &str = "Software\\Microsoft\\Windows\\CurrentVersion\\Internet Settings";

/// With `ProxySettingsPerUser` 0 the settings of the machine count for everybody.
const POLICY: &str = "HKLM\\Software\\Policies\\Microsoft\\Windows\\CurrentVersion\\Internet Settings";

/// A machine of each kind of storage that the extension speaks to.
const STORAGE: [&str; 2] = ["account.blob.core.windows.net", "md-disk.z1.blob.storage.azure.net"];

/// Characters of a setting that are shown.
const MAX_SHOWN: usize = 80;

/// What the files tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// The places that name a proxy for https, the system account's own first.
    pub found: Vec<Found>,
    /// Which proxy the snapshot extension and programs that use `WinHTTP` have.
    pub consumers: Vec<ConsumerProxy>,
    /// Every setting, with what it gave.
    pub sources: Vec<DiscoverySource>,
}

/// A file that cannot be used. What it holds is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {problem}")]
pub struct MalformedFile {
    /// Its name.
    pub file: String,
    /// The line.
    pub line: usize,
    /// What is wrong, or what is allowed.
    pub problem: &'static str,
}

/// Reads files by name and content: registry files (of regedit or `reg export`; where several name a value, the last
/// counts), and texts of `netsh winhttp show proxy`.
///
/// # Errors
/// When a file is neither, or malformed.
pub fn read(files: &[(String, Vec<u8>)]) -> Result<Windows, MalformedFile> {
    let (mut registry, mut exports, mut win_http) = (Registry::default(), Vec::new(), Vec::new());
    for (at, (file, bytes)) in files.iter().enumerate() {
        let malformed = |Malformed { line, problem }| MalformedFile { file: file.clone(), line, problem };
        let text = decode(bytes).map_err(|problem| malformed(Malformed { line: 1, problem }))?;
        if registry::is_registry(&text) {
            registry.add(at, &text).map_err(malformed)?;
            exports.push(file.as_str());
        } else if netsh::is_netsh(&text) {
            let settings = netsh::settings(&text).map_err(malformed)?;
            win_http.push((file.clone(), Some(settings)));
        } else {
            return Err(malformed(Malformed {
                line: 1,
                problem: "neither a registry file (of regedit or `reg export`) nor the text of `netsh winhttp show proxy`",
            }));
        }
    }
    let reader = Reader { registry, names: files.iter().map(|(name, _)| name.as_str()).collect() };
    let key = format!("HKLM\\{INTERNET_SETTINGS}\\Connections");
    if let Some((origin, blob)) = reader.bytes(&key, "WinHttpSettings") {
        win_http.insert(0, (origin, Settings::of_win_http(blob)));
    }
    let mut windows = Windows::default();
    if !exports.is_empty() {
        windows.add_win_inet(&reader, &exports);
    }
    windows.add_win_http(win_http);
    Ok(windows)
}

/// Adds what the files tell to what else was discovered; of a consumer that both know, the files' word counts.
pub fn describe(discovery: &mut Discovery, windows: &Windows) {
    discovery.sources.extend_from_slice(&windows.sources);
    discovery.consumers.retain(|known| windows.consumers.iter().all(|own| own.consumer != known.consumer));
    discovery.consumers.extend_from_slice(&windows.consumers);
}

impl Windows {
    /// The settings of the system account as `WinINET` and .NET read them.
    fn add_win_inet(&mut self, reader: &Reader<'_>, exports: &[&str]) {
        let Some(WinInet { origin, settings, mut problems }) = reader.win_inet() else {
            let export = format!("reg export \"{}\\{INTERNET_SETTINGS}\" system.reg", SYSTEM_ACCOUNT[0]);
            let own = format!("HKCU\\{INTERNET_SETTINGS}");
            let problem = if reader.registry.has(&own) {
                "holds the settings of the user who exported it, and none of the system account, under which the extension runs"
            } else {
                "holds no Internet Settings of the system account, under which the extension runs"
            };
            self.sources.push(DiscoverySource {
                origin: exports.join(", "),
                gave: None,
                problem: Some(format!("{problem}: {export}")),
            });
            return;
        };
        let mut row = self.add(&origin, &settings, &mut problems);
        row.consumer = "vmsnapshot-windows".into();
        let mut notes = problems.clone();
        notes.extend(row.note.take());
        notes.push(
            "which settings this extension reads is not published: programs of the system account read these".into(),
        );
        row.note = Some(notes.join("; "));
        self.sources.push(DiscoverySource { origin, gave: Some(said(&settings)), problem: joined(&problems) });
        self.consumers.push(row);
    }

    /// The settings of `WinHTTP`, of which the first count.
    fn add_win_http(&mut self, places: Vec<(String, Option<Settings>)>) {
        for (origin, settings) in places {
            let Some(settings) = settings else {
                let problem = Some("the blob cannot be read: set it again with netsh winhttp".to_owned());
                self.sources.push(DiscoverySource { origin, gave: None, problem });
                continue;
            };
            let mut problems = Vec::new();
            let row = self.add(&origin, &settings, &mut problems);
            self.sources.push(DiscoverySource { origin, gave: Some(said(&settings)), problem: joined(&problems) });
            if self.consumers.iter().all(|known| known.consumer != "winhttp") {
                let note = row.note.into_iter().chain(problems).collect::<Vec<_>>();
                self.consumers.push(ConsumerProxy { consumer: "winhttp".into(), note: joined(&note), ..row });
            }
        }
    }

    /// Takes the proxy that one place names for https, and gives the row of whoever reads that place.
    fn add(&mut self, origin: &str, settings: &Settings, problems: &mut Vec<String>) -> ConsumerProxy {
        if !settings.pac.is_empty() {
            problems.push(format!(
                "names the PAC file {}, which is a program and not evaluated here: find out what it answers for storage, \
                 and give that with --proxy",
                shown(&settings.pac)
            ));
        }
        let proxy = match settings.https_proxy() {
            Some(Ok(proxy)) => {
                let url = proxy.url();
                self.found.push(Found::usable(origin, proxy));
                Some(url)
            }
            Some(Err(problem)) => {
                let problem = format!("the proxy for https cannot be used: {problem}");
                self.found.push(Found::unusable(origin, problem.clone()));
                problems.push(problem);
                None
            }
            None if !settings.pac.is_empty() => {
                self.found.push(Found::unusable(origin, problems.last().cloned().unwrap_or_default()));
                None
            }
            None => None,
        };
        let mut notes = Vec::new();
        if settings.detect {
            notes.push(
                "automatic detection (WPAD) is on, and DHCP or DNS may name a PAC file, which was not looked for"
                    .to_owned(),
            );
        }
        let excepted = proxy.is_some() && STORAGE.iter().all(|host| settings.excepts(host));
        if proxy.is_some() && !settings.bypass.is_empty() {
            let list = shown(&settings.bypass);
            notes.push(if excepted {
                format!("storage is among the exceptions ({list}), so it is reached directly")
            } else {
                format!("exceptions: {list}")
            });
        }
        ConsumerProxy {
            consumer: String::new(),
            source: Some(origin.to_owned()),
            proxy: proxy.filter(|_| !excepted),
            note: joined(&notes),
        }
    }
}

/// The settings of the system account.
struct WinInet {
    origin: String,
    settings: Settings,
    problems: Vec<String>,
}

/// The registry, with the names of the files that it comes from.
struct Reader<'a> {
    registry: Registry,
    names: Vec<&'a str>,
}

impl Reader<'_> {
    /// The blob counts where there is one, as for .NET; one that cannot be read means automatic detection.
    fn win_inet(&self) -> Option<WinInet> {
        let for_all = self.number(POLICY, "ProxySettingsPerUser") == Some(0);
        let hives: &[&str] = if for_all { &["HKLM"] } else { &SYSTEM_ACCOUNT };
        let keys = hives.iter().map(|hive| format!("{hive}\\{INTERNET_SETTINGS}"));
        let key =
            keys.into_iter().find(|key| self.registry.has(key) || self.registry.has(&format!("{key}\\Connections")))?;
        let values = self.values(&key);
        let blobs = ["DefaultConnectionSettings", "SavedLegacySettings"];
        let blob = blobs.iter().find_map(|name| self.bytes(&format!("{key}\\Connections"), name));
        let mut problems = Vec::new();
        let Some((origin, blob)) = blob else {
            let origin = values.as_ref().map_or_else(|| self.names.join(", "), |(origin, _)| origin.clone());
            let settings = values.map(|(_, settings)| settings).unwrap_or_default();
            return Some(WinInet { origin: format!("{origin}: {} ProxyServer", hive(&key)), settings, problems });
        };
        let settings = Settings::of_connection(blob).unwrap_or_else(|| {
            problems.push("the blob cannot be read, which .NET takes for automatic detection".into());
            Settings { detect: true, ..Settings::default() }
        });
        if let Some((_, values)) = values.filter(|(_, values)| problems.is_empty() && !settings.agrees_with(values)) {
            problems.push(format!(
                "ProxyEnable, ProxyServer and AutoConfigURL beside it say otherwise ({}): .NET reads the blob alone",
                said(&values)
            ));
        }
        Some(WinInet { origin, settings, problems })
    }

    /// What the single values say, if there are any, and the file.
    fn values(&self, key: &str) -> Option<(String, Settings)> {
        const NAMES: [&str; 4] = ["ProxyEnable", "ProxyServer", "ProxyOverride", "AutoConfigURL"];
        let file = NAMES.iter().find_map(|name| self.registry.value(key, name))?.file;
        let enabled = self.number(key, NAMES[0]).is_some_and(|number| number != 0);
        let settings = Settings {
            proxy: self.text(key, NAMES[1]).filter(|_| enabled).unwrap_or_default(),
            bypass: self.text(key, NAMES[2]).unwrap_or_default(),
            pac: self.text(key, NAMES[3]).unwrap_or_default(),
            detect: false,
        };
        Some((self.names[file].to_owned(), settings))
    }

    fn number(&self, key: &str, name: &str) -> Option<u32> {
        match self.registry.value(key, name)?.data {
            Data::Number(number) => Some(number),
            _ => None,
        }
    }

    fn text(&self, key: &str, name: &str) -> Option<String> {
        match &self.registry.value(key, name)?.data {
            Data::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// A binary value, with its place.
    fn bytes(&self, key: &str, name: &str) -> Option<(String, &[u8])> {
        match self.registry.value(key, name)? {
            Value { data: Data::Bytes(bytes), file } => {
                Some((format!("{}: {} {name}", self.names[*file], hive(key)), bytes))
            }
            _ => None,
        }
    }
}

/// The hive of a key: nothing else tells two values of the same name apart here.
fn hive(key: &str) -> &str {
    SYSTEM_ACCOUNT.into_iter().find(|hive| key.starts_with(hive)).unwrap_or("HKLM")
}

/// Settings in a few words.
fn said(settings: &Settings) -> String {
    let mut parts = Vec::new();
    if !settings.proxy.is_empty() {
        parts.push(format!("proxy {}", shown(&settings.proxy)));
    }
    if !settings.pac.is_empty() {
        parts.push(format!("PAC file {}", shown(&settings.pac)));
    }
    if settings.detect {
        parts.push("automatic detection".into());
    }
    if parts.is_empty() { "no proxy".into() } else { parts.join(", ") }
}

fn joined(parts: &[String]) -> Option<String> {
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// A setting as far as it may be shown: what stands before an `@` may be a password, and behind a `?` a key.
fn shown(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let text = text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("…@{rest}"));
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let short: String = chars.by_ref().take(MAX_SHOWN).collect();
    if chars.next().is_some() { format!("{short}…") } else { short }
}

/// The text of a file, as regedit (UTF-16), PowerShell (UTF-16) and other programs (UTF-8, or bytes of some code page,
/// whose letters do not matter here) write it.
fn decode(bytes: &[u8]) -> Result<String, &'static str> {
    match bytes {
        [0xff, 0xfe, text @ ..] => {
            let units = text.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            Ok(char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
        }
        [0xfe, 0xff, ..] => Err("UTF-16 in big-endian order, which Windows does not write: export the file again"),
        [0xef, 0xbb, 0xbf, text @ ..] => Ok(String::from_utf8_lossy(text).into_owned()),
        _ if bytes.contains(&0) => {
            Err("no text, or UTF-16 without the mark at its beginning: export the file again, and copy it as it is")
        }
        _ => Ok(String::from_utf8_lossy(bytes).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        settings::testing::{connection, win_http},
        *,
    };

    const NETSH: &str = "\r\nCurrent WinHTTP proxy settings:\r\n\r\n    Proxy Server(s) :  10.0.0.7:8080\r\n    Bypass List     :  (none)\r\n";

    /// As regedit writes it.
    fn utf16(text: &str) -> Vec<u8> {
        [vec![0xff, 0xfe], text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat()
    }

    fn export(body: &str) -> Vec<u8> {
        utf16(&format!("Windows Registry Editor Version 5.00\r\n\r\n{body}"))
    }

    fn hex(bytes: &[u8]) -> String {
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("hex:{}", bytes.chunks(20).map(|line| line.join(",")).collect::<Vec<_>>().join(",\\\r\n  "))
    }

    fn values(hive: &str, body: &str) -> String {
        format!("[{hive}\\{INTERNET_SETTINGS}]\r\n{body}\r\n\r\n")
    }

    fn blob(hive: &str, name: &str, bytes: &[u8]) -> String {
        format!("[{hive}\\{INTERNET_SETTINGS}\\Connections]\r\n\"{name}\"={}\r\n\r\n", hex(bytes))
    }

    fn account(proxy: &str, bypass: &str, pac: &str, detect: bool) -> String {
        let settings = Settings { proxy: proxy.into(), bypass: bypass.into(), pac: pac.into(), detect };
        blob("HKEY_USERS\\S-1-5-18", "DefaultConnectionSettings", &connection(0x46, &settings))
    }

    #[track_caller]
    fn windows(body: &str) -> Windows {
        read(&[("system.reg".to_owned(), export(body))]).unwrap()
    }

    /// The proxy and the note of a consumer.
    #[track_caller]
    fn row<'a>(windows: &'a Windows, consumer: &str) -> (Option<&'a str>, &'a str) {
        let row = windows.consumers.iter().find(|row| row.consumer == consumer).expect("a row");
        (row.proxy.as_deref(), row.note.as_deref().unwrap_or_default())
    }

    #[test]
    fn the_blob_of_the_system_account_names_the_proxy() {
        let got = windows(&account("http=a:1;https=10.0.0.5:3128", "*.corp;<local>", "", false));
        assert_eq!(got.found.len(), 1);
        assert_eq!(got.found[0].proxy.as_ref().unwrap().url(), "http://10.0.0.5:3128");
        let origin = "system.reg: HKU\\S-1-5-18 DefaultConnectionSettings";
        assert_eq!(got.found[0].source.origin, origin);
        let (proxy, note) = row(&got, "vmsnapshot-windows");
        assert_eq!(proxy, Some("http://10.0.0.5:3128"));
        assert!(note.contains("exceptions: *.corp;<local>") && note.contains("is not published"), "{note}");
        assert_eq!(got.sources[0].gave.as_deref(), Some("proxy http=a:1;https=10.0.0.5:3128"));
        assert_eq!(got.sources[0].problem, None);
    }

    #[test]
    fn without_a_blob_the_values_count_and_only_when_enabled() {
        let server = "\"ProxyServer\"=\"http://proxy.corp:3128\"";
        let on = windows(&values("HKEY_USERS\\S-1-5-18", &format!("\"ProxyEnable\"=dword:00000001\r\n{server}")));
        assert_eq!(row(&on, "vmsnapshot-windows").0, Some("http://proxy.corp:3128"));
        assert_eq!(on.found[0].source.origin, "system.reg: HKU\\S-1-5-18 ProxyServer");
        let off = windows(&values("HKEY_USERS\\.DEFAULT", &format!("\"proxyenable\"=dword:0\r\n{server}")));
        assert_eq!((row(&off, "vmsnapshot-windows").0, off.found.len()), (None, 0));
        assert_eq!(off.sources[0].gave.as_deref(), Some("no proxy"));
    }

    #[test]
    fn values_that_contradict_the_blob_are_told() {
        let both = |server: &str| {
            values("HKU\\S-1-5-18", &format!("\"ProxyEnable\"=dword:1\r\n\"ProxyServer\"=\"{server}\""))
                + &account("10.0.0.5:3128", "", "", false)
        };
        assert_eq!(windows(&both("10.0.0.5:3128")).sources[0].problem, None);
        let pac = account("10.0.0.5:3128", "", "http://pac.corp/p.pac", false);
        let values = values("HKU\\S-1-5-18", "\"ProxyEnable\"=dword:1\r\n\"ProxyServer\"=\"10.0.0.5:3128\"");
        let problem = windows(&(values + &pac)).sources.remove(0).problem.unwrap();
        assert!(!problem.contains("say otherwise"), "a PAC file may stand in the blob alone: {problem}");
        let got = windows(&both("10.0.0.6:3128"));
        assert_eq!(row(&got, "vmsnapshot-windows").0, Some("http://10.0.0.5:3128"));
        let problem = got.sources[0].problem.as_deref().unwrap();
        assert!(problem.contains("say otherwise (proxy 10.0.0.6:3128)"), "{problem}");
    }

    #[test]
    fn a_policy_makes_the_settings_of_the_machine_count() {
        let machine = values("HKEY_LOCAL_MACHINE", "\"ProxyEnable\"=dword:1\r\n\"ProxyServer\"=\"m:1\"");
        let body = machine + &account("s:2", "", "", false);
        assert_eq!(row(&windows(&body), "vmsnapshot-windows").0, Some("http://s:2"));
        let policy = format!("[{POLICY}]\r\n\"ProxySettingsPerUser\"=dword:00000000\r\n");
        let got = windows(&(body + &policy));
        assert_eq!(row(&got, "vmsnapshot-windows").0, Some("http://m:1"));
        assert!(got.found[0].source.origin.contains("HKLM ProxyServer"), "{:?}", got.found);
    }

    #[test]
    fn a_pac_file_and_detection_are_named_and_not_evaluated() {
        let got = windows(&account("", "", "http://svc:TOPSECRET@pac.corp/p.pac?key=TOPSECRET", true));
        let (proxy, note) = row(&got, "vmsnapshot-windows");
        assert_eq!(proxy, None);
        assert!(note.contains("the PAC file …@pac.corp/p.pac") && note.contains("WPAD"), "{note}");
        assert!(got.found[0].proxy.is_none() && got.found[0].source.problem.as_ref().unwrap().contains("--proxy"));
        assert!(!format!("{got:?}").contains("TOPSECRET"));
        // Windows as it is installed.
        let got = windows(&account("", "", "", true));
        assert_eq!((got.found.len(), row(&got, "vmsnapshot-windows").0, &got.sources[0].problem), (0, None, &None));
    }

    #[test]
    fn exceptions_can_cover_storage() {
        let got = windows(&account("10.0.0.5:3128", "*.windows.net;*.azure.net", "", false));
        let (proxy, note) = row(&got, "vmsnapshot-windows");
        assert!(proxy.is_none() && note.contains("storage is among the exceptions"), "{note}");
        assert_eq!(got.found[0].proxy.as_ref().unwrap().url(), "http://10.0.0.5:3128");
    }

    #[test]
    fn a_blob_that_cannot_be_read_is_automatic_detection() {
        let got = windows(&blob("HKU\\S-1-5-18", "SavedLegacySettings", &[0x46, 0, 0, 0, 1]));
        let (proxy, note) = row(&got, "vmsnapshot-windows");
        assert!(proxy.is_none() && note.contains("cannot be read") && note.contains("WPAD"), "{note}");
        let got = windows(&blob("HKLM", "WinHttpSettings", &[1]));
        assert!(got.sources.iter().any(|source| source.problem.as_ref().is_some_and(|p| p.contains("netsh winhttp"))));
    }

    #[test]
    fn win_http_is_another_consumer() {
        let settings = Settings { proxy: "10.0.0.6:3128".into(), ..Settings::default() };
        let body =
            account("10.0.0.5:3128", "", "", false) + &blob("HKLM", "WinHttpSettings", &win_http(0x28, &settings));
        let files = [("netsh.txt".to_owned(), NETSH.as_bytes().to_vec()), ("a.reg".to_owned(), export(&body))];
        let got = read(&files).unwrap();
        assert_eq!(row(&got, "vmsnapshot-windows").0, Some("http://10.0.0.5:3128"));
        assert_eq!(row(&got, "winhttp").0, Some("http://10.0.0.6:3128"));
        let proxies: Vec<_> = got.found.iter().map(|found| found.proxy.as_ref().unwrap().url()).collect();
        assert_eq!(proxies, ["http://10.0.0.5:3128", "http://10.0.0.6:3128", "http://10.0.0.7:8080"]);
        let got = read(&[("netsh.txt".to_owned(), utf16(NETSH))]).unwrap();
        assert_eq!((got.consumers.len(), row(&got, "winhttp").0), (1, Some("http://10.0.0.7:8080")));
    }

    #[test]
    fn the_export_of_another_account_says_what_to_export() {
        let got = windows(&values("HKEY_CURRENT_USER", "\"ProxyEnable\"=dword:1\r\n\"ProxyServer\"=\"u:1\""));
        assert!(got.consumers.is_empty() && got.found.is_empty());
        let problem = got.sources[0].problem.as_deref().unwrap();
        assert!(
            problem.contains("of the user who exported it") && problem.contains("reg export \"HKU\\S-1-5-18"),
            "{problem}"
        );
        assert!(
            windows("[HKLM\\x]\r\n").sources[0].problem.as_ref().unwrap().starts_with("holds no Internet Settings")
        );
    }

    #[test]
    fn credentials_are_refused_and_never_shown() {
        for list in ["svc:TOPSECRET@10.0.0.5:3128", "http=a:1;https=http://svc:TOPSECRET@10.0.0.5:3128"] {
            let got = windows(&account(list, "", "", false));
            assert!(got.found[0].source.problem.as_ref().unwrap().contains("credentials"));
            assert!(!format!("{got:?}").contains("TOPSECRET"), "{got:?}");
        }
    }

    #[test]
    fn what_is_no_such_file_says_what_is_allowed() {
        for (bytes, line, part) in [
            (b"hello".to_vec(), 1, "netsh winhttp show proxy"),
            (Vec::new(), 1, "netsh winhttp show proxy"),
            (vec![0xfe, 0xff, 0, b'W'], 1, "big-endian"),
            (vec![b'W', 0, b'i', 0], 1, "without the mark"),
            (export("[HKLM\\A]\r\n\"ProxyServer\"=\"TOPSECRET\r\n"), 4, "not closed"),
            (NETSH.lines().take(3).collect::<Vec<_>>().join("\n").into_bytes(), 2, "whole output"),
        ] {
            let error = read(&[("f.reg".to_owned(), bytes)]).unwrap_err();
            let text = error.to_string();
            assert!(error.line == line && text.starts_with("f.reg:") && text.contains(part), "{text}");
            assert!(!text.contains("TOPSECRET"));
        }
    }

    #[test]
    fn what_was_discovered_before_stays_beside_it() {
        let old = |consumer: &str| ConsumerProxy { consumer: consumer.into(), proxy: None, source: None, note: None };
        let mut discovery =
            Discovery { consumers: vec![old("probe"), old("vmsnapshot-windows")], ..Discovery::default() };
        describe(&mut discovery, &windows(&account("p:1", "", "", false)));
        let rows: Vec<_> =
            discovery.consumers.iter().map(|row| (row.consumer.as_str(), row.proxy.as_deref())).collect();
        assert_eq!(rows, [("probe", None), ("vmsnapshot-windows", Some("http://p:1"))]);
        assert_eq!(discovery.sources.len(), 1);
    }

    proptest! {
        #[test]
        fn any_proxy_of_a_blob_comes_back(host in "[a-z][a-z0-9]{0,9}(\\.[a-z][a-z0-9]{0,9}){0,3}", port in 1u16.., prefix: bool) {
            let prefix = if prefix { "http://" } else { "" };
            let got = windows(&account(&format!("ftp=f:1;https={prefix}{host}:{port}"), "", "", true));
            prop_assert_eq!(got.found[0].source.proxy.clone(), Some(format!("http://{host}:{port}")));
        }

        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), wide: bool) {
            let bytes = if wide { [vec![0xff, 0xfe], bytes].concat() } else { bytes };
            let _ = read(&[("f".to_owned(), bytes)]);
        }
    }
}
