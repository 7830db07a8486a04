//! The lab on the wire, seen through plain sockets, rustls and hickory-proto.

mod own;
mod quirks;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::Engine as _;
use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{Name, RData, RecordType},
};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::{
    model::{IcmpError, IcmpFamily},
    plan::{Played, PlayedFailure},
};

const NAME: &str = "acct.blob.core.windows.net";
const SOON: Duration = Duration::from_secs(10);
/// Long enough to call a peer silent that answers within microseconds otherwise.
const SILENCE: Duration = Duration::from_millis(150);

/// A lab from its table, with the faults in a table of their own beside it.
fn lab(toml: &str) -> Lab {
    let mut table: toml::Table = toml.parse().unwrap();
    let faults = table.remove("fault").map_or_else(Vec::new, |faults| faults.try_into().unwrap());
    Lab::start(&LabSpec { faults, ..table.try_into().unwrap() }).unwrap()
}

fn at(lab: &Lab, port: u16) -> SocketAddr {
    lab.network().addresses[&format!("{NAME}:{port}")]
}

async fn connect(to: SocketAddr) -> TcpStream {
    timeout(SOON, TcpStream::connect(to)).await.unwrap().unwrap()
}

async fn tls_with<S: AsyncRead + AsyncWrite + Unpin>(
    roots: &[Vec<u8>],
    name: &str,
    stream: S,
) -> io::Result<TlsStream<S>> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(root.clone())).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    timeout(SOON, TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
}

async fn tls(lab: &Lab, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    tls_with(&lab.network().roots, NAME, stream).await
}

fn tls_error(error: &io::Error) -> &rustls::Error {
    error.get_ref().and_then(|e| e.downcast_ref()).unwrap_or_else(|| panic!("no TLS error: {error}"))
}

/// Writes, and reads until the peer ends.
async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), request: &str) -> io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    Ok(String::from_utf8_lossy(&rest(stream).await?).into_owned())
}

/// Reads until the peer ends.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    timeout(SOON, stream.read_to_end(&mut bytes)).await.unwrap()?;
    Ok(bytes)
}

/// Reads one head, and nothing behind it.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// What a blob holds from `start` to `end`.
fn pattern(start: usize, end: usize) -> Vec<u8> {
    (start..end).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n")
}

fn connect_request(port: u16) -> String {
    format!("CONNECT {NAME}:{port} HTTP/1.1\r\nHost: {NAME}:{port}\r\n\r\n")
}

