//! Answers of real proxies, and of listeners that are none, to one CONNECT each: recorded, and made from descriptions.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use crate::{
    classify::{
        assess,
        testing::{Walk, chain, record, reply},
    },
    http::{ParseError, Parsed, parse_head},
    model::{Excerpt, FailureKind, Finding, Hop, Severity, TunnelEvidence, Verification},
};

#[derive(Deserialize)]
struct Case {
    id: String,
    connect: String,
    credentials: bool,
    /// Base64.
    #[serde(default)]
    answer: String,
    /// The same in the cases made from descriptions, a character per byte.
    #[serde(default)]
    text: String,
    after: After,
    codes: Vec<String>,
    hop: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum After {
    Closed,
    Reset,
    Open,
}

/// The failed tunnel step that the bytes give, as the tunnel layer records it.
fn tunnel(case: &Case, bytes: &[u8]) -> (FailureKind, TunnelEvidence) {
    let mut evidence = TunnelEvidence {
        credentials_sent: case.credentials,
        bytes_read: bytes.len() as u64,
        first_bytes: (!bytes.is_empty()).then(|| Excerpt::new(bytes, 256, bytes.len() as u64)),
        ..TunnelEvidence::default()
    };
    let ended = match case.after {
        After::Closed if bytes.is_empty() => FailureKind::Closed,
        After::Closed => FailureKind::Truncated,
        After::Reset => FailureKind::Reset,
        After::Open => FailureKind::TimedOut,
    };
    if bytes.is_empty() {
        return (ended, evidence);
    }
    let kind = match parse_head(bytes, 0) {
        Ok(Parsed::Complete(mut reply, length)) => {
            let body = &bytes[length..];
            reply.body = Excerpt::new(body, 4096, body.len() as u64);
            evidence.reply = Some(*reply);
            evidence.first_bytes = None;
            FailureKind::Status
        }
        Ok(Parsed::Partial) => ended,
        Err(ParseError::NotHttp) => FailureKind::NotHttp,
        Err(ParseError::Malformed(_)) => FailureKind::BadHead,
        Err(ParseError::TooLarge) => FailureKind::HeadTooLarge,
    };
    (kind, evidence)
}

fn primary(case: &Case) -> Finding {
    let bytes = if case.text.is_empty() {
        STANDARD.decode(&case.answer).unwrap()
    } else {
        case.text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
    };
    let (kind, evidence) = tunnel(case, &bytes);
    let walk = Walk::proxied(&case.connect).connected().tunnel_fails(kind, evidence);
    let assessment = assess(&record(&[&case.connect], [walk]));
    let errors: Vec<_> = assessment.findings.into_iter().filter(|f| f.severity == Severity::Error).collect();
    assert_eq!(errors.len(), 1, "{}: {errors:?}", case.id);
    errors.into_iter().next().unwrap()
}

#[test]
fn every_recorded_answer_is_judged_right() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/data/proxy-replies.json")).unwrap();
    assert_eq!(cases.len(), 147);
    judge(&cases);
}

/// Answers as documents and other products' texts describe them. What happens behind a 200 takes a socket: the
/// integration tests play those, and all others again.
#[test]
fn every_described_answer_is_judged_right() {
    let mut cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/data/more-replies.json")).unwrap();
    cases.retain(|case| !case.text.contains(" 200") && !case.text.contains(" 100 Continue"));
    assert!(cases.len() > 200);
    judge(&cases);
}

fn judge(cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let finding = primary(case);
        let hop = serde_json::to_value(finding.hop).unwrap();
        let right = case.codes.iter().any(|code| code == finding.code.0)
            && case.hop.as_ref().is_none_or(|expected| hop == expected.as_str());
        if !right {
            wrong.push(format!("{}: {} at {hop}, not {:?} at {:?}", case.id, finding.code, case.codes, case.hop));
        }
        assert!(finding.evidence.iter().all(|line| line.chars().count() <= 200), "{:?}", finding.evidence);
    }
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// An inspecting proxy answers 200 to everything and puts its error pages inside TLS, under its own certificate.
#[test]
fn a_page_inside_intercepted_tls_tells_the_cause_as_well() {
    const TARGET: &str = "acct.blob.core.windows.net:443";
    for (status, error, code) in [
        (503, "ERR_CONNECT_FAIL 111", "tcp.refused"),
        (502, "ERR_READ_ERROR 0", "proxy.gateway_error"),
        (503, "ERR_SECURE_CONNECT_FAIL 104", "tcp.reset"),
        (503, "ERR_SECURE_CONNECT_FAIL 0", "tls.handshake_failure"),
    ] {
        for verification in [Verification::UnknownIssuer, Verification::Trusted] {
            let page = reply(&format!("HTTP/1.1 {status} x\r\nServer: squid/5.7\r\nX-Squid-Error: {error}\r\n\r\n"));
            let tls = chain(&["Example Corp"], verification);
            let walk = Walk::proxied(TARGET).connected().tunnelled().tls(tls).answered(page);
            let findings = assess(&record(&[TARGET], [walk])).findings;
            let errors: Vec<_> = findings.iter().filter(|f| f.severity == Severity::Error).collect();
            // Both stand in the way: the cause beyond the proxy, and a certificate that nobody trusts.
            let intercepted = errors.iter().any(|f| f.code.0 == "tls.intercepted");
            assert_eq!(intercepted, verification != Verification::Trusted, "{error}: {findings:?}");
            assert_eq!(errors.len(), 1 + usize::from(intercepted), "{error}: {findings:?}");
            let told = errors.iter().find(|f| f.code.0 == code).unwrap();
            assert_eq!(told.hop, Hop::ProxyToOrigin);
        }
    }
}
