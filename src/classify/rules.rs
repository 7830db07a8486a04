//! From one observation to its primary finding: a table, first match wins. Rows go from the certificate's evidence,
//! which outranks everything that was said behind it, to the layers in the order of a walk.

use super::{
    host, origin_reply as answer, proxy_reply,
    view::{At, View, as_reply},
};
use crate::{
    azure::issuer,
    classify::codes as c,
    exchange::Exchange,
    http::Reply,
    model::{
        Code, Confidence, ExchangeEvidence, FailureKind, HandshakeEvidence, Hop, Layer, Leg, Party, Severity,
        Verification,
    },
};

/// What a table says about an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) code: Code,
    pub(super) hop: Hop,
    pub(super) severity: Severity,
    pub(super) confidence: Confidence,
    pub(super) party: Party,
}

/// Between whom a row happened.
#[derive(Clone, Copy)]
enum Where {
    /// Always there.
    Is(Hop),
    /// Between this machine and the peer of the step.
    Peer,
    /// Between this machine and whom it dialled.
    Dialled,
    /// As the answer of the proxy tells.
    Told(fn(&At<'_>) -> Option<proxy_reply::Heard>),
}

/// One row.
struct Rule {
    code: Code,
    layers: &'static [Layer],
    leg: Option<Leg>,
    /// The kinds of failure it is about; empty: the step did not fail, its evidence decides.
    kinds: &'static [FailureKind],
    when: fn(&At<'_>) -> bool,
    hop: Where,
    confidence: Confidence,
    severity: Severity,
    party: Party,
}

impl Rule {
    fn find<'a>(&self, view: View<'a>) -> Option<At<'a>> {
        view.steps().find(|at| {
            self.layers.contains(&at.step.layer())
                && self.leg.is_none_or(|leg| leg == at.step.leg)
                && at.stopped_by().map_or(self.kinds.is_empty(), |failure| self.kinds.contains(&failure.kind))
                && (self.when)(at)
        })
    }

    fn judge(&self, at: &At<'_>) -> Judged {
        let told = if let Where::Told(heard) = self.hop { heard(at) } else { None };
        if let Some(heard) = told {
            return Judged {
                code: heard.code,
                hop: heard.hop,
                severity: Severity::Error,
                confidence: heard.confidence,
                party: party_of(heard.hop),
            };
        }
        let dialled = if at.view.is_tunnelled() { Leg::Proxy } else { Leg::Origin };
        let hop = match self.hop {
            Where::Is(hop) => hop,
            Where::Peer => between(at.step.leg),
            Where::Dialled => between(dialled),
            Where::Told(_) => Hop::Proxy,
        };
        let Self { code, severity, confidence, party, .. } = *self;
        Judged { code, hop, severity, confidence, party }
    }

    const fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    const fn info(mut self) -> Self {
        self.severity = Severity::Info;
        self
    }
}

/// The primary finding of an observation; `None`: it passes. A walk that stopped short of its target without a failure
/// is not a pass.
pub(super) fn primary(view: View<'_>) -> Option<Judged> {
    primary_without(view, None)
}

/// As [`primary`], without one row: for the test that every row counts.
fn primary_without(view: View<'_>, skip: Option<usize>) -> Option<Judged> {
    let mut rules = RULES.iter().enumerate().filter(|&(at, _)| Some(at) != skip);
    if let Some(judged) = rules.find_map(|(_, rule)| rule.find(view).map(|at| rule.judge(&at))) {
        return Some(judged);
    }
    if view.is_complete() {
        return None;
    }
    Some(Judged {
        code: c::META_UNCLASSIFIED,
        hop: view.last().map_or(Hop::Local, |at| between(at.step.leg)),
        severity: Severity::Error,
        confidence: Confidence::Unknown,
        party: Party::Unknown,
    })
}

/// The hop between this machine and the peer of a leg.
pub(super) fn between(leg: Leg) -> Hop {
    match leg {
        Leg::Proxy => Hop::ClientToProxy,
        Leg::Origin => Hop::ClientToOrigin,
    }
}

/// Who is usually responsible at a hop.
pub(super) fn party_of(hop: Hop) -> Party {
    match hop {
        Hop::Local | Hop::Host | Hop::Consumer => Party::Client,
        Hop::Proxy => Party::Proxy,
        Hop::ClientToProxy | Hop::ProxyToOrigin | Hop::ClientToOrigin => Party::Path,
        Hop::Origin => Party::Origin,
    }
}

/// What a walk with an untrusted certificate met behind it: a portal, a filter or a proxy that speaks for itself.
pub(super) fn behind_certificate(view: View<'_>) -> Option<Judged> {
    let at = view.at(Layer::Request, Leg::Origin)?;
    let rule =
        RULES.iter().filter(|rule| rule.layers == HTTP && rule.kinds.is_empty()).find(|rule| (rule.when)(&at))?;
    let judged = rule.judge(&at);
    let tells = !judged.code.0.starts_with("storage.") && judged.code != c::HTTP_WRONG_SPEAKER;
    tells.then_some(judged)
}

// ---- conditions

fn always(_: &At<'_>) -> bool {
    true
}

fn errno_in(at: &At<'_>, numbers: &[i32]) -> bool {
    at.errno().is_some_and(|errno| numbers.contains(&errno))
}

fn verified_as(at: &At<'_>, result: Verification) -> bool {
    at.handshake().is_some_and(|h| h.verification == Some(result))
}

/// The leaf is its own issuer and came alone. Common tools mark such a certificate as an authority's, which no server's
/// may be.
fn is_self_signed(h: &HandshakeEvidence) -> bool {
    h.chain.len() == 1 && h.chain.first().is_some_and(|leaf| leaf.self_issued)
}

/// Whether the leaf names an authority that storage uses as its issuer.
pub(crate) fn has_genuine_issuer(h: &HandshakeEvidence) -> bool {
    h.chain.first().and_then(|leaf| leaf.issuer_organization.as_deref()).is_some_and(issuer::is_genuine_organisation)
}

/// The server asked for a client certificate in the handshake, got none, and then refused to go on.
fn certificate_was_missed(at: &At<'_>) -> bool {
    const CERTIFICATE_REQUIRED: u8 = 116;
    let alert = at.request().and_then(|request| request.alert.as_ref()).map(|alert| alert.number);
    let handshake = at.view.at(Layer::Handshake, Leg::Origin).and_then(At::handshake);
    alert == Some(CERTIFICATE_REQUIRED)
        || (at.bytes_read() == 0 && handshake.is_some_and(|handshake| handshake.client_certificate_requested))
}

fn alert_in(at: &At<'_>, numbers: &[u8]) -> bool {
    at.handshake().and_then(|h| h.alert.as_ref()).is_some_and(|alert| numbers.contains(&alert.number))
}

/// The `ClientHello` is larger than what every IPv4 path must carry in one segment (RFC 9293 section 3.7.1).
fn is_large_hello(at: &At<'_>) -> bool {
    const SMALLEST_SEGMENT: u64 = 536;
    at.handshake().is_some_and(|handshake| handshake.bytes_sent > SMALLEST_SEGMENT)
}

/// The first byte of the tunnel is still to come.
fn is_fresh_tunnel(at: &At<'_>) -> bool {
    at.view.is_tunnelled() && at.bytes_read() == 0 && !after_handshake(at)
}

/// The tunnel broke before an answer, or in the middle of an exchange with an origin of snapreach's own.
fn breaks_tunnel(at: &At<'_>) -> bool {
    is_fresh_tunnel(at) || tries(at, |_| true)
}

/// Whether such an exchange goes through a tunnel.
fn tries(at: &At<'_>, when: fn(&ExchangeEvidence) -> bool) -> bool {
    at.view.is_tunnelled() && at.exchange().is_some_and(when)
}

/// The peer could not decrypt what this side sent (RFC 8446 section 6.2).
fn peer_could_not_decrypt(at: &At<'_>) -> bool {
    const BAD_RECORD_MAC: u8 = 20;
    let alert = at.handshake().and_then(|h| h.alert.as_ref()).or_else(|| at.request().and_then(|r| r.alert.as_ref()));
    at.view.is_tunnelled() && alert.is_some_and(|alert| alert.number == BAD_RECORD_MAC)
}

fn after_handshake(at: &At<'_>) -> bool {
    at.step.layer() == Layer::Request && at.view.at(Layer::Handshake, Leg::Origin).is_some()
}

fn starts_like_tls_alert(at: &At<'_>) -> bool {
    at.first_bytes().is_some_and(|bytes| bytes.to_bytes().starts_with(b"\x15\x03"))
}

/// A web page came with the 200, before anything was sent into the tunnel.
fn has_early_page(at: &At<'_>) -> bool {
    at.tunnel().and_then(|t| t.early.as_ref()).is_some_and(|early| {
        let text = early.text.trim_start().as_bytes();
        // Of a page that comes in pieces perhaps only the first letters.
        let start = &text[..text.len().min(5)];
        text.starts_with(b"<")
            || (!start.is_empty() && b"HTTP/".get(..start.len()).is_some_and(|magic| start.eq_ignore_ascii_case(magic)))
    })
}

/// The 200 that should open a tunnel announced a page instead: only a web server's does.
fn follows_web_page(at: &At<'_>) -> bool {
    let reply = at.view.at(Layer::Tunnel, Leg::Proxy).and_then(At::tunnel).and_then(|tunnel| tunnel.reply.as_ref());
    reply.is_some_and(|reply| {
        let says = |name: &str| reply.header(name).map(str::to_ascii_lowercase).unwrap_or_default();
        says("Content-Type").starts_with("text/html")
            || says("Content-Length").parse().is_ok_and(|length: u64| length > 0)
    })
}

/// A page without a head came in place of TLS: the body of the 200, which the web server took for its answer.
fn is_bare_page(at: &At<'_>) -> bool {
    at.view.is_tunnelled() && at.first_bytes().is_some_and(|bytes| bytes.text.trim_start().starts_with('<'))
}

/// A plain-text page inside a tunnel that only a proxy writes.
fn page_in_tunnel(at: &At<'_>) -> Option<proxy_reply::Heard> {
    if !at.view.is_tunnelled() {
        return None;
    }
    judge_page(at, &at.first_bytes_as_reply()?)
}

/// The same page, when it came whole with the 200 and the connection broke before it was read as an answer to TLS.
fn page_at_once(at: &At<'_>) -> Option<proxy_reply::Heard> {
    judge_page(at, &as_reply(at.tunnel()?.early.as_ref()?)?)
}

fn judge_page(at: &At<'_>, reply: &Reply) -> Option<proxy_reply::Heard> {
    let proxy_like = proxy_reply::is_marked(reply)
        || matches!(reply.status, 401 | 403 | 407 | 429 | 451 | 470 | 500..=599 | 300..=399);
    proxy_like.then(|| proxy_reply::judge(reply, sent_credentials(at)))
}

fn sent_credentials(at: &At<'_>) -> bool {
    at.view.at(Layer::Tunnel, Leg::Proxy).and_then(At::tunnel).is_some_and(|t| t.credentials_sent)
}

fn tunnel_reply(at: &At<'_>) -> Option<proxy_reply::Heard> {
    let tunnel = at.tunnel()?;
    Some(proxy_reply::judge(tunnel.reply.as_ref()?, tunnel.credentials_sent))
}

/// A proxy's own page in place of storage's answer, as an inspecting proxy gives it inside TLS.
fn page_for_storage(at: &At<'_>) -> Option<proxy_reply::Heard> {
    let reply = answer::reply(at)?;
    (at.view.is_tunnelled() && answer::is_stranger(at) && proxy_reply::is_marked(reply))
        .then(|| proxy_reply::judge(reply, sent_credentials(at)))
}

const CONNECT: &[Layer] = &[Layer::Connect];
const TUNNEL: &[Layer] = &[Layer::Tunnel];
const TLS: &[Layer] = &[Layer::Handshake];
const HTTP: &[Layer] = &[Layer::Request];
const DNS: &[Layer] = &[Layer::Resolve];
const ANY: &[Layer] = &[Layer::Resolve, Layer::Connect, Layer::Tunnel, Layer::Handshake, Layer::Request];
const INSIDE: &[Layer] = &[Layer::Handshake, Layer::Request];
const PLAIN: &[Layer] = &[Layer::Connect, Layer::Request];
const SPEAKING: &[Layer] = &[Layer::Tunnel, Layer::Handshake, Layer::Request];

const PROXY: Option<Leg> = Some(Leg::Proxy);
const ORIGIN: Option<Leg> = Some(Leg::Origin);

#[allow(clippy::too_many_arguments, reason = "one argument per column of the table")]
const fn row(
    code: Code,
    layers: &'static [Layer],
    leg: Option<Leg>,
    kinds: &'static [FailureKind],
    when: fn(&At<'_>) -> bool,
    hop: Where,
    confidence: Confidence,
    party: Party,
) -> Rule {
    Rule { code, layers, leg, kinds, when, hop, confidence, severity: Severity::Error, party }
}

/// First match wins.
#[rustfmt::skip] // a table reads by column
const RULES: &[Rule] = {
    use Confidence::{Heuristic as Guess, Proof, Reported};
    use FailureKind as K;
    use Hop::{ClientToOrigin, ClientToProxy, Host, Local, Origin, Proxy};
    use Party as P;
    use Verification as V;
    use Where::{Dialled, Is, Peer, Told};
    &[
        // The certificate: what it proves stands, whatever was said behind it.
        row(c::TLS_SELF_SIGNED, TLS, None, &[],
            |a| (verified_as(a, V::UnknownIssuer) || verified_as(a, V::NotPermitted))
                && a.handshake().is_some_and(is_self_signed), Peer, Proof, P::Path),
        row(c::TLS_INCOMPLETE_CHAIN, TLS, None, &[],
            |a| verified_as(a, V::UnknownIssuer)
                && a.handshake().is_some_and(|h| h.chain.len() == 1 && has_genuine_issuer(h)), Peer, Proof, P::Origin),
        row(c::TLS_INTERCEPTED, TLS, ORIGIN, &[],
            |a| verified_as(a, V::UnknownIssuer)
                && a.view.is_storage_name()
                && a.handshake().is_some_and(|h| !h.chain.is_empty() && !has_genuine_issuer(h)), Peer, Proof, P::Path),
        row(c::TLS_UNKNOWN_ISSUER, TLS, None, &[], |a| verified_as(a, V::UnknownIssuer), Peer, Proof, P::Unknown),
        row(c::TLS_EXPIRED, TLS, None, &[], |a| verified_as(a, V::Expired), Peer, Proof, P::Unknown),
        row(c::TLS_NOT_YET_VALID, TLS, None, &[], |a| verified_as(a, V::NotYetValid), Peer, Proof, P::Unknown),
        row(c::TLS_NAME_MISMATCH, TLS, None, &[], |a| verified_as(a, V::NameMismatch), Peer, Proof, P::Unknown),
        row(c::TLS_BAD_CERTIFICATE, TLS, None, &[],
            |a| a.handshake().and_then(|h| h.verification).is_some_and(|v| v != V::Trusted), Peer, Proof, P::Unknown),
        // The run ended: nothing about the peer follows.
        row(c::META_DEADLINE, ANY, None, &[K::Cancelled], always, Is(Local), Proof, P::Client).warning(),
        // The host channel; what this machine itself forbids or lacks is judged as for any other walk.
        row(c::HOST_PROXIED, HTTP, ORIGIN, &[], host::is_proxied, Is(Host), Reported, P::Client),
        row(c::HOST_UNEXPECTED, HTTP, ORIGIN, &[], host::is_stranger, Is(Host), Proof, P::Path),
        row(c::HOST_UNEXPECTED, HTTP, ORIGIN, &[K::NotHttp, K::BadHead, K::HeadTooLarge, K::Truncated],
            host::is_asked, Is(Host), Proof, P::Path),
        row(c::HOST_UNREACHABLE, PLAIN, ORIGIN, &[K::TimedOut], host::is_asked, Is(Host), Guess, P::Path),
        row(c::HOST_UNREACHABLE, PLAIN, ORIGIN, &[K::Refused, K::Reset, K::Closed, K::HostUnreachable, K::NetworkUnreachable],
            host::is_asked, Is(Host), Proof, P::Path),
        // This machine.
        row(c::LOCAL_DENIED, CONNECT, None, &[K::HostUnreachable, K::NetworkUnreachable, K::Refused],
            |a| a.icmp_from_self(), Is(Local), Proof, P::Client),
        row(c::TCP_ADMIN_PROHIBITED, CONNECT, None,
            &[K::HostUnreachable, K::NetworkUnreachable, K::PermissionDenied, K::Refused, K::Io],
            |a| a.icmp_prohibited(), Peer, Proof, P::Path),
        row(c::LOCAL_DENIED, ANY, None, &[K::PermissionDenied], always, Is(Local), Proof, P::Client),
        row(c::LOCAL_FD_EXHAUSTED, ANY, None, &[K::FileDescriptors], always, Is(Local), Proof, P::Client),
        row(c::LOCAL_PORTS_EXHAUSTED, ANY, None, &[K::SourcePorts], always, Is(Local), Proof, P::Client),
        row(c::LOCAL_NO_BUFFERS, ANY, None, &[K::Buffers], always, Is(Local), Proof, P::Client),
        row(c::LOCAL_FAMILY_UNSUPPORTED, ANY, None, &[K::AddressFamily], always, Is(Local), Proof, P::Client),
        row(c::LOCAL_NETWORK_DOWN, ANY, None, &[K::NetworkDown], always, Is(Local), Proof, P::Client),
        row(c::LOCAL_DENIED, ANY, None, &[K::Io], |a| errno_in(a, &[1, 13]), Is(Local), Proof, P::Client),
        // Names. getaddrinfo's numbers: glibc, then Windows.
        row(c::DNS_NXDOMAIN, DNS, None, &[K::ResponseCode], |a| a.rcode() == Some(3), Peer, Proof, P::Resolver),
        row(c::DNS_SERVFAIL, DNS, None, &[K::ResponseCode], |a| a.rcode() == Some(2), Peer, Proof, P::Resolver),
        row(c::DNS_REFUSED, DNS, None, &[K::ResponseCode], |a| a.rcode() == Some(5), Peer, Proof, P::Resolver),
        row(c::DNS_RCODE, DNS, None, &[K::ResponseCode], always, Peer, Proof, P::Resolver),
        row(c::DNS_NODATA, DNS, None, &[K::NoData], always, Peer, Proof, P::Resolver),
        row(c::DNS_NODATA, DNS, None, &[], |a| a.resolve().is_some_and(|r| r.addresses.is_empty()), Peer, Proof, P::Resolver),
        row(c::DNS_NXDOMAIN, DNS, None, &[K::SystemResolver], |a| errno_in(a, &[-2, 11001]), Peer, Proof, P::Resolver),
        row(c::DNS_TIMEOUT, DNS, None, &[K::SystemResolver], |a| errno_in(a, &[-3, 11002]), Peer, Guess, P::Resolver),
        row(c::DNS_SERVFAIL, DNS, None, &[K::SystemResolver], |a| errno_in(a, &[-4, 11003]), Peer, Reported, P::Resolver),
        row(c::DNS_NODATA, DNS, None, &[K::SystemResolver], |a| errno_in(a, &[-5, -9, 11004]), Peer, Proof, P::Resolver),
        row(c::LOCAL_NO_BUFFERS, DNS, None, &[K::SystemResolver], |a| errno_in(a, &[-10]), Is(Local), Proof, P::Client),
        row(c::DNS_TIMEOUT, DNS, None, &[K::TimedOut], always, Peer, Guess, P::Resolver),
        row(c::LOCAL_NO_ROUTE, DNS, None, &[K::NetworkUnreachable, K::HostUnreachable], always, Is(Local), Proof, P::Client),
        row(c::DNS_UNREACHABLE, DNS, None, &[K::ServerUnreachable, K::Refused, K::Reset, K::Closed],
            always, Peer, Proof, P::Resolver),
        row(c::DNS_MALFORMED, DNS, None, &[K::Malformed], always, Peer, Proof, P::Resolver),
        // TCP.
        row(c::TCP_UNREACHABLE, CONNECT, None, &[K::HostUnreachable, K::NetworkUnreachable],
            |a| a.icmp_from_network(), Peer, Proof, P::Path),
        row(c::LOCAL_NO_ROUTE, CONNECT, None, &[K::HostUnreachable, K::NetworkUnreachable],
            |a| a.step.elapsed_us < 5_000, Is(Local), Proof, P::Client),
        // A route of type blackhole (ip-route(8)) makes connect fail with EINVAL.
        row(c::LOCAL_NO_ROUTE, CONNECT, None, &[K::Io], |a| errno_in(a, &[22]), Is(Local), Proof, P::Client),
        row(c::TCP_UNREACHABLE, CONNECT, None, &[K::HostUnreachable, K::NetworkUnreachable],
            always, Peer, Reported, P::Path),
        row(c::TCP_REFUSED, CONNECT, None, &[K::Refused], always, Peer, Proof, P::Path),
        row(c::LOCAL_DENIED, CONNECT, None, &[K::TimedOut], |a| a.syn_never_left(), Is(Local), Guess, P::Client),
        row(c::TCP_CONNECT_TIMEOUT, CONNECT, None, &[K::TimedOut], always, Peer, Guess, P::Path),
        row(c::TCP_RESET, CONNECT, None, &[K::Reset, K::Closed], always, Peer, Proof, P::Path),
        // CONNECT.
        // A proxy's page in plain text in the tunnel, whether it waited for the ClientHello or not.
        row(c::PROXY_GATEWAY_ERROR, INSIDE, ORIGIN, &[K::NotTls, K::Foreign], |a| page_in_tunnel(a).is_some(),
            Told(page_in_tunnel), Reported, P::Proxy),
        row(c::PROXY_GATEWAY_ERROR, TUNNEL, PROXY, &[], |a| page_at_once(a).is_some(), Told(page_at_once), Reported, P::Proxy),
        row(c::PROXY_NOT_A_PROXY, TUNNEL, PROXY, &[], has_early_page, Is(Proxy), Reported, P::Proxy),
        row(c::PROXY_GATEWAY_ERROR, TUNNEL, PROXY, &[K::Status], |a| tunnel_reply(a).is_some(), Told(tunnel_reply),
            Reported, P::Proxy),
        row(c::PROXY_EXPECTS_TLS, TUNNEL, PROXY, &[K::NotHttp], starts_like_tls_alert, Is(ClientToProxy), Proof, P::Client),
        row(c::PROXY_NOT_HTTP, TUNNEL, PROXY, &[K::NotHttp], always, Is(Proxy), Proof, P::Proxy),
        row(c::PROXY_BAD_REPLY, TUNNEL, PROXY, &[K::BadHead, K::HeadTooLarge], always, Is(Proxy), Proof, P::Proxy),
        row(c::PROXY_TRUNCATED, TUNNEL, PROXY, &[K::Truncated, K::TimedOut, K::Closed, K::Reset],
            |a| a.bytes_read() > 0, Is(Proxy), Proof, P::Proxy),
        row(c::PROXY_SILENT, TUNNEL, PROXY, &[K::TimedOut], always, Is(Proxy), Guess, P::Proxy),
        row(c::PROXY_CLOSED, TUNNEL, PROXY, &[K::Closed, K::Truncated], always, Is(Proxy), Proof, P::Proxy),
        // TLS with a proxy that does not speak it.
        row(c::PROXY_EXPECTS_PLAINTEXT, TLS, PROXY, &[K::NotTls], always, Is(ClientToProxy), Proof, P::Client),
        // Inside the tunnel.
        row(c::PROXY_NOT_A_PROXY, INSIDE, ORIGIN, &[K::NotTls, K::NotHttp, K::Foreign, K::Closed, K::Reset, K::TimedOut],
            |a| (follows_web_page(a) || is_bare_page(a)) && !after_handshake(a), Is(Proxy), Reported, P::Proxy),
        row(c::PATH_MTU_BLACKHOLE, TLS, None, &[K::TimedOut], |a| a.is_unacknowledged() && is_large_hello(a), Dialled, Guess, P::Path),
        // No holder of the keys makes a record that does not decrypt: bytes changed between the two ends of TLS.
        row(c::TUNNEL_CORRUPTED, INSIDE, ORIGIN, &[K::Undecryptable], |a| a.view.is_tunnelled(), Peer, Proof, P::Proxy),
        row(c::TUNNEL_CORRUPTED, INSIDE, ORIGIN, &[K::Alert], peer_could_not_decrypt, Peer, Reported, P::Proxy),
        // With an origin of snapreach's own both ends are known.
        row(c::TUNNEL_EARLY_DATA_LOST, HTTP, ORIGIN, &[K::Lost, K::Differs],
            |a| tries(a, |e| e.exchange == Exchange::EarlyData && e.origin_proved), Peer, Proof, P::Proxy).warning(),
        row(c::TUNNEL_HALF_CLOSE_BROKEN, HTTP, ORIGIN, &[K::Closed, K::Reset, K::Lost],
            |a| tries(a, |e| e.half_closed), Peer, Proof, P::Proxy).warning(),
        row(c::TUNNEL_HALF_CLOSE_BROKEN, HTTP, ORIGIN, &[K::TimedOut],
            |a| tries(a, |e| e.half_closed), Peer, Guess, P::Proxy).warning(),
        row(c::TUNNEL_IDLE_CUT, HTTP, ORIGIN, &[K::Closed, K::Reset],
            |a| tries(a, |e| e.idle_us.is_some()), Peer, Proof, P::Proxy).warning(),
        row(c::TUNNEL_IDLE_CUT, HTTP, ORIGIN, &[K::TimedOut],
            |a| tries(a, |e| e.idle_us.is_some()), Peer, Guess, P::Proxy).warning(),
        row(c::TUNNEL_CORRUPTED, HTTP, ORIGIN, &[K::Differs, K::Lost], |a| tries(a, |e| e.origin_proved), Peer, Proof, P::Proxy),
        row(c::TUNNEL_CLOSED, INSIDE, ORIGIN, &[K::Closed, K::Truncated], breaks_tunnel, Peer, Proof, P::Path),
        row(c::TUNNEL_RESET, INSIDE, ORIGIN, &[K::Reset], breaks_tunnel, Peer, Proof, P::Path),
        row(c::TUNNEL_SILENT, INSIDE, ORIGIN, &[K::TimedOut], breaks_tunnel, Peer, Guess, P::Path),
        // TLS.
        row(c::HTTP_FIREWALL_DENIED, TLS, ORIGIN, &[K::NotTls],
            |a| a.first_bytes_as_reply().is_some_and(|reply| answer::is_firewall(&reply)), Peer, Reported, P::Path),
        row(c::TLS_NOT_TLS, TLS, None, &[K::NotTls], always, Peer, Proof, P::Path),
        row(c::TLS_CLIENT_CERT_REQUIRED, TLS, None, &[K::Alert],
            |a| alert_in(a, &[116]) || (alert_in(a, &[40, 42]) && a.handshake().is_some_and(|h| h.client_certificate_requested)),
            Peer, Proof, P::Origin),
        row(c::TLS_HANDSHAKE_FAILURE, TLS, None, &[K::Alert], |a| alert_in(a, &[40]), Peer, Proof, P::Origin),
        row(c::TLS_PROTOCOL_VERSION, TLS, None, &[K::Alert], |a| alert_in(a, &[70]), Peer, Proof, P::Origin),
        row(c::TLS_ALERT, TLS, None, &[K::Alert], always, Peer, Proof, P::Origin),
        row(c::TLS_PROTOCOL_VERSION, TLS, None, &[K::TlsIncompatible],
            |a| a.handshake().is_some_and(|h| h.version.is_none()), Peer, Proof, P::Origin),
        row(c::TLS_HANDSHAKE_FAILURE, TLS, None, &[K::TlsIncompatible, K::TlsProtocol, K::Undecryptable], always, Peer,
            Proof, P::Unknown),
        row(c::TLS_BAD_CERTIFICATE, TLS, None, &[K::BadSignature], always, Peer, Proof, P::Unknown),
        row(c::TLS_NAME_MISMATCH, TLS, None, &[K::InvalidName], always, Is(Local), Proof, P::Client),
        row(c::TCP_RESET, TLS, None, &[K::Reset], |a| a.bytes_read() > 0, Peer, Proof, P::Path),
        row(c::TLS_RESET_AFTER_HELLO, TLS, None, &[K::Reset], always, Peer, Proof, P::Path),
        // Whoever has answered did not mind the name.
        row(c::TLS_HANDSHAKE_FAILURE, TLS, None, &[K::Closed, K::Truncated], |a| a.bytes_read() > 0, Peer, Proof, P::Unknown),
        row(c::TLS_CLOSED_AFTER_HELLO, TLS, None, &[K::Closed, K::Truncated], always, Peer, Proof, P::Path),
        row(c::TLS_SILENT_AFTER_HELLO, TLS, None, &[K::TimedOut], always, Peer, Guess, P::Path),
        // HTTP.
        // With TLS 1.3 a server says only behind the handshake that it wanted a certificate (RFC 8446 section 4.4.2.4).
        row(c::TLS_CLIENT_CERT_REQUIRED, HTTP, ORIGIN, &[K::Alert, K::Closed, K::Reset], certificate_was_missed, Peer, Proof,
            P::Origin),
        row(c::HTTP_SILENT, HTTP, ORIGIN, &[K::TimedOut], always, Peer, Guess, P::Unknown),
        row(c::HTTP_CLOSED, HTTP, ORIGIN, &[K::Closed, K::Truncated], always, Peer, Proof, P::Unknown),
        row(c::HTTP_MALFORMED, HTTP, ORIGIN, &[K::NotHttp, K::BadHead, K::HeadTooLarge, K::NotTls, K::TlsProtocol, K::Undecryptable],
            always, Peer, Proof, P::Unknown),
        row(c::HTTP_WRONG_SPEAKER, HTTP, ORIGIN, &[K::Foreign], always, Is(ClientToOrigin), Proof, P::Unknown),
        row(c::TLS_ALERT, HTTP, ORIGIN, &[K::Alert], always, Peer, Proof, P::Origin),
        row(c::TCP_RESET, SPEAKING, None, &[K::Reset], always, Peer, Proof, P::Path),
        // The answer: storage's own.
        row(c::HTTP_FIREWALL_DENIED, HTTP, ORIGIN, &[], |a| answer::reply(a).is_some_and(answer::is_firewall),
            Peer, Reported, P::Path),
        row(c::STORAGE_HTTPS_REQUIRED, HTTP, ORIGIN, &[],
            |a| answer::storage_says(a, 400, &["AccountRequiresHttps"]), Is(Origin), Proof, P::Origin).info(),
        row(c::STORAGE_TLS_VERSION, HTTP, ORIGIN, &[],
            |a| answer::storage_says(a, 400, &["TlsVersionNotPermitted"]), Is(Origin), Proof, P::Origin),
        row(c::STORAGE_NETWORK_RULES, HTTP, ORIGIN, &[], answer::is_network_rule, Is(Origin), Proof, P::Origin),
        row(c::STORAGE_SAS_REJECTED, HTTP, ORIGIN, &[], answer::is_signature_rejected, Is(Origin), Proof, P::Origin),
        row(c::STORAGE_THROTTLED, HTTP, ORIGIN, &[],
            |a| answer::storage_says(a, 503, &[]) || answer::storage_says(a, 429, &[]), Is(Origin), Proof, P::Origin),
        row(c::STORAGE_ERROR, HTTP, ORIGIN, &[],
            |a| !answer::is_stranger(a) && a.view.expects_storage()
                && answer::reply(a).is_some_and(|reply| reply.status >= 500), Is(Origin), Proof, P::Origin),
        // The answer: somebody else's.
        row(c::PROXY_GATEWAY_ERROR, HTTP, ORIGIN, &[], |a| page_for_storage(a).is_some(), Told(page_for_storage),
            Reported, P::Proxy),
        row(c::HTTP_CAPTIVE_PORTAL, HTTP, ORIGIN, &[],
            |a| answer::is_stranger(a) && answer::reply(a).is_some_and(answer::is_portal), Is(ClientToOrigin), Reported, P::Path),
        row(c::HTTP_REDIRECTED, HTTP, ORIGIN, &[],
            |a| answer::is_stranger(a) && answer::is_off_site(a), Is(ClientToOrigin), Reported, P::Path),
        row(c::HTTP_BLOCK_PAGE, HTTP, ORIGIN, &[],
            |a| answer::is_stranger(a) && answer::reply(a).is_some_and(answer::is_block_page), Is(ClientToOrigin), Reported, P::Path),
        row(c::HTTP_WRONG_SPEAKER, HTTP, ORIGIN, &[], answer::is_stranger, Is(ClientToOrigin), Proof, P::Unknown),
    ]
};

#[cfg(test)]
mod tests;
