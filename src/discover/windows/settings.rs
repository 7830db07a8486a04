//! What Windows keeps about proxies, whatever the form, and what it means for https.

use crate::plan::Proxy;

/// The settings of one place. What is switched off is empty here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// `host:port` for everything, or `http=host:port;https=host:port`.
    pub(super) proxy: String,
    /// Hosts that are asked directly: patterns with `*`, and `<local>`, separated by `;`.
    pub(super) bypass: String,
    /// The URL of a PAC file.
    pub(super) pac: String,
    /// Whether a PAC file is looked for by DHCP and DNS (WPAD).
    pub(super) detect: bool,
}

/// Flags of both blobs.
const MANUAL: u32 = 2;
const PAC: u32 = 4;
const DETECT: u32 = 8;

impl Settings {
    /// `DefaultConnectionSettings` and `SavedLegacySettings`, little endian: size or version, of which readers want at
    /// least 60; a counter; flags; and three texts, each behind its length: proxy, bypass list, PAC URL. Zeros follow
    /// (.NET reference source, `RegBlobWebProxyDataBuilder`). `None`: it cannot be read.
    pub(super) fn of_connection(blob: &[u8]) -> Option<Self> {
        const OLDEST: u32 = 60;
        let mut blob = Blob(blob);
        let (version, _counter, flags) = (blob.number()?, blob.number()?, blob.number()?);
        let (proxy, bypass, pac) = (blob.text()?, blob.text()?, blob.text()?);
        (version >= OLDEST).then(|| Self {
            proxy: if flags & MANUAL == 0 { String::new() } else { proxy },
            bypass,
            pac: if flags & PAC == 0 { String::new() } else { pac },
            detect: flags & DETECT != 0,
        })
    }

    /// `WinHttpSettings`, little endian: 24 or 40, zero, flags, and two texts: proxy and bypass list (Microsoft support,
    /// KB4494447). `None`: it cannot be read.
    pub(super) fn of_win_http(blob: &[u8]) -> Option<Self> {
        let mut blob = Blob(blob);
        let (version, _, flags) = (blob.number()?, blob.number()?, blob.number()?);
        let (proxy, bypass) = (blob.text()?, blob.text()?);
        matches!(version, 0x18 | 0x28).then(|| Self {
            proxy: if flags & MANUAL == 0 { String::new() } else { proxy },
            bypass,
            ..Self::default()
        })
    }

    /// Whether single values say the same. A PAC file often stands in the blob alone.
    pub(super) fn agrees_with(&self, values: &Self) -> bool {
        self.proxy.trim().eq_ignore_ascii_case(values.proxy.trim())
            && (values.pac.is_empty() || self.pac.trim().eq_ignore_ascii_case(values.pac.trim()))
    }

    /// The proxy for https; `None`: none is named for it.
    ///
    /// # Errors
    /// Says why the one that is named cannot be used, without repeating it.
    pub(super) fn https_proxy(&self) -> Option<Result<Proxy, &'static str>> {
        let entries = || self.proxy.split([';', ' ', '\t', '\r', '\n']).filter(|entry| !entry.is_empty());
        let named = entries().find_map(|entry| {
            let (scheme, proxy) = entry.split_once('=')?;
            scheme.eq_ignore_ascii_case("https").then_some(proxy)
        });
        Some(parse(named.or_else(|| entries().find(|entry| !entry.contains('=')))?))
    }

    /// Whether a host is asked directly although there is a proxy.
    pub(super) fn excepts(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.bypass.split([';', ' ', '\t', '\r', '\n']).any(|pattern| {
            let pattern = pattern.to_ascii_lowercase();
            let pattern = pattern.split_once("://").map_or(pattern.as_str(), |(_, rest)| rest);
            let pattern = pattern.strip_suffix(":443").unwrap_or(pattern);
            if pattern == "<local>" { !host.contains('.') } else { matches(pattern, &host) }
        })
    }
}

/// One proxy: `host:port`, with `http://` before it at most. Without a port it is 80, as in every http URL.
fn parse(entry: &str) -> Result<Proxy, &'static str> {
    if entry.contains('@') {
        return Err("it holds credentials, which these settings cannot carry: write HOST:PORT");
    }
    let prefixed = entry.get(..7).is_some_and(|prefix| prefix.eq_ignore_ascii_case("http://"));
    let address = if prefixed { &entry[7..] } else { entry }.trim_end_matches('/');
    if address.contains("://") {
        return Err("it has another scheme than http, which these settings do not know: write HOST:PORT");
    }
    let name = address.rsplit_once(']').map_or(address, |(_, behind)| behind);
    let url = if name.contains(':') { format!("http://{address}") } else { format!("http://{address}:80") };
    url.parse().map_err(|_| "it is no HOST:PORT")
}

/// Whether a pattern, in which each `*` stands for any text, covers a name.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return name.ends_with(part);
        }
        // The earliest place leaves the most to the others.
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    true
}

/// What is left of a blob.
struct Blob<'a>(&'a [u8]);

impl Blob<'_> {
    fn number(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    /// Text in ASCII behind its length in bytes.
    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let text = std::str::from_utf8(text).ok()?.trim_end_matches('\0');
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    }
}

/// Writes the blobs, for tests.
#[cfg(test)]
pub(super) mod testing {
    use super::Settings;

