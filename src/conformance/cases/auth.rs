//! Logins. Neither the agent nor the snapshot extension can send one, so the best login is none.

use crate::{
    conformance::{
        case::{Case, Judgement, Level, Remedy, Turn},
        rig::{Rig, Said, code, heard, placeholder, said},
    },
    exchange::{ECHO_PATH, Echo},
    http::Reply,
    model::Observation,
    probe::dialogue::{Ask, Seen},
};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "auth/none",
        level: Level::Must,
        reference: "neither agent nor extension can send a login",
        title: "A CONNECT without credentials opens a tunnel",
        turn: Turn::Together,
        run: |rig| Box::pin(none(rig)),
    },
    Case {
        id: "auth/basic",
        level: Level::Should,
        reference: "RFC 9110 section 11.7.2, RFC 7617",
        title: "The credentials of the proxy's URL are taken",
        turn: Turn::Together,
        run: |rig| Box::pin(basic(rig)),
    },
    Case {
        id: "auth/wrong",
        level: Level::Must,
        reference: "RFC 9110 section 15.5.8",
        title: "Wrong credentials are refused with 407",
        turn: Turn::Together,
        run: |rig| Box::pin(wrong(rig)),
    },
    Case {
        id: "auth/challenge",
        level: Level::Must,
        reference: "RFC 9110 sections 11.7.1 and 15.5.8",
        title: "The demand for a login is a 407 with Proxy-Authenticate",
        turn: Turn::Together,
        run: |rig| Box::pin(challenge(rig)),
    },
    Case {
        id: "auth/scheme",
        level: Level::Should,
        reference: "RFC 7617; Basic is what simple clients can do",
        title: "Basic is among the schemes that are offered",
        turn: Turn::Together,
        run: |rig| Box::pin(scheme(rig)),
    },
    Case {
        id: "auth/not-forwarded",
        level: Level::Must,
        reference: "RFC 9110 section 11.7.2",
        title: "The login for the proxy does not reach the origin of a plain request",
        turn: Turn::Together,
        run: |rig| Box::pin(not_forwarded(rig)),
    },
];

/// Credentials of nobody's: a wrong password for a real user may lock that user out.
const NOBODY: &str = "Proxy-Authorization: Basic c25hcHJlYWNoLW5vYm9keTpzbmFwcmVhY2g=\r\n";

/// The connection of a CONNECT without credentials, to the door of the best way or else to any.
async fn anonymous(rig: &Rig) -> Result<Observation, Judgement> {
    let way = rig.open.first().map(|way| way.door);
    let door = way.or_else(|| rig.places.of(crate::exchange::DoorKind::Serves).next());
    let Some(door) = door else { return Err(rig.missing(443)) };
    let mut dialogue = rig.caller.call(&rig.name(door)).await;
    dialogue.connect(&door.to_string(), Ask::Anonymous).await;
    Ok(dialogue.finish())
}

/// Why nothing can be said about the proxy's demand for a login; `None`: it demands one.
fn undemanded(seen: &Observation) -> Option<Judgement> {
    match said(seen) {
        Said::Login => None,
        Said::Opened => Some(Judgement::not_run("the proxy demands no login")),
        _ => Some(Judgement::not_run("no tunnel opens, and not for want of a login; connect/port-443 says why")),
    }
}

async fn none(rig: &Rig) -> Vec<Judgement> {
    let judgement = match anonymous(rig).await {
        Ok(seen) => judge_none(seen),
        Err(judgement) => judgement,
    };
    vec![judgement.reproduced(rig.printf(r"CONNECT ORIGIN:443 HTTP/1.1\r\nHost: ORIGIN:443\r\n\r\n"))]
}

fn judge_none(seen: Observation) -> Judgement {
    let judgement = match (said(&seen), undemanded(&seen)) {
        (Said::Opened, _) => Judgement::pass("a CONNECT without credentials opens a tunnel"),
        (Said::Login, _) => Judgement::fail("the proxy demands a login, and neither agent nor extension can send one")
            .because(heard(&seen))
            .code(code(&seen))
            .remedy(Remedy::NoLogin),
        (_, Some(open)) => open,
        (_, None) => Judgement::not_run("the proxy could not be asked"),
    };
    judgement.seen([seen])
}

