//! Which way the extension's own requests take.

use super::Build;

/// The way of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// From the machine to the peer.
    Direct,
    /// Through a proxy that is spoken to in plain HTTP: `CONNECT host:443` without any header, so without a login
    /// (Python up to 3.11; later ones add `Host`).
    Proxy {
        /// Its host; may be empty, which no connection survives.
        host: String,
        /// Its port.
        port: u16,
    },
    /// A proxy whose port is no number: every request fails before anything is sent.
    Unusable,
}

/// The ways of a build: of its requests to storage, and of those to the host. `host` and `port` are `HttpProxy.Host` and
/// `HttpProxy.Port` of `waagent.conf` as the extension reads them, where an empty value counts as set; variables of the
/// environment and `no_proxy` play no part.
///
/// Source: `HttpUtil.HttpCallGetResponse`. Until 2019-06-26 a proxy was used when host and port were both set, for the
/// host's calls too; since 2019-07-11 (`feffa1b0`) it is used when the host is set and the port is **not**, so that what
/// the documentation asks for has no effect.
#[must_use]
pub fn ways(build: Build, host: Option<&str>, port: Option<&str>) -> (Way, Way) {
    match (build, host, port) {
        (Build::Until2019, Some(host), Some(port)) => {
            let way = port.trim().parse().map_or(Way::Unusable, |port| Way::Proxy { host: host.to_owned(), port });
            (way.clone(), way)
        }
        (Build::Until2025 | Build::Current, Some(host), None) => (split(host), Way::Direct),
        _ => (Way::Direct, Way::Direct),
    }
}

/// Python's `http.client` splits at the last colon behind a bracket, and takes 443 where there is none or nothing follows
/// it (`HTTPConnection._get_hostport`).
fn split(host: &str) -> Way {
    let way = |host: &str, port| Way::Proxy { host: host.trim_matches(['[', ']']).to_owned(), port };
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => match port {
            "" => way(name, 443),
            _ => port.parse().map_or(Way::Unusable, |port| way(name, port)),
        },
        _ => way(host, 443),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(host: &str, port: u16) -> Way {
        Way::Proxy { host: host.into(), port }
    }

    #[test]
    fn what_the_documentation_asks_for_is_ignored_since_2019() {
        for build in [Build::Until2025, Build::Current] {
            let guest = |host, port| {
                let (guest, to_host) = ways(build, host, port);
                assert_eq!(to_host, Way::Direct, "the host is never asked by a proxy");
                guest
            };
            assert_eq!(guest(None, None), Way::Direct);
            assert_eq!(guest(None, Some("3128")), Way::Direct);
            assert_eq!(guest(Some("10.0.0.5"), Some("3128")), Way::Direct);
            assert_eq!(guest(Some("10.0.0.5"), None), proxy("10.0.0.5", 443));
            assert_eq!(guest(Some("10.0.0.5:3128"), None), proxy("10.0.0.5", 3128));
            assert_eq!(guest(Some("[2001:db8::1]:3128"), None), proxy("2001:db8::1", 3128));
            assert_eq!(guest(Some("[2001:db8::1]"), None), proxy("2001:db8::1", 443));
            assert_eq!(guest(Some("proxy:"), None), proxy("proxy", 443));
            assert_eq!(guest(Some("proxy:abc"), None), Way::Unusable);
            assert_eq!(guest(Some(""), None), proxy("", 443));
        }
    }

    #[test]
    fn until_2019_both_keys_send_everything_through_the_proxy() {
        let both = ways(Build::Until2019, Some("10.0.0.5"), Some("3128"));
        assert_eq!(both, (proxy("10.0.0.5", 3128), proxy("10.0.0.5", 3128)));
        assert_eq!(ways(Build::Until2019, Some("10.0.0.5:3128"), None), (Way::Direct, Way::Direct));
        assert_eq!(ways(Build::Until2019, None, Some("3128")), (Way::Direct, Way::Direct));
        assert_eq!(ways(Build::Until2019, Some("p"), Some("abc")).0, Way::Unusable);
    }
}
