//! Proxy variables: of this process, and of login sessions (`/etc/environment`).

use std::net::{IpAddr, Ipv4Addr};

use super::Found;
use crate::{
    model::{Host, ProxyCapture},
    plan::Proxy,
};

/// The file from which `pam_env` gives login sessions their variables.
pub const ENVIRONMENT_FILE: &str = "/etc/environment";

/// The variables that name a proxy, in order of precedence. The upper-case form of `http_proxy` is left out, as by
/// curl: a CGI server sets it from a request header.
const VARIABLES: [&str; 3] = ["https_proxy", "HTTPS_PROXY", "http_proxy"];

/// The variables that name the proxy of plain HTTP, which the platform's addresses speak. The agent and Python programs
/// read the upper-case form too.
const PLAIN_VARIABLES: [&str; 2] = ["http_proxy", "HTTP_PROXY"];

/// Characters of a list of exceptions that are shown.
const MAX_LIST: usize = 200;

/// Every variable that has to do with proxies.
const ALL_VARIABLES: [&str; 6] = ["https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"];

/// The wire server and instance metadata: they live on the host of this machine, and a proxy elsewhere has others.
const PLATFORM: [Ipv4Addr; 2] = [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(169, 254, 169, 254)];

/// The proxies that the variables of a process name. An empty variable names none.
#[must_use]
pub fn environment(variables: &[(String, String)]) -> Vec<Found> {
    VARIABLES
        .iter()
        .filter_map(|&name| {
            let value = value_of(variables, name)?;
            (!value.is_empty()).then(|| source(name.to_owned(), value, None))
        })
        .collect()
}

/// Whether an assignment `NAME=value` is about proxies.
pub(super) fn is_proxy_variable(assignment: &str) -> bool {
    assignment.split_once('=').is_some_and(|(name, _)| ALL_VARIABLES.contains(&name))
}

