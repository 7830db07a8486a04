//! A password and a signature go in; they must come out nowhere, not even when peers echo them.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::JoinHandle,
};

use base64::Engine as _;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::support::{LOOPBACK_ONLY, snapreach};

const PASSWORD: &str = "s3cr&t p\\@ss<w\u{f6}rd>";
const SIGNATURE: &str = "Zm9vYmFy+Jh/1234567890abcdefgh=";

/// Everything that would give a secret away.
fn forms() -> Vec<String> {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let percent =
        |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
    vec![
        PASSWORD.into(),
        percent(PASSWORD),
        "s3cr&amp;t".into(),
        "s3cr&t".into(),
        "w\u{f6}rd".into(),
        "w\\xc3\\xb6rd".into(),
        "w\\\\xc3\\\\xb6rd".into(),
        base64(&format!("svc:{PASSWORD}")),
        SIGNATURE.into(),
        percent(SIGNATURE),
        base64(SIGNATURE),
        "Jh/1234567890".into(),
        "Jh%2F1234567890".into(),
    ]
}

fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Accepts `count` connections and plays the script on each.
fn serve(count: usize, script: impl Fn(TcpStream) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..count {
            let (stream, _) = listener.accept().unwrap();
            script(stream);
        }
    });
    (addr, thread)
}

/// Every output of a command: all formats in files, standard output and error, the record.
fn all_outputs(folder: &std::path::Path, arguments: &[String]) -> String {
    let mut command = snapreach();
    command.args(["check", "-vvv", "--attempts", "1", "--timeout", "5s"]).args(LOOPBACK_ONLY).args(arguments);
    for extension in ["txt", "json", "jsonl", "md", "xml", "prom", "html"] {
        command.arg("-o").arg(folder.join(format!("report.{extension}")));
    }
    command.arg("--record").arg(folder.join("record.jsonl"));
    let output = command.output().unwrap();
    let mut all = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension != "pem") {
            all.push_str(&fs::read_to_string(path).unwrap());
            files += 1;
        }
    }
    assert_eq!(files, 8, "not every output was written: {all}");
    all
}

fn search(all: &str) {
    assert!(all.contains("[redacted]"), "the echo did not reach the outputs, so nothing was tested: {all}");
    for form in forms() {
        assert!(!all.contains(&form), "`{form}` is in an output: {}", around(all, &form));
    }
}

fn around<'a>(all: &'a str, form: &str) -> &'a str {
    let at = all.find(form).unwrap_or(0);
    let from = (0..=at.saturating_sub(80)).rev().find(|&n| all.is_char_boundary(n)).unwrap_or(0);
    let to = (at + form.len() + 40..all.len()).find(|&n| all.is_char_boundary(n)).unwrap_or(all.len());
    &all[from..to]
}

#[test]
fn a_password_that_a_proxy_echoes_is_nowhere() {
    let (addr, thread) = serve(1, |mut stream| {
        let head = read_head(&mut stream);
        assert!(head.contains("Proxy-Authorization: Basic "), "{head}");
        let token = head.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: Basic ")).unwrap();
        let decoded = base64::engine::general_purpose::STANDARD.decode(token).unwrap();
        let decoded = String::from_utf8(decoded).unwrap();
        let body = format!(
            "<pre>{head}</pre> you are {decoded}, or {}",
            decoded.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
        );
        let answer = format!(
            "HTTP/1.1 407 Not {decoded}\r\nX-Echo: {token}\r\nProxy-Authenticate: Basic realm=\"{decoded}\"\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let _ = stream.write_all(answer.as_bytes());
    });
    let folder = tempfile::tempdir().unwrap();
    let user_info = percent_encoding::utf8_percent_encode(PASSWORD, percent_encoding::NON_ALPHANUMERIC);
    let all = all_outputs(
        folder.path(),
        &[
            "https://acct.blob.core.windows.net".into(),
            "--route=proxy".into(),
            format!("--proxy=http://svc:{user_info}@{addr}"),
        ],
    );
    thread.join().unwrap();
    search(&all);
}

#[test]
fn a_signature_that_the_endpoint_echoes_is_nowhere() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate =
        rcgen::CertificateParams::new(["md-1.blob.core.windows.net".to_owned()]).unwrap().self_signed(&key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    let config = Arc::new(config);
    let (addr, thread) = serve(1, move |stream| {
        let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        let head = read_head(&mut stream);
        assert!(head.starts_with("HEAD /c/disk.vhd?sv=2020&"), "the signature did not arrive: {head}");
        let line = head.lines().next().unwrap();
        let answer = format!(
            "HTTP/1.1 403 {line}\r\nX-Echo: {line}\r\nx-ms-request-id: 1\r\nx-ms-error-code: AuthenticationFailed\r\n\r\n"
        );
        let _ = stream.write_all(answer.as_bytes());
    });
    let folder = tempfile::tempdir().unwrap();
    let pem = folder.path().join("ca.pem");
    fs::write(&pem, certificate.pem()).unwrap();
    let signature = percent_encoding::utf8_percent_encode(SIGNATURE, percent_encoding::NON_ALPHANUMERIC);
    let all = all_outputs(
        folder.path(),
        &[
            format!("--disk=https://md-1.blob.core.windows.net/c/disk.vhd?sv=2020&se=2020-01-01&sig={signature}"),
            "--no-proxy".into(),
            format!("--ca-file={}", pem.display()),
            format!("--connect-to=md-1.blob.core.windows.net:443:{addr}"),
        ],
    );
    thread.join().unwrap();
    search(&all);
}
