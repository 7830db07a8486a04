//! The origin of snapreach's own, behind the lab's proxy and on sockets of its own.

use super::*;
use crate::exchange::{
    Answer as Line, BAD_CERTIFICATE, BULK_PATH, Direction, ECHO_HEADER, ECHO_PATH, Echo, Fingerprint, PATTERN_PATH,
    Pattern, Request,
};

pub(super) const OWN: &str = "origin.snapreach.test";

/// A tunnel of the lab's proxy to a door of the origin.
pub(super) async fn tunnel_to(lab: &Lab, door: SocketAddr) -> TcpStream {
    let mut stream = connect(lab.network().addresses["proxy"]).await;
    stream.write_all(format!("CONNECT {door} HTTP/1.1\r\nHost: {door}\r\n\r\n").as_bytes()).await.unwrap();
    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{door}: {head}");
    stream
}

pub(super) fn door(lab: &Lab, port: u16) -> SocketAddr {
    lab.network().places.of(DoorKind::Serves).find(|door| door.port() == port).unwrap()
}

/// The fingerprint that the origin tells of itself.
pub(super) async fn told(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Fingerprint {
    stream.write_all(Request::Certificate.line().as_bytes()).await.unwrap();
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(timeout(SOON, stream.read_u8()).await.unwrap().unwrap());
    }
    match Line::parse(&line) {
        Some(Line::Certificate(fingerprint)) => fingerprint,
        other => panic!("{other:?}"),
    }
}

pub(super) fn presented(session: &TlsStream<TcpStream>) -> Fingerprint {
    let leaf = &session.get_ref().1.peer_certificates().unwrap()[0];
    Fingerprint(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf).as_ref().try_into().unwrap())
}

/// Sends a request with `Connection: close`, and takes the answer apart: status line and headers, body.
pub(super) async fn http(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &str,
    body: &[u8],
) -> (String, Vec<u8>) {
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let bytes = rest(stream).await.unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer") + 4;
    (String::from_utf8(bytes[..end].to_vec()).unwrap(), bytes[end..].to_vec())
}

