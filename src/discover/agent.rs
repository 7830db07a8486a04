//! The proxy that the Linux agent reads from `waagent.conf`, and what the snapshot extension makes of the same file.

use super::Found;
use crate::{
    azure::snapshot::{Build, Way, ways},
    model::{ExtensionProxy, Host, MisreadLine},
    plan::Proxy,
};

const HOST: &str = "HttpProxy.Host";
const PORT: &str = "HttpProxy.Port";

/// Lines of one file that are reported: they share their cause and their remedy.
const MAX_MISREAD: usize = 8;

/// Characters of a line that are shown.
const MAX_SHOWN: usize = 80;

/// Where distributions keep the agent's file, most usual first (`WALinuxAgent`, `osutil/*.py`: default, FreeBSD, Clear
/// Linux, `CoreOS` and Flatcar, Ubuntu snappy).
pub const AGENT_FILES: [&str; 5] = [
    "/etc/waagent.conf",
    "/usr/local/etc/waagent.conf",
    "/usr/share/defaults/waagent/waagent.conf",
    "/usr/share/oem/waagent.conf",
    "/apps/walinuxagent/current/waagent.conf",
];

/// The proxy named by `HttpProxy.Host` and `HttpProxy.Port`, if any.
///
/// The agent uses a proxy only when both keys are set; with the host alone it goes direct (`WALinuxAgent`,
/// `restutil.py`), so that is a problem and not a proxy.
#[must_use]
pub fn agent_file(origin: &str, text: &str) -> Vec<Found> {
    let Some((line, host)) = last(text, HOST, as_agent) else {
        return Vec::new();
    };
    let unusable = |problem: String| vec![Found::unusable(origin, problem)];
    if host.is_empty() {
        return unusable(format!("line {line}: HttpProxy.Host is empty; remove the line, or name a host"));
    }
    let Ok(parsed) = host.parse::<Host>() else {
        return unusable(format!(
            "line {line}: HttpProxy.Host must be a host name or an address alone, with neither scheme, port nor credentials"
        ));
    };
    match last(text, PORT, as_agent) {
        None => unusable(format!(
            "line {line}: HttpProxy.Host is set without HttpProxy.Port; the agent needs both and goes direct otherwise"
        )),
        Some((line, port)) => match port.parse::<u16>() {
            Ok(port) if port != 0 => {
                vec![Found::usable(origin, Proxy { tls: false, host: parsed, port, credentials: None })]
            }
            _ => unusable(format!("line {line}: HttpProxy.Port must be a number from 1 to 65535")),
        },
    }
}

/// The lines that the snapshot extension reads otherwise than the agent.
///
/// A line that the extension cannot split makes it drop the whole file, so where there is one, these lines alone are
/// listed. Else those that give the proxy another host or port.
#[must_use]
pub fn misread_by_extension(path: &str, text: &str) -> Vec<MisreadLine> {
    let misread = |number: usize, line: &str, reading| MisreadLine {
        place: format!("{path}:{number}"),
        text: shown(line),
        reading,
    };
    let unreadable: Vec<_> = assignments(text)
        .filter(|(_, line)| as_extension(line).is_none())
        .take(MAX_MISREAD)
        .map(|(number, line)| misread(number, line, None))
        .collect();
    if !unreadable.is_empty() {
        return unreadable;
    }
    let differing = |key| {
        let (agent, extension) = (last(text, key, as_agent), last(text, key, as_extension));
        if agent.map(|(_, value)| value) == extension.map(|(_, value)| value) {
            return None;
        }
        let number = extension.or(agent)?.0;
        let line = text.split('\n').nth(number - 1)?;
        let reading = extension.map_or("None", |(_, value)| value);
        // The extension cuts values short, and half of a password is one too.
        let reading = if line.contains('@') { "…".to_owned() } else { cut(reading) };
        Some(misread(number, line, Some(reading)))
    };
    [HOST, PORT].into_iter().filter_map(differing).collect()
}

/// The keys as the snapshot extension reads them; both unset where it cannot read the file. Values are text to it, and an
/// empty one counts as set.
#[must_use]
pub fn extension_proxy(path: &str, text: &str) -> ExtensionProxy {
    let readable = assignments(text).all(|(_, line)| as_extension(line).is_some());
    let value = |key| last(text, key, as_extension).map(|(_, value)| cut(&without_credentials(value)));
    let [host, port] = if readable { [HOST, PORT].map(value) } else { [None, None] };
    ExtensionProxy { source: path.to_owned(), host, port }
}

