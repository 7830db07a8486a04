//! CONNECT: which ports, which hosts, which forms of the request.

use std::net::SocketAddr;

use crate::{
    classify::{self, codes},
    conformance::{
        case::{Case, Judgement, Level, Remedy, Trial, Turn, Unit},
        rig::{Rig, Said, Way, code, heard, page_inside, placeholder, said, said_by},
    },
    exchange::{DoorKind, ECHO_PATH, Echo, Exchange},
    http::Reply,
    model::{Code, FailureKind, Host, Observation},
    probe::dialogue::{Ask, Dialogue, Hello, Seen, early_data},
};

/// Bytes each way that prove a tunnel.
const FEW: u64 = 512;

pub(super) const CASES: &[Case] = &[
    Case {
        id: "connect/port-443",
        level: Level::Must,
        reference: "RFC 9110 section 9.3.6; encrypted disks go to port 443",
        title: "CONNECT to port 443 opens a tunnel that carries bytes both ways",
        turn: Turn::Together,
        run: |rig| port(rig, 443),
    },
    Case {
        id: "connect/port-8443",
        level: Level::Must,
        reference: "RFC 9110 section 9.3.6; managed disks go to port 8443",
        title: "CONNECT to port 8443 opens a tunnel that carries bytes both ways",
        turn: Turn::Together,
        run: |rig| port(rig, 8443),
    },
    Case {
        id: "connect/port-80",
        level: Level::May,
        reference: "RFC 9110 section 9.3.6; some clients use CONNECT for plain HTTP too",
        title: "CONNECT to port 80 opens a tunnel that carries bytes both ways",
        turn: Turn::Together,
        run: |rig| port(rig, 80),
    },
    Case {
        id: "connect/get-80",
        level: Level::Should,
        reference: "RFC 9112 section 3.2.2; plain HTTP goes to a proxy in absolute form",
        title: "A plain GET in absolute form reaches the origin, which gets it in origin form",
        turn: Turn::Together,
        run: |rig| Box::pin(get(rig)),
    },
    Case {
        id: "connect/allow",
        level: Level::Must,
        reference: "the endpoints that were named with --allow",
        title: "A tunnel to each endpoint that must be allowed opens",
        turn: Turn::Together,
        run: |rig| Box::pin(allow(rig)),
    },
    Case {
        id: "connect/deny",
        level: Level::Must,
        reference: "the endpoints that were named with --deny",
        title: "A rule of the proxy's shuts each endpoint that must stay shut",
        turn: Turn::Together,
        run: |rig| Box::pin(deny(rig)),
    },
    Case {
        id: "connect/denied-ports",
        level: Level::Should,
        reference: "RFC 9110 section 9.3.6: tunnels are for known ports alone, or the proxy relays anything",
        title: "A rule of the proxy's shuts the ports that no backup needs",
        turn: Turn::Together,
        run: |rig| Box::pin(denied_ports(rig)),
    },
    Case {
        id: "connect/ipv4-literal",
        level: Level::Should,
        reference: "RFC 9110 section 9.3.6, RFC 3986 section 3.2.2",
        title: "CONNECT to an IPv4 address opens a tunnel",
        turn: Turn::Together,
        run: |rig| Box::pin(literal(rig, true)),
    },
    Case {
        id: "connect/ipv6-literal",
        level: Level::May,
        reference: "RFC 9110 section 9.3.6, RFC 3986 section 3.2.2",
        title: "CONNECT to an IPv6 address in brackets opens a tunnel",
        turn: Turn::Together,
        run: |rig| Box::pin(literal(rig, false)),
    },
    Case {
        id: "connect/name",
        level: Level::Must,
        reference: "RFC 9110 section 9.3.6; backups name their endpoints",
        title: "CONNECT to a name opens a tunnel, and the proxy looks the name up",
        turn: Turn::Together,
        run: |rig| Box::pin(name(rig)),
    },
    Case {
        id: "connect/trailing-dot",
        level: Level::May,
        reference: "RFC 1034 section 3.1: a final dot makes a name absolute",
        title: "CONNECT to a name with its final dot opens a tunnel",
        turn: Turn::Together,
        run: |rig| Box::pin(other_name(rig, "with its final dot", |name| format!("{name}."))),
    },
    Case {
        id: "connect/upper-case",
        level: Level::Must,
        reference: "RFC 9110 section 4.2.3: case does not count in a host",
        title: "CONNECT to a name in upper case opens a tunnel",
        turn: Turn::Together,
        run: |rig| Box::pin(other_name(rig, "in upper case", str::to_ascii_uppercase)),
    },
    Case {
        id: "connect/no-port",
        level: Level::Should,
        reference: "RFC 9110 section 9.3.6: a CONNECT without a port is to be refused, typically with 400",
        title: "A CONNECT without a port is refused at once",
        turn: Turn::Together,
        run: |rig| Box::pin(no_port(rig)),
    },
    Case {
        id: "connect/http-1.0",
        level: Level::Should,
        reference: "RFC 9110 section 2.5; Python before 3.12 asks so, and agent and extension are Python",
        title: "CONNECT in HTTP/1.0 without headers opens a tunnel",
        turn: Turn::Together,
        run: |rig| Box::pin(form(rig, HTTP_1_0)),
    },
    Case {
        id: "connect/host-mismatch",
        level: Level::May,
        reference: "RFC 9112 section 3.2: a proxy goes by the request target, not by Host",
        title: "CONNECT with another name in Host opens a tunnel to its target",
        turn: Turn::Together,
        run: |rig| Box::pin(form(rig, HOST_MISMATCH)),
    },
    Case {
        id: "connect/early-data",
        level: Level::May,
        reference: "RFC 9110 section 9.3.6: the tunnel begins right behind the head of the request",
        title: "Bytes that are sent together with the CONNECT arrive",
        turn: Turn::Together,
        run: |rig| Box::pin(early(rig)),
    },
    Case {
        id: "connect/keep-alive",
        level: Level::May,
        reference: "RFC 9112 sections 9.3 and 9.6",
        title: "After a refusal the same connection serves another CONNECT",
        turn: Turn::Together,
        run: |rig| Box::pin(keep_alive(rig)),
    },
    Case {
        id: "connect/plain-200",
        level: Level::Must,
        reference: "RFC 9110 section 9.3.6: no Content-Length, no Transfer-Encoding, and no content",
        title: "Nothing but the head of the 200 comes before the origin's first byte",
        turn: Turn::Together,
        run: |rig| Box::pin(async { plain_200(rig) }),
    },
];

