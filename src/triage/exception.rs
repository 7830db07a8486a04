//! What Python's exceptions and storage's answers mean: a first-match table over the words that the extension logged.
//!
//! Those words are all there is: the extension keeps `str(exception)` and a stack trace. The texts were observed with
//! Python 3.11 on OpenSSL 3; older ones spell some differently, and both forms stand here.

use crate::{
    classify::codes,
    model::{Code, Hop},
};

/// How far a request had come, by the functions in its stack trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// The trace does not tell.
    #[default]
    Unknown,
    /// In the name lookup.
    Resolve,
    /// In `connect`.
    Connect,
    /// Waiting for the proxy's answer to CONNECT.
    Tunnel,
    /// In the TLS handshake.
    Handshake,
    /// The request is sent, its answer awaited.
    Response,
}

impl Stage {
    /// Notes a line of a stack trace. The innermost function that tells something stands last; a second exception
    /// starts anew.
    pub(super) fn note(&mut self, line: &str) {
        if line.contains("During handling of the above exception") || line.contains("direct cause of the following") {
            *self = Self::Unknown;
        }
        let stage = match line.trim_end().rsplit_once(", in ").map(|(_, function)| function) {
            Some("getaddrinfo") => Self::Resolve,
            Some("create_connection" | "_create_connection") => Self::Connect,
            Some("_tunnel") => Self::Tunnel,
            Some("do_handshake" | "wrap_socket" | "_create") => Self::Handshake,
            Some("getresponse" | "begin" | "_read_status") => Self::Response,
            _ => return,
        };
        // The answer to CONNECT is read by the same functions as any other; so is a name inside `create_connection`.
        if !(*self == Self::Tunnel && stage == Self::Response) {
            *self = stage;
        }
    }
}

/// What an exception of a request means. `proxied`: the request went to a proxy, not to storage itself.
pub(super) fn exception(text: &str, stage: Stage, proxied: bool) -> (Code, Hop) {
    if let Some((_, after)) = text.split_once("Tunnel connection failed: ") {
        let status = after.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or_default();
        return tunnel_status(status);
    }
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    let far = if proxied && stage <= Stage::Connect { Hop::ClientToProxy } else { Hop::ClientToOrigin };
    if has(&["Errno -2]", "Name or service not known", "nodename nor servname"]) {
        (codes::DNS_NXDOMAIN, far)
    } else if has(&["Errno -3]", "Temporary failure in name resolution"]) {
        (codes::DNS_TIMEOUT, far)
    } else if has(&["Errno -5]", "No address associated with hostname"]) {
        (codes::DNS_NODATA, far)
    } else if has(&["Errno -4]", "Non-recoverable failure in name resolution"]) {
        (codes::DNS_SERVFAIL, far)
    } else if has(&["nonnumeric port"]) {
        (codes::CONFIG_PROXY_INVALID, Hop::Local)
    } else if let Some(code) = certificate(text) {
        (code, Hop::ClientToOrigin)
    } else if let Some(code) = handshake(text) {
        (code, Hop::ClientToOrigin)
    } else if let Some(code) = machine(text) {
        (code, Hop::Local)
    } else if stage == Stage::Tunnel {
        (proxy_silence(text), Hop::ClientToProxy)
    } else {
        (connection(text, stage), far)
    }
}

/// What a proxy's answer to CONNECT means; Python keeps the status and its reason alone.
fn tunnel_status(status: u16) -> (Code, Hop) {
    match status {
        401 | 407 => (codes::PROXY_AUTH_REQUIRED, Hop::Proxy),
        405 | 501 => (codes::PROXY_CONNECT_UNSUPPORTED, Hop::Proxy),
        429 => (codes::PROXY_RATE_LIMITED, Hop::Proxy),
        502..=504 => (codes::PROXY_GATEWAY_ERROR, Hop::ProxyToOrigin),
        300..=399 | 511 => (codes::PROXY_REDIRECTED, Hop::Proxy),
        500..=599 => (codes::PROXY_INTERNAL_ERROR, Hop::Proxy),
        _ => (codes::PROXY_REQUEST_DENIED, Hop::Proxy),
    }
}