/// The proxy of the extension's own requests to storage, by the rule of its build (`None`: they go direct).
///
/// # Errors
/// Why every request fails: what the keys name cannot be a proxy.
pub(super) fn proxy_of_extension(build: Build, keys: &ExtensionProxy) -> Result<Option<Proxy>, &'static str> {
    match ways(build, keys.host.as_deref(), keys.port.as_deref()).0 {
        Way::Direct => Ok(None),
        Way::Unusable | Way::Proxy { port: 0, .. } => Err("the port of its proxy is not a number from 1 to 65535"),
        Way::Proxy { host, .. } if host.is_empty() => Err("HttpProxy.Host is empty, which counts as set"),
        Way::Proxy { host, port } => match host.parse::<Host>() {
            Ok(host) => Ok(Some(Proxy { tls: false, host, port, credentials: None })),
            Err(_) => Err("HttpProxy.Host is no host name or address"),
        },
    }
}

/// The proxy that builds of today take although the agent does not, because only `HttpProxy.Host` is set.
#[must_use]
pub fn extension_file(path: &str, text: &str) -> Option<Found> {
    let proxy = proxy_of_extension(Build::Current, &extension_proxy(path, text)).ok()??;
    Some(Found::usable(format!("{path}, as the snapshot extension reads it"), proxy))
}

/// `HttpProxy.Host` and `HttpProxy.Port` as the agent reads them, for what it does with either.
pub(super) fn agent_keys(text: &str) -> (Option<&str>, Option<&str>) {
    let value = |key| last(text, key, as_agent).map(|(_, value)| value);
    (value(HOST), value(PORT))
}

/// The same as far as they may be shown.
pub(super) fn shown_keys(text: &str) -> [Option<String>; 2] {
    let (host, port) = agent_keys(text);
    [host, port].map(|value| value.map(|value| cut(&without_credentials(value))))
}

/// The lines that both readers look at, with their numbers: those with a `=` that do not start with `#`.
fn assignments(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.split('\n').enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.starts_with('#') && line.contains('='))
}

/// Key and value as the agent reads them (`WALinuxAgent`, `conf.py`): spaces around `=` are allowed; `#` ends the value;
/// quotes and spaces around it go.
fn as_agent(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    Some((key.trim(), value.split('#').next().unwrap_or_default().trim_matches(['"', ' ']).trim()))
}

/// Key and value as the snapshot extension reads them (`azure-linux-extensions`, `VMBackup/main/WaagentLib.py`, class
/// `ConfigurationProvider`): the first word of the line alone counts, split at every `=`. `None` where it raises an
/// error, after which nothing of the file counts (`HttpUtil.py` then goes direct).
fn as_extension(line: &str) -> Option<(&str, &str)> {
    let (key, rest) = line.split_whitespace().next()?.split_once('=')?;
    Some((key, rest.split('=').next().unwrap_or_default().trim_matches(['"', ' '])))
}

/// The last value of a key and its line; `None` means unset, to both readers. Keys are case-sensitive.
fn last<'a>(
    text: &'a str,
    key: &str,
    read: impl Fn(&'a str) -> Option<(&'a str, &'a str)>,
) -> Option<(usize, &'a str)> {
    let all = assignments(text).filter_map(|(number, line)| Some((number, read(line)?)));
    let (number, (_, value)) = all.filter(|(_, (name, _))| *name == key).last()?;
    (value != "None").then_some((number, value))
}

/// A line as far as it may be shown: values of other keys than the proxy's may be anything, and what stands before an
/// `@` may be a password.
fn shown(line: &str) -> String {
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let value = match value.trim() {
        "" => value.to_owned(),
        _ if matches!(key.trim(), HOST | PORT) => without_credentials(value),
        _ => format!("{}…", if value.starts_with(' ') { " " } else { "" }),
    };
    cut(&format!("{}={value}", without_credentials(key)))
}

fn without_credentials(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("…@{rest}"))
}

