//! What a proxy's answer to CONNECT means. Read in this order: `Proxy-Status`, a login demand, product marks and page
//! markers, the status code.

use std::{borrow::Cow, cell::OnceCell};

use super::rfc9209;
use crate::{
    classify::codes as c,
    http::{Reply, parse_proxy_status},
    model::{Code, Confidence, Hop},
};

/// What the answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) code: Code,
    pub(super) hop: Hop,
    pub(super) confidence: Confidence,
}

/// Judges an answer that opened no tunnel.
pub(super) fn judge(reply: &Reply, credentials_sent: bool) -> Heard {
    judge_without(reply, credentials_sent, None)
}

/// As [`judge`], without one row: the test that every row counts.
fn judge_without(reply: &Reply, credentials_sent: bool, skip: Option<usize>) -> Heard {
    let answer = Answer::new(reply, credentials_sent);
    if let Some((code, hop)) = answer.proxy_status {
        return Heard { code, hop, confidence: Confidence::Reported };
    }
    ROWS.iter()
        .enumerate()
        .filter(|&(at, _)| Some(at) != skip)
        .map(|(_, row)| row)
        .find(|row| (row.when)(&answer))
        .map_or(Heard { code: c::PROXY_BAD_REPLY, hop: Hop::Proxy, confidence: Confidence::Unknown }, |row| Heard {
            code: row.code,
            hop: row.hop,
            confidence: row.confidence,
        })
}

/// Whether the answer is marked as a proxy's own, wherever it was read: inside a tunnel, or behind an intercepting
/// certificate.
pub(super) fn is_marked(reply: &Reply) -> bool {
    let answer = Answer::new(reply, false);
    answer.proxy_status.is_some()
        || answer.squid.is_some()
        || reply.status == 407
        || matches!(product(reply), Some("squid" | "tinyproxy" | "privoxy" | "cntlm"))
}

/// Whether the answer is a refusal by rule.
pub(super) fn is_denial(reply: &Reply) -> bool {
    Answer::new(reply, false).is_denial()
}

/// The program that spoke, where its marks show. In a chain the mark of the program that made the answer wins; cntlm
/// is the exception, as it puts its own login demand under the page of its parent.
pub(super) fn product(reply: &Reply) -> Option<&'static str> {
    let answer = Answer::new(reply, false);
    let challenge = |needle: &str| reply.headers_named("proxy-authenticate").any(|value| value.contains(needle));
    if challenge("Cntlm for parent") || answer.says("cntlm.sf.net") {
        Some("cntlm")
    } else if answer.squid.is_some() || answer.server_is("squid") {
        Some("squid")
    } else if answer.server_is("tinyproxy") {
        Some("tinyproxy")
    } else if answer.is_privoxy() {
        Some("privoxy")
    } else if answer.says("action: deny") && reply.status == 470 {
        Some("azure-firewall")
    } else if challenge("realm=\"Ncat\"") {
        Some("ncat")
    } else if challenge("realm=\"simple\"") {
        Some("pproxy")
    } else if answer.server_is("nginx") || answer.server_is("openresty") {
        Some("nginx")
    } else if answer.is_haproxy() {
        Some("haproxy")
    } else {
        None
    }
}

/// The name of squid's error and the error number behind it: from its header, else from the id of its page, which
/// survives when the header is hidden.
pub(super) fn squid_error(reply: &Reply) -> Option<(Cow<'_, str>, Option<i32>)> {
    if let Some(value) = reply.header("x-squid-error") {
        let mut words = value.split_ascii_whitespace();
        let name = words.next()?;
        if name.starts_with("ERR_") {
            let errno = words.next().and_then(|errno| errno.parse().ok());
            return Some((name.into(), errno.or_else(|| errno_in_page(&reply.body.text))));
        }
    }
    let (_, rest) = reply.body.text.split_once("<body id=")?;
    let name = rest.trim_start_matches(['"', '\'']);
    let end = name.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')).unwrap_or(name.len());
    name.starts_with("ERR_").then(|| (name[..end].into(), errno_in_page(rest)))
}