/// Milliseconds that a CONNECT took go with what was judged of it.
fn timed(judgement: Judgement, seen: Observation) -> Judgement {
    let ms = seen.tunnel_ms();
    let judgement = judgement.seen([seen]);
    match ms {
        Some(ms) => judgement.figure("connect", ms, Unit::Ms),
        None => judgement,
    }
}

/// What to change where a CONNECT is refused that should not be.
fn remedy(seen: &Observation, otherwise: Remedy) -> Remedy {
    match (said(seen), code(seen)) {
        (Said::Login, _) => Remedy::NoLogin,
        (_, Some(codes::PROXY_CLIENT_DENIED)) => Remedy::AllowClient,
        (Said::Failed, Some(Code(code))) if code.starts_with("dns.") => Remedy::NameServer,
        _ => otherwise,
    }
}

// ---- ports

fn port(rig: &Rig, port: u16) -> Trial<'_> {
    Box::pin(async move {
        let Some(door) = rig.door(DoorKind::Serves, Some(port)) else { return vec![rig.missing(port)] };
        let mut dialogue = rig.tunnel_to(door).await;
        let opened = dialogue.is_open();
        let proved = dialogue.exchange(Exchange::Integrity { bytes: FEW }, rig.seed(), 0).await
            // Where nothing but TLS may pass, the survey has shown that TLS does.
            || opened && rig.open.iter().any(|way| way.door == door && way.tls);
        let wanted = rig.profile.ports.contains(&port);
        let seen = dialogue.finish();
        let end = if opened && !proved { ends_tls(rig, door).await } else { None };
        vec![judge_port(port, wanted, proved, end.as_ref(), seen).reproduced(rig.curl(&placeholder(door)))]
    })
}

/// Somebody in place of the origin at the end of a tunnel.
#[derive(Debug)]
struct TlsEnd {
    /// Who issued his certificate.
    issuer: String,
    /// What he answered in place of the origin.
    page: Option<Reply>,
}

/// Whether somebody else than the origin shakes hands at the end of the tunnel.
async fn ends_tls(rig: &Rig, door: SocketAddr) -> Option<TlsEnd> {
    let mut dialogue = rig.tunnel_to(door).await;
    let host = Host::Ip(door.ip());
    if !dialogue.tls(&host, Hello::default()).await {
        return None;
    }
    let leaf = dialogue.handshake()?.chain.first()?.clone();
    let request = format!("GET {ECHO_PATH} HTTP/1.1\r\nHost: {door}\r\nConnection: close\r\n\r\n");
    let (page, body) = dialogue.http("GET", request.as_bytes()).await.unzip();
    let own = serde_json::from_slice::<Echo>(&body.unwrap_or_default()).ok().and_then(|echo| echo.certificate);
    (own.as_ref() != Some(&leaf.sha256)).then(|| TlsEnd { issuer: leaf.issuer.clone(), page })
}

/// `end`: somebody who ends TLS in the tunnel. `wanted`: the profile needs it, so it must be allowed; else it is good to know.
fn judge_port(port: u16, wanted: bool, proved: bool, end: Option<&TlsEnd>, seen: Observation) -> Judgement {
    let judgement = match said(&seen) {
        _ if proved => Judgement::pass(format!("a tunnel to port {port} carries bytes both ways")),
        Said::Opened => match end {
            Some(TlsEnd { page: Some(page), .. }) if said_by(page) == Said::Denied => Judgement::fail(format!(
                "no tunnel to port {port}: the proxy opens one to say inside TLS that it is denied"
            ))
            .because(format!("the proxy answered `{}` there", page.status_line()))
            .code(Some(classify::answer(page)))
            .remedy(Remedy::AllowPorts { ports: vec![port] }),
            Some(TlsEnd { issuer, .. }) => {
                Judgement::fail(format!("what opens to port {port} is no tunnel: the proxy ends TLS there itself"))
                    .because(format!("the certificate's issuer is `{issuer}`"))
                    .code(Some(codes::TLS_INTERCEPTED))
                    .remedy(Remedy::NoInspection)
            }
            None => {
                Judgement::fail(format!("the proxy says that a tunnel to port {port} stands, and it carries nothing"))
                    .because(heard(&seen))
                    .code(code(&seen))
            }
        },
        Said::Unasked => Judgement::not_run("the proxy could not be asked").because(heard(&seen)).code(code(&seen)),
        _ => {
            let judgement =
                Judgement::fail(format!("no tunnel to port {port}")).because(heard(&seen)).code(code(&seen));
            if wanted { judgement.remedy(remedy(&seen, Remedy::AllowPorts { ports: vec![port] })) } else { judgement }
        }
    };
    timed(judgement, seen)
}

async fn denied_ports(rig: &Rig) -> Vec<Judgement> {
    let Some(door) = rig.door(DoorKind::Serves, None) else { return vec![rig.missing(443)] };
    if rig.profile.denied_ports.is_empty() {
        return vec![Judgement::not_run("the profile names no port that must stay shut")];
    }
    let mut judgements = Vec::new();
    for &port in &rig.profile.denied_ports {
        let shut = SocketAddr::new(door.ip(), port);
        let mut dialogue = rig.caller.call(&format!("the origin:{port}")).await;
        dialogue.connect(&shut.to_string(), Ask::Usual { along: &[] }).await;
        let page = page_inside(&mut dialogue, &Host::Ip(shut.ip())).await;
        let remedy = Remedy::LimitPorts { ports: rig.profile.ports.clone() };
        let judgement = judge_shut(&format!("port {port}"), remedy, page.as_ref(), dialogue.finish());
        judgements.push(judgement.about(format!("port {port}")).reproduced(rig.curl(&format!("ORIGIN:{port}"))));
    }
    judgements
}

