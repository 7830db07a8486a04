//! Endpoints that cannot be reached: whether the proxy says so, in time, and why.

use std::time::Duration;

use crate::{
    classify::{self, codes as c},
    conformance::{
        case::{Case, Judgement, Level, Remedy, Turn, Unit},
        rig::{Rig, Said, code, heard, page_inside, placeholder, said},
    },
    exchange::{BAD_CERTIFICATE, DoorKind, ECHO_PATH, Echo, Exchange},
    http::Reply,
    model::{Code, FailureKind, Host, Layer, Observation, Verification},
    probe::dialogue::{Ask, Hello, Seen},
};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "errors/unresolvable",
        level: Level::Should,
        reference: "RFC 9110 section 15.6.3, RFC 9209 section 2.3.2",
        title: "A name that does not exist is told as such",
        turn: Turn::Together,
        run: |rig| Box::pin(unresolvable(rig)),
    },
    Case {
        id: "errors/refused",
        level: Level::Should,
        reference: "RFC 9110 section 15.6.3, RFC 9209 section 2.3.7",
        title: "An endpoint that refuses connections is told as such",
        turn: Turn::Together,
        run: |rig| Box::pin(beyond(rig, DoorKind::Refuses, REFUSED)),
    },
    Case {
        id: "errors/silent",
        level: Level::Should,
        reference: "RFC 9110 section 15.6.5, RFC 9209 section 2.3.9",
        title: "An endpoint that does not answer is told as such, before clients lose patience",
        turn: Turn::Together,
        run: |rig| Box::pin(beyond(rig, DoorKind::Silent, SILENT)),
    },
    Case {
        id: "errors/reset",
        level: Level::Should,
        reference: "RFC 9209 section 2.3.8",
        title: "An endpoint that resets at once ends the tunnel, or is told as such",
        turn: Turn::Together,
        run: |rig| Box::pin(reset(rig)),
    },
    Case {
        id: "errors/certificate",
        level: Level::Should,
        reference: "RFC 9110 section 9.3.6, RFC 9209 section 2.3.14",
        title: "A bad certificate of the endpoint is seen or told, not replaced by a good one",
        turn: Turn::Together,
        run: |rig| Box::pin(certificate(rig)),
    },
];

/// An endpoint that cannot be reached for one reason.
#[derive(Debug, Clone, Copy)]
struct Trouble {
    /// What is wrong with it, behind "an endpoint that".
    words: &'static str,
    /// The codes that say so.
    right: &'static [Code],
    /// Codes that say it less exactly.
    near: &'static [Code],
}

const UNRESOLVABLE: Trouble = Trouble {
    words: "has no address",
    right: &[c::DNS_NXDOMAIN, c::DNS_NODATA, c::DNS_RCODE],
    // What name servers make of it is not the proxy's doing.
    near: &[c::DNS_SERVFAIL, c::DNS_REFUSED, c::DNS_TIMEOUT, c::PROXY_GATEWAY_ERROR],
};

const REFUSED: Trouble = Trouble {
    words: "refuses connections",
    right: &[c::TCP_REFUSED],
    near: &[c::TCP_UNREACHABLE, c::PROXY_GATEWAY_ERROR],
};

const SILENT: Trouble = Trouble {
    words: "does not answer",
    right: &[c::TCP_CONNECT_TIMEOUT],
    near: &[c::TCP_UNREACHABLE, c::PROXY_GATEWAY_ERROR],
};

const RESETS: Trouble =
    Trouble { words: "resets at once", right: &[c::TCP_RESET], near: &[c::TCP_REFUSED, c::PROXY_GATEWAY_ERROR] };

/// A name that exists nowhere (RFC 6761 section 6.4).
const NOWHERE: &str = "no-such-host.snapreach.invalid";

