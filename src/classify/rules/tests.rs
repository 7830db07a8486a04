//! At least one walk or lookup for each row; no row may be idle.

use super::*;
use crate::{
    classify::testing::{
        NAME, VERSIONS, Walk, alert, certificate, chain, gateway_reply, reply, request, storage_reply, tcp_info,
        trusted,
    },
    model::{
        Control, DnsAnswer, Evidence, Excerpt, Failure, IcmpError, IcmpFamily, RequestEvidence, ResolveEvidence,
        ResolverView, Target, TcpState, Transport, TunnelEvidence,
    },
};

const HTTPS: &str = "acct.blob.core.windows.net:443";
const HTTP_PORT: &str = "acct.blob.core.windows.net:80";

fn direct() -> Walk {
    Walk::direct(HTTPS, "20.60.1.1")
}

fn proxied() -> Walk {
    Walk::proxied(HTTPS)
}

fn lookup(kind: FailureKind, errno: Option<i32>, rcode: Option<u16>) -> Walk {
    let failure = Failure { kind, errno, raw: "x".into() };
    let mut walk = Walk::lookup(NAME, ResolverView::System, &[], Some(failure));
    if let (Some(rcode), Evidence::Resolve(resolve)) = (rcode, &mut walk.0.steps[0].evidence) {
        resolve.answers.push(answer(rcode));
    }
    walk
}

fn answer(rcode: u16) -> DnsAnswer {
    DnsAnswer {
        question: "A".into(),
        transport: Transport::Udp,
        elapsed_us: 1,
        tries: 1,
        rcode: Some(rcode),
        extended_errors: Vec::new(),
        aliases: Vec::new(),
        addresses: 0,
    }
}

#[allow(clippy::unnecessary_wraps, reason = "as the evidence holds it")]
fn icmp(family: IcmpFamily, kind: u8, code: u8) -> Option<IcmpError> {
    Some(IcmpError { family, kind, code, sender: Some("10.0.0.1".parse().unwrap()) })
}

/// This machine's own filter (or, late, its neighbour table) answers the SYN.
fn rejected_here(kind: FailureKind, code: u8, elapsed_us: u64) -> Walk {
    let own: std::net::IpAddr = "10.1.0.4".parse().unwrap();
    let error = IcmpError { family: IcmpFamily::V4, kind: 3, code, sender: Some(own) };
    let mut walk = direct().connect_fails_after(kind, elapsed_us, None, Some(error));
    if let Some(Evidence::Connect(connect)) = walk.0.steps.last_mut().map(|step| &mut step.evidence) {
        connect.local = Some((own, 40_000).into());
    }
    walk
}

/// A 200 that announces a page, and what came when TLS was spoken to it.
fn page_then(kind: FailureKind, evidence: HandshakeEvidence) -> Walk {
    let mut walk = proxied().connected().tunnelled();
    if let Some(Evidence::Tunnel(tunnel)) = walk.0.steps.last_mut().map(|step| &mut step.evidence) {
        tunnel.reply = Some(reply("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"));
    }
    walk.tls_fails(Leg::Origin, kind, evidence)
}

/// A server that asked for a certificate and ends the session after the request.
fn missed_certificate(kind: FailureKind, alert: Option<u8>) -> Walk {
    let wanted = HandshakeEvidence { client_certificate_requested: true, ..trusted() };
    let mut walk = direct().connected().tls(wanted).request_fails(kind);
    if let Some(Evidence::Request(request)) = walk.0.steps.last_mut().map(|step| &mut step.evidence) {
        request.alert = alert.map(|number| crate::model::Alert { number, name: "certificate_required".into() });
    }
    walk
}

fn first_bytes(bytes: &[u8]) -> HandshakeEvidence {
    HandshakeEvidence { first_bytes: Some(Excerpt::whole(bytes)), bytes_read: bytes.len() as u64, ..Default::default() }
}

fn read(bytes_read: u64) -> HandshakeEvidence {
    HandshakeEvidence { bytes_read, ..HandshakeEvidence::default() }
}

fn with_errno(mut walk: Walk, errno: i32) -> Walk {
    if let Some(failure) = walk.0.steps.last_mut().and_then(|step| step.failure.as_mut()) {
        failure.errno = Some(errno);
    }
    walk
}