/// Whether something is shut by a rule. Who merely failed to reach it has not shut it. `page`: what the proxy said inside
/// TLS, where it opens everything in order to say so.
fn judge_shut(what: &str, remedy: Remedy, page: Option<&Reply>, seen: Observation) -> Judgement {
    let judgement = match said(&seen) {
        Said::Opened if page.is_some_and(|page| said_by(page) == Said::Denied) => {
            Judgement::pass(format!("{what} is shut by a rule, as the proxy says inside TLS"))
        }
        Said::Denied => Judgement::pass(format!("{what} is shut by a rule")),
        Said::Login => Judgement::not_run("the proxy wants a login first, so its rules do not show"),
        Said::Unasked => Judgement::not_run("the proxy could not be asked"),
        Said::Closed => Judgement::warn(format!("{what} is shut, and nobody is told by what"))
            .because(heard(&seen))
            .remedy(Remedy::TellReasons),
        Said::Rejected => {
            Judgement::warn(format!("{what} is shut, as if the request were wrong")).because(heard(&seen))
        }
        Said::Opened => Judgement::fail(format!("{what} is open")).because(heard(&seen)).remedy(remedy),
        Said::Failed | Said::Odd => Judgement::fail(format!("no rule shuts {what}: the proxy tries to reach it"))
            .because(heard(&seen))
            .remedy(remedy),
        Said::Silent => Judgement::fail(format!("no rule seems to shut {what}: the proxy says nothing in time"))
            .because(heard(&seen))
            .remedy(remedy),
    };
    timed(judgement, seen)
}

// ---- endpoints that the user named

async fn allow(rig: &Rig) -> Vec<Judgement> {
    if rig.profile.allow.is_empty() {
        return vec![Judgement::not_run("no endpoint was named; --allow HOST:PORT names one")];
    }
    let mut judgements = Vec::new();
    for endpoint in &rig.profile.allow {
        let mut dialogue = rig.caller.call(endpoint).await;
        let opened = dialogue.connect(endpoint, Ask::Usual { along: &[] }).await;
        let host = host_of(endpoint);
        if opened && crate::azure::storage::is_storage_name(host) {
            dialogue.tls(&Host::Name(host.into()), Hello::default()).await;
        }
        let judgement = judge_allowed(dialogue.finish());
        judgements.push(judgement.about(endpoint.clone()).reproduced(rig.curl_plain(&format!("https://{endpoint}/"))));
    }
    judgements
}

fn host_of(endpoint: &str) -> &str {
    endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host)
}

/// The subject of the observation is the endpoint.
fn judge_allowed(seen: Observation) -> Judgement {
    let endpoint = seen.subject.to_string();
    let code = code(&seen);
    let judgement = match (said(&seen), code) {
        (Said::Opened, None) => Judgement::pass(format!("a tunnel to {endpoint} opens")),
        (Said::Opened, Some(code)) if code.0.starts_with("tls.") && seen.failure().is_none() => {
            let leaf = seen.handshake().and_then(|handshake| handshake.chain.first());
            let judgement = Judgement::fail(format!("somebody else than storage answers in the tunnel to {endpoint}"));
            let judgement = match leaf {
                Some(leaf) => judgement.because(format!("the certificate's issuer is `{}`", leaf.issuer)),
                None => judgement,
            };
            judgement.remedy(Remedy::NoInspection)
        }
        (Said::Opened, Some(_)) => {
            Judgement::fail(format!("the proxy says that a tunnel to {endpoint} stands, and it leads nowhere"))
                .because(heard(&seen))
        }
        (Said::Unasked, _) => Judgement::not_run("the proxy could not be asked").because(heard(&seen)),
        _ => {
            let hosts = Remedy::AllowHosts { hosts: vec![host_of(&endpoint).to_owned()] };
            Judgement::fail(format!("no tunnel to {endpoint}")).because(heard(&seen)).remedy(remedy(&seen, hosts))
        }
    };
    timed(judgement.code(code), seen)
}

async fn deny(rig: &Rig) -> Vec<Judgement> {
    if rig.profile.deny.is_empty() {
        return vec![Judgement::not_run("no endpoint was named; --deny HOST:PORT names one")];
    }
    let mut judgements = Vec::new();
    for endpoint in &rig.profile.deny {
        let mut dialogue = rig.caller.call(endpoint).await;
        dialogue.connect(endpoint, Ask::Usual { along: &[] }).await;
        let page = page_inside(&mut dialogue, &Host::Name(host_of(endpoint).into())).await;
        let remedy = Remedy::DenyHosts { hosts: vec![host_of(endpoint).to_owned()] };
        let judgement = judge_shut(endpoint, remedy, page.as_ref(), dialogue.finish());
        judgements.push(judgement.about(endpoint.clone()).reproduced(rig.curl(endpoint)));
    }
    judgements
}

// ---- plain requests

async fn get(rig: &Rig) -> Vec<Judgement> {
    let Some(door) = rig.plain_door() else { return vec![rig.missing(80)] };
    let (answer, seen) = rig.plain(door, "GET", &format!("{ECHO_PATH}?plain"), "", b"").await;
    let at = placeholder(door);
    vec![judge_get(answer, seen).reproduced(rig.curl_plain(&format!("http://{at}{ECHO_PATH}")))]
}

