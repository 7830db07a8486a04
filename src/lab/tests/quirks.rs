//! What the healthy proxy does right, and each quirk does wrong.

use super::{
    own::{OWN, asking, door, http, told, tunnel_to},
    *,
};
use crate::exchange::{BAD_CERTIFICATE, Direction, ECHO_PATH, Echo, PATTERN_PATH, Pattern, Request};

/// A lab whose proxy has this in its table, quirks or others.
fn proxy(keys: &str) -> Lab {
    lab(&format!("[proxy]\n{keys}"))
}

fn quirk(quirk: &str) -> Lab {
    proxy(&format!("quirks = [{quirk}]"))
}

fn address(lab: &Lab) -> SocketAddr {
    lab.network().addresses["proxy"]
}

async fn status(lab: &Lab, request: &str) -> u16 {
    let mut stream = connect(address(lab)).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    code(&head(&mut stream).await)
}

fn code(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no answer: {head}"))
}

fn connect_to(target: &str, headers: &str) -> String {
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{headers}\r\n")
}

/// A plain request through the proxy, as the origin got it.
async fn echo(lab: &Lab, method: &str, query: &str, headers: &str, body: &[u8]) -> (String, Option<Echo>) {
    let mut stream = connect(address(lab)).await;
    let request = asking(method, &format!("http://{OWN}{ECHO_PATH}{query}"), headers);
    let (head, body) = http(&mut stream, &request, body).await;
    (head, serde_json::from_slice(&body).ok())
}

/// Whether the proxy still opens a tunnel.
async fn serves(lab: &Lab) -> bool {
    let opened = async {
        let mut stream = TcpStream::connect(address(lab)).await?;
        stream.write_all(connect_to(&door(lab, 443).to_string(), "").as_bytes()).await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        io::Result::Ok(answer.ends_with(b" 200"))
    };
    matches!(timeout(SOON, opened).await.unwrap(), Ok(true))
}

#[tokio::test]
async fn connect_is_refused_for_its_form_alone() {
    let v6 = lab("").network().places.of(DoorKind::Serves).find(SocketAddr::is_ipv6).unwrap();
    let old = format!("CONNECT {OWN}:443 HTTP/1.0\r\n\r\n");
    let agent = connect_to(&format!("{OWN}:443"), "User-Agent: curl/8\r\n");
    for (name, request, refused) in [
        ("'refuses_ipv6_literals'", connect_to(&v6.to_string(), ""), 400),
        ("'refuses_trailing_dots'", connect_to(&format!("{OWN}.:443"), ""), 400),
        ("'case_sensitive_names'", connect_to("ORIGIN.snapreach.test:443", ""), 500),
        ("'refuses_http10'", old.clone(), 505),
        ("'wants_host'", old, 400),
        ("'wants_host'", format!("CONNECT {OWN}:443 HTTP/1.1\r\nHost: {OWN}\r\n\r\n"), 400),
    ] {
        assert_eq!(status(&lab(""), &request).await, 200, "{request}");
        assert_eq!(status(&quirk(name), &request).await, refused, "{name}");
    }
    let wants = quirk("'wants_user_agent'");
    assert_eq!(
        (status(&wants, &agent).await, status(&wants, &connect_to(&format!("{OWN}:443"), "")).await),
        (200, 403)
    );
    for (port, taken) in [("65979", 200), ("x", 200), ("+443", 200)] {
        let request = connect_to(&format!("{OWN}:{port}"), "");
        assert_eq!(status(&lab(""), &request).await, 400, "{port}");
        assert_eq!(status(&quirk("'takes_bad_ports'"), &request).await, taken, "{port}");
    }
}

#[tokio::test]
async fn ports_are_limited_and_a_refusal_keeps_the_connection() {
    let right = connect_to(&format!("{OWN}:443"), "");
    for (quirks, kept) in [("", true), ("quirks = ['closes_after_refusal']", false)] {
        let lab = proxy(&format!("ports = [443]\n{quirks}"));
        let mut stream = connect(address(&lab)).await;
        stream.write_all(connect_to(&format!("{OWN}:8443"), "").as_bytes()).await.unwrap();
        let refusal = head(&mut stream).await;
        assert_eq!((code(&refusal), refusal.contains("Connection: close")), (403, !kept), "{refusal}");
        let length: usize =
            refusal.split("Content-Length: ").nth(1).unwrap().split('\r').next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(right.as_bytes()).await.unwrap();
        if kept {
            assert_eq!(code(&head(&mut stream).await), 200);
        } else {
            assert_eq!(rest(&mut stream).await.unwrap(), b"");
        }
    }
}

