//! One question to instance metadata: what is this machine? Asked once, before a plan is made, so it has a small budget of
//! its own and is no observation.

use std::{fmt, net::SocketAddr, time::Duration};

use serde::{Deserialize, de::IgnoredAny};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    failure,
    http_io::{Incoming, read_head, read_whole},
    net::{self, Tuning},
    request::FOR_METADATA,
};
use crate::{
    http::Reply,
    model::{Excerpt, Failure, FailureKind},
    plan::Source,
};

/// How long [`fetch`] should wait where nothing else is asked for: on Azure the answer comes within milliseconds, and
/// elsewhere the address is often a black hole.
pub const DEFAULT_BUDGET: Duration = Duration::from_secs(2);

/// The version asked for: every platform of today has it, and it tells disks and subnets.
const PATH: &str = "/metadata/instance?api-version=2021-02-01";

/// A longer answer is refused. A machine with 64 disks and all its tags stays below a tenth of it.
const MAX_BODY: usize = 1024 * 1024;

/// Of what a stranger answers so many characters of each part are told.
const MAX_SHOWN: usize = 80;

/// Why instance metadata could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// No answer in time.
    #[error(
        "cannot ask instance metadata at {at}: no answer within {budget:?}; either this is no virtual machine of Azure, or a \
         firewall on it drops link-local addresses: allow TCP 80 to {ip}, or name what to probe yourself",
        ip = at.ip()
    )]
    Silent {
        /// Who was asked.
        at: SocketAddr,
        /// How long.
        budget: Duration,
    },
    /// The connection failed, or what came is no whole answer.
    #[error(
        "cannot ask instance metadata at {at}: {}; either this is no virtual machine of Azure, or something on it refuses \
         link-local addresses: allow TCP 80 to {ip}, or name what to probe yourself",
        failure.raw,
        ip = at.ip()
    )]
    Failed {
        /// Who was asked.
        at: SocketAddr,
        /// What failed.
        failure: Failure,
    },
    /// The service answers, and refuses.
    #[error("instance metadata at {at} refuses {PATH} with status {status}: {refusal}")]
    Refused {
        /// Who was asked.
        at: SocketAddr,
        /// The status.
        status: u16,
        /// What that means.
        refusal: Refusal,
    },
    /// The answer came through a proxy, so it may describe the proxy's own machine.
    #[error(
        "the answer of instance metadata at {at} came through a proxy ({mark}), so it may describe another machine: keep \
         {ip} away from every proxy, transparent ones included",
        ip = at.ip()
    )]
    Proxied {
        /// Who was asked.
        at: SocketAddr,
        /// The header that tells.
        mark: String,
    },
    /// Something else answers at this address.
    #[error(
        "what answers at {at} is not instance metadata ({by}): find out what listens or redirects there, and keep {ip} free \
         for the platform",
        ip = at.ip()
    )]
    Stranger {
        /// Who was asked.
        at: SocketAddr,
        /// Who answered, as far as the answer tells.
        by: String,
    },
    /// The answer is longer than any metadata.
    #[error(
        "the answer at {at} is longer than {MAX_BODY} bytes, which no instance metadata is: find out what answers there"
    )]
    TooLong {
        /// Who was asked.
        at: SocketAddr,
    },
}

/// What a refusing status of instance metadata means ("Azure Instance Metadata Service", errors and debugging).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// 400
    BadRequest,
    /// 404
    NotFound,
    /// 405
    Method,
    /// 410
    Updating,
    /// 429
    TooMany,
    /// 500
    Internal,
}

impl Refusal {
    fn of(status: u16) -> Option<Self> {
        Some(match status {
            400 => Self::BadRequest,
            404 => Self::NotFound,
            405 => Self::Method,
            410 => Self::Updating,
            429 => Self::TooMany,
            500 => Self::Internal,
            _ => return None,
        })
    }

    /// Whether the same question may be answered a moment later.
    fn passes(self) -> bool {
        matches!(self, Self::Updating | Self::Internal)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadRequest => {
                "it takes the question for a wrong one; something on the way may have removed the header `Metadata: true`"
            }
            Self::NotFound => "it knows no such node; this platform may be older than the version asked for",
            Self::Method => "it takes GET alone; something on the way changed the method",
            Self::Updating => "it is being updated; ask again in a minute",
            Self::TooMany => "it takes five questions a second; ask again in a moment, and find out who polls it",
            Self::Internal => "it failed by itself; ask again in a moment",
        })
    }
}

/// Asks for everything that instance metadata says of the machine, directly and never through a proxy: a JSON object with
/// `compute` or `network`. A service that is being updated or failed is asked once more, within the budget.
///
/// # Errors
/// When nothing answers, or what answers is no instance metadata or refuses.
pub async fn fetch(at: SocketAddr, budget: Duration) -> Result<Vec<u8>, MetadataError> {
    let (start, silent) = (Instant::now(), MetadataError::Silent { at, budget });
    let end = start + budget;
    let first = timeout_at(end, ask(at, budget)).await.map_err(|_| silent)?;
    if !matches!(first, Err(MetadataError::Refused { refusal, .. }) if refusal.passes()) {
        return first;
    }
    sleep_until(end.min(Instant::now() + budget / 4)).await;
    match timeout_at(end, ask(at, budget)).await {
        Ok(Ok(body)) => Ok(body),
        // The first answer says more than a second one that did not come.
        _ => first,
    }
}

