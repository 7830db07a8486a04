//! Plain requests: what becomes of a request to storage, and of its answer, that goes through the proxy without a tunnel.

use std::{net::SocketAddr, time::Duration};

use crate::{
    conformance::{
        case::{Case, Judgement, Level, Remedy, Turn, one},
        rig::{Rig, ended, heard},
    },
    exchange::{Direction, DoorKind, ECHO_HEADER, ECHO_PATH, Echo, PATTERN_PATH, Pattern},
    http::Reply,
    model::{Layer, Observation},
    probe::dialogue::{Seen, Stream, Talk},
};

/// A case's end, early or not.
type Judged = Result<Judgement, Judgement>;

/// What patterns grow from. The same in every run: a second one must show the same bytes.
const SEED: u64 = 0x5eed;

/// Bytes of a body: more than any proxy keeps before it passes something on.
const BODY: usize = 256 * 1024;

/// The size of the blob of which a range is asked for, and the range.
const BLOB: u64 = 64 * 1024;
const RANGE: (u64, u64) = (1000, 4999);

/// How long an interim answer is waited for.
const INTERIM: Duration = Duration::from_millis(500);

/// What a client of storage says beside its login ("Versioning for Azure Storage" and "Put Blob" of the REST reference).
const REQUEST_HEADERS: [(&str, &str); 5] = [
    ("x-ms-version", "2021-12-02"),
    ("x-ms-date", "Mon, 05 Jan 2026 03:10:44 GMT"),
    ("x-ms-client-request-id", "9d2e9d3c-5eed-4c1b-8d5f-0a1b2c3d4e5f"),
    ("x-ms-blob-type", "PageBlob"),
    ("x-ms-meta-Backup", "Mixed Case, with a comma; and a semicolon"),
];

/// A login of the shape that storage takes, and of no account.
const AUTHORIZATION: (&str, &str) = ("Authorization", "SharedKey snapreach:c25hcHJlYWNoL3Rlc3Q+Pz8/PT0=");

/// A query like that of a shared access signature: unsorted, with `+` and with escapes in both cases. Whoever writes any of
/// it otherwise invalidates the signature.
const QUERY: &str =
    "sv=2021-12-02&sr=b&sig=Ab%2Bc%2Fd%2be%2f%3D&se=2026-01-05T03%3A10%3a44Z&sp=rw&two=a+b%20c&A=1&a=2&empty=&~";

/// A field that `Connection` names.
const NAMED: &str = "X-Snapreach-Hop";

pub(super) const CASES: &[Case] = &[
    Case {
        id: "headers/x-ms-request",
        level: Level::Must,
        reference: "RFC 9110 section 5.1: a proxy forwards fields that it does not know; storage is told by x-ms-* headers what to do",
        title: "The x-ms-* headers of a request arrive unchanged",
        turn: Turn::Together,
        run: |rig| one(request(rig)),
    },
    Case {
        id: "headers/x-ms-answer",
        level: Level::Must,
        reference: "RFC 9110 section 5.1: a proxy forwards fields that it does not know; storage answers in x-ms-* headers",
        title: "The x-ms-* headers of an answer come back unchanged",
        turn: Turn::Together,
        run: |rig| one(answer(rig)),
    },
    Case {
        id: "headers/authorization",
        level: Level::Must,
        reference: "RFC 9110 section 11.6.2: a proxy must not change Authorization",
        title: "Authorization arrives unchanged",
        turn: Turn::Together,
        run: |rig| one(authorization(rig)),
    },
    Case {
        id: "headers/query",
        level: Level::Must,
        reference: "RFC 9110 section 7.7: a proxy must not change path and query; a signature covers them",
        title: "The query arrives byte for byte",
        turn: Turn::Together,
        run: |rig| one(query(rig)),
    },
    Case {
        id: "headers/range",
        level: Level::Must,
        reference: "RFC 9110 sections 14.2 and 15.3.7",
        title: "A range is asked for and comes back as such",
        turn: Turn::Together,
        run: |rig| one(range(rig)),
    },
    Case {
        id: "headers/put-empty",
        level: Level::Must,
        reference: "RFC 9110 section 9.3.4; a snapshot is taken by PUT ?comp=snapshot without a body",
        title: "A PUT without a body passes",
        turn: Turn::Together,
        run: |rig| one(put_empty(rig)),
    },
    Case {
        id: "headers/put-body",
        level: Level::Should,
        reference: "RFC 9110 section 9.3.4; RFC 9112 section 6.2",
        title: "A PUT with a body arrives whole",
        turn: Turn::Together,
        run: |rig| one(put_body(rig, false)),
    },
    Case {
        id: "headers/put-chunked",
        level: Level::May,
        reference: "RFC 9112 section 7.1: a recipient takes the chunked coding",
        title: "A PUT with a chunked body arrives whole",
        turn: Turn::Together,
        run: |rig| one(put_body(rig, true)),
    },
    Case {
        id: "headers/expect-continue",
        level: Level::May,
        reference: "RFC 9110 section 10.1.1: a proxy forwards the request without waiting for the body, or answers it",
        title: "A client that waits for 100 Continue is told to go on",
        turn: Turn::Together,
        run: |rig| one(expect_continue(rig)),
    },
    Case {
        id: "headers/hop-by-hop",
        level: Level::Should,
        reference: "RFC 9110 section 7.6.1",
        title: "What is meant for the proxy alone does not reach the origin",
        turn: Turn::Together,
        run: |rig| one(hop_by_hop(rig)),
    },
    Case {
        id: "headers/via",
        level: Level::May,
        reference: "RFC 9110 section 7.6.3: a proxy must say Via",
        title: "A request that was passed on says so in Via",
        turn: Turn::Together,
        run: |rig| one(via(rig)),
    },
    Case {
        id: "headers/host",
        level: Level::Should,
        reference: "RFC 9112 section 3.2.2: a proxy replaces Host by what the request target says",
        title: "The request target decides, and not a Host that contradicts it",
        turn: Turn::Together,
        run: |rig| one(host(rig)),
    },
    Case {
        id: "headers/not-cached",
        level: Level::Must,
        reference: "RFC 9111 sections 3.5 and 5.2.1.5",
        title: "A request with Authorization and no-store is not answered from a cache",
        turn: Turn::Together,
        run: |rig| one(not_cached(rig)),
    },
];

