//! TLS inside the tunnel: who ends it, and which handshakes pass.

use crate::{
    azure::storage,
    classify::{codes, has_genuine_issuer},
    conformance::{
        case::{Case, Judgement, Level, Outcome, Remedy, Trial, Turn, one},
        rig::{Rig, Way, code, ended, heard},
    },
    exchange::{ECHO_PATH, Echo},
    model::{Evidence, HandshakeEvidence, Host, Layer, Leg, Observation, TrustAnchor, Verification},
    probe::dialogue::{Ask, Hello, Seen, Versions},
};

/// A server name that stands on nobody's list (RFC 6761 keeps `.test` free).
const UNHEARD_OF: &str = "unheard-of.snapreach.test";

pub(super) const CASES: &[Case] = &[
    Case {
        id: "tls/not-intercepted",
        level: Level::Must,
        reference: "RFC 9110 section 9.3.6: a tunnel relays blindly; agent and extension trust storage's authorities alone",
        title: "The certificate that comes through the tunnel is the endpoint's own",
        turn: Turn::Together,
        run: not_intercepted,
    },
    Case {
        id: "tls/tls-1.2",
        level: Level::Must,
        reference: "RFC 5246; the oldest version that storage takes",
        title: "TLS 1.2 passes through a tunnel",
        turn: Turn::Together,
        run: |rig| one(hello(rig, TLS_1_2)),
    },
    Case {
        id: "tls/tls-1.3",
        level: Level::Should,
        reference: "RFC 8446",
        title: "TLS 1.3 passes through a tunnel",
        turn: Turn::Together,
        run: |rig| one(hello(rig, TLS_1_3)),
    },
    Case {
        id: "tls/large-hello",
        level: Level::Should,
        reference: "RFC 8446 section 4.1.2; a post-quantum key share alone has 1,216 bytes (draft-ietf-tls-ecdhe-mlkem)",
        title: "A ClientHello that needs more than one segment passes",
        turn: Turn::Together,
        run: |rig| one(hello(rig, LARGE)),
    },
    Case {
        id: "tls/no-sni",
        level: Level::May,
        reference: "RFC 6066 section 3: a server name is not sent for an address",
        title: "A ClientHello without a server name passes",
        turn: Turn::Together,
        run: |rig| one(hello(rig, NAMELESS)),
    },
    Case {
        id: "tls/other-sni",
        level: Level::May,
        reference: "RFC 6066 section 3; the name in a ClientHello need not be the CONNECT's",
        title: "A ClientHello with a server name that stands on no list passes",
        turn: Turn::Together,
        run: |rig| one(hello(rig, OTHER)),
    },
    Case {
        id: "tls/not-demanded",
        level: Level::May,
        reference: "RFC 9110 section 9.3.6: a tunnel relays blindly",
        title: "A tunnel carries other protocols than TLS too",
        turn: Turn::Together,
        run: |rig| one(async { Ok(judge_demand(&rig.open, rig.way().err())) }),
    },
];

// ---- who ends TLS

fn not_intercepted(rig: &Rig) -> Trial<'_> {
    Box::pin(async move {
        let mut judgements = vec![origin(rig).await.unwrap_or_else(|early| early)];
        for endpoint in &rig.profile.allow {
            if let Some((host, authority)) = storage_endpoint(endpoint) {
                judgements.push(of_storage(rig, &host, &authority).await);
            }
        }
        judgements
    })
}

async fn origin(rig: &Rig) -> Result<Judgement, Judgement> {
    let door = rig.opened()?;
    let host = rig.origin_at(door);
    let mut tunnel = rig.tunnel_to(door).await;
    tunnel.tls(&host, Hello::default()).await;
    // HTTP, as whoever ends TLS expects nothing else inside.
    let request =
        format!("GET {ECHO_PATH} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", host.authority(door.port()));
    let answer = tunnel.http("GET", request.as_bytes()).await;
    let echo = answer.and_then(|(_, body)| serde_json::from_slice::<Echo>(&body).ok());
    let command = || format!("{} -k https://ORIGIN{ECHO_PATH}", rig.curl_command());
    let mut judgement = judge_origin(echo.as_ref(), tunnel.finish()).shown_by(command);
    // A certificate that is made on the way bears the origin's address, which may be another next time.
    for line in &mut judgement.evidence {
        *line = line.replace(&door.ip().to_string(), "ORIGIN");
    }
    Ok(judgement)
}

