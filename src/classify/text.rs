//! Findings in words: one specific sentence, and short lines of evidence.

use std::{fmt::Write as _, net::SocketAddr, time::Duration};

use super::{
    case::Sign,
    findings::READ_FOR_EVIDENCE,
    proxy_reply,
    view::{At, View},
};
use crate::{
    azure::storage,
    classify::{catalogue, codes as c},
    http::{Reply, parse_proxy_status},
    model::{
        Code, Excerpt, ExchangeEvidence, FailureKind, HandshakeEvidence, Hop, IcmpFamily, Layer, Leg, ResolverView,
        Route, Router, Severity, Verification,
    },
};

/// No finding has more lines of evidence.
pub(super) const MAX_LINES: usize = 6;

/// No line is longer, in characters.
pub(super) const MAX_LINE: usize = 200;

/// What the words are about.
pub(super) struct Facts<'a> {
    pub(super) code: Code,
    pub(super) hop: Hop,
    pub(super) route: Option<Route>,
    pub(super) targets: &'a [String],
    pub(super) failed: u32,
    pub(super) tried: u32,
    pub(super) signs: &'a [&'a Sign<'a>],
}

/// One sentence: who did what to which target, how often when not always, and what makes it sure.
pub(super) fn summary(facts: &Facts<'_>) -> String {
    let text = fill(phrase(facts), facts);
    let mut text = match (facts.hop, facts.targets.is_empty()) {
        (Hop::ProxyToOrigin, _) if !text.starts_with("the proxy") => format!("the proxy reports that {text}"),
        (Hop::ClientToOrigin, false) if facts.route == Some(Route::Proxy) && !text.contains("tunnel") => {
            format!("{text}, seen through the proxy")
        }
        _ => text,
    };
    if facts.failed < facts.tried {
        _ = write!(text, ", in {} of {} attempts", facts.failed, facts.tried);
    }
    if let Some(note) = facts.signs.iter().find_map(|sign| sign.note.as_deref()) {
        _ = write!(text, "; {note}");
    }
    // A name stays as it is.
    if !facts.targets.iter().any(|target| text.starts_with(target.as_str())) {
        let first = text.chars().next().map_or(0, char::len_utf8);
        text[..first].make_ascii_uppercase();
    }
    text
}

