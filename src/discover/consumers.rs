//! Which proxy each consumer on the machine would use for its https requests to storage, and what tells.

use super::{
    Places, Proxies,
    agent::{agent_keys, proxy_of_extension},
    environment, excepts_host,
};
use crate::{
    azure::snapshot::Build,
    model::{ConsumerProxy, ExtensionProxy, Host},
    plan::Proxy,
};

/// The variables for https, the first that is there counts. `http_proxy` does not apply to https.
const HTTPS_VARIABLES: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];

/// The Linux agent (`WALinuxAgent`, `restutil.py`, `_get_http_proxy`): `HttpProxy.Host` of its file, which ends the search
/// also when there is no port; else its environment, where an empty variable counts. A proxy needs host and port. Then its
/// exceptions, which apply to either.
pub(super) fn agent(places: &Places, targets: &[Host]) -> ConsumerProxy {
    let mut notes = Vec::new();
    let variables = places.agent_variables();
    let file = places.agent_file.as_ref().and_then(|(path, text)| Some((*path, text.as_ref().ok()?)));
    let (proxy, source) = match file.map(|(path, text)| (path, agent_keys(text))) {
        Some((path, (Some(host), port))) => {
            let proxy = of_file(host, port, &mut notes);
            (proxy, Some(path.to_owned()))
        }
        _ => match HTTPS_VARIABLES.iter().find_map(|name| variables.iter().find(|(key, ..)| key == name)) {
            Some((name, value, origin)) => (of_url(name, value, &mut notes), Some(format!("{origin} ({name})"))),
            None => (None, None),
        },
    };
    if proxy.is_some() {
        notes.extend(exceptions(&variables, targets));
    }
    notes.extend(drift(places));
    ConsumerProxy {
        consumer: "waagent".into(),
        proxy: proxy.map(|proxy| proxy.url()),
        source,
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }
}

fn of_file(host: &str, port: Option<&str>, notes: &mut Vec<String>) -> Option<Proxy> {
    let Some(number) = port.and_then(|port| port.parse::<u16>().ok()).filter(|&port| port != 0) else {
        let why = if port.is_some() { "is no port" } else { "is not set" };
        notes.push(format!("HttpProxy.Port {why}, so it goes direct, and its environment does not count"));
        return None;
    };
    let Ok(host) = host.parse::<Host>() else {
        notes.push("HttpProxy.Host is no host name, so its requests fail".into());
        return None;
    };
    Some(Proxy { tls: false, host, port: number, credentials: None })
}

/// The proxy in a variable, as Python's `urlparse` takes it apart: any scheme counts, the login does not.
fn of_url(name: &str, value: &str, notes: &mut Vec<String>) -> Option<Proxy> {
    if value.is_empty() {
        notes.push(format!("{name} is empty, which counts: it goes direct"));
        return None;
    }
    let proxy = value.split_once("//").and_then(|(_, rest)| {
        let authority = rest.split(['/', '?', '#']).next()?;
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        format!("http://{host}").parse::<Proxy>().ok()
    });
    if proxy.is_none() {
        notes.push(format!("{name} has no scheme, host or port, so it goes direct; write http://HOST:PORT"));
    } else if value.contains('@') {
        notes.push("it does not send the login in it".into());
    }
    proxy
}

/// The storage hosts that the agent's exceptions keep away from its proxy.
fn exceptions(variables: &[(String, String, String)], targets: &[Host]) -> Option<String> {
    let set = |name: &str| variables.iter().find(|(key, value, _)| key == name && !value.is_empty());
    let (name, list, _) = set("no_proxy").or_else(|| set("NO_PROXY"))?;
    let excepted: Vec<_> =
        targets.iter().filter(|host| excepts_host(list, host)).take(4).map(ToString::to_string).collect();
    (!excepted.is_empty()).then(|| format!("{name} makes it go direct to {}", excepted.join(", ")))
}

/// What the reader must know about how old or how sure the agent's environment is.
fn drift(places: &Places) -> Option<String> {
    let process = places.processes.first()?;
    let of_unit = |name: &str| places.units.variables.iter().find(|(key, ..)| key == name).map(|(_, value, _)| value);
    match &process.variables {
        Err(why) => Some(format!("the environment of its process {} is not known ({why})", process.id)),
        Ok(variables) => {
            let of_process = |name: &str| variables.iter().find(|(key, _)| key == name).map(|(_, value)| value);
            let told = |name: &str, value: &String| environment::shown(name, value);
            // A variable that the unit does not name may come from the service manager itself.
            let stale = HTTPS_VARIABLES.iter().find(|&&name| {
                of_unit(name)
                    .is_some_and(|value| of_process(name).is_none_or(|own| told(name, own) != told(name, value)))
            });
            stale.map(|name| format!("its unit now says otherwise about {name}, which counts from its next start on"))
        }
    }
}