/// `echo`: what the origin said of the request inside the session.
fn judge_origin(echo: Option<&Echo>, seen: Observation) -> Judgement {
    let handshake = match handshake(&seen) {
        Ok(handshake) => handshake,
        Err(judgement) => return judgement.seen([seen]),
    };
    let presented = handshake.chain.first().map(|leaf| leaf.sha256.as_str());
    let issuer = issuer_of(handshake);
    let judgement = match echo.map(|echo| echo.certificate.as_deref()) {
        Some(Some(own)) if Some(own) == presented => Judgement::pass("the certificate that comes is the origin's own"),
        Some(Some(_)) => intercepted(format!("TLS to the origin is ended on the way, by {issuer}")),
        Some(None) => {
            intercepted(format!("TLS is ended on the way, by {issuer}, and the origin is spoken to without it"))
        }
        None => match seen.failure() {
            None => {
                intercepted(format!("whoever answers inside TLS is not the origin: the certificate is from {issuer}"))
                    .because(format!("the answer inside TLS: {}", answer(&seen)))
            }
            Some((_, _, kind)) => Judgement::fail(format!(
                "TLS is agreed on with a certificate from {issuer}, and behind it nobody answers"
            ))
            .because(format!("inside TLS: {}", ended(kind)))
            .code(code(&seen)),
        },
    };
    match judgement.outcome {
        Outcome::Pass => judgement.seen([seen]),
        _ => with_chain(judgement, handshake).seen([seen]),
    }
}

fn intercepted(summary: String) -> Judgement {
    Judgement::fail(summary).code(Some(codes::TLS_INTERCEPTED)).remedy(Remedy::NoInspection)
}

/// Host and authority of an endpoint of the profile, if storage should answer there with TLS.
fn storage_endpoint(endpoint: &str) -> Option<(Host, String)> {
    let (host, port) = endpoint.rsplit_once(':')?;
    let host: Host = host.parse().ok()?;
    let is_storage = host.name().is_some_and(storage::is_storage_name) && port != "80";
    is_storage.then(|| (host.clone(), format!("{host}:{port}")))
}

async fn of_storage(rig: &Rig, host: &Host, authority: &str) -> Judgement {
    let mut tunnel = rig.caller.call(authority).await;
    tunnel.connect(authority, Ask::Usual { along: &[] }).await;
    tunnel.tls(host, Hello::default()).await;
    let command = || format!("{} https://{authority}/", rig.curl_command());
    judge_storage(tunnel.finish()).about(authority).shown_by(command)
}

fn judge_storage(seen: Observation) -> Judgement {
    let handshake = match handshake(&seen) {
        Ok(handshake) => handshake,
        Err(judgement) => return judgement.seen([seen]),
    };
    let issuer = issuer_of(handshake);
    let judgement = match (code(&seen), handshake.anchor) {
        (Some(codes::TLS_INTERCEPTED | codes::TLS_SELF_SIGNED | codes::TLS_UNKNOWN_ISSUER), _) => {
            intercepted(format!("TLS to storage is ended on the way, by {issuer}"))
        }
        (Some(code), _) => Judgement::fail(format!("the certificate that comes, from {issuer}, does not verify"))
            .because(format!("verification: {:?}", handshake.verification.unwrap_or(Verification::Other)))
            .code(Some(code)),
        // In the lab its own root stands for a public authority.
        (None, Some(TrustAnchor::Lab)) => Judgement::pass("the certificate that comes is storage's own"),
        (None, Some(TrustAnchor::System)) if has_genuine_issuer(handshake) => {
            Judgement::pass(format!("the certificate that comes is storage's own, from {issuer}"))
        }
        (None, _) => intercepted(format!(
            "TLS to storage is ended on the way, by {issuer}, which this machine trusts; storage uses no such issuer"
        )),
    };
    with_chain(judgement, handshake).seen([seen])
}

// ---- which handshakes pass

/// A handshake that is tried.
#[derive(Debug, Clone, Copy)]
struct Tried {
    hello: Hello<'static>,
    /// Whether the server name is left out.
    nameless: bool,
    /// What it is, as the subject of a sentence.
    what: &'static str,
    /// How curl makes it.
    options: &'static str,
}

const PLAIN: Hello<'static> = Hello { sni: None, versions: Versions::All, large: false };

const TLS_1_2: Tried = Tried {
    hello: Hello { versions: Versions::Only12, ..PLAIN },
    nameless: false,
    what: "a TLS 1.2 handshake",
    options: "--tlsv1.2 --tls-max 1.2",
};

const TLS_1_3: Tried = Tried {
    hello: Hello { versions: Versions::Only13, ..PLAIN },
    nameless: false,
    what: "a TLS 1.3 handshake",
    options: "--tlsv1.3",
};