/// Puts the targets, and the verbs in their number, into a phrase: `{t}` is what was probed, `{p}` the peer, which is
/// the proxy on the way to it or the target itself, `{s}` the ending of the peer's verb.
fn fill(phrase: &str, facts: &Facts<'_>) -> String {
    let targets = match facts.targets {
        [] => "the endpoint".to_owned(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [one, rest @ ..] => format!("{one} and {} more", rest.len()),
    };
    let towards_proxy = matches!(facts.hop, Hop::ClientToProxy | Hop::Proxy);
    let several = !towards_proxy && facts.targets.len() > 1;
    let peer = if towards_proxy { "the proxy" } else { &targets };
    let (s, es, is) = if several { ("", "", "are") } else { ("s", "es", "is") };
    phrase.replace("{p}", peer).replace("{t}", &targets).replace("{s}", s).replace("{es}", es).replace("{is}", is)
}

/// What happened, as a sentence to [`fill`].
#[allow(clippy::too_many_lines, reason = "one line per code")]
fn phrase(facts: &Facts<'_>) -> &'static str {
    match facts.code {
        c::TCP_REFUSED => "{p} refuse{s} the TCP connection",
        c::TCP_CONNECT_TIMEOUT => "{p} do{es} not answer the TCP connection request (SYN)",
        c::TCP_RESET => "{p}, or something on the way, reset{s} the connection",
        c::TCP_UNREACHABLE => "{p} {is} unreachable",
        c::TCP_ADMIN_PROHIBITED => "a router or firewall rejects the connection to {p} as administratively prohibited",
        c::TCP_PORT_FILTERED => "the port of {t} fails while another port of the same address answers",
        c::TCP_INTERMITTENT => "some TCP connections to {p} fail",
        c::TCP_FAMILY_BROKEN => "{p} {is} reachable by one address family only",
        c::PATH_BLOCKED_AFTER => "the connection to {p} ends on the way",
        c::PATH_MTU_BLACKHOLE => "packets beyond some size vanish between this machine and {p}",
        c::DNS_NXDOMAIN => "the name in {t} does not exist",
        c::DNS_NODATA => "the name in {t} has no address",
        c::DNS_SERVFAIL => "the name server fails (SERVFAIL) on the name in {t}",
        c::DNS_REFUSED => "the name server refuses to look up the name in {t} (REFUSED)",
        c::DNS_RCODE => "the name server answers with an error to the name in {t}",
        c::DNS_TIMEOUT => "no name server answers in time for the name in {t}",
        c::DNS_UNREACHABLE => "the name server that should know {t} cannot be reached",
        c::DNS_MALFORMED => "the name server's answer for {t} cannot be read",
        c::DNS_SINKHOLE => "the name in {t} leads to an address that is not storage's",
        c::DNS_PRIVATELINK_PUBLIC => "the name in {t} goes through a private link zone but ends at a public address",
        c::DNS_PRIVATE_ADDRESS => "a private endpoint is in use for {t}",
        c::DNS_RESOLVER_MISMATCH => "the resolvers disagree about the name in {t}",
        c::LOCAL_DENIED => "this machine does not let the packets to {t} out",
        c::LOCAL_NO_ROUTE => "this machine has no route to {t}",
        c::LOCAL_CLOCK_SKEW => "this machine's clock and the clock of {t} disagree",
        c::PROXY_AUTH_REQUIRED => "the proxy demands a login before it connects to {t}",
        c::PROXY_AUTH_REJECTED => "the proxy rejects the login that was sent with the request for {t}",
        c::PROXY_PORT_DENIED => "the proxy refuses to connect to {t}, because of the port",
        c::PROXY_HOST_DENIED => "the proxy refuses to connect to {t}, because of the host",
        c::PROXY_REQUEST_DENIED => "the proxy refuses to connect to {t}",
        c::PROXY_CLIENT_DENIED => "the proxy refuses to connect this machine to {t}, because of who asks",
        c::PROXY_RATE_LIMITED => "the proxy refuses to connect to {t} for now: too many requests",
        c::PROXY_OVERLOADED if facts.hop == Hop::ProxyToOrigin => "too many connections to {t} are open",
        c::PROXY_OVERLOADED => "the proxy is at a limit of its own and does not connect to {t}",
        c::PROXY_CONNECT_UNSUPPORTED => {
            "what listens on the proxy's port answers, but opens no tunnel to {t}: it does not support CONNECT"
        }
        c::PROXY_NOT_A_PROXY => {
            "what listens on the proxy's port answers the request for {t} with a page of its own: it is no proxy"
        }
        c::PROXY_NOT_HTTP => {
            "what listens on the proxy's port does not speak HTTP, so {t} cannot be reached through it"
        }
        c::PROXY_EXPECTS_TLS => "the proxy's port expects TLS (https://), and was asked for {t} in plain HTTP",
        c::PROXY_EXPECTS_PLAINTEXT => {
            "the proxy's port expects plain HTTP (http://), not TLS, before it connects to {t}"
        }
        c::PROXY_SILENT => "the proxy accepts the connection and never answers the request for {t}",
        c::PROXY_CLOSED => "the proxy hangs up on the request for {t} without an answer",
        c::PROXY_TRUNCATED => "the proxy's answer to the request for {t} breaks off",
        c::PROXY_BAD_REPLY => "the proxy's answer to the request for {t} is no valid HTTP",
        c::PROXY_REDIRECTED => "the proxy redirects the request for {t} to a page, as a portal does",
        c::PROXY_GATEWAY_ERROR if facts.hop == Hop::Proxy => "the proxy could not handle the request for {t}",
        c::PROXY_GATEWAY_ERROR => "the proxy cannot reach {t} and does not say why",
        c::PROXY_INTERNAL_ERROR => "the proxy fails by itself on the request for {t}",
        c::PROXY_LOOP => "the proxy reports that the request for {t} goes in a circle",
        c::PROXY_OPTIMISTIC_CONNECT => "the proxy answers 200 for {t} before it has a connection there",
        c::TUNNEL_CLOSED if in_exchange(facts) => "the tunnel to {t} is closed in the middle of an exchange",
        c::TUNNEL_RESET if in_exchange(facts) => "the tunnel to {t} is reset in the middle of an exchange",
        c::TUNNEL_SILENT if in_exchange(facts) => "the tunnel to {t} falls silent in the middle of an exchange",
        c::TUNNEL_CORRUPTED => "bytes change inside the tunnel to {t}",
        c::TUNNEL_IDLE_CUT => "the tunnel to {t} does not survive silence",
        c::TUNNEL_HALF_CLOSE_BROKEN => "the tunnel to {t} ends both ways when one side stops sending",
        c::TUNNEL_EARLY_DATA_LOST => "the tunnel to {t} loses what was sent together with the CONNECT",
        c::TUNNEL_CLOSED => "the proxy opens a tunnel to {t}, which is closed before the first byte comes back",
        c::TUNNEL_RESET => "the proxy opens a tunnel to {t}, which is reset before the first byte comes back",
        c::TUNNEL_SILENT => "the proxy opens a tunnel to {t}, out of which nothing comes back",
        c::TLS_INTERCEPTED => "TLS to {t} is intercepted: the certificate does not come from storage's authorities",
        c::TLS_UNKNOWN_ISSUER => "the certificate of {p} comes from an issuer that is not trusted",
        c::TLS_SELF_SIGNED => "the certificate of {p} is self-signed",
        c::TLS_INCOMPLETE_CHAIN => "{p} send{s} the certificate without the intermediate one",
        c::TLS_EXPIRED => "the certificate of {p} has expired",
        c::TLS_NOT_YET_VALID => "the certificate of {p} is not valid yet",
        c::TLS_NAME_MISMATCH => "the certificate of {p} is for another name",
        c::TLS_BAD_CERTIFICATE => "the certificate of {p} cannot be used",
        c::TLS_PROTOCOL_VERSION => "{p} and this machine have no TLS version in common",
        c::TLS_HANDSHAKE_FAILURE => "the TLS handshake with {p} is refused",
        c::TLS_ALERT => "{p} end{s} TLS with an alert",
        c::TLS_CLIENT_CERT_REQUIRED => "{p} demand{s} a client certificate",
        c::TLS_NOT_TLS => "what answers in place of {p} does not speak TLS",
        c::TLS_RESET_AFTER_HELLO => "the connection to {p} is reset right after the ClientHello",
        c::TLS_CLOSED_AFTER_HELLO => "the connection to {p} is closed right after the ClientHello",
        c::TLS_SILENT_AFTER_HELLO => "no byte comes back from {p} after the ClientHello",
        c::HTTP_SILENT => "{t} accept{s} the request and never answer{s}",
        c::HTTP_CLOSED => "the connection to {t} is closed in place of an answer to the request",
        c::HTTP_MALFORMED => "the answer of {t} is no valid HTTP",
        c::HTTP_FIREWALL_DENIED => "Azure Firewall denies the connection to {t}",
        c::HTTP_CAPTIVE_PORTAL => "a captive portal answers in place of {t}",
        c::HTTP_BLOCK_PAGE => "a filter's block page answers in place of {t}",
        c::HTTP_REDIRECTED => "a redirect to another host comes in place of the answer of {t}",
        c::HTTP_WRONG_SPEAKER if in_exchange(facts) => "what answers at {t} is no origin of snapreach's own",
        c::HTTP_WRONG_SPEAKER => "something that is not storage answers in place of {t}",
        c::HTTP_SLOW => "{t} answer{s}, but slower than the extension waits",
        c::STORAGE_NETWORK_RULES => "the storage firewall of {t} turns this source away",
        c::STORAGE_HTTPS_REQUIRED => "{t} answer{s} and accept{s} only https; the path is clear, use port 443",
        c::STORAGE_TLS_VERSION => "{t} do{es} not accept this TLS version",
        c::STORAGE_THROTTLED => "{t} throttle{s} requests",
        c::STORAGE_ERROR => "{t} answer{s} with an error of storage's own",
        c::STORAGE_SAS_REJECTED => "{t} reject{s} the shared access signature",
        c::CONFIG_HOSTS_OVERRIDE => "the hosts file pins the name in {t}",
        c::CONFIG_PROXY_CONFLICT => "several places name different proxies",
        c::CONFIG_PROXY_INVALID => "a proxy setting cannot be used",
        c::CONFIG_AGENT_FILE_UNREADABLE_BY_EXTENSION => {
            "the snapshot extension does not read waagent.conf as the agent does"
        }
        c::CONFIG_NO_PROXY_INCOMPLETE => "a proxy variable captures addresses that belong to the platform",
        c::CONFIG_PROXY_NEEDS_AUTH => "agent and extension cannot reach {t} through this proxy",
        c::CONSUMER_DISTRUSTS_ANCHOR => "this probe trusts the chain of {t}, and the extension does not",
        c::CONSUMER_IGNORES_PROXY => {
            "{t} can be reached through the proxy, but this consumer goes direct, and direct fails"
        }
        c::CONSUMER_USES_PROXY => {
            "{t} can be reached directly, but this consumer goes through the proxy, and that fails"
        }
        c::CONSUMER_PORT_UNUSED => "{t} {is} blocked, but the snapshot extension asks on port 443 alone, which works",
        c::HOST_UNREACHABLE => "the platform's host channel does not answer at {t}",
        c::HOST_UNEXPECTED => "what answers at {t} is not the platform's host channel",
        c::HOST_PROXIED => "the answer of the platform's host channel at {t} came through a proxy",
        c::HOST_ROOT_NEEDED => "{t} {is} silent, as the host channel is for every user but root",
        c::META_NOT_RUN => "{t} {is} not measured",
        c::META_DEADLINE => "the run ended before {t} could be measured",
        c::META_UNCLASSIFIED => "the failure at {t} fits no known pattern",
        other => catalogue::find(other.0).map_or(other.0, |entry| entry.title),
    }
}

/// Whether it broke an exchange that had begun.
fn in_exchange(facts: &Facts<'_>) -> bool {
    let last = facts.signs.first().and_then(|sign| sign.view?.last());
    last.is_some_and(|at| at.exchange().is_some() && at.bytes_read() > 0)
}

/// The lines of evidence: what was seen, most often first as met, repeats counted.
pub(super) fn evidence(facts: &Facts<'_>) -> Vec<String> {
    let mut lines: Vec<(String, u32)> = Vec::new();
    let mut add = |line: String| {
        let line = shorten(&line, MAX_LINE - 12);
        if let Some((_, count)) = lines.iter_mut().find(|(known, _)| *known == line) {
            *count += 1;
        } else if lines.len() < MAX_LINES {
            lines.push((line, 1));
        }
    };
    // The summary ends with the first note.
    let summed_up = facts.signs.iter().find_map(|sign| sign.note.as_deref());
    for sign in facts.signs {
        sign.line.iter().for_each(|line| add(line.clone()));
        if let Some(view) = sign.view {
            observed(view, sign, facts.targets.len() > 1, &mut add);
        }
        sign.note.iter().filter(|note| Some(note.as_str()) != summed_up).for_each(|note| add(note.clone()));
    }
    // Where only the first signs were read, nobody counted the rest.
    let or_more = if facts.signs.len() >= READ_FOR_EVIDENCE { " or more" } else { "" };
    let counted = |(line, count)| if count > 1 { format!("{line} ({count} times{or_more})") } else { line };
    lines.into_iter().map(counted).collect()
}

/// What one observation shows.
fn observed(view: View<'_>, sign: &Sign<'_>, of_many: bool, add: &mut impl FnMut(String)) {
    let code = sign.judged.code;
    if matches!(code, c::TLS_INTERCEPTED | c::TLS_UNKNOWN_ISSUER | c::TLS_SELF_SIGNED | c::TLS_INCOMPLETE_CHAIN)
        || matches!(code, c::TLS_EXPIRED | c::TLS_NOT_YET_VALID | c::TLS_NAME_MISMATCH | c::TLS_BAD_CERTIFICATE)
        || code == c::CONSUMER_DISTRUSTS_ANCHOR
    {
        let certificate = view.steps().filter_map(At::handshake).find(|h| !h.chain.is_empty());
        if let Some(handshake) = certificate {
            certificate_lines(handshake, code, add);
            return;
        }
    }
    if code == c::PATH_BLOCKED_AFTER {
        if let Some(connect) = view.last().and_then(At::connect) {
            add(path_line(connect.peer, &connect.path));
        }
        return;
    }
    if code == c::META_DEADLINE {
        if let Some(line) = progress_line(view) {
            add(line);
        }
        return;
    }
    // A warning about a walk that passed needs no more than its note, which the summary holds.
    let Some(at) = view.last() else { return };
    if sign.judged.severity != Severity::Error && at.stopped_by().is_none() && view.reply().is_none() {
        if let Some(resolve) = at.resolve() {
            resolve_lines(view, resolve, add);
        } else if let Some(note) = &sign.note {
            add(note.clone());
        }
        return;
    }
    match at.step.layer() {
        Layer::Resolve => {
            if let Some(resolve) = at.resolve() {
                resolve_lines(view, resolve, add);
            }
        }
        Layer::Connect => connect_lines(&at, add),
        Layer::Tunnel | Layer::Handshake | Layer::Request => spoken_lines(&at, of_many, add),
    }
    if code == c::STORAGE_SAS_REJECTED
        && let Some((start, end)) = view.target.and_then(|target| target.sas_window.as_ref())
    {
        let text = |time: &Option<String>| time.clone().unwrap_or_else(|| "(none)".into());
        add(format!("signature valid from {} to {}", text(start), text(end)));
    }
    if let (c::META_UNCLASSIFIED, Some(failure)) = (code, at.failure()) {
        add(format!("{} {:?}, errno {:?}: {}", at.step.layer(), failure.kind, failure.errno, failure.raw));
    }
}

fn certificate_lines(handshake: &HandshakeEvidence, code: Code, add: &mut impl FnMut(String)) {
    let Some(leaf) = handshake.chain.first() else { return };
    add(format!("issuer: {}", leaf.issuer));
    add(format!("subject: {}", leaf.subject));
    if matches!(code, c::TLS_EXPIRED | c::TLS_NOT_YET_VALID) {
        let clock = handshake
            .local_unix_time
            .map_or_else(String::new, |now| format!(", this machine's clock says {}", day(now)));
        add(format!("valid from {} to {}{clock}", day(leaf.not_before), day(leaf.not_after)));
    }
    if let (c::TLS_BAD_CERTIFICATE, Some(verification)) = (code, handshake.verification) {
        add(format!("verification: {}", verified(verification)));
    }
    if code == c::TLS_NAME_MISMATCH {
        let names: Vec<&str> = leaf.names.iter().take(5).map(String::as_str).collect();
        add(format!("names: {}, asked for {}", names.join(", "), handshake.sni.as_deref().unwrap_or("an address")));
    }
}

fn verified(verification: Verification) -> &'static str {
    match verification {
        Verification::Trusted => "trusted",
        Verification::UnknownIssuer => "no trusted authority signs it",
        Verification::Expired => "expired",
        Verification::NotYetValid => "not valid yet",
        Verification::NameMismatch => "for another name",
        Verification::Revoked => "revoked",
        Verification::BadSignature => "a signature is wrong, or of a kind that is not supported",
        Verification::NotPermitted => "not permitted for a server, or a constraint forbids it",
        Verification::BadEncoding => "it does not decode",
        Verification::Other => "rejected for another reason",
    }
}

/// How far a walk had come when the run ended.
fn progress_line(view: View<'_>) -> Option<String> {
    let at = view.last()?;
    let layer = match at.step.layer() {
        Layer::Resolve => "name lookup",
        Layer::Connect => "TCP connect",
        Layer::Tunnel => "CONNECT",
        Layer::Handshake => "TLS handshake",
        Layer::Request => "HTTP request",
    };
    let peer = if at.step.leg == Leg::Proxy { "the proxy" } else { "the endpoint" };
    let passed = view.steps().count() - 1;
    let before = if passed == 0 { String::new() } else { format!(" after {passed} steps that worked") };
    let seconds = Duration::from_micros(at.step.elapsed_us).as_secs_f64();
    Some(format!("{layer} with {peer} had been under way for {seconds:.1} s{before}"))
}

fn resolve_lines(view: View<'_>, resolve: &crate::model::ResolveEvidence, add: &mut impl FnMut(String)) {
    let who = match (resolve.view, resolve.server) {
        (ResolverView::System, _) => "system resolver".to_owned(),
        (ResolverView::Server, Some(server)) => format!("name server {server}"),
        (ResolverView::Server, None) => "name server".to_owned(),
    };
    let failure = view.last().and_then(At::failure);
    let said = match failure {
        Some(failure) => {
            // The words of any other error hold its number.
            let number = failure
                .errno
                .filter(|_| failure.kind == FailureKind::SystemResolver)
                .map_or_else(String::new, |number| format!(" (EAI {number})"));
            format!("{}{number}", failure.raw)
        }
        None => resolve.addresses.iter().take(4).map(|a| a.ip.to_string()).collect::<Vec<_>>().join(", "),
    };
    add(format!("{who}, {}: {said}", view.host()));
    for answer in resolve.answers.iter().filter(|answer| answer.rcode.is_some_and(|rcode| rcode != 0)).take(2) {
        let ede = answer
            .extended_errors
            .first()
            .map_or_else(String::new, |e| format!(", extended error {} {}", e.code, e.text));
        add(format!("{}: response code {}{ede}", answer.question, answer.rcode.unwrap_or_default()));
    }
    if let Some(alias) =
        resolve.answers.iter().flat_map(|answer| &answer.aliases).find(|a| storage::is_privatelink_name(&a.target))
    {
        add(format!("{} is an alias of {}", alias.name, alias.target));
    }
}

fn connect_lines(at: &At<'_>, add: &mut impl FnMut(String)) {
    let Some(connect) = at.connect() else { return };
    let mut line = match at.failure().map(|failure| failure.kind) {
        Some(FailureKind::TimedOut) => format!("SYN to {} unanswered", connect.peer),
        Some(FailureKind::Refused) => format!("{} refuses the connection", connect.peer),
        Some(_) => format!("connect to {}: {}", connect.peer, at.failure().map_or("", |failure| &failure.raw)),
        None => format!("{} accepts the connection", connect.peer),
    };
    if let Some(tcp) = connect.tcp.filter(|tcp| tcp.retransmitted > 0) {
        let plural = if tcp.retransmitted == 1 { "" } else { "s" };
        _ = write!(line, ", {} retransmission{plural}", tcp.retransmitted);
        if at.syn_never_left() {
            line.push_str(", none of which left this machine");
        }
    }
    add(line);
    if let Some(icmp) = connect.icmp {
        let protocol = match icmp.family {
            IcmpFamily::V4 => "ICMP",
            IcmpFamily::V6 => "ICMPv6",
            IcmpFamily::Local => "local error",
        };
        let from = icmp.sender.map_or_else(String::new, |sender| format!(" from {sender}"));
        add(format!("{protocol} type {} code {}{from}", icmp.kind, icmp.code));
    }
}

/// A path in one line; of a long one its far end.
pub(super) fn path_line(peer: SocketAddr, path: &[Router]) -> String {
    const ROOM: usize = 120;
    let mut text = String::new();
    for routers in path.chunk_by(|a, b| a.ip.is_none() && b.ip.is_none()) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        match routers {
            [first, .., last] => _ = write!(text, "{} to {} silent", first.ttl, last.ttl),
            one => one.iter().for_each(|router| text.push_str(&hop(router))),
        }
    }
    let skip = text.chars().count().saturating_sub(ROOM);
    let cut = if skip > 0 { "… " } else { "" };
    format!("trace to {peer}: {cut}{}", text.chars().skip(skip).collect::<String>())
}

