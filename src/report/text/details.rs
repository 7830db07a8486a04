//! The evidence of a step in words.

use std::net::IpAddr;

use time::{OffsetDateTime, macros::format_description};

use crate::{
    http::Reply,
    model::{
        Certificate, ConnectEvidence, DnsAnswer, Evidence, Excerpt, ExchangeEvidence, HandshakeEvidence, IcmpError,
        IcmpFamily, RequestEvidence, ResolveEvidence, ResolverView, Router, TcpInfo, TunnelEvidence,
    },
    report::words::{count, duration, plural, short, wire},
};

/// A header value or a name beyond this many characters is cut.
const MAX_VALUE: usize = 160;

/// Names of a certificate that are shown.
const MAX_NAMES: usize = 6;

/// Headers in which proxies and firewalls say who they are and what they mind.
const PRODUCT_HEADERS: [&str; 14] = [
    "server",
    "via",
    "proxy-status",
    "proxy-agent",
    "proxy-authenticate",
    "proxy-connection",
    "x-squid-error",
    "x-cache",
    "x-cache-lookup",
    "x-proxy-error",
    "x-forwarded-for",
    "retry-after",
    "location",
    "content-type",
];

/// Further headers that matter in storage's own answers.
const STORAGE_HEADERS: [&str; 3] = ["date", "www-authenticate", "connection"];

/// Key facts, a line each.
pub(super) fn lines(evidence: &Evidence) -> Vec<String> {
    match evidence {
        Evidence::Resolve(e) => resolve(e),
        Evidence::Connect(e) => connect(e),
        Evidence::Tunnel(e) => tunnel(e),
        Evidence::Handshake(e) => handshake(e),
        Evidence::Request(e) => request(e),
    }
}

/// Heads and bodies as they came, line by line.
pub(super) fn heads_and_bodies(evidence: &Evidence) -> Vec<String> {
    let (reply, excerpts) = match evidence {
        Evidence::Tunnel(e) => (e.reply.as_ref(), [e.early.as_ref(), e.first_bytes.as_ref()]),
        Evidence::Handshake(e) => (None, [e.first_bytes.as_ref(), None]),
        Evidence::Request(e) => (e.reply.as_ref(), [e.first_bytes.as_ref(), None]),
        Evidence::Resolve(_) | Evidence::Connect(_) => (None, [None, None]),
    };
    let mut lines = Vec::new();
    if let Some(reply) = reply {
        lines.push(reply.status_line());
        lines.extend(reply.headers.iter().map(|header| format!("{}: {}", header.name, header.value)));
        if reply.head_truncated {
            lines.push("… (more headers)".into());
        }
        lines.push(String::new());
        lines.extend(excerpt_lines(&reply.body));
    }
    for excerpt in excerpts.into_iter().flatten() {
        lines.extend(excerpt_lines(excerpt));
    }
    lines
}

fn excerpt_lines(excerpt: &Excerpt) -> impl Iterator<Item = String> {
    let cut = excerpt.truncated.then(|| format!("… ({} in all)", plural(excerpt.total_bytes, "byte")));
    excerpt.text.lines().map(|line| line.trim_end_matches('\r').replace('\t', "    ")).chain(cut)
}

fn resolve(e: &ResolveEvidence) -> Vec<String> {
    let mut lines = Vec::new();
    let who = match (e.view, e.server) {
        (ResolverView::System, _) => "system resolver".to_owned(),
        (ResolverView::Server, Some(server)) => format!("name server {server}"),
        (ResolverView::Server, None) => "name server".to_owned(),
    };
    let addresses: Vec<String> = e
        .addresses
        .iter()
        .map(|a| a.ttl.map_or_else(|| a.ip.to_string(), |ttl| format!("{} (ttl {ttl} s)", a.ip)))
        .collect();
    let found = if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") };
    lines.push(format!("{who}: {found}"));
    lines.extend(e.answers.iter().map(answer));
    if !e.hosts_file.is_empty() {
        let pinned: Vec<String> = e.hosts_file.iter().map(IpAddr::to_string).collect();
        lines.push(format!("hosts file pins {}", pinned.join(", ")));
    }
    lines
}

fn answer(answer: &DnsAnswer) -> String {
    let rcode = answer.rcode.map_or_else(|| "no answer".to_owned(), rcode);
    let addresses = if answer.addresses == 1 { "address" } else { "addresses" };
    let tries = if answer.tries == 1 { "try" } else { "tries" };
    let mut parts = vec![format!(
        "{} over {}: {rcode}, {} {addresses}, {} after {} {tries}",
        short(&answer.question, MAX_VALUE),
        wire(&answer.transport),
        answer.addresses,
        duration(answer.elapsed_us),
        answer.tries,
    )];
    parts
        .extend(answer.aliases.iter().map(|alias| format!("{} -> {} (ttl {} s)", alias.name, alias.target, alias.ttl)));
    parts.extend(
        answer
            .extended_errors
            .iter()
            .map(|error| format!("extended error {} {}", error.code, short(&error.text, MAX_VALUE))),
    );
    parts.join("; ")
}