fn certificate(text: &str) -> Option<Code> {
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if has(&["Hostname mismatch", "IP address mismatch", "doesn't match"]) {
        return Some(codes::TLS_NAME_MISMATCH);
    }
    has(&["CERTIFICATE_VERIFY_FAILED", "certificate verify failed"]).then(|| {
        if has(&["has expired"]) {
            codes::TLS_EXPIRED
        } else if has(&["not yet valid"]) {
            codes::TLS_NOT_YET_VALID
        } else if has(&["self-signed certificate in certificate chain", "self signed certificate in certificate chain"])
        {
            // Storage's own chains end in public authorities and are sent without their root.
            codes::TLS_INTERCEPTED
        } else if has(&["self-signed certificate", "self signed certificate"]) {
            codes::TLS_SELF_SIGNED
        } else if has(&["unable to get local issuer", "unable to get issuer", "unable to verify the first"]) {
            codes::TLS_UNKNOWN_ISSUER
        } else if has(&["certificate verify failed: "]) {
            codes::TLS_BAD_CERTIFICATE
        } else {
            // Older Pythons give no reason; most often the issuer is unknown.
            codes::TLS_UNKNOWN_ISSUER
        }
    })
}

fn handshake(text: &str) -> Option<Code> {
    let lower = text.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    Some(if has(&["handshake operation timed out"]) {
        codes::TLS_SILENT_AFTER_HELLO
    } else if has(&["unexpected_eof_while_reading", "eof occurred in violation"]) {
        codes::TLS_CLOSED_AFTER_HELLO
    } else if has(&["wrong_version_number", "wrong version number", "unknown protocol", "unknown_protocol"])
        || has(&["packet length too long", "record layer failure", "http_request]"])
    {
        codes::TLS_NOT_TLS
    } else if has(&["alert_protocol_version", "alert protocol version", "unsupported_protocol", "unsupported protocol"])
    {
        codes::TLS_PROTOCOL_VERSION
    } else if has(&["alert_handshake_failure", "alert handshake failure"]) {
        codes::TLS_HANDSHAKE_FAILURE
    } else if has(&["certificate_required", "certificate required"]) {
        codes::TLS_CLIENT_CERT_REQUIRED
    } else if lower.contains("ssl") && has(&["_alert_", " alert "]) {
        codes::TLS_ALERT
    } else {
        return None;
    })
}

/// Failures of this machine, before any packet (`errno(3)`).
fn machine(text: &str) -> Option<Code> {
    const ERRNO: [(&str, Code); 7] = [
        ("Errno 1]", codes::LOCAL_DENIED),
        ("Errno 13]", codes::LOCAL_DENIED),
        ("Errno 24]", codes::LOCAL_FD_EXHAUSTED),
        ("Errno 97]", codes::LOCAL_FAMILY_UNSUPPORTED),
        ("Errno 99]", codes::LOCAL_PORTS_EXHAUSTED),
        ("Errno 100]", codes::LOCAL_NETWORK_DOWN),
        ("Errno 105]", codes::LOCAL_NO_BUFFERS),
    ];
    ERRNO.iter().find(|(part, _)| text.contains(part)).map(|(_, code)| *code)
}

/// What a proxy that does not answer CONNECT with a status did.
fn proxy_silence(text: &str) -> Code {
    if text.contains("timed out") {
        codes::PROXY_SILENT
    } else if text.contains("Remote end closed") || text.contains("Errno 104]") || text.trim() == "''" {
        codes::PROXY_CLOSED
    } else {
        codes::PROXY_NOT_HTTP
    }
}

fn connection(text: &str, stage: Stage) -> Code {
    let has = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if has(&["read operation timed out", "write operation timed out"]) {
        codes::HTTP_SILENT
    } else if has(&["timed out"]) {
        match stage {
            Stage::Response => codes::HTTP_SILENT,
            Stage::Handshake => codes::TLS_SILENT_AFTER_HELLO,
            _ => codes::TCP_CONNECT_TIMEOUT,
        }
    } else if has(&["Errno 111]", "Connection refused"]) {
        codes::TCP_REFUSED
    } else if has(&["Errno 104]", "Connection reset by peer", "Errno 32]", "Broken pipe"]) {
        if stage == Stage::Handshake { codes::TLS_RESET_AFTER_HELLO } else { codes::TCP_RESET }
    } else if has(&["Errno 113]", "No route to host", "Errno 101]", "Network is unreachable"]) {
        codes::TCP_UNREACHABLE
    } else if has(&["Remote end closed connection", "IncompleteRead"]) || text.trim() == "''" {
        // Python 2 has an empty status line where Python 3 has a sentence.
        codes::HTTP_CLOSED
    } else if has(&["BadStatusLine", "HTTP/0.9", "LineTooLong"]) || quoted(text) {
        codes::HTTP_MALFORMED
    } else {
        codes::META_UNCLASSIFIED
    }
}

/// A status line in quotes, which is all that `BadStatusLine` prints.
fn quoted(text: &str) -> bool {
    let text = text.trim();
    text.len() > 2 && (text.starts_with('\'') && text.ends_with('\'') || text.starts_with('"') && text.ends_with('"'))
}