fn hop(router: &Router) -> String {
    match (router.ip, router.reached, router.icmp) {
        (None, ..) => format!("{} silent", router.ttl),
        (Some(_), true, None) => format!("{} answered", router.ttl),
        (Some(ip), _, Some(_)) => format!("{} rejected by {ip}", router.ttl),
        (Some(ip), false, None) => format!("{} {ip}", router.ttl),
    }
}

fn spoken_lines(at: &At<'_>, of_many: bool, add: &mut impl FnMut(String)) {
    if let Some(tunnel) = at.tunnel() {
        // One line each would push out what the proxy said.
        let authority = if of_many { "to each target" } else { &tunnel.authority };
        add(format!("asked: CONNECT {authority}{}", if tunnel.credentials_sent { " with credentials" } else { "" }));
    }
    let reply = at.tunnel().and_then(|t| t.reply.as_ref()).or_else(|| at.request().and_then(|r| r.reply.as_ref()));
    if let Some(reply) = reply {
        reply_lines(reply, add);
        return;
    }
    if at.step.layer() == Layer::Handshake
        && let Some(page) = at.first_bytes_as_reply()
    {
        add("a plain-text answer came in place of TLS".into());
        reply_lines(&page, add);
        return;
    }
    if let Some(exchange) = at.exchange() {
        exchange_lines(exchange, add);
    }
    if let Some(bytes) = at.first_bytes() {
        add(format!("first bytes: {}", one_line(bytes)));
    }
    if let Some(alert) = at.handshake().and_then(|h| h.alert.as_ref()) {
        add(format!("TLS alert {} {}", alert.number, alert.name));
    }
    if let Some(failure) = at.failure() {
        let peer = if at.step.leg == Leg::Proxy { "proxy" } else { "endpoint" };
        let kind = match failure.kind {
            FailureKind::TimedOut => "fell silent",
            FailureKind::Closed | FailureKind::Truncated => "was closed",
            FailureKind::Reset => "was reset",
            FailureKind::Undecryptable => "brought a record that does not decrypt",
            _ => return,
        };
        let read = match at.bytes_read() {
            0 => "before the first byte of an answer".to_owned(),
            1 => "after 1 byte".to_owned(),
            bytes => format!("after {bytes} bytes"),
        };
        let doing = match at.step.layer() {
            Layer::Tunnel => "CONNECT",
            Layer::Handshake => "TLS",
            _ if at.exchange().is_some() => "the exchange",
            _ => "HTTP",
        };
        add(format!("{doing} with the {peer} {kind} {read}"));
    }
    if let Some(tcp) = at.tcp().filter(|tcp| tcp.unacked > 0) {
        add(format!(
            "{} segments unacknowledged, {} retransmissions, segment size {}",
            tcp.unacked, tcp.retransmitted, tcp.snd_mss
        ));
    }
}