/// The name of a DNS response code (IANA registry, RFC 6895).
fn rcode(code: u16) -> String {
    let name = match code {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        16 => "BADVERS",
        other => return format!("rcode {other}"),
    };
    name.to_owned()
}

fn connect(e: &ConnectEvidence) -> Vec<String> {
    let mut ends = vec![format!("peer {}", e.peer)];
    ends.extend(e.dialled.map(|dialled| format!("dialled as {dialled}")));
    ends.extend(e.local.map(|local| format!("from {local}")));
    let mut lines = vec![ends.join(", ")];
    lines.extend(e.tcp.as_ref().map(tcp));
    // The last router of a path shows it too.
    lines.extend(e.icmp.as_ref().filter(|_| e.path.is_empty()).map(icmp));
    lines.extend(e.path.chunk_by(|a, b| a.ip.is_none() && b.ip.is_none()).filter_map(hop));
    lines
}

/// One router, or a run of silent ones.
fn hop(routers: &[Router]) -> Option<String> {
    let (first, last) = (routers.first()?, routers.last()?);
    let Some(ip) = first.ip.filter(|_| first.ttl == last.ttl) else {
        let one = first.ttl == last.ttl;
        let hops = if one { format!("hop {}", first.ttl) } else { format!("hops {} to {}", first.ttl, last.ttl) };
        return Some(format!("{hops}: no answer"));
    };
    let mut facts = vec![format!("hop {}: {ip}", first.ttl)];
    facts.extend(first.rtt_us.map(duration));
    facts.extend(first.icmp.as_ref().map(icmp));
    facts.extend(first.reached.then(|| "the peer's address".to_owned()));
    Some(facts.join(", "))
}

fn tcp(info: &TcpInfo) -> String {
    let mut facts = vec![format!("TCP {}", wire(&info.state))];
    facts.extend((info.rtt_us > 0).then(|| format!("rtt {}", duration(info.rtt_us.into()))));
    facts.push(format!("mss {}", info.snd_mss));
    facts.push(plural(info.retransmitted as usize, "retransmission"));
    facts.extend((info.timeouts > 0).then(|| format!("{} in a row timed out", info.timeouts)));
    facts.extend((info.unacked > 0).then(|| format!("{} unacknowledged", plural(info.unacked as usize, "segment"))));
    facts.extend(info.bytes_acked.map(|bytes| format!("{} acknowledged", plural(bytes, "byte"))));
    facts.join(", ")
}

fn icmp(e: &IcmpError) -> String {
    let protocol = match e.family {
        IcmpFamily::V4 => "ICMP",
        IcmpFamily::V6 => "ICMPv6",
        IcmpFamily::Local => "error of this machine's stack,",
    };
    let sender = e.sender.map(|ip| format!(" from {ip}")).unwrap_or_default();
    format!("{protocol} type {} code {}{sender}", e.kind, e.code)
}

fn tunnel(e: &TunnelEvidence) -> Vec<String> {
    let sent = if e.request_sent { "sent" } else { "not sent whole" };
    let credentials = if e.credentials_sent { ", with credentials" } else { "" };
    let mut lines =
        vec![format!("CONNECT {} {sent}{credentials}; {}", e.authority, came(e.bytes_read, e.first_byte_us))];
    if e.interim > 0 {
        lines.push(format!("{} skipped", plural(usize::from(e.interim), "interim answer")));
    }
    if let Some(reply) = &e.reply {
        lines.extend(head(reply, |name| PRODUCT_HEADERS.contains(&name)));
        lines.extend(first_line("body", &reply.body));
    }
    lines.extend((e.sent_along > 0).then(|| format!("{} for the tunnel sent along", plural(e.sent_along, "byte"))));
    lines.extend(e.early.as_ref().and_then(|bytes| first_line("before this side spoke", bytes)));
    lines.extend(e.first_bytes.as_ref().and_then(|bytes| first_line("came instead", bytes)));
    lines.extend(e.tcp.as_ref().map(tcp));
    lines
}

fn handshake(e: &HandshakeEvidence) -> Vec<String> {
    let name = e.sni.as_deref().map_or_else(|| "no server name".into(), |sni| format!("server name {sni}"));
    let session: Vec<&str> = e.version.iter().chain(&e.cipher_suite).map(String::as_str).collect();
    let session = if session.is_empty() { String::new() } else { format!("; {}", session.join(", ")) };
    let bytes = format!("{} sent, {} received", plural(e.bytes_sent, "byte"), count(e.bytes_read));
    let mut lines = vec![format!("{name}; {bytes}{session}")];
    for (index, certificate) in e.chain.iter().enumerate() {
        lines.extend(certificate_lines(index, certificate));
    }
    if let Some(verification) = e.verification {
        let anchor = e.anchor.map(|anchor| format!(", anchor {}", wire(&anchor))).unwrap_or_default();
        lines.push(format!("verification: {}{anchor}", wire(&verification)));
    }
    if let Some(alert) = &e.alert {
        lines.push(format!("alert {} {}", alert.number, short(&alert.name, MAX_VALUE)));
    }
    if e.client_certificate_requested {
        lines.push("the server asked for a client certificate".into());
    }
    lines.extend(e.first_bytes.as_ref().and_then(|bytes| first_line("came instead of TLS", bytes)));
    lines.extend(e.tcp.as_ref().map(tcp));
    lines
}