async fn basic(rig: &Rig) -> Vec<Judgement> {
    if rig.caller.proxy().credentials.is_none() {
        return vec![Judgement::not_run("the proxy's URL has no credentials")];
    }
    let anonymous = match anonymous(rig).await {
        Ok(seen) => seen,
        Err(judgement) => return vec![judgement],
    };
    let door = rig.open.first().map(|way| way.door).or_else(|| rig.door(crate::exchange::DoorKind::Serves, None));
    let Some(door) = door else { return vec![rig.missing(443)] };
    vec![judge_basic(anonymous, rig.tunnel_to(door).await.finish()).reproduced(rig.curl("ORIGIN:443"))]
}

fn judge_basic(anonymous: Observation, seen: Observation) -> Judgement {
    let judgement = match (undemanded(&anonymous), said(&seen)) {
        (Some(open), _) => open,
        (None, Said::Login) => Judgement::fail("the credentials of the proxy's URL are refused")
            .because(heard(&seen))
            .code(code(&seen))
            .remedy(Remedy::NoLogin),
        (None, Said::Closed | Said::Silent | Said::Unasked) => {
            Judgement::fail("credentials get no answer").because(heard(&seen)).code(code(&seen)).remedy(Remedy::Replace)
        }
        (None, _) => Judgement::pass("the credentials of the proxy's URL are taken"),
    };
    judgement.seen([anonymous, seen])
}

async fn wrong(rig: &Rig) -> Vec<Judgement> {
    let anonymous = match anonymous(rig).await {
        Ok(seen) => seen,
        Err(judgement) => return vec![judgement],
    };
    let door = rig.open.first().map(|way| way.door).or_else(|| rig.door(crate::exchange::DoorKind::Serves, None));
    let Some(door) = door else { return vec![rig.missing(443)] };
    let request = format!("CONNECT {door} HTTP/1.1\r\nHost: {door}\r\n{NOBODY}\r\n");
    let mut dialogue = rig.caller.call(&rig.name(door)).await;
    dialogue.connect(&door.to_string(), Ask::Raw(request.as_bytes())).await;
    let printed = NOBODY.replace("\r\n", r"\r\n");
    let command = rig.printf(&format!(r"CONNECT ORIGIN:443 HTTP/1.1\r\nHost: ORIGIN:443\r\n{printed}\r\n"));
    vec![judge_wrong(anonymous, dialogue.finish()).reproduced(command)]
}

fn judge_wrong(anonymous: Observation, seen: Observation) -> Judgement {
    let judgement = match (undemanded(&anonymous), said(&seen), seen.reply().map(|reply| reply.status)) {
        (Some(open), ..) => open,
        (None, Said::Opened, _) => {
            Judgement::fail("wrong credentials open a tunnel").because(heard(&seen)).remedy(Remedy::Replace)
        }
        (None, _, Some(407)) => Judgement::pass("wrong credentials are refused with 407"),
        (None, Said::Failed, _) => {
            Judgement::fail("wrong credentials are let in").because(heard(&seen)).remedy(Remedy::Replace)
        }
        (None, _, Some(status)) => {
            Judgement::warn(format!("wrong credentials are refused, with {status} in place of 407"))
                .because(heard(&seen))
        }
        (None, _, None) => Judgement::warn("wrong credentials are refused without a word").because(heard(&seen)),
    };
    judgement.seen([anonymous, seen])
}

async fn challenge(rig: &Rig) -> Vec<Judgement> {
    let judgement = match anonymous(rig).await {
        Ok(seen) => judge_challenge(seen),
        Err(judgement) => judgement,
    };
    vec![judgement.reproduced(rig.printf(r"CONNECT ORIGIN:443 HTTP/1.1\r\nHost: ORIGIN:443\r\n\r\n"))]
}

fn judge_challenge(seen: Observation) -> Judgement {
    let judgement = match (undemanded(&seen), seen.reply()) {
        (Some(open), _) => open,
        (None, None) => Judgement::not_run("the proxy could not be asked"),
        (None, Some(reply)) if reply.status != 407 => {
            // A client that has a login for the proxy sends it after a 407 alone.
            Judgement::fail(format!("the proxy asks for a login with {}, as an origin does", reply.status))
                .because(heard(&seen))
                .code(code(&seen))
                .remedy(Remedy::Replace)
        }
        (None, Some(reply)) if reply.header("proxy-authenticate").is_none() => {
            Judgement::fail("the 407 has no Proxy-Authenticate, so no client knows how to log in")
                .because(heard(&seen))
                .code(code(&seen))
                .remedy(Remedy::OfferBasic)
        }
        (None, Some(_)) => Judgement::pass("the demand for a login is a 407 with Proxy-Authenticate"),
    };
    judgement.seen([seen])
}