async fn unresolvable(rig: &Rig) -> Vec<Judgement> {
    let port = rig.open.first().map_or(443, |way| way.door.port());
    let mut dialogue = rig.caller.call("a name that does not exist").await;
    dialogue.connect(&format!("{NOWHERE}:{port}"), Ask::Usual { along: &[] }).await;
    let page = page_inside(&mut dialogue, &Host::Name(NOWHERE.into())).await;
    let judgement = judge(UNRESOLVABLE, rig.caller.patience(), page.as_ref(), dialogue.finish());
    vec![judgement.reproduced(rig.curl(&format!("{NOWHERE}:443")))]
}

async fn beyond(rig: &Rig, kind: DoorKind, trouble: Trouble) -> Vec<Judgement> {
    let Some(door) = rig.door(kind, None) else { return vec![no_door(rig, trouble)] };
    let mut dialogue = rig.tunnel_to(door).await;
    let page = page_inside(&mut dialogue, &Host::Ip(door.ip())).await;
    let judgement = judge(trouble, rig.caller.patience(), page.as_ref(), dialogue.finish());
    vec![judgement.reproduced(rig.curl(&placeholder(door)))]
}

fn no_door(rig: &Rig, trouble: Trouble) -> Judgement {
    if rig.places.doors.is_empty() {
        return rig.missing(443);
    }
    Judgement::not_run(format!("the origin has no address that {}", trouble.words))
}

/// `page`: what the proxy said inside TLS, where it opens everything in order to say so.
fn judge(trouble: Trouble, patience: Duration, page: Option<&Reply>, seen: Observation) -> Judgement {
    let Trouble { words, right, near } = trouble;
    let told = code(&seen);
    let has = |codes: &[Code]| told.is_some_and(|told| codes.contains(&told));
    let judgement = match said(&seen) {
        Said::Denied | Said::Rejected if !has(right) => {
            Judgement::not_run("the proxy's rules shut what would be tried, so no error shows").because(heard(&seen))
        }
        Said::Login => Judgement::not_run("the proxy wants a login first, so no error shows"),
        Said::Unasked => Judgement::not_run("the proxy could not be asked").because(heard(&seen)),
        Said::Opened if page.is_some() => {
            Judgement::warn(format!("the proxy opens a tunnel to an endpoint that {words}, and reports it inside TLS"))
                .because(page.map(|page| format!("it answered `{}` there", page.status_line())).unwrap_or_default())
                .code(page.map(classify::answer))
                .remedy(Remedy::NoInspection)
        }
        Said::Opened => Judgement::fail(format!("the proxy says that a tunnel stands, to an endpoint that {words}"))
            .because(heard(&seen))
            .code(Some(c::PROXY_OPTIMISTIC_CONNECT))
            .remedy(Remedy::TellReasons),
        Said::Silent => Judgement::fail(format!("the proxy says nothing in time about an endpoint that {words}"))
            .because(heard(&seen))
            .code(told)
            .remedy(Remedy::ConnectTimeout { seconds: patience.as_secs().max(1) }),
        Said::Closed => Judgement::fail(format!("the connection ends without a word about an endpoint that {words}"))
            .because(heard(&seen))
            .code(told)
            .remedy(Remedy::TellReasons),
        _ if has(right) => Judgement::pass(format!("the proxy says that the endpoint {words}")).code(told),
        _ if has(near) => Judgement::warn(format!("the proxy reports an error, and not that the endpoint {words}"))
            .because(heard(&seen))
            .code(told)
            .remedy(Remedy::TellReasons),
        Said::Failed => Judgement::fail(format!("the proxy names another reason than that the endpoint {words}"))
            .because(heard(&seen))
            .code(told)
            .remedy(Remedy::TellReasons),
        Said::Denied | Said::Rejected | Said::Odd => {
            Judgement::warn(format!("the proxy's answer does not say that the endpoint {words}"))
                .because(heard(&seen))
                .code(told)
                .remedy(Remedy::TellReasons)
        }
    };
    let ms = seen.tunnel_ms();
    let judgement = judgement.seen([seen]);
    match ms {
        Some(ms) => judgement.figure("answer", ms, Unit::Ms),
        None => judgement,
    }
}