fn certificate_lines(index: usize, certificate: &Certificate) -> Vec<String> {
    let mut lines = vec![
        format!(
            "certificate {index}: {}, issued by {}",
            short(&certificate.subject, MAX_VALUE),
            short(&certificate.issuer, MAX_VALUE)
        ),
        format!(
            "valid {} to {}; sha256 {}; sha1 {}",
            date(certificate.not_before),
            date(certificate.not_after),
            short(&certificate.sha256, 64),
            short(&certificate.sha1, 40),
        ),
    ];
    if !certificate.names.is_empty() {
        let names: Vec<_> = certificate.names.iter().take(MAX_NAMES).map(|name| short(name, MAX_VALUE)).collect();
        let more = certificate.names.len().saturating_sub(MAX_NAMES);
        let more = if more > 0 { format!(" and {} more", count(more)) } else { String::new() };
        lines.push(format!("for {}{more}", names.join(", ")));
    }
    lines
}

fn request(e: &RequestEvidence) -> Vec<String> {
    if let Some(exchange) = &e.exchange {
        return self::exchange(e, exchange);
    }
    let sas = if e.sas_sent { " with a signature" } else { "" };
    let sent = if e.request_sent { "sent" } else { "not sent whole" };
    let mut lines = vec![
        format!("{} {}{sas} {sent}; {}", e.method, e.path, came(e.bytes_read, e.first_byte_us)),
        format!("x-ms-client-request-id {}", e.client_request_id),
    ];
    if let Some(reply) = &e.reply {
        lines.extend(head(reply, |name| {
            name.starts_with("x-ms-") || PRODUCT_HEADERS.contains(&name) || STORAGE_HEADERS.contains(&name)
        }));
        lines.extend(first_line("body", &reply.body));
    }
    lines.extend(e.first_bytes.as_ref().and_then(|bytes| first_line("came instead", bytes)));
    lines.extend(e.tcp.as_ref().map(tcp));
    lines
}

fn exchange(e: &RequestEvidence, exchange: &ExchangeEvidence) -> Vec<String> {
    let bytes = plural(exchange.bytes_sent, "byte");
    let mut lines = vec![format!("{}; {bytes} sent; {}", exchange.exchange, came(e.bytes_read, e.first_byte_us))];
    lines.extend(exchange.idle_us.map(|idle| format!("nothing passed for {}", duration(idle))));
    lines.extend(exchange.half_closed.then(|| "one side had half-closed".to_owned()));
    lines.extend(exchange.received.map(|received| format!("{} arrived unchanged", plural(received, "byte"))));
    lines.extend(exchange.sent_differs_at.map(|at| format!("byte {at} sent arrived as another")));
    lines.extend(exchange.came_differs_at.map(|at| format!("byte {at} that came is not the one that must come")));
    lines.extend(exchange.expected.as_ref().and_then(|bytes| first_line("expected", bytes)));
    lines.extend(exchange.came.as_ref().and_then(|bytes| first_line("came", bytes)));
    lines.extend(e.first_bytes.as_ref().and_then(|bytes| first_line("came instead", bytes)));
    lines.extend(e.tcp.as_ref().map(tcp));
    lines
}

fn came(bytes: u64, first_byte_us: Option<u64>) -> String {
    let after = first_byte_us.map(|us| format!(", the first after {}", duration(us))).unwrap_or_default();
    match bytes {
        0 => "no byte came back".to_owned(),
        n => format!("{} came back{after}", plural(n, "byte")),
    }
}

/// The status line and the headers that `keep` wants, by their lower-case name.
fn head(reply: &Reply, keep: impl Fn(&str) -> bool) -> Vec<String> {
    let mut lines = vec![short(&reply.status_line(), MAX_VALUE).into_owned()];
    lines.extend(
        reply
            .headers
            .iter()
            .filter(|header| keep(&header.name.to_ascii_lowercase()))
            .map(|header| format!("{}: {}", header.name, short(&header.value, MAX_VALUE))),
    );
    lines
}

/// The first line with text, and how much there is in all.
fn first_line(what: &str, excerpt: &Excerpt) -> Option<String> {
    // Storage begins its XML with a byte order mark, which the excerpt shows as the bytes that it is.
    let text = excerpt.text.strip_prefix("\\xef\\xbb\\xbf").unwrap_or(&excerpt.text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(format!("{what} ({}): {}", plural(excerpt.total_bytes, "byte"), short(line, MAX_VALUE)))
}

/// A moment in UTC; certificates may claim any.
fn date(unix: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix)
        .ok()
        .and_then(|moment| moment.format(format_description!("[year]-[month]-[day] [hour]:[minute]Z")).ok())
        .unwrap_or_else(|| format!("{unix} s since 1970"))
}
