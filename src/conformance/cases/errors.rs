//! Endpoints that cannot be reached: whether the proxy says so, in time, and why.

use std::time::Duration;

use crate::{
    classify::{self, codes as c},
    conformance::{
        case::{Case, Judgement, Level, Remedy, Turn, Unit},
        rig::{Rig, Said, code, heard, said, said_by},
    },
    exchange::{BAD_CERTIFICATE, DoorKind, ECHO_PATH, Echo, Exchange},
    http::Reply,
    model::{Code, FailureKind, Host, Observation, Verification},
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
    let judgement = judge(UNRESOLVABLE, rig.caller.patience(), dialogue.finish());
    vec![judgement.reproduced(rig.curl(&format!("{NOWHERE}:443")))]
}

async fn beyond(rig: &Rig, kind: DoorKind, trouble: Trouble) -> Vec<Judgement> {
    let Some(door) = rig.door(kind, None) else { return vec![no_door(rig, trouble)] };
    let dialogue = rig.tunnel_to(door).await;
    let judgement = judge(trouble, rig.caller.patience(), dialogue.finish());
    vec![judgement.reproduced(rig.curl(&rig.placeholder(door)))]
}

fn no_door(rig: &Rig, trouble: Trouble) -> Judgement {
    match rig.places.doors.is_empty() {
        true => rig.missing(443),
        false => Judgement::not_run(format!("the origin has no address that {}", trouble.words)),
    }
}

fn judge(trouble: Trouble, patience: Duration, seen: Observation) -> Judgement {
    let Trouble { words, right, near } = trouble;
    let told = code(&seen);
    let has = |codes: &[Code]| told.is_some_and(|told| codes.contains(&told));
    let judgement = match said(&seen) {
        Said::Denied | Said::Rejected if !has(right) => {
            Judgement::not_run("the proxy's rules shut what would be tried, so no error shows").because(heard(&seen))
        }
        Said::Login => Judgement::not_run("the proxy wants a login first, so no error shows"),
        Said::Unasked => Judgement::not_run("the proxy could not be asked").because(heard(&seen)),
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
    let mut dialogue = rig.tunnel_to(door).await;
    dialogue.exchange(Exchange::Integrity { bytes: 1 }, rig.seed(), 0).await;
    let judgement = judge_reset(rig.caller.patience(), dialogue.finish());
    vec![judgement.reproduced(rig.curl(&rig.placeholder(door)))]
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
        _ => judge(RESETS, patience, seen),
    }
}

async fn certificate(rig: &Rig) -> Vec<Judgement> {
    let way = match rig.way() {
        Ok(way) => way,
        Err(judgement) => return vec![judgement],
    };
    let mut dialogue = rig.tunnel_to(way.door).await;
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
    let own = answer.as_ref().and_then(|(_, body)| serde_json::from_slice::<Echo>(body).ok()?.certificate);
    let refusal = answer.as_ref().map(|(reply, _)| reply).filter(|reply| !reply.is_success());
    let issuer = leaf.map(|leaf| format!("the certificate's issuer is `{}`", leaf.issuer));
    let judgement = match (leaf, own, refusal) {
        (Some(leaf), Some(own), _) if leaf.sha256 == own => {
            Judgement::pass("the endpoint's bad certificate arrives as it is")
        }
        (Some(_), Some(_), _) if handshake.verification == Some(Verification::Expired) => {
            Judgement::warn("the proxy puts a certificate of its own in the place of a bad one, as bad as that")
                .remedy(Remedy::NoInspection)
        }
        (Some(_), _, Some(reply)) => match classify::answer(reply) {
            code @ Code(name) if name.starts_with("tls.") => {
                Judgement::pass("the proxy says that the endpoint's certificate is bad").code(Some(code))
            }
            code => {
                let judgement = Judgement::warn("the proxy reports an error, and not that it is the certificate");
                let judgement = judgement.because(format!("the proxy answered `{}`", reply.status_line()));
                let remedy = if said_by(reply) == Said::Denied { Remedy::NoInspection } else { Remedy::TellReasons };
                judgement.code(Some(code)).remedy(remedy)
            }
        },
        (Some(_), Some(_), None) => {
            Judgement::fail("the proxy hides a bad certificate behind one of its own").remedy(Remedy::NoInspection)
        }
        (Some(_), None, None) if handshake.verification == Some(Verification::Expired) => {
            Judgement::pass("the endpoint's bad certificate arrives")
        }
        (Some(_), None, None) => {
            Judgement::fail("with a bad certificate beyond, the proxy ends the session without a word")
                .because(heard(&seen))
                .remedy(Remedy::TellReasons)
        }
        (None, ..) => match seen.failure() {
            Some((_, _, FailureKind::Alert)) => {
                Judgement::warn("the proxy ends the handshake with an alert").remedy(Remedy::TellReasons)
            }
            _ => Judgement::fail("no handshake comes about with an endpoint whose certificate is bad")
                .because(heard(&seen))
                .code(code(&seen))
                .remedy(Remedy::NoInspection),
        },
    };
    let judgement = match issuer {
        Some(issuer) => judgement.because(issuer),
        None => judgement,
    };
    judgement.seen([seen])
}