fn judge_get(answer: Option<(Reply, Vec<u8>)>, seen: Observation) -> Judgement {
    let Some((reply, body)) = answer else {
        return Judgement::fail("a plain GET in absolute form gets no answer")
            .because(heard(&seen))
            .remedy(Remedy::Replace)
            .seen([seen]);
    };
    let echo = serde_json::from_slice::<Echo>(&body).ok().filter(|_| reply.is_success());
    let judgement = match echo {
        Some(echo) if echo.target == format!("{ECHO_PATH}?plain") => {
            Judgement::pass("a plain GET in absolute form reaches the origin in origin form")
        }
        Some(echo) => Judgement::fail("the origin gets another target than was asked for")
            .because(format!("`{}` arrived", echo.target.split('?').next().unwrap_or_default()))
            .remedy(Remedy::Replace),
        None => {
            let judgement = Judgement::fail("a plain GET in absolute form does not reach the origin")
                .because(format!("the proxy answered `{}`", reply.status_line()));
            match said_by(&reply) {
                _ if reply.is_success() => judgement.because("the answer is not the origin's").remedy(Remedy::Replace),
                Said::Login => judgement.remedy(Remedy::NoLogin),
                Said::Denied => judgement.remedy(Remedy::AllowPorts { ports: vec![80] }),
                _ => judgement,
            }
            .code((!reply.is_success()).then(|| classify::answer(&reply)))
        }
    };
    judgement.seen([seen])
}

// ---- forms of the target

async fn literal(rig: &Rig, v4: bool) -> Vec<Judgement> {
    let doors: Vec<_> =
        rig.surveyed.iter().filter(|surveyed| surveyed.door.is_ipv4() == v4).map(|surveyed| surveyed.door).collect();
    let open = rig.open.iter().any(|way| way.door.is_ipv4() == v4);
    let Some(door) = rig.open.iter().map(|way| way.door).chain(doors).find(|door| door.is_ipv4() == v4) else {
        let family = if v4 { "IPv4" } else { "IPv6" };
        return vec![Judgement::not_run(format!("the origin has no address of {family}"))];
    };
    let Some(surveyed) = rig.surveyed.iter().find(|surveyed| surveyed.door == door) else { return Vec::new() };
    // Whether another way leads to the same port tells a rule about literals from one about ports.
    let otherwise = open
        || by_name(rig, door.port(), ToOwned::to_owned).await.is_some_and(|(proved, _)| proved)
        || rig.open.iter().any(|way| way.door.port() == door.port());
    let at = if v4 { "ADDRESS:443" } else { "[ADDRESS]:443" };
    vec![judge_literal(v4, open, otherwise, surveyed.observation.clone()).reproduced(rig.curl(at))]
}

fn judge_literal(v4: bool, open: bool, otherwise: bool, seen: Observation) -> Judgement {
    let what = if v4 { "an IPv4 address" } else { "an IPv6 address" };
    let judgement = match (open, otherwise) {
        (true, _) => Judgement::pass(format!("CONNECT to {what} opens a tunnel")),
        (false, false) => Judgement::not_run("no tunnel leads to the origin at all; connect/port-443 says why"),
        (false, true) => Judgement::fail(format!("CONNECT to {what} opens no tunnel, in another form it does"))
            .because(heard(&seen))
            .code(code(&seen))
            .remedy(Remedy::Replace),
    };
    timed(judgement, seen)
}

/// A tunnel to the origin by its name, written in some way, and whether it carries bytes. `None`: it has no name.
async fn by_name(rig: &Rig, port: u16, written: impl Fn(&str) -> String) -> Option<(bool, Observation)> {
    let name = written(rig.places.name.as_deref()?);
    let mut dialogue = rig.caller.call("the origin by its name").await;
    dialogue.connect(&format!("{name}:{port}"), Ask::Usual { along: &[] }).await;
    let proved = match rig.open.first() {
        Some(&way) => rig.prove(&mut dialogue, way).await,
        None => dialogue.exchange(Exchange::Integrity { bytes: FEW }, rig.seed(), 0).await,
    };
    Some((proved, dialogue.finish()))
}

/// The port at which the origin is asked for by its name.
fn named_port(rig: &Rig) -> Option<u16> {
    rig.open.first().map(|way| way.door).or_else(|| rig.door(DoorKind::Serves, None)).map(|door| door.port())
}

async fn name(rig: &Rig) -> Vec<Judgement> {
    let Some(port) = named_port(rig) else { return vec![rig.missing(443)] };
    let Some((proved, seen)) = by_name(rig, port, ToOwned::to_owned).await else { return vec![nameless()] };
    vec![judge_name(proved, !rig.open.is_empty(), seen).reproduced(rig.curl("ORIGIN:443"))]
}

fn nameless() -> Judgement {
    Judgement::not_run("the origin has no name that the proxy could look up")
}

/// `otherwise`: a tunnel to its address stands.
fn judge_name(proved: bool, otherwise: bool, seen: Observation) -> Judgement {
    let judgement = match (proved, said(&seen)) {
        (true, _) => Judgement::pass("CONNECT to a name opens a tunnel that carries bytes both ways"),
        (false, Said::Failed | Said::Silent | Said::Odd | Said::Closed) if otherwise => {
            Judgement::fail("the proxy does not reach the origin by its name, by its address it does")
                .because(heard(&seen))
                .code(code(&seen))
                .remedy(Remedy::NameServer)
        }
        (false, _) if otherwise => Judgement::fail("CONNECT to a name opens no tunnel, to an address it does")
            .because(heard(&seen))
            .code(code(&seen))
            .remedy(Remedy::AllowHosts { hosts: Vec::new() }),
        (false, _) => Judgement::not_run("no tunnel leads to the origin at all; connect/port-443 says why"),
    };
    timed(judgement, seen)
}

async fn other_name(rig: &Rig, how: &str, written: fn(&str) -> String) -> Vec<Judgement> {
    let Some(port) = named_port(rig) else { return vec![rig.missing(443)] };
    let Some((usual, _)) = by_name(rig, port, ToOwned::to_owned).await else { return vec![nameless()] };
    let Some((proved, seen)) = by_name(rig, port, written).await else { return vec![nameless()] };
    vec![judge_other_name(how, usual, proved, seen).reproduced(rig.curl(&format!("{}:443", written("origin"))))]
}