const LARGE: Tried = Tried {
    hello: Hello { large: true, ..PLAIN },
    nameless: false,
    what: "a ClientHello that needs more than one segment",
    options: "--curves X25519MLKEM768",
};

const NAMELESS: Tried =
    Tried { hello: PLAIN, nameless: true, what: "a ClientHello without a server name", options: "--no-alpn" };

const OTHER: Tried = Tried {
    hello: Hello { sni: Some(UNHEARD_OF), ..PLAIN },
    nameless: false,
    what: "a ClientHello with a server name that stands on no list",
    options: "--connect-to unheard-of.snapreach.test:443:ORIGIN:443",
};

async fn hello(rig: &Rig, tried: Tried) -> Result<Judgement, Judgement> {
    let door = rig.opened()?;
    let mut tunnel = rig.tunnel_to(door).await;
    // No name is sent for an address.
    let host = if tried.nameless { Host::Ip(door.ip()) } else { rig.origin_at(door) };
    tunnel.tls(&host, tried.hello).await;
    let target = if tried.hello.sni.is_some() { UNHEARD_OF } else { "ORIGIN" };
    let command = || format!("{} -k {} https://{target}{ECHO_PATH}", rig.curl_command(), tried.options);
    Ok(judge_hello(tried.what, tunnel.finish()).shown_by(command))
}

fn judge_hello(what: &str, seen: Observation) -> Judgement {
    let judgement = match (handshake(&seen), seen.failure()) {
        (Ok(_), _) => Judgement::pass(format!("{what} passes")),
        (Err(_), Some((Layer::Handshake, _, kind))) => Judgement::fail(format!("{what} does not pass"))
            .because(format!("TLS in the tunnel: {}", ended(kind)))
            .code(code(&seen))
            .remedy(Remedy::NoInspection),
        (Err(judgement), _) => *judgement,
    };
    judgement.seen([seen])
}