/// Opens a tunnel and returns the proxy's answer, head only.
async fn tunnel(lab: &Lab, port: u16) -> (TcpStream, String) {
    let mut stream = connect(lab.network().addresses["proxy"]).await;
    stream.write_all(connect_request(port).as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    (stream, head)
}

/// Sends CONNECT and reads until the proxy ends the connection.
async fn proxy_says(lab: &Lab, request: &str) -> io::Result<String> {
    let mut stream = connect(lab.network().addresses["proxy"]).await;
    exchange(&mut stream, request).await
}

/// Asks, and waits for a decodable answer; `None` when the port is closed or the answer does not decode.
async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Option<Message> {
    timeout(SOON, ask_patiently(server, name, kind)).await.unwrap()
}

async fn ask_patiently(server: SocketAddr, name: &str, kind: RecordType) -> Option<Message> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(server).await.unwrap();
    let mut query = Message::new(4711, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    query.set_edns(Edns::new());
    socket.send(&query.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 4096];
    let n = socket.recv(&mut buffer).await.ok()?;
    Message::from_vec(&buffer[..n]).ok()
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let ip = |data: &RData| match data {
        RData::A(a) => Some(IpAddr::V4(a.0)),
        RData::AAAA(a) => Some(IpAddr::V6(a.0)),
        _ => None,
    };
    message.answers.iter().filter_map(|record| ip(&record.data)).collect()
}

// ---- the healthy world

#[tokio::test]
async fn a_healthy_origin_answers_as_storage_on_all_ports() {
    let lab = lab("");
    for port in [443, 8443] {
        let mut session = tls(&lab, connect(at(&lab, port)).await).await.unwrap();
        let answer = exchange(&mut session, &get("/?sig=topsecret&comp=")).await;
        assert!(answer.is_ok(), "{answer:?}");
        let mut session = tls(&lab, connect(at(&lab, port)).await).await.unwrap();
        let answer = exchange(&mut session, &get("/")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("\r\nx-ms-request-id: "), "{answer}");
        assert!(answer.contains("<Code>InvalidQueryParameterValue</Code>"), "{answer}");
    }
    let answer = exchange(&mut connect(at(&lab, 80)).await, &get("/")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("x-ms-request-id"), "{answer}");

    let log = lab.log();
    let requests: Vec<_> = log
        .iter()
        .filter_map(|event| match event {
            Event::Request { path, address, sni, by_proxy, .. } => {
                Some((path, address.port(), sni.as_deref(), by_proxy))
            }
            _ => None,
        })
        .collect();
    assert_eq!(requests.len(), 5);
    assert!(requests.iter().all(|(path, .., by_proxy)| *path == "/" && !**by_proxy), "{requests:?}");
    assert_eq!((requests[1].1, requests[1].2), (443, Some(NAME)));
    assert_eq!((requests[4].1, requests[4].2), (80, None));
    assert!(!serde_json::to_string(&log).unwrap().contains("topsecret"));
}

#[tokio::test]
async fn signed_requests_move_bytes_and_connections_stay() {
    let lab = lab("");
    let mut stream = connect(at(&lab, 80)).await;
    let put = "PUT /c/b?comp=block&sig=x HTTP/1.1\r\nContent-Length: 300000\r\n\r\n";
    stream.write_all(&[put.as_bytes(), &vec![7; 300_000]].concat()).await.unwrap();
    let range = "GET /c/b?sig=x HTTP/1.1\r\nx-ms-range: bytes=100-1000099\r\nConnection: close\r\n\r\n";
    stream.write_all(range.as_bytes()).await.unwrap();
    let put = head(&mut stream).await;
    assert!(put.starts_with("HTTP/1.1 201 Created\r\n") && put.contains("\r\nContent-Length: 0\r\n"), "{put}");
    let get = head(&mut stream).await;
    assert!(get.starts_with("HTTP/1.1 206 Partial Content\r\n"), "{get}");
    assert!(get.contains("\r\nContent-Length: 1000000\r\n"), "{get}");
    assert!(get.contains("\r\nContent-Range: bytes 100-1000099/1099511627776\r\n"), "{get}");
    assert!(rest(&mut stream).await.unwrap() == pattern(100, 1_000_100));
}

#[tokio::test]
async fn what_is_put_is_taken_as_put_block_does_if_a_signature_allows_it() {
    let lab = lab("");
    let mut stream = connect(at(&lab, 80)).await;
    let put =
        |target: &str, more: &str, body: &str| format!("PUT {target} HTTP/1.1\r\nHost: {NAME}\r\n{more}\r\n{body}");
    let length = "Content-Length: 4\r\nx-ms-client-request-id: 7-a\r\n";
    let block = "/c/b?comp=block&blockid=AAAA&sv=2021-12-02&sig=x%3D";
    for (request, status, header) in [
        (put(block, length, "abcd"), "201 Created", "x-ms-request-server-encrypted: true"),
        (put(block, length, "abcd"), "201 Created", "x-ms-client-request-id: 7-a"),
        (
            put("/snapreach-bulk/0", "Transfer-Encoding: chunked\r\n", "4\r\nabcd\r\n0\r\n\r\n"),
            "201 Created",
            "x-ms-version: ",
        ),
        (put("/c/b?comp=block&blockid=AAAA", length, "abcd"), "404 ", "x-ms-error-code: ResourceNotFound"),
        (put("/c/b?comp=block&blockid=AAAA&sig=", length, "abcd"), "403 ", "x-ms-error-code: AuthenticationFailed"),
    ] {
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = head(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(header), "{request}: {answer}");
        assert!(answer.contains("\r\nx-ms-request-id: ") && answer.contains("\r\nDate: "), "{answer}");
        let body = answer.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap().parse().unwrap();
        stream.read_exact(&mut vec![0; body]).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_waits_before_it_sends_is_told_to_go_on_unless_nothing_is_answered() {
    let request =
        format!("PUT /snapreach-bulk/0 HTTP/1.1\r\nHost: {NAME}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let healthy = lab("");
    let mut stream = connect(at(&healthy, 80)).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abcd").await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 201 "));
    let closing = lab("[[fault]]\nat = 'origin'\nhttp = 'close'");
    assert_eq!(exchange(&mut connect(at(&closing, 80)).await, &request).await.unwrap(), "");
}

#[tokio::test]
async fn the_bulk_source_gives_as_many_bytes_as_its_name_says() {
    let lab = lab("");
    let bulk = |method: &str, size: &str, more: &str| {
        format!("{method} /snapreach-bulk/{size} HTTP/1.1\r\nHost: {NAME}\r\n{more}\r\n")
    };
    let plain = connect(at(&lab, 80)).await;
    let session = tls(&lab, connect(at(&lab, 443)).await).await.unwrap();
    for mut stream in [Box::new(plain) as Box<dyn http::Io>, Box::new(session)] {
        stream.write_all(bulk("HEAD", "1099511627776", "").as_bytes()).await.unwrap();
        let says = head(&mut stream).await;
        assert!(says.starts_with("HTTP/1.1 200 OK\r\n") && says.contains("\r\nx-ms-request-id: "), "{says}");
        assert!(says.contains("\r\nContent-Length: 1099511627776\r\n"), "{says}");
        // More than the source's buffer at once, and the connection stays.
        stream.write_all(bulk("GET", "3000001", "").as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.contains("\r\nContent-Length: 3000001\r\n"));
        let mut bytes = vec![0; 3_000_001];
        timeout(SOON, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        assert!(bytes == pattern(0, 3_000_001));
        stream.write_all(bulk("GET", "0", "").as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.contains("\r\nContent-Length: 0\r\n"));
        stream.write_all(bulk("POST", "0", "Content-Length: 3000000\r\n").as_bytes()).await.unwrap();
        stream.write_all(&bytes[..3_000_000]).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 201 "));
        let open_end = bulk("GET", "1000", "Range: bytes=990-\r\nConnection: close\r\n");
        stream.write_all(open_end.as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.contains("\r\nContent-Range: bytes 990-999/1000\r\n"));
        assert_eq!(rest(&mut stream).await.unwrap(), pattern(990, 1000));
    }
    let answer = exchange(&mut connect(at(&lab, 80)).await, &get("/snapreach-bulk/1099511627777")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 409 "), "{answer}");
}

#[tokio::test]
async fn tunnels_carry_bytes_and_the_log_proves_it() {
    let lab = lab("");
    let (stream, head) = tunnel(&lab, 443).await;
    assert_eq!(head, "HTTP/1.1 200 Connection established\r\n\r\n");
    let mut session = tls(&lab, stream).await.unwrap();
    let answer = exchange(&mut session, &get("/")).await.unwrap();
    assert!(answer.contains("x-ms-request-id"), "{answer}");
    let log = lab.log();
    let (up, down) = log
        .iter()
        .find_map(|event| match event {
            Event::Tunnel { authority, up, down } if authority == &format!("{NAME}:443") => Some((*up, *down)),
            _ => None,
        })
        .unwrap();
    assert!(up > get("/").len() as u64 && down > answer.len() as u64, "{up} {down}");
    assert!(log.iter().any(|event| matches!(event, Event::Request { by_proxy: true, .. })), "{log:?}");
    assert!(!log.iter().any(|event| matches!(event, Event::Request { by_proxy: false, .. })), "{log:?}");
}

#[tokio::test]
async fn a_half_closed_tunnel_still_delivers_the_answer() {
    let lab = lab("");
    let (mut stream, _) = tunnel(&lab, 80).await;
    stream.write_all(get("/").replace("Connection: close\r\n", "").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.contains("x-ms-request-id"), "{answer}");
}

/// An address that only the proxy reaches.
const FAR: &str = "192.0.2.7:5000";

/// A lab whose proxy reaches a socket of the test as [`FAR`].
async fn lab_with_far_end(more: &str) -> (Lab, tokio::net::TcpListener) {
    let far = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let lab = lab(&format!("[proxy]\n{more}\n[proxy.reach]\n'{FAR}' = '{}'", far.local_addr().unwrap()));
    (lab, far)
}

fn tunnelled(lab: &Lab) -> (u64, u64) {
    let numbers = |event: &Event| match event {
        Event::Tunnel { up, down, .. } => Some((*up, *down)),
        _ => None,
    };
    lab.log().iter().find_map(numbers).unwrap()
}

#[tokio::test]
async fn tunnels_carry_bulk_exactly_and_have_counted_it_when_it_arrives() {
    const UP: usize = 5_000_000;
    const DOWN: usize = 9_000_000;
    for over_tls in [false, true] {
        let (lab, far) = lab_with_far_end(&format!("tls = {over_tls}")).await;
        let far_end = async {
            let (mut stream, _) = far.accept().await.unwrap();
            let mut bytes = vec![0; UP];
            timeout(SOON, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
            assert_eq!(tunnelled(&lab), (UP as u64, 0));
            assert!(bytes == pattern(1, UP + 1));
            // The end of the client's way, while the other way is still to be used.
            assert_eq!(rest(&mut stream).await.unwrap(), b"");
            stream.write_all(&pattern(2, DOWN + 2)).await.unwrap();
        };
        let stream = connect(lab.network().addresses["proxy"]).await;
        let mut client: Box<dyn http::Io> = if over_tls {
            Box::new(tls_with(&lab.network().roots, "127.0.0.1", stream).await.unwrap())
        } else {
            Box::new(stream)
        };
        let near_end = async {
            // The first bytes come with the request.
            let first = [format!("CONNECT {FAR} HTTP/1.1\r\n\r\n").as_bytes(), &pattern(1, 1000)].concat();
            client.write_all(&first).await.unwrap();
            assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
            client.write_all(&pattern(1000, UP + 1)).await.unwrap();
            client.shutdown().await.unwrap();
            let mut bytes = vec![0; DOWN];
            timeout(SOON, client.read_exact(&mut bytes)).await.unwrap().unwrap();
            assert_eq!(tunnelled(&lab), (UP as u64, DOWN as u64));
            assert!(bytes == pattern(2, DOWN + 2));
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        };
        tokio::join!(far_end, near_end);
    }
}

#[tokio::test]
async fn a_reset_ends_both_ways_of_a_busy_tunnel() {
    let (lab, far) = lab_with_far_end("").await;
    let mut client = connect(lab.network().addresses["proxy"]).await;
    client.write_all(format!("CONNECT {FAR} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
    head(&mut client).await;
    let (mut far_end, _) = far.accept().await.unwrap();
    far_end.write_all(&pattern(0, 1_000_000)).await.unwrap();
    let mut bytes = vec![0; 1_000_000];
    timeout(SOON, client.read_exact(&mut bytes)).await.unwrap().unwrap();
    fault::conn::reset(far_end);
    let end = timeout(SOON, client.read(&mut bytes)).await.unwrap();
    assert!(end.as_ref().map_or_else(|e| e.kind() == io::ErrorKind::ConnectionReset, |n| *n == 0), "{end:?}");
}

#[tokio::test]
async fn the_proxy_passes_plain_requests_on() {
    let lab = lab("");
    let through = |url: &str| format!("GET {url} HTTP/1.1\r\nHost: other.example\r\nProxy-Connection: close\r\n\r\n");
    let says = proxy_says(&lab, &through(&format!("http://user@{NAME}/?secret=TOPSECRET"))).await.unwrap();
    assert!(says.starts_with("HTTP/1.1 400 Value for one of the query parameters"), "{says}");
    assert!(says.contains("\r\nVia: 1.1 proxy (squid/5.7)\r\n") && says.ends_with("</Error>"), "{says}");
    let mut stream = connect(lab.network().addresses["proxy"]).await;
    stream.write_all(through(&format!("http://{NAME}:80/snapreach-bulk/2000000")).as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.contains("\r\nContent-Length: 2000000\r\n"));
    assert!(rest(&mut stream).await.unwrap() == pattern(0, 2_000_000));
    // Where `http_proxy` is set the wire server is asked through the proxy too, and answers.
    let says = proxy_says(&lab, &through("http://168.63.129.16/?comp=versions")).await.unwrap();
    assert!(says.contains("<Version>2012-11-30</Version>") && says.contains("\r\nVia: 1.1 proxy "), "{says}");

    let log = lab.log();
    let requests: Vec<_> = log
        .iter()
        .filter_map(|event| match event {
            Event::Request { host, path, by_proxy: true, .. } => Some((host.as_deref().unwrap(), path.as_str())),
            Event::Host { path, .. } => Some(("wire server", path.as_str())),
            _ => None,
        })
        .collect();
    let with_port = format!("{NAME}:80");
    assert_eq!(requests, [(NAME, "/"), (&with_port, "/snapreach-bulk/2000000"), ("wire server", "/")]);
    let asked: Vec<_> = log
        .iter()
        .filter_map(|event| match event {
            Event::Connect { method, authority, status, .. } => Some((method.as_str(), authority.as_str(), *status)),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [("GET", NAME, Some(400)), ("GET", &with_port, Some(200)), ("GET", "168.63.129.16", Some(200))]);
    assert!(!serde_json::to_string(&log).unwrap().contains("TOPSECRET"));
}

#[tokio::test]
async fn a_passed_request_is_the_clients_less_what_concerns_the_proxy() {
    let (lab, far) = lab_with_far_end("requires = 'svc:TOPSECRET'").await;
    let code = base64::engine::general_purpose::STANDARD.encode("svc:TOPSECRET");
    let request = |login: &str| {
        format!(
            "PUT http://{FAR}/a?b HTTP/1.1\r\nHost: {FAR}\r\n{login}: Basic {code}\r\nConnection: keep-alive, X-Hop\r\n\
             X-Hop: 1\r\nx-ms-version: 2\r\nContent-Length: 300000\r\n\r\n"
        )
    };
    let without = request("Authorization").replace("300000", "0").replace("keep-alive, X-Hop", "close");
    let says = proxy_says(&lab, &without).await.unwrap();
    assert!(says.starts_with("HTTP/1.1 407 "), "{says}");
    let mut client = connect(lab.network().addresses["proxy"]).await;
    let client_end = async {
        client.write_all(request("Proxy-Authorization").as_bytes()).await.unwrap();
        client.write_all(&pattern(0, 300_000)).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 201 Yes\r\nX-B: c\r\n"));
        assert_eq!(rest(&mut client).await.unwrap(), b"done");
    };
    let far_end = async {
        let (mut stream, _) = far.accept().await.unwrap();
        let head = head(&mut stream).await;
        let right = format!(
            "PUT /a?b HTTP/1.1\r\nHost: {FAR}\r\nx-ms-version: 2\r\nContent-Length: 300000\r\n\
             Via: 1.1 proxy (squid/5.7)\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(head, right);
        let mut body = vec![0; 300_000];
        timeout(SOON, stream.read_exact(&mut body)).await.unwrap().unwrap();
        assert!(body == pattern(0, 300_000));
        stream.write_all(b"HTTP/1.1 201 Yes\r\nX-B: c\r\nContent-Length: 4\r\n\r\ndone").await.unwrap();
    };
    tokio::join!(client_end, far_end);
}

#[tokio::test]
async fn plain_requests_meet_the_proxys_rules_and_faults_of_the_origin() {
    let plain = |host: &str| format!("GET http://{host}/ HTTP/1.1\r\nConnection: close\r\n\r\n");
    let refusing =
        lab("[[fault]]\nat = 'proxy'\nhosts = ['*.blob.core.windows.net']\nports = [80]\nreply = 'squid_denied'");
    let says = proxy_says(&refusing, &plain(NAME)).await.unwrap();
    assert!(says.starts_with("HTTP/1.1 403 ") && says.contains("ERR_ACCESS_DENIED"), "{says}");
    let says = proxy_says(&refusing, &plain("168.63.129.16")).await.unwrap();
    assert!(says.starts_with("HTTP/1.1 404 "), "{says}");
    for (fault, error) in [
        ("'close'", "ERR_ZERO_SIZE_OBJECT 0"),
        ("'reset'", "ERR_READ_ERROR 104"),
        ("{ bytes = 'HTTQ' }", "ERR_INVALID_RESP 0"),
    ] {
        let says = proxy_says(&lab(&format!("[[fault]]\nat = 'origin'\nports = [80]\nhttp = {fault}")), &plain(NAME))
            .await
            .unwrap();
        assert!(says.starts_with("HTTP/1.1 502 ") && says.contains(&format!("X-Squid-Error: {error}\r\n")), "{says}");
    }
    for wrong in ["GET /", "GET https://acct.blob.core.windows.net/", "GET http://:80/", "CONNECT acct"] {
        let says = proxy_says(&refusing, &format!("{wrong} HTTP/1.1\r\n\r\n")).await.unwrap();
        assert!(says.starts_with("HTTP/1.1 400 ") && says.contains("ERR_INVALID_URL"), "{wrong}: {says}");
    }
}

#[test]
fn the_proxy_reaches_nothing_beyond_loopback() {
    let spec: LabSpec = toml::from_str("[proxy.reach]\n'192.0.2.7:80' = '192.0.2.7:80'").unwrap();
    let error = Lab::start(&spec).unwrap_err();
    assert_eq!(error.to_string(), "lab.proxy.reach: 192.0.2.7:80 is not on loopback, which the lab does not leave");
}

#[tokio::test]
async fn the_proxy_reports_what_it_cannot_reach() {
    let lab = lab(
        "[[fault]]\nat = 'origin'\nports = [443]\nway = 'proxy'\nconn = 'refuse'\n[[fault]]\nat = 'origin'\nports = [8443]\nconn = 'silent'",
    );
    let says = proxy_says(&lab, &connect_request(443)).await.unwrap();
    assert!(says.starts_with("HTTP/1.1 503 ") && says.contains("X-Squid-Error: ERR_CONNECT_FAIL 111"), "{says}");
    let says = proxy_says(&lab, &connect_request(8443)).await.unwrap();
    assert!(says.contains("X-Squid-Error: ERR_CONNECT_FAIL 110"), "{says}");
    let says = proxy_says(&lab, "CONNECT nx.blob.core.windows.net:443 HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(says.starts_with("HTTP/1.1 500 ") && says.contains("X-Squid-Error: ERR_CANNOT_FORWARD 0"), "{says}");
    // The rule is for the proxy's way only.
    assert!(tls(&lab, connect(at(&lab, 443)).await).await.is_ok());
}

#[tokio::test]
async fn dns_answers_chains_and_absence() {
    let lab = lab("");
    let network = lab.network();
    let answer = ask(network.dns, NAME, RecordType::A).await.unwrap();
    assert_eq!(answer.metadata.id, 4711);
    assert_eq!(addresses(&answer), [IpAddr::from([20, 60, 222, 132])]);
    assert!(matches!(&answer.answers[0].data, RData::CNAME(c) if c.0.to_ascii().ends_with(".store.core.windows.net.")));
    let answer = ask(network.dns, NAME, RecordType::AAAA).await.unwrap();
    assert_eq!((u16::from(answer.metadata.response_code), addresses(&answer).len()), (0, 0));
    let answer = ask(network.dns, "nx.example", RecordType::A).await.unwrap();
    assert_eq!(u16::from(answer.metadata.response_code), 3);
    let asked = |event: &Event| {
        matches!(event, Event::Question { name, kind, tcp: false, view: View::System }
        if name == NAME && kind == "AAAA")
    };
    assert!(lab.log().iter().any(asked));
    // What DNS says is dialable, and nothing else is.
    assert!(network.dial.addresses.contains_key(&"20.60.222.132:8443".parse().unwrap()));
    let elsewhere = network.dial.for_address("192.0.2.1:443".parse().unwrap());
    let error = TcpStream::connect(elsewhere).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn the_wire_server_gives_its_versions() {
    let lab = lab("");
    let mut stream = connect(lab.network().host_endpoint).await;
    let answer =
        exchange(&mut stream, "GET /?comp=versions HTTP/1.1\r\nHost: 168.63.129.16\r\nConnection: close\r\n\r\n");
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("<Version>2012-11-30</Version>"), "{answer}");
    assert!(!answer.contains("\r\nVia:"), "{answer}");
}

#[tokio::test]
async fn instance_metadata_describes_the_machine_to_those_who_ask_rightly() {
    let lab = lab("[host.metadata.instance.compute]\nlocation = 'chinanorth2'\n\
         [host.metadata.instance.compute.storageProfile.osDisk]\nvhd = { uri = 'https://acct.example/os.vhd' }");
    for (request, status, part) in [
        ("/metadata/versions HTTP/1.1\r\nMetadata: true", "200 OK", "{\"apiVersions\":[\"2019-06-01\""),
        (
            "/metadata/instance?api-version=2021-02-01 HTTP/1.1\r\nmetadata: True",
            "200 OK",
            "\"location\":\"chinanorth2\"",
        ),
        ("/metadata/instance/?api-version=2019-08-15 HTTP/1.1\r\nMetadata: true", "200 OK", "\"name\":\"data0\""),
        (
            "/metadata/instance/compute/storageProfile/osDisk?api-version=2021-02-01 HTTP/1.1\r\nMetadata: true",
            "200 OK",
            "\"vhd\":{\"uri\":\"https://acct.example/os.vhd\"}",
        ),
        (
            "/metadata/instance/network/interface/0?api-version=2021-02-01 HTTP/1.1\r\nMetadata: true",
            "200 OK",
            "10.1.0.4",
        ),
        (
            "/metadata/instance/compute/location?format=text&api-version=2021-02-01 HTTP/1.1\r\nMetadata: true",
            "200 OK",
            "\r\n\r\nchinanorth2",
        ),
        (
            "/metadata/instance/compute/location?api-version=2021-02-01 HTTP/1.1\r\nMetadata: true",
            "400 Bad",
            "format=text",
        ),
        ("/metadata/instance/nosuch?api-version=2021-02-01 HTTP/1.1\r\nMetadata: true", "404 Not", "{\"error\""),
        ("/metadata/identity/oauth2/token?api-version=2021-02-01 HTTP/1.1\r\nMetadata: true", "404 Not", "{\"error\""),
        (
            "/metadata/instance HTTP/1.1\r\nMetadata: true",
            "400 Bad",
            "\"error\":\"Bad request. api-version was not specified",
        ),
        ("/metadata/instance?api-version=latest HTTP/1.1\r\nMetadata: true", "400 Bad", "\"newest-versions\":["),
        ("/metadata/instance?api-version=2021-02-01 HTTP/1.1\r\nHost: x", "400 Bad", "\"newest-versions\":["),
        ("/metadata/versions HTTP/1.1\r\nMetadata: true\r\nX-Forwarded-For: 10.0.0.9", "400 Bad", "X-Forwarded-For"),
    ] {
        let mut stream = connect(lab.network().metadata).await;
        let answer = exchange(&mut stream, &format!("GET {request}\r\nConnection: close\r\n\r\n")).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(part), "{request}: {answer}");
        assert!(answer.contains("\r\nServer: IMDS/"), "{answer}");
    }
    let mut stream = connect(lab.network().metadata).await;
    let request = "POST /metadata/instance HTTP/1.1\r\nMetadata: true\r\nConnection: close\r\n\r\n";
    assert!(exchange(&mut stream, request).await.unwrap().starts_with("HTTP/1.1 405 "));
}

#[test]
fn everything_stops_on_drop() {
    let lab = lab(
        "[[fault]]\nat = 'origin'\nports = [8443]\nconn = 'silent'\n[[fault]]\nat = 'origin'\nports = [80]\nconn = 'refuse'",
    );
    let sockets: Vec<SocketAddr> = lab.network().addresses.values().copied().collect();
    let named = &lab.network().addresses;
    let open: Vec<std::net::TcpStream> = [at(&lab, 443), named["dns"], named["proxy"], named["host"]]
        .into_iter()
        .map(|socket| std::net::TcpStream::connect(socket).unwrap())
        .collect();
    drop(lab);
    for mut stream in open {
        stream.set_read_timeout(Some(SOON)).unwrap();
        let peer = stream.peer_addr();
        match io::Read::read(&mut stream, &mut [0; 8]) {
            Ok(n) => assert_eq!(n, 0, "{peer:?}"),
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::ConnectionReset, "{peer:?}"),
        }
    }
    let refused = |socket: &&SocketAddr| {
        std::net::TcpStream::connect_timeout(socket, SOON).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
    };
    // A lab of another test may have got a port of this one since.
    assert!(sockets.iter().filter(refused).count() + 3 >= sockets.len() && sockets.len() > 20);
}

// ---- faults of connections

#[tokio::test]
async fn connection_faults_do_what_they_say() {
    let lab = lab(
        "[[fault]]\nat = 'origin'\nports = [80]\nconn = 'reset'\n[[fault]]\nat = 'origin'\nports = [443]\nconn = 'mute'\n\
         [[fault]]\nat = 'origin'\nports = [8443]\nconn = 'close'",
    );
    // The RST may overtake the client's own notice that the connection stands.
    let reset = async {
        let mut stream = TcpStream::connect(at(&lab, 80)).await?;
        stream.read_u8().await
    };
    assert_eq!(timeout(SOON, reset).await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let mut stream = connect(at(&lab, 443)).await;
    stream.write_all(b"hello").await.unwrap();
    assert!(timeout(SILENCE, stream.read_u8()).await.is_err());
    let mut stream = connect(at(&lab, 8443)).await;
    assert_eq!(timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn faults_can_meet_some_connections_only() {
    let lab = lab("[[fault]]\nat = 'origin'\nports = [443]\nwhen = { nth = [2] }\nconn = 'reset'\n\
         [[fault]]\nat = 'origin'\nports = [80]\nwhen = { after = 1 }\nconn = 'refuse'\n\
         [[fault]]\nat = 'origin'\nports = [8443]\nwhen = { after = 1 }\nconn = 'silent'");
    let mut works = Vec::new();
    for _ in 0..3 {
        let attempt = async { tls(&lab, TcpStream::connect(at(&lab, 443)).await?).await };
        works.push(attempt.await.is_ok());
    }
    assert_eq!(works, [true, false, true]);
    let answer = exchange(&mut connect(at(&lab, 80)).await, &get("/")).await.unwrap();
    assert!(answer.contains("x-ms-request-id"));
    let error = TcpStream::connect(at(&lab, 80)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(tls(&lab, connect(at(&lab, 8443)).await).await.is_ok());
    assert!(timeout(SILENCE, TcpStream::connect(at(&lab, 8443))).await.is_err());
}

#[tokio::test]
async fn the_segment_size_can_decide() {
    let lab = lab("[[fault]]\nat = 'origin'\nports = [443]\nconn = { mute_above_mss = 1400 }");
    let to = at(&lab, 443);
    assert!(timeout(SILENCE * 3, tls(&lab, connect(to).await)).await.is_err());
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_tcp_mss(536).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let small = TcpStream::from_std(socket.into()).unwrap();
    assert!(tls(&lab, small).await.is_ok());
}

// ---- faults of byte streams

async fn raw_answer(fault: &str) -> io::Result<Vec<u8>> {
    let lab = lab(&format!("[[fault]]\nat = 'origin'\nports = [80]\n{fault}"));
    let mut stream = connect(at(&lab, 80)).await;
    stream.write_all(get("/").as_bytes()).await?;
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap()?;
    Ok(answer)
}

#[tokio::test]
async fn stream_faults_do_what_they_say() {
    assert_eq!(raw_answer("stream = 'cut'\nwhen = { after_bytes = 20 }").await.unwrap().len(), 20);
    assert_eq!(
        raw_answer("stream = 'reset'\nwhen = { after_bytes = 20 }").await.unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    let corrupted = raw_answer("stream = 'corrupt'").await.unwrap();
    assert_eq!((corrupted[0], &corrupted[1..5]), (!b'H', &b"TTP/"[..]));
    let injected = raw_answer("stream = { inject = 'XX' }\nwhen = { after_bytes = 4 }").await.unwrap();
    assert!(injected.starts_with(b"HTTPXX/1.1 "));
    let started = Instant::now();
    assert!(raw_answer("stream = { delay = '200ms' }").await.unwrap().starts_with(b"HTTP/1.1 400"));
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_delay_is_paid_once_and_not_per_piece() {
    // Some hundred pieces: if each waited for the one before, this would take the better part of a minute.
    const BYTES: usize = 32 * 1024 * 1024;
    let lab = lab("[[fault]]\nat = 'origin'\nports = [80]\nstream = { delay = '100ms' }");
    let mut stream = connect(at(&lab, 80)).await;
    stream.write_all(get(&format!("/snapreach-bulk/{BYTES}")).as_bytes()).await.unwrap();
    let started = Instant::now();
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(started.elapsed() >= Duration::from_millis(100) && answer.len() > BYTES);
}

#[tokio::test]
async fn what_the_client_sends_can_suffer_too() {
    let lab = lab(
        "[[fault]]\nat = 'origin'\nports = [80]\nstream = 'cut'\ndirection = 'to_server'\nwhen = { after_bytes = 9 }\n\
         [[fault]]\nat = 'tunnel'\nstream = 'corrupt'\ndirection = 'to_server'",
    );
    // Nine bytes of a request are no request: the origin ends, and the way back stays as it is.
    let answer = exchange(&mut connect(at(&lab, 80)).await, &get("/")).await.unwrap();
    assert_eq!(answer, "");
    let (stream, _) = tunnel(&lab, 443).await;
    let error = tls(&lab, stream).await.unwrap_err();
    assert!(!matches!(error.kind(), io::ErrorKind::TimedOut), "{error}");
}

#[tokio::test]
async fn dripping_and_stalling() {
    let lab = lab(
        "[[fault]]\nat = 'origin'\nports = [80]\nstream = { drip = '20ms' }\n[[fault]]\nat = 'origin'\nports = [443]\nstream = 'stall'\nwhen = { after_bytes = 5 }",
    );
    let mut stream = connect(at(&lab, 80)).await;
    stream.write_all(get("/").as_bytes()).await.unwrap();
    let started = Instant::now();
    let mut head = [0; 8];
    timeout(SOON, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(&head, b"HTTP/1.1");
    assert!(started.elapsed() >= Duration::from_millis(7 * 20), "{:?}", started.elapsed());
    assert!(timeout(SILENCE * 2, tls(&lab, connect(at(&lab, 443)).await)).await.is_err());
}

/// Fetches a megabyte of a blob and compares it; how long it took.
async fn fetch(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Duration {
    let started = Instant::now();
    stream.write_all(format!("GET /snapreach-bulk/1000000 HTTP/1.1\r\nHost: {NAME}\r\n\r\n").as_bytes()).await.unwrap();
    assert!(head(stream).await.contains("\r\nContent-Length: 1000000\r\n"));
    let mut bytes = vec![0; 1_000_000];
    timeout(SOON, stream.read_exact(&mut bytes)).await.unwrap().unwrap();
    assert!(bytes == pattern(0, 1_000_000));
    started.elapsed()
}

/// Puts a megabyte; how long it took.
async fn put(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Duration {
    let started = Instant::now();
    let request = "PUT /snapreach-bulk/0 HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n";
    stream.write_all(&[request.as_bytes(), &pattern(0, 1_000_000)].concat()).await.unwrap();
    assert!(head(stream).await.starts_with("HTTP/1.1 201 "));
    started.elapsed()
}

#[tokio::test]
async fn a_pause_comes_once_and_loses_nothing() {
    let by = Duration::from_millis(200);
    for direction in ["to_client", "to_server"] {
        let lab = lab(&format!(
            "[[fault]]\nat = 'origin'\nstream = {{ pause = '200ms' }}\ndirection = '{direction}'\n\
             when = {{ after_bytes = 500000 }}"
        ));
        let plain = connect(at(&lab, 80)).await;
        let session = tls(&lab, connect(at(&lab, 443)).await).await.unwrap();
        for mut stream in [Box::new(plain) as Box<dyn http::Io>, Box::new(session)] {
            let (down, up) = (fetch(&mut stream).await, put(&mut stream).await);
            let (paused, free) = if direction == "to_client" { (down, up) } else { (up, down) };
            assert!(paused >= by && free < paused, "{direction}: {paused:?}, {free:?}");
            // It is over.
            fetch(&mut stream).await;
            put(&mut stream).await;
        }
    }
}

#[tokio::test]
async fn a_throttle_takes_its_time_in_its_direction_and_loses_nothing() {
    for (direction, party) in
        [("to_client", "origin"), ("to_server", "origin"), ("to_client", "proxy"), ("to_server", "tunnel")]
    {
        let lab =
            lab(&format!("[[fault]]\nat = '{party}'\nstream = {{ throttle = '4MB/s' }}\ndirection = '{direction}'"));
        let stream = if party == "origin" { connect(at(&lab, 443)).await } else { tunnel(&lab, 443).await.0 };
        let mut stream = tls(&lab, stream).await.unwrap();
        let (down, up) = (fetch(&mut stream).await, put(&mut stream).await);
        let slow = if direction == "to_client" { down } else { up };
        // The last step of the rate is paid by whoever comes next.
        assert!(slow >= Duration::from_millis(200), "{party} {direction}: {down:?} and {up:?}");
    }
}

#[tokio::test]
async fn a_share_is_taken_from_all_connections_and_loses_nothing() {
    let lab = lab("[[fault]]\nat = 'origin'\nstream = { throttle = '50%' }\n\
         [[fault]]\nat = 'proxy'\nstream = { throttle = '50%' }\ndirection = 'to_server'");
    let plain = connect(at(&lab, 80)).await;
    let session = tls(&lab, tunnel(&lab, 443).await.0).await.unwrap();
    for mut stream in [Box::new(plain) as Box<dyn http::Io>, Box::new(session)] {
        for _ in 0..10 {
            fetch(&mut stream).await;
            put(&mut stream).await;
        }
    }
}

#[tokio::test]
async fn a_stall_is_met_by_all_connections_of_the_party_at_once() {
    let by = Duration::from_millis(300);
    let lab = lab("[[fault]]\nat = 'origin'\nhttp = { stall = '300ms' }\nwhen = { nth = [3] }");
    let mut one = connect(at(&lab, 80)).await;
    let mut other = tls(&lab, connect(at(&lab, 443)).await).await.unwrap();
    fetch(&mut one).await;
    fetch(&mut other).await;
    let started = Instant::now();
    let request = format!("GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n");
    one.write_all(request.as_bytes()).await.unwrap();
    // The lab has read it as soon as it is in the log.
    while lab.log().iter().filter(|event| matches!(event, Event::Request { .. })).count() < 3 {
        assert!(started.elapsed() < SOON);
        tokio::task::yield_now().await;
    }
    other.write_all(request.as_bytes()).await.unwrap();
    let (answer, late) = tokio::join!(head(&mut one), head(&mut other));
    assert!(started.elapsed() >= by, "{:?}", started.elapsed());
    assert!(answer.starts_with("HTTP/1.1 400 ") && late.starts_with("HTTP/1.1 400 "));
    // Over, and none follows.
    let _ = other.read(&mut [0; 4096]).await;
    fetch(&mut connect(at(&lab, 80)).await).await;
}

// ---- faults of TLS

async fn handshake_error(fault: &str) -> io::Error {
    let lab = lab(&format!("[[fault]]\nat = 'origin'\nports = [443]\ntls = {fault}"));
    match tls(&lab, connect(at(&lab, 443)).await).await {
        Err(e) => e,
        // With TLS 1.3 the server's verdict on the client comes after the client's own.
        Ok(mut session) => exchange(&mut session, &get("/")).await.unwrap_err(),
    }
}

#[tokio::test]
async fn certificates_fail_for_the_reason_they_are_made_for() {
    use CertificateError::{
        ExpiredContext, InvalidPurposeContext, NotValidForNameContext, NotValidYetContext, UnknownIssuer,
    };
    for (certificate, right) in [
        ("expired", (|e| matches!(e, ExpiredContext { .. })) as fn(&CertificateError) -> bool),
        ("not_yet_valid", |e| matches!(e, NotValidYetContext { .. })),
        ("wrong_name", |e| matches!(e, NotValidForNameContext { .. })),
        ("not_for_servers", |e| matches!(e, InvalidPurposeContext { .. })),
        ("unknown_issuer", |e| matches!(e, UnknownIssuer)),
        ("self_signed", |e| matches!(e, UnknownIssuer)),
        ("incomplete_chain", |e| matches!(e, UnknownIssuer)),
        ("intercepted", |e| matches!(e, UnknownIssuer)),
    ] {
        let error = handshake_error(&format!("{{ certificate = '{certificate}' }}")).await;
        match tls_error(&error) {
            rustls::Error::InvalidCertificate(reason) => assert!(right(reason), "{certificate}: {reason:?}"),
            other => panic!("{certificate}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_trusted_inspection_authority_verifies() {
    let lab = lab(
        "inspection_trusted = true\n[[fault]]\nat = 'origin'\nports = [443]\ntls = { certificate = 'intercepted' }",
    );
    let roots = [lab.network().roots.clone(), lab.network().added_roots.clone()].concat();
    let session = tls_with(&roots, NAME, connect(at(&lab, 443)).await).await.unwrap();
    assert_eq!(session.get_ref().1.peer_certificates().unwrap().len(), 2);
}

#[tokio::test]
async fn a_huge_chain_takes_many_segments_and_still_verifies() {
    let lab = lab("[[fault]]\nat = 'origin'\nports = [443]\ntls = { certificate = 'huge' }");
    let session = tls(&lab, connect(at(&lab, 443)).await).await.unwrap();
    let bytes: usize = session.get_ref().1.peer_certificates().unwrap().iter().map(|c| c.len()).sum();
    assert!(bytes > 20 * 1460, "{bytes}");
}

#[tokio::test]
async fn handshakes_fail_as_asked() {
    let error = handshake_error("{ alert = 40 }").await;
    assert_eq!(tls_error(&error), &rustls::Error::AlertReceived(AlertDescription::HandshakeFailure));
    let error = handshake_error("{ alert = 70 }").await;
    assert_eq!(tls_error(&error), &rustls::Error::AlertReceived(AlertDescription::ProtocolVersion));
    let error = handshake_error("'client_certificate'").await;
    assert_eq!(tls_error(&error), &rustls::Error::AlertReceived(AlertDescription::CertificateRequired));
    assert_eq!(handshake_error("'reset'").await.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(handshake_error("'close'").await.kind(), io::ErrorKind::UnexpectedEof);
    for fault in ["'garbage'", "{ plaintext = \"HTTP/1.1 400 Bad Request\\r\\n\\r\\n\" }"] {
        let error = handshake_error(fault).await;
        assert!(matches!(tls_error(&error), rustls::Error::InvalidMessage(_)), "{fault}: {error}");
    }
}

#[tokio::test]
async fn a_name_filter_spares_other_names() {
    let lab = lab("[[fault]]\nat = 'origin'\nhosts = ['*.blob.core.windows.net']\ntls = 'reset'");
    let to = at(&lab, 443);
    let error = tls(&lab, connect(to).await).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let error = tls_with(&lab.network().roots, "www.example.com", connect(to).await).await.unwrap_err();
    assert!(matches!(
        tls_error(&error),
        rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })
    ));
}

// ---- faults of HTTP

async fn http_answer(fault: &str) -> io::Result<String> {
    let lab = lab(&format!("[[fault]]\nat = 'origin'\nports = [80]\nhttp = {fault}"));
    exchange(&mut connect(at(&lab, 80)).await, &get("/")).await
}

#[tokio::test]
async fn http_faults_do_what_they_say() {
    for (fault, status, mark) in [
        ("{ storage = 'authorization_failure' }", "403 ", "<Code>AuthorizationFailure</Code>"),
        ("{ storage = 'account_requires_https' }", "400 ", "x-ms-error-code: AccountRequiresHttps"),
        ("{ storage = 'server_busy' }", "503 ", "x-ms-request-id"),
        ("{ page = 'azure_firewall' }", "470 status code 470\r\n", "Action: Deny. Reason: No rule matched."),
        ("{ page = 'portal' }", "302 ", "Location: http://portal."),
        ("{ page = 'network_authentication' }", "511 ", "portal"),
        ("{ reply = { status = 451, reason = 'No', headers = ['X-A: b'], body = 'c' } }", "451 No", "X-A: b"),
        ("{ slow = '20ms' }", "400 ", "x-ms-request-id"),
    ] {
        let answer = http_answer(fault).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")) && answer.contains(mark), "{fault}: {answer}");
    }
    assert_eq!(http_answer("{ bytes = 'HTTQ' }").await.unwrap(), "HTTQ");
    assert_eq!(http_answer("'close'").await.unwrap(), "");
    assert_eq!(http_answer("'reset'").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let lab = lab("[[fault]]\nat = 'origin'\nports = [80]\nhttp = 'mute'");
    let mut stream = connect(at(&lab, 80)).await;
    assert!(timeout(SILENCE, exchange(&mut stream, &get("/"))).await.is_err());
}

// ---- faults of the proxy

async fn proxy_answer(reply: &str) -> io::Result<String> {
    let lab = lab(&format!("[[fault]]\nat = 'proxy'\nreply = {reply}"));
    proxy_says(&lab, &connect_request(443).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn proxies_refuse_in_their_own_words() {
    for (reply, start, mark) in [
        ("'squid_denied'", "HTTP/1.1 403 ", "X-Squid-Error: ERR_ACCESS_DENIED 0"),
        ("'tinyproxy_port'", "HTTP/1.1 403 Access violation", "Server: tinyproxy/1.11.1"),
        ("{ page = 'nginx_bad_request' }", "HTTP/1.1 400 ", "Server: nginx/1.22.1"),
        (
            "{ proxy_status = { error = 'dns_error', parameters = '; rcode=\"NXDOMAIN\"', retry_after = 7 } }",
            "HTTP/1.1 502 ",
            "; error=dns_error; rcode=\"NXDOMAIN\"\r\nRetry-After: 7\r\n",
        ),
        ("{ bytes = \"HTTP/1.1 200 OK\\r\\nX-Ha\" }", "HTTP/1.1 200 OK\r\nX-Ha", ""),
    ] {
        let answer = proxy_answer(reply).await.unwrap();
        assert!(answer.starts_with(start) && answer.contains(mark), "{reply}: {answer}");
    }
    assert_eq!(proxy_answer("'close'").await.unwrap(), "");
    assert_eq!(proxy_answer("'reset'").await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(proxy_answer("'tls_alert'").await.unwrap().starts_with('\u{15}'));
}

#[tokio::test]
async fn proxies_that_never_finish() {
    for (reply, first) in
        [("'mute'", ""), ("{ then_silence = 'HTTP/1.' }", "HTTP/1."), ("{ banner = 'SSH-2.0' }", "SSH-2.0")]
    {
        let lab = lab(&format!("[[fault]]\nat = 'proxy'\nreply = {reply}"));
        let mut stream = connect(lab.network().addresses["proxy"]).await;
        stream.write_all(connect_request(443).as_bytes()).await.unwrap();
        let mut seen = vec![0; first.len()];
        timeout(SOON, stream.read_exact(&mut seen)).await.unwrap().unwrap();
        assert_eq!(seen, first.as_bytes());
        assert!(timeout(SILENCE, stream.read_u8()).await.is_err(), "{reply}");
    }
    let lab = lab("[[fault]]\nat = 'proxy'\nreply = 'endless_head'");
    let mut stream = connect(lab.network().addresses["proxy"]).await;
    stream.write_all(connect_request(443).as_bytes()).await.unwrap();
    let mut seen = vec![0; 200_000];
    timeout(SOON, stream.read_exact(&mut seen)).await.unwrap().unwrap();
    assert!(!seen.windows(4).any(|w| w == b"\r\n\r\n"));
}

#[tokio::test]
async fn credentials_open_the_tunnel_and_stay_secret() {
    for (login, wrong) in [("squid", "HTTP/1.1 407 "), ("tinyproxy", "HTTP/1.0 401 "), ("bare", "HTTP/1.1 407 ")] {
        let lab = lab(&format!("[proxy]\nrequires = 'svc:TOPSECRET'\nlogin = '{login}'"));
        let basic = |text: &str| {
            let code = base64::engine::general_purpose::STANDARD.encode(text);
            connect_request(443)
                .replace("\r\n\r\n", &format!("\r\nConnection: close\r\nProxy-Authorization: Basic {code}\r\n\r\n"))
        };
        let none = proxy_says(&lab, &basic("x:y").replace("Proxy-A", "X-A")).await.unwrap();
        assert!(none.contains(" 407 "), "{none}");
        assert_eq!(none.contains("\r\nProxy-Authenticate: Basic"), login != "bare", "{none}");
        let says = proxy_says(&lab, &basic("svc:nope")).await.unwrap();
        assert!(says.starts_with(wrong), "{says}");
        let proxy = lab.network().proxy.clone().unwrap();
        let given = proxy.credentials.unwrap();
        let mut stream = connect(lab.network().addresses["proxy"]).await;
        stream.write_all(basic(&format!("{}:{}", given.user, given.password.expose())).as_bytes()).await.unwrap();
        let mut start = [0; 12];
        timeout(SOON, stream.read_exact(&mut start)).await.unwrap().unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        let log = serde_json::to_string(&lab.log()).unwrap();
        assert!(log.contains("\"credentials\":true") && !log.contains("TOPSECRET"), "{log}");
    }
}

#[tokio::test]
async fn a_tls_proxy_speaks_tls_and_nothing_else() {
    let lab = lab("[proxy]\ntls = true");
    let proxy = lab.network().addresses["proxy"];
    assert!(lab.network().proxy.as_ref().unwrap().tls);
    let mut session = tls_with(&lab.network().roots, "127.0.0.1", connect(proxy).await).await.unwrap();
    session.write_all(connect_request(443).as_bytes()).await.unwrap();
    let mut start = [0; 12];
    timeout(SOON, session.read_exact(&mut start)).await.unwrap().unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    let mut plain = connect(proxy).await;
    plain.write_all(connect_request(443).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, plain.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn a_plain_proxy_answers_tls_in_plaintext() {
    let lab = lab("");
    let error = tls(&lab, connect(lab.network().addresses["proxy"]).await).await.unwrap_err();
    assert!(matches!(tls_error(&error), rustls::Error::InvalidMessage(_)), "{error}");
}

#[tokio::test]
async fn tunnels_break_as_asked() {
    let broken = |fault: &str| lab(&format!("[[fault]]\nat = 'tunnel'\n{fault}"));
    let lab = broken("tunnel = 'close'");
    let (stream, _) = tunnel(&lab, 443).await;
    assert_eq!(tls(&lab, stream).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    let lab = broken("tunnel = 'reset'");
    let (stream, _) = tunnel(&lab, 443).await;
    assert_eq!(tls(&lab, stream).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let lab = broken("tunnel = 'mute'");
    let (stream, _) = tunnel(&lab, 443).await;
    assert!(timeout(SILENCE, tls(&lab, stream)).await.is_err());
    let lab = broken("tunnel = { bytes = \"HTTP/1.1 503 No\\r\\n\\r\\n\" }");
    let (mut stream, _) = tunnel(&lab, 443).await;
    assert_eq!(exchange(&mut stream, "hello").await.unwrap(), "HTTP/1.1 503 No\r\n\r\n");
    let lab = broken("tunnel = { early = '<html>' }");
    let (mut stream, _) = tunnel(&lab, 443).await;
    assert_eq!(exchange(&mut stream, "").await.unwrap(), "<html>");
    let lab = broken("stream = 'corrupt'");
    let (mut stream, _) = tunnel(&lab, 80).await;
    assert_eq!(exchange(&mut stream, &get("/")).await.unwrap().find("TTP/1.1 400"), Some('\u{fffd}'.len_utf8()));
    let lab = broken("tunnel = { idle = '100ms' }");
    let (mut stream, _) = tunnel(&lab, 80).await;
    assert_eq!(timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    let lab = broken("tunnel = 'intercept'");
    let (stream, _) = tunnel(&lab, 443).await;
    let error = tls(&lab, stream).await.unwrap_err();
    assert!(matches!(tls_error(&error), rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)));
}

#[tokio::test]
async fn an_optimistic_proxy_says_200_to_a_closed_port() {
    let lab = lab("[proxy]\noptimistic = true\n[[fault]]\nat = 'origin'\nports = [443]\nconn = 'refuse'");
    let (mut stream, head) = tunnel(&lab, 443).await;
    assert!(head.starts_with("HTTP/1.1 200 "));
    assert_eq!(timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
}

// ---- faults of DNS

#[tokio::test]
async fn name_servers_fail_as_asked() {
    for (fault, answers) in [("silent", false), ("closed", false), ("garbage", false), ("wrong_id", true)] {
        let lab = lab(&format!("[[fault]]\nat = 'dns'\ndns = '{fault}'"));
        let asked = ask_patiently(lab.network().dns, NAME, RecordType::A);
        let patience = if fault == "silent" { SILENCE * 2 } else { SOON };
        let answer = timeout(patience, asked).await;
        assert_eq!(answer.is_err(), fault == "silent", "{fault}");
        let answer = answer.ok().flatten();
        assert_eq!(answer.is_some(), answers, "{fault}");
        assert!(answer.is_none_or(|answer| answer.metadata.id != 4711), "{fault}");
    }
    let lab = lab("[[fault]]\nat = 'dns'\ndns = 'truncated'");
    let answer = ask(lab.network().dns, NAME, RecordType::A).await.unwrap();
    assert!(answer.metadata.truncation && answer.answers.is_empty());
    let mut stream = connect(lab.network().dns).await;
    let mut query = Message::new(7, MessageType::Query, OpCode::Query);
    query.add_query(Query::query(Name::from_ascii(format!("{NAME}.")).unwrap(), RecordType::A));
    let query = query.to_vec().unwrap();
    stream.write_u16(u16::try_from(query.len()).unwrap()).await.unwrap();
    stream.write_all(&query).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(addresses(&Message::from_vec(&answer).unwrap()).len(), 1);
}

#[tokio::test]
async fn names_can_differ_between_the_views() {
    let lab = lab(&format!(
        "[[dns.names]]\nname = '{NAME}'\nrcode = 4\nede = {{ code = 15, text = 'blocked' }}\n\
         [[dns_server.names]]\nname = '{NAME}'\naliases = ['acct.privatelink.blob.core.windows.net']\na = ['10.1.0.5']"
    ));
    let network = lab.network();
    let answer = ask(network.dns, NAME, RecordType::A).await.unwrap();
    assert_eq!(u16::from(answer.metadata.response_code), 4);
    let ede = answer.edns.unwrap().option(15.into()).cloned();
    let expected: Vec<u8> = [&[0, 15], &b"blocked"[..]].concat();
    assert_eq!(ede, Some(hickory_proto::rr::rdata::opt::EdnsOption::Unknown(15, expected)));
    let answer = ask(network.dns_server, NAME, RecordType::A).await.unwrap();
    assert_eq!(addresses(&answer), [IpAddr::from([10, 1, 0, 5])]);
    assert!(network.dial.addresses.contains_key(&"10.1.0.5:443".parse().unwrap()));
}

#[tokio::test]
async fn the_wire_server_can_be_missing_or_another() {
    for (answer, kind) in [("refuse", Some(io::ErrorKind::ConnectionRefused)), ("silent", None)] {
        let lab = lab(&format!("[host]\nanswer = '{answer}'"));
        match timeout(SILENCE, TcpStream::connect(lab.network().host_endpoint)).await {
            Ok(result) => assert_eq!(Some(result.unwrap_err().kind()), kind, "{answer}"),
            Err(_) => assert_eq!(kind, None, "{answer}"),
        }
    }
    for (answer, mark) in [("other", "It works!"), ("via", "\r\nVia: ")] {
        let lab = lab(&format!("[host]\nanswer = '{answer}'"));
        let mut stream = connect(lab.network().host_endpoint).await;
        let request = "GET /?comp=versions HTTP/1.1\r\nConnection: close\r\n\r\n";
        let says = exchange(&mut stream, request).await.unwrap();
        assert!(says.contains(mark), "{answer}: {says}");
    }
}

#[tokio::test]
async fn instance_metadata_deviates_on_its_own() {
    for (answer, kind) in [("refuse", Some(io::ErrorKind::ConnectionRefused)), ("silent", None)] {
        let lab = lab(&format!("[host.metadata]\nanswer = '{answer}'"));
        match timeout(SILENCE, TcpStream::connect(lab.network().metadata)).await {
            Ok(result) => assert_eq!(Some(result.unwrap_err().kind()), kind, "{answer}"),
            Err(_) => assert_eq!(kind, None, "{answer}"),
        }
        connect(lab.network().host_endpoint).await;
    }
    for (answer, mark) in [("other", "It works!"), ("via", "\r\nVia: ")] {
        let lab = lab(&format!("[host.metadata]\nanswer = '{answer}'"));
        let mut stream = connect(lab.network().metadata).await;
        let request = "GET /metadata/versions HTTP/1.1\r\nMetadata: true\r\nConnection: close\r\n\r\n";
        let says = exchange(&mut stream, request).await.unwrap();
        assert!(says.contains(mark), "{answer}: {says}");
    }
}

// ---- faults of the network

#[tokio::test]
async fn the_network_fails_where_a_fault_says_so_and_nowhere_else() {
    let lab = lab(&format!(
        "[[fault]]\nat = 'network'\nhosts = ['{NAME}']\nports = [443]\npath = {{ routers = ['10.0.0.1'], end = 'silent' }}\n\
         [[fault]]\nat = 'network'\naddresses = ['168.63.129.16']\n\
         connect = {{ errno = 'EACCES', icmp = {{ type = 3, code = 13, from = '10.0.0.1' }} }}"
    ));
    let dial = &lab.network().dial;
    let address = SocketAddr::new([20, 60, 222, 132].into(), 443);
    let mut played: Vec<_> = dial.played.iter().collect();
    played.sort_by_key(|(at, _)| **at);
    let lost = Played { routers: vec![[10, 0, 0, 1].into()], failure: None };
    let sender = Some([10, 0, 0, 1].into());
    let icmp = Some(IcmpError { family: IcmpFamily::V4, kind: 3, code: 13, sender });
    let denied = Played { routers: Vec::new(), failure: Some(PlayedFailure { errno: libc::EACCES, icmp }) };
    let wire = |port| SocketAddr::new([168, 63, 129, 16].into(), port);
    assert_eq!(played, [(&address, &lost), (&wire(80), &denied), (&wire(32526), &denied)]);
    // What is lost on the way is not answered; the endpoint itself is as healthy as before.
    assert!(timeout(SILENCE, TcpStream::connect(dial.for_address(address))).await.is_err());
    connect(at(&lab, 443)).await;
}

#[test]
fn a_fault_of_the_network_that_meets_nobody_is_refused() {
    let fault = "at = 'network'\naddresses = ['192.0.2.1']\nconnect = { errno = 'EPERM' }";
    let spec = LabSpec { faults: vec![toml::from_str(fault).unwrap()], ..LabSpec::default() };
    let error = Lab::start(&spec).unwrap_err();
    assert!(error.kind() == io::ErrorKind::InvalidInput && error.to_string().contains("192.0.2.1"), "{error}");
    let unknown = toml::from_str::<Fault>("at = 'network'\nconnect = { errno = 'EPREM' }").unwrap_err();
    assert!(unknown.message().contains("`EPERM`"), "{unknown}");
}