fn judge_other_name(how: &str, usual: bool, proved: bool, seen: Observation) -> Judgement {
    let judgement = match (proved, usual) {
        (true, _) => Judgement::pass(format!("CONNECT to a name {how} opens a tunnel")),
        (false, true) => {
            Judgement::fail(format!("CONNECT to a name {how} opens no tunnel, as it is usually written it does"))
                .because(heard(&seen))
                .code(code(&seen))
                .remedy(Remedy::Replace)
        }
        (false, false) => Judgement::not_run("no tunnel to the origin's name opens at all; connect/name says why"),
    };
    timed(judgement, seen)
}

async fn no_port(rig: &Rig) -> Vec<Judgement> {
    let way = match rig.way() {
        Ok(way) => way,
        Err(judgement) => return vec![judgement],
    };
    let host = bracketed(way.door);
    let mut dialogue = rig.caller.call("the origin without a port").await;
    dialogue.connect(&host, Ask::Usual { along: &[] }).await;
    vec![judge_no_port(dialogue.finish()).reproduced(rig.printf(r"CONNECT ORIGIN HTTP/1.1\r\nHost: ORIGIN\r\n\r\n"))]
}

fn bracketed(door: SocketAddr) -> String {
    Host::Ip(door.ip()).authority(0).trim_end_matches(":0").to_owned()
}

fn judge_no_port(seen: Observation) -> Judgement {
    let judgement = match (said(&seen), seen.reply().map(|reply| reply.status)) {
        (_, Some(400)) => Judgement::pass("a CONNECT without a port is refused with 400"),
        (Said::Denied | Said::Rejected, _) => Judgement::pass("a CONNECT without a port is refused"),
        (Said::Opened | Said::Failed, _) => {
            Judgement::warn("the proxy takes a port of its own choice where the request names none")
                .because(heard(&seen))
        }
        (Said::Closed, _) => {
            Judgement::warn("the connection ends without a word when the request names no port").because(heard(&seen))
        }
        (Said::Silent, _) => Judgement::fail("a CONNECT without a port gets no answer")
            .because(heard(&seen))
            .code(code(&seen))
            .remedy(Remedy::Replace),
        (Said::Unasked, _) => Judgement::not_run("the proxy could not be asked"),
        _ => Judgement::warn("a CONNECT without a port gets an answer that does not say so").because(heard(&seen)),
    };
    timed(judgement, seen)
}

// ---- forms of the request

/// A form of CONNECT other than the usual one.
#[derive(Clone, Copy)]
struct Form {
    /// In words: `CONNECT in HTTP/1.0`.
    words: &'static str,
    /// The head, with the target for `{}`.
    head: &'static str,
    /// The same in the notation of printf.
    printed: &'static str,
}

const HTTP_1_0: Form = Form {
    words: "CONNECT in HTTP/1.0 without headers",
    head: "CONNECT {} HTTP/1.0\r\n",
    printed: r"CONNECT {} HTTP/1.0\r\n\r\n",
};

const HOST_MISMATCH: Form = Form {
    words: "CONNECT with another name in Host",
    head: "CONNECT {} HTTP/1.1\r\nHost: other.snapreach.test:443\r\n",
    printed: r"CONNECT {} HTTP/1.1\r\nHost: other.snapreach.test:443\r\n\r\n",
};

async fn form(rig: &Rig, form: Form) -> Vec<Judgement> {
    let way = match rig.way() {
        Ok(way) => way,
        Err(judgement) => return vec![judgement],
    };
    let mut dialogue = rig.caller.call(&rig.name(way.door)).await;
    let head = form.head.replace("{}", &way.door.to_string());
    dialogue.connect(&way.door.to_string(), Ask::Head(&head)).await;
    let proved = rig.prove(&mut dialogue, way).await;
    let command = rig.printf(&form.printed.replace("{}", &placeholder(way.door)));
    vec![judge_form(form.words, proved, dialogue.finish()).reproduced(command)]
}

fn judge_form(words: &str, proved: bool, seen: Observation) -> Judgement {
    let judgement = match said(&seen) {
        _ if proved => Judgement::pass(format!("{words} opens a tunnel")),
        Said::Unasked => Judgement::not_run("the proxy could not be asked"),
        Said::Opened => Judgement::fail(format!("{words} opens a tunnel that carries nothing"))
            .because(heard(&seen))
            .remedy(Remedy::Replace),
        _ => Judgement::fail(format!("{words} opens no tunnel, the usual form does"))
            .because(heard(&seen))
            .code(code(&seen))
            .remedy(Remedy::Replace),
    };
    timed(judgement, seen)
}

async fn early(rig: &Rig) -> Vec<Judgement> {
    let way = match rig.way() {
        Ok(Way { tls: true, .. }) => return vec![Judgement::not_run("the proxy lets nothing but TLS pass")],
        Ok(way) => way,
        Err(judgement) => return vec![judgement],
    };
    let seed = rig.seed();
    let along = early_data(seed);
    let mut dialogue = rig.caller.call(&rig.name(way.door)).await;
    dialogue.connect(&way.door.to_string(), Ask::Usual { along: &along }).await;
    let arrived = dialogue.exchange(Exchange::EarlyData, seed, along.len() as u64).await;
    let at = placeholder(way.door);
    let command = rig
        .printf(&format!(r"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\nGET {ECHO_PATH} HTTP/1.1\r\nHost: {at}\r\n\r\n"));
    vec![judge_early(arrived, dialogue.finish()).reproduced(command)]
}

fn judge_early(arrived: bool, seen: Observation) -> Judgement {
    let judgement = match (said(&seen), seen.failure()) {
        _ if arrived => Judgement::pass("bytes that are sent together with the CONNECT arrive"),
        (Said::Unasked, _) => Judgement::not_run("the proxy could not be asked"),
        (Said::Opened, Some((_, _, FailureKind::Lost))) => {
            Judgement::fail("bytes that are sent together with the CONNECT are lost, later ones arrive")
                .because(heard(&seen))
        }
        (Said::Opened, _) => Judgement::fail("with bytes right behind it, CONNECT opens a tunnel that carries nothing")
            .because(heard(&seen)),
        _ => Judgement::fail("with bytes right behind it, CONNECT opens no tunnel").because(heard(&seen)),
    };
    let judgement = if arrived { judgement } else { judgement.code(code(&seen)).remedy(Remedy::Replace) };
    timed(judgement, seen)
}

