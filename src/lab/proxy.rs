//! The forward proxy: HTTP CONNECT and plain requests, with the answers of squid 5.7 unless the scenario says otherwise.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use base64::Engine as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    fault::{
        conn::{Breaker, mute},
        half_close::Watched,
        proto::{Certificate, ProxyReply, ProxyStatusReply, Tunnel},
        stream::Placed,
    },
    forward::{self, Target, Unusable, VIA, host_and_port},
    http::{self, Answer, Head, Io, read_head},
    log::{Event, Meter},
    origin::{self, alert, last_words},
    relay,
    spec::{Fault, Login, Party},
    world::{Door, World, stream_fault},
};

/// `unexpected_message` (RFC 8446 section 6): what a TLS server says to plaintext.
const UNEXPECTED_MESSAGE: u8 = 10;

/// Serves one connection.
pub(super) async fn serve(world: Arc<World>, stream: TcpStream, peer: SocketAddr) {
    // An error is the client's leaving; there is nobody to tell.
    let _ = serve_connection(&world, stream, peer).await;
}

async fn serve_connection(world: &World, stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    let spec = &world.spec.proxy;
    let faults = world.proxy_faults();
    let stream = match faults.iter().find_map(|fault| fault.conn) {
        None => stream,
        Some(conn) => match conn.inflict(stream).await {
            Some(stream) => stream,
            None => return Ok(()),
        },
    };
    stream.set_nodelay(true)?;
    relay::shorten_queue(&stream);
    let breaker = Breaker::of(&stream)?;
    let io: Box<dyn Io> = match stream_fault(faults) {
        Some(fault) => {
            let inner = Breaker::of(&stream)?;
            Box::new(fault.apply(Box::new(stream), inner))
        }
        None => Box::new(stream),
    };
    let io: Box<dyn Io> =
        if spec.tls { Box::new(TlsAcceptor::from(world.tls.proxy.clone()).accept(io).await?) } else { io };
    Session { world, peer, breaker }.serve(io).await
}

struct Session<'w> {
    world: &'w World,
    peer: SocketAddr,
    breaker: Breaker,
}