fn exchange_lines(exchange: &ExchangeEvidence, add: &mut impl FnMut(String)) {
    add(format!("tried: {}", exchange.exchange));
    if let Some(at) = exchange.came_differs_at {
        add(format!("byte {at} of those that came back is not the one that the endpoint sent"));
        let sides = [("expected", &exchange.expected), ("came", &exchange.came)];
        for (side, bytes) in sides {
            if let Some(bytes) = bytes.as_ref().filter(|bytes| !bytes.is_empty()) {
                add(format!("{side}: {}", one_line(bytes)));
            }
        }
    }
    if let Some(at) = exchange.sent_differs_at {
        add(format!("byte {at} of those that were sent arrived as another, says the endpoint"));
    } else if let Some(received) = exchange.received.filter(|_| exchange.came_differs_at.is_none()) {
        add(format!("the endpoint says that {received} bytes arrived as they were sent"));
    }
}

fn reply_lines(reply: &Reply, add: &mut impl FnMut(String)) {
    let mut line = reply.status_line();
    // Squid's name for its error says more than its page; other products have nothing but their page.
    let error = proxy_reply::squid_error(reply);
    let squid = error.is_some();
    if let Some((name, errno)) = error {
        let where_from = if reply.header("X-Squid-Error").is_some() { "X-Squid-Error" } else { "squid's page" };
        _ = write!(line, ", {where_from}: {name}");
        if let Some(errno) = errno {
            _ = write!(line, " {errno}");
        }
    }
    for name in ["Server", "Via", "Location", "x-ms-error-code", "x-ms-request-id", "Retry-After"] {
        if let Some(value) = reply.header(name) {
            // What stands behind the ? of a redirect may be anybody's secret.
            let value = if name == "Location" { value.split(['?', '#']).next().unwrap_or_default() } else { value };
            _ = write!(line, ", {name}: {value}");
        }
    }
    add(line);
    for status in parse_proxy_status(reply.headers_named("proxy-status")) {
        if let Some(error) = status.error {
            let mut line = format!("Proxy-Status of {}: {error}", status.proxy);
            let alert = status.alert_id.map(|id| id.to_string());
            for (name, value) in [
                ("rcode", status.rcode),
                ("alert", alert),
                ("alert message", status.alert_message),
                ("next hop", status.next_hop),
                ("details", status.details),
            ] {
                if let Some(value) = value {
                    _ = write!(line, ", {name} {value}");
                }
            }
            add(line);
        }
    }
    let schemes: Vec<&str> = ["proxy-authenticate", "www-authenticate"]
        .iter()
        .flat_map(|name| reply.headers_named(name))
        .filter_map(|challenge| challenge.split_ascii_whitespace().next())
        .take(6)
        .collect();
    if !schemes.is_empty() {
        add(format!("login schemes offered: {}", schemes.join(", ")));
    }
    if let Some(code) = storage::error_code(reply).filter(|_| reply.header("x-ms-error-code").is_none()) {
        add(format!("storage error {code}"));
    } else if !squid
        && !storage::is_storage_reply(reply)
        && let Some(title) = title(&reply.body.text)
        && !reply.status_line().contains(&title)
    {
        add(format!("page title: {title}"));
    }
    if !squid && !storage::is_storage_reply(reply) {
        let page = page_text(&reply.body.text);
        if !page.is_empty() && !reply.reason.contains(&page) {
            add(format!("page: {page}"));
        }
    }
}