/// What the answer of who should be storage means, as far as status, headers and body are in the log; `None` for a
/// success. The extension takes 200 and 201 for one, whoever answers.
pub(super) fn answer(status: u16, text: &str) -> Option<(Code, Hop)> {
    let has = |part: &str| text.contains(part);
    let storage = has("x-ms-request-id") || has("<Code>") || has("RequestId:");
    Some(match status {
        200 | 201 => return None,
        _ if has(RATE) || has(COUNT) => (codes::STORAGE_THROTTLED, Hop::Origin),
        _ if has("AuthorizationFailure") => (codes::STORAGE_NETWORK_RULES, Hop::Origin),
        _ if has("AuthenticationFailed") => (codes::STORAGE_SAS_REJECTED, Hop::Origin),
        _ if has("AccountRequiresHttps") => (codes::STORAGE_HTTPS_REQUIRED, Hop::Origin),
        _ if has("TlsVersionNotPermitted") => (codes::STORAGE_TLS_VERSION, Hop::Origin),
        470 => (codes::HTTP_FIREWALL_DENIED, Hop::ClientToOrigin),
        511 => (codes::HTTP_CAPTIVE_PORTAL, Hop::ClientToOrigin),
        300..=399 => (codes::HTTP_REDIRECTED, Hop::ClientToOrigin),
        429 | 503 if storage => (codes::STORAGE_THROTTLED, Hop::Origin),
        _ if storage => (codes::STORAGE_ERROR, Hop::Origin),
        // Without a line that shows headers or a body nobody can tell who spoke; storage is the likeliest.
        _ if text.is_empty() => (codes::STORAGE_ERROR, Hop::Origin),
        _ => (codes::HTTP_WRONG_SPEAKER, Hop::ClientToOrigin),
    })
}