impl<'w> Session<'w> {
    async fn serve(self, mut io: Box<dyn Io>) -> io::Result<()> {
        let mut replies = self.world.spec.faults.iter().filter(|fault| fault.at == Party::Proxy);
        if let Some(ProxyReply::Banner(text)) = replies.find_map(|fault| fault.reply.as_ref()) {
            io.write_all(text.as_bytes()).await?;
            mute(io).await;
            return Ok(());
        }
        let mut buffer = Vec::new();
        loop {
            let head = match read_head(&mut io, &mut buffer).await {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                    return squid(400, "Bad Request", "ERR_PROTOCOL_UNKNOWN", 0).closing().write(&mut io, "").await;
                }
                Err(e) => return Err(e),
            };
            let answer = match self.decide(&head) {
                Decision::Answer(answer) => answer,
                Decision::Misbehave(reply) => {
                    self.log(&head, None);
                    return self.misbehave(io, reply).await;
                }
                Decision::Break(tunnel, host, port) => {
                    self.log(&head, Some(200));
                    return self.break_tunnel(io, buffer, tunnel, &host, port).await;
                }
                Decision::Disturb(fault, host, port) => {
                    self.log(&head, Some(200));
                    established().write(&mut io, "CONNECT").await?;
                    return match self.dial(&host, port).await {
                        Ok(origin) => {
                            let faulty = Box::new(fault.apply(io, self.breaker.again()?));
                            self.relay(faulty, origin, &head.target, &buffer, None).await
                        }
                        Err(_) => last_words(io, b"").await,
                    };
                }
                Decision::Tunnel(host, port) => {
                    if self.world.spec.proxy.optimistic {
                        self.log(&head, Some(200));
                        established().write(&mut io, "CONNECT").await?;
                        return match self.dial(&host, port).await {
                            Ok(origin) => self.relay(io, origin, &head.target, &buffer, None).await,
                            Err(_) => last_words(io, b"").await,
                        };
                    }
                    match self.dial(&host, port).await {
                        Ok(origin) => {
                            self.log(&head, Some(200));
                            established().write(&mut io, "CONNECT").await?;
                            return self.relay(io, origin, &head.target, &buffer, None).await;
                        }
                        Err(answer) => answer,
                    }
                }
                Decision::Forward(target) => match self.forward(&mut io, &mut buffer, &head, &target).await {
                    Ok((origin, status, start)) => {
                        self.log(&head, Some(status));
                        io.write_all(&start).await?;
                        return relay::relay(&mut *io, origin, &Meter::default(), None).await;
                    }
                    Err(answer) => answer,
                },
            };
            self.log(&head, Some(answer.status));
            answer.write(&mut io, &head.method).await?;
            if answer.close || head.wants_close() {
                return last_words(io, b"").await;
            }
        }
    }

    fn log(&self, head: &Head, status: Option<u16>) {
        self.world.log.add(Event::Connect {
            method: head.method.clone(),
            // Without a query or user information, which may be secret.
            authority: match Target::of(&head.target) {
                Some(target) => target.authority,
                None => head.path().rsplit('@').next().unwrap_or_default().to_owned(),
            },
            credentials: head.header("proxy-authorization").is_some(),
            status,
        });
    }

    fn decide(&self, head: &Head) -> Decision<'w> {
        let asked = if head.method == "CONNECT" {
            host_and_port(&head.target, None).map(|(host, port)| (host, port, None))
        } else {
            Target::of(&head.target).map(|target| (target.host.clone(), target.port, Some(target)))
        };
        let Some((host, port, plain)) = asked else {
            return Decision::Answer(squid(400, "Bad Request", "ERR_INVALID_URL", 0).closing());
        };
        if let Some(answer) = self.refuse_login(head) {
            return Decision::Answer(answer);
        }
        let world: &'w World = self.world;
        match (world.request_fault(&host, port), plain) {
            (Some(Fault { reply: Some(reply), .. }), _) => match answer(reply) {
                Some(answer) => Decision::Answer(answer),
                None => Decision::Misbehave(reply),
            },
            // A plain request has no tunnel to break or to disturb.
            (_, Some(target)) => Decision::Forward(target),
            (Some(Fault { tunnel: Some(tunnel), .. }), None) => Decision::Break(tunnel, host, port),
            (Some(fault), None) => match fault.placed() {
                Some(placed) => Decision::Disturb(placed, host, port),
                None => Decision::Tunnel(host, port),
            },
            (None, None) => Decision::Tunnel(host, port),
        }
    }

    fn refuse_login(&self, head: &Head) -> Option<Answer> {
        let spec = &self.world.spec.proxy;
        let required = spec.requires.as_ref()?;
        let given = head.header("proxy-authorization");
        let right = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(required));
        if given == Some(right.as_str()) {
            return None;
        }
        Some(match (spec.login, given) {
            (Login::Squid, _) => {
                let mut answer = squid(407, "Proxy Authentication Required", "ERR_CACHE_ACCESS_DENIED", 0);
                answer.headers.push("Proxy-Authenticate: Basic realm=\"Squid proxy-caching web server\"".into());
                answer
            }
            (Login::Tinyproxy, None) => {
                tinyproxy(407, "Proxy Authentication Required", &["Proxy-Authenticate: Basic realm=\"Tinyproxy\""])
            }
            (Login::Tinyproxy, Some(_)) => {
                tinyproxy(401, "Unauthorized", &["WWW-Authenticate: Basic realm=\"Tinyproxy\""])
            }
            (Login::Bare, _) => Answer::new(407, "Proxy Authentication Required", &[], ""),
        })
    }

    /// Everything that is no complete answer.
    async fn misbehave(self, mut io: Box<dyn Io>, reply: &ProxyReply) -> io::Result<()> {
        match reply {
            ProxyReply::Bytes(text) => last_words(io, text.as_bytes()).await,
            ProxyReply::ThenSilence(text) => {
                io.write_all(text.as_bytes()).await?;
                io.flush().await?;
                mute(io).await;
                Ok(())
            }
            ProxyReply::TlsAlert => last_words(io, &alert(UNEXPECTED_MESSAGE)).await,
            ProxyReply::EndlessHead => {
                io.write_all(b"HTTP/1.1 200 Connection established\r\n").await?;
                loop {
                    io.write_all(b"X-Padding: endless endless endless endless endless endless\r\n").await?;
                }
            }
            ProxyReply::Reset => {
                self.breaker.arm();
                Ok(())
            }
            ProxyReply::Close => last_words(io, b"").await,
            // The others are answers, or a banner, which comes before any request.
            _ => {
                mute(io).await;
                Ok(())
            }
        }
    }

    async fn break_tunnel(
        self,
        mut io: Box<dyn Io>,
        mut buffer: Vec<u8>,
        tunnel: &Tunnel,
        host: &str,
        port: u16,
    ) -> io::Result<()> {
        let authority = format!("{host}:{port}");
        if let Tunnel::Early(text) = tunnel {
            // In one piece, as a server does that takes CONNECT for a GET.
            let mut bytes = ESTABLISHED.as_bytes().to_vec();
            bytes.extend_from_slice(text.as_bytes());
            return last_words(io, &bytes).await;
        }
        if *tunnel == Tunnel::EarlyLost {
            buffer.clear();
            let mut lost = [0; 4096];
            // What has arrived; nothing is waited for.
            while matches!(timeout(Duration::ZERO, io.read(&mut lost)).await, Ok(Ok(1..))) {}
        }
        established().write(&mut io, "CONNECT").await?;
        match tunnel {
            Tunnel::Early(_) | Tunnel::Close => last_words(io, b"").await,
            Tunnel::Mute => {
                mute(io).await;
                Ok(())
            }
            Tunnel::CloseAfterHello | Tunnel::Reset | Tunnel::Bytes(_) => {
                if buffer.is_empty() && io.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
                match tunnel {
                    Tunnel::Bytes(text) => last_words(io, text.as_bytes()).await,
                    Tunnel::Reset => {
                        self.breaker.arm();
                        Ok(())
                    }
                    _ => last_words(io, b"").await,
                }
            }
            Tunnel::Intercept => {
                let config = self.world.tls.chain(Certificate::Intercepted);
                let session = TlsAcceptor::from(config).accept(io).await?;
                let ip = self.addresses(host).first().copied().unwrap_or(IpAddr::from([0, 0, 0, 0]));
                let door = Door { address: SocketAddr::new(ip, port), by_proxy: true };
                origin::serve_inside(self.world, door, self.peer, session, self.breaker).await;
                Ok(())
            }
            Tunnel::EarlyLost => match self.dial(host, port).await {
                Ok(origin) => self.relay(io, origin, &authority, &[], None).await,
                Err(_) => last_words(io, b"").await,
            },
            Tunnel::HalfCloseKills => match self.dial(host, port).await {
                Ok(origin) => {
                    let (io, end) = Watched::new(io);
                    tokio::select! {
                        done = self.relay(Box::new(io), origin, &authority, &buffer, None) => done,
                        () = end.notified() => Ok(()),
                    }
                }
                Err(_) => last_words(io, b"").await,
            },
            Tunnel::Idle(limit) => match self.dial(host, port).await {
                Ok(origin) => self.relay(io, origin, &authority, &buffer, Some(*limit)).await,
                Err(_) => last_words(io, b"").await,
            },
        }
    }

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        literal.parse().map_or_else(|_| self.world.zone.addresses(host), |ip| vec![ip])
    }

    /// Reaches the origin, or says why not as squid does.
    async fn dial(&self, host: &str, port: u16) -> Result<TcpStream, Answer> {
        let mut failure = squid(500, "Internal Server Error", "ERR_CANNOT_FORWARD", 0);
        for ip in self.addresses(host) {
            let door = self.world.behind_proxy.get(&SocketAddr::new(ip, port));
            let error = match door {
                None => ERRNO_REFUSED,
                Some(door) => match timeout(self.world.proxy_patience, TcpStream::connect(door)).await {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => ERRNO_REFUSED,
                    Ok(Err(_)) => ERRNO_UNREACHABLE,
                    Err(_) => ERRNO_TIMED_OUT,
                },
            };
            failure = squid(503, "Service Unavailable", "ERR_CONNECT_FAIL", error);
        }
        Err(failure.closing())
    }

    /// Sends a plain request to its origin. Returns the connection for the rest of the answer, its status, and its start
    /// as the client gets it; or why there is none.
    async fn forward(
        &self,
        client: &mut Box<dyn Io>,
        buffer: &mut Vec<u8>,
        head: &Head,
        target: &Target,
    ) -> Result<(TcpStream, u16, Vec<u8>), Answer> {
        if head.header("transfer-encoding").is_some() {
            return Err(squid(501, "Not Implemented", "ERR_UNSUP_REQ", 0).closing());
        }
        let mut origin = self.dial(&target.host, target.port).await?;
        let sent = async {
            origin.set_nodelay(true)?;
            origin.write_all(&target.request(head)).await?;
            http::pass_body(client, buffer, head.content_length(), &mut origin).await
        };
        if sent.await.is_err() {
            // The origin must not wait for what the client does not send; and it may have answered all the same.
            let _ = origin.shutdown().await;
        }
        let (error, errno) = match forward::answer(&mut origin).await {
            Ok((status, start)) => return Ok((origin, status, start)),
            Err(Unusable::Nothing) => ("ERR_ZERO_SIZE_OBJECT", 0),
            Err(Unusable::Invalid) => ("ERR_INVALID_RESP", 0),
            Err(Unusable::Broken) => ("ERR_READ_ERROR", ERRNO_RESET),
        };
        Err(squid(502, "Bad Gateway", error, errno).closing())
    }

    async fn relay(
        &self,
        mut client: Box<dyn Io>,
        mut origin: TcpStream,
        authority: &str,
        early: &[u8],
        idle: Option<Duration>,
    ) -> io::Result<()> {
        origin.set_nodelay(true)?;
        let meter = self.world.log.add_tunnel(authority);
        origin.write_all(early).await?;
        meter.up.fetch_add(early.len() as u64, Ordering::Relaxed);
        relay::relay(&mut *client, origin, &meter, idle).await
    }
}