// ---- headers of the request

async fn request(rig: &Rig) -> Judged {
    let asked = ask(rig, "GET", ECHO_PATH, &lines(&REQUEST_HEADERS), b"").await?;
    let shown: String = REQUEST_HEADERS.iter().map(|(name, value)| format!("-H '{name}: {value}' ")).collect();
    Ok(judge_request(&REQUEST_HEADERS, asked).shown_by(|| rig.curl_plain(&format!("{shown}http://ORIGIN{ECHO_PATH}"))))
}

fn judge_request(sent: &[(&str, &str)], asked: Asked) -> Judgement {
    asked.judge(|echo| {
        let changes = changes(sent, echo);
        match changes.is_empty() {
            true => Judgement::pass("the x-ms-* headers of a request arrive unchanged"),
            false => changes
                .into_iter()
                .fold(spoilt("x-ms-* headers of a request do not arrive as they were sent"), Judgement::because),
        }
    })
}

/// Which fields, of those that were sent, are others at the other end.
fn changes(sent: &[(&str, &str)], echo: &Echo) -> Vec<String> {
    let change = |&(name, value): &(&str, &str)| match echo.header(name).collect::<Vec<_>>().as_slice() {
        [same] if *same == value => None,
        [] => Some(format!("{name} did not arrive")),
        [other] => Some(format!("{name} arrived as `{other}` in place of `{value}`")),
        _ => Some(format!("{name} arrived more than once")),
    };
    sent.iter().filter_map(change).collect()
}

async fn authorization(rig: &Rig) -> Judged {
    let asked = ask(rig, "GET", ECHO_PATH, &lines(&[AUTHORIZATION]), b"").await?;
    let (name, value) = AUTHORIZATION;
    Ok(judge_authorization(asked)
        .shown_by(|| rig.curl_plain(&format!("-H '{name}: {value}' http://ORIGIN{ECHO_PATH}"))))
}

fn judge_authorization(asked: Asked) -> Judgement {
    asked.judge(|echo| {
        let changes = changes(&[AUTHORIZATION], echo);
        match changes.is_empty() {
            true => Judgement::pass("Authorization arrives unchanged"),
            false => changes.into_iter().fold(spoilt("the login for the origin does not arrive"), Judgement::because),
        }
    })
}

async fn query(rig: &Rig) -> Judged {
    let target = format!("{ECHO_PATH}?{QUERY}");
    let asked = ask(rig, "GET", &target, "", b"").await?;
    Ok(judge_query(&target, asked).shown_by(|| rig.curl_plain(&format!("'http://ORIGIN{target}'"))))
}