    fn text(text: &str) -> Vec<u8> {
        [&u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat()
    }

    fn flags(settings: &Settings) -> u32 {
        let manual = if settings.proxy.is_empty() { 0 } else { 2 };
        let pac = if settings.pac.is_empty() { 0 } else { 4 };
        1 | manual | pac | if settings.detect { 8 } else { 0 }
    }

    pub(in crate::discover::windows) fn connection(version: u32, settings: &Settings) -> Vec<u8> {
        let head: Vec<u8> = [version, 7, flags(settings)].into_iter().flat_map(u32::to_le_bytes).collect();
        [head, text(&settings.proxy), text(&settings.bypass), text(&settings.pac), vec![0; 32]].concat()
    }

    pub(in crate::discover::windows) fn win_http(version: u32, settings: &Settings) -> Vec<u8> {
        let head: Vec<u8> = [version, 0, flags(settings)].into_iter().flat_map(u32::to_le_bytes).collect();
        [head, text(&settings.proxy), text(&settings.bypass)].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        testing::{connection, win_http},
        *,
    };

    fn proxy(list: &str) -> Option<Result<String, &'static str>> {
        let settings = Settings { proxy: list.to_owned(), ..Settings::default() };
        Some(settings.https_proxy()?.map(|proxy| proxy.url()))
    }

    #[test]
    fn the_proxy_for_https_is_found_in_every_form() {
        for (list, url) in [
            ("10.0.0.5:3128", "http://10.0.0.5:3128"),
            ("http://proxy.corp:3128/", "http://proxy.corp:3128"),
            ("HTTP://proxy.corp:3128", "http://proxy.corp:3128"),
            ("http=a:1;https=b:2;ftp=c:3", "http://b:2"),
            ("http=a:1 HTTPS=http://b:2", "http://b:2"),
            ("ftp=c:3;any:4", "http://any:4"),
            ("proxy.corp", "http://proxy.corp:80"),
            ("[2001:db8::1]", "http://[2001:db8::1]:80"),
            ("[2001:db8::1]:3128", "http://[2001:db8::1]:3128"),
        ] {
            assert_eq!(proxy(list), Some(Ok(url.to_owned())), "{list}");
        }
        for list in ["", ";", "http=a:1", "http=a:1;socks=s:1080"] {
            assert_eq!(proxy(list), None, "{list}");
        }
        for (list, part) in [
            ("svc:TOPSECRET@proxy:3128", "credentials"),
            ("https=https://proxy:3128", "another scheme"),
            ("proxy:port", "HOST:PORT"),
            ("proxy:0", "HOST:PORT"),
            ("é", "HOST:PORT"),
        ] {
            assert!(matches!(proxy(list), Some(Err(problem)) if problem.contains(part)), "{list}: {:?}", proxy(list));
        }
    }

    #[test]
    fn exceptions_are_patterns() {
        let excepts =
            |bypass: &str, host: &str| Settings { bypass: bypass.into(), ..Settings::default() }.excepts(host);
        let blob = "acct.blob.core.windows.net";
        for bypass in ["*.windows.net", "x;*.Core.*;<local>", "acct*", "https://*.net:443", "*", blob, "*t*.b*.net"] {
            assert!(excepts(bypass, blob), "{bypass}");
        }
        for bypass in ["", ";", "<local>", "windows.net", "*.windows.com", "acct", "*.net*.net.net", "10.*"] {
            assert!(!excepts(bypass, blob), "{bypass}");
        }
        assert!(excepts("<local>", "server") && excepts("10.*", "10.1.2.3"));
    }

    #[test]
    fn direct_access_is_what_netsh_writes() {
        let direct = [0x18, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Settings::of_win_http(&direct), Some(Settings::default()));
        assert_eq!(win_http(0x18, &Settings::default()), direct);
    }

    #[test]
    fn what_is_switched_off_does_not_count() {
        let on = Settings { proxy: "p:1".into(), pac: "http://p/x".into(), bypass: "b".into(), detect: true };
        let mut blob = connection(0x46, &on);
        assert_eq!(Settings::of_connection(&blob).as_ref(), Some(&on));
        blob[8] = 1;
        assert_eq!(Settings::of_connection(&blob), Some(Settings { bypass: "b".into(), ..Settings::default() }));
        blob[0] = 59;
        assert_eq!(Settings::of_connection(&blob), None);
        blob[0] = 60;
        blob[12] = 0xff;
        assert_eq!(Settings::of_connection(&blob), None);
        assert_eq!(Settings::of_connection(&[]), None);
    }

    proptest! {
        #[test]
        fn a_blob_that_was_written_is_read_back(
            (proxy, bypass, pac) in ("[!-~]{0,60}", "[ -~]{0,60}", "[!-~]{0,60}"), detect: bool, newer: bool
        ) {
            let settings = Settings { proxy, bypass, pac, detect };
            let blob = connection(if newer { 0x46 } else { 0x3c }, &settings);
            prop_assert_eq!(Settings::of_connection(&blob), Some(settings.clone()));
            let settings = Settings { pac: String::new(), detect: false, ..settings };
            let blob = win_http(if newer { 0x28 } else { 0x18 }, &settings);
            prop_assert_eq!(Settings::of_win_http(&blob), Some(settings));
        }

        #[test]
        fn reading_never_panics(blob in proptest::collection::vec(any::<u8>(), 0..80), list in "\\PC{0,40}") {
            let _ = (Settings::of_connection(&blob), Settings::of_win_http(&blob));
            let settings = Settings { proxy: list.clone(), bypass: list, ..Settings::default() };
            let _ = (settings.https_proxy(), settings.excepts("acct.blob.core.windows.net"));
        }
    }
}