/// Those of these assignments `NAME=value` that are about proxies: nothing else of an environment is anybody's business.
pub(super) fn proxy_variables<'a>(assignments: impl IntoIterator<Item = &'a str>) -> Vec<(String, String)> {
    let own = assignments.into_iter().filter(|assignment| is_proxy_variable(assignment));
    own.filter_map(|assignment| assignment.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Proxy variables in a few words without credentials; `None` when there are none.
pub(super) fn told(variables: &[(String, String)]) -> Option<String> {
    let told: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={}", shown(name, value))).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// The value of a proxy variable as far as it may be shown.
pub(super) fn shown(name: &str, value: &str) -> String {
    if name.eq_ignore_ascii_case("no_proxy") {
        // A list in which somebody left credentials is none to show.
        return if value.contains('@') { "…".into() } else { value.chars().take(MAX_LIST).collect() };
    }
    match value.parse::<Proxy>() {
        Ok(proxy) => proxy.url(),
        Err(_) if value.is_empty() => String::new(),
        Err(_) => "…".into(),
    }
}

/// The exceptions (`no_proxy`, else `NO_PROXY`) that the variables of a process ask for.
#[must_use]
pub fn no_proxy(variables: &[(String, String)]) -> Option<String> {
    exceptions(|name| value_of(variables, name)).map(ToOwned::to_owned)
}

/// The platform addresses that the variables of a process would send to a proxy.
#[must_use]
pub fn captures(variables: &[(String, String)]) -> Option<ProxyCapture> {
    capture(|name| value_of(variables, name), ToOwned::to_owned)
}

/// The same of the variables that `/etc/environment` gives to login sessions.
#[must_use]
pub fn captures_of_file(origin: &str, text: &str) -> Option<ProxyCapture> {
    let all = assignments(text);
    let value = |name: &str| all.iter().rev().find(|(_, (key, _))| *key == name).map(|(_, (_, value))| *value);
    capture(value, |name| format!("{origin} ({name})"))
}

/// Whether exceptions keep an address away from the proxy, as the agent reads them (`WALinuxAgent`, `restutil.py`):
/// separated by commas, spaces do not count; a network with a mask of 1 to 32 bits covers its addresses, anything else
/// only what is spelled alike. Names and wildcards cover no address.
#[must_use]
pub fn excepts(no_proxy: &str, address: Ipv4Addr) -> bool {
    let no_proxy = no_proxy.replace(' ', "");
    no_proxy.split(',').any(|item| match network(item) {
        Some((network, bits)) => {
            let mask = u32::MAX << (32 - bits);
            network.to_bits() & mask == address.to_bits() & mask
        }
        None => item == address.to_string(),
    })
}

/// The same of any host: an address as above, whichever way it is written. A name is excepted when it ends like an item,
/// whatever stands before that, and whatever its case; wildcards, ports and IPv6 mean nothing.
#[must_use]
pub fn excepts_host(no_proxy: &str, host: &Host) -> bool {
    let host = host.to_string().to_ascii_lowercase();
    if let Some(address) = inet_aton(&host) {
        return excepts(no_proxy, address);
    }
    let no_proxy = no_proxy.replace(' ', "").to_ascii_lowercase();
    no_proxy.split(',').any(|item| !item.is_empty() && host.ends_with(item))
}

fn network(item: &str) -> Option<(Ipv4Addr, u32)> {
    let (address, bits) = item.split_once('/')?;
    let bits = bits.parse().ok().filter(|bits| (1..=32).contains(bits))?;
    Some((inet_aton(address)?, bits))
}

/// `inet_aton(3)`: one to four numbers, decimal, octal or hexadecimal, of which the last fills what is left.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let number =
        |text: &str| match (text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")), text.strip_prefix('0')) {
            (Some(digits), _) => unsigned(digits, 16),
            (None, Some(digits)) if !digits.is_empty() => unsigned(digits, 8),
            _ => unsigned(text, 10),
        };
    let parts: Vec<&str> = text.splitn(5, '.').collect();
    let (last, front) = parts.split_last().filter(|(_, front)| front.len() < 4)?;
    let mut bits = 0;
    for (part, shift) in front.iter().zip([24, 16, 8]) {
        bits |= number(part).filter(|&n| n < 256)? << shift;
    }
    let room = u32::MAX >> (8 * front.len());
    Some(Ipv4Addr::from_bits(bits | number(last).filter(|&n| n <= room)?))
}

fn unsigned(digits: &str, radix: u32) -> Option<u32> {
    // The standard library takes a sign too.
    digits.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| u32::from_str_radix(digits, radix).ok())?
}

fn capture<'a>(value: impl Fn(&str) -> Option<&'a str>, origin: impl Fn(&str) -> String) -> Option<ProxyCapture> {
    // The first one that is there counts, also when it is empty.
    let (name, proxy) = PLAIN_VARIABLES.iter().find_map(|&name| Some((name, value(name)?)))?;
    let proxy: Proxy = proxy.parse().ok()?;
    let no_proxy = exceptions(&value);
    let addresses: Vec<IpAddr> = PLATFORM
        .into_iter()
        .filter(|&address| !excepts(no_proxy.unwrap_or_default(), address))
        .map(IpAddr::V4)
        .collect();
    (!addresses.is_empty()).then(|| ProxyCapture {
        origin: origin(name),
        proxy: proxy.url(),
        // It is shown, so it must not be a list in which somebody left credentials, nor one without end.
        no_proxy: no_proxy.filter(|list| !list.contains('@')).map(|list| list.chars().take(MAX_LIST).collect()),
        addresses,
    })
}

fn exceptions<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Option<&'a str> {
    ["no_proxy", "NO_PROXY"].iter().find_map(|name| value(name).filter(|value| !value.is_empty()))
}

pub(super) fn value_of<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
    variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim())
}

/// The proxies that `/etc/environment` names: lines `KEY=value`, where quotes around the value, a leading `export ` and
/// comments are tolerated (`pam_env(8)`). It is not a shell script: nothing is expanded. The last line for a variable
/// wins.
#[must_use]
pub fn environment_file(origin: &str, text: &str) -> Vec<Found> {
    let assignments = assignments(text);
    VARIABLES
        .iter()
        .filter_map(|&name| {
            let &(line, (_, value)) = assignments.iter().rev().find(|(_, (key, _))| *key == name)?;
            (!value.is_empty()).then(|| source(format!("{origin} ({name})"), value, Some(line)))
        })
        .collect()
}