// ---- after the answer

/// What came of a CONNECT that should be refused, on a connection that is used again.
#[derive(Debug, Clone)]
enum Refusal {
    /// This answer, whole.
    Refused(Box<Reply>),
    /// A tunnel.
    Opened,
    /// No whole answer.
    Broken,
}

async fn keep_alive(rig: &Rig) -> Vec<Judgement> {
    let way = match rig.way() {
        Ok(way) => way,
        Err(judgement) => return vec![judgement],
    };
    let mut dialogue = rig.caller.call("a refused CONNECT, then another").await;
    let shut = match rig.profile.denied_ports.first() {
        Some(&port) => Some(SocketAddr::new(way.door.ip(), port)),
        None => rig.door(DoorKind::Refuses, None),
    };
    let Some(shut) = shut else { return vec![Judgement::not_run("nothing is known that the proxy refuses")] };
    let refusal = refused(&mut dialogue, shut).await;
    let served = matches!(refusal, Refusal::Refused(_))
        && dialogue.connect(&way.door.to_string(), Ask::Usual { along: &[] }).await
        && rig.prove(&mut dialogue, way).await;
    let [first, second] = [format!("ORIGIN:{}", shut.port()), placeholder(way.door)]
        .map(|at| format!(r"CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n"));
    vec![judge_keep_alive(&refusal, served, dialogue.finish()).reproduced(rig.printf(&format!("{first}{second}")))]
}

async fn refused(dialogue: &mut Dialogue, shut: SocketAddr) -> Refusal {
    let request = format!("CONNECT {shut} HTTP/1.1\r\nHost: {shut}\r\n{}\r\n", dialogue.login());
    let patience = dialogue.patience();
    let answer = dialogue
        .talk("CONNECT", patience, async |talk, stream| {
            talk.send(stream, request.as_bytes()).await?;
            let reply = talk.head(stream).await?;
            if !reply.is_success() {
                talk.rest(stream, &reply).await?;
            }
            Ok(reply)
        })
        .await;
    match answer {
        Some(reply) if reply.is_success() => Refusal::Opened,
        Some(reply) => Refusal::Refused(Box::new(reply)),
        None => Refusal::Broken,
    }
}

fn judge_keep_alive(refusal: &Refusal, served: bool, seen: Observation) -> Judgement {
    let judgement = match refusal {
        Refusal::Opened => Judgement::not_run("the proxy opens what it should refuse; connect/denied-ports says what"),
        Refusal::Broken => Judgement::fail("the connection breaks inside the answer to a CONNECT that is refused")
            .remedy(Remedy::Replace),
        Refusal::Refused(_) if served => Judgement::pass("after a refusal the same connection serves another CONNECT"),
        Refusal::Refused(reply) if announces_close(reply) => {
            Judgement::warn("after a refusal the proxy ends the connection, and says so")
                .because(format!("the proxy answered `{}`", reply.status_line()))
        }
        Refusal::Refused(reply) => {
            Judgement::fail("after a refusal the connection serves no other CONNECT, and nobody is told")
                .because(format!("the proxy answered `{}`", reply.status_line()))
                .because(heard(&seen))
                .remedy(Remedy::Replace)
        }
    };
    judgement.seen([seen])
}

/// Whether the connection ends with the answer (RFC 9112 sections 6.3 and 9.3).
fn announces_close(reply: &Reply) -> bool {
    let says = |word: &str| {
        ["connection", "proxy-connection"].iter().any(|name| {
            reply.headers_named(name).any(|value| value.split(',').any(|one| one.trim().eq_ignore_ascii_case(word)))
        })
    };
    let delimited = reply.header("content-length").is_some() || reply.header("transfer-encoding").is_some();
    says("close") || !delimited || reply.minor_version == 0 && !says("keep-alive")
}

/// The survey has asked at every door.
fn plain_200(rig: &Rig) -> Vec<Judgement> {
    if rig.surveyed.is_empty() {
        return vec![rig.missing(443)];
    }
    let judgements = rig.surveyed.iter().map(|surveyed| {
        let proved = rig.open.iter().any(|way| way.door == surveyed.door);
        judge_200(proved, surveyed.observation.clone()).reproduced(rig.curl(&placeholder(surveyed.door)))
    });
    // Of doors that are alike the first one speaks.
    judgements.min_by_key(|judgement| judgement.outcome).into_iter().collect()
}