fn judge_query(target: &str, asked: Asked) -> Judgement {
    asked.judge(|echo| match origin_form(&echo.target) == target {
        true => Judgement::pass("the query arrives byte for byte"),
        false => spoilt("the query does not arrive as it was sent: storage refuses its signature")
            .because(format!("sent: `{target}`"))
            .because(format!("arrived: `{}`", origin_form(&echo.target))),
    })
}

/// Path and query of a target in either form.
fn origin_form(target: &str) -> &str {
    let Some((_, rest)) = target.split_once("://") else { return target };
    rest.find('/').map_or("/", |at| &rest[at..])
}

async fn hop_by_hop(rig: &Rig) -> Judged {
    let headers = format!("Connection: {NAMED}\r\n{NAMED}: 1\r\nProxy-Connection: keep-alive\r\n");
    let asked = ask(rig, "GET", ECHO_PATH, &headers, b"").await?;
    let command = || rig.curl_plain(&format!("-H 'Connection: {NAMED}' -H '{NAMED}: 1' http://ORIGIN{ECHO_PATH}"));
    Ok(judge_hop_by_hop(asked).shown_by(command))
}

fn judge_hop_by_hop(asked: Asked) -> Judgement {
    asked.judge(|echo| {
        let arrived = |name: &str| echo.header(name).next().is_some();
        match (arrived(NAMED), arrived("Proxy-Connection")) {
            (false, false) => Judgement::pass("what Connection names stays behind, and so does Proxy-Connection"),
            (true, _) => spoilt("a field that Connection names for the proxy alone reaches the origin")
                .because(format!("`Connection: {NAMED}` was sent, and {NAMED} arrived")),
            (false, true) => {
                Judgement::warn("what Connection names stays behind, but Proxy-Connection reaches the origin")
            }
        }
    })
}

async fn via(rig: &Rig) -> Judged {
    let asked = ask(rig, "GET", ECHO_PATH, "", b"").await?;
    Ok(judge_via(asked).shown_by(|| rig.curl_plain(&format!("http://ORIGIN{ECHO_PATH}"))))
}

fn judge_via(asked: Asked) -> Judgement {
    asked.judge(|echo| match echo.header("Via").last() {
        Some(via) => Judgement::pass("the origin learns from Via that a proxy passed the request on")
            .because(format!("Via: {via}")),
        None => Judgement::fail("nothing tells the origin that a proxy passed the request on: there is no Via"),
    })
}

async fn host(rig: &Rig) -> Judged {
    let door = door(rig).await?;
    let asked = send(rig, door, &head("GET", door, ECHO_PATH, "contradiction.snapreach.test", ""), b"").await;
    let command = || rig.curl_plain(&format!("-H 'Host: contradiction.snapreach.test' http://ORIGIN{ECHO_PATH}"));
    Ok(judge_host(&authority(door), asked).shown_by(command))
}

fn judge_host(target: &str, asked: Asked) -> Judgement {
    if let (None, Some((reply, _))) = (asked.echo(), &asked.answer)
        && matches!(reply.status, 400 | 403 | 421)
    {
        return Judgement::pass("a request whose Host contradicts its target is refused")
            .because(format!("the answer: `{}`", reply.status_line()))
            .seen([asked.seen]);
    }
    asked.judge(|echo| {
        let hosts: Vec<&str> = echo.header("Host").collect();
        let same = |host: &str| host == target || host.strip_suffix(":80") == Some(target);
        match hosts.as_slice() {
            [host] if same(host) => Judgement::pass("the origin is told the host of the request target"),
            _ => spoilt("the origin is told a host that is not the one that was asked for").because(
                "Host: contradiction.snapreach.test was sent, and arrived in place of the request target's host",
            ),
        }
    })
}

// ---- answers

async fn answer(rig: &Rig) -> Judged {
    let asked = ask(rig, "GET", ECHO_PATH, &lines(&[(ECHO_HEADER, "Unchanged, please")]), b"").await?;
    let command = || rig.curl_plain(&format!("-H '{ECHO_HEADER}: Unchanged, please' http://ORIGIN{ECHO_PATH}"));
    Ok(judge_answer(asked).shown_by(command))
}