async fn reset(rig: &Rig) -> Vec<Judgement> {
    let Some(door) = rig.door(DoorKind::Resets, None) else { return vec![no_door(rig, RESETS)] };
    if let Err(judgement) = rig.way() {
        return vec![judgement];
    }
    let mut dialogue = rig.tunnel_to(door).await;
    dialogue.exchange(Exchange::Integrity { bytes: 1 }, rig.seed(), 0).await;
    let judgement = judge_reset(rig.caller.patience(), dialogue.finish());
    vec![judgement.reproduced(rig.curl(&placeholder(door)))]
}

/// Whether the reset comes before or after the 200 is a race in every proxy, so both ways of telling it are one.
fn judge_reset(patience: Duration, seen: Observation) -> Judgement {
    const TOLD: &str = "the client learns at once that the endpoint ended the connection";
    match (said(&seen), seen.failure()) {
        (Said::Opened, Some((_, _, FailureKind::Closed | FailureKind::Reset | FailureKind::Truncated))) => {
            Judgement::pass(TOLD).seen([seen])
        }
        (Said::Failed, _) if code(&seen) == Some(c::TCP_RESET) => Judgement::pass(TOLD).seen([seen]),
        (Said::Opened, _) => Judgement::fail("the tunnel stays, to an endpoint that ended it")
            .because(heard(&seen))
            .code(code(&seen))
            .remedy(Remedy::Replace)
            .seen([seen]),
        _ => judge(RESETS, patience, None, seen),
    }
}

async fn certificate(rig: &Rig) -> Vec<Judgement> {
    // Who ends TLS himself leads no way to the origin, and is whom this is about.
    let opened = rig.surveyed.iter().find(|surveyed| said(&surveyed.observation) == Said::Opened);
    let door = match (rig.way(), opened) {
        (Ok(way), _) => way.door,
        (Err(_), Some(surveyed)) => surveyed.door,
        (Err(judgement), None) => return vec![judgement],
    };
    let mut dialogue = rig.tunnel_to(door).await;
    dialogue.tls(&Host::Name(BAD_CERTIFICATE.into()), Hello::default()).await;
    let request = format!("GET {ECHO_PATH} HTTP/1.1\r\nHost: {BAD_CERTIFICATE}\r\nConnection: close\r\n\r\n");
    let answer = dialogue.http("GET", request.as_bytes()).await;
    let command = rig.curl_plain(&format!(
        "--insecure --connect-to {BAD_CERTIFICATE}:443:ORIGIN:443 https://{BAD_CERTIFICATE}{ECHO_PATH}"
    ));
    vec![judge_certificate(answer, dialogue.finish()).reproduced(command)]
}

/// The origin says in its echo which certificate it presented.
fn judge_certificate(answer: Option<(Reply, Vec<u8>)>, seen: Observation) -> Judgement {
    let Some(handshake) = seen.handshake() else {
        return Judgement::not_run("no tunnel to the origin opens at this moment").because(heard(&seen)).seen([seen]);
    };
    let leaf = handshake.chain.first();
    let echo = answer.as_ref().and_then(|(_, body)| serde_json::from_slice::<Echo>(body).ok());
    let is_own = |echo: &Echo| leaf.is_some_and(|leaf| echo.certificate.as_ref() == Some(&leaf.sha256));
    let is_bad = handshake.verification == Some(Verification::Expired);
    let judgement = match (echo, answer) {
        (Some(echo), _) if is_own(&echo) => Judgement::pass("the endpoint's bad certificate arrives as it is"),
        (Some(_), _) if is_bad => {
            Judgement::warn("in the place of a bad certificate the proxy puts one of its own, as bad as that")
                .remedy(Remedy::NoInspection)
        }
        (Some(_), _) => {
            Judgement::fail("the proxy hides a bad certificate behind one of its own").remedy(Remedy::NoInspection)
        }
        (None, Some((reply, _))) => judge_page(&reply),
        (None, None) if leaf.is_some() && is_bad => Judgement::pass("the endpoint's bad certificate arrives"),
        (None, None) => match seen.failure() {
            Some((Layer::Handshake, _, FailureKind::Alert)) => {
                Judgement::warn("the proxy ends the handshake with an alert, and says no more")
                    .remedy(Remedy::TellReasons)
            }
            _ => Judgement::fail("with a bad certificate beyond, the proxy ends the session without a word")
                .because(heard(&seen))
                .code(code(&seen))
                .remedy(Remedy::TellReasons),
        },
    };
    let issuer = leaf.map(|leaf| format!("the certificate's issuer is `{}`", leaf.issuer));
    let judgement = match issuer {
        Some(issuer) => judgement.because(issuer),
        None => judgement,
    };
    judgement.seen([seen])
}

