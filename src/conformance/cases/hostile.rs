//! Requests that no honest client sends: the proxy may do with them what it likes, as long as it serves afterwards.

use std::{iter, net::SocketAddr, time::Duration};

use crate::{
    conformance::{
        case::{Case, Judgement, Level, Remedy, Turn},
        rig::{Rig, Way, code, heard, placeholder},
    },
    exchange::{ECHO_PATH, Echo},
    http::Reply,
    model::Observation,
    probe::dialogue::{Dialogue, End, Reaction, Seen},
};

/// A proxy that says nothing for so long after the last byte waits for more.
const SILENCE: Duration = Duration::from_secs(1);

/// Half requests held open at once.
const HALVES: usize = 8;

/// So much header no client has.
const HUGE: usize = 1 << 20;

/// So many header lines no client has.
const MANY: usize = 5000;

/// What no backup meets is no `must`: plain requests, and ports that nobody asks for. Products that serve backups well fail
/// these, and no setting mends that.
pub(super) const CASES: &[Case] = &[
    Case {
        id: "hostile/huge-header",
        level: Level::Must,
        reference: "RFC 6585 section 5, RFC 9110 section 5.4",
        title: "A header of 1 MiB is refused, and the proxy serves afterwards",
        turn: Turn::Alone,
        run: |rig| Box::pin(attack(rig, HUGE_HEADER)),
    },
    Case {
        id: "hostile/many-headers",
        level: Level::Must,
        reference: "RFC 6585 section 5, RFC 9110 section 5.4",
        title: "A request of 5000 header lines is answered or refused, and the proxy serves afterwards",
        turn: Turn::Alone,
        run: |rig| Box::pin(attack(rig, MANY_HEADERS)),
    },
    Case {
        id: "hostile/malformed-request",
        level: Level::Must,
        reference: "RFC 9112 section 3",
        title: "A request line without a target is refused, and the proxy serves afterwards",
        turn: Turn::Alone,
        run: |rig| Box::pin(attack(rig, MALFORMED)),
    },
    Case {
        id: "hostile/binary",
        level: Level::Must,
        reference: "RFC 9112 section 2.2",
        title: "Bytes that are no HTTP open nothing, and the proxy serves afterwards",
        turn: Turn::Alone,
        run: |rig| Box::pin(attack(rig, BINARY)),
    },
    Case {
        id: "hostile/bad-port",
        level: Level::Should,
        reference: "RFC 9110 section 9.3.6",
        title: "CONNECT to a port above 65535 is refused, and the proxy serves afterwards",
        turn: Turn::Alone,
        run: |rig| Box::pin(attack(rig, BAD_PORT)),
    },
    Case {
        id: "hostile/half-request",
        level: Level::May,
        reference: "RFC 9112 section 9.5: a server may time out, and should serve others meanwhile",
        title: "Requests that never end hold up no others",
        turn: Turn::Alone,
        run: |rig| Box::pin(halves(rig)),
    },
    Case {
        id: "hostile/smuggling",
        level: Level::Should,
        reference: "RFC 9112 sections 6.1 and 11.2",
        title: "A request with Content-Length and Transfer-Encoding is refused, or passed on as one",
        turn: Turn::Alone,
        run: |rig| Box::pin(smuggling(rig)),
    },
    Case {
        id: "hostile/header-injection",
        level: Level::Should,
        reference: "RFC 9110 section 5.5, RFC 9112 section 5.2",
        title: "Bare CR, NUL and folded lines in a header are refused or replaced",
        turn: Turn::Alone,
        run: |rig| Box::pin(injection(rig)),
    },
];

/// A request that deserves a refusal, and a tunnel in no case.
#[derive(Clone, Copy)]
struct Attack {
    /// In words, as the subject of a sentence.
    words: &'static str,
    /// The request for a tunnel to a door.
    request: fn(&str) -> Vec<u8>,
    /// The same in the notation of printf, or the closest that fits in a line.
    printed: &'static str,
    /// What it means that a tunnel opens all the same.
    opened: Opened,
    /// What it means that no answer comes.
    unanswered: Opened,
}