#[tokio::test]
async fn the_200_may_have_a_length() {
    let lab = quirk("'length_with_established'");
    let mut stream = connect(address(&lab)).await;
    stream.write_all(connect_to(&format!("{OWN}:443"), "").as_bytes()).await.unwrap();
    assert!(head(&mut stream).await.contains("\r\nContent-Length: 0\r\n"));
}

#[tokio::test]
async fn logins_are_asked_for_and_taken() {
    let ask = async |keys: &str, login: &str| {
        let lab = proxy(keys);
        let mut stream = connect(address(&lab)).await;
        stream.write_all(connect_to(&format!("{OWN}:443"), login).as_bytes()).await.unwrap();
        head(&mut stream).await
    };
    let (right, wrong) = ("Proxy-Authorization: basic dTpw\r\n", "Proxy-Authorization: Basic eDp5\r\n");
    let requires = "requires = 'u:p'";
    assert_eq!((code(&ask(requires, right).await), code(&ask(requires, wrong).await)), (200, 407));
    let any = "requires = 'u:p'\nquirks = ['any_login']";
    assert_eq!((code(&ask(any, wrong).await), code(&ask(any, "").await)), (200, 407));
    for (scheme, challenge) in [("digest", "Digest realm="), ("ntlm", "NTLM\r\n"), ("negotiate", "Negotiate\r\n")] {
        let answer = ask(&format!("quirks = [{{ asks_for = '{scheme}' }}]"), right).await;
        assert!(answer.contains(&format!("Proxy-Authenticate: {challenge}")) && code(&answer) == 407, "{answer}");
    }
    let login = "Proxy-Authorization: Basic dTpw\r\n";
    let (_, kept) = echo(&proxy(requires), "GET", "", login, b"").await;
    assert_eq!(kept.unwrap().header("proxy-authorization").count(), 0);
    let (_, passed) = echo(&proxy("requires = 'u:p'\nquirks = ['forwards_login']"), "GET", "", login, b"").await;
    assert_eq!(passed.unwrap().header("proxy-authorization").count(), 1);
}