async fn ask(at: SocketAddr, budget: Duration) -> Result<Vec<u8>, MetadataError> {
    let failed = |failure| MetadataError::Failed { at, failure };
    let mut attempt = net::Attempt::new(at, at);
    let connected = net::connect(&mut attempt, &Source::default(), Tuning::default(), None).await;
    let mut stream = connected.map_err(failed)?;
    let head = format!(
        concat!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: snapreach/",
            env!("CARGO_PKG_VERSION"),
            "\r\nAccept: application/json\r\n{}Connection: close\r\n\r\n"
        ),
        PATH,
        if at.port() == 80 { at.ip().to_string() } else { at.to_string() },
        FOR_METADATA,
    );
    stream.write_all(head.as_bytes()).await.map_err(|e| failed(failure::of_io(&e)))?;
    let mut incoming = Incoming::within(budget);
    let reply = match read_head(&mut stream, &mut incoming).await {
        Ok(reply) => reply,
        Err(failure) if failure.kind == FailureKind::NotHttp => {
            let by = format!("it speaks no HTTP, and begins with `{}`", shown(&bytes(&incoming.buffer)));
            return Err(MetadataError::Stranger { at, by });
        }
        Err(failure) => return Err(failed(failure)),
    };
    if let Some(mark) = reply.proxy_mark() {
        return Err(MetadataError::Proxied { at, mark: format!("{}: {}", shown(&mark.name), shown(&mark.value)) });
    }
    let body = read_whole(&mut stream, &mut incoming, &reply, MAX_BODY).await.map_err(failed)?;
    let body = body.ok_or(MetadataError::TooLong { at })?;
    let stranger = || MetadataError::Stranger { at, by: speaker(&reply, &body) };
    match Refusal::of(reply.status) {
        _ if is_page(&reply, &body) => Err(stranger()),
        Some(refusal) => Err(MetadataError::Refused { at, status: reply.status, refusal }),
        None if reply.status == 200 && is_metadata(&body) => Ok(body),
        None => Err(stranger()),
    }
}

fn is_metadata(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Instance {
        compute: Option<IgnoredAny>,
        network: Option<IgnoredAny>,
    }
    // To serde a list of two values would be such an object too.
    body.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<Instance>(body).is_ok_and(|it| it.compute.is_some() || it.network.is_some())
}

fn is_page(reply: &Reply, body: &[u8]) -> bool {
    reply.header("content-type").is_some_and(|kind| kind.starts_with("text/html"))
        || body.trim_ascii_start().starts_with(b"<")
}

/// Who answered, as far as the answer tells.
fn speaker(reply: &Reply, body: &[u8]) -> String {
    let mut said = shown(&reply.status_line());
    for name in ["Server", "Content-Type", "Location"] {
        if let Some(value) = reply.header(name) {
            said = format!("{said}, {name}: {}", shown(value));
        }
    }
    match body {
        [] => said,
        _ => format!("{said}, beginning with `{}`", shown(&bytes(body))),
    }
}

/// The beginning of what a peer sent, escaped.
fn bytes(raw: &[u8]) -> String {
    Excerpt::new(raw, MAX_SHOWN, raw.len() as u64).text
}

fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        thread::JoinHandle,
    };

    use super::*;
    use crate::http::MAX_HEAD;

    const INSTANCE: &str = r#"{"compute":{"location":"westeurope"},"network":{"interface":[]}}"#;

    /// Answers one connection after another with these bytes, and gives back the requests.
    fn serve(answers: Vec<Vec<u8>>) -> (SocketAddr, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            answers
                .into_iter()
                .map(|answer| {
                    let (mut stream, _) = listener.accept().unwrap();
                    let request = request(&mut stream);
                    // The client may have heard enough before the end.
                    let _ = stream.write_all(&answer);
                    request
                })
                .collect()
        });
        (at, server)
    }

    fn request(stream: &mut TcpStream) -> String {
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }

    fn ask_for(answers: &[&str]) -> (Result<Vec<u8>, MetadataError>, Vec<String>) {
        let (at, server) = serve(answers.iter().map(|answer| answer.as_bytes().to_vec()).collect());
        let runtime = crate::probe::runtime().unwrap();
        let got = runtime.block_on(fetch(at, Duration::from_secs(20)));
        (got, server.join().unwrap())
    }

    fn refused(answer: &str) -> MetadataError {
        ask_for(&[answer]).0.unwrap_err()
    }

    #[test]
    fn an_answer_comes_back_whole_however_it_is_framed() {
        let (one, two) = INSTANCE.split_at(20);
        let length = INSTANCE.len();
        for answer in [
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{INSTANCE}"),
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{INSTANCE}and what belongs to nobody"),
            format!("HTTP/1.1 200 OK\r\n\r\n{INSTANCE}"),
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n",
                one.len(),
                two.len()
            ),
        ] {
            let (got, requests) = ask_for(&[&answer]);
            assert_eq!(got.unwrap(), INSTANCE.as_bytes(), "{answer}");
            assert!(requests[0].starts_with("GET /metadata/instance?api-version=2021-02-01 HTTP/1.1\r\n"));
            assert!(requests[0].contains("\r\nMetadata: true\r\n"), "{}", requests[0]);
        }
    }

    #[test]
    fn a_refusal_says_what_it_means() {
        for (status, part) in
            [(400, "Metadata: true"), (404, "no such node"), (405, "GET alone"), (429, "five questions a second")]
        {
            let error =
                refused(&format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n\r\n{{\"error\":\"x\"}}"));
            assert!(matches!(error, MetadataError::Refused { status: got, .. } if got == status), "{error:?}");
            assert!(error.to_string().contains(part) && error.to_string().contains("127.0.0.1:"), "{error}");
        }
    }

    #[test]
    fn what_passes_is_asked_once_more() {
        let good = format!("HTTP/1.1 200 OK\r\n\r\n{INSTANCE}");
        for status in [410, 500] {
            let bad = format!("HTTP/1.1 {status} X\r\n\r\n");
            assert_eq!(fast(&[&bad, &good]).unwrap(), INSTANCE.as_bytes());
            let error = fast(&[&bad, "HTTP/1.1 404 X\r\n\r\n"]).unwrap_err();
            assert!(matches!(error, MetadataError::Refused { status: got, .. } if got == status), "{error:?}");
        }
    }

    /// As [`ask_for`], with a budget of which a quarter is no long wait, and which loopback never uses up.
    fn fast(answers: &[&str]) -> Result<Vec<u8>, MetadataError> {
        let (at, server) = serve(answers.iter().map(|answer| answer.as_bytes().to_vec()).collect());
        let got = crate::probe::runtime().unwrap().block_on(fetch(at, DEFAULT_BUDGET));
        server.join().unwrap();
        got
    }

    #[test]
    fn what_is_no_metadata_is_named() {
        for (answer, part) in [
            ("HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html\r\n\r\n<html>Sign in", "Server: nginx"),
            ("HTTP/1.1 404 Not Found\r\nServer: Apache\r\nContent-Type: text/html\r\n\r\n<html>", "Apache"),
            ("HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n", "portal.example"),
            ("HTTP/1.1 200 OK\r\n\r\n", "200 OK"),
            ("HTTP/1.1 200 OK\r\n\r\n{\"compute\":", "`{\"compute\":`"),
            ("HTTP/1.1 200 OK\r\n\r\n[{},{}]", "`[{},{}]`"),
            ("HTTP/1.1 200 OK\r\n\r\n{\"other\":1}", "other"),
            (
                "SSH-2.0-OpenSSH_9.2\r\nand more than that so that nothing waits for the rest of it",
                "`SSH-2.0-OpenSSH_9.2`",
            ),
        ] {
            let error = refused(answer);
            assert!(matches!(error, MetadataError::Stranger { .. }), "{answer}: {error:?}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }

    #[test]
    fn an_answer_through_a_proxy_may_be_about_another_machine() {
        let error = refused(&format!("HTTP/1.1 200 OK\r\nVia: 1.1 squid\r\n\r\n{INSTANCE}"));
        assert!(matches!(&error, MetadataError::Proxied { mark, .. } if mark == "Via: 1.1 squid"), "{error:?}");
    }

    #[test]
    fn hostile_answers_are_bounded() {
        let long = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(MAX_BODY + 1));
        assert!(matches!(refused(&long), MetadataError::TooLong { .. }));
        let announced = "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n{";
        assert!(matches!(refused(announced), MetadataError::TooLong { .. }));
        let head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(MAX_HEAD));
        let error = refused(&head);
        assert!(
            matches!(&error, MetadataError::Failed { failure, .. } if failure.kind == FailureKind::HeadTooLarge),
            "{error:?}"
        );
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{";
        assert!(
            matches!(refused(short), MetadataError::Failed { failure, .. } if failure.kind == FailureKind::Truncated)
        );
        let page = format!("HTTP/1.1 200 OK\r\nServer: {0}\r\nContent-Type: text/html\r\n\r\n{0}", "y".repeat(9000));
        assert!(refused(&page).to_string().len() < 600);
    }

    #[test]
    fn nobody_there_is_told_with_the_address() {
        let runtime = crate::probe::runtime().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        // Accepted by the kernel, answered by nobody.
        let error = runtime.block_on(fetch(at, Duration::from_millis(50))).unwrap_err();
        assert!(matches!(error, MetadataError::Silent { .. }), "{error:?}");
        drop(listener);
        let error = runtime.block_on(fetch(at, DEFAULT_BUDGET)).unwrap_err();
        assert!(
            matches!(&error, MetadataError::Failed { failure, .. } if failure.kind == FailureKind::Refused),
            "{error:?}"
        );
        assert!(error.to_string().contains(&at.to_string()) && error.to_string().contains("allow TCP 80"), "{error}");
    }
}