fn sas(mut walk: Walk) -> Walk {
    if let Some(Evidence::Request(request)) = walk.0.steps.last_mut().map(|step| &mut step.evidence) {
        request.sas_sent = true;
    }
    walk
}

fn early(text: &str) -> Walk {
    let mut walk = proxied().connected().tunnelled();
    if let Some(Evidence::Tunnel(tunnel)) = walk.0.steps.last_mut().map(|step| &mut step.evidence) {
        tunnel.early = Some(Excerpt::whole(text.as_bytes()));
    }
    walk
}

fn tunnel_bytes(bytes: &[u8]) -> TunnelEvidence {
    TunnelEvidence { bytes_read: bytes.len() as u64, first_bytes: Some(Excerpt::whole(bytes)), ..Default::default() }
}

fn answered(text: &str) -> Walk {
    direct().connected().tls(trusted()).answered(reply(text))
}

fn unacknowledged() -> HandshakeEvidence {
    let tcp = Some(tcp_info(TcpState::Established, 4, 1));
    HandshakeEvidence { bytes_sent: 1500, tcp, ..HandshakeEvidence::default() }
}

#[allow(clippy::too_many_lines, reason = "one line per case of a table")]
#[rustfmt::skip] // a table reads by column
fn cases() -> Vec<(Walk, Code, Hop)> {
    use FailureKind as K;
    use Hop::{ClientToOrigin as O, ClientToProxy as P, Host, Local, Origin, Proxy, ProxyToOrigin as Beyond};
    use Verification as V;
    let self_signed = || {
        let mut evidence = chain(&["Example Corp"], V::UnknownIssuer);
        evidence.chain = vec![std::sync::Arc::new(crate::model::Certificate { self_issued: true, ..certificate("Example Corp") })];
        evidence
    };
    let verified = |verification| direct().connected().tls(chain(&["DigiCert Inc", "DigiCert Inc"], verification));
    let connect = |kind| direct().connect_fails(kind);
    let tls = |kind, evidence| direct().connected().tls_fails(Leg::Origin, kind, evidence);
    let tunnel = |kind, bytes: &[u8]| proxied().connected().tunnel_fails(kind, tunnel_bytes(bytes));
    let inside = |kind, evidence| proxied().connected().tunnelled().tls_fails(Leg::Origin, kind, evidence);
    let exchange = |exchange, kind| proxied().connected().tunnelled().exchanged(exchange, Some(kind), |_| ());
    let whole = Exchange::Integrity { bytes: 9 };
    let idle = |kind| proxied().connected().tunnelled().exchanged(Exchange::Idle { ms: 9 }, Some(kind), |e| e.idle_us = Some(7));
    let half = |kind| proxied().connected().tunnelled().exchanged(Exchange::HalfCloseByClient, Some(kind), |e| e.half_closed = true);
    let foreign = |walk: Walk, page: &str| {
        let mut walk = walk.exchanged(whole, Some(K::Foreign), |e| e.origin_proved = false);
        if let Some(Evidence::Request(request)) = walk.0.steps.last_mut().map(|step| &mut step.evidence) {
            request.first_bytes = Some(Excerpt::whole(page.as_bytes()));
        }
        walk
    };
    let asked = |kind| direct().connected().tls(trusted()).request_fails(kind);
    let stored = |status, code| direct().connected().tls(trusted()).answered(storage_reply(status, code));
    let alerted = |number| tls(K::Alert, alert(number));
    let wants_certificate = HandshakeEvidence { client_certificate_requested: true, ..alert(40) };
    vec![
        (direct().connected().tls(self_signed()), c::TLS_SELF_SIGNED, O),
        (direct().connected().tls(HandshakeEvidence { verification: Some(V::NotPermitted), ..self_signed() }), c::TLS_SELF_SIGNED, O),
        (direct().connected().tls(chain(&["DigiCert Inc"], V::UnknownIssuer)), c::TLS_INCOMPLETE_CHAIN, O),
        (direct().connected().tls(chain(&["Example Corp"], V::UnknownIssuer)), c::TLS_INTERCEPTED, O),
        (direct().connected().tls(chain(&["Example Corp", "Example Corp"], V::UnknownIssuer)).request_fails(K::Closed), c::TLS_INTERCEPTED, O),
        (verified(V::UnknownIssuer), c::TLS_UNKNOWN_ISSUER, O),
        (Walk::direct("[2001:db8::9]:443", "2001:db8::9").connected().tls(chain(&["Example Corp"], V::UnknownIssuer)), c::TLS_UNKNOWN_ISSUER, O),
        (verified(V::Expired), c::TLS_EXPIRED, O),
        (verified(V::NotYetValid), c::TLS_NOT_YET_VALID, O),
        (verified(V::NameMismatch), c::TLS_NAME_MISMATCH, O),
        (verified(V::Revoked), c::TLS_BAD_CERTIFICATE, O),
        (verified(V::Expired).request_fails(K::Cancelled), c::TLS_EXPIRED, O),

        (connect(K::Cancelled), c::META_DEADLINE, Local),
        (Walk::to_host(80).connected().answered(reply(&format!("HTTP/1.1 200 OK\r\nVia: 1.1 p\r\n\r\n{VERSIONS}"))), c::HOST_PROXIED, Host),
        (Walk::to_host(32526).connected().answered(reply("HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 110\r\n\r\n")), c::HOST_PROXIED, Host),
        (Walk::to_host(80).connected().answered(reply("HTTP/1.1 200 OK\r\n\r\n")), c::HOST_UNEXPECTED, Host),
        (Walk::to_host(80).connected().answered(reply(&format!("HTTP/1.1 404 N\r\n\r\n{VERSIONS}"))), c::HOST_UNEXPECTED, Host),
        (Walk::to_host(32526).connected().answered(reply("HTTP/1.1 200 OK\r\n\r\n<html>Log in")), c::HOST_UNEXPECTED, Host),
        (Walk::to_host(32526).connected().answered(reply("HTTP/1.1 470 status code 470\r\n\r\n")), c::HOST_UNEXPECTED, Host),
        (Walk::to_host(80).connected().request_fails(K::NotHttp), c::HOST_UNEXPECTED, Host),
        (Walk::to_metadata().connected().answered(reply("HTTP/1.1 200 OK\r\n\r\n<html>{\"compute\"")), c::HOST_UNEXPECTED, Host),
        (Walk::to_metadata().connected().answered(reply("HTTP/1.1 400 B\r\n\r\n{\"error\":\"x\"}")), c::HOST_UNEXPECTED, Host),
        (Walk::to_metadata().connected().answered(reply("HTTP/1.1 200 OK\r\nX-Forwarded-For: 10.0.0.9\r\n\r\n{\"apiVersions\":[]}")), c::HOST_PROXIED, Host),
        (Walk::to_metadata().connect_fails(K::TimedOut), c::HOST_UNREACHABLE, Host),
        (Walk::to_host(80).connect_fails(K::TimedOut), c::HOST_UNREACHABLE, Host),
        (Walk::to_host(80).connected().request_fails(K::TimedOut), c::HOST_UNREACHABLE, Host),
        (Walk::to_host(80).connect_fails(K::Refused), c::HOST_UNREACHABLE, Host),
        (Walk::to_host(80).connected().request_fails(K::Closed), c::HOST_UNREACHABLE, Host),
        (Walk::to_host(80).connect_fails_after(K::HostUnreachable, 9, None, icmp(IcmpFamily::V4, 3, 13)), c::HOST_UNREACHABLE, Host),
        (Walk::to_host(80).connect_fails(K::PermissionDenied), c::LOCAL_DENIED, Local),

        (direct().connect_fails_after(K::PermissionDenied, 9, None, icmp(IcmpFamily::V6, 1, 1)), c::TCP_ADMIN_PROHIBITED, O),
        (direct().connect_fails_after(K::HostUnreachable, 9, None, icmp(IcmpFamily::V4, 3, 13)), c::TCP_ADMIN_PROHIBITED, O),
        (rejected_here(K::Refused, 3, 9), c::LOCAL_DENIED, Local),
        (rejected_here(K::HostUnreachable, 13, 9), c::LOCAL_DENIED, Local),
        (rejected_here(K::HostUnreachable, 1, 3_000_000), c::TCP_UNREACHABLE, O),
        (connect(K::PermissionDenied), c::LOCAL_DENIED, Local),
        (connect(K::FileDescriptors), c::LOCAL_FD_EXHAUSTED, Local),
        (connect(K::SourcePorts), c::LOCAL_PORTS_EXHAUSTED, Local),
        (connect(K::Buffers), c::LOCAL_NO_BUFFERS, Local),
        (connect(K::AddressFamily), c::LOCAL_FAMILY_UNSUPPORTED, Local),
        (connect(K::NetworkDown), c::LOCAL_NETWORK_DOWN, Local),
        (with_errno(asked(K::Io), 1), c::LOCAL_DENIED, Local),

        (lookup(K::ResponseCode, None, Some(3)), c::DNS_NXDOMAIN, O),
        (lookup(K::ResponseCode, None, Some(2)), c::DNS_SERVFAIL, O),
        (lookup(K::ResponseCode, None, Some(5)), c::DNS_REFUSED, O),
        (lookup(K::ResponseCode, None, Some(9)), c::DNS_RCODE, O),
        (lookup(K::NoData, None, None), c::DNS_NODATA, O),
        (Walk::lookup(NAME, ResolverView::System, &[], None), c::DNS_NODATA, O),
        (lookup(K::SystemResolver, Some(-2), None), c::DNS_NXDOMAIN, O),
        (lookup(K::SystemResolver, Some(-3), None), c::DNS_TIMEOUT, O),
        (lookup(K::SystemResolver, Some(-4), None), c::DNS_SERVFAIL, O),
        (lookup(K::SystemResolver, Some(-5), None), c::DNS_NODATA, O),
        (lookup(K::SystemResolver, Some(-10), None), c::LOCAL_NO_BUFFERS, Local),
        (lookup(K::TimedOut, None, None), c::DNS_TIMEOUT, O),
        (lookup(K::NetworkUnreachable, Some(101), None), c::LOCAL_NO_ROUTE, Local),
        (lookup(K::ServerUnreachable, None, None), c::DNS_UNREACHABLE, O),
        (lookup(K::Malformed, None, None), c::DNS_MALFORMED, O),
        (lookup(K::SystemResolver, Some(-99), None), c::META_UNCLASSIFIED, O),

        (direct().connect_fails_after(K::HostUnreachable, 9, None, icmp(IcmpFamily::V4, 3, 1)), c::TCP_UNREACHABLE, O),
        (direct().connect_fails_after(K::NetworkUnreachable, 9, None, None), c::LOCAL_NO_ROUTE, Local),
        (direct().connect_fails_after(K::NetworkUnreachable, 9, None, icmp(IcmpFamily::Local, 0, 0)), c::LOCAL_NO_ROUTE, Local),
        (direct().connect_fails_after(K::HostUnreachable, 3_000_000, None, None), c::TCP_UNREACHABLE, O),
        (with_errno(connect(K::Io), 22), c::LOCAL_NO_ROUTE, Local),
        (connect(K::Refused), c::TCP_REFUSED, O),
        (proxied().connect_fails(K::Refused), c::TCP_REFUSED, P),
        (direct().connect_fails_after(K::TimedOut, 9, Some(tcp_info(TcpState::SynSent, 3, 0)), None), c::LOCAL_DENIED, Local),
        (direct().connect_fails_after(K::TimedOut, 9, Some(tcp_info(TcpState::SynSent, 3, 1)), None), c::TCP_CONNECT_TIMEOUT, O),
        (connect(K::TimedOut), c::TCP_CONNECT_TIMEOUT, O),
        (connect(K::Reset), c::TCP_RESET, O),

        (early("<html>Welcome"), c::PROXY_NOT_A_PROXY, Proxy),
        (early("HTTP/1.1 500 x\r\nX-Squid-Error: ERR_CANNOT_FORWARD 0\r\n\r\n"), c::PROXY_GATEWAY_ERROR, Beyond),
        (proxied().connected().tunnel_refused(gateway_reply(502, "p; error=dns_timeout")), c::DNS_TIMEOUT, Beyond),
        (tunnel(K::NotHttp, b"\x15\x03\x01\x00\x02\x02\x0a"), c::PROXY_EXPECTS_TLS, P),
        (tunnel(K::NotHttp, b"SSH-2.0-x"), c::PROXY_NOT_HTTP, Proxy),
        (tunnel(K::HeadTooLarge, b"HTTP/1.1 200 OK"), c::PROXY_BAD_REPLY, Proxy),
        (tunnel(K::TimedOut, b"HTTP/1.1 20"), c::PROXY_TRUNCATED, Proxy),
        (tunnel(K::TimedOut, b""), c::PROXY_SILENT, Proxy),
        (tunnel(K::Closed, b""), c::PROXY_CLOSED, Proxy),
        (tunnel(K::Reset, b""), c::TCP_RESET, P),
        (proxied().connected().tls_fails(Leg::Proxy, K::NotTls, first_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n")), c::PROXY_EXPECTS_PLAINTEXT, P),

        (inside(K::NotTls, first_bytes(b"HTTP/1.1 500 x\r\nX-Squid-Error: ERR_CANNOT_FORWARD 0\r\n\r\n")), c::PROXY_GATEWAY_ERROR, Beyond),
        (inside(K::NotTls, first_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n")), c::TLS_NOT_TLS, O),
        (tls(K::TimedOut, unacknowledged()), c::PATH_MTU_BLACKHOLE, O),
        (tls(K::TimedOut, HandshakeEvidence { bytes_sent: 259, ..unacknowledged() }), c::TLS_SILENT_AFTER_HELLO, O),
        (inside(K::TimedOut, unacknowledged()), c::PATH_MTU_BLACKHOLE, P),
        (page_then(K::NotTls, first_bytes(b"<html>")), c::PROXY_NOT_A_PROXY, Proxy),
        (page_then(K::Closed, read(0)), c::PROXY_NOT_A_PROXY, Proxy),
        (inside(K::Closed, read(0)), c::TUNNEL_CLOSED, O),
        (inside(K::Reset, read(0)), c::TUNNEL_RESET, O),
        (inside(K::TimedOut, read(0)), c::TUNNEL_SILENT, O),
        (Walk::proxied(HTTP_PORT).connected().tunnelled().request_fails(K::Closed), c::TUNNEL_CLOSED, O),
        (proxied().connected().tunnelled().tls(trusted()).request_fails(K::Closed), c::HTTP_CLOSED, O),

        (inside(K::Undecryptable, read(99)), c::TUNNEL_CORRUPTED, O),
        (proxied().connected().tunnelled().tls(trusted()).request_fails(K::Undecryptable), c::TUNNEL_CORRUPTED, O),
        (inside(K::Alert, alert(20)), c::TUNNEL_CORRUPTED, O),
        (tls(K::Alert, alert(20)), c::TLS_ALERT, O),
        (tls(K::Undecryptable, read(99)), c::TLS_HANDSHAKE_FAILURE, O),
        (asked(K::Undecryptable), c::HTTP_MALFORMED, O),
        (exchange(Exchange::EarlyData, K::Lost), c::TUNNEL_EARLY_DATA_LOST, O),
        (half(K::Closed), c::TUNNEL_HALF_CLOSE_BROKEN, O),
        (half(K::TimedOut), c::TUNNEL_HALF_CLOSE_BROKEN, O),
        (half(K::Differs), c::TUNNEL_CORRUPTED, O),
        (exchange(Exchange::HalfCloseByClient, K::Reset), c::TUNNEL_RESET, O),
        (idle(K::Closed), c::TUNNEL_IDLE_CUT, O),
        (idle(K::TimedOut), c::TUNNEL_IDLE_CUT, O),
        (exchange(Exchange::Idle { ms: 9 }, K::TimedOut), c::TUNNEL_SILENT, O),
        (exchange(whole, K::Differs), c::TUNNEL_CORRUPTED, O),
        (exchange(whole, K::Lost), c::TUNNEL_CORRUPTED, O),
        (exchange(whole, K::Closed), c::TUNNEL_CLOSED, O),
        (foreign(proxied().connected().tunnelled(), "SSH-2.0-x"), c::HTTP_WRONG_SPEAKER, O),
        (foreign(proxied().connected().tunnelled(), "HTTP/1.1 500 x\r\nX-Squid-Error: ERR_CANNOT_FORWARD 0\r\n\r\n"), c::PROXY_GATEWAY_ERROR, Beyond),
        (direct().connected().exchanged(whole, Some(K::Differs), |_| ()), c::META_UNCLASSIFIED, O),
        (direct().connected().exchanged(Exchange::Idle { ms: 9 }, Some(K::Reset), |e| e.idle_us = Some(7)), c::TCP_RESET, O),

        (tls(K::NotTls, first_bytes(b"HTTP/1.1 470 status code 470\r\n\r\nAction: Deny. ")), c::HTTP_FIREWALL_DENIED, O),
        (tls(K::NotTls, first_bytes(b"HTTP/1.1 403 F\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n")), c::TLS_NOT_TLS, O),
        (alerted(116), c::TLS_CLIENT_CERT_REQUIRED, O),
        (tls(K::Alert, wants_certificate), c::TLS_CLIENT_CERT_REQUIRED, O),
        (alerted(40), c::TLS_HANDSHAKE_FAILURE, O),
        (alerted(70), c::TLS_PROTOCOL_VERSION, O),
        (alerted(112), c::TLS_ALERT, O),
        (tls(K::TlsIncompatible, read(7)), c::TLS_PROTOCOL_VERSION, O),
        (tls(K::TlsProtocol, read(7)), c::TLS_HANDSHAKE_FAILURE, O),
        (tls(K::BadSignature, read(7)), c::TLS_BAD_CERTIFICATE, O),
        (tls(K::InvalidName, read(0)), c::TLS_NAME_MISMATCH, Local),
        (tls(K::Reset, read(99)), c::TCP_RESET, O),
        (tls(K::Reset, read(0)), c::TLS_RESET_AFTER_HELLO, O),
        (tls(K::Closed, read(99)), c::TLS_HANDSHAKE_FAILURE, O),
        (tls(K::Closed, read(0)), c::TLS_CLOSED_AFTER_HELLO, O),
        (tls(K::TimedOut, read(0)), c::TLS_SILENT_AFTER_HELLO, O),
        (proxied().connected().tls_fails(Leg::Proxy, K::TimedOut, read(0)), c::TLS_SILENT_AFTER_HELLO, P),

        (asked(K::TimedOut), c::HTTP_SILENT, O),
        (asked(K::Closed), c::HTTP_CLOSED, O),
        (asked(K::BadHead), c::HTTP_MALFORMED, O),
        (missed_certificate(K::Alert, Some(116)), c::TLS_CLIENT_CERT_REQUIRED, O),
        (missed_certificate(K::Reset, None), c::TLS_CLIENT_CERT_REQUIRED, O),
        (asked(K::Alert), c::TLS_ALERT, O),
        (asked(K::Reset), c::TCP_RESET, O),
        (asked(K::Io), c::META_UNCLASSIFIED, O),

        (answered("HTTP/1.1 470 status code 470\r\n\r\n"), c::HTTP_FIREWALL_DENIED, O),
        (Walk::direct(HTTP_PORT, "20.60.1.1").connected().answered(storage_reply(400, "AccountRequiresHttps")), c::STORAGE_HTTPS_REQUIRED, Origin),
        (stored(400, "TlsVersionNotPermitted"), c::STORAGE_TLS_VERSION, Origin),
        (stored(403, "AuthorizationFailure"), c::STORAGE_NETWORK_RULES, Origin),
        (sas(stored(403, "AuthenticationFailed")), c::STORAGE_SAS_REJECTED, Origin),
        (stored(503, "ServerBusy"), c::STORAGE_THROTTLED, Origin),
        (stored(500, "InternalError"), c::STORAGE_ERROR, Origin),
        (proxied().connected().tunnelled().tls(trusted()).answered(reply("HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n")), c::TCP_REFUSED, Beyond),
        (answered("HTTP/1.1 511 Login\r\n\r\n"), c::HTTP_CAPTIVE_PORTAL, O),
        (answered("HTTP/1.1 302 Found\r\nLocation: https://www.example.com/\r\n\r\n"), c::HTTP_REDIRECTED, O),
        (answered("HTTP/1.1 403 Forbidden\r\n\r\nThis site is blocked"), c::HTTP_BLOCK_PAGE, O),
        (answered("HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\nWelcome to nginx!"), c::HTTP_WRONG_SPEAKER, O),

        // A walk that stops short without a reason is not a pass, nor is one that proves nothing.
        (direct().connected(), c::META_UNCLASSIFIED, O),
        (direct().connected().tls(trusted()), c::META_UNCLASSIFIED, O),
        (direct().connected().tls(HandshakeEvidence::default()).answered(storage_reply(400, "x")), c::META_UNCLASSIFIED, O),
    ]
}

fn judge(walk: &Walk, skip: Option<usize>) -> Option<Judged> {
    let has_target = !walk.0.is_lookup() && walk.0.host_service.is_none();
    let target = has_target.then(|| Target::parse(&walk.0.subject, &[443]).unwrap().remove(0));
    primary_without(View { observation: &walk.0, target: target.as_ref() }, skip)
}

#[test]
fn every_case_gets_its_code_and_hop() {
    let wrong: Vec<String> = cases()
        .iter()
        .filter_map(|(walk, code, hop)| {
            let judged = judge(walk, None);
            let got = judged.map(|judged| (judged.code, judged.hop));
            (got != Some((*code, *hop))).then(|| format!("{got:?}, not {code} at {hop:?}: {:?}", walk.0.steps.last()))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_row_decides_some_case() {
    let cases = cases();
    let idle: Vec<String> = RULES
        .iter()
        .enumerate()
        .filter(|&(at, _)| cases.iter().all(|(walk, ..)| judge(walk, None) == judge(walk, Some(at))))
        .map(|(at, rule)| format!("row {at}, {}", rule.code))
        .collect();
    assert!(idle.is_empty(), "no case needs {idle:?}");
}

#[test]
fn what_storage_answers_passes_whatever_the_status() {
    for (status, code) in [
        (400, "InvalidQueryParameterValue"),
        (401, "NoAuthenticationInformation"),
        (403, "AuthenticationFailed"),
        (404, "ResourceNotFound"),
        (409, "PublicAccessNotPermitted"),
        (200, ""),
    ] {
        for walk in [direct().connected(), proxied().connected().tunnelled()] {
            let walk = walk.tls(trusted()).answered(storage_reply(status, code));
            assert_eq!(judge(&walk, None), None, "{status} {code}");
        }
    }
    let emulator = reply(
        "HTTP/1.1 403 x\r\nServer: Azurite-Blob/3.35.0\r\nx-ms-request-id: 1\r\nx-ms-error-code: AuthorizationFailure\r\n\r\n",
    );
    assert_eq!(judge(&direct().connected().tls(trusted()).answered(emulator), None), None);
    // An answer recorded as an unwelcome status is judged by the answer.
    let mut walk = direct().connected().tls(trusted());
    let evidence: RequestEvidence = request(storage_reply(404, "ResourceNotFound"));
    walk.push(Leg::Origin, Evidence::Request(Box::new(evidence)), Some(Failure::new(FailureKind::Status, "404")), 1);
    assert_eq!(judge(&walk, None), None);
}

#[test]
fn the_host_channel_passes_when_it_answers_for_itself() {
    let versions = reply(&format!("HTTP/1.1 200 OK\r\nServer: Microsoft-IIS/10.0\r\n\r\n{VERSIONS}"));
    assert_eq!(judge(&Walk::to_host(80).connected().answered(versions), None), None);
    let healthy = reply("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(judge(&Walk::to_host(32526).connected().answered(healthy), None), None);
    assert_eq!(judge(&Walk::to_host(80).connected(), None).map(|judged| judged.code), Some(c::META_UNCLASSIFIED));
}

#[test]
fn generic_targets_prove_no_more_than_their_layer() {
    let judge = |target: &str, walk: &Walk| {
        let target = Target::parse(target, &[443]).unwrap().remove(0);
        primary(View { observation: &walk.0, target: Some(&target) }).map(|judged| judged.code)
    };
    let at = || Walk::direct("host.example:9", "20.1.1.1");
    assert_eq!(judge("tcp://host.example:9", &at().connected()), None);
    assert_eq!(judge("tcp://host.example:9", &Walk::proxied("host.example:9").connected().tunnelled()), None);
    assert_eq!(judge("tls://host.example:9", &at().connected().tls(trusted())), None);
    let corporate = chain(&["Example Corp", "Example Corp"], Verification::UnknownIssuer);
    assert_eq!(judge("tls://host.example:9", &at().connected().tls(corporate)), Some(c::TLS_UNKNOWN_ISSUER));
}

#[test]
fn the_walk_of_a_control_is_judged_like_any_other() {
    let walk = direct().connect_fails(FailureKind::Refused).control(Control::OtherPort);
    assert_eq!(judge(&walk, None).map(|judged| judged.code), Some(c::TCP_REFUSED));
    let empty = Walk::lookup(NAME, ResolverView::System, &["20.60.1.1"], None);
    assert!(
        matches!(&empty.0.steps[0].evidence, Evidence::Resolve(r) if !ResolveEvidence::clone(r).addresses.is_empty())
    );
    assert_eq!(judge(&empty, None), None);
}