/// The words by which the extension itself tells too many snapshots in a short time (173).
pub(super) const RATE: &str = "The rate of snapshot blob calls is exceeded";
/// What is noted where the host refuses a disk without a message.
pub(super) const NO_REASON: &str = "the host gives no reason";
/// The words by which it tells too many snapshots of one blob (85).
pub(super) const COUNT: &str = "The snapshot count against this blob has been exceeded";

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str, frames: &[&str]) -> &'static str {
        let mut stage = Stage::default();
        for frame in frames {
            stage.note(&format!("  File \"/usr/lib/python3.10/x.py\", line 1, in {frame}"));
        }
        exception(text, stage, false).0.0
    }

    #[test]
    fn every_exception_has_its_code() {
        let connect = ["request", "_send_request", "connect", "create_connection"];
        let response = ["HttpCallGetResponse", "getresponse", "begin", "_read_status", "readinto"];
        let tls = ["connect", "wrap_socket", "_create", "do_handshake"];
        for (text, frames, wanted) in [
            ("timed out", &connect[..], "tcp.connect_timeout"),
            ("timed out", &response[..], "http.silent"),
            ("timed out", &tls[..], "tls.silent_after_hello"),
            ("timed out", &[], "tcp.connect_timeout"),
            ("The read operation timed out", &response[..], "http.silent"),
            ("_ssl.c:1000: The handshake operation timed out", &tls[..], "tls.silent_after_hello"),
            ("[Errno 110] Connection timed out", &connect[..], "tcp.connect_timeout"),
            ("[Errno 111] Connection refused", &connect[..], "tcp.refused"),
            ("[Errno 104] Connection reset by peer", &tls[..], "tls.reset_after_hello"),
            ("[Errno 104] Connection reset by peer", &response[..], "tcp.reset"),
            ("[Errno 113] No route to host", &connect[..], "tcp.unreachable"),
            ("[Errno 101] Network is unreachable", &connect[..], "tcp.unreachable"),
            ("[Errno 1] Operation not permitted", &connect[..], "local.denied"),
            ("[Errno 13] Permission denied", &connect[..], "local.denied"),
            ("[Errno -2] Name or service not known", &["create_connection", "getaddrinfo"], "dns.nxdomain"),
            ("[Errno -3] Temporary failure in name resolution", &[], "dns.timeout"),
            ("[Errno -5] No address associated with hostname", &[], "dns.nodata"),
            (
                "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol (_ssl.c:1007)",
                &tls[..],
                "tls.closed_after_hello",
            ),
            ("EOF occurred in violation of protocol (_ssl.c:877)", &tls[..], "tls.closed_after_hello"),
            ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1007)", &tls[..], "tls.not_tls"),
            ("[SSL: UNKNOWN_PROTOCOL] unknown protocol (_ssl.c:590)", &tls[..], "tls.not_tls"),
            ("[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version", &tls[..], "tls.protocol_version"),
            ("[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure", &tls[..], "tls.handshake_failure"),
            ("[SSL: TLSV1_ALERT_INTERNAL_ERROR] tlsv1 alert internal error (_ssl.c:1007)", &tls[..], "tls.alert"),
            (
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in certificate chain (_ssl.c:1007)",
                &tls[..],
                "tls.intercepted",
            ),
            (
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self signed certificate in certificate chain (_ssl.c:1131)",
                &tls[..],
                "tls.intercepted",
            ),
            (
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1007)",
                &tls[..],
                "tls.self_signed",
            ),
            (
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1007)",
                &tls[..],
                "tls.unknown_issuer",
            ),
            ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:590)", &tls[..], "tls.unknown_issuer"),
            (
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for 'h'. (_ssl.c:1007)",
                &tls[..],
                "tls.name_mismatch",
            ),
            ("hostname 'h' doesn't match 'other'", &tls[..], "tls.name_mismatch"),
            (
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1007)",
                &tls[..],
                "tls.expired",
            ),
            (
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate is not yet valid (_ssl.c:1007)",
                &tls[..],
                "tls.not_yet_valid",
            ),
            (
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unsuitable certificate purpose (_ssl.c:1007)",
                &tls[..],
                "tls.bad_certificate",
            ),
            (
                "Tunnel connection failed: 407 Proxy Authentication Required",
                &["connect", "_tunnel"],
                "proxy.auth_required",
            ),
            ("Tunnel connection failed: 403 Forbidden", &["_tunnel"], "proxy.request_denied"),
            ("Tunnel connection failed: 502 Bad Gateway", &["_tunnel"], "proxy.gateway_error"),
            ("Tunnel connection failed: 503 Service Unavailable", &["_tunnel"], "proxy.gateway_error"),
            ("Tunnel connection failed: 504 Gateway Timeout", &["_tunnel"], "proxy.gateway_error"),
            ("Tunnel connection failed: 405 Method Not Allowed", &["_tunnel"], "proxy.connect_unsupported"),
            ("Tunnel connection failed: 302 Found", &["_tunnel"], "proxy.redirected"),
            ("timed out", &["connect", "_tunnel", "_read_status", "readinto"], "proxy.silent"),
            ("Remote end closed connection without response", &["_tunnel", "_read_status"], "proxy.closed"),
            ("SSH-2.0-OpenSSH_9.6", &["_tunnel", "_read_status"], "proxy.not_http"),
            ("Remote end closed connection without response", &response[..], "http.closed"),
            ("''", &response[..], "http.closed"),
            ("BadStatusLine: SSH-2.0", &response[..], "http.malformed"),
            ("'SSH-2.0-OpenSSH_9.6\\r\\n'", &response[..], "http.malformed"),
            ("nonnumeric port: 'abc'", &[], "config.proxy_invalid"),
            ("something new", &[], "meta.unclassified"),
        ] {
            assert_eq!(code(text, frames), wanted, "{text} {frames:?}");
        }
    }

    #[test]
    fn before_the_tunnel_a_failure_is_the_way_to_the_proxy() {
        assert_eq!(exception("timed out", Stage::Connect, true), (codes::TCP_CONNECT_TIMEOUT, Hop::ClientToProxy));
        assert_eq!(exception("[Errno 111] x", Stage::Connect, false), (codes::TCP_REFUSED, Hop::ClientToOrigin));
        assert_eq!(exception("timed out", Stage::Tunnel, true), (codes::PROXY_SILENT, Hop::ClientToProxy));
    }

    #[test]
    fn a_second_exception_has_its_own_stage() {
        let mut stage = Stage::Handshake;
        stage.note("During handling of the above exception, another exception occurred:");
        assert_eq!(stage, Stage::Unknown);
    }

    #[test]
    fn answers_are_told_apart_by_who_speaks() {
        for (status, text, wanted) in [
            (201, "", None),
            (403, "<Error><Code>AuthorizationFailure</Code>", Some("storage.network_rules")),
            (403, "<Code>AuthenticationFailed</Code>", Some("storage.sas_rejected")),
            (409, "The rate of snapshot blob calls is exceeded", Some("storage.throttled")),
            (409, "The snapshot count against this blob has been exceeded.", Some("storage.throttled")),
            (409, "<Code>SnapshotOperationRateExceeded</Code>", Some("storage.error")),
            (503, "<Code>ServerBusy</Code>", Some("storage.throttled")),
            (404, "('x-ms-request-id', '1')", Some("storage.error")),
            (403, "<html>Access denied by policy</html>", Some("http.wrong_speaker")),
            (302, "('Location', 'http://portal/')", Some("http.redirected")),
            (470, "Action: Deny.", Some("http.firewall_denied")),
            (511, "", Some("http.captive_portal")),
            (412, "", Some("storage.error")),
        ] {
            assert_eq!(answer(status, text).map(|(code, _)| code.0), wanted, "{status} {text}");
        }
    }
}