/// What something means that does no harm by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opened {
    /// That is fine.
    Fine,
    /// It may come to harm.
    Doubtful,
    /// It should not be.
    Wrong,
}

const HUGE_HEADER: Attack = Attack {
    words: "a header of 1 MiB",
    request: |door| {
        let mut request = format!("CONNECT {door} HTTP/1.1\r\nHost: {door}\r\nX-Padding: ").into_bytes();
        request.extend(iter::repeat_n(b'a', HUGE));
        request.extend_from_slice(b"\r\n\r\n");
        request
    },
    printed: r"CONNECT ORIGIN:443 HTTP/1.1\r\nHost: ORIGIN:443\r\nX-Padding: %01048576d\r\n\r\n",
    opened: Opened::Doubtful,
    unanswered: Opened::Wrong,
};

const MANY_HEADERS: Attack = Attack {
    words: "a request of 5000 header lines",
    request: |door| {
        let lines = "X-Many: a\r\n".repeat(MANY);
        format!("CONNECT {door} HTTP/1.1\r\nHost: {door}\r\n{lines}\r\n").into_bytes()
    },
    printed: r"CONNECT ORIGIN:443 HTTP/1.1\r\nHost: ORIGIN:443\r\nX-Many: a\r\nX-Many: a\r\n\r\n",
    opened: Opened::Fine,
    unanswered: Opened::Wrong,
};

const MALFORMED: Attack = Attack {
    words: "a request line without a target",
    request: |_| b"CONNECT\r\n\r\n".to_vec(),
    printed: r"CONNECT\r\n\r\n",
    opened: Opened::Wrong,
    unanswered: Opened::Doubtful,
};

const BINARY: Attack = Attack {
    words: "a request of bytes that are no HTTP",
    request: |_| (0..=255).chain(*b"\r\n\r\n").collect(),
    printed: r"\000\001\002\003\377\376\r\n\r\n",
    opened: Opened::Wrong,
    unanswered: Opened::Fine,
};

const BAD_PORT: Attack = Attack {
    words: "CONNECT to a port above 65535",
    // Who keeps 16 bits alone is led to the door.
    request: |door| {
        let (host, port) = door.rsplit_once(':').unwrap_or((door, "443"));
        let target = format!("{host}:{}", (1 << 16) + port.parse().unwrap_or(443));
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").into_bytes()
    },
    printed: r"CONNECT ORIGIN:65979 HTTP/1.1\r\nHost: ORIGIN:65979\r\n\r\n",
    opened: Opened::Wrong,
    unanswered: Opened::Wrong,
};

/// What the proxy does with an ordinary CONNECT, by which it shows that it still serves.
#[derive(Clone, Copy)]
struct Usual {
    door: SocketAddr,
    /// How the tunnel to the door is used; `None`: the proxy opens none, and an answer must do.
    way: Option<Way>,
}

impl Usual {
    /// As the survey has shown it.
    fn of(rig: &Rig) -> Result<Self, Box<Judgement>> {
        let answered = rig.surveyed.iter().find(|surveyed| surveyed.observation.reply().is_some());
        match (rig.way(), answered) {
            (Ok(way), _) => Ok(Self { door: way.door, way: Some(way) }),
            (Err(_), Some(surveyed)) => Ok(Self { door: surveyed.door, way: None }),
            (Err(judgement), None) => Err(Box::new(judgement)),
        }
    }
}

/// What is left of the service after, or in spite of, something.
struct Aftermath {
    serves: bool,
    seen: Observation,
}

impl Aftermath {
    async fn of(rig: &Rig, Usual { door, way }: Usual) -> Self {
        let mut dialogue = rig.tunnel_to(door).await;
        let proved = match way {
            Some(way) => rig.prove(&mut dialogue, way).await,
            None => false,
        };
        let seen = dialogue.finish();
        Self { serves: proved || way.is_none() && seen.reply().is_some(), seen }
    }