fn cut(text: &str) -> String {
    let text = text.trim_end();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxy(text: &str) -> Option<String> {
        agent_file("waagent.conf", text).pop().and_then(|found| found.source.proxy)
    }

    fn problem(text: &str) -> String {
        agent_file("waagent.conf", text).pop().and_then(|found| found.source.problem).unwrap_or_default()
    }

    #[test]
    fn a_value_survives_quotes_spaces_comments_and_repetition() {
        for text in [
            "HttpProxy.Host=10.0.0.5\nHttpProxy.Port=3128",
            "HttpProxy.Host = 10.0.0.5\nHttpProxy.Port = 3128\n",
            "HttpProxy.Host=\"10.0.0.5\"\nHttpProxy.Port=\"3128\"\n",
            "HttpProxy.Host=10.0.0.5 # the old one\nHttpProxy.Port=3128\n",
            "HttpProxy.Host=10.0.0.5\r\nHttpProxy.Port=3128\r\n",
            "HttpProxy.Host=10.0.0.4\nHttpProxy.Port=1\nHttpProxy.Host=10.0.0.5\nHttpProxy.Port=3128\n",
        ] {
            assert_eq!(proxy(text).as_deref(), Some("http://10.0.0.5:3128"), "{text}");
        }
    }

    #[test]
    fn the_shipped_file_names_no_proxy() {
        let shipped = "#HttpProxy.Host=None\n#HttpProxy.Port=None\n # HttpProxy.Host=x\nOS.EnableFirewall=y\n";
        assert_eq!(agent_file("waagent.conf", shipped), []);
        assert_eq!(agent_file("waagent.conf", "HttpProxy.Host=None\nHttpProxy.Port=3128\n"), []);
        assert_eq!(agent_file("waagent.conf", "httpproxy.host=10.0.0.5\nHttpProxy.Port=3128\n"), []);
    }

    #[test]
    fn what_the_agent_would_not_use_is_a_problem_with_its_line() {
        assert!(problem("\nHttpProxy.Host=\nHttpProxy.Port=3128").starts_with("line 2: HttpProxy.Host is empty"));
        assert!(problem("HttpProxy.Host=10.0.0.5").contains("without HttpProxy.Port"));
        assert!(problem("HttpProxy.Host=10.0.0.5\nHttpProxy.Port=None").contains("without HttpProxy.Port"));
        assert!(problem("HttpProxy.Host=10.0.0.5\nHttpProxy.Port=abc").starts_with("line 2: HttpProxy.Port must"));
        assert!(problem("HttpProxy.Host=10.0.0.5\nHttpProxy.Port=0").starts_with("line 2: HttpProxy.Port must"));
        assert!(problem("HttpProxy.Host=10.0.0.5:3128").contains("neither scheme, port"));
        let with_password = problem("HttpProxy.Host=http://svc:TOPSECRET@10.0.0.5\nHttpProxy.Port=3128");
        assert!(with_password.contains("nor credentials") && !with_password.contains("TOPSECRET"), "{with_password}");
    }

    #[test]
    fn the_extension_takes_the_proxy_by_its_own_rule_and_reading() {
        let proxy = |build, text: &str| match proxy_of_extension(build, &extension_proxy("f", text)) {
            Ok(Some(proxy)) => proxy.url(),
            Ok(None) => "direct".into(),
            Err(why) => why.to_owned(),
        };
        for (text, until_2019, since) in [
            ("", "direct", "direct"),
            ("HttpProxy.Host=10.0.0.5\nHttpProxy.Port=3128", "http://10.0.0.5:3128", "direct"),
            ("HttpProxy.Host=10.0.0.5\n", "direct", "http://10.0.0.5:443"),
            ("HttpProxy.Host=\"10.0.0.5:3128\" # new", "direct", "http://10.0.0.5:3128"),
            ("HttpProxy.Host=[fd00::5]:3128", "direct", "http://[fd00::5]:3128"),
            ("HttpProxy.Host=None\nHttpProxy.Port=None", "direct", "direct"),
            // A line that it cannot split costs the whole file.
            ("HttpProxy.Host=10.0.0.5:3128\n # a = b", "direct", "direct"),
        ] {
            assert_eq!(proxy(Build::Until2019, text), until_2019, "{text}");
            assert_eq!(proxy(Build::Current, text), since, "{text}");
        }
        for (text, why) in [
            ("HttpProxy.Host=", "is empty"),
            ("HttpProxy.Host=:3128", "is empty"),
            ("HttpProxy.Host=http://10.0.0.5:3128", "no host name"),
            ("HttpProxy.Host=10.0.0.5:abc", "port"),
            ("HttpProxy.Host=10.0.0.5:0", "port"),
        ] {
            assert!(proxy(Build::Current, text).contains(why), "{text}: {}", proxy(Build::Current, text));
        }
        let kept = extension_proxy("f", "HttpProxy.Host=http://svc:TOPSECRET@10.0.0.5:3128");
        assert_eq!(kept.host.as_deref(), Some("…@10.0.0.5:3128"));
    }

    #[test]
    fn a_host_alone_is_a_proxy_of_the_extension_only() {
        let found = extension_file("/etc/waagent.conf", "HttpProxy.Host=10.0.0.5:3128\n").unwrap();
        assert_eq!(found.source.origin, "/etc/waagent.conf, as the snapshot extension reads it");
        assert_eq!(found.source.proxy.as_deref(), Some("http://10.0.0.5:3128"));
        assert_eq!(extension_file("f", "HttpProxy.Host=10.0.0.5\nHttpProxy.Port=3128\n"), None);
        assert_eq!(extension_file("f", "HttpProxy.Host=\n"), None);
    }

    /// Place, text and reading of each line that the extension reads otherwise.
    fn misread(text: &str) -> Vec<(String, String, Option<String>)> {
        let lines = misread_by_extension("f", text);
        lines.into_iter().map(|line| (line.place, line.text, line.reading)).collect()
    }

    #[test]
    fn lines_that_both_read_alike_are_no_difference() {
        for text in [
            "",
            "#HttpProxy.Host=x",
            " #HttpProxy.Host=x",
            "HttpProxy.Host=10.0.0.5 # note\nHttpProxy.Port=3128\r\n",
            "HttpProxy.Host=\"10.0.0.5\"",
            "HttpProxy.Host=None",
            "HttpProxy.Host=",
            "HttpProxy.Port=abc",
            "HttpProxy.Host=a\nHttpProxy.Host=b",
            "no assignment at all",
            "OS.RootDeviceScsiTimeout=300 # was = 100",
        ] {
            assert_eq!(misread(text), [], "{text}");
        }
    }

    #[test]
    fn a_first_word_without_an_equals_sign_costs_the_whole_file() {
        for (line, text) in [
            ("HttpProxy.Host = 10.0.0.5", "HttpProxy.Host = 10.0.0.5"),
            ("HttpProxy.Port =3128\r", "HttpProxy.Port =3128"),
            (" # a = b", " # a = …"),
            ("OS.EnableFirewall = y", "OS.EnableFirewall = …"),
        ] {
            let file = format!("# waagent\nHttpProxy.Host=10.0.0.4\n{line}\n");
            assert_eq!(misread(&file), [("f:3".to_owned(), text.to_owned(), None)], "{line}");
        }
        let many = " # a = b\n".repeat(50);
        assert_eq!(misread(&many).len(), MAX_MISREAD);
    }

    #[test]
    fn values_that_the_extension_reads_otherwise_are_told() {
        for (line, reading) in [
            ("HttpProxy.Host= 10.0.0.5", ""),
            ("HttpProxy.Port=3128#note", "3128#note"),
            ("HttpProxy.Host=a=b", "a"),
            ("HttpProxy.Host=None#x", "None#x"),
        ] {
            assert_eq!(misread(line), [("f:1".to_owned(), line.to_owned(), Some(reading.to_owned()))], "{line}");
        }
    }

    #[test]
    fn no_password_is_shown() {
        for line in [
            "HttpProxy.Host = http://svc:TOPSECRET@10.0.0.5",
            "HttpProxy.Host=http://svc:TOPSECRET HALF@10.0.0.5",
            "HttpProxy.Host=http://svc:TOPSECRET#HALF@10.0.0.5",
            " # password = TOPSECRET",
            " # http://svc:TOPSECRET@h/?a = b",
        ] {
            let found = format!("{:?}", misread(line));
            assert!(found.contains("f:1") && !found.contains("TOPSECRET"), "{found}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in "(HttpProxy\\.(Host|Port) ?[=#\"] ?\\PC{0,12}\n?){0,4}") {
            let _ = agent_file("waagent.conf", &text);
            prop_assert!(misread_by_extension("waagent.conf", &text).len() <= MAX_MISREAD);
            let _ = extension_file("waagent.conf", &text);
            let _ = proxy_of_extension(Build::Until2019, &extension_proxy("waagent.conf", &text));
        }

        #[test]
        fn any_host_and_port_come_back(a in 0u8..=255, b in 0u8..=255, port in 1u16..) {
            let text = format!("HttpProxy.Host={a}.{b}.0.1\nHttpProxy.Port={port}\n");
            prop_assert_eq!(proxy(&text), Some(format!("http://{a}.{b}.0.1:{port}")));
        }
    }
}