#[tokio::test]
async fn reasons_can_be_hidden() {
    let request = connect_to("nx.snapreach.test:443", "");
    let answer = proxy_says(&quirk("'hides_reasons'"), &request).await.unwrap();
    assert_eq!(answer, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(proxy_says(&lab(""), &request).await.unwrap().contains("X-Squid-Error"));
    let lab = proxy("proxy_status = true");
    let refuses = lab.network().places.of(DoorKind::Refuses).next().unwrap().to_string();
    for (target, reason) in
        [("nx.snapreach.test:443", "dns_error; rcode=\"NXDOMAIN\""), (&refuses, "connection_refused")]
    {
        let answer = proxy_says(&lab, &connect_to(target, "")).await.unwrap();
        assert!(answer.contains(&format!("Proxy-Status: proxy; error={reason}\r\n")), "{answer}");
    }
}

#[tokio::test]
async fn a_reset_of_the_origin_ends_the_tunnel_unless_it_is_kept() {
    for (quirks, ends) in [("", true), ("'keeps_after_reset'", false)] {
        let lab = quirk(quirks);
        let mut stream = tunnel_to(&lab, door(&lab, 443)).await;
        stream.write_all(Request::Reset.line().as_bytes()).await.unwrap();
        let mut ready = [0; 18];
        stream.read_exact(&mut ready).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_eq!(timeout(SILENCE, stream.read_u8()).await.is_ok(), ends, "{quirks}");
    }
}

#[tokio::test]
async fn last_bytes_can_be_lost() {
    let request = asking("GET", &format!("{PATTERN_PATH}/3000000/4"), "");
    for (quirks, whole) in [("", true), ("'loses_last_bytes'", false)] {
        let lab = quirk(quirks);
        let mut stream = tunnel_to(&lab, door(&lab, 80)).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let bytes = rest(&mut stream).await.unwrap();
        assert_eq!(bytes.ends_with(&Pattern::new(4, Direction::Down).bytes(2_999_990, 10)), whole, "{quirks}");
    }
}

#[tokio::test]
async fn slow_readers_and_old_tunnels_are_cut() {
    let lab = quirk("'cuts_slow_readers'");
    let mut stream = tunnel_to(&lab, door(&lab, 80)).await;
    stream.write_all(asking("GET", &format!("{PATTERN_PATH}/100000000/4"), "").as_bytes()).await.unwrap();
    // The tunnel's end is what is waited for; nothing is read meanwhile.
    let cut = async {
        while !matches!(lab.log().iter().rev().find(|event| matches!(event, Event::Tunnel { .. })), Some(Event::Tunnel { up, .. }) if *up > 0)
        {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(600)).await;
    };
    timeout(SOON, cut).await.unwrap();
    assert!(rest(&mut stream).await.map_or(0, |bytes| bytes.len()) < 100_000_000);

    let lab = quirk("{ lifetime = '100ms' }");
    let mut stream = tunnel_to(&lab, door(&lab, 443)).await;
    let busy = async {
        loop {
            let mut answer = [0; 18];
            stream.write_all(Request::Hold { ms: 1 }.line().as_bytes()).await?;
            stream.read_exact(&mut answer).await?;
        }
    };
    let end: io::Result<()> = timeout(SOON, busy).await.unwrap();
    assert!(end.is_err());
}

#[tokio::test]
async fn there_is_room_for_so_many_tunnels() {
    for (beyond, answer) in [("refuse", Some(403)), ("error", Some(500)), ("dead", Some(200)), ("silent", None)] {
        let lab = proxy(&format!("max_tunnels = {{ count = 2, beyond = '{beyond}' }}"));
        let held = [tunnel_to(&lab, door(&lab, 443)).await, tunnel_to(&lab, door(&lab, 443)).await];
        let mut third = connect(address(&lab)).await;
        third.write_all(connect_to(&format!("{OWN}:443"), "").as_bytes()).await.unwrap();
        match answer {
            Some(expected) => assert_eq!(code(&head(&mut third).await), expected),
            None => assert!(timeout(SILENCE, third.read_u8()).await.is_err()),
        }
        if beyond == "dead" {
            third.write_all(Request::Certificate.line().as_bytes()).await.unwrap();
            assert!(timeout(SILENCE, third.read_u8()).await.is_err());
        }
        drop(held);
    }
    let lab = quirk("{ stops_after_tunnels = 2 }");
    for _ in 0..2 {
        drop(tunnel_to(&lab, door(&lab, 443)).await);
    }
    let mut third = connect(address(&lab)).await;
    third.write_all(connect_to(&format!("{OWN}:443"), "").as_bytes()).await.unwrap();
    assert!(timeout(SILENCE, third.read_u8()).await.is_err());
    assert!(!serves(&lab).await);
    let late = proxy("connect_delay = '80ms'");
    let started = Instant::now();
    drop(tunnel_to(&late, door(&late, 443)).await);
    assert!(started.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn loopback_is_reached_as_it_is_only_where_that_is_wanted() {
    let origin = OwnOrigin::start(&[Ipv4Addr::LOCALHOST.into()]).unwrap();
    let door = origin.places().of(DoorKind::Serves).next().unwrap();
    told(&mut tunnel_to(&proxy("reach_loopback = true"), door).await).await;
    assert_eq!(status(&lab(""), &connect_to(&door.to_string(), "")).await, 503);
}

#[tokio::test]
async fn what_begins_a_tunnel_can_matter() {
    let lab = quirk("'only_tls'");
    let (near, far) = (door(&lab, 443), door(&lab, 8443));
    assert!(tls_with(&lab.network().roots, OWN, tunnel_to(&lab, near).await).await.is_ok());
    told(&mut tunnel_to(&lab, far).await).await;
    let mut plain = tunnel_to(&lab, near).await;
    plain.write_all(Request::Certificate.line().as_bytes()).await.unwrap();
    assert!(rest(&mut plain).await.unwrap_or_default().is_empty());

    // Without a server name: the name is an address.
    let lab = quirk("'wants_sni'");
    assert!(tls_with(&lab.network().roots, OWN, tunnel_to(&lab, near).await).await.is_ok());
    let address = near.ip().to_string();
    let error = tls_with(&lab.network().roots, &address, tunnel_to(&lab, near).await).await.unwrap_err();
    assert!(matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof), "{error}");

    // A record of 1,500 bytes, and one of 500; neither is a ClientHello, which the origin says with an alert.
    let lab = quirk("'loses_large_hellos'");
    for (length, answered) in [(500_u16, true), (1500, false)] {
        let mut stream = tunnel_to(&lab, near).await;
        let [high, low] = length.to_be_bytes();
        let hello = [&[22, 3, 1, high, low][..], &vec![0; length.into()]].concat();
        stream.write_all(&hello).await.unwrap();
        assert_eq!(timeout(SILENCE, stream.read_u8()).await.is_ok(), answered, "{length}");
    }
}

#[tokio::test]
async fn a_bad_certificate_can_be_masked() {
    let lab = lab("inspection_trusted = true\n[proxy]\nquirks = ['masks_certificates']");
    let roots = &lab.network().added_roots;
    for name in [BAD_CERTIFICATE, OWN] {
        let mut session = tls_with(roots, name, tunnel_to(&lab, door(&lab, 443)).await).await.unwrap();
        assert_ne!(told(&mut session).await, own::presented(&session));
    }
}

#[tokio::test]
async fn plain_requests_arrive_as_they_were_sent() {
    let headers = "x-ms-date: today\r\nRange: bytes=5-9\r\nAuthorization: SharedKey a:b\r\nConnection: x-own, keep-alive\r\n\
        X-Own: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n";
    let query = "?sv=2024-08-04&sig=a%2fb%2B%20c";
    let (head, arrived) = echo(&lab(""), "GET", query, headers, b"").await;
    let echo = arrived.unwrap();
    assert_eq!(echo.target, format!("{ECHO_PATH}{query}"));
    let value = |name: &'static str| echo.header(name).collect::<Vec<_>>().join("|");
    assert_eq!(
        (value("x-ms-date"), value("range"), value("authorization")),
        ("today".into(), "bytes=5-9".into(), "SharedKey a:b".into())
    );
    assert_eq!((value("host"), value("via").is_empty()), (OWN.into(), false));
    for own in ["x-own", "keep-alive", "te", "proxy-connection"] {
        assert_eq!(value(own), "", "{own}");
    }
    assert!(head.contains("\r\nVia: ") && head.contains("\r\nx-ms-request-id: "), "{head}");
}

#[tokio::test]
async fn quirks_change_plain_requests() {
    let headers = "x-ms-date: today\r\nRange: bytes=5-9\r\nAuthorization: SharedKey a:b\r\nTE: trailers\r\n";
    let query = "?sv=2&sig=a%2fb%2B%20c";
    for (quirk, name, value) in [
        ("drops_request_headers", "x-ms-date", ""),
        ("drops_ranges", "range", ""),
        ("alters_ranges", "range", "bytes=0-9"),
        ("drops_authorization", "authorization", ""),
        ("keeps_hop_by_hop", "te", "trailers"),
        ("no_via", "via", ""),
    ] {
        let (head, echo) = echo(&self::quirk(&format!("'{quirk}'")), "GET", query, headers, b"").await;
        assert_eq!(echo.unwrap().header(name).collect::<String>(), value, "{quirk}");
        assert_eq!(head.contains("\r\nVia: "), quirk != "no_via", "{quirk}: {head}");
    }
    for (quirk, target) in [("decodes_queries", "?sv=2&sig=a/b+%20c"), ("normalises_queries", "?sig=a%2Fb%2B%20c&sv=2")]
    {
        let (_, echo) = echo(&self::quirk(&format!("'{quirk}'")), "GET", query, headers, b"").await;
        assert_eq!(echo.unwrap().target, format!("{ECHO_PATH}{target}"), "{quirk}");
    }
    let (head, _) = echo(&quirk("'drops_answer_headers'"), "GET", "", "", b"").await;
    assert!(!head.contains("x-ms-"), "{head}");
    // The request id is another one for each answer of the origin.
    for (quirks, same) in [("", false), ("'caches'", true)] {
        let lab = quirk(quirks);
        let (first, _) = echo(&lab, "GET", "", "Authorization: a\r\nCache-Control: no-store\r\n", b"").await;
        let (second, _) = echo(&lab, "GET", "", "Authorization: b\r\nCache-Control: no-store\r\n", b"").await;
        assert_eq!(first == second, same, "{quirks}");
    }
}

#[tokio::test]
async fn bodies_arrive_unless_a_quirk_is_against_it() {
    let body = Pattern::new(3, Direction::Up).bytes(0, 100_000);
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunked = [b"186A0\r\n", &body[..], b"\r\n0\r\n\r\n"].concat();
    let put =
        async |quirks: &str, headers: &str, body: &[u8]| echo(&quirk(quirks), "PUT", "?seed=3", headers, body).await;
    for (headers, body) in [(length.as_str(), &body), ("Transfer-Encoding: chunked\r\n", &chunked)] {
        let (_, echo) = put("", headers, body).await;
        let echo = echo.unwrap();
        assert_eq!((echo.body_bytes, echo.body_intact), (100_000, Some(true)));
    }
    let (_, empty) = put("", "Content-Length: 0\r\n", b"").await;
    assert_eq!(empty.unwrap().header("content-length").collect::<Vec<_>>(), ["0"]);
    assert_eq!(code(&put("'refuses_put'", "Content-Length: 0\r\n", b"").await.0), 405);
    assert_eq!(code(&put("'demands_length'", "Content-Length: 0\r\n", b"").await.0), 411);
    assert_eq!(code(&put("'demands_length'", "Transfer-Encoding: chunked\r\n", b"0\r\n\r\n").await.0), 411);
    assert_eq!(put("'loses_bodies'", &length, &body).await.1.unwrap().body_bytes, 0);
    let both = "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n";
    assert!(put("", both, b"0\r\n\r\n").await.0.starts_with("HTTP/1.1 400 "));
    let (head, _) = put("'passes_ambiguous_bodies'", both, b"0\r\n\r\n").await;
    assert!(head.contains("x-ms-") || !head.contains("squid/5.7\r\nMime"), "the origin answered: {head}");
}

#[tokio::test]
async fn a_client_that_waits_to_continue_is_told_to() {
    let request = asking("PUT", &format!("http://{OWN}{ECHO_PATH}"), "Expect: 100-continue\r\nContent-Length: 3\r\n");
    for (quirks, told) in [("", true), ("'swallows_expect'", false)] {
        let lab = quirk(quirks);
        let mut stream = connect(address(&lab)).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        if told {
            assert_eq!(head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
        } else {
            assert!(timeout(SILENCE, stream.read_u8()).await.is_err());
        }
        stream.write_all(b"abc").await.unwrap();
        assert_eq!(code(&head(&mut stream).await), 200);
    }
}

#[tokio::test]
async fn hostile_clients_get_an_answer_and_harm_nobody_unless_the_proxy_dies_of_it() {
    let huge = connect_to(&format!("{OWN}:443"), &format!("X: {}\r\n", "x".repeat(70_000)));
    for (hostile, request, status) in [
        ("huge_head", huge.as_bytes(), Some(431)),
        ("malformed", b"CONNECT \r\n\r\n", Some(400)),
        ("malformed", b"GET http://a/ HTTP/1.1\r\nX: a\0b\r\n\r\n", Some(400)),
        ("binary", b"\x16\x03\x01\x02\x00\x01\x00", Some(400)),
        ("half_request", b"CONNECT a:4", None),
    ] {
        for dies in [false, true] {
            let lab = if dies { quirk(&format!("{{ dies_of = '{hostile}' }}")) } else { lab("") };
            let mut stream = connect(address(&lab)).await;
            stream.write_all(request).await.unwrap();
            stream.shutdown().await.unwrap();
            let answer = String::from_utf8_lossy(&rest(&mut stream).await.unwrap_or_default()).into_owned();
            assert_eq!(serves(&lab).await, !dies, "{hostile}");
            if let (Some(status), false) = (status, dies) {
                assert_eq!(code(&answer), status, "{hostile}");
            }
        }
    }
}