enum Decision<'w> {
    Answer(Answer),
    Misbehave(&'w ProxyReply),
    Break(&'w Tunnel, String, u16),
    Disturb(Placed, String, u16),
    Tunnel(String, u16),
    Forward(Target),
}

// ---- answers

const ESTABLISHED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";
const ERRNO_RESET: i32 = 104;
const ERRNO_TIMED_OUT: i32 = 110;
const ERRNO_REFUSED: i32 = 111;
const ERRNO_UNREACHABLE: i32 = 113;

fn established() -> Answer {
    Answer::new(200, "Connection established", &[], "")
}

/// The answer of a fault, if it is a complete one.
fn answer(reply: &ProxyReply) -> Option<Answer> {
    Some(match reply {
        ProxyReply::SquidDenied => squid(403, "Forbidden", "ERR_ACCESS_DENIED", 0),
        ProxyReply::TinyproxyPort => tinyproxy(403, "Access violation", &[]),
        ProxyReply::TinyproxyHost => tinyproxy(403, "Filtered", &[]),
        ProxyReply::TinyproxyClient => tinyproxy(403, "Access denied", &[]),
        ProxyReply::Page(page) => http::page(*page),
        ProxyReply::Reply(reply) => http::custom(reply),
        ProxyReply::ProxyStatus(reply) => proxy_status(reply),
        _ => return None,
    })
}

/// squid's answer with an error page (squid 5.7; the `X-Squid-Error` header is its key). What its tunnel code answers, 500
/// and 503, names neither cache nor path.
fn squid(status: u16, reason: &str, error: &str, errno: i32) -> Answer {
    let mut answer = Answer::new(
        status,
        reason,
        &[
            "Server: squid/5.7",
            "Mime-Version: 1.0",
            &format!("Date: {}", http::date(0)),
            "Content-Type: text/html;charset=utf-8",
            &format!("X-Squid-Error: {error} {errno}"),
            "Vary: Accept-Language",
            "Content-Language: en",
        ],
        format!(
            "<!DOCTYPE html PUBLIC \"-//W3C//DTD HTML 4.01//EN\" \"http://www.w3.org/TR/html4/strict.dtd\">\n\
             <html><head>\n<title>ERROR: The requested URL could not be retrieved</title>\n</head><body id={error}>\n\
             <div id=\"titles\">\n<h1>ERROR</h1>\n<h2>The requested URL could not be retrieved</h2>\n</div>\n\
             </body></html>\n"
        ),
    );
    if !matches!(status, 500 | 503) {
        answer
            .headers
            .extend(["X-Cache: MISS from proxy", "X-Cache-Lookup: NONE from proxy:3128", VIA].map(Into::into));
    }
    answer
}

/// tinyproxy's answer (1.11.1): the reason phrase is its key, and the connection ends.
fn tinyproxy(status: u16, reason: &str, headers: &[&str]) -> Answer {
    let mut all = vec!["Server: tinyproxy/1.11.1", "Content-Type: text/html"];
    all.extend(headers);
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<html>\n<head><title>{status} {reason}</title></head>\n\
         <body>\n<h1>{reason}</h1>\n<hr />\n<p><em>Generated by tinyproxy version 1.11.1.</em></p>\n</body>\n</html>\n"
    );
    let mut answer = Answer::new(status, reason, &all, body).closing();
    // As 1.11.1 has it: its filters speak HTTP/1.1, its access list and its login HTTP/1.0.
    answer.old = !matches!(reason, "Access violation" | "Filtered");
    answer
}

fn proxy_status(reply: &ProxyStatusReply) -> Answer {
    let mut answer = Answer::new(
        reply.status,
        "Proxy Error",
        &[&format!("Proxy-Status: proxy.example.net; error={}{}", reply.error, reply.parameters)],
        "",
    );
    answer.headers.extend(reply.retry_after.map(|seconds| format!("Retry-After: {seconds}")));
    answer.closing()
}