/// The error number in what squid quotes from the system, in every language: `(111) Connection refused`.
fn errno_in_page(page: &str) -> Option<i32> {
    page.split('(').skip(1).find_map(|rest| {
        let (number, _) = rest.split_once(')')?;
        number.parse().ok().filter(|errno| (1..=133).contains(errno))
    })
}

struct Answer<'a> {
    reply: &'a Reply,
    credentials_sent: bool,
    proxy_status: Option<(Code, Hop)>,
    squid: Option<(Cow<'a, str>, Option<i32>)>,
    /// Reason phrase and body in lower case, made when first asked for.
    words: OnceCell<String>,
}

impl<'a> Answer<'a> {
    fn new(reply: &'a Reply, credentials_sent: bool) -> Self {
        // The member closest to the origin comes first, and it knows the cause. A bare "denied" beside a login demand
        // says less than the demand.
        let members = parse_proxy_status(reply.headers_named("proxy-status"));
        let proxy_status = members
            .iter()
            .filter(|member| {
                let says_little =
                    matches!(member.error.as_deref(), Some("http_request_denied" | "proxy_internal_response"));
                reply.status != 407 || !says_little
            })
            .find_map(rfc9209::finding);
        Self { reply, credentials_sent, proxy_status, squid: squid_error(reply), words: OnceCell::new() }
    }

    fn status(&self) -> u16 {
        self.reply.status
    }

    fn squid_is(&self, names: &[&str]) -> bool {
        self.squid.as_ref().is_some_and(|(name, _)| names.contains(&name.as_ref()))
    }

    /// Squid reports that its connect failed, with this error number.
    fn squid_errno(&self, errno: &[i32]) -> bool {
        self.squid.as_ref().is_some_and(|(name, number)| {
            matches!(name.as_ref(), "ERR_CONNECT_FAIL" | "ERR_SECURE_CONNECT_FAIL")
                && number.is_some_and(|number| errno.contains(&number))
        })
    }

    fn words(&self) -> &str {
        self.words.get_or_init(|| {
            let mut words = self.reply.reason.clone();
            words.push('\n');
            words.push_str(&self.reply.body.text);
            words.make_ascii_lowercase();
            words
        })
    }

    /// `needle` is lower case.
    fn says(&self, needle: &str) -> bool {
        self.words().contains(needle)
    }

    /// The needles are lower case.
    fn says_any(&self, needles: &[&str]) -> bool {
        needles.iter().any(|needle| self.says(needle))
    }

    /// Whether one sentence both refuses and fits: a page's parts speak of different things.
    fn refuses_in_a_sentence(&self, fits: impl Fn(&str) -> bool) -> bool {
        const REFUSALS: [&str; 9] = [
            "not allowed",
            "not permitted",
            "not authorized",
            "unauthorized",
            "denied",
            "blocked",
            "forbidden",
            "prohibited",
            "disallowed",
        ];
        self.words()
            .split(['.', '!', ';', '<', '>', '\n'])
            .any(|sentence| REFUSALS.iter().any(|refusal| sentence.contains(refusal)) && fits(sentence))
    }