/// The proxy variables that `/etc/environment` gives to login sessions.
pub(super) fn login_variables(text: &str) -> Vec<(String, String)> {
    let all = assignments(text);
    let value = |name: &str| all.iter().rev().find(|(_, (key, _))| *key == name).map(|(_, (_, value))| *value);
    ALL_VARIABLES.iter().filter_map(|&name| Some((name.to_owned(), value(name)?.to_owned()))).collect()
}

/// The assignments of a file with their lines.
fn assignments(text: &str) -> Vec<(usize, (&str, &str))> {
    text.lines().enumerate().filter_map(|(index, line)| Some((index + 1, assignment(line)?))).collect()
}

/// The key and value of a line, if it is an assignment.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (key, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote) {
            // What follows the closing quote is a comment or a mistake; a missing one ends with the line.
            return Some((key.trim(), rest.split(quote).next().unwrap_or_default().trim()));
        }
    }
    // A number sign inside a word belongs to the value.
    let end = value
        .char_indices()
        .find(|&(at, c)| c == '#' && value[..at].chars().next_back().is_none_or(char::is_whitespace))
        .map_or(value.len(), |(at, _)| at);
    Some((key.trim(), value[..end].trim()))
}

fn source(origin: String, value: &str, line: Option<usize>) -> Found {
    match value.parse::<Proxy>() {
        Ok(proxy) => Found::usable(origin, proxy),
        Err(e) => {
            // The error shows its input without credentials.
            let line = line.map_or_else(String::new, |line| format!("line {line}: "));
            Found::unusable(origin, format!("{line}{e}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> Vec<(Option<String>, Option<String>)> {
        environment_file("file", text).into_iter().map(|f| (f.source.proxy, f.source.problem)).collect()
    }

    #[test]
    fn quotes_export_and_comments_are_tolerated() {
        for line in [
            "http_proxy=http://10.0.0.5:3128",
            "http_proxy=\"http://10.0.0.5:3128\"",
            "http_proxy='http://10.0.0.5:3128/' # the old one",
            "export http_proxy=http://10.0.0.5:3128 # the old one",
            "  http_proxy = http://10.0.0.5:3128\r",
            "http_proxy=http://10.0.0.4:1\nhttp_proxy=\"http://10.0.0.5:3128",
        ] {
            assert_eq!(file(line), [(Some("http://10.0.0.5:3128".into()), None)], "{line}");
        }
    }

    #[test]
    fn what_names_no_proxy_gives_none() {
        for line in ["", "# http_proxy=http://a:1", "PATH=/usr/bin", "http_proxy=", "http_proxy=\"\"", "http_proxy"] {
            assert_eq!(file(line), [], "{line}");
        }
    }

    #[test]
    fn problems_name_the_line_and_hide_the_password() {
        let found = file("PATH=/bin\nhttps_proxy=http://svc:TOPSECRET@proxy");
        let (None, Some(problem)) = &found[0] else { panic!("{found:?}") };
        assert!(problem.starts_with("line 2: ") && problem.contains("needs a port"), "{problem}");
        assert!(!problem.contains("TOPSECRET"), "{problem}");
    }

    #[test]
    fn lower_case_comes_first_and_every_variable_is_kept() {
        let variables: Vec<_> = [
            ("http_proxy", "http://c:3"),
            ("HTTPS_PROXY", "http://b:2"),
            ("https_proxy", "http://a:1"),
            ("HTTP_PROXY", "http://d:4"),
            ("NO_PROXY", "upper"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        let origins: Vec<_> = environment(&variables).into_iter().map(|f| f.source.origin).collect();
        assert_eq!(origins, ["https_proxy", "HTTPS_PROXY", "http_proxy"]);
        assert_eq!(no_proxy(&variables).as_deref(), Some("upper"));
        assert_eq!(environment(&[("https_proxy".into(), " ".into())]), []);
    }

    #[test]
    fn exceptions_are_read_as_the_agent_reads_them() {
        let wire_server = PLATFORM[0];
        for list in [
            "168.63.129.16",
            "localhost, 168.63.129.16 ,x",
            "168.63.129.0/24",
            "168.63.129.16/32",
            "168.63/8",
            "0xa8.077.129.16/32",
            "1 6 8.63.129.16",
        ] {
            assert!(excepts(list, wire_server), "{list}");
        }
        for list in [
            "",
            "*",
            "168.63.129.*",
            ".16",
            "168.63.129.16:80",
            "168.63.129.16/0",
            "168.63.129.16/33",
            "168.63.129.16/32/1",
            "168.63.129.016",
            "169.254.169.254",
            "256.63.129.16/1",
            "1.2.3.4.5/1",
        ] {
            assert!(!excepts(list, wire_server), "{list}");
        }
    }

    #[test]
    fn names_are_excepted_by_their_end() {
        let host = |name: &str| name.parse::<Host>().unwrap();
        let acct = host("acct.blob.core.windows.net");
        for list in [
            "blob.core.windows.net",
            ".core.windows.net",
            "x, NET",
            "acct.Blob.core.windows.net",
            "ct.blob.core.windows.net",
        ] {
            assert!(excepts_host(list, &acct), "{list}");
        }
        for list in ["", ",,", "*", "*.core.windows.net", "acct", "acct.blob.core.windows.net:443", "windows.net."] {
            assert!(!excepts_host(list, &acct), "{list}");
        }
        assert!(excepts_host("10.0.0.0/8", &host("10.1.2.3")) && !excepts_host("3", &host("10.1.2.3")));
    }

    #[test]
    fn a_variable_captures_what_no_exception_covers() {
        let all = |pairs: &[(&str, &str)]| {
            let variables: Vec<_> = pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
            captures(&variables)
        };
        let proxy = ("http_proxy", "http://svc:TOPSECRET@10.0.0.5:3128");
        let found = all(&[proxy]).unwrap();
        assert_eq!((found.origin.as_str(), found.proxy.as_str()), ("http_proxy", "http://10.0.0.5:3128"));
        assert_eq!(found.addresses, PLATFORM.map(IpAddr::V4));
        assert_eq!(found.no_proxy, None);

        let found = all(&[proxy, ("no_proxy", ""), ("NO_PROXY", "169.254.0.0/16")]).unwrap();
        assert_eq!(found.addresses, [IpAddr::V4(PLATFORM[0])]);
        assert_eq!(found.no_proxy.as_deref(), Some("169.254.0.0/16"));

        assert_eq!(all(&[proxy, ("no_proxy", "168.63.129.16,169.254.169.254")]), None);
        assert_eq!(all(&[("HTTP_PROXY", "http://p:1")]).unwrap().origin, "HTTP_PROXY");
        // Both addresses speak plain HTTP, to which the variable for HTTPS does not apply.
        assert_eq!(all(&[("https_proxy", "http://p:1")]), None);
        assert_eq!(all(&[("http_proxy", ""), ("HTTP_PROXY", "http://p:1")]), None);
    }

    #[test]
    fn the_file_has_exceptions_of_its_own() {
        let text = "http_proxy=\"http://10.0.0.5:3128\"\nno_proxy='168.63.129.16'\n";
        let found = captures_of_file("/etc/environment", text).unwrap();
        assert_eq!(found.origin, "/etc/environment (http_proxy)");
        assert_eq!(found.addresses, [IpAddr::V4(PLATFORM[1])]);
        assert_eq!(captures_of_file("f", &format!("{text}no_proxy=168.63.129.16,169.254.169.254")), None);
    }

    proptest! {
        #[test]
        fn any_list_is_read(list in "[0-9a-fx./, *@+-]{0,40}") {
            let _ = excepts(&list, PLATFORM[0]);
        }

        #[test]
        fn an_address_and_its_networks_cover_it(bits in 1_u32..=32, address: u32) {
            let address = Ipv4Addr::from_bits(address);
            let covered = excepts(&format!("x,{address}/{bits}"), address) && excepts(&address.to_string(), address);
            prop_assert!(covered);
        }

        #[test]
        fn parsing_never_panics(text in "((export )?https?_proxy ?= ?[\"'#]?\\PC{0,20}\n?){0,4}") {
            let _ = environment_file("file", &text);
        }

        #[test]
        fn no_password_survives(password in "[A-Z]{8,20}", tail in "[ /:@a-z0-9]{0,12}") {
            let shown = format!("{:?}", file(&format!("http_proxy=http://svc:{password}@{tail}")));
            prop_assert!(!shown.contains(&password), "{}", shown);
        }
    }
}