fn judge_200(proved: bool, seen: Observation) -> Judgement {
    let Some((tunnel, reply)) = seen.tunnel().zip(seen.reply()).filter(|(_, reply)| reply.is_success()) else {
        return Judgement::not_run("the proxy opens no tunnel to the origin; connect/port-443 says why").seen([seen]);
    };
    let framing = ["Transfer-Encoding", "Content-Length"]
        .into_iter()
        .find_map(|name| reply.header(name).map(|value| format!("{name}: {value}")));
    let empty = reply.header("Transfer-Encoding").is_none() && reply.header("Content-Length") == Some("0");
    let judgement = if let Some(early) = &tunnel.early {
        Judgement::fail("bytes follow the 200 that the origin did not send")
            .because(format!("`{}`", early.text.chars().take(60).collect::<String>()))
            .code(code(&seen))
            .remedy(Remedy::Replace)
    } else if let Some(framing) = framing {
        let judgement = if empty {
            Judgement::warn("the 200 says how long its content is, where there can be none")
        } else {
            Judgement::fail("the 200 announces content, where there can be none")
        };
        judgement.because(format!("`{framing}`")).remedy(Remedy::Replace)
    } else if proved {
        Judgement::pass("nothing but the head of the 200 comes before the origin's first byte")
    } else if let Some((_, _, FailureKind::Foreign | FailureKind::Differs)) = seen.failure() {
        Judgement::fail("what follows the 200 is not the origin's")
            .because(heard(&seen))
            .code(code(&seen))
            .remedy(Remedy::Replace)
    } else {
        Judgement::not_run("no bytes of the origin's come through; connect/port-443 says why")
    };
    timed(judgement, seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::testing::{Walk, certificate, chain, reply, trusted},
        conformance::Outcome,
        model::{Excerpt, TunnelEvidence, Verification},
    };

    fn walk() -> Walk {
        Walk::proxied("the origin:443").connected()
    }

    fn answered(text: &str) -> Observation {
        walk().tunnel_refused(reply(text)).0
    }

    fn denied() -> Observation {
        answered("HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n")
    }

    fn unreached() -> Observation {
        answered("HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n")
    }

    fn login() -> Observation {
        answered("HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=x\r\n\r\n")
    }

    fn silent() -> Observation {
        walk().tunnel_fails(FailureKind::TimedOut, TunnelEvidence::default()).0
    }

    fn closed() -> Observation {
        walk().tunnel_fails(FailureKind::Closed, TunnelEvidence::default()).0
    }

    fn opened() -> Observation {
        walk().tunnelled().0
    }

    /// The 200 with these header lines, each with its line end.
    fn opened_with(headers: &str, early: Option<&str>) -> Observation {
        let mut seen = walk();
        let evidence = TunnelEvidence {
            request_sent: true,
            reply: Some(reply(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n"))),
            early: early.map(|text| Excerpt::whole(text.as_bytes())),
            ..TunnelEvidence::default()
        };
        seen.push(crate::model::Leg::Proxy, crate::model::Evidence::Tunnel(Box::new(evidence)), None, 1_000);
        seen.0
    }

    fn of(judgement: &Judgement) -> (Outcome, Option<&Remedy>) {
        (judgement.outcome, judgement.remedy.as_ref())
    }

    #[test]
    fn a_port_is_open_when_bytes_pass_and_only_then() {
        let allow = Remedy::AllowPorts { ports: vec![8443] };
        for (seen, proved, outcome, remedy) in [
            (opened(), true, Outcome::Pass, None),
            (opened(), false, Outcome::Fail, None),
            (denied(), false, Outcome::Fail, Some(&allow)),
            (login(), false, Outcome::Fail, Some(&Remedy::NoLogin)),
            (silent(), false, Outcome::Fail, Some(&allow)),
        ] {
            assert_eq!(of(&judge_port(8443, true, proved, None, seen)), (outcome, remedy));
        }
        let unasked = Walk::proxied("the origin:443").connect_fails(FailureKind::Refused).0;
        assert_eq!(judge_port(443, true, false, None, unasked).outcome, Outcome::NotRun);
        // Nobody should open a port for a case that only wants to know.
        assert_eq!(of(&judge_port(80, false, false, None, denied())), (Outcome::Fail, None));
    }

    #[test]
    fn who_ends_tls_opens_no_tunnel() {
        let end = |page| TlsEnd { issuer: "O=Example Corp".into(), page };
        let judgement = judge_port(443, true, false, Some(&end(None)), opened());
        assert_eq!(of(&judgement), (Outcome::Fail, Some(&Remedy::NoInspection)));
        let denied = end(Some(reply("HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n")));
        let judgement = judge_port(8443, true, false, Some(&denied), opened());
        assert_eq!(of(&judgement), (Outcome::Fail, Some(&Remedy::AllowPorts { ports: vec![8443] })));
        let inside = |text: &str| {
            let page = reply(text);
            judge_shut("port 22", Remedy::LimitPorts { ports: vec![443] }, Some(&page), opened()).outcome
        };
        assert_eq!(inside("HTTP/1.1 403 Forbidden\r\nX-Squid-Error: ERR_ACCESS_DENIED 0\r\n\r\n"), Outcome::Pass);
        assert_eq!(inside("HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n"), Outcome::Fail);
    }

    #[test]
    fn shut_is_what_a_rule_shuts() {
        for (seen, outcome) in [
            (denied(), Outcome::Pass),
            (answered("HTTP/1.0 403 Filtered\r\nServer: tinyproxy/1.11.1\r\n\r\n"), Outcome::Pass),
            (answered("HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n"), Outcome::Pass),
            (closed(), Outcome::Warn),
            (answered("HTTP/1.1 400 Bad Request\r\n\r\n"), Outcome::Warn),
            (opened(), Outcome::Fail),
            (unreached(), Outcome::Fail),
            (answered("HTTP/1.0 500 Unable to connect\r\nServer: tinyproxy/1.11.1\r\n\r\n"), Outcome::Fail),
            (silent(), Outcome::Fail),
            (login(), Outcome::NotRun),
        ] {
            let judgement = judge_shut("port 22", Remedy::LimitPorts { ports: vec![443] }, None, seen);
            assert_eq!(judgement.outcome, outcome, "{}", judgement.summary);
        }
    }

    #[test]
    fn an_endpoint_is_allowed_when_storage_answers() {
        let storage = || Walk::proxied("acct.blob.core.windows.net:443").connected();
        assert_eq!(judge_allowed(storage().tunnelled().tls(trusted()).0).outcome, Outcome::Pass);
        let inspected = storage().tunnelled().tls(chain(&["Example Corp"], Verification::UnknownIssuer)).0;
        let judgement = judge_allowed(inspected);
        assert_eq!(of(&judgement), (Outcome::Fail, Some(&Remedy::NoInspection)));
        assert_eq!(
            judgement.evidence,
            [format!("the certificate's issuer is `{}`", certificate("Example Corp").issuer)]
        );
        let hosts = Remedy::AllowHosts { hosts: vec!["acct.blob.core.windows.net".into()] };
        let judgement = judge_allowed(storage().tunnel_refused(reply("HTTP/1.1 403 Forbidden\r\n\r\n")).0);
        assert_eq!(of(&judgement), (Outcome::Fail, Some(&hosts)));
        let unknown = storage().tunnel_refused(reply("HTTP/1.1 503 x\r\nX-Squid-Error: ERR_DNS_FAIL 0\r\n\r\n")).0;
        assert_eq!(of(&judge_allowed(unknown)), (Outcome::Fail, Some(&Remedy::NameServer)));
    }

    #[test]
    fn a_plain_get_must_reach_the_origin_in_origin_form() {
        let get = |head: &str, body: &str| {
            let answer = (reply(head), body.as_bytes().to_vec());
            judge_get(Some(answer), Walk::proxied("the origin:80").connected().0)
        };
        let echo = |target: &str| format!("{{\"target\":\"{target}\"}}");
        let good = get("HTTP/1.1 200 OK\r\n\r\n", &echo("/snapreach/echo?plain"));
        assert_eq!(good.outcome, Outcome::Pass, "{good:?}");
        let absolute = get("HTTP/1.1 200 OK\r\n\r\n", &echo("http://198.18.0.7/snapreach/echo?plain"));
        assert_eq!(absolute.outcome, Outcome::Fail);
        let page = get("HTTP/1.1 200 OK\r\nServer: nginx\r\n\r\n", "<html>Welcome to nginx!");
        assert_eq!((page.outcome, page.code), (Outcome::Fail, None));
        let denied = get("HTTP/1.1 403 Forbidden\r\n\r\n", "");
        assert_eq!(of(&denied), (Outcome::Fail, Some(&Remedy::AllowPorts { ports: vec![80] })));
    }

    #[test]
    fn a_form_is_judged_against_the_usual_one() {
        assert_eq!(judge_form("x", true, opened()).outcome, Outcome::Pass);
        assert_eq!(judge_form("x", false, opened()).outcome, Outcome::Fail);
        assert_eq!(judge_form("x", false, answered("HTTP/1.0 400 Bad request\r\n\r\n")).outcome, Outcome::Fail);
        assert_eq!(judge_form("x", false, closed()).outcome, Outcome::Fail);
        for (open, otherwise, outcome) in
            [(true, false, Outcome::Pass), (false, true, Outcome::Fail), (false, false, Outcome::NotRun)]
        {
            assert_eq!(judge_literal(true, open, otherwise, denied()).outcome, outcome);
            assert_eq!(judge_other_name("x", otherwise, open, denied()).outcome, outcome);
            assert_eq!(judge_name(open, otherwise, denied()).outcome, outcome);
        }
        assert_eq!(judge_name(false, true, unreached()).remedy, Some(Remedy::NameServer));
    }

    #[test]
    fn a_port_must_be_named() {
        for (seen, outcome) in [
            (answered("HTTP/1.1 400 Bad Request\r\n\r\n"), Outcome::Pass),
            (denied(), Outcome::Pass),
            (opened(), Outcome::Warn),
            (unreached(), Outcome::Warn),
            (closed(), Outcome::Warn),
            (silent(), Outcome::Fail),
        ] {
            assert_eq!(judge_no_port(seen).outcome, outcome);
        }
    }

    #[test]
    fn early_bytes_arrive_or_are_lost() {
        let exchanged = |kind| walk().tunnelled().exchanged(Exchange::EarlyData, kind, |_| ()).0;
        assert_eq!(judge_early(true, exchanged(None)).outcome, Outcome::Pass);
        let lost = judge_early(false, exchanged(Some(FailureKind::Lost)));
        assert!(lost.outcome == Outcome::Fail && lost.summary.contains("are lost"), "{lost:?}");
        let hangs = judge_early(false, exchanged(Some(FailureKind::TimedOut)));
        assert!(hangs.outcome == Outcome::Fail && hangs.summary.contains("carries nothing"), "{hangs:?}");
        assert_eq!(judge_early(false, closed()).outcome, Outcome::Fail);
    }

    #[test]
    fn who_ends_a_connection_says_so() {
        let judge =
            |head: &str, served| judge_keep_alive(&Refusal::Refused(Box::new(reply(head))), served, walk().0).outcome;
        assert_eq!(judge("HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n", true), Outcome::Pass);
        assert_eq!(judge("HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n", false), Outcome::Fail);
        assert_eq!(judge("HTTP/1.1 403 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false), Outcome::Warn);
        assert_eq!(judge("HTTP/1.0 403 x\r\nContent-Length: 0\r\n\r\n", false), Outcome::Warn);
        assert_eq!(judge("HTTP/1.1 403 x\r\n\r\n", false), Outcome::Warn);
        assert_eq!(judge_keep_alive(&Refusal::Opened, false, walk().0).outcome, Outcome::NotRun);
        assert_eq!(judge_keep_alive(&Refusal::Broken, false, walk().0).outcome, Outcome::Fail);
    }

    #[test]
    fn nothing_comes_with_the_200() {
        for (headers, early, outcome) in [
            ("", None, Outcome::Pass),
            ("Via: 1.1 x\r\n", None, Outcome::Pass),
            ("Content-Length: 0\r\n", None, Outcome::Warn),
            ("Content-Length: 39\r\n", None, Outcome::Fail),
            ("Transfer-Encoding: chunked\r\n", None, Outcome::Fail),
            ("", Some("<html>"), Outcome::Fail),
        ] {
            assert_eq!(judge_200(true, opened_with(headers, early)).outcome, outcome, "{headers}{early:?}");
        }
        let exchanged = |kind| {
            let exchange = Exchange::Integrity { bytes: FEW };
            judge_200(false, walk().tunnelled().exchanged(exchange, Some(kind), |_| ()).0).outcome
        };
        assert_eq!(exchanged(FailureKind::Foreign), Outcome::Fail);
        assert_eq!(exchanged(FailureKind::Closed), Outcome::NotRun);
        assert_eq!(judge_200(false, denied()).outcome, Outcome::NotRun);
    }
}