    /// A refusal that names the port.
    fn refuses_port(&self) -> bool {
        self.is_refusal_status()
            && (self.says_any(&["non-ssl port", "target service not allowed"])
                || self.refuses_in_a_sentence(|sentence| {
                    sentence.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "port" || word == "ports")
                }))
    }

    /// A refusal that names the client.
    fn refuses_client(&self) -> bool {
        self.is_denial()
            && self.refuses_in_a_sentence(|sentence| {
                ["your ip", "client ip", "client address", "source address", "use this proxy"]
                    .iter()
                    .any(|client| sentence.contains(client))
            })
    }

    fn server_is(&self, product: &str) -> bool {
        self.reply
            .header("server")
            .and_then(|server| server.get(..product.len()))
            .is_some_and(|start| start.eq_ignore_ascii_case(product))
    }

    /// A program that is a proxy and nothing else, so that no status makes it a web server.
    fn is_proxy_program(&self) -> bool {
        self.squid.is_some() || self.server_is("squid") || self.server_is("tinyproxy") || self.is_privoxy()
    }

    fn is_web_server(&self) -> bool {
        const NAMES: [&str; 18] = [
            "nginx",
            "openresty",
            "Apache",
            "Microsoft-IIS",
            "Microsoft-HTTPAPI",
            "lighttpd",
            "Caddy",
            "LiteSpeed",
            "Jetty",
            "gunicorn",
            "SimpleHTTP",
            "Werkzeug",
            "Kestrel",
            "cloudflare",
            "CloudFront",
            "AkamaiGHost",
            "awselb",
            "Microsoft-Azure-Application-Gateway",
        ];
        NAMES.into_iter().any(|name| self.server_is(name))
    }

    fn is_privoxy(&self) -> bool {
        // Privoxy dates its pages before there were any.
        self.reply.header("last-modified") == Some("Wed, 08 Jun 1955 12:00:00 GMT") || self.says("(privoxy@")
    }

    fn is_haproxy(&self) -> bool {
        self.reply.header("server").is_none()
            && self.reply.header("cache-control") == Some("no-cache")
            && [
                "no server is available to handle this request.",
                "request forbidden by administrative rules.",
                "the server didn't respond in time.",
                "your browser sent an invalid request.",
                "you need a valid user and password to access this content.",
            ]
            .into_iter()
            .any(|phrase| self.says(phrase))
    }

    /// A login demand: 407, or the 401 that some proxies send instead.
    fn wants_login(&self) -> bool {
        self.status() == 407 || (self.status() == 401 && self.reply.header("www-authenticate").is_some())
    }

    /// A status under which a refusal may come; some filters send theirs as 502 or 503.
    fn is_refusal_status(&self) -> bool {
        matches!(self.status(), 400..600) && !matches!(self.status(), 401 | 405 | 407 | 429 | 501 | 508 | 511)
    }

    /// A refusal by rule, whatever its status.
    fn is_denial(&self) -> bool {
        matches!(self.status(), 403 | 451)
            || self.squid_is(&["ERR_ACCESS_DENIED", "ERR_CACHE_ACCESS_DENIED", "ERR_FORWARDING_DENIED"])
            || (self.is_refusal_status()
                && self.says_any(&[
                    "access denied",
                    "access is denied",
                    "denied by",
                    "blocked by",
                    "has been blocked",
                    "has been denied",
                    "page blocked",
                    "denied the specified uniform resource locator",
                ]))
    }

    /// A failure on the way to the target, told in words of the proxy's own.
    fn fails_beyond(&self, needles: &[&str]) -> bool {
        matches!(self.status(), 500 | 502..=504) && !self.is_privoxy() && self.says_any(needles)
    }

    /// The name could not be resolved, says the page. A page that leaves open whether it was the name says nothing.
    fn knows_no_host(&self) -> bool {
        matches!(self.status(), 404 | 500 | 502..=504)
            && !self.says("or connection failed")
            && self.says_any(&[
                "no such host",
                "no such domain",
                "host not found",
                "host was not found",
                "unknown host",
                "name or service not known",
                "not be resolved",
                "cannot be resolved",
                "could not resolve",
                "cannot resolve",
                "unable to resolve",
                "failed to resolve",
                "dns lookup fail",
                "dns look up failed",
                "dns resolution fail",
                "name resolution (dns lookup)",
                "name resolution failed",
                "nxdomain",
                "enotfound",
            ])
    }
}

