//! Findings in words: one specific sentence, and short lines of evidence.

use std::{fmt::Write as _, net::SocketAddr};

use super::{
    case::Sign,
    proxy_reply,
    view::{At, View},
};
use crate::{
    azure::storage,
    classify::{catalogue, codes as c},
    http::{Reply, parse_proxy_status},
    model::{Code, Excerpt, HandshakeEvidence, Hop, IcmpFamily, Layer, Leg, ResolverView, Route, Router, Severity},
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

/// One sentence with names, what happened, counts and the reason why it is sure.
pub(super) fn summary(facts: &Facts<'_>) -> String {
    let mut text = String::new();
    match facts.targets {
        [] => {}
        [one] => text.push_str(one),
        [one, two] => _ = write!(text, "{one} and {two}"),
        [one, rest @ ..] => _ = write!(text, "{one} and {} more", rest.len()),
    }
    if let (Some(route), false) = (facts.route, facts.targets.is_empty()) {
        text.push_str(match route {
            Route::Direct => ", direct",
            Route::Proxy => ", through the proxy",
        });
    }
    if !text.is_empty() {
        text.push_str(": ");
    }
    text.push_str(&phrase(facts));
    if facts.tried > 0 {
        _ = write!(text, " ({} of {})", facts.failed, facts.tried);
    }
    if let Some(note) = facts.signs.iter().find_map(|sign| sign.note.as_deref()) {
        _ = write!(text, "; {note}");
    }
    text
}

/// What happened, without the target.
fn phrase(facts: &Facts<'_>) -> String {
    let peer = match facts.hop {
        Hop::ClientToProxy | Hop::Proxy => "the proxy",
        Hop::ProxyToOrigin => "the endpoint, says the proxy,",
        _ => "the endpoint",
    };
    let fixed = match facts.code {
        c::TCP_REFUSED => return format!("{peer} refuses the TCP connection"),
        c::TCP_CONNECT_TIMEOUT => return format!("{peer} does not answer the TCP SYN"),
        c::TCP_RESET => return format!("{peer} or something before it resets the connection"),
        c::TCP_UNREACHABLE => return format!("{peer} is unreachable"),
        c::TCP_ADMIN_PROHIBITED => "a router or firewall rejects the connection as administratively prohibited",
        c::TCP_PORT_FILTERED => "this port fails while another port of the same address answers",
        c::TCP_INTERMITTENT => "some TCP connections fail",
        c::TCP_FAMILY_BROKEN => "one address family fails, the other works",
        c::PATH_BLOCKED_AFTER => "the connection ends on the way",
        c::PATH_MTU_BLACKHOLE => "what was sent was never acknowledged, as where large packets vanish",
        c::DNS_NXDOMAIN => "the name does not exist",
        c::DNS_NODATA => "the name has no address",
        c::DNS_SERVFAIL => "the name server fails (SERVFAIL)",
        c::DNS_REFUSED => "the name server refuses to answer (REFUSED)",
        c::DNS_RCODE => "the name server answers with an error",
        c::DNS_TIMEOUT => "no name server answers in time",
        c::DNS_UNREACHABLE => "the name server cannot be reached",
        c::DNS_MALFORMED => "the name server's answer cannot be read",
        c::DNS_SINKHOLE => "the name leads to an address that is not storage's",
        c::DNS_PRIVATELINK_PUBLIC => "the name goes through a private link zone but ends at a public address",
        c::DNS_PRIVATE_ADDRESS => "a private endpoint is in use",
        c::DNS_RESOLVER_MISMATCH => "the resolvers disagree",
        c::LOCAL_DENIED => "this machine does not let the packets out",
        c::LOCAL_NO_ROUTE => "this machine has no route there",
        c::LOCAL_CLOCK_SKEW => "the clocks disagree",
        c::PROXY_AUTH_REQUIRED => "the proxy demands a login",
        c::PROXY_AUTH_REJECTED => "the proxy rejects the login",
        c::PROXY_PORT_DENIED => "the proxy refuses this port",
        c::PROXY_HOST_DENIED => "the proxy refuses this host",
        c::PROXY_REQUEST_DENIED => "the proxy refuses the CONNECT",
        c::PROXY_CLIENT_DENIED => "the proxy refuses this client",
        c::PROXY_RATE_LIMITED => "the proxy limits the rate",
        c::PROXY_OVERLOADED => "the proxy is at a limit",
        c::PROXY_CONNECT_UNSUPPORTED => "what listens on the proxy port does not support CONNECT",
        c::PROXY_NOT_A_PROXY => "what listens on the proxy port is not a proxy",
        c::PROXY_NOT_HTTP => "what listens on the proxy port does not speak HTTP",
        c::PROXY_EXPECTS_TLS => "the proxy port expects TLS (https://)",
        c::PROXY_EXPECTS_PLAINTEXT => "the proxy port expects plain HTTP (http://)",
        c::PROXY_SILENT => "the proxy does not answer the CONNECT",
        c::PROXY_CLOSED => "the proxy closes the connection without an answer",
        c::PROXY_TRUNCATED => "the proxy's answer breaks off",
        c::PROXY_BAD_REPLY => "the proxy's answer is malformed",
        c::PROXY_REDIRECTED => "the proxy redirects to a portal",
        c::PROXY_GATEWAY_ERROR => "the proxy cannot reach the endpoint and does not say why",
        c::PROXY_INTERNAL_ERROR => "the proxy reports an error of its own",
        c::PROXY_LOOP => "the proxy reports a forwarding loop",
        c::PROXY_OPTIMISTIC_CONNECT => "the proxy opens tunnels that lead nowhere",
        c::TUNNEL_CLOSED => "the tunnel is closed before the first byte comes back",
        c::TUNNEL_RESET => "the tunnel is reset before the first byte comes back",
        c::TUNNEL_SILENT => "the tunnel stays silent",
        c::TLS_INTERCEPTED => "TLS is intercepted: the certificate does not come from storage's authorities",
        c::TLS_UNKNOWN_ISSUER => "the certificate's issuer is not trusted",
        c::TLS_SELF_SIGNED => "the certificate is self-signed",
        c::TLS_INCOMPLETE_CHAIN => "the server sends its certificate without the intermediate one",
        c::TLS_EXPIRED => "the certificate has expired",
        c::TLS_NOT_YET_VALID => "the certificate is not valid yet",
        c::TLS_NAME_MISMATCH => "the certificate does not cover the name",
        c::TLS_BAD_CERTIFICATE => "the certificate cannot be used",
        c::TLS_PROTOCOL_VERSION => "no TLS version in common",
        c::TLS_HANDSHAKE_FAILURE => "the TLS handshake is refused",
        c::TLS_ALERT => "the peer ends TLS with an alert",
        c::TLS_CLIENT_CERT_REQUIRED => "the peer demands a client certificate",
        c::TLS_NOT_TLS => "what answers does not speak TLS",
        c::TLS_RESET_AFTER_HELLO => "the connection is reset right after the ClientHello",
        c::TLS_CLOSED_AFTER_HELLO => "the connection is closed right after the ClientHello",
        c::TLS_SILENT_AFTER_HELLO => "no byte comes back after the ClientHello",
        c::HTTP_SILENT => "no answer to the request",
        c::HTTP_CLOSED => "the connection is closed in place of an answer",
        c::HTTP_MALFORMED => "the answer is not HTTP",
        c::HTTP_FIREWALL_DENIED => "Azure Firewall denies it",
        c::HTTP_CAPTIVE_PORTAL => "a captive portal answers in place of storage",
        c::HTTP_BLOCK_PAGE => "a filter's block page answers in place of storage",
        c::HTTP_REDIRECTED => "a redirect to another host comes in place of storage's answer",
        c::HTTP_WRONG_SPEAKER => "something that is not storage answers",
        c::HTTP_SLOW => "it works, but slower than the extension waits",
        c::STORAGE_NETWORK_RULES => "storage's own firewall turns this source away",
        c::STORAGE_HTTPS_REQUIRED => "storage answers and accepts only https; the path is clear, use port 443",
        c::STORAGE_TLS_VERSION => "storage does not accept this TLS version",
        c::STORAGE_THROTTLED => "storage throttles",
        c::STORAGE_ERROR => "storage reports an error of its own",
        c::STORAGE_SAS_REJECTED => "storage rejects the shared access signature",
        c::CONFIG_HOSTS_OVERRIDE => "the hosts file pins the name",
        c::CONFIG_PROXY_CONFLICT => "several places name different proxies",
        c::CONFIG_PROXY_INVALID => "a proxy setting cannot be used",
        c::CONFIG_PROXY_NEEDS_AUTH => "the proxy needs a login",
        c::CONSUMER_IGNORES_PROXY => "works through the proxy, but this consumer goes direct, and direct fails",
        c::CONSUMER_USES_PROXY => "works directly, but this consumer goes through the proxy, and that fails",
        c::META_NOT_RUN => "not measured",
        c::META_DEADLINE => "the run ended before this was measured",
        c::META_UNCLASSIFIED => "the failure fits no known pattern",
        other => catalogue::find(other.0).map_or(other.0, |entry| entry.title),
    };
    fixed.to_owned()
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
    for sign in facts.signs {
        sign.line.iter().for_each(|line| add(line.clone()));
        if let Some(view) = sign.view {
            observed(view, sign, &mut add);
        }
        if facts.signs.len() > 1 {
            sign.note.iter().for_each(|note| add(note.clone()));
        }
    }
    lines.into_iter().map(|(line, count)| if count > 1 { format!("{line} ({count} times)") } else { line }).collect()
}

/// What one observation shows.
fn observed(view: View<'_>, sign: &Sign<'_>, add: &mut impl FnMut(String)) {
    let code = sign.judged.code;
    if matches!(code, c::TLS_INTERCEPTED | c::TLS_UNKNOWN_ISSUER | c::TLS_SELF_SIGNED | c::TLS_INCOMPLETE_CHAIN)
        || matches!(code, c::TLS_EXPIRED | c::TLS_NOT_YET_VALID | c::TLS_NAME_MISMATCH | c::TLS_BAD_CERTIFICATE)
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
        Layer::Tunnel | Layer::Handshake | Layer::Request => spoken_lines(&at, add),
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
    if code == c::TLS_NAME_MISMATCH {
        let names: Vec<&str> = leaf.names.iter().take(5).map(String::as_str).collect();
        add(format!("names: {}, asked for {}", names.join(", "), handshake.sni.as_deref().unwrap_or("an address")));
    }
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
            let number = failure.errno.map_or_else(String::new, |errno| format!(" ({errno})"));
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
        Some(crate::model::FailureKind::TimedOut) => format!("SYN to {} unanswered", connect.peer),
        Some(crate::model::FailureKind::Refused) => format!("{} refuses the connection", connect.peer),
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

fn spoken_lines(at: &At<'_>, add: &mut impl FnMut(String)) {
    if let Some(tunnel) = at.tunnel() {
        add(format!("CONNECT {}{}", tunnel.authority, if tunnel.credentials_sent { " with credentials" } else { "" }));
    }
    let reply = at.tunnel().and_then(|t| t.reply.as_ref()).or_else(|| at.request().and_then(|r| r.reply.as_ref()));
    if let Some(reply) = reply {
        reply_lines(reply, add);
        return;
    }
    if let Some(page) = at.first_bytes_as_reply() {
        add("a plain-text answer came in place of TLS".into());
        reply_lines(&page, add);
        return;
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
            crate::model::FailureKind::TimedOut => "silence",
            crate::model::FailureKind::Closed | crate::model::FailureKind::Truncated => "closed",
            crate::model::FailureKind::Reset => "reset",
            _ => return,
        };
        add(format!("{} with the {peer}: {kind} after {} bytes", at.step.layer(), at.bytes_read()));
    }
    if let Some(tcp) = at.tcp().filter(|tcp| tcp.unacked > 0) {
        add(format!(
            "{} segments unacknowledged, {} retransmissions, segment size {}",
            tcp.unacked, tcp.retransmitted, tcp.snd_mss
        ));
    }
}

fn reply_lines(reply: &Reply, add: &mut impl FnMut(String)) {
    let mut line = reply.status_line();
    if let Some((name, errno)) = proxy_reply::squid_error(reply) {
        _ = write!(line, ", X-Squid-Error: {name}");
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
            let details = status.details.map_or_else(String::new, |details| format!(", {details}"));
            add(format!("Proxy-Status of {}: {error}{details}", status.proxy));
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
    } else if let Some(title) = title(&reply.body.text).filter(|_| !storage::is_storage_reply(reply)) {
        add(format!("page title: {title}"));
    }
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