fn judge_demand(open: &[Way], why: Option<Judgement>) -> Judgement {
    if let Some(why) = why {
        return why;
    }
    let ports = |wanted: bool| {
        let mut ports: Vec<u16> = open.iter().filter(|way| way.tls == wanted).map(|way| way.door.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
    };
    if open.iter().all(|way| !way.tls) {
        return Judgement::pass("tunnels carry what is not TLS as well");
    }
    Judgement::fail(format!("the proxy lets nothing but TLS pass to port {}", ports(true)))
        .because("the same tunnels work with TLS inside, which is all that a backup needs")
}

// ---- what they have in common

/// The handshake with whoever is at the end of the tunnel, if it succeeded; or what to say of it.
fn handshake(seen: &Observation) -> Result<&HandshakeEvidence, Box<Judgement>> {
    let step = seen.step(Layer::Handshake, Leg::Origin);
    match step.map(|step| (&step.evidence, &step.failure)) {
        Some((Evidence::Handshake(handshake), None)) => Ok(handshake),
        Some((_, Some(failure))) => Err(Box::new(
            Judgement::fail("TLS does not pass through the tunnel")
                .because(format!("TLS in the tunnel: {}", ended(failure.kind)))
                .code(code(seen)),
        )),
        _ => Err(Box::new(Judgement::not_run("the proxy opens no tunnel there").because(heard(seen)))),
    }
}

fn issuer_of(handshake: &HandshakeEvidence) -> String {
    handshake.chain.first().map_or_else(|| "nobody".into(), |leaf| format!("`{}`", leaf.issuer))
}

fn answer(seen: &Observation) -> String {
    let reply = seen.request().and_then(|request| request.reply.as_ref());
    reply.map_or_else(|| "none".into(), |reply| format!("`{}`", reply.status_line()))
}

fn with_chain(judgement: Judgement, handshake: &HandshakeEvidence) -> Judgement {
    let line = |(at, certificate): (usize, &std::sync::Arc<crate::model::Certificate>)| {
        format!("certificate {at} of the chain: `{}`, issued by `{}`", certificate.subject, certificate.issuer)
    };
    handshake.chain.iter().enumerate().map(line).fold(judgement, Judgement::because)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::testing::{Walk, alert, chain, reply, trusted},
        model::{Code, FailureKind},
    };

    fn tunnel() -> Walk {
        Walk::proxied("acct.blob.core.windows.net:443").connected().tunnelled()
    }

    fn refused() -> Observation {
        let walk = Walk::proxied("acct.blob.core.windows.net:443").connected();
        walk.tunnel_refused(reply("HTTP/1.1 403 Forbidden\r\n\r\n")).0
    }

    fn fails(judgement: &Judgement, says: &str, code: Option<Code>) {
        assert_eq!((judgement.outcome, judgement.code), (Outcome::Fail, code), "{judgement:?}");
        assert!(judgement.summary.contains(says), "{judgement:?}");
    }

    #[test]
    fn the_origin_tells_its_own_certificate() {
        let unknown = || chain(&["Snapreach"], Verification::UnknownIssuer);
        let seen = || tunnel().tls(unknown()).answered(reply("HTTP/1.1 200 OK\r\n\r\n")).0;
        let echo = |certificate: Option<&str>| Echo { certificate: certificate.map(Into::into), ..Echo::default() };
        let own = unknown().chain[0].sha256.clone();
        assert_eq!(judge_origin(Some(&echo(Some(&own))), seen()).outcome, Outcome::Pass);
        for (echo, says) in [
            (Some(echo(Some("other"))), "ended on the way, by `O=Snapreach"),
            (Some(echo(None)), "spoken to without it"),
            (None, "is not the origin"),
        ] {
            let judgement = judge_origin(echo.as_ref(), seen());
            fails(&judgement, says, Some(codes::TLS_INTERCEPTED));
            assert_eq!(judgement.remedy, Some(Remedy::NoInspection));
            assert!(judgement.evidence.last().unwrap().starts_with("certificate 0 of the chain"));
        }
        let silent = tunnel().tls(unknown()).request_fails(FailureKind::TimedOut).0;
        fails(&judge_origin(None, silent), "behind it nobody answers", Some(codes::TLS_INTERCEPTED));
        let cut = tunnel().tls_fails(Leg::Origin, FailureKind::Closed, HandshakeEvidence::default()).0;
        fails(&judge_origin(None, cut), "does not pass", Some(codes::TUNNEL_CLOSED));
        assert_eq!(judge_origin(None, refused()).outcome, Outcome::NotRun);
    }

    #[test]
    fn storage_has_its_own_issuers() {
        let judge = |handshake| judge_storage(tunnel().tls(handshake).0);
        let genuine = judge(trusted());
        assert!(genuine.outcome == Outcome::Pass && genuine.evidence.len() == 2, "{genuine:?}");
        fails(&judge(chain(&["Contoso"], Verification::UnknownIssuer)), "by `O=Contoso", Some(codes::TLS_INTERCEPTED));
        let known =
            HandshakeEvidence { anchor: Some(TrustAnchor::System), ..chain(&["Contoso"], Verification::Trusted) };
        fails(&judge(known), "which this machine trusts", Some(codes::TLS_INTERCEPTED));
        let given = HandshakeEvidence { anchor: Some(TrustAnchor::Added), ..trusted() };
        fails(&judge(given), "which this machine trusts", Some(codes::TLS_INTERCEPTED));
        let expired = judge(chain(&["Microsoft Corporation"], Verification::Expired));
        fails(&expired, "does not verify", Some(codes::TLS_EXPIRED));
        assert_eq!(judge_storage(refused()).outcome, Outcome::NotRun);
    }

    #[test]
    fn only_names_of_storage_that_speak_tls_are_storages() {
        assert!(storage_endpoint("acct.blob.core.windows.net:443").is_some());
        assert!(storage_endpoint("md-x.z1.blob.storage.azure.net:8443").is_some());
        for other in ["acct.blob.core.windows.net:80", "login.example:443", "10.0.0.1:443", "nonsense"] {
            assert!(storage_endpoint(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_handshake_that_fails_says_how() {
        assert_eq!(judge_hello("it", tunnel().tls(trusted()).0).outcome, Outcome::Pass);
        let refused_version = judge_hello("it", tunnel().tls_fails(Leg::Origin, FailureKind::Alert, alert(70)).0);
        fails(&refused_version, "it does not pass", Some(codes::TLS_PROTOCOL_VERSION));
        assert_eq!(refused_version.evidence, ["TLS in the tunnel: a TLS alert"]);
        assert_eq!(judge_hello("it", refused()).outcome, Outcome::NotRun);
    }

    #[test]
    fn a_demand_for_tls_is_told_with_its_ports() {
        let way = |port, tls| Way { door: ([198, 18, 0, 7], port).into(), tls };
        assert_eq!(judge_demand(&[way(443, false)], None).outcome, Outcome::Pass);
        fails(&judge_demand(&[way(8443, false), way(443, true), way(443, true)], None), "to port 443", None);
        assert_eq!(judge_demand(&[], Some(Judgement::not_run("x"))).outcome, Outcome::NotRun);
    }
}