async fn scheme(rig: &Rig) -> Vec<Judgement> {
    let judgement = match anonymous(rig).await {
        Ok(seen) => judge_scheme(seen),
        Err(judgement) => judgement,
    };
    vec![judgement.reproduced(rig.printf(r"CONNECT ORIGIN:443 HTTP/1.1\r\nHost: ORIGIN:443\r\n\r\n"))]
}

fn judge_scheme(seen: Observation) -> Judgement {
    let judgement = match (undemanded(&seen), seen.reply()) {
        (Some(open), _) => open,
        (None, None) => Judgement::not_run("the proxy could not be asked"),
        (None, Some(reply)) => {
            let offered = schemes(reply);
            let list = offered.join(", ");
            if offered.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic")) {
                Judgement::pass("Basic is among the schemes that are offered")
            } else if offered.is_empty() {
                Judgement::fail("no scheme is offered").because(heard(&seen)).remedy(Remedy::OfferBasic)
            } else {
                Judgement::fail("Basic is not among the schemes that are offered")
                    .because(format!("offered: {list}"))
                    .code(code(&seen))
                    .remedy(Remedy::OfferBasic)
            }
        }
    };
    judgement.seen([seen])
}

/// The schemes of all challenges (RFC 9110 section 11.3). A scheme is a word that neither `=` nor a comma follows; what
/// stands in quotes is none.
fn schemes(reply: &Reply) -> Vec<String> {
    let mut schemes = Vec::new();
    for value in ["proxy-authenticate", "www-authenticate"].iter().flat_map(|name| reply.headers_named(name)) {
        let unquoted: String = value.split('"').step_by(2).collect();
        for part in unquoted.split(',') {
            let mut words = part.split_ascii_whitespace();
            let Some(first) = words.next() else { continue };
            let is_token = first.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            if is_token && !words.next().is_some_and(|next| next.starts_with('=')) {
                schemes.push(first.to_owned());
            }
        }
    }
    schemes
}

async fn not_forwarded(rig: &Rig) -> Vec<Judgement> {
    let Some(door) = rig.plain_door() else { return vec![rig.missing(80)] };
    let demanded = rig.caller.proxy().credentials.is_some();
    // Who has credentials sends them anyway.
    let (answer, seen) = rig.plain(door, "GET", ECHO_PATH, if demanded { "" } else { NOBODY }, b"").await;
    let at = placeholder(door);
    let command = rig.curl_plain(&format!("--proxy-user USER:PASSWORD http://{at}{ECHO_PATH}"));
    vec![judge_not_forwarded(demanded, answer.as_ref(), seen).reproduced(command)]
}