/// A page inside TLS that is not the origin's.
fn judge_page(reply: &Reply) -> Judgement {
    let code = classify::answer(reply);
    let judgement = if code.0.starts_with("tls.") {
        Judgement::pass("the proxy says that the endpoint's certificate is bad")
    } else {
        Judgement::warn("the proxy reports an error, and not that it is the certificate").remedy(Remedy::TellReasons)
    };
    judgement.because(format!("the proxy answered `{}`", reply.status_line())).code(Some(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::testing::{Walk, alert, certificate, chain, reply, trusted},
        conformance::Outcome,
        model::{HandshakeEvidence, Leg, TunnelEvidence},
    };

    const PATIENCE: Duration = Duration::from_secs(10);

    fn walk() -> Walk {
        Walk::proxied("an address:443").connected()
    }

    fn squid(status: u16, error: &str) -> Observation {
        walk().tunnel_refused(reply(&format!("HTTP/1.1 {status} x\r\nX-Squid-Error: {error}\r\n\r\n"))).0
    }

    fn status(error: &str) -> Observation {
        walk().tunnel_refused(reply(&format!("HTTP/1.1 502 x\r\nProxy-Status: p; error={error}\r\n\r\n"))).0
    }

    fn fails(kind: FailureKind) -> Observation {
        walk().tunnel_fails(kind, TunnelEvidence::default()).0
    }

    #[test]
    fn a_reason_is_told_hidden_or_wrong() {
        let tinyproxy =
            || walk().tunnel_refused(reply("HTTP/1.1 500 Unable to connect\r\nServer: tinyproxy/1.11.1\r\n\r\n")).0;
        let privoxy = walk().tunnel_refused(reply("HTTP/1.1 404 No such domain\r\n\r\n")).0;
        for (trouble, seen, outcome) in [
            (UNRESOLVABLE, status("dns_error; rcode=\"NXDOMAIN\""), Outcome::Pass),
            (UNRESOLVABLE, status("dns_error"), Outcome::Pass),
            (UNRESOLVABLE, privoxy, Outcome::Pass),
            (UNRESOLVABLE, status("dns_timeout"), Outcome::Warn),
            (UNRESOLVABLE, squid(500, "ERR_CANNOT_FORWARD 0"), Outcome::Warn),
            (UNRESOLVABLE, tinyproxy(), Outcome::Warn),
            (UNRESOLVABLE, squid(503, "ERR_CONNECT_FAIL 111"), Outcome::Fail),
            (REFUSED, squid(503, "ERR_CONNECT_FAIL 111"), Outcome::Pass),
            (REFUSED, status("connection_refused"), Outcome::Pass),
            (REFUSED, tinyproxy(), Outcome::Warn),
            (REFUSED, squid(503, "ERR_CONNECT_FAIL 113"), Outcome::Warn),
            (REFUSED, status("dns_error"), Outcome::Fail),
            (REFUSED, walk().tunnelled().0, Outcome::Fail),
            (REFUSED, fails(FailureKind::Closed), Outcome::Fail),
            (REFUSED, squid(403, "ERR_ACCESS_DENIED 0"), Outcome::NotRun),
            (REFUSED, squid(407, "ERR_CACHE_ACCESS_DENIED 0"), Outcome::NotRun),
            (SILENT, squid(503, "ERR_CONNECT_FAIL 110"), Outcome::Pass),
            (SILENT, status("connection_timeout"), Outcome::Pass),
            (SILENT, tinyproxy(), Outcome::Warn),
            (SILENT, status("connection_refused"), Outcome::Fail),
            (SILENT, fails(FailureKind::TimedOut), Outcome::Fail),
        ] {
            let judgement = judge(trouble, PATIENCE, None, seen);
            assert_eq!(judgement.outcome, outcome, "{}: {:?}", judgement.summary, judgement.evidence);
        }
        let page = reply("HTTP/1.1 503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\n");
        let inside = judge(REFUSED, PATIENCE, Some(&page), walk().tunnelled().0);
        assert_eq!((inside.outcome, inside.code), (Outcome::Warn, Some(c::TCP_REFUSED)));
        let silent = judge(SILENT, PATIENCE, None, fails(FailureKind::TimedOut));
        assert_eq!(silent.remedy, Some(Remedy::ConnectTimeout { seconds: 10 }));
    }

    #[test]
    fn both_ways_of_telling_a_reset_are_one() {
        let after = |kind| {
            let exchange = Exchange::Integrity { bytes: 1 };
            judge_reset(PATIENCE, walk().tunnelled().exchanged(exchange, Some(kind), |_| ()).0)
        };
        let before = judge_reset(PATIENCE, squid(503, "ERR_CONNECT_FAIL 104"));
        for told in [after(FailureKind::Closed), after(FailureKind::Reset), before] {
            let first = after(FailureKind::Closed);
            assert_eq!((told.outcome, told.summary, told.evidence), (Outcome::Pass, first.summary, first.evidence));
        }
        assert_eq!(after(FailureKind::TimedOut).outcome, Outcome::Fail);
        assert_eq!(judge_reset(PATIENCE, squid(503, "ERR_CONNECT_FAIL 111")).outcome, Outcome::Warn);
    }

    #[test]
    fn a_bad_certificate_is_seen_told_or_hidden() {
        let bad = || chain(&["Nobody"], Verification::Expired);
        let echo = |certificate: Option<&str>| {
            let echo = Echo { certificate: certificate.map(ToOwned::to_owned), ..Echo::default() };
            Some((reply("HTTP/1.1 200 OK\r\n\r\n"), serde_json::to_vec(&echo).unwrap()))
        };
        let page = |head: &str| Some((reply(&format!("HTTP/1.1 {head}\r\n\r\n")), Vec::new()));
        let judge =
            |handshake: HandshakeEvidence, answer| judge_certificate(answer, walk().tunnelled().tls(handshake).0);
        let own = certificate("Nobody").sha256;
        for (handshake, answer, outcome) in [
            (bad(), echo(Some(&own)), Outcome::Pass),
            (bad(), echo(Some("another")), Outcome::Warn),
            (trusted(), echo(Some("another")), Outcome::Fail),
            (trusted(), echo(None), Outcome::Fail),
            (chain(&["Example Corp"], Verification::UnknownIssuer), echo(Some("another")), Outcome::Fail),
            (trusted(), page("503 x\r\nX-Squid-Error: ERR_SECURE_CONNECT_FAIL 0"), Outcome::Pass),
            (trusted(), page("502 x\r\nProxy-Status: p; error=tls_certificate_error"), Outcome::Pass),
            (trusted(), page("502 Bad Gateway"), Outcome::Warn),
            (trusted(), None, Outcome::Fail),
        ] {
            let judgement = judge(handshake, answer);
            assert_eq!(judgement.outcome, outcome, "{}", judgement.summary);
        }
        let cut = |kind, evidence| judge_certificate(None, walk().tunnelled().tls_fails(Leg::Origin, kind, evidence).0);
        assert_eq!(cut(FailureKind::Alert, alert(42)).outcome, Outcome::Warn);
        assert_eq!(cut(FailureKind::Closed, HandshakeEvidence::default()).outcome, Outcome::Fail);
        assert_eq!(judge_certificate(None, squid(403, "ERR_ACCESS_DENIED 0")).outcome, Outcome::NotRun);
    }
}