pub(super) fn asking(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {OWN}\r\nConnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn every_door_that_serves_tells_lines_tls_and_http_apart() {
    let lab = lab("");
    let doors: Vec<_> = lab.network().places.of(DoorKind::Serves).collect();
    let ports: Vec<_> = doors.iter().map(|door| (door.is_ipv4(), door.port())).collect();
    assert_eq!(ports, [(true, 443), (true, 8443), (true, 80), (true, 7), (false, 443), (false, 8443), (false, 80)]);
    for door in doors {
        let certificate = told(&mut tunnel_to(&lab, door).await).await;
        let stream = tunnel_to(&lab, door).await;
        let mut session = tls_with(&lab.network().roots, &door.ip().to_string(), stream).await.unwrap();
        assert_eq!((presented(&session), told(&mut session).await), (certificate, certificate), "{door}");
        let mut session = tls_with(&lab.network().roots, OWN, tunnel_to(&lab, door).await).await.unwrap();
        let (_, body) = http(&mut session, &asking("GET", ECHO_PATH, ""), b"").await;
        let echo: Echo = serde_json::from_slice(&body).unwrap();
        assert_eq!(echo.certificate, Some(certificate.to_string()));
    }
}

#[tokio::test]
async fn the_bad_certificate_is_expired_and_nobodys() {
    let lab = lab("");
    let stream = tunnel_to(&lab, door(&lab, 443)).await;
    let error = tls_with(&lab.network().roots, BAD_CERTIFICATE, stream).await.unwrap_err();
    let rustls::Error::InvalidCertificate(why) = tls_error(&error) else { panic!("{error}") };
    assert!(matches!(why, CertificateError::UnknownIssuer | CertificateError::ExpiredContext { .. }), "{why:?}");
}

#[tokio::test]
async fn the_other_doors_refuse_are_silent_and_reset() {
    let lab = lab("");
    let door = |kind| lab.network().places.of(kind).next().unwrap();
    for (kind, error) in [(DoorKind::Refuses, "ERR_CONNECT_FAIL 111"), (DoorKind::Silent, "ERR_CONNECT_FAIL 110")] {
        let door = door(kind);
        let answer = proxy_says(&lab, &format!("CONNECT {door} HTTP/1.1\r\nHost: {door}\r\n\r\n")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(error), "{kind:?}: {answer}");
    }
    let mut stream = tunnel_to(&lab, door(DoorKind::Resets)).await;
    assert!(rest(&mut stream).await.unwrap_or_default().is_empty());
}

#[tokio::test]
async fn an_echo_says_how_a_request_arrived_but_not_the_login() {
    let lab = lab("");
    let door = door(&lab, 80);
    let body = Pattern::new(5, Direction::Up).bytes(0, 3000);
    let target = format!("{ECHO_PATH}?sig=a%2Fb%20c&seed=5");
    let headers = "X-MS-Meta-Echo: hello\r\nProxy-Authorization: Basic c2VjcmV0\r\nx-Odd:  v \r\n";
    let sized = format!("{headers}Content-Length: {}\r\n", body.len());
    let (head, answer) = http(&mut tunnel_to(&lab, door).await, &asking("PUT", &target, &sized), &body).await;
    let echo: Echo = serde_json::from_slice(&answer).unwrap();
    assert_eq!((echo.method.as_str(), &echo.target, echo.version.as_str()), ("PUT", &target, "HTTP/1.1"));
    assert_eq!((echo.body_bytes, echo.body_intact, echo.certificate.as_deref()), (3000, Some(true), None));
    assert_eq!(echo.header("x-odd").collect::<Vec<_>>(), ["v"]);
    assert!(echo.headers.iter().any(|(name, _)| name == "X-MS-Meta-Echo"), "names come as they are");
    assert!(echo.header("proxy-authorization").eq(["(present)"]) && !String::from_utf8_lossy(&answer).contains("c2Vj"));
    for header in
        [format!("{ECHO_HEADER}: hello"), "x-ms-request-id: ".into(), "x-ms-version: ".into(), "ETag: ".into()]
    {
        assert!(head.contains(&format!("\r\n{header}")), "{header}: {head}");
    }
    // Chunked, after 100 Continue; one byte is another.
    let mut stream = tunnel_to(&lab, door).await;
    let chunked = asking("POST", &target, "Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n");
    stream.write_all(chunked.as_bytes()).await.unwrap();
    assert_eq!(super::head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    let mut changed = body.clone();
    changed[2999] ^= 1;
    let chunks =
        [b"7d0;a=b\r\n", &changed[..2000], b"\r\n3E8\r\n", &changed[2000..], b"\r\n0\r\nTrailer: x\r\n\r\n"].concat();
    let (_, answer) = http(&mut stream, "", &chunks).await;
    let echo: Echo = serde_json::from_slice(&answer).unwrap();
    assert_eq!((echo.body_bytes, echo.body_intact), (3000, Some(false)));
}

#[tokio::test]
async fn a_pattern_is_served_as_storage_serves_a_blob() {
    let lab = lab("");
    let path = format!("{PATTERN_PATH}/100000/9");
    let pattern = Pattern::new(9, Direction::Down);
    let ask = async |method: &str, path: &str, headers: &str| {
        http(&mut tunnel_to(&lab, door(&lab, 80)).await, &asking(method, path, headers), b"").await
    };
    for (range, status, content_range, body) in [
        ("", 200, None, pattern.bytes(0, 100_000)),
        ("Range: bytes=10-19\r\n", 206, Some("bytes 10-19/100000"), pattern.bytes(10, 10)),
        ("x-ms-range: bytes=99990-\r\n", 206, Some("bytes 99990-99999/100000"), pattern.bytes(99_990, 10)),
        ("Range: bytes=-5\r\n", 206, Some("bytes 99995-99999/100000"), pattern.bytes(99_995, 5)),
        ("Range: bytes=100000-\r\n", 416, Some("bytes */100000"), Vec::new()),
        ("Range: bytes=9-1\r\n", 200, None, pattern.bytes(0, 100_000)),
        ("Range: bytes=0-1\r\nIf-Range: \"other\"\r\n", 200, None, pattern.bytes(0, 100_000)),
    ] {
        let (head, content) = ask("GET", &path, range).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{range}: {head}");
        let said = head.lines().find_map(|line| line.strip_prefix("Content-Range: "));
        assert_eq!((said, content == body), (content_range, true), "{range}: {head}");
    }
    let (head, content) = ask("HEAD", &path, "").await;
    assert!(head.contains("Content-Length: 100000\r\n") && content.is_empty(), "{head}");
    for (method, path, status) in
        [("PUT", path.as_str(), 405), ("GET", "/", 404), ("GET", "/snapreach/pattern/x/1", 404)]
    {
        let (head, _) = ask(method, path, "").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {head}");
    }
}

#[tokio::test]
async fn bulk_is_given_and_taken_for_measurements() {
    let lab = lab("");
    let door = door(&lab, 80);
    let path = format!("{BULK_PATH}3000000");
    let (head, bytes) = http(&mut tunnel_to(&lab, door).await, &asking("GET", &path, ""), b"").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nContent-Length: 3000000\r\n"), "{head}");
    assert!(bytes.len() == 3_000_000 && bytes.iter().zip((0..=250).cycle()).all(|(byte, expected)| *byte == expected));
    let (head, _) =
        http(&mut tunnel_to(&lab, door).await, &asking("PUT", &path, "Content-Length: 5\r\n"), b"12345").await;
    assert!(head.starts_with("HTTP/1.1 201 Created\r\n"), "{head}");
    let (head, _) = http(&mut tunnel_to(&lab, door).await, &asking("GET", &format!("{BULK_PATH}x"), ""), b"").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
}

#[tokio::test]
async fn requests_that_nobody_can_frame_are_refused() {
    let lab = lab("");
    for (request, status) in [
        (asking("POST", ECHO_PATH, "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400),
        (asking("POST", ECHO_PATH, "Content-Length: 1\r\nContent-Length: 2\r\n"), 400),
        (asking("POST", ECHO_PATH, "Content-Length: +1\r\n"), 400),
        (asking("POST", ECHO_PATH, "Transfer-Encoding: gzip\r\n"), 400),
        (asking("POST", ECHO_PATH, "Content-Length: 99999999999\r\n"), 413),
        (format!("GET {ECHO_PATH} HTTP/1.1\r\n\r\n"), 400),
        (asking("GET", ECHO_PATH, "Host: other\r\n"), 400),
        ("GET / \r\n HTTP\r\n\r\n".into(), 400),
        (asking("GET", ECHO_PATH, &format!("X: {}\r\n", "x".repeat(70_000))), 431),
        (asking("GET", ECHO_PATH, &"X: y\r\n".repeat(1000)), 431),
    ] {
        let (head, _) = http(&mut tunnel_to(&lab, door(&lab, 80)).await, &request, b"").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60}: {head}");
    }
}

#[tokio::test]
async fn requests_follow_one_another_on_a_connection() {
    let lab = lab("");
    let mut stream = tunnel_to(&lab, door(&lab, 80)).await;
    let one = format!("GET {PATTERN_PATH}/3/1 HTTP/1.1\r\nHost: {OWN}\r\n\r\n");
    stream.write_all(one.repeat(2).as_bytes()).await.unwrap();
    let last = format!("GET {PATTERN_PATH}/3/1 HTTP/1.0\r\n\r\n");
    let all = String::from_utf8_lossy(&http(&mut stream, &last, b"").await.1).into_owned();
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 2, "{all}");
}

#[tokio::test]
async fn the_name_is_known_with_its_final_dot_and_in_capitals() {
    let lab = lab("");
    for name in ["origin.snapreach.test.", "ORIGIN.SnapReach.Test"] {
        let mut stream = connect(lab.network().addresses["proxy"]).await;
        stream.write_all(format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n").as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 200 "), "{name}");
        told(&mut stream).await;
    }
}

#[tokio::test]
async fn an_origin_on_sockets_of_its_own_serves_alike() {
    let origin = OwnOrigin::start(&[Ipv4Addr::LOCALHOST.into()]).unwrap();
    for door in origin.places().of(DoorKind::Serves) {
        let certificate = told(&mut connect(door).await).await;
        let (head, _) = http(&mut connect(door).await, &asking("GET", ECHO_PATH, ""), b"").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let error = tls_with(&lab("").network().roots, &door.ip().to_string(), connect(door).await).await.unwrap_err();
        assert!(matches!(tls_error(&error), rustls::Error::InvalidCertificate(_)), "{certificate}: {error}");
    }
    let resets = origin.places().of(DoorKind::Resets).next().unwrap();
    let error = connect(resets).await.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