    /// What is said, unless the proxy serves no more: then that is worse.
    fn weigh(self, after: &str, judgement: Judgement) -> Judgement {
        if self.serves {
            return judgement;
        }
        Judgement::fail(format!("{after} the proxy serves no more"))
            .because(heard(&self.seen))
            .code(code(&self.seen))
            .remedy(Remedy::Replace)
            .seen([self.seen])
    }
}

async fn attack(rig: &Rig, attack: Attack) -> Vec<Judgement> {
    let usual = match Usual::of(rig) {
        Ok(usual) => usual,
        Err(judgement) => return vec![*judgement],
    };
    let mut dialogue = rig.caller.call(attack.words).await;
    let request = (attack.request)(&usual.door.to_string());
    let reaction = dialogue.provoke(attack.words, &with_login(&dialogue, request), SILENCE, false).await;
    let judgement = judge_attack(&attack, &reaction).seen([dialogue.finish()]);
    let judgement = Aftermath::of(rig, usual).await.weigh(&format!("after {}", attack.words), judgement);
    vec![judgement.reproduced(rig.printf(attack.printed))]
}

/// The request with the login of the proxy's URL behind its first line, if it has lines at all.
fn with_login(dialogue: &Dialogue, request: Vec<u8>) -> Vec<u8> {
    let login = dialogue.login();
    match request.windows(2).position(|pair| pair == b"\r\n").filter(|_| request.starts_with(b"CONNECT ")) {
        Some(end) if !login.is_empty() => [&request[..end + 2], login.as_bytes(), &request[end + 2..]].concat(),
        _ => request,
    }
}

fn judge_attack(attack: &Attack, reaction: &Reaction) -> Judgement {
    let Attack { words, .. } = attack;
    let graded = |grade: Opened, summary: String| match grade {
        Opened::Fine => Judgement::pass(summary),
        Opened::Doubtful => Judgement::warn(summary),
        Opened::Wrong => Judgement::fail(summary).remedy(Remedy::Replace),
    };
    match (reaction.reply(), reaction.end) {
        (Some(reply), _) if reply.is_success() => {
            graded(attack.opened, format!("{words} opens a tunnel")).because(answered(&reply))
        }
        // Whether the words of a refusal arrive before the end of the connection is a race where much was sent.
        (Some(_), _) | (None, End::Closed | End::Reset) => Judgement::pass(format!("{words} is refused")),
        (None, End::Open) => graded(attack.unanswered, format!("{words} gets no answer")),
    }
}

fn answered(reply: &Reply) -> String {
    format!("the proxy answered `{}`", reply.status_line())
}

async fn halves(rig: &Rig) -> Vec<Judgement> {
    let usual = match Usual::of(rig) {
        Ok(usual) => usual,
        Err(judgement) => return vec![*judgement],
    };
    let half = format!("CONNECT {} HTTP/1.1\r\nHost: ", usual.door);
    let mut held = Vec::new();
    for _ in 0..HALVES {
        let mut dialogue = rig.caller.call("half a request").await;
        dialogue
            .talk("half a request", rig.caller.patience(), async |talk, stream| {
                talk.send(stream, half.as_bytes()).await
            })
            .await;
        held.push(dialogue);
    }
    let during = Aftermath::of(rig, usual).await;
    drop(held);
    let judgement = judge_halves(during, Aftermath::of(rig, usual).await);
    vec![judgement.reproduced(rig.printf(r"CONNECT ORIGIN:443 HTTP/1.1\r\nHost: "))]
}

fn judge_halves(during: Aftermath, after: Aftermath) -> Judgement {
    let judgement = Judgement::pass("requests that never end hold up no others");
    let judgement = after.weigh("after requests that did not end", judgement);
    during.weigh(&format!("while {HALVES} requests do not end"), judgement)
}

// ---- plain requests