/// The snapshot extension. It reads no environment and knows no exceptions.
pub(super) fn extension(build: Build, keys: Option<&ExtensionProxy>, places: &Places) -> ConsumerProxy {
    let consumer = |proxy: Option<Proxy>, note: Option<String>| ConsumerProxy {
        consumer: build.consumer().into(),
        proxy: proxy.map(|proxy| proxy.url()),
        source: keys.filter(|keys| keys.host.is_some()).map(|keys| keys.source.clone()),
        note,
    };
    let Some(keys) = keys else { return consumer(None, None) };
    match proxy_of_extension(build, keys) {
        Ok(Some(proxy)) => {
            let note = (build == Build::Until2019)
                .then(|| "it asks the host through the proxy too, which cannot reach it".to_owned());
            consumer(Some(proxy), note)
        }
        Ok(None) if keys.host.is_some() && keys.port.is_some() => {
            let note = "HttpProxy.Host and HttpProxy.Port are both set, and this build then goes direct";
            consumer(None, Some(note.into()))
        }
        Ok(None) => {
            let file = places.agent_file.as_ref().and_then(|(_, text)| text.as_ref().ok());
            let unread = keys.host.is_none() && file.is_some_and(|text| agent_keys(text).0.is_some());
            consumer(None, unread.then(|| format!("it cannot read {} as it is written", keys.source)))
        }
        Err(why) => consumer(None, Some(format!("{why}, so every request to storage fails"))),
    }
}

/// This program.
pub(super) fn probe(proxies: &Proxies, no_proxy: bool) -> ConsumerProxy {
    let source = proxies.sources.iter().find(|source| source.proxy.is_some()).filter(|_| !no_proxy);
    ConsumerProxy {
        consumer: "probe".into(),
        proxy: source.and_then(|source| source.proxy.clone()),
        source: if no_proxy { Some("--no-proxy".into()) } else { source.map(|source| source.origin.clone()) },
        note: None,
    }
}