/// What a reader sees of a page, without its title.
fn page_text(body: &str) -> String {
    let lower = body.to_ascii_lowercase();
    let mut words = String::new();
    let mut at = 0;
    while let Some(open) = lower[at..].find('<').map(|open| at + open) {
        words.push_str(&body[at..open]);
        words.push(' ');
        let hidden = ["title", "style", "script"].into_iter().find(|tag| lower[open + 1..].starts_with(tag));
        let end = hidden.map_or(">".to_owned(), |tag| format!("</{tag}>"));
        let Some(close) = lower[open..].find(&end) else {
            at = body.len();
            break;
        };
        at = open + close + end.len();
    }
    words.push_str(&body[at..]);
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The title of an HTML page.
fn title(body: &str) -> Option<String> {
    let lower = body.to_ascii_lowercase();
    let start = lower.find("<title>")? + "<title>".len();
    let length = lower[start..].find("</title>")?;
    let title = body[start..start + length].split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then_some(title)
}

fn one_line(bytes: &Excerpt) -> String {
    shorten(&bytes.text.replace("\r\n", "\\n").replace(['\r', '\n'], "\\n").replace('\t', " "), 100)
}

/// Cuts at a character boundary and says so; line breaks become spaces.
fn shorten(text: &str, limit: usize) -> String {
    let text = text.replace(['\r', '\n'], " ");
    if text.chars().count() <= limit {
        return text;
    }
    let mut short: String = text.chars().take(limit.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A day and a time in UTC.
fn day(unix: i64) -> String {
    let format = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    time::OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|time| time.format(format).ok())
        .unwrap_or_else(|| unix.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentence(code: Code, hop: Hop, route: Route, targets: &[&str], failed: u32, tried: u32) -> String {
        let targets: Vec<String> = targets.iter().map(|&target| target.to_owned()).collect();
        summary(&Facts { code, hop, route: Some(route), targets: &targets, failed, tried, signs: &[] })
    }

    #[test]
    fn a_summary_says_who_did_what_to_whom() {
        for (code, hop, route, targets, (failed, tried), text) in [
            (
                c::PROXY_AUTH_REQUIRED,
                Hop::Proxy,
                Route::Proxy,
                &["a:443"][..],
                (3, 3),
                "The proxy demands a login before it connects to a:443",
            ),
            (
                c::TCP_REFUSED,
                Hop::ProxyToOrigin,
                Route::Proxy,
                &["a:443", "b:443", "c:443"],
                (9, 9),
                "The proxy reports that a:443 and 2 more refuse the TCP connection",
            ),
            (
                c::TCP_REFUSED,
                Hop::ClientToProxy,
                Route::Proxy,
                &["a:443", "b:443"],
                (2, 2),
                "The proxy refuses the TCP connection",
            ),
            (
                c::TCP_CONNECT_TIMEOUT,
                Hop::ClientToOrigin,
                Route::Direct,
                &["a:443"],
                (1, 3),
                "a:443 does not answer the TCP connection request (SYN), in 1 of 3 attempts",
            ),
            (
                c::TLS_NOT_TLS,
                Hop::ClientToOrigin,
                Route::Proxy,
                &["a:443", "b:443"],
                (2, 2),
                "What answers in place of a:443 and b:443 does not speak TLS, seen through the proxy",
            ),
        ] {
            assert_eq!(sentence(code, hop, route, targets, failed, tried), text);
        }
    }

    #[test]
    fn a_page_is_read_as_people_see_it() {
        let page = "<HTML><head><TITLE>No</TITLE><style>p {}</style></head>\n<p>Blocked:\n <b>category</b> storage</p>";
        assert_eq!(page_text(page), "Blocked: category storage");
        for cut in 0..page.len() {
            page_text(&page[..cut]);
        }
        assert_eq!(page_text("İ<b>é</b>"), "İ é");
    }
}