struct Row {
    code: Code,
    hop: Hop,
    confidence: Confidence,
    when: fn(&Answer<'_>) -> bool,
}

const fn row(code: Code, hop: Hop, confidence: Confidence, when: fn(&Answer<'_>) -> bool) -> Row {
    Row { code, hop, confidence, when }
}

/// First match wins.
#[allow(clippy::redundant_closure_for_method_calls, reason = "a method's path is not general enough in its lifetimes")]
const ROWS: &[Row] = {
    use Confidence::{Heuristic, Reported};
    use Hop::{ClientToProxy, Proxy, ProxyToOrigin as Beyond};
    &[
        // Smokescreen refuses by rule with 407, in place of a login demand.
        row(c::PROXY_HOST_DENIED, Proxy, Reported, |a| {
            a.status() == 407 && a.reply.header("x-smokescreen-error").is_some()
        }),
        row(c::PROXY_AUTH_REJECTED, Proxy, Reported, |a| a.wants_login() && a.credentials_sent),
        row(c::PROXY_AUTH_REQUIRED, Proxy, Reported, |a| a.wants_login()),
        // Squid: its error name decides, status codes mislead (500 for a name that does not resolve).
        row(c::TCP_REFUSED, Beyond, Reported, |a| a.squid_errno(&[111])),
        row(c::TCP_CONNECT_TIMEOUT, Beyond, Reported, |a| a.squid_errno(&[110])),
        row(c::TCP_UNREACHABLE, Beyond, Reported, |a| a.squid_errno(&[101, 113])),
        row(c::TCP_RESET, Beyond, Reported, |a| a.squid_errno(&[104, 32])),
        row(c::TLS_HANDSHAKE_FAILURE, Beyond, Reported, |a| a.squid_is(&["ERR_SECURE_CONNECT_FAIL"])),
        row(c::DNS_NXDOMAIN, Beyond, Reported, |a| a.squid_is(&["ERR_DNS_FAIL"])),
        row(c::PROXY_GATEWAY_ERROR, Beyond, Reported, |a| {
            a.squid_is(&[
                "ERR_CANNOT_FORWARD",
                "ERR_CONNECT_FAIL",
                "ERR_READ_ERROR",
                "ERR_READ_TIMEOUT",
                "ERR_WRITE_ERROR",
                "ERR_ZERO_SIZE_OBJECT",
                "ERR_LIFETIME_EXP",
                "ERR_GATEWAY_FAILURE",
            ])
        }),
        row(c::PROXY_EXPECTS_PLAINTEXT, ClientToProxy, Reported, |a| a.squid_is(&["ERR_PROTOCOL_UNKNOWN"])),
        row(c::PROXY_CONNECT_UNSUPPORTED, Proxy, Reported, |a| a.squid_is(&["ERR_UNSUP_REQ", "ERR_UNSUP_HTTPVERSION"])),
        row(c::PROXY_OVERLOADED, Proxy, Reported, |a| a.squid_is(&["ERR_SOCKET_FAILURE"])),
        row(c::PROXY_INTERNAL_ERROR, Proxy, Reported, |a| {
            a.squid_is(&["ERR_SHUTTING_DOWN", "ERR_ICAP_FAILURE", "ERR_ESI", "ERR_NO_RELAY"])
        }),
        // Azure Firewall as an explicit proxy.
        row(c::HTTP_FIREWALL_DENIED, Proxy, Reported, |a| a.status() == 470 || a.says("action: deny. ")),
        // Tinyproxy tells causes apart by its reason phrase alone.
        row(c::PROXY_PORT_DENIED, Proxy, Reported, |a| {
            a.server_is("tinyproxy") && a.is_denial() && a.reply.reason.eq_ignore_ascii_case("Access violation")
        }),
        row(c::PROXY_HOST_DENIED, Proxy, Reported, |a| {
            a.server_is("tinyproxy") && a.is_denial() && a.reply.reason.eq_ignore_ascii_case("Filtered")
        }),
        row(c::PROXY_CLIENT_DENIED, Proxy, Reported, |a| {
            a.server_is("tinyproxy") && a.is_denial() && a.reply.reason.eq_ignore_ascii_case("Access denied")
        }),
        row(c::PROXY_GATEWAY_ERROR, Beyond, Reported, |a| a.server_is("tinyproxy") && a.status() == 500),
        // Privoxy.
        row(c::DNS_NXDOMAIN, Beyond, Reported, |a| a.status() == 404 && a.is_privoxy()),
        // Words that products share.
        row(c::PROXY_EXPECTS_TLS, ClientToProxy, Reported, |a| {
            a.status() == 400
                && (a.says("plain http request was sent to https port")
                    || a.says("speaking plain http to an ssl-enabled")
                    || a.says("sent an http request to an https server"))
        }),
        row(c::PROXY_RATE_LIMITED, Proxy, Reported, |a| a.status() == 429),
        row(c::PROXY_OVERLOADED, Proxy, Reported, |a| {
            matches!(a.status(), 403 | 500 | 502 | 503)
                && (a.says("too many") || a.says("connection limit") || a.says("number of open connections"))
        }),
        row(c::PROXY_LOOP, Proxy, Reported, |a| a.status() == 508 || (a.status() >= 400 && a.says("forwarding loop"))),
        row(c::PROXY_REDIRECTED, Proxy, Reported, |a| matches!(a.status(), 300..400 | 511)),
        row(c::PROXY_CONNECT_UNSUPPORTED, Proxy, Reported, |a| {
            a.is_denial() && a.says("not configured to allow the http request method")
        }),
        // Refusals, with their scope where the page tells it.
        row(c::PROXY_PORT_DENIED, Proxy, Heuristic, |a| a.refuses_port()),
        row(c::PROXY_CLIENT_DENIED, Proxy, Heuristic, |a| a.refuses_client()),
        row(c::PROXY_HOST_DENIED, Proxy, Heuristic, |a| {
            a.is_denial()
                && a.says_any(&[
                    "categor",
                    "host not allowed",
                    "domain not allowed",
                    "blocked domain",
                    "blacklist",
                    "blocklist",
                    "denylist",
                ])
        }),
        row(c::PROXY_REQUEST_DENIED, Proxy, Reported, |a| a.is_denial()),
        row(c::PROXY_OVERLOADED, Proxy, Reported, |a| a.status() == 503 && a.reply.header("retry-after").is_some()),
        // Failures beyond the proxy, in the words of many products.
        row(c::DNS_TIMEOUT, Beyond, Heuristic, |a| {
            a.fails_beyond(&["temporary failure in name resolution", "eai_again", "dns timeout", "dns query timed out"])
                || (a.fails_beyond(&["dial tcp: lookup "]) && a.says("timeout"))
        }),
        row(c::DNS_NXDOMAIN, Beyond, Heuristic, |a| a.knows_no_host()),
        row(c::TCP_REFUSED, Beyond, Heuristic, |a| {
            a.fails_beyond(&[
                "connection refused",
                "actively refused",
                "connect error: 111",
                "errno 111]",
                "econnrefused",
            ])
        }),
        row(c::TCP_UNREACHABLE, Beyond, Heuristic, |a| {
            a.fails_beyond(&[
                "no route to host",
                "network is unreachable",
                "host is unreachable",
                "connect error: 113",
                "errno 113]",
                "ehostunreach",
                "enetunreach",
            ])
        }),
        row(c::TCP_CONNECT_TIMEOUT, Beyond, Heuristic, |a| {
            a.fails_beyond(&[
                "connection timed out",
                "connection timeout",
                "operation timed out",
                "i/o timeout",
                "did not properly respond after a period of time",
                "connect error: 110",
                "errno 110]",
                "etimedout",
            ])
        }),
        row(c::TCP_RESET, Beyond, Heuristic, |a| a.fails_beyond(&["connection reset by peer", "econnreset"])),
        row(c::PROXY_CONNECT_UNSUPPORTED, Proxy, Reported, |a| matches!(a.status(), 405 | 501)),
        row(c::PROXY_CONNECT_UNSUPPORTED, Proxy, Reported, |a| a.status() == 400 && a.is_web_server()),
        row(c::PROXY_NOT_A_PROXY, Proxy, Reported, |a| {
            !a.is_proxy_program()
                && (matches!(a.status(), 200..300 | 401 | 404 | 410 | 421) || (a.status() < 500 && a.is_web_server()))
        }),
        row(c::PROXY_CONNECT_UNSUPPORTED, Proxy, Heuristic, |a| a.status() == 400 && !a.is_proxy_program()),
        row(c::PROXY_GATEWAY_ERROR, Beyond, Reported, |a| matches!(a.status(), 502..=504 | 520..=530)),
        row(c::PROXY_INTERNAL_ERROR, Proxy, Reported, |a| matches!(a.status(), 500..600)),
        row(c::PROXY_REQUEST_DENIED, Proxy, Heuristic, |a| (400..500).contains(&a.status())),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::testing::{gateway_reply, reply};

    /// Answers that together need every row.
    fn cases() -> Vec<(Reply, bool, Code, Hop)> {
        use Hop::{ClientToProxy, Proxy, ProxyToOrigin as Beyond};
        let squid = |status: u16, error: &str| reply(&format!("HTTP/1.1 {status} x\r\nX-Squid-Error: {error}\r\n\r\n"));
        let tiny = |line: &str| reply(&format!("HTTP/1.0 {line}\r\nServer: tinyproxy/1.11.1\r\n\r\n"));
        vec![
            (reply("HTTP/1.1 407 P\r\n\r\n"), false, c::PROXY_AUTH_REQUIRED, Proxy),
            (reply("HTTP/1.1 407 P\r\n\r\n"), true, c::PROXY_AUTH_REJECTED, Proxy),
            (reply("HTTP/1.0 401 U\r\nWWW-Authenticate: Basic\r\n\r\n"), true, c::PROXY_AUTH_REJECTED, Proxy),
            (squid(503, "ERR_CONNECT_FAIL 111"), false, c::TCP_REFUSED, Beyond),
            (squid(503, "ERR_CONNECT_FAIL 110"), false, c::TCP_CONNECT_TIMEOUT, Beyond),
            (squid(503, "ERR_CONNECT_FAIL 113"), false, c::TCP_UNREACHABLE, Beyond),
            (squid(503, "ERR_SECURE_CONNECT_FAIL 104"), false, c::TCP_RESET, Beyond),
            (squid(503, "ERR_SECURE_CONNECT_FAIL 0"), false, c::TLS_HANDSHAKE_FAILURE, Beyond),
            (squid(503, "ERR_DNS_FAIL 0"), false, c::DNS_NXDOMAIN, Beyond),
            (squid(500, "ERR_CANNOT_FORWARD 0"), false, c::PROXY_GATEWAY_ERROR, Beyond),
            (squid(400, "ERR_PROTOCOL_UNKNOWN 0"), false, c::PROXY_EXPECTS_PLAINTEXT, ClientToProxy),
            (squid(500, "ERR_UNSUP_REQ 0"), false, c::PROXY_CONNECT_UNSUPPORTED, Proxy),
            (squid(500, "ERR_SOCKET_FAILURE 24"), false, c::PROXY_OVERLOADED, Proxy),
            (squid(503, "ERR_SHUTTING_DOWN 0"), false, c::PROXY_INTERNAL_ERROR, Proxy),
            (reply("HTTP/1.1 403 F\r\n\r\n<body id=ERR_ACCESS_DENIED>"), false, c::PROXY_REQUEST_DENIED, Proxy),
            (reply("HTTP/1.1 503 F\r\n\r\n<body id=\"ERR_DNS_FAIL\">"), false, c::DNS_NXDOMAIN, Beyond),
            (reply("HTTP/1.1 470 s\r\n\r\nAction: Deny. Reason: x"), false, c::HTTP_FIREWALL_DENIED, Proxy),
            (tiny("403 Access violation"), false, c::PROXY_PORT_DENIED, Proxy),
            (tiny("403 Filtered"), false, c::PROXY_HOST_DENIED, Proxy),
            (tiny("403 Access denied"), false, c::PROXY_CLIENT_DENIED, Proxy),
            (tiny("500 Unable to connect"), false, c::PROXY_GATEWAY_ERROR, Beyond),
            (
                reply("HTTP/1.1 404 No\r\nLast-Modified: Wed, 08 Jun 1955 12:00:00 GMT\r\n\r\n"),
                false,
                c::DNS_NXDOMAIN,
                Beyond,
            ),
            (reply("HTTP/1.1 404 No such domain\r\n\r\n"), false, c::DNS_NXDOMAIN, Beyond),
            (
                reply("HTTP/1.1 502 B\r\n\r\ndial tcp: lookup h on 10.0.0.2:53: i/o timeout"),
                false,
                c::DNS_TIMEOUT,
                Beyond,
            ),
            (reply("HTTP/1.1 502 B\r\n\r\nconnect: connection refused"), false, c::TCP_REFUSED, Beyond),
            (reply("HTTP/1.1 502 B\r\n\r\nconnect: no route to host"), false, c::TCP_UNREACHABLE, Beyond),
            (reply("HTTP/1.1 502 B\r\n\r\ndial tcp 10.1.2.3:443: i/o timeout"), false, c::TCP_CONNECT_TIMEOUT, Beyond),
            (reply("HTTP/1.1 502 B\r\n\r\nread: connection reset by peer"), false, c::TCP_RESET, Beyond),
            (reply("HTTP/1.1 407 R\r\nX-Smokescreen-Error: deny list\r\n\r\n"), true, c::PROXY_HOST_DENIED, Proxy),
            (
                reply("HTTP/1.1 403 F\r\n\r\nThis is not configured to allow the HTTP request method."),
                false,
                c::PROXY_CONNECT_UNSUPPORTED,
                Proxy,
            ),
            (reply("HTTP/1.1 403 F\r\n\r\nYour IP is blocked."), false, c::PROXY_CLIENT_DENIED, Proxy),
            // A name of its page stands for the number that squid hides, and a proxy is no web server.
            (
                reply("HTTP/1.1 503 F\r\n\r\n<body id=ERR_CONNECT_FAIL><i>(111) Verbindungsaufbau"),
                false,
                c::TCP_REFUSED,
                Beyond,
            ),
            (squid(404, "ERR_ACCESS_DENIED 0"), false, c::PROXY_REQUEST_DENIED, Proxy),
            (squid(400, "ERR_INVALID_URL 0"), false, c::PROXY_REQUEST_DENIED, Proxy),
            // An address in a server's signature names no port that is refused.
            (
                reply("HTTP/1.1 403 Forbidden\r\n\r\n<h1>Forbidden</h1><address>Apache Server at h Port 80</address>"),
                false,
                c::PROXY_REQUEST_DENIED,
                Proxy,
            ),
            (
                reply("HTTP/1.1 400 B\r\nServer: nginx\r\n\r\nThe plain HTTP request was sent to HTTPS port"),
                false,
                c::PROXY_EXPECTS_TLS,
                ClientToProxy,
            ),
            (reply("HTTP/1.1 429 Slow down\r\n\r\n"), false, c::PROXY_RATE_LIMITED, Proxy),
            (reply("HTTP/1.1 503 Too many open connections\r\n\r\n"), false, c::PROXY_OVERLOADED, Proxy),
            (reply("HTTP/1.1 503 S\r\nRetry-After: 5\r\n\r\n"), false, c::PROXY_OVERLOADED, Proxy),
            (reply("HTTP/1.1 508 L\r\n\r\n"), false, c::PROXY_LOOP, Proxy),
            (reply("HTTP/1.1 302 F\r\nLocation: https://portal/\r\n\r\n"), false, c::PROXY_REDIRECTED, Proxy),
            (reply("HTTP/1.1 511 N\r\n\r\n"), false, c::PROXY_REDIRECTED, Proxy),
            (reply("HTTP/1.1 403 F\r\n\r\nThis port is not allowed."), false, c::PROXY_PORT_DENIED, Proxy),
            (reply("HTTP/1.1 403 F\r\n\r\nCategory: file sharing"), false, c::PROXY_HOST_DENIED, Proxy),
            (reply("HTTP/1.1 451 L\r\n\r\n"), false, c::PROXY_REQUEST_DENIED, Proxy),
            (reply("HTTP/1.1 405 M\r\n\r\n"), false, c::PROXY_CONNECT_UNSUPPORTED, Proxy),
            (reply("HTTP/1.1 400 B\r\nServer: Apache/2.4\r\n\r\n"), false, c::PROXY_CONNECT_UNSUPPORTED, Proxy),
            (reply("HTTP/1.1 404 N\r\n\r\n"), false, c::PROXY_NOT_A_PROXY, Proxy),
            (reply("HTTP/1.1 400 B\r\n\r\n"), false, c::PROXY_CONNECT_UNSUPPORTED, Proxy),
            (reply("HTTP/1.1 502 B\r\n\r\n"), false, c::PROXY_GATEWAY_ERROR, Beyond),
            (reply("HTTP/1.1 500 I\r\n\r\n"), false, c::PROXY_INTERNAL_ERROR, Proxy),
            (reply("HTTP/1.1 418 T\r\n\r\n"), false, c::PROXY_REQUEST_DENIED, Proxy),
            // Proxy-Status decides before anything else, except a login demand that it does not explain.
            (gateway_reply(502, "p; error=connection_refused"), false, c::TCP_REFUSED, Beyond),
            (gateway_reply(407, "p; error=http_request_denied"), false, c::PROXY_AUTH_REQUIRED, Proxy),
            (
                gateway_reply(403, "inner; error=proxy_loop_detected, outer; error=dns_timeout"),
                false,
                c::PROXY_LOOP,
                Proxy,
            ),
        ]
    }

    #[test]
    fn answers_are_judged_by_the_first_row_that_fits() {
        for (reply, credentials, code, hop) in cases() {
            let heard = judge(&reply, credentials);
            assert_eq!((heard.code, heard.hop), (code, hop), "{} {:?}", reply.status_line(), reply.headers);
        }
    }

    #[test]
    fn every_row_decides_some_answer() {
        let cases = cases();
        for (at, row) in ROWS.iter().enumerate() {
            let needed = cases.iter().any(|(reply, credentials, ..)| {
                let (with, without) = (judge(reply, *credentials), judge_without(reply, *credentials, Some(at)));
                (with.code, with.confidence) != (without.code, without.confidence)
            });
            assert!(needed, "no answer needs row {at}, {}", row.code);
        }
    }

    #[test]
    fn products_show_by_their_marks() {
        for (text, product_name) in [
            (
                "HTTP/1.1 407 P\r\nServer: squid/5.7\r\nProxy-Authenticate: Basic realm=\"Cntlm for parent\"\r\n\r\n",
                "cntlm",
            ),
            ("HTTP/1.1 403 F\r\nserver: squid/5.7\r\nvia: 1.1 vm (squid/5.7), 1.1 tinyproxy\r\n\r\n", "squid"),
            ("HTTP/1.0 403 Filtered\r\nServer: tinyproxy/1.11.1\r\n\r\n", "tinyproxy"),
            ("HTTP/1.1 403 R\r\nLast-Modified: Wed, 08 Jun 1955 12:00:00 GMT\r\n\r\n", "privoxy"),
            ("HTTP/1.1 407 P\r\nProxy-Authenticate: Basic realm=\"Ncat\"\r\n\r\n", "ncat"),
            ("HTTP/1.1 407 P\r\nProxy-Authenticate: Basic realm=\"simple\"\r\n\r\n", "pproxy"),
            ("HTTP/1.1 400 B\r\nServer: nginx/1.22.1\r\n\r\n", "nginx"),
            ("HTTP/1.1 470 s\r\n\r\nAction: Deny. Reason: x", "azure-firewall"),
            (
                "HTTP/1.0 503 S\r\ncache-control: no-cache\r\n\r\nNo server is available to handle this request.",
                "haproxy",
            ),
        ] {
            assert_eq!(product(&reply(text)), Some(product_name), "{text}");
        }
        assert_eq!(product(&reply("HTTP/1.1 403 F\r\n\r\n")), None);
        assert!(is_marked(&reply("HTTP/1.1 500 x\r\nX-Squid-Error: ERR_CANNOT_FORWARD 0\r\n\r\n")));
        assert!(!is_marked(&reply("HTTP/1.1 500 x\r\n\r\n")));
    }
}