/// Programs in a shell, curl for one: this process's variables, else those that a login would get.
pub(super) fn shell(places: &Places, own: &[(String, String)]) -> ConsumerProxy {
    let login = places.login_file.as_ref().ok().and_then(Option::as_deref).map(environment::login_variables);
    let login = login.unwrap_or_default();
    let named = |variables: &[(String, String)], names: &[&str]| {
        names.iter().find_map(|&name| {
            let value = environment::value_of(variables, name)?;
            (!value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        })
    };
    let (found, file) = match named(own, &HTTPS_VARIABLES) {
        Some(found) => (Some(found), false),
        None => (named(&login, &HTTPS_VARIABLES), true),
    };
    let plain_only = found.is_none() && named(&[own, &login].concat(), &["http_proxy", "HTTP_PROXY"]).is_some();
    let proxy = found.as_ref().and_then(|(_, value)| value.parse::<Proxy>().ok());
    ConsumerProxy {
        consumer: "shell".into(),
        note: match &found {
            Some((name, _)) if proxy.is_none() => Some(format!("{name} is no URL of a proxy")),
            None if plain_only => Some("http_proxy alone does not apply to https".into()),
            _ => None,
        },
        source: found.map(|(name, _)| if file { format!("{} ({name})", environment::ENVIRONMENT_FILE) } else { name }),
        proxy: proxy.map(|proxy| proxy.url()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover::{Machine, extension_proxy};

    fn places(files: &[(&str, &str)]) -> Places {
        let files = files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect();
        Places::read(&Machine::described(files, []))
    }

    const UNIT: &str = "/usr/lib/systemd/system/walinuxagent.service";

    /// Proxy, source and note of the agent with this file and this environment of its unit.
    fn waagent(file: &str, environment: &str) -> (Option<String>, Option<String>, String) {
        let unit = format!("[Service]\n{environment}\n");
        let acct = ["acct.blob.core.windows.net".parse().unwrap()];
        let found = agent(&places(&[("/etc/waagent.conf", file), (UNIT, &unit)]), &acct);
        (found.proxy, found.source, found.note.unwrap_or_default())
    }

    #[test]
    fn the_agents_file_comes_first_and_ends_the_search() {
        let both = "HttpProxy.Host = 10.0.0.5\nHttpProxy.Port = 3128\n";
        let variable = "Environment=https_proxy=http://10.0.0.6:8080";
        let (proxy, source, _) = waagent(both, variable);
        assert_eq!((proxy.as_deref(), source.as_deref()), (Some("http://10.0.0.5:3128"), Some("/etc/waagent.conf")));
        for alone in ["HttpProxy.Host=10.0.0.5\n", "HttpProxy.Host=10.0.0.5\nHttpProxy.Port=abc\n"] {
            let (proxy, source, note) = waagent(alone, variable);
            assert_eq!((proxy, source.as_deref()), (None, Some("/etc/waagent.conf")), "{alone}");
            assert!(note.contains("goes direct, and its environment does not count"), "{note}");
        }
        let (proxy, source, _) = waagent("HttpProxy.Port=3128\n", variable);
        let unit = format!("{UNIT} (https_proxy)");
        assert_eq!((proxy.as_deref(), source.as_deref()), (Some("http://10.0.0.6:8080"), Some(unit.as_str())));
        assert_eq!(waagent("", ""), (None, None, String::new()));
    }

    #[test]
    fn a_variable_is_taken_apart_as_python_does() {
        for (value, expected) in [
            ("https_proxy=http://svc:TOPSECRET@10.0.0.6:8080/", Some("http://10.0.0.6:8080")),
            ("https_proxy=socks5://10.0.0.6:1080", Some("http://10.0.0.6:1080")),
            ("https_proxy=http://10.0.0.6", None),
            ("https_proxy=10.0.0.6:8080", None),
            ("https_proxy= HTTPS_PROXY=http://10.0.0.6:8080", None),
            ("HTTPS_PROXY=http://10.0.0.6:8080", Some("http://10.0.0.6:8080")),
            ("http_proxy=http://10.0.0.6:8080", None),
        ] {
            let (proxy, _, note) = waagent("", &format!("Environment={value}"));
            assert_eq!(proxy.as_deref(), expected, "{value}");
            assert!(!note.contains("TOPSECRET"), "{note}");
        }
    }

    #[test]
    fn the_agents_exceptions_apply_to_either_place() {
        let both = "HttpProxy.Host=10.0.0.5\nHttpProxy.Port=3128\n";
        let (_, _, note) = waagent(both, "Environment=no_proxy=x,.core.windows.net");
        assert!(note.contains("no_proxy makes it go direct to acct.blob.core.windows.net"), "{note}");
        assert_eq!(waagent(both, "Environment=no_proxy=*.core.windows.net").2, "");
        assert!(waagent(both, "Environment=no_proxy= NO_PROXY=net").2.contains("NO_PROXY makes"));
    }

    #[test]
    fn the_running_process_counts_and_a_newer_unit_is_told() {
        let process = "https_proxy=http://10.0.0.6:8080\0";
        let files = |unit| {
            places(&[
                ("/proc/7/cmdline", "/usr/bin/python3\0-u\0/usr/sbin/waagent\0-daemon\0"),
                ("/proc/7/environ", process),
                (UNIT, unit),
            ])
        };
        let found = agent(&files("[Service]\nEnvironment=https_proxy=http://10.0.0.9:1\n"), &[]);
        assert_eq!(found.proxy.as_deref(), Some("http://10.0.0.6:8080"));
        assert_eq!(found.source.as_deref(), Some("/proc/7/environ (https_proxy)"));
        assert!(found.note.unwrap().contains("counts from its next start on"));
        assert_eq!(agent(&files("[Service]\nEnvironment=https_proxy=http://10.0.0.6:8080\n"), &[]).note, None);
    }

    #[test]
    fn the_extension_ignores_a_proxy_that_is_set_as_documented() {
        let row = |build, text: &str| {
            let keys = extension_proxy("/etc/waagent.conf", text);
            extension(build, Some(&keys), &places(&[("/etc/waagent.conf", text)]))
        };
        let both = "HttpProxy.Host=10.0.0.5\nHttpProxy.Port=3128\n";
        let current = row(Build::Current, both);
        assert_eq!((current.proxy, current.source.as_deref()), (None, Some("/etc/waagent.conf")));
        assert!(current.note.unwrap().contains("goes direct"));
        let old = row(Build::Until2019, both);
        assert_eq!(
            (old.consumer.as_str(), old.proxy.as_deref()),
            ("vmsnapshot-linux-2018", Some("http://10.0.0.5:3128"))
        );
        let alone = row(Build::Current, "HttpProxy.Host=10.0.0.5:3128\n");
        assert_eq!(alone.proxy.as_deref(), Some("http://10.0.0.5:3128"));
        let spaces = row(Build::Current, "HttpProxy.Host = 10.0.0.5\nHttpProxy.Port = 3128\n");
        assert_eq!((spaces.proxy, spaces.source), (None, None));
        assert!(spaces.note.unwrap().contains("cannot read /etc/waagent.conf"));
        assert_eq!(row(Build::Current, "# nothing\n").note, None);
        assert_eq!(extension(Build::Current, None, &places(&[])).source, None);
    }

    #[test]
    fn a_shell_has_its_own_variables_and_else_those_of_a_login() {
        let login = places(&[("/etc/environment", "https_proxy=\"http://10.0.0.7:1\"\n")]);
        assert_eq!(shell(&login, &[]).source.as_deref(), Some("/etc/environment (https_proxy)"));
        let own = [("HTTPS_PROXY".to_owned(), "http://10.0.0.8:2".to_owned())];
        let found = shell(&login, &own);
        assert_eq!((found.source.as_deref(), found.proxy.as_deref()), (Some("HTTPS_PROXY"), Some("http://10.0.0.8:2")));
        let plain = shell(&places(&[("/etc/environment", "http_proxy=http://10.0.0.7:1\n")]), &[]);
        assert_eq!((plain.proxy, plain.note.as_deref()), (None, Some("http_proxy alone does not apply to https")));
    }
}