fn judge_answer(asked: Asked) -> Judgement {
    let headers = asked.answer.as_ref().map(|(reply, _)| reply.clone());
    asked.judge(|echo| {
        let Some(reply) = headers else { return Judgement::not_run("nothing was answered") };
        let sent: Vec<&str> = echo.header(ECHO_HEADER).collect();
        let mut changes: Vec<String> = ["x-ms-request-id", "x-ms-version", "ETag"]
            .into_iter()
            .filter(|name| reply.header(name).is_none())
            .map(|name| format!("{name} did not come back"))
            .collect();
        match (sent.as_slice(), reply.header(ECHO_HEADER)) {
            // What the origin was not told it cannot say again: that is another case's.
            ([], _) => {}
            (_, None) => changes.push(format!("{ECHO_HEADER} did not come back")),
            ([sent], Some(came)) if *sent == came => {}
            (_, Some(came)) => changes.push(format!("{ECHO_HEADER} came back as `{came}`")),
        }
        match changes.is_empty() {
            true => Judgement::pass("the x-ms-* headers of an answer come back unchanged"),
            false => changes
                .into_iter()
                .fold(spoilt("headers of an answer do not come back as they were sent"), Judgement::because),
        }
    })
}

async fn range(rig: &Rig) -> Judged {
    let (first, last) = RANGE;
    let headers =
        format!("Range: bytes={first}-{last}\r\nx-ms-range: bytes={first}-{last}\r\nIf-Match: \"0x5EED\"\r\n");
    let told = ask(rig, "GET", ECHO_PATH, &headers, b"").await?;
    let path = format!("{PATTERN_PATH}/{BLOB}/{SEED}");
    let asked = ask(rig, "GET", &path, &format!("Range: bytes={first}-{last}\r\n"), b"").await?;
    let command = || rig.curl_plain(&format!("-r {first}-{last} http://ORIGIN{path} | wc -c"));
    Ok(judge_range(told, asked).shown_by(command))
}

/// `told`: the origin's word about such a request; `asked`: the range itself.
fn judge_range(told: Asked, asked: Asked) -> Judgement {
    let (first, last) = RANGE;
    let span = format!("bytes={first}-{last}");
    let sent = [("Range", span.as_str()), ("x-ms-range", &span), ("If-Match", "\"0x5EED\"")];
    let changed = told.echo().map(|echo| changes(&sent, &echo)).unwrap_or_default();
    let judgement = match &asked.answer {
        None => unanswered(&asked.seen),
        Some((reply, body)) => {
            let from = usize::try_from(last - first + 1).unwrap_or(0);
            let right = Pattern::new(SEED, Direction::Down).bytes(first, from);
            let named = format!("bytes {first}-{last}/{BLOB}");
            match (reply.status, reply.header("Content-Range")) {
                (206, Some(came)) if came == named && *body == right && changed.is_empty() => {
                    Judgement::pass("a range is asked for and comes back as such")
                }
                (206, Some(came)) if came == named && *body == right => {
                    spoilt("conditions and ranges do not arrive as they were sent")
                }
                (206, Some(came)) if came == named => spoilt("other bytes come back than those of the range"),
                (206, came) => spoilt("another range comes back than was asked for")
                    .because(format!("Content-Range: {}", came.unwrap_or("none"))),
                (200, _) => spoilt("the whole comes back in place of the range"),
                _ => spoilt("a request for a range does not reach the origin")
                    .because(format!("the answer: `{}`", reply.status_line())),
            }
        }
    };
    changed.into_iter().fold(judgement, Judgement::because).seen([told.seen, asked.seen])
}

async fn not_cached(rig: &Rig) -> Judged {
    let path = format!("{PATTERN_PATH}/100/{}", rig.seed());
    let mut asked = Vec::new();
    for nonce in ["first", "second"] {
        let headers = lines(&[AUTHORIZATION, ("Cache-Control", "no-store"), (ECHO_HEADER, nonce)]);
        asked.push(ask(rig, "GET", &path, &headers, b"").await?);
    }
    let (name, value) = AUTHORIZATION;
    let command = || {
        rig.curl_plain(&format!(
            "-H '{name}: {value}' -H 'Cache-Control: no-store' 'http://ORIGIN{PATTERN_PATH}/100/[1-1]?[1-2]'"
        ))
    };
    Ok(judge_not_cached(asked).shown_by(command))
}

