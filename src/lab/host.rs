//! The wire server, on its two ports (168.63.129.16: 80 and 32526).

use std::{io, net::SocketAddr};

use tokio::net::TcpStream;

use super::{
    fault::{conn::Conn, proto::Page},
    http::{self, Answer, read_head},
    log::{Event, Log},
    origin::last_words,
    spec::HostAnswer,
};

/// What tells that an answer came through a proxy.
pub(super) const VIA: &str = "Via: 1.1 proxy.example.net (squid/5.7)";

/// The fault that the port itself shows.
pub(super) fn port_fault(answer: HostAnswer) -> Option<(Conn, u32)> {
    match answer {
        HostAnswer::Silent => Some((Conn::Silent, 0)),
        HostAnswer::Refuse => Some((Conn::Refuse, 0)),
        HostAnswer::Ok | HostAnswer::Other | HostAnswer::Via => None,
    }
}

/// Serves one connection.
pub(super) async fn serve(log: Log, answer: HostAnswer, mut stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut buffer).await? {
        log.add(Event::Host { path: head.path().to_owned(), peer });
        let mut reply = match answer {
            HostAnswer::Other => http::page(Page::WebServer),
            _ if head.path() == "/health" => Answer::new(200, "OK", &["Content-Type: text/plain"], ""),
            _ if head.path() == "/" && head.query() == "comp=versions" || head.path() == "/versions" => versions(),
            _ => Answer::new(404, "Not Found", &["Content-Type: text/html"], ""),
        };
        if answer == HostAnswer::Via {
            reply.headers.push(VIA.into());
        }
        reply.close |= head.wants_close();
        reply.write(&mut stream, &head.method).await?;
        if reply.close {
            break;
        }
    }
    last_words(stream, b"").await
}

/// `/?comp=versions`: the protocol versions, as the Linux agent reads them.
fn versions() -> Answer {
    Answer::new(
        200,
        "OK",
        &["Content-Type: text/xml; charset=utf-8", &format!("Date: {}", http::date(0))],
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <Versions xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
         xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\">\n\
         <Preferred>\n<Version>2015-04-05</Version>\n</Preferred>\n\
         <Supported>\n<Version>2015-04-05</Version>\n<Version>2012-11-30</Version>\n</Supported>\n</Versions>",
    )
}