/// A proxy may pass on what was not meant for it (RFC 9110 section 11.7.2): without a login of its own that is a pity.
fn judge_not_forwarded(demanded: bool, answer: Option<&(Reply, Vec<u8>)>, seen: Observation) -> Judgement {
    let echo = answer.and_then(|(_, body)| serde_json::from_slice::<Echo>(body).ok());
    let judgement = match echo.map(|echo| echo.header("proxy-authorization").next().is_some()) {
        None => Judgement::not_run("no plain request reaches the origin; connect/get-80 says why"),
        Some(false) => Judgement::pass("the login for the proxy does not reach the origin"),
        Some(true) if demanded => Judgement::fail("the login for the proxy is passed on to the origin")
            .because("`Proxy-Authorization` arrived there")
            .remedy(Remedy::Replace),
        Some(true) => Judgement::warn("a login that the proxy does not ask for is passed on to the origin")
            .because("`Proxy-Authorization` arrived there"),
    };
    judgement.seen([seen])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::testing::{Walk, reply},
        conformance::Outcome,
        model::{FailureKind, TunnelEvidence},
    };

    fn walk() -> Walk {
        Walk::proxied("the origin:443").connected()
    }

    fn answered(head: &str) -> Observation {
        walk().tunnel_refused(reply(&format!("HTTP/1.1 {head}\r\n\r\n"))).0
    }

    fn opened() -> Observation {
        walk().tunnelled().0
    }

    fn basic_demand() -> Observation {
        answered("407 x\r\nProxy-Authenticate: Basic realm=\"x\"")
    }

    #[test]
    fn a_login_is_what_no_agent_can_send() {
        assert_eq!(judge_none(opened()).outcome, Outcome::Pass);
        let demanded = judge_none(basic_demand());
        assert_eq!((demanded.outcome, demanded.remedy), (Outcome::Fail, Some(Remedy::NoLogin)));
        assert_eq!(demanded.code.map(|code| code.0), Some("proxy.auth_required"));
        assert_eq!(judge_none(answered("403 Forbidden")).outcome, Outcome::NotRun);
    }

    #[test]
    fn credentials_are_taken_refused_or_not_asked_for() {
        assert_eq!(judge_basic(basic_demand(), opened()).outcome, Outcome::Pass);
        // Let in, and then shut out for another reason.
        assert_eq!(judge_basic(basic_demand(), answered("403 Forbidden")).outcome, Outcome::Pass);
        assert_eq!(judge_basic(basic_demand(), basic_demand()).outcome, Outcome::Fail);
        assert_eq!(judge_basic(opened(), opened()).outcome, Outcome::NotRun);
    }

    #[test]
    fn wrong_credentials_are_refused_with_407() {
        let silent = walk().tunnel_fails(FailureKind::Closed, TunnelEvidence::default()).0;
        for (seen, outcome) in [
            (basic_demand(), Outcome::Pass),
            (answered("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"Tinyproxy\""), Outcome::Warn),
            (answered("403 Forbidden"), Outcome::Warn),
            (silent, Outcome::Warn),
            (opened(), Outcome::Fail),
            (answered("503 x\r\nX-Squid-Error: ERR_CONNECT_FAIL 111"), Outcome::Fail),
        ] {
            assert_eq!(judge_wrong(basic_demand(), seen).outcome, outcome);
        }
        assert_eq!(judge_wrong(opened(), opened()).outcome, Outcome::NotRun);
    }

    #[test]
    fn a_demand_says_how_to_log_in() {
        assert_eq!(judge_challenge(basic_demand()).outcome, Outcome::Pass);
        assert_eq!(judge_challenge(answered("407 x")).outcome, Outcome::Fail);
        let haproxy = answered("401 Unauthorized\r\nwww-authenticate: Basic realm=\"x\"");
        assert_eq!(judge_challenge(haproxy).outcome, Outcome::Fail);
        assert_eq!(judge_challenge(opened()).outcome, Outcome::NotRun);
    }

    #[test]
    fn schemes_are_told_from_their_parameters() {
        let of = |value: &str| schemes(&reply(&format!("HTTP/1.1 407 x\r\nProxy-Authenticate: {value}\r\n\r\n")));
        assert_eq!(of("Basic realm=\"a, Digest b\""), ["Basic"]);
        assert_eq!(of("Digest realm=\"x\", nonce=\"y\", qop=\"auth\", Basic realm=\"z\""), ["Digest", "Basic"]);
        assert_eq!(of("Negotiate, NTLM"), ["Negotiate", "NTLM"]);
        assert_eq!(of("Digest realm = \"x\", nonce = \"y\""), ["Digest"]);
        assert_eq!(of(""), [""; 0]);
        assert_eq!(judge_scheme(basic_demand()).outcome, Outcome::Pass);
        let others = judge_scheme(answered("407 x\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: NTLM"));
        assert_eq!((others.outcome, others.evidence), (Outcome::Fail, vec!["offered: Negotiate, NTLM".to_owned()]));
        assert_eq!(judge_scheme(answered("407 x")).outcome, Outcome::Fail);
    }

    #[test]
    fn the_login_stays_with_the_proxy() {
        let judge = |demanded, headers: &str| {
            let answer = (reply("HTTP/1.1 200 OK\r\n\r\n"), format!("{{\"headers\":[{headers}]}}").into_bytes());
            judge_not_forwarded(demanded, Some(&answer), walk().0).outcome
        };
        let arrived = "[\"proxy-authorization\",\"(present)\"]";
        assert_eq!(judge(true, "[\"Host\",\"x\"]"), Outcome::Pass);
        assert_eq!(judge(true, arrived), Outcome::Fail);
        assert_eq!(judge(false, arrived), Outcome::Warn);
        assert_eq!(judge_not_forwarded(true, None, walk().0).outcome, Outcome::NotRun);
    }
}