/// Of two requests that differ in what the origin says again.
fn judge_not_cached(asked: Vec<Asked>) -> Judgement {
    let again: Vec<Option<&str>> =
        asked.iter().map(|asked| asked.answer.as_ref().and_then(|(reply, _)| reply.header(ECHO_HEADER))).collect();
    let judgement = match again.as_slice() {
        [Some("first"), Some("second")] => Judgement::pass("the second request reaches the origin as well"),
        [Some("first"), Some("first")] => spoilt("a request with Authorization and no-store is answered from a cache")
            .because("the second answer repeats what only the first request had said"),
        _ => match asked.iter().find(|asked| asked.answer.is_none()) {
            Some(asked) => unanswered(&asked.seen),
            None => Judgement::not_run(
                "the origin's headers do not come back, so nobody can tell; headers/x-ms-answer says more",
            ),
        },
    };
    judgement.seen(asked.into_iter().map(|asked| asked.seen))
}

// ---- bodies

async fn put_empty(rig: &Rig) -> Judged {
    let target = format!("{ECHO_PATH}?comp=snapshot");
    let headers = format!("{}Content-Length: 0\r\n", lines(&REQUEST_HEADERS[..2]));
    let asked = ask(rig, "PUT", &target, &headers, b"").await?;
    let command = || rig.curl_plain(&format!("-X PUT -H 'Content-Length: 0' 'http://ORIGIN{target}'"));
    Ok(judge_put_empty(&target, asked).shown_by(command))
}

fn judge_put_empty(target: &str, asked: Asked) -> Judgement {
    asked.judge(|echo| {
        if (echo.method.as_str(), origin_form(&echo.target), echo.body_bytes) == ("PUT", target, 0) {
            return Judgement::pass("a PUT without a body, as it takes a snapshot, passes");
        }
        spoilt("a PUT without a body arrives as something else").because(format!(
            "arrived: `{} {}` with {} bytes",
            echo.method,
            origin_form(&echo.target),
            echo.body_bytes
        ))
    })
}

async fn put_body(rig: &Rig, chunked: bool) -> Judged {
    let target = format!("{ECHO_PATH}?seed={SEED}");
    let pattern = Pattern::new(SEED, Direction::Up).bytes(0, BODY);
    let asked = if chunked {
        ask(rig, "PUT", &target, "Transfer-Encoding: chunked\r\n", &in_chunks(&pattern)).await?
    } else {
        ask(rig, "PUT", &target, &format!("Content-Length: {BODY}\r\n"), &pattern).await?
    };
    let coding = if chunked { "-H 'Transfer-Encoding: chunked' " } else { "" };
    let command = || rig.curl_plain(&format!("-H 'Expect:' {coding}-T FILE http://ORIGIN{ECHO_PATH}"));
    Ok(judge_put_body(asked).shown_by(command))
}

/// In the chunked coding (RFC 9112 section 7.1).
fn in_chunks(bytes: &[u8]) -> Vec<u8> {
    let mut coded = Vec::with_capacity(bytes.len() + 1024);
    for chunk in bytes.chunks(16 * 1024) {
        coded.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        coded.extend_from_slice(chunk);
        coded.extend_from_slice(b"\r\n");
    }
    coded.extend_from_slice(b"0\r\n\r\n");
    coded
}

fn judge_put_body(asked: Asked) -> Judgement {
    asked.judge(|echo| match (usize::try_from(echo.body_bytes), echo.body_intact) {
        (Ok(BODY), Some(true)) => Judgement::pass(format!("a PUT with {BODY} bytes arrives whole")),
        (Ok(BODY), _) => spoilt("the bytes of a PUT arrive as others"),
        (bytes, _) => spoilt("the body of a PUT does not arrive whole")
            .because(format!("{} of {BODY} bytes arrived", bytes.unwrap_or(usize::MAX))),
    })
}

async fn expect_continue(rig: &Rig) -> Judged {
    let door = door(rig).await?;
    let target = format!("{ECHO_PATH}?seed={SEED}");
    let headers = format!("Content-Length: {BODY}\r\nExpect: 100-continue\r\n");
    let mut dialogue = rig.caller.call(&rig.name(door)).await;
    let head = head("PUT", door, &target, &authority(door), &headers) + &dialogue.login() + "\r\n";
    let pattern = Pattern::new(SEED, Direction::Up).bytes(0, BODY);
    let mut interim = None;
    let put = async |talk: &mut Talk, stream: &mut Box<dyn Stream>| {
        talk.send(stream, head.as_bytes()).await?;
        interim = talk.first_status(stream, INTERIM).await?;
        if interim.is_none_or(|status| status < 200) {
            talk.send(stream, &pattern).await?;
        }
        talk.answer(stream).await
    };
    let answer = dialogue.talk("PUT", rig.caller.patience() + INTERIM, put).await;
    let asked = Asked { answer, seen: dialogue.finish() };
    let command = || rig.curl_plain(&format!("-H 'Expect: 100-continue' -T FILE http://ORIGIN{ECHO_PATH}"));
    Ok(judge_expect(interim, asked).shown_by(command))
}

