//! The proxy that the Linux agent reads from `waagent.conf`.

use super::Found;
use crate::{model::Host, plan::Proxy};

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
    let Some((line, host)) = setting(text, "HttpProxy.Host") else {
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
    match setting(text, "HttpProxy.Port") {
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

/// The last value of a key and its line, read as the agent reads it (`WALinuxAgent`, `conf.py`): a line counts unless it
/// starts with `#` in the first column; spaces around `=` are allowed; `#` ends the value; quotes and spaces around it
/// go; `None` means unset. Keys are case-sensitive.
fn setting<'a>(text: &'a str, key: &str) -> Option<(usize, &'a str)> {
    let mut last = None;
    for (index, line) in text.split('\n').enumerate() {
        if line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        if name.trim() == key {
            let value = value.split('#').next().unwrap_or_default().trim_matches(['"', ' ']).trim();
            last = (value != "None").then_some((index + 1, value));
        }
    }
    last
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

    proptest! {
        #[test]
        fn parsing_never_panics(text in "(HttpProxy\\.(Host|Port) ?[=#\"] ?\\PC{0,12}\n?){0,4}") {
            let _ = agent_file("waagent.conf", &text);
        }

        #[test]
        fn any_host_and_port_come_back(a in 0u8..=255, b in 0u8..=255, port in 1u16..) {
            let text = format!("HttpProxy.Host={a}.{b}.0.1\nHttpProxy.Port={port}\n");
            prop_assert_eq!(proxy(&text), Some(format!("http://{a}.{b}.0.1:{port}")));
        }
    }
}