/// A door to which plain requests go, if they reach the origin at all.
async fn plain_way(rig: &Rig) -> Result<(SocketAddr, Usual), Box<Judgement>> {
    let usual = Usual::of(rig)?;
    let door = rig.plain_door().unwrap_or(usual.door);
    let (answer, _) = rig.plain(door, "GET", ECHO_PATH, "", b"").await;
    match answer.and_then(|(_, body)| echo_in(&body)) {
        Some(_) => Ok((door, usual)),
        None => Err(Box::new(Judgement::not_run("no plain request reaches the origin; connect/get-80 says why"))),
    }
}

/// The first echo in what came, whatever stands around it.
fn echo_in(heard: &[u8]) -> Option<Echo> {
    let start = heard.iter().position(|&b| b == b'{')?;
    serde_json::Deserializer::from_slice(&heard[start..]).into_iter().next()?.ok()
}

/// Whether a refusal is the origin's: then the request was passed on as it stood.
fn is_origins(reply: &Reply) -> bool {
    reply.header("x-ms-request-id").is_some()
}

async fn smuggling(rig: &Rig) -> Vec<Judgement> {
    let (door, usual) = match plain_way(rig).await {
        Ok(found) => found,
        Err(judgement) => return vec![*judgement],
    };
    let mut dialogue = rig.caller.call(&rig.name(door)).await;
    let login = dialogue.login();
    let second = format!("GET http://{door}{ECHO_PATH}?second HTTP/1.1\r\nHost: {door}\r\n{login}\r\n");
    let body = format!("0\r\n\r\n{second}");
    let request = format!(
        "POST http://{door}{ECHO_PATH}?first HTTP/1.1\r\nHost: {door}\r\n{login}Content-Length: {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{body}",
        body.len(),
    );
    let reaction = dialogue.provoke("POST", request.as_bytes(), SILENCE, true).await;
    let judgement = judge_smuggling(&reaction).seen([dialogue.finish()]);
    let judgement = Aftermath::of(rig, usual).await.weigh("after a request with two lengths", judgement);
    let at = placeholder(door);
    let command = rig.printf(&format!(
        r"POST http://{at}{ECHO_PATH} HTTP/1.1\r\nHost: {at}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ));
    vec![judgement.reproduced(command)]
}

fn judge_smuggling(reaction: &Reaction) -> Judgement {
    let text = String::from_utf8_lossy(&reaction.heard);
    let Some(reply) = reaction.reply() else {
        return match reaction.end {
            End::Closed | End::Reset => Judgement::pass("a request with two lengths ends the connection"),
            End::Open => Judgement::warn("a request with two lengths gets no answer"),
        };
    };
    let echo = echo_in(&reaction.heard);
    let second = text.contains(&format!("{ECHO_PATH}?second"));
    match echo {
        Some(echo) if arrived_with_both(&echo) => Judgement::fail("a request with two lengths is passed on with both")
            .because(answered(&reply))
            .remedy(Remedy::Replace),
        Some(_) if second => Judgement::warn(
            "of a request with two lengths one counts, and what is left over is served as another request",
        ),
        Some(_) if reaction.end == End::Open => {
            Judgement::warn("a request with two lengths is passed on with one, and the connection stays open")
        }
        Some(_) => Judgement::pass("a request with two lengths is passed on with one, and the connection ends"),
        None if is_origins(&reply) => Judgement::fail("a request with two lengths is passed on as it stands")
            .because("the origin refused it")
            .remedy(Remedy::Replace),
        None => Judgement::pass("a request with two lengths is refused"),
    }
}

fn arrived_with_both(echo: &Echo) -> bool {
    echo.header("content-length").next().is_some() && echo.header("transfer-encoding").next().is_some()
}

/// The value of the header line, and what it is called.
const INJECTIONS: [(&str, &str, &str); 3] = [
    ("a bare CR", "a\rX-Injected: b", r"a\rX-Injected: b"),
    ("a NUL", "a\0b", r"a\000b"),
    ("a folded line", "a\r\n b", r"a\r\n b"),
];

async fn injection(rig: &Rig) -> Vec<Judgement> {
    let (door, usual) = match plain_way(rig).await {
        Ok(found) => found,
        Err(judgement) => return vec![*judgement],
    };
    let mut judgements = Vec::new();
    let at = placeholder(door);
    for (words, value, printed) in INJECTIONS {
        let mut dialogue = rig.caller.call(&rig.name(door)).await;
        let login = dialogue.login();
        let request = format!(
            "GET http://{door}{ECHO_PATH} HTTP/1.1\r\nHost: {door}\r\n{login}X-Snapreach: {value}\r\nConnection: close\r\n\r\n"
        );
        let reaction = dialogue.provoke("GET", request.as_bytes(), SILENCE, true).await;
        let judgement = judge_injection(words, &reaction).seen([dialogue.finish()]);
        let judgement = Aftermath::of(rig, usual).await.weigh(&format!("after {words} in a header"), judgement);
        let command = rig.printf(&format!(
            r"GET http://{at}{ECHO_PATH} HTTP/1.1\r\nHost: {at}\r\nX-Snapreach: {printed}\r\nConnection: close\r\n\r\n"
        ));
        judgements.push(judgement.about(words).reproduced(command));
    }
    judgements
}

fn judge_injection(words: &str, reaction: &Reaction) -> Judgement {
    let Some(reply) = reaction.reply() else {
        return match reaction.end {
            End::Closed | End::Reset => Judgement::pass(format!("{words} in a header ends the connection")),
            End::Open => Judgement::warn(format!("{words} in a header gets no answer")),
        };
    };
    let wrong = |summary: String| Judgement::fail(summary).because(answered(&reply)).remedy(Remedy::Replace);
    match echo_in(&reaction.heard) {
        Some(echo) if echo.header("x-injected").next().is_some() => {
            wrong(format!("{words} makes a header line of its own at the origin"))
        }
        Some(echo) if echo.header("x-snapreach").any(|value| value.contains(['\r', '\n', '\0'])) => {
            wrong(format!("{words} in a header is passed on as it stands"))
        }
        Some(_) => Judgement::pass(format!("{words} in a header is replaced")),
        None if is_origins(&reply) => {
            wrong(format!("{words} in a header is passed on as it stands")).because("the origin refused it")
        }
        None => Judgement::pass(format!("{words} in a header is refused")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::testing::Walk,
        conformance::Outcome,
        model::{FailureKind, TunnelEvidence},
    };

    fn heard(text: &str, end: End) -> Reaction {
        Reaction { heard: text.as_bytes().to_vec(), end }
    }

    fn echo(text: &str, headers: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{{\"target\":\"{text}\",\"headers\":[{headers}]}}")
    }

    #[test]
    fn an_attack_is_refused_or_ends_the_connection() {
        let refused = "HTTP/1.1 431 x\r\n\r\n";
        let opened = "HTTP/1.1 200 OK\r\n\r\n";
        for (attack, reaction, outcome) in [
            (&HUGE_HEADER, heard(refused, End::Open), Outcome::Pass),
            (&HUGE_HEADER, heard("", End::Reset), Outcome::Pass),
            (&HUGE_HEADER, heard(opened, End::Open), Outcome::Warn),
            (&HUGE_HEADER, heard("", End::Open), Outcome::Fail),
            (&MANY_HEADERS, heard(opened, End::Open), Outcome::Pass),
            (&MALFORMED, heard("", End::Open), Outcome::Warn),
            (&BINARY, heard("", End::Open), Outcome::Pass),
            (&BINARY, heard("SSH-2.0-x\r\n", End::Closed), Outcome::Pass),
            (&BINARY, heard(opened, End::Open), Outcome::Fail),
            (&BAD_PORT, heard(refused, End::Closed), Outcome::Pass),
            (&BAD_PORT, heard(opened, End::Open), Outcome::Fail),
        ] {
            let judgement = judge_attack(attack, &reaction);
            assert_eq!(judgement.outcome, outcome, "{}", judgement.summary);
        }
    }

    #[test]
    fn who_serves_no_more_has_failed_whatever_it_said() {
        let walk = || Walk::proxied("the origin:443").connected();
        let fine = || Aftermath { serves: true, seen: walk().tunnelled().0 };
        let seen = walk().tunnel_fails(FailureKind::TimedOut, TunnelEvidence::default()).0;
        let dead = || Aftermath { serves: false, seen: seen.clone() };
        assert_eq!(fine().weigh("after that", Judgement::pass("fine")).outcome, Outcome::Pass);
        assert_eq!(dead().weigh("after that", Judgement::pass("fine")).outcome, Outcome::Fail);
        assert_eq!(judge_halves(fine(), fine()).outcome, Outcome::Pass);
        assert!(judge_halves(dead(), dead()).summary.starts_with("while 8 requests do not end"));
        assert!(judge_halves(fine(), dead()).summary.starts_with("after requests"));
    }

    #[test]
    fn requests_end_as_they_should() {
        let port = (BAD_PORT.request)("198.18.0.7:443");
        assert!(port.starts_with(b"CONNECT 198.18.0.7:65979 HTTP/1.1\r\n"));
        assert!((HUGE_HEADER.request)("h:1").len() > HUGE);
        for attack in [HUGE_HEADER, MANY_HEADERS, MALFORMED, BINARY, BAD_PORT] {
            assert!((attack.request)("h:1").ends_with(b"\r\n\r\n"), "{}", attack.words);
        }
    }

    #[test]
    fn two_lengths_are_never_passed_on() {
        let both = "[\"Content-Length\",\"9\"],[\"Transfer-Encoding\",\"chunked\"]";
        let one = "[\"Content-Length\",\"0\"]";
        let second = echo("/snapreach/echo?first", one) + &echo("/snapreach/echo?second", "");
        for (reaction, outcome) in [
            (heard("HTTP/1.1 400 Bad Request\r\n\r\n", End::Closed), Outcome::Pass),
            (heard("", End::Closed), Outcome::Pass),
            (heard("", End::Open), Outcome::Warn),
            (heard(&echo("/snapreach/echo?first", one), End::Closed), Outcome::Pass),
            (heard(&echo("/snapreach/echo?first", one), End::Open), Outcome::Warn),
            (heard(&second, End::Open), Outcome::Warn),
            (heard(&echo("/snapreach/echo?first", both), End::Closed), Outcome::Fail),
            (heard("HTTP/1.1 400 x\r\nx-ms-request-id: 1\r\n\r\n", End::Closed), Outcome::Fail),
        ] {
            let judgement = judge_smuggling(&reaction);
            assert_eq!(judgement.outcome, outcome, "{}", judgement.summary);
        }
    }

    #[test]
    fn control_characters_do_not_pass() {
        for (headers, outcome) in [
            ("[\"X-Snapreach\",\"a b\"]", Outcome::Pass),
            ("[\"X-Snapreach\",\"a\"],[\"X-Injected\",\"b\"]", Outcome::Fail),
            ("[\"X-Snapreach\",\"a\\u0000b\"]", Outcome::Fail),
        ] {
            assert_eq!(judge_injection("x", &heard(&echo("/", headers), End::Closed)).outcome, outcome, "{headers}");
        }
        let refused = |head: &str| judge_injection("x", &heard(head, End::Closed)).outcome;
        assert_eq!(refused("HTTP/1.1 400 Bad Request\r\n\r\n"), Outcome::Pass);
        assert_eq!(refused("HTTP/1.1 400 x\r\nx-ms-request-id: 1\r\n\r\n"), Outcome::Fail);
        assert_eq!(judge_injection("x", &heard("", End::Open)).outcome, Outcome::Warn);
    }
}