/// `interim`: the first status that came before the body was sent.
fn judge_expect(interim: Option<u16>, asked: Asked) -> Judgement {
    asked.judge(|echo| match (interim, echo.body_intact) {
        (Some(100), Some(true)) => Judgement::pass("100 Continue comes, and the body arrives"),
        (Some(100), _) => spoilt("100 Continue comes, and the body does not arrive whole"),
        (_, Some(true)) => Judgement::fail("a client that waits for 100 Continue waits in vain")
            .because("the body arrives when it is sent all the same"),
        _ => spoilt("a request that waits for 100 Continue loses its body"),
    })
}

// ---- what they have in common

/// What came of a plain request.
struct Asked {
    /// The answer with its body.
    answer: Option<(Reply, Vec<u8>)>,
    seen: Observation,
}

impl Asked {
    /// How the request arrived, as the origin says.
    fn echo(&self) -> Option<Echo> {
        serde_json::from_slice(&self.answer.as_ref()?.1).ok()
    }

    /// Judges by the origin's word, if it came.
    fn judge(self, judge: impl FnOnce(&Echo) -> Judgement) -> Judgement {
        let judgement = match (self.echo(), &self.answer) {
            (Some(echo), _) => judge(&echo),
            (None, Some((reply, _))) => spoilt("the request does not reach the origin")
                .because(format!("the answer: `{}`", reply.status_line())),
            (None, None) => unanswered(&self.seen),
        };
        judgement.seen([self.seen])
    }
}

fn unanswered(seen: &Observation) -> Judgement {
    match seen.failure() {
        Some((Layer::Request, _, kind)) => {
            spoilt("the request gets no answer").because(format!("the proxy: {}", ended(kind)))
        }
        _ => Judgement::not_run("the proxy could not be asked").because(heard(seen)),
    }
}

fn spoilt(summary: &str) -> Judgement {
    Judgement::fail(summary).remedy(Remedy::LeaveRequestsAlone)
}

fn lines(fields: &[(&str, &str)]) -> String {
    fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect()
}

/// The authority of a door in an `http` URI.
fn authority(door: SocketAddr) -> String {
    match (door.port(), door) {
        (80, SocketAddr::V6(door)) => format!("[{}]", door.ip()),
        (80, SocketAddr::V4(door)) => door.ip().to_string(),
        _ => door.to_string(),
    }
}

/// A request's head as far as it can be known before the connection stands.
fn head(method: &str, door: SocketAddr, target: &str, host: &str, headers: &str) -> String {
    format!("{method} http://{}{target} HTTP/1.1\r\nHost: {host}\r\n{headers}", authority(door))
}

/// Makes a plain request to the origin, if the proxy passes such requests on at all.
async fn ask(rig: &Rig, method: &str, target: &str, headers: &str, body: &[u8]) -> Result<Asked, Judgement> {
    let door = door(rig).await?;
    Ok(send(rig, door, &head(method, door, target, &authority(door), headers), body).await)
}

async fn send(rig: &Rig, door: SocketAddr, head: &str, body: &[u8]) -> Asked {
    let mut dialogue = rig.caller.call(&rig.name(door)).await;
    let mut request = format!("{head}{}\r\n", dialogue.login()).into_bytes();
    request.extend_from_slice(body);
    let answer = dialogue.http("PLAIN", &request).await;
    Asked { answer, seen: dialogue.finish() }
}

/// The first door, that at the port of plain HTTP before all, to which the proxy passes a plain request on.
async fn door(rig: &Rig) -> Result<SocketAddr, Judgement> {
    let find = async || {
        let mut doors: Vec<SocketAddr> = rig.places.of(DoorKind::Serves).collect();
        doors.sort_by_key(|door| (door.port() != 80, !door.is_ipv4()));
        for door in doors {
            if send(rig, door, &head("GET", door, ECHO_PATH, &authority(door), ""), b"").await.echo().is_some() {
                return Some(door);
            }
        }
        None
    };
    if rig.places.doors.is_empty() {
        return Err(rig.missing(80));
    }
    let found = rig.plain.get_or_init(find).await;
    found.ok_or_else(|| Judgement::not_run("no plain request reaches the origin; connect/get-80 says why"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::testing::{Walk, reply},
        conformance::case::Outcome,
        model::FailureKind,
    };

    fn proxy() -> Walk {
        Walk::proxied("origin.snapreach.test:80").connected()
    }

    /// With this head and body.
    fn answered(head: &str, body: &[u8]) -> Asked {
        let reply = reply(&format!("{head}\r\n\r\n"));
        Asked { answer: Some((reply.clone(), body.to_vec())), seen: proxy().answered(reply).0 }
    }

    fn echoed(echo: &Echo) -> Asked {
        answered("HTTP/1.1 200 OK", &serde_json::to_vec(echo).unwrap())
    }

    fn with_headers(headers: &[(&str, &str)]) -> Asked {
        let headers = headers.iter().map(|&(name, value)| (name.into(), value.into())).collect();
        echoed(&Echo { headers, ..Echo::default() })
    }

    fn fails(judgement: &Judgement, says: &str) {
        assert_eq!(judgement.outcome, Outcome::Fail, "{judgement:?}");
        assert!(judgement.summary.contains(says), "{judgement:?}");
    }

    fn passes(judgement: &Judgement) {
        assert_eq!(judgement.outcome, Outcome::Pass, "{judgement:?}");
    }

    #[test]
    fn changed_headers_are_named() {
        passes(&judge_request(&REQUEST_HEADERS, with_headers(&REQUEST_HEADERS)));
        let sent = [("a", "1"), ("b", "2"), ("c", "3"), ("D", "4")];
        let judgement = judge_request(&sent, with_headers(&[("b", "x"), ("c", "3"), ("c", "3"), ("d", "4")]));
        fails(&judgement, "do not arrive");
        let changes = ["a did not arrive", "b arrived as `x` in place of `2`", "c arrived more than once"];
        assert_eq!(judgement.evidence, changes);
        passes(&judge_authorization(with_headers(&[AUTHORIZATION])));
        fails(&judge_authorization(with_headers(&[])), "login");
    }

    #[test]
    fn what_the_origin_never_saw_is_told_from_what_was_not_answered() {
        let refused = judge_via(answered("HTTP/1.1 405 Method Not Allowed", b"no"));
        fails(&refused, "does not reach the origin");
        assert_eq!(refused.evidence, ["the answer: `HTTP/1.1 405 Method Not Allowed`"]);
        let silent = judge_via(Asked { answer: None, seen: proxy().request_fails(FailureKind::TimedOut).0 });
        fails(&silent, "gets no answer");
        let down = Walk::proxied("origin.snapreach.test:80").connect_fails(FailureKind::Refused).0;
        assert_eq!(judge_via(Asked { answer: None, seen: down }).outcome, Outcome::NotRun);
    }

    #[test]
    fn a_query_is_compared_byte_for_byte() {
        let target = format!("{ECHO_PATH}?a=%2b");
        let judge = |came: &str| judge_query(&target, echoed(&Echo { target: came.into(), ..Echo::default() }));
        passes(&judge(&target));
        passes(&judge(&format!("http://198.18.0.7:80{target}")));
        fails(&judge(&format!("{ECHO_PATH}?a=%2B")), "signature");
        fails(&judge(&format!("{ECHO_PATH}?a=+")), "signature");
    }

    #[test]
    fn hop_by_hop_fields_stay_behind() {
        passes(&judge_hop_by_hop(with_headers(&[("Via", "1.1 x")])));
        fails(
            &judge_hop_by_hop(with_headers(&[("x-snapreach-hop", "1"), ("Proxy-Connection", "x")])),
            "reaches the origin",
        );
        assert_eq!(judge_hop_by_hop(with_headers(&[("Proxy-Connection", "x")])).outcome, Outcome::Warn);
        passes(&judge_via(with_headers(&[("via", "1.1 x")])));
        fails(&judge_via(with_headers(&[])), "no Via");
    }

    #[test]
    fn the_request_target_decides() {
        for right in ["198.18.0.7", "198.18.0.7:80"] {
            passes(&judge_host("198.18.0.7", with_headers(&[("Host", right)])));
        }
        passes(&judge_host("198.18.0.7", answered("HTTP/1.1 400 Bad request", b"")));
        fails(&judge_host("198.18.0.7", with_headers(&[("Host", "contradiction.snapreach.test")])), "asked for");
        fails(&judge_host("198.18.0.7", answered("HTTP/1.1 502 Bad Gateway", b"")), "does not reach");
    }

    #[test]
    fn an_answers_headers_must_come_back() {
        let echo = Echo { headers: vec![(ECHO_HEADER.into(), "a".into())], ..Echo::default() };
        let body = serde_json::to_vec(&echo).unwrap();
        let all = "HTTP/1.1 200 OK\r\nx-ms-request-id: 1\r\nx-ms-version: 2\r\nETag: \"3\"\r\nx-ms-meta-echo: a";
        passes(&judge_answer(answered(all, &body)));
        let judgement = judge_answer(answered("HTTP/1.1 200 OK\r\nx-ms-version: 2\r\nx-ms-meta-echo: b", &body));
        fails(&judgement, "do not come back");
        let changes =
            ["x-ms-request-id did not come back", "ETag did not come back", "x-ms-meta-echo came back as `b`"];
        assert_eq!(judgement.evidence, changes);
    }

    #[test]
    fn ranges_are_asked_for_and_come_back() {
        let told = || {
            with_headers(&[("Range", "bytes=1000-4999"), ("x-ms-range", "bytes=1000-4999"), ("If-Match", "\"0x5EED\"")])
        };
        let right = Pattern::new(SEED, Direction::Down).bytes(1000, 4000);
        let partial = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1000-4999/65536";
        passes(&judge_range(told(), answered(partial, &right)));
        fails(&judge_range(with_headers(&[]), answered(partial, &right)), "do not arrive as they were sent");
        fails(&judge_range(told(), answered(partial, &right[1..])), "other bytes");
        let other = "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4999/65536";
        fails(&judge_range(told(), answered(other, &right)), "another range");
        fails(&judge_range(told(), answered("HTTP/1.1 200 OK", &right)), "the whole");
        fails(&judge_range(told(), answered("HTTP/1.1 403 Forbidden", b"")), "does not reach");
    }

    #[test]
    fn a_cache_shows_by_what_it_repeats() {
        let says = |nonce: &str| answered(&format!("HTTP/1.1 200 OK\r\n{ECHO_HEADER}: {nonce}"), b"");
        passes(&judge_not_cached(vec![says("first"), says("second")]));
        fails(&judge_not_cached(vec![says("first"), says("first")]), "from a cache");
        let mute = judge_not_cached(vec![says("first"), answered("HTTP/1.1 200 OK", b"")]);
        assert_eq!(mute.outcome, Outcome::NotRun);
    }

    #[test]
    fn puts_must_arrive_as_such() {
        let target = format!("{ECHO_PATH}?comp=snapshot");
        let put = |target: &str, method: &str, body_bytes, body_intact| {
            echoed(&Echo { method: method.into(), target: target.into(), body_bytes, body_intact, ..Echo::default() })
        };
        passes(&judge_put_empty(&target, put(&target, "PUT", 0, None)));
        fails(&judge_put_empty(&target, put(&target, "GET", 0, None)), "something else");
        fails(&judge_put_empty(&target, put(ECHO_PATH, "PUT", 0, None)), "something else");
        fails(&judge_put_empty(&target, answered("HTTP/1.1 411 Length Required", b"")), "does not reach");
        passes(&judge_put_body(put(&target, "PUT", BODY as u64, Some(true))));
        fails(&judge_put_body(put(&target, "PUT", BODY as u64, Some(false))), "as others");
        fails(&judge_put_body(put(&target, "PUT", 9, Some(true))), "not arrive whole");
        passes(&judge_expect(Some(100), put(&target, "PUT", 0, Some(true))));
        fails(&judge_expect(Some(100), put(&target, "PUT", 0, Some(false))), "does not arrive whole");
        fails(&judge_expect(None, put(&target, "PUT", 0, Some(true))), "in vain");
        fails(&judge_expect(None, put(&target, "PUT", 0, Some(false))), "loses its body");
        fails(&judge_expect(Some(417), answered("HTTP/1.1 417 Expectation Failed", b"")), "does not reach");
    }

    #[test]
    fn chunks_are_written_as_they_are_read() {
        let coded = in_chunks(&vec![b'x'; 16 * 1024 + 3]);
        assert!(coded.starts_with(b"4000\r\nxxx") && coded.ends_with(b"x\r\n3\r\nxxx\r\n0\r\n\r\n"));
    }
}
